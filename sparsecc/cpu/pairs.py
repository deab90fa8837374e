"""A matrix for one position whose steps each read any two blocks of X: arrays of sc_vector in sc.h.

A step multiplies at most one value of each of 16 rows. Tiles of fixed columns leave many of its places empty,
for rows of a group seldom hold equally many values there. Here each step has a pair of blocks of its own, so
that a row which has nothing in one goes on in the other, and all rows of a group end at about the same step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sparsecc.cpu.arrays import SLAB, STRETCH, VECTOR_COLUMNS, VECTOR_ROWS, Floats, aligned, dealt_rows
from sparsecc.cpu.plan import Indices
from sparsecc.importers.matrix import Csr

PAIR_COLUMNS = 16  # SC_PAIR_COLUMNS: of a block
PAIRED_COLUMNS = 1 << 16  # of W, at most: the first column of a block has 16 bits
THERE = 128  # SC_THERE: bit of a column whose row has a value in the step

Shared = Literal[1, 2]
"""Steps that read the same pair of blocks."""

# What the rows of a group with the most values left count more than others: twice for each two values.
URGENCY = 0.5
# What all rows count at least.
LEAST = 0.05


@dataclass(frozen=True, eq=False)
class PairedArrays:
    tiles: int
    """Of columns, for scratch."""
    slabs: NDArray[Any]
    """[slabs + 1] of SLAB: of each its first group, stretch and step; no tile."""
    stretches: NDArray[Any]
    """Groups (`tiles`) of equally many steps."""
    values: Floats
    """[steps, 16]"""
    columns: NDArray[np.uint8]
    """[steps, 16] In the first block, or 16 and more, in the second; THERE where the row has a value."""
    pairs: NDArray[np.uint16]
    """[steps / shared, 2] First columns of the two blocks."""
    rows: NDArray[np.int32]
    """[groups * 16]; -1: none."""


@dataclass(frozen=True, eq=False)
class _Runs:
    """Steps that share a pair, group by group."""

    group: Indices
    pairs: Indices
    """[runs, 2] Blocks."""
    entries: Indices
    """[runs, shared, 16] Which value of the matrix; -1: none."""
    second: NDArray[np.bool_]
    """[runs, shared, 16] Whether it is of the second block."""


def _schedule(left: NDArray[np.float32], entry: Indices, shared: Shared) -> _Runs:
    """Greedily, for all groups at once: the block from which most rows go on, and the best one beside it.

    Rows that have the most values left count most, for they say how many steps there are. left: [groups, 16,
    blocks] values; entry: the first of each. Both are used up.
    """
    kept: list[tuple[Indices, Indices, Indices, Indices, NDArray[np.bool_]]] = []
    live = np.arange(len(left))
    while True:
        total = left[live].sum(2)
        going = total.any(1)
        live, total = live[going], total[going]
        if not len(live):
            break
        weight = np.exp2((total - total.max(1, keepdims=True)) * URGENCY) + LEAST * (total > 0)
        capped = np.minimum(left[live], shared)
        first = (weight[:, None] @ capped)[:, 0].argmax(1)
        of_first = np.take_along_axis(capped, first[:, None, None], 2)
        np.put_along_axis(capped, first[:, None, None], 0, 2)
        both = np.minimum(of_first + capped, shared)
        second = (weight[:, None] @ both)[:, 0].argmax(1)
        entries = np.full((len(live), shared, VECTOR_ROWS), -1)
        in_second = np.zeros(entries.shape, bool)
        for step in range(shared):
            a, b = left[live, :, first], left[live, :, second]
            take = a >= np.maximum(b, 1)
            other = (b > 0) & ~take
            entries[:, step] = np.where(take, entry[live, :, first], entries[:, step])
            entries[:, step] = np.where(other, entry[live, :, second], entries[:, step])
            in_second[:, step] = other
            left[live, :, first] -= take
            entry[live, :, first] += take
            left[live, :, second] -= other
            entry[live, :, second] += other
        kept.append((live, first, second, entries, in_second))
    if not kept:
        none = np.zeros((0, shared, VECTOR_ROWS), np.int64)
        return _Runs(none[:, 0, 0], none[:, 0, :2], none, none.astype(bool))
    group, first, second, entries, in_second = (np.concatenate(each) for each in zip(*kept, strict=True))
    # Steps of a group may stand in any order; in this one X passes through the first cache once.
    order = np.lexsort((second, first, group))
    return _Runs(group[order], np.stack([first, second], 1)[order], entries[order], in_second[order])


def paired_arrays(w: Csr, shared: Shared) -> PairedArrays:
    """Steps of groups of 16 rows of like counts. shared: of many values, steps may well share a pair."""
    m, k = w.shape
    assert k <= PAIRED_COLUMNS, "columns of a pair are counted in 16 bits"
    counts = np.diff(w.indptr).astype(np.int64)
    start, rows, place = dealt_rows(counts, VECTOR_ROWS)
    groups, slabs, blocks = len(rows) // VECTOR_ROWS, len(start) - 1, max(1, -(-k // PAIR_COLUMNS))
    block = np.repeat(np.arange(m), counts) * blocks + w.indices // PAIR_COLUMNS
    held = np.bincount(block, minlength=m * blocks)
    left, entry = np.zeros((len(rows), blocks), np.float32), np.zeros((len(rows), blocks), np.int64)
    left[place] = held.reshape(m, blocks)
    entry[place] = (np.cumsum(held) - held).reshape(m, blocks)
    cube = groups, VECTOR_ROWS, blocks
    runs = _schedule(left.reshape(cube), entry.reshape(cube), shared)
    entries = runs.entries.reshape(-1, VECTOR_ROWS)
    there = entries >= 0
    values, columns = aligned(entries.shape), aligned(entries.shape, np.uint8)
    values[there] = w.data[entries[there]]
    inside = w.indices[entries[there]] % PAIR_COLUMNS + PAIR_COLUMNS * runs.second.reshape(there.shape)[there]
    columns[there] = inside + THERE
    pairs = aligned(runs.pairs.shape, np.uint16)
    pairs[...] = runs.pairs * PAIR_COLUMNS
    steps = shared * np.bincount(runs.group, minlength=groups)
    slab = np.repeat(np.arange(slabs), np.diff(start))
    new = np.flatnonzero(np.concatenate([[True], (steps[1:] != steps[:-1]) | (slab[1:] != slab[:-1])]))
    stretches = np.zeros(len(new), STRETCH)
    stretches["steps"], stretches["tiles"] = steps[new], np.diff(np.append(new, groups))
    begin = np.zeros(slabs + 1, SLAB)
    begin["group"] = start
    begin["stretch"] = np.searchsorted(slab[new], np.arange(slabs + 1))
    begin["step"] = np.concatenate([[0], np.cumsum(steps)])[start]
    return PairedArrays(-(-k // VECTOR_COLUMNS), begin, stretches, values, columns, pairs, rows)
