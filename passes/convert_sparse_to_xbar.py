"""Puts a sparse operator's meta-ops on crossbar arrays.

Turns each `sparse.spmm` into an `xbar.spmm` of blocks: meta-ops are cut to the array's word lines (inputs)
and bit lines (outputs), or to so few outputs that all slices fit one array, their empty lines left out, and
small blocks packed, several to an array, where their inputs and outputs allow (`pack`: yes, no, or auto,
which asks the cost model). A dense plan becomes the whole grid, empty arrays included. Targets whose arrays
take several shapes get the shape that costs least.

Refuses other types than i8 to i32, `sparse.sddmm` (nothing constant to program), and targets without
crossbars.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.rewriter import Rewriter
from xdsl.utils.exceptions import PassFailedException

from sparsecc.crossbar.assign import Shape
from sparsecc.crossbar.choose import cheapest_blocks, dense_cost
from sparsecc.crossbar.dense import dense_blocks
from sparsecc.crossbar.tiles import Tiles
from sparsecc.dialects import xbar
from sparsecc.dialects.sparse import ProductOp, SpmmOp
from sparsecc.dialects.sparse_quantization import QUANTIZATION, quantization_of
from sparsecc.errors import UserError
from sparsecc.passes.base import SparsePass, refuse
from sparsecc.passes.xbar_pass import crossbar_target
from sparsecc.target.crossbar import CrossbarTarget

PACK = ("auto", "yes", "no")


@dataclass(frozen=True)
class ConvertSparseToXbarPass(SparsePass):
    name = "convert-sparse-to-xbar"
    summary: ClassVar = "puts meta-ops on arrays: sparse.spmm -> xbar.spmm of blocks of weights"
    refuses: ClassVar = "types other than i8 to i32, sparse.sddmm, targets without crossbars"
    option_help: ClassVar = {
        "target": "preset or .toml file with the arrays",
        "pack": "several small blocks to an array: yes, no, or auto, which asks the cost model",
    }

    target: str = "isaac128"
    pack: str = "auto"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        try:
            target = crossbar_target(self.target)
        except UserError as e:
            raise PassFailedException(str(e)) from e
        for product in [found for found in op.walk() if isinstance(found, ProductOp)]:
            if not isinstance(product, SpmmOp):
                refuse(
                    product, "a crossbar multiplies by constants; sparse.sddmm has none; use a tensor unit"
                )
            if self.pack not in PACK:
                refuse(product, f"pack is {self.pack!r}; it is one of {', '.join(PACK)}")
            types = str(product.element_type), str(product.res.type.element_type)
            if types != ("i8", "i32"):
                refuse(
                    product, f"{types[0]} to {types[1]} is not what target {target.name} computes: i8 to i32"
                )
            try:
                shape, blocks = self._blocks(product, target)
            except UserError as e:
                refuse(product, str(e))
            new = xbar.SpmmOp(
                product.x, product.weight, self.target, shape, blocks, product.res.type, product.plan,
                product.reason,
            )  # fmt: skip
            new.attributes |= product.attributes
            if (found := quantization_of(product)) is not None:
                new.attributes[QUANTIZATION] = found.with_offset(target.weight_offset)
            new.location = product.location
            Rewriter.replace_op(product, new)

    def _blocks(self, op: SpmmOp, target: CrossbarTarget) -> tuple[Shape, Tiles]:
        pattern, data = op.weight.pattern, op.weight.data
        shape = target.array.rows, target.array.cols
        if op.is_dense:
            return shape, Tiles.of(dense_blocks(pattern, data, op.positions, target))
        allowed = {"auto": (False, True), "yes": (True,), "no": (False,)}[self.pack]
        # What is chosen should take no more cycles than the dense mapping.
        limits = dense_cost(pattern, data, op.positions, target)
        found = cheapest_blocks(op.cover(), pattern, data, op.positions, target, allowed, limits)
        return found.shape, Tiles.of(found.blocks)
