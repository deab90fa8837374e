"""Operators at the model level: what the pipeline begins with."""

from __future__ import annotations

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

from sparsecc.dialects.sparse import ConstantOp, WeightAttr
from sparsecc.operator import Operator
from sparsecc.target import Target

ELEMENT_TYPES: dict[str, TypeAttribute] = {
    "i8": i8, "i32": i32, "f32": f32, "f16": Float16Type(), "bf16": BFloat16Type(),
}  # fmt: skip


def model_module(operator: Operator, target: Target) -> ModuleOp:
    """`main` returns the product of the operator's weight and the function's argument."""
    m, n, k = operator.shape
    element, result = ELEMENT_TYPES[operator.in_type], ELEMENT_TYPES[target.acc_type]
    csr = operator.weight
    weight = ConstantOp(WeightAttr.of((m, k), csr.indptr, csr.indices, csr.data, element))
    weight.res.name_hint = "w"
    x_type, y_type = TensorType(element, [k, n]), TensorType(result, [m, n])
    function = func.FuncOp("main", FunctionType.from_lists([x_type], [y_type]))
    block = function.body.block
    block.args[0].name_hint = "x"
    zero = arith.ConstantOp(FloatAttr(0.0, f32) if result == f32 else IntegerAttr(0, i32))
    empty = tensor.EmptyOp([], y_type)
    filled = linalg.FillOp([zero.result], [empty.tensor], [y_type])
    product = _product(weight.res, block.args[0], filled.res[0], zero.result)
    product.results[0].name_hint = "y"
    block.add_ops([weight, zero, empty, filled, product, func.ReturnOp(product.results[0])])
    return ModuleOp([function])


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
