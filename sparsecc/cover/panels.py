"""Scores of row and column orders, fast enough to rank many orders before a cover of any is built.

A *panel* is a run of `height` rows of an order. It gathers the columns that its rows use, and no others. An
order may leave out empty rows; panels are counted over the rows that it names.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparsecc.cover.laws import Pattern
from sparsecc.cover.metaops import Int32, Int64

Unit = tuple[int, int, int]

# Numbers of rows (or columns), each at most once: row order[i] of the matrix comes to place i.
Order = Int32

# A flag for every (panel, column) is cheaper than sorting the nonzeros unless nearly all flags stay zero.
FLAGS_PER_NONZERO = 64
FEW_FLAGS = 1 << 22


def transposed(pattern: Pattern) -> Pattern:
    """The pattern of the transpose, [k, m]."""
    by_column = np.argsort(pattern.indices, kind="stable")
    indptr = np.zeros(pattern.k + 1, np.int64)
    np.cumsum(np.bincount(pattern.indices, minlength=pattern.k), out=indptr[1:])
    return Pattern(pattern.k, pattern.m, indptr, pattern.row_of()[by_column])


def merged_rows(pattern: Pattern, group: Int64, groups: int) -> Pattern:
    """The columns that each group of rows uses, [groups, k]; group[r] is the group of row r."""
    found = distinct(group[pattern.row_of()], pattern.indices, groups, pattern.k)
    row, column = np.divmod(found, max(pattern.k, 1))
    indptr = np.searchsorted(row, np.arange(groups + 1)).astype(np.int64)
    return Pattern(groups, pattern.k, indptr, column.astype(np.int32))


def merged_columns(pattern: Pattern, width: int, order: Order | None = None) -> Pattern:
    """Which blocks of `width` columns, counted in this order, each row uses: [m, ceil(k / width)]."""
    blocks = -(-pattern.k // width)
    column = pattern.indices if order is None else rank(order, pattern.k)[pattern.indices]
    row, block = np.divmod(distinct(pattern.row_of(), column // width, pattern.m, blocks), max(blocks, 1))
    indptr = np.searchsorted(row, np.arange(pattern.m + 1)).astype(np.int64)
    return Pattern(pattern.m, blocks, indptr, block.astype(np.int32))


def selected_rows(pattern: Pattern, rows: NDArray[np.integer]) -> Pattern:
    """These rows, in this order: [len(rows), k]."""
    sizes = np.diff(pattern.indptr)[rows]
    indptr = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(sizes, out=indptr[1:])
    at = np.arange(int(indptr[-1])) + np.repeat(pattern.indptr[rows] - indptr[:-1], sizes)
    return Pattern(len(rows), pattern.k, indptr, pattern.indices[at])


def rank(order: Order, size: int) -> Int32:
    """The place of each of `size` rows in the order, [size]; those that the order leaves out come last."""
    place = np.full(size, len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    return place


def distinct(
    major: NDArray[np.integer], minor: NDArray[np.integer], majors: int, minors: int
) -> NDArray[np.int64]:
    """The different values of major * minors + minor, rising."""
    key = major.astype(np.int64) * minors + minor
    if majors * minors <= max(FLAGS_PER_NONZERO * len(key), FEW_FLAGS):
        used = np.zeros(majors * minors, bool)
        used[key] = True
        return np.flatnonzero(used)
    return np.unique(key)


def panel_columns(order: Order, pattern: Pattern, height: int) -> tuple[Int64, Int64]:
    """(panel, column) of every column that a panel gathers, in the order of panels, then columns."""
    panel = rank(order, pattern.m)[pattern.row_of()] // height
    found = distinct(panel, pattern.indices, count_panels(order, height), pattern.k)
    panel, column = np.divmod(found, max(pattern.k, 1))
    return panel, column


def count_panels(order: Order, height: int) -> int:
    """Panels of the order, the last of which may be shorter."""
    return -(-len(order) // height)


def panel_widths(order: Order, pattern: Pattern, height: int) -> Int64:
    """Columns that each panel gathers, [panels]."""
    panel, _ = panel_columns(order, pattern, height)
    return np.bincount(panel, minlength=count_panels(order, height)).astype(np.int64)


def panel_points(order: Order, pattern: Pattern, height: int) -> int:
    """Points of the gathered panels: the columns of each times its rows. Nothing is rounded up."""
    widths = panel_widths(order, pattern, height)
    rows = np.minimum(height, len(order) - np.arange(len(widths)) * height)
    return int((widths * rows).sum())


def tile_cells(rows: Order, columns: Order, pattern: Pattern, unit: Unit) -> int:
    """Unit cells of the matrix in these orders of rows and columns that hold a nonzero."""
    row = rank(rows, pattern.m)[pattern.row_of()] // unit[0]
    column = rank(columns, pattern.k)[pattern.indices] // unit[2]
    return len(distinct(row, column, -(-len(rows) // unit[0]), -(-len(columns) // unit[2])))
