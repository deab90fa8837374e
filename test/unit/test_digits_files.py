"""The committed weights of examples/digits are what its README and accuracy.json say."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType]

from sparsecc.importers import load_matrix

FOLDER = Path(__file__).parents[2] / "examples" / "digits"
REPORT: dict[str, Any] = json.loads((FOLDER / "accuracy.json").read_text())
VARIANTS = ("unstructured", "blocks")
SHAPES = {
    "fc1.weight": (256, 64),
    "fc1.bias": (256,),
    "fc2.weight": (128, 256),
    "fc2.bias": (128,),
    "fc3.weight": (10, 128),
    "fc3.bias": (10,),
}


def digits_module() -> Any:
    spec = importlib.util.spec_from_file_location("digits", FOLDER / "digits.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def file_of(variant: str) -> Path:
    return FOLDER / f"digits_{variant}.safetensors"


@pytest.mark.parametrize("variant", VARIANTS)
def test_tensors(variant: str):
    weights = load_file(file_of(variant))
    assert {name: value.shape for name, value in weights.items()} == SHAPES
    for name, value in weights.items():
        assert value.dtype == np.float32, name
        assert np.isfinite(value).all(), name
        assert not np.signbit(value[value == 0]).any(), f"{name} holds -0.0"


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("layer", ["fc1", "fc2", "fc3"])
def test_densities(variant: str, layer: str):
    matrix = load_matrix(f"{file_of(variant)}:{layer}.weight")
    assert matrix.density == REPORT[variant]["density"][layer]
    if layer == "fc3":
        assert matrix.density == pytest.approx(0.5, abs=0.01)
    elif variant == "unstructured":
        assert matrix.density == pytest.approx(0.1, abs=0.01)
    else:
        rows, cols = matrix.shape
        blocks = matrix.dense().reshape(rows // 16, 16, cols // 16, 16).any(axis=(1, 3))
        assert blocks.mean() == REPORT[variant]["block_density"][layer]
        assert 0.20 <= blocks.mean() <= 0.25


@pytest.mark.parametrize("variant", VARIANTS)
def test_accuracy(variant: str):
    pytest.importorskip("sklearn", reason="scikit-learn, which brings the images, is not installed")
    digits = digits_module()
    images, labels = digits.test_split()
    assert images.shape == (REPORT["test_images"], 64)
    assert images.min() == 0
    assert images.max() == 1
    correct = digits.correct(digits.load(file_of(variant)), images, labels)
    assert correct == REPORT[variant]["correct"]
    assert correct / len(labels) == REPORT[variant]["accuracy"]
    assert REPORT["dense"]["accuracy"] - REPORT[variant]["accuracy"] <= 0.02


def test_split_is_a_cut():
    pytest.importorskip("sklearn", reason="scikit-learn, which brings the images, is not installed")
    x, labels, test_x, test_labels = digits_module().split()
    assert len(x) == len(labels) == REPORT["train_images"]
    assert len(test_x) == len(test_labels) >= 450
    assert len(x) + len(test_x) == 1797
    assert set(test_labels) == set(range(10))
