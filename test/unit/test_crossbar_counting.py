"""The bound by counting: its parts against brute force, and no mapping below it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsecc.cover.laws import Pattern
from sparsecc.crossbar.bound import energy_bound
from sparsecc.crossbar.choose import choose
from sparsecc.crossbar.counting import counting_bound, pattern_bits
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.load import load_target


def target_of(name: str) -> CrossbarTarget:
    target = load_target(name)
    assert isinstance(target, CrossbarTarget)
    return target


def pattern_of(w: np.ndarray) -> tuple[Pattern, np.ndarray]:
    rows, columns = np.nonzero(w)
    indptr = np.concatenate([[0], np.cumsum((w != 0).sum(axis=1))]).astype(np.int64)
    return Pattern(w.shape[0], w.shape[1], indptr, columns.astype(np.int32)), w[rows, columns]


def random(seed: int, shape: tuple[int, int], density: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (
        (rng.integers(1, 128, shape) * rng.choice([-1, 1], shape)) * (rng.random(shape) < density)
    ).astype(np.int8)


@settings(max_examples=25)
@given(st.integers(0, 2**20), st.tuples(st.integers(2, 4), st.integers(2, 4)), st.sampled_from([0.3, 0.6]))
def test_there_are_at_least_as_many_patterns(seed: int, shape: tuple[int, int], density: float):
    m, k = shape
    used = np.random.default_rng(seed).random(shape) < density
    used = used[used.any(axis=1)][:, used.any(axis=0)]
    if not used.size:
        return
    m, k = used.shape
    rows, columns = used.sum(axis=1), used.sum(axis=0)
    every = np.array(list(product([0, 1], repeat=m * k))).reshape(-1, m, k)
    alike = (every.sum(axis=2) == rows).all(axis=1) & (every.sum(axis=1) == columns).all(axis=1)
    assert pattern_bits(rows, columns) <= np.log2(alike.sum()) + 1e-9


def test_patterns_of_equal_lengths_are_counted_nearly_all():
    """Of 6 x 6, two in each row and column, there are 67950 (OEIS A001499)."""
    two = np.full(6, 2)
    assert np.log2(67950) - 9 < pattern_bits(two, two) <= np.log2(67950)


@pytest.mark.parametrize("name", ["isaac128", "re2pim"])
def test_the_best_mapping_found_is_above(name: str):
    target = target_of(name)
    target = replace(target, array=replace(target.array, rows=32, cols=32, shapes=((32, 32),)))
    w = random(1, (96, 128), 0.1)
    pattern, data = pattern_of(w)
    least = counting_bound(pattern, data, 4, target)
    found = choose(pattern, data, 4, target, effort=0).candidates[0].cost.energy_pj
    # Far nearer to what is found than the bound that holds for every matrix.
    assert energy_bound(pattern, data, 4, target) < least
    assert 0.25 * found < least <= found


def test_operation_units_are_not_bounded():
    assert counting_bound(*pattern_of(random(1, (20, 20), 0.3)), 1, target_of("ou9x8")) == 0


def test_a_small_matrix_is_one_of_few():
    """None of few patterns is rare: what is left is what any cell takes, and transfers."""
    target = target_of("re2pim")
    e = target.energy
    pattern, data = pattern_of(np.array([[5, 0], [0, -7]], np.int8))
    transfers = 2 * (e.dram_pj_per_byte + e.spad_pj_per_byte) + 8 * (e.dram_pj_per_byte + e.acc_pj_per_byte)
    least = counting_bound(pattern, data, 3, target)
    assert 3 * transfers < least <= choose(pattern, data, 3, target, effort=0).candidates[0].cost.energy_pj
