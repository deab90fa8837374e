"""Named operations of `linalg`, and operations of `tensor`, as operations on tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from xdsl.dialects import tensor
from xdsl.dialects.arith import ConstantOp
from xdsl.dialects.linalg import ops as linalg

from sparsecc.dialects import nn_elementwise as ew
from sparsecc.dialects.nn_layout import ConcatOp, PadOp
from sparsecc.dialects.nn_products import ConvOp
from sparsecc.dialects.nn_reductions import AveragePoolOp, MaxPoolOp
from sparsecc.importers.emitter import as_matrix, broadcast, reshaped, sliced, transposed
from sparsecc.importers.mlir_body import constant
from sparsecc.importers.mlir_generic import matmul, neutral
from sparsecc.importers.values import Value

if TYPE_CHECKING:
    from sparsecc.importers.mlir_text import Node

Handler = Callable[["Node", Any], Value | None]


def empty(node: Node, op: tensor.EmptyOp) -> None:
    """Nothing is known of it; what is written into it is."""


def fill(node: Node, op: linalg.FillOp) -> Value:
    shape = cast(Any, op.outputs[0].type).get_shape()
    if min(shape, default=0) < 0:
        owner = op.outputs[0].owner
        if not isinstance(owner, tensor.EmptyOp):
            node.fail("it fills a tensor of an open shape", "give static shapes")
        shape = node.extents(shape, list(owner.dynamic_sizes))
    return broadcast(node, node.value(op.inputs[0]), shape)


def copy(node: Node, op: linalg.CopyOp) -> Value:
    return node.value(op.inputs[0])


def broadcast_(node: Node, op: linalg.BroadcastOp) -> Value:
    """Axes named by `dimensions` are new."""
    x, new = node.value(op.input), [int(d) for d in op.dimensions.get_values()]
    shape = cast(Any, op.init.type).get_shape()
    old = iter(x.shape)
    return broadcast(
        node, reshaped(node, x, [1 if i in new else next(old) for i in range(len(shape))]), shape
    )


def transpose(node: Node, op: linalg.TransposeOp) -> Value:
    return transposed(node, node.value(op.inputs[0]), [int(d) for d in op.permutation.get_values()])


def product(node: Node, op: Any) -> Value:
    a, b = (node.value(v) for v in op.inputs)
    if op.name == "linalg.matmul" and str(op.indexing_maps) != str(_plain_maps()):
        node.fail(
            "its maps are not those of a plain product", "generalise it with linalg-generalize-named-ops"
        )
    return matmul(node, a, b, node.init(op.outputs[0]))


def _plain_maps() -> Any:
    from xdsl.dialects.builtin import AffineMapAttr, ArrayAttr
    from xdsl.ir.affine import AffineMap

    maps = [lambda i, _, k: (i, k), lambda _, j, k: (k, j), lambda i, j, _: (i, j)]  # pyright: ignore[reportUnknownLambdaType, reportUnknownVariableType]
    return ArrayAttr([AffineMapAttr(AffineMap.from_callable(m)) for m in maps])  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _numbers(attribute: Any, rank: int) -> list[int]:
    return [int(v) for v in attribute.get_values()] if attribute is not None else [1] * rank


def _convolved(node: Node, op: Any, x: Value, w: Value, kernel: list[int], groups: int) -> Value:
    """The weight as [M, C / groups, kernel...]; what the result begins with is a bias, or is added."""
    rank = len(kernel)
    init = node.init(op.outputs[0])
    bias = None
    if init is not None and init.constant is not None and not neutral("sum", init):
        array = init.constant.array()
        first = array.reshape(array.shape[0], w.shape[0], -1)[0, :, 0]
        if (array == first.reshape(1, -1, *[1] * rank)).all():
            bias, init = Value.array(first, init.element), None
    y = node.emit(
        ConvOp, x, as_matrix(node, w), bias, weights=[1], kernel=kernel, strides=_numbers(op.strides, rank),
        pads=[0] * (2 * rank), dilations=_numbers(op.dilations, rank), groups=groups,
    )  # fmt: skip
    return y if init is None or neutral("sum", init) else node.emit(ew.AddOp, init, y)


def conv(node: Node, op: Any) -> Value:
    x, w = (node.value(v) for v in op.inputs)
    return _convolved(node, op, x, w, list(w.shape[2:]), 1)


def depthwise(node: Node, op: Any) -> Value:
    x, w = (node.value(v) for v in op.inputs)
    w = reshaped(node, w, (w.shape[0], 1, *w.shape[1:]))
    return _convolved(node, op, x, w, list(w.shape[2:]), x.shape[1])


def grouped(node: Node, op: Any) -> Value:
    """x [N, G, C, spatial...], w [G, F, C, kernel...] -> [N, G, F, spatial...]."""
    x, w = (node.value(v) for v in op.inputs)
    init = node.init(op.outputs[0])
    if init is not None and not neutral("sum", init):
        node.fail("it adds to what is there; only to zeros is supported")
    n, g = x.shape[:2]
    kernel = list(w.shape[3:])
    y = node.emit(
        ConvOp, reshaped(node, x, (n, g * x.shape[2], *x.shape[3:])),
        reshaped(node, w, (g * w.shape[1], math.prod(w.shape[2:]))), None, weights=[1], kernel=kernel,
        strides=_numbers(op.strides, 2), pads=[0] * 4, dilations=_numbers(op.dilations, 2), groups=g,
    )  # fmt: skip
    return reshaped(node, y, (n, g, w.shape[1], *y.shape[2:]))


def pool(node: Node, op: Any) -> Value:
    x = node.value(op.inputs[0])
    kernel = list(op.inputs[1].type.get_shape())
    windows: dict[str, Any] = {
        "kernel": kernel, "strides": _numbers(op.strides, 2), "pads": [0] * 4,
        "dilations": _numbers(op.dilations, 2), "ceil_mode": False,
    }  # fmt: skip
    kind = "max" if op.name.endswith("max") else "sum"
    init = node.init(op.outputs[0])
    if kind == "max":
        y = node.emit(MaxPoolOp, x, **windows)
    else:
        mean = node.emit(AveragePoolOp, x, count_padding=True, **windows)
        y = node.emit(ew.MulOp, mean, Value.array(math.prod(kernel), mean.element))
    if init is None or neutral(kind, init):
        return y
    return node.emit(ew.MaxOp if kind == "max" else ew.AddOp, init, y)


_NAMED = {
    "linalg.add": ew.AddOp, "linalg.exp": ew.ExpOp, "linalg.log": ew.LogOp, "linalg.max": ew.MaxOp,
    "linalg.min": ew.MinOp, "linalg.mul": ew.MulOp, "linalg.sqrt": ew.SqrtOp, "linalg.sub": ew.SubOp,
}  # fmt: skip


def elementwise(node: Node, op: Any) -> Value:
    return node.emit(_NAMED[op.name], *(node.value(v) for v in op.inputs))


# ---- tensor


def cast_(node: Node, op: tensor.CastOp) -> Value:
    return node.value(op.source)


def dim(node: Node, op: tensor.DimOp) -> Value:
    return Value.array(node.value(op.source).shape[node.number(op.index)], "i64")


def _groups(op: Any) -> list[list[int]]:
    return [[int(i.value.data) for i in group] for group in op.reassociation]


def collapse(node: Node, op: tensor.CollapseShapeOp) -> Value:
    x = node.value(op.src)
    return reshaped(node, x, [math.prod(x.shape[i] for i in group) for group in _groups(op)])


def expand(node: Node, op: tensor.ExpandShapeOp) -> Value:
    static = [int(v) for v in op.static_output_shape.get_values()]
    return reshaped(node, node.value(op.src), node.extents(static, op.dynamic_output_shape))


def pad(node: Node, op: tensor.PadOp) -> Value:
    last = op.region.block.last_op
    assert last is not None
    inner = last.operands[0].owner
    found = constant(inner) if isinstance(inner, ConstantOp) else node.init(last.operands[0])
    if found is None or found.constant is None:
        node.fail("it pads with what its body computes", "pad with a constant")
    low = node.extents([int(v) for v in op.static_low.get_values()], op.low)
    high = node.extents([int(v) for v in op.static_high.get_values()], op.high)
    x = node.value(op.source)
    value = float(found.constant.array())
    if math.isinf(value):
        # In front of a maximum, the lowest finite number does the same.
        value = math.copysign(float(np.finfo(np.float32).max), value)
    return node.emit(PadOp, x, low=low, high=high, mode="constant", value=value)


def _slice(node: Node, op: Any) -> tuple[list[int], list[int], list[int]]:
    lists = [
        node.extents([int(v) for v in static.get_values()], dynamic)
        for static, dynamic in (
            (op.static_offsets, op.offsets), (op.static_sizes, op.sizes), (op.static_strides, op.strides),
        )
    ]  # fmt: skip
    return lists[0], lists[1], lists[2]


def extract_slice(node: Node, op: tensor.ExtractSliceOp) -> Value:
    offsets, sizes, strides = _slice(node, op)
    taken = sliced(node, node.value(op.source), offsets, sizes, strides)
    shape = [s if s >= 0 else -1 for s in cast(Any, op.result.type).get_shape()]
    if len(shape) == taken.rank:
        return taken
    # Axes of one element may be left out.
    if -1 in shape:
        node.fail("it drops axes of an open shape", "give static shapes")
    return reshaped(node, taken, shape)


def insert_slice(node: Node, op: tensor.InsertSliceOp) -> Value:
    """One axis at a time: what is before, the part, what is after."""
    offsets, sizes, strides = _slice(node, op)
    if any(s != 1 for s in strides):
        node.fail("it writes to every other element", "write neighbouring ones")
    new = reshaped(node, node.value(op.source), sizes)
    whole = node.init(op.dest)
    full = list(cast(Any, op.dest.type).get_shape()) if whole is None else list(whole.shape)
    for axis in range(len(full))[::-1]:
        if sizes[axis] == full[axis]:
            continue
        if whole is None:
            whole = broadcast(node, Value.array(0, new.element), full)
        low = list(offsets)
        extents = [full[i] if i > axis else sizes[i] for i in range(len(full))]
        low[axis + 1 :] = [0] * (len(full) - axis - 1)
        pieces: list[Value] = []
        for start, size in ((0, offsets[axis]), (None, 0), (offsets[axis] + sizes[axis], None)):
            if start is None:
                pieces.append(new)
                continue
            count = full[axis] - start if size is None else size
            if count:
                at, many = list(low), list(extents)
                at[axis], many[axis] = start, count
                pieces.append(sliced(node, whole, at, many, [1] * len(full)))
        new = pieces[0] if len(pieces) == 1 else node.emit(ConcatOp, *pieces, axis=axis)
    return new


def concat(node: Node, op: tensor.ConcatOp) -> Value:
    parts = [node.value(v) for v in op.inputs]
    return node.emit(ConcatOp, *parts, axis=op.dim.value.data)


def splat(node: Node, op: tensor.SplatOp) -> Value:
    return broadcast(node, node.value(op.input), cast(Any, op.result.type).get_shape())


def extract(node: Node, op: tensor.ExtractOp) -> Value:
    """One element."""
    x = node.value(op.tensor)
    taken = sliced(node, x, [node.number(i) for i in op.indices], [1] * x.rank, [1] * x.rank)
    return reshaped(node, taken, ())


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(_NAMED, elementwise),
    "linalg.batch_matmul": product,
    "linalg.broadcast": broadcast_,
    "linalg.conv_1d_ncw_fcw": conv,
    "linalg.conv_2d_nchw_fchw": conv,
    "linalg.conv_2d_ngchw_gfchw": grouped,
    "linalg.copy": copy,
    "linalg.depthwise_conv_2d_nchw_chw": depthwise,
    "linalg.fill": fill,
    "linalg.matmul": product,
    "linalg.pooling_nchw_max": pool,
    "linalg.pooling_nchw_sum": pool,
    "linalg.transpose": transpose,
    "tensor.cast": cast_,
    "tensor.collapse_shape": collapse,
    "tensor.concat": concat,
    "tensor.dim": dim,
    "tensor.empty": empty,
    "tensor.expand_shape": expand,
    "tensor.extract": extract,
    "tensor.extract_slice": extract_slice,
    "tensor.insert_slice": insert_slice,
    "tensor.pad": pad,
    "tensor.splat": splat,
}
