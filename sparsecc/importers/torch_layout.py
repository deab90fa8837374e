"""Operators of torch that move elements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sparsecc.dialects.nn_layout import ConcatOp, PadOp
from sparsecc.importers.emitter import as_element, broadcast, reshaped, sliced, transposed
from sparsecc.importers.torch_graph import Handler, Node, Results
from sparsecc.importers.values import Value


def identity(node: Node) -> Results:
    return node.value("self")


def dropout(node: Node) -> Results:
    if node.flag("train") and node.number("p", 0):
        node.fail("dropout in training is not supported", "call eval() on the model before exporting it")
    return node.value("input")


def view(node: Node) -> Results:
    x = node.value("self")
    return shaped(node, x, node.integers("size" if "size" in node.given else "shape"))


def shaped(node: Node, x: Value, wanted: Sequence[int]) -> Value:
    """The value under another shape; one extent may be -1."""
    known = -math.prod(wanted)
    if list(wanted).count(-1) == 1 and known > 0 and math.prod(x.shape) % known == 0:
        wanted = [math.prod(x.shape) // known if d == -1 else d for d in wanted]
    if min(wanted, default=0) < 0 or math.prod(wanted) != math.prod(x.shape):
        node.fail(f"the shape {list(x.shape)} cannot become {list(wanted)}")
    return reshaped(node, x, wanted)


def flatten(node: Node) -> Results:
    x = node.value("self")
    first = node.axis(node.integer("start_dim", 0), x.rank)
    last = node.axis(node.integer("end_dim", -1), x.rank)
    if not x.rank:
        return reshaped(node, x, (1,))
    return reshaped(node, x, (*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :]))


def unflatten(node: Node) -> Results:
    x = node.value("self")
    axis, sizes = node.axis(node.integer("dim"), x.rank), node.integers("sizes")
    if -1 in sizes:
        rest = -math.prod(sizes)
        sizes = [x.shape[axis] // rest if rest and s == -1 else s for s in sizes]
    return shaped(node, x, [*x.shape[:axis], *sizes, *x.shape[axis + 1 :]])


def permute(node: Node) -> Results:
    x = node.value("self")
    return transposed(node, x, [node.axis(a, x.rank) for a in node.integers("dims")])


def swapped(node: Node, x: Value, a: int, b: int) -> Value:
    """The value with two axes exchanged."""
    a, b = node.axis(a, x.rank), node.axis(b, x.rank)
    perm = list(range(x.rank))
    if perm:
        perm[a], perm[b] = perm[b], perm[a]
    return transposed(node, x, perm)


def transpose(node: Node) -> Results:
    return swapped(node, node.value("self"), node.integer("dim0"), node.integer("dim1"))


def reversed_axes(node: Node) -> Results:
    x = node.value("self")
    return transposed(node, x, list(range(x.rank))[::-1])


def last_swapped(node: Node) -> Results:
    return swapped(node, node.value("self"), -1, -2)


def unsqueeze(node: Node) -> Results:
    x = node.value("self")
    at = node.axis(node.integer("dim"), x.rank + 1)
    return reshaped(node, x, (*x.shape[:at], 1, *x.shape[at:]))


def squeeze(node: Node) -> Results:
    x = node.value("self")
    axes = node.axes("dim", x.rank) if "dim" in node.given else list(range(x.rank))
    return reshaped(node, x, [d for i, d in enumerate(x.shape) if d != 1 or i not in axes])


def expand(node: Node) -> Results:
    x, wanted = node.value("self"), node.integers("size")
    # -1 keeps an extent; new axes come in front.
    old = [1] * (len(wanted) - x.rank) + list(x.shape)
    return broadcast(node, x, [o if d == -1 else d for o, d in zip(old, wanted, strict=True)])


def expand_as(node: Node) -> Results:
    return broadcast(node, node.value("self"), node.value("other").shape)


def repeat(node: Node) -> Results:
    x, repeats = node.value("self"), node.integers("repeats" if "repeats" in node.given else "dims")
    repeats = [1] * (x.rank - len(repeats)) + repeats
    shape = [1] * (len(repeats) - x.rank) + list(x.shape)
    apart = reshaped(node, x, [d for extent in shape for d in (1, extent)])
    wide = broadcast(node, apart, [d for pair in zip(repeats, shape, strict=True) for d in pair])
    return reshaped(node, wide, [r * d for r, d in zip(repeats, shape, strict=True)])


def part(node: Node, x: Value, axis: int, start: int, size: int, step: int = 1) -> Value:
    """`size` elements along one axis."""
    offsets, sizes, strides = [0] * x.rank, list(x.shape), [1] * x.rank
    offsets[axis], sizes[axis], strides[axis] = start, size, step
    return sliced(node, x, offsets, sizes, strides)


def select(node: Node) -> Results:
    x = node.value("self")
    axis = node.axis(node.integer("dim"), x.rank)
    at = node.integer("index")
    if not -x.shape[axis] <= at < x.shape[axis]:
        node.fail(f"index {at} is outside the {x.shape[axis]} elements of axis {axis}")
    taken = part(node, x, axis, at % x.shape[axis], 1)
    return reshaped(node, taken, (*x.shape[:axis], *x.shape[axis + 1 :]))


def slice_(node: Node) -> Results:
    x = node.value("self")
    axis = node.axis(node.integer("dim", 0), x.rank)
    extent = x.shape[axis]
    taken = range(extent)[
        slice(node.integer("start", 0), node.integer("end", extent), node.integer("step", 1))
    ]
    return part(node, x, axis, taken.start if len(taken) else 0, len(taken), taken.step)


def slice_scatter(node: Node) -> Results:
    """The tensor with src in the place of a slice."""
    x, src = node.value("self"), node.value("src")
    axis = node.axis(node.integer("dim", 0), x.rank)
    extent = x.shape[axis]
    start, end, step = slice(
        node.integer("start", 0), node.integer("end", extent), node.integer("step", 1)
    ).indices(extent)
    if step != 1:
        node.fail(f"writing every {step}th element is not supported", "write neighbouring ones")
    parts = [part(node, x, axis, 0, start), src, part(node, x, axis, end, extent - end)]
    filled = [p for p in parts if p.shape[axis]]
    return filled[0] if len(filled) == 1 else node.emit(ConcatOp, *filled, axis=axis)


def narrow(node: Node) -> Results:
    x = node.value("self")
    axis = node.axis(node.integer("dim"), x.rank)
    return part(node, x, axis, node.integer("start") % max(1, x.shape[axis]), node.integer("length"))


def _parts(node: Node, x: Value, axis: int, sizes: Sequence[int]) -> list[Value]:
    if sum(sizes) != x.shape[axis] or min(sizes, default=0) < 0:
        node.fail(f"parts {list(sizes)} do not make the {x.shape[axis]} elements of axis {axis}")
    return [part(node, x, axis, sum(sizes[:i]), size) for i, size in enumerate(sizes)]


def split(node: Node) -> Results:
    """Into parts of one size, or of the sizes given."""
    x = node.value("self")
    axis = node.axis(node.integer("dim", 0), x.rank)
    given = node.given.get("split_sizes", node.given.get("split_size"))
    if isinstance(given, int):
        sizes = [min(given, x.shape[axis] - i) for i in range(0, x.shape[axis], max(1, given))]
    else:
        sizes = node.integers("split_sizes" if "split_sizes" in node.given else "split_size")
    return _parts(node, x, axis, sizes)


def chunk(node: Node) -> Results:
    x = node.value("self")
    axis = node.axis(node.integer("dim", 0), x.rank)
    extent = x.shape[axis]
    size = max(1, -(-extent // max(1, node.integer("chunks"))))
    return _parts(node, x, axis, [min(size, extent - i) for i in range(0, extent, size)])


def unbind(node: Node) -> Results:
    x = node.value("self")
    axis = node.axis(node.integer("dim", 0), x.rank)
    shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    return [reshaped(node, part(node, x, axis, i, 1), shape) for i in range(x.shape[axis])]


def concat(node: Node) -> Results:
    parts = [as_element(node, p, node.element) for p in node.values("tensors")]
    # An empty list joins any tensor.
    filled = [p for p in parts if p.shape != (0,)] or parts[:1]
    axis = node.axis(node.integer("dim", 0), filled[0].rank)
    return filled[0] if len(filled) == 1 else node.emit(ConcatOp, *filled, axis=axis)


def stack(node: Node) -> Results:
    parts = [as_element(node, p, node.element) for p in node.values("tensors")]
    axis = node.axis(node.integer("dim", 0), parts[0].rank + 1)
    apart = [reshaped(node, p, (*p.shape[:axis], 1, *p.shape[axis:])) for p in parts]
    return apart[0] if len(apart) == 1 else node.emit(ConcatOp, *apart, axis=axis)


def flip(node: Node) -> Results:
    x = node.value("self")
    for axis in node.integers("dims"):
        at = node.axis(axis, x.rank)
        x = part(node, x, at, max(0, x.shape[at] - 1), x.shape[at], -1)
    return x


def roll(node: Node) -> Results:
    x, shifts, axes = node.value("self"), node.integers("shifts"), node.integers("dims", ())
    if not axes:
        flat = reshaped(node, x, (math.prod(x.shape),))
        return reshaped(node, _rolled(node, flat, shifts[0], 0), x.shape)
    for shift, axis in zip(shifts, axes, strict=True):
        x = _rolled(node, x, shift, node.axis(axis, x.rank))
    return x


def _rolled(node: Node, x: Value, shift: int, axis: int) -> Value:
    extent = x.shape[axis]
    by = shift % max(1, extent)
    if not by:
        return x
    last = part(node, x, axis, extent - by, by)
    return node.emit(ConcatOp, last, part(node, x, axis, 0, extent - by), axis=axis)


def _padded(mode: str) -> Handler:
    def handler(node: Node) -> Results:
        x = node.value("self")
        pads = node.integers("pad" if "pad" in node.given else "padding")
        how: Any = node.given.get("mode", mode)
        how = {"replicate": "edge", "circular": "wrap"}.get(how, how)
        low, high = [0] * x.rank, [0] * x.rank
        # Pairs, the last axis first.
        for i in range(len(pads) // 2):
            low[x.rank - 1 - i], high[x.rank - 1 - i] = pads[2 * i : 2 * i + 2]
        if min((*low, *high), default=0) < 0:
            offsets = [max(0, -p) for p in low]
            sizes = [d - max(0, -p) - max(0, -q) for d, p, q in zip(x.shape, low, high, strict=True)]
            x = sliced(node, x, offsets, sizes, [1] * x.rank)
            low, high = [max(0, p) for p in low], [max(0, p) for p in high]
        return node.emit(PadOp, x, low=low, high=high, mode=how, value=float(node.number("value", 0)))

    return handler


def pixel_shuffle(node: Node) -> Results:
    x, r = node.value("self"), node.integer("upscale_factor")
    *lead, c, h, w = x.shape
    n = len(lead)
    apart = reshaped(node, x, (*lead, c // r**2, r, r, h, w))
    perm = (*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return reshaped(node, transposed(node, apart, perm), (*lead, c // r**2, h * r, w * r))


HANDLERS: dict[str, Handler] = {
    "_unsafe_view": view,
    "alias": identity,
    "cat": concat,
    "chunk": chunk,
    "clone": identity,
    "constant_pad_nd": _padded("constant"),
    "contiguous": identity,
    "detach": identity,
    "detach_": identity,
    "dropout": dropout,
    "expand": expand,
    "expand_as": expand_as,
    "flatten": flatten,
    "flip": flip,
    "lift_fresh_copy": identity,
    "mT": last_swapped,
    "narrow": narrow,
    "numpy_T": reversed_axes,
    "pad": _padded("constant"),
    "permute": permute,
    "pixel_shuffle": pixel_shuffle,
    "reflection_pad1d": _padded("reflect"),
    "reflection_pad2d": _padded("reflect"),
    "repeat": repeat,
    "replication_pad1d": _padded("edge"),
    "replication_pad2d": _padded("edge"),
    "reshape": view,
    "roll": roll,
    "select": select,
    "slice": slice_,
    "slice_scatter": slice_scatter,
    "split": split,
    "split_with_sizes": split,
    "squeeze": squeeze,
    "stack": stack,
    "t": reversed_axes,
    "tile": repeat,
    "transpose": transpose,
    "unbind": unbind,
    "unflatten": unflatten,
    "unsqueeze": unsqueeze,
    "view": view,
}
