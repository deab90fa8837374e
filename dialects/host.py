"""The `host` dialect: a network after its operators are chosen, activations features first and batch last.

```mlir
func.func @main(%x: tensor<8x784xf32>) -> tensor<10x8xf32> {
  %0 = host.call "host_copy_4"(%x) {walk = array<i64: 2, 784, 8, 8, 1, 1, 784>} : (tensor<8x784xf32>) -> tensor<784x8xf32>
  %1 = func.call @layer0(%0) : (tensor<784x8xf32>) -> tensor<10x8xf32>
  %y = host.call "host_relu_f32"(%1) {n = 80 : i64} : (tensor<10x8xf32>) -> tensor<10x8xf32>
  func.return %y : tensor<10x8xf32>
}
```
A tensor is an array in memory, row-major in the order its type says. `host.call` is one call of an operator
of the host (`sparsecc.host.ops`), `func.call` one product of the accelerator, outlined to a function of its
own, `host.view` the same memory under another shape.
"""  # noqa: E501

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

from xdsl.dialects.builtin import (
    DenseArrayBase,
    DictionaryAttr,
    FloatAttr,
    IntegerAttr,
    StringAttr,
    TensorType,
    UnitAttr,
    f32,
    i64,
)
from xdsl.ir import Attribute, Dialect, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from sparsecc.host.operator import ELEMENT_BYTES, Argument, HostOperator, Kind, Product, Record, Window
from sparsecc.host.ops import OPERATORS
from sparsecc.host.walk import Walk

Tensor = TensorType[Attribute]
Value = int | float | Sequence[int] | Record | None

HOST_TYPES = {
    "i1": "b8", "i8": "i8", "ui8": "u8", "i16": "i16", "i32": "i32", "i64": "i64", "f16": "f16",
    "bf16": "bf16", "f32": "f32",
}  # fmt: skip
"""What operators of the host call the element types of tensors."""
_RECORDS: dict[str, type[Record]] = {"host_window": Window, "host_product": Product}


def kind_of(value: SSAValue) -> str:
    """The elements of a tensor, as operators of the host call them."""
    return HOST_TYPES[str(cast(Tensor, value.type).element_type)]


def elements_in(value: SSAValue) -> int:
    """How many elements a tensor has."""
    return math.prod(cast(Tensor, value.type).get_shape())


def _attribute(argument: Argument, value: Value) -> Attribute:
    match value:
        case None:
            return UnitAttr()
        case Record():
            return DenseArrayBase.from_list(i64, list(value.numbers()))
        case int() | float() if argument.type == "f32":
            return FloatAttr(float(value), f32)
        case int():
            return IntegerAttr(value, i64)
        case _:
            assert not isinstance(value, float)
            return DenseArrayBase.from_list(i64, [int(v) for v in value])


def _value(argument: Argument, attribute: Attribute) -> Value:
    match attribute:
        case UnitAttr():
            return None
        case FloatAttr():
            return float(attribute.value.data)
        case IntegerAttr():
            return cast("IntegerAttr[Any]", attribute).value.data
        case _:
            numbers = [int(v) for v in cast("DenseArrayBase[Any]", attribute).get_values()]
            return _RECORDS[argument.type](*numbers) if argument.kind is Kind.RECORD else numbers


def _fits(argument: Argument, kind: str) -> bool:
    if argument.type.startswith("any"):
        return ELEMENT_BYTES[argument.type] == ELEMENT_BYTES[kind]
    return argument.type == kind or (argument.type, kind) == ("u8", "b8")


@irdl_op_definition
class CallOp(IRDLOperation):
    """One call of an operator of the host. Arguments that are not arrays are attributes, by their names.

    Input i begins at element offsets[i]. With `into` the result is that array, of which the call writes a
    part, from element `at` on; nothing else may use it then.
    """

    name = "host.call"
    operator = prop_def(StringAttr)
    inputs = var_operand_def(TensorType)
    into = opt_operand_def(TensorType)
    arguments = prop_def(DictionaryAttr)
    offsets = opt_prop_def(DenseArrayBase.constr(i64))
    at = opt_prop_def(IntegerAttr)
    res = result_def(TensorType)

    irdl_options = (AttrSizedOperandSegments(as_property=True), ParsePropInAttrDict())
    traits = traits_def(Pure())
    assembly_format = (
        "$operator `(` $inputs `)` (`into` $into^)? $arguments attr-dict `:` "
        "`(` type($inputs) `)` (`into` type($into)^)? `->` type($res)"
    )

    def __init__(
        self,
        operator: str,
        inputs: Sequence[SSAValue],
        result: Tensor,
        arguments: dict[str, Value],
        offsets: Sequence[int] | None = None,
        into: SSAValue | None = None,
        at: int = 0,
    ):
        declared = {a.name: a for a in OPERATORS[operator].arguments}
        attributes = {name: _attribute(declared[name], value) for name, value in arguments.items()}
        super().__init__(
            operands=[inputs, into],
            result_types=[result],
            properties={
                "operator": StringAttr(operator),
                "arguments": DictionaryAttr(attributes),
                "offsets": DenseArrayBase.from_list(i64, list(offsets)) if offsets and any(offsets) else None,
                "at": IntegerAttr(at, i64) if at else None,
            },
        )

    @property
    def declaration(self) -> HostOperator:
        return OPERATORS[self.operator.data]

    @property
    def begins(self) -> tuple[int, ...]:
        """The element at which each input begins."""
        if self.offsets is None:
            return (0,) * len(self.inputs)
        return tuple(int(v) for v in self.offsets.get_values())

    @property
    def result_begins(self) -> int:
        """The element of the result at which the output begins."""
        return 0 if self.at is None else self.at.value.data

    def values(self) -> list[Value | SSAValue]:
        """The arguments of the C function in its order: arrays as values of the program, NULL as None."""
        inputs = iter(self.inputs)
        found: list[Value | SSAValue] = []
        for argument in self.declaration.arguments:
            attribute = self.arguments.data.get(argument.name)
            if argument.kind is Kind.OUTPUT:
                found.append(self.res)
            elif attribute is not None:
                found.append(_value(argument, attribute))
            else:
                found.append(next(inputs))
        return found

    def in_place(self) -> list[SSAValue]:
        """Inputs whose array the result may be."""
        names = [a.name for a in self.declaration.arguments]
        if self.into is not None or self.offsets is not None:
            return []
        values = dict(zip(names, self.values(), strict=True))
        names = list(self.declaration.in_place)
        if "walk" in values:
            # Elements must lie in the same places, so strides must be those of the result.
            walk = Walk.from_table(cast("Sequence[int]", values["walk"]))
            arrays = [n for n, v in values.items() if isinstance(v, SSAValue)]
            names = [n for n in names if walk.strides[arrays.index(n)] == walk.strides[0]]
        found = [values[n] for n in names]
        return [v for v in found if isinstance(v, SSAValue) and elements_in(v) == elements_in(self.res)]

    def verify_(self) -> None:
        if (operator := OPERATORS.get(self.operator.data)) is None:
            raise VerifyException(f"the host has no operator {self.operator.data!r}")
        outputs = [a for a in operator.arguments if a.kind is Kind.OUTPUT]
        if len(outputs) != 1:
            raise VerifyException(f"{operator.name} has {len(outputs)} results; needed 1")
        given = set(self.arguments.data)
        arrays = [a for a in operator.arguments if a.kind is Kind.INPUT and a.name not in given]
        others = {a.name for a in operator.arguments if a.kind not in (Kind.INPUT, Kind.OUTPUT)}
        optional = {a.name for a in operator.arguments if a.kind is Kind.INPUT and a.optional}
        if not others <= given <= others | optional:
            raise VerifyException(
                f"{operator.name} takes the arguments {', '.join(sorted(others))}; found "
                f"{', '.join(sorted(given)) or 'none'}"
            )
        if len(arrays) != len(self.inputs):
            raise VerifyException(f"{operator.name} reads {len(arrays)} arrays, found {len(self.inputs)}")
        for argument, value in zip([*arrays, *outputs], [*self.inputs, self.res], strict=True):
            kind = HOST_TYPES.get(str(cast(Tensor, value.type).element_type))
            if kind is None or not _fits(argument, kind):
                raise VerifyException(
                    f"{operator.name}: {argument.name} is {value.type}; needed {argument.type}"
                )
        if len(self.begins) != len(self.inputs):
            raise VerifyException(f"{len(self.begins)} offsets for {len(self.inputs)} inputs")
        if self.into is not None and self.into.type != self.res.type:
            raise VerifyException(f"writes into {self.into.type}, but the result is {self.res.type}")


@irdl_op_definition
class ViewOp(IRDLOperation):
    """The same memory under another shape."""

    name = "host.view"
    x = operand_def(TensorType)
    res = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($res)"

    def __init__(self, x: SSAValue, shape: Sequence[int]):
        element = cast(Tensor, x.type).element_type
        super().__init__(operands=[x], result_types=[TensorType(element, shape)])

    def verify_(self) -> None:
        elements = {str(cast(Tensor, v.type).element_type) for v in (self.x, self.res)}
        if elements_in(self.x) != elements_in(self.res) or len(elements) != 1:
            raise VerifyException(f"{self.x.type} and {self.res.type} are not the same memory")


Host = Dialect("host", [CallOp, ViewOp], [])
