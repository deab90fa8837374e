"""Products for any number of columns, told when the program runs: values as numpy's, cycles as foretold."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sparsecc.any_n import AnyN, anchors, compile_any_n, known_columns
from sparsecc.compiler import compile
from sparsecc.driver.cli import main
from sparsecc.errors import UserError
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.load import load_target
from sparsecc.toolchain import find_compiler, simulator_library

Array = NDArray[Any]


def weight(m: int, k: int, density: float, seed: int, floats: bool = False) -> Array:
    rng = np.random.default_rng(seed)
    kept = rng.random((m, k)) < density
    if floats:
        return (rng.standard_normal((m, k)) * kept).astype(np.float32)
    return (rng.integers(-128, 128, (m, k)) * kept).astype(np.int8)


@pytest.fixture(scope="module")
def product() -> AnyN:
    return compile_any_n(weight(50, 70, 0.08, 1), target="gemmini16", max_n=24, effort=0)


def test_every_number_of_columns(product: AnyN):
    """The program compares all values and cycles; padding is never faster, compiling for one hardly."""
    rows = product.measured()
    assert [row["n"] for row in rows] == list(range(1, 25))
    assert not any(row["wrong"] for row in rows)
    assert {row["n"]: row["cycles"] for row in rows} == product.cycles
    report = product.report
    assert all(row["cycles"] <= report.padded_cycles for row in report.columns)
    assert all(row["cycles"] <= row["dense"] for row in report.columns)
    assert report.over_padding > 1
    fixed = [
        compile(weight(50, 70, 0.08, 1), target="gemmini16", n=n, effort=0).timing.cycles for n in (7, 20)
    ]
    assert np.mean([product.cycles[n] / c for n, c in zip((7, 20), fixed, strict=True)]) <= 1.1


def test_inputs_of_any_width(product: AnyN):
    w = weight(50, 70, 0.08, 1).astype(np.int64)
    for n in (1, 17, 24):
        x = np.random.default_rng(n).integers(-128, 128, (70, n)).astype(np.int8)
        np.testing.assert_array_equal(product(x), w @ x)
    with pytest.raises(UserError, match=r"takes \[K, n\] = \[70, 1 to 24\]"):
        product(np.zeros((70, 25), np.int8))


@given(data=st.data())
@settings(max_examples=3, deadline=None)
def test_targets_and_shapes(data: st.DataObject):
    target = data.draw(
        st.sampled_from(["gemmini16", "gemmini16x", "ascend910", "scalesim-ws16", "nvidia-tc", "tpu128"])
    )
    m, k, most = (data.draw(st.integers(1, top)) for top in (40, 40, 24))
    w = weight(m, k, data.draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])), data.draw(st.integers(0, 9)), True)
    product = compile_any_n(w, target=target, max_n=most, effort=0)
    rows = product.measured()
    assert {row["n"]: row["cycles"] for row in rows} == product.cycles
    assert not any(row["wrong"] for row in rows)


@pytest.mark.parametrize("target", ["isaac128", "puma128"])
def test_crossbars_are_written_once(target: str):
    """One program for every number of columns: values and cycles as compiled for each, one set of arrays."""
    w = np.maximum(weight(50, 70, 0.1, 1), -127)
    product = compile_any_n(w, target=target, max_n=40, effort=0)
    rows = product.measured()
    assert [row["n"] for row in rows] == list(range(1, 41))
    assert {row["n"]: row["cycles"] for row in rows} == product.cycles
    assert not any(row["wrong"] for row in rows)
    told = product.report.columns
    for n in (1, 3, 33):
        fixed = compile(w, target=target, n=n, effort=0).timing
        assert product.cycles[n] == fixed.cycles
        assert told[n - 1]["energy_pj"] == rows[n - 1]["energy_pj"] == pytest.approx(fixed.energy_pj)
    x = np.random.default_rng(0).integers(-127, 128, (70, 17)).astype(np.int8)
    np.testing.assert_array_equal(product(x), w.astype(np.int64) @ x)


def test_crossbars_that_are_written_anew_are_refused():
    chip = cast(CrossbarTarget, load_target("isaac128"))
    array = replace(chip.array, count=2, rows=16, cols=16, shapes=((16, 16),))
    small = replace(chip, name="small", array=array)
    with pytest.raises(UserError, match=r"times the arrays that target small has.* give one number"):
        compile_any_n(np.ones((20, 40), np.int8), target=small, max_n=4, effort=0)


def test_what_is_known():
    assert anchors(128, 16) == [1, 4, 16, 32, 64, 128]
    assert anchors(1, 16) == [1]
    assert known_columns(5, 16) == [1, 2, 3, 4, 5]
    assert known_columns(200, 64) == [1, 2, 4, 8, 16, 32, 64, 128, 192, 200]


def test_more_columns_than_are_simulated(monkeypatch: pytest.MonkeyPatch):
    """Between two known numbers the kernel of the larger one runs."""
    monkeypatch.setattr("sparsecc.any_n.EVERY", 8)
    w = weight(20, 24, 0.2, 3)
    product = compile_any_n(w, target="gemmini16", max_n=36, effort=0)
    assert list(product.cycles) == [1, 2, 4, 8, 16, 32, 36]
    x = np.random.default_rng(0).integers(-128, 128, (24, 21)).astype(np.int8)
    np.testing.assert_array_equal(product(x), w.astype(np.int64) @ x)
    assert product.choice[21] == product.choice[32]


def build(folder: Path) -> None:
    """The program's own C under sanitizers; the library is tested elsewhere."""
    options = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
    sources = ["-I.", "-Iaxsim", "model.c", "data.c", "main.c", "npy.c", str(simulator_library())]
    subprocess.run([*find_compiler(), *options, *sources, "-lm", "-o", "model"], cwd=folder, check=True)


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    np.save(tmp_path / "w.npy", weight(50, 70, 0.08, 1))
    options = [str(tmp_path / "w.npy"), "--max-n", "12", "--effort", "0"]
    assert main(["run", *options, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["n"] for row in report["columns"]] == list(range(1, 13))
    x = np.random.default_rng(0).integers(-128, 128, (70, 5)).astype(np.int8)
    np.save(tmp_path / "x.npy", x)
    files = ["--input", str(tmp_path / "x.npy"), "--output", str(tmp_path / "y.npy")]
    assert main(["run", *options, *files, "--quiet"]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), weight(50, 70, 0.08, 1).astype(np.int64) @ x)
    folder = tmp_path / "out"
    assert main(["compile", *options, "-o", str(folder)]) == 0
    assert "over padding to 12" in capsys.readouterr().out
    build(folder)
    done = subprocess.run([str(folder / "model"), "--n", "9"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1].startswith("n     9  kernel")
    assert subprocess.run([str(folder / "model"), "--quiet"], check=False).returncode == 0
    done = subprocess.run([str(folder / "model"), "--n", "13"], capture_output=True, text=True, check=False)
    assert (done.returncode, "from 1 to 12" in done.stderr) == (2, True)
    expected = bytearray((folder / "check.bin").read_bytes())
    values = np.frombuffer(expected, np.int8)
    values[0] += 1
    (folder / "check.bin").write_bytes(bytes(expected))
    build(folder)
    assert (
        subprocess.run([str(folder / "model"), "--quiet"], check=False, capture_output=True).returncode == 3
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-n", "0"], "needed at least one column"),
        (["--max-n", "8", "--n", "3"], "--n is for one number of columns"),
        (["--max-n", "8", "--target", "cpu"], "is a CPU; columns at run time are for tensor units"),
        (["--max-n", "8", "--output", "y.npy"], "--output needs --input"),
    ],
    ids=["none", "two", "cpu", "output"],
)
def test_what_is_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    np.save(tmp_path / "w.npy", weight(4, 5, 0.5, 1))
    assert main(["run", str(tmp_path / "w.npy"), *arguments]) in (1, 2)
    assert message in capsys.readouterr().err
