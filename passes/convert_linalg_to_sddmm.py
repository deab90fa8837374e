"""Recognises products of which a constant mask keeps few points, as in sparse attention.

Turns `linalg.matmul` and `linalg.quantized_matmul` (zero points 0) of two values that are not constant, when
nothing uses the product but an elementwise multiplication with a constant of 0 and 1, into `sparse.sddmm`
with one cover that holds the whole computing space. The multiplication is `linalg.mul`, `arith.mulf` or
`arith.muli` on tensors, or a `linalg.generic` whose body is one of these, which is how torch-mlir writes it.
It goes away: points that the mask does not keep are 0 in the model and left open in `sparse.sddmm`.

A constant without zeros that is not all 1, such as a scale, is no mask; the product is left alone. Refused
are constants that hold zeros and numbers other than 1, and the products that convert-linalg-to-sparse
refuses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
from xdsl.context import Context
from xdsl.dialects import arith
from xdsl.dialects.builtin import ModuleOp, TensorType, i8
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.linalg.attrs import IteratorType
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.ir.affine import AffineMap
from xdsl.rewriter import InsertPoint, Rewriter

from sparsecc.cover.metaops import MetaOps
from sparsecc.dialects.sparse import CoverOp, SddmmOp, UnitAttr, WeightAttr
from sparsecc.passes.base import SparsePass, refuse
from sparsecc.passes.recognise import MatmulOp, check_product, constant_matrix, erase_unused
from sparsecc.target import Target


@dataclass(frozen=True)
class ConvertLinalgToSddmmPass(SparsePass):
    name = "convert-linalg-to-sddmm"
    summary: ClassVar = "recognises masked products: linalg.matmul and a multiplication -> sparse.sddmm"
    refuses: ClassVar = "masks of other numbers than 0 and 1, and what convert-linalg-to-sparse refuses"
    option_help: ClassVar = {"target": "preset or .toml file that gives the unit"}

    target: str = "gemmini16"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        unit = UnitAttr(*Target.load(self.target).unit)
        for matmul in [found for found in op.walk() if isinstance(found, MatmulOp)]:
            _convert(matmul, unit)


def _convert(op: MatmulOp, unit: UnitAttr) -> None:
    a, b = op.inputs[:2]
    product = op.results[0]
    use = product.get_user_of_unique_use()
    if use is None or constant_matrix(a) is not None or constant_matrix(b) is not None:
        return
    if (other := _factor(use, product)) is None or (constant := constant_matrix(other)) is None:
        return
    if (mask := _mask(use, constant)) is None:
        return
    check_product(op, [a, b])
    result_type = cast("TensorType[Attribute]", product.type)
    (m, n), k = mask.shape, cast("TensorType[Attribute]", a.type).get_shape()[1]
    new = SddmmOp(a, b, mask, unit, result_type, [CoverOp(MetaOps.whole(m, n, k))])
    new.location = op.location
    Rewriter.insert_op(new, InsertPoint.before(use))
    masked = use.results[0]
    new.res.name_hint = masked.name_hint
    masked.replace_all_uses_with(new.res)
    for old in (use, op):
        operands = list(old.operands)
        Rewriter.erase_op(old)
        for value in operands:
            erase_unused(value)


def _factor(op: Operation, product: SSAValue) -> SSAValue | None:
    """What an elementwise multiplication multiplies the product with."""
    match op:
        case linalg.MulOp():
            first, second = op.inputs
        case arith.MulfOp() | arith.MuliOp():
            first, second = op.operands
        case linalg.GenericOp() if _multiplies(op):
            first, second = op.inputs
        case _:
            return None
    if product not in (first, second):
        return None
    return second if first is product else first


def _multiplies(op: linalg.GenericOp) -> bool:
    """Whether a generic operation is the elementwise product of its two inputs."""
    maps = [attribute.data for attribute in op.indexing_maps]
    identity = AffineMap.identity(maps[0].num_dims)
    if len(op.inputs) != 2 or any(found != identity for found in maps):
        return False
    if any(iterator.data != IteratorType.PARALLEL for iterator in op.iterator_types):
        return False
    block = op.body.block
    match list(block.ops):
        case [arith.MulfOp() | arith.MuliOp() as product, linalg.YieldOp() as result]:
            inputs = {block.args[0], block.args[1]}
            return set(product.operands) == inputs and list(result.operands) == [product.results[0]]
        case _:
            return False


def _mask(op: Operation, constant: WeightAttr) -> WeightAttr | None:
    """The constant as a mask; None where it is a factor without zeros. Refuses what is neither."""
    data, pattern = constant.data, constant.pattern
    wrong = np.flatnonzero(data != 1)
    if not wrong.size:
        ones = np.ones(pattern.nnz, np.int8)
        return WeightAttr.of(constant.shape, pattern.indptr, pattern.indices, ones, i8)
    if pattern.nnz == pattern.m * pattern.k:
        return None
    at = int(wrong[0])
    refuse(
        op,
        f"multiplies by {data[at]} at row {pattern.row_of()[at]}, column {pattern.indices[at]}; needed: a "
        "mask of 0 and 1, multiply by other numbers after it",
    )
