"""The pruned digit classifier on a simulated accelerator, every layer checked and compared with dense.

    python examples/digits/run.py [--target T] [--out DIR] [--variant unstructured|blocks]

Layers run in int8: weights by a scale per row, activations by a scale per layer, calibrated on training
images. Bias, ReLU and rescaling between layers are computed here on the host, products on the simulator.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from digits import FOLDER, LAYERS, VARIANTS, Floats, Labels, Weights, correct, load, split
from rich.console import Console
from rich.table import Table

import sparsecc

CALIBRATION_IMAGES = 256


def activation_scales(weights: Weights, images: Floats) -> list[float]:
    """What one int8 step of each layer's input is worth: the largest value seen / 127."""
    scales: list[float] = []
    x = images
    for layer in LAYERS:
        scales.append(float(np.abs(x).max()) / 127)
        x = np.maximum(x @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"], 0)
    return scales


def steps(x: Floats, scale: float) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    """Activations as int8 steps of this size."""
    return np.clip(np.rint(x / scale), -127, 127).astype(np.int8)


def run_variant(
    variant: str, target: str, out: Path, data: tuple[Floats, Labels, Floats, Labels], console: Console
) -> list[tuple[str, sparsecc.Report]]:
    """Compile, run and report one variant; prints its accuracy, leaves a C folder for each layer."""
    train_images, _, images, labels = data
    path = FOLDER / f"digits_{variant}.safetensors"
    weights = load(path)
    scales = activation_scales(weights, train_images[:CALIBRATION_IMAGES])
    # Features x images: the layout of the accelerator, kept from layer to layer.
    x = images.T
    reports: list[tuple[str, sparsecc.Report]] = []
    for layer, scale in zip(LAYERS, scales, strict=True):
        given = steps(x, scale)
        with console.status(f"{variant} {layer}: compiling and simulating"):
            artifact = sparsecc.compile(
                f"{path}:{layer}.weight", target=target, n=len(labels), x=given, name=f"{variant}.{layer}"
            )
            reports.append((f"{variant} {layer}", artifact.report))
            products = artifact(given)
            artifact.save(out / f"{variant}_{layer}")
        row_scales = artifact.operator.scales
        row_scales = np.ones(len(products), np.float32) if row_scales is None else row_scales
        x = products * (row_scales[:, None] * np.float32(scale)) + weights[f"{layer}.bias"][:, None]
        x = np.maximum(x, 0) if layer != LAYERS[-1] else x
    right = int(np.count_nonzero(x.argmax(axis=0) == labels))
    console.print(
        f"{variant}: {right} of {len(labels)} digits right in int8 on {target} "
        f"({100 * right / len(labels):.1f} %), {correct(weights, images, labels)} in float32 on the host"
    )
    return reports


def summary(reports: list[tuple[str, sparsecc.Report]]) -> Table:
    """One line for each layer."""
    table = Table(title="Layers on the simulated accelerator", title_justify="left")
    for name in (
        "layer",
        "zeros",
        "plan",
        "cells kept",
        "cycles",
        "dense cycles",
        "speed-up",
        "energy nJ",
        "check",
    ):
        table.add_column(name, justify="left" if name in ("layer", "plan", "check") else "right")
    for layer, r in reports:
        assert r.cycles is not None
        assert r.dense_cycles is not None
        assert r.speedup is not None
        assert r.energy_pj is not None
        table.add_row(
            layer, f"{100 * (1 - r.density):.0f} %", r.plan, f"{r.cells} of {r.cells + r.refused_cells}",
            str(r.cycles), str(r.dense_cycles), f"{r.speedup:.2f} x", f"{r.energy_pj / 1000:.0f}",
            "every value equal" if r.exact else "WRONG",
        )  # fmt: skip
    return table


def main(argv: list[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", default="gemmini16", help="an int8 target (default: gemmini16)")
    parser.add_argument(
        "--out", type=Path, default=Path("out/digits"), help="where the C goes (default: out/digits)"
    )
    parser.add_argument("--variant", choices=VARIANTS, help="only this one")
    arguments = parser.parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    try:
        data = split()
    except ImportError:
        print(
            "error: the demo's images come with scikit-learn; install it: pip install scikit-learn",
            file=sys.stderr,
        )
        return 1
    reports: list[tuple[str, sparsecc.Report]] = []
    try:
        for variant in [arguments.variant] if arguments.variant else VARIANTS:
            reports += run_variant(variant, arguments.target, arguments.out, data, console)
    except sparsecc.UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return e.exit_code
    console.print(summary(reports))
    for layer, report in reports:
        console.print(f"{layer}: {report.plan}, {report.reason}")
    console.print(f"\nThe C is in {arguments.out}; try: make -C {arguments.out}/blocks_fc2 check")
    return 0 if all(report.exact for _, report in reports) else 3


if __name__ == "__main__":
    sys.exit(main())
