"""Masks of pruning, kept apart from the network they belong to: applied to its weights by layer."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.ir import Operation, SSAValue

from sparsecc.dialects.nn_base import ConstantOp, TensorAttr, type_of
from sparsecc.dialects.nn_products import ConvOp, LinearOp, MatmulOp
from sparsecc.dialects.sparse import ConstantOp as SparseConstantOp
from sparsecc.dialects.sparse import WeightAttr
from sparsecc.errors import UserError

Array = NDArray[Any]


def masked(module: ModuleOp, masks: Mapping[str, str | Array]) -> ModuleOp:
    """A copy of a network of the `nn` dialect in which weights are 0 where the mask of their layer is.

    masks: for names of layers, as reports print them, an array [M, ...] of as many elements as the weight, or
    the name of a matrix for `load_matrix`, whose nonzeros are kept. Raises UserError for a layer that the
    network does not have, and for a mask of another shape.
    """
    new = module.clone()
    layers: dict[str, tuple[Operation, SSAValue]] = {}
    for op in new.walk():
        name = op.attributes.get("name")
        if isinstance(name, StringAttr) and (weight := _weight(op)) is not None:
            layers[name.data] = op, weight
    for layer, mask in masks.items():
        if layer not in layers:
            near = difflib.get_close_matches(layer, layers, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(layers) or 'none'}"
            raise UserError(f"mask of {layer}: the network has no such layer with constant weights; {hint}")
        op, weight = layers[layer]
        constant = _kept(weight, _positions(layer, mask, weight))
        constant.attributes["name"] = op.attributes["name"]
        block = op.parent_block()
        assert block is not None
        block.insert_op_before(constant, op)
        # Another layer may share the weight: it keeps its own.
        op.operands[list(op.operands).index(weight)] = constant.results[0]
    return new


def _weight(op: Operation) -> SSAValue | None:
    """The constant factor of a product."""
    match op:
        case ConvOp() | LinearOp():
            factors = [op.w]
        case MatmulOp():
            factors = [op.a, op.b]
        case _:
            factors = []
    return next((f for f in factors if isinstance(f.owner, ConstantOp | SparseConstantOp)), None)


def _positions(layer: str, mask: str | Array, weight: SSAValue) -> Array:
    """Where weights stay: of the shape of the weight."""
    shape = type_of(weight).get_shape()
    where = f"mask of {layer}"
    if isinstance(mask, str):
        from sparsecc.importers import load_matrix

        where += f" ({mask})"
        mask = load_matrix(mask).dense()
    if mask.size != int(np.prod(shape)) or mask.shape[:1] != shape[:1]:
        raise UserError(
            f"{where}: found {list(mask.shape)}, needed the shape of the weight, {list(shape)}; is it a mask "
            "of another network?"
        )
    return mask.reshape(shape) != 0


def _kept(weight: SSAValue, positions: Array) -> Operation:
    """The constant with the weights that stay."""
    match weight.owner:
        case SparseConstantOp(weight=matrix):
            pattern = matrix.pattern
            rows = pattern.row_of()
            stay = positions[rows, pattern.indices]
            indptr = np.searchsorted(rows[stay], np.arange(matrix.shape[0] + 1))
            indices, data = pattern.indices[stay], matrix.data[stay]
            return SparseConstantOp(WeightAttr.of(matrix.shape, indptr, indices, data, matrix.element_type))
        case owner:
            assert isinstance(owner, ConstantOp)
            kept = np.where(positions, owner.value.array, 0).astype(owner.value.array.dtype)
            return ConstantOp(TensorAttr.of(kept, owner.value.type.element_type))
