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
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby, product

import numpy as np
from numpy.typing import NDArray

from sparsecc.crossbar.assign import Shape
from sparsecc.crossbar.encode import Encoding
from sparsecc.crossbar.slices import flipped, without_empty
from sparsecc.crossbar.tiles import Bool, Int64, Tile
from sparsecc.target.crossbar import CrossbarTarget

Floats = NDArray[np.float64]
# Signs of more slices are all alike: to try them one by one takes too long.
MOST_SIGNS = 4
# A sum that even the target's converters may clip cuts the whole block: it is the last thing to choose.
CLIPPED = 1e3


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

    def tile(self, number: int, digits: Int64, outputs: Bool, zero: int = 0) -> Tile:
        """Of one slice, the digits [rows, columns] of these outputs."""
        tile = replace(
            self.like, outputs=self.like.outputs[outputs], slice=number, shift=self.encoding.shifts[number],
            levels=np.ascontiguousarray(digits[:, outputs] + zero, np.int8), zero=zero,
        )  # fmt: skip
        return flipped(tile, self.encoding)


def _lines(tile: Tile) -> Int64:
    return 2 * tile.inputs.astype(np.int64) + (tile.factors - 1)


def _converting(sums: Int64, rows: int, target: CrossbarTarget) -> Floats:
    """What bit lines with these largest sums take in a step; none where there is nothing."""
    bits = np.frexp((2**target.dac.bits - 1) * sums.astype(np.float64))[1] + (1 if target.differential else 0)
    bits = np.clip(bits, target.adc_bits_for(1), target.adc.bits)
    e, array = target.energy, target.array
    share, devices = 2 if array.digitised == "separately" else 1, 2 if target.differential else 1
    cells = devices * rows * e.array_pj / (array.rows * array.cols)
    each: Floats = share * (e.adc_pj + e.adc_pj_per_bit * bits + e.shift_add_pj) + cells
    clips = sums * (2**target.dac.bits - 1) > target.adc_limit(target.adc.bits)
    return np.where(sums > 0, np.where(clips, CLIPPED * each, each), 0.0)


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


def _signed(block: _Block, target: CrossbarTarget, _: int) -> list[Tile]:
    encoding, weights = block.encoding, block.weights
    sign, magnitude = np.sign(weights), np.abs(weights)
    mask = encoding.largest_level
    plain = np.stack([magnitude >> shift & mask for shift in encoding.shifts[: block.slices]])
    least = np.moveaxis(_least_forms(block.slices, encoding.cell_bits)[magnitude], -1, 0)
    takes: list[Floats] = []
    for digits in (plain, least):
        levels = digits * sign
        if target.array.digitised == "separately":
            sums = np.maximum(np.maximum(levels, 0).sum(axis=1), np.maximum(-levels, 0).sum(axis=1))
        else:
            sums = np.abs(levels).sum(axis=1)
        takes.append(_converting(sums, len(weights), target).sum(axis=0))
    digits = np.where(takes[1] < takes[0], least, plain) * sign
    every = np.ones(weights.shape[1], bool)
    return [block.tile(number, levels, every) for number, levels in enumerate(digits)]


@dataclass
class _Ways:
    """Of each output, the best way so far, what it takes, and how many bit lines its top slice has."""

    takes: Floats
    signs: Int64
    """Of the slices below the top one, [slices - 1, outputs]."""
    zero: Int64
    """Of the top slice; -1 where each sign has a bit line of its own."""
    lines: Int64

    @staticmethod
    def none(slices: int, outputs: int) -> _Ways:
        zeros = np.zeros(outputs, np.int64)
        return _Ways(np.full(outputs, np.inf), np.zeros((slices - 1, outputs), np.int64), zeros, zeros.copy())

    def better(self, chosen: Bool, takes: Floats, signs: Int64, zero: int, lines: Int64) -> None:
        chosen = chosen & (takes < self.takes)
        self.takes[chosen], self.zero[chosen], self.lines[chosen] = takes[chosen], zero, lines[chosen]
        self.signs[:, chosen] = signs[:, None]

    def take(self, other: _Ways, chosen: Int64) -> None:
        for name in ("takes", "signs", "zero", "lines"):
            getattr(self, name)[..., chosen] = getattr(other, name)[..., chosen]


def _digits(weights: Int64, signs: Int64, radix: int) -> tuple[Int64, Int64]:
    """Digits of these signs, [slices - 1, rows, columns], and what is left for the top slice."""
    found, rest = np.zeros((len(signs), *weights.shape), np.int64), weights
    for number, sign in enumerate(signs):
        found[number] = sign * (sign * rest % radix)
        rest = (rest - found[number]) // radix
    return found, rest


def _offset(block: _Block, target: CrossbarTarget, columns: int) -> list[Tile]:
    weights, slices, radix = block.weights, block.encoding.slices, block.encoding.largest_level + 1
    rows, outputs = weights.shape
    one, two = (_Ways.none(slices, outputs) for _ in range(2))
    repeat = slices - 1
    tried = product((1, -1), repeat=repeat) if repeat <= MOST_SIGNS else ((s,) * repeat for s in (1, -1))
    for tried_signs in tried:
        signs = np.array(tried_signs, np.int64)
        low, top = _digits(weights, signs, radix)
        takes = _converting(np.abs(low).sum(axis=1), rows, target).sum(axis=0)
        positive, negative = np.maximum(top, 0).sum(axis=0), np.maximum(-top, 0).sum(axis=0)
        apart = takes + _converting(np.stack([positive, negative]), rows, target).sum(axis=0)
        lines = (positive > 0).astype(np.int64) + (negative > 0)
        fits = np.abs(top).max(axis=0, initial=0) < radix
        one.better(fits & (lines < 2), apart, signs, -1, lines)
        two.better(fits, apart, signs, -1, lines)
        for zero in range(1, radix - 1):
            fits = (top >= -zero).all(axis=0) & (top < radix - zero).all(axis=0)
            held = (top + zero).sum(axis=0)
            sums = np.minimum(held, (radix - 1) * rows - held)
            one.better(
                np.asarray(fits), takes + _converting(sums, rows, target), signs, zero, np.ones_like(lines)
            )
    # Two bit lines where that saves most, as many as there are left.
    used = (slices - 1) * outputs + int(one.lines.sum())
    saved = one.takes - two.takes
    order = np.argsort(-saved, kind="stable")
    order = order[saved[order] > 0]
    one.take(two, order[used + np.cumsum((two.lines - one.lines)[order]) <= columns])
    return _offset_tiles(block, one, radix)


def _offset_tiles(block: _Block, ways: _Ways, radix: int) -> list[Tile]:
    digits, top = _digits(block.weights, ways.signs, radix)
    found: list[Tile] = []
    for number, (sign, levels) in enumerate(zip(ways.signs, digits, strict=True)):
        found.append(block.tile(number, levels, sign > 0))
        found.append(block.tile(number, levels, sign < 0, radix - 1))
    last = len(digits)
    found.append(block.tile(last, np.maximum(top, 0), ways.zero < 0))
    found.append(block.tile(last, np.minimum(top, 0), ways.zero < 0, radix - 1))
    found += [block.tile(last, top, ways.zero == zero, zero) for zero in np.unique(ways.zero) if zero >= 0]
    return found
