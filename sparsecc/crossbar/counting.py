"""A bound by counting: what nearly no matrix of the same lengths of rows and columns can be mapped below.

A mapping tells where the nonzeros are. There are 2^H patterns with the given numbers of nonzeros in rows and
columns, and far fewer mappings of little energy; so of all matrices with these lengths and these weights, in
any places, at most a share of 2^-DOUBT has such a mapping. A mapping here is a set of tiles; a tile is any
r <= R word lines and q outputs, each of which has any c of the lines' weights, with all their digits, and the
tile at most C bit lines in all. So all that `sparsecc.crossbar` makes is among them, save squeeze-out and
slices that are read apart from each other. The ways to read an output are those of `sparsecc.crossbar.ways`.

**Sum over mappings.** Let a mapping's tiles take E_t, and P be the chance that weights drawn independently
fit the bits of its bit lines. For any l > 0 and u, the expected number of patterns of N nonzeros with a
mapping below E is at most

    sum over mappings of P 2^((E - sum E_t) / l) = 2^((E - u N) / l) * sum over mappings of product of w_t,
    w_t = P_t 2^((u cells_t - E_t) / l),

for their cells are N. A mapping is a set of tiles: with W = sum of w_t over all tiles there are, the last
sum is at most the product of all 1 + w_t, and so e^W. Below E = l (H - DOUBT - charge - W / ln 2) + u N, at
most a share of 2^-DOUBT has a mapping. charge: weights drawn independently are these very weights, in some
places, with a chance of 2^-charge. Any l and u give a bound; the best that are found are taken.

**Dear tiles.** Many tiles of few weights say the same as few of many others. So tiles of e and more for each
weight are not told apart: all that counts is which of the m k places they cover, with at least e for each,
which puts m k log2(1 + 2^((u - e) / l)) in place of their part of W / ln 2. For the others, that they are
below e, cells_t e - E_t > 0, allows w_t to be multiplied by 2^(x (cells_t e - E_t) / l) for any x >= 0: then
it is as if l were l / (1 + x), and u were (u + x e) / (1 + x).

**W** is the sum over r and q of C(k, r) C(m, q) 2^(-lines / l) G^q, G the sum over c of
C(r, c) 2^(u c / l) V, V over the ways to read an output. As bit lines are at most C, any part of what lines
take may be charged to bit lines (`SHARES`). A tile whose lines and outputs fall apart, with no weight that
joins the parts, is two tiles of no more energy: only tiles in one piece count, which have at least r + q - 1
weights; so any weight more may count for more, as lines and outputs count for less (`USED`).

**H.** The least of product(1 + x_i y_j) / (product of x_i^row_i y_j^column_j) counts the patterns from
above, and times C(d, a) (a/d)^a (1 - a/d)^(d - a) over all rows and columns, of a nonzeros in d, from below:
Gurvits, On multivariate Newton-like inequalities, 2009.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import special  # pyright: ignore[reportMissingTypeStubs]

from sparsecc.cover.laws import Pattern
from sparsecc.crossbar.ways import Ways, ways_of
from sparsecc.target.crossbar import CrossbarTarget

_special = cast(Any, special)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Of 2^DOUBT matrices, one may be below.
DOUBT = 64
# l is a power of this, in pJ for each bit.
RATIO = 2 ** (1 / 6)
FIRST, STRIDES, LEAST, MOST = -3, (6, 2, 1), -40, 18
# 1 + x, as powers of RATIO.
APART = (0, 2, 4, 8)
# e, by what part of the nonzeros dear tiles cover in the sum over mappings.
DEAR = (0.002, 0.01, 0.05)
# What part of the lines' energy is charged to bit lines; above 1, tiles of fewer bit lines get some back.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
# What a weight more than a tile has to have may count, as a logarithm.
USED = (0.0, 0.5, 1.0, 2.0, 3.0)
# Steps that look for u.
STEPS = 20
GOLDEN = (5**0.5 - 1) / 2


def counting_bound(pattern: Pattern, data: NDArray[np.generic], n: int, target: CrossbarTarget) -> float:
    """Picojoules of one inference of n vectors, transfers included; 0 for targets with operation units."""
    array, e = target.array, target.energy
    if array.ou_rows or array.ou_cols or not len(data):
        return 0.0
    rows, columns = np.diff(pattern.indptr), np.bincount(pattern.indices, minlength=pattern.k)
    rows, columns = rows[rows > 0].astype(np.int64), columns[columns > 0].astype(np.int64)
    ways = ways_of(data, target)
    bits = pattern_bits(rows, columns) - DOUBT - ways.charge
    vector = _Mappings(len(rows), len(columns), len(data), bits, ways, target).least()
    loaded = len(columns) * (e.dram_pj_per_byte + e.spad_pj_per_byte)
    stored = 4 * pattern.m * (e.dram_pj_per_byte + e.acc_pj_per_byte)
    return n * (max(0.0, vector) + loaded + stored)


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


class _Mappings:
    """All mappings of patterns of so many nonzeros in m x k."""

    def __init__(self, m: int, k: int, count: int, bits: float, ways: Ways, target: CrossbarTarget):
        """bits: what a pattern and its weights need to be told."""
        self.m, self.k, self.count, self.bits, self.ways, self.target = m, k, count, bits, ways, target
        self.tiles = cache(self._tiles)
        self.bound = cache(self._bound)

    def least(self) -> float:
        """Picojoules of one vector, without transfers: the best bound that is found."""
        at = FIRST
        for stride in STRIDES:
            while True:
                near = [i for i in (at - stride, at, at + stride) if LEAST <= i <= MOST]
                best = max(near, key=self.bound)
                if best == at:
                    break
                at = best
        return self.bound(at)

    def _bound(self, power: int) -> float:
        """The best with l = RATIO^power."""
        per_bit, places = RATIO**power, self.m * self.k
        tiles = [(RATIO**apart - 1, self.tiles(power - apart)) for apart in APART]
        found = 0.0
        for part in DEAR:
            above = per_bit * np.log2(places / (part * self.count))

            def at(u: float, above: float = above) -> float:
                dear = max(0.0, u + above)
                logarithms = [of((u + x * dear) / (1 + x)) for x, of in tiles]
                most = np.minimum.reduce(logarithms)
                if most.max() > 600:
                    return -1e200 * (1 + u - low)
                weight = np.exp(most).sum() + places * np.log1p(2 ** ((u - dear) / per_bit))
                return float(per_bit * (self.bits - weight / np.log(2)) + u * self.count)

            low, high = -per_bit * max(0.0, self.bits) / self.count - 1e-3, self._dearest()
            found = max(found, _most(at, low, high))
        return found

    def _dearest(self) -> float:
        """At least what the cheapest tile of one weight takes: u is not above by much."""
        target, e, array = self.target, self.target.energy, self.target.array
        conversion = 2 * (target.adc_pj(target.adc.bits) + e.shift_add_pj) + 2 * e.array_pj / array.cols
        line = target.steps() * e.dac_pj + e.spad_pj_per_byte
        return line + 4 * e.acc_pj_per_byte + target.steps() * (target.slices + 1) * conversion

    def _tiles(self, power: int) -> Callable[[float], Floats]:
        """Of u, the logarithm of the sum of w_t over tiles of r lines and q outputs, [r, q]."""
        target, array, e = self.target, self.target.array, self.target.energy
        unit = RATIO**power / np.log(2)
        tallest, widest = max(r for r, _ in array.shapes), max(c for _, c in array.shapes)
        rows = cells = np.arange(1, min(tallest, self.k) + 1)
        outputs = np.arange(1, min(widest, self.m) + 1)
        line = target.steps() * e.dac_pj + e.spad_pj_per_byte
        inside = _choices(rows[:, None], np.minimum(cells, rows[:, None]))
        inside = np.where(cells <= rows[:, None], inside, -np.inf)
        ways = [inside + self.ways.logarithm(unit, len(rows), share * line / widest) for share in SHARES]
        charged = self.ways.charged(len(rows))  # to bit lines, a part of these
        first = _choices(self.k, rows) - (rows - np.array(SHARES)[:, None] * charged) * line / unit
        some, sums = _choices(self.m, outputs), 4 * e.acc_pj_per_byte / unit

        def logarithms(u: float) -> Floats:
            least = np.full((len(rows), len(outputs)), np.inf)
            for lead, value in zip(first, ways, strict=True):
                for used in USED:
                    output = _log_sum(value + (u / unit + used) * cells) - sums - used
                    total = (lead - used * (rows - 1))[:, None] + some + output[:, None] * outputs
                    least = np.minimum(least, total)
            return least

        return logarithms


def _most(of: Callable[[float], float], low: float, high: float) -> float:
    """The most that is found of a concave function between these, by golden sections."""
    ends = [high - GOLDEN * (high - low), low + GOLDEN * (high - low)]
    found = [of(u) for u in ends]
    best = max(found)
    for _ in range(STEPS):
        if found[0] < found[1]:
            low, ends[0], found[0] = ends[0], ends[1], found[1]
            ends[1] = low + GOLDEN * (high - low)
            found[1] = of(ends[1])
        else:
            high, ends[1], found[1] = ends[1], ends[0], found[0]
            ends[0] = high - GOLDEN * (high - low)
            found[0] = of(ends[0])
        best = max(best, *found)
    return best
