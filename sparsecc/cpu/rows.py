"""Row orders that put rows with many common columns into one group, for each block of columns.

A vector of X that several rows of a group need is loaded once for all of them. The fewer columns a group
uses, the fewer loads there are for each multiplication. Each block of columns may have an order of its own:
results are added up in memory between blocks, row by row.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_int64, c_void_p
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparsecc.cpu.build import digest, own_version, shared_object
from sparsecc.cpu.plan import Indices, block_count
from sparsecc.importers.matrix import Csr, make_csr
from sparsecc.toolchain import RUNTIME

# What a shared column is worth to the greedy order, in columns that are not; 0: the share of them counts.
GAINS = (0, 2, 4)

# Groups from which on the orders of two halves are hardly worse than one of the whole.
HALF_GROUPS = 4

# Orders found last: they are asked for when variants are listed, when they are timed, and when one is built.
RECENT = 4
_recent: dict[str, Indices] = {}

SOURCE = RUNTIME / "cpu_plan" / "cluster.c"


@cache
def _library() -> ctypes.CDLL:
    """Compiled for the machine the compiler runs on. Raises UserError."""

    def write(_: Path) -> list[str]:
        return ["-std=c11", "-O2", "-fPIC", str(SOURCE)]

    key = f"cluster-{digest(own_version(), SOURCE.read_bytes())}"
    library = ctypes.CDLL(str(shared_object(key, write, "building the search for row orders")))
    library.sc_cluster.argtypes = [c_int64, c_int64, c_void_p, c_void_p, c_int64, c_int64, c_void_p]
    library.sc_cluster.restype = c_int
    return library


def natural(w: Csr, width: int) -> Indices:
    """[blocks, M] Rows as they are."""
    m, k = w.shape
    return np.broadcast_to(np.arange(m), (block_count(k, width), m))


def loads(w: Csr, rows: Indices, height: int, width: int) -> int:
    """Triples of a block, a group of `height` of its rows, and a column that it uses. rows: [blocks, M]."""
    return int(_loads(w, rows, height, width).sum())


def _loads(w: Csr, rows: Indices, height: int, width: int) -> Indices:
    """[blocks] The loads of each block."""
    m, k = w.shape
    blocks, groups = len(rows), -(-m // height)
    group = np.empty((blocks, m), np.int64)
    np.put_along_axis(group, rows, np.broadcast_to(np.arange(m) // height, rows.shape), axis=1)
    row, column = np.repeat(np.arange(m), np.diff(w.indptr)), w.indices.astype(np.int64)
    used = np.zeros((groups, k), bool)
    used[group[column // width, row], column] = True
    return np.add.reduceat(used.sum(0), np.arange(0, k, width))


def clustered(w: Csr, height: int, width: int) -> Indices:
    """[blocks, M] Of each block the best of several orders: as it is, by count, greedily by shared columns.

    The greedy ones begin each group with the longest row left, and take the row with many columns that the
    group uses already and few that it does not; how one is weighed against the other is tried out.
    """
    key = digest(w.shape, w.indptr.tobytes(), w.indices.tobytes(), height, width)
    if key not in _recent:
        while len(_recent) >= RECENT:
            _recent.pop(next(iter(_recent)))
        _recent[key] = _clustered(w, height, width)
    return _recent[key]


def _clustered(w: Csr, height: int, width: int) -> Indices:
    m, k = w.shape
    if block_count(k, width) > 1 and m >= 2 * HALF_GROUPS * height:
        # Of each half by itself: where blocks have orders of their own, two threads take a half each.
        middle = int(np.searchsorted(w.indptr, w.nnz // 2)) // height * height
        middle = min(max(middle, height), (m - 1) // height * height)
        halves = _ordered(_rows(w, 0, middle), height, width), _ordered(_rows(w, middle, m), height, width)
        return np.concatenate([halves[0], middle + halves[1]], axis=1)
    return _ordered(w, height, width)


def _rows(w: Csr, first: int, end: int) -> Csr:
    starts, inside = w.indptr[first : end + 1], slice(w.indptr[first], w.indptr[end])
    return make_csr(w.data[inside], w.indices[inside], starts - starts[0], (end - first, w.shape[1]))


def _ordered(w: Csr, height: int, width: int) -> Indices:
    m, k = w.shape
    row, column = np.repeat(np.arange(m), np.diff(w.indptr)), w.indices.astype(np.int64)
    block = column // width
    blocks = block_count(k, width)
    counts = np.bincount(block * m + row, minlength=blocks * m).reshape(blocks, m)
    by_count = np.argsort(-counts, axis=1, kind="stable")
    greedy = np.empty((len(GAINS), blocks, m), np.int64)
    for b in range(blocks):
        inside = column[block == b] - b * width
        begin = np.concatenate([[0], np.cumsum(counts[b])]).astype(np.int64)
        for i, gain in enumerate(GAINS):
            greedy[i, b] = _greedy(m, min(width, k - b * width), begin, inside, height, gain)
    orders = np.stack([natural(w, width), by_count, *greedy])
    best = np.argmin([_loads(w, order, height, width) for order in orders], axis=0)
    return orders[best, np.arange(blocks)]


def _greedy(m: int, k: int, begin: Indices, columns: Indices, height: int, gain: int) -> NDArray[np.int32]:
    order, narrow = np.empty(m, np.int32), columns.astype(np.int32)
    pointers = [c_void_p(array.ctypes.data) for array in (begin, narrow, order)]
    if _library().sc_cluster(m, k, pointers[0], pointers[1], height, gain, pointers[2]) != 0:
        raise MemoryError("no memory to order rows")
    return order
