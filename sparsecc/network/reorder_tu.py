"""Plans of products on tensor units, carried over to the same matrix in another order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.passes import ModulePass

from sparsecc.artifact import Artifact
from sparsecc.codegen.by_address import fastest_by_address
from sparsecc.codegen.timing import measure_of
from sparsecc.cover.metaops import K0, K_MAP, M_MAP, K, MetaOps, distinct_axes, expand
from sparsecc.cover.moved import moved_cover
from sparsecc.cover.rows import has_bicliques
from sparsecc.dialects.sparse import CoverOp, ProductOp, SpmmOp, WeightAttr
from sparsecc.errors import UserError
from sparsecc.importers.matrix import Csr, make_csr
from sparsecc.network.engine import Move, Options
from sparsecc.network.patches import Unfolding
from sparsecc.passes.base import ProductPass
from sparsecc.passes.convert_sparse_to_tu import schedule_of
from sparsecc.passes.sparse_compact import SparseCompactPass
from sparsecc.passes.sparse_lift import SparseLiftPass
from sparsecc.passes.sparse_lower import SparseLowerPass
from sparsecc.pipeline import tensor_unit
from sparsecc.schedule.geometry import row_order
from sparsecc.schedule.measure import TRIES
from sparsecc.target import Target
from sparsecc.toolchain import has_compiler


@dataclass(frozen=True)
class TakeCoverPass(ProductPass):
    """Gives a product a cover that was found before, in the place of `sparse-compact` and what follows it."""

    name = "take-cover"
    summary: ClassVar = "gives a product a cover that was found before"
    refuses: ClassVar = "nothing"

    cover: MetaOps
    plan: str
    reason: str

    def rewrite(self, op: ProductOp) -> ProductOp | None:
        new = op.with_body([CoverOp(self.cover)])
        new.plan, new.reason = StringAttr(self.plan), StringAttr(self.reason)
        return new


def wanted(artifact: Artifact, spmm: SpmmOp) -> Iterator[Move]:
    """The order of rows in which results leave the accumulators, and that in which columns are gathered."""
    cover = artifact.cover
    table = cover.table
    if spmm.is_dense or not len(cover):
        return
    if (table[:, M_MAP] >= 0).any() and not has_bicliques(cover):
        order = row_order(cover, spmm.weight.shape[0])
        if not order.is_natural:
            yield Move(order.rows.astype(np.intp), None)
    if (table[:, K_MAP] >= 0).any():
        lists = table[distinct_axes(*(table[:, c] for c in (K0, K, K_MAP)))[0]]
        _, columns, _ = expand(lists[:, K0], lists[:, K], lists[:, K_MAP], cover.index)
        every = np.concatenate([columns, np.arange(spmm.weight.shape[1])])
        _, first = np.unique(every, return_index=True)
        yield Move(None, every[np.sort(first)].astype(np.intp))


def _orders(spmm: SpmmOp, move: Move) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    m, k = spmm.weight.shape
    rows = np.arange(m) if move.rows is None else move.rows
    return rows, np.arange(k) if move.columns is None else move.columns


def cover_of(spmm: SpmmOp, move: Move, target: Target) -> MetaOps:
    """The cover in the other order."""
    if spmm.is_dense:
        return spmm.cover()
    return moved_cover(spmm.cover(), *_orders(spmm, move), spmm.unit.shape, target.array.rows)


def passes_for(named: str, cover: MetaOps, artifact: Artifact, options: Options) -> list[ModulePass]:
    """The passes of a product whose cover is known; named: what passes call the target."""
    simulate = options.confirm and has_compiler()
    every = tensor_unit(named, "auto", options.effort, options.seed, simulate)
    take = TakeCoverPass(cover, artifact.plan, artifact.reason)
    found: list[ModulePass] = []
    for one in every:
        if not isinstance(one, SparseLowerPass | SparseLiftPass):
            found.append(take if isinstance(one, SparseCompactPass) else one)
    return found


def moved_spmm(spmm: SpmmOp, move: Move, target: Target) -> SpmmOp:
    """The product of the matrix in the other order, in a copy of its module."""
    module = _module_of(spmm).clone()
    (old,) = [op for op in module.walk() if isinstance(op, SpmmOp)]
    weight = spmm.weight
    places = _places(spmm, move)
    new = old.with_body([CoverOp(cover_of(spmm, move, target))])
    new.properties["weight"] = WeightAttr.of(
        weight.shape, places.indptr, places.indices, weight.data[places.data], weight.element_type
    )
    block = old.parent_block()
    assert block is not None
    block.insert_op_before(new, old)
    old.res.replace_all_uses_with(new.res)
    block.erase_op(old)
    return new


def _places(spmm: SpmmOp, move: Move) -> Any:
    """The matrix in the other order; its values are places of the nonzeros before."""
    pattern = spmm.weight.pattern
    rows, columns = _orders(spmm, move)
    numbers = np.arange(pattern.nnz, dtype=np.int64)
    found: Any = make_csr(numbers, pattern.indices, pattern.indptr, spmm.weight.shape)
    found = found[rows][:, columns]
    found.sort_indices()
    return found


def _module_of(spmm: SpmmOp) -> ModuleOp:
    found = spmm.parent_op()
    while not isinstance(found, ModuleOp):
        assert found is not None
        found = found.parent_op()
    return found


def moved_unfolding(unfolding: Unfolding, move: Move) -> Unfolding:
    """The patches in the other order of channels: the rows of all patches that are used."""
    if move.used is None or unfolding.rows is None:
        return unfolding
    return replace(unfolding, rows=tuple(move.used.tolist()))


def cycles_of(
    artifact: Artifact, spmm: SpmmOp, unfolding: Unfolding | None, move: Move, effort: int
) -> int | None:
    """Of the fastest schedule for the cover in the other order; None where there is none.

    unfolding: of patches, where they are found by address.
    """
    target = artifact.target
    new = moved_spmm(spmm, move, target)
    try:
        if unfolding is not None:
            strips = moved_unfolding(unfolding, move).image.strips
            found = fastest_by_address(new, strips, target, effort)
            return None if found is None else found.cycles
        simulate = has_compiler()
        plan = schedule_of(new, target, TRIES[effort] if simulate else None)
        return measure_of(new, target)(plan) if simulate else round(plan.estimate.cycles)
    except UserError:
        return None


def same(weight: Csr, spmm: SpmmOp, move: Move) -> bool:
    """Whether a matrix has its nonzeros where those of the product are in the other order."""
    places = _places(spmm, move)
    return np.array_equal(weight.indptr, places.indptr) and np.array_equal(weight.indices, places.indices)
