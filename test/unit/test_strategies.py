"""Strategies are exact covers whatever the pattern; published ones are what their papers describe."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sparsecc.cover.cells import count_cells, split
from sparsecc.cover.laws import Pattern, broken_alignment, broken_cover_law
from sparsecc.cover.lists import Lists, metaops_of
from sparsecc.cover.metaops import MetaOps
from sparsecc.cover.peers import (
    aligned_bsr,
    one_sa,
    sparse_graph_translation,
    tca,
    weighted_block_cover,
)
from sparsecc.cover.rows import in_chains
from sparsecc.cover.strategies import STRATEGIES, covers
from sparsecc.importers import load_matrix
from sparsecc.schedule.geometry import row_order

DATA = Path(__file__).parents[2].parent / "shared" / "data"
EXAMPLES = settings(max_examples=300, deadline=None, derandomize=True)
FEWER_EXAMPLES = settings(EXAMPLES, max_examples=30)

Mask = NDArray[np.bool_]
Unit = tuple[int, int, int]

N = 5
UNIT = (2, N, 2)


def pattern_of(mask: Mask) -> Pattern:
    """The pattern of a matrix given as booleans."""
    rows, columns = np.nonzero(mask)
    indptr = np.searchsorted(rows, range(mask.shape[0] + 1)).astype(np.int64)
    return Pattern(mask.shape[0], mask.shape[1], indptr, columns.astype(np.int32))


def drawn(*lines: str) -> Pattern:
    """A pattern from a picture: x for a nonzero."""
    return pattern_of(np.array([[c == "x" for c in line] for line in lines]))


def shuffled(mask: Mask, seed: int = 0) -> Mask:
    """Rows and columns in a random order."""
    rng = np.random.default_rng(seed)
    return mask[rng.permutation(mask.shape[0])][:, rng.permutation(mask.shape[1])]


@st.composite
def masks(draw: st.DrawFn) -> Mask:
    """Random, blocks shuffled, empty rows and columns, one row, one column, all zero, all one."""
    m, k = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    match draw(
        st.sampled_from(["random", "blocks", "sparse rows and columns", "row", "column", "zero", "one"])
    ):
        case "blocks":
            coarse = rng.random((-(-m // 4), -(-k // 4))) < 0.3
            return shuffled(np.kron(coarse, np.ones((4, 4), bool))[:m, :k].astype(bool))
        case "sparse rows and columns":
            return (rng.random((m, 1)) < 0.4) & (rng.random((1, k)) < 0.4) & (rng.random((m, k)) < 0.7)
        case "row":
            return rng.random((1, k)) < 0.3
        case "column":
            return rng.random((m, 1)) < 0.3
        case "zero":
            return np.zeros((m, k), bool)
        case "one":
            return np.ones((m, k), bool)
        case _:
            return rng.random((m, k)) < draw(st.sampled_from([0.02, 0.1, 0.5]))


units = st.tuples(st.sampled_from([1, 2, 3, 4, 16]), st.just(N), st.sampled_from([1, 2, 3, 4, 16]))


def contents(cover: MetaOps) -> list[tuple[list[int], list[int]]]:
    """(rows, columns) of each meta-op."""
    return [([int(r) for r in cover.rows(i)], [int(c) for c in cover.columns(i)]) for i in range(len(cover))]


@EXAMPLES
@given(masks(), units, st.sampled_from(list(STRATEGIES)), st.integers(0, 3))
def test_every_strategy_is_an_exact_cover(mask: Mask, unit: Unit, name: str, effort: int):
    pattern, strategy = pattern_of(mask), STRATEGIES[name]
    cover = strategy(pattern, N, unit, effort)
    assert broken_cover_law(cover, pattern, N) is None
    assert broken_alignment(cover, unit, pattern) is None
    if not pattern.nnz:
        assert len(cover) == 0
    elif not strategy.indexed_rows:
        for lowered in (cover, split(cover, pattern, unit)):
            assert in_chains(lowered)
            row_order(lowered, pattern.m)
    assert strategy(pattern, N, unit, effort) == cover


@FEWER_EXAMPLES
@given(masks(), units, st.integers(0, 1))
def test_covers_are_those_of_the_strategies_once(mask: Mask, unit: Unit, effort: int):
    pattern = pattern_of(mask)
    found = dict(covers(pattern, N, unit, effort, published=True, indexed_rows=True))
    assert len(set(found.values())) == len(found)
    for name, strategy in STRATEGIES.items():
        if strategy.least_effort <= effort:
            assert strategy(pattern, N, unit, effort) in found.values()
    for name, cover in covers(pattern, N, unit, effort):
        assert not STRATEGIES[name].published
        assert not STRATEGIES[name].indexed_rows
        assert found[name] == cover


def test_lists_become_ranges_where_they_are_aligned():
    pattern = pattern_of(np.ones((7, 8), bool))
    rows = Lists(np.array([0, 1, 2, 3, 6, 1, 2], np.int32), np.array([0, 4, 5, 7, 7]))
    columns = Lists(np.arange(8, dtype=np.int32), np.array([0, 8]))
    cover = metaops_of(pattern, N, UNIT, rows, columns, np.array([0, 1, 2, 3]), np.zeros(4, np.int64))
    # An empty list makes no meta-op; a row at the edge is a range.
    assert [cover.rows(0), cover.rows(1)] == [range(4), range(6, 7)]
    assert contents(cover)[2][0] == [1, 2]
    assert not isinstance(cover.rows(2), range)
    assert len(cover) == 3
    assert cover.index.tolist() == [1, 2]


@pytest.mark.parametrize("name", ["rows-1", "rows-2", "tiles", "mixed", "tca"])
def test_shuffled_diagonal_blocks_are_found_again(name: str):
    unit = (16, N, 16)
    pattern = pattern_of(shuffled(np.kron(np.eye(8, dtype=bool), np.ones((16, 16), bool))))
    assert len(split(STRATEGIES["window-1"](pattern, N, unit), pattern, unit)) > 32
    cells = split(STRATEGIES[name](pattern, N, unit), pattern, unit)
    # A window of two unit rows gathers the columns of two blocks side by side, in the order of the matrix.
    assert len(cells) <= (32 if name == "rows-2" else 8)


@pytest.mark.parametrize("name", ["rows-1", "mixed"])
def test_a_shuffled_grid_of_blocks_is_found_again(name: str):
    unit = (16, N, 16)
    coarse = np.random.default_rng(1).random((8, 8)) < 0.3
    pattern = pattern_of(shuffled(np.kron(coarse, np.ones((16, 16), bool)).astype(bool)))
    assert len(split(STRATEGIES[name](pattern, N, unit), pattern, unit)) <= 1.1 * coarse.sum()


def test_bcr_keeps_the_rows_and_columns_of_each_block():
    mask = np.zeros((128, 128), bool)
    mask[np.ix_([3, 9], [1, 40, 50])] = True  # block 0, 0
    mask[np.ix_([5], [64, 127])] = True  # block 0, 1
    mask[np.ix_([70, 71], [64])] = True  # block 1, 1
    cover = STRATEGIES["bcr-64"](pattern_of(mask), N, (16, N, 16), effort=0)
    assert contents(cover) == [([3, 9], [1, 40, 50]), ([5], [64, 127]), ([70, 71], [64])]


def test_mixed_leaves_dense_unit_columns_as_ranges():
    pattern = drawn("xxxx..x.", "xxxx...x", "..xx.xxx", "..xx.xxx")
    cover = STRATEGIES["mixed"](pattern, N, UNIT, effort=0)
    assert contents(cover) == [
        ([0, 1], [0, 1, 2, 3]),
        ([0, 1], [6, 7]),
        ([2, 3], [2, 3]),
        ([2, 3], [6, 7]),
        ([2, 3], [5]),
    ]
    assert [isinstance(cover.columns(i), range) for i in range(5)] == [True] * 4 + [False]


def test_windows_over_reordered_rows_list_them():
    # Even rows use the first columns, odd ones the last: windows of two rows take equal ones.
    pattern = drawn("xx..", "..xx", "xx..", "..xx")
    assert sorted(contents(STRATEGIES["rows-1"](pattern, N, UNIT))) == [([0, 2], [0, 1]), ([1, 3], [2, 3])]
    assert len(contents(STRATEGIES["window-1"](pattern, N, UNIT))) == 2
    assert STRATEGIES["window-1"](pattern, N, UNIT).area == 16


def test_aligned_bsr_by_hand():
    cover = aligned_bsr(drawn("x....", ".....", "..x.x"), N, UNIT)
    assert contents(cover) == [([0, 1], [0, 1]), ([2], [2, 3]), ([2], [4])]


def test_sgt_by_hand():
    # Windows of two rows as they stand, an empty row in one, no row in the last but one.
    pattern = drawn("x...x", "..x.x", ".....", "x....", ".....", ".....", "...x.")
    cover = sparse_graph_translation(pattern, N, UNIT)
    assert contents(cover) == [([0, 1], [0, 2, 4]), ([2, 3], [0]), ([6], [3])]


def test_tca_by_hand():
    # Two pairs of equal rows, apart: each becomes a cluster, each cluster a window.
    pattern = drawn("xxx...", "...xxx", "xxx...", "...xxx")
    assert sorted(contents(tca(pattern, N, UNIT))) == [([0, 2], [0, 1, 2]), ([1, 3], [3, 4, 5])]


def test_1sa_by_hand():
    # Over unit columns of two, rows 0, 2 and 3 are equal: one group of them with two whole unit columns.
    pattern = drawn("x..x..", "....x.", ".xx...", "xxxx..")
    assert contents(one_sa(pattern, N, UNIT)) == [([0, 2, 3], [0, 1, 2, 3]), ([1], [4, 5])]


def test_weighted_block_cover_by_hand():
    # Four full unit cells in a square are one block; a cell apart is a block of its own.
    pattern = drawn("xxxx....", "xxxx....", "xxxx....", "xxxx..x.")
    assert contents(weighted_block_cover(pattern, N, UNIT)) == [
        ([2, 3], [6, 7]),
        ([0, 1, 2, 3], [0, 1, 2, 3]),
    ]
    # The full cell costs (1 + 1/4) / 4 for each nonzero, less than the pair, (2 + 1/4) / 7.
    assert contents(weighted_block_cover(drawn("xxxx", "xxx."), N, UNIT)) == [
        ([0, 1], [0, 1]),
        ([0, 1], [2, 3]),
    ]
    # With three nonzeros in each, the pair costs (2 + 1/4) / 6 for each, less than (1 + 1/4) / 3.
    assert contents(weighted_block_cover(drawn("xxxx", "x.x."), N, UNIT)) == [([0, 1], [0, 1, 2, 3])]


@pytest.mark.parametrize("name", ["dlmc/rn_mag80_conv7x7", "lyra/conv1d", "fem/p5_hex_m132-sp"])
def test_no_published_system_needs_fewer_cells_on_real_matrices(name: str):
    paths = list((DATA / "matrices").glob(f"{name}.*"))
    if not paths:
        pytest.skip(f"no {name} in {DATA}; the real matrices are not part of the project")
    csr = load_matrix(str(paths[0])).csr
    pattern = Pattern(*csr.shape, csr.indptr.astype(np.int64), csr.indices.astype(np.int32))
    unit = (16, N, 16)
    found = dict(covers(pattern, N, unit, published=True))
    ours = min(len(split(c, pattern, unit)) for s, c in found.items() if not STRATEGIES[s].published)
    assert ours <= min(count_cells(c, unit) for s, c in found.items() if STRATEGIES[s].published)
