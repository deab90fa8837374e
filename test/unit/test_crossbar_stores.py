"""Rows of Y that no block writes, and panels: neither keeps arrays waiting."""

from __future__ import annotations

import numpy as np
import pytest

import sparsecc
from sparsecc.crossbar_compiler import CrossbarArtifact, CrossbarSimulation
from sparsecc.scales import Scales


def compiled(w: np.ndarray, n: int, scales: Scales | None = None) -> CrossbarArtifact:
    artifact = sparsecc.compile(w, target="isaac128", n=n, effort=0, confirm=False, scales=scales)
    assert isinstance(artifact, CrossbarArtifact)
    assert not artifact.is_dense
    return artifact


def exact(run: CrossbarSimulation) -> bool:
    return run.check is not None and run.check["wrong"] == 0


def with_empty_rows(m: int, k: int) -> np.ndarray:
    """Every second row is empty: the most runs that there can be."""
    w = np.random.default_rng(1).integers(-99, 100, (m, k)).astype(np.int8)
    w[::2] = 0
    return w


@pytest.mark.parametrize("n", [5, 70])
def test_rows_of_zeros_are_stored_while_arrays_are_busy(n: int):
    """Of the last panel; those of others take two stores by index, which keep nothing from being issued."""
    m = 400
    artifact = compiled(with_empty_rows(m, 64), n)
    run = artifact.simulate()
    assert exact(run)
    counts = run.report["instructions"]
    assert counts["FILL"] == -(-n // 32)
    assert counts["ST"] == m
    assert counts.get("STS", 0) == 2 * (-(-n // 32) - 1)
    waits = run.report["crossbar"]["array_cycles"]["stalls"]
    assert waits["waw"] == waits["war"] == 0
    # A row of up to 8 positions is 32 bytes: one cycle.
    late = m // 2 * -(-4 * ((n - 1) % 32 + 1) // 32)
    assert run.cycles <= artifact.dense.timing.cycles - late
    assert run.cycles == pytest.approx(artifact.report.predicted_cycles, rel=0.05 if n == 5 else 0.15)


@pytest.mark.parametrize("scale", [0.05, None], ids=["one-scale", "per-row"])
def test_rows_of_zeros_are_stored_as_int8(scale: float | None):
    w = with_empty_rows(90, 40).astype(np.float32) * 0.05
    assert exact(compiled(w, 70, Scales(weight=scale, input=0.02, output=0.4)).simulate())


def test_panels_share_no_line():
    """71 rows of X and 37 of Y are no whole lines; a panel is loaded while arrays work on the one before."""
    w = np.random.default_rng(2).integers(-99, 100, (37, 71)).astype(np.int8)
    w[:, ::3] = 0
    run = compiled(w, 64).simulate()
    assert exact(run)
    assert run.report["engines"]["LOAD"]["stalls"]["war"] == 0
    assert run.report["crossbar"]["array_cycles"]["stalls"]["waw"] == 0
