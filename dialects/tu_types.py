"""Types of the `tu` dialect: on-chip addresses, off-chip buffers, and the elements of constants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
from xdsl.dialects.builtin import ArrayAttr, IntAttr
from xdsl.dialects.utils import EnumAttribute
from xdsl.ir import Attribute, Data, ParametrizedAttribute, SpacedOpaqueSyntaxAttribute, TypeAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.str_enum import StrEnum

from sparsecc.blobs import Blob
from sparsecc.dialects.sparse_attributes import numpy_type

# Constants with more elements, and constants that are not i32, are printed as a digest.
PRINTED_ELEMENTS = 64


class Memory(StrEnum):
    """The on-chip memories."""

    SPAD = "spad"
    ACC = "acc"
    L0A = "l0a"
    L0B = "l0b"


@irdl_attr_definition
class MemoryAttr(EnumAttribute[Memory], SpacedOpaqueSyntaxAttribute):
    """One of the on-chip memories."""

    name = "tu.memory"


@irdl_attr_definition
class AddressType(ParametrizedAttribute, TypeAttribute):
    """An on-chip address: a row of one of the memories."""

    name = "tu.address"


@irdl_attr_definition(init=False)
class BufferType(ParametrizedAttribute, TypeAttribute):
    """An off-chip array, row-major."""

    name = "tu.buffer"
    shape: ArrayAttr[IntAttr]
    element_type: TypeAttribute

    def __init__(self, shape: Sequence[int], element_type: TypeAttribute):
        super().__init__(ArrayAttr(IntAttr(d) for d in shape), element_type)

    def get_shape(self) -> tuple[int, ...]:
        return tuple(d.data for d in self.shape)

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            shape, element_type = parser.parse_ranked_shape()
        return [ArrayAttr(IntAttr(d) for d in shape), element_type]

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string("".join(f"{d}x" for d in self.get_shape()))
            printer.print_attribute(self.element_type)


def parse_elements(parser: AttrParser, shape: Sequence[int], element_type: Attribute) -> Blob:
    """`[1, 2, 3]`, the elements of a small i32 constant."""
    kind = numpy_type(element_type)
    if kind is not np.int32:
        parser.raise_error(f"only constants of i32 are written out; found elements of {element_type}")

    def element() -> int:
        value = parser.parse_integer(allow_boolean=False)
        if not -(2**31) <= value < 2**31:
            parser.raise_error(f"{value} is not an element of type i32")
        return value

    values = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, element)
    if len(values) != math.prod(shape):
        parser.raise_error(f"needed {math.prod(shape)} elements as the type says, found {len(values)}")
    return Blob.of(data=np.array(values, np.int32).reshape(shape))


def print_elements(printer: Printer, blob: Blob) -> None:
    """The elements as `parse_elements` reads them."""
    values = cast("list[int]", blob.arrays["data"].reshape(-1).tolist())
    printer.print_string(f"[{', '.join(map(str, values))}]")


def is_printed(blob: Blob) -> bool:
    """Whether the elements stand in the text."""
    if not blob.is_loaded:
        return False
    array = blob.arrays["data"]
    return array.size <= PRINTED_ELEMENTS and array.dtype == np.int32


@irdl_attr_definition
class ArrayDataAttr(Data[Blob]):
    """The elements of a constant: a blob with one array, `data`."""

    name = "tu.data"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Blob:
        with parser.in_angle_brackets():
            if digest := parser.parse_optional_str_literal():
                return Blob.named(digest)
            shape, element_type = parser.parse_ranked_shape()
            return parse_elements(parser, shape, element_type)

    def print_parameter(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            if is_printed(self.data):
                shape = self.data.arrays["data"].shape
                printer.print_string("".join(f"{d}x" for d in shape) + "i32 ")
                print_elements(printer, self.data)
            else:
                printer.print_string_literal(self.data.digest)
