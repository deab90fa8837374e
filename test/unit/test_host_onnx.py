"""The C operators of the host against onnxruntime: one node each, also with the batch last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from host_cases import bind, installed
from numpy.typing import NDArray

from sparsecc.host import walk as walks
from sparsecc.host.movement import pad_map
from sparsecc.host.operator import Product, Window
from sparsecc.host.ops import OPERATORS
from sparsecc.host.recurrent import Activation
from sparsecc.host.walk import Walk
from sparsecc.nn.shapes import window_extents

onnx: Any = pytest.importorskip("onnx", reason="the model of one node is written with onnx (extra onnx)")
ort: Any = pytest.importorskip("onnxruntime", reason="it computes what is expected (extra check)")

Array = NDArray[Any]
Run = Callable[..., int | None]
INT64 = np.int64


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Calls a C function by name."""
    library = installed(tmp_path_factory.mktemp("host"))

    def call(name: str, *values: Any) -> int | None:
        return bind(library, OPERATORS[name])(values)

    return call


def node(
    kind: str, inputs: Sequence[Array | None], outputs: int = 1, opset: int = 20, **given: Any
) -> list[Array]:
    """What onnxruntime computes, without rewriting the model."""
    names = ["" if a is None else f"x{i}" for i, a in enumerate(inputs)]
    results = [f"y{i}" for i in range(outputs)]
    held = {n: a for n, a in zip(names, inputs, strict=True) if a is not None}
    element = onnx.helper.np_dtype_to_tensor_dtype
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(kind, names, results, **given)],
        "node",
        [onnx.helper.make_tensor_value_info(n, element(a.dtype), a.shape) for n, a in held.items()],
        [onnx.helper.make_empty_tensor_value_info(r) for r in results],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=9)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return cast("list[Array]", session.run(None, held))


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32)


def close(found: Array, wanted: Array, tolerance: float = 2e-6) -> None:
    """onnxruntime evaluates functions in f32, by polynomials."""
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


UNARY: list[tuple[str, str, tuple[float, ...], dict[str, Any]]] = [
    ("Relu", "relu", (), {}),
    ("Sigmoid", "sigmoid", (), {}),
    ("Tanh", "tanh", (), {}),
    ("Erf", "erf", (), {}),
    ("Exp", "exp", (), {}),
    ("Neg", "neg", (), {}),
    ("Abs", "abs", (), {}),
    ("Reciprocal", "reciprocal", (), {}),
    ("Round", "round", (), {}),
    ("Sign", "sign", (), {}),
    ("Softplus", "softplus", (), {}),
    ("Softsign", "softsign", (), {}),
    ("Gelu", "gelu", (), {}),
    ("Gelu", "gelu_tanh", (), {"approximate": "tanh"}),
    ("LeakyRelu", "leaky_relu", (0.1,), {"alpha": 0.1}),
    ("Elu", "elu", (0.7,), {"alpha": 0.7}),
    ("HardSigmoid", "hard_sigmoid", (0.25, 0.4), {"alpha": 0.25, "beta": 0.4}),
    ("HardSwish", "hard_swish", (1 / 6, 0.5), {}),
]


@pytest.mark.parametrize(
    ("kind", "name", "numbers", "given"), UNARY, ids=[f"{k}-{n}" for k, n, _, _ in UNARY]
)
def test_unary(run: Run, kind: str, name: str, numbers: Sequence[float], given: dict[str, Any]) -> None:
    x = np.concatenate([normal(200), np.array([0.5, 1.5, 2.5, -0.5, 0, 30, -30], np.float32)])
    y = np.empty_like(x)
    run(f"host_{name}_f32", y, x, x.size, *numbers)
    close(y, node(kind, [x], **given)[0])


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "Less"])
def test_binary(run: Run, kind: str) -> None:
    a, b = np.abs(normal(3, 1, 5)), normal(2, 1, 4, 1, seed=1)
    wanted = node(kind, [a, b])[0]
    y = np.empty(wanted.shape, np.uint8 if kind == "Less" else np.float32)
    run(f"host_{kind.lower()}_f32", y, a, b, Walk.broadcast(a.shape, b.shape).table())
    close(y, wanted.astype(y.dtype))


@pytest.mark.parametrize(("name", "kind"), [("mod", "i32"), ("fmod", "i32"), ("fmod", "f32")])
def test_rest(run: Run, name: str, kind: str) -> None:
    dtype: Any = {"i32": np.int32, "f32": np.float32}[kind]
    a, b = np.arange(-9, 9).astype(dtype), np.tile([-3, 2, 5, -4, 7, 1], 3).astype(dtype)
    y = np.empty_like(a)
    run(f"host_{name}_{kind}", y, a, b, Walk.broadcast(a.shape, b.shape).table())
    np.testing.assert_array_equal(y, node("Mod", [a, b], fmod=int(name == "fmod"))[0])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_along_an_axis(run: Run, axis: int) -> None:
    x = normal(3, 7, 5)
    outer, n, inner = int(np.prod(x.shape[:axis])), x.shape[axis], int(np.prod(x.shape[axis + 1 :]))
    for kind, name in (("Softmax", "softmax"), ("LogSoftmax", "log_softmax")):
        y = np.empty_like(x)
        run(f"host_{name}_f32", y, x, outer, n, inner)
        close(y, node(kind, [x], axis=axis)[0])
    for kind in ("Sum", "Mean", "Max", "Min", "Prod"):
        y = np.empty(outer * inner, np.float32)
        run(f"host_reduce_{kind.lower()}_f32", y, x, outer, n, inner)
        close(y, node(f"Reduce{kind}", [x, np.array([axis], INT64)], keepdims=0)[0].reshape(-1), 1e-5)
    ties = np.round(x)
    for last in (0, 1):
        for kind in ("ArgMax", "ArgMin"):
            place = np.empty(outer * inner, INT64)
            run(f"host_{kind.lower()}_f32", place, ties, outer, n, inner, last)
            wanted = node(kind, [ties], axis=axis, keepdims=0, select_last_index=last)[0]
            np.testing.assert_array_equal(place, wanted.reshape(-1))


def test_normalisation(run: Run) -> None:
    x, scale, bias = normal(4, 6, 5), normal(6, seed=1), normal(6, seed=2)
    y = np.empty_like(x)
    rows = np.ascontiguousarray(x.transpose(0, 2, 1))
    run("host_layer_norm_f32", y, x, scale, bias, 4, 6, 5, 1e-5)
    wanted = node("LayerNormalization", [rows, scale, bias], axis=-1, epsilon=1e-5)[0]
    close(y, wanted.transpose(0, 2, 1), 1e-5)
    mean, variance = normal(6, seed=3), np.abs(normal(6, seed=4)) + np.float32(0.1)
    run("host_batch_norm_f32", y, x, scale, bias, mean, variance, 4, 6, 5, 1e-5)
    close(y, node("BatchNormalization", [x, scale, bias, mean, variance], epsilon=1e-5)[0], 1e-5)


POOLS = [
    ((3, 3), (2, 2), (1, 1, 1, 1), (1, 1), False, False),
    ((3, 2), (2, 3), (0, 1, 2, 0), (1, 1), True, False),
    ((2, 2), (1, 1), (0, 0, 1, 1), (2, 1), False, True),
    ((3, 3), (2, 2), (1, 1, 1, 1), (1, 1), True, True),
    ((1, 5), (1, 2), (0, 2, 0, 2), (1, 1), False, True),
]


@pytest.mark.parametrize(("kernel", "strides", "pads", "dilations", "ceil", "counted"), POOLS)
def test_pooling(
    run: Run,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, int, int, int],
    dilations: tuple[int, int],
    ceil: bool,
    counted: bool,
) -> None:
    """Also as quantised bytes, and with the batch last."""
    x = normal(2, 3, 8, 9)
    last = np.ascontiguousarray(np.moveaxis(x, 0, -1))
    out = window_extents(x.shape[2:], kernel, strides, pads, dilations, ceil)
    low, high = pads[:2], pads[2:]
    first = Window(6, 8, 9, 1, out[0], out[1], *kernel, *strides, *dilations, *low, *high)
    batch_last = replace(first, outer=3, inner=2)
    given: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": strides,
        "pads": pads,
        "dilations": dilations,
        "ceil_mode": ceil,
    }
    for kind, name, more, numbers in (
        ("MaxPool", "max_pool", {}, ()),
        ("AveragePool", "average_pool", {"count_include_pad": counted}, (int(counted),)),
    ):
        wanted = node(kind, [x], **given, **more)[0]
        y, z = np.empty((2, 3, *out), np.float32), np.empty((3, *out, 2), np.float32)
        run(f"host_{name}_f32", y, x, first, *numbers)
        run(f"host_{name}_f32", z, last, batch_last, *numbers)
        close(y, wanted)
        close(np.moveaxis(z, -1, 0), wanted)
    bytes_x = (np.abs(x) * 40).astype(np.uint8)
    y = np.empty((2, 3, *out), np.uint8)
    run("host_max_pool_u8", y, bytes_x, first)
    np.testing.assert_array_equal(y, node("MaxPool", [bytes_x], **given)[0])


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_convolution(run: Run, groups: int) -> None:
    """im2col and a product per group; direct where each channel is its own group."""
    x, w, bias = normal(2, 6, 7, 8), normal(12, 6 // groups, 3, 2, seed=1), normal(12, seed=2)
    given: dict[str, Any] = {"strides": [2, 1], "pads": [1, 0, 1, 1], "dilations": [1, 2], "group": groups}
    wanted = node("Conv", [x, w, bias], **given)[0]
    out, positions = wanted.shape[2:], int(np.prod(wanted.shape[2:])) * 2
    last = np.ascontiguousarray(np.moveaxis(x, 0, -1))
    window = Window(6, 7, 8, 2, out[0], out[1], 3, 2, 2, 1, 1, 2, 1, 0, 1, 1)
    patches, y = np.empty((36, positions), np.float32), np.empty((12, positions), np.float32)
    run("host_im2col_4", patches, last, window, None, 36, 0)
    m, k = 12 // groups, 36 // groups
    product = Product(m, positions, k, positions, 1, k, 1, positions, 1)
    batch = Walk.of((groups,), (m * positions,), (m * k,), (k * positions,))
    run("host_matmul_f32", y, w, patches, product, batch.table())
    run("host_add_f32", y, y, bias, Walk.broadcast(y.shape, (12, 1)).table())
    close(np.moveaxis(y.reshape(12, *out, 2), -1, 0), wanted, 1e-5)
    if groups == 6:
        window = replace(window, outer=24, inner=1)
        direct = np.empty(wanted.shape, np.float32)
        run("host_depthwise_f32", direct, x, w, bias, window, 12, 2)
        close(direct, wanted, 1e-5)


def test_integer_convolution(run: Run) -> None:
    random = np.random.default_rng(0)
    x, w = random.integers(0, 256, (2, 4, 6, 5), np.uint8), random.integers(-128, 128, (4, 1, 3, 3), np.int8)
    zeros = np.array(131, np.uint8), np.array(3, np.int8)
    wanted = node("ConvInteger", [x, w, *zeros], group=4, pads=[1, 1, 1, 1])[0]
    y = np.empty(wanted.shape, np.int32)
    window = Window(8, 6, 5, 1, 6, 5, 3, 3, pad_top=1, pad_left=1, pad_bottom=1, pad_right=1)
    run("host_depthwise_u8", y, x, (w.astype(np.int16) - 3).reshape(-1), None, window, 4, 1, 131)
    np.testing.assert_array_equal(y, wanted)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_pad(run: Run, mode: str) -> None:
    x, pads = normal(2, 3, 4, 5), np.array([0, 0, 2, 1, 0, 0, 1, 3], INT64)
    fill = np.float32(-1.5)
    wanted = node("Pad", [x, pads, np.array(fill)] if mode == "constant" else [x, pads], mode=mode)[0]
    y = np.empty_like(wanted)
    maps = pad_map(4, 2, 1, mode), pad_map(5, 1, 3, mode)
    run("host_remap_4", y, x, 6, 4, 5, 1, 7, 9, *maps, int(fill.view(np.uint32)))
    np.testing.assert_array_equal(y, wanted)


def test_moves(run: Run) -> None:
    x = normal(2, 3, 4, 5)
    y = np.empty((5, 3, 2, 4), np.float32)
    run("host_copy_4", y, x, walks.transpose(x.shape, (3, 1, 0, 2)).table())
    np.testing.assert_array_equal(y, node("Transpose", [x], perm=[3, 1, 0, 2])[0])
    indices = np.array([[2, -1], [0, 1]], INT64)
    y = np.empty((2, 3, 2, 2, 5), np.float32)
    assert run("host_gather_4_i64", y, x, indices, 6, 4, 5, 4) == 0
    np.testing.assert_array_equal(y, node("Gather", [x, indices], axis=2)[0])
    indices[1, 0] = 4
    assert run("host_gather_4_i64", y, x, indices, 6, 4, 5, 4) == 3
    chosen, other = x > 0, normal(3, 1, 1, seed=1)
    y = np.empty_like(x)
    walk = Walk.broadcast(chosen.shape, x.shape, other.shape)
    run("host_where_4", y, chosen.view(np.uint8), x, other, walk.table())
    np.testing.assert_array_equal(y, node("Where", [chosen, x, other])[0])


def test_products(run: Run) -> None:
    a, b = normal(2, 3, 5, 7), normal(3, 7, 4, seed=1)
    y = np.empty((2, 3, 5, 4), np.float32)
    batch = Walk.of((2, 3), (60, 20), (105, 35), (0, 28))
    run("host_matmul_f32", y, a, b, Product(5, 4, 7, 4, 1, 7, 1, 4, 1), batch.table())
    close(y, node("MatMul", [a, b])[0], 1e-5)
    random = np.random.default_rng(3)
    left, right = random.integers(0, 256, (5, 300), np.uint8), random.integers(-128, 128, (300, 6), np.int8)
    zeros = random.integers(0, 256, 1, np.uint8), random.integers(-128, 128, 6, np.int8)
    z = np.empty((5, 6), np.int32)
    product = Product(5, 6, 300, 6, 1, 300, 1, 6, 1, 0, 1)
    run("host_matmul_u8_i8", z, left, right, *zeros, product, Walk.of((1,), *[(1,)] * 3).table())
    wanted = node("MatMulInteger", [left, right, zeros[0].reshape(()), zeros[1]])[0]
    np.testing.assert_array_equal(z, wanted)


@pytest.mark.parametrize("kind", ["i8", "u8"])
def test_quantisation(run: Run, kind: str) -> None:
    dtype: Any = {"i8": np.int8, "u8": np.uint8}[kind]
    x = np.concatenate([normal(2, 3, 40) * 9, np.arange(-15, 15).reshape(2, 3, 5) / np.float32(2)], axis=2)
    x = np.ascontiguousarray(x, np.float32)
    scale, zero = np.array([0.1, 1, 0.37], np.float32), np.array([3, 0, 100]).astype(dtype)
    y = np.empty(x.shape, dtype)
    run(f"host_quantize_{kind}", y, x, scale, zero, 2, 3, 45)
    np.testing.assert_array_equal(y, node("QuantizeLinear", [x, scale, zero], axis=1)[0])
    back = np.empty_like(x)
    run(f"host_dequantize_{kind}", back, y, scale, zero, 2, 3, 45)
    np.testing.assert_array_equal(back, node("DequantizeLinear", [y, scale, zero], axis=1)[0])


def test_sums_are_requantised_as_in_qlinear(run: Run) -> None:
    random = np.random.default_rng(5)
    a, b = random.integers(0, 256, (9, 50), np.uint8), random.integers(-128, 128, (50, 8), np.int8)
    sa, sb, sy = (np.array(s, np.float32) for s in (0.02, 0.004, 0.11))
    za, zb, zy = np.array(120, np.uint8), np.array(0, np.int8), np.array(130, np.uint8)
    inputs = [a, sa, za, b, sb, zb, sy, zy]
    wanted = node("QLinearMatMul", inputs)[0]
    sums = (a.astype(np.int32) - 120) @ b.astype(np.int32)
    y = np.empty_like(wanted)
    factor = np.array([sa * sb / sy], np.float32)
    run("host_requantize_u8", y, sums, factor, 1, 1, sums.size, 130)
    np.testing.assert_array_equal(y, wanted)


@pytest.mark.parametrize("values", ["both", "positive", "zero"])
def test_dynamic_quantisation(run: Run, values: str) -> None:
    x = {"both": normal(90), "positive": np.abs(normal(90)) + 1, "zero": np.zeros(9)}[values].astype(
        np.float32
    )
    y, scale, zero = np.empty(x.shape, np.uint8), np.empty(1, np.float32), np.empty(1, np.uint8)
    run("host_dynamic_quantize_u8", y, scale, zero, x, x.size)
    wanted = node("DynamicQuantizeLinear", [x], 3)
    np.testing.assert_array_equal(y, wanted[0])
    assert (scale[0], zero[0]) == (wanted[1], wanted[2])


def test_lstm(run: Run) -> None:
    """Three steps with the batch last, peepholes and clipping."""
    steps, batch, inputs, hidden = 3, 4, 5, 6
    x, w, r = normal(steps, batch, inputs), normal(1, 24, inputs, seed=1), normal(1, 24, hidden, seed=2)
    bias, peephole = normal(1, 48, seed=3), normal(1, 18, seed=4)
    h, c = normal(1, batch, hidden, seed=5), normal(1, batch, hidden, seed=6)
    given = [x, w, r, bias, None, h, c, peephole]
    wanted = node("LSTM", given, 3, opset=14, hidden_size=hidden, clip=1.5)
    state, cell = np.ascontiguousarray(h[0].T), np.ascontiguousarray(c[0].T)
    f, g, size = Activation.SIGMOID, Activation.TANH, (1, hidden, batch)
    for t in range(steps):
        of_x = w[0] @ x[t].T + bias[0, :24, None]
        of_r = r[0] @ state + bias[0, 24:, None]
        run("host_lstm_cell_f32", cell, of_x, of_r, cell, peephole[0], *size, f, g, 1.5, 0)
        run("host_lstm_state_f32", state, of_x, of_r, cell, peephole[0], *size, f, g, 1.5)
        close(state.T, wanted[0][t, 0], 1e-5)
    close(cell.T, wanted[2][0], 1e-5)


@pytest.mark.parametrize("linear", [0, 1])
def test_gru(run: Run, linear: int) -> None:
    """Both orders of the reset gate and the product, features last."""
    steps, batch, inputs, hidden = 3, 4, 5, 6
    x, w, r = normal(steps, batch, inputs), normal(1, 18, inputs, seed=1), normal(1, 18, hidden, seed=2)
    bias, h = normal(1, 36, seed=3), normal(1, batch, hidden, seed=5)
    wanted = node(
        "GRU", [x, w, r, bias, None, h], 2, opset=14, hidden_size=hidden, linear_before_reset=linear
    )
    state, size = h[0].copy(), (batch, hidden, 1)
    f, g = Activation.SIGMOID, Activation.TANH
    kept = np.empty_like(state)
    for t in range(steps):
        of_x = x[t] @ w[0].T + bias[0, :18]
        if linear:
            of_r = state @ r[0].T + bias[0, 18:]
            run("host_gru_f32", state, of_x, of_r, state, *size, f, g, 0.0)
        else:
            of_r = state @ r[0, :12].T + bias[0, 18:30]
            run("host_gru_kept_f32", kept, of_x, of_r, state, *size, f, 0.0)
            of_kept = kept @ r[0, 12:].T + bias[0, 30:]
            run("host_gru_update_f32", state, of_x, of_r, of_kept, state, *size, f, g, 0.0)
        close(state, wanted[0][t, 0], 1e-5)
