"""Programs on crossbars with noise and faults: errors over seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sparsecc
from sparsecc.errors import UserError
from sparsecc.monte_carlo import monte_carlo
from sparsecc.target.crossbar_noise import Noise
from sparsecc.toolchain import build_program


def built(folder: Path, target: str) -> Path:
    rng = np.random.default_rng(0)
    w = (rng.integers(-127, 128, (24, 40)) * (rng.random((24, 40)) < 0.3)).astype(np.int8)
    sparsecc.compile(w, target=target, n=8).save(folder)
    return build_program(folder).absolute()


def test_errors_grow_with_noise(tmp_path: Path):
    program = built(tmp_path / "out", "sme128")
    exact = monte_carlo(program, Noise(), [1, 2])
    assert [(run.wrong, run.relative_error) for run in exact.runs] == [(0, 0), (0, 0)]
    little = monte_carlo(program, Noise(program_sigma=0.02), range(6))
    much = monte_carlo(program, Noise(program_sigma=0.3), range(6))
    assert exact.mean == 0 <= little.mean < much.mean
    assert much.spread > 0
    assert [run.seed for run in much.runs] == list(range(6))
    assert len({run.relative_error for run in much.runs}) == 6
    assert monte_carlo(program, Noise(program_sigma=0.3), [4]).runs[0] == much.runs[4]
    faults = monte_carlo(program, Noise(stuck_low=0.02, stuck_high=0.02), range(3))
    assert all(run.wrong for run in faults.runs)


def test_only_crossbars_have_noise(tmp_path: Path):
    program = built(tmp_path / "out", "gemmini16")
    with pytest.raises(UserError, match=r"only crossbars have noise, and target gemmini16 has none"):
        monte_carlo(program, Noise(read_sigma=0.1), [1])
