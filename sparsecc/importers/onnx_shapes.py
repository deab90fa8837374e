"""ONNX operators that make constants and compute types and shapes, which are folded."""

from __future__ import annotations

import math

import numpy as np

from sparsecc.dialects.nn_elementwise import AddOp, EqualOp, LessOp, WhereOp
from sparsecc.importers.emitter import as_element, broadcast, reshaped
from sparsecc.importers.onnx_graph import Graph, Handler, Node, Results
from sparsecc.importers.onnx_layout import axis_of
from sparsecc.importers.onnx_proto import element_name
from sparsecc.importers.values import Value
from sparsecc.nn import shapes


def cast(node: Node) -> Results:
    x = node.value(0)
    return as_element(node, x, element_name(node.integer("to"), f"{node.where}, attribute to"))


def cast_like(node: Node) -> Results:
    return as_element(node, node.value(0), node.value(1).element)


def constant(node: Node) -> Results:
    if node.has("value"):
        return Value.of(node.tensor("value"))
    if node.has("sparse_value"):
        return Value.of(node.sparse_tensor("sparse_value"))
    if node.has("value_int"):
        return Value.array(node.integer("value_int"), "i64")
    if node.has("value_ints"):
        return Value.array(node.integers("value_ints"), "i64")
    if node.has("value_float"):
        return Value.array(node.real("value_float", 0.0), "f32")
    if node.has("value_floats"):
        return Value.array(np.array(node.reals("value_floats")), "f32")
    node.fail("it has no value of numbers")


def constant_of_shape(node: Node) -> Results:
    shape = node.known_ints(0)
    value = Value.of(node.tensor("value")) if node.has("value") else Value.array([0], "f32")
    if value.shape not in ((1,), ()):
        node.fail(f"attribute value has shape {list(value.shape)}; needed one element")
    return broadcast(node, reshaped(node, value, ()), shape)


def shape(node: Node) -> Results:
    extents = node.value(0).shape
    end = node.integer("end", len(extents))
    return Value.array(list(extents[node.integer("start", 0) : end]), "i64")


def size(node: Node) -> Results:
    return Value.array(math.prod(node.value(0).shape), "i64")


def range_(node: Node) -> Results:
    start, limit, delta = (node.scalar(i) for i in range(3))
    count = math.ceil((limit - start) / delta) if delta and math.isfinite((limit - start) / delta) else -1
    if not delta or count > shapes.MAX_ELEMENTS >> 8:
        node.fail(f"a range from {start} to {limit} by {delta} has no end, or is too long")
    values = [start + i * delta for i in range(max(0, count))]
    return Value.array(np.array(values), node.value(0).element)


def nonzero(node: Node) -> Results:
    return Value.array(np.array(np.nonzero(node.known(0))), "i64")


def one_hot(node: Node) -> Results:
    indices, depth = node.value(0), int(node.scalar(1))
    off, on = (Value.array(v, node.value(2).element) for v in node.known(2).ravel()[:2])
    if depth < 0 or depth > shapes.MAX_ELEMENTS >> 8:
        node.fail(f"the depth is {depth}")
    axis = node.integer("axis", -1)
    axis = axis_of(node, axis, indices.rank + 1)
    index = as_element(node, indices, "i64")
    negative = node.emit(LessOp, index, Value.array(0, "i64"))
    index = node.emit(WhereOp, negative, node.emit(AddOp, index, Value.array(depth, "i64")), index)
    places = Value.array(np.arange(depth).reshape([-1] + [1] * (indices.rank - axis)), "i64")
    spread = reshaped(node, index, (*indices.shape[:axis], 1, *indices.shape[axis:]))
    return node.emit(WhereOp, node.emit(EqualOp, spread, places), on, off)


def conditional(node: Node) -> Results:
    """Only the branch that a constant condition takes."""
    branch = node.subgraph("then_branch" if bool(node.scalar(0)) else "else_branch")
    inner: Graph = node.graph.inside(f"{node.proto.name or 'If'}/", node.graph.opsets, node.graph.scope)
    inner.add_initializers(branch)
    return inner.run(branch.node, [o.name for o in branch.output])


HANDLERS: dict[str, Handler] = {
    "Cast": cast,
    "CastLike": cast_like,
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "If": conditional,
    "NonZero": nonzero,
    "OneHot": one_hot,
    "Range": range_,
    "Shape": shape,
    "Size": size,
}
