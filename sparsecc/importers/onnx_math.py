"""ONNX operators that work element by element, reduce, or normalise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from sparsecc.dialects import nn_elementwise as ew
from sparsecc.dialects.nn_base import ELEMENTS, FLOATS, NnOp
from sparsecc.dialects.nn_reductions import (
    ArgReduceOp,
    AveragePoolOp,
    BatchNormOp,
    LayerNormOp,
    ReduceOp,
    SoftmaxOp,
)
from sparsecc.importers.emitter import reshaped
from sparsecc.importers.onnx_graph import Handler, Node, Results
from sparsecc.importers.values import Value

_ONE_OPERAND: dict[str, type[NnOp]] = {
    "Abs": ew.AbsOp, "Ceil": ew.CeilOp, "Cos": ew.CosOp, "Erf": ew.ErfOp, "Exp": ew.ExpOp,
    "Floor": ew.FloorOp, "Log": ew.LogOp, "Neg": ew.NegOp, "Not": ew.NotOp,
    "Reciprocal": ew.ReciprocalOp, "Relu": ew.ReluOp,
    "Round": ew.RoundOp, "Sigmoid": ew.SigmoidOp, "Sign": ew.SignOp, "Sin": ew.SinOp,
    "Softplus": ew.SoftplusOp, "Softsign": ew.SoftsignOp, "Sqrt": ew.SqrtOp, "Tanh": ew.TanhOp,
}  # fmt: skip

_TWO_OPERANDS: dict[str, type[NnOp]] = {
    "Add": ew.AddOp, "And": ew.AndOp, "Div": ew.DivOp, "Equal": ew.EqualOp, "Greater": ew.GreaterOp,
    "Less": ew.LessOp, "Mul": ew.MulOp, "Or": ew.OrOp, "Sub": ew.SubOp, "Xor": ew.XorOp,
}  # fmt: skip

_SEVERAL: dict[str, type[NnOp]] = {"Max": ew.MaxOp, "Min": ew.MinOp, "Sum": ew.AddOp}


def _unary(kind: type[NnOp]) -> Handler:
    return lambda node: node.emit(kind, node.value(0))


def _binary(kind: type[NnOp]) -> Handler:
    return lambda node: node.emit(kind, node.value(0), node.value(1))


def _folded_left(node: Node, kind: type[NnOp]) -> Value:
    result = node.value(0)
    for i in range(1, len(node.inputs)):
        result = node.emit(kind, result, node.value(i))
    return result


def _several(kind: type[NnOp]) -> Handler:
    return lambda node: _folded_left(node, kind)


def _number(value: float, like: Value) -> Value:
    return Value.array(value, like.element)


def mean(node: Node) -> Results:
    total = _folded_left(node, ew.AddOp)
    return node.emit(ew.DivOp, total, _number(len(node.inputs), total))


def _compared(operator: type[NnOp]) -> Handler:
    """>= and <=: greater or equal, so that NaN is neither."""

    def handler(node: Node) -> Results:
        x, y = node.value(0), node.value(1)
        return node.emit(ew.OrOp, node.emit(operator, x, y), node.emit(ew.EqualOp, x, y))

    return handler


def power(node: Node) -> Results:
    x, y = node.value(0), node.value(1)
    if x.element == y.element:
        return node.emit(ew.PowOp, x, y)
    if x.element in FLOATS or y.element not in FLOATS:
        return node.emit(ew.PowOp, x, node.emit(ew.CastOp, y, element_type=ELEMENTS[x.element]))
    # An integer to a real power, rounded towards zero.
    wide = node.emit(ew.PowOp, node.emit(ew.CastOp, x, element_type=ELEMENTS[y.element]), y)
    return node.emit(ew.CastOp, wide, element_type=ELEMENTS[x.element])


def mod(node: Node) -> Results:
    return node.emit(ew.ModOp, node.value(0), node.value(1), truncated=bool(node.integer("fmod", 0)))


def where(node: Node) -> Results:
    return node.emit(ew.WhereOp, node.value(0), node.value(1), node.value(2))


def clip(node: Node) -> Results:
    x = node.value(0)
    if node.opset < 11:
        low = node.real("min", -math.inf) if node.has("min") else None
        high = node.real("max", math.inf) if node.has("max") else None
        return node.emit(ew.ClipOp, x, low=low, high=high)
    bounds = [node.optional(1), node.optional(2)]
    known = all(b is None or (b.constant is not None and math.prod(b.shape) == 1) for b in bounds)
    if x.element in ("f32", "f16") and known:
        low, high = (None if b is None else float(node.scalar(i)) for i, b in enumerate(bounds, 1))
        return node.emit(ew.ClipOp, x, low=low, high=high)
    for kind, bound in zip((ew.MaxOp, ew.MinOp), bounds, strict=True):
        if bound is not None:
            x = node.emit(kind, x, reshaped(node, bound, ()))
    return x


def elu(node: Node) -> Results:
    return node.emit(ew.EluOp, node.value(0), alpha=node.real("alpha", 1.0))


def leaky_relu(node: Node) -> Results:
    return node.emit(ew.LeakyReluOp, node.value(0), alpha=node.real("alpha", 0.01))


def prelu(node: Node) -> Results:
    x, slope = node.value(0), node.value(1)
    negative = node.emit(ew.LessOp, x, _number(0, x))
    return node.emit(ew.WhereOp, negative, node.emit(ew.MulOp, slope, x), x)


def gelu(node: Node) -> Results:
    how = node.text("approximate", "none")
    node.refuse("approximate", ["none", "tanh"], how)
    return node.emit(ew.GeluOp, node.value(0), approximate=how == "tanh")


def hard_sigmoid(node: Node) -> Results:
    alpha, beta = node.real("alpha", 0.2), node.real("beta", 0.5)
    return node.emit(ew.HardSigmoidOp, node.value(0), alpha=alpha, beta=beta)


def hard_swish(node: Node) -> Results:
    x = node.value(0)
    return node.emit(ew.MulOp, x, node.emit(ew.HardSigmoidOp, x, alpha=1 / 6, beta=0.5))


def swish(node: Node) -> Results:
    x, alpha = node.value(0), node.real("alpha", 1.0)
    if alpha == 1:
        return node.emit(ew.SiluOp, x)
    scaled = node.emit(ew.MulOp, x, _number(alpha, x))
    return node.emit(ew.MulOp, x, node.emit(ew.SigmoidOp, scaled))


# ---- reductions


def _axes(node: Node, x: Value) -> list[int]:
    if node.has("axes"):
        return node.integers("axes")
    axes = [] if node.optional(1) is None else node.known_ints(1)
    if not axes and not node.integer("noop_with_empty_axes", 0):
        return list(range(x.rank))
    return axes


def _reduced(node: Node, x: Value, kind: str, axes: Sequence[int]) -> Value:
    return node.emit(ReduceOp, x, kind=kind, axes=list(axes), keep=bool(node.integer("keepdims", 1)))


def _reduction(
    kind: str,
    before: Callable[[Node, Value], Value] | None = None,
    after: Callable[[Node, Value], Value] | None = None,
) -> Handler:
    def handler(node: Node) -> Results:
        x = node.value(0)
        axes = _axes(node, x)
        if x.element == "i1":
            narrow = node.emit(ew.CastOp, x, element_type=ELEMENTS["ui8"])
            return node.emit(ew.CastOp, _reduced(node, narrow, kind, axes), element_type=ELEMENTS["i1"])
        y = _reduced(node, x if before is None else before(node, x), kind, axes)
        return y if after is None else after(node, y)

    return handler


def _square(node: Node, x: Value) -> Value:
    return node.emit(ew.MulOp, x, x)


def _of(kind: type[NnOp]) -> Callable[[Node, Value], Value]:
    return lambda node, x: node.emit(kind, x)


def log_sum_exp(node: Node) -> Results:
    """With the largest element taken out, so that no power overflows."""
    x = node.value(0)
    axes = _axes(node, x)
    if math.prod(x.shape) == 0:
        return node.emit(ew.LogOp, _reduced(node, node.emit(ew.ExpOp, x), "sum", axes))
    most = node.emit(ReduceOp, x, kind="max", axes=axes, keep=True)
    total = _reduced(node, node.emit(ew.ExpOp, node.emit(ew.SubOp, x, most)), "sum", axes)
    return node.emit(ew.AddOp, node.emit(ew.LogOp, total), reshaped(node, most, total.shape))


def _arg(kind: str) -> Handler:
    return lambda node: node.emit(
        ArgReduceOp, node.value(0), kind=kind, axis=node.integer("axis", 0),
        keep=bool(node.integer("keepdims", 1)), last=bool(node.integer("select_last_index", 0)),
    )  # fmt: skip


def _global_pool(kind: str) -> Handler:
    def handler(node: Node) -> Results:
        x = node.value(0)
        return node.emit(ReduceOp, x, kind=kind, axes=list(range(2, x.rank)), keep=True)

    return handler


# ---- normalisation


def _softmax(logarithm: bool) -> Handler:
    def handler(node: Node) -> Results:
        x = node.value(0)
        if node.opset >= 13:
            return node.emit(SoftmaxOp, x, axis=node.integer("axis", -1), logarithm=logarithm)
        axis = node.integer("axis", 1)
        if not -x.rank <= axis <= x.rank:
            node.fail(f"attribute axis is {axis}, but the input has {x.rank} dimensions")
        axis += x.rank if axis < 0 else 0
        flat = reshaped(node, x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))
        return reshaped(node, node.emit(SoftmaxOp, flat, axis=1, logarithm=logarithm), x.shape)

    return handler


def layer_norm(node: Node) -> Results:
    x, axis, epsilon = node.value(0), node.integer("axis", -1), node.real("epsilon", 1e-5)
    y = node.emit(LayerNormOp, x, node.value(1), node.optional(2), axis=axis, epsilon=epsilon)
    if not (node.wants(1) or node.wants(2)):
        return y
    axes = list(range(axis % x.rank, x.rank))
    mean = node.emit(ReduceOp, x, kind="mean", axes=axes, keep=True)
    squares = _square(node, node.emit(ew.SubOp, x, mean))
    variance = node.emit(ReduceOp, squares, kind="mean", axes=axes, keep=True)
    deviation = node.emit(ew.SqrtOp, node.emit(ew.AddOp, variance, _number(epsilon, variance)))
    return [y, mean, node.emit(ew.ReciprocalOp, deviation)]


def instance_norm(node: Node) -> Results:
    x = node.value(0)
    if x.rank < 3:
        node.fail(f"the input has shape {list(x.shape)}; needed [N, channels, spatial...]")
    flat = reshaped(node, x, (*x.shape[:2], math.prod(x.shape[2:])))
    scale, bias = (reshaped(node, node.value(i), (x.shape[1], 1)) for i in (1, 2))
    y = node.emit(LayerNormOp, flat, scale, bias, axis=2, epsilon=node.real("epsilon", 1e-5))
    return reshaped(node, y, x.shape)


def batch_norm(node: Node) -> Results:
    node.refuse("training_mode", [0], node.integer("training_mode", 0))
    node.refuse("spatial", [1], node.integer("spatial", 1))
    parameters = [node.value(i) for i in range(5)]
    return node.emit(BatchNormOp, *parameters, epsilon=node.real("epsilon", 1e-5))


def lrn(node: Node) -> Results:
    """Each element / (bias + alpha x mean of the squares of its neighbours among the channels) ** beta."""
    x, size = node.value(0), node.integer("size")
    if x.rank < 3 or size < 1:
        node.fail(f"shape {list(x.shape)} and size {size} do not fit")
    n, c = x.shape[:2]
    squares = reshaped(node, _square(node, x), (n, 1, c, math.prod(x.shape[2:])))
    means = node.emit(
        AveragePoolOp, squares, kernel=[size, 1], strides=[1, 1], dilations=[1, 1], ceil_mode=False,
        pads=[(size - 1) // 2, 0, size // 2, 0], count_padding=True,
    )  # fmt: skip
    scaled = node.emit(ew.MulOp, reshaped(node, means, x.shape), _number(node.real("alpha", 1e-4), x))
    base = node.emit(ew.AddOp, scaled, _number(node.real("bias", 1.0), x))
    return node.emit(ew.DivOp, x, node.emit(ew.PowOp, base, _number(node.real("beta", 0.75), x)))


def cum_sum(node: Node) -> Results:
    """Folded only: positions of tokens and the like."""
    x, axis = node.known(0), int(node.scalar(1))
    if not -x.ndim <= axis < x.ndim:
        node.fail(f"axis {axis} is outside the {x.ndim} dimensions of the input")
    x = np.flip(x, axis) if node.integer("reverse", 0) else x
    total = np.cumsum(x, axis, dtype=x.dtype)
    if node.integer("exclusive", 0):
        total = total - x
    return Value.array(np.flip(total, axis) if node.integer("reverse", 0) else total, node.value(0).element)


HANDLERS: dict[str, Handler] = {
    **{name: _unary(kind) for name, kind in _ONE_OPERAND.items()},
    **{name: _binary(kind) for name, kind in _TWO_OPERANDS.items()},
    **{name: _several(kind) for name, kind in _SEVERAL.items()},
    "ArgMax": _arg("max"),
    "ArgMin": _arg("min"),
    "BatchNormalization": batch_norm,
    "Clip": clip,
    "CumSum": cum_sum,
    "Elu": elu,
    "Gelu": gelu,
    "GlobalAveragePool": _global_pool("mean"),
    "GlobalMaxPool": _global_pool("max"),
    "GreaterOrEqual": _compared(ew.GreaterOp),
    "HardSigmoid": hard_sigmoid,
    "HardSwish": hard_swish,
    "InstanceNormalization": instance_norm,
    "LRN": lrn,
    "LayerNormalization": layer_norm,
    "LeakyRelu": leaky_relu,
    "LessOrEqual": _compared(ew.LessOp),
    "LogSoftmax": _softmax(True),
    "Mean": mean,
    "Mod": mod,
    "PRelu": prelu,
    "Pow": power,
    "ReduceL1": _reduction("sum", _of(ew.AbsOp)),
    "ReduceL2": _reduction("sum", _square, _of(ew.SqrtOp)),
    "ReduceLogSum": _reduction("sum", None, _of(ew.LogOp)),
    "ReduceLogSumExp": log_sum_exp,
    "ReduceMax": _reduction("max"),
    "ReduceMean": _reduction("mean"),
    "ReduceMin": _reduction("min"),
    "ReduceProd": _reduction("prod"),
    "ReduceSum": _reduction("sum"),
    "ReduceSumSquare": _reduction("sum", _square),
    "Softmax": _softmax(False),
    "Swish": swish,
    "Where": where,
    "com.microsoft::Gelu": gelu,
}
