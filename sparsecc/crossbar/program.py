"""The tables of a crossbar program: what is written where, which blocks are read together, and when.

Tiles are numbered anew, wave by wave; those of a bundle stay together. One XB.MVMG starts the first bundle of
every array; every other is an XB.MVM, or an XB.MVMG of its own, so that each array goes on as soon as it is
free. It adds to the sums, or writes them where it is the first
with these outputs. Inputs lie in
SPAD: row i of X at row i, or, where few rows of X are used, the used ones one after another. Sums lie in ACC:
the rows of Y that a block writes, and, from the next line on, the others, which are 0. So zeros share no line
with sums, and neither waits for the other; they are stored while arrays are busy. Where the chip has fewer
arrays than the tiles need, the blocks of a round come after the writing of its arrays, in every inference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsecc.crossbar.bundle import bundles, columns_of, outputs_of
from sparsecc.crossbar.cost import gathers
from sparsecc.crossbar.place import adding, waves
from sparsecc.crossbar.tiles import Bool, Int8, Int32, Tile, Tiles
from sparsecc.errors import UserError
from sparsecc.target.crossbar import CrossbarTarget

# Of each bundle with cells of its own: where they go, and where they are in `cells`.
WRITES = ("write_array", "write_row", "write_rows", "write_column", "write_columns", "write_cells")
# Of each block: its cells; the first rows of consecutive inputs and outputs (0 where these are listed);
# shift, converter bits, and what is subtracted; places in `lists`, -1 for none.
BLOCKS = (
    "block_array", "block_row", "block_rows", "block_column", "block_columns", "block_in", "block_out",
    "block_shift", "block_adc", "block_offset", "block_inputs", "block_outputs", "block_doubled",
    "block_flipped",
)  # fmt: skip
# Of each bundle, its first block, blocks, and whether it adds to sums. Runs of rows of ACC that are 0 before
# any adds to them. Runs of rows of Y that lie together in ACC, where in both, those of zeros first. First
# bundle and first write of each round, and how many there are in all.
OTHERS = (
    "bundle_block", "bundle_blocks", "bundle_adds", "zero_first", "zero_rows", "store_from", "store_to",
    "store_rows", "round_bundle", "round_write",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class CrossbarProgram:
    """The tables. Those of blocks have one entry for each tile, in the order of blocks."""

    cells: Int8
    """Levels of all tiles that have cells of their own, one after another."""
    lists: Int32
    """Lists of rows of SPAD and ACC, and of flags."""
    gather: Int32
    """Rows of X that are loaded, in order; empty where all are."""
    scatter: Int32
    """The rows of Y in the order of ACC, those that are 0 last."""
    written: int
    """So many rows of Y, the first of `scatter`, are sums of blocks."""
    x_rows: int
    """Rows of X in SPAD."""
    y_rows: int
    """Rows of ACC that hold all of Y."""
    tables: Mapping[str, Int32]
    """By the names in WRITES, BLOCKS and OTHERS."""
    at_once: int
    """So many bundles, the first, are in different arrays and start together; they need no zeros before."""
    panel: int
    """Positions worked on at a time."""
    panels_ahead: int
    """Panels that the memories hold: 2 where one loads while the other is worked on."""
    panel_blocks: int
    """Rows of SPAD and ACC that the positions of a panel take in one row of X or Y."""
    line_rows: int
    """Rows of a line of the memories."""

    @property
    def zeros_at(self) -> int:
        """The row of ACC where rows of Y begin that are 0."""
        return self.y_rows - (len(self.scatter) - self.written)

    @property
    def x_panel(self) -> int:
        """Rows of SPAD from one panel to the next. Panels share no line: one would wait for the other."""
        return _lines(self.x_rows * self.panel_blocks, self.line_rows)

    @property
    def y_panel(self) -> int:
        """Rows of ACC from one panel to the next."""
        return _lines(self.y_rows * self.panel_blocks, self.line_rows)

    @property
    def rounds(self) -> int:
        return len(self.tables["round_bundle"]) - 1

    @property
    def blocks(self) -> int:
        return len(self.tables["block_array"])

    @property
    def bundles(self) -> int:
        return len(self.tables["bundle_block"])

    @property
    def blocks_at_once(self) -> int:
        """Blocks of the bundles that start together."""
        return int(self.tables["bundle_blocks"][: self.at_once].sum())

    @property
    def writes(self) -> int:
        return len(self.tables["write_array"])


@dataclass
class _Lists:
    """A pool of lists, equal ones once."""

    pool: list[Int32]
    known: dict[bytes, int]
    size: int = 0

    def place(self, values: NDArray[np.generic] | None) -> int:
        """Where the list is; -1 for none."""
        if values is None or (values.dtype == bool and not values.any()):
            return -1
        listed = values.astype(np.int32)
        if (key := listed.tobytes()) not in self.known:
            self.known[key] = self.size
            self.pool.append(listed)
            self.size += len(listed)
        return self.known[key]

    def rows(self, values: Int32) -> tuple[int, int]:
        """(first row, place of the list): a list only where the rows are not consecutive."""
        if (np.diff(values) == 1).all():
            return int(values[0]), -1
        return 0, self.place(values)


def build(tiles: Tiles, space: tuple[int, int, int], target: CrossbarTarget, arrays: int) -> CrossbarProgram:
    """The tables of placed tiles. space: (m, n, k); arrays: how many the chip has of the tiles' shape.

    Raises UserError where the memories cannot hold one row block of all inputs and outputs.
    """
    m, n, k = space
    when = waves(tiles, arrays)
    order = np.argsort(when, kind="stable")
    used = np.unique(np.concatenate([t.inputs for t in tiles])) if len(tiles) else np.zeros(0, np.int32)
    gather = used.astype(np.int32) if gathers(len(used), k, n, target) else np.zeros(0, np.int32)
    row_of = np.zeros(k, np.int32)
    row_of[gather if len(gather) else np.arange(k)] = np.arange(len(gather) or k)
    scatter, written = _rows_of_y(tiles, m)
    y_rows = m if written in (0, m) else _lines(written, target.line_rows) + m - written
    if y_rows > target.acc_rows:
        y_rows = m
    acc_of = np.arange(m, dtype=np.int32)
    acc_of[scatter] = np.arange(m) + np.where(np.arange(m) < written, 0, y_rows - m)
    lists = _Lists([], {})
    blocks: list[tuple[int, ...]] = []
    writes: list[tuple[int, ...]] = []
    cells: list[Int8] = []
    level = 0
    write_round: list[int] = []
    read = bundles(tiles[int(i)] for i in order)
    for tile in (tile for bundle in read for tile in bundle):
        in_row, inputs = lists.rows(row_of[tile.inputs])
        out_row, outputs = lists.rows(acc_of[tile.outputs])
        place = tile.array % arrays, tile.row, tile.rows, tile.column, tile.columns
        blocks.append(
            (
                *place, in_row, out_row, tile.shift, tile.adc_bits or target.adc.bits, _offset(tile), inputs,
                outputs, lists.place(tile.doubled), lists.place(tile.flipped),
            )
        )  # fmt: skip
    for bundle in read:
        lead = bundle[0]
        if lead.image < 0:
            writes.append((lead.array % arrays, lead.row, lead.rows, lead.column, columns_of(bundle), level))
            write_round.append(lead.array // arrays)
            held = np.hstack([tile.cells(target.level_max) for tile in bundle]).reshape(-1)
            cells.append(held)
            level += len(held)
    block = np.array(blocks, np.int32).reshape(-1, len(BLOCKS)).T
    write = np.array(writes, np.int32).reshape(-1, len(WRITES)).T
    # Where arrays are written between, blocks follow each other.
    rounds = np.array([bundle[0].array // arrays for bundle in read], np.int64)
    at_once = int((when[tiles.leads] == 0).sum()) if int(rounds.max(initial=0)) == 0 else 0
    every = np.arange(int(rounds.max(initial=-1)) + 2)
    sizes = np.array([len(bundle) for bundle in read], np.int32)
    panel, ahead = _panel(target, len(gather) or k, y_rows, n, len(every) > 2)
    adds, cleared = adding([outputs_of(bundle) for bundle in read], m, at_once)
    zero = np.zeros(y_rows, bool)
    zero[acc_of[cleared]] = True
    others = (
        (np.cumsum(sizes) - sizes).astype(np.int32),
        sizes,
        adds.astype(np.int32),
        *_runs(zero),
        *_stores(acc_of, written),
        np.searchsorted(rounds, every).astype(np.int32),
        np.searchsorted(write_round, every).astype(np.int32),
    )
    tables = zip((*WRITES, *BLOCKS, *OTHERS), (*write, *block, *others), strict=True)
    return CrossbarProgram(
        np.concatenate(cells) if cells else np.zeros(0, np.int8),
        np.concatenate(lists.pool) if lists.pool else np.zeros(0, np.int32),
        gather,
        scatter,
        written,
        len(gather) or k,
        y_rows,
        dict(tables),
        at_once,
        panel,
        ahead,
        -(-min(panel, n) // target.row_elements),
        target.line_rows,
    )


def _lines(rows: int, line_rows: int) -> int:
    """So many rows, and those up to the next line."""
    return -(-rows // line_rows) * line_rows


def _rows_of_y(tiles: Tiles, m: int) -> tuple[Int32, int]:
    """(the m rows of Y, those first that a tile writes; how many these are)."""
    written = np.zeros(m, bool)
    for tile in tiles:
        written[tile.outputs] = True
    return np.argsort(~written, kind="stable").astype(np.int32), int(written.sum())


def _stores(acc_of: Int32, written: int) -> tuple[Int32, Int32, Int32]:
    """(first row in ACC, first row of Y, rows) of each run of both; those of zeros first.

    acc_of: the row of ACC of each row of Y.
    """
    first = np.flatnonzero(np.diff(acc_of, prepend=-2) != 1)
    rows = np.diff(first, append=len(acc_of))
    late = np.argsort(acc_of[first] < written, kind="stable")
    return acc_of[first][late], first[late].astype(np.int32), rows[late].astype(np.int32)


def _offset(tile: Tile) -> int:
    """What is subtracted from each result, times the sum of the inputs."""
    return tile.zero << tile.shift


def _runs(rows: Bool) -> tuple[Int32, Int32]:
    """(first row, rows) of each run of these."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], rows, [False]])))
    return edges[::2].astype(np.int32), (edges[1::2] - edges[::2]).astype(np.int32)


def _panel(target: CrossbarTarget, x_rows: int, y_rows: int, n: int, multiplexed: bool) -> tuple[int, int]:
    """(positions of a panel, panels in the memories).

    One row block of positions while another loads; where arrays are written anew for every panel, as many
    positions as the memories hold.
    """
    width = target.row_elements
    held = min(target.spad_rows // x_rows, target.acc_rows // y_rows)
    if held < 1:
        raise UserError(
            f"{x_rows} inputs and {y_rows} outputs need so many rows of the input and output buffers; target "
            f"{target.name} has {target.spad_rows} and {target.acc_rows}; split the operator, or enlarge "
            "memory.spad and memory.acc"
        )
    needed = -(-n // width)
    if multiplexed:
        return min(held, needed) * width, 1
    whole = min(
        target.spad_rows // _lines(x_rows, target.line_rows),
        target.acc_rows // _lines(y_rows, target.line_rows),
    )
    return width, max(1, min(2, whole, needed))
