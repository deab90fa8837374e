"""Libraries that multiply a pruned matrix on a CPU, each on one thread: what bench/cpu.py compares with.

A peer is a function of W (scipy CSR, float32) and X that returns what is to be timed. It may prepare whatever
it likes; only the call counts. It raises ImportError or OSError where its library is not there.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

Call = Callable[[], Any]


def aligned(shape: tuple[int, int]) -> Any:
    """Zeros at a multiple of 64 bytes, as libraries allocate what they pass on."""
    raw = np.zeros(shape[0] * shape[1] * 4 + 64, np.uint8)
    first = -raw.ctypes.data % 64
    return raw[first : first + shape[0] * shape[1] * 4].view(np.float32).reshape(shape)


def _kept(call: Call, *what: Any) -> Call:
    """A call during whose life arrays stay that only addresses refer to."""
    return lambda: (what, call())[1]


def _library(name: str) -> Any:
    """A module that may not be there, and has no types."""
    return import_module(name)


def ours(w: Any, x: Any) -> Call:
    """sparsecc, row-major arrays in and out."""
    import sparsecc

    artifact: Any = sparsecc.compile(w, target="cpu", n=x.shape[1])
    y = artifact.empty(w.shape[0], x.shape[1])
    return lambda: artifact(x, out=y)


def numpy_dense(w: Any, x: Any) -> Call:
    dense, y = aligned(w.shape), aligned((w.shape[0], x.shape[1]))
    dense[:] = w.toarray()
    return lambda: np.matmul(dense, x, out=y)


def scipy_csr(w: Any, x: Any) -> Call:
    return lambda: w @ x


def torch_dense(w: Any, x: Any) -> Call:
    torch = _library("torch")

    torch.set_num_threads(1)
    a, b = torch.from_numpy(w.toarray()), torch.from_numpy(x)
    y = torch.empty(w.shape[0], x.shape[1])

    def call() -> Any:
        torch.mm(a, b, out=y)
        return y.numpy()

    return call


def torch_csr(w: Any, x: Any) -> Call:
    torch = _library("torch")

    torch.set_num_threads(1)
    a = torch.sparse_csr_tensor(
        torch.from_numpy(w.indptr), torch.from_numpy(w.indices), torch.from_numpy(w.data), w.shape
    )
    b = torch.from_numpy(x)
    return lambda: torch.mm(a, b).numpy()


def onnxruntime_dense(w: Any, x: Any) -> Call:
    onnx, onnxruntime = _library("onnx"), _library("onnxruntime")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    shapes = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in (
        ("x", x.shape), ("y", (w.shape[0], x.shape[1])))]  # fmt: skip
    weight = numpy_helper.from_array(w.toarray(), "w")
    node = helper.make_node("MatMul", ["w", "x"], ["y"])
    graph = helper.make_graph([node], "g", [shapes[0]], [shapes[1]], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    y = aligned((w.shape[0], x.shape[1]))
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)

    def call() -> Any:
        session.run_with_iobinding(binding)
        return y

    return call


def openvino_dense(w: Any, x: Any) -> Call:
    ov, ops = _library("openvino"), _library("openvino.opset13")
    given = ops.parameter(x.shape, np.float32, name="x")
    model = ov.Model([ops.matmul(ops.constant(w.toarray()), given, False, False)], [given], "m")
    config = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = ov.Core().compile_model(model, "CPU", config).create_infer_request()
    y = aligned((w.shape[0], x.shape[1]))
    request.set_input_tensor(ov.Tensor(x, shared_memory=True))
    request.set_output_tensor(ov.Tensor(y, shared_memory=True))

    def call() -> Any:
        request.infer()
        return y

    return call


def _mkl() -> ctypes.CDLL:
    """MKL's library, as its wheel installs it."""
    for path in sorted((Path(sys.prefix) / "lib").glob("libmkl_rt.so*")):
        library = ctypes.CDLL(str(path))
        library.MKL_Set_Num_Threads(1)
        return library
    raise ImportError("no libmkl_rt.so: pip install mkl")


def mkl_dense(w: Any, x: Any) -> Call:
    mkl = _mkl()
    dense, y = w.toarray(), aligned((w.shape[0], x.shape[1]))
    (m, k), n = w.shape, x.shape[1]
    one, zero = ctypes.c_float(1), ctypes.c_float(0)
    a, b, c = (ctypes.c_void_p(v.ctypes.data) for v in (dense, x, y))

    def call() -> Any:
        mkl.cblas_sgemm(101, 111, 111, m, n, k, one, a, k, b, n, zero, c, n)
        return y

    return _kept(call, dense)


def mkl_csr(w: Any, x: Any) -> Call:
    """The inspector-executor interface, optimised for many calls."""

    class Description(ctypes.Structure):
        _fields_ = [("type", ctypes.c_int), ("mode", ctypes.c_int), ("diag", ctypes.c_int)]

    mkl = _mkl()
    (m, k), n = w.shape, x.shape[1]
    pointers, columns = w.indptr.astype(np.int32), w.indices.astype(np.int32)
    handle, y, general = ctypes.c_void_p(), aligned((m, n)), Description(20, 0, 0)
    starts = ctypes.c_void_p(pointers.ctypes.data), ctypes.c_void_p(pointers.ctypes.data + 4)
    rest = ctypes.c_void_p(columns.ctypes.data), ctypes.c_void_p(w.data.ctypes.data)
    if mkl.mkl_sparse_s_create_csr(ctypes.byref(handle), 0, m, k, *starts, *rest) != 0:
        raise OSError("mkl_sparse_s_create_csr failed")
    mkl.mkl_sparse_set_mm_hint(handle, 10, general, 101, n, 100000)
    mkl.mkl_sparse_optimize(handle)
    one, zero = ctypes.c_float(1), ctypes.c_float(0)
    b, c = ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(y.ctypes.data)

    def call() -> Any:
        mkl.mkl_sparse_s_mm(10, one, handle, general, 101, b, n, n, zero, c, n)
        return y

    return _kept(call, (pointers, columns))


def numba_csr(w: Any, x: Any) -> Call:
    numba = _library("numba")

    def multiply(indptr: Any, indices: Any, data: Any, x: Any, y: Any) -> None:
        for i in range(len(indptr) - 1):
            y[i] = 0
            for p in range(indptr[i], indptr[i + 1]):
                a, row = data[p], x[indices[p]]
                for j in range(x.shape[1]):
                    y[i, j] += a * row[j]

    y, compiled = aligned((w.shape[0], x.shape[1])), numba.njit(fastmath=True)(multiply)

    def call() -> Any:
        compiled(w.indptr, w.indices, w.data, x, y)
        return y

    return call


def deepsparse_engine(w: Any, x: Any) -> Call:
    deepsparse = _library("deepsparse")  # its wheels end at Python 3.11
    raise ImportError(f"deepsparse {deepsparse.__version__} is there, but this benchmark has no model for it")


def libxsmm(w: Any, x: Any) -> Call:
    if (name := ctypes.util.find_library("xsmm")) is None:
        raise ImportError("no libxsmm: Debian has it as libxsmm-dev, without a Python interface")
    xsmm = ctypes.CDLL(name)
    # The sparse-times-dense kernel for fixed W ("fsspmdm"); it takes positions in multiples of 16.
    dense, (m, k), n = w.toarray().astype(np.float32), w.shape, x.shape[1]
    one, zero = ctypes.c_float(1), ctypes.c_float(0)
    xsmm.libxsmm_sfsspmdm_create.restype = ctypes.c_void_p
    pointer = ctypes.c_void_p(dense.ctypes.data)
    handle = xsmm.libxsmm_sfsspmdm_create(m, n, k, k, n, n, one, zero, 1, pointer)
    if not handle:
        raise OSError("libxsmm_sfsspmdm_create refused the matrix")
    y = aligned((m, n))
    arguments = [ctypes.c_void_p(v) for v in (handle, x.ctypes.data, y.ctypes.data)]

    def call() -> Any:
        xsmm.libxsmm_sfsspmdm_execute(*arguments)
        return y

    return call


PEERS: dict[str, Callable[[Any, Any], Call]] = {
    "sparsecc": ours,
    "numpy dense": numpy_dense,
    "mkl dense": mkl_dense,
    "torch dense": torch_dense,
    "onnxruntime dense": onnxruntime_dense,
    "openvino dense": openvino_dense,
    "scipy csr": scipy_csr,
    "mkl csr": mkl_csr,
    "torch csr": torch_csr,
    "numba csr": numba_csr,
    "libxsmm": libxsmm,
    "deepsparse": deepsparse_engine,
}
