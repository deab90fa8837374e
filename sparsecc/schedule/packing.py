"""Compressed weights: which tiles of a cover have at most N nonzeros in every M columns, and their packing.

A unit that takes N:M left operands (TU.SPMMA) works on tiles of as many columns as R kept values stand for.
A tile whose rows all obey the pattern is packed as the values kept, [rows, R], followed by the metadata that
names their columns; any other tile as it is, R columns after R columns. Which of a cover's tiles obey depends
on the order of the columns in its meta-ops, which is theirs to choose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sparsecc.cover.laws import CHUNK, Pattern, Places, locate
from sparsecc.cover.metaops import Int64, K, M, MetaOps
from sparsecc.schedule.geometry import Bands, RowOrder, Tiles, cut_to_tiles, pieces_of_metaops
from sparsecc.target import Kept, Target
from sparsecc.target.numbers import elements_of_bytes, metadata_bits


@dataclass(frozen=True, eq=False)
class Packing:
    """How the tiles of one cover, in one order of its rows, are packed for units that take N:M."""

    kept: Kept
    order: RowOrder
    places: Places
    metaop: Int64
    """Of each (meta-op, row, columns of one tile) that breaks the pattern: the meta-op,"""
    place: NDArray[np.integer]
    """the place of the row in the order,"""
    part: Int64
    """and which of the meta-op's tiles along k."""

    @staticmethod
    def of(metaops: MetaOps, pattern: Pattern, order: RowOrder, kept: Kept, target: Target) -> Packing:
        """The packing of a cover of the pattern."""
        places = locate(metaops, pattern)
        t = metaops.table.astype(np.int64)
        groups = -(-t[:, K] // kept.group)
        base = np.concatenate(([0], np.cumsum(groups * t[:, M])))
        owner = places.owner
        key = base[owner] + places.row * groups[owner] + places.column // kept.group
        count = np.bincount(key, minlength=int(base[-1]))
        broken = np.flatnonzero(count > kept.keep)
        metaop = np.searchsorted(base, broken, side="right") - 1
        row, group = np.divmod(broken - base[metaop], np.maximum(groups[metaop], 1))
        part = group * kept.group // kept.columns(target.array.rows)
        return Packing(kept, order, places, metaop, order.first[metaop] + row, part)

    def tiles(self, metaops: MetaOps, bands: Bands, target: Target) -> Tiles:
        """All tile uses of the bands, which are cut to tiles of as many columns as R kept values stand for.

        A tile is compressed where it obeys the pattern and the unit takes fewer steps for it.
        """
        kept, rows_of_unit = self.kept, target.array.rows
        tiles = cut_to_tiles(metaops, bands, kept.columns(rows_of_unit))
        obeys = np.ones(len(tiles.band), bool)
        piece_of = pieces_of_metaops(bands, len(metaops), self.order)
        obeys[piece_of.first_tile[piece_of(self.metaop, self.place)] + self.part] = False
        values = -(-tiles.rows // kept.group) * kept.keep
        parts = -(-tiles.rows // rows_of_unit)
        compressed = obeys & (-(-values // rows_of_unit) < parts)
        height = bands.rows[tiles.band]
        metadata = -(-height * target.metadata_bytes(kept) // target.row_bytes)
        return replace(
            tiles,
            weight_rows=np.where(compressed, height + metadata, height * parts),
            depth=np.where(compressed, values, tiles.rows),
            compressed=compressed,
        )

    def pack(
        self, metaops: MetaOps, bands: Bands, tiles: Tiles, data: NDArray[np.generic], target: Target,
        weight: Int64,
    ) -> NDArray[np.generic]:  # fmt: skip
        """Packed weights, [rows, C]; weight: the first packed row of each tile, and their number."""
        kept, cols, unit = self.kept, target.array.cols, target.array.rows
        packed = np.zeros((int(weight[-1]), cols), data.dtype)
        flat = packed.reshape(-1)
        height = bands.rows[tiles.band]
        # Of every compressed tile all rows as they are before anything is left out, one after another.
        whole = np.where(tiles.compressed, height, 0)
        first_whole = np.cumsum(whole) - whole
        wide = kept.columns(unit)
        loose = np.zeros((int(whole.sum()), wide), data.dtype)
        used = np.zeros(loose.shape, bool)
        piece_of = pieces_of_metaops(bands, len(metaops), self.order)
        for start in range(0, len(data), CHUNK):
            some = slice(start, start + CHUNK)
            owner, column = self.places.owner[some], self.places.column[some].astype(np.int64)
            place = self.order.first[owner] + self.places.row[some]
            tile = piece_of.first_tile[piece_of(owner, place)] + column // wide
            row, column = place - bands.first[tiles.band[tile]], column % wide
            inside = tiles.compressed[tile]
            at = first_whole[tile[inside]] + row[inside], column[inside]
            loose[at], used[at] = data[some][inside], True
            tile, row, column = tile[~inside], row[~inside], column[~inside]
            block = weight[tile] + column // unit * height[tile]
            flat[(block + row) * cols + column % unit] = data[some][~inside]
        tile = np.repeat(np.arange(len(whole)), whole)
        row = np.arange(len(loose)) - first_whole[tile]
        values, metadata = _compress(loose, used, kept, cols)
        packed[weight[tile] + row, : values.shape[1]] = values
        bytes_of_row = target.metadata_bytes(kept)
        raw = np.zeros((len(packed), target.row_bytes), np.uint8)
        byte = (weight[tile] + height[tile]) * target.row_bytes + row * bytes_of_row
        raw.reshape(-1)[byte[:, None] + np.arange(bytes_of_row)] = metadata
        # Rows of metadata, behind the values of their tile, hold nothing else.
        behind = np.where(tiles.compressed, np.diff(weight) - height, 0)
        owner = np.repeat(np.arange(len(behind)), behind)
        number = np.arange(len(owner)) - (np.cumsum(behind) - behind)[owner]
        rows = weight[owner] + height[owner] + number
        packed[rows] = elements_of_bytes(target, raw[rows])
        return packed


def _compress(
    loose: NDArray[np.generic], used: NDArray[np.bool_], kept: Kept, cols: int
) -> tuple[NDArray[np.generic], NDArray[np.uint8]]:
    """The values kept of each row, [rows, values], and the bytes of their metadata.

    Where a group has fewer nonzeros than are kept, its first zeros are kept with them.
    """
    shape = (len(loose), loose.shape[1] // kept.group, kept.group)
    zero_last = np.argsort(~used.reshape(shape), axis=2, kind="stable")
    places = np.sort(zero_last[:, :, : kept.keep], axis=2)
    values = np.take_along_axis(loose.reshape(shape), places, axis=2)
    values = values.reshape(len(loose), shape[1] * kept.keep)
    return values, metadata_bits(kept, places.reshape(values.shape), cols)
