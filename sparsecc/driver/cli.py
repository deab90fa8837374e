"""The command `sparsecc`: run, compile, analyze, explain, diff, convert, targets, passes, doctor."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sparsecc.driver import (
    any_batch_cli,
    any_n_cli,
    convert,
    explain_cli,
    native_cli,
    network_cli,
    noise_cli,
    pictures_cli,
)
from sparsecc.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Generator

    from sparsecc.compiler import Artifact

EPILOG = """\
FILE is a .smtx, .mtx, .npz (scipy), .npy, .safetensors or .onnx matrix; .gz is understood where usual, one
tensor of several is named FILE:TENSOR, one matrix of a pack PACK.tar.xz::NAME. Files without values get
random ones. MODEL.onnx without a tensor is a whole network, and so are
.pt2 files of torch.export and .mlir files of linalg on tensors.
Exit status: 0 done, 1 the input cannot be compiled, 2 the command is wrong, 3 a check failed.
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the command in one sentence, as every other error."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help", exit_code=2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="sparsecc",
        description="Compiles pruned matrices for chips with dense units, and runs them on a simulator.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    run = commands.add_parser(
        "run", help="compile, run on the simulator, check every value, compare with dense"
    )
    _add_operator(run)
    run.add_argument(
        "--input", metavar="X.npy", action="append",
        help="X [K, N], or for sddmm A [M, K], then B [K, N] with --input again; random without it",
    )  # fmt: skip
    run.add_argument("--output", metavar="Y.npy", help="write C [M, N]")
    run.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    run.add_argument(
        "--fail-if-slower-than-dense", action="store_true", help="exit status 3 when the dense plan is faster"
    )
    native_cli.add_threads(run)
    run.add_argument("--trace", metavar="FILE.json", help="write a Chrome trace of all instructions")
    noise_cli.add_noise(run)
    pictures_cli.add_plot(run)
    pictures_cli.add_html(run)

    compile_ = commands.add_parser("compile", help="write a C folder that stands alone and checks itself")
    _add_operator(compile_)
    compile_.add_argument("-o", "--output", metavar="DIR", required=True, help="folder to write")
    pictures_cli.add_plot(compile_)
    compile_.add_argument(
        "--emit",
        default="c",
        metavar="c,mlir",
        help="what to write: c, and mlir for the IR of every stage (default: c)",
    )

    pictures_cli.add_diff(commands)
    analyze = commands.add_parser("analyze", help="say of each operator what its zeros are worth, and why")
    _add_analyze(analyze)
    explain_cli.add_explain(commands)

    targets = commands.add_parser("targets", help="list the targets, or describe one with its sources")
    targets.add_argument(
        "name", nargs="?", metavar="NAME", help="a preset, a .toml file, or a config.json of PIMCOMP"
    )
    targets.add_argument("--toml", action="store_true", help="print the description as a .toml file")
    passes = commands.add_parser("passes", help="list the passes, or describe one with its options")
    passes.add_argument("name", nargs="?", metavar="NAME")
    convert.add_convert(commands)
    commands.add_parser("doctor", help="say which compilers and optional tools are found")
    for command in commands.choices.values():
        command.formatter_class = argparse.RawDescriptionHelpFormatter
    return parser


def _add_operator(command: argparse.ArgumentParser) -> None:
    command.epilog = EPILOG
    command.add_argument("file", metavar="FILE", help="the matrix W, or the mask")
    command.add_argument(
        "--target", default="gemmini16", metavar="T", help="preset or .toml file (default: gemmini16)"
    )
    command.add_argument(
        "--op", default="spmm", choices=("spmm", "sddmm"),
        help="spmm: C = W X (default); sddmm: C = mask * (A B), FILE giving the pattern of the mask",
    )  # fmt: skip
    command.add_argument("--n", type=int, default=64, metavar="N", help="columns of X (default: 64)")
    any_n_cli.add_option(command)
    any_batch_cli.add_option(command)
    command.add_argument(
        "--k", type=int, default=64, metavar="K", help="columns of A and rows of B, for sddmm (default: 64)"
    )
    command.add_argument(
        "--dtype", metavar="TYPE", help="input type, of those the target has (default: its first)"
    )
    command.add_argument(
        "--seed", type=int, default=0, metavar="S", help="for random values and inputs (default: 0)"
    )
    command.add_argument(
        "--plan", default="auto", metavar="PLAN",
        help="auto weighs all covers and the dense plan (default); dense, none, global, window, or the "
        "name of a strategy fix the mode of sparse-compact (see sparsecc passes sparse-compact)",
    )  # fmt: skip
    command.add_argument(
        "--effort", type=int, default=1, choices=range(4), metavar="0..3",
        help="how hard to search for covers (default: 1)",
    )  # fmt: skip
    command.add_argument(
        "--pattern", metavar="N:M|V:N:M", help="refuse a matrix that does not have this pattern, such as 2:4"
    )
    command.add_argument(
        "--like",
        metavar="FILE",
        help="a matrix that FILE was pruned from: never slower than that",
    )
    command.add_argument(
        "--steps", metavar="w=S,x=S,y=S",
        help="crossbars: what a step of int8 is worth, of W (default: per row), of X, and of the result, "
        "which is then int8",
    )  # fmt: skip
    command.add_argument("--dump-ir", metavar="DIR", help="write the IR of every stage, numbered")
    command.add_argument(
        "--places", metavar="FILE",
        help="crossbars: write the array, word line and bit line of each weight as .npy or .csv",
    )  # fmt: skip
    command.add_argument(
        "--check-stages", action="store_true", help="interpret every stage and compare the values"
    )
    command.add_argument("-v", "--verbose", action="store_true", help="say what is being done")
    command.add_argument("-q", "--quiet", action="store_true", help="print errors only")
    network_cli.add_options(command)


def _add_analyze(command: argparse.ArgumentParser) -> None:
    command.add_argument("path", metavar="FILE|DIR|PACK.tar.xz", help="a matrix, a folder of them, or a pack")
    command.add_argument(
        "--target", default="gemmini16", metavar="T", help="preset or .toml file (default: gemmini16)"
    )
    command.add_argument("--n", type=int, default=64, metavar="N", help="columns of X (default: 64)")
    command.add_argument("--dtype", metavar="TYPE", help="input type, of those the target has")
    command.add_argument(
        "--effort", type=int, default=1, choices=range(4), metavar="0..3",
        help="how hard to search for covers (default: 1)",
    )  # fmt: skip
    command.add_argument(
        "--pattern", metavar="N:M|V:N:M", help="refuse a matrix that does not have this pattern, such as 2:4"
    )
    command.add_argument("--seed", type=int, default=0, metavar="S", help="of random values and the control")
    command.add_argument("--jobs", type=int, default=1, metavar="J", help="processes (default: 1)")
    command.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    command.add_argument("-v", "--verbose", action="store_true", help="MODEL.onnx: say what is being done")
    command.add_argument("-q", "--quiet", action="store_true", help="no progress")
    network_cli.add_options(command)


@contextmanager
def _progress(arguments: argparse.Namespace) -> Generator[Callable[[str], None]]:
    """What is being done: lines with -v, a spinner on a terminal, else nothing."""
    if arguments.verbose:
        yield lambda text: print(text, file=sys.stderr, flush=True)
        return
    if arguments.quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield status.update


def _compiled(arguments: argparse.Namespace, progress: Callable[[str], None], x: Any = None) -> Artifact:
    import sparsecc
    from sparsecc.compiler import save_stages
    from sparsecc.scales import Scales

    pictures_cli.check(arguments)
    artifact = sparsecc.compile(
        arguments.file,
        target=arguments.target,
        op=arguments.op,
        n=arguments.n,
        k=arguments.k,
        dtype=arguments.dtype,
        seed=arguments.seed,
        x=x,
        plan=arguments.plan,
        pattern=arguments.pattern,
        effort=arguments.effort,
        like=arguments.like,
        check_stages=arguments.check_stages,
        scales=Scales.parse(arguments.steps) if arguments.steps else None,
        progress=progress,
    )
    if arguments.dump_ir:
        save_stages(artifact.stages, Path(arguments.dump_ir))
    if arguments.places:
        from sparsecc.crossbar_compiler import CrossbarArtifact

        if not isinstance(artifact, CrossbarArtifact):
            raise UserError(f"--places: target {arguments.target} has no crossbars", exit_code=2)
        artifact.save_places(arguments.places)
    if arguments.command == "run":
        _add_control(artifact, arguments.seed, arguments.effort, progress)
    pictures_cli.write(arguments, artifact)
    return artifact


def _run(arguments: argparse.Namespace) -> int:
    import json

    for path in filter(None, (arguments.output, arguments.trace, arguments.plot, arguments.html)):
        _check_writable(Path(path))
    if arguments.max_batch is not None:
        with _progress(arguments) as progress:
            batches = any_batch_cli.run(arguments, progress)
        any_batch_cli.show(batches, arguments, _console())
        return 0
    if network_cli.is_network(arguments.file):
        with _progress(arguments) as progress:
            network = network_cli.run(arguments, progress)
        network_cli.show(network, arguments, _console())
        return 0
    x = tuple(map(read_input, arguments.input)) if arguments.input else None
    if arguments.max_n is not None:
        with _progress(arguments) as progress:
            product = any_n_cli.run(arguments, progress, x)
        any_n_cli.show(product, arguments, _console())
        return 0
    noise = noise_cli.check(arguments)
    with _progress(arguments) as progress:
        artifact = _compiled(arguments, progress, x)
        told = {"faults": noise_cli.faults_told(artifact, noise)} if noise and noise.faults else {}
        report = native_cli.report_of(artifact, arguments)
        noisy = noise_cli.runs(artifact, noise) if noise else None
        told |= noise_cli.told(noisy) if noisy else {}
        if arguments.output or arguments.trace:
            artifact.rerun(arguments.output, arguments.trace)
    if arguments.json:
        print(json.dumps(report.to_json() | ({"noisy": told} if told else {}), indent=2))
    elif not arguments.quiet:
        _console().print(report.table())
        if noisy:
            _console().print(noise_cli.table(noisy))
        if "faults" in told:
            _console().print("  cells named: {cells}, weights changed: {weights}".format(**told["faults"]))
    if arguments.fail_if_slower_than_dense and (report.speedup or 1.0) < 1.0:
        raise UserError(
            f"{report.name}: the {report.plan} plan takes {native_cli.slower(report)}; take --plan auto, "
            "which never does",
            exit_code=3,
        )
    return 0


def _add_control(artifact: Any, seed: int, effort: int, progress: Callable[[str], None]) -> None:
    """Put what random zeros would gain beside the gain of a sparse plan on a tensor unit."""
    from sparsecc.compiler import Artifact
    from sparsecc.operator import Spmm

    product = artifact.operator
    # Artifacts of other targets are subclasses.
    if type(artifact) is not Artifact or artifact.is_dense or not isinstance(product, Spmm):
        return
    from sparsecc.analysis import Search, control

    report = artifact.report
    progress("the same with random zeros")
    m, n, k = product.shape
    found = control(m, k, product.weight.nnz, n, artifact.target, Search(effort, seed))
    artifact.report = report.with_control(found)


def read_input(path: str) -> Any:
    """The array of a .npy file. Raises UserError."""
    from sparsecc.importers.files import check_file
    from sparsecc.importers.npy import parse_npy

    check_file(Path(path))
    try:
        data = Path(path).read_bytes()
    except OSError as e:
        raise UserError(f"{path}: cannot be read: {e.strerror}") from e
    return parse_npy(data, path)


def _check_writable(path: Path) -> None:
    """Find out before the work, not after it."""
    folder = path.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"{path}: its folder does not exist or may not be written; name another file")


def _compile(arguments: argparse.Namespace) -> int:
    emit = set(arguments.emit.split(","))
    if unknown := emit - {"c", "mlir"}:
        raise UserError(f"--emit: {', '.join(sorted(unknown))} is neither c nor mlir", exit_code=2)
    if arguments.plot:
        _check_writable(Path(arguments.plot))
    if arguments.max_batch is not None:
        with _progress(arguments) as progress:
            batches = any_batch_cli.compiled(arguments, progress)
            batches.save(arguments.output)
        any_batch_cli.show(batches, arguments, _console())
        if not arguments.quiet:
            print(f"written to {arguments.output}; build and check it with: make -C {arguments.output} check")
        return 0
    if network_cli.is_network(arguments.file):
        with _progress(arguments) as progress:
            network = network_cli.compiled(arguments, progress, arguments.file)
            network.save(arguments.output, ir="mlir" in emit)
            predicted = network.predicted()
        network_cli.show(predicted, arguments, _console())
        if not arguments.quiet:
            print(f"written to {arguments.output}; build and check it with: make -C {arguments.output} check")
        return 0
    if arguments.max_n is not None:
        with _progress(arguments) as progress:
            product = any_n_cli.compiled(arguments, progress)
            product.save(arguments.output)
        any_n_cli.show(product, arguments, _console())
        if not arguments.quiet:
            print(f"written to {arguments.output}; build and check it with: make -C {arguments.output} check")
        return 0
    with _progress(arguments) as progress:
        artifact = _compiled(arguments, progress)
        artifact.save(arguments.output, ir="mlir" in emit)
    if not arguments.quiet:
        _console().print(artifact.predicted().table())
        print(f"written to {arguments.output}; build and check it with: make -C {arguments.output} check")
    return 0


def _analyze(arguments: argparse.Namespace) -> int:
    from sparsecc.driver.analyze import run

    if network_cli.is_network(arguments.path):
        with _progress(arguments) as progress:
            predicted = network_cli.compiled(arguments, progress, arguments.path).predicted()
        network_cli.show(predicted, arguments, _console())
        return 0
    return run(arguments)


def _explain(arguments: argparse.Namespace) -> int:
    with _progress(arguments) as progress:
        return explain_cli.explain(arguments, progress)


def _targets(arguments: argparse.Namespace) -> int:
    from sparsecc.target import load_target, target_names

    if arguments.name:
        target = load_target(arguments.name)
        if arguments.toml:
            print(target.to_toml(), end="")
            return 0
        print(target)
        print("  sources")
        for pattern, source in target.sources:
            print(f"    {pattern}: {source}")
        return 0
    for name in target_names():
        print(str(load_target(name)).splitlines()[0])
    return 0


def _passes(arguments: argparse.Namespace) -> int:
    import inspect
    from dataclasses import MISSING, fields

    from sparsecc.passes.base import SparsePass
    from sparsecc.universe import SPARSECC_UNIVERSE

    known = SPARSECC_UNIVERSE.all_passes
    if arguments.name is None:
        width = max(map(len, known))
        for name, factory in known.items():
            found: type[SparsePass] = factory()  # pyright: ignore[reportAssignmentType]
            print(f"{name:{width}}  {found.summary}")
        return 0
    if arguments.name not in known:
        raise UserError(f"unknown pass {arguments.name!r}; the passes are {', '.join(known)}", exit_code=2)
    found = known[arguments.name]()  # pyright: ignore[reportAssignmentType]
    print(f"{found.name}: {found.summary}\n")
    print(inspect.getdoc(sys.modules[found.__module__]))
    print(f"\nrefuses: {found.refuses}")
    options = [f for f in fields(found) if f.name in found.option_help]
    if options:
        print("options:")
    for field in options:
        default = "required" if field.default is MISSING else f"default {field.default}"
        print(f"  {field.name.replace('_', '-')} ({default}): {found.option_help[field.name]}")
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from sparsecc.driver.doctor import findings

    lines, healthy = findings()
    for line in lines:
        print(line)
    return 0 if healthy else 1


def _console() -> Any:
    """Output for people; NO_COLOR is honoured, and a pipe gets plain text wide enough not to be folded."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 120, highlight=False)


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "compile": _compile,
    "diff": pictures_cli.diff,
    "analyze": _analyze,
    "explain": _explain,
    "targets": _targets,
    "passes": _passes,
    "convert": convert.convert,
    "doctor": _doctor,
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit status; prints one sentence for every error a user can cause."""
    # Compiling makes many objects that live to the end: collecting them again and again is time lost.
    gc.disable()
    parser = _parser()
    try:
        arguments = parser.parse_args(argv)
        if arguments.version:
            import sparsecc

            print(f"sparsecc {sparsecc.__version__}")
            return 0
        if arguments.command is None:
            parser.print_help()
            return 2
        return _COMMANDS[arguments.command](arguments)
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return e.exit_code
    except MemoryError:
        print("error: out of memory; take a smaller matrix or a larger machine", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
