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

from sparsecc.cpu.arrays import SLAB, VECTOR_COLUMNS, VECTOR_ROWS, Floats, aligned, dealt_rows
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

# Cycles of a step, whose values come from the second cache, and of a value that stands alone.
STEP, SINGLE = 2.35, 2.0
# Steps of a group over those of its longest row that are tried.
MORE = (1.0, 1.03, 1.06, 1.1, 1.15, 1.2, 1.3, 1.4, 1.6, 1.8, 2.1, 2.5)


@dataclass(frozen=True, eq=False)
class RoundArrays:
    tiles: int
    """Of columns, for scratch."""
    slabs: NDArray[Any]
    """[slabs + 1] of SLAB: of each its first group, and its first value that stands alone (`tile`)."""
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
    single_rows: NDArray[np.uint16]
    """Of the slab."""
    single_columns: NDArray[np.uint16]
    rows: NDArray[np.int32]
    """[groups * 16]; -1: none."""
    places: NDArray[np.uint16] | None
    """[M] Where the sum of each row stands, if 16 bits can say it."""


def blocks_of_step(steps: int) -> Indices:
    """[steps, 2] The blocks that each step reads."""
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
    left, m, most = held.copy(), held.shape[1], int(steps.max(initial=0))
    pairs = blocks_of_step(most)
    chances = np.zeros((most + 1, BLOCKS), np.int32)
    np.add.at(chances, (np.arange(1, most + 1)[:, None], pairs), 1)
    chances = chances.cumsum(0, dtype=np.int32)
    still = np.ascontiguousarray(chances[steps].T)
    taken = np.full((most, m), -1, np.int8)
    for step, (a, b) in enumerate(pairs.tolist()):
        of_a, of_b, live = left[a], left[b], steps > step
        first = of_a * still[b] >= of_b * still[a]
        take_a = live & (of_a > 0) & (first | (of_b == 0))
        take_b = live & (of_b > 0) & ~take_a
        of_a -= take_a
        of_b -= take_b
        still[a] -= 1
        still[b] -= 1
        taken[step, take_a] = a
        taken[step, take_b] = b
    return taken, left


def _steps_of(held: NDArray[np.int32], place: Indices, groups: int) -> Indices:
    """[groups] Steps that cost least, with the values that they leave. held: [BLOCKS, M]; place: [M]."""
    group = place // VECTOR_ROWS
    longest = np.zeros(groups, np.int64)
    np.maximum.at(longest, group, held.sum(0))
    best, least = np.zeros(groups, np.int64), np.bincount(group, held.sum(0), groups) * SINGLE
    for more in MORE:
        steps = np.ceil(longest * more / 2).astype(np.int64) * 2
        alone = np.bincount(group, _assign(held, steps[group])[1].sum(0), groups)
        cost = steps * STEP + alone * SINGLE
        better = cost < least
        best[better], least[better] = steps[better], cost[better]
        # More steps only pay while there is something to save.
        if (steps * STEP >= least).all():
            break
    return best


def round_arrays(w: Csr) -> RoundArrays:
    """Groups of 16 rows of like counts, in chunks of columns."""
    m, k = w.shape
    assert k <= ROUND_COLUMNS, "columns of single values are counted in 16 bits"
    counts = np.diff(w.indptr).astype(np.int64)
    start, rows, place = dealt_rows(counts, VECTOR_ROWS)
    groups, slabs = len(rows) // VECTOR_ROWS, len(start) - 1
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
    steps = np.zeros((chunks, groups), np.int64)
    found: list[
        tuple[Indices, Indices, Indices]
    ] = []  # values, their steps in their groups, and which of the pair
    for c in range(chunks):
        of_chunk = np.ascontiguousarray(held[:, c * BLOCKS : (c + 1) * BLOCKS].T.astype(np.int32))
        steps[c] = _steps_of(of_chunk, place, groups)
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
    step_at, six_at = (np.cumsum(a).reshape(a.shape) - a for a in (steps, sixes))
    values = aligned((int(steps.sum()), VECTOR_ROWS))
    # Without a value the zero of the closed block is taken.
    fields = np.full((int(sixes.sum()), SIX, VECTOR_ROWS), 15, np.uint32)
    alone = np.ones(w.nnz, bool)
    for c, (entry, step, block) in enumerate(found):
        group, lane = np.divmod(place[row[entry]], VECTOR_ROWS)
        values[step_at[c, group] + step, lane] = w.data[entry]
        fields[six_at[c, group] + step // SIX, step % SIX, lane] = (
            inside[entry] - starts[block] + 16 * (block >= CLOSED)
        )
        alone[entry] = False
    picks = aligned((len(fields), VECTOR_ROWS), np.uint32)
    for s in range(SIX):
        picks |= fields[:, s] << np.uint32(5 * s)
    begin = np.zeros((chunks, slabs), BEGIN)
    begin["step"], begin["six"] = (a[:, start[:-1]] if groups else 0 for a in (step_at, six_at))
    # Those of a row stand apart, or each would wait for the sum of the last.
    rest = np.flatnonzero(alone)
    slab = np.searchsorted(start, place[row[rest]] // VECTOR_ROWS, side="right") - 1
    order = np.lexsort((column[rest], slab))
    rest, slab = rest[order], slab[order]
    singles = aligned(len(rest))
    singles[:] = w.data[rest]
    single_rows = (place[row[rest]] - start[slab] * VECTOR_ROWS).astype(np.uint16)
    begin_at = np.zeros(slabs + 1, SLAB)
    begin_at["group"] = start
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
        single_rows,
        column[rest].astype(np.uint16),
        rows,
        place.astype(np.uint16) if len(rows) <= 1 << 16 else None,
    )
