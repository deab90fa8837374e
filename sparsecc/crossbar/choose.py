"""Which cover, cut and packed how, costs least on a crossbar target: covers against each other and dense.

A candidate is a cover (groups of rows of W that gather the columns they use, for several heights, in the
natural and in searched orders), packed or not. Each is taken through the same steps as the passes take it,
and costed as they leave it. The best needs the least energy of those that take no more cycles than the dense
mapping and, of equals, the fewest arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sparsecc.cover.laws import Pattern
from sparsecc.cover.lists import gathered_panels
from sparsecc.cover.metaops import MetaOps
from sparsecc.cover.orders import natural
from sparsecc.cover.panels import Order
from sparsecc.cover.search import Search
from sparsecc.crossbar.adc import unclipped
from sparsecc.crossbar.assign import Shape, blocks_of, pack
from sparsecc.crossbar.cost import Cost, cost, fitted_bits, tile_cycles, tile_energy
from sparsecc.crossbar.encode import Encoding
from sparsecc.crossbar.place import placed
from sparsecc.crossbar.slices import flipped, sliced, without_empty
from sparsecc.crossbar.squeeze import Judge, squeezed
from sparsecc.crossbar.tiles import Tile
from sparsecc.target.crossbar import CrossbarTarget


def fitted(tiles: Sequence[Tile], target: CrossbarTarget) -> list[Tile]:
    """The tiles with the fewest ADC bits that cannot clip, cut where the target's are too few."""
    encoding = Encoding.of(target)
    parts = (part for t in tiles for part in unclipped(flipped(t, encoding), target))
    lines = (flipped(part, encoding) for part in parts)
    return [replace(t, adc_bits=fitted_bits(t, target)) for t in lines]


def exact(tiles: Sequence[Tile], target: CrossbarTarget) -> list[Tile]:
    """The tiles, those cut that may clip at the bits they are read with: the target's."""
    return [part for t in tiles for part in unclipped(t, target)]


def judge(target: CrossbarTarget) -> Judge:
    """Whether the second of two sets of tiles needs less energy than the first, ADC bits fitted."""

    def better(before: Sequence[Tile], after: Sequence[Tile]) -> bool:
        energies = [sum(tile_energy(t, target) for t in fitted(tiles, target)) for tiles in (before, after)]
        return energies[1] < energies[0]

    return better


def lowered(blocks: Sequence[Tile], target: CrossbarTarget, shape: Shape) -> list[Tile]:
    """Blocks as the passes leave them before they are placed."""
    encoding = Encoding.of(target)
    tiles = without_empty(sliced(blocks, encoding))
    tiles = squeezed(tiles, encoding, shape[0], judge(target)).tiles
    return fitted(tiles, target)


def dense_blocks(pattern: Pattern, data: NDArray[np.generic], n: int, shape: Shape) -> list[Tile]:
    """The whole grid of blocks, empty ones among them."""
    return blocks_of(MetaOps.whole(pattern.m, n, pattern.k), pattern, data, shape, keep_empty=True)


def dense_tiles(
    pattern: Pattern, data: NDArray[np.generic], n: int, target: CrossbarTarget, shape: Shape
) -> list[Tile]:
    """The dense mapping: the full grid, all slices, at the bits of the target's ADC, which must not clip."""
    return exact(sliced(dense_blocks(pattern, data, n, shape), Encoding.of(target)), target)


def dense_arrays(target: CrossbarTarget, space: tuple[int, int, int]) -> int:
    """Arrays of the dense mapping of an operator of (m, n, k)."""
    m, _, k = space
    return -(-m // target.array.cols) * -(-k // target.array.rows) * target.slices


def spread(
    tiles: Sequence[Tile],
    target: CrossbarTarget,
    shape: Shape,
    space: tuple[int, int, int],
    arrays: int | None = None,
) -> list[Tile]:
    """The tiles in their places, over so many arrays, or as many as the dense mapping of (m, n, k) takes."""
    least = min(arrays or dense_arrays(target, space), array_count(target, shape))
    return placed(tiles, shape, least, [tile_cycles(t, target, space[1]) for t in tiles])


def array_count(target: CrossbarTarget, shape: Shape) -> int:
    """Arrays of this shape that the chip's cells make."""
    return target.array.count * target.array.rows * target.array.cols // (shape[0] * shape[1])


@dataclass(frozen=True)
class Mapping:
    """Blocks of a cover, and what they cost when all passes have run."""

    shape: Shape
    packed: bool
    blocks: list[Tile]
    cost: Cost


def cheapest_blocks(
    metaops: MetaOps,
    pattern: Pattern,
    data: NDArray[np.generic],
    n: int,
    target: CrossbarTarget,
    packing: Sequence[bool] = (False, True),
    limits: Cost | None = None,
) -> Mapping:
    """The blocks of a cover in the array shape and packing that costs least. limits: of the dense mapping."""
    space = pattern.m, n, pattern.k
    found: list[Mapping] = []
    for shape in target.array.shapes:
        blocks = blocks_of(metaops, pattern, data, shape)
        for packed in packing:
            chosen = pack(blocks, shape, pattern.k, pattern.m) if packed else blocks
            tiles = spread(lowered(chosen, target, shape), target, shape, space)
            found.append(
                Mapping(shape, packed, chosen, cost(tiles, target, space, array_count(target, shape)))
            )
    return min(found, key=lambda mapping: rank(mapping.cost, limits))


def rank(found: Cost, limits: Cost | None) -> tuple[bool, float, float, int]:
    """The order of costs: none above the dense mapping's cycles, then least energy, cycles and arrays."""
    above = limits is not None and found.cycles > limits.cycles
    return above, found.energy_pj, found.cycles, found.arrays


def _by_length(pattern: Pattern) -> Order:
    """Rows with a nonzero, those with most first: groups of like rows need like converters."""
    length = np.diff(pattern.indptr)
    return np.argsort(-length, kind="stable")[: int((length > 0).sum())].astype(np.int32)


def covers(
    pattern: Pattern, n: int, target: CrossbarTarget, effort: int, seed: int
) -> Iterator[tuple[str, MetaOps]]:
    """Groups of rows of W, each with the columns it uses, by name; the same cover only once."""
    seen: set[MetaOps] = set()
    height = target.array.cols
    while height >= 1:
        orders = {f"groups-{height}": natural(pattern)}
        if height > 1:
            orders[f"sorted-{height}"] = _by_length(pattern)
        if effort > 0 and height > 1:
            search = Search(pattern, (height, 1, target.array.rows), effort, seed)
            orders[f"ordered-{height}"] = search.rows(height)
        for name, order in orders.items():
            cover = gathered_panels(pattern, n, target.unit, order, height)
            if cover not in seen:
                seen.add(cover)
                yield name, cover
        height //= 2


@dataclass(frozen=True)
class Candidate:
    """One way to cover the operator, and what it costs."""

    name: str
    metaops: MetaOps
    cost: Cost


@dataclass(frozen=True)
class Choice:
    """The best cover, against dense."""

    plan: str
    """"sparse" or "dense"."""
    metaops: MetaOps
    reason: str
    candidates: list[Candidate]
    """The best first, the dense mapping among them as "dense"."""


def dense_cost(pattern: Pattern, data: NDArray[np.generic], n: int, target: CrossbarTarget) -> Cost:
    """What the dense mapping costs."""
    shape, space = (target.array.rows, target.array.cols), (pattern.m, n, pattern.k)
    tiles = spread(dense_tiles(pattern, data, n, target, shape), target, shape, space)
    return cost(tiles, target, space, array_count(target, shape))


def choose(
    pattern: Pattern,
    data: NDArray[np.generic],
    n: int,
    target: CrossbarTarget,
    effort: int = 1,
    seed: int = 0,
) -> Choice:
    """The cover of least energy that takes no more cycles than the dense mapping."""
    limits = dense_cost(pattern, data, n, target)
    dense = Candidate("dense", MetaOps.whole(pattern.m, n, pattern.k), limits)
    found: list[Candidate] = []
    for name, metaops in covers(pattern, n, target, effort, seed):
        mapping = cheapest_blocks(metaops, pattern, data, n, target, limits=limits)
        found.append(Candidate(name, metaops, mapping.cost))
    candidates = sorted([*found, dense], key=lambda c: (rank(c.cost, limits), c.name))
    best = candidates[0]
    ratio = limits.energy_pj / max(best.cost.energy_pj, 1e-9)
    if best is dense:
        reason = "no cover takes less energy than the dense mapping within its cycles"
        return Choice("dense", dense.metaops, reason, candidates)
    reason = (
        f"{best.name}: {best.cost.arrays} arrays for {limits.arrays}, {ratio:.2f}x less energy than the "
        f"dense mapping and {limits.cycles / max(best.cost.cycles, 1e-9):.2f}x faster by the model"
    )
    return Choice("sparse", best.metaops, reason, candidates)
