"""Masks of pruning: applied by layer, from files and arrays; those of other networks are refused."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import onnx
import onnxruntime  # pyright: ignore[reportMissingTypeStubs]
import pytest
from onnx import TensorProto, helper, numpy_helper

from sparsecc.driver.cli import main
from sparsecc.errors import UserError
from sparsecc.importers.onnx_file import import_onnx
from sparsecc.interpreters.sparse import run_module
from sparsecc.masks import masked

RNG = np.random.default_rng(5)
WEIGHTS = {
    "conv.w": RNG.standard_normal((4, 2, 3, 3)).astype(np.float32),
    "fc.w": RNG.standard_normal((5, 4 * 6 * 6)).astype(np.float32),
}
MASKS = {"conv": RNG.random((4, 2, 3, 3)) < 0.5, "fc": RNG.random((5, 144)) < 0.2}
X = RNG.standard_normal((2, 2, 6, 6)).astype(np.float32)


def model(weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "conv.w"], ["a"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Flatten", ["b"], ["c"], name="flatten"),
        helper.make_node("Gemm", ["c", "fc.w"], ["y"], name="fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 5])],
        [numpy_helper.from_array(w, name) for name, w in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "net.onnx").write_bytes(model(WEIGHTS).SerializeToString())
    return tmp_path / "net.onnx"


def test_masked_weights_are_those_of_a_pruned_network(path: Path, tmp_path: Path):
    """onnxruntime runs the network pruned by hand."""
    np.save(tmp_path / "fc.npy", MASKS["fc"].astype(np.float32))
    network = import_onnx(path)
    pruned = {name: w * MASKS[name.partition(".")[0]] for name, w in WEIGHTS.items()}
    session = onnxruntime.InferenceSession(model(pruned).SerializeToString())
    wanted = np.asarray(cast("list[object]", session.run(None, {"x": X}))[0])  # pyright: ignore[reportUnknownMemberType]
    before = str(network)
    (found,) = run_module(masked(network, {"conv": MASKS["conv"], "fc": str(tmp_path / "fc.npy")}), X)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    assert str(network) == before


def test_masks_of_other_networks_are_refused(path: Path):
    network = import_onnx(path)
    with pytest.raises(UserError, match=r"mask of fc1: the network has no such layer .*did you mean fc"):
        masked(network, {"fc1": MASKS["fc"]})
    with pytest.raises(UserError, match=r"mask of fc: found \[144, 5\], needed .* \[5, 144\]; is it"):
        masked(network, {"fc": MASKS["fc"].T})


def test_the_command_line_takes_masks(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    np.save(tmp_path / "fc.npy", MASKS["fc"].astype(np.float32))
    command = ["analyze", str(path), "--target", "scalesim-ws16", "--effort", "0", "--json"]
    assert main([*command, "--mask", f"fc={tmp_path / 'fc.npy'}"]) == 0
    assert f'"nnz": {MASKS["fc"].sum()}' in capsys.readouterr().out
    assert main([*command, "--mask", "fc"]) == 2
    assert "needed LAYER=FILE" in capsys.readouterr().err
