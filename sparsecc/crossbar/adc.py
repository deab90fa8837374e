"""The fewest bits an analog-to-digital converter needs so that no sum of a tile can be clipped.

In one step the word lines carry one digit of each input. What a bit line then sums is bounded by its levels:

- differential cells and sign-magnitude inputs: any of the levels, each with any sign: the sum of their
  magnitudes; where the devices of a pair are digitised apart, the larger of the sums of the positive and of
  the negative ones;
- unsigned cells and two's complement inputs: the sum of the levels.

Digits of `dac.bits` bits multiply the bound by 2^dac.bits - 1; where operation units have fewer word lines
than the tile, each group of `ou_rows` lines is a sum of its own. Doubled word lines carry the same digits one
step later; with one-bit digits that does not raise the bound, with wider ones a digit may straddle two, which
the factor covers as well.

The bound is tight: some input reaches it. So fewer bits can clip, and these never do. A tile that even the
target's converters may clip is read in runs of its word lines that they cannot. Bit lines of one tile may
need different bits: without operation units, they are converted with as many as each needs (`by_bits`).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from sparsecc.crossbar.bundle import Bundle
from sparsecc.crossbar.tiles import Int64, Tile
from sparsecc.target.crossbar import CrossbarTarget


def largest_sums(tile: Tile, target: CrossbarTarget) -> Int64:
    """Of each bit line, the largest magnitude that one conversion can meet, [columns]."""
    if target.array.ou_rows == 0 and target.array.digitised != "separately":
        return line_sums(tile, target) * (2**target.dac.bits - 1)
    levels = tile.cells(target.level_max).astype(np.int64)
    starts = np.arange(0, tile.rows, target.array.ou_rows or max(1, tile.rows))
    positive, negative = (np.add.reduceat(np.maximum(part, 0), starts, axis=0) for part in (levels, -levels))
    apart = target.array.digitised == "separately"
    sums = np.maximum(positive, negative) if apart else positive + negative
    return sums.max(axis=0, initial=0) * (2**target.dac.bits - 1)


def line_sums(tile: Tile, target: CrossbarTarget) -> Int64:
    """Of each bit line, the sum of the magnitudes of its cells, [columns]."""
    if target.differential:
        return np.abs(tile.levels).sum(axis=0, dtype=np.int64)
    sums = tile.levels.sum(axis=0, dtype=np.int64)
    flips = tile.flipped
    if flips is not None:
        sums[flips] = target.level_max * tile.rows - sums[flips]
    return sums


def bits_needed(tile: Tile, target: CrossbarTarget) -> int:
    """The fewest bits with which no input clips; more than the target's ADC has where even that may clip."""
    return target.adc_bits_for(int(largest_sums(tile, target).max(initial=0)))


def unclipped(bundle: Bundle, target: CrossbarTarget) -> list[Bundle]:
    """The bundle, or its word lines in as few runs as it takes for none to exceed the target's converters."""
    if all(bits_needed(tile, target) <= target.adc.bits for tile in bundle):
        return [bundle]
    limit = target.adc_limit(target.adc.bits) // (2**target.dac.bits - 1)
    cells = np.abs(np.hstack([tile.cells(target.level_max) for tile in bundle]).astype(np.int64))
    first, sums, bounds = 0, np.zeros(cells.shape[1], np.int64), [0]
    for row in range(len(cells)):
        sums = sums + cells[row]
        if row > first and (sums > limit).any():
            bounds.append(row)
            first, sums = row, cells[row]
    bounds.append(len(cells))
    return [[_lines(tile, slice(a, b)) for tile in bundle] for a, b in pairwise(bounds)]


def by_bits(tile: Tile, target: CrossbarTarget) -> list[Tile]:
    """The tile's bit lines by the bits they need, each with its own converter bits: a bundle."""
    lengths = np.frexp(largest_sums(tile, target).astype(np.float64))[1]
    needed = np.maximum(lengths + (1 if target.differential else 0), target.adc_bits_for(1))
    needed = np.minimum(needed, target.adc.bits)
    return [
        tile.but(
            outputs=tile.outputs[chosen],
            levels=np.ascontiguousarray(tile.levels[:, chosen]),
            flipped=None if tile.flipped is None else tile.flipped[chosen],
            adc_bits=bits,
        )
        for bits in np.unique(needed).tolist()
        for chosen in [needed == bits]
    ]


def _lines(tile: Tile, lines: slice) -> Tile:
    """These word lines of the tile."""
    return tile.but(
        inputs=tile.inputs[lines],
        levels=tile.levels[lines],
        doubled=None if tile.doubled is None else tile.doubled[lines],
    )
