"""Lowering of products: a constant times activations goes to the accelerator, all others to the host."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
from xdsl.dialects.builtin import f32
from xdsl.ir import Attribute, Operation, SSAValue

from sparsecc.dialects.host import Tensor, kind_of
from sparsecc.dialects.nn_base import element_of, number, shape_of
from sparsecc.dialects.nn_products import ConvIntegerOp, ConvOp, LinearOp, MatmulOp
from sparsecc.host.operator import ELEMENT_BYTES, Product, Window
from sparsecc.host.walk import Walk, broadcast_strides
from sparsecc.network.layout import Layout, features_first
from sparsecc.network.lower import Argument, Array, Lowering, Placed, Rule, csr_of, refuse

WHY = "the product needs its features outermost"


def _need_f32(op: Operation) -> None:
    if (found := element_of(op.operands[0])) != "f32":
        refuse(op, f"multiplies elements of {found}; compiling networks needs f32 there")


def add_bias(low: Lowering, y: SSAValue, bias: SSAValue) -> SSAValue:
    """y [M, ...] + bias [M]."""
    shape = cast(Tensor, y.type).get_shape()
    rows, columns = shape[0], math.prod(shape[1:])
    walk = Walk.of((rows, columns), (columns, 1), (columns, 1), (1, 0))
    return low.call("host_add_f32", [y, bias], shape, f32, walk=walk.table())


def _bias(low: Lowering, bias: SSAValue) -> SSAValue:
    placed = low.get(bias)
    return low.plain(placed, "the bias")


def of_constant(low: Lowering, weight: Array, x: Placed, axis: int) -> tuple[SSAValue, tuple[int, ...]]:
    """weight [M, K] times x summed over one axis: [M, others in their order in memory], and those axes."""
    others = tuple(a for a in x.layout.order if a != axis)
    columns = math.prod(x.layout.shape[a] for a in others)
    rows = low.ordered(x, (axis, *others), WHY)
    matrix = low.view(low.narrowed(rows), (x.layout.shape[axis], columns))
    return low.product(csr_of(weight), matrix), others


def linear(op: LinearOp, low: Lowering) -> Sequence[Placed]:
    _need_f32(op)
    weight, x = low.known(op.w), low.get(op.x)
    if weight is None:
        w = low.get(op.w)
        swapped = Placed(w.value, w.layout.transposed((1, 0)))
        (result,) = _host_matmul(op, low, x, swapped, shape_of(op.res))
        if op.b is None:
            return [result]
        walk = Walk.broadcast(shape_of(op.res), shape_of(op.b))
        y = low.call(
            "host_add_f32", [result.value, _bias(low, op.b)], shape_of(op.res), f32, walk=walk.table()
        )
        return [Placed(y, result.layout)]
    axis = len(x.layout.shape) - 1
    y, others = of_constant(low, weight, x, axis)
    if op.b is not None:
        y = add_bias(low, y, _bias(low, op.b))
    layout = Layout(shape_of(op.res), (axis, *others))
    return [Placed(low.view(y, layout.extents), layout)]


def matmul(op: MatmulOp, low: Lowering) -> Sequence[Placed]:
    _need_f32(op)
    a, b = low.known(op.a), low.known(op.b)
    shape = shape_of(op.res)
    if low.is_constant(op.b) and b is not None and b.ndim == 2 and len(shape_of(op.a)) >= 1:
        x = low.get(op.a)
        axis = len(x.layout.shape) - 1
        y, others = of_constant(low, b.T, x, axis)
        layout = Layout(shape, (axis, *others))
        return [Placed(low.view(y, layout.extents), layout)]
    if low.is_constant(op.a) and a is not None and a.ndim == 2 and len(shape_of(op.b)) >= 2:
        x = low.get(op.b)
        axis = len(x.layout.shape) - 2
        y, others = of_constant(low, a, x, axis)
        layout = Layout(shape, (axis, *others))
        return [Placed(low.view(y, layout.extents), layout)]
    left, right = low.get(op.a), low.get(op.b)
    # A vector is a matrix of one row or column.
    wide = shape
    if len(shape_of(op.b)) == 1:
        right, wide = Placed(right.value, Layout.plain((*shape_of(op.b), 1))), (*wide, 1)
    if len(shape_of(op.a)) == 1:
        left, wide = Placed(left.value, Layout.plain((1, *shape_of(op.a)))), (*wide[:-1], 1, *wide[-1:])
    (result,) = _host_matmul(op, low, left, right, wide)
    if wide == shape:
        return [result]
    layout = result.layout.reshaped(shape) or Layout.plain(shape)
    return [Placed(low.view(result.value, layout.extents), layout)]


def _host_matmul(
    op: Operation, low: Lowering, a: Placed, b: Placed, shape: tuple[int, ...]
) -> Sequence[Placed]:
    """Both factors are computed: any layout will do, since their strides are given."""
    layout, product, walk = computed_product(a, b, shape)
    y = low.call("host_matmul_f32", [a.value, b.value], layout.extents, f32, product=product, batch=walk)
    return [Placed(y, layout)]


def computed_product(a: Placed, b: Placed, shape: tuple[int, ...]) -> tuple[Layout, Product, list[int]]:
    """The layout of numpy's matmul of two values, the product of two matrices, and the walk over all."""
    rank = len(shape)
    (*batch_a, a_row, a_col), (*batch_b, b_row, b_col) = a.layout.strides, b.layout.strides
    # In the order of its right factor: what follows a mixing of features that lie outermost finds them there.
    layout = Layout(shape, b.layout.order) if len(b.layout.shape) == rank else Layout.plain(shape)
    steps = layout.strides
    k = a.layout.shape[-1]
    product = Product(shape[-2], shape[-1], k, steps[-2], steps[-1], a_row, a_col, b_row, b_col)

    def along(strides: Sequence[int], extents: Sequence[int]) -> list[int]:
        found = [0 if e == 1 else s for s, e in zip(strides, extents, strict=True)]
        return [0] * (rank - 2 - len(found)) + found

    walk = Walk.of(
        shape[:-2], steps[:-2], along(batch_a, a.layout.shape[:-2]), along(batch_b, b.layout.shape[:-2])
    )
    return layout, product, list(walk.table())


# ---- convolution


def window_of(
    outer: int, spatial: Sequence[int], inner: int, out: Sequence[int], kernel: Sequence[int],
    strides: Sequence[int], pads: Sequence[int], dilations: Sequence[int],
) -> Window:  # fmt: skip
    """Of one or two spatial axes; one is the width."""
    if len(spatial) == 1:
        spatial, out, kernel = (1, *spatial), (1, *out), (1, *kernel)
        strides, dilations, pads = (1, *strides), (1, *dilations), (0, pads[0], 0, pads[1])
    return Window(
        outer, spatial[0], spatial[1], inner, out[0], out[1], kernel[0], kernel[1],
        strides[0], strides[1], dilations[0], dilations[1], pads[0], pads[1], pads[2], pads[3],
    )  # fmt: skip


def _whole_weight(weight: Array, groups: int) -> Array:
    """The weight of a grouped convolution over all channels: its groups as blocks on the diagonal."""
    if groups == 1:
        return weight
    outputs, columns = weight.shape[0] // groups, weight.shape[1]
    whole = np.zeros((weight.shape[0], groups * columns), weight.dtype)
    for g in range(groups):
        rows = slice(g * outputs, (g + 1) * outputs)
        whole[rows, g * columns : (g + 1) * columns] = weight[rows]
    return whole


def conv(op: ConvOp, low: Lowering) -> Sequence[Placed]:
    _need_f32(op)
    weight, x = low.known(op.w), low.get(op.x)
    if weight is None:
        refuse(op, "its weight is computed at run time; make it a constant of the model")
    shape, v, rank = shape_of(op.res), op.windows, len(shape_of(op.res))
    if rank > 4:
        refuse(op, f"has {rank - 2} spatial axes; compiling networks takes 1 or 2")
    batch, channels, *spatial = x.layout.shape
    outputs, out, groups = shape[1], shape[2:], number(op.groups)
    layout = Layout(shape, features_first(rank))
    cube = low.ordered(x, features_first(rank), WHY)
    if groups == channels and groups > 1:
        # A product per channel is no work for the accelerator: one row of weights would use the unit.
        window = window_of(outputs, spatial, batch, out, v.kernel, v.strides, v.pads, v.dilations)
        parts = [cube, low.constant(weight, f32), *([] if op.b is None else [_bias(low, op.b)])]
        arguments: dict[str, Argument] = {
            "window": window, "channels": outputs, "multiplier": outputs // channels,
        }  # fmt: skip
        if op.b is None:
            arguments["bias"] = None
        y = low.call_with("host_depthwise_f32", parts, layout.extents, f32, arguments)
        return [Placed(y, layout)]
    matrix, weight = patches(op, low, low.narrowed(cube), weight, 0)
    y = (
        low.product(csr_of(weight), matrix)
        if weight.shape[1]
        else zeros(low, outputs, math.prod(out) * batch, f32)
    )
    if op.b is not None:
        y = add_bias(low, y, _bias(low, op.b))
    return [Placed(low.view(y, layout.extents), layout)]


def patches(
    op: ConvOp | ConvIntegerOp, low: Lowering, cube: SSAValue, weight: Array, fill: int
) -> tuple[SSAValue, Array]:
    """What a convolution multiplies: patches of the cube [C, spatial..., N], and the weight for all channels.

    Patches that no output uses are not made. fill: the bits of the padding.
    """
    v, (batch, channels, *spatial) = op.windows, shape_of(op.x)
    out = shape_of(op.res)[2:]
    weight = _whole_weight(weight, number(op.groups))
    columns = math.prod(out) * batch
    if math.prod(v.kernel) == 1 and set(v.strides) == {1} and not any(v.pads):
        return low.view(cube, (channels, columns)), weight
    window = window_of(channels, spatial, batch, out, v.kernel, v.strides, v.pads, v.dilations)
    used = np.flatnonzero(weight.any(axis=0))
    every = len(used) == channels * math.prod(v.kernel)
    matrix = low.call(
        f"host_im2col_{ELEMENT_BYTES[kind_of(cube)]}", [cube], (len(used), columns),
        cast(Tensor, cube.type).element_type, window=window,
        rows=None if every else [int(u) for u in used], count=len(used), fill=fill,
    )  # fmt: skip
    return matrix, weight[:, used]


def zeros(low: Lowering, rows: int, columns: int, element: Attribute) -> SSAValue:
    """The product with a weight of zeros, in elements of four bytes."""
    zero = low.constant(np.zeros((1, 1), np.float32), element)
    walk = Walk.of((rows, columns), (columns, 1), broadcast_strides((1, 1), (rows, columns)))
    return low.call("host_copy_4", [zero], (rows, columns), element, walk=walk.table())


RULES: dict[type[Operation], Rule] = {ConvOp: conv, LinearOp: linear, MatmulOp: matmul}
