"""Covers for units that take N:M sparsity: windows order their columns so that they obey the pattern.

A unit that takes N of every M columns needs no matrix pruned to N:M. A window of few rows may take its
columns in any order, so they are put together in groups of M of which no row has more than N nonzeros;
columns that find no such company stay as they are. V:N:M (VENOM, SC 2023) is the case in which groups of M
columns do so by construction; that columns can be reordered to obey 2:4 was shown by Jigsaw (ICPP 2024). The
packing here is our own: bounded-space best fit, all windows at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsecc.cover.laws import Pattern
from sparsecc.cover.lists import Lists, metaops_of, panel_rows
from sparsecc.cover.metaops import Int32, Int64, MetaOps
from sparsecc.cover.panels import Order, Unit, count_panels, panel_columns, rank

# Rows of a window at most: one bit for each in a word.
MOST_ROWS = 64
# Groups of a window that take columns at the same time.
OPEN = 64

Words = NDArray[np.uint64]


def row_bits(pattern: Pattern, order: Order, height: int) -> tuple[Int64, Int64, Words]:
    """(panel, column, which rows of the panel use it, one bit each) of every column that a panel uses."""
    panel, column = panel_columns(order, pattern, height)
    place = rank(order, pattern.m)[pattern.row_of()].astype(np.int64)
    at = np.searchsorted(panel * pattern.k + column, place // height * pattern.k + pattern.indices)
    bits = np.zeros(len(panel), np.uint64)
    np.bitwise_or.at(bits, at, np.uint64(1) << (place % height).astype(np.uint64))
    return panel, column, bits


@dataclass(eq=False)
class _Open:
    """The open groups of all panels."""

    full: Words
    """[panels, OPEN, N]: which rows have at least 1, 2, ... N nonzeros in the group."""
    members: Int32
    """[panels, OPEN, M]: entries in the group, -1 where there is room."""
    size: Int64
    """[panels, OPEN]."""


def fit_columns(panel: Int64, bits: Words, panels: int, keep: int, group: int) -> NDArray[np.int32]:
    """Groups of M entries with at most N bits in every row, [groups, M]; -1 where an entry is missing.

    panel, bits: of each entry; those of a panel follow each other. Groups with as few entries as are kept
    anyway are not worth having and left out. In the order of panels.
    """
    count = np.bincount(panel, minlength=panels)
    first = np.cumsum(count) - count
    state = _Open(
        np.zeros((panels, OPEN, keep), np.uint64),
        np.full((panels, OPEN, group), -1, np.int32),
        np.zeros((panels, OPEN), np.int64),
    )
    closed: list[NDArray[np.int32]] = []
    for step in range(int(count.max(initial=0))):
        live = np.flatnonzero(count > step)
        _put(state, live, first[live] + step, bits, closed)
    closed.append(state.members[state.size > keep])
    groups = np.concatenate(closed)
    return groups[np.argsort(panel[groups.max(axis=1)], kind="stable")]


def _put(state: _Open, live: Int64, entry: Int64, bits: Words, closed: list[NDArray[np.int32]]) -> None:
    """Put one entry of each of these panels in the fullest of its open groups that takes it.

    Where none does, a group gives way: the largest, which is the hardest to fill up.
    """
    keep, group = state.full.shape[2], state.members.shape[2]
    mask = bits[entry]
    fits = (state.full[live, :, keep - 1] & mask[:, None]) == 0
    size = state.size[live]
    slot = np.where(fits, size, -1).argmax(axis=1)
    each = np.arange(len(live))
    if (none := ~fits[each, slot]).any():
        slot[none] = size[none].argmax(axis=1)
        _close(state, live[none], slot[none], closed, keep)
    at = state.size[live, slot]
    for n in range(keep - 1, 0, -1):
        state.full[live, slot, n] |= state.full[live, slot, n - 1] & mask
    state.full[live, slot, 0] |= mask
    state.members[live, slot, at] = entry
    state.size[live, slot] = at + 1
    done = at + 1 == group
    _close(state, live[done], slot[done], closed, keep)


def _close(state: _Open, panel: Int64, slot: Int64, closed: list[NDArray[np.int32]], keep: int) -> None:
    """Take groups out, which makes room for new ones."""
    worth = state.size[panel, slot] > keep
    closed.append(state.members[panel[worth], slot[worth]])
    state.full[panel, slot] = 0
    state.members[panel, slot] = -1
    state.size[panel, slot] = 0


def fitted_panels(
    pattern: Pattern, n: int, unit: Unit, order: Order, height: int, keep: int, group: int
) -> MetaOps:
    """Two meta-ops for each panel of the order: columns in groups that obey N:M, and all others that it uses.

    Groups that lack a column are filled up with one that the panel does not use; where there is none, they
    are dissolved. height: rows of a panel, at most MOST_ROWS.
    """
    assert height <= MOST_ROWS, f"windows of {height} rows, needed at most {MOST_ROWS}"
    panels = count_panels(order, height)
    panel, column, bits = row_bits(pattern, order, height)
    groups = fit_columns(panel, bits, panels, keep, group)
    owner = panel[groups.max(axis=1)] if len(groups) else np.zeros(0, np.int64)
    columns = np.where(groups >= 0, column[groups], -1)
    columns, dissolved = _filled_up(columns, owner, panel, column, panels, pattern.k)
    rest = np.ones(len(panel), bool)
    fitted = groups[~dissolved]
    rest[fitted[fitted >= 0]] = False
    columns, owner = columns[~dissolved], owner[~dissolved]
    lists = Lists.by_owner(
        np.concatenate((np.repeat(owner, group), panel[rest] + panels)),
        np.concatenate((columns.ravel(), column[rest])),
        2 * panels,
    )
    rows = panel_rows(order, height, unit)
    each = np.tile(np.arange(panels), 2)
    return metaops_of(pattern, n, unit, rows, lists, each, np.arange(2 * panels))


def _filled_up(
    columns: NDArray[np.int64], owner: Int64, panel: Int64, column: Int64, panels: int, k: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Columns without gaps (-1), and which groups cannot be filled."""
    idle = np.ones((panels, k), bool)
    idle[panel, column] = False
    missing = (columns < 0).sum(axis=1)
    # Groups are served in order, as long as their panel has unused columns.
    before = np.cumsum(missing) - missing
    of_panel = before - before[np.searchsorted(owner, owner)]
    dissolved = of_panel + missing > idle.sum(axis=1)[owner]
    number = np.cumsum(idle, axis=1) - 1
    spare = np.zeros((panels, k), np.int64)
    row, at = np.nonzero(idle)
    spare[row, number[row, at]] = at
    gap = columns < 0
    place = of_panel[:, None] + np.cumsum(gap, axis=1) - 1
    filled = columns.copy()
    which = gap & ~dissolved[:, None]
    filled[which] = spare[np.broadcast_to(owner[:, None], columns.shape)[which], place[which]]
    return filled, dissolved
