"""Tiles with the same cells need to be programmed once: the others use that array, at another time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sparsecc.crossbar.tiles import Tile


def shared(tiles: Sequence[Tile], highest: int) -> list[Tile]:
    """The tiles, each of which says whose cells it uses: those of the first tile with equal levels.

    Inputs, outputs, shifts, doubled and flipped lines may differ: they belong to the reading, not the cells.
    highest: the highest level of a cell.
    """
    first: dict[tuple[tuple[int, int], bytes], int] = {}
    found: list[Tile] = []
    for number, tile in enumerate(tiles):
        owner = first.setdefault((tile.levels.shape, tile.cells(highest).tobytes()), number)
        found.append(replace(tile, image=-1 if owner == number else owner))
    return found
