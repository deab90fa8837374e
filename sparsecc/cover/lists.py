"""Meta-ops from lists of rows and columns, many at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsecc.cover.laws import Pattern
from sparsecc.cover.metaops import COLUMNS, K0, K_MAP, M0, M_MAP, N0, Int32, Int64, K, M, MetaOps, N
from sparsecc.cover.panels import Order, Unit, count_panels, panel_columns


@dataclass(frozen=True, eq=False)
class Lists:
    """Lists of indices, one after another: list i is values[bounds[i] : bounds[i + 1]]."""

    values: Int32
    bounds: Int64

    @staticmethod
    def by_owner(owner: Int64, values: NDArray[np.integer], lists: int) -> Lists:
        """From the index and the number of its list, in the order of lists."""
        return Lists(values.astype(np.int32), np.searchsorted(owner, np.arange(lists + 1)).astype(np.int64))

    @property
    def sizes(self) -> Int64:
        """Length of each list."""
        return np.diff(self.bounds)

    def as_axes(self, unit: int, bound: int) -> tuple[Int32, Int32, Int32]:
        """First index of each list (0 where it is listed), its place in the pool (-1 for a range), the pool.

        A list whose indices are consecutive and aligned to the unit is a range; the pool holds the others.
        """
        sizes = self.sizes
        full = sizes > 0
        first = np.zeros(len(sizes), np.int32)
        last = np.zeros(len(sizes), np.int32)
        first[full] = self.values[self.bounds[:-1][full]]
        last[full] = self.values[self.bounds[1:][full] - 1]
        # Breaks up to each value; a list without a break inside is a range.
        breaks = np.concatenate(([0], np.cumsum(np.diff(self.values) != 1)))
        whole = np.zeros(len(sizes), bool)
        whole[full] = breaks[self.bounds[1:][full] - 1] == breaks[self.bounds[:-1][full]]
        stop = last + 1
        is_range = whole & (first % unit == 0) & ((stop % unit == 0) | (stop == bound))
        pooled = np.where(is_range, 0, sizes)
        at = (np.cumsum(pooled) - pooled).astype(np.int32)
        pool = self.values[np.repeat(~is_range, sizes)]
        return (
            np.where(is_range, first, 0).astype(np.int32),
            np.where(is_range, -1, at).astype(np.int32),
            pool,
        )


def metaops_of(
    pattern: Pattern, n: int, unit: Unit, rows: Lists, columns: Lists, row_list: Int64, column_list: Int64
) -> MetaOps:
    """One meta-op for each pair (row_list[i], column_list[i]), over all n positions; without empty ones.

    Lists that are aligned ranges become ranges. Equal numbers of lists share their place in the index pool.
    """
    kept = (rows.sizes[row_list] > 0) & (columns.sizes[column_list] > 0)
    row_list, column_list = row_list[kept], column_list[kept]
    table = np.zeros((len(row_list), COLUMNS), np.int32)
    table[:, N0], table[:, N] = 0, n
    pools: list[Int32] = []
    for lists, which, (start, size, at), step, bound in (
        (rows, row_list, (M0, M, M_MAP), unit[0], pattern.m),
        (columns, column_list, (K0, K, K_MAP), unit[2], pattern.k),
    ):
        first, place, pool = lists.as_axes(step, bound)
        before = sum(len(p) for p in pools)
        table[:, start] = first[which]
        table[:, size] = lists.sizes[which]
        table[:, at] = np.where(place[which] >= 0, place[which] + before, -1)
        pools.append(pool)
    return MetaOps(table, np.concatenate(pools))


def panel_rows(order: Order, height: int, unit: Unit) -> Lists:
    """The rows of each panel of the order.

    Those of each unit row of a panel are put in rising order, which changes no cell and moves less.
    """
    at = np.arange(len(order))
    unit_rows = -(-height // unit[0])
    rows = order[np.lexsort((order, at // height * unit_rows + at % height // unit[0]))]
    bounds = np.minimum(np.arange(count_panels(order, height) + 1) * height, len(order))
    return Lists(rows, bounds.astype(np.int64))


def gathered_panels(pattern: Pattern, n: int, unit: Unit, order: Order, height: int) -> MetaOps:
    """One meta-op for each panel of the order: its rows, and just the columns that they use."""
    panels = count_panels(order, height)
    columns = Lists.by_owner(*panel_columns(order, pattern, height), panels)
    each = np.arange(panels)
    return metaops_of(pattern, n, unit, panel_rows(order, height, unit), columns, each, each)
