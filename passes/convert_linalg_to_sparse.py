"""Recognises matrix products with a constant operand.

Turns `linalg.matmul` and `linalg.quantized_matmul` (zero points 0) on tensors into `sparse.spmm` with one
cover that holds the whole computing space; later passes decide how it is computed. The constant comes from
`sparse.constant` or `arith.constant`. Where it stands on the right, Y = X W, the operator computes Y^T =
W^T X^T between two `linalg.transpose`.

A product of two values that are not constant, or with a constant denser than `max-density`, is left alone.
Refused are products of a constant that start from something other than zeros, with dynamic shapes, with
transposed operands (indexing maps), with zero points other than 0, or with element types no unit
multiplies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import (
    DenseArrayBase,
    DenseIntOrFPElementsAttr,
    FloatAttr,
    IntegerAttr,
    ModuleOp,
    TensorType,
    i64,
)
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import Attribute, Block, Operation, SSAValue, TypeAttribute
from xdsl.rewriter import InsertPoint, Rewriter
from xdsl.utils.hints import isa

from sparsecc.cover.metaops import MetaOps
from sparsecc.dialects.sparse import RESULT_TYPES, ConstantOp, CoverOp, SpmmOp, UnitAttr, WeightAttr
from sparsecc.elements import array_of
from sparsecc.passes.base import SparsePass, refuse
from sparsecc.target import Target

MatmulOp = linalg.MatmulOp | linalg.QuantizedMatmulOp

_PLAIN_MAPS = linalg.MatmulOp.get_irdl_definition().properties["indexing_maps"].default_value


@dataclass(frozen=True)
class ConvertLinalgToSparsePass(SparsePass):
    name = "convert-linalg-to-sparse"
    summary: ClassVar = "recognises products with a constant: linalg.matmul -> sparse.spmm"
    refuses: ClassVar = "initial values other than zero, dynamic shapes, indexing maps, zero points"
    option_help: ClassVar = {
        "target": "preset or .toml file that gives the unit",
        "max_density": "constants with a larger share of nonzeros are left alone",
    }

    target: str = "gemmini16"
    max_density: int | float = 1.0

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        unit = UnitAttr(*Target.load(self.target).unit)
        for matmul in [found for found in op.walk() if isinstance(found, MatmulOp)]:
            self._convert(matmul, unit)

    def _convert(self, op: MatmulOp, unit: UnitAttr) -> None:
        left, right = op.inputs[:2]
        if (weight := _weight(left)) is not None:
            x, on_the_right = right, False
        elif (weight := _weight(right)) is not None:
            x, on_the_right = left, True
        else:
            return
        rows, columns = weight.shape
        if weight.nnz.data > self.max_density * rows * columns:
            return
        init = op.outputs[0]
        _check(op, weight, x, init)
        new = _transposed_spmm(x, weight, unit, init) if on_the_right else [_spmm(x, weight, unit, init.type)]
        Rewriter.insert_op(new, InsertPoint.before(op))
        for created in new:
            created.location = op.location
        op.results[0].replace_all_uses_with(new[-1].results[0])
        operands = list(op.operands)
        Rewriter.erase_op(op)
        for value in operands:
            _erase_unused(value)


def _weight(value: SSAValue) -> WeightAttr | None:
    """The constant matrix a value holds, if it does."""
    match value.owner:
        case ConstantOp(weight=weight):
            return weight
        case arith.ConstantOp(value=elements) if isa(elements, DenseIntOrFPElementsAttr):
            if len(elements.get_shape()) != 2:
                return None
            return _weight_of(array_of(elements), cast(TypeAttribute, elements.get_element_type()))
        case _:
            return None


def _weight_of(dense: NDArray[np.generic], element_type: TypeAttribute) -> WeightAttr:
    """The weight of a matrix given element by element."""
    rows, columns = np.nonzero(dense)
    indptr = np.zeros(dense.shape[0] + 1, np.int64)
    np.cumsum(np.count_nonzero(dense, axis=1), out=indptr[1:])
    shape = dense.shape[0], dense.shape[1]
    return WeightAttr.of(shape, indptr, columns, dense[rows, columns], element_type)


def _transpose(weight: WeightAttr) -> WeightAttr:
    """The transposed matrix."""
    pattern = weight.pattern
    # A stable sort by column keeps the rows of each column in order.
    order = np.argsort(pattern.indices, kind="stable")
    indptr = np.searchsorted(pattern.indices[order], np.arange(pattern.k + 1))
    shape = pattern.k, pattern.m
    return WeightAttr.of(shape, indptr, pattern.row_of()[order], weight.data[order], weight.element_type)


def _is_zero(value: SSAValue) -> bool:
    """Whether a value is known to hold nothing but zeros."""
    match value.owner:
        case arith.ConstantOp(value=IntegerAttr(value=number) | FloatAttr(value=number)):
            return number.data == 0
        case arith.ConstantOp(value=elements) if isa(elements, DenseIntOrFPElementsAttr):
            return not array_of(elements).any()
        case linalg.FillOp() as fill:
            return _is_zero(fill.inputs[0])
        case _:
            return False


def _check(op: MatmulOp, weight: WeightAttr, x: SSAValue, init: SSAValue) -> None:
    """Refuses what `sparse.spmm` does not compute."""
    if not isa(x.type, TensorType) or not isa(init.type, TensorType):
        refuse(op, f"multiplies {x.type} into {init.type}; needed: tensors")
    if not (x.type.has_static_shape() and init.type.has_static_shape()):
        refuse(op, f"multiplies {x.type} into {init.type}; needed: static shapes")
    if isinstance(op, linalg.MatmulOp) and op.indexing_maps != _PLAIN_MAPS:
        refuse(op, "has indexing maps; needed: a plain product, transpose the operands before it")
    if not all(map(_is_zero, op.inputs[2:])):
        refuse(op, "has zero points other than constant 0; subtract them before it")
    if not _is_zero(init):
        refuse(op, "the initial value must be zero; fill it with 0 and add what it was to the result")
    found, result = str(weight.element_type), str(init.type.element_type)
    if str(x.type.element_type) != found or result not in RESULT_TYPES.get(found, ()):
        known = ", ".join(f"{a} x {a} -> {b}" for a, results in RESULT_TYPES.items() for b in results)
        refuse(op, f"multiplies {found} and {x.type.element_type} to {result}; needed one of {known}")


def _spmm(x: SSAValue, weight: WeightAttr, unit: UnitAttr, result_type: Attribute) -> SpmmOp:
    """W X, computed as one whole."""
    assert isa(result_type, TensorType)
    (m, k), n = weight.shape, result_type.get_shape()[1]
    return SpmmOp(x, weight, unit, result_type, [CoverOp(MetaOps.whole(m, n, k))])


def _transposed_spmm(x: SSAValue, weight: WeightAttr, unit: UnitAttr, init: SSAValue) -> list[Operation]:
    """X W as the transpose of W^T X^T."""
    input_type, result_type = x.type, init.type
    assert isa(input_type, TensorType)
    assert isa(result_type, TensorType)
    empty_input = tensor.EmptyOp((), _transposed_type(input_type))
    swap = DenseArrayBase.from_list(i64, [1, 0])
    transposed = linalg.TransposeOp(x, empty_input.tensor, swap)
    spmm = _spmm(transposed.res[0], _transpose(weight), unit, _transposed_type(result_type))
    empty_result = tensor.EmptyOp((), result_type)
    result = linalg.TransposeOp(spmm.res, empty_result.tensor, swap)
    return [empty_input, transposed, spmm, empty_result, result]


def _transposed_type(matrix_type: TensorType[Attribute]) -> TensorType[Attribute]:
    return TensorType(matrix_type.element_type, matrix_type.get_shape()[::-1])


def _erase_unused(value: SSAValue) -> None:
    """Erases constants and fills that nothing uses any more."""
    op = value.owner
    if value.first_use is not None or isinstance(op, Block) or op.parent is None:
        return
    if not isinstance(op, ConstantOp | arith.ConstantOp | linalg.FillOp | tensor.EmptyOp):
        return
    operands = list(op.operands)
    Rewriter.erase_op(op)
    for operand in operands:
        _erase_unused(operand)
