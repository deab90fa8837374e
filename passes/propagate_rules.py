"""The rules of `sparsecc.propagate` for the operators of the `nn` dialect, and what a cut makes of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.ir import Operation, SSAValue

from sparsecc.dialects import nn_elementwise as ew
from sparsecc.dialects.nn_base import ConstantOp, NnOp, TensorAttr, flag, ints, number, shape_of, type_of
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
from sparsecc.dialects.sparse import ConstantOp as MatrixOp
from sparsecc.dialects.sparse import WeightAttr
from sparsecc.nn.shapes import axes_of, axis_of
from sparsecc.propagate import products
from sparsecc.propagate.cuts import RESULT, Link, reshaped, same
from sparsecc.propagate.facts import (
    Fact,
    Looked,
    Moved,
    Normalised,
    Opaque,
    Pointwise,
    Pooled,
    Reduced,
    Rule,
    Shape,
)
from sparsecc.propagate.recurrent import Recurrent

Kept = Mapping[tuple[int, int], NDArray[np.intp]]
"""Indices that stay, of each axis of each operand, or of the RESULT."""

_KINDS: dict[type[Operation], str] = {
    ew.MulOp: "mul",
    ew.AndOp: "mul",
    ew.OrOp: "or",
    ew.DivOp: "div",
    ew.WhereOp: "where",
}


def is_constant(value: SSAValue) -> bool:
    """Whether the value is a constant of the module."""
    return isinstance(value.owner, ConstantOp | MatrixOp)


def is_constant_weight(value: SSAValue) -> bool:
    """Whether the value is a constant, or made from one by dequantisation."""
    owner = value.owner
    return is_constant(value) or (
        isinstance(owner, DequantizeLinearOp) and all(is_constant(o) for o in owner.operands)
    )


def constant_like(old: SSAValue, array: NDArray[Any]) -> ConstantOp | MatrixOp:
    """A constant of the kind of another one, of these values; it stands nowhere yet."""
    owner = old.owner
    assert isinstance(owner, ConstantOp | MatrixOp)
    if isinstance(owner, ConstantOp):
        new: ConstantOp | MatrixOp = ConstantOp(TensorAttr.of(array, type_of(old).element_type))
    else:
        new = MatrixOp(_matrix(array, owner.weight))
    new.attributes.update(owner.attributes)
    new.res.name_hint = old.name_hint
    return new


def _matrix(array: NDArray[Any], like: WeightAttr) -> WeightAttr:
    at_row, at_column = np.nonzero(array)
    pointers = np.concatenate([[0], np.cumsum(np.bincount(at_row, minlength=len(array)))])
    shape = (array.shape[0], array.shape[1])
    return WeightAttr.of(shape, pointers, at_column, array[at_row, at_column], like.element_type)


def slot_of(op: Operation, i: int) -> Any:
    """What the axes of an operand belong to: its value, or this one use of a constant."""
    value = op.operands[i]
    return (op, i) if is_constant(value) else value


def rule_of(op: NnOp, facts: Sequence[Fact]) -> Rule:
    """The rule of an operator of one result, given what is known of its operands."""
    operands = tuple(shape_of(o) for o in op.operands)
    result = shape_of(op.results[0])
    if 0 in (*(math.prod(s) for s in operands), math.prod(result)):
        return Opaque(operands, result)
    if (make := _RULES.get(type(op))) is not None and (rule := make(op, operands, result, facts)):
        return rule
    if isinstance(op, ew.UnaryOp | ew.BinaryOp | ew.CastOp | ew.WhereOp):
        return Pointwise(operands, _from_the_right(operands, result), result, _KINDS.get(type(op), ""))
    return Opaque(operands, result)


def recurrent_rule_of(op: Operation, facts: Sequence[Fact]) -> Recurrent | None:
    """The rule of a recurrent layer on constant weights."""
    if not isinstance(op, LstmOp | GruOp | RnnOp):
        return None
    weights = range(1, 5 if isinstance(op, LstmOp) else 4)
    if not all(is_constant(op.operands[i]) and facts[i].is_known for i in weights):
        return None
    options: dict[str, bool] = {}
    if isinstance(op, LstmOp):
        options["input_forget"] = flag(op.input_forget)
    if isinstance(op, GruOp):
        options["linear_before_reset"] = flag(op.linear_before_reset)
    kind = op.name.removeprefix("nn.")
    clip, reverse = float(op.clip.value.data), flag(op.reverse)
    return Recurrent(kind, tuple(facts), op.functions, clip, reverse, **options)


def _from_the_right(operands: Sequence[Shape], result: Shape) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(range(len(result) - len(s), len(result))) for s in operands)


Maker = Callable[[Any, tuple[Shape, ...], Shape, Sequence[Fact]], Rule | None]


def _scaled(op: Any, operands: tuple[Shape, ...], result: Shape, _: Sequence[Fact]) -> Rule:
    along = () if op.axis_number is None else (op.axis_number,)
    every = tuple(range(len(result)))
    return Pointwise(operands, (every, *(along if s else () for s in operands[1:])), result)


def _batch_norm(op: BatchNormOp, operands: tuple[Shape, ...], result: Shape, _: Sequence[Fact]) -> Rule:
    axes = (tuple(range(len(result))), *((1,) for _ in operands[1:]))
    return Pointwise(operands, axes, result, "scaled")


def _layer_norm(op: LayerNormOp, operands: tuple[Shape, ...], result: Shape, _: Sequence[Fact]) -> Rule:
    over = tuple(range(axis_of(number(op.axis), len(result)), len(result)))
    return Normalised(operands, _from_the_right(operands, result), result, "scaled", over)


def _softmax(op: SoftmaxOp, operands: tuple[Shape, ...], result: Shape, _: Sequence[Fact]) -> Rule:
    over = (axis_of(number(op.axis), len(result)),)
    return Normalised(operands, _from_the_right(operands, result), result, "", over)


def _reduce(op: ReduceOp, operands: tuple[Shape, ...], result: Shape, _: Sequence[Fact]) -> Rule:
    return Reduced(operands[0], axes_of(ints(op.axes), len(operands[0])), result)


def _arg_reduce(op: ArgReduceOp, operands: tuple[Shape, ...], result: Shape, _: Sequence[Fact]) -> Rule:
    return Reduced(operands[0], (axis_of(number(op.axis), len(operands[0])),), result)


def _pool(op: Any, operands: tuple[Shape, ...], result: Shape, _: Sequence[Fact]) -> Rule:
    return Pooled(operands[0], products.pooled(operands[0], op.windows))


def _matmul(op: Any, operands: tuple[Shape, ...], result: Shape, _: Sequence[Fact]) -> Rule:
    return products.Matmul(operands[0], operands[1], result, operands[2:])


def _is_product(op: NnOp, facts: Sequence[Fact], zeros: bool) -> bool:
    others = facts[1:4] if zeros else facts[1:2]
    return is_constant_weight(op.operands[1]) and all(f.is_known for f in others)


def _linear(op: NnOp, operands: tuple[Shape, ...], result: Shape, facts: Sequence[Fact]) -> Rule | None:
    zeros = isinstance(op, LinearIntegerOp)
    return products.linear(operands, result, zeros) if _is_product(op, facts, zeros) else None


def _conv(op: Any, operands: tuple[Shape, ...], result: Shape, facts: Sequence[Fact]) -> Rule | None:
    zeros = isinstance(op, ConvIntegerOp)
    if not _is_product(op, facts, zeros):
        return None
    return products.conv(operands, result, op.windows, number(op.groups), zeros)


# ---- operators that move elements


def _places(shape: Shape) -> NDArray[np.intp]:
    return np.arange(math.prod(shape), dtype=np.intp).reshape(shape)


def _broadcast(op: BroadcastOp, operands: tuple[Shape, ...], result: Shape, _: Sequence[Fact]) -> Rule:
    return Pointwise(operands, _from_the_right(operands, result), result)


def _concat(op: ConcatOp, operands: tuple[Shape, ...], result: Shape, _: Sequence[Fact]) -> Rule:
    axis = axis_of(number(op.axis), len(result))
    places: list[NDArray[np.intp]] = []
    links: list[Link] = []
    elements = offset = 0
    for i, shape in enumerate(operands):
        places.append(_places(shape) + elements)
        links += [same((i, a), (RESULT, a), d) for a, d in enumerate(shape) if a != axis]
        every = np.arange(shape[axis])
        links.append(Link((i, axis), every, (RESULT, axis), every + offset))
        elements += math.prod(shape)
        offset += shape[axis]
    return Moved(operands, np.concatenate(places, axis=axis), tuple(links))


def _gather(op: GatherOp, operands: tuple[Shape, ...], result: Shape, facts: Sequence[Fact]) -> Rule | None:
    x, indices = operands
    axis, rank = axis_of(number(op.axis), len(x)), len(indices)
    links = [same((0, a), (RESULT, a if a < axis else a + rank - 1), d) for a, d in enumerate(x) if a != axis]
    at = facts[1].value % x[axis] if facts[1].is_known else None
    if at is None or not is_constant(op.operands[1]):
        # Any index may come.
        return Looked(x, indices, axis, result, tuple(links))
    fixed = [(RESULT, axis + i) for i in range(rank)] if rank != 1 else []
    if rank == 1:
        every = np.arange(indices[0])
        links.append(Link((0, axis), at.astype(np.intp), (RESULT, axis), every, one_way=True))
        links.append(same((1, 0), (RESULT, axis), indices[0]))
    source = np.take(_places(x), at, axis=axis)
    if rank != 1:
        fixed += [(0, axis), *((1, i) for i in range(rank))]
    return Moved((x,), source, tuple(links), tuple(fixed), (), (indices,))


def _pad(op: PadOp, operands: tuple[Shape, ...], result: Shape, _: Sequence[Fact]) -> Rule:
    low, high, mode = ints(op.low), ints(op.high), op.mode.data
    options: dict[str, Any] = {"constant_values": -1} if mode == "constant" else {"mode": mode}
    source: NDArray[np.intp] = np.pad(_places(operands[0]), list(zip(low, high, strict=True)), **options)
    links: list[Link] = []
    fixed: list[tuple[int, int]] = []
    pinned: list[tuple[int, int, NDArray[np.intp]]] = []
    for axis, extent in enumerate(operands[0]):
        if low[axis] == high[axis] == 0 or mode == "constant":
            every = np.arange(extent)
            links.append(Link((0, axis), every, (RESULT, axis), every + low[axis]))
            pinned.append((RESULT, axis, np.r_[0 : low[axis], low[axis] + extent : result[axis]]))
        else:
            fixed += [(0, axis), (RESULT, axis)]
    return Moved(operands, source, tuple(links), tuple(fixed), tuple(pinned))


def _reshape(op: ReshapeOp, operands: tuple[Shape, ...], result: Shape, _: Sequence[Fact]) -> Rule:
    links, fixed = reshaped(0, operands[0], RESULT, result)
    return Moved(operands, _places(operands[0]).reshape(result), tuple(links), tuple(fixed))


def _slice(op: SliceOp, operands: tuple[Shape, ...], result: Shape, _: Sequence[Fact]) -> Rule:
    source = _places(operands[0])
    links: list[Link] = []
    fixed: list[tuple[int, int]] = []
    parts = zip(ints(op.offsets), ints(op.sizes), ints(op.strides), strict=True)
    for axis, (offset, size, stride) in enumerate(parts):
        at = offset + stride * np.arange(size)
        source = np.take(source, at, axis=axis)
        if stride == 1:
            links.append(Link((0, axis), at, (RESULT, axis), np.arange(size)))
        else:
            fixed += [(0, axis), (RESULT, axis)]
    return Moved(operands, source, tuple(links), tuple(fixed))


def _transpose(op: TransposeOp, operands: tuple[Shape, ...], result: Shape, _: Sequence[Fact]) -> Rule:
    perm = ints(op.perm)
    links = [same((0, a), (RESULT, i), result[i]) for i, a in enumerate(perm)]
    return Moved(operands, _places(operands[0]).transpose(perm), tuple(links))


_RULES: dict[type[Operation], Maker] = {
    ArgReduceOp: _arg_reduce,
    AveragePoolOp: _pool,
    BatchNormOp: _batch_norm,
    BroadcastOp: _broadcast,
    ConcatOp: _concat,
    ConvIntegerOp: _conv,
    ConvOp: _conv,
    DequantizeLinearOp: _scaled,
    GatherOp: _gather,
    LayerNormOp: _layer_norm,
    LinearIntegerOp: _linear,
    LinearOp: _linear,
    MatmulIntegerOp: _matmul,
    MatmulOp: _matmul,
    MaxPoolOp: _pool,
    PadOp: _pad,
    QuantizeLinearOp: _scaled,
    ReduceOp: _reduce,
    RequantizeOp: _scaled,
    ReshapeOp: _reshape,
    SliceOp: _slice,
    SoftmaxOp: _softmax,
    TransposeOp: _transpose,
}


# ---- what a cut changes besides operands


def properties_after(op: NnOp, kept: Kept) -> dict[str, Sequence[int] | int]:
    """Properties of the operator, other than they were, when only these indices stay."""

    def extents(operand: int, shape: Shape) -> list[int]:
        return [len(kept[operand, a]) for a in range(len(shape))]

    match op:
        case BroadcastOp() | ReshapeOp():
            return {"shape": extents(RESULT, shape_of(op.results[0]))}
        case SliceOp():
            # What is left of a run of indices is a run of what is left.
            offsets = [
                int(np.searchsorted(kept[0, a], offset)) if stride == 1 else offset
                for a, (offset, stride) in enumerate(zip(ints(op.offsets), ints(op.strides), strict=True))
            ]
            return {"offsets": offsets, "sizes": extents(RESULT, shape_of(op.results[0]))}
        case ConvOp() | ConvIntegerOp():
            channels = shape_of(op.x)[1]
            return (
                {"groups": number(op.groups) * len(kept[0, 1]) // channels} if number(op.groups) > 1 else {}
            )
        case _:
            return {}
