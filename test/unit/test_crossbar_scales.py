"""Scales of int8: weights, inputs and results of products on crossbars, against numpy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from xdsl.dialects.builtin import IntegerAttr, i32

import sparsecc
from sparsecc.crossbar_compiler import CrossbarArtifact
from sparsecc.dialects.sparse_epilogue import EpilogueOp
from sparsecc.dialects.sparse_quantization import QUANTIZATION, QuantizationAttr, quantization_of
from sparsecc.driver.cli import main
from sparsecc.errors import UserError
from sparsecc.model import model_module
from sparsecc.operator import operator_of
from sparsecc.pipeline import crossbar
from sparsecc.scales import Scales
from sparsecc.stages import run_passes
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.load import load_target

M, K, N = 21, 60, 18


def chip() -> CrossbarTarget:
    found = load_target("isaac128")
    assert isinstance(found, CrossbarTarget)
    return found


def layer() -> np.ndarray:
    rng = np.random.default_rng(4)
    return (rng.standard_normal((M, K)) * (rng.random((M, K)) < 0.3)).astype(np.float32)


@pytest.mark.parametrize("target", ["isaac128", "puma128"])
@pytest.mark.parametrize("weight", [None, 0.03])
def test_results_are_requantised_bit_for_bit(target: str, weight: float | None):
    w, s_x, s_y = layer(), 0.017, 0.09
    scales = Scales(weight=weight, input=s_x, output=s_y)
    artifact = sparsecc.compile(w, target=target, n=N, effort=0, scales=scales, check_stages=True)
    report = artifact.report
    assert report.exact
    # Written apart: saturate(round half even(float32(sum) * float32(scale))).
    steps = np.full(M, weight) if weight else np.abs(w).max(axis=1).astype(np.float64) / 127
    steps = steps.astype(np.float32)
    x = np.random.default_rng(5).uniform(-1, 1, (K, N)).astype(np.float32)
    wq = np.rint(w / steps[:, None].astype(np.float64)).astype(np.int64)
    xq = np.clip(np.rint(x / s_x), -127, 127).astype(np.int64)
    scale = (steps.astype(np.float64) * s_x / s_y).astype(np.float32)
    values = (wq @ xq).astype(np.float32) * scale[:, None]
    y = artifact(x)
    assert y.dtype == np.int8
    assert np.array_equal(y, np.clip(np.rint(values), -128, 127))
    # It is the product of the floats, as far as its steps go.
    assert np.abs(s_y * y - w @ x).max() < s_y + 2 * s_x * np.abs(w).sum(axis=1).max()
    assert "int8: sums times" in dict(report.rows())["result"]


def test_the_ir_says_scales_and_zero_points():
    artifact = sparsecc.compile(layer(), target="isaac128", n=N, effort=0, scales=Scales(None, 0.1, 0.2))
    texts = {stage.name: stage.text() for stage in artifact.stages}
    assert "ins(%w, %x, %0, %0 :" in texts["input"]
    assert "arith.constant 0 : i32" in texts["input"]
    for name in ("input", "xbar-place"):
        assert f"tensor<{M}xf32>> : tensor<{M}x{N}xi32> -> tensor<{M}x{N}xi8>" in texts[name]
    # One conversion for each row, for each has a scale.
    assert texts["xbar-schedule"].count("tu.output i8 scale") == M
    one = sparsecc.compile(layer(), target="isaac128", n=N, effort=0, scales=Scales(0.1, 0.1, 0.2))
    assert one.stages[-2].text().count("tu.output i8 scale") == 1


def compiled(w: np.ndarray, target: str, scales: Scales, n: int = N) -> CrossbarArtifact:
    found = sparsecc.compile(w, target=target, n=n, effort=0, scales=scales)
    assert isinstance(found, CrossbarArtifact)
    return found


@pytest.mark.parametrize(("target", "offset"), [("isaac128", 128), ("sme128", 0)])
def test_sums_in_int32_are_turned_to_floats_by_what_the_ir_says(target: str, offset: int):
    w, s_x = layer(), 0.0625
    artifact = compiled(w, target, Scales(input=s_x))
    steps = (np.abs(w).max(axis=1).astype(np.float64) / 127).astype(np.float32)
    products = ("input", "convert-linalg-to-sparse", "sparse-compact")
    for stage in artifact.stages:
        (found,) = [q for q in map(quantization_of, stage.module.walk()) if q is not None]
        assert np.array_equal(found.weights.array, steps)
        assert found.inputs.array == s_x
        assert found.offset.data == (0 if stage.name in products else offset)
    assert "inputs 0.0625 zero 0, offset" in artifact.stages[-3].text()
    x = np.random.default_rng(5).integers(-120, 121, (K, N)) * s_x
    y = artifact.real(x.astype(np.float32))
    # Inputs are whole steps, so only weights were rounded: by half a step at most.
    exact = np.rint(w / steps[:, None].astype(np.float64)) * steps[:, None] @ x
    assert y.dtype == np.float32
    assert np.allclose(y, exact, rtol=1e-6, atol=0)
    assert (np.abs(y - w @ x) <= 0.5001 * steps[:, None] * np.abs(x).sum(axis=0)).all()
    # Another scale in the IR, and the same sums stand for something else.
    artifact.placed.attributes[QUANTIZATION] = QuantizationAttr.of(2 * steps, s_x)
    assert np.allclose(artifact.real(x.astype(np.float32)), 2 * exact, rtol=1e-6, atol=0)
    assert dict(artifact.report.rows())["a step of the sums"].startswith("worth ")


def test_results_in_int8_are_turned_to_floats_by_their_own_steps():
    artifact = compiled(layer(), "isaac128", Scales(None, 0.1, 0.2))
    x = np.random.default_rng(5).uniform(-1, 1, (K, N)).astype(np.float32)
    assert np.allclose(artifact.real(x), 0.2 * artifact(x), rtol=1e-6)


def test_what_came_as_int8_is_worth_one():
    w = np.random.default_rng(3).integers(-9, 10, (8, 12)).astype(np.int8)
    artifact = compiled(w, "isaac128", Scales(weight=1.0), 2)
    x = np.arange(24).reshape(12, 2).astype(np.int8)
    assert np.array_equal(artifact.real(x), w.astype(int) @ x)


def test_a_weight_scale_alone_leaves_sums():
    artifact = sparsecc.compile(layer(), target="isaac128", n=N, effort=0, scales=Scales(weight=0.05))
    assert artifact.report.exact
    x = np.ones((K, N), np.int8)
    assert np.array_equal(artifact(x), np.rint(layer() / 0.05).astype(np.int64) @ x)


def test_weights_outside_int8_after_a_users_scale():
    w = np.zeros((4, 6), np.float32)
    w[2, 5], w[3, 0] = 1.0, -2.0
    with pytest.raises(UserError) as error:
        sparsecc.compile(w, target="isaac128", n=2, scales=Scales(weight=0.005))
    assert str(error.value) == (
        "the weight 1 at row 2, column 5 (counting from 0) is 200 steps of 0.005; int8 holds -127 to 127 (2 "
        "such weights in all): needed is a scale w of at least 0.015748"
    )
    assert sparsecc.compile(w, target="isaac128", n=2, scales=Scales(weight=0.015748)).report.exact


def test_other_epilogues_and_targets_are_refused():
    with pytest.raises(UserError, match="scales take a target with crossbars, and gemmini16 has none"):
        sparsecc.compile(layer(), target="gemmini16", n=N, scales=Scales(output=1.0))
    module = model_module(operator_of(layer(), N, chip(), scales=Scales(output=1.0)), chip())
    epilogue = next(op for op in module.walk() if isinstance(op, EpilogueOp))
    epilogue.properties["zero"] = IntegerAttr(3, i32)
    with pytest.raises(UserError, match="stores of crossbars scale sums to i8, ReLU or not"):
        run_passes(module, crossbar("isaac128", effort=0), lambda _: None, lambda _: None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("w=0", "the scale w is 0; needed: a finite number above 0"),
        ("x=-1", "the scale x is -1; needed"),
        ("y=inf", "the scale y is inf; needed"),
        ("z=1", "--steps: found 'z=1'; needed: w, x and y"),
        ("w=1,w=2", "--steps: found 'w=2'; needed: w, x and y, each once"),
        ("w=one", "--steps: w is 'one', which is no number"),
    ],
)
def test_wrong_scales(text: str, message: str):
    with pytest.raises(UserError) as error:
        Scales.parse(text)
    assert str(error.value).startswith(message)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    np.save(tmp_path / "w.npy", layer())
    run = ["run", str(tmp_path / "w.npy"), "--target", "puma128", "--n", str(N), "--effort", "0", "--json"]
    x = np.random.default_rng(5).uniform(-1, 1, (K, N)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    files = ["--input", str(tmp_path / "x.npy"), "--output", str(tmp_path / "y.npy")]
    assert main([*run, *files, "--steps", "x=0.02,y=0.1"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["exact"] is True
    largest = np.abs(layer()).max(axis=1) / 127
    assert told["scales"] == pytest.approx([0.2 * largest.min(), 0.2 * largest.max()])
    y = np.load(tmp_path / "y.npy")
    assert y.dtype == np.int8
    assert np.abs(0.1 * y - layer() @ x).max() < 0.5
