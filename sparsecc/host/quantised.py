"""Between real numbers and integers, as ONNX's QuantizeLinear and QLinear operators define it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from sparsecc.host.operator import (
    AXES,
    ELEMENT_BYTES,
    WALK,
    Array,
    Cost,
    HostOperator,
    number,
    output,
    real,
    source,
)
from sparsecc.host.walk import Walk
from sparsecc.nn.arithmetic import dequantize, quantize, requantize

DTYPES = {"i8": np.int8, "u8": np.uint8, "i32": np.int32}


def _zeros(zero: Array | None, axis: int, kind: str) -> Array:
    return np.zeros(axis, DTYPES[kind]) if zero is None else zero[:axis]


def _quantize(kind: str) -> HostOperator:
    def reference(
        y: Array, x: Array, scale: Array, zero: Array | None, outer: int, axis: int, inner: int
    ) -> None:
        count = outer * axis * inner
        cube = x[:count].reshape(outer, axis, inner)
        with np.errstate(all="ignore"):
            y[:count] = quantize(cube, scale[:axis], _zeros(zero, axis, kind), 1).reshape(-1)

    def cost(y: None, x: None, scale: None, zero: None, outer: int, axis: int, inner: int) -> Cost:
        count = outer * axis * inner
        return Cost(4 * count + 5 * axis, count, 4 * count)

    about = (
        "round(x / scale) + zero, ties to even, saturated, NaN to 0; scale and zero (NULL: 0) [axis] of "
        "[outer, axis, inner]; axis 1 for one scale"
    )
    arguments = (
        output("y", kind), source("x", "f32"), source("scale", "f32"), source("zero", kind, True), *AXES,
    )  # fmt: skip
    return HostOperator(f"host_quantize_{kind}", arguments, reference, cost, about)


def _dequantize(kind: str) -> HostOperator:
    def reference(
        y: Array, x: Array, scale: Array, zero: Array | None, outer: int, axis: int, inner: int
    ) -> None:
        count = outer * axis * inner
        cube = x[:count].reshape(outer, axis, inner)
        with np.errstate(all="ignore"):
            y[:count] = dequantize(cube, scale[:axis], _zeros(zero, axis, kind), 1).reshape(-1)

    def cost(y: None, x: None, scale: None, zero: None, outer: int, axis: int, inner: int) -> Cost:
        count, size = outer * axis * inner, ELEMENT_BYTES[kind]
        return Cost(size * count + (4 + size) * axis, 4 * count, 2 * count)

    about = "(x - zero) * scale, the difference exact; scale and zero as in quantize"
    arguments = (
        output("y", "f32"), source("x", kind), source("scale", "f32"), source("zero", kind, True), *AXES,
    )  # fmt: skip
    return HostOperator(f"host_dequantize_{kind}", arguments, reference, cost, about)


def _requantize(kind: str) -> HostOperator:
    def reference(
        y: Array, x: Array, multiplier: Array, outer: int, axis: int, inner: int, zero: int
    ) -> None:
        count = outer * axis * inner
        cube = x[:count].reshape(outer, axis, inner)
        with np.errstate(all="ignore"):
            result = requantize(cube, multiplier[:axis], np.asarray(zero, DTYPES[kind]), 1)
        y[:count] = result.reshape(-1)

    def cost(y: None, x: None, multiplier: None, outer: int, axis: int, inner: int, zero: int) -> Cost:
        count = outer * axis * inner
        return Cost(4 * (count + axis), count, 4 * count)

    about = (
        "Sums in i32 back to bytes: round(f32(x) * multiplier) + zero, ties to even, saturated; multiplier "
        "[axis] is the scales of the operands / that of the result"
    )
    arguments = (
        output("y", kind), source("x", "i32"), source("multiplier", "f32"), *AXES, number("zero", "i32"),
    )  # fmt: skip
    return HostOperator(f"host_requantize_{kind}", arguments, reference, cost, about)


def _combine(name: str, kind: str, function: Callable[[Array, Array], Array]) -> HostOperator:
    def reference(
        y: Array, a: Array, b: Array, walk: Sequence[int], a_scale: float, a_zero: int, b_scale: float,
        b_zero: int, y_scale: float, y_zero: int,
    ) -> None:  # fmt: skip
        w, dtype = Walk.from_table(walk), DTYPES[kind]
        p = dequantize(w.view(1, a), np.asarray(a_scale, np.float32), np.asarray(a_zero, dtype), None)
        q = dequantize(w.view(2, b), np.asarray(b_scale, np.float32), np.asarray(b_zero, dtype), None)
        with np.errstate(all="ignore"):
            result = function(p, q)
            w.view(0, y)[...] = quantize(
                result, np.asarray(y_scale, np.float32), np.asarray(y_zero, dtype), None
            )

    def cost(
        y: None, a: None, b: None, walk: Sequence[int], a_scale: float, a_zero: int, b_scale: float,
        b_zero: int, y_scale: float, y_zero: int,
    ) -> Cost:  # fmt: skip
        w = Walk.from_table(walk)
        return Cost(w.touched(1) + w.touched(2), w.count, 9 * w.count)

    about = "a op b over a walk, operands dequantised, combined in f32, quantised: as the QDQ form of QLinear"
    arguments = (
        output("y", kind), source("a", kind), source("b", kind), WALK,
        real("a_scale"), number("a_zero", "i32"), real("b_scale"), number("b_zero", "i32"),
        real("y_scale"), number("y_zero", "i32"),
    )  # fmt: skip
    return HostOperator(f"host_{name}_q_{kind}", arguments, reference, cost, about, in_place=("a", "b"))


def _lookup(size: int) -> HostOperator:
    def reference(y: Array, x: Array, n: int, table: Array) -> None:
        y[:n] = table[x[:n].view(np.uint8)]

    def cost(y: None, x: None, n: int, table: None) -> Cost:
        return Cost(n + 256 * size, n * size)

    about = "y[i] = table[x[i] as uint8_t], 256 elements: an activation between bytes, or from bytes to words"
    arguments = (
        output("y", f"any{size}"), source("x", "any1"), number("n"), source("table", f"any{size}"),
    )  # fmt: skip
    in_place = ("x",) if size == 1 else ()
    return HostOperator(f"host_lookup_{size}", arguments, reference, cost, about, in_place=in_place)


def _dynamic_quantize() -> HostOperator:
    def reference(y: Array, scale: Array, zero: Array, x: Array, n: int) -> None:
        least = min(np.float32(0), np.min(x[:n], initial=0))
        largest = max(np.float32(0), np.max(x[:n], initial=0))
        step = np.float32(largest - least) / np.float32(255) if largest > least else np.float32(1)
        scale[0] = step
        zero[0] = np.clip(np.rint((np.float32(0) - least) / step), 0, 255)
        y[:n] = quantize(x[:n], scale[:1].reshape(()), zero[:1].reshape(()), None)

    def cost(y: None, scale: None, zero: None, x: None, n: int) -> Cost:
        return Cost(8 * n, n + 5, 6 * n)

    about = (
        "DynamicQuantizeLinear: scale [1] and zero [1] so that 0 and all of the (finite) x fit, and x "
        "quantised; a scale of 1 where all x are 0"
    )
    arguments = (
        output("y", "u8"), output("scale", "f32"), output("zero", "u8"), source("x", "f32"), number("n"),
    )  # fmt: skip
    return HostOperator("host_dynamic_quantize_u8", arguments, reference, cost, about)


def operators() -> Iterator[HostOperator]:
    """All of this file."""
    yield from map(_quantize, ("i8", "u8"))
    yield from map(_dequantize, ("i8", "u8", "i32"))
    yield from map(_requantize, ("i8", "u8"))
    for kind in ("i8", "u8"):
        yield _combine("add", kind, np.add)
        yield _combine("mul", kind, np.multiply)
    yield from map(_lookup, (1, 4))
    yield _dynamic_quantize()
