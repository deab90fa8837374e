"""Recurrent layers of the `nn` dialect, one direction each (`sparsecc.nn.recurrent` says what they compute).

x [T, N, I], w [gates H, I], r [gates H, H], bias [2 gates H] (of w, then of r), states [N, H]. Results are
all outputs [T, N, H] and the last states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from xdsl.dialects.builtin import ArrayAttr, FloatAttr, IntegerAttr, StringAttr, TensorType
from xdsl.ir import SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, prop_def, result_def

from sparsecc.dialects.nn_base import (
    NnOp,
    Tensor,
    need_element,
    need_same_elements,
    shape_of,
    tensor_type,
    type_of,
)
from sparsecc.nn import shapes
from sparsecc.nn.recurrent import ACTIVATIONS


class _Recurrent(NnOp):
    """Operands x, w, r and bias, then more.

    `clip` limits what activations see, 0 does not; with `reverse` the layer walks x from its end.
    """

    activations = prop_def(ArrayAttr[StringAttr])
    clip = prop_def(FloatAttr)
    reverse = prop_def(IntegerAttr)

    @property
    def functions(self) -> tuple[str, ...]:
        return tuple(a.data for a in self.activations)

    def _types(
        self, gates: int, functions: int, states: Sequence[tuple[str, SSAValue]], peephole: SSAValue | None
    ) -> tuple[Tensor, Tensor]:
        x, w, r, bias = self.operands[:4]
        need_element(x, ("f32", "f64", "f16"))
        need_same_elements(*self.operands)
        if len(self.functions) != functions or not set(self.functions) <= ACTIVATIONS.keys():
            raise shapes.ShapeError(
                f"activations are {', '.join(self.functions)}; needed {functions} of {', '.join(ACTIVATIONS)}"
            )
        vectors = [("the bias", shape_of(bias), 2 * gates)]
        if peephole is not None:
            vectors.append(("the peephole", shape_of(peephole), 3))
        every, last = shapes.recurrent(
            shape_of(x), shape_of(w), shape_of(r), vectors,
            [(name, shape_of(state)) for name, state in states], gates,
        )  # fmt: skip
        element = type_of(x).element_type
        return tensor_type(every, element), tensor_type(last, element)


@irdl_op_definition
class LstmOp(_Recurrent):
    """LSTM: activations of gates, cell and output; `peephole` [3 H] of i, o, f; results y, h, c.

    With `input_forget` the forget gate is 1 - the input gate.
    """

    name = "nn.lstm"
    x = operand_def(TensorType)
    w = operand_def(TensorType)
    r = operand_def(TensorType)
    bias = operand_def(TensorType)
    peephole = operand_def(TensorType)
    h = operand_def(TensorType)
    c = operand_def(TensorType)
    input_forget = prop_def(IntegerAttr)
    y = result_def(TensorType)
    y_h = result_def(TensorType)
    y_c = result_def(TensorType)

    RESULTS: ClassVar[int] = 3

    def infer(self) -> Sequence[Tensor]:
        y, last = self._types(4, 3, [("the state", self.h), ("the cell", self.c)], self.peephole)
        return [y, last, last]


@irdl_op_definition
class GruOp(_Recurrent):
    """GRU: activations of gates and state; `linear_before_reset` as ONNX has it; results y, h."""

    name = "nn.gru"
    x = operand_def(TensorType)
    w = operand_def(TensorType)
    r = operand_def(TensorType)
    bias = operand_def(TensorType)
    h = operand_def(TensorType)
    linear_before_reset = prop_def(IntegerAttr)
    y = result_def(TensorType)
    y_h = result_def(TensorType)

    RESULTS: ClassVar[int] = 2

    def infer(self) -> Sequence[Tensor]:
        return list(self._types(3, 2, [("the state", self.h)], None))


@irdl_op_definition
class RnnOp(_Recurrent):
    """A simple recurrent layer; results y, h."""

    name = "nn.rnn"
    x = operand_def(TensorType)
    w = operand_def(TensorType)
    r = operand_def(TensorType)
    bias = operand_def(TensorType)
    h = operand_def(TensorType)
    y = result_def(TensorType)
    y_h = result_def(TensorType)

    RESULTS: ClassVar[int] = 2

    def infer(self) -> Sequence[Tensor]:
        return list(self._types(1, 1, [("the state", self.h)], None))


OPERATIONS = [GruOp, LstmOp, RnnOp]
