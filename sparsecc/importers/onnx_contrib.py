"""Operators of onnxruntime on bytes, which its quantiser writes: dequantise, compute in f32, quantise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sparsecc.dialects import nn_elementwise as ew
from sparsecc.dialects.nn_base import NnOp
from sparsecc.dialects.nn_layout import ConcatOp
from sparsecc.dialects.nn_products import LinearIntegerOp
from sparsecc.dialects.nn_quantized import DequantizeLinearOp, QuantizeLinearOp, RequantizeOp
from sparsecc.dialects.nn_reductions import ReduceOp, SoftmaxOp
from sparsecc.importers.emitter import reshaped, transposed
from sparsecc.importers.onnx_graph import Handler, Node, Results
from sparsecc.importers.onnx_products import average_pool_of, signed_weight
from sparsecc.importers.values import Value


def _scalar(node: Node, i: int, default: Value) -> Value:
    value = node.optional(i) or default
    return reshaped(node, value, ()) if value.shape == (1,) else value


def _parameters(node: Node, i: int, element: str) -> tuple[Value, Value]:
    """Scale and zero point from input i on; a zero point that is left out is 0."""
    scale = node.value(i)
    return _scalar(node, i, scale), _scalar(node, i + 1, Value.array(0, element))


def _real(node: Node, i: int) -> Value:
    """Input i with its scale and zero point after it, as real numbers."""
    x = node.value(i)
    return node.emit(DequantizeLinearOp, x, *_parameters(node, i + 1, x.element))


def _bytes(node: Node, y: Value, i: int, element: str) -> Value:
    """The result as bytes, its scale being input i."""
    return node.emit(QuantizeLinearOp, y, *_parameters(node, i, element))


def _binary(kind: type[NnOp]) -> Handler:
    def handler(node: Node) -> Results:
        y = node.emit(kind, _real(node, 0), _real(node, 3))
        return _bytes(node, y, 6, node.value(0).element)

    return handler


def _unary(function: Callable[[Node, Value], Value]) -> Handler:
    return lambda node: _bytes(node, function(node, _real(node, 0)), 3, node.value(0).element)


def _sigmoid(node: Node, x: Value) -> Value:
    return node.emit(ew.SigmoidOp, x)


def _leaky_relu(node: Node, x: Value) -> Value:
    return node.emit(ew.LeakyReluOp, x, alpha=node.real("alpha", 0.01))


def _channels_first(node: Node) -> None:
    node.refuse("channels_last", [0], node.integer("channels_last", 0))


def _average_pool(node: Node, x: Value) -> Value:
    _channels_first(node)
    return average_pool_of(node, x)


def _global_average_pool(node: Node, x: Value) -> Value:
    _channels_first(node)
    return node.emit(ReduceOp, x, kind="mean", axes=list(range(2, x.rank)), keep=True)


def _softmax(node: Node, x: Value) -> Value:
    if node.integer("opset") < 13 and node.integer("axis", 1) % max(1, x.rank) != x.rank - 1:
        node.fail("a softmax over several axes is not supported")
    return node.emit(SoftmaxOp, x, axis=node.integer("axis", -1), logarithm=False)


def concat(node: Node) -> Results:
    first: Sequence[int] = range(2, len(node.inputs), 3)
    y = node.emit(ConcatOp, *(_real(node, i) for i in first), axis=node.integer("axis"))
    return _bytes(node, y, 0, node.value(1).element)


def gemm(node: Node) -> Results:
    """a b + c in i32, then back to bytes."""
    a, b = node.value(0), node.value(3)
    if a.rank != 2 or b.rank != 2 or node.real("alpha", 1.0) != 1.0:
        node.fail("only products of two matrices with alpha 1 are supported")
    a = transposed(node, a) if node.integer("transA", 0) else a
    w = b if node.integer("transB", 0) else transposed(node, b)
    a_scale, a_zero = _parameters(node, 1, a.element)
    b_scale, b_zero = _parameters(node, 4, b.element)
    w, b_zero = signed_weight(w, b_zero)
    bias = node.optional(6)
    if bias is not None:
        bias = reshaped(node, bias, (w.shape[0],))
    y = node.emit(LinearIntegerOp, a, w, a_zero, b_zero, bias, weights=[1])
    if a_scale.constant is None or b_scale.constant is None:
        node.fail("the scales are computed at run time", "make them constants of the model")
    factor = np.asarray(a_scale.constant.array() * b_scale.constant.array(), np.float32)
    axis = 1 if factor.ndim else None
    if node.optional(7) is None:
        zero = Value.array(np.zeros(factor.shape), "i32")
        return node.emit(DequantizeLinearOp, y, Value.array(factor, "f32"), zero, axis=axis)
    y_scale, y_zero = _parameters(node, 7, a.element)
    if y_scale.constant is None:
        node.fail("the scales are computed at run time", "make them constants of the model")
    multiplier = Value.array(factor / y_scale.constant.array(), "f32")
    return node.emit(RequantizeOp, y, multiplier, y_zero, axis=axis)


HANDLERS: dict[str, Handler] = {
    "com.microsoft::QGemm": gemm,
    "com.microsoft::QLinearAdd": _binary(ew.AddOp),
    "com.microsoft::QLinearAveragePool": _unary(_average_pool),
    "com.microsoft::QLinearConcat": concat,
    "com.microsoft::QLinearGlobalAveragePool": _unary(_global_average_pool),
    "com.microsoft::QLinearLeakyRelu": _unary(_leaky_relu),
    "com.microsoft::QLinearMul": _binary(ew.MulOp),
    "com.microsoft::QLinearSigmoid": _unary(_sigmoid),
    "com.microsoft::QLinearSoftmax": _unary(_softmax),
}
