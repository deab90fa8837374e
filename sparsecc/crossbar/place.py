"""Which array, word lines and bit lines each tile gets.

Tiles with cells of their own get an array each while the chip has enough; where it has not, or where fewer
arrays are asked for, several tiles lie in one array, beside and below each other, and are read one after
another. What still does not fit is multiplexed over time: virtual array v is physical array v mod arrays,
programmed anew for each round v div arrays of every inference.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from sparsecc.crossbar.assign import Shape
from sparsecc.crossbar.bundle import Bundle, bundles, columns_of
from sparsecc.crossbar.tiles import (
    ARRAY,
    COLUMN,
    COLUMNS,
    IMAGE,
    ROW,
    ROWS,
    Bool,
    Int32,
    Int64,
    Tile,
    Tiles,
)


@dataclass(frozen=True)
class Area:
    """Word lines and bit lines of a bundle."""

    rows: int
    columns: int


@dataclass
class Shelves:
    """One array, filled in strips: a strip is as high as its first tile; tiles stand side by side in it."""

    shape: Shape
    height: int = 0
    """Word lines of all strips."""
    strips: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    """(first word line, word lines, bit lines taken) of each strip."""

    def put(self, tile: Area) -> tuple[int, int] | None:
        """The first word line and bit line where the tile now lies; None where it does not fit."""
        fitting = [
            (height - tile.rows, i)
            for i, (_, height, taken) in enumerate(self.strips)
            if tile.rows <= height and taken + tile.columns <= self.shape[1]
        ]
        if fitting:
            i = min(fitting)[1]
            row, height, taken = self.strips[i]
            self.strips[i] = row, height, taken + tile.columns
            return row, taken
        if self.height + tile.rows > self.shape[0] or tile.columns > self.shape[1]:
            return None
        row = self.height
        self.strips.append((row, tile.rows, tile.columns))
        self.height += tile.rows
        return row, 0


def placed(
    tiles: Sequence[Tile], shape: Shape, arrays: int, times: Sequence[float] | None = None
) -> list[Tile]:
    """The tiles with their places, those of a bundle side by side.

    arrays: how many to spread them over; more are taken where the cells do not fit, of which those that the
    chip does not have are virtual (see `waves`). times: how long each bundle is read, all alike if left out.
    Arrays with little to do are filled first, so that all are busy for about as long.
    """
    found = bundles(tiles)
    areas = [Area(bundle[0].rows, columns_of(bundle)) for bundle in found]
    bundle_of = [number for number, bundle in enumerate(found) for _ in bundle]
    image = [bundle_of[b[0].image] if b[0].image >= 0 else -1 for b in found]
    own = [i for i, owner in enumerate(image) if owner < 0]
    load = list(times) if times is not None else [1.0] * len(found)
    for i, owner in enumerate(image):  # who uses the cells of another adds to that array's time
        if owner >= 0:
            load[owner] += load[i]
    place: dict[int, tuple[int, int, int]] = {}
    if len(own) <= arrays:
        place = {i: (number, 0, 0) for number, i in enumerate(own)}
    else:
        shelves = [Shelves(shape) for _ in range(arrays)]
        busy = [(0.0, number) for number in range(arrays)]
        # Tall tiles first: strips then lose little.
        for i in sorted(own, key=lambda i: (-areas[i].rows, -areas[i].columns, i)):
            place[i] = _put(areas[i], load[i], shelves, busy)
    return set_down(found, [place[i if image[i] < 0 else image[i]] for i in range(len(found))])


def set_down(found: Sequence[Bundle], places: Sequence[tuple[int, int, int]]) -> list[Tile]:
    """The tiles of bundles whose array, first word line and first bit line these are."""
    moved: list[Tile] = []
    for bundle, (array, row, column) in zip(found, places, strict=True):
        for tile in bundle:
            moved.append(tile.but(array=array, row=row, column=column))
            column += tile.columns
    return moved


def _put(
    tile: Area, time: float, shelves: list[Shelves], busy: list[tuple[float, int]]
) -> tuple[int, int, int]:
    """Puts a tile into the array that has least to do and has room; opens another where none has."""
    for at, (load, number) in enumerate(busy):
        if (spot := shelves[number].put(tile)) is not None:
            del busy[at]
            insort(busy, (load + time, number))
            return number, *spot
    shelves.append(Shelves(shelves[0].shape))
    insort(busy, (time, len(shelves) - 1))
    spot = shelves[-1].put(tile)
    assert spot is not None, "a tile is no larger than an array"
    return len(shelves) - 1, *spot


def waves(tiles: Tiles, arrays: int) -> Int64:
    """When each tile is read: bundles of one wave use different arrays of one round, [count].

    Waves count from 0, the rounds of multiplexing one after another.
    """
    leads = tiles.leads
    return waves_of(tiles.table[leads, ARRAY], arrays)[np.cumsum(leads) - 1]


def waves_of(virtual: Int64, arrays: int) -> Int64:
    """When each bundle is read, by its array."""
    order = np.argsort(virtual, kind="stable")
    sorted_arrays = virtual[order]
    first = np.searchsorted(sorted_arrays, sorted_arrays)
    turn = np.zeros(len(virtual), np.int64)
    turn[order] = np.arange(len(virtual)) - first
    rounds = virtual // arrays
    # Of each round, as many waves as its busiest array needs.
    deepest = np.zeros(int(rounds.max(initial=-1)) + 2, np.int64)
    np.maximum.at(deepest, rounds + 1, turn + 1)
    return np.cumsum(deepest)[rounds] + turn


def adding(outputs: Sequence[Int32], m: int, at_once: int = 0) -> tuple[Bool, Bool]:
    """(which bundles add to sums, which of m outputs count from 0 before), in the order they are read.

    outputs: of each bundle. The first `at_once` start together, and the machine clears what they name.
    Another writes its sums over what was there where it is the first with any of its outputs; else it adds.
    """
    written, cleared = np.zeros(m, bool), np.zeros(m, bool)
    adds = np.zeros(len(outputs), bool)
    for i, own in enumerate(outputs):
        if i >= at_once and written[own].any():
            adds[i] = True
            cleared[own[~written[own]]] = True
        written[own] = True
    return adds, cleared | ~written


def broken_places(tiles: Tiles, shape_of: Callable[[int], Shape]) -> str | None:
    """A sentence that names the first two tiles whose cells overlap, or one outside its array; or None.

    shape_of: the shape of an array by its number.
    """
    t = tiles.table
    bad = (t[:, ARRAY] < 0) | (t[:, ROW] < 0) | (t[:, COLUMN] < 0)
    shapes = np.array([shape_of(max(0, array)) for array in t[:, ARRAY].tolist()], np.int64).reshape(-1, 2)
    bad |= (t[:, ROW] + t[:, ROWS] > shapes[:, 0]) | (t[:, COLUMN] + t[:, COLUMNS] > shapes[:, 1])
    if bad.any():
        i = int(np.argmax(bad))
        rows, columns = shapes[i].tolist()
        return (
            f"tile {i} takes word lines {t[i, ROW]}:{t[i, ROW] + t[i, ROWS]} and bit lines {t[i, COLUMN]}:"
            f"{t[i, COLUMN] + t[i, COLUMNS]} of array {t[i, ARRAY]}, which has {rows} x {columns}"
        )
    own = np.flatnonzero(t[:, IMAGE] < 0)
    by_array = own[np.argsort(t[own, ARRAY], kind="stable")]
    for same in np.split(by_array, np.flatnonzero(np.diff(t[by_array, ARRAY])) + 1):
        if len(same) < 2:
            continue
        taken = np.full(shapes[same[0]], -1)
        for i in same:
            area = taken[t[i, ROW] : t[i, ROW] + t[i, ROWS], t[i, COLUMN] : t[i, COLUMN] + t[i, COLUMNS]]
            if (area >= 0).any():
                return f"tiles {area.max()} and {i} both use cells of array {t[i, ARRAY]}"
            area[:] = i
    return None


PLACE_COLUMNS = ("m", "k", "slice", "array", "row", "column", "level", "shift", "doubled")


def place_table(tiles: Tiles) -> Int64:
    """One line for each weight and slice that is not 0: PLACE_COLUMNS, [count, 9], by m, then k, then slice.

    Sum of (level << shift) << doubled over the lines of (m, k) is the weight.
    """
    parts: list[Int64] = []
    for t in tiles:
        i, j = np.nonzero(t.values)
        parts.append(
            np.stack(
                [
                    t.outputs[j], t.inputs[i], np.full(len(i), t.slice), np.full(len(i), t.array), t.row + i,
                    t.column + j, t.values[i, j], np.full(len(i), t.shift), t.factors[i] - 1,
                ],
                axis=1,
            ).astype(np.int64)
        )  # fmt: skip
    table = np.concatenate(parts) if parts else np.zeros((0, len(PLACE_COLUMNS)), np.int64)
    return table[np.lexsort((table[:, 2], table[:, 1], table[:, 0]))]
