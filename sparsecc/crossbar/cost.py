"""What tiles take: arrays, conversions, cycles and energy, by the simulator's own formulas.

Per tile and vector (accelerators.md C3; the simulator counts the same):

    steps       digits of an input, one more where lines are doubled
    conversions bit lines x operation-unit rows, twice where the devices of a pair are digitised apart
    T           the longer of the array's read and the conversions of a step on the converters
    energy      steps * (lines * dac + devices * array share + conversions * (adc(bits) + shift_add))
                + bytes of inputs and sums + rows by index

Tiles of a wave are read at once, waves one after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from sparsecc.crossbar.adc import bits_needed
from sparsecc.crossbar.tiles import Tile
from sparsecc.target.crossbar import CrossbarTarget


@dataclass(frozen=True)
class Cost:
    """Of one inference of n vectors, and of the programming before."""

    arrays: int
    conversions: int
    mvm_cycles: float
    """Of all waves, without the transfers."""
    cycles: float
    energy_pj: float
    program_cycles: float
    program_energy_pj: float
    cells: int
    """Cells that are programmed."""


def adc_bits(tile: Tile, target: CrossbarTarget) -> int:
    """The bits a tile is read with: its own choice, or the target's."""
    return tile.adc_bits or target.adc.bits


def fitted_bits(tile: Tile, target: CrossbarTarget) -> int:
    """The fewest bits that cannot clip, or the target's where even these may."""
    return min(bits_needed(tile, target), target.adc.bits)


def units(tile: Tile, target: CrossbarTarget) -> tuple[int, int]:
    """Operation units of a tile: (along the word lines, along the bit lines)."""
    array = target.array
    down = ceil(tile.rows / array.ou_rows) if array.ou_rows else 1
    across = ceil(tile.columns / array.ou_cols) if array.ou_cols else 1
    return down, across


def conversions(tile: Tile, target: CrossbarTarget) -> int:
    """Conversions of one step."""
    return tile.columns * units(tile, target)[0] * (2 if target.array.digitised == "separately" else 1)


def steps_of(tile: Tile, target: CrossbarTarget) -> int:
    return target.steps(doubled=tile.doubled is not None and bool(tile.doubled.any()))


def step_cycles(tile: Tile, target: CrossbarTarget) -> float:
    """T: cycles between the starts of two steps."""
    down, across = units(tile, target)
    each = ceil(conversions(tile, target) / (down * across * target.adc.lanes))
    one = each * target.adc_cycles(adc_bits(tile, target)) * target.adc.arrays
    return down * across * max(target.array.read_cycles, one)


def tile_cycles(tile: Tile, target: CrossbarTarget, n: int) -> float:
    """Of an MVM of n vectors."""
    pipeline, t = target.pipeline, step_cycles(tile, target)
    rows = tile.rows + tile.columns
    more = pipeline.io_cycles + pipeline.index_cycles * rows
    return n * (steps_of(tile, target) * t + more) + max(0, pipeline.stages - 1) * t


def tile_energy(tile: Tile, target: CrossbarTarget) -> float:
    """Picojoules of one vector."""
    array, e = target.array, target.energy
    devices = 2 if target.differential else 1
    converted = conversions(tile, target)
    step = (
        tile.rows * units(tile, target)[1] * e.dac_pj
        + devices * e.array_pj * tile.rows * tile.columns / (array.rows * array.cols)
        + converted * (target.adc_pj(adc_bits(tile, target)) + e.shift_add_pj)
    )
    moved = tile.rows * e.spad_pj_per_byte + tile.columns * 8 * e.acc_pj_per_byte
    return steps_of(tile, target) * step + moved + (tile.rows + tile.columns) * e.index_pj


def cost(
    tiles: Sequence[Tile],
    target: CrossbarTarget,
    shape: tuple[int, int, int],
    waves: Sequence[int] | None = None,
) -> Cost:
    """The cost of these tiles. shape: (m, n, k); waves: when each tile is read, all at once if left out."""
    m, n, k = shape
    e, program = target.energy, target.program
    when = np.zeros(len(tiles), np.int64) if waves is None else np.asarray(waves)
    longest = np.zeros(int(when.max(initial=-1)) + 1)
    np.maximum.at(longest, when, [tile_cycles(t, target, n) for t in tiles])
    mvm = float(longest.sum())
    width = target.dma.bytes_per_cycle
    # X is loaded once, all of it, and Y stored once.
    transfer = k * ceil(n / width) + m * ceil(4 * n / width) + 2 * target.dma.latency
    off_chip = (k * n + 4 * m * n) * e.dram_pj_per_byte
    on_chip = k * n * e.spad_pj_per_byte + 4 * m * n * e.acc_pj_per_byte
    own = [t for t in tiles if t.image < 0]
    cells = sum(t.levels.size for t in own)
    devices = 2 if target.differential else 1
    lines = sorted((t.rows for t in own), reverse=True)[:: max(1, program.lanes)]
    return Cost(
        arrays=len({t.array for t in own}) if all(t.array >= 0 for t in own) else len(own),
        conversions=n * sum(steps_of(t, target) * conversions(t, target) for t in tiles),
        mvm_cycles=mvm,
        cycles=mvm + transfer,
        energy_pj=n * sum(tile_energy(t, target) for t in tiles) + off_chip + on_chip,
        program_cycles=sum(lines) * program.pulses * program.row_cycles,
        program_energy_pj=cells * devices * program.pulses * e.write_pj,
        cells=cells,
    )
