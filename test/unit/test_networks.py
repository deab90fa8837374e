"""Real networks: the interpreter gives onnxruntime's outputs, and the accuracy that the networks have."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]
import pytest
from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp

from bench import networks
from sparsecc.importers.onnx_file import import_model, import_onnx
from sparsecc.interpreters.sparse import run_module

Array = NDArray[Any]
MODELS = Path(__file__).resolve().parents[3] / "shared" / "data" / "models"
onnxruntime: Any = ort

pytestmark = pytest.mark.skipif(not MODELS.is_dir(), reason=f"no models in {MODELS}")


def arrays(name: str) -> Any:
    return np.load(MODELS / name, allow_pickle=False)


def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", MODELS / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def onnxruntime_output(model: bytes | str, **inputs: Array) -> Array:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, inputs)
    return result


def imported(model: onnx.ModelProto, batch: int, **dims: int) -> ModuleOp:
    module = import_model(model, "model", Path(), batch=batch, dims=dims)
    module.verify()
    return module


def names(module: ModuleOp) -> list[str]:
    return [op.name for op in module.walk()]


def assert_close(result: Array, wanted: Array) -> None:
    np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-5 * float(np.abs(wanted).max()))


def test_lenet_is_right_on_every_digit():
    digits = arrays("mnist_test_a.npz")
    images = digits["images"].reshape(-1, 784).astype(np.float32)
    path = MODELS / "lenet300100_pruned.onnx"
    module = import_onnx(path, batch=len(images))
    assert names(module).count("sparse.constant") == 3
    (result,) = run_module(module, images)
    wanted = onnxruntime_output(str(path), input=images)
    assert_close(result, wanted)
    assert (result.argmax(1) == wanted.argmax(1)).all()
    assert (result.argmax(1) == digits["labels"]).mean() >= 0.97


def test_mnist_of_cntk():
    """Its batch is 1: the digits go through one by one."""
    digits = arrays("mnist_test_a.npz")
    path = MODELS / "mnist_cntk.onnx"
    module = import_onnx(path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    right = 0
    for image, label in zip(digits["images"][:100], digits["labels"][:100], strict=True):
        x = image.reshape(1, 1, 28, 28).astype(np.float32)
        (result,) = run_module(module, x)
        assert_close(result, session.run(None, {"Input3": x})[0])
        right += int(result.argmax() == label)
    assert right >= 98


def test_keyword_spotting_with_weights_of_bytes():
    z, data = arrays("kws_dscnn.npz"), arrays("kws_a.npz")
    features = data["features"][:200]
    module = imported(networks.keyword_spotting(z, quantised=False), len(features))
    weights = [op for op in module.walk() if op.name == "sparse.constant"]
    assert {str(op.results[0].type.element_type) for op in weights} == {"i8"}  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType, reportUnknownMemberType]
    (result,) = run_module(module, features)
    wanted = reference().kws(z, features)
    assert_close(result, wanted)
    assert (result.argmax(1) == wanted.argmax(1)).all()


def test_keyword_spotting_in_bytes():
    """Roundings in another order may move a result by a step of its scale, and that seldom."""
    z, data = arrays("kws_dscnn.npz"), arrays("kws_a.npz")
    features, labels = data["features"][:200], data["labels"][:200]
    model = networks.keyword_spotting(z, quantised=True)
    (result,) = run_module(imported(model, len(features)), features)
    wanted = onnxruntime_output(model.SerializeToString(), features=features)
    steps = np.abs(result - wanted) / z["10_outscale"]
    assert steps.max() <= 3
    assert (steps > 0.5).mean() < 0.02
    accuracy, real = (
        (scores.argmax(1) == labels).mean() for scores in (result, reference().kws(z, features))
    )
    assert accuracy >= real - 0.01


def test_squeezenet_knows_the_cat():
    z = arrays("squeezenet_dc.npz")
    x = networks.squeezenet_input(z["cat_image"])
    module = imported(networks.squeezenet(z), 1, H=x.shape[2], W=x.shape[3])
    (result,) = run_module(module, x)
    wanted = z["cat_output"]
    assert_close(result[0], wanted)
    assert (result[0].argsort()[-5:] == wanted.argsort()[-5:]).all()


def test_graph_convolution_keeps_its_graph_sparse():
    z = arrays("gcn_cora.npz")
    module = imported(networks.graph_convolution(z), 1)
    assert names(module).count("sparse.constant") == 4
    (result,) = run_module(module, reference().csr_dense(z, "X"))
    assert_close(result, z["logits"])
    test, labels = z["test"], z["labels"]
    assert (result.argmax(1)[test] == labels[test]).mean() == (
        z["logits"].argmax(1)[test] == labels[test]
    ).mean()
