"""Operators of torch that multiply matrices or move windows: products, convolutions, pooling, attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sparsecc.dialects.nn_elementwise import AddOp, MulOp, WhereOp
from sparsecc.dialects.nn_layout import BroadcastOp, ConcatOp
from sparsecc.dialects.nn_products import ConvOp, LinearOp, MatmulOp
from sparsecc.dialects.nn_reductions import AveragePoolOp, MaxPoolOp, ReduceOp, SoftmaxOp
from sparsecc.importers.conv_transpose import conv_transpose
from sparsecc.importers.emitter import as_element, as_matrix, product, reshaped, transposed
from sparsecc.importers.torch_graph import Handler, Node, Results
from sparsecc.importers.torch_layout import part, swapped
from sparsecc.importers.torch_math import lowest, number
from sparsecc.importers.values import Value


def linear(node: Node) -> Results:
    x, w, b = node.value("input"), node.value("weight"), node.optional("bias")
    if w.rank == 1:
        return product(node, x, w)
    if w.constant is None and x.constant is None:
        y = node.emit(MatmulOp, x, transposed(node, w))
        return y if b is None else node.emit(AddOp, y, b)
    return node.emit(LinearOp, x, w, b, weights=[1])


def addmm(node: Node) -> Results:
    """beta self + alpha mat1 mat2."""
    a, b = node.value("mat1"), node.value("mat2")
    return _added(node, a, b, lambda: product(node, a, b))


def _added(node: Node, a: Value, b: Value, multiply: Callable[[], Value]) -> Value:
    alpha, beta, c = node.number("alpha", 1), node.number("beta", 1), node.value("self")
    if alpha == beta == 1 and b.constant is not None and a.constant is None and b.rank == 2:
        outputs = b.shape[1]
        if c.constant is not None and c.shape in ((outputs,), (1, outputs)):
            bias = reshaped(node, c, (outputs,))
            return node.emit(LinearOp, a, transposed(node, b), bias, weights=[1])
    y = multiply()
    if alpha != 1:
        y = node.emit(MulOp, y, number(alpha, y))
    if beta == 0:
        return y
    if beta != 1:
        c = node.emit(MulOp, c, number(beta, c))
    return node.emit(AddOp, y, c)


def addmv(node: Node) -> Results:
    a, b = node.value("mat"), node.value("vec")
    return _added(node, a, b, lambda: product(node, a, b))


def baddbmm(node: Node) -> Results:
    a, b = node.value("batch1"), node.value("batch2")
    return _added(node, a, b, lambda: product(node, a, b))


def matmul(node: Node) -> Results:
    names = [a.name for a in node.node.target._schema.arguments][:2]
    return product(node, node.value(names[0]), node.value(names[1]))


# ---- convolutions


def _spread(values: Sequence[int], rank: int) -> list[int]:
    """One number stands for all spatial dimensions."""
    return list(values) * rank if len(values) == 1 else list(values)


def conv(node: Node) -> Results:
    """x [N, C, spatial...] or without N; w [M, C / groups, kernel...]."""
    x, w, b = node.value("input"), node.value("weight"), node.optional("bias")
    rank = w.rank - 2
    if rank < 1 or x.rank not in (rank + 1, rank + 2):
        node.fail(f"the input has shape {list(x.shape)}, the weight {list(w.shape)}; they do not fit")
    batched = x.rank == w.rank
    if not batched:
        x = reshaped(node, x, (1, *x.shape))
    dilations = _spread(node.integers("dilation", (1,)), rank)
    strides = _spread(node.integers("stride", (1,)), rank)
    given = node.given.get("padding")
    groups = node.integer("groups", 1)
    if node.flag("transposed"):
        pads, more = (_spread(node.integers(key, (0,)), rank) for key in ("padding", "output_padding"))
        size = [
            s * (n - 1) + d * (k - 1) + 1 + m - 2 * p
            for n, k, s, d, m, p in zip(x.shape[2:], w.shape[2:], strides, dilations, more, pads, strict=True)
        ]
        y = conv_transpose(
            node, x, w, b, strides=strides, pads=pads, dilations=dilations, groups=groups, size=size
        )
        return y if batched else reshaped(node, y, y.shape[1:])
    if isinstance(given, str):
        spans = [(k - 1) * d for k, d in zip(w.shape[2:], dilations, strict=True)]
        total = spans if given == "same" else [0] * rank
        pads = [t // 2 for t in total] + [t - t // 2 for t in total]
    else:
        pads = _spread(node.integers("padding", (0,)), rank) * 2
    y = node.emit(
        ConvOp, x, as_matrix(node, w), b, weights=[1], kernel=list(w.shape[2:]), strides=strides, pads=pads,
        dilations=dilations, groups=groups,
    )  # fmt: skip
    return y if batched else reshaped(node, y, y.shape[1:])


# ---- pooling


def _batched(node: Node, rank: int) -> tuple[Value, bool]:
    """The input as [N, C, spatial...], and whether it was."""
    x = node.value("self")
    if x.rank == rank + 2:
        return x, True
    if x.rank != rank + 1:
        node.fail(f"the input has shape {list(x.shape)}; needed {rank} spatial dimensions")
    return reshaped(node, x, (1, *x.shape)), False


def _windows(node: Node, rank: int) -> dict[str, Any]:
    kernel = _spread(node.integers("kernel_size"), rank)
    return {
        "kernel": kernel,
        "strides": _spread(node.integers("stride", ()), rank) or kernel,
        "pads": _spread(node.integers("padding", (0,)), rank) * 2,
        "dilations": _spread(node.integers("dilation", (1,)), rank),
        "ceil_mode": node.flag("ceil_mode"),
    }


def _max_pool(rank: int, places: bool) -> Handler:
    def handler(node: Node) -> Results:
        x, batched = _batched(node, rank)
        y = node.emit(MaxPoolOp, x, **_windows(node, rank))
        y = y if batched else reshaped(node, y, y.shape[1:])
        return [y, None] if places else y

    return handler


def _average_pool(rank: int) -> Handler:
    def handler(node: Node) -> Results:
        x, batched = _batched(node, rank)
        if node.has("divisor_override"):
            node.fail("divisor_override is not supported", "scale the result instead")
        padding = bool(node.given.get("count_include_pad", True))
        y = node.emit(AveragePoolOp, x, **_windows(node, rank), count_padding=padding)
        return y if batched else reshaped(node, y, y.shape[1:])

    return handler


def _adaptive(kind: str, rank: int) -> Handler:
    """Windows of torch: output i of n takes elements floor(i D / n) to ceil((i + 1) D / n)."""

    def handler(node: Node) -> Results:
        x, batched = _batched(node, rank)
        given: Any = node.given["output_size"]
        wanted: list[int | None] = (
            [given] * rank if isinstance(given, int) else list(given) * (rank // len(given))
        )
        for axis, n in enumerate(wanted, 2):
            extent = x.shape[axis]
            if n is None or n == extent:
                continue
            edges = [(i * extent // n, -(-(i + 1) * extent // n)) for i in range(n)]
            if extent % n == 0:
                apart = reshaped(node, x, (*x.shape[:axis], n, extent // n, *x.shape[axis + 1 :]))
                x = node.emit(ReduceOp, apart, kind=kind, axes=[axis + 1], keep=False)
                continue
            pieces = [part(node, x, axis, low, high - low) for low, high in edges]
            means = [node.emit(ReduceOp, p, kind=kind, axes=[axis], keep=True) for p in pieces]
            x = node.emit(ConcatOp, *means, axis=axis)
        y = x if batched else reshaped(node, x, x.shape[1:])
        return [y, None] if kind == "max" else y

    return handler


# ---- attention


def attention(node: Node) -> Results:
    """softmax(scale q kT + mask) v; the lowest finite number stands for minus infinity."""
    q, k, v = (node.value(name) for name in ("query", "key", "value"))
    if node.number("dropout_p", 0):
        node.fail("dropout in attention is not supported", "call eval() on the model before exporting it")
    if node.flag("enable_gqa"):
        groups = q.shape[-3] // k.shape[-3]
        k, v = _repeated(node, k, groups), _repeated(node, v, groups)
    scale = node.number("scale", 1 / math.sqrt(q.shape[-1]))
    scores = product(node, q, swapped(node, k, -1, -2))
    scores = node.emit(MulOp, scores, number(scale, scores))
    low = lowest(scores.element)
    mask = node.optional("attn_mask")
    if mask is not None and mask.element == "i1":
        scores = node.emit(WhereOp, mask, scores, number(low, scores))
    elif mask is not None:
        if mask.constant is not None:
            mask = Value.array(np.maximum(mask.constant.array(), low), mask.element)
        scores = node.emit(AddOp, scores, as_element(node, mask, scores.element))
    if node.flag("is_causal"):
        seen = np.tril(np.ones(scores.shape[-2:], bool))
        scores = node.emit(WhereOp, Value.array(seen, "i1"), scores, number(low, scores))
    weights = node.emit(SoftmaxOp, scores, axis=scores.rank - 1, logarithm=False)
    y = product(node, weights, v)
    return y


def _repeated(node: Node, x: Value, times: int) -> Value:
    """Each head so many times, one after the other."""
    if times == 1:
        return x
    *lead, heads, length, width = x.shape
    apart = reshaped(node, x, (*lead, heads, 1, length, width))
    wide = node.emit(BroadcastOp, apart, shape=[*lead, heads, times, length, width])
    return reshaped(node, wide, (*lead, heads * times, length, width))


def attention_with_places(node: Node) -> Results:
    y = attention(node)
    assert isinstance(y, Value)
    return [y, None]


HANDLERS: dict[str, Handler] = {
    "_adaptive_avg_pool2d": _adaptive("mean", 2),
    "_adaptive_avg_pool3d": _adaptive("mean", 3),
    "_scaled_dot_product_flash_attention_for_cpu": attention_with_places,
    "adaptive_avg_pool1d": _adaptive("mean", 1),
    "adaptive_avg_pool2d": _adaptive("mean", 2),
    "adaptive_avg_pool3d": _adaptive("mean", 3),
    "adaptive_max_pool1d": _adaptive("max", 1),
    "adaptive_max_pool2d": _adaptive("max", 2),
    "adaptive_max_pool3d": _adaptive("max", 3),
    "addmm": addmm,
    "addmv": addmv,
    "avg_pool1d": _average_pool(1),
    "avg_pool2d": _average_pool(2),
    "avg_pool3d": _average_pool(3),
    "baddbmm": baddbmm,
    "bmm": matmul,
    "conv1d": conv,
    "conv2d": conv,
    "conv3d": conv,
    "convolution": conv,
    "dot": matmul,
    "linear": linear,
    "matmul": matmul,
    "max_pool1d": _max_pool(1, False),
    "max_pool2d": _max_pool(2, False),
    "max_pool2d_with_indices": _max_pool(2, True),
    "max_pool3d": _max_pool(3, False),
    "max_pool3d_with_indices": _max_pool(3, True),
    "mm": matmul,
    "mv": matmul,
    "scaled_dot_product_attention": attention,
    "_sparse_mm": matmul,
}
