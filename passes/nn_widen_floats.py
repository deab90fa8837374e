"""Makes values of f16 and bf16 values of f32, which the host computes in.

Constants keep their values. Casts between these types go: nothing is rounded between layers any more, so that
results are nearer to those in exact arithmetic than the model's own. Inputs and outputs become f32, too; f64
stays, because f32 would lose what it holds. Nothing is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import FunctionType, ModuleOp, TensorType, f32
from xdsl.ir import Attribute, SSAValue
from xdsl.rewriter import Rewriter
from xdsl.utils.hints import isa

from sparsecc.dialects.nn_base import ConstantOp, TensorAttr
from sparsecc.dialects.nn_elementwise import CastOp
from sparsecc.dialects.sparse import ConstantOp as MatrixOp
from sparsecc.dialects.sparse import WeightAttr
from sparsecc.passes.base import SparsePass

NARROW = ("f16", "bf16")


@dataclass(frozen=True)
class NnWidenFloatsPass(SparsePass):
    name = "nn-widen-floats"
    summary: ClassVar = "makes tensors of f16 and bf16 tensors of f32"
    refuses: ClassVar = "nothing; f64 stays"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in [found for found in op.ops if isinstance(found, func.FuncOp)]:
            _widen(function)


def narrow_floats(module: ModuleOp) -> set[str]:
    """The element types that the pass would widen, of all values of a module."""
    values = [a for op in module.walk() for region in op.regions for b in region.blocks for a in b.args]
    values += [r for op in module.walk() for r in op.results]
    return {str(v.type.element_type) for v in values if isa(v.type, TensorType[Attribute])} & set(NARROW)


def _widen(function: func.FuncOp) -> None:
    block = function.body.block
    for value in list(block.args):
        _set(value)
    for op in list(block.ops):
        if isinstance(op, ConstantOp) and str(op.value.type.element_type) in NARROW:
            op.properties["value"] = TensorAttr.of(np.asarray(op.value.array, np.float32), f32)
        elif isinstance(op, MatrixOp) and str(op.weight.element_type) in NARROW:
            weight, pattern = op.weight, op.weight.pattern
            op.properties["weight"] = WeightAttr.of(
                weight.shape, pattern.indptr, pattern.indices, weight.data.astype(np.float32), f32
            )
        elif isinstance(op, CastOp) and str(op.element_type) in NARROW:
            op.properties["element_type"] = f32
        for result in list(op.results):
            _set(result)
        if isinstance(op, CastOp) and op.x.type == op.res.type:
            op.res.replace_all_uses_with(op.x)
            Rewriter.erase_op(op)
    results = block.last_op.operands if block.last_op is not None else ()
    function.properties["function_type"] = FunctionType.from_lists(
        [a.type for a in block.args], [r.type for r in results]
    )


def _set(value: SSAValue) -> None:
    kind = value.type
    if isa(kind, TensorType[Attribute]) and str(kind.element_type) in NARROW:
        Rewriter.replace_value_with_new_type(value, TensorType(f32, kind.get_shape()))
