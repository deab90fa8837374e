"""Products with a mask: laws of their covers, values at every level, programs, plans, library, command."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp  # pyright: ignore[reportMissingTypeStubs]
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects.builtin import StringAttr
from xdsl.utils.exceptions import PassFailedException, VerifyException

import sparsecc
from sparsecc.cover.cells import split
from sparsecc.cover.laws import Pattern, broken_alignment, broken_cover_law, conflict
from sparsecc.cover.lift import ORDERS, lift
from sparsecc.cover.metaops import K_MAP, MetaOps
from sparsecc.cover.plane import broken_whole_k, exchanged, exchanged_unit
from sparsecc.dialects.sparse import CoverOp, SddmmOp
from sparsecc.driver.cli import main
from sparsecc.errors import UserError
from sparsecc.interpreters.tu import run
from sparsecc.model import model_module
from sparsecc.operator import masked_operator_of
from sparsecc.passes.convert_linalg_to_sddmm import ConvertLinalgToSddmmPass
from sparsecc.passes.convert_sparse_to_tu import ConvertSparseToTuPass
from sparsecc.passes.sparse_compact import SparseCompactPass
from sparsecc.pipeline import tensor_unit
from sparsecc.schedule.sddmm import choose_cells, mask_bound, plan_mask
from sparsecc.target import Target
from sparsecc.target.sections import Memory

Array = NDArray[Any]

TARGETS = ("gemmini16", "tpu128", "ascend910", "scalesim-ws16")
VIT = Path(__file__).parents[2].parent / "shared" / "data" / "matrices" / "vit"
MASKS = ("deit_tiny_l00_h0", "deit_tiny_l06_h1", "deit_tiny_l11_h2")
needs_data = pytest.mark.skipif(not VIT.is_dir(), reason=f"no attention masks: {VIT} is missing")


def pattern_of(mask: Array) -> Pattern:
    """The pattern of a mask given as booleans."""
    rows, columns = np.nonzero(mask)
    indptr = np.searchsorted(rows, range(mask.shape[0] + 1)).astype(np.int64)
    return Pattern(mask.shape[0], mask.shape[1], indptr, columns.astype(np.int32))


def mask_of(seed: int, m: int, n: int, kind: str) -> Array:
    """A mask of a kind of sparsity."""
    rng = np.random.default_rng(seed)
    match kind:
        case "random":
            return rng.random((m, n)) < 0.05
        case "band":
            return np.abs(np.subtract.outer(np.arange(m), np.arange(n))) < 3
        case "row":
            return np.broadcast_to(np.arange(m)[:, None] == m // 2, (m, n))
        case "zero":
            return np.zeros((m, n), bool)
        case _:
            return np.ones((m, n), bool)


kinds = st.sampled_from(["random", "band", "row", "zero", "one"])
extents = st.integers(1, 50)


# Covers.


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.integers(0, 99), st.tuples(extents, extents, extents), kinds,
    st.tuples(*[st.sampled_from([1, 2, 3, 8, 16])] * 3), st.sampled_from(ORDERS), st.integers(0, 2),
)  # fmt: skip
def test_lowered_and_lifted_covers_keep_the_laws(
    seed: int, shape: tuple[int, int, int], kind: str, unit: tuple[int, int, int], order: str, gap: int
):
    m, n, k = shape
    mask = mask_of(seed, m, n, kind)
    pattern = pattern_of(mask)
    cells = split(exchanged(MetaOps.whole(m, n, k)), pattern, exchanged_unit(unit))
    lifted = lift(cells, order, 0 if order == "square-first" else gap * unit[1], 0.5)
    for cover in (exchanged(cells), exchanged(lifted)):
        assert broken_whole_k(cover, k) is None
        assert broken_cover_law(exchanged(cover), pattern, k) is None
        assert broken_alignment(exchanged(cover), exchanged_unit(unit), pattern) is None
        assert conflict(cover) is None
        assert exchanged(exchanged(cover)) == cover
    computed = np.zeros((m, n), int)
    for i in range(len(cells)):
        positions = exchanged(cells).positions(i)
        computed[np.asarray(cells.rows(i)), positions.start : positions.stop] += 1
    assert computed.max(initial=0) <= 1
    assert (computed[mask] == 1).all()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(*[st.integers(0, 6)] * 4), max_size=5))
def test_conflicts_are_found(boxes: list[tuple[int, int, int, int]]):
    metaops = MetaOps.of([(range(r, r + h + 1), range(c, c + w + 1), range(4)) for r, h, c, w in boxes])
    written = np.zeros((16, 16), int)
    for r, h, c, w in boxes:
        written[r : r + h + 1, c : c + w + 1] += 1
    found = conflict(metaops)
    assert (found is not None) == bool((written > 1).any())
    if found is not None:
        i, j, row = found
        assert i != j
        assert row in metaops.rows(i)
        assert row in metaops.rows(j)
        assert set(metaops.positions(i)) & set(metaops.positions(j))


# Values.


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.integers(0, 99),
    st.tuples(extents, extents, extents),
    kinds,
    st.sampled_from(["none", "dense", "auto"]),
)
def test_every_stage_computes_the_points(
    target: str, seed: int, shape: tuple[int, int, int], kind: str, plan: str
):
    m, n, k = shape
    artifact = sparsecc.compile(
        mask_of(seed, m, n, kind).astype(np.int8), op="sddmm", k=k, target=target, plan=plan, seed=seed,
        check_stages=True, confirm=False,
    )  # fmt: skip
    assert artifact.stages[-1].name == "convert-tu-to-c"
    assert artifact.operator.shape == (m, n, k)


def small(target: Target, spad: int, acc: int) -> Target:
    """The target with memories of so many rows."""
    return replace(target, spad=Memory(spad * target.row_bytes), acc=Memory(acc * target.acc_row_bytes))


@pytest.mark.parametrize("name", ["gemmini16", "ascend910"])
@pytest.mark.parametrize(("spad", "acc"), [(64, 32), (96, 64), (160, 48), (512, 1024)])
def test_small_memories_cut_k_and_load_again(name: str, spad: int, acc: int, tmp_path: Path):
    target = small(Target.load(name), spad, acc)
    path = tmp_path / "small.toml"
    path.write_text(target.to_toml())
    mask = mask_of(1, 90, 70, "random")
    operator = masked_operator_of(mask.astype(np.int8), 100, target)
    inputs = operator.random_inputs(3)
    check = operator.reference(inputs)
    module = model_module(operator, target)
    for step in tensor_unit(str(path), "none")[:-2]:
        step.apply(Context(), module)
    found = run(module, inputs, target)
    assert (
        np.abs(found.astype(np.float64) - check.expected)[mask]
        <= np.broadcast_to(check.bound, mask.shape)[mask]
    ).all()


def test_memories_may_be_too_small():
    target = small(Target.load("gemmini16"), 48, 32)
    with pytest.raises(UserError, match="has 48 scratchpad rows and 32 accumulator rows, too few"):
        plan_mask(MetaOps.whole(90, 70, 100), (90, 70, 100), target)


def test_the_dense_plan_computes_every_point():
    mask = mask_of(0, 30, 40, "random")
    artifact = sparsecc.compile(mask.astype(np.int8), op="sddmm", k=20, plan="dense")
    assert artifact.is_dense
    assert len(artifact.cover) == 1
    module = next(stage for stage in artifact.stages if stage.name == "convert-sparse-to-tu").module
    a, b = artifact.operator.random_inputs(1)
    everything = run(module, (a, b), artifact.target)
    assert np.array_equal(everything, a.astype(np.int32) @ b.astype(np.int32))


# The simulator.


@pytest.mark.parametrize("kind", ["random", "row", "zero", "one"])
@pytest.mark.parametrize("target", TARGETS)
def test_programs_compute_the_points(target: str, kind: str):
    mask = mask_of(2, 70, 90, kind)
    artifact = sparsecc.compile(sp.csr_matrix(mask), op="sddmm", k=33, target=target, name=kind)
    report = artifact.report
    assert report.exact
    assert report.nnz == mask.sum()
    assert report.cycles is not None
    assert report.dense_cycles is not None
    assert report.cycles_bound <= report.cycles <= report.dense_cycles
    assert report.cells + report.refused_cells == artifact.dense.report.cells
    a, b = artifact.operator.random_inputs(9)
    c = artifact(a, b)
    assert (c[~mask] == 0).all()
    check = artifact.operator.reference((a, b))
    assert (np.abs(c.astype(np.float64) - check.expected) <= check.bound).all()


@needs_data
@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("target", TARGETS)
def test_attention_masks_run_and_are_never_slower_than_dense(name: str, target: str):
    artifact = sparsecc.compile(str(VIT / f"{name}.npz"), op="sddmm", k=64, target=target, check_stages=True)
    report = artifact.report
    assert report.exact
    assert report.shape == (197, 64, 197)
    assert report.cycles is not None
    assert report.dense_cycles is not None
    assert report.cycles_bound <= report.cycles <= report.dense_cycles
    # Refused cells pay, by a quarter at least of what their number allows, where cells are small enough.
    if target == "tpu128":
        assert report.plan == "dense"
    else:
        allowed = (report.cells + report.refused_cells) / report.cells
        assert report.dense_cycles / report.cycles > 1 + (allowed - 1) / 4
    assert abs(report.predicted_cycles / report.cycles - 1) < 0.2


def test_more_zeros_never_cost_more():
    rng = np.random.default_rng(4)
    kept = rng.random((60, 60)) < 0.2
    cycles: list[int] = []
    for _ in range(5):
        artifact = sparsecc.compile(kept.astype(np.int8), op="sddmm", k=32, confirm=False)
        cycles.append(artifact.timing.cycles)
        kept = kept & (rng.random(kept.shape) < 0.5)
    assert cycles == sorted(cycles, reverse=True)


# Plans.


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 99), st.tuples(extents, extents, extents), kinds, st.sampled_from(TARGETS))
def test_no_plan_is_below_the_bound(seed: int, shape: tuple[int, int, int], kind: str, name: str):
    m, n, k = shape
    target = Target.load(name)
    pattern = pattern_of(mask_of(seed, m, n, kind))
    cycles, cells = mask_bound(pattern, k, target)
    cover = exchanged(split(exchanged(MetaOps.whole(m, n, k)), pattern, exchanged_unit(target.unit)))
    assert cells == len(cover)
    assert cycles <= plan_mask(cover, shape, target).estimate.cycles + 1
    if pattern.nnz:
        choice = choose_cells(pattern, k, target)
        assert choice.plan == ("dense" if kind == "one" else choice.plan)


def test_rows_in_lists_are_refused():
    module = model_module(
        masked_operator_of(np.eye(4, dtype=np.int8), 3, Target.load("gemmini16")), Target.load("gemmini16")
    )
    ConvertLinalgToSddmmPass().apply(Context(), module)
    sddmm = next(op for op in module.walk() if isinstance(op, SddmmOp))
    listed = sddmm.with_body([CoverOp(MetaOps.of([([0, 1, 2, 3], range(4), range(3))]))])
    listed.verify_()
    sddmm.res.replace_all_uses_with(listed.res)
    block = sddmm.parent
    assert block is not None
    block.insert_op_after(listed, sddmm)
    sddmm.detach()
    with pytest.raises(PassFailedException, match="lists rows"):
        ConvertSparseToTuPass().apply(Context(), module)


@pytest.mark.parametrize("mode", ["global", "window", "biclique"])
def test_masks_are_not_gathered(mode: str):
    with pytest.raises(UserError, match=f"mode {mode} gathers"):
        sparsecc.compile(np.eye(20, dtype=np.int8), op="sddmm", plan=mode)


def test_positions_cannot_be_listed():
    metaops = MetaOps.of([(range(2), range(3), [0, 1])])
    assert (metaops.table[:, K_MAP] >= 0).all()
    assert broken_whole_k(metaops, 2) == "meta-op 0 has a list of k; a meta-op of an SDDMM needs all of 0:2"
    with pytest.raises(AssertionError, match="positions cannot be listed"):
        exchanged(metaops)


def test_a_plan_is_kept():
    module = model_module(
        masked_operator_of(np.eye(40, dtype=np.int8), 3, Target.load("gemmini16")), Target.load("gemmini16")
    )
    ConvertLinalgToSddmmPass().apply(Context(), module)
    SparseCompactPass("dense").apply(Context(), module)
    text = str(module)
    SparseCompactPass("none").apply(Context(), module)
    assert str(module) == text
    sddmm = next(op for op in module.walk() if isinstance(op, SddmmOp))
    sddmm.plan = StringAttr("maybe")
    with pytest.raises(VerifyException, match="plan 'maybe' is not one of dense, sparse"):
        sddmm.verify_()


# The library and the command.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"op": "spmv"}, "unknown op 'spmv'; it is one of spmm, sddmm"),
        ({"op": "sddmm", "k": 0}, "k is 0; the inner dimension needs at least 1"),
        ({"op": "sddmm", "x": np.zeros((4, 64))}, r"takes 2 inputs: A \[M, K\] = \[4, 64\], B \[K, N\]"),
        (
            {"op": "sddmm", "x": (np.zeros((4, 64)),) * 2},
            r"has shape \[4, 64\]; operator .* takes B \[K, N\]",
        ),
        ({"x": (np.zeros((4, 64)),) * 2}, r"takes 1 inputs: \[K, N\] = \[4, 64\]; found 2"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        sparsecc.compile(np.eye(4, dtype=np.int8), **arguments)


def test_run_and_compile(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    mask = mask_of(5, 50, 60, "band")
    np.save(tmp_path / "mask.npy", mask.astype(np.int8) * 7)
    rng = np.random.default_rng(0)
    a, b = rng.integers(-9, 9, (50, 20)).astype(np.int8), rng.integers(-9, 9, (20, 60)).astype(np.int8)
    expected = np.where(mask, a.astype(np.int32) @ b.astype(np.int32), 0)
    names = [str(tmp_path / name) for name in ("a.npy", "b.npy", "c.npy")]
    np.save(names[0], a)
    np.save(names[1], b)
    operator = [str(tmp_path / "mask.npy"), "--op", "sddmm", "--k", "20"]
    files = ["--input", names[0], "--input", names[1], "--output", names[2]]
    assert main(["run", *operator, *files, "--json", "--check-stages"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["shape"] == [50, 20, 60]
    assert report["op"] == "sddmm"
    assert report["nnz"] == mask.sum()
    assert report["plan"] == "sparse"
    assert report["cells"] == report["fewest_cells"]
    assert [name for name, _, _ in report["tried"]] == ["aligned", "dense"]
    assert np.array_equal(np.load(names[2]), expected)
    assert main(["run", *operator, *files[:2]]) == 1
    assert "takes 2 inputs" in capsys.readouterr().err

    folder = tmp_path / "model"
    assert main(["compile", *operator, "-o", str(folder), "-q"]) == 0
    subprocess.run(["make", "-s", "-C", folder, "CFLAGS=-O0 -Wall -Wextra -Werror", "check"], check=True)
    (tmp_path / "c.npy").unlink()
    subprocess.run(["./model", "--quiet", *files], cwd=folder, check=True)
    assert np.array_equal(np.load(names[2]), expected)
    one = subprocess.run(["./model", *files[:2]], cwd=folder, check=False, capture_output=True, text=True)
    assert one.returncode == 2
    assert one.stderr == "model: --input is given 1 times; needed once for each of 2 inputs: a b\n"
