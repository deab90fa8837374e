"""Cuts weights to bit slices, one tile for each.

Turns each block of weights of an `xbar.spmm` into tiles of levels, `cell_bits` bits of each weight in one
tile, in the target's encoding: differential (sign and magnitude) or offset (weight + 128, bit lines flipped
where that makes their sums smaller, as in ISAAC). Exact; refuses weights outside the encoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsecc.crossbar.encode import Encoding
from sparsecc.crossbar.slices import sliced
from sparsecc.dialects.xbar import SpmmOp
from sparsecc.passes.xbar_pass import XbarPass
from sparsecc.target.crossbar import CrossbarTarget


@dataclass(frozen=True)
class XbarSliceBitsPass(XbarPass):
    name = "xbar-slice-bits"
    summary: ClassVar = (
        "cuts weights to bit slices: xbar.spmm of blocks -> xbar.spmm of a tile for each slice"
    )
    refuses: ClassVar = "weights outside the encoding, and tiles that are slices already"
    sliced: ClassVar = False
    dense: ClassVar = True

    def rewrite(self, op: SpmmOp, target: CrossbarTarget) -> SpmmOp | None:
        return op.with_tiles(sliced(op.tiles, Encoding.of(target)))
