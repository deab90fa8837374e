"""Blocks are estimated to take about what they take after all passes: the best are looked at closely."""

from __future__ import annotations

import numpy as np
import pytest

from sparsecc.cover.laws import Pattern
from sparsecc.cover.lists import gathered_panels
from sparsecc.cover.orders import natural
from sparsecc.crossbar.assign import blocks_of
from sparsecc.crossbar.choose import (
    MARGIN,
    MARGIN_OF_UNITS,
    cheapest_blocks,
    choose,
    covers,
    dense_cost,
    rank,
)
from sparsecc.crossbar.cost import tiles_energy
from sparsecc.crossbar.estimate import block_energies
from sparsecc.crossbar.lowering import lowered, narrow
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.load import load_target

TARGETS = ("isaac128", "puma128", "sme128", "ou9x8", "re2pim")


def target_of(name: str) -> CrossbarTarget:
    target = load_target(name)
    assert isinstance(target, CrossbarTarget)
    return target


def pruned(m: int, k: int, zeros: float) -> tuple[Pattern, np.ndarray]:
    rng = np.random.default_rng(m + k)
    w = np.clip(np.rint(rng.normal(0, 40, (m, k))), -127, 127) * (rng.random((m, k)) > zeros)
    rows, columns = np.nonzero(w)
    indptr = np.searchsorted(rows, np.arange(m + 1)).astype(np.int64)
    return Pattern(m, k, indptr, columns.astype(np.int32)), w[rows, columns].astype(np.int8)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("height", [1, 8, 32])
def test_it_is_near_what_blocks_take(name: str, height: int):
    target, (pattern, data) = target_of(name), pruned(64, 200, 0.9)
    shape = target.array.rows, target.array.cols
    cover = gathered_panels(pattern, 4, target.unit, natural(pattern), height)
    blocks = blocks_of(cover, pattern, data, narrow(target, shape))
    found = tiles_energy(lowered(blocks, target, shape), target)
    margin = MARGIN_OF_UNITS if target.array.ou_cols else MARGIN
    assert 1 / margin < block_energies(blocks, target).sum() / found < margin


@pytest.mark.parametrize("name", TARGETS)
def test_no_cover_that_is_left_out_takes_less(name: str):
    target, (pattern, data) = target_of(name), pruned(64, 160, 0.85)
    limits = dense_cost(pattern, data, 4, target)
    best = choose(pattern, data, 4, target, effort=1).candidates[0].cost
    each = [
        cheapest_blocks(cover, pattern, data, 4, target, limits=limits).cost
        for _, cover in covers(pattern, 4, target, 1, 0)
    ]
    assert rank(best, limits) == min(rank(one, limits) for one in [*each, limits])


def test_blocks_of_nothing():
    assert not len(block_energies([], target_of("isaac128")))
