"""A matrix for one position whose steps read the same blocks of X for all rows: sc_rounds in sc.h.

A chunk of up to 512 columns is cut to 33 blocks. Each step has two of them: a *closed* block, of 15 columns
and a zero, and an *open* one, of 16; a row takes a value from one, or the zero. Which blocks a step has is
the same for all groups of rows, so that X stays in registers, code knows which of them a step reads, and
only values and picks of five bits are read. Rounds take the closed blocks in turn and the open ones by
another stride each time: every block has many others beside it, and what finds no place in one step does in
the next. Groups run as many steps as their rows are worth; the few values that are left stand alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.cpu.arrays import SLAB, VECTOR_COLUMNS, VECTOR_GROUPS, VECTOR_ROWS, Floats, aligned
from sparsecc.cpu.plan import Indices
from sparsecc.importers.matrix import Csr

CHUNK = 512
CLOSED, OPEN = 16, 17  # SC_ROUND_CLOSED, and what SC_ROUND_BLOCKS has beside them
BLOCKS = CLOSED + OPEN
FULL = np.array([15] * CLOSED + [16] * OPEN)
"""Columns of each block of a full chunk."""
STRIDES = ((1, 0), (3, 5), (7, 2), (2, 9), (5, 1), (11, 4))
"""Of each round: closed block i goes with open block (a i + b) modulo 17."""
STEPS = CLOSED * len(STRIDES)  # SC_ROUND_STEPS
SIX = 6
ROUND_COLUMNS = 1 << 16  # of W, at most: of a value that stands alone 16 bits are its column

BEGIN = np.dtype([("step", np.int64), ("six", np.int64)])

# A slab takes about a microsecond at least: threads share slabs, and each sorts its rows on its own. Its part
# of Y, whose rows are written in any order, stays in the first cache.
SLAB_STEPS, SLAB_GROUPS = 1500, 64

# Cycles of a step, whose values come from the second cache, and of a value that stands alone: 2 and more, for
# each waits for the last one of its row.
STEP, SINGLE = 2.35, 2.5
# So many steps fewer than a row has values, and all more, are tried.
FEWER = 8


@dataclass(frozen=True, eq=False)
class RoundArrays:
    tiles: int
    """Of columns, for scratch."""
    slabs: NDArray[Any]
    """[slabs + 1] of SLAB: of each its first group, the first of its last ones, which have no steps in the
    only chunk (`stretch`), and its first value that stands alone (`tile`)."""
    columns: int
    """Of a chunk."""
    starts: NDArray[np.uint16]
    """[BLOCKS + 1] First column of each block in its chunk."""
    steps: NDArray[np.uint16]
    """[chunks, groups] Even numbers."""
    begin: NDArray[Any]
    """[chunks, slabs] of BEGIN."""
    values: Floats
    """[steps, 16]"""
    picks: NDArray[np.uint32]
    """[vectors, 16] Of six steps, five bits each, the lowest first."""
    singles: Floats
    single_rows: NDArray[np.int32]
    single_columns: NDArray[np.uint16]
    rows: NDArray[np.int32]
    """[groups * 16]; where the last group has less than 16 rows, its first one again."""


def blocks_of_step(steps: int) -> Indices:
    """[steps, 2] The blocks that each step reads. The last step of a group is number 0, that before it 1."""
    step = np.arange(steps)
    stride, added = np.array(STRIDES).T[:, step % STEPS // CLOSED]
    closed = step % CLOSED
    return np.stack([closed, CLOSED + (stride * closed + added) % OPEN], 1)


def _widths(columns: int) -> Indices:
    """Columns of each block of a chunk: in proportion to those of a full one."""
    share = FULL * columns / CHUNK
    widths = np.floor(share).astype(np.int64)
    widths[np.argsort(widths - share, kind="stable")[: columns - widths.sum()]] += 1
    return widths


def _assign(held: NDArray[np.int32], steps: Indices) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
    """Greedily, all rows at once: a step takes from the block with more values for each chance left.

    held: [BLOCKS, M] values of a chunk; steps: [M] of each row. Gives the block from which each step takes
    [steps, M], -1: none; and what is left of `held`.
    """
    left, most = held.copy(), int(steps.max(initial=0))
    chances = np.zeros(BLOCKS, np.int32)
    pairs = blocks_of_step(most)
    np.add.at(chances, pairs, 1)
    taken = np.full((most, held.shape[1]), -1, np.int8)
    for step in range(most - 1, -1, -1):
        a, b = pairs[step].tolist()
        of_a, of_b, live = left[a], left[b], steps > step
        first = of_a * chances[b] >= of_b * chances[a]
        take_a = live & (of_a > 0) & (first | (of_b == 0))
        take_b = live & (of_b > 0) & ~take_a
        of_a -= take_a
        of_b -= take_b
        chances[[a, b]] -= 1
        taken[step, take_a] = a
        taken[step, take_b] = b
    return taken, left


def _horizons(most: int) -> Indices:
    """Numbers of steps that are tried: even ones, all small ones, then some 2 % apart."""
    found = [0]
    while found[-1] < most:
        found.append(found[-1] + max(2, found[-1] // 100 * 2))
    return np.array(found)


def _left(held: NDArray[np.int32], horizons: Indices) -> NDArray[np.int32]:
    """[horizons, M] Values that find no place if a row has so many steps. held: [BLOCKS, M] of a chunk."""
    counts = held.sum(0, dtype=np.int32)
    # Far fewer steps, which are not looked at, are nearly all used.
    left = np.maximum(counts - horizons[:, None].astype(np.int32), 0)
    least, fewest = counts * SINGLE, counts - FEWER
    for i in range(1, len(horizons)):
        cost = horizons[i] * STEP / VECTOR_ROWS
        # More steps than are worth it for the row alone leave what they left before.
        ends = (left[i - 1] == 0) | (cost >= least)
        left[i, ends] = left[i - 1, ends]
        at = np.flatnonzero(~ends & (horizons[i] >= fewest))
        if len(at):
            steps = np.full(len(at), horizons[i])
            left[i, at] = _assign(np.ascontiguousarray(held[:, at]), steps)[1].sum(0)
        least = np.minimum(least, cost + left[i] * SINGLE)
    return left


def _slabs(needed: Indices) -> Indices:
    """[slabs + 1] The first group of each slab. needed: [M] steps of rows; all slabs have about as many."""
    groups = -(-len(needed) // VECTOR_ROWS)
    steps = int(needed.sum()) // VECTOR_ROWS
    slabs = min(max(steps // SLAB_STEPS, -(-groups // SLAB_GROUPS)), -(-groups // VECTOR_GROUPS))
    # A row is written, too.
    work = np.bincount(np.arange(len(needed)) // VECTOR_ROWS, needed + 1, groups)
    ends = np.zeros(groups + 1)
    np.cumsum(work, out=ends[1:])
    each = np.arange(slabs + 1)
    equal = np.searchsorted(ends, np.linspace(0, float(ends[-1]), slabs + 1))
    # None is empty.
    return np.minimum(np.maximum.accumulate(equal - each) + each, groups - slabs + each)


def _grouped(chunks: list[NDArray[np.int32]]) -> tuple[Indices, Indices, Indices, Indices]:
    """Groups of rows that need equally many steps, which rows of equally many values do not.

    Those of a slab follow each other, or lines of Y would leave the cache before all their rows are written.
    chunks: of each what rows hold of its blocks [BLOCKS, M]. Gives the first group of each slab, rows by
    place [M] and places by row [M], and the steps of each group [chunks, groups] that cost least, with the
    values that they leave.
    """
    longest = max(int(held.sum(0).max(initial=0)) for held in chunks)
    horizons = _horizons(int(longest * SINGLE / STEP * VECTOR_ROWS))
    needed, lefts = np.zeros(chunks[0].shape[1], np.int64), [_left(held, horizons) for held in chunks]
    for left in lefts:
        needed += horizons[(horizons[:, None] * STEP / VECTOR_ROWS + left * SINGLE).argmin(0)]
    m, start = len(needed), _slabs(needed)
    groups = int(start[-1])
    rows = np.lexsort((-needed, np.searchsorted(start * VECTOR_ROWS, np.arange(m), side="right")))
    place = np.empty(m, np.int64)
    place[rows] = np.arange(m)
    steps = np.zeros((len(chunks), groups), np.int64)
    for c, left in enumerate(lefts):
        alone = np.zeros((len(horizons), groups * VECTOR_ROWS), np.int32)
        alone[:, place] = left
        alone = alone.reshape(len(horizons), groups, VECTOR_ROWS).sum(2)
        steps[c] = horizons[(horizons[:, None] * STEP + alone * SINGLE).argmin(0)]
    return start, rows, place, steps


def round_arrays(w: Csr) -> RoundArrays:
    """Groups of 16 rows, in chunks of columns."""
    m, k = w.shape
    assert k <= ROUND_COLUMNS, "columns of single values are counted in 16 bits"
    counts = np.diff(w.indptr).astype(np.int64)
    chunks = max(1, -(-k // CHUNK))
    columns = max(1, -(-k // chunks))
    widths = _widths(columns)
    starts = np.concatenate([[0], np.cumsum(widths)])
    block_at = np.repeat(np.arange(BLOCKS), widths)
    row, column = np.repeat(np.arange(m), counts), w.indices.astype(np.int64)
    chunk, inside = column // columns, column % columns
    block = chunk * BLOCKS + block_at[inside]
    held = np.bincount(row * (chunks * BLOCKS) + block, minlength=m * chunks * BLOCKS).reshape(m, -1)
    first = w.indptr[:-1, None].astype(np.int64) + np.cumsum(held, 1) - held
    of_chunks = [
        np.ascontiguousarray(held[:, c * BLOCKS : (c + 1) * BLOCKS].T.astype(np.int32)) for c in range(chunks)
    ]
    start, rows, place, steps = _grouped(of_chunks)
    groups, slabs = int(start[-1]), len(start) - 1
    found: list[
        tuple[Indices, Indices, Indices]
    ] = []  # values, their steps in their groups, and their blocks
    for c, of_chunk in enumerate(of_chunks):
        taken, _ = _assign(of_chunk, steps[c, place // VECTOR_ROWS])
        step, at = np.nonzero(taken >= 0)
        block = taken[step, at].astype(np.int64)
        # Values of a row and block are taken in the order they stand.
        order = np.lexsort((step, block, at))
        step, at, block = step[order], at[order], block[order]
        run = at * BLOCKS + block
        new = np.flatnonzero(np.concatenate([[True], run[1:] != run[:-1]])) if len(run) else run
        ordinal = np.arange(len(run)) - np.repeat(new, np.diff(np.append(new, len(run))))
        found.append((first[at, c * BLOCKS + block] + ordinal, step, block))
    sixes = -(-steps // SIX)
    step_end, six_end = (np.cumsum(a).reshape(a.shape) for a in (steps, sixes))
    values = aligned((int(steps.sum()), VECTOR_ROWS))
    # Without a value the zero of the closed block is taken.
    fields = np.full((int(sixes.sum()), SIX, VECTOR_ROWS), 15, np.uint32)
    alone = np.ones(w.nnz, bool)
    for c, (entry, step, block) in enumerate(found):
        group, lane = np.divmod(place[row[entry]], VECTOR_ROWS)
        values[step_end[c, group] - 1 - step, lane] = w.data[entry]
        fields[six_end[c, group] - 1 - step // SIX, step % SIX, lane] = (
            inside[entry] - starts[block] + 16 * (block >= CLOSED)
        )
        alone[entry] = False
    picks = aligned((len(fields), VECTOR_ROWS), np.uint32)
    for s in range(SIX):
        picks |= fields[:, s] << np.uint32(5 * s)
    begin = np.zeros((chunks, slabs), BEGIN)
    if groups:
        begin["step"], begin["six"] = (step_end - steps)[:, start[:-1]], (six_end - sixes)[:, start[:-1]]
    # Those of a row stand apart, or each would wait for the sum of the last.
    rest = np.flatnonzero(alone)
    slab = np.searchsorted(start, place[row[rest]] // VECTOR_ROWS, side="right") - 1
    order = np.lexsort((column[rest], slab))
    rest, slab = rest[order], slab[order]
    singles = aligned(len(rest))
    singles[:] = w.data[rest]
    every = np.repeat(rows[::VECTOR_ROWS], VECTOR_ROWS)
    every[:m] = rows
    begin_at = np.zeros(slabs + 1, SLAB)
    begin_at["group"] = start
    # The last groups without steps are not run. What other chunks have for them has to be written.
    if groups:
        used = np.where((steps[0] > 0) | (chunks > 1), np.arange(1, groups + 1), 0)
        begin_at["stretch"][:-1] = np.maximum(start[:-1], np.maximum.reduceat(used, start[:-1]))
    begin_at["tile"] = np.searchsorted(slab, np.arange(slabs + 1))
    return RoundArrays(
        -(-k // VECTOR_COLUMNS),
        begin_at,
        columns,
        starts.astype(np.uint16),
        steps.astype(np.uint16),
        begin,
        values,
        picks,
        singles,
        row[rest].astype(np.int32),
        column[rest].astype(np.uint16),
        every.astype(np.int32),
    )
