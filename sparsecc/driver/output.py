"""How commands tell what they do and what they found."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sparsecc.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table


class Told(Protocol):
    """A report."""

    def to_json(self) -> Mapping[str, object]: ...

    def tables(self) -> Sequence[Table]: ...


@contextmanager
def progress_of(arguments: argparse.Namespace) -> Generator[Callable[[str], None]]:
    """What is being done: lines with -v, a bar on a terminal, else nothing."""
    if arguments.verbose:
        yield lambda text: print(text, file=sys.stderr, flush=True)
        return
    if arguments.quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    words = TextColumn("{task.description}", markup=False)
    columns = (SpinnerColumn(), BarColumn(bar_width=24), TimeElapsedColumn(), words)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def tell(text: str) -> None:
            nonlocal task
            if (steps := steps_of(text)) is None and bar.tasks[0].total is not None:
                # How far building or simulating is, nobody knows.
                bar.remove_task(task)
                task = bar.add_task(text, total=None)
            done, total = steps or (None, None)
            bar.update(task, description=text, completed=done, total=total)

        yield tell


def steps_of(text: str) -> tuple[int, int] | None:
    """Steps that are done when `LAYER (3 of 7): ...` begins, and all; None for what is not counted."""
    found = re.search(r"\((\d+) of (\d+)\)", text)
    return None if found is None else (int(found[1]) - 1, int(found[2]))


def console() -> Any:
    """Output for people; NO_COLOR is honoured, and a pipe gets plain text wide enough not to be folded."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 120, highlight=False)


def show(report: Told, arguments: argparse.Namespace) -> None:
    """A report as JSON or as tables, as the arguments say."""
    if getattr(arguments, "json", False):
        import json

        print(json.dumps(report.to_json(), indent=2))
    elif not arguments.quiet:
        for table in report.tables():
            console().print(table)


def check_writable(path: Path) -> None:
    """Find out before the work, not after it. Raises UserError."""
    folder = path.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"{path}: its folder does not exist or may not be written; name another file")


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
