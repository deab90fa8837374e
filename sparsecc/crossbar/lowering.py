"""Blocks taken through the steps of the passes: sliced, recoded, squeezed, bundled, at the bits they need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np

from sparsecc.crossbar.adc import by_bits, largest_sums, unclipped
from sparsecc.crossbar.assign import Shape
from sparsecc.crossbar.bundle import Bundle, bundles, columns_of, numbered, outputs_of, side_by_side
from sparsecc.crossbar.cost import bundle_energy, converting_energy, fitted_bits, steps_of, tiles_energy
from sparsecc.crossbar.encode import Encoding
from sparsecc.crossbar.recode import recoded
from sparsecc.crossbar.slices import flipped, sliced, without_empty
from sparsecc.crossbar.squeeze import Judge, squeezed
from sparsecc.crossbar.tiles import Tile
from sparsecc.target.crossbar import CrossbarTarget


def fitted(tiles: Sequence[Tile], target: CrossbarTarget) -> list[Tile]:
    """The tiles with the fewest ADC bits that cannot clip, cut where the target's are too few.

    Where bit lines of a tile need different bits, they become a bundle of several.
    """
    encoding = Encoding.of(target)

    def fit(bundle: Bundle, shares: bool) -> list[Bundle]:
        parts = unclipped([flipped(t, encoding) for t in bundle], target)
        anew = [[flipped(t, encoding) for t in part] for part in parts]
        if shares or target.array.ou_cols:
            return [[t.but(adc_bits=fitted_bits(t, target)) for t in part] for part in anew]
        return [[one for t in part for one in by_bits(t, target)] for part in anew]

    return _each(tiles, fit)


def exact(tiles: Sequence[Tile], target: CrossbarTarget) -> list[Tile]:
    """The tiles, those cut that may clip at the bits they are read with: the target's."""
    return _each(tiles, lambda bundle, _: unclipped(bundle, target))


def _each(tiles: Sequence[Tile], cut: Callable[[Bundle, bool], list[Bundle]]) -> list[Tile]:
    """All bundles cut, tiles that use the cells of others beside these.

    cut: of a bundle, and whether its one tile shares its cells; then every part is one tile.
    """
    owners = {t.image for t in tiles}
    found: list[Bundle] = []
    parts: list[list[int]] = []  # of each bundle, which of `found` it became
    number = 0
    bundle_of: dict[int, int] = {}
    for i, bundle in enumerate(bundles(tiles)):
        bundle_of[number] = i
        new = cut(bundle, number in owners or bundle[0].image >= 0)
        parts.append(list(range(len(found), len(found) + len(new))))
        found += new
        number += len(bundle)
    first = np.cumsum([0, *map(len, found)])
    for own in parts:
        for turn, at in enumerate(own):
            if (image := found[at][0].image) >= 0:
                found[at] = [found[at][0].but(image=int(first[parts[bundle_of[image]][turn]]))]
    return numbered(found)


def judge(target: CrossbarTarget, fit: bool = True) -> Judge:
    """Whether the second of two sets of tiles needs less energy than the first, ADC bits fitted or not."""

    def energy(tiles: Sequence[Tile]) -> float:
        if fit:
            return sum(_fitted_energy(bundle, target) for bundle in bundles(tiles))
        return tiles_energy(exact(tiles, target), target)

    return lambda before, after: energy(after) < energy(before)


def squeeze_judge(target: CrossbarTarget, shape: Shape) -> Judge:
    """Whether a block is better off squeezed out: both as they will be read, its slices side by side.

    A doubled input is one more step of its whole bundle, which must not take the arrays longer than the slice
    that is gone.
    """
    less = judge(target)

    def time(tiles: Sequence[Tile]) -> int:
        return sum(max(steps_of(t, target) for t in bundle) for bundle in bundles(tiles))

    def better(before: Sequence[Tile], after: Sequence[Tile]) -> bool:
        read = [bundled(tiles, target, shape, less) for tiles in (before, after)]
        return time(read[1]) <= time(read[0]) and less(*read)

    return better


def _fitted_energy(bundle: Bundle, target: CrossbarTarget) -> float:
    """What a bundle takes once it is `fitted`; about, where it has to be cut."""
    array, e = target.array, target.energy
    if array.ou_rows or array.ou_cols:
        return tiles_energy(fitted(bundle, target), target)
    step, runs, limit = 0.0, 1, target.adc_limit(target.adc.bits)
    for tile in bundle:
        if target.differential:
            sums = largest_sums(tile, target)
        else:  # flipped where that is less
            sums = tile.levels.sum(axis=0, dtype=np.int64)
            sums = np.minimum(sums, target.level_max * tile.rows - sums)
        bits = np.frexp(sums.astype(np.float64))[1] + (1 if target.differential else 0)
        runs = max(runs, -(-int(sums.max(initial=0)) // limit))
        bits = np.clip(bits, target.adc_bits_for(1), target.adc.bits)
        share = 2 if array.digitised == "separately" else 1
        step += share * (tile.columns * (e.adc_pj + e.shift_add_pj) + float(bits.sum()) * e.adc_pj_per_bit)
    sums = len(outputs_of(bundle)) * 8 * e.acc_pj_per_byte
    more = runs * step - converting_energy(bundle, target)
    return bundle_energy(bundle, target) + steps_of(bundle[0], target) * more + (runs - 1) * sums


def bundled(tiles: Sequence[Tile], target: CrossbarTarget, shape: Shape, better: Judge) -> list[Tile]:
    """The slices of each block side by side in one array, where they fit and that is better."""
    if target.array.ou_cols:
        return list(tiles)
    shared = {t.image for t in tiles} | {i for i, t in enumerate(tiles) if t.image >= 0}
    found: list[Bundle] = []
    number = 0
    for _, members in groupby(tiles, key=lambda t: t.block):
        before = list(members)
        alone = all(t.bundle < 0 for t in before) and shared.isdisjoint(range(number, number + len(before)))
        number += len(before)
        if alone and len(before) > 1 and columns_of(before) <= shape[1]:
            after = side_by_side(before)
            # One number for all of them: they are judged as a bundle.
            if after[0].rows <= shape[0] and better(before, [t.but(bundle=0) for t in after]):
                found.append(after)
                continue
        found += bundles(before)
    return numbered(found)


def lowered(blocks: Sequence[Tile], target: CrossbarTarget, shape: Shape) -> list[Tile]:
    """Blocks as the passes leave them before they are placed."""
    encoding = Encoding.of(target)
    tiles = without_empty(sliced(blocks, encoding))
    tiles = squeezed(tiles, encoding, shape[0], squeeze_judge(target, shape)).tiles
    tiles = recoded(tiles, target, shape)
    return fitted(bundled(tiles, target, shape, judge(target)), target)


def narrow(target: CrossbarTarget, shape: Shape) -> Shape:
    """Word lines and outputs of a block whose slices fit an array side by side."""
    return shape[0], shape[1] if target.array.ou_cols else max(1, shape[1] // target.slices)
