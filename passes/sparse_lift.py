"""Fuses adjacent meta-ops to larger ones.

Turns the cover of each `sparse.spmm` and `sparse.sddmm` into one of fewer, larger meta-ops: first without any
refused cell inside, in the given order of axes; then, where `max-gap` allows it, over short gaps of refused
cells while the fused meta-op keeps at least the given share of cells that are needed. For `sparse.sddmm`,
whose meta-ops have all of k, N takes the place of k.

A dense plan is left alone. Refused are grouped operators, unknown orders, and gaps in order `square-first`,
which has no axis to bridge them along.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.utils.exceptions import PassFailedException

from sparsecc.cover.lift import ORDERS, lift
from sparsecc.dialects.sparse import CoverOp, ProductOp
from sparsecc.passes.base import ProductPass, refuse


@dataclass(frozen=True)
class SparseLiftPass(ProductPass):
    name = "sparse-lift"
    summary: ClassVar = "fuses adjacent meta-ops: covers of cells -> covers of fewer, larger meta-ops"
    refuses: ClassVar = "grouped operators, unknown orders, gaps in order square-first"
    option_help: ClassVar = {
        "order": f"axis to fuse along first, one of {', '.join(ORDERS)}",
        "max_gap": "unit cells of zeros a fused meta-op may hold between two that are needed",
        "min_fill": "share of cells that are needed which a meta-op fused over gaps must keep",
    }

    order: str = "k-first"
    max_gap: int = 0
    min_fill: int | float = 1.0

    def rewrite(self, op: ProductOp) -> ProductOp | None:
        if self.order not in ORDERS:
            raise PassFailedException(f"{self.name}: order {self.order!r} is not one of {', '.join(ORDERS)}")
        if self.max_gap < 0:
            raise PassFailedException(f"{self.name}: max-gap {self.max_gap} is negative")
        if self.max_gap and self.order == "square-first":
            raise PassFailedException(
                f"{self.name}: order square-first takes no max-gap; use k-first or m-first, or max-gap=0"
            )
        if op.is_dense:
            return None
        if op.is_grouped:
            refuse(op, "is grouped already; run sparse-lift before sparse-group")
        step = op.plane_unit[0 if self.order == "m-first" else 2]
        lifted = lift(op.plane(op.cover()), self.order, self.max_gap * step, self.min_fill)
        return op.with_body([CoverOp(op.plane(lifted))])
