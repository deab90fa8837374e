"""Row orders: permutations, what their scores count, and that they find structure that was shuffled away."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sparsecc.cover.exchange import exchange, prices
from sparsecc.cover.laws import Pattern
from sparsecc.cover.lists import gathered_panels
from sparsecc.cover.orders import (
    by_clusters,
    by_degree,
    by_minhash,
    clusters,
    greedy_panels,
    in_chunks,
    jaccard_groups,
    natural,
    reverse_cuthill_mckee,
    signatures,
)
from sparsecc.cover.panels import (
    Order,
    merged_columns,
    merged_rows,
    panel_points,
    panel_widths,
    selected_rows,
    tile_cells,
    transposed,
)
from sparsecc.cover.search import LEVELS, Search, best_rows
from sparsecc.importers import load_matrix

DATA = Path(__file__).parents[2].parent / "shared" / "data"
EXAMPLES = settings(max_examples=100, deadline=None, derandomize=True)
ENOUGH_WORK = 1 << 30

Mask = NDArray[np.bool_]

ORDERS: dict[str, Callable[[Pattern], Order]] = {
    "natural": natural,
    "degree": by_degree,
    "minhash": by_minhash,
    "cuthill-mckee": reverse_cuthill_mckee,
    "greedy": lambda p: greedy_panels(p, 4),
    "greedy, short first": lambda p: greedy_panels(p, 4, short_first=True),
    "greedy in chunks": lambda p: greedy_panels(p, 4, reach=8),
    "1-SA": lambda p: jaccard_groups(p, 0.6)[0],
    "1-SA over blocks": lambda p: jaccard_groups(p, 0.6, 3)[0],
    "TCA": lambda p: by_clusters(p, 4),
    "exchange": lambda p: exchange(natural(p), p, 4, (0.4, 0.0), ENOUGH_WORK),
    "best": lambda p: best_rows(p, 4, LEVELS[3], 0),
}


def pattern_of(mask: Mask) -> Pattern:
    """The pattern of a matrix given as booleans."""
    rows, columns = np.nonzero(mask)
    indptr = np.searchsorted(rows, range(mask.shape[0] + 1)).astype(np.int64)
    return Pattern(mask.shape[0], mask.shape[1], indptr, columns.astype(np.int32))


def mask_of(pattern: Pattern) -> Mask:
    """The booleans of a pattern."""
    mask = np.zeros((pattern.m, pattern.k), bool)
    mask[pattern.row_of(), pattern.indices] = True
    return mask


def random_mask(m: int, k: int, density: float, seed: int = 0) -> Mask:
    """Uniformly random."""
    return np.random.default_rng(seed).random((m, k)) < density


def shuffled_blocks(blocks: int, height: int, width: int, seed: int = 0) -> Mask:
    """Blocks on the diagonal, rows and columns shuffled."""
    mask = np.kron(np.eye(blocks, dtype=bool), np.ones((height, width), bool))
    rng = np.random.default_rng(seed)
    return mask[rng.permutation(blocks * height)][:, rng.permutation(blocks * width)]


def rows(*used: str) -> Pattern:
    """A pattern from the columns that each row uses, one digit each; ten columns."""
    return pattern_of(np.array([[str(c) in row for c in range(10)] for row in used]))


@st.composite
def masks(draw: st.DrawFn) -> Mask:
    """Any shape from 1 x 1, any density from none to all, some rows empty."""
    m, k = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    mask = random_mask(m, k, draw(st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0])), draw(st.integers(0, 999)))
    return mask & (np.random.default_rng(m).random((m, 1)) < draw(st.sampled_from([0.5, 1.0])))


@EXAMPLES
@given(masks(), st.sampled_from(list(ORDERS)))
def test_an_order_names_each_row_with_a_nonzero_once(mask: Mask, name: str):
    pattern = pattern_of(mask)
    order = ORDERS[name](pattern)
    assert order.dtype == np.int32
    assert sorted(order.tolist()) == np.flatnonzero(mask.any(axis=1)).tolist()
    assert np.array_equal(order, ORDERS[name](pattern))


@EXAMPLES
@given(masks(), st.integers(1, 9), st.integers(1, 3), st.integers(1, 4))
def test_scores_count_what_covers_keep(mask: Mask, height: int, um: int, uk: int):
    pattern, unit = pattern_of(mask), (um, 1, uk)
    height = height * um
    order = np.random.default_rng(height).permutation(natural(pattern))
    cover = gathered_panels(pattern, 1, unit, order, height)
    panels = [order[at : at + height] for at in range(0, len(order), height)]
    assert panel_widths(order, pattern, height).tolist() == [mask[p].any(axis=0).sum() for p in panels]
    assert panel_points(order, pattern, height) == cover.area
    columns = natural(transposed(pattern))
    kept = mask[order][:, columns]
    tiles = {(r // um, c // uk) for r, c in zip(*np.nonzero(kept), strict=True)}
    assert tile_cells(order, columns, pattern, unit) == len(tiles)


@EXAMPLES
@given(masks(), st.integers(1, 5))
def test_derived_patterns(mask: Mask, width: int):
    pattern = pattern_of(mask)
    assert np.array_equal(mask_of(transposed(pattern)), mask.T)
    order = np.random.default_rng(0).permutation(pattern.m)
    assert np.array_equal(mask_of(selected_rows(pattern, order)), mask[order])
    padded = np.pad(mask, ((0, 0), (0, -pattern.k % width)))
    blocks = padded.reshape(pattern.m, -1, width).any(axis=2)
    assert np.array_equal(mask_of(merged_columns(pattern, width)), blocks)
    group = np.arange(pattern.m) % width
    merged = np.stack([mask[group == g].any(axis=0) for g in range(width)])
    assert np.array_equal(mask_of(merged_rows(pattern, group, width)), merged)


def test_few_flags_or_many_give_the_same_columns():
    # So wide that the nonzeros are sorted instead of flagged.
    wide = Pattern(4, 1 << 22, np.array([0, 1, 2, 3, 4]), np.array([5, 9, 5, 7], np.int32))
    assert panel_widths(np.arange(4, dtype=np.int32), wide, 2).tolist() == [2, 2]
    assert panel_widths(np.array([0, 2, 1, 3], np.int32), wide, 2).tolist() == [1, 2]


def test_degree_puts_small_rows_first():
    assert by_degree(rows("012", "", "3", "45", "6")).tolist() == [2, 4, 3, 0]


def test_the_greedy_filler_takes_the_row_that_adds_least():
    pattern = rows("012", "789", "0123", "89", "6")
    # 6 is the smallest row, 89 adds least to it; then 012 before 789 (as small), and 0123 adds one to it.
    assert greedy_panels(pattern, 2).tolist() == [4, 3, 0, 2, 1]
    # The panel of one row takes the smallest row and goes to the end.
    assert greedy_panels(pattern, 2, short_first=True).tolist() == [3, 1, 0, 2, 4]


def test_of_rows_that_add_as_much_the_one_with_more_in_common_is_taken():
    # Each of the other rows adds two columns to the smallest row.
    assert greedy_panels(rows("01", "012", "2"), 2).tolist() == [2, 1, 0]
    assert greedy_panels(rows("3", "45", "345"), 2).tolist() == [0, 2, 1]


def test_cuthill_mckee_restores_a_band():
    band = np.abs(np.arange(64)[:, None] - np.arange(64)) <= 1
    order = np.random.default_rng(0).permutation(64)
    pattern = pattern_of(band[order][:, order])
    found = order[reverse_cuthill_mckee(pattern)]
    assert np.abs(np.diff(found)).max() <= 2


def test_1sa_by_hand():
    # 01 and 012: distance 1/3. 0123 to their union 012: 1/4. 789 shares nothing.
    pattern = rows("01", "789", "012", "0123", "")
    order, bounds = jaccard_groups(pattern, 0.5)
    assert (order.tolist(), bounds.tolist()) == ([0, 2, 3, 1], [0, 3, 4])
    # With 0.3 the second row is too far; 012 starts a group of its own, which 0123 joins.
    order, bounds = jaccard_groups(pattern, 0.3)
    assert (order.tolist(), bounds.tolist()) == ([0, 1, 2, 3], [0, 1, 2, 4])
    # Over blocks of five columns all rows but 789 are equal.
    order, bounds = jaccard_groups(pattern, 0.1, 5)
    assert (order.tolist(), bounds.tolist()) == ([0, 2, 3, 1], [0, 3, 4])


def test_1sa_joins_to_the_growing_union():
    # 23 is as far as can be from 01, but not from the union 0123 after 0123 joined.
    order, bounds = jaccard_groups(rows("01", "0123", "23"), 0.6)
    assert (order.tolist(), bounds.tolist()) == ([0, 1, 2], [0, 3])
    order, bounds = jaccard_groups(rows("01", "23", "0123"), 0.6)
    assert (order.tolist(), bounds.tolist()) == ([0, 2, 1], [0, 2, 3])


def test_minhashes_agree_as_often_as_rows_are_alike():
    pattern = pattern_of(np.array([[1] * 60 + [0] * 20, [0] * 20 + [1] * 60], bool))
    found = signatures(pattern, 2000, 0)
    assert (found[:, 0] == found[:, 1]).mean() == pytest.approx(0.5, abs=0.04)


def test_clusters_take_the_most_similar_pair_first_and_close_when_full():
    # Three equal rows, and one that shares half of its columns with them.
    pattern = rows("0123", "0123", "0123", "0145", "6789")
    assert len(set(clusters(pattern, 3)[:3].tolist())) == 1
    assert clusters(pattern, 3)[3] not in clusters(pattern, 3)[:3]
    assert len(set(clusters(pattern, 4)[:4].tolist())) == 1
    assert clusters(pattern, 4)[4] == 4
    # A cluster of two is full: the third equal row stays without it.
    assert np.bincount(clusters(pattern, 2)).max() == 2


@pytest.mark.parametrize("name", ["minhash", "greedy", "1-SA", "TCA", "best"])
def test_equal_rows_come_together(name: str):
    pattern = pattern_of(shuffled_blocks(16, 4, 8))
    assert panel_points(natural(pattern), pattern, 4) > 3 * pattern.nnz
    assert panel_points(ORDERS[name](pattern), pattern, 4) == pattern.nnz


def test_exchange_restores_blocks_with_noise():
    mask = shuffled_blocks(16, 8, 16) | random_mask(128, 256, 0.002)
    pattern = pattern_of(mask)
    start = natural(pattern)
    found = exchange(start, pattern, 8, (0.9, 0.7, 0.4, 0.15, 0.0), ENOUGH_WORK)
    assert panel_points(found, pattern, 8) < 0.5 * panel_points(start, pattern, 8)


@EXAMPLES
@given(masks(), st.integers(1, 9), st.sampled_from([(0.0,), (0.5, 0.0), (0.9,)]), st.integers(0, 1 << 20))
def test_exchange_is_never_worse(mask: Mask, height: int, softness: tuple[float, ...], budget: int):
    pattern = pattern_of(mask)
    order = by_degree(pattern)
    found = exchange(order, pattern, height, softness, budget)
    assert sorted(found.tolist()) == sorted(order.tolist())
    assert panel_points(found, pattern, height) <= panel_points(order, pattern, height)


def test_exchange_ends_where_no_single_exchange_helps():
    # With as few rows as are tried, the search sees every pair.
    pattern = pattern_of(random_mask(12, 20, 0.2, 3))
    order = exchange(natural(pattern), pattern, 3, (0.0,), ENOUGH_WORK)
    points = panel_points(order, pattern, 3)
    for i in range(len(order)):
        for j in range(i):
            other = order.copy()
            other[[i, j]] = other[[j, i]]
            assert panel_points(other, pattern, 3) >= points


def test_prices_are_whole_and_rise_ever_less():
    for softness in (0.0, 0.3, 0.9):
        price = prices(16, softness)
        assert (price == np.round(price)).all()
        assert (np.diff(price) >= 0).all()
        assert price[0] == 0 < price[1]
        assert (np.diff(price, 2) <= 1).all()
    assert prices(3, 0.0).tolist() == [0, 16, 16, 16]


def test_large_patterns_are_ordered_in_chunks_of_like_rows():
    seen: list[int] = []

    def fill(part: Pattern) -> Order:
        seen.append(part.m)
        return np.arange(part.m, dtype=np.int32)

    pattern = pattern_of(shuffled_blocks(8, 4, 4))
    assert np.array_equal(in_chunks(pattern, 12, fill, 0), by_minhash(pattern))
    assert seen == [12, 12, 8]


def test_the_best_order_is_the_natural_one_where_nothing_is_better():
    pattern = pattern_of(np.kron(np.eye(4, dtype=bool), np.ones((16, 16), bool)))
    for effort in range(4):
        search = Search(pattern, (16, 16, 16), effort)
        assert search.rows(16).tolist() == list(range(64))
        assert [order.tolist() for order in search.tiles()] == [list(range(64))] * 2


def test_tiles_find_shuffled_blocks():
    pattern = pattern_of(shuffled_blocks(8, 16, 16))
    for effort in (1, 2, 3):
        rows, columns = Search(pattern, (16, 16, 16), effort).tiles()
        assert tile_cells(rows, columns, pattern, (16, 16, 16)) == 8


def test_more_effort_finds_no_worse_panels():
    pattern = pattern_of(random_mask(120, 80, 0.08, 1))
    points = [panel_points(best_rows(pattern, 16, level, 0), pattern, 16) for level in LEVELS]
    assert points == sorted(points, reverse=True)
    assert points[1] < 0.95 * points[0]


def test_the_seed_is_all_that_changes_a_search():
    pattern = pattern_of(random_mask(100, 60, 0.1))
    first, second = (best_rows(pattern, 8, LEVELS[3], 7) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("dlmc/tf_mag90_dec1_cross_k", 0.6984),
        ("dlmc/rn_mag80_conv7x7", 0.6088),
        ("vit/deit_tiny_l11_h2", 0.2752),
        ("fem/p4_tet_m460-de", 0.9780),
    ],
)
def test_real_matrices_at_the_default_effort(name: str, share: float):
    """Shares of the dense work that the best known order of each leaves in gathered panels of 16 rows."""
    paths = list((DATA / "matrices").glob(f"{name}.*"))
    if not paths:
        pytest.skip(f"no {name} in {DATA}; the real matrices are not part of the project")
    csr = load_matrix(str(paths[0])).csr
    pattern = Pattern(*csr.shape, csr.indptr.astype(np.int64), csr.indices.astype(np.int32))
    order = best_rows(pattern, 16, LEVELS[1], 0)
    assert panel_points(order, pattern, 16) <= share * pattern.m * pattern.k
