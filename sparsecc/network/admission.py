"""What networks must be to be compiled: values of a size that memory holds, weights that are numbers."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
from xdsl.dialects import func

from sparsecc.codegen.network import name_of
from sparsecc.dialects.host import Tensor
from sparsecc.dialects.sparse import ConstantOp as MatrixOp
from sparsecc.errors import UserError

# Of a value: 2 GB of f32; the program's arena is a static array.
MOST_ELEMENTS = 2**29


def check_sizes(function: func.FuncOp, names: tuple[str, ...]) -> None:
    """Raises UserError for a value without elements, or with too many. names: of the inputs."""
    block = function.body.block
    values = [(f"input {name!r} has the shape", a) for name, a in zip(names, block.args, strict=True)]
    values += [(f"node {name_of(op)!r} gives", result) for op in block.ops for result in op.results]
    for what, value in values:
        shape = cast(Tensor, value.type).get_shape()
        count = math.prod(shape)
        if not count:
            raise UserError(
                f"{what} {list(shape)}, which holds no element; needed 1 or more along every axis: give "
                "the batch or the input another extent, or cut that part of the model off"
            )
        if count >= MOST_ELEMENTS:
            raise UserError(
                f"{what} {list(shape)}, {count} elements; needed fewer than {MOST_ELEMENTS}: make the "
                "batch or the input smaller"
            )


def check_weights(function: func.FuncOp) -> None:
    """Raises UserError for a weight of a product that is not finite; names who uses it."""
    for op in function.body.block.ops:
        if not isinstance(op, MatrixOp) or op.weight.data.dtype.kind != "f":
            continue
        if bad := int(np.count_nonzero(~np.isfinite(op.weight.data))):
            user = next((use.operation for use in op.results[0].uses), op)
            raise UserError(
                f"node {name_of(user)!r}: its weight of {list(op.weight.shape)} holds {bad} values that are "
                "infinite or not a number; needed finite numbers: train or export the model again"
            )
