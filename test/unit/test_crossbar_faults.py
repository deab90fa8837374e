"""Stuck cells named one by one: what they hit, that places name the same cells, and bad files."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sparsecc
from sparsecc.crossbar.faults import Fault
from sparsecc.crossbar.place import PLACE_COLUMNS, place_table
from sparsecc.crossbar_compiler import CrossbarArtifact
from sparsecc.driver.cli import main
from sparsecc.errors import UserError
from sparsecc.importers.faults import read_faults
from sparsecc.target.crossbar_noise import NO_NOISE

M, K, N = 24, 70, 6


def weights() -> np.ndarray:
    rng = np.random.default_rng(2)
    return (rng.integers(-127, 128, (M, K)) * (rng.random((M, K)) < 0.2)).astype(np.int8)


@cache
def compiled(target: str) -> CrossbarArtifact:
    artifact = sparsecc.compile(weights(), target=target, n=N, effort=0, confirm=False)
    assert isinstance(artifact, CrossbarArtifact)
    return artifact


def cell_at(artifact: CrossbarArtifact, told: Mapping[Any, int]) -> tuple[int, int]:
    """What the cell of a line of the table of places holds, and the sign its bit line counts with."""
    highest = artifact.target.level_max
    for tile in artifact.placed.tiles:
        row, column = told["row"] - tile.row, told["column"] - tile.column
        if tile.array == told["array"] and 0 <= row < tile.rows and 0 <= column < tile.columns:
            flipped = tile.flipped is not None and tile.flipped[column]
            return int(tile.cells(highest)[row, column]), -1 if flipped else 1
    raise AssertionError("no tile lies there")


def faults_at(artifact: CrossbarArtifact, lines: np.ndarray, change: int) -> list[Fault]:
    """The cells of these lines of the table of places, stuck at a level that is not theirs."""
    found: list[Fault] = []
    highest = artifact.target.level_max
    for line in lines:
        told = dict(zip(PLACE_COLUMNS, line.tolist(), strict=True))
        held = cell_at(artifact, told)[0]
        levels = [level for level in (0, highest) if level != held]
        stuck = levels[change % len(levels)]
        found.append(Fault(told["array"], told["row"], told["column"], stuck, told["slice"]))
    return found


@pytest.mark.parametrize("target", ["puma128", "sme128", "re2pim"])
def test_a_fault_where_places_says_a_weight_is_changes_the_outputs_of_that_weight(target: str):
    artifact = compiled(target)
    places = place_table(artifact.placed.tiles)
    chosen = places[np.random.default_rng(1).permutation(len(places))[:3]]
    x = np.full((K, N), 3, np.int8)
    exact = weights().astype(np.int64) @ x
    for number, line in enumerate(chosen):
        faults = faults_at(artifact, line[None], number)
        y = artifact.noisy_product(x, NO_NOISE, faults)
        changed = np.unique(np.nonzero(y != exact)[0]).tolist()
        # A higher level may make converters clip, to the sum that there was if they were at their limit.
        assert changed == [line[0]] or (faults[0].stuck and not changed)
        if faults[0].stuck == 0:  # by as much as the cell counted
            told = dict(zip(PLACE_COLUMNS, line.tolist(), strict=True))
            cell, sign = cell_at(artifact, told)
            step = sign * cell << (told["shift"] + told["doubled"])
            assert (exact - y)[line[0]].tolist() == [3 * step] * N
        assert artifact.hit_by(faults).tolist() == [line.tolist()]
    # All at once: the outputs of all of them, no others.
    y = artifact.noisy_product(x, NO_NOISE, faults_at(artifact, chosen, 1))
    assert np.unique(np.nonzero(y != exact)[0]).tolist() == sorted(set(chosen[:, 0].tolist()))


def test_offset_cells_and_faults_that_change_nothing():
    artifact = compiled("isaac128")
    places = place_table(artifact.placed.tiles)
    x = np.full((K, N), 2, np.int8)
    exact = weights().astype(np.int64) @ x
    line = places[5]
    told = dict(zip(PLACE_COLUMNS, line.tolist(), strict=True))
    place = told["array"], told["row"], told["column"]
    outcomes = [artifact.noisy_product(x, NO_NOISE, [Fault(*place, stuck)]) for stuck in (0, 3)]
    changed = [np.unique(np.nonzero(y != exact)[0]).tolist() for y in outcomes]
    # The cell is at one of the levels at most.
    assert [told["m"]] in changed
    assert all(rows in ([], [told["m"]]) for rows in changed)


def test_lines_of_the_table_of_places_are_a_file_of_faults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    np.save(tmp_path / "w.npy", weights())
    run = ["run", str(tmp_path / "w.npy"), "--target", "puma128", "--n", str(N), "--effort", "0"]
    assert main([*run, "--places", str(tmp_path / "places.csv"), "--quiet"]) == 0
    with (tmp_path / "places.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if line["m"] in ("3", "7")]
    for line in lines:
        line["stuck"] = "0"
    with (tmp_path / "stuck.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*PLACE_COLUMNS, "stuck"])
        writer.writeheader()
        writer.writerows(lines)
    capsys.readouterr()
    assert main([*run, "--faults", str(tmp_path / "stuck.csv"), "--json"]) == 0
    noisy = json.loads(capsys.readouterr().out)["noisy"]
    held = np.count_nonzero(weights()[[3, 7]])
    assert noisy["faults"] == {"cells": len(lines), "weights": held, "outputs": [3, 7]}
    (once,) = noisy["runs"]  # every run would be the same
    assert 0 < once["wrong"] <= 2 * N
    # Beside rates, in several runs.
    both = ["--faults", str(tmp_path / "stuck.csv"), "--faults", "0.01", "--seeds", "2"]
    assert main([*run, *both]) == 0
    assert f"cells named: {len(lines)}, weights changed: {held}" in capsys.readouterr().out


def test_json_and_csv_say_the_same(tmp_path: Path):
    (tmp_path / "a.csv").write_text("stuck, array, slice, row, column\n3, 0, , 1, 2\n\n0, 4, 1, 5, 6\n")
    (tmp_path / "a.json").write_text(
        '[{"array": 0, "row": 1, "column": 2, "stuck": 3},'
        ' {"array": 4, "row": 5, "column": 6, "slice": 1, "stuck": 0}]'
    )
    found = [
        [(f.array, f.row, f.column, f.stuck, f.slice) for f in read_faults(str(tmp_path / name))]
        for name in ("a.csv", "a.json")
    ]
    assert found[0] == found[1] == [(0, 1, 2, 3, None), (4, 5, 6, 0, 1)]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(20000, 0, 0, 0), "array is 20000, and target puma128 has arrays 0 to 17663 of 128 x 128"),
        (Fault(-1, 0, 0, 0), "array is -1, and target puma128 has arrays"),
        (Fault(0, 128, 0, 0), "row is 128, beyond array 0 of 128 x 128 cells; needed: 0 to 127"),
        (Fault(0, 0, 500, 0), "column is 500, beyond array 0 of 128 x 128 cells; needed: 0 to 127"),
        (
            Fault(0, 0, 0, 2),
            "stuck is 2; a device stays at its lowest or highest level, so a cell of t",
        ),
    ],
)
def test_cells_that_are_none_of_the_target(fault: Fault, message: str):
    with pytest.raises(UserError, match="the fault: ") as error:
        compiled("puma128").stuck_devices([fault])
    assert message in str(error.value)


def test_cells_named_twice_and_slices_that_lie_elsewhere():
    artifact = compiled("puma128")
    line = dict(zip(PLACE_COLUMNS, place_table(artifact.placed.tiles)[0].tolist(), strict=True))
    place = line["array"], line["row"], line["column"]
    with pytest.raises(UserError, match="its cell is that of line 2; name each cell once"):
        artifact.stuck_devices([Fault(*place, 0, where="line 2"), Fault(*place, 3)])
    with pytest.raises(UserError, match=f"slice is 9, but the cell .* holds slice {line['slice']}; take the"):
        artifact.stuck_devices([Fault(*place, 0, 9)])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "array,row,column\n0,0,0\n", "a.csv, line 1: stuck missing; needed: array, row, column"),
        ("a.csv", "array,row,column,stuck,why\n", "a.csv, line 1: 'why' is not known"),
        ("a.csv", "array,row,column,stuck\n0,0,0\n", "a.csv, line 2: found 3 fields, needed 4"),
        ("a.csv", "array,row,column,stuck\n0,0,0,high\n", "a.csv, line 2: stuck is 'high', needed: a whole"),
        ("a.csv", "", "a.csv: is empty; needed: a first line array,row,column,stuck"),
        ("a.json", "{}", "a.json: found dict, needed: a list of objects"),
        ("a.json", "[1]", "a.json, entry 0 (counting from 0): found 1, needed: an object with array, row"),
        ("a.json", "[\n}", "a.json, line 2: is no JSON"),
        ("a.json", '[{"array": 0.5, "row": 0, "column": 0, "stuck": 0}]', "array is 0.5, needed: a whole"),
        ("gone.csv", None, "gone.csv: no such file"),
    ],
)  # fmt: skip
def test_bad_files_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str | None, message: str
):
    np.save(tmp_path / "w.npy", weights())
    if text is not None:
        (tmp_path / name).write_text(text)
    run = ["run", str(tmp_path / "w.npy"), "--target", "puma128", "--faults", str(tmp_path / name)]
    assert main(run) != 0
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_faults_beyond_the_array_end_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    np.save(tmp_path / "w.npy", weights())
    (tmp_path / "f.csv").write_text("array,row,column,stuck\n0,0,0,0\n0,200,0,0\n")
    run = ["run", str(tmp_path / "w.npy"), "--target", "puma128", "--n", "2", "--effort", "0"]
    assert main([*run, "--faults", str(tmp_path / "f.csv")]) == 1
    assert "f.csv, line 3: row is 200, beyond array 0 of 128 x 128 cells" in capsys.readouterr().err
