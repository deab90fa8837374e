"""Selects instructions for a sparse operator on a dense tensor unit.

Turns a function that is one `sparse.spmm` or `sparse.sddmm` into a program of `tu` instructions in loops
over tables. For `sparse.spmm`:

- the output rows are cut to blocks of which the accumulators hold several, so that one is stored while the
  next is computed; the weights are packed tile by tile in the order of use and fetched some steps ahead into
  a ring of slots; tiles of X stay in the scratchpad as long as Belady's rule says;
- all meta-ops of a block of rows run one after another into its accumulators. On a single unit the order of
  the groups is thereby dissolved: partial results never leave the accumulators;
- X is stationary: a tile of rows of X is preloaded, the rows of W stream through it (`ws`), or both go to
  fragments (`mma`);
- where the target takes N:M weights (TU.SPMMA), tiles whose rows obey the pattern are packed as the values
  kept and their metadata, other tiles as they are; those of a dense plan always are;
- where meta-ops own any rows they like (bicliques), the unit must read and accumulate by index: all of X lies
  in the scratchpad, each meta-op names its rows of X and its accumulators. Where the target adds in memory
  instead, C begins as zeros, and each set of rows is added to it by index.

For `sparse.sddmm`, blocks of rows of A and panels of columns of B stay in the scratchpad while there is room;
tiles of B are stationary and the needed rows of A stream through them (`ws`), or both go to fragments
(`mma`); k is summed up in the accumulators; computed blocks are stored, others are not touched in memory. A
dense plan computes every point: the mask is not applied.

A `sparse.epilogue` of the result of an spmm is fused to its stores: accumulators begin with the bias, and
stores scale, have a ReLU and round.

Refuses functions with any other operation, epilogues that stores do not do, types the target does not have,
bicliques on a target with neither indexed addressing nor additions in memory, and memories too small for two
blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.utils.exceptions import PassFailedException

from sparsecc.codegen.indexed import IndexedWriter
from sparsecc.codegen.masked import MaskedWriter
from sparsecc.codegen.program import ProgramWriter
from sparsecc.codegen.stores import store_of
from sparsecc.codegen.tiled import TiledWriter
from sparsecc.codegen.timing import for_epilogue, measure_of, with_stores
from sparsecc.dialects.sparse import ConstantOp, ProductOp, SddmmOp, SpmmOp
from sparsecc.dialects.sparse_epilogue import EpilogueOp, epilogue_of
from sparsecc.errors import UserError
from sparsecc.passes.base import SparsePass, refuse
from sparsecc.schedule.cost import Plan
from sparsecc.schedule.indexed import IndexedPlan, build_indexed
from sparsecc.schedule.measure import TRIES, Tries, fastest
from sparsecc.schedule.planning import plan_cover
from sparsecc.schedule.sddmm import plan_mask
from sparsecc.schedule.sddmm_tables import build_masked
from sparsecc.schedule.tables import build
from sparsecc.target import Target


@dataclass(frozen=True)
class ConvertSparseToTuPass(SparsePass):
    name = "convert-sparse-to-tu"
    summary: ClassVar = "selects instructions: a function of one sparse product -> loops of tu instructions"
    refuses: ClassVar = "functions with other operations, types or sizes that the target cannot hold"
    option_help: ClassVar = {
        "target": "preset or .toml file to select instructions for",
        "simulate": "whether the simulator decides between the best schedules; needs a C compiler",
        "effort": "0 to 3: how many it decides between",
    }

    target: str = "gemmini16"
    simulate: bool = False
    effort: int = 1

    def _tries(self) -> Tries | None:
        if not 0 <= self.effort <= 3:
            raise PassFailedException(f"{self.name}: effort {self.effort} is not one of 0 to 3")
        return TRIES[self.effort] if self.simulate else None

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        target = Target.load(self.target)
        for function in [f for f in op.ops if isinstance(f, func.FuncOp)]:
            product = _only_product(function)
            try:
                writer = _writer(function, product, target, self._tries())
            except UserError as e:
                refuse(product, str(e))
            writer.emit(op)


def _only_product(function: func.FuncOp) -> ProductOp:
    """The one operator of a function that does nothing else."""
    ops = [o for o in function.body.block.ops if not isinstance(o, ConstantOp)]
    for op in ops:
        if not isinstance(op, ProductOp | EpilogueOp | func.ReturnOp):
            raise PassFailedException(
                f"@{function.sym_name.data}: {op.name} has no instructions on a tensor unit; this pipeline "
                "takes functions that are one matmul with a constant operand or mask; split the others off"
            )
    products = [o for o in ops if isinstance(o, ProductOp)]
    if len(products) != 1 or list(products[0].operands) != list(function.body.block.args):
        raise PassFailedException(
            f"@{function.sym_name.data}: found {len(products)} sparse products; this pipeline takes "
            "functions that are one sparse.spmm or sparse.sddmm of the function's arguments"
        )
    _check_epilogue(products[0], [o for o in ops if isinstance(o, EpilogueOp)])
    return products[0]


def _check_epilogue(product: ProductOp, epilogues: list[EpilogueOp]) -> None:
    """Refuses what the stores of a unit do not do to the result of a product."""
    for op in epilogues:
        if len(epilogues) > 1 or epilogue_of(product.res) is not op or not isinstance(product, SpmmOp):
            refuse(op, "is not what alone uses the result of a sparse.spmm; keep one, behind the product")
        if store_of(op.epilogue, str(product.res.type.element_type)) is None:
            refuse(
                op,
                "stores of a tensor unit add a bias to integers, scale by one number, limit below by 0 and "
                "saturate; they have no scale per row, residual, zero point or other limit",
            )


def _typed(product: ProductOp, target: Target) -> Target:
    """The target, used with the product's input type."""
    found, result = str(product.element_type), str(product.res.type.element_type)
    known = [f"{i}:{a}" for i, a in target.types]
    if f"{found}:{result}" not in known:
        raise UserError(
            f"{found} to {result} is not a type pair of target {target.name}; it has {', '.join(known)}"
        )
    return target.with_type(found)


def _writer(function: func.FuncOp, product: ProductOp, target: Target, tries: Tries | None) -> ProgramWriter:
    """The program of least cost for the cover. Raises UserError when there is none."""
    target = _typed(product, target)
    if isinstance(product, SddmmOp):
        planned = plan_mask(product.cover(), product.space, target)
        return MaskedWriter(function, product, target, build_masked(planned, target))
    assert isinstance(product, SpmmOp)
    weight, n = product.weight, product.positions
    target = with_stores(target, product)
    plan = schedule_of(product, target, tries)
    if isinstance(plan, IndexedPlan):
        program = build_indexed(plan, weight.pattern, weight.data, n, target)
        return IndexedWriter(function, product, target, program)
    plan = for_epilogue(plan, product)
    return TiledWriter(function, product, target, build(plan, weight.pattern, weight.data, n, target))


def schedule_of(product: SpmmOp, target: Target, tries: Tries | None) -> Plan | IndexedPlan:
    """The schedule that a product's cover gets; the simulator decides with `tries`, else the cost model."""
    weight, n = product.weight, product.positions
    target = with_stores(target, product)
    plan = plan_cover(product.cover(), weight.pattern, n, target, compress=not product.is_dense)
    if epilogue_of(product.res) is not None and isinstance(plan, Plan) and plan.order.added:
        raise UserError(
            "meta-ops that list the same rows differently are added in memory, where nothing can be fused to "
            "their result; use another mode of sparse-compact"
        )
    if tries is not None and isinstance(plan, Plan):
        plan, _ = fastest(plan, weight.pattern.m, n, target, tries, measure_of(product, target))
    return plan
