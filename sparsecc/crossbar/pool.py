"""The arrays of an operator: so many of each shape, from one pool of cells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sparsecc.crossbar.assign import Shape


@dataclass(frozen=True)
class Pool:
    """The arrays of an operator: so many of each shape, numbered through."""

    groups: tuple[tuple[int, Shape], ...]
    """(arrays, their shape), in order."""

    @property
    def count(self) -> int:
        return sum(count for count, _ in self.groups)

    @property
    def cells(self) -> int:
        return sum(count * rows * columns for count, (rows, columns) in self.groups)

    @property
    def shapes(self) -> list[Shape]:
        return [shape for _, shape in self.groups]

    def cells_of(self, arrays: Iterable[int]) -> int:
        """Cells of these arrays."""
        return sum(rows * columns for rows, columns in map(self.shape_of, arrays))

    def shape_of(self, array: int) -> Shape:
        """The shape of an array. Numbers from `count` on are those of further rounds."""
        left = array % self.count
        for count, shape in self.groups:
            if left < count:
                return shape
            left -= count
        raise AssertionError("a pool has arrays")
