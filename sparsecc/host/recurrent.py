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


def _peep(peephole: Array | None, hidden: int, k: int) -> Array:
    part = np.zeros(hidden, np.float32) if peephole is None else peephole[k * hidden : (k + 1) * hidden]
    return part[:, None]


def _lstm_cell() -> HostOperator:
    def reference(
        c: Array, x: Array, r: Array, c_before: Array, peephole: Array | None,
        outer: int, hidden: int, inner: int, f: int, g: int, limit: float, input_forget: int,
    ) -> None:  # fmt: skip
        size = outer * hidden * inner
        gates = [p + q for p, q in zip(*(_gates(a, 4, outer, hidden, inner) for a in (x, r)), strict=True)]
        before = c_before[:size].reshape(outer, hidden, inner)
        gate, cell = _function(f, limit), _function(g, limit)
        i = gate(gates[0] + _peep(peephole, hidden, 0) * before)
        keep = 1 - i if input_forget else gate(gates[2] + _peep(peephole, hidden, 2) * before)
        c[:size] = (keep * before + i * cell(gates[3])).reshape(-1)

    def cost(
        c: None, x: None, r: None, c_before: None, peephole: None,
        outer: int, hidden: int, inner: int, f: int, g: int, limit: float, input_forget: int,
    ) -> Cost:  # fmt: skip
        size = outer * hidden * inner
        return Cost(28 * size, 4 * size, 10 * size, 3 * size)

    about = (
        "First half of a step of an LSTM: the cell, from gates x + r, each [outer, 4 hidden, inner], and the "
        "cell before [outer, hidden, inner]; peephole [3 hidden] of i, o, f, or NULL. Activations f of the "
        "gates, g of the cell's input; limit > 0 limits what they see. c may be c_before"
    )
    arguments = (
        output("c", "f32"), source("x", "f32"), source("r", "f32"), source("c_before", "f32"),
        source("peephole", "f32", True), *EXTENTS, number("f", "i32"), number("g", "i32"), real("limit"),
        number("input_forget", "i32"),
    )  # fmt: skip
    return HostOperator("host_lstm_cell_f32", arguments, reference, cost, about, in_place=("c_before",))


def _lstm_state() -> HostOperator:
    def reference(
        h: Array, x: Array, r: Array, c: Array, peephole: Array | None,
        outer: int, hidden: int, inner: int, f: int, final: int, limit: float,
    ) -> None:  # fmt: skip
        size = outer * hidden * inner
        of_x, of_r = (_gates(a, 4, outer, hidden, inner)[1] for a in (x, r))
        cell = c[:size].reshape(outer, hidden, inner)
        gate = _function(f, limit)(of_x + of_r + _peep(peephole, hidden, 1) * cell)
        h[:size] = (gate * _function(final)(cell)).reshape(-1)

    def cost(
        h: None, x: None, r: None, c: None, peephole: None,
        outer: int, hidden: int, inner: int, f: int, final: int, limit: float,
    ) -> Cost:  # fmt: skip
        size = outer * hidden * inner
        return Cost(12 * size, 4 * size, 4 * size, 2 * size)

    about = "Second half: the state, from the gates and the new cell, which `final` is taken of. h may be c"
    arguments = (
        output("h", "f32"), source("x", "f32"), source("r", "f32"), source("c", "f32"),
        source("peephole", "f32", True), *EXTENTS, number("f", "i32"), number("final", "i32"), real("limit"),
    )  # fmt: skip
    return HostOperator("host_lstm_state_f32", arguments, reference, cost, about, in_place=("c",))


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


def _gru_kept() -> HostOperator:
    def reference(
        kept: Array, x: Array, r: Array, h_before: Array,
        outer: int, hidden: int, inner: int, f: int, limit: float,
    ) -> None:  # fmt: skip
        size = outer * hidden * inner
        before = h_before[:size].reshape(outer, hidden, inner)
        of_x, of_r = _gates(x, 3, outer, hidden, inner)[1], _gates(r, 2, outer, hidden, inner)[1]
        kept[:size] = (_function(f, limit)(of_x + of_r) * before).reshape(-1)

    def cost(
        kept: None, x: None, r: None, h_before: None,
        outer: int, hidden: int, inner: int, f: int, limit: float,
    ) -> Cost:  # fmt: skip
        size = outer * hidden * inner
        return Cost(12 * size, 4 * size, 3 * size, size)

    about = (
        "First half of a step of a GRU without linear_before_reset: the state times the reset gate, which "
        "the recurrent weight of h multiplies next; x [outer, 3 hidden, inner], r [outer, 2 hidden, inner] "
        "of z and r. kept may be h_before"
    )
    arguments = (
        output("kept", "f32"), source("x", "f32"), source("r", "f32"), source("h_before", "f32"), *EXTENTS,
        number("f", "i32"), real("limit"),
    )  # fmt: skip
    return HostOperator("host_gru_kept_f32", arguments, reference, cost, about, in_place=("h_before",))


def _gru_update() -> HostOperator:
    def reference(
        h: Array, x: Array, r: Array, of_kept: Array, h_before: Array,
        outer: int, hidden: int, inner: int, f: int, g: int, limit: float,
    ) -> None:  # fmt: skip
        size = outer * hidden * inner
        before, kept = (a[:size].reshape(outer, hidden, inner) for a in (h_before, of_kept))
        of_x, of_r = _gates(x, 3, outer, hidden, inner), _gates(r, 2, outer, hidden, inner)
        update = _function(f, limit)(of_x[0] + of_r[0])
        new = _function(g, limit)(of_x[2] + kept)
        h[:size] = ((1 - update) * new + update * before).reshape(-1)

    def cost(
        h: None, x: None, r: None, of_kept: None, h_before: None,
        outer: int, hidden: int, inner: int, f: int, g: int, limit: float,
    ) -> Cost:  # fmt: skip
        size = outer * hidden * inner
        return Cost(20 * size, 4 * size, 6 * size, 2 * size)

    about = (
        "Second half: the next state, from x and r as before and the product of_kept [outer, hidden, inner] "
        "with what gru_kept kept. h may be h_before"
    )
    arguments = (
        output("h", "f32"), source("x", "f32"), source("r", "f32"), source("of_kept", "f32"),
        source("h_before", "f32"), *EXTENTS, number("f", "i32"), number("g", "i32"), real("limit"),
    )  # fmt: skip
    return HostOperator("host_gru_update_f32", arguments, reference, cost, about, in_place=("h_before",))


def operators() -> Iterator[HostOperator]:
    """All of this file."""
    yield from (_lstm_cell(), _lstm_state(), _gru(), _gru_kept(), _gru_update())
