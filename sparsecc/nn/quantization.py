"""Scales, zero points and integers for numbers of known range: x is about scale * (q - zero).

Uniform affine quantisation to bytes with sums in i32, as in Jacob et al., Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference, CVPR 2018: weights are symmetric, a bias has the
product of the scales of input and weight as its scale.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsecc.importers.matrix import Csr, make_csr
from sparsecc.quantize import quantize_rows

Array = NDArray[Any]

INT32 = np.iinfo(np.int32)


class Affine(NamedTuple):
    """Of int8 elements."""

    scale: np.float32
    zero: int


def _scale(step: float) -> np.float32:
    """As float32, and never 0."""
    return max(np.float32(step), np.finfo(np.float32).tiny)


def activation(low: float, high: float, symmetric: bool) -> Affine:
    """For values from low to high, and 0, which must be exact: it pads, and ReLU gives it.

    symmetric: the zero point is 0; a range above 0 then uses half of the bytes.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return Affine(np.float32(1), 0)
    if symmetric:
        return Affine(_scale(max(-low, high) / 127), 0)
    scale = _scale((high - low) / 255)
    return Affine(scale, int(np.clip(np.rint(-128 - low / float(scale)), -128, 127)))


def weight(csr: Csr, per_channel: bool) -> tuple[Csr, NDArray[np.float32], int]:
    """A weight [M, K] in int8 from -127 to 127; its scale, [M] or []; how many nonzeros became 0."""
    if per_channel:
        return quantize_rows(csr)
    # As one row, so that all have one scale.
    flat = make_csr(
        csr.data, np.arange(csr.nnz, dtype=np.int32), np.array([0, csr.nnz]), (1, max(csr.nnz, 1))
    )
    quantized, scales, zeroed = quantize_rows(flat)
    steps = np.zeros(csr.nnz, np.int8)
    steps[quantized.indices] = quantized.data
    keep = steps != 0
    first = np.concatenate([[0], np.cumsum(keep)])[csr.indptr]
    return make_csr(steps[keep], csr.indices[keep], first, csr.shape), scales[0].reshape(()), zeroed


def bias(values: Array, scale: Array) -> NDArray[np.int32]:
    """A bias [M] in steps of `scale`, [] or [M], in int32; what does not fit is limited to it."""
    with np.errstate(all="ignore"):
        steps = np.rint(values.astype(np.float64) / scale.astype(np.float64))
    return np.clip(np.nan_to_num(steps), INT32.min, INT32.max).astype(np.int32)


def without_zero(w: Array, zero: Array) -> Array | None:
    """w [M, K] less its zero point, [] or [M], in int8; None where that does not fit."""
    difference = w.astype(np.int16) - (zero.astype(np.int16)[:, None] if zero.ndim else zero.astype(np.int16))
    fits = difference.size == 0 or (difference.min() >= -128 and difference.max() <= 127)
    return difference.astype(np.int8) if fits else None


def folded_bias(w: Array, x_zero: int, b: Array | None) -> NDArray[np.int32]:
    """The bias [M] with which w [M, K] times x is w times (x - x_zero) plus b; wraps around like the sums."""
    wide = np.zeros(len(w), np.int64) if b is None else b.astype(np.int64)
    return (wide - x_zero * w.astype(np.int64).sum(axis=1)).astype(np.int32)
