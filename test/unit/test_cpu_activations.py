"""Activations fused into kernels of CPUs: kernels against scipy, networks against onnxruntime."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]
import pytest
import scipy.sparse as sp  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy import special  # pyright: ignore[reportMissingTypeStubs]

import sparsecc
from sparsecc.cpu.assembly import Epilogue
from sparsecc.cpu.native import call_struct
from sparsecc.cpu.tune import build, line_variants
from sparsecc.cpu.variant import Variant
from sparsecc.epilogue import Activation
from sparsecc.errors import UserError
from sparsecc.importers.matrix import make_csr
from sparsecc.importers.onnx_file import import_model
from sparsecc.network_compiler import compile_network
from sparsecc.target import CpuTarget, load_target

Array = NDArray[Any]
functions: Any = special
compile_any: Any = sparsecc.compile
onnxruntime: Any = ort
node = helper.make_node

ROWS = 43
SLOPES = tuple(float(v) for v in np.linspace(-0.5, 1.5, ROWS).astype(np.float32))
# Of the result, and of the argument: what f32 may be off.
CLOSE, GELU = 4e-7, 4e-7


def sigmoid(x: Array) -> Array:
    return functions.expit(x)


def hard(x: Array) -> Array:
    return np.clip(np.float32(0.2) * x + 0.5, 0, 1)


FUNCTIONS: dict[str, tuple[Epilogue, Callable[[Array], Array]]] = {
    "relu6": (Epilogue(limits=(0.0, 6.0)), lambda x: np.clip(x, 0, 6)),
    "one limit": (Epilogue(limits=(-1.5, float("inf"))), lambda x: np.maximum(x, -1.5)),
    "leaky": (Epilogue(activation=Activation("leaky_relu", (0.125,))), lambda x: np.where(x < 0, x / 8, x)),
    "steep": (Epilogue(activation=Activation("leaky_relu", (-2.0,))), lambda x: np.where(x < 0, -2 * x, x)),
    "prelu": (
        Epilogue(activation=Activation("leaky_relu", slopes=SLOPES)),
        lambda x: np.where(x < 0, np.array(SLOPES)[:, None] * x, x),
    ),
    "hard sigmoid": (Epilogue(activation=Activation("hard_sigmoid", (float(np.float32(0.2)), 0.5))), hard),
    "hard swish": (
        Epilogue(activation=Activation("hard_swish", (float(np.float32(0.2)), 0.5))), lambda x: x * hard(x),
    ),
    "sigmoid": (Epilogue(activation=Activation("sigmoid")), sigmoid),
    "tanh": (Epilogue(activation=Activation("tanh")), np.tanh),
    "silu": (Epilogue(activation=Activation("silu")), lambda x: x * sigmoid(x)),
    "gelu": (Epilogue(activation=Activation("gelu")), lambda x: x * functions.ndtr(x)),
    "gelu of tanh": (
        Epilogue(activation=Activation("gelu_tanh")),
        lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    ),
}  # fmt: skip


def here(name: str) -> CpuTarget:
    target = load_target(name)
    assert isinstance(target, CpuTarget)
    if target.missing:
        pytest.skip(f"this CPU lacks {', '.join(target.missing)}")
    return target


@pytest.mark.parametrize("name", ["x86-avx512", "x86-avx2"])
@pytest.mark.parametrize("case", list(FUNCTIONS))
def test_every_kernel(name: str, case: str):
    target, rng = here(name), np.random.default_rng(0)
    epilogue, function = FUNCTIONS[case]
    # Numbers whose sums are exact, so that all of the error is the function's; row 5 has no value.
    dense = (rng.integers(-8, 9, (ROWS, 70)) * (rng.random((ROWS, 70)) < 0.2) / 16).astype(np.float32)
    dense[5] = 0
    found: Any = sp.csr_array(dense)
    w = make_csr(found.data, found.indices, found.indptr, dense.shape)
    for n in (1, 5, 16, 53):
        x = (rng.integers(-16, 17, (70, n)) / 4).astype(np.float32)
        residual = (rng.integers(-16, 17, (ROWS, n)) / 4).astype(np.float32)
        sums = dense.astype(np.float64) @ x + residual
        with np.errstate(over="ignore"):
            exact = function(sums)
        whole = Epilogue(residual=True, limits=epilogue.limits, activation=epilogue.activation)
        variants = [Variant("csr"), Variant("dense"), *line_variants(w, target, n)]
        if n == 1:
            variants += [Variant("vector"), Variant("vector", sliced=True)]
            variants += [
                Variant("vector", pairs=1),
                Variant("vector", pairs=2),
                Variant("vector", rounds=True),
            ]
        assert any(v.kind == "line" for v in variants)
        for variant in variants:
            for threads in (1, 2):
                y = np.full((ROWS, n + 3), np.nan, np.float32)
                kernel = build(w, target, variant, whole, None)
                kernel(call_struct(x, y[:, :n], residual), threads)
                bound = CLOSE * np.abs(exact) + (GELU * np.abs(sums) if "gelu" in case else 0)
                assert (np.abs(y[:, :n] - exact) <= bound + 1e-30).all(), (variant.name, n, threads)
                assert np.isnan(y[:, n:]).all()


@pytest.mark.parametrize("name", ["x86-avx512", "x86-avx2"])
@pytest.mark.parametrize("case", list(FUNCTIONS))
def test_large_numbers_and_nan(name: str, case: str):
    target = here(name)
    epilogue, function = FUNCTIONS[case]
    points = np.concatenate([np.linspace(-30, 30, 701), [-1e4, -88.5, -87, 88.5, 1e4, 1e-8, -1e-30, 0]])
    x = points.astype(np.float32)[None, :]
    w = make_csr(
        np.ones(ROWS, np.float32), np.zeros(ROWS, np.int32), np.arange(ROWS + 1, dtype=np.int32), (ROWS, 1)
    )
    with np.errstate(over="ignore"):
        exact = function(np.broadcast_to(x.astype(np.float64), (ROWS, x.size)))
    bound = CLOSE * np.abs(exact) + (GELU * np.abs(x) if "gelu" in case else 0) + 1e-30
    # The argument of the exponential is rounded, too.
    bound = bound + (1e-37 * np.abs(x) if case in ("silu", "sigmoid") else 0)
    for variant in (Variant("csr"), line_variants(w, target, x.size)[0]):
        y = np.zeros((ROWS, x.size), np.float32)
        kernel = build(w, target, variant, epilogue, None)
        kernel(call_struct(x, y, None), 1)
        wrong = np.argwhere(~(np.abs(y - exact) <= bound))
        assert not len(wrong), (variant.name, x[0, wrong[0][1]], y[tuple(wrong[0])], exact[tuple(wrong[0])])
        holed = x.copy()
        holed[0, ::7] = np.nan
        kernel(call_struct(holed, y, None), 1)
        assert (np.isnan(y) == np.isnan(holed)).all()


def alone(kind: str, **attributes: Any) -> list[Any]:
    return [node(kind, ["s"], ["y"], **attributes)]


def chain(*steps: tuple[str, list[str], str]) -> list[Any]:
    return [node(kind, inputs, [out]) for kind, inputs, out in steps]


# Of each the operators, and what the report says was fused; "slope" is one for each row.
AFTER: dict[str, tuple[list[Any], str]] = {
    "clip": ([node("Clip", ["s", "0", "6"], ["y"])], "limits 0 and 6"),
    "leaky": (alone("LeakyRelu", alpha=0.2), "leaky_relu"),
    "prelu": ([node("PRelu", ["s", "slope"], ["y"])], "leaky_relu"),
    "prelu of one": ([node("PRelu", ["s", "0.25"], ["y"])], "leaky_relu"),
    "hard sigmoid": (alone("HardSigmoid", alpha=0.3, beta=0.4), "hard_sigmoid"),
    "hard swish": (alone("HardSwish"), "hard_swish"),
    "sigmoid": (alone("Sigmoid"), "sigmoid"),
    "tanh": (alone("Tanh"), "tanh"),
    "silu": (chain(("Sigmoid", ["s"], "g"), ("Mul", ["g", "s"], "y")), "silu"),
    "gelu": (alone("Gelu"), "gelu"),
    "gelu of tanh": (alone("Gelu", approximate="tanh"), "gelu_tanh"),
    "gelu in pieces": (
        chain(
            ("Div", ["s", "1.4142135"], "a"), ("Erf", ["a"], "b"), ("Add", ["b", "1"], "c"),
            ("Mul", ["s", "c"], "d"), ("Mul", ["d", "0.5"], "y"),
        ), "gelu",
    ),
    "gelu, halved first": (
        chain(
            ("Mul", ["s", "0.5"], "d"), ("Mul", ["s", "0.70710677"], "a"), ("Erf", ["a"], "b"),
            ("Add", ["1", "b"], "c"), ("Mul", ["d", "c"], "y"),
        ), "gelu",
    ),
}  # fmt: skip


# What looks like one and is none, and is left to the host.
OTHERS = {
    "another divisor": chain(
        ("Div", ["s", "1.5"], "a"), ("Erf", ["a"], "b"), ("Add", ["b", "1"], "c"), ("Mul", ["s", "c"], "d"),
        ("Mul", ["d", "0.5"], "y"),
    ),
    "another gate": chain(("Sigmoid", ["s"], "g"), ("Add", ["g", "s"], "y")),
    "used again": chain(("Sigmoid", ["s"], "g"), ("Mul", ["g", "s"], "h"), ("Add", ["h", "g"], "y")),
    "no activation": alone("Elu", alpha=0.5),
}  # fmt: skip


def network(image: bool) -> tuple[Any, Array]:
    """Of each case a product and what follows it; an image has positions."""
    rng = np.random.default_rng(1)
    shape = (8, 6, 3, 3) if image else (6, 8)
    x = (2 * rng.standard_normal((3, 6, 7, 5) if image else (3, 6))).astype(np.float32)
    held = {"slope": rng.uniform(-0.5, 1, (8, 1, 1) if image else 8).astype(np.float32)}
    nodes: list[Any] = []
    cases = {name: steps for name, (steps, _) in AFTER.items()} | OTHERS
    for i, steps in enumerate(cases.values()):
        w = (rng.standard_normal(shape) * (rng.random(shape) < 0.4)).astype(np.float32)
        held |= {f"w{i}": w, f"bias{i}": rng.standard_normal(8).astype(np.float32)}
        more: dict[str, Any] = {"pads": [1, 1, 1, 1]} if image else {}
        kind, name = "Conv" if image else "Gemm", list(cases)[i]
        nodes.append(node(kind, ["x", f"w{i}", f"bias{i}"], [f"s{i}"], name=name, **more))
        for step in steps:
            mine = onnx.NodeProto()
            mine.CopyFrom(step)
            for names in (mine.input, mine.output):
                for j, value in enumerate(names):
                    if value[0].isdigit():
                        held[value] = np.array(float(value), np.float32)
                    elif value != "slope":
                        names[j] = f"{value}{i}"
            nodes.append(mine)
    graph = helper.make_graph(
        nodes, "small", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [onnx.ValueInfoProto(name=f"y{i}") for i in range(len(cases))],
        [numpy_helper.from_array(v, n) for n, v in held.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), x


@pytest.mark.parametrize("image", [True, False], ids=["image", "matrix"])
def test_activations_are_fused_into_products(image: bool):
    proto, x = network(image)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": x})
    artifact = compile_network(import_model(proto, "small", Path()), target="cpu", inputs=[x], plan="csr")
    for found, y in zip(artifact(x, threads=2), expected, strict=True):
        np.testing.assert_allclose(found, y, rtol=3e-6, atol=3e-6)
    # The program compares all values with exact ones, within their bounds.
    artifact.run_program("--seconds", "0")
    fused = {p["name"]: p["fused"] for p in artifact.predicted().to_json()["products"]}
    layers = {layer.name: layer for layer in artifact.layers}
    for name, (_, wanted) in AFTER.items():
        assert wanted in fused[name]
        text = str(layers[name].stages[-1].module)
        assert "sparse.epilogue" in text
        assert ("activation" in text) == ("limits" not in wanted)
    assert all(fused[name][-1] == "bias" for name in OTHERS)


def given(rng: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    w = (rng.standard_normal((37, 50)) * (rng.random((37, 50)) < 0.3)).astype(np.float32)
    x, bias, residual = (
        rng.standard_normal(shape).astype(np.float32) for shape in ((50, 21), (37,), (37, 21))
    )
    return w, x, bias, residual


CALLS: dict[str, tuple[Any, Callable[[Array], Array]]] = {
    "relu": ("relu", lambda x: np.maximum(x, 0)),
    "relu6": ("relu6", lambda x: np.clip(x, 0, 6)),
    "clip": (("clip", -0.5, 2), lambda x: np.clip(x, -0.5, 2)),
    "leaky": (("leaky_relu", 0.1), lambda x: np.where(x < 0, 0.1 * x, x)),
    "prelu": (
        ("leaky_relu", np.arange(37) / 10),
        lambda x: np.where(x < 0, np.arange(37)[:, None] / 10 * x, x),
    ),
    "silu": ("silu", lambda x: x * sigmoid(x)),
}


@pytest.mark.parametrize("case", list(CALLS))
def test_a_matrix_with_what_is_fused(case: str, tmp_path: Path):
    w, x, bias, residual = given(np.random.default_rng(4))
    activation, function = CALLS[case]
    plan = {"clip": "csr", "prelu": "dense"}.get(case, "auto")
    product: Any = compile_any(
        w, target="cpu", n=21, bias=bias, activation=activation, residual=True, plan=plan, check_stages=True
    )
    exact = function(w.astype(np.float64) @ x + bias[:, None] + residual)
    np.testing.assert_allclose(product(x, residual=residual), exact, rtol=1e-5, atol=1e-5)
    y = np.empty((37, 21), np.float32)
    product.bind(x, y, 2, residual)()
    np.testing.assert_allclose(y, exact, rtol=1e-5, atol=1e-5)
    # One position takes another kernel.
    np.testing.assert_allclose(product(x[:, 0], residual=residual[:, 0]), exact[:, 0], rtol=1e-5, atol=1e-5)
    with pytest.raises(UserError, match="found none, but the operator was compiled with one"):
        product(x)
    alone: Any = compile_any(w, target="cpu", n=21, activation=activation, plan=plan)
    np.testing.assert_allclose(alone(x), function(w.astype(np.float64) @ x), rtol=1e-5, atol=1e-5)
    if case in ("silu", "prelu"):
        assert product.report.exact
        product.save(tmp_path / "out")
        done = subprocess.run(
            ["make", "-s", "-C", str(tmp_path / "out"), "CFLAGS=-O0", "check"], capture_output=True, text=True
        )
        assert (done.returncode, "every value within" in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_activations_of_narrow_types(dtype: str):
    w, x, bias, _ = given(np.random.default_rng(5))
    product: Any = compile_any(w, target="cpu", n=21, dtype=dtype, bias=bias, activation="gelu")
    plain: Any = compile_any(w, target="cpu", n=21, dtype=dtype, bias=bias)
    sums = plain(x).astype(np.float64)
    np.testing.assert_allclose(product(x), sums * functions.ndtr(sums), rtol=1e-5, atol=1e-6)
    assert product.report.exact


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "softmax"}, "activation 'softmax'; needed one of relu, relu6, clip, leaky_relu"),
        ({"activation": ("clip", 3, 1)}, "limits 3.0 and 1.0"),
        ({"activation": ("leaky_relu", [1, 2])}, "has 2 slopes; needed 37"),
        ({"activation": ("sigmoid", 1)}, "sigmoid with 1 numbers; needed 0"),
        ({"bias": np.zeros(3)}, "bias has 3 values; needed 37"),
        ({"bias": np.zeros(37) * 1j}, "a bias of complex128; needed float32"),
        ({"residual": True, "dtype": "i8"}, "i32 stays as it is"),
        ({"residual": True, "dtype": "f16"}, "a residual beside a product of f16; needed one of f32"),
        ({"activation": "relu", "target": "isaac128"}, "has crossbars, whose stores take scales alone"),
        ({"activation": "silu", "target": "scalesim-ws16", "dtype": "f32"}, "do not do this epilogue"),
    ],
    ids=["name", "limits", "slopes", "numbers", "bias", "complex", "bytes", "half", "crossbars", "unit"],
)
def test_what_is_refused(options: dict[str, Any], message: str):
    w, *_ = given(np.random.default_rng(4))
    with pytest.raises(UserError, match=message):
        compile_any(w, **({"target": "cpu", "n": 21} | options))
