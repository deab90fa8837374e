"""Operators of the host with code of their own for a CPU's instructions, or for short rows, against numpy."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_cases import DTYPES, SANITIZERS, Draw, assert_same, bind, case, copied, run_sanitized

from sparsecc.errors import UserError
from sparsecc.host.operator import Array, HostOperator, Window
from sparsecc.host.ops import OPERATORS
from sparsecc.network.cpu_host import host
from sparsecc.target import CpuTarget, load_target
from sparsecc.toolchain import host_sources

NAMES = (
    "host_depthwise_q_i8", "host_depthwise_q_u8", "host_im2col_1", "host_max_pool_f32", "host_max_pool_i8",
    "host_max_pool_u8", "host_reduce_mean_q_i8", "host_reduce_mean_q_u8",
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


def called(library: ctypes.CDLL, op: HostOperator, values: list[Any]) -> Array:
    """The first output, which is that of the reference, as all else is."""
    found, wanted = copied(values), copied(values)
    assert bind(library, op)(found) == op.reference(*wanted)
    assert_same(op, found, wanted)
    return found[0]


def random_windows(library: ctypes.CDLL, name: str) -> None:
    op, random = OPERATORS[name], np.random.default_rng(5)
    for seed in range(60):
        draw = Draw(lambda low, high: int(random.integers(low, high + 1)), seed)
        called(library, op, case(op, draw))


@pytest.mark.parametrize("name", NAMES)
def test_random_windows(name: str) -> None:
    random_windows(native(), name)


DEPTHWISE = {
    "short rows": Window(21, 25, 5, 1, 25, 5, 3, 3, pad_top=1, pad_left=1),
    "batch": Window(6, 25, 5, 32, 25, 5, 3, 3, pad_top=1, pad_left=1),
    "stride": Window(3, 112, 112, 1, 56, 56, 3, 3, 2, 2, pad_top=1, pad_left=1),
    "parts": Window(2, 56, 56, 7, 56, 56, 5, 5, pad_top=2, pad_left=2),
    "wide kernel": Window(4, 1, 100, 3, 1, 91, 1, 10),
    "wide batch": Window(2, 9, 9, 4096, 5, 5, 3, 3, 2, 2, pad_top=1, pad_left=1),
    "two words": Window(5, 14, 14, 1, 14, 14, 5, 5, pad_top=2, pad_left=2),
    "one channel": Window(1, 9, 5, 1, 9, 5, 3, 3, pad_top=1, pad_left=1),
    "many rows": Window(3, 255, 3, 1, 254, 3, 4, 2, pad_top=1, pad_left=1),
    "rows apart": Window(3, 239, 3, 1, 237, 3, 3, 3, dilation_h=9, pad_top=8, pad_left=2),
    "rows before": Window(2, 240, 3, 1, 240, 3, 3, 3, dilation_h=15, pad_top=30, pad_left=1),
    "rows beyond": Window(2, 230, 3, 1, 240, 3, 3, 3, dilation_h=10, pad_left=1),
    "one row": Window(2, 1, 200, 1, 1, 200, 1, 7, pad_left=6),
    "many steps": Window(2, 40, 239, 1, 40, 239, 3, 3, pad_top=1, pad_left=1),
}
"""Planes that come in several parts, strides, kernels and batches that no word or buffer holds."""


def depthwise(library: ctypes.CDLL, kind: str, window: Window) -> None:
    op, random, dtype = OPERATORS[f"host_depthwise_q_{kind}"], np.random.default_rng(6), DTYPES[kind]
    channels = window.outer
    limits = np.iinfo(dtype)
    x = random.integers(limits.min, limits.max + 1, window.elements).astype(dtype)
    weight = random.integers(-128, 128, channels * window.kernel).astype(np.int16)
    bias = random.integers(-9999, 9999, channels).astype(np.int32)
    scale = random.uniform(1e-4, 5e-3, channels).astype(np.float32)
    y = np.zeros(window.results + 70, dtype)
    seen = set[int]()
    for x_zero, y_zero, added in ((7, 3, bias), (int(limits.min), int(limits.max), None)):
        values = [y, x, weight, added, window, channels, 1, x_zero, scale, channels, y_zero]
        seen |= set(called(library, op, values).tolist())
    assert len(seen) > 20


@pytest.mark.parametrize("kind", ["i8", "u8"])
@pytest.mark.parametrize("window", DEPTHWISE.values(), ids=DEPTHWISE.keys())
def test_depthwise_of_bytes(kind: str, window: Window) -> None:
    depthwise(native(), kind, window)


MEANS = {"rows": (64, 125, 1), "some rows": (37, 16, 1), "columns": (3, 50, 70), "long rows": (17, 3001, 1)}


def mean(library: ctypes.CDLL, kind: str, extents: tuple[int, int, int]) -> None:
    """Sums of f32 whose every rounding counts: scales with all bits."""
    op, random, dtype = OPERATORS[f"host_reduce_mean_q_{kind}"], np.random.default_rng(8), DTYPES[kind]
    outer, axis, inner = extents
    limits, seen = np.iinfo(dtype), set[int]()
    for x_zero, y_zero in ((0, 0), (int(limits.min), 5), (int(limits.max), int(limits.max))):
        centres = random.integers(limits.min, limits.max + 1, (outer, 1, inner))
        x = (
            (centres + random.integers(-30, 31, (outer, axis, inner)))
            .clip(limits.min, limits.max)
            .astype(dtype)
        )
        y = np.zeros(outer * inner + 70, dtype)
        x_scale, y_scale = (float(np.float32(random.uniform(0.01, 0.02))) for _ in range(2))
        values = [y, x.reshape(-1), *extents, x_scale, x_zero, y_scale, y_zero]
        seen |= set(called(library, op, values).tolist())
    assert len(seen) > 20


@pytest.mark.parametrize("kind", ["i8", "u8"])
@pytest.mark.parametrize("extents", MEANS.values(), ids=MEANS.keys())
def test_means_of_bytes(kind: str, extents: tuple[int, int, int]) -> None:
    mean(native(), kind, extents)


def test_sanitizers(tmp_path: Path) -> None:
    """Vectors do not reach beyond arrays."""
    native()
    target = load_target("cpu")
    assert isinstance(target, CpuTarget)
    parts = ("depthwise", "depthwise_bytes", "quantise", "reduce", "reduce_bytes", "window")
    sources = [str(path) for path in host_sources() if path.stem in parts]
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", *SANITIZERS, *target.with_type("i8").flags]

    def build() -> Path:
        library = tmp_path / "libhost.so"
        command = ["gcc", *flags, "-ffp-contract=off", "-fPIC", "-shared", *sources, "-lm"]
        subprocess.run([*command, "-o", str(library)], check=True)
        return library

    run_sanitized(__file__, build)


if __name__ == "__main__":
    sanitized = ctypes.CDLL(sys.argv[1])
    for operator in NAMES:
        random_windows(sanitized, operator)
    for element in ("i8", "u8"):
        for shape in DEPTHWISE.values():
            depthwise(sanitized, element, shape)
        for sizes in MEANS.values():
            mean(sanitized, element, sizes)
    print("ran")
