"""The mathematics of crossbars against plain numpy: every step keeps W, and what it promises."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsecc.cover.laws import Pattern
from sparsecc.cover.metaops import MetaOps
from sparsecc.cover.strategies import STRATEGIES
from sparsecc.crossbar.adc import bits_needed, largest_sums
from sparsecc.crossbar.assign import blocks_of, pack
from sparsecc.crossbar.bundle import broken_bundle, bundles
from sparsecc.crossbar.cost import tiles_energy
from sparsecc.crossbar.dense import dense_arrays, dense_tiles
from sparsecc.crossbar.encode import ENCODINGS, Encoding, levels_of, weights_of
from sparsecc.crossbar.lowering import bundled, fitted, judge, lowered
from sparsecc.crossbar.place import adding, broken_places, place_table, placed, waves
from sparsecc.crossbar.share import shared
from sparsecc.crossbar.slices import sliced, without_empty
from sparsecc.crossbar.squeeze import squeezed
from sparsecc.crossbar.tiles import Tile, Tiles, dense_of, product
from sparsecc.errors import UserError
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.load import load_target

TARGETS = ("isaac128", "puma128", "sme128", "ou9x8")


@cache
def target_of(name: str) -> CrossbarTarget:
    target = load_target(name)
    assert isinstance(target, CrossbarTarget)
    return target


def matrix(seed: int, m: int, k: int, density: float, largest: int = 127) -> np.ndarray:
    rng = np.random.default_rng(seed)
    w = rng.integers(-largest, largest + 1, (m, k)) * (rng.random((m, k)) < density)
    return w.astype(np.int8)


def pattern_of(w: np.ndarray) -> tuple[Pattern, np.ndarray]:
    rows, columns = np.nonzero(w)
    indptr = np.concatenate([[0], np.cumsum((w != 0).sum(axis=1))]).astype(np.int64)
    return Pattern(w.shape[0], w.shape[1], indptr, columns.astype(np.int32)), w[rows, columns]


def blocks(w: np.ndarray, shape: tuple[int, int], cover: str = "window-1") -> list[Tile]:
    pattern, data = pattern_of(w)
    return blocks_of(STRATEGIES[cover](pattern, 1, (8, 1, 8)), pattern, data, shape)


def keeps(tiles: list[Tile], w: np.ndarray) -> bool:
    return np.array_equal(dense_of(Tiles.of(tiles), w.shape), w)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("name", ENCODINGS)
def test_levels_go_back_to_every_weight(name: str, bits: int):
    encoding = Encoding(name, bits)  # pyright: ignore[reportArgumentType]
    weights = np.arange(-127, 128, dtype=np.int8)
    levels = levels_of(weights, encoding)
    assert levels.shape == (encoding.slices, 255)
    assert levels.max() <= encoding.largest_level
    assert levels.min() >= (-encoding.largest_level if encoding.is_signed else 0)
    assert (weights_of(levels, encoding) == weights).all()
    # What a tile makes of the levels: zero levels stand for nothing.
    values = levels.astype(int) - np.array(encoding.zeros)[:, None]
    assert (values[:, 127] == 0).all()
    assert ((values << np.array(encoding.shifts)[:, None]).sum(axis=0) == weights).all()


def test_weights_outside_the_encoding_are_refused():
    with pytest.raises(UserError, match=r"a weight is -128; .* hold -127..127"):
        levels_of(np.array([-128], np.int8), Encoding("differential", 2))
    assert levels_of(np.array([-128], np.int8), Encoding("offset", 2)).sum() == 0
    with pytest.raises(UserError, match=r"a weight is 9; 4 bits in the offset encoding hold -8..7"):
        levels_of(np.array([9], np.int8), Encoding("offset", 2, 4))


sizes = st.tuples(st.integers(1, 24), st.integers(1, 24))


@given(
    st.integers(0, 2**20), sizes, st.sampled_from([0.05, 0.3, 1.0]), st.sampled_from(TARGETS), st.booleans()
)
def test_every_step_keeps_the_matrix(
    seed: int, size: tuple[int, int], density: float, name: str, packed: bool
):
    w, target = matrix(seed, *size, density), target_of(name)
    encoding, shape = Encoding.of(target), (8, 6)
    found = blocks(w, shape)
    assert keeps(found, w)
    if packed:
        found = pack(found, shape, w.shape[1], w.shape[0])
        assert keeps(found, w)
    assert all(b.rows <= shape[0] and b.columns <= shape[1] for b in found)
    cut = sliced(found, encoding)
    assert keeps(cut, w)
    assert len(cut) == len(found) * encoding.slices
    kept = without_empty(cut)
    assert keeps(kept, w)
    assert all(t.values.any() for t in kept)
    small = squeezed(kept, encoding, shape[0], lambda before, after: True)
    assert keeps(small.tiles, w)
    assert small.lost == 0
    # Halved weights may use slices that were empty; the top slice only gets fewer tiles.
    top = encoding.slices - 1
    assert sum(t.slice == top for t in small.tiles) <= sum(t.slice == top for t in kept)
    assert all(t.rows <= shape[0] for t in small.tiles)
    equal = shared(small.tiles, target.level_max, 2)
    final = placed(equal, shape, 3)
    assert keeps(final, w)
    table = Tiles.of(final)
    assert broken_places(table, lambda _: shape) is None
    x = np.random.default_rng(seed).integers(-127, 128, (size[1], 3))
    assert (product(table, x, size[0]) == w.astype(np.int64) @ x).all()
    for i, t in enumerate(table):
        assert np.array_equal(t.levels, final[i].levels)
        assert t.image == final[i].image


@given(st.integers(0, 2**20), sizes, st.sampled_from(TARGETS))
def test_the_dense_mapping_is_the_whole_grid(seed: int, size: tuple[int, int], name: str):
    target = target_of(name)
    target = replace(target, array=replace(target.array, rows=18, cols=16, shapes=((18, 16),)))
    w = matrix(seed, *size, 0.2)
    pattern, data = pattern_of(w)
    tiles = dense_tiles(pattern, data, 1, target, (18, 16))
    assert len(bundles(tiles)) == dense_arrays(target, (size[0], 1, size[1]))
    assert sum(t.levels.size for t in tiles) == size[0] * size[1] * target.slices
    assert keeps(tiles, w)


def digits(x: np.ndarray, target: CrossbarTarget) -> np.ndarray:
    """What the word lines carry in each step, [steps, lines]: as the instruction set says."""
    if target.differential:
        return np.stack([np.sign(x) * (np.abs(x) >> b & 1) for b in range(7)])
    return np.stack([(x & 255) >> b & 1 for b in range(8)])


@given(st.integers(0, 2**20), sizes, st.sampled_from(TARGETS))
def test_no_input_exceeds_the_fitted_converter_and_one_reaches_it(
    seed: int, size: tuple[int, int], name: str
):
    target = target_of(name)
    target = replace(target, array=replace(target.array, ou_rows=5 if name == "ou9x8" else 0))
    w = matrix(seed, *size, 0.4)
    for tile in fitted(sliced(blocks(w, (24, 24)), Encoding.of(target)), target):
        limit = target.adc_limit(bits_needed(tile, target))
        cells = tile.cells(target.level_max).astype(int)
        group = target.array.ou_rows or tile.rows
        parts = [cells[r : r + group] for r in range(0, tile.rows, group)]
        x = np.random.default_rng(seed).integers(-127, 128, tile.rows)
        at = [slice(r, r + group) for r in range(0, tile.rows, group)]
        sums = [np.abs(digits(x[a], target) @ p).max() for a, p in zip(at, parts, strict=True)]
        assert max(sums) <= limit
        # The digits that reach it: every line on, with the sign of its level.
        reached = max(np.abs(p).sum(axis=0).max() for p in parts)
        assert largest_sums(tile, target).max() == reached
        least = 2 if target.differential else 1
        assert reached > target.adc_limit(bits_needed(tile, target) - 1) or bits_needed(tile, target) == least


def test_squeeze_out_moves_even_lines_without_new_ones():
    w = np.array([[64, 2], [100, 6], [3, 1]], np.int8).T  # inputs 0 and 1 reach the top bit and are even
    encoding = Encoding("differential", 2)
    cut = without_empty(sliced(blocks(w, (3, 2)), encoding))
    found = squeezed(cut, encoding, 3, lambda before, after: True)
    assert keeps(found.tiles, w)
    assert (found.slices, found.lost) == (1, 0)
    assert max(t.shift for t in found.tiles) == 4
    assert all(t.rows <= 3 for t in found.tiles)


def test_squeeze_out_adds_lines_where_there_is_room_and_loses_bits_only_when_asked():
    w = np.array([[65, 7], [3, 16], [5, 17]], np.int8).T
    encoding = Encoding("differential", 2)
    cut = without_empty(sliced(blocks(w, (3, 2)), encoding))

    def always(before: object, after: object) -> bool:
        return True

    with_room = squeezed(cut, encoding, 4, always)
    assert keeps(with_room.tiles, w)
    assert with_room.slices == 1
    assert with_room.lines == 1
    assert squeezed(cut, encoding, 2, always).slices == 0
    lossy = squeezed(cut, encoding, 2, always, lossy=True)
    assert lossy.slices == 1
    assert lossy.lost == 2
    changed = np.abs(dense_of(Tiles.of(lossy.tiles), w.shape) - w)
    assert changed.sum() == lossy.lost
    assert changed.max() == 1


def test_equal_blocks_are_programmed_once():
    one = matrix(1, 4, 4, 0.9)
    w = np.zeros((8, 8), np.int8)
    w[:4, :4], w[4:, 4:] = one, one
    encoding = Encoding("differential", 2)
    found = shared(without_empty(sliced(blocks(w, (4, 4), "bcr-64"), encoding)), 3, 4)
    again = [t for t in found if t.image >= 0]
    assert keeps(found, w)
    assert len(again) <= len(found) // 2
    for t in again:
        assert np.array_equal(t.levels, found[t.image].levels)
        assert found[t.image].image < 0
    places = Tiles.of(placed(found, (4, 4), 100))
    assert places.arrays == len(found) - len(again)
    assert waves(places, 100).max() == (1 if again else 0)


def test_small_blocks_share_an_array():
    w = np.zeros((8, 8), np.int8)
    for i in range(4):
        w[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = i + 1
    pattern, data = pattern_of(w)
    metaops = MetaOps.of([(range(2 * i, 2 * i + 2), range(1), range(2 * i, 2 * i + 2)) for i in range(4)])
    found = blocks_of(metaops, pattern, data, (4, 4))
    assert len(found) == 4
    packed = pack(found, (4, 4), 8, 8)
    assert len(packed) == 2
    assert keeps(packed, w)
    # Two that need the same inputs share word lines.
    metaops = MetaOps.of([(range(2 * i, 2 * i + 2), range(1), range(4)) for i in range(2)])
    w = matrix(3, 4, 4, 1.0)
    pattern, data = pattern_of(w)
    assert len(pack(blocks_of(metaops, pattern, data, (4, 4)), (4, 4), 4, 4)) == 1


@given(st.integers(0, 2**20), st.integers(1, 4), st.integers(1, 6))
def test_tiles_of_a_wave_use_different_arrays_of_one_round(seed: int, arrays: int, spread: int):
    w = matrix(seed, 30, 30, 0.1)
    tiles = Tiles.of(placed(lowered(blocks(w, (8, 6)), target_of("sme128"), (8, 6)), (8, 6), spread))
    when = waves(tiles, arrays)
    assert broken_places(tiles, lambda _: (8, 6)) is None
    for bundle in np.split(when, np.flatnonzero(tiles.leads)[1:]):
        assert len(set(bundle.tolist())) <= 1
    if len(tiles):
        assert sorted(set(when.tolist())) == list(range(when.max() + 1))
    for wave in range(int(when.max(initial=-1)) + 1):
        virtual = tiles.table[(when == wave) & tiles.leads, 0]
        assert len(set((virtual % arrays).tolist())) == len(virtual)
        assert len(set((virtual // arrays).tolist())) == 1


@given(st.lists(st.sets(st.integers(0, 5), min_size=1), max_size=8), st.integers(0, 3))
def test_sums_begin_once_and_are_then_added_to(outputs: list[set[int]], at_once: int):
    lists = [np.array(sorted(own), np.int32) for own in outputs]
    at_once = min(at_once, len(lists))
    adds, cleared = adding(lists, 6, at_once)
    y, needed = np.full(6, 1000), np.zeros(6, int)  # what was there before must not be seen
    y[cleared] = 0
    if at_once:
        y[np.concatenate(lists[:at_once])] = 0
    for own, add, first in zip(lists, adds, np.arange(len(lists)) < at_once, strict=True):
        y[own] = y[own] * (add or first) + 1
        needed[own] += 1
    assert (y == needed).all()


def test_overlapping_tiles_are_found():
    tile = Tile(
        np.arange(2, dtype=np.int32), np.arange(2, dtype=np.int32), np.ones((2, 2), np.int8), 0, array=0
    )
    assert "both use cells of array 0" in (
        broken_places(Tiles.of([tile, replace(tile, row=1)]), lambda _: (4, 4)) or ""
    )
    assert "word lines 3:5" in (broken_places(Tiles.of([replace(tile, row=3)]), lambda _: (4, 4)) or "")
    assert broken_places(Tiles.of([tile, replace(tile, row=2)]), lambda _: (4, 4)) is None


def test_the_place_table_rebuilds_the_matrix():
    w = matrix(5, 20, 30, 0.2)
    tiles = Tiles.of(placed(lowered(blocks(w, (8, 6)), target_of("isaac128"), (8, 6)), (8, 6), 100))
    rebuilt = np.zeros(w.shape, np.int64)
    m, k, slices, _, row, column, level, shift, doubled = place_table(tiles).T
    np.add.at(rebuilt, (m, k), level << shift << doubled)
    assert (rebuilt == w).all()
    assert row.max() < 8
    assert column.max() < 6
    assert slices.max() <= 3


@given(st.integers(0, 2**20), sizes, st.sampled_from(TARGETS), st.booleans())
def test_slices_side_by_side_hold_the_same_weights(
    seed: int, size: tuple[int, int], name: str, squeezes: bool
):
    """Bundled, fitted and placed: the weights are the same, no bundle is broken, and energy is no more."""
    w, target, shape = matrix(seed, *size, 0.3), target_of(name), (8, 16)
    encoding = Encoding.of(target)
    tiles = without_empty(sliced(blocks(w, (8, 3)), encoding))
    if squeezes:
        tiles = squeezed(tiles, encoding, 8, lambda before, after: True).tiles
    found = bundled(tiles, target, shape, judge(target))
    assert keeps(found, w)
    assert broken_bundle(found, 16) is None
    assert tiles_energy(fitted(found, target), target) <= tiles_energy(fitted(tiles, target), target) * 1.001
    always = bundled(tiles, target, shape, lambda before, after: True)
    for some in (found, always):
        fit = fitted(some, target)
        places = placed(fit, shape, 3)
        assert keeps(places, w)
        assert broken_bundle(places, 16) is None
        assert broken_places(Tiles.of(places), lambda _: shape) is None
        for t in fit:
            assert bits_needed(t, target) <= t.adc_bits


def test_bundles_that_cannot_be_read_at_once_are_told():
    inputs, levels = np.arange(2, dtype=np.int32), np.ones((2, 3), np.int8)
    tile = Tile(inputs, np.arange(3, dtype=np.int32), levels, 0, 0, bundle=0)
    other = replace(tile, slice=1, shift=1)
    assert broken_bundle([tile, other], 6) is None
    found = broken_bundle([tile, other], 5)
    assert found == "bundle 0 has 6 bit lines; an array has 5"
    moved = replace(other, inputs=inputs + 1)
    assert broken_bundle([tile, moved], 6) == "tile 1 has other word lines than the others of bundle 0"
    twice = replace(other, doubled=np.array([True, False]))
    assert broken_bundle([tile, twice], 6) == "tile 1 has other word lines than the others of bundle 0"
    between = broken_bundle([tile, replace(other, bundle=-1), other], 6)
    assert between == "tile 2 is of bundle 0, whose others it does not follow"
    places = placed([tile, other], (4, 6), 1)
    assert broken_bundle(places, 6) is None
    apart = broken_bundle([places[0], replace(places[1], row=1)], 6)
    assert apart == "tile 1 is not to the right of the one before it in bundle 0"


def test_tiles_that_share_cells_do_so_when_they_are_cut():
    """A tile that the converters may clip is cut, and each part uses the cells of its part."""
    target = target_of("isaac128")
    target = replace(target, adc=replace(target.adc, bits=3))
    levels = np.full((8, 2), 1, np.int8)
    first = Tile(np.arange(8, dtype=np.int32), np.arange(2, dtype=np.int32), levels, 0, 0)
    lone = replace(first, levels=np.array([[1, 0]] * 4, np.int8), inputs=first.inputs[:4], block=2)
    found = fitted([lone, first, replace(first, outputs=first.outputs + 2, block=1, image=1)], target)
    own = [i for i, t in enumerate(found) if t.block == 0]
    assert len(own) > 1
    assert [t.image for t in found if t.block == 1] == own


def test_squeeze_out_of_a_block_of_zeros_leaves_nothing():
    block = Tile(np.arange(3, dtype=np.int32), np.arange(2, dtype=np.int32), np.zeros((3, 2), np.int8), 0)
    encoding = Encoding("differential", 1)
    found = squeezed(sliced([block], encoding), encoding, 3, lambda before, after: len(after) < len(before))
    assert found.tiles == []
