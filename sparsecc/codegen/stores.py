"""What the stores of a tensor unit do of an epilogue: a bias, ReLU; for integers one scale, and the type.

The bias is what accumulators begin with instead of zeros; scale, ReLU and type are an output conversion of ST
and STS, `type(act(f32(sum) * scale))`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsecc.epilogue import Epilogue


@dataclass(frozen=True, eq=False)
class Store:
    """An epilogue as a unit does it."""

    element: str
    scale: float
    relu: bool
    bias: NDArray[np.int32] | NDArray[np.float32] | None
    converted: bool
    """Whether the stores convert at all."""


def store_of(epilogue: Epilogue, accumulator: str) -> Store | None:
    """The epilogue of sums in this type as stores do it; None where they cannot."""
    scale = 1.0 if epilogue.scale is None else float(epilogue.scale) if epilogue.scale.ndim == 0 else None
    limits = epilogue.relu or not epilogue.limited
    if epilogue.activation is not None:
        return None
    if scale is None or not limits or epilogue.residual or epilogue.zero or epilogue.element == "ui8":
        return None
    if accumulator != "i32" and (scale != 1 or epilogue.element != accumulator):
        return None
    bias = epilogue.bias
    converted = scale != 1 or epilogue.low > -math.inf or epilogue.element != accumulator
    return Store(epilogue.element, scale, epilogue.relu, bias, converted)
