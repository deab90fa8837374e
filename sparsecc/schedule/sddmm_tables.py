"""The tables that a program for a product with a mask loops over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsecc.cover.metaops import Int32, Int64
from sparsecc.schedule.residency import place_tiles
from sparsecc.schedule.sddmm import Knobs, MaskPlan
from sparsecc.target import Target


@dataclass(frozen=True, eq=False)
class MaskProgram:
    """One product with a mask as loops over stages, each of them once for every chunk of k.

    In the scratchpad lie slots of A (a block of rows, one column of tiles of k after the other), then slots
    of B (a panel, one tile of columns after the other). All tables are int32. Those of stages have an entry
    for every stage and chunk, `piece_*` one for every piece in them; `piece_first` has one more.
    """

    m: int
    n: int
    k: int
    knobs: Knobs
    tile_rows: int
    """Scratchpad rows of one tile of columns of B: the chunk, rounded up to whole tiles of k."""
    a_load: Int32
    """1 where the stage is the first to need its block of A, else 0."""
    a_spad: Int32
    """Scratchpad row of the block."""
    a_row: Int32
    """First row of the block in A."""
    a_rows: Int32
    b_load: Int32
    """1 where the stage is the first to need its panel of B, else 0."""
    b_spad: Int32
    """Scratchpad row of the panel."""
    b_column: Int32
    """First column of the panel in B."""
    b_columns: Int32
    k_first: Int32
    k_size: Int32
    stage_tile: Int32
    """The stage's first column tile inside its panel."""
    stage_column: Int32
    """First column of the output."""
    stage_columns: Int32
    stage_rows: Int32
    """Rows of all pieces: the distance of the stage's column tiles in the accumulators."""
    stage_acc: Int32
    """Row of the accumulators of the stage's first piece."""
    stage_adds: Int32
    """1 where an earlier chunk of k has left sums, else 0."""
    stage_stores: Int32
    """1 at the last chunk of k, else 0."""
    a_move: Int32
    """1 where the block is not in L0A yet, else 0."""
    a_half: Int32
    """The half of L0A it lies in."""
    b_move: Int32
    b_half: Int32
    piece_first: Int32
    """First piece of each stage."""
    piece_at: Int32
    """Row inside the block of A."""
    piece_row: Int32
    """Row of the output."""
    piece_rows: Int32
    piece_acc: Int32
    """Row inside the stage's accumulators."""

    @property
    def stages(self) -> int:
        return len(self.a_load)


def _i32(a: Int64) -> Int32:
    return np.ascontiguousarray(a, np.int32)


def _halves(source: Int64) -> tuple[Int32, Int32]:
    """Where the next source differs from the one before, and which half of a memory each then takes."""
    moves = np.diff(source, prepend=-1) != 0
    return moves.astype(np.int32), _i32((np.cumsum(moves) - 1) % 2)


def build_masked(plan: MaskPlan, target: Target) -> MaskProgram:
    """The program of a planned mask."""
    (m, n, k), stages, knobs, cols = plan.shape, plan.stages, plan.knobs, target.array.cols
    chunks = -(-k // knobs.chunk)
    count = len(stages.block)
    stage = np.repeat(np.arange(count), chunks)
    chunk = np.tile(np.arange(chunks), count)
    number = np.arange(count * chunks)
    chunk_tiles = -(-knobs.chunk // cols)
    a_size, b_size = knobs.block_rows * chunk_tiles, chunk_tiles * cols * knobs.panel_tiles
    a_source, b_source = stages.block[stage] * chunks + chunk, stages.panel[stage] * chunks + chunk
    a_slot, a_load = place_tiles(a_source, number, knobs.a_slots, knobs.ahead)
    b_slot, b_load = place_tiles(b_source, number, knobs.b_slots, knobs.ahead)

    a_row = stages.block * knobs.block_rows
    b_column = stages.panel * knobs.panel_tiles * cols
    column = stages.tile * cols
    k_first = chunk * knobs.chunk
    rows = stages.rows
    acc_slot = np.arange(count) % knobs.acc_slots * knobs.block_rows * knobs.panel_tiles
    # Pieces of a stage, again for each of its chunks.
    per_stage = np.bincount(stages.piece_stage, minlength=count)
    first = np.cumsum(per_stage) - per_stage
    sizes = per_stage[stage]
    piece_first = np.concatenate(([0], np.cumsum(sizes)))
    piece = np.arange(int(piece_first[-1])) - np.repeat(piece_first[:-1] - first[stage], sizes)
    above = np.cumsum(stages.piece_rows) - stages.piece_rows
    above -= above[first[stages.piece_stage]]
    (a_move, a_half), (b_move, b_half) = _halves(a_source), _halves(b_source)
    return MaskProgram(
        m=m,
        n=n,
        k=k,
        knobs=knobs,
        tile_rows=chunk_tiles * cols,
        a_load=_i32(a_load),
        a_spad=_i32(a_slot * a_size),
        a_row=_i32(a_row[stage]),
        a_rows=_i32(np.minimum(knobs.block_rows, m - a_row)[stage]),
        b_load=_i32(b_load),
        b_spad=_i32(knobs.a_slots * a_size + b_slot * b_size),
        b_column=_i32(b_column[stage]),
        b_columns=_i32(np.minimum(knobs.panel_tiles * cols, n - b_column)[stage]),
        k_first=_i32(k_first),
        k_size=_i32(np.minimum(knobs.chunk, k - k_first)),
        stage_tile=_i32((stages.tile - stages.panel * knobs.panel_tiles)[stage]),
        stage_column=_i32(column[stage]),
        stage_columns=_i32(np.minimum(stages.tiles * cols, n - column)[stage]),
        stage_rows=_i32(rows[stage]),
        stage_acc=_i32(acc_slot[stage]),
        stage_adds=_i32((chunk > 0).astype(np.int64)),
        stage_stores=_i32((chunk == chunks - 1).astype(np.int64)),
        a_move=a_move,
        a_half=a_half,
        b_move=b_move,
        b_half=b_half,
        piece_first=_i32(piece_first),
        piece_at=_i32((stages.piece_row - a_row[stages.piece_stage])[piece]),
        piece_row=_i32(stages.piece_row[piece]),
        piece_rows=_i32(stages.piece_rows[piece]),
        piece_acc=_i32(above[piece]),
    )
