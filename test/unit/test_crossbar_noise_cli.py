"""sparsecc run --noise, --faults and --seeds; programs called with noise."""

from __future__ import annotations

import json
import re
import statistics
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import sparsecc
from sparsecc.crossbar_compiler import CrossbarArtifact
from sparsecc.driver.cli import main
from sparsecc.driver.noise_cli import noise_of, table
from sparsecc.monte_carlo import NoisyRun, NoisyRuns
from sparsecc.target.crossbar_noise import Noise


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("noise") / "w.npy"
    np.save(path, (rng.integers(-127, 128, (24, 40)) * (rng.random((24, 40)) < 0.3)).astype(np.int8))
    return path


def test_mean_and_spread_over_seeds(matrix: Path, capsys: pytest.CaptureFixture[str]):
    options = ["run", str(matrix), "--target", "sme128", "--n", "8", "--effort", "0", "--seed", "5"]
    noise = ["--noise", "program=0.2,read=0.01", "--faults", "0.02", "--seeds", "4"]
    assert main([*options, *noise, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    noisy = told["noisy"]
    errors = [run["relative_error"] for run in noisy["runs"]]
    assert [run["seed"] for run in noisy["runs"]] == [5, 6, 7, 8]
    assert noisy["relative_error"]["mean"] == pytest.approx(statistics.fmean(errors))
    assert noisy["relative_error"]["spread"] == pytest.approx(statistics.stdev(errors))
    assert min(errors) > 0
    assert noisy["noise"]["stuck_low"] == 0.01
    # The run without noise is still exact.
    assert told["exact"] is True


def test_the_table_tells_what_json_tells():
    runs = [NoisyRun(seed, 3, 9.0, error, seed) for seed, error in enumerate((0.01, 0.02, 0.06))]
    found = NoisyRuns(Noise(program_sigma=0.2, stuck_low=0.01), tuple(runs))
    console = Console(width=100, record=True, file=StringIO())
    console.print(table(found))
    text = console.export_text()
    assert "Noise: program 0.2, stuck low 0.01" in text
    assert re.search(r"mean\s+3 %", text)
    assert re.search(r"spread\s+2.6 %", text)  # of 1, 2 and 6 %


def test_what_is_asked_for():
    assert noise_of("program=0.05,lognormal=1", "low=0.1, high=0.2") == Noise(
        program_sigma=0.05, lognormal=True, stuck_low=0.1, stuck_high=0.2
    )
    assert noise_of(None, "0.5") == Noise(stuck_low=0.25, stuck_high=0.25)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--noise", "progam=1"], "found 'progam=1'; needed: KEY=NUMBER with KEY one of program, read"),
        (["--noise", "program"], "found 'program'; needed: KEY=NUMBER"),
        (["--noise", "read=much"], "read is 'much', which is no number"),
        (["--noise", "read=1.5"], "read is 1.5; needed: 0 to 1"),
        (["--noise", "read=nan"], "read is nan; needed: 0 to 1"),
        (["--noise", "read=0.1,read=0.2"], "read is given twice"),
        (["--noise", "lognormal=0.5"], "lognormal is 0.5; it is 0 or 1"),
        (["--faults", "-0.1"], "the rate is -0.1; needed: 0 to 1"),
        (["--faults", "low=0.7,high=0.6"], "together more than all devices"),
        (["--faults", "beyond"], "found 'beyond'; needed: KEY=NUMBER with KEY one of low, high"),
        (["--noise", "read=0.1", "--seeds", "0"], "--seeds is 0; needed: 1 to 10000"),
        (["--seeds", "2"], "--seeds counts runs with --noise or --faults"),
        (["--noise", "read=0.1", "--target", "gemmini16"], "--noise: target gemmini16 has no crossbars"),
        (["--faults", "0.1", "--target", "x86-avx2"], "--faults: target x86-avx2 has no crossbars"),
    ],
    ids=[
        "key", "no-number", "word", "above", "nan", "twice", "lognormal", "below", "sum", "no-rate", "seeds",
        "nothing-to-repeat", "tensor-target", "cpu-target",
    ],
)  # fmt: skip
def test_wrong_use_is_one_sentence(
    options: list[str], message: str, matrix: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["run", str(matrix), "--target", "isaac128", *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


def test_a_call_with_noise_is_near_the_exact_one(matrix: Path):
    artifact = sparsecc.compile(matrix, target="sme128", n=8, effort=0)
    assert isinstance(artifact, CrossbarArtifact)
    x = np.random.default_rng(1).integers(-127, 128, (40, 8)).astype(np.int8)
    exact = np.load(matrix).astype(np.int64) @ x
    assert (artifact.noisy_product(x, Noise()) == exact).all()
    noisy = artifact.noisy_product(x, Noise(seed=3, program_sigma=0.1))
    assert (noisy == artifact.noisy_product(x, Noise(seed=3, program_sigma=0.1))).all()
    error = np.linalg.norm(noisy - exact) / np.linalg.norm(exact)
    assert 0.01 < error < 0.3
