"""Scalar operations of `arith` and `math`, in bodies of `linalg.generic` or alone, as those of tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

from xdsl.dialects import arith
from xdsl.dialects import math as md
from xdsl.dialects.builtin import DenseIntOrFPElementsAttr, FloatAttr, IntegerAttr, TensorType
from xdsl.ir import Attribute, Operation, SSAValue

from sparsecc.dialects import nn_elementwise as ew
from sparsecc.dialects.nn_base import NnOp
from sparsecc.importers.emitter import Emitter, as_element
from sparsecc.importers.values import Value

Scope = dict[SSAValue, Any]

_UNARY: dict[type[Operation], type[NnOp]] = {
    md.AbsFOp: ew.AbsOp, md.AbsIOp: ew.AbsOp, md.CeilOp: ew.CeilOp, md.CosOp: ew.CosOp, md.ErfOp: ew.ErfOp,
    md.ExpOp: ew.ExpOp, md.FloorOp: ew.FloorOp, md.LogOp: ew.LogOp, arith.NegfOp: ew.NegOp,
    md.RoundEvenOp: ew.RoundOp, md.SinOp: ew.SinOp, md.SqrtOp: ew.SqrtOp, md.TanhOp: ew.TanhOp,
}  # fmt: skip
_BINARY: dict[type[Operation], type[NnOp]] = {
    arith.AddfOp: ew.AddOp, arith.AddiOp: ew.AddOp, arith.AndIOp: ew.AndOp, arith.DivfOp: ew.DivOp,
    arith.DivSIOp: ew.DivOp, arith.MaximumfOp: ew.MaxOp, arith.MaxnumfOp: ew.MaxOp, arith.MaxSIOp: ew.MaxOp,
    arith.MinimumfOp: ew.MinOp, arith.MinnumfOp: ew.MinOp, arith.MinSIOp: ew.MinOp, arith.MulfOp: ew.MulOp,
    arith.MuliOp: ew.MulOp, arith.OrIOp: ew.OrOp, md.PowFOp: ew.PowOp, arith.SubfOp: ew.SubOp,
    arith.SubiOp: ew.SubOp, arith.XOrIOp: ew.XorOp,
}  # fmt: skip
_TRUTHS = {ew.AndOp, ew.OrOp, ew.XorOp}
_CASTS = (
    arith.ExtFOp, arith.ExtSIOp, arith.ExtUIOp, arith.FPToSIOp, arith.IndexCastOp, arith.SIToFPOp,
    arith.TruncFOp, arith.TruncIOp, arith.UIToFPOp,
)  # fmt: skip
_FLOAT_COMPARISONS = (
    "false", "oeq", "ogt", "oge", "olt", "ole", "one", "ord", "ueq", "ugt", "uge", "ult", "ule", "une", "uno",
    "true",
)  # fmt: skip
_INTEGER_COMPARISONS = ("oeq", "une", "olt", "ole", "ogt", "oge")


def element_of(kind: Attribute) -> str:
    """Our name of an element type; indices are i64."""
    return "i64" if str(kind) == "index" else str(kind)


def scalar_type(kind: Attribute) -> Attribute:
    """The type of the elements, where it is a tensor."""
    return cast("TensorType[Attribute]", kind).element_type if isinstance(kind, TensorType) else kind


def result_element(op: Operation) -> str:
    """The element type of a result, of a scalar or of a tensor."""
    kind = op.results[0].type
    return element_of(scalar_type(kind))


def is_zero(value: Value) -> bool:
    """Whether a value is a constant 0 everywhere."""
    return value.constant is not None and not value.constant.array().any()


def constant(op: arith.ConstantOp) -> Value | None:
    """A number, or a dense tensor; None where it is something else."""
    match op.value:
        case IntegerAttr() | FloatAttr():
            return Value.array(op.value.value.data, result_element(op))
        case DenseIntOrFPElementsAttr():
            from sparsecc.elements import array_of
            from sparsecc.importers.constants import Dense

            return Value.of(Dense(array_of(op.value), result_element(op)))
        case _:
            return None


def scalar(node: Emitter, op: Operation, scope: Scope) -> Value | None:
    """What one operation computes, element by element; None for one that is not known here."""

    def at(i: int) -> Value:
        return scope[op.operands[i]]

    kind = type(op)
    if isinstance(op, arith.ConstantOp):
        return constant(op)
    if kind in _UNARY:
        return node.emit(_UNARY[kind], at(0))
    if kind in _BINARY:
        return _binary(node, _BINARY[kind], at(0), at(1))
    if kind in _CASTS:
        return as_element(node, at(0), result_element(op))
    match op:
        case md.RsqrtOp():
            return node.emit(ew.ReciprocalOp, node.emit(ew.SqrtOp, at(0)))
        case md.FmaOp():
            return node.emit(ew.AddOp, node.emit(ew.MulOp, at(0), at(1)), at(2))
        case md.Log1pOp():
            return node.emit(ew.LogOp, node.emit(ew.AddOp, at(0), Value.array(1, at(0).element)))
        case md.ExpM1Op():
            return node.emit(ew.SubOp, node.emit(ew.ExpOp, at(0)), Value.array(1, at(0).element))
        case md.Log2Op():
            x = node.emit(ew.LogOp, at(0))
            return node.emit(ew.MulOp, x, Value.array(1 / math.log(2), x.element))
        case md.FPowIOp():
            return node.emit(ew.PowOp, at(0), as_element(node, at(1), at(0).element))
        case arith.RemSIOp():
            return node.emit(ew.ModOp, at(0), at(1), truncated=True)
        case arith.CmpfOp():
            return compared(node, _FLOAT_COMPARISONS[op.predicate.value.data], at(0), at(1))
        case arith.CmpiOp() if op.predicate.value.data < len(_INTEGER_COMPARISONS):
            return compared(node, _INTEGER_COMPARISONS[op.predicate.value.data], at(0), at(1))
        case arith.SelectOp():
            return _selected(node, op, scope)
        case _:
            return None


def _binary(node: Emitter, kind: type[NnOp], x: Value, y: Value) -> Value:
    if kind is ew.MaxOp and is_zero(y):
        return node.emit(ew.ReluOp, x)
    if kind in _TRUTHS and x.element != "i1":
        node.fail("it works on bits of integers", "lower it to arithmetic")
    return node.emit(kind, x, y)


def compared(node: Emitter, predicate: str, x: Value, y: Value) -> Value:
    """A comparison by MLIR's name: o is false for NaN, u is true."""
    simple: dict[str, Callable[[], Value]] = {
        "oeq": lambda: node.emit(ew.EqualOp, x, y),
        "ogt": lambda: node.emit(ew.GreaterOp, x, y),
        "olt": lambda: node.emit(ew.LessOp, x, y),
        "oge": lambda: node.emit(ew.OrOp, simple["ogt"](), simple["oeq"]()),
        "ole": lambda: node.emit(ew.OrOp, simple["olt"](), simple["oeq"]()),
        "one": lambda: node.emit(ew.OrOp, simple["ogt"](), simple["olt"]()),
        "ord": lambda: node.emit(ew.AndOp, node.emit(ew.EqualOp, x, x), node.emit(ew.EqualOp, y, y)),
    }
    if predicate in simple:
        return simple[predicate]()
    # What holds for NaN, too, is what the opposite does not hold for.
    opposite = {
        "une": "oeq",
        "ule": "ogt",
        "uge": "olt",
        "ult": "oge",
        "ugt": "ole",
        "ueq": "one",
        "uno": "ord",
    }
    if predicate not in opposite:
        node.fail(f"the comparison {predicate} is constant", "canonicalise the module first")
    return node.emit(ew.NotOp, simple[opposite[predicate]]())


def _selected(node: Emitter, op: arith.SelectOp, scope: Scope) -> Value:
    """A choice; of x and 0 by the sign of x it is a ReLU."""
    condition = op.cond.owner
    x, y = scope[op.lhs], scope[op.rhs]
    if isinstance(condition, arith.CmpfOp):
        name = _FLOAT_COMPARISONS[condition.predicate.value.data]
        against = scope.get(condition.rhs)
        if (
            name in ("ugt", "ogt", "uge", "oge")
            and condition.lhs is op.lhs
            and isinstance(against, Value)
            and is_zero(against)
            and is_zero(y)
        ):
            return node.emit(ew.ReluOp, x)
    return node.emit(ew.WhereOp, scope[op.cond], x, y)


def evaluated(node: Emitter, ops: Sequence[Operation], scope: Scope) -> None:
    """Put what the operations compute into the scope."""
    for op in ops:
        found = scalar(node, op, scope)
        if found is None:
            node.fail(f"its body has {op.name}, which is not known", "lower it to arith and math")
        scope[op.results[0]] = found
