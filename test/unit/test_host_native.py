"""Operators of the host with code of their own for a CPU's instructions, or for short rows, against numpy."""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
import pytest
from host_cases import DTYPES, Draw, assert_same, bind, case, copied

from sparsecc.errors import UserError
from sparsecc.host.operator import Window
from sparsecc.host.ops import OPERATORS
from sparsecc.network.cpu import host
from sparsecc.target import CpuTarget, load_target

NAMES = (
    "host_depthwise_q_i8", "host_depthwise_q_u8", "host_im2col_1", "host_max_pool_f32", "host_max_pool_i8",
    "host_max_pool_u8",
)  # fmt: skip


@cache
def native() -> ctypes.CDLL:
    """The operators as networks of bytes have them on this CPU."""
    target = load_target("cpu")
    assert isinstance(target, CpuTarget)
    try:
        return host(target.with_type("i8"))
    except UserError as e:
        pytest.skip(f"no int8 on this CPU: {e}")


@pytest.mark.parametrize("name", NAMES)
def test_random_windows(name: str) -> None:
    op, random = OPERATORS[name], np.random.default_rng(5)
    call = bind(native(), op)
    for seed in range(60):
        values = case(op, Draw(lambda low, high: int(random.integers(low, high + 1)), seed))
        found, wanted = copied(values), copied(values)
        assert call(found) == op.reference(*wanted)
        assert_same(op, found, wanted)


@pytest.mark.parametrize("kind", ["i8", "u8"])
@pytest.mark.parametrize(
    "window",
    [
        Window(21, 25, 5, 1, 25, 5, 3, 3, pad_top=1, pad_left=1),
        Window(6, 25, 5, 32, 25, 5, 3, 3, pad_top=1, pad_left=1),
        Window(3, 112, 112, 1, 56, 56, 3, 3, 2, 2, pad_top=1, pad_left=1),
        Window(2, 56, 56, 7, 56, 56, 5, 5, pad_top=2, pad_left=2),
        Window(4, 1, 100, 3, 1, 91, 1, 10),
        Window(2, 9, 9, 4096, 5, 5, 3, 3, 2, 2, pad_top=1, pad_left=1),
    ],
    ids=["short rows", "batch", "stride", "parts", "wide kernel", "wide batch"],
)
def test_depthwise_of_bytes(kind: str, window: Window) -> None:
    """Planes that come in several parts, strides, kernels and batches that no word or buffer holds."""
    op, random, dtype = OPERATORS[f"host_depthwise_q_{kind}"], np.random.default_rng(6), DTYPES[kind]
    channels = window.outer
    limits = np.iinfo(dtype)
    x = random.integers(limits.min, limits.max + 1, window.elements).astype(dtype)
    weight = random.integers(-128, 128, channels * window.kernel).astype(np.int16)
    bias = random.integers(-9999, 9999, channels).astype(np.int32)
    scale = random.uniform(1e-4, 5e-3, channels).astype(np.float32)
    y = np.zeros(window.results + 70, dtype)
    values = [y, x, weight, bias, window, channels, 1, 7, scale, channels, 3]
    found, wanted = copied(values), copied(values)
    call = bind(native(), op)
    assert call(found) == op.reference(*wanted)
    assert_same(op, found, wanted)
    assert len(np.unique(found[0])) > 50
