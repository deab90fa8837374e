"""What the command line has for pictures: --plot, --html, and the command diff."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsecc.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from sparsecc.artifact import Artifact
    from sparsecc.table_page import Told


def add_plot(command: argparse.ArgumentParser) -> None:
    """--plot of `run` and `compile`."""
    command.add_argument(
        "--plot",
        metavar="FILE",
        help="draw W, its meta-ops and their fill to a .png, .svg or .pdf file (extra viz)",
    )


def add_html(command: argparse.ArgumentParser) -> None:
    """--html of `run`."""
    command.add_argument(
        "--html", metavar="FILE", help="write a report to look at in a browser: one file, no network"
    )


def add_diff(commands: Any) -> None:
    """The command `diff`."""
    command: argparse.ArgumentParser = commands.add_parser(
        "diff",
        help="say what changed between two runs",
        epilog="A and B hold what `sparsecc run --json` printed, one object or a list of them.",
    )
    command.add_argument("before", metavar="A.json", help="the run before")
    command.add_argument("after", metavar="B.json", help="the run after")
    command.add_argument("--html", metavar="FILE", help="write the table as a page too")


def check(arguments: argparse.Namespace) -> None:
    """Find out before the work whether the pictures can be made. Raises UserError."""
    if arguments.plot:
        from sparsecc.pictures import check_plot

        check_plot(arguments.plot)


def write(arguments: argparse.Namespace, artifact: Artifact) -> None:
    """Write the pictures that were asked for. Raises UserError."""
    if arguments.plot:
        from sparsecc.pictures import plot

        plot(artifact, arguments.plot)
    if getattr(arguments, "html", None):
        from sparsecc.cpu_compiler import CpuArtifact
        from sparsecc.html_report import report_page

        if isinstance(artifact, CpuArtifact):
            write_tables(arguments.html, artifact.report, artifact.report.tables())
        else:
            _write_page(arguments.html, report_page([artifact]))


def write_tables(path: str, report: Told, tables: Sequence[Table]) -> None:
    """Write the page of a network, or of an operator on a CPU. Raises UserError."""
    from sparsecc.table_page import table_page

    _write_page(path, table_page(report, tables))


def diff(arguments: argparse.Namespace) -> int:
    """`sparsecc diff`."""
    import sys

    from rich.console import Console

    from sparsecc.diff import compare, load_reports

    names = _short_names(arguments.before, arguments.after)
    found = compare(load_reports(arguments.before), load_reports(arguments.after), names)
    if arguments.html:
        from sparsecc.html_report import diff_page

        _write_page(arguments.html, diff_page(found))
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False)
    if found.changes:
        console.print(found.table())
    for remark in found.remarks():
        console.print(remark)
    return 0


def _short_names(before: str, after: str) -> tuple[str, str]:
    """What the files are called, without their folders where that tells them apart."""
    a, b = Path(before).stem, Path(after).stem
    return (a, b) if a != b else (before, after)


def _write_page(path: str, page: str) -> None:
    try:
        Path(path).write_text(page, encoding="utf-8")
    except OSError as e:
        raise UserError(f"{path}: cannot be written: {e.strerror}; name another file") from e
