"""Row orders that put rows with many common columns into one group.

A vector of X that several rows of a group need is loaded once for all of them. The fewer columns a group
uses, the fewer loads there are for each multiplication.
"""

from __future__ import annotations

import numpy as np

from sparsecc.cpu.plan import Indices
from sparsecc.importers.matrix import Csr

# Rows among which a group picks; more take longer and win little.
CANDIDATES = 1024


def loads(w: Csr, rows: Indices, height: int) -> int:
    """Pairs of a group of `height` rows and a column that it uses."""
    m, k = w.shape
    group = np.empty(m, np.int64)
    group[rows] = np.arange(m) // height
    used = np.zeros((-(-m // height), k), bool)
    used[np.repeat(group, np.diff(w.indptr)), w.indices] = True
    return int(used.sum())


def clustered(w: Csr, height: int) -> Indices:
    """[M] Rows, group after group, in the better of two orders: by count, and greedily by shared columns."""
    by_count = np.argsort(-np.diff(w.indptr).astype(np.int64), kind="stable")
    return min(by_count, _greedy(w, by_count, height), key=lambda rows: loads(w, rows, height))


def _greedy(w: Csr, by_count: Indices, height: int) -> Indices:
    """Each group begins with the longest row left, and takes the row with most columns that the group uses
    already and fewest that it does not.

    Takes some M * CANDIDATES * K / height steps, in numpy.
    """
    m, k = w.shape
    counts = np.diff(w.indptr).astype(np.int64)
    dense = np.zeros((m, k), np.float32)
    dense[np.repeat(np.arange(m), counts), w.indices] = 1.0
    left = by_count
    order: list[Indices] = []
    while len(left):
        pool = left[:CANDIDATES]
        rows, size = dense[pool], counts[pool]
        chosen = [0]
        free = np.ones(len(pool), bool)
        free[0] = False
        used = rows[0] > 0
        shared = rows[:, used].sum(1)
        while len(chosen) < height and free.any():
            best = int(np.argmax(np.where(free, 2 * shared - size, -np.inf)))
            chosen.append(best)
            free[best] = False
            new = (rows[best] > 0) & ~used
            shared += rows[:, new].sum(1)
            used |= new
        order.append(pool[chosen])
        left = np.concatenate([pool[free], left[CANDIDATES:]])
    return np.concatenate(order) if order else by_count
