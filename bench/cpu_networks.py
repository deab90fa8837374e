"""Whole networks on a CPU: sparsecc and onnxruntime on the same weights, as table and JSON.

Run: python bench/cpu_networks.py [--threads 1,2] [--match TEXT] [--data FOLDER] [--output FILE.json]
     [--quick] [--dtype i8]

The example networks, pruned as they are published. Both run in one process, with so many threads each, warm,
in turns: in each round each is called for some milliseconds, three times at least; the figure of a round is
the median of its calls, and the result the median of the rounds; with one thread it is the time of that
thread on its processor. onnxruntime multiplies the zeros, too; its time for each layer is that of its own
profiler, ours is measured in the emitted program. Outputs are compared first.

--dtype i8: networks of floats are quantised by their inputs, here by sparsecc, there to QDQ form by the
quantiser of onnxruntime (int8), whose session makes QLinear operators of it; what comes in bytes is run as it
is. Where onnxruntime cannot do that, it multiplies f32, and the line says so. Our outputs are then equal to
the integer reference, which is checked first.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import networks
import numpy as np
import onnxruntime  # pyright: ignore[reportMissingTypeStubs]
from measure import DATA, machine, versions

ROUNDS, TURN, LEAST = 9, 0.05, 3

ort: Any = onnxruntime
Call = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """A network and what it is run on."""

    name: str
    model: Any
    """An onnx.ModelProto."""
    batch: int
    dims: dict[str, int]
    inputs: dict[str, Any]
    samples: dict[str, Any] | None = None
    """To calibrate by, [samples, ...]; None where the network is quantised, or not to be."""


def cases(models: Path) -> Iterator[Case]:
    """The networks whose files are there; batches of 1 and of many."""
    import onnx

    onnx_library: Any = onnx

    def arrays(name: str) -> Any:
        return np.load(models / name, allow_pickle=False)

    digits = arrays("mnist_test_a.npz")["images"].astype(np.float32)
    load: Any = onnx_library.load
    lenet, mnist = (load(str(models / f)) for f in ("lenet300100_pruned.onnx", "mnist_cntk.onnx"))
    for batch in (1, 64):
        yield Case(f"lenet-300-100 x{batch}", lenet, batch, {}, {"input": digits[:batch].reshape(batch, 784)})
    yield Case("mnist_cntk x1", mnist, 1, {}, {"Input3": digits[:1].reshape(1, 1, 28, 28)})
    kws, sounds = networks.keyword_spotting(arrays("kws_dscnn.npz"), False), arrays("kws_a.npz")
    for batch in (1, 32):
        yield Case(f"kws-ds-cnn x{batch}", kws, batch, {}, {"features": sounds["features"][:batch]})
    squeeze = arrays("squeezenet_dc.npz")
    image = networks.squeezenet_input(squeeze["cat_image"])
    model = networks.squeezenet(squeeze)
    yield Case("squeezenet x1", model, 1, {"H": 227, "W": 227}, {"data": image})
    images = np.concatenate([image] * 4)
    yield Case("squeezenet x4", model, 4, {"H": 227, "W": 227}, {"data": images})
    graph = arrays("gcn_cora.npz")
    yield Case("gcn-cora", networks.graph_convolution(graph), 1, {}, {"x": dense_features(graph)})


def cases_of_bytes(models: Path) -> Iterator[Case]:
    """The same networks for int8, less the graph convolution: its graph is a left factor, no layer."""
    import onnx

    onnx_library: Any = onnx
    load: Any = onnx_library.load
    digits = np.load(models / "mnist_test_a.npz")["images"].astype(np.float32)
    lenet, mnist = (load(str(models / f)) for f in ("lenet300100_pruned.onnx", "mnist_cntk.onnx"))
    flat, images = digits.reshape(-1, 784), digits.reshape(-1, 1, 28, 28)
    for batch in (1, 64):
        given = {"input": flat[:batch]}
        yield Case(f"lenet-300-100 x{batch}", lenet, batch, {}, given, {"input": flat[:256]})
    yield Case("mnist_cntk x1", mnist, 1, {}, {"Input3": images[:1]}, {"Input3": images[:64]})
    kws, sounds = (
        networks.keyword_spotting(np.load(models / "kws_dscnn.npz"), True),
        np.load(models / "kws_a.npz"),
    )
    for batch in (1, 32):
        yield Case(f"kws-ds-cnn x{batch}", kws, batch, {}, {"features": sounds["features"][:batch]})
    squeeze = np.load(models / "squeezenet_dc.npz")
    image = networks.squeezenet_input(squeeze["cat_image"])
    sizes = {"H": 227, "W": 227}
    yield Case("squeezenet x1", networks.squeezenet(squeeze), 1, sizes, {"data": image}, {"data": image})


def quantised(case: Case) -> Any:
    """The network in QDQ form by onnxruntime's quantiser; as it is where it comes so.

    Raises what the quantiser does.
    """
    if case.samples is None:
        return case.model
    import onnx
    from onnxruntime import quantization  # pyright: ignore[reportMissingTypeStubs]

    quantizer: Any = quantization
    onnx_library: Any = onnx
    ((name, samples),) = case.samples.items()

    class Reader(quantizer.CalibrationDataReader):
        def __init__(self) -> None:
            self.rows = iter(samples[i : i + case.batch] for i in range(0, len(samples), case.batch))

        def get_next(self) -> Any:
            row = next(self.rows, None)
            return None if row is None else {name: row}

    with tempfile.TemporaryDirectory() as work:
        there, made = Path(work) / "model.onnx", Path(work) / "bytes.onnx"
        onnx_library.save(case.model, str(there))
        kinds: dict[str, Any] = {
            "activation_type": quantizer.QuantType.QInt8,
            "weight_type": quantizer.QuantType.QInt8,
        }
        quantizer.quantize_static(
            str(there), str(made), Reader(), quant_format=quantizer.QuantFormat.QDQ, per_channel=True,
            extra_options={"ActivationSymmetric": True}, **kinds,
        )  # fmt: skip
        return onnx_library.load(str(made))


def rival(case: Case, dtype: str) -> tuple[Any, str]:
    """What onnxruntime runs, and what that multiplies."""
    if dtype != "i8":
        return case.model, "f32"
    try:
        model = quantised(case)
        session(model, 1).run(None, case.inputs)
    except Exception as e:  # onnxruntime raises bare ones
        print(f"{case.name}: onnxruntime multiplies f32: {str(e).splitlines()[0]}", file=sys.stderr)
        return case.model, "f32"
    return model, "i8"


def dense_features(z: Any) -> Any:
    """The features of all nodes, [nodes, features]."""
    import scipy.sparse as sp  # pyright: ignore[reportMissingTypeStubs]

    csr: Any = sp.csr_array((z["X_data"], z["X_indices"], z["X_indptr"]), shape=tuple(z["X_shape"]))
    return csr.toarray().astype(np.float32)


def session(model: Any, threads: int, profile: str | None = None) -> Any:
    """onnxruntime with all of its optimisations."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    found: Any = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return found


def in_turns(calls: dict[str, Call], rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of each: the median of the rounds' medians, and the fastest of these.

    Beside the time that passes, that of the calling thread on its processor, which others do not disturb.
    """
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            taken: list[float] = []
            busy: list[float] = []
            end = time.perf_counter() + TURN
            while time.perf_counter() < end or len(taken) < LEAST:
                before, began = time.perf_counter(), time.thread_time()
                call()
                busy.append(time.thread_time() - began)
                taken.append(time.perf_counter() - before)
            found[name].append((statistics.median(taken), statistics.median(busy)))
    return {
        name: {
            "median": statistics.median(t for t, _ in times),
            "best": min(t for t, _ in times),
            "thread": statistics.median(b for _, b in times),
        }
        for name, times in found.items()
    }


def profiled(case: Case) -> dict[str, float]:
    """Microseconds of each node of onnxruntime on one thread: the median of its runs."""
    with tempfile.TemporaryDirectory() as work:
        found = session(case.model, 1, str(Path(work) / "profile"))
        for _ in range(20):
            found.run(None, case.inputs)
        events = json.loads(Path(found.end_profiling()).read_text())
    taken: dict[str, list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            taken.setdefault(event["name"].removesuffix("_kernel_time"), []).append(float(event["dur"]))
    return {name: statistics.median(times) for name, times in taken.items()}


def run(case: Case, threads: list[int], rounds: int, target: str, dtype: str = "f32") -> dict[str, Any]:
    """One network: outputs compared, times in turns, layers of both. Raises ValueError for wrong outputs."""
    from sparsecc.importers.onnx_file import import_model
    from sparsecc.network_compiler import compile_network

    module = import_model(case.model, case.name, Path(), batch=case.batch, dims=case.dims)
    before = time.perf_counter()
    artifact = compile_network(
        module, target=target, inputs=case.inputs, name=case.name, dtype=dtype, calibrate=case.samples
    )
    inputs = [np.ascontiguousarray(case.inputs[name]) for name in artifact.input_names]
    first = artifact(*inputs)
    compiled = time.perf_counter() - before
    out: list[Any] = [np.empty_like(a) for a in out_of(first)]
    model, multiplied = rival(case, dtype)
    sessions = {count: session(model, count) for count in threads}
    (wanted,) = next(iter(sessions.values())).run(None, case.inputs)
    error, largest = float(np.abs(np.asarray(first) - wanted).max()), float(np.abs(wanted).max())
    if dtype == "i8":
        # onnxruntime rounds elsewhere; what is to be equal is the integer reference.
        if not all(map(np.array_equal, out_of(first), artifact.expected)):
            raise ValueError(f"{case.name}: other values than the integer reference")
    elif not error <= 1e-4 * largest:
        raise ValueError(f"{case.name}: off by {error} of {largest}")
    result: dict[str, Any] = {"name": case.name, "compile_s": compiled, "error": error, "largest": largest}
    result["onnxruntime"] = multiplied
    for count in threads:
        calls: dict[str, Call] = {
            "onnxruntime": lambda s=sessions[count]: s.run(None, case.inputs),
            "sparsecc": lambda count=count: artifact(*inputs, out=out, threads=count),
        }
        times = in_turns(calls, rounds)
        # Of one thread the processor's time counts; of several there is only the time that passes.
        key = "thread" if count == 1 else "median"
        speedup = times["onnxruntime"][key] / times["sparsecc"][key]
        result[f"threads {count}"] = {**times, "speedup": speedup}
    report: Any = artifact.report.to_json()
    result["layers"] = {"sparsecc": report["products"], "host": report["host"]}
    result["layers"]["onnxruntime_us"] = profiled(replace(case, model=model))
    result["dense_ms"], result["speedup_over_own_dense"] = report["dense_ms"], report["speedup"]
    return result


def out_of(result: Any) -> list[Any]:
    """All outputs of a call."""
    return [*result] if isinstance(result, tuple) else [result]


def line(result: dict[str, Any], threads: list[int]) -> str:
    parts = [f"{result['name']:22}"]
    for count in threads:
        one = result[f"threads {count}"]
        key = "thread" if count == 1 else "median"
        ours, theirs = (1e3 * one[name][key] for name in ("sparsecc", "onnxruntime"))
        other = f"onnxruntime {result['onnxruntime']} {theirs:8.3f}"
        parts.append(f"{count} threads: {ours:8.3f} ms, {other}, {one['speedup']:5.2f} x")
    return "   ".join(parts)


def main() -> int:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--match", default="", help="only networks with this in their names")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--dtype", choices=("f32", "i8"), default="f32", help="of products")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    arguments = parser.parse_args()
    models = arguments.data / "models"
    if not models.is_dir():
        print(f"{models} is not there", file=sys.stderr)
        return 1
    threads = [int(t) for t in arguments.threads.split(",")]
    if max(threads) > (os.cpu_count() or 1):
        print(f"{max(threads)} threads on {os.cpu_count()} processors say little", file=sys.stderr)
    results: list[dict[str, Any]] = []
    for case in (cases_of_bytes if arguments.dtype == "i8" else cases)(models):
        if arguments.match in case.name:
            results.append(
                run(case, threads, 3 if arguments.quick else ROUNDS, arguments.target, arguments.dtype)
            )
            print(line(results[-1], threads), flush=True)
    if arguments.output:
        all_versions = versions() | {"onnxruntime": ort.__version__}
        whole = {"machine": machine(), "versions": all_versions, "networks": results}
        arguments.output.write_text(json.dumps(whole, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
