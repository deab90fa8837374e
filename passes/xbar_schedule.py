"""Selects instructions for a product on crossbars.

Turns a function that is one placed `xbar.spmm` into two: `program` writes the cells (XB.PROG) and says what
each block is (XB.CFG), once; the function itself loads X, multiplies (XB.MVMG: the first block of each array
at once; then an XB.MVM for every other, in turns over the arrays) and stores Y. Arrays that are
multiplexed over time are written in every inference instead. Where the memories have room, one panel of
positions loads while another is worked on.

With `any-n` the function takes the number of positions as its last argument, at most those of the operator:
one program for all of them, whose arrays are written once. Multiplexed arrays are refused there.

A `sparse.epilogue` that scales the sums to i8 is what stores do: rows of the same scale are stored together.

Refuses functions with any other operation, tiles that are not placed, and operators whose inputs or outputs
do not fit the memories.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.utils.exceptions import PassFailedException

from sparsecc.codegen.crossbar import CrossbarWriter
from sparsecc.crossbar.dense import array_count
from sparsecc.crossbar.program import build
from sparsecc.dialects.sparse import ConstantOp
from sparsecc.dialects.sparse_epilogue import EpilogueOp, epilogue_of
from sparsecc.dialects.xbar import SpmmOp
from sparsecc.epilogue import Epilogue
from sparsecc.errors import UserError
from sparsecc.passes.base import SparsePass, refuse
from sparsecc.passes.xbar_pass import crossbar_target
from sparsecc.target.crossbar import CrossbarTarget


@dataclass(frozen=True)
class XbarSchedulePass(SparsePass):
    name = "xbar-schedule"
    summary: ClassVar = (
        "selects instructions: a function of one xbar.spmm -> loops of xbar and tu instructions"
    )
    refuses: ClassVar = "functions with other operations, tiles without a place, memories that are too small"

    any_n: bool = False

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in [f for f in op.ops if isinstance(f, func.FuncOp)]:
            spmm, _ = _only_product(function)
            try:
                schedule(op, function, crossbar_target(spmm.target.data), self.any_n)
            except UserError as e:
                refuse(spmm, str(e))


def schedule(module: ModuleOp, function: func.FuncOp, target: CrossbarTarget, any_n: bool) -> None:
    """Put instructions in place of a function. Raises UserError where they do not fit the target."""
    spmm, epilogue = _only_product(function)
    tiles = spmm.tiles
    if not (tiles.is_sliced and tiles.is_placed):
        raise UserError("its tiles have no places; run xbar-slice-bits and xbar-place before")
    pool = spmm.pool(array_count(target, spmm.shape))
    program = build(tiles, spmm.space, target, pool.count)
    if any_n and program.rounds > 1:
        raise UserError(
            f"the product takes {program.rounds} times the arrays that target {target.name} has; any number "
            "of positions needs arrays that are written once, not anew in every inference: give one number, "
            "or use a target with more arrays"
        )
    CrossbarWriter(function, spmm, target, program, epilogue, any_n).emit(module)


def _only_product(function: func.FuncOp) -> tuple[SpmmOp, Epilogue | None]:
    """The one operator of a function that does nothing else, and what its stores do with the sums."""
    ops = [o for o in function.body.block.ops if not isinstance(o, ConstantOp)]
    for op in ops:
        if not isinstance(op, SpmmOp | EpilogueOp | func.ReturnOp):
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
    results: list[SSAValue] = list(products[0].results)
    if (found := epilogue_of(results[0])) is not None:
        results = list(found.results)
    if list(cast(func.ReturnOp, function.body.block.last_op).operands) != results:
        raise PassFailedException(
            f"@{function.sym_name.data}: stores do one sparse.epilogue at most, of the product and "
            "before the end; split the others off"
        )
    return products[0], found.epilogue if found is not None and _is_stored(found) else None


def _is_stored(op: EpilogueOp) -> bool:
    """True; refuses what stores do not do."""
    epilogue = op.epilogue
    if (
        epilogue.element != "i8"
        or epilogue.scale is None
        or epilogue.bias is not None
        or epilogue.residual
        or (epilogue.limited and not epilogue.relu)
        or epilogue.zero
    ):
        refuse(op, "stores of crossbars scale sums to i8, ReLU or not: no bias, residual, limits, zero point")
    return True
