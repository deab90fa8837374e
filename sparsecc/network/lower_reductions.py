"""Lowering of reductions, pooling and normalisation: along axes that lie one after the other in memory."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import Operation

from sparsecc.dialects.nn_base import ELEMENTS, flag, ints, number, shape_of, type_of
from sparsecc.dialects.nn_reductions import (
    ArgReduceOp,
    AveragePoolOp,
    BatchNormOp,
    LayerNormOp,
    MaxPoolOp,
    ReduceOp,
    SoftmaxOp,
)
from sparsecc.network.layout import Layout, features_first
from sparsecc.network.lower import Argument, Lowering, Placed, Rule, refuse
from sparsecc.network.lower_elementwise import host_kind, walked
from sparsecc.network.lower_products import window_of


def _together(
    op: Operation, low: Lowering, x: Placed, axes: Sequence[int]
) -> tuple[Placed, tuple[int, int, int]]:
    """The value with these axes one after the other, and its (outer, axes, inner) elements."""
    if (found := x.layout.around(axes)) is None:
        order = (*(a for a in x.layout.order if a not in axes), *axes)
        x = Placed(
            low.ordered(x, order, f"the {op.name.removeprefix('nn.')} needs its axes together"),
            x.layout.ordered(order),
        )
        found = x.layout.around(axes)
        assert found is not None
    return x, found


def _without(layout: Layout, axes: Sequence[int], keep: bool, shape: tuple[int, ...]) -> Layout:
    """The layout of a result in which the axes have one element, or are gone."""
    if keep:
        return Layout(shape, layout.order)
    kept = [a for a in range(len(layout.shape)) if a not in axes]
    place = {a: i for i, a in enumerate(kept)}
    return Layout(shape, tuple(place[a] for a in layout.order if a in place))


def reduce(op: ReduceOp, low: Lowering) -> Sequence[Placed]:
    given, shape = low.get(op.x), shape_of(op.res)
    axes = sorted(a % len(given.layout.shape) for a in ints(op.axes))
    if not axes:
        return [given]
    x, (outer, axis, inner) = _together(op, low, given, axes)
    layout = _without(x.layout, axes, flag(op.keep), shape)
    operator = f"host_reduce_{op.kind.data}_{host_kind(op, op.x)}"
    y = low.call(
        operator, [x.value], layout.extents, type_of(op.res).element_type, outer=outer, axis=axis, inner=inner
    )
    return [Placed(y, layout)]


def arg_reduce(op: ArgReduceOp, low: Lowering) -> Sequence[Placed]:
    x = low.get(op.x)
    along = number(op.axis) % len(x.layout.shape)
    x, (outer, axis, inner) = _together(op, low, x, [along])
    layout = _without(x.layout, [along], flag(op.keep), shape_of(op.res))
    if x.layout.shape[along] == 1:
        outer, axis, inner = outer, 1, inner
    operator = f"host_arg{op.kind.data}_{host_kind(op, op.x)}"
    y = low.call(
        operator, [x.value], layout.extents, ELEMENTS["i64"], outer=outer, axis=axis, inner=inner,
        last=int(flag(op.last)),
    )  # fmt: skip
    return [Placed(y, layout)]


def softmax(op: SoftmaxOp, low: Lowering) -> Sequence[Placed]:
    x, (outer, axis, inner) = _together(op, low, low.get(op.x), [number(op.axis) % len(shape_of(op.x))])
    name = "log_softmax" if flag(op.logarithm) else "softmax"
    y = low.call(
        f"host_{name}_{host_kind(op, op.x)}", [low.view(x.value, x.layout.extents)], x.layout.extents,
        type_of(op.res).element_type, outer=outer, axis=axis, inner=inner,
    )  # fmt: skip
    return [Placed(y, x.layout)]


def layer_norm(op: LayerNormOp, low: Lowering) -> Sequence[Placed]:
    shape = shape_of(op.x)
    first = number(op.axis) % len(shape)
    x, (outer, axis, inner) = _together(op, low, low.get(op.x), range(first, len(shape)))
    given = [op.scale, *([] if op.bias is None else [op.bias])]
    arguments: dict[str, Argument] = {
        "outer": outer, "axis": axis, "inner": inner, "epsilon": float(op.epsilon.value.data),
    }  # fmt: skip
    kind, element = host_kind(op, op.x), type_of(op.res).element_type
    if any(shape_of(p) != shape[first:] for p in given):
        # Of channels, say, and not of what is normalised.
        y = low.call_with(
            f"host_layer_norm_{kind}", [low.view(x.value, x.layout.extents)], x.layout.extents, element,
            {**arguments, "scale": None, "bias": None},
        )  # fmt: skip
        result = Placed(y, x.layout)
        for name, parameter in zip(("mul", "add"), given, strict=False):
            layout, walk = walked(low, [result, low.get(parameter)], shape)
            values = [result.value, low.get(parameter).value]
            y = low.call(f"host_{name}_{kind}", values, layout.extents, element, walk=walk.table())
            result = Placed(y, layout)
        return [result]
    parameters = [low.plain(low.get(p), "the parameters") for p in given]
    if op.bias is None:
        arguments["bias"] = None
    y = low.call_with(
        f"host_layer_norm_{kind}", [low.view(x.value, x.layout.extents), *parameters], x.layout.extents,
        element, arguments,
    )  # fmt: skip
    return [Placed(y, x.layout)]


def batch_norm(op: BatchNormOp, low: Lowering) -> Sequence[Placed]:
    x, (outer, axis, inner) = _together(op, low, low.get(op.x), [1])
    if x.layout.shape[1] == 1:
        outer, axis, inner = 1, 1, outer
    parameters = [low.plain(low.get(p), "the parameters") for p in op.operands[1:]]
    y = low.call(
        f"host_batch_norm_{host_kind(op, op.x)}", [low.view(x.value, x.layout.extents), *parameters],
        x.layout.extents, type_of(op.res).element_type, outer=outer, axis=axis, inner=inner,
        epsilon=float(op.epsilon.value.data),
    )  # fmt: skip
    return [Placed(y, x.layout)]


def _pool(
    op: MaxPoolOp | AveragePoolOp, low: Lowering, name: str, more: dict[str, Argument]
) -> Sequence[Placed]:
    x, rank = low.get(op.x), len(shape_of(op.x))
    if rank not in (3, 4):
        refuse(op, f"has {rank - 2} spatial axes; compiling networks takes 1 or 2")
    found = x.layout.around(range(2, rank))
    spatial_first = [a for a in x.layout.order if a > 1]
    if found is None or spatial_first != list(range(2, rank)) or 1 in x.layout.shape[2:]:
        order = features_first(rank)
        x = Placed(
            low.ordered(x, order, "the windows need height and width together"), x.layout.ordered(order)
        )
        found = x.layout.shape[1], 0, x.layout.shape[0]
    outer, _, inner = found
    v, layout = op.windows, Layout(shape_of(op.res), x.layout.order)
    window = window_of(
        outer, x.layout.shape[2:], inner, layout.shape[2:], v.kernel, v.strides, v.pads, v.dilations
    )
    operator = f"host_{name}_{host_kind(op, op.x)}"
    element = type_of(op.res).element_type
    y = low.call_with(operator, [x.value], layout.extents, element, {"window": window, **more})
    return [Placed(y, layout)]


def max_pool(op: MaxPoolOp, low: Lowering) -> Sequence[Placed]:
    return _pool(op, low, "max_pool", {})


def average_pool(op: AveragePoolOp, low: Lowering) -> Sequence[Placed]:
    return _pool(op, low, "average_pool", {"count_padding": int(flag(op.count_padding))})


RULES: dict[type[Operation], Rule] = {
    ArgReduceOp: arg_reduce,
    AveragePoolOp: average_pool,
    BatchNormOp: batch_norm,
    LayerNormOp: layer_norm,
    MaxPoolOp: max_pool,
    ReduceOp: reduce,
    SoftmaxOp: softmax,
}
