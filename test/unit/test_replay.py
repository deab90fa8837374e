"""Programs that are replayed for their time take as long as the C that is emitted for them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xdsl.dialects import arith, func
from xdsl.dialects.builtin import FloatAttr, FunctionType, ModuleOp, f32
from xdsl.ir import Block, Region

import sparsecc
from sparsecc.errors import UserError
from sparsecc.replay import replay
from sparsecc.target import CrossbarTarget, Target
from sparsecc.target.load import load_target

MATRICES = Path(__file__).resolve().parents[3] / "shared" / "data" / "matrices"
REAL = (
    ("dlmc/tf_vd98_dec0_ffn1.smtx", "gemmini16", "auto"),
    ("dlmc/tf_mag98_dec2_cross_q.smtx", "gemmini16x", "biclique"),
    ("dlmc/tf_mag98_dec2_cross_q.smtx", "ascend910", "window-1"),
    ("dlmc/tf_mag98_dec2_cross_q.smtx", "tpu128", "dense"),
)


def matrix(seed: int, m: int, k: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    w = rng.integers(1, 9, (m, k)) * (rng.random((m, k)) < 0.08) * (rng.random((m, 1)) < 0.7)
    return w.astype(np.int8)


@pytest.mark.parametrize(
    "target", ["gemmini16", "gemmini16x", "tpu128", "ascend910", "scalesim-ws16", "nvidia-tc"]
)
@pytest.mark.parametrize("plan", ["auto", "dense", "window-1"])
def test_a_replay_tells_what_the_program_tells(target: str, plan: str) -> None:
    w = matrix(0, 120, 150)
    integer = Target.load(target).in_type == "i8"
    artifact = sparsecc.compile(w if integer else w.astype(np.float32), target=target, n=37, plan=plan)
    assert artifact.timing.report == artifact.simulate(values=False).report


@pytest.mark.parametrize("target", ["isaac128", "sme128", "ou9x8", "puma128", "re2pim"])
@pytest.mark.parametrize("plan", ["auto", "dense"])
def test_a_replay_of_crossbars_tells_what_the_program_tells(target: str, plan: str) -> None:
    artifact = sparsecc.compile(matrix(5, 120, 150), target=target, n=37, plan=plan)
    assert artifact.timing.report == artifact.simulate(values=False).report


def test_a_replay_of_crossbars_without_a_nonzero() -> None:
    artifact = sparsecc.compile(np.zeros((5, 7), np.int8), target="isaac128", n=3)
    assert artifact.timing.report == artifact.simulate(values=False).report


def test_a_replay_of_arrays_that_are_written_again() -> None:
    """More tiles than the chip has arrays: cells are written between inferences' multiplications."""
    target = load_target("isaac128")
    assert isinstance(target, CrossbarTarget)
    few = replace(target, array=replace(target.array, count=3))
    artifact = sparsecc.compile(matrix(6, 300, 400), target=few, n=37)
    assert artifact.timing.report == artifact.simulate(values=False).report


def test_a_replay_of_a_mask_tells_what_the_program_tells() -> None:
    artifact = sparsecc.compile(matrix(1, 70, 90), op="sddmm", k=40)
    assert artifact.timing.report == artifact.simulate(values=False).report


@pytest.mark.skipif(not MATRICES.is_dir(), reason="the matrices of ../shared/data are not here")
@pytest.mark.parametrize(("name", "target", "plan"), REAL)
def test_real_matrices_take_as_long(name: str, target: str, plan: str) -> None:
    artifact = sparsecc.compile(MATRICES / name, target=target, n=64, plan=plan, effort=0)
    assert artifact.timing.report == artifact.simulate(values=False).report


def test_rows_without_a_nonzero_cost_little_more_than_their_stores() -> None:
    """They are stored while others are computed, so that the array or the stores are nearly always busy."""
    w = matrix(2, 512, 256)
    w[np.random.default_rng(0).permutation(512)[:400]] = 0
    artifact = sparsecc.compile(w, n=128, plan="window-1")
    report = artifact.report
    assert report.exact
    assert report.engines is not None
    busiest = max(int(engine["busy"]) for engine in report.engines.values())
    assert report.cycles is not None
    assert report.cycles <= 1.1 * busiest + 1000


def test_each_schedule_is_replayed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pass that selects instructions asks for those again that the choice of the cover was made with."""
    replayed: list[int] = []

    def counted(module: ModuleOp, target: Target) -> dict[str, Any]:
        replayed.append(1)
        return replay(module, target)

    monkeypatch.setattr("sparsecc.codegen.timing.replay", counted)
    w = matrix(3, 100, 90)
    first = sparsecc.compile(w, n=33)
    assert first.timing.cycles < first.dense.timing.cycles
    times = len(replayed)
    # Two covers and the dense plan at least.
    assert times >= 3
    again = sparsecc.compile(w, n=33)
    assert (again.reason, again.timing.cycles) == (first.reason, first.timing.cycles)
    assert len(replayed) == times
    assert sparsecc.compile(w, n=34).timing.cycles
    assert len(replayed) > times


def test_what_is_no_program_is_refused() -> None:
    block = Block()
    block.add_ops([arith.ConstantOp(FloatAttr(1.0, f32)), func.ReturnOp()])
    module = ModuleOp([func.FuncOp("other", FunctionType.from_lists((), ()), Region(block))])
    with pytest.raises(UserError, match="has no function @main"):
        replay(module, Target.load("gemmini16"))
