"""Facts about tensors, and how operators pass them on: forward what is known, backward what is needed.

A fact says of every element whether its value is the same for every input of the network, and which value.
A need says of every element whether some output may depend on it. Facts of elements are finer than facts of
channels: reshapes, slices and the borders of padded convolutions are exact, and a channel is dead when all
its elements are. Values are taken to be finite, so that 0 times anything is 0; the sign of a 0 is ignored.

A rule holds what one operator's shapes and constants say. Elements that are not needed may change together:
a rule never lets two operands off because of each other.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.propagate.cuts import RESULT, Link, same

Array = NDArray[Any]
Mask = NDArray[np.bool_]
Places = NDArray[np.intp]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Fact:
    """Which elements are known, and their values; what is not known has any value, 1 mostly."""

    known: Mask
    value: Array

    @property
    def zero(self) -> Mask:
        """Elements that are known to be 0."""
        return self.known & (self.value == 0)

    @property
    def is_known(self) -> bool:
        """Whether all elements are."""
        return bool(self.known.all())


def unknown(shape: Shape, dtype: np.dtype[Any]) -> Fact:
    """Nothing is known. Ones stand for the elements: a sum or quotient of them is finite."""
    return Fact(np.zeros(shape, np.bool_), np.broadcast_to(np.ones((), dtype), shape))


def constant(value: Array) -> Fact:
    """All is known, except what is not finite."""
    known = np.isfinite(value) if value.dtype.kind == "f" else np.ones(value.shape, np.bool_)
    return Fact(known, value)


class Rule(ABC):
    """How an operator of one result passes on facts and needs."""

    @abstractmethod
    def known(self, facts: Sequence[Fact]) -> Mask:
        """Elements of the result that follow from what is known of the operands."""

    @abstractmethod
    def needs(self, facts: Sequence[Fact], need: Mask) -> list[Mask]:
        """Elements of each operand that the needed elements of the result may depend on."""

    def links(self) -> list[Link]:
        """Indices of operands and of the result that can only be cut together."""
        return []

    def frozen(self) -> list[tuple[int, int]]:
        """Axes that cannot be cut: (operand or RESULT, axis)."""
        return []

    def pinned(self) -> list[tuple[int, int, Places]]:
        """Indices that cannot be cut: (operand or RESULT, axis, indices)."""
        return []


@dataclass(frozen=True)
class Opaque(Rule):
    """An operator of which nothing is known but its shapes."""

    operands: tuple[Shape, ...]
    result: Shape

    def known(self, facts: Sequence[Fact]) -> Mask:
        return np.full(self.result, all(f.is_known for f in facts))

    def needs(self, facts: Sequence[Fact], need: Mask) -> list[Mask]:
        return [np.full(shape, need.any()) for shape in self.operands]

    def frozen(self) -> list[tuple[int, int]]:
        inputs = [(i, a) for i, shape in enumerate(self.operands) for a in range(len(shape))]
        return inputs + [(RESULT, a) for a in range(len(self.result))]


@dataclass(frozen=True)
class Pointwise(Rule):
    """Every element of the result is a function of one element of each operand.

    axes: for each operand the axis of the result that each of its axes lies along.
    kind: "mul" (also "and"), "or", "div", "where", "scaled" (operands x, scale, then others) or "" for
    functions that no operand decides alone.
    """

    operands: tuple[Shape, ...]
    axes: tuple[tuple[int, ...], ...]
    result: Shape
    kind: str = ""

    def wide(self, mask: Array, i: int) -> Array:
        """A mask of operand i over the result."""
        extents = [1] * len(self.result)
        for axis, extent in zip(self.axes[i], self.operands[i], strict=True):
            extents[axis] = extent
        return np.broadcast_to(mask.reshape(extents), self.result)

    def narrow(self, mask: Mask, i: int) -> Mask:
        """Elements of operand i that meet the mask of the result."""
        stretched = [
            axis
            for axis in range(len(self.result))
            if axis not in self.axes[i] or self.operands[i][self.axes[i].index(axis)] != self.result[axis]
        ]
        return np.asarray(mask.any(axis=tuple(stretched))).reshape(self.operands[i])

    def ignored(self, facts: Sequence[Fact]) -> dict[int, Mask]:
        """Where an operand does not matter, because of what is known of the others."""
        if self.kind in ("mul", "div", "scaled"):
            zero = [self.wide(f.zero, i) for i, f in enumerate(facts[:2])]
            if self.kind == "div":
                return {1: zero[0]}
            # Where both are 0 the first one stays: it decides for the scale, and the other may then change.
            if self.kind == "scaled":
                return {0: zero[1]}
            return {0: zero[1] & ~zero[0], 1: zero[0]}
        if self.kind == "or":
            true = [self.wide(f.known & (f.value != 0), i) for i, f in enumerate(facts)]
            return {0: true[1] & ~true[0], 1: true[0]}
        if self.kind == "where":
            known, value = self.wide(facts[0].known, 0), self.wide(facts[0].value, 0)
            return {1: known & ~value, 2: known & value}
        return {}

    def known(self, facts: Sequence[Fact]) -> Mask:
        ignored = self.ignored(facts)
        result = np.ones(self.result, np.bool_)
        for i, fact in enumerate(facts):
            mask = self.wide(fact.known, i)
            result &= mask | ignored[i] if i in ignored else mask
        return result

    def needs(self, facts: Sequence[Fact], need: Mask) -> list[Mask]:
        ignored = self.ignored(facts)
        return [self.narrow(need & ~ignored[i] if i in ignored else need, i) for i in range(len(facts))]

    def links(self) -> list[Link]:
        return [
            same((i, a), (RESULT, axis), extent)
            for i, (axes, shape) in enumerate(zip(self.axes, self.operands, strict=True))
            for a, (axis, extent) in enumerate(zip(axes, shape, strict=True))
            if extent == self.result[axis]
        ]


@dataclass(frozen=True)
class Normalised(Pointwise):
    """As Pointwise, but operand 0 is normalised over some axes first, so all its elements there count."""

    over: tuple[int, ...] = ()

    def _spread(self, mask: Mask) -> Mask:
        return np.broadcast_to(mask.any(axis=self.over, keepdims=True), mask.shape)

    def known(self, facts: Sequence[Fact]) -> Mask:
        return super().known([Fact(~self._spread(~facts[0].known), facts[0].value), *facts[1:]])

    def needs(self, facts: Sequence[Fact], need: Mask) -> list[Mask]:
        first, *others = super().needs(facts, need)
        return [self._spread(first), *others]

    def frozen(self) -> list[tuple[int, int]]:
        return [(0, a) for a in self.over]


@dataclass(frozen=True)
class Reduced(Rule):
    """Elements along some axes become one."""

    operand: Shape
    over: tuple[int, ...]
    result: Shape

    def known(self, facts: Sequence[Fact]) -> Mask:
        return np.asarray(facts[0].known.all(axis=self.over)).reshape(self.result)

    def needs(self, facts: Sequence[Fact], need: Mask) -> list[Mask]:
        kept = [1 if a in self.over else extent for a, extent in enumerate(self.operand)]
        return [np.array(np.broadcast_to(need.reshape(kept), self.operand))]

    def links(self) -> list[Link]:
        kept = len(self.result) == len(self.operand)
        rest = [a for a in range(len(self.operand)) if a not in self.over]
        return [same((0, a), (RESULT, a if kept else i), self.operand[a]) for i, a in enumerate(rest)]

    def frozen(self) -> list[tuple[int, int]]:
        return [(0, a) for a in self.over]


@dataclass(frozen=True)
class Moved(Rule):
    """Every element of the result is one of the operands', or a constant of the operator.

    source: for each element of the result its place among the elements of all moved operands, one operand
    after the other; -1 for a constant. `whole` more operands follow that always count.
    """

    operands: tuple[Shape, ...]
    source: Places
    together: tuple[Link, ...] = ()
    fixed: tuple[tuple[int, int], ...] = ()
    own: tuple[tuple[int, int, Places], ...] = ()
    whole: tuple[Shape, ...] = ()

    def known(self, facts: Sequence[Fact]) -> Mask:
        masks = [f.known.ravel() for f in facts[: len(self.operands)]]
        # The last element is that of constants: place -1.
        return np.concatenate([*masks, [True]])[self.source]

    def needs(self, facts: Sequence[Fact], need: Mask) -> list[Mask]:
        sizes = [math.prod(shape) for shape in self.operands]
        found = np.zeros(sum(sizes) + 1, np.bool_)
        found[self.source[need]] = True
        parts = np.split(found[:-1], np.cumsum(sizes)[:-1])
        moved = [part.reshape(shape) for part, shape in zip(parts, self.operands, strict=True)]
        return [*moved, *(np.ones(shape, np.bool_) for shape in self.whole)]

    def links(self) -> list[Link]:
        return list(self.together)

    def frozen(self) -> list[tuple[int, int]]:
        return list(self.fixed)

    def pinned(self) -> list[tuple[int, int, Places]]:
        return list(self.own)


@dataclass(frozen=True)
class Looked(Rule):
    """Slices of x along one axis, by indices that only the input decides."""

    x: Shape
    indices: Shape
    axis: int
    result: Shape
    together: tuple[Link, ...]

    def known(self, facts: Sequence[Fact]) -> Mask:
        return np.zeros(self.result, np.bool_)

    def needs(self, facts: Sequence[Fact], need: Mask) -> list[Mask]:
        slices = np.expand_dims(need.any(axis=self._replaced()), self.axis)
        return [np.array(np.broadcast_to(slices, self.x)), np.full(self.indices, need.any())]

    def _replaced(self) -> tuple[int, ...]:
        """Axes of the result that the indices make."""
        return tuple(range(self.axis, self.axis + len(self.indices)))

    def links(self) -> list[Link]:
        return list(self.together)

    def frozen(self) -> list[tuple[int, int]]:
        indices = [(1, i) for i in range(len(self.indices))]
        return [(0, self.axis), *indices, *((RESULT, a) for a in self._replaced())]


@dataclass(frozen=True)
class Pooled(Rule):
    """Windows over the spatial axes of [N, C, spatial...].

    source: for each window its places among the spatial elements, [windows..., kernel]; -1 for padding.
    """

    operand: Shape
    source: Places

    def known(self, facts: Sequence[Fact]) -> Mask:
        flat = facts[0].known.reshape(*self.operand[:2], -1)
        padded = np.concatenate([flat, np.ones((*self.operand[:2], 1), np.bool_)], axis=2)
        return np.asarray(padded[:, :, self.source].all(axis=-1))

    def needs(self, facts: Sequence[Fact], need: Mask) -> list[Mask]:
        found = np.zeros((*self.operand[:2], math.prod(self.operand[2:]) + 1), np.bool_)
        for tap in range(self.source.shape[-1]):
            # Windows differ in where one tap lies, so that none is written twice but the padding.
            found[:, :, self.source[..., tap]] |= need
        return [found[:, :, :-1].reshape(self.operand)]

    def links(self) -> list[Link]:
        return [same((0, a), (RESULT, a), self.operand[a]) for a in (0, 1)]

    def frozen(self) -> list[tuple[int, int]]:
        spatial = range(2, len(self.operand))
        return [(0, a) for a in spatial] + [(RESULT, a) for a in spatial]
