"""Operators of torch that make constants, and numbers from what is known."""

from __future__ import annotations

import numpy as np

from sparsecc.importers.emitter import broadcast
from sparsecc.importers.torch_graph import Handler, Node, Results
from sparsecc.importers.values import Value


def empty(node: Node) -> Results:
    """Zeros: what is written into it comes after."""
    return broadcast(node, Value.array(0, node.element), node.integers("size"))


def full(node: Node) -> Results:
    shape = node.integers("size")
    return broadcast(node, Value.array(node.number("fill_value"), node.element), shape)


def _filled(value: int) -> Handler:
    return lambda node: broadcast(node, Value.array(value, node.element), node.integers("size"))


def _filled_like(value: int | None) -> Handler:
    def handler(node: Node) -> Results:
        fill = node.number("fill_value") if value is None else value
        return broadcast(node, Value.array(fill, node.element), node.value("self").shape)

    return handler


def arange(node: Node) -> Results:
    start, end, step = node.number("start", 0), node.number("end"), node.number("step", 1)
    return Value.array(np.arange(start, end, step), node.element)


def scalar_tensor(node: Node) -> Results:
    return Value.array(node.number("s"), node.element)


def sym_size(node: Node) -> Results:
    x = node.value("self")
    return x.shape[node.axis(node.integer("dim"), x.rank)]


def item(node: Node) -> Results:
    return node.number("self")


HANDLERS: dict[str, Handler] = {
    "_local_scalar_dense": item,
    "arange": arange,
    "empty": empty,
    "full": full,
    "full_like": _filled_like(None),
    "ones": _filled(1),
    "ones_like": _filled_like(1),
    "scalar_tensor": scalar_tensor,
    "sym_size": sym_size,
    "zeros": _filled(0),
    "zeros_like": _filled_like(0),
}
