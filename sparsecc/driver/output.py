"""How commands tell what they do and what they found."""

from __future__ import annotations

import argparse
import os
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
