"""Other digits for the same weights: exact, never more to convert, and as few as published forms have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsecc.crossbar.bundle import bundles, columns_of, side_by_side
from sparsecc.crossbar.cost import tiles_energy
from sparsecc.crossbar.encode import Encoding
from sparsecc.crossbar.lowering import fitted
from sparsecc.crossbar.recode import recoded
from sparsecc.crossbar.slices import sliced, without_empty
from sparsecc.crossbar.squeeze import squeezed
from sparsecc.crossbar.tiles import Tile, Tiles, dense_of
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.load import load_target

TARGETS = ("isaac128", "puma128", "sme128", "re2pim")


def target_of(name: str) -> CrossbarTarget:
    target = load_target(name)
    assert isinstance(target, CrossbarTarget)
    return target


def cut(w: np.ndarray, target: CrossbarTarget) -> list[Tile]:
    """W [m, k] as the slices of one block."""
    m, k = w.shape
    block = Tile(np.arange(k, dtype=np.int32), np.arange(m, dtype=np.int32), w.T.astype(np.int8), 0)
    return without_empty(sliced([block], Encoding.of(target)))


def read(tiles: list[Tile], target: CrossbarTarget) -> list[Tile]:
    """All tiles side by side, at the bits they need."""
    return fitted([replace(t, bundle=0) for t in side_by_side(tiles)], target) if tiles else []


@given(
    st.integers(0, 2**20),
    st.tuples(st.integers(1, 12), st.integers(1, 60)),
    st.sampled_from([0.05, 0.2, 1.0]),
    st.sampled_from([1, 20, 127]),
    st.sampled_from(TARGETS),
    st.booleans(),
)
def test_it_keeps_the_matrix_and_takes_no_more(
    seed: int, size: tuple[int, int], density: float, largest: int, name: str, squeezes: bool
):
    rng = np.random.default_rng(seed)
    w = rng.integers(-largest, largest + 1, size) * (rng.random(size) < density)
    target = target_of(name)
    before = cut(w, target)
    if squeezes:
        before = squeezed(before, Encoding.of(target), 128, lambda old, new: True).tiles
    after = recoded(before, target, (128, 128))
    assert np.array_equal(dense_of(Tiles.of(after), w.shape), w)
    for tile in after:
        assert tile.values.any(axis=0).all()
        cells = tile.cells(target.level_max)
        assert cells.max(initial=0) <= target.level_max
        assert cells.min(initial=0) >= (-target.level_max if target.differential else 0)
    old, new = read(before, target), read(after, target)
    assert np.array_equal(dense_of(Tiles.of(new), w.shape), w)
    if len(bundles(old)) == 1:  # else the target's converters are too few, which cuts what they read
        assert len(bundles(new)) == 1
        assert tiles_energy(new, target) <= tiles_energy(old, target) * (1 + 1e-12)


def nonadjacent(value: int) -> int:
    """Digits of the non-adjacent form (Reitwiesner, 1960), which has the fewest of all binary signed ones."""
    count = 0
    while value:
        if value & 1:
            value -= 2 - (value & 3)
            count += 1
        value >>= 1
    return count


@pytest.mark.parametrize("sign", [1, -1])
def test_single_weights_have_as_few_cells_as_the_non_adjacent_form(sign: int):
    target = target_of("sme128")
    for value in range(1, 64):  # the form of larger ones may have a digit more than there are slices
        found = recoded(cut(np.array([[sign * value]]), target), target, (128, 128))
        # No slice above the top one of the weight.
        assert len(found) <= value.bit_count()
        assert sum(t.levels.size for t in found) >= nonadjacent(value)
        with_top = recoded(cut(np.array([[sign * value], [64]]), target), target, (128, 128))
        assert sum((t.outputs == 0).sum() for t in with_top) == nonadjacent(value)


def test_a_sign_has_a_bit_line_where_word_lines_would_fill_one():
    """64 inputs, half of them -1: as offset, each line adds 1 or 2 to the top slice."""
    target = target_of("isaac128")
    w = np.where(np.arange(64) % 2, -1, 1).reshape(1, -1)
    bits = {
        what: sorted(t.adc_bits for t in read(tiles, target))
        for what, tiles in (
            ("plain", cut(w, target)),
            ("recoded", recoded(cut(w, target), target, (128, 128))),
        )
    }
    assert bits["plain"][-1] == 7
    assert sum(bits["recoded"]) < sum(bits["plain"])
    # One kind of sign is all positive or all negative: one slice of digits 1, and nothing else.
    for ones in (np.ones((1, 64), int), -np.ones((1, 64), int)):
        (tile,) = recoded(cut(ones, target), target, (128, 128))
        assert (tile.slice, int(tile.cells(3).max())) == (0, 1)


@pytest.mark.parametrize("columns", [40, 44, 50])
def test_bit_lines_are_no_more_than_an_array_has(columns: int):
    target = target_of("isaac128")
    w = np.random.default_rng(3).integers(-127, 128, (10, 100)) * (np.arange(1000).reshape(10, 100) % 7 == 0)
    found = recoded(cut(w, target), target, (128, columns))
    (bundle,) = bundles([replace(t, bundle=0) for t in found])
    # Three outputs gain nothing by a second bit line.
    assert columns_of(bundle) == min(columns, 47)


def test_operation_units_keep_their_digits():
    target = target_of("ou9x8")
    tiles = cut(np.full((3, 20), 127), target)
    assert recoded(tiles, target, (128, 128)) == tiles


def test_slices_keep_within_the_word_lines_of_an_array():
    """A block that was squeezed out has more lines in all than any slice of it."""
    rng = np.random.default_rng(4)
    target = target_of("sme128")
    for _ in range(40):
        w = rng.integers(-127, 128, (3, 8)) * (rng.random((3, 8)) < 0.4)
        tiles = squeezed(cut(w, target), Encoding.of(target), 8, lambda old, new: True).tiles
        found = recoded(tiles, target, (8, 128))
        assert all(t.rows <= 8 for t in found)
        assert np.array_equal(dense_of(Tiles.of(found), w.shape), w)
