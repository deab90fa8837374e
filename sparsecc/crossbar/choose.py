"""Which cover, cut and packed how, costs least on a crossbar target: covers against each other and dense.

A candidate is a cover (groups of rows of W that gather the columns they use, for several heights, in the
natural and in searched orders), packed or not. By an estimate of each, those that should take least are taken
through the same steps as the passes take them, and costed as they leave them. The best needs the least energy
of those that take no more cycles than the dense mapping and, of equals, the fewest arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsecc.cover.laws import Pattern
from sparsecc.cover.lists import gathered_panels
from sparsecc.cover.metaops import MetaOps
from sparsecc.cover.orders import natural
from sparsecc.cover.panels import Order
from sparsecc.cover.search import Search
from sparsecc.crossbar.assign import Shape, blocks_of, pack
from sparsecc.crossbar.cost import Cost, cost
from sparsecc.crossbar.dense import arranged, array_count, arrays_of_dense, dense_tiles, spread
from sparsecc.crossbar.estimate import block_energies
from sparsecc.crossbar.lowering import lowered, narrow
from sparsecc.crossbar.tiles import Tile
from sparsecc.target.crossbar import CrossbarTarget

# On pruned layers estimates were right against each other to 3 %, with operation units to 10 %: what is
# estimated further above the best is not put through the passes.
MARGIN, MARGIN_OF_UNITS = 1.05, 1.12
# Packed, covers took 0.9 to 1.1 of what they took before.
WORTH_PACKING = 1.25


@dataclass(frozen=True)
class Mapping:
    """Blocks of a cover, and what they cost when all passes have run."""

    shape: Shape
    """Of the arrays, or around them where they have several."""
    packed: bool
    blocks: list[Tile]
    cost: Cost


@dataclass(frozen=True)
class _Way:
    """Blocks of a cover, cut for arrays of a shape, and about what they take."""

    cover: int
    shape: Shape
    packed: bool
    blocks: list[Tile]
    reads: float
    """Cycles of the reads alone."""
    energies: NDArray[np.float64]
    """About the picojoules of each block for a vector."""

    @property
    def energy(self) -> float:
        return float(self.energies.sum())


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
    ways = _ways([metaops], pattern, data, n, target, packing)
    return _cheapest(ways, target, (pattern.m, n, pattern.k), limits)[0]


def _ways(
    every: Sequence[MetaOps],
    pattern: Pattern,
    data: NDArray[np.generic],
    n: int,
    target: CrossbarTarget,
    packing: Sequence[bool] = (False, True),
) -> list[_Way]:
    """The meta-ops of covers cut for each shape of arrays, packed or not, and each to its best shape.

    Packing saves a part of what reads take: what is far above the best without it is not packed.
    """

    def way(cover: int, shape: Shape, packed: bool, blocks: list[Tile]) -> _Way:
        reads = _reading_cycles(blocks, target, shape, (pattern.m, n, pattern.k))
        energies = block_energies(blocks, target)
        if len(blocks) > array_count(target, shape):  # cells are written anew for every n vectors
            each = (2 if target.differential else 1) * target.program.pulses * target.energy.write_pj
            cells = target.slices * np.array([block.levels.size for block in blocks], np.float64)
            energies = energies + cells * (each + target.energy.dram_pj_per_byte) / n
        return _Way(cover, shape, packed, blocks, reads, energies)

    cut: list[_Way] = []
    mixed: list[_Way] = []
    for cover, metaops in enumerate(every):
        # So few outputs that their slices can stand side by side.
        mine = [
            way(cover, shape, False, blocks_of(metaops, pattern, data, narrow(target, shape)))
            for shape in target.array.shapes
        ]
        if (several := _each_in_its_shape(metaops, mine, target)) is not None:
            mixed.append(way(cover, several[0], False, several[1]))
        cut += mine
    most = WORTH_PACKING * min(one.energy for one in cut)
    packed = [
        way(one.cover, one.shape, True, pack(one.blocks, narrow(target, one.shape), pattern.k, pattern.m))
        for one in cut
        if True in packing and one.energy <= most
    ]
    return [*(cut if False in packing else []), *packed, *mixed]


def _cheapest(
    ways: Sequence[_Way], target: CrossbarTarget, space: tuple[int, int, int], limits: Cost | None
) -> dict[int, Mapping]:
    """Of each cover that is worth a close look, the cheapest of its ways as the passes leave them."""
    # What is slower than the dense mapping already by its reads is not costed, unless all are.
    fast = [way for way in ways if limits is None or way.reads <= limits.cycles]
    found: dict[int, Mapping] = {}
    least = np.inf
    for way in sorted(fast or [min(ways, key=lambda way: way.reads)], key=lambda way: way.energy):
        if way.energy > least * (MARGIN_OF_UNITS if target.array.ou_rows or target.array.ou_cols else MARGIN):
            break
        tiles = lowered(way.blocks, target, way.shape)
        mapping = _mapping(way.shape, way.packed, way.blocks, tiles, target, space)
        if limits is None or mapping.cost.cycles <= limits.cycles:
            least = min(least, way.energy)
        known = found.get(way.cover, mapping)
        found[way.cover] = min(known, mapping, key=lambda one: rank(one.cost, limits))
    return found


def _mapping(
    shape: Shape,
    packed: bool,
    blocks: list[Tile],
    tiles: Sequence[Tile],
    target: CrossbarTarget,
    space: tuple[int, int, int],
) -> Mapping:
    """tiles: the blocks as the passes leave them."""
    places, pool = arranged(tiles, target, shape, space)
    return Mapping(shape, packed, blocks, cost(places, target, space, pool.count))


def _each_in_its_shape(
    metaops: MetaOps, cut: Sequence[_Way], target: CrossbarTarget
) -> tuple[Shape, list[Tile]] | None:
    """(the shape around all, blocks): each meta-op cut to the shape in which it takes about the least energy.

    cut: the meta-ops cut to each shape. None where all take the same shape, where no shape of the target is
    around all, or where meta-ops share rows, so that blocks do not tell theirs.
    """
    rows = np.concatenate([metaops.rows(i) for i in range(len(metaops))] or [np.zeros(0, np.int64)])
    if len(cut) < 2 or not len(rows) or len(np.unique(rows)) < len(rows):
        return None
    owner = np.zeros(int(rows.max()) + 1, np.int64)
    for i in range(len(metaops)):
        owner[metaops.rows(i)] = i
    owners = [owner[[block.outputs[0] for block in way.blocks]] for way in cut]
    energy = [np.bincount(own, way.energies, len(metaops)) for own, way in zip(owners, cut, strict=True)]
    best = np.argmin(energy, axis=0)
    used = [way.shape for number, way in enumerate(cut) if (best == number).any()]
    around = [s for s in target.array.shapes if all(a[0] <= s[0] and a[1] <= s[1] for a in used)]
    if len(used) < 2 or not around:
        return None
    chosen = [
        way.blocks[i]
        for number, (own, way) in enumerate(zip(owners, cut, strict=True))
        for i in np.flatnonzero(best[own] == number).tolist()
    ]
    shape = min(around, key=lambda s: s[0] * s[1])
    return shape, [b.but(block=number) for number, b in enumerate(chosen)]


def _reading_cycles(
    blocks: Sequence[Tile], target: CrossbarTarget, shape: Shape, space: tuple[int, int, int]
) -> float:
    """Cycles of the reads alone, where blocks are spread over the arrays of the dense mapping."""
    arrays = min(max(1, arrays_of_dense(target, shape, space)), array_count(target, shape))
    return -(-len(blocks) // arrays) * space[1] * target.steps() * target.array.read_cycles


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
    most = target.array.cols
    few = narrow(target, (target.array.rows, most))[1]
    # Groups of more rows are cut to those whose slices stand side by side.
    heights = [h for h in (most >> i for i in range(most.bit_length())) if h in (most, few) or h < few]
    for height in heights:
        orders = {f"groups-{height}": natural(pattern)}
        if height > 1:
            orders[f"sorted-{height}"] = _by_length(pattern)
        if effort > 0 and 1 < height <= few:
            search = Search(pattern, (height, 1, target.array.rows), effort, seed)
            orders[f"ordered-{height}"] = search.rows(height)
        for name, order in orders.items():
            cover = gathered_panels(pattern, n, target.unit, order, height)
            if cover not in seen:
                seen.add(cover)
                yield name, cover


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
    """The best first, the dense mapping among them as "dense"; without covers whose estimate is far above."""


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
    every = list(covers(pattern, n, target, effort, seed))
    ways = _ways([cover for _, cover in every], pattern, data, n, target) if every else []
    mappings = _cheapest(ways, target, (pattern.m, n, pattern.k), limits) if ways else {}
    found = [Candidate(*every[i], mapping.cost) for i, mapping in mappings.items()]
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
