"""Where a cover lies, for pictures: in W as it is, and in W with the blocks of the cover pushed together.

In the second picture ("packed") every meta-op is a box and the covered area is the work that is left. Where
rows have one order, each row keeps its own line and the blocks of its rows stand side by side from the left.
Bicliques own any rows, so no order of the rows suits them all: they fill shelves as wide as W.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sparsecc.cover.laws import Pattern, Places, locate
from sparsecc.cover.metaops import K_MAP, M0, M_MAP, Int32, Int64, K, M, MetaOps, distinct_axes, expand
from sparsecc.cover.rows import chains

if TYPE_CHECKING:
    from sparsecc.artifact import Artifact


@dataclass(frozen=True, eq=False)
class TileMap:
    """A matrix, its cover, and where both lie before and after re-indexing."""

    pattern: Pattern
    cover: MetaOps
    group: Int32
    """Group of each meta-op."""
    unit: tuple[int, int]
    """Rows and columns of W that one unit takes."""
    top: Int32
    """First packed row of each meta-op."""
    left: Int32
    """First packed column of each meta-op."""
    packed_shape: tuple[int, int]
    in_shelves: bool
    """The meta-ops are bicliques: packed rows are places on shelves, not rows of W."""
    name: str
    """What users call the matrix."""

    @staticmethod
    def of(pattern: Pattern, cover: MetaOps, group: Int32, unit: tuple[int, int], name: str = "W") -> TileMap:
        """The map of any cover."""
        rows = _row_places(cover, pattern.m)
        if rows is None:
            top, left = _on_shelves(cover, pattern.k)
        else:
            top, left = _side_by_side(cover, rows, pattern.m)
        height = int((top + cover.table[:, M]).max(initial=0))
        width = int((left + cover.table[:, K]).max(initial=0))
        return TileMap(pattern, cover, group, unit, top, left, (height, width), rows is None, name)

    @cached_property
    def places(self) -> Places:
        """Meta-op, and place inside it, of each nonzero."""
        return locate(self.cover, self.pattern)

    @cached_property
    def owned(self) -> Int64:
        """Nonzeros of each meta-op."""
        return np.bincount(self.places.owner, minlength=len(self.cover))

    def packed_points(self) -> tuple[Int32, Int32]:
        """Packed row and column of each nonzero."""
        owner = self.places.owner
        return self.top[owner] + self.places.row, self.left[owner] + self.places.column

    def is_box(self) -> NDArray[np.bool_]:
        """Which meta-ops are boxes in W as it is."""
        return (self.cover.table[:, M_MAP] < 0) & (self.cover.table[:, K_MAP] < 0)

    def cell_counts(self) -> Int64:
        """Nonzeros of each unit cell that is computed."""
        rows, columns = self.unit
        table = self.cover.table.astype(np.int64)
        grid_columns = -(-table[:, K] // columns)
        cells = -(-table[:, M] // rows) * grid_columns
        owner = self.places.owner
        cell = (np.cumsum(cells) - cells)[owner]
        cell += self.places.row // rows * grid_columns[owner] + self.places.column // columns
        return np.bincount(cell, minlength=int(cells.sum()))

    def aligned_counts(self) -> Int64:
        """Nonzeros of each unit cell of W as it is."""
        rows, columns = self.unit
        across = -(-self.pattern.k // columns)
        cell = self.pattern.row_of().astype(np.int64) // rows * across + self.pattern.indices // columns
        return np.bincount(cell, minlength=-(-self.pattern.m // rows) * across)


def tile_map(artifact: Artifact) -> TileMap:
    """The map of a compiled operator."""
    product = artifact.spmm
    group = np.repeat(np.arange(len(product.sets), dtype=np.int32), [len(one.table) for one in product.sets])
    rows, _, columns = product.plane_unit
    name = "W" if artifact.operator.op == "spmm" else "mask"
    return TileMap.of(product.weight.pattern, product.plane(artifact.cover), group, (rows, columns), name)


def _row_places(cover: MetaOps, m: int) -> Int32 | None:
    """The first place of each meta-op's rows in an order that all row lists follow; None for bicliques."""
    t = cover.table
    first, which = distinct_axes(t[:, M0], t[:, M], t[:, M_MAP])
    owner, row, _ = expand(t[first, M0], t[first, M], t[first, M_MAP], cover.index)
    order = chains(owner, row, m)
    if order is None:
        return None
    place = np.zeros(m, np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    head = np.cumsum(t[first, M]) - t[first, M]
    return place[row[head]][which]


def _side_by_side(cover: MetaOps, top: Int32, m: int) -> tuple[Int32, Int32]:
    """Each meta-op in its rows, as far to the left as the meta-ops before it leave room."""
    left = np.zeros(len(cover), np.int32)
    used = np.zeros(m, np.int32)
    sizes = cover.table[:, [M, K]].tolist()
    for i, (first, (rows, columns)) in enumerate(zip(top.tolist(), sizes, strict=True)):
        span = used[first : first + rows]
        left[i] = span.max()
        span[:] = left[i] + columns
    return top, left


def _on_shelves(cover: MetaOps, width: int) -> tuple[Int32, Int32]:
    """Meta-ops from left to right in their order; the next shelf begins where the width of W is used up."""
    top, left = np.zeros((2, len(cover)), np.int32)
    y = x = height = 0
    for i, (rows, columns) in enumerate(cover.table[:, [M, K]].tolist()):
        if x and x + columns > width:
            y, x, height = y + height, 0, 0
        top[i], left[i] = y, x
        x, height = x + columns, max(height, rows)
    return top, left
