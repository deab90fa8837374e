"""Drops what holds nothing: empty slices, and empty word lines and bit lines of the others.

A slice of a block that is all zero needs no array; a word line without a level no driver; a bit line without
one no conversions. Exact. A dense plan keeps the whole grid and is left alone. Refuses nothing but tiles
that are not sliced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsecc.crossbar.slices import without_empty
from sparsecc.dialects.xbar import SpmmOp
from sparsecc.passes.xbar_pass import XbarPass
from sparsecc.target.crossbar import CrossbarTarget


@dataclass(frozen=True)
class XbarDropEmptySlicesPass(XbarPass):
    name = "xbar-drop-empty-slices"
    summary: ClassVar = "drops tiles without a level, and lines of the others without one"
    refuses: ClassVar = "tiles that are not sliced"

    def rewrite(self, op: SpmmOp, target: CrossbarTarget) -> SpmmOp | None:
        return op.with_tiles(without_empty(op.tiles))
