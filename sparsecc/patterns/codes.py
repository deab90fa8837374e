"""Lengths of codes, in bits: how many are needed to name one of so many masks.

The recogniser compares patterns by them (minimum description length, Rissanen 1978). Whatever the code, at
most one in 2^b of all masks of a shape and a number of nonzeros gets a word b bits shorter than log2 of how
many such masks there are (Kraft), so random sparsity looks like a pattern that saves b bits no more often
than that.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]


def choose_bits(n: float, k: float) -> float:
    """log2 of the ways to choose k of n."""
    if k <= 0 or k >= n:
        return 0.0
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2)


def choices_bits(n: Int64, k: Int64) -> float:
    """The sum of choose_bits over pairs of small whole numbers 0 <= k <= n."""
    top = int(n.max(initial=0))
    factorial = np.concatenate(([0.0], np.cumsum(np.log2(np.arange(1, top + 1)))))
    return float((factorial[n] - factorial[k] - factorial[n - k]).sum())


def counts_bits(histogram: Int64) -> float:
    """Bits to say how often each count occurs, and which of the groups have it."""
    total, kinds = int(histogram.sum()), len(histogram)
    bits = choose_bits(total + kinds - 1, kinds - 1)
    used = histogram[histogram > 0]
    return bits + (math.lgamma(total + 1) - sum(math.lgamma(h + 1) for h in used.tolist())) / math.log(2)
