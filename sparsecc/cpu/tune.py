"""Chooses how a matrix is multiplied: a few variants, and the dense plan, timed on this machine.

What was found is kept with the pattern's digest, in a folder named after this CPU.
"""

from __future__ import annotations

import ctypes
import dataclasses
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from sparsecc.cpu.activate import with_activation
from sparsecc.cpu.arrays import SLICED_COLUMNS, Floats, aligned, has_few_values
from sparsecc.cpu.assembly import PLAIN, Epilogue
from sparsecc.cpu.build import digest, keep_measured, own_version, read_measured, runtime_object
from sparsecc.cpu.line import line_kernel, make_plan, registers_for, schedules, with_schedule
from sparsecc.cpu.native import (
    CallStruct,
    Kernel,
    call_struct,
    csr_kernel,
    dense_kernel,
    load_runtime,
    vector_kernel,
)
from sparsecc.cpu.pairs import PAIRED_COLUMNS
from sparsecc.cpu.plan import block_width
from sparsecc.cpu.rounds import CHUNK, ROUND_COLUMNS
from sparsecc.cpu.rows import clustered, loads, natural
from sparsecc.cpu.scratch import LANES
from sparsecc.cpu.variant import Variant, row_order
from sparsecc.importers.matrix import Csr
from sparsecc.target.cpu import CpuTarget

# Seconds for each variant: in the first round, and in each of those that the best run after that, in turns.
FIRST, SECOND = 0.006, 0.008
FINALISTS, ROUNDS = 4, 3
# Matrices with more elements are not tried dense, nor are their rows compared with each other.
DENSE_ELEMENTS = 1 << 27
CLUSTERED_NNZ, CLUSTERED_DENSITY = 1_000_000, 0.2
# An order of rows must save this share of loads, or the natural one is better: its rows are neighbours.
WORTH = 0.97

# Code that shares a core's second cache with X and Y fetches ahead by itself, so much a panel; of one panel
# there is no time for it, and loads in a row bring more.
FETCHING_NNZ, FETCHING_PANELS = 48_000, 8

# With more nonzeros than this share, tiles are full enough to be faster than slices.
SLICED_DENSITY = 0.15

# Pairs are sought for matrices of up to so many elements, which takes about a second. With a lower density
# than the first two steps seldom have use for the same pair; with one above the second they mostly do.
PAIRED_ELEMENTS = 1 << 22
TWIN_DENSITY, SINGLE_DENSITY = 0.01, 0.12

# Rounds are made for matrices of up to so many elements. In several chunks, between which sums pass through
# memory, they hold next to nothing with less nonzeros than this share.
ROUNDS_ELEMENTS, ROUNDS_DENSITY = 1 << 25, 0.002
# Positions that may be faster one by one.
FEW = 4
# Vectors of positions from which rows may be the faster way through CSR: what csr.c calls WIDE.
ROW_VECTORS = 8

Library = Literal["own", "blas"]
V = TypeVar("V", bound=Hashable)


@dataclass(frozen=True)
class Choice:
    """What was chosen and what was measured. Seconds are those of one call with n positions on one core."""

    variant: Variant
    measured: bool
    """False: by rule, for a machine that is not this one."""
    seconds: float | None = None
    dense_seconds: float | None = None
    dense_library: Library = "own"
    """What the dense time is of, and what a dense plan calls in Python."""
    tried: tuple[tuple[str, float], ...] = ()
    """(variant, seconds), the fastest first."""


@cache
def runtime(target: CpuTarget) -> ctypes.CDLL:
    """The kernels, compiled for the target and loaded. Raises UserError where they do not run here."""
    target.check_runs_here()
    return load_runtime(str(runtime_object(target)))


@cache
def peak(target: CpuTarget) -> float:
    """f32 operations per second of one core that does nothing but multiply and add."""
    kept = read_measured(f"peak-{target.simd.isa}")
    if kept and isinstance(kept.get("peak"), float):
        return kept["peak"]
    found = float(runtime(target).sc_peak(0.1))
    keep_measured(f"peak-{target.simd.isa}", {"peak": found})
    return found


def line_variants(w: Csr, target: CpuTarget, n: int, fast: bool = False) -> list[Variant]:
    """Straight-line variants worth timing, of one order of rows; of one schedule where `fast`."""
    registers = registers_for(target, n)
    if registers is None or not 0 < w.nnz <= target.limits.line_nnz:
        return []
    m, k = w.shape
    height = min(registers.accumulators, m)
    # Sums are loaded and stored for each block, so blocks are as wide as the vectors that a group uses of X
    # allow: those of block sparsity and of few nonzeros are far fewer than there are columns.
    used = loads(w, natural(w, k), height, k) / (-(-m // height) * k)
    columns = round(target.limits.line_columns / used)
    base = Variant("line", registers.lanes, height, min(columns, k), panels=1, batch=1)
    small = w.nnz <= CLUSTERED_NNZ and w.nnz <= CLUSTERED_DENSITY * m * k and m > height
    if small and not fast:
        width = block_width(k, base.columns)
        before = loads(w, natural(w, width), height, width)
        if loads(w, clustered(w, height, width), height, width) < WORTH * before:
            base = dataclasses.replace(base, rows="clustered")
    groups, panels = -(-m // height), -(-n // registers.lanes)
    if w.nnz > FETCHING_NNZ and panels > 1:
        base = dataclasses.replace(base, fetches=min(panels, FETCHING_PANELS))
    if fast:
        return [dataclasses.replace(base, panels=min(panels, 8), batch=min(2, groups))]
    return [
        dataclasses.replace(base, panels=s.panels, batch=s.batch, pack=s.pack)
        for s in schedules(groups, panels, base.fetches)
    ]


def by_rule(w: Csr, target: CpuTarget, n: int) -> Variant:
    """A good variant without a look at the machine."""
    if w.nnz > 0.75 * w.shape[0] * w.shape[1]:
        return Variant("dense")
    if n == 1:
        return of_one_position(w, target)
    return next(iter(line_variants(w, target, n, fast=True)), Variant("csr"))


def of_one_position(w: Csr, target: CpuTarget) -> Variant:
    """A good layout for one position without a look at the machine."""
    return Variant("vector", rounds=can_round(w, target))


def build(w: Csr, target: CpuTarget, variant: Variant, epilogue: Epilogue, bias: Floats | None) -> Kernel:
    """The variant for this matrix, loaded and ready. Raises UserError."""
    library = runtime(target)
    match variant.kind:
        case "csr":
            return with_activation(csr_kernel(library, w, bias, epilogue.relu, variant.by_rows), epilogue)
        case "vector":
            kernel = vector_kernel(
                library, w, bias, epilogue.relu, variant.sliced, variant.pairs, variant.rounds
            )
            return with_activation(kernel, epilogue)
        case "dense":
            return with_activation(dense_kernel(library, w, bias, epilogue.relu), epilogue)
        case "line":
            registers = registers_for(target, 1 if variant.lanes == 8 else variant.lanes)
            assert registers is not None
            plan = make_plan(w, variant.height, variant.columns, row_order(w, variant))
            kernel = line_kernel(library, w, plan, registers, epilogue, bias, fetches=variant.fetches)
            return with_schedule(kernel, variant.panels, variant.batch, variant.pack)


def can_slice(w: Csr, target: CpuTarget) -> bool:
    """Whether slices of rows may be the faster layout for one position."""
    dense = w.nnz > SLICED_DENSITY * w.shape[0] * w.shape[1]
    return target.simd.isa == "avx512" and w.shape[1] <= SLICED_COLUMNS and not dense


def paired_variants(w: Csr, target: CpuTarget) -> list[Variant]:
    """Variants for one position that are worth timing where pairs of blocks may be the faster layout."""
    k, whole = w.shape[1], w.shape[0] * w.shape[1]
    if target.simd.isa != "avx512" or k > PAIRED_COLUMNS or whole > PAIRED_ELEMENTS or not w.nnz:
        return []
    of_one = [Variant("vector", pairs=1)] if w.nnz <= SINGLE_DENSITY * whole else []
    return of_one + ([Variant("vector", pairs=2)] if w.nnz >= TWIN_DENSITY * whole else [])


def can_round(w: Csr, target: CpuTarget) -> bool:
    """Whether rounds may be the faster layout for one position."""
    whole = w.shape[0] * w.shape[1]
    sparse = w.shape[1] > CHUNK and w.nnz < ROUNDS_DENSITY * whole
    return (
        target.simd.isa == "avx512"
        and w.shape[1] <= ROUND_COLUMNS
        and whole <= ROUNDS_ELEMENTS
        and not sparse
    )


def _candidates(w: Csr, target: CpuTarget, n: int, plan: str) -> list[Variant]:
    dense = w.shape[0] * w.shape[1] <= DENSE_ELEMENTS
    found: list[Variant] = []
    if plan in ("auto", "line"):
        found += line_variants(w, target, n)
    if plan in ("auto", "csr"):
        found.append(Variant("csr"))
        if n >= ROW_VECTORS * LANES[target.simd.isa] and not has_few_values(w):
            found.append(Variant("csr", by_rows=True))
    if plan == "vector" or (plan == "auto" and n <= FEW):
        found.append(Variant("vector"))
        if can_slice(w, target):
            found.append(Variant("vector", sliced=True))
        found += paired_variants(w, target)
        if can_round(w, target):
            found.append(Variant("vector", rounds=True))
    if dense or plan == "dense":
        found.append(Variant("dense"))
    return found


# What this process knows, for where nothing can be kept.
_chosen: dict[str, Choice] = {}


def choose(
    w: Csr,
    target: CpuTarget,
    n: int,
    plan: str = "auto",
    epilogue: Epilogue = PLAIN,
    seed: int = 0,
    blas: bool = True,
) -> Choice:
    """The fastest variant for n positions; plan "auto", or the kind of kernel that is asked for.

    The dense plan is timed, too: with our own kernel, and, where code may call it, with the BLAS of numpy,
    which does no epilogue.
    Raises UserError where code cannot be built.
    """
    if target.missing:
        if plan in ("auto", "line"):
            rule = (
                by_rule(w, target, n) if plan == "auto" else (line_variants(w, target, n, True) or [None])[0]
            )
            return Choice(rule or Variant("csr"), False)
        return Choice(Variant.of(plan, {}), False)
    key = "choice-" + digest(
        own_version(), target, w.shape, w.indptr.tobytes(), w.indices.tobytes(), n, plan, epilogue,
        blas,
    )  # fmt: skip
    if key not in _chosen:
        kept = read_measured(key)
        choice = choice_from_json(kept) if kept else None
        if choice is None:
            choice = _measure(w, target, n, plan, epilogue, seed, blas)
            keep_measured(key, choice_to_json(choice))
        _chosen[key] = choice
    return _chosen[key]


def _measure(
    w: Csr, target: CpuTarget, n: int, plan: str, epilogue: Epilogue, seed: int, with_blas: bool
) -> Choice:
    (m, k), rng = w.shape, np.random.default_rng(seed)
    x, y = aligned((k, n)), aligned((m, n))
    x[:] = rng.standard_normal((k, n), np.float32)
    residual = rng.standard_normal((m, n), np.float32) if epilogue.residual else None
    bias = rng.standard_normal(m, np.float32) if epilogue.bias else None
    call = call_struct(x, y, residual)
    timers = _timers(w, target, _candidates(w, target, n, plan), epilogue, bias, call)
    dense = Variant("dense")
    seconds, best = in_turns(timers, FINALISTS, (dense,))
    dense_seconds, library = seconds.get(dense), "own"
    if with_blas and m * k <= DENSE_ELEMENTS:
        blas = blas_seconds(w, x, ROUNDS * SECOND)
        if dense_seconds is None or blas < dense_seconds:
            dense_seconds, library = blas, "blas"
    wanted = [v for v in best if v.kind == plan or plan == "auto"]
    found = min(wanted or best, key=lambda v: seconds[v])
    if plan == "auto" and dense_seconds is not None and dense_seconds < seconds[found]:
        found = dense
    took = dense_seconds if found == dense and dense_seconds is not None else seconds[found]
    tried = [(v.name, s) for v, s in seconds.items()]
    tried += [("dense (BLAS)", dense_seconds)] if library == "blas" and dense_seconds is not None else []
    tried.sort(key=lambda row: row[1])
    return Choice(found, True, took, dense_seconds, library, tuple(tried))


def in_turns(
    timers: Mapping[V, Callable[[float], float]], most: int, always: Sequence[V] = ()
) -> tuple[dict[V, float], list[V]]:
    """Seconds of each variant, and the finalists: those that were timed again, of which one is to be taken.

    timers: of a variant, the seconds of its fastest run in a budget of seconds. most: finalists, and those of
    `always` that there are. What is timed once may have been disturbed, or lucky: code that no second cache
    holds is now and then fast, where others of the machine leave it the third. So the median of turns counts.
    """
    seconds = {variant: timer(FIRST) for variant, timer in timers.items()}
    best = sorted(seconds, key=lambda v: seconds[v])[:most]
    best += [variant for variant in always if variant in seconds and variant not in best]
    turns = [{variant: timers[variant](SECOND) for variant in best} for _ in range(ROUNDS)]
    return seconds | {v: statistics.median(turn[v] for turn in turns) for v in best}, best


def _timers(
    w: Csr,
    target: CpuTarget,
    variants: Sequence[Variant],
    epilogue: Epilogue,
    bias: Floats | None,
    call: CallStruct,
) -> dict[Variant, Callable[[float], float]]:
    """For each variant what measures it: seconds of the fastest run in a budget of seconds."""
    timers: dict[Variant, Callable[[float], float]] = {}
    code: dict[tuple[int, int, int, str, int], Kernel] = {}
    for variant in variants:
        if variant.kind == "line":
            # Schedules of the same code are not assembled again.
            cut = variant.lanes, variant.height, variant.columns, variant.rows, variant.fetches
            base = code.get(cut) or code.setdefault(cut, build(w, target, variant, epilogue, bias))
            kernel = with_schedule(base, variant.panels, variant.batch, variant.pack)
        else:
            kernel = build(w, target, variant, epilogue, bias)
        timers[variant] = partial(kernel.seconds, call, 1)
    return timers


def one_blas_thread() -> Any:
    """A context in which numpy's BLAS uses one thread."""
    from threadpoolctl import threadpool_limits  # pyright: ignore[reportMissingTypeStubs]

    return threadpool_limits(1, "blas")


def blas_seconds(w: Csr, x: NDArray[Any], budget: float) -> float:
    """Of the fastest dense product of numpy on one core in a budget of seconds."""
    dense = aligned(w.shape)
    dense[np.repeat(np.arange(w.shape[0]), np.diff(w.indptr)), w.indices] = w.data
    y = aligned((w.shape[0], x.shape[1]))
    best, start = float("inf"), time.perf_counter()
    with one_blas_thread():
        while True:
            before = time.thread_time()
            np.matmul(dense, x, out=y)
            best = min(best, time.thread_time() - before)
            if time.perf_counter() - start > budget:
                return best


def choice_to_json(choice: Choice) -> dict[str, Any]:
    """What is kept of a choice."""
    return dataclasses.asdict(choice) | {"variant": [choice.variant.kind, choice.variant.parameters()]}


def choice_from_json(kept: dict[str, Any]) -> Choice | None:
    """A kept choice; None if it is not one."""
    try:
        kind, parameters = kept.pop("variant")
        tried = tuple((str(name), float(seconds)) for name, seconds in kept.pop("tried"))
        return Choice(Variant.of(kind, parameters), tried=tried, **kept)
    except (KeyError, TypeError, ValueError):
        return None
