"""What each instruction of crossbars computes, in numpy, bit for bit as the simulator does.

A multiplication follows the converters of CrossSim 3.2 (sign-magnitude inputs, differential cells, a clip for
each input digit and column).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.errors import UserError
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.crossbar_state import Block, CrossbarState, Ints, bundles


def _rectangle(state: CrossbarState, array: int, row0: int, rows: int, col0: int, cols: int):
    height, width = state.shape(array)
    if not (0 <= row0 and 1 <= rows <= height - row0 and 0 <= col0 and 1 <= cols <= width - col0):
        raise UserError(
            f"rows {row0} to {row0 + rows - 1}, columns {col0} to {col0 + cols - 1} of array {array}, needed "
            f"at least one cell, and none beyond {height} x {width}"
        )


def shape(state: CrossbarState, first: int, count: int, rows: int, cols: int) -> None:
    array = state.target.array
    state.shape(first)
    state.shape(first + count - 1)
    if (rows, cols) not in array.shapes:
        raise UserError(f"{rows} x {cols} is no shape of an array of {state.target.name}")
    shapes = state.shapes | {number: (rows, cols) for number in range(first, first + count)}
    if sum(math.prod(shape) for shape in shapes.values()) > array.count * array.rows * array.cols:
        raise UserError("shaped arrays would have more cells than the chip")
    state.shapes = shapes


def prog(
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


def cfg(
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


def mvmg(
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


def mvm(
    state: CrossbarState, block: int, in_: int, in_step: int, out: int, out_step: int, n: int, accumulate: int
) -> None:
    mvmg(state, block, 1, in_, in_step, out, out_step, n, accumulate)


def done(state: CrossbarState) -> None:
    """Values are computed in program order anyway."""
