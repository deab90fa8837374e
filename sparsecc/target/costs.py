"""What each instruction costs by itself: cycles on its engine, and picojoules."""

from __future__ import annotations

import math
from typing import NamedTuple

from sparsecc.target.capabilities import indexed, kept_pattern, scatter_add
from sparsecc.target.numbers import INDEX_BYTES, Vop, memory_of
from sparsecc.target.sections import ELEMENT_BYTES
from sparsecc.target.target import Target


class Cost(NamedTuple):
    """Of one instruction: how long it holds its engine, and its energy in picojoules."""

    cycles: int
    pj: float


def _bytes_per_row(target: Target, address: int) -> int:
    """Bytes of one row of the memory an address lies in."""
    return target.acc_row_bytes if memory_of(address) == "acc" else target.row_bytes


def _element_bytes(target: Target, address: int, off_chip: str | None = None) -> int:
    """Bytes of one off-chip element: as in the memory, if no output conversion makes it another type."""
    on_chip = target.acc_type if memory_of(address) == "acc" else target.in_type
    return ELEMENT_BYTES[off_chip or on_chip]


def _memory_pj(target: Target, address: int, size: float) -> float:
    """Energy to read or write `size` bytes of the memory an address lies in."""
    energy = target.energy
    return (
        size * (energy.spad_pj_per_byte, energy.acc_pj_per_byte, *2 * (energy.l0_pj_per_byte,))[address >> 30]
    )


def _rows_pj(target: Target, address: int, rows: int) -> float:
    """Energy to read or write whole rows."""
    return _memory_pj(target, address, rows * _bytes_per_row(target, address))


def _strided_cycles(target: Target, row_bytes: int, rows: int, one_run: bool) -> int:
    """LD and ST: data, and the overhead of each request; rows without gaps are requested in one run."""
    dma = target.dma
    runs, run_bytes = (1, rows * row_bytes) if one_run else (rows, row_bytes)
    requests = runs * -(-run_bytes // dma.max_burst)
    return rows * math.ceil(row_bytes / dma.bytes_per_cycle) + dma.row_overhead * requests


def _indexed_cycles(target: Target, row_bytes: int, rows: int, add: bool) -> int:
    """LDG and STS: data (read as well to be added to), the overhead of each request, and the index."""
    dma = target.dma
    data = (2 if add else 1) * rows * math.ceil(row_bytes / dma.bytes_per_cycle)
    requests = rows * -(-row_bytes // dma.max_burst)
    adding = rows * scatter_add(target).row_cycles if add else 0
    return (
        data + dma.gather_overhead * requests + math.ceil(INDEX_BYTES * rows / dma.bytes_per_cycle) + adding
    )


def _loaded_pj(target: Target, dst: int, rows: int, cols: int) -> float:
    """LD and LDG: energy of the data."""
    blocks = -(-cols // target.array.cols)
    size = rows * cols * _element_bytes(target, dst)
    return size * target.energy.dram_pj_per_byte + _rows_pj(target, dst, rows * blocks)


def ld(
    target: Target, dst: int, step: int, buffer: int, offset: int, stride: int, rows: int, cols: int
) -> Cost:
    cycles = _strided_cycles(target, cols * _element_bytes(target, dst), rows, rows == 1 or stride == cols)
    return Cost(cycles, _loaded_pj(target, dst, rows, cols))


def ldg(
    target: Target,
    dst: int,
    step: int,
    buffer: int,
    offset: int,
    stride: int,
    index: int,
    index_offset: int,
    rows: int,
    cols: int,
) -> Cost:
    index_pj = rows * INDEX_BYTES * target.energy.dram_pj_per_byte
    cycles = _indexed_cycles(target, cols * _element_bytes(target, dst), rows, add=False)
    return Cost(cycles, index_pj + _loaded_pj(target, dst, rows, cols))


def st(
    target: Target,
    buffer: int,
    offset: int,
    stride: int,
    src: int,
    step: int,
    rows: int,
    cols: int,
    output: int,
    *,
    off_chip: str | None = None,
) -> Cost:
    row_bytes = cols * _element_bytes(target, src, off_chip)
    blocks = -(-cols // target.array.cols)
    energy = rows * row_bytes * target.energy.dram_pj_per_byte + _rows_pj(target, src, rows * blocks)
    return Cost(_strided_cycles(target, row_bytes, rows, rows == 1 or stride == cols), energy)


def sts(
    target: Target,
    buffer: int,
    offset: int,
    stride: int,
    index: int,
    index_offset: int,
    src: int,
    step: int,
    rows: int,
    cols: int,
    output: int,
    add: int,
    *,
    off_chip: str | None = None,
) -> Cost:
    row_bytes = cols * _element_bytes(target, src, off_chip)
    blocks = -(-cols // target.array.cols)
    size = rows * row_bytes * (2 if add else 1) + rows * INDEX_BYTES
    adding = rows * cols * scatter_add(target).element_pj if add else 0.0
    energy = size * target.energy.dram_pj_per_byte + _rows_pj(target, src, rows * blocks) + adding
    return Cost(_indexed_cycles(target, row_bytes, rows, bool(add)), energy)


def mv(target: Target, dst: int, dst_step: int, src: int, src_step: int, rows: int, blocks: int) -> Cost:
    size = rows * blocks * _bytes_per_row(target, src)
    energy = _rows_pj(target, src, rows * blocks) + _rows_pj(target, dst, rows * blocks)
    return Cost(math.ceil(size / target.move.bytes_per_cycle) + target.move.latency, energy)


def _vector_cycles(target: Target, rows: int) -> int:
    return -(-rows * target.array.cols // target.vector.lanes) + target.vector.latency


def fill(target: Target, dst: int, rows: int, value: float) -> Cost:
    energy = _rows_pj(target, dst, rows) + rows * target.array.cols * target.energy.alu_pj
    return Cost(_vector_cycles(target, rows), energy)


def vop(target: Target, op: int, dst: int, a: int, b: int, rows: int, imm: float) -> Cost:
    operands = (dst, a) if op in (Vop.RELU, Vop.SCALE) else (dst, a, b)
    memory = sum(_rows_pj(target, address, rows) for address in operands)
    return Cost(_vector_cycles(target, rows), memory + rows * target.array.cols * target.energy.alu_pj)


def pre(target: Target, b: int, rows: int, cols: int) -> Cost:
    array = target.array
    registers = array.rows * array.cols * ELEMENT_BYTES[target.in_type]
    return Cost(array.rows, _rows_pj(target, b, rows) + registers * target.energy.reg_pj_per_byte)


def mm(target: Target, c: int, a: int, rows: int, accumulate: int) -> Cost:
    array = target.array
    operand = _memory_pj(target, a, rows * array.rows * ELEMENT_BYTES[target.in_type])
    sums = _rows_pj(target, c, rows * (2 if accumulate else 1))
    filling = array.rows + array.cols - 2 if array.fill_in_occupancy else 0
    energy = operand + sums + rows * array.rows * array.cols * target.mac_pj
    return Cost(max(rows, array.min_rows) + filling, energy)


def _list_pj(target: Target, index: int, rows: int) -> float:
    """Energy to read a list of so many indices, whole rows of it."""
    return _rows_pj(target, index, -(-rows // target.indices_per_row))


def prex(target: Target, b: int, index: int, rows: int, cols: int) -> Cost:
    plain, added = pre(target, b, rows, cols), indexed(target)
    by_index = rows * added.read_pj + _list_pj(target, index, rows)
    return Cost(plain.cycles + rows * added.read_cycles, plain.pj + by_index)


def mmx(target: Target, c: int, a: int, index: int, rows: int) -> Cost:
    plain, added = mm(target, c, a, rows, 1), indexed(target)
    by_index = rows * added.accumulate_pj + _list_pj(target, index, rows)
    return Cost(plain.cycles + rows * added.accumulate_cycles, plain.pj + by_index)


def mma(
    target: Target,
    c: int,
    c_step: int,
    a: int,
    a_step: int,
    b: int,
    b_step: int,
    mm: int,
    n: int,
    k: int,
    accumulate: int,
) -> Cost:
    m0, n0, k0 = target.unit
    tiles = -(-mm // m0) * -(-n // n0)
    steps = tiles * -(-k // k0)
    size = ELEMENT_BYTES[target.in_type]
    # Each step reads its two operands; the sums of one tile stay in the unit along k.
    operands = _memory_pj(target, a, steps * m0 * k0 * size) + _memory_pj(target, b, steps * k0 * n0 * size)
    sums = tiles * m0 * n0 * ELEMENT_BYTES[target.acc_type] * (2 if accumulate else 1)
    energy = operands + _memory_pj(target, c, sums) + steps * m0 * n0 * k0 * target.mac_pj
    return Cost(steps * target.array.interval, energy)


def spmma(
    target: Target,
    c: int,
    c_step: int,
    a: int,
    meta: int,
    b: int,
    b_step: int,
    mm: int,
    n: int,
    k: int,
    keep: int,
    group: int,
    accumulate: int,
) -> Cost:
    kept = kept_pattern(target, keep, group)
    m0, n0, k0 = target.unit
    steps = -(-mm // m0) * -(-n // n0) * -(-kept.values(k) // k0)
    # As TU.MMA with the values that are kept; but each step reads all columns of its groups, and metadata.
    dense = mma(target, c, c_step, a, 0, b, b_step, mm, n, kept.values(k), accumulate)
    more = steps * (kept.columns(k0) - k0) * n0 * ELEMENT_BYTES[target.in_type]
    metadata = _rows_pj(target, meta, target.metadata_rows(kept, mm))
    return Cost(dense.cycles, dense.pj + _memory_pj(target, b, more) + metadata)


def fence(target: Target) -> Cost:
    return Cost(0, 0.0)
