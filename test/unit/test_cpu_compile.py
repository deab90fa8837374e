"""Targets of CPUs from a matrix to a call, a report, and a folder that stands alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp

import sparsecc
from sparsecc.cpu import build, machine
from sparsecc.cpu.assembly import Epilogue
from sparsecc.cpu.build import CacheWarning
from sparsecc.cpu.spmm import CpuSpmm
from sparsecc.cpu.tune import Choice, choose
from sparsecc.cpu.variant import Variant
from sparsecc.cpu_compiler import CpuArtifact
from sparsecc.driver.cli import main
from sparsecc.errors import UserError
from sparsecc.passes.convert_sparse_to_cpu import ConvertSparseToCpuPass
from sparsecc.target import load_target
from sparsecc.target.cpu import CpuTarget
from sparsecc.target.load import NATIVE_PRESETS

Array = NDArray[Any]

KERNELS = ("line", "csr", "vector", "dense")
COMPILERS = ("gcc", "clang")


def native() -> CpuTarget:
    """The target of this machine, or a skip where none of ours runs on it."""
    try:
        target = load_target("cpu")
    except UserError as e:
        pytest.skip(str(e))
    assert isinstance(target, CpuTarget)
    return target


def matrix(m: int, k: int, density: float = 0.1, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return ((rng.random((m, k)) < density) * rng.standard_normal((m, k))).astype(np.float32)


def compiled(w: Array, **options: Any) -> CpuArtifact:
    return cast(CpuArtifact, sparsecc.compile(w, target=native().name, **options))


def close(y: Array, w: Array, x: Array) -> bool:
    wide = w.astype(np.float64), x.astype(np.float64)
    n = w.shape[1] * 2.0**-24
    return bool((np.abs(y - wide[0] @ wide[1]) <= n / (1 - n) * (np.abs(wide[0]) @ np.abs(wide[1]))).all())


def test_an_artifact_is_called_in_place_with_any_number_of_positions():
    w = matrix(150, 200)
    artifact = compiled(w, n=48)
    rng = np.random.default_rng(1)
    for n in (1, 2, 3, 4, 16, 48, 100):
        x = rng.standard_normal((200, n)).astype(np.float32)
        y = np.empty((150, n), np.float32)
        assert artifact(x, out=y, threads=2) is y
        assert close(y, w, x)
        assert close(artifact(x), w, x)
        y[:] = np.nan
        # The second call needs no detour, whichever kernel the number of positions has.
        short = artifact.native.array_call
        assert short is None or short.run(short.where, id(x), id(y), 1) == 0
        assert short is None or close(y, w, x)
    x = rng.standard_normal(200).astype(np.float32)
    assert artifact(x).shape == (150,)
    assert close(artifact(x)[:, None], w, x[:, None])
    assert artifact(np.empty((200, 0), np.float32)).shape == (150, 0)


def test_views_whose_rows_lie_apart_are_taken_as_they_are():
    w = matrix(40, 60)
    artifact = compiled(w, n=20)
    whole = np.random.default_rng(0).standard_normal((60, 64)).astype(np.float32)
    out = np.zeros((40, 64), np.float32)
    artifact(whole[:, 7:30], out=out[:, 1:24])
    assert close(out[:, 1:24], w, whole[:, 7:30])
    assert not out[:, 24:].any()
    assert not out[:, 0].any()
    # Columns of one array that do not overlap, though their rows interleave.
    both = np.concatenate([whole[:, :20], np.zeros((60, 20), np.float32)], axis=1)
    artifact(both[:, :20], out=both[:40, 20:])
    assert close(both[:40, 20:], w, whole[:, :20])


@pytest.mark.parametrize(
    ("x", "out", "says"),
    [
        (np.ones((60, 4)), None, "x has element type float64; needed float32"),
        (np.ones((59, 4), np.float32), None, r"x has shape \[59, 4\]; needed \[60, N\]"),
        (np.ones((4, 60), np.float32).T, None, "x has strides .* needed rows of contiguous"),
        (np.ones((60, 8), np.float32)[:, ::2], None, "x has strides"),
        (np.ones((60, 8), np.float32)[::-1], None, "x has strides"),
        (np.ones((60, 4), np.float32), np.ones((40, 5), np.float32), r"out has shape \[40, 5\]"),
        (np.ones((60, 4), np.float32), np.ones((40, 4)), "out has element type float64"),
        ([[1.0]] * 60, None, "x is a list; needed a numpy array"),
    ],
)
def test_wrong_arrays_are_refused(x: Any, out: Any, says: str):
    with pytest.raises(UserError, match=says):
        compiled(matrix(40, 60), n=4, plan="csr")(x, out=out)


def test_arrays_that_share_memory_or_may_not_be_written_are_refused():
    artifact = compiled(matrix(40, 60), n=4, plan="csr")
    x = np.ones((60, 4), np.float32)
    with pytest.raises(UserError, match="out shares memory with x"):
        artifact(x, out=x[10:50])
    frozen = np.ones((40, 4), np.float32)
    frozen.flags.writeable = False
    with pytest.raises(UserError, match="out may not be written"):
        artifact(x, out=frozen)
    with pytest.raises(UserError, match="threads is 0; needed at least 1"):
        artifact(x, threads=0)
    with pytest.raises(UserError, match="residual: found one, but the operator was compiled without"):
        artifact.native(x, residual=np.ones((40, 4), np.float32))


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_stage_computes_the_same(kernel: str):
    if kernel == "line" and not native().limits.line_nnz:
        pytest.skip(f"no straight-line code is written for {native().name}")
    artifact = compiled(matrix(90, 130), n=24, plan=kernel, check_stages=True)
    assert artifact.product.variant.kind == kernel
    assert artifact.plan == ("dense" if kernel == "dense" else "sparse")
    assert artifact.report.exact


def test_a_report_has_figures_that_belong_together():
    report = compiled(matrix(256, 256, 0.1), n=64).report
    assert report.wall_ms is not None
    assert report.dense_ms is not None
    assert report.gflops is not None
    assert report.speedup == report.dense_ms / report.wall_ms
    assert np.isclose(report.gflops, 2e-6 * report.nnz * 64 / report.wall_ms)
    assert report.exact
    assert [ms for _, ms in report.tried] == sorted(ms for _, ms in report.tried)
    assert report.to_json()["kernel"] == report.kernel


def test_the_dense_plan_is_taken_where_it_is_faster(monkeypatch: pytest.MonkeyPatch):
    w = matrix(64, 64, 0.5, seed=7)

    def instantly(*_: object) -> float:
        return 1e-9

    monkeypatch.setattr("sparsecc.cpu.tune.blas_seconds", instantly)
    artifact = compiled(w, n=64)
    assert artifact.is_dense
    assert artifact.choice.dense_library == "blas"
    assert "dense is faster by measurement (BLAS)" in artifact.reason
    assert artifact.report.speedup == 1.0
    for threads in (1, 2):
        x = np.random.default_rng(0).standard_normal((64, 30)).astype(np.float32)
        assert close(artifact(x, threads=threads), w, x)


def test_an_empty_matrix_gives_zeros():
    w = np.zeros((20, 30), np.float32)
    y = compiled(w, n=5)(np.full((30, 5), np.nan, np.float32))
    assert y.shape == (20, 5)
    assert compiled(w, n=5, plan="csr")(np.ones((30, 5), np.float32)).any() == np.False_


def test_both_ways_to_a_kernel_are_taken_and_equal(monkeypatch: pytest.MonkeyPatch):
    w = matrix(70, 90)
    rng = np.random.default_rng(0)
    for kernel in KERNELS:
        if kernel == "line" and not native().limits.line_nnz:
            continue
        operator = compiled(w, n=1 if kernel == "vector" else 33, plan=kernel).native
        for n in (1, 33):
            x, y, z = rng.standard_normal((90, n)).astype(np.float32), *np.empty((2, 70, n), np.float32)
            with monkeypatch.context() as patch:
                patch.setitem(operator.__dict__, "array_call", None)
                operator(x, out=y)
            operator(x, out=z)
            assert (y == z).all(), kernel
            assert close(z, w, x)


def test_a_bound_call_reads_its_arrays_anew():
    w = matrix(70, 90)
    rng = np.random.default_rng(0)
    for plan, n in (("csr", 33), ("vector", 1), ("csr", 1), ("dense", 5), ("vector", 3)):
        product = compiled(w, n=n, plan=plan)
        x, y = np.zeros((90, n), np.float32), np.full((70, n), np.nan, np.float32)
        call = product.bind(x, y, threads=2)
        for _ in range(2):
            x[:] = rng.standard_normal(x.shape)
            assert call() is y
            assert close(y, w, x)
    product = compiled(w, n=16, plan="csr")
    x, y = rng.standard_normal(90).astype(np.float32), np.zeros(70, np.float32)
    assert product.bind(x, y)() is y
    assert close(y[:, None], w, x[:, None])
    panels, out = product.pack(x[:, None]), np.full((1, 70, 16), np.nan, np.float32)
    assert product.bind(panels, out)() is out
    assert close(out[0], w, panels[0])
    empty = np.zeros((70, 0), np.float32)
    assert product.bind(np.zeros((90, 0), np.float32), empty)() is empty
    with pytest.raises(UserError, match="out shares memory with x"):
        product.bind(panels[0], panels[0][:70])


def test_the_short_way_leaves_other_objects_alone():
    fast = compiled(matrix(20, 30), n=8, plan="csr").native.array_call
    assert fast is not None
    x, y = np.ones((30, 8), np.float32), np.zeros((20, 8), np.float32)
    frozen = np.zeros((20, 8), np.float32)
    frozen.flags.writeable = False
    both = np.zeros((50, 8), np.float32)
    others: list[tuple[object, object]] = [
        (None, y), (x, None), (x.tolist(), y), (x.astype(np.float64), y), (x[:29], y), (x[:, ::2], y[:, :4]),
        (x, y[:, :7]), (x[::-1], y), (x, frozen), (x.ravel(), y), (both[:30], both[25:45]),
        (x[:, :0], y[:, :0]), (np.asfortranarray(x), y), (x.astype(">f4"), y), (x.view(np.int32), y),
    ]  # fmt: skip
    for a, b in others:
        assert fast.run(fast.where, id(a), id(b), 1) == 1
    assert not y.any()
    assert fast.run(fast.where, id(x), id(y), 0) == 1
    assert fast.run(fast.where, id(x), id(y), 1) == 0
    assert y.any()


def test_what_was_measured_is_found_again(monkeypatch: pytest.MonkeyPatch):
    w = compiled(matrix(64, 64), n=16).native.w
    target = native()
    monkeypatch.setattr("sparsecc.cpu.tune._chosen", {})
    first = choose(w, target, 16)
    assert first.measured
    monkeypatch.setattr("sparsecc.cpu.tune._chosen", {})

    def fail(*_: Any) -> Choice:
        raise AssertionError("measured again")

    monkeypatch.setattr("sparsecc.cpu.tune._measure", fail)
    assert choose(w, target, 16) == first


def test_a_damaged_cache_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if not native().limits.line_nnz:
        pytest.skip(f"no straight-line code is written for {native().name}")
    w, x = matrix(30, 30, seed=5), np.ones((30, 4), np.float32)
    assert close(compiled(w, n=4, plan="line")(x), w, x)
    for path in build.kept_folder().glob("line-*.so"):
        path.unlink()
        path.write_bytes(b"cut short")
    for path in build.kept_folder().glob("choice-*.json"):
        path.write_text("{")
    monkeypatch.setattr("sparsecc.cpu.tune._chosen", {})
    assert close(compiled(w, n=4, plan="line")(x), w, x)


def test_caches_of_different_cpus_lie_apart(monkeypatch: pytest.MonkeyPatch):
    native()
    here = build.kept_folder()
    other = machine.Machine("x86_64", "another", frozenset({"avx2", "fma"}))
    build._folder.cache_clear()  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr("sparsecc.cpu.build.machine", lambda: other)
    try:
        assert build.kept_folder() != here
    finally:
        build._folder.cache_clear()  # pyright: ignore[reportPrivateUsage]


@pytest.fixture
def unwritable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    """A cache that cannot be made, since a file is in its way: even root may not write there."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPARSECC_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    build._folder.cache_clear()  # pyright: ignore[reportPrivateUsage]
    yield tmp_path
    build._folder.cache_clear()  # pyright: ignore[reportPrivateUsage]


def test_without_a_cache_a_temporary_folder_is_used_and_said(unwritable: Path):
    with pytest.warns(CacheWarning, match="cannot be written .* is kept in"):
        folder = build.kept_folder()
    assert folder.is_relative_to(unwritable)
    assert folder.is_dir()


def test_a_cpu_without_the_instructions_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch):
    old = machine.Machine("x86_64", "an old one", frozenset({"sse2"}))
    monkeypatch.setattr("sparsecc.target.cpu.machine", lambda: old)
    monkeypatch.setattr("sparsecc.target.load.machine", lambda: old)
    with pytest.raises(
        UserError, match=r"no CPU target runs on this machine, which is an old one; .*avx512f"
    ):
        load_target("cpu")
    artifact = sparsecc.compile(matrix(20, 20), target="x86-avx2", n=4)
    with pytest.raises(UserError, match="target x86-avx2 needs a CPU with avx2, fma; this one is an old one"):
        artifact(np.ones((20, 4), np.float32))


def test_targets_say_what_they_need(capsys: pytest.CaptureFixture[str]):
    for name in NATIVE_PRESETS:
        target = load_target(name)
        assert isinstance(target, CpuTarget)
        assert main(["targets", name]) == 0
        assert target.simd.features in capsys.readouterr().out
        assert target.unit == (1, target.simd.lanes, 1)


def test_what_a_cpu_does_not_do_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    name = native().name
    np.save(tmp_path / "w.npy", matrix(8, 8, 0.5))
    for arguments, says in (
        (["--op", "sddmm"], "multiply by constants"),
        (["--plan", "window"], "on a CPU it is one of auto, line, csr, vector, dense"),
        (["--dtype", "f64"], "'f64'"),
        (["--trace", str(tmp_path / "t.json")], "has no trace"),
    ):
        assert main(["run", str(tmp_path / "w.npy"), "--target", name, *arguments]) == 2
        assert says in capsys.readouterr().err
    with pytest.raises(Exception, match="target gemmini16 is no CPU"):
        ConvertSparseToCpuPass(target="gemmini16").apply(Context(), ModuleOp([]))
    for kind, parameters in (("lime", {}), ("line", {}), ("csr", {"lanes": 1})):
        with pytest.raises(ValueError, match="kernel"):
            Variant.of(kind, parameters)


def test_the_command_line_runs_and_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    native()
    np.save(tmp_path / "w.npy", w := matrix(96, 80))
    np.save(tmp_path / "x.npy", x := np.random.default_rng(0).standard_normal((80, 20)).astype(np.float32))
    command = ["run", str(tmp_path / "w.npy"), "--target", "cpu", "--n", "20", "--json", "--check-stages"]
    files = ["--input", str(tmp_path / "x.npy"), "--output", str(tmp_path / "y.npy")]
    assert main([*command, *files]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["exact"]
    assert report["speedup"] > 0
    assert report["peak_fraction"] < 1.5
    assert close(np.load(tmp_path / "y.npy"), w, x)
    assert main([*command[:-1], "--threads", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["threads"] == 2
    assert main([*command, "--threads", "0"]) == 2
    assert main([*command, "--target", "gemmini16", "--dtype", "i8", "--threads", "2", "--n", "20"]) == 2
    assert "gemmini16 is no CPU" in capsys.readouterr().err


def built(folder: Path, *arguments: str) -> None:
    """Make the program of a folder; warnings are errors."""
    done = subprocess.run(
        ["make", "-C", str(folder), "model", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def run_program(command: list[str]) -> str:
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("compiler", COMPILERS)
def test_emitted_c_checks_itself_under_sanitizers(
    tmp_path: Path, compiler: str, monkeypatch: pytest.MonkeyPatch
):
    found = shutil.which(compiler) or (
        compiler == "clang" and (shutil.which("clang-19") or shutil.which("clang-14"))
    )
    if not found:
        pytest.skip(f"{compiler} is not installed")
    flags = "-O1 -Wall -Wextra -Werror -fsanitize=address,undefined -fno-sanitize-recover=all".split()
    command = [found, "-std=gnu11", *native().simd.flags.split(), *flags]
    kernels = [kernel for kernel in KERNELS if kernel != "line" or native().limits.line_nnz]

    of_one = {
        "sliced": Variant("vector", sliced=True),
        "pairs1": Variant("vector", pairs=1),
        "pairs2": Variant("vector", pairs=2),
        "rounds": Variant("vector", rounds=True),
        "by_rows": Variant("csr", by_rows=True),
    }
    for kernel in (*kernels, *of_one):
        wanted = of_one.get(kernel)
        if wanted:

            def fixed(*_: object, chosen: Variant = wanted, **__: object) -> Choice:
                return Choice(chosen, False)

            monkeypatch.setattr("sparsecc.passes.convert_sparse_to_cpu.choose", fixed)
        plan = wanted.kind if wanted else kernel
        artifact = compiled(matrix(61, 150), n=2 if plan == "vector" else 37, plan=plan)
        assert wanted in (None, artifact.native.variant)
        artifact.save(folder := tmp_path / kernel)
        if kernel == kernels[0]:
            # The same for all: compiled once.
            build.call([*command, "-c", *map(str, folder.glob("sc/*.c"))], tmp_path, "sanitizers")
        sources = ["model.c", "data.c", "main.c", *(path.name for path in folder.glob("*.s"))]
        objects = [str(path) for path in tmp_path.glob("*.o")]
        link = [*command, "-I.", "-Isc", *sources, *objects, "-pthread", "-lm", "-o", "model"]
        build.call(link, folder, "sanitizers")
        told = run_program([str(folder / "model"), "--threads", "2"])
        assert "every value within its bound" in told


def test_a_wrong_value_is_found(tmp_path: Path):
    compiled(matrix(20, 30), n=4, plan="csr").save(tmp_path / "model")
    data = bytearray((tmp_path / "model" / "check.bin").read_bytes())
    data[: 4 * 30 * 4] = np.zeros(30 * 4, np.float32).tobytes()
    (tmp_path / "model" / "check.bin").write_bytes(data)
    built(tmp_path / "model", "CFLAGS=-O1")
    done = subprocess.run([tmp_path / "model" / "model"], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "WRONG" in done.stdout


def test_neon_under_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for tool in ("aarch64-linux-gnu-gcc", "qemu-aarch64"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    command = ["aarch64-linux-gnu-gcc", "-std=gnu11", "-O1", "-static", "-Wall", "-Wextra", "-Werror"]

    # Rounds are not chosen there; what emitted C holds of them is right all the same.
    def rounds(*_: object, **__: object) -> Choice:
        return Choice(Variant("vector", rounds=True), False)

    for kernel, n in (("csr", 21), ("dense", 21), ("vector", 1), ("rounds", 1)):
        if kernel == "rounds":
            monkeypatch.setattr("sparsecc.passes.convert_sparse_to_cpu.choose", rounds)
        plan = "vector" if kernel == "rounds" else kernel
        artifact = sparsecc.compile(matrix(50, 140), target="arm-neon", n=n, plan=plan)
        artifact.save(folder := tmp_path / kernel)
        if kernel == "csr":
            build.call([*command, "-c", *map(str, folder.glob("sc/*.c"))], tmp_path, "for Arm")
        objects = [str(path) for path in tmp_path.glob("*.o")]
        sources = ["model.c", "data.c", "main.c"]
        link = [*command, "-I.", "-Isc", *sources, *objects, "-pthread", "-lm", "-o", "model"]
        build.call(link, folder, "for Arm")
        told = run_program(["qemu-aarch64", str(folder / "model"), "--threads", "2"])
        assert "every value within its bound" in told


def test_a_folder_of_others_is_not_written_over(tmp_path: Path):
    artifact = compiled(matrix(20, 30), n=4, plan="csr")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").write_text("")
    with pytest.raises(UserError, match="was not written by sparsecc"):
        artifact.save(tmp_path / "model")
    artifact.save(tmp_path / "fresh", ir=True)
    artifact.save(tmp_path / "fresh")
    assert not (tmp_path / "fresh" / "ir").exists()


def test_epilogues_are_fused():
    w = compiled(matrix(64, 64), n=16).native.w
    rng = np.random.default_rng(0)
    bias, x = rng.standard_normal(64).astype(np.float32), rng.standard_normal((64, 16)).astype(np.float32)
    residual = rng.standard_normal((64, 16)).astype(np.float32)
    epilogue = Epilogue(bias=True, relu=True, residual=True)
    operator = CpuSpmm(w, native(), choose(w, native(), 16, epilogue=epilogue), epilogue, bias)
    exact = np.maximum(w.toarray().astype(np.float64) @ x + bias[:, None] + residual, 0)
    assert np.abs(operator(x, residual=residual) - exact).max() < 1e-5
    # In place: the residual is what the result replaces.
    out = residual.copy()
    operator(x, out=out, residual=out)
    assert np.abs(out - exact).max() < 1e-5


def test_a_folder_is_analysed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    native()
    np.save(tmp_path / "a.npy", matrix(40, 50))
    np.save(tmp_path / "b.npy", matrix(40, 50, 0.5))
    (tmp_path / "c.npy").write_bytes(b"nothing")
    command = ["analyze", str(tmp_path), "--target", "cpu", "--n", "16"]
    assert main([*command, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in found["operators"]] == ["a.npy", "b.npy", "c.npy"]
    assert "error" in found["operators"][2]
    assert found["summary"]["failed"] == 1
    assert np.isclose(found["summary"]["wall_ms"], sum(r["wall_ms"] for r in found["operators"][:2]))
    assert main(command) == 1
    assert "geometric mean" in capsys.readouterr().out
    assert main([*command, "--jobs", "2"]) == 2
    assert "processes would disturb each other" in capsys.readouterr().err
