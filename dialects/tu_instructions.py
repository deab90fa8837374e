"""Instructions of tensor units as operations, their operands in the order of the instruction set."""

from __future__ import annotations

from typing import ClassVar

from xdsl.dialects.builtin import IndexType, StringAttr, f32
from xdsl.ir import Operation, SSAValue
from xdsl.irdl import IRDLOperation, irdl_op_definition, operand_def, opt_prop_def

from sparsecc.dialects.tu_types import AddressType, BufferType
from sparsecc.target.instructions import INSTRUCTIONS, Instruction


class InstructionOp(IRDLOperation):
    """One instruction of the target. Its operands stand in the order of the instruction set.

    `comment` says in words what it does; the C that comes out repeats it.
    """

    MNEMONIC: ClassVar[str]
    comment = opt_prop_def(StringAttr)

    def __init__(self, *operands: SSAValue, comment: str | None = None):
        # One value for each operand, so there is nothing to group: programs have thousands of instructions.
        properties = {"comment": StringAttr(comment)} if comment else {}
        Operation.__init__(self, operands=operands, properties=properties)

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
