"""Grouping: few, conflict-free groups. Two meta-ops that write the same output row never share a group."""

from __future__ import annotations

import heapq

import numpy as np

from sparsecc.cover.lift import first_listed, in_order
from sparsecc.cover.metaops import M0, M_MAP, Int32, M, MetaOps, distinct_axes, expand
from sparsecc.cover.rows import has_bicliques


def colours(metaops: MetaOps) -> Int32:
    """The group of each meta-op, from 0.

    With the row sets equal or disjoint (bands, windows), or all of them ranges, the number of groups is the
    largest number of meta-ops on one row, which is the least possible (left-edge algorithm).
    For other row sets (bicliques) each meta-op comes one group after those before it that share a row.
    """
    t = metaops.table
    if not len(t):
        return np.zeros(0, np.int32)
    if (t[:, M_MAP] < 0).all() and not equal_or_disjoint(metaops):
        return _left_edge(t[:, M0], t[:, M0] + t[:, M])
    if equal_or_disjoint(metaops):
        row = np.where(t[:, M_MAP] >= 0, first_listed(metaops, t[:, M_MAP]), t[:, M0])
        order = np.argsort(row, kind="stable")
        head = np.concatenate(([True], np.diff(row[order]) != 0))
        first = np.maximum.accumulate(np.where(head, np.arange(len(row)), 0))
        rank = np.empty(len(row), np.int32)
        rank[order] = np.arange(len(row)) - first
        return rank
    return _levels(metaops)


def equal_or_disjoint(metaops: MetaOps) -> bool:
    """Whether any two row sets are the same or have no row in common."""
    t = metaops.table[distinct_axes(*(metaops.table[:, c] for c in (M0, M, M_MAP)))[0]]
    owner, row, place = expand(t[:, M0], t[:, M], t[:, M_MAP], metaops.index)
    bound = int(row.max()) + 1
    # They are iff for each row, all row sets that hold it agree on its place, their first row and their size.
    first = np.zeros(len(t), np.int64)
    first[owner[place == 0]] = row[place == 0]
    key = (first[owner] * (int(t[:, M].max()) + 1) + t[owner, M]) * bound + place
    seen = np.full(bound, -1, np.int64)
    seen[row] = key
    return bool((seen[row] == key).all())


def _left_edge(start: Int32, end: Int32) -> Int32:
    """Interval colouring: in order of start, each interval takes the colour that was freed first."""
    colour = np.zeros(len(start), np.int32)
    free: list[int] = []
    busy: list[tuple[int, int]] = []
    used = 0
    for i in np.argsort(start, kind="stable"):
        while busy and busy[0][0] <= start[i]:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            c = heapq.heappop(free)
        else:
            c, used = used, used + 1
        colour[i] = c
        heapq.heappush(busy, (int(end[i]), c))
    return colour


def _levels(metaops: MetaOps) -> Int32:
    """Each meta-op one group after the last one before it that writes any of its rows.

    Of two meta-ops that share rows the earlier stays the earlier: it owns the points that both hold.
    """
    last: dict[int, int] = {}
    colour = np.zeros(len(metaops), np.int32)
    for i in range(len(metaops)):
        rows = metaops.rows(i)
        level = 1 + max(last.get(int(r), -1) for r in rows)
        colour[i] = level
        for r in rows:
            last[int(r)] = level
    return colour


def groups(metaops: MetaOps) -> list[MetaOps]:
    """The meta-ops as a sequence of conflict-free groups, each in order of rows and columns."""
    if not has_bicliques(metaops):
        metaops = in_order(metaops)
    colour = colours(metaops)
    count = int(colour.max(initial=-1)) + 1
    return [metaops.select(np.flatnonzero(colour == c)) for c in range(count)]
