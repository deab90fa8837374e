"""What all operators of the `nn` dialect have in common, and constants."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import (
    BFloat16Type,
    DenseArrayBase,
    Float16Type,
    FloatAttr,
    IntegerAttr,
    IntegerType,
    NoneType,
    Signedness,
    StringAttr,
    TensorType,
    f32,
    f64,
    i64,
)
from xdsl.ir import Attribute, Data, SSAValue, TypeAttribute
from xdsl.irdl import (
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_attr_definition,
    irdl_op_definition,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.hints import isa

from sparsecc.blobs import Blob
from sparsecc.elements import round_to
from sparsecc.nn.shapes import ShapeError

Tensor = TensorType[Attribute]
Property = bool | int | float | str | Sequence[int] | Sequence[str] | Attribute

ELEMENTS: dict[str, TypeAttribute] = {
    "i1": IntegerType(1),
    **{f"i{n}": IntegerType(n) for n in (8, 16, 32, 64)},
    **{f"ui{n}": IntegerType(n, Signedness.UNSIGNED) for n in (8, 16, 32, 64)},
    "f16": Float16Type(), "bf16": BFloat16Type(), "f32": f32, "f64": f64,
}  # fmt: skip
"""Element types of tensors by name."""

FLOATS = ("f16", "bf16", "f32", "f64")

# Constants with more elements are printed as a digest.
PRINTED_ELEMENTS = 16


def tensor_type(shape: Sequence[int], element_type: Attribute) -> Tensor:
    """The static ranked tensor of this shape."""
    return TensorType(element_type, shape)


def type_of(value: SSAValue) -> Tensor:
    """The type of a value, which is a tensor."""
    return cast(Tensor, value.type)


def shape_of(value: SSAValue) -> tuple[int, ...]:
    """Extents of a value; raises ShapeError when some are not known."""
    shape = type_of(value).get_shape()
    if min(shape, default=0) < 0:
        raise ShapeError(f"operand {value.type} has a dynamic extent; only static shapes are supported")
    return shape


def element_of(value: SSAValue) -> str:
    """Name of the element type of a value."""
    return str(type_of(value).element_type)


def ints(attribute: DenseArrayBase[Any]) -> tuple[int, ...]:
    """The numbers of a property."""
    return tuple(int(v) for v in attribute.get_values())


def number(attribute: IntegerAttr[Any]) -> int:
    """The number of a property."""
    return attribute.value.data


def flag(attribute: IntegerAttr[Any]) -> bool:
    """The truth of a property."""
    return bool(attribute.value.data)


def need_same_elements(*values: SSAValue) -> None:
    """Raise ShapeError unless all operands have the same element type."""
    if len({element_of(v) for v in values}) > 1:
        raise ShapeError(f"operands have element types {', '.join(map(element_of, values))}; needed one")


def need_element(value: SSAValue, allowed: Sequence[str], what: str = "the operand") -> None:
    """Raise ShapeError unless the element type is one of these."""
    if element_of(value) not in allowed:
        raise ShapeError(f"{what} has elements of type {element_of(value)}; needed {', '.join(allowed)}")


def _attribute(value: Property) -> Attribute:
    match value:
        case bool():
            return IntegerAttr.from_bool(value)
        case int():
            return IntegerAttr(value, i64)
        case float():
            return FloatAttr(value, f32)
        case str():
            return StringAttr(value)
        case Attribute():
            return value
        case _:
            return DenseArrayBase.from_list(i64, [int(v) for v in value])


class NnOp(IRDLOperation, ABC):
    """An operator on tensors. Its results' types follow from its operands and properties.

    The discardable attribute `name` is the name of the node that it comes from.
    """

    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "operands attr-dict `:` functional-type(operands, results)"
    traits = traits_def(Pure())

    RESULTS: ClassVar[int] = 1

    @abstractmethod
    def infer(self) -> Sequence[Tensor]:
        """The types of the results. Raises ShapeError when operands and properties do not fit."""

    @classmethod
    def make(cls, *operands: SSAValue, **properties: Property | None) -> Self:
        """The operator with its results' types inferred; raises ShapeError where that fails.

        Properties are Python values: numbers (floats become f32), lists of integers, strings, attributes.
        """
        attributes = {name: _attribute(p) for name, p in properties.items() if p is not None}
        # A draft gives the rule its operands and properties by name.
        draft = cls.create(
            operands=operands, result_types=[NoneType()] * cls.RESULTS, properties=dict(attributes)
        )
        try:
            types = draft.infer()
        finally:
            draft.erase()
        return cls.create(operands=operands, result_types=types, properties=attributes)

    def verify_(self) -> None:
        try:
            wanted = self.infer()
        except ShapeError as e:
            raise VerifyException(str(e)) from e
        found = [result.type for result in self.results]
        for i, (have, need) in enumerate(zip(found, wanted, strict=True)):
            if have != need:
                raise VerifyException(f"result {i} has type {have}; its operands make it {need}")


@dataclass(frozen=True)
class TensorData:
    """A dense array of known type; bf16 elements are held as the f32 they equal."""

    blob: Blob
    type: Tensor


def _values_text(array: NDArray[np.generic]) -> str:
    def one(value: bool | int | float) -> str:
        text = repr(int(value) if isinstance(value, bool) else value)
        return text.replace("e", ".0e") if "e" in text and "." not in text else text

    return ", ".join(one(v) for v in cast("list[float]", array.ravel().tolist()))


@irdl_attr_definition
class TensorAttr(Data[TensorData]):
    """A constant tensor: its elements when there are few, otherwise the digest of a blob.

    `#nn.tensor<"9fb4fec942986d07bd144662926f9e26", tensor<64x32x3x3xf32>>` or
    `#nn.tensor<[1, 2, 3], tensor<3xi64>>`.
    """

    name = "nn.tensor"

    @staticmethod
    def of(array: NDArray[np.generic], element_type: Attribute) -> TensorAttr:
        """The constant of this array, rounded to the type."""
        held = round_to(np.asarray(array), element_type)
        copied = np.array(held, order="C", copy=True)
        return TensorAttr(TensorData(Blob.of(array=copied), tensor_type(array.shape, element_type)))

    @property
    def type(self) -> Tensor:
        return self.data.type

    @property
    def array(self) -> NDArray[np.generic]:
        """The elements; read-only. Raises UserError when the blob cannot be found."""
        return self.data.blob.arrays["array"]

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> TensorData:
        with parser.in_angle_brackets():
            digest = parser.parse_optional_str_literal()
            values: list[float] = []
            if digest is None:
                values = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_number)
            parser.parse_punctuation(",")
            found = parser.parse_type()
            if not isa(found, TensorType):
                parser.raise_error(f"a constant has a tensor type, found {found}")
        if digest is not None:
            return TensorData(Blob.named(digest), found)
        shape = found.get_shape()
        if int(np.prod(shape, dtype=np.int64)) != len(values):
            parser.raise_error(f"{len(values)} elements do not make {found}")
        return cls.of(np.array(values).reshape(shape), found.element_type).data

    def print_parameter(self, printer: Printer) -> None:
        elements = int(np.prod(self.type.get_shape(), dtype=np.int64))
        with printer.in_angle_brackets():
            few = elements <= PRINTED_ELEMENTS and self.data.blob.is_loaded
            if few and bool(np.isfinite(self.array.astype(np.float64)).all()):
                printer.print_string(f"[{_values_text(self.array)}]")
            else:
                printer.print_string_literal(self.data.blob.digest)
            printer.print_string(", ")
            printer.print_attribute(self.type)


@irdl_op_definition
class ConstantOp(IRDLOperation):
    """A dense constant tensor. Matrices of weights are `sparse.constant` instead."""

    name = "nn.constant"
    value = prop_def(TensorAttr)
    res = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "qualified($value) attr-dict `:` type($res)"

    def __init__(self, value: TensorAttr):
        super().__init__(properties={"value": value}, result_types=[value.type])

    def verify_(self) -> None:
        if self.res.type != self.value.type:
            raise VerifyException(f"the constant is {self.value.type}, the result {self.res.type}")
