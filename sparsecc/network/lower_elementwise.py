"""Lowering of operators element by element: they take any layout and keep it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdsl.dialects.builtin import FloatAttr
from xdsl.ir import Operation, SSAValue

from sparsecc.dialects import nn_elementwise as ew
from sparsecc.dialects.host import HOST_TYPES, kind_of
from sparsecc.dialects.nn_base import flag, shape_of, type_of
from sparsecc.host.operator import ELEMENT_BYTES
from sparsecc.host.walk import Walk, contiguous
from sparsecc.network.layout import Layout
from sparsecc.network.lower import Lowering, Placed, Rule, refuse

_UNARY: dict[type[Operation], str] = {
    ew.AbsOp: "abs",
    ew.CeilOp: "ceil",
    ew.CosOp: "cos",
    ew.ErfOp: "erf",
    ew.ExpOp: "exp",
    ew.FloorOp: "floor",
    ew.LogOp: "log",
    ew.NegOp: "neg",
    ew.NotOp: "not",
    ew.ReciprocalOp: "reciprocal",
    ew.ReluOp: "relu",
    ew.RoundOp: "round",
    ew.SigmoidOp: "sigmoid",
    ew.SignOp: "sign",
    ew.SiluOp: "silu",
    ew.SinOp: "sin",
    ew.SoftplusOp: "softplus",
    ew.SoftsignOp: "softsign",
    ew.SqrtOp: "sqrt",
    ew.TanhOp: "tanh",
}
_BINARY = {
    ew.AddOp: "add", ew.AndOp: "and", ew.DivOp: "div", ew.EqualOp: "equal", ew.GreaterOp: "greater",
    ew.LessOp: "less", ew.MaxOp: "max", ew.MinOp: "min", ew.MulOp: "mul", ew.OrOp: "or", ew.PowOp: "pow",
    ew.SubOp: "sub", ew.XorOp: "xor",
}  # fmt: skip


def host_kind(op: Operation, value: SSAValue) -> str:
    """The element type as the host calls it; refuses types the host does not have."""
    element = str(type_of(value).element_type)
    if element not in HOST_TYPES:
        refuse(op, f"has elements of {element}, which the host does not compute with; use f32 in the model")
    return HOST_TYPES[element]


def unary(
    op: Operation, low: Lowering, name: str, numbers: dict[str, float] | None = None
) -> Sequence[Placed]:
    x = low.get(op.operands[0])
    operator = f"host_{name}_{host_kind(op, op.operands[0])}"
    extents = x.layout.extents
    value = low.view(x.value, extents)
    count = 1
    for e in extents:
        count *= e
    element = type_of(op.results[0]).element_type
    y = low.call_with(operator, [value], extents, element, {"n": count, **(numbers or {})})
    return [Placed(y, x.layout)]


def walked(low: Lowering, parts: Sequence[Placed], shape: Sequence[int]) -> tuple[Layout, Walk]:
    """A broadcast result in the order of its largest operand, and the walk over result and operands."""
    rank = len(shape)
    base = max(parts, key=kind_size)
    missing = rank - len(base.layout.shape)
    layout = Layout(tuple(shape), (*range(missing), *(a + missing for a in base.layout.order)))

    def strides(part: Placed) -> list[int]:
        lead = rank - len(part.layout.shape)
        steps = [0] * lead + [
            0 if extent == 1 else step
            for step, extent in zip(part.layout.strides, part.layout.shape, strict=True)
        ]
        return [steps[a] for a in layout.order]

    return layout, Walk.of(layout.extents, contiguous(layout.extents), *map(strides, parts))


def kind_size(part: Placed) -> int:
    """Elements of a value."""
    count = 1
    for extent in part.layout.shape:
        count *= extent
    return count


def _binary(name: str) -> Rule:
    def rule(op: Operation, low: Lowering) -> Sequence[Placed]:
        return binary(op, low, name)

    return rule


def binary(op: Operation, low: Lowering, name: str) -> Sequence[Placed]:
    parts = [low.get(o) for o in op.operands]
    layout, walk = walked(low, parts, shape_of(op.results[0]))
    operator = f"host_{name}_{host_kind(op, op.operands[0])}"
    element = type_of(op.results[0]).element_type
    values = [p.value for p in parts]
    y = low.call(operator, values, layout.extents, element, walk=walk.table())
    return [Placed(y, layout)]


def _number(attribute: FloatAttr[Any] | None, default: float) -> float:
    return default if attribute is None else float(attribute.value.data)


def clip(op: ew.ClipOp, low: Lowering) -> Sequence[Placed]:
    limits = {"low": _number(op.low, float("-inf")), "high": _number(op.high, float("inf"))}
    return unary(op, low, "clip", limits)


def gelu(op: ew.GeluOp, low: Lowering) -> Sequence[Placed]:
    return unary(op, low, "gelu_tanh" if op.is_approximate else "gelu")


def cast_(op: ew.CastOp, low: Lowering) -> Sequence[Placed]:
    x = low.get(op.x)
    start, end = host_kind(op, op.x), host_kind(op, op.res)
    if start == end:
        return [x]
    if start == "b8":
        start = "u8"
    y = low.call(
        f"host_cast_{start}_{end}", [x.value], x.layout.extents, type_of(op.res).element_type, n=kind_size(x)
    )
    return [Placed(y, x.layout)]


def mod(op: ew.ModOp, low: Lowering) -> Sequence[Placed]:
    return binary(op, low, "fmod" if flag(op.truncated) else "mod")


def where(op: ew.WhereOp, low: Lowering) -> Sequence[Placed]:
    parts = [low.get(o) for o in op.operands]
    layout, walk = walked(low, parts, shape_of(op.res))
    host_kind(op, op.res)
    size = ELEMENT_BYTES[kind_of(parts[1].value)]
    element = type_of(op.res).element_type
    y = low.call(f"host_where_{size}", [p.value for p in parts], layout.extents, element, walk=walk.table())
    return [Placed(y, layout)]


def _unary(name: str) -> Rule:
    return lambda op, low: unary(op, low, name)


RULES: dict[type[Operation], Rule] = {
    **{op: _unary(name) for op, name in _UNARY.items()},
    **{op: _binary(name) for op, name in _BINARY.items()},
    ew.CastOp: cast_,
    ew.ClipOp: clip,
    ew.EluOp: lambda op, low: unary(op, low, "elu", {"alpha": _number(op.alpha, 1.0)}),
    ew.GeluOp: gelu,
    ew.HardSigmoidOp: lambda op, low: unary(
        op, low, "hard_sigmoid", {"alpha": _number(op.alpha, 0.2), "beta": _number(op.beta, 0.5)}
    ),
    ew.LeakyReluOp: lambda op, low: unary(op, low, "leaky_relu", {"alpha": _number(op.alpha, 0.01)}),
    ew.ModOp: mod,
    ew.WhereOp: where,
}
