"""Places tiles: the array, word line and bit line of each.

Each tile gets an array of its own while there are enough; otherwise tiles lie beside and below each other in
one array and are read one after another, arrays with little to do first. `arrays` limits how many are used;
left out, it is as many as the dense mapping takes. Cells that do not fit take more; those beyond what the
chip has are virtual and are programmed anew in every inference. Where the target's arrays take several
shapes from one pool of cells, each array gets the smallest around what lies in it, if no cycles or energy are
lost: more arrays then come from the same cells. Dense plans, and those with `arrays`, keep one shape.
`sparsecc.crossbar.place.place_table` lists where each weight went. Exact. Refuses tiles that are not sliced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsecc.crossbar.dense import arranged, spread
from sparsecc.dialects.xbar import SpmmOp
from sparsecc.passes.base import refuse
from sparsecc.passes.xbar_pass import XbarPass
from sparsecc.target.crossbar import CrossbarTarget


@dataclass(frozen=True)
class XbarPlacePass(XbarPass):
    name = "xbar-place"
    summary: ClassVar = "the array, word line and bit line of each tile"
    refuses: ClassVar = "tiles that are not sliced, limits below one array"
    option_help: ClassVar = {
        "arrays": "arrays to spread over; the cells that the dense mapping takes if left out"
    }
    dense: ClassVar = True

    arrays: int | None = None

    def rewrite(self, op: SpmmOp, target: CrossbarTarget) -> SpmmOp | None:
        if self.arrays is not None and self.arrays < 1:
            refuse(op, f"arrays is {self.arrays}; needed: at least 1")
        if op.is_dense or self.arrays is not None:
            return op.with_tiles(spread(list(op.tiles), target, op.shape, op.space, self.arrays))
        tiles, pool = arranged(list(op.tiles), target, op.shape, op.space)
        return op.with_tiles(tiles).with_arrays(pool)
