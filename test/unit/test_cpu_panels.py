"""Products on panels: the layout, every kernel, and what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import numpy as np
import pytest
import scipy.sparse as sp  # pyright: ignore[reportMissingTypeStubs]
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import sparsecc
from sparsecc.cpu.arrays import aligned
from sparsecc.cpu.assembly import Epilogue
from sparsecc.cpu.panels import PANEL, choose_panels, pack, panel_kernel, panels_of, unpack
from sparsecc.cpu.spmm import CpuSpmm
from sparsecc.cpu.tune import Choice, line_variants
from sparsecc.cpu.variant import Variant
from sparsecc.cpu_compiler import CpuArtifact
from sparsecc.errors import UserError
from sparsecc.importers.matrix import Csr, make_csr
from sparsecc.target import load_target
from sparsecc.target.cpu import CpuTarget

Array = NDArray[Any]


def here(name: str) -> CpuTarget:
    """The target, or a skip where this machine's CPU cannot run it."""
    try:
        target = load_target(name)
    except UserError as e:
        pytest.skip(str(e))
    assert isinstance(target, CpuTarget)
    if target.missing:
        pytest.skip(f"this CPU has no {', '.join(target.missing)}")
    return target


def matrix(seed: int, m: int, k: int, density: float) -> Csr:
    rng = np.random.default_rng(seed)
    found: Any = sp.csr_array(
        ((rng.random((m, k)) < density) * rng.standard_normal((m, k))).astype(np.float32)
    )
    return make_csr(found.data, found.indices, found.indptr, (m, k))


def within_bound(y: Array, w: Csr, x: Array, terms: int = 0) -> bool:
    """The forward error bound of sums of K products and `terms` more."""
    wide, n = w.toarray().astype(np.float64), (w.shape[1] + terms) * 2.0**-24
    return bool((np.abs(y - wide @ x) <= n / (1 - n) * (np.abs(wide) @ np.abs(x.astype(np.float64)))).all())


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(0, 70), st.integers(0, 3))
def test_packing_and_unpacking_are_inverse(rows: int, n: int, offset: int):
    whole = np.random.default_rng(n).standard_normal((rows, n + offset)).astype(np.float32)
    panels = pack(x := whole[:, offset:])
    assert panels.shape == (panels_of(n), rows, PANEL)
    for i in range(n):
        assert (panels[i // PANEL, :, i % PANEL] == x[:, i]).all()
    # What is beyond the last position is 0, also where something else was.
    again = pack(x, np.full_like(panels, np.nan))
    assert (again == panels).all()
    assert again.sum(dtype=np.float64) == pytest.approx(float(x.sum(dtype=np.float64)), abs=1e-3)
    assert (unpack(panels, n) == x).all()


@pytest.mark.parametrize("name", ["x86-avx512", "x86-avx2", "arm-neon"])
@pytest.mark.parametrize("seed", range(6))
def test_products_on_panels_are_those_of_numpy(name: str, seed: int):
    target = here(name)
    rng = np.random.default_rng(seed)
    m, k, n = (int(v) for v in rng.integers(1, 200, 3))
    m, k = (m, 1500) if seed == 2 else (m, k)
    w = matrix(seed, m, k, (0.05, 0.3)[seed % 2])
    epilogue = Epilogue(bias=seed % 2 == 1, relu=seed % 3 == 1, residual=seed >= 3)
    bias = rng.standard_normal(m).astype(np.float32) if epilogue.bias else None
    x = rng.standard_normal((k, n)).astype(np.float32)
    residual = rng.standard_normal((m, n)).astype(np.float32) if epilogue.residual else None
    wide = w.toarray().astype(np.float64)
    exact, size = wide @ x, np.abs(wide) @ np.abs(x.astype(np.float64))
    for term in (bias[:, None] if bias is not None else None, residual):
        exact, size = (exact, size) if term is None else (exact + term, size + np.abs(term))
    exact = np.maximum(exact, 0) if epilogue.relu else exact
    # Vectors of half a panel, too.
    variants = {v for positions in (8, n) for v in line_variants(w, target, positions)}
    variants |= {dataclasses.replace(v, fetches=2) for v in sorted(variants, key=str)[:2]}
    for variant in (*sorted(variants, key=str), Variant("csr"), Variant("dense")):
        kernel = panel_kernel(w, target, variant, epilogue, bias)
        for threads in (1, 2, 3):
            y = np.full((panels_of(n), m, PANEL), np.nan, np.float32)
            added = pack(residual) if residual is not None else None
            kernel.call(pack(x), y, added, threads)
            assert (np.abs(unpack(y, n) - exact) <= (k + 2) * 2.0**-23 * size).all(), (variant, threads)
            assert not np.isnan(y).any()


def artifact(w: Array, n: int) -> CpuArtifact:
    return cast(CpuArtifact, sparsecc.compile(w, target=here("cpu").name, n=n))


def test_an_artifact_takes_panels_and_gives_panels():
    w = matrix(0, 96, 128, 0.1)
    product = artifact(w.toarray(), 40)
    x = np.random.default_rng(0).standard_normal((128, 40)).astype(np.float32)
    y = product(product.pack(x))
    assert y.shape == (3, 96, PANEL)
    assert within_bound(product.unpack(y, 40), w, x)
    out = np.empty_like(y)
    assert product(product.pack(x), out=out, threads=2) is out
    assert within_bound(product.unpack(out, 40), w, x)
    assert product(np.empty((0, 128, PANEL), np.float32)).shape == (0, 96, PANEL)
    # The second call with so many panels takes the short way, which leaves everything else to the other.
    out.fill(np.nan)
    product(panels := product.pack(x), out=out)
    assert within_bound(product.unpack(out, 40), w, x)
    assert isinstance(product.native, CpuSpmm)
    fast = product.native._panel_kernels[3].fast  # pyright: ignore[reportPrivateUsage]
    wrong = (panels[:2], panels[:, :127], panels.astype(np.float64), panels[::-1], None, x)
    assert [fast(id(other), id(out), 1) for other in wrong] == [1] * len(wrong)
    assert [fast(id(panels), id(other), 1) for other in (None, out[:2], panels)] == [1] * 3
    # From layer to layer without a word about layouts.
    again = artifact(matrix(1, 50, 96, 0.2).toarray(), 40)
    assert within_bound(again.unpack(again(y), 40), matrix(1, 50, 96, 0.2), product.unpack(y, 40))


def test_the_kernel_for_panels_is_found_again(monkeypatch: pytest.MonkeyPatch):
    target, w = here("cpu"), matrix(5, 60, 60, 0.2)
    first = choose_panels(w, target, 2)

    def fail(*_: Any) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("sparsecc.cpu.panels.line_variants", fail)
    assert choose_panels(w, target, 2).variant == first.variant
    # A record that is not one of ours is measured again.
    monkeypatch.setattr("sparsecc.cpu.panels.read_measured", lambda _: {"kind": "lime", "parameters": {}})  # pyright: ignore
    with pytest.raises(AssertionError, match="measured again"):
        choose_panels(w, target, 2)


@pytest.mark.parametrize(
    ("x", "out", "says"),
    [
        (np.ones((2, 61, 16), np.float32), None, r"x has shape \[2, 61, 16\]; needed \[panels, 60, 16\]"),
        (np.ones((2, 60, 8), np.float32), None, r"x has shape \[2, 60, 8\]; needed \[panels, 60, 16\]"),
        (np.ones((2, 60, 16)), None, "x has element type float64; needed float32"),
        (np.ones((2, 60, 32), np.float32)[:, :, ::2], None, "x has strides .* needed panels one"),
        (np.ones((2, 60, 16), np.float32), np.ones((40, 32), np.float32), r"out has shape \[40, 32\];"),
        (np.ones((2, 60, 16), np.float32), [1.0], "out is a list; needed a numpy array"),
    ],
)  # fmt: skip
def test_wrong_panels_are_refused(x: Any, out: Any, says: str):
    with pytest.raises(UserError, match=says):
        CpuSpmm(matrix(0, 40, 60, 0.1), here("cpu"), Choice(Variant("csr"), False))(x, out=out)


def test_panels_that_overlap_or_may_not_be_written_are_refused():
    target, w = here("cpu"), matrix(0, 40, 60, 0.1)
    product = CpuSpmm(w, target, Choice(Variant("csr"), False))
    whole = np.ones(2 * 60 * 16 + 80, np.float32)
    x = whole[: 2 * 60 * 16].reshape(2, 60, 16)
    with pytest.raises(UserError, match="out shares memory with x"):
        product(x, out=whole[80 : 80 + 2 * 40 * 16].reshape(2, 40, 16))
    frozen = np.ones((2, 40, 16), np.float32)
    frozen.flags.writeable = False
    with pytest.raises(UserError, match="out may not be written"):
        product(x, out=frozen)
    with pytest.raises(UserError, match="threads is 0"):
        product(x, threads=0)
    with pytest.raises(UserError, match="residual: found one"):
        product(x, residual=np.ones((2, 40, 16), np.float32))
    for array, n, says in ((x, 33, "n is 33; the 2 panels hold 0 to 32"), (x[0], 3, "panels have shape")):
        with pytest.raises(UserError, match=says):
            unpack(array, n)
    with pytest.raises(UserError, match=r"x has shape \[4\]; needed \[rows, N\]"):
        pack(np.ones(4, np.float32))
    added = CpuSpmm(w, target, Choice(Variant("csr"), False), Epilogue(residual=True))
    sums = np.zeros((2, 40, 16), np.float32)
    assert added(x, out=sums, residual=sums) is sums
    assert np.allclose(unpack(sums, 32), w.toarray().sum(1, keepdims=True), atol=1e-4)
    both = aligned((3, 40, 16))
    with pytest.raises(UserError, match="out shares memory with residual"):
        added(x, out=both[:2], residual=both[1:])
