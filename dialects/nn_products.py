"""Operators of the `nn` dialect that multiply and add: the ones whose zeros pay."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import DenseArrayBase, IntegerAttr, TensorType, i64
from xdsl.ir import SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, opt_operand_def, prop_def, result_def

from sparsecc.dialects.nn_base import (
    ELEMENTS,
    NnOp,
    Tensor,
    ints,
    need_element,
    need_same_elements,
    number,
    shape_of,
    tensor_type,
    type_of,
)
from sparsecc.nn import shapes
from sparsecc.nn.windows import Windows

_BYTES = ("i8", "ui8")


def _optional_shape(value: SSAValue | None) -> tuple[int, ...] | None:
    return None if value is None else shape_of(value)


def _integer_operands(
    x: SSAValue, w: SSAValue, b: SSAValue | None, x_zero: SSAValue, w_zero: SSAValue, outputs: int
) -> None:
    need_element(x, _BYTES, "the input")
    need_element(w, _BYTES, "the weight")
    need_same_elements(x, x_zero)
    need_same_elements(w, w_zero)
    shapes.parameter((), None, shape_of(x_zero), "zero point of the input")
    if shape_of(w_zero) not in ((), (outputs,)):
        found = shapes.text(shape_of(w_zero))
        raise shapes.ShapeError(f"the zero point of the weight has shape {found}; needed [] or [{outputs}]")
    if b is not None:
        need_element(b, ("i32",), "the bias")


@irdl_op_definition
class MatmulOp(NnOp):
    """a b, as numpy's matmul: matrices in the last two axes, leading axes broadcast."""

    name = "nn.matmul"
    a = operand_def(TensorType)
    b = operand_def(TensorType)
    res = result_def(TensorType)

    def infer(self) -> Sequence[Tensor]:
        need_same_elements(self.a, self.b)
        shape = shapes.matmul(shape_of(self.a), shape_of(self.b))
        return [tensor_type(shape, type_of(self.a).element_type)]


@irdl_op_definition
class LinearOp(NnOp):
    """x wT + b: x [..., K], w [M, K], b [M] -> [..., M]. A row of w makes one output."""

    name = "nn.linear"
    x = operand_def(TensorType)
    w = operand_def(TensorType)
    b = opt_operand_def(TensorType)
    res = result_def(TensorType)

    def infer(self) -> Sequence[Tensor]:
        need_same_elements(self.x, self.w, *([] if self.b is None else [self.b]))
        shape = shapes.linear(shape_of(self.x), shape_of(self.w), _optional_shape(self.b))
        return [tensor_type(shape, type_of(self.x).element_type)]


class _Windowed(NnOp):
    """Properties of a convolution. Pads are all the low ones, then all the high ones."""

    kernel = prop_def(DenseArrayBase.constr(i64))
    strides = prop_def(DenseArrayBase.constr(i64))
    pads = prop_def(DenseArrayBase.constr(i64))
    dilations = prop_def(DenseArrayBase.constr(i64))
    groups = prop_def(IntegerAttr)

    @property
    def windows(self) -> Windows:
        return Windows(ints(self.kernel), ints(self.strides), ints(self.pads), ints(self.dilations))

    def _shape(self, x: SSAValue, w: SSAValue, b: SSAValue | None) -> tuple[int, ...]:
        v = self.windows
        return shapes.conv(
            shape_of(x), shape_of(w), _optional_shape(b),
            v.kernel, v.strides, v.pads, v.dilations, number(self.groups),
        )  # fmt: skip


@irdl_op_definition
class ConvOp(_Windowed):
    """Convolution: x [N, C, spatial...], w [M, C / groups * kernel...], b [M] -> [N, M, spatial...].

    The weight is a matrix whose columns run over the channels of the group, then the kernel, row-major.
    """

    name = "nn.conv"
    x = operand_def(TensorType)
    w = operand_def(TensorType)
    b = opt_operand_def(TensorType)
    res = result_def(TensorType)

    def infer(self) -> Sequence[Tensor]:
        need_same_elements(self.x, self.w, *([] if self.b is None else [self.b]))
        return [tensor_type(self._shape(self.x, self.w, self.b), type_of(self.x).element_type)]


@irdl_op_definition
class ConvIntegerOp(_Windowed):
    """Convolution of (x - x_zero) and (w - w_zero) in i32, plus b in i32; padding is x_zero.

    w_zero is a scalar or one value per output.
    """

    name = "nn.conv_integer"
    x = operand_def(TensorType)
    w = operand_def(TensorType)
    x_zero = operand_def(TensorType)
    w_zero = operand_def(TensorType)
    b = opt_operand_def(TensorType)
    res = result_def(TensorType)

    def infer(self) -> Sequence[Tensor]:
        shape = self._shape(self.x, self.w, self.b)
        _integer_operands(self.x, self.w, self.b, self.x_zero, self.w_zero, shape[1])
        return [tensor_type(shape, ELEMENTS["i32"])]


@irdl_op_definition
class LinearIntegerOp(NnOp):
    """(x - x_zero) (w - w_zero)T + b in i32, shapes as `nn.linear`; w_zero a scalar or one per output."""

    name = "nn.linear_integer"
    x = operand_def(TensorType)
    w = operand_def(TensorType)
    x_zero = operand_def(TensorType)
    w_zero = operand_def(TensorType)
    b = opt_operand_def(TensorType)
    res = result_def(TensorType)

    def infer(self) -> Sequence[Tensor]:
        shape = shapes.linear(shape_of(self.x), shape_of(self.w), _optional_shape(self.b))
        _integer_operands(self.x, self.w, self.b, self.x_zero, self.w_zero, shape[-1])
        return [tensor_type(shape, ELEMENTS["i32"])]


@irdl_op_definition
class MatmulIntegerOp(NnOp):
    """(a - a_zero) (b - b_zero) in i32, as numpy's matmul; zero points broadcast to a and b."""

    name = "nn.matmul_integer"
    a = operand_def(TensorType)
    b = operand_def(TensorType)
    a_zero = operand_def(TensorType)
    b_zero = operand_def(TensorType)
    res = result_def(TensorType)

    def infer(self) -> Sequence[Tensor]:
        for value, zero in ((self.a, self.a_zero), (self.b, self.b_zero)):
            need_element(value, _BYTES)
            need_same_elements(value, zero)
            if shapes.broadcast(shape_of(value), shape_of(zero)) != shape_of(value):
                raise shapes.ShapeError(
                    f"a zero point of shape {shapes.text(shape_of(zero))} does not broadcast to "
                    f"{shapes.text(shape_of(value))}"
                )
        return [tensor_type(shapes.matmul(shape_of(self.a), shape_of(self.b)), ELEMENTS["i32"])]


OPERATIONS = [ConvIntegerOp, ConvOp, LinearIntegerOp, LinearOp, MatmulIntegerOp, MatmulOp]
