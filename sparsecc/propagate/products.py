"""Products: constants of the input move into the bias; rows and columns without use become empty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparsecc.nn.windows import Windows
from sparsecc.propagate.cuts import RESULT, Link, same
from sparsecc.propagate.facts import Array, Fact, Mask, Places, Rule, Shape


def _any_product(a: Mask, b: Mask) -> Mask:
    """The boolean matrix product, by counting in f32: a count above 0 never rounds to 0."""
    shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    # Most networks know nothing of most inputs, and need all of most results.
    if not a.any() or not b.any():
        return np.zeros(shape, np.bool_)
    if b.all():
        return np.array(np.broadcast_to(a.any(axis=-1, keepdims=True), shape))
    if a.all():
        return np.array(np.broadcast_to(b.any(axis=-2, keepdims=True), shape))
    return np.matmul(a.astype(np.float32), b.astype(np.float32)) > 0


@dataclass(frozen=True)
class Matmul(Rule):
    """numpy's matmul of two tensors; zero points, where there are any, are operands 2 and 3."""

    a: Shape
    b: Shape
    result: Shape
    zeros: tuple[Shape, ...] = ()

    def _zero(self, facts: Sequence[Fact], i: int) -> Mask:
        """Where the factor is known to be 0 [.., m, k] or [.., k, n]."""
        fact = facts[i]
        if self.zeros:
            point = facts[2 + i]
            zero = fact.known & point.known & (fact.value == point.value)
        else:
            zero = fact.zero
        return self._matrix(zero, i)

    def _known(self, facts: Sequence[Fact], i: int) -> Mask:
        known = facts[i].known
        return self._matrix(known & facts[2 + i].known if self.zeros else known, i)

    def _matrix(self, mask: Mask, i: int) -> Mask:
        """Vectors as matrices of one row or column."""
        return mask if mask.ndim > 1 else mask[None, :] if i == 0 else mask[:, None]

    def _wide(self) -> Shape:
        """The shape of the result before the axes of vectors are dropped."""
        left = (1, *self.a) if len(self.a) == 1 else self.a
        right = (*self.b, 1) if len(self.b) == 1 else self.b
        return (*np.broadcast_shapes(left[:-2], right[:-2]), left[-2], right[-1])

    def known(self, facts: Sequence[Fact]) -> Mask:
        live_a, live_b = ~self._zero(facts, 0), ~self._zero(facts, 1)
        unknown_a, unknown_b = ~self._known(facts, 0), ~self._known(facts, 1)
        found = _any_product(unknown_a, live_b) | _any_product(live_a, unknown_b)
        return ~found.reshape(self.result)

    def needs(self, facts: Sequence[Fact], need: Mask) -> list[Mask]:
        wide = need.reshape(self._wide())
        zero_a, zero_b = self._zero(facts, 0), self._zero(facts, 1)
        of_a = _any_product(wide, np.swapaxes(~zero_b, -1, -2))
        # Where both factors are 0 the first one stays, so that the second may change.
        of_a |= zero_a & wide.any(axis=-1, keepdims=True)
        of_b = _any_product(np.swapaxes(~zero_a, -1, -2), wide)
        needs = [_unbroadcast(of_a, self.a), _unbroadcast(of_b, self.b)]
        return needs + [np.full(shape, need.any()) for shape in self.zeros]

    def links(self) -> list[Link]:
        if len(self.a) < 2 or len(self.b) < 2 or self.zeros:
            return []
        rank = len(self.result)
        links = [
            same((0, len(self.a) - 1), (1, len(self.b) - 2), self.a[-1]),
            same((0, len(self.a) - 2), (RESULT, rank - 2), self.a[-2]),
            same((1, len(self.b) - 1), (RESULT, rank - 1), self.b[-1]),
        ]
        for i, shape in enumerate((self.a, self.b)):
            for axis, extent in enumerate(shape[:-2]):
                at = axis + rank - len(shape)
                if extent == self.result[at]:
                    links.append(same((i, axis), (RESULT, at), extent))
        return links

    def frozen(self) -> list[tuple[int, int]]:
        if self.links():
            return []
        shapes = enumerate((self.a, self.b, *self.zeros))
        return [(i, axis) for i, shape in shapes for axis in range(len(shape))] + [
            (RESULT, axis) for axis in range(len(self.result))
        ]


def _unbroadcast(mask: Mask, shape: Shape) -> Mask:
    """A need of matrices with the leading axes of the result as one of the operand's shape."""
    rank = max(2, len(shape))
    mask = np.asarray(mask.any(axis=tuple(range(mask.ndim - rank))))
    stretched = [a for a in range(len(shape) - 2) if shape[a] == 1 and mask.shape[a] != 1]
    return np.asarray(mask.any(axis=tuple(stretched))).reshape(shape)


@dataclass(frozen=True)
class Plan:
    """What is left of a product.

    live: entries of the weight [M, K] that stay. bias: [M], None where it stays as it is. x: elements of the
    input that are needed. unused: rows that nobody needs [M]. given: columns whose input is known [K, as
    the weight of each group has them].
    """

    live: Mask
    bias: Array | None
    x: Mask
    unused: Mask
    given: Mask


@dataclass(frozen=True)
class Product(Rule):
    """A constant weight [groups m, k] on columns of x: `nn.linear`, `nn.conv` and their kinds of bytes.

    inputs: places of x that make the columns [groups, k, positions], -1 for padding; outputs: places of the
    result [groups, m, positions]. Both count inside one image if there are `images`, for which facts and
    needs are then the same. taps: columns of a channel. Operands are x, weight, two zero points with `zeros`,
    and perhaps the bias.
    """

    operands: tuple[Shape, ...]
    result: Shape
    inputs: Places
    outputs: Places
    taps: int
    images: bool
    zeros: bool

    @property
    def bias(self) -> int | None:
        """Which operand the bias is."""
        i = 4 if self.zeros else 2
        return i if len(self.operands) > i else None

    def _columns(self, fact: Fact, zero: Array) -> tuple[Mask, Array]:
        """What is known of the columns [groups, k, positions], and their values without the zero point."""
        known, value = fact.known, fact.value
        if self.images:
            known, value = known.all(axis=0) & (value == value[:1]).all(axis=0), value[0]
        if value.dtype.kind != "f":
            value = value.astype(np.int64)
        value = np.where(known, value - zero, 1)
        padded = np.append(value.ravel(), np.zeros(1, value.dtype))
        return np.append(known.ravel(), True)[self.inputs], padded[self.inputs]

    def weight(self, facts: Sequence[Fact]) -> Array:
        """The weight without its zero point [groups, m, k]."""
        weight = facts[1].value
        if self.zeros:
            zero = facts[3].value.astype(np.int64)
            weight = weight.astype(np.int64) - (zero[:, None] if zero.ndim else zero)
        return weight.reshape(len(self.inputs), -1, self.inputs.shape[1])

    def _zero(self, facts: Sequence[Fact]) -> Array:
        return facts[2].value.astype(np.int64) if self.zeros else np.zeros((), facts[0].value.dtype)

    def _result(self, mask: Mask) -> Mask:
        """[groups, m, positions] as a mask of the result."""
        flat = np.empty(self.outputs.size, np.bool_)
        flat[self.outputs] = mask
        return np.array(np.broadcast_to(flat.reshape(self.result[1 if self.images else 0 :]), self.result))

    def known(self, facts: Sequence[Fact]) -> Mask:
        known, _ = self._columns(facts[0], self._zero(facts))
        weight = self.weight(facts)
        found = ~_any_product(weight != 0, ~known)
        if self.bias is not None:
            found &= facts[self.bias].known.reshape(*weight.shape[:2], 1)
        return self._result(found)

    def needs(self, facts: Sequence[Fact], need: Mask) -> list[Mask]:
        raise AssertionError("the needs of a product follow from its plan")

    def plan(self, facts: Sequence[Fact], result: Fact, need: Mask, exact: bool) -> Plan:
        """What the product can be reduced to.

        exact: sums of floats keep every bit; constants other than 0 then stay in the input.
        """
        known, value = self._columns(facts[0], self._zero(facts))
        weight = self.weight(facts)
        groups, rows, columns = weight.shape
        bias = None if self.bias is None else facts[self.bias]
        integer = weight.dtype.kind != "f"

        uniform = known.all(axis=2) & (value == value[:, :, :1]).all(axis=2)
        numbers = np.where(uniform, value[:, :, 0], 0)
        drop = uniform & (numbers == 0)
        added = np.zeros((groups, rows), np.int64 if integer else np.float64)
        adjustable = bias is None or bias.is_known
        if adjustable and (integer or not exact):
            # A channel goes as a whole: one column less of several gains nothing and moves roundings.
            fits = uniform | ~(weight != 0).any(axis=1)
            whole = np.repeat(fits.reshape(groups, -1, self.taps).all(axis=2), self.taps, axis=1)
            fold = uniform & whole & ~drop
            added = np.einsum("gmk,gk->gm", weight.astype(added.dtype), np.where(fold, numbers, 0))
            drop |= fold

        needed, constant, made = self._rows(result, need)
        constant &= adjustable
        used = needed.any(axis=2)
        live = (weight != 0) & ~drop[:, None, :] & (used & ~constant)[:, :, None]
        new = None
        if adjustable:
            old = np.zeros((groups, rows), made.dtype) if bias is None else bias.value.reshape(groups, rows)
            total = np.where(added != 0, (old + added).astype(made.dtype), old)
            new = np.where(constant, made, np.where(used, total, 0)).astype(made.dtype)
            new = None if np.array_equal(new, old) else new.ravel()

        found = np.zeros(math.prod(self.operands[0][1 if self.images else 0 :]) + 1, np.bool_)
        found[self.inputs[_any_product(np.swapaxes(live, 1, 2), needed)]] = True
        x = np.broadcast_to(found[:-1].reshape(self.operands[0][1 if self.images else 0 :]), self.operands[0])
        return Plan(live.reshape(groups * rows, columns), new, np.array(x), ~used.ravel(), drop)

    def _rows(self, result: Fact, need: Mask) -> tuple[Mask, Mask, Array]:
        """Needed elements [groups, m, positions]; rows of one known value everywhere; those values."""
        known, value = result.known, result.value
        if self.images:
            need = np.asarray(need.any(axis=0))
            known, value = known.all(axis=0) & (value == value[:1]).all(axis=0), value[0]
        known, value = known.ravel()[self.outputs], value.ravel()[self.outputs]
        return (
            need.ravel()[self.outputs],
            known.all(axis=2) & (value == value[:, :, :1]).all(axis=2),
            value[:, :, 0],
        )

    def links(self) -> list[Link]:
        x, w = self.operands[:2]
        axis = 1 if self.images else len(x) - 1
        groups, outputs = len(self.inputs), w[0]
        rest = [0] if self.images else range(axis)
        links = [same((0, a), (RESULT, a), x[a]) for a in rest]
        links.append(same((1, 0), (RESULT, axis), outputs))
        if groups == 1:
            every = np.arange(w[1])
            links.append(Link((0, axis), every // self.taps, (1, 1), every))
        else:
            # Groups go as a whole.
            per_group = x[axis] // groups
            links.append(
                Link(
                    (0, axis),
                    np.arange(x[axis]),
                    (1, 0),
                    np.arange(x[axis]) // per_group * (outputs // groups),
                )
            )
            every = np.arange(outputs)
            first = every // (outputs // groups) * (outputs // groups)
            links.append(Link((1, 0), every, (1, 0), first))
        vectors = [i for i in (3, 4) if self.zeros] if self.zeros else [2]
        links += [
            same((i, 0), (RESULT, axis), outputs)
            for i in vectors
            if self.operands[i : i + 1] == ((outputs,),)
        ]
        return links

    def frozen(self) -> list[tuple[int, int]]:
        spatial = range(2, len(self.result)) if self.images else ()
        frozen = [(0, a) for a in spatial] + [(RESULT, a) for a in spatial]
        return frozen if len(self.inputs) == 1 else [*frozen, (1, 1)]


def linear(operands: Sequence[Shape], result: Shape, zeros: bool) -> Product:
    """x [..., K], weight [M, K] -> [..., M]."""
    x, w = operands[:2]
    inputs = np.arange(math.prod(x)).reshape(-1, w[1]).T[None]
    outputs = np.arange(math.prod(result)).reshape(-1, w[0]).T[None]
    return Product(tuple(operands), result, inputs, outputs, 1, False, zeros)


def conv(operands: Sequence[Shape], result: Shape, windows: Windows, groups: int, zeros: bool) -> Product:
    """x [N, C, spatial...], weight [M, C / groups * kernel...] -> [N, M, windows...]."""
    x, w = operands[:2]
    rank = len(windows.kernel)
    places = np.arange(1, math.prod(x[1:]) + 1).reshape(1, *x[1:])
    seen = windows.patches(places, 0)[0] - 1  # [C, windows..., kernel...]
    inputs = seen.transpose(0, *range(1 + rank, 1 + 2 * rank), *range(1, 1 + rank))
    outputs = np.arange(math.prod(result[1:])).reshape(groups, w[0] // groups, -1)
    return Product(
        tuple(operands),
        result,
        inputs.reshape(groups, w[1], -1),
        outputs,
        math.prod(windows.kernel),
        True,
        zeros,
    )


def pooled(x: Shape, windows: Windows) -> Places:
    """Places of the spatial elements that each window sees, [windows..., kernel]; -1 for padding."""
    rank = len(windows.kernel)
    places = np.arange(1, math.prod(x[2:]) + 1).reshape(1, 1, *x[2:])
    seen = windows.patches(places, 0)[0, 0] - 1
    return seen.reshape(*seen.shape[:rank], -1)
