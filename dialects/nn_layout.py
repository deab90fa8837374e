"""Operators of the `nn` dialect that move elements and compute nothing."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import DenseArrayBase, FloatAttr, IntegerAttr, StringAttr, TensorType, i64
from xdsl.irdl import irdl_op_definition, operand_def, prop_def, result_def, var_operand_def

from sparsecc.dialects.nn_base import (
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

PAD_MODES = ("constant", "edge", "reflect", "wrap")


class _OneOperand(NnOp):
    x = operand_def(TensorType)
    res = result_def(TensorType)

    def _of_shape(self, shape: Sequence[int]) -> Sequence[Tensor]:
        return [tensor_type(shape, type_of(self.x).element_type)]


@irdl_op_definition
class BroadcastOp(_OneOperand):
    """x repeated to the shape, by numpy's rule."""

    name = "nn.broadcast"
    shape = prop_def(DenseArrayBase.constr(i64))

    def infer(self) -> Sequence[Tensor]:
        wanted = shapes.checked(ints(self.shape))
        if shapes.broadcast(shape_of(self.x), wanted) != wanted:
            raise shapes.ShapeError(
                f"shape {shapes.text(shape_of(self.x))} does not broadcast to {shapes.text(wanted)}"
            )
        return self._of_shape(wanted)


@irdl_op_definition
class ConcatOp(NnOp):
    """All operands along one axis, one after the other."""

    name = "nn.concat"
    parts = var_operand_def(TensorType)
    axis = prop_def(IntegerAttr)
    res = result_def(TensorType)

    def infer(self) -> Sequence[Tensor]:
        shape = shapes.concat([shape_of(p) for p in self.parts], number(self.axis))
        need_same_elements(*self.parts)
        return [tensor_type(shape, type_of(self.parts[0]).element_type)]


@irdl_op_definition
class GatherOp(NnOp):
    """Elements of x by index along one axis, which the shape of the indices replaces.

    An index counts from the end when negative; outside the axis it is an error of the program.
    """

    name = "nn.gather"
    x = operand_def(TensorType)
    indices = operand_def(TensorType)
    axis = prop_def(IntegerAttr)
    res = result_def(TensorType)

    def infer(self) -> Sequence[Tensor]:
        need_element(self.indices, ("i32", "i64"), "the indices")
        shape = shapes.gather(shape_of(self.x), shape_of(self.indices), number(self.axis))
        return [tensor_type(shape, type_of(self.x).element_type)]


@irdl_op_definition
class PadOp(_OneOperand):
    """x with elements before and after each axis: `value`, or elements of x by the mode."""

    name = "nn.pad"
    low = prop_def(DenseArrayBase.constr(i64))
    high = prop_def(DenseArrayBase.constr(i64))
    mode = prop_def(StringAttr)
    value = prop_def(FloatAttr)

    def infer(self) -> Sequence[Tensor]:
        if self.mode.data not in PAD_MODES:
            raise shapes.ShapeError(f"pad mode {self.mode.data!r} is not one of {', '.join(PAD_MODES)}")
        return self._of_shape(shapes.pad(shape_of(self.x), ints(self.low), ints(self.high), self.mode.data))


@irdl_op_definition
class ReshapeOp(_OneOperand):
    """The same elements in row-major order under another shape."""

    name = "nn.reshape"
    shape = prop_def(DenseArrayBase.constr(i64))

    def infer(self) -> Sequence[Tensor]:
        return self._of_shape(shapes.reshape(shape_of(self.x), ints(self.shape)))


@irdl_op_definition
class SliceOp(_OneOperand):
    """`sizes` elements of each axis from `offsets` on, `strides` apart; a stride may be negative."""

    name = "nn.slice"
    offsets = prop_def(DenseArrayBase.constr(i64))
    sizes = prop_def(DenseArrayBase.constr(i64))
    strides = prop_def(DenseArrayBase.constr(i64))

    def infer(self) -> Sequence[Tensor]:
        lists = (ints(self.offsets), ints(self.sizes), ints(self.strides))
        return self._of_shape(shapes.slice_(shape_of(self.x), *lists))


@irdl_op_definition
class TransposeOp(_OneOperand):
    """Result axis i is axis perm[i] of x."""

    name = "nn.transpose"
    perm = prop_def(DenseArrayBase.constr(i64))

    def infer(self) -> Sequence[Tensor]:
        return self._of_shape(shapes.transpose(shape_of(self.x), ints(self.perm)))


OPERATIONS = [BroadcastOp, ConcatOp, GatherOp, PadOp, ReshapeOp, SliceOp, TransposeOp]
