"""How a cover lies on a tensor unit: bands of output rows, and the tiles of columns that each band needs.

A *band* is a set of output rows that the same meta-ops write; a *tile* is up to R columns of one meta-op, the
rows of X that become one stationary operand. Every meta-op is cut to bands x tiles, so that within a band all
partial results add up in the same accumulators.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sparsecc.cover.metaops import (
    K0,
    K_MAP,
    M0,
    M_MAP,
    Int32,
    Int64,
    K,
    M,
    MetaOps,
    distinct_axes,
    expand,
)
from sparsecc.cover.rows import chains
from sparsecc.errors import UserError

# Places in the index pool are told apart from indices of ranges by this offset.
LISTED = 1 << 40


@dataclass(frozen=True, eq=False)
class RowOrder:
    """An order of the output rows in which the rows of every meta-op are consecutive."""

    rows: Int32
    """Row of the matrix at each place, [M]."""
    first: Int32
    """Place of the first row of each meta-op."""
    added: int = 0
    """Rows of the result where places may name a row several times, so that each is added to what is stored;
    else 0."""

    @property
    def is_natural(self) -> bool:
        return not self.added and bool((np.diff(self.rows) == 1).all())


def row_order(metaops: MetaOps, m: int) -> RowOrder:
    """Rows as the meta-ops need them, those that no meta-op writes last where any are listed.

    Every list says which row follows which; where the lists agree, the rows form chains, and each list is a
    part of one. Raises UserError where they disagree: then no order makes the rows of all lists consecutive.
    """
    t = metaops.table
    if (t[:, M_MAP] < 0).all():
        return RowOrder(np.arange(m, dtype=np.int32), t[:, M0].copy())
    owner, row, place = expand(t[:, M0], t[:, M], t[:, M_MAP], metaops.index)
    ordered = chains(owner, row, m)
    if ordered is None:
        raise UserError(
            "the cover lists the same rows in different orders or with different neighbours; this target "
            "accumulates consecutive rows only; use sparse-compact modes none, global or window"
        )
    written = np.zeros(m, bool)
    written[ordered] = True
    rows = np.concatenate((ordered, np.flatnonzero(~written).astype(np.int32)))
    rank = np.empty(m, np.int32)
    rank[rows] = np.arange(m, dtype=np.int32)
    return RowOrder(rows, rank[row[place == 0]])


def scattered_order(metaops: MetaOps, m: int, unit_rows: int) -> RowOrder:
    """The rows of every different list and range by themselves, for targets that can add to stored rows.

    Lists of whole units come first, so that cutting the order to blocks cuts few of them.
    """
    t = metaops.table
    axis, which = distinct_axes(t[:, M0], t[:, M], t[:, M_MAP])
    order = np.argsort(t[axis, M] % unit_rows != 0, kind="stable")
    axis = axis[order]
    _, rows, _ = expand(t[axis, M0], t[axis, M], t[axis, M_MAP], metaops.index)
    size = t[axis, M].astype(np.int64)
    first = np.zeros(len(axis), np.int64)
    first[order] = np.cumsum(size) - size
    return RowOrder(rows.astype(np.int32), first[which].astype(np.int32), m)


@dataclass(frozen=True, eq=False)
class Bands:
    """Bands in the order of rows, and the pieces of meta-ops in them, in the order of bands, then columns."""

    first: Int64
    """Place of the first row of each band in the row order."""
    rows: Int64
    """Rows of each band."""
    piece_band: Int64
    piece_metaop: Int64
    piece_tiles: Int64
    """Tiles of each piece: its columns / R, rounded up."""

    @property
    def tiles(self) -> int:
        return int(self.piece_tiles.sum())


def cut_to_bands(metaops: MetaOps, order: RowOrder, block_rows: int, tile: int) -> Bands:
    """Cut meta-ops at multiples of block_rows and wherever the rows of another begin or end inside."""
    t = metaops.table
    begin = order.first.astype(np.int64)
    end = begin + t[:, M]
    if not len(t):
        none = np.zeros(0, np.int64)
        return Bands(none, none, none, none, none)
    cuts = np.unique(np.concatenate((begin, end, np.arange(0, int(end.max()) + block_rows, block_rows))))
    low, high = np.searchsorted(cuts, begin), np.searchsorted(cuts, end)
    count = high - low
    metaop = np.repeat(np.arange(len(t)), count)
    within = np.arange(len(metaop)) - np.repeat(np.cumsum(count) - count, count)
    cut = low[metaop] + within
    column = np.where(t[:, K_MAP] >= 0, t[:, K_MAP], t[:, K0])
    by_band = np.lexsort((column[metaop], cut))
    metaop, cut = metaop[by_band], cut[by_band]
    used, band = np.unique(cut, return_inverse=True)
    return Bands(
        first=cuts[used],
        rows=cuts[used + 1] - cuts[used],
        piece_band=band.astype(np.int64),
        piece_metaop=metaop,
        piece_tiles=-(-t[metaop, K].astype(np.int64) // tile),
    )


@dataclass(frozen=True, eq=False)
class Pieces:
    """Where the rows of meta-ops lie among the pieces. Call it with meta-ops and places of rows of theirs.

    A meta-op has a piece in every band from that of its first row on: the piece of a row comes as many pieces
    after the meta-op's first as its band comes after the meta-op's first band.
    """

    band_of: Int64
    """Band of each place of the row order."""
    first_piece: Int64
    """Of each meta-op, less its first band."""
    first_tile: Int64
    """First tile of each piece, in the order of meta-ops."""

    def __call__(self, metaop: NDArray[np.integer], place: NDArray[np.integer]) -> Int64:
        """Numbers for first_tile."""
        return self.first_piece[metaop] + self.band_of[place]


def pieces_of_metaops(bands: Bands, metaops: int, order: RowOrder) -> Pieces:
    """The pieces of so many meta-ops."""
    band_of = np.searchsorted(bands.first, np.arange(len(order.rows)), side="right") - 1
    by_metaop = np.argsort(bands.piece_metaop, kind="stable")
    count = np.bincount(bands.piece_metaop, minlength=metaops)
    first_piece = np.cumsum(count) - count - band_of[order.first]
    first_tile = np.cumsum(bands.piece_tiles) - bands.piece_tiles
    return Pieces(band_of, first_piece, first_tile[by_metaop])


@dataclass(frozen=True, eq=False)
class Tiles:
    """Tile uses in the order of execution: bands, pieces, columns."""

    band: Int64
    piece: Int64
    source: Int64
    """Which rows of X begin it. A first row, or LISTED + a place in the index pool."""
    rows: Int64
    """Rows of X in the tile, at most R, or as many columns as R values are kept of."""
    weight_rows: Int64
    """Rows of packed weights of each tile."""
    depth: Int64
    """Products along k for each row of W and column of X: the rows of X, or the values kept of a row of W."""
    compressed: NDArray[np.bool_]
    """Whether the tile's weights are the values kept, followed by metadata."""

    @cached_property
    def runs(self) -> Int64:
        """The first tile of each run of tiles of one band that are packed alike."""
        key = np.stack((self.band, self.weight_rows, self.compressed.astype(np.int64)))
        changes = (key[:, 1:] != key[:, :-1]).any(axis=0)
        return np.flatnonzero(np.concatenate((np.ones(min(1, len(self.band)), bool), changes)))

    @cached_property
    def identity(self) -> Int64:
        """Equal for tiles of the same rows of X."""
        return self.source * (int(self.rows.max(initial=0)) + 1) + self.rows

    @cached_property
    def _first_and_last(self) -> tuple[Int64, Int64]:
        """First and last use of the tile of each use; of those with one first row, all short ones are one."""
        listed, short = self.source >= LISTED, self.rows < self.rows.max(initial=0)
        number = 4 * np.where(listed, self.source - LISTED, self.source) + 2 * listed + short
        use = np.arange(len(number))
        first, last = np.zeros((2, int(number.max(initial=-1)) + 1), np.int64)
        # Of equal numbers the assignment that is last stands.
        first[number[::-1]] = use[::-1]
        last[number] = use
        return first[number], last[number]

    @cached_property
    def first_use(self) -> NDArray[np.bool_]:
        """Whether no use before is of the same tile."""
        return self._first_and_last[0] == np.arange(len(self.band))

    @cached_property
    def distinct(self) -> int:
        """Tiles of X that differ."""
        return int(np.count_nonzero(self.first_use))

    @cached_property
    def reused(self) -> int:
        """Tiles of X that are used more than once."""
        first, last = self._first_and_last
        return int(np.count_nonzero(self.first_use & (first != last)))


def cut_to_tiles(metaops: MetaOps, bands: Bands, tile: int) -> Tiles:
    """All tile uses of the bands."""
    t = metaops.table.astype(np.int64)
    piece = np.repeat(np.arange(len(bands.piece_tiles)), bands.piece_tiles)
    first = np.cumsum(bands.piece_tiles) - bands.piece_tiles
    offset = (np.arange(len(piece)) - first[piece]) * tile
    metaop = bands.piece_metaop[piece]
    source = np.where(t[:, K_MAP] >= 0, t[:, K_MAP] + LISTED, t[:, K0])[metaop] + offset
    band, rows = bands.piece_band[piece], np.minimum(tile, t[metaop, K] - offset)
    return Tiles(band, piece, source, rows, bands.rows[band], rows, np.zeros(len(rows), bool))
