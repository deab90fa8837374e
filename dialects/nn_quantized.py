"""Operators of the `nn` dialect between real numbers and integers."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import IntegerAttr, TensorType
from xdsl.irdl import irdl_op_definition, operand_def, opt_prop_def, result_def

from sparsecc.dialects.nn_base import (
    NnOp,
    Tensor,
    need_element,
    need_same_elements,
    number,
    shape_of,
    tensor_type,
    type_of,
)
from sparsecc.nn import shapes

_SMALL = ("i8", "ui8", "i16", "ui16")


class _Scaled(NnOp):
    """A scale and a zero point: scalars, or with `axis` one value per index of that axis."""

    x = operand_def(TensorType)
    scale = operand_def(TensorType)
    zero = operand_def(TensorType)
    axis = opt_prop_def(IntegerAttr)
    res = result_def(TensorType)

    @property
    def axis_number(self) -> int | None:
        return None if self.axis is None else shapes.axis_of(number(self.axis), len(shape_of(self.x)))

    def _check(self, scale_axis: int | None, zero_axis: int | None) -> None:
        shapes.parameter(shape_of(self.x), scale_axis, shape_of(self.scale), "scale")
        shapes.parameter(shape_of(self.x), zero_axis, shape_of(self.zero), "zero point")


@irdl_op_definition
class QuantizeLinearOp(_Scaled):
    """round(x / scale) + zero, saturated to the type of zero; ties to even."""

    name = "nn.quantize_linear"

    def infer(self) -> Sequence[Tensor]:
        need_element(self.x, ("f32", "f16", "i32"))
        need_element(self.scale, ("f32", "f16"), "the scale")
        need_element(self.zero, _SMALL, "the zero point")
        self._check(self.axis_number, self.axis_number)
        return [tensor_type(shape_of(self.x), type_of(self.zero).element_type)]


@irdl_op_definition
class DequantizeLinearOp(_Scaled):
    """(x - zero) * scale in the type of scale."""

    name = "nn.dequantize_linear"

    def infer(self) -> Sequence[Tensor]:
        need_element(self.x, (*_SMALL, "i32"))
        need_element(self.scale, ("f32", "f16"), "the scale")
        need_same_elements(self.x, self.zero)
        self._check(self.axis_number, self.axis_number)
        return [tensor_type(shape_of(self.x), type_of(self.scale).element_type)]


@irdl_op_definition
class RequantizeOp(_Scaled):
    """round(f32(x) * scale) + zero, saturated to the type of zero: a sum in i32 back to bytes.

    `axis` is that of the scale; zero is a scalar.
    """

    name = "nn.requantize"

    def infer(self) -> Sequence[Tensor]:
        need_element(self.x, ("i32",))
        need_element(self.scale, ("f32",), "the scale")
        need_element(self.zero, _SMALL, "the zero point")
        self._check(self.axis_number, None)
        return [tensor_type(shape_of(self.x), type_of(self.zero).element_type)]


OPERATIONS = [DequantizeLinearOp, QuantizeLinearOp, RequantizeOp]
