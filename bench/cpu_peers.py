"""Libraries that multiply a pruned matrix on a CPU, each on one thread: what bench/cpu.py compares with.

A peer is a function of W (scipy CSR, float32) and X that returns what is to be timed. It may prepare whatever
it likes, X in the layout that it is fastest with included; only the call counts. It raises ImportError or
OSError where its library is not there.

    pip install numpy scipy torch onnx onnxruntime openvino numba mkl sparse-dot-mkl
    apt-get install mlir-19-tools clang-19 libxsmm-dev
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

Call = Callable[[], Any]

# libxsmm's time to make its code grows with the square: 10 s at 78k nonzeros, 26 s at 131k, 400 s at 524k.
XSMM_NONZEROS = 120_000


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
    return artifact.bind(x, y)


def ours_in_panels(w: Any, x: Any) -> Call:
    """sparsecc, arrays in panels as inside a network."""
    import sparsecc

    if x.shape[1] % 16:
        raise OSError("panels have 16 positions")
    artifact: Any = sparsecc.compile(w, target="cpu", n=x.shape[1])
    panels = artifact.pack(x)
    y = artifact(panels)
    return artifact.bind(panels, y)


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


def onednn_dense(w: Any, x: Any) -> Call:
    """The oneDNN inside torch, weights packed beforehand. It takes positions as rows, and gets them so."""
    torch = _library("torch")

    torch.set_num_threads(1)
    packed = torch.ops.mkldnn._reorder_linear_weight(torch.from_numpy(w.toarray()), x.shape[1])
    rows = torch.from_numpy(np.ascontiguousarray(x.T))
    run = torch.ops.mkldnn._linear_pointwise
    return lambda: run(rows, packed, None, "none", [], "").numpy().T


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


@cache
def _mkl() -> ctypes.CDLL:
    """MKL's library, as its wheel installs it."""
    for path in sorted((Path(sys.prefix) / "lib").glob("libmkl_rt.so*")):
        library = ctypes.CDLL(str(path))
        library.MKL_Set_Num_Threads(1)
        os.environ["MKL_RT"] = str(path)  # where sparse_dot_mkl looks
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


def mkl_csr_scipy(w: Any, x: Any) -> Call:
    """MKL behind the interface that users of scipy know."""
    _mkl()
    multiply, y = _library("sparse_dot_mkl").dot_product_mkl, aligned((w.shape[0], x.shape[1]))
    matrix = _library("scipy.sparse").csr_matrix(w)  # it does not know sparse arrays
    return lambda: multiply(matrix, x, out=y, out_scalar=0.0)


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
    try:
        _library("deepsparse")
    except ImportError:
        raise ImportError(
            "PyPI has no wheel any more: release 1.9.0 is an sdist of 6 kB whose setup.py says that it has "
            "reached its end of life, and stops"
        ) from None
    raise ImportError("an old wheel is there, but this benchmark has no model for it")


def run(folder: str, *command: str) -> None:
    """A step of a build. Raises OSError where it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{command[0]} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")


SPARSIFIED = """
#csr = #sparse_tensor.encoding<{{
  map = (d0, d1) -> (d0 : dense, d1 : compressed), posWidth = 32, crdWidth = 32 }}>
#spmm = {{
  indexing_maps = [affine_map<(i, k, j) -> (i, k)>, affine_map<(i, k, j) -> (k, j)>,
                   affine_map<(i, k, j) -> (i, j)>],
  iterator_types = ["parallel", "reduction", "parallel"] }}
func.func @spmm(%begin: tensor<?xi32>, %columns: tensor<?xi32>, %values: tensor<?xf32>,
                %x: tensor<{k}x{n}xf32>, %y: tensor<{m}x{n}xf32> {{bufferization.writable = true}})
    -> tensor<{m}x{n}xf32> attributes {{llvm.emit_c_interface}} {{
  %w = sparse_tensor.assemble (%begin, %columns), %values
    : (tensor<?xi32>, tensor<?xi32>), tensor<?xf32> to tensor<{m}x{k}xf32, #csr>
  %r = linalg.generic #spmm ins(%w, %x : tensor<{m}x{k}xf32, #csr>, tensor<{k}x{n}xf32>)
      outs(%y : tensor<{m}x{n}xf32>) {{
    ^bb0(%a: f32, %b: f32, %s: f32):
      %p = arith.mulf %a, %b fastmath<fast> : f32
      %t = arith.addf %s, %p fastmath<fast> : f32
      linalg.yield %t : f32
  }} -> tensor<{m}x{n}xf32>
  return %r : tensor<{m}x{n}xf32>
}}
"""
SPARSIFIER = (
    "enable-runtime-library=false vl=16 reassociate-fp-reductions=true enable-index-optimizations=true"
)


def mlir_csr(w: Any, x: Any) -> Call:
    """MLIR's sparsifier: linalg on a sparse tensor, lowered by its own pipeline, compiled by clang."""
    found = [
        next((c for c in (f"{tool}-{v}" for v in (21, 20, 19)) if shutil.which(c)), None)
        for tool in ("mlir-opt", "mlir-translate", "clang")
    ]
    if None in found:
        raise ImportError("no mlir-opt, mlir-translate, clang of version 19 or newer: apt has mlir-19-tools")
    optimise, translate, clang = (str(tool) for tool in found)
    (m, k), n = w.shape, x.shape[1]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.mlir").write_text(SPARSIFIED.format(m=m, k=k, n=n))
        run(folder, optimise, "a.mlir", f"--sparsifier={SPARSIFIER}", "-o", "b.mlir")
        run(folder, translate, "--mlir-to-llvmir", "b.mlir", "-o", "c.ll")
        flags = ("-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC", "-x", "ir")
        run(folder, clang, *flags, "c.ll", "-o", "c.so")
        function = ctypes.CDLL(f"{folder}/c.so")._mlir_ciface_spmm
    function.restype = None
    y = aligned((m, n))
    arrays = w.indptr.astype(np.int32), w.indices.astype(np.int32), w.data, x, y
    memrefs = [_memref(array) for array in (y, *arrays)]  # the first becomes the result
    arguments = [ctypes.byref(memref) for memref in memrefs]

    def call() -> Any:
        y.fill(0)
        function(*arguments)
        return y

    return _kept(call, (arrays, memrefs))


def _memref(array: Any) -> ctypes.Structure:
    """What MLIR passes for a memref: base, aligned base, offset, sizes, strides."""
    sizes = ctypes.c_int64 * array.ndim

    class MemRef(ctypes.Structure):
        _fields_ = [
            ("base", ctypes.c_void_p), ("aligned", ctypes.c_void_p), ("offset", ctypes.c_int64),
            ("sizes", sizes), ("strides", sizes),
        ]  # fmt: skip

    strides = sizes(*(stride // array.itemsize for stride in array.strides))
    return MemRef(array.ctypes.data, array.ctypes.data, 0, sizes(*array.shape), strides)


@cache
def _xsmm() -> ctypes.CDLL:
    """The archive that Debian's package holds, as a shared library."""
    ask = ["gcc", "-print-file-name=libxsmm.a"]
    archive = Path(subprocess.run(ask, capture_output=True, text=True, check=False).stdout.strip())
    if not archive.is_file():
        raise ImportError(
            "no libxsmm.a: apt has libxsmm-dev (or name its folder in LIBRARY_PATH); the libxsmm on PyPI, "
            "0.0.1, holds the name and no code"
        )
    with tempfile.TemporaryDirectory() as folder:
        whole = "-Wl,--whole-archive", str(archive), "-Wl,--no-whole-archive"
        blas = str(archive.parent / "libxsmmnoblas.a")
        run(folder, "gcc", "-shared", "-o", "xsmm.so", *whole, blas, "-lpthread", "-lm", "-ldl")
        return ctypes.CDLL(f"{folder}/xsmm.so")


def libxsmm(w: Any, x: Any) -> Call:
    """Its kernel for a fixed sparse W ("fsspmdm"), dense code where the nonzeros do not fit its registers."""
    if w.nnz > XSMM_NONZEROS:
        raise OSError(f"its code for more than {XSMM_NONZEROS} nonzeros takes minutes to make")
    xsmm = _xsmm()
    if x.shape[1] % 16:
        raise OSError("positions must be a multiple of 16")
    dense, (m, k), n = w.toarray().astype(np.float32), w.shape, x.shape[1]
    one, zero = ctypes.c_float(1), ctypes.c_float(0)
    xsmm.libxsmm_sfsspmdm_create.restype = ctypes.c_void_p
    pointer = ctypes.c_void_p(dense.ctypes.data)
    handle = xsmm.libxsmm_sfsspmdm_create(m, n, k, k, n, n, one, zero, 1, pointer)
    if not handle:
        raise OSError("libxsmm_sfsspmdm_create refuses this size")
    y = aligned((m, n))
    arguments = [ctypes.c_void_p(v) for v in (handle, x.ctypes.data, y.ctypes.data)]

    def call() -> Any:
        xsmm.libxsmm_sfsspmdm_execute(*arguments)
        return y

    return call


PEERS: dict[str, Callable[[Any, Any], Call]] = {
    "sparsecc": ours,
    "sparsecc panels": ours_in_panels,
    "numpy dense": numpy_dense,
    "mkl dense": mkl_dense,
    "torch dense": torch_dense,
    "onednn dense": onednn_dense,
    "onnxruntime dense": onnxruntime_dense,
    "openvino dense": openvino_dense,
    "scipy csr": scipy_csr,
    "mkl csr": mkl_csr,
    "sparse_dot_mkl csr": mkl_csr_scipy,
    "torch csr": torch_csr,
    "numba csr": numba_csr,
    "mlir csr": mlir_csr,
    "libxsmm": libxsmm,
    "deepsparse": deepsparse_engine,
}
