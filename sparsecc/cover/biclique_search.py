"""Search for few blocks, of at most um rows and uk columns each, that hold all ones of a boolean plane.

A block owns any rows and any columns: a biclique of the bipartite graph of the plane, if it is full. Finding
the fullest one is NP-hard, so blocks are grown by alternating maximisation: the best uk columns for these
rows, the best um rows for these columns, until the weight no longer rises (the large average submatrix
procedure of Shabalin, Weigman, Perou and Nobel, Annals of Applied Statistics 3, 2009). The fullest of many
such blocks is taken out of the plane, again and again; then the whole cover is improved block by block, with
weights that rise on ones which stay uncovered, as weighting local search for set covering does.

Sums of at most um or uk weights stay below 256, resp. 65536, and are kept in the narrowest integers: it is
what makes numpy fast here, and integers give the same result on every machine, and in C (see kernels).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsecc.cover import kernels

Plane = NDArray[np.bool_]
Weights = NDArray[np.unsignedinteger]
Index = NDArray[np.int64]
Block = tuple[Index, Index]

# A one in a row and column of average weight counts as BASE; see _weights.
BASE, HEAVIEST = 8, 15
# Rounds of alternating maximisation at most.
ROUNDS = 8
# Updates that a round of the improvement counts at least: it has work besides them.
LEAST_ROUND = 50


@dataclass(frozen=True)
class Effort:
    """How much to search.

    seeds: blocks that compete at any time. restarts: how many perturbations in a row must fail to improve a
    block before it is taken. updates: times that a block is fitted anew in the improvement of the whole, for
    2048 rows and columns together; up to twice as many for fewer, fewer for more, in the same time.
    """

    seeds: int
    restarts: int
    updates: int


EFFORTS = (Effort(32, 0, 0), Effort(64, 8, 8000), Effort(128, 16, 40000), Effort(128, 64, 200000))


def _weights(plane: Plane, side: int) -> Weights:
    """The weight of each one: the rarer its row and column are, the more it counts. [m, k]

    Ones of rows and columns with few others cost most to cover in the end, so blocks should take them along.
    """
    degrees = [np.add.reduce(plane, axis=axis, dtype=np.int64) for axis in (1, 0)]
    rows, columns = ((np.maximum(d, 1) / d[d > 0].mean()) ** -0.5 for d in degrees)
    weights = np.zeros(plane.shape, np.uint8 if side * HEAVIEST < 256 else np.uint16)
    at_row, at_column = plane.nonzero()
    scaled = np.rint(BASE * (rows[at_row] * columns[at_column]))
    weights[at_row, at_column] = np.clip(scaled, 1, HEAVIEST)
    return weights


def _heaviest(sums: Weights, count: int) -> tuple[Index, int]:
    """At most `count` places with the largest sums above zero, rising, and the total of these sums.

    Of equal sums the last places are taken: partial sorts of numpy choose differently by machine. For
    integers so narrow numpy's stable sort is a radix sort, and faster than its selection.
    """
    least = int(np.sort(sums, kind="stable")[-count]) if len(sums) > count else 1
    where: Index = (sums >= max(least, 1)).nonzero()[0]
    taken = sums[where]
    if surplus := max(0, len(where) - count):
        kept = np.ones(len(where), bool)
        kept[(taken == least).nonzero()[0][:surplus]] = False
        where, taken = where[kept], taken[kept]
    return where, sum(taken.tolist())


class Remainder:
    """The weights of the ones that no block holds yet, by rows and by columns, and moves of the search.

    A move ends at a block, and its weight. `_Fast` makes the same moves in C.
    """

    def __init__(self, weights: Weights, um: int, uk: int, heaviest: int) -> None:
        """heaviest: the most that any weight ever gets."""
        self.um, self.uk, self.heaviest = um, uk, heaviest
        self.m, self.k = weights.shape
        self.weights = weights.reshape(-1)
        self.held = np.zeros(weights.size, np.int32)
        """How many blocks hold each point."""
        self.by_row = weights.copy()
        self.by_column = np.ascontiguousarray(weights.T)
        self.flat_row, self.flat_column = self.by_row.reshape(-1), self.by_column.reshape(-1)
        self.dtype = weights.dtype

    def places(self, rows: Index, columns: Index) -> Index:
        """Of a block's points, row by row, the places in the flat plane."""
        return (rows[:, None] * self.k + columns).ravel()

    def _set(self, rows: Index, columns: Index, places: Index, values: Weights | int) -> None:
        """Writes the weights of a block's points, given row by row."""
        self.flat_row[places] = values
        self.flat_column[(columns * self.m + rows[:, None]).ravel()] = values

    def refresh(self) -> None:
        """Weights anew, after `weights` or `held` were changed."""
        np.copyto(self.flat_row, np.where(self.held == 0, self.weights, 0))
        np.copyto(self.by_column, self.by_row.T)

    def add(self, rows: Index, columns: Index) -> None:
        """A block more holds its points."""
        places = self.places(rows, columns)
        self.held[places] += 1
        self._set(rows, columns, places, 0)

    def remove(self, rows: Index, columns: Index) -> int:
        """A block less. Returns the weight that no other block holds."""
        places = self.places(rows, columns)
        held = self.held.take(places) - 1
        self.held[places] = held
        free = self.weights.take(places) * (held == 0)
        self._set(rows, columns, places, free)
        return int(np.add.reduce(free, dtype=np.int64))

    def weight(self, rows: Index, columns: Index) -> int:
        """Of what the block would hold."""
        return int(np.add.reduce(self.flat_row.take(self.places(rows, columns)), dtype=np.int64))

    def _best_columns(self, rows: Index) -> tuple[Index, int]:
        sums = np.add.reduce(self.by_row.take(rows, 0), axis=0, dtype=self.dtype)
        return _heaviest(sums, self.uk)

    def _best_rows(self, columns: Index, count: int) -> tuple[Index, int]:
        sums = np.add.reduce(self.by_column.take(columns, 0), axis=0, dtype=self.dtype)
        return _heaviest(sums, count)

    def alternate(self, rows: Index, rounds: int) -> tuple[int, Index, Index]:
        """What alternating maximisation from these rows ends at."""
        best, columns = -1, rows
        for _ in range(rounds):
            columns, weight = self._best_columns(rows)
            if weight <= best:
                break
            rows, best = self._best_rows(columns, self.um)
        return best, rows, columns

    def regrow(self, columns: Index, count: int) -> tuple[int, Index, Index]:
        """From the `count` rows that are best for these columns."""
        return self.alternate(self._best_rows(columns, count)[0], ROUNDS)

    def grow(self, row: int) -> tuple[int, Index, Index]:
        """From one row: from its few nearest rows to um, columns chosen anew each time."""
        own: Index = self.by_row[row].nonzero()[0][: 65535 // self.heaviest]
        if not len(own):
            return 0, own, own
        # The row may have more ones than uk, so that these sums need more bits.
        sums = np.add.reduce(self.by_column.take(own, 0), axis=0, dtype=np.uint16)
        rows, _ = _heaviest(sums, max(1, self.um // 8))
        for count in (self.um // 4, self.um // 2, self.um):
            rows, _ = self._best_rows(self._best_columns(rows)[0], max(1, count))
        return self.alternate(rows, ROUNDS)

    def fit(self, rows: Index, columns: Index) -> Block:
        """Puts one of the blocks where it holds most of what the others leave."""
        if self.remove(rows, columns):
            _, rows, columns = self.alternate(rows, 2)
        else:
            weight, *grown = self.grow(self.heaviest_row())
            rows, columns = grown if weight else (rows, columns)
        self.add(rows, columns)
        return rows, columns

    def heaviest_row(self) -> int:
        """The row with most weight left."""
        return int(np.add.reduce(self.by_row, axis=1, dtype=np.uint32).argmax())

    def perturb(self, weight: int, block: Block, tries: int, rng: np.random.Generator) -> Block:
        """Regrows the block until `tries` times in a row it became no heavier.

        Each time from the half of um rows that are best for some of its columns, drawn at random.
        """
        rows, columns = block
        failed = 0
        while failed < tries:
            some = columns[rng.random(len(columns)) < 0.6]
            found, new_rows, new_columns = self.regrow(some, max(1, self.um // 2))
            failed = 0 if found > weight else failed + 1
            if found >= weight:
                weight, rows, columns = found, new_rows, new_columns
        return rows, columns


class _Fast(Remainder):
    """The same with moves in C; weights are bytes."""

    def __init__(self, weights: Weights, um: int, uk: int, heaviest: int) -> None:
        super().__init__(weights.astype(np.uint8), um, uk, heaviest)
        moves = kernels.PlaneMoves(um, uk, heaviest, self.weights, self.held, self.by_row, self.by_column)
        self.add, self.remove, self.fit = moves.add, moves.remove, moves.fit
        self.weight, self.grow, self.regrow = moves.weight, moves.grow, moves.regrow
        self.alternate = moves.alternate


def _remainder(weights: Weights, um: int, uk: int, heaviest: int) -> Remainder:
    kind = _Fast if kernels.library() is not None else Remainder
    return kind(weights, um, uk, heaviest)


def greedy(plane: Plane, um: int, uk: int, effort: Effort, rng: np.random.Generator) -> Iterator[Block]:
    """Blocks that hold ever less, until every one is held.

    Of `effort.seeds` blocks that overlap as they like, the heaviest is taken. Taking it makes some of the
    others lighter; these are improved only when they come first (lazy evaluation).
    """
    rest = _remainder(_weights(plane, max(um, uk)), um, uk, HEAVIEST)
    queue: list[tuple[int, int, int, Block]] = []
    number = 0

    def push(row: int, found: tuple[int, Index, Index]) -> None:
        nonlocal number
        if found[0] > 0:
            heapq.heappush(queue, (-found[0], number, row, found[1:]))
            number += 1

    fullest = np.argsort(-plane.sum(axis=1), kind="stable")
    for row in fullest[: effort.seeds].tolist():
        push(row, rest.grow(row))
    while queue:
        expected, _, row, block = heapq.heappop(queue)
        weight = rest.weight(*block)
        if weight < -expected:
            push(row, rest.alternate(block[0], ROUNDS) if weight else rest.grow(row))
            continue
        rows, columns = rest.perturb(weight, block, effort.restarts, rng)
        rest.add(rows, columns)
        yield rows, columns
        if not rest.by_row[row].any():
            row = rest.heaviest_row()
        push(row, rest.grow(row))


def panels(plane: Plane, um: int, uk: int) -> list[Block]:
    """Groups of um rows, each with all columns it uses, cut to uk columns; the row that adds least joins."""
    degree: Index = np.add.reduce(plane, axis=1, dtype=np.int64)
    live = np.flatnonzero(degree)
    plane, degree = plane[live], degree[live]
    by_column = np.ascontiguousarray(plane.T)
    blocks: list[Block] = []
    taken = np.zeros(len(live), bool)
    far = plane.shape[1] + 1
    while not taken.all():
        used = np.zeros(plane.shape[1], bool)
        added = np.where(taken, far, degree)
        chosen = [int(np.where(taken, -1, degree).argmax())]
        while True:
            row = chosen[-1]
            taken[row], added[row] = True, far
            new = (plane[row] & ~used).nonzero()[0]
            used[new] = True
            if len(new):
                added -= np.where(taken, 0, np.add.reduce(by_column[new], axis=0, dtype=np.int64))
            # Of the rows that add the fewest columns, the fullest.
            row = int((added * far - degree).argmin())
            if len(chosen) == um or taken[row]:
                break
            chosen.append(row)
        columns = used.nonzero()[0]
        rows = live[np.sort(chosen)]
        blocks += [(rows, columns[i : i + uk]) for i in range(0, len(columns), uk)]
    return blocks


def shortened(plane: Plane, blocks: list[Block], um: int, uk: int) -> list[Block]:
    """The blocks, or the first of them and panels for what these leave, whichever are fewer."""
    best = blocks
    left = plane.copy()
    done = 0
    for count in sorted({int(len(blocks) * part) for part in (0.8, 0.85, 0.9, 0.95)}):
        for rows, columns in blocks[done:count]:
            left[rows[:, None], columns] = False
        done = count
        tail = panels(left, um, uk)
        if count + len(tail) < len(best):
            best = blocks[:count] + tail
    return best


class _Cover:
    """A set of blocks that is changed block by block."""

    def __init__(self, plane: Plane, blocks: list[Block], um: int, uk: int) -> None:
        side = max(um, uk)
        weights = _weights(plane, side)
        self.cap = min(255, np.iinfo(weights.dtype).max // side)
        self.blocks = list(blocks)
        self.rest = _remainder(weights, um, uk, self.cap)
        for block in blocks:
            self.rest.add(*block)

    def raise_weights(self) -> None:
        """Ones that no block holds count one more from now on, but no more than sums have room for."""
        weights = self.rest.weights
        weights[(self.rest.flat_row > 0) & (weights < self.cap)] += 1
        self.rest.refresh()

    def drop_lightest(self, count: int) -> None:
        alone = [
            int((self.rest.weights.take(places) * (self.rest.held.take(places) == 1)).sum(dtype=np.int64))
            for places in (self.rest.places(*block) for block in self.blocks)
        ]
        for i in sorted(np.argsort(alone, kind="stable")[:count].tolist(), reverse=True):
            self.rest.remove(*self.blocks.pop(i))

    def fit(self, order: list[int]) -> None:
        """Puts each block where it holds most of what the others leave, in this order."""
        for i in order:
            self.blocks[i] = self.rest.fit(*self.blocks[i])


def improve(
    plane: Plane, blocks: list[Block], um: int, uk: int, updates: int, rng: np.random.Generator
) -> list[Block]:
    """Fewer blocks with the same ones, if `updates` fits of single blocks find them.

    Blocks are dropped until some ones are left over; panels for these complete the cover. In each round every
    block is fitted to what the others leave; ones that stay over get heavier until some block takes them.
    """
    best = blocks
    least = max(-(-int(np.count_nonzero(plane.any(axis=1))) // um), -(-int(plane.any(axis=0).sum()) // uk))
    least = max(least, -(-int(np.count_nonzero(plane)) // (um * uk)))
    cover = _Cover(plane, blocks, um, uk)
    updates = updates * 2048 // max(1024, sum(plane.shape))
    while updates > 0 and cover.blocks and len(best) > least:
        left = int(np.count_nonzero(cover.rest.flat_row))
        # More than 8 for each block would not fit into fewer panels than there are blocks to gain.
        if left <= 8 * len(best):
            tail = panels(cover.rest.by_row > 0, um, uk)
            if len(cover.blocks) + len(tail) < len(best):
                best = cover.blocks + tail
        if 50 * left <= len(cover.blocks) * um:
            cover.drop_lightest(max(1, len(cover.blocks) // 100))
        else:
            cover.raise_weights()
        cover.fit(rng.permutation(len(cover.blocks)).tolist())
        updates -= max(len(cover.blocks), LEAST_ROUND)
    return best
