"""`sparsecc explain`: the sentences hold the numbers of the analysis, on every family of targets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sparsecc.analysis import Search, analyze
from sparsecc.driver.cli import main
from sparsecc.explain import explain
from sparsecc.operator import operator_of
from sparsecc.target import Target, load_target

RNG = np.random.default_rng(0)
BLOCKS = np.kron(RNG.random((8, 8)) < 0.25, np.ones((16, 16))) * RNG.integers(1, 9, (128, 128))
FULL = RNG.integers(1, 9, (48, 40)).astype(np.float32)
HALF = FULL * (RNG.random(FULL.shape) < 0.5)


def sentences(matrix: Any, target: str, n: int = 64) -> tuple[str, dict[str, Any]]:
    found = explain(matrix, target, load_target(target), n=n, search=Search(0, 0), name="w")
    return " ".join(found.sentences), found.facts


def test_a_cover_that_is_taken() -> None:
    text, facts = sentences(BLOCKS, "gemmini16")
    target = Target.load("gemmini16")
    wanted = analyze(operator_of(BLOCKS, 64, target, name="w"), target, Search(0, 0))
    assert wanted.verdict == "chosen"
    assert f"The dense plan takes {wanted.dense_cycles} cycles" in text
    assert f"It takes {wanted.sparse_cycles} cycles, {wanted.speedup:.2f}x faster" in text
    assert f"No plan takes fewer than {wanted.cycles_bound} cycles" in text
    assert "what exceeds it is structure" in text
    assert facts["sparse_cycles"] == wanted.sparse_cycles


@pytest.mark.parametrize("matrix", [HALF, FULL], ids=["half", "full"])
def test_zeros_that_do_not_pay(matrix: Any) -> None:
    text, facts = sentences(matrix, "gemmini16")
    assert "Dense is taken" in text
    if matrix is HALF:
        assert "Zeros at random pay from a density of" in text
        assert "this one is above it" in text
        assert "The same density in whole blocks of 16 x 16 would take" in text
    else:
        assert "whole blocks" not in text
    assert facts["verdict"] != "chosen"


def test_groups_that_the_unit_takes() -> None:
    assert "As 2:4, which the unit skips by itself, it would be" in sentences(HALF, "nvidia-tc")[0]


def test_crossbars() -> None:
    text, facts = sentences(BLOCKS, "isaac128", 16)
    assert f"The dense mapping takes {facts['arrays_dense']} arrays, {facts['dense_cycles']} cycles" in text
    assert f"{facts['energy_gap']:.2f} times that" in text
    assert facts["why"] in text


def test_cpu() -> None:
    text, facts = sentences(BLOCKS.astype(np.float32), "cpu")
    assert f"The dense plan takes {facts['dense_ms']:.4g} ms" in text
    assert "of the core's peak" in text


def network(path: Path) -> Path:
    """Two layers, of which the second needs half of what the first computes."""
    first = np.abs(RNG.standard_normal((32, 16))).astype(np.float32)
    second = np.abs(RNG.standard_normal((8, 32))).astype(np.float32)
    second[:, :16] = 0
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], name="one", transB=1),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Gemm", ["b", "v"], ["y"], name="two", transB=1),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8])],
        [numpy_helper.from_array(first, "w"), numpy_helper.from_array(second, "v")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)  # pyright: ignore[reportUnknownMemberType]
    return path


def test_a_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(network(tmp_path / "model.onnx"))
    quick = ["--target", "gemmini16", "--effort", "0", "--batch", "4", "--quiet"]
    assert main(["explain", path, *quick]) == 0
    text = capsys.readouterr().out
    assert "16 rows that nothing after it needs, as two shows" in text
    assert "from 32 x 16 with 512 nonzeros to 16 x 16 with 256" in text
    assert "times 4 columns" in text
    assert main(["explain", path, *quick, "--layer", "two", "--json"]) == 0
    (layer,) = json.loads(capsys.readouterr().out)["layers"]
    assert layer["name"] == "two"
    assert layer["shape"] == [8, 16, 4]
    assert layer["propagated"]["columns"] == [32, 16]
    assert main(["explain", path, *quick, "--layer", "three"]) == 1
    assert "no product is called three; there are one, two" in capsys.readouterr().err


def test_a_network_of_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weight = RNG.integers(-9, 9, (20, 12)).astype(np.int8)
    constants = {
        "s": np.float32(0.1), "z": np.uint8(128), "w": weight, "ws": np.float32(0.02), "wz": np.int8(0),
    }  # fmt: skip
    nodes = [helper.make_node("QLinearMatMul", ["x", "s", "z", "w", "ws", "wz", "s", "z"], ["y"], name="fc")]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.UINT8, [2, 20])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [2, 12])],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "bytes.onnx"
    path.write_bytes(model.SerializeToString())
    assert main(["explain", str(path), "--target", "gemmini16", "--json"]) == 0
    (layer,) = json.loads(capsys.readouterr().out)["layers"]
    assert (layer["name"], layer["shape"], layer["nnz"]) == ("fc", [12, 20, 2], np.count_nonzero(weight))
    assert main(["explain", str(path), "--target", "ascend910"]) == 1
    assert "node 'fc' (linear_integer): multiplies bytes" in capsys.readouterr().err


def test_a_network_with_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, mask = network(tmp_path / "m.onnx"), tmp_path / "mask.npy"
    kept = np.zeros((8, 32), np.float32)
    kept[:, 10:20] = 1  # of which 10:16 hold no weight
    np.save(mask, kept)
    command = ["explain", str(path), "--batch", "4", "--json", "--no-propagate", "--target", "ascend910"]
    assert main([*command, "--mask", f"two={mask}"]) == 0
    one, two = json.loads(capsys.readouterr().out)["layers"]
    assert (one["nnz"], two["nnz"]) == (32 * 16, 8 * 4)
    assert "propagated" not in two


def test_a_matrix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "w.npy", HALF)
    assert main(["explain", str(tmp_path / "w.npy"), "--effort", "0", "--n", "8", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["target"] == "gemmini16"
    assert found["layers"][0]["shape"] == [48, 40, 8]
    assert main(["explain", str(tmp_path / "other.npy")]) == 1
    assert "no such file" in capsys.readouterr().err
    assert main(["explain", str(tmp_path / "w.npy"), "--n", "0"]) == 2
