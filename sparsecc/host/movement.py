"""Operators that move elements, of 1, 2, 4 or 8 bytes, and the index maps they take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sparsecc.host.operator import (
    ELEMENT_BYTES,
    WALK,
    Array,
    Cost,
    HostOperator,
    number,
    output,
    source,
    table,
)
from sparsecc.host.walk import Walk

_SIZES = (1, 2, 4, 8)


def _copy(size: int) -> HostOperator:
    def reference(y: Array, x: Array, walk: Sequence[int]) -> None:
        w = Walk.from_table(walk)
        w.view(0, y)[...] = w.view(1, x)

    def cost(y: None, x: None, walk: Sequence[int]) -> Cost:
        w = Walk.from_table(walk)
        return Cost(w.touched(1) * size, w.count * size)

    about = "y = x over a walk (operands y, x): transpose, concat, split, slice, flip, broadcast; no overlap"
    arguments = (output("y", f"any{size}"), source("x", f"any{size}"), WALK)
    return HostOperator(f"host_copy_{size}", arguments, reference, cost, about)


def _remap(size: int) -> HostOperator:
    def reference(
        y: Array, x: Array, outer: int, height: int, width: int, inner: int, out_height: int, out_width: int,
        rows: Sequence[int] | None, columns: Sequence[int] | None, fill: int,
    ) -> None:  # fmt: skip
        raw = x.view(f"u{size}")[: outer * height * width * inner].reshape(outer, height, width, inner)
        r = np.arange(out_height) if rows is None else np.asarray(rows, np.int64)
        c = np.arange(out_width) if columns is None else np.asarray(columns, np.int64)
        inside = ((r >= 0)[:, None] & (c >= 0))[None, :, :, None]
        result = np.where(inside, raw[:, r[:, None], c], np.asarray(fill, raw.dtype))
        y.view(f"u{size}")[: result.size] = result.reshape(-1)

    def cost(
        y: None, x: None, outer: int, height: int, width: int, inner: int, out_height: int, out_width: int,
        rows: Sequence[int] | None, columns: Sequence[int] | None, fill: int,
    ) -> Cost:  # fmt: skip
        r = out_height if rows is None else len({i for i in rows if i >= 0})
        c = out_width if columns is None else len({i for i in columns if i >= 0})
        tables = 4 * (len(rows or ()) + len(columns or ()))
        return Cost(outer * r * c * inner * size + tables, outer * out_height * out_width * inner * size)

    about = (
        "y[o, p, q, i] = x[o, rows[p], columns[q], i], `fill` (as bits) where either is negative: padding "
        "of all modes, resizing to nearest, constant indices, [height, width] as one or two axes. NULL is "
        "the identity: columns then needs out_width = width"
    )
    kind = f"any{size}"
    extents = ("outer", "height", "width", "inner", "out_height", "out_width")
    arguments = (
        output("y", kind), source("x", kind), *map(number, extents),
        table("rows", "i32", True), table("columns", "i32", True), number("fill", "u64"),
    )  # fmt: skip
    return HostOperator(f"host_remap_{size}", arguments, reference, cost, about)


def _gather(size: int, of_index: str) -> HostOperator:
    def reference(y: Array, x: Array, indices: Array, outer: int, axis: int, inner: int, count: int) -> int:
        chosen = indices[:count]
        bad = (chosen < -axis) | (chosen >= axis)
        if bad.any():
            return int(np.argmax(bad)) + 1
        if axis:
            cube = x.view(f"u{size}")[: outer * axis * inner].reshape(outer, axis, inner)
            y.view(f"u{size}")[: outer * count * inner] = cube[:, chosen].reshape(-1)
        return 0

    def cost(y: None, x: None, indices: None, outer: int, axis: int, inner: int, count: int) -> Cost:
        moved = outer * count * inner * size
        return Cost(moved + count * ELEMENT_BYTES[of_index], moved)

    about = (
        "y [outer, count, inner] = x [outer, axis, inner] at indices [count], which count from the end "
        "when negative. If one is outside nothing is written, and 1 + its place is returned; otherwise 0"
    )
    kind = f"any{size}"
    arguments = (
        output("y", kind), source("x", kind), source("indices", of_index),
        number("outer"), number("axis"), number("inner"), number("count"),
    )  # fmt: skip
    name = f"host_gather_{size}_{of_index}"
    return HostOperator(name, arguments, reference, cost, about, returns="int64_t")


def operators() -> Iterator[HostOperator]:
    """All of this file."""
    yield from map(_copy, _SIZES)
    yield from map(_remap, _SIZES)
    for of_index in ("i32", "i64"):
        for size in _SIZES:
            yield _gather(size, of_index)


# Maps of one axis for remap: for each element of the result the element of x, or -1.


def pad_map(extent: int, low: int, high: int, mode: str) -> tuple[int, ...]:
    """Padding of an axis; negative widths crop. Modes are those of ONNX and numpy."""
    places = np.arange(-low, extent + high)
    match mode:
        case "constant":
            found = np.where((places >= 0) & (places < extent), places, -1)
        case "edge":
            found = np.clip(places, 0, extent - 1)
        case "reflect":
            period = max(1, 2 * (extent - 1))
            folded = places % period
            found = np.minimum(folded, period - folded)
        case _:
            assert mode == "wrap", mode
            found = places % extent
    return tuple(int(i) for i in found)
