"""The matrix every reader returns, the one place where it is built, and values for matrices without any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt

from sparsecc.errors import UserError
from sparsecc.importers.files import fault

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]
ValueKind = Literal["i8", "f32", "f16", "bf16"]

VALUE_KINDS: tuple[ValueKind, ...] = ("i8", "f32", "f16", "bf16")

# The row offsets alone of a longer matrix would take over 64 MB, whatever the file holds. The largest
# layers in use (embeddings) have some 10**5 to 10**6 rows.
MAX_SIDE = 1 << 24


class Csr(Protocol):
    """The part of `scipy.sparse.csr_array` used here; scipy itself ships no types."""

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def nnz(self) -> int: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def data(self) -> Array: ...
    @property
    def indices(self) -> npt.NDArray[np.int32]: ...
    @property
    def indptr(self) -> npt.NDArray[np.int32]: ...
    def toarray(self) -> Array: ...
    def __matmul__(self, other: Array, /) -> Array: ...


def make_csr(
    values: Array, indices: npt.NDArray[np.integer], indptr: npt.NDArray[np.integer], shape: tuple[int, int]
) -> Csr:
    """A `scipy.sparse.csr_array` from its three arrays, with 32-bit indices.

    Give sorted columns and no duplicates: scipy trusts its input and so does everything after it.
    """
    import scipy.sparse  # pyright: ignore[reportMissingTypeStubs]  # slow to import, so only where used

    triple = (values, indices.astype(np.int32), indptr.astype(np.int32))
    return cast(Csr, scipy.sparse.csr_array(triple, shape=shape))


@dataclass(frozen=True)
class Matrix:
    """One sparse matrix as a file gave it.

    csr: columns sorted in each row, no duplicates, no stored zeros, 32-bit indices. Values keep the
        numeric type of the file. scipy converts float16 to few other layouts (`toarray` and `tocoo` fail):
        use `dense()` or `sparsecc.quantize.cast` for those.
    name: the file's stem, followed by `.tensor` for a tensor of a `.safetensors` file.
    source: what was asked for, to be quoted in messages.
    pattern_only: the file has no values, only positions; `csr` then holds float32 ones, or made-up
        values after `seeded_values`.
    stored_zeros: entries dropped since their value, or the sum of the values at one place, is 0. Files
        that list every element (`.npy`, `.safetensors`, Matrix Market `array`) store no sparse entries
        and count none.
    dtype: the type the values are exact in: numpy's name, or "bfloat16", which `csr` holds as float32.
    """

    csr: Csr
    name: str
    source: str
    pattern_only: bool
    stored_zeros: int
    dtype: str

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.csr.shape

    @property
    def nnz(self) -> int:
        """Number of nonzero values."""
        return self.csr.nnz

    @property
    def density(self) -> float:
        """Nonzero values / elements, 0 to 1."""
        return self.nnz / (self.shape[0] * self.shape[1])

    def dense(self) -> Array:
        """All elements, [rows, columns], in the numeric type of `csr`; works for float16 too."""
        out = np.zeros(self.shape, self.csr.data.dtype)
        out[row_of_entry(self.csr), self.csr.indices] = self.csr.data
        return out


def row_of_entry(csr: Csr) -> Indices:
    """The row of each stored entry, [nnz], in storage order."""
    return np.repeat(np.arange(csr.shape[0], dtype=np.int64), np.diff(csr.indptr))


def check_shape(shape: tuple[int, ...], where: str) -> tuple[int, int]:
    """`shape` if it is (rows, columns) of a matrix that can be worked with; UserError otherwise."""
    if len(shape) != 2:
        raise fault(
            where,
            f"an array of {len(shape)} dimensions, {list(shape)}",
            "a matrix has 2",
            "reshape it to (outputs, inputs) and save it again",
        )
    rows, cols = shape
    if rows < 1 or cols < 1:
        raise fault(
            where,
            f"a matrix of {rows} rows and {cols} columns",
            "both must be 1 or more",
            "leave the empty matrix out",
        )
    if max(rows, cols) > MAX_SIDE:
        raise fault(
            where,
            f"a matrix of {rows} rows and {cols} columns",
            f"at most {MAX_SIDE} of each are supported",
            "check the file's header, or cut the matrix",
        )
    return rows, cols


def check_values_dtype(dtype: np.dtype[Any], where: str) -> None:
    """UserError unless `dtype` is boolean, an integer, float16, float32 or float64."""
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise fault(
            where,
            f"values of type {dtype}",
            "booleans, integers, float16, float32 or float64 are needed",
            "convert the values to one of these and save the file again",
        )


def build_matrix(
    shape: tuple[int, int],
    rows: Indices,
    cols: Indices,
    values: Array | None,
    *,
    source: str,
    name: str,
    dtype: str | None = None,
) -> Matrix:
    """The matrix with `values[i]` added at (`rows[i]`, `cols[i]`), entries in any order.

    rows, cols: [entries], checked by the caller to lie inside `shape`.
    values: [entries], of a type that `check_values_dtype` accepts; None or booleans for a pattern.
    dtype: overrides the name of the values' type (for bfloat16 held as float32).
    Raises UserError for NaN, inf, and sums that overflow the values' type.
    """
    pattern_only = values is None or values.dtype.kind == "b"
    if values is None:
        values = np.ones(rows.size, np.float32)
    elif pattern_only:
        values = values.astype(np.float32)
    else:
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        _check_finite(rows, cols, values, source)

    key = rows * shape[1] + cols  # below 2**48, as no side exceeds MAX_SIDE
    if (np.diff(key) <= 0).any():
        order = np.argsort(key, kind="stable")
        key, values = key[order], values[order]
        first = np.flatnonzero(np.diff(key, prepend=-1))
        if first.size < key.size:
            values = np.maximum.reduceat(values, first) if pattern_only else _sums(values, first, source)
            key = key[first]

    keep = values != 0
    stored_zeros = int(values.size - np.count_nonzero(keep))
    if stored_zeros:
        key, values = key[keep], values[keep]
    row_counts = np.bincount(key // shape[1], minlength=shape[0])
    indptr = np.concatenate([[0], np.cumsum(row_counts)])
    return Matrix(
        csr=make_csr(values, key % shape[1], indptr, shape),
        name=name,
        source=source,
        pattern_only=pattern_only,
        stored_zeros=stored_zeros,
        dtype=dtype or values.dtype.name,
    )


def build_from_dense(dense: Array, *, source: str, name: str, dtype: str | None = None) -> Matrix:
    """The matrix of the nonzero elements of `dense`, [rows, columns]; errors as `build_matrix`."""
    shape = check_shape(dense.shape, source)
    check_values_dtype(dense.dtype, source)
    rows, cols = np.nonzero(dense)
    return build_matrix(
        shape,
        rows.astype(np.int64, copy=False),
        cols.astype(np.int64, copy=False),
        dense[rows, cols],
        source=source,
        name=name,
        dtype=dtype,
    )


def _check_finite(rows: Indices, cols: Indices, values: Array, source: str) -> None:
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        first = bad[0]
        raise fault(
            source,
            f"the value {values[first]} at row {rows[first]}, column {cols[first]} (counting from 0; "
            f"{bad.size} such values in all)",
            "every value must be finite",
            "replace NaN and infinity before saving",
        )


def _sums(values: Array, first: npt.NDArray[np.intp], source: str) -> Array:
    """Sums of the runs of `values` that begin at `first`, in the type of `values`."""
    approximate = np.add.reduceat(values.astype(np.float64), first)
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            sums = approximate.astype(values.dtype)
        fits = bool(np.isfinite(sums).all())
    else:
        # Exact sums modulo 2**64; the float sums only tell whether these are the true ones.
        sums = np.add.reduceat(values, first, dtype=values.dtype)
        limits = np.iinfo(values.dtype)
        fits = bool(((approximate >= limits.min) & (approximate <= limits.max)).all())
    if not fits:
        raise fault(
            source,
            f"several entries at one place whose sum overflows {values.dtype.name}",
            "the sum must fit",
            "add the duplicates up in a wider type before saving",
        )
    return sums


def seeded_values(matrix: Matrix, kind: ValueKind, seed: int) -> Matrix:
    """`matrix` with new values at its nonzero positions, the same ones for the same arguments.

    kind: "i8": int8, uniform over -127..127 without 0. "f32", "f16", "bf16": standard normal, rounded to
        that type, no value being 0; bf16 values are held as float32.
    seed: 0 or more.
    The values are dimensionless. `pattern_only` stays as it was: it speaks of the file.
    Raises UserError for another kind or a negative seed.
    """
    if kind not in VALUE_KINDS:
        raise UserError(f"value kind {kind!r} is unknown; use one of {', '.join(VALUE_KINDS)}", exit_code=2)
    if seed < 0:
        raise UserError(f"seed {seed} is negative; use 0 or more", exit_code=2)
    rng = np.random.default_rng(seed)
    csr = matrix.csr
    if kind == "i8":
        numbers = rng.integers(-127, 127, csr.nnz)
        values = (numbers + (numbers >= 0)).astype(np.int8)
        dtype = "int8"
    else:
        rounding, dtype = _ROUNDINGS[kind]
        values = rounding(rng.standard_normal(csr.nnz))
        while (zero := np.flatnonzero(values == 0)).size:
            values[zero] = rounding(rng.standard_normal(zero.size))
    filled = make_csr(values, csr.indices, csr.indptr, csr.shape)
    return replace(matrix, csr=filled, dtype=dtype)


def round_to_bf16(values: Array) -> npt.NDArray[np.float64]:
    """`values` rounded to bfloat16, nearest, ties to even; too large values become more than its maximum.

    Works in float64 so that a float64 is rounded once: going through float32 would round it twice.
    """
    wide = values.astype(np.float64)
    exponent = np.frexp(wide)[1]
    # 8 significant bits; below the smallest normal number, 2**-126, the spacing stays 2**-133.
    spacing = np.ldexp(1.0, np.maximum(exponent - 8, -133))
    return np.rint(wide / spacing) * spacing


_ROUNDINGS: dict[str, tuple[Callable[[npt.NDArray[np.float64]], Array], str]] = {
    "f32": (lambda values: values.astype(np.float32), "float32"),
    "f16": (lambda values: values.astype(np.float16), "float16"),
    "bf16": (lambda values: round_to_bf16(values).astype(np.float32), "bfloat16"),
}
