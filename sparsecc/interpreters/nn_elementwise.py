"""Runs the operators of the `nn` dialect that work element by element."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import FloatAttr
from xdsl.ir import Operation, SSAValue

from sparsecc.dialects import nn_elementwise as ew
from sparsecc.dialects.nn_base import flag
from sparsecc.nn import arithmetic

Array = NDArray[Any]
Values = Mapping[SSAValue, Array]
Handler = Callable[[Any, Values], Sequence[Array]]


def _float(attribute: FloatAttr[Any]) -> np.float32:
    return np.float32(attribute.value.data)


def _erf(x: Array) -> Array:
    from scipy.special import erf  # pyright: ignore[reportMissingTypeStubs]

    return cast(Array, erf(x))


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _divide(x: Array, y: Array) -> Array:
    if x.dtype.kind == "f":
        return x / y
    # C's division: towards zero. There is no quotient by zero; it is 0 here.
    safe = np.where(y == 0, np.ones_like(y), y)
    quotient = x // safe
    toward_zero = quotient + ((quotient < 0) & (quotient * safe != x)).astype(x.dtype)
    return np.where(y == 0, np.zeros_like(x), toward_zero)


def _power(x: Array, y: Array) -> Array:
    if x.dtype.kind == "f":
        return np.power(x.astype(np.float64), y.astype(np.float64))
    if x.dtype.kind == "i" and bool((y < 0).any()):
        return np.power(x.astype(np.float64), y.astype(np.float64)).astype(np.int64)
    return np.power(x, y)


_FUNCTIONS: dict[type[Operation], Callable[[Array], Array]] = {
    ew.CosOp: np.cos,
    ew.ErfOp: _erf,
    ew.ExpOp: np.exp,
    ew.LogOp: np.log,
    ew.SigmoidOp: _sigmoid,
    ew.SiluOp: lambda x: x * _sigmoid(x),
    ew.SinOp: np.sin,
    ew.SoftplusOp: lambda x: np.logaddexp(x, 0),
    ew.TanhOp: np.tanh,
}
"""Evaluated in f64."""

_UNARY: dict[type[Operation], Callable[[Array], Array]] = {
    ew.AbsOp: np.abs,
    ew.CeilOp: np.ceil,
    ew.FloorOp: np.floor,
    ew.NegOp: np.negative,
    ew.NotOp: np.logical_not,
    ew.ReciprocalOp: lambda x: 1 / x,
    ew.ReluOp: lambda x: np.maximum(x, 0),
    ew.RoundOp: np.rint,
    ew.SignOp: np.sign,
    ew.SoftsignOp: lambda x: x / (1 + np.abs(x)),
    ew.SqrtOp: np.sqrt,
}

_BINARY: dict[type[Operation], Callable[[Array, Array], Array]] = {
    ew.AddOp: np.add,
    ew.AndOp: np.logical_and,
    ew.DivOp: _divide,
    ew.EqualOp: np.equal,
    ew.GreaterOp: np.greater,
    ew.LessOp: np.less,
    ew.MaxOp: np.maximum,
    ew.MinOp: np.minimum,
    ew.MulOp: np.multiply,
    ew.OrOp: np.logical_or,
    ew.PowOp: _power,
    ew.SubOp: np.subtract,
    ew.XorOp: np.logical_xor,
}


def _unary(function: Callable[[Array], Array]) -> Handler:
    return lambda op, v: [function(v[op.x])]


def _binary(function: Callable[[Array, Array], Array]) -> Handler:
    return lambda op, v: [function(v[op.x], v[op.y])]


def _cast(op: ew.CastOp, v: Values) -> list[Array]:
    x, wanted = v[op.x], str(op.element_type)
    if wanted == "i1":
        return [x != 0]
    if x.dtype.kind == "f" and "i" in wanted:
        # Through i64, as C does it by way of the widest type; what no i64 holds is undefined there.
        return [np.trunc(x).astype(np.uint64 if wanted == "ui64" else np.int64)]
    return [x]


def _clip(op: ew.ClipOp, v: Values) -> list[Array]:
    x = v[op.x]
    low = x if op.low is None else np.maximum(x, _float(op.low))
    return [low if op.high is None else np.minimum(low, _float(op.high))]


def _elu(op: ew.EluOp, v: Values) -> list[Array]:
    x = v[op.x]
    return [np.where(x > 0, x, _float(op.alpha) * np.expm1(x.astype(np.float64)))]


def _gelu(op: ew.GeluOp, v: Values) -> list[Array]:
    x = v[op.x].astype(np.float64)
    if op.is_approximate:
        return [x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))]
    return [x / 2 * (1 + _erf(x / np.sqrt(2)))]


def _hard_sigmoid(op: ew.HardSigmoidOp, v: Values) -> list[Array]:
    return [np.clip(_float(op.alpha) * v[op.x] + _float(op.beta), 0, 1)]


def _leaky_relu(op: ew.LeakyReluOp, v: Values) -> list[Array]:
    x = v[op.x]
    return [np.where(x < 0, _float(op.alpha) * x, x)]


def _mod(op: ew.ModOp, v: Values) -> list[Array]:
    x, y = v[op.x], v[op.y]
    return [np.fmod(x, y) if flag(op.truncated) else np.mod(x, y)]


def _where(op: ew.WhereOp, v: Values) -> list[Array]:
    return [np.where(v[op.condition], v[op.x], v[op.y])]


HANDLERS: dict[type[Operation], Handler] = {
    **{op: _unary(f) for op, f in _UNARY.items()},
    **{op: _unary(arithmetic.in_f64(f)) for op, f in _FUNCTIONS.items()},
    **{op: _binary(f) for op, f in _BINARY.items()},
    ew.CastOp: _cast,
    ew.ClipOp: _clip,
    ew.EluOp: _elu,
    ew.GeluOp: _gelu,
    ew.HardSigmoidOp: _hard_sigmoid,
    ew.LeakyReluOp: _leaky_relu,
    ew.ModOp: _mod,
    ew.WhereOp: _where,
}
