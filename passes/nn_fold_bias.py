"""Makes a constant that is added to a product its bias.

Turns `nn.conv` and `nn.linear` without a bias, of which nothing but an `nn.add` of a constant with one value
for each output uses the result, into the product with that bias. The sum is the same, to the bit: a bias is
added to the rounded product. Nothing is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.rewriter import InsertPoint, Rewriter

from sparsecc.calibration import RANGE
from sparsecc.dialects.nn_base import ConstantOp, TensorAttr, shape_of, type_of
from sparsecc.dialects.nn_elementwise import AddOp
from sparsecc.dialects.nn_products import ConvOp, LinearOp
from sparsecc.passes.base import SparsePass


@dataclass(frozen=True)
class NnFoldBiasPass(SparsePass):
    name = "nn-fold-bias"
    summary: ClassVar = "makes added constants biases: nn.conv, nn.add -> nn.conv"
    refuses: ClassVar = "nothing"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for add in [found for found in op.walk() if isinstance(found, AddOp)]:
            _fold(add)


def _fold(add: AddOp) -> None:
    for value, other in ((add.x, add.y), (add.y, add.x)):
        product, constant = value.owner, other.owner
        if not isinstance(product, ConvOp | LinearOp) or not isinstance(constant, ConstantOp):
            continue
        if product.b is not None or value.uses.get_length() != 1 or add.res.type != value.type:
            continue
        axis = 1 if isinstance(product, ConvOp) else len(shape_of(value)) - 1
        bias = _per_output(constant.value.array, shape_of(value), axis)
        if bias is None:
            continue
        held = ConstantOp(TensorAttr.of(bias, type_of(value).element_type))
        new = type(product).make(product.x, product.w, held.res, **product.properties)
        for created in (held, new):
            created.attributes.update(product.attributes)
            created.location = product.location
        if RANGE in add.attributes:
            new.attributes[RANGE] = add.attributes[RANGE]
        new.res.name_hint = add.res.name_hint
        Rewriter.insert_op([held, new], InsertPoint.before(add))
        add.res.replace_all_uses_with(new.res)
        Rewriter.erase_op(add)
        Rewriter.erase_op(product)
        if constant.res.first_use is None:
            Rewriter.erase_op(constant)
        return


def _per_output(array: NDArray[Any], shape: tuple[int, ...], axis: int) -> NDArray[Any] | None:
    """A constant that broadcasts to the shape as one value per index of the axis, if it is that."""
    extents = (1,) * (len(shape) - array.ndim) + array.shape
    if len(extents) != len(shape) or any(e != 1 for i, e in enumerate(extents) if i != axis):
        return None
    return np.broadcast_to(array.reshape(-1), (shape[axis],)).copy()
