"""The command `sparsecc`, and its sub-commands."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from sparsecc.driver import analyze_cli, catalogue, convert, explain_cli, pictures_cli, run_cli
from sparsecc.driver.options import EPILOG
from sparsecc.errors import UserError


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

    run_cli.add_run(commands)
    run_cli.add_compile(commands)
    pictures_cli.add_diff(commands)
    analyze_cli.add_analyze(commands)
    explain_cli.add_explain(commands)
    catalogue.add_targets(commands)
    catalogue.add_passes(commands)
    catalogue.add_dialects(commands)
    convert.add_convert(commands)
    commands.add_parser("doctor", help="say which compilers and optional tools are found")
    for command in commands.choices.values():
        command.formatter_class = argparse.RawDescriptionHelpFormatter
    return parser


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": run_cli.run,
    "compile": run_cli.compile_,
    "diff": pictures_cli.diff,
    "analyze": analyze_cli.analyze,
    "explain": explain_cli.explain,
    "targets": catalogue.targets,
    "passes": catalogue.passes,
    "dialects": catalogue.dialects,
    "convert": convert.convert,
    "doctor": catalogue.doctor,
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
