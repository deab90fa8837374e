"""`sparsecc analyze` on crossbars: its rows agree with what is compiled and simulated."""

import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest

import sparsecc
from sparsecc import patterns
from sparsecc.analysis import Search
from sparsecc.crossbar_analysis import CrossbarAnalysis, analyze_crossbar
from sparsecc.crossbar_report import CrossbarReport
from sparsecc.driver.analyze_crossbar import summary, table
from sparsecc.driver.cli import main
from sparsecc.driver.tasks import Failure
from sparsecc.operator import operator_of
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.load import load_target

N = 16


def weights(mask: patterns.Mask) -> np.ndarray:
    values = np.random.default_rng(7).integers(1, 128, mask.shape)
    return np.where(mask, values, 0).astype(np.int8)


def analysis(matrix: np.ndarray, target: str = "isaac128") -> CrossbarAnalysis:
    chip = cast(CrossbarTarget, load_target(target))
    operator = operator_of(matrix, N, chip, None, name="layer")
    return analyze_crossbar(operator, chip, target, Search(effort=0))


@pytest.mark.parametrize("target", ["isaac128", "puma128"])
def test_a_row_says_what_a_run_says(target: str):
    matrix = weights(patterns.unstructured((96, 160), 0.1))
    found = analysis(matrix, target)
    report = sparsecc.compile(matrix, target=target, n=N, effort=0).report
    assert isinstance(report, CrossbarReport)
    assert (found.verdict, report.plan) == ("chosen", "sparse")
    assert (found.arrays, found.arrays_dense) == (report.arrays, report.arrays_dense)
    assert found.sparse_cycles == report.predicted_cycles
    assert sum(found.adc_bits.values()) == report.adc_conversions
    assert sum(found.dense_adc_bits.values()) == report.adc_conversions_dense
    assert found.energy_pj == pytest.approx(report.energy_pj, rel=0.05)
    assert found.dense_energy_pj == pytest.approx(report.dense_energy_pj, rel=0.05)
    assert found.program_energy_pj == pytest.approx(report.program_energy_pj, rel=0.25)
    assert found.inferences_to_break_even == report.inferences_to_break_even
    assert found.energy_bound_pj == report.energy_bound_pj


def test_structure_gains_more_than_the_same_values_at_random_places():
    found = analysis(weights(patterns.block((256, 128), (64, 32), 0.25)))
    assert found.energy_ratio > 2 > 1.5 * found.control_energy_ratio
    assert found.energy_gap >= 1
    assert f"{found.best} takes" in found.why


def test_full_and_empty_matrices():
    full, empty = analysis(np.full((130, 70), 127, np.int8)), analysis(np.zeros((64, 64), np.int8))
    assert full.energy_ratio == pytest.approx(full.control_energy_ratio)
    assert full.energy_pj <= full.dense_energy_pj
    assert (empty.verdict, empty.arrays, empty.adc_bits, empty.program_energy_pj) == ("chosen", 0, {}, 0)
    assert empty.why == "W has no nonzero: no array is used"


def test_random_zeros_are_their_own_control_and_dense_is_never_left_for_more():
    for density in (0.02, 0.9):
        found = analysis(weights(patterns.unstructured((140, 70), density)))
        assert found.energy_pj <= found.dense_energy_pj
        assert found.cycles <= found.dense_cycles
        assert found.energy_ratio == pytest.approx(found.control_energy_ratio, rel=0.1)


def test_a_folder_as_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name, density in (("a", 0.05), ("b", 0.5)):
        np.save(tmp_path / f"{name}.npy", weights(patterns.unstructured((64, 96), density)))
    (tmp_path / "c.npy").write_bytes(b"no array")
    command = ["analyze", str(tmp_path), "--target", "isaac128", "--n", str(N), "--effort", "0"]
    assert main([*command, "--json", "--jobs", "2"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in told["operators"]] == ["a.npy", "b.npy", "c.npy"]
    assert (told["target"], told["summary"]["failed"], told["summary"]["chosen"]) == ("isaac128", 1, 2)
    first = told["operators"][0]
    assert first["dense_energy_pj"] / first["sparse_energy_pj"] == pytest.approx(first["energy_ratio"])
    assert main(command) == 1
    text = capsys.readouterr().out
    assert text.startswith(f"isaac128, N = {N}: arrays and mean ADC bits")
    assert "3 operators: 2 chosen, 1 failed; " in text


def test_the_summary_counts_failures_apart():
    row = analysis(weights(patterns.unstructured((64, 64), 0.1)))
    found = summary([row, Failure("bad", "no such file")])
    assert (found["chosen"], found["failed"], found["energy_pj"]) == (1, 1, row.energy_pj)
    assert found["energy_ratio"] == pytest.approx(row.energy_ratio)
    assert table([row, Failure("bad", "no such file")]).row_count == 2
    assert summary([])["energy_ratio"] == 1.0


def test_errors_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    np.save(tmp_path / "w.npy", np.ones((8, 8), np.int8))
    assert main(["analyze", str(tmp_path / "w.npy"), "--target", "isaac128", "--dtype", "f32"]) == 1
    error = capsys.readouterr().err
    assert error == "error: input type f32 is not one of target isaac128; it has i8\n"
