"""The instructions of crossbars, declared once: operands, cycles, energy and what an instruction computes.

As `sparsecc.target.instructions` for tensor units; loads, stores and vector operations are the same in both.
Operands stand in the order of the C call (`crossbar.h`). `reference(state, *operands)` computes the same
values, bit for bit, as the simulator. `cycles` and `energy` take blocks (`Block`) for their numbers.

    state = CrossbarState(target)
    INSTRUCTIONS["XB.PROG"].reference(state, 0, 0, 128, 0, 128, levels, 0, 128)

A multiplication follows the converters of CrossSim 3.2 (sign-magnitude inputs, differential cells, a clip for
each input digit and column); its time the formulas of puma-simulator and PIMSIM-NN.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.errors import UserError
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.crossbar_noise import NO_NOISE, Noise
from sparsecc.target.instructions import Instruction

Ints = NDArray[np.int64]
TABLE_BYTES = 2  # of an index in the controller


@dataclass(frozen=True)
class Block:
    """A rectangle of an array with its inputs, outputs, shift and ADC bits: the operands of XB.CFG."""

    array: int
    row0: int
    rows: int
    col0: int
    cols: int
    in_row: int = 0
    out_row: int = 0
    shift: int = 0
    adc_bits: int = 8
    offset: int = 0
    in_index: tuple[int, ...] | None = None
    out_index: tuple[int, ...] | None = None
    doubled: tuple[int, ...] | None = None
    flipped: tuple[int, ...] | None = None

    @property
    def any_doubled(self) -> bool:
        """Whether some inputs count twice, which takes one bit more."""
        return self.doubled is not None and any(self.doubled)

    def inputs(self) -> Ints:
        """Rows of the inputs, from the address of an XB.MVM on."""
        return self.in_row + np.asarray(self.in_index or range(self.rows), np.int64)

    def outputs(self) -> Ints:
        """Rows of the results, from the address of an XB.MVM on."""
        return self.out_row + np.asarray(self.out_index or range(self.cols), np.int64)

    def follows(self, before: Block) -> bool:
        """Whether it stands on the word lines of another of its array, to its right: one bundle."""
        lines = ("array", "row0", "rows", "in_row", "in_index")
        return (
            all(getattr(self, name) == getattr(before, name) for name in lines)
            and before.col0 + before.cols <= self.col0
            and _flags(self) == _flags(before)
        )

    def groups(self, target: CrossbarTarget) -> Iterable[slice]:
        """Rows that are summed at once, counted from the block's first."""
        unit = target.array.ou_rows or self.rows
        return (slice(first, min(first + unit, self.rows)) for first in range(0, self.rows, unit))


def _flags(block: Block) -> tuple[bool, ...]:
    """Which inputs are doubled; empty for none."""
    flags = tuple(map(bool, block.doubled or ()))
    return flags if any(flags) else ()


class CrossbarState:
    """The values of a machine with crossbars: cells, blocks, and the rows of its two memories."""

    def __init__(self, target: CrossbarTarget, noise: Noise = NO_NOISE):
        self.target = target
        self.noise = noise
        width = target.row_elements
        self.spad = np.zeros((target.spad_rows, width), np.int8)
        self.acc = np.zeros((target.acc_rows, width), np.int32)
        self.shapes: dict[int, tuple[int, int]] = {}
        self.levels: dict[int, NDArray[np.int8]] = {}
        self.writes: dict[int, NDArray[np.uint32]] = {}
        self.faults: dict[tuple[int, int, int, int], int] = {}
        """Level at which a device is stuck, by array, row, column and device (1 the negative one)."""
        self.blocks: dict[int, Block] = {}
        self.vectors: Counter[int] = Counter()
        """Vectors that a block has multiplied."""
        self.conversions: Counter[int] = Counter()
        """By ADC bits."""
        self.clipped: Counter[int] = Counter()

    def shape(self, array: int) -> tuple[int, int]:
        """Rows and columns of an array."""
        if not 0 <= array < self.target.most_arrays:
            raise UserError(f"array {array} is not there, needed 0 to {self.target.most_arrays - 1}")
        return self.shapes.get(array, (self.target.array.rows, self.target.array.cols))

    def devices(self, block: Block) -> list[NDArray[np.float64]]:
        """Levels of the positive and of the negative devices of a block as they really are, rows x cols."""
        target, noise = self.target, self.noise
        rows = np.arange(block.row0, block.row0 + block.rows)
        cols = np.arange(block.col0, block.col0 + block.cols)
        place = np.ix_(rows, cols)
        if block.array not in self.levels or not self.writes[block.array][place].all():
            raise UserError(f"a cell of array {block.array} is used, but was never programmed")
        levels = self.levels[block.array][place].astype(np.int64)
        found: list[NDArray[np.float64]] = []
        for device in range(2 if target.differential else 1):
            own = np.maximum(-levels if device else levels, 0)
            own = noise.with_faults(own, target.level_max, block.array, rows, cols, device)
            for (array, row, col, which), level in self.faults.items():
                if (array, which) == (block.array, device) and row in rows and col in cols:
                    own[row - block.row0, col - block.col0] = level
            found.append(
                noise.programmed(own, self.writes[block.array][place], block.array, rows, cols, device)
            )
        return found


# What each instruction computes. -------------------------------------------------------------------


def _rectangle(state: CrossbarState, array: int, row0: int, rows: int, col0: int, cols: int):
    height, width = state.shape(array)
    if not (0 <= row0 and 1 <= rows <= height - row0 and 0 <= col0 and 1 <= cols <= width - col0):
        raise UserError(
            f"rows {row0} to {row0 + rows - 1}, columns {col0} to {col0 + cols - 1} of array {array}, needed "
            f"at least one cell, and none beyond {height} x {width}"
        )


def _shape(state: CrossbarState, first: int, count: int, rows: int, cols: int) -> None:
    array = state.target.array
    state.shape(first)
    state.shape(first + count - 1)
    if (rows, cols) not in array.shapes:
        raise UserError(f"{rows} x {cols} is no shape of an array of {state.target.name}")
    shapes = state.shapes | {number: (rows, cols) for number in range(first, first + count)}
    if sum(math.prod(shape) for shape in shapes.values()) > array.count * array.rows * array.cols:
        raise UserError("shaped arrays would have more cells than the chip")
    state.shapes = shapes


def _prog(
    state: CrossbarState,
    array: int,
    row0: int,
    rows: int,
    col0: int,
    cols: int,
    buffer: NDArray[np.int8],
    offset: int,
    stride: int,
) -> None:
    _rectangle(state, array, row0, rows, col0, cols)
    numbers = offset + np.arange(rows)[:, None] * stride + np.arange(cols)
    levels = buffer.reshape(-1)[numbers]
    most = state.target.level_max
    least = -most if state.target.differential else 0
    if levels.min() < least or levels.max() > most:
        raise UserError(f"levels from {levels.min()} to {levels.max()}, needed {least} to {most}")
    shape = state.shape(array)
    place = np.s_[row0 : row0 + rows, col0 : col0 + cols]
    state.levels.setdefault(array, np.zeros(shape, np.int8))[place] = levels
    state.writes.setdefault(array, np.zeros(shape, np.uint32))[place] += 1


def _cfg(
    state: CrossbarState,
    block: int,
    array: int,
    row0: int,
    rows: int,
    col0: int,
    cols: int,
    in_row: int,
    out_row: int,
    shift: int,
    adc_bits: int,
    offset: int,
    tables: NDArray[np.int32],
    in_index: int,
    out_index: int,
    doubled: int,
    flipped: int,
) -> None:
    _rectangle(state, array, row0, rows, col0, cols)
    if not 1 <= adc_bits <= state.target.adc.bits:
        raise UserError(f"{adc_bits} bits of the ADC, needed 1 to {state.target.adc.bits}")

    def taken(at: int, count: int) -> tuple[int, ...] | None:
        return None if at < 0 else tuple(tables[at : at + count].tolist())

    lists = (taken(in_index, rows), taken(out_index, cols), taken(doubled, rows), taken(flipped, cols))
    if lists[1] and len(set(lists[1])) < cols:
        raise UserError("out_index has a row twice, needed different rows")
    state.blocks[block] = Block(
        array, row0, rows, col0, cols, in_row, out_row, shift, adc_bits, offset, *lists
    )
    state.vectors[block] = 0


def _digits(target: CrossbarTarget, x: Ints, step: int) -> Ints:
    """One digit of each input: of its magnitude, with its sign; or a bit of two's complement."""
    shift, mask = step * target.dac.bits, 2**target.dac.bits - 1
    if target.differential:
        return np.sign(x) * (np.abs(x) >> shift & mask)
    return x >> shift & mask


def _product(state: CrossbarState, number: int, x: Ints) -> Ints:
    """x[rows, n] times a block: [cols, n], as the digital side gets it, before it adds."""
    target, block = state.target, state.blocks[number]
    magnitude = 2 ** (target.numbers.input_bits - 1)
    least = 1 - magnitude if target.differential else -magnitude
    if x.min() < least or x.max() >= magnitude:
        raise UserError(f"inputs from {x.min()} to {x.max()}, needed {least} to {magnitude - 1}")
    if block.doubled is not None:
        x = x * (1 + np.asarray(block.doubled, np.int64)[:, None])
    levels = state.devices(block)
    if target.array.digitised == "together" and target.differential:
        parts = [(1, levels[0] - levels[1], np.hypot(levels[0], levels[1]))]
    else:
        parts = [(sign, level, level) for sign, level in zip((1, -1), levels, strict=False)]
    limit = target.adc_limit(block.adc_bits)
    steps = target.steps(doubled=block.any_doubled)
    total = np.zeros((block.cols, x.shape[1]), np.int64)
    for step in range(steps):
        digits = _digits(target, x, step)
        top = -1 if not target.differential and step == steps - 1 else 1
        for group in block.groups(target):
            for part, (sign, level, both) in enumerate(parts):
                sums = level[group].T @ digits[group].astype(np.float64)
                spread = np.sqrt(both[group].T ** 2 @ digits[group].astype(np.float64) ** 2)
                if state.noise.read_sigma > 0:
                    first = state.vectors[number]
                    vectors = first + np.arange(x.shape[1], dtype=np.int64)
                    columns = np.arange(block.col0, block.col0 + block.cols)
                    sums += state.noise.read(
                        spread, block.array, block.row0 + group.start, columns, vectors, 2 * step + part
                    )
                rounded = np.rint(sums).astype(np.int64)
                seen = np.clip(rounded, -limit if target.differential else 0, limit)
                state.conversions[block.adc_bits] += seen.size
                state.clipped[block.adc_bits] += int((seen != rounded).sum())
                total += top * sign * (seen << (step * target.dac.bits))
    inputs = x.sum(axis=0)
    if block.flipped is not None:
        flipped = np.asarray(block.flipped, bool)[:, None]
        total = np.where(flipped, target.level_max * inputs - total, total)
    state.vectors[number] += x.shape[1]
    return (total << block.shift) - block.offset * inputs


def _vectors(memory: NDArray[Any], address: int, rows: Ints, step: int, n: int) -> Ints:
    """Rows of a memory as rows x n positions."""
    width = memory.shape[1]
    panels = [memory[(address & 0x3FFFFFFF) + b * step + rows] for b in range(-(-n // width))]
    return np.concatenate(panels, axis=1)[:, :n].astype(np.int64)


def _mvmg(
    state: CrossbarState,
    block: int,
    count: int,
    in_: int,
    in_step: int,
    out: int,
    out_step: int,
    n: int,
    accumulate: int,
) -> None:
    numbers = range(block, block + count)
    bundled = bundles([state.blocks[number] for number in numbers])
    if len({bundle[0].array for bundle in bundled}) < len(bundled) or (
        len(bundled) < count and state.target.array.ou_cols
    ):
        raise UserError("two blocks of a group are in one array, needed different arrays, or one bundle")
    width = state.target.row_elements
    base = out & 0x3FFFFFFF
    if not accumulate:
        for number in numbers:
            for b in range(-(-n // width)):
                state.acc[base + b * out_step + state.blocks[number].outputs()] = 0
    for number in numbers:
        found = state.blocks[number]
        result = _product(state, number, _vectors(state.spad, in_, found.inputs(), in_step, n))
        for b in range(-(-n // width)):
            part = result[:, b * width : (b + 1) * width]
            rows = base + b * out_step + found.outputs()
            columns = np.arange(part.shape[1], dtype=np.int64)
            sums = state.acc[np.ix_(rows, columns)].astype(np.int64) + part
            state.acc[np.ix_(rows, columns)] = sums.astype(np.int32)  # int32 wraps


def _mvm(
    state: CrossbarState, block: int, in_: int, in_step: int, out: int, out_step: int, n: int, accumulate: int
) -> None:
    _mvmg(state, block, 1, in_, in_step, out, out_step, n, accumulate)


def _done(state: CrossbarState) -> None:
    """Values are computed in program order anyway."""


# What each instruction costs. ----------------------------------------------------------------------


def _prog_cycles(
    target: CrossbarTarget, array: int, row0: int, rows: int, col0: int, cols: int, *_: Any
) -> int:
    """What the array is held for."""
    writing = rows * target.program.row_cycles * target.program.pulses
    loading = rows * cols / target.dma.bytes_per_cycle
    return max(math.ceil(writing), math.ceil(loading)) + target.dma.latency


def _prog_energy(
    target: CrossbarTarget, array: int, row0: int, rows: int, col0: int, cols: int, *_: Any
) -> float:
    devices = rows * cols * (2 if target.differential else 1)
    writing = devices * target.program.pulses * target.energy.write_pj
    return writing + rows * cols * target.energy.dram_pj_per_byte


def bundles(blocks: Sequence[Block]) -> list[list[Block]]:
    """Blocks of a group by the word lines they are read with."""
    found: list[list[Block]] = []
    for block in blocks:
        if found and block.follows(found[-1][-1]):
            found[-1].append(block)
        else:
            found.append([block])
    return found


def table_bytes(block: Block) -> int:
    """Bytes the controller keeps for a block: 16 bits for an index, a bit for a flag."""
    indices = sum(
        TABLE_BYTES * len(found) for found in (block.in_index, block.out_index) if found is not None
    )
    return indices + sum(-(-len(f) // 8) for f in (block.doubled, block.flipped) if f is not None)


def _cfg_cycles(target: CrossbarTarget, block: Block) -> int:
    return 1 + math.ceil(table_bytes(block) / target.dma.bytes_per_cycle)


def _cfg_energy(target: CrossbarTarget, block: Block) -> float:
    return table_bytes(block) * target.energy.dram_pj_per_byte


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


def _mvmg_cycles(
    target: CrossbarTarget,
    blocks: Sequence[Block],
    in_: int,
    in_step: int,
    out: int,
    out_step: int,
    n: int,
    acc: int,
) -> int:
    """What the arrays are held for, without others on their converters."""
    pipeline = target.pipeline
    more = pipeline.io_cycles + max(map(_indexed, bundles(blocks))) * pipeline.index_cycles
    return math.ceil(n * durations(target, blocks)[0]) + n * more


def _mvmg_energy(
    target: CrossbarTarget,
    blocks: Sequence[Block],
    in_: int,
    in_step: int,
    out: int,
    out_step: int,
    n: int,
    acc: int,
) -> float:
    return sum(_bundle_energy(target, bundle, n, bool(acc)) for bundle in bundles(blocks))


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


def _mvm_cycles(target: CrossbarTarget, block: Block, *operands: int) -> int:
    return _mvmg_cycles(target, [block], *operands)


def _mvm_energy(target: CrossbarTarget, block: Block, *operands: int) -> float:
    return _mvmg_energy(target, [block], *operands)


def _no_cycles(target: CrossbarTarget, *_: int) -> int:
    return 0


def _no_energy(target: CrossbarTarget, *_: int) -> float:
    return 0.0


INSTRUCTIONS: Mapping[str, Instruction] = {
    instruction.mnemonic: instruction
    for instruction in (
        Instruction(
            "XB.SHAPE",
            "ax_xb_shape",
            "FRONT",
            ("first", "count", "rows", "cols"),
            "gives arrays another of the shapes of the target",
            _no_cycles,
            _no_energy,
            _shape,
        ),
        Instruction(
            "XB.PROG",
            "ax_xb_prog",
            "XPROG",
            ("array", "row0", "rows", "col0", "cols", "buffer", "offset", "stride"),
            "writes levels to a rectangle of cells",
            _prog_cycles,
            _prog_energy,
            _prog,
        ),
        Instruction(
            "XB.CFG",
            "ax_xb_cfg",
            "XPROG",
            (
                *("block", "array", "row0", "rows", "col0", "cols", "in_row", "out_row", "shift", "adc_bits"),
                *("offset", "tables", "in_index", "out_index", "doubled", "flipped"),
            ),
            "makes a rectangle of an array a block, with its inputs, outputs, shift and ADC bits",
            _cfg_cycles,
            _cfg_energy,
            _cfg,
        ),
        Instruction(
            "XB.MVM",
            "ax_xb_mvm",
            "XB",
            ("block", "in", "in_step", "out", "out_step", "n", "accumulate"),
            "out (+)= the cells of a block times n vectors",
            _mvm_cycles,
            _mvm_energy,
            _mvm,
        ),
        Instruction(
            "XB.MVMG",
            "ax_xb_mvmg",
            "XB",
            ("block", "count", "in", "in_step", "out", "out_step", "n", "accumulate"),
            "the same for blocks of several arrays, or on the same word lines, at once",
            _mvmg_cycles,
            _mvmg_energy,
            _mvmg,
        ),
        Instruction(
            "XB.DONE",
            "ax_xb_done",
            "FRONT",
            (),
            "programming is over: what follows starts after it, and is counted as inference",
            _no_cycles,
            _no_energy,
            _done,
        ),
    )
}
