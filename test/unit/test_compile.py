"""From a matrix through C to the simulator: values, cycles, folders that stand alone, the library."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp  # pyright: ignore[reportMissingTypeStubs]
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

import sparsecc
from sparsecc import compiler, patterns
from sparsecc.artifact import Artifact
from sparsecc.codegen.folder import model_c
from sparsecc.cover.metaops import MetaOps
from sparsecc.dialects import tu
from sparsecc.dialects.sparse import CoverOp, SpmmOp
from sparsecc.driver.opt import main as opt
from sparsecc.errors import UserError
from sparsecc.passes.sparse_compact import SparseCompactPass
from sparsecc.passes.tu_unroll import TuUnrollPass
from sparsecc.pipeline import tensor_unit
from sparsecc.stages import save_stages
from sparsecc.target import Target
from sparsecc.target.load import PRESETS as TARGET_FOLDER
from sparsecc.target.numbers import round_bf16

Array = NDArray[Any]

PRESETS = tuple(
    path.stem
    for path in sorted(TARGET_FOLDER.glob("*.toml"))
    if 'family = "tensor"' in path.read_text(encoding="utf-8")
)
MACHINES = [(name, pair[0]) for name in PRESETS for pair in Target.load(name).types]
COMPILERS = [cc for cc in ("gcc", "clang", "clang-19") if shutil.which(cc)]


def matrix(seed: int, m: int, k: int, kind: str = "random") -> Array:
    """A float matrix of a kind of sparsity."""
    rng = np.random.default_rng(seed)
    match kind:
        case "random":
            mask = rng.random((m, k)) < 0.1
        case "blocks":
            mask = np.kron(rng.random((-(-m // 16), -(-k // 16))) < 0.2, np.ones((16, 16)))[:m, :k] > 0
        case "columns":
            mask = (rng.random((m, k)) < 0.7) & (rng.random((1, k)) < 0.1)
        case "zero":
            mask = np.zeros((m, k), bool)
        case _:
            mask = np.ones((m, k), bool)
    return rng.standard_normal((m, k)) * mask


def int8(w: Array) -> Array:
    """The matrix scaled to int8, which compiles without quantisation."""
    return np.clip(np.rint(w * 40), -127, 127).astype(np.int8)


def product(artifact: Artifact, x: Array) -> tuple[Array, Array]:
    """(W X, the bound gamma_K |W| |X|) of the weights as compiled."""
    csr = artifact.operator.weight
    w = np.zeros(csr.shape, np.longdouble)
    w[np.repeat(np.arange(len(w)), np.diff(csr.indptr)), csr.indices] = csr.data
    gamma = w.shape[1] * 2.0**-24 / (1 - w.shape[1] * 2.0**-24)
    wide = x.astype(np.longdouble)
    return w @ wide, gamma * (np.abs(w) @ np.abs(wide))


# Values.


@pytest.mark.parametrize(("target", "in_type"), MACHINES)
def test_every_target_computes_every_type(target: str, in_type: str):
    artifact = sparsecc.compile(matrix(1, 60, 90), target=target, n=20, dtype=in_type)
    assert artifact.report.exact
    assert artifact.report.dtype == in_type
    x = artifact.operator.random_inputs(7)[0]
    y, bound = product(artifact, x)
    if in_type == "i8":
        assert np.array_equal(artifact(x), y)
    else:
        assert (np.abs(artifact(x) - y) <= bound).all()


@pytest.mark.parametrize("kind", ["random", "blocks", "columns", "zero", "dense"])
@pytest.mark.parametrize("plan", ["auto", "dense", "none", "global", "window"])
def test_every_plan_is_exact(kind: str, plan: str):
    artifact = sparsecc.compile(matrix(2, 100, 130, kind), n=24, plan=plan, confirm=False)
    check = artifact.simulate().check
    assert check is not None
    assert check.pop("rms") == pytest.approx(
        np.sqrt(np.mean(artifact.check.expected.astype(np.float64) ** 2))
    )
    assert check == {"wrong": 0, "max_error": 0, "error_bound": 0, "worst_share": 0, "rms_error": 0}


@pytest.mark.parametrize(
    ("target", "in_type"), [("gemmini16", "i8"), ("ascend910", "bf16"), ("tpu128", "bf16")]
)
@pytest.mark.parametrize("extents", [(1, 40, 3), (40, 1, 3), (40, 30, 1), (1, 1, 1)])
def test_edges_of_the_shape_are_exact(target: str, in_type: str, extents: tuple[int, int, int]):
    m, k, n = extents
    artifact = sparsecc.compile(matrix(3, m, k, "dense"), target=target, n=n, dtype=in_type)
    assert artifact.report.exact


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    st.sampled_from(MACHINES),
    st.tuples(st.integers(1, 150), st.integers(1, 150), st.integers(1, 40)),
    st.sampled_from(["random", "blocks", "columns"]),
    st.integers(0, 1000),
)
def test_random_operators_are_exact(
    machine: tuple[str, str], extents: tuple[int, int, int], kind: str, seed: int
):
    m, k, n = extents
    artifact = sparsecc.compile(matrix(seed, m, k, kind), target=machine[0], n=n, dtype=machine[1])
    assert artifact.report.exact


def test_integers_wrap_and_say_so():
    """Sums beyond 32 bits wrap, in the simulator as in the reference, and are counted."""
    k = 140_000
    artifact = sparsecc.compile(
        np.full((1, k), 127, np.int8), n=1, x=np.full((k, 1), 127, np.int8), plan="dense"
    )
    report = artifact.report
    assert report.exact
    assert report.warnings is not None
    assert report.warnings["int32_overflow"] > 0


def test_library_takes_arrays_sparse_matrices_and_files(tmp_path: Path):
    w = int8(matrix(4, 50, 60)).astype(np.float32)
    csr: Any = sp.csr_array(w)
    np.save(tmp_path / "w.npy", w)
    x = np.random.default_rng(0).integers(-9, 9, (60, 5))
    expected = w @ x
    for source in (w, csr, csr.tocoo(), tmp_path / "w.npy", str(tmp_path / "w.npy")):
        y = sparsecc.compile(source, target="scalesim-ws16", dtype="f32", n=5, confirm=False)(x)
        assert np.array_equal(y, expected)
    # What the caller gave stays the caller's.
    assert all(array.flags.writeable for array in (w, csr.data, csr.indices))


def test_bf16_inputs_are_rounded_to_nearest():
    artifact = sparsecc.compile(np.eye(4), target="tpu128", dtype="bf16", n=3, plan="dense")
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    assert np.array_equal(artifact(x), round_bf16(x))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((3, 3)), r"the input has shape \[3, 3\]; operator matrix takes \[K, N\] = \[4, 3\]"),
        (np.full((4, 3), 200), "values that are not integers in -128..127"),
        (np.full((4, 3), 0.5), "values that are not integers in -128..127"),
        (np.full((4, 3), np.nan), "the input has nan at row 0, column 0"),
        (np.full((4, 3), 1j), "the input has element type complex128"),
        (np.full((4, 3), "1"), "the input has element type <U1"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(x: Array, message: str):
    artifact = sparsecc.compile(np.eye(4, dtype=np.int8), n=3, plan="dense")
    with pytest.raises(UserError, match=message):
        artifact(x)


# Cycles.

# SCALE-Sim 3.0.0, weight-stationary, "Total Cycles": (M, N, K) and the three array sizes.
SCALE_SIM = {
    (64, 64, 64): (1759, 631, 445),
    (128, 128, 128): (11135, 3551, 509),
    (256, 256, 256): (77311, 22399, 2551),
    (1, 256, 256): (12031, 6079, 1531),
    (100, 70, 50): (2919, 1163, 481),
}


def dense_cycles(m: int, n: int, k: int, size: int) -> int:
    ones = np.ones((m, k), np.int8)
    return sparsecc.compile(ones, target=f"scalesim-ws{size}", n=n, plan="dense").timing.cycles


@pytest.mark.parametrize("extents", list(SCALE_SIM), ids=str)
def test_scale_sim_says_the_same(extents: tuple[int, int, int]):
    assert tuple(dense_cycles(*extents, size) for size in (16, 32, 128)) == SCALE_SIM[extents]


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.tuples(*(st.integers(1, 300),) * 3), st.sampled_from([16, 32, 128]))
def test_cycles_are_the_closed_form_of_scale_sim(extents: tuple[int, int, int], size: int):
    m, n, k = extents
    closed = math.ceil(k / size) * math.ceil(n / size) * (3 * size + m - 2) - 1
    assert dense_cycles(m, n, k, size) == closed


def test_scale_sim_itself_says_the_same(tmp_path: Path):
    python = os.environ.get("SCALESIM_PYTHON")
    if not python:
        pytest.skip("SCALESIM_PYTHON names no interpreter with scalesim 3.0.0 (it needs numpy < 2)")
    shapes = [(64, 64, 64), (100, 70, 50), (33, 17, 90)]
    (tmp_path / "x.cfg").write_text(SCALE_SIM_CONFIG)
    layers = "".join(f"l{i}, {m}, {n}, {k},\n" for i, (m, n, k) in enumerate(shapes))
    (tmp_path / "mnk.csv").write_text(f"Layer, M, N, K,\n{layers}")
    (tmp_path / "layout.csv").write_text("Layer name,\n" + "".join(f"l{i},\n" for i in range(len(shapes))))
    command = [python, "-m", "scalesim.scale", "-c", "x.cfg", "-t", "mnk.csv", "-l", "layout.csv"]
    command += ["-p", "out", "-i", "gemm", "-s", "N"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (found,) = tmp_path.glob("out/**/COMPUTE_REPORT.csv")
    lines = [line.split(",") for line in found.read_text().splitlines()]
    column = [name.strip() for name in lines[0]].index("Total Cycles")
    live = [round(float(line[column])) for line in lines[1:] if line[0].strip()]
    assert live == [dense_cycles(*shape, 16) for shape in shapes]


SCALE_SIM_CONFIG = """\
[general]
run_name = ws16

[architecture_presets]
ArrayHeight : 16
ArrayWidth : 16
IfmapSramSzkB : 1024
FilterSramSzkB : 1024
OfmapSramSzkB : 1024
IfmapOffset : 0
FilterOffset : 10000000
OfmapOffset : 20000000
Dataflow : ws
Bandwidth : 1000
ReadRequestBuffer : 512
WriteRequestBuffer : 512

[layout]
IfmapCustomLayout : False
IfmapSRAMBankBandwidth : 1000
IfmapSRAMBankNum : 10
IfmapSRAMBankPort : 2
FilterCustomLayout : False
FilterSRAMBankBandwidth : 1000
FilterSRAMBankNum : 10
FilterSRAMBankPort : 2

[sparsity]
SparsitySupport : false
SparseRep : ellpack_block
OptimizedMapping : false
BlockSize : 8
RandomNumberGeneratorSeed : 40

[run_presets]
InterfaceBandwidth : USER
UseRamulatorTrace : False
"""


def test_timing_does_not_depend_on_values():
    artifact = sparsecc.compile(matrix(5, 200, 300), n=48)
    timed, computed = artifact.simulate(values=False), artifact.simulate()
    assert timed.check is None
    assert computed.check is not None
    assert {**timed.report, "notes": []} == computed.report


def test_loads_and_stores_overlap_with_computing():
    """Ping-pong: engines together are busy for much longer than the whole takes."""
    report = sparsecc.compile(matrix(6, 512, 512, "dense"), n=256, plan="dense").report
    assert report.engines is not None
    assert report.cycles is not None
    busy = {name: int(engine["busy"]) for name, engine in report.engines.items()}
    assert busy["LOAD"] + busy["MAT"] > 1.1 * report.cycles
    assert busy["MAT"] > 0.9 * report.cycles


@pytest.mark.parametrize("target", ["gemmini16", "ascend910", "tpu128"])
@pytest.mark.parametrize("kind", ["random", "blocks", "dense"])
def test_the_model_foretells_the_simulator(target: str, kind: str):
    """On layers of some size the estimate that plans are chosen by is near what the simulator counts."""
    report = sparsecc.compile(matrix(7, 512, 768, kind), target=target, n=128, confirm=False).report
    assert report.cycles is not None
    assert report.predicted_cycles == pytest.approx(report.cycles, rel=0.25)


def test_zeros_are_worth_something():
    report = sparsecc.compile(matrix(8, 512, 512, "blocks"), n=64).report
    assert report.plan == "sparse"
    assert report.speedup is not None
    assert report.speedup > 3
    assert report.cells + report.refused_cells == (512 // 16) ** 2
    assert report.padding == report.cells * 256 - report.nnz
    assert report.energy_pj is not None
    assert report.dense_energy_pj is not None
    assert report.energy_pj < report.dense_energy_pj


def test_an_estimate_that_is_wrong_does_no_harm(monkeypatch: pytest.MonkeyPatch):
    """The simulator has the last word: a sparse plan that is slower there is dropped, and it says so."""
    w = int8(matrix(9, 64, 64, "dense"))

    def always_windows(self: SparseCompactPass, op: SpmmOp) -> tuple[MetaOps, str, str]:
        if self.mode == "dense":
            return op.cover(), "dense", "asked for"
        rows = [(range(i, i + 16), range(op.positions), list(range(64))) for i in range(0, 64, 16)]
        return MetaOps.of(rows), "sparse", "surely 9x faster"

    monkeypatch.setattr(SparseCompactPass, "_choose", always_windows)
    artifact = sparsecc.compile(w, n=16)
    assert artifact.plan == "dense"
    assert "the best cover (surely 9x faster) took" in artifact.report.reason
    assert artifact.report.speedup == 1
    assert sparsecc.compile(w, n=16, confirm=False).plan == "sparse"


def test_nothing_to_compute_still_gives_zeros():
    for target in ("gemmini16", "scalesim-ws16"):
        artifact = sparsecc.compile(np.zeros((9, 7)), target=target, n=3)
        assert artifact.plan == "sparse"
        assert not artifact(np.ones((7, 3))).any()
        assert artifact.report.exact
        assert "nan" not in str(artifact.report.rows())


def test_trace_is_one_chrome_reads(tmp_path: Path):
    artifact = sparsecc.compile(matrix(10, 40, 40), n=16, plan="none")
    artifact.rerun(str(tmp_path / "y.npy"), str(tmp_path / "trace.json"))
    events: list[dict[str, Any]] = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    names = {e["args"]["name"] for e in events if e.get("ph") == "M" and e["name"] == "thread_name"}
    assert {"LOAD", "MAT", "STORE"} <= names
    spans = [e for e in events if e["ph"] == "X"]
    assert spans
    assert all(e["dur"] >= 0 and e["ts"] >= 0 for e in spans)
    assert max(e["ts"] + e["dur"] for e in spans) <= artifact.timing.cycles
    assert np.array_equal(np.load(tmp_path / "y.npy"), artifact.check.expected)


# Folders that stand alone.


def saved(folder: Path, target: str = "gemmini16", in_type: str | None = None) -> Path:
    """A folder with unrolled weights, tables in weights.bin, gathers: as much as one program can have."""
    artifact = sparsecc.compile(matrix(11, 150, 200), target=target, n=20, dtype=in_type, plan="window")
    artifact.save(folder)
    return folder


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def test_saved_folder_stands_alone(tmp_path: Path):
    """make and run in a copy elsewhere, with no Python to be found."""
    folder = tmp_path / "elsewhere" / "copy"
    shutil.copytree(saved(tmp_path / "model"), folder)
    shutil.rmtree(tmp_path / "model")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("make", "cc", "gcc", "as", "ld", "sh"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    assert not shutil.which("python3", path=str(tools))
    done = run(["make", "-C", str(folder), "CFLAGS=-O0"], tmp_path, PATH=str(tools), PYTHONPATH="")
    assert done.returncode == 0, done.stderr
    done = run([str(folder / "model")], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "check: 0 of 3000 values wrong" in done.stdout
    assert run(["make", "-s", "check"], folder, CFLAGS="-O0").returncode == 0


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize(("target", "in_type"), [("gemmini16", "i8"), ("ascend910", "f16")])
def test_saved_folder_compiles_without_a_warning(compiler: str, target: str, in_type: str, tmp_path: Path):
    folder = saved(tmp_path / "model", target, in_type)
    done = run(["make", f"CC={compiler}", "CFLAGS=-O0 -Wall -Wextra -Werror"], folder)
    assert done.returncode == 0, done.stderr
    assert run(["./model"], folder).returncode == 0


@pytest.mark.parametrize("compiler", COMPILERS)
def test_saved_folder_is_clean_under_sanitizers(compiler: str, tmp_path: Path):
    folder = saved(tmp_path / "model")
    flags = "-O0 -g -fsanitize=address,undefined -fno-sanitize-recover=all"
    done = run(["make", f"CC={compiler}", f"CFLAGS={flags}"], folder)
    if done.returncode != 0 and "cannot find" in done.stderr:
        pytest.skip(f"{compiler} has no sanitizer libraries")
    assert done.returncode == 0, done.stderr
    done = run(["./model"], folder)
    assert done.returncode == 0, done.stderr
    assert run(["./model", "--timing-only"], folder).returncode == 0


def test_data_beside_the_program_where_the_assembler_cannot(tmp_path: Path):
    folder = saved(tmp_path / "model")
    assert run(["make", "CFLAGS=-O0 -DAX_NO_INCBIN"], folder).returncode == 0
    assert run([str(folder / "model")], tmp_path).returncode == 0
    (folder / "weights.bin").write_bytes((folder / "weights.bin").read_bytes()[:100])
    done = run([str(folder / "model")], tmp_path)
    assert done.returncode == 1
    assert "weights.bin: missing or cut short" in done.stderr


@pytest.mark.parametrize("flags", ["-O0", "-O0 -DAX_NO_INCBIN"])
def test_wrong_weights_are_found(flags: str, tmp_path: Path):
    folder = saved(tmp_path / "model")
    data = bytearray((folder / "weights.bin").read_bytes())
    at = next(i for i, byte in enumerate(data) if byte)
    data[at] ^= 1
    (folder / "weights.bin").write_bytes(data)
    assert run(["make", f"CFLAGS={flags}"], folder).returncode == 0
    done = run(["./model"], folder)
    assert done.returncode == 3
    assert "values are wrong; the first is at row" in done.stderr


def test_program_takes_inputs_and_says_what_is_wrong_with_them(tmp_path: Path):
    folder = saved(tmp_path / "model")
    assert run(["make", "CFLAGS=-O0"], folder).returncode == 0
    x = np.ones((200, 20), np.int8)
    np.save(tmp_path / "x.npy", x)
    done = run(["./model", "--input", str(tmp_path / "x.npy"), "--output", str(tmp_path / "y.npy")], folder)
    assert done.returncode == 0
    assert np.load(tmp_path / "y.npy").shape == (150, 20)
    np.save(tmp_path / "f.npy", x.astype(np.float32))
    np.save(tmp_path / "t.npy", np.ones((200, 2), np.int8))
    np.save(tmp_path / "order.npy", np.asfortranarray(x))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:300])
    (tmp_path / "text.npy").write_text("not numbers")
    for name, problem in {
        "f": "has another element type",
        "t": "has another shape",
        "order": "is in Fortran order",
        "cut": "cut short",
        "text": "not a .npy file",
        "none": "No such file",
    }.items():
        done = run(["./model", "--input", str(tmp_path / f"{name}.npy")], folder)
        assert done.returncode == 1
        assert problem in done.stderr
        assert done.stderr.count("\n") == 1
    for arguments in (["--what"], ["--input"], ["--timing-only", "--input", "x.npy"]):
        assert run(["./model", *arguments], folder).returncode == 2


def test_same_inputs_give_the_same_folder(tmp_path: Path):
    one, other = saved(tmp_path / "one"), saved(tmp_path / "other")
    files = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(other) for p in other.rglob("*") if p.is_file())
    assert Path("weights.bin") in files
    for file in files:
        assert (one / file).read_bytes() == (other / file).read_bytes()


GOLDENS = Path(__file__).resolve().parents[1] / "goldens"


@pytest.mark.parametrize(
    ("name", "target", "extents", "plan", "unroll"),
    [
        ("unrolled", "gemmini16", (20, 40, 20), "none", 256),
        ("looped", "gemmini16", (64, 64, 40), "none", 0),
        ("gathered", "gemmini16", (70, 200, 40), "window", 0),
        ("fragments", "ascend910", (40, 60, 20), "global", 0),
        ("kept", "nvidia-tc", (40, 100, 20), "none", 0),
    ],
)
def test_c_is_what_it_was(
    name: str,
    target: str,
    extents: tuple[int, int, int],
    plan: str,
    unroll: int,
    request: pytest.FixtureRequest,
):
    """The C of small programs, to be read in review: after an intended change run pytest --update-goldens."""
    m, k, n = extents
    w = int8(matrix(17, m, k, "columns" if plan != "none" else "blocks"))
    if name == "kept":
        w = patterns.nm((m, k), 2, 4).astype(np.float32)
        w[20, :4] = 1
    passes = [TuUnrollPass(unroll) if p.name == "tu-unroll" else p for p in tensor_unit(target, plan)]
    found = model_c(sparsecc.compile(w, target=target, n=n, passes=passes).stages[-1].module)
    path = GOLDENS / f"{name}.c"
    if request.config.getoption("--update-goldens"):
        path.write_text(found)
    assert found == path.read_text()


def test_folder_is_replaced_only_if_it_is_ours(tmp_path: Path):
    folder = saved(tmp_path / "model")
    (folder / "model").write_text("built")
    saved(folder)
    assert not (folder / "model").exists()
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="exists and was not written by sparsecc; name another folder"):
        saved(other)
    assert [p.name for p in other.iterdir()] == ["thesis.tex"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "model"]


# Pipelines, stages, targets.


def test_pipelines_are_lists_that_users_edit():
    w = int8(matrix(12, 64, 64))
    passes = [p for p in tensor_unit("gemmini16", "window") if p.name != "sparse-lift"]
    passes = [TuUnrollPass(limit=0) if p.name == "tu-unroll" else p for p in passes]
    artifact = sparsecc.compile(w, n=16, passes=passes)
    assert [s.name for s in artifact.stages] == ["input", *(p.name for p in passes)]
    assert artifact.report.exact


def test_pipeline_without_its_heart_says_so():
    passes = [p for p in tensor_unit("gemmini16") if not p.name.startswith("convert-linalg-")]
    with pytest.raises(UserError, match=r"arith\.constant has no instructions on a tensor unit"):
        _ = sparsecc.compile(np.eye(4), n=4, passes=passes)


def test_targets_made_in_code(tmp_path: Path):
    target = Target.load("gemmini16")
    slow = replace(target, name="slow", dma=replace(target.dma, bytes_per_cycle=1.0))
    w = int8(matrix(13, 64, 64))
    artifact = sparsecc.compile(w, target=slow, n=16, plan="dense")
    assert artifact.target == slow
    assert artifact.report.target == "slow"
    assert artifact.report.exact
    path = tmp_path / "slow.toml"
    path.write_text(slow.to_toml())
    assert sparsecc.compile(w, target=str(path), n=16, plan="dense").timing.cycles == artifact.timing.cycles
    assert sparsecc.compile(w, n=16, plan="dense").timing.cycles < artifact.timing.cycles


def test_stages_are_saved_in_order_and_read_back(tmp_path: Path):
    artifact = sparsecc.compile(matrix(14, 100, 120), n=20)
    save_stages(artifact.stages, tmp_path)
    names = sorted(p.name for p in tmp_path.glob("*.mlir"))
    assert names == [f"{i:02d}-{s.name}.mlir" for i, s in enumerate(artifact.stages)]
    for name in names:
        back = tmp_path / "back.mlir"
        assert opt([str(tmp_path / name), "--blobs", str(tmp_path / "blobs"), "-o", str(back)]) == 0
        assert back.read_text().strip() == (tmp_path / name).read_text().strip()


@dataclass(frozen=True)
class ForgetPass(ModulePass):
    """Breaks the program: its last product is left out."""

    name = "test-forget"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        products = [o for o in op.walk() if isinstance(o, tu.MmOp)]
        products[-1].detach()


@dataclass(frozen=True)
class ShrinkPass(ModulePass):
    """Breaks the cover: one column is left out."""

    name = "test-shrink"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        spmm = next(o for o in op.walk() if isinstance(o, SpmmOp))
        m, k = spmm.weight.shape
        new = spmm.with_body([CoverOp(MetaOps.whole(m, spmm.positions, k - 1))])
        spmm.res.replace_all_uses_with(new.res)
        assert spmm.parent is not None
        spmm.parent.insert_op_after(new, spmm)
        spmm.detach()


def test_checking_stages_finds_the_pass_that_breaks_the_program():
    w = np.ones((32, 32), np.int8)
    passes = tensor_unit("gemmini16", "none")
    at = [p.name for p in passes].index("tu-unroll") + 1
    with pytest.raises(UserError, match=r"after test-forget the value at row \d+, column \d+ is") as caught:
        sparsecc.compile(w, n=16, passes=[*passes[:at], ForgetPass(), *passes[at:]], check_stages=True)
    assert caught.value.exit_code == 3
    # Without the interpreter it is the program itself that finds out.
    broken = sparsecc.compile(w, n=16, passes=[*passes[:at], ForgetPass(), *passes[at:]])
    with pytest.raises(UserError, match=r"values are wrong|never written") as caught:
        _ = broken.report


def test_checking_stages_finds_the_pass_that_breaks_the_cover():
    passes = tensor_unit("gemmini16", "none")
    at = [p.name for p in passes].index("sparse-compact") + 1
    with pytest.raises(UserError, match="after test-shrink the module does not verify: no meta-op holds"):
        sparsecc.compile(
            np.ones((32, 32), np.int8),
            n=16,
            passes=[*passes[:at], ShrinkPass(), *passes[at:]],
            check_stages=True,
        )


@pytest.mark.parametrize(("target", "in_type"), MACHINES)
def test_checking_stages_passes_good_pipelines(target: str, in_type: str):
    sparsecc.compile(matrix(15, 50, 70), target=target, n=20, dtype=in_type, check_stages=True, confirm=False)


def test_progress_is_told():
    told: list[str] = []
    sparsecc.compile(np.eye(4, dtype=np.int8), n=4, plan="dense", progress=told.append)
    assert told[0] == "reading the matrix"
    count = len(tensor_unit("gemmini16"))
    assert told[-1] == f"convert-tu-to-c ({count} of {count})"


def test_without_a_compiler_plans_are_not_confirmed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CC", "/nowhere/cc")
    artifact = sparsecc.compile(matrix(16, 100, 100, "blocks"), n=16)
    assert artifact.plan == "sparse"
    with pytest.raises(UserError, match="CC is '/nowhere/cc', which is no command"):
        _ = artifact.report


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n is 0; an operator needs at least 1 position"),
        ({"dtype": "f64"}, "target gemmini16 has no input type 'f64'; it has i8"),
        ({"target": "gemini16"}, r"unknown target 'gemini16'.*did you mean 'gemmini16'"),
        ({"effort": 4}, "effort 4 is not one of 0 to 3"),
        ({"effort": -1}, "effort -1 is not one of 0 to 3"),
        ({"plan": "best"}, "unknown plan 'best'; it is one of auto, none, "),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        sparsecc.compile(np.eye(4), **arguments)


@pytest.mark.parametrize("source", [3, None, np.zeros((2, 2, 2)), np.array([["a"]]), np.zeros((0, 3))])
def test_sources_that_are_no_matrix_are_refused(source: object):
    with pytest.raises(UserError):
        sparsecc.compile(source)


def test_the_compiler_is_the_documented_interface():
    assert sparsecc.compile is compiler.compile
    assert sparsecc.Artifact is Artifact
    with pytest.raises(AttributeError, match="has no attribute 'other'"):
        _ = sparsecc.other
