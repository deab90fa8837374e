"""Meta-op tables: any number of dense blocks of a computing space M x N x K in two arrays.

A meta-op is a set of rows (M), a range of positions (N) and a set of columns (K) of the operator
C[M,N] = W[M,K] X[K,N]. Rows and columns are a range or a list of indices (a gather map).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Indices = NDArray[np.integer]

# Columns of the table.
M0, M, N0, N, K0, K, M_MAP, K_MAP = range(8)
COLUMNS = 8

# One axis of a meta-op, for building and for reading: a half-open range or a list of indices.
Axis = range | Sequence[int] | Int32


@dataclass(frozen=True, eq=False)
class MetaOps:
    """A set of meta-ops, in order.

    `table` is int32 [count, 8]: first row, rows, first position, positions, first column, columns, and where
    the row and column lists start in `index`, -1 for a range. The first row (column) of a list is 0.
    """

    table: Int32
    index: Int32

    @staticmethod
    def of(metaops: Iterable[tuple[Axis, range, Axis]]) -> MetaOps:
        """From (rows, positions, columns) triples; equal lists are stored once."""
        records: list[tuple[int, ...]] = []
        pool: list[Int32] = []
        known: dict[bytes, int] = {}
        total = 0

        def axis(a: Axis) -> tuple[int, int, int]:
            nonlocal total
            if isinstance(a, range):
                return a.start, len(a), -1
            indices = np.asarray(a, np.int32)
            key = indices.tobytes()
            if key not in known:
                known[key] = total
                pool.append(indices)
                total += len(indices)
            return 0, len(indices), known[key]

        for rows, positions, columns in metaops:
            m0, m, m_map = axis(rows)
            k0, k, k_map = axis(columns)
            records.append((m0, m, positions.start, len(positions), k0, k, m_map, k_map))
        index = np.concatenate(pool) if pool else np.zeros(0, np.int32)
        return MetaOps(np.array(records, np.int32).reshape(-1, COLUMNS), index)

    @staticmethod
    def whole(m: int, n: int, k: int) -> MetaOps:
        """The dense plan: one meta-op that is the whole computing space."""
        return MetaOps.of([(range(m), range(n), range(k))])

    def __len__(self) -> int:
        return len(self.table)

    def rows(self, i: int) -> Axis:
        """Rows of meta-op i."""
        return self._axis(i, M0, M, M_MAP)

    def columns(self, i: int) -> Axis:
        """Columns of meta-op i."""
        return self._axis(i, K0, K, K_MAP)

    def positions(self, i: int) -> range:
        """Positions of meta-op i."""
        n0, n = int(self.table[i, N0]), int(self.table[i, N])
        return range(n0, n0 + n)

    def _axis(self, i: int, start: int, size: int, at: int) -> Axis:
        record = self.table[i]
        if record[at] >= 0:
            return self.index[record[at] : record[at] + record[size]]
        return range(int(record[start]), int(record[start]) + int(record[size]))

    def select(self, which: NDArray[np.integer | np.bool_] | slice) -> MetaOps:
        """These meta-ops, in this order; the index pool is shared."""
        return MetaOps(self.table[which], self.index)

    @cached_property
    def area(self) -> int:
        """Points of the M x K plane in all meta-ops."""
        return int((self.table[:, M].astype(np.int64) * self.table[:, K]).sum())

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, MetaOps)
            and np.array_equal(self.table, other.table)
            and np.array_equal(self.index, other.index)
        )

    def __hash__(self) -> int:
        return hash((self.table.tobytes(), self.index.tobytes()))


def expand(starts: Indices, sizes: Indices, maps: Indices, index: Int32) -> tuple[Int64, Int32, Int32]:
    """All indices of many axes, one after another.

    Returns (axis number, index, place inside its axis), each of length sizes.sum().
    """
    total = int(sizes.sum())
    # Half the memory traffic wherever 32 bits hold the number of indices.
    kind = np.int32 if total < 1 << 31 else np.int64
    first = np.cumsum(sizes, dtype=kind) - sizes.astype(kind)
    number = np.arange(total, dtype=kind)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    place = (number - np.repeat(first, sizes)).astype(np.int32, copy=False)
    listed = maps >= 0
    value = (np.repeat(np.where(listed, maps, starts), sizes) + place).astype(np.int32, copy=False)
    if listed.all():
        value = index[value]
    elif listed.any():
        mapped = np.repeat(listed, sizes)
        value[mapped] = index[value[mapped]]
    return owner, value, place


def distinct_axes(starts: Indices, sizes: Indices, maps: Indices) -> tuple[Int64, Int64]:
    """The different ones among many axes: where each stands first, and which of them each axis is.

    A range and a list are different, and so are lists at different places of the index pool.
    """
    begin = np.where(maps >= 0, maps + np.int64(1 << 31), starts)
    key = begin * (int(sizes.max(initial=0)) + 1) + sizes
    _, first, which = np.unique(key, return_index=True, return_inverse=True)
    return first, which


def concatenate(parts: Sequence[MetaOps]) -> MetaOps:
    """One table of several, their index pools joined; a pool that parts share is kept once."""
    tables: list[Int32] = []
    pools: list[Int32] = []
    known: dict[int, int] = {}
    total = 0
    for part in parts:
        base = known.setdefault(id(part.index), total)
        table = part.table.copy()
        for at in (M_MAP, K_MAP):
            table[:, at] = np.where(table[:, at] >= 0, table[:, at] + base, -1)
        tables.append(table)
        if base == total:
            pools.append(part.index)
            total += len(part.index)
    if not tables:
        return MetaOps(np.zeros((0, COLUMNS), np.int32), np.zeros(0, np.int32))
    return MetaOps(np.concatenate(tables), np.concatenate(pools))
