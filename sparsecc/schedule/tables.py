"""The tables that a program for a tensor unit loops over, and the weights packed in the order of use."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sparsecc.cover.laws import CHUNK, Pattern, locate
from sparsecc.cover.metaops import Int32, Int64
from sparsecc.schedule.cost import Knobs, Plan, live_blocks, panels, store_cycles, tile_columns, work_of
from sparsecc.schedule.geometry import LISTED, pieces_of_metaops
from sparsecc.schedule.residency import place_tiles
from sparsecc.schedule.strips import Strips
from sparsecc.target import Target


@dataclass(frozen=True, eq=False)
class Program:
    """One operator as loops over tables.

    For each panel of N, for each block of output rows in its turn: fill the rows nobody writes with zeros,
    run the block's steps, store the block. Blocks that nobody writes are stored between the steps from a few
    rows of zeros, where the accumulators have room for them (`knobs.zero_rows`). A step multiplies the
    weights of one band by a run of its tiles; the weights and the tiles of X that are not in the scratchpad
    yet are fetched `knobs.ahead` steps before.
    All tables are int32; `*_first` tables have one entry more than what they divide.
    """

    m: int
    n: int
    k: int
    added: int
    """Rows of the result where blocks are added to them, so that they are zeros at first; else 0."""
    knobs: Knobs
    block_first: Int32
    """First step of each block. Blocks that are stored from zeros are none of these."""
    block_row: Int32
    """First output row of each block, or its first entry in scatter."""
    block_rows: Int32
    scatter: Int32
    """Output row at each place of the row order; empty when the order is natural."""
    zero_first: Int32
    """First zero run of each block."""
    zero_row: Int32
    """Row inside the block."""
    zero_rows: Int32
    idle_first: Int32
    """First store of zeros before each step, and of those after the last."""
    idle_row: Int32
    """First output row of each store of zeros, or its first entry in scatter."""
    idle_rows: Int32
    step_band_start: Int32
    """1 where a step is the first of its band and overwrites the accumulators, else 0."""
    step_row: Int32
    """First row of the step's band inside its block."""
    step_rows: Int32
    step_tile_rows: Int32
    """Rows of packed weights of each tile of the step."""
    step_compressed: Int32
    """1 where these are values kept and their metadata, else 0."""
    step_weight: Int32
    """First row of the step's packed weights."""
    step_first: Int32
    """First tile of each step."""
    fetch_first: Int32
    """First load of each step."""
    tile_x: Int32
    """Scratchpad row of each tile."""
    tile_rows: Int32
    load_x: Int32
    """Scratchpad row each load goes to."""
    load_row: Int32
    """First row of X, or first entry in gather."""
    load_rows: Int32
    load_listed: Int32
    """1 where load_row is an entry of gather, else 0."""
    gather: Int32
    weights: NDArray[np.generic]
    """[rows, C]: tile after tile, the rows of the band by the columns of the tile, zero-padded.

    Compressed tiles are the values kept of each row, followed by their metadata.
    """

    @property
    def blocks(self) -> int:
        return len(self.block_row)

    @property
    def steps(self) -> int:
        return len(self.step_row)


def _i32(a: NDArray[np.generic]) -> Int32:
    return np.ascontiguousarray(a, np.int32)


def _starts(counts: Int64) -> Int64:
    return np.concatenate(([0], np.cumsum(counts)))


def build(plan: Plan, pattern: Pattern, data: NDArray[np.generic] | None, n: int, target: Target) -> Program:
    """The program of a planned cover; data holds the values of the pattern's nonzeros.

    Without data all weights are 0, which is quicker and does for a program that is only timed.
    """
    places = len(plan.order.rows)
    knobs, bands, tiles, array = plan.knobs, plan.bands, plan.tiles, target.array
    # Tiles to steps: runs of a band's tiles that are packed alike.
    run_tiles = np.diff(tiles.runs, append=len(tiles.band))
    run_of = np.repeat(np.arange(len(run_tiles)), run_tiles)
    in_run = np.arange(len(tiles.band)) - tiles.runs[run_of]
    per_step = np.clip(knobs.weight_rows // tiles.weight_rows[tiles.runs], 1, knobs.step_tiles)
    run_steps = -(-run_tiles // per_step)
    run_first_step = _starts(run_steps)
    tile_step = run_first_step[:-1][run_of] + in_run // per_step[run_of]
    steps = int(run_first_step[-1])
    step_run = tiles.runs[np.repeat(np.arange(len(run_tiles)), run_steps)]
    step_band = tiles.band[step_run]
    step_tiles = np.bincount(tile_step, minlength=steps)
    tile_weight = _starts(tiles.weight_rows)

    slot, load = place_tiles(tiles.identity, tile_step, knobs.x_slots, knobs.ahead)
    x_base = knobs.ring * knobs.weight_rows
    tile_x = x_base + slot * tile_columns(target, knobs.kept) * knobs.panel_tiles
    loads = np.flatnonzero(load)
    listed = tiles.source[loads] >= LISTED

    # Bands to blocks of output rows; rows that no band writes are filled with zeros.
    blocks = -(-places // knobs.block_rows)
    band_block = bands.first // knobs.block_rows
    written = np.zeros(places + 1, np.int8)
    np.add.at(written, bands.first, 1)
    np.add.at(written, bands.first + bands.rows, -1)
    unwritten = np.cumsum(written[:-1]) == 0
    edge = np.flatnonzero(np.diff(np.concatenate(([0], unwritten.astype(np.int8), [0]))))
    zero_start, zero_end = edge[::2], edge[1::2]
    run, first_row, end_row = _cut_runs(zero_start, zero_end, knobs.block_rows)
    steps_of_block = np.bincount(band_block[step_band], minlength=blocks)
    live = live_blocks(bands, places, knobs.block_rows)
    if not knobs.zero_rows:
        live[:] = True
    idle = _idle(plan, live, step_band, step_tiles, places, n, target)
    turn = _turns(steps_of_block)
    by_turn = np.argsort(turn)
    by_turn = by_turn[live[by_turn]]
    held = live[run]
    run, first_row, end_row = run[held], first_row[held], end_row[held]
    turn = np.cumsum(live) - 1 if knobs.zero_rows else turn
    zeros_by_turn = np.argsort(turn[run], kind="stable")
    run, first_row, end_row = run[zeros_by_turn], first_row[zeros_by_turn], end_row[zeros_by_turn]
    block_start = by_turn * knobs.block_rows
    natural = plan.order.is_natural
    return Program(
        m=pattern.m,
        n=n,
        k=pattern.k,
        added=plan.order.added,
        knobs=knobs,
        block_first=_i32(_starts(steps_of_block[by_turn])),
        block_row=_i32(block_start),
        block_rows=_i32(np.minimum(knobs.block_rows, places - block_start)),
        scatter=_i32(plan.order.rows if not natural else np.zeros(0)),
        zero_first=_i32(_starts(np.bincount(turn[run], minlength=len(by_turn)))),
        zero_row=_i32(first_row - run * knobs.block_rows),
        zero_rows=_i32(end_row - first_row),
        idle_first=idle.first,
        idle_row=idle.row,
        idle_rows=idle.rows,
        step_band_start=_i32(np.diff(step_band, prepend=-1) != 0),
        step_row=_i32(bands.first[step_band] - band_block[step_band] * knobs.block_rows),
        step_rows=_i32(bands.rows[step_band]),
        step_tile_rows=_i32(tiles.weight_rows[step_run]),
        step_compressed=_i32(tiles.compressed[step_run]),
        step_weight=_i32(tile_weight[_starts(step_tiles)[:-1]] if steps else np.zeros(0)),
        step_first=_i32(_starts(step_tiles)),
        fetch_first=_i32(_starts(np.bincount(tile_step[loads], minlength=steps))),
        tile_x=_i32(tile_x),
        tile_rows=_i32(tiles.rows),
        load_x=_i32(tile_x[loads]),
        load_row=_i32(np.where(listed, tiles.source[loads] - LISTED, tiles.source[loads])),
        load_rows=_i32(tiles.rows[loads]),
        load_listed=_i32(listed),
        gather=_i32(plan.metaops.index if listed.any() else np.zeros(0)),
        weights=np.zeros((int(tile_weight[-1]), array.cols), np.int8)
        if data is None
        else plan.packing.pack(plan.metaops, bands, tiles, data, target, tile_weight)
        if plan.packing
        else _pack(plan, pattern, data, tile_weight, array.rows, array.cols),
    )


def by_place(program: Program, strips: Strips) -> Program:
    """The program with places in the image instead of rows of X: every load takes a list of them."""
    listed = program.load_listed > 0
    # Covers list rows of the result in the same table; no load takes those, and there may be more of them.
    gather = np.minimum(program.gather, len(strips.places) - 1)
    places = np.concatenate((strips.places, strips.places[gather]))
    row = np.where(listed, program.load_row + program.k, program.load_row)
    return replace(program, gather=places, load_row=_i32(row), load_listed=np.ones_like(program.load_listed))


@dataclass(frozen=True, eq=False)
class _Idle:
    """Stores of zeros; as in Program."""

    first: Int32
    row: Int32
    rows: Int32


def _idle(plan: Plan, live: NDArray[np.bool_], step_band: Int64, step_tiles: Int64, m: int, n: int,
          target: Target) -> _Idle:  # fmt: skip
    """Stores of zeros between the steps, whenever the stores of live blocks leave time while steps last.

    Few are issued ahead, as a full queue of stores would hold up all that is issued after it.
    """
    knobs, bands = plan.knobs, plan.bands
    steps = len(step_band)
    start = np.flatnonzero(~live) * knobs.block_rows
    size = np.minimum(knobs.block_rows, m - start)
    count = -(-size // max(knobs.zero_rows, 1))
    part = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    row = np.repeat(start, count) + part * knobs.zero_rows
    rows = np.minimum(knobs.zero_rows, np.repeat(start + size, count) - row)
    # When each step begins, if no engine waits for another.
    columns = min(n, knobs.panel_tiles * target.array.cols)
    work = work_of(plan.metaops, bands, plan.tiles, n, target, knobs)
    cycles = np.max([work.compute, work.load, work.move], axis=0) / panels(n, knobs, target)
    through = np.concatenate(([0.0], np.cumsum(cycles)))[_starts(step_tiles)]
    each = store_cycles(columns, not plan.order.is_natural, target)
    ends = np.searchsorted(bands.first[step_band] // knobs.block_rows, np.flatnonzero(live), side="right")
    at = np.full(len(row), steps, np.int64)
    stored, begin, i = 0.0, 0, 0
    for block, end in zip(np.flatnonzero(live).tolist(), ends.tolist(), strict=True):
        while i < len(row) and begin < end:
            step = int(np.searchsorted(through, stored))
            if step >= end:
                break
            at[i] = max(begin, step)
            stored = max(stored, float(through[at[i]])) + float(rows[i]) * each
            i += 1
        stored = max(stored, float(through[end])) + min(knobs.block_rows, m - block * knobs.block_rows) * each
        begin = end
    return _Idle(_i32(_starts(np.bincount(at, minlength=steps + 1))), _i32(row), _i32(rows))


def _turns(steps: Int64) -> Int64:
    """When each block has its turn: blocks without steps, which only store, stand between others."""
    empty = steps == 0
    done = np.cumsum(steps) / max(1, int(steps.sum()))
    idle = (np.cumsum(empty) - 0.5) / max(1, int(empty.sum()))
    turn = np.zeros(len(steps), np.int64)
    turn[np.argsort(np.where(empty, idle, done), kind="stable")] = np.arange(len(steps))
    return turn


def _cut_runs(start: Int64, end: Int64, size: int) -> tuple[Int64, Int64, Int64]:
    """Cut half-open runs at multiples of size; returns (block, start, end) of each part."""
    if not len(start):
        none = np.zeros(0, np.int64)
        return none, none, none
    count = (end - 1) // size - start // size + 1
    run = np.repeat(np.arange(len(start)), count)
    block = start[run] // size + np.arange(len(run)) - np.repeat(np.cumsum(count) - count, count)
    return block, np.maximum(start[run], block * size), np.minimum(end[run], (block + 1) * size)


def _pack(
    plan: Plan, pattern: Pattern, data: NDArray[np.generic], tile_weight: Int64, tile: int, cols: int
) -> NDArray[np.generic]:
    """Every nonzero at its place: row of the packed weights, column of the tile."""
    packed = np.zeros((int(tile_weight[-1]), cols), data.dtype)
    if not pattern.nnz:
        return packed
    bands = plan.bands
    places = locate(plan.metaops, pattern)
    assert (places.owner >= 0).all(), "a cover without some nonzero reached the schedule"
    piece_of = pieces_of_metaops(bands, len(plan.metaops), plan.order)
    # Packed row of each tile's row 0 of the row order.
    origin = tile_weight[:-1] - np.repeat(bands.first[bands.piece_band], bands.piece_tiles)
    flat = packed.reshape(-1)
    # Some at a time, so that what is computed on the way stays in the processor's caches.
    for start in range(0, pattern.nnz, CHUNK):
        some = slice(start, start + CHUNK)
        owner, column = places.owner[some], places.column[some]
        row = plan.order.first[owner] + places.row[some]
        at = piece_of.first_tile[piece_of(owner, row)] + column // tile
        flat[(origin[at] + row) * cols + column % tile] = data[some]
    return packed
