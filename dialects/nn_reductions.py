"""Operators of the `nn` dialect that combine elements: reductions, pooling, normalisation."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import DenseArrayBase, FloatAttr, IntegerAttr, StringAttr, TensorType, i64
from xdsl.irdl import irdl_op_definition, operand_def, opt_operand_def, prop_def, result_def

from sparsecc.dialects.nn_base import (
    ELEMENTS,
    FLOATS,
    NnOp,
    Tensor,
    flag,
    ints,
    need_element,
    need_same_elements,
    number,
    shape_of,
    tensor_type,
    type_of,
)
from sparsecc.dialects.nn_elementwise import NUMBERS
from sparsecc.nn import shapes
from sparsecc.nn.windows import Windows

REDUCTIONS = ("max", "mean", "min", "prod", "sum")


@irdl_op_definition
class ReduceOp(NnOp):
    """max, mean, min, prod or sum over axes, which keep extent 1 with `keep`; no axis is no reduction."""

    name = "nn.reduce"
    x = operand_def(TensorType)
    kind = prop_def(StringAttr)
    axes = prop_def(DenseArrayBase.constr(i64))
    keep = prop_def(IntegerAttr)
    res = result_def(TensorType)

    def infer(self) -> Sequence[Tensor]:
        if self.kind.data not in REDUCTIONS:
            raise shapes.ShapeError(f"reduction {self.kind.data!r} is not one of {', '.join(REDUCTIONS)}")
        need_element(self.x, NUMBERS if self.kind.data != "mean" else (*FLOATS, "i32", "i64"))
        x, axes = shape_of(self.x), shapes.axes_of(ints(self.axes), len(shape_of(self.x)))
        if self.kind.data in ("max", "mean", "min") and any(x[a] == 0 for a in axes):
            raise shapes.ShapeError(f"there is no {self.kind.data} of the empty shape {shapes.text(x)}")
        return [tensor_type(shapes.reduce(x, axes, flag(self.keep)), type_of(self.x).element_type)]


@irdl_op_definition
class ArgReduceOp(NnOp):
    """Where the max or min along an axis lies, as i64: the first place, or the last."""

    name = "nn.arg_reduce"
    x = operand_def(TensorType)
    kind = prop_def(StringAttr)
    axis = prop_def(IntegerAttr)
    keep = prop_def(IntegerAttr)
    last = prop_def(IntegerAttr)
    res = result_def(TensorType)

    def infer(self) -> Sequence[Tensor]:
        if self.kind.data not in ("max", "min"):
            raise shapes.ShapeError(f"kind {self.kind.data!r} is not one of max, min")
        need_element(self.x, NUMBERS)
        x = shape_of(self.x)
        if x[shapes.axis_of(number(self.axis), len(x))] == 0:
            raise shapes.ShapeError(f"there is no {self.kind.data} of the empty shape {shapes.text(x)}")
        return [tensor_type(shapes.reduce(x, [number(self.axis)], flag(self.keep)), ELEMENTS["i64"])]


class _Pool(NnOp):
    """x [N, C, spatial...]; pads are all the low ones, then all the high ones.

    With `ceil_mode` the last window may reach beyond the padding.
    """

    x = operand_def(TensorType)
    kernel = prop_def(DenseArrayBase.constr(i64))
    strides = prop_def(DenseArrayBase.constr(i64))
    pads = prop_def(DenseArrayBase.constr(i64))
    dilations = prop_def(DenseArrayBase.constr(i64))
    ceil_mode = prop_def(IntegerAttr)
    res = result_def(TensorType)

    @property
    def windows(self) -> Windows:
        lists = (ints(self.kernel), ints(self.strides), ints(self.pads), ints(self.dilations))
        return Windows(*lists, ceil_mode=flag(self.ceil_mode))

    def infer(self) -> Sequence[Tensor]:
        need_element(self.x, NUMBERS)
        v = self.windows
        shape = shapes.pool(shape_of(self.x), v.kernel, v.strides, v.pads, v.dilations, v.ceil_mode)
        return [tensor_type(shape, type_of(self.x).element_type)]


@irdl_op_definition
class MaxPoolOp(_Pool):
    """The largest element of each window; padding is smaller than all."""

    name = "nn.max_pool"


@irdl_op_definition
class AveragePoolOp(_Pool):
    """The mean of each window, over elements of x alone or, with `count_padding`, over padding too."""

    name = "nn.average_pool"
    count_padding = prop_def(IntegerAttr)


@irdl_op_definition
class SoftmaxOp(NnOp):
    """exp(x) / sum of exp(x) along an axis, or its logarithm."""

    name = "nn.softmax"
    x = operand_def(TensorType)
    axis = prop_def(IntegerAttr)
    logarithm = prop_def(IntegerAttr)
    res = result_def(TensorType)

    def infer(self) -> Sequence[Tensor]:
        need_element(self.x, FLOATS)
        x = shape_of(self.x)
        if x[shapes.axis_of(number(self.axis), len(x))] == 0:
            raise shapes.ShapeError(f"there is no softmax along an empty axis of shape {shapes.text(x)}")
        return [type_of(self.x)]


@irdl_op_definition
class LayerNormOp(NnOp):
    """(x - mean) / sqrt(variance + epsilon) over the axes from `axis` on, times scale, plus bias.

    Scale and bias broadcast to x.
    """

    name = "nn.layer_norm"
    x = operand_def(TensorType)
    scale = operand_def(TensorType)
    bias = opt_operand_def(TensorType)
    axis = prop_def(IntegerAttr)
    epsilon = prop_def(FloatAttr)
    res = result_def(TensorType)

    def infer(self) -> Sequence[Tensor]:
        need_element(self.x, FLOATS)
        x = shape_of(self.x)
        shapes.axis_of(number(self.axis), len(x))
        for parameter in (self.scale, *([] if self.bias is None else [self.bias])):
            need_same_elements(self.x, parameter)
            if shapes.broadcast(x, shape_of(parameter)) != x:
                raise shapes.ShapeError(
                    f"shape {shapes.text(shape_of(parameter))} does not broadcast to {shapes.text(x)}"
                )
        return [type_of(self.x)]


@irdl_op_definition
class BatchNormOp(NnOp):
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, all [C]; x is [N, C, ...]. Inference only."""

    name = "nn.batch_norm"
    x = operand_def(TensorType)
    scale = operand_def(TensorType)
    bias = operand_def(TensorType)
    mean = operand_def(TensorType)
    variance = operand_def(TensorType)
    epsilon = prop_def(FloatAttr)
    res = result_def(TensorType)

    def infer(self) -> Sequence[Tensor]:
        need_element(self.x, FLOATS)
        x = shape_of(self.x)
        if len(x) < 2:
            raise shapes.ShapeError(f"the input has shape {shapes.text(x)}; needed [N, channels, ...]")
        for what in ("scale", "bias", "mean", "variance"):
            shapes.parameter(x, 1, shape_of(getattr(self, what)), what)
            need_element(getattr(self, what), FLOATS, f"the {what}")
        return [type_of(self.x)]


OPERATIONS = [ArgReduceOp, AveragePoolOp, BatchNormOp, LayerNormOp, MaxPoolOp, ReduceOp, SoftmaxOp]
