"""Stuck cells, named one by one: the devices of them, and the weights that they hit.

A cell is named as the table of places names it: array, word line (row), bit line (column), counted from 0. It
stays at a level: 0 or the highest, with differential cells also the lowest, whatever is written. Where the
chip has fewer arrays than an operator needs, several arrays of the table of places are the same physical one,
in different rounds: array v is v modulo the arrays of the chip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparsecc.crossbar.pool import Pool
from sparsecc.crossbar.tiles import Int64, Tiles
from sparsecc.errors import UserError
from sparsecc.target.crossbar import CrossbarTarget


@dataclass(frozen=True)
class Fault:
    """One stuck cell."""

    array: int
    row: int
    column: int
    stuck: int
    """The level that the cell stays at."""
    slice: int | None = None
    """Of the weight that lies there; None where that is not known."""
    where: str = "the fault"
    """What errors call it: a file and its line."""


Device = tuple[int, int, int, int, int]
"""Array, row, column, whether it is the negative one of a pair, whether it is stuck high (else low)."""


def devices_of(faults: Sequence[Fault], tiles: Tiles, pool: Pool, target: CrossbarTarget) -> list[Device]:
    """The stuck devices. pool: the arrays; tiles: as they are placed.

    Raises UserError for cells that do not exist, levels at which cells cannot be stuck, cells that are named
    twice, and slices that are not those of the tile at their place.
    """
    slices = _slices(tiles, pool.count) if any(f.slice is not None for f in faults) else {}
    found: list[Device] = []
    named: dict[tuple[int, int, int], Fault] = {}
    for fault in faults:
        _check_place(fault, pool, target)
        if other := named.get((fault.array, fault.row, fault.column)):
            raise UserError(f"{fault.where}: its cell is that of {other.where}; name each cell once")
        named[fault.array, fault.row, fault.column] = fault
        if fault.slice is not None:
            for rows, columns, number in slices.get(fault.array, []):
                if fault.row in rows and fault.column in columns and fault.slice != number:
                    raise UserError(
                        f"{fault.where}: slice is {fault.slice}, but the cell at row {fault.row}, column "
                        f"{fault.column} of array {fault.array} holds slice {number}; take the places that "
                        "--places tells of this matrix, target and options"
                    )
        found += _devices(fault, target)
    return found


def _slices(tiles: Tiles, arrays: int) -> dict[int, list[tuple[range, range, int]]]:
    """Of each physical array that is written once, where which slice lies."""
    found: dict[int, list[tuple[range, range, int]]] = {}
    if any(t.array >= arrays for t in tiles):
        return found  # arrays are written anew
    for t in tiles:
        if t.image < 0:
            place = range(t.row, t.row + t.rows), range(t.column, t.column + t.columns), t.slice
            found.setdefault(t.array, []).append(place)
    return found


def _check_place(fault: Fault, pool: Pool, target: CrossbarTarget) -> None:
    arrays = pool.count
    if not 0 <= fault.array < arrays and len(pool.groups) > 1:
        shapes = ", ".join(f"{count} of {rows} x {columns}" for count, (rows, columns) in pool.groups)
        raise UserError(
            f"{fault.where}: array is {fault.array}; this program made arrays 0 to {arrays - 1} of the cells "
            f"of target {target.name}: {shapes}"
        )
    rows, columns = pool.shape_of(max(0, fault.array))
    if not 0 <= fault.array < arrays:
        raise UserError(
            f"{fault.where}: array is {fault.array}, and target {target.name} has arrays 0 to {arrays - 1} "
            f"of {rows} x {columns}; where arrays are written anew, take the number modulo {arrays}"
        )
    for name, value, extent in (("row", fault.row, rows), ("column", fault.column, columns)):
        if not 0 <= value < extent:
            raise UserError(
                f"{fault.where}: {name} is {value}, beyond array {fault.array} of {rows} x {columns} cells; "
                f"needed: 0 to {extent - 1}"
            )
    levels = [-target.level_max, 0, target.level_max] if target.differential else [0, target.level_max]
    if fault.stuck not in levels:
        raise UserError(
            f"{fault.where}: stuck is {fault.stuck}; a device stays at its lowest or highest level, so a "
            f"cell of target {target.name} at one of {', '.join(map(str, levels))}"
        )


def _devices(fault: Fault, target: CrossbarTarget) -> list[Device]:
    place = fault.array, fault.row, fault.column
    if not target.differential:
        return [(*place, 0, int(fault.stuck > 0))]
    return [(*place, 0, int(fault.stuck > 0)), (*place, 1, int(fault.stuck < 0))]


def device_lines(devices: Sequence[Device]) -> str:
    """The devices as `ax_xb_fault_file` and --faults of emitted programs take them."""
    return "".join(" ".join(map(str, device)) + "\n" for device in devices)


def weights_hit(faults: Sequence[Fault], places: Int64, arrays: int) -> Int64:
    """Lines of the table of places (`place_table`) whose cells are stuck at another level, by number.

    Cells whose place holds nothing are not in the table; a fault there may change results as well.
    """
    stuck = {(f.array, f.row, f.column): f.stuck for f in faults}
    array, row, column, level = (places[:, at] for at in (3, 4, 5, 6))
    hit = [
        i
        for i, place in enumerate(zip((array % arrays).tolist(), row.tolist(), column.tolist(), strict=True))
        if place in stuck and stuck[place] != level[i]
    ]
    return np.array(hit, np.int64)
