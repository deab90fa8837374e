"""Reader of one 2-D tensor of a `.safetensors` file, dense or with the bitmasks of compressed-tensors.

The safetensors library checks the header. The bytes of the one tensor are then read directly: the
library's numpy side has no bfloat16, and reading the whole file would cost all the other tensors.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from sparsecc.errors import UserError
from sparsecc.importers.bitmask import unpack
from sparsecc.importers.files import MAX_BYTES, check_file, damaged, fault, name_list, quote, unreadable
from sparsecc.importers.matrix import Matrix, build_from_dense, build_matrix, check_shape

# Tensors that a matrix with a bitmask consists of.
_PARTS = ("shape", "bitmask", "compressed", "row_offsets")
_DTYPES = {
    "BOOL": "?",
    "I8": "<i1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
    "U8": "<u1",
    "U16": "<u2",
    "U32": "<u4",
    "U64": "<u8",
    "F16": "<f2",
    "BF16": "<u2",  # the upper half of a float32, widened below
    "F32": "<f4",
    "F64": "<f8",
}


def read_safetensors(path: Path, tensor: str | None, *, source: str, stem: str) -> Matrix:
    """The matrix of the nonzero elements of tensor `tensor`, or of the only 2-D tensor when that is None.

    bfloat16 is widened to float32. Raises UserError when the file is bad, when it has no such tensor, or
    when none is named and there is not exactly one to choose.
    """
    check_file(path)
    header, start = _header(path)
    tensor = _only_matrix(header, path) if tensor is None else tensor
    where = f"{path}, tensor {quote(tensor, 300)}"
    if f"{tensor}.bitmask" in header:
        return _of_bitmask(path, header, start, tensor, source=source, name=f"{stem}.{tensor}", where=where)
    if tensor not in header:
        raise UserError(f"{path}: no tensor {quote(tensor, 300)}; {_choices(header, path)}")
    entry = header[tensor]
    name = f"{stem}.{tensor}"
    check_shape(tuple(entry["shape"]), where)
    values = _values(path, entry, start, where)
    dtype = "bfloat16" if entry["dtype"] == "BF16" else None
    return build_from_dense(values, source=source, name=name, dtype=dtype)


def matrix_names(path: Path) -> list[str]:
    """Names of the matrices of a file, in order; a bitmask and its values are one. Raises UserError."""
    return sorted(_matrices(_header(path)[0]))


def _of_bitmask(
    path: Path,
    header: dict[str, dict[str, Any]],
    start: int,
    tensor: str,
    *,
    source: str,
    name: str,
    where: str,
) -> Matrix:
    """The matrix whose parts are tensors of their own."""
    missing = [part for part in ("shape", "compressed") if f"{tensor}.{part}" not in header]
    if missing:
        raise fault(
            where, f"a bitmask without {tensor}.{missing[0]}", "it is needed", "save the matrix again"
        )
    parts = {
        part: _values(path, header[f"{tensor}.{part}"], start, f"{where}, {part}")
        for part in _PARTS
        if f"{tensor}.{part}" in header
    }
    shape, rows, columns, values = unpack(
        parts["shape"], parts["bitmask"], parts["compressed"], parts.get("row_offsets"), where
    )
    dtype = "bfloat16" if header[f"{tensor}.compressed"]["dtype"] == "BF16" else None
    return build_matrix(shape, rows, columns, values, source=source, name=name, dtype=dtype)


def _values(path: Path, entry: dict[str, Any], start: int, where: str) -> NDArray[Any]:
    """The elements of one tensor; bfloat16 as the float32 it equals."""
    if entry["dtype"] not in _DTYPES:
        raise fault(
            where,
            f"values of type {entry['dtype']}",
            f"one of {', '.join(_DTYPES)} is needed",
            "convert the tensor and save it again",
        )
    begin, end = entry["data_offsets"]
    if end - begin > MAX_BYTES:
        raise fault(where, f"{end - begin} bytes", f"at most {MAX_BYTES} are supported", "split the tensor")
    with path.open("rb") as stream:
        stream.seek(start + begin)
        data = stream.read(end - begin)
    values = np.frombuffer(data, _DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return (values.astype(np.uint32) << 16).view(np.float32) if entry["dtype"] == "BF16" else values


def _header(path: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """The header's entry of each tensor, and the offset of the first byte after the header."""
    try:
        # Opened here first, as the library says "no such file" when permission is what is missing.
        with path.open("rb") as stream:
            with safe_open(path, framework="np"):
                pass  # opening checks lengths, types, shapes and that the offsets fit the file
            length = int.from_bytes(stream.read(8), "little")
            header = cast(dict[str, dict[str, Any]], json.loads(stream.read(length)))
    except OSError as error:
        raise unreadable(path, error) from None
    except Exception as error:  # the library has an error type of its own, json others
        raise damaged(str(path), ".safetensors file", error) from None
    header.pop("__metadata__", None)
    return header, 8 + length


def _matrices(header: dict[str, dict[str, Any]]) -> list[str]:
    """Names of all matrices of the file."""
    packed = [name.removesuffix(".bitmask") for name in header if name.endswith(".bitmask")]
    parts = {f"{name}.{part}" for name in packed for part in _PARTS}
    dense = [name for name, entry in header.items() if len(entry["shape"]) == 2 and name not in parts]
    return [*packed, *(name for name in dense if name not in packed)]


def _only_matrix(header: dict[str, dict[str, Any]], path: Path) -> str:
    names = _matrices(header)
    if len(names) != 1:
        raise UserError(
            f"{path}: no tensor is named and {len(names)} have 2 dimensions; {_choices(header, path)}"
        )
    return names[0]


def _choices(header: dict[str, dict[str, Any]], path: Path) -> str:
    names = _matrices(header)
    if not names:
        return "the file holds no tensor of 2 dimensions, so use another file"
    return f"name one as {path}:NAME, where NAME is {name_list(names)}"
