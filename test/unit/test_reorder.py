"""sparse-reorder: orders of channels carried through networks; outputs stay, and layers become faster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_cover import pattern_of
from test_propagate import Writer, body, features, images, tokens
from xdsl.context import Context
from xdsl.dialects.builtin import DenseArrayBase, ModuleOp, i64
from xdsl.ir import Operation

from sparsecc.cover.cells import split
from sparsecc.cover.laws import broken_alignment, broken_cover_law
from sparsecc.cover.lift import lift
from sparsecc.cover.metaops import K_MAP, M_MAP
from sparsecc.cover.moved import moved_cover
from sparsecc.cover.strategies import STRATEGIES
from sparsecc.dialects.nn_base import shape_of
from sparsecc.importers.onnx_file import import_model
from sparsecc.interpreters.sparse import run_module
from sparsecc.network.tensor_unit import TensorUnitLayer
from sparsecc.network_compiler import compile_network
from sparsecc.network_report import SimulatedReport
from sparsecc.passes.sparse_reorder import Channels, SparseReorderPass
from sparsecc.schedule.cost import Plan
from sparsecc.schedule.geometry import row_order
from sparsecc.schedule.planning import plan_cover
from sparsecc.target import Target

Array = NDArray[Any]
Rng = np.random.Generator


def random_orders(module: ModuleOp, rng: Rng) -> dict[Operation, list[int]]:
    """For some products an order of all rows that may change places."""
    found: dict[Operation, list[int]] = {}
    channels = Channels.of(body(module))
    ordered: set[int] = set()
    for op in channels.rules:
        axes = channels.axes(op)
        if axes is None or axes[0] not in channels.atoms.of:
            continue
        here = channels.atoms.of[axes[0]]
        exchange = np.arange(len(channels.atoms.block))
        for block in np.unique(channels.atoms.block[here]).tolist():
            members = np.flatnonzero(channels.atoms.block == block)
            if block >= 0 and block not in ordered:
                ordered.add(block)
                exchange[members] = rng.permutation(members)
        moved = channels.atoms.moved(exchange)
        if moved is not None and axes[0] in moved:
            found[op] = moved[axes[0]].tolist()
    return found


@pytest.mark.parametrize("make", [images, features, tokens])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_outputs_stay(make: Callable[[Rng], onnx.ModelProto], seed: int):
    rng = np.random.default_rng(seed)
    module = import_model(make(rng), "model", Path())
    x = rng.standard_normal(shape_of(body(module).args[0])).astype(np.float32)
    before = run_module(module, x)
    for op, order in random_orders(module, rng).items():
        op.attributes["order"] = DenseArrayBase.from_list(i64, order)
    SparseReorderPass().apply(Context(), module)
    module.verify()
    for wanted, found in zip(before, run_module(module, x), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * max(1.0, float(np.abs(wanted).max())))


@given(
    seed=st.integers(0, 2**32 - 1), name=st.sampled_from(["aligned", "window-1", "rows-2", "tiles", "mixed"])
)
@settings(max_examples=40, deadline=None)
def test_covers_move_with_their_matrix(seed: int, name: str):
    """The moved cover is an exact one of the moved matrix, and needs no more tiles of X."""
    rng = np.random.default_rng(seed)
    m, k, n = (int(v) for v in rng.integers(1, 70, 3))
    target = Target.load("gemmini16")
    dense = (rng.random((m, k)) < rng.choice([0.05, 0.3])) * rng.integers(1, 9, (m, k))
    pattern = pattern_of(dense != 0)
    cover = lift(split(STRATEGIES[name](pattern, n, target.unit), pattern, target.unit))
    # A random order, that of the cover's rows, or the natural one.
    rows, columns = rng.permutation(m), rng.permutation(k)
    if len(cover) and rng.random() < 0.5:
        rows, columns = row_order(cover, m).rows, np.arange(k)
    moved = moved_cover(cover, rows, columns, target.unit, target.array.rows)
    after = pattern_of(dense[rows][:, columns] != 0)
    assert broken_cover_law(moved, after, n) is None
    assert broken_alignment(moved, target.unit, after) is None
    if len(cover):
        old, new = (plan_cover(c, p, n, target) for c, p in ((cover, pattern), (moved, after)))
        assert isinstance(old, Plan)
        assert isinstance(new, Plan)
        if not (cover.table[:, [M_MAP, K_MAP]] < 0).any():
            assert new.tiles.distinct <= old.tiles.distinct


def test_rows_that_were_scattered_are_not():
    """In the order in which a cover has its rows it is a natural one; its lists of columns become ranges."""
    rng = np.random.default_rng(0)
    target = Target.load("gemmini16")
    # Blocks of 16 x 16 whose rows and columns are strewn.
    hidden = np.kron(rng.random((4, 6)) < 0.4, np.ones((16, 16), np.int64))
    dense = hidden[rng.permutation(64)][:, rng.permutation(96)]
    cover = STRATEGIES["tiles"](pattern_of(dense != 0), 16, target.unit)
    order = row_order(cover, 64)
    assert not order.is_natural
    columns = np.concatenate([cover.columns(0), np.setdiff1d(np.arange(96), cover.columns(0))])
    moved = moved_cover(cover, order.rows, columns, target.unit, 16)
    assert row_order(moved, 64).is_natural
    assert (moved.table[:, K_MAP] < 0).any()


def strewn(rng: Rng, rows: int, columns: int) -> Array:
    """Blocks of 16 x 16 whose rows and columns were shuffled."""
    hidden = np.kron(rng.random((rows // 16, columns // 16)) < 0.35, np.ones((16, 16)))
    return hidden[rng.permutation(rows)][:, rng.permutation(columns)].astype(np.float32)


def branches(rng: Rng) -> onnx.ModelProto:
    """A residual sum of two layers, a concatenation with a third, several users, and an output."""
    g = Writer(rng, (16, 64))

    def layer(x: str, outputs: int) -> str:
        k = g.shapes[x][1]
        w = strewn(rng, outputs, k) * rng.standard_normal((outputs, k)) / np.sqrt(k)
        names = [g.array(a.astype(np.float32)) for a in (w, rng.standard_normal(outputs))]
        return g.node("Gemm", x, *names, shape=(16, outputs), transB=1)

    a, b, c = layer("x", 128), layer("x", 128), layer("x", 64)
    total = g.node("Relu", g.node("Add", a, b, shape=(16, 128)), shape=(16, 128))
    wide = g.concat(total, c)
    outputs = [layer(wide, 16), layer(total, 32)]
    return g.model(outputs)


def no_orders(*_: object) -> None:
    """In the place of what finds some."""


@pytest.mark.parametrize(("target", "calibrated"), [("ascend910", False), ("gemmini16", True)])
def test_networks_are_faster_with_the_same_values(
    target: str, calibrated: bool, monkeypatch: pytest.MonkeyPatch
):
    rng = np.random.default_rng(3)
    module = import_model(branches(rng), "branches", Path())
    x = rng.standard_normal((16, 64)).astype(np.float32)
    samples = {"x": rng.standard_normal((32, 64)).astype(np.float32)} if calibrated else None
    options: dict[str, Any] = {"target": target, "inputs": [x], "calibrate": samples}
    found = compile_network(module, **options)
    with monkeypatch.context() as patch:
        patch.setattr("sparsecc.network_compiler.find_orders", no_orders)
        before = compile_network(module, **options)
    assert {g.name for g in found.ordered}
    assert not before.ordered
    assert "sparse-reorder" in [s.name for s in found.stages]
    alone = [sum(cast(TensorUnitLayer, one).cycles for one in a.layers) for a in (before, found)]
    assert alone[1] < alone[0]
    assert alone[0] - alone[1] == sum(g.cycles[0] - g.cycles[1] for g in found.ordered)
    # Every value of every layer is checked by the program.
    report = found.report
    assert isinstance(report, SimulatedReport)
    assert all(p.cycles <= p.dense_cycles for p in report.products)
    for one, other in zip(found(x), before.expected, strict=True):
        if calibrated:
            np.testing.assert_array_equal(one, other)
        else:
            np.testing.assert_allclose(one, other, atol=2e-2)
