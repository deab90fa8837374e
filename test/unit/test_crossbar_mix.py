"""Arrays of several shapes from one pool of cells."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import sparsecc
from sparsecc.cover.laws import Pattern
from sparsecc.cover.lists import gathered_panels
from sparsecc.cover.orders import natural
from sparsecc.crossbar.assign import blocks_of, pack
from sparsecc.crossbar.bundle import bundles, columns_of
from sparsecc.crossbar.choose import cheapest_blocks, dense_cost, rank
from sparsecc.crossbar.cost import cost
from sparsecc.crossbar.dense import array_count, spread
from sparsecc.crossbar.faults import Fault
from sparsecc.crossbar.lowering import lowered, narrow
from sparsecc.crossbar.mix import mixed
from sparsecc.crossbar.place import broken_places
from sparsecc.crossbar.pool import Pool
from sparsecc.crossbar.tiles import Tile, Tiles, dense_of
from sparsecc.crossbar_compiler import CrossbarArtifact
from sparsecc.dialects import tu, xbar
from sparsecc.errors import UserError
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.load import load_target

SHAPES = ((16, 16), (16, 8), (8, 16), (8, 8), (4, 4))


def tile(rows: int, columns: int, number: int) -> Tile:
    levels = np.full((rows, columns), 1 + number % 3, np.int8)
    return Tile(np.arange(rows, dtype=np.int32), np.arange(columns, dtype=np.int32), levels, number, 0)


def test_a_pool_numbers_its_arrays_through():
    pool = Pool(((2, (16, 16)), (3, (4, 4))))
    assert (pool.count, pool.cells) == (5, 560)
    assert [pool.shape_of(i) for i in (0, 1, 2, 4, 5)] == [(16, 16), (16, 16), (4, 4), (4, 4), (16, 16)]
    assert pool.cells_of([1, 2, 3]) == 288


def test_small_bundles_leave_cells_for_more_arrays():
    tiles = [tile(16, 16, 0), *(tile(4, 4, i) for i in range(1, 17))]
    found = mixed(tiles, SHAPES, 512, [1.0] * 17)
    assert found is not None
    # Two arrays of 16 x 16 have as many cells, and would be read nine times.
    assert found[1].groups == ((1, (16, 16)), (16, (4, 4)))
    assert len({t.array for t in found[0]}) == 17


def test_what_does_not_fit_is_told():
    assert mixed([tile(16, 16, i) for i in range(3)], SHAPES, 512, [1.0] * 3) is None
    assert mixed([], SHAPES, 512, []) is None


@given(
    st.lists(st.tuples(st.integers(1, 16), st.integers(1, 16), st.integers(1, 3)), min_size=1, max_size=30),
    st.integers(1, 12),
    st.booleans(),
)
def test_all_lie_in_arrays_that_hold_them(sizes: list[tuple[int, int, int]], arrays: int, shares: bool):
    tiles = [tile(rows, columns, i) for i, (rows, columns, _) in enumerate(sizes)]
    if shares and len(tiles) > 1:
        tiles[-1] = replace(tiles[0], block=len(tiles) - 1, image=0)
    cells, times = 256 * arrays, [float(time) for _, _, time in sizes]
    found = mixed(tiles, SHAPES, cells, times)
    if found is None:
        # Even side by side and below each other they need more cells than one large array for each.
        assert len(tiles) > arrays
        return
    placed, pool = found
    assert pool.cells <= cells
    assert broken_places(Tiles.of(placed), pool.shape_of) is None
    assert {t.array for t in placed} == set(range(pool.count))
    assert [replace(t, array=-1, row=0, column=0) for t in placed] != placed
    assert (dense_of(Tiles.of(placed), (16, 16)) == dense_of(Tiles.of(tiles), (16, 16))).all()


def sizes_of(artifact: CrossbarArtifact) -> list[tuple[int, int]]:
    return [(b[0].rows, columns_of(b)) for b in bundles(artifact.placed.tiles)]


def ragged(seed: int) -> NDArray[np.int8]:
    """Groups of rows that use very different numbers of columns."""
    rng = np.random.default_rng(seed)
    w = np.zeros((48, 150), np.int8)
    for first, used in zip(range(0, 48, 8), (150, 130, 60, 33, 12, 3), strict=True):
        columns = rng.choice(150, used, replace=False)
        w[first : first + 8, columns] = rng.integers(-127, 128, (8, used))
    return w


@pytest.fixture(scope="module")
def artifact() -> CrossbarArtifact:
    found = sparsecc.compile(ragged(3), target="re2pim", n=5, effort=0, check_stages=True)
    assert isinstance(found, CrossbarArtifact)
    return found


def test_blocks_of_one_matrix_lie_in_arrays_of_several_shapes(artifact: CrossbarArtifact):
    report = artifact.report
    assert report.exact
    assert len(report.arrays_by_shape) > 1
    assert sum(report.arrays_by_shape.values()) == report.arrays
    assert artifact.placed.mixed is not None
    # One XB.SHAPE for each shape, its arrays numbered on from those before.
    program = next(s.module for s in artifact.stages if s.name == "xbar-schedule")
    count = sum(isinstance(op, xbar.ShapeOp) for op in program.walk())
    assert count == len(artifact.placed.mixed.groups)
    assert any(isinstance(op, tu.LookupOp) for op in program.walk())
    assert all(
        any(rows <= s[0] and columns <= s[1] for s in artifact.target.array.shapes)
        for rows, columns in sizes_of(artifact)
    )
    assert dict(report.rows())["arrays"].startswith(f"{report.arrays}: 1 of ")


@pytest.mark.parametrize("seed", range(3))
def test_no_single_shape_takes_less(seed: int):
    w, n = ragged(seed), 5
    rows, columns = np.nonzero(w)
    data = w[rows, columns]
    target = cast(CrossbarTarget, load_target("re2pim"))
    pattern = Pattern(
        w.shape[0], w.shape[1], np.searchsorted(rows, np.arange(len(w) + 1)), columns.astype(np.int32)
    )
    space = pattern.m, n, pattern.k
    limits = dense_cost(pattern, data, n, target)
    cover = gathered_panels(pattern, n, target.unit, natural(pattern), 8)
    best = cheapest_blocks(cover, pattern, data, n, target, limits=limits).cost
    singles: list[tuple[bool, float, float]] = []
    for shape in target.array.shapes:
        few = narrow(target, shape)
        blocks = blocks_of(cover, pattern, data, few)
        for chosen in (blocks, pack(blocks, few, pattern.k, pattern.m)):
            tiles = spread(lowered(chosen, target, shape), target, shape, space)
            singles.append(rank(cost(tiles, target, space, array_count(target, shape)), limits)[:3])
    assert rank(best, limits)[:3] <= min(singles)
    assert best.cycles <= limits.cycles


def test_faults_are_in_arrays_of_their_shapes(artifact: CrossbarArtifact):
    pool = artifact.pool
    rows, columns = pool.shape_of(pool.count - 1)
    assert (rows, columns) != pool.shape_of(0)
    last = Fault(pool.count - 1, rows - 1, columns - 1, 3)
    assert artifact.stuck_devices([last])
    with pytest.raises(UserError, match=f"beyond array {pool.count - 1} of {rows} x {columns} cells"):
        artifact.stuck_devices([replace(last, row=rows)])
    with pytest.raises(UserError, match=f"made arrays 0 to {pool.count - 1} of the cells of target re2pim: "):
        artifact.stuck_devices([replace(last, array=pool.count)])
