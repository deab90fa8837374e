"""The bound by counting: its parts against brute force, and no mapping below it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsecc.cover.laws import Pattern
from sparsecc.crossbar.adc import largest_sums
from sparsecc.crossbar.bound import energy_bound
from sparsecc.crossbar.choose import choose
from sparsecc.crossbar.counting import counting_bound, pattern_bits
from sparsecc.crossbar.encode import Encoding
from sparsecc.crossbar.recode import recoded
from sparsecc.crossbar.slices import sliced
from sparsecc.crossbar.tiles import Tile
from sparsecc.crossbar.ways import Tilted, Uniform, ways_of
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


def energies_of(weights: np.ndarray, rows: int, target: CrossbarTarget) -> np.ndarray:
    """Of outputs [cells, outputs] on so many word lines: what their bit lines take, recoded by the passes."""
    cells, mine = weights.shape
    outputs = mine + 60  # others, by which every line of every slice holds something
    levels = np.zeros((rows, outputs), np.int8)
    levels[:cells, :mine] = weights
    levels[:, mine:] = np.random.default_rng(0).integers(1, 128, (rows, 60))
    lines, columns = np.arange(rows, dtype=np.int32), np.arange(outputs, dtype=np.int32)
    tiles = sliced([Tile(lines, columns, levels, 0)], Encoding.of(target))
    found, e = np.zeros(outputs), target.energy
    cell = rows * e.array_pj / (target.array.rows * target.array.cols)
    cell *= target.steps() * (2 if target.differential else 1)
    for tile in recoded(tiles, target, (rows, 10 * outputs)):
        bits = np.array([target.adc_bits_for(int(s)) for s in largest_sums(tile, target)])
        conversion = e.adc_pj + bits * e.adc_pj_per_bit + e.shift_add_pj
        held = (tile.values != 0).any(axis=0)
        found[tile.outputs] += np.where(held, cell + target.steps() * conversion, 0)
    return found[:mine]


@pytest.mark.parametrize("name", ["isaac128", "puma128", "re2pim"])
@pytest.mark.parametrize(("cells", "rows"), [(1, 1), (1, 12), (3, 3), (6, 9), (20, 60)])
def test_outputs_take_no_less_than_the_ways_to_read_them(name: str, cells: int, rows: int):
    target = target_of(name)
    rng = np.random.default_rng(cells)
    weights = np.array([v for v in range(-127, 128) if v], np.int8)
    drawn = weights[None] if cells == 1 else rng.choice(weights, (cells, 4000))
    energy = energies_of(drawn, rows, target)
    ways = ways_of(np.repeat(weights, 40), target)
    assert isinstance(ways, Tilted if target.differential else Uniform)
    for unit in (0.3, 1.0, 3.0):
        chances = np.exp(-energy / unit)
        # Draws of 254 values are in 256: as much rarer may be what the bound counts.
        expected = chances.mean() - (5 * chances.std() / len(chances) ** 0.5 if cells > 1 else 0)
        assert np.log(max(expected, 1e-300)) <= ways.logarithm(unit, rows, 0.0)[rows - 1, cells - 1] + (
            cells * np.log(256 / 254)
        )


def test_uniform_weights_are_told_from_others():
    target, rng = target_of("isaac128"), np.random.default_rng(0)
    few = rng.choice(np.array([1, -1, 5], np.int8), 5000)
    assert isinstance(ways_of(few, target), Tilted)
    assert isinstance(ways_of(rng.integers(1, 128, 5000).astype(np.int8), target), Tilted)
    every = ways_of((rng.integers(1, 128, 20000) * rng.choice([-1, 1], 20000)).astype(np.int8), target)
    assert isinstance(every, Uniform)
    assert 0 < every.charge < 0.15 * 20000


def test_the_best_mapping_of_uniform_weights_is_above():
    target = target_of("isaac128")
    target = replace(target, array=replace(target.array, rows=32, cols=32, shapes=((32, 32),)))
    pattern, data = pattern_of(random(3, (160, 256), 0.12))
    assert isinstance(ways_of(data, target), Uniform)
    least = counting_bound(pattern, data, 4, target)
    found = choose(pattern, data, 4, target, effort=0).candidates[0].cost.energy_pj
    assert 0.4 * found < least <= found
