"""Kernels for int8, bf16 and f16 against numpy: words, layouts, edges, epilogues, on this machine."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pytest
import scipy.sparse as sp  # pyright: ignore[reportMissingTypeStubs]
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sparsecc.cpu.arrays import VECTOR_COLUMNS, vector_arrays
from sparsecc.cpu.narrow import finish_of, full_from, narrow_kernel, registers_for_words, with_input
from sparsecc.cpu.narrow_tune import plain
from sparsecc.cpu.native import CallStruct, Kernel, address
from sparsecc.cpu.tune import runtime
from sparsecc.cpu.variant import Variant
from sparsecc.cpu.words import Element, as_words, depth_of, together, word_count
from sparsecc.epilogue import Epilogue
from sparsecc.errors import UserError
from sparsecc.importers.matrix import Csr, make_csr
from sparsecc.target import load_target
from sparsecc.target.cpu import CpuTarget
from sparsecc.target.numbers import convert

Array = NDArray[Any]

PRESETS = ("x86-avx512", "x86-avx2", "arm-neon")
ELEMENTS: tuple[Element, ...] = ("i8", "bf16", "f16")
STORED = {"i8": np.int8, "ui8": np.uint8, "i32": np.int32, "f32": np.float32, "f16": np.float16}


def here(name: str, element: Element) -> CpuTarget:
    """The target with this type, or a skip where this machine's CPU cannot run it."""
    target = load_target(name)
    assert isinstance(target, CpuTarget)
    target = target.with_type(element)
    if target.missing:
        pytest.skip(f"this CPU has no {', '.join(target.missing)}")
    return target


def random_matrix(seed: int, m: int, k: int, density: float, element: Element) -> Csr:
    rng = np.random.default_rng(seed)
    mask = rng.random((m, k)) < density
    if element == "i8":
        dense = (mask * rng.integers(-127, 128, (m, k))).astype(np.int8)
    else:
        dense = convert((mask * rng.standard_normal((m, k))).astype(np.float32), element).astype(np.float32)
    found: Any = sp.csr_array(dense)
    return make_csr(found.data, found.indices, found.indptr, (m, k))


def random_input(rng: np.random.Generator, k: int, n: int, element: Element) -> Array:
    if element == "i8":
        return rng.integers(-128, 128, (k, n)).astype(np.int8)
    return convert(rng.standard_normal((k, n)).astype(np.float32), element)


def bits(x: Array, element: str) -> Array:
    """What C reads: bf16 is kept as the f32 it equals."""
    return (x.view(np.uint32) >> 16).astype(np.uint16) if element == "bf16" else x


def inside(x: Array, offset: int) -> Array:
    """The same values in rows that lie apart and begin anywhere."""
    whole = np.zeros((x.shape[0], x.shape[1] + offset + 3), x.dtype)
    whole[:, offset : offset + x.shape[1]] = x
    return whole[:, offset : offset + x.shape[1]]


def call_of(x: Array, y: Array, residual: Array | None = None) -> CallStruct:
    rows = (address(residual), residual.strides[0] // 4) if residual is not None else (None, 0)
    return CallStruct(
        address(x), x.strides[0] // x.itemsize, address(y), y.strides[0] // y.itemsize, y.shape[1], *rows
    )


def kernels(target: CpuTarget, w: Csr, n: int, element: Element, epilogue: Epilogue) -> list[Kernel]:
    """Every kernel, straight-line code in one and several blocks and two orders of rows."""
    kinds = [Variant("csr"), Variant("dense"), *([Variant("vector")] if n < 4 else [])]
    registers = registers_for_words(target, element, n)
    if registers is not None and w.nnz:
        height = min(registers.accumulators, w.shape[0])
        kinds.append(Variant("line", registers.lanes, height, 512, "natural", 2, 1))
        kinds.append(Variant("line", registers.lanes, height, 16, "clustered", 1, 3))
    library = runtime(target)
    return [narrow_kernel(library, w, target, kind, element, epilogue) for kind in kinds]


def bounds(w: Csr, x: Array, element: Element) -> tuple[Array, Array]:
    """The exact sums, and how far f32 may be from them."""
    dense = w.toarray().astype(np.float64)
    n = (w.shape[1] + 2) * 2.0**-24
    size = np.abs(dense) @ np.abs(x.astype(np.float64))
    return dense @ x, np.zeros_like(size) if element == "i8" else n / (1 - n) * size


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("name", PRESETS)
def test_full_tiles_have_a_step_for_each_column(name: str, element: Element):
    target, rng = here(name, element), np.random.default_rng(0)
    # Rows of many values, of few, and of none, in tiles beside each other.
    parts = [random_matrix(i, 150, 300, d, element).toarray() for i, d in enumerate((0.7, 0.35, 0.05, 0.9))]
    rows = [np.hstack(parts), np.hstack(parts[::-1]), np.zeros((150, 1200), parts[0].dtype)]
    dense = np.concatenate(rows)
    found: Any = sp.csr_array(dense)
    w = make_csr(found.data, found.indices, found.indptr, dense.shape)
    words = as_words(w, element, depth_of(target, element)).csr
    arrays = vector_arrays(words, full_from(element))
    steps = np.repeat(arrays.stretches["steps"], arrays.stretches["tiles"])
    assert set(steps[steps >= full_from(element)].tolist()) <= {VECTOR_COLUMNS}
    assert (element == "i8") == bool((steps[steps >= full_from(element)] == VECTOR_COLUMNS).any())
    exact, bound = bounds(w, x := random_input(rng, w.shape[1], 3, element), element)
    stored = bits(x, element)
    kernel = narrow_kernel(runtime(target), w, target, Variant("vector"), element, plain(target))
    for threads in (1, 2):
        y = np.zeros((w.shape[0], 3), np.int32 if element == "i8" else np.float32)
        kernel(call_of(stored, y), threads)
        assert (np.abs(y - exact) <= bound).all()


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("seed", range(10))
def test_products_are_those_of_numpy(name: str, element: Element, seed: int):
    target = here(name, element)
    rng = np.random.default_rng(seed)
    m, k, n = (int(v) for v in rng.integers(1, 300, 3))
    n = (1, 2, 7, 8, 16, 17, 64, 129, n, 300)[seed]
    m, k = (m, 2100) if seed == 4 else (m, k)
    density = float(rng.choice([0.0, 0.02, 0.1, 0.4, 1.0]))
    w = random_matrix(seed, m, k, density, element)
    x = random_input(rng, k, n, element)
    exact, bound = bounds(w, x, element)
    given = inside(bits(x, element), seed % 5)
    kind = np.int32 if element == "i8" else np.float32
    for kernel in kernels(target, w, n, element, Epilogue("i32" if element == "i8" else "f32")):
        for threads in (1, 2):
            whole = np.full((m, n + 5), 77, kind)
            kernel(call_of(given, y := whole[:, 2 : n + 2]), threads)
            assert (np.abs(y - exact) <= bound).all(), (kernel.kind, m, k, n, density)
            # Nothing was written beside the rows.
            assert (np.delete(whole, np.s_[2 : n + 2], axis=1) == 77).all()


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("element", ["bf16", "f16"])
def test_f32_is_rounded_on_its_way(name: str, element: Element):
    target = here(name, element)
    rng = np.random.default_rng(0)
    w = random_matrix(0, 60, 75, 0.2, element)
    x = rng.standard_normal((75, 21)).astype(np.float32)
    x[3, 4], x[5, 6], x[7, 8] = np.nan, 1e-41, np.inf
    (kernel, *_) = kernels(target, w, 21, element, Epilogue("f32"))
    narrow = bits(convert(x, element), element)
    y, z = np.empty((2, 60, 21), np.float32)
    kernel(call_of(narrow, y), 1)
    with_input(kernel, element, "f32")(call_of(x, z), 1)
    assert np.array_equal(y, z, equal_nan=True)
    assert np.isnan(y).any()


def one(value: float) -> Array:
    return np.array(value, np.float32)


EPILOGUES = (
    Epilogue("i8", scale=one(0.003), zero=-7),
    Epilogue("ui8", scale=one(0.02), low=0.0),
    Epilogue("f32", residual=True, low=0.0, high=6.0),
    Epilogue("i32", low=-1000.5, high=999.0),
    Epilogue("f16", scale=one(0.25)),
    Epilogue("bf16", scale=one(1.5), residual=True),
)


# Sums of floats are no integers.
CASES = [
    (which, element)
    for which, epilogue in enumerate(EPILOGUES)
    for element in ELEMENTS
    if element == "i8" or epilogue.element != "i32"
]


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize(("which", "element"), CASES)
def test_what_follows_the_sums_is_what_the_epilogue_says(name: str, element: Element, which: int):
    target, epilogue = here(name, element), EPILOGUES[which]
    rng = np.random.default_rng(which)
    m, k, n = 70, 90, (33, 1, 64, 16, 21, 8)[which]
    # Whole numbers small enough that sums of floats are exact, too.
    w = random_matrix(which, m, k, 0.2, "i8")
    w = make_csr(np.sign(w.data) * (np.abs(w.data) % 4 + 1), w.indices, w.indptr, w.shape)
    x = random_input(rng, k, n, "i8")
    kind = np.int32 if element == "i8" else np.float32
    bias = rng.integers(-500, 500, m).astype(kind)
    scale = epilogue.scale
    if which % 2 and scale is not None:
        scale = (scale * rng.uniform(0.5, 2, m)).astype(np.float32)
    epilogue = Epilogue(
        epilogue.element, bias, scale, epilogue.residual, epilogue.low, epilogue.high, epilogue.zero
    )
    residual = rng.standard_normal((m, n)).astype(np.float32) if epilogue.residual else None
    sums = (w.toarray().astype(np.int64) @ x).astype(kind)
    wanted = bits(epilogue.apply(sums, residual), epilogue.element)
    given = x if element == "i8" else bits(convert(x.astype(np.float32), element), element)
    assert not finish_of(w, target, element, epilogue, True).plain
    for kernel in kernels(target, w, n, element, epilogue):
        for threads in (1, 2):
            y = np.zeros((m, n), wanted.dtype)
            kernel(call_of(given, y, residual), threads)
            assert (y == wanted).all(), kernel.kind


def test_an_epilogue_keeps_nan_and_rounds_halves_to_even():
    target = here("x86-avx2", "f16")
    w = random_matrix(0, 1, 1, 1.0, "f16")
    w.data[:] = 1
    x = np.array([[np.nan, 0.5, 1.5, 2.5, -0.5, 300, -300, np.inf, -np.inf, 126.5, 127.5]], np.float16)
    for kind, wanted in (("i8", x.shape), ("f32", x.shape)):
        epilogue = Epilogue(kind, low=-math.inf if kind == "i8" else 0.0)
        for kernel in kernels(target, w, x.shape[1], "f16", epilogue):
            y = np.zeros(wanted, STORED[kind])
            kernel(call_of(x, y), 1)
            assert np.array_equal(y, epilogue.apply(x.astype(np.float32)), equal_nan=True)


def test_sums_of_int8_wrap():
    for name in PRESETS[:2]:
        target = here(name, "i8")
        k = 140_000
        w = make_csr(np.full(k, -127, np.int8), np.arange(k), np.array([0, k]), (1, k))
        x = np.full((k, 1), -128, np.int8)
        wanted = np.int64(127 * 128 * k).astype(np.int32)
        for kind in ("csr", "vector"):
            y = np.zeros((1, 1), np.int32)
            kernel = narrow_kernel(runtime(target), w, target, Variant(kind), "i8", Epilogue("i32"))
            kernel(call_of(x, y), 1)
            assert y[0, 0] == wanted


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("name", PRESETS)
def test_c_and_python_make_the_same_words(name: str, element: Element):
    target = here(name, element)
    x_types = {"i8": (0,), "bf16": (1, 3), "f16": (2, 4)}[element]
    assert {runtime(target).sc_words_depth(x) for x in x_types} == {depth_of(target, element)}


@settings(max_examples=25)
@given(
    st.integers(1, 60), st.integers(1, 80), st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    st.sampled_from([("i8", 4), ("i8", 2), ("bf16", 2), ("bf16", 1), ("f16", 1)]), st.integers(0, 99),
)  # fmt: skip
def test_words_hold_each_value_once(m: int, k: int, density: float, kind: tuple[Element, int], seed: int):
    element, depth = kind
    w = random_matrix(seed, m, k, density, element)
    words = as_words(w, element, depth)
    columns = words.columns.ravel()
    assert sorted(columns[columns >= 0].tolist()) == list(range(k))
    assert (words.matrix().toarray() == w.toarray()).all()
    assert words.csr.nnz == word_count(w, words.columns.astype(np.int64))
    # Never more words than neighbours make.
    natural = np.append(np.arange(k), np.full(-k % depth, -1)).reshape(-1, depth)
    assert words.csr.nnz <= word_count(w, natural)


def test_columns_that_share_rows_stand_together():
    # Columns in fours with the same rows, shuffled.
    rng = np.random.default_rng(0)
    family = rng.permutation(np.repeat(np.arange(25), 4))
    dense = (rng.random((200, 25)) < 0.1)[:, family].astype(np.int8)
    found: Any = sp.csr_array(dense)
    w = make_csr(found.data, found.indices, found.indptr, dense.shape)
    for group in together(w, 4):
        assert len({dense[:, c].tobytes() for c in group}) == 1
    assert as_words(w, "i8", 4).csr.nnz * 4 == w.nnz


def test_types_that_are_not_there_are_refused():
    target = load_target("x86-avx512")
    assert isinstance(target, CpuTarget)
    with pytest.raises(UserError, match="has no input type 'f64'; it has f32, i8, bf16, f16"):
        target.with_type("f64")
    assert target.with_type("i8").acc_type == "i32"
    assert "avx512_vnni" in target.with_type("i8").features
    assert "-mavx512vnni" in target.with_type("i8").flags


def test_a_cpu_without_the_instructions_of_a_type_is_refused(monkeypatch: pytest.MonkeyPatch):
    from sparsecc.cpu.machine import Machine

    target = cast(CpuTarget, load_target("x86-avx512"))
    old = Machine("x86_64", "an old one", frozenset(target.features))
    monkeypatch.setattr("sparsecc.target.cpu.machine", lambda: old)
    target.check_runs_here()
    with pytest.raises(UserError, match="x86-avx512 needs for i8 a CPU with avx512_vnni"):
        target.with_type("i8").check_runs_here()
