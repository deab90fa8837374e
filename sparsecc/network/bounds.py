"""How far a program's values may be from exact ones: errors carried through each operator of the host.

Every value has an array of error bounds. A product of K terms adds gamma_K (|W| |X|), in any order of
summation (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1), and carries what its factors
bring; other operators carry errors by their Lipschitz constants. None is an unknown bound: of an operator
without a rule on values that are not exact, such as a comparison.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sparsecc.epilogue import Activation
from sparsecc.host.operator import HostOperator, Kind, Product
from sparsecc.host.ops import OPERATORS
from sparsecc.host.walk import Walk
from sparsecc.network.bounds_recurrent import of_step

Array = NDArray[Any]
Bound = Array | None
"""Of each element, float32 of the value's size, flat; or unknown."""

UNIT = 2.0**-24
SMALLEST = 2.0**-149
CASTS = {"f16": (2.0**-11, 2.0**-25), "bf16": (2.0**-8, 2.0**-134)}
"""Rounding of a narrow type: relative to the value, and below its normal numbers."""

# Largest slope of a function of one operand.
SLOPES = {
    "relu": 1.0, "neg": 1.0, "abs": 1.0, "clip": 1.0, "tanh": 1.0, "sigmoid": 0.25, "erf": 1.1284, "sin": 1.0,
    "cos": 1.0, "silu": 1.1, "gelu": 1.13, "gelu_tanh": 1.13, "softplus": 1.0, "softsign": 1.0,
}  # fmt: skip
_SCALED = {"leaky_relu", "elu", "hard_sigmoid", "hard_swish"}
_EXACT = {"relu", "neg", "abs", "clip"}


def gamma(terms: int) -> float:
    """The largest relative error of a sum of so many products, in any order, in f32."""
    return terms * UNIT / (1 - terms * UNIT)


def up(error: Array) -> Array:
    """As float32, not smaller; infinite where no number is known."""
    with np.errstate(over="ignore"):
        found = (error.astype(np.float64) * (1 + 2**-20)).astype(np.float32)
    return np.where(np.isnan(found), np.float32(np.inf), found)


def of_product(weight: Any, x: Array, error: Array, y: Array, narrow: float) -> Array:
    """W x: weight a scipy matrix [M, K], x and error [K, N], y [M, N]; narrow: roundings of the weight."""
    magnitude = abs(weight).astype(np.float64)
    wide, brought = np.abs(x.astype(np.float64)), error.astype(np.float64)
    terms = gamma(weight.shape[1] + 1) + narrow
    return up(cast(Array, magnitude @ (brought + terms * (wide + brought))) + UNIT * np.abs(y))


def of_epilogue(sums: Array, added: Array, error: Array, terms: int) -> Array:
    """Magnitudes are added to sums of so many terms, as their first term or their last; errors they bring."""
    wide = np.abs(sums.astype(np.float64)) + added
    return up(error + gamma(terms + 3) * added + gamma(3) * (wide + error))


def of_activation(activation: Activation, x: Array, y: Array, error: Array) -> Array:
    """Of y = f(x) in f32 by a kernel, for errors of x."""
    carried = activation.slope * error.astype(np.float64)
    if activation.name == "leaky_relu":
        # One rounding, that of a product.
        return up(carried + np.where(x < 0, UNIT * (np.abs(y.astype(np.float64)) + carried), 0.0) + SMALLEST)
    wide, arguments = np.abs(y.astype(np.float64)), np.abs(x.astype(np.float64))
    if activation.name in ("gelu", "gelu_tanh"):
        # What multiplies x is as exact as numbers about 1 are.
        wide = wide + arguments
    elif activation.name.startswith("hard"):
        # a x + b, where it is not limited.
        each = 2 + 2 * abs(activation.numbers[1])
        wide = wide + each * (arguments if activation.name == "hard_swish" else 1.0)
    return up(carried + 8 * UNIT * (wide + carried) + UNIT**2)


def of_call(operator: HostOperator, values: Sequence[Any], errors: Sequence[Bound], result: Array) -> Bound:
    """The bound of a call's result; `values` and `errors` go by argument, the result's own being None."""
    arrays = [e for a, e in zip(operator.arguments, errors, strict=True) if a.kind is Kind.INPUT]
    if any(
        e is None
        for a, e in zip(operator.arguments, errors, strict=True)
        if a.kind is Kind.INPUT and values[operator.arguments.index(a)] is not None
    ):
        return None
    found = re.fullmatch(r"host_(.+?)_((?:any|i|u|f|bf|b)?\d+(?:_i\d+|_u\d+)?)", operator.name)
    name = found.group(1) if found else operator.name.removeprefix("host_")
    rule = _RULES.get(name)
    if operator.name.startswith("host_cast_"):
        return _cast(operator, values, errors, result)
    brought = [e for e in arrays if e is not None]
    if result.dtype.kind != "f" or rule is None:
        exact = not any(bool(e.any()) for e in brought)
        return up(4 * UNIT * _magnitude(result)) if exact else _moved(name, operator, values, errors, result)
    # Infinite errors times 0 are not known, either.
    with np.errstate(all="ignore"):
        return up(rule(name, operator, list(values), list(errors), result))


def _magnitude(result: Array) -> Array:
    return np.abs(result.astype(np.float64)) if result.dtype.kind == "f" else np.zeros(result.size)


def _cast(operator: HostOperator, values: Sequence[Any], errors: Sequence[Bound], result: Array) -> Bound:
    start, end = operator.name.split("_")[2:]
    (error,) = (e for e in errors if e is not None)
    if end in CASTS:
        relative, least = CASTS[end]
        return up(error + relative * (np.abs(values[1][: error.size].astype(np.float64)) + error) + least)
    if start in CASTS and end == "f32":
        return error
    return np.zeros(result.size, np.float32) if not error.any() else None


def _again(
    operator: HostOperator, values: Sequence[Any], arrays: dict[str, Array | None], size: int
) -> Array:
    """The operator's result for other arrays, of float32."""
    result = np.zeros(size, np.float32)
    given = [
        result if a.kind is Kind.OUTPUT else arrays.get(a.name, v)
        for a, v in zip(operator.arguments, values, strict=True)
    ]
    with np.errstate(all="ignore"):
        operator.reference(*given)
    return result


def _by_name(operator: HostOperator, items: Sequence[Any]) -> dict[str, Any]:
    return {a.name: v for a, v in zip(operator.arguments, items, strict=True)}


def _moved(
    name: str, operator: HostOperator, values: Sequence[Any], errors: Sequence[Bound], result: Array
) -> Bound:
    """Errors go where their elements go."""
    if name not in ("copy", "im2col", "remap", "gather"):
        return None
    four = OPERATORS[re.sub(r"_[1248](?=_|$)", "_4", operator.name, count=1)]
    given = _by_name(operator, values)
    if "fill" in given:
        given["fill"] = 0
    error = _by_name(operator, errors)["x"]
    return _again(four, list(given.values()), {"x": error}, result.size)


def _slope(name: str, operator: HostOperator, values: list[Any], errors: list[Any], result: Array) -> Array:
    factor = SLOPES[name] if name in SLOPES else max(1.0, *(abs(v) for v in values[3:] if v is not None))
    rounding = 0.0 if name in _EXACT else 6 * UNIT
    return factor * errors[1].astype(np.float64) + rounding * (np.abs(result.astype(np.float64)) + UNIT)


def _exp(name: str, operator: HostOperator, values: list[Any], errors: list[Any], result: Array) -> Array:
    wide = np.abs(result.astype(np.float64))
    return wide * np.expm1(errors[1].astype(np.float64)) + 2 * UNIT * wide


def _spread(operator: HostOperator, values: list[Any], array: Array, which: int, size: int) -> Array:
    """An operand of a walk, repeated to the result's places."""
    walk = Walk.from_table(values[3])
    result = np.zeros(size, np.float64)
    walk.view(0, result)[...] = walk.view(which, np.ascontiguousarray(array, np.float64))
    return result


def _binary(name: str, operator: HostOperator, values: list[Any], errors: list[Any], result: Array) -> Array:
    a, b = (np.abs(_spread(operator, values, values[i], i, result.size)) for i in (1, 2))
    ea, eb = (_spread(operator, values, errors[i], i, result.size) for i in (1, 2))
    y = np.abs(result.astype(np.float64))
    match name:
        case "add" | "sub":
            carried = ea + eb
        case "mul":
            carried = a * eb + b * ea + ea * eb
        case "div":
            carried = np.where(b > eb, (ea + y * eb) / (b - eb), np.inf)
        case _:
            return np.maximum(ea, eb)
    return carried + UNIT * (y + carried)


def _max_pool(
    name: str, operator: HostOperator, values: list[Any], errors: list[Any], result: Array
) -> Array:
    return _again(operator, values, {"x": errors[1]}, result.size)


def _linear(name: str, operator: HostOperator, values: list[Any], errors: list[Any], result: Array) -> Array:
    """Sums and means of one array: of the errors, and of the magnitudes times gamma."""
    given = _by_name(operator, values)
    terms = given["window"].kernel if "window" in given else given["axis"]
    x = np.abs(values[1][: errors[1].size]).astype(np.float32)
    return (1 + gamma(terms + 1)) * _again(operator, values, {"x": errors[1]}, result.size).astype(
        np.float64
    ) + gamma(terms + 1) * _again(operator, values, {"x": x}, result.size)


def _softmax(name: str, operator: HostOperator, values: list[Any], errors: list[Any], result: Array) -> Array:
    outer, axis, inner = values[2:5]
    cube = errors[1].astype(np.float64).reshape(outer, axis, inner)
    x = values[1][: cube.size].astype(np.float64).reshape(cube.shape)
    # Elements less the largest one, a difference that is rounded once; the largest itself drops out.
    apart = x.max(axis=1, keepdims=True) - x
    each = cube + 2 * UNIT * np.where(np.isfinite(apart), apart, 0.0)
    wide = np.abs(result.astype(np.float64))
    if name == "log_softmax":
        most = each.max(axis=1, keepdims=True) * np.ones((1, axis, 1))
        return (each + most).reshape(-1) + gamma(axis + 4) * (1 + wide)
    # e^a / (sum of e^b): a moves by `each`, and the sum by the mean of its terms' factors.
    p = wide.reshape(cube.shape)
    more, less = np.expm1(each), -np.expm1(-each)
    least, most = 1 - (p * less).sum(axis=1, keepdims=True), 1 + (p * more).sum(axis=1, keepdims=True)
    above = np.where(least > 0, (1 + more) / least - 1, np.inf)
    moved = p * np.maximum(above, 1 - (1 - less) / most)
    # A share of the whole is never above 1.
    known = np.isfinite(moved)
    moved = np.minimum(np.where(known, moved, 1.0), 1.0).reshape(-1)
    return moved + gamma(axis + 4) * (wide + moved) + SMALLEST


def _layer_norm(
    name: str, operator: HostOperator, values: list[Any], errors: list[Any], result: Array
) -> Array:
    v, e = _by_name(operator, values), _by_name(operator, errors)
    outer, axis, inner = v["outer"], v["axis"], v["inner"]
    x = v["x"][: result.size].astype(np.float64).reshape(outer, axis, inner)
    moved = e["x"].astype(np.float64).reshape(x.shape)
    terms = gamma(axis + 4)
    mean = x.mean(axis=1, keepdims=True)
    centred = np.abs(x - mean)
    of_mean = moved.mean(axis=1, keepdims=True) + terms * (np.abs(x) + moved).mean(axis=1, keepdims=True)
    of_centred = moved + of_mean + UNIT * (centred + moved + of_mean)
    # The deviation is a norm of the centred values, so it moves by no more than the norm of their errors.
    deviation = np.sqrt((centred**2).mean(axis=1, keepdims=True) + v["epsilon"])
    of_deviation = np.sqrt((of_centred**2).mean(axis=1, keepdims=True))
    of_deviation += terms * (deviation + of_deviation)
    normal, left = centred / deviation, deviation - of_deviation
    carried = np.where(left > 0, (of_centred + normal * of_deviation) / left, np.inf)
    # No normalised value is larger than the root of their number.
    of_normal = np.minimum(carried, normal + axis**0.5) + 2 * UNIT * normal
    of_normal *= 1 + 4 * UNIT

    def parameter(values: Array | None, otherwise: float) -> Array:
        return (
            np.full((1, 1, 1), otherwise)
            if values is None
            else np.abs(values[:axis, None].astype(np.float64))
        )

    scale, of_scale = parameter(v["scale"], 1.0), parameter(e["scale"], 0.0)
    bias, of_bias = parameter(v["bias"], 0.0), parameter(e["bias"], 0.0)
    carried = of_normal * (scale + of_scale) + normal * of_scale
    whole = carried + 2 * UNIT * (normal * scale + carried) + of_bias + UNIT * bias
    return np.broadcast_to(whole, x.shape).reshape(-1)


def _root(name: str, operator: HostOperator, values: list[Any], errors: list[Any], result: Array) -> Array:
    x = values[1][: result.size].astype(np.float64)
    error, y = errors[1].astype(np.float64), np.abs(result.astype(np.float64))
    least = np.sqrt(np.maximum(x - error, 0.0))
    # The root of b - root of a = (b - a) / (their sum).
    carried = np.where(
        error > 0, error / np.maximum(np.sqrt(np.maximum(x, 0.0)) + least, np.sqrt(error)), 0.0
    )
    return carried + 2 * UNIT * (y + carried)


def _inverse(name: str, operator: HostOperator, values: list[Any], errors: list[Any], result: Array) -> Array:
    """1 / x and log x: how they move is decided by the least that |x| may be."""
    x, error = np.abs(values[1][: result.size].astype(np.float64)), errors[1].astype(np.float64)
    y, left = np.abs(result.astype(np.float64)), x - error
    slope = y / left if name == "reciprocal" else 1 / left
    carried = np.where(error == 0, 0.0, np.where(left > 0, slope * error, np.inf))
    return carried + 4 * UNIT * (y + np.where(np.isfinite(carried), carried, 0.0))


def _power(name: str, operator: HostOperator, values: list[Any], errors: list[Any], result: Array) -> Array:
    """x to a constant power of at least 1."""
    x, power = (_spread(operator, values, values[i], i, result.size) for i in (1, 2))
    ex, of_power = (_spread(operator, values, errors[i], i, result.size) for i in (1, 2))
    y, wide = np.abs(result.astype(np.float64)), np.abs(x)
    carried = np.where(ex == 0, 0.0, (wide + ex) ** power - wide**power)
    carried = np.where((of_power == 0) & ((ex == 0) | (power >= 1)), carried, np.inf)
    return carried + 4 * UNIT * (y + np.where(np.isfinite(carried), carried, 0.0))


def _where(name: str, operator: HostOperator, values: list[Any], errors: list[Any], result: Array) -> Array:
    """The condition is exact, or nothing is known."""
    walk = Walk.from_table(values[4])
    if errors[1].any():
        return np.full(result.size, np.inf)
    found = np.zeros(result.size, np.float64)
    parts = [walk.view(i, np.ascontiguousarray(errors[i], np.float64)) for i in (2, 3)]
    walk.view(0, found)[...] = np.where(walk.view(1, values[1]), *parts)
    return found


def _batch_norm(
    name: str, operator: HostOperator, values: list[Any], errors: list[Any], result: Array
) -> Array:
    v = _by_name(operator, values)
    axis = v["axis"]
    slope = np.abs(v["scale"][:axis].astype(np.float64)) / np.sqrt(v["variance"][:axis] + v["epsilon"])
    shape = v["outer"], axis, v["inner"]
    x = v["x"][: result.size].astype(np.float64).reshape(shape)
    centred = np.abs(x) + np.abs(v["mean"][:axis].astype(np.float64))[:, None]
    error = errors[1].astype(np.float64).reshape(shape)
    bias = np.abs(v["bias"][:axis].astype(np.float64))[:, None]
    return (slope[:, None] * (error + 8 * UNIT * (centred + error)) + 2 * UNIT * bias).reshape(-1)


def _depthwise(
    name: str, operator: HostOperator, values: list[Any], errors: list[Any], result: Array
) -> Array:
    v, e = _by_name(operator, values), _by_name(operator, errors)
    weight = np.abs(v["weight"])
    bias = None if v["bias"] is None else np.abs(v["bias"])
    size = result.size
    carried = _again(operator, values, {"x": e["x"], "weight": weight, "bias": None}, size).astype(np.float64)
    whole = _again(operator, values, {"x": np.abs(v["x"]), "weight": weight, "bias": bias}, size)
    terms = gamma(v["window"].kernel + 2)
    return (1 + terms) * carried + terms * whole.astype(np.float64)


def _matmul(name: str, operator: HostOperator, values: list[Any], errors: list[Any], result: Array) -> Array:
    product: Product = values[3]
    a, b = (np.abs(values[i]).astype(np.float32) for i in (1, 2))
    ea, eb = errors[1], errors[2]

    def of(left: Array, right: Array) -> Array:
        return _again(operator, values, {"a": left, "b": right}, result.size).astype(np.float64)

    terms = gamma(product.k + 1)
    return (1 + terms) * (of(a, eb) + of(ea, b) + of(ea, eb)) + 2 * terms * of(a, b)


def _step(name: str, operator: HostOperator, values: list[Any], errors: list[Any], result: Array) -> Array:
    return of_step(name, _by_name(operator, values), _by_name(operator, errors))


_RULES: dict[str, Callable[..., Array]] = {
    **dict.fromkeys(["lstm_cell", "lstm_state", "gru", "gru_kept", "gru_update"], _step),
    **dict.fromkeys([*SLOPES, *_SCALED], _slope),
    **dict.fromkeys(["add", "sub", "mul", "div", "max", "min"], _binary),
    "exp": _exp,
    "max_pool": _max_pool,
    "reduce_max": _max_pool,
    "reduce_min": _max_pool,
    "average_pool": _linear,
    "reduce_sum": _linear,
    "reduce_mean": _linear,
    "softmax": _softmax,
    "log_softmax": _softmax,
    "layer_norm": _layer_norm,
    "sqrt": _root,
    "reciprocal": _inverse,
    "log": _inverse,
    "pow": _power,
    "where": _where,
    "batch_norm": _batch_norm,
    "depthwise": _depthwise,
    "matmul": _matmul,
}
