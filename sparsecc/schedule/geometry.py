"""How a cover lies on a tensor unit: bands of output rows, and the tiles of columns that each band needs.

A *band* is a set of output rows that the same meta-ops write; a *tile* is up to R columns of one meta-op, the
rows of X that become one stationary operand. Every meta-op is cut to bands x tiles, so that within a band all
partial results add up in the same accumulators.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsecc.cover.metaops import K0, K_MAP, M0, M_MAP, Int32, Int64, K, M, MetaOps
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

    @property
    def is_natural(self) -> bool:
        return bool((np.diff(self.rows) == 1).all())


def row_order(metaops: MetaOps, m: int) -> RowOrder:
    """Rows as the meta-ops need them, those that no meta-op writes last where any are listed.

    Raises UserError when a row stands in two lists: then no order makes the rows of both consecutive. Parts of one
    list count as one list.
    """
    t = metaops.table
    if (t[:, M_MAP] < 0).all():
        return RowOrder(np.arange(m, dtype=np.int32), t[:, M0].copy())
    # Rows as intervals: of the natural order, or of the index pool. Touching intervals join to segments.
    start = np.where(t[:, M_MAP] >= 0, t[:, M_MAP].astype(np.int64) + LISTED, t[:, M0])
    by_start = np.argsort(start, kind="stable")
    reach = np.maximum.accumulate((start + t[:, M])[by_start])
    opens = np.concatenate(([True], start[by_start][1:] > reach[:-1]))
    segment = np.empty(len(t), np.int64)
    segment[by_start] = np.cumsum(opens) - 1
    first = start[by_start][opens]
    last = np.concatenate((reach[:-1][opens[1:]], reach[-1:]))
    rows = [
        metaops.index[a - LISTED : b - LISTED] if a >= LISTED else np.arange(a, b, dtype=np.int32)
        for a, b in zip(first.tolist(), last.tolist(), strict=True)
    ]
    by_row = sorted(range(len(rows)), key=lambda i: int(rows[i][0]))
    written = np.concatenate([rows[i] for i in by_row])
    if len(np.unique(written)) != len(written):
        raise UserError(
            "the cover has row lists that share rows without being the same; this target accumulates consecutive "
            "rows only; use sparse-compact modes none, global or window"
        )
    place = np.zeros(len(rows), np.int64)
    place[by_row] = np.cumsum([0, *(len(rows[i]) for i in by_row[:-1])])
    rest = np.setdiff1d(np.arange(m, dtype=np.int32), written)
    return RowOrder(np.concatenate((written, rest)), (place[segment] + start - first[segment]).astype(np.int32))


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
    def band_tiles(self) -> Int64:
        """Tiles of each band."""
        return np.bincount(self.piece_band, self.piece_tiles, len(self.first)).astype(np.int64)

    @property
    def tiles(self) -> int:
        return int(self.piece_tiles.sum())


def cut_to_bands(metaops: MetaOps, order: RowOrder, block_rows: int, tile: int) -> Bands:
    """Cut every meta-op at multiples of block_rows and wherever another meta-op's rows begin or end inside it."""
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
class Tiles:
    """Tile uses in the order of execution: bands, pieces, columns."""

    band: Int64
    piece: Int64
    source: Int64
    """Which rows of X: equal for equal tiles. A first row, or LISTED + a place in the index pool."""
    rows: Int64
    """Rows of X in the tile, at most R."""


def cut_to_tiles(metaops: MetaOps, bands: Bands, tile: int) -> Tiles:
    """All tile uses of the bands."""
    t = metaops.table.astype(np.int64)
    piece = np.repeat(np.arange(len(bands.piece_tiles)), bands.piece_tiles)
    first = np.cumsum(bands.piece_tiles) - bands.piece_tiles
    offset = (np.arange(len(piece)) - first[piece]) * tile
    metaop = bands.piece_metaop[piece]
    source = np.where(t[:, K_MAP] >= 0, t[:, K_MAP] + LISTED, t[:, K0])[metaop] + offset
    return Tiles(bands.piece_band[piece], piece, source, np.minimum(tile, t[metaop, K] - offset))
