"""Dense element attributes as numpy arrays, and back. Both sides are bytes; nothing is unpacked to Python."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import AnyDenseElement, BytesAttr, DenseIntOrFPElementsAttr, TensorType
from xdsl.ir import Attribute

from sparsecc.errors import UserError

STORED: dict[str, type[np.generic]] = {
    "i1": np.bool_,
    "i8": np.int8,
    "i16": np.int16,
    "i32": np.int32,
    "i64": np.int64,
    "ui8": np.uint8,
    "ui16": np.uint16,
    "ui32": np.uint32,
    "ui64": np.uint64,
    "index": np.int64,
    "f16": np.float16,
    "bf16": np.uint16,
    "f32": np.float32,
    "f64": np.float64,
}


def stored(element_type: Attribute) -> type[np.generic]:
    """How numpy holds the elements; raises UserError for a type that it cannot hold."""
    if (found := STORED.get(str(element_type))) is None:
        raise UserError(f"elements of type {element_type} cannot be read; known are {', '.join(STORED)}")
    return found


def array_of(elements: DenseIntOrFPElementsAttr) -> NDArray[np.generic]:
    """The elements in their shape, a view where possible; bf16 as the f32 they equal."""
    shape = elements.get_shape()
    element_type = elements.get_element_type()
    flat = np.frombuffer(elements.data.data, stored(element_type))
    if str(element_type) == "bf16":
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    # A single element stands for all of them.
    return np.broadcast_to(flat, shape) if flat.size == 1 else flat.reshape(shape)


def round_to(array: NDArray[np.generic], element_type: Attribute) -> NDArray[np.generic]:
    """The array in this element type; bf16 is rounded to nearest even and kept as the f32 it equals."""
    if str(element_type) != "bf16":
        return array.astype(stored(element_type), copy=False)
    bits = array.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(array.astype(np.float32)), array, rounded.view(np.float32)).astype(np.float32)


def elements_of(array: NDArray[np.generic], element_type: Attribute) -> DenseIntOrFPElementsAttr:
    """The attribute that holds this array as elements of the type."""
    rounded = round_to(array, element_type)
    if str(element_type) == "bf16":
        rounded = (rounded.view(np.uint32) >> 16).astype(np.uint16)
    data = BytesAttr(np.ascontiguousarray(rounded).tobytes())
    tensor_type = TensorType(cast(AnyDenseElement, element_type), array.shape)
    return DenseIntOrFPElementsAttr(tensor_type, data)
