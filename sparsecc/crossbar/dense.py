"""The dense mapping of an operator, and places for tiles in no more arrays than it takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sparsecc.cover.laws import Pattern
from sparsecc.cover.metaops import MetaOps
from sparsecc.crossbar.assign import Shape, blocks_of
from sparsecc.crossbar.bundle import bundles
from sparsecc.crossbar.cost import bundle_cycles, cost
from sparsecc.crossbar.encode import Encoding
from sparsecc.crossbar.lowering import bundled, exact, judge, narrow
from sparsecc.crossbar.mix import mixed
from sparsecc.crossbar.place import placed
from sparsecc.crossbar.pool import Pool
from sparsecc.crossbar.slices import sliced
from sparsecc.crossbar.tiles import Tile
from sparsecc.target.crossbar import CrossbarTarget


def dense_shape(target: CrossbarTarget, space: tuple[int, int, int]) -> Shape:
    """Inputs and outputs of a block of the dense mapping of (m, n, k).

    An array holds one slice of as many outputs as it has bit lines, or all slices of fewer: what takes less
    energy to drive lines, read inputs and write sums. All else is the same.
    """
    (m, _, k), e = space, target.energy
    shape = target.array.rows, target.array.cols
    line = target.steps() * e.dac_pj + e.spad_pj_per_byte

    def energy(blocks: Shape) -> float:
        times = target.slices if blocks == shape else 1
        panels, chunks = -(-m // blocks[1]), -(-k // blocks[0])
        return times * (panels * k * line + m * chunks * 4 * e.acc_pj_per_byte)

    return min(shape, narrow(target, shape), key=energy)


def dense_blocks(pattern: Pattern, data: NDArray[np.generic], n: int, target: CrossbarTarget) -> list[Tile]:
    """The whole grid of blocks, empty ones among them."""
    shape = dense_shape(target, (pattern.m, n, pattern.k))
    return blocks_of(MetaOps.whole(pattern.m, n, pattern.k), pattern, data, shape, keep_empty=True)


def dense_tiles(
    pattern: Pattern, data: NDArray[np.generic], n: int, target: CrossbarTarget, shape: Shape
) -> list[Tile]:
    """The dense mapping: the full grid, all slices, at the bits of the target's ADC, which must not clip."""
    tiles = sliced(dense_blocks(pattern, data, n, target), Encoding.of(target))
    return exact(bundled(tiles, target, shape, judge(target, False)), target)


def dense_arrays(target: CrossbarTarget, space: tuple[int, int, int]) -> int:
    """Arrays of the dense mapping of an operator of (m, n, k)."""
    m, _, k = space
    rows, outputs = dense_shape(target, space)
    side_by_side = not target.array.ou_cols and min(m, outputs) * target.slices <= target.array.cols
    return -(-m // outputs) * -(-k // rows) * (1 if side_by_side else target.slices)


def spread(
    tiles: Sequence[Tile],
    target: CrossbarTarget,
    shape: Shape,
    space: tuple[int, int, int],
    arrays: int | None = None,
) -> list[Tile]:
    """The tiles in their places, over so many arrays, or the cells of the dense mapping of (m, n, k)."""
    least = arrays or arrays_of_dense(target, shape, space)
    least = min(least, array_count(target, shape))
    return placed(tiles, shape, least, [bundle_cycles(b, target, space[1]) for b in bundles(tiles)])


def arranged(
    tiles: Sequence[Tile],
    target: CrossbarTarget,
    shape: Shape,
    space: tuple[int, int, int],
) -> tuple[list[Tile], Pool]:
    """The tiles in their places, and the arrays they lie in.

    As `spread` places them, or, where the target's arrays take several shapes, in arrays of these that the
    shape holds, if that takes no more cycles, energy and cells, and less of one of them.
    """
    alike = spread(tiles, target, shape, space)
    pool = Pool(((array_count(target, shape), shape),))
    smaller = [s for s in target.array.shapes if s[0] <= shape[0] and s[1] <= shape[1]]
    if len(smaller) < 2 or not tiles:
        return alike, pool
    usual = cost(alike, target, space, pool.count)
    held = shape[0] * shape[1]
    limit = dense_arrays(target, space) * target.array.rows * target.array.cols
    limit = min(max(limit, usual.arrays * held), pool.cells)
    found = mixed(alike, smaller, limit, [bundle_cycles(b, target, space[1]) for b in bundles(tiles)])
    if found is None:
        return alike, pool
    mine = cost(found[0], target, space, found[1].count)
    figures = [
        (c.cycles, c.energy_pj, cells) for c, cells in ((mine, found[1].cells), (usual, usual.arrays * held))
    ]
    no_more = all(a <= b for a, b in zip(*figures, strict=True))
    return found if no_more and figures[0] != figures[1] else (alike, pool)


def arrays_of_dense(target: CrossbarTarget, shape: Shape, space: tuple[int, int, int]) -> int:
    """Arrays of this shape from the cells of those of the dense mapping."""
    cells = dense_arrays(target, space) * target.array.rows * target.array.cols
    return cells // (shape[0] * shape[1])


def array_count(target: CrossbarTarget, shape: Shape) -> int:
    """Arrays of this shape that the chip's cells make."""
    return target.array.count * target.array.rows * target.array.cols // (shape[0] * shape[1])
