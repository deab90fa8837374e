"""ONNX operators that move elements."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sparsecc.dialects.nn_elementwise import WhereOp
from sparsecc.dialects.nn_layout import ConcatOp, GatherOp, PadOp
from sparsecc.importers.emitter import broadcast, reshaped, sliced, transposed
from sparsecc.importers.onnx_graph import Handler, Node, Results
from sparsecc.importers.values import Value
from sparsecc.nn import shapes


def axes_of(node: Node, axes: Sequence[int], rank: int) -> tuple[int, ...]:
    try:
        return shapes.axes_of(axes, rank)
    except shapes.ShapeError as error:
        node.fail(str(error))


def axis_of(node: Node, axis: int, rank: int) -> int:
    return axes_of(node, [axis], rank)[0]


def identity(node: Node) -> Results:
    return node.value(0)


def dropout(node: Node) -> Results:
    x, training = node.value(0), node.optional(2)
    if training is not None and (training.constant is None or training.constant.array().any()):
        node.fail("dropout in training is not supported", "export the model for inference")
    return [x, Value.array(np.ones(x.shape), "i1")] if node.wants(1) else x


def reshape(node: Node) -> Results:
    x = node.value(0)
    wanted = node.integers("shape") if node.has("shape") else node.known_ints(1)
    if not node.integer("allowzero", 0):
        if any(d == 0 and i >= x.rank for i, d in enumerate(wanted)):
            node.fail(f"the shape {wanted} copies extents that {list(x.shape)} does not have")
        wanted = [x.shape[i] if d == 0 else d for i, d in enumerate(wanted)]
    if wanted.count(-1) == 1:
        known = -math.prod(wanted)
        if known > 0 and math.prod(x.shape) % known == 0:
            wanted = [math.prod(x.shape) // known if d == -1 else d for d in wanted]
    if min(wanted, default=0) < 0 or math.prod(wanted) != math.prod(x.shape):
        node.fail(f"the shape {list(x.shape)} cannot become {wanted}")
    return reshaped(node, x, wanted)


def flatten(node: Node) -> Results:
    x = node.value(0)
    axis = node.integer("axis", 1)
    if not -x.rank <= axis <= x.rank:
        node.fail(f"attribute axis is {axis}, but the input has {x.rank} dimensions")
    axis += x.rank if axis < 0 else 0
    return reshaped(node, x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


def _listed_axes(node: Node) -> list[int] | None:
    if node.has("axes"):
        return node.integers("axes")
    return None if node.optional(1) is None else node.known_ints(1)


def squeeze(node: Node) -> Results:
    x, axes = node.value(0), _listed_axes(node)
    gone = [i for i, d in enumerate(x.shape) if d == 1] if axes is None else axes_of(node, axes, x.rank)
    if any(x.shape[i] != 1 for i in gone):
        node.fail(f"axes {list(gone)} of shape {list(x.shape)} do not all have extent 1")
    return reshaped(node, x, [d for i, d in enumerate(x.shape) if i not in gone])


def unsqueeze(node: Node) -> Results:
    x, axes = node.value(0), _listed_axes(node)
    if axes is None:
        node.fail("axes are missing")
    new = axes_of(node, axes, x.rank + len(axes))
    old = iter(x.shape)
    return reshaped(node, x, [1 if i in new else next(old) for i in range(x.rank + len(axes))])


def transpose(node: Node) -> Results:
    x = node.value(0)
    return transposed(node, x, node.integers("perm", range(x.rank)[::-1]))


def concat(node: Node) -> Results:
    parts = [node.value(i) for i in range(len(node.inputs))]
    filled = [p for p in parts if p.shape != (0,) or len(parts) == 1]
    # An empty list joins any tensor in what some exporters write.
    return node.emit(ConcatOp, *(filled or parts[:1]), axis=node.integer("axis", 1))


def _taken(start: int, end: int, step: int, extent: int) -> range:
    """What a slice takes; unlike Python's, one backwards from before the front takes the first element."""
    start, end = (i + extent if i < 0 else i for i in (start, end))
    if step > 0:
        return range(min(max(start, 0), extent), min(max(end, 0), extent), step)
    return range(min(max(start, 0), extent - 1), min(max(end, -1), extent - 1), step)


def slice_(node: Node) -> Results:
    x = node.value(0)
    if node.opset < 10:
        starts, ends = node.integers("starts"), node.integers("ends")
        axes = node.integers("axes", range(len(starts)))
        steps = [1] * len(starts)
    else:
        starts, ends = node.known_ints(1), node.known_ints(2)
        axes = list(range(len(starts))) if node.optional(3) is None else node.known_ints(3)
        steps = [1] * len(starts) if node.optional(4) is None else node.known_ints(4)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        node.fail(f"starts {starts}, ends {ends}, axes {axes} and steps {steps} do not fit together")
    offsets, sizes, strides = [0] * x.rank, list(x.shape), [1] * x.rank
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        i = axis_of(node, axis, x.rank)
        taken = _taken(start, end, step, x.shape[i])
        offsets[i], sizes[i], strides[i] = taken.start if len(taken) else 0, len(taken), step
    return sliced(node, x, offsets, sizes, strides)


def split(node: Node) -> Results:
    x = node.value(0)
    axis = axis_of(node, node.integer("axis", 0), x.rank)
    extent = x.shape[axis]
    if node.has("split"):
        parts = node.integers("split")
    elif node.optional(1) is not None:
        parts = node.known_ints(1)
    else:
        count = max(1, node.integer("num_outputs", len(node.proto.output)))
        step = -(-extent // count)
        parts = [max(0, min(step, extent - i * step)) for i in range(count)]
    if sum(parts) != extent or min(parts, default=0) < 0:
        node.fail(f"parts {parts} do not make the {extent} elements of axis {axis}")
    results: list[Value] = []
    for i, size in enumerate(parts):
        offsets, sizes = [0] * x.rank, list(x.shape)
        offsets[axis], sizes[axis] = sum(parts[:i]), size
        results.append(sliced(node, x, offsets, sizes, [1] * x.rank))
    return results


def pad(node: Node) -> Results:
    x, value = node.value(0), 0.0
    if node.opset < 11:
        pads, value = node.integers("pads"), node.real("value", 0.0)
    else:
        pads = node.known_ints(1)
        if node.optional(2) is not None:
            value = float(node.scalar(2))
    axes = list(range(x.rank)) if node.optional(3) is None else node.known_ints(3)
    if len(pads) != 2 * len(axes):
        node.fail(f"pads {pads} do not fit {len(axes)} axes")
    low, high = [0] * x.rank, [0] * x.rank
    for i, axis in enumerate(axes):
        at = axis_of(node, axis, x.rank)
        low[at], high[at] = pads[i], pads[len(axes) + i]
    if min((*low, *high), default=0) < 0:
        # Negative pads cut off.
        offsets = [max(0, -p) for p in low]
        sizes = [d - max(0, -p) - max(0, -q) for d, p, q in zip(x.shape, low, high, strict=True)]
        x = sliced(node, x, offsets, sizes, [1] * x.rank)
        low, high = [max(0, p) for p in low], [max(0, p) for p in high]
    return node.emit(PadOp, x, low=low, high=high, mode=node.text("mode", "constant"), value=value)


def gather(node: Node) -> Results:
    x, indices = node.value(0), node.value(1)
    axis = axis_of(node, node.integer("axis", 0), x.rank)
    if indices.constant is not None:
        found, extent = indices.constant.array(), x.shape[axis]
        if found.size and not (-extent <= found.min() and found.max() < extent):
            node.fail(f"indices {found.min()} to {found.max()} are outside an axis of {extent} elements")
    return node.emit(GatherOp, x, indices, axis=axis)


def expand(node: Node) -> Results:
    x = node.value(0)
    try:
        return broadcast(node, x, shapes.broadcast(x.shape, node.known_ints(1)))
    except shapes.ShapeError as error:
        node.fail(str(error))


def tile(node: Node) -> Results:
    x, repeats = node.value(0), node.known_ints(1)
    if len(repeats) != x.rank or min(repeats, default=0) < 0:
        node.fail(f"repeats {repeats} do not fit the shape {list(x.shape)}")
    apart = reshaped(node, x, [d for extent in x.shape for d in (1, extent)])
    wide = broadcast(node, apart, [d for pair in zip(repeats, x.shape, strict=True) for d in pair])
    return reshaped(node, wide, [r * d for r, d in zip(repeats, x.shape, strict=True)])


def depth_to_space(node: Node) -> Results:
    x, size = node.value(0), node.integer("blocksize")
    mode = node.text("mode", "DCR")
    node.refuse("mode", ["DCR", "CRD"], mode)
    if x.rank != 4 or size < 1 or x.shape[1] % size**2:
        node.fail(f"shape {list(x.shape)} does not fit blocks of {size} x {size}")
    n, c, h, w = x.shape
    inner = c // size**2
    if mode == "DCR":
        apart = transposed(node, reshaped(node, x, (n, size, size, inner, h, w)), (0, 3, 4, 1, 5, 2))
    else:
        apart = transposed(node, reshaped(node, x, (n, inner, size, size, h, w)), (0, 1, 4, 2, 5, 3))
    return reshaped(node, apart, (n, inner, h * size, w * size))


def space_to_depth(node: Node) -> Results:
    x, size = node.value(0), node.integer("blocksize")
    mode = node.text("mode", "DCR")
    node.refuse("mode", ["DCR", "CRD"], mode)
    if x.rank != 4 or size < 1 or x.shape[2] % size or x.shape[3] % size:
        node.fail(f"shape {list(x.shape)} does not fit blocks of {size} x {size}")
    n, c, h, w = x.shape
    perm = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    apart = transposed(node, reshaped(node, x, (n, c, h // size, size, w // size, size)), perm)
    return reshaped(node, apart, (n, c * size**2, h // size, w // size))


def trilu(node: Node) -> Results:
    x = node.value(0)
    if x.rank < 2:
        node.fail(f"shape {list(x.shape)} has no two last dimensions")
    offset = 0 if node.optional(1) is None else int(node.scalar(1))
    rows, columns = np.arange(x.shape[-2])[:, None], np.arange(x.shape[-1])
    kept = columns - rows >= offset if node.integer("upper", 1) else columns - rows <= offset
    return node.emit(WhereOp, Value.array(kept, "i1"), x, Value.array(0, x.element))


HANDLERS: dict[str, Handler] = {
    "Concat": concat,
    "DepthToSpace": depth_to_space,
    "Dropout": dropout,
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "Identity": identity,
    "Pad": pad,
    "Reshape": reshape,
    "Slice": slice_,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Trilu": trilu,
    "Unsqueeze": unsqueeze,
}
