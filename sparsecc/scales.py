"""What steps of int8 are worth: of weights, of inputs, and of results that are brought back to int8.

All are symmetric: zero points are 0. A product of int8 numbers is, in steps, `scale_w[m] * scale_x` worth; a
result in steps of `output` is then `sat8(rne(float(sum) * scale))` with `scale = scale_w[m] * scale_x /
output` in float32: what stores of the simulator and `nn.requantize` compute.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsecc.errors import UserError
from sparsecc.importers.matrix import Array, Csr, make_csr, row_of_entry

_KEYS = {"w": "weight", "x": "input", "y": "output"}
INT8_MAX = 127


@dataclass(frozen=True)
class Scales:
    """None: of weights, one for each row as its largest value says; of results, they stay sums in int32."""

    weight: float | None = None
    input: float | None = None
    """None: inputs are int8, a step worth 1."""
    output: float | None = None

    def __post_init__(self) -> None:
        for key, name in _KEYS.items():
            value: float | None = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UserError(f"the scale {key} is {value:g}; needed: a finite number above 0", exit_code=2)

    @staticmethod
    def parse(text: str) -> Scales:
        """Of w=NUMBER,x=NUMBER,y=NUMBER, any of them. Raises UserError."""
        found: dict[str, float] = {}
        for part in text.split(","):
            key, equals, number = (piece.strip() for piece in part.partition("="))
            if key not in _KEYS or not equals or _KEYS[key] in found:
                raise UserError(
                    f"--steps: found {part.strip()!r}; needed: w, x and y, each once at most, as KEY=NUMBER",
                    exit_code=2,
                )
            try:
                found[_KEYS[key]] = float(number)
            except ValueError:
                problem = f"--steps: {key} is {number!r}, which is no number"
                raise UserError(problem, exit_code=2) from None
        return Scales(**found)

    def requantisation(self, weights: NDArray[np.float32] | None, rows: int) -> NDArray[np.float32] | None:
        """What sums are multiplied by, [rows], from the weights' scales [rows] (None: 1); None: they stay."""
        if self.output is None:
            return None
        of_weights = np.ones(rows) if weights is None else weights.astype(np.float64)
        return (of_weights * (1.0 if self.input is None else self.input) / self.output).astype(np.float32)


def quantize_by(csr: Csr, scale: float) -> tuple[Csr, int]:
    """The weights in steps of `scale`, int8, and how many nonzeros became 0. Halves go to even.

    Raises UserError for a weight that -127..127 steps do not hold.
    """
    steps = np.rint(csr.data.astype(np.float64) / scale)
    outside = np.flatnonzero(~(np.abs(steps) <= INT8_MAX))
    if outside.size:
        entry = int(outside[0])
        needed = float(np.abs(csr.data.astype(np.float64)).max()) / INT8_MAX
        raise UserError(
            f"the weight {csr.data[entry]:g} at row {row_of_entry(csr)[entry]}, column {csr.indices[entry]} "
            f"(counting from 0) is {steps[entry]:g} steps of {scale:g}; int8 holds -127 to 127 "
            f"({outside.size} such weights in all): needed is a scale w of at least {needed:.6g}"
        )
    keep = steps != 0
    indptr = np.concatenate([[0], np.cumsum(keep)])[csr.indptr]
    zeroed = int(np.count_nonzero(csr.data[~keep]))
    return make_csr(steps[keep].astype(np.int8), csr.indices[keep], indptr, csr.shape), zeroed


def quantize_input(x: Array, scale: float) -> NDArray[np.int8]:
    """Inputs in steps of `scale`; what is beyond 127 steps saturates."""
    return np.clip(np.rint(x.astype(np.float64) / scale), -INT8_MAX, INT8_MAX).astype(np.int8)


def real_values(
    results: NDArray[np.integer], worth: NDArray[np.float64], stored: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """What int32 sums, or the int8 that stores made of them, stand for, [rows, n].

    worth: of a step of a sum, [rows]; stored: what stores multiplied sums by, [rows] or one; None: nothing.
    """
    step = worth if stored is None else worth / stored.astype(np.float64)
    return (results.astype(np.float64) * step[:, None]).astype(np.float32)
