"""Chooses what computes each operator of a network, and in which order its activations lie in memory.

Turns a function of `nn` operators into calls: a product of a constant and activations (linear, matmul,
convolution) becomes a private function that holds it as `linalg.matmul` with a `sparse.constant`, which the
passes of the target compile; everything else becomes `host.call`. Activations lie features first, batch last
([C, H, W, N]), so that a product is C[M, N] = W[M, K] X[K, N] over all positions and nothing is transposed
inside; a transposition of the network changes names of axes only. Copies that bring elements into another
order stand where an operator needs it and carry the attribute `reorders`, which says why. Convolutions with
windows get their patches from the host; grouped ones are one product with blocks on the diagonal, depthwise
ones stay on the host.

Inputs and outputs keep the layout of the model. Products of floats are in the target's float input type,
converted on the host, and f32 everything else; a target that multiplies integers leaves them to the host.
Products of bytes have sums in i32; the zero point of their input moves into the bias.

Refuses operators that neither has, and products of other elements than f32 and bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import FunctionType, ModuleOp
from xdsl.ir import Block, Operation, Region
from xdsl.utils.exceptions import PassFailedException

from sparsecc.dialects.host import CallOp, ViewOp
from sparsecc.dialects.nn_base import ConstantOp, NnOp, shape_of
from sparsecc.dialects.sparse import ConstantOp as SparseConstantOp
from sparsecc.errors import UserError
from sparsecc.network import (
    lower_elementwise,
    lower_layout,
    lower_products,
    lower_quantized,
    lower_recurrent,
    lower_reductions,
)
from sparsecc.network.layout import Layout
from sparsecc.network.lower import FLOATS, Lowering, Placed, Rule, types_of
from sparsecc.passes.base import SparsePass
from sparsecc.target import AnyTarget
from sparsecc.target.load import load_target

RULES: dict[type[Operation], Rule] = {
    **lower_elementwise.RULES,
    **lower_layout.RULES,
    **lower_products.RULES,
    **lower_quantized.RULES,
    **lower_recurrent.RULES,
    **lower_reductions.RULES,
}


@dataclass(frozen=True)
class ConvertNnToHostPass(SparsePass):
    name = "convert-nn-to-host"
    summary: ClassVar = "chooses operators and layouts: nn -> host.call, and a function for each product"
    refuses: ClassVar = "operators that neither host nor target has"
    option_help: ClassVar = {
        "target": "preset or .toml file whose input type products are in",
        "dtype": "input type of products, of those the target has (default: the most exact float)",
    }

    target: str = "scalesim-ws16"
    dtype: str = ""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        try:
            target = target_of(load_target(self.target), self.dtype)
            for function in [f for f in op.ops if isinstance(f, func.FuncOp)]:
                if any(isinstance(o, NnOp | ConstantOp) for o in function.walk()):
                    _convert(op, function, target)
        except UserError as e:
            raise PassFailedException(str(e)) from e


def target_of(target: AnyTarget, dtype: str) -> AnyTarget:
    """The target used with an input type of products; its most exact float where none is named."""
    types = types_of(target)
    known = [t for t in (*FLOATS, "i8") if t in types]
    if dtype and dtype not in known:
        target.with_type(dtype)
    if not known or dtype not in ("", *known):
        found = dtype or ", ".join(types)
        raise UserError(f"networks are multiplied in {', '.join(FLOATS)} or i8; found the type {found}")
    return target.with_type(dtype or known[0])


def _convert(module: ModuleOp, function: func.FuncOp, target: AnyTarget) -> None:
    old = function.body.block
    block = Block(arg_types=old.arg_types)
    low = Lowering(block, target)
    for before, after in zip(old.args, block.args, strict=True):
        after.name_hint = before.name_hint
        low.values[before] = Placed(after, Layout.plain(shape_of(before)))
    for op in old.ops:
        if isinstance(op, func.ReturnOp):
            low.use(op, "output")
            results = [low.plain(low.get(v), "the output is in the layout of the model") for v in op.operands]
            block.add_op(func.ReturnOp(*results))
        elif isinstance(op, ConstantOp | SparseConstantOp):
            continue
        elif not all(low.is_constant(r) for r in op.results):
            low.node(op, RULES)
    _erase_unused(block)
    outputs = cast(func.ReturnOp, block.last_op).operands
    new = func.FuncOp(
        function.sym_name.data,
        FunctionType.from_lists(block.arg_types, [o.type for o in outputs]),
        Region(block),
    )
    new.attributes.update(function.attributes)
    module.body.block.insert_ops_before([new, *low.functions], function)
    function.detach()
    function.erase()


def _erase_unused(block: Block) -> None:
    """What was built for a node whose user found something better."""
    for op in reversed(list(block.ops)):
        if isinstance(op, CallOp | ViewOp | ConstantOp) and op.res.first_use is None:
            op.detach()
            op.erase()
