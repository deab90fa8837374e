"""Straight-line code shared out to threads: the same bits as on one, however it is cut."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

from sparsecc.cpu.arrays import aligned
from sparsecc.cpu.assembly import PLAIN, assembly
from sparsecc.cpu.line import line_kernel, make_plan, registers_for, with_schedule
from sparsecc.cpu.native import Kernel, call_struct
from sparsecc.cpu.panels import panel_kernel
from sparsecc.cpu.plan import LinePlan
from sparsecc.cpu.rows import clustered, natural
from sparsecc.cpu.tune import runtime
from sparsecc.cpu.variant import Variant, row_order
from sparsecc.errors import UserError
from sparsecc.importers.matrix import Csr, make_csr
from sparsecc.target.cpu import CpuTarget
from sparsecc.target.load import native_target

Array = NDArray[Any]
HEIGHT, COLUMNS = 13, 256
# Beyond this many bytes of code and values threads share the code, not the positions (FAR in line.c).
FAR = 512 << 10


def target() -> CpuTarget:
    """This machine's, or a skip where no straight-line code is written for it."""
    try:
        found = native_target()
    except UserError as e:
        pytest.skip(str(e))
    if not found.limits.line_nnz:
        pytest.skip(f"{found.name} has no straight-line code")
    return found


def matrix(m: int, k: int, density: float) -> Csr:
    """With rows of very different counts, as pruning leaves them."""
    rng = np.random.default_rng(m)
    share = density * 2 * rng.random((m, 1))
    found: Any = sp.csr_array(((rng.random((m, k)) < share) * rng.standard_normal((m, k))).astype(np.float32))
    return make_csr(found.data, found.indices, found.indptr, (m, k))


def line(w: Csr, orders: str, n: int, fetches: int = 0) -> tuple[Kernel, LinePlan]:
    registers = registers_for(target(), n)
    assert registers is not None
    rows = clustered(w, HEIGHT, COLUMNS) if orders == "clustered" else natural(w, COLUMNS)
    plan = make_plan(w, HEIGHT, COLUMNS, rows)
    return line_kernel(runtime(target()), w, plan, registers, PLAIN, None, fetches=fetches), plan


@pytest.mark.parametrize("orders", ["natural", "clustered"])
@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize(("m", "density", "fetches"), [(300, 0.6, 0), (300, 0.6, 2), (131, 0.1, 0)])
def test_shares_of_rows_give_the_same_bits(orders: str, pack: bool, m: int, density: float, fetches: int):
    w = matrix(m, 500, density)
    for n in (16, 17, 40, 128, 131):
        kernel, plan = line(w, orders, n, fetches)
        assert plan.cut == plan.groups or 1 <= plan.cut < plan.groups
        assert (11 * w.nnz > FAR) == (density == 0.6)
        kernel = with_schedule(kernel, 3, 2, pack)
        x, y, alone = aligned((500, n)), aligned((m, n)), aligned((m, n))
        x[:] = np.random.default_rng(n).standard_normal(x.shape)
        kernel(call_struct(x, alone, None), 1)
        assert np.allclose(alone, w @ x, atol=1e-3)
        for threads in (2, 3, 5, 64):
            y.fill(np.nan)
            kernel(call_struct(x, y, None), threads)
            assert np.array_equal(y, alone)


@pytest.mark.parametrize("orders", ["natural", "clustered"])
def test_shares_of_panels_give_the_same_bits(orders: Any):
    w = matrix(300, 500, 0.6)
    lanes = 16 if target().simd.isa == "avx512" else 8
    variant = Variant("line", lanes, HEIGHT, COLUMNS, orders, panels=8, batch=2)
    assert row_order(w, variant).shape == (2, 300)
    kernel = panel_kernel(w, target(), variant)
    for count in (1, 3, 8):
        x, y, alone = aligned((count, 500, 16)), aligned((count, 300, 16)), aligned((count, 300, 16))
        x[:] = np.random.default_rng(count).standard_normal(x.shape)
        kernel.call(x, alone, None, 1)
        for threads in (2, 3, 7):
            y.fill(np.nan)
            kernel.call(x, y, None, threads)
            assert np.array_equal(y, alone)


def test_a_plan_tells_where_groups_may_be_cut():
    w = matrix(300, 500, 0.6)
    plan = line(w, "clustered", 16)[1]
    assert not plan.same_rows
    assert 0 < plan.cut < plan.groups
    before = plan.rows[:, : plan.cut * HEIGHT]
    assert all(set(rows) == set(before[0]) for rows in before)
    # Both halves have about as much to do.
    part = np.diff(plan.ends).reshape(plan.blocks, plan.groups)[:, : plan.cut].sum()
    assert 0.4 < part / w.nnz < 0.6
    assert line(w, "natural", 16)[1].cut == plan.groups
    rng = np.random.default_rng(0)
    mixed = np.stack([rng.permutation(300), rng.permutation(300)])
    assert make_plan(w, HEIGHT, COLUMNS, mixed).cut == 0


def test_code_that_no_cache_holds_gives_what_scipy_gives():
    w = matrix(2048, 2048, 0.4)
    assert 11 * w.nnz > 16 << 20  # BEYOND in line.c
    x, y = aligned((2048, 40)), aligned((2048, 40))
    x[:] = np.random.default_rng(0).standard_normal(x.shape)
    kernel, _ = line(w, "natural", 40)
    for threads in (1, 2):
        y.fill(np.nan)
        with_schedule(kernel, 2, 3, False)(call_struct(x, y, None), threads)
        assert np.allclose(y, w @ x, atol=1e-2)


@pytest.mark.parametrize("panels", [1, 2, 8])
def test_code_fetches_as_much_as_runs_next(panels: int):
    w = matrix(300, 500, 0.6)
    registers = registers_for(target(), 16)
    assert registers is not None
    plan = make_plan(w, HEIGHT, COLUMNS, natural(w, COLUMNS))
    chunks = assembly(plan, registers, PLAIN, "some", fetches=panels).split("ret\n")[:-1]
    assert len(chunks) == plan.blocks * plan.groups
    for chunk, (first, last) in zip(chunks, itertools.pairwise(plan.ends.tolist()), strict=True):
        values = [line for line in chunk.splitlines() if line.startswith("prefetch") and "%rbp" in line]
        code = [line for line in chunk.splitlines() if line.startswith("prefetch") and "%rbx" in line]
        assert len(set(values)) == len(values)
        assert 4 * (last - first) <= 64 * panels * len(values) < 4 * (last - first) + 64 * panels
        # Every product is seven bytes or more, and few lines are longer.
        assert 7 * (last - first) <= 64 * panels * len(code) < 16 * (last - first) + 64 * panels
    assert "prefetch" not in assembly(plan, registers, PLAIN, "some")
