"""The lower bound of energy: below every mapping, and the energy itself where there is only one."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sparsecc
from sparsecc.cover.laws import Pattern
from sparsecc.crossbar.bound import energy_bound, fewest_cells, most_cells
from sparsecc.crossbar.choose import choose
from sparsecc.crossbar.cost import cost
from sparsecc.crossbar.dense import spread
from sparsecc.crossbar.encode import Encoding
from sparsecc.crossbar.slices import sliced, without_empty
from sparsecc.crossbar.squeeze import squeezed
from sparsecc.crossbar.tiles import Tile
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.load import load_target

TARGETS = ("isaac128", "puma128", "sme128", "ou9x8")


def small(name: str) -> CrossbarTarget:
    """The target with arrays of 16 x 16, so that small matrices take several."""
    target = load_target(name)
    assert isinstance(target, CrossbarTarget)
    ou = {key: min(getattr(target.array, key), 4) for key in ("ou_rows", "ou_cols")}
    array = replace(target.array, rows=16, cols=16, shapes=((16, 16),), **ou)
    return replace(target, array=array)


def pattern_of(w: np.ndarray) -> tuple[Pattern, np.ndarray]:
    rows, columns = np.nonzero(w)
    indptr = np.concatenate([[0], np.cumsum((w != 0).sum(axis=1))]).astype(np.int64)
    return Pattern(w.shape[0], w.shape[1], indptr, columns.astype(np.int32)), w[rows, columns]


def matrix(seed: int, shape: tuple[int, int], density: float, even: bool) -> np.ndarray:
    rng = np.random.default_rng(seed)
    w = rng.integers(-127, 128, shape) * (rng.random(shape) < density)
    return (w - w % 2 * np.sign(w) if even else w).astype(np.int8)


@settings(max_examples=30)
@given(
    st.integers(0, 2**20),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
    st.sampled_from([0.03, 0.1, 0.4, 1.0]),
    st.booleans(),
    st.sampled_from(TARGETS),
)
def test_no_mapping_is_below(seed: int, shape: tuple[int, int], density: float, even: bool, name: str):
    w, target = matrix(seed, shape, density, even), small(name)
    pattern, data = pattern_of(w)
    least = energy_bound(pattern, data, 3, target)
    for candidate in choose(pattern, data, 3, target, effort=0).candidates:
        assert least <= candidate.cost.energy_pj, candidate.name
    # Squeeze-out wherever it can be done, and each weight on its own.
    encoding, size, space = Encoding.of(target), (16, 16), (shape[0], 3, shape[1])
    ones = [
        Tile(np.array([i], np.int32), np.array([o], np.int32), w[o, i].reshape(1, 1), number)
        for number, (o, i) in enumerate(np.argwhere(w))
    ]
    tiles = without_empty(sliced(ones, encoding))
    tiles = squeezed(tiles, encoding, 16, lambda before, after: True).tiles
    read = [replace(t, adc_bits=target.adc_bits_for(1)) for t in spread(tiles, target, size, space)]
    assert least <= cost(read, target, space, 10**6).energy_pj


@settings(max_examples=10)
@given(st.integers(0, 2**20), st.sampled_from([0.2, 0.5, 0.9]))
def test_the_most_cells_are_as_many_as_any_choice_holds(seed: int, density: float):
    used = np.random.default_rng(seed).random((5, 6)) < density
    rows, columns = np.arange(1, 7), np.arange(1, 6)
    found = most_cells(used, rows, columns)
    for r in rows:
        for q in columns:
            best = max(
                used[np.ix_(outputs, inputs)].sum()
                for outputs in combinations(range(5), int(q))
                for inputs in combinations(range(6), int(r))
            )
            assert best <= found[r - 1, q - 1] + 1e-9
    assert found[-1, -1] == pytest.approx(used.sum())


@pytest.mark.parametrize("name", TARGETS)
def test_zeros_need_nothing_but_stores(name: str):
    target = small(name)
    e = target.energy
    pattern, data = pattern_of(np.zeros((4, 5), np.int8))
    stores = 3 * 4 * 4 * (e.dram_pj_per_byte + e.acc_pj_per_byte)
    assert energy_bound(pattern, data, 3, target) == pytest.approx(stores)


def test_one_weight_of_one_level():
    """Level 1 in the lowest slice of one weight: what that takes, lines and sums shared by slices."""
    target: Any = small("isaac128")
    e = target.energy
    pattern, data = pattern_of(np.array([[1]], np.int8))
    step = e.dac_pj / 4 + e.array_pj / 256 + e.adc_pj_per_bit + e.shift_add_pj
    moved = e.spad_pj_per_byte / 4 + e.acc_pj_per_byte * 4 / 5
    transfers = 5 * e.dram_pj_per_byte + e.spad_pj_per_byte + 4 * e.acc_pj_per_byte
    assert energy_bound(pattern, data, 1, target) == pytest.approx(8 * step + moved + transfers)


def test_a_full_matrix_is_near_its_bound():
    """Every cell of one slice used: nothing is left to win but the bits of converters."""
    target = small("sme128")
    w = np.ones((32, 32), np.int8)
    pattern, data = pattern_of(w)
    least = energy_bound(pattern, data, 4, target)
    best = choose(pattern, data, 4, target, effort=0).candidates[0].cost
    assert least <= best.energy_pj <= 2.5 * least
    # Of more levels, a weight has as few cells as the non-adjacent form: 127 is 128 - 1, on a doubled line.
    assert fewest_cells(Encoding.of(target))[[1, 3, 7, 85, 127]].tolist() == [1, 2, 2, 4, 2]


@pytest.mark.parametrize(
    ("target", "density"), [("isaac128", 0.03), ("puma128", 0.3)], ids=["isaac128-0.03", "puma128-0.3"]
)
def test_no_plan_is_below_the_bound(target: str, density: float):
    rng = np.random.default_rng(1)
    w = (rng.integers(-127, 128, (150, 140)) * (rng.random((150, 140)) < density)).astype(np.int8)
    chip = load_target(target)
    assert isinstance(chip, CrossbarTarget)
    least = energy_bound(*pattern_of(w), 32, chip)
    for plan in ("auto", "dense"):
        energy = sparsecc.compile(w, target=target, n=32, effort=0, plan=plan, confirm=False).timing.energy_pj
        assert 0 < least <= energy


def test_a_full_part_of_a_random_matrix_is_within_the_most_cells():
    used = np.random.default_rng(2).random((60, 50)) < 0.2
    used[:20, :10] = True
    found = most_cells(used, np.arange(1, 51), np.arange(1, 61))
    assert 200 <= found[9, 19] + 1e-9
    assert found[9, 19] <= 200
    assert used.sum() <= found[-1, -1] + 1e-6
    # Of a random part of that size, far less than all of it is said to be possible.
    assert most_cells(used[20:, 10:], np.arange(1, 41), np.arange(1, 41))[19, 19] < 250
