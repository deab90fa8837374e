"""Lowering: splits meta-ops to unit cells and refuses the cells that hold no nonzero."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sparsecc.cover.laws import Pattern, locate
from sparsecc.cover.metaops import K0, K_MAP, M0, M_MAP, Int64, K, M, MetaOps

Unit = tuple[int, int, int]


def _grid(metaops: MetaOps, unit: Unit) -> tuple[Int64, Int64]:
    """Unit rows and unit columns of each meta-op, rounded up."""
    rows = -(-metaops.table[:, M].astype(np.int64) // unit[0])
    return rows, -(-metaops.table[:, K].astype(np.int64) // unit[2])


def split(metaops: MetaOps, pattern: Pattern, unit: Unit) -> MetaOps:
    """The unit cells of the meta-ops that hold a nonzero, in the order of meta-ops, then rows, then columns.

    Cells follow each meta-op's own rows and columns, so a gathered meta-op splits along its gather maps.
    """
    grid_rows, grid_columns = _grid(metaops, unit)
    first = np.cumsum(grid_rows * grid_columns) - grid_rows * grid_columns
    kept = np.zeros(int((grid_rows * grid_columns).sum()), bool)
    # Half the memory traffic wherever 32 bits hold the number of a cell.
    kind = np.int32 if len(kept) < 1 << 31 else np.int64
    places = locate(metaops, pattern)
    held = slice(None) if (places.owner >= 0).all() else places.owner >= 0
    owner = places.owner[held]
    cell = first.astype(kind)[owner]
    cell += places.row[held] // unit[0] * grid_columns.astype(kind)[owner]
    cell += places.column[held] // unit[2]
    kept[cell] = True
    number = np.flatnonzero(kept)
    parent = (np.searchsorted(first, number, side="right") - 1).astype(np.int64)
    local = number - first[parent]
    row = local // np.maximum(grid_columns[parent], 1) * unit[0]
    column = local % np.maximum(grid_columns[parent], 1) * unit[2]
    table = metaops.table[parent].copy()
    for at, start, size, place, step in ((M_MAP, M0, M, row, unit[0]), (K_MAP, K0, K, column, unit[2])):
        listed = table[:, at] >= 0
        table[:, start] += np.where(listed, 0, place).astype(np.int32)
        table[:, at] += np.where(listed, place, 0).astype(np.int32)
        table[:, size] = np.minimum(table[:, size] - place, step)
    return MetaOps(table, metaops.index)


def count_cells(metaops: MetaOps, unit: Unit) -> int:
    """Unit cells the meta-ops occupy, each meta-op's sides rounded up to whole units."""
    rows, columns = _grid(metaops, unit)
    return int((rows * columns).sum())


def blocks(metaops: MetaOps, pattern: Pattern, data: NDArray[np.generic]) -> Iterator[NDArray[np.generic]]:
    """The dense block of W of each meta-op, in order; data are the values of the pattern's nonzeros."""
    places = locate(metaops, pattern)
    order = np.argsort(places.owner, kind="stable")
    bounds = np.searchsorted(places.owner[order], np.arange(len(metaops) + 1))
    for i, (rows, columns) in enumerate(metaops.table[:, [M, K]].tolist()):
        block = np.zeros((rows, columns), data.dtype)
        inside = order[bounds[i] : bounds[i + 1]]
        block[places.row[inside], places.column[inside]] = data[inside]
        yield block
