"""Straight-line plans: in which order the nonzeros of a matrix run, and in whose accumulator each ends.

Rows are cut to groups of as many as there are accumulators, columns to blocks of which a panel of X stays in
the first cache. A *chunk* is one group times one block; inside it nonzeros run column by column, so that each
vector of X is loaded once for all rows of the group that need it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LinePlan:
    """The order of all nonzeros: by block of columns, group of rows, column, row of the group.

    All arrays are int64. `order` [nnz] names the nonzeros of the CSR arrays in the order they run; `slot` and
    `column` [nnz] are, in that order, the accumulator and the column inside the block; `ends`
    [blocks * groups + 1] says where chunks begin, block by block; `rows` [blocks, M] names for each block the
    rows, group by group.
    """

    shape: tuple[int, int]
    height: int
    """Rows of a group, at most."""
    width: int
    """Columns of a block, at most."""
    rows: Indices
    order: Indices
    slot: Indices
    column: Indices
    ends: Indices

    @property
    def groups(self) -> int:
        return -(-self.shape[0] // self.height)

    @property
    def blocks(self) -> int:
        return block_count(self.shape[1], self.width)

    @property
    def same_rows(self) -> bool:
        """Whether the groups of all blocks have the same rows."""
        return bool((self.rows == self.rows[0]).all())

    @property
    def cut(self) -> int:
        """Where threads may share out groups: `groups`: anywhere; below: before this one alone; 0: nowhere.

        Blocks add to what those before left, so a share needs the same rows in all of them.
        """
        if self.same_rows:
            return self.groups
        group, of_place = np.empty_like(self.rows), np.arange(self.shape[0]) // self.height
        np.put_along_axis(group, self.rows, np.broadcast_to(of_place, self.rows.shape), axis=1)
        # Rows that are in an earlier group of one block than of another are torn apart by cuts between these.
        first, last = (np.bincount(g, minlength=self.groups) for g in (group.min(0), group.max(0)))
        whole = 1 + np.flatnonzero(np.cumsum(first - last)[:-1] == 0)
        if not len(whole):
            return 0
        before = np.diff(self.ends).reshape(self.blocks, self.groups).sum(0).cumsum()[whole - 1]
        return int(whole[np.argmin(np.abs(2 * before - self.nnz))])

    @property
    def nnz(self) -> int:
        return len(self.order)

    def rows_of(self, chunk: int) -> Indices:
        """Rows of W whose results the chunk computes, in the order of its accumulators."""
        block, group = divmod(chunk, self.groups)
        return self.rows[block, group * self.height : (group + 1) * self.height]

    def loads(self) -> int:
        """Vectors of X that are loaded for one panel."""
        return int(self.first().sum())

    def first(self) -> NDArray[np.bool_]:
        """[nnz] Whether a nonzero is the first of its column in its chunk."""
        new = np.ones(self.nnz, bool)
        if self.nnz:
            new[1:] = self.column[1:] != self.column[:-1]
            starts = self.ends[:-1]
            new[starts[starts < self.nnz]] = True
        return new


def block_count(k: int, width: int) -> int:
    """Blocks of `width` columns that k columns are cut to."""
    return max(1, -(-k // width))


def block_width(k: int, limit: int) -> int:
    """Columns of equal blocks, at most `limit` each, and a multiple of 8 where there are several."""
    blocks = max(1, -(-k // limit))
    width = -(-k // blocks)
    return max(1, width if blocks == 1 else min(limit, -(-width // 8) * 8))


def line_plan(
    shape: tuple[int, int], indptr: Indices, indices: Indices, rows: Indices, height: int, width: int
) -> LinePlan:
    """The plan for groups of `height` rows and blocks of `width` columns. rows: [blocks, M], permutations."""
    m, k = shape
    assert height > 0
    assert width > 0
    groups, blocks = -(-m // height), block_count(k, width)
    assert rows.shape == (blocks, m)
    place = np.empty((blocks, m), np.int64)
    np.put_along_axis(place, rows, np.broadcast_to(np.arange(m), rows.shape), axis=1)
    columns = indices.astype(np.int64)
    block = columns // width
    at = place[block, np.repeat(np.arange(m), np.diff(indptr))]
    group, slot = at // height, at % height
    chunk = block * groups + group
    # One key: sorting it is several times faster than sorting by four.
    order = np.argsort((chunk * width + columns % width) * height + slot, kind="stable")
    counts = np.bincount(chunk, minlength=blocks * groups)
    ends = np.concatenate([[0], np.cumsum(counts)])
    return LinePlan(shape, height, width, rows, order, slot[order], (columns % width)[order], ends)
