"""The search for good orders of one pattern: which orders are tried, how long, and the best of them.

What a search finds is kept, so that strategies that need the same order share it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsecc.cover.exchange import exchange
from sparsecc.cover.laws import Pattern
from sparsecc.cover.orders import (
    by_clusters,
    by_degree,
    by_minhash,
    greedy_panels,
    jaccard_groups,
    natural,
    reverse_cuthill_mckee,
)
from sparsecc.cover.panels import (
    Order,
    Unit,
    merged_columns,
    panel_points,
    selected_rows,
    tile_cells,
    transposed,
)


@dataclass(frozen=True)
class Level:
    """How much one effort does."""

    reach: int
    """Rows that the greedy filler looks at together."""
    starts: int
    """Orders that local search improves, the best ones first."""
    softness: tuple[tuple[float, ...], ...]
    """Schedules of the local search (see exchange)."""
    work: int
    """Steps of each local search, and as many again for each WORK_NONZEROS nonzeros."""
    tile_rounds: int
    """Rounds of columns, then rows for tiles."""
    published: bool = False
    """Whether to begin from the orders of published systems, too."""
    shuffles: int = 0
    """Greedy orders with ties broken at random."""


WORK_NONZEROS = 1 << 17

SHORT, MIDDLE, LONG = (
    (0.3, 0.1, 0.0),
    (0.7, 0.4, 0.15, 0.0),
    (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0),
)
LEVELS = (
    Level(reach=1, starts=0, softness=(), work=0, tile_rounds=0),
    Level(reach=4096, starts=1, softness=(SHORT,), work=1 << 24, tile_rounds=1),
    Level(reach=8192, starts=1, softness=(SHORT, MIDDLE), work=1 << 26, tile_rounds=2),
    Level(
        reach=16384,
        starts=3,
        softness=(SHORT, MIDDLE, LONG),
        work=1 << 30,
        tile_rounds=4,
        published=True,
        shuffles=2,
    ),
)

# Distances at which 1-SA is tried as a beginning.
DISTANCES = (0.7, 0.9)


def best_rows(pattern: Pattern, height: int, level: Level, seed: int) -> Order:
    """The order of the rows with the fewest points in gathered panels of this height; empty rows left out.

    The first of equally good orders is taken, so the natural one where no other is better.
    """
    found = [natural(pattern)]
    if level.starts == 0 or len(found[0]) <= height:
        return found[0]
    found += [by_degree(pattern), reverse_cuthill_mckee(pattern)]
    found.append(greedy_panels(pattern, height, reach=level.reach, seed=seed))
    if len(found[0]) % height:
        found.append(greedy_panels(pattern, height, short_first=True, reach=level.reach, seed=seed))
    if level.published:
        found.append(by_minhash(pattern, seed))
        found.append(by_clusters(pattern, height, seed))
        found += [jaccard_groups(pattern, distance)[0] for distance in DISTANCES]
    found += [_shuffled_greedy(pattern, height, level, seed + i) for i in range(level.shuffles)]

    points = [panel_points(order, pattern, height) for order in found]
    ranked = np.argsort(points, kind="stable")
    work = level.work + level.work * pattern.nnz // WORK_NONZEROS
    for start in [int(i) for i in ranked[: level.starts]]:
        for softness in level.softness:
            found.append(exchange(found[start], pattern, height, softness, work))
            points.append(panel_points(found[-1], pattern, height))
    return found[int(np.argmin(points))]


def _shuffled_greedy(pattern: Pattern, height: int, level: Level, seed: int) -> Order:
    """The greedy order of the rows in a random order, which breaks ties in another way."""
    rows = np.random.default_rng(seed).permutation(natural(pattern))
    return rows[greedy_panels(selected_rows(pattern, rows), height, reach=level.reach, seed=seed)]


class Search:
    """Orders of a pattern for a unit at one effort, each found when it is first asked for."""

    def __init__(self, pattern: Pattern, unit: Unit, effort: int = 1, seed: int = 0) -> None:
        self.pattern = pattern
        self.unit = unit
        self.effort = effort
        self.seed = seed
        self.level = LEVELS[effort]
        self._rows: dict[int, Order] = {}
        self._tiles: tuple[Order, Order] | None = None

    def rows(self, height: int) -> Order:
        """The best order of the rows for gathered panels of this height."""
        if height not in self._rows:
            self._rows[height] = best_rows(self.pattern, height, self.level, self.seed)
        return self._rows[height]

    def tiles(self) -> tuple[Order, Order]:
        """The orders of rows and columns that leave the fewest unit cells with a nonzero.

        Columns are ordered by the unit rows they use, rows by the unit columns, in turn, beginning from the
        rows in the order that suits gathered panels and, with more effort, from the natural ones.
        """
        if self._tiles is None:
            self._tiles = self._find_tiles()
        return self._tiles

    def _find_tiles(self) -> tuple[Order, Order]:
        pattern, unit, by_column = self.pattern, self.unit, transposed(self.pattern)
        rows, columns = natural(pattern), natural(by_column)
        found = [(rows, columns)]
        # A longer local search for each of so many orders would cost more than it gains.
        level = LEVELS[min(self.effort, 1)]
        rounds = self.level.tile_rounds
        for panels in (True, False)[:rounds]:
            rows, columns = self.rows(unit[0]) if panels else found[0][0], found[0][1]
            found.append((rows, columns))
            for _ in range(rounds):
                columns = best_rows(merged_columns(by_column, unit[0], rows), unit[2], level, self.seed)
                found.append((rows, columns))
                rows = best_rows(merged_columns(pattern, unit[2], columns), unit[0], level, self.seed)
                found.append((rows, columns))
        cells = [tile_cells(r, c, pattern, unit) for r, c in found]
        return found[int(np.argmin(cells))]
