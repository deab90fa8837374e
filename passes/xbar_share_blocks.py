"""Programs equal tiles once.

A tile whose cells equal those of an earlier one uses that one's array, at another time, for its own inputs
and outputs. Fewer arrays and less programming, more time: done only as often as `times` says. Exact. Dense
plans are left alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsecc.crossbar.share import shared
from sparsecc.dialects.xbar import SpmmOp
from sparsecc.passes.base import refuse
from sparsecc.passes.xbar_pass import XbarPass
from sparsecc.target.crossbar import CrossbarTarget


@dataclass(frozen=True)
class XbarShareBlocksPass(XbarPass):
    name = "xbar-share-blocks"
    summary: ClassVar = "tiles with equal cells use one array, one after the other"
    refuses: ClassVar = "tiles that are not sliced, or are placed; fewer than one use"
    option_help: ClassVar = {"times": "tiles that may use the same cells, itself among them"}

    times: int = 4

    def rewrite(self, op: SpmmOp, target: CrossbarTarget) -> SpmmOp | None:
        if self.times < 1:
            refuse(op, f"times is {self.times}; needed: at least 1")
        if len(op.tiles) and op.tiles.is_placed:
            refuse(op, "its tiles are placed; run xbar-share-blocks before xbar-place")
        return op.with_tiles(shared(list(op.tiles), target.level_max, self.times))
