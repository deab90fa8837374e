"""Trains the digit classifier, prunes it in two ways, and writes the files of this folder.

    python examples/digits/train.py

Numpy only (and scikit-learn for the images); about ten seconds on one core. The seed fixes everything;
another numpy or processor may still round differently and give slightly other weights.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
import numpy.typing as npt
from digits import FOLDER, LAYERS, SIZES, VARIANTS, Floats, Labels, Weights, correct, forward, split
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

Masks = dict[str, npt.NDArray[np.bool_]]

SEED = 7
BATCH = 50
DENSE_EPOCHS = 40
PRUNING_STEPS = 10
EPOCHS_PER_STEP = 6
FINAL_EPOCHS = 40
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-4
BLOCK = 16

# The part of each layer that ends up zero: single weights, or 16x16 blocks. The last layer is small, and
# its 10 rows fill no block, so it is pruned lightly and in single weights.
TARGETS: dict[str, dict[str, float]] = {
    "unstructured": {"fc1": 0.90, "fc2": 0.90, "fc3": 0.50},
    "blocks": {"fc1": 0.75, "fc2": 0.78, "fc3": 0.50},
}


def initial_weights(rng: np.random.Generator) -> Weights:
    """He initialisation: normal weights of variance 2 / inputs, biases 0."""
    weights: Weights = {}
    for layer, inputs, outputs in zip(LAYERS, SIZES[:-1], SIZES[1:], strict=True):
        normal = rng.standard_normal((outputs, inputs)) * np.sqrt(2 / inputs)
        weights[f"{layer}.weight"] = normal.astype(np.float32)
        weights[f"{layer}.bias"] = np.zeros(outputs, np.float32)
    return weights


def gradients(weights: Weights, x: Floats, labels: Labels) -> Weights:
    """Gradient of the mean cross-entropy of images `x`, [images, 64], for every tensor."""
    inputs = [x]
    for layer in LAYERS[:-1]:
        inputs.append(np.maximum(inputs[-1] @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"], 0))
    scores = forward(weights, x)
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    delta = exponentials / exponentials.sum(axis=1, keepdims=True)
    delta[np.arange(len(x)), labels] -= 1
    delta /= len(x)
    found: Weights = {}
    for layer, layer_input in zip(reversed(LAYERS), reversed(inputs), strict=True):
        found[f"{layer}.weight"] = delta.T @ layer_input
        found[f"{layer}.bias"] = delta.sum(axis=0)
        delta = (delta @ weights[f"{layer}.weight"]) * (layer_input > 0)
    return found


class Adam:
    """The Adam optimiser (beta 0.9 and 0.999) with decoupled weight decay."""

    def __init__(self, weights: Weights):
        self.steps = 0
        self.mean = {name: np.zeros_like(value) for name, value in weights.items()}
        self.square = {name: np.zeros_like(value) for name, value in weights.items()}

    def step(self, weights: Weights, gradient: Weights, rate: float) -> None:
        self.steps += 1
        for name, g in gradient.items():
            self.mean[name] += np.float32(0.1) * (g - self.mean[name])
            self.square[name] += np.float32(0.001) * (g * g - self.square[name])
            mean = self.mean[name] / (1 - 0.9**self.steps)
            square = self.square[name] / (1 - 0.999**self.steps)
            weights[name] -= np.float32(rate) * (
                mean / (np.sqrt(square) + 1e-8) + WEIGHT_DECAY * weights[name]
            )


def train(
    weights: Weights, masks: Masks, x: Floats, labels: Labels, epochs: int, rng: np.random.Generator
) -> None:
    """Mini-batch Adam in place; a weight outside its mask is set back to 0 after every step.

    The rate falls along half a cosine from LEARNING_RATE to 0.
    """
    optimiser = Adam(weights)
    batches = len(x) // BATCH
    for epoch in range(epochs):
        order = rng.permutation(len(x))
        for batch in range(batches):
            chosen = order[batch * BATCH : (batch + 1) * BATCH]
            progress = (epoch + batch / batches) / epochs
            rate = LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * progress))
            optimiser.step(weights, gradients(weights, x[chosen], labels[chosen]), rate)
            apply(weights, masks)


def apply(weights: Weights, masks: Masks) -> None:
    """Set the weights outside their mask to 0, in place."""
    for name, mask in masks.items():
        weights[name] *= mask


def weight_mask(weight: Floats, part: float) -> npt.NDArray[np.bool_]:
    """True except at the `part` of the weights that are smallest in magnitude."""
    mask = np.ones(weight.size, bool)
    mask[np.argsort(np.abs(weight), axis=None, kind="stable")[: round(part * weight.size)]] = False
    return mask.reshape(weight.shape)


def block_mask(weight: Floats, part: float) -> npt.NDArray[np.bool_]:
    """True except in the `part` of the 16x16 blocks whose norm is smallest."""
    rows, cols = weight.shape[0] // BLOCK, weight.shape[1] // BLOCK
    norms = np.sqrt((weight.reshape(rows, BLOCK, cols, BLOCK) ** 2).sum(axis=(1, 3)))
    return np.kron(weight_mask(norms, part), np.ones((BLOCK, BLOCK), bool))


MASKS: dict[str, dict[str, Callable[[Floats, float], npt.NDArray[np.bool_]]]] = {
    "unstructured": {"fc1": weight_mask, "fc2": weight_mask, "fc3": weight_mask},
    "blocks": {"fc1": block_mask, "fc2": block_mask, "fc3": weight_mask},
}


def masks_for(weights: Weights, variant: str, progress: float) -> Masks:
    """Masks that leave out `progress` (0 to 1) of what `variant` is to lose in the end."""
    return {
        f"{layer}.weight": MASKS[variant][layer](weights[f"{layer}.weight"], progress * target)
        for layer, target in TARGETS[variant].items()
    }


def prune(dense: Weights, variant: str, x: Floats, labels: Labels) -> Weights:
    """`dense` pruned step by step with training in between, then trained on under the final mask.

    The part that is zero follows Zhu and Gupta's cubic ramp: fast at first, while weights are plenty.
    """
    rng = np.random.default_rng([SEED, VARIANTS.index(variant)])
    weights = {name: value.copy() for name, value in dense.items()}
    masks: Masks = {}
    for step in range(1, PRUNING_STEPS + 1):
        masks = masks_for(weights, variant, 1 - (1 - step / PRUNING_STEPS) ** 3)
        apply(weights, masks)
        train(weights, masks, x, labels, EPOCHS_PER_STEP, rng)
    train(weights, masks, x, labels, FINAL_EPOCHS, rng)
    # Multiplying a negative weight with its mask leaves -0.0, which some readers would take for a value.
    return {name: value + np.float32(0) for name, value in weights.items()}


def density(weight: Floats) -> float:
    return np.count_nonzero(weight) / weight.size


def block_density(weight: Floats) -> float:
    """Part of the 16x16 blocks that hold a nonzero."""
    rows, cols = weight.shape[0] // BLOCK, weight.shape[1] // BLOCK
    return float(weight.reshape(rows, BLOCK, cols, BLOCK).any(axis=(1, 3)).mean())


def main() -> None:
    x, labels, test_x, test_labels = split()
    images = len(test_labels)
    rng = np.random.default_rng(SEED)
    dense = initial_weights(rng)
    train(dense, {}, x, labels, DENSE_EPOCHS, rng)
    dense_correct = correct(dense, test_x, test_labels)
    report: dict[str, object] = {
        "seed": SEED,
        "train_images": len(labels),
        "test_images": images,
        "dense": {"correct": dense_correct, "accuracy": dense_correct / images},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "scikit-learn", "safetensors")},
        },
    }
    for variant in VARIANTS:
        at_once = {name: value.copy() for name, value in dense.items()}
        apply(at_once, masks_for(dense, variant, 1.0))
        before = correct(at_once, test_x, test_labels)
        weights = prune(dense, variant, x, labels)
        after = correct(weights, test_x, test_labels)
        report[variant] = {
            "before_fine_tuning": {"correct": before, "accuracy": before / images},
            "correct": after,
            "accuracy": after / images,
            "density": {layer: density(weights[f"{layer}.weight"]) for layer in LAYERS},
            "block_density": {layer: block_density(weights[f"{layer}.weight"]) for layer in LAYERS[:-1]},
        }
        save_file(weights, FOLDER / f"digits_{variant}.safetensors")
    (FOLDER / "accuracy.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
