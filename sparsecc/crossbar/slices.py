"""Bit slices of blocks: one tile for each slice, and without those that hold nothing."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sparsecc.crossbar.encode import Encoding, levels_of
from sparsecc.crossbar.tiles import Tile


def flipped(tile: Tile, encoding: Encoding) -> Tile:
    """The tile with the bit lines flipped whose cells then hold less in all (ISAAC, ISCA 2016).

    Unsigned sums are then at most half of what they could be, which saves a bit of the converter.
    """
    if encoding.is_signed:
        return tile
    flags = 2 * tile.levels.sum(axis=0, dtype=np.int64) > encoding.largest_level * tile.rows
    return tile.but(flipped=flags if flags.any() else None)


def sliced(blocks: Iterable[Tile], encoding: Encoding) -> list[Tile]:
    """Each block as one tile for each slice, the lowest slice first, block after block."""
    found: list[Tile] = []
    for block in blocks:
        assert block.slice < 0, "the block is sliced already"
        for number, levels in enumerate(levels_of(block.levels, encoding)):
            shift, zero = encoding.shifts[number], encoding.zeros[number]
            tile = block.but(levels=levels, slice=number, shift=shift, zero=zero)
            found.append(flipped(tile, encoding))
    return found


def without_empty(tiles: Iterable[Tile]) -> list[Tile]:
    """The tiles that hold something, without the word lines and bit lines that hold nothing in their slice.

    A tile without a value needs no array, a bit line without one no conversion, a word line none no driver.
    """
    found: list[Tile] = []
    for tile in tiles:
        values = tile.levels != tile.zero
        rows, columns = values.any(axis=1), values.any(axis=0)
        if not rows.any():
            continue
        rows |= tile.bundle >= 0  # lines of a bundle belong to all of it
        if not (rows.all() and columns.all()):
            tile = tile.but(
                inputs=tile.inputs[rows],
                outputs=tile.outputs[columns],
                levels=np.ascontiguousarray(tile.levels[np.ix_(rows, columns)]),
                doubled=None if tile.doubled is None else tile.doubled[rows],
                flipped=None if tile.flipped is None else tile.flipped[columns],
            )
        found.append(tile)
    return found
