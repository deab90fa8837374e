"""No cover has fewer cells than the bounds say, no schedule fewer cycles; small optima are between."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsecc import patterns
from sparsecc.cover.bound import cell_bounds, up
from sparsecc.cover.cells import split
from sparsecc.cover.laws import Pattern
from sparsecc.cover.lift import lift
from sparsecc.cover.metaops import MetaOps
from sparsecc.cover.optimum import Optimum, fewest_bicliques, fewest_windows
from sparsecc.cover.strategies import STRATEGIES
from sparsecc.errors import UserError
from sparsecc.patterns import Mask, pattern_of
from sparsecc.schedule.bound import cycle_bound
from sparsecc.schedule.choose import choose
from sparsecc.schedule.planning import plan_cover
from sparsecc.target import Target

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True)
N = 24


@st.composite
def masks(draw: st.DrawFn, most: int = 70) -> Mask:
    """Random, with rows of very different sizes, blocked, with empty rows and columns, zero and one."""
    shape = draw(st.integers(1, most)), draw(st.integers(1, most))
    seed = draw(st.integers(0, 2**32 - 1))
    density = draw(st.sampled_from([0.02, 0.1, 0.3, 0.9]))
    random = patterns.unstructured(shape, density, seed)
    match draw(st.sampled_from(["random", "uneven", "block", "bcr", "holes", "zero", "one"])):
        case "random":
            return random
        case "uneven":
            rng = np.random.default_rng(seed)
            return rng.random(shape) < rng.random((shape[0], 1)) ** 4
        case "block":
            return patterns.block(shape, (4, 8), density, seed)
        case "bcr":
            return patterns.bcr(shape, (16, 16), 0.3, 0.3, seed)
        case "holes":
            holes = patterns.hierarchical(patterns.rows(shape, 0.5, seed), patterns.columns(shape, 0.5, seed))
            return patterns.hierarchical(random, holes)
        case "zero":
            return np.zeros(shape, bool)
        case _:
            return np.ones(shape, bool)


units = st.tuples(st.sampled_from([1, 2, 4, 8, 16]), st.just(N), st.sampled_from([1, 3, 4, 8, 16]))
# Strategies whose meta-ops share all their rows or none.
PARTITIONS = [name for name in STRATEGIES if name.startswith(("aligned", "global", "window", "rows"))]


@EXAMPLES
@given(masks(), units, st.sampled_from(list(STRATEGIES)))
def test_no_strategy_has_fewer_cells(mask: Mask, unit: tuple[int, int, int], name: str):
    pattern = pattern_of(mask)
    bounds = cell_bounds(pattern, unit)
    cover = STRATEGIES[name](pattern, N, unit)
    cells = len(split(cover, pattern, unit))
    assert cells >= bounds.any
    if name in PARTITIONS:
        assert cells >= bounds.windows
    if name == "aligned":
        assert cells == bounds.aligned


@EXAMPLES
@given(masks(), units)
def test_bounds_are_ordered(mask: Mask, unit: tuple[int, int, int]):
    bounds = cell_bounds(pattern_of(mask), unit)
    assert up(mask.sum() / (unit[0] * unit[2])) <= bounds.any <= bounds.windows <= bounds.aligned
    assert bounds.any_area <= bounds.any
    assert bounds.any_area <= bounds.windows_area <= bounds.windows


@settings(max_examples=25, deadline=None, derandomize=True)
@given(masks(10), st.sampled_from([(2, 1, 2), (3, 1, 2), (2, 1, 4), (4, 1, 4)]))
def test_optima_are_proven_and_no_less_than_the_bounds(mask: Mask, unit: tuple[int, int, int]):
    pattern = pattern_of(mask)
    bounds = cell_bounds(pattern, unit)
    windows, bicliques = fewest_windows(pattern, unit), fewest_bicliques(pattern, unit)
    assert windows is not None
    assert windows.proven
    assert bounds.windows <= windows.cells <= bounds.aligned
    if bicliques is not None:
        assert bicliques.proven
        assert bounds.any <= bicliques.cells <= windows.cells


@settings(max_examples=20, deadline=None, derandomize=True)
@given(masks(6))
def test_the_optimum_of_windows_is_that_of_all_partitions(mask: Mask):
    pattern = pattern_of(mask)
    found = fewest_windows(pattern, (2, 1, 2))
    assert found is not None
    live = [r for r in range(pattern.m) if mask[r].any()]
    assert found.cells == fewest_by_hand(mask, live)


def fewest_by_hand(mask: Mask, rows: list[int]) -> int:
    """Over all ways to pair rows, or leave them alone: cells of 2 x 2."""
    if not rows:
        return 0
    first, rest = rows[0], rows[1:]
    alone = -(-int(mask[first].sum()) // 2) + fewest_by_hand(mask, rest)
    pairs = [
        -(-int((mask[first] | mask[other]).sum()) // 2)
        + fewest_by_hand(mask, [r for r in rest if r != other])
        for other in rest
    ]
    return min([alone, *pairs])


def test_bounds_reach_what_can_be_computed_by_hand():
    # Blocks that fill cells: every bound is the number of blocks.
    blocks = cell_bounds(pattern_of(patterns.block((64, 64), (16, 16), 0.25)), (16, 1, 16))
    assert (blocks.aligned, blocks.windows, blocks.any) == (4, 4, 4)
    # A diagonal: one cell holds 4 of its nonzeros, whatever the rule.
    diagonal = cell_bounds(pattern_of(np.eye(64, dtype=bool)), (4, 1, 4))
    assert (diagonal.windows, diagonal.any) == (16, 16)
    # A full row and a full column: their cells have one in common.
    cross = np.zeros((64, 64), bool)
    cross[0] = cross[:, 0] = True
    crossed = cell_bounds(pattern_of(cross), (16, 1, 16))
    assert crossed.any <= 7 == crossed.windows


def test_overlaps_tell_random_rows_apart():
    # Counting alone says 16 cells of 256 points; no 16 x 16 cell of this matrix can be a quarter full.
    bounds = cell_bounds(pattern_of(patterns.unstructured((512, 400), 0.02)), (16, 1, 16))
    assert bounds.any > 2.5 * 0.02 * 512 * 400 / 256
    assert bounds.windows > 1.5 * bounds.any


def test_the_most_nonzeros_of_any_cell_is_a_bound():
    mask = patterns.unstructured((12, 10), 0.3)
    most = max(
        int(mask[np.ix_(rows, columns)].sum())
        for rows in combinations(range(12), 3)
        for columns in combinations(range(10), 3)
    )
    assert cell_bounds(pattern_of(mask), (3, 1, 3)).any_area <= mask.sum() / most * 9


def test_large_matrices_have_no_optimum():
    assert fewest_windows(pattern_of(np.ones((100, 100), bool)), (4, 1, 4)) is None
    assert fewest_bicliques(pattern_of(np.ones((40, 40), bool)), (4, 1, 4)) is None
    assert fewest_windows(pattern_of(np.zeros((5, 5), bool)), (4, 1, 4)) == Optimum(0, 0)
    assert fewest_bicliques(pattern_of(np.zeros((5, 5), bool)), (4, 1, 4)) == Optimum(0, 0)


TARGETS = {name: Target.load(name) for name in ("gemmini16", "gemmini16x", "ascend910", "scalesim-ws16")}


@EXAMPLES
@given(
    masks(150),
    st.sampled_from(list(TARGETS)),
    st.sampled_from([1, 16, 40]),
    st.sampled_from(list(STRATEGIES)),
)
def test_no_schedule_takes_fewer_cycles(mask: Mask, target: str, n: int, name: str):
    pattern, chip = pattern_of(mask), TARGETS[target]
    bound = cycle_bound(pattern, n, chip)
    for cover in (STRATEGIES[name](pattern, n, chip.unit), MetaOps.whole(pattern.m, n, pattern.k)):
        try:
            plan = plan_cover(lift(split(cover, pattern, chip.unit)), pattern, n, chip)
        except UserError:
            continue
        estimate = plan.estimate
        assert estimate.compute >= bound.compute - 1e-6
        assert estimate.store >= bound.store - 1e-6
        assert estimate.cycles >= bound.cycles - 1e-6


def test_a_blocked_matrix_is_scheduled_within_a_hundredth_of_the_bound():
    pattern = pattern_of(patterns.block((1024, 1024), (64, 64), 0.25))
    bound = cycle_bound(pattern, 128, TARGETS["gemmini16"])
    best = choose(pattern, 128, TARGETS["gemmini16"]).best.plan.estimate.cycles
    assert bound.bound_by == "compute"
    assert 1 <= bound.gap(best) < 1.01


def test_a_matrix_without_nonzeros_only_stores():
    pattern = Pattern(64, 32, np.zeros(65, np.int64), np.zeros(0, np.int32))
    bound = cycle_bound(pattern, 16, TARGETS["gemmini16"])
    assert (bound.compute, bound.load, bound.bound_by) == (0, 0, "store")
    assert bound.cycles == pytest.approx(64 * 16 * 4 / 16 + 100)
    assert cycle_bound(pattern, 16, TARGETS["scalesim-ws16"]).gap(0) == 1
