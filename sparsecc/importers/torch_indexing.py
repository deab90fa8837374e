"""Operators of torch that take elements by index, and those that choose them by place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sparsecc.dialects import nn_elementwise as ew
from sparsecc.dialects.nn_layout import GatherOp
from sparsecc.importers.emitter import as_element, reshaped
from sparsecc.importers.torch_graph import Handler, Node, Results
from sparsecc.importers.values import Value


def _checked(node: Node, indices: Value, extent: int) -> Value:
    """Indices as the gather takes them. Constant ones must lie inside the axis."""
    if indices.constant is not None:
        found = indices.constant.array()
        if found.size and not (-extent <= found.min() and found.max() < extent):
            node.fail(f"indices {found.min()} to {found.max()} are outside an axis of {extent} elements")
    return indices if indices.element in ("i32", "i64") else as_element(node, indices, "i64")


def embedding(node: Node) -> Results:
    w = node.value("weight")
    return node.emit(GatherOp, w, _checked(node, node.value("indices"), w.shape[0]), axis=0)


def index_select(node: Node) -> Results:
    x = node.value("self")
    axis = node.axis(node.integer("dim"), x.rank)
    indices = _checked(node, node.value("index"), x.shape[axis])
    return node.emit(GatherOp, x, reshaped(node, indices, (math.prod(indices.shape),)), axis=axis)


def index(node: Node) -> Results:
    """x[i, :, j]: one index, or several for neighbouring axes, which broadcast to one."""
    x, given = node.value("self"), node.given["indices"]
    axes = [i for i, v in enumerate(given) if v is not None]
    if not axes or axes != list(range(axes[0], axes[-1] + 1)):
        node.fail("indices of axes that are not neighbours are not supported", "select one after the other")
    found = [node.graph.scope.get(given[a], given[a]) for a in axes]
    if len(found) == 1 and found[0].element in ("i1", "ui8"):
        if found[0].constant is None or found[0].rank != 1:
            node.fail("a mask as an index makes a shape that is not known when compiling")
        found = [Value.array(np.flatnonzero(found[0].constant.array()), "i64")]
    extents = [x.shape[a] for a in axes]
    linear = as_element(node, _checked(node, found[0], extents[0]), "i64")
    if len(found) > 1:
        linear = _from_front(node, linear, extents[0])
    for one, extent in zip(found[1:], extents[1:], strict=True):
        at = _from_front(node, as_element(node, _checked(node, one, extent), "i64"), extent)
        linear = node.emit(ew.AddOp, node.emit(ew.MulOp, linear, Value.array(extent, "i64")), at)
    first, last = axes[0], axes[-1] + 1
    joined = reshaped(node, x, (*x.shape[:first], math.prod(extents), *x.shape[last:]))
    return node.emit(GatherOp, joined, linear, axis=first)


def _from_front(node: Node, indices: Value, extent: int) -> Value:
    """Indices that count from the end, counted from the front."""
    negative = node.emit(ew.LessOp, indices, Value.array(0, "i64"))
    return node.emit(ew.WhereOp, negative, node.emit(ew.AddOp, indices, Value.array(extent, "i64")), indices)


def _triangle(upper: bool) -> Handler:
    def handler(node: Node) -> Results:
        x, offset = node.value("self"), node.integer("diagonal", 0)
        rows, columns = np.arange(x.shape[-2])[:, None], np.arange(x.shape[-1])
        kept = Value.array(columns - rows >= offset if upper else columns - rows <= offset, "i1")
        if x.element == "i1":
            return node.emit(ew.AndOp, x, kept)
        return node.emit(ew.WhereOp, kept, x, Value.array(0, x.element))

    return handler


def _nearest(axes: int, exact: bool) -> Handler:
    """Each axis by a gather; places as torch computes them, in f32."""

    def handler(node: Node) -> Results:
        x = node.value("input" if "input" in node.given else "self")
        factors: list[Any] = list(node.given.get("scale_factors") or [None] * axes)
        if "scale_factors" not in node.given:
            names = ["scales"] if axes == 1 else [["scales_d"], []][axes == 2] + ["scales_h", "scales_w"]
            factors = [node.given.get(name) for name in names]
        sizes = node.integers("output_size", ())
        for i in range(axes):
            axis = 2 + i
            extent = x.shape[axis]
            size = sizes[i] if sizes else math.floor(extent * float(factors[i]))
            by = np.float32(1 / factors[i]) if factors[i] else np.float32(extent) / np.float32(size)
            places = np.arange(size, dtype=np.float32) + np.float32(0.5 if exact else 0)
            at = np.minimum(np.floor(places * by).astype(np.int64), extent - 1)
            if not np.array_equal(at, np.arange(extent)):
                x = node.emit(GatherOp, x, Value.array(at, "i64"), axis=axis)
        return x

    return handler


HANDLERS: dict[str, Handler] = {
    "_upsample_nearest_exact1d": _nearest(1, True),
    "_upsample_nearest_exact2d": _nearest(2, True),
    "_upsample_nearest_exact3d": _nearest(3, True),
    "embedding": embedding,
    "index": index,
    "index_select": index_select,
    "tril": _triangle(False),
    "triu": _triangle(True),
    "upsample_nearest1d": _nearest(1, False),
    "upsample_nearest2d": _nearest(2, False),
    "upsample_nearest3d": _nearest(3, False),
}
