"""Networks in bytes: calibration and QDQ models, integers to the bit from the nn dialect to the C program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp

from bench import networks
from sparsecc.calibration import compare, outputs_of, record_ranges, recorded_range, samples_of
from sparsecc.driver.cli import main
from sparsecc.errors import UserError
from sparsecc.importers.onnx_file import import_model
from sparsecc.interpreters.host import run
from sparsecc.interpreters.sparse import run_module
from sparsecc.network.quantised import integer_passes
from sparsecc.network_compiler import NetworkArtifact, compile_network
from sparsecc.nn import quantization
from sparsecc.passes.convert_nn_to_host import ConvertNnToHostPass
from sparsecc.passes.fuse_into_products import FuseIntoProductsPass

Array = NDArray[Any]
MODELS = Path(__file__).resolve().parents[3] / "shared" / "data" / "models"
needs_models = pytest.mark.skipif(not MODELS.is_dir(), reason=f"no models in {MODELS}")
onnxruntime: Any = ort
onnx_library: Any = onnx


def model_of(
    nodes: list[onnx.NodeProto], constants: dict[str, Array], shape: list[int], output: str,
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:  # fmt: skip
    graph = helper.make_graph(
        nodes, "network", [helper.make_tensor_value_info("x", kind, shape)],
        [onnx.ValueInfoProto(name=output)], [numpy_helper.from_array(v, n) for n, v in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def random_network(seed: int) -> tuple[onnx.ModelProto, list[int]]:
    """Some of: convolutions, ReLU, pooling, a residual sum, a concatenation; a product. Its shape, too."""
    rng = np.random.default_rng(seed)
    node = helper.make_node
    batch, channels, size = int(rng.integers(1, 4)), int(rng.integers(1, 5)), int(rng.integers(4, 9))
    shape = [batch, channels, size, size]
    constants: dict[str, Array] = {}
    nodes: list[onnx.NodeProto] = []

    def weight(name: str, *shape: int) -> str:
        kept = rng.random(shape) < rng.choice([0.2, 0.6, 1.0])
        constants[name] = (rng.standard_normal(shape) * kept).astype(np.float32)
        return name

    def conv(x: str, name: str, outputs: int, inputs: int, kernel: int, group: int = 1) -> str:
        parts = [x, weight(f"{name}.w", outputs, inputs // group, kernel, kernel)]
        if rng.random() < 0.7:
            parts.append(weight(f"{name}.b", outputs))
        pads = [kernel // 2] * 4
        nodes.append(node("Conv", parts, [name], name=name, pads=pads, group=group))
        return name

    def relu(x: str) -> str:
        nodes.append(node("Relu", [x], [f"{x}.relu"], name=f"{x}.relu"))
        return f"{x}.relu"

    width = int(rng.integers(2, 20))
    x = relu(conv("x", "first", width, channels, 3))
    if rng.random() < 0.5:
        x = relu(conv(x, "depthwise", width, width, 3, group=width))
    if rng.random() < 0.5:
        nodes.append(node("Add", [conv(x, "second", width, width, 1), x], ["sum"], name="sum"))
        x = relu("sum")
    if rng.random() < 0.5:
        nodes.append(node("Concat", [x, relu(conv(x, "third", 3, width, 1))], ["both"], name="both", axis=1))
        x, width = "both", width + 3
    if rng.random() < 0.5:
        nodes.append(
            node("MaxPool", [x], ["pool"], name="pool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
        )
        x, size = "pool", -(-size // 2)
    nodes.append(node("Flatten", [x], ["flat"], name="flat"))
    product = ["flat", weight("classes.w", 5, width * size * size)]
    if rng.random() < 0.7:
        product.append(weight("classes.b", 5))
    nodes.append(node("Gemm", product, ["y"], name="classes", transB=1))
    return model_of(nodes, constants, shape, "y"), shape


def function_of(module: ModuleOp) -> func.FuncOp:
    return next(op for op in module.ops if isinstance(op, func.FuncOp) and op.sym_name.data == "main")


def samples(shape: list[int], count: int, seed: int = 1) -> dict[str, Array]:
    x = np.random.default_rng(seed).standard_normal((count, *shape[1:])).astype(np.float32)
    return {"x": x}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["auto", "channel", "tensor"]))
def test_the_calls_compute_what_the_integer_network_does(seed: int, scales: str):
    model, shape = random_network(seed)
    module = import_model(model, "random.onnx", Path())
    function = function_of(module)
    record_ranges(function, samples_of(function, ["x"], samples(shape, 4)))
    for one in integer_passes(True, scales):
        one.apply(Context(), module)
        module.verify()
    assert not any(op.name in ("nn.conv", "nn.linear") for op in module.walk())
    x = samples(shape, shape[0], seed=2)["x"]
    (wanted,) = run_module(module, x)
    for one in (ConvertNnToHostPass("gemmini16"), FuseIntoProductsPass(patches=False, stores=True)):
        one.apply(Context(), module)
        module.verify()
        lowered = function_of(module)
        found = run(module, lowered, [x], exact=True)
        (y,) = lowered.body.block.last_op.operands  # pyright: ignore[reportOptionalMemberAccess]
        assert np.array_equal(found.array(y), wanted)
        error = found.errors[y]
        assert error is not None
        assert not error.any()


@pytest.mark.parametrize(
    ("seed", "target"), [(3, "gemmini16"), (5, "tpu128"), (11, "scalesim-ws16")], ids=["a", "b", "c"]
)
def test_the_program_computes_what_the_integer_network_does(seed: int, target: str):
    model, shape = random_network(seed)
    module = import_model(model, "random.onnx", Path())
    artifact = compile_network(module, target=target, calibrate=samples(shape, 6), effort=0, confirm=False)
    x = samples(shape, shape[0], seed=2)["x"]
    assert np.array_equal(artifact(x), integers(artifact, x))
    report = artifact.report.to_json()
    assert (report["dtype"], report["worst_share"], report["accuracy"]["samples"]) == ("i8", 0, 6)


def test_a_residual_sum_is_one_call_on_bytes():
    rng = np.random.default_rng(9)
    node = helper.make_node
    names = ("w1", "w2", "w3")
    constants = {n: rng.standard_normal((4, 4, 1, 1)).astype(np.float32) for n in names}
    nodes = [
        node("Conv", ["x", "w1"], ["a"], name="a"),
        node("Relu", ["a"], ["r"], name="r"),
        node("Conv", ["r", "w2"], ["b"], name="b"),
        node("Add", ["b", "r"], ["s"], name="s"),
        node("Relu", ["s"], ["t"], name="t"),
        node("Conv", ["t", "w3"], ["y"], name="c"),
    ]
    shape = [2, 4, 5, 5]
    module = import_model(model_of(nodes, constants, shape, "y"), "residual.onnx", Path())
    artifact = compile_network(
        module, target="gemmini16", calibrate=samples(shape, 6), effort=0, confirm=False
    )
    x = samples(shape, 2, seed=2)["x"]
    assert np.array_equal(artifact(x), integers(artifact, x))
    report = artifact.report.to_json()
    assert [p["fused"] for p in report["products"]] == ["scale, relu to i8", "scale to i8", ""]
    operators = {row["name"]: row["operators"] for row in report["host"]}
    assert operators["t"] == ["host_add_q_i8", "host_relu_i8"]
    assert "s" not in operators


def integers(artifact: NetworkArtifact, x: Array) -> Array:
    """What the integer network gives on numpy."""
    stage = next(s for s in artifact.stages if s.name == "nn-fold-quantization")
    return run_module(stage.module, x)[0]


def session(model: onnx.ModelProto, x: Array) -> Array:
    found = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return found.run(None, {"x": x})[0]


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_qlinear_operators_give_onnxruntimes_bytes(kind: str):
    rng = np.random.default_rng(4)
    limits = np.iinfo(kind)
    byte = np.dtype(kind).type
    scale, zero = np.float32(0.02), byte(limits.min + 120)
    w = rng.integers(-127, 128, (6, 2, 3, 3)).astype(np.int8)
    w2 = rng.integers(-127, 128, (6 * 16, 5)).astype(np.int8)
    constants: dict[str, Array] = {
        "sx": np.array(scale), "zx": np.array(zero), "w": w,
        "sw": rng.uniform(0.001, 0.01, 6).astype(np.float32), "zw": np.zeros(6, np.int8),
        "sy": np.array(np.float32(0.05)), "zy": np.array(byte(limits.min + 100)),
        "b": rng.integers(-2000, 2000, 6).astype(np.int32), "w2": w2,
        "s2": np.array(np.float32(0.004)), "z2": np.array(np.int8(0)),
        "sz": np.array(np.float32(0.3)), "zz": np.array(byte(limits.min + 90)),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node(
            "QLinearConv", ["x", "sx", "zx", "w", "sw", "zw", "sy", "zy", "b"], ["c"], name="c", pads=[1] * 4
        ),
        node("Flatten", ["c"], ["f"], name="f"),
        node("QLinearMatMul", ["f", "sy", "zy", "w2", "s2", "z2", "sz", "zz"], ["y"], name="y"),
    ]
    onnx_kind = TensorProto.INT8 if kind == "int8" else TensorProto.UINT8
    model = model_of(nodes, constants, [2, 2, 4, 4], "y", onnx_kind)
    x = rng.integers(limits.min, limits.max + 1, (2, 2, 4, 4)).astype(kind)
    module = import_model(model, "q.onnx", Path())
    artifact = compile_network(module, target="gemmini16", effort=0, confirm=False, inputs=[x])
    y = artifact(x)
    assert isinstance(y, np.ndarray)
    assert y.dtype == kind
    assert np.array_equal(y, session(model, x))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", ["int8", "uint8"])
@pytest.mark.parametrize("pool", ["GlobalAveragePool", "ReduceMean"])
def test_a_mean_of_bytes_is_one_call(batch: int, kind: str, pool: str):
    rng, byte = np.random.default_rng(3), np.dtype(kind).type
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    constants: dict[str, Array] = {
        "sx": np.array(np.float32(0.0317)), "zx": np.array(byte(low + 90)),
        "sm": np.array(np.float32(0.0143)), "zm": np.array(byte(low + 120)),
        "w": rng.integers(-127, 128, (19, 5)).astype(np.int8), "sw": np.array(np.float32(0.005)),
        "zw": np.array(np.int8(0)), "sy": np.array(np.float32(0.02)), "zy": np.array(byte(low + 100)),
    }  # fmt: skip
    node = helper.make_node
    more: dict[str, Any] = {"axes": [2, 3], "keepdims": 1} if pool == "ReduceMean" else {}
    nodes = [
        node("DequantizeLinear", ["x", "sx", "zx"], ["r"], name="r"),
        node(pool, ["r"], ["m"], name="m", **more),
        node("Flatten", ["m"], ["f"], name="f"),
        node("QuantizeLinear", ["f", "sm", "zm"], ["q"], name="q"),
        node("QLinearMatMul", ["q", "sm", "zm", "w", "sw", "zw", "sy", "zy"], ["y"], name="y"),
    ]
    shape = [batch, 19, 5, 7]
    onnx_kind = TensorProto.INT8 if kind == "int8" else TensorProto.UINT8
    model = model_of(nodes, constants, shape, "y", onnx_kind)
    # Channels have means of their own, so that bytes are not all about the same.
    x = (rng.integers(low, high, shape) // 2 + rng.integers(-60, 60, (batch, 19, 1, 1))).clip(low, high)
    x = x.astype(kind)
    module = import_model(model, "mean.onnx", Path())
    artifact = compile_network(module, target="gemmini16", effort=0, confirm=False, inputs=[x])
    operators = [name for row in artifact.report.to_json()["host"] for name in row["operators"]]
    assert f"host_reduce_mean_q_{'i8' if kind == 'int8' else 'u8'}" in operators
    assert not any("dequantize" in name or "reduce_mean_f32" in name for name in operators)
    y = artifact(x)
    assert isinstance(y, np.ndarray)
    assert np.array_equal(y, integers(artifact, x))
    # onnxruntime adds in another order; a byte may be rounded the other way.
    assert np.abs(y.astype(int) - session(model, x).astype(int)).max() <= 1


def qdq_model(seed: int) -> onnx.ModelProto:
    """Two products between quantisations, a ReLU, pooling; the bias of the second is of floats."""
    rng = np.random.default_rng(seed)
    sx, sw, sy = np.float32(0.03), rng.uniform(0.002, 0.01, 4).astype(np.float32), np.float32(0.06)
    constants: dict[str, Array] = {
        "sx": np.array(sx), "zx": np.array(np.int8(5)), "sw": sw, "zw": np.zeros(4, np.int8),
        "w": rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8),
        "b": rng.integers(-500, 500, 4).astype(np.int32), "sb": (sx * sw).astype(np.float32),
        "zb": np.zeros(4, np.int32), "sy": np.array(sy), "zy": np.array(np.int8(-128)),
        "w2": rng.integers(-127, 128, (7, 4 * 4)).astype(np.int8), "s2": np.array(np.float32(0.005)),
        "z2": np.array(np.int8(0)), "b2": rng.standard_normal(7).astype(np.float32),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "sx", "zx"], ["xq"], name="xq"),
        node("DequantizeLinear", ["xq", "sx", "zx"], ["xr"], name="xr"),
        node("DequantizeLinear", ["w", "sw", "zw"], ["wr"], name="wr", axis=0),
        node("DequantizeLinear", ["b", "sb", "zb"], ["br"], name="br", axis=0),
        node("Conv", ["xr", "wr", "br"], ["c"], name="conv"),
        node("Relu", ["c"], ["r"], name="relu"),
        node("QuantizeLinear", ["r", "sy", "zy"], ["rq"], name="rq"),
        node("DequantizeLinear", ["rq", "sy", "zy"], ["rr"], name="rr"),
        node("MaxPool", ["rr"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["p"], ["f"], name="flat"),
        node("DequantizeLinear", ["w2", "s2", "z2"], ["w2r"], name="w2r"),
        node("Gemm", ["f", "w2r", "b2"], ["y"], name="classes", transB=1),
    ]
    return model_of(nodes, constants, [3, 3, 6, 6], "y")


def test_qdq_models_become_products_of_integers():
    model = qdq_model(6)
    x = np.random.default_rng(7).standard_normal((3, 3, 6, 6)).astype(np.float32)
    module = import_model(model, "qdq.onnx", Path())
    artifact = compile_network(module, target="gemmini16", effort=0, confirm=False, inputs=[x])
    assert [layer.name for layer in artifact.layers] == ["conv", "classes"]
    y = artifact(x)
    assert isinstance(y, np.ndarray)
    assert np.array_equal(y, integers(artifact, x))
    # Here and there a byte of the first layer is rounded the other way than in floats.
    np.testing.assert_allclose(y, session(model, x), atol=0.1)


def test_quantised_models_run_on_targets_of_floats():
    model = qdq_model(8)
    x = np.random.default_rng(7).standard_normal((3, 3, 6, 6)).astype(np.float32)
    module = import_model(model, "qdq.onnx", Path())
    artifact = compile_network(module, target="ascend910", effort=0, confirm=False, inputs=[x])
    np.testing.assert_allclose(artifact(x), session(model, x), atol=0.1)


# ---- calibration


def calibrated(x: Array) -> func.FuncOp:
    node = helper.make_node("Relu", ["x"], ["y"], name="relu")
    module = import_model(model_of([node], {}, [2, 3], "y"), "relu.onnx", Path())
    function = function_of(module)
    record_ranges(function, samples_of(function, ["x"], {"x": x}))
    return function


def test_ranges_are_those_of_all_samples_and_zero():
    x = np.array([[1, 2, 3], [4, 5, 6], [0.5, 7, 8]], np.float32)
    block = calibrated(x).body.block
    assert recorded_range(block.args[0]) == (0.0, 8.0)
    (result,) = block.last_op.operands  # pyright: ignore[reportOptionalMemberAccess]
    assert recorded_range(result) == (0.0, 8.0)
    assert recorded_range(calibrated(-x).body.block.args[0]) == (-8.0, 0.0)


@pytest.mark.parametrize("percentile", [99.0, 99.9])
def test_percentiles_leave_out_the_outermost_values(percentile: float):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2001, 2, 3)).astype(np.float32).reshape(-1, 3)
    x[7, 1] = 40.0
    node = helper.make_node("Relu", ["x"], ["y"], name="relu")
    function = function_of(import_model(model_of([node], {}, [4, 3], "y"), "relu.onnx", Path()))
    record_ranges(function, samples_of(function, ["x"], {"x": x * 0}), percentile)
    assert recorded_range(function.body.block.args[0]) == (0.0, 0.0)
    record_ranges(function, samples_of(function, ["x"], {"x": x}), percentile)
    bin_width = (40.0 - float(x.min())) / 2048
    tail = (100 - percentile) / 200
    block = function.body.block
    (result,) = block.last_op.operands  # pyright: ignore[reportOptionalMemberAccess]
    for value, array in ((block.args[0], x), (result, np.maximum(x, 0))):
        low, high = recorded_range(value) or (0.0, 0.0)
        assert low <= 0 <= high < 5
        wanted = np.quantile(array, [tail, 1 - tail])
        assert abs(low - wanted[0]) <= bin_width
        assert abs(high - wanted[1]) <= bin_width


def test_wrong_percentiles():
    node = helper.make_node("Relu", ["x"], ["y"], name="relu")
    module = import_model(model_of([node], {}, [2, 3], "y"), "relu.onnx", Path())
    x = np.ones((2, 3), np.float32)
    with pytest.raises(UserError, match="percentile 101: needed more than 50, and 100 at most"):
        compile_network(module, target="gemmini16", calibrate={"x": x}, percentile=101.0)
    with pytest.raises(UserError, match="a percentile is of ranges that a calibration finds"):
        compile_network(module, target="ascend910", percentile=99.0)


@pytest.mark.parametrize("percentile", [99.0, 100.0])
def test_masked_scores_may_be_infinite(percentile: float):
    rng = np.random.default_rng(0)
    node = helper.make_node
    constants: dict[str, Array] = {n: rng.standard_normal((8, 8)).astype(np.float32) for n in "qkvo"}
    constants["mask"] = np.where(np.tri(5), 0, -np.inf).astype(np.float32)
    nodes = [
        *(node("MatMul", ["x", n], [f"x{n}"], name=n) for n in "qkv"),
        node("Transpose", ["xk"], ["kt"], name="kt", perm=[0, 2, 1]),
        node("MatMul", ["xq", "kt"], ["s"], name="scores"),
        node("Add", ["s", "mask"], ["m"], name="masked"),
        node("Softmax", ["m"], ["p"], name="softmax", axis=-1),
        node("MatMul", ["p", "xv"], ["h"], name="weigh"),
        node("MatMul", ["h", "o"], ["y"], name="o"),
    ]
    model = model_of(nodes, constants, [2, 5, 8], "y")
    x = 0.3 * rng.standard_normal((4, 5, 8)).astype(np.float32)
    artifact = compile_network(
        import_model(model, "masked.onnx", Path()), target="gemmini16", effort=0, confirm=False,
        calibrate={"x": x}, percentile=percentile, inputs=[x[:2]],
    )  # fmt: skip
    y = artifact(x[:2])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"x": x[:2]})
    assert np.abs(y - wanted).max() < 0.05 * np.abs(wanted).max()


@pytest.mark.parametrize("count", [0, 3], ids=["one", "several"])
def test_inputs_without_a_common_batch(count: int):
    rng = np.random.default_rng(0)
    weights = {n: (0.4 * rng.standard_normal((1, 9, e))).astype(np.float32) for n, e in (("w", 4), ("r", 3))}
    # Both results of the layer are used, one of them as a factor.
    weights["o"] = rng.standard_normal((3, 5)).astype(np.float32)
    nodes = [
        helper.make_node("GRU", ["x", "w", "r", "", "", "h"], ["all", "last"], name="gru", hidden_size=3),
        helper.make_node("MatMul", ["all", "o"], ["product"], name="product"),
        helper.make_node("ReduceSum", ["last"], ["sum"], name="sum"),
        helper.make_node("Add", ["product", "sum"], ["y"], name="both"),
    ]
    shapes = {"x": [6, 2, 4], "h": [1, 2, 3]}
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()],
        [onnx.ValueInfoProto(name="y")], [numpy_helper.from_array(v, n) for n, v in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    leading = [count] if count else []
    given = {n: rng.standard_normal([*leading, *s]).astype(np.float32) for n, s in shapes.items()}
    one = {n: v[0] if count else v for n, v in given.items()}
    module = import_model(model, "gru.onnx", Path())
    artifact = compile_network(
        module, target="gemmini16", effort=0, confirm=False, calibrate=given, inputs=one
    )
    assert artifact.accuracy is not None
    assert artifact.accuracy.samples == max(count, 1)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, one)
    assert np.abs(artifact(*one.values()) - wanted).max() < 0.05 * np.abs(wanted).max()
    with pytest.raises(UserError, match=r"samples of (h have shape|every input)"):
        compile_network(module, target="gemmini16", calibrate={**given, "h": given["h"][..., :2]})
    labels = {"labels": np.zeros(max(count, 1), np.int64)}
    with pytest.raises(UserError, match="labels need a network whose inputs all have the batch"):
        compile_network(module, target="gemmini16", calibrate=given, labelled={**given, **labels})


def test_infinite_factors_are_refused():
    constants = {"limit": np.array(-np.inf, np.float32), "w": np.eye(3, dtype=np.float32)}
    nodes = [
        helper.make_node("Add", ["x", "limit"], ["a"], name="shift"),
        helper.make_node("MatMul", ["a", "w"], ["y"], name="product"),
    ]
    module = import_model(model_of(nodes, constants, [2, 3], "y"), "infinite.onnx", Path())
    with pytest.raises(UserError, match=r"calibration gives shift values from -inf to 0\.0; needed finite"):
        compile_network(module, target="gemmini16", calibrate={"x": np.ones((2, 3), np.float32)})


@pytest.mark.parametrize("symmetric", [True, False])
@given(low=st.floats(-1e6, 1e6), width=st.floats(0, 1e6))
def test_zero_and_the_range_are_held(symmetric: bool, low: float, width: float):
    scale, zero = quantization.activation(low, low + width, symmetric)
    assert -128 <= zero <= 127
    assert not symmetric or zero == 0
    for value in (min(low, 0), max(low + width, 0)):
        q = np.clip(np.rint(value / float(scale)) + zero, -128, 127)
        # Half a step, and as much for a zero point that is rounded.
        assert abs((q - zero) * float(scale) - value) <= 1.01 * float(scale)


def test_inputs_are_found_by_name_or_alone_and_shaped():
    function = calibrated(np.ones((2, 3), np.float32))
    images = np.arange(12, dtype=np.uint8).reshape(4, 3, 1)
    found = samples_of(function, ["x"], {"images": images, "labels": np.arange(4)})
    assert found.inputs[0].shape == (4, 3)
    assert found.inputs[0].dtype == np.float32
    assert found.labels is not None
    assert outputs_of(function, found).tolist() == images.reshape(4, 3).tolist()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": np.ones((2, 4))}, r"samples of x have shape \[4\]; needed \[3\]"),
        ({"x": np.ones((2, 3)), "z": np.ones(2)}, "calibration needs the inputs x"),
        ({"x": np.full((2, 3), np.nan)}, "not finite"),
        ({"x": np.ones((2, 3)), "labels": np.ones(3, int)}, "needed one integer for each of 2"),
        ({"x": np.ones((0, 3))}, "as many samples"),
        ({"x": np.array([["a", "b", "c"]])}, "elements of type <U1"),
    ],
    ids=["shape", "names", "nan", "labels", "none", "text"],
)
def test_samples_that_do_not_fit_are_refused(given: dict[str, Array], message: str):
    with pytest.raises(UserError, match=message):
        samples_of(calibrated(np.ones((2, 3), np.float32)), ["x"], given)


def test_answers_are_compared():
    before = np.array([[1.0, 0], [0, 1], [1, 0], [3, 1]])
    after = np.array([[0.5, 0], [0, 1], [0, 1], [1, 0]])
    found = compare(before, after, np.array([0, 1, 1, 1]))
    assert (found.before, found.after, found.agreement, found.largest_difference) == (0.5, 0.75, 0.75, 2.0)


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model, shape = random_network(3)
    path = tmp_path / "m.onnx"
    onnx_library.save(model, str(path))
    labels = np.arange(4) % 5
    np.savez(tmp_path / "x.npz", x=samples(shape, 4)["x"], labels=labels)
    np.save(tmp_path / "x.npy", labels)
    command = ["run", str(path), "--target", "gemmini16", "--effort", "0"]
    assert main([*command, "--calibrate", str(tmp_path / "x.npz")]) == 0
    assert "of 4 samples" in capsys.readouterr().out
    for arguments, message in (
        ([], "give inputs to quantise it by with --calibrate"),
        (["--calibrate", str(tmp_path / "x.npy")], "holds one array"),
        (["--calibrate", str(tmp_path / "none.npz")], "cannot be read"),
        (["--calibrate", str(tmp_path / "x.npz"), "--target", "ascend910"], "for targets that have i8"),
    ):
        assert main([*command, *arguments]) in (1, 2)
        assert message in capsys.readouterr().err


# ---- real networks


@needs_models
@pytest.mark.parametrize(
    ("name", "batch", "labelled"),
    [("lenet300100_pruned", 16, 2000), ("mnist_cntk", 1, 100)],
    ids=["lenet", "cntk"],
)
def test_digits_lose_no_accuracy(name: str, batch: int, labelled: int):
    digits = np.load(MODELS / "mnist_test_a.npz")
    images = digits["images"]
    artifact = compile_network(
        MODELS / f"{name}.onnx", target="gemmini16", batch=batch, effort=0,
        calibrate={"images": images[:200]},
        labelled={"images": images[-labelled:], "labels": digits["labels"][-labelled:]},
    )  # fmt: skip
    accuracy = artifact.accuracy
    assert accuracy is not None
    assert accuracy.before is not None
    assert accuracy.after is not None
    assert accuracy.after >= accuracy.before - 0.01
    (shape,) = (argument.type.get_shape() for argument in artifact.function.body.block.args)  # pyright: ignore
    x = images[:batch].reshape(shape).astype(np.float32)
    assert np.array_equal(artifact(x), integers(artifact, x))
    products = {p["name"]: p for p in artifact.report.to_json()["products"]}
    if name.startswith("lenet"):
        assert products["ip1"]["speedup"] >= 5
        assert products["ip1"]["fused"] == products["ip2"]["fused"] == "bias, scale, relu to i8"


@needs_models
def test_keyword_spotting_in_bytes():
    z, sounds = np.load(MODELS / "kws_dscnn.npz"), np.load(MODELS / "kws_a.npz")
    features, labels = sounds["features"][:40], sounds["labels"][:40]
    module = import_model(networks.keyword_spotting(z, quantised=True), "kws.onnx", Path(), batch=2)
    artifact = compile_network(
        module, target="gemmini16", effort=0, confirm=False,
        labelled={"features": features, "labels": labels}, inputs=[features[:2]],
    )  # fmt: skip
    assert np.array_equal(artifact(features[:2]), integers(artifact, features[:2]))
    whole = import_model(networks.keyword_spotting(z, quantised=False), "kws.onnx", Path(), batch=40)
    reals = run_module(whole, features)[0].argmax(axis=1)
    accuracy = artifact.accuracy
    assert accuracy is not None
    assert accuracy.after is not None
    assert accuracy.after >= float((reals == labels).mean()) - 0.02
    host = {operator for row in artifact.report.to_json()["host"] for operator in row["operators"]}
    assert "host_spmm_f32" not in host
