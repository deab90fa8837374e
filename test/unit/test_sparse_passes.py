"""Law 3: a module computes the same after every pass, whatever the pipeline. MLIR is a second opinion."""

from __future__ import annotations

import ctypes
import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects import arith, func, get_all_dialects, tensor
from xdsl.dialects.builtin import (
    AnyFloat,
    FloatAttr,
    IntegerAttr,
    ModuleOp,
    TensorType,
    UnitAttr,
    bf16,
    f16,
    f32,
    f64,
    i8,
    i32,
)
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.parser import Parser
from xdsl.passes import ModulePass
from xdsl.utils.exceptions import PassFailedException

from sparsecc.cover.cells import split
from sparsecc.cover.metaops import MetaOps
from sparsecc.dialects.sparse import CoverOp, Sparse, SpmmOp
from sparsecc.elements import elements_of, round_to
from sparsecc.errors import UserError
from sparsecc.interpreters.sparse import run_module
from sparsecc.passes.base import SparsePass
from sparsecc.passes.convert_linalg_to_sparse import ConvertLinalgToSparsePass
from sparsecc.passes.convert_sparse_to_linalg import ConvertSparseToLinalgPass
from sparsecc.passes.sparse_compact import MODES, SparseCompactPass
from sparsecc.passes.sparse_group import SparseGroupPass
from sparsecc.passes.sparse_lift import SparseLiftPass
from sparsecc.passes.sparse_lower import SparseLowerPass
from sparsecc.universe import PASSES

Array = NDArray[Any]

# Input and result types that a `sparse.spmm` takes, with the unit roundoff of its sums.
TYPES: dict[str, tuple[Attribute, Attribute, float]] = {
    "i8": (i8, i32, 0.0),
    "f16": (f16, f32, 2.0**-24),
    "f16 rounded": (f16, f16, 2.0**-24),
    "bf16": (bf16, f32, 2.0**-24),
    "bf16 rounded": (bf16, bf16, 2.0**-24),
    "f32": (f32, f32, 2.0**-24),
    "f64": (f64, f64, 2.0**-53),
}
# What rounding the sum to the result's type may add, relative to the sum.
LAST_ROUNDING = {"f16 rounded": 2.0**-11, "bf16 rounded": 2.0**-8}


def context() -> Context:
    """A context that knows every dialect a stage may have."""
    ctx = Context()
    for name, factory in get_all_dialects().items():
        ctx.register_dialect(name, factory)
    if "sparse" not in ctx.registered_dialect_names:
        ctx.register_dialect("sparse", lambda: Sparse)
    return ctx


def model(weight: Array, x_shape: tuple[int, int], types: str, on_the_right: bool) -> ModuleOp:
    """`main` computes W X, or X W."""
    element_type, result_type, _ = TYPES[types]
    y_shape = (x_shape[0], weight.shape[1]) if on_the_right else (weight.shape[0], x_shape[1])
    block = Block(arg_types=[TensorType(element_type, x_shape)])
    is_float = isinstance(result_type, AnyFloat)
    ops: list[Operation] = [
        w := arith.ConstantOp(elements_of(weight, element_type)),
        zero := arith.ConstantOp(FloatAttr(0.0, result_type) if is_float else IntegerAttr(0, i32)),
        empty := tensor.EmptyOp((), TensorType(result_type, y_shape)),
        init := linalg.FillOp([zero.result], [empty.tensor]),
    ]
    factors: list[SSAValue] = [block.args[0], w.result] if on_the_right else [w.result, block.args[0]]
    if not is_float:
        product = linalg.QuantizedMatmulOp([*factors, zero.result, zero.result], [init.res[0]])
    elif element_type == result_type:
        product = linalg.MatmulOp(factors, [init.res[0]])
    else:
        product = widening_matmul(factors, init.res[0])
    block.add_ops([*ops, product, func.ReturnOp(product.res[0])])
    types_of_main = ([block.args[0].type], [product.res[0].type])
    return ModuleOp([func.FuncOp("main", types_of_main, Region(block))])


def widening_matmul(factors: Sequence[SSAValue], init: SSAValue) -> linalg.MatmulOp:
    """A product of narrow floats into f32. xDSL itself makes a body for it that does not verify."""
    product = linalg.MatmulOp(factors, [init])
    body = product.regions[0].block
    for op in reversed(list(body.ops)):
        op.detach()
    a, b, c = body.args
    body.add_ops(
        [
            wide_a := arith.ExtFOp(a, f32),
            wide_b := arith.ExtFOp(b, f32),
            scaled := arith.MulfOp(wide_a.result, wide_b.result),
            total := arith.AddfOp(c, scaled.result),
            linalg.YieldOp(total.result),
        ]
    )
    return product


def values(rng: np.random.Generator, shape: tuple[int, int], types: str) -> Array:
    """Random values of the type, all of its range for integers."""
    element_type = TYPES[types][0]
    if types == "i8":
        return rng.integers(-128, 128, shape).astype(np.int8)
    return np.asarray(round_to(rng.standard_normal(shape), element_type))


def assert_product(y: Array, a: Array, b: Array, types: str) -> None:
    """y = a b: integers bit for bit, floats within the forward error bound, element by element."""
    _, result_type, roundoff = TYPES[types]
    if types == "i8":
        assert y.dtype == np.int32
        assert np.array_equal(y, a.astype(np.int64) @ b.astype(np.int64))
        return
    assert y.dtype == round_to(np.zeros(1), result_type).dtype
    wide_a, wide_b = a.astype(np.longdouble), b.astype(np.longdouble)
    exact, size = wide_a @ wide_b, np.abs(wide_a) @ np.abs(wide_b)
    k = a.shape[1]
    bound = (k * roundoff / (1 - k * roundoff)) * size
    bound = bound + LAST_ROUNDING.get(types, 0.0) * (np.abs(exact) + bound) + 2.0**-24
    assert (np.abs(y.astype(np.longdouble) - exact) <= bound).all()


def sparse_matrix(rng: np.random.Generator, shape: tuple[int, int], kind: str, types: str) -> Array:
    """A matrix of a kind of sparsity."""
    m, k = shape
    match kind:
        case "random":
            mask = rng.random(shape) < 0.1
        case "blocks":
            mask = np.kron(rng.random((-(-m // 8), -(-k // 8))) < 0.3, np.ones((8, 8)))[:m, :k] > 0
        case "rows and columns":
            mask = (rng.random((m, 1)) < 0.3) & (rng.random((1, k)) < 0.3)
        case "zero":
            mask = np.zeros(shape, bool)
        case _:
            mask = np.ones(shape, bool)
    return np.where(mask, values(rng, shape, types), 0).astype(values(rng, (1, 1), types).dtype)


def stage(module: ModuleOp, ctx: Context, through_text: bool) -> ModuleOp:
    """The module, verified, and printed and parsed."""
    module.verify()
    if not through_text:
        return module
    text = str(module)
    parsed = Parser(ctx, text).parse_module()
    parsed.verify()
    assert str(parsed) == text
    return parsed


@st.composite
def pipelines(draw: st.DrawFn, types: str) -> list[ModulePass]:
    """Any passes, in the order of the pipeline, each with any options; some left out."""
    passes: list[ModulePass] = [
        ConvertLinalgToSparsePass(target=draw(st.sampled_from(["gemmini16", "tpu128"])))
    ]
    # The scheduler costs for a target, and this one takes i8 only.
    mode = draw(st.sampled_from(MODES if types == "i8" else MODES[1:]))
    fitted = mode == "fitted"
    window = draw(st.sampled_from([1, 5, 16] if fitted else [None, 1, 5, 16, 100]))
    order = draw(st.sampled_from(["k-first", "m-first", "square-first"]))
    gap = 0 if order == "square-first" else draw(st.integers(0, 3))
    optional: list[ModulePass] = [
        SparseCompactPass(mode, window, "nvidia-tc" if fitted else "gemmini16"),
        SparseLowerPass(),
        SparseLiftPass(order, gap, draw(st.floats(0, 1))),
        SparseGroupPass(),
        ConvertSparseToLinalgPass(),
    ]
    return passes + [pass_ for pass_ in optional if draw(st.integers(0, 4))]


@settings(max_examples=250, deadline=None, derandomize=True)
@given(
    st.sampled_from(list(TYPES)).flatmap(lambda types: st.tuples(st.just(types), pipelines(types))),
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 50), st.integers(1, 50), st.integers(1, 9)),
    st.sampled_from(["random", "blocks", "rows and columns", "zero", "dense"]),
    st.booleans(),
)
def test_every_pipeline_computes_the_product(
    case: tuple[str, list[ModulePass]],
    seed: int,
    extents: tuple[int, int, int],
    kind: str,
    on_the_right: bool,
):
    types, pipeline = case
    rng = np.random.default_rng(seed)
    m, k, n = extents
    weight = sparse_matrix(rng, (k, m) if on_the_right else (m, k), kind, types)
    x = values(rng, (n, k) if on_the_right else (k, n), types)
    factors = (x, weight) if on_the_right else (weight, x)
    ctx = context()
    module = model(weight, x.shape, types, on_the_right)
    module.verify()
    assert_product(run_module(module, x)[0], *factors, types)
    for pass_ in pipeline:
        pass_.apply(ctx, module)
        module = stage(module, ctx, through_text=True)
        (y,) = run_module(module, x)
        assert_product(y, *factors, types)


def spmm_of(module: ModuleOp) -> SpmmOp:
    return next(op for op in module.walk() if isinstance(op, SpmmOp))


def test_passes_find_what_they_should():
    rng = np.random.default_rng(3)
    weight = sparse_matrix(rng, (64, 96), "rows and columns", "i8")
    module = model(weight, (96, 8), "i8", on_the_right=False)
    ctx = context()
    ConvertLinalgToSparsePass().apply(ctx, module)
    pattern = spmm_of(module).weight.pattern
    assert spmm_of(module).is_whole
    assert np.array_equal(spmm_of(module).weight.dense(), weight)
    SparseCompactPass("global").apply(ctx, module)
    compacted = spmm_of(module).cover()
    assert compacted.area == (weight.any(axis=1).sum()) * (weight.any(axis=0).sum())
    SparseLowerPass().apply(ctx, module)
    assert spmm_of(module).cover() == split(compacted, pattern, (16, 16, 16))
    SparseGroupPass().apply(ctx, module)
    assert spmm_of(module).is_grouped
    before = str(module)
    SparseGroupPass().apply(ctx, module)
    SparseCompactPass("global").apply(ctx, module)
    assert str(module) == before


def test_attributes_and_names_survive():
    module = model(np.eye(4, dtype=np.float32), (4, 3), "f32", on_the_right=False)
    ctx = context()
    ConvertLinalgToSparsePass().apply(ctx, module)
    spmm_of(module).attributes["layer"] = UnitAttr()
    spmm_of(module).res.name_hint = "fc1"
    for pass_ in (SparseCompactPass("global"), SparseLowerPass(), SparseLiftPass(), SparseGroupPass()):
        pass_.apply(ctx, module)
    assert "layer" in spmm_of(module).attributes
    assert spmm_of(module).res.name_hint == "fc1"


def test_meta_dfg_has_a_limit():
    module = model(np.eye(64, dtype=np.float32), (64, 3), "f32", on_the_right=False)
    ctx = context()
    for pass_ in (ConvertLinalgToSparsePass(), SparseLowerPass()):
        pass_.apply(ctx, module)
    with pytest.raises(PassFailedException, match="has 4 meta-ops, more than max-meta-ops=3"):
        ConvertSparseToLinalgPass(3).apply(ctx, module)
    ConvertSparseToLinalgPass(4).apply(ctx, module)
    module.verify()


@pytest.mark.parametrize(
    "pass_",
    [
        ConvertLinalgToSparsePass,
        SparseCompactPass,
        SparseLowerPass,
        SparseLiftPass,
        SparseGroupPass,
        ConvertSparseToLinalgPass,
    ],
)
def test_passes_say_what_they_do(pass_: type[SparsePass]):
    assert set(pass_.option_help) == {field.name for field in dataclasses.fields(pass_)}
    for text in (pass_.summary, pass_.refuses, *pass_.option_help.values()):
        assert text
        assert "\n" not in text
    assert pass_.name in PASSES
    assert sys.modules[pass_.__module__].__doc__


# The interpreter.


def test_a_wrong_cover_computes_wrong_values():
    module = model(np.eye(4, dtype=np.float32), (4, 3), "f32", on_the_right=False)
    ConvertLinalgToSparsePass().apply(context(), module)
    spmm = spmm_of(module)
    spmm.res.replace_all_uses_with((new := spmm.with_body([CoverOp(MetaOps.whole(3, 3, 4))])).res)
    assert spmm.parent is not None
    spmm.parent.insert_op_after(new, spmm)
    (y,) = run_module(module, np.ones((4, 3), np.float32))
    assert y.sum() == 9


RELU = """
func.func @layer(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %zero = arith.constant 0.0 : f32
  %empty = tensor.empty() : tensor<2x3xf32>
  %y = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>], iterator_types = ["parallel", "parallel"]} ins(%x : tensor<2x3xf32>) outs(%empty : tensor<2x3xf32>) {
  ^bb0(%a: f32, %b: f32):
    %c = arith.maximumf %a, %zero : f32
    linalg.yield %c : f32
  } -> tensor<2x3xf32>
  func.return %y : tensor<2x3xf32>
}
func.func @main(%x: tensor<2x3xf32>, %bias: tensor<2xf32>) -> tensor<2x3xf32> {
  %r = func.call @layer(%x) : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %empty = tensor.empty() : tensor<2x3xf32>
  %y = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i)>, affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>], iterator_types = ["parallel", "parallel"]} ins(%bias, %r : tensor<2xf32>, tensor<2x3xf32>) outs(%empty : tensor<2x3xf32>) {
  ^bb0(%a: f32, %b: f32, %c: f32):
    %d = arith.addf %a, %b : f32
    linalg.yield %d : f32
  } -> tensor<2x3xf32>
  func.return %y : tensor<2x3xf32>
}
"""  # noqa: E501


def test_interpreter_runs_layers_between():
    module = Parser(context(), RELU).parse_module()
    x, bias = np.array([[1, -2, 3], [-4, 5, -6]], np.float32), np.array([10, 20], np.float32)
    (y,) = run_module(module, x, bias)
    assert np.array_equal(y, np.maximum(x, 0) + bias[:, None])


@pytest.mark.parametrize(
    ("inputs", "function", "message"),
    [
        ([], "main", "function 'main' takes 2 inputs, found 0"),
        ([np.zeros((2, 2)), np.zeros(2)], "main", "input 0 of function 'main' is float64 2x2"),
        ([np.zeros((2, 3)), np.zeros(2, complex)], "main", "input 1 of function 'main' is complex128 2"),
        ([], "other", "the module has no function 'other'; it has layer, main"),
    ],
)
def test_interpreter_refuses_inputs(inputs: list[Array], function: str, message: str):
    module = Parser(context(), RELU).parse_module()
    with pytest.raises(UserError, match=message):
        run_module(module, *inputs, function=function)


def test_interpreter_names_what_it_does_not_know():
    text = "func.func @main(%x: tensor<2xf32>) { %y = math.tanh %x : tensor<2xf32> func.return }"
    module = Parser(context(), text).parse_module()
    with pytest.raises(UserError, match=r"math.tanh cannot be interpreted"):
        run_module(module, np.zeros(2, np.float32))


# MLIR as a second opinion on the Meta-DFG.

MLIR_PIPELINE = (
    "--convert-elementwise-to-linalg",
    "--one-shot-bufferize=bufferize-function-boundaries "
    "function-boundary-type-conversion=identity-layout-map",
    "--convert-linalg-to-loops",
    "--expand-strided-metadata",
    "--lower-affine",
    "--convert-scf-to-cf",
    "--finalize-memref-to-llvm",
    "--convert-arith-to-llvm",
    "--convert-index-to-llvm",
    "--convert-func-to-llvm",
    "--convert-cf-to-llvm",
    "--reconcile-unrealized-casts",
)
MLIR_TOOLS = ("mlir-opt-19", "mlir-translate-19", "clang-19")
missing = [tool for tool in MLIR_TOOLS if shutil.which(tool) is None]


class Buffer(ctypes.Structure):
    """MLIR's descriptor of a memref with two dimensions."""

    _fields_ = [
        ("allocated", ctypes.c_void_p),
        ("aligned", ctypes.c_void_p),
        ("offset", ctypes.c_int64),
        ("sizes", ctypes.c_int64 * 2),
        ("strides", ctypes.c_int64 * 2),
    ]


def filtered(command: Sequence[str], text: str) -> str:
    """What the command makes of the text."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return done.stdout


def run_natively(module: ModuleOp, x: Array, y: Array, folder: Path) -> None:
    """Compiles the module with MLIR and LLVM, and fills y with what `main` returns."""
    main = next(op for op in module.ops if isinstance(op, func.FuncOp))
    main.attributes["llvm.emit_c_interface"] = UnitAttr()
    llvm = filtered(["mlir-opt-19", *MLIR_PIPELINE], str(module))
    ir = filtered(["mlir-translate-19", "--mlir-to-llvmir"], llvm)
    (folder / "main.ll").write_text(ir)
    library = folder / "main.so"
    quiet = "-Wno-override-module"
    subprocess.run(
        ["clang-19", "-O1", "-shared", "-fPIC", quiet, folder / "main.ll", "-o", library], check=True
    )
    result = Buffer()
    contiguous = np.ascontiguousarray(x)
    rows, columns = x.shape
    argument = Buffer(contiguous.ctypes.data, contiguous.ctypes.data, 0, (rows, columns), (columns, 1))
    ctypes.CDLL(str(library))["_mlir_ciface_main"](ctypes.byref(result), ctypes.byref(argument))
    assert tuple(result.sizes) == y.shape
    assert tuple(result.strides) == (y.shape[1], 1)
    ctypes.memmove(y.ctypes.data, result.aligned + result.offset * y.itemsize, y.nbytes)


@pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")
@pytest.mark.parametrize(
    ("types", "mode", "on_the_right"),
    [("i8", "window", False), ("i8", "none", True), ("f32", "global", False), ("f16", "window", False)],
)
def test_mlir_computes_the_same(types: str, mode: str, on_the_right: bool, tmp_path: Path):
    rng = np.random.default_rng(11)
    weight = sparse_matrix(rng, (40, 56), "random", types)
    x = values(rng, (9, 40) if on_the_right else (56, 9), types)
    factors = (x, weight) if on_the_right else (weight, x)
    module = model(weight, x.shape, types, on_the_right)
    ctx = context()
    for pass_ in (
        ConvertLinalgToSparsePass(),
        SparseCompactPass(mode, 7),
        SparseLowerPass(),
        SparseLiftPass(),
        SparseGroupPass(),
        ConvertSparseToLinalgPass(),
    ):
        pass_.apply(ctx, module)
    (interpreted,) = run_module(module, x)
    assert_product(interpreted, *factors, types)
    native = np.empty(interpreted.shape, interpreted.dtype)
    run_natively(module, x, native, tmp_path)
    assert_product(native, *factors, types)
