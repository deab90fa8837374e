"""Units that take N:M sparse weights: covers, packed tiles, values, and what they are worth."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import sparsecc
from sparsecc import patterns
from sparsecc.analysis import Search, analyze
from sparsecc.cover.cells import split
from sparsecc.cover.fitted import fit_columns, fitted_panels, row_bits
from sparsecc.cover.laws import broken_cover_law
from sparsecc.cover.lift import lift
from sparsecc.cover.metaops import MetaOps
from sparsecc.cover.orders import natural
from sparsecc.dialects import tu
from sparsecc.errors import UserError
from sparsecc.operator import operator_of
from sparsecc.patterns.declared import check_declared
from sparsecc.schedule.bound import cycle_bound
from sparsecc.schedule.cost import Plan, best_plan
from sparsecc.schedule.planning import plan_cover
from sparsecc.target import Structured, Target

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "matrices"
PRESET = Target.load("nvidia-tc")
SCATTERING = ("ascend910", "nvidia-tc")

Array = NDArray[Any]


def unit_of(kept: str, in_type: str = "f16") -> Target:
    """The preset with other patterns, or for int8."""
    target = dataclasses.replace(PRESET, structured=Structured(kept))
    if in_type != "i8":
        return target.with_type(in_type)
    array = dataclasses.replace(target.array, types=(("i8", "i32"),), in_type="i8")
    energy = dataclasses.replace(target.energy, mac_pj=(("i8", 0.2),))
    sources = tuple(pair for pair in target.sources if not pair[0].startswith("energy.mac_pj"))
    return dataclasses.replace(
        target, array=array, energy=energy, sources=(*sources, ("energy.mac_pj.*", "assumed"))
    )


def values_of(mask: Array, seed: int) -> Array:
    """Numbers that every type holds, nonzero where the mask is True."""
    rng = np.random.default_rng(seed)
    return (rng.integers(1, 8, mask.shape) * rng.choice([-1, 1], mask.shape) * mask).astype(np.float32)


def plan_of(mask: Array, n: int, target: Target = PRESET, cover: MetaOps | None = None) -> Plan:
    pattern = patterns.pattern_of(mask)
    cover = MetaOps.whole(pattern.m, n, pattern.k) if cover is None else cover
    plan = plan_cover(lift(split(cover, pattern, target.unit)), pattern, n, target)
    assert isinstance(plan, Plan)
    return plan


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 70),
    st.integers(1, 100),
    st.integers(1, 40),
    st.sampled_from(["2:4", "1:2", "1:4", "4:8", "2:16"]),
    st.sampled_from(["f16", "bf16", "i8"]),
    st.floats(0.3, 1),
)
def test_programs_compute_the_product(
    seed: int, m: int, k: int, n: int, kept: str, in_type: str, share: float
):
    """Every stage is interpreted and compared; the matrix obeys the pattern in some rows or in all."""
    rng = np.random.default_rng(seed)
    mask = patterns.nm((m, k), *map(int, kept.split(":")), seed=seed)
    mask |= (rng.random((m, 1)) > share) & (rng.random((m, k)) < 0.9)
    sparsecc.compile(
        values_of(mask, seed),
        target=unit_of(kept, in_type),
        n=n,
        plan="none",
        check_stages=True,
        confirm=False,
    )


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 200), st.integers(1, 150), st.floats(0.02, 0.6))
def test_fitted_covers_are_exact_and_compute_the_product(seed: int, m: int, k: int, density: float):
    mask = np.random.default_rng(seed).random((m, k)) < density
    pattern = patterns.pattern_of(mask)
    for height in (16, 64):
        cover = fitted_panels(pattern, 24, PRESET.unit, natural(pattern), height, 2, 4)
        assert broken_cover_law(cover, pattern, 24) is None
        cells = split(cover, pattern, PRESET.unit)
        assert broken_cover_law(lift(cells), pattern, 24) is None
    sparsecc.compile(values_of(mask, seed), target=PRESET, n=24, check_stages=True, confirm=False, effort=0)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 64),
    st.integers(1, 3),
    st.sampled_from([(2, 4), (1, 4), (3, 8)]),
    st.floats(0.02, 0.7),
)
def test_groups_of_columns_obey_the_pattern(
    seed: int, height: int, panels: int, kept: tuple[int, int], density: float
):
    keep, group = kept
    mask = np.random.default_rng(seed).random((height * panels, 80)) < density
    pattern = patterns.pattern_of(mask)
    order = natural(pattern)
    panel, column, bits = row_bits(pattern, order, height)
    groups = fit_columns(panel, bits, -(-len(order) // height), keep, group)
    used = groups[groups >= 0]
    assert len(np.unique(used)) == len(used)
    assert ((groups >= 0).sum(axis=1) > keep).all()
    for entries in groups:
        entries = entries[entries >= 0]
        (of,) = np.unique(panel[entries])
        rows = order[of * height : (of + 1) * height]
        assert mask[np.ix_(rows, column[entries])].sum(axis=1).max() <= keep


def test_a_pruned_matrix_takes_half_the_cycles_of_the_array():
    """And the bytes of its weights are those of the values kept and of two bits for each."""
    m, k, n = 64, 256, 64
    artifact = sparsecc.compile(values_of(patterns.nm((m, k), 2, 4), 0), target="nvidia-tc", n=n)
    sparse, dense = artifact.simulate(), artifact.dense.simulate()
    assert artifact.plan == "sparse"
    assert sparse.check is not None
    assert sparse.check["wrong"] == 0
    assert set(sparse.report["instructions"]) == {"LD", "MV", "ST", "TU.SPMMA"}
    assert dense.report["engines"]["MAT"]["busy"] == 2 * sparse.report["engines"]["MAT"]["busy"]
    assert dense.report["macs"] == 2 * sparse.report["macs"] == m * k * n
    assert dense.cycles > 1.6 * sparse.cycles  # loads and stores take as long as before
    packed, whole = (
        next(
            op.array.nbytes
            for stage in found.stages
            for op in stage.module.walk()
            if isinstance(op, tu.ConstantOp) and op.sym_name.data == "weights"
        )
        for found in (artifact, artifact.dense)
    )
    assert (packed, whole) == (m * k // 2 * 2 + m * k // 2 * 2 // 8, m * k * 2)
    assert dense.energy_pj > sparse.energy_pj
    assert "100 % of the tiles kept are 2:4" in artifact.reason


@pytest.mark.parametrize(("k", "compressed"), [(128, 1.0), (130, 0.8), (144, 0.8), (20, 1.0), (16, 0.0)])
def test_edges_that_gain_nothing_stay_as_they_are(k: int, compressed: float):
    """Of 16 columns or fewer all values take one step of the unit, and so do those kept."""
    plan = plan_of(patterns.nm((48, k), 2, 4), 16)
    assert plan.tiles.compressed.mean() == compressed


def test_rows_that_break_the_pattern_stay_as_they_are():
    mask = patterns.nm((64, 128), 2, 4)
    mask[40, 68:72] = True
    plan = plan_of(mask, 64)
    # One tile of 32 columns, in one band of rows.
    assert (~plan.tiles.compressed).sum() == 1


def test_sparser_matrices_gain_too():
    """No matrix need be pruned for the unit: windows of rows order their columns."""
    rng = np.random.default_rng(0)
    for density, least in ((0.3, 1.35), (0.2, 1.7), (0.1, 1.8)):
        mask = rng.random((256, 512)) < density
        artifact = sparsecc.compile(values_of(mask, 0), target="nvidia-tc", n=128)
        assert artifact.report.speedup is not None
        assert artifact.report.speedup >= least
        assert artifact.reason.startswith("2:4-window-")


def test_vnm_fits_whole():
    mask = patterns.vnm((128, 256), 32, 2, 16)
    pattern = patterns.pattern_of(mask)
    cover = fitted_panels(pattern, 64, PRESET.unit, natural(pattern), 32, 2, 4)
    plan = plan_of(mask, 64, cover=cover)
    assert plan.tiles.compressed.all()
    dense = best_plan(MetaOps.whole(128, 64, 256), 128, 64, PRESET)
    # 4 of 16 columns, and 2 of these 4.
    assert dense.estimate.compute == 8 * plan.estimate.compute


def test_the_dense_plan_is_dense():
    artifact = sparsecc.compile(
        values_of(patterns.nm((32, 64), 2, 4), 0), target="nvidia-tc", n=16, plan="dense"
    )
    assert "TU.SPMMA" not in artifact.simulate().report["instructions"]


@pytest.mark.parametrize("kept", ["2:4", "1:4", "5:16"])
def test_no_plan_is_below_the_bound(kept: str):
    keep, group = map(int, kept.split(":"))
    chip = dataclasses.replace(
        PRESET, array=dataclasses.replace(PRESET.array, mma_k=20, rows=16), structured=Structured(kept)
    )
    chip = chip if keep == 5 else unit_of(kept)
    for k in (33, 64, 150):
        mask = patterns.nm((70, k), keep, group)
        bound = cycle_bound(patterns.pattern_of(mask), 24, chip)
        assert bound.gap(plan_of(mask, 24, chip).estimate.cycles) >= 1


# Explaining. ---------------------------------------------------------------------------------------------


def analysis_of(mask: Array, target: str, n: int = 64) -> Any:
    chip = Target.load(target)
    operator = operator_of(values_of(mask, 0), n, chip)
    return analyze(operator, chip.with_type(operator.in_type), Search(effort=0))


def test_the_analysis_says_what_the_pattern_is_worth():
    mask = patterns.nm((128, 256), 2, 4)
    native = analysis_of(mask, "nvidia-tc")
    assert native.verdict == "chosen"
    assert "100 % of the tiles kept are 2:4, fill 1.00" in native.why
    assert "2:4 fits the unit's 2:4" in native.why
    assert native.weight_bytes == native.dense_weight_bytes * 9 // 16
    plain = analysis_of(mask, "gemmini16")
    assert plain.verdict == "refused"
    assert (plain.fill, plain.pattern) == (0.5, "2:4")
    assert (
        "2:4 fills 100 % of the cells to 0.50, and gemmini16 cannot skip inside them: a unit that takes 2:4 "
        "would do 2.0x less work"
    ) in plain.why


def test_the_analysis_knows_patterns_that_the_unit_lacks():
    why = analysis_of(patterns.nm((128, 256), 3, 4), "nvidia-tc").why
    assert "nvidia-tc skips inside groups only as 2:4: a unit that takes 3:4 would do 1.3x less work" in why
    assert "1:4 fits the unit's 2:4" in analysis_of(patterns.nm((128, 256), 1, 4), "nvidia-tc").why


def test_declared_patterns_are_held_against_the_matrix():
    mask = patterns.nm((40, 66), 2, 4)
    check_declared(patterns.pattern_of(mask), "2:4", "w")
    check_declared(patterns.pattern_of(mask), "3:4", "w")
    mask[7, 60:63] = True
    mask[9, 8:12] = True
    with pytest.raises(UserError) as error:
        check_declared(patterns.pattern_of(mask), "2:4", "w")
    found = mask[7, 60:64].sum()
    assert str(error.value) == (
        f"w: declared 2:4, but row 7 has {found} nonzeros in columns 60 to 63 (counting from 0), "
        "needed at most 2; 2 of 680 groups break the pattern; prune the matrix to it or leave --pattern out"
    )
    mask = patterns.vnm((64, 80), 16, 2, 10)
    check_declared(patterns.pattern_of(mask), "16:2:10", "w")
    mask[20:30, 30:40] = np.eye(10, dtype=bool)
    with pytest.raises(UserError, match=r"but rows 16 to 31 use 1?[0-9] of the columns 30 to 39"):
        check_declared(patterns.pattern_of(mask), "16:2:10", "w")
    for wrong in ("2-4", "4:4", "0:4", "0:2:4", "a:b", "1:2:3:4"):
        with pytest.raises(UserError, match="needed N:M with 0 < N < M"):
            check_declared(patterns.pattern_of(mask), wrong, "w")
    with pytest.raises(UserError, match="declared 1:2, but row 0 has 2 nonzeros in columns 0 to 1"):
        sparsecc.compile(np.ones((4, 4), np.float32), pattern="1:2")


# Adding in memory. ---------------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 150),
    st.integers(1, 150),
    st.integers(1, 40),
    st.sampled_from(SCATTERING),
    st.sampled_from(["biclique", "bcr-64"]),
    st.floats(0.02, 0.3),
)
def test_blocks_of_any_rows_are_added_in_memory(
    seed: int, m: int, k: int, n: int, target: str, plan: str, density: float
):
    mask = np.random.default_rng(seed).random((m, k)) < density
    sparsecc.compile(
        values_of(mask, seed), target=target, n=n, plan=plan, effort=0, check_stages=True, confirm=False
    )


@pytest.mark.parametrize("target", SCATTERING)
def test_additions_are_priced(target: str):
    """Each row is read, added to and written; before, all of them are stored as zeros."""
    rng = np.random.default_rng(1)
    mask = np.zeros((96, 64), bool)
    for column in range(4):  # every 16 columns with rows of their own
        rows = rng.permutation(96)[:32]
        mask[np.ix_(rows, np.arange(16) + 16 * column)] = True
    artifact = sparsecc.compile(values_of(mask, 0), target=target, n=32, plan="biclique")
    run = artifact.simulate()
    assert run.check is not None
    assert run.check["wrong"] == 0
    written, stored = run.report["bytes"]["dram_write"], run.report["instructions"]
    assert stored["STS"] >= 4
    assert stored["ST"] >= 1
    # 4 blocks of 32 rows, and all rows once.
    assert written == (4 * 32 + 96) * 32 * 4
    assert artifact.predicted().predicted_cycles == pytest.approx(run.cycles, rel=0.35)


def test_covers_of_any_rows_need_a_target_that_adds():
    w = values_of(np.random.default_rng(0).random((96, 96)) < 0.1, 0)
    with pytest.raises(
        UserError, match=r"stores that add, which target gemmini16 does not have; .*\[scatter_add\]"
    ):
        sparsecc.compile(w, target="gemmini16", n=8, plan="bcr-64")


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no matrices in {DATA}")
@pytest.mark.parametrize(("n", "wins"), [(8, True), (128, False)])
def test_adding_in_memory_pays_for_few_positions_only(n: int, wins: bool):
    """Its traffic grows with the positions; the work it saves is that of a cube that is fast."""
    artifact = sparsecc.compile(DATA / "dlmc" / "tf_mag98_enc0_ffn1.smtx", target="ascend910", n=n)
    assert any(name.startswith("bcr") for name, _, _ in artifact.tried) or not wins
    assert artifact.reason.startswith("biclique") == wins


def test_mode_fitted_needs_a_unit_that_takes_n_of_m():
    w = values_of(np.random.default_rng(0).random((96, 96)) < 0.2, 0)
    assert sparsecc.compile(w, target="nvidia-tc", n=8, plan="fitted", confirm=False).plan == "sparse"
    with pytest.raises(UserError, match="needs a target that takes N:M weights, gemmini16 does not"):
        sparsecc.compile(w, target="gemmini16", n=8, plan="fitted")
