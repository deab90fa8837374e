"""bench/crossbar_floor.py: no mapping takes less energy than the floor. The digits example with noise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sparsecc
from bench import crossbar_floor as floor
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.load import load_target

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("target", "density"), [("isaac128", 0.03), ("puma128", 0.3)], ids=["isaac128-0.03", "puma128-0.3"]
)
def test_no_mapping_is_below_the_floor(target: str, density: float):
    rng = np.random.default_rng(1)
    w = (rng.integers(-127, 128, (150, 140)) * (rng.random((150, 140)) < density)).astype(np.int8)
    chip = load_target(target)
    assert isinstance(chip, CrossbarTarget)
    least = floor.least_energy(w, chip, 32)
    for plan in ("auto", "dense"):
        energy = sparsecc.compile(w, target=target, n=32, effort=0, plan=plan, confirm=False).timing.energy_pj
        assert 0 < least <= energy


def test_sums_of_tiles_are_within_the_proven_ones():
    levels = np.random.default_rng(2).integers(0, 4, (60, 50)).astype(float)
    levels[:20, :10] = 3  # a full tile among random ones
    rows, columns = floor.grid(60), floor.grid(50)
    most = floor.proven_sums(levels, rows, columns)
    full = most[np.searchsorted(rows, 20), np.searchsorted(columns, 10)]
    assert full >= 600
    assert most[-1, -1] >= levels.sum() - 1e-6


def test_digits_under_noise():
    pytest.importorskip("sklearn", reason="the images come with scikit-learn")
    command = [sys.executable, str(ROOT / "examples" / "digits" / "noise.py"), "--variant", "blocks"]
    options = ["--faults", "0.02", "--seeds", "2", "--json"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    exact, faulty = json.loads(done.stdout)
    assert exact["right"][0] >= 485
    assert faulty["mean_percent"] < exact["mean_percent"]
    assert len(set(faulty["right"])) == 2
    assert faulty["spread_percent"] > 0
