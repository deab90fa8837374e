"""Layouts and the memory plan of networks, against numpy and against first principles."""

from __future__ import annotations

import math
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sparsecc.network.layout import Layout, features_first
from sparsecc.network.memory import ALIGNMENT, Lifetime, lower_bound, place


def held(layout: Layout) -> NDArray[np.int64]:
    """A tensor whose elements say where they lie in memory, by axes of the network."""
    count = math.prod(layout.shape)
    return np.arange(count).reshape(layout.extents).transpose(np.argsort(layout.order))


SHAPES = st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4).map(tuple)


@given(SHAPES, st.randoms(use_true_random=False))
def test_transposing_moves_nothing(shape: tuple[int, ...], random: Random):
    order, perm = (random.sample(range(len(shape)), len(shape)) for _ in range(2))
    layout = Layout(shape, tuple(order))
    found = layout.transposed(perm)
    assert (held(found) == held(layout).transpose(perm)).all()
    assert found.extents == layout.extents


@given(SHAPES, SHAPES, st.randoms(use_true_random=False))
def test_a_free_reshape_is_numpys(shape: tuple[int, ...], other: tuple[int, ...], random: Random):
    order = tuple(random.sample(range(len(shape)), len(shape)))
    layout = Layout(shape, order)
    factors = [f for e in shape for f in ((2, 2) if e == 4 else (2, 3) if e == 6 else (e,)) if f > 1]
    cuts = sorted(random.sample(range(1, len(factors) + 1), min(len(factors), 2))) if factors else []
    wanted = [math.prod(factors[a:b]) for a, b in zip([0, *cuts], [*cuts, len(factors)], strict=True)]
    if (found := layout.reshaped(wanted)) is not None:
        assert (held(found) == held(layout).reshape(wanted)).all()
    elif layout.same_memory(range(len(shape))):
        raise AssertionError("a row-major tensor takes every shape")


def test_flattening_an_image_is_free_with_features_first():
    image = Layout((8, 3, 5, 7), features_first(4))
    flat = image.reshaped((8, 105))
    assert flat is not None
    assert flat.order == (1, 0)
    assert Layout.plain((8, 3, 5, 7)).reshaped((8, 105)) == Layout.plain((8, 105))
    # Joining the batch with the channels is not.
    assert image.reshaped((24, 35)) is None


@given(SHAPES, st.randoms(use_true_random=False))
def test_axes_together_are_a_cube(shape: tuple[int, ...], random: Random):
    layout = Layout(shape, tuple(random.sample(range(len(shape)), len(shape))))
    first = random.randrange(len(shape))
    axes = list(range(first, random.randint(first + 1, len(shape))))
    if (found := layout.around(axes)) is None:
        return
    kept = [a for a in layout.order if a not in axes]
    cube = np.arange(math.prod(shape)).reshape(found)
    sums = held(layout).transpose(*kept, *axes).reshape(-1, found[1]).sum(1)
    assert sorted(cube.sum(1).reshape(-1).tolist()) == sorted(sums.tolist())


LIVES = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 9), st.integers(0, 9)), max_size=12)


@given(LIVES)
def test_arrays_alive_together_do_not_overlap(lives: list[tuple[int, int, int]]):
    arrays = [Lifetime(size, min(a, b), max(a, b)) for size, a, b in lives]
    offsets, size = place(arrays)
    assert all(o % ALIGNMENT == 0 and o + a.size <= size for o, a in zip(offsets, arrays, strict=True))
    for i, a in enumerate(arrays):
        for j, b in enumerate(arrays[:i]):
            together = a.first <= b.last and b.first <= a.last
            apart = offsets[i] + a.size <= offsets[j] or offsets[j] + b.size <= offsets[i]
            assert not together or apart or 0 in (a.size, b.size)
    assert lower_bound(arrays) <= size <= sum(-(-a.size // ALIGNMENT) * ALIGNMENT for a in arrays)


def test_memory_is_used_again():
    assert place([Lifetime(64, 0, 1), Lifetime(64, 1, 2), Lifetime(64, 2, 3)])[1] == 128
