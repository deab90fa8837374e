"""Properties of the cover mathematics: strategies keep the laws, and the checks find what breaks them."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sparsecc.cover.cells import blocks, count_cells, split
from sparsecc.cover.compact import global_compaction, window_compaction
from sparsecc.cover.group import colours, groups
from sparsecc.cover.laws import (
    Pattern,
    broken_alignment,
    broken_cover_law,
    conflict,
    fill,
    locate,
)
from sparsecc.cover.lift import ORDERS, lift
from sparsecc.cover.metaops import COLUMNS, Axis, MetaOps, concatenate

Unit = tuple[int, int, int]
Mask = NDArray[np.bool_]

N = 5
# Of properties that hold for every matrix and unit, each example is small; there are many of them.
EXAMPLES = settings(max_examples=250, deadline=None, derandomize=True)


def pattern_of(mask: Mask) -> Pattern:
    """The pattern of a matrix given as booleans."""
    rows, columns = np.nonzero(mask)
    indptr = np.searchsorted(rows, range(mask.shape[0] + 1)).astype(np.int64)
    return Pattern(mask.shape[0], mask.shape[1], indptr, columns.astype(np.int32))


@st.composite
def masks(draw: st.DrawFn) -> Mask:
    """Random, blocked, banded, with empty rows and columns, all zero, all one; any shape from 1 x 1."""
    m, k = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    match draw(st.sampled_from(["random", "blocks", "band", "rows", "columns", "zero", "one"])):
        case "random":
            return rng.random((m, k)) < draw(st.sampled_from([0.02, 0.1, 0.5]))
        case "blocks":
            b = draw(st.sampled_from([2, 4, 8]))
            coarse = rng.random((-(-m // b), -(-k // b))) < 0.4
            return np.kron(coarse, np.ones((b, b), bool))[:m, :k].astype(bool)
        case "band":
            distance = np.abs(np.arange(m)[:, None] - np.arange(k)[None, :])
            return distance <= draw(st.integers(0, 4))
        case "rows":
            return (rng.random((m, 1)) < 0.4) & (rng.random((m, k)) < 0.7)
        case "columns":
            return (rng.random((1, k)) < 0.4) & (rng.random((m, k)) < 0.7)
        case "zero":
            return np.zeros((m, k), bool)
        case _:
            return np.ones((m, k), bool)


units = st.tuples(st.sampled_from([1, 2, 3, 4, 8]), st.just(N), st.sampled_from([1, 2, 3, 4, 8]))

STRATEGIES: dict[str, Callable[[Pattern, Unit], MetaOps]] = {
    "whole": lambda p, u: MetaOps.whole(p.m, N, p.k) if p.nnz else MetaOps.of([]),
    "global": lambda p, u: global_compaction(p, N, u),
    "window of a unit": lambda p, u: window_compaction(p, N, u, u[0]),
    "window of 3": lambda p, u: window_compaction(p, N, u, 3),
    "window of all": lambda p, u: window_compaction(p, N, u, p.m),
}
strategies = st.sampled_from(list(STRATEGIES))


def points(metaops: MetaOps) -> list[tuple[int, int]]:
    """Every (row, column) of the meta-ops, as often as it occurs."""
    return [
        (int(r), int(c)) for i in range(len(metaops)) for r in metaops.rows(i) for c in metaops.columns(i)
    ]


def assert_laws(metaops: MetaOps, mask: Mask, unit: Unit) -> None:
    """Laws 1 and 2 and alignment, by brute force and by the functions that verifiers use."""
    found = points(metaops)
    assert len(found) == len(set(found))
    assert {(int(r), int(c)) for r, c in zip(*np.nonzero(mask), strict=True)} <= set(found)
    for i in range(len(metaops)):
        assert mask[np.ix_(np.asarray(metaops.rows(i)), np.asarray(metaops.columns(i)))].any()
    pattern = pattern_of(mask)
    assert broken_cover_law(metaops, pattern, N) is None
    assert broken_alignment(metaops, unit, pattern) is None
    assert metaops.area == len(found)
    for group in groups(metaops):
        rows = [int(r) for i in range(len(group)) for r in group.rows(i)]
        assert len(rows) == len(set(rows))
        assert conflict(group) is None


@EXAMPLES
@given(masks(), units, strategies)
def test_compaction_keeps_the_laws(mask: Mask, unit: Unit, strategy: str):
    cover = STRATEGIES[strategy](pattern_of(mask), unit)
    assert_laws(cover, mask, unit)


@EXAMPLES
@given(masks(), units, strategies)
def test_split_keeps_the_laws(mask: Mask, unit: Unit, strategy: str):
    pattern = pattern_of(mask)
    cover = STRATEGIES[strategy](pattern, unit)
    cells = split(cover, pattern, unit)
    assert_laws(cells, mask, unit)
    assert count_cells(cells, unit) == len(cells) <= count_cells(cover, unit)
    # Splitting again changes nothing.
    assert split(cells, pattern, unit) == cells


@EXAMPLES
@given(masks(), units, strategies, st.sampled_from(ORDERS))
def test_lift_keeps_the_laws_and_never_adds_meta_ops(mask: Mask, unit: Unit, strategy: str, order: str):
    pattern = pattern_of(mask)
    cells = split(STRATEGIES[strategy](pattern, unit), pattern, unit)
    lifted = lift(cells, order)
    assert_laws(lifted, mask, unit)
    assert len(lifted) <= len(cells)
    # No refused cell inside: the same points.
    assert sorted(points(lifted)) == sorted(points(cells))
    # Nothing is left to fuse.
    assert len(lift(lifted, order)) == len(lifted)


@EXAMPLES
@given(
    masks(), units, strategies, st.sampled_from(["k-first", "m-first"]), st.integers(1, 20), st.floats(0, 1)
)
def test_lift_over_gaps_keeps_the_laws(
    mask: Mask, unit: Unit, strategy: str, order: str, gap: int, min_fill: float
):
    pattern = pattern_of(mask)
    cells = split(STRATEGIES[strategy](pattern, unit), pattern, unit)
    step = unit[0] if order == "m-first" else unit[2]
    lifted = lift(cells, order, gap * step, min_fill)
    assert_laws(lifted, mask, unit)
    assert len(lifted) <= len(lift(cells, order))


def test_lift_bridges_no_gap_that_another_meta_op_is_in():
    # Rows 0 and 2 have columns 0:2, row 1 between them lists columns 0 and 3: fused, they would hold (1,
    # 0), too.
    mask = np.array([[1, 1, 0, 0], [1, 0, 0, 1], [1, 1, 0, 0]], bool)
    pattern, unit = pattern_of(mask), (1, N, 2)
    cells = split(window_compaction(pattern, N, unit, 1), pattern, unit)
    assert len(lift(cells, "m-first", max_gap=1, min_fill=0)) == len(cells) == 3
    mask[1] = False
    pattern = pattern_of(mask)
    cells = split(window_compaction(pattern, N, unit, 1), pattern, unit)
    assert [len(lift(cells, "m-first", 1, share)) for share in (0.6, 0.7)] == [1, 2]


@EXAMPLES
@given(masks(), units, st.floats(0, 1))
def test_fewer_nonzeros_never_need_more_cells(mask: Mask, unit: Unit, kept: float):
    thinner = mask & (np.random.default_rng(0).random(mask.shape) < kept)
    whole = MetaOps.whole(mask.shape[0], N, mask.shape[1])
    assert len(split(whole, pattern_of(thinner), unit)) <= len(split(whole, pattern_of(mask), unit))


@EXAMPLES
@given(masks(), units, strategies, st.booleans())
def test_locate_agrees_with_brute_force(mask: Mask, unit: Unit, strategy: str, cut: bool):
    pattern = pattern_of(mask)
    cover = split(STRATEGIES[strategy](pattern, unit), pattern, unit)
    if cut:
        cover = cover.select(slice(1, None))
    places = locate(cover, pattern)
    held = {
        (int(r), int(c)): (i, a, b)
        for i in range(len(cover))
        for a, r in enumerate(cover.rows(i))
        for b, c in enumerate(cover.columns(i))
    }
    for at, point in enumerate(zip(pattern.row_of().tolist(), pattern.indices.tolist(), strict=True)):
        owner, row, column = held.get(point, (-1, None, None))
        assert places.owner[at] == owner
        if owner >= 0:
            assert (places.row[at], places.column[at]) == (row, column)
    assert places.twice is None


def test_locate_in_several_bands(monkeypatch: pytest.MonkeyPatch):
    mask = np.random.default_rng(1).random((37, 23)) < 0.3
    pattern, unit = pattern_of(mask), (4, N, 4)
    cover = split(window_compaction(pattern, N, unit, 5), pattern, unit)
    whole = locate(cover, pattern)
    monkeypatch.setattr("sparsecc.cover.laws.CHUNK", 50)
    banded = locate(cover, pattern)
    assert np.array_equal(whole.owner, banded.owner)
    assert np.array_equal(whole.row, banded.row)
    assert np.array_equal(whole.column, banded.column)
    assert_laws(cover, mask, unit)
    twice = concatenate([cover, cover.select(slice(3, 4))])
    assert broken_cover_law(twice, pattern, N) == f"meta-op {len(cover)} owns no nonzero"


@EXAMPLES
@given(masks(), units, strategies)
def test_blocks_scatter_back_to_the_matrix(mask: Mask, unit: Unit, strategy: str):
    pattern = pattern_of(mask)
    data = np.arange(1, pattern.nnz + 1, dtype=np.int32)
    cover = split(STRATEGIES[strategy](pattern, unit), pattern, unit)
    scattered = np.zeros(mask.shape, np.int32)
    for i, block in enumerate(blocks(cover, pattern, data)):
        scattered[np.ix_(np.asarray(cover.rows(i)), np.asarray(cover.columns(i)))] += block.astype(np.int32)
    assert np.array_equal(scattered[mask], data)
    assert not scattered[~mask].any()


# Grouping.


@EXAMPLES
@given(masks(), units, st.sampled_from(["whole", "window of a unit", "window of 3"]))
def test_bands_need_as_many_groups_as_the_longest_row_has_meta_ops(mask: Mask, unit: Unit, strategy: str):
    pattern = pattern_of(mask)
    cells = split(STRATEGIES[strategy](pattern, unit), pattern, unit)
    load = np.zeros(pattern.m, int)
    for i in range(len(cells)):
        load[np.asarray(cells.rows(i))] += 1
    assert len(groups(cells)) == load.max()


@EXAMPLES
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9)), min_size=1, max_size=25))
def test_ranges_that_overlap_need_as_few_groups_as_possible(intervals: list[tuple[int, int]]):
    cover = MetaOps.of(
        (range(start, start + size), range(N), range(i, i + 1)) for i, (start, size) in enumerate(intervals)
    )
    colour = colours(cover)
    load = np.zeros(40, int)
    for i, (start, size) in enumerate(intervals):
        load[start : start + size] += 1
        for j, (other, width) in enumerate(intervals[:i]):
            overlap = start < other + width and other < start + size
            assert not (overlap and colour[i] == colour[j])
    assert colour.max() + 1 == load.max()


@EXAMPLES
@given(st.lists(st.sets(st.integers(0, 15), min_size=1), min_size=1, max_size=20))
def test_any_row_sets_make_conflict_free_groups(sets: list[set[int]]):
    cover = MetaOps.of((sorted(rows), range(N), range(i, i + 1)) for i, rows in enumerate(sets))
    made = groups(cover)
    assert all(conflict(group) is None for group in made)
    assert sum(map(len, made)) == len(sets)
    assert sorted(points(concatenate(made))) == sorted(points(cover))


# The laws' checks.

BIG = pattern_of(np.eye(6, 8, dtype=bool))
Triples = list[tuple[Axis, range, Axis]]


UNSOUND: list[tuple[Triples, str]] = [
    ([(range(6), range(N), range(0, 9))], "meta-op 0 has column 8, outside 0..7"),
    ([(range(7), range(N), range(8))], "meta-op 0 has row 6, outside 0..5"),
    ([([0, 1, -1], range(N), range(8))], "meta-op 0 has row -1, outside 0..5"),
    ([(range(0), range(N), range(8))], "meta-op 0 has no rows"),
    ([(range(6), range(N), [])], "meta-op 0 has no columns"),
    ([([0, 1, 1], range(N), range(8))], "meta-op 0 lists row 1 twice"),
    ([(range(6), range(N - 1), range(8))], "meta-op 0 has positions 0:4"),
    ([(range(6), range(1, N), range(8))], "meta-op 0 has positions 1:5"),
    (
        [(range(4), range(N), range(8)), ([3, 4, 5], range(N), range(8))],
        "both hold point (row 3, column 0)",
    ),
    ([(range(5), range(N), range(8))], "no meta-op holds the nonzero at row 5, column 5"),
    ([], "no meta-op holds the nonzero at row 0, column 0"),
    ([(range(6), range(N), range(6)), (range(6), range(N), range(6, 8))], "meta-op 1 owns no nonzero"),
]


@pytest.mark.parametrize(("metaops", "message"), UNSOUND)
def test_cover_law_finds(metaops: Triples, message: str):
    assert message in (broken_cover_law(MetaOps.of(metaops), BIG, N) or "")


def test_cover_law_allows_an_empty_dense_plan():
    zero = pattern_of(np.zeros((6, 8), bool))
    assert broken_cover_law(MetaOps.whole(6, N, 8), zero, N) is None
    assert broken_cover_law(MetaOps.of([]), zero, N) is None
    parts = MetaOps.of([(range(6), range(N), range(4)), (range(6), range(N), range(4, 8))])
    assert broken_cover_law(parts, zero, N) == "meta-op 0 owns no nonzero"


def test_conflict_finds_a_shared_row():
    metaops = MetaOps.of([(range(4), range(N), range(4)), ([5, 3], range(N), range(4, 8))])
    assert conflict(metaops) == (0, 1, 3)
    assert conflict(metaops.select(slice(0, 1))) is None


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        (range(1, 6), range(8), "meta-op 0 has rows 1:6, not aligned to the unit's 4"),
        (range(0, 5), range(8), "meta-op 0 has rows 0:5"),
        (range(0, 6), range(2, 8), "meta-op 0 has columns 2:8"),
        (range(4, 6), range(4, 8), None),
        ([1, 2, 5], [3], None),
    ],
)
def test_alignment(rows: Axis, columns: Axis, message: str | None):
    found = broken_alignment(MetaOps.of([(rows, range(N), columns)]), (4, N, 4), BIG)
    assert (found is None) if message is None else (found or "").startswith(message)


# Tables.


def test_metaops_tables():
    metaops = MetaOps.of([(range(2, 5), range(N), [7, 1]), ([4, 0], range(N), [7, 1])])
    assert metaops.table.shape == (2, COLUMNS)
    # Equal lists are stored once.
    assert metaops.index.tolist() == [7, 1, 4, 0]
    assert metaops.rows(0) == range(2, 5)
    assert list(metaops.columns(1)) == [7, 1]
    assert metaops.positions(0) == range(N)
    assert metaops.area == 3 * 2 + 2 * 2
    assert metaops == MetaOps(metaops.table.copy(), metaops.index.copy())
    assert hash(metaops) == hash(MetaOps(metaops.table.copy(), metaops.index.copy()))
    assert metaops != metaops.select(slice(0, 1))
    assert fill(metaops, 5) == 0.5
    assert fill(MetaOps.of([]), 0) == 1.0


def test_concatenate_keeps_gather_maps():
    one = MetaOps.of([([4, 0], range(N), [7, 1])])
    two = MetaOps.of([(range(2), range(N), [3])])
    both = concatenate([one, two, one])
    assert points(both) == points(one) + points(two) + points(one)
    assert len(concatenate([])) == 0


def test_lift_refuses_an_unknown_order():
    with pytest.raises(ValueError, match="order 'sideways' is not one of k-first, m-first, square-first"):
        lift(MetaOps.of([]), "sideways")
