"""Readers of matrix files. `load_matrix` picks the reader by the name of the file."""

from __future__ import annotations

import re
from pathlib import Path

from sparsecc.errors import UserError
from sparsecc.importers.files import check_file
from sparsecc.importers.matrix import Matrix, ValueKind, seeded_values

__all__ = ["Matrix", "ValueKind", "load_matrix", "seeded_values"]

_FORMS = (
    "FILE.smtx, FILE.mtx (both also .gz), FILE.npz, FILE.npy, FILE.safetensors:TENSOR, FILE.onnx:WEIGHT or "
    "PACK.tar.xz::NAME"
)
_NAMED = re.compile(r"(.+\.(?:safetensors|onnx)):(.*)", re.IGNORECASE | re.DOTALL)
_PACK = re.compile(r"(.+\.tar\.xz)::(.*)", re.IGNORECASE | re.DOTALL)


def load_matrix(source: str, *, values: ValueKind | None = None, seed: int = 0) -> Matrix:
    """The matrix that `source` names; which reader is used follows from its ending.

    source: `FILE.smtx`, `FILE.mtx` (each also with `.gz`), `FILE.npz` of scipy.sparse.save_npz, 2-D
        `FILE.npy`, `FILE.safetensors:TENSOR` or `FILE.onnx:WEIGHT` (the name may be left out when the file
        has one matrix), or `PACK.tar.xz::NAME`.
    values, seed: when the file holds positions only and `values` is given, the ones that stand for its
        values are replaced as `seeded_values` does. Files with values are left as they are.
    Raises UserError, and nothing else, for whatever is wrong with the file.
    """
    try:
        matrix = _read(source)
    except MemoryError:
        raise UserError(
            f"{source}: does not fit into memory; split the matrix or use a larger machine"
        ) from None
    if matrix.pattern_only and values is not None:
        return seeded_values(matrix, values, seed)
    return matrix


def _read(source: str) -> Matrix:
    # The readers are imported where they are used: scipy and safetensors are slow to load.
    if pack := _PACK.fullmatch(source):
        from sparsecc.importers.smtx import read_smtx_pack

        return read_smtx_pack(Path(pack[1]), pack[2], source=source)
    tensor = None
    path = Path(source)
    if named := _NAMED.fullmatch(source):
        path, tensor = Path(named[1]), named[2]
    check_file(path)

    lower = path.name.lower()
    stem = Path(path.stem).stem if lower.endswith((".smtx.gz", ".mtx.gz")) else path.stem
    if lower.endswith((".smtx", ".smtx.gz")):
        from sparsecc.importers.smtx import read_smtx

        return read_smtx(path, source=source, name=stem)
    if lower.endswith((".mtx", ".mtx.gz")):
        from sparsecc.importers.matrix_market import read_matrix_market

        return read_matrix_market(path, source=source, name=stem)
    if lower.endswith(".npz"):
        from sparsecc.importers.scipy_npz import read_scipy_npz

        return read_scipy_npz(path, source=source, name=stem)
    if lower.endswith(".npy"):
        from sparsecc.importers.npy import read_npy

        return read_npy(path, source=source, name=stem)
    if lower.endswith(".safetensors"):
        from sparsecc.importers.safetensors_file import read_safetensors

        return read_safetensors(path, tensor, source=source, stem=stem)
    if lower.endswith(".onnx"):
        from sparsecc.importers.onnx_matrix import read_onnx_matrix

        return read_onnx_matrix(path, tensor, source=source, stem=stem)
    if lower.endswith(".tar.xz"):
        raise UserError(f"{path}: a pack holds several matrices; name one as {path}::NAME")
    raise UserError(f"{path}: no known matrix file by its ending; give {_FORMS}")
