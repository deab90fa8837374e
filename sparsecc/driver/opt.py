"""sparsecc-opt: reads IR, runs passes, prints IR or another form.

xDSL's driver with sparsecc's dialects, passes and targets, and what MLIR users expect besides: the IR after
chosen passes, statistics, a reproducer when a pass crashes, and errors without tracebacks.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shlex
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import IO, NoReturn

from xdsl.dialects.builtin import ModuleOp, UnregisteredOp
from xdsl.passes import ModulePass, PassPipeline
from xdsl.printer import Printer
from xdsl.utils.arg_spec import parse_pipeline, parse_spec
from xdsl.utils.exceptions import (
    ArgSpecParseError,
    DiagnosticException,
    ParseError,
    ShrinkException,
    VerifyException,
)
from xdsl.xdsl_opt_main import xDSLOptMain

from sparsecc.errors import UserError
from sparsecc.universe import SPARSECC_UNIVERSE

USAGE = 2  # exit code when the command itself is wrong
CONTEXT_LINES = 6  # of the IR around an operation that does not verify


@dataclass(frozen=True)
class PassRecord:
    """What one pass did: its time, and the operations of each dialect before and after it."""

    name: str
    seconds: float
    before: Counter[str]
    after: Counter[str]


class SparseccOptMain(xDSLOptMain):
    """The driver. `main` turns what it raises into messages and exit codes."""

    version_format = "sparsecc-opt, built on xdsl {xdsl_version}"

    # What is known between two passes; set by _between.
    _current: ModulePass | None = None
    """The pass that runs, or has run and is being verified."""
    _before: ModuleOp | None = None
    """The module before that pass."""
    _applied = True
    """That pass has returned, or there is none: what fails now is the verifier."""
    _started = 0.0

    def register_all_dialects(self):
        super().register_all_dialects()
        # Where sparsecc is installed, xDSL has found its universe already.
        for name, factory in SPARSECC_UNIVERSE.all_dialects.items():
            if name not in self.ctx.registered_dialect_names:
                self.ctx.register_dialect(name, factory)

    def register_all_passes(self):
        super().register_all_passes()
        for name, factory in SPARSECC_UNIVERSE.all_passes.items():
            self.register_pass(name, factory)

    def register_all_targets(self):
        super().register_all_targets()
        self.available_targets |= SPARSECC_UNIVERSE.all_targets

    def register_all_arguments(self, arg_parser: argparse.ArgumentParser):
        super().register_all_arguments(arg_parser)
        group = arg_parser.add_argument_group("sparsecc")
        group.add_argument(
            "--print-ir-after-all", action="store_true", help="print the IR after every pass, to stderr"
        )
        group.add_argument(
            "--print-ir-after",
            action="append",
            default=[],
            metavar="PASS",
            help="print the IR after this pass, to stderr; may be repeated",
        )
        group.add_argument(
            "--pass-statistics",
            action="store_true",
            help="print seconds and operations by dialect of every pass, to stderr",
        )
        group.add_argument(
            "--crash-reproducer",
            type=Path,
            default=Path("sparsecc-reproducer.mlir"),
            metavar="FILE",
            help="where to write the IR before a pass that crashed (default: %(default)s)",
        )
        group.add_argument(
            "--blobs",
            type=Path,
            action="append",
            default=[],
            metavar="DIR",
            help="look for the module's weights in this folder, too; may be repeated",
        )
        group.add_argument(
            "--save-blobs",
            type=Path,
            metavar="DIR",
            help="write the weights the output refers to into this folder, for --blobs of the next command",
        )

    def setup_pipeline(self):
        """Builds the pipeline. Raises UserError for unknown passes, wrong options and missing folders."""
        # As in MLIR's tools, "-" is stdin or stdout.
        for file in ("input_file", "output_file"):
            if getattr(self.args, file) == "-":
                setattr(self.args, file, None)
        try:
            names = [spec.name for spec in parse_pipeline(self.args.passes)]
            self._known("pass", names, self.available_passes)
            self._known("pass to print the IR after", self.args.print_ir_after, names)
            super().setup_pipeline()
        except ValueError as error:
            raise UserError(f"-p '{self.args.passes}': {error}", USAGE) from error
        self._check_target_options()
        output = self.args.output_file
        if output is not None and not Path(output).parent.is_dir():
            raise UserError(f"-o {output}: no such folder; make it first", USAGE)
        self._verify_and_print = self.pipeline.callback
        self.pipeline = PassPipeline(self.pipeline.passes, self._between)
        self._records: list[PassRecord] = []
        for folder in self.args.blobs:
            if not folder.is_dir():
                raise UserError(
                    f"--blobs {folder}: no such folder; give the one that holds the weights", USAGE
                )
            from sparsecc.blobs import add_search_folder

            add_search_folder(folder)

    def _known(self, what: str, names: Iterable[str], known: Iterable[str]):
        """Refuses a name that is not known, and offers the nearest."""
        for name in names:
            if name not in known:
                near = difflib.get_close_matches(name, list(known), n=1)
                advice = f"did you mean '{near[0]}'?" if near else "sparsecc-opt --help lists all passes"
                if what != "pass":
                    advice = f"the pipeline has {', '.join(known) or 'no pass'}"
                raise UserError(f"unknown {what}: '{name}'; {advice}", USAGE)

    def _check_target_options(self):
        """Refuses options the target does not take now, rather than after all the work."""
        spec = parse_spec(self.args.target)
        factory = SPARSECC_UNIVERSE.all_targets.get(spec.name)
        if factory is not None:
            try:
                factory().from_spec(spec)
            except ValueError as error:
                raise UserError(f"-t '{self.args.target}': {error}", USAGE) from error

    def prepare_input(self) -> tuple[list[tuple[IO[bytes], int]], str]:
        try:
            return super().prepare_input()
        except ValueError as error:  # an unknown file extension
            known = ", ".join(f".{name}" for name in self.available_frontends)
            raise UserError(
                f"{self.get_input_name()}: {error}; known are {known}, or use -f", USAGE
            ) from error

    def output_resulting_program(self, prog: ModuleOp) -> str:
        text = super().output_resulting_program(prog)
        if self.args.save_blobs is not None:
            save_blobs(text, self.args.save_blobs)
        return text

    def apply_passes(self, prog: ModuleOp):
        """Runs the passes. Raises UserError, with a reproducer written, when one crashes or breaks the IR."""
        self._current, self._before, self._applied = None, None, True
        self._records.clear()
        try:
            super().apply_passes(prog)
        except (UserError, ShrinkException):
            raise
        except DiagnosticException as error:
            # A pass may refuse its input; a module it leaves behind that does not verify is its fault.
            refused = self._current is None or not self._applied
            if refused or self.args.verify_diagnostics:
                raise
            self._crashed(error)
        except Exception as error:
            if self._current is None:
                raise
            self._crashed(error)
        finally:
            if self.args.pass_statistics:
                print(statistics(self._records), file=sys.stderr)

    def _between(self, previous: ModulePass | None, module: ModuleOp, following: ModulePass | None):
        """Before the first pass, between passes and after the last: statistics, checks, printing."""
        self._applied = True
        if previous is not None:
            seconds = time.perf_counter() - self._started
            if self.args.pass_statistics and self._before is not None:
                record = PassRecord(previous.name, seconds, count(self._before), count(module))
                self._records.append(record)
        try:
            if self._verify_and_print is not None:
                self._verify_and_print(previous, module, following)
        except DiagnosticException:
            self._print_after(previous, module, valid=False)
            raise
        self._print_after(previous, module, valid=True)
        if following is not None:
            self._current, self._before, self._applied = following, module.clone(), False
        self._started = time.perf_counter()

    def _print_after(self, pass_: ModulePass | None, module: ModuleOp, valid: bool):
        """Prints the module if it was asked for; one that is not valid in generic form, which cannot fail."""
        if pass_ is None:
            return
        if self.args.print_ir_after_all or pass_.name in self.args.print_ir_after:
            failed = "" if valid else " (does not verify)"
            print(f"// -----// IR after {pass_.name}{failed} //----- //", file=sys.stderr)
            Printer(stream=sys.stderr, print_generic_format=not valid).print_op(module)
            print(file=sys.stderr)

    def _crashed(self, error: Exception) -> NoReturn:
        """Writes the reproducer and says where it is. The traceback is in it, for whoever mends the pass."""
        assert self._current is not None
        assert self._before is not None
        if self._applied:
            what = f"pass '{self._current.name}' left a module that does not verify: {message(error)}"
        else:
            what = f"pass '{self._current.name}' crashed with {type(error).__name__}: {error}"
        path: Path = self.args.crash_reproducer
        try:
            rerun = self._reproduce(path, self._current, self._before, error)
        except OSError as failure:
            reason = (failure.strerror or str(failure)).lower()
            raise UserError(f"{what}\nno reproducer: {path} cannot be written ({reason})") from error
        raise UserError(f"{what}\nthe module before it is in {path}; to see it again: {rerun}") from error

    def _reproduce(self, path: Path, pass_: ModulePass, module: ModuleOp, error: Exception) -> str:
        """Writes the file, and the weights of the module beside it; returns the command that runs it."""
        text = StringIO()
        Printer(stream=text).print_op(module)
        folders: list[Path] = list(self.args.blobs)
        if save_blobs(text.getvalue(), path.with_suffix(".blobs")):
            folders.append(path.with_suffix(".blobs"))
        command = ["sparsecc-opt", str(path), "-p", str(pass_)]
        for flag in ("allow_unregistered_dialect", "disable_verify"):
            if getattr(self.args, flag):
                command.append("--" + flag.replace("_", "-"))
        for folder in folders:
            command += ["--blobs", str(folder)]
        comments = [shlex.join(command), *"".join(traceback.format_exception(error)).splitlines()]
        with path.open("w", encoding="utf-8") as file:
            file.writelines(f"// {line}".rstrip() + "\n" for line in comments)
            file.write(text.getvalue() + "\n")
        return shlex.join(command)


def save_blobs(text: str, folder: Path) -> int:
    """Saves the weights in memory which a module's text refers to; returns how many they are."""
    digests = set(re.findall(r'"([0-9a-f]{32})"', text))
    # Without that module nothing can be in memory, and it need not be imported to find out.
    if not digests or "sparsecc.blobs" not in sys.modules:
        return 0
    from sparsecc.blobs import Blob

    blobs = [blob for blob in map(Blob.named, sorted(digests)) if blob.is_loaded]
    for blob in blobs:
        blob.save(folder)
    return len(blobs)


def count(module: ModuleOp) -> Counter[str]:
    """Operations of a module by dialect, without the module itself."""
    operations = (op for op in module.walk() if op is not module)
    names = (op.op_name.data if isinstance(op, UnregisteredOp) else op.name for op in operations)
    return Counter(name.partition(".")[0] for name in names)


def statistics(records: Sequence[PassRecord]) -> str:
    """A table for people: pass, seconds, operations before and after, and the dialects that changed."""
    rows = [("pass", "seconds", "before", "after", "changed")]
    for record in records:
        changed = [
            f"{dialect} {record.before[dialect]} -> {record.after[dialect]}"
            for dialect in sorted(record.before | record.after)
            if record.before[dialect] != record.after[dialect]
        ]
        before, after = str(record.before.total()), str(record.after.total())
        rows.append((record.name, f"{record.seconds:.4f}", before, after, ", ".join(changed)))
    name, seconds, before, after, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    return "\n".join(
        f"{row[0]:<{name}}  {row[1]:>{seconds}}  {row[2]:>{before}}  {row[3]:>{after}}  {row[4]}".rstrip()
        for row in rows
    )


def message(error: BaseException) -> str:
    """What an error says, with the operation it points at but not the whole module around it."""
    notes: list[str] = getattr(error, "__notes__", [])
    return "\n".join([str(error).strip(), *(excerpt(note) for note in notes)])


def excerpt(note: str) -> str:
    """The lines around the marked operation of a printed module."""
    lines = note.strip("\n").splitlines()
    marked = [number for number, line in enumerate(lines) if "^^^" in line or line.lstrip().startswith("|")]
    if not marked:
        return "\n".join(lines)
    first, last = max(0, marked[0] - CONTEXT_LINES), marked[-1] + CONTEXT_LINES
    return "\n".join(lines[first:last])


def main(args: Sequence[str] | None = None) -> int:
    """Runs sparsecc-opt; returns its exit code: 0, 1 for an input that is wrong, 2 for a wrong command."""
    return run(SparseccOptMain, args)


def run(tool: type[SparseccOptMain], args: Sequence[str] | None = None) -> int:
    """Runs the driver or a subclass of it; errors of the user's become messages on stderr."""
    try:
        tool("sparsecc's optimizer driver: IR in, passes, IR or C out", args).run()
        return 0
    except ArgSpecParseError as error:
        text, code = str(error), USAGE
    except UserError as error:
        text, code = str(error), error.exit_code
    except VerifyException as error:
        text, code = f"the module does not verify: {message(error)}", 1
    except (DiagnosticException, ParseError) as error:
        text, code = message(error), 1
    except BrokenPipeError:
        # Whoever read our output has gone. Keep the interpreter from failing again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        text, code = f"{error.filename}: {(error.strerror or str(error)).lower()}", 1
    print(f"error: {text.rstrip()}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
