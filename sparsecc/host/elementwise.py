"""Operators element by element: functions of one operand, broadcast operators, casts.

Functions without an exact formula in f32 are evaluated in f64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np

from sparsecc.host.operator import (
    ELEMENT_BYTES,
    WALK,
    Array,
    Cost,
    HostOperator,
    number,
    output,
    real,
    source,
)
from sparsecc.host.walk import Walk

Unary = Callable[[Array], Array]
Binary = Callable[[Array, Array], Array]


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _erf(x: Array) -> Array:
    from scipy.special import erf  # pyright: ignore[reportMissingTypeStubs]

    return cast(Array, erf(x))


def _gelu(x: Array) -> Array:
    # 1 + erf(x) loses all its digits where x is far below 0; erfc does not.
    from scipy.special import erfc  # pyright: ignore[reportMissingTypeStubs]

    return 0.5 * x * cast(Array, erfc(-x / np.sqrt(2)))


def _gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def _limited(x: Array, low: Any, high: Any) -> Array:
    return np.minimum(np.maximum(x, low), high)


def _leaky_relu(x: Array, alpha: Any) -> Array:
    return np.where(x < 0, alpha * x, x)


def _elu(x: Array, alpha: Any) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(x.astype(np.float64)))


def _hard_sigmoid(x: Array, alpha: Any, beta: Any) -> Array:
    return _limited(alpha * x + beta, 0, 1)


def _hard_swish(x: Array, alpha: Any, beta: Any) -> Array:
    return x * _hard_sigmoid(x, alpha, beta)


EXACT: dict[str, tuple[Unary, int]] = {
    "relu": (lambda x: np.maximum(x, 0), 1),
    "neg": (np.negative, 1),
    "abs": (np.abs, 1),
    "reciprocal": (lambda x: np.float32(1) / x, 1),
    "sqrt": (np.sqrt, 1),
    "ceil": (np.ceil, 1),
    "floor": (np.floor, 1),
    "round": (np.rint, 1),
    "sign": (np.sign, 2),
    "softsign": (lambda x: x / (1 + np.abs(x)), 3),
}
"""By name: the function in f32, its operations."""

IN_F64: dict[str, tuple[Unary, int]] = {
    "exp": (np.exp, 0),
    "log": (np.log, 0),
    "erf": (_erf, 0),
    "sin": (np.sin, 0),
    "cos": (np.cos, 0),
    "tanh": (np.tanh, 0),
    "sigmoid": (_sigmoid, 2),
    "silu": (lambda x: x * _sigmoid(x), 3),
    "gelu": (_gelu, 3),
    "gelu_tanh": (_gelu_tanh, 8),
    "softplus": (lambda x: np.logaddexp(x, 0), 3),
}
"""By name: the function in f64, its operations beside one evaluation of exp, tanh, ..."""

WITH_NUMBERS: dict[str, tuple[tuple[str, ...], Callable[..., Array], int, int]] = {
    "leaky_relu": (("alpha",), _leaky_relu, 2, 0),
    "elu": (("alpha",), _elu, 2, 1),
    "clip": (("low", "high"), _limited, 2, 0),
    "hard_sigmoid": (("alpha", "beta"), _hard_sigmoid, 4, 0),
    "hard_swish": (("alpha", "beta"), _hard_swish, 5, 0),
}
"""By name: numbers it takes, the function, its operations, its evaluations of functions."""

ABOUT = {
    "leaky_relu": "x where positive, alpha x elsewhere",
    "elu": "x where positive, alpha (exp(x) - 1) elsewhere",
    "clip": "min(max(x, low), high); relu6 is 0, 6",
    "hard_sigmoid": "min(max(alpha x + beta, 0), 1)",
    "hard_swish": "x min(max(alpha x + beta, 0), 1); ONNX has alpha 1/6, beta 0.5",
}


def _unary(
    name: str,
    kind: str,
    function: Callable[..., Array],
    about: str,
    flops: int,
    functions: int,
    numbers: Sequence[str] = (),
) -> HostOperator:  # fmt: skip
    def reference(y: Array, x: Array, n: int, *values: float) -> None:
        with np.errstate(all="ignore"):
            y[:n] = function(x[:n], *map(np.float32, values))

    def cost(y: None, x: None, n: int, *values: float) -> Cost:
        size = n * ELEMENT_BYTES[kind]
        return Cost(size, size, flops * n, functions * n)

    arguments = (output("y", kind), source("x", kind), number("n"), *map(real, numbers))
    return HostOperator(f"host_{name}_{kind}", arguments, reference, cost, about, in_place=("x",))


def _in_f64(function: Unary) -> Unary:
    return lambda x: function(x.astype(np.float64))


def unary() -> Iterator[HostOperator]:
    """y[i] = function(x[i]) for n elements."""
    for name, (function, flops) in EXACT.items():
        yield _unary(name, "f32", function, "y[i] = f(x[i]); max and sign keep NaN", flops, 0)
    for name, (function, flops) in IN_F64.items():
        about = "y[i] = f(x[i]), evaluated in f64 and rounded once"
        yield _unary(name, "f32", _in_f64(function), about, flops, 1)
    for name, (numbers, function, flops, functions) in WITH_NUMBERS.items():
        yield _unary(name, "f32", function, ABOUT[name], flops, functions, numbers)
    for kind in ("i32", "i64"):
        for name in ("relu", "neg", "abs"):
            yield _unary(name, kind, EXACT[name][0], "Integers wrap around", 1, 0)
    yield _unary("relu", "i8", EXACT["relu"][0], "Integers wrap around", 1, 0)
    yield _unary("not", "b8", np.logical_not, "Truths are bytes, 0 or 1", 1, 0)


def _divide(p: Array, q: Array) -> Array:
    if p.dtype.kind == "f":
        return p / q
    safe = np.where(q == 0, np.ones_like(q), q)
    floor = p // safe
    return np.where(q == 0, 0, floor + ((floor < 0) & (floor * safe != p)))


def _rest(function: Binary) -> Binary:
    def of(p: Array, q: Array) -> Array:
        if p.dtype.kind == "f":
            return function(p, q)
        # The rest of the least integer by -1 is 0; numpy's C may trap there.
        safe = np.where((q == 0) | (q == -1), np.ones_like(q), q)
        return function(p, safe)

    return of


def _power(p: Array, q: Array) -> Array:
    return np.power(p.astype(np.float64), q.astype(np.float64))


_NUMBERS = ("f32", "i32", "i64")
BINARY: dict[str, tuple[Binary, tuple[str, ...], int, int]] = {
    "add": (np.add, _NUMBERS, 1, 0),
    "sub": (np.subtract, _NUMBERS, 1, 0),
    "mul": (np.multiply, _NUMBERS, 1, 0),
    "div": (_divide, _NUMBERS, 1, 0),
    "max": (np.maximum, (*_NUMBERS, "i8", "u8"), 1, 0),
    "min": (np.minimum, (*_NUMBERS, "i8", "u8"), 1, 0),
    "pow": (_power, ("f32",), 0, 1),
    "fmod": (_rest(np.fmod), _NUMBERS, 1, 0),
    "mod": (_rest(np.mod), _NUMBERS, 2, 0),
    "and": (np.logical_and, ("b8",), 1, 0),
    "or": (np.logical_or, ("b8",), 1, 0),
    "xor": (np.logical_xor, ("b8",), 1, 0),
}
"""By name: the function, its element types, its operations, its evaluations of functions."""

COMPARISONS: dict[str, Binary] = {"equal": np.equal, "greater": np.greater, "less": np.less}


def _binary(name: str, kind: str, result: str, function: Binary, flops: int, functions: int) -> HostOperator:
    def reference(y: Array, a: Array, b: Array, walk: Sequence[int]) -> None:
        w = Walk.from_table(walk)
        with np.errstate(all="ignore"):
            w.view(0, y)[...] = function(w.view(1, a), w.view(2, b))

    def cost(y: None, a: None, b: None, walk: Sequence[int]) -> Cost:
        w = Walk.from_table(walk)
        read = (w.touched(1) + w.touched(2)) * ELEMENT_BYTES[kind]
        return Cost(read, w.count * ELEMENT_BYTES[result], flops * w.count, functions * w.count)

    about = (
        "y = a op b over a walk (operands y, a, b). max and min keep NaN. Integers wrap around; integer "
        "division is towards zero, a / 0 = 0 and the rest of a / 0 = 0; the rest of fmod has the sign of "
        "a, that of mod the sign of b; comparisons give 0 or 1"
    )
    arguments = (output("y", result), source("a", kind), source("b", kind), WALK)
    in_place = ("a", "b") if result == kind else ()
    return HostOperator(f"host_{name}_{kind}", arguments, reference, cost, about, in_place=in_place)


def binary() -> Iterator[HostOperator]:
    """Operators of two broadcast operands."""
    for name, (function, kinds, flops, functions) in BINARY.items():
        for kind in kinds:
            yield _binary(name, kind, kind, function, flops, functions)
    for name, function in COMPARISONS.items():
        for kind in _NUMBERS:
            yield _binary(name, kind, "b8", function, 1, 0)


def _where(size: int) -> HostOperator:
    def reference(y: Array, condition: Array, a: Array, b: Array, walk: Sequence[int]) -> None:
        w = Walk.from_table(walk)
        w.view(0, y)[...] = np.where(w.view(1, condition), w.view(2, a), w.view(3, b))

    def cost(y: None, condition: None, a: None, b: None, walk: Sequence[int]) -> Cost:
        w = Walk.from_table(walk)
        read = w.touched(1) + size * (w.touched(2) + w.touched(3))
        return Cost(read, w.count * size)

    kind = f"any{size}"
    arguments = (output("y", kind), source("condition", "b8"), source("a", kind), source("b", kind), WALK)
    about = "a where the condition is not 0, b elsewhere, over a walk (operands y, condition, a, b); by bytes"
    return HostOperator(f"host_where_{size}", arguments, reference, cost, about, in_place=("a", "b"))


def where() -> Iterator[HostOperator]:
    """Selection by a condition, for elements of each size."""
    yield from map(_where, (1, 2, 4, 8))


def _to_integer(x: Array) -> Array:
    # What no int64 holds becomes its least value, as x86 has it.
    fits = (x >= np.float32(-(2.0**63))) & (x < np.float32(2.0**63))
    return np.where(fits, np.trunc(np.where(fits, x, 0)).astype(np.int64), np.iinfo(np.int64).min)


def _round_bf16(x: Array) -> Array:
    from sparsecc.target.numbers import round_bf16

    return (round_bf16(x).view(np.uint32) >> 16).astype(np.uint16)


def _cast_of(start: str, end: str) -> Unary:
    if start == "bf16":
        return lambda x: (x.astype(np.uint32) << 16).view(np.float32)
    if end == "bf16":
        return _round_bf16
    if end == "b8":
        return lambda x: x != 0
    if start == "f32" and end != "f16":
        return _to_integer
    return lambda x: x


_INTEGERS = ("i8", "u8", "i32", "i64")
CASTS = [
    ("f32", "f16"), ("f16", "f32"), ("f32", "bf16"), ("bf16", "f32"),
    *((s, e) for s in ("f32", *_INTEGERS) for e in ("f32", *_INTEGERS, "b8") if s != e),
]  # fmt: skip


def _cast(start: str, end: str) -> HostOperator:
    function = _cast_of(start, end)

    def reference(y: Array, x: Array, n: int) -> None:
        with np.errstate(all="ignore"):
            y[:n] = function(x[:n]).astype(y.dtype)

    def cost(y: None, x: None, n: int) -> Cost:
        return Cost(n * ELEMENT_BYTES[start], n * ELEMENT_BYTES[end], n)

    about = (
        "x as elements of another type. Floats to integers towards zero by way of int64_t; what that does "
        "not hold, NaN too, is its least value. Integers wrap around. f16 and bf16, given as their bits, "
        "are rounded to nearest even. b8 is 1 where x is not 0, and is read as u8"
    )
    arguments = (output("y", end), source("x", start), number("n"))
    return HostOperator(f"host_cast_{start}_{end}", arguments, reference, cost, about)


def casts() -> Iterator[HostOperator]:
    """Between element types."""
    for start, end in CASTS:
        yield _cast(start, end)


def operators() -> Iterator[HostOperator]:
    """All of this file."""
    yield from unary()
    yield from binary()
    yield from where()
    yield from casts()
