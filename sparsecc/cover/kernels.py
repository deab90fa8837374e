"""The inner loops of the search for covers in C, where the host has a compiler.

The sources are in runtime/search. They take the same steps as numpy does where this module is called, and
count in whole numbers, so that a search finds the same with them and without, only sooner.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_double, c_int32, c_int64, c_void_p
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.cover.laws import Pattern
from sparsecc.cover.metaops import Int32, Int64
from sparsecc.errors import UserError
from sparsecc.toolchain import search_library

Array = NDArray[Any]
Block = tuple[Int64, Int64]

# Rows tried for each pair of panels, at most: SEARCH_TRIED of search.h.
MOST_TRIED = 3
# Bytes of search_pair.
PAIR = 24


class _Exchange(ctypes.Structure):
    """search_exchange_state of search.h."""

    _fields_ = (
        *((name, c_int64) for name in ("m", "k", "panels", "height", "tried", "most_pairs")),
        *(
            (name, c_void_p)
            for name in ("first", "columns", "column_first", "rows", "heights", "more", "less")
        ),
        *((name, c_void_p) for name in ("panel", "slot", "count", "enter", "leave", "cost", "place")),
        *((name, c_void_p) for name in ("prices", "sums", "pairs", "changed")),
    )


class _Plane(ctypes.Structure):
    """search_plane of search.h."""

    _fields_ = (
        *((name, c_int64) for name in ("m", "k", "um", "uk", "heaviest")),
        *((name, c_void_p) for name in ("weights", "held", "by_row", "by_column", "sums", "lines")),
    )


class _Block(ctypes.Structure):
    """search_block of search.h."""

    _fields_ = (
        ("row_count", c_int64),
        ("column_count", c_int64),
        ("rows", POINTER(c_int32)),
        ("columns", POINTER(c_int32)),
    )


@cache
def library() -> Any:
    """The functions of search.h; None where they cannot be built."""
    try:
        found = ctypes.CDLL(str(search_library()))
    except (UserError, OSError):
        return None
    plane, block = POINTER(_Plane), POINTER(_Block)
    for name, result, arguments in (
        ("fill_panels", None, (c_int64, c_int64, *[c_void_p] * 4, c_int64, c_int64, *[c_void_p] * 4)),
        ("jaccard_groups", c_int64, (c_int64, c_int64, *[c_void_p] * 4, c_double, *[c_void_p] * 5)),
        ("overlaps", None, (c_int64, *[c_void_p] * 4, c_int64, c_int64, *[c_void_p] * 4)),
        ("exchange", None, (POINTER(_Exchange), c_int64)),
        ("best_rows", c_int64, (plane, block, c_int64)),
        ("alternate", c_int64, (plane, block, c_int64)),
        ("grow", c_int64, (plane, block, c_int64)),
        ("weight", c_int64, (plane, block)),
        ("add", None, (plane, block)),
        ("remove", c_int64, (plane, block)),
        ("fit", None, (plane, block)),
    ):
        function = getattr(found, f"search_{name}")
        function.restype, function.argtypes = result, arguments
    return found


def _at(array: Array) -> int:
    """The address of an array's first entry."""
    assert array.flags.c_contiguous
    return array.ctypes.data


def fill_panels(pattern: Pattern, by_column: Pattern, height: int, short: int, start: Int64) -> Int32:
    """The order of the greedy filler, with `short` rows in the first panel unless that is 0.

    start (changed): the key of each row in an empty panel.
    """
    order = np.empty(pattern.m, np.int32)
    key, used = np.empty(pattern.m, np.int64), np.empty(pattern.k, np.uint8)
    csr = (pattern.indptr, pattern.indices, by_column.indptr, by_column.indices)
    work = (start, key, used, order)
    library().search_fill_panels(
        pattern.m, pattern.k, *map(_at, csr), height, short or height, *map(_at, work)
    )
    return order


def jaccard_groups(pattern: Pattern, by_column: Pattern, distance: float) -> tuple[Int64, Int64]:
    """Rows in groups of like ones, and where each group begins and ends."""
    order, bounds, common = (np.empty(size, np.int64) for size in (pattern.m, pattern.m + 1, pattern.m))
    work = (order, bounds, common, np.empty(pattern.k, np.uint8), np.empty(pattern.m, np.uint8))
    csr = (pattern.indptr, pattern.indices, by_column.indptr, by_column.indices)
    groups = library().search_jaccard_groups(pattern.m, pattern.k, *map(_at, csr), distance, *map(_at, work))
    return order, bounds[: groups + 1].copy()


def overlaps(pattern: Pattern, by_column: Pattern, count: int, cap: int) -> tuple[Int64, Int64]:
    """For each row the sum of its `count` largest overlaps with others: as they are, and each at most `cap`.

    The pattern must have fewer than 2^16 columns.
    """
    assert pattern.k < 1 << 16
    plain, clipped = np.empty(pattern.m, np.int64), np.empty(pattern.m, np.int64)
    work = (plain, clipped, np.empty(2 * pattern.m, np.uint16), np.empty(pattern.m, np.int32))
    csr = (pattern.indptr, pattern.indices, by_column.indptr, by_column.indices)
    library().search_overlaps(pattern.m, *map(_at, csr), count, cap, *map(_at, work))
    return plain, clipped


def exchange(
    pattern: Pattern,
    by_column: Pattern,
    state: tuple[Int64, Int64, Int32],
    heights: Int64,
    steps: tuple[Int64, Int64],
    tried: int,
    most_pairs: int,
    rounds: int,
) -> None:
    """Rounds of exchanges on the state: panel of each row, rows of each panel, rows by panel and column.

    steps: what one row more costs and one less saves, by count. Other arguments: see cover/exchange.py.
    """
    panels, height = state[1].shape
    assert tried <= MOST_TRIED
    csr = (pattern.indptr, pattern.indices, by_column.indptr, by_column.indices)
    work = (
        np.empty((panels, pattern.m), np.int64),
        np.empty(pattern.m, np.int64),
        np.empty((panels, tried, panels), np.int64),
        np.empty((panels, tried, panels), np.int32),
        np.empty((pattern.k, panels), np.int32),
        np.empty(panels, np.int32),
        np.empty(panels * (panels - 1) // 2 * PAIR, np.uint8),
        np.empty(panels, np.uint8),
    )
    sizes = (pattern.m, pattern.k, panels, height, tried, most_pairs)
    arrays = (*csr, heights, *steps, *state, *work)
    library().search_exchange(byref(_Exchange(*sizes, *map(_at, arrays))), rounds)


class PlaneMoves:
    """The moves of a Remainder (see cover/biclique_search.py) on its arrays, which must not be replaced."""

    def __init__(
        self,
        um: int,
        uk: int,
        heaviest: int,
        weights: NDArray[np.uint8],
        held: Int32,
        by_row: NDArray[np.uint8],
        by_column: NDArray[np.uint8],
    ) -> None:
        m, k = by_row.shape
        self._arrays = (
            weights,
            held,
            by_row,
            by_column,
            np.empty(2 * max(m, k) + 1, np.uint16),
            np.empty(max(m, k) + 1, np.int32),
        )
        self._plane = byref(_Plane(m, k, um, uk, heaviest, *map(_at, self._arrays)))
        # Twice as long as a block, for a copy of it.
        self._rows, self._columns = np.empty(2 * um, np.int32), np.empty(2 * uk, np.int32)
        self._block = _Block(
            0,
            0,
            self._rows.ctypes.data_as(POINTER(c_int32)),
            self._columns.ctypes.data_as(POINTER(c_int32)),
        )
        self._at = byref(self._block)
        self._library = library()

    def _put(self, rows: Int64, columns: Int64) -> None:
        block = self._block
        block.row_count, block.column_count = len(rows), len(columns)
        self._rows[: len(rows)], self._columns[: len(columns)] = rows, columns

    def _get(self) -> Block:
        block = self._block
        return (
            self._rows[: block.row_count].astype(np.int64),
            self._columns[: block.column_count].astype(np.int64),
        )

    def alternate(self, rows: Int64, rounds: int) -> tuple[int, Int64, Int64]:
        self._put(rows, rows[:0])
        return self._library.search_alternate(self._plane, self._at, rounds), *self._get()

    def regrow(self, columns: Int64, count: int) -> tuple[int, Int64, Int64]:
        self._put(columns[:0], columns)
        self._library.search_best_rows(self._plane, self._at, count)
        return self._library.search_alternate(self._plane, self._at, 8), *self._get()

    def grow(self, row: int) -> tuple[int, Int64, Int64]:
        return self._library.search_grow(self._plane, self._at, row), *self._get()

    def weight(self, rows: Int64, columns: Int64) -> int:
        self._put(rows, columns)
        return self._library.search_weight(self._plane, self._at)

    def add(self, rows: Int64, columns: Int64) -> None:
        self._put(rows, columns)
        self._library.search_add(self._plane, self._at)

    def remove(self, rows: Int64, columns: Int64) -> int:
        self._put(rows, columns)
        return self._library.search_remove(self._plane, self._at)

    def fit(self, rows: Int64, columns: Int64) -> Block:
        self._put(rows, columns)
        self._library.search_fit(self._plane, self._at)
        return self._get()
