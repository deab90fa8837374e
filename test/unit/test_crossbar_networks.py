"""Whole networks on crossbars: integers to the bit, arrays for every layer, labels as of the floats."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from sparsecc.crossbar_network_report import CrossbarNetworkReport
from sparsecc.driver.cli import main
from sparsecc.errors import UserError
from sparsecc.interpreters.sparse import run_module
from sparsecc.network_compiler import NetworkArtifact, compile_network
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.load import load_target

MODELS = Path(__file__).parents[3] / "shared" / "data" / "models"


def perceptron(path: Path) -> Path:
    """Two pruned layers with a ReLU between them."""
    rng = np.random.default_rng(6)
    w1, w2 = (
        (rng.standard_normal(shape) * (rng.random(shape) < 0.3)).astype(np.float32)
        for shape in ((20, 40), (5, 20))
    )
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], "first", transB=1),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("Gemm", ["r", "w2"], ["y"], "second", transB=1),
    ]
    constants = {"w1": w1, "w2": w2, "b1": rng.standard_normal(20).astype(np.float32)}
    graph = helper.make_graph(
        nodes, "perceptron",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 40])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    path.write_bytes(model.SerializeToString())
    return path


def integers(artifact: NetworkArtifact, x: np.ndarray) -> Any:
    """What the integer network gives on numpy."""
    stage = next(s for s in artifact.stages if s.name == "nn-fold-quantization")
    return run_module(stage.module, x)[0]


@pytest.mark.parametrize("target", ["isaac128", "puma128"])
def test_integers_are_those_of_numpy(tmp_path: Path, target: str):
    path = perceptron(tmp_path / "p.onnx")
    x = np.random.default_rng(1).standard_normal((24, 40)).astype(np.float32)
    artifact = compile_network(path, target=target, batch=4, calibrate={"x": x}, effort=0, confirm=False)
    assert np.array_equal(artifact(x[:4]), integers(artifact, x[:4]))
    report = artifact.report
    assert isinstance(report, CrossbarNetworkReport)
    assert (report.worst_share, report.adc_clipped) == (0, 0)
    assert [p.name for p in report.products] == ["first", "second"]
    assert report.arrays == sum(p.arrays for p in report.products) > 0
    assert report.cycles == sum(p.cycles for p in report.products)
    assert all(p.energy_pj and p.dense_energy_pj for p in report.products)
    assert report.energy_pj is not None
    assert report.dense_energy_pj is not None
    assert report.energy_pj <= report.dense_energy_pj


def test_chips_with_too_few_cells_are_refused(tmp_path: Path):
    chip = load_target("isaac128")
    assert isinstance(chip, CrossbarTarget)
    array = dataclasses.replace(chip.array, count=4, rows=16, cols=16, shapes=((16, 16),))
    small = dataclasses.replace(chip, name="small", array=array)
    x = np.random.default_rng(1).standard_normal((8, 40)).astype(np.float32)
    path = perceptron(tmp_path / "p.onnx")
    artifact = compile_network(path, target=small, batch=2, calibrate={"x": x}, effort=0, confirm=False)
    with pytest.raises(UserError, match=r"the network's products take .* cells, and target small has 1024"):
        artifact.save(tmp_path / "out")


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = perceptron(tmp_path / "p.onnx")
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(1).standard_normal((8, 40)).astype(np.float32))
    command = ["run", str(path), "--target", "isaac128", "--batch", "2", "--effort", "0"]
    assert main(command) != 0
    assert "give inputs to quantise it by with --calibrate" in capsys.readouterr().err
    assert main([*command, "--calibrate", str(tmp_path / "x.npz"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["target"], len(told["products"]), told["worst_share"]) == ("isaac128", 2, 0)


def test_lenet_keeps_its_labels():
    path, data = MODELS / "lenet300100_pruned.onnx", MODELS / "mnist_test_a.npz"
    if not path.exists():
        pytest.skip("the model and its digits are not beside this checkout")
    digits = np.load(data)
    images = digits["images"].reshape(-1, 784).astype(np.float32)
    labels = digits["labels"].astype(np.int64)
    samples, others = (
        {"input": images[part], "labels": labels[part]} for part in (slice(0, 256), slice(1000, 2000))
    )
    artifact = compile_network(
        path, target="isaac128", batch=8, calibrate=samples, labelled=others, effort=0, confirm=False
    )
    assert artifact.accuracy is not None
    before, after = artifact.accuracy.before, artifact.accuracy.after
    assert before is not None
    assert after is not None
    assert before - after <= 0.01
    x = images[2000:2008]
    assert np.array_equal(artifact(x), integers(artifact, x))
