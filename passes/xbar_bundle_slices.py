"""Puts the slices of a block side by side in one array, to be read at once.

Slices of one block have nearly the same inputs. Side by side on the same word lines (a bundle,
`sparsecc.crossbar.bundle`), as ISAAC holds them, one driver and one reading of an input serves all of them,
and their results meet in shift-and-add before they get to the sums. Done for every block whose slices fit the
bit lines of an array, where it takes less energy by the cost model. Exact. Dense plans, too, are put so where
their blocks fit. Targets with operation units of fewer bit lines than the array are left alone, and tiles
that share their cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsecc.crossbar.lowering import bundled, judge
from sparsecc.dialects.xbar import SpmmOp
from sparsecc.passes.base import refuse
from sparsecc.passes.xbar_pass import XbarPass
from sparsecc.target.crossbar import CrossbarTarget


@dataclass(frozen=True)
class XbarBundleSlicesPass(XbarPass):
    name = "xbar-bundle-slices"
    summary: ClassVar = "puts the slices of a block side by side in one array, to be read at once"
    refuses: ClassVar = "tiles that are not sliced, or are placed"
    dense: ClassVar = True

    def rewrite(self, op: SpmmOp, target: CrossbarTarget) -> SpmmOp | None:
        if len(op.tiles) and op.tiles.is_placed:
            refuse(op, "its tiles are placed; run xbar-bundle-slices before xbar-place")
        # Converters of dense plans are not fitted.
        return op.with_tiles(bundled(list(op.tiles), target, op.shape, judge(target, not op.is_dense)))
