"""Squeezes the sparse top slice of blocks out (SME, ICCD 2021).

Where all word lines of a block's top slice can move to the slice below, their inputs doubled, that slice
needs no array; see `sparsecc.crossbar.squeeze`. Exact: a line moves whole if all its weights are even, else
its top levels get a line of their own if the array below has one left. With `lossy`, lines may lose the
lowest bit of their weights; how many weights changed is kept in the operator as `lost` and told. Done where
it takes less energy by the cost model, or everywhere with `always`. Blocks in the offset encoding, which has
no zeros to win, and dense plans are left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sparsecc.crossbar.encode import Encoding
from sparsecc.crossbar.lowering import squeeze_judge
from sparsecc.crossbar.squeeze import squeezed
from sparsecc.crossbar.tiles import Tile
from sparsecc.dialects.xbar import SpmmOp
from sparsecc.passes.xbar_pass import XbarPass
from sparsecc.target.crossbar import CrossbarTarget


@dataclass(frozen=True)
class XbarSqueezeOutPass(XbarPass):
    name = "xbar-squeeze-out"
    summary: ClassVar = "moves word lines of sparse top slices to the slices below, inputs doubled"
    refuses: ClassVar = "tiles that are not sliced"
    option_help: ClassVar = {
        "lossy": "lines may lose the lowest bit of their weights",
        "always": "also where the cost model sees no gain",
    }

    lossy: bool = False
    always: bool = False

    def rewrite(self, op: SpmmOp, target: CrossbarTarget) -> SpmmOp | None:
        better = _always if self.always else squeeze_judge(target, op.shape)
        found = squeezed(list(op.tiles), Encoding.of(target), op.shape[0], better, self.lossy)
        return op.with_tiles(found.tiles, found.lost) if found.slices else None


def _always(before: Sequence[Tile], after: Sequence[Tile]) -> bool:
    return True
