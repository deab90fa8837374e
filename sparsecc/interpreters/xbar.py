"""Runs `xbar.spmm` on numpy: exactly as the arrays do, with converters that clip where they may."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.crossbar.adc import bits_needed
from sparsecc.crossbar.tiles import Int64, Tile
from sparsecc.dialects.xbar import SpmmOp
from sparsecc.interpreters.sparse import HANDLERS, Frame
from sparsecc.passes.xbar_pass import crossbar_target
from sparsecc.target.crossbar import CrossbarTarget

Array = NDArray[Any]


def _spmm(op: SpmmOp, frame: Frame) -> list[Array]:
    """W X, tile by tile."""
    x, target = frame[op.x], crossbar_target(op.target.data)
    result = np.zeros(op.res.type.get_shape(), np.int64)
    for tile in op.tiles:
        result[tile.outputs] += tile_product(tile, x[tile.inputs], target)
    return [result.astype(np.int32)]


def tile_product(tile: Tile, x: NDArray[np.int8], target: CrossbarTarget) -> Int64:
    """What a tile adds to its outputs, [columns, n], of its inputs x [rows, n]."""
    bits = tile.adc_bits or target.adc.bits
    if tile.slice < 0 or bits_needed(tile, target) <= bits:
        # Nothing can clip: the exact product.
        inputs = x.astype(np.float64) * tile.factors[:, None]
        return (tile.values.T.astype(np.float64) @ inputs).astype(np.int64) << tile.shift
    return bit_serial(tile, x, target, bits)


def bit_serial(tile: Tile, x: NDArray[np.int8], target: CrossbarTarget, bits: int) -> Int64:
    """The same step by step, each sum of a step and bit line clipped by a converter of `bits` bits."""
    wide = x.astype(np.int64) * tile.factors[:, None]
    cells = tile.cells(target.level_max).astype(np.int64)
    limit = target.adc_limit(bits)
    group = target.array.ou_rows or max(1, tile.rows)
    width, sums = target.dac.bits, np.zeros((tile.columns, x.shape[1]), np.int64)
    length = target.numbers.input_bits + (1 if tile.doubled is not None else 0)
    steps = -(-(length - 1) // width) if target.differential else length
    for step in range(steps):
        if target.differential:
            digit = np.sign(wide) * (np.abs(wide) >> (step * width) & ((1 << width) - 1))
            weight = 1 << (step * width)
        else:
            digit = wide >> step & 1
            weight = -(1 << step) if step == steps - 1 else 1 << step
        for first in range(0, tile.rows, group):
            lines = slice(first, first + group)
            if target.array.digitised == "separately":
                parts = (np.maximum(cells[lines], 0), np.minimum(cells[lines], 0))
            else:
                parts = (cells[lines],)
            for part in parts:
                sums += weight * np.clip(part.T @ digit[lines], -limit, limit)
    total = wide.sum(axis=0)
    if tile.flipped is not None:
        sums[tile.flipped] = target.level_max * total - sums[tile.flipped]
    return (sums - tile.zero * total) << tile.shift


def register() -> None:
    """Let `sparsecc.interpreters.sparse` run the operator."""
    HANDLERS[SpmmOp] = _spmm
