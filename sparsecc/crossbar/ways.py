"""The ways to read an output of a tile, summed for the bound by counting (`sparsecc.crossbar.counting`).

An output of a tile has c weights on r word lines. What its bit lines take depends on the digits that the
weights are cut to: any exact ones, of these kinds. *Offset*: one bit line for each slice, whose cells hold
levels 0 .. B - 1 less any level that stands for nothing; for the top slice also two, one for each sign.
*Differential*: a bit line for each slice, with digits of any sign. V is at least the expected value, over
weights drawn independently, of 2^(-E / l), E the least that bit lines, with their cells, may take.

**Uniform weights** (offset). Let weights be drawn from all B^slices there are. Whatever the signs of the
slices, their digits below the top are then independent and uniform over 0 .. B - 1, but for the sign; with
the level for nothing between, or cells turned round, every other word line adds at least 1 to a sum of c such
digits. A digit of the top slice is uniform over B values from -B / 2, or from 1 - B / 2 where what is below
it is negative. Of how many lines that is so does not matter: of all numbers, the largest chance counts that
the bit lines take at most so many bits. So M, the expected number of ways that take T bits on L bit lines, is
a product over the slices, added up over their ways. The best way is one of them, and what it gives at most

    y + the sum of M (2^(-E / l) - y where that is above 0) over T and L, for any y >= 0;

the least over y is the sum over the cheapest, until the sum of M is 1. Where no weight has a digit in a
slice, its signs are one way.

**Weights of any frequencies.** The sum of c digits of a slice is below a limit L by the bits of its bit line.
By Chernoff, for any t_s >= 0, all are with a chance of at most

    exp(sum of t_s L_s) * (mean over values of the largest exp(- sum of t_s |digit_s|) of its forms)^c;

t = infinity where a slice has no bit line. Two bit lines of opposite sign take at least the bits of their
sum on one. Where the level for nothing is neither the lowest nor the highest, every other word line adds at
least 1 to the sum.

**Charge.** Weights drawn independently, v with the chance f_v, are N given ones, in some order, with a chance
of N! / product(n_v!) * product(f_v^n_v): so of all orders of these weights, no larger a share is rare than
that of all draws, divided by this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from itertools import product
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import special  # pyright: ignore[reportMissingTypeStubs]

from sparsecc.crossbar.encode import Encoding
from sparsecc.target.crossbar import CrossbarTarget

_special = cast(Any, special)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# t of the Chernoff bound, by slices; the last stands for infinity.
TILTS = {True: (0.0, 0.03, 0.1, 0.2, 0.4, 0.8, 60.0), False: (0.0, 0.3, 1.0, 60.0)}
FEW_SLICES = 4
# Word lines are counted as the first of their group, and cells from there on by so many at once.
GROUP, SINGLE, STEP = 8, 25, 4
# Larger arrays, and weights that cost more bits each to be taken for uniform ones, take the Chernoff bound.
MOST_ROWS, MOST_CHARGE = 128, 0.3


class Ways(ABC):
    """The ways to read an output of a tile."""

    def __init__(self, target: CrossbarTarget, charge: float):
        self.target = target
        self.charge = charge
        """Bits: what the weights are rarer than weights drawn independently."""

    @abstractmethod
    def logarithm(self, unit: float, rows: int, per_line: float) -> Floats:
        """ln V at c - 1 of up to `rows` lines, [rows, c]; what is above the diagonal means nothing.

        unit: pJ that make e of a weight in the sum; per_line: pJ of a bit line more for each of its cells.
        """

    def charged(self, rows: int) -> Ints:
        """As how many each of up to `rows` lines are counted."""
        return np.arange(1, rows + 1)

    def _cell(self, per_line: float) -> float:
        """pJ of a bit line for each of its cells."""
        array, e = self.target.array, self.target.energy
        devices = 2 if self.target.differential else 1
        return self.target.steps() * devices * e.array_pj / (array.rows * array.cols) + per_line


def ways_of(data: NDArray[np.generic], target: CrossbarTarget) -> Ways:
    """The ways to read outputs of these weights."""
    encoding = Encoding.of(target)
    _, counts = np.unique(data, return_counts=True)
    values = (encoding.largest_level + 1) ** encoding.slices
    charge = _charge(counts, np.full(len(counts), 1 / values))
    few = max(r for r, _ in target.array.shapes) <= MOST_ROWS and target.dac.bits == 1
    if not target.differential and few and charge <= MOST_CHARGE * len(data):
        return Uniform(target, charge)
    return Tilted(data, target)


def _charge(counts: Ints, chances: Floats) -> float:
    """Minus the logarithm, to base 2, of the chance that draws have each value as often as this."""
    orders = _special.gammaln(counts.sum() + 1.0) - _special.gammaln(counts + 1.0).sum()
    return float(-(orders + (counts * np.log(chances)).sum()) / np.log(2))


class Uniform(Ways):
    """Of uniform weights in offset cells."""

    def logarithm(self, unit: float, rows: int, per_line: float) -> Floats:
        target, e = self.target, self.target.energy
        encoding = Encoding.of(target)
        table = _bits_table(encoding.largest_level + 1, encoding.slices, target.adc.bits, rows)
        width = encoding.slices + 2
        index: Ints = np.arange(len(table[0][0]), dtype=np.int64)
        bits, lines = index // width, index % width
        takes = target.steps() * (bits * e.adc_pj_per_bit + lines * (e.adc_pj + e.shift_add_pj))
        found = np.full((rows, rows), -np.inf)
        for r, expected in enumerate(table, 1):
            energy = takes + lines * r * self._cell(per_line)
            order = np.argsort(energy, kind="stable")
            until = np.minimum(np.cumsum(expected[:, order], axis=1), 1.0)
            value = np.diff(until, axis=1, prepend=0.0) @ np.exp(-energy[order] / unit)
            found[r - 1, :r] = np.log(np.maximum(value, 1e-300))
        return found


def _lengths(sums: Ints) -> Ints:
    return np.frexp(sums.astype(np.float64))[1].astype(np.int64)


@lru_cache(maxsize=4)
def _bits_table(radix: int, slices: int, most: int, rows: int) -> list[Floats]:
    """M: of each number of word lines, [c - 1, T * (slices + 2) + L], of at most `most` bits each."""
    low = [np.ones(1)]
    for _ in range(rows):
        low.append(np.convolve(low[-1], np.full(radix, 1 / radix)))

    def by_bits(chances: Floats, more: int, least: int) -> Floats:
        bits = np.maximum(_lengths(np.arange(len(chances)) + more), least)
        return np.bincount(bits, chances, minlength=most + 1)[: most + 1].astype(np.float64)

    width = slices + 2
    size = ((slices + 1) * most + 1) * width

    def with_line(before: Floats, chances: Floats) -> Floats:
        found = before * chances[:, :1]
        for bits in range(1, most + 1):
            move = bits * width + 1
            found[:, move:] += before[:, :-move] * chances[:, bits : bits + 1]
        return found

    alone = np.array([by_bits(p, 0, 0) for p in low])
    alone[:, 1:] *= 2
    top = _top_slice(radix, most, rows)
    found: list[Floats] = []
    for r in range(1, rows + 1):
        # Cells turned round, and every level for nothing.
        turned = np.array([by_bits(low[c], r - c, 1) for c in range(1, r + 1)])
        ways = np.zeros((r, size))
        few, two = np.moveaxis(top[1 : r + 1], 1, 0)
        ways[:, 0] = few[:, 0]
        ways[:, width + 1 : len(few[0]) * width : width] = few[:, 1:]
        ways[:, 2 : len(two[0]) * width : width] = two
        ways[:, width + 1 : (most + 1) * width : width] += 2 * radix * turned[:, 1:]
        # Two bit lines, one or both turned round: there, whatever is not the largest digit adds at least 1.
        least = r if radix > 2 else np.arange(r)[::-1]
        bits = 1 + np.maximum(_lengths(np.broadcast_to(least, r)), 1)
        ways[np.arange(r), bits * width + 2] += 3
        for _ in range(slices - 1):
            ways = with_line(ways, alone[1 : r + 1] + (2 * radix - 2) * turned)
        found.append(ways)
    return found


def _top_slice(radix: int, most: int, rows: int) -> Floats:
    """At least the chance that c digits take T bits on at most one bit line, and on two, [c, 2, T].

    Bit lines of at most `most` bits. T is as if it had the largest of the chances, over all numbers of digits
    from 1 - B / 2, that it is at most so much.
    """
    ends = np.concatenate([[0], 1 << np.arange(most + 1)])  # the last is of what is above
    bits = np.add.outer(np.arange(most + 1), np.arange(most + 1))
    some = np.arange(most + 1) > 0
    two = some[:, None] & some
    found = np.zeros((rows + 1, 2, 2 * most + 1))

    def drawn(sums: Floats, lowest: int) -> Floats:
        highest = lowest + radix - 1
        after = np.zeros((sums.shape[0] + highest, sums.shape[1] - lowest))
        for digit in range(lowest, highest + 1):
            positive, negative = max(digit, 0), max(-digit, 0)
            after[positive : positive + sums.shape[0], negative : negative + sums.shape[1]] += sums / radix
        return after

    def counted(sums: Floats) -> Floats:
        for axis in range(2):
            sums = np.add.reduceat(sums, ends[ends < sums.shape[axis]], axis=axis)
        sums = sums[: most + 1, : most + 1]
        held = np.zeros((most + 1, most + 1))
        held[: sums.shape[0], : sums.shape[1]] = sums
        parts = [np.bincount(bits[which], held[which], minlength=2 * most + 1) for which in (~two, two)]
        return np.array(parts).cumsum(axis=1)

    first = np.ones((1, 1))
    for one in range(rows + 1):
        sums = first
        # The other way about, the signs are the other way about, too.
        for other in range(min(one, rows - one) + 1):
            found[one + other] = np.maximum(found[one + other], counted(sums))
            sums = drawn(sums, 1 - radix // 2)
        first = drawn(first, -radix // 2)
    return np.diff(found, axis=2, prepend=0.0)


class Tilted(Ways):
    """Of weights of any frequencies."""

    def __init__(self, data: NDArray[np.generic], target: CrossbarTarget):
        encoding = Encoding.of(target)
        slices, radix = encoding.slices, encoding.largest_level + 1
        tilts = np.array(TILTS[slices <= FEW_SLICES])
        forms = np.array(list(product(range(1 - radix, radix), repeat=slices)), np.int64)
        values = forms @ radix ** np.arange(slices)
        magnitudes, count = np.unique(np.abs(data.astype(np.int64)), return_counts=True)
        kept = np.flatnonzero(np.isin(values, magnitudes))
        kept = kept[np.argsort(values[kept], kind="stable")]
        sizes = np.abs(forms[kept]).astype(np.float64)
        starts = np.searchsorted(values[kept], magnitudes)
        every = np.array(list(product(tilts, repeat=slices)))
        means = [
            np.exp(-np.minimum.reduceat(part @ sizes.T, starts, axis=1)) @ (count / count.sum())
            for part in np.array_split(every, max(1, len(every) // 256))
        ]
        _, counts = np.unique(data, return_counts=True)
        super().__init__(target, _charge(counts, counts / counts.sum()))
        self.tilts = tilts
        self.chance: Floats = np.log(np.maximum(np.concatenate(means), 1e-300))
        """Logarithm of the mean, for each choice of a tilt for each slice, [tilts^slices]."""

    def charged(self, rows: int) -> Ints:
        return np.arange(rows) // GROUP * GROUP + 1

    def logarithm(self, unit: float, rows: int, per_line: float) -> Floats:
        cells = np.unique(np.concatenate([np.arange(1, SINGLE), np.arange(SINGLE, rows + 1, STEP)]))
        cells = cells[cells <= rows]
        after = np.append(cells[1:], rows + 1)
        of_group = [
            self._of_lines(unit, first, cells, after, first * self._cell(per_line))
            for first in range(1, rows + 1, GROUP)
        ]
        groups = np.repeat(np.array(of_group), GROUP, axis=0)[:rows]
        return groups[:, np.searchsorted(cells, np.arange(1, rows + 1), side="right") - 1]

    def _of_lines(self, unit: float, rows: int, cells: Ints, after: Ints, own: float) -> Floats:
        """ln V at `rows` lines, of each of `cells` and all up to before `after`. own: pJ of a bit line."""
        target, e, steps = self.target, self.target.energy, self.target.steps()
        apart = 2 if target.array.digitised == "separately" else 1
        bits = np.arange(target.adc_bits_for(1), target.adc.bits + 1)
        takes = steps * apart * (e.adc_pj + e.adc_pj_per_bit * bits + e.shift_add_pj)
        limits = np.array([target.adc_limit(int(b)) for b in bits]) * float(apart)
        slices, last = target.slices, len(self.tilts) - 1
        alike = self.chance.reshape((last + 1,) * slices)
        mean = np.array([alike[(i,) * slices] for i in range(last + 1)]) / slices
        # The tilt for each number of bits; the last is for no bit line at all.
        sums = cells[:, None, None] * mean[:last, None]
        tilt = np.argmin(self.tilts[:last, None] * limits + sums, axis=1)
        each = np.full((len(cells), last + 1), -np.inf)
        each[:, last] = 0.0
        every = np.arange(len(cells))
        for b, at in enumerate(tilt.T):
            each[every, at] = np.logaddexp(
                each[every, at], self.tilts[at] * limits[b] - (takes[b] + own) / unit
            )
        if not target.differential:  # the level for nothing between
            least = [max(1, max(0, rows - end + 1).bit_length()) for end in after.tolist()]
            way = steps * (e.adc_pj + e.adc_pj_per_bit * np.array(least) + e.shift_add_pj)
            each[:, 0] = np.logaddexp(each[:, 0], -(way + own) / unit)
        ways = each
        for _ in range(slices - 1):
            ways = (ways[:, :, None] + each[:, None, :]).reshape(len(cells), -1)
        ways = ways + cells[:, None] * self.chance
        most = ways.max(axis=1)
        return most + np.log(np.exp(ways - most[:, None]).sum(axis=1))
