"""Instructions of memristor crossbars: their operands as `sparsecc.target.crossbar_instructions` has them."""

from __future__ import annotations

from typing import ClassVar

from xdsl.dialects.builtin import IndexType
from xdsl.irdl import irdl_op_definition, operand_def

from sparsecc.dialects.tu_instructions import InstructionOp
from sparsecc.dialects.tu_types import AddressType, BufferType


class CrossbarOp(InstructionOp):
    """One instruction of the arrays."""

    @property
    def c_name(self) -> str:
        return f"ax_{self.MNEMONIC.lower().replace('.', '_')}"


@irdl_op_definition
class ShapeOp(CrossbarOp):
    """XB.SHAPE: arrays from `first` on have this shape."""

    name = "xbar.shape"
    MNEMONIC: ClassVar = "XB.SHAPE"
    first = operand_def(IndexType)
    count = operand_def(IndexType)
    rows = operand_def(IndexType)
    cols = operand_def(IndexType)
    assembly_format = "$first `count` $count `rows` $rows `cols` $cols (`comment` $comment^)? attr-dict"


@irdl_op_definition
class ProgOp(CrossbarOp):
    """XB.PROG: cells of an array get the levels of a buffer."""

    name = "xbar.prog"
    MNEMONIC: ClassVar = "XB.PROG"
    array = operand_def(IndexType)
    row = operand_def(IndexType)
    rows = operand_def(IndexType)
    column = operand_def(IndexType)
    cols = operand_def(IndexType)
    buffer = operand_def(BufferType)
    offset = operand_def(IndexType)
    stride = operand_def(IndexType)
    assembly_format = (
        "$array `at` `[` $row `,` $column `]` `,` $buffer `[` $offset `]` `stride` $stride `rows` $rows"
        " `cols` $cols (`comment` $comment^)? attr-dict `:` type($buffer)"
    )


@irdl_op_definition
class CfgOp(CrossbarOp):
    """XB.CFG: what a block is: cells, shift, conversions, and where its inputs and outputs are."""

    name = "xbar.cfg"
    MNEMONIC: ClassVar = "XB.CFG"
    block_number = operand_def(IndexType)
    array = operand_def(IndexType)
    row = operand_def(IndexType)
    rows = operand_def(IndexType)
    column = operand_def(IndexType)
    cols = operand_def(IndexType)
    in_row = operand_def(IndexType)
    out_row = operand_def(IndexType)
    shift = operand_def(IndexType)
    adc_bits = operand_def(IndexType)
    offset = operand_def(IndexType)
    tables = operand_def(BufferType)
    in_index = operand_def(IndexType)
    out_index = operand_def(IndexType)
    doubled = operand_def(IndexType)
    flipped = operand_def(IndexType)
    assembly_format = (
        "$block_number `is` $array `at` `[` $row `,` $column `]` `rows` $rows `cols` $cols `in` $in_row `out`"
        " $out_row `shl` $shift `adc` $adc_bits `offset` $offset `lists` $tables `[` $in_index `,` $out_index"
        " `,` $doubled `,` $flipped `]` (`comment` $comment^)? attr-dict `:` type($tables)"
    )


@irdl_op_definition
class MvmOp(CrossbarOp):
    """XB.MVM: one block multiplies n vectors."""

    name = "xbar.mvm"
    MNEMONIC: ClassVar = "XB.MVM"
    block_number = operand_def(IndexType)
    src = operand_def(AddressType)
    in_step = operand_def(IndexType)
    dst = operand_def(AddressType)
    out_step = operand_def(IndexType)
    n = operand_def(IndexType)
    accumulate = operand_def(IndexType)
    assembly_format = (
        "$dst `step` $out_step `,` $block_number `,` $src `step` $in_step `n` $n `accumulate` $accumulate"
        " (`comment` $comment^)? attr-dict"
    )


@irdl_op_definition
class MvmgOp(CrossbarOp):
    """XB.MVMG: blocks of different arrays multiply n vectors at once."""

    name = "xbar.mvmg"
    MNEMONIC: ClassVar = "XB.MVMG"
    first = operand_def(IndexType)
    count = operand_def(IndexType)
    src = operand_def(AddressType)
    in_step = operand_def(IndexType)
    dst = operand_def(AddressType)
    out_step = operand_def(IndexType)
    n = operand_def(IndexType)
    accumulate = operand_def(IndexType)
    assembly_format = (
        "$dst `step` $out_step `,` $first `count` $count `,` $src `step` $in_step `n` $n `accumulate`"
        " $accumulate (`comment` $comment^)? attr-dict"
    )


@irdl_op_definition
class DoneOp(CrossbarOp):
    """XB.DONE: programming is over; what follows is inference."""

    name = "xbar.done"
    MNEMONIC: ClassVar = "XB.DONE"
    assembly_format = "(`comment` $comment^)? attr-dict"
