"""Narrower value types for sparse matrices: symmetric int8 per row, and float16, bfloat16, float32.

Nothing is dropped silently: each function returns how many nonzero values became 0.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from sparsecc.errors import UserError
from sparsecc.importers.matrix import Array, Csr, make_csr, round_to_bf16, row_of_entry

FloatKind = Literal["f16", "bf16", "f32"]

# The largest finite value of each type.
_MAXIMA: dict[FloatKind, float] = {
    "f16": 65504.0,
    "bf16": (2 - 2**-7) * 2.0**127,
    "f32": (2 - 2**-23) * 2.0**127,
}

_INT8_MAX = 127  # -128 is left out, so that negating a value never overflows


def quantize_rows(csr: Csr) -> tuple[Csr, npt.NDArray[np.float32], int]:
    """Symmetric int8 values with one scale per row.

    csr: [rows, columns], any real numeric type, without duplicates.
    Returns (quantized, scales, zeroed):
        quantized: int8 in -127..127, [rows, columns], without stored zeros.
        scales: float32, [rows]; in units of `csr`'s values per int8 step, so that row r of `csr` is about
            scales[r] * quantized[r]. max|row| / 127, and 1 for empty rows.
        zeroed: how many nonzero values were rounded to 0 and are no longer stored.
    Halves are rounded to even. A matrix of integers in -127..127 (in whatever type) is kept as it is,
    with scales 1, so that it survives exactly.
    Raises UserError for values that are not finite, or too large for a float32 scale.
    """
    values = csr.data.astype(np.float64)
    _check_finite(csr, values)
    rows = row_of_entry(csr)
    if (np.abs(values) <= _INT8_MAX).all() and (values == np.rint(values)).all():
        scales = np.ones(csr.shape[0], np.float32)
        steps = values
    else:
        largest = np.zeros(csr.shape[0])
        np.maximum.at(largest, rows, np.abs(values))
        exact = largest / _INT8_MAX
        too_large = np.flatnonzero(exact > _MAXIMA["f32"])
        if too_large.size:
            row = too_large[0]
            raise UserError(
                f"row {row} (counting from 0) has a value of magnitude {largest[row]:g}, but its int8 scale "
                f"must fit a float32; divide the matrix by a constant first"
            )
        # A scale too small for float32 would become 0 and its row be lost.
        smallest = np.finfo(np.float32).smallest_subnormal
        scales = np.where(largest > 0, np.maximum(exact.astype(np.float32), smallest), np.float32(1))
        # Divided by the scale as stored, not as computed: that is the number the steps are scaled back
        # with. Its rounding can lift the largest step just over 127.
        steps = np.clip(np.rint(values / scales[rows]), -_INT8_MAX, _INT8_MAX)
    quantized, zeroed = _without_zeros(csr, steps.astype(np.int8))
    return quantized, scales, zeroed


def cast(csr: Csr, dtype: FloatKind) -> tuple[Csr, int]:
    """The values of `csr` rounded to another floating-point type, nearest, ties to even.

    csr: [rows, columns], any real numeric type, without duplicates.
    dtype: "f16", "bf16" (held as float32) or "f32".
    Returns (converted, zeroed): values in the units of `csr`, without stored zeros, and how many nonzero
    values were rounded to 0.
    Raises UserError for an unknown type, values that are not finite, and values that would become
    infinite.
    """
    if dtype not in _MAXIMA:
        raise UserError(f"value type {dtype!r} is unknown; use one of {', '.join(_MAXIMA)}", exit_code=2)
    _check_finite(csr, csr.data)
    with np.errstate(over="ignore", under="ignore"):  # both are dealt with below
        if dtype == "bf16":
            rounded = round_to_bf16(csr.data)
        else:
            rounded = csr.data.astype(np.float16 if dtype == "f16" else np.float32)
    too_large = np.flatnonzero(np.abs(rounded) > _MAXIMA[dtype])
    if too_large.size:
        entry = too_large[0]
        raise UserError(
            f"the value {csr.data[entry]:g} at {_place(csr, int(entry))} does not fit {dtype}, whose largest "
            f"is {_MAXIMA[dtype]:g} ({too_large.size} such values in all); scale the matrix or use "
            f"a wider type"
        )
    return _without_zeros(csr, rounded.astype(np.float32) if dtype == "bf16" else rounded)


def _without_zeros(csr: Csr, values: Array) -> tuple[Csr, int]:
    """`csr` with `values` instead of its own and no stored zeros; how many nonzero values became 0."""
    keep = values != 0
    zeroed = int(np.count_nonzero(csr.data[~keep]))
    kept_before = np.concatenate([[0], np.cumsum(keep)])
    indptr = kept_before[csr.indptr]
    return make_csr(values[keep], csr.indices[keep], indptr, csr.shape), zeroed


def _check_finite(csr: Csr, values: Array) -> None:
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        entry = int(bad[0])
        raise UserError(
            f"the value {values[entry]} at {_place(csr, entry)} is not finite ({bad.size} such values in "
            f"all); replace it before narrowing the matrix"
        )


def _place(csr: Csr, entry: int) -> str:
    return f"row {row_of_entry(csr)[entry]}, column {csr.indices[entry]} (counting from 0)"
