"""Reader of sparse `.npz` files as written by `scipy.sparse.save_npz`.

The arrays are checked here, one by one, before use: scipy's own conversions trust the indices of a file
and read out of bounds when these are wrong.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsecc.importers.files import MAX_BYTES, damaged, fault, name_list, quote, read_bytes
from sparsecc.importers.matrix import Indices, Matrix, build_matrix, check_shape, check_values_dtype
from sparsecc.importers.npy import parse_npy
from sparsecc.importers.smtx import check_indices, check_offsets

Array = npt.NDArray[Any]
Coordinates = tuple[Indices, Indices, Array]

_LAYOUTS = ("csr", "csc", "coo", "bsr", "dia")


def read_scipy_npz(path: Path, *, source: str, name: str) -> Matrix:
    """The matrix of a file written by `scipy.sparse.save_npz`; UserError when the file is bad."""
    return parse_scipy_npz(read_bytes(path), source=source, name=name)


def parse_scipy_npz(data: bytes, *, source: str, name: str) -> Matrix:
    """The matrix in the bytes of a sparse `.npz` file; UserError when they are bad."""
    if not data.startswith(b"PK"):
        raise fault(source, "data that is not a zip archive", "a .npz file is one", "check the file's name")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except Exception as error:  # zipfile lets errors of struct and others through
        raise damaged(source, ".npz archive", error) from None
    with archive:
        return _Arrays(archive, source).matrix(name)


class _Arrays:
    """The arrays of one archive by key, each checked when it is fetched."""

    def __init__(self, archive: zipfile.ZipFile, source: str):
        self.archive = archive
        self.source = source

    def where(self, key: str) -> str:
        return f"{self.source}, array {key!r}"

    def get(self, key: str) -> Array:
        try:
            info = self.archive.getinfo(f"{key}.npy")
        except KeyError:
            names = name_list(self.archive.namelist())
            raise fault(
                self.source,
                f"no array {key!r} among {names or 'none at all'}",
                "a file written by scipy.sparse.save_npz is needed",
                "save one sparse matrix with save_npz, or one dense matrix as .npy",
            ) from None
        if info.file_size > MAX_BYTES:
            raise fault(
                self.where(key),
                f"{info.file_size} bytes",
                f"at most {MAX_BYTES} are supported",
                "split the matrix",
            )
        try:
            data = self.archive.read(info)
        except Exception as error:  # each compression has errors of its own
            raise damaged(self.where(key), "archive member", error) from None
        return parse_npy(data, self.where(key))

    def integers(self, key: str) -> Indices:
        array = self.get(key)
        if array.dtype.kind not in "iu" or array.ndim != 1:
            raise fault(
                self.where(key),
                f"{array.ndim} dimensions of type {array.dtype}",
                "one dimension of integers is needed",
                "save the matrix again with scipy.sparse.save_npz",
            )
        # Unsigned 64-bit numbers beyond the signed ones turn negative and are refused as indices.
        return array.astype(np.int64)

    def values(self, ndim: int) -> Array:
        array = self.get("data")
        check_values_dtype(array.dtype, self.where("data"))
        if array.ndim != ndim:
            raise fault(
                self.where("data"),
                f"{array.ndim} dimensions",
                f"{ndim} are needed",
                "save the matrix again with scipy.sparse.save_npz",
            )
        return array

    def layout(self) -> str:
        array = self.get("format")
        word: object = array.item() if array.size == 1 else None
        if isinstance(word, bytes):
            word = word.decode("ascii", "replace")
        if word not in _LAYOUTS:
            raise fault(
                self.where("format"),
                quote(str(word)),
                f"one of {', '.join(_LAYOUTS)} is needed",
                "convert the matrix with .tocsr() and save it again",
            )
        return str(word)

    def matrix(self, name: str) -> Matrix:
        layout = self.layout()
        shape = check_shape(tuple(self.integers("shape").tolist()), self.where("shape"))
        if layout == "coo":
            rows, cols, values = self.coo(shape)
        elif layout == "dia":
            rows, cols, values = self.dia(shape)
        else:
            rows, cols, values = self.compressed(layout, shape)
        return build_matrix(shape, rows, cols, values, source=self.source, name=name)

    def coo(self, shape: tuple[int, int]) -> Coordinates:
        rows, cols, values = self.integers("row"), self.integers("col"), self.values(1)
        if not rows.size == cols.size == values.size:
            raise fault(
                self.source,
                f"{rows.size} rows, {cols.size} columns and {values.size} values",
                "an entry has one of each",
                "save the matrix again with scipy.sparse.save_npz",
            )
        check_indices(rows, shape[0], where=self.where("row"), axis="row")
        check_indices(cols, shape[1], where=self.where("col"), axis="column")
        return rows, cols, values

    def compressed(self, layout: str, shape: tuple[int, int]) -> Coordinates:
        """csr, csc, or bsr, which is a csr of blocks [block rows, block columns]."""
        values = self.values(3 if layout == "bsr" else 1)
        block = values.shape[1:] if layout == "bsr" else (1, 1)
        if 0 in block or shape[0] % block[0] or shape[1] % block[1]:
            raise fault(
                self.where("data"),
                f"blocks of {block[0]} x {block[1]}",
                f"they must divide the shape {shape[0]} x {shape[1]}",
                "save the matrix again with scipy.sparse.save_npz",
            )
        grid = (shape[0] // block[0], shape[1] // block[1])
        major, minor = ("column", "row") if layout == "csc" else ("row", "column")
        majors, minors = grid[::-1] if layout == "csc" else grid

        offsets, indices = self.integers("indptr"), self.integers("indices")
        # scipy may leave unused room after the last entry.
        entries = int(offsets[-1]) if offsets.size else 0
        if not 0 <= entries <= min(indices.size, len(values)):
            raise fault(
                self.where("indptr"),
                f"{entries} entries",
                f"there are {indices.size} indices and {len(values)} values",
                "the file is cut or damaged: write it again",
            )
        check_offsets(offsets, majors, entries, where=self.where("indptr"), axis=major)
        indices, values = indices[:entries], values[:entries]
        check_indices(indices, minors, where=self.where("indices"), axis=minor)

        outer = np.repeat(np.arange(majors, dtype=np.int64), np.diff(offsets))
        if layout == "csc":
            return indices, outer, values
        if layout == "csr":
            return outer, indices, values
        rows = outer[:, None, None] * block[0] + np.arange(block[0])[:, None]
        cols = indices[:, None, None] * block[1] + np.arange(block[1])
        rows, cols = np.broadcast_arrays(rows, cols)
        return rows.ravel(), cols.ravel(), values.ravel()

    def dia(self, shape: tuple[int, int]) -> Coordinates:
        """Diagonals: data[d, j] stands at row j - offsets[d], column j; what falls outside is padding."""
        offsets, values = self.integers("offsets"), self.values(2)
        if offsets.size != len(values) or np.unique(offsets).size != offsets.size:
            raise fault(
                self.where("offsets"),
                f"{np.unique(offsets).size} different offsets",
                f"there are {len(values)} diagonals",
                "save the matrix again with scipy.sparse.save_npz",
            )
        width = min(values.shape[1], shape[1])
        cols = np.broadcast_to(np.arange(width, dtype=np.int64), (offsets.size, width))
        rows = cols - offsets[:, None]
        inside = (rows >= 0) & (rows < shape[0])
        return rows[inside], cols[inside], values[:, :width][inside]
