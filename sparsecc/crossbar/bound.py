"""A lower bound of the energy of any exact mapping of a matrix to a target's arrays.

One multiplication drives r word lines and reads q bit lines of one bit slice. It takes at least

    e(r, q, N) = steps * (r * dac / slices + devices * r * q * array share + q * conversion) + bytes,

N the cells it holds that stand for something. A driven line, and a sum that is written, is counted as if all
slices shared it, as in a bundle. Every such cell lies in some multiplication, so a slice of Z cells costs at least Z * min e(r, q, N) / N. How full
a multiplication can be is a matter of the matrix. With d_i cells on line i, N = sum d_i, sum d_i (d_i - 1)
counts for each two outputs the inputs they share, which is at most

    P(q) = the sum of the q largest (over outputs) sums of the q - 1 largest overlaps with another output,

and convexity gives N^2 / r - N <= P(q). N is also at most r * q, and at most what the r longest lines and
the q longest columns hold. Conversions of the N cells need at least q + (N - q) * beta bits together: a
column that sums to s takes at least log2(1 + s), which is concave and so above its chord from 1 to r; this
needs cells that count at least 1, flipped or not (`Cells.hard`).

Squeeze-out moves levels between slices, but each weight keeps so many cells in different slices as the best
of its exact forms has; targets that can do it are bounded by those, all slices taken together. Lossy
squeeze-out computes another matrix, and is not bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array  # pyright: ignore[reportMissingTypeStubs]

from sparsecc.cover.laws import Pattern
from sparsecc.crossbar.encode import Encoding, levels_of
from sparsecc.target.crossbar import CrossbarTarget

Bool = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# The overlaps of more outputs take too long; larger matrices are bounded without.
MOST_OUTPUTS = 2048


@dataclass(frozen=True)
class Cells:
    """Cells that have to be somewhere."""

    used: Bool
    """Crossings of an output and an input that may hold such a cell, [m, k]."""
    count: int
    """Cells; more than crossings where these have one in several slices."""
    hard: bool
    """Whether each adds at least 1 to the sum of its column, flipped or not."""


def energy_bound(pattern: Pattern, data: NDArray[np.generic], n: int, target: CrossbarTarget) -> float:
    """Picojoules of one inference of n vectors that no exact mapping goes below, transfers included."""
    e = target.energy
    weights = np.zeros((pattern.m, pattern.k), np.int8)
    weights[np.repeat(np.arange(pattern.m), np.diff(pattern.indptr)), pattern.indices] = data
    vector = sum(
        max(cells.count * _least_per_cell(cells, target) for cells in ways)
        for ways in _slices(weights, target)
    )
    used = int((weights != 0).any(axis=0).sum())
    loaded = used * (e.dram_pj_per_byte + e.spad_pj_per_byte)
    stored = 4 * pattern.m * (e.dram_pj_per_byte + e.acc_pj_per_byte)
    return n * (vector + loaded + stored)


def _slices(weights: NDArray[np.int8], target: CrossbarTarget) -> Iterator[list[Cells]]:
    """The cells of each slice, or of all together; in several ways, of which each gives a bound."""
    encoding = Encoding.of(target)
    if encoding.is_signed:
        # Every level but 0 adds its magnitude.
        count = int(_fewest_cells(encoding)[np.abs(weights.astype(np.int64))].sum())
        yield [Cells(weights != 0, count, True)]
        return
    for levels, zero in zip(levels_of(weights, encoding), encoding.zeros, strict=True):
        used = levels != zero
        hard = used & (levels != 0) & (levels != encoding.largest_level)
        yield [Cells(used, int(used.sum()), False), Cells(hard, int(hard.sum()), True)]


def _fewest_cells(encoding: Encoding) -> Ints:
    """Of each magnitude, the fewest slices that any exact form of it has cells in: plain or squeezed out."""
    magnitudes = np.arange(1 << encoding.weight_bits)
    digits = np.stack([magnitudes >> shift & encoding.largest_level for shift in encoding.shifts]) != 0
    plain = digits.sum(axis=0)
    # The top digit moves to a doubled line of the slice below, where another of the weight may be.
    fewest = np.maximum(plain - 1, (magnitudes > 0).astype(np.int64))
    even = magnitudes % 2 == 0
    fewest[even] = np.minimum(fewest[even], plain[magnitudes[even] // 2])
    return fewest


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
    return found


def _overlaps(used: Bool, columns: Ints) -> Floats:
    """P(q): the most that any q outputs overlap, each with each other, [columns]."""
    m, most = used.shape[0], int(columns[-1])
    sparse: Any = csr_array(used.astype(np.float32))
    sums = np.zeros((m, min(most, m)))  # of each output, with its 0, 1, ... largest overlaps
    for first in range(0, m, 512):
        part = cast(Floats, (sparse[first : first + 512] @ sparse.T).toarray())
        part[np.arange(len(part)), np.arange(first, first + len(part))] = 0
        kept = min(most, m) - 1
        largest = (
            -np.sort(-np.partition(part, m - kept, axis=1)[:, m - kept :], axis=1) if kept else part[:, :0]
        )
        sums[first : first + 512, 1:] = np.cumsum(largest, axis=1)
    found = np.zeros(len(columns))
    for j, q in enumerate(columns):
        with_others = np.sort(sums[:, min(q, m) - 1])[::-1]
        found[j] = with_others[:q].sum()
    return found


def _least_per_cell(cells: Cells, target: CrossbarTarget) -> float:
    """The least energy of a multiplication per cell that it holds, over all its extents."""
    if not cells.count:
        return 0.0
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
    step = (
        r * across * e.dac_pj / target.slices
        + (2 if target.differential else 1) * e.array_pj * r * q / (array.rows * array.cols)
        + conversions * (e.adc_pj + e.shift_add_pj)
        + bits * e.adc_pj_per_bit
    )
    moved = (r * e.spad_pj_per_byte + q * 4 * e.acc_pj_per_byte) / target.slices
    energy = target.steps() * step + moved
    return float((energy / np.maximum(most, 1e-12)).min())
