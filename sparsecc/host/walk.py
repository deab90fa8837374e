"""Walks: extents, and the strides of every operand, of an operator that goes over strided arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparsecc.errors import UserError
from sparsecc.host.operator import Array

MAX_AXES = 6


@dataclass(frozen=True)
class Walk:
    """Extents, and of each operand, the result first, the strides in elements.

    A stride of 0 repeats an element, a negative one walks backwards from where the operand begins.
    """

    extents: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(extents: Sequence[int], *strides: Sequence[int]) -> Walk:
        """Collapsed: no axes of extent 1, and no two axes that are one for all operands.

        Raises UserError if more than MAX_AXES remain.
        """
        axes: list[tuple[int, tuple[int, ...]]] = []
        for extent, *steps in zip(extents, *strides, strict=True):
            step = tuple(steps)
            if extent == 1:
                continue
            if axes and axes[-1][1] == tuple(extent * s for s in step):
                axes[-1] = (axes[-1][0] * extent, step)
            else:
                axes.append((extent, step))
        if len(axes) > MAX_AXES:
            raise UserError(
                f"an operator over {len(axes)} axes that cannot be joined; at most {MAX_AXES} are supported, "
                "transpose or reshape its operands first"
            )
        if not axes:
            axes = [(1, (1,) * len(strides))]
        return Walk(tuple(e for e, _ in axes), tuple(zip(*(s for _, s in axes), strict=True)))

    @staticmethod
    def broadcast(*shapes: Sequence[int]) -> Walk:
        """Contiguous operands of these shapes, broadcast as in numpy to a contiguous result."""
        shape = np.broadcast_shapes(*map(tuple, shapes))
        return Walk.of(shape, contiguous(shape), *(broadcast_strides(s, shape) for s in shapes))

    @staticmethod
    def from_table(numbers: Sequence[int]) -> Walk:
        """What `table` gave."""
        rank = numbers[0]
        rows = [tuple(numbers[i : i + rank]) for i in range(1, len(numbers), rank)]
        return Walk(rows[0], tuple(rows[1:]))

    def table(self) -> tuple[int, ...]:
        """As C takes it: the number of axes, the extents, the strides of each operand."""
        return (len(self.extents), *self.extents, *(s for row in self.strides for s in row))

    @property
    def count(self) -> int:
        """Elements of the result."""
        return math.prod(self.extents)

    def touched(self, operand: int) -> int:
        """Different elements of an operand, if no two places of the walk meet but by strides of 0."""
        pairs = zip(self.extents, self.strides[operand], strict=True)
        return math.prod(e for e, s in pairs if s != 0 or e == 0)

    def view(self, operand: int, array: Array) -> Array:
        """The operand as a view of the walk's extents, to be written too. array[0] is where it begins."""
        steps = [s * array.itemsize for s in self.strides[operand]]
        return np.lib.stride_tricks.as_strided(array, self.extents, steps)


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a row-major array, in elements."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def broadcast_strides(shape: Sequence[int], wanted: Sequence[int]) -> tuple[int, ...]:
    """Strides that repeat a row-major array of this shape to the wanted one, by numpy's rule."""
    steps = [0 if d == 1 else s for d, s in zip(shape, contiguous(shape), strict=True)]
    return (0,) * (len(wanted) - len(shape)) + tuple(steps)


def transpose(shape: Sequence[int], perm: Sequence[int]) -> Walk:
    """A copy in which axis i of the result is axis perm[i] of x [shape]."""
    steps, extents = contiguous(shape), [shape[p] for p in perm]
    return Walk.of(extents, contiguous(extents), [steps[p] for p in perm])
