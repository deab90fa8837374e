"""Operators of torch that reduce or normalise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sparsecc.dialects import nn_elementwise as ew
from sparsecc.dialects.nn_base import FLOATS, NnOp
from sparsecc.dialects.nn_products import LinearOp
from sparsecc.dialects.nn_reductions import ArgReduceOp, BatchNormOp, LayerNormOp, ReduceOp, SoftmaxOp
from sparsecc.importers.emitter import as_element, reshaped
from sparsecc.importers.torch_graph import Handler, Node, Results
from sparsecc.importers.torch_layout import swapped
from sparsecc.importers.torch_math import number
from sparsecc.importers.values import Value


def _reduce(node: Node, x: Value, kind: str, axes: Sequence[int], keep: bool) -> Value:
    return node.emit(ReduceOp, x, kind=kind, axes=list(axes), keep=keep) if axes else x


def _sum_of(kind: str) -> Handler:
    """Sum, mean and product, in the type of the result."""

    def handler(node: Node) -> Results:
        x = as_element(node, node.value("self"), node.element)
        return _reduce(node, x, kind, node.axes("dim", x.rank), node.flag("keepdim"))

    return handler


def _most(kind: str) -> Handler:
    """amax, and max: of a tensor, of two, or with its places along an axis."""

    def handler(node: Node) -> Results:
        x = node.value("self")
        if node.has("other"):
            y = as_element(node, node.value("other"), x.element)
            return node.emit(ew.MaxOp if kind == "max" else ew.MinOp, x, y)
        if not node.node.target._schema.name.endswith(("amax", "amin")) and node.has("dim"):
            axis, keep = node.axis(node.integer("dim"), x.rank), node.flag("keepdim")
            places = node.emit(ArgReduceOp, x, kind=kind, axis=axis, keep=keep, last=False)
            return [_reduce(node, x, kind, [axis], keep), places]
        return _reduce(node, x, kind, node.axes("dim", x.rank), node.flag("keepdim"))

    return handler


def _arg(kind: str) -> Handler:
    def handler(node: Node) -> Results:
        x = node.value("self")
        if node.has("dim"):
            axis = node.axis(node.integer("dim"), x.rank)
            return node.emit(ArgReduceOp, x, kind=kind, axis=axis, keep=node.flag("keepdim"), last=False)
        flat = reshaped(node, x, (math.prod(x.shape),))
        return node.emit(ArgReduceOp, flat, kind=kind, axis=0, keep=False, last=False)

    return handler


def _truth(kind: str) -> Handler:
    """any and all, as the largest or smallest of bytes."""

    def handler(node: Node) -> Results:
        x = as_element(node, as_element(node, node.value("self"), "i1"), "ui8")
        y = _reduce(node, x, kind, node.axes("dim", x.rank), node.flag("keepdim"))
        return as_element(node, y, "i1")

    return handler


def _variance(node: Node, x: Value, axes: Sequence[int], correction: float, keep: bool) -> Value:
    mean = _reduce(node, x, "mean", axes, True)
    apart = node.emit(ew.SubOp, x, mean)
    total = _reduce(node, node.emit(ew.MulOp, apart, apart), "sum", axes, keep)
    return node.emit(ew.DivOp, total, number(math.prod(x.shape[a] for a in axes) - correction, x))


def _correction(node: Node) -> float:
    if "unbiased" in node.given:
        return 1.0 if node.given["unbiased"] else 0.0
    return node.number("correction", 1)


def var(node: Node) -> Results:
    x = node.value("self")
    return _variance(node, x, node.axes("dim", x.rank), _correction(node), node.flag("keepdim"))


def std(node: Node) -> Results:
    x = node.value("self")
    found = _variance(node, x, node.axes("dim", x.rank), _correction(node), node.flag("keepdim"))
    return node.emit(ew.SqrtOp, found)


def var_mean(node: Node) -> Results:
    x = node.value("self")
    axes, keep = node.axes("dim", x.rank), node.flag("keepdim")
    return [_variance(node, x, axes, _correction(node), keep), _reduce(node, x, "mean", axes, keep)]


def vector_norm(node: Node) -> Results:
    x, order = as_element(node, node.value("self"), node.element), node.number("ord", 2)
    axes, keep = node.axes("dim", x.rank), node.flag("keepdim")
    if order == 2:
        return node.emit(ew.SqrtOp, _reduce(node, node.emit(ew.MulOp, x, x), "sum", axes, keep))
    if order not in (1, math.inf, -math.inf):
        node.fail(f"the norm of order {order} is not supported; 1, 2 and infinity are")
    kind = "sum" if order == 1 else "max" if order > 0 else "min"
    return _reduce(node, node.emit(ew.AbsOp, x), kind, axes, keep)


def log_sum_exp(node: Node) -> Results:
    """With the largest element taken out, so that no power overflows."""
    x = node.value("self")
    axes, keep = node.axes("dim", x.rank), node.flag("keepdim")
    most = _reduce(node, x, "max", axes, True)
    total = _reduce(node, node.emit(ew.ExpOp, node.emit(ew.SubOp, x, most)), "sum", axes, keep)
    return node.emit(ew.AddOp, node.emit(ew.LogOp, total), reshaped(node, most, total.shape))


def cumsum(node: Node) -> Results:
    """Of what is known, or a product with a triangle of ones."""
    x = as_element(node, node.value("self"), node.element)
    axis = node.axis(node.integer("dim"), x.rank)
    if x.constant is not None:
        array = x.constant.array()
        return Value.array(np.cumsum(array, axis, dtype=array.dtype) if x.rank else array, x.element)
    if x.element not in FLOATS:
        node.fail("running sums of integers known at run time only are not supported")
    ones = Value.array(np.tril(np.ones((x.shape[axis], x.shape[axis]))), x.element)
    last = swapped(node, x, axis, -1)
    return swapped(node, node.emit(LinearOp, last, ones, weights=[1]), axis, -1)


# ---- normalisation


def _softmax(logarithm: bool) -> Handler:
    def handler(node: Node) -> Results:
        x = as_element(node, node.value("self"), node.element)
        return node.emit(SoftmaxOp, x, axis=node.axis(node.integer("dim"), x.rank), logarithm=logarithm)

    return handler


def _parameter(node: Node, name: str, shape: Sequence[int], default: int, like: Value) -> Value:
    """A learned factor or summand; without one, what changes nothing."""
    return node.optional(name) or Value.array(np.full(shape, default), like.element)


def layer_norm(node: Node) -> Results:
    x = node.value("input")
    inner = node.integers("normalized_shape")
    y = node.emit(
        LayerNormOp, x, _parameter(node, "weight", inner, 1, x), node.optional("bias"),
        axis=x.rank - len(inner), epsilon=float(node.number("eps", 1e-5)),
    )  # fmt: skip
    return [y, None, None] if node.node.target._schema.name.endswith("native_layer_norm") else y


def rms_norm(node: Node) -> Results:
    x = node.value("input")
    inner = node.integers("normalized_shape")
    axes = list(range(x.rank - len(inner), x.rank))
    mean = _reduce(node, node.emit(ew.MulOp, x, x), "mean", axes, True)
    # Without an epsilon, torch takes the one of the type.
    epsilon = node.number("eps", float(np.finfo(np.float16 if x.element == "f16" else np.float32).eps))
    root = node.emit(ew.SqrtOp, node.emit(ew.AddOp, mean, number(epsilon, x)))
    y = node.emit(ew.DivOp, x, root)
    weight = node.optional("weight")
    return y if weight is None else node.emit(ew.MulOp, y, weight)


def batch_norm(node: Node) -> Results:
    x = node.value("input")
    if node.flag("training") or not node.has("running_mean"):
        node.fail(
            "batch norm with the statistics of the batch is not supported",
            "call eval() on the model before exporting it",
        )
    shape = (x.shape[1] if x.rank > 1 else 1,)
    y = node.emit(
        BatchNormOp, x, _parameter(node, "weight", shape, 1, x), _parameter(node, "bias", shape, 0, x),
        node.value("running_mean"), node.value("running_var"), epsilon=float(node.number("eps", 1e-5)),
    )  # fmt: skip
    return y if node.node.target._schema.name.endswith("::batch_norm") else [y, None, None, None, None]


def _grouped(node: Node, x: Value, groups: int) -> Value:
    """Each group of channels normalised, then scaled by channel."""
    n, c = x.shape[:2]
    flat = reshaped(node, x, (n, groups, math.prod(x.shape[1:]) // groups))
    one = Value.array(np.ones(flat.shape[-1]), x.element)
    y = node.emit(LayerNormOp, flat, one, None, axis=2, epsilon=float(node.number("eps", 1e-5)))
    y = reshaped(node, y, x.shape)
    kinds: list[tuple[str, type[NnOp]]] = [("weight", ew.MulOp), ("bias", ew.AddOp)]
    for name, kind in kinds:
        if (given := node.optional(name)) is not None:
            y = node.emit(kind, y, reshaped(node, given, (c, *[1] * (x.rank - 2))))
    return y


def group_norm(node: Node) -> Results:
    y = _grouped(
        node, node.value("input"), node.integer("num_groups" if "num_groups" in node.given else "group")
    )
    return [y, None, None] if node.node.target._schema.name.endswith("native_group_norm") else y


def instance_norm(node: Node) -> Results:
    if not node.flag("use_input_stats"):
        return batch_norm(node)
    x = node.value("input")
    return _grouped(node, x, x.shape[1])


HANDLERS: dict[str, Handler] = {
    "_log_softmax": _softmax(True),
    "_native_batch_norm_legit_no_training": batch_norm,
    "_softmax": _softmax(False),
    "all": _truth("min"),
    "amax": _most("max"),
    "amin": _most("min"),
    "any": _truth("max"),
    "argmax": _arg("max"),
    "argmin": _arg("min"),
    "batch_norm": batch_norm,
    "cumsum": cumsum,
    "group_norm": group_norm,
    "instance_norm": instance_norm,
    "layer_norm": layer_norm,
    "linalg_vector_norm": vector_norm,
    "log_softmax": _softmax(True),
    "logsumexp": log_sum_exp,
    "max": _most("max"),
    "mean": _sum_of("mean"),
    "min": _most("min"),
    "native_group_norm": group_norm,
    "native_layer_norm": layer_norm,
    "prod": _sum_of("prod"),
    "rms_norm": rms_norm,
    "softmax": _softmax(False),
    "std": std,
    "sum": _sum_of("sum"),
    "var": var,
    "var_mean": var_mean,
}
