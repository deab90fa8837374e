"""Programs for dense tensor units: one operation per instruction of the target, in plain loops over tables.

Instructions take their operands in the order of the instruction set (`sparsecc.target.instructions`): on-chip
addresses, off-chip buffers and plain index values. Loops, branches and arithmetic are upstream `scf`, `arith`
and `func`; the tables that drive them are `tu.constant`.

```mlir
tu.constant @step_rows : 3xi32 [16, 16, 9]
func.func @infer(%x: !tu.buffer<64x32xi8>, %y: !tu.buffer<48x32xi32>) {
  %w = tu.buffer @weights : !tu.buffer<41x16xi8>
  scf.for %s = %c0 to %c3 step %c1 {
    %rows = tu.lookup @step_rows[%s]
    %a = tu.address spad %c0
    tu.ld %a step %c0, %w[%c0] stride %c16 rows %rows cols %c16
```
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import (
    ArrayAttr,
    FloatAttr,
    IndexType,
    IntAttr,
    StringAttr,
    SymbolRefAttr,
    UnitAttr,
    f32,
    i32,
)
from xdsl.dialects.utils import EnumAttribute
from xdsl.ir import (
    Attribute,
    Data,
    Dialect,
    Operation,
    ParametrizedAttribute,
    SpacedOpaqueSyntaxAttribute,
    SSAValue,
    TypeAttribute,
)
from xdsl.irdl import (
    IRDLOperation,
    irdl_attr_definition,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.parser import AttrParser, Parser
from xdsl.printer import Printer
from xdsl.traits import Pure, SymbolOpInterface, SymbolTable
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.str_enum import StrEnum

from sparsecc.blobs import Blob
from sparsecc.dialects.sparse import numpy_type
from sparsecc.target.instructions import INSTRUCTIONS, Instruction

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


def _parse_elements(parser: AttrParser, shape: Sequence[int], element_type: Attribute) -> Blob:
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


def _print_elements(printer: Printer, blob: Blob) -> None:
    """The elements as `_parse_elements` reads them."""
    values = cast("list[int]", blob.arrays["data"].reshape(-1).tolist())
    printer.print_string(f"[{', '.join(map(str, values))}]")


def _is_printed(blob: Blob) -> bool:
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
            return _parse_elements(parser, shape, element_type)

    def print_parameter(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            if _is_printed(self.data):
                shape = self.data.arrays["data"].shape
                printer.print_string("".join(f"{d}x" for d in shape) + "i32 ")
                _print_elements(printer, self.data)
            else:
                printer.print_string_literal(self.data.digest)


@irdl_op_definition
class ConstantOp(IRDLOperation):
    """A named constant array: a table to look up, or an off-chip buffer."""

    name = "tu.constant"
    sym_name = prop_def(StringAttr)
    type = prop_def(BufferType)
    data = prop_def(ArrayDataAttr)
    traits = traits_def(SymbolOpInterface())

    def __init__(self, name: str, array: NDArray[np.generic], element_type: TypeAttribute):
        super().__init__(
            properties={
                "sym_name": StringAttr(name),
                "type": BufferType(array.shape, element_type),
                "data": ArrayDataAttr(Blob.of(data=array)),
            }
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
            blob = _parse_elements(parser, shape, element_type)
        buffer = BufferType(shape, cast(TypeAttribute, element_type))
        return cls.create(properties={"sym_name": name, "type": buffer, "data": ArrayDataAttr(blob)})

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.sym_name.data)
        printer.print_string(" : " + "".join(f"{d}x" for d in self.type.get_shape()))
        printer.print_attribute(self.type.element_type)
        printer.print_string(" ")
        if _is_printed(self.data.data):
            _print_elements(printer, self.data.data)
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
        super().__init__(
            operands=[at], properties={"table": SymbolRefAttr(table)}, result_types=[IndexType()]
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
        super().__init__(
            operands=[row], properties={"memory": MemoryAttr(memory)}, result_types=[AddressType()]
        )


class InstructionOp(IRDLOperation):
    """One instruction of the target. Its operands stand in the order of the instruction set.

    `comment` says in words what it does; the C that comes out repeats it.
    """

    MNEMONIC: ClassVar[str]
    comment = opt_prop_def(StringAttr)

    def __init__(self, *operands: SSAValue, comment: str | None = None):
        super().__init__(operands=operands, properties={"comment": StringAttr(comment) if comment else None})

    @property
    def instruction(self) -> Instruction:
        return INSTRUCTIONS[self.MNEMONIC]

    @property
    def c_name(self) -> str:
        """What C calls it."""
        return self.instruction.c_name


@irdl_op_definition
class LdOp(InstructionOp):
    """LD: rows of an off-chip array to the chip."""

    name = "tu.ld"
    MNEMONIC: ClassVar = "LD"
    dst = operand_def(AddressType)
    step = operand_def(IndexType)
    buffer = operand_def(BufferType)
    offset = operand_def(IndexType)
    stride = operand_def(IndexType)
    rows = operand_def(IndexType)
    cols = operand_def(IndexType)
    assembly_format = (
        "$dst `step` $step `,` $buffer `[` $offset `]` `stride` $stride `rows` $rows `cols` $cols"
        " (`comment` $comment^)? attr-dict `:` type($buffer)"
    )


@irdl_op_definition
class LdgOp(InstructionOp):
    """LDG: rows of an off-chip array to the chip, by index."""

    name = "tu.ldg"
    MNEMONIC: ClassVar = "LDG"
    dst = operand_def(AddressType)
    step = operand_def(IndexType)
    buffer = operand_def(BufferType)
    offset = operand_def(IndexType)
    stride = operand_def(IndexType)
    index = operand_def(BufferType)
    index_offset = operand_def(IndexType)
    rows = operand_def(IndexType)
    cols = operand_def(IndexType)
    assembly_format = (
        "$dst `step` $step `,` $buffer `[` $offset `]` `stride` $stride `by` $index `[` $index_offset `]`"
        " `rows` $rows `cols` $cols (`comment` $comment^)? attr-dict `:` type($buffer) `,` type($index)"
    )


@irdl_op_definition
class StOp(InstructionOp):
    """ST: accumulators to rows of an off-chip array; `output` is the conversion, 0 for none."""

    name = "tu.st"
    MNEMONIC: ClassVar = "ST"
    buffer = operand_def(BufferType)
    offset = operand_def(IndexType)
    stride = operand_def(IndexType)
    src = operand_def(AddressType)
    step = operand_def(IndexType)
    rows = operand_def(IndexType)
    cols = operand_def(IndexType)
    output = operand_def(IndexType)
    assembly_format = (
        "$buffer `[` $offset `]` `stride` $stride `,` $src `step` $step `rows` $rows `cols` $cols"
        " `output` $output (`comment` $comment^)? attr-dict `:` type($buffer)"
    )


@irdl_op_definition
class StsOp(InstructionOp):
    """STS: accumulators to rows of an off-chip array, by index; `add` 1 adds to what is there."""

    name = "tu.sts"
    MNEMONIC: ClassVar = "STS"
    buffer = operand_def(BufferType)
    offset = operand_def(IndexType)
    stride = operand_def(IndexType)
    index = operand_def(BufferType)
    index_offset = operand_def(IndexType)
    src = operand_def(AddressType)
    step = operand_def(IndexType)
    rows = operand_def(IndexType)
    cols = operand_def(IndexType)
    output = operand_def(IndexType)
    add = operand_def(IndexType)
    assembly_format = (
        "$buffer `[` $offset `]` `stride` $stride `by` $index `[` $index_offset `]` `,` $src `step` $step"
        " `rows` $rows `cols` $cols `output` $output `add` $add (`comment` $comment^)? attr-dict"
        " `:` type($buffer) `,` type($index)"
    )


@irdl_op_definition
class MvOp(InstructionOp):
    """MV: rows from one on-chip memory to another."""

    name = "tu.mv"
    MNEMONIC: ClassVar = "MV"
    dst = operand_def(AddressType)
    dst_step = operand_def(IndexType)
    src = operand_def(AddressType)
    src_step = operand_def(IndexType)
    rows = operand_def(IndexType)
    blocks = operand_def(IndexType)
    assembly_format = (
        "$dst `step` $dst_step `,` $src `step` $src_step `rows` $rows `blocks` $blocks"
        " (`comment` $comment^)? attr-dict"
    )


@irdl_op_definition
class FillOp(InstructionOp):
    """FILL: rows of one value."""

    name = "tu.fill"
    MNEMONIC: ClassVar = "FILL"
    dst = operand_def(AddressType)
    rows = operand_def(IndexType)
    value = operand_def(IndexType)
    assembly_format = "$dst `rows` $rows `value` $value (`comment` $comment^)? attr-dict"


@irdl_op_definition
class FillRealOp(InstructionOp):
    """FILL: rows of one value, which is a float."""

    name = "tu.fill_real"
    MNEMONIC: ClassVar = "FILL"
    dst = operand_def(AddressType)
    rows = operand_def(IndexType)
    value = operand_def(f32)
    assembly_format = "$dst `rows` $rows `value` $value (`comment` $comment^)? attr-dict"


@irdl_op_definition
class PreOp(InstructionOp):
    """TU.PRE: load the stationary tile."""

    name = "tu.pre"
    MNEMONIC: ClassVar = "TU.PRE"
    b = operand_def(AddressType)
    rows = operand_def(IndexType)
    cols = operand_def(IndexType)
    assembly_format = "$b `rows` $rows `cols` $cols (`comment` $comment^)? attr-dict"


@irdl_op_definition
class MmOp(InstructionOp):
    """TU.MM: stream rows through the stationary tile into accumulators."""

    name = "tu.mm"
    MNEMONIC: ClassVar = "TU.MM"
    c = operand_def(AddressType)
    a = operand_def(AddressType)
    rows = operand_def(IndexType)
    accumulate = operand_def(IndexType)
    assembly_format = "$c `,` $a `rows` $rows `accumulate` $accumulate (`comment` $comment^)? attr-dict"


@irdl_op_definition
class PrexOp(InstructionOp):
    """TU.PREX: load the stationary tile from rows that a list names; lists lie in SPAD."""

    name = "tu.prex"
    MNEMONIC: ClassVar = "TU.PREX"
    b = operand_def(AddressType)
    index = operand_def(AddressType)
    rows = operand_def(IndexType)
    cols = operand_def(IndexType)
    assembly_format = "$b `by` $index `rows` $rows `cols` $cols (`comment` $comment^)? attr-dict"


@irdl_op_definition
class MmxOp(InstructionOp):
    """TU.MMX: stream rows through the stationary tile, added to accumulators that a list names."""

    name = "tu.mmx"
    MNEMONIC: ClassVar = "TU.MMX"
    c = operand_def(AddressType)
    a = operand_def(AddressType)
    index = operand_def(AddressType)
    rows = operand_def(IndexType)
    assembly_format = "$c `,` $a `by` $index `rows` $rows (`comment` $comment^)? attr-dict"


@irdl_op_definition
class MmaOp(InstructionOp):
    """TU.MMA: multiply two fragments into accumulators."""

    name = "tu.mma"
    MNEMONIC: ClassVar = "TU.MMA"
    c = operand_def(AddressType)
    c_step = operand_def(IndexType)
    a = operand_def(AddressType)
    a_step = operand_def(IndexType)
    b = operand_def(AddressType)
    b_step = operand_def(IndexType)
    m = operand_def(IndexType)
    n = operand_def(IndexType)
    k = operand_def(IndexType)
    accumulate = operand_def(IndexType)
    assembly_format = (
        "$c `step` $c_step `,` $a `step` $a_step `,` $b `step` $b_step `m` $m `n` $n `k` $k"
        " `accumulate` $accumulate (`comment` $comment^)? attr-dict"
    )


@irdl_op_definition
class SpmmaOp(InstructionOp):
    """TU.SPMMA: multiply two fragments, the left one with N:M sparsity along k; `meta` names its columns."""

    name = "tu.spmma"
    MNEMONIC: ClassVar = "TU.SPMMA"
    c = operand_def(AddressType)
    c_step = operand_def(IndexType)
    a = operand_def(AddressType)
    meta = operand_def(AddressType)
    b = operand_def(AddressType)
    b_step = operand_def(IndexType)
    m = operand_def(IndexType)
    n = operand_def(IndexType)
    k = operand_def(IndexType)
    keep = operand_def(IndexType)
    group = operand_def(IndexType)
    accumulate = operand_def(IndexType)
    assembly_format = (
        "$c `step` $c_step `,` $a `by` $meta `,` $b `step` $b_step `m` $m `n` $n `k` $k"
        " `keep` $keep `of` $group `accumulate` $accumulate (`comment` $comment^)? attr-dict"
    )


@irdl_op_definition
class FenceOp(InstructionOp):
    """FENCE: what follows starts after everything before has completed."""

    name = "tu.fence"
    MNEMONIC: ClassVar = "FENCE"
    assembly_format = "(`comment` $comment^)? attr-dict"


Tu = Dialect(
    "tu",
    [
        AddressOp, BufferOp, ConstantOp, FenceOp, FillOp, FillRealOp, LdOp, LdgOp, LookupOp, LookupRealOp,
        MmOp, MmaOp, MmxOp, MvOp,
        OutputOp,
        PreOp, PrexOp, SpmmaOp, StOp, StsOp,
    ],
    [AddressType, ArrayDataAttr, BufferType, MemoryAttr],
)  # fmt: skip
