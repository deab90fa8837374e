"""Values of the `tu` dialect: constants, what is looked up in them, buffers, addresses, and outputs."""

from __future__ import annotations

from functools import cache
from typing import cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import FloatAttr, IndexType, StringAttr, SymbolRefAttr, UnitAttr, f32, i32
from xdsl.ir import Operation, SSAValue, TypeAttribute
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import Pure, SymbolOpInterface, SymbolTable
from xdsl.utils.exceptions import VerifyException

from sparsecc.blobs import Blob
from sparsecc.dialects.sparse_attributes import numpy_type
from sparsecc.dialects.tu_types import (
    AddressType,
    ArrayDataAttr,
    BufferType,
    Memory,
    MemoryAttr,
    is_printed,
    parse_elements,
    print_elements,
)

# Programs have tables of few lengths, and each schedule that is tried has its own tables.
_buffer_type = cache(BufferType)


# Constructors of this module and of instructions are Operation's: what irdl works out first, for operands in
# groups, takes longer than all else that a schedule's program takes.
@irdl_op_definition
class ConstantOp(IRDLOperation):
    """A named constant array: a table to look up, or an off-chip buffer."""

    name = "tu.constant"
    sym_name = prop_def(StringAttr)
    type = prop_def(BufferType)
    data = prop_def(ArrayDataAttr)
    traits = traits_def(SymbolOpInterface())

    def __init__(self, name: str, array: NDArray[np.generic], element_type: TypeAttribute):
        Operation.__init__(
            self,
            properties={
                "sym_name": StringAttr(name),
                "type": _buffer_type(array.shape, element_type),
                "data": ArrayDataAttr(Blob.of(data=array)),
            },
        )

    @property
    def array(self) -> NDArray[np.generic]:
        """The elements, in the shape of the type."""
        return self.data.data.arrays["data"]

    def verify_(self) -> None:
        if not self.data.data.is_loaded:
            return
        wanted = np.dtype(numpy_type(self.type.element_type))
        if self.array.shape != self.type.get_shape() or self.array.dtype != wanted:
            raise VerifyException(
                f"@{self.sym_name.data} holds {self.array.dtype} {list(self.array.shape)}, "
                f"its type says {wanted} {list(self.type.get_shape())}"
            )

    @classmethod
    def parse(cls, parser: Parser) -> ConstantOp:
        name = parser.parse_symbol_name()
        parser.parse_punctuation(":")
        shape, element_type = parser.parse_ranked_shape()
        numpy_type(element_type)  # raises for elements that no array holds
        if digest := parser.parse_optional_str_literal():
            blob = Blob.named(digest)
        else:
            blob = parse_elements(parser, shape, element_type)
        buffer = BufferType(shape, cast(TypeAttribute, element_type))
        return cls.create(properties={"sym_name": name, "type": buffer, "data": ArrayDataAttr(blob)})

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.sym_name.data)
        printer.print_string(" : " + "".join(f"{d}x" for d in self.type.get_shape()))
        printer.print_attribute(self.type.element_type)
        printer.print_string(" ")
        if is_printed(self.data.data):
            print_elements(printer, self.data.data)
        else:
            printer.print_string_literal(self.data.data.digest)


def _text(type: BufferType) -> str:
    """`2x3xi8`"""
    return "".join(f"{d}x" for d in type.get_shape()) + str(type.element_type)


def _constant(op: Operation, symbol: SymbolRefAttr) -> ConstantOp:
    """The constant of that name. Raises VerifyException when there is none."""
    found = SymbolTable.lookup_symbol(op, symbol)
    if not isinstance(found, ConstantOp):
        raise VerifyException(f"@{symbol.string_value()} does not name a tu.constant")
    return found


@irdl_op_definition
class LookupOp(IRDLOperation):
    """An element of a constant i32 table."""

    name = "tu.lookup"
    table = prop_def(SymbolRefAttr)
    at = operand_def(IndexType)
    value = result_def(IndexType)
    traits = traits_def(Pure())
    assembly_format = "$table `[` $at `]` attr-dict"

    def __init__(self, table: str, at: SSAValue):
        Operation.__init__(
            self, operands=[at], properties={"table": SymbolRefAttr(table)}, result_types=[IndexType()]
        )

    @property
    def constant(self) -> ConstantOp:
        return _constant(self, self.table)

    def verify_(self) -> None:
        type = self.constant.type
        if len(type.get_shape()) != 1 or type.element_type != i32:
            raise VerifyException(
                f"@{self.table.string_value()} holds {_text(type)}; a table holds one row of i32"
            )


@irdl_op_definition
class LookupRealOp(IRDLOperation):
    """An element of a constant f32 table."""

    name = "tu.lookup_real"
    table = prop_def(SymbolRefAttr)
    at = operand_def(IndexType)
    value = result_def(f32)
    traits = traits_def(Pure())
    assembly_format = "$table `[` $at `]` attr-dict"

    def __init__(self, table: str, at: SSAValue):
        super().__init__(operands=[at], properties={"table": SymbolRefAttr(table)}, result_types=[f32])

    @property
    def constant(self) -> ConstantOp:
        return _constant(self, self.table)

    def verify_(self) -> None:
        type = self.constant.type
        if len(type.get_shape()) != 1 or type.element_type != f32:
            raise VerifyException(f"@{self.table.string_value()} holds {_text(type)}; needed one row of f32")


@irdl_op_definition
class BufferOp(IRDLOperation):
    """A constant as an off-chip buffer."""

    name = "tu.buffer"
    constant_name = prop_def(SymbolRefAttr, prop_name="constant")
    buffer = result_def(BufferType)
    traits = traits_def(Pure())
    assembly_format = "$constant attr-dict `:` type($buffer)"

    def __init__(self, constant: ConstantOp):
        super().__init__(
            properties={"constant": SymbolRefAttr(constant.sym_name.data)}, result_types=[constant.type]
        )

    @property
    def constant(self) -> ConstantOp:
        return _constant(self, self.constant_name)

    def verify_(self) -> None:
        held, said = self.constant.type, self.buffer.type
        if held != said:
            raise VerifyException(
                f"@{self.constant_name.string_value()} holds {_text(held)}, the buffer says {_text(said)}"
            )


@irdl_op_definition
class OutputOp(IRDLOperation):
    """How stores convert: type(act(f32(value) * scale)), where act is ReLU or nothing."""

    name = "tu.output"
    element_type = prop_def(TypeAttribute)
    scale = prop_def(FloatAttr)
    relu = opt_prop_def(UnitAttr)
    handle = result_def(IndexType)
    traits = traits_def(Pure())
    assembly_format = "$element_type `scale` $scale (`relu` $relu^)? attr-dict"

    def __init__(self, element_type: TypeAttribute, scale: float, relu: bool):
        super().__init__(
            properties={
                "element_type": element_type,
                "scale": FloatAttr(scale, f32),
                "relu": UnitAttr() if relu else None,
            },
            result_types=[IndexType()],
        )

    @property
    def conversion(self) -> tuple[str, float, bool]:
        """Element type, scale, and whether there is a ReLU."""
        return str(self.element_type), float(self.scale.value.data), self.relu is not None


@irdl_op_definition
class AddressOp(IRDLOperation):
    """A row of an on-chip memory."""

    name = "tu.address"
    memory = prop_def(MemoryAttr)
    row = operand_def(IndexType)
    address = result_def(AddressType)
    traits = traits_def(Pure())
    assembly_format = "$memory $row attr-dict"

    def __init__(self, memory: Memory, row: SSAValue):
        Operation.__init__(
            self, operands=[row], properties={"memory": MemoryAttr(memory)}, result_types=[AddressType()]
        )
