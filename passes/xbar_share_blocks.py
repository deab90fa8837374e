"""Programs equal tiles once.

A tile whose cells equal those of an earlier one uses that one's array, at another time, for its own inputs
and outputs. Fewer arrays and less programming, but the uses follow each other: by default, cells are used as
often as costs no cycles by the cost model; `times` says how often at most. Exact. Dense plans are left alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsecc.crossbar.cost import cost
from sparsecc.crossbar.dense import arranged
from sparsecc.crossbar.share import shared
from sparsecc.dialects.xbar import SpmmOp
from sparsecc.passes.base import refuse
from sparsecc.passes.xbar_pass import XbarPass
from sparsecc.target.crossbar import CrossbarTarget

# How often cells may be used, tried in this order.
OFTEN = (16, 8, 4, 2)


@dataclass(frozen=True)
class XbarShareBlocksPass(XbarPass):
    name = "xbar-share-blocks"
    summary: ClassVar = "tiles with equal cells use one array, one after the other"
    refuses: ClassVar = "tiles that are not sliced, or are placed; times below 0"
    option_help: ClassVar = {"times": "tiles that may use the same cells, itself among them; 0: as pays"}

    times: int = 0

    def rewrite(self, op: SpmmOp, target: CrossbarTarget) -> SpmmOp | None:
        if self.times < 0:
            refuse(op, f"times is {self.times}; needed: at least 1, or 0 for as often as pays")
        if len(op.tiles) and op.tiles.is_placed:
            refuse(op, "its tiles are placed; run xbar-share-blocks before xbar-place")
        if self.times:
            return op.with_tiles(shared(list(op.tiles), target.level_max, self.times))
        tiles = list(op.tiles)
        for times in OFTEN:
            found = shared(tiles, target.level_max, times)
            if all(t.image < 0 for t in found):
                return None
            cycles: list[float] = []
            for some in (tiles, found):
                placed, pool = arranged(some, target, op.shape, op.space)
                cycles.append(cost(placed, target, op.space, pool.count).cycles)
            if cycles[1] <= cycles[0]:
                return op.with_tiles(found)
        return None
