"""Reads what ONNX files hold: the message, its tensors, external data and sparse tensors.

Nothing but the protobuf parser touches the model: shape inference, onnx-ir and others drop sparse
initializers or fail on them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.errors import UserError
from sparsecc.importers.constants import Constant, Dense, Sparse
from sparsecc.importers.files import check_file, fault, quote, read_file, unreadable
from sparsecc.nn.shapes import MAX_ELEMENTS

if TYPE_CHECKING:
    import onnx

# ONNX's number of each element type that is supported: our name, numpy's type, and the field of TensorProto
# that holds values which are not raw bytes.
_TYPES: dict[int, tuple[str, str, str]] = {
    1: ("f32", "<f4", "float_data"),
    2: ("ui8", "|u1", "int32_data"),
    3: ("i8", "|i1", "int32_data"),
    4: ("ui16", "<u2", "int32_data"),
    5: ("i16", "<i2", "int32_data"),
    6: ("i32", "<i4", "int32_data"),
    7: ("i64", "<i8", "int64_data"),
    9: ("i1", "|u1", "int32_data"),
    10: ("f16", "<f2", "int32_data"),
    11: ("f64", "<f8", "double_data"),
    12: ("ui32", "<u4", "uint64_data"),
    13: ("ui64", "<u8", "uint64_data"),
    16: ("bf16", "<u2", "int32_data"),
}
_OTHER_TYPES = {
    0: "undefined", 8: "string", 14: "complex64", 15: "complex128", 17: "float8e4m3fn", 18: "float8e4m3fnuz",
    19: "float8e5m2", 20: "float8e5m2fnuz", 21: "uint4", 22: "int4", 23: "float4e2m1", 24: "float8e8m0",
    25: "uint2", 26: "int2",
}  # fmt: skip


def onnx_library() -> Any:
    """The `onnx` package. Raises UserError when it is not installed."""
    try:
        import onnx
    except ImportError:
        raise UserError("ONNX files need the package onnx; pip install 'sparsecc[onnx]'") from None
    return onnx


def element_name(number: int, where: str) -> str:
    """Our name of ONNX's element type. Raises UserError for one that is not supported."""
    if number not in _TYPES:
        found = _OTHER_TYPES.get(number, f"number {number}")
        raise fault(
            where,
            f"elements of type {found}",
            f"one of {', '.join(name for name, _, _ in _TYPES.values())} is needed",
            "convert the model to one of these types",
        )
    return _TYPES[number][0]


def read_model(path: Path) -> onnx.ModelProto:
    """The message of an ONNX file; external data is not read yet. Raises UserError for a bad file."""
    model = onnx_library().ModelProto()
    data = read_file(path)
    try:
        model.ParseFromString(data)
    except Exception as error:  # the parser's kinds of errors differ from one protobuf to another
        raise fault(
            str(path), f"a damaged or truncated ONNX file ({error})", "a complete one is needed",
            "copy, download or export it again",
        ) from None  # fmt: skip
    if _has_bad_text(model):
        raise fault(
            str(path), "a name that is not UTF-8 text", "an undamaged file is needed",
            "copy, download or export it again",
        )  # fmt: skip
    if not model.HasField("graph") or not model.opset_import:
        raise fault(
            str(path), "no graph, or no operator set", "an ONNX model has both",
            "check that the file is an ONNX model, and export it again",
        )  # fmt: skip
    return model


def _has_bad_text(message: Any) -> bool:
    """Whether a text anywhere in the message is none: the parser leaves such as bytes."""
    for descriptor, value in message.ListFields():
        if descriptor.type == descriptor.TYPE_MESSAGE:
            inner = [value] if hasattr(value, "ListFields") else value
            if any(map(_has_bad_text, inner)):
                return True
        elif descriptor.type == descriptor.TYPE_STRING:
            texts = [value] if isinstance(value, str | bytes) else value
            if any(isinstance(text, bytes) for text in texts):
                return True
    return False


class TensorReader:
    """Reads the tensors of a model that lies in `folder`, in which its external data lie, too."""

    def __init__(self, folder: Path):
        self._folder = folder

    def dense(self, tensor: onnx.TensorProto, where: str) -> Dense:
        """The values of a tensor. Raises UserError when they do not fit its type and shape."""
        name = element_name(tensor.data_type, where)
        _, kind, field = _TYPES[tensor.data_type]
        shape = _shape(tensor.dims, where)
        if tensor.HasField("segment"):
            raise fault(where, "a segment of a tensor", "whole ones are needed", "export the model again")
        if tensor.data_location == 1:
            flat = self._external(tensor, np.dtype(kind), math.prod(shape), where)
        elif tensor.HasField("raw_data"):
            flat = _exactly(np.frombuffer(_whole(tensor.raw_data, kind, where), kind), shape, where)
        else:
            flat = _exactly(_listed(tensor, field, kind), shape, where)
        if name == "bf16":
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        elif name == "i1":
            flat = flat != 0
        return Dense(flat.astype(flat.dtype.newbyteorder("="), copy=False).reshape(shape), name)

    def sparse(self, tensor: onnx.SparseTensorProto, where: str) -> Constant:
        """A sparse tensor, its indices linear [nnz] or coordinates [nnz, rank].

        Raises UserError when indices and values contradict each other or the shape.
        """
        shape = _shape(tensor.dims, where)
        values = self.dense(tensor.values, f"{where}, values")
        indices = self.dense(tensor.indices, f"{where}, indices").values
        if values.values.ndim != 1 or indices.dtype != np.int64:
            raise fault(
                where, f"values of {values.values.ndim} dimensions and indices of type {indices.dtype}",
                "values of 1 dimension and int64 indices are needed", "write the sparse tensor again",
            )  # fmt: skip
        count = len(values.values)
        if indices.shape not in ((count,), (count, len(shape))):
            raise fault(
                where, f"{count} values and indices of shape {list(indices.shape)}",
                f"needed [{count}] or [{count}, {len(shape)}]", "write the sparse tensor again",
            )  # fmt: skip
        places = _places(indices, shape, where)
        order = np.argsort(places, kind="stable")
        places = places[order]
        twice = np.flatnonzero(np.diff(places) == 0)
        if twice.size:
            at = np.unravel_index(places[twice[0]], shape)
            raise fault(
                where, f"two values at {[int(i) for i in at]}", "one value for each index is needed",
                "write the sparse tensor again without duplicates",
            )  # fmt: skip
        return Sparse(shape, values.element, places, values.values[order])

    def _external(
        self, tensor: onnx.TensorProto, kind: np.dtype[Any], count: int, where: str
    ) -> NDArray[Any]:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        relative = Path(location)
        if not location or relative.is_absolute() or ".." in relative.parts or "\0" in location:
            raise fault(
                where, f"external data at {quote(location)}", "a path inside the model's folder is needed",
                "save the external data beside the model",
            )  # fmt: skip
        path = self._folder / relative
        try:
            size = check_file(path)
        except UserError as error:
            raise UserError(
                f"{where}, external data in {error}, and copy the model with all of its files"
            ) from None
        offset, length = (_number(entries.get(key, "0"), where) for key in ("offset", "length"))
        wanted = count * kind.itemsize
        if (length and length != wanted) or offset + wanted > size:
            raise fault(
                f"{where}, external data in {path}",
                f"{length or size - offset} bytes from byte {offset} of {size}",
                f"{wanted} bytes are needed",
                "copy or export the model and its data again",
            )
        if not count:
            return np.zeros(0, kind)
        try:
            # Read when used: the data may be larger than memory.
            return np.memmap(path, kind, "r", offset, (count,))
        except (OSError, ValueError) as error:
            raise unreadable(path, error) from None


def _shape(dims: Sequence[int], where: str) -> tuple[int, ...]:
    shape = tuple(int(d) for d in dims)
    if min(shape, default=0) < 0 or len(shape) > 32 or math.prod(shape) > MAX_ELEMENTS:
        raise fault(
            where, f"the shape {list(shape)}",
            f"up to 32 extents, none negative, and at most {MAX_ELEMENTS} elements are needed",
            "export the model again",
        )  # fmt: skip
    return shape


def _whole(data: bytes, kind: str, where: str) -> bytes:
    itemsize = np.dtype(kind).itemsize
    if len(data) % itemsize:
        raise fault(where, f"{len(data)} bytes", f"a multiple of {itemsize} is needed", "export it again")
    return data


def _exactly(flat: NDArray[Any], shape: tuple[int, ...], where: str) -> NDArray[Any]:
    if flat.size != math.prod(shape):
        raise fault(
            where, f"{flat.size} values", f"the shape {list(shape)} needs {math.prod(shape)}",
            "copy or export the model again",
        )  # fmt: skip
    return flat


def _listed(tensor: onnx.TensorProto, field: str, kind: str) -> NDArray[Any]:
    """Values from the field of their type; those of 16 bits and less stand there as integers."""
    values = np.array(getattr(tensor, field))
    if values.size == 0:
        return np.zeros(0, kind)
    if field == "int32_data" and kind == "<f2":
        return values.astype(np.uint16).view(np.float16)
    return values.astype(kind)


def _places(indices: NDArray[np.int64], shape: tuple[int, ...], where: str) -> NDArray[np.int64]:
    """Row-major places of linear indices or coordinates."""
    linear = indices.ndim == 1
    columns = indices[:, None] if linear else indices
    limits = np.array([math.prod(shape)] if linear else shape, np.int64)
    outside = np.argwhere((columns < 0) | (columns >= limits))
    if outside.size:
        i = outside[0][0]
        raise fault(
            where, f"the index {columns[i].tolist()}", f"needed 0 and more, below {limits.tolist()}",
            "write the sparse tensor again",
        )  # fmt: skip
    if linear:
        return columns[:, 0]
    if not shape:
        return np.zeros(len(columns), np.int64)
    return np.asarray(np.ravel_multi_index(tuple(columns.T), shape), np.int64)


def _number(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise fault(
            where, f"{quote(text)} as offset or length", "a whole number is needed", "export the model again"
        )
    return int(text)
