"""Epilogues of products: against onnxruntime and the simulator's stores, as text, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects import test
from xdsl.dialects.builtin import Builtin, ModuleOp, TensorType, f32, i8, i32
from xdsl.parser import Parser
from xdsl.utils.exceptions import VerifyException

from sparsecc.compiler import compile
from sparsecc.dialects.nn import Nn
from sparsecc.dialects.sparse import EpilogueOp, Sparse
from sparsecc.epilogue import Epilogue
from sparsecc.errors import UserError
from sparsecc.host.ops import OPERATORS
from sparsecc.target import Target
from sparsecc.target.numbers import Act, acc
from sparsecc.target.state import State
from sparsecc.target.values import st as store

Array = NDArray[Any]

SUMS = np.array([[-(2**31), -129, -3, -1], [0, 1, 2, 3], [127, 128, 16777217, 2**31 - 1]], np.int32)


def test_order_of_the_steps():
    bias, scale = np.array([1, 2, -127], np.int32), np.array([1, 0.5, 0.25], np.float32)
    found = Epilogue("i8", bias, scale, low=0.0, high=6.0, zero=-5).apply(SUMS)
    # Row 1: (2, 3, 4, 5) / 2 = (1, 1.5, 2, 2.5), ties to even.
    assert found.tolist() == [[-5, -5, -5, -5], [-4, -3, -3, -3], [-5, -5, 1, 1]]
    assert found.dtype == np.int8


def test_the_bias_wraps_and_floats_of_sums_are_rounded():
    bias = np.array([-1, 0, 1], np.int32)
    assert Epilogue("i32", bias).apply(SUMS)[[0, 2], [0, 3]].tolist() == [2**31 - 1, -(2**31)]
    assert Epilogue("i32", low=0).apply(SUMS).min() == 0
    assert Epilogue("f32").apply(SUMS)[2, 2] == 16777216


def test_a_residual_is_added_before_the_limits():
    sums = np.array([[1.0, -3.0]], np.float32)
    found = Epilogue("f32", np.array([0.5], np.float32), residual=True, low=0.0).apply(
        sums, np.array([[1.0, 2.0]], np.float32)
    )
    assert found.tolist() == [[2.5, 0.0]]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from([1.0, 0.5, 0.0123, 3e-8]))
def test_stores_of_the_machine(seed: int, relu: bool, scale: float):
    target = Target.load("gemmini16")
    state, rng = State(target), np.random.default_rng(seed)
    sums = rng.integers(-(2**31), 2**31, (4, 16)).astype(np.int32) >> int(rng.integers(0, 31))
    state.write(acc(0), sums)
    result = np.zeros((4, 16), np.int8)
    handle = state.output("i8", scale, Act.RELU if relu else Act.NONE)
    store(state, state.buffer(result, "i8"), 0, 16, acc(0), 0, 4, 16, handle)
    low = 0.0 if relu else -math.inf
    assert np.array_equal(result, Epilogue("i8", scale=np.array(scale, np.float32), low=low).apply(sums))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["i8", "ui8"]))
def test_requantization_of_the_host(seed: int, element: str):
    rng = np.random.default_rng(seed)
    sums = rng.integers(-(2**20), 2**20, (3, 8)).astype(np.int32)
    scale = rng.uniform(1e-6, 1e-3, 3).astype(np.float32)
    zero = int(rng.integers(0, 128))
    result = np.zeros(24, np.int8 if element == "i8" else np.uint8)
    OPERATORS[f"host_requantize_{element.replace('ui', 'u')}"].reference(
        result, sums.reshape(-1), scale, 1, 3, 8, zero
    )
    found = Epilogue(element, scale=scale, zero=zero).apply(sums)
    assert np.array_equal(result.reshape(3, 8), found)


@pytest.mark.parametrize(
    ("epilogue", "text"),
    [
        (Epilogue("f32"), ""),
        (Epilogue("i8", np.array([7, -2], np.int32), low=0.0), " bias "),
        (Epilogue("ui8", scale=np.array(0.125, np.float32), low=0.0, high=6.0, zero=3), " scale "),
        (Epilogue("i8", scale=np.array([1e-7, 0.5], np.float32)), " scale "),
    ],
    ids=["nothing", "bias", "all", "scale-per-row"],
)
def test_text(epilogue: Epilogue, text: str):
    sums = test.TestOp(result_types=[TensorType(i32, [2, 3])])
    op = EpilogueOp.of(sums.res[0], epilogue)
    module = ModuleOp([sums, op])
    module.verify()
    printed = str(module)
    assert text in printed
    context = Context()
    for dialect in (Builtin, test.Test, Nn, Sparse):
        context.load_dialect(dialect)
    again = Parser(context, printed).parse_module()
    assert str(again) == printed
    (parsed,) = (o for o in again.ops if isinstance(o, EpilogueOp))
    assert np.array_equal(parsed.epilogue.apply(SUMS[:2, :3]), epilogue.apply(SUMS[:2, :3]))


def test_a_residual_is_an_operand():
    both = test.TestOp(result_types=[TensorType(f32, [2, 3]), TensorType(f32, [2, 3])])
    op = EpilogueOp.of(both.res[0], Epilogue("f32", residual=True), both.res[1])
    ModuleOp([both, op]).verify()
    assert op.epilogue.residual
    assert "residual %" in str(op)


def test_what_does_not_fit_is_refused():
    sums = test.TestOp(result_types=[TensorType(i32, [2, 3])]).res[0]
    with pytest.raises(VerifyException, match=r"the bias is tensor<3xi32>; needed tensor<2xi32>"):
        EpilogueOp.of(sums, Epilogue("i8", np.zeros(3, np.int32))).verify()
    with pytest.raises(VerifyException, match="one number, or one per row"):
        EpilogueOp.of(sums, Epilogue("i8", scale=np.ones(3, np.float32))).verify()
    narrow = test.TestOp(result_types=[TensorType(i8, [2, 3])]).res[0]
    with pytest.raises(VerifyException, match="needed a matrix of i32 or f32"):
        EpilogueOp.of(narrow, Epilogue("i8")).verify()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"element": "i64"}, "a result of i64"),
        ({"element": "i8", "zero": 128}, "zero point 128; needed -128 to 127"),
        ({"element": "f32", "zero": 1}, "floats have none"),
        ({"element": "i32", "scale": np.array(1, np.float32)}, "i32 stays as it is"),
        ({"element": "i8", "low": 1.0, "high": 0.0}, "the lower one first"),
        ({"element": "i8", "scale": np.array(np.inf, np.float32)}, "not finite"),
        ({"element": "i8", "bias": np.zeros(2)}, "a bias of float64"),
    ],
    ids=["element", "zero", "zero-of-floats", "scaled-i32", "limits", "scale", "bias"],
)
def test_broken_epilogues(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Epilogue(**arguments)


@settings(max_examples=6, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["gemmini16", "gemmini16x", "scalesim-ws16", "tpu128"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, 0.002]),
)
def test_every_stage_and_the_c_program_do_the_epilogue(
    seed: int, target: str, bias: bool, relu: bool, scale: float | None
):
    rng = np.random.default_rng(seed)
    m, k, n = (int(v) for v in rng.integers(1, 50, 3))
    w = (rng.integers(-127, 128, (m, k)) * (rng.random((m, k)) < 0.3)).astype(np.int8)
    epilogue = Epilogue(
        "i32" if scale is None else "i8",
        rng.integers(-(2**15), 2**15, m).astype(np.int32) if bias else None,
        None if scale is None else np.array(scale, np.float32),
        low=0.0 if relu else -math.inf,
    )
    artifact = compile(
        w, target=target, n=n, dtype="i8", epilogue=epilogue, effort=0, check_stages=True, confirm=False
    )
    x = rng.integers(-128, 128, (k, n)).astype(np.int8)
    sums = (w.astype(np.int64) @ x).astype(np.int32)
    assert np.array_equal(artifact(x), epilogue.apply(sums))
    assert artifact.timing.cycles == artifact.simulate().cycles


@pytest.mark.parametrize(
    ("target", "dtype", "unroll"),
    [("scalesim-ws16", "f32", False), ("ascend910", "f16", False), ("tpu128", "bf16", True)],
    ids=["systolic", "fragments", "unrolled"],
)
@pytest.mark.parametrize("relu", [False, True], ids=["as-it-is", "relu"])
def test_biases_and_relu_of_floats_are_stored(target: str, dtype: str, unroll: bool, relu: bool):
    rng = np.random.default_rng(0)
    m, k, n = (3, 5, 2) if unroll else (40, 30, 9)
    w = rng.standard_normal((m, k)) * (rng.random((m, k)) < 0.3)
    bias = rng.standard_normal(m).astype(np.float32)
    artifact = compile(
        w.astype(np.float32), target=target, n=n, dtype=dtype, check_stages=True, confirm=False,
        epilogue=Epilogue("f32", bias, low=0.0 if relu else -math.inf),
    )  # fmt: skip
    x = rng.standard_normal((k, n)).astype(np.float32)
    wanted = w @ x + bias[:, None]
    np.testing.assert_allclose(artifact(x), np.maximum(wanted, 0) if relu else wanted, atol=0.05)
    simulation = artifact.simulate()
    assert simulation.check is not None
    assert simulation.check["wrong"] == 0
    assert artifact.timing.cycles == simulation.cycles


@pytest.mark.parametrize(
    "epilogue",
    [
        Epilogue("i8", scale=np.ones(8, np.float32)),
        Epilogue("i8", scale=np.array(1, np.float32), zero=3),
        Epilogue("i8", scale=np.array(1, np.float32), low=0.0, high=6.0),
        Epilogue("f32", residual=True),
    ],
    ids=["scales", "zero", "limits", "residual"],
)
def test_what_stores_do_not_do_is_refused(epilogue: Epilogue):
    with pytest.raises(UserError, match="stores of gemmini16 do not do this epilogue"):
        compile(np.ones((8, 8), np.int8), target="gemmini16", n=4, epilogue=epilogue)


@pytest.mark.parametrize("target", ["gemmini16", "tpu128", "scalesim-ws16"])
def test_the_cost_model_knows_stores_of_bytes_and_biases(target: str):
    rng = np.random.default_rng(0)
    errors: list[float] = []
    for m, k, n, density in ((64, 32, 256, 0.2), (128, 128, 128, 0.1), (512, 16, 128, 0.5)):
        w = (rng.integers(-100, 100, (m, k)) * (rng.random((m, k)) < density)).astype(np.int8)
        for bias in (None, rng.integers(-9, 9, m).astype(np.int32)):
            epilogue = Epilogue("i8", bias, np.array(0.01, np.float32), low=0.0)
            report = compile(w, target=target, n=n, dtype="i8", effort=0, epilogue=epilogue).report
            assert report.cycles is not None
            assert report.cycles_bound <= report.cycles
            errors.append(abs(report.predicted_cycles / report.cycles - 1))
    # Priced as sums that begin with zeros and leave as i32, they were off by up to 1.37.
    assert np.mean(errors) < 0.12
    assert max(errors) < 0.3
