"""A matrix in the layouts that the kernels of runtime/cpu read (sc.h), as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.cpu.plan import Indices, LinePlan
from sparsecc.importers.matrix import Csr

Floats = NDArray[np.float32]

CSR_ROWS = 64  # SC_CSR_ROWS: rows that are sorted together
CSR_COLUMNS = 128  # of a block; four vectors of so many rows of X fit the first cache
VECTOR_ROWS = 16  # SC_VECTOR_ROWS
VECTOR_COLUMNS = 32  # SC_VECTOR_COLUMNS
ALIGNMENT = 64

ENTRY = np.dtype([("value", np.float32), ("column", np.uint32)])
STEP = np.dtype([("value", np.float32, VECTOR_ROWS), ("column", np.uint8, VECTOR_ROWS)])


def aligned(shape: int | tuple[int, ...], dtype: Any = np.float32) -> NDArray[Any]:
    """Zeros at an address that is a multiple of 64, as vectors and lines of the cache like it."""
    kind = np.dtype(dtype)
    size = int(np.prod(shape)) * kind.itemsize
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    first = -raw.ctypes.data % ALIGNMENT
    return raw[first : first + size].view(kind).reshape(shape)


def _copied(values: NDArray[Any]) -> NDArray[Any]:
    out = aligned(values.shape, values.dtype)
    out[...] = values
    return out


@dataclass(frozen=True, eq=False)
class LineArrays:
    """What straight-line code reads: per chunk its values, and in the last block the bias of its rows."""

    values: Floats
    first: Indices
    """[chunks] where they begin."""
    rows: NDArray[np.int32]
    """[M] Those of the last block, group by group."""


def line_starts(plan: LinePlan, bias: bool) -> Indices:
    """[chunks + 1] Where each chunk's values begin; a bias stands after those of the last block."""
    counts = np.diff(plan.ends)
    if bias:
        heights = [len(plan.rows_of(chunk)) for chunk in range(plan.groups)]
        counts[len(counts) - plan.groups :] += heights
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def line_arrays(plan: LinePlan, data: Floats, bias: Floats | None) -> LineArrays:
    """The values in the order they are read. data: those of the CSR arrays."""
    starts = line_starts(plan, bias is not None)
    values = aligned(int(starts[-1]))
    moved = np.repeat(starts[:-1] - plan.ends[:-1], np.diff(plan.ends))
    values[np.arange(plan.nnz) + moved] = data[plan.order]
    if bias is not None:
        taken = np.ones(len(values), bool)
        taken[np.arange(plan.nnz) + moved] = False
        values[taken] = bias[plan.rows[-1]]
    return LineArrays(values, starts[:-1], plan.rows[-1].astype(np.int32))


@dataclass(frozen=True, eq=False)
class CsrArrays:
    width: int
    blocks: int
    begin: Indices
    """[blocks, M + 1]"""
    entries: NDArray[Any]
    rows: NDArray[np.int32]
    """[blocks, M]"""


def csr_arrays(w: Csr, width: int = CSR_COLUMNS) -> CsrArrays:
    """Blocks of `width` columns; in each the rows of a segment of 64 by falling count: loop exits predict."""
    m, k = w.shape
    blocks = max(1, -(-k // width))
    row = np.repeat(np.arange(m), np.diff(w.indptr))
    column = w.indices.astype(np.int64)
    block = column // width
    counts = np.bincount(block * m + row, minlength=blocks * m).reshape(blocks, m)
    segment = np.arange(m) // CSR_ROWS
    # Sorting by segment first keeps each row in its own, which one thread computes in all blocks.
    key = segment[None, :] * (width + 1) + (width - counts)
    rows = np.argsort(key, axis=1, kind="stable")
    place = np.empty_like(rows)
    np.put_along_axis(place, rows, np.broadcast_to(np.arange(m), rows.shape), axis=1)
    order = np.argsort(block * m + place[block, row], kind="stable")
    entries = aligned(w.nnz, ENTRY)
    entries["value"] = w.data[order]
    entries["column"] = (column % width)[order]
    sizes = np.take_along_axis(counts, rows, axis=1)
    before = np.concatenate([[0], np.cumsum(counts.sum(1))])[:-1]
    begin = np.zeros((blocks, m + 1), np.int64)
    begin[:, 1:] = np.cumsum(sizes, axis=1)
    begin += before[:, None]
    return CsrArrays(width, blocks, begin, entries, rows.astype(np.int32))


@dataclass(frozen=True, eq=False)
class VectorArrays:
    tiles: int
    begin: Indices
    """[groups, tiles + 1]"""
    steps: NDArray[Any]
    masks: NDArray[np.uint16]
    rows: NDArray[np.int32]

    @property
    def fill(self) -> float:
        """Values / places for values."""
        places = len(self.steps) * VECTOR_ROWS
        return float(np.unpackbits(self.masks.view(np.uint8)).sum()) / places if places else 1.0


def vector_arrays(w: Csr) -> VectorArrays:
    """Tiles of 16 rows and 32 columns. Rows of like counts share a tile: few of its places are empty."""
    m, k = w.shape
    counts = np.diff(w.indptr).astype(np.int64)
    rows = np.argsort(-counts, kind="stable")
    place = np.empty(m, np.int64)
    place[rows] = np.arange(m)
    row = np.repeat(np.arange(m), counts)
    column = w.indices.astype(np.int64)
    groups, tiles = -(-m // VECTOR_ROWS), -(-k // VECTOR_COLUMNS)
    tile = column // VECTOR_COLUMNS
    # Which of its row's values in the tile a nonzero is: entries of a row are sorted by column.
    run = row * tiles + tile
    starts = np.flatnonzero(np.concatenate([[True], run[1:] != run[:-1]])) if len(run) else np.zeros(0, int)
    ordinal = np.arange(len(run)) - np.repeat(starts, np.diff(np.append(starts, len(run))))
    where = place[row] // VECTOR_ROWS * tiles + tile
    longest = np.zeros(groups * tiles, np.int64)
    np.maximum.at(longest, where, ordinal + 1)
    ends = np.cumsum(longest)
    first = ends - longest
    begin = np.empty((groups, tiles + 1), np.int64)
    begin[:, :-1] = first.reshape(groups, tiles)
    begin[:, -1] = ends.reshape(groups, tiles)[:, -1]
    steps = aligned(int(ends[-1]) if len(ends) else 0, STEP)
    step, lane = first[where] + ordinal, place[row] % VECTOR_ROWS
    steps["value"][step, lane] = w.data
    steps["column"][step, lane] = column % VECTOR_COLUMNS
    masks = np.zeros(len(steps), np.uint16)
    np.bitwise_or.at(masks, step, (1 << lane).astype(np.uint16))
    return VectorArrays(tiles, begin, steps, masks, rows.astype(np.int32))


def dense_array(w: Csr, height: int) -> Floats:
    """[panels of rows, K, height], zeros beyond M."""
    m, k = w.shape
    panels = -(-m // height)
    padded = np.zeros((panels * height, k), np.float32)
    row = np.repeat(np.arange(m), np.diff(w.indptr))
    padded[row, w.indices] = w.data
    return _copied(np.ascontiguousarray(padded.reshape(panels, height, k).transpose(0, 2, 1)))
