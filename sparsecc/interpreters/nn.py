"""Runs the operators of the `nn` dialect on numpy arrays; `sparsecc.nn` says in which arithmetic.

Results are rounded to their element types after every operator. `run_module` of `interpreters.sparse` finds
these handlers, so a module may hold operators of both levels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import FloatAttr
from xdsl.ir import Operation, SSAValue

from sparsecc.dialects import nn_elementwise as ew
from sparsecc.dialects.nn_base import ConstantOp, NnOp, flag, ints, number, type_of
from sparsecc.dialects.nn_layout import (
    BroadcastOp,
    ConcatOp,
    GatherOp,
    PadOp,
    ReshapeOp,
    SliceOp,
    TransposeOp,
)
from sparsecc.dialects.nn_products import (
    ConvIntegerOp,
    ConvOp,
    LinearIntegerOp,
    LinearOp,
    MatmulIntegerOp,
    MatmulOp,
)
from sparsecc.dialects.nn_quantized import DequantizeLinearOp, QuantizeLinearOp, RequantizeOp
from sparsecc.dialects.nn_recurrent import GruOp, LstmOp, RnnOp
from sparsecc.dialects.nn_reductions import (
    ArgReduceOp,
    AveragePoolOp,
    BatchNormOp,
    LayerNormOp,
    MaxPoolOp,
    ReduceOp,
    SoftmaxOp,
)
from sparsecc.dialects.sparse import ConstantOp as SparseConstantOp
from sparsecc.elements import round_to
from sparsecc.errors import UserError
from sparsecc.nn import arithmetic, recurrent, windows

Array = NDArray[Any]
Values = Mapping[SSAValue, Array]
Handler = Callable[[Any, Values], Sequence[Array]]


def evaluate(op: Operation, values: Values) -> list[Array]:
    """The results of one operator of the dialect, rounded to their element types."""
    if isinstance(op, ConstantOp):
        return [op.value.array]
    with np.errstate(all="ignore"):
        results = HANDLERS[type(op)](op, values)
    return [
        round_to(np.asarray(array), type_of(result).element_type)
        for array, result in zip(results, op.results, strict=True)
    ]


def _float(attribute: FloatAttr[Any]) -> np.float32:
    return np.float32(attribute.value.data)


# ---- products


def _matmul(op: MatmulOp, v: Values) -> list[Array]:
    a, b = v[op.a], v[op.b]
    if isinstance(op.a.owner, SparseConstantOp) and b.ndim == 2:
        return [arithmetic.weight_product(a, b)]
    return [arithmetic.matmul(a, b)]


def _linear_product(x: Array, w: Array) -> Array:
    product = arithmetic.weight_product(w, x.reshape(-1, x.shape[-1]).T)
    return product.T.reshape(*x.shape[:-1], len(w))


def _linear(op: LinearOp, v: Values) -> list[Array]:
    product = _linear_product(v[op.x], v[op.w])
    return [product if op.b is None else product + v[op.b]]


def _per_channel(bias: Array, rank: int) -> Array:
    return arithmetic.along(bias, rank, 1)


def _conv(op: ConvOp, v: Values) -> list[Array]:
    product = windows.conv(v[op.x], v[op.w], op.windows, number(op.groups))
    return [product if op.b is None else product + _per_channel(v[op.b], product.ndim)]


def _shifted(x: Array, zero: Array) -> Array:
    return x.astype(np.int16) - zero.astype(np.int16)


def _weight_shifted(w: Array, zero: Array) -> Array:
    return _shifted(w, arithmetic.along(zero, 2, 0))


def _conv_integer(op: ConvIntegerOp, v: Values) -> list[Array]:
    x, w = _shifted(v[op.x], v[op.x_zero]), _weight_shifted(v[op.w], v[op.w_zero])
    product = windows.conv(x, w, op.windows, number(op.groups))
    return [product if op.b is None else product + _per_channel(v[op.b], product.ndim)]


def _linear_integer(op: LinearIntegerOp, v: Values) -> list[Array]:
    x, w = _shifted(v[op.x], v[op.x_zero]), _weight_shifted(v[op.w], v[op.w_zero])
    product = _linear_product(x, w)
    return [product if op.b is None else product + v[op.b]]


def _matmul_integer(op: MatmulIntegerOp, v: Values) -> list[Array]:
    return [arithmetic.matmul(_shifted(v[op.a], v[op.a_zero]), _shifted(v[op.b], v[op.b_zero]))]


# ---- element by element


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


# ---- layout


def _broadcast(op: BroadcastOp, v: Values) -> list[Array]:
    return [np.broadcast_to(v[op.x], ints(op.shape))]


def _concat(op: ConcatOp, v: Values) -> list[Array]:
    return [np.concatenate([v[p] for p in op.parts], axis=number(op.axis))]


def _gather(op: GatherOp, v: Values) -> list[Array]:
    x, indices, axis = v[op.x], v[op.indices], number(op.axis)
    extent = x.shape[axis]
    if indices.size and not (-extent <= indices.min() and indices.max() < extent):
        bad = indices.min() if indices.min() < -extent else indices.max()
        raise UserError(f"{_label(op)}: index {bad} is outside an axis of {extent} elements")
    return [np.take(x, indices, axis=axis)]


def _label(op: Operation) -> str:
    name = op.attributes.get("name")
    return op.name if name is None else f"{op.name} {name}"


def _pad(op: PadOp, v: Values) -> list[Array]:
    x, widths = v[op.x], list(zip(ints(op.low), ints(op.high), strict=True))
    if op.mode.data == "constant":
        value = round_to(np.asarray(op.value.value.data), type_of(op.x).element_type)
        return [np.pad(x, widths, constant_values=value)]
    return [np.pad(x, widths, mode=cast(Any, op.mode.data))]


def _reshape(op: ReshapeOp, v: Values) -> list[Array]:
    return [v[op.x].reshape(ints(op.shape))]


def _slice(op: SliceOp, v: Values) -> list[Array]:
    x = v[op.x]
    parts = zip(ints(op.offsets), ints(op.sizes), ints(op.strides), strict=True)
    for axis, (offset, size, stride) in enumerate(parts):
        x = np.take(x, offset + stride * np.arange(size), axis=axis)
    return [x]


def _transpose(op: TransposeOp, v: Values) -> list[Array]:
    return [v[op.x].transpose(ints(op.perm))]


# ---- reductions


def _reduce(op: ReduceOp, v: Values) -> list[Array]:
    x = v[op.x]
    axes = tuple(a % x.ndim for a in ints(op.axes))
    if not axes:
        return [x]
    rows = arithmetic.over_axes(x, tuple(sorted(axes)))
    match op.kind.data:
        case "max":
            result = rows.max(axis=0)
        case "min":
            result = rows.min(axis=0)
        case "prod":
            result = np.multiply.reduce(rows.astype(arithmetic.accumulator(x.dtype)), axis=0)
        case "sum":
            result = arithmetic.ordered_sum(rows)
        case _:
            total = arithmetic.ordered_sum(rows)
            result = total / total.dtype.type(len(rows)) if x.dtype.kind == "f" else total // len(rows)
    return [np.asarray(result).reshape(op.res.type.get_shape())]


def _arg_reduce(op: ArgReduceOp, v: Values) -> list[Array]:
    x, axis = v[op.x], number(op.axis)
    find = np.argmax if op.kind.data == "max" else np.argmin
    if flag(op.last):
        found = x.shape[axis] - 1 - find(np.flip(x, axis), axis=axis)
    else:
        found = find(x, axis=axis)
    return [np.asarray(found).reshape(op.res.type.get_shape())]


def _max_pool(op: MaxPoolOp, v: Values) -> list[Array]:
    return [windows.max_pool(v[op.x], op.windows)]


def _average_pool(op: AveragePoolOp, v: Values) -> list[Array]:
    return [windows.average_pool(v[op.x], op.windows, flag(op.count_padding))]


def _softmax(op: SoftmaxOp, v: Values) -> list[Array]:
    return [arithmetic.softmax(v[op.x], number(op.axis), flag(op.logarithm))]


def _layer_norm(op: LayerNormOp, v: Values) -> list[Array]:
    x = v[op.x]
    normal = arithmetic.normalise(x, number(op.axis) % x.ndim, op.epsilon.value.data)
    scaled = normal * v[op.scale]
    return [scaled if op.bias is None else scaled + v[op.bias]]


def _batch_norm(op: BatchNormOp, v: Values) -> list[Array]:
    x = v[op.x]
    scale, bias, mean, variance = (_per_channel(v[p], x.ndim) for p in op.operands[1:])
    kind = arithmetic.accumulator(x.dtype)
    deviation = np.sqrt(variance.astype(kind) + kind.type(_float(op.epsilon)))
    return [(x.astype(kind) - mean) / deviation * scale + bias]


# ---- quantised


def _quantize(op: QuantizeLinearOp, v: Values) -> list[Array]:
    return [arithmetic.quantize(v[op.x], v[op.scale], v[op.zero], op.axis_number)]


def _dequantize(op: DequantizeLinearOp, v: Values) -> list[Array]:
    return [arithmetic.dequantize(v[op.x], v[op.scale], v[op.zero], op.axis_number)]


def _requantize(op: RequantizeOp, v: Values) -> list[Array]:
    return [arithmetic.requantize(v[op.x], v[op.scale], v[op.zero], op.axis_number)]


# ---- recurrent


def _wide(op: NnOp, v: Values) -> list[Array]:
    return [v[o].astype(arithmetic.accumulator(v[o].dtype)) for o in op.operands]


def _lstm(op: LstmOp, v: Values) -> Sequence[Array]:
    x, w, r, bias, peephole, h, c = _wide(op, v)
    f, g, final = op.functions
    clip, reverse = op.clip.value.data, flag(op.reverse)
    couple = flag(op.input_forget)
    return recurrent.lstm(x, w, r, bias, peephole, h, c, (f, g, final), clip, couple, reverse)


def _gru(op: GruOp, v: Values) -> Sequence[Array]:
    x, w, r, bias, h = _wide(op, v)
    f, g = op.functions
    clip, reverse = op.clip.value.data, flag(op.reverse)
    return recurrent.gru(x, w, r, bias, h, (f, g), clip, flag(op.linear_before_reset), reverse)


def _rnn(op: RnnOp, v: Values) -> Sequence[Array]:
    x, w, r, bias, h = _wide(op, v)
    return recurrent.rnn(x, w, r, bias, h, op.functions[0], op.clip.value.data, flag(op.reverse))


HANDLERS: dict[type[Operation], Handler] = {
    **{op: _unary(f) for op, f in _UNARY.items()},
    **{op: _unary(arithmetic.in_f64(f)) for op, f in _FUNCTIONS.items()},
    **{op: _binary(f) for op, f in _BINARY.items()},
    ArgReduceOp: _arg_reduce,
    AveragePoolOp: _average_pool,
    BatchNormOp: _batch_norm,
    BroadcastOp: _broadcast,
    ConcatOp: _concat,
    ConvIntegerOp: _conv_integer,
    ConvOp: _conv,
    DequantizeLinearOp: _dequantize,
    GatherOp: _gather,
    GruOp: _gru,
    LayerNormOp: _layer_norm,
    LinearIntegerOp: _linear_integer,
    LinearOp: _linear,
    LstmOp: _lstm,
    MatmulIntegerOp: _matmul_integer,
    MatmulOp: _matmul,
    MaxPoolOp: _max_pool,
    PadOp: _pad,
    QuantizeLinearOp: _quantize,
    ReduceOp: _reduce,
    RequantizeOp: _requantize,
    ReshapeOp: _reshape,
    RnnOp: _rnn,
    SliceOp: _slice,
    SoftmaxOp: _softmax,
    TransposeOp: _transpose,
    ew.CastOp: _cast,
    ew.ClipOp: _clip,
    ew.EluOp: _elu,
    ew.GeluOp: _gelu,
    ew.HardSigmoidOp: _hard_sigmoid,
    ew.LeakyReluOp: _leaky_relu,
    ew.ModOp: _mod,
    ew.WhereOp: _where,
}
