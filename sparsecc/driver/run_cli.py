"""The commands `run` and `compile`, of a matrix or a whole network."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsecc.driver import any_batch_cli, any_n_cli, native_cli, network_cli, noise_cli, pictures_cli
from sparsecc.driver.options import add_operator
from sparsecc.driver.output import check_writable, console, progress_of, read_input, show
from sparsecc.errors import UserError

if TYPE_CHECKING:
    from sparsecc.artifact import Artifact


def add_run(commands: Any) -> None:
    """The command `run`."""
    command: argparse.ArgumentParser = commands.add_parser(
        "run", help="compile, run on the simulator, check every value, compare with dense"
    )
    add_operator(command)
    command.add_argument(
        "--input", metavar="X.npy", action="append",
        help="X [K, N], or for sddmm A [M, K], then B [K, N] with --input again; random without it",
    )  # fmt: skip
    command.add_argument("--output", metavar="Y.npy", help="write C [M, N]")
    command.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    command.add_argument(
        "--fail-if-slower-than-dense", action="store_true", help="exit status 3 when the dense plan is faster"
    )
    native_cli.add_threads(command)
    command.add_argument("--trace", metavar="FILE.json", help="write a Chrome trace of all instructions")
    noise_cli.add_noise(command)
    pictures_cli.add_plot(command)
    pictures_cli.add_html(command)


def add_compile(commands: Any) -> None:
    """The command `compile`."""
    command: argparse.ArgumentParser = commands.add_parser(
        "compile", help="write a C folder that stands alone and checks itself"
    )
    add_operator(command)
    command.add_argument("-o", "--output", metavar="DIR", required=True, help="folder to write")
    pictures_cli.add_plot(command)
    command.add_argument(
        "--emit",
        default="c",
        metavar="c,mlir",
        help="what to write: c, and mlir for the IR of every stage (default: c)",
    )


def _compiled(arguments: argparse.Namespace, progress: Callable[[str], None], x: Any = None) -> Artifact:
    import sparsecc
    from sparsecc.scales import Scales
    from sparsecc.stages import save_stages

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


def run(arguments: argparse.Namespace) -> int:
    """`sparsecc run`."""
    import json

    for path in filter(None, (arguments.output, arguments.trace, arguments.plot, arguments.html)):
        check_writable(Path(path))
    if arguments.max_batch is not None:
        with progress_of(arguments) as progress:
            batches = any_batch_cli.run(arguments, progress)
        show(batches.report, arguments)
        return 0
    if network_cli.is_network(arguments.file):
        with progress_of(arguments) as progress:
            network = network_cli.run(arguments, progress)
        show(network, arguments)
        return 0
    x = tuple(map(read_input, arguments.input)) if arguments.input else None
    if arguments.max_n is not None:
        with progress_of(arguments) as progress:
            product = any_n_cli.run(arguments, progress, x)
        show(product.report, arguments)
        return 0
    noise = noise_cli.check(arguments)
    with progress_of(arguments) as progress:
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
        console().print(report.table())
        if noisy:
            console().print(noise_cli.table(noisy))
        if "faults" in told:
            console().print("  cells named: {cells}, weights changed: {weights}".format(**told["faults"]))
    if arguments.fail_if_slower_than_dense and (report.speedup or 1.0) < 1.0:
        raise UserError(
            f"{report.name}: the {report.plan} plan takes {native_cli.slower(report)}; take --plan auto, "
            "which never does",
            exit_code=3,
        )
    return 0


def _add_control(artifact: Any, seed: int, effort: int, progress: Callable[[str], None]) -> None:
    """Put what random zeros would gain beside the gain of a sparse plan on a tensor unit."""
    from sparsecc.artifact import Artifact
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


def compile_(arguments: argparse.Namespace) -> int:
    """`sparsecc compile`."""
    emit = set(arguments.emit.split(","))
    if unknown := emit - {"c", "mlir"}:
        raise UserError(f"--emit: {', '.join(sorted(unknown))} is neither c nor mlir", exit_code=2)
    if arguments.plot:
        check_writable(Path(arguments.plot))
    with progress_of(arguments) as progress:
        if arguments.max_batch is not None:
            batches = any_batch_cli.compiled(arguments, progress)
            batches.save(arguments.output)
            report = batches.report
        elif network_cli.is_network(arguments.file):
            network = network_cli.compiled(arguments, progress, arguments.file)
            network.save(arguments.output, ir="mlir" in emit)
            report = network.predicted()
        elif arguments.max_n is not None:
            columns = any_n_cli.compiled(arguments, progress)
            columns.save(arguments.output)
            report = columns.report
        else:
            artifact = _compiled(arguments, progress)
            artifact.save(arguments.output, ir="mlir" in emit)
            report = artifact.predicted()
    show(report, arguments)
    if not arguments.quiet:
        print(f"written to {arguments.output}; build and check it with: make -C {arguments.output} check")
    return 0
