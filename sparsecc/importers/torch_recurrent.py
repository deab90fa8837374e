"""Recurrent layers of torch: each layer and direction becomes an operation with matrices of weights.

torch orders the gates i, f, g, o (LSTM) and r, z, n (GRU); the `nn` dialect i, o, f, g and z, r, n.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.dialects.builtin import ArrayAttr, StringAttr

from sparsecc.dialects.nn_base import NnOp, Property
from sparsecc.dialects.nn_layout import ConcatOp
from sparsecc.dialects.nn_recurrent import GruOp, LstmOp, RnnOp
from sparsecc.importers.constants import Dense
from sparsecc.importers.emitter import reshaped, transposed
from sparsecc.importers.torch_graph import Handler, Node, Results
from sparsecc.importers.torch_layout import part
from sparsecc.importers.values import Value


def _reordered(node: Node, value: Value, gates: Sequence[int]) -> Value:
    """Rows of a constant, gate by gate, in another order."""
    if value.constant is None:
        node.fail("its weights are computed at run time", "make them parameters of the model")
    array = value.constant.array()
    apart = array.reshape(len(gates), -1, *array.shape[1:])
    return Value.of(Dense(apart[list(gates)].reshape(array.shape), value.element))


def _layers(
    kind: type[NnOp], gates: Sequence[int], functions: Sequence[str], extra: dict[str, Property]
) -> Handler:
    lstm = kind is LstmOp

    def handler(node: Node) -> Results:
        if "batch_sizes" in node.given:
            node.fail("packed sequences are not supported", "pad them to one length")
        x, parameters = node.value("input"), node.values("params")
        first = node.values("hx") if lstm else [node.value("hx")]
        biases, layers = node.flag("has_biases"), node.integer("num_layers")
        directions = 2 if node.flag("bidirectional") else 1
        if node.flag("train") and node.number("dropout", 0):
            node.fail("dropout in training is not supported", "call eval() on the model before exporting it")
        each = 4 if biases else 2
        if len(parameters) != each * layers * directions:
            node.fail("layers with projections are not supported", "use proj_size=0")
        x = transposed(node, x, (1, 0, 2)) if node.flag("batch_first") else x
        last: list[list[Value]] = [[] for _ in first]
        for layer in range(layers):
            outputs: list[Value] = []
            for d in range(directions):
                i = layer * directions + d
                w, r, *given = (_reordered(node, p, gates) for p in parameters[each * i : each * (i + 1)])
                hidden = r.shape[1]
                arrays = [b.constant.array() for b in given if b.constant is not None]
                bias = np.concatenate(arrays) if arrays else np.zeros(2 * len(gates) * hidden)
                states = [reshaped(node, part(node, s, 0, i, 1), s.shape[1:]) for s in first]
                peephole = [Value.array(np.zeros(3 * hidden), x.element)] if lstm else []
                properties: dict[str, Property] = {
                    "activations": ArrayAttr([StringAttr(name) for name in functions]),
                    "clip": 0.0, "reverse": d == 1, **extra,
                }  # fmt: skip
                y, *ends = node.emit_all(
                    kind, x, w, r, Value.array(bias, x.element), *peephole, *states, weights=[1, 2],
                    properties=properties,
                )  # fmt: skip
                outputs.append(y)
                for found, end in zip(last, ends, strict=True):
                    found.append(reshaped(node, end, (1, *end.shape)))
            x = outputs[0] if directions == 1 else node.emit(ConcatOp, *outputs, axis=2)
        y = transposed(node, x, (1, 0, 2)) if node.flag("batch_first") else x
        return [y, *(f[0] if len(f) == 1 else node.emit(ConcatOp, *f, axis=0) for f in last)]

    return handler


HANDLERS: dict[str, Handler] = {
    "gru": _layers(GruOp, (1, 0, 2), ("sigmoid", "tanh"), {"linear_before_reset": True}),
    "lstm": _layers(LstmOp, (0, 3, 1, 2), ("sigmoid", "tanh", "tanh"), {"input_forget": False}),
    "rnn_relu": _layers(RnnOp, (0,), ("relu",), {}),
    "rnn_tanh": _layers(RnnOp, (0,), ("tanh",), {}),
}
