"""Covers of published systems, from their descriptions, to be compared with.

Each is what the system would compute: none of their zero padding is refused here.
"""

from __future__ import annotations

import heapq

import numpy as np

from sparsecc.cover.cells import count_cells, split
from sparsecc.cover.laws import Pattern
from sparsecc.cover.lists import Lists, gathered_panels, metaops_of
from sparsecc.cover.metaops import Int64, MetaOps
from sparsecc.cover.orders import by_clusters, jaccard_groups
from sparsecc.cover.panels import Order, Unit, merged_columns, merged_rows


def aligned_bsr(pattern: Pattern, n: int, unit: Unit) -> MetaOps:
    """BSR: every block of the aligned grid of unit cells that holds a nonzero, dense."""
    return split(MetaOps.whole(pattern.m, n, pattern.k), pattern, unit)


def sparse_graph_translation(pattern: Pattern, n: int, unit: Unit) -> MetaOps:
    """TC-GNN's SGT (Wang et al., ATC'23): windows of consecutive unit rows, their columns condensed.

    Empty rows stay in their windows; windows without a nonzero are left out.
    """
    return gathered_panels(pattern, n, unit, np.arange(pattern.m, dtype=np.int32), unit[0])


def tca(pattern: Pattern, n: int, unit: Unit, seed: int = 0) -> MetaOps:
    """DTC-SpMM (Fan et al., ASPLOS'24): windows with condensed columns after its order of the rows."""
    return gathered_panels(pattern, n, unit, by_clusters(pattern, unit[0], seed), unit[0])


# Distances at which 1-SA is tried; its authors choose one for each matrix.
DISTANCES = (0.3, 0.5, 0.7, 0.9)


def one_sa(pattern: Pattern, n: int, unit: Unit) -> MetaOps:
    """1-SA (Sylos Labini et al., arXiv 2202.05868): groups of like rows of any number, VBR.

    A group holds the aligned unit columns that any of its rows uses, whole. The distance with the fewest unit
    cells is taken.
    """
    covers = [_groups(pattern, n, unit, *jaccard_groups(pattern, d, unit[2])) for d in DISTANCES]
    return min(covers, key=lambda cover: count_cells(cover, unit))


def _groups(pattern: Pattern, n: int, unit: Unit, order: Order, bounds: Int64) -> MetaOps:
    """One meta-op for each group of rows: the unit columns that they use."""
    groups = len(bounds) - 1
    sizes = np.diff(bounds)
    owner = np.repeat(np.arange(groups), sizes)
    of_row = np.zeros(pattern.m, np.int64)
    of_row[order] = owner
    blocks = merged_columns(merged_rows(pattern, of_row, groups), unit[2])
    column = (blocks.indices[:, None].astype(np.int64) * unit[2] + np.arange(unit[2])).ravel()
    inside = column < pattern.k
    of_column = np.repeat(blocks.row_of(), unit[2])
    columns = Lists.by_owner(of_column[inside].astype(np.int64), column[inside], groups)
    each = np.arange(groups)
    rows = Lists(order[np.lexsort((order, owner))], bounds)
    return metaops_of(pattern, n, unit, rows, columns, each, each)


# Block sizes of the weighted block cover in unit cells: each is one half of the next.
BLOCKS = ((1, 1), (1, 2), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8))
# What a block costs to begin, in unit cells.
BLOCK_START = 0.25


def weighted_block_cover(pattern: Pattern, n: int, unit: Unit) -> MetaOps:
    """SparTA's cover (Zheng et al., OSDI'22): greedy weighted set cover by aligned blocks of several sizes.

    Always the block of the least price for each nonzero that no block holds yet. SparTA profiles the prices
    and leaves to scalar code what no block holds cheaply; here a block costs its unit cells and BLOCK_START,
    and one unit cell is the smallest block, as a tensor unit has none smaller. A block that a later, larger
    one holds is dropped.
    """
    unit_columns = -(-pattern.k // unit[2])
    cell, count = np.unique(
        pattern.row_of().astype(np.int64) // unit[0] * unit_columns + pattern.indices // unit[2],
        return_counts=True,
    )
    row, column = np.divmod(cell, max(unit_columns, 1))
    # Of each size: the block of each cell that holds a nonzero, by number, and the cells of each block.
    blocks_of_cell: list[Int64] = []
    cells_of_block: list[list[Int64]] = []
    heap: list[tuple[float, int, int]] = []
    open_count = count.astype(np.int64)
    for size, (height, width) in enumerate(BLOCKS):
        key = row // height * (unit_columns // width + 1) + column // width
        of_cell = np.unique(key, return_inverse=True)[1].astype(np.int64)
        by_block = np.argsort(of_cell, kind="stable")
        blocks = int(of_cell.max(initial=-1)) + 1
        bounds = np.searchsorted(of_cell[by_block], np.arange(1, blocks))
        blocks_of_cell.append(of_cell)
        cells_of_block.append(np.split(by_block, bounds) if blocks else [])
        held = np.bincount(of_cell, open_count, blocks)
        price = (height * width + BLOCK_START) / held
        heap += [(p, size, block) for block, p in enumerate(price.tolist())]
    heapq.heapify(heap)
    # The largest block chosen for each cell, by size; sizes are nested, so a later choice holds earlier ones.
    chosen = np.full(len(cell), -1)
    while heap:
        price, size, block = heapq.heappop(heap)
        cells = cells_of_block[size][block]
        held = int(open_count[cells].sum())
        if held == 0:
            continue
        now = (BLOCKS[size][0] * BLOCKS[size][1] + BLOCK_START) / held
        if now > price:
            heapq.heappush(heap, (now, size, block))
            continue
        open_count[cells] = 0
        chosen[cells] = size
    triples: list[tuple[range, range, range]] = []
    for size, (height, width) in enumerate(BLOCKS):
        here = np.flatnonzero(chosen == size)
        first = here[np.unique(blocks_of_cell[size][here], return_index=True)[1]]
        for r, c in zip((row[first] // height).tolist(), (column[first] // width).tolist(), strict=True):
            m0, k0 = r * height * unit[0], c * width * unit[2]
            triples.append(
                (
                    range(m0, min(m0 + height * unit[0], pattern.m)),
                    range(n),
                    range(k0, min(k0 + width * unit[2], pattern.k)),
                )
            )
    return MetaOps.of(triples)
