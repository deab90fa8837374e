"""Generators keep what they say; the recogniser finds the pattern again, and none in random sparsity."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsecc import patterns
from sparsecc.patterns import Mask, pattern_of, recognise

EXAMPLES = settings(max_examples=40, deadline=None, derandomize=True)
SHAPE = (128, 256)


def parameters(mask: Mask) -> dict[str, float]:
    return dict(recognise(pattern_of(mask)).parameters)


@EXAMPLES
@given(st.integers(0, 2**32), st.integers(1, 300), st.integers(1, 300), st.floats(0, 1))
def test_random_sparsity_has_no_pattern(seed: int, m: int, k: int, density: float):
    mask = patterns.unstructured((m, k), density, seed)
    assert mask.sum() == round(density * m * k)
    assert recognise(pattern_of(mask)).kind in ("unstructured", "empty", "dense")


@EXAMPLES
@given(
    st.integers(0, 99),
    st.sampled_from([2, 3, 4, 8, 16]),
    st.sampled_from([2, 4, 5, 8, 16]),
    st.sampled_from([0.1, 0.3, 0.5]),
)
def test_blocks_are_found(seed: int, rows: int, columns: int, density: float):
    found = recognise(pattern_of(patterns.block(SHAPE, (rows, columns), density, seed)))
    assert (found.kind, found.exact) == ("block", True)
    assert dict(found.parameters) == {"rows": rows, "columns": columns}


@EXAMPLES
@given(st.integers(0, 99), st.sampled_from([2, 4, 8, 16, 32]), st.sampled_from([0.1, 0.3]))
def test_vectors_are_found(seed: int, v: int, density: float):
    found = recognise(pattern_of(patterns.vector(SHAPE, v, density, seed)))
    assert (str(found), found.exact) == (f"vector({v})", True)


@EXAMPLES
@given(st.integers(0, 99), st.sampled_from([(1, 2), (1, 4), (2, 4), (1, 8), (4, 8), (1, 16)]))
def test_n_of_m_is_found(seed: int, nm: tuple[int, int]):
    mask = patterns.nm(SHAPE, *nm, seed)
    assert (mask.reshape(-1, nm[1]).sum(axis=1) == nm[0]).all()
    assert str(recognise(pattern_of(mask))) == f"{nm[0]}:{nm[1]}"


@EXAMPLES
@given(st.integers(0, 99), st.sampled_from([16, 32, 64]), st.sampled_from([8, 16, 32]), st.integers(1, 2))
def test_v_n_m_is_found(seed: int, v: int, m: int, n: int):
    mask = patterns.vnm(SHAPE, v, n, m, seed)
    assert (mask.reshape(SHAPE[0], -1, m).sum(axis=2) == n).all()
    assert str(recognise(pattern_of(mask))) == f"{v}:{n}:{m}"


@EXAMPLES
@given(st.integers(0, 99), st.sampled_from([1, 2, 4]), st.sampled_from([0.1, 0.25]))
def test_banks_are_found(seed: int, banks: int, density: float):
    shape = (512, 256)
    kept = round(density * shape[1] / banks)
    mask = patterns.bank(shape, banks, kept, seed)
    assert (mask.reshape(shape[0], banks, -1).sum(axis=2) == kept).all()
    assert parameters(mask) == {"banks": banks, "kept": kept}


@EXAMPLES
@given(st.integers(0, 99), st.sampled_from([16, 32, 64]), st.sampled_from([0.25, 0.5]))
def test_rows_and_columns_of_blocks_are_found(seed: int, side: int, keep: float):
    mask = patterns.bcr(SHAPE, (side, side), keep, keep, seed)
    found = recognise(pattern_of(mask))
    assert (found.kind, found.exact) == ("bcr", True)
    assert dict(found.parameters) == {"rows": side, "columns": side, "row_keep": keep, "column_keep": keep}


@EXAMPLES
@given(st.integers(0, 99), st.sampled_from([0.1, 0.3, 0.7]))
def test_rows_and_columns_are_found(seed: int, density: float):
    rows, columns = patterns.rows(SHAPE, density, seed), patterns.columns(SHAPE, density, seed)
    kept = round(density * SHAPE[0]), round(density * SHAPE[1])
    assert str(recognise(pattern_of(rows))) == f"row({kept[0]} of {SHAPE[0]})"
    assert str(recognise(pattern_of(columns))) == f"column({kept[1]} of {SHAPE[1]})"
    both = recognise(pattern_of(patterns.hierarchical(rows, columns)))
    assert [part.kind for part in both.parts] == ["row", "column"]


COMPOSED: dict[str, Callable[[int], Mask]] = {
    "2:4 of block(16x16)": lambda s: patterns.hierarchical(
        patterns.block(SHAPE, (16, 16), 0.3, s), patterns.nm(SHAPE, 2, 4, s)
    ),
    "1:8 of row(64 of 128)": lambda s: patterns.hierarchical(
        patterns.rows(SHAPE, 0.5, s), patterns.nm(SHAPE, 1, 8, s)
    ),
    "bank(2x16) of row(64 of 128)": lambda s: patterns.hierarchical(
        patterns.rows(SHAPE, 0.5, s), patterns.bank(SHAPE, 2, 16, s)
    ),
}


@pytest.mark.parametrize("text", COMPOSED)
def test_compositions_are_found(text: str):
    assert all(str(recognise(pattern_of(COMPOSED[text](seed)))) == text for seed in range(5))


def test_unstructured_inside_rows_is_a_composition():
    mask = patterns.hierarchical(patterns.rows(SHAPE, 0.25), patterns.unstructured(SHAPE, 0.4))
    outer, inner = recognise(pattern_of(mask)).parts
    assert (outer.kind, inner.kind) == ("row", "unstructured")
    assert dict(inner.parameters)["density"] == pytest.approx(0.4, abs=0.03)


def test_a_pattern_with_zeros_in_it_holds_in_part():
    rng = np.random.default_rng(0)
    mask = patterns.block((256, 256), (16, 16), 0.3) & (rng.random((256, 256)) < 0.95)
    found = recognise(pattern_of(mask))
    assert found.kind == "block"
    assert found.share == pytest.approx(0.95, abs=0.01)
    assert not found.exact
    assert str(found) == f"block(16x16) to {100 * found.share:.1f} %"


def test_a_count_that_is_broken_now_and_then_holds_in_part():
    rng = np.random.default_rng(0)
    mask = patterns.nm((256, 256), 2, 4) | (rng.random((256, 256)) < 0.002)
    found = recognise(pattern_of(mask))
    assert str(found).startswith("2:4 to 99.")


def test_extremes():
    assert recognise(pattern_of(np.zeros((3, 4), bool))).kind == "empty"
    assert recognise(pattern_of(np.ones((3, 4), bool))).kind == "dense"
    assert recognise(pattern_of(np.eye(1, 2, dtype=bool))).kind == "unstructured"
    # Too small to tell from chance.
    assert recognise(pattern_of(patterns.nm((2, 8), 2, 4))).kind == "unstructured"


def test_the_same_seed_gives_the_same_mask():
    assert (patterns.vnm(SHAPE, 32, 2, 8, 7) == patterns.vnm(SHAPE, 32, 2, 8, 7)).all()
    assert (patterns.vnm(SHAPE, 32, 2, 8, 7) != patterns.vnm(SHAPE, 32, 2, 8, 8)).any()


def test_banks_must_divide_the_columns():
    with pytest.raises(ValueError, match="10 columns cannot be cut to 4 equal banks"):
        patterns.bank((4, 10), 4, 1)
