"""Squeeze-out (SME, ICCD 2021): the word lines of a sparse top slice move to the slice below.

A word line whose input counts twice needs cells of half the weight. So a block W may be held as W1 + 2 W2, W2
on doubled lines, and where neither has anything in the top slice, that slice needs no array. An input whose
weights reach the top slice moves there in one of two ways:

- *halved*, as SME does it: all its weights move, halved, so that it still has one word line. Exact where all
  of them are even; else their lowest bits are lost, which happens only when asked for (`lossy`);
- *added*: only what the top slice holds moves, halved, to a word line of its own in the slice below. Exact,
  but that array must have word lines left over.

The price is one more input step for the tiles with doubled lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from sparsecc.crossbar.encode import Encoding, levels_of
from sparsecc.crossbar.slices import without_empty
from sparsecc.crossbar.tiles import Int32, Int64, Tile


@dataclass(frozen=True)
class Squeezed:
    """Tiles after squeeze-out."""

    tiles: list[Tile]
    slices: int
    """Slices that were squeezed out: so many arrays fewer."""
    lines: int
    """Word lines whose input is doubled."""
    lost: int
    """Weights that changed by one (lossy only)."""


# Whether the second is worth more than the first, both being all tiles of one block.
Judge = Callable[[Sequence[Tile], Sequence[Tile]], bool]


def squeezed(
    tiles: Sequence[Tile], encoding: Encoding, array_rows: int, better: Judge, lossy: bool = False
) -> Squeezed:
    """Squeeze out the top slice of each block where that is possible and better."""
    found: list[Tile] = []
    slices = lost = 0
    for _, members in groupby(tiles, key=lambda t: t.block):
        before = list(members)
        attempt = _without_top(before, encoding, array_rows, lossy) if encoding.is_signed else None
        if attempt is not None and better(before, attempt[0]):
            slices += 1
            lost += attempt[1]
            found += attempt[0]
        else:
            found += before
    lines = sum(int(t.doubled.sum()) for t in found if t.doubled is not None)
    return Squeezed(found, slices, lines, lost)


def _without_top(
    block: Sequence[Tile], encoding: Encoding, array_rows: int, lossy: bool
) -> tuple[list[Tile], int] | None:
    """The block without its top slice, and how many weights lost a bit; None where that cannot be."""
    if len(block) < 2 or any(t.doubled is not None or t.bundle >= 0 for t in block):
        return None
    top = max(t.shift for t in block)
    inputs, outputs, weights = _weights(block)
    reaches = (np.abs(weights) >> top).any(axis=1)
    even = (weights % 2 == 0).all(axis=1)
    # Halved weights must have left the top slice, too.
    shrinks = (np.abs(weights) >> (top + 1) == 0).all(axis=1)
    halved, lost = reaches & even & shrinks, 0
    doubled = np.zeros_like(weights)
    doubled[halved] = weights[halved] // 2
    added = reaches & ~halved
    part = np.sign(weights[added]) * (np.abs(weights[added]) >> top << top)
    doubled[added] = part // 2
    single = weights - 2 * doubled
    found = _cut(block, inputs, outputs, single, doubled, encoding)
    if found is None or max((t.rows for t in found), default=0) > array_rows:
        if not lossy or not shrinks[reaches].all():
            return None
        doubled[reaches] = np.sign(weights[reaches]) * (np.abs(weights[reaches]) >> 1)
        lost = int((2 * doubled[reaches] != weights[reaches]).sum())
        single = weights.copy()
        single[reaches] = 0
        found = _cut(block, inputs, outputs, single, doubled, encoding)
    return None if found is None else (found, lost)


def _weights(block: Sequence[Tile]) -> tuple[Int32, Int32, Int64]:
    """Inputs, outputs and weights [inputs, outputs] of the slices together."""
    inputs, outputs = (
        np.unique(np.concatenate(lists)).astype(np.int32)
        for lists in ([t.inputs for t in block], [t.outputs for t in block])
    )
    weights = np.zeros((len(inputs), len(outputs)), np.int64)
    for t in block:
        at = np.ix_(np.searchsorted(inputs, t.inputs), np.searchsorted(outputs, t.outputs))
        weights[at] += t.values << t.shift
    return inputs, outputs, weights


def _cut(
    block: Sequence[Tile], inputs: Int32, outputs: Int32, single: Int64, doubled: Int64, encoding: Encoding
) -> list[Tile] | None:
    """single + 2 * doubled in slices below the block's top one; None where they do not fit these."""
    top = max(t.shift for t in block)
    if (np.abs(single) >> top).any() or (np.abs(doubled) >> top).any():
        return None
    levels = levels_of(np.concatenate([single, doubled]).astype(np.int8), encoding)
    lines = np.concatenate([inputs, inputs])
    flags = np.repeat([False, True], len(inputs))
    tiles: list[Tile] = []
    for number, shift in enumerate(encoding.shifts):
        used = levels[number].any(axis=1)
        if not levels[number].any():
            continue
        cells = np.ascontiguousarray(levels[number][used])
        tiles.append(Tile(lines[used], outputs, cells, block[0].block, number, shift, doubled=flags[used]))
    return without_empty(tiles)
