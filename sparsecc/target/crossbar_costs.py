"""What each instruction of crossbars costs by itself: cycles its arrays are held for, and picojoules.

The time of a multiplication follows the formulas of puma-simulator and PIMSIM-NN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sparsecc.target.costs import Cost
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.crossbar_state import Block, bundles

TABLE_BYTES = 2  # of an index in the controller


def prog(target: CrossbarTarget, array: int, row0: int, rows: int, col0: int, cols: int, *_: Any) -> Cost:
    writing = rows * target.program.row_cycles * target.program.pulses
    loading = rows * cols / target.dma.bytes_per_cycle
    devices = rows * cols * (2 if target.differential else 1)
    energy = devices * target.program.pulses * target.energy.write_pj
    energy += rows * cols * target.energy.dram_pj_per_byte
    return Cost(max(math.ceil(writing), math.ceil(loading)) + target.dma.latency, energy)


def table_bytes(block: Block) -> int:
    """Bytes the controller keeps for a block: 16 bits for an index, a bit for a flag."""
    indices = sum(
        TABLE_BYTES * len(found) for found in (block.in_index, block.out_index) if found is not None
    )
    return indices + sum(-(-len(f) // 8) for f in (block.doubled, block.flipped) if f is not None)


def cfg(target: CrossbarTarget, block: Block) -> Cost:
    size = table_bytes(block)
    return Cost(1 + math.ceil(size / target.dma.bytes_per_cycle), size * target.energy.dram_pj_per_byte)


def _units(target: CrossbarTarget, block: Block) -> tuple[int, int]:
    """Operation units of a block, along rows and along columns."""
    array = target.array
    rows = -(-block.rows // array.ou_rows) if array.ou_rows else 1
    return rows, -(-block.cols // array.ou_cols) if array.ou_cols else 1


def _sums(target: CrossbarTarget) -> int:
    """Conversions of one column and step."""
    return 2 if target.array.digitised == "separately" else 1


def durations(target: CrossbarTarget, blocks: Sequence[Block]) -> tuple[float, float]:
    """Cycles that blocks at once hold their arrays for one vector, and from its last step to its result."""
    pipeline, adc, array = target.pipeline, target.adc, target.array
    pools: dict[int, list[Block]] = {}
    for block in blocks:
        pools.setdefault(block.array // adc.arrays, []).append(block)
    longest = after = 0.0
    for pool in pools.values():
        steps = max(target.steps(doubled=b.any_doubled) * math.prod(_units(target, b)) for b in pool)
        columns = [min(array.ou_cols or b.cols, b.cols) * _sums(target) for b in pool]
        spent = sum(c * target.adc_cycles(b.adc_bits) for c, b in zip(columns, pool, strict=True))
        conversion, rounds = spent / sum(columns), -(-sum(columns) // adc.lanes)
        if pipeline.timing == "stages":
            step = max(array.read_cycles, rounds * conversion)
            longest, after = max(longest, steps * step), max(after, (pipeline.stages - 1) * step)
            continue
        front = pipeline.input_buffer_cycles + pipeline.dac_cycles + pipeline.sample_hold_cycles
        front += math.ceil(array.read_cycles)
        adding = pipeline.shift_add_cycles + pipeline.output_buffer_cycles
        back = conversion + adding + (rounds - 1) * max(conversion, adding)
        lanes = target.dac.lanes
        times = steps * (-(-max(b.rows for b in pool) // lanes) if lanes else 1)
        each = front + back + (times - 1) * max(front, back) if pipeline.pipelined else (front + back) * times
        longest = max(longest, each)
    return longest, after


def _indexed(bundle: Sequence[Block]) -> int:
    """Rows that are found by index: inputs once."""
    return (bundle[0].rows if bundle[0].in_index is not None else 0) + sum(
        block.cols for block in bundle if block.out_index is not None
    )


def mvmg(
    target: CrossbarTarget,
    blocks: Sequence[Block],
    in_: int,
    in_step: int,
    out: int,
    out_step: int,
    n: int,
    acc: int,
) -> Cost:
    """What the arrays are held for, without others on their converters."""
    pipeline, together = target.pipeline, bundles(blocks)
    more = pipeline.io_cycles + max(map(_indexed, together)) * pipeline.index_cycles
    energy = sum(_bundle_energy(target, bundle, n, bool(acc)) for bundle in together)
    return Cost(math.ceil(n * durations(target, blocks)[0]) + n * more, energy)


def _bundle_energy(target: CrossbarTarget, bundle: Sequence[Block], n: int, accumulate: bool) -> float:
    """Lines driven and inputs read once; results that go to the same row meet before they get to ACC."""
    energy, first = target.energy, bundle[0]
    step = first.rows * _units(target, first)[1] * energy.dac_pj + sum(
        _columns_energy(target, block) for block in bundle
    )
    sums = len({row for block in bundle for row in block.outputs().tolist()})
    moved = first.rows * energy.spad_pj_per_byte
    moved += sums * 4 * (2 if accumulate else 1) * energy.acc_pj_per_byte
    steps = target.steps(doubled=first.any_doubled)
    return n * (steps * step + moved + _indexed(bundle) * energy.index_pj)


def _columns_energy(target: CrossbarTarget, block: Block) -> float:
    """Cells and conversions of one step."""
    energy, array = target.energy, target.array
    conversions = block.cols * _units(target, block)[0] * _sums(target)
    devices = block.rows * block.cols * (2 if target.differential else 1)
    converted = conversions * (target.adc_pj(block.adc_bits) + energy.shift_add_pj)
    return devices / (array.rows * array.cols) * energy.array_pj + converted


def mvm(target: CrossbarTarget, block: Block, *operands: int) -> Cost:
    return mvmg(target, [block], *operands)


def nothing(target: CrossbarTarget, *_: int) -> Cost:
    return Cost(0, 0.0)
