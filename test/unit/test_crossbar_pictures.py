"""Pictures of crossbars: the figures they show are those of the compiled operator and the simulator."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

import sparsecc
from sparsecc.crossbar_compiler import CrossbarArtifact
from sparsecc.crossbar_pictures import CrossbarPicture, draw
from sparsecc.pictures import plot


@cache
def compiled(target: str) -> CrossbarArtifact:
    rng = np.random.default_rng(0)
    kept = np.kron(rng.random((10, 4)) < 0.3, np.ones((16, 16), bool))
    w = (rng.integers(-127, 128, kept.shape) * kept).astype(np.int8)
    artifact = sparsecc.compile(w, target=target, n=4, effort=0, confirm=False)
    assert isinstance(artifact, CrossbarArtifact)
    return artifact


@pytest.mark.parametrize("target", ["isaac128", "sme128"])
def test_figures_are_those_of_the_simulator(target: str):
    pytest.importorskip("matplotlib", reason="pictures need the extra viz")
    artifact = compiled(target)
    picture = CrossbarPicture.of(artifact)
    run, dense = artifact.timing, artifact.dense.timing
    assert sum(picture.energy.values()) == pytest.approx(run.energy_pj, rel=1e-9)
    assert sum(picture.dense_energy.values()) == pytest.approx(dense.energy_pj, rel=1e-9)
    assert min(*picture.energy.values(), *picture.dense_energy.values()) >= 0
    assert sum(picture.bits.values()) == run.report["crossbar"]["adc_conversions"]
    assert len(picture.fills) == artifact.placed.tiles.arrays
    held = sum(int(np.count_nonzero(t.values)) for t in artifact.placed.tiles if t.image < 0)
    assert picture.fills.sum() * 128 * 128 == pytest.approx(held)
    # The array that is shown is the fullest, and all that it holds lies inside its tiles.
    assert np.count_nonzero(picture.cells) == round(picture.fills.max() * 128 * 128)
    inside = np.zeros(picture.cells.shape, bool)
    for row, column, rows, columns in picture.boxes:
        inside[row : row + rows, column : column + columns] = True
    assert not picture.cells[~inside].any()
    assert np.abs(picture.cells).max() <= picture.highest
    figure = draw(picture, "title", "reason")
    titles = [axes.get_title(loc="left").partition("\n")[0] for axes in figure.axes]
    assert [title for title in titles if title] == [
        f"Arrays: {len(picture.fills)} for {picture.dense} of the dense mapping",
        f"Cells of array {picture.shown}, the fullest",
        "ADC bits",
        "Energy of an inference",
    ]


def test_files_are_written_and_equal(tmp_path: Path):
    pytest.importorskip("matplotlib", reason="pictures need the extra viz")
    artifact = compiled("isaac128")
    for name in ("a.png", "b.png"):
        plot(artifact, str(tmp_path / name))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_matrix_of_zeros_has_a_picture(tmp_path: Path):
    pytest.importorskip("matplotlib", reason="pictures need the extra viz")
    artifact = sparsecc.compile(np.zeros((20, 30), np.int8), target="isaac128", n=2, effort=0)
    plot(artifact, str(tmp_path / "zeros.svg"))
    assert "No array is used" in (tmp_path / "zeros.svg").read_text()
