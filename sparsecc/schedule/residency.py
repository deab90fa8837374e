"""Which tile of X lies in which slot of the scratchpad, and when it is loaded."""

from __future__ import annotations

import heapq

import numpy as np

from sparsecc.cover.metaops import Int64


def place_tiles(source: Int64, step: Int64, slots: int, ahead: int) -> tuple[Int64, Int64]:
    """Slots for a sequence of tile uses, by Belady's rule: evict the tile whose next use is farthest away.

    source: the tile of each use; step: the step of each use, ascending. The tiles of a step are loaded
    `ahead` steps before it, so the tiles of the `ahead` steps before it are in use and cannot give way.
    Returns the slot of each use, and whether the use needs a load (0 or 1). Needs slots >= the tiles of any
    ahead + 1 consecutive steps.
    """
    count = len(source)
    _, first, which = np.unique(source, return_index=True, return_inverse=True)
    distinct = len(first)
    if distinct <= slots:
        by_first_use = np.argsort(first, kind="stable")
        slot_of = np.empty(distinct, np.int64)
        slot_of[by_first_use] = np.arange(distinct)
        load = np.zeros(count, np.int64)
        load[first] = 1
        return slot_of[which], load
    if distinct == count:
        return np.arange(count) % slots, np.ones(count, np.int64)
    return _belady(which.astype(np.int64), step, distinct, slots, ahead)


def _belady(which: Int64, step: Int64, distinct: int, slots: int, ahead: int) -> tuple[Int64, Int64]:
    count = len(which)
    never = count
    next_use = np.full(count, never, np.int64)
    order = np.lexsort((np.arange(count), which))
    same = which[order[1:]] == which[order[:-1]]
    next_use[order[:-1][same]] = order[1:][same]
    uses, steps, following = which.tolist(), step.tolist(), next_use.tolist()
    slot_of = [-1] * distinct
    current_next = [never] * distinct
    free = list(range(slots - 1, -1, -1))
    # Tiles that may give way, the one whose next use is farthest first, then the one of lowest number; as one
    # integer each, which sorts faster than a pair. Entries of tiles that were used again are skipped.
    farthest: list[int] = []
    settled = 0  # uses before this one are of steps that are over
    slot = [0] * count
    load = [0] * count
    for i in range(count):
        tile = uses[i]
        if slot_of[tile] < 0:
            load[i] = 1
            if not free:
                over = steps[i] - ahead
                while steps[settled] < over:
                    if current_next[uses[settled]] == following[settled]:
                        heapq.heappush(farthest, (never - following[settled]) * distinct + uses[settled])
                    settled += 1
                while True:
                    sooner, victim = divmod(heapq.heappop(farthest), distinct)
                    if slot_of[victim] >= 0 and current_next[victim] == never - sooner:
                        break
                free.append(slot_of[victim])
                slot_of[victim] = -1
            slot_of[tile] = free.pop()
        slot[i] = slot_of[tile]
        current_next[tile] = following[i]
    return np.array(slot, np.int64), np.array(load, np.int64)
