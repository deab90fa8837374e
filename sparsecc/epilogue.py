"""What happens to the sums of a product on their way to memory: bias, scale, residual, limits, rounding.

A unit that has these in its store, or a kernel that writes each sum once, does them without a second pass
over the result. In this order, for a sum of row r in the accumulator's type:

1. `sum + bias[r]` in the accumulator's type: i32 wraps, f32 rounds;
2. times `scale`, one number or one per row, in f32; an i32 is rounded to f32 first;
3. plus the residual's element, in f32;
4. limited to [low, high]: ReLU is low 0, ReLU6 is [0, 6]; NaN passes; or instead of limits an activation, as
   the host's operator of that name computes it in f32 (those with exponentials in f64, rounded once; kernels
   may be off by a few units in the last place, and so are not for results that have to be equal);
5. to the element type: integers are rounded to nearest, ties to even, moved by `zero` and saturated (NaN
   becomes 0); f16 and bf16 are rounded to nearest, ties to even.

Sums in i32 that stay i32 are not scaled, so that none is rounded. This is what the simulator's stores do
(scale, ReLU, type), and `nn.requantize` (scale, zero).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sparsecc.errors import UserError
from sparsecc.nn.arithmetic import saturate
from sparsecc.target.numbers import convert

Array = NDArray[Any]

INTEGERS: dict[str, type[np.generic]] = {"i8": np.int8, "ui8": np.uint8, "i32": np.int32}
ELEMENTS = (*INTEGERS, "f16", "bf16", "f32")
"""What results may be."""


ACTIVATIONS: dict[str, int] = {
    "leaky_relu": 1, "hard_sigmoid": 2, "hard_swish": 2, "sigmoid": 0, "tanh": 0, "silu": 0, "gelu": 0,
    "gelu_tanh": 0,
}  # fmt: skip
"""By name: how many numbers it takes."""


@dataclass(frozen=True)
class Activation:
    """A function of one operand, as `host_NAME_f32` is."""

    name: str
    """One of `ACTIVATIONS`."""
    numbers: tuple[float, ...] = ()
    """leaky_relu: its slope below 0. hard ones: alpha and beta. What f32 holds."""
    slopes: tuple[float, ...] = ()
    """[M] leaky_relu only: of each row its own."""

    def broken(self) -> str | None:
        """What is wrong, if anything is."""
        if self.name not in ACTIVATIONS:
            return f"activation {self.name!r}; needed one of {', '.join(ACTIVATIONS)}"
        needed = 0 if self.slopes else ACTIVATIONS[self.name]
        if len(self.numbers) != needed:
            return f"activation {self.name} with {len(self.numbers)} numbers; needed {needed}"
        if self.slopes and self.name != "leaky_relu":
            return f"activation {self.name} with a slope for each row; only leaky_relu has slopes"
        if not np.isfinite([*self.numbers, *self.slopes]).all():
            return f"activation {self.name} with a number that is not finite"
        return None

    @property
    def slope(self) -> float:
        """How much faster its values move than its arguments, at most."""
        from sparsecc.network.bounds import SLOPES

        if self.name in SLOPES:
            return SLOPES[self.name]
        if self.name == "hard_swish":
            # 2 alpha x + beta, while alpha x + beta is in [0, 1].
            return 2.0 + abs(self.numbers[1])
        return max(1.0, *map(abs, (*self.numbers, *self.slopes)))

    def apply(self, values: Array) -> Array:
        """Of float32 [M, N]."""
        from sparsecc.host.elementwise import IN_F64, WITH_NUMBERS

        if self.slopes:
            return np.where(values < 0, np.asarray(self.slopes, np.float32)[:, None] * values, values)
        if self.name in IN_F64:
            return IN_F64[self.name][0](values.astype(np.float64)).astype(np.float32)
        return WITH_NUMBERS[self.name][1](values, *map(np.float32, self.numbers)).astype(np.float32)


_LIMITS = {"relu": (0.0, math.inf), "relu6": (0.0, 6.0)}
# Numbers of activations that are given by name alone: as ONNX has them.
_USUAL = {"leaky_relu": (0.01,), "hard_sigmoid": (0.2, 0.5), "hard_swish": (1 / 6, 0.5)}


def fused(
    in_type: str, bias: Any = None, activation: str | tuple[Any, ...] | None = None, residual: bool = False
) -> Epilogue:
    """What users name: a bias [M], an activation, whether a residual [M, N] is added.

    activation: "relu", "relu6", one of `ACTIVATIONS`, or such a name and its numbers: ("clip", low, high),
    ("leaky_relu", slope), where the slope may be one for each row. Raises UserError.
    """
    name, *numbers = (activation,) if activation is None or isinstance(activation, str) else activation
    low, high, function = -math.inf, math.inf, None
    try:
        held = None if bias is None else _bias_of(in_type, np.asarray(bias))
        if name == "clip" and len(numbers) == 2:
            low, high = map(float, numbers)
        elif name in _LIMITS and not numbers:
            low, high = _LIMITS[name]
        elif name is not None and name in ACTIVATIONS:
            each = [np.asarray(v, np.float32) for v in numbers or _USUAL.get(name, ())]
            if len(each) == 1 and each[0].ndim == 1:
                function = Activation(name, slopes=tuple(map(float, each[0])))
            else:
                function = Activation(name, tuple(float(v) for v in each))
        elif name is not None:
            known = ", ".join(["relu", "relu6", "clip", *ACTIVATIONS])
            raise UserError(f"activation {activation!r}; needed one of {known}, with its numbers", 2)
        element = "i32" if in_type == "i8" else "f32"
        return Epilogue(element, held, None, residual, low, high, activation=function)
    except (TypeError, ValueError) as e:
        raise UserError(f"bias, activation or residual: {e}", exit_code=2) from e


def _bias_of(in_type: str, bias: Array) -> Array:
    kind = np.dtype(np.int32 if in_type == "i8" else np.float32)
    if not np.can_cast(bias.dtype, kind, "same_kind"):
        raise ValueError(f"a bias of {bias.dtype}; needed {kind} for products of {in_type}")
    return np.ascontiguousarray(bias, kind)


@dataclass(frozen=True, eq=False)
class Epilogue:
    """See above. The sums are [M, N]."""

    element: str
    """Of the result: one of `ELEMENTS`."""
    bias: Array | None = None
    """[M], in the accumulator's type: int32 or float32."""
    scale: Array | None = None
    """float32, [] or [M]."""
    residual: bool = False
    """Whether a second operand, float32 [M, N], is added."""
    low: float = -math.inf
    high: float = math.inf
    zero: int = 0
    """Zero point of an integer result."""
    activation: Activation | None = None

    def __post_init__(self) -> None:
        if (problem := self.broken()) is not None:
            raise ValueError(problem)

    def broken(self) -> str | None:
        """What is wrong, if anything is."""
        if self.element not in ELEMENTS:
            return f"a result of {self.element}; needed one of {', '.join(ELEMENTS)}"
        if self.bias is not None and (
            self.bias.ndim != 1 or self.bias.dtype.name not in ("int32", "float32")
        ):
            return f"a bias of {self.bias.dtype} {list(self.bias.shape)}; needed int32 or float32 [M]"
        if self.scale is not None and (self.scale.ndim > 1 or self.scale.dtype != np.float32):
            return f"a scale of {self.scale.dtype} {list(self.scale.shape)}; needed float32, [] or [M]"
        if self.scale is not None and not np.isfinite(self.scale).all():
            return "a scale that is not finite"
        if not self.low <= self.high:
            return f"limits {self.low} and {self.high}; needed the lower one first"
        if self.element == "i32" and (self.scale is not None or self.residual or self.zero):
            return "a result of i32 with a scale, a residual or a zero point; i32 stays as it is"
        if self.activation is not None:
            if (problem := self.activation.broken()) is not None:
                return problem
            if self.limited:
                return f"limits and activation {self.activation.name}; needed one of them"
            if self.element == "i32":
                return "a result of i32 with an activation; it needs floats"
        if self.zero:
            kind = INTEGERS.get(self.element)
            if kind is None:
                return f"zero point {self.zero} of a result of {self.element}; floats have none"
            limits = np.iinfo(cast("type[np.int8]", kind))
            if not limits.min <= self.zero <= limits.max:
                return f"zero point {self.zero}; needed {limits.min} to {limits.max}"
        return None

    @property
    def relu(self) -> bool:
        """Whether the limits are those of ReLU."""
        return self.low == 0 and self.high == math.inf

    @property
    def limited(self) -> bool:
        """Whether there are limits."""
        return self.low > -math.inf or self.high < math.inf

    @property
    def trivial(self) -> bool:
        """Whether sums only change their type, if that."""
        moved = self.residual or self.limited or self.zero or self.activation is not None
        return self.bias is None and self.scale is None and not moved

    def apply(self, sums: Array, residual: Array | None = None) -> Array:
        """The result, [M, N], for sums in int32 or float32; bf16 is kept as the f32 it equals."""
        assert (residual is not None) == self.residual, "a residual where one is due"
        with np.errstate(all="ignore"):
            if self.bias is not None:
                sums = (sums + self.bias[:, None]).astype(sums.dtype)
            if self.element == "i32" and sums.dtype == np.int32:
                low, high = max(self.low, -(2**31)), min(self.high, 2**31 - 1)
                return np.clip(sums, int(np.ceil(low)), int(np.floor(high)))
            values = sums.astype(np.float32)
            if self.scale is not None:
                values = values * (self.scale[:, None] if self.scale.ndim else self.scale)
            if residual is not None:
                values = values + residual.astype(np.float32)
            if self.activation is not None:
                values = self.activation.apply(values)
            values = np.where(values < np.float32(self.low), np.float32(self.low), values)
            values = np.where(values > np.float32(self.high), np.float32(self.high), values)
            if (kind := INTEGERS.get(self.element)) is None:
                return convert(values, self.element)
            return saturate(np.rint(values).astype(np.float64) + self.zero, np.dtype(kind))
