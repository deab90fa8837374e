"""What tiles take: arrays, conversions, cycles and energy, by the simulator's own formulas.

Per bundle (tiles that are read at once, mostly one) and vector (accelerators.md C3; the simulator counts the
same):

    steps       digits of an input, one more where lines are doubled
    conversions bit lines x operation-unit rows, twice where the devices of a pair are digitised apart
    T           the longer of the array's read and the conversions of a step on the converters
    energy      steps * (lines * dac + devices * array share + conversions * (adc(bits) + shift_add))
                + bytes of inputs and sums + rows by index; lines, inputs and sums once for a bundle

Tiles of different arrays are read at once, those of one array one after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from sparsecc.crossbar.adc import bits_needed
from sparsecc.crossbar.bundle import Bundle, bundles, columns_of, outputs_of
from sparsecc.crossbar.place import adding, waves_of
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
    """Whether the used rows of X [k, n] are loaded by index: where all would take longer, or do not fit.

    What counts is the load of the first panel; others are loaded while arrays are busy.
    """
    if k > target.spad_rows:
        return True
    dma = target.dma
    row = ceil(min(n, target.row_elements) / dma.bytes_per_cycle)
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


def step_cycles(bundle: Sequence[Tile], target: CrossbarTarget) -> float:
    """T: cycles between the starts of two steps, operation units after each other."""
    down, across = units(bundle[0], target)
    return down * across * max(target.array.read_cycles, converting_cycles(bundle, target))


def converting_cycles(bundle: Sequence[Tile], target: CrossbarTarget) -> float:
    """Cycles of the conversions of one step of one operation unit."""
    share = 2 if target.array.digitised == "separately" else 1
    sums = [share * min(t.columns, target.array.ou_cols or t.columns) for t in bundle]
    spent = sum(c * target.adc_cycles(adc_bits(t, target)) for c, t in zip(sums, bundle, strict=True))
    return ceil(sum(sums) / target.adc.lanes) * spent / sum(sums)


def bundle_cycles(bundle: Sequence[Tile], target: CrossbarTarget, n: int) -> float:
    """For how long a multiplication of n vectors holds its array."""
    pipeline, t = target.pipeline, step_cycles(bundle, target)
    rows = bundle[0].rows + columns_of(bundle)
    more = pipeline.io_cycles + pipeline.index_cycles * rows
    return n * (steps_of(bundle[0], target) * t + more)


def bundle_energy(bundle: Sequence[Tile], target: CrossbarTarget, adds: bool = True) -> float:
    """Picojoules of one vector. adds: whether its sums are added to what ACC holds, not written there."""
    array, e, lead = target.array, target.energy, bundle[0]
    devices = 2 if target.differential else 1
    cells = lead.rows * columns_of(bundle) / (array.rows * array.cols)
    step = (
        lead.rows * units(lead, target)[1] * e.dac_pj
        + devices * e.array_pj * cells
        + converting_energy(bundle, target)
    )
    sums = len(outputs_of(bundle))
    moved = lead.rows * e.spad_pj_per_byte + sums * (8 if adds else 4) * e.acc_pj_per_byte
    return steps_of(lead, target) * step + moved + (lead.rows + columns_of(bundle)) * e.index_pj


def converting_energy(bundle: Sequence[Tile], target: CrossbarTarget) -> float:
    """Of the conversions of one step, with shift and add."""
    shift_add = target.energy.shift_add_pj
    return sum(conversions(t, target) * (target.adc_pj(adc_bits(t, target)) + shift_add) for t in bundle)


def tiles_energy(tiles: Sequence[Tile], target: CrossbarTarget) -> float:
    """Picojoules of one vector, where all add to their sums."""
    return sum(bundle_energy(bundle, target) for bundle in bundles(tiles))


def busy_cycles(found: Sequence[tuple[int, Bundle]], target: CrossbarTarget, n: int) -> float:
    """Until the last array, and the last set of converters that arrays share, has done its bundles.

    found: the array of each bundle, and the bundle.
    """
    arrays: dict[int, float] = {}
    converters: dict[int, float] = {}
    for array, bundle in found:
        arrays[array] = arrays.get(array, 0.0) + bundle_cycles(bundle, target, n)
        down, across = units(bundle[0], target)
        steps = n * steps_of(bundle[0], target) * down * across
        shared = array // target.adc.arrays
        converters[shared] = converters.get(shared, 0.0) + steps * converting_cycles(bundle, target)
    return max([*arrays.values(), *converters.values()], default=0.0)


def _list_bytes(tile: Tile) -> int:
    """Of what says where lines go: 16 bits for an index, a bit for a flag; none for lines in order."""
    indexed = [lines for lines in (tile.inputs, tile.outputs) if not (np.diff(lines) == 1).all()]
    flags = [f for f in (tile.doubled, tile.flipped) if f is not None and f.any()]
    return sum(2 * len(lines) for lines in indexed) + sum(ceil(len(f) / 8) for f in flags)


def cost(tiles: Sequence[Tile], target: CrossbarTarget, space: tuple[int, int, int], chip: int) -> Cost:
    """The cost of these tiles for an operator of (m, n, k). chip: how many arrays are not virtual."""
    m, n, k = space
    e, program = target.energy, target.program
    found = bundles(tiles)
    # Before they are placed, each has an array of its own.
    arrays = [b[0].array if b[0].array >= 0 else number for number, b in enumerate(found)]
    rounds: dict[int, list[tuple[int, Bundle]]] = {}
    for array, bundle in zip(arrays, found, strict=True):
        rounds.setdefault(array // chip, []).append((array, bundle))
    mvm = sum(busy_cycles(part, target, n) for part in rounds.values())
    width = target.dma.bytes_per_cycle
    used = len(np.unique(np.concatenate([t.inputs for t in tiles]))) if tiles else 0
    gathered = gathers(used, k, n, target)
    loaded = used if gathered else k
    row = ceil(n / width) + (target.dma.gather_overhead if gathered else target.dma.row_overhead)
    transfer = loaded * row + m * (ceil(4 * n / width) + target.dma.row_overhead) + 2 * target.dma.latency
    # Rows of zeros are stored while arrays are busy; in the panels before the last, all rows are.
    zeros = m - (len(np.unique(np.concatenate([t.outputs for t in tiles]))) if tiles else 0)
    last = (n - 1) % target.row_elements + 1
    transfer -= min(zeros * ceil(4 * last / width), mvm)
    if gathered:
        transfer += ceil(4 * used / width)
    off_chip = loaded * n + 4 * m * n + (4 * loaded if gathered else 0)
    on_chip = loaded * n * e.spad_pj_per_byte + 4 * m * n * e.acc_pj_per_byte
    own = [b for b in found if b[0].image < 0]
    cells = sum(t.levels.size for b in own for t in b)
    devices = 2 if target.differential else 1
    writing = max(
        sum(b[0].rows for b in own) * program.pulses * program.row_cycles / program.lanes,
        cells / target.dma.bytes_per_cycle,
    )
    # A cell is a byte off-chip; lists are fetched once, whether cells are written again or not.
    written = cells * (devices * program.pulses * e.write_pj + e.dram_pj_per_byte)
    listed = sum(_list_bytes(t) for t in tiles) * e.dram_pj_per_byte
    again = len(rounds) > 1
    when = waves_of(np.array(arrays, np.int64), chip)
    order = np.argsort(when, kind="stable")
    read: list[Bundle] = [found[i] for i in order]
    adds, _ = adding([outputs_of(b) for b in read], m, 0 if again else int((when == 0).sum()))
    return Cost(
        arrays=len({array for array, b in zip(arrays, found, strict=True) if b[0].image < 0}),
        conversions=n * sum(steps_of(t, target) * conversions(t, target) for t in tiles),
        mvm_cycles=mvm,
        cycles=mvm + transfer + (writing if again else 0),
        energy_pj=n
        * sum(bundle_energy(b, target, added) for b, added in zip(read, adds.tolist(), strict=True))
        + off_chip * e.dram_pj_per_byte
        + on_chip
        + (written if again else 0),
        program_cycles=0.0 if again else writing,
        program_energy_pj=listed + (0.0 if again else written),
        cells=cells,
    )
