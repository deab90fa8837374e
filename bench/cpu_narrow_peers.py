"""Libraries that multiply int8, bf16 and f16 on a CPU, each on one thread: peers of bench/cpu.py --dtype.

W comes as scipy CSR and X as an array in the type (bf16 as the float32 they equal). What a peer needs in
another layout or as other values of the same type it may prepare; only the call counts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from cpu_peers import PEERS, Call, aligned

OUT = {"i8": np.int32, "bf16": np.float32, "f16": np.float32}


def narrowed(w: Any, dtype: str) -> Any:
    """The matrix in the type: int8 with a scale per row, of which only the steps count here."""
    from sparsecc.quantize import cast, quantize_rows

    return quantize_rows(w)[0] if dtype == "i8" else cast(w, dtype)[0]  # pyright: ignore[reportArgumentType]


def random_input(k: int, n: int, dtype: str) -> Any:
    """X [K, N]."""
    from sparsecc.target.numbers import convert

    rng = np.random.default_rng(1)
    if dtype == "i8":
        return rng.integers(-128, 128, (k, n)).astype(np.int8)
    return convert(rng.standard_normal((k, n)).astype(np.float32), dtype)


def ours(w: Any, x: Any, dtype: str, plan: str = "auto") -> Call:
    """sparsecc, row-major arrays in and out."""
    import sparsecc
    from sparsecc.cpu.words import as_stored

    artifact: Any = sparsecc.compile(w, target="cpu", n=x.shape[1], dtype=dtype, plan=plan)
    given = artifact.empty(*x.shape, as_stored(x[:0], dtype).dtype)
    given[:] = as_stored(x, dtype)
    y = artifact.empty(w.shape[0], x.shape[1], OUT[dtype])
    return lambda: artifact(given, out=y)


def in_f32(w: Any, x: Any, peer: str) -> Call:
    """The same values as float32, converted before."""
    wide = aligned(x.shape)
    wide[:] = x
    return PEERS[peer](w.astype(np.float32), wide)


def onnxruntime_int8(w: Any, x: Any) -> Call:
    """MatMulInteger with constant weights on the right, which it packs once; X comes transposed and unsigned,
    its zero point an input, as after DynamicQuantizeLinear."""
    onnx, onnxruntime = import_module("onnx"), import_module("onnxruntime")
    helper, types = onnx.helper, onnx.TensorProto
    (m, k), n = w.shape, int(x.shape[1])
    shapes: list[tuple[str, Any, list[int]]] = [
        ("x", types.UINT8, [n, k]),
        ("zero", types.UINT8, []),
        ("y", types.INT32, [n, m]),
    ]
    given, zero, result = (helper.make_tensor_value_info(*shape) for shape in shapes)
    weight = onnx.numpy_helper.from_array(np.ascontiguousarray(w.toarray().T), "w")
    node = helper.make_node("MatMulInteger", ["x", "w", "zero"], ["y"])
    graph = helper.make_graph([node], "g", [given, zero], [result], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    moved, y = np.ascontiguousarray((x.astype(np.int16) + 128).astype(np.uint8).T), np.empty((n, m), np.int32)
    binding = session.io_binding()
    binding.bind_cpu_input("x", moved)
    binding.bind_cpu_input("zero", np.array(128, np.uint8))
    binding.bind_output("y", "cpu", 0, np.int32, y.shape, y.ctypes.data)

    def call() -> Any:
        session.run_with_iobinding(binding)
        return y.T

    return call


def torch_dense(w: Any, x: Any, dtype: str) -> Call:
    """torch.mm in the type, whose result is rounded to it, too."""
    torch = import_module("torch")
    torch.set_num_threads(1)
    kind = torch.bfloat16 if dtype == "bf16" else torch.float16
    a, b = torch.from_numpy(w.astype(np.float32).toarray()).to(kind), torch.from_numpy(x).to(kind)
    y = torch.empty(w.shape[0], x.shape[1], dtype=kind)

    def call() -> Any:
        torch.mm(a, b, out=y)
        return y

    return call


def narrow_peers(dtype: str) -> dict[str, Callable[[Any, Any], Call]]:
    """By name; "sparsecc" is compared with the others."""
    found: dict[str, Callable[[Any, Any], Call]] = {
        "sparsecc": partial(ours, dtype=dtype),
        "sparsecc own dense": partial(ours, dtype=dtype, plan="dense"),
        "sparsecc f32": partial(in_f32, peer="sparsecc"),
    }
    if dtype == "i8":
        found["onnxruntime int8 dense"] = onnxruntime_int8
    else:
        found["torch dense"] = partial(torch_dense, dtype=dtype)
    found["numpy f32 dense"] = partial(in_f32, peer="numpy dense")
    return found
