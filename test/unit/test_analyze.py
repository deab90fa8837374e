"""The rows of `sparsecc analyze`, their reasons and numbers, its inputs, and its errors."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

import sparsecc
from sparsecc import patterns
from sparsecc.analysis import Analysis, Search, analyze
from sparsecc.driver.analyze import Options, analyze_all, summary, table
from sparsecc.driver.cli import main
from sparsecc.driver.tasks import Failure, tasks_of
from sparsecc.operator import operator_of
from sparsecc.patterns import Mask
from sparsecc.target import Target

SEARCH = Search(effort=0)
OPTIONS = Options("gemmini16", 32, None, SEARCH)


def analysis(mask: Mask, target: str = "gemmini16", n: int = 32) -> Analysis:
    chip = Target.load(target)
    operator = operator_of(mask.astype(np.int8), n, chip, chip.in_type, name="layer")
    return analyze(operator, chip, SEARCH)


def smtx(mask: Mask) -> bytes:
    pattern = patterns.pattern_of(mask)
    header = f"{pattern.m}, {pattern.k}, {pattern.nnz}"
    lines = (header, *(" ".join(map(str, a.tolist())) for a in (pattern.indptr, pattern.indices)))
    return ("\n".join(lines) + "\n").encode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three matrices in three formats, of which one has two tensors."""
    (tmp_path / "a.smtx").write_bytes(smtx(patterns.block((128, 128), (16, 16), 0.25)))
    (tmp_path / "more").mkdir()
    np.save(tmp_path / "more" / "b.npy", patterns.unstructured((64, 64), 0.5).astype(np.float32))
    tensors = {"w": patterns.nm((64, 64), 2, 4), "v": patterns.rows((64, 64), 0.1), "bias": np.ones(3, bool)}
    save_file({name: t.astype(np.float32) for name, t in tensors.items()}, tmp_path / "c.safetensors")
    (tmp_path / "notes.txt").write_text("no matrix")
    return tmp_path


def test_blocks_are_chosen_and_beat_random_sparsity():
    found = analysis(patterns.block((256, 256), (16, 16), 0.1))
    assert (found.verdict, found.pattern, found.fill) == ("chosen", "block(16x16)", 1.0)
    assert found.speedup > 3 > 1.5 > found.control_speedup
    assert found.break_even is None
    assert "refuses 90 % of the cells, fill 1.00; bound by" in found.why


def test_n_of_m_is_refused_with_the_numbers():
    found = analysis(patterns.nm((128, 128), 2, 4))
    assert (found.verdict, found.speedup, found.pattern) == ("refused", 1.0, "2:4")
    assert found.break_even is not None
    assert 0.01 < found.break_even < 0.5
    assert found.why == (
        "every cell holds a nonzero in every cover, 8192 zeros would be padded; density 0.5 is above "
        f"break-even {found.break_even:.2g}; 2:4 fills 100 % of the cells to 0.50, and gemmini16 cannot skip "
        "inside them: a unit that takes 2:4 would do 2.0x less work"
    )


def test_a_matrix_whose_cover_does_not_pay_is_eligible():
    # Gathering drops a few cells of each window, and costs more than that.
    found = analysis(patterns.unstructured((512, 512), 0.15), "ascend910", n=128)
    assert found.verdict == "eligible"
    assert found.cells < found.dense_cells
    assert "but takes" in found.why
    assert "bytes of weights" in found.why


def test_all_zero_and_full_matrices():
    empty, full = analysis(np.zeros((32, 32), bool)), analysis(np.ones((32, 32), bool))
    assert (empty.verdict, empty.cells, empty.padding, empty.weight_bytes) == ("chosen", 0, 0, 0)
    assert (full.verdict, full.padding, full.speedup, full.control_speedup) == ("refused", 0, 1.0, 1.0)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.integers(1, 100),
    st.integers(1, 100),
    st.floats(0, 1),
    st.sampled_from(["gemmini16", "gemmini16x", "scalesim-ws16"]),
)
def test_rows_agree_with_themselves(m: int, k: int, density: float, target: str):
    mask = patterns.unstructured((m, k), density)
    found = analysis(mask, target, n=8)
    assert found.nnz == mask.sum()
    assert found.cycles == (found.sparse_cycles if found.verdict == "chosen" else found.dense_cycles)
    assert found.cycles <= found.dense_cycles
    assert found.gap >= 1
    assert found.speedup == found.control_speedup >= 1  # it is its own control
    assert found.padding >= 0


def test_break_even_is_where_random_matrices_stop_to_pay():
    shape = (256, 256)
    found = analysis(patterns.unstructured(shape, 0.6))
    assert found.break_even is not None
    assert analysis(patterns.unstructured(shape, 0.8 * found.break_even)).verdict == "chosen"
    assert analysis(patterns.unstructured(shape, min(1, 1.3 * found.break_even))).verdict != "chosen"


def test_a_folder_gives_its_matrices_in_order(folder: Path):
    assert [task.name for task in tasks_of(str(folder))] == [
        "a.smtx", "c.safetensors:v", "c.safetensors:w", "more/b.npy",
    ]  # fmt: skip


def test_two_processes_give_the_same_rows(folder: Path):
    tasks = tasks_of(str(folder))
    one = list(analyze_all(tasks, OPTIONS))
    assert one == list(analyze_all(tasks, OPTIONS, jobs=2))
    assert [type(row) for row in one] == [Analysis] * 4


def test_a_pack_gives_its_members(folder: Path):
    path = folder / "pack.tar.xz"
    with tarfile.open(path, "w:xz") as pack:
        for name in ("z", "layers/y"):
            data = smtx(patterns.unstructured((32, 32), 0.1))
            info = tarfile.TarInfo(f"{name}.smtx")
            info.size = len(data)
            pack.addfile(info, io.BytesIO(data))
    tasks = tasks_of(str(path))
    assert [task.name for task in tasks] == ["layers/y", "z"]
    assert all(isinstance(row, Analysis) for row in analyze_all(tasks, OPTIONS))


def test_a_bad_file_is_a_row_and_the_others_are_done(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "b.smtx").write_text("3, 3\n")
    (folder / "d.tar.xz").write_text("no pack")
    assert main(["analyze", str(folder), "--n", "32", "--effort", "0", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    verdicts = {row["name"]: row["verdict"] for row in found["operators"]}
    assert verdicts["b.smtx"] == verdicts["d.tar.xz"] == "failed"
    assert (verdicts["a.smtx"], verdicts["more/b.npy"]) == ("chosen", "refused")
    assert found["summary"]["failed"] == 2
    assert "line 1: found 2 fields" in next(r["error"] for r in found["operators"] if r["name"] == "b.smtx")


def test_the_table_has_a_line_for_each_operator(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["analyze", str(folder), "--n", "32", "--effort", "0"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("gemmini16, N = 32: ")
    assert "block(16x16)" in out
    assert "4 operators: 2 chosen, 2 refused; " in out


def test_the_summary_counts_failures_apart():
    row = analysis(patterns.block((64, 64), (16, 16), 0.25))
    found = summary([row, Failure("bad", "no such file")])
    assert (found["chosen"], found["failed"], found["cycles"]) == (1, 1, row.cycles)
    assert table([row, Failure("bad", "no such file")]).row_count == 2
    assert summary([])["speedup"] == 1.0


def test_the_report_of_a_compiled_operator_says_bound_gap_and_what_was_tried():
    mask = patterns.block((64, 128), (16, 16), 0.25)
    artifact = sparsecc.compile(mask.astype(np.int8), n=32, confirm=False)
    report = artifact.predicted()
    assert (report.pattern, report.plan) == ("block(16x16)", "sparse")
    assert 1 <= report.gap == pytest.approx(report.predicted_cycles / report.cycles_bound, rel=0.01)
    assert (report.cells, report.cells_bound, report.fewest_cells) == (8, 8, None)
    names = [name for name, _, _ in report.tried]
    assert {"dense", "aligned"} <= set(names)
    assert [cycles for _, cycles, _ in report.tried] == sorted(cycles for _, cycles, _ in report.tried)
    assert report.tried[0][1] == report.predicted_cycles
    rows = dict(report.rows())
    assert rows["tried, cycles"].startswith(f"{names[0]} {report.predicted_cycles}, ")
    assert "no cover has fewer than 8" in rows["unit cells"]
    # The text of the IR keeps it.
    assert "sparse.tried" in next(s.text() for s in artifact.stages if s.name == "sparse-compact")
    assert sparsecc.compile(mask.astype(np.int8), n=32, plan="none").predicted().tried == []


def test_the_report_of_a_small_operator_says_the_optimum():
    mask = patterns.unstructured((20, 64), 0.1)
    report = sparsecc.compile(mask.astype(np.int8), n=16, confirm=False).predicted()
    assert report.fewest_cells is not None
    assert report.cells_bound <= report.fewest_cells <= report.cells
    assert f"the fewest possible: {report.fewest_cells}" in dict(report.rows())["unit cells"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nowhere.smtx"], 1, "nowhere.smtx: no such file; check the path"),
        (["."], 1, ".: no matrix in this folder; needed are files that end in .smtx"),
        (["x.smtx", "--target", "gemini16"], 2, "unknown target 'gemini16'"),
        (["x.smtx", "--jobs", "0"], 2, "--jobs 0: at least 1 process is needed"),
        (["x.smtx", "--n", "0"], 2, "--n 0: an operator needs at least 1 position"),
        (["x.smtx", "--dtype", "f16"], 1, "target gemmini16 has no input type 'f16'"),
    ],
)
def test_errors_are_one_sentence(
    arguments: list[str],
    status: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    assert main(["analyze", *arguments]) == status
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
