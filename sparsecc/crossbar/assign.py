"""From a cover to blocks that fit an array: cut to at most R inputs x C outputs, then packed.

A cover's meta-op is any rows x any columns of W. Cut to the array's shape, it gives blocks; blocks that are
small are packed: several share the word lines and bit lines of one array and are read by the same MVM. Where
two need the same input they share a word line, and where they add to the same output a bit line; everything
else is block-diagonal, with zeros between.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from sparsecc.cover.cells import blocks
from sparsecc.cover.laws import Pattern
from sparsecc.cover.metaops import MetaOps
from sparsecc.crossbar.tiles import Int8, Int32, Int64, Tile

Shape = tuple[int, int]
"""Word lines R and bit lines C of an array."""


def blocks_of(
    metaops: MetaOps, pattern: Pattern, data: NDArray[np.generic], shape: Shape, keep_empty: bool = False
) -> list[Tile]:
    """The meta-ops' weights, cut to blocks of at most R inputs x C outputs.

    Blocks without a nonzero, and inputs and outputs that hold none in their block, are left out, unless
    keep_empty: the dense mapping keeps the whole grid. The block numbers count from 0.
    """
    rows, columns = shape
    found: list[Tile] = []
    for i, weights in enumerate(blocks(metaops, pattern, data)):
        outputs, inputs = (np.asarray(a, np.int32) for a in (metaops.rows(i), metaops.columns(i)))
        levels = weights.T.astype(np.int8)
        for first_output in range(0, len(outputs), columns):
            of_output = slice(first_output, first_output + columns)
            panel, panel_outputs = levels[:, of_output], outputs[of_output]
            kept = np.arange(len(inputs)) if keep_empty else _by_use(panel)
            for first_input in range(0, len(kept), rows):
                lines = kept[first_input : first_input + rows]
                found.append(_block(inputs[lines], panel_outputs, panel[lines], len(found), keep_empty))
    return found


def _by_use(panel: Int8) -> Int64:
    """The inputs that a panel [inputs, outputs] uses: those that most outputs share first, then by outputs.

    Cut to arrays in this order, the last blocks hold inputs of few outputs: fewer bit lines, smaller sums.
    """
    used = panel != 0
    count = used.sum(axis=1)
    packed = np.packbits(used, axis=1)
    order = np.lexsort((*packed.T[::-1], -count))
    return order[: int((count > 0).sum())]


def _block(inputs: Int32, outputs: Int32, levels: Int8, number: int, keep_empty: bool) -> Tile:
    if not keep_empty:
        used = levels.any(axis=0)
        outputs, levels = outputs[used], levels[:, used]
    return Tile(inputs, outputs, levels, number)


def pack(found: Iterable[Tile], shape: Shape, inputs: int, outputs: int) -> list[Tile]:
    """Blocks in as few arrays as best fit finds, the largest first; block numbers count from 0 again.

    A block goes where, sharing lines, it leaves the least room over: the fullest array it fits. inputs,
    outputs: extents k and m of the operator.
    """
    ordered = sorted(found, key=lambda b: (-b.rows * b.columns, -b.rows, b.block))
    bins: list[list[Tile]] = []
    # Which inputs and outputs each array has already, a bit for each; grown by doubling.
    has_input, has_output = (np.zeros((16, -(-extent // 64)), np.uint64) for extent in (inputs, outputs))
    used = np.zeros((16, 2), np.int64)
    for block in ordered:
        count = len(bins)
        # An array whose lines are all taken can hold no more than it does.
        fits = np.flatnonzero((used[:count] < np.array(shape)).any(axis=1))
        of_input, of_output = _bits(block.inputs, inputs), _bits(block.outputs, outputs)
        new_rows = block.rows - _ones(np.bitwise_and(has_input[fits], of_input))
        new_columns = block.columns - _ones(np.bitwise_and(has_output[fits], of_output))
        after = used[fits] + np.stack([new_rows, new_columns], axis=1)
        possible = np.flatnonzero((after <= np.array(shape)).all(axis=1))
        if len(possible):
            # The fullest afterwards counts; among equals the one that grew least, then the first.
            left = (shape[0] - after[possible, 0]) * (shape[1] - after[possible, 1])
            grown = new_rows[possible] + new_columns[possible]
            at = int(fits[possible[np.lexsort((grown, left))[0]]])
        else:
            at = count
            bins.append([])
            if at == len(used):
                has_input, has_output, used = (
                    np.concatenate([a, np.zeros_like(a)]) for a in (has_input, has_output, used)
                )
        bins[at].append(block)
        has_input[at] |= of_input
        has_output[at] |= of_output
        used[at] = _ones(has_input[at]), _ones(has_output[at])
    return [_merged(members, number) for number, members in enumerate(bins)]


def _bits(lines: Int32, extent: int) -> NDArray[np.uint64]:
    """A set of lines as bits, [words of 64]."""
    found = np.zeros(-(-extent // 64) * 64, bool)
    found[lines] = True
    return np.packbits(found).view(np.uint64)


def _ones(words: NDArray[np.uint64]) -> Int64:
    """Of each set, how many it holds: [..., words] -> [...]."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        return np.bitwise_count(words).sum(axis=-1, dtype=np.int64)
    return np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1).sum(axis=-1, dtype=np.int64)


def _merged(members: list[Tile], number: int) -> Tile:
    """One block of several: the union of their inputs and outputs."""
    inputs = np.unique(np.concatenate([b.inputs for b in members]))
    outputs = np.unique(np.concatenate([b.outputs for b in members]))
    levels = np.zeros((len(inputs), len(outputs)), np.int8)
    for b in members:
        # An exact cover gives every point one owner: what others add there is 0.
        at = np.ix_(np.searchsorted(inputs, b.inputs), np.searchsorted(outputs, b.outputs))
        levels[at] += b.levels
    return Tile(inputs, outputs, levels, number)
