"""Schedules on tensor units: residency, geometry, tables, cost and choice. Plain numpy, no IR, no C."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sparsecc.cover.cells import count_cells, split
from sparsecc.cover.laws import Pattern
from sparsecc.cover.lift import lift
from sparsecc.cover.metaops import Axis, MetaOps
from sparsecc.cover.strategies import STRATEGIES
from sparsecc.errors import UserError
from sparsecc.schedule.choose import choose
from sparsecc.schedule.cost import Knobs, best_plan, panels
from sparsecc.schedule.geometry import LISTED, cut_to_bands, cut_to_tiles, row_order
from sparsecc.schedule.residency import place_tiles
from sparsecc.schedule.tables import Program, build
from sparsecc.target import Target
from sparsecc.target.sections import Memory

Array = NDArray[Any]

EXAMPLES = settings(max_examples=120, deadline=None, derandomize=True)


def pattern_of(mask: Array) -> Pattern:
    """The pattern of a matrix given as booleans."""
    rows, columns = np.nonzero(mask)
    indptr = np.searchsorted(rows, range(mask.shape[0] + 1)).astype(np.int64)
    return Pattern(mask.shape[0], mask.shape[1], indptr, columns.astype(np.int32))


# Residency.


@st.composite
def tile_uses(draw: st.DrawFn) -> tuple[list[int], list[int], int, int]:
    """(tile of each use, step of each use, slots, ahead): few tiles, so that brute force ends."""
    uses = st.lists(st.integers(0, 5), min_size=1, max_size=2)
    per_step = draw(st.lists(uses, min_size=1, max_size=7))
    ahead = draw(st.integers(0, 2))
    source = [tile for tiles in per_step for tile in tiles]
    step = [number for number, tiles in enumerate(per_step) for _ in tiles]
    windows = (per_step[i : i + ahead + 1] for i in range(len(per_step)))
    together = max(len({tile for tiles in window for tile in tiles}) for window in windows)
    return source, step, together + draw(st.integers(0, 2)), ahead


def fewest_loads(source: list[int], step: list[int], slots: int, ahead: int) -> int:
    """By trying every eviction that is allowed: of a tile that no step from `ahead` before on uses."""

    @cache
    def loads(i: int, held: frozenset[tuple[int, int]]) -> int:
        if i == len(source):
            return 0
        others = frozenset[tuple[int, int]](pair for pair in held if pair[0] != source[i])
        now = (source[i], step[i])
        if others != held:
            return loads(i + 1, others | {now})
        if len(held) < slots:
            return 1 + loads(i + 1, held | {now})
        free = [pair for pair in held if pair[1] < step[i] - ahead]
        return 1 + min(loads(i + 1, (held - {pair}) | {now}) for pair in free)

    return loads(0, frozenset[tuple[int, int]]())


@EXAMPLES
@given(tile_uses())
def test_residency_loads_as_seldom_as_possible(case: tuple[list[int], list[int], int, int]):
    source, step, slots, ahead = case
    slot, load = place_tiles(np.array(source), np.array(step), slots, ahead)
    assert load.sum() == fewest_loads(source, step, slots, ahead)
    held: dict[int, int] = {}
    last_use: dict[int, int] = {}
    for tile, now, at, loaded in zip(source, step, slot.tolist(), load.tolist(), strict=True):
        assert 0 <= at < slots
        if loaded:
            # What the slot held is no longer needed by a step that may still be under way.
            assert at not in held or last_use[at] < now - ahead
            assert tile not in held.values() or held.get(at) == tile
            held[at] = tile
        assert held[at] == tile
        last_use[at] = now


def test_residency_with_room_loads_every_tile_once():
    slot, load = place_tiles(np.array([7, 3, 7, 5, 3]), np.arange(5), 3, 2)
    assert slot.tolist() == [0, 1, 0, 2, 1]
    assert load.tolist() == [1, 1, 0, 1, 0]


def test_residency_without_reuse_goes_round():
    slot, load = place_tiles(np.arange(7) * 16, np.arange(7), 3, 2)
    assert slot.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert load.all()


# Geometry.


@st.composite
def row_chains(draw: st.DrawFn) -> tuple[MetaOps, int]:
    """Row lists that are parts of one hidden order, some of them the same or inside one another."""
    m = draw(st.integers(1, 30))
    hidden = draw(st.permutations(range(m)))
    parts: list[tuple[Axis, range, Axis]] = []
    for number in range(draw(st.integers(1, 5))):
        first = draw(st.integers(0, m - 1))
        last = draw(st.integers(first + 1, m))
        parts.append((list(hidden[first:last]), range(4), range(number, number + 1)))
    return MetaOps.of(parts), m


@EXAMPLES
@given(row_chains())
def test_row_order_makes_every_list_consecutive(case: tuple[MetaOps, int]):
    metaops, m = case
    order = row_order(metaops, m)
    assert sorted(order.rows.tolist()) == list(range(m))
    for i in range(len(metaops)):
        rows = list(metaops.rows(i))
        first = int(order.first[i])
        assert order.rows[first : first + len(rows)].tolist() == rows


def test_row_order_of_ranges_is_natural():
    order = row_order(MetaOps.of([(range(4, 8), range(3), range(2)), (range(4), range(3), range(2))]), 9)
    assert order.is_natural
    assert order.first.tolist() == [4, 0]


@pytest.mark.parametrize(
    "lists", [([0, 1, 2], [2, 1, 0]), ([0, 1], [0, 2]), ([0, 2], [1, 2]), ([0, 1, 2], [2, 0])]
)
def test_row_order_refuses_lists_that_disagree(lists: tuple[list[int], list[int]]):
    metaops = MetaOps.of([(rows, range(3), range(i, i + 1)) for i, rows in enumerate(lists)])
    with pytest.raises(UserError, match="accumulates consecutive rows only; use sparse-compact modes"):
        row_order(metaops, 4)


@st.composite
def matrices(draw: st.DrawFn) -> Array:
    """int8 matrices: random, blocks, empty rows and columns, all zero, dense; M = 1 and K = 1 among them."""
    m, k = (draw(st.integers(1, 90)) for _ in range(2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    match draw(st.sampled_from(["random", "blocks", "rows", "columns", "zero", "dense"])):
        case "random":
            mask = rng.random((m, k)) < draw(st.sampled_from([0.01, 0.05, 0.3]))
        case "blocks":
            mask = np.kron(rng.random((-(-m // 8), -(-k // 8))) < 0.2, np.ones((8, 8), bool))[:m, :k] > 0
        case "rows":
            mask = (rng.random((m, 1)) < 0.3) & (rng.random((m, k)) < 0.5)
        case "columns":
            mask = (rng.random((1, k)) < 0.3) & (rng.random((m, k)) < 0.5)
        case "zero":
            mask = np.zeros((m, k), bool)
        case _:
            mask = np.ones((m, k), bool)
    return (rng.integers(1, 100, (m, k)) * mask).astype(np.int8)


def small(name: str, spad_rows: int, acc_rows: int) -> Target:
    """A preset with memories of so many rows: reloading and many blocks happen with small matrices."""
    target = Target.load(name)
    spad, acc = Memory(spad_rows * target.row_bytes), Memory(acc_rows * target.acc_row_bytes)
    return replace(target, name=f"{name}-small", spad=spad, acc=acc, line_rows=16)


TARGETS = {
    "gemmini16": Target.load("gemmini16"),
    "small": small("gemmini16", 192, 128),
    "tight": small("gemmini16", 64, 32),
    "tpu128": Target.load("tpu128"),
    "mma": Target.load("ascend910").with_type("i8") if ("i8", "i32") in Target.load("ascend910").types else
    Target.load("ascend910"),
    "scalesim-ws16": Target.load("scalesim-ws16"),
}  # fmt: skip
targets = st.sampled_from(list(TARGETS))
# Covers whose rows form chains, which is what units without indexed accumulation take.
strategies = st.sampled_from([name for name, strategy in STRATEGIES.items() if not strategy.indexed_rows])


def cover_of(pattern: Pattern, n: int, target: Target, strategy: str) -> MetaOps:
    """The cover of a strategy, split and lifted as the passes do it."""
    if not pattern.nnz:
        return MetaOps.of([])
    return lift(split(STRATEGIES[strategy](pattern, n, target.unit), pattern, target.unit))


@EXAMPLES
@given(matrices(), strategies, st.sampled_from([16, 32, 48]), st.sampled_from([4, 16]))
def test_bands_and_tiles_hold_every_point_once(w: Array, strategy: str, block_rows: int, tile: int):
    metaops = cover_of(pattern_of(w), 5, TARGETS["gemmini16"], strategy)
    order = row_order(metaops, len(w))
    bands = cut_to_bands(metaops, order, block_rows, tile)
    tiles = cut_to_tiles(metaops, bands, tile)
    assert bands.tiles == len(tiles.band)
    assert ((bands.first + bands.rows - 1) // block_rows == bands.first // block_rows).all()
    assert (bands.first[1:] >= bands.first[:-1] + bands.rows[:-1]).all()
    assert (np.diff(tiles.band) >= 0).all()
    assert (tiles.rows <= tile).all()
    found = np.zeros(w.shape, int)
    for number, band in enumerate(tiles.band.tolist()):
        rows = order.rows[bands.first[band] : bands.first[band] + bands.rows[band]]
        source, count = int(tiles.source[number]), int(tiles.rows[number])
        columns = [source + i for i in range(count)]
        if source >= LISTED:
            columns = metaops.index[source - LISTED :].tolist()[:count]
        found[np.ix_(rows, np.array(columns))] += 1
    needed = np.zeros(w.shape, int)
    for i in range(len(metaops)):
        needed[np.ix_(np.asarray(metaops.rows(i)), np.asarray(metaops.columns(i)))] += 1
    assert np.array_equal(found, needed)
    assert (found[w != 0] == 1).all()


# Tables.


def spans(starts: Array, i: int) -> range:
    """What part i of a table divided by `starts` holds."""
    return range(int(starts[i]), int(starts[i + 1]))


def executed(program: Program, target: Target) -> Array:
    """W, put together from the packed weights as a program that loops over the tables would use them."""
    knobs, tile = program.knobs, target.array.rows
    w: Array = np.zeros((program.m, program.k), program.weights.dtype)
    places = program.scatter if len(program.scatter) else np.arange(program.m)
    weights_end = knobs.ring * knobs.weight_rows
    held: dict[int, list[int]] = {}

    def fetch(step: int) -> None:
        for i in spans(program.fetch_first, step):
            row, rows = int(program.load_row[i]), int(program.load_rows[i])
            assert weights_end <= program.load_x[i] <= target.spad_rows - tile * knobs.panel_tiles
            assert (program.load_x[i] - weights_end) % (tile * knobs.panel_tiles) == 0
            found = program.gather[row : row + rows] if program.load_listed[i] else range(row, row + rows)
            held[int(program.load_x[i])] = [int(r) for r in found]

    written = np.zeros(program.m, int)
    for step in range(min(knobs.ahead, program.steps)):
        fetch(step)
    for block in range(program.blocks):
        first, rows = int(program.block_row[block]), int(program.block_rows[block])
        filled = np.zeros(rows, bool)
        for i in spans(program.zero_first, block):
            filled[program.zero_row[i] : program.zero_row[i] + program.zero_rows[i]] = True
        for step in spans(program.block_first, block):
            if step + knobs.ahead < program.steps:
                fetch(step + knobs.ahead)
            at, height = int(program.step_row[step]), int(program.step_rows[step])
            # The first step of a band finds nothing there, the others what it left.
            assert filled[at : at + height].all() != program.step_band_start[step]
            filled[at : at + height] = True
            tiles = spans(program.step_first, step)
            assert len(tiles) * height <= knobs.weight_rows
            packed = int(program.step_weight[step])
            for t in tiles:
                columns = held[int(program.tile_x[t])]
                assert len(columns) == program.tile_rows[t]
                values: Array = program.weights[packed : packed + height]
                assert not values[:, len(columns) :].any()
                w[np.ix_(places[first + at : first + at + height], np.array(columns))] += values[
                    :, : len(columns)
                ]
                packed += height
        assert filled.all()
        written[places[first : first + rows]] += 1
    # Zeros are stored between the steps, some rows at a time.
    assert len(program.idle_first) == program.steps + 2
    assert (program.idle_rows <= knobs.zero_rows).all()
    assert program.idle_first[-1] == len(program.idle_row)
    for first, rows in zip(program.idle_row, program.idle_rows, strict=True):
        written[places[first : first + rows]] += 1
    assert (written == 1).all()
    return w


@settings(max_examples=250, deadline=None, derandomize=True)
@given(matrices(), strategies, targets, st.sampled_from([1, 5, 16, 40, 130]))
def test_tables_hold_the_matrix(w: Array, strategy: str, name: str, n: int):
    target, pattern = TARGETS[name], pattern_of(w)
    plan = best_plan(cover_of(pattern, n, target, strategy), len(w), n, target)
    program = build(plan, pattern, w[w != 0], n, target)
    assert np.array_equal(executed(program, target), w)


def test_small_memories_make_tiles_come_again():
    rng = np.random.default_rng(0)
    w = rng.integers(1, 9, (96, 256)).astype(np.int8)
    pattern = pattern_of(w)
    plan = best_plan(MetaOps.whole(96, 16, 256), 96, 16, TARGETS["tight"])
    program = build(plan, pattern, w[w != 0], 16, TARGETS["tight"])
    assert len(program.load_x) > 256 // 16
    assert np.array_equal(executed(program, TARGETS["tight"]), w)


# Cost.


def assert_fits(knobs: Knobs, target: Target) -> None:
    """Everything that is on the chip at the same time has its place there."""
    tile = target.array.rows * knobs.panel_tiles
    assert knobs.ring * knobs.weight_rows + knobs.x_slots * tile <= target.spad_rows
    assert 2 <= knobs.acc_slots
    accumulators = knobs.acc_slots * knobs.block_rows + knobs.zero_rows
    assert accumulators * knobs.panel_tiles <= target.acc_rows
    assert knobs.x_slots >= knobs.ring * knobs.step_tiles
    assert knobs.weight_rows >= knobs.block_rows
    if target.array.kind == "mma":
        assert 2 * knobs.weight_rows <= target.l0a_rows
        assert 2 * tile <= target.l0b_rows


@EXAMPLES
@given(matrices(), strategies, targets, st.integers(1, 300))
def test_schedules_fit_the_memories(w: Array, strategy: str, name: str, n: int):
    target = TARGETS[name]
    plan = best_plan(cover_of(pattern_of(w), n, target, strategy), len(w), n, target)
    assert_fits(plan.knobs, target)
    estimate = plan.estimate
    engines = (estimate.compute, estimate.load, estimate.store, estimate.move, estimate.issue)
    assert all(0 <= cycles <= estimate.cycles for cycles in engines)
    assert estimate.cycles >= max(engines) + estimate.ramp
    assert panels(n, plan.knobs, target) * plan.knobs.panel_tiles * target.array.cols >= n


def test_memories_too_small_are_refused():
    target = small("gemmini16", 32, 32)
    with pytest.raises(UserError, match=r"has 32 scratchpad rows .* the smallest schedule needs 64 and 32"):
        best_plan(MetaOps.whole(64, 16, 64), 64, 16, target)


# Choice.


@EXAMPLES
@given(matrices(), targets, st.sampled_from([1, 16, 100]))
def test_choice_is_never_dearer_than_dense(w: Array, name: str, n: int):
    target, pattern = TARGETS[name], pattern_of(w)
    choice = choose(pattern, n, target)
    assert choice.best.plan.estimate.cycles <= choice.dense.plan.estimate.cycles
    assert choice.plan == ("dense" if choice.best is choice.dense else "sparse")
    assert choice.dense.cells == count_cells(MetaOps.whole(len(w), n, w.shape[1]), target.unit)
    assert choice.reason
    if choice.plan == "sparse":
        fastest = min(c.plan.estimate.cycles for c in choice.candidates)
        assert choice.best.plan.estimate.cycles == fastest
        assert choice.best.name in choice.reason


@settings(max_examples=30, deadline=None, derandomize=True)
@given(matrices(), targets, st.sampled_from([1, 16, 100]))
def test_choice_is_the_same_every_time(w: Array, name: str, n: int):
    target, pattern = TARGETS[name], pattern_of(w)
    one, other = choose(pattern, n, target), choose(pattern, n, target)
    assert one.reason == other.reason
    assert one.compacted == other.compacted
    assert one.best.plan.estimate == other.best.plan.estimate


def test_choice_refuses_what_holds_nothing():
    w = np.zeros((256, 256), np.int8)
    w[::16, :16] = 1
    choice = choose(pattern_of(w), 64, TARGETS["gemmini16"])
    assert choice.plan == "sparse"
    assert choice.best.cells < choice.dense.cells / 8


def test_choice_of_a_full_matrix_is_dense_and_says_why():
    choice = choose(pattern_of(np.ones((64, 64), np.int8)), 64, TARGETS["gemmini16"])
    assert choice.plan == "dense"
    assert "every one of 16 unit cells holds a nonzero in every cover" in choice.reason
