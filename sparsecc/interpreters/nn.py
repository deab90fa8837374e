"""Runs the operators of the `nn` dialect on numpy arrays; `sparsecc.nn` says in which arithmetic.

Results are rounded to their element types after every operator. `run_module` of `interpreters.sparse` finds
these handlers, so a module may hold operators of both levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from xdsl.ir import Operation

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
from sparsecc.interpreters import nn_elementwise
from sparsecc.interpreters.nn_elementwise import Array, Handler, Values
from sparsecc.nn import arithmetic, recurrent, windows


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
    deviation = np.sqrt(variance.astype(kind) + kind.type(np.float32(op.epsilon.value.data)))
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
    **nn_elementwise.HANDLERS,
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
}
