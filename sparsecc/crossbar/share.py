"""Tiles with the same cells need to be programmed once: the others use that array, at another time."""

from __future__ import annotations

from collections.abc import Sequence

from sparsecc.crossbar.tiles import Tile


def shared(tiles: Sequence[Tile], highest: int, times: int) -> list[Tile]:
    """The tiles, each of which says whose cells it uses: those of the first tile with equal levels.

    Inputs, outputs, shifts, doubled and flipped lines may differ: they belong to the reading, not the cells.
    highest: the highest level of a cell. times: how many tiles at most use the same cells.
    """
    owner: dict[tuple[tuple[int, int], bytes], tuple[int, int]] = {}
    """By cells: the tile to use, and how many use it."""
    found: list[Tile] = []
    for number, tile in enumerate(tiles):
        if tile.bundle >= 0:  # its cells are read with those beside them
            found.append(tile)
            continue
        key = tile.levels.shape, tile.cells(highest).tobytes()
        first, users = owner.get(key, (number, 0))
        if users == times:
            first, users = number, 0
        owner[key] = first, users + 1
        found.append(tile.but(image=-1 if first == number else first))
    return found
