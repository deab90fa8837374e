"""Generators of masks: boolean matrices [m, k] in which True is a weight that pruning kept.

Every generator keeps exactly as many entries as its parameters say, and depends on nothing but them and the
seed. Where a side is no multiple of a block, the blocks at that edge are cut.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparsecc.cover.laws import Pattern

Mask = NDArray[np.bool_]

# Columns of a block of V:N:M that are kept (Castro et al., VENOM, SC'23: the width of the N:4 inside).
VNM_WIDTH = 4


def pattern_of(mask: Mask) -> Pattern:
    """The mask in CSR form."""
    column = np.nonzero(mask)[1]
    indptr = np.concatenate((np.zeros(1, np.int64), np.cumsum(mask.sum(axis=1, dtype=np.int64))))
    return Pattern(mask.shape[0], mask.shape[1], indptr, column.astype(np.int32))


def _kept(groups: int, width: int, kept: int, rng: np.random.Generator) -> Mask:
    """`kept` of `width` places in each of the groups, [groups, width]."""
    chosen = np.zeros((groups, width), bool)
    place = rng.permuted(np.broadcast_to(np.arange(width), (groups, width)), axis=1)[:, :kept]
    chosen[np.arange(groups)[:, None], place] = True
    return chosen


def _share(density: float, count: int) -> int:
    return min(count, round(density * count))


def _enlarge(grid: Mask, sides: tuple[int, int], shape: tuple[int, int]) -> Mask:
    """Each element of the grid as a block."""
    return grid.repeat(sides[0], axis=0).repeat(sides[1], axis=1)[: shape[0], : shape[1]]


def unstructured(shape: tuple[int, int], density: float, seed: int = 0) -> Mask:
    """Any places, all equally likely."""
    m, k = shape
    return _kept(1, m * k, _share(density, m * k), np.random.default_rng(seed)).reshape(m, k)


def block(shape: tuple[int, int], sides: tuple[int, int], density: float, seed: int = 0) -> Mask:
    """Whole aligned blocks of sides[0] rows x sides[1] columns."""
    grid = -(-shape[0] // sides[0]), -(-shape[1] // sides[1])
    return _enlarge(unstructured(grid, density, seed), sides, shape)


def vector(shape: tuple[int, int], v: int, density: float, seed: int = 0) -> Mask:
    """Whole aligned column vectors: v rows x 1 column."""
    return block(shape, (v, 1), density, seed)


def rows(shape: tuple[int, int], density: float, seed: int = 0) -> Mask:
    """Whole rows: filters (output channels) of a convolution or neurons of a linear layer."""
    return block(shape, (1, shape[1]), density, seed)


def columns(shape: tuple[int, int], density: float, seed: int = 0) -> Mask:
    """Whole columns: input channels, or input features."""
    return block(shape, (shape[0], 1), density, seed)


def bank(shape: tuple[int, int], banks: int, kept: int, seed: int = 0) -> Mask:
    """Each row cut to `banks` equal runs of columns, `kept` entries in each (Cao et al., FPGA'19).

    The columns must be a multiple of the banks.
    """
    m, k = shape
    if k % banks:
        raise ValueError(f"{k} columns cannot be cut to {banks} equal banks")
    return _kept(m * banks, k // banks, kept, np.random.default_rng(seed)).reshape(m, k)


def nm(shape: tuple[int, int], n: int, m: int, seed: int = 0) -> Mask:
    """N:M: n of every m consecutive columns of each row."""
    groups = -(-shape[1] // m)
    chosen = _kept(shape[0] * groups, m, n, np.random.default_rng(seed))
    return chosen.reshape(shape[0], groups * m)[:, : shape[1]]


def vnm(shape: tuple[int, int], v: int, n: int, m: int, seed: int = 0) -> Mask:
    """V:N:M (VENOM): in each block of v rows x m columns 4 columns are kept, and n of these 4 in each row."""
    down, across = -(-shape[0] // v), -(-shape[1] // m)
    rng = np.random.default_rng(seed)
    used = _kept(down * across, m, VNM_WIDTH, rng)
    column = np.nonzero(used)[1].reshape(down * across, 1, VNM_WIDTH).repeat(v, axis=1)
    inside = _kept(down * across * v, VNM_WIDTH, n, rng).reshape(down * across, v, VNM_WIDTH)
    mask = np.zeros((down * across, v, m), bool)
    np.put_along_axis(mask, column, inside, axis=2)
    mask = mask.reshape(down, across, v, m).swapaxes(1, 2).reshape(down * v, across * m)
    return mask[: shape[0], : shape[1]]


def bcr(
    shape: tuple[int, int], sides: tuple[int, int], row_keep: float, column_keep: float, seed: int = 0
) -> Mask:
    """BCR (GRIM, arXiv 2108.11033): a block keeps what lies in its own rows and columns."""
    down, across = -(-shape[0] // sides[0]), -(-shape[1] // sides[1])
    rng = np.random.default_rng(seed)
    row = _kept(down * across, sides[0], _share(row_keep, sides[0]), rng)
    column = _kept(down * across, sides[1], _share(column_keep, sides[1]), rng)
    mask = (row[:, :, None] & column[:, None, :]).reshape(down, across, *sides)
    return mask.swapaxes(1, 2).reshape(down * sides[0], across * sides[1])[: shape[0], : shape[1]]


def hierarchical(outer: Mask, inner: Mask) -> Mask:
    """Two patterns composed: what both keep, as 2:4 inside whole blocks (HighLight, MICRO'23)."""
    return outer & inner
