"""Lowering of quantised operators: products of bytes go to the accelerator, the rest to the host.

A zero point of the input moves into the bias, W (x - z) + b = W x + (b - z W 1), which is exact; padding
holds the zero point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import IntegerType, f32, i8, i32
from xdsl.ir import Operation, SSAValue

from sparsecc.dialects.host import CallOp, Tensor, ViewOp
from sparsecc.dialects.nn_base import element_of, number, shape_of, type_of
from sparsecc.dialects.nn_elementwise import AddOp, ReluOp
from sparsecc.dialects.nn_products import ConvIntegerOp, LinearIntegerOp, MatmulIntegerOp
from sparsecc.dialects.nn_quantized import DequantizeLinearOp, QuantizeLinearOp, RequantizeOp
from sparsecc.host.operator import Kind, Window
from sparsecc.host.walk import Walk
from sparsecc.network.layout import Layout, features_first
from sparsecc.network.lower import Argument, Array, Lowering, Placed, Rule, csr_of, refuse
from sparsecc.network.lower_elementwise import host_kind, walked
from sparsecc.network.lower_products import (
    WHY,
    computed_product,
    of_constant,
    patches,
    window_of,
    zeros,
)
from sparsecc.nn import quantization

I16 = IntegerType(16)
# Elements side by side that host_depthwise_q takes.
DEPTHWISE_INNER = 4096


def _known(op: Operation, low: Lowering, value: SSAValue, what: str) -> Array:
    if (found := low.known(value)) is None:
        refuse(op, f"its {what} is computed at run time; make it a constant of the model")
    return found


def _parts(op: ConvIntegerOp | LinearIntegerOp, low: Lowering) -> tuple[NDArray[np.int8], int, Array | None]:
    """Weight less its zero point, zero point of x, and the bias."""
    weight, zero = _known(op, low, op.w, "weight"), _known(op, low, op.w_zero, "zero point")
    found = quantization.without_zero(weight, zero)
    if found is None:
        refuse(op, "its weight less the zero point does not fit a byte; quantise it symmetrically")
    x_zero = _known(op, low, op.x_zero, "zero point")
    return found, int(x_zero), None if op.b is None else _known(op, low, op.b, "bias")


def _signed(op: Operation, low: Lowering, x: Placed, zero: int, element: str) -> tuple[Placed, int]:
    """Bytes as the unit takes them: unsigned ones less 128."""
    if low.target.in_type != "i8":
        refuse(
            op,
            f"multiplies bytes, {low.target.name} is used with {low.target.in_type}; choose --dtype i8",
        )
    if element == "i8":
        return x, zero
    table = low.constant((np.arange(256) - 128).astype(np.int8), i8)
    count = math.prod(x.layout.shape)
    value = low.call("host_lookup_1", [x.value, table], x.layout.extents, i8, n=count)
    return Placed(value, x.layout), zero - 128


def _biased(low: Lowering, y: SSAValue, bias: NDArray[np.int32]) -> SSAValue:
    """y [M, N] + bias [M]."""
    if not bias.any():
        return y
    shape = cast(Tensor, y.type).get_shape()
    walk = Walk.of(shape, (shape[1], 1), (shape[1], 1), (1, 0))
    return low.call("host_add_i32", [y, low.constant(bias, i32)], shape, i32, walk=walk.table())


def linear_integer(op: LinearIntegerOp, low: Lowering) -> Sequence[Placed]:
    weight, zero, bias = _parts(op, low)
    x, zero = _signed(op, low, low.get(op.x), zero, element_of(op.x))
    axis = len(x.layout.shape) - 1
    y, others = of_constant(low, weight, x, axis)
    y = _biased(low, y, quantization.folded_bias(weight, zero, bias))
    layout = Layout(shape_of(op.res), (axis, *others))
    return [Placed(low.view(y, layout.extents), layout)]


def conv_integer(op: ConvIntegerOp, low: Lowering) -> Sequence[Placed]:
    shape = shape_of(op.res)
    rank = len(shape)
    if rank > 4:
        refuse(op, f"has {rank - 2} spatial axes; compiling networks takes 1 or 2")
    weight, zero, bias = _parts(op, low)
    x, layout = low.get(op.x), Layout(shape, features_first(rank))
    if (groups := number(op.groups)) == shape_of(op.x)[1] and groups > 1:
        return [Placed(_depthwise(op, low, x, weight, zero, bias), layout)]
    x, zero = _signed(op, low, x, zero, element_of(op.x))
    cube = low.ordered(x, features_first(rank), WHY)
    if weight.any():
        matrix, whole = patches(op, low, cube, weight, zero & 0xFF)
        y = low.product(csr_of(whole), matrix)
    else:
        y = zeros(low, shape[1], math.prod(layout.extents[1:]), i32)
    y = _biased(low, y, quantization.folded_bias(weight, zero, bias))
    return [Placed(low.view(y, layout.extents), layout)]


def _depthwise(
    op: ConvIntegerOp, low: Lowering, x: Placed, weight: Array, zero: int, bias: Array | None
) -> SSAValue:
    """A product per channel is no work for the accelerator: one row of weights would use the unit."""
    shape, v = shape_of(op.res), op.windows
    batch, channels, *spatial = x.layout.shape
    cube = low.ordered(x, features_first(len(shape)), WHY)
    window = window_of(shape[1], spatial, batch, shape[2:], v.kernel, v.strides, v.pads, v.dilations)
    parts = [cube, low.constant(weight.astype(np.int16), I16)]
    arguments: dict[str, Argument] = {
        "window": window, "channels": shape[1], "multiplier": shape[1] // channels, "x_zero": zero,
    }  # fmt: skip
    if bias is None:
        arguments["bias"] = None
    else:
        parts.append(low.constant(bias, i32))
    extents = Layout(shape, features_first(len(shape))).extents
    return low.call_with(f"host_depthwise_{host_kind(op, op.x)}", parts, extents, i32, arguments)


def _along(op: Operation, x: Placed, axis: int | None) -> tuple[int, int, int]:
    """(outer, axis, inner) elements; axis 1 for parameters of the whole."""
    if axis is None:
        return 1, 1, math.prod(x.layout.shape)
    found = x.layout.around([axis])
    assert found is not None, f"{op.name}: one axis lies together"
    return found


def _flat(low: Lowering, value: SSAValue) -> SSAValue:
    """A parameter as one axis."""
    placed = low.get(value)
    return low.view(low.plain(placed, "the parameters"), (math.prod(placed.layout.shape),))


def matmul_integer(op: MatmulIntegerOp, low: Lowering) -> Sequence[Placed]:
    """Of two values that are computed, on the host."""
    if min(len(shape_of(op.a)), len(shape_of(op.b))) < 2:
        refuse(op, "multiplies a vector; give it an axis of one element in the model")
    a, b = low.get(op.a), low.get(op.b)
    layout, product, walk = computed_product(a, b, shape_of(op.res))
    steps: list[int] = []
    points: list[SSAValue] = []
    for zero, extent in ((op.a_zero, product.m), (op.b_zero, product.n)):
        count = math.prod(shape_of(zero))
        if count not in (1, extent):
            refuse(op, f"has {count} zero points for {extent} rows or columns; needed 1 or as many")
        steps.append(0 if count == 1 else 1)
        points.append(_flat(low, zero))
    product = replace(product, a_zero_step=steps[0], b_zero_step=steps[1])
    y = low.call(
        f"host_matmul_{host_kind(op, op.a)}_{host_kind(op, op.b)}", [a.value, b.value, *points],
        layout.extents, i32, product=product, batch=walk,
    )  # fmt: skip
    return [Placed(y, layout)]


def _scaled(
    op: QuantizeLinearOp | DequantizeLinearOp, low: Lowering, name: str, kind: str
) -> Sequence[Placed]:
    x = low.get(op.x)
    outer, axis, inner = _along(op, x, op.axis_number)
    parts = [x.value, _flat(low, op.scale)]
    arguments: dict[str, Argument] = {"outer": outer, "axis": axis, "inner": inner}
    if (zero := low.known(op.zero)) is None or zero.any():
        parts.append(_flat(low, op.zero))
    else:
        arguments["zero"] = None
    y = low.call_with(f"host_{name}_{kind}", parts, x.layout.extents, type_of(op.res).element_type, arguments)
    return [Placed(y, x.layout)]


def _sum_of_bytes(op: QuantizeLinearOp, low: Lowering) -> Placed | None:
    """A sum of dequantised bytes, with a ReLU or without, that is quantised, in one call; None for others.

    What was built for the sum in floats is unused then, unless others use it.
    """
    relu = op.x.owner if isinstance(op.x.owner, ReluOp) else None
    total = op.x.owner if relu is None else relu.x.owner
    element = type_of(op.res).element_type
    if not isinstance(total, AddOp) or str(element) not in ("i8", "ui8"):
        return None
    numbers: list[tuple[float, int]] = []
    parts: list[Placed] = []
    for real in (*(o.owner for o in total.operands), op):
        if not isinstance(real, DequantizeLinearOp | QuantizeLinearOp) or real.axis_number is not None:
            return None
        scale, zero = low.known(real.scale), low.known(real.zero)
        if scale is None or zero is None or type_of(real.zero).element_type != element:
            return None
        numbers.append((float(scale), int(zero)))
        if isinstance(real, DequantizeLinearOp):
            parts.append(low.get(real.x))
    if len(parts) != 2:
        return None
    (a_scale, a_zero), (b_scale, b_zero), (y_scale, y_zero) = numbers
    least = -128 if str(element) == "i8" else 0
    if relu is not None and y_zero not in (0, least):
        return None
    layout, walk = walked(low, parts, shape_of(op.res))
    kind = host_kind(op, op.res)
    y = low.call(
        f"host_add_q_{kind}", [p.value for p in parts], layout.extents, element, walk=walk.table(),
        a_scale=a_scale, a_zero=a_zero, b_scale=b_scale, b_zero=b_zero, y_scale=y_scale, y_zero=y_zero,
    )  # fmt: skip
    if relu is not None and y_zero != least:
        y = low.call(f"host_relu_{kind}", [y], layout.extents, element, n=math.prod(layout.extents))
    return Placed(y, layout)


def _viewed(value: SSAValue) -> SSAValue:
    """What a value is another shape of."""
    while isinstance(value.owner, ViewOp):
        value = value.owner.x
    return value


def _made_by(value: SSAValue) -> CallOp | None:
    """The call that a value comes from, also under another shape."""
    owner = _viewed(value).owner
    return owner if isinstance(owner, CallOp) else None


def _named(call: CallOp) -> dict[str, Any]:
    """The arguments of a call but its result, by name."""
    found = zip(call.declaration.arguments, call.values(), strict=True)
    return {a.name: value for a, value in found if a.kind is not Kind.OUTPUT}


def _mean_of_bytes(op: QuantizeLinearOp, low: Lowering) -> Placed | None:
    """A mean of dequantised bytes that is quantised, in one call with the same roundings; None for others.

    What was built for the mean in floats is unused then, unless others use it.
    """
    x, scale, zero = low.get(op.x), low.known(op.scale), low.known(op.zero)
    mean, kind = _made_by(x.value), str(type_of(op.res).element_type).replace("ui", "u")
    if mean is None or mean.operator.data != "host_reduce_mean_f32" or kind not in ("i8", "u8"):
        return None
    parts = _named(mean)
    wide = _made_by(parts.pop("x"))
    if wide is None or wide.operator.data != f"host_dequantize_{kind}" or op.axis_number is not None:
        return None
    given = _named(wide)
    x_scale = low.known(_viewed(given["scale"]))
    x_zero = np.zeros(1) if given["zero"] is None else low.known(_viewed(given["zero"]))
    if scale is None or zero is None or x_scale is None or x_zero is None or given["axis"] != 1:
        return None
    y = low.call(
        f"host_reduce_mean_q_{kind}", [given["x"]], x.layout.extents, type_of(op.res).element_type, **parts,
        x_scale=float(x_scale.item()), x_zero=int(x_zero.item()), y_scale=float(scale), y_zero=int(zero),
    )  # fmt: skip
    return Placed(y, x.layout)


def quantize(op: QuantizeLinearOp, low: Lowering) -> Sequence[Placed]:
    if (found := _sum_of_bytes(op, low) or _mean_of_bytes(op, low)) is not None:
        return [found]
    if element_of(op.x) != "f32":
        refuse(op, f"quantises elements of {element_of(op.x)}; compiling networks needs f32 there")
    return _scaled(op, low, "quantize", host_kind(op, op.res))


def dequantize(op: DequantizeLinearOp, low: Lowering) -> Sequence[Placed]:
    if element_of(op.res) != "f32":
        refuse(op, f"dequantises to {element_of(op.res)}; compiling networks needs f32 there")
    return _scaled(op, low, "dequantize", host_kind(op, op.x))


def _requantized_depthwise(
    op: RequantizeOp, low: Lowering, x: Placed, scale: Array, zero: int
) -> SSAValue | None:
    """Sums of a depthwise convolution that nothing else reads, as bytes in one call; None for others."""
    outer, channels, _ = _along(op, x, op.axis_number)
    owner, kind = x.value.owner, host_kind(op, op.res)
    if (
        not isinstance(owner, CallOp)
        or owner.operator.data != f"host_depthwise_{kind}"
        or len([*op.x.uses]) > 1
    ):
        return None
    named = _named(owner)
    window = named["window"]
    assert isinstance(window, Window)
    per_channel = (outer, channels) == (1, named["channels"])
    if window.inner > DEPTHWISE_INNER or not (scale.size == 1 or per_channel):
        return None
    arguments = {name: v for name, v in named.items() if not isinstance(v, SSAValue)}
    return low.call_with(
        f"host_depthwise_q_{kind}", [*owner.inputs, low.constant(scale, f32)], x.layout.extents,
        type_of(op.res).element_type, {**arguments, "scales": scale.size, "y_zero": zero},
    )  # fmt: skip


def requantize(op: RequantizeOp, low: Lowering) -> Sequence[Placed]:
    x = low.get(op.x)
    outer, axis, inner = _along(op, x, op.axis_number)
    scale, zero = _known(op, low, op.scale, "scale"), _known(op, low, op.zero, "zero point")
    if (found := _requantized_depthwise(op, low, x, scale.reshape(-1), int(zero))) is not None:
        return [Placed(found, x.layout)]
    y = low.call(
        f"host_requantize_{host_kind(op, op.res)}", [x.value, low.constant(scale.reshape(-1), f32)],
        x.layout.extents, type_of(op.res).element_type, outer=outer, axis=axis, inner=inner, zero=int(zero),
    )  # fmt: skip
    return [Placed(y, x.layout)]


RULES: dict[type[Operation], Rule] = {
    ConvIntegerOp: conv_integer,
    DequantizeLinearOp: dequantize,
    LinearIntegerOp: linear_integer,
    MatmulIntegerOp: matmul_integer,
    QuantizeLinearOp: quantize,
    RequantizeOp: requantize,
}
