"""Patches of convolutions on CPUs: written and then multiplied, or found by address, whichever is faster."""

from __future__ import annotations

import ctypes
import time
from dataclasses import replace
from typing import cast

import numpy as np

from sparsecc.cpu.arrays import aligned
from sparsecc.cpu.build import digest, keep_measured, own_version, read_measured
from sparsecc.cpu.conv import ConvCallStruct, ConvStruct, ImageStruct
from sparsecc.cpu.line import line_kernel, make_plan, registers_for, with_schedule
from sparsecc.cpu.native import LineStruct, address
from sparsecc.cpu.tune import FIRST, ROUNDS, SECOND, line_variants, runtime
from sparsecc.cpu.variant import Variant, row_order
from sparsecc.network.cpu_host import host
from sparsecc.network.cpu_layer import CpuLayer
from sparsecc.target import CpuTarget


def by_address(layer: CpuLayer, chip: CpuTarget, plan: str) -> tuple[Variant | None, float | None]:
    """The variant that is faster than writing patches and multiplying them, and what the better takes."""
    assert layer.unfolded is not None
    w, window = layer.weight, layer.unfolded.window
    registers = registers_for(chip, 16)
    fits = min(window.pad_top, window.pad_left) >= 0 and 0 < w.nnz <= chip.limits.line_nnz
    if plan not in ("auto", "line") or registers is None or not fits:
        return None, layer.choice.seconds
    base = line_variants(w, chip, 16, fast=True)[0]
    groups = -(-w.shape[0] // base.height)
    base = replace(base, columns=w.shape[1], pack=False, panels=1, lanes=registers.lanes)
    candidates = [replace(base, batch=b) for b in sorted({1, min(2, groups), min(4, groups), groups})]
    if chip.missing:
        return (candidates[-1] if window.out_width * window.inner >= registers.lanes else None), None
    key = "conv-" + digest(
        own_version(), chip, w.shape, w.indptr.tobytes(), w.indices.tobytes(), layer.n, window,
        layer.unfolded.rows, layer.epilogue, plan,
    )  # fmt: skip
    kept = read_measured(key)
    if kept is None:
        seconds = [_conv_seconds(layer, chip, one) for one in candidates]
        written = _patch_seconds(layer, chip) + (layer.choice.seconds or 0.0)
        kept = {"seconds": seconds, "written": written}
        keep_measured(key, kept)
    seconds, written = cast("list[float]", kept["seconds"]), cast(float, kept["written"])
    best = int(np.argmin(seconds))
    if plan == "auto" and written <= seconds[best]:
        return None, written
    return candidates[best], seconds[best]


def _conv_seconds(layer: CpuLayer, chip: CpuTarget, variant: Variant) -> float:
    """Of the fastest run of a convolution by address."""
    lib, w = runtime(chip), layer.weight
    registers = registers_for(chip, variant.lanes)
    assert registers is not None
    assert layer.unfolded is not None
    patches, (m, _) = layer.patches(registers.lanes), w.shape
    plan = make_plan(w, variant.height, variant.columns, row_order(w, variant))
    kernel = with_schedule(
        line_kernel(lib, w, plan, registers, layer.epilogue, layer.bias, patches.places),
        variant.panels, variant.batch, False,
    )  # fmt: skip
    line = cast(LineStruct, kernel.struct)
    conv = ConvStruct(
        ctypes.addressof(line), ImageStruct(*patches.image), patches.strips, patches.width, patches.step
    )
    x, y = aligned(layer.unfolded.window.elements), aligned((m, layer.n))
    x[:] = np.random.default_rng(0).standard_normal(x.size, np.float32)
    residual = aligned((m, layer.n)) if layer.epilogue.residual else None
    padded, each = aligned(patches.padded(registers.lanes)), patches.scratch(m, registers.lanes)
    scratch = aligned(each)
    call_of = ConvCallStruct(
        ctypes.addressof(conv), address(x), address(y), None if residual is None else address(residual),
        address(padded), address(scratch), each,
    )  # fmt: skip
    run = ctypes.cast(lib.sc_conv_run, ctypes.c_void_p)
    return min(
        float(lib.sc_time(run, ctypes.addressof(call_of), None, 1, budget))
        for budget in (FIRST, *[SECOND] * ROUNDS)
    )


def _patch_seconds(layer: CpuLayer, chip: CpuTarget) -> float:
    """Of writing all patches of a convolution."""
    unfolded = layer.unfolded
    assert unfolded is not None
    copy = host(chip, "host_im2col_4").host_im2col_4
    copy.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_int64, ctypes.c_uint32]
    copy.restype = None
    numbers = np.asarray(unfolded.window.numbers(), np.int64)
    rows = None if unfolded.rows is None else np.asarray(unfolded.rows, np.int32)
    x, y = aligned(unfolded.window.elements), aligned((unfolded.count, layer.n))
    arguments = (address(y), address(x), address(numbers), None if rows is None else address(rows))
    best, end = float("inf"), time.perf_counter() + ROUNDS * SECOND
    while time.perf_counter() < end or best == float("inf"):
        before = time.thread_time()
        copy(*arguments, unfolded.count, 0)
        best = min(best, time.thread_time() - before)
    return best
