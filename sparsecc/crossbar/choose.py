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
from sparsecc.cover.search import Search
from sparsecc.crossbar.assign import Shape, blocks_of
from sparsecc.crossbar.cost import Cost, fitted_bits, tile_energy
from sparsecc.crossbar.encode import Encoding
from sparsecc.crossbar.slices import flipped, sliced, without_empty
from sparsecc.crossbar.squeeze import squeezed
from sparsecc.crossbar.tiles import Tile
from sparsecc.target.crossbar import CrossbarTarget

# Outputs of a group are at most this many times fewer than an array has.
LEAST_HEIGHT = 1


@dataclass(frozen=True)
class Candidate:
    """One way to cover the operator, and what it costs."""

    name: str
    metaops: MetaOps
    packed: bool
    cost: Cost


def fitted(tiles: Sequence[Tile], target: CrossbarTarget) -> list[Tile]:
    """The tiles with the fewest ADC bits that cannot clip."""
    encoding = Encoding.of(target)
    lines = (flipped(t, encoding) for t in tiles)
    return [replace(t, adc_bits=fitted_bits(t, target)) for t in lines]


def judge(target: CrossbarTarget):
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


def dense_tiles(
    pattern: Pattern, data: NDArray[np.generic], n: int, target: CrossbarTarget, shape: Shape
) -> list[Tile]:
    """The dense mapping: the full grid, all slices, at the bits of the target's ADC."""
    whole = MetaOps.whole(pattern.m, n, pattern.k)
    return sliced(blocks_of(whole, pattern, data, shape, keep_empty=True), Encoding.of(target))


def covers(pattern: Pattern, n: int, shape: Shape, effort: int, seed: int) -> Iterator[tuple[str, MetaOps]]:
    """Groups of rows of W, each with the columns it uses, by name."""
    rows, columns = shape
    height = columns
    while height >= LEAST_HEIGHT:
        unit = (height, 1, rows)
        yield f"window-{height}", gathered_panels(pattern, n, unit, natural(pattern), height)
        if effort > 0 and height > 1:
            order = Search(pattern, unit, effort, seed).rows(height)
            yield f"rows-{height}", gathered_panels(pattern, n, unit, order, height)
        height //= 2
