"""ONNX files: sparse initializers, external data, folding, functions; a bad file is a UserError."""

from __future__ import annotations

import sys
from collections.abc import Sequence
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
from xdsl.dialects.builtin import Builtin, ModuleOp
from xdsl.dialects.func import Func
from xdsl.parser import Parser

from sparsecc.dialects.nn import Nn
from sparsecc.dialects.sparse import ConstantOp, Sparse
from sparsecc.errors import UserError
from sparsecc.importers.onnx_file import import_model, import_onnx
from sparsecc.interpreters.sparse import run_module

Array = NDArray[Any]
onnxruntime: Any = ort
library: Any = onnx

FLOAT = TensorProto.FLOAT
node = helper.make_node
RNG = np.random.default_rng(5)


def constant(name: str, values: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values), name)


def sparse(name: str, shape: Sequence[int], indices: Any, values: Sequence[float]) -> onnx.SparseTensorProto:
    return helper.make_sparse_tensor(
        constant(name, np.array(values, np.float32)), constant(f"{name}.indices", np.array(indices)), shape
    )


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Sequence[int | str | None]],
    outputs: Sequence[str],
    constants: Sequence[onnx.TensorProto] = (),
    sparse: Sequence[onnx.SparseTensorProto] = (),
    opset: int = 17,
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()]
    results = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = helper.make_graph(nodes, "g", values, results, constants, sparse_initializer=sparse)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=8)


def imported(model: onnx.ModelProto, **options: Any) -> ModuleOp:
    module = import_model(model, "model.onnx", Path(), **options)
    module.verify()
    return module


def onnxruntime_outputs(model: onnx.ModelProto | str, *inputs: Array) -> list[Array]:
    source = model if isinstance(model, str) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))


def assert_same(module: ModuleOp, model: onnx.ModelProto | str, *inputs: Array) -> None:
    for result, wanted in zip(run_module(module, *inputs), onnxruntime_outputs(model, *inputs), strict=True):
        np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-5)


def operations(module: ModuleOp) -> list[str]:
    return [op.name for op in module.walk() if op.name.startswith(("nn.", "sparse."))]


def error_of(model: onnx.ModelProto, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        import_model(model, "model.onnx", Path(), **options)
    return str(caught.value)


LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"

# ---- sparse initializers

PLACES = [1, 6, 8, 17, 22]
VALUES = [1.5, -2.0, 0.25, 3.0, 4.0]
SPARSE = {
    "linear": sparse("w", [6, 4], PLACES, VALUES),
    "coordinates": sparse("w", [6, 4], [divmod(p, 4) for p in PLACES], VALUES),
}


@pytest.mark.parametrize("kind", SPARSE)
def test_sparse_initializers_stay_sparse(kind: str):
    model = model_of([node("MatMul", ["x", "w"], ["y"], name="fc")], {"x": [3, 6]}, ["y"], (), [SPARSE[kind]])
    module = imported(model)
    assert operations(module) == ["sparse.constant", "nn.linear"]
    (weight,) = (op.weight for op in module.walk() if isinstance(op, ConstantOp))
    assert weight.nnz.data == len(PLACES)
    dense = np.zeros(24, np.float32)
    dense[PLACES] = VALUES
    np.testing.assert_array_equal(weight.dense(), dense.reshape(6, 4).T)
    assert_same(module, model, RNG.standard_normal((3, 6)).astype(np.float32))


def test_sparse_weights_of_gemm_and_conv():
    nodes = [
        node("Conv", ["x", "k"], ["c"], name="conv"), node("Flatten", ["c"], ["f"], name="flat"),
        node("Gemm", ["f", "w"], ["y"], name="fc", transB=1),
    ]  # fmt: skip
    kernel = sparse("k", [2, 1, 2, 2], [0, 3, 6], [1, 2, 3])
    weight = sparse("w", [3, 8], [[0, 1], [2, 7]], [4, 5])
    model = model_of(nodes, {"x": [2, 1, 3, 3]}, ["y"], (), [kernel, weight])
    module = imported(model)
    assert operations(module).count("sparse.constant") == 2
    x = RNG.standard_normal((2, 1, 3, 3)).astype(np.float32)
    dense = onnx.ModelProto()  # onnxruntime refuses sparse kernels of more than two dimensions
    dense.CopyFrom(model)
    del dense.graph.sparse_initializer[:]
    for name, shape, places, values in (
        ("k", (2, 1, 2, 2), [0, 3, 6], [1, 2, 3]),
        ("w", (3, 8), [1, 23], [4, 5]),
    ):
        flat = np.zeros(int(np.prod(shape)), np.float32)
        flat[places] = values
        dense.graph.initializer.append(constant(name, flat.reshape(shape)))
    assert_same(module, dense, x)


def test_sparse_values_of_constant_nodes():
    nodes = [node("Constant", [], ["w"], sparse_value=SPARSE["linear"]), node("MatMul", ["x", "w"], ["y"])]
    module = imported(model_of(nodes, {"x": [3, 6]}, ["y"]))
    assert operations(module) == ["sparse.constant", "nn.linear"]


@pytest.mark.parametrize(
    ("indices", "count", "said"),
    [
        ([1, 1], 2, "two values at [0, 1]"),
        ([1, 24], 2, "the index [24]"),
        ([-1, 3], 2, "the index [-1]"),
        ([[0, 1], [6, 0]], 2, "the index [6, 0]"),
        ([1, 2, 3], 2, "2 values and indices of shape [3]"),
        ([[0, 1, 2]], 1, "1 values and indices of shape [1, 3]"),
    ],
)
def test_contradictory_sparse_indices(indices: Any, count: int, said: str):
    weight = sparse("w", [6, 4], indices, [1.0] * count)
    model = model_of([node("MatMul", ["x", "w"], ["y"])], {"x": [3, 6]}, ["y"], (), [weight])
    message = error_of(model)
    assert "sparse initializer 'w'" in message
    assert said in message


# ---- external data


@pytest.fixture
def external(tmp_path: Path) -> Path:
    weight = RNG.standard_normal((6, 4)).astype(np.float32)
    model = model_of([node("MatMul", ["x", "w"], ["y"])], {"x": [3, 6]}, ["y"], [constant("w", weight)])
    path = tmp_path / "model.onnx"
    library.save_model(model, str(path), save_as_external_data=True, location="data.bin", size_threshold=0)
    return path


def test_external_data(external: Path):
    assert_same(import_onnx(external), str(external), RNG.standard_normal((3, 6)).astype(np.float32))


def test_missing_external_data(external: Path):
    (external.parent / "data.bin").unlink()
    with pytest.raises(UserError, match=r"initializer 'w', external data in .*data\.bin: no such file"):
        import_onnx(external)


def test_short_external_data(external: Path):
    data = external.parent / "data.bin"
    data.write_bytes(data.read_bytes()[:40])
    with pytest.raises(UserError, match=r"initializer 'w', external data in .*96 bytes are needed"):
        import_onnx(external)


@pytest.mark.parametrize("location", ["../data.bin", "/etc/passwd", ""])
def test_external_data_lie_beside_the_model(external: Path, location: str):
    model = library.load(str(external), load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    external.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="a path inside the model's folder is needed"):
        import_onnx(external)


# ---- graphs


def test_arithmetic_of_shapes_is_folded():
    nodes = [
        node("Shape", ["x"], ["shape"]), node("Gather", ["shape", "first"], ["n"]),
        node("Unsqueeze", ["n", "axes"], ["n1"]), node("Concat", ["n1", "rest"], ["wanted"], axis=0),
        node("Reshape", ["x", "wanted"], ["y"], name="flat"),
    ]  # fmt: skip
    constants = [constant("first", 0), constant("axes", [0]), constant("rest", [-1])]
    model = model_of(nodes, {"x": ["N", 3, 4]}, ["y"], constants)
    module = imported(model, batch=5)
    assert operations(module) == ["nn.reshape"]
    assert_same(module, model, RNG.standard_normal((5, 3, 4)).astype(np.float32))


def test_nodes_keep_their_names():
    module = imported(model_of([node("Relu", ["x"], ["y"], name="layer1/relu")], {"x": [2]}, ["y"]))
    (relu,) = (op for op in module.walk() if op.name == "nn.relu")
    assert str(relu.attributes["name"]) == '"layer1/relu"'
    assert '"layer1/relu"' in str(relu.location)


def test_functions_of_the_model():
    body = helper.make_function(
        "local",
        "Scaled",
        ["a"],
        ["b"],
        [node("LeakyRelu", ["a"], ["b"])],
        [helper.make_opsetid("", 17)],
        ["alpha"],
    )
    reference = body.node[0].attribute.add()
    reference.name, reference.ref_attr_name, reference.type = "alpha", "alpha", onnx.AttributeProto.FLOAT
    call = node("Scaled", ["x"], ["y"], name="call", domain="local", alpha=0.25)
    model = model_of([call], {"x": [4]}, ["y"], functions=[body])
    module = imported(model)
    assert_same(module, model, np.array([-4, -1, 0, 2], np.float32))


def test_modules_come_back_from_text(external: Path):
    module, context = import_onnx(external), Context()
    for dialect in (Builtin, Func, Nn, Sparse):
        context.load_dialect(dialect)
    again = Parser(context, str(module)).parse_module()
    again.verify()
    assert str(again) == str(module)


def test_nodes_in_any_order():
    nodes = [node("Relu", ["a"], ["y"]), node("Neg", ["x"], ["a"])]
    assert operations(imported(model_of(nodes, {"x": [2]}, ["y"]))) == ["nn.neg", "nn.relu"]


@pytest.mark.parametrize(
    ("name", "products"), [("densenet121", 121), ("inception_v2", 70), ("shufflenet", 50), ("squeezenet", 26)]
)
def test_architectures_of_onnx(name: str, products: int):
    """Models of the onnx package whose weights are computed constants."""
    module = import_onnx(LIGHT / f"light_{name}.onnx", batch=1)
    module.verify()
    assert sum(op in ("nn.conv", "nn.linear") for op in operations(module)) == products
    assert "-> tensor<1x1000" in str(module).split("\n")[1]


# ---- bad input

RELU = node("Relu", ["x"], ["y"], name="r")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            model_of([node("Fancy", ["x"], ["y"], name="n7")], {"x": [2]}, ["y"]),
            "node 'n7' ('Fancy'): operator 'Fancy' is not known",
        ),
        (
            model_of(
                [node("Add", ["x", "b"], ["a"], name="n"), node("Relu", ["a"], ["b"])], {"x": [2]}, ["b"]
            ),
            "node 'n' (Add): its inputs depend on its own result",
        ),
        (model_of([RELU, RELU], {"x": [2]}, ["y"]), "two nodes compute 'y'"),
        (model_of([node("Relu", ["z"], ["y"])], {"x": [2]}, ["y"]), "reads 'z', which is no input"),
        (model_of([RELU], {"x": [2]}, ["q"]), "output 'q' of the graph is computed by no node"),
        (model_of([RELU], {"x": ["N"]}, ["y"]), "input 'x': found the dynamic dimension 'N'"),
        (model_of([RELU], {"x": [2, None]}, ["y"]), "the dynamic dimension 'x[1]'"),
        (model_of([RELU], {"x": [2]}, ["y"], opset=5), "operator set 5"),
        (model_of([RELU], {"x": [2]}, ["y"], opset=999), "operator set 999"),
        (model_of([node("Add", ["x", "z"], ["y"])], {"x": [2], "z": [3]}, ["y"]), "do not broadcast"),
        (
            model_of([node("Reshape", ["x", "s"], ["y"])], {"x": [2], "s": [1]}, ["y"]),
            "input 1 ('s') is computed at run time",
        ),
        (
            model_of([node("Cast", ["x"], ["y"], to=TensorProto.FLOAT8E4M3FN)], {"x": [2]}, ["y"]),
            "elements of type float8e4m3fn",
        ),
        (model_of([node("Relu", [], ["y"])], {"x": [2]}, ["y"]), "input 0 is missing"),
        (model_of([node("Softmax", ["x"], ["y"], axis=4)], {"x": [2]}, ["y"]), "axis 4"),
        (
            model_of([node("Softmax", ["x"], ["y"], axis="a")], {"x": [2]}, ["y"]),
            "attribute axis is not an integer",
        ),
    ],
)
def test_bad_models(model: onnx.ModelProto, said: str):
    message = error_of(model)
    assert message.startswith("model.onnx")
    assert said in message
    assert "; " in message  # what to do
    assert "\n" not in message


def test_dimensions_by_name():
    model = model_of([RELU], {"x": ["N", "seq", None]}, ["y"])
    module = imported(model, batch=2, dims={"seq": 3, "x[2]": 4})
    assert "tensor<2x3x4xf32>" in str(module)


def test_dimensions_of_one_name_are_one():
    model = model_of([node("Add", ["x", "z"], ["y"])], {"x": ["N", 4], "z": ["N", 1]}, ["y"])
    assert "tensor<2x1xf32>" in str(imported(model, dims={"N": 2}))
    assert "tensor<2x1xf32>" in str(imported(model, dims={"x[0]": 2}))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"batch": 0}, "batch is 0; an extent is 1 or more"),
        ({"batch": 2, "dims": {"seq": -1}}, "seq is -1; an extent is 1 or more"),
        ({"batch": 2, "dims": {"seq": 3, "M": 4}}, "dimension 'M' was given; the model leaves open: 'N'"),
        ({}, "'N', but every extent must be known; give its size: --batch N (in Python batch=N)"),
        ({"batch": 2}, "give its size: --dim seq=N (in Python dims={'seq': N})"),
    ],
    ids=["none", "negative", "unknown", "batch", "other"],
)  # fmt: skip
def test_wrong_dimensions(given: dict[str, Any], said: str):
    with pytest.raises(UserError) as error:
        imported(model_of([RELU], {"x": ["N", "seq"]}, ["y"]), **given)
    assert said in str(error.value)


def test_without_the_onnx_package(external: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"pip install 'sparsecc\[onnx\]'"):
        import_onnx(external)


def test_files_that_are_no_models(tmp_path: Path):
    path = tmp_path / "model.onnx"
    for data in (b"", b"hello", b"\x08\x08"):
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"model\.onnx"):
            import_onnx(path)


def fuzzed_model() -> bytes:
    nodes = [
        node("Conv", ["x", "k"], ["c"], pads=[1, 1, 1, 1]),
        node("MaxPool", ["c"], ["p"], kernel_shape=[2, 2]),
        node("Shape", ["p"], ["s"]), node("Slice", ["s", "zero", "one"], ["n"]),
        node("Concat", ["n", "rest"], ["wanted"], axis=0), node("Reshape", ["p", "wanted"], ["f"]),
        node("QuantizeLinear", ["f", "scale", "offset"], ["q"]),
        node("DequantizeLinear", ["q", "scale", "offset"], ["d"]), node("MatMul", ["d", "w"], ["m"]),
        node("Pad", ["m", "pads"], ["pad"]), node("Transpose", ["pad"], ["t"], perm=[1, 0]),
        node("Resize", ["x", "", "scales"], ["r"]), node("ReduceSum", ["r", "one"], ["sum"]),
        node("LSTM", ["seq", "lw", "lr"], ["l"], hidden_size=1), node("Elu", ["l"], ["e"]),
    ]  # fmt: skip
    constants = [
        constant("k", np.ones((2, 1, 3, 3), np.float32)), constant("zero", [0]), constant("one", [1]),
        constant("rest", [-1]), constant("scale", np.float32(0.1)), constant("offset", np.int8(2)),
        constant("pads", [0, 1, 0, 1]), constant("scales", np.array([1, 1, 2, 2], np.float32)),
        constant("lw", np.ones((1, 4, 2), np.float32)), constant("lr", np.ones((1, 4, 1), np.float32)),
    ]  # fmt: skip
    weight = sparse("w", [32, 3], [[0, 1], [3, 2]], [1, 2])
    inputs: dict[str, Sequence[int | str | None]] = {"x": [1, 1, 5, 5], "seq": [2, 1, 2]}
    return model_of(nodes, inputs, ["t", "sum", "e"], constants, [weight]).SerializeToString()


FUZZED = fuzzed_model()


@settings(max_examples=400, deadline=None, database=None)
@given(st.data())
def test_a_damaged_file_is_a_user_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    content = bytearray(FUZZED)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["set", "set", "cut", "remove", "insert"])):
            case "set":
                content[place] = data.draw(st.integers(0, 255))
            case "cut":
                content = content[: place + 1]
            case "remove":
                content[place : place + 1] = b"" if len(content) > 1 else content
            case _:
                content.insert(place, data.draw(st.integers(0, 255)))
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(content)
    message = ""
    try:
        import_onnx(path, batch=2).verify()
    except UserError as error:
        message = str(error)
    assert not message or "damaged.onnx" in message


def test_the_fuzzed_model_is_a_good_one(tmp_path: Path):
    path = tmp_path / "good.onnx"
    path.write_bytes(FUZZED)
    assert "nn.lstm" in operations(import_onnx(path))
