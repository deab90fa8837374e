"""Reductions, softmax and normalisation along the middle axis of [outer, axis, inner].

Sums of floats go in ascending order from 0, in f32; `sparsecc.nn.arithmetic` has the same rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from sparsecc.host.operator import (
    AXES,
    ELEMENT_BYTES,
    Array,
    Cost,
    HostOperator,
    number,
    output,
    real,
    source,
)
from sparsecc.nn.arithmetic import dequantize, normalise, ordered_sum, quantize, softmax

_INTEGERS = ("i32", "i64")


def _mean(rows: Array) -> Array:
    total = ordered_sum(rows)
    return total / np.float32(len(rows)) if rows.dtype.kind == "f" else total // len(rows)


REDUCTIONS: dict[str, tuple[Callable[[Array], Array], tuple[str, ...]]] = {
    "sum": (ordered_sum, ("f32", *_INTEGERS)),
    "mean": (_mean, ("f32", *_INTEGERS)),
    "prod": (lambda rows: np.multiply.reduce(rows, axis=0), ("f32", *_INTEGERS)),
    "max": (lambda rows: rows.max(axis=0), ("f32", *_INTEGERS, "i8", "u8")),
    "min": (lambda rows: rows.min(axis=0), ("f32", *_INTEGERS, "i8", "u8")),
}
"""By name: the function of rows [axis, ...], its element types."""


def _reduce(name: str, kind: str, function: Callable[[Array], Array]) -> HostOperator:
    def reference(y: Array, x: Array, outer: int, axis: int, inner: int) -> None:
        rows = x[: outer * axis * inner].reshape(outer, axis, inner).transpose(1, 0, 2)
        with np.errstate(all="ignore"):
            y[: outer * inner] = function(rows).astype(y.dtype).reshape(-1)

    def cost(y: None, x: None, outer: int, axis: int, inner: int) -> Cost:
        size = ELEMENT_BYTES[kind]
        return Cost(outer * axis * inner * size, outer * inner * size, outer * axis * inner)

    about = (
        "y [outer, inner] from x [outer, axis, inner]. Sums and products go in ascending order; integers "
        "wrap around, but the mean of i32 is exact; means of integers are rounded down. max and min keep "
        "NaN; they need axis > 0"
    )
    arguments = (output("y", kind), source("x", kind), *AXES)
    return HostOperator(f"host_reduce_{name}_{kind}", arguments, reference, cost, about)


def _mean_q(kind: str) -> HostOperator:
    def reference(
        y: Array, x: Array, outer: int, axis: int, inner: int, x_scale: float, x_zero: int, y_scale: float,
        y_zero: int,
    ) -> None:  # fmt: skip
        cube = x[: outer * axis * inner].reshape(outer, axis, inner).transpose(1, 0, 2)
        with np.errstate(all="ignore"):
            wide = dequantize(cube, np.asarray(x_scale, np.float32), np.asarray(x_zero, x.dtype), None)
            found = quantize(_mean(wide), np.asarray(y_scale, np.float32), np.asarray(y_zero, y.dtype), None)
        y[: outer * inner] = found.reshape(-1)

    def cost(
        y: None, x: None, outer: int, axis: int, inner: int, x_scale: float, x_zero: int, y_scale: float,
        y_zero: int,
    ) -> Cost:  # fmt: skip
        count = outer * inner
        return Cost(count * axis, count, count * (3 * axis + 4))

    about = "reduce_mean_f32 of the dequantised x, quantised: as DequantizeLinear, ReduceMean, QuantizeLinear"
    arguments = (
        output("y", kind), source("x", kind), *AXES,
        real("x_scale"), number("x_zero", "i32"), real("y_scale"), number("y_zero", "i32"),
    )  # fmt: skip
    return HostOperator(f"host_reduce_mean_q_{kind}", arguments, reference, cost, about)


def _argument(name: str, kind: str) -> HostOperator:
    find = np.argmax if name == "argmax" else np.argmin

    def reference(y: Array, x: Array, outer: int, axis: int, inner: int, last: int) -> None:
        cube = x[: outer * axis * inner].reshape(outer, axis, inner)
        found = axis - 1 - find(np.flip(cube, 1), axis=1) if last else find(cube, axis=1)
        y[: outer * inner] = found.reshape(-1)

    def cost(y: None, x: None, outer: int, axis: int, inner: int, last: int) -> Cost:
        count = outer * axis * inner
        return Cost(count * ELEMENT_BYTES[kind], outer * inner * 8, count)

    about = (
        "Where the extreme along axis > 0 lies: the first place, or the last if `last` is not 0; a NaN "
        "comes before all numbers"
    )
    arguments = (output("y", "i64"), source("x", kind), *AXES, number("last", "i32"))
    return HostOperator(f"host_{name}_{kind}", arguments, reference, cost, about)


def _softmax(name: str, logarithm: bool) -> HostOperator:
    def reference(y: Array, x: Array, outer: int, axis: int, inner: int) -> None:
        count = outer * axis * inner
        with np.errstate(all="ignore"):
            y[:count] = softmax(x[:count].reshape(outer, axis, inner), 1, logarithm).reshape(-1)

    def cost(y: None, x: None, outer: int, axis: int, inner: int) -> Cost:
        count = outer * axis * inner
        return Cost(4 * count, 4 * count, 4 * count, count + (outer * inner if logarithm else 0))

    about = (
        "exp(x - max) / sum along the axis, or x - max - log(sum): exp and log in f64 and rounded, the sum "
        "in ascending order in f32"
    )
    return HostOperator(
        f"host_{name}_f32", (output("y", "f32"), source("x", "f32"), *AXES), reference, cost, about,
        in_place=("x",),
    )  # fmt: skip


def _layer_norm() -> HostOperator:
    def reference(
        y: Array, x: Array, scale: Array | None, bias: Array | None,
        outer: int, axis: int, inner: int, epsilon: float,
    ) -> None:  # fmt: skip
        count = outer * axis * inner
        cube = x[:count].reshape(outer, axis, inner).transpose(0, 2, 1)
        result = normalise(cube, 2, epsilon)
        if scale is not None:
            result = result * scale[:axis]
        if bias is not None:
            result = result + bias[:axis]
        y[:count] = result.transpose(0, 2, 1).reshape(-1)

    def cost(
        y: None, x: None, scale: None, bias: None, outer: int, axis: int, inner: int, epsilon: float
    ) -> Cost:
        count = outer * axis * inner
        return Cost(4 * (count + 2 * axis), 4 * count, 8 * count)

    about = (
        "(x - mean) / sqrt(variance + epsilon) along the axis, times scale [axis], plus bias [axis]; "
        "either may be NULL"
    )
    arguments = (
        output("y", "f32"), source("x", "f32"), source("scale", "f32", True), source("bias", "f32", True),
        *AXES, real("epsilon"),
    )  # fmt: skip
    return HostOperator("host_layer_norm_f32", arguments, reference, cost, about, in_place=("x",))


def _batch_norm() -> HostOperator:
    def reference(
        y: Array, x: Array, scale: Array, bias: Array, mean: Array, variance: Array,
        outer: int, axis: int, inner: int, epsilon: float,
    ) -> None:  # fmt: skip
        count = outer * axis * inner
        factor, add, middle, spread = (p[:axis, None] for p in (scale, bias, mean, variance))
        deviation = np.sqrt(spread + np.float32(epsilon))
        cube = x[:count].reshape(outer, axis, inner)
        y[:count] = ((cube - middle) / deviation * factor + add).reshape(-1)

    def cost(
        y: None, x: None, scale: None, bias: None, mean: None, variance: None,
        outer: int, axis: int, inner: int, epsilon: float,
    ) -> Cost:  # fmt: skip
        count = outer * axis * inner
        return Cost(4 * (count + 4 * axis), 4 * count, 4 * count)

    about = "(x - mean) / sqrt(variance + epsilon) * scale + bias, all [axis]"
    parameters = (source(p, "f32") for p in ("scale", "bias", "mean", "variance"))
    arguments = (output("y", "f32"), source("x", "f32"), *parameters, *AXES, real("epsilon"))
    return HostOperator("host_batch_norm_f32", arguments, reference, cost, about, in_place=("x",))


def operators() -> Iterator[HostOperator]:
    """All of this file."""
    for name, (function, kinds) in REDUCTIONS.items():
        for kind in kinds:
            yield _reduce(name, kind, function)
    yield from map(_mean_q, ("i8", "u8"))
    for kind in ("f32", *_INTEGERS, "i8", "u8"):
        for name in ("argmax", "argmin"):
            yield _argument(name, kind)
    yield _softmax("softmax", False)
    yield _softmax("log_softmax", True)
    yield _layer_norm()
    yield _batch_norm()
