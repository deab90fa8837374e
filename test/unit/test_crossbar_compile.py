"""Operators on crossbars from end to end: exact on the simulator, programmed once, never above dense."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import sparsecc
from sparsecc.crossbar.place import place_table
from sparsecc.crossbar_compiler import CrossbarArtifact
from sparsecc.crossbar_report import CrossbarReport
from sparsecc.errors import UserError
from sparsecc.passes.xbar_fit_adc import XbarFitAdcPass
from sparsecc.pipeline import crossbar
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.load import load_target

TARGETS = ("isaac128", "puma128", "sme128", "ou9x8", "re2pim")


def target_of(name: str) -> CrossbarTarget:
    target = load_target(name)
    assert isinstance(target, CrossbarTarget)
    return target


def matrix(seed: int, m: int, k: int, density: float, blocks: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    kept = rng.random((-(-m // blocks), -(-k // blocks))) < density
    kept = np.kron(kept, np.ones((blocks, blocks), bool))[:m, :k]
    return (rng.integers(-127, 128, (m, k)) * kept).astype(np.int8)


def compiled(w: np.ndarray, target: Any, **options: Any) -> CrossbarArtifact:
    artifact = sparsecc.compile(w, target=target, effort=0, **options)
    assert isinstance(artifact, CrossbarArtifact)
    return artifact


def checked(artifact: CrossbarArtifact) -> CrossbarReport:
    report = artifact.report
    assert report.exact
    assert report.max_error == 0
    assert report.adc_clipped == 0
    return report


@pytest.mark.parametrize("name", TARGETS)
def test_every_stage_and_the_program_are_exact(name: str):
    artifact = compiled(matrix(1, 150, 170, 0.1), name, n=40, check_stages=True)
    report = checked(artifact)
    assert report.cycles is not None
    assert report.dense_cycles is not None
    assert report.energy_pj is not None
    assert report.dense_energy_pj is not None
    assert report.cycles <= report.dense_cycles
    assert report.energy_pj <= report.dense_energy_pj
    # Arrays may have other shapes.
    assert sum(report.arrays_by_shape.values()) == report.arrays
    array = artifact.target.array
    assert artifact.cells_used <= report.arrays_dense * array.rows * array.cols
    assert report.program_energy_pj
    assert report.writes_per_cell == {"min": 1, "mean": 1, "max": 1}
    assert sum(report.adc_bits.values()) == report.tiles
    # The parts are of programming and inference together.
    assert report.energy_parts_pj is not None
    total = report.energy_pj + report.program_energy_pj
    assert sum(report.energy_parts_pj.values()) == pytest.approx(total, rel=1e-9)
    x = np.random.default_rng(2).integers(-127, 128, (170, 40)).astype(np.int8)
    assert (artifact(x) == artifact.operator.weight.toarray().astype(np.int64) @ x).all()


@pytest.mark.parametrize("name", ["isaac128", "ou9x8"])
def test_the_dense_mapping_is_exact(name: str):
    report = checked(compiled(matrix(1, 100, 140, 0.6), name, n=3, plan="dense"))
    assert report.plan == "dense"
    assert report.arrays == report.arrays_dense


def test_blocks_take_a_fraction_of_arrays_and_energy():
    report = checked(compiled(matrix(3, 512, 512, 0.06, 64), "isaac128", n=4))
    assert report.arrays < report.arrays_dense / 2
    assert report.energy_pj is not None
    assert report.dense_energy_pj is not None
    assert report.energy_pj < report.dense_energy_pj / 4
    assert report.inferences_to_break_even == 0


def test_the_model_is_near_the_simulator():
    for name in ("ou9x8", "puma128"):
        report = checked(compiled(matrix(4, 256, 256, 0.1), name, n=16))
        assert report.cycles == pytest.approx(report.predicted_cycles, rel=0.15)


def test_too_few_arrays_are_written_anew_in_every_inference():
    whole = target_of("sme128")
    small = replace(whole, name="small", array=replace(whole.array, count=5))
    artifact = compiled(matrix(5, 200, 200, 0.3), small, n=40, check_stages=True)
    report = checked(artifact)
    assert report.rounds >= 3
    assert report.arrays_available == 5
    assert report.program_energy_pj is not None
    assert report.energy_pj is not None
    assert report.energy_parts_pj is not None
    # What writing takes is paid by the inference, not before it.
    assert report.energy_parts_pj["write"] > 0
    assert report.program_energy_pj < report.energy_pj / 10
    assert any("written anew" in value for _, value in report.rows())
    once = checked(compiled(matrix(5, 200, 200, 0.3), whole, n=40))
    assert once.rounds == 0
    assert report.energy_pj > (once.energy_pj or 0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1)], ids=["1x1", "1x300", "300x1"])
def test_edges(shape: tuple[int, int]):
    w = np.ones(shape, np.int8)
    for name in ("isaac128", "sme128"):
        checked(compiled(w, name, n=1))


def test_a_matrix_of_zeros_needs_no_array():
    report = checked(compiled(np.zeros((40, 50), np.int8), "isaac128", n=5))
    assert report.arrays == 0
    assert report.adc_conversions == 0


def test_converters_that_may_clip_are_told():
    w = np.full((4, 128), 127, np.int8)
    passes = [
        XbarFitAdcPass(clip=True) if p.name == "xbar-fit-adc" else p for p in crossbar("sme128", "none")
    ]
    artifact = compiled(w, "sme128", n=2, passes=passes, x=np.full((128, 2), 127, np.int8))
    assert artifact.may_clip > 0
    with pytest.raises(UserError, match="values are wrong"):
        _ = artifact.report
    # By default such tiles are read in runs of word lines that fit.
    exact = compiled(w, "sme128", n=2, plan="none", x=np.full((128, 2), 127, np.int8))
    report = checked(exact)
    assert report.may_clip == 0
    assert max(report.adc_bits) <= 6


def test_places_are_those_of_the_program(tmp_path: Any):
    w = matrix(6, 90, 80, 0.1)
    artifact = compiled(w, "re2pim", n=2)
    rebuilt = np.zeros(w.shape, np.int64)
    m, k, _, _, _, _, level, shift, doubled = place_table(artifact.placed.tiles).T
    np.add.at(rebuilt, (m, k), level << shift << doubled)
    assert (rebuilt == artifact.operator.weight.toarray()).all()
    artifact.save_places(tmp_path / "places.csv")
    artifact.save_places(tmp_path / "places.npy")
    header, *lines = (tmp_path / "places.csv").read_text().splitlines()
    assert header == "m,k,slice,array,row,column,level,shift,doubled"
    read = np.array([line.split(",") for line in lines], int)
    assert (read == np.load(tmp_path / "places.npy")).all()
    assert (read[:, :2] == np.stack([m, k], axis=1)).all()
    with pytest.raises(UserError, match="a table of places is written as"):
        artifact.save_places(tmp_path / "places.txt")


def test_wrong_use_is_refused():
    w = matrix(7, 8, 8, 0.5)
    with pytest.raises(UserError, match="crossbars, which multiply by constants; --op sddmm has none"):
        sparsecc.compile(w, target="isaac128", op="sddmm")
    with pytest.raises(UserError, match="input type f32 is not one of target isaac128; it has i8"):
        sparsecc.compile(w, target="isaac128", dtype="f32")
    x = np.zeros((8, 2), np.int8)
    x[3, 1] = -128
    with pytest.raises(UserError, match="-128 at row 3, column 1; target sme128 takes sign-magnitude"):
        sparsecc.compile(w, target="sme128", n=2, x=x)
    assert checked(compiled(w, "isaac128", n=2, x=x)).exact


def test_declared_patterns_are_held_against_the_matrix():
    with pytest.raises(UserError, match="declared 2:4, but row 0 has 4 nonzeros in columns 0 to 3"):
        sparsecc.compile(np.ones((4, 8), np.int8), target="isaac128", n=2, pattern="2:4")


def test_saved_folders_check_themselves(tmp_path: Any):
    import subprocess

    artifact = compiled(matrix(8, 60, 70, 0.2), "puma128", n=5)
    artifact.save(tmp_path / "out", ir=True)
    done = subprocess.run(
        ["make", "-s", "-C", str(tmp_path / "out"), "CFLAGS=-O0", "check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "0 of 300 values wrong" in done.stdout
    assert "model_program" in (tmp_path / "out" / "model.c").read_text()


def test_bytes_of_the_memories_are_those_of_the_positions():
    """Rows of the memories hold many positions; what is not used of them is not paid."""
    one, three = (
        compiled(matrix(3, 96, 80, 0.2), "isaac128", n=n, plan="none").timing.report["bytes"] for n in (1, 3)
    )
    for name in ("spad_read", "spad_write", "acc_read", "acc_write"):
        assert three[name] == 3 * one[name] > 0
    assert one["acc_read"] >= 4 * 96
