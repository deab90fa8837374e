"""Shapes of the results of tensor operators, each rule once.

Shapes are tuples of ints. Every rule raises ShapeError, one sentence, when the operands do not fit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Shape = tuple[int, ...]

# More elements than any tensor of a network in use has; it bounds what a damaged file can ask for.
MAX_ELEMENTS = 1 << 32


class ShapeError(Exception):
    """Operands or attributes that do not fit together."""


def text(shape: Sequence[int]) -> str:
    """The shape as messages show it."""
    return f"[{', '.join(map(str, shape))}]"


def checked(shape: Sequence[int]) -> Shape:
    """The shape of a result, if it is one that can exist."""
    if any(d < 0 for d in shape):
        raise ShapeError(f"the result would have shape {text(shape)}; no extent can be negative")
    if math.prod(shape) > MAX_ELEMENTS:
        raise ShapeError(f"the result would have shape {text(shape)}, more than {MAX_ELEMENTS} elements")
    return tuple(shape)


def axis_of(axis: int, rank: int) -> int:
    """The axis counted from the front; negative ones count from the back."""
    if not -rank <= axis < rank:
        raise ShapeError(f"axis {axis} is outside a tensor of {rank} dimensions")
    return axis % rank


def axes_of(axes: Sequence[int], rank: int) -> Shape:
    """Different axes, counted from the front and sorted."""
    found = sorted(axis_of(a, rank) for a in axes)
    if len(set(found)) != len(found):
        raise ShapeError(f"axes {text(axes)} name one axis twice")
    return tuple(found)


def broadcast(*shapes: Sequence[int]) -> Shape:
    """Numpy's rule: aligned at the last axis, extents equal or 1."""
    rank = max(map(len, shapes))
    result: list[int] = []
    for places in zip(*((1,) * (rank - len(s)) + tuple(s) for s in shapes), strict=True):
        wide = {d for d in places if d != 1}
        if len(wide) > 1:
            raise ShapeError(f"shapes {' and '.join(map(text, shapes))} do not broadcast")
        result.append(wide.pop() if wide else 1)
    return checked(result)


def matmul(a: Sequence[int], b: Sequence[int]) -> Shape:
    """Numpy's matmul: matrices in the last two axes, the others broadcast; a vector is a row or a column."""
    if not a or not b:
        raise ShapeError("a product needs operands of one or more dimensions, found a scalar")
    left = (1, *a) if len(a) == 1 else tuple(a)
    right = (*b, 1) if len(b) == 1 else tuple(b)
    if left[-1] != right[-2]:
        raise ShapeError(f"a product of {text(a)} and {text(b)} would sum {left[-1]} with {right[-2]} terms")
    result = [*broadcast(left[:-2], right[:-2]), left[-2], right[-1]]
    if len(a) == 1:
        del result[-2]
    if len(b) == 1:
        del result[-1]
    return checked(result)


def linear(x: Sequence[int], w: Sequence[int], b: Sequence[int] | None) -> Shape:
    """x [..., K] times w [M, K] transposed, plus b [M]."""
    if len(w) != 2:
        raise ShapeError(f"the weight has shape {text(w)}; needed [outputs, inputs]")
    if not x or x[-1] != w[1]:
        raise ShapeError(f"the input has shape {text(x)}, the weight {text(w)} takes {w[1]} features")
    _check_bias(w[0], b)
    return checked((*x[:-1], w[0]))


def _check_bias(outputs: int, b: Sequence[int] | None) -> None:
    if b is not None and tuple(b) != (outputs,):
        raise ShapeError(f"the bias has shape {text(b)}; needed [{outputs}]")


def window_extents(
    spatial: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    ceil_mode: bool = False,
) -> Shape:
    """How many windows fit along each spatial axis; pads are all the low ones, then all the high ones.

    With ceil_mode the last window may reach over the end, if it begins before the end and its padding.
    """
    rank = len(spatial)
    if not (len(kernel) == len(strides) == len(dilations) == rank and len(pads) == 2 * rank):
        raise ShapeError(
            f"{rank} spatial dimensions need as many kernel extents, strides and dilations and twice as "
            f"many pads; found {len(kernel)}, {len(strides)}, {len(dilations)} and {len(pads)}"
        )
    if min((*kernel, *strides, *dilations), default=1) < 1:
        raise ShapeError(
            f"kernel {text(kernel)}, strides {text(strides)} and dilations {text(dilations)} must be positive"
        )
    if min(pads, default=0) < 0:
        raise ShapeError(f"pads {text(pads)} must not be negative")
    extents: list[int] = []
    for i in range(rank):
        span = (kernel[i] - 1) * dilations[i] + 1
        room = spatial[i] + pads[i] + pads[rank + i] - span
        if room < 0:
            raise ShapeError(f"a window of {span} does not fit {span + room} elements of spatial axis {i}")
        count = -(-room // strides[i]) + 1 if ceil_mode else room // strides[i] + 1
        if ceil_mode and (count - 1) * strides[i] >= spatial[i] + pads[i]:
            count -= 1
        extents.append(count)
    return tuple(extents)


def conv(
    x: Sequence[int],
    w: Sequence[int],
    b: Sequence[int] | None,
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> Shape:
    """x [N, C, spatial...], w [M, C / groups * kernel...], b [M] -> [N, M, spatial...]."""
    if len(x) < 3:
        raise ShapeError(f"the input has shape {text(x)}; needed [N, channels, spatial...]")
    if len(w) != 2:
        raise ShapeError(f"the weight has shape {text(w)}; needed [outputs, channels of a group x kernel]")
    if groups < 1 or x[1] % groups or w[0] % groups:
        raise ShapeError(f"{x[1]} channels and {w[0]} outputs cannot be split into {groups} groups")
    columns = x[1] // groups * math.prod(kernel)
    if w[1] != columns:
        raise ShapeError(
            f"the weight has {w[1]} columns; {x[1]} channels in {groups} groups and the kernel "
            f"{text(kernel)} make {columns}"
        )
    _check_bias(w[0], b)
    return checked((x[0], w[0], *window_extents(x[2:], kernel, strides, pads, dilations)))


def pool(
    x: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    ceil_mode: bool,
) -> Shape:
    """x [N, C, spatial...] -> [N, C, windows...]."""
    if len(x) < 3:
        raise ShapeError(f"the input has shape {text(x)}; needed [N, channels, spatial...]")
    return checked((*x[:2], *window_extents(x[2:], kernel, strides, pads, dilations, ceil_mode)))


def reshape(x: Sequence[int], wanted: Sequence[int]) -> Shape:
    """The same elements in row-major order under another shape."""
    if math.prod(x) != math.prod(checked(wanted)):
        raise ShapeError(f"{math.prod(x)} elements of shape {text(x)} cannot take the shape {text(wanted)}")
    return tuple(wanted)


def transpose(x: Sequence[int], perm: Sequence[int]) -> Shape:
    """Result axis i is axis perm[i]."""
    if sorted(perm) != list(range(len(x))):
        raise ShapeError(f"{text(perm)} is not an order of the {len(x)} axes of shape {text(x)}")
    return tuple(x[p] for p in perm)


def concat(shapes: Sequence[Sequence[int]], axis: int) -> Shape:
    """All along one axis, one after the other; the other extents are equal."""
    if not shapes:
        raise ShapeError("nothing to concatenate")
    axis = axis_of(axis, len(shapes[0]))
    for shape in shapes:
        if len(shape) != len(shapes[0]) or any(
            d != e for i, (d, e) in enumerate(zip(shape, shapes[0], strict=True)) if i != axis
        ):
            raise ShapeError(
                f"shapes {text(shapes[0])} and {text(shape)} differ in more than axis {axis}, along which "
                "they are concatenated"
            )
    result = list(shapes[0])
    result[axis] = sum(s[axis] for s in shapes)
    return checked(result)


def slice_(x: Sequence[int], offsets: Sequence[int], sizes: Sequence[int], strides: Sequence[int]) -> Shape:
    """sizes elements of each axis from offsets on, strides apart; a stride may be negative."""
    if not len(x) == len(offsets) == len(sizes) == len(strides):
        raise ShapeError(f"a slice of shape {text(x)} needs an offset, a size and a stride for each axis")
    for extent, offset, size, stride in zip(x, offsets, sizes, strides, strict=True):
        last = offset + (size - 1) * stride
        if stride == 0 or size < 0 or (size and not (0 <= offset < extent and 0 <= last < extent)):
            raise ShapeError(
                f"{size} elements from {offset} on, {stride} apart, do not lie inside an extent of {extent}"
            )
    return tuple(sizes)


def pad(x: Sequence[int], low: Sequence[int], high: Sequence[int], mode: str) -> Shape:
    """low elements before and high after each axis; reflect and edge need something to repeat."""
    if not len(x) == len(low) == len(high):
        raise ShapeError(f"shape {text(x)} needs {len(x)} low and high pads; found {len(low)}, {len(high)}")
    for extent, pads in zip(x, zip(low, high, strict=True), strict=True):
        most = {"reflect": extent - 1, "wrap": extent, "edge": MAX_ELEMENTS * (extent > 0)}.get(mode)
        if min(pads) < 0:
            raise ShapeError(f"pads {text(low)}, {text(high)} must not be negative")
        if most is not None and max(pads) > most:
            raise ShapeError(f"an extent of {extent} cannot be padded by {max(pads)} in mode {mode!r}")
    return checked([before + d + after for before, d, after in zip(low, x, high, strict=True)])


def gather(x: Sequence[int], indices: Sequence[int], axis: int) -> Shape:
    """The axis is replaced by the shape of the indices."""
    axis = axis_of(axis, len(x))
    return checked((*x[:axis], *indices, *x[axis + 1 :]))


def reduce(x: Sequence[int], axes: Sequence[int], keep: bool) -> Shape:
    """Without the axes, or with extent 1 there."""
    found = axes_of(axes, len(x))
    return tuple(1 if i in found else d for i, d in enumerate(x) if keep or i not in found)


def parameter(x: Sequence[int], axis: int | None, found: Sequence[int], what: str) -> None:
    """Check a parameter of quantisation or normalisation: a scalar, or one value per index of the axis."""
    wanted = () if axis is None else (x[axis_of(axis, len(x))],)
    if tuple(found) != wanted:
        raise ShapeError(f"the {what} has shape {text(found)}; needed {text(wanted)}")


def recurrent(
    x: Sequence[int], w: Sequence[int], r: Sequence[int], vectors: Sequence[tuple[str, Shape, int]],
    states: Sequence[tuple[str, Shape]], gates: int,
) -> tuple[Shape, Shape]:  # fmt: skip
    """x [T, N, I], w [gates H, I], r [gates H, H] -> all outputs [T, N, H] and the last state [N, H].

    vectors: name, shape, and how many times H they hold. states: name and shape, which must be [N, H].
    """
    if len(x) != 3 or len(w) != 2 or len(r) != 2:
        raise ShapeError(
            f"needed x [T, N, I], w and r of 2 dimensions; found {text(x)}, {text(w)}, {text(r)}"
        )
    hidden = r[1]
    if w[0] != gates * hidden or r[0] != gates * hidden or w[1] != x[2]:
        raise ShapeError(
            f"weights {text(w)} and {text(r)} do not fit {x[2]} inputs, {hidden} states and {gates} gates"
        )
    for name, shape, times in vectors:
        if shape != (times * hidden,):
            raise ShapeError(f"{name} has shape {text(shape)}; needed [{times * hidden}]")
    for name, shape in states:
        if shape != (x[1], hidden):
            raise ShapeError(f"{name} has shape {text(shape)}; needed [{x[1]}, {hidden}]")
    return checked((x[0], x[1], hidden)), (x[1], hidden)
