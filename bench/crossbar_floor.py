"""The least energy that any exact mapping to arrays can take: what no order, cover or packing goes below.

A tile of r word lines and c bit lines of one slice, whose cells sum to S, costs

    f(r, c, S) = steps * (r * dac + devices * rc * array + c * (adc(b) + shift_add)) + bytes,

with b >= log2(1 + S / c), since the largest sum of a bit line is no less than the mean (digits of 1 bit and
no operation units; else b is taken as 1). In the top slice of the offset encoding an empty cell holds a level
of its own, whether the bit line is flipped or not, so that b >= log2(1 + r - S / c), too. All tiles of a
slice hold together what the slice holds, so the slice costs at least its sum times the least f / S. How large
S can be is a matter of the matrix: with A its levels, p their mean and sigma the largest singular value of
A - p, any r x c of it has S <= p r c + sigma sqrt(r c) (the expander mixing lemma) and S <= the highest level
* r c. That is proven, but not tight; `densest_tiles` gives the largest S that a search finds instead.

Squeeze-out trades slices for lines and is left out: on targets where it applies the floor is one of mappings
without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.crossbar.encode import Encoding, levels_of
from sparsecc.target.crossbar import CrossbarTarget

Floats = NDArray[np.float64]
# Largest sums that tiles of so many word lines and bit lines have, for each slice.
Largest = Mapping[int, Floats]

STARTS = 6
ROUNDS = 12


def magnitudes(matrix: NDArray[np.int8], target: CrossbarTarget) -> list[Floats]:
    """What each slice's levels stand for, [inputs, outputs], without sign."""
    encoding = Encoding.of(target)
    levels = levels_of(matrix.T.copy(), encoding).astype(np.float64)
    return [np.abs(part - zero) for part, zero in zip(levels, encoding.zeros, strict=True)]


def grid(limit: int) -> NDArray[np.int64]:
    """Extents of tiles that are tried: every one up to 32, then every fourth."""
    return np.unique(np.r_[1 : min(limit, 32) + 1, np.arange(36, limit + 1, 4), limit])


def proven_sums(levels: Floats, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Floats:
    """The most that tiles of these extents can sum to, [rows, columns]."""
    mean = levels.mean()
    rest = levels - mean
    narrow = rest if rest.shape[0] <= rest.shape[1] else rest.T
    sigma = float(np.sqrt(np.linalg.eigvalsh(narrow @ narrow.T)[-1]))
    area = rows[:, None] * columns[None, :].astype(np.float64)
    return np.minimum(mean * area + sigma * np.sqrt(area), levels.max() * area)


def densest_tiles(matrix: NDArray[np.int8], target: CrossbarTarget) -> dict[int, Floats]:
    """The largest sums of tiles that alternating maximisation finds, [rows, columns] for each slice.

    From several starts: the outputs that a set of inputs sums most in, then the inputs, and again.
    """
    found: dict[int, Floats] = {}
    for number, levels in enumerate(magnitudes(matrix, target)):
        rows, columns = _extents(levels, target)
        best = np.zeros((len(rows), len(columns)))
        rng = np.random.default_rng(number)
        for j in _sampled(columns):
            for _ in range(STARTS):
                chosen = rng.choice(levels.shape[1], int(columns[j]), replace=False)
                for _ in range(ROUNDS):
                    lines = np.argsort(-levels[:, chosen].sum(axis=1), kind="stable")[: int(rows[-1])]
                    chosen = np.argsort(-levels[lines].sum(axis=0), kind="stable")[: int(columns[j])]
                sums = np.sort(levels[:, chosen].sum(axis=1))[::-1].cumsum()
                best[:, j] = np.maximum(best[:, j], sums[rows - 1])
        # Between the extents tried, a tile is as full as the next narrower one.
        for j in range(len(columns)):
            if not best[:, j].any():
                best[:, j] = best[:, j - 1] / columns[j - 1] * columns[j]
        found[number] = best
    return found


def _sampled(columns: NDArray[np.int64]) -> list[int]:
    """Powers of two and the last."""
    powers = [int(np.searchsorted(columns, 1 << i)) for i in range(int(columns[-1]).bit_length())]
    return sorted({*(p for p in powers if p < len(columns)), len(columns) - 1})


def _extents(levels: Floats, target: CrossbarTarget) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rows = max(r for r, _ in target.array.shapes)
    columns = max(c for _, c in target.array.shapes)
    return grid(min(rows, levels.shape[0])), grid(min(columns, levels.shape[1]))


def least_energy(
    matrix: NDArray[np.int8], target: CrossbarTarget, n: int, sums: Largest | None = None
) -> float:
    """Picojoules of n vectors below which no mapping goes; with `sums`, none of tiles no fuller."""
    e = target.energy
    total = 0.0
    for number, levels in enumerate(magnitudes(matrix, target)):
        if not levels.any():
            continue
        rows, columns = _extents(levels, target)
        most = sums[number] if sums is not None else proven_sums(levels, rows, columns)
        held = Encoding.of(target).zeros[number] > 0
        total += levels.sum() * _least_per_level(most, rows, columns, target, held)
    m = len(matrix)
    used = int(matrix.any(axis=0).sum())
    # Every output is stored; inputs that are used are loaded.
    transfer = used * (e.dram_pj_per_byte + e.spad_pj_per_byte) + 4 * m * (
        e.dram_pj_per_byte + e.acc_pj_per_byte
    )
    return n * (total + transfer)


def _least_per_level(
    most: Floats, rows: NDArray[np.int64], columns: NDArray[np.int64], target: CrossbarTarget, held: bool
) -> float:
    """The least f / S over extents and sums. held: whether empty cells hold a level."""
    array, e = target.array, target.energy
    r, c = rows[:, None].astype(np.float64), columns[None, :].astype(np.float64)
    devices = 2 if target.differential else 1
    down = np.ceil(r / array.ou_rows) if array.ou_rows else np.ones_like(r)
    across = np.ceil(c / array.ou_cols) if array.ou_cols else np.ones_like(c)
    share = 2 if array.digitised == "separately" else 1
    found = np.inf
    for bits in range(1, target.adc.bits + 1):
        fits: Any = most if array.ou_rows else np.minimum(most, c * (2.0**bits - 1))
        converted = c * down * share
        step = (
            r * across * e.dac_pj
            + devices * e.array_pj * r * c / (array.rows * array.cols)
            + converted * (target.adc_pj(bits) + e.shift_add_pj)
        )
        if held and not array.ou_rows:
            fits = np.where(r - fits / c <= 2.0**bits - 1, fits, 0.0)
        moved = r * e.spad_pj_per_byte + c * 4 * e.acc_pj_per_byte + (r + c) * e.index_pj
        found = min(found, float(((target.steps() * step + moved) / np.maximum(fits, 1e-12)).min()))
        if array.ou_rows:
            break
    return found
