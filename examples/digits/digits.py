"""The handwritten-digit classifier of this folder: its test images, its weights, and its forward pass.

Layers: 64 pixels -> fc1 256 -> ReLU -> fc2 128 -> ReLU -> fc3 10 scores. Weights are [outputs, inputs].
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Weights = dict[str, Floats]

FOLDER = Path(__file__).resolve().parent
LAYERS = ("fc1", "fc2", "fc3")
SIZES = (64, 256, 128, 10)
VARIANTS = ("unstructured", "blocks")

_SPLIT_SEED = 20240229
_TEST_IMAGES = 497


def split() -> tuple[Floats, Labels, Floats, Labels]:
    """(training images, labels, test images, labels) of scikit-learn's 1797 digits, always the same cut.

    Images: [images, 64], pixels scaled from 0..16 to 0..1. Labels: [images], 0 to 9.
    Raises ImportError when scikit-learn is absent.
    """
    from sklearn import datasets  # pyright: ignore[reportMissingTypeStubs]

    pixels, digits = cast(tuple[Any, Any], datasets.load_digits(return_X_y=True))
    images = np.asarray(pixels, np.float32) / np.float32(16)
    labels = np.asarray(digits, np.int64)
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(images))
    test, train = order[:_TEST_IMAGES], order[_TEST_IMAGES:]
    return images[train], labels[train], images[test], labels[test]


def test_split() -> tuple[Floats, Labels]:
    """(images, labels) of the 497 images that training never sees; shapes as in `split`."""
    return split()[2:]


# The name says what it returns; pytest is not to collect it where a test imports it.
test_split.__test__ = False  # pyright: ignore[reportFunctionMemberAccess]


def load(path: Path | str) -> Weights:
    """The tensors of a `.safetensors` file by name: fc1.weight, fc1.bias, ... fc3.bias."""
    from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType]

    return load_file(path)


def forward(weights: Weights, x: Floats) -> Floats:
    """Scores [images, 10] of images [images, 64]; the largest score is the answer."""
    for layer in LAYERS[:-1]:
        x = np.maximum(x @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"], 0)
    return x @ weights["fc3.weight"].T + weights["fc3.bias"]


def correct(weights: Weights, images: Floats, labels: Labels) -> int:
    """How many of `images` are recognised."""
    return int(np.count_nonzero(forward(weights, images).argmax(axis=1) == labels))
