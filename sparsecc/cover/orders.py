"""Row orders of a pattern that bring rows with like columns together.

Column orders are the same on the transpose. Every order names the rows with a nonzero, each once, and depends
on nothing but the pattern, the parameters and the seed.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

import numpy as np

from sparsecc.cover import kernels
from sparsecc.cover.laws import Pattern
from sparsecc.cover.metaops import Int32, Int64
from sparsecc.cover.panels import Order, merged_columns, merged_rows, selected_rows, transposed

# Rows that a quadratic order looks at together; more are first cut to chunks of similar rows.
REACH = 8192

# Larger than any key of the greedy filler: a row that is already in a panel.
TAKEN = 1 << 62


def natural(pattern: Pattern) -> Order:
    """Rows as they stand, without the empty ones."""
    return np.flatnonzero(np.diff(pattern.indptr)).astype(np.int32)


def by_degree(pattern: Pattern) -> Order:
    """Rows with few nonzeros first, so that the rows of a panel are about equally full."""
    sizes = np.diff(pattern.indptr)
    return np.argsort(sizes, kind="stable")[int((sizes == 0).sum()) :].astype(np.int32)


def signatures(pattern: Pattern, hashes: int, seed: int) -> Int32:
    """MinHash (Broder 1997): for each hash, the least image of the row's columns; [hashes, rows].

    Two rows agree in a hash with the probability of their Jaccard similarity. No row may be empty.
    """
    rng = np.random.default_rng(seed)
    found = np.empty((hashes, pattern.m), np.int32)
    for i in range(hashes):
        image = rng.permutation(pattern.k).astype(np.int32)
        found[i] = np.minimum.reduceat(image[pattern.indices], pattern.indptr[:-1])
    return found


def by_minhash(pattern: Pattern, seed: int = 0) -> Order:
    """Sorted by four MinHashes, one after another: like rows share a prefix of them."""
    rows = natural(pattern)
    if not len(rows):
        return rows
    return rows[np.lexsort(signatures(selected_rows(pattern, rows), 4, seed)[::-1])]


def reverse_cuthill_mckee(pattern: Pattern) -> Order:
    """Reverse Cuthill-McKee (Cuthill, McKee 1969; George 1971) on the graph of rows and columns.

    Rows and columns are the two kinds of nodes, nonzeros the edges: it suits any shape and keeps the band of
    a mesh together.
    """
    import scipy.sparse as scipy_sparse  # pyright: ignore[reportMissingTypeStubs]
    import scipy.sparse.csgraph as scipy_csgraph  # pyright: ignore[reportMissingTypeStubs]

    sparse: Any = scipy_sparse
    csgraph: Any = scipy_csgraph
    csr = (np.ones(pattern.nnz, np.int8), pattern.indices, pattern.indptr)
    edges = sparse.csr_array(csr, shape=(pattern.m, pattern.k))
    graph = sparse.block_array([[None, edges], [edges.T, None]]).tocsr()
    nodes: Int32 = csgraph.reverse_cuthill_mckee(graph, symmetric_mode=True)
    rows = nodes[nodes < pattern.m]
    return rows[np.diff(pattern.indptr)[rows] > 0].astype(np.int32)


def in_chunks(pattern: Pattern, reach: int, fill: Callable[[Pattern], Order], seed: int) -> Order:
    """Apply an order of quadratic cost to chunks of at most `reach` rows that are alike by MinHash."""
    rows = natural(pattern)
    if len(rows) > reach:
        rows = by_minhash(pattern, seed)
    parts = [rows[at : at + reach] for at in range(0, len(rows), reach)]
    return np.concatenate([rows[:0]] + [part[fill(selected_rows(pattern, part))] for part in parts])


def greedy_panels(
    pattern: Pattern, height: int, *, short_first: bool = False, reach: int = REACH, seed: int = 0
) -> Order:
    """Fill panels of `height` rows, always with the row that adds the fewest columns to the panel.

    Of several such rows the one with the most columns in common is taken; a panel starts with the smallest
    row that is left. With short_first the panel that is not full is filled first and put last: then it takes
    the smallest rows and not those that fit nowhere. O(panels * nonzeros + rows^2) in arrays.
    """
    reach = max(height, reach // height * height)
    return in_chunks(pattern, reach, lambda part: _fill_panels(part, height, short_first), seed)


def _fill_panels(pattern: Pattern, height: int, short_first: bool) -> Order:
    by_column = transposed(pattern)
    short = pattern.m % height if short_first else 0
    if kernels.library() is not None:
        start = np.diff(pattern.indptr) * (pattern.k + 1)
        return np.roll(kernels.fill_panels(pattern, by_column, height, short, start), -short)
    degrees = np.diff(by_column.indptr)
    counting = np.arange(pattern.nnz)
    sizes = np.diff(pattern.indptr)
    # Key of a row: (columns it would add, then the most in common), as one number.
    weight = pattern.k + 1
    start = sizes * weight
    order = np.empty(pattern.m, np.int32)
    used = np.zeros(pattern.k, bool)
    filled = 0
    room = short or height
    while filled < pattern.m:
        used[:] = False
        key = start.copy()
        for place in range(filled, min(filled + room, pattern.m)):
            row = int(key.argmin())
            order[place] = row
            key[row] = start[row] = TAKEN
            columns = pattern.indices[pattern.indptr[row] : pattern.indptr[row + 1]]
            added = columns[~used[columns]]
            used[added] = True
            if len(added):
                # The rows of the added columns, as selected_rows finds them, with less ado for few columns.
                ends = np.cumsum(degrees[added])
                at = np.repeat(by_column.indptr[added + 1] - ends, degrees[added]) + counting[: ends[-1]]
                key -= (weight + 1) * np.bincount(by_column.indices[at], minlength=pattern.m)
        filled += room
        room = height
    return np.roll(order, -short)


def jaccard_groups(pattern: Pattern, distance: float, width: int = 1) -> tuple[Order, Int64]:
    """1-SA (Sylos Labini et al., arXiv 2202.05868): the order, and where each group of it begins and ends.

    The first row left is the seed of a group; every later row whose Jaccard distance, over blocks of `width`
    columns, to the union of the group is less than `distance` joins it, and the union grows.
    """
    rows = natural(pattern)
    blocks = merged_columns(selected_rows(pattern, rows), width)
    by_block = transposed(blocks)
    if kernels.library() is not None:
        order, bounds = kernels.jaccard_groups(blocks, by_block, distance)
    else:
        order, bounds = _jaccard_groups(blocks, by_block, distance)
    return rows[order], bounds


def _jaccard_groups(blocks: Pattern, by_block: Pattern, distance: float) -> tuple[Int64, Int64]:
    sizes = np.diff(blocks.indptr)
    free = np.ones(blocks.m, bool)
    used = np.zeros(blocks.k, bool)
    order: list[int] = []
    bounds = [0]
    for seed in range(blocks.m):
        if not free[seed]:
            continue
        used[:] = False
        common = np.zeros(blocks.m, np.int64)
        union, row = 0, seed
        while row >= 0:
            order.append(row)
            free[row] = False
            columns = blocks.indices[blocks.indptr[row] : blocks.indptr[row + 1]]
            added = columns[~used[columns]]
            if len(added):
                used[added] = True
                union += len(added)
                common += np.bincount(selected_rows(by_block, added).indices, minlength=blocks.m)
            later = common[row + 1 :]
            both = sizes[row + 1 :] + union - later
            near = free[row + 1 :] & (both - later < distance * both)
            row = row + 1 + int(near.argmax()) if near.any() else -1
        bounds.append(len(order))
    return np.array(order, np.int64), np.array(bounds, np.int64)


# Of DTC-SpMM's released reordering: hashes, rows of a cluster, clusters of a cluster. Bands of two suit its
# threshold of 0.2.
HASHES, BAND, ROWS_A_CLUSTER, CLUSTERS_A_CLUSTER = 128, 2, 16, 128
# Bounds of the candidates: neighbours looked at in a bucket, pairs kept for each row.
NEIGHBOURS, PAIRS_A_ROW = 8, 16


def clusters(pattern: Pattern, cap: int = ROWS_A_CLUSTER, seed: int = 0) -> Int64:
    """The cluster of each row as DTC-SpMM's TCA (Fan et al., ASPLOS'24) makes them, [rows].

    Pairs that share a bucket of MinHash-LSH are taken from a heap, the most similar first. Two clusters that
    are not full become one (union-find); a pair of rows that are no roots any more comes again as the pair of
    their roots. A cluster of `cap` rows or more is closed. No row may be empty.
    """
    first, second = _candidates(pattern, seed)
    columns = [
        frozenset(pattern.indices[a:b].tolist())
        for a, b in zip(pattern.indptr[:-1].tolist(), pattern.indptr[1:].tolist(), strict=True)
    ]

    def entry(i: int, j: int) -> tuple[float, int, int]:
        common = len(columns[i] & columns[j])
        return -common / (len(columns[i]) + len(columns[j]) - common), i, j

    parent = list(range(pattern.m))
    size = [1] * pattern.m

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    heap = [entry(i, j) for i, j in zip(first.tolist(), second.tolist(), strict=True)]
    heapq.heapify(heap)
    waiting = {(i, j) for _, i, j in heap}
    while heap:
        _, i, j = heapq.heappop(heap)
        waiting.discard((i, j))
        a, b = root(i), root(j)
        if a == b or size[a] >= cap or size[b] >= cap:
            continue
        if (a, b) == (i, j):
            small, large = (a, b) if size[a] < size[b] else (b, a)
            parent[small] = large
            size[large] += size[small]
        elif (pair := (min(a, b), max(a, b))) not in waiting:
            heapq.heappush(heap, entry(*pair))
            waiting.add(pair)
    return np.array([root(i) for i in range(pattern.m)], np.int64)


def _candidates(pattern: Pattern, seed: int) -> tuple[Int64, Int64]:
    """Pairs of rows (i < j) that share a bucket; of too many, those that share the most buckets."""
    if not pattern.nnz:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    signature = signatures(pattern, HASHES, seed).astype(np.int64)
    found: list[Int64] = []
    for band in range(0, len(signature), BAND):
        bucket = signature[band] * pattern.k + signature[band + 1]
        row = np.argsort(bucket, kind="stable")
        for step in range(1, NEIGHBOURS + 1):
            same = bucket[row[step:]] == bucket[row[:-step]]
            # The sort is stable: in a bucket, rows rise.
            found.append(row[:-step][same] * pattern.m + row[step:][same])
    pair, times = np.unique(np.concatenate(found), return_counts=True)
    if len(pair) > PAIRS_A_ROW * pattern.m:
        pair = pair[np.argsort(-times, kind="stable")[: PAIRS_A_ROW * pattern.m]]
    first, second = np.divmod(pair, pattern.m)
    return first, second


def by_clusters(pattern: Pattern, cap: int = ROWS_A_CLUSTER, seed: int = 0) -> Order:
    """DTC-SpMM's order: rows by cluster, and these by a second clustering of their unions, for the cache."""
    rows = natural(pattern)
    of_row = np.unique(clusters(selected_rows(pattern, rows), cap, seed), return_inverse=True)[1]
    unions = merged_rows(selected_rows(pattern, rows), of_row, int(of_row.max(initial=-1)) + 1)
    of_cluster = clusters(unions, CLUSTERS_A_CLUSTER, seed)
    return rows[np.lexsort((of_row, of_cluster[of_row]))]
