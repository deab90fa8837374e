"""The C operators of the host: against their numpy references, onnxruntime, and the sanitizers."""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from host_cases import SANITIZERS, Draw, assert_same, bind, case, copied, installed, outputs, run_sanitized
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sparsecc.errors import UserError
from sparsecc.host import walk as walks
from sparsecc.host.movement import pad_map
from sparsecc.host.operator import Cost, Kind, Product, Window
from sparsecc.host.ops import OPERATORS, host_header
from sparsecc.host.walk import Walk
from sparsecc.toolchain import HOST, HOST_OPTIONS, find_compiler, host_library, host_sources

Array = NDArray[Any]

STRICT = [*HOST_OPTIONS, "-Wall", "-Wextra", "-Werror"]
CLANG = next((cc for cc in ("clang", "clang-19") if shutil.which(cc)), None)
NAMES = sorted(OPERATORS)


def build(compiler: str, folder: Path, options: list[str]) -> Path:
    library = folder / "libhost.so"
    command = [compiler, *STRICT, *options, "-shared", *map(str, host_sources())]
    subprocess.run([*command, "-lm", "-o", str(library)], check=True)
    return library


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return installed(tmp_path_factory.mktemp("host"))


def run(library: ctypes.CDLL, name: str, *values: Any) -> int | None:
    return bind(library, OPERATORS[name])(values)


def test_header_is_that_of_the_declarations() -> None:
    """The C files include the header, so the compiler holds the definitions to it."""
    assert (HOST / "host.h").read_text() == host_header()


def test_library_is_built_once() -> None:
    first = host_library()
    assert first.is_file()
    host_library.cache_clear()
    changed = first.stat().st_mtime_ns
    assert host_library() == first
    assert first.stat().st_mtime_ns == changed


@pytest.mark.parametrize("name", NAMES)
def test_reference(library: ctypes.CDLL, name: str) -> None:
    """All elements, also those beside the result, are what the declaration says."""
    op = OPERATORS[name]
    call = bind(library, op)

    @settings(max_examples=6, database=None)
    @given(st.data(), st.integers(0, 2**32 - 1))
    def check(data: st.DataObject, seed: int) -> None:
        values = case(op, Draw(lambda low, high: data.draw(st.integers(low, high)), seed))
        found, wanted = copied(values), copied(values)
        assert call(found) == op.reference(*wanted)
        assert_same(op, found, wanted)

    check()


@pytest.mark.parametrize("name", [n for n in NAMES if OPERATORS[n].in_place])
def test_in_place(library: ctypes.CDLL, name: str) -> None:
    """An operand may be the result itself."""
    op = OPERATORS[name]
    call = bind(library, op)
    random = np.random.default_rng(7)
    places = {a.name: i for i, a in enumerate(op.arguments)}
    for operand in op.in_place:
        values = case(op, Draw(lambda low, high: int(random.integers(low, high + 1)), 3))
        if "walk" in places:
            operands = [places[a.name] for a in op.arguments if a.kind in (Kind.OUTPUT, Kind.INPUT)]
            kinds = [values[i].dtype for i in operands]
            for i, kind in zip(operands, kinds, strict=True):
                values[i] = random.integers(0, 2, 12).astype(kind)
            values[places["walk"]] = Walk.broadcast(*[(3, 4)] * (len(operands) - 1)).table()
        apart, joined = copied(values), copied(values)
        call(apart)
        count = len(joined[places[operand]])
        joined[0] = joined[places[operand]]
        call(joined)
        np.testing.assert_array_equal(joined[0], apart[0][:count])


@pytest.mark.parametrize("name", NAMES)
def test_cost_moves_every_operand_once(name: str) -> None:
    """At most what the arrays hold, at least what changed."""
    op = OPERATORS[name]
    random = np.random.default_rng(11)
    values = case(op, Draw(lambda low, high: int(random.integers(low, high + 1)), 5))
    arrays = (Kind.OUTPUT, Kind.INPUT)
    sizes = [None if a.kind in arrays else v for a, v in zip(op.arguments, values, strict=True)]
    cost = op.cost(*sizes)
    assert isinstance(cost, Cost)
    before = copied(values)
    op.reference(*values)
    pairs = zip(outputs(op, before), outputs(op, values), strict=True)
    changed = sum(
        int((a.view(f"u{a.itemsize}") != b.view(f"u{a.itemsize}")).sum()) * a.itemsize for a, b in pairs
    )
    assert changed <= cost.bytes_written <= sum(a.nbytes for a in outputs(op, values))


def test_calls_are_c(tmp_path: Path) -> None:
    """The text of a call, with literals of every kind, compiles and computes."""
    image, line = Window(1, 3, 3, 1, 2, 2, 2, 2), Window(1, 1, 4, 1, 1, 4, 1, 1)
    calls = [
        OPERATORS["host_clip_f32"].call(y="y", x="x", n="count", low=-math.inf, high=0.3),
        OPERATORS["host_add_f32"].call(y="y", a="y", b="x", walk=Walk.broadcast((3, 3), (1, 3)).table()),
        OPERATORS["host_max_pool_f32"].call(y="z", x="y", window=image),
        OPERATORS["host_im2col_4"].call(y="p", x="z", window=line, rows=[0], count=1, fill=0),
    ]
    body = "\n".join(f"    {call};" for call in calls)
    (tmp_path / "calls.c").write_text(
        "#include <math.h>\n#include <stdio.h>\n#include <stddef.h>\n#include \"host.h\"\n"
        "int main(void)\n{\n    float x[9] = {0, .125f, .25f, .5f, 1, 2, 3, 4, 5}, y[9], z[4], p[4];\n"
        "    const int64_t count = 9;\n" + body + "\n"
        '    printf("%g %g %g %g\\n", p[0], p[1], p[2], p[3]);\n}\n'
    )  # fmt: skip
    program = tmp_path / "calls"
    command = [*find_compiler(), *STRICT, f"-I{HOST}", str(tmp_path / "calls.c"), str(host_library())]
    subprocess.run([*command, "-lm", "-o", str(program)], check=True)
    done = subprocess.run([program], check=True, capture_output=True, text=True)
    limited = np.minimum(np.array([[0, 0.125, 0.25], [0.5, 1, 2], [3, 4, 5]], np.float32), np.float32(0.3))
    summed = limited + np.array([0, 0.125, 0.25], np.float32)
    wanted = [summed[i : i + 2, j : j + 2].max() for i in (0, 1) for j in (0, 1)]
    assert done.stdout.split() == [f"{v:g}" for v in wanted]


# The numpy references round as the C does; numpy's own operators bound both. ------------------------


def test_sums_are_within_the_forward_error_bound(library: ctypes.CDLL) -> None:
    random = np.random.default_rng(2)
    unit = 2.0**-24
    x = random.normal(size=(4, 1000, 3)).astype(np.float32)
    y = np.empty((4, 3), np.float32)
    run(library, "host_reduce_sum_f32", y, x, 4, 1000, 3)
    assert (np.abs(y - x.astype(float).sum(1)) <= 999 * unit * np.abs(x).astype(float).sum(1) * 1.001).all()
    a, b = random.normal(size=(9, 700)).astype(np.float32), random.normal(size=(700, 21)).astype(np.float32)
    c = np.empty((9, 21), np.float32)
    p = Product(9, 21, 700, 21, 1, 700, 1, 21, 1)
    run(library, "host_matmul_f32", c, a, b, p, Walk.of((1,), (1,), (1,), (1,)).table())
    exact, bound = a.astype(float) @ b, 701 * unit * (np.abs(a).astype(float) @ np.abs(b))
    assert (np.abs(c - exact) <= bound).all()
    normal = np.empty_like(x)
    run(library, "host_softmax_f32", normal, x, 4, 1000, 3)
    power = np.exp(x.astype(float) - x.max(1, keepdims=True))
    np.testing.assert_allclose(normal, power / power.sum(1, keepdims=True), rtol=1001 * unit)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_transposes_are_those_of_numpy(library: ctypes.CDLL, size: int) -> None:
    """Every order of axes, also larger than the tiles."""
    random = np.random.default_rng(size)
    for shape, perm in (
        ((37, 50), (1, 0)), ((3, 5, 4, 7), (3, 1, 0, 2)), ((2, 33, 20), (2, 1, 0)), ((5, 1, 6), (2, 1, 0)),
        ((2, 3, 4, 5), (0, 2, 1, 3)), ((6, 5, 4), (0, 1, 2)),
    ):  # fmt: skip
        x = random.integers(0, 200, shape).astype(f"u{size}")
        y = np.empty([shape[p] for p in perm], x.dtype)
        run(library, f"host_copy_{size}", y, x, walks.transpose(shape, perm).table())
        np.testing.assert_array_equal(y, x.transpose(perm))


def test_walks_join_axes() -> None:
    assert Walk.broadcast((2, 3, 4), (2, 3, 4)) == Walk((24,), ((1,), (1,), (1,)))
    assert Walk.broadcast((8, 3, 4), (8, 1, 1)) == Walk((8, 12), ((12, 1), (12, 1), (1, 0)))
    assert Walk.broadcast((), ()).count == 1
    assert walks.transpose((2, 3, 4), (2, 0, 1)) == Walk((4, 6), ((6, 1), (1, 4)))
    with pytest.raises(UserError, match="7 axes that cannot be joined; at most 6"):
        walks.transpose((2,) * 7, range(6, -1, -1))


@given(st.integers(1, 6), st.integers(0, 9), st.integers(0, 9), st.sampled_from(["edge", "reflect", "wrap"]))
def test_pad_maps_are_those_of_numpy(extent: int, low: int, high: int, mode: str) -> None:
    wanted = cast(Array, np.pad(np.arange(extent), (low, high), mode=cast(Any, mode)))
    assert list(pad_map(extent, low, high, mode)) == wanted.tolist()
    assert pad_map(extent, -1, 2, "constant") == (*range(1, extent), -1, -1)


def test_image_layouts_agree(library: ctypes.CDLL) -> None:
    """NCHW and batch last give the same values."""
    random = np.random.default_rng(4)
    x = random.normal(size=(3, 5, 9, 8)).astype(np.float32)
    shape = {"out_height": 5, "out_width": 4, "kernel_h": 3, "kernel_w": 3, "stride_h": 2, "stride_w": 2,
             "pad_top": 1, "pad_left": 1, "pad_bottom": 1, "pad_right": 1}  # fmt: skip
    first, last = Window(15, 9, 8, 1, **shape), Window(5, 9, 8, 3, **shape)
    for name, rest in (("max_pool", ()), ("average_pool", (1,))):
        y, z = np.empty((3, 5, 5, 4), np.float32), np.empty((5, 5, 4, 3), np.float32)
        run(library, f"host_{name}_f32", y, x, first, *rest)
        run(library, f"host_{name}_f32", z, np.ascontiguousarray(np.moveaxis(x, 0, -1)), last, *rest)
        np.testing.assert_array_equal(y, np.moveaxis(z, -1, 0))


# Every operator as other builds have it. ------------------------------------------------------------


def _every_operator(path: str) -> None:
    library = ctypes.CDLL(path)
    random = np.random.default_rng(1)
    for name in NAMES:
        op = OPERATORS[name]
        call = bind(library, op)
        for seed in range(12):
            values = case(op, Draw(lambda low, high: int(random.integers(low, high + 1)), seed))
            found, wanted = copied(values), copied(values)
            call(found)
            op.reference(*wanted)
            assert_same(op, found, wanted)


@pytest.mark.skipif(CLANG is None, reason="no clang")
def test_clang(tmp_path: Path) -> None:
    """Another compiler has no warnings and gives the same bits."""
    assert CLANG is not None
    _every_operator(str(build(CLANG, tmp_path, [])))


def test_sanitizers(tmp_path: Path) -> None:
    """No operator reads or writes beyond its arrays."""
    run_sanitized(__file__, lambda: build("gcc", tmp_path, SANITIZERS))


if __name__ == "__main__":
    _every_operator(sys.argv[1])
    print("ran")
