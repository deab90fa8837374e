"""Bicliques on units with indexed addressing: schedules, programs, values, and what they are worth."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.context import Context
from xdsl.rewriter import Rewriter

import sparsecc
from sparsecc.codegen.folder import Check
from sparsecc.cover.laws import Pattern, broken_cover_law
from sparsecc.cover.metaops import MetaOps
from sparsecc.cover.rows import has_bicliques
from sparsecc.dialects.sparse import CoverOp, SpmmOp
from sparsecc.errors import UserError
from sparsecc.interpreters import tu as tu_interpreter
from sparsecc.model import model_module
from sparsecc.operator import Spmm, operator_of
from sparsecc.passes.convert_linalg_to_sparse import ConvertLinalgToSparsePass
from sparsecc.passes.convert_sparse_to_tu import ConvertSparseToTuPass
from sparsecc.passes.sparse_group import SparseGroupPass
from sparsecc.schedule.indexed import IndexedPlan, best_indexed_plan
from sparsecc.schedule.planning import plan_cover
from sparsecc.target import Target

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "matrices" / "dlmc"
PRESET = Target.load("gemmini16x")


def with_memory(spad_rows: int, acc_rows: int) -> Target:
    """The preset with other memories."""
    spad = dataclasses.replace(PRESET.spad, bytes=spad_rows * PRESET.row_bytes)
    acc = dataclasses.replace(PRESET.acc, bytes=acc_rows * PRESET.acc_row_bytes)
    return dataclasses.replace(PRESET, spad=spad, acc=acc)


def random_operator(rng: np.random.Generator, m: int, k: int, n: int, density: float) -> Spmm:
    """Integers in -5..5, few of them nonzero."""
    values = rng.integers(-5, 6, (m, k)) * (rng.random((m, k)) < density)
    return operator_of(values.astype(np.float32), n, PRESET)


def pattern_of(operator: Spmm) -> Pattern:
    csr = operator.weight
    return Pattern(*csr.shape, csr.indptr.astype(np.int64), csr.indices.astype(np.int32))


def any_rows(operator: Spmm, rng: np.random.Generator, block: int) -> MetaOps:
    """For every 16 columns their own grouping of the rows that need them, inside blocks of rows."""
    needed = operator.weight.toarray() != 0
    m, k = needed.shape
    parts: list[tuple[list[int], range, list[int]]] = []
    for first in range(0, m, block):
        for column in range(0, k, 16):
            columns = list(range(column, min(k, column + 16)))
            order = rng.permutation(min(m, first + block) - first) + first
            rows = order.tolist()
            rows = [r for r in rows if needed[r, columns].any()]
            parts += [(rows[i : i + 16], range(operator.n), columns) for i in range(0, len(rows), 16)]
    return MetaOps.of(parts)


def program_result(
    operator: Spmm, cover: MetaOps, target: Target, folder: Path
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.int32]], Check]:
    """What the machine program of a cover computes, and what it must compute."""
    path = folder / "target.toml"
    path.write_text(target.to_toml())
    module, context = model_module(operator, target), Context()
    ConvertLinalgToSparsePass(target=str(path)).apply(context, module)
    spmm = next(op for op in module.walk() if isinstance(op, SpmmOp))
    Rewriter.replace_op(spmm, spmm.with_body([CoverOp(cover)]))
    SparseGroupPass().apply(context, module)
    module.verify()
    ConvertSparseToTuPass(target=str(path)).apply(context, module)
    module.verify()
    check = operator.reference(operator.random_inputs(1))
    return tu_interpreter.run(module, tuple(check.inputs.values()), target), check


# Memories in which all weights of a block stay, in which they stream, and in which X has one or two slots.
KINDS: dict[tuple[int, int], set[tuple[bool, int]]] = {
    (16384, 1024): {(True, 1), (True, 3), (True, 6)},
    (1024, 1024): {(False, 1), (True, 1), (True, 3), (True, 6)},
    (704, 128): {(True, 1), (True, 2), (True, 3)},
    (576, 256): {(False, 1), (True, 1), (True, 2)},
}


@pytest.mark.parametrize(("spad_rows", "acc_rows"), list(KINDS))
def test_programs_compute_the_product(spad_rows: int, acc_rows: int, tmp_path: Path):
    target = with_memory(spad_rows, acc_rows)
    rng = np.random.default_rng(spad_rows + acc_rows)
    kinds: set[tuple[bool, int]] = set()
    for n in (1, 16, 40, 90):
        operator = random_operator(rng, int(rng.integers(40, 160)), int(rng.integers(30, 120)), n, 0.15)
        cover = any_rows(operator, rng, 48)
        assert has_bicliques(cover)
        assert broken_cover_law(cover, pattern_of(operator), n) is None
        plan = plan_cover(cover, pattern_of(operator), n, target)
        assert isinstance(plan, IndexedPlan)
        kinds.add((plan.knobs.panels_inside, plan.knobs.x_slots))
        found, check = program_result(operator, cover, target, tmp_path)
        assert np.array_equal(found, check.expected)
    assert kinds == KINDS[spad_rows, acc_rows], kinds


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 100), st.integers(1, 100), st.integers(1, 40))
def test_blocks_hold_every_row_once_and_no_step_leaves_its_block(seed: int, m: int, k: int, n: int):
    rng = np.random.default_rng(seed)
    operator = random_operator(rng, m, k, n, 0.2)
    cover = any_rows(operator, rng, 32)
    plan = best_indexed_plan(cover, k, m, n, PRESET)
    assert np.array_equal(np.sort(np.concatenate(plan.blocks)), np.arange(m))
    for b, rows in enumerate(plan.blocks):
        assert len(rows) <= plan.knobs.block_rows
        for i in range(int(plan.block_first[b]), int(plan.block_first[b + 1])):
            assert set(np.asarray(plan.cells.rows(i)).tolist()) <= set(rows.tolist())


def test_without_the_capability_bicliques_are_refused():
    rng = np.random.default_rng(3)
    operator = random_operator(rng, 64, 64, 16, 0.3)
    with pytest.raises(UserError, match="stores that add, which target gemmini16 does not have"):
        plan_cover(any_rows(operator, rng, 64), pattern_of(operator), 16, Target.load("gemmini16"))


def test_memories_that_are_too_small_are_named():
    rng = np.random.default_rng(4)
    operator = random_operator(rng, 64, 400, 16, 0.3)
    with pytest.raises(UserError, match="do not hold 400 rows of X"):
        plan_cover(any_rows(operator, rng, 64), pattern_of(operator), 16, with_memory(304, 256))


@pytest.mark.parametrize(
    ("name", "least"),
    [("tf_mag80_enc1_ffn1", 1.6), ("tf_mag90_enc0_ffn1", 2.6), ("tf_mag95_enc2_ffn2", 4.0)],
)
def test_bicliques_pay_on_pruned_layers(name: str, least: float):
    path = DATA / f"{name}.smtx.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    report = sparsecc.compile(path, target="gemmini16x", n=128).report
    assert report.exact
    assert report.speedup is not None
    assert report.speedup >= least


@pytest.mark.parametrize(("m", "k", "n", "density"), [(1200, 100, 64, 0.03), (400, 300, 128, 0.1)])
def test_the_model_foretells_the_simulator(m: int, k: int, n: int, density: float):
    """Blocks have equal work, so that storing one and computing the next overlap as the model says."""
    rng = np.random.default_rng(m)
    weights = (rng.integers(1, 9, (m, k)) * (rng.random((m, k)) < density)).astype(np.int8)
    artifact = sparsecc.compile(weights, target="gemmini16x", n=n, plan="biclique", effort=0)
    assert artifact.predicted().predicted_cycles == pytest.approx(artifact.timing.cycles, rel=0.05)
