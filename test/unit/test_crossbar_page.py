"""The page of an operator on crossbars: its bars are the simulator's figures, its images the cells."""

from __future__ import annotations

import base64
import io
import re
from functools import cache

import matplotlib.image
import numpy as np
import pytest

import sparsecc
from sparsecc.crossbar_compiler import CrossbarArtifact
from sparsecc.crossbar_page import CrossbarView
from sparsecc.html_report import report_page


@cache
def compiled(target: str, density: float = 0.1) -> CrossbarArtifact:
    rng = np.random.default_rng(0)
    w = rng.integers(-127, 128, (64, 200)) * (rng.random((64, 200)) < density)
    artifact = sparsecc.compile(w.astype(np.int8), target=target, n=4, effort=0, confirm=False)
    assert isinstance(artifact, CrossbarArtifact)
    return artifact


@pytest.mark.parametrize("target", ["isaac128", "puma128"])
def test_bars_are_the_figures_of_the_simulator(target: str):
    artifact = compiled(target)
    view = CrossbarView.of(artifact)
    for i, one in enumerate((artifact, artifact.dense)):
        assert isinstance(one, CrossbarArtifact)
        run = one.timing
        told = run.report["crossbar"]
        assert view.energy[i].total == pytest.approx(run.energy_pj, rel=1e-9)
        assert sum((mine, dense)[i] for _, mine, dense in view.parts) == pytest.approx(
            run.energy_pj, rel=1e-9
        )
        assert view.programming[i].total == pytest.approx(told["program"]["energy_pj"])
        assert view.bits[i].total == told["adc_conversions"]
        counts = {s.name: s.value for s in view.bits[i].segments}
        assert counts == {f"{bits} bits": count for bits, count in told["adc_bits"].items() if count}
    assert view.energy[1].segments[-1].start + view.energy[1].segments[-1].width == pytest.approx(100)
    # What an array did fills all of the time, programming included.
    assert view.engine.total == pytest.approx(artifact.timing.report["cycles"])


def test_the_image_shows_the_cells_of_the_fullest_array():
    artifact = compiled("puma128")
    view = CrossbarView.of(artifact)
    assert view.cells is not None
    data = base64.b64decode(view.cells.removeprefix("data:image/png;base64,"))
    pixels = matplotlib.image.imread(io.BytesIO(data), format="png")
    shown = next(i for i, square in enumerate(view.squares) if square.is_shown)
    levels = np.zeros(view.shape, np.int64)
    for t in artifact.placed.tiles:
        if t.array == shown and t.image < 0:
            levels[t.row : t.row + t.rows, t.column : t.column + t.columns] = t.values
    assert pixels.shape == (*view.shape, 4)
    assert ((pixels[..., 3] > 0) == (levels != 0)).all()
    assert ((pixels[..., 0] > pixels[..., 2]) == (levels > 0)).all()
    fullest = 100 * np.count_nonzero(levels) / levels.size
    assert view.squares[shown].title == f"array {shown}: {fullest:.1f} % of its cells hold a level"


def test_the_page_has_a_square_for_each_array_and_the_parts():
    artifact = compiled("isaac128")
    html = report_page([artifact])
    view = CrossbarView.of(artifact)
    assert len(re.findall(r'class="used', html)) == artifact.placed.tiles.arrays
    assert len(view.squares) == max(artifact.placed.tiles.arrays, artifact.report.arrays_dense)
    for heading in ("Arrays", "ADC conversions of an inference", "Energy of an inference", "Energy of prog"):
        assert f"<h2>{heading}" in html
    assert (
        "multiply-accumulates"
        not in html.partition('<script type="application/json"')[0].partition("Arrays")[2]
    )
    assert "WPORT</span>" not in html


def test_a_matrix_of_zeros_has_a_page():
    html = report_page([compiled("isaac128", 0.0)])
    assert "No array is used: W is all zero." in html
