"""Schedules for units that read and accumulate rows by index: covers of bicliques run as they are.

X lies in the scratchpad as it is; each step preloads rows of X by index, streams its packed weights through,
and adds the results to accumulators by index. The output rows are cut to blocks that no meta-op leaves, as
many rows as the accumulators hold twice.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsecc.cover.laws import Pattern, locate
from sparsecc.cover.metaops import K0, K_MAP, M0, M_MAP, Int32, Int64, K, M, MetaOps, expand
from sparsecc.errors import UserError
from sparsecc.schedule.cost import Estimate, data_cycles, requests
from sparsecc.target import Target
from sparsecc.target.numbers import pack_indices

# Steps fetched ahead of the one that is computed.
AHEAD = 8
# Numbers of an index list are 16 bits wide.
MAX_INDEX = 1 << 16


@dataclass(frozen=True)
class IndexedKnobs:
    """Free choices of an indexed schedule."""

    panel_tiles: int
    """Column tiles side by side in one panel of N."""
    block_rows: int
    """Rows of one slot of accumulators."""
    panels_inside: bool
    """For each block all panels, its weights staying; else for each panel all blocks, weights streaming."""
    weight_slots: int
    """Steps whose weights the scratchpad holds."""
    x_slots: int
    """Panels of X that the scratchpad holds: 1, 2, or all of them."""


@dataclass(frozen=True, eq=False)
class IndexedPlan:
    """A cover of cells with its schedule."""

    cells: MetaOps
    """Meta-ops of at most R columns, in the order of blocks, then of ownership."""
    blocks: list[Int32]
    """Output rows of each block."""
    block_first: Int64
    """First cell of each block, and the number of cells."""
    knobs: IndexedKnobs
    estimate: Estimate


def step_rows(target: Target) -> tuple[int, int]:
    """(scratchpad rows of the weights of a step, rows of each of its two index lists)."""
    rows = target.array.rows
    return rows, -(-rows // target.indices_per_row)


def cut_columns(metaops: MetaOps, rows: int, columns: int) -> MetaOps:
    """The meta-ops cut to at most so many rows and columns, in order."""
    for start, size, at, limit in ((K0, K, K_MAP, columns), (M0, M, M_MAP, rows)):
        t = metaops.table
        count = -(-t[:, size] // limit)
        parent = np.repeat(np.arange(len(t)), count)
        offset = (np.arange(len(parent)) - np.repeat(np.cumsum(count) - count, count)) * limit
        table = t[parent].copy()
        listed = table[:, at] >= 0
        table[:, start] += np.where(listed, 0, offset).astype(np.int32)
        table[:, at] += np.where(listed, offset, 0).astype(np.int32)
        table[:, size] = np.minimum(t[parent, size] - offset, limit)
        metaops = MetaOps(table, metaops.index)
    return metaops


def components(metaops: MetaOps, m: int) -> tuple[Int64, Int64]:
    """(component of each meta-op, rows of each component): meta-ops that share rows belong together.

    A component has the number of its first row; numbers without rows have size 0.
    """
    t = metaops.table
    owner, row, _ = expand(t[:, M0], t[:, M], t[:, M_MAP], metaops.index)
    of_row = np.arange(m)
    while True:
        # The smallest number seen spreads from rows to meta-ops and back, and along what it stood for before.
        of_metaop = np.full(len(t), m)
        np.minimum.at(of_metaop, owner, of_row[row])
        spread = of_row.copy()
        np.minimum.at(spread, row, of_metaop[owner])
        spread = spread[spread]
        if np.array_equal(spread, of_row):
            break
        of_row = spread
    written = np.zeros(m, bool)
    written[row] = True
    return of_metaop.astype(np.int64), np.bincount(of_row[written], minlength=m).astype(np.int64)


def row_blocks(metaops: MetaOps, m: int, limit: int) -> tuple[list[Int32], Int64] | None:
    """Output rows in blocks of at most `limit` that no meta-op leaves, and the block of each meta-op.

    Blocks have about as many rows, and as many meta-ops, as each other where meta-ops that share rows allow
    that: while one is stored, the next is computed. Rows that no meta-op writes fill the blocks up. None
    when meta-ops that share rows need more than limit.
    """
    t = metaops.table
    owner, row, _ = expand(t[:, M0], t[:, M], t[:, M_MAP], metaops.index)
    component, size = components(metaops, m) if len(t) else (np.zeros(0, np.int64), np.zeros(1, np.int64))
    if size.max(initial=0) > limit:
        return None
    work = np.bincount(component, minlength=len(size))
    count = -(-m // limit)
    block_of = _evenly(size, work, -(-m // count), count)
    if block_of is None:
        block_of = _first_fit(size, limit)
    row_block = np.full(m, -1, np.int64)
    row_block[row] = block_of[component[owner]]
    used = np.bincount(row_block[row_block >= 0], minlength=max(count, int(block_of.max(initial=0)) + 1))
    # Rows without meta-ops go where there are fewest rows.
    idle = np.flatnonzero(row_block < 0)
    level = _water_level(used, len(idle))
    row_block[idle] = np.repeat(np.arange(len(used)), np.maximum(level - used, 0))[: len(idle)]
    blocks = [np.flatnonzero(row_block == b).astype(np.int32) for b in range(len(used))]
    return blocks, block_of[component]


def _water_level(used: Int64, more: int) -> int:
    """The least level to which blocks are filled up so that so many more rows find room."""
    highest = int(used.max(initial=0)) + more
    return bisect_left(range(highest), more, key=lambda level: int(np.maximum(level - used, 0).sum()))


def _evenly(size: Int64, work: Int64, limit: int, count: int) -> Int64 | None:
    """The block of each component, the largest first, each where meta-ops are fewest; None without room."""
    rows, load = np.zeros(count, np.int64), np.zeros(count, np.int64)
    block_of = np.full(len(size), -1, np.int64)
    for c in np.argsort(-work, kind="stable"):
        if size[c] == 0:
            continue
        cost = np.where(rows + size[c] <= limit, load, np.iinfo(np.int64).max)
        b = int(cost.argmin())
        if rows[b] + size[c] > limit:
            return None
        rows[b] += size[c]
        load[b] += work[c]
        block_of[c] = b
    return block_of


def _first_fit(size: Int64, limit: int) -> Int64:
    """The block of each component, the largest first, each in the first block with room."""
    room: list[int] = []
    block_of = np.full(len(size), -1, np.int64)
    for c in np.argsort(-size, kind="stable"):
        if size[c] == 0:
            continue
        fitting = next((b for b, free in enumerate(room) if free >= size[c]), None)
        if fitting is None:
            room.append(limit)
            fitting = len(room) - 1
        room[fitting] -= int(size[c])
        block_of[c] = fitting
    return block_of


def _estimate(
    cells: MetaOps,
    blocks: list[Int32],
    block_first: Int64,
    n: int,
    k: int,
    target: Target,
    knobs: IndexedKnobs,
) -> Estimate:
    array, dma, indexed = target.array, target.dma, target.indexed
    assert indexed is not None
    height, width = cells.table[:, M].astype(np.int64), cells.table[:, K].astype(np.int64)
    n_tiles = -(-n // array.cols)
    panels = -(-n_tiles // knobs.panel_tiles)
    preload = array.rows + width * indexed.read_cycles
    stream = np.maximum(height, array.min_rows) + height * indexed.accumulate_cycles
    if array.pe_double_buffer:
        each = np.maximum(preload, stream)
    else:
        each = preload + stream + (array.rows + array.cols - 2 if array.fill_in_occupancy else 0)
    w_rows, index_rows = step_rows(target)
    per_step = data_cycles((w_rows + 2 * index_rows) * target.row_bytes, target)
    panel_bytes = min(n, knobs.panel_tiles * array.cols) * target.element_bytes(target.in_type)
    x_loads = panels if not knobs.panels_inside or knobs.x_slots >= panels else panels * len(blocks)
    x_load = float(k) * data_cycles(panel_bytes, target)
    m = sum(map(len, blocks))
    y_bytes = min(n, knobs.panel_tiles * array.cols) * target.element_bytes(target.store_type)
    y_row = data_cycles(y_bytes, target) + dma.gather_overhead * requests(y_bytes, target)
    fill = float(m) * n_tiles * array.cols / target.vector.lanes

    # Of each turn: its first step, the loads it waits for, computing, storing.
    steps = np.diff(block_first)
    sums = np.concatenate(([0.0], np.cumsum(each)))[block_first]
    computed = np.diff(sums) * (n_tiles / panels)
    fetched = (steps * per_step).astype(np.float64)
    stored = np.array([len(rows) * y_row + len(rows) * 4 / dma.bytes_per_cycle for rows in blocks])
    if knobs.panels_inside:
        turn_compute, turn_store = np.repeat(computed, panels), np.repeat(stored, panels)
        turn_load = np.zeros((len(blocks), panels))
        turn_load[:, 0] = fetched
    else:
        turn_compute, turn_store = np.tile(computed, panels), np.tile(stored, panels)
        turn_load = np.tile(fetched, (panels, 1))
    # Panels of X come with the steps of the turn before, or, in a single slot, between turns.
    first_x, wait = x_load, np.zeros_like(turn_load)
    turns_x = np.s_[:, :] if knobs.panels_inside else np.s_[:, 0]
    if knobs.x_slots >= panels and knobs.panels_inside:
        turn_load[0, : panels - 1] += x_load
    elif knobs.x_slots >= panels:
        first_x = x_load * panels
    elif knobs.x_slots == 1:
        wait[turns_x] += x_load + dma.latency
        wait[0, 0] = 0
    else:
        turn_load[turns_x] += x_load
    slot_fill = knobs.block_rows * knobs.panel_tiles * array.cols / target.vector.lanes
    phases = _through(turn_compute, turn_load.ravel(), wait.ravel(), turn_store, slot_fill)

    compute = float(each.sum()) * n_tiles
    weights = float(fetched.sum()) * (1 if knobs.panels_inside else panels)
    issue = (
        2.0 * len(cells) * n_tiles + len(cells) * (1 if knobs.panels_inside else panels)
    ) * target.queues.issue_gap
    ramp = 2 * dma.latency + first_x + array.rows + array.cols
    return Estimate(compute, weights + x_load * x_loads, float(turn_store.sum()), fill, issue, ramp, phases)


def _through(
    compute: NDArray[np.float64],
    load: NDArray[np.float64],
    wait: NDArray[np.float64],
    store: NDArray[np.float64],
    fill: float,
) -> float:
    """Cycles until all turns are stored: of two slots of accumulators one is computed, the other stored."""
    computed = stored = before = 0.0
    busy = np.maximum(compute, load) + wait
    for work, out in zip(busy.tolist(), store.tolist(), strict=True):
        # Its slot is stored, and filled with zeros.
        computed = max(computed, before + fill) + work
        before, stored = stored, max(stored, computed) + out
    return stored


def best_indexed_plan(metaops: MetaOps, pattern_k: int, m: int, n: int, target: Target) -> IndexedPlan:
    """The indexed schedule of least estimated cycles. Raises UserError when none fits."""
    array = target.array
    cells = cut_columns(metaops, array.rows, array.rows)
    w_rows, index_rows = step_rows(target)
    per_step = w_rows + 2 * index_rows
    n_tiles = -(-n // array.cols)
    best: IndexedPlan | None = None
    for panel_tiles in sorted({1, 2, 4, 8, n_tiles}):
        if panel_tiles > n_tiles or pattern_k > MAX_INDEX:
            continue
        limit = min(target.acc_rows // (2 * panel_tiles), MAX_INDEX)
        found = row_blocks(cells, m, limit) if limit else None
        if found is None:
            continue
        blocks, block_of = found
        order = np.argsort(block_of, kind="stable")
        ordered = cells.select(order)
        block_first = np.searchsorted(block_of[order], np.arange(len(blocks) + 1)).astype(np.int64)
        panels = -(-n_tiles // panel_tiles)
        panel_rows = pattern_k * panel_tiles
        steps_of_block = np.diff(block_first)
        most, least = int(steps_of_block.max(initial=0)), int(steps_of_block.min(initial=len(ordered)))
        # The next panel of X comes with the steps of a block: one without steps would bring none.
        slot_choices = {1, panels} if least == 0 else {1, 2, panels}
        for x_slots in sorted(slot_choices, reverse=True):
            free = target.spad_rows - x_slots * panel_rows
            slots = free // per_step
            for inside in (True, False):
                need = max(most, 1) if inside else min(2 * AHEAD, max(len(cells), 1))
                if x_slots > panels or slots < need:
                    continue
                height = max(map(len, blocks), default=1)
                knobs = IndexedKnobs(panel_tiles, height, inside, need, x_slots)
                estimate = _estimate(ordered, blocks, block_first, n, pattern_k, target, knobs)
                if best is None or estimate.score < best.estimate.score:
                    best = IndexedPlan(ordered, blocks, block_first, knobs, estimate)
    if best is None:
        raise UserError(
            f"target {target.name}: its scratchpad ({target.spad_rows} rows) and accumulators "
            f"({target.acc_rows} rows) do not hold {pattern_k} rows of X and the rows that meta-ops share"
        )
    return best


@dataclass(frozen=True, eq=False)
class IndexedProgram:
    """An operator as loops over tables, for indexed units. Tables are int32."""

    m: int
    n: int
    k: int
    knobs: IndexedKnobs
    block_first: Int32
    """First step of each block, and the number of steps."""
    block_row: Int32
    """First entry of each block in scatter."""
    block_rows: Int32
    scatter: Int32
    """Output rows, block after block."""
    step_rows: Int32
    """Output rows of each step."""
    step_columns: Int32
    """Rows of X of each step."""
    weights: NDArray[np.generic]
    """[steps * rows of a step, C]: for each step its weights, its list of rows of X, of accumulators."""

    @property
    def steps(self) -> int:
        return len(self.step_rows)

    @property
    def blocks(self) -> int:
        return len(self.block_rows)


def _index_rows(lists: Int64, rows: int, target: Target) -> NDArray[np.generic]:
    """Index lists [steps, R] as elements of the input type, each list in whole rows: [steps, rows, C]."""
    padded = np.zeros((len(lists), rows * target.indices_per_row), np.int64)
    padded[:, : lists.shape[1]] = lists
    return pack_indices(target, padded.reshape(-1)).reshape(len(lists), rows, target.array.cols)


def build_indexed(
    plan: IndexedPlan, pattern: Pattern, data: NDArray[np.generic], n: int, target: Target
) -> IndexedProgram:
    """The program of an indexed plan; data holds the values of the pattern's nonzeros."""
    cells, array = plan.cells, target.array
    steps = len(cells)
    w_rows, index_rows = step_rows(target)
    places = locate(cells, pattern)
    assert (places.owner >= 0).all(), "a cover without some nonzero reached the schedule"
    weights = np.zeros((steps, w_rows, array.cols), data.dtype)
    weights[places.owner, places.row, places.column] = data
    t = cells.table
    x_lists, y_lists = np.zeros((steps, array.rows), np.int64), np.zeros((steps, array.rows), np.int64)
    owner, column, place = expand(t[:, K0], t[:, K], t[:, K_MAP], cells.index)
    x_lists[owner, place] = column
    # Accumulators are numbered inside their block.
    rank = np.zeros(pattern.m, np.int64)
    for rows in plan.blocks:
        rank[rows] = np.arange(len(rows))
    owner, row, place = expand(t[:, M0], t[:, M], t[:, M_MAP], cells.index)
    y_lists[owner, place] = rank[row]
    lists = [_index_rows(found, index_rows, target) for found in (x_lists, y_lists)]
    sizes = np.array([len(rows) for rows in plan.blocks], np.int64)
    return IndexedProgram(
        m=pattern.m,
        n=n,
        k=pattern.k,
        knobs=plan.knobs,
        block_first=plan.block_first.astype(np.int32),
        block_row=(np.cumsum(sizes) - sizes).astype(np.int32),
        block_rows=sizes.astype(np.int32),
        scatter=np.concatenate(plan.blocks).astype(np.int32) if plan.blocks else np.zeros(0, np.int32),
        step_rows=t[:, M].copy(),
        step_columns=t[:, K].copy(),
        weights=np.concatenate([weights, *lists], axis=1).reshape(-1, array.cols),
    )
