"""What the passes that recognise products share: constants, what a product may be, and tidying up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import DenseIntOrFPElementsAttr, FloatAttr, IntegerAttr, TensorType
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import Attribute, Block, SSAValue, TypeAttribute
from xdsl.rewriter import Rewriter
from xdsl.utils.hints import isa

from sparsecc.dialects.sparse import RESULT_TYPES, ConstantOp, WeightAttr
from sparsecc.elements import array_of
from sparsecc.passes.base import refuse

MatmulOp = linalg.MatmulOp | linalg.QuantizedMatmulOp

_PLAIN_MAPS = linalg.MatmulOp.get_irdl_definition().properties["indexing_maps"].default_value


def constant_matrix(value: SSAValue) -> WeightAttr | None:
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


def is_zero(value: SSAValue) -> bool:
    """Whether a value is known to hold nothing but zeros."""
    match value.owner:
        case arith.ConstantOp(value=IntegerAttr(value=number) | FloatAttr(value=number)):
            return number.data == 0
        case arith.ConstantOp(value=elements) if isa(elements, DenseIntOrFPElementsAttr):
            return not array_of(elements).any()
        case linalg.FillOp() as fill:
            return is_zero(fill.inputs[0])
        case _:
            return False


def check_product(op: MatmulOp, factors: Sequence[SSAValue]) -> None:
    """Refuses products that the Sparse IR does not compute; factors are the operands not constant."""
    init = op.outputs[0]
    for x in factors:
        if not isa(x.type, TensorType) or not isa(init.type, TensorType):
            refuse(op, f"multiplies {x.type} into {init.type}; needed: tensors")
        if not (x.type.has_static_shape() and init.type.has_static_shape()):
            refuse(op, f"multiplies {x.type} into {init.type}; needed: static shapes")
    if isinstance(op, linalg.MatmulOp) and op.indexing_maps != _PLAIN_MAPS:
        refuse(op, "has indexing maps; needed: a plain product, transpose the operands before it")
    if not all(map(is_zero, op.inputs[2:])):
        refuse(op, "has zero points other than constant 0; subtract them before it")
    if not is_zero(init):
        refuse(op, "the initial value must be zero; fill it with 0 and add what it was to the result")
    left, right, result = (
        str(cast("TensorType[Attribute]", value.type).element_type) for value in (*op.inputs[:2], init)
    )
    if left != right or result not in RESULT_TYPES.get(left, ()):
        known = ", ".join(f"{a} x {a} -> {b}" for a, results in RESULT_TYPES.items() for b in results)
        refuse(op, f"multiplies {left} and {right} to {result}; needed one of {known}")


def erase_unused(value: SSAValue) -> None:
    """Erases constants and fills that nothing uses any more."""
    op = value.owner
    if value.first_use is not None or isinstance(op, Block) or op.parent is None:
        return
    if not isinstance(op, ConstantOp | arith.ConstantOp | linalg.FillOp | tensor.EmptyOp):
        return
    operands = list(op.operands)
    Rewriter.erase_op(op)
    for operand in operands:
        erase_unused(operand)
