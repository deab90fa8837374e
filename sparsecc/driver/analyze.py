"""`sparsecc analyze`: one row for each operator of a file, a folder or a pack, and what they add up to."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import lzma
import multiprocessing
import re
import sys
import tarfile
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sparsecc.analysis import Analysis, Search, analyze
from sparsecc.errors import UserError
from sparsecc.importers import load_matrix
from sparsecc.importers.files import damaged, read_file, unpack
from sparsecc.importers.matrix import Matrix
from sparsecc.importers.smtx import parse_smtx
from sparsecc.operator import operator_of
from sparsecc.patterns.declared import check_declared
from sparsecc.target import CpuTarget, Target, load_target
from sparsecc.target.crossbar import CrossbarTarget

if TYPE_CHECKING:
    from rich.table import Table

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


Row = Analysis | Failure


@dataclass(frozen=True)
class Options:
    """What holds for all operators."""

    target: str
    n: int
    dtype: str | None
    search: Search
    pattern: str | None = None
    """N:M or V:N:M that every matrix is to have."""


def run(arguments: argparse.Namespace) -> int:
    """The command. 1 when any operator could not be looked at, else 0."""
    if arguments.jobs < 1:
        raise UserError(f"--jobs {arguments.jobs}: at least 1 process is needed", exit_code=2)
    if arguments.n < 1:
        raise UserError(f"--n {arguments.n}: an operator needs at least 1 position", exit_code=2)
    if isinstance(found := load_target(arguments.target), CpuTarget):
        from sparsecc.driver import analyze_cpu

        return analyze_cpu.run(arguments, found)
    options = Options(
        arguments.target,
        arguments.n,
        arguments.dtype,
        Search(arguments.effort, arguments.seed),
        arguments.pattern,
    )
    found.with_type(arguments.dtype or found.in_type)
    if isinstance(found, CrossbarTarget):
        from sparsecc.driver import analyze_crossbar

        return analyze_crossbar.run(arguments, found, options)
    target = Target.load(arguments.target)
    tasks = tasks_of(arguments.path)
    with progress_bar(len(tasks), arguments.quiet) as done:
        rows: list[Row] = []
        for row in analyze_all(tasks, options, arguments.jobs):
            rows.append(row)
            done(row.name)
    if len(tasks) == 1 and isinstance(rows[0], Failure):
        raise UserError(rows[0].error)
    if arguments.json:
        print(json.dumps(to_json(rows, target, arguments.n), indent=2))
    else:
        _print(rows, target, arguments.n)
    return int(any(isinstance(row, Failure) for row in rows))


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


def analyze_task(task: Task, options: Options) -> Row:
    """One row; a failure where the matrix cannot be read, held or compiled."""

    def work() -> Analysis:
        target = Target.load(options.target)
        operator = operator_of(loaded(task), options.n, target, options.dtype, options.search.seed, task.name)
        if options.pattern is not None:
            check_declared(operator.pattern, options.pattern, operator.name)
        return analyze(operator, target.with_type(operator.in_type), options.search)

    return guarded(task, work)


def analyze_all(tasks: list[Task], options: Options, jobs: int = 1) -> Iterator[Row]:
    """A row for each task, in order, whatever the number of processes."""
    return in_order(partial(analyze_task, options=options), tasks, jobs)


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


# Output. -----------------------------------------------------------------------------------------------


def summary(rows: Iterable[Row]) -> dict[str, Any]:
    """How many rows of each verdict, and the cycles of all operators together."""
    rows = list(rows)
    good = [row for row in rows if isinstance(row, Analysis)]
    count = {v: sum(row.verdict == v for row in rows) for v in ("chosen", "eligible", "refused", "failed")}
    cycles, dense = sum(row.cycles for row in good), sum(row.dense_cycles for row in good)
    control = sum(row.dense_cycles / row.control_speedup for row in good)
    return {
        **count,
        "cycles": cycles,
        "dense_cycles": dense,
        "speedup": dense / cycles if cycles else 1.0,
        "control_speedup": dense / control if control else 1.0,
        "cycles_bound": sum(row.cycles_bound for row in good),
    }


def to_json(rows: list[Row], target: Target, n: int) -> dict[str, Any]:
    """All of it as one JSON object."""
    return {
        "target": target.name,
        "n": n,
        "operators": [dataclasses.asdict(row) for row in rows],
        "summary": summary(rows),
    }


def table(rows: Iterable[Row]) -> Table:
    """One line for each operator."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    made.add_column("operator", overflow="fold")
    made.add_column("M x K")
    made.add_column("pattern", overflow="fold")
    made.add_column("density", justify="right")
    made.add_column("verdict")
    for head in ("sparse", "dense", "speed-up", "random", "bound", "gap"):
        made.add_column(head, justify="right", no_wrap=True)
    made.add_column("why", overflow="fold", ratio=1)
    for row in rows:
        if isinstance(row, Failure):
            made.add_row(row.name, "", "", "", row.verdict, *[""] * 6, row.error)
            continue
        m, k, _ = row.shape
        made.add_row(
            row.name, f"{m} x {k}", row.pattern, f"{row.density:.4f}", row.verdict, str(row.sparse_cycles),
            str(row.dense_cycles), f"{row.speedup:.2f}", f"{row.control_speedup:.2f}", str(row.cycles_bound),
            f"{row.gap:.2f}", row.why,
        )  # fmt: skip
    return made


def _print(rows: list[Row], target: Target, n: int) -> None:
    from rich.console import Console

    # Wide enough for a pipe; a terminal has the width it has.
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)
    console.print(
        f"{target.name}, N = {n}: cycles predicted for the best cover and the dense plan, the speed-up of "
        "the plan taken beside that of a random matrix of the same density, and the lower bound"
    )
    console.print(table(rows))
    found = summary(rows)
    parts = [f"{found[v]} {v}" for v in ("chosen", "eligible", "refused", "failed") if found[v]]
    console.print(
        f"\n{len(rows)} operator{'s' * (len(rows) != 1)}: {', '.join(parts)}; {found['cycles']} cycles, "
        f"dense {found['dense_cycles']}: {found['speedup']:.2f}x (random matrices "
        f"{found['control_speedup']:.2f}x); no plan takes fewer than {found['cycles_bound']}"
    )


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
