"""What each instruction computes, in numpy, bit for bit as the simulator does.

Where the simulator reports an error these raise UserError, and leave the state as it was.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.errors import UserError
from sparsecc.target.capabilities import indexed, kept_pattern, scatter_add
from sparsecc.target.numbers import (
    DTYPES,
    Act,
    Vop,
    convert,
    memory_of,
    multiply,
    multiply_kept,
    unpack_metadata,
)
from sparsecc.target.state import State

Array = NDArray[Any]


def _load(state: State, dst: int, step: int, buffer: int, starts: Array, cols: int):
    source, memory = state.find(buffer), memory_of(dst)
    if source.element_type != state.type_of(memory):
        raise UserError(
            f"buffer '{source.name}' has {source.element_type}, but {memory} holds {state.type_of(memory)}"
        )
    state.write(dst, source.data[state.elements(buffer, starts, cols)], step)


def ld(
    state: State, dst: int, step: int, buffer: int, offset: int, stride: int, rows: int, cols: int
) -> None:
    _load(state, dst, step, buffer, offset + np.arange(rows) * stride, cols)


def ldg(
    state: State,
    dst: int,
    step: int,
    buffer: int,
    offset: int,
    stride: int,
    index: int,
    index_offset: int,
    rows: int,
    cols: int,
) -> None:
    starts = offset + state.indices(index, index_offset, rows) * stride
    _load(state, dst, step, buffer, starts, cols)


def _outgoing(state: State, buffer: int, src: int, step: int, rows: int, cols: int, output: int) -> Array:
    """What a store writes: rows x cols elements, converted."""
    memory = memory_of(src)
    if not 0 <= output < len(state.outputs):
        raise UserError(f"output conversion {output} is not known, needed 0 to {len(state.outputs) - 1}")
    conversion = state.outputs[output]
    element_type = state.type_of(memory) if conversion is None else conversion.element_type
    target = state.find(buffer)
    if target.element_type != element_type:
        raise UserError(
            f"buffer '{target.name}' has {target.element_type}, but the store gives {element_type}"
        )
    values = state.read(src, rows, step, -(-cols // state.target.array.cols))[:, :cols]
    if conversion is None:
        return values
    if element_type == "i32" and values.dtype == np.int32 and np.float32(conversion.scale) == 1:
        return np.maximum(values, 0) if conversion.act == Act.RELU else values  # a float would not hold them
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = values.astype(np.float32) * np.float32(conversion.scale)
    if conversion.act == Act.RELU:
        scaled = np.where(scaled < 0, np.float32(0), scaled)
    return convert(scaled, element_type)


def st(
    state: State,
    buffer: int,
    offset: int,
    stride: int,
    src: int,
    step: int,
    rows: int,
    cols: int,
    output: int,
) -> None:
    if rows > 1 and abs(stride) < cols:
        raise UserError(f"rows of {cols} overlap off-chip at a stride of {stride}; needed at least {cols}")
    values = _outgoing(state, buffer, src, step, rows, cols, output)
    starts = offset + np.arange(rows) * stride
    state.buffers[buffer].data[state.elements(buffer, starts, cols)] = values


def sts(
    state: State,
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
) -> None:
    if add:
        scatter_add(state.target)
    values = _outgoing(state, buffer, src, step, rows, cols, output)
    starts = offset + state.indices(index, index_offset, rows) * stride
    target = state.buffers[buffer]
    # Row by row: an index may come twice.
    for numbers, row in zip(state.elements(buffer, starts, cols), values, strict=True):
        target.data[numbers] = _sum(target.data[numbers], row, target.element_type) if add else row


def _sum(a: Array, b: Array, element_type: str) -> Array:
    """a + b in an element type: i32 wraps, i8 saturates, floats are added in float32 and rounded."""
    if element_type == "i32":
        return (a.astype(np.int64) + b.astype(np.int64)).astype(np.int32)
    if element_type == "i8":
        return convert(a.astype(np.int32) + b, "i8")
    with np.errstate(over="ignore", invalid="ignore"):
        return convert(a.astype(np.float32) + b.astype(np.float32), element_type)


def mv(state: State, dst: int, dst_step: int, src: int, src_step: int, rows: int, blocks: int) -> None:
    if state.type_of(memory_of(dst)) != state.type_of(memory_of(src)):
        raise UserError(
            f"{memory_of(src)} holds {state.type_of(memory_of(src))} and {memory_of(dst)} "
            f"{state.type_of(memory_of(dst))}; needed the same to move"
        )
    sources, targets = state.rows(src, rows, src_step, blocks), state.rows(dst, rows, dst_step, blocks)
    if memory_of(src) == memory_of(dst) and np.intersect1d(sources, targets).size:
        raise UserError(f"source and target of a move overlap in {memory_of(dst)}; needed apart")
    state.write(dst, state.read(src, rows, src_step, blocks), dst_step)


def fill(state: State, dst: int, rows: int, value: float) -> None:
    element_type = state.type_of(memory_of(dst))
    shape = (rows, state.target.array.cols)
    if element_type in ("i8", "i32"):
        limits = np.iinfo(np.int8 if element_type == "i8" else np.int32)
        if not (limits.min <= value <= limits.max and value == math.floor(value)):
            raise UserError(
                f"FILL of {element_type} with {value}, needed a whole number from {limits.min} to "
                f"{limits.max}"
            )
        state.write(dst, np.full(shape, int(value), np.int64))
    else:
        state.write(dst, convert(np.full(shape, value, np.float32), element_type))


def vop(state: State, op: int, dst: int, a: int, b: int, rows: int, imm: float) -> None:
    element_type = state.type_of(memory_of(dst))
    operands = [a] if op in (Vop.RELU, Vop.SCALE) else [a, b]
    for address in operands:
        if state.type_of(memory_of(address)) != element_type:
            raise UserError(
                f"operand in {memory_of(address)} holds {state.type_of(memory_of(address))}, needed "
                f"{element_type} as the result in {memory_of(dst)}"
            )
        # Rows are worked on one after the other: a source may be the target, but not lie half in it.
        if address >> 30 == dst >> 30 and 0 < abs(address - dst) < rows:
            raise UserError(
                f"an operand overlaps the result in part in {memory_of(dst)}; needed the same rows"
            )
    left, *rest = (state.read(address, rows) for address in operands)
    match Vop(op):
        case Vop.ADD:
            result = _sum(left, rest[0], element_type)
        case Vop.MUL if element_type == "i32":
            result = (left.astype(np.int64) * rest[0].astype(np.int64)).astype(np.int32)
        case Vop.MUL if element_type == "i8":
            result = convert(left.astype(np.int32) * rest[0], "i8")
        case Vop.MUL:
            with np.errstate(over="ignore", invalid="ignore"):
                result = convert(left.astype(np.float32) * rest[0].astype(np.float32), element_type)
        case Vop.MAX:
            result = np.where(np.isnan(left) | (left > rest[0]), left, rest[0])
        case Vop.RELU:
            result = np.where(left < 0, np.zeros_like(left), left)
        case Vop.SCALE:
            with np.errstate(over="ignore", invalid="ignore"):
                result = convert(left.astype(np.float32) * np.float32(imm), element_type)
    state.write(dst, result)


def _need_kind(state: State, mnemonic: str, kind: str):
    """Refuses an instruction the array does not have."""
    if state.target.array.kind != kind:
        raise UserError(f"target {state.target.name} has no {mnemonic}, which is for arrays of kind '{kind}'")


def _need_memory(operand: str, address: int, memory: str):
    """Refuses an operand of the unit in a memory the unit cannot reach."""
    if memory_of(address) != memory:
        raise UserError(f"operand {operand} is in {memory_of(address)}, needed in {memory}")


def _need_tile_size(state: State, rows: int, cols: int):
    """Refuses a tile larger than the array."""
    array = state.target.array
    if not (1 <= rows <= array.rows and 1 <= cols <= array.cols):
        raise UserError(f"a tile of {rows} x {cols} does not fit the array of {array.rows} x {array.cols}")


def _put_tile(state: State, values: Array, cols: int):
    """Makes rows the stationary tile; what is beyond them and beyond `cols` columns is zero."""
    array = state.target.array
    tile = np.zeros((array.rows, array.cols), DTYPES[state.target.in_type])
    tile[: len(values), :cols] = values[:, :cols]
    state.tile = tile


def pre(state: State, b: int, rows: int, cols: int) -> None:
    _need_kind(state, "TU.PRE", "ws")
    _need_memory("b", b, "spad")
    _need_tile_size(state, rows, cols)
    _put_tile(state, state.read(b, rows), cols)


def mm(state: State, c: int, a: int, rows: int, accumulate: int) -> None:
    _need_kind(state, "TU.MM", "ws")
    _need_memory("c", c, "acc")
    _need_memory("a", a, "spad")
    if state.tile is None:
        raise UserError("TU.MM needs a TU.PRE before it; the array is empty")
    array = state.target.array
    dtype = DTYPES[state.target.acc_type]
    before = state.read(c, rows) if accumulate else np.zeros((rows, array.cols), dtype)
    state.write(c, multiply(state.read(a, rows)[:, : array.rows], state.tile, before))


def prex(state: State, b: int, index: int, rows: int, cols: int) -> None:
    _need_kind(state, "TU.PREX", "ws")
    indexed(state.target)
    _need_memory("b", b, "spad")
    _need_memory("index", index, "spad")
    _need_tile_size(state, rows, cols)
    _put_tile(state, state.memories["spad"][state.named(b, index, rows)], cols)


def mmx(state: State, c: int, a: int, index: int, rows: int) -> None:
    _need_kind(state, "TU.MMX", "ws")
    indexed(state.target)
    _need_memory("c", c, "acc")
    _need_memory("a", a, "spad")
    _need_memory("index", index, "spad")
    if state.tile is None:
        raise UserError("TU.MMX needs a TU.PRE or TU.PREX before it; the array is empty")
    left = state.read(a, rows)[:, : state.target.array.rows]
    numbers, sums = state.named(c, index, rows), state.memories["acc"]
    # The first time each row is named, then the second: sums of one row are added in order.
    seen: Counter[int] = Counter()
    times = np.zeros(rows, np.int64)
    for r, row in enumerate(numbers.tolist()):
        times[r] = seen[row]
        seen[row] += 1
    for time in range(times.max() + 1):
        now = times == time
        sums[numbers[now]] = multiply(left[now], state.tile, sums[numbers[now]])


def mma(
    state: State,
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
) -> None:
    _need_kind(state, "TU.MMA", "mma")
    for operand, address, memory in (("c", c, "acc"), ("a", a, "l0a"), ("b", b, "l0b")):
        _need_memory(operand, address, memory)
    if mm < 1 or n < 1 or k < 1:
        raise UserError(f"TU.MMA of m {mm}, n {n}, k {k}, needed at least 1 each")
    cols = state.target.array.cols
    n_blocks, k_blocks = -(-n // cols), -(-k // cols)
    left = state.read(a, mm, a_step, k_blocks)[:, :k]
    right = state.read(b, k, b_step, n_blocks)
    # Columns beyond n are computed too, from zeros: a row of the accumulators is written as a whole.
    right[:, n:] = 0
    dtype = DTYPES[state.target.acc_type]
    before = state.read(c, mm, c_step, n_blocks) if accumulate else np.zeros((mm, n_blocks * cols), dtype)
    state.write(c, multiply(left, right, before), c_step)


def spmma(
    state: State,
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
) -> None:
    target = state.target
    _need_kind(state, "TU.SPMMA", "mma")
    kept = kept_pattern(target, keep, group)
    for operand, address, memory in (
        ("c", c, "acc"),
        ("a", a, "l0a"),
        ("meta", meta, "l0a"),
        ("b", b, "l0b"),
    ):
        _need_memory(operand, address, memory)
    if mm < 1 or n < 1 or k < 1:
        raise UserError(f"TU.SPMMA of m {mm}, n {n}, k {k}, needed at least 1 each")
    cols, values = target.array.cols, kept.values(k)
    if values > cols:
        raise UserError(f"a row of a holds {values} values, needed at most the {cols} of a row of memory")
    n_blocks = -(-n // cols)
    left = state.read(a, mm)[:, :values]
    packed = state.read(meta, target.metadata_rows(kept, mm))
    places = unpack_metadata(target, kept, packed, mm, values)
    if (np.diff(places.reshape(mm, -1, keep), axis=2) <= 0).any():
        raise UserError("the columns of a group in the metadata do not rise; needed rising ones")
    right = state.read(b, k, b_step, n_blocks)
    right[:, n:] = 0  # as in TU.MMA
    dtype = DTYPES[target.acc_type]
    before = state.read(c, mm, c_step, n_blocks) if accumulate else np.zeros((mm, n_blocks * cols), dtype)
    columns = places + np.arange(values) // keep * group
    state.write(c, multiply_kept(left, columns, right, before), c_step)


def fence(state: State) -> None:
    """Values are computed in program order anyway."""
