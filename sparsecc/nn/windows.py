"""Convolution and pooling: windows that move over the spatial axes of [N, channels, spatial...]."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from sparsecc.nn.arithmetic import Array, accumulator, ordered_sum, weight_product
from sparsecc.nn.shapes import window_extents

# Elements of the matrix of patches that are held at once.
_CHUNK = 1 << 24


@dataclass(frozen=True)
class Windows:
    """Extents along each spatial axis; pads are all the low ones, then all the high ones."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    ceil_mode: bool = False

    def extents(self, x: Array) -> tuple[int, ...]:
        """How many windows fit along each spatial axis of x."""
        return window_extents(
            x.shape[2:], self.kernel, self.strides, self.pads, self.dilations, self.ceil_mode
        )

    def patches(self, x: Array, fill: float | int) -> Array:
        """What each window sees, outside x `fill`: a view [N, C, windows..., kernel...]."""
        rank, windows = len(self.kernel), self.extents(x)
        widths = [(0, 0), (0, 0)]
        for i in range(rank):
            # In ceil mode the last window may reach beyond the padding; without it, not all is used.
            reach = (windows[i] - 1) * self.strides[i] + (self.kernel[i] - 1) * self.dilations[i] + 1
            low = self.pads[i]
            widths.append((low, max(0, reach - low - x.shape[2 + i])))
        padded = np.pad(x, widths, constant_values=fill)
        outer = padded.strides[2:]
        return np.lib.stride_tricks.as_strided(
            padded,
            (*x.shape[:2], *windows, *self.kernel),
            (
                *padded.strides[:2],
                *(s * n for s, n in zip(outer, self.strides, strict=True)),
                *(s * n for s, n in zip(outer, self.dilations, strict=True)),
            ),
            writeable=False,
        )


def conv(x: Array, weight: Array, windows: Windows, groups: int) -> Array:
    """x [N, C, spatial...], weight [M, C / groups * kernel...] -> [N, M, windows...], summed in order.

    Columns of the weight run over channels of the group, then the kernel row-major. The caller adds the bias
    and rounds.
    """
    extents, rank = windows.extents(x), len(windows.kernel)
    outputs, channels = len(weight) // groups, x.shape[1] // groups
    positions = math.prod(extents)
    kind = accumulator(np.result_type(x, weight))
    result = np.empty((x.shape[0], len(weight), *extents), kind)
    step = max(1, _CHUNK // max(1, weight.shape[1] * positions))
    order = (1, *range(2 + rank, 2 + 2 * rank), 0, *range(2, 2 + rank))
    for first in range(0, len(x), step):
        seen = windows.patches(x[first : first + step], 0)
        images = len(seen)
        for g in range(groups):
            part = seen[:, g * channels : (g + 1) * channels].transpose(order)
            columns = part.reshape(weight.shape[1], images * positions)
            rows = slice(g * outputs, (g + 1) * outputs)
            product = weight_product(weight[rows], columns).reshape(outputs, images, *extents)
            result[first : first + step, rows] = np.moveaxis(product, 0, 1)
    return result


def _chunks(x: Array, windows: Windows, fill: float | int) -> Iterator[tuple[slice, Array]]:
    """Parts of the batch and their windows: [kernel, n, C, windows...]."""
    rank, extents = len(windows.kernel), windows.extents(x)
    size = x.shape[1] * math.prod(extents) * math.prod(windows.kernel)
    step = max(1, _CHUNK // max(1, size))
    order = (*range(2 + rank, 2 + 2 * rank), 0, 1, *range(2, 2 + rank))
    for first in range(0, len(x), step):
        part = slice(first, first + step)
        seen = windows.patches(x[part], fill).transpose(order)
        yield part, seen.reshape(math.prod(windows.kernel), *seen.shape[rank:])


def _pooled(x: Array, windows: Windows, fill: float | int, by: Callable[[Array], Array]) -> Array:
    result = np.empty((*x.shape[:2], *windows.extents(x)), accumulator(x.dtype))
    for part, seen in _chunks(x, windows, fill):
        result[part] = by(seen)
    return result


def max_pool(x: Array, windows: Windows) -> Array:
    """The largest element of each window; padding is smaller than all."""
    least = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    return _pooled(x, windows, least, lambda seen: seen.max(axis=0)).astype(x.dtype)


def average_pool(x: Array, windows: Windows, count_padding: bool) -> Array:
    """The sum of each window / its elements, of x or also of the padding; never of what lies beyond it."""
    counted = np.ones((1, 1, *x.shape[2:]), np.float32)
    if count_padding:
        rank = len(windows.kernel)
        widths = [(0, 0), (0, 0), *((windows.pads[i], windows.pads[rank + i]) for i in range(rank))]
        counted = np.pad(counted, widths, constant_values=1)
        # The padding is part of what is counted now.
        counts = Windows(
            windows.kernel, windows.strides, (0,) * 2 * rank, windows.dilations, windows.ceil_mode
        )
        seen = counts.patches(counted, 0)
        seen = seen[(slice(None), slice(None), *(slice(n) for n in windows.extents(x)))]
    else:
        seen = windows.patches(counted, 0)
    count = seen.sum(axis=tuple(range(-len(windows.kernel), 0)))
    return _pooled(x, windows, 0, ordered_sum) / count
