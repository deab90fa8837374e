"""What a cover costs on a target: cycles of each engine by the formulas of the instructions.

The estimate takes the busiest engine as the bound and adds what cannot overlap: the first load and the last
store. The knobs (how wide a panel of N, how many rows a block of accumulators, how many tiles a step) are
searched against it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sparsecc.cover.metaops import K_MAP, Int64, MetaOps
from sparsecc.errors import UserError
from sparsecc.schedule.geometry import Bands, RowOrder, Tiles, cut_to_bands, cut_to_tiles, row_order
from sparsecc.schedule.packing import Packing
from sparsecc.target import Kept, Target

# Instructions are issued in order, from queues of few entries: what is fetched together must be little, or
# the array runs dry while the loads are issued. A step has so many tiles that the array works this many
# cycles on it.
STEP_CYCLES = 64
# Slots for weights, tried in this order: many steps ahead hide the latency of loads, few take less memory.
RINGS = (8, 4, 2)
# Blocks of accumulators in use at most; more than two help where blocks of very different work alternate.
ACC_SLOTS = 8
# Rows without a nonzero are stored so many at a time, between the steps of other rows.
ZERO_ROWS = 32


@dataclass(frozen=True)
class Knobs:
    """Free choices of a schedule."""

    panel_tiles: int
    """Stationary tiles side by side along N in one pass over the weights."""
    block_rows: int
    """Output rows that the accumulators hold at once."""
    ring: int
    """Slots for weights; ring - 1 steps are fetched ahead."""
    weight_rows: int
    """Scratchpad rows of one weight slot."""
    x_slots: int
    """Slots for tiles of X."""
    step_tiles: int
    """Tiles of one step at most."""
    acc_slots: int
    """Blocks that the accumulators hold: while one is computed, those before it are stored."""
    zero_rows: int = 0
    """Rows of accumulators that stay zero; blocks that nothing is added to are stored from them. 0: none."""
    kept: Kept | None = None
    """The N:M pattern of compressed weights; None where no weights are compressed."""

    @property
    def ahead(self) -> int:
        return self.ring - 1


@dataclass(frozen=True)
class Estimate:
    """Cycles of each engine, and of the whole."""

    compute: float
    load: float
    store: float
    move: float
    issue: float
    ramp: float
    """First load, last drain and store: what overlaps with nothing."""
    phases: float = 0.0
    """What takes longest at the time, of computing, loading and moving, summed: none runs far ahead."""
    slots: int = 2
    """Blocks of accumulators: the more, the less a block waits for the store of one before it."""

    @property
    def bound(self) -> str:
        """The engine that takes longest."""
        return max(("compute", "load", "store", "move", "issue"), key=lambda name: float(getattr(self, name)))

    @property
    def cycles(self) -> float:
        return max(float(getattr(self, self.bound)), self.phases) + self.ramp

    @property
    def score(self) -> float:
        """Cycles, and a little for what the other engines do, so that of equal plans the frugal one wins."""
        others = self.compute + self.load + self.store + self.move + self.issue
        return self.cycles + 0.01 * others + 0.05 * self.store / self.slots


@dataclass(frozen=True, eq=False)
class Plan:
    """A cover with the schedule judged best for it."""

    metaops: MetaOps
    order: RowOrder
    bands: Bands
    tiles: Tiles
    knobs: Knobs
    estimate: Estimate
    packing: Packing | None = None
    """How weights are compressed; None where they are not."""


def panels(n: int, knobs: Knobs, target: Target) -> int:
    """Passes over the weights."""
    return -(-n // (knobs.panel_tiles * target.array.cols))


def tile_columns(target: Target, kept: Kept | None) -> int:
    """Columns of W in a tile, and so rows of X: as many as R values of a row stand for."""
    return kept.columns(target.array.rows) if kept else target.array.rows


def requests(row_bytes: float, target: Target) -> int:
    """Requests that a row is transferred in."""
    return math.ceil(row_bytes / target.dma.max_burst)


def data_cycles(row_bytes: float, target: Target) -> int:
    """Cycles of the data of a row."""
    return math.ceil(row_bytes / target.dma.bytes_per_cycle)


def tile_cycles(height: Int64, rows: Int64, n: int, target: Target) -> NDArray[np.float64]:
    """Cycles of the array for tiles of so many rows of W by so many rows of X, for all n positions."""
    array = target.array
    if array.kind == "mma":
        fragments = -(-height // array.mma_m) * -(-rows // array.mma_k)
        return (fragments * float(array.interval * -(-n // array.mma_n))).astype(np.float64)
    if array.pe_double_buffer:
        each = np.maximum(np.maximum(height, array.min_rows), array.rows)
    else:
        drain = array.rows + array.cols - 2 if array.fill_in_occupancy else 0
        each = array.rows + np.maximum(height + drain, array.min_rows)
    return (each * float(-(-n // array.cols))).astype(np.float64)


def store_cycles(columns: int, scattered: bool, target: Target) -> int:
    """Cycles to store a row of so many results."""
    row_bytes = columns * target.element_bytes(target.store_type)
    overhead = target.dma.gather_overhead if scattered else target.dma.row_overhead
    return data_cycles(row_bytes, target) + overhead * requests(row_bytes, target)


@dataclass(frozen=True, eq=False)
class Work:
    """Cycles that each tile use, in the order of execution, takes of three engines in all panels of N."""

    compute: NDArray[np.float64]
    load: NDArray[np.float64]
    """Its weights, and its rows of X as far as they are not in the scratchpad."""
    move: NDArray[np.float64]
    steps: int
    """Steps in one panel: runs of tiles, as many as a weight slot holds."""
    misses: float
    """Tiles of X loaded in one panel."""


def work_of(metaops: MetaOps, bands: Bands, tiles: Tiles, n: int, target: Target, knobs: Knobs) -> Work:
    """What the tiles of a cover ask of the engines under these knobs."""
    array, dma = target.array, target.dma
    passes, uses = panels(n, knobs, target), len(tiles.source)
    height = bands.rows[tiles.band] if uses else np.zeros(0, np.int64)
    run_tiles = np.diff(tiles.runs, append=uses)
    per_step = np.clip(knobs.weight_rows // tiles.weight_rows[tiles.runs], 1, knobs.step_tiles)
    steps = int((-(-run_tiles // per_step)).sum())
    compute = tile_cycles(height, tiles.depth, n, target)

    move = np.zeros(uses)
    if array.kind == "mma":
        # Weights go to L0 step by step, tiles of X one by one.
        moved = (tiles.weight_rows * passes + tiles.rows * -(-n // array.cols)) * target.row_bytes
        latency = (1 + steps / max(uses, 1)) * passes * target.move.latency
        move = moved / target.move.bytes_per_cycle + latency

    panel_bytes = min(n, knobs.panel_tiles * array.cols) * target.element_bytes(target.in_type)
    distinct, reused = tiles.distinct, tiles.reused
    # Tiles that are used once give way first: only those under way take the place of others.
    once = min(distinct - reused, knobs.ring * knobs.step_tiles)
    again = max(0.0, 1 - (knobs.x_slots - once) / max(reused, 1))
    gathered = bool((metaops.table[:, K_MAP] >= 0).any())
    overhead = dma.gather_overhead if gathered else dma.row_overhead
    x_row = data_cycles(panel_bytes, target) + overhead * requests(panel_bytes, target)
    x_index = data_cycles(4 * tile_columns(target, knobs.kept), target) if gathered else 0
    x_load = (tiles.rows * float(x_row) + x_index) * np.where(tiles.first_use, 1.0, again)
    load = (tiles.weight_rows * data_cycles(target.row_bytes, target) + x_load) * passes
    return Work(compute, load, move, steps, distinct + (uses - distinct) * again)


def estimate(metaops: MetaOps, order: RowOrder, bands: Bands, tiles: Tiles, m: int, n: int, target: Target,
             knobs: Knobs) -> Estimate:  # fmt: skip
    """Cycles of a cover of an m x k matrix times k x n under these knobs; m: places of the row order."""
    array, dma = target.array, target.dma
    passes, uses = panels(n, knobs, target), len(tiles.source)
    work = work_of(metaops, bands, tiles, n, target, knobs)
    engines = (work.compute, work.load, work.move)
    compute, load, move = (float(cycles.sum()) for cycles in engines)

    scattered = not order.is_natural
    columns = min(n, knobs.panel_tiles * array.cols)
    y_row = store_cycles(columns, scattered, target)
    zeros = 0
    if order.added:
        # Each row is read to be added to; before, all rows of the result are zeros.
        assert target.scatter_add is not None
        zeros = order.added * store_cycles(columns, False, target)
        y_row += data_cycles(columns * target.element_bytes(target.acc_type), target)
        y_row += target.scatter_add.row_cycles
    store = (float(m) * y_row + zeros) * passes + (m * 4 / dma.bytes_per_cycle if scattered else 0)

    if array.kind == "ws":
        instructions = 2.0 * uses * -(-n // array.cols)
    else:
        instructions = (2.0 * uses + work.steps) * passes
    instructions += passes * (work.steps + work.misses + 2 * m / knobs.block_rows)
    # The busier of loading and computing begins when, or ends after, one step of the other.
    step = min(load, max(compute, move)) / passes / max(work.steps, 1)
    ramp = 2 * dma.latency + step + min(m, knobs.block_rows) * y_row
    if array.kind == "mma":
        ramp += array.latency
    elif not array.fill_in_occupancy:
        ramp += array.rows + array.cols
    if not knobs.zero_rows:
        # Blocks without steps wait for accumulators, and hold up what is behind them.
        ramp += store * (1 - float(live_blocks(bands, m, knobs.block_rows).mean()))
    if target.biased:
        # A row of the first column tile is filled at a time; the others are copies of it.
        blocks, copies = -(-m // knobs.block_rows), -(-columns // array.cols) - 1
        row_bytes = array.cols * target.element_bytes(target.acc_type)
        copied = m * row_bytes / target.move.bytes_per_cycle + blocks * target.move.latency
        filled = m * (-(-array.cols // target.vector.lanes) + target.vector.latency)
        instructions += passes * (m + blocks * copies)
        # Blocks are filled, and copied, while others are computed; the first is filled before.
        move += max(filled * (passes - 1 / blocks), copies * copied * passes)
        ramp += filled / blocks
    issue = instructions * target.queues.issue_gap
    # What a ring of steps holds is loaded while as much is moved and computed.
    phase = np.arange(0, uses, knobs.ring * knobs.step_tiles)
    sums = [np.add.reduceat(cycles, phase) if uses else phase for cycles in engines]
    phases = float(np.max(sums, axis=0).sum())
    return Estimate(compute, load, store, move, issue, ramp, phases, knobs.acc_slots)


def powers(first: int, last: int) -> list[int]:
    """first, 2 first, 4 first, ... below last, and last."""
    values: list[int] = []
    while first < last:
        values.append(first)
        first *= 2
    return [*values, last]


def _rings_and_steps(target: Target, panel_tiles: int) -> Iterator[tuple[int, int]]:
    """(slots for weights, tiles of a step), the better ones first; the last ones need little memory."""
    step_tiles = -(-STEP_CYCLES // (panel_tiles * target.array.rows))
    for ring in RINGS:
        yield ring, step_tiles
    while step_tiles > 1:
        step_tiles //= 2
        yield RINGS[-1], step_tiles


def _knobs(target: Target, panel_tiles: int, block_rows: int, ring: int, step_tiles: int,
           kept: Kept | None) -> Knobs | None:  # fmt: skip
    """The memories shared out, or None where they are too small."""
    array, x_rows = target.array, tile_columns(target, kept)
    if 2 * block_rows * panel_tiles > target.acc_rows:
        return None
    # A tile that is not compressed takes its rows once for each row of memory that its columns fill.
    weight_rows = step_tiles * block_rows * -(-x_rows // array.rows)
    if array.kind == "mma" and (
        # Two steps of weights, and two tiles of X, lie in L0 at once.
        2 * weight_rows > target.l0a_rows or 2 * panel_tiles * x_rows > target.l0b_rows
    ):
        return None
    x_slots = (target.spad_rows - ring * weight_rows) // (x_rows * panel_tiles)
    # Half the scratchpad at least is for X; the steps under way must find their tiles there.
    if 2 * ring * weight_rows > target.spad_rows or x_slots < ring * step_tiles:
        return None
    acc_slots = min(ACC_SLOTS, target.acc_rows // (block_rows * panel_tiles))
    return Knobs(panel_tiles, block_rows, ring, weight_rows, x_slots, step_tiles, acc_slots, kept=kept)


def live_blocks(bands: Bands, m: int, block_rows: int) -> NDArray[np.bool_]:
    """Which blocks of output rows have anything added to them."""
    live = np.zeros(-(-m // block_rows), bool)
    live[bands.first // block_rows] = True
    return live


def _with_zeros(knobs: Knobs, target: Target) -> Knobs:
    """The knobs with rows of zeros, where the accumulators have room beside two blocks."""
    slot, zero_rows = knobs.block_rows * knobs.panel_tiles, min(knobs.block_rows, ZERO_ROWS)
    for acc_slots in (knobs.acc_slots, knobs.acc_slots - 1):
        if acc_slots >= 2 and target.acc_rows - acc_slots * slot >= zero_rows * knobs.panel_tiles:
            return replace(knobs, acc_slots=acc_slots, zero_rows=zero_rows)
    return knobs


def _choices(target: Target, block_rows: int, widths: Sequence[int], kept: Kept | None) -> list[Knobs]:
    """Knobs for each width of a panel that the memories hold, with as many slots for weights as possible."""
    choices: list[Knobs] = []
    for panel_tiles in widths:
        splits = _rings_and_steps(target, panel_tiles)
        shares = (_knobs(target, panel_tiles, block_rows, *split, kept) for split in splits)
        if (knobs := next((k for k in shares if k is not None), None)) is not None:
            choices.append(knobs)
    return choices


def schedules(
    metaops: MetaOps,
    m: int,
    n: int,
    target: Target,
    packing: Packing | None = None,
    order: RowOrder | None = None,
    widths: Sequence[int] | None = None,
) -> Iterator[Plan]:
    """Every schedule of a cover that fits the memories. Raises UserError when none does.

    packing: of this cover, for schedules with compressed weights. order: of the rows, where it is known.
    widths: of panels, in column tiles; by default any.
    """
    widths = widths or powers(1, -(-n // target.array.cols))
    array, kept = target.array, packing.kept if packing else None
    order = order or row_order(metaops, m)
    m = len(order.rows)
    unit_rows, columns = target.unit[0], tile_columns(target, kept)
    fits = False
    for block_rows in powers(unit_rows, -(-m // unit_rows) * unit_rows):
        # Cutting a large cover takes longer than all the rest: not for blocks that no memory holds.
        if not (choices := _choices(target, block_rows, widths, kept)):
            continue
        fits = True
        bands = cut_to_bands(metaops, order, block_rows, columns)
        tiles = packing.tiles(metaops, bands, target) if packing else cut_to_tiles(metaops, bands, columns)
        if not live_blocks(bands, m, block_rows).all():
            choices = [_with_zeros(knobs, target) for knobs in choices]
        for knobs in choices:
            found = estimate(metaops, order, bands, tiles, m, n, target, knobs)
            yield Plan(metaops, order, bands, tiles, knobs, found, packing)
    if not fits:
        needed = RINGS[-1] * (unit_rows + max(unit_rows, array.rows))
        raise UserError(
            f"target {target.name}: has {target.spad_rows} scratchpad rows and {target.acc_rows} accumulator "
            f"rows; the smallest schedule needs {needed} and {2 * unit_rows}; give it larger memories in its "
            "TOML file"
        )


def best_plan(
    metaops: MetaOps,
    m: int,
    n: int,
    target: Target,
    packing: Packing | None = None,
    order: RowOrder | None = None,
) -> Plan:
    """The schedule of least estimated cycles for a cover, as `schedules`. Raises UserError when none fits."""
    return min(schedules(metaops, m, n, target, packing, order), key=lambda plan: plan.estimate.score)
