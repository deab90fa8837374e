"""The kernels of CPUs against numpy: every layout, every schedule, every edge, on this machine."""

from __future__ import annotations

import ctypes
from ctypes import CDLL
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp  # pyright: ignore[reportMissingTypeStubs]
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sparsecc.cpu import rounds
from sparsecc.cpu.arrays import VECTOR_ROWS, csr_arrays, sliced_arrays, vector_arrays
from sparsecc.cpu.assembly import PLAIN, Epilogue, Registers, assembly
from sparsecc.cpu.line import line_kernel, make_plan, registers_for, schedules, with_schedule
from sparsecc.cpu.native import Kernel, call_struct, csr_kernel, dense_kernel, vector_kernel
from sparsecc.cpu.pairs import THERE, Shared, paired_arrays
from sparsecc.cpu.plan import LinePlan, block_count, block_width, line_plan
from sparsecc.cpu.rounds import CLOSED, STEPS, blocks_of_step, round_arrays
from sparsecc.cpu.rows import clustered, loads, natural
from sparsecc.cpu.tune import FEW, of_one_position, paired_variants, runtime
from sparsecc.cpu.variant import KINDS, Variant
from sparsecc.importers.matrix import Csr, make_csr
from sparsecc.interpreters import cpu as interpreter
from sparsecc.target import load_target
from sparsecc.target.cpu import CpuTarget

Array = NDArray[Any]

# Layouts for one position.
OF_ONE = (
    Variant("vector"),
    Variant("vector", sliced=True),
    Variant("vector", pairs=1),
    Variant("vector", pairs=2),
    Variant("vector", rounds=True),
)

PRESETS = ("x86-avx512", "x86-avx2", "arm-neon")


def here(name: str) -> CpuTarget:
    """The target, or a skip where this machine's CPU cannot run it."""
    target = load_target(name)
    assert isinstance(target, CpuTarget)
    if target.missing:
        pytest.skip(f"this CPU has no {', '.join(target.missing)}")
    return target


def random_matrix(seed: int, m: int, k: int, density: float | NDArray[np.float64]) -> Csr:
    """density: of all, or [M, 1] of each row."""
    rng = np.random.default_rng(seed)
    dense = ((rng.random((m, k)) < density) * rng.standard_normal((m, k))).astype(np.float32)
    found: Any = sp.csr_array(dense)
    return make_csr(found.data, found.indices, found.indptr, (m, k))


def plan_of(w: Csr, rows: Array, height: int, width: int) -> LinePlan:
    return line_plan(w.shape, w.indptr.astype(np.int64), w.indices.astype(np.int64), rows, height, width)


def gamma(k: int) -> float:
    """The factor of the forward error bound of a sum of k products and two more terms."""
    n = (k + 2) * 2.0**-24
    return n / (1 - n)


def orders(rng: np.random.Generator, m: int, blocks: int) -> list[Array]:
    return [rng.permutation(m) for _ in range(blocks)]


def of_layout(library: CDLL, w: Csr, bias: Array | None, relu: bool, v: Variant) -> Kernel:
    return vector_kernel(library, w, bias, relu, v.sliced, v.pairs, v.rounds)


def kernels(
    target: CpuTarget,
    w: Csr,
    n: int,
    epilogue: Epilogue,
    bias: Array | None,
    rng: np.random.Generator,
    columns: int,
) -> list[Kernel]:
    """Every kernel and every schedule for n positions."""
    library = runtime(target)
    found = [csr_kernel(library, w, bias, epilogue.relu, by_rows) for by_rows in (False, True)]
    found.append(dense_kernel(library, w, bias, epilogue.relu))
    if n <= FEW:
        found += [of_layout(library, w, bias, epilogue.relu, v) for v in OF_ONE]
    registers = registers_for(target, n)
    if registers is not None and w.nnz:
        # Every second time each block has an order of its own.
        one = int(rng.integers(2))
        blocks = block_count(w.shape[1], block_width(w.shape[1], columns))
        rows = np.stack([rng.permutation(w.shape[0])] * blocks if one else orders(rng, w.shape[0], blocks))
        plan = make_plan(w, min(registers.accumulators, w.shape[0]), columns, rows)
        assert plan.same_rows or not one
        line = line_kernel(library, w, plan, registers, epilogue, bias)
        panels = -(-n // registers.lanes)
        found += [with_schedule(line, s.panels, s.batch, s.pack) for s in schedules(plan.groups, panels)]
    return found


def inside(shape: tuple[int, int], offset: int, gap: int) -> tuple[Array, Array]:
    """An array of NaN, and a view in it whose rows lie apart and begin anywhere."""
    whole = np.full((shape[0], shape[1] + offset + gap), np.nan, np.float32)
    return whole, whole[:, offset : offset + shape[1]]


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("seed", range(16))
def test_products_are_those_of_numpy(name: str, seed: int):
    target = here(name)
    rng = np.random.default_rng(seed)
    m, k, n = (int(v) for v in rng.integers(1, 300, 3))
    n = (1, 7, 8, 9, 16, 17, 31, 32, 64, 65, 128, 5, n, n, 2, 4)[seed]
    k = 1200 if seed == 4 else k
    density = float(rng.choice([0.0, 0.02, 0.1, 0.4, 1.0]))
    w = random_matrix(seed, m, k, density)
    epilogue = Epilogue(bias=seed % 2 == 1, relu=seed % 3 == 1, residual=seed % 4 == 2)
    bias = rng.standard_normal(m).astype(np.float32) if epilogue.bias else None
    _, x = inside((k, n), seed % 5, 3)
    x[:] = rng.standard_normal((k, n))
    residual = rng.standard_normal((m, n)).astype(np.float32) if epilogue.residual else None
    dense = w.toarray().astype(np.float64)
    exact, size = dense @ x, np.abs(dense) @ np.abs(x.astype(np.float64))
    if bias is not None:
        exact, size = exact + bias[:, None], size + np.abs(bias)[:, None]
    if residual is not None:
        exact, size = exact + residual, size + np.abs(residual)
    exact = np.maximum(exact, 0) if epilogue.relu else exact
    columns = (64, 512)[seed % 2]
    for kernel in kernels(target, w, n, epilogue, bias, rng, columns):
        for threads in (1, 2):
            whole, y = inside((m, n), (seed + 1) % 4, 2)
            kernel(call_struct(x, y, residual), threads)
            assert (np.abs(y - exact) <= gamma(k) * size).all(), (kernel.kind, m, k, n, threads)
            # Nothing was written beside the rows.
            assert np.isnan(whole).sum() == whole.size - y.size


@pytest.mark.parametrize("name", PRESETS)
def test_rows_without_a_value_become_zeros_or_what_is_fused(name: str):
    target, bias = here(name), np.arange(300, dtype=np.float32)
    dense = np.zeros((300, 70), np.float32)
    dense[7, 69], dense[299, 3] = 2, -4
    found: Any = sp.csr_array(dense)
    w = make_csr(found.data, found.indices, found.indptr, dense.shape)
    whole = np.ones((70, 3), np.float32)
    for x in (np.ones((70, 1), np.float32), whole[:, 1:2]):
        for added, relu in ((None, False), (None, True), (bias, False)):
            exact = dense @ x + (0 if added is None else added[:, None])
            exact = np.maximum(exact, 0) if relu else exact
            for threads in (1, 2):
                for out in (np.full((300, 1), np.nan, np.float32), np.full((300, 2), np.nan, np.float32)):
                    for layout in OF_ONE:
                        out[:, :1] = np.nan
                        kernel = of_layout(runtime(target), w, added, relu, layout)
                        kernel(call_struct(x, out[:, :1], None), threads)
                        assert (out[:, :1] == exact).all()
                        assert np.isnan(out[:, 1:]).all()


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("residual", [False, True])
def test_rows_of_few_values_are_computed_where_they_are(name: str, residual: bool):
    library = runtime(here(name))
    w = random_matrix(3, 150, 700, 0.003)
    assert csr_arrays(w).width == 0
    rng = np.random.default_rng(0)
    bias = rng.standard_normal(150).astype(np.float32)
    kernel = csr_kernel(library, w, bias, True)
    for n in (1, 15, 16, 70, 131):
        _, x = inside((700, n), 1, 2)
        x[:] = rng.standard_normal(x.shape)
        added = rng.standard_normal((150, n)).astype(np.float32) if residual else None
        exact = w.toarray().astype(np.float64) @ x + bias[:, None] + (0 if added is None else added)
        for threads in (1, 3):
            whole, y = inside((150, n), 3, 1)
            kernel(call_struct(x, y, added), threads)
            assert np.allclose(y, np.maximum(exact, 0), atol=1e-4)
            assert np.isnan(whole).sum() == whole.size - y.size


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize(("full", "relu"), [((), False), ((7, 8, 299), True), (tuple(range(60, 200)), False)])
def test_segments_of_mostly_empty_rows_are_filled_at_once(name: str, full: tuple[int, ...], relu: bool):
    dense = np.zeros((300, 70), np.float32)
    dense[list(full), 3] = np.arange(len(full)) - 1.0
    found: Any = sp.csr_array(dense)
    w = make_csr(found.data, found.indices, found.indptr, dense.shape)
    kernel = csr_kernel(runtime(here(name)), w, None, relu)
    for n, gap in ((1, 0), (40, 0), (40, 3), (131, 0)):
        x = np.arange(70 * n, dtype=np.float32).reshape(70, n)
        exact = np.maximum(dense @ x, 0) if relu else dense @ x
        for threads in (1, 2, 5):
            whole = np.full((300, n + gap), np.nan, np.float32)
            kernel(call_struct(x, whole[:, :n], None), threads)
            assert (whole[:, :n] == exact).all()
            assert np.isnan(whole[:, n:]).all()


@pytest.mark.parametrize("name", PRESETS)
def test_nan_and_infinity_reach_what_stored_nonzeros_reach_and_nothing_else(name: str):
    target = here(name)
    w = random_matrix(3, 70, 90, 0.1)
    touched = w.toarray()[:, 40] != 0
    assert 0 < touched.sum() < 70
    for n in (1, 8, 40):
        for value in (np.nan, np.inf):
            x = np.ones((90, n), np.float32)
            x[40, n // 2] = value
            for kernel in kernels(target, w, n, Epilogue(relu=True), None, np.random.default_rng(0), 64):
                if kernel.kind == "dense":
                    continue  # multiplies zeros, too
                y = np.zeros((70, n), np.float32)
                kernel(call_struct(x, y, None), 1)
                if np.isnan(value):
                    assert (np.isnan(y[:, n // 2]) == touched).all()
                else:
                    assert np.isfinite(y[~touched]).all()
                    positive = w.toarray()[:, 40] > 0
                    assert (y[positive, n // 2] == np.inf).all()
                assert np.isfinite(np.delete(y, n // 2, axis=1)).all()


@settings(max_examples=30)
@given(
    st.integers(1, 60), st.integers(1, 80), st.sampled_from([0.0, 0.03, 0.3, 1.0]), st.integers(1, 28),
    st.integers(1, 90), st.integers(0, 99),
)  # fmt: skip
def test_a_plan_runs_every_nonzero_once(m: int, k: int, density: float, height: int, limit: int, seed: int):
    w = random_matrix(seed, m, k, density)
    width = block_width(k, limit)
    assert 1 <= width <= max(limit, 8)
    rows = np.stack(orders(np.random.default_rng(seed), m, block_count(k, width)))
    plan = plan_of(w, rows, height, width)
    assert sorted(plan.order.tolist()) == list(range(w.nnz))
    chunk = np.repeat(np.arange(len(plan.ends) - 1), np.diff(plan.ends))
    row = plan.rows[chunk // plan.groups, chunk % plan.groups * height + plan.slot]
    column = chunk // plan.groups * width + plan.column
    assert (row == np.repeat(np.arange(m), np.diff(w.indptr))[plan.order]).all()
    assert (column == w.indices[plan.order]).all()
    # Columns ascend in a chunk, rows in a column: each vector of X is loaded once.
    key = (chunk * width + plan.column) * height + plan.slot
    assert (np.diff(key) > 0).all()
    assert plan.loads() == len(set((chunk * width + plan.column).tolist()))


@settings(max_examples=20)
@given(st.integers(1, 150), st.integers(1, 200), st.sampled_from([0.0, 0.02, 0.2, 1.0]), st.integers(0, 9))
def test_the_interpreter_reads_the_layouts_of_the_kernels(m: int, k: int, density: float, seed: int):
    w = random_matrix(seed, m, k, density)
    x = np.random.default_rng(seed).standard_normal((k, 3)).astype(np.float32)
    exact = w.toarray().astype(np.float64) @ x
    bound = gamma(k) * (np.abs(w.toarray().astype(np.float64)) @ np.abs(x.astype(np.float64)))
    for kind in KINDS:
        variant = Variant(kind)
        if kind == "line":
            variant = Variant("line", 16, min(m, 28), 64, "clustered", 1, 1)
        assert (np.abs(interpreter.spmm(w, variant, x) - exact) <= bound).all(), kind
    for variant in (*OF_ONE, Variant("csr", by_rows=True)):
        assert (np.abs(interpreter.spmm(w, variant, x) - exact) <= bound).all(), variant.name


def test_rows_with_common_columns_are_grouped():
    # Two families of rows, shuffled: only a clustering puts each into groups of its own.
    rng = np.random.default_rng(0)
    family = rng.permutation(np.repeat([0, 1], 56))
    dense = np.zeros((112, 200), np.float32)
    for row, which in enumerate(family):
        dense[row, which * 100 + rng.choice(100, 20, replace=False)] = 1
    found: Any = sp.csr_array(dense)
    w = make_csr(found.data, found.indices, found.indptr, (112, 200))
    (order,) = clustered(w, 28, 200)
    assert sorted(order.tolist()) == list(range(112))
    assert all(len(set(family[order[g : g + 28]])) == 1 for g in range(0, 112, 28))
    assert loads(w, order[None], 28, 200) < 0.6 * loads(w, natural(w, 200), 28, 200)
    assert loads(w, order[None], 28, 200) == plan_of(w, order[None], 28, 200).loads()


@settings(max_examples=20)
@given(st.integers(1, 120), st.integers(1, 150), st.sampled_from([0.0, 0.03, 0.3]), st.integers(1, 150))
def test_clusters_are_permutations_that_never_load_more(m: int, k: int, density: float, width: int):
    w = random_matrix(m, m, k, density)
    rows = clustered(w, 28, width)
    assert (np.sort(rows, axis=1) == np.arange(m)).all()
    assert loads(w, rows, 28, width) == plan_of(w, rows, 28, width).loads()
    assert loads(w, rows, 28, width) <= loads(w, natural(w, width), 28, width)


def test_layouts_hold_each_value_once():
    w = random_matrix(1, 100, 300, 0.1)
    total = float(np.sort(w.data.astype(np.float64)).sum())
    csr, vector = csr_arrays(w), vector_arrays(w)
    assert len(csr.entries) == w.nnz
    assert np.isclose(np.sort(csr.entries["value"].astype(np.float64)).sum(), total)
    assert np.unpackbits(vector.masks.view(np.uint8)).sum() == w.nnz
    assert 0 < vector.fill <= 1
    # Every row has one place; slabs are of like size; in each, tiles stand by their number of steps.
    large = vector_arrays(random_matrix(2, 900, 300, 0.05))
    assert sorted(row for row in large.rows.tolist() if row >= 0) == list(range(900))
    assert np.ptp(np.diff(large.slabs["group"])) <= 1
    for first, end in zip(large.slabs["stretch"][:-1], large.slabs["stretch"][1:], strict=True):
        assert (np.diff(large.stretches["steps"][first:end]) > 0).all()
    assert int((large.stretches["steps"] * large.stretches["tiles"]).sum()) == len(large.values)
    # Slices of rows sorted by count have few places without a value, and none where all rows are alike.
    uneven = random_matrix(2, 900, 300, 0.02)
    sliced = sliced_arrays(uneven)
    assert sorted(row for row in sliced.rows.tolist() if row >= 0) == list(range(900))
    assert np.unpackbits(sliced.masks.view(np.uint8)).sum() == uneven.nnz
    assert np.ptp(np.diff(sliced.slabs["group"])) <= 1
    assert int((sliced.stretches["steps"] * sliced.stretches["tiles"]).sum()) == len(sliced.values)
    assert uneven.nnz / sliced.values.size > 0.9 > 2 * vector_arrays(uneven).fill
    # Steps with blocks of their own have far fewer places without a value than tiles have; with many values
    # steps that share blocks hardly have more.
    cases: tuple[tuple[Csr, Shared, float], ...] = (
        (uneven, 1, 1.3),
        (random_matrix(3, 256, 512, 0.1), 1, 1.3),
        (random_matrix(3, 256, 512, 0.4), 2, 1.1),
    )
    for w, shared, least in cases:
        paired = paired_arrays(w, shared)
        assert sorted(row for row in paired.rows.tolist() if row >= 0) == list(range(w.shape[0]))
        assert (paired.columns >= THERE).sum() == w.nnz
        assert len(paired.pairs) * shared == len(paired.values)
        assert int((paired.stretches["steps"] * paired.stretches["tiles"]).sum()) == len(paired.values)
        assert w.nnz / paired.values.size > least * vector_arrays(w).fill
    # Inside a block, rows of a segment come by falling count.
    counts = np.diff(csr.begin, axis=1)
    assert (np.diff(counts[:, :64], axis=1) <= 0).all()


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize(
    ("m", "k", "density"),
    [
        (1, 1, 1),
        (16, 512, 1),
        (37, 31, 0.5),
        (300, 513, 0.1),
        (70, 1500, 0.3),
        (4200, 90, 0.02),
        (530, 512, 0.02),
        (1500, 512, 0.0005),
    ],
)
def test_rounds_compute_each_value_once(name: str, m: int, k: int, density: float):
    library, rng = runtime(here(name)), np.random.default_rng(m)
    w = random_matrix(m, m, k, density)
    dense = w.toarray().astype(np.float64)
    kernel = of_layout(library, w, None, False, Variant("vector", rounds=True))
    found = interpreter.spmm(w, Variant("vector", rounds=True), np.eye(k, dtype=np.float32))
    assert (found == dense).all()
    for apart in (1, 3):
        x = np.full((k, apart), np.nan, np.float32)
        x[:, 0] = rng.standard_normal(k)
        # What a place without a value takes of X must not show.
        special = rng.integers(0, k, 2)
        x[special, 0] = np.inf, np.nan
        with np.errstate(invalid="ignore"):
            exact = np.array([row[there] @ x[there, 0] for row, there in zip(dense, dense != 0, strict=True)])
            size = np.abs(dense) @ np.abs(np.nan_to_num(x[:, 0].astype(np.float64), posinf=0))
        for threads in (1, 2, 3):
            _, y = inside((m, 1), 1, apart - 1)
            kernel(call_struct(x[:, :1], y, None), threads)
            finite = np.isfinite(exact)
            assert (np.abs(y[finite, 0] - exact[finite]) <= gamma(k) * size[finite]).all()
            assert np.array_equal(y[~finite, 0].astype(np.float64), exact[~finite], equal_nan=True)


def test_rounds_hold_each_value_once_and_fill_steps():
    for density, least, alone in ((0.5, 0.96, 0.001), (0.1, 0.69, 0.008), (0.02, 0.34, 0.01)):
        w = random_matrix(1, 512, 512, density)
        a = round_arrays(w)
        assert np.count_nonzero(a.values) + len(a.singles) == w.nnz
        assert np.count_nonzero(a.values) >= least * a.values.size
        assert len(a.singles) <= alone * w.nnz
        assert (a.steps % 2 == 0).all()
        # Slabs are rows that follow each other.
        begin = (a.slabs["group"] * VECTOR_ROWS).tolist()
        assert (begin[0], begin[-1]) == (0, 512)
        assert all(sorted(a.rows[i:j].tolist()) == list(range(i, j)) for i, j in pairwise(begin))
    # In each round every closed block comes once, and an open one at most once.
    pairs = blocks_of_step(STEPS).reshape(-1, CLOSED, 2)
    assert (pairs[:, :, 0] == np.arange(CLOSED)).all()
    assert all(len(set(of[:, 1].tolist())) == CLOSED for of in pairs)


def test_slabs_of_rounds_take_about_equally_many_steps():
    row = np.arange(2016)[:, None]
    a = round_arrays(random_matrix(1, 2016, 512, np.where(row < 200, 0.5, 0.05)))
    each = np.add.reduceat(a.steps[0].astype(int), a.slabs["group"][:-1])
    assert len(each) >= 4
    assert max(each) <= 1.3 * min(each)
    # All work in a few rows: the others' slabs are still not empty.
    w = random_matrix(1, 2000, 512, np.where(row[:2000] < 32, 1.0, 0.0))
    a = round_arrays(w)
    assert len(a.slabs) == 3
    assert (np.diff(a.slabs["group"]) > 0).all()
    assert np.count_nonzero(a.values) + len(a.singles) == w.nnz


@pytest.mark.parametrize("name", PRESETS[:2])
def test_groups_without_steps_may_stand_anywhere_in_a_slab(name: str, monkeypatch: pytest.MonkeyPatch):
    grouped = rounds._grouped  # pyright: ignore[reportPrivateUsage]

    def with_an_empty_one(chunks: list[NDArray[np.int32]]) -> Any:
        start, rows, place, steps = grouped(chunks)
        steps[:, 1] = 0
        return start, rows, place, steps

    monkeypatch.setattr(rounds, "_grouped", with_an_empty_one)
    w = random_matrix(1, 100, 512, 0.05)
    assert np.count_nonzero(round_arrays(w).steps == 0) == 1
    kernel = of_layout(runtime(here(name)), w, None, False, Variant("vector", rounds=True))
    x = np.random.default_rng(1).standard_normal((512, 1)).astype(np.float32)
    y = np.full((100, 1), np.nan, np.float32)
    kernel(call_struct(x, y, None), 1)
    dense = w.toarray().astype(np.float64)
    assert (np.abs(y - dense @ x) <= gamma(512) * (np.abs(dense) @ np.abs(x))).all()


def test_pairs_are_timed_where_they_may_be_faster():
    avx512, avx2 = (load_target(name) for name in PRESETS[:2])
    assert isinstance(avx512, CpuTarget)
    assert isinstance(avx2, CpuTarget)
    for density, wanted in ((0.005, [1]), (0.05, [1, 2]), (0.3, [2])):
        w = random_matrix(1, 200, 300, density)
        assert [v.pairs for v in paired_variants(w, avx512)] == wanted
        assert paired_variants(w, avx2) == []
    assert paired_variants(random_matrix(1, 2100, 2100, 0.001), avx512) == []
    assert paired_variants(random_matrix(1, 20, 30, 0), avx512) == []
    # Rounds are timed, and taken by rule, but where chunks would hold next to nothing or take long.
    for m, k, density, taken in ((200, 300, 0.05, True), (900, 300, 0.001, True), (300, 2000, 0.001, False)):
        w = random_matrix(1, m, k, density)
        assert (of_one_position(w, avx512) == Variant("vector", rounds=True)) == taken
        assert of_one_position(w, avx2) == Variant("vector")
    for variant in (*OF_ONE, Variant("csr"), Variant("csr", by_rows=True)):
        assert Variant.of(variant.kind, variant.parameters()) == variant
    with pytest.raises(ValueError, match="pairs is 3; needed 0, 1 or 2"):
        Variant.of("vector", {"pairs": 3})


def test_assembly_has_one_instruction_for_each_nonzero():
    w = random_matrix(2, 60, 700, 0.05)
    width = block_width(700, 512)
    plan = plan_of(w, natural(w, width), 28, width)
    text = assembly(plan, Registers("avx512", 16), PLAIN, "f")
    assert text.count("vfmadd231ps") == w.nnz
    assert text.count("{1to16}") == w.nnz
    loads_and_sums = text.count("vmovups (%rdi") + text.count("vmovups (%r8")
    # Sums of the first of two blocks are stored and loaded again.
    assert loads_and_sums == plan.loads() + 60
    assert text.count("ret\n") == plan.groups * plan.blocks


@pytest.mark.parametrize("name", PRESETS)
def test_peak_and_times_are_plausible(name: str):
    library: ctypes.CDLL = runtime(here(name))
    assert library.sc_supported() == 1
    found = library.sc_peak(0.05)
    assert 1e9 < found < 1e13
    # A core starts a few loads in a cycle, of a nanosecond or less.
    cached = np.zeros(1024, np.float32)
    assert 1e8 < library.sc_loads(cached.ctypes.data, cached.size, 0.02) < 5e10
    w = random_matrix(0, 64, 64, 0.5)
    x, y = np.ones((64, 64), np.float32), np.empty((64, 64), np.float32)
    seconds = csr_kernel(library, w, None, False).seconds(call_struct(x, y, None), 1, 0.01)
    # No kernel is faster than the core.
    assert 2 * w.nnz * 64 / seconds < 1.5 * found
