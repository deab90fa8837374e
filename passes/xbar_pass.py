"""What the passes over `xbar.spmm` have in common."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.rewriter import Rewriter

from sparsecc.dialects.xbar import SpmmOp
from sparsecc.errors import UserError
from sparsecc.passes.base import SparsePass, refuse
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.load import load_target


def crossbar_target(name: str) -> CrossbarTarget:
    """The target of that name or path. Raises UserError for one without crossbars."""
    target = load_target(name)
    if not isinstance(target, CrossbarTarget):
        raise UserError(
            f"target {target.name} has no crossbars; name one of family 'crossbar', such as isaac128"
        )
    return target


@dataclass(frozen=True)
class XbarPass(SparsePass):
    """A pass that looks at each `xbar.spmm` on its own."""

    sliced: ClassVar[bool | None] = True
    """Whether it needs tiles that are bit slices (True) or blocks of weights (False)."""
    dense: ClassVar = False
    """Whether it changes operators with a dense plan, too."""

    @abstractmethod
    def rewrite(self, op: SpmmOp, target: CrossbarTarget) -> SpmmOp | None:
        """The operator with other tiles; None to leave it alone."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for spmm in [found for found in op.walk() if isinstance(found, SpmmOp)]:
            if spmm.is_dense and not self.dense:
                continue
            if len(spmm.tiles) and spmm.tiles.is_sliced != self.sliced:
                found, needed = ("bit slices", "blocks of weights") if not self.sliced else (
                    "blocks of weights", "bit slices; run xbar-slice-bits before"
                )  # fmt: skip
                refuse(spmm, f"its tiles are {found}; {self.name} needs {needed}")
            try:
                new = self.rewrite(spmm, crossbar_target(spmm.target.data))
            except UserError as e:
                refuse(spmm, str(e))
            if new is not None:
                Rewriter.replace_op(spmm, new)
