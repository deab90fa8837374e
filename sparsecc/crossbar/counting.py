"""A bound by counting: what nearly no matrix of the same lengths of rows and columns can be mapped below.

A mapping tells where the nonzeros are. There are 2^H patterns with the given numbers of nonzeros in rows and
columns, and far fewer mappings of little energy; so at most a share of 2^-DOUBT of these matrices has such a
mapping. A mapping here is a set of tiles; a tile is any r <= R word lines and q outputs, each of which has
any c of the lines' weights, with all their digits, at most one bit line for each slice (or, in offset cells,
two of opposite sign), and the tile at most C bit lines in all. Digits are any exact signed ones. So all that
`sparsecc.crossbar` makes is among them, save squeeze-out and slices that are read apart from each other.

**Sum over mappings.** Let a mapping's tiles take E_t, and P be the chance that values drawn independently,
with the frequencies of the matrix's own, fit the bits of its bit lines. For any l > 0 and u, the expected
number of patterns of N nonzeros with a mapping below E is at most

    sum over mappings of P 2^((E - sum E_t) / l) = 2^((E - u N) / l) * sum over mappings of product of w_t,
    w_t = P_t 2^((u cells_t - E_t) / l),

for their cells are N. A mapping is a set of tiles: with W = sum of w_t over all tiles there are, the last
sum is at most the product of all 1 + w_t, and so e^W. Below E = l (H - DOUBT - W / ln 2) + u N, at most a
share of 2^-DOUBT has a mapping. l, u and W are the best that are found; any give a bound.

**W** is the sum over r and q of C(k, r) C(m, q) 2^(-lines / l) G^q, G the sum over c of
C(r, c) 2^(u c / l) V, V over the ways to read an output. As bit lines are at most C, any part of what lines
take may be charged to bit lines (`SHARES`); as each line has a weight, each may count for less, and each
weight for more (`USED`).

**V.** The sum of c digits of a slice is below a limit L by the bits of its bit line. By Chernoff, for any
t_s >= 0, all are with a chance of at most

    exp(sum of t_s L_s) * (mean over values of the largest exp(- sum of t_s |digit_s|) of its forms)^c;

t = infinity where a slice has no bit line. Two bit lines of opposite sign take at least the bits of their
sum on one. Where the level for nothing is neither the lowest nor the highest, every other word line adds at
least 1 to the sum.

**H.** The least of product(1 + x_i y_j) / (product of x_i^row_i y_j^column_j) counts the patterns from
above, and times C(d, a) (a/d)^a (1 - a/d)^(d - a) over all rows and columns, of a nonzeros in d, from below:
Gurvits, On multivariate Newton-like inequalities, 2009.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special  # pyright: ignore[reportMissingTypeStubs]

from sparsecc.cover.laws import Pattern
from sparsecc.crossbar.encode import Encoding
from sparsecc.target.crossbar import CrossbarTarget

_optimize, _special = cast(Any, optimize), cast(Any, special)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Of 2^DOUBT matrices, one may be below.
DOUBT = 64
# W of the bound.
WEIGHT = 50.0
# t of the Chernoff bound, by slices; the last stands for infinity.
TILTS = {True: (0.0, 0.03, 0.1, 0.2, 0.4, 0.8, 60.0), False: (0.0, 0.3, 1.0, 60.0)}
FEW_SLICES = 4
# What part of the lines' energy is charged to bit lines; above 1, tiles of fewer bit lines get some back.
SHARES = (0.0, 0.5, 1.0, 2.0, 4.0)
# Every line of a tile has one of its weights: what a weight more than there are lines may count, and a line
# less, as a logarithm.
USED = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0)
# Word lines are charged as the first of their group.
GROUP = 8


def counting_bound(pattern: Pattern, data: NDArray[np.generic], n: int, target: CrossbarTarget) -> float:
    """Picojoules of one inference of n vectors, transfers included; 0 for targets with operation units."""
    array, e = target.array, target.energy
    if array.ou_rows or array.ou_cols or not len(data):
        return 0.0
    rows, columns = np.diff(pattern.indptr), np.bincount(pattern.indices, minlength=pattern.k)
    rows, columns = rows[rows > 0].astype(np.int64), columns[columns > 0].astype(np.int64)
    bits = pattern_bits(rows, columns) - DOUBT - WEIGHT / np.log(2)
    slots = _Slots.of(data, target)
    sum_of_tiles = _Tiles(len(rows), len(columns), slots)

    def negative(logarithm: float) -> float:
        per_bit = float(np.exp(logarithm))
        return -(per_bit * bits + sum_of_tiles.per_cell(per_bit) * len(data))

    found = _optimize.minimize_scalar(negative, bounds=(np.log(0.02), np.log(4.0)), method="bounded",
                            options={"maxiter": 14})  # fmt: skip
    vector = max(0.0, -float(found.fun))
    loaded = len(columns) * (e.dram_pj_per_byte + e.spad_pj_per_byte)
    stored = 4 * pattern.m * (e.dram_pj_per_byte + e.acc_pj_per_byte)
    return n * (vector + loaded + stored)


def _choices(n: Floats | Ints | int, k: Floats | Ints) -> Floats:
    """Natural logarithm of n over k."""
    return (
        _special.gammaln(np.asarray(n) + 1.0)
        - _special.gammaln(np.asarray(k) + 1.0)
        - _special.gammaln(np.asarray(n) - k + 1.0)
    )


def _log_sum(logarithms: Floats) -> Floats:
    """Logarithm of the sum of each row, none of which is all 0."""
    most = logarithms.max(axis=1)
    return most + np.log(np.exp(logarithms - most[:, None]).sum(axis=1))


def pattern_bits(rows: Ints, columns: Ints) -> float:
    """At most the logarithm to base 2 of the number of patterns with these lengths, all above 0."""
    m, k = len(rows), len(columns)
    a, b = np.log((rows + 0.5) / (k - rows + 0.5)), np.zeros(k)
    off, p = np.inf, np.zeros((m, k))
    for _ in range(1000):
        for own, lengths, axis in ((b, columns, 0), (a, rows, 1)):
            p = 1 / (1 + np.exp(-(a[:, None] + b)))
            spread = np.maximum((p * (1 - p)).sum(axis=axis), 1e-9)
            own += np.clip((lengths - p.sum(axis=axis)) / spread, -1, 1)
            np.clip(own, -30, 30, out=own)
        p = 1 / (1 + np.exp(-(a[:, None] + b)))
        before, off = off, float(np.abs(p.sum(axis=1) - rows).sum() + np.abs(p.sum(axis=0) - columns).sum())
        if off >= before or off < 1e-6:
            break
    most = np.logaddexp(0, a[:, None] + b).sum() - (a * rows).sum() - (b * columns).sum()
    # The least is not below by more than what the lengths are off, times how far a and b may be.
    most -= 60 * off
    for lengths, extent in ((rows, k), (columns, m)):
        part = lengths / extent
        one = _choices(extent, lengths.astype(np.float64)) + lengths * np.log(part)
        most += (one + (extent - lengths) * np.log(np.where(part < 1, 1 - part, 1.0))).sum()
    return float(most / np.log(2))


@dataclass(frozen=True)
class _Slots:
    """The ways to read the weights of an output in a tile."""

    target: CrossbarTarget
    tilts: Floats
    chance: Floats
    """Logarithm of the mean in V, for each choice of a tilt for each slice, [tilts^slices]."""

    @staticmethod
    def of(data: NDArray[np.generic], target: CrossbarTarget) -> _Slots:
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
        return _Slots(target, tilts, np.log(np.maximum(np.concatenate(means), 1e-300)))

    def value(self, per_bit: float, share: float, rows: int, cells: Ints, next_cells: Ints) -> Floats:
        """Logarithm of V at `rows` lines, of each of `cells` and all up to before `next_cells`."""
        target, array, e = self.target, self.target.array, self.target.energy
        unit, steps = per_bit / np.log(2), target.steps()
        apart = 2 if array.digitised == "separately" else 1
        devices = 2 if target.differential else 1
        bits = np.arange(target.adc_bits_for(1), target.adc.bits + 1)
        takes = steps * apart * (e.adc_pj + e.adc_pj_per_bit * bits + e.shift_add_pj)
        limits = np.array([target.adc_limit(int(b)) for b in bits]) * float(apart)
        line = steps * e.dac_pj + e.spad_pj_per_byte
        own = steps * devices * rows * e.array_pj / (array.rows * array.cols)
        own += share * rows * line / max(c for _, c in array.shapes)
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
            least = [max(1, max(0, rows - after + 1).bit_length()) for after in next_cells.tolist()]
            way = steps * (e.adc_pj + e.adc_pj_per_bit * np.array(least) + e.shift_add_pj)
            each[:, 0] = np.logaddexp(each[:, 0], -(way + own) / unit)
        ways = each
        for _ in range(slices - 1):
            ways = (ways[:, :, None] + each[:, None, :]).reshape(len(cells), -1)
        ways = ways + cells[:, None] * self.chance
        return _log_sum(ways)


@dataclass(frozen=True)
class _Tiles:
    """All tiles there are of m outputs and k inputs."""

    m: int
    k: int
    slots: _Slots

    def per_cell(self, per_bit: float) -> float:
        """The largest u with W <= `WEIGHT`."""
        target = self.slots.target
        array, e, unit = target.array, target.energy, per_bit / np.log(2)
        tallest, widest = max(r for r, _ in array.shapes), max(c for _, c in array.shapes)
        most = min(tallest, self.k)
        rows, outputs = np.arange(1, most + 1), np.arange(1, min(widest, self.m) + 1)
        starts = np.unique(np.concatenate([np.arange(1, 25), np.arange(25, most + 1, 4)]))
        starts = starts[starts <= most]
        cells = np.arange(1, most + 1)
        group = np.searchsorted(starts, cells, side="right") - 1
        line = target.steps() * e.dac_pj + e.spad_pj_per_byte
        ways: list[Floats] = []
        for share in SHARES:
            value = np.concatenate([
                np.repeat(
                    self.slots.value(per_bit, share, first, starts, np.append(starts[1:], most + 1))[None],
                    len(rows[first - 1 : first - 1 + GROUP]), axis=0,
                )
                for first in range(1, most + 1, GROUP)
            ])  # fmt: skip
            ways.append(value[:, group])
        inside = _choices(rows[:, None], np.minimum(cells, rows[:, None]))
        inside = np.where(cells <= rows[:, None], inside, -np.inf)
        charged = (rows - 1) // GROUP * GROUP + 1  # to bit lines, a part of these
        first = _choices(self.k, rows) - (rows - np.array(SHARES)[:, None] * charged) * line / unit
        some = _choices(self.m, outputs)
        sums = 4 * e.acc_pj_per_byte / unit

        def logarithm(u: float) -> float:
            least = np.full((len(rows), len(outputs)), np.inf)
            for lead, value in zip(first, ways, strict=True):
                for used in USED:
                    output = _log_sum(inside + value + (u / unit + used) * cells) - sums
                    total = (lead - used * rows)[:, None] + some + output[:, None] * outputs
                    least = np.minimum(least, total)
            return float(_log_sum(least.reshape(1, -1))[0])

        low, high = -100.0, 100.0
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if logarithm(middle) <= np.log(WEIGHT) else (low, middle)
        return low
