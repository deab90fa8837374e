"""Other digits for the same weights: of the exact ways to cut a weight, those whose bit lines sum to least.

A converter's bits grow with what its bit line may sum, and a weight may be cut to levels in several ways:

- *differential* cells hold levels of either sign, so digits may be signed: 3 = 4 - 1, 127 = 128 - 1 (the
  signed-digit forms of Booth, 1951, and Avizienis, 1961). Of all forms in the slices of the block, that of
  least magnitudes in all, and of these that of fewest digits, is taken where an output's bit lines then
  take less.
- *offset* cells hold levels 0 .. B - 1 less a level that stands for nothing, z, of each bit line. With z = 0
  a bit line holds digits 0 .. B - 1, and flipped with z = B - 1 digits of 1 - B .. 0; either way a cell that
  stands for nothing adds nothing. A slice may so have either sign for each output. What is left for the top
  slice has both signs: one bit line with z between, where every driven word line adds to the sum, or two
  bit lines, one for each sign, whose sums are those of their digits alone. The second takes one more bit
  line, and so is done where it saves most, as long as the array has bit lines.

Exact: the tiles stand for the same weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.crossbar.assign import Shape
from sparsecc.crossbar.encode import Encoding
from sparsecc.crossbar.slices import flipped, without_empty
from sparsecc.crossbar.tiles import Bool, Int8, Int64, Tile
from sparsecc.target.crossbar import CrossbarTarget

Floats = NDArray[np.float64]
# Signs of more slices are all alike: to try them one by one takes too long.
MOST_SIGNS = 4
# A sum that even the target's converters may clip cuts the whole block: it is the last thing to choose.
CLIPPED = 1e3
# Weights are -128 .. 127.
WEIGHTS = 256


def recoded(tiles: Iterable[Tile], target: CrossbarTarget, shape: Shape) -> list[Tile]:
    """The tiles of each block with the digits whose conversions take least. shape: of an array.

    Targets with operation units keep theirs, and blocks that would have slices of too many word lines: those
    that were squeezed out have more in all.
    """
    if target.array.ou_rows or target.array.ou_cols:
        return list(tiles)
    recode = _signed if target.differential else _offset
    found: list[Tile] = []
    for _, members in groupby(tiles, key=lambda t: t.block):
        before = list(members)
        after = without_empty(recode(_Block.of(before, Encoding.of(target)), target, shape[1]))
        found += after if all(t.rows <= shape[0] for t in after) else before
    return found


def least_converting(weights: Int64, target: CrossbarTarget) -> Floats:
    """What the bit lines of each output take in a step, cut as `recoded` does, with bit lines to spare.

    weights: [rows, outputs], -128 .. 127.
    """
    if target.differential:
        return _signed_takes(weights, target.slices, target, avoids=False).min(axis=0)
    one, two = _offset_ways(weights, target, avoids=False)
    return np.minimum(one.takes, two.takes)


def _sums(weights: Int64, adds: Floats) -> Int64:
    """What each output's weights add to its sums, [columns, sums]. adds: of each weight, [WEIGHTS, sums].

    Nothing is added by 0.
    """
    import scipy.sparse  # pyright: ignore[reportMissingTypeStubs]  # slow to import

    columns, rows = np.nonzero(weights.T)
    of_column = np.bincount(columns + 1, minlength=weights.shape[1] + 1).cumsum()
    at = weights[rows, columns] + WEIGHTS // 2
    counts: Any = scipy.sparse.csr_array((np.ones(len(at)), at, of_column), shape=(weights.shape[1], WEIGHTS))
    return np.asarray(counts @ adds, np.int64)


@dataclass(frozen=True)
class _Block:
    """The weights of a block again, by word line: an input and whether it is doubled."""

    like: Tile
    """Has the block's inputs, outputs and doubled lines."""
    weights: Int64
    """[rows, columns]"""
    slices: int
    """Slices that it has: all up to its top one."""
    encoding: Encoding

    @staticmethod
    def of(tiles: Sequence[Tile], encoding: Encoding) -> _Block:
        lines = np.unique(np.concatenate([_lines(t) for t in tiles]))
        outputs = np.unique(np.concatenate([t.outputs for t in tiles])).astype(np.int32)
        weights = np.zeros((len(lines), len(outputs)), np.int64)
        for t in tiles:
            at = np.ix_(np.searchsorted(lines, _lines(t)), np.searchsorted(outputs, t.outputs))
            weights[at] += t.values << t.shift
        like = Tile(
            (lines >> 1).astype(np.int32), outputs, np.zeros(weights.shape, np.int8), tiles[0].block,
            doubled=lines & 1 == 1,
        )  # fmt: skip
        slices = 1 + max(encoding.shifts.index(t.shift) for t in tiles)
        return _Block(like, weights, slices, encoding)

    def digits(self, table: Int8, choices: Int64) -> Int8:
        """Of each slice, the digits [rows, columns] where each column has made its choice.

        table: [choices, slices, -128 .. 127].
        """
        at = self.weights + (WEIGHTS // 2 + WEIGHTS * choices)
        return np.stack([np.ascontiguousarray(of).reshape(-1)[at] for of in np.moveaxis(table, 1, 0)])

    def tiles(self, number: int, digits: Int8, outputs: Bool, zero: int = 0) -> list[Tile]:
        """Of one slice, the digits [rows, columns] of these outputs, where there are any."""
        if not outputs.any():
            return []
        tile = self.like.but(
            outputs=self.like.outputs[outputs], slice=number, shift=self.encoding.shifts[number],
            levels=np.ascontiguousarray(digits[:, outputs] + np.int8(zero)), zero=zero,
        )  # fmt: skip
        return [flipped(tile, self.encoding)]


def _lines(tile: Tile) -> Int64:
    return 2 * tile.inputs.astype(np.int64) + (tile.factors - 1)


@lru_cache(1024)
def _converting(rows: int, target: CrossbarTarget, avoids: bool = True) -> Floats:
    """What a bit line of so many word lines takes in a step, by its largest sum; nothing where that is 0.

    avoids: sums that even the target's converters may clip are to be avoided; else they are read in runs.
    """
    sums = np.arange(rows * (target.level_max + 1) + 1)
    bits = np.frexp((2**target.dac.bits - 1) * sums.astype(np.float64))[1] + (1 if target.differential else 0)
    bits = np.clip(bits, target.adc_bits_for(1), target.adc.bits)
    e, array = target.energy, target.array
    share, devices = 2 if array.digitised == "separately" else 1, 2 if target.differential else 1
    cells = devices * rows * e.array_pj / (array.rows * array.cols)
    each: Floats = share * (e.adc_pj + e.adc_pj_per_bit * bits + e.shift_add_pj) + cells
    runs = -(-sums * (2**target.dac.bits - 1) // target.adc_limit(target.adc.bits))
    return np.where(runs > 1, np.where(avoids, CLIPPED, runs), np.minimum(runs, 1)) * each


@lru_cache
def _least_forms(slices: int, cell_bits: int) -> Int64:
    """Of each magnitude that so many slices hold, the signed digits of least sum, [magnitudes, slices]."""
    radix = 1 << cell_bits
    highest = radix**slices
    forms = np.array(list(product(range(1 - radix, radix), repeat=slices)), np.int64)
    values = forms @ radix ** np.arange(slices)
    sizes, count = np.abs(forms).sum(axis=1), (forms != 0).sum(axis=1)
    order = np.lexsort((np.abs(forms[:, -1]), count, sizes))
    order = order[(values[order] >= 0) & (values[order] < highest)]
    first = np.unique(values[order], return_index=True)[1]
    return forms[order[first]]


@lru_cache
def _signed_digits(slices: int, cell_bits: int) -> tuple[Int8, Floats]:
    """Digits of each weight, plain and of least sum, [2, slices, weights]; their parts of either sign.

    Those are [weights, 2 * slices * 2]: what is above 0, and the magnitude of what is below.
    """
    weights = np.arange(WEIGHTS) - WEIGHTS // 2
    forms = _least_forms(slices, cell_bits)
    magnitude = np.abs(weights)
    shifts = cell_bits * np.arange(slices)
    plain = magnitude >> shifts[:, None] & ((1 << cell_bits) - 1)
    # Larger weights than the slices hold are not asked for.
    least = forms[np.minimum(magnitude, len(forms) - 1)].T
    digits = np.stack([plain, least]) * np.sign(weights)
    parts = np.stack([np.maximum(digits, 0), np.maximum(-digits, 0)], axis=2)
    return digits.astype(np.int8), parts.reshape(-1, WEIGHTS).T.astype(np.float64)


def _signed_takes(weights: Int64, slices: int, target: CrossbarTarget, avoids: bool = True) -> Floats:
    """What the bit lines of each output take with plain digits, and with those of least sum, [2, outputs]."""
    _, parts = _signed_digits(slices, target.array.cell_bits)
    sums = _sums(weights, parts).reshape(-1, 2, slices, 2)
    sums = sums.max(axis=3) if target.array.digitised == "separately" else sums.sum(axis=3)
    takes = np.moveaxis(_converting(len(weights), target, avoids)[sums], 0, -1)
    # One slice after the other: a sum that numpy orders as it likes would break ties at random.
    total = np.zeros(takes[:, 0].shape)
    for s in range(slices):
        total += takes[:, s]
    return total


def _signed(block: _Block, target: CrossbarTarget, _: int) -> list[Tile]:
    digits = _signed_digits(block.slices, block.encoding.cell_bits)[0]
    plain, least = _signed_takes(block.weights, block.slices, target)
    chosen = block.digits(digits, (least < plain).astype(np.int64))
    every = np.ones(block.weights.shape[1], bool)
    return [tile for number, levels in enumerate(chosen) for tile in block.tiles(number, levels, every)]


@dataclass
class _Ways:
    """Of each output, a way to cut it, what it takes, and how many bit lines its top slice has."""

    takes: Floats
    signs: Int64
    """Which choice of signs of the slices below the top one."""
    zero: Int64
    """Of the top slice; -1 where each sign has a bit line of its own."""
    lines: Int64

    def take(self, other: _Ways, chosen: Int64) -> None:
        for name in ("takes", "signs", "zero", "lines"):
            getattr(self, name)[chosen] = getattr(other, name)[chosen]


@lru_cache
def _offset_digits(slices: int, radix: int) -> tuple[Int64, Int8, Floats]:
    """Choices of signs of the slices below the top one, and the digits of each weight with each.

    Signs are [choices, slices - 1], digits [choices, slices, weights]. Last, what a weight adds to the sums
    of its output, [weights, choices * (slices + 1 + radix)]: magnitudes of the digits below the top slice; of
    the top one, its part above 0, the magnitude of that below, and itself; then 1 where the top slice cannot
    hold it, and where it cannot beside the level z = 1 .. radix - 2 for nothing.
    """
    repeat = slices - 1
    tried = product((1, -1), repeat=repeat) if repeat <= MOST_SIGNS else ((s,) * repeat for s in (1, -1))
    signs = np.array(list(tried), np.int64)
    rest = np.tile(np.arange(WEIGHTS) - WEIGHTS // 2, (len(signs), 1))
    digits: list[Int64] = []
    for column in signs.T[:, :, None]:
        digits.append(column * (column * rest % radix))
        rest = (rest - digits[-1]) // radix
    outside = [np.abs(rest) >= radix, *((rest < -z) | (rest >= radix - z) for z in range(1, radix - 1))]
    top = [np.maximum(rest, 0), np.maximum(-rest, 0), rest]
    adds = np.stack([*map(np.abs, digits), *top, *outside], axis=1).astype(np.float64)
    return signs, np.stack([*digits, rest], axis=1).astype(np.int8), adds.reshape(-1, WEIGHTS).T


def _offset_ways(weights: Int64, target: CrossbarTarget, avoids: bool = True) -> tuple[_Ways, _Ways]:
    """Of each output, the best ways with a bit line for the top slice, and with one or two."""
    slices, radix, (rows, outputs) = target.slices, target.level_max + 1, weights.shape
    signs, _, adds = _offset_digits(slices, radix)
    sums = _sums(weights, adds).reshape(outputs, len(signs), -1)
    low, (positive, negative, top), outside = (
        np.moveaxis(part, -1, 0) for part in np.split(sums, [slices - 1, slices + 2], axis=-1)
    )
    takes_of = _converting(rows, target, avoids)
    most = len(takes_of) - 1
    takes = np.zeros(positive.shape)
    for of in low:
        takes += takes_of[of]
    apart = takes + (takes_of[np.minimum(positive, most)] + takes_of[np.minimum(negative, most)])
    lines = (positive > 0).astype(np.int64) + (negative > 0)
    apart[outside[0] > 0] = np.inf
    ways = [np.where(lines < 2, apart, np.inf)]
    for zero in range(1, radix - 1):
        held = np.clip(top + zero * rows, 0, (radix - 1) * rows)
        sum_of = np.minimum(held, (radix - 1) * rows - held)
        ways.append(np.where(outside[zero] > 0, np.inf, takes + takes_of[sum_of]))
    each = np.stack(ways, axis=-1).reshape(outputs, -1)
    every = np.arange(outputs, dtype=np.int64)
    best: Int64 = each.argmin(axis=1)
    choice, zero = best // len(ways), best % len(ways)
    single = np.where(zero == 0, lines[every, choice], 1)
    one = _Ways(each[every, best], choice, np.where(zero == 0, -1, zero), single)
    assert np.isfinite(one.takes).all(), "the plain digits fit"
    apart_best: Int64 = apart.argmin(axis=1)
    zeros = np.full(outputs, -1, np.int64)
    return one, _Ways(apart[every, apart_best], apart_best, zeros, lines[every, apart_best])


def _offset(block: _Block, target: CrossbarTarget, columns: int) -> list[Tile]:
    one, two = _offset_ways(block.weights, target)
    # Two bit lines where that saves most, as many as there are left.
    used = (target.slices - 1) * len(one.lines) + int(one.lines.sum())
    saved = one.takes - two.takes
    order = np.argsort(-saved, kind="stable")
    order = order[saved[order] > 0]
    one.take(two, order[used + np.cumsum((two.lines - one.lines)[order]) <= columns])
    return _offset_tiles(block, one, target.level_max + 1)


def _offset_tiles(block: _Block, ways: _Ways, radix: int) -> list[Tile]:
    signs, table, _ = _offset_digits(block.encoding.slices, radix)
    *digits, top = block.digits(table, ways.signs)
    found: list[Tile] = []
    for number, (sign, levels) in enumerate(zip(signs[ways.signs].T, digits, strict=True)):
        found += block.tiles(number, levels, sign > 0)
        found += block.tiles(number, levels, sign < 0, radix - 1)
    last = len(digits)
    found += block.tiles(last, np.maximum(top, 0), ways.zero < 0)
    found += block.tiles(last, np.minimum(top, 0), ways.zero < 0, radix - 1)
    for zero in np.unique(ways.zero[ways.zero >= 0]).tolist():
        found += block.tiles(last, top, ways.zero == zero, zero)
    return found
