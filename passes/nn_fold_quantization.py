"""Makes products between dequantisation and quantisation products of integers.

`nn.conv` and `nn.linear` of dequantised bytes with a dequantised constant weight become `nn.conv_integer` and
`nn.linear_integer` with the bias in i32; what comes after becomes `nn.requantize` where the result is rounded
to bytes (ReLU between them then works on bytes), and `nn.dequantize_linear` of the sums where it is not.
Pooling, ReLU and all that moves elements work on bytes, too, where they come from bytes. The results differ
from those of floats by the rounding of sums only; integers are the reference from here on, to the bit.

A bias that is not a multiple of the product of the scales is rounded to it. Products whose weight or bias is
not constant, or whose scales are not those of whole tensors (weights: of outputs), stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, f32, i32
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.rewriter import InsertPoint, Rewriter

from sparsecc.dialects.nn_base import ConstantOp, NnOp, TensorAttr, shape_of, type_of
from sparsecc.dialects.nn_elementwise import MaxOp, ReluOp
from sparsecc.dialects.nn_layout import ConcatOp
from sparsecc.dialects.nn_products import ConvIntegerOp, ConvOp, LinearIntegerOp, LinearOp
from sparsecc.dialects.nn_quantized import DequantizeLinearOp, QuantizeLinearOp, RequantizeOp
from sparsecc.dialects.sparse import ConstantOp as MatrixOp
from sparsecc.nn import quantization
from sparsecc.passes.base import SparsePass
from sparsecc.passes.nn_quantize import MOVING

Array = NDArray[Any]
OpT = TypeVar("OpT", bound=Operation)


class _Real(NamedTuple):
    """A value that is dequantised integers."""

    integers: SSAValue
    scale: Array
    zero: Array

    @property
    def whole(self) -> bool:
        """Whether one scale and one zero point hold for all."""
        return self.scale.ndim == 0 and self.zero.ndim == 0

    def like(self, other: _Real) -> bool:
        same = type_of(self.integers).element_type == type_of(other.integers).element_type
        return same and bool(
            np.array_equal(self.scale, other.scale) and np.array_equal(self.zero, other.zero)
        )


@dataclass(frozen=True)
class NnFoldQuantizationPass(SparsePass):
    name = "nn-fold-quantization"
    summary: ClassVar = (
        "products of integers: dequantize, nn.conv, quantize -> nn.conv_integer, nn.requantize"
    )
    refuses: ClassVar = "nothing; what does not fit stays as it is"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for found in list(op.walk()):
            match found:
                case ConvOp() | LinearOp():
                    _product(found)
                case ReluOp():
                    _relu(found)
                case QuantizeLinearOp():
                    _cancel(found)
                case _ if isinstance(found, MOVING):
                    _moved(found)
                case _:
                    pass
        _erase_unused(op)


def _real(value: SSAValue) -> _Real | None:
    """What a value is dequantised from, if its scale and zero point are constant."""
    op = value.owner
    if not isinstance(op, DequantizeLinearOp) or op.axis_number not in (None, 0):
        return None
    scale, zero = (
        p.owner.value.array if isinstance(p.owner, ConstantOp) else None for p in (op.scale, op.zero)
    )
    return None if scale is None or zero is None else _Real(op.x, scale, zero)


def _bytes(value: SSAValue) -> _Real | None:
    """The same for bytes with one scale."""
    found = _real(value)
    if found is None or not found.whole or str(type_of(found.integers).element_type) not in ("i8", "ui8"):
        return None
    return found


class _Builder:
    """Inserts operations before one, in its name."""

    def __init__(self, op: Operation):
        self.op = op

    def add(self, new: OpT) -> OpT:
        if (name := self.op.attributes.get("name")) is not None:
            new.attributes["name"] = name
        new.location = self.op.location
        Rewriter.insert_op(new, InsertPoint.before(self.op))
        return new

    def constant(self, array: Array, element: Attribute) -> SSAValue:
        return self.add(ConstantOp(TensorAttr.of(array, element))).res

    def dequantized(self, integers: SSAValue, real: _Real) -> SSAValue:
        element = type_of(integers).element_type
        parts = self.constant(real.scale, f32), self.constant(real.zero, element)
        return self.add(DequantizeLinearOp.make(integers, *parts)).res


def _moved(op: NnOp) -> None:
    """What moves elements of bytes, before they are dequantised instead of after."""
    reals = [_bytes(o) for o in op.operands]
    first = reals[0]
    if first is None or any(r is None or not r.like(first) for r in reals):
        return
    if not isinstance(op, ConcatOp) and len(reals) != 1:
        return
    build = _Builder(op)
    integers = build.add(type(op).make(*(r.integers for r in reals if r), **op.properties)).results[0]
    op.results[0].replace_all_uses_with(build.dequantized(integers, first))
    Rewriter.erase_op(op)


def _relu(op: ReluOp) -> None:
    if (real := _bytes(op.x)) is not None:
        build = _Builder(op)
        result = build.dequantized(_relu_of_bytes(build, real.integers, int(real.zero)), real)
        op.res.replace_all_uses_with(result)
        Rewriter.erase_op(op)


def _relu_of_bytes(build: _Builder, x: SSAValue, zero: int) -> SSAValue:
    """The larger of x and the zero point; x itself where that is the least byte."""
    element = type_of(x).element_type
    if zero == (-128 if str(element) == "i8" else 0):
        return x
    if zero == 0:
        return build.add(ReluOp.make(x)).res
    return build.add(MaxOp.make(x, build.constant(np.asarray(zero), element))).res


def _cancel(op: QuantizeLinearOp) -> None:
    """Bytes that are dequantised and quantised alike are the bytes."""
    real = _bytes(op.x)
    parts = [p.owner.value.array if isinstance(p.owner, ConstantOp) else None for p in (op.scale, op.zero)]
    if real is None or parts[0] is None or parts[1] is None:
        return
    if op.res.type == real.integers.type and real.like(_Real(op.res, parts[0], parts[1])):
        op.res.replace_all_uses_with(real.integers)
        Rewriter.erase_op(op)


def _product(op: ConvOp | LinearOp) -> None:
    x, w = _bytes(op.x), _real(op.w)
    if x is None or w is None or not isinstance(matrix := w.integers.owner, MatrixOp):
        return
    if str(matrix.weight.element_type) != "i8" or w.zero.shape not in ((), w.scale.shape):
        return
    scale = np.asarray(x.scale.astype(np.float32) * w.scale.astype(np.float32), np.float32)
    bias = _bias(op, scale)
    if op.b is not None and bias is None:
        return
    last = _chain(op.res)
    build = _Builder(op)
    zeros = (
        build.constant(x.zero, type_of(x.integers).element_type),
        build.constant(w.zero, matrix.weight.element_type),
    )
    operands = [x.integers, matrix.res, *zeros, *([] if bias is None else [build.constant(bias, i32)])]
    kind = ConvIntegerOp if isinstance(op, ConvOp) else LinearIntegerOp
    sums = build.add(kind.make(*operands, **op.properties)).res
    axis = (1 if isinstance(op, ConvOp) else len(shape_of(op.res)) - 1) if scale.ndim else None
    if last is None:
        parts = build.constant(scale, f32), build.constant(np.zeros(scale.shape, np.int32), i32)
        op.res.replace_all_uses_with(build.add(DequantizeLinearOp.make(sums, *parts, axis=axis)).res)
        Rewriter.erase_op(op)
        return
    relu, quantize, y = last
    multiplier = np.asarray(scale / y.scale.astype(np.float32), np.float32)
    element = type_of(y.integers).element_type
    parts = build.constant(multiplier, f32), build.constant(y.zero, element)
    result = build.add(RequantizeOp.make(sums, *parts, axis=axis)).res
    if relu is not None:
        result = _relu_of_bytes(_Builder(relu), result, int(y.zero))
    for one in quantize:
        one.res.replace_all_uses_with(result)
        Rewriter.erase_op(one)
    if relu is not None:
        Rewriter.erase_op(relu)
    Rewriter.erase_op(op)


def _bias(op: ConvOp | LinearOp, scale: Array) -> Array | None:
    """The bias in steps of the scale; None where there is none, or it is not constant."""
    if op.b is None:
        return None
    if isinstance(op.b.owner, ConstantOp):
        return quantization.bias(op.b.owner.value.array, scale)
    real = _real(op.b)
    if real is None or not isinstance(real.integers.owner, ConstantOp):
        return None
    integers, shift = real.integers.owner.value.array, real.zero.astype(np.int64)
    if not shift.any() and np.allclose(real.scale, scale, rtol=1e-5, atol=0):
        return integers.astype(np.int32)
    return quantization.bias((integers.astype(np.float64) - shift) * real.scale, scale)


def _chain(value: SSAValue) -> tuple[ReluOp | None, Sequence[QuantizeLinearOp], _Real] | None:
    """The ReLU (if any) and the equal quantisations to bytes that are all that uses a product."""
    users = [use.operation for use in value.uses]
    relu = users[0] if len(users) == 1 and isinstance(users[0], ReluOp) else None
    if relu is not None:
        users = [use.operation for use in relu.res.uses]
    found: list[tuple[QuantizeLinearOp, _Real]] = []
    for user in users:
        if not isinstance(user, QuantizeLinearOp) or user.axis_number is not None:
            return None
        parts = [
            p.owner.value.array if isinstance(p.owner, ConstantOp) else None for p in (user.scale, user.zero)
        ]
        if parts[0] is None or parts[1] is None or parts[1].dtype.name not in ("int8", "uint8"):
            return None
        found.append((user, _Real(user.res, parts[0], parts[1])))
    if not found or not all(real.like(found[0][1]) for _, real in found):
        return None
    return relu, [user for user, _ in found], found[0][1]


def _erase_unused(module: ModuleOp) -> None:
    """Constants and dequantisations that nothing uses any more."""
    for op in reversed(list(module.walk())):
        if isinstance(op, NnOp | ConstantOp | MatrixOp) and all(r.first_use is None for r in op.results):
            Rewriter.erase_op(op)
