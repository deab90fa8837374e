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
VECTOR_GROUPS = 16  # SC_VECTOR_GROUPS
SLICE_ROWS = 8  # SC_SLICE_ROWS
SLICED_COLUMNS = 1 << 16  # of W, at most: a column of a slice has 16 bits
ALIGNMENT = 64

ENTRY = np.dtype([("value", np.float32), ("column", np.uint32)])
SLAB = np.dtype([(name, np.int64) for name in ("group", "stretch", "tile", "step")])
STRETCH = np.dtype([("steps", np.int32), ("tiles", np.int32)])
TILE = np.dtype([("group", np.uint16), ("tile", np.uint16)])


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
    """Columns of a block; 0, of one block: X is not packed, rows run one by one."""
    blocks: int
    begin: Indices
    """[blocks, M + 1]"""
    entries: NDArray[Any]
    rows: NDArray[np.int32]
    """[blocks, M]"""


def has_few_values(w: Csr) -> bool:
    """Fewer than one for each row of each block of panels."""
    return w.nnz < w.shape[0] * -(-w.shape[1] // CSR_COLUMNS)


def csr_arrays(w: Csr, width: int | None = None, by_rows: bool = False) -> CsrArrays:
    """Blocks of `width` columns; in each the rows of a segment of 64 by falling count: loop exits predict.

    Without a width blocks are as wide as panels of X fit the first cache; of fewer entries than one for each
    row of each block, or by rows, there is one block, and no panels.
    """
    m, k = w.shape
    direct = by_rows or (width is None and has_few_values(w))
    width = max(1, k) if direct else width or CSR_COLUMNS
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
    return CsrArrays(0 if direct else width, blocks, begin, entries, rows.astype(np.int32))


def dealt_rows(counts: Indices, height: int) -> tuple[Indices, NDArray[np.int32], Indices]:
    """Groups of `height` rows of like counts, dealt to all slabs, which threads share; long ones are first.

    counts: [M] values. Gives the first group of each slab [slabs + 1], rows by place [groups * height] (-1:
    none) and places by row [M].
    """
    m = len(counts)
    groups, slabs = -(-m // height), -(-m // (VECTOR_ROWS * VECTOR_GROUPS))
    dealt = np.arange(groups) % slabs
    start = np.concatenate([[0], np.cumsum(np.bincount(dealt, minlength=slabs))])
    group_at = start[dealt] + np.arange(groups) // slabs
    by_count = np.argsort(-counts, kind="stable")
    at = group_at[np.arange(m) // height] * height + np.arange(m) % height
    rows = np.full(groups * height, -1, np.int32)
    rows[at] = by_count
    place = np.empty(m, np.int64)
    place[by_count] = at
    return start, rows, place


@dataclass(frozen=True, eq=False)
class VectorArrays:
    """Tiles of 16 rows and 32 columns that hold something: of sc_vector in sc.h, array by array."""

    tiles: int
    """Of columns."""
    slabs: NDArray[Any]
    """[slabs + 1] of SLAB: of each its first group, stretch, tile and step."""
    stretches: NDArray[Any]
    places: NDArray[Any]
    """Of each tile: the group of its slab, and which columns."""
    values: Floats
    """[steps, 16]"""
    columns: NDArray[np.uint8]
    """[steps, 16] Inside the tile."""
    masks: NDArray[np.uint16]
    rows: NDArray[np.int32]
    """[groups * 16]; -1: none."""

    @property
    def fill(self) -> float:
        """Values / places for values."""
        places = self.values.size
        return float(np.unpackbits(self.masks.view(np.uint8)).sum()) / places if places else 1.0


def vector_arrays(w: Csr, full_from: int = VECTOR_COLUMNS + 1) -> VectorArrays:
    """Rows of like counts share a tile: few of its places are empty.

    Tiles of a slab, which are those of up to 16 groups of rows, stand by their number of steps, so that no
    loop ends where a processor does not expect it; of equally many, neighbours add to different groups. Tiles
    of `full_from` steps and more have one for each column, in their order.
    """
    m, k = w.shape
    counts = np.diff(w.indptr).astype(np.int64)
    tiles = -(-k // VECTOR_COLUMNS)
    assert tiles <= 1 << 16, "columns of a tile are counted in 16 bits"
    start, rows, place = dealt_rows(counts, VECTOR_ROWS)
    groups, slabs = len(rows) // VECTOR_ROWS, len(start) - 1
    row = np.repeat(np.arange(m), counts)
    column = w.indices.astype(np.int64)
    # Which of its row's values in the tile a nonzero is: entries of a row are sorted by column.
    run = row * tiles + column // VECTOR_COLUMNS
    starts = np.flatnonzero(np.concatenate([[True], run[1:] != run[:-1]])) if len(run) else np.zeros(0, int)
    ordinal = np.arange(len(run)) - np.repeat(starts, np.diff(np.append(starts, len(run))))
    where = place[row] // VECTOR_ROWS * tiles + column // VECTOR_COLUMNS
    longest = np.zeros(groups * tiles, np.int64)
    np.maximum.at(longest, where, ordinal + 1)
    longest[longest >= full_from] = VECTOR_COLUMNS
    used = np.flatnonzero(longest)
    slab = np.searchsorted(start, used // tiles, side="right") - 1
    order = np.lexsort((used // tiles, used % tiles, longest[used], slab))
    used, slab = used[order], slab[order]
    count = longest[used]
    ends = np.concatenate([[0], np.cumsum(count)])
    first = np.zeros(groups * tiles, np.int64)
    first[used] = ends[:-1]
    steps = int(ends[-1])
    values, columns = aligned((steps, VECTOR_ROWS)), aligned((steps, VECTOR_ROWS), np.uint8)
    masks = np.zeros(steps, np.uint16)
    inside, lane = column % VECTOR_COLUMNS, place[row] % VECTOR_ROWS
    step = first[where] + np.where(longest[where] >= full_from, inside, ordinal)
    values[step, lane] = w.data
    columns[step, lane] = inside
    np.bitwise_or.at(masks, step, (1 << lane).astype(np.uint16))
    places = np.zeros(len(used), TILE)
    places["group"], places["tile"] = used // tiles - start[slab], used % tiles
    changes = (count[1:] != count[:-1]) | (slab[1:] != slab[:-1])
    new = np.flatnonzero(np.concatenate([[True], changes])) if len(used) else np.zeros(0, int)
    stretches = np.zeros(len(new), STRETCH)
    stretches["steps"], stretches["tiles"] = count[new], np.diff(np.append(new, len(used)))
    begin = np.zeros(slabs + 1, SLAB)
    begin["group"] = start
    begin["stretch"] = np.searchsorted(slab[new], np.arange(slabs + 1))
    begin["tile"] = np.searchsorted(slab, np.arange(slabs + 1))
    begin["step"] = ends[begin["tile"]]
    return VectorArrays(tiles, begin, stretches, places, values, columns, masks, rows)


@dataclass(frozen=True, eq=False)
class SlicedArrays:
    """Slices of 8 rows with any columns: of sc_vector in sc.h, array by array."""

    tiles: int
    """Of columns, for scratch."""
    slabs: NDArray[Any]
    """[slabs + 1] of SLAB: of each its first slice (`group`), stretch and step; no tile."""
    stretches: NDArray[Any]
    """Slices (`tiles`) of equally many steps."""
    values: Floats
    """[steps, 8]"""
    columns: NDArray[np.uint16]
    """[steps, 8]"""
    masks: NDArray[np.uint16]
    rows: NDArray[np.int32]
    """[slices * 8]; -1: none."""


def sliced_arrays(w: Csr) -> SlicedArrays:
    """Sliced ELLPACK with rows sorted by count (SELL-C-sigma, Kreutzer et al., 2014), dealt to slabs.

    Rows of a slice are of like counts, so that few places are empty whichever columns they have.
    """
    m, k = w.shape
    assert k <= SLICED_COLUMNS, "columns of a slice are counted in 16 bits"
    counts = np.diff(w.indptr).astype(np.int64)
    start, rows, place = dealt_rows(counts, SLICE_ROWS)
    slices, slabs = len(rows) // SLICE_ROWS, len(start) - 1
    steps = np.zeros(slices, np.int64)
    np.maximum.at(steps, place // SLICE_ROWS, counts)
    first = np.concatenate([[0], np.cumsum(steps)])
    row = np.repeat(np.arange(m), counts)
    ordinal = np.arange(w.nnz) - np.repeat(w.indptr[:-1].astype(np.int64), counts)
    step, lane = first[place[row] // SLICE_ROWS] + ordinal, place[row] % SLICE_ROWS
    values = aligned((int(first[-1]), SLICE_ROWS))
    columns = aligned(values.shape, np.uint16)
    masks = np.zeros(len(values), np.uint16)
    values[step, lane] = w.data
    columns[step, lane] = w.indices
    np.bitwise_or.at(masks, step, (1 << lane).astype(np.uint16))
    slab = np.repeat(np.arange(slabs), np.diff(start))
    changes = (steps[1:] != steps[:-1]) | (slab[1:] != slab[:-1])
    new = np.flatnonzero(np.concatenate([[True], changes])) if slices else np.zeros(0, int)
    stretches = np.zeros(len(new), STRETCH)
    stretches["steps"], stretches["tiles"] = steps[new], np.diff(np.append(new, slices))
    begin = np.zeros(slabs + 1, SLAB)
    begin["group"] = start
    begin["stretch"] = np.searchsorted(slab[new], np.arange(slabs + 1))
    begin["step"] = first[start]
    return SlicedArrays(-(-k // VECTOR_COLUMNS), begin, stretches, values, columns, masks, rows)


def dense_array(w: Csr, height: int) -> Floats:
    """[panels of rows, K, height], zeros beyond M."""
    m, k = w.shape
    panels = -(-m // height)
    padded = np.zeros((panels * height, k), np.float32)
    row = np.repeat(np.arange(m), np.diff(w.indptr))
    padded[row, w.indices] = w.data
    return _copied(np.ascontiguousarray(padded.reshape(panels, height, k).transpose(0, 2, 1)))
