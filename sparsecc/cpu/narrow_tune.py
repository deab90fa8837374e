"""Chooses how a matrix of a narrow type is multiplied: as tune.py does for f32, over words."""

from __future__ import annotations

import dataclasses
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.cpu.arrays import aligned
from sparsecc.cpu.build import digest, keep_measured, own_version, read_measured
from sparsecc.cpu.line import schedules
from sparsecc.cpu.narrow import (
    X_TYPES,
    narrow_kernel,
    registers_for_words,
    rescheduled,
    sums_type,
)
from sparsecc.cpu.native import CallStruct, Kernel, address
from sparsecc.cpu.plan import block_width
from sparsecc.cpu.rows import clustered, loads, natural
from sparsecc.cpu.tune import (
    DENSE_ELEMENTS,
    FEW,
    FINALISTS,
    WORTH,
    Choice,
    choice_from_json,
    choice_to_json,
    in_turns,
    runtime,
)
from sparsecc.cpu.variant import Variant
from sparsecc.cpu.words import STORED, Element, as_words, depth_of
from sparsecc.epilogue import Epilogue
from sparsecc.importers.matrix import Csr
from sparsecc.target.cpu import CpuTarget

Array = NDArray[Any]

# Words above which rows are not compared with each other.
CLUSTERED_WORDS = 1_000_000


def element_of(target: CpuTarget) -> Element:
    """The narrow type that a target is used with."""
    assert target.in_type in ("i8", "bf16", "f16"), target.in_type
    return target.in_type


def plain(target: CpuTarget) -> Epilogue:
    """Results are the sums."""
    return Epilogue(sums_type(element_of(target)))


@cache
def narrow_peak(target: CpuTarget) -> float:
    """Operations per second of one core that does nothing but multiply words of the type and add up."""
    x_type = X_TYPES[element_of(target)]
    key = f"peak-{target.simd.isa}-{target.in_type}"
    kept = read_measured(key)
    if kept and isinstance(kept.get("peak"), float):
        return kept["peak"]
    found = float(runtime(target).sc_words_peak(x_type, 0.1))
    keep_measured(key, {"peak": found})
    return found


def line_variants(words: Csr, target: CpuTarget, n: int, fast: bool = False) -> list[Variant]:
    """Straight-line variants over words worth timing; one where `fast`."""
    registers = registers_for_words(target, element_of(target), n)
    if registers is None or not 0 < words.nnz <= target.limits.line_nnz:
        return []
    m, k = words.shape
    height = min(registers.accumulators, m)
    base = Variant("line", registers.lanes, height, min(target.limits.line_columns, k), panels=1, batch=1)
    groups, panels = -(-m // height), -(-n // registers.lanes)
    if fast:
        return [dataclasses.replace(base, panels=min(panels, 8), batch=min(2, groups))]
    if words.nnz <= CLUSTERED_WORDS and m > height:
        width = block_width(k, base.columns)
        before = loads(words, natural(words, width), height, width)
        if loads(words, clustered(words, height, width), height, width) < WORTH * before:
            base = dataclasses.replace(base, rows="clustered")
    # X is packed to words for all of them, so that no other copy of it pays.
    found = [s for s in schedules(groups, panels) if not s.pack]
    return [dataclasses.replace(base, panels=s.panels, batch=s.batch) for s in found]


def by_rule(w: Csr, words: Csr, target: CpuTarget, n: int) -> Variant:
    """A good variant without a look at the machine."""
    if words.nnz > 0.8 * words.shape[0] * words.shape[1]:
        return Variant("dense")
    if n == 1:
        return Variant("vector")
    return next(iter(line_variants(words, target, n, fast=True)), Variant("csr"))


def _candidates(words: Csr, target: CpuTarget, n: int, plan: str) -> list[Variant]:
    found: list[Variant] = []
    if plan == "line" or (plan == "auto" and n > 1):
        found += line_variants(words, target, n)
    if plan in ("auto", "csr"):
        found.append(Variant("csr"))
    if plan == "vector" or (plan == "auto" and n <= FEW):
        found.append(Variant("vector"))
    if plan == "dense" or words.shape[0] * words.shape[1] <= DENSE_ELEMENTS // 4:
        found.append(Variant("dense"))
    return found


_chosen: dict[str, Choice] = {}


def choose_narrow(
    w: Csr, target: CpuTarget, n: int, plan: str = "auto", epilogue: Epilogue | None = None, seed: int = 0
) -> Choice:
    """The fastest variant for n positions, as `sparsecc.cpu.tune.choose`; the dense plan is our own kernel.

    target: with the type in use. Raises UserError where code cannot be built.
    """
    element, epilogue = element_of(target), epilogue or plain(target)
    if target.missing:
        if plan not in ("auto", "line"):
            return Choice(Variant.of(plan, {}), False)
        words = as_words(w, element, depth_of(target, element)).csr
        if plan == "auto":
            return Choice(by_rule(w, words, target, n), False)
        return Choice((line_variants(words, target, n, True) or [Variant("csr")])[0], False)
    key = "choice-" + digest(
        own_version(), target, element, w.shape, w.indptr.tobytes(), w.indices.tobytes(), n, plan,
        epilogue.element, epilogue.residual, epilogue.trivial,
    )  # fmt: skip
    if key not in _chosen:
        kept = read_measured(key)
        choice = choice_from_json(kept) if kept else None
        if choice is None:
            choice = _measure(w, target, n, plan, epilogue, seed)
            keep_measured(key, choice_to_json(choice))
        _chosen[key] = choice
    return _chosen[key]


def random_input(target: CpuTarget, k: int, n: int, seed: int) -> Array:
    """X [K, N] in the target's type, as C reads it; values do not matter for times."""
    x, rng = aligned((k, n), STORED[target.in_type]), np.random.default_rng(seed)
    if target.in_type == "i8":
        x[:] = rng.integers(-128, 128, (k, n))
    elif target.in_type == "f16":
        x[:] = rng.standard_normal((k, n))
    else:
        x[:] = rng.standard_normal((k, n)).astype(np.float32).view(np.uint32) >> 16
    return x


def call_of(x: Array, y: Array, residual: Array | None = None) -> CallStruct:
    """A call on arrays of any types with contiguous rows."""
    lds = residual.strides[0] // 4 if residual is not None else 0
    return CallStruct(
        address(x), x.strides[0] // x.itemsize, address(y), y.strides[0] // y.itemsize, y.shape[1],
        address(residual) if residual is not None else None, lds,
    )  # fmt: skip


def _measure(w: Csr, target: CpuTarget, n: int, plan: str, epilogue: Epilogue, seed: int) -> Choice:
    (m, k), element, library = w.shape, element_of(target), runtime(target)
    x, y = random_input(target, k, n, seed), aligned((m, n), STORED[epilogue.element])
    residual = aligned((m, n)) if epilogue.residual else None
    call = call_of(x, y, residual)
    words = as_words(w, element, depth_of(target, element)).csr
    kernels: dict[Variant, Kernel] = {}
    line: Kernel | None = None
    for variant in _candidates(words, target, n, plan):
        if variant.kind == "line" and line is not None:
            kernels[variant] = rescheduled(line, variant.panels, variant.batch)
            continue
        kernels[variant] = narrow_kernel(library, w, target, variant, element, epilogue)
        if variant.kind == "line":
            line = kernels[variant]
    timers = {variant: partial(kernel.seconds, call, 1) for variant, kernel in kernels.items()}
    dense = Variant("dense")
    seconds, best = in_turns(timers, FINALISTS, (dense,))
    wanted = [v for v in best if plan in ("auto", v.kind)]
    found = min(wanted or best, key=lambda v: seconds[v])
    tried = sorted(((v.name, s) for v, s in seconds.items()), key=lambda row: row[1])
    return Choice(found, True, seconds[found], seconds.get(dense), "own", tuple(tried))
