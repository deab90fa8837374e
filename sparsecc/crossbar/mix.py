"""Arrays of several shapes from one pool of cells (Re2PIM, GLSVLSI 2021), and what lies in each.

A chip may put its cells together to arrays of other shapes. A bundle needs an array that holds it, and all it
does not fill of that is lost to others; so arrays are given the smallest shape around what lies in them, and
the cells that are saved make more arrays, which are read at once. Shapes change neither what is multiplied
nor its energy: tiles are what they were, only their places differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sparsecc.crossbar.assign import Shape
from sparsecc.crossbar.bundle import bundles, columns_of
from sparsecc.crossbar.place import Area, Shelves, set_down
from sparsecc.crossbar.pool import Pool
from sparsecc.crossbar.tiles import Tile

# A bundle is tried in so many of the arrays that have room, those opened last.
_TRIED = 32


@dataclass
class _Filled:
    """An array, what lies in it, and for how long it is read."""

    shelves: Shelves
    load: float = 0.0
    places: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    """(bundle, first word line, first bit line)."""

    @property
    def extent(self) -> Area:
        """The word lines and bit lines in use."""
        strips = self.shelves.strips
        return Area(max(row + rows for row, rows, _ in strips), max(taken for _, _, taken in strips))


def mixed(
    tiles: Sequence[Tile], shapes: Sequence[Shape], cells: int, times: Sequence[float]
) -> tuple[list[Tile], Pool] | None:
    """The tiles in arrays of these shapes that take at most so many cells, and the arrays.

    times: how long each bundle is read. The arrays' longest time is a multiple of that of the longest bundle:
    the least for which the cells suffice by best fit. None where they never do. A bundle that fits no shape
    is an internal error.
    """
    found = bundles(tiles)
    number_of = [number for number, bundle in enumerate(found) for _ in bundle]
    image = [number_of[b[0].image] if b[0].image >= 0 else -1 for b in found]
    load = list(times)
    for i, owner in enumerate(image):
        if owner >= 0:
            load[owner] += load[i]
    areas = {i: Area(b[0].rows, columns_of(b)) for i, b in enumerate(found) if image[i] < 0}
    if not areas:
        return None
    longest = max(load[i] for i in areas)
    # The fewest times the longest: by bisection between one and all in one array.
    fewest, most = 1, len(areas)
    best: list[_Filled] | None = None
    while fewest <= most:
        turns = fewest if best is None and fewest == 1 else (fewest + most) // 2
        filled = _filled(areas, load, shapes, turns * longest)
        if sum(_cells(_around(f.extent, shapes)) for f in filled) <= cells:
            best, most = filled, turns - 1
        else:
            fewest = turns + 1
    if best is None:
        return None
    around = [_around(f.extent, shapes) for f in best]
    order = sorted(range(len(best)), key=lambda i: (shapes.index(around[i]), i))
    place: dict[int, tuple[int, int, int]] = {}
    for array, i in enumerate(order):
        place |= {bundle: (array, row, column) for bundle, row, column in best[i].places}
    groups = tuple((around.count(shape), shape) for shape in shapes if shape in around)
    return set_down(found, [place[i if image[i] < 0 else image[i]] for i in range(len(found))]), Pool(groups)


def _cells(shape: Shape) -> int:
    return shape[0] * shape[1]


def _around(area: Area, shapes: Sequence[Shape]) -> Shape:
    """The smallest shape that holds it; of equals, the first."""
    return min((s for s in shapes if area.rows <= s[0] and area.columns <= s[1]), key=_cells)


def _filled(
    areas: dict[int, Area], load: Sequence[float], shapes: Sequence[Shape], limit: float
) -> list[_Filled]:
    """Arrays that hold everything, none read for longer than the limit, which is no less than any load."""
    arrays: list[_Filled] = []
    least = min(load[i] for i in areas)
    room: list[_Filled] = []
    for i in sorted(areas, key=lambda i: (-areas[i].rows, -areas[i].columns, i)):
        for array in reversed(room[-_TRIED:]):
            if array.load + load[i] <= limit and (spot := array.shelves.put(areas[i])) is not None:
                break
        else:
            array = _Filled(Shelves(_opened(areas[i], int(limit / load[i]), shapes)))
            spot = array.shelves.put(areas[i])
            assert spot is not None, "the shape was chosen to hold it"
            arrays.append(array)
            room.append(array)
        array.places.append((i, *spot))
        array.load += load[i]
        if array.load + least > limit:
            room.remove(array)
    return arrays


def _opened(area: Area, turns: int, shapes: Sequence[Shape]) -> Shape:
    """The shape that takes the fewest cells for each such bundle, where so many may be read in turns."""

    def share(shape: Shape) -> tuple[float, int]:
        held = (shape[0] // area.rows) * (shape[1] // area.columns)
        return _cells(shape) / min(turns, held), _cells(shape)

    return min((s for s in shapes if area.rows <= s[0] and area.columns <= s[1]), key=share)
