"""How many digits a memristor chip still recognises when its devices differ from their levels.

    python examples/digits/noise.py [--target T] [--variant V] [--noise N] [--faults F] [--seeds S]

The classifier runs layer by layer on simulated crossbars in int8, as in run.py, once for each seed: a chip of
its own. Without --noise and --faults, several levels of each are tried.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
from typing import Any

import numpy as np
from digits import FOLDER, LAYERS, VARIANTS, Floats, Labels, Weights, load, split
from rich.console import Console
from rich.table import Table
from run import CALIBRATION_IMAGES, activation_scales, steps

import sparsecc
from sparsecc.crossbar_compiler import CrossbarArtifact
from sparsecc.driver.noise_cli import noise_of
from sparsecc.target.crossbar_noise import Noise

# What is tried by default: (--noise, --faults).
LEVELS = (
    ("program=0.02", None),
    ("program=0.1", None),
    ("program=0.3", None),
    ("read=0.02", None),
    (None, "0.001"),
    (None, "0.01"),
)


class Chip:
    """The classifier on crossbars: its layers compiled once."""

    def __init__(self, variant: str, target: str, train_images: Floats, images: Floats):
        path = FOLDER / f"digits_{variant}.safetensors"
        self.weights: Weights = load(path)
        self.images = images
        self.scales = activation_scales(self.weights, train_images[:CALIBRATION_IMAGES])
        self.layers: list[CrossbarArtifact] = []
        for layer in LAYERS:
            found = sparsecc.compile(
                f"{path}:{layer}.weight", target=target, n=len(images), name=f"{variant}.{layer}", effort=0
            )
            if not isinstance(found, CrossbarArtifact):
                raise sparsecc.UserError(f"target {target} has no crossbars; name one, such as sme128")
            self.layers.append(found)

    def right(self, labels: Labels, noise: Noise) -> int:
        """How many images are recognised by the chip with these devices."""
        x = self.images.T
        for layer, artifact, scale in zip(LAYERS, self.layers, self.scales, strict=True):
            products = artifact.noisy_product(steps(x, scale), noise)
            row_scales = artifact.operator.scales
            row_scales = np.ones(len(products), np.float32) if row_scales is None else row_scales
            x = products * (row_scales[:, None] * np.float32(scale)) + self.weights[f"{layer}.bias"][:, None]
            x = np.maximum(x, 0) if layer != LAYERS[-1] else x
        return int(np.count_nonzero(x.argmax(axis=0) == labels))


def accuracy(chip: Chip, labels: Labels, noise: Noise, seeds: int) -> dict[str, Any]:
    """Mean and spread (standard deviation) of the accuracy over the seeds, in percent."""
    right = [chip.right(labels, dataclasses.replace(noise, seed=seed)) for seed in range(seeds)]
    percent = [100 * r / len(labels) for r in right]
    return {
        "right": right,
        "images": len(labels),
        "mean_percent": statistics.fmean(percent),
        "spread_percent": statistics.stdev(percent) if seeds > 1 else 0.0,
    }


def main(argv: list[str] | None = None) -> int:
    """Print the table, or JSON; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", default="sme128", help="one with crossbars (default: sme128)")
    parser.add_argument("--variant", choices=VARIANTS, help="only this one")
    parser.add_argument("--noise", metavar="program=S,read=S", help="as of sparsecc run")
    parser.add_argument("--faults", metavar="RATE", help="as of sparsecc run")
    parser.add_argument("--seeds", type=int, default=4, help="chips of each kind (default: 4)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    table = Table(title=f"Digits right on {arguments.target}", title_justify="left")
    for name in ("variant", "noise", "faults", "mean", "spread", "worst chip"):
        table.add_column(name, justify="left" if name in ("variant", "noise") else "right")
    found: list[dict[str, Any]] = []
    try:
        if arguments.seeds < 1:
            raise sparsecc.UserError(f"--seeds is {arguments.seeds}; needed: at least 1", exit_code=2)
        one = (arguments.noise, arguments.faults)
        levels = [(None, None), *([one] if any(one) else LEVELS)]
        noises = [noise_of(*level) for level in levels]
        try:
            train_images, _, images, labels = split()
        except ImportError:
            raise sparsecc.UserError(
                "the images come with scikit-learn; install it: pip install scikit-learn"
            ) from None
        for variant in [arguments.variant] if arguments.variant else VARIANTS:
            chip = Chip(variant, arguments.target, train_images, images)
            for level, noise in zip(levels, noises, strict=True):
                row = accuracy(chip, labels, noise, arguments.seeds if any(level) else 1)
                found.append({"variant": variant, "noise": level[0], "faults": level[1], **row})
                table.add_row(
                    variant, level[0] or "-", level[1] or "-", f"{row['mean_percent']:.1f} %",
                    f"{row['spread_percent']:.1f} %", f"{min(row['right'])} of {len(labels)}",
                )  # fmt: skip
    except sparsecc.UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return e.exit_code
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
