"""`sparse.epilogue`: what happens to the sums of a product on their way to memory.

It stands after `sparse.spmm` (or the product it comes from) and is fused into its stores or its kernel, where
the target can; `sparsecc.epilogue` says what it computes.

```mlir
%c = sparse.spmm %x, #sparse.weight<...> unit <16, 16, 16> : tensor<64x32xi8> -> tensor<3x32xi32> { ... }
%y = sparse.epilogue %c bias #nn.tensor<[7, -2, 0], tensor<3xi32>> scale #nn.tensor<[0.01], tensor<f32>>
    low 0.0 : f32 zero -128 : i32 : tensor<3x32xi32> -> tensor<3x32xi8>
```
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self, cast

import numpy as np
from xdsl.dialects.builtin import (
    DenseArrayBase,
    FloatAttr,
    IntegerAttr,
    StringAttr,
    TensorType,
    f32,
    i32,
)
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    result_def,
    traits_def,
)
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from sparsecc.dialects.nn_base import ELEMENTS, TensorAttr
from sparsecc.epilogue import Activation, Array, Epilogue

_ACCUMULATORS = ("i32", "f32")


@irdl_op_definition
class EpilogueOp(IRDLOperation):
    """Sums [M, N] in i32 or f32 to the result's type; see `sparsecc.epilogue`."""

    name = "sparse.epilogue"
    sums = operand_def(TensorType)
    residual = opt_operand_def(TensorType)
    bias = opt_prop_def(TensorAttr)
    scale = opt_prop_def(TensorAttr)
    low = opt_prop_def(FloatAttr)
    high = opt_prop_def(FloatAttr)
    zero = opt_prop_def(IntegerAttr)
    # Its name, its numbers, and of each row a slope.
    activation = opt_prop_def(StringAttr)
    numbers = opt_prop_def(DenseArrayBase)
    slopes = opt_prop_def(TensorAttr)
    res = result_def(TensorType)

    irdl_options = (ParsePropInAttrDict(),)
    traits = traits_def(Pure())
    assembly_format = (
        "$sums (`bias` qualified($bias)^)? (`scale` qualified($scale)^)? "
        "(`residual` $residual^ `:` type($residual))? (`low` $low^)? (`high` $high^)? "
        "(`activation` $activation^)? (`numbers` $numbers^)? (`slopes` qualified($slopes)^)? "
        "(`zero` $zero^)? attr-dict `:` type($sums) `->` type($res)"
    )

    @classmethod
    def of(cls, sums: SSAValue, epilogue: Epilogue, residual: SSAValue | None = None) -> Self:
        """The epilogue of a product's result."""
        shape = cast("TensorType[Attribute]", sums.type).get_shape()
        properties: dict[str, Attribute | None] = {
            "bias": None
            if epilogue.bias is None
            else TensorAttr.of(epilogue.bias, ELEMENTS["i32" if epilogue.bias.dtype == np.int32 else "f32"]),
            "scale": None if epilogue.scale is None else TensorAttr.of(epilogue.scale, f32),
            "low": FloatAttr(epilogue.low, f32) if epilogue.low > -math.inf else None,
            "high": FloatAttr(epilogue.high, f32) if epilogue.high < math.inf else None,
            "zero": IntegerAttr(epilogue.zero, i32) if epilogue.zero else None,
        }
        if (activation := epilogue.activation) is not None:
            properties["activation"] = StringAttr(activation.name)
            if activation.numbers:
                properties["numbers"] = DenseArrayBase.from_list(f32, activation.numbers)
            if activation.slopes:
                slopes = np.asarray(activation.slopes, np.float32)
                properties["slopes"] = TensorAttr.of(slopes, f32)
        return cls.create(
            operands=[sums] if residual is None else [sums, residual],
            properties={name: value for name, value in properties.items() if value is not None},
            result_types=[TensorType(ELEMENTS[epilogue.element], shape)],
        )

    @property
    def epilogue(self) -> Epilogue:
        """What it computes."""
        return computed(self.properties, str(self.res.type.element_type), self.residual is not None)

    def verify_(self) -> None:
        sums, result = cast("TensorType[Attribute]", self.sums.type), self.res.type
        accumulator = str(sums.element_type)
        if accumulator not in _ACCUMULATORS or len(sums.get_shape()) != 2:
            raise VerifyException(f"sums are {sums}; needed a matrix of {' or '.join(_ACCUMULATORS)}")
        if result.get_shape() != sums.get_shape():
            raise VerifyException(f"sums are {sums}, the result {result}; needed the same shape")
        rows = sums.get_shape()[:1]
        if self.bias is not None and str(self.bias.type) != f"tensor<{rows[0]}x{accumulator}>":
            raise VerifyException(f"the bias is {self.bias.type}; needed tensor<{rows[0]}x{accumulator}>")
        if self.scale is not None and self.scale.type.get_shape() not in ((), rows):
            raise VerifyException(f"the scale is {self.scale.type}; needed one number, or one per row")
        if self.slopes is not None and self.slopes.type.get_shape() != rows:
            raise VerifyException(f"the slopes are {self.slopes.type}; needed one per row")
        if self.activation is None and (self.numbers is not None or self.slopes is not None):
            raise VerifyException("numbers or slopes without an activation")
        if self.residual is not None and self.residual.type != TensorType(f32, sums.get_shape()):
            raise VerifyException(
                f"the residual is {self.residual.type}; needed f32 in the shape of the sums"
            )
        try:
            _ = self.epilogue
        except ValueError as e:
            raise VerifyException(str(e)) from e


def computed(properties: Mapping[str, Attribute], element: str, residual: bool) -> Epilogue:
    """What properties of these names say; element: of the result."""

    def number(name: str, otherwise: float) -> float:
        found = cast("FloatAttr[Any] | None", properties.get(name))
        return otherwise if found is None else float(found.value.data)

    def array(name: str) -> Array | None:
        found = cast("TensorAttr | None", properties.get(name))
        return None if found is None else found.array

    zero = cast("IntegerAttr[Any] | None", properties.get("zero"))
    name = cast("StringAttr | None", properties.get("activation"))
    activation: Activation | None = None
    if name is not None:
        numbers = cast("DenseArrayBase[Any] | None", properties.get("numbers"))
        slopes = array("slopes")
        activation = Activation(
            name.data,
            () if numbers is None else tuple(map(float, numbers.iter_values())),
            () if slopes is None else tuple(map(float, slopes)),
        )
    return Epilogue(
        element,
        bias=array("bias"),
        scale=array("scale"),
        residual=residual,
        low=number("low", -math.inf),
        high=number("high", math.inf),
        zero=0 if zero is None else zero.value.data,
        activation=activation,
    )


def epilogue_of(product: SSAValue) -> EpilogueOp | None:
    """What alone uses the result of a product, if it is an epilogue."""
    users = [use.operation for use in product.uses]
    return users[0] if len(users) == 1 and isinstance(users[0], EpilogueOp) else None
