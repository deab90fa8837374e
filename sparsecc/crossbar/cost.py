"""What tiles take: arrays, conversions, cycles and energy, by the simulator's own formulas.

Per tile and vector (accelerators.md C3; the simulator counts the same):

    steps       digits of an input, one more where lines are doubled
    conversions bit lines x operation-unit rows, twice where the devices of a pair are digitised apart
    T           the longer of the array's read and the conversions of a step on the converters
    energy      steps * (lines * dac + devices * array share + conversions * (adc(bits) + shift_add))
                + bytes of inputs and sums + rows by index

Tiles of different arrays are read at once, those of one array one after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from sparsecc.crossbar.adc import bits_needed
from sparsecc.crossbar.place import adding
from sparsecc.crossbar.tiles import Tile
from sparsecc.target.crossbar import CrossbarTarget


@dataclass(frozen=True)
class Cost:
    """Of one inference of n vectors, and of the programming before."""

    arrays: int
    conversions: int
    mvm_cycles: float
    """Of the arrays, without the transfers."""
    cycles: float
    energy_pj: float
    program_cycles: float
    program_energy_pj: float
    cells: int
    """Cells that are programmed."""


def gathers(used: int, k: int, n: int, target: CrossbarTarget) -> bool:
    """Whether the used rows of X [k, n] are loaded by index: where all would take longer, or do not fit."""
    if k > target.spad_rows:
        return True
    dma = target.dma
    row = ceil(n / dma.bytes_per_cycle)
    by_index = used * (row + dma.gather_overhead) + ceil(4 * used / dma.bytes_per_cycle)
    return by_index < k * (row + dma.row_overhead)


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
    """T: cycles between the starts of two steps, operation units after each other."""
    down, across = units(tile, target)
    return down * across * max(target.array.read_cycles, converting_cycles(tile, target))


def converting_cycles(tile: Tile, target: CrossbarTarget) -> float:
    """Cycles of the conversions of one step of one operation unit."""
    columns = min(tile.columns, target.array.ou_cols or tile.columns)
    sums = columns * (2 if target.array.digitised == "separately" else 1)
    return ceil(sums / target.adc.lanes) * target.adc_cycles(adc_bits(tile, target))


def tile_cycles(tile: Tile, target: CrossbarTarget, n: int) -> float:
    """For how long an MVM of n vectors holds its array."""
    pipeline, t = target.pipeline, step_cycles(tile, target)
    rows = tile.rows + tile.columns
    more = pipeline.io_cycles + pipeline.index_cycles * rows
    return n * (steps_of(tile, target) * t + more)


def tile_energy(tile: Tile, target: CrossbarTarget, adds: bool = True) -> float:
    """Picojoules of one vector. adds: whether its sums are added to what ACC holds, not written there."""
    array, e = target.array, target.energy
    devices = 2 if target.differential else 1
    converted = conversions(tile, target)
    step = (
        tile.rows * units(tile, target)[1] * e.dac_pj
        + devices * e.array_pj * tile.rows * tile.columns / (array.rows * array.cols)
        + converted * (target.adc_pj(adc_bits(tile, target)) + e.shift_add_pj)
    )
    moved = tile.rows * e.spad_pj_per_byte + tile.columns * (8 if adds else 4) * e.acc_pj_per_byte
    return steps_of(tile, target) * step + moved + (tile.rows + tile.columns) * e.index_pj


def busy_cycles(tiles: Sequence[Tile], target: CrossbarTarget, n: int) -> float:
    """Until the last array, and the last set of converters that arrays share, has done its tiles."""
    arrays: dict[int, float] = {}
    converters: dict[int, float] = {}
    for number, tile in enumerate(tiles):
        array = tile.array if tile.array >= 0 else number
        arrays[array] = arrays.get(array, 0.0) + tile_cycles(tile, target, n)
        down, across = units(tile, target)
        steps = n * steps_of(tile, target) * down * across
        shared = array // target.adc.arrays
        converters[shared] = converters.get(shared, 0.0) + steps * converting_cycles(tile, target)
    return max([*arrays.values(), *converters.values()], default=0.0)


def cost(tiles: Sequence[Tile], target: CrossbarTarget, space: tuple[int, int, int], chip: int) -> Cost:
    """The cost of these tiles for an operator of (m, n, k). chip: how many arrays are not virtual."""
    m, n, k = space
    e, program = target.energy, target.program
    rounds: dict[int, list[Tile]] = {}
    for number, tile in enumerate(tiles):
        rounds.setdefault((tile.array if tile.array >= 0 else number) // chip, []).append(tile)
    mvm = sum(busy_cycles(part, target, n) for part in rounds.values())
    width = target.dma.bytes_per_cycle
    used = len(np.unique(np.concatenate([t.inputs for t in tiles]))) if tiles else 0
    gathered = gathers(used, k, n, target)
    loaded = used if gathered else k
    row = ceil(n / width) + (target.dma.gather_overhead if gathered else target.dma.row_overhead)
    transfer = loaded * row + m * (ceil(4 * n / width) + target.dma.row_overhead) + 2 * target.dma.latency
    if gathered:
        transfer += ceil(4 * used / width)
    off_chip = loaded * n + 4 * m * n + (4 * loaded if gathered else 0)
    on_chip = loaded * n * e.spad_pj_per_byte + 4 * m * n * e.acc_pj_per_byte
    own = [t for t in tiles if t.image < 0]
    cells = sum(t.levels.size for t in own)
    devices = 2 if target.differential else 1
    writing = max(
        sum(t.rows for t in own) * program.pulses * program.row_cycles / program.lanes,
        cells / target.dma.bytes_per_cycle,
    )
    # A cell is a byte off-chip.
    written = cells * (devices * program.pulses * e.write_pj + e.dram_pj_per_byte)
    again = len(rounds) > 1
    at_once = len(tiles) if not again and len({t.array for t in tiles}) == len(tiles) else 0
    adds, _ = adding([t.outputs for t in tiles], m, at_once)
    return Cost(
        arrays=len({t.array for t in own}) if all(t.array >= 0 for t in own) else len(own),
        conversions=n * sum(steps_of(t, target) * conversions(t, target) for t in tiles),
        mvm_cycles=mvm,
        cycles=mvm + transfer + (writing if again else 0),
        energy_pj=n
        * sum(tile_energy(t, target, added) for t, added in zip(tiles, adds.tolist(), strict=True))
        + off_chip * e.dram_pj_per_byte
        + on_chip
        + (written if again else 0),
        program_cycles=0.0 if again else writing,
        program_energy_pj=0.0 if again else written,
        cells=cells,
    )
