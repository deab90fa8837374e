"""The machine level: programs of tu instructions compute W X, looped and unrolled, on every target."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.utils.exceptions import PassFailedException

import sparsecc
from sparsecc.artifact import Artifact
from sparsecc.dialects import tu
from sparsecc.driver.opt import main as opt
from sparsecc.errors import UserError
from sparsecc.interpreters import tu as interpreter
from sparsecc.passes.convert_sparse_to_tu import ConvertSparseToTuPass
from sparsecc.passes.convert_tu_to_c import ConvertTuToCPass
from sparsecc.passes.tu_unroll import TuUnrollPass
from sparsecc.pipeline import tensor_unit
from sparsecc.stages import Stage, save_stages
from sparsecc.target import Target
from sparsecc.target.sections import Memory
from sparsecc.universe import SPARSECC_UNIVERSE

Array = NDArray[Any]

PLANS = ("dense", "none", "global", "window")
# (target, input type): every kind of array, every type.
MACHINES = [
    (name, in_type)
    for name in ("gemmini16", "gemmini16x", "tpu128", "ascend910", "scalesim-ws16")
    for in_type, _ in Target.load(name).types
]


def tight(target: Target) -> Target:
    """The target with memories that hold just a few tiles, so that everything is loaded again and again."""
    rows = 4 * target.array.rows
    spad, acc = Memory(rows * target.row_bytes), Memory(rows * target.acc_row_bytes)
    return dataclasses.replace(target, name="tight", spad=spad, acc=acc, line_rows=16)


def matrix(rng: np.random.Generator, m: int, k: int, kind: str) -> Array:
    """A float matrix of a kind of sparsity; half of the values are whole, so that int8 keeps them."""
    match kind:
        case "random":
            mask = rng.random((m, k)) < 0.1
        case "blocks":
            mask = np.kron(rng.random((-(-m // 16), -(-k // 16))) < 0.3, np.ones((16, 16)))[:m, :k] > 0
        case "rows and columns":
            mask = (rng.random((m, 1)) < 0.3) & (rng.random((1, k)) < 0.4)
        case "zero":
            mask = np.zeros((m, k), bool)
        case _:
            mask = np.ones((m, k), bool)
    return rng.standard_normal((m, k)) * mask


def compiled(w: Array, target: str | Target, in_type: str, n: int, plan: str, unroll: int = 0) -> Artifact:
    """Compiled as far as the machine level; what the simulator says is not asked."""
    name = target if isinstance(target, str) else "gemmini16"
    if isinstance(target, Target):
        return sparsecc.compile(w, target=target, n=n, dtype=in_type, plan=plan, confirm=False)
    passes = [TuUnrollPass(unroll) if p.name == "tu-unroll" else p for p in tensor_unit(name, plan)]
    return sparsecc.compile(w, target=target, n=n, dtype=in_type, passes=passes)


def stage(artifact: Artifact, name: str) -> Stage:
    return next(s for s in artifact.stages if s.name == name)


def assert_product(y: Array, artifact: Artifact, x: Array) -> None:
    """Integers are equal bit for bit; floats are within gamma_K |W| |X|, element by element."""
    csr = artifact.operator.weight
    w = np.zeros(csr.shape, np.longdouble)
    w[np.repeat(np.arange(len(w)), np.diff(csr.indptr)), csr.indices] = csr.data
    if artifact.operator.in_type == "i8":
        assert y.dtype == np.int32
        assert np.array_equal(y, w.astype(np.int64) @ x.astype(np.int64))
        return
    assert y.dtype == np.float32
    k, wide = w.shape[1], x.astype(np.longdouble)
    gamma = k * 2.0**-24 / (1 - k * 2.0**-24)
    assert (np.abs(y - w @ wide) <= gamma * (np.abs(w) @ np.abs(wide))).all()


def executed(module: ModuleOp) -> list[tuple[str, list[int | str]]]:
    """The instructions in the order of execution; buffers by name, for handles may be counted differently."""
    found = interpreter.trace(module)
    names = ["x", "y", *(c.sym_name.data for c in found.constants)]
    return [
        (
            op.MNEMONIC,
            [
                names[v] if isinstance(o.type, tu.BufferType) else v
                for o, v in zip(op.operands, values, strict=True)
            ],
        )
        for op, values in found.instructions
    ]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.sampled_from(MACHINES),
    st.sampled_from(PLANS),
    st.tuples(st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 3, 16, 40])),
    st.sampled_from(["random", "blocks", "rows and columns", "zero", "dense"]),
    st.integers(0, 2**32 - 1),
)
def test_programs_compute_the_product(
    machine: tuple[str, str], plan: str, extents: tuple[int, int, int], kind: str, seed: int
):
    target, in_type = machine
    m, k, n = extents
    artifact = compiled(matrix(np.random.default_rng(seed), m, k, kind), target, in_type, n, plan)
    x = artifact.operator.random_inputs(seed + 1)[0]
    module = stage(artifact, "convert-sparse-to-tu").module
    module.verify()
    assert_product(interpreter.run(module, x, artifact.target), artifact, x)


@pytest.mark.parametrize(("target", "in_type"), MACHINES)
@pytest.mark.parametrize("extents", [(1, 33, 5), (33, 1, 5), (33, 17, 1), (1, 1, 1)])
def test_edges_of_the_shape(target: str, in_type: str, extents: tuple[int, int, int]):
    m, k, n = extents
    rng = np.random.default_rng(1)
    for kind in ("dense", "random", "zero"):
        artifact = compiled(matrix(rng, m, k, kind), target, in_type, n, "window", unroll=10**6)
        x = artifact.operator.random_inputs(2)[0]
        assert_product(interpreter.run(stage(artifact, "tu-unroll").module, x, artifact.target), artifact, x)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.sampled_from(["gemmini16", "ascend910"]),
    st.sampled_from(PLANS),
    st.tuples(st.integers(1, 120), st.integers(1, 120), st.sampled_from([1, 16, 50])),
    st.integers(0, 2**32 - 1),
)
def test_programs_for_small_memories_compute_the_product(
    name: str, plan: str, extents: tuple[int, int, int], seed: int
):
    m, k, n = extents
    w = matrix(np.random.default_rng(seed), m, k, "random")
    target = tight(Target.load(name))
    artifact = compiled(w, target, target.in_type, n, plan)
    x = artifact.operator.random_inputs(seed + 1)[0]
    module = stage(artifact, "convert-sparse-to-tu").module
    assert_product(interpreter.run(module, x, artifact.target), artifact, x)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.sampled_from(MACHINES),
    st.sampled_from(PLANS),
    st.tuples(st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 16, 40])),
    st.integers(0, 2**32 - 1),
)
def test_unrolled_is_looped_instruction_by_instruction(
    machine: tuple[str, str], plan: str, extents: tuple[int, int, int], seed: int
):
    target, in_type = machine
    m, k, n = extents
    w = matrix(np.random.default_rng(seed), m, k, "rows and columns")
    artifact = compiled(w, target, in_type, n, plan, unroll=10**6)
    looped, unrolled = (stage(artifact, name).module for name in ("convert-sparse-to-tu", "tu-unroll"))
    assert not [op for op in unrolled.walk() if op.name.startswith("scf.") or isinstance(op, tu.LookupOp)]
    assert executed(unrolled) == executed(looped)
    instructions = [op for op in unrolled.walk() if isinstance(op, tu.InstructionOp)]
    assert len(instructions) == len(executed(looped))


def test_unrolling_stops_at_its_limit():
    artifact = compiled(np.eye(40), "gemmini16", "i8", 16, "none")
    looped = stage(artifact, "convert-sparse-to-tu").module
    count = len(executed(looped))
    for limit, written_out in ((count - 1, False), (count, True)):
        module = looped.clone()
        TuUnrollPass(limit).apply(Context(), module)
        module.verify()
        assert (str(module) != str(looped)) == written_out


def test_programs_survive_their_text(tmp_path: Path):
    """Every stage of a compilation reads back as it was written, through the generic form too."""
    w = matrix(np.random.default_rng(0), 60, 50, "random")
    artifact = compiled(w, "gemmini16", "i8", 20, "window", unroll=999)
    save_stages(artifact.stages, tmp_path)
    generic, back = tmp_path / "generic.mlir", tmp_path / "back.mlir"
    blobs = ["--blobs", str(tmp_path / "blobs")]
    for path in sorted(tmp_path.glob("0*.mlir")):
        assert opt([str(path), "--print-op-generic", *blobs, "-o", str(generic)]) == 0
        assert '"builtin.module"' in generic.read_text()
        assert opt([str(generic), *blobs, "-o", str(back)]) == 0
        assert back.read_text().strip() == path.read_text().strip()


def test_targets_are_refused_by_what_they_lack():
    w = matrix(np.random.default_rng(0), 20, 20, "random")
    artifact = sparsecc.compile(w, target="ascend910", n=4, dtype="f16", plan="none", confirm=False)
    module = stage(artifact, "sparse-group").module.clone()
    with pytest.raises(PassFailedException, match="f16 to f32 is not a type pair of target gemmini16"):
        ConvertSparseToTuPass("gemmini16").apply(Context(), module)


def test_conversion_to_c_leaves_no_instruction():
    artifact = compiled(matrix(np.random.default_rng(0), 60, 50, "random"), "gemmini16", "i8", 20, "window")
    module = stage(artifact, "convert-sparse-to-tu").module.clone()
    ConvertTuToCPass().apply(Context(), module)
    module.verify()
    assert {op.name for op in module.walk() if op.name.startswith("tu.")} == {"tu.constant"}


# The interpreter.


def test_interpreter_names_what_is_missing():
    artifact = compiled(np.eye(4), "gemmini16", "i8", 4, "none")
    module = stage(artifact, "convert-sparse-to-tu").module
    with pytest.raises(UserError, match="the program has no function @other"):
        interpreter.run(module, np.zeros((4, 4), np.int8), artifact.target, function="other")
    with pytest.raises(UserError, match=r"the program takes inputs of \[\[4, 4\]\], found \[\[4, 5\]\]"):
        interpreter.run(module, np.zeros((4, 5), np.int8), artifact.target)
    with pytest.raises(UserError, match=r"sparse\.spmm is not an operation of the machine level"):
        interpreter.trace(stage(artifact, "sparse-group").module)


def test_interpreter_tells_of_every_instruction():
    artifact = compiled(np.eye(4), "gemmini16", "i8", 4, "none")
    module = stage(artifact, "convert-sparse-to-tu").module
    heard: list[str] = []
    interpreter.run(
        module, np.ones((4, 4), np.int8), artifact.target, listener=lambda op, _: heard.append(op.MNEMONIC)
    )
    assert heard == ["LD", "LD", "TU.PRE", "TU.MM", "ST"]


def test_universe_lists_the_machine_level():
    passes = list(SPARSECC_UNIVERSE.all_passes)
    order = [p.name for p in tensor_unit("gemmini16")]
    assert [p for p in passes if p in order] == order
    assert "tu" in SPARSECC_UNIVERSE.all_dialects
    assert "c" in SPARSECC_UNIVERSE.all_targets
