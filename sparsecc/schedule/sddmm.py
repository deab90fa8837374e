"""Schedules of products with a mask on tensor units: what is computed when, what lies where, what it costs.

The output is cut to a grid of blocks of rows by panels of column tiles. A *piece* is a box of needed unit
cells inside one field of the grid; a *stage* is all pieces of a field that have the same columns. Every stage
reads one block of rows of A and one panel of B. These stay in the scratchpad for other stages as long as
there is room; k is cut to chunks where not even one block and one panel fit. Sums never leave the
accumulators before k is through; a slot of accumulators is stored while the next takes results.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sparsecc.cover.cells import count_cells, split
from sparsecc.cover.laws import Pattern
from sparsecc.cover.metaops import K_MAP, M0, M_MAP, N0, Int64, K, M, MetaOps, N
from sparsecc.cover.plane import exchanged, exchanged_unit
from sparsecc.errors import UserError
from sparsecc.schedule.choose import MARGIN
from sparsecc.schedule.cost import ACC_SLOTS, Estimate, data_cycles, powers, requests
from sparsecc.target import Target

# Stages whose loads are issued before the first of them computes, tried in this order.
AHEAD = (3, 1)


@dataclass(frozen=True)
class Knobs:
    """Free choices of a schedule."""

    block_rows: int
    """Rows of A that lie together."""
    panel_tiles: int
    """Column tiles of B that lie together."""
    chunk: int
    """Extent of k of one stage."""
    by_panels: bool
    """Whether all blocks of rows meet a panel before the next panel, or the other way round."""
    a_slots: int
    b_slots: int
    ahead: int
    """Stages that are fetched before they are due."""
    acc_slots: int
    """Stages that the accumulators hold: while one is computed, those before it are stored."""


@dataclass(frozen=True, eq=False)
class Stages:
    """Pieces in the order of stages, then rows; rows and columns are those of the output."""

    block: Int64
    """Block of rows of each stage."""
    panel: Int64
    """Panel of column tiles of each stage."""
    tile: Int64
    """First column tile of each stage."""
    tiles: Int64
    """Column tiles of each stage."""
    piece_stage: Int64
    piece_row: Int64
    piece_rows: Int64

    @property
    def rows(self) -> Int64:
        """Rows of all pieces of each stage."""
        return np.bincount(self.piece_stage, self.piece_rows, len(self.block)).astype(np.int64)


@dataclass(frozen=True, eq=False)
class MaskPlan:
    """A cover with the schedule judged best for it."""

    shape: tuple[int, int, int]
    """(M, N, K)."""
    stages: Stages
    knobs: Knobs
    estimate: Estimate


def needed_cells(metaops: MetaOps, m: int, n: int, target: Target) -> NDArray[np.bool_]:
    """Which cells of unit rows x column tiles of the output some meta-op computes."""
    t = metaops.table
    if (t[:, [M_MAP, K_MAP]] >= 0).any():
        raise UserError("the cover lists rows; programs of a mask take ranges, as sparse-lower makes them")
    rows, columns = target.unit[0], target.array.cols
    cells = np.zeros((-(-m // rows), -(-n // columns)), bool)
    for row, count, column, width in t[:, [M0, M, N0, N]].tolist():
        cells[
            row // rows : -(-(row + count) // rows), column // columns : -(-(column + width) // columns)
        ] = True
    return cells


def cut_to_stages(cells: NDArray[np.bool_], m: int, unit_rows: int, knobs: Knobs) -> Stages:
    """Runs of cells along N, inside panels; equal runs of following rows of a block are one piece."""
    columns: NDArray[np.int64] = np.arange(cells.shape[1], dtype=np.int64)
    left: NDArray[np.bool_] = np.pad(cells[:, :-1], ((0, 0), (1, 0))) & (columns % knobs.panel_tiles != 0)
    right: NDArray[np.bool_] = np.pad(cells[:, 1:], ((0, 0), (0, 1))) & (
        (columns + 1) % knobs.panel_tiles != 0
    )
    row, tile = np.nonzero(cells & ~left)
    tiles = np.nonzero(cells & ~right)[1] + 1 - tile
    block = row // (knobs.block_rows // unit_rows)
    panel = tile // knobs.panel_tiles
    outer, inner = (panel, block) if knobs.by_panels else (block, panel)
    order = np.lexsort((row, tiles, tile, inner, outer))
    row, tile, tiles, block, panel = (a[order] for a in (row, tile, tiles, block, panel))
    changes = [np.diff(a, prepend=-1) != 0 for a in (block, tile, tiles)]
    new_stage = changes[0] | changes[1] | changes[2]
    head = np.flatnonzero(new_stage | (np.diff(row, prepend=-1) != 1))
    count = np.diff(np.append(head, len(row)))
    stage = np.cumsum(new_stage) - 1
    first = np.flatnonzero(new_stage)
    begin = row[head] * unit_rows
    return Stages(
        block[first],
        panel[first],
        tile[first],
        tiles[first],
        stage[head],
        begin,
        np.minimum(count * unit_rows, m - begin),
    )


def _loads(source: Int64, chunks: int, slots: int) -> float:
    """Loads for stages that use these, chunk after chunk: each once, and again when its slot was taken."""
    distinct = len(np.unique(source)) * chunks
    uses = len(source) * chunks if chunks > 1 else int(np.count_nonzero(np.diff(source, prepend=-1)))
    return distinct + (uses - distinct) * max(0.0, 1 - slots / max(distinct, 1))


def _row_cycles(row_bytes: int, target: Target) -> int:
    """Cycles of one row of a strided transfer."""
    return data_cycles(row_bytes, target) + target.dma.row_overhead * requests(row_bytes, target)


def estimate(stages: Stages, shape: tuple[int, int, int], knobs: Knobs, target: Target) -> Estimate:
    """Cycles of the stages under these knobs."""
    m, n, k = shape
    array, dma = target.array, target.dma
    in_bytes, acc_bytes = target.element_bytes(target.in_type), target.element_bytes(target.acc_type)
    chunks, chunk_tiles = -(-k // knobs.chunk), -(-knobs.chunk // array.cols)
    count = len(stages.block)
    pieces, tiles = np.bincount(stages.piece_stage, minlength=count), stages.tiles
    a_loads = _loads(stages.block, chunks, knobs.a_slots)
    b_loads = _loads(stages.panel, chunks, knobs.b_slots)

    piece_tiles = tiles[stages.piece_stage]
    if array.kind == "ws":
        k_tiles = -(-k // array.rows)
        drain = array.rows + array.cols - 2 if array.fill_in_occupancy else 0
        each = np.maximum(stages.piece_rows, array.min_rows) + drain
        streaming = np.bincount(stages.piece_stage, each, count)
        per_tile = np.maximum(streaming, array.rows) if array.pe_double_buffer else array.rows + streaming
        compute = float((per_tile * tiles).sum()) * k_tiles
        instructions = float((tiles * (1 + pieces)).sum()) * k_tiles
        move = 0.0
    else:
        fragments = -(-stages.piece_rows // array.mma_m) * -(-piece_tiles * array.cols // array.mma_n)
        compute = float(fragments.sum()) * -(-k // array.mma_k) * array.interval
        a_moves = np.count_nonzero(np.diff(stages.block, prepend=-1)) * chunks
        b_moves = np.count_nonzero(np.diff(stages.panel, prepend=-1)) * chunks
        if chunks > 1:
            a_moves = b_moves = count * chunks
        a_rows = min(m, knobs.block_rows) * chunk_tiles
        b_rows = min(k, knobs.chunk) * min(-(-n // array.cols), knobs.panel_tiles)
        moved = (a_moves * a_rows + b_moves * b_rows) * target.row_bytes
        move = moved / target.move.bytes_per_cycle + (a_moves + b_moves) * target.move.latency
        instructions = float(a_moves + b_moves + len(stages.piece_row) * chunks)

    a_load = min(m, knobs.block_rows) * _row_cycles(min(k, knobs.chunk) * in_bytes, target)
    width = min(n, knobs.panel_tiles * array.cols)
    b_load = min(k, knobs.chunk) * _row_cycles(width * in_bytes, target)
    load = a_loads * a_load + b_loads * b_load
    columns = np.minimum(tiles * array.cols, n - stages.tile * array.cols)
    kinds, which = np.unique(columns, return_inverse=True)
    row_cycles = np.array([_row_cycles(int(c) * acc_bytes, target) for c in kinds], np.int64)[which]
    store = float((stages.piece_rows * row_cycles[stages.piece_stage]).sum()) if count else 0.0
    instructions += a_loads + b_loads + len(stages.piece_row)
    ramp = 2 * dma.latency + a_load + b_load + store / max(count, 1) if count else 0.0
    if array.kind == "mma":
        ramp += array.latency
    elif not array.fill_in_occupancy:
        ramp += array.rows + array.cols
    return Estimate(compute, load, store, move, instructions * target.queues.issue_gap, ramp)


def _slots(knobs: Knobs, blocks: int, panels: int, k: int, target: Target) -> Knobs | None:
    """The scratchpad shared out, None where it is too small. blocks, panels: those that some stage reads."""
    array = target.array
    chunk_tiles, chunks = -(-knobs.chunk // array.cols), -(-k // knobs.chunk)
    a_size, b_size = knobs.block_rows * chunk_tiles, chunk_tiles * array.cols * knobs.panel_tiles
    if array.kind == "mma" and (2 * a_size > target.l0a_rows or 2 * b_size > target.l0b_rows):
        return None
    total, a_all, b_all = target.spad_rows, blocks * chunks, panels * chunks
    a_least, b_least = min(a_all, knobs.ahead + 1), min(b_all, knobs.ahead + 1)
    if knobs.by_panels:
        a_slots = min(a_all, (total - b_least * b_size) // a_size)
        b_slots = min(b_all, (total - max(a_slots, 0) * a_size) // b_size)
    else:
        b_slots = min(b_all, (total - a_least * a_size) // b_size)
        a_slots = min(a_all, (total - max(b_slots, 0) * b_size) // a_size)
    if a_slots < a_least or b_slots < b_least:
        return None
    return replace(knobs, a_slots=a_slots, b_slots=b_slots)


def _choices(shape: tuple[int, int, int], target: Target) -> Iterator[Knobs]:
    """Knobs without slots: every size of block and panel that the accumulators hold, in both orders."""
    m, n, k = shape
    unit_rows, columns = target.unit[0], target.array.cols
    for block_rows in powers(unit_rows, -(-m // unit_rows) * unit_rows):
        for panel_tiles in powers(1, -(-n // columns)):
            acc_slots = min(ACC_SLOTS, target.acc_rows // (block_rows * panel_tiles))
            if acc_slots < 2:
                break
            for by_panels in (True, False):
                yield Knobs(block_rows, panel_tiles, k, by_panels, 0, 0, 0, acc_slots)


def plan_mask(metaops: MetaOps, shape: tuple[int, int, int], target: Target) -> MaskPlan:
    """The schedule of least estimated cycles for a cover of a mask. Raises UserError when none fits."""
    m, n, k = shape
    cells = needed_cells(metaops, m, n, target)
    best: MaskPlan | None = None
    for knobs in _choices(shape, target):
        stages = cut_to_stages(cells, m, target.unit[0], knobs)
        used = len(np.unique(stages.block)), len(np.unique(stages.panel))
        if (shared := _shared(knobs, *used, k, target)) is None:
            continue
        found = estimate(stages, shape, shared, target)
        if best is None or found.score < best.estimate.score:
            best = MaskPlan(shape, stages, shared, found)
    if best is None:
        raise UserError(
            f"target {target.name}: has {target.spad_rows} scratchpad rows and {target.acc_rows} accumulator "
            f"rows, too few for two blocks of rows of A and two tiles of B; give it larger memories in its "
            "TOML file"
        )
    return best


def _shared(knobs: Knobs, blocks: int, panels: int, k: int, target: Target) -> Knobs | None:
    """The knobs with slots, the longest chunk of k that fits, and as many stages ahead as fit."""
    cols = target.array.cols
    chunk = -(-k // cols) * cols
    while True:
        for ahead in AHEAD:
            tried = replace(knobs, chunk=min(chunk, k), ahead=ahead)
            if (found := _slots(tried, blocks, panels, k, target)) is not None:
                return found
        if chunk == cols:
            return None
        chunk = -(-chunk // (2 * cols)) * cols


@dataclass(frozen=True)
class MaskChoice:
    """The plan for a mask, dense or sparse, and why."""

    plan: str
    reason: str
    tried: tuple[tuple[str, float, int], ...]
    """(candidate, predicted cycles, unit cells)."""


def mask_bound(pattern: Pattern, k: int, target: Target) -> tuple[float, int]:
    """(cycles, unit cells) that no program for the mask is below: its unit cells are computed and stored.

    Nothing is computed before the first load is complete, and the last store completes after all else.
    """
    m, n = pattern.m, pattern.k
    cells = split(MetaOps.whole(m, k, n), pattern, exchanged_unit(target.unit)).table.astype(np.int64)
    array, width = target.array, target.dma.bytes_per_cycle
    rows, columns = cells[:, M], cells[:, K]
    if array.kind == "ws":
        # Rows of one tile of columns stream together; a tile of k takes a cycle for each.
        compute = float(rows.sum()) * -(-k // array.rows)
    else:
        compute = float(len(cells)) * -(-k // array.mma_k) * array.interval
    live = int(np.count_nonzero(np.diff(pattern.indptr))), len(np.unique(pattern.indices))
    load = sum(live) * k * target.element_bytes(target.in_type) / width
    store = float((rows * columns).sum()) * target.element_bytes(target.acc_type) / width
    return max(compute, load, store) + (2 * target.dma.latency if len(cells) else 0), len(cells)


def choose_cells(pattern: Pattern, k: int, target: Target) -> MaskChoice:
    """The plan for a mask, dense or sparse (its unit cells), by estimated cycles."""
    m, n = pattern.m, pattern.k
    whole, unit = MetaOps.whole(m, n, k), target.unit
    cells = exchanged(split(exchanged(whole), pattern, exchanged_unit(unit)))
    dense, sparse = (plan_mask(cover, (m, n, k), target).estimate for cover in (whole, cells))
    total = count_cells(exchanged(whole), exchanged_unit(unit))
    tried = ("dense", dense.cycles, total), ("aligned", sparse.cycles, len(cells))
    gain = dense.cycles / max(sparse.cycles, 1.0)
    if sparse.cycles > (1 - MARGIN) * dense.cycles:
        reason = (
            f"{len(cells)} of {total} unit cells hold a point of the mask, which would give {gain:.2f}x of "
            f"dense speed by the model; bound by {sparse.bound}"
        )
        return MaskChoice("dense", reason, tried)
    reason = (
        f"{total - len(cells)} of {total} unit cells refused ({total / len(cells):.1f}x less work), "
        f"{gain:.2f}x faster than dense by the model; bound by {sparse.bound}"
    )
    return MaskChoice("sparse", reason, tried)
