"""Biclique covers: meta-ops that own any rows and any columns, as dense as possible, so that cells are few.

Whoever computes such a meta-op gathers rows of X by index and accumulates rows of C by index; what that costs
is the target's to say. No order of rows and columns is shared by the meta-ops, which is why they get denser
than the tiles of any one re-ordered matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sparsecc.cover.biclique_search import EFFORTS, Block, Effort, Plane, greedy, improve, shortened
from sparsecc.cover.cells import Unit, count_cells
from sparsecc.cover.compact import live_columns, live_rows, window_compaction
from sparsecc.cover.laws import Pattern
from sparsecc.cover.metaops import Axis, Int32, MetaOps
from sparsecc.cover.row_blocks import partition

# Points of the boolean plane searched at once; some ten bytes each. Larger operators are cut by rows.
MAX_PLANE = 1 << 25


@dataclass(frozen=True)
class BicliqueCover:
    """A cover whose first meta-op that contains a point owns it: in later ones its weight counts as 0.

    Every meta-op owns a nonzero. `row_blocks` are disjoint and hold every row with a nonzero; meta-ops are in
    the order of their row blocks, and `row_block` is the one that each meta-op's rows are in. [meta-ops]
    """

    metaops: MetaOps
    row_blocks: tuple[Int32, ...]
    row_block: Int32


def _plane(pattern: Pattern, rows: Int32, columns: Int32) -> Plane:
    """Which points of these rows and columns are nonzero. [rows, columns]"""
    column_at = np.full(pattern.k, -1, np.int64)
    column_at[columns] = np.arange(len(columns))
    row_at = np.full(pattern.m, -1, np.int64)
    row_at[rows] = np.arange(len(rows))
    row, column = row_at[pattern.row_of()], column_at[pattern.indices]
    inside = (row >= 0) & (column >= 0)
    plane = np.zeros((len(rows), len(columns)), bool)
    plane[row[inside], column[inside]] = True
    return plane


def _joined(blocks: list[Block]) -> list[Block]:
    """Blocks with the same rows become one, a panel; the first of them gives the place."""
    columns: dict[bytes, list[NDArray[np.int64]]] = {}
    rows: dict[bytes, NDArray[np.int64]] = {}
    for block_rows, block_columns in blocks:
        ordered = np.sort(block_rows).astype(np.int64)
        key = ordered.tobytes()
        rows[key] = ordered
        columns.setdefault(key, []).append(block_columns)
    return [(rows[key], np.unique(np.concatenate(parts))) for key, parts in columns.items()]


def _owning(plane: Plane, blocks: list[Block]) -> list[Block]:
    """The blocks without rows and columns that own nothing; those that would own nothing are left out."""
    held = np.zeros(plane.shape, np.int32)
    for rows, columns in blocks:
        held[rows[:, None], columns] += 1
    needed: list[Block] = []
    # From the last on: later blocks were made for what the earlier ones left, and are the emptier ones.
    for rows, columns in reversed(blocks):
        at = (rows[:, None], columns)
        if (plane[at] & (held[at] == 1)).any():
            needed.append((rows, columns))
        else:
            held[at] -= 1
    free = plane.copy()
    kept: list[Block] = []
    for rows, columns in reversed(needed):
        own = free[rows[:, None], columns]
        free[rows[:, None], columns] = False
        kept.append((rows[own.any(axis=1)], columns[own.any(axis=0)]))
    return kept


def _windows(plane: Plane, height: int) -> list[Block]:
    """As window_compaction: windows of `height` rows in their order, each with the columns it uses."""
    rows = np.arange(len(plane))
    windows = (rows[i : i + height] for i in range(0, len(plane), height))
    return [(window, np.flatnonzero(plane[window].any(axis=0))) for window in windows]


def _count(blocks: list[Block], unit: Unit) -> int:
    return sum(-(-len(rows) // unit[0]) * -(-len(columns) // unit[2]) for rows, columns in blocks)


def _search(plane: Plane, unit: Unit, how: Effort, rng: np.random.Generator) -> list[Block]:
    """Blocks of the plane that hold all of its ones."""
    um, _, uk = unit
    blocks = shortened(plane, list(greedy(plane, um, uk, how, rng)), um, uk)
    blocks = _joined(improve(plane, blocks, um, uk, how.updates, rng))
    windows = _windows(plane, um)
    return _owning(plane, min(blocks, windows, key=lambda found: _count(found, unit)))


def _cut(rows: Int32, at_most: int, um: int) -> list[Int32]:
    """The rows in parts of at most so many, of whole units if that many allow it."""
    step = max(1, at_most // um * um or at_most)
    return [rows[i : i + step] for i in range(0, len(rows), step)]


def _check(pattern: Pattern, row_blocks: Sequence[Int32]) -> None:
    count = np.zeros(pattern.m, np.int64)
    for rows in row_blocks:
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < pattern.m:
            raise ValueError(f"row_blocks have a row outside 0..{pattern.m - 1}")
        np.add.at(count, rows, 1)
    if (twice := np.flatnonzero(count > 1)).size:
        raise ValueError(f"row_blocks hold row {int(twice[0])} twice")
    if (missing := np.flatnonzero((count == 0) & (np.diff(pattern.indptr) > 0))).size:
        raise ValueError(f"row_blocks lack row {int(missing[0])}, which has nonzeros")


def bicliques(
    pattern: Pattern,
    n: int,
    unit: Unit,
    *,
    effort: int = 1,
    row_blocks: Sequence[NDArray[np.integer]] | None = None,
    max_rows: int | None = None,
    seed: int = 0,
) -> BicliqueCover:
    """A cover of the pattern by meta-ops with listed rows and columns, with as few unit cells as are found.

    A meta-op has at most unit[0] rows; it may have more than unit[2] columns, each unit[2] of which count a
    cell. Unless row_blocks are given the cover never has more cells than window_compaction with unit[0] rows
    (or max_rows, if that is less).

    effort: 0 to 3; the time of each is some four times that of the one before.
    row_blocks: sets of rows that are accumulated together: no meta-op has rows of two. They must be disjoint
        and hold every row with a nonzero.
    max_rows: make such sets here, of at most this many similar rows each. One of the two can be given.
    seed: same pattern, unit, options and seed give the same cover.
    """
    if not 0 <= effort < len(EFFORTS):
        raise ValueError(f"effort {effort} is not one of 0 to {len(EFFORTS) - 1}")
    if row_blocks is not None and max_rows is not None:
        raise ValueError("give row_blocks or max_rows, not both")
    if max_rows is not None and max_rows < 1:
        raise ValueError(f"max_rows {max_rows} is not at least 1")
    columns = live_columns(pattern)
    if row_blocks is not None:
        blocks = [np.asarray(rows, np.int32) for rows in row_blocks]
        _check(pattern, blocks)
    else:
        blocks = _partition(pattern, columns, max_rows or max(pattern.m, 1), unit)
    cover = _cover(pattern, columns, n, unit, effort, blocks, np.random.default_rng(seed))
    if row_blocks is None and max_rows is not None:
        windows = window_compaction(pattern, n, unit, min(unit[0], max_rows))
        if count_cells(windows, unit) < count_cells(cover.metaops, unit):
            in_order = _cut(live_rows(pattern), max_rows, unit[0])
            return _cover(pattern, columns, n, unit, effort, in_order, np.random.default_rng(seed))
    return cover


def _partition(pattern: Pattern, columns: Int32, max_rows: int, unit: Unit) -> list[Int32]:
    """The rows with a nonzero in blocks of at most max_rows; similar ones together, where memory suffices."""
    rows = live_rows(pattern)
    in_order = _cut(rows, max_rows, unit[0])
    if len(in_order) <= 1 or len(rows) * len(columns) > MAX_PLANE:
        return in_order
    plane = _plane(pattern, rows, columns)
    return [rows[block] for block in partition(plane, len(in_order[0]), unit[0], unit[2])]


def _cover(
    pattern: Pattern,
    columns: Int32,
    n: int,
    unit: Unit,
    effort: int,
    row_blocks: Sequence[Int32],
    rng: np.random.Generator,
) -> BicliqueCover:
    """A cover inside the row blocks; columns are those with a nonzero."""
    found: list[tuple[Axis, range, Axis]] = []
    owner: list[int] = []
    how = EFFORTS[effort]
    live_count = len(live_rows(pattern))
    for number, rows in enumerate(row_blocks):
        for part in _cut(rows, MAX_PLANE // max(len(columns), 1), unit[0]):
            plane = _plane(pattern, part, columns)
            part, plane = part[live := plane.any(axis=1)], plane[live]
            if not live.any():
                continue
            share = replace(how, updates=how.updates * len(part) // live_count)
            for r, c in _search(plane, unit, share, rng):
                found.append((part[r], range(n), columns[c]))
                owner.append(number)
    return BicliqueCover(MetaOps.of(found), tuple(row_blocks), np.array(owner, np.int32))
