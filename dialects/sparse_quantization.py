"""`#sparse.quantization`: what int8 numbers of a product stand for.

    w = weights[row] * (w_int8 - zero_w),  x = inputs * (x_int8 - zero_x),  cells hold w_int8 + offset

so a sum in int32 is worth `weights[row] * inputs`. Quantisation is symmetric: both zero points are 0. The
offset is that of the cells of a crossbar in the offset encoding, 0 where cells have signs and before there
are cells. A product carries it as its attribute of that name, at every level:

```mlir
{sparse.quantization = #sparse.quantization<
    weights #nn.tensor<[0.5, 0.25], tensor<2xf32>> zero 0, inputs 0.1 zero 0, offset 128>}
```
"""

from __future__ import annotations

import math
from typing import Self, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import IntAttr, f32
from xdsl.ir import Attribute, Operation, ParametrizedAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from sparsecc.dialects.nn_base import TensorAttr
from sparsecc.dialects.sparse_attributes import number_text

QUANTIZATION = "sparse.quantization"


@irdl_attr_definition
class QuantizationAttr(ParametrizedAttribute):
    """Scales of weights, one for each row, and of inputs; zero points; the offset of cells."""

    name = "sparse.quantization"
    weights: TensorAttr
    inputs: TensorAttr
    weight_zero: IntAttr
    input_zero: IntAttr
    offset: IntAttr

    @classmethod
    def of(cls, weights: NDArray[np.float32], inputs: float, offset: int = 0) -> Self:
        """weights: [rows]. Zero points are 0."""
        scales = TensorAttr.of(weights, f32), TensorAttr.of(np.array(inputs, np.float32), f32)
        return cls(*scales, IntAttr(0), IntAttr(0), IntAttr(offset))

    def with_offset(self, offset: int) -> Self:
        """The same numbers, in cells that hold weights plus this."""
        return type(self)(self.weights, self.inputs, self.weight_zero, self.input_zero, IntAttr(offset))

    @property
    def worth(self) -> NDArray[np.float64]:
        """What one step of a sum is worth, [rows]."""
        return self.weights.array.astype(np.float64) * float(self.inputs.array)

    def verify(self) -> None:
        for name, scale, rank in (("weights", self.weights, 1), ("inputs", self.inputs, 0)):
            if scale.type.element_type != f32 or len(scale.type.get_shape()) != rank:
                needed = "a vector of f32" if rank else "one f32"
                raise VerifyException(f"scales of {name} are {scale.type}; needed {needed}")
            values = scale.array.astype(np.float64)
            if not ((values > 0) & (values < math.inf)).all():
                raise VerifyException(f"a scale of {name} is not a finite number above 0")
        for name, zero in (("weights", self.weight_zero), ("inputs", self.input_zero)):
            if zero.data != 0:
                raise VerifyException(f"the zero point of {name} is {zero.data}; int8 is symmetric here: 0")
        if self.offset.data not in (0, *(1 << bit for bit in range(1, 8))):
            raise VerifyException(f"the offset of cells is {self.offset.data}; needed 0 or 2, 4, .. 128")

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> list[Attribute]:
        with parser.in_angle_brackets():
            parser.parse_keyword("weights")
            weights = parser.parse_attribute()
            weight_zero = _number(parser, "zero")
            parser.parse_punctuation(",")
            parser.parse_keyword("inputs")
            inputs = TensorAttr.of(np.array(parser.parse_number(), np.float32), f32)
            input_zero = _number(parser, "zero")
            parser.parse_punctuation(",")
            offset = _number(parser, "offset")
        if not isinstance(weights, TensorAttr):
            parser.raise_error("scales of weights are a #nn.tensor")
        return [weights, inputs, weight_zero, input_zero, offset]

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string("weights ")
            printer.print_attribute(self.weights)
            # The shortest digits that read back as the same float32.
            scale = number_text(float(str(np.float32(self.inputs.array))))
            printer.print_string(f" zero {self.weight_zero.data}, inputs {scale} zero {self.input_zero.data}")
            printer.print_string(f", offset {self.offset.data}")


def _number(parser: AttrParser, keyword: str) -> IntAttr:
    parser.parse_keyword(keyword)
    return IntAttr(parser.parse_integer(allow_boolean=False))


def quantization_of(op: Operation) -> QuantizationAttr | None:
    """What the numbers of a product stand for, where that is known."""
    return cast("QuantizationAttr | None", op.attributes.get(QUANTIZATION))


def broken_quantization(op: Operation, rows: int) -> str | None:
    """A sentence where a product of so many rows carries scales of another number of rows; or None."""
    found = op.attributes.get(QUANTIZATION)
    if found is None:
        return None
    if not isinstance(found, QuantizationAttr):
        return f"{QUANTIZATION} is {found}; needed a #sparse.quantization"
    (scales,) = found.weights.type.get_shape()
    if scales != rows:
        return f"the quantization has {scales} scales of weights; the product has {rows} rows"
    return None
