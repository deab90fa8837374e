"""The instruction set, declared once: operands, cycles, energy and what an instruction computes.

`INSTRUCTIONS` holds one `Instruction` per mnemonic. Operands stand in the order of the C call (`axsim.h`)
and are plain numbers: on-chip addresses are rows with the memory in the top two bits (see `spad`, `acc`,
`l0a`, `l0b`), off-chip arrays are handles from `State.buffer`, output conversions those from `State.output`.

    state = State(target)
    x = state.buffer(array, "i8")
    INSTRUCTIONS["LD"].reference(state, spad(0), 0, x, 0, 16, 16, 16)

`reference` computes the same values, bit for bit, as the simulator. `cycles` and `energy` say what one
instruction costs by itself; waiting for others is the simulator's and the cost model's business.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.errors import UserError
from sparsecc.target.structured import Kept, ScatterAdd
from sparsecc.target.target import ELEMENT_BYTES, Indexed, Target

MEMORIES = ("spad", "acc", "l0a", "l0b")
ROW_MASK = 0x3FFFFFFF
INDEX_BYTES = ELEMENT_BYTES["i32"]  # of LDG and STS

Array = NDArray[Any]


class Vop(IntEnum):
    """Element-wise operations, as ax_vop_kind."""

    ADD = 0
    MUL = 1
    MAX = 2
    RELU = 3
    SCALE = 4


class Act(IntEnum):
    """Activations of an output conversion, as ax_act."""

    NONE = 0
    RELU = 1


def spad(row: int) -> int:
    """The address of a row of the scratchpad."""
    return row


def acc(row: int) -> int:
    """The address of a row of the accumulators."""
    return row | 1 << 30


def l0a(row: int) -> int:
    """The address of a row of L0A."""
    return row | 2 << 30


def l0b(row: int) -> int:
    """The address of a row of L0B."""
    return row | 3 << 30


def memory_of(address: int) -> str:
    """The memory an address lies in: one of MEMORIES."""
    return MEMORIES[address >> 30]


# Numbers. ------------------------------------------------------------------------------------------

# bf16 has no numpy type: its values are kept as float32, rounded whenever they are written.
DTYPES: Mapping[str, type[np.generic]] = {
    "i8": np.int8,
    "f16": np.float16,
    "bf16": np.float32,
    "f32": np.float32,
    "i32": np.int32,
}


def round_bf16(values: Array) -> Array:
    """float32 values to the nearest bf16, ties to even, as float32."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    # The carry of the addition runs into the exponent, as it should; only a NaN must not lose its fraction.
    rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) & np.uint32(0xFFFF0000)
    quiet = (bits & np.uint32(0xFFFF0000)) | np.uint32(0x400000)
    return np.where(np.isnan(values), quiet, rounded).astype(np.uint32).view(np.float32)


def convert(values: Array, element_type: str) -> Array:
    """Numbers to an element type: to nearest, ties to even; integers saturate, floats go to infinity."""
    if element_type == "bf16":
        return round_bf16(values)
    if element_type in ("f16", "f32"):
        with np.errstate(over="ignore", invalid="ignore"):
            return values.astype(DTYPES[element_type])
    limits = np.iinfo(np.int8 if element_type == "i8" else np.int32)
    # Doubles hold every int32, so the limits are exact and the clipped values fit.
    clipped = np.clip(np.rint(np.nan_to_num(values.astype(np.float64), nan=0.0)), limits.min, limits.max)
    return clipped.astype(DTYPES[element_type])


def pack_indices(target: Target, indices: Sequence[int] | Array) -> Array:
    """A list for TU.PREX and TU.MMX as elements of the input type, rows x cols, for LD to bring to SPAD."""
    numbers = np.asarray(indices, np.int64)
    if numbers.size and not (0 <= numbers.min() and numbers.max() < 2**16):
        raise UserError(f"indices from {numbers.min()} to {numbers.max()}, needed 0 to {2**16 - 1}")
    each = target.indices_per_row
    rows = -(-numbers.size // each)
    padded = np.zeros(rows * each, "<u2")
    padded[: numbers.size] = numbers
    raw = np.zeros((rows, target.row_bytes), np.uint8)
    raw[:, : 2 * each] = padded.view(np.uint8).reshape(rows, 2 * each)
    return elements_of_bytes(target, raw)


def unpack_indices(target: Target, values: Array, count: int) -> NDArray[np.int64]:
    """The first `count` numbers of a list, from rows of SPAD."""
    raw = _as_bytes(target, values)[:, : 2 * target.indices_per_row]
    return np.ascontiguousarray(raw).view("<u2").reshape(-1)[:count].astype(np.int64)


def pack_metadata(target: Target, kept: Kept, places: Array) -> Array:
    """The metadata of TU.SPMMA as elements of the input type, rows x cols, for LD to bring with the values.

    places: the column in its group of each value, [rows, values], rising inside each group; values <= cols.
    """
    raw = np.zeros((target.metadata_rows(kept, len(places)), target.row_bytes), np.uint8)
    stream = metadata_bits(kept, places, target.array.cols).reshape(-1)
    raw.reshape(-1)[: stream.size] = stream
    return elements_of_bytes(target, raw)


def metadata_bits(kept: Kept, places: Array, cols: int) -> NDArray[np.uint8]:
    """The metadata of each row by itself, [rows, bytes of a row of `cols` values]; places as above."""
    rows, values = places.shape
    bits = np.zeros((rows, -(-cols * kept.bits // 8) * 8), np.uint8)
    digits = places[:, :, None] >> np.arange(kept.bits) & 1
    bits[:, : values * kept.bits] = digits.reshape(rows, values * kept.bits)
    return np.packbits(bits, axis=1, bitorder="little")


def unpack_metadata(target: Target, kept: Kept, elements: Array, rows: int, values: int) -> NDArray[np.int64]:
    """What `pack_metadata` was given, from the rows it made."""
    raw = _as_bytes(target, elements).reshape(-1)[: rows * target.metadata_bytes(kept)]
    bits = np.unpackbits(raw.reshape(rows, -1), axis=1, bitorder="little")[:, : values * kept.bits]
    return (bits.reshape(rows, values, kept.bits).astype(np.int64) << np.arange(kept.bits)).sum(axis=2)


def elements_of_bytes(target: Target, raw: NDArray[np.uint8]) -> Array:
    """Bytes of whole rows, [rows, bytes of a row], as elements of the input type."""
    if target.in_type == "bf16":
        return (raw.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
    return raw.view(DTYPES[target.in_type])


def _as_bytes(target: Target, elements: Array) -> NDArray[np.uint8]:
    """Elements of the input type as bytes."""
    if target.in_type == "bf16":
        elements = (elements.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    return np.ascontiguousarray(elements).view(np.uint8)


def fused_multiply_add(a: Array, b: Array, c: Array) -> Array:
    """float32 a * b + c, rounded once.

    The product is exact in double. The sum is rounded to odd in double, which is what makes the second
    rounding, to float32, right.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        product, addend = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
        total = product + addend
        part = total - product
        error = (product - (total - part)) + (addend - part)
        even = (total.view(np.int64) & 1) == 0
        inexact = np.isfinite(total) & (error != 0) & even
        odd = np.nextafter(total, np.copysign(np.inf, error))
        return np.where(inexact, odd, total).astype(np.float32)


def multiply(a: Array, b: Array, c: Array) -> Array:
    """c + a @ b as the unit computes it: integers wrap, floats are fused chains in the order of k."""
    if c.dtype == np.int32:
        # Wrapping is associative, so it does not matter that numpy wraps at another place.
        return (c.astype(np.int64) + a.astype(np.int64) @ b.astype(np.int64)).astype(np.int32)
    a, b = a.astype(np.float32), b.astype(np.float32)
    for k in range(a.shape[1]):
        c = fused_multiply_add(a[:, k, None], b[None, k, :], c)
    return c


def multiply_kept(a: Array, columns: NDArray[np.int64], b: Array, c: Array) -> Array:
    """c + a @ b where element [r, i] of a stands in column columns[r, i]; columns beyond b are left out.

    As `multiply`: integers wrap, floats are fused chains in the order of i.
    """
    used = columns < len(b)
    columns = np.where(used, columns, 0)
    for i in range(a.shape[1]):
        right, left = b[columns[:, i]], a[:, i, None]
        if c.dtype == np.int32:
            after = (c.astype(np.int64) + left.astype(np.int64) * right).astype(np.int32)
        else:
            after = fused_multiply_add(left.astype(np.float32), right.astype(np.float32), c)
        c = np.where(used[:, i, None], after, c)
    return c


# The machine's state. ------------------------------------------------------------------------------


@dataclass
class Buffer:
    """An off-chip array: flat, and written in place."""

    name: str
    data: Array
    element_type: str


@dataclass(frozen=True)
class Output:
    """An output conversion: element_type(act(value * scale))."""

    element_type: str
    scale: float
    act: Act


class State:
    """The values of a machine: on-chip memories, off-chip arrays and the stationary tile."""

    def __init__(self, target: Target):
        self.target = target
        rows = {
            "spad": target.spad_rows,
            "acc": target.acc_rows,
            "l0a": target.l0a_rows,
            "l0b": target.l0b_rows,
        }
        self.memories: dict[str, Array] = {
            name: np.zeros((rows[name], target.array.cols), DTYPES[self.type_of(name)]) for name in MEMORIES
        }
        self.written: dict[str, NDArray[np.bool_]] = {name: np.zeros(rows[name], bool) for name in MEMORIES}
        self.buffers: list[Buffer] = []
        self.outputs: list[Output | None] = [None]  # handle 0 is "as it is"
        self.tile: Array | None = None
        """The stationary tile; None before the first TU.PRE."""

    def type_of(self, memory: str) -> str:
        """The element type of a memory."""
        return self.target.acc_type if memory == "acc" else self.target.in_type

    def buffer(self, data: Array, element_type: str, name: str = "") -> int:
        """Registers an off-chip array, which is written in place; returns its handle."""
        if data.dtype != DTYPES[element_type] or not data.flags.c_contiguous:
            raise UserError(
                f"buffer '{name}' of {element_type} needs a contiguous array of "
                f"{np.dtype(DTYPES[element_type])}, found {data.dtype}"
            )
        self.buffers.append(Buffer(name or str(len(self.buffers)), data.reshape(-1), element_type))
        return len(self.buffers) - 1

    def output(self, element_type: str, scale: float = 1.0, act: Act = Act.NONE) -> int:
        """Registers an output conversion; returns its handle."""
        self.outputs.append(Output(element_type, scale, act))
        return len(self.outputs) - 1

    def find(self, buffer: int) -> Buffer:
        """The off-chip array of a handle."""
        if not 0 <= buffer < len(self.buffers):
            raise UserError(f"buffer {buffer} is not known, only {len(self.buffers)} buffers are (from 0)")
        return self.buffers[buffer]

    def rows(self, address: int, rows: int, step: int = 0, blocks: int = 1) -> Array:
        """Row numbers, blocks x rows, of an operand. Raises UserError when it leaves its memory."""
        memory = memory_of(address)
        numbers = (address & ROW_MASK) + np.arange(blocks)[:, None] * step + np.arange(rows)
        size = len(self.memories[memory])
        if rows < 1 or blocks < 1 or numbers.max() >= size:
            raise UserError(
                f"{rows} rows in {blocks} blocks at {memory}[{address & ROW_MASK}] step {step}: needed at "
                f"least one row, and none beyond the {size} of this memory"
            )
        if blocks > 1 and step < rows:
            raise UserError(
                f"{blocks} blocks of {rows} rows at {memory}[{address & ROW_MASK}] overlap: needed a step of "
                f"at least {rows}, found {step}"
            )
        return numbers

    def read(self, address: int, rows: int, step: int = 0, blocks: int = 1) -> Array:
        """An operand as one array of rows x (blocks * cols). Raises UserError for a row never written."""
        memory = memory_of(address)
        numbers = self.rows(address, rows, step, blocks)
        if not (written := self.written[memory][numbers]).all():
            hole = numbers[~written][0]
            raise UserError(f"row {hole} of {memory} is read, but was never written")
        return np.concatenate(list(self.memories[memory][numbers]), axis=1)

    def write(self, address: int, values: Array, step: int = 0):
        """Writes rows x any width, split in column blocks; the last is filled up with zeros."""
        memory, cols = memory_of(address), self.target.array.cols
        blocks = -(-values.shape[1] // cols)
        numbers = self.rows(address, values.shape[0], step, blocks)
        padded = np.zeros((values.shape[0], blocks * cols), self.memories[memory].dtype)
        padded[:, : values.shape[1]] = values
        for block in range(blocks):
            self.memories[memory][numbers[block]] = padded[:, block * cols : (block + 1) * cols]
        self.written[memory][numbers] = True

    def named(self, address: int, index: int, rows: int) -> NDArray[np.int64]:
        """The rows of a memory, from an address on, that a list in SPAD names; all must have been written."""
        memory = memory_of(address)
        packed = self.read(index, -(-rows // self.target.indices_per_row))
        indices = unpack_indices(self.target, packed, rows)
        numbers = (address & ROW_MASK) + indices
        size = len(self.memories[memory])
        for r, row in enumerate(numbers.tolist()):
            if row >= size:
                raise UserError(
                    f"index {r} is {indices[r]}: row {row} of {memory}, which has {size} rows, is not there"
                )
            if not self.written[memory][row]:
                raise UserError(
                    f"index {r} is {indices[r]}: row {row} of {memory} is read, but was never written"
                )
        return numbers

    def elements(self, buffer: int, starts: Array, cols: int) -> Array:
        """Element numbers, rows x cols, of rows that start there. Raises UserError outside the buffer."""
        numbers = starts[:, None] + np.arange(cols)
        found = self.find(buffer)
        if not numbers.size:
            raise UserError(f"{len(starts)} rows of {cols} of buffer '{found.name}', needed at least 1 of 1")
        if numbers.min() < 0 or numbers.max() >= len(found.data):
            raise UserError(
                f"elements {numbers.min()} to {numbers.max()} of buffer '{found.name}', which has elements 0 "
                f"to {len(found.data) - 1}"
            )
        return numbers

    def indices(self, index: int, index_offset: int, rows: int) -> Array:
        """Entries of an index buffer, as 64-bit numbers."""
        found = self.find(index)
        if found.element_type != "i32":
            raise UserError(f"index buffer '{found.name}' has {found.element_type}, needed i32")
        numbers = found.data[self.elements(index, np.array([index_offset]), rows)[0]].astype(np.int64)
        if numbers.min() < 0:
            raise UserError(f"index buffer '{found.name}' has {numbers.min()}, needed at least 0")
        return numbers


# What each instruction computes. -------------------------------------------------------------------


def _load(state: State, dst: int, step: int, buffer: int, starts: Array, cols: int):
    source, memory = state.find(buffer), memory_of(dst)
    if source.element_type != state.type_of(memory):
        raise UserError(
            f"buffer '{source.name}' has {source.element_type}, but {memory} holds {state.type_of(memory)}"
        )
    state.write(dst, source.data[state.elements(buffer, starts, cols)], step)


def _ld(
    state: State, dst: int, step: int, buffer: int, offset: int, stride: int, rows: int, cols: int
) -> None:
    _load(state, dst, step, buffer, offset + np.arange(rows) * stride, cols)


def _ldg(
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


def _st(
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


def _sts(
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
        _scatter_add(state.target)
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


def _mv(state: State, dst: int, dst_step: int, src: int, src_step: int, rows: int, blocks: int) -> None:
    if state.type_of(memory_of(dst)) != state.type_of(memory_of(src)):
        raise UserError(
            f"{memory_of(src)} holds {state.type_of(memory_of(src))} and {memory_of(dst)} "
            f"{state.type_of(memory_of(dst))}; needed the same to move"
        )
    sources, targets = state.rows(src, rows, src_step, blocks), state.rows(dst, rows, dst_step, blocks)
    if memory_of(src) == memory_of(dst) and np.intersect1d(sources, targets).size:
        raise UserError(f"source and target of a move overlap in {memory_of(dst)}; needed apart")
    state.write(dst, state.read(src, rows, src_step, blocks), dst_step)


def _fill(state: State, dst: int, rows: int, value: float) -> None:
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


def _vop(state: State, op: int, dst: int, a: int, b: int, rows: int, imm: float) -> None:
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


def _pre(state: State, b: int, rows: int, cols: int) -> None:
    _need_kind(state, "TU.PRE", "ws")
    _need_memory("b", b, "spad")
    _need_tile_size(state, rows, cols)
    _put_tile(state, state.read(b, rows), cols)


def _mm(state: State, c: int, a: int, rows: int, accumulate: int) -> None:
    _need_kind(state, "TU.MM", "ws")
    _need_memory("c", c, "acc")
    _need_memory("a", a, "spad")
    if state.tile is None:
        raise UserError("TU.MM needs a TU.PRE before it; the array is empty")
    array = state.target.array
    dtype = DTYPES[state.target.acc_type]
    before = state.read(c, rows) if accumulate else np.zeros((rows, array.cols), dtype)
    state.write(c, multiply(state.read(a, rows)[:, : array.rows], state.tile, before))


def _prex(state: State, b: int, index: int, rows: int, cols: int) -> None:
    _need_kind(state, "TU.PREX", "ws")
    _indexed(state.target)
    _need_memory("b", b, "spad")
    _need_memory("index", index, "spad")
    _need_tile_size(state, rows, cols)
    _put_tile(state, state.memories["spad"][state.named(b, index, rows)], cols)


def _mmx(state: State, c: int, a: int, index: int, rows: int) -> None:
    _need_kind(state, "TU.MMX", "ws")
    _indexed(state.target)
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


def _mma(
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


def _spmma(
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
    kept = _kept(target, keep, group)
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


def _fence(state: State) -> None:
    """Values are computed in program order anyway."""


# What each instruction costs. ----------------------------------------------------------------------


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
    adding = rows * _scatter_add(target).row_cycles if add else 0
    return (
        data + dma.gather_overhead * requests + math.ceil(INDEX_BYTES * rows / dma.bytes_per_cycle) + adding
    )


def _ld_cycles(
    target: Target, dst: int, step: int, buffer: int, offset: int, stride: int, rows: int, cols: int
) -> int:
    return _strided_cycles(target, cols * _element_bytes(target, dst), rows, rows == 1 or stride == cols)


def _ld_energy(
    target: Target, dst: int, step: int, buffer: int, offset: int, stride: int, rows: int, cols: int
) -> float:
    blocks = -(-cols // target.array.cols)
    size = rows * cols * _element_bytes(target, dst)
    return size * target.energy.dram_pj_per_byte + _rows_pj(target, dst, rows * blocks)


def _ldg_cycles(
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


def _ldg_energy(
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
    return index_pj + _ld_energy(target, dst, step, buffer, offset, stride, rows, cols)


def _st_cycles(
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


def _st_energy(
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


def _sts_cycles(
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


def _sts_energy(
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
    adding = rows * cols * _scatter_add(target).element_pj if add else 0.0
    return size * target.energy.dram_pj_per_byte + _rows_pj(target, src, rows * blocks) + adding


def _mv_cycles(
    target: Target, dst: int, dst_step: int, src: int, src_step: int, rows: int, blocks: int
) -> int:
    size = rows * blocks * _bytes_per_row(target, src)
    return math.ceil(size / target.move.bytes_per_cycle) + target.move.latency


def _mv_energy(
    target: Target, dst: int, dst_step: int, src: int, src_step: int, rows: int, blocks: int
) -> float:
    return _rows_pj(target, src, rows * blocks) + _rows_pj(target, dst, rows * blocks)


def _vector_cycles(target: Target, rows: int) -> int:
    return -(-rows * target.array.cols // target.vector.lanes) + target.vector.latency


def _fill_cycles(target: Target, dst: int, rows: int, value: float) -> int:
    return _vector_cycles(target, rows)


def _fill_energy(target: Target, dst: int, rows: int, value: float) -> float:
    return _rows_pj(target, dst, rows) + rows * target.array.cols * target.energy.alu_pj


def _vop_cycles(target: Target, op: int, dst: int, a: int, b: int, rows: int, imm: float) -> int:
    return _vector_cycles(target, rows)


def _vop_energy(target: Target, op: int, dst: int, a: int, b: int, rows: int, imm: float) -> float:
    operands = (dst, a) if op in (Vop.RELU, Vop.SCALE) else (dst, a, b)
    memory = sum(_rows_pj(target, address, rows) for address in operands)
    return memory + rows * target.array.cols * target.energy.alu_pj


def _pre_cycles(target: Target, b: int, rows: int, cols: int) -> int:
    return target.array.rows


def _pre_energy(target: Target, b: int, rows: int, cols: int) -> float:
    array = target.array
    registers = array.rows * array.cols * ELEMENT_BYTES[target.in_type]
    return _rows_pj(target, b, rows) + registers * target.energy.reg_pj_per_byte


def _mm_cycles(target: Target, c: int, a: int, rows: int, accumulate: int) -> int:
    array = target.array
    return max(rows, array.min_rows) + (array.rows + array.cols - 2 if array.fill_in_occupancy else 0)


def _mm_energy(target: Target, c: int, a: int, rows: int, accumulate: int) -> float:
    array = target.array
    operand = _memory_pj(target, a, rows * array.rows * ELEMENT_BYTES[target.in_type])
    sums = _rows_pj(target, c, rows * (2 if accumulate else 1))
    return operand + sums + rows * array.rows * array.cols * target.mac_pj


def _indexed(target: Target) -> Indexed:
    """What rows by index cost. Raises UserError where the target does not have them."""
    if target.indexed is None:
        raise UserError(
            f"target {target.name} cannot address rows by index; TU.PREX and TU.MMX need a target with a "
            "section [indexed]"
        )
    return target.indexed


def _scatter_add(target: Target) -> ScatterAdd:
    """What adding in memory costs. Raises UserError where the target cannot."""
    if target.scatter_add is None:
        raise UserError(
            f"target {target.name} cannot add to memory; an STS that adds needs a target with a section "
            "[scatter_add]"
        )
    return target.scatter_add


def _kept(target: Target, keep: int, group: int) -> Kept:
    """The N:M pattern of a TU.SPMMA. Raises UserError where the target does not take it."""
    if (kept := Kept(keep, group)) not in target.kept_patterns:
        known = ", ".join(map(str, target.kept_patterns)) or "none; it needs a section [structured]"
        raise UserError(f"target {target.name} does not take {kept} left operands; it takes {known}")
    return kept


def _list_pj(target: Target, index: int, rows: int) -> float:
    """Energy to read a list of so many indices, whole rows of it."""
    return _rows_pj(target, index, -(-rows // target.indices_per_row))


def _prex_cycles(target: Target, b: int, index: int, rows: int, cols: int) -> int:
    return _pre_cycles(target, b, rows, cols) + rows * _indexed(target).read_cycles


def _prex_energy(target: Target, b: int, index: int, rows: int, cols: int) -> float:
    by_index = rows * _indexed(target).read_pj + _list_pj(target, index, rows)
    return _pre_energy(target, b, rows, cols) + by_index


def _mmx_cycles(target: Target, c: int, a: int, index: int, rows: int) -> int:
    return _mm_cycles(target, c, a, rows, 1) + rows * _indexed(target).accumulate_cycles


def _mmx_energy(target: Target, c: int, a: int, index: int, rows: int) -> float:
    by_index = rows * _indexed(target).accumulate_pj + _list_pj(target, index, rows)
    return _mm_energy(target, c, a, rows, 1) + by_index


def _mma_cycles(
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


def _mma_energy(
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


def _spmma_cycles(
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
    values = _kept(target, keep, group).values(k)
    return _mma_cycles(target, c, c_step, a, 0, b, b_step, mm, n, values, accumulate)


def _spmma_energy(
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
    kept = _kept(target, keep, group)
    m0, n0, k0 = target.unit
    steps = -(-mm // m0) * -(-n // n0) * -(-kept.values(k) // k0)
    # As TU.MMA with the values that are kept; but each step reads all columns of its groups, and metadata.
    dense = _mma_energy(target, c, c_step, a, 0, b, b_step, mm, n, kept.values(k), accumulate)
    more = steps * (kept.columns(k0) - k0) * n0 * ELEMENT_BYTES[target.in_type]
    return dense + _memory_pj(target, b, more) + _rows_pj(target, meta, target.metadata_rows(kept, mm))


def _fence_cycles(target: Target) -> int:
    return 0


def _fence_energy(target: Target) -> float:
    return 0.0


# The instruction set. ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Instruction:
    """One instruction of the machine.

    `cycles(target, *operands)` is how long it holds its engine; `energy(target, *operands)` is in picojoules.
    Both take `off_chip`, an element type, for a store whose output conversion changes the type.
    `reference(state, *operands)` computes it. Where the simulator reports an error it raises UserError, and
    leaves the state as it was.
    """

    mnemonic: str
    c_name: str
    engine: str
    """LOAD, STORE, WPORT (MAT where the PEs have one register for weights), MAT, MOVE, VEC or FRONT."""
    operands: tuple[str, ...]
    summary: str
    cycles: Callable[..., int]
    energy: Callable[..., float]
    reference: Callable[..., None]

    def engine_on(self, target: Target) -> str:
        """The engine that runs the instruction on a target."""
        if self.engine == "WPORT" and not target.array.pe_double_buffer:
            return "MAT"
        return self.engine


def _instruction(
    mnemonic: str,
    engine: str,
    operands: str,
    summary: str,
    cycles: Callable[..., int],
    energy: Callable[..., float],
    reference: Callable[..., None],
) -> tuple[str, Instruction]:
    c_name = "ax_" + mnemonic.removeprefix("TU.").lower()
    names = tuple(operands.split())
    return mnemonic, Instruction(mnemonic, c_name, engine, names, summary, cycles, energy, reference)


INSTRUCTIONS: Mapping[str, Instruction] = dict(
    (
        _instruction(
            "LD",
            "LOAD",
            "dst step buffer offset stride rows cols",
            "loads rows x cols elements; the last column block is filled up with zeros",
            _ld_cycles,
            _ld_energy,
            _ld,
        ),
        _instruction(
            "LDG",
            "LOAD",
            "dst step buffer offset stride index index_offset rows cols",
            "loads the rows an index names",
            _ldg_cycles,
            _ldg_energy,
            _ldg,
        ),
        _instruction(
            "ST",
            "STORE",
            "buffer offset stride src step rows cols output",
            "stores rows x cols elements, converted",
            _st_cycles,
            _st_energy,
            _st,
        ),
        _instruction(
            "STS",
            "STORE",
            "buffer offset stride index index_offset src step rows cols output add",
            "stores to the rows an index names, or adds to what is there",
            _sts_cycles,
            _sts_energy,
            _sts,
        ),
        _instruction(
            "MV",
            "MOVE",
            "dst dst_step src src_step rows blocks",
            "copies blocks of rows between on-chip memories",
            _mv_cycles,
            _mv_energy,
            _mv,
        ),
        _instruction(
            "FILL",
            "VEC",
            "dst rows value",
            "sets rows to one value",
            _fill_cycles,
            _fill_energy,
            _fill,
        ),
        _instruction(
            "VOP",
            "VEC",
            "op dst a b rows imm",
            "element-wise operation (Vop) on rows",
            _vop_cycles,
            _vop_energy,
            _vop,
        ),
        _instruction(
            "TU.PRE",
            "WPORT",
            "b rows cols",
            "makes rows x cols elements the stationary tile, the rest of it zero",
            _pre_cycles,
            _pre_energy,
            _pre,
        ),
        _instruction(
            "TU.MM",
            "MAT",
            "c a rows accumulate",
            "c (+)= a * the stationary tile",
            _mm_cycles,
            _mm_energy,
            _mm,
        ),
        _instruction(
            "TU.PREX",
            "WPORT",
            "b index rows cols",
            "makes rows that a list in SPAD names the stationary tile, the rest of it zero",
            _prex_cycles,
            _prex_energy,
            _prex,
        ),
        _instruction(
            "TU.MMX",
            "MAT",
            "c a index rows",
            "adds a * the stationary tile to rows that a list in SPAD names",
            _mmx_cycles,
            _mmx_energy,
            _mmx,
        ),
        _instruction(
            "TU.MMA",
            "MAT",
            "c c_step a a_step b b_step mm n k accumulate",
            "c[mm, n] (+)= a[mm, k] * b[k, n]",
            _mma_cycles,
            _mma_energy,
            _mma,
        ),
        _instruction(
            "TU.SPMMA",
            "MAT",
            "c c_step a meta b b_step mm n k keep group accumulate",
            "c[mm, n] (+)= a[mm, k] * b[k, n], of each group of a's columns some kept, named by metadata",
            _spmma_cycles,
            _spmma_energy,
            _spmma,
        ),
        _instruction(
            "FENCE",
            "FRONT",
            "",
            "what follows starts after everything before has completed",
            _fence_cycles,
            _fence_energy,
            _fence,
        ),
    )
)
