"""Operators of torch that work element by element."""

from __future__ import annotations

import math

import numpy as np

from sparsecc.dialects import nn_elementwise as ew
from sparsecc.dialects.nn_base import FLOATS, NnOp
from sparsecc.importers.emitter import as_element, broadcast, reshaped
from sparsecc.importers.torch_graph import Handler, Node, Results
from sparsecc.importers.values import Value

_UNARY: dict[str, type[NnOp]] = {
    "abs": ew.AbsOp, "ceil": ew.CeilOp, "cos": ew.CosOp, "erf": ew.ErfOp, "exp": ew.ExpOp,
    "floor": ew.FloorOp, "log": ew.LogOp, "logical_not": ew.NotOp, "neg": ew.NegOp,
    "reciprocal": ew.ReciprocalOp, "relu": ew.ReluOp, "round": ew.RoundOp, "sigmoid": ew.SigmoidOp,
    "sign": ew.SignOp, "silu": ew.SiluOp, "sin": ew.SinOp, "sqrt": ew.SqrtOp, "tanh": ew.TanhOp,
}  # fmt: skip
_BINARY: dict[str, type[NnOp]] = {"maximum": ew.MaxOp, "minimum": ew.MinOp, "mul": ew.MulOp, "pow": ew.PowOp}
_LOGICAL: dict[str, type[NnOp]] = {
    "logical_and": ew.AndOp, "logical_or": ew.OrOp, "logical_xor": ew.XorOp,
}  # fmt: skip
_BITWISE: dict[str, type[NnOp]] = {
    "bitwise_and": ew.AndOp, "bitwise_or": ew.OrOp, "bitwise_xor": ew.XorOp,
}  # fmt: skip


def number(value: float, like: Value) -> Value:
    """A constant of the element type of another value."""
    return Value.array(value, like.element)


def lowest(element: str) -> float:
    """The smallest finite number: it stands for minus infinity in front of a softmax."""
    return {"f16": -65504.0, "f64": float(np.finfo(np.float64).min)}.get(
        element, float(np.finfo(np.float32).min)
    )


def floats(node: Node, name: str = "self") -> Value:
    """A tensor in the type of the result: functions of integers are real."""
    return as_element(node, node.value(name, node.element), node.element)


def _unary(kind: type[NnOp]) -> Handler:
    def handler(node: Node) -> Results:
        x = node.value("self")
        if kind is ew.RoundOp and node.integer("decimals", 0):
            node.fail("rounding to decimals is not supported")
        if kind is ew.NotOp:
            return node.emit(kind, as_element(node, x, "i1"))
        if kind in (ew.CeilOp, ew.FloorOp, ew.RoundOp) and x.element not in FLOATS:
            return x
        return node.emit(kind, floats(node))

    return handler


def operands(node: Node, element: str | None = None) -> tuple[Value, Value]:
    """self and other (or exponent) in the type of the result, or in the one given."""
    second = "other" if "other" in node.given else "exponent"
    kind = element or node.element
    return tuple(as_element(node, node.value(name, kind), kind) for name in ("self", second))  # pyright: ignore[reportReturnType]


def _binary(kind: type[NnOp]) -> Handler:
    def handler(node: Node) -> Results:
        x, y = operands(node)
        # Of truth values a product is both, a maximum either.
        if x.element == "i1":
            kinds: dict[type[NnOp], type[NnOp]] = {ew.MulOp: ew.AndOp, ew.MinOp: ew.AndOp, ew.MaxOp: ew.OrOp}
            return node.emit(kinds.get(kind, kind), x, y)
        return node.emit(kind, x, y)

    return handler


def _added(kind: type[NnOp]) -> Handler:
    """x + alpha y, x - alpha y."""

    def handler(node: Node) -> Results:
        x, y = operands(node)
        if (alpha := node.number("alpha", 1)) != 1:
            y = node.emit(ew.MulOp, y, number(alpha, y))
        return node.emit(ew.OrOp if x.element == "i1" else kind, x, y)

    return handler


def rsub(node: Node) -> Results:
    x, y = operands(node)
    if (alpha := node.number("alpha", 1)) != 1:
        x = node.emit(ew.MulOp, x, number(alpha, x))
    return node.emit(ew.SubOp, y, x)


def div(node: Node) -> Results:
    x, y = operands(node)
    mode = node.given.get("rounding_mode")
    if mode is None or x.element not in FLOATS:
        if mode == "floor":
            return _floor_of_integers(node, x, y)
        return node.emit(ew.DivOp, x, y)
    quotient = node.emit(ew.DivOp, x, y)
    down = node.emit(ew.FloorOp, quotient)
    if mode == "floor":
        return down
    negative = node.emit(ew.LessOp, quotient, number(0, x))
    return node.emit(ew.WhereOp, negative, node.emit(ew.CeilOp, quotient), down)


def _floor_of_integers(node: Node, x: Value, y: Value) -> Value:
    """(x - x mod y) / y, the rest having the sign of y."""
    rest = node.emit(ew.ModOp, x, y, truncated=False)
    return node.emit(ew.DivOp, node.emit(ew.SubOp, x, rest), y)


def floor_divide(node: Node) -> Results:
    x, y = operands(node)
    if x.element not in FLOATS:
        return _floor_of_integers(node, x, y)
    return node.emit(ew.FloorOp, node.emit(ew.DivOp, x, y))


def _mod(truncated: bool) -> Handler:
    return lambda node: node.emit(ew.ModOp, *operands(node), truncated=truncated)


def _common(node: Node) -> tuple[Value, Value]:
    """Operands of a comparison in one type; numbers take the tensor's where it holds them."""
    x, y = node.given["self"], node.given["other"]
    kinds = [v.element for v in (x, y) if isinstance(v, Value)]
    element = kinds[0]
    if len(kinds) == 2 and kinds[0] != kinds[1]:
        order = ("i1", "ui8", "i8", "i16", "i32", "i64", "f16", "bf16", "f32", "f64")
        if any(k not in order for k in kinds) or set(kinds) in ({"ui8", "i8"}, {"f16", "bf16"}):
            node.fail(f"elements of types {' and '.join(kinds)} are not compared")
        element = max(kinds, key=order.index)
    elif len(kinds) == 1 and element not in FLOATS:
        scalar = y if isinstance(x, Value) else x
        if isinstance(scalar, float):
            element = "f32"
        elif element == "i1" and not isinstance(scalar, bool):
            element = "i64"
    return operands(node, element)


def _compared(
    kind: type[NnOp], swapped: bool = False, inverted: bool = False, equal: bool = False
) -> Handler:
    def handler(node: Node) -> Results:
        x, y = _common(node)
        if swapped:
            x, y = y, x
        result = node.emit(kind, x, y)
        if equal:
            result = node.emit(ew.OrOp, result, node.emit(ew.EqualOp, x, y))
        return node.emit(ew.NotOp, result) if inverted else result

    return handler


def _logical(kind: type[NnOp]) -> Handler:
    return lambda node: node.emit(kind, *operands(node, "i1"))


def _bitwise(kind: type[NnOp]) -> Handler:
    def handler(node: Node) -> Results:
        if node.element != "i1":
            node.fail("operations on bits of numbers are not supported")
        return node.emit(kind, *operands(node, "i1"))

    return handler


def bitwise_not(node: Node) -> Results:
    if node.element != "i1":
        node.fail("operations on bits of numbers are not supported")
    return node.emit(ew.NotOp, node.value("self"))


def clamp(node: Node) -> Results:
    x = floats(node)
    bounds = [node.given.get(name) for name in ("min", "max")]
    if x.element in ("f32", "f16") and not any(isinstance(b, Value) for b in bounds):
        low, high = (None if b is None else float(b) for b in bounds)
        return node.emit(ew.ClipOp, x, low=low, high=high)
    for kind, name in ((ew.MaxOp, "min"), (ew.MinOp, "max")):
        if node.has(name):
            x = node.emit(kind, x, as_element(node, node.value(name, x.element), x.element))
    return x


def clamp_min(node: Node) -> Results:
    return node.emit(ew.MaxOp, floats(node), as_element(node, node.value("min", node.element), node.element))


def clamp_max(node: Node) -> Results:
    return node.emit(ew.MinOp, floats(node), as_element(node, node.value("max", node.element), node.element))


def hardtanh(node: Node) -> Results:
    x = node.value("self")
    return node.emit(
        ew.ClipOp, x, low=float(node.number("min_val", -1)), high=float(node.number("max_val", 1))
    )


def relu6(node: Node) -> Results:
    return node.emit(ew.ClipOp, node.value("self"), low=0.0, high=6.0)


def elu(node: Node) -> Results:
    x, alpha, scale = node.value("self"), node.number("alpha", 1), node.number("scale", 1)
    y = node.emit(ew.EluOp, x, alpha=float(alpha))
    if node.number("input_scale", 1) != 1:
        node.fail("an input_scale that is not 1 is not supported")
    return y if scale == 1 else node.emit(ew.MulOp, y, number(scale, y))


def celu(node: Node) -> Results:
    """alpha elu(x / alpha)."""
    x, alpha = node.value("self"), node.number("alpha", 1)
    y = node.emit(ew.EluOp, node.emit(ew.DivOp, x, number(alpha, x)), alpha=1.0)
    return node.emit(ew.MulOp, y, number(alpha, x))


def expm1(node: Node) -> Results:
    x = node.emit(ew.ExpOp, floats(node))
    return node.emit(ew.SubOp, x, number(1, x))


def gelu(node: Node) -> Results:
    return node.emit(ew.GeluOp, node.value("self"), approximate=node.given.get("approximate") == "tanh")


def leaky_relu(node: Node) -> Results:
    return node.emit(ew.LeakyReluOp, node.value("self"), alpha=float(node.number("negative_slope", 0.01)))


def prelu(node: Node) -> Results:
    x = node.value("self")
    slope = node.value("weight")
    if slope.rank == 1 and x.rank > 1:
        slope = reshaped(node, slope, (-1 if slope.shape[0] < 0 else slope.shape[0], *[1] * (x.rank - 2)))
    negative = node.emit(ew.LessOp, x, number(0, x))
    return node.emit(ew.WhereOp, negative, node.emit(ew.MulOp, slope, x), x)


def hardsigmoid(node: Node) -> Results:
    return node.emit(ew.HardSigmoidOp, node.value("self"), alpha=1 / 6, beta=0.5)


def hardswish(node: Node) -> Results:
    x = node.value("self")
    return node.emit(ew.MulOp, x, node.emit(ew.HardSigmoidOp, x, alpha=1 / 6, beta=0.5))


def softplus(node: Node) -> Results:
    """log(1 + exp(beta x)) / beta; beyond the threshold torch returns x, which it equals there."""
    x, beta = node.value("self"), node.number("beta", 1)
    if beta == 1:
        return node.emit(ew.SoftplusOp, x)
    return node.emit(
        ew.DivOp, node.emit(ew.SoftplusOp, node.emit(ew.MulOp, x, number(beta, x))), number(beta, x)
    )


def mish(node: Node) -> Results:
    x = node.value("self")
    return node.emit(ew.MulOp, x, node.emit(ew.TanhOp, node.emit(ew.SoftplusOp, x)))


def rsqrt(node: Node) -> Results:
    return node.emit(ew.ReciprocalOp, node.emit(ew.SqrtOp, floats(node)))


def log1p(node: Node) -> Results:
    x = floats(node)
    return node.emit(ew.LogOp, node.emit(ew.AddOp, x, number(1, x)))


def log2(node: Node) -> Results:
    x = node.emit(ew.LogOp, floats(node))
    return node.emit(ew.MulOp, x, number(1 / math.log(2), x))


def square(node: Node) -> Results:
    x = node.value("self")
    return node.emit(ew.MulOp, x, x)


def trunc(node: Node) -> Results:
    x = node.value("self")
    down, up = node.emit(ew.FloorOp, x), node.emit(ew.CeilOp, x)
    return node.emit(ew.WhereOp, node.emit(ew.LessOp, x, number(0, x)), up, down)


def isnan(node: Node) -> Results:
    x = node.value("self")
    return node.emit(ew.NotOp, node.emit(ew.EqualOp, x, x))


def where(node: Node) -> Results:
    condition = as_element(node, node.value("condition"), "i1")
    x, y = (as_element(node, node.value(n, node.element), node.element) for n in ("self", "other"))
    return node.emit(ew.WhereOp, condition, x, y)


def masked_fill(node: Node) -> Results:
    """A fill with minus infinity takes the lowest finite number: a softmax makes the same of both."""
    x = node.value("self")
    fill = node.given["value"]
    fill = max(float(fill), lowest(x.element)) if isinstance(fill, float) else fill
    filling = fill if isinstance(fill, Value) else number(fill, x)
    return node.emit(ew.WhereOp, node.value("mask"), as_element(node, filling, x.element), x)


def cast(node: Node) -> Results:
    x = node.value("self")
    return as_element(node, x, node.element_of("dtype", x.element))


def cast_like(node: Node) -> Results:
    return as_element(node, node.value("self"), node.value("other").element)


def copy(node: Node) -> Results:
    """The values of src in the shape and type of self."""
    x, y = node.value("self"), node.value("src")
    return broadcast(node, as_element(node, y, x.element), x.shape)


HANDLERS: dict[str, Handler] = {
    **{name: _unary(kind) for name, kind in _UNARY.items()},
    **{name: _binary(kind) for name, kind in _BINARY.items()},
    **{name: _logical(kind) for name, kind in _LOGICAL.items()},
    **{name: _bitwise(kind) for name, kind in _BITWISE.items()},
    "_to_copy": cast,
    "add": _added(ew.AddOp),
    "bitwise_not": bitwise_not,
    "celu": celu,
    "clamp": clamp,
    "clamp_max": clamp_max,
    "clamp_min": clamp_min,
    "copy": copy,
    "div": div,
    "elu": elu,
    "eq": _compared(ew.EqualOp),
    "expm1": expm1,
    "floor_divide": floor_divide,
    "fmod": _mod(True),
    "ge": _compared(ew.GreaterOp, equal=True),
    "gelu": gelu,
    "gt": _compared(ew.GreaterOp),
    "hardsigmoid": hardsigmoid,
    "hardswish": hardswish,
    "hardtanh": hardtanh,
    "isnan": isnan,
    "le": _compared(ew.LessOp, equal=True),
    "leaky_relu": leaky_relu,
    "log1p": log1p,
    "log2": log2,
    "lt": _compared(ew.LessOp),
    "masked_fill": masked_fill,
    "mish": mish,
    "ne": _compared(ew.EqualOp, inverted=True),
    "prelu": prelu,
    "relu6": relu6,
    "remainder": _mod(False),
    "rsqrt": rsqrt,
    "rsub": rsub,
    "softplus": softplus,
    "square": square,
    "sub": _added(ew.SubOp),
    "to": cast,
    "true_divide": div,
    "trunc": trunc,
    "type_as": cast_like,
    "where": where,
}
