"""Products whose operands are known at run time only, and products and softmax with a sparse pattern."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sparsecc.host.operator import (
    ELEMENT_BYTES,
    PRODUCT,
    Array,
    Cost,
    HostOperator,
    Product,
    number,
    output,
    real,
    source,
    table,
)
from sparsecc.host.walk import Walk
from sparsecc.nn.arithmetic import matmul

ROW_FIRST, COLUMN = table("row_first", "i32"), table("column", "i32")


def _matrix(array: Array, rows: int, columns: int, row: int, column: int) -> Array:
    return np.lib.stride_tricks.as_strided(
        array, (rows, columns), (row * array.itemsize, column * array.itemsize)
    )


def _batches(walk: Walk) -> Iterator[tuple[int, ...]]:
    """Where each matrix of the operands begins."""
    for place in np.ndindex(*walk.extents):
        yield tuple(sum(i * s for i, s in zip(place, steps, strict=True)) for steps in walk.strides)


def _matmul_cost(p: Product, batch: Sequence[int], a: int, b: int) -> Cost:
    w = Walk.from_table(batch)
    read = w.touched(1) * p.m * p.k * a + w.touched(2) * p.k * p.n * b
    return Cost(read, 4 * w.count * p.m * p.n, 2 * w.count * p.m * p.n * p.k)


def _matmul() -> HostOperator:
    def reference(y: Array, a: Array, b: Array, p: Product, batch: Sequence[int]) -> None:
        for at_y, at_a, at_b in _batches(Walk.from_table(batch)):
            left = _matrix(a[at_a:], p.m, p.k, p.a_row, p.a_col)
            right = _matrix(b[at_b:], p.k, p.n, p.b_row, p.b_col)
            _matrix(y[at_y:], p.m, p.n, p.y_row, p.y_col)[...] = matmul(left, right)

    def cost(y: None, a: None, b: None, p: Product, batch: Sequence[int]) -> Cost:
        return _matmul_cost(p, batch, 4, 4)

    about = (
        "y = a b for each place of the walk `batch` (operands y, a, b; one axis of extent 1 for a single "
        "product); sums in ascending order of k from 0. Batch last, where the last axis of the walk has "
        "stride 1 in y, is computed side by side"
    )
    arguments = (output("y", "f32"), source("a", "f32"), source("b", "f32"), PRODUCT, table("batch"))
    return HostOperator("host_matmul_f32", arguments, reference, cost, about)


def _matmul_integer(left: str, right: str) -> HostOperator:
    def reference(
        y: Array, a: Array, b: Array, a_zero: Array | None, b_zero: Array | None, p: Product,
        batch: Sequence[int],
    ) -> None:  # fmt: skip
        rows, columns = np.arange(p.m) * p.a_zero_step, np.arange(p.n) * p.b_zero_step
        of_a = np.zeros(p.m, np.int64) if a_zero is None else a_zero[rows].astype(np.int64)
        of_b = np.zeros(p.n, np.int64) if b_zero is None else b_zero[columns].astype(np.int64)
        for at_y, at_a, at_b in _batches(Walk.from_table(batch)):
            m_a = _matrix(a[at_a:], p.m, p.k, p.a_row, p.a_col) - of_a[:, None]
            m_b = _matrix(b[at_b:], p.k, p.n, p.b_row, p.b_col) - of_b
            _matrix(y[at_y:], p.m, p.n, p.y_row, p.y_col)[...] = (m_a @ m_b).astype(np.int32)

    def cost(y: None, a: None, b: None, a_zero: None, b_zero: None, p: Product, batch: Sequence[int]) -> Cost:
        return _matmul_cost(p, batch, 1, 1)

    about = (
        "y = (a - a_zero) (b - b_zero) as matmul, in i32, wrapping around; a_zero is NULL, one number or "
        "[m], b_zero NULL, one number or [n], as the steps in the product say"
    )
    arguments = (
        output("y", "i32"), source("a", left), source("b", right), source("a_zero", left, True),
        source("b_zero", right, True), PRODUCT, table("batch"),
    )  # fmt: skip
    return HostOperator(f"host_matmul_{left}_{right}", arguments, reference, cost, about)


def _spmm(kind: str) -> HostOperator:
    exact = kind != "f32"

    def reference(
        y: Array, values: Array, x: Array, bias: Array | None, row_first: Sequence[int],
        column: Sequence[int], m: int, n: int, y_pitch: int, x_pitch: int, x_zero: int = 0,
    ) -> None:  # fmt: skip
        for i in range(m):
            total = np.zeros(n, np.int64 if exact else np.float32)
            for p in range(row_first[i], row_first[i + 1]):
                row = x[column[p] * x_pitch :][:n]
                total += values[p] * (row.astype(np.int64) - x_zero if exact else row)
            if bias is not None:
                total += bias[i]
            y[i * y_pitch :][:n] = total.astype(y.dtype)

    def cost(
        y: None, values: None, x: None, bias: None, row_first: Sequence[int], column: Sequence[int],
        m: int, n: int, y_pitch: int, x_pitch: int, x_zero: int = 0,
    ) -> Cost:  # fmt: skip
        points, rows = row_first[m], len(set(column[: row_first[m]]))
        matrix = points * (6 if exact else 8) + 4 * (m + 1)
        return Cost(matrix + rows * n * ELEMENT_BYTES[kind], 4 * m * n, 2 * points * n)

    about = (
        "y [m, n] = W x + bias [m] (or NULL), W sparse: points row_first[i] to row_first[i + 1] - 1 are "
        "row i, in columns `column`, with these values; rows of x and y are a pitch apart. Sums in the "
        "order of the points from 0, then the bias. Integers: x less x_zero times values in 16 bits (their "
        "zero point already taken off), wrapping around"
    )
    of_values, of_y = ("i16", "i32") if exact else ("f32", "f32")
    arguments = (
        output("y", of_y), source("values", of_values), source("x", kind), source("bias", of_y, True),
        ROW_FIRST, COLUMN, *map(number, ("m", "n", "y_pitch", "x_pitch")),
        *([number("x_zero", "i32")] if exact else []),
    )  # fmt: skip
    return HostOperator(f"host_spmm_{kind}", arguments, reference, cost, about)


def _sddmm() -> HostOperator:
    def reference(
        values: Array, a: Array, b: Array, row_first: Sequence[int], column: Sequence[int], p: Product
    ) -> None:
        left = _matrix(a, p.m, p.k, p.a_row, p.a_col)
        right = _matrix(b, p.k, p.n, p.b_row, p.b_col)
        rows = np.repeat(np.arange(p.m), np.diff(np.asarray(row_first)[: p.m + 1]))
        total = np.zeros(len(rows), np.float32)
        for k in range(p.k):
            total += left[rows, k] * right[k, np.asarray(column, np.int64)[: len(rows)]]
        values[: len(rows)] = total

    def cost(
        values: None, a: None, b: None, row_first: Sequence[int], column: Sequence[int], p: Product
    ) -> Cost:
        points = row_first[p.m]
        read = 4 * (p.k * (p.m + p.n) + points + p.m + 1)
        return Cost(read, 4 * points, 2 * points * p.k)

    about = "a b at the points of a pattern only, in their order; sums in ascending order of k from 0"
    arguments = (output("values", "f32"), source("a", "f32"), source("b", "f32"), ROW_FIRST, COLUMN, PRODUCT)
    return HostOperator("host_sddmm_f32", arguments, reference, cost, about)


def _csr_softmax() -> HostOperator:
    def reference(
        y: Array, x: Array, row_first: Sequence[int], outer: int, m: int, inner: int, scale: float
    ) -> None:
        points = row_first[m]
        cube = x[: outer * points * inner].reshape(outer, points, inner)
        result = y[: outer * points * inner].reshape(outer, points, inner)
        for i in range(m):
            part = slice(row_first[i], row_first[i + 1])
            if part.start == part.stop:
                continue
            scaled = np.float32(scale) * cube[:, part]
            power = np.exp((scaled - scaled.max(axis=1, keepdims=True)).astype(np.float64)).astype(np.float32)
            total = np.zeros((outer, 1, inner), np.float32)
            for p in range(power.shape[1]):
                total += power[:, p : p + 1]
            result[:, part] = power / total

    def cost(
        y: None, x: None, row_first: Sequence[int], outer: int, m: int, inner: int, scale: float
    ) -> Cost:
        count = outer * row_first[m] * inner
        return Cost(4 * (count + m + 1), 4 * count, 5 * count, count)

    about = (
        "softmax(scale x) along the rows of a sparse pattern: x and y [outer, points, inner]. What a mask "
        "leaves out is no point; a row without points gives nothing"
    )
    arguments = (
        output("y", "f32"), source("x", "f32"), ROW_FIRST, number("outer"), number("m"), number("inner"),
        real("scale"),
    )  # fmt: skip
    return HostOperator("host_csr_softmax_f32", arguments, reference, cost, about, in_place=("x",))


def operators() -> Iterator[HostOperator]:
    """All of this file."""
    yield _matmul()
    for left in ("i8", "u8"):
        for right in ("i8", "u8"):
            yield _matmul_integer(left, right)
    yield from map(_spmm, ("f32", "i8", "u8"))
    yield _sddmm()
    yield _csr_softmax()
