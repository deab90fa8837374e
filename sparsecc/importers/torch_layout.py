"""Operators of torch that move elements, and those that make constants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sparsecc.dialects import nn_elementwise as ew
from sparsecc.dialects.nn_layout import ConcatOp, GatherOp, PadOp
from sparsecc.importers.emitter import as_element, broadcast, reshaped, sliced, transposed
from sparsecc.importers.onnx_values import Value
from sparsecc.importers.torch_graph import Handler, Node, Results


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


# ---- by index


def _checked(node: Node, indices: Value, extent: int) -> Value:
    """Indices as the gather takes them. Constant ones must lie inside the axis."""
    if indices.constant is not None:
        found = indices.constant.array()
        if found.size and not (-extent <= found.min() and found.max() < extent):
            node.fail(f"indices {found.min()} to {found.max()} are outside an axis of {extent} elements")
    return indices if indices.element in ("i32", "i64") else as_element(node, indices, "i64")


def embedding(node: Node) -> Results:
    w = node.value("weight")
    return node.emit(GatherOp, w, _checked(node, node.value("indices"), w.shape[0]), axis=0)


def index_select(node: Node) -> Results:
    x = node.value("self")
    axis = node.axis(node.integer("dim"), x.rank)
    indices = _checked(node, node.value("index"), x.shape[axis])
    return node.emit(GatherOp, x, reshaped(node, indices, (math.prod(indices.shape),)), axis=axis)


def index(node: Node) -> Results:
    """x[i, :, j]: one index, or several for neighbouring axes, which broadcast to one."""
    x, given = node.value("self"), node.given["indices"]
    axes = [i for i, v in enumerate(given) if v is not None]
    if not axes or axes != list(range(axes[0], axes[-1] + 1)):
        node.fail("indices of axes that are not neighbours are not supported", "select one after the other")
    found = [node.graph.scope.get(given[a], given[a]) for a in axes]
    if len(found) == 1 and found[0].element in ("i1", "ui8"):
        if found[0].constant is None or found[0].rank != 1:
            node.fail("a mask as an index makes a shape that is not known when compiling")
        found = [Value.array(np.flatnonzero(found[0].constant.array()), "i64")]
    extents = [x.shape[a] for a in axes]
    linear = as_element(node, _checked(node, found[0], extents[0]), "i64")
    if len(found) > 1:
        linear = _from_front(node, linear, extents[0])
    for one, extent in zip(found[1:], extents[1:], strict=True):
        at = _from_front(node, as_element(node, _checked(node, one, extent), "i64"), extent)
        linear = node.emit(ew.AddOp, node.emit(ew.MulOp, linear, Value.array(extent, "i64")), at)
    first, last = axes[0], axes[-1] + 1
    joined = reshaped(node, x, (*x.shape[:first], math.prod(extents), *x.shape[last:]))
    return node.emit(GatherOp, joined, linear, axis=first)


def _from_front(node: Node, indices: Value, extent: int) -> Value:
    """Indices that count from the end, counted from the front."""
    negative = node.emit(ew.LessOp, indices, Value.array(0, "i64"))
    return node.emit(ew.WhereOp, negative, node.emit(ew.AddOp, indices, Value.array(extent, "i64")), indices)


def _triangle(upper: bool) -> Handler:
    def handler(node: Node) -> Results:
        x, offset = node.value("self"), node.integer("diagonal", 0)
        rows, columns = np.arange(x.shape[-2])[:, None], np.arange(x.shape[-1])
        kept = Value.array(columns - rows >= offset if upper else columns - rows <= offset, "i1")
        if x.element == "i1":
            return node.emit(ew.AndOp, x, kept)
        return node.emit(ew.WhereOp, kept, x, Value.array(0, x.element))

    return handler


def _nearest(axes: int, exact: bool) -> Handler:
    """Each axis by a gather; places as torch computes them, in f32."""

    def handler(node: Node) -> Results:
        x = node.value("input" if "input" in node.given else "self")
        factors: list[Any] = list(node.given.get("scale_factors") or [None] * axes)
        if "scale_factors" not in node.given:
            names = ["scales"] if axes == 1 else [["scales_d"], []][axes == 2] + ["scales_h", "scales_w"]
            factors = [node.given.get(name) for name in names]
        sizes = node.integers("output_size", ())
        for i in range(axes):
            axis = 2 + i
            extent = x.shape[axis]
            size = sizes[i] if sizes else math.floor(extent * float(factors[i]))
            by = np.float32(1 / factors[i]) if factors[i] else np.float32(extent) / np.float32(size)
            places = np.arange(size, dtype=np.float32) + np.float32(0.5 if exact else 0)
            at = np.minimum(np.floor(places * by).astype(np.int64), extent - 1)
            if not np.array_equal(at, np.arange(extent)):
                x = node.emit(GatherOp, x, Value.array(at, "i64"), axis=axis)
        return x

    return handler


def pixel_shuffle(node: Node) -> Results:
    x, r = node.value("self"), node.integer("upscale_factor")
    *lead, c, h, w = x.shape
    n = len(lead)
    apart = reshaped(node, x, (*lead, c // r**2, r, r, h, w))
    perm = (*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return reshaped(node, transposed(node, apart, perm), (*lead, c // r**2, h * r, w * r))


# ---- constants


def empty(node: Node) -> Results:
    """Zeros: what is written into it comes after."""
    return broadcast(node, Value.array(0, node.element), node.integers("size"))


def full(node: Node) -> Results:
    shape = node.integers("size")
    return broadcast(node, Value.array(node.number("fill_value"), node.element), shape)


def _filled(value: int) -> Handler:
    return lambda node: broadcast(node, Value.array(value, node.element), node.integers("size"))


def _filled_like(value: int | None) -> Handler:
    def handler(node: Node) -> Results:
        fill = node.number("fill_value") if value is None else value
        return broadcast(node, Value.array(fill, node.element), node.value("self").shape)

    return handler


def arange(node: Node) -> Results:
    start, end, step = node.number("start", 0), node.number("end"), node.number("step", 1)
    return Value.array(np.arange(start, end, step), node.element)


def scalar_tensor(node: Node) -> Results:
    return Value.array(node.number("s"), node.element)


def sym_size(node: Node) -> Results:
    x = node.value("self")
    return x.shape[node.axis(node.integer("dim"), x.rank)]


def item(node: Node) -> Results:
    return node.number("self")


HANDLERS: dict[str, Handler] = {
    "_local_scalar_dense": item,
    "_unsafe_view": view,
    "_upsample_nearest_exact1d": _nearest(1, True),
    "_upsample_nearest_exact2d": _nearest(2, True),
    "_upsample_nearest_exact3d": _nearest(3, True),
    "alias": identity,
    "arange": arange,
    "cat": concat,
    "chunk": chunk,
    "clone": identity,
    "constant_pad_nd": _padded("constant"),
    "contiguous": identity,
    "detach": identity,
    "detach_": identity,
    "dropout": dropout,
    "embedding": embedding,
    "empty": empty,
    "expand": expand,
    "expand_as": expand_as,
    "flatten": flatten,
    "flip": flip,
    "full": full,
    "full_like": _filled_like(None),
    "index": index,
    "index_select": index_select,
    "lift_fresh_copy": identity,
    "mT": last_swapped,
    "narrow": narrow,
    "numpy_T": reversed_axes,
    "ones": _filled(1),
    "ones_like": _filled_like(1),
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
    "scalar_tensor": scalar_tensor,
    "select": select,
    "slice": slice_,
    "slice_scatter": slice_scatter,
    "split": split,
    "split_with_sizes": split,
    "squeeze": squeeze,
    "stack": stack,
    "sym_size": sym_size,
    "t": reversed_axes,
    "tile": repeat,
    "transpose": transpose,
    "tril": _triangle(False),
    "triu": _triangle(True),
    "unbind": unbind,
    "unflatten": unflatten,
    "unsqueeze": unsqueeze,
    "upsample_nearest1d": _nearest(1, False),
    "upsample_nearest2d": _nearest(2, False),
    "upsample_nearest3d": _nearest(3, False),
    "view": view,
    "zeros": _filled(0),
    "zeros_like": _filled_like(0),
}
