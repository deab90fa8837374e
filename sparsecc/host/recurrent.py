"""Steps of LSTM and GRU layers, after their products; gates in ONNX's order: i o f c, and z r h."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import IntEnum

import numpy as np

from sparsecc.host.operator import Array, Cost, HostOperator, number, output, real, source
from sparsecc.nn.recurrent import ACTIVATIONS

EXTENTS = tuple(map(number, ("outer", "hidden", "inner")))


class Activation(IntEnum):
    """Activations of recurrent steps, as enum in host.h; names are those of `sparsecc.nn.recurrent`."""

    RELU = 0
    SIGMOID = 1
    TANH = 2
    SOFTSIGN = 3
    HARD_SIGMOID = 4


def _function(kind: int, limit: float = 0.0) -> Callable[[Array], Array]:
    of = ACTIVATIONS[Activation(kind).name.lower()]

    def function(x: Array) -> Array:
        seen = np.clip(x, -np.float32(limit), np.float32(limit)) if limit else x
        return of(seen.astype(np.float64)).astype(np.float32)

    return function


def _gates(x: Array, count: int, outer: int, hidden: int, inner: int) -> list[Array]:
    cube = x[: count * outer * hidden * inner].reshape(outer, count, hidden, inner)
    return [cube[:, g] for g in range(count)]


def _lstm() -> HostOperator:
    def reference(
        h: Array, c: Array, x: Array, r: Array, c_before: Array, peephole: Array | None,
        outer: int, hidden: int, inner: int, f: int, g: int, final: int, limit: float, input_forget: int,
    ) -> None:  # fmt: skip
        size = outer * hidden * inner
        gates = [p + q for p, q in zip(*(_gates(a, 4, outer, hidden, inner) for a in (x, r)), strict=True)]
        before = c_before[:size].reshape(outer, hidden, inner)
        peep = np.zeros(3 * hidden, np.float32) if peephole is None else peephole[: 3 * hidden]
        of_i, of_o, of_f = (peep[k * hidden : (k + 1) * hidden, None] for k in range(3))
        gate, cell, last = _function(f, limit), _function(g, limit), _function(final)
        i = gate(gates[0] + of_i * before)
        keep = 1 - i if input_forget else gate(gates[2] + of_f * before)
        new = keep * before + i * cell(gates[3])
        h[:size] = (gate(gates[1] + of_o * new) * last(new)).reshape(-1)
        c[:size] = new.reshape(-1)

    def cost(
        h: None, c: None, x: None, r: None, c_before: None, peephole: None,
        outer: int, hidden: int, inner: int, f: int, g: int, final: int, limit: float, input_forget: int,
    ) -> Cost:  # fmt: skip
        size = outer * hidden * inner
        return Cost(36 * size, 8 * size, 14 * size, 5 * size)

    about = (
        "One step of an LSTM: gates x + r, each [outer, 4 hidden, inner]; cells and states [outer, hidden, "
        "inner]; peephole [3 hidden] of i, o, f, or NULL. Activations f of the gates, g of the cell's "
        "input, final of the cell; limit > 0 limits what f and g see. c may be c_before"
    )
    arguments = (
        output("h", "f32"), output("c", "f32"), source("x", "f32"), source("r", "f32"),
        source("c_before", "f32"), source("peephole", "f32", True), *EXTENTS,
        *(number(a, "i32") for a in ("f", "g", "final")), real("limit"), number("input_forget", "i32"),
    )  # fmt: skip
    return HostOperator("host_lstm_f32", arguments, reference, cost, about)


def _gru() -> HostOperator:
    def reference(
        h: Array, x: Array, r: Array, h_before: Array, outer: int, hidden: int, inner: int,
        f: int, g: int, limit: float,
    ) -> None:  # fmt: skip
        size = outer * hidden * inner
        before = h_before[:size].reshape(outer, hidden, inner)
        of_x, of_r = (_gates(a, 3, outer, hidden, inner) for a in (x, r))
        gate, cell = _function(f, limit), _function(g, limit)
        update, reset = gate(of_x[0] + of_r[0]), gate(of_x[1] + of_r[1])
        new = cell(of_x[2] + reset * of_r[2])
        h[:size] = ((1 - update) * new + update * before).reshape(-1)

    def cost(
        h: None, x: None, r: None, h_before: None, outer: int, hidden: int, inner: int,
        f: int, g: int, limit: float,
    ) -> Cost:  # fmt: skip
        size = outer * hidden * inner
        return Cost(28 * size, 4 * size, 8 * size, 3 * size)

    about = (
        "One step of a GRU with linear_before_reset: x and r [outer, 3 hidden, inner], states [outer, "
        "hidden, inner]. h may be h_before"
    )
    arguments = (
        output("h", "f32"), source("x", "f32"), source("r", "f32"), source("h_before", "f32"), *EXTENTS,
        number("f", "i32"), number("g", "i32"), real("limit"),
    )  # fmt: skip
    return HostOperator("host_gru_f32", arguments, reference, cost, about, in_place=("h_before",))


def _gru_reset() -> HostOperator:
    def reference(
        update: Array, kept: Array, x: Array, r: Array, h_before: Array,
        outer: int, hidden: int, inner: int, f: int, limit: float,
    ) -> None:  # fmt: skip
        size = outer * hidden * inner
        before = h_before[:size].reshape(outer, hidden, inner)
        of_x, of_r = _gates(x, 3, outer, hidden, inner), _gates(r, 2, outer, hidden, inner)
        gate = _function(f, limit)
        update[:size] = gate(of_x[0] + of_r[0]).reshape(-1)
        kept[:size] = (gate(of_x[1] + of_r[1]) * before).reshape(-1)

    def cost(
        update: None, kept: None, x: None, r: None, h_before: None,
        outer: int, hidden: int, inner: int, f: int, limit: float,
    ) -> Cost:  # fmt: skip
        size = outer * hidden * inner
        return Cost(20 * size, 8 * size, 5 * size, 2 * size)

    about = (
        "First half of a step of a GRU without linear_before_reset: the update gate, and the state times "
        "the reset gate, which the recurrent weight of h multiplies next; x [outer, 3 hidden, inner], r "
        "[outer, 2 hidden, inner] of z and r"
    )
    arguments = (
        output("update", "f32"), output("kept", "f32"), source("x", "f32"), source("r", "f32"),
        source("h_before", "f32"), *EXTENTS, number("f", "i32"), real("limit"),
    )  # fmt: skip
    return HostOperator("host_gru_reset_f32", arguments, reference, cost, about)


def _gru_update() -> HostOperator:
    def reference(
        h: Array, x: Array, r: Array, update: Array, h_before: Array,
        outer: int, hidden: int, inner: int, g: int, limit: float,
    ) -> None:  # fmt: skip
        size = outer * hidden * inner
        z, before, of_r = (a[:size].reshape(outer, hidden, inner) for a in (update, h_before, r))
        new = _function(g, limit)(_gates(x, 3, outer, hidden, inner)[2] + of_r)
        h[:size] = ((1 - z) * new + z * before).reshape(-1)

    def cost(
        h: None, x: None, r: None, update: None, h_before: None,
        outer: int, hidden: int, inner: int, g: int, limit: float,
    ) -> Cost:  # fmt: skip
        size = outer * hidden * inner
        return Cost(16 * size, 4 * size, 5 * size, size)

    about = (
        "Second half: the next state from x [outer, 3 hidden, inner], the product r [outer, hidden, inner] "
        "of what gru_reset kept, and its update gate. h may be h_before"
    )
    arguments = (
        output("h", "f32"), source("x", "f32"), source("r", "f32"), source("update", "f32"),
        source("h_before", "f32"), *EXTENTS, number("g", "i32"), real("limit"),
    )  # fmt: skip
    return HostOperator("host_gru_update_f32", arguments, reference, cost, about, in_place=("h_before",))


def operators() -> Iterator[HostOperator]:
    """All of this file."""
    yield from (_lstm(), _gru(), _gru_reset(), _gru_update())
