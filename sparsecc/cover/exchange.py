"""Local search: two rows of different panels change places while the panels together get narrower.

The cost of panels is the sum, over panels and columns, of rows * f(count), where count says how many rows of
the panel use the column. For the columns that a panel gathers, f is 0 for 0 and 1 for any other count: then a
row counts only where it is the last of its panel to use a column, and the search soon finds nothing to do. So
it begins with a softer f, which rewards columns used by few rows for becoming fewer still, and ends with the
true one (graduated non-convexity, Blake and Zisserman 1987). All numbers are whole, so that the result
depends on no rounding.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.cover import kernels
from sparsecc.cover.laws import Pattern
from sparsecc.cover.metaops import Int64
from sparsecc.cover.panels import Order, count_panels, panel_points, selected_rows, transposed

Floats = NDArray[np.float32]

# f(1), and so the resolution of f. Sums over a row are exact in a float up to 2^24 / SCALE nonzeros.
SCALE = 16
# Rows of a panel that are looked at for each other panel, and pairs of panels in a round for each panel.
ROWS_TRIED, PAIRS_TRIED = 3, 4
# Larger than any cost: no row.
NONE = 1 << 40
# Beyond this the rows are kept sparse.
DENSE = 1 << 24
# Entries of panels x columns and of rows x panels that a search may hold.
TABLE = 1 << 24


def prices(height: int, softness: float) -> Floats:
    """f(0), ..., f(height): what a column costs that so many rows of a panel use.

    Each further row costs `softness` times the one before; 0 is the true cost.
    """
    steps = SCALE * softness ** np.arange(height)
    return np.concatenate(([0], np.round(np.cumsum(steps)))).astype(np.float32)


def round_work(pattern: Pattern, rows: int, height: int) -> int:
    """Elementary steps of one round, about: what a budget is counted in."""
    panels = -(-rows // height)
    return panels * (rows + pattern.k) + pattern.nnz


def exchange(order: Order, pattern: Pattern, height: int, softness: tuple[float, ...], budget: int) -> Order:
    """The order after exchanges between panels of `height` rows, with each softness in turn.

    budget bounds the work (see round_work) of all stages together. The result is never worse than the order.
    """
    panels = count_panels(order, height)
    if panels < 2 or panels * (len(order) + pattern.k) > TABLE:
        return order
    rounds = budget // round_work(pattern, len(order), height) // max(len(softness), 1)
    state = _Panels(order, pattern, height)
    for part in softness:
        state.improve(prices(height, part), rounds)
    found = state.order()
    better = panel_points(found, pattern, height) < panel_points(order, pattern, height)
    return found if better else order


class _Panels:
    """Panels of rows under exchange. Rows are known by their place in the order at the beginning."""

    def __init__(self, order: Order, pattern: Pattern, height: int) -> None:
        self.start = order
        self.pattern = selected_rows(pattern, order)
        rows, columns = self.pattern.m, self.pattern.k
        panels = count_panels(order, height)
        self.panels, self.height, self.tried = panels, height, min(ROWS_TRIED, height)
        self.panel = np.arange(rows) // height
        self.heights = np.bincount(self.panel)
        slot = np.full(panels * height, -1)
        slot[:rows] = np.arange(rows)
        self.slot: Int64 = slot.reshape(panels, height)
        """Row in each place of each panel, -1 in places that the last panel lacks, [panels, height]."""
        key = self.panel[self.pattern.row_of()] * columns + self.pattern.indices
        self.count = np.bincount(key, minlength=panels * columns).astype(np.int32).reshape(panels, columns)
        """Rows of the panel that use the column."""

    @cached_property
    def by_column(self) -> Pattern:
        """The rows that use each column."""
        return transposed(self.pattern)

    @cached_property
    def sparse(self) -> Any:
        """The rows as a matrix of ones."""
        from scipy.sparse import csr_array  # pyright: ignore[reportMissingTypeStubs]

        p = self.pattern
        return csr_array((np.ones(p.nnz, np.float32), p.indices, p.indptr), shape=(p.m, p.k))

    @cached_property
    def rows(self) -> Any:
        """What multiplies the prices of the panels; dense is faster for all but very sparse rows."""
        plane = self.pattern.m * self.pattern.k
        is_dense = plane <= DENSE and 64 * self.pattern.nnz > plane
        return self.sparse.toarray() if is_dense else self.sparse

    def order(self) -> Order:
        """The rows panel by panel, those of each panel rising."""
        parts = [np.sort(self.start[row[row >= 0]]) for row in self.slot]
        return np.concatenate(parts).astype(np.int32)

    def improve(self, price: Floats, rounds: int) -> None:
        """Rounds of exchanges that lower the cost by these prices, until none does."""
        steps = np.diff(price)
        more = np.append(steps, 0)  # what one row more costs, by count; a full panel takes none
        less = np.concatenate(([0], steps))  # what one row less saves
        if kernels.library() is None:
            self._improve(more, less, rounds)
            return
        whole = more.astype(np.int64), less.astype(np.int64)
        state = self.panel, self.slot, self.count
        pairs = PAIRS_TRIED * self.panels
        kernels.exchange(self.pattern, self.by_column, state, self.heights, whole, self.tried, pairs, rounds)

    def _improve(self, more: Floats, less: Floats, rounds: int) -> None:
        panels = self.panels
        enter = np.zeros((len(self.start), panels), np.int64)
        """What each row costs in each panel."""
        leave = np.zeros(len(self.start), np.int64)
        """What each row saves where it leaves."""
        cost = np.zeros((panels, self.tried, panels), np.int64)
        place = np.zeros(cost.shape, np.int64)
        everything = changed = np.arange(panels)
        for _ in range(rounds):
            enter[:, changed] = self.rows @ more[self.count[changed]].T
            enter[:, changed] *= self.heights[changed]
            members = self.slot[changed]
            members = members[members >= 0]
            held = selected_rows(self.pattern, members)
            owner = held.row_of()
            saved = np.bincount(owner, less[self.count[self.panel[members[owner]], held.indices]], held.m)
            leave[members] = saved * self.heights[self.panel[members]]
            for left, right in ((changed, everything), (everything, changed)):
                at = np.ix_(left, np.arange(self.tried), right)
                cost[at], place[at] = self._least(enter, leave, left, right)
            changed = self._exchange(cost, place, less - more)
            if not len(changed):
                return

    def _least(self, enter: Int64, leave: Int64, left: Int64, right: Int64) -> tuple[Int64, Int64]:
        """For panels left x right, the rows of the left one that cost least if they go to the right one.

        Returns what the cost rises, but for a partner that comes back, and the place of the row.
        """
        rows = self.slot[left]
        move = enter[rows[:, :, None], right] - leave[rows][:, :, None]
        # Cost and place in one number: equal costs are told apart by place.
        key = move * self.height + np.arange(self.height)[:, None]
        key[rows < 0] = NONE * self.height
        first = np.partition(key, self.tried - 1, axis=1)[:, : self.tried]
        return np.divmod(np.sort(first, axis=1), self.height)

    def _exchange(self, cost: Int64, place: Int64, shared: NDArray[np.floating]) -> Int64:
        """Exchange between disjoint pairs of panels, the best pairs first; the panels that changed.

        cost, place: of the best rows of each panel for each other one, [panels, tried, panels] (see _least);
        shared: by count, what is due on top for each column that both rows of an exchange use.
        """
        panels, tried = self.panels, self.tried
        # The least that any exchange between two panels can cost; columns in common only add to it.
        least = cost.min(axis=1)
        left, right = np.triu_indices(panels, 1)
        bound = (least + least.T)[left, right]
        pair = np.flatnonzero(bound < 0)
        pair = pair[np.argsort(bound[pair], kind="stable")[: PAIRS_TRIED * panels]]
        left, right = left[pair], right[pair]

        shape = (len(pair), tried, tried)
        rise = cost[left, :, right][:, :, None] + cost[right, :, left][:, None, :]
        gone = np.broadcast_to(place[left, :, right][:, :, None], shape)
        come = np.broadcast_to(place[right, :, left][:, None, :], shape)
        row = self.slot[left[:, None, None], gone]
        other = self.slot[right[:, None, None], come]
        real = (rise < 0) & (row >= 0) & (other >= 0)
        which = np.nonzero(real)[0]
        both: Any = self.sparse[row[real]].multiply(self.sparse[other[real]]).tocsr()
        at = np.repeat(np.arange(len(which)), np.diff(both.indptr))
        due = np.zeros(len(at), np.float64)
        for side in (left[which[at]], right[which[at]]):
            due += shared[self.count[side, both.indices]] * self.heights[side]
        rise = np.where(real, rise, NONE)
        rise[real] += np.bincount(at, due, len(which)).astype(np.int64)

        flat = rise.reshape(len(pair), tried * tried)
        best = flat.argmin(axis=1) if len(pair) else np.zeros(0, np.int64)
        value = flat[np.arange(len(pair)), best]
        busy = np.zeros(panels, bool)
        for i in np.argsort(value, kind="stable").tolist():
            a, b = int(left[i]), int(right[i])
            if value[i] >= 0:
                break
            if not (busy[a] or busy[b]):
                busy[a] = busy[b] = True
                mine, its = divmod(int(best[i]), tried)
                self._swap(a, int(place[a, mine, b]), b, int(place[b, its, a]))
        return np.flatnonzero(busy)

    def _swap(self, a: int, at: int, b: int, there: int) -> None:
        """The rows in these places of two panels change places."""
        row, other = int(self.slot[a, at]), int(self.slot[b, there])
        self.slot[a, at], self.slot[b, there] = other, row
        self.panel[row], self.panel[other] = b, a
        for moved, source, target in ((row, a, b), (other, b, a)):
            columns = self.pattern.indices[self.pattern.indptr[moved] : self.pattern.indptr[moved + 1]]
            self.count[source, columns] -= 1
            self.count[target, columns] += 1
