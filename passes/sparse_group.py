"""Puts meta-ops into groups that may run at once: no two of a group write the same output.

Turns the cover of each `sparse.spmm` into a sequence of few `sparse.group`, that of each `sparse.sddmm` into
one, dense plans included. An operator that is grouped already is left alone. Nothing is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsecc.cover.group import groups
from sparsecc.cover.lift import in_order
from sparsecc.dialects.sparse import GroupOp, ProductOp, SddmmOp
from sparsecc.passes.base import ProductPass


@dataclass(frozen=True)
class SparseGroupPass(ProductPass):
    name = "sparse-group"
    summary: ClassVar = "makes conflict-free groups: covers -> sequences of groups"
    refuses: ClassVar = "nothing"

    def rewrite(self, op: ProductOp) -> ProductOp | None:
        if op.is_grouped:
            return None
        cover = op.cover()
        if isinstance(op, SddmmOp):
            # No two meta-ops hold the same point, so all of them may run at once.
            parts = [op.plane(in_order(op.plane(cover)))] if len(cover) else []
        else:
            parts = groups(cover)
        return op.with_body([GroupOp(part) for part in parts])
