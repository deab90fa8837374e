"""Biclique covers: who owns what by brute force, sizes, row blocks, and the counts on real pruned weights."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sparsecc.cover.biclique import BicliqueCover, bicliques
from sparsecc.cover.cells import Unit, count_cells
from sparsecc.cover.compact import window_compaction
from sparsecc.cover.laws import Pattern, broken_cover_law

Mask = NDArray[np.bool_]

N = 5
DLMC = Path(__file__).parents[2].parent / "shared" / "data" / "matrices" / "dlmc"
EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True)

# Share of the dense 16 x 16 tiles that a first greedy trial left, and the part of it that ours may leave.
TRIAL = {
    "tf_mag70_enc0_self_v": (0.763, 0.83),
    "tf_mag80_enc1_ffn1": (0.560, 0.87),
    "tf_mag90_enc0_ffn1": (0.340, 0.91),
    "tf_rand90_enc0_ffn1": (0.349, 0.91),
    "rn_mag90_g3_3x3": (0.357, 0.90),
    "tf_mag95_enc2_ffn2": (0.207, 0.92),
    "tf_mag98_dec2_cross_q": (0.129, 0.93),
}


def pattern_of(mask: Mask) -> Pattern:
    rows, columns = np.nonzero(mask)
    indptr = np.searchsorted(rows, range(mask.shape[0] + 1)).astype(np.int64)
    return Pattern(mask.shape[0], mask.shape[1], indptr, columns.astype(np.int32))


@st.composite
def masks(draw: st.DrawFn) -> Mask:
    """Random, shuffled blocks, banded, empty rows and columns, all zero, all one; any shape from 1 x 1."""
    m, k = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    match draw(st.sampled_from(["random", "blocks", "band", "rows", "columns", "zero", "one"])):
        case "random":
            return rng.random((m, k)) < draw(st.sampled_from([0.02, 0.1, 0.5]))
        case "blocks":
            b = draw(st.sampled_from([2, 4, 8]))
            blocks = np.kron(rng.random((-(-m // b), -(-k // b))) < 0.4, np.ones((b, b), bool))[:m, :k]
            return blocks[rng.permutation(m)][:, rng.permutation(k)].astype(bool)
        case "band":
            return np.abs(np.arange(m)[:, None] - np.arange(k)[None, :]) <= draw(st.integers(0, 4))
        case "rows":
            return (rng.random((m, 1)) < 0.4) & (rng.random((m, k)) < 0.7)
        case "columns":
            return (rng.random((1, k)) < 0.4) & (rng.random((m, k)) < 0.7)
        case "zero":
            return np.zeros((m, k), bool)
        case _:
            return np.ones((m, k), bool)


sides = st.sampled_from([1, 2, 3, 4, 8, 16])
units = st.tuples(sides, st.just(N), sides)


def mask_of(name: str) -> Mask:
    from sparsecc.importers import load_matrix

    return load_matrix(str(next(DLMC.glob(f"{name}.smtx*")))).csr.toarray() != 0


def broken(cover: BicliqueCover, mask: Mask, um: int) -> str | None:
    """What is wrong with a cover, found point by point."""
    owner: dict[tuple[int, int], int] = {}
    metaops = cover.metaops
    for i in range(len(metaops)):
        rows, columns = [int(r) for r in metaops.rows(i)], [int(c) for c in metaops.columns(i)]
        if len(rows) > um or len(set(rows)) != len(rows) or len(set(columns)) != len(columns):
            return f"meta-op {i} has rows {rows}, columns {columns}"
        if metaops.positions(i) != range(N):
            return f"meta-op {i} has positions {metaops.positions(i)}"
        block = set(cover.row_blocks[int(cover.row_block[i])].tolist())
        if not block.issuperset(rows):
            return f"meta-op {i} leaves its row block"
        own = [(r, c) for r in rows for c in columns if (r, c) not in owner and mask[r, c]]
        if not own:
            return f"meta-op {i} owns no nonzero"
        if {r for r, _ in own} != set(rows) or {c for _, c in own} != set(columns):
            return f"meta-op {i} has a row or column without a nonzero of its own"
        owner.update(dict.fromkeys(own, i))
    if len(owner) != int(mask.sum()):
        return f"{len(owner)} of {int(mask.sum())} nonzeros are owned"
    return None


@EXAMPLES
@given(masks(), units, st.integers(0, 1), st.integers(0, 3))
def test_every_nonzero_has_one_owner_and_every_metaop_owns_one(
    mask: Mask, unit: Unit, effort: int, seed: int
):
    pattern = pattern_of(mask)
    cover = bicliques(pattern, N, unit, effort=effort, seed=seed)
    assert broken(cover, mask, unit[0]) is None
    windows = window_compaction(pattern, N, unit, unit[0])
    assert count_cells(cover.metaops, unit) <= count_cells(windows, unit)


@EXAMPLES
@given(masks(), units, st.integers(1, 50))
def test_metaops_stay_inside_row_blocks(mask: Mask, unit: Unit, max_rows: int):
    pattern = pattern_of(mask)
    cover = bicliques(pattern, N, unit, max_rows=max_rows)
    assert broken(cover, mask, unit[0]) is None
    assert all(len(block) <= max_rows for block in cover.row_blocks)
    rows = np.concatenate([*cover.row_blocks, np.zeros(0, np.int32)])
    assert sorted(rows.tolist()) == np.flatnonzero(mask.any(axis=1)).tolist()
    windows = window_compaction(pattern, N, unit, min(unit[0], max_rows))
    assert count_cells(cover.metaops, unit) <= count_cells(windows, unit)


@EXAMPLES
@given(masks(), units, st.integers(1, 4), st.integers(0, 99))
def test_row_blocks_can_be_given(mask: Mask, unit: Unit, count: int, seed: int):
    order = np.random.default_rng(seed).permutation(len(mask))
    blocks = np.array_split(order, count)
    cover = bicliques(pattern_of(mask), N, unit, row_blocks=blocks)
    assert broken(cover, mask, unit[0]) is None
    assert [b.tolist() for b in cover.row_blocks] == [b.tolist() for b in blocks]


@pytest.mark.parametrize("side", [16, 32, 128])
def test_the_same_input_gives_the_same_cover(side: int):
    mask = np.random.default_rng(1).random((200, 150)) < 0.1
    unit = (side, N, side)
    covers = [bicliques(pattern_of(mask), N, unit, seed=seed) for seed in (3, 3)]
    assert covers[0].metaops == covers[1].metaops
    assert broken(covers[0], mask, side) is None


def test_planted_bicliques_are_found():
    """Eight disjoint full 16 x 16 blocks in shuffled rows and columns take eight cells."""
    rng = np.random.default_rng(5)
    mask = np.kron(np.eye(8, dtype=bool), np.ones((16, 16), bool)).astype(bool)
    mask = mask[rng.permutation(128)][:, rng.permutation(128)]
    assert count_cells(bicliques(pattern_of(mask), N, (16, N, 16)).metaops, (16, N, 16)) == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"effort": 4}, "effort 4 is not one of 0 to 3"),
        ({"max_rows": 0}, "max_rows 0 is not at least 1"),
        ({"max_rows": 2, "row_blocks": [np.arange(3)]}, "not both"),
        ({"row_blocks": [np.arange(2)]}, "lack row 2"),
        ({"row_blocks": [np.arange(3), np.arange(1, 2)]}, "hold row 1 twice"),
        ({"row_blocks": [np.arange(4)]}, "outside 0..2"),
    ],
)
def test_wrong_options(options: dict[str, int], message: str):
    with pytest.raises(ValueError, match=message):
        bicliques(pattern_of(np.ones((3, 3), bool)), N, (2, N, 2), **options)  # pyright: ignore[reportArgumentType]


needs_data = pytest.mark.skipif(not DLMC.exists(), reason="the matrices of ../shared/data are not there")


@needs_data
@pytest.mark.parametrize("name", list(TRIAL))
def test_real_matrices_take_fewer_cells_than_the_trial(name: str):
    mask = mask_of(name)
    m, k = mask.shape
    cover = bicliques(pattern_of(mask), N, (16, N, 16))
    trial, part = TRIAL[name]
    assert count_cells(cover.metaops, (16, N, 16)) <= part * trial * -(-m // 16) * -(-k // 16)
    assert broken_cover_law(cover.metaops, pattern_of(mask), N) is None


@needs_data
def test_similar_rows_share_a_block():
    """On a real layer, blocks of 256 clustered rows take fewer cells than blocks of consecutive rows."""
    mask = mask_of("tf_mag90_enc0_ffn1")
    pattern, unit = pattern_of(mask), (16, N, 16)
    in_order = np.array_split(np.arange(len(mask)), 8)
    clustered = bicliques(pattern, N, unit, effort=0, max_rows=256)
    plain = bicliques(pattern, N, unit, effort=0, row_blocks=in_order)
    assert count_cells(clustered.metaops, unit) < count_cells(plain.metaops, unit)
