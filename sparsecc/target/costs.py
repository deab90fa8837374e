"""What each instruction costs by itself: cycles on its engine, and picojoules."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

from sparsecc.target.capabilities import indexed, kept_pattern, scatter_add
from sparsecc.target.numbers import INDEX_BYTES, Vop, memory_of
from sparsecc.target.sections import ELEMENT_BYTES
from sparsecc.target.target import Target

Array = NDArray[Any]


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


def ld_cycles(
    target: Target, dst: int, step: int, buffer: int, offset: int, stride: int, rows: int, cols: int
) -> int:
    return _strided_cycles(target, cols * _element_bytes(target, dst), rows, rows == 1 or stride == cols)


def ld_energy(
    target: Target, dst: int, step: int, buffer: int, offset: int, stride: int, rows: int, cols: int
) -> float:
    blocks = -(-cols // target.array.cols)
    size = rows * cols * _element_bytes(target, dst)
    return size * target.energy.dram_pj_per_byte + _rows_pj(target, dst, rows * blocks)


def ldg_cycles(
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
) -> int:
    return _indexed_cycles(target, cols * _element_bytes(target, dst), rows, add=False)


def ldg_energy(
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
) -> float:
    index_pj = rows * INDEX_BYTES * target.energy.dram_pj_per_byte
    return index_pj + ld_energy(target, dst, step, buffer, offset, stride, rows, cols)


def st_cycles(
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
) -> int:
    row_bytes = cols * _element_bytes(target, src, off_chip)
    return _strided_cycles(target, row_bytes, rows, rows == 1 or stride == cols)


def st_energy(
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
) -> float:
    blocks = -(-cols // target.array.cols)
    size = rows * cols * _element_bytes(target, src, off_chip)
    return size * target.energy.dram_pj_per_byte + _rows_pj(target, src, rows * blocks)


def sts_cycles(
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
) -> int:
    return _indexed_cycles(target, cols * _element_bytes(target, src, off_chip), rows, bool(add))


def sts_energy(
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
) -> float:
    blocks = -(-cols // target.array.cols)
    size = rows * cols * _element_bytes(target, src, off_chip) * (2 if add else 1) + rows * INDEX_BYTES
    adding = rows * cols * scatter_add(target).element_pj if add else 0.0
    return size * target.energy.dram_pj_per_byte + _rows_pj(target, src, rows * blocks) + adding


def mv_cycles(
    target: Target, dst: int, dst_step: int, src: int, src_step: int, rows: int, blocks: int
) -> int:
    size = rows * blocks * _bytes_per_row(target, src)
    return math.ceil(size / target.move.bytes_per_cycle) + target.move.latency


def mv_energy(
    target: Target, dst: int, dst_step: int, src: int, src_step: int, rows: int, blocks: int
) -> float:
    return _rows_pj(target, src, rows * blocks) + _rows_pj(target, dst, rows * blocks)


def _vector_cycles(target: Target, rows: int) -> int:
    return -(-rows * target.array.cols // target.vector.lanes) + target.vector.latency


def fill_cycles(target: Target, dst: int, rows: int, value: float) -> int:
    return _vector_cycles(target, rows)


def fill_energy(target: Target, dst: int, rows: int, value: float) -> float:
    return _rows_pj(target, dst, rows) + rows * target.array.cols * target.energy.alu_pj


def vop_cycles(target: Target, op: int, dst: int, a: int, b: int, rows: int, imm: float) -> int:
    return _vector_cycles(target, rows)


def vop_energy(target: Target, op: int, dst: int, a: int, b: int, rows: int, imm: float) -> float:
    operands = (dst, a) if op in (Vop.RELU, Vop.SCALE) else (dst, a, b)
    memory = sum(_rows_pj(target, address, rows) for address in operands)
    return memory + rows * target.array.cols * target.energy.alu_pj


def pre_cycles(target: Target, b: int, rows: int, cols: int) -> int:
    return target.array.rows


def pre_energy(target: Target, b: int, rows: int, cols: int) -> float:
    array = target.array
    registers = array.rows * array.cols * ELEMENT_BYTES[target.in_type]
    return _rows_pj(target, b, rows) + registers * target.energy.reg_pj_per_byte


def mm_cycles(target: Target, c: int, a: int, rows: int, accumulate: int) -> int:
    array = target.array
    return max(rows, array.min_rows) + (array.rows + array.cols - 2 if array.fill_in_occupancy else 0)


def mm_energy(target: Target, c: int, a: int, rows: int, accumulate: int) -> float:
    array = target.array
    operand = _memory_pj(target, a, rows * array.rows * ELEMENT_BYTES[target.in_type])
    sums = _rows_pj(target, c, rows * (2 if accumulate else 1))
    return operand + sums + rows * array.rows * array.cols * target.mac_pj


def _list_pj(target: Target, index: int, rows: int) -> float:
    """Energy to read a list of so many indices, whole rows of it."""
    return _rows_pj(target, index, -(-rows // target.indices_per_row))


def prex_cycles(target: Target, b: int, index: int, rows: int, cols: int) -> int:
    return pre_cycles(target, b, rows, cols) + rows * indexed(target).read_cycles


def prex_energy(target: Target, b: int, index: int, rows: int, cols: int) -> float:
    by_index = rows * indexed(target).read_pj + _list_pj(target, index, rows)
    return pre_energy(target, b, rows, cols) + by_index


def mmx_cycles(target: Target, c: int, a: int, index: int, rows: int) -> int:
    return mm_cycles(target, c, a, rows, 1) + rows * indexed(target).accumulate_cycles


def mmx_energy(target: Target, c: int, a: int, index: int, rows: int) -> float:
    by_index = rows * indexed(target).accumulate_pj + _list_pj(target, index, rows)
    return mm_energy(target, c, a, rows, 1) + by_index


def mma_cycles(
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
) -> int:
    m0, n0, k0 = target.unit
    return -(-mm // m0) * -(-n // n0) * -(-k // k0) * target.array.interval


def mma_energy(
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
) -> float:
    m0, n0, k0 = target.unit
    tiles = -(-mm // m0) * -(-n // n0)
    steps = tiles * -(-k // k0)
    size = ELEMENT_BYTES[target.in_type]
    # Each step reads its two operands; the sums of one tile stay in the unit along k.
    operands = _memory_pj(target, a, steps * m0 * k0 * size) + _memory_pj(target, b, steps * k0 * n0 * size)
    sums = tiles * m0 * n0 * ELEMENT_BYTES[target.acc_type] * (2 if accumulate else 1)
    return operands + _memory_pj(target, c, sums) + steps * m0 * n0 * k0 * target.mac_pj


def spmma_cycles(
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
) -> int:
    values = kept_pattern(target, keep, group).values(k)
    return mma_cycles(target, c, c_step, a, 0, b, b_step, mm, n, values, accumulate)


def spmma_energy(
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
) -> float:
    kept = kept_pattern(target, keep, group)
    m0, n0, k0 = target.unit
    steps = -(-mm // m0) * -(-n // n0) * -(-kept.values(k) // k0)
    # As TU.MMA with the values that are kept; but each step reads all columns of its groups, and metadata.
    dense = mma_energy(target, c, c_step, a, 0, b, b_step, mm, n, kept.values(k), accumulate)
    more = steps * (kept.columns(k0) - k0) * n0 * ELEMENT_BYTES[target.in_type]
    return dense + _memory_pj(target, b, more) + _rows_pj(target, meta, target.metadata_rows(kept, mm))


def fence_cycles(target: Target) -> int:
    return 0


def fence_energy(target: Target) -> float:
    return 0.0
