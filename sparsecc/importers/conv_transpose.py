"""Transposed convolutions as convolutions: each phase of the stride has the taps of the kernel that reach it.

Along one axis y[s i + d k - p] gets x[i] w[k]. With s q + r for the place, phase r of the result is a
convolution of x with the taps for which s e + r = d k, at distance e. All phases are one convolution with s
times as many outputs, zeros where a phase has no tap; nothing is multiplied by the zeros that stretching x
would put between its elements. (The sub-pixel convolution of Shi et al., CVPR 2016.)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.dialects.nn_products import ConvOp
from sparsecc.importers.emitter import Emitter, as_matrix, reshaped, sliced, transposed
from sparsecc.importers.values import Value


def conv_transpose(
    node: Emitter, x: Value, w: Value, bias: Value | None, *, strides: Sequence[int], pads: Sequence[int],
    dilations: Sequence[int], groups: int, size: Sequence[int],
) -> Value:  # fmt: skip
    """The transposed convolution of x [N, C, ...] with a constant w [C, M / groups, ...].

    pads: rows of the full result cut off in front, by axis; size: extents of what is left of it, with zeros
    where nothing of x reaches. Fails for weights that are not constant and for shapes that do not fit.
    """
    rank = x.rank - 2
    if w.constant is None:
        node.fail("its weight is computed at run time", "make it a constant of the model")
    if rank < 1 or w.rank != x.rank or w.shape[0] != x.shape[1] or groups < 1 or w.shape[0] % groups:
        node.fail(
            f"the input has shape {list(x.shape)}, the weight {list(w.shape)}, in {groups} groups; needed "
            "[N, C, ...] and [C, M / groups, ...]"
        )
    if any(len(v) != rank for v in (strides, pads, dilations, size)) or min(*strides, *dilations, *size) < 1:
        node.fail(
            f"strides {list(strides)}, dilations {list(dilations)} and result {list(size)} do not fit "
            f"{rank} spatial axes"
        )
    inputs, kernel = x.shape[2:], w.shape[2:]
    reach = [d * (k - 1) // s for d, k, s in zip(dilations, kernel, strides, strict=True)]
    places = [-(-(n + p) // s) for n, p, s in zip(size, pads, strides, strict=True)]
    phases = _phases(np.asarray(w.constant.array()), strides, dilations, reach, groups)
    repeated = None
    if bias is not None:
        if bias.constant is None:
            node.fail("its bias is computed at run time", "make it a constant of the model")
        each = np.asarray(bias.constant.array()).reshape(groups, 1, -1)
        repeated = Value.array(np.repeat(each, math.prod(strides), axis=1).ravel(), w.element)
    y = node.emit(
        ConvOp, x, as_matrix(node, Value.array(phases, w.element)), repeated, weights=[1],
        kernel=[e + 1 for e in reach], strides=[1] * rank, dilations=[1] * rank, groups=groups,
        pads=[*reach, *(max(0, q - n) for q, n in zip(places, inputs, strict=True))],
    )  # fmt: skip
    y = sliced(node, y, [0] * y.rank, [*y.shape[:2], *places], [1] * y.rank)
    outputs = w.shape[1] * groups
    if math.prod(strides) > 1:
        # [N, groups, phases..., outputs of a group, places...] to each place with its phases behind it.
        y = reshaped(node, y, (y.shape[0], groups, *strides, w.shape[1], *places))
        inner = [axis for i in range(rank) for axis in (3 + rank + i, 2 + i)]
        y = transposed(node, y, [0, 1, 2 + rank, *inner])
        wide = [q * s for q, s in zip(places, strides, strict=True)]
        y = reshaped(node, y, (y.shape[0], outputs, *wide))
    return sliced(node, y, [0, 0, *pads], [*y.shape[:2], *size], [1] * y.rank)


def _phases(
    w: NDArray[Any], strides: Sequence[int], dilations: Sequence[int], reach: Sequence[int], groups: int
) -> NDArray[Any]:
    """Weights of the convolution, [groups x phases x M / groups, C / groups, reach + 1 ...]."""
    inputs, outputs = w.shape[0] // groups, w.shape[1]
    found = np.zeros((groups, *strides, outputs, inputs, *(e + 1 for e in reach)), w.dtype)
    grouped = w.reshape(groups, inputs, outputs, *w.shape[2:])
    for tap in itertools.product(*(range(k) for k in w.shape[2:])):
        places = [d * k for d, k in zip(dilations, tap, strict=True)]
        phase = tuple(at % s for at, s in zip(places, strides, strict=True))
        # Taps lie backwards: that at distance e reads e places before.
        back = tuple(e - at // s for e, at, s in zip(reach, places, strides, strict=True))
        found[(slice(None), *phase, slice(None), slice(None), *back)] = grouped[
            (slice(None), slice(None), slice(None), *tap)
        ].swapaxes(1, 2)
    return found.reshape(groups * math.prod(strides) * outputs, inputs, *found.shape[3 + len(strides) :])
