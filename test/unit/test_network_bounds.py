"""Error bounds of host operators: values within the errors of the inputs stay within the bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sparsecc.host.operator import Kind
from sparsecc.host.ops import OPERATORS
from sparsecc.host.walk import Walk
from sparsecc.network.bounds import of_call

Array = NDArray[Any]
RNG = np.random.default_rng(0)
SHAPE = 3, 8, 2
WALK = Walk.of((48,), (1,), (1,), (1,)).table()
NORMAL = RNG.standard_normal(48).astype(np.float32)
POSITIVE = np.abs(NORMAL) + np.float32(0.01)
POWERS = np.tile(np.array([1, 2, 3, 1.5], np.float32), 12)
EXTENTS = dict(zip(("outer", "axis", "inner"), SHAPE, strict=True))
SCALE, BIAS = (RNG.standard_normal(8).astype(np.float32) for _ in range(2))

CASES: dict[str, dict[str, Any]] = {
    "host_layer_norm_f32": {"x": NORMAL, "scale": SCALE, "bias": BIAS, **EXTENTS, "epsilon": 1e-5},
    "host_softmax_f32": {"x": 3 * NORMAL, **EXTENTS},
    "host_log_softmax_f32": {"x": 3 * NORMAL, **EXTENTS},
    "host_sqrt_f32": {"x": POSITIVE, "n": 48},
    "host_log_f32": {"x": POSITIVE, "n": 48},
    "host_reciprocal_f32": {"x": NORMAL, "n": 48},
    "host_pow_f32": {"a": POSITIVE, "b": POWERS, "walk": WALK},
    "host_reduce_min_f32": {"x": NORMAL, **EXTENTS},
}
STEP = {"outer": 3, "hidden": 8, "inner": 2, "f": 1, "limit": 0.9}
GATES, STATE = (RNG.standard_normal(n * 48).astype(np.float32) for n in (8, 2))
CASES.update({
    "host_lstm_cell_f32": {
        "x": GATES[:192], "r": GATES[192:], "c_before": NORMAL, "peephole": STATE[:24], **STEP, "g": 2,
        "input_forget": 0,
    },
    "host_lstm_state_f32": {
        "x": GATES[:192], "r": GATES[192:], "c": NORMAL, "peephole": None, **STEP, "final": 2,
    },
    "host_gru_f32": {"x": GATES[:144], "r": GATES[192:336], "h_before": NORMAL, **STEP, "g": 0},
    "host_gru_kept_f32": {"x": GATES[:144], "r": GATES[192:288], "h_before": NORMAL, **STEP},
    "host_gru_update_f32": {
        "x": GATES[:144], "r": GATES[192:288], "of_kept": STATE[:48], "h_before": NORMAL, **STEP, "g": 3,
    },
})  # fmt: skip
VARIED = {"x", "a", "r", "c", "c_before", "h_before", "of_kept"}


def result(name: str, values: dict[str, Any], size: int) -> Array:
    operator, y = OPERATORS[name], np.zeros(size, np.float32)
    with np.errstate(all="ignore"):
        operator.reference(*(y if a.kind is Kind.OUTPUT else values[a.name] for a in operator.arguments))
    return y


@pytest.mark.parametrize("error", [0.0, 1e-6, 1e-3, 0.3], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_no_value_is_beyond_its_bound(name: str, error: float):
    values, rng = CASES[name], np.random.default_rng(1)
    size = 6 if "reduce" in name else 48
    operator, exact = OPERATORS[name], result(name, values, size)
    errors: dict[str, Array] = {
        k: np.full(v.size, error if k in VARIED else 0.0, np.float32)
        for k, v in values.items()
        if isinstance(v, np.ndarray)
    }
    given = [exact if a.kind is Kind.OUTPUT else values[a.name] for a in operator.arguments]
    bound = of_call(operator, given, [errors.get(a.name) for a in operator.arguments], exact)
    assert bound is not None
    assert not np.isnan(bound).any()
    for _ in range(30):
        sides = rng.choice(np.array([-1, 1, 0.3], np.float32), 192)
        moved = {k: v + np.float32(error) * sides[: v.size] if k in VARIED else v for k, v in values.items()}
        if name in ("host_sqrt_f32", "host_log_f32", "host_pow_f32"):
            moved = {k: np.maximum(v, 0) if k in VARIED else v for k, v in moved.items()}
        difference = np.abs(result(name, moved, size).astype(np.float64) - exact)
        known = np.isfinite(bound)
        # Both sides are rounded.
        assert (difference[known] <= 1.001 * bound[known] + 1e-6 * np.abs(exact[known]) + 1e-7).all()


def test_a_choice_has_the_error_of_what_it_takes():
    operator = OPERATORS["host_where_4"]
    condition = np.array([1, 0, 1], np.uint8)
    a, b = (np.ones(3, np.float32) for _ in range(2))
    walk = Walk.of((3,), (1,), (1,), (1,), (1,)).table()
    errors = [None, np.zeros(3, np.float32), np.full(3, 1, np.float32), np.full(3, 2, np.float32), None]
    bound = of_call(operator, [a, condition, a, b, walk], errors, a)
    assert bound is not None
    np.testing.assert_allclose(bound, [1, 2, 1], rtol=1e-5)


def test_a_normalised_value_is_never_further_off_than_it_can_be():
    values = {**CASES["host_layer_norm_f32"], "x": np.zeros(48, np.float32)}
    operator, exact = OPERATORS["host_layer_norm_f32"], np.tile(BIAS[:, None], (3, 2)).reshape(-1)
    given = [exact if a.kind is Kind.OUTPUT else values[a.name] for a in operator.arguments]
    errors = [
        np.full(48, 1.0, np.float32) if a.name == "x" else np.zeros(8, np.float32) for a in operator.arguments
    ]
    bound = of_call(operator, given, errors, exact)
    assert bound is not None
    most = np.tile(np.abs(SCALE)[:, None], (3, 2)).reshape(-1) * 8**0.5
    assert (bound <= most * 1.001 + 1e-6).all()
