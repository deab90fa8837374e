"""MLIR text against numpy and onnxruntime."""

# Lambdas on arrays have no types.
# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sparsecc.errors import UserError
from sparsecc.importers.mlir_text import import_mlir
from sparsecc.interpreters.sparse import run_module
from sparsecc.network_compiler import compile_network

Array = NDArray[Any]
SAMPLE = Path(__file__).parents[1] / "samples" / "digits_head.mlir"


def real(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed + len(shape)).standard_normal(shape).astype(np.float32)


def kind(array: Array) -> str:
    return f"tensor<{'x'.join([*map(str, array.shape), 'f32' if array.dtype == np.float32 else 'i64'])}>"


def function(body: str, inputs: Sequence[Array], result: str) -> str:
    arguments = ", ".join(f"%x{i}: {kind(x)}" for i, x in enumerate(inputs))
    return f"func.func @forward({arguments}) -> {result} {{\n{body}\n  return %y : {result}\n}}\n"


def run(tmp_path: Path, text: str, *inputs: Array) -> Array:
    (tmp_path / "model.mlir").write_text(text)
    module = import_mlir(tmp_path / "model.mlir")
    module.verify()
    return run_module(module, *inputs)[0]


def generic(
    maps: Sequence[str], iterators: str, body: str, inputs: Sequence[Array], init: str, out: str
) -> str:
    """A linalg.generic of these maps: iterators p and r; its output begins with the constant init."""
    names = ", ".join(f"%x{i}" for i in range(len(inputs)))
    types = ", ".join(kind(x) for x in inputs)
    kinds = ", ".join('"parallel"' if c == "p" else '"reduction"' for c in iterators)
    dims = ", ".join(f"d{i}" for i in range(len(iterators)))
    lists = ", ".join(f"affine_map<({dims}) -> ({m})>" for m in maps)
    arguments = ", ".join([*(f"%a{i}: f32" for i in range(len(inputs))), "%out: f32"])
    return f"""
  %zero = arith.constant 0.0 : f32
  %init = arith.constant {init} : f32
  %e = tensor.empty() : {out}
  %f = linalg.fill ins(%init : f32) outs(%e : {out}) -> {out}
  %y = linalg.generic {{indexing_maps = [{lists}], iterator_types = [{kinds}]}}
      ins({names} : {types}) outs(%f : {out}) {{
  ^bb0({arguments}):
{body}
  }} -> {out}"""


A, B = real(3, 4), real(4, 5)


def add(term: str) -> str:
    return f"%s = arith.mulf {term} : f32\n%r = arith.addf %out, %s : f32\n linalg.yield %r : f32"


def binary(operation: str) -> str:
    return f"%r = {operation} : f32\n linalg.yield %r : f32"


Generic = tuple[Sequence[str], str, str, Sequence[Array], str, Callable[..., Array]]
GENERIC: dict[str, Generic] = {
    "add": (["d0, d1", "d1", "d0, d1"], "pp", binary("arith.addf %a0, %a1"),
            [A, B[:, 0]], "0.0", lambda x, y: x + y),
    "broadcast-zero": (["d0, d1", "d0, 0", "d0, d1"], "pp", binary("arith.divf %a0, %a1"),
                       [A, A[:, :1]], "0.0", lambda x, y: x / y),
    "transposed": (["d1, d0", "d0, d1"], "pp", binary("math.tanh %a0"),
                   [A], "0.0", lambda x: np.tanh(x.T)),
    "relu": (["d0, d1", "d0, d1"], "pp",
             "%c = arith.cmpf ugt, %a0, %zero : f32\n" + binary("arith.select %c, %a0, %zero"),
             [A], "0.0", lambda x: np.maximum(x, 0)),
    "leaky": (["d0, d1", "d0, d1"], "pp",
              "%c = arith.cmpf olt, %a0, %zero : f32\n%s = arith.mulf %a0, %a0 : f32\n"
              + binary("arith.select %c, %s, %a0"),
              [A], "0.0", lambda x: np.where(x < 0, x * x, x)),
    "sum": (["d0, d1", "d0"], "pr", binary("arith.addf %a0, %out"),
            [A], "0.0", lambda x: x.sum(1)),
    "sum-from-two": (["d0, d1", "d1"], "rp", binary("arith.addf %out, %a0"),
                     [A], "2.0", lambda x: x.sum(0) + 2),
    "largest": (["d0, d1", "d0, 0"], "pr", binary("arith.maximumf %a0, %out"),
                [A], "0xFF800000", lambda x: x.max(1, keepdims=True)),
    "squares": (["d0, d1", "d0"], "pr",
                add("%a0, %a0"),
                [A], "0.0", lambda x: (x * x).sum(1)),
    "matmul": (["d0, d2", "d2, d1", "d0, d1"], "ppr",
               add("%a0, %a1"),
               [A, B], "0.0", lambda x, y: x @ y),
    "matmul-swapped": (["d2, d0, d3", "d2, d1, d3", "d1, d2, d0"], "pppr",
                       add("%a0, %a1"),
                       [real(2, 3, 4), real(2, 5, 4)], "0.0", lambda x, y: np.einsum("bik,bjk->jbi", x, y)),
    "index": (["d0, d1", "d0, d1"], "pp",
              "%i = linalg.index 1 : index\n%j = arith.index_cast %i : index to i64\n"
              "%k = arith.sitofp %j : i64 to f32\n%r = arith.mulf %a0, %k : f32\n linalg.yield %r : f32",
              [A], "0.0", lambda x: x * np.arange(4)),
}  # fmt: skip


@pytest.mark.parametrize("name", GENERIC)
def test_generic(name: str, tmp_path: Path) -> None:
    maps, iterators, body, inputs, init, wanted = GENERIC[name]
    expected = wanted(*inputs).astype(np.float32)
    text = function(generic(maps, iterators, body, inputs, init, kind(expected)), inputs, kind(expected))
    np.testing.assert_allclose(run(tmp_path, text, *inputs), expected, rtol=1e-5, atol=1e-6)


TENSOR: dict[str, tuple[str, Sequence[Array], Callable[..., Array]]] = {
    "batch_matmul": (
        "%z = arith.constant dense<0.0> : tensor<2x3x5xf32>\n"
        "%y = linalg.batch_matmul ins(%x0, %x1 : tensor<2x3x4xf32>, tensor<2x4x5xf32>) "
        "outs(%z : tensor<2x3x5xf32>) -> tensor<2x3x5xf32>",
        [real(2, 3, 4), real(2, 4, 5)], np.matmul),
    "matmul-init": (
        "%y = linalg.matmul ins(%x0, %x1 : tensor<3x4xf32>, tensor<4x5xf32>) outs(%x2 : tensor<3x5xf32>) "
        "-> tensor<3x5xf32>", [A, B, real(3, 5)], lambda a, b, c: a @ b + c),
    "pad": (
        "%v = arith.constant 1.5 : f32\n%y = tensor.pad %x0 low[1, 0] high[0, 2] {\n"
        "^bb0(%i: index, %j: index):\n"
        "tensor.yield %v : f32\n} : tensor<3x4xf32> to tensor<4x6xf32>",
        [A], lambda x: np.pad(x, ((1, 0), (0, 2)), constant_values=1.5)),
    "extract_slice": (
        "%y = tensor.extract_slice %x0[1, 0] [2, 2] [1, 2] : tensor<3x4xf32> to tensor<2x2xf32>",
        [A], lambda x: x[1:, ::2]),
    "insert_slice": (
        "%y = tensor.insert_slice %x1 into %x0[1, 2] [2, 1] [1, 1] : tensor<2x1xf32> into tensor<3x4xf32>",
        [A, real(2, 1)], lambda x, y: np.concatenate([x[:1], np.hstack([x[1:, :2], y, x[1:, 3:]])])),
    "concat": (
        "%y = tensor.concat dim(1) %x0, %x1 : (tensor<3x4xf32>, tensor<3x2xf32>) -> tensor<3x6xf32>",
        [A, real(3, 2)], lambda x, y: np.hstack([x, y])),
    "shapes": (
        "%c = tensor.collapse_shape %x0 [[0, 1]] : tensor<3x4xf32> into tensor<12xf32>\n"
        "%y = tensor.expand_shape %c [[0, 1, 2]] output_shape [2, 1, 6] "
        ": tensor<12xf32> into tensor<2x1x6xf32>",
        [A], lambda x: x.reshape(2, 1, 6)),
    "transpose": (
        "%e = tensor.empty() : tensor<4x3xf32>\n"
        "%y = linalg.transpose ins(%x0 : tensor<3x4xf32>) outs(%e : tensor<4x3xf32>) permutation = [1, 0]",
        [A], lambda x: x.T),
    "broadcast": (
        "%e = tensor.empty() : tensor<3x2x4xf32>\n"
        "%y = linalg.broadcast ins(%x0 : tensor<3x4xf32>) outs(%e : tensor<3x2x4xf32>) dimensions = [1]",
        [A], lambda x: np.repeat(x[:, None], 2, 1)),
    "pooling-sum": (
        "%k = tensor.empty() : tensor<2x2xf32>\n%z = arith.constant dense<0.0> : tensor<1x2x3x3xf32>\n"
        "%y = linalg.pooling_nchw_sum {dilations = dense<1> : vector<2xi64>, "
        "strides = dense<1> : vector<2xi64>} ins(%x0, %k : tensor<1x2x4x4xf32>, tensor<2x2xf32>) "
        "outs(%z : tensor<1x2x3x3xf32>) -> tensor<1x2x3x3xf32>",
        [real(1, 2, 4, 4)],
        lambda x: x[:, :, 1:, 1:] + x[:, :, :-1, 1:] + x[:, :, 1:, :-1] + x[:, :, :-1, :-1]),
}  # fmt: skip


@pytest.mark.parametrize("name", TENSOR)
def test_operations(name: str, tmp_path: Path) -> None:
    body, inputs, wanted = TENSOR[name]
    expected = wanted(*inputs).astype(np.float32)
    found = run(tmp_path, function(body, inputs, kind(expected)), *inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_resources(tmp_path: Path) -> None:
    w = real(4, 5)
    data = "04000000" + w.tobytes().hex().upper()
    body = """
  %w = arith.constant dense_resource<w> : tensor<4x5xf32>
  %z = arith.constant dense<0.0> : tensor<3x5xf32>
  %y = linalg.matmul ins(%x0, %w : tensor<3x4xf32>, tensor<4x5xf32>)
      outs(%z : tensor<3x5xf32>) -> tensor<3x5xf32>"""
    text = function(body, [A], "tensor<3x5xf32>")
    ending = f'\n{{-#\n  dialect_resources: {{\n    builtin: {{\n      w: "0x{data}"\n    }}\n  }}\n#-}}\n'
    np.testing.assert_allclose(run(tmp_path, text + ending, A), A @ w, rtol=1e-5)
    with pytest.raises(UserError, match=r"line 3, arith.constant: the resource 'w' has 72 bytes"):
        run(tmp_path, text + ending.replace(data, data[:-16]), A)


def test_the_sample_on_a_tensor_unit() -> None:
    """The last layer of the digit classifier, as torch-mlir prints it."""
    sys.path.insert(0, str(SAMPLE.parents[2] / "examples" / "digits"))
    try:
        import digits  # pyright: ignore[reportMissingImports]
    finally:
        sys.path.pop(0)
    example: Any = digits
    weights = example.load(example.FOLDER / "digits_unstructured.safetensors")
    x = np.maximum(real(8, 128), 0)
    wanted = np.maximum(x @ weights["fc3.weight"].T + weights["fc3.bias"], 0)
    network = compile_network(SAMPLE, target="scalesim-ws16", inputs=[x], effort=0)
    np.testing.assert_allclose(network.expected[0], wanted, rtol=1e-5, atol=1e-5)


def _convolution() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "v", "c"], ["g"], transB=1),
        helper.make_node("Softmax", ["g"], ["y"]),
    ]
    arrays = {"w": real(4, 1, 3, 3), "b": real(4), "v": real(10, 64), "c": real(10)}
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 10])],
        [numpy_helper.from_array(a, n) for n, a in arrays.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_what_torch_mlir_prints(tmp_path: Path) -> None:
    tools = [
        shutil.which(n, path=Path(sys.executable).parent)
        for n in ("torch-mlir-import-onnx", "torch-mlir-opt")
    ]
    if None in tools:
        pytest.skip("torch-mlir is not installed")
    model = tmp_path / "model.onnx"
    onnx.save(_convolution(), model)
    subprocess.run([str(tools[0]), model, "-o", tmp_path / "torch.mlir"], check=True)
    passes = [
        "--torch-onnx-to-torch-backend-pipeline", "--torch-backend-to-linalg-on-tensors-backend-pipeline",
    ]  # fmt: skip
    made = tmp_path / "linalg.mlir"
    subprocess.run([str(tools[1]), *passes, tmp_path / "torch.mlir", "-o", made], check=True)
    x = real(2, 1, 8, 8)
    session: Any = ort.InferenceSession(str(model))
    (found,) = run_module(import_mlir(made), x)
    np.testing.assert_allclose(found, session.run(None, {"x": x})[0], rtol=1e-5, atol=1e-6)


T3 = "tensor<3xf32>"
DIAGONAL = generic(["d0, d0", "d0"], "p", "linalg.yield %a0 : f32", [A[:, :3]], "0.0", T3)
DIFFERENCE = generic(["d0, d1", "d0"], "pr", binary("arith.subf %out, %a0"), [A], "0.0", T3)
REFUSED = {
    "no module": ("hello", r"line 1: .*; print the module"),
    "unknown": (
        function('%y = "foo.bar"(%x0) : (tensor<3x4xf32>) -> tensor<3x4xf32>', [A], kind(A)),
        r"line 2, foo.bar: this operation is not known; lower it",
    ),
    "two functions": (
        "func.func @a() {\n return\n}\nfunc.func @b() {\n return\n}",
        r"found the functions a, b; needed one called main",
    ),
    "open extent": (
        "func.func @main(%a: tensor<?x4xf32>) -> tensor<?x4xf32> {\n return %a : tensor<?x4xf32>\n}",
        r"arg0: found the dynamic dimension 'arg0\[0\]', .*give its size: --batch N",
    ),
    "diagonal": (
        function(DIAGONAL, [A[:, :3]], T3), r"line 7, linalg.generic: its map .* takes a diagonal",
    ),
    "body": (function(DIFFERENCE, [A], T3), r"its body is no sum"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    text, message = REFUSED[name]
    with pytest.raises(UserError, match=message):
        run(tmp_path, text, A)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "model.mlir").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="found bytes that are no UTF-8"):
        import_mlir(tmp_path / "model.mlir")


def test_damaged_text_is_an_error_of_the_user(tmp_path: Path) -> None:
    """Lines that are missing, doubled or changed are refused in a sentence, or read."""
    lines, rng = SAMPLE.read_text().splitlines(), np.random.default_rng(0)
    refused = 0
    for _ in range(80):
        changed = list(lines)
        for _ in range(2):
            at = int(rng.integers(len(changed)))
            match int(rng.integers(3)):
                case 0:
                    del changed[at]
                case 1:
                    changed.insert(at, changed[int(rng.integers(len(changed)))])
                case _:
                    line = changed[at]
                    place = int(rng.integers(len(line) + 1))
                    changed[at] = line[:place] + "x0<>{}[](),%:1-"[int(rng.integers(15))] + line[place + 1 :]
        (tmp_path / "model.mlir").write_text("\n".join(changed))
        try:
            import_mlir(tmp_path / "model.mlir")
        except UserError:
            refused += 1
    assert refused > 40
