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
from typing import ClassVar

import numpy as np
from xdsl.context import Context
from xdsl.dialects import tensor
from xdsl.dialects.builtin import DenseArrayBase, ModuleOp, TensorType, i64
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.rewriter import InsertPoint, Rewriter
from xdsl.utils.hints import isa

from sparsecc.cover.metaops import MetaOps
from sparsecc.dialects.sparse import CoverOp, SpmmOp, UnitAttr, WeightAttr
from sparsecc.dialects.sparse_quantization import QUANTIZATION
from sparsecc.passes.base import SparsePass
from sparsecc.passes.recognise import MatmulOp, check_product, constant_matrix, erase_unused
from sparsecc.target.load import load_target


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
        unit = UnitAttr(*load_target(self.target).unit)
        for matmul in [found for found in op.walk() if isinstance(found, MatmulOp)]:
            self._convert(matmul, unit)

    def _convert(self, op: MatmulOp, unit: UnitAttr) -> None:
        left, right = op.inputs[:2]
        if (weight := constant_matrix(left)) is not None:
            x, on_the_right = right, False
        elif (weight := constant_matrix(right)) is not None:
            x, on_the_right = left, True
        else:
            return
        rows, columns = weight.shape
        if weight.nnz.data > self.max_density * rows * columns:
            return
        init = op.outputs[0]
        check_product(op, [x])
        new = _transposed_spmm(x, weight, unit, init) if on_the_right else [_spmm(x, weight, unit, init.type)]
        Rewriter.insert_op(new, InsertPoint.before(op))
        quantization = op.attributes.get(QUANTIZATION)
        for created in new:
            created.location = op.location
            # X W has its scales by column of W; those of rows are not its.
            if quantization is not None and isinstance(created, SpmmOp) and not on_the_right:
                created.attributes[QUANTIZATION] = quantization
        op.results[0].replace_all_uses_with(new[-1].results[0])
        operands = list(op.operands)
        Rewriter.erase_op(op)
        for value in operands:
            erase_unused(value)


def _transpose(weight: WeightAttr) -> WeightAttr:
    """The transposed matrix."""
    pattern = weight.pattern
    # A stable sort by column keeps the rows of each column in order.
    order = np.argsort(pattern.indices, kind="stable")
    indptr = np.searchsorted(pattern.indices[order], np.arange(pattern.k + 1))
    shape = pattern.k, pattern.m
    return WeightAttr.of(shape, indptr, pattern.row_of()[order], weight.data[order], weight.element_type)


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
