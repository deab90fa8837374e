"""Covers of masks. The needed points of an SDDMM lie in the plane (M, N), those of an SpMM in (M, K).

All other cover mathematics is written for (M, K). Seen with N and K exchanged, a cover of a mask is one of
these: its positions are the columns, and k, which every meta-op needs whole, is the positions.
"""

from __future__ import annotations

import numpy as np

from sparsecc.cover.metaops import K0, K_MAP, M0, M_MAP, N0, K, M, MetaOps, N

Unit = tuple[int, int, int]


def exchanged(metaops: MetaOps) -> MetaOps:
    """The meta-ops with N and K exchanged. Columns must be ranges, for positions have no lists."""
    assert (metaops.table[:, K_MAP] < 0).all(), "positions cannot be listed"
    return MetaOps(metaops.table[:, [M0, M, K0, K, N0, N, M_MAP, K_MAP]], metaops.index)


def exchanged_unit(unit: Unit) -> Unit:
    """The unit with n and k exchanged."""
    m, n, k = unit
    return m, k, n


def broken_whole_k(metaops: MetaOps, k: int) -> str | None:
    """Every meta-op of an SDDMM has all of k: a sentence that names the first without, or None."""
    t = metaops.table
    broken = (t[:, K_MAP] >= 0) | (t[:, K0] != 0) | (t[:, K] != k)
    if not broken.any():
        return None
    i = int(np.argmax(broken))
    columns = metaops.columns(i)
    found = f"{columns.start}:{columns.stop}" if isinstance(columns, range) else "a list"
    return f"meta-op {i} has {found} of k; a meta-op of an SDDMM needs all of 0:{k}"
