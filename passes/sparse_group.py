"""Puts meta-ops into groups that may run at once: no two of a group write the same output.

Turns the cover of each `sparse.spmm` into a sequence of few `sparse.group`, dense plans included. An operator
that is grouped already is left alone. Nothing is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsecc.cover.group import groups
from sparsecc.dialects.sparse import GroupOp, SpmmOp
from sparsecc.passes.base import SpmmPass


@dataclass(frozen=True)
class SparseGroupPass(SpmmPass):
    name = "sparse-group"
    summary: ClassVar = "makes conflict-free groups: covers -> sequences of groups"
    refuses: ClassVar = "nothing"

    def rewrite(self, op: SpmmOp) -> SpmmOp | None:
        if op.is_grouped:
            return None
        return op.with_body([GroupOp(group) for group in groups(op.cover())])
