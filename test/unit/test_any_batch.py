"""Networks for any batch, told when the program runs: outputs as onnxruntime's, cycles as foretold."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sparsecc.any_batch import AnyBatch, compile_any_batch
from sparsecc.any_batch_cover import candidates, cover, kept, missing
from sparsecc.driver.cli import main
from sparsecc.errors import UserError
from sparsecc.network_compiler import compile_network
from sparsecc.toolchain import find_compiler, host_library, simulator_library

Array = NDArray[Any]
MOST = 7
onnxruntime: Any = ort
onnx_library: Any = onnx


def saved(path: Path, nodes: list[Any], constants: dict[str, Array], shape: list[Any]) -> Path:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("y", "f")]
    held = [numpy_helper.from_array(v, n) for n, v in constants.items()]
    graph = helper.make_graph(nodes, "small", [x], outputs, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx_library.save(model, str(path))
    return path


def sparse(*shape: int, seed: int, density: float = 0.3) -> Array:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * (rng.random(shape) < density)).astype(np.float32)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution and a product, two outputs."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"], name="relu"),
        node("Flatten", ["r"], ["f"], name="flatten"),
        node("Gemm", ["f", "w2", "b2"], ["s"], name="classes", transB=1),
        node("Softmax", ["s"], ["y"], name="softmax"),
    ]
    constants = {
        "w1": sparse(16, 2, 3, 3, seed=1), "w2": sparse(20, 16 * 20, seed=2), "b2": sparse(20, seed=3),
    }  # fmt: skip
    return saved(tmp_path_factory.mktemp("model") / "small.onnx", nodes, constants, ["N", 2, 5, 4])


def image(batch: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((batch, 2, 5, 4)).astype(np.float32)


def wanted(path: Path, x: Array) -> list[Array]:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": x})


@pytest.fixture(scope="module")
def network(path: Path) -> AnyBatch:
    return compile_any_batch(path, max_batch=MOST, target="scalesim-ws16", effort=0)


def test_all_batches_give_onnxruntimes_outputs(network: AnyBatch, path: Path):
    for batch in range(1, MOST + 1):
        x = image(batch, seed=batch)
        for y, w in zip(network(x), wanted(path, x), strict=True):
            np.testing.assert_allclose(y, w, atol=1e-5, rtol=1e-5)


def test_the_program_checks_all_batches(network: AnyBatch):
    """Also those that need several variants; cycles are those that were foretold, or are measured alone."""
    rows = network.check()
    assert [row["batch"] for row in rows] == list(range(1, MOST + 1))
    assert not any(row["wrong"] for row in rows)
    assert [row["cycles"] for row in rows] == [network.cycles(row["batch"]) for row in rows]
    assert max(row["chunks"] for row in rows) > 1
    size = min(network.variants)
    assert network.cover.chunks(size) == [size]
    assert network.variants[size].measurement["simulation"]["cycles"] == network.cycles(size)
    report = network.report
    assert report.weights_bytes < report.weights_unshared_bytes
    assert report.over_padding > 1
    assert all(ratio < 1.05 for ratio in report.of_fixed.values())


@pytest.fixture(scope="module")
def native(path: Path) -> AnyBatch:
    return compile_any_batch(path, max_batch=MOST, target="cpu")


def test_all_batches_on_a_cpu(native: AnyBatch, path: Path, tmp_path: Path):
    for batch in (*range(1, MOST + 1), 1):
        x = image(batch, seed=batch)
        expected = wanted(path, x)
        out = [np.empty_like(y) for y in expected]
        for threads in (1, 2):
            found = native(x, out=out, threads=threads)
            for y, place, w in zip(found, out, expected, strict=True):
                assert y is place
                np.testing.assert_allclose(y, w, atol=1e-5, rtol=1e-5)
    rows = native.check()
    assert [row["batch"] for row in rows] == list(range(1, MOST + 1))
    assert not any(row["wrong"] for row in rows)
    assert min(row["nanoseconds"] for row in rows) > 0
    report = native.report
    # Which variants there are depends on this machine's clock.
    assert report.weights_bytes <= report.weights_unshared_bytes
    assert len(report.variants) == 1 or report.weights_bytes < report.weights_unshared_bytes
    assert all(row["us"] > 0 for row in report.batches)
    native.save(tmp_path / "out")
    # Variants of one width of vectors share their code.
    products = sum(len(a.layers) for a in native.variants.values())
    texts = list((tmp_path / "out").glob("*.s"))
    assert len(texts) <= min(products, 2 * len(native.largest.layers))


def test_several_variants_in_one_inference_on_a_cpu(native: AnyBatch, path: Path):
    """Whatever is the fastest here: covers are forced, with a last variant that has rows to spare."""
    sizes = {2: compile_network(path, batch=2, target="cpu", inputs=[native.largest.inputs[0][:2]])}
    forced = dataclasses.replace(native, variants=sizes, cover=cover({2: 1.0}, MOST))
    assert forced.cover.chunks(MOST) == [2] * 4
    x = image(MOST)
    for y, w in zip(forced(x), wanted(path, x), strict=True):
        np.testing.assert_allclose(y, w, atol=1e-5, rtol=1e-5)
    assert not any(row["wrong"] for row in forced.check())


def test_wrong_calls_on_a_cpu(native: AnyBatch):
    with pytest.raises(
        UserError, match=r"input x has shape \[8, 2, 5, 4\]; needed \[batch, 2, 5, 4\], one batch"
    ):
        native(image(MOST + 1))
    with pytest.raises(UserError, match=r"input x has shape \[2, 2, 5, 5\]; needed \[2, 2, 5, 4\]"):
        native(np.zeros((2, 2, 5, 5), np.float32))
    with pytest.raises(UserError, match=r"output y has shape \[3, 20\]; needed \[2, 20\]"):
        native(image(2), out=[np.zeros((3, 20), np.float32), np.zeros((2, 320), np.float32)])


def test_fences(path: Path):
    """They cost issue slots here, and the program compares the cycles."""
    network = compile_any_batch(path, max_batch=3, target="ascend910", effort=0)
    assert cast(Any, network.largest.target).queues.issue_gap > 0
    assert not any(row["wrong"] for row in network.check())


def build(folder: Path) -> None:
    """The program's own C under sanitizers; the libraries are tested elsewhere."""
    options = ["-std=gnu11", "-O0", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
    sources = [*sorted(p.name for p in folder.glob("*.c")), str(simulator_library()), str(host_library())]
    command = [*find_compiler(), *options, "-I.", "-Iaxsim", "-Ihost", *sources, "-lm", "-o", "model"]
    subprocess.run(command, cwd=folder, check=True)


def test_commands(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    options = [str(path), "--max-batch", "3", "--target", "scalesim-ws16", "--effort", "0"]
    x = image(2)
    np.save(tmp_path / "x.npy", x)
    files = ["--input", str(tmp_path / "x.npy"), "--output", str(tmp_path / "y.npz")]
    assert main(["run", *options, *files, "--json"]) == 0
    assert [row["batch"] for row in json.loads(capsys.readouterr().out)["batches"]] == [1, 2, 3]
    np.testing.assert_allclose(np.load(tmp_path / "y.npz")["y"], wanted(path, x)[0], atol=1e-5)
    folder = tmp_path / "out"
    assert main(["compile", *options, "-o", str(folder)]) == 0
    assert "over padding" in capsys.readouterr().out
    build(folder)
    assert subprocess.run([str(folder / "model"), "--quiet"], check=False).returncode == 0
    more = ["--batch", "2", "--input", str(tmp_path / "x.npy"), "--output", str(tmp_path / "y.npy")]
    subprocess.run([str(folder / "model"), "--quiet", *more], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), wanted(path, x)[0], atol=1e-5)
    more[1] = "3"
    done = subprocess.run([str(folder / "model"), *more], capture_output=True, text=True, check=False)
    assert (done.returncode, "shape (3, 2, 5, 4)" in done.stderr) == (1, True)
    done = subprocess.run(
        [str(folder / "model"), "--batch", "4"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "from 1 to 3" in done.stderr) == (2, True)
    held = bytearray((folder / "check.bin").read_bytes())
    np.frombuffer(held, np.float32)[:1] += 1
    (folder / "check.bin").write_bytes(bytes(held))
    build(folder)
    done = subprocess.run([str(folder / "model"), "--quiet"], capture_output=True, check=False)
    assert done.returncode == 3


@given(st.dictionaries(st.integers(1, 9), st.integers(1, 20), min_size=1, max_size=4), st.integers(1, 12))
def test_covers_are_the_cheapest(costs: dict[int, int], most: int):
    found = cover({b: float(c) for b, c in costs.items()}, most)
    for batch in range(1, most + 1):
        chunks = found.chunks(batch)
        assert sum(chunks) >= batch > sum(chunks[:-1])
        assert sum(costs[c] for c in chunks) == found.seconds[batch]
        # Every multiset of as many variants as rows at most.
        if batch <= 4:
            every = (
                sum(costs[c] for c in some)
                for count in range(1, batch + 1)
                for some in itertools.combinations_with_replacement(costs, count)
                if sum(some) >= batch
            )
            assert found.seconds[batch] == min(every)


def test_variants_that_go():
    """Linear costs need no second variant, constant ones only the bound, others both."""
    assert kept({1: 1.0, 2: 2.0, 4: 4.0}, 4) == {1: 1.0}
    assert kept({1: 1.0, 2: 1.0, 4: 1.0}, 4) == {4: 1.0}
    assert kept({1: 1.0, 4: 2.0}, 4) == {1: 1.0, 4: 2.0}
    assert candidates(1) == [1]
    assert candidates(6) == [1, 2, 4, 6]


@given(st.floats(0, 4), st.integers(1, 40), st.sampled_from([1.05, 1.1, 1.3]))
@settings(max_examples=20, deadline=None)
def test_no_batch_takes_longer_than_a_limit(start: float, most: int, limit: float):
    """A part that every variant has, and one for every row: as compiled for each batch, but for the limit."""
    costs = {b: start + b for b in candidates(most)}
    more = missing(costs, most, limit)
    assert not set(more) & set(costs)
    variants = kept(costs | {b: start + b for b in more}, most, limit)
    seconds = cover(variants, most).seconds
    assert all(seconds[b] <= limit * (start + b) * (1 + 1e-9) for b in range(1, most + 1))


DEPENDENT: dict[str, tuple[list[tuple[str, list[str], list[str], dict[str, Any]]], list[Any], str]] = {
    "mean": (
        [("ReduceMean", ["x"], ["m"], {"axes": [0]}), ("Sub", ["x", "m"], ["y"], {})], ["N", 3],
        "depends on the other rows",
    ),
    "softmax": ([("Softmax", ["x"], ["y"], {"axis": 0})], ["N", 3], "depends on the other rows"),
    "transposed": ([("Transpose", ["x"], ["y"], {})], ["N", 3], "has to be the batch"),
    "fixed": ([("Relu", ["x"], ["y"], {})], [4, 3], "be left open"),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "shape", "message"), list(DEPENDENT.values()), ids=list(DEPENDENT))
def test_rows_that_are_not_independent(nodes: list[Any], shape: list[Any], message: str, tmp_path: Path):
    made = [helper.make_node(kind, ins, outs, **more) for kind, ins, outs, more in nodes]
    made.append(helper.make_node("Relu", ["y"], ["f"]))
    path = saved(tmp_path / "m.onnx", made, {}, shape)
    compile_network(path, batch=None if shape[0] == 4 else 2)
    with pytest.raises(UserError, match=message):
        compile_any_batch(path, max_batch=4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-batch", "0"], "needed at least one"),
        (["--max-batch", "8", "--batch", "3"], "--batch is for one batch"),
        (["--max-batch", "8", "--trace", "t.json"], "--trace is for one batch: give --batch"),
        (["--max-batch", "8", "--html", "r.html"], "--html is for one batch"),
        (["--max-batch", "8", "--target", "cpu", "--dump-ir", "ir"], "--dump-ir is for one batch"),
        (["--max-batch", "8", "--output", "y.npy"], "--output needs --input"),
        (["--max-batch", "8", "--n", "3"], "is a whole network"),
        (["--max-batch", "8", "--check-stages"], "--check-stages is for one matrix"),
    ],
    ids=["none", "two", "trace", "html", "ir", "output", "columns", "stages"],
)
def test_what_is_refused(path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert main(["run", str(path), "--target", "scalesim-ws16", *arguments]) in (1, 2)
    assert message in capsys.readouterr().err


def test_wrong_inputs(network: AnyBatch):
    for x in (image(MOST + 1), np.zeros((3, 2, 5), np.float32), np.zeros((), np.float32)):
        with pytest.raises(UserError, match=r"needed \[batch, 2, 5, 4\], one batch from 1 to 7"):
            network(x)
    with pytest.raises(UserError, match="elements of type"):
        network(image(2).astype(np.complex64))
    with pytest.raises(UserError, match="1 inputs"):
        network()
