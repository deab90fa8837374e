"""About what blocks of weights take, in a small part of the time that all passes over them need.

Blocks are taken with all slices side by side, their digits chosen as `recode` does and the converters fitted,
but not squeezed out. With operation units, where slices stand alone, digits are the plain ones. What this
leaves out changes all candidates alike, so it serves to say which are worth being looked at closely.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sparsecc.crossbar.encode import Encoding
from sparsecc.crossbar.recode import least_converting
from sparsecc.crossbar.tiles import Int64, Tile
from sparsecc.target.crossbar import CrossbarTarget

Floats = NDArray[np.float64]
# So many outputs at a time, for which some tens of sums are held.
_AT_ONCE = 1 << 12


def block_energies(blocks: Sequence[Tile], target: CrossbarTarget) -> Floats:
    """About the picojoules that each block takes for a vector, [blocks]."""
    e = target.energy
    if target.array.ou_rows or target.array.ou_cols:
        return np.array([_unit_energy(block, target) for block in blocks], np.float64)
    rows = np.array([b.rows for b in blocks], np.int64)
    columns = np.array([b.columns for b in blocks], np.int64)
    found = target.steps() * np.bincount(
        np.repeat(np.arange(len(blocks)), columns), _converting(blocks, rows, columns, target), len(blocks)
    )
    lines = rows * (target.steps() * e.dac_pj + e.spad_pj_per_byte + e.index_pj)
    return found + lines + columns * (8 * e.acc_pj_per_byte + target.slices * e.index_pj)


def _converting(blocks: Sequence[Tile], rows: Int64, columns: Int64, target: CrossbarTarget) -> Floats:
    """What the bit lines of each output take in a step, block after block."""
    found = np.zeros(int(columns.sum()))
    first = np.cumsum(columns) - columns
    for height in np.unique(rows).tolist():
        alike = np.flatnonzero(rows == height)
        # So many blocks at a time that their counts are not too many.
        parts = np.split(alike, np.flatnonzero(np.diff(np.cumsum(columns[alike]) // _AT_ONCE)) + 1)
        for part in parts:
            weights = np.hstack([blocks[int(i)].levels for i in part]).astype(np.int64)
            # Where the outputs of these blocks are, one block after another.
            skipped = first[part] - (np.cumsum(columns[part]) - columns[part])
            at = np.arange(weights.shape[1], dtype=np.int64) + np.repeat(skipped, columns[part])
            found[at] = least_converting(weights, target)
    return found


def _unit_energy(block: Tile, target: CrossbarTarget) -> float:
    """With operation units: each slice alone, the lines that hold something."""
    array, e, encoding = target.array, target.energy, Encoding.of(target)
    found = 0.0
    weights = block.levels.astype(np.int64)
    bits = np.abs(weights) if encoding.is_signed else weights + encoding.offset
    share, devices = 2 if array.digitised == "separately" else 1, 2 if encoding.is_signed else 1
    for shift, zero in zip(encoding.shifts, encoding.zeros, strict=True):
        levels = bits >> shift & encoding.largest_level
        held = levels != zero
        lines, outputs = held.any(axis=1), int(held.any(axis=0).sum())
        rows = int(lines.sum())
        if not rows:
            continue
        levels = levels[lines]
        starts = np.arange(0, rows, array.ou_rows or rows)
        sums = np.add.reduceat(levels, starts, axis=0)
        if not encoding.is_signed:
            sums = np.minimum(sums, target.level_max * min(rows, array.ou_rows or rows) - sums)
        adc = min(target.adc_bits_for(int(sums.max()) * (2**target.dac.bits - 1)), target.adc.bits)
        across = -(-outputs // array.ou_cols) if array.ou_cols else 1
        conversions = outputs * len(starts) * share
        step = rows * across * e.dac_pj + devices * e.array_pj * rows * outputs / (array.rows * array.cols)
        step += conversions * (target.adc_pj(adc) + e.shift_add_pj)
        moved = rows * e.spad_pj_per_byte + outputs * 8 * e.acc_pj_per_byte + (rows + outputs) * e.index_pj
        found += target.steps() * step + moved
    return found
