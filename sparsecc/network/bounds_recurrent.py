"""Error bounds of the steps of recurrent layers: values and errors carried side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.host.recurrent import Activation
from sparsecc.nn.recurrent import ACTIVATIONS

Array = NDArray[Any]
UNIT = 2.0**-24

# Largest slope, and how far apart two results can be.
_SHAPES = {
    Activation.RELU: (1.0, np.inf), Activation.SIGMOID: (0.25, 1.0), Activation.TANH: (1.0, 2.0),
    Activation.SOFTSIGN: (1.0, 2.0), Activation.HARD_SIGMOID: (0.2, 1.0),
}  # fmt: skip


@dataclass(frozen=True)
class _Near:
    """Values in f64, and how far each may be off."""

    value: Array
    error: Array

    def __add__(self, other: _Near) -> _Near:
        return self._rounded(self.value + other.value, self.error + other.error)

    def __mul__(self, other: _Near) -> _Near:
        a, b = np.abs(self.value), np.abs(other.value)
        moved = a * other.error + b * self.error + self.error * other.error
        return self._rounded(self.value * other.value, moved)

    def from_one(self) -> _Near:
        """1 less the values."""
        return self._rounded(1 - self.value, self.error)

    def through(self, kind: int, limit: float = 0.0) -> _Near:
        """An activation of the values, limited before it."""
        seen = np.clip(self.value, -limit, limit) if limit else self.value
        slope, most = _SHAPES[Activation(kind)]
        found = ACTIVATIONS[Activation(kind).name.lower()](seen)
        return self._rounded(found, np.minimum(slope * self.error, most), 4)

    @staticmethod
    def _rounded(value: Array, error: Array, units: int = 1) -> _Near:
        return _Near(value, error + units * UNIT * (np.abs(value) + error))


class _Step:
    """The arrays of a step, cut to gates."""

    def __init__(self, values: Mapping[str, Any], errors: Mapping[str, Any]):
        self.values, self.errors = values, errors
        self.shape = values["outer"], values["hidden"], values["inner"]

    def gate(self, name: str, count: int, i: int) -> _Near:
        """Gate i of an array of so many."""
        outer, hidden, inner = self.shape
        size = outer * count * hidden * inner
        cubes = (
            a[name][:size].astype(np.float64).reshape(outer, count, hidden, inner)[:, i]
            for a in (self.values, self.errors)
        )
        return _Near(*cubes)

    def gates(self, count: int, i: int) -> _Near:
        """Gate i of x + r."""
        return self.gate("x", count, i) + self.gate("r", count, i)

    def peep(self, i: int, cell: _Near) -> _Near:
        """The peephole's part of a gate."""
        hidden = self.shape[1]
        if self.values["peephole"] is None:
            return _Near(np.zeros(()), np.zeros(()))
        parts = (
            a["peephole"][i * hidden : (i + 1) * hidden, None].astype(np.float64)
            for a in (self.values, self.errors)
        )
        return _Near(*parts) * cell


def of_step(name: str, values: Mapping[str, Any], errors: Mapping[str, Any]) -> Array:
    """The bound of a step's result; values and errors by the names of the operator's arguments."""
    step, f, limit = _Step(values, errors), values["f"], values["limit"]
    if name == "lstm_cell":
        before = step.gate("c_before", 1, 0)
        i = (step.gates(4, 0) + step.peep(0, before)).through(f, limit)
        forget = (step.gates(4, 2) + step.peep(2, before)).through(f, limit)
        keep = i.from_one() if values["input_forget"] else forget
        found = keep * before + i * step.gates(4, 3).through(values["g"], limit)
    elif name == "lstm_state":
        cell = step.gate("c", 1, 0)
        out = (step.gates(4, 1) + step.peep(1, cell)).through(f, limit)
        found = out * cell.through(values["final"])
    elif name == "gru_kept":
        reset = step.gate("x", 3, 1) + step.gate("r", 2, 1)
        found = reset.through(f, limit) * step.gate("h_before", 1, 0)
    else:
        before = step.gate("h_before", 1, 0)
        if name == "gru":
            update, reset = (step.gates(3, i).through(f, limit) for i in range(2))
            new = step.gate("x", 3, 2) + reset * step.gate("r", 3, 2)
        else:
            update = (step.gate("x", 3, 0) + step.gate("r", 2, 0)).through(f, limit)
            new = step.gate("x", 3, 2) + step.gate("of_kept", 1, 0)
        found = update.from_one() * new.through(values["g"], limit) + update * before
    # The least numbers that f32 rounds to zero.
    return found.error.reshape(-1) + 2.0**-140
