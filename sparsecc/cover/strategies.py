"""Ways to cover a pattern, by name: exact covers by meta-ops, before they are split to unit cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from sparsecc.cover.cells import count_cells
from sparsecc.cover.compact import global_compaction
from sparsecc.cover.laws import Pattern
from sparsecc.cover.lists import Lists, gathered_panels, metaops_of, panel_rows
from sparsecc.cover.metaops import Int64, MetaOps
from sparsecc.cover.orders import natural
from sparsecc.cover.panels import Order, Unit, count_panels, distinct, panel_columns, rank
from sparsecc.cover.peers import (
    aligned_bsr,
    one_sa,
    sparse_graph_translation,
    tca,
    weighted_block_cover,
)
from sparsecc.cover.search import Search

# Heights of windows, in unit rows.
HEIGHTS = (1, 2, 4, 8, 16)
# Sides of the blocks that keep their own rows and columns.
BLOCKS = (64, 128, 256)
# A unit column stays a range of consecutive columns where at least this part of it is used.
DENSE_SHARE = 0.875


@dataclass(frozen=True)
class Strategy:
    """One way to cover a pattern."""

    build: Callable[[Search, int], MetaOps]
    what: str
    """What it does, in a line."""
    least_effort: int = 0
    """The effort from which it differs from simpler strategies."""
    indexed_rows: bool = False
    """Whether meta-ops may list the same rows differently, which only indexed accumulation computes.

    The rows of all other covers form chains: they are equal, disjoint or consecutive in one order.
    """
    published: bool = False
    """Whether it is the method of a published system, for comparison."""

    def __call__(self, pattern: Pattern, n: int, unit: Unit, effort: int = 1, seed: int = 0) -> MetaOps:
        """The cover. The same arguments give the same cover."""
        return self.build(Search(pattern, unit, effort, seed), n)


def _aligned(search: Search, n: int) -> MetaOps:
    pattern = search.pattern
    return MetaOps.whole(pattern.m, n, pattern.k) if pattern.nnz else MetaOps.of([])


def _global(search: Search, n: int) -> MetaOps:
    return global_compaction(search.pattern, n, search.unit)


def _natural_windows(unit_rows: int, search: Search, n: int) -> MetaOps:
    height = unit_rows * search.unit[0]
    return gathered_panels(search.pattern, n, search.unit, natural(search.pattern), height)


def _windows(unit_rows: int, search: Search, n: int) -> MetaOps:
    height = unit_rows * search.unit[0]
    return gathered_panels(search.pattern, n, search.unit, search.rows(height), height)


def _tiles(search: Search, n: int) -> MetaOps:
    rows, columns = search.tiles()
    whole_rows = Lists(rows, np.array([0, len(rows)], np.int64))
    whole_columns = Lists(columns, np.array([0, len(columns)], np.int64))
    one = np.zeros(1, np.int64)
    return metaops_of(search.pattern, n, search.unit, whole_rows, whole_columns, one, one)


def _mixed(search: Search, n: int) -> MetaOps:
    """In each panel, unit columns that are nearly all used stay ranges; the other columns are gathered."""
    pattern, unit, height = search.pattern, search.unit, search.unit[0]
    order = search.rows(height)
    panels, blocks = count_panels(order, height), -(-pattern.k // unit[2])
    panel, column = panel_columns(order, pattern, height)
    key = panel * blocks + column // unit[2]
    used = np.bincount(key, minlength=panels * blocks)
    width = np.minimum(unit[2], pattern.k - np.arange(blocks) * unit[2])
    dense = used >= DENSE_SHARE * np.tile(width, panels)
    rest = ~dense[key]
    # A run of dense unit columns in a panel is one list; it begins where the one before is not dense.
    grid = dense.reshape(panels, blocks)
    begins = grid & ~np.pad(grid, ((0, 0), (1, 0)))[:, :-1]
    run = np.cumsum(begins.ravel()) - 1
    block = np.flatnonzero(dense)
    held = (block[:, None] % blocks * unit[2] + np.arange(unit[2])).ravel()
    inside = held < pattern.k
    runs = int(begins.sum())
    owner = np.concatenate((np.repeat(run[block], unit[2])[inside], panel[rest] + runs))
    columns = Lists.by_owner(owner, np.concatenate((held[inside], column[rest])), runs + panels)
    row_list = np.concatenate((np.nonzero(begins)[0], np.arange(panels)))
    rows = panel_rows(order, height, unit)
    return metaops_of(pattern, n, unit, rows, columns, row_list, np.arange(runs + panels))


def _own_lists(search: Search, n: int, side: int, rows: Order, columns: Order) -> MetaOps:
    """Blocks of side x side in these orders; each keeps its own rows and columns that hold a nonzero."""
    pattern, unit = search.pattern, search.unit
    row = rank(rows, pattern.m)[pattern.row_of()].astype(np.int64)
    column = rank(columns, pattern.k)[pattern.indices].astype(np.int64)
    wide = -(-pattern.k // side)
    number, of_nonzero = np.unique(row // side * wide + column // side, return_inverse=True)
    blocks = len(number)

    def lists(place: Int64, order: Order, first: Int64) -> Lists:
        """The indices of the order that each block uses; its own places begin at `first`."""
        owner, local = np.divmod(distinct(of_nonzero, place % side, blocks, side), side)
        return Lists.by_owner(owner, order[first[owner] + local], blocks)

    own_rows = lists(row, rows, number // wide * side)
    own_columns = lists(column, columns, number % wide * side)
    each = np.arange(blocks)
    return metaops_of(pattern, n, unit, own_rows, own_columns, each, each)


def _bcr(side: int, search: Search, n: int) -> MetaOps:
    pattern, unit = search.pattern, search.unit
    orders = [(np.arange(pattern.m, dtype=np.int32), np.arange(pattern.k, dtype=np.int32))]
    if search.effort > 0:
        orders += [(search.rows(unit[0]), orders[0][1]), search.tiles()]
    covers = [_own_lists(search, n, side, *pair) for pair in orders]
    return min(covers, key=lambda cover: count_cells(cover, unit))


def _peer(build: Callable[[Pattern, int, Unit], MetaOps], search: Search, n: int) -> MetaOps:
    return build(search.pattern, n, search.unit)


def _tca(search: Search, n: int) -> MetaOps:
    return tca(search.pattern, n, search.unit, search.seed)


STRATEGIES: dict[str, Strategy] = {
    "aligned": Strategy(_aligned, "the aligned grid of unit cells"),
    "global": Strategy(_global, "the matrix without its empty rows and columns"),
    **{
        f"window-{h}": Strategy(
            partial(_natural_windows, h), f"windows of {h} unit rows, each gathers the columns it uses"
        )
        for h in HEIGHTS
    },
    **{
        f"rows-{h}": Strategy(
            partial(_windows, h), f"rows in the order best for windows of {h} unit rows, columns gathered", 1
        )
        for h in HEIGHTS
    },
    "tiles": Strategy(_tiles, "rows and columns in one order each, so that few unit cells are needed", 1),
    "mixed": Strategy(_mixed, "dense unit columns of the ordered rows as ranges, the rest gathered"),
    **{
        f"bcr-{side}": Strategy(
            partial(_bcr, side), f"blocks of {side} x {side}, each with its own rows and columns", 0, True
        )
        for side in BLOCKS
    },
    "bsr": Strategy(
        partial(_peer, aligned_bsr), "BSR: the aligned unit cells that hold a nonzero", published=True
    ),
    "sparta": Strategy(
        partial(_peer, weighted_block_cover), "SparTA: weighted cover by aligned blocks", published=True
    ),
    "1-sa": Strategy(
        partial(_peer, one_sa), "1-SA: groups of like rows, aligned unit columns", published=True
    ),
    "sgt": Strategy(
        partial(_peer, sparse_graph_translation), "TC-GNN: windows of a unit row, condensed", published=True
    ),
    "tca": Strategy(_tca, "DTC-SpMM: rows clustered by MinHash, windows condensed", published=True),
}


def covers(
    pattern: Pattern,
    n: int,
    unit: Unit,
    effort: int = 1,
    seed: int = 0,
    *,
    published: bool = False,
    indexed_rows: bool = False,
) -> Iterator[tuple[str, MetaOps]]:
    """The covers of all strategies of this effort by name, each cover once; orders are shared between them.

    published: those of published systems, too; indexed_rows: those that need indexed accumulation, too.
    """
    search = Search(pattern, unit, effort, seed)
    seen: set[MetaOps] = set()
    for name, strategy in STRATEGIES.items():
        if strategy.least_effort > effort or (strategy.published and not published):
            continue
        if strategy.indexed_rows and not indexed_rows:
            continue
        cover = strategy.build(search, n)
        if cover not in seen:
            seen.add(cover)
            yield name, cover
