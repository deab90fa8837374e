"""Whole networks from end to end: one C program that checks every layer, outputs as onnxruntime's."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import sparsecc
from sparsecc.driver.cli import main
from sparsecc.errors import UserError
from sparsecc.network_compiler import compile_network
from sparsecc.toolchain import find_compiler, host_library, simulator_library

Array = NDArray[Any]
MODELS = Path(__file__).resolve().parents[3] / "shared" / "data" / "models"
needs_models = pytest.mark.skipif(not MODELS.is_dir(), reason=f"no models in {MODELS}")
onnxruntime: Any = ort
onnx_library: Any = onnx
save = onnx_library.save


def sparse(*shape: int, seed: int, density: float = 0.15) -> Array:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * (rng.random(shape) < density)).astype(np.float32)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with most kinds of operators: branches, pooling, a residual sum, two outputs."""
    constants = {
        "w1": sparse(16, 3, 3, 3, seed=1), "b1": sparse(16, seed=2, density=1),
        "w2": sparse(16, 16, 1, 1, seed=3),
        "w3": sparse(16, 1, 3, 3, seed=4, density=0.6), "w4": sparse(10, 16 * 12, seed=5),
        "b4": sparse(10, seed=6, density=1), "i": np.array([3, 0, -1]),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"], name="relu1"),
        node("Conv", ["r1", "w2"], ["c2"], name="pointwise"),
        node("Conv", ["r1", "w3"], ["c3"], name="depthwise", group=16, pads=[1, 1, 1, 1]),
        node("Add", ["c2", "c3"], ["a"], name="residual"),
        node("Concat", ["a", "r1"], ["k"], name="join", axis=1),
        node("Gather", ["k", "i"], ["g"], name="pick", axis=1),
        node("MaxPool", ["a"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["p"], ["f"], name="flatten"),
        node("Gemm", ["f", "w4", "b4"], ["s"], name="classes", transB=1),
        node("Softmax", ["s"], ["y"], name="softmax"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 6])
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("y", "g")]
    held = [numpy_helper.from_array(v, n) for n, v in constants.items()]
    graph = helper.make_graph(nodes, "small", [x], outputs, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found = tmp_path_factory.mktemp("model") / "small.onnx"
    save(model, str(found))
    return found


def wanted(path: Path, x: Array) -> list[Array]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})


def image(batch: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((batch, 3, 8, 6)).astype(np.float32)


@pytest.mark.parametrize("target", ["scalesim-ws16", "ascend910"])
def test_a_network_gives_onnxruntimes_outputs(path: Path, target: str):
    x = image(2)
    artifact = compile_network(path, target=target, batch=2, effort=0)
    found = artifact(x)
    assert isinstance(found, tuple)
    tolerance = 1e-5 if target == "scalesim-ws16" else 3e-3
    for y, w in zip(found, wanted(path, x), strict=True):
        np.testing.assert_allclose(y, w, atol=tolerance, rtol=tolerance)
    report: Any = artifact.report
    assert [p.name for p in report.products] == ["conv1", "pointwise", "classes"]
    assert report.cycles == sum(p.cycles for p in report.products)
    assert report.values_checked
    assert report.worst_share is not None
    assert 0 < report.worst_share <= 1
    hosts = {row.name: row for row in report.host}
    assert "host_depthwise_f32" in hosts["depthwise"].operators
    assert report.arena_lower_bound <= report.arena_bytes < report.unshared_bytes


def sanitized(folder: Path) -> subprocess.CompletedProcess[str]:
    """The program's own C under sanitizers, run; the libraries are tested elsewhere."""
    options = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
    sources = ["-I.", "-Iaxsim", "-Ihost", "model.c", "data.c", "main.c"]
    libraries = [str(simulator_library()), str(host_library()), "-lm", "-o", "clean"]
    command = [*find_compiler(), *options, "-ffp-contract=off", *sources, *libraries]
    subprocess.run(command, cwd=folder, check=True)
    return subprocess.run([str(folder / "clean")], capture_output=True, text=True, check=False)


def test_the_trace_has_a_span_for_every_layer(path: Path, tmp_path: Path):
    artifact = compile_network(path, target="scalesim-ws16", batch=1, effort=0, confirm=False)
    artifact.rerun([], str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    layers = [e for e in events if e["ph"] == "X" and e["tid"] == 0]
    assert [e["name"] for e in layers] == ["conv1", "pointwise", "classes"]
    assert all(a["ts"] + a["dur"] <= b["ts"] + 1e-9 for a, b in itertools.pairwise(layers))
    for layer in layers:
        inside = [e for e in events if e.get("args", {}).get("scope") == layer["name"]]
        assert len(inside) == layer["args"]["instructions"]
        assert all(e["ts"] >= layer["ts"] - 1e-9 for e in inside)
        assert all(e["ts"] + e["dur"] <= layer["ts"] + layer["dur"] + 1e-9 for e in inside)


def test_the_folder_stands_alone_and_finds_wrong_weights(path: Path, tmp_path: Path):
    folder = tmp_path / "out"
    compile_network(path, target="scalesim-ws16", batch=1, effort=0).save(folder)
    command = ["make", "-C", str(folder), "check", "CFLAGS=-O0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "check: 0 of " in done.stdout
    assert "cycles in all" in done.stdout
    assert (done := sanitized(folder)).returncode == 0, done.stderr
    weights = bytearray((folder / "weights.bin").read_bytes())
    values = np.frombuffer(weights, np.float32)
    values[np.flatnonzero(values)[0]] += 1
    (folder / "weights.bin").write_bytes(bytes(weights))
    done = sanitized(folder)
    assert done.returncode == 3
    assert "values are wrong; the first is value" in done.stderr


def test_an_index_outside_is_an_error_of_the_program(tmp_path: Path):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 8])
    i = helper.make_tensor_value_info("i", TensorProto.INT64, [2])
    graph = helper.make_graph(
        [helper.make_node("Gather", ["x", "i"], ["y"], name="pick")],
        "g",
        [x, i],
        [onnx.ValueInfoProto(name="y")],
    )
    file = tmp_path / "m.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))
    artifact = compile_network(file)
    rows = np.arange(32, dtype=np.float32).reshape(4, 8)
    np.testing.assert_array_equal(artifact(rows, np.array([3, -4])), rows[[3, 0]])
    with pytest.raises(UserError, match="node pick: an index is outside its axis"):
        artifact(rows, np.array([0, 4]))


def test_commands(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    np.savez(tmp_path / "x.npz", x=image(1))
    command = ["--target", "scalesim-ws16", "--batch", "1", "--effort", "0"]
    result = tmp_path / "y.npz"
    arguments = [
        "run",
        str(path),
        *command,
        "--json",
        "--input",
        str(tmp_path / "x.npz"),
        "--output",
        str(result),
        "--html",
        str(tmp_path / "report.html"),
    ]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    page = (tmp_path / "report.html").read_text()
    assert all(f'<td class="text">{p["name"]}</td>' in page for p in report["products"])
    assert report["products"][0]["nnz"] == np.count_nonzero(sparse(16, 3, 3, 3, seed=1))
    np.testing.assert_allclose(np.load(result)["y"], wanted(path, image(1))[0], atol=1e-5)
    assert main(["analyze", str(path), *command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["values_checked"] is None
    assert main(["compile", str(path), *command, "-o", str(tmp_path / "c")]) == 0
    assert "make -C" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "c")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "gemmini16"], "would multiply i8: give inputs to quantise it by with --calibrate"),
        (["--target", "isaac128"], "would multiply i8: give inputs to quantise it by with --calibrate"),
        (["--target", "scalesim-ws16", "--n", "3"], "--n is for one matrix"),
        (["--target", "scalesim-ws16", "--dim", "N"], "needed NAME=N"),
        (["--target", "scalesim-ws16"], "dynamic dimension 'N'"),
    ],
    ids=["integers", "crossbars", "option", "extent", "batch"],
)
def test_what_is_refused(path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    batch = [] if "dynamic" in message else ["--batch", "1"]
    assert main(["run", str(path), *arguments, *batch]) in (1, 2)
    assert message in capsys.readouterr().err


def recurrent(kind: str, gates: int, steps: int) -> onnx.ModelProto:
    """A layer of 6 states."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [steps, 2, 4])
    held = [
        numpy_helper.from_array(sparse(1, gates * 6, n, seed=n, density=0.4), name)
        for name, n in (("w", 4), ("r", 6))
    ]
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", "w", "r"], ["y", "z"], name="memory", hidden_size=6)], "g", [x],
        [onnx.ValueInfoProto(name="y"), onnx.ValueInfoProto(name="z")], held,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(("kind", "gates", "parts"), [("LSTM", 4, 1), ("GRU", 3, 2)], ids=["lstm", "gru"])
def test_recurrent_layers(kind: str, gates: int, parts: int, tmp_path: Path):
    """One product of all steps with the input, and one program that every step calls."""
    file, x = tmp_path / "m.onnx", np.random.default_rng(1).standard_normal((5, 2, 4)).astype(np.float32)
    save(recurrent(kind, gates, 5), str(file))
    artifact = compile_network(file, effort=0, inputs=[x])
    for y, w in zip(artifact(x), wanted(file, x), strict=True):
        np.testing.assert_allclose(y, w, atol=1e-5)
    report: Any = artifact.report
    assert [p.calls for p in report.products] == [1] + [5] * parts
    assert all(p.cycles >= p.calls for p in report.products)
    assert report.values_checked > 5 * 2 * 6
    artifact.save(tmp_path / "out")
    assert (tmp_path / "out" / "model.c").read_text().count("static int layer1(") == 1


def test_layers_after_a_decision_start_from_the_exact_one(tmp_path: Path):
    """Rounding may choose another place: no bound is known there, and what follows is still checked."""
    w = sparse(6, 4, seed=1, density=1)
    w[:, 1] = w[:, 0] * np.float32(1 + 1e-5)
    held = [numpy_helper.from_array(w, "w"), numpy_helper.from_array(sparse(1, 3, seed=2, density=1), "v")]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="product"),
        helper.make_node("Slice", ["h", "zero", "two", "one"], ["s"], name="first"),
        helper.make_node("ArgMax", ["s"], ["i"], name="choose", axis=1, keepdims=1),
        helper.make_node("Cast", ["i"], ["f"], name="number", to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["f", "v"], ["y"], name="after"),
    ]
    numbers = {"zero": [0], "one": [1], "two": [2]}
    held += [numpy_helper.from_array(np.array(v), n) for n, v in numbers.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [8, 6])
    graph = helper.make_graph(nodes, "g", [x], [onnx.ValueInfoProto(name="y")], held)
    file = tmp_path / "m.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))
    artifact = compile_network(file, target="ascend910", effort=0, seed=3)
    report: Any = artifact.report
    assert report.unbounded_outputs == ["y"]
    # The product, its first columns, and the last product; places have no bound.
    assert report.values_checked == 8 * 4 + 8 * 2 + 8 * 3


def test_an_operator_that_cannot_be_compiled_is_named(tmp_path: Path):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 1, 4])
    w, r = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 8, e]) for n, e in (("w", 4), ("r", 2)))
    graph = helper.make_graph(
        [helper.make_node("LSTM", ["x", "w", "r"], ["y"], name="memory", hidden_size=2)], "g", [x, w, r],
        [onnx.ValueInfoProto(name="y")],
    )  # fmt: skip
    file = tmp_path / "m.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))
    with pytest.raises(UserError, match=r"node 'memory.*' \(lstm\): its weights are computed at run time"):
        compile_network(file)


@pytest.mark.parametrize("element", [TensorProto.FLOAT16, TensorProto.BFLOAT16], ids=["f16", "bf16"])
def test_models_of_narrow_floats_are_computed_in_f32(element: int, tmp_path: Path):
    def graph(kind: int) -> Path:
        arrays = {"w": sparse(16, 9, seed=1, density=0.4), "b": np.array([0.5], np.float32)}
        info = helper.make_tensor_value_info
        held = [helper.make_tensor(n, kind, a.shape, a.ravel()) for n, a in arrays.items()]
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["p"], name="fc"),
            helper.make_node("Add", ["p", "b"], ["s"], name="bias"),
            helper.make_node("Gelu", ["s"], ["y"], name="gelu"),
        ]
        outputs = [info("y", kind, [3, 9])]
        made = helper.make_graph(nodes, "g", [info("x", kind, [3, 16])], outputs, held)
        file = tmp_path / f"{kind}.onnx"
        save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), str(file))
        return file

    artifact = compile_network(graph(element), target="scalesim-ws16", effort=0)
    x = np.random.default_rng(0).standard_normal((3, 16)).astype(np.float16)
    found: Any = artifact(x.astype(np.float32))
    assert found.dtype == np.float32
    # Of the same numbers in f32; those of bf16 are rounded to 8 bits.
    (result,) = wanted(graph(TensorProto.FLOAT), x.astype(np.float32))
    np.testing.assert_allclose(found, result, atol=1e-3 if element == TensorProto.FLOAT16 else 0.05)
    report: Any = artifact.report
    assert report.values_checked


def test_inputs_of_types_that_the_host_does_not_have(tmp_path: Path):
    x = helper.make_tensor_value_info("x", TensorProto.DOUBLE, [3])
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])], "g", [x], [onnx.ValueInfoProto(name="y")]
    )
    file = tmp_path / "m.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))
    with pytest.raises(UserError, match=r"input x is tensor<3xf64>; networks take b8, .*: cast it to f32"):
        compile_network(file)


def test_values_too_large_for_memory(tmp_path: Path):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])
    graph = helper.make_graph(
        [helper.make_node("Pad", ["x", "by"], ["y"], name="wide")], "g", [x],
        [onnx.ValueInfoProto(name="y")], [numpy_helper.from_array(np.array([0, 4_000_000_000]), "by")],
    )  # fmt: skip
    file = tmp_path / "m.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))
    with pytest.raises(UserError, match=r"node 'wide' gives \[4000000003\]"):
        compile_network(file)


def test_values_without_elements(tmp_path: Path):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [0, 4])
    y = onnx.ValueInfoProto(name="y")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    file = tmp_path / "m.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))
    with pytest.raises(UserError, match=r"input 'x' has the shape \[0, 4\], which holds no element"):
        compile_network(file)


def test_weights_that_are_no_numbers(tmp_path: Path):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])
    weight = numpy_helper.from_array(np.array([[1], [np.nan], [0], [np.inf]], np.float32), "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")
    graph = helper.make_graph([node], "g", [x], [onnx.ValueInfoProto(name="y")], [weight])
    file = tmp_path / "m.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))
    with pytest.raises(UserError, match=r"node 'fc': its weight of \[1, 4\] holds 2 values"):
        compile_network(file)


def test_inputs_are_checked(path: Path):
    with pytest.raises(UserError, match=r"input x has shape \[1, 3\]; needed \[1, 3, 8, 6\]"):
        compile_network(path, batch=1, inputs=[np.zeros((1, 3), np.float32)])
    with pytest.raises(UserError, match="the network has the inputs x; found z"):
        compile_network(path, batch=1, inputs={"z": image(1)})
    with pytest.raises(UserError, match="not finite"):
        compile_network(path, batch=1, inputs={"x": image(1) * np.float32(np.inf)})


def test_a_batch_that_the_model_fixes_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])
    weight = numpy_helper.from_array(np.ones((4, 2), np.float32), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "fixed", [x], [y], [weight])
    path = tmp_path / "fixed.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    message = r"fixed.onnx: batch 8 was asked for, but the model fixes its inputs to \[1, 4\]; leave"
    with pytest.raises(UserError, match=message):
        compile_network(path, batch=8)
    assert main(["run", str(path), "--batch", "8"]) == 2
    assert "the model fixes its inputs to [1, 4]" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("target", ["scalesim-ws16", "cpu"])
def test_inputs_of_conditions_and_of_no_axis(target: str, tmp_path: Path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="product"),
        helper.make_node("Where", ["kept", "h", "low"], ["y"], name="mask"),
    ]
    real, condition = TensorProto.FLOAT, TensorProto.BOOL
    kinds: dict[str, Any] = {"x": ([2, 6], real), "kept": ([2, 4], condition), "low": ([], real)}
    inputs = [helper.make_tensor_value_info(n, kind, shape) for n, (shape, kind) in kinds.items()]
    held = [numpy_helper.from_array(sparse(6, 4, seed=1), "w")]
    graph = helper.make_graph(nodes, "g", inputs, [onnx.ValueInfoProto(name="y")], held)
    file = tmp_path / "m.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))
    rng = np.random.default_rng(0)
    x, kept = rng.standard_normal((2, 6)).astype(np.float32), rng.random((2, 4)) < 0.5
    given = [x, kept, np.array(-3.5, np.float32)]
    artifact = compile_network(file, target=target, effort=0, inputs=given)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    y, (w,) = artifact(*given), session.run(None, dict(zip(kinds, given, strict=True)))
    np.testing.assert_allclose(y, w, rtol=1e-5, atol=1e-5)


@needs_models
@pytest.mark.parametrize("target", ["scalesim-ws16", "ascend910", "tpu128"])
def test_lenet(target: str):
    digits = np.load(MODELS / "mnist_test_a.npz")
    x = digits["images"][:32].reshape(-1, 784).astype(np.float32)
    path = MODELS / "lenet300100_pruned.onnx"
    told: list[str] = []
    artifact = sparsecc.compile_network(
        path, target=target, inputs=[x], batch=32, effort=0, progress=told.append
    )
    assert artifact.predicted().values_checked is None
    # Cycles do not need values.
    assert "computing the expected values" not in told
    y, (w,) = artifact(x), wanted(path, x)
    assert told.count("computing the expected values") == 1
    assert isinstance(y, np.ndarray)
    (bound,) = artifact.check.bounds
    assert bound is not None
    assert (np.abs(y - w) <= 2 * bound).all()
    assert (y.argmax(1) == w.argmax(1)).all()
    report: Any = artifact.report
    assert report.speedup > 2
    assert report.products[0].speedup > 2
    assert {row.name for row in report.host if row.reorders} == {"ip1", "output"}


@needs_models
def test_mnist_of_cntk():
    digits = np.load(MODELS / "mnist_test_a.npz")
    x = digits["images"][:1].reshape(1, 1, 28, 28).astype(np.float32)
    path = MODELS / "mnist_cntk.onnx"
    artifact = compile_network(path, target="scalesim-ws32", inputs=[x], effort=0)
    y, (w,) = artifact(x), wanted(path, x)
    np.testing.assert_allclose(y, w, rtol=1e-5, atol=1e-5 * np.abs(w).max())
    report: Any = artifact.report
    assert report.worst_share is not None
    # One image: nothing is ever moved to another order.
    assert not any(row.reorders for row in report.host)


def planted(rng: np.random.Generator) -> onnx.ModelProto:
    """Three layers; of the second 8 rows are 0 with a bias and 8 go to columns of 0 of the third."""
    w1, w2, w3 = (
        (rng.standard_normal(s) * (rng.random(s) < 0.4)).astype(np.float32)
        for s in ((24, 20), (32, 24), (9, 32))
    )
    w2[:8], w3[:, 8:16] = 0, 0
    held = {"w1": w1, "w2": w2, "w3": w3, "b": rng.standard_normal(32).astype(np.float32)}
    nodes = [
        helper.make_node("Gemm", ["x", "w1"], ["a"], name="one", transB=1),
        helper.make_node("Relu", ["a"], ["c"], name="relu"),
        helper.make_node("Gemm", ["c", "w2", "b"], ["d"], name="two", transB=1),
        helper.make_node("Relu", ["d"], ["e"], name="relu2"),
        helper.make_node("Gemm", ["e", "w3"], ["y"], name="three", transB=1),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [5, 20])
    constants = [numpy_helper.from_array(v, n) for n, v in held.items()]
    graph = helper.make_graph(nodes, "g", [x], [onnx.ValueInfoProto(name="y")], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_zeros_are_carried_across_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file, x = tmp_path / "m.onnx", np.random.default_rng(1).standard_normal((5, 20)).astype(np.float32)
    save(planted(np.random.default_rng(2)), str(file))
    artifact = compile_network(file, effort=0, inputs=[x])
    report: Any = artifact.report
    gains = {g.name: g for g in report.propagated}
    assert gains["two"].rows == [32, 16]
    assert gains["three"].columns == [32, 16]
    assert (gains["two"].previous, gains["two"].next) == (["one"], ["three"])
    for gain in gains.values():
        assert gain.cycles is not None
        assert gain.cycles[1] < gain.cycles[0]
    whole: Any = compile_network(file, effort=0, inputs=[x], propagate=False)
    assert whole.report.propagated == []
    assert report.cycles < whole.report.cycles
    # Within the cycles that programs begin and end with.
    assert abs(report.dense_cycles - whole.report.dense_cycles) <= 3
    for y in (artifact(x), whole(x)):
        np.testing.assert_allclose(y, wanted(file, x)[0], atol=1e-5)
    assert [s.name for s in artifact.stages][:2] == ["input", "sparse-propagate"]
    assert main(["run", str(file), "--target", "scalesim-ws16", "--effort", "0"]) == 0
    assert "gained from neighbours" in capsys.readouterr().out
    assert main(["run", str(file), "--target", "scalesim-ws16", "--effort", "0", "--no-propagate"]) == 0
    assert "gained from neighbours" not in capsys.readouterr().out


def test_a_wrong_propagation_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The smaller network is held to the one that was read."""
    from sparsecc.network import propagation

    file = tmp_path / "m.onnx"
    save(planted(np.random.default_rng(2)), str(file))
    found = propagation.propagated

    def wrong(module: Any) -> propagation.Propagation:
        other = tmp_path / "other.onnx"
        save(planted(np.random.default_rng(3)), str(other))
        from sparsecc.importers.onnx_file import import_onnx

        return propagation.Propagation(module, found(import_onnx(other)).module, found(module).layers, [])

    monkeypatch.setattr("sparsecc.network_compiler.propagated", wrong)
    with pytest.raises(UserError, match="sparse-propagate: the output's value at"):
        compile_network(file, effort=0)


@needs_models
def test_graph_convolution():
    """The graph is a sparse constant on the left; labels as in numpy."""
    from bench import networks
    from sparsecc.importers.onnx_file import import_model

    with np.load(MODELS / "gcn_cora.npz") as stored:
        z = dict(stored)
    x = np.zeros(z["X_shape"], np.float32)
    x[np.repeat(np.arange(len(x)), np.diff(z["X_indptr"])), z["X_indices"]] = z["X_data"]
    module = import_model(networks.graph_convolution(z), "gcn", Path())
    artifact = compile_network(module, target="ascend910", inputs=[x], effort=0)
    y, logits, chosen = artifact(x), z["logits"], z["test"]
    assert isinstance(y, np.ndarray)
    np.testing.assert_allclose(y, logits, atol=2e-3 * np.abs(logits).max())
    right, known = ((s.argmax(1)[chosen] == z["labels"][chosen]).mean() for s in (y, logits))
    assert right == known
    report: Any = artifact.report
    assert [p.plan for p in report.products] == ["dense", "sparse", "dense", "sparse"]
    assert report.products[1].speedup > 5


@needs_models
def test_keyword_spotting_in_floats():
    """Weights of bytes behind scales, inputs of bytes: scores as the reference's, labels too."""
    from bench import networks
    from sparsecc.importers.onnx_file import import_model

    with np.load(MODELS / "kws_dscnn.npz") as stored:
        z = dict(stored)
    with np.load(MODELS / "kws_a.npz") as stored:
        features, labels = stored["features"][:24], stored["labels"][:24]
    model = networks.keyword_spotting(z, quantised=False)
    module = import_model(model, "kws", Path(), batch=len(features))
    artifact = compile_network(module, target="scalesim-ws16", dtype="f32", inputs=[features], effort=0)
    y = artifact(features)
    assert isinstance(y, np.ndarray)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (w,) = session.run(None, {"features": features})
    np.testing.assert_allclose(y, w, atol=1e-5 * np.abs(w).max())
    assert (y.argmax(1) == labels).mean() == (w.argmax(1) == labels).mean() > 0.8
