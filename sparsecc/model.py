"""Operators at the model level: what the pipeline begins with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import arith, func, tensor
from xdsl.dialects.builtin import (
    BFloat16Type,
    Float16Type,
    FloatAttr,
    FunctionType,
    IntegerAttr,
    ModuleOp,
    TensorType,
    f32,
    i8,
    i32,
)
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import Operation, SSAValue, TypeAttribute

from sparsecc.dialects.sparse import ConstantOp, EpilogueOp, WeightAttr
from sparsecc.dialects.sparse_quantization import QUANTIZATION, QuantizationAttr
from sparsecc.importers.matrix import Csr
from sparsecc.operator import Operator, Sddmm, Spmm
from sparsecc.target import AnyTarget
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.numbers import DTYPES

ELEMENT_TYPES: dict[str, TypeAttribute] = {
    "i8": i8, "i32": i32, "f32": f32, "f16": Float16Type(), "bf16": BFloat16Type(),
}  # fmt: skip


def model_module(operator: Operator, target: AnyTarget) -> ModuleOp:
    """`main` returns the product: of a constant and its argument, or of its arguments, times a mask."""
    m, n, _ = operator.shape
    element, result = ELEMENT_TYPES[operator.in_type], ELEMENT_TYPES[target.acc_type]
    c_type = TensorType(result, [m, n])
    arguments = [TensorType(element, shape) for _, shape in operator.inputs.values()]
    function = func.FuncOp("main", FunctionType.from_lists(arguments, [c_type]))
    block = function.body.block
    for value, name in zip(block.args, operator.inputs, strict=True):
        value.name_hint = name
    zero = arith.ConstantOp(FloatAttr(0.0, f32) if result == f32 else IntegerAttr(0, i32))
    empty = tensor.EmptyOp([], c_type)
    filled = linalg.FillOp([zero.result], [empty.tensor], [c_type])
    init = filled.res[0]
    csr = operator.weight
    if isinstance(operator, Sddmm):
        mask = _constant(csr, csr.data.astype(DTYPES[target.acc_type]), result, "mask")
        product = _product(block.args[0], block.args[1], init, zero.result)
        masked = linalg.MulOp([product.results[0], mask.res], [empty.tensor])
        ops, y = [mask, zero, empty, filled, product, masked], masked.results[0]
    else:
        weight = _constant(csr, csr.data, element, "w")
        product = _product(weight.res, block.args[0], init, zero.result)
        if isinstance(target, CrossbarTarget) and (found := _quantization(operator)) is not None:
            product.attributes[QUANTIZATION] = found
        ops, y = [weight, zero, empty, filled, product], product.results[0]
    y.name_hint = "y"
    if isinstance(operator, Spmm) and operator.epilogue is not None:
        residual = block.args[1] if operator.epilogue.residual else None
        fused = EpilogueOp.of(y, operator.epilogue, residual)
        fused.res.name_hint, y.name_hint = "y", "sums"
        ops, y = [*ops, fused], fused.res
        function.properties["function_type"] = FunctionType.from_lists(arguments, [y.type])
    block.add_ops([*ops, func.ReturnOp(y)])
    return ModuleOp([function])


def _quantization(operator: Operator) -> QuantizationAttr | None:
    """What a step of weights and inputs is worth; None where both were int8 as they came."""
    scale = operator.input_scale if isinstance(operator, Spmm) else None
    if operator.scales is None and scale is None:
        return None
    rows = operator.shape[0]
    weights = np.ones(rows, np.float32) if operator.scales is None else operator.scales
    return QuantizationAttr.of(weights, 1.0 if scale is None else scale)


def _constant(csr: Csr, values: NDArray[Any], element: TypeAttribute, name: str) -> ConstantOp:
    """A sparse matrix with these values."""
    constant = ConstantOp(WeightAttr.of(csr.shape, csr.indptr, csr.indices, values, element))
    constant.res.name_hint = name
    return constant


def _product(a: SSAValue, b: SSAValue, init: SSAValue, zero: SSAValue) -> Operation:
    """The matrix product in the type of init."""
    if zero.type == i32:
        return linalg.QuantizedMatmulOp([a, b, zero, zero], [init])
    product = linalg.MatmulOp([a, b], [init])
    if a.type.element_type != f32:  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        _widen(product)
    return product


def _widen(product: linalg.MatmulOp) -> None:
    """Give a product of narrow floats a body that widens them first; the one xDSL makes does not verify."""
    body = product.regions[0].block
    for op in reversed(list(body.ops)):
        op.detach()
    a, b, c = body.args
    wide_a, wide_b = arith.ExtFOp(a, f32), arith.ExtFOp(b, f32)
    scaled = arith.MulfOp(wide_a.result, wide_b.result)
    total = arith.AddfOp(c, scaled.result)
    body.add_ops([wide_a, wide_b, scaled, total, linalg.YieldOp(total.result)])
