"""Gives every bit line the fewest bits of conversion that cannot clip.

The bound is `sparsecc.crossbar.adc`: what a bit line can sum in one step, over all inputs. Sparse tiles sum
little, so they need few bits, and the time and energy of a converter grow with them. A tile whose bit lines
need different bits becomes a bundle of several, except where operation units are narrower than an array.
Where even the target's converters may clip, the tile is read in runs of its word lines that they cannot; with
`clip`, it is left whole, gets all bits, and the operator says in `xbar.may_clip` how many such tiles it has.
Bit lines of the offset encoding are flipped anew where lines were dropped. Exact unless `clip`. Dense plans
keep the target's bits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from xdsl.dialects.builtin import IntegerAttr, i64

from sparsecc.crossbar.adc import bits_needed
from sparsecc.crossbar.cost import fitted_bits
from sparsecc.crossbar.encode import Encoding
from sparsecc.crossbar.lowering import exact, fitted
from sparsecc.crossbar.slices import flipped
from sparsecc.crossbar.tiles import Tile
from sparsecc.dialects.xbar import SpmmOp
from sparsecc.passes.xbar_pass import XbarPass
from sparsecc.target.crossbar import CrossbarTarget

MAY_CLIP = "xbar.may_clip"


@dataclass(frozen=True)
class XbarFitAdcPass(XbarPass):
    name = "xbar-fit-adc"
    summary: ClassVar = "the fewest conversion bits of each bit line that provably cannot clip"
    refuses: ClassVar = "tiles that are not sliced"
    option_help: ClassVar = {"clip": "tiles that the target's converters may clip are left as they are"}
    dense: ClassVar = True

    clip: bool = False

    def rewrite(self, op: SpmmOp, target: CrossbarTarget) -> SpmmOp | None:
        if not self.clip:
            return op.with_tiles(
                exact(list(op.tiles), target) if op.is_dense else fitted(list(op.tiles), target)
            )
        tiles = list(op.tiles)
        new = op.with_tiles(tiles if op.is_dense else [_whole(t, target) for t in tiles])
        if clipping := sum(bits_needed(t, target) > target.adc.bits for t in new.tiles):
            new.attributes[MAY_CLIP] = IntegerAttr(clipping, i64)
        return new


def _whole(tile: Tile, target: CrossbarTarget) -> Tile:
    lines = flipped(tile, Encoding.of(target))
    return replace(lines, adc_bits=fitted_bits(lines, target))
