"""Networks of int8, bf16 and f16 on CPUs: integers to the bit, scales per row fused, checked folders."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bench import networks
from sparsecc.driver.cli import main
from sparsecc.errors import UserError
from sparsecc.importers.onnx_file import import_model
from sparsecc.interpreters.sparse import run_module
from sparsecc.network_compiler import NetworkArtifact, compile_network
from sparsecc.target import CpuTarget, load_target
from sparsecc.toolchain import find_compiler

Array = NDArray[Any]
MODELS = Path(__file__).resolve().parents[3] / "shared" / "data" / "models"
needs_models = pytest.mark.skipif(not MODELS.is_dir(), reason=f"no models in {MODELS}")
onnxruntime: Any = ort
node = helper.make_node
SHAPE = [2, 3, 9, 7]


def typed(name: str, dtype: str) -> CpuTarget:
    """A target that runs here with the type, or a skipped test."""
    target = load_target(name)
    assert isinstance(target, CpuTarget)
    if missing := target.with_type(dtype).missing:
        pytest.skip(f"this CPU lacks {', '.join(missing)}")
    return target


def model(nodes: list[Any], constants: dict[str, Array], shape: list[int], kind: int = 1) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", kind, shape)
    held = [numpy_helper.from_array(v, n) for n, v in constants.items()]
    graph = helper.make_graph(nodes, "small", [x], [onnx.ValueInfoProto(name="y")], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def small() -> onnx.ModelProto:
    """Convolutions, one of them per channel, a residual sum, pooling, classes."""
    rng = np.random.default_rng(3)

    def pruned(*shape: int, density: float) -> Array:
        return (rng.standard_normal(shape) * (rng.random(shape) < density)).astype(np.float32)

    constants = {
        "w1": pruned(18, 3, 3, 3, density=0.5), "b1": pruned(18, density=1),
        "w2": pruned(18, 1, 3, 3, density=0.8), "b2": pruned(18, density=1),
        "w3": pruned(18, 18, 1, 1, density=0.2), "w4": pruned(5, 18 * 12, density=0.1),
        "b4": pruned(5, density=1),
    }  # fmt: skip
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], name="first", pads=[1] * 4),
        node("Relu", ["c1"], ["r1"], name="relu1"),
        node("Conv", ["r1", "w2", "b2"], ["c2"], name="depthwise", group=18, pads=[1] * 4),
        node("Relu", ["c2"], ["r2"], name="relu2"),
        node("Conv", ["r2", "w3"], ["c3"], name="pointwise"),
        node("Add", ["c3", "r1"], ["a"], name="residual"),
        node("Relu", ["a"], ["r3"], name="relu3"),
        node("MaxPool", ["r3"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["p"], ["f"], name="flatten"),
        node("Gemm", ["f", "w4", "b4"], ["y"], name="classes", transB=1),
    ]
    return model(nodes, constants, SHAPE)


def image(count: int, seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal((count, *SHAPE[1:])).astype(np.float32)


def integers(artifact: NetworkArtifact, x: Array) -> Array:
    """What the integer network gives on numpy."""
    stage = next(s for s in artifact.stages if s.name == "nn-fold-quantization")
    return run_module(stage.module, x)[0]


def compiled(proto: onnx.ModelProto, **options: Any) -> NetworkArtifact:
    return compile_network(import_model(proto, "small", Path()), **options)


def session(proto: onnx.ModelProto, x: Array) -> Array:
    found = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return found.run(None, {"x": x})[0]


@pytest.mark.parametrize(("target", "plan"), [("x86-avx512", "auto"), ("x86-avx2", "csr")])
def test_calibrated_networks_give_the_integers_to_the_bit(target: str, plan: str):
    artifact = compiled(small(), target=typed(target, "i8"), calibrate={"x": image(6, 1)}, plan=plan)
    for seed, threads in ((2, 1), (3, 2)):
        x, out = image(2, seed), np.empty((2, 5), np.float32)
        assert artifact(x, out=[out], threads=threads) is out
        assert np.array_equal(out, integers(artifact, x))
    report = artifact.report.to_json()
    assert (report["dtype"], report["worst_share"], report["accuracy"]["samples"]) == ("i8", 0, 6)
    assert report["values_checked"] > 4 * 18 * 63
    assert {p["name"]: p["fused"] for p in report["products"]} == {
        "first": ["bias", "scale per row", "relu", "to i8"],
        "pointwise": ["scale per row", "to i8"],
        "classes": ["bias", "scale per row", "to f32"],
    }
    assert report["dense_ms"] > 0


def test_one_scale_in_all_is_there_when_asked_for():
    artifact = compiled(
        small(), target=typed("cpu", "i8"), calibrate={"x": image(6, 1)}, scales="tensor", plan="csr"
    )
    x = image(2, 2)
    assert np.array_equal(artifact(x), integers(artifact, x))
    products = artifact.predicted().to_json()["products"]
    assert next(p["fused"][-3:] for p in products) == ["scale", "relu", "to i8"]


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_qlinear_operators_give_onnxruntimes_bytes(kind: str):
    rng, limits, byte = np.random.default_rng(4), np.iinfo(kind), np.dtype(kind).type
    constants: dict[str, Array] = {
        "sx": np.array(np.float32(0.02)), "zx": np.array(byte(limits.min + 120)),
        "w": rng.integers(-127, 128, (6, 2, 3, 3)).astype(np.int8),
        "sw": rng.uniform(0.001, 0.01, 6).astype(np.float32), "zw": np.zeros(6, np.int8),
        "sy": np.array(np.float32(0.05)), "zy": np.array(byte(limits.min + 100)),
        "b": rng.integers(-2000, 2000, 6).astype(np.int32),
        "w2": rng.integers(-127, 128, (6 * 16, 5)).astype(np.int8),
        "s2": np.array(np.float32(0.004)), "z2": np.array(np.int8(0)),
        "sz": np.array(np.float32(0.3)), "zz": np.array(byte(limits.min + 90)),
    }  # fmt: skip
    conv = ["x", "sx", "zx", "w", "sw", "zw", "sy", "zy", "b"]
    nodes = [
        node("QLinearConv", conv, ["c"], name="c", pads=[1] * 4),
        node("Flatten", ["c"], ["f"], name="f"),
        node("QLinearMatMul", ["f", "sy", "zy", "w2", "s2", "z2", "sz", "zz"], ["y"], name="y"),
    ]
    found = TensorProto.INT8 if kind == "int8" else TensorProto.UINT8
    proto = model(nodes, constants, [2, 2, 4, 4], found)
    x = rng.integers(limits.min, limits.max + 1, (2, 2, 4, 4)).astype(kind)
    y = compiled(proto, target=typed("cpu", "i8"), inputs=[x], plan="csr")(x)
    assert isinstance(y, np.ndarray)
    assert y.dtype == kind
    assert np.array_equal(y, session(proto, x))


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_floats_of_two_bytes_are_within_their_bounds(dtype: str):
    x = image(2, 2)
    artifact = compiled(small(), target=typed("cpu", dtype), dtype=dtype, inputs=[x], plan="csr")
    found = artifact.run_program("--seconds", "0")
    assert 0 < max(layer["worst_share"] for layer in found["check"]["layers"]) <= 1
    wanted = session(small(), x)
    np.testing.assert_allclose(artifact(x), wanted, atol=2**-7 * np.abs(wanted).max())


def test_the_folder_checks_itself(tmp_path: Path):
    artifact = compiled(small(), target=typed("cpu", "i8"), calibrate={"x": image(4, 1)}, plan="csr")
    artifact.save(tmp_path / "out")
    (compiler, *_) = find_compiler()
    command = ["make", "-s", "check", f"CC={compiler}", "CFLAGS=-O0"]
    subprocess.run(command, cwd=tmp_path / "out", check=True)
    kept = json.loads((tmp_path / "out" / "report.json").read_text())
    assert kept["dtype"] == "i8"


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    typed("cpu", "i8")
    onnx_library: Any = onnx
    onnx_library.save(small(), str(tmp_path / "m.onnx"))
    np.savez(tmp_path / "x.npz", x=image(4, 1), labels=np.arange(4))
    command = ["analyze", str(tmp_path / "m.onnx"), "--target", "cpu"]
    assert main([*command, "--calibrate", str(tmp_path / "x.npz")]) == 0
    assert "of 4 samples" in capsys.readouterr().out
    assert main([*command, "--dtype", "i8"]) != 0
    assert "give inputs to quantise it by with --calibrate" in capsys.readouterr().err
    with pytest.raises(UserError, match="unknown plan 'blas'"):
        compiled(small(), target="cpu", calibrate={"x": image(4, 1)}, plan="blas")


@needs_models
def test_keyword_spotting_in_bytes():
    z, sounds = np.load(MODELS / "kws_dscnn.npz"), np.load(MODELS / "kws_a.npz")
    features = sounds["features"][:2]
    module = import_model(networks.keyword_spotting(z, quantised=True), "kws.onnx", Path(), batch=2)
    artifact = compile_network(module, target=typed("cpu", "i8"), inputs=[features], plan="csr")
    assert artifact.target.in_type == "i8"
    assert np.array_equal(artifact(features), integers(artifact, features))
    host = {operator for row in artifact.predicted().to_json()["host"] for operator in row["operators"]}
    assert not {"host_spmm_f32", "host_requantize_u8"} & host
