"""Bundles: tiles side by side on the same word lines, read at once.

A word line drives all bit lines of its array. Tiles of the same inputs that stand side by side, such as the
slices of one block, share its driver, the reading of the inputs and the steps; their results meet in
shift-and-add before they get to the sums. So the slices of a weight lie in ISAAC (ISCA 2016): next to each
other in one array. Each tile keeps its own shift, level for nothing and converter bits, so tiles of one slice
may be cut by the bits their bit lines need.

In a table, the tiles of a bundle follow each other and have the same number `bundle`, at least 0. They have
the same lines: inputs, and which of these are doubled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from sparsecc.crossbar.tiles import Int32, Int64, Tile

Bundle = list[Tile]


def bundles(tiles: Iterable[Tile]) -> list[Bundle]:
    """The tiles by what is read at once, in order; most bundles are one tile."""
    found: list[Bundle] = []
    for tile in tiles:
        if found and tile.bundle >= 0 and found[-1][-1].bundle == tile.bundle:
            found[-1].append(tile)
        else:
            found.append([tile])
    return found


def numbered(found: Iterable[Bundle]) -> list[Tile]:
    """The tiles of these bundles, numbered anew: -1 where one stands alone."""
    return [
        tile.but(bundle=number if len(bundle) > 1 else -1)
        for number, bundle in enumerate(found)
        for tile in bundle
    ]


def outputs_of(bundle: Sequence[Tile]) -> Int32:
    """The rows of Y that a bundle adds to, each once, in order."""
    if len(bundle) == 1:
        return bundle[0].outputs
    return np.unique(np.concatenate([t.outputs for t in bundle]))


def columns_of(bundle: Sequence[Tile]) -> int:
    return sum(t.columns for t in bundle)


def _lines(tile: Tile) -> Int64:
    """A number for each word line: its input, and whether that is doubled."""
    return 2 * tile.inputs.astype(np.int64) + (tile.factors - 1)


def side_by_side(tiles: Sequence[Tile]) -> Bundle:
    """The tiles on all their word lines together, where each holds nothing on those it did not have."""
    every = np.unique(np.concatenate([_lines(t) for t in tiles]))
    inputs, doubled = (every >> 1).astype(np.int32), every & 1 == 1
    found: Bundle = []
    for tile in tiles:
        levels = np.full((len(every), tile.columns), tile.zero, np.int8)
        levels[np.searchsorted(every, _lines(tile))] = tile.levels
        flags = doubled if doubled.any() else None
        found.append(tile.but(inputs=inputs, levels=levels, doubled=flags))
    return found


def broken_bundle(tiles: Sequence[Tile], columns: int) -> str | None:
    """A sentence about the first bundle that arrays of so many bit lines cannot read at once; or None."""
    seen: set[int] = set()
    first = 0
    for bundle in bundles(tiles):
        lead = bundle[0]
        if lead.bundle in seen:
            return f"tile {first} is of bundle {lead.bundle}, whose others it does not follow"
        if lead.bundle >= 0:
            seen.add(lead.bundle)
        width = columns_of(bundle)
        if width > columns:
            return f"bundle {lead.bundle} has {width} bit lines; an array has {columns}"
        at = lead.column
        for number, tile in enumerate(bundle, first):
            if not np.array_equal(_lines(tile), _lines(lead)):
                return f"tile {number} has other word lines than the others of bundle {lead.bundle}"
            if lead.array >= 0 and (tile.array, tile.row, tile.column) != (lead.array, lead.row, at):
                return f"tile {number} is not to the right of the one before it in bundle {lead.bundle}"
            at += tile.columns
        first += len(bundle)
    return None
