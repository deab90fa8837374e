"""LSTM, GRU and simple recurrent layers, one direction, as ONNX defines them.

x [T, N, I], w [gates H, I], r [gates H, H], bias [2 gates H] (of w, then of r), state [N, H]. Gates lie in
ONNX's order: i o f c (LSTM), z r h (GRU). A reversed layer walks x from its end; its outputs stay in the
order of x. All arithmetic is of f32 (f64 for f64); the functions are evaluated in f64 and rounded.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sparsecc.nn.arithmetic import Array, weight_product

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
}


def function_of(name: str) -> Callable[[Array], Array]:
    function = ACTIVATIONS[name]
    return lambda x: function(x.astype(np.float64)).astype(x.dtype)


def steps_of(count: int, reverse: bool) -> range:
    return range(count - 1, -1, -1) if reverse else range(count)


def projected(x: Array, w: Array, bias: Array) -> Array:
    """x wT + the bias of w, [T, N, gates H]."""
    steps, batch, inputs = x.shape
    product = weight_product(w, x.reshape(-1, inputs).T).T
    return product.reshape(steps, batch, len(w)) + bias[: len(w)]


def lstm(
    x: Array, w: Array, r: Array, bias: Array, peephole: Array, h: Array, c: Array,
    activations: tuple[str, str, str], clip: float, input_forget: bool, reverse: bool,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """All outputs [T, N, H], the last output and the last cell [N, H]. peephole [3 H] is of i, o, f.

    clip: inputs of the activations are limited to -clip..clip; 0 for no limit.
    """
    f, g, final = map(function_of, activations)
    hidden = r.shape[1]
    p_i, p_o, p_f = peephole[:hidden], peephole[hidden : 2 * hidden], peephole[2 * hidden :]

    def limited(a: Array) -> Array:
        return np.clip(a, -clip, clip) if clip else a

    gates_of_x = projected(x, w, bias)
    outputs = np.empty((len(x), *h.shape), x.dtype)
    for t in steps_of(len(x), reverse):
        gates = gates_of_x[t] + (weight_product(r, h.T).T + bias[len(w) :])
        i, o, forget, new = (gates[:, k * hidden : (k + 1) * hidden] for k in range(4))
        i = f(limited(i + p_i * c))
        forget = 1 - i if input_forget else f(limited(forget + p_f * c))
        c = forget * c + i * g(limited(new))
        h = f(limited(o + p_o * c)) * final(c)
        outputs[t] = h
    return outputs, h, c


def gru(
    x: Array, w: Array, r: Array, bias: Array, h: Array,
    activations: tuple[str, str], clip: float, linear_before_reset: bool, reverse: bool,
) -> tuple[Array, Array]:  # fmt: skip
    """All outputs [T, N, H] and the last one [N, H]."""
    f, g = map(function_of, activations)
    hidden = r.shape[1]
    of_r = bias[len(w) :]

    def limited(a: Array) -> Array:
        return np.clip(a, -clip, clip) if clip else a

    gates_of_x = projected(x, w, bias)
    outputs = np.empty((len(x), *h.shape), x.dtype)
    for t in steps_of(len(x), reverse):
        recurrent = weight_product(r[: 2 * hidden], h.T).T + of_r[: 2 * hidden]
        z, reset = (
            f(limited(gates_of_x[t][:, part] + recurrent[:, part]))
            for part in (slice(hidden), slice(hidden, 2 * hidden))
        )
        if linear_before_reset:
            inner = reset * (weight_product(r[2 * hidden :], h.T).T + of_r[2 * hidden :])
        else:
            inner = weight_product(r[2 * hidden :], (reset * h).T).T + of_r[2 * hidden :]
        new = g(limited(gates_of_x[t][:, 2 * hidden :] + inner))
        h = (1 - z) * new + z * h
        outputs[t] = h
    return outputs, h


def rnn(
    x: Array, w: Array, r: Array, bias: Array, h: Array, activation: str, clip: float, reverse: bool
) -> tuple[Array, Array]:
    """All outputs [T, N, H] and the last one [N, H]."""
    f = function_of(activation)
    gates_of_x = projected(x, w, bias)
    outputs = np.empty((len(x), *h.shape), x.dtype)
    for t in steps_of(len(x), reverse):
        inner = gates_of_x[t] + (weight_product(r, h.T).T + bias[len(w) :])
        h = f(np.clip(inner, -clip, clip) if clip else inner)
        outputs[t] = h
    return outputs, h
