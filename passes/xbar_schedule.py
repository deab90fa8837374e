"""Selects instructions for a product on crossbars.

Turns a function that is one placed `xbar.spmm` into two: `program` writes the cells (XB.PROG) and says what
each block is (XB.CFG), once; the function itself loads X, multiplies (XB.MVMG: the first block of each array
at once; then an XB.MVM for every other, in turns over the arrays) and stores Y. Arrays that are
multiplexed over time are written in every inference instead. Where the memories have room, one panel of
positions loads while another is worked on.

Refuses functions with any other operation, tiles that are not placed, and operators whose inputs or outputs
do not fit the memories.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.utils.exceptions import PassFailedException

from sparsecc.codegen.crossbar import CrossbarWriter
from sparsecc.crossbar.choose import array_count
from sparsecc.crossbar.program import build
from sparsecc.dialects.sparse import ConstantOp
from sparsecc.dialects.xbar import SpmmOp
from sparsecc.errors import UserError
from sparsecc.passes.base import SparsePass, refuse
from sparsecc.passes.xbar_pass import crossbar_target


@dataclass(frozen=True)
class XbarSchedulePass(SparsePass):
    name = "xbar-schedule"
    summary: ClassVar = (
        "selects instructions: a function of one xbar.spmm -> loops of xbar and tu instructions"
    )
    refuses: ClassVar = "functions with other operations, tiles without a place, memories that are too small"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in [f for f in op.ops if isinstance(f, func.FuncOp)]:
            spmm = _only_product(function)
            tiles = spmm.tiles
            if not (tiles.is_sliced and tiles.is_placed):
                refuse(spmm, "its tiles have no places; run xbar-slice-bits and xbar-place before")
            try:
                target = crossbar_target(spmm.target.data)
                program = build(tiles, spmm.space, target, array_count(target, spmm.shape))
            except UserError as e:
                refuse(spmm, str(e))
            CrossbarWriter(function, spmm, target, program).emit(op)


def _only_product(function: func.FuncOp) -> SpmmOp:
    """The one operator of a function that does nothing else."""
    ops = [o for o in function.body.block.ops if not isinstance(o, ConstantOp)]
    for op in ops:
        if not isinstance(op, SpmmOp | func.ReturnOp):
            raise PassFailedException(
                f"@{function.sym_name.data}: {op.name} has no instructions on crossbars; this pipeline takes "
                "functions that are one product with a constant; split the others off"
            )
    products = [o for o in ops if isinstance(o, SpmmOp)]
    if len(products) != 1 or list(products[0].operands) != list(function.body.block.args):
        raise PassFailedException(
            f"@{function.sym_name.data}: found {len(products)} products on crossbars; this pipeline takes "
            "functions that are one xbar.spmm of the function's argument"
        )
    return products[0]
