"""A lower bound of the energy of any exact mapping of a matrix to a target's arrays: the larger of two.

**By multiplications.** One multiplication drives r word lines and reads q bit lines of one bit slice. It
takes at least

    e(r, q, N) = steps * (r * dac / slices + devices * r * q * array share + q * conversion) + bytes,

N the cells it holds that stand for something. A driven line, and a sum that is written, is counted as if all
slices shared it, as in a bundle: that drives its lines once, and writes at least as many sums as any of its
slices has bit lines. The line may as well be split by the bit lines of the slices, which are at most those
of an array, so that r * dac / slices becomes r * dac * q / columns, or any mean of the two (`SHARES`). Every
such cell lies in some multiplication, so a slice of Z cells costs at least Z * min e(r, q, N) / N. How full
a multiplication can be is a matter of the matrix. With d_i cells on line i, N = sum d_i, sum d_i (d_i - 1)
counts for each two outputs the inputs they share, which is at most

    P(q) = the sum of the q largest (over outputs) sums of the q - 1 largest overlaps with another output,

and convexity gives N^2 / r - N <= P(q). For any vectors u, v, with E = used - u v^T and sigma its largest
singular value,

    N <= (the sum of the q largest u) * (the sum of the r largest v) + sigma * sqrt(r q)

(the expander mixing lemma, for u and v that say what is expected: the mean, or lengths of rows times lengths
of columns). N is also at most r * q, and at most what the r longest lines and the q longest columns hold.
Conversions of the N cells need at least q + (N - q) * beta bits together: a column that sums to s takes at
least log2(1 + s), which is concave and so above its chord from 1 to r; this needs cells that add at least 1
(`Cells.hard`), which with unsigned cells not all do: a level that stands for something may be 0.

**By outputs.** Let the cost of a driven line be split equally among the cells on it that stand for something.
The d cells of output j in one slice lie in p bit lines of at most R cells each. A bit line with c cells, on
lines with rho_i such cells, pays line * sum 1 / rho_i >= line * c^2 / sum rho_i (Cauchy-Schwarz). sum rho_i
counts what it and the other bit lines of its array have on its lines: at most columns * c, and at most
slices * (d_j + the sum of the largest overlaps of j with others, as many as an array has room for with all
slices), twice that where an input may have two lines (squeeze-out). The larger of the two quotients is convex
in c, so that p equal parts pay least. Their conversions take at least the fewest bits each. The least over p
is taken.

Neither says that all outputs cannot have their best partners at once, which they cannot: so the bound is some
times below what searches find, the more so the more a matrix looks like a random one.

A weight has the fewest cells of any of its exact forms in the slices of the encoding: signed digits, and
squeezed out (`fewest_cells`). Lossy squeeze-out computes another matrix, and is not bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array  # pyright: ignore[reportMissingTypeStubs]

from sparsecc.cover.laws import Pattern
from sparsecc.crossbar.encode import Encoding
from sparsecc.target.crossbar import CrossbarTarget

Bool = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# The overlaps of more outputs take too long; larger matrices are bounded without.
MOST_OUTPUTS = 2048
# How much of what drives a line is split equally among slices; the rest goes by bit lines.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Cells:
    """Cells that have to be somewhere."""

    used: Bool
    """Crossings of an output and an input that may hold such a cell, [m, k]."""
    count: int
    """Cells; more than crossings where these have one in several slices."""
    hard: bool
    """Whether each adds at least 1 to the sum of its column."""


def energy_bound(pattern: Pattern, data: NDArray[np.generic], n: int, target: CrossbarTarget) -> float:
    """Picojoules of one inference of n vectors that no exact mapping goes below, transfers included."""
    e = target.energy
    weights = np.zeros((pattern.m, pattern.k), np.int8)
    weights[np.repeat(np.arange(pattern.m), np.diff(pattern.indptr)), pattern.indices] = data
    encoding = Encoding.of(target)
    fewest = fewest_cells(encoding)[np.abs(weights.astype(np.int64))]
    cells = Cells(weights != 0, int(fewest.sum()), encoding.is_signed)
    by_multiplications = cells.count * _least_per_cell(cells, target)
    vector = max(*by_multiplications.tolist(), _by_outputs(fewest, target))
    used = int((weights != 0).any(axis=0).sum())
    loaded = used * (e.dram_pj_per_byte + e.spad_pj_per_byte)
    stored = 4 * pattern.m * (e.dram_pj_per_byte + e.acc_pj_per_byte)
    return n * (vector + loaded + stored)


@lru_cache
def fewest_cells(encoding: Encoding) -> Ints:
    """Of each magnitude, the fewest cells that any exact form of it has.

    A cell stands for a level of either sign, shifted by its slice and, on a doubled line, once more. Forms
    that would use a cell twice are counted as well, which only lowers the bound.
    """
    largest = 1 << encoding.weight_bits
    factors = (1, 2) if encoding.is_signed else (1,)
    cells = {
        sign * level * factor << shift
        for sign in (1, -1)
        for level in range(1, encoding.largest_level + 1)
        for factor in factors
        for shift in encoding.shifts
    }
    reach = 2 * max(cells)
    found = np.full(2 * reach + 1, -1)
    ends = {0}
    count = 0
    while ends:
        for value in ends:
            found[value + reach] = count
        count += 1
        sums = {value + cell for value in ends for cell in cells}
        ends = {value for value in sums if abs(value) <= reach and found[value + reach] < 0}
    return found[reach : reach + largest + 1].astype(np.int64)


def most_cells(used: Bool, rows: Ints, columns: Ints) -> Floats:
    """At least the most of `used` [m, k] that any so many inputs x so many outputs hold, [rows, columns]."""
    r, q = rows[:, None].astype(np.float64), columns[None, :].astype(np.float64)
    found = r * q
    for sizes, extents, others, axis in (
        (used.sum(axis=0), rows, columns, 0), (used.sum(axis=1), columns, rows, 1),
    ):  # fmt: skip
        longest = np.sort(sizes)[::-1].astype(np.int64)
        for j, other in enumerate(others):
            total = np.concatenate([[0], np.cumsum(np.minimum(longest, other))])
            held = total[np.minimum(extents, len(longest))]
            if axis == 0:
                found[:, j] = np.minimum(found[:, j], held)
            else:
                found[j] = np.minimum(found[j], held)
    if used.shape[0] <= MOST_OUTPUTS:
        pairs = _overlaps(used, columns)[None, :]
        found = np.minimum(found, (r + np.sqrt(r * r + 4 * r * pairs)) / 2)
    if min(used.shape) <= MOST_OUTPUTS and used.any():
        found = np.minimum(found, _mixed(used, rows, columns))
    return found


def _mixed(used: Bool, rows: Ints, columns: Ints) -> Floats:
    """The expander mixing lemma: at least the most cells of so many inputs x so many outputs."""
    levels = used.astype(np.float64)
    m, k = used.shape
    mean, lengths = levels.mean(), np.sqrt(levels.sum())
    expected = (
        (np.full(m, mean), np.ones(k)),
        (levels.sum(axis=1) / lengths, levels.sum(axis=0) / lengths),
    )
    found = np.full((len(rows), len(columns)), np.inf)
    for u, v in expected:
        rest = levels - np.outer(u, v)
        narrow = rest if m <= k else rest.T
        # A little more than the largest singular value, for rounding.
        sigma = (1 + 1e-6) * np.sqrt(max(0.0, float(np.linalg.eigvalsh(narrow @ narrow.T)[-1]))) + 1e-6
        tops = [np.cumsum(np.sort(part)[::-1])[np.minimum(extents, len(part)) - 1]
                for part, extents in ((v, rows), (u, columns))]  # fmt: skip
        area = rows[:, None].astype(np.float64) * columns[None, :]
        found = np.minimum(found, np.outer(*tops) + sigma * np.sqrt(area))
    return found


def _by_outputs(fewest: Ints, target: CrossbarTarget) -> float:
    """The bound from the bit lines of each output on its own: see the second part of the module's words."""
    array, e, encoding = target.array, target.energy, Encoding.of(target)
    used = fewest > 0
    if array.ou_rows or array.ou_cols or array.digitised == "separately" or len(used) > MOST_OUTPUTS:
        return 0.0
    tallest, widest = (max(extents) for extents in zip(*array.shapes, strict=True))
    outputs = -(-widest // target.slices)
    near = used.sum(axis=1) + _largest_overlaps(used, outputs)[:, -1]
    if encoding.is_signed:  # an input may have two lines
        near = 2 * near
    cells, lines = fewest.sum(axis=1), fewest.max(axis=1, initial=0)
    line = target.steps() * e.dac_pj + e.spad_pj_per_byte
    cell = target.steps() * (2 if target.differential else 1) * e.array_pj / (array.rows * array.cols)
    conversion = target.adc_pj(target.adc_bits_for(1)) + e.shift_add_pj
    best = np.where(cells > 0, np.inf, 0.0)
    for parts in range(1, int(cells.max(initial=0)) + 1):
        each = cells / parts
        together = np.maximum(np.minimum(target.slices * near, widest * each), 1e-12)
        energy = (
            parts * (target.steps() * conversion + line * each**2 / together)
            + parts * 4 * e.acc_pj_per_byte / _bit_lines(target)
            + cells * cell
        )
        best = np.where((parts >= lines) & (each <= tallest), np.minimum(best, energy), best)
    return float(best.sum())


def _bit_lines(target: CrossbarTarget) -> int:
    """Of an output in one array, at most: a slice each; offset, the top one may have one for each sign."""
    return target.slices + (0 if target.differential else 1)


def _largest_overlaps(used: Bool, most: int) -> Floats:
    """Of each output, the sum of its 0, 1, .. most - 1 largest overlaps with others, [m, min(most, m)]."""
    m = used.shape[0]
    sparse: Any = csr_array(used.astype(np.float32))
    sums = np.zeros((m, min(most, m)))
    for first in range(0, m, 512):
        part = cast(Floats, (sparse[first : first + 512] @ sparse.T).toarray())
        part[np.arange(len(part)), np.arange(first, first + len(part))] = 0
        kept = min(most, m) - 1
        largest = (
            -np.sort(-np.partition(part, m - kept, axis=1)[:, m - kept :], axis=1) if kept else part[:, :0]
        )
        sums[first : first + 512, 1:] = np.cumsum(largest, axis=1)
    return sums


def _overlaps(used: Bool, columns: Ints) -> Floats:
    """P(q): the most that any q outputs overlap, each with each other, [columns]."""
    m = used.shape[0]
    sums = _largest_overlaps(used, int(columns[-1]))
    found = np.zeros(len(columns))
    for j, q in enumerate(columns):
        with_others = np.sort(sums[:, min(q, m) - 1])[::-1]
        found[j] = with_others[:q].sum()
    return found


def _least_per_cell(cells: Cells, target: CrossbarTarget) -> Floats:
    """The least energy of a multiplication per cell that it holds, over all its extents, by SHARES."""
    if not cells.count:
        return np.zeros(len(SHARES))
    array, e = target.array, target.energy
    m, k = cells.used.shape
    # Squeeze-out gives an input two lines.
    rows = np.arange(1, min(max(r for r, _ in array.shapes), k * (2 if target.differential else 1)) + 1)
    columns = np.arange(1, min(max(c for _, c in array.shapes), m) + 1)
    most = most_cells(cells.used, rows, columns)
    r, q = rows[:, None].astype(np.float64), columns[None, :].astype(np.float64)
    down = np.ceil(r / array.ou_rows) if array.ou_rows else np.ones_like(r)
    across = np.ceil(q / array.ou_cols) if array.ou_cols else np.ones_like(q)
    apart = array.digitised == "separately"
    conversions = q * down * (2 if apart else 1)
    least_bits = target.adc_bits_for(1)
    bits = conversions * least_bits
    if cells.hard and not apart and not array.ou_rows:
        slope = (np.log2(1 + r) - 1) / np.maximum(r - 1, 1)
        bits = bits + np.maximum(most - q, 0) * slope
    widest = max(c for _, c in array.shapes)
    shares = [part / target.slices + (1 - part) * q / widest for part in SHARES]
    step = (
        (2 if target.differential else 1) * e.array_pj * r * q / (array.rows * array.cols)
        + conversions * (e.adc_pj + e.shift_add_pj)
        + bits * e.adc_pj_per_bit
    )
    line = target.steps() * across * e.dac_pj + e.spad_pj_per_byte
    others = target.steps() * step + q * 4 * e.acc_pj_per_byte / _bit_lines(target)
    return np.array(
        [((r * line * share + others) / np.maximum(most, 1e-12)).min() for share in shares], np.float64
    )
