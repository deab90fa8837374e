"""Addresses and numbers of a machine: element types, conversions, packed lists and products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.errors import UserError
from sparsecc.target.sections import ELEMENT_BYTES
from sparsecc.target.structured import Kept
from sparsecc.target.target import Target

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
    raw = bytes_of(target, values)[:, : 2 * target.indices_per_row]
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
    raw = bytes_of(target, elements).reshape(-1)[: rows * target.metadata_bytes(kept)]
    bits = np.unpackbits(raw.reshape(rows, -1), axis=1, bitorder="little")[:, : values * kept.bits]
    return (bits.reshape(rows, values, kept.bits).astype(np.int64) << np.arange(kept.bits)).sum(axis=2)


def elements_of_bytes(target: Target, raw: NDArray[np.uint8]) -> Array:
    """Bytes of whole rows, [rows, bytes of a row], as elements of the input type."""
    if target.in_type == "bf16":
        return (raw.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
    return raw.view(DTYPES[target.in_type])


def bytes_of(target: Target, elements: Array) -> NDArray[np.uint8]:
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
