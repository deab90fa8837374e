"""ONNX operators between real numbers and integers. Constants that are dequantised keep their integers."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsecc.dialects.nn_base import ELEMENTS
from sparsecc.dialects.nn_elementwise import (
    AddOp,
    CastOp,
    ClipOp,
    DivOp,
    EqualOp,
    MaxOp,
    MinOp,
    MulOp,
    RoundOp,
    SubOp,
    WhereOp,
)
from sparsecc.dialects.nn_layout import GatherOp
from sparsecc.dialects.nn_quantized import DequantizeLinearOp, QuantizeLinearOp
from sparsecc.dialects.nn_reductions import ReduceOp
from sparsecc.elements import stored
from sparsecc.importers.constants import Quantized
from sparsecc.importers.emitter import reshaped
from sparsecc.importers.onnx_graph import Handler, Node, Results
from sparsecc.importers.onnx_proto import element_name
from sparsecc.importers.values import Value


def _parameters(node: Node, x: Value, scale: Value, zero: Value) -> tuple[Value, Value, int | None]:
    """Scale, zero point and the axis of both; a single number is for all."""
    axis = node.integer("axis", 1)
    if scale.shape in ((), (1,)) and not (-x.rank <= axis < x.rank and x.shape[axis] == 1 and scale.rank):
        if zero.shape not in ((), (1,)):
            node.fail(f"the scale is one number, the zero point has shape {list(zero.shape)}")
        return reshaped(node, scale, ()), reshaped(node, zero, ()), None
    if not -x.rank <= axis < x.rank:
        node.fail(f"attribute axis is {axis}, but the input has {x.rank} dimensions")
    return scale, zero, axis % x.rank


def _of_blocks(node: Node, x: Value, parameter: Value) -> Value:
    """A parameter of blocks of an axis, one value for each element of x."""
    axis = node.integer("axis", 1)
    size = node.integer("block_size")
    if not -x.rank <= axis < x.rank or size < 1 or parameter.rank != x.rank:
        node.fail(
            f"blocks of {size} along axis {axis} do not fit {list(x.shape)} and {list(parameter.shape)}"
        )
    if parameter.shape[axis] != -(-x.shape[axis] // size):
        node.fail(f"blocks of {size} of {x.shape[axis]} elements do not make {parameter.shape[axis]} scales")
    blocks = Value.array(np.arange(x.shape[axis]) // size, "i64")
    return node.emit(GatherOp, parameter, blocks, axis=axis % x.rank)


def _as(node: Node, value: Value, element: str) -> Value:
    return node.emit(CastOp, value, element_type=ELEMENTS[element])


def quantize(node: Node) -> Results:
    x, scale, zero = node.value(0), node.value(1), node.optional(2)
    if zero is None:
        element = element_name(node.integer("output_dtype", 0) or 2, node.where)
        zero = Value.array(np.zeros(scale.shape), element)
    if not node.integer("block_size", 0):
        scale, zero, axis = _parameters(node, x, scale, zero)
        return node.emit(QuantizeLinearOp, x, scale, zero, axis=axis)
    if zero.element not in ("i8", "ui8", "i16", "ui16"):
        node.fail(f"the zero point has elements of type {zero.element}; needed i8, ui8, i16 or ui16")
    zero_type: Any = stored(ELEMENTS[zero.element])
    limits = np.iinfo(zero_type)
    whole = node.emit(RoundOp, node.emit(DivOp, x, _of_blocks(node, x, scale)))
    shifted = node.emit(AddOp, whole, _as(node, _of_blocks(node, x, zero), x.element))
    return _as(node, node.emit(ClipOp, shifted, low=float(limits.min), high=float(limits.max)), zero.element)


def dequantize(node: Node) -> Results:
    x, scale, zero = node.value(0), node.value(1), node.optional(2)
    if zero is None:
        zero = Value.array(np.zeros(scale.shape), x.element)
    if node.integer("block_size", 0):
        shifted = node.emit(
            SubOp, _as(node, x, scale.element), _as(node, _of_blocks(node, x, zero), scale.element)
        )
        return node.emit(MulOp, shifted, _of_blocks(node, x, scale))
    scale, zero, axis = _parameters(node, x, scale, zero)
    if x.constant is None or scale.constant is None or zero.constant is None:
        return node.emit(DequantizeLinearOp, x, scale, zero, axis=axis)
    # Not folded to floats: the integers are what the hardware multiplies.
    wanted = () if axis is None else (x.shape[axis],)
    if scale.shape != wanted or zero.shape != wanted or zero.element != x.element:
        node.fail(
            f"scale {list(scale.shape)} and zero point {list(zero.shape)} of {zero.element} do not fit "
            f"{list(x.shape)} of {x.element}"
        )
    if x.element not in ("i8", "ui8", "i16", "ui16", "i32"):
        node.fail(f"elements of type {x.element} cannot be dequantised; needed i8, ui8, i16, ui16 or i32")
    constants = (x.constant, scale.constant.array(), zero.constant.array())
    return Value.of(Quantized(*constants, axis, scale.element))


def dynamic_quantize(node: Node) -> Results:
    """To the range of the input, which 0 belongs to; an input of zeros has scale 1, as in onnxruntime."""
    x = node.value(0)
    zero, levels = Value.array(0, x.element), Value.array(255, x.element)
    axes = list(range(x.rank))
    low, high = (
        node.emit(limit, node.emit(ReduceOp, x, kind=kind, axes=axes, keep=False), zero)
        for limit, kind in ((MinOp, "min"), (MaxOp, "max"))
    )
    scale = node.emit(DivOp, node.emit(SubOp, high, low), levels)
    scale = node.emit(WhereOp, node.emit(EqualOp, scale, zero), Value.array(1, x.element), scale)
    place = node.emit(RoundOp, node.emit(DivOp, node.emit(SubOp, zero, low), scale))
    zero_point = _as(node, node.emit(ClipOp, place, low=0.0, high=255.0), "ui8")
    return [node.emit(QuantizeLinearOp, x, scale, zero_point), scale, zero_point]


HANDLERS: dict[str, Handler] = {
    "DequantizeLinear": dequantize,
    "DynamicQuantizeLinear": dynamic_quantize,
    "QuantizeLinear": quantize,
    "com.microsoft::DequantizeLinear": dequantize,
    "com.microsoft::QuantizeLinear": quantize,
}
