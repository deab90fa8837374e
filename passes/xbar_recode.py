"""Gives weights other digits, whose bit lines sum to less.

Of the exact ways to cut a weight to the slices its block has (`sparsecc.crossbar.recode`), those are taken
for which the converters need fewest bits once they are fitted: signed digits in differential cells; in offset
cells slices of either sign, and the top slice on a bit line for each sign where the array has some left.
Exact. Dense plans, whose converters are not fitted, and targets with operation units are left alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsecc.crossbar.recode import recoded
from sparsecc.dialects.xbar import SpmmOp
from sparsecc.passes.base import refuse
from sparsecc.passes.xbar_pass import XbarPass
from sparsecc.target.crossbar import CrossbarTarget


@dataclass(frozen=True)
class XbarRecodePass(XbarPass):
    name = "xbar-recode"
    summary: ClassVar = "cuts weights to other digits, whose sums need fewer bits of conversion"
    refuses: ClassVar = "tiles that are not sliced, or are bundled or placed"

    def rewrite(self, op: SpmmOp, target: CrossbarTarget) -> SpmmOp | None:
        if len(op.tiles) and (op.tiles.is_placed or any(t.bundle >= 0 or t.image >= 0 for t in op.tiles)):
            refuse(op, "its tiles are bundled, share cells, or are placed; run xbar-recode before")
        return op.with_tiles(recoded(op.tiles, target, op.shape))
