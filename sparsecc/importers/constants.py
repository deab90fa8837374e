"""Constants of a network while it is imported: dense, sparse, or integers that stand for real numbers.

Reshaping and transposing them computes nothing, so that a weight stays recognisable, and stays sparse, until
an operator takes it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.nn.arithmetic import dequantize

Array = NDArray[Any]


class Constant(ABC):
    """A tensor whose values are known."""

    shape: tuple[int, ...]
    element: str
    """Name of the element type; bf16 values are held as the f32 they equal."""

    @abstractmethod
    def array(self) -> Array:
        """All values, of this shape."""

    @abstractmethod
    def reshape(self, shape: Sequence[int]) -> Constant:
        """The same elements in row-major order under another shape."""

    @abstractmethod
    def transpose(self, perm: Sequence[int]) -> Constant:
        """Axis i of the result is axis perm[i]."""


@dataclass(frozen=True, eq=False)
class Dense(Constant):
    """An array."""

    values: Array
    element: str

    @property
    def shape(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.values.shape

    def array(self) -> Array:
        return self.values

    def reshape(self, shape: Sequence[int]) -> Dense:
        return Dense(self.values.reshape(shape), self.element)

    def transpose(self, perm: Sequence[int]) -> Dense:
        return Dense(self.values.transpose(perm), self.element)


@dataclass(frozen=True, eq=False)
class Sparse(Constant):
    """Values at row-major places, ascending and different; 0 elsewhere."""

    shape: tuple[int, ...]
    element: str
    places: NDArray[np.int64]
    values: Array

    def array(self) -> Array:
        dense = np.zeros(math.prod(self.shape), self.values.dtype)
        dense[self.places] = self.values
        return dense.reshape(self.shape)

    def reshape(self, shape: Sequence[int]) -> Sparse:
        return Sparse(tuple(shape), self.element, self.places, self.values)

    def transpose(self, perm: Sequence[int]) -> Sparse:
        shape = tuple(self.shape[p] for p in perm)
        along = np.unravel_index(self.places, self.shape)
        places = np.ravel_multi_index([along[p] for p in perm], shape)
        order = np.argsort(places)
        return Sparse(shape, self.element, places[order].astype(np.int64), self.values[order])


@dataclass(frozen=True, eq=False)
class Quantized(Constant):
    """(integers - zero) * scale; scale and zero are scalars, or [extent] of the axis."""

    integers: Constant
    scale: Array
    zero: Array
    axis: int | None
    element: str

    @property
    def shape(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.integers.shape

    def array(self) -> Array:
        return dequantize(self.integers.array(), self.scale, self.zero, self.axis)

    def reshape(self, shape: Sequence[int]) -> Constant:
        """Stays what it is while the elements of one index of the axis stay together."""
        axis = None
        if self.axis is not None:
            before, extent = math.prod(self.shape[: self.axis]), self.shape[self.axis]
            fits = [i for i, d in enumerate(shape) if d == extent and math.prod(shape[:i]) == before]
            if not fits:
                return Dense(self.array().reshape(shape), self.element)
            axis = fits[0]
        return Quantized(self.integers.reshape(shape), self.scale, self.zero, axis, self.element)

    def transpose(self, perm: Sequence[int]) -> Quantized:
        axis = None if self.axis is None else list(perm).index(self.axis)
        return Quantized(self.integers.transpose(perm), self.scale, self.zero, axis, self.element)


def csr_of(matrix: Constant) -> tuple[NDArray[np.int64], NDArray[np.int32], Array]:
    """Row pointers, columns and values of the nonzeros of a constant of two dimensions."""
    rows, columns = matrix.shape
    if isinstance(matrix, Sparse):
        keep = matrix.values != 0
        values = matrix.values[keep]
        at_row, at_column = np.divmod(matrix.places[keep], max(1, columns))
    else:
        dense = matrix.array()
        at_row, at_column = np.nonzero(dense)
        values = dense[at_row, at_column]
    counts = np.bincount(at_row, minlength=rows)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), at_column.astype(np.int32), values
