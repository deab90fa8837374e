"""Gives every tile the fewest bits of conversion that cannot clip.

The bound is `sparsecc.crossbar.adc`: what a bit line can sum in one step, over all inputs. Sparse tiles sum
little, so they need few bits, and the time and energy of a converter grow with them. Never more than the
target's converter has: where even that may clip, the tile gets all its bits and the operator the attribute
`xbar.may_clip`, the number of such tiles. Bit lines of the offset encoding are flipped anew where lines were
dropped. Exact. Dense plans keep the target's bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.dialects.builtin import IntegerAttr, i64

from sparsecc.crossbar.adc import bits_needed
from sparsecc.crossbar.choose import fitted
from sparsecc.dialects.xbar import SpmmOp
from sparsecc.passes.xbar_pass import XbarPass
from sparsecc.target.crossbar import CrossbarTarget

MAY_CLIP = "xbar.may_clip"


@dataclass(frozen=True)
class XbarFitAdcPass(XbarPass):
    name = "xbar-fit-adc"
    summary: ClassVar = "the fewest conversion bits of each tile that provably cannot clip"
    refuses: ClassVar = "tiles that are not sliced"
    dense: ClassVar = True

    def rewrite(self, op: SpmmOp, target: CrossbarTarget) -> SpmmOp | None:
        new = op if op.is_dense else op.with_tiles(fitted(op.tiles, target))
        clipping = sum(bits_needed(t, target) > target.adc.bits for t in new.tiles)
        if op.is_dense and not clipping:
            return None
        new = op.with_tiles(op.tiles) if op.is_dense else new
        if clipping:
            new.attributes[MAY_CLIP] = IntegerAttr(clipping, i64)
        return new
