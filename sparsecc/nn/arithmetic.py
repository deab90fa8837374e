"""The arithmetic of network operators: what is rounded, and in which order numbers are added.

- A sum of floats is taken in ascending order of the summed index, row-major over several, from 0, in f32
  (f64 for f64), each product and each sum rounded by itself; narrower floats are rounded once, at the end.
  Zeros of a constant weight are left out.
- Integers are exact and wrap around to their type; only quantisation saturates.
- exp, tanh and the like are evaluated in f64 and rounded once.
- Rounding to integers is to nearest, ties to even.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def accumulator(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type that sums of this type are held in."""
    if dtype.kind == "f":
        return np.dtype(np.float64 if dtype.itemsize == 8 else np.float32)
    return np.dtype(np.uint64 if dtype.kind == "u" else np.int64)


def ordered_sum(terms: Array) -> Array:
    """The sum over axis 0 in ascending order, in the accumulator's type."""
    kind = accumulator(terms.dtype)
    if kind.kind != "f":
        return terms.sum(axis=0, dtype=kind)
    # numpy's own sum goes by pairs; these add one row after the other.
    total = np.zeros(terms.shape[1:], kind)
    if terms.shape[0] <= 4 * max(1, total.size):
        for row in terms:
            total += row
        return total
    return np.cumsum(terms, axis=0, dtype=kind)[-1]


def over_axes(x: Array, axes: tuple[int, ...]) -> Array:
    """The reduced axes in front, as one, row-major: [reduced, kept...]."""
    kept = [i for i in range(x.ndim) if i not in axes]
    moved = x.transpose(*axes, *kept)
    count = int(np.prod([x.shape[a] for a in axes], dtype=np.int64))
    return moved.reshape(count, *(x.shape[i] for i in kept))


def matmul(a: Array, b: Array) -> Array:
    """numpy's matmul with sums in order; integers in 64 bits. The caller rounds."""
    if a.dtype.kind in "iub":
        return _integer_matmul(a, b)
    kind = accumulator(np.result_type(a, b))
    row, column = a.ndim == 1, b.ndim == 1
    left = (a[None, :] if row else a).astype(kind, copy=False)
    right = (b[:, None] if column else b).astype(kind, copy=False)
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    total = np.zeros((*batch, left.shape[-2], right.shape[-1]), kind)
    for k in range(left.shape[-1]):
        total += left[..., :, k, None] * right[..., k, None, :]
    if row:
        total = total[..., 0, :]
    return total[..., 0] if column else total


def _integer_matmul(a: Array, b: Array) -> Array:
    if max(a.dtype.itemsize, b.dtype.itemsize) <= 2 and a.shape[-1] < 1 << 20:
        # Below 2**53, so exact in f64, which BLAS multiplies much faster than numpy does integers; f32 up to
        # 2**24 is twice as fast again.
        largest = max(abs(int(b.max(initial=0))), abs(int(b.min(initial=0))))
        wide = np.float32 if _most(a) * largest < 1 << 24 else np.float64
        return (a.astype(wide) @ b.astype(wide)).astype(np.int64)
    return a.astype(np.int64) @ b.astype(np.int64)


def _most(a: Array) -> float:
    """Of absolute values summed over the last axis, the largest."""
    return float(np.abs(a.astype(np.int32)).sum(axis=-1).max(initial=0))


def weight_product(weight: Array, x: Array) -> Array:
    """weight [M, K] times x [K, N], zeros of the weight left out."""
    if weight.dtype.kind in "iub":
        return _integer_matmul(weight, x)
    import scipy.sparse  # pyright: ignore[reportMissingTypeStubs]  # slow to import

    kind = accumulator(np.result_type(weight, x))
    # Row by row, in ascending order of the columns: the order of this module.
    csr: Any = scipy.sparse.csr_array(weight.astype(kind, copy=False))
    return cast(Array, csr @ np.ascontiguousarray(x, kind))


def in_f64(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The function on floats, evaluated in f64; the caller rounds."""
    return lambda x: function(x.astype(np.float64))


def saturate(values: Array, dtype: np.dtype[Any]) -> Array:
    """Whole floats as integers of the type, limited to its range; NaN becomes 0."""
    limits = np.iinfo(dtype)
    wide = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=2.0**60, neginf=-(2.0**60))
    return np.clip(wide, limits.min, limits.max).astype(dtype)


def along(parameter: Array, rank: int, axis: int | None) -> Array:
    """A parameter [extent of the axis], or a scalar, shaped to broadcast over a tensor of this rank."""
    if axis is None or parameter.ndim == 0:
        return parameter
    return parameter.reshape([-1 if i == axis else 1 for i in range(rank)])


def quantize(x: Array, scale: Array, zero: Array, axis: int | None) -> Array:
    """round(x / scale) + zero, saturated to the type of zero; x / scale in f32."""
    wide = x.astype(np.float32) / along(scale, x.ndim, axis).astype(np.float32)
    shifted = np.rint(wide).astype(np.float64) + along(zero, x.ndim, axis)
    return saturate(shifted, zero.dtype)


def dequantize(x: Array, scale: Array, zero: Array, axis: int | None) -> Array:
    """(x - zero) * scale, the difference exact, in the type of scale."""
    difference = x.astype(np.int64) - along(zero, x.ndim, axis).astype(np.int64)
    return (difference.astype(np.float32) * along(scale, x.ndim, axis)).astype(scale.dtype)


def requantize(x: Array, multiplier: Array, zero: Array, axis: int | None) -> Array:
    """round(f32(x) * multiplier) + zero, saturated to the type of zero."""
    scaled = x.astype(np.float32) * along(multiplier, x.ndim, axis)
    return saturate(np.rint(scaled).astype(np.float64) + along(zero, x.ndim, axis), zero.dtype)


def softmax(x: Array, axis: int, logarithm: bool) -> Array:
    """exp(x - max) / sum along the axis: differences and sums in f32, exp and log in f64 rounded to f32."""
    kind = accumulator(x.dtype)
    shifted = (x - x.max(axis=axis, keepdims=True)).astype(kind)
    powers = np.exp(shifted.astype(np.float64)).astype(kind)
    total = np.expand_dims(ordered_sum(np.moveaxis(powers, axis, 0)), axis)
    if logarithm:
        return shifted - np.log(total.astype(np.float64)).astype(kind)
    return powers / total


def normalise(x: Array, axis: int, epsilon: float) -> Array:
    """(x - mean) / sqrt(variance + epsilon) over the axes from `axis` on, in f32."""
    kind = accumulator(x.dtype)
    axes = tuple(range(axis, x.ndim))
    count = kind.type(max(1, int(np.prod(x.shape[axis:]))))
    keep = x.shape[:axis] + (1,) * len(axes)
    wide = x.astype(kind)
    centred = wide - (ordered_sum(over_axes(wide, axes)) / count).reshape(keep)
    variance = (ordered_sum(over_axes(centred * centred, axes)) / count).reshape(keep)
    return centred / np.sqrt(variance + kind.type(epsilon))
