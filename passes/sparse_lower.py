"""Splits meta-ops to unit cells and refuses the cells that hold no nonzero.

Turns the cover of each `sparse.spmm` and `sparse.sddmm` into one of blocks that one instruction of the unit
computes; those of a `sparse.sddmm` have all of k. Cells follow the rows and columns of the meta-op they are
cut from, so a gathered meta-op splits along its gather maps.

A dense plan is left alone, and so is a cover of unit cells. Refused are grouped operators: their order is
fixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsecc.cover.cells import split
from sparsecc.dialects.sparse import CoverOp, ProductOp
from sparsecc.passes.base import ProductPass, refuse


@dataclass(frozen=True)
class SparseLowerPass(ProductPass):
    name = "sparse-lower"
    summary: ClassVar = "splits meta-ops to unit cells: covers -> covers of cells, the empty ones refused"
    refuses: ClassVar = "grouped operators"

    def rewrite(self, op: ProductOp) -> ProductOp | None:
        if op.is_dense:
            return None
        if op.is_grouped:
            refuse(op, "is grouped already; run sparse-lower before sparse-group")
        cells = split(op.plane(op.cover()), op.weight.pattern, op.plane_unit)
        return op.with_body([CoverOp(op.plane(cells))])
