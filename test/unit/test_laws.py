"""Laws 1 to 7 of a compilation, over all patterns of pruning, targets, types of values and efforts.

That time does not depend on values (law 4) is held by test_compile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import sparsecc
from sparsecc import patterns
from sparsecc.artifact import Artifact
from sparsecc.cover.laws import broken_alignment, broken_cover_law, conflict
from sparsecc.dialects.sparse import SpmmOp
from sparsecc.target import Target
from sparsecc.target.load import PRESETS

Array = NDArray[Any]
Shape = tuple[int, int]

TARGETS = [
    Target.load(path.stem)
    for path in sorted(PRESETS.glob("*.toml"))
    if 'family = "tensor"' in path.read_text(encoding="utf-8")
]
MACHINES = [(target.name, pair[0]) for target in TARGETS for pair in target.types]

# Masks of one shape and seed, some entries kept.
KINDS: dict[str, Callable[[Shape, int], Array]] = {
    "unstructured": lambda s, seed: patterns.unstructured(s, (0.03, 0.1, 0.4)[seed % 3], seed),
    "block": lambda s, seed: patterns.block(s, ((16, 16), (8, 4))[seed % 2], 0.3, seed),
    "vector": lambda s, seed: patterns.vector(s, (4, 16)[seed % 2], 0.15, seed),
    "rows": lambda s, seed: patterns.rows(s, 0.3, seed),
    "columns": lambda s, seed: patterns.columns(s, 0.3, seed),
    "bank": lambda s, seed: patterns.bank((s[0], -(-s[1] // 4) * 4), 4, 1, seed),
    "nm": lambda s, seed: patterns.nm(s, *((2, 4), (1, 8))[seed % 2], seed),
    "vnm": lambda s, seed: patterns.vnm(s, 16, 2, 16, seed),
    "bcr": lambda s, seed: patterns.bcr(s, (32, 32), 0.4, 0.4, seed),
    "hierarchical": lambda s, seed: patterns.hierarchical(
        patterns.block(s, (16, 16), 0.4, seed), patterns.nm(s, 2, 4, seed)
    ),
    "empty": lambda s, seed: np.zeros(s, bool),
    "full": lambda s, seed: np.ones(s, bool),
}


def test_no_generator_is_left_out() -> None:
    generators = {name for name in patterns.__all__ if name[0].islower()} - {"pattern_of", "recognise"}
    assert generators == set(KINDS) - {"empty", "full"}


@pytest.mark.parametrize("kind", list(KINDS))
@settings(max_examples=3, deadline=None, derandomize=True, phases=[Phase.generate])
@given(
    st.integers(0, 1 << 20), st.tuples(st.integers(1, 80), st.integers(8, 100)), st.integers(1, 40),
    st.sampled_from(MACHINES), st.sampled_from([0, 1]),
)  # fmt: skip
def test_a_compilation_keeps_the_laws(
    kind: str, seed: int, shape: Shape, n: int, machine: tuple[str, str], effort: int
) -> None:
    rng = np.random.default_rng(seed)
    mask = KINDS[kind](shape, seed)
    before = rng.integers(1, 9, mask.shape).astype(np.float32) * mask
    after = before * (rng.random(mask.shape) < 0.7)
    target, dtype = machine
    if dtype == "i8":
        before, after = before.astype(np.int8), after.astype(np.int8)
    # Law 3: each stage is interpreted and compared.
    earlier = sparsecc.compile(before, target=target, n=n, dtype=dtype, effort=effort, check_stages=True)
    later = sparsecc.compile(after, target=target, n=n, dtype=dtype, effort=effort, like=earlier)
    keeps_the_laws(earlier, before)
    keeps_the_laws(later, after)
    # Law 6, and once more like what came out.
    assert later.timing.cycles <= earlier.timing.cycles


def keeps_the_laws(artifact: Artifact, given: Array) -> None:
    product = artifact.spmm
    assert isinstance(product, SpmmOp)
    operator, pattern, n = artifact.operator, product.weight.pattern, artifact.operator.shape[1]
    # Law 1: every nonzero once, no meta-op without one, whole unit cells.
    if not artifact.is_dense:
        assert broken_cover_law(artifact.cover, pattern, n) is None
        assert broken_alignment(artifact.cover, product.unit.shape, pattern) is None
    # Law 2.
    assert all(conflict(group.metaops.data) is None for group in product.sets)
    # Law 4: the counters add up.
    report = artifact.timing.report
    for engine in report["engines"].values():
        assert engine["busy"] + engine["drain"] + sum(engine["stalls"].values()) == report["span_cycles"]
    energy = dict(report["energy_pj"])
    assert energy.pop("total") == pytest.approx(sum(energy.values()))
    # Law 5.
    assert report["cycles"] <= artifact.dense.timing.cycles
    # Law 7: what is compiled is what was given.
    assert operator.zeroed == 0
    weight = np.zeros(given.shape, np.float32)
    weight[pattern.row_of(), pattern.indices] = operator.weight.data
    assert np.array_equal(weight, given)


@pytest.mark.parametrize("effort", [2, 3])
def test_more_zeros_never_cost_more_at_high_efforts(effort: int) -> None:
    rng = np.random.default_rng(effort)
    before = rng.integers(1, 9, (36, 40)).astype(np.int8) * patterns.unstructured((36, 40), 0.2, effort)
    after = (before * (rng.random(before.shape) < 0.7)).astype(np.int8)
    earlier = sparsecc.compile(before, n=16, effort=effort)
    later = sparsecc.compile(after, n=16, effort=effort, like=earlier)
    assert later.timing.cycles <= earlier.timing.cycles
