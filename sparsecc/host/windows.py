"""Pooling, patches (im2col) and depthwise convolution: windows over [outer, height, width, inner]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sparsecc.host.operator import (
    ELEMENT_BYTES,
    WINDOW,
    Array,
    Cost,
    HostOperator,
    number,
    output,
    source,
    table,
)
from sparsecc.host.operator import Window as W
from sparsecc.nn.arithmetic import requantize


def _places(
    count: int, stride: int, at: int, extent: int, before: int = 0, after: int = 0
) -> tuple[Array, Array]:
    """Where an element of the kernel lies for each window, limited to the axis, and whether it counts."""
    place = np.arange(count) * stride + at
    return np.clip(place, 0, extent - 1), (place >= -before) & (place < extent + after)


def seen(w: W, x: Array, fill: Any) -> Iterator[Array]:
    """For each element of the kernel, row by row: what windows see there, [outer, out_h, out_w, inner]."""
    cube = x[: w.elements].reshape(w.outer, w.height, w.width, w.inner)
    for i in range(w.kernel_h):
        rows, in_rows = _places(w.out_height, w.stride_h, i * w.dilation_h - w.pad_top, w.height)
        for j in range(w.kernel_w):
            columns, in_columns = _places(w.out_width, w.stride_w, j * w.dilation_w - w.pad_left, w.width)
            inside = (in_rows[:, None] & in_columns)[None, :, :, None]
            yield np.where(inside, cube[:, rows[:, None], columns], np.asarray(fill, x.dtype))


def _counts(w: W, padding: bool) -> Array:
    """How many elements each window averages, [out_h, out_w, 1]."""
    pads = (w.pad_top, w.pad_bottom, w.pad_left, w.pad_right) if padding else (0, 0, 0, 0)
    rows = sum(
        _places(w.out_height, w.stride_h, i * w.dilation_h - w.pad_top, w.height, *pads[:2])[1].astype(int)
        for i in range(w.kernel_h)
    )
    columns = sum(
        _places(w.out_width, w.stride_w, j * w.dilation_w - w.pad_left, w.width, *pads[2:])[1].astype(int)
        for j in range(w.kernel_w)
    )
    return (np.asarray(rows)[:, None] * np.asarray(columns)).astype(np.float32)[..., None]


def _average(w: W, x: Array, padding: int) -> Array:
    total = np.zeros((w.outer, w.out_height, w.out_width, w.inner), np.float32)
    for part in seen(w, x, 0):
        total += part
    with np.errstate(all="ignore"):
        return total / _counts(w, bool(padding))


def _max_pool(kind: str) -> HostOperator:
    def reference(y: Array, x: Array, w: W) -> None:
        least = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
        result = np.full((w.outer, w.out_height, w.out_width, w.inner), least, x.dtype)
        for part in seen(w, x, least):
            result = np.maximum(result, part)
        y[: w.results] = result.reshape(-1)

    def cost(y: None, x: None, w: W) -> Cost:
        size = ELEMENT_BYTES[kind]
        return Cost(w.elements * size, w.results * size, w.results * w.kernel)

    about = "The largest element of each window; padding is smaller than all, NaN larger"
    arguments = (output("y", kind), source("x", kind), WINDOW)
    return HostOperator(f"host_max_pool_{kind}", arguments, reference, cost, about)


def _average_pool() -> HostOperator:
    def reference(y: Array, x: Array, w: W, count_padding: int) -> None:
        y[: w.results] = _average(w, x, count_padding).reshape(-1)

    def cost(y: None, x: None, w: W, count_padding: int) -> Cost:
        return Cost(4 * w.elements, 4 * w.results, w.results * (w.kernel + 1))

    about = (
        "The sum of each window, row by row, / its elements: of x, or with count_padding of its padding "
        "too, but never of what lies beyond it"
    )
    arguments = (output("y", "f32"), source("x", "f32"), WINDOW, number("count_padding", "i32"))
    return HostOperator("host_average_pool_f32", arguments, reference, cost, about)


def _im2col(size: int) -> HostOperator:
    def reference(y: Array, x: Array, w: W, rows: Sequence[int] | None, count: int, fill: int) -> None:
        raw = x.view(f"u{size}")
        parts = list(seen(w, raw, fill))
        every = np.stack(parts, axis=1).reshape(w.outer * w.kernel, -1)
        chosen = every[:count] if rows is None else every[list(rows)[:count]]
        y.view(f"u{size}")[: chosen.size] = chosen.reshape(-1)

    def cost(y: None, x: None, w: W, rows: Sequence[int] | None, count: int, fill: int) -> Cost:
        written = count * w.out_height * w.out_width * w.inner * size
        return Cost(min(w.elements * size, written), written)

    about = (
        "Patches: y [count, out_height * out_width * inner], where row (channel, i, j) = channel * kernel "
        "+ i * kernel_w + j is what element (i, j) of the kernel sees of that channel (`outer`); all such "
        "rows from 0 on, or those listed. Convolution is then a product with weights [M, rows]; the rows "
        "of a group of channels are adjacent. Beyond x lies `fill`, as bits"
    )
    kind = f"any{size}"
    arguments = (
        output("y", kind), source("x", kind), WINDOW, table("rows", "i32", True), number("count"),
        number("fill", "u32"),
    )  # fmt: skip
    return HostOperator(f"host_im2col_{size}", arguments, reference, cost, about)


def _depthwise(kind: str) -> HostOperator:
    exact = kind != "f32"

    def reference(
        y: Array, x: Array, weight: Array, bias: Array | None, w: W, channels: int, multiplier: int,
        x_zero: int = 0,
    ) -> None:  # fmt: skip
        of_x = W(w.outer // multiplier, *w.numbers()[1:])
        wide = x.astype(np.int64) - x_zero if exact else x
        kernels = weight[: channels * w.kernel].reshape(channels, w.kernel)
        kernels = kernels[np.arange(w.outer) % channels].astype(wide.dtype)
        total = np.zeros((w.outer, w.out_height, w.out_width, w.inner), wide.dtype)
        for k, part in enumerate(seen(of_x, wide, 0)):
            factor = kernels[:, k, None, None, None]
            total += np.where(factor == 0, 0, factor * np.repeat(part, multiplier, axis=0))
        if bias is not None:
            total += bias[np.arange(w.outer) % channels][:, None, None, None]
        y[: w.results] = total.reshape(-1).astype(y.dtype)

    def cost(
        y: None, x: None, weight: None, bias: None, w: W, channels: int, multiplier: int, x_zero: int = 0
    ) -> Cost:
        size = ELEMENT_BYTES[kind]
        weights = channels * w.kernel * (2 if exact else 4)
        return Cost(w.elements // multiplier * size + weights, 4 * w.results, 2 * w.results * w.kernel)

    about = (
        "Depthwise convolution: `outer` counts the channels of y (times images); `multiplier` of them see "
        "one channel of x, and the weights [channels, kernel] and bias [channels] (or NULL) repeat every "
        "`channels`. Sums row by row, from 0, zeros of the weight left out, then the bias. Integers: x "
        "less x_zero times weights (their zero point already taken off), wrapping around; padding counts "
        "as x_zero"
    )
    of_weight, of_y = ("i16", "i32") if exact else ("f32", "f32")
    arguments = (
        output("y", of_y), source("x", kind), source("weight", of_weight), source("bias", of_y, True), WINDOW,
        number("channels"), number("multiplier"), *([number("x_zero", "i32")] if exact else []),
    )  # fmt: skip
    return HostOperator(f"host_depthwise_{kind}", arguments, reference, cost, about)


def _depthwise_q(kind: str) -> HostOperator:
    sums_of = _depthwise(kind)

    def reference(
        y: Array, x: Array, weight: Array, bias: Array | None, w: W, channels: int, multiplier: int,
        x_zero: int, scale: Array, scales: int, y_zero: int,
    ) -> None:  # fmt: skip
        sums = np.empty(w.results, np.int32)
        sums_of.reference(sums, x, weight, bias, w, channels, multiplier, x_zero)
        factors = np.broadcast_to(scale[:scales], channels)[np.arange(w.outer) % channels]
        zero = np.asarray(y_zero, y.dtype)
        with np.errstate(all="ignore"):
            y[: w.results] = requantize(sums.reshape(w.outer, -1), factors, zero, 0).reshape(-1)

    def cost(
        y: None, x: None, weight: None, bias: None, w: W, channels: int, multiplier: int, x_zero: int,
        scale: None, scales: int, y_zero: int,
    ) -> Cost:  # fmt: skip
        read = w.elements // multiplier + channels * w.kernel * 2 + 4 * scales
        return Cost(read, w.results, w.results * (2 * w.kernel + 4))

    about = (
        "Depthwise convolution of bytes whose sums are requantised: `scales` of them, 1 or one for each of "
        "the channels. Weights fit a byte, and `inner` is at most 4096"
    )
    arguments = (
        output("y", kind), source("x", kind), source("weight", "i16"), source("bias", "i32", True), WINDOW,
        number("channels"), number("multiplier"), number("x_zero", "i32"), source("scale", "f32"),
        number("scales"), number("y_zero", "i32"),
    )  # fmt: skip
    return HostOperator(f"host_depthwise_q_{kind}", arguments, reference, cost, about)


def operators() -> Iterator[HostOperator]:
    """All of this file."""
    yield from map(_max_pool, ("f32", "i8", "u8"))
    yield _average_pool()
    yield from map(_im2col, (1, 2, 4))
    yield from map(_depthwise, ("f32", "i8", "u8"))
    yield from map(_depthwise_q, ("i8", "u8"))
