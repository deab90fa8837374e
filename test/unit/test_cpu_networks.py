"""Whole networks on CPUs: onnxruntime's outputs, fused epilogues, patches by address, arrays in place."""

from __future__ import annotations

import ctypes
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
from sparsecc.cpu.assembly import PLAIN
from sparsecc.cpu.build import runtime_object
from sparsecc.cpu.conv import patches_of
from sparsecc.cpu.narrow import narrow_kernel, registers_for_words
from sparsecc.cpu.narrow_tune import plain
from sparsecc.cpu.scratch import scratch_floats, words_floats
from sparsecc.cpu.tune import build, line_variants, runtime
from sparsecc.cpu.variant import Variant
from sparsecc.cpu.words import as_words, depth_of
from sparsecc.driver.cli import main
from sparsecc.errors import UserError
from sparsecc.host.operator import Window
from sparsecc.importers.matrix import make_csr
from sparsecc.importers.onnx_file import import_model
from sparsecc.network.cpu import CpuLayer
from sparsecc.network.cpu_host import host_object
from sparsecc.network_compiler import NetworkArtifact, compile_network
from sparsecc.target import CpuTarget, load_target
from sparsecc.toolchain import find_compiler

Array = NDArray[Any]
MODELS = Path(__file__).resolve().parents[3] / "shared" / "data" / "models"
onnxruntime: Any = ort
onnx_library: Any = onnx
load = onnx_library.load
node = helper.make_node

TARGETS = ("x86-avx512", "x86-avx2")


def runs_here(name: str) -> bool:
    target = load_target(name)
    return isinstance(target, CpuTarget) and not target.missing


def pruned(*shape: int, seed: int, density: float = 0.3) -> Array:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * (rng.random(shape) < density)).astype(np.float32)


def model(nodes: list[Any], constants: dict[str, Array], shape: list[Any], outputs: list[str]) -> Any:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    held = [numpy_helper.from_array(v, n) for n, v in constants.items()]
    values = [onnx.ValueInfoProto(name=n) for n in outputs]
    graph = helper.make_graph(nodes, "small", [x], values, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def small() -> Any:
    """Branches, a residual sum, a concatenation, pooling, classes."""
    constants = {
        "w1": pruned(16, 3, 3, 3, seed=1), "b1": pruned(16, seed=2, density=1),
        "w2": pruned(16, 16, 1, 1, seed=3),
        "w3": pruned(16, 1, 3, 3, seed=4, density=0.6), "w4": pruned(10, 32 * 24, seed=5),
        "b4": pruned(10, seed=6, density=1), "low": np.array(0, np.float32), "high": np.array(6, np.float32),
    }  # fmt: skip
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"], name="relu1"),
        node("Conv", ["r1", "w3"], ["c3"], name="depthwise", group=16, pads=[1, 1, 1, 1]),
        node("Conv", ["r1", "w2"], ["c2"], name="pointwise"),
        node("Add", ["c2", "c3"], ["a"], name="residual"),
        node("Relu", ["a"], ["r2"], name="relu2"),
        node("Clip", ["r1", "low", "high"], ["six"], name="relu6"),
        node("Concat", ["r2", "six"], ["k"], name="join", axis=1),
        node("MaxPool", ["k"], ["p"], name="pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Flatten", ["p"], ["f"], name="flatten"),
        node("Gemm", ["f", "w4", "b4"], ["s"], name="classes", transB=1),
        node("Softmax", ["s"], ["y"], name="softmax"),
    ]
    return model(nodes, constants, ["N", 3, 12, 8], ["y", "k"])


def image(batch: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((batch, 3, 12, 8)).astype(np.float32)


def wanted(proto: Any, **inputs: Array) -> list[Array]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def compiled(proto: Any, batch: int | None, inputs: Any = None, **options: Any) -> NetworkArtifact:
    dims = options.pop("dims", {})
    module = import_model(proto, "model", Path(), batch=batch, dims=dims)
    options.setdefault("target", "cpu")
    return compile_network(module, batch=batch, inputs=inputs, **options)


def layers(artifact: NetworkArtifact) -> list[CpuLayer]:
    found: list[CpuLayer] = []
    for layer in artifact.layers:
        assert isinstance(layer, CpuLayer)
        found.append(layer)
    return found


@pytest.mark.parametrize("target", TARGETS)
def test_a_network_gives_onnxruntimes_outputs(target: str):
    if not runs_here(target):
        pytest.skip(f"this CPU lacks instructions of {target}")
    x = image(2)
    artifact = compiled(small(), 2, [x], target=target)
    expected = wanted(small(), x=x)
    out = [np.empty_like(w) for w in expected]
    for threads in (1, 2):
        found = artifact(x, out=out, threads=threads)
        assert isinstance(found, tuple)
        for y, place, w in zip(found, out, expected, strict=True):
            assert y is place
            np.testing.assert_allclose(y, w, rtol=1e-5, atol=1e-5)
    first, second, last = layers(artifact)
    assert first.epilogue.bias
    assert first.epilogue.relu
    assert second.epilogue.residual
    assert second.epilogue.relu
    assert last.epilogue.bias
    report = artifact.report.to_json()
    assert [p["name"] for p in report["products"]] == ["conv1", "pointwise", "classes"]
    assert report["values_checked"] > 0
    assert 0 < report["worst_share"] <= 1
    assert report["wall_ms"] > 0
    assert report["dense_ms"] > 0
    assert report["speedup"] == pytest.approx(report["dense_ms"] / report["wall_ms"])
    shares = [row["share"] for row in (*report["products"], *report["host"])]
    assert sum(shares) == pytest.approx(1.0)
    # What is concatenated is computed in its place.
    copies = [o for row in report["host"] if row["name"] == "join" for o in row["operators"]]
    assert len(artifact.storage.settled) == len(copies) == 2


WINDOWS = {
    "padded": (3, 3, [1, 1], [1, 1], [1, 1, 1, 1]),
    "stride 2": (3, 3, [2, 2], [1, 1], [1, 1, 1, 1]),
    "stride 3 by 2, uneven": (4, 2, [3, 2], [1, 1], [0, 1, 2, 0]),
    "dilated": (3, 2, [1, 1], [2, 3], [2, 0, 0, 3]),
    "dilated with a stride": (2, 3, [1, 2], [1, 3], [0, 2, 0, 2]),
    "in place": (2, 3, [1, 1], [1, 1], [0, 0, 0, 0]),
    "a point with a stride": (1, 1, [2, 2], [1, 1], [0, 0, 0, 0]),
}


@pytest.mark.parametrize(("batch", "width"), [(1, 21), (3, 9), (1, 7)])
def test_patches_are_found_by_address(batch: int, width: int):
    constants: dict[str, Array] = {"b": pruned(30, seed=9, density=1)}
    nodes: list[Any] = []
    for i, (name, (h, w, strides, dilations, pads)) in enumerate(WINDOWS.items()):
        constants[f"w{i}"] = pruned(30, 3, h, w, seed=i)
        inputs = ["x", f"w{i}", "b"]
        nodes.append(
            node("Conv", inputs, [f"y{i}"], name=name, strides=strides, dilations=dilations, pads=pads)
        )
    proto = model(nodes, constants, ["N", 3, 11, width], [f"y{i}" for i in range(len(nodes))])
    x = np.random.default_rng(3).standard_normal((batch, 3, 11, width)).astype(np.float32)
    artifact = compiled(proto, batch, [x], plan="line")
    if artifact.target.name != "arm-neon":
        assert all(layer.by_address for layer in layers(artifact))
    for threads in (1, 2, 3):
        found = artifact(x, threads=threads)
        assert isinstance(found, tuple)
        for y, w in zip(found, wanted(proto, x=x), strict=True):
            np.testing.assert_allclose(y, w, rtol=1e-5, atol=1e-5)


def test_places_of_patches():
    """Of a 3 x 3 kernel over 2 x 4 x 5 with a border of 1: rows of 7."""
    patches = patches_of(Window(2, 4, 5, 1, 4, 5, 3, 3, pad_top=1, pad_left=1), None, 16)
    assert (patches.strips, patches.width, patches.step) == (4, 5, 7)
    assert patches.places[:9].tolist() == [0, 1, 2, 7, 8, 9, 14, 15, 16]
    assert patches.places[9] == 6 * 7
    # With a stride of 2 even columns stand before odd ones.
    patches = patches_of(Window(1, 4, 6, 1, 2, 3, 2, 2, 2, 2), [0, 1, 3], 16)
    assert patches.places.tolist() == [0, 3, 9]


def test_what_stays_on_the_host():
    """A sum with other uses, and a constant that differs from column to column, are no epilogue."""
    constants = {"w": pruned(4, 6, seed=1), "c": pruned(3, 4, seed=2, density=1)}
    nodes = [
        node("Gemm", ["x", "w"], ["g"], name="product", transB=1),
        node("Relu", ["g"], ["r"], name="relu"),
        node("Add", ["g", "c"], ["a"], name="twice"),
        node("Gemm", ["r", "v"], ["h"], name="other", transB=1),
        node("Add", ["h", "c"], ["b"], name="uneven"),
    ]
    constants["v"] = pruned(4, 4, seed=3)
    proto = model(nodes, constants, [3, 6], ["a", "b"])
    x = np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)
    artifact = compiled(proto, 3, [x])
    assert all(layer.epilogue == PLAIN for layer in layers(artifact))
    found = artifact(x)
    assert isinstance(found, tuple)
    for y, w in zip(found, wanted(proto, x=x), strict=True):
        np.testing.assert_allclose(y, w, rtol=1e-5, atol=1e-5)


def test_the_folder_stands_alone_is_clean_and_finds_wrong_weights(tmp_path: Path):
    folder = tmp_path / "out"
    artifact = compiled(small(), 1, plan="line")
    artifact.save(folder)
    chip = artifact.target
    assert isinstance(chip, CpuTarget)
    assert "wall_ms" in json.loads((folder / "report.json").read_text())
    # What is not of this network alone is tested elsewhere, but for what its tables are read by.
    sources = ["model.c", "data.c", "main.c", *map(str, sorted(folder.glob("*.s")))]
    sources += [
        "sc/conv.c",
        "sc/line.c",
        "host/window.c",
        "host/move.c",
        str(host_object(chip)),
        str(runtime_object(chip)),
    ]
    checks = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-Wall", "-Wextra", "-Werror"]
    flags = ["-std=gnu11", "-O1", *chip.simd.flags.split(), *checks, "-I.", "-Isc", "-Ihost"]
    command = [*find_compiler(), *flags, *sources, "-pthread", "-lm", "-o", "clean"]

    def built() -> subprocess.CompletedProcess[str]:
        subprocess.run(command, cwd=folder, check=True)
        program = [str(folder / "clean"), "--threads", "2", "--seconds", "0.001"]
        return subprocess.run(program, capture_output=True, text=True, check=False)

    done = built()
    assert done.returncode == 0, done.stderr
    assert "check: 0 of " in done.stdout
    assert "us in all, 2 threads" in done.stdout
    weights = bytearray((folder / "weights.bin").read_bytes())
    values = np.frombuffer(weights, np.float32)
    values[np.flatnonzero(np.abs(values) > 1e-3)[0]] += 1
    (folder / "weights.bin").write_bytes(bytes(weights))
    done = built()
    assert done.returncode == 3
    assert "values are wrong; the first is value" in done.stderr


def test_arrays_and_threads_are_checked():
    artifact = compiled(small(), 1, plan="csr")
    x, y, k = image(1), np.empty((1, 10), np.float32), np.empty((1, 32, 12, 8), np.float32)
    with pytest.raises(UserError, match=r"input x has shape \[1, 3\]; needed \[1, 3, 12, 8\]"):
        artifact(np.zeros((1, 3), np.float32))
    with pytest.raises(UserError, match="input x has elements of type complex64; needed float32"):
        artifact(x.astype(np.complex64))
    with pytest.raises(UserError, match=r"the network has 1 inputs \(x\); found 2"):
        artifact(x, x)
    with pytest.raises(UserError, match="threads is 0; needed at least 1"):
        artifact(x, threads=0)
    with pytest.raises(UserError, match="the network has 2 outputs; found 1 arrays"):
        artifact(x, out=[y])
    with pytest.raises(UserError, match="output y has elements of type float64; needed float32"):
        artifact(x, out=[y.astype(np.float64), k])
    with pytest.raises(UserError, match="output k is not a contiguous array that may be written"):
        artifact(x, out=[y, np.empty((1, 32, 8, 12), np.float32).transpose(0, 1, 3, 2)])
    # Other layouts of the input are copied.
    turned = np.ascontiguousarray(x.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)
    for found, expected in zip(artifact(turned), artifact(x), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "small.onnx"
    path.write_bytes(small().SerializeToString())
    command = [str(path), "--target", "cpu", "--batch", "1", "--plan", "csr"]
    assert main(["run", *command, "--json", "--output", str(tmp_path / "y.npz"), "--threads", "2"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["threads"] == 2
    assert report["host_share"] > 0
    assert np.load(tmp_path / "y.npz")["y"].shape == (1, 10)
    assert main(["analyze", *command[:-2], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["wall_ms"] is None
    assert main(["run", *command, "--trace", str(tmp_path / "t.json")]) == 2
    assert "has no trace of instructions" in capsys.readouterr().err
    assert main(["run", *command[:-1], "bsr"]) == 2
    assert "unknown plan 'bsr'; on a CPU it is one of auto, line, csr" in capsys.readouterr().err
    assert main(["run", *command, "--dtype", "i8"]) == 1
    assert "i8" in capsys.readouterr().err


needs_models = pytest.mark.skipif(not MODELS.is_dir(), reason=f"no models in {MODELS}")


def arrays(name: str) -> Any:
    return np.load(MODELS / name, allow_pickle=False)


def held_to_onnxruntime(artifact: NetworkArtifact, proto: Any, inputs: dict[str, Array]) -> Array:
    """The output, which is within twice its bound of onnxruntime's and has the same largest scores."""
    found = artifact(*(inputs[name] for name in artifact.input_names))
    assert isinstance(found, np.ndarray)
    (w,) = wanted(proto, **inputs)
    (bound,) = artifact.check.bounds
    assert bound is not None
    assert (np.abs(found - w) <= 2 * bound).all()
    assert (found.argmax(1) == w.argmax(1)).all()
    return found


@needs_models
@pytest.mark.parametrize("batch", [1, 32])
def test_lenet(batch: int):
    x = arrays("mnist_test_a.npz")["images"][:batch].reshape(batch, 784).astype(np.float32)
    proto = load(str(MODELS / "lenet300100_pruned.onnx"))
    held_to_onnxruntime(compiled(proto, batch, [x]), proto, {"input": x})


@needs_models
def test_mnist_of_cntk():
    x = arrays("mnist_test_a.npz")["images"][:1].reshape(1, 1, 28, 28).astype(np.float32)
    proto = load(str(MODELS / "mnist_cntk.onnx"))
    held_to_onnxruntime(compiled(proto, 1, [x]), proto, {"Input3": x})


@needs_models
@pytest.mark.parametrize("batch", [1, 20])
def test_keyword_spotting(batch: int):
    sounds = arrays("kws_a.npz")["features"][:batch]
    proto = networks.keyword_spotting(arrays("kws_dscnn.npz"), False)
    held_to_onnxruntime(compiled(proto, batch, [sounds]), proto, {"features": sounds})


@needs_models
def test_graph_convolution():
    z = arrays("gcn_cora.npz")
    x = np.zeros(tuple(z["X_shape"]), np.float32)
    x[np.repeat(np.arange(len(x)), np.diff(z["X_indptr"])), z["X_indices"]] = z["X_data"]
    artifact = compiled(networks.graph_convolution(z), None, [x])
    found = artifact(x)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, z["logits"], rtol=1e-4, atol=1e-4)
    assert (found.argmax(1) == z["logits"].argmax(1)).all()
    # The graph is a product like any other.
    assert [layer.weight.shape for layer in layers(artifact)][1] == (2708, 2708)


@needs_models
def test_squeezenet():
    """A part of the image, so that it does not take long."""
    z = arrays("squeezenet_dc.npz")
    x = networks.squeezenet_input(z["cat_image"][40:119, 60:139])
    proto = networks.squeezenet(z)
    artifact = compiled(proto, 1, [x], dims={"H": 79, "W": 79}, plan="line")
    held_to_onnxruntime(artifact, proto, {"data": x})
    # The parts of all eight concatenations are computed in their places.
    assert len(artifact.storage.settled) == 16


# Its allocators stand before those of the C library, for shared objects, too; while inferring they end it.
GUARDED = """
#include <stdio.h>
#include <stdlib.h>
#include "model.h"
static volatile int inferring;
static void stop(const char *name) {
    if (!inferring) return;
    inferring = 0;
    fprintf(stderr, "%s was called\\n", name);
    abort();
}
void *__libc_malloc(size_t a);
void *__libc_calloc(size_t a, size_t b);
void *__libc_realloc(void *a, size_t b);
void *__libc_memalign(size_t a, size_t b);
void __libc_free(void *a);
void *malloc(size_t a) { return stop("malloc"), __libc_malloc(a); }
void *calloc(size_t a, size_t b) { return stop("calloc"), __libc_calloc(a, b); }
void *realloc(void *a, size_t b) { return stop("realloc"), __libc_realloc(a, b); }
void *aligned_alloc(size_t a, size_t b) { return stop("aligned_alloc"), __libc_memalign(a, b); }
void free(void *a) { stop("free"), __libc_free(a); }
int main(int count, char **arguments) {
    static model m;
    static float room[MODEL_OUTPUTS][1 << 16];
    const void *inputs[MODEL_INPUTS + 1];
    void *outputs[MODEL_OUTPUTS];
    if (count < 2 || model_load(arguments[0]) != 0 || model_init(&m, atoi(arguments[1])) != 0) return 1;
    for (int i = 0; i < MODEL_INPUTS; i++) inputs[i] = model_inputs[i].data;
    for (int i = 0; i < MODEL_OUTPUTS; i++) outputs[i] = room[i];
    for (int i = 0; i < 3; i++) {
        inferring = 1;
        const int status = model_infer(&m, inputs, outputs);
        inferring = 0;
        if (status != 0) {
            fprintf(stderr, "%s\\n", m.error);
            return 2;
        }
    }
    for (int i = 0; i < MODEL_OUTPUTS; i++)
        for (int64_t j = 0; j < model_outputs[i].count; j++) {
            const float off = room[i][j] - ((const float *)model_outputs[i].data)[j];
            if (!(off < 1e-3f && off > -1e-3f)) return 3;
        }
    return 0;
}
"""


@pytest.mark.parametrize("plan", ["line", "csr", "dense", "vector"])
@pytest.mark.parametrize("batch", [1, 3])
def test_inference_allocates_nothing(tmp_path: Path, plan: str, batch: int):
    check_that_nothing_is_allocated(compiled(small(), batch, [image(batch)], plan=plan), tmp_path)


@pytest.mark.parametrize("plan", ["line", "csr", "dense", "vector"])
@pytest.mark.parametrize("dtype", ["i8", "bf16"])
def test_inference_of_narrow_types_allocates_nothing(tmp_path: Path, plan: str, dtype: str):
    chip = load_target("cpu")
    assert isinstance(chip, CpuTarget)
    if chip.with_type(dtype).missing:
        pytest.skip(f"this CPU lacks instructions for {dtype}")
    if plan == "line" and registers_for_words(chip.with_type(dtype), dtype, 64) is None:  # pyright: ignore[reportArgumentType]  # a name of one
        pytest.skip(f"there is no straight-line code of {dtype} for {chip.name}")
    samples = {"calibrate": {"x": image(8)}} if dtype == "i8" else {}
    artifact = compiled(small(), 2, [image(2)], plan=plan, dtype=dtype, **samples)
    check_that_nothing_is_allocated(artifact, tmp_path, 1e-3 if dtype == "i8" else 0.1)


def check_that_nothing_is_allocated(artifact: NetworkArtifact, tmp_path: Path, close: float = 1e-3):
    artifact.save(tmp_path)
    chip = artifact.target
    assert isinstance(chip, CpuTarget)
    (tmp_path / "guarded.c").write_text(GUARDED.replace("1e-3f", f"{close}f"))
    sources = ["guarded.c", "model.c", "data.c", *map(str, sorted(tmp_path.glob("*.s")))]
    sources += [str(runtime_object(chip)), str(host_object(chip))]
    flags = ["-std=gnu11", "-O1", *chip.simd.flags.split(), "-I.", "-Isc", "-Ihost"]
    command = [*find_compiler(), *flags, *sources, "-pthread", "-lm", "-o", "guarded"]
    subprocess.run(command, cwd=tmp_path, check=True)
    for threads in ("1", "2", "5"):
        program = [str(tmp_path / "guarded"), threads]
        done = subprocess.run(program, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (threads, done.stderr)


def test_scratch_is_as_large_as_kernels_say():
    """The sizes that are known when compiling are those that kernels ask for."""
    target = load_target("cpu")
    assert isinstance(target, CpuTarget)
    if target.missing:
        pytest.skip("no instructions of any target here")
    library = runtime(target)
    for m, k, n in [(5, 3, 1), (40, 300, 7), (70, 640, 100), (3, 64, 1), (200, 33, 2000), (4100, 7, 1)]:
        dense = pruned(m, k, seed=m)
        rows, columns = np.nonzero(dense)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=m))])
        w = make_csr(dense[rows, columns], columns, indptr, (m, k))
        variants = [Variant("csr"), Variant("dense"), Variant("vector"), *line_variants(w, target, n)]
        for variant in (*variants, Variant("vector", rounds=True), Variant("csr", by_rows=True)):
            kernel = build(w, target, variant, PLAIN, None)
            needed = getattr(library, f"sc_{variant.kind}_scratch")(kernel.where, n, n)
            assert scratch_floats((m, k), variant, target, n, n) == needed, (variant, m, k, n)


@pytest.mark.parametrize("element", ["i8", "bf16", "f16"])
def test_scratch_of_narrow_types_is_as_large_as_kernels_say(element: Any):
    target = load_target("cpu")
    assert isinstance(target, CpuTarget)
    target = target.with_type(element)
    if target.missing:
        pytest.skip(f"this CPU lacks instructions for {element}")
    library = runtime(target)
    library.sc_words_scratch.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    library.sc_words_scratch.restype = ctypes.c_size_t
    for m, k, n in [(5, 3, 1), (70, 640, 100), (200, 33, 2000), (40, 4000, 600)]:
        dense = pruned(m, k, seed=m)
        rows, columns = np.nonzero(dense)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=m))])
        data = dense[rows, columns] if element != "i8" else np.ones(len(rows), np.int8)
        w = make_csr(data, columns, indptr, (m, k))
        words = len(as_words(w, element, depth_of(target, element)).columns)
        lanes = registers_for_words(target, element, n)
        line = Variant("line", lanes.lanes, 8, 512, panels=1, batch=1) if lanes else Variant("csr")
        for variant in (Variant("csr"), Variant("dense"), Variant("vector"), line):
            kernel = narrow_kernel(library, w, target, variant, element, plain(target))
            needed = library.sc_words_scratch(kernel.where, n)
            assert words_floats((m, words), variant, target, n) == needed, (variant, m, k, n)


@pytest.mark.parametrize("plan", ["line", "csr", "dense", "vector"])
@pytest.mark.parametrize(("n", "k"), [(1, 5), (7, 18), (33, 130), (64, 64)])
def test_features_that_lie_innermost_are_turned_in_the_product(plan: str, n: int, k: int):
    """X comes as [n, k]; straight-line code turns it while it packs, and no copy of it is made."""
    constants = {"w": pruned(k, 30, seed=k), "b": pruned(30, seed=n, density=1)}
    nodes = [
        node("MatMul", ["x", "w"], ["p"], name="product"),
        node("Add", ["p", "b"], ["s"], name="bias"),
        node("Relu", ["s"], ["y"], name="relu"),
    ]
    proto = model(nodes, constants, [n, k], ["y"])
    x = np.random.default_rng(n).standard_normal((n, k)).astype(np.float32)
    artifact = compiled(proto, n, [x], plan=plan)
    (layer,) = layers(artifact)
    assert layer.turned == (n > 1)
    for threads in (1, 2, 3):
        found = artifact(x, threads=threads)
        assert isinstance(found, np.ndarray)
        np.testing.assert_allclose(found, wanted(proto, x=x)[0], rtol=1e-5, atol=1e-5)
    assert artifact.report.to_json()["products"][0]["fused"][0] == ("turned" if n > 1 else "bias")
