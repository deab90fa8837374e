"""Writes matrices in the formats that `sparsecc.importers` reads."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sparsecc.errors import UserError
from sparsecc.importers.matrix import Matrix, row_of_entry

Array = NDArray[Any]

LAYOUTS: dict[str, tuple[str, ...]] = {
    ".safetensors": ("dense", "sparse-bitmask", "sparse-24-bitmask"),
    ".onnx": ("coordinates", "linear", "dense"),
}
"""Layouts of the formats that have several; the first one is the default."""

_ENDINGS = (".smtx", ".smtx.gz", ".mtx", ".mtx.gz", ".npz", ".npy", ".safetensors", ".onnx")
_NAMED = re.compile(r"(.+\.(?:safetensors|onnx)):(.+)", re.IGNORECASE | re.DOTALL)


def save_matrix(matrix: Matrix, target: str, *, layout: str | None = None, pattern: bool = False) -> Path:
    """Write the matrix to a file whose ending says the format; returns its path.

    target: FILE.smtx, FILE.mtx (both also .gz), FILE.npz, FILE.npy, FILE.safetensors or FILE.onnx; the last
        two take a name of the matrix, FILE:NAME (default: "weight"). An ONNX file is a model that multiplies
        by it.
    layout: one of LAYOUTS of the ending.
    pattern: drop the values, which only formats of positions (.smtx) do not hold.
    bfloat16 values are written as the float32 they equal, boolean ones as float32 ones.
    Raises UserError for another ending or layout, for values that would be lost, and when writing fails.
    """
    named = _NAMED.fullmatch(target)
    path, name = (Path(named[1]), named[2]) if named else (Path(target), "weight")
    lower = path.name.lower()
    ending = next((e for e in sorted(_ENDINGS, key=len, reverse=True) if lower.endswith(e)), None)
    if ending is None:
        raise UserError(f"{path}: no known format by its ending; give one of {', '.join(_ENDINGS)}")
    layouts = LAYOUTS.get(ending, ("",))
    layout = layout or layouts[0]
    if layout not in layouts:
        known = f"its layouts are {', '.join(layouts)}" if layouts != ("",) else "it has only one"
        raise UserError(f"{path}: there is no layout {layout!r} of {ending} files; {known}", exit_code=2)
    if ending.startswith(".smtx") and not (matrix.pattern_only or pattern):
        raise UserError(
            f"{path}: .smtx files hold no values, which {matrix.source} has; choose another format, or "
            "drop the values with --pattern"
        )
    data = _WRITERS[ending.removesuffix(".gz")](matrix, name, layout)
    if ending.endswith(".gz"):
        data = gzip.compress(data, mtime=0)
    try:
        path.write_bytes(data)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); check the folder") from None
    return path


def _smtx(matrix: Matrix, name: str, layout: str) -> bytes:
    csr = matrix.csr
    rows, columns = csr.shape
    offsets, indices = (" ".join(map(str, a.tolist())) for a in (csr.indptr, csr.indices))
    return f"{rows}, {columns}, {csr.nnz}\n{offsets}\n{indices}\n".encode()


def _mtx(matrix: Matrix, name: str, layout: str) -> bytes:
    csr = matrix.csr
    kind = {"f": "real", "i": "integer", "u": "integer"}[csr.dtype.kind]
    kind = "pattern" if matrix.pattern_only else kind
    places = zip((row_of_entry(csr) + 1).tolist(), (csr.indices + 1).tolist(), strict=True)
    lines = [f"{row} {column}" for row, column in places]
    if kind != "pattern":
        # The shortest decimals that give back the double, which every narrower type is.
        values = cast("list[float]", csr.data.tolist())
        lines = [f"{line} {value!r}" for line, value in zip(lines, values, strict=True)]
    head = f"%%MatrixMarket matrix coordinate {kind} general\n{csr.shape[0]} {csr.shape[1]} {csr.nnz}\n"
    return (head + "".join(line + "\n" for line in lines)).encode()


def _npz(matrix: Matrix, name: str, layout: str) -> bytes:
    csr, stream = matrix.csr, io.BytesIO()
    # What scipy.sparse.save_npz writes; scipy itself refuses float16.
    np.savez_compressed(
        stream, indices=csr.indices, indptr=csr.indptr, format=np.array(b"csr"),
        shape=np.array(csr.shape), data=csr.data,
    )  # fmt: skip
    return stream.getvalue()


def _npy(matrix: Matrix, name: str, layout: str) -> bytes:
    stream = io.BytesIO()
    np.save(stream, matrix.dense())
    return stream.getvalue()


def _safetensors(matrix: Matrix, name: str, layout: str) -> bytes:
    from safetensors.numpy import save

    if layout == "dense":
        return save({name: matrix.dense()})
    from sparsecc.importers.bitmask import pack

    return save(pack(matrix.csr, matrix.csr.data, layout, name))


def _onnx(matrix: Matrix, name: str, layout: str) -> bytes:
    """A model with y = x wT: its input is "x" [N, columns], its weight the matrix."""
    from sparsecc.importers.onnx_proto import onnx_library

    library, csr = onnx_library(), matrix.csr
    helper, from_array = library.helper, library.numpy_helper.from_array
    rows, columns = csr.shape
    element = helper.np_dtype_to_tensor_dtype(csr.dtype)
    dense, sparse = [], []
    if layout == "dense":
        dense = [from_array(matrix.dense(), name)]
    else:
        at_row, at_column = row_of_entry(csr), csr.indices.astype(np.int64)
        places = at_row * columns + at_column if layout == "linear" else np.stack([at_row, at_column], axis=1)
        values = from_array(np.ascontiguousarray(csr.data), name)
        indices = from_array(np.ascontiguousarray(places), f"{name}.indices")
        sparse = [helper.make_sparse_tensor(values, indices, [rows, columns])]
    node = helper.make_node("Gemm", ["x", name], ["y"], name=name, transB=1)
    inputs = [helper.make_tensor_value_info("x", element, ["N", columns])]
    outputs = [helper.make_tensor_value_info("y", element, ["N", rows])]
    graph = helper.make_graph([node], name, inputs, outputs, dense, sparse_initializer=sparse)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return cast(bytes, model.SerializeToString())


_WRITERS: dict[str, Callable[[Matrix, str, str], bytes]] = {
    ".smtx": _smtx,
    ".mtx": _mtx,
    ".npz": _npz,
    ".npy": _npy,
    ".safetensors": _safetensors,
    ".onnx": _onnx,
}
