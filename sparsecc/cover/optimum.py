"""The fewest unit cells of any cover, by integer programming (HiGHS, through scipy): for small matrices.

Limits are on sizes and on nodes of the search, never on time, so that the answer does not depend on the
machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.cover.bound import Unit, cell_bounds
from sparsecc.cover.laws import Pattern

# Rows of a matrix whose windows are solved for, and nonzeros x windows.
ROWS, ASSIGNMENTS = 24, 1 << 10
# Cells that bicliques are chosen from.
CANDIDATES = 1 << 14
# Nodes of the search tree.
NODES = 500
# How far from whole a bound may be and still count as it.
INTEGRALITY = 1e-6


@dataclass(frozen=True)
class Optimum:
    """The fewest cells found, and a number that no cover has fewer of."""

    cells: int
    lower: int

    @property
    def proven(self) -> bool:
        return self.cells == self.lower


def fewest_windows(pattern: Pattern, unit: Unit) -> Optimum | None:
    """Over all partitions of the rows to windows of at most um, each gathering its columns.

    None where the matrix is too large, or no cover was found within the limits.

    Two windows that have no more than um rows together are never worse as one, as ceil(a) + ceil(b) >= ceil(a
    + b). So in some optimum any two have um + 1 or more, and there are 2 m / (um + 1) windows at most (or
    one).
    """
    um, _, uk = unit
    sizes = np.diff(pattern.indptr)
    live = np.flatnonzero(sizes)
    if not pattern.nnz:
        return Optimum(0, 0)
    m = len(live)
    windows = max(1, 2 * m // (um + 1))
    if m > ROWS or pattern.nnz * windows > ASSIGNMENTS:
        return None
    used, column = np.unique(pattern.indices, return_inverse=True)
    row = np.repeat(np.arange(m), sizes[live])
    k = len(used)
    # Variables: x[r, p] row r is in window p; y[c, p] window p uses column c; z[p] its cells.
    x, y, z = 0, m * windows, (m + k) * windows
    program = _Program(z + windows)
    program.cost[z:] = 1
    program.whole[:y] = program.whole[z:] = 1
    program.upper[:z] = 1
    program.upper[z:] = -(-k // uk)
    each = np.arange(windows)
    for r in range(m):
        program.add(x + r * windows + each, np.ones(windows), 1, 1)
        # Windows are numbered by their first row.
        program.upper[x + r * windows + each[each > r]] = 0
    for p in range(windows):
        program.add(x + np.arange(m) * windows + p, np.ones(m), 0, um)
        program.add(
            np.append(y + np.arange(k) * windows + p, z + p), np.append(np.ones(k), -uk), -math.inf, 0
        )
        for r, c in zip(row.tolist(), column.tolist(), strict=True):
            program.add(np.array([x + r * windows + p, y + c * windows + p]), np.array([1, -1]), -math.inf, 0)
    bound = cell_bounds(pattern, unit).windows
    program.add(z + each, np.ones(windows), bound, math.inf)
    return program.solve(bound)


def fewest_bicliques(pattern: Pattern, unit: Unit) -> Optimum | None:
    """Over all covers by cells of any um rows x any uk columns.

    None where there are too many such cells, or no cover was found within the limits.
    """
    if not pattern.nnz:
        return Optimum(0, 0)
    row = pattern.row_of()
    mask = np.zeros((pattern.m, pattern.k), bool)
    mask[row, pattern.indices] = True
    mask = mask[mask.any(axis=1)][:, mask.any(axis=0)]
    m, k = mask.shape
    um, uk = min(unit[0], m), min(unit[2], k)
    if math.comb(m, um) * math.comb(k, uk) > CANDIDATES:
        return None
    number = np.where(mask, np.cumsum(mask).reshape(mask.shape) - 1, -1)
    cells: set[tuple[int, ...]] = set()
    for rows in combinations(range(m), um):
        columns = np.flatnonzero(mask[list(rows)].any(axis=0)).tolist()
        for some in combinations(columns, min(uk, len(columns))):
            held = number[np.ix_(rows, some)]
            cells.add(tuple(np.sort(held[held >= 0]).tolist()))
    ordered = sorted(cells)
    program = _Program(len(ordered))
    program.cost[:] = program.whole[:] = program.upper[:] = 1
    members: list[list[int]] = [[] for _ in range(pattern.nnz)]
    for i, cell in enumerate(ordered):
        for point in cell:
            members[point].append(i)
    for holding in members:
        program.add(np.array(holding), np.ones(len(holding)), 1, math.inf)
    bound = cell_bounds(pattern, unit).any
    return program.solve(bound)


class _Program:
    """An integer program: cost to be least, variables from 0 to upper, rows of linear constraints."""

    def __init__(self, variables: int):
        self.cost = np.zeros(variables)
        self.whole = np.zeros(variables)
        self.upper = np.zeros(variables)
        self._columns: list[NDArray[np.integer]] = []
        self._factors: list[NDArray[Any]] = []
        self._limits: list[tuple[float, float]] = []

    def add(self, columns: NDArray[np.integer], factors: NDArray[Any], lowest: float, highest: float) -> None:
        """lowest <= sum of factor * variable <= highest."""
        self._columns.append(columns)
        self._factors.append(factors)
        self._limits.append((lowest, highest))

    def solve(self, bound: int) -> Optimum | None:
        """The least cost; bound: a lower one known before. None where no solution was found."""
        # scipy.optimize takes a quarter of a second to import.
        from scipy.optimize import (  # pyright: ignore[reportMissingTypeStubs]
            Bounds,
            LinearConstraint,
            milp,  # pyright: ignore[reportUnknownVariableType]
        )
        from scipy.sparse import csr_array  # pyright: ignore[reportMissingTypeStubs]

        ends = np.cumsum([0, *map(len, self._columns)])
        table: Any = csr_array(
            (np.concatenate(self._factors).astype(float), np.concatenate(self._columns), ends),
            shape=(len(self._limits), len(self.cost)),
        )
        lowest, highest = np.array(self._limits).T
        limits = Bounds(0, self.upper)  # pyright: ignore[reportArgumentType]
        found: Any = milp(
            self.cost,
            integrality=self.whole,
            bounds=limits,
            constraints=LinearConstraint(table, lowest, highest),
            options={"node_limit": NODES},
        )
        if found.x is None:
            return None
        # The bound of the search is missing where presolve alone found the solution.
        dual = found.fun if found.mip_dual_bound is None or found.status == 0 else found.mip_dual_bound
        return Optimum(round(found.fun), max(bound, math.ceil(dual - INTEGRALITY)))
