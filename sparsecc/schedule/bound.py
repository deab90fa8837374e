"""Lower bounds on the cycles of an operator: no cover and no schedule for the target takes fewer.

The rules are those of the target's instructions: a tile of up to R rows of X is stationary and rows of W
stream through it, or fragments are multiplied; results of a row add up in the accumulators and are stored
once; rows of a cover have one order, unless the target adds to rows by index. Where weights may be
compressed, all are taken to be. What takes time but may overlap is not added up.
"""

from __future__ import annotations

from dataclasses import dataclass

from sparsecc.cover.bound import CellBounds, cell_bounds
from sparsecc.cover.laws import Pattern
from sparsecc.target import Target


@dataclass(frozen=True)
class CycleBound:
    """Cycles that each engine needs at least, and what overlaps with nothing."""

    cells: CellBounds
    compute: float
    load: float
    store: float
    before: int
    """Cycles before the first and after the last of compute and load."""
    after: int
    """Cycles after the last store."""

    @property
    def cycles(self) -> float:
        """No run takes fewer."""
        return max(0.0, max(self.compute, self.load) + self.before, self.store + self.after)

    @property
    def bound_by(self) -> str:
        """The engine that needs most."""
        if self.store + self.after >= max(self.compute, self.load) + self.before:
            return "store"
        return "compute" if self.compute >= self.load else "load"

    def gap(self, cycles: float) -> float:
        """How many times the bound this is; a cycle that nothing needs counts as one."""
        return max(cycles, 1.0) / max(self.cycles, 1.0)


def cycle_bound(pattern: Pattern, n: int, target: Target) -> CycleBound:
    """The bound of C[M, N] = W X with this pattern of W.

    - Load: each row of each cell is a row of R elements of W, fetched once or more; each row of X that meets
      a nonzero is fetched once or more. Requests and index lists may cost more.
    - Store: every element of C is stored, zeros too.
    - Nothing is computed before the first load is complete, nor stored before it is computed: with a nonzero,
      the latency of a load and of a store overlap with no computing and no other load.
    """
    array, dma = target.array, target.dma
    in_bytes = target.element_bytes(target.in_type)
    tile = (target.unit[0], target.unit[1], array.rows)
    cells = cell_bounds(pattern, tile)
    weights = cells.row_tiles * target.row_bytes * least_share(target)
    fetched = weights + cells.live_columns * n * in_bytes
    before = 2 * dma.latency if pattern.nnz else 0
    # SCALE-Sim reports the index of the last cycle.
    last = 1 if target.timing.count == "last_index" else 0
    return CycleBound(
        cells,
        compute=_compute(pattern, cells, n, target),
        load=fetched / dma.bytes_per_cycle,
        store=store_cycles(pattern.m, n, target),
        before=before - last,
        after=dma.latency - last,
    )


def least_share(target: Target) -> float:
    """Of the cells of a window, those that are left at least when its weights are compressed to N:M.

    As c columns in cells of R are ceil(c / R), and compressed to N:M at least ceil(c / R / ceil(M / N)).
    """
    return min((1 / -(-kept.group // kept.keep) for kept in target.kept_patterns), default=1.0)


def store_cycles(m: int, n: int, target: Target) -> float:
    """Cycles of the stores of m x n results, which no cover makes fewer."""
    return m * n * target.element_bytes(target.store_type) / target.dma.bytes_per_cycle


def _compute(pattern: Pattern, cells: CellBounds, n: int, target: Target) -> float:
    """Cycles of the array."""
    array = target.array
    passes = -(-n // array.cols)
    if array.kind == "mma":
        fragments = cells if array.mma_k == array.rows else cell_bounds(pattern, target.unit)
        return float(fragments.windows) * least_share(target) * array.interval * -(-n // array.mma_n)
    tiles = -(-cells.live_columns // array.rows)
    plain = _streamed(cells.windows_area, cells.row_tiles, tiles, target)
    if target.indexed is None:
        return plain * passes
    # Cells of any rows and columns: at most R rows each, so no tile is tall.
    by_index = _streamed(cells.any, cells.row_tiles, cells.any, target)
    return min(plain, by_index) * passes


def _streamed(area: float, row_tiles: int, tiles: int, target: Target) -> float:
    """Cycles of a systolic array for one column tile of X.

    A tile of h rows takes max(h, R) where the next one loads meanwhile, and R + h + drain where not; the
    latter is no less than max(h, R) + drain. R times the area is the sum of max(h, R), row_tiles that of h,
    both at least.
    """
    array = target.array
    if array.pe_double_buffer:
        return array.rows * area
    drain = array.rows + array.cols - 2 if array.fill_in_occupancy else 0
    return max(array.rows * area + drain * tiles, (array.rows + drain) * tiles + row_tiles)
