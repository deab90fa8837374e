"""The matrices that a command looks at one by one, and how it tells of them."""

from __future__ import annotations

import io
import lzma
import multiprocessing
import re
import sys
import tarfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sparsecc.errors import UserError
from sparsecc.importers import load_matrix
from sparsecc.importers.files import damaged, read_file, unpack
from sparsecc.importers.matrix import Matrix
from sparsecc.importers.smtx import parse_smtx

T = TypeVar("T")

ENDINGS = (
    ".smtx", ".smtx.gz", ".mtx", ".mtx.gz", ".npz", ".npy", ".safetensors", ".tar.xz",
)  # fmt: skip


@dataclass(frozen=True)
class Task:
    """One matrix to look at."""

    name: str
    source: str
    """As `load_matrix` takes it."""
    data: bytes | None = None
    """Of a matrix in a pack: the file. A pack is unpacked once, not once for each matrix."""


@dataclass(frozen=True)
class Failure:
    """A matrix that cannot be compiled."""

    name: str
    error: str
    verdict: str = "failed"


class Verdict(Protocol):
    """A row."""

    @property
    def verdict(self) -> str: ...


def tasks_of(path: str) -> list[Task]:
    """The matrices that a path names, in the order of their names. Raises UserError where there is none."""
    folder = Path(path)
    if not folder.is_dir():
        # A single file says what is wrong with it when it is read.
        return list(_tasks_of_file(folder, path)) if folder.is_file() else [Task(path, path)]
    files = sorted(p for p in folder.rglob("*") if p.name.lower().endswith(ENDINGS) and p.is_file())
    if not files:
        raise UserError(
            f"{path}: no matrix in this folder; needed are files that end in {', '.join(ENDINGS)}"
        )
    return [task for file in files for task in _tasks_of_file(file, str(file.relative_to(folder)))]


def _tasks_of_file(file: Path, name: str) -> Iterator[Task]:
    lower = file.name.lower()
    try:
        if lower.endswith(".tar.xz"):
            yield from _tasks_of_pack(file, name)
            return
        if lower.endswith(".safetensors"):
            from sparsecc.importers.safetensors_file import matrix_names

            if tensors := matrix_names(file):
                yield from (Task(f"{name}:{tensor}", f"{file}:{tensor}") for tensor in tensors)
                return
    except UserError:
        pass  # said again, and reported, when the matrix is loaded
    yield Task(name, str(file))


def _tasks_of_pack(file: Path, name: str) -> Iterator[Task]:
    unpacked = unpack(lzma.LZMAFile(io.BytesIO(read_file(file))), file, "xz data")
    found: list[tuple[str, bytes]] = []
    try:
        with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as pack:
            for entry in pack:
                content = pack.extractfile(entry) if entry.isreg() and not entry.issparse() else None
                if entry.name.endswith(".smtx") and content is not None:
                    found.append((entry.name, content.read()))
    except Exception as error:  # tarfile lets errors of struct and others through
        raise damaged(str(file), "tar.xz pack", error) from None
    if not found:
        raise UserError(f"{file}: no .smtx file in this pack")
    for member, data in sorted(found):
        yield Task(member.removesuffix(".smtx"), f"{file}::{member}", data)


def loaded(task: Task) -> Matrix:
    """The matrix. Raises UserError where it cannot be read."""
    if task.data is None:
        return load_matrix(task.source)
    return parse_smtx(task.data, source=task.source, name=task.name)


def guarded(task: Task, work: Callable[[], T]) -> T | Failure:
    """What the work gives; a failure where the matrix cannot be read, held or compiled."""
    try:
        return work()
    except UserError as error:
        return Failure(task.name, str(error))
    except MemoryError:
        return Failure(task.name, f"{task.source}: out of memory; take a larger machine or fewer --jobs")


def in_order(work: Callable[[Task], T], tasks: list[Task], jobs: int) -> Iterator[T]:
    """What the work gives for each task, in order. With several jobs it must be a function of a module."""
    if jobs == 1 or len(tasks) == 1:
        yield from map(work, tasks)
        return
    # New processes and not copies of this one, which may have threads.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=context)
    try:
        yield from pool.map(work, tasks)
    except BrokenProcessPool:
        raise UserError(
            "a process of the analysis was killed, for want of memory perhaps; use fewer --jobs"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def gathered(tasks: list[Task], rows: Iterable[T | Failure], quiet: bool) -> list[T | Failure]:
    """The rows of all tasks, with a bar that tells of them. Raises UserError where the only one failed."""
    found: list[T | Failure] = []
    with progress_bar(len(tasks), quiet) as done:
        for task, row in zip(tasks, rows, strict=True):
            found.append(row)
            done(task.name)
    if len(tasks) == 1 and isinstance(found[0], Failure):
        raise UserError(found[0].error)
    return found


def tell(
    rows: Sequence[object],
    whole: dict[str, Any],
    shown: Callable[[], Iterable[object]],
    json: bool,
    width: int,
) -> int:
    """Print all of it as one JSON object, or else what is shown to people.

    width: of lines in a pipe; a terminal has the width it has. Returns 1 when any operator could not be
    looked at, else 0.
    """
    if json:
        print(dumps(whole, indent=2))
    else:
        from rich.console import Console

        console = Console(width=None if sys.stdout.isatty() else width, highlight=False, markup=False)
        for part in shown():
            console.print(part)
    return int(any(isinstance(row, Failure) for row in rows))


def counted(rows: Sequence[object], summary: Mapping[str, Any]) -> str:
    """`3 operators: 2 chosen, 1 refused`: the verdicts or plans that a summary counts."""
    names = ("chosen", "eligible", "refused", "sparse", "dense", "failed")
    parts = [f"{summary[name]} {name}" for name in names if summary.get(name)]
    return f"{len(rows)} operator{'s' * (len(rows) != 1)}: {', '.join(parts)}"


def verdicts(rows: Sequence[Verdict]) -> dict[str, int]:
    """How many rows of each verdict."""
    return {v: sum(row.verdict == v for row in rows) for v in ("chosen", "eligible", "refused", "failed")}


@contextmanager
def progress_bar(total: int, quiet: bool) -> Generator[Callable[[str], None]]:
    """A bar on a terminal, where there is more than one operator."""
    if quiet or total == 1 or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=total)
        yield lambda name: bar.update(task, advance=1, description=re.sub(r"[\[\]]", "", name))
