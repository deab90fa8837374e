"""Networks for any batch on crossbars: arrays written once, values and time as compiled for one batch."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sparsecc.any_batch import AnyBatch, compile_any_batch
from sparsecc.crossbar_network_report import CrossbarNetworkReport
from sparsecc.driver.cli import main
from sparsecc.errors import UserError
from sparsecc.interpreters.sparse import run_module
from sparsecc.network_compiler import NetworkArtifact, compile_network
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.load import load_target
from sparsecc.toolchain import find_compiler, host_library, simulator_library

Array = NDArray[Any]
MOST = 64
PIXELS = 36


def sparse(*shape: int, seed: int, density: float = 0.3) -> Array:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * (rng.random(shape) < density)).astype(np.float32)


def saved(path: Path, nodes: list[Any], constants: dict[str, Array], shape: list[Any]) -> Path:
    graph = helper.make_graph(
        nodes, "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pruned layers, as LeNet-300-100."""
    node = helper.make_node
    nodes = [
        node("Gemm", ["x", "w1", "b1"], ["h1"], "ip1", transB=1),
        node("Relu", ["h1"], ["r1"], "relu1"),
        node("Gemm", ["r1", "w2", "b2"], ["h2"], "ip2", transB=1),
        node("Relu", ["h2"], ["r2"], "relu2"),
        node("Gemm", ["r2", "w3"], ["y"], "ip3", transB=1),
    ]
    constants = {
        "w1": sparse(40, PIXELS, seed=1), "b1": sparse(40, seed=2), "w2": sparse(20, 40, seed=3),
        "b2": sparse(20, seed=4), "w3": sparse(10, 20, seed=5, density=0.6),
    }  # fmt: skip
    return saved(tmp_path_factory.mktemp("model") / "small.onnx", nodes, constants, ["batch", PIXELS])


def rows_of(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((count, PIXELS)).astype(np.float32)


SAMPLES = {"x": rows_of(24, seed=9)}


def integers(artifact: NetworkArtifact, x: Array) -> Array:
    """What the integer network gives on numpy."""
    stage = next(s for s in artifact.stages if s.name == "nn-fold-quantization")
    return run_module(stage.module, x)[0]


def fixed(path: Path, target: str, batch: int) -> NetworkArtifact:
    return compile_network(path, target=target, batch=batch, calibrate=SAMPLES, effort=0, confirm=False)


@pytest.fixture(scope="module", params=["isaac128", "puma128"])
def network(path: Path, request: pytest.FixtureRequest) -> AnyBatch:
    return compile_any_batch(
        path, max_batch=MOST, target=request.param, calibrate=SAMPLES, effort=0, confirm=False
    )


def test_every_batch_is_as_compiled_for_it(network: AnyBatch, path: Path):
    """The bits of the integer network, and at most 1.10 of the time."""
    target = network.largest.target.name
    for batch in (1, 2, 3, 7, 16, 33) if target == "isaac128" else (1, 7, 33):
        alone = fixed(path, target, batch)
        x = rows_of(batch, seed=batch)
        found = cast(Array, network(x))
        assert np.array_equal(found, integers(alone, x))
        cycles = sum(product["cycles"] for product in alone.measurement["products"])
        host = cast(CrossbarNetworkReport, alone.predicted()).host_seconds
        seconds = cycles / (cast(CrossbarTarget, alone.target).clock_ghz * 1e9) + host
        assert network.cover.seconds[batch] <= 1.10 * seconds
        if batch in (7, 33):
            assert np.array_equal(found, alone(x))


def test_arrays_are_written_once(network: AnyBatch, path: Path):
    """All batches that the program checks itself with run on them; cycles and energy are those foretold."""
    rows = cast("list[dict[str, Any]]", network.check())
    assert {1, MOST - 1, MOST} <= {row["batch"] for row in rows}
    assert not any(row["wrong"] for row in rows)
    assert max(row["chunks"] for row in rows) > 1
    assert [row["cycles"] for row in rows] == [network.cycles(row["batch"]) for row in rows]
    for row in rows:
        assert row["energy_pj"] == pytest.approx(network.energy_pj(row["batch"]))
    alone = fixed(path, network.largest.target.name, MOST).measurement
    assert {row["writes_so_far"] for row in rows} == {
        sum(layer["crossbar"]["cell_writes"] for layer in alone["layers"])
    }
    report = network.report
    assert report.program_energy_pj == pytest.approx(
        sum(layer["crossbar"]["program"]["energy_pj"] for layer in alone["layers"])
    )
    assert report.arrays == sum(layer["crossbar"]["arrays_used"] for layer in alone["layers"])
    assert report.batches[0]["energy_pj"] == network.energy_pj(1)
    assert max(report.of_fixed.values()) <= 1.09
    assert report.over_padding > 1.5


@given(st.lists(st.integers(1, MOST), min_size=1, max_size=3))
@settings(max_examples=3, deadline=None)
def test_batches_in_any_order(network: AnyBatch, batches: list[int]):
    for batch in batches:
        x = rows_of(batch, seed=batch)
        padded = np.concatenate([x, np.zeros((MOST - batch, PIXELS), np.float32)])
        assert np.array_equal(cast(Array, network(x)), integers(network.largest, padded)[:batch])


def test_convolutions(tmp_path: Path):
    """Their positions are pixels of all images."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"], name="relu"),
        node("Flatten", ["r"], ["f"], name="flatten"),
        node("Gemm", ["f", "w2"], ["y"], name="classes", transB=1),
    ]
    constants = {"w1": sparse(8, 2, 3, 3, seed=1), "w2": sparse(20, 8 * 20, seed=2)}
    path = saved(tmp_path / "conv.onnx", nodes, constants, ["N", 2, 5, 4])
    samples = {"x": np.random.default_rng(1).standard_normal((8, 2, 5, 4)).astype(np.float32)}
    network = compile_any_batch(
        path, max_batch=3, target="puma128", calibrate=samples, effort=0, confirm=False
    )
    rows = network.check()
    assert [row["batch"] for row in rows] == [1, 2, 3]
    assert not any(row["wrong"] for row in rows)
    x = samples["x"][:2]
    both = np.concatenate([x, x[:1]])
    assert np.array_equal(cast(Array, network(x)), integers(network.largest, both)[:2])


def test_commands(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    np.savez(tmp_path / "samples.npz", x=SAMPLES["x"])
    options = [str(path), "--max-batch", "3", "--target", "isaac128", "--effort", "0"]
    assert main(["run", *options]) == 1
    assert "give inputs to quantise it by with --calibrate" in capsys.readouterr().err
    options += ["--calibrate", str(tmp_path / "samples.npz")]
    assert main(["run", *options, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["batch"] for row in told["batches"]] == [1, 2, 3]
    assert told["arrays"] > 0
    folder = tmp_path / "out"
    assert main(["compile", *options, "-o", str(folder)]) == 0
    assert "written once" in capsys.readouterr().out
    flags = ["-std=gnu11", "-O0", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
    sources = [*sorted(p.name for p in folder.glob("*.c")), str(simulator_library()), str(host_library())]
    command = [*find_compiler(), *flags, "-I.", "-Iaxsim", "-Ihost", *sources, "-lm", "-o", "model"]
    subprocess.run(command, cwd=folder, check=True)
    assert subprocess.run([str(folder / "model"), "--quiet"], check=False).returncode == 0
    done = subprocess.run(
        [str(folder / "model"), "--batch", "4"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "from 1 to 3" in done.stderr) == (2, True)


def test_what_is_refused(network: AnyBatch, path: Path):
    with pytest.raises(UserError, match=r"needed \[batch, 36\], one batch from 1 to 64"):
        network(rows_of(MOST + 1))
    chip = cast(CrossbarTarget, load_target("isaac128"))
    array = dataclasses.replace(chip.array, count=4, rows=16, cols=16, shapes=((16, 16),))
    small = dataclasses.replace(chip, name="small", array=array)
    with pytest.raises(UserError, match=r"the network's products take .* cells, and target small has 1024"):
        compile_any_batch(path, max_batch=2, target=small, calibrate=SAMPLES, effort=0, confirm=False)
