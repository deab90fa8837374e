"""int8, bf16 and f16 on CPUs from a matrix to a call, a report, and a folder that stands alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects.builtin import Builtin, ModuleOp
from xdsl.parser import Parser

import sparsecc
from sparsecc.cpu import build
from sparsecc.cpu.machine import Machine, machine
from sparsecc.cpu.narrow_spmm import NarrowSpmm
from sparsecc.cpu.narrow_tune import choose_narrow
from sparsecc.cpu.tune import Choice
from sparsecc.cpu.words import as_stored
from sparsecc.cpu_compiler import CpuArtifact
from sparsecc.dialects.cpu import Cpu, KernelOp
from sparsecc.dialects.nn import Nn
from sparsecc.dialects.sparse import Sparse
from sparsecc.driver.cli import main
from sparsecc.epilogue import Epilogue
from sparsecc.errors import UserError
from sparsecc.target import load_target
from sparsecc.target.cpu import CpuTarget
from sparsecc.target.numbers import convert

Array = NDArray[Any]

DTYPES = ("i8", "bf16", "f16")
COMPILERS = ("gcc", "clang")


def native(dtype: str) -> CpuTarget:
    """The best target of this machine that has the type, or a skip where none has it."""
    for name in ("x86-avx512", "x86-avx2", "arm-neon"):
        target = cast(CpuTarget, load_target(name)).with_type(dtype)
        if not target.missing:
            return target
    pytest.skip(f"no target with {dtype} runs on this machine")


def matrix(m: int, k: int, dtype: str, density: float = 0.15, seed: int = 0) -> Array:
    """Values that the type holds."""
    rng = np.random.default_rng(seed)
    mask = rng.random((m, k)) < density
    if dtype == "i8":
        return (mask * rng.integers(-127, 128, (m, k))).astype(np.int8)
    return convert((mask * rng.standard_normal((m, k))).astype(np.float32), dtype).astype(np.float32)


def inputs(k: int, n: int, dtype: str, seed: int = 1) -> Array:
    rng = np.random.default_rng(seed)
    if dtype == "i8":
        return rng.integers(-128, 128, (k, n)).astype(np.int8)
    return convert(rng.standard_normal((k, n)).astype(np.float32), dtype)


def compiled(w: Array, dtype: str, **options: Any) -> CpuArtifact:
    return cast(CpuArtifact, sparsecc.compile(w, target=native(dtype).name, dtype=dtype, **options))


def close(y: Array, w: Array, x: Array, dtype: str) -> bool:
    wide = w.astype(np.float64), x.astype(np.float64)
    if dtype == "i8":
        return bool((y == wide[0] @ wide[1]).all())
    n = w.shape[1] * 2.0**-24
    return bool((np.abs(y - wide[0] @ wide[1]) <= n / (1 - n) * (np.abs(wide[0]) @ np.abs(wide[1]))).all())


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_artifact_is_called_in_place(dtype: str):
    w = matrix(90, 130, dtype)
    artifact = compiled(w, dtype, n=40)
    result = np.int32 if dtype == "i8" else np.float32
    for n in (1, 3, 40, 70):
        x = inputs(130, n, dtype)
        given, y = as_stored(x, dtype), np.empty((90, n), result)
        assert artifact(given, out=y, threads=2) is y
        assert close(y, w, x, dtype)
        assert (artifact(given) == y).all()
        apart = np.zeros((130, n + 7), given.dtype)
        apart[:, 3 : n + 3] = given
        assert (artifact(apart[:, 3 : n + 3], out=np.empty((90, 2 * n), result)[:, :n]) == y).all()
        if dtype != "i8":
            # Rounded to the type on its way, which changes nothing here.
            assert (artifact(x.astype(np.float32)) == y).all()
    x = inputs(130, 1, dtype)
    assert close(artifact(as_stored(x, dtype)[:, 0])[:, None], w, x, dtype)
    assert artifact(np.empty((130, 0), given.dtype)).shape == (90, 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_stage_computes_the_same(dtype: str):
    for kernel in ("auto", "csr", "dense", "vector"):
        artifact = compiled(matrix(60, 75, dtype), dtype, n=20, plan=kernel, check_stages=True)
        assert artifact.product.weight.shape == (60, 75)
        report = artifact.report
        assert report.exact
        assert report.dtype == dtype
        assert report.dense_ms is not None
        assert report.peak_fraction is not None
        assert 0 < report.peak_fraction < 1.5
    assert [ms for _, ms in report.tried] == sorted(ms for _, ms in report.tried)


def test_straight_line_code_is_checked_stage_by_stage():
    for dtype in DTYPES:
        if native(dtype).limits.line_nnz and (dtype != "i8" or native(dtype).simd.isa == "avx512"):
            artifact = compiled(matrix(70, 75, dtype), dtype, n=20, plan="line", check_stages=True)
            assert artifact.product.variant.kind == "line"
            assert artifact.report.exact


@pytest.mark.parametrize(
    ("dtype", "x", "out", "says"),
    [
        ("i8", np.ones((60, 4), np.float32), None, "x has element type float32; needed int8"),
        ("i8", np.ones((60, 4), np.int8), np.ones((40, 4), np.int8), "out has element type int8"),
        ("bf16", np.ones((60, 4), np.float16), None, r"needed uint16 \(the bits of bf16\) or float32"),
        ("f16", np.ones((59, 4), np.float16), None, r"x has shape \[59, 4\]; needed \[60, N\]"),
        ("f16", np.ones((60, 8), np.float16)[:, ::2], None, "x has strides"),
        ("i8", [[1]] * 60, None, "x is a list; needed a numpy array"),
    ],
)  # fmt: skip
def test_wrong_arrays_are_refused(dtype: str, x: Any, out: Any, says: str):
    with pytest.raises(UserError, match=says):
        compiled(matrix(40, 60, dtype), dtype, n=4, plan="csr")(x, out=out)


def test_arrays_that_share_memory_or_may_not_be_written_are_refused():
    artifact = compiled(matrix(40, 60, "f16"), "f16", n=4, plan="csr")
    x = np.ones((120, 4), np.float32)
    with pytest.raises(UserError, match="out shares memory with x"):
        artifact(x[:60], out=x[50:90])
    frozen = np.ones((40, 4), np.float32)
    frozen.flags.writeable = False
    with pytest.raises(UserError, match="out may not be written"):
        artifact(x[:60].astype(np.float16), out=frozen)
    with pytest.raises(UserError, match="threads is 0; needed at least 1"):
        artifact(x[:60], threads=0)


def test_results_are_requantised_on_their_way():
    target = native("i8")
    w = compiled(matrix(50, 60, "i8"), "i8", n=24).operator.weight
    rng = np.random.default_rng(0)
    bias = rng.integers(-999, 999, 50).astype(np.int32)
    scale = rng.uniform(0.0005, 0.002, 50).astype(np.float32)
    for epilogue in (
        Epilogue("i8", bias, scale, zero=3),
        Epilogue("f32", bias, scale, residual=True, low=0.0),
    ):
        product = NarrowSpmm(w, target, choose_narrow(w, target, 24, epilogue=epilogue), epilogue)
        x = inputs(60, 24, "i8")
        residual = rng.standard_normal((50, 24)).astype(np.float32) if epilogue.residual else None
        wanted = epilogue.apply((w.toarray().astype(np.int64) @ x).astype(np.int32), residual)
        assert (product(x, residual=residual) == wanted).all()
        with pytest.raises(UserError, match="residual: found"):
            product(x, residual=None if epilogue.residual else np.ones((50, 24), np.float32))


def test_the_command_line_runs_and_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    native("i8")
    np.save(tmp_path / "w.npy", w := matrix(96, 80, "i8"))
    np.save(tmp_path / "x.npy", x := inputs(80, 20, "i8"))
    command = ["run", str(tmp_path / "w.npy"), "--target", "cpu", "--dtype", "i8", "--n", "20", "--json"]
    files = ["--input", str(tmp_path / "x.npy"), "--output", str(tmp_path / "y.npy")]
    assert main([*command, *files]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["exact"]
    assert report["dtype"] == "i8"
    assert close(np.load(tmp_path / "y.npy"), w, x, "i8")


def test_cpu_means_the_best_target_that_has_the_type(monkeypatch: pytest.MonkeyPatch):
    here = machine()
    if load_target("cpu").name != "x86-avx512":
        pytest.skip("this machine has no AVX-512")
    less = Machine(here.arch, here.model, here.features - {"avx512_vnni"})
    monkeypatch.setattr("sparsecc.target.cpu.machine", lambda: less)
    artifact = cast(CpuArtifact, sparsecc.compile(matrix(20, 30, "i8"), target="cpu", dtype="i8", n=4))
    assert artifact.target.name == "x86-avx2"
    assert artifact.product.target.data == "x86-avx2"
    assert artifact.report.exact
    by_name = sparsecc.compile(matrix(20, 30, "i8"), target="x86-avx512", dtype="i8", n=4)
    with pytest.raises(UserError, match="x86-avx512 needs for i8 a CPU with avx512_vnni"):
        by_name(np.ones((30, 4), np.int8))


def built(folders: list[Path], command: list[str]) -> None:
    """The programs of folders whose kernels are for the same type, which are compiled once."""
    where = folders[0].parent
    objects = where / "objects"
    objects.mkdir()
    build.call([*command, "-c", *map(str, folders[0].glob("sc/*.c"))], objects, "kernels")
    for folder in folders:
        sources = ["model.c", "data.c", "main.c", *(path.name for path in folder.glob("*.s"))]
        link = [*command, "-I.", "-Isc", *sources, *map(str, objects.glob("*.o"))]
        build.call([*link, "-pthread", "-lm", "-o", "model"], folder, "a program")


def told(command: list[str]) -> str:
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def all_flags(targets: list[CpuTarget]) -> list[str]:
    """For one set of objects that serves several types."""
    return list(dict.fromkeys(flag for target in targets for flag in target.flags))


@pytest.mark.parametrize("compiler", COMPILERS)
def test_emitted_c_checks_itself_under_sanitizers(tmp_path: Path, compiler: str):
    found = shutil.which(compiler) or (compiler == "clang" and shutil.which("clang-19"))
    if not found:
        pytest.skip(f"{compiler} is not installed")
    flags = "-O1 -Wall -Wextra -Werror -fsanitize=address,undefined -fno-sanitize-recover=all".split()
    folders: list[Path] = []
    # Kernels differ by type only in what multiplies.
    kinds = [("i8", kernel) for kernel in ("auto", "csr", "dense", "vector")]
    for dtype, kernel in [*kinds, ("bf16", "auto"), ("bf16", "dense"), ("f16", "auto"), ("f16", "vector")]:
        n = 2 if kernel == "vector" else 37
        artifact = compiled(matrix(45, 90, dtype), dtype, n=n, plan=kernel)
        artifact.save(folder := tmp_path / f"{dtype}-{kernel}")
        folders.append(folder)
    built(folders, [found, "-std=gnu11", *all_flags([native(dtype) for dtype in DTYPES]), *flags])
    for folder in folders:
        assert "every value within its bound" in told([str(folder / "model"), "--threads", "2"])


def test_neon_under_qemu(tmp_path: Path):
    for tool in ("aarch64-linux-gnu-gcc", "qemu-aarch64"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    folders: list[Path] = []
    for dtype in DTYPES:
        for kernel, n in (("csr", 21), ("dense", 21), ("vector", 1)):
            w = matrix(40, 70, dtype)
            folders.append(tmp_path / f"{dtype}-{kernel}")
            sparsecc.compile(w, target="arm-neon", dtype=dtype, n=n, plan=kernel).save(folders[-1])
    flags = ["-O1", "-static", "-Wall", "-Wextra", "-Werror"]
    target = cast(CpuTarget, load_target("arm-neon"))
    every = all_flags([target.with_type(dtype) for dtype in DTYPES])
    built(folders, ["aarch64-linux-gnu-gcc", "-std=gnu11", *every, *flags])
    for folder in folders:
        program = ["qemu-aarch64", "-cpu", "max", str(folder / "model"), "--threads", "2"]
        assert "every value within its bound" in told(program)


def test_a_wrong_value_is_found(tmp_path: Path):
    compiled(matrix(20, 30, "i8"), "i8", n=4, plan="csr").save(tmp_path / "model")
    data = bytearray((tmp_path / "model" / "check.bin").read_bytes())
    data[: 4 * 30] = bytes(4 * 30)
    (tmp_path / "model" / "check.bin").write_bytes(data)
    build.call(["make", "CFLAGS=-O0"], tmp_path / "model", "make")
    done = subprocess.run([tmp_path / "model" / "model"], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "WRONG" in done.stdout


def test_an_epilogue_goes_with_the_product_from_compile_to_c(tmp_path: Path):
    rng = np.random.default_rng(0)
    bias, scale = rng.integers(-99, 99, 40).astype(np.int32), rng.uniform(0.001, 0.002, 40).astype(np.float32)
    w, x = matrix(40, 60, "i8"), inputs(60, 21, "i8")
    epilogues = [Epilogue(kind, bias, scale, low=-20.0, zero=zero) for kind, zero in (("i8", -4), ("ui8", 9))]
    for epilogue in epilogues:
        artifact = compiled(w, "i8", n=21, epilogue=epilogue, check_stages=True)
        wanted = epilogue.apply((w.astype(np.int64) @ x).astype(np.int32))
        assert (artifact(x) == wanted).all()
        assert artifact(x).dtype == wanted.dtype
        assert artifact.report.exact
    artifact, epilogue = compiled(w, "i8", n=21, epilogue=epilogues[0]), epilogues[0]
    # What is read again is the same.
    context = Context()
    for dialect in (Builtin, Nn, Sparse, Cpu):
        context.load_dialect(dialect)
    kernel = next(op for op in artifact.stages[-1].module.ops if isinstance(op, KernelOp))
    (again,) = Parser(context, str(ModuleOp([kernel.clone()]))).parse_module().ops
    assert isinstance(again, KernelOp)
    assert again.epilogue is not None
    sums = np.full((40, 1), 50, np.int32)
    assert np.array_equal(again.epilogue.apply(sums), epilogue.apply(sums))
    artifact.save(tmp_path / "model")
    build.call(["make", "CFLAGS=-O0 -Wall -Wextra -Werror"], tmp_path / "model", "make")
    assert "every value within its bound; largest error 0" in told([str(tmp_path / "model" / "model")])


def test_what_was_measured_of_one_type_is_not_taken_for_another(monkeypatch: pytest.MonkeyPatch):
    w = compiled(matrix(30, 40, "bf16"), "bf16", n=8).operator.weight
    known: dict[str, Choice] = {}
    monkeypatch.setattr("sparsecc.cpu.narrow_tune._chosen", known)
    for count, dtype in enumerate(("bf16", "f16", "bf16"), start=1):
        choose_narrow(w, native(dtype), 8)
        assert len(known) == min(count, 2)


def test_epilogues_that_do_not_fit_are_refused():
    scale = np.ones(39, np.float32)
    for dtype, epilogue, says in (
        ("f16", Epilogue("f16", low=0.0), "an epilogue to f16 of a product of f16"),
        ("i8", Epilogue("f32", residual=True), "a residual beside a product of i8"),
        ("i8", Epilogue("i8", scale=scale), "the epilogue's scale has 39 values; needed 40"),
        ("i8", Epilogue("f32", np.ones(40, np.float32)), "the epilogue's bias is float32; needed int32"),
    ):
        with pytest.raises(UserError, match=says):
            compiled(matrix(40, 60, dtype), dtype, n=4, epilogue=epilogue)
