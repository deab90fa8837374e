"""ONNX's recurrent layers: each direction becomes an operation with matrices of weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from xdsl.dialects.builtin import ArrayAttr, StringAttr

from sparsecc.dialects.nn_base import Property
from sparsecc.dialects.nn_layout import ConcatOp, SliceOp
from sparsecc.dialects.nn_recurrent import GruOp, LstmOp, RnnOp
from sparsecc.importers.emitter import reshaped, transposed
from sparsecc.importers.onnx_graph import Handler, Node, Results
from sparsecc.importers.values import Value
from sparsecc.nn.recurrent import ACTIVATIONS

_NAMES = {name.replace("_", ""): name for name in ACTIVATIONS}


def _activations(node: Node, default: Sequence[str], directions: int) -> list[list[str]]:
    """The functions of each direction."""
    names = node.texts("activations", list(default) * directions)
    if node.reals("activation_alpha") or node.reals("activation_beta"):
        node.fail("attributes activation_alpha and activation_beta are not supported")
    found = [_NAMES.get(name.lower()) for name in names]
    if None in found or len(found) != directions * len(default):
        node.fail(f"activations {names} are not {len(default)} a direction of {', '.join(ACTIVATIONS)}")
    known = [name for name in found if name is not None]
    return [known[i * len(default) : (i + 1) * len(default)] for i in range(directions)]


def _part(node: Node, value: Value, direction: int) -> Value:
    """What a direction takes of [directions, ...]."""
    shape = value.shape[1:]
    if value.shape[0] == 1:
        return reshaped(node, value, shape)
    rank = len(value.shape)
    one = node.emit(
        SliceOp, value, offsets=[direction] + [0] * (rank - 1), sizes=[1, *shape], strides=[1] * rank
    )
    return reshaped(node, one, shape)


def _states(node: Node, i: int, like: tuple[int, int, int], swapped: bool, element: str) -> Value:
    given = node.optional(i)
    if given is None:
        return Value.array(np.zeros(like), element)
    given = transposed(node, given, (1, 0, 2)) if swapped and given.rank == 3 else given
    if given.shape != like:
        node.fail(f"input {i} has shape {list(given.shape)}; needed {list(like)}")
    return given


Layer = Callable[[Node, list[Value], list[Value], dict[str, Property]], list[Value]]


def _layers(node: Node, gates: int, default: Sequence[str], states: int, layer: Layer) -> Results:
    x, w, r = (node.value(i) for i in range(3))
    if x.rank != 3 or w.rank != 3 or r.rank != 3:
        node.fail(f"needed inputs of 3 dimensions, found {list(x.shape)}, {list(w.shape)}, {list(r.shape)}")
    swapped = bool(node.integer("layout", 0))
    x = transposed(node, x, (1, 0, 2)) if swapped else x
    direction = node.text("direction", "forward")
    node.refuse("direction", ["forward", "reverse", "bidirectional"], direction)
    reverse = [False, True] if direction == "bidirectional" else [direction == "reverse"]
    count, hidden = len(reverse), r.shape[2]
    if node.optional(4) is not None and (node.known(4) != x.shape[0]).any():
        node.fail("sequences of different lengths are not supported", "pad them to one length")
    if w.shape[0] != count or r.shape[0] != count:
        node.fail(f"weights {list(w.shape)} and {list(r.shape)} do not have {count} directions")
    bias = node.optional(3) or Value.array(np.zeros((count, 2 * gates * hidden)), x.element)
    if bias.shape != (count, 2 * gates * hidden):
        node.fail(f"the bias has shape {list(bias.shape)}; needed {[count, 2 * gates * hidden]}")
    initial = [_states(node, 5 + i, (count, x.shape[1], hidden), swapped, x.element) for i in range(states)]
    functions = _activations(node, default, count)
    parts: list[list[Value]] = []
    for d in range(count):
        properties: dict[str, Property] = {
            "activations": ArrayAttr([StringAttr(name) for name in functions[d]]),
            "clip": node.real("clip", 0.0),
            "reverse": reverse[d],
        }
        operands = [x, *(_part(node, v, d) for v in (w, r, bias))]
        parts.append(layer(node, operands, [_part(node, v, d) for v in initial], properties))
    results: list[Value] = []
    for i in range(1 + states):
        # [T, N, H] and [N, H] get the axis of directions in front of N.
        at = 1 if i == 0 else 0
        apart = [reshaped(node, p[i], (*p[i].shape[:at], 1, *p[i].shape[at:])) for p in parts]
        y = apart[0] if count == 1 else node.emit(ConcatOp, *apart, axis=at)
        if swapped:
            y = transposed(node, y, (2, 0, 1, 3) if i == 0 else (1, 0, 2))
        results.append(y)
    return results


def lstm(node: Node) -> Results:
    hidden = node.value(2).shape[-1] if node.value(2).rank else 0
    directions = node.value(2).shape[0] if node.value(2).rank else 0
    peepholes = node.optional(7) or Value.array(np.zeros((directions, 3 * hidden)), node.value(0).element)
    if peepholes.shape != (directions, 3 * hidden):
        node.fail(f"the peephole has shape {list(peepholes.shape)}; needed {[directions, 3 * hidden]}")
    made = iter(range(directions))

    def layer(
        node: Node, operands: list[Value], states: list[Value], properties: dict[str, Property]
    ) -> list[Value]:
        peephole = _part(node, peepholes, next(made))
        return node.emit_all(
            LstmOp, *operands, peephole, *states, weights=[1, 2],
            properties=properties | {"input_forget": bool(node.integer("input_forget", 0))},
        )  # fmt: skip

    return _layers(node, 4, ("sigmoid", "tanh", "tanh"), 2, layer)


def gru(node: Node) -> Results:
    def layer(
        node: Node, operands: list[Value], states: list[Value], properties: dict[str, Property]
    ) -> list[Value]:
        return node.emit_all(
            GruOp, *operands, *states, weights=[1, 2],
            properties=properties | {"linear_before_reset": bool(node.integer("linear_before_reset", 0))},
        )  # fmt: skip

    return _layers(node, 3, ("sigmoid", "tanh"), 1, layer)


def rnn(node: Node) -> Results:
    def layer(
        node: Node, operands: list[Value], states: list[Value], properties: dict[str, Property]
    ) -> list[Value]:
        return node.emit_all(RnnOp, *operands, *states, weights=[1, 2], properties=properties)

    return _layers(node, 1, ("tanh",), 1, layer)


HANDLERS: dict[str, Handler] = {"GRU": gru, "LSTM": lstm, "RNN": rnn}
