"""Matrices of compressed-tensors in `.safetensors` files: layouts `sparse-bitmask` and `sparse-24-bitmask`.

A matrix NAME is the tensors NAME.shape (rows, columns), NAME.bitmask [rows, columns / 8 rounded up] (bits of
a byte from the lowest up) and NAME.compressed, the values whose bits are set, row by row. `sparse-bitmask`
has the place of the first value of each row as NAME.row_offsets, too; `sparse-24-bitmask` keeps two values of
every four, zeros among them, as [rows, columns / 2]. (compressed-tensors, compressors/sparse_compressors.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.importers.files import fault
from sparsecc.importers.matrix import Csr, check_shape, row_of_entry

Array = NDArray[Any]

LAYOUTS = ("sparse-bitmask", "sparse-24-bitmask")


def unpack(
    shape: Array, bitmask: Array, values: Array, offsets: Array | None, where: str
) -> tuple[tuple[int, int], NDArray[np.int64], NDArray[np.int64], Array]:
    """Shape, rows, columns and values of the entries. Raises UserError when the tensors contradict."""
    if shape.dtype.kind not in "iu":
        raise fault(where, f"a shape of {shape.dtype}", "whole numbers are needed", "save the matrix again")
    rows, columns = check_shape(tuple(int(d) for d in shape.ravel()), where)
    if bitmask.dtype != np.uint8 or bitmask.shape != (rows, -(-columns // 8)):
        raise fault(
            where, f"a bitmask of {bitmask.dtype} {list(bitmask.shape)}",
            f"{rows} x {columns} elements need uint8 [{rows}, {-(-columns // 8)}]", "save the matrix again",
        )  # fmt: skip
    bits = np.unpackbits(bitmask, axis=1, bitorder="little")
    if bits[:, columns:].any():
        raise fault(where, "bits beyond the last column", "these must be 0", "save the matrix again")
    at_row, at_column = np.nonzero(bits[:, :columns])
    flat = values.ravel()
    if flat.size != at_row.size:
        raise fault(
            where, f"{flat.size} values", f"the bitmask has {at_row.size} bits set", "save the matrix again"
        )
    if offsets is not None:
        counts = np.bincount(at_row, minlength=rows)
        if not np.array_equal(offsets.ravel(), np.cumsum(counts) - counts):
            raise fault(
                where, "row offsets that do not follow from the bitmask", "both must agree",
                "save the matrix again",
            )  # fmt: skip
    return (rows, columns), at_row.astype(np.int64), at_column.astype(np.int64), flat


def pack(csr: Csr, values: Array, layout: str, name: str) -> dict[str, Array]:
    """The tensors of a matrix, `values` [nnz] being its nonzeros.

    Raises UserError when the matrix has not the 2:4 pattern that `sparse-24-bitmask` needs.
    """
    rows, columns = csr.shape
    kept = np.zeros((rows, columns), np.bool_)
    at_row = row_of_entry(csr)
    kept[at_row, csr.indices] = True
    shape = np.array([rows, columns], np.int64)
    if layout == "sparse-bitmask":
        return {
            f"{name}.shape": shape,
            f"{name}.compressed": values,
            f"{name}.bitmask": np.packbits(kept, axis=1, bitorder="little"),
            f"{name}.row_offsets": np.asarray(csr.indptr[:-1], np.int64),
        }
    if columns % 4 or (kept.reshape(rows, -1, 4).sum(2) > 2).any():
        raise fault(
            name, f"a matrix of {rows} x {columns} without the pattern 2:4",
            "sparse-24-bitmask keeps two of every four elements of a row", "use the layout sparse-bitmask",
        )  # fmt: skip
    dense = np.zeros((rows, columns), values.dtype)
    dense[at_row, csr.indices] = values
    quads = kept.reshape(rows, -1, 4)
    # Groups with fewer than two nonzeros keep zeros, the first ones.
    order = np.argsort(~quads, axis=2, kind="stable")[:, :, :2]
    both = np.zeros_like(quads)
    np.put_along_axis(both, order, True, axis=2)
    both = both.reshape(rows, columns)
    return {
        f"{name}.shape": shape.reshape(-1, 1),
        f"{name}.compressed": dense[both].reshape(rows, columns // 2),
        f"{name}.bitmask": np.packbits(both, axis=1, bitorder="little"),
    }
