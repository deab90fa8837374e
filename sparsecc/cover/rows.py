"""Whether meta-ops agree on an order of the rows, or own any rows they like (bicliques)."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from sparsecc.cover.metaops import M0, M_MAP, Int32, M, MetaOps, distinct_axes, expand


def has_bicliques(metaops: MetaOps) -> bool:
    """Whether meta-ops list rows that others list differently: their order says who owns shared points."""
    return bool((metaops.table[:, M_MAP] >= 0).any()) and not in_chains(metaops)


def in_chains(metaops: MetaOps) -> bool:
    """Whether in some order of the rows, those of every meta-op are consecutive and as it lists them."""
    if not len(metaops):
        return True
    t = metaops.table[distinct_axes(*(metaops.table[:, c] for c in (M0, M, M_MAP)))[0]]
    owner, row, _ = expand(t[:, M0], t[:, M], t[:, M_MAP], metaops.index)
    return chains(owner, row, int(row.max()) + 1) is not None


def chains(owner: NDArray[np.integer], row: Int32, m: int) -> Int32 | None:
    """The rows in an order that has the rows of each owner one after another; None where there is none.

    Every list says which row follows which; where the lists agree, the rows form chains, and each list is a
    part of one. owner, row: one entry for each row of each list, list after list.
    """
    follows = np.flatnonzero(owner[1:] == owner[:-1])
    before, after = row[follows], row[follows + 1]
    successor, predecessor = np.full(m, -1, np.int32), np.full(m, -1, np.int32)
    successor[before], predecessor[after] = after, before
    if (successor[before] != after).any() or (predecessor[after] != before).any():
        return None
    written = np.zeros(m, bool)
    written[row] = True
    found: list[list[int]] = []
    following = successor.tolist()
    for head in np.flatnonzero(written & (predecessor < 0)).tolist():
        found.append([])
        at = int(head)
        while at >= 0:
            found[-1].append(at)
            at = following[at]
    if sum(map(len, found)) != int(written.sum()):
        return None
    # Chains of another length than most (a last window) come last, so that the others lie in step.
    usual = Counter(map(len, found)).most_common(1)[0][0] if found else 0
    found.sort(key=lambda chain: len(chain) != usual)
    return np.array([row for chain in found for row in chain], np.int32)
