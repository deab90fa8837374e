"""Lower bounds on the unit cells of any cover, each proven where it is computed.

A *cell* holds at most um rows x uk columns of W, whichever the rule allows:

- `aligned`: those of one place of a fixed grid. Then the count is exact and no bound is needed.
- `windows`: the rows are cut to disjoint *windows* of at most um, in any order; each cell has the rows of one
  window and any uk columns. This holds for aligned grids, for gathered windows of any height (cut to pieces
  of um rows) and for every mixture of boxes and panels whose rows have one order, once it is cut to bands of
  equal meta-ops.
- `any`: any rows, any columns (bicliques). All that is true here is true of windows, too.

Tall tiles need a finer measure than cells: a unit that streams rows spends max(h, um) / um of a cell's time
on h rows x uk columns, so a tile of 1.5 um rows costs 1.5 cells, not 2. The *area* of a cover is the sum of
max(h, um) / um over its tiles, and bounds on it are fractions. Area <= cells, as h rows make ceil(h / um)
cells only if cut, and a cell has area 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.cover import kernels
from sparsecc.cover.laws import Pattern
from sparsecc.cover.metaops import Int64
from sparsecc.cover.panels import distinct, selected_rows, transposed

Unit = tuple[int, int, int]
Floats = NDArray[np.float64]

# Multiply-adds that the overlaps of rows (or columns) may take, and their pairs; beyond, bounds do without
# them.
OVERLAP_WORK, OVERLAP_PAIRS = 1 << 32, 1 << 24
# Rows whose overlaps with all others are held at once.
CHUNK_ROWS = 512
# A product of sparse matrices costs this much more for each multiply-add than one of dense matrices.
SPARSE_COST = 32
# Counting each overlap, in C, costs this much more than a multiply-add of dense matrices.
COUNT_COST = 8
# Sums of fractions are this much too large at most, relatively.
ROUNDING = 1e-9


@dataclass(frozen=True)
class CellBounds:
    """No cover has fewer."""

    aligned: int
    """Cells on the grid; exact."""
    windows: int
    any: int
    windows_area: float
    any_area: float
    row_tiles: int
    """Rows of all cells together: what must be fetched of W, in rows of uk elements."""
    column_tiles: int
    """Columns of all cells together."""
    live_columns: int


@dataclass(frozen=True)
class _Side:
    """The rows with a nonzero, or the same of the columns, and what is true of every cell they are in."""

    need: Int64
    """Cells that each row is in, at least."""
    most: Floats
    """Nonzeros of any cell that the row is in, at most."""
    union: float
    """Columns that windows of these rows use, summed over any partition to windows, at least."""


def up(bound: float) -> int:
    """The least whole number that is not below a computed fraction."""
    return math.ceil(bound * (1 - ROUNDING))


def cell_bounds(pattern: Pattern, unit: Unit) -> CellBounds:
    """Lower bounds for a pattern under every rule. O(nonzeros), and overlaps of pairs up to OVERLAP_WORK.

    With n_r nonzeros in row r and n_c in column c:

    - Counting points: a cell has um * uk.
    - Counting rows: row r is in at least ceil(n_r / uk) cells, as a cell has uk columns; a cell has um rows.
      So cells >= sum_r ceil(n_r / uk) / um. It bounds the area too, since a tile of h rows has area h / um or
      more. Likewise columns: cells >= sum_c ceil(n_c / um) / uk. For the area: each tile with column c has
      area >= 1 and >= 1 / um for each nonzero of c in it, so all tiles with c have area >= max(1, n_c / um);
      a tile has uk columns.
    - Weights: let no cell with the point (r, c) have more than E(r, c) nonzeros (see `_side`). The nonzeros
      of any cell, each weighed 1 / E, weigh 1 together at most; so cells >= the weight of all nonzeros. For a
      tile of h > um rows the weights of each of its h cyclic runs of um rows are 1 at most, each row is in um
      of these, and so the tile's weigh h / um, its area, at most.

    Of windows only:

    - Sorted needs: a window has max over its rows of ceil(n_r / uk) cells or more. Rows sorted by that
      falling, the j-th of the windows so sorted has a need no less than row j * um, for the j windows before
      it hold j * um rows at most. So cells >= the sum over every um-th row.
    - Overlaps: a window has ceil(columns it uses / uk) cells or more, see `_side`. For the area: a window of
      h > um rows uses no fewer columns than any of its h cyclic runs of um rows.
    """
    um, _, uk = unit
    live = np.flatnonzero(np.diff(pattern.indptr)).astype(np.int32)
    rows = selected_rows(pattern, live)
    by_column = transposed(rows)
    columns = selected_rows(by_column, np.flatnonzero(np.diff(by_column.indptr)).astype(np.int32))
    if not pattern.nnz:
        return CellBounds(0, 0, 0, 0.0, 0.0, 0, 0, 0)
    grid_columns = -(-pattern.k // uk)
    grid = distinct(pattern.row_of() // um, pattern.indices // uk, -(-pattern.m // um), grid_columns)
    # Where the grid is full of cells that are all needed, nothing can be refined.
    tight = len(grid) == -(-pattern.nnz // (um * uk))
    by_row, by_col = _side(rows, um, uk, not tight), _side(columns, uk, um, not tight)
    row_tiles, column_tiles = int(by_row.need.sum()), int(by_col.need.sum())
    # Of each nonzero, in the order of rows, the row's and the column's limit.
    of_column = np.zeros(pattern.k)
    of_column[np.flatnonzero(np.diff(by_column.indptr))] = by_col.most
    most = np.minimum(np.repeat(by_row.most, np.diff(rows.indptr)), of_column[rows.indices])
    heights = np.diff(columns.indptr) / um
    any_area = max(
        pattern.nnz / (um * uk),
        row_tiles / um,
        float(np.maximum(1, heights).sum()) / uk,
        float((1 / most).sum()) * (1 - ROUNDING),
    )
    windows_area = max(any_area, by_row.union * (1 - ROUNDING) / uk)
    any_cells = max(up(any_area), -(-column_tiles // uk))
    sorted_needs = int(np.sort(by_row.need)[::-1][::um].sum())
    windows = max(any_cells, sorted_needs, up(windows_area))
    return CellBounds(
        len(grid), windows, any_cells, windows_area, any_area, row_tiles, column_tiles, columns.m
    )


def _side(rows: Pattern, um: int, uk: int, pairs: bool) -> _Side:
    """What the sizes of the rows and the overlaps of pairs of rows say; no row may be empty.

    pairs: whether to look at the overlaps, which takes the most time. Let a_r be the sum of the um - 1
    largest overlaps |r & s| of row r with other rows.

    Nonzeros of a cell with row r: at most min(n_s, uk) for each of its rows s. And if column c of the cell
    has e_c, then the pairs of its rows share sum_c C(e_c, 2) <= (1/2) sum_s a_s columns inside it, where a_s
    may count each overlap as uk at most; the sum over the other um - 1 rows is at most that of the largest
    a_s. As C is convex, the nonzeros are most when the columns are equally full: so that many fit and no
    more.

    Columns of a window: every column with a nonzero is in one window or more. And a column that t of its rows
    use satisfies (t - j) (t - j - 1) >= 0 for every whole j, so 1 >= (2 j t - t (t - 1)) / (j (j + 1)). The
    sum over columns (Dawson and Sankoff 1967) gives columns >= 2 sum_r n_r / (j + 1) - sum_r a_r / (j (j +
    1)), rows r of the window, for t (t - 1) adds up to the overlaps of all ordered pairs. Its terms belong to
    rows, so summed over windows it does not depend on them.
    """
    sizes = np.diff(rows.indptr)
    need = -(-sizes // uk)
    narrow = np.minimum(sizes, uk)
    most = (narrow + _largest(narrow, um - 1)).astype(np.float64)
    union = float((np.bincount(rows.indices) > 0).sum())
    overlaps = _largest_overlaps(rows, um - 1, uk) if pairs else None
    if overlaps is not None:
        plain, clipped = overlaps
        shared = (clipped + _largest(clipped, um - 1)) // 2
        most = np.minimum(most, _most_nonzeros(shared, uk))
        total, repeated = float(sizes.sum()), float(plain.sum())
        terms = [2 * total / (j + 1) - repeated / (j * (j + 1)) for j in range(1, um + 1)]
        union = max(union, *terms)
    return _Side(need, most, union)


def _largest(values: Int64, count: int) -> int:
    """The sum of the `count` largest."""
    if count <= 0:
        return 0
    return int(np.sort(values)[::-1][:count].sum())


def _most_nonzeros(shared: Int64, columns: int) -> Floats:
    """The most nonzeros in so many columns whose sum of C(e, 2) is at most `shared`."""
    # All columns hold q, and some one more, which costs q pairs each.
    q = np.floor((1 + np.sqrt(1 + 8 * shared / columns)) / 2)
    left = shared - columns * q * (q - 1) / 2
    return columns * q + np.minimum(columns, np.floor(left / q))


def _largest_overlaps(rows: Pattern, count: int, cap: int) -> tuple[Int64, Int64] | None:
    """For each row the sum of its `count` largest overlaps with others: as they are, and each at most `cap`.

    None where that is too much work.
    """
    m, k = rows.m, rows.k
    overlaps = int((np.bincount(rows.indices, minlength=k).astype(np.int64) ** 2).sum())
    sparse_work = SPARSE_COST * overlaps
    dense_work = m * m * k
    if min(sparse_work, dense_work) > OVERLAP_WORK or m * m > OVERLAP_PAIRS:
        return None
    if count <= 0 or m < 2:
        return np.zeros(m, np.int64), np.zeros(m, np.int64)
    if COUNT_COST * overlaps < dense_work and k < 1 << 16 and kernels.library() is not None:
        return kernels.overlaps(rows, transposed(rows), count, cap)
    from scipy.sparse import csr_array  # pyright: ignore[reportMissingTypeStubs]

    # Counts up to 2^24 are exact in float32.
    ones = np.ones(rows.nnz, np.float32)
    matrix: Any = csr_array((ones, rows.indices, rows.indptr), shape=(m, k))
    if dense_work < sparse_work:
        matrix = matrix.toarray()
    plain, clipped = np.zeros(m, np.int64), np.zeros(m, np.int64)
    kept = min(count, m - 1)
    for first in range(0, m, CHUNK_ROWS):
        here = slice(first, min(first + CHUNK_ROWS, m))
        product: Any = matrix[here] @ matrix.T
        overlap: NDArray[np.float32] = product if dense_work < sparse_work else product.toarray()
        # A row is no other row.
        overlap[np.arange(len(overlap)), np.arange(here.start, here.stop)] = -1
        largest = np.partition(overlap, m - kept, axis=1)[:, m - kept :]
        plain[here] = largest.sum(axis=1, dtype=np.float64).astype(np.int64)
        clipped[here] = np.minimum(largest, cap).sum(axis=1, dtype=np.float64).astype(np.int64)
    return plain, clipped
