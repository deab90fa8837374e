"""The command line: what is printed, what is written, and one sentence for everything that is wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sparsecc
from sparsecc.driver.cli import main
from sparsecc.target import Target
from sparsecc.universe import PASSES, SPARSECC_UNIVERSE

# What `run --json` promises.
KEYS = (
    "target", "shape", "nnz", "dtype", "plan", "reason", "meta_ops", "cells", "refused_cells", "padding",
    "cycles", "dense_cycles", "speedup", "energy_pj", "dense_energy_pj", "dram_bytes", "utilization",
    "max_error", "error_bound", "exact",
)  # fmt: skip

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """A matrix of 48 x 80 in int8, a fifth of it nonzero, in blocks."""
    rng = np.random.default_rng(0)
    mask = np.kron(rng.random((3, 5)) < 0.3, np.ones((16, 16)))
    path = tmp_path / "w.npy"
    np.save(path, (rng.integers(-9, 10, (48, 80)) * mask).astype(np.int8))
    return str(path)


def ok(capsys: Capture, *arguments: str) -> str:
    """Runs the command, which must succeed and keep stderr clean; returns what it printed."""
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def fails(capsys: Capture, code: int, *arguments: str) -> str:
    """Runs the command, which must say one sentence on stderr and nothing else; returns the sentence."""
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


def command(arguments: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "sparsecc.driver.cli", *arguments],
        capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip


# What works.


def test_slower_than_dense_fails_when_asked(tmp_path: Path, capsys: Capture):
    rng = np.random.default_rng(0)
    path = tmp_path / "scattered.npy"
    np.save(path, (rng.integers(1, 9, (256, 256)) * (rng.random((256, 256)) < 0.1)).astype(np.int8))
    arguments = ("run", str(path), "--n", "64", "-q", "--fail-if-slower-than-dense")
    assert "the dense one" in fails(capsys, 3, *arguments, "--plan", "sgt")
    ok(capsys, *arguments)


def test_run_prints_a_table_with_units(weights: str, capsys: Capture):
    out = ok(capsys, "run", weights, "--n", "16")
    rows = dict(line.strip().split("  ", 1) for line in out.splitlines() if "  " in line.strip())
    assert rows["operator"].strip() == "C[48, 16] = W[48, 80] X[80, 16], i8"
    assert rows["speed-up over dense"].strip().endswith(" x")
    assert rows["off-chip traffic"].strip().endswith(" bytes")
    assert rows["energy"].strip().endswith("J)")
    assert {"nonzeros", "plan", "reason", "meta-ops", "unit cells", "cycles", "utilisation"} <= set(rows)
    assert "every value equal" in out


@pytest.mark.parametrize("target", ["gemmini16", "tpu128", "ascend910", "scalesim-ws16"])
def test_run_json_has_what_was_promised(target: str, weights: str, capsys: Capture):
    report = json.loads(ok(capsys, "run", weights, "--target", target, "--n", "16", "--json"))
    assert set(KEYS) <= set(report)
    assert report["target"] == target
    assert report["shape"] == [48, 80, 16]
    assert report["plan"] in ("sparse", "dense")
    assert report["exact"] is True
    assert report["speedup"] == pytest.approx(report["dense_cycles"] / report["cycles"])
    if report["dtype"] == "i8":
        assert report["max_error"] == report["error_bound"] == 0
    assert 0 < report["utilization"] <= 1


def test_gains_stand_beside_those_of_random_zeros(tmp_path: Path, capsys: Capture):
    # Whole blocks of zeros pay on gemmini16; the same number of zeros at random do not.
    path = tmp_path / "blocks.npy"
    np.save(path, np.kron(np.eye(8, dtype=np.int8), np.ones((16, 16), np.int8)))
    report = json.loads(ok(capsys, "run", str(path), "--n", "64", "--json"))
    assert report["plan"] == "sparse"
    assert 1 <= report["control_speedup"] < report["speedup"] / 1.5
    assert "random zeros instead" in ok(capsys, "run", str(path), "--n", "64")


def test_run_is_the_same_every_time(weights: str, capsys: Capture):
    one, other, third = (
        ok(capsys, "run", weights, "--n", "16", "--json", "--seed", seed) for seed in ("1", "1", "2")
    )
    assert one == other
    assert json.loads(third)["cycles"] == json.loads(one)["cycles"]


def test_run_takes_an_input_and_gives_the_output(weights: str, tmp_path: Path, capsys: Capture):
    x = np.random.default_rng(1).integers(-100, 100, (80, 7)).astype(np.int8)
    np.save(tmp_path / "x.npy", x)
    y, trace = tmp_path / "y.npy", tmp_path / "trace.json"
    files = ("--input", str(tmp_path / "x.npy"), "--output", str(y), "--trace", str(trace))
    assert ok(capsys, "run", weights, "--n", "7", "--quiet", *files) == ""
    assert np.array_equal(np.load(y), np.load(weights).astype(np.int32) @ x.astype(np.int32))
    assert json.loads(trace.read_text())


def test_stages_are_dumped_and_checked(weights: str, tmp_path: Path, capsys: Capture):
    ir = tmp_path / "ir"
    ok(capsys, "run", weights, "--n", "16", "--dump-ir", str(ir), "--check-stages", "-q")
    names = sorted(p.name for p in ir.glob("*.mlir"))
    assert names[0] == "00-input.mlir"
    assert names[-1].endswith("convert-tu-to-c.mlir")
    assert "sparse.spmm" in (ir / names[2]).read_text()
    assert list((ir / "blobs").iterdir())


def test_verbose_says_what_is_being_done(weights: str, capsys: Capture):
    assert main(["run", weights, "--n", "16", "-v"]) == 0
    err = capsys.readouterr().err.splitlines()
    assert err[0] == "reading the matrix"
    assert "compiling the C" in err


def test_compile_writes_a_folder(weights: str, tmp_path: Path, capsys: Capture):
    folder = tmp_path / "out" / "model"
    out = ok(capsys, "compile", weights, "--n", "16", "-o", str(folder), "--emit", "mlir,c")
    assert f"make -C {folder} check" in out
    assert {"Makefile", "model.c", "weights.bin", "report.json", "ir"} <= {p.name for p in folder.iterdir()}
    report = json.loads((folder / "report.json").read_text())
    assert report["cycles"] is None
    assert report["predicted_cycles"] > 0
    assert subprocess.run(["make", "-s", "CFLAGS=-O0", "check"], cwd=folder, check=False).returncode == 0


def test_targets_are_listed_and_described(capsys: Capture):
    out = ok(capsys, "targets")
    assert [line.partition(":")[0] for line in out.splitlines()] == list(Target.names())
    out = ok(capsys, "targets", "gemmini16")
    assert "spad 256 KiB" in out
    assert "Horowitz" in out


def test_passes_are_listed_and_described(capsys: Capture):
    out = ok(capsys, "passes")
    assert [line.split()[0] for line in out.splitlines()] == list(PASSES)
    for name in PASSES:
        out = ok(capsys, "passes", name)
        assert out.startswith(f"{name}: ")
        assert "refuses: " in out
    assert "limit (default 256): most instructions" in ok(capsys, "passes", "tu-unroll")


def test_dialects_and_their_operations_are_described(capsys: Capture) -> None:
    listed = [line.split(maxsplit=1) for line in ok(capsys, "dialects").splitlines()]
    assert [name for name, _ in listed] == list(SPARSECC_UNIVERSE.all_dialects)
    for name, summary in listed:
        out = ok(capsys, "dialects", name)
        assert out.startswith(summary)
        for op in SPARSECC_UNIVERSE.all_dialects[name]().operations:
            assert re.search(rf"^  {re.escape(op.name)} +\S", out, flags=re.MULTILINE), op.name


def test_doctor_finds_the_compiler(capsys: Capture, monkeypatch: pytest.MonkeyPatch):
    out = ok(capsys, "doctor")
    assert "C compiler" in out
    assert "MISSING" not in out
    monkeypatch.setenv("CC", "no-such-cc")
    assert main(["doctor"]) == 1
    assert "MISSING  CC is 'no-such-cc'" in capsys.readouterr().out


def test_help_and_version():
    done = command(["--version"])
    assert done.stdout == f"sparsecc {sparsecc.__version__}\n"
    done = command(["run", "--help"])
    assert done.returncode == 0
    for option in (
        "--target",
        "--n",
        "--dtype",
        "--seed",
        "--input",
        "--json",
        "--dump-ir",
        "--check-stages",
    ):
        assert option in done.stdout
    done = command([])
    assert done.returncode == 2
    assert "usage: sparsecc" in done.stdout


@pytest.mark.parametrize("arguments", ["--help", "--version", "run --help"])
def test_help_starts_fast(arguments: str):
    """Nothing large is imported to say how the command is used."""
    code = f"""
import sys
from sparsecc.driver.cli import main
try:
    main({arguments.split()!r})
except SystemExit:
    pass
print([name for name in ("numpy", "scipy", "xdsl", "rich") if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_colours_are_for_terminals_only(weights: str):
    for environment in ({"NO_COLOR": "1"}, {"TERM": "xterm-256color"}):
        done = command(["run", weights, "--n", "4"], **environment)
        assert done.returncode == 0
        assert "\x1b" not in done.stdout + done.stderr


def test_output_may_be_cut_short(weights: str):
    done = subprocess.run(
        f"{sys.executable} -m sparsecc.driver.cli targets gemmini16 | head -1",
        shell=True, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("gemmini16: ws 16 x 16")
    assert done.stderr == ""


# What is wrong.


def bad_file(folder: Path, name: str) -> str:
    """A file that no reader can take, by what is wrong with it."""
    path = folder / name
    dense = np.eye(4, dtype=np.float32)
    match name:
        case "nan.npy":
            np.save(path, np.where(dense, np.nan, 0))
        case "inf.npy":
            np.save(path, np.where(dense, np.inf, 0))
        case "empty.npy":
            np.save(path, np.zeros((0, 4), np.float32))
        case "cube.npy":
            np.save(path, np.zeros((2, 2, 2), np.float32))
        case "complex.npy":
            np.save(path, dense * 1j)
        case "cut.npy":
            np.save(path, dense)
            path.write_bytes(path.read_bytes()[:-5])
        case "cut.smtx":
            path.write_text("4, 4, 4\n0 1 2 3 4\n0 1")
        case "zero.smtx":
            path.write_text("0, 4, 0\n0\n\n")
        case "garbled.mtx":
            path.write_text("%%MatrixMarket matrix coordinate real general\n4 4 1\n5 5 nonsense\n")
        case "missing.smtx":
            pass
        case _:
            path.write_bytes(b"\x93garbage\x00\xff" * 20)
    return str(path)


@pytest.mark.parametrize(
    "name",
    [
        "nan.npy", "inf.npy", "empty.npy", "cube.npy", "complex.npy", "cut.npy", "garbled.npy", "cut.smtx",
        "zero.smtx", "garbled.smtx", "garbled.mtx", "garbled.mtx.gz", "garbled.npz", "garbled.safetensors",
        "garbled.tar.xz", "garbled.txt", "missing.smtx", "missing/",
    ],
)  # fmt: skip
def test_bad_matrices_are_named(name: str, tmp_path: Path, capsys: Capture):
    folder = tmp_path / "out"
    path = bad_file(tmp_path, name) if not name.endswith("/") else str(tmp_path / name)
    for arguments in (["run", path], ["compile", path, "-o", str(folder)]):
        assert Path(path).name in fails(capsys, 1, *arguments)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("run {w} --target gemmini61", 2, "unknown target 'gemmini61' (did you mean 'gemmini16'?)"),
        ("run {w} --target {folder}/no.toml", 2, "no.toml: cannot be read"),
        ("run {w} --target {folder}/bad.toml", 1, "bad.toml:7: array.kind: found 'wss', needed"),
        ("run {w} --dtype f32", 1, "target gemmini16 has no input type 'f32'; it has i8"),
        ("run {w} --n 0", 2, "n is 0; an operator needs at least 1 position"),
        ("run {w} --n many", 2, "invalid int value: 'many'; see sparsecc run --help"),
        ("run {w} --plan best", 2, "unknown plan 'best'; it is one of auto, none, "),
        ("run {w} --what", 2, "unrecognized arguments: --what"),
        ("run", 2, "the following arguments are required: FILE"),
        ("fly {w}", 2, "invalid choice: 'fly'"),
        ("run {w} --effort 4", 2, "argument --effort: invalid choice: 4"),
        ("compile {w}", 2, "the following arguments are required: -o/--output"),
        ("compile {w} -o {folder}/out --emit c,exe", 2, "--emit: exe is neither c nor mlir"),
        ("compile {w} -o {folder}/file", 1, "exists and was not written by sparsecc"),
        ("compile {w} -o {folder}/file/out", 1, "cannot be written: File exists"),
        ("run {w} --dump-ir {folder}/file", 1, "cannot write the stages: File exists"),
        ("run {w} --output {folder}/no/y.npy", 1, "its folder does not exist or may not be written"),
        ("run {w} --trace {folder}/no/t.json", 1, "its folder does not exist or may not be written"),
        ("run {w} --n 9 --input {folder}/x.npy", 1, "has shape [80, 7]; operator w takes [K, N] = [80, 9]"),
        ("run {w} --n 7 --input {folder}/half.npy", 1, "values that are not integers in -128..127"),
        ("run {w} --input {folder}/no.npy", 1, "no.npy"),
        ("run {w} --input {folder}/file", 1, "file"),
        ("targets nonsense", 2, "unknown target 'nonsense'"),
        ("dialects nonsense", 2, "unknown dialect 'nonsense'; the dialects are cpu, host, nn, "),
        ("passes nonsense", 2, "unknown pass 'nonsense'; the passes are "),
    ],
)  # fmt: skip
def test_wrong_commands_are_named(
    arguments: str, code: int, message: str, weights: str, tmp_path: Path, capsys: Capture
):
    (tmp_path / "file").write_text("mine")
    np.save(tmp_path / "x.npy", np.zeros((80, 7), np.int8))
    np.save(tmp_path / "half.npy", np.full((80, 7), 0.5))
    (tmp_path / "bad.toml").write_text(
        Target.load("gemmini16").to_toml().replace('kind = "ws"', 'kind = "wss"')
    )
    words = arguments.format(w=weights, folder=tmp_path).split()
    assert message in fails(capsys, code, *words)
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "file").read_text() == "mine"
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_no_compiler_is_named(weights: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no C compiler: looked for cc, gcc, clang" in fails(capsys, 1, "run", weights)
    # Writing C needs none.
    ok(capsys, "compile", weights, "-o", str(tmp_path / "out"), "-q")


def test_no_room_for_the_simulator_is_named(weights: str, tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    done = command(["run", weights], SPARSECC_CACHE=str(tmp_path / "file"))
    assert done.returncode == 1
    assert "cannot keep the built simulator in" in done.stderr
    assert "SPARSECC_CACHE" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder_is_named(weights: str, tmp_path: Path, capsys: Capture):
    tmp_path.chmod(0o500)
    try:
        assert "cannot be written" in fails(capsys, 1, "compile", weights, "-o", str(tmp_path / "out"))
    finally:
        tmp_path.chmod(0o700)


def test_memories_too_small_are_named(weights: str, tmp_path: Path, capsys: Capture):
    text = Target.load("gemmini16").to_toml()
    (tmp_path / "tiny.toml").write_text(
        text.replace("bytes = 262144", "bytes = 512").replace("bytes = 65536", "bytes = 2048")
    )
    message = fails(capsys, 1, "run", weights, "--target", str(tmp_path / "tiny.toml"))
    assert "the smallest schedule needs" in message


def test_wrong_values_end_with_their_own_status(
    weights: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
):
    """A check that fails is told from an input that is bad."""
    from sparsecc.operator import Spmm

    reference = Spmm.reference

    def off_by_one(self: Spmm, inputs: Any) -> Any:
        found = reference(self, inputs)
        found.expected[0, 0] += 1
        return found

    monkeypatch.setattr(Spmm, "reference", off_by_one)
    assert "values are wrong; the first is at row 0, column 0" in fails(capsys, 3, "run", weights, "--n", "4")
    assert "this is a bug of the pass" in fails(capsys, 3, "run", weights, "--n", "4", "--check-stages")
