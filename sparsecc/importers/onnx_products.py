"""ONNX operators that multiply matrices or move windows: products, convolutions, pooling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparsecc.dialects.nn_elementwise import AddOp, MulOp
from sparsecc.dialects.nn_products import (
    ConvIntegerOp,
    ConvOp,
    LinearIntegerOp,
    LinearOp,
    MatmulIntegerOp,
)
from sparsecc.dialects.nn_quantized import RequantizeOp
from sparsecc.dialects.nn_reductions import AveragePoolOp, MaxPoolOp
from sparsecc.importers.conv_transpose import conv_transpose
from sparsecc.importers.emitter import as_matrix, product, reshaped, transposed
from sparsecc.importers.onnx_graph import Handler, Node, Results
from sparsecc.importers.values import Value, as_signed

# ---- windows


def window_properties(
    node: Node, spatial: Sequence[int], kernel: Sequence[int], dilations: Sequence[int]
) -> dict[str, list[int]]:
    """Strides and pads of a node, `auto_pad` resolved for these extents."""
    rank = len(spatial)
    strides = node.integers("strides", [1] * rank)
    pads = node.integers("pads", [0] * 2 * rank)
    auto = node.text("auto_pad", "NOTSET")
    node.refuse("auto_pad", ["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"], auto)
    if auto != "NOTSET" and (len(kernel) != rank or len(strides) != rank or min(strides) < 1):
        node.fail(f"kernel {list(kernel)} and strides {strides} do not fit {rank} spatial dimensions")
    if auto == "VALID":
        pads = [0] * 2 * rank
    elif auto != "NOTSET":
        low: list[int] = []
        high: list[int] = []
        for d, k, s, by in zip(spatial, kernel, strides, dilations, strict=True):
            total = max(0, (-(-d // s) - 1) * s + (k - 1) * by + 1 - d)
            less, more = total // 2, total - total // 2
            low.append(less if auto == "SAME_UPPER" else more)
            high.append(more if auto == "SAME_UPPER" else less)
        pads = [*low, *high]
    return {"kernel": list(kernel), "strides": strides, "pads": pads, "dilations": list(dilations)}


def _conv_properties(node: Node, x: Value, w: Value) -> dict[str, list[int] | int]:
    if x.rank < 3 or w.rank != x.rank:
        node.fail(
            f"the input has shape {list(x.shape)}, the weight {list(w.shape)}; needed as many, 3 or more"
        )
    kernel = node.integers("kernel_shape", w.shape[2:])
    if tuple(kernel) != w.shape[2:]:
        node.fail(f"attribute kernel_shape is {kernel}, but the weight has shape {list(w.shape)}")
    dilations = node.integers("dilations", [1] * (x.rank - 2))
    return {**window_properties(node, x.shape[2:], kernel, dilations), "groups": node.integer("group", 1)}


def conv(node: Node) -> Results:
    x, w = node.value(0), node.value(1)
    properties = _conv_properties(node, x, w)
    return node.emit(ConvOp, x, as_matrix(node, w), node.optional(2), weights=[1], **properties)


def transposed_conv(node: Node) -> Results:
    x, w = node.value(0), node.value(1)
    rank = x.rank - 2
    if rank < 1 or w.rank != x.rank:
        node.fail(
            f"the input has shape {list(x.shape)}, the weight {list(w.shape)}; needed as many, 3 or more"
        )
    strides = node.integers("strides", [1] * rank)
    dilations = node.integers("dilations", [1] * rank)
    more = node.integers("output_padding", [0] * rank)
    pads = node.integers("pads", [0] * 2 * rank)
    size = node.integers("output_shape", [])
    auto = node.text("auto_pad", "NOTSET")
    node.refuse("auto_pad", ["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"], auto)
    if [len(v) for v in (strides, dilations, more, pads)] != [rank, rank, rank, 2 * rank]:
        node.fail(f"strides, dilations, output_padding or pads do not fit {rank} spatial axes")
    full = [
        s * (n - 1) + d * (k - 1) + 1 + m
        for n, k, s, d, m in zip(x.shape[2:], w.shape[2:], strides, dilations, more, strict=True)
    ]
    if size or auto.startswith("SAME"):
        # As onnxruntime, which does not stretch a result that strides leave shorter.
        same = [min(n * s, f) for n, s, f in zip(x.shape[2:], strides, full, strict=True)]
        size = size[-rank:] or same
        total = [max(0, f - n) for f, n in zip(full, size, strict=True)]
        pads = [t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in total]
    else:
        pads = [0] * 2 * rank if auto == "VALID" else pads
        size = [f - p - q for f, p, q in zip(full, pads[:rank], pads[rank:], strict=True)]
    return conv_transpose(
        node, x, w, node.optional(2), strides=strides, pads=pads[:rank], dilations=dilations,
        groups=node.integer("group", 1), size=size,
    )  # fmt: skip


def max_pool(node: Node) -> Results:
    x = node.value(0)
    if node.wants(1):
        node.fail("the output Indices is not supported")
    kernel = node.integers("kernel_shape")
    dilations = node.integers("dilations", [1] * len(kernel))
    properties = window_properties(node, x.shape[2:], kernel, dilations)
    return node.emit(MaxPoolOp, x, ceil_mode=bool(node.integer("ceil_mode", 0)), **properties)


def average_pool(node: Node) -> Results:
    return average_pool_of(node, node.value(0))


def average_pool_of(node: Node, x: Value) -> Value:
    """The pooling that the attributes of the node describe, of x."""
    kernel = node.integers("kernel_shape")
    dilations = node.integers("dilations", [1] * len(kernel))
    return node.emit(
        AveragePoolOp, x, ceil_mode=bool(node.integer("ceil_mode", 0)),
        count_padding=bool(node.integer("count_include_pad", 0)),
        **window_properties(node, x.shape[2:], kernel, dilations),
    )  # fmt: skip


# ---- products of floats


def matmul(node: Node) -> Results:
    return product(node, node.value(0), node.value(1))


def gemm(node: Node) -> Results:
    a, b, c = node.value(0), node.value(1), node.optional(2)
    if a.rank != 2 or b.rank != 2:
        node.fail(f"needed two matrices, found shapes {list(a.shape)} and {list(b.shape)}")
    alpha, beta = node.real("alpha", 1.0), node.real("beta", 1.0)
    if node.integer("transA", 0):
        a = transposed(node, a)
    if b.constant is None or a.constant is not None:
        if node.integer("transB", 0):
            b = transposed(node, b)
        y = product(node, a, b)
        outputs = y.shape[1]
    else:
        w = b if node.integer("transB", 0) else transposed(node, b)
        outputs = w.shape[0]
        bias = None
        if c is not None and alpha == beta == 1 and c.constant is not None and c.shape in (
            (outputs,), (1, outputs),
        ):  # fmt: skip
            bias, c = reshaped(node, c, (outputs,)), None
        y = node.emit(LinearOp, a, w, bias, weights=[1])
    if alpha != 1:
        y = node.emit(MulOp, y, Value.array(alpha, y.element))
    if c is not None and beta != 0:
        if beta != 1:
            c = node.emit(MulOp, c, Value.array(beta, c.element))
        if c.rank > 2:
            node.fail(f"input C has shape {list(c.shape)}; needed what broadcasts to {list(y.shape)}")
        y = node.emit(AddOp, y, c)
    return y


# ---- products of bytes


def _zero(node: Node, i: int, like: Value) -> Value:
    zero = node.optional(i)
    if zero is None:
        return Value.array(0, like.element if like.element in ("i8", "ui8") else "i8")
    return reshaped(node, zero, ()) if zero.shape == (1,) else zero


def signed_weight(w: Value, zero: Value) -> tuple[Value, Value]:
    """A constant weight as signed bytes, which `sparse.constant` holds."""
    if w.constant is None or zero.constant is None:
        return w, zero
    signed, shifted = as_signed(w.constant, zero.constant.array())
    return Value.of(signed), Value.array(shifted, signed.element)


def _integer_conv(node: Node, x: Value, w: Value, x_zero: Value, w_zero: Value, b: Value | None) -> Value:
    properties = _conv_properties(node, x, w)
    w, w_zero = signed_weight(as_matrix(node, w), w_zero)
    return node.emit(ConvIntegerOp, x, w, x_zero, w_zero, b, weights=[1], **properties)


def _integer_product(node: Node, a: Value, b: Value, a_zero: Value, b_zero: Value) -> Value:
    if b.constant is not None and b.rank == 2 and a_zero.rank == 0 and b_zero.rank <= 1:
        w, w_zero = signed_weight(transposed(node, b), b_zero)
        return node.emit(LinearIntegerOp, a, w, a_zero, w_zero, weights=[1])
    if a_zero.rank == 1:
        a_zero = reshaped(node, a_zero, (*a_zero.shape, 1))
    return node.emit(MatmulIntegerOp, a, b, a_zero, b_zero)


def conv_integer(node: Node) -> Results:
    x, w = node.value(0), node.value(1)
    return _integer_conv(node, x, w, _zero(node, 2, x), _zero(node, 3, w), None)


def matmul_integer(node: Node) -> Results:
    a, b = node.value(0), node.value(1)
    return _integer_product(node, a, b, _zero(node, 2, a), _zero(node, 3, b))


def _requantized(node: Node, y: Value, scales: Sequence[int], y_scale: int, y_zero: int, axis: int) -> Value:
    """The sum times the product of the scales / the scale of the result, and its zero point."""
    factors = [node.known(i).astype(np.float32) for i in scales]
    multiplier = np.asarray(factors[0] * factors[1] / node.known(y_scale).astype(np.float32))
    per_axis = None
    if multiplier.size == 1:
        multiplier = multiplier.reshape(())
    else:
        per_axis = axis
        multiplier = multiplier.ravel()
    zero = node.value(y_zero)
    return node.emit(RequantizeOp, y, Value.array(multiplier, "f32"), reshaped(node, zero, ()), axis=per_axis)


def qlinear_conv(node: Node) -> Results:
    x, w = node.value(0), node.value(3)
    y = _integer_conv(node, x, w, _zero(node, 2, x), _zero(node, 5, w), node.optional(8))
    return _requantized(node, y, [1, 4], 6, 7, 1)


def qlinear_matmul(node: Node) -> Results:
    a, b = node.value(0), node.value(3)
    y = _integer_product(node, a, b, _zero(node, 2, a), _zero(node, 5, b))
    if node.known(1).size > 1 or node.known(6).size > 1:
        node.fail("scales of rows of A or of the result are not supported", "use one for each tensor")
    return _requantized(node, y, [1, 4], 6, 7, y.rank - 1)


HANDLERS: dict[str, Handler] = {
    "AveragePool": average_pool,
    "Conv": conv,
    "ConvInteger": conv_integer,
    "ConvTranspose": transposed_conv,
    "Gemm": gemm,
    "MatMul": matmul,
    "MatMulInteger": matmul_integer,
    "MaxPool": max_pool,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
}
