"""ONNX operators that move elements, and those that compute shapes, which are folded."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sparsecc.dialects.nn_elementwise import WhereOp
from sparsecc.dialects.nn_layout import ConcatOp, GatherOp, PadOp
from sparsecc.importers.emitter import as_element, broadcast, reshaped, sliced, transposed
from sparsecc.importers.onnx_graph import Graph, Handler, Node, Results
from sparsecc.importers.onnx_proto import element_name
from sparsecc.importers.onnx_values import Value
from sparsecc.nn import shapes


def _axes(node: Node, axes: Sequence[int], rank: int) -> tuple[int, ...]:
    try:
        return shapes.axes_of(axes, rank)
    except shapes.ShapeError as error:
        node.fail(str(error))


def _axis(node: Node, axis: int, rank: int) -> int:
    return _axes(node, [axis], rank)[0]


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
    gone = [i for i, d in enumerate(x.shape) if d == 1] if axes is None else _axes(node, axes, x.rank)
    if any(x.shape[i] != 1 for i in gone):
        node.fail(f"axes {list(gone)} of shape {list(x.shape)} do not all have extent 1")
    return reshaped(node, x, [d for i, d in enumerate(x.shape) if i not in gone])


def unsqueeze(node: Node) -> Results:
    x, axes = node.value(0), _listed_axes(node)
    if axes is None:
        node.fail("axes are missing")
    new = _axes(node, axes, x.rank + len(axes))
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
        i = _axis(node, axis, x.rank)
        taken = _taken(start, end, step, x.shape[i])
        offsets[i], sizes[i], strides[i] = taken.start if len(taken) else 0, len(taken), step
    return sliced(node, x, offsets, sizes, strides)


def split(node: Node) -> Results:
    x = node.value(0)
    axis = _axis(node, node.integer("axis", 0), x.rank)
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
        at = _axis(node, axis, x.rank)
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
    axis = _axis(node, node.integer("axis", 0), x.rank)
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


# ---- types and shapes


def cast(node: Node) -> Results:
    x = node.value(0)
    return as_element(node, x, element_name(node.integer("to"), f"{node.where}, attribute to"))


def cast_like(node: Node) -> Results:
    return as_element(node, node.value(0), node.value(1).element)


def constant(node: Node) -> Results:
    if node.has("value"):
        return Value.of(node.tensor("value"))
    if node.has("sparse_value"):
        return Value.of(node.sparse_tensor("sparse_value"))
    if node.has("value_int"):
        return Value.array(node.integer("value_int"), "i64")
    if node.has("value_ints"):
        return Value.array(node.integers("value_ints"), "i64")
    if node.has("value_float"):
        return Value.array(node.real("value_float", 0.0), "f32")
    if node.has("value_floats"):
        return Value.array(np.array(node.reals("value_floats")), "f32")
    node.fail("it has no value of numbers")


def constant_of_shape(node: Node) -> Results:
    shape = node.known_ints(0)
    value = Value.of(node.tensor("value")) if node.has("value") else Value.array([0], "f32")
    if value.shape not in ((1,), ()):
        node.fail(f"attribute value has shape {list(value.shape)}; needed one element")
    return broadcast(node, reshaped(node, value, ()), shape)


def shape(node: Node) -> Results:
    extents = node.value(0).shape
    end = node.integer("end", len(extents))
    return Value.array(list(extents[node.integer("start", 0) : end]), "i64")


def size(node: Node) -> Results:
    return Value.array(math.prod(node.value(0).shape), "i64")


def range_(node: Node) -> Results:
    start, limit, delta = (node.scalar(i) for i in range(3))
    count = math.ceil((limit - start) / delta) if delta and math.isfinite((limit - start) / delta) else -1
    if not delta or count > shapes.MAX_ELEMENTS >> 8:
        node.fail(f"a range from {start} to {limit} by {delta} has no end, or is too long")
    values = [start + i * delta for i in range(max(0, count))]
    return Value.array(np.array(values), node.value(0).element)


def nonzero(node: Node) -> Results:
    return Value.array(np.array(np.nonzero(node.known(0))), "i64")


def one_hot(node: Node) -> Results:
    indices, depth = node.value(0), int(node.scalar(1))
    off, on = (Value.array(v, node.value(2).element) for v in node.known(2).ravel()[:2])
    if depth < 0 or depth > shapes.MAX_ELEMENTS >> 8:
        node.fail(f"the depth is {depth}")
    axis = node.integer("axis", -1)
    axis = _axis(node, axis, indices.rank + 1)
    from sparsecc.dialects.nn_elementwise import AddOp, EqualOp, LessOp

    index = as_element(node, indices, "i64")
    negative = node.emit(LessOp, index, Value.array(0, "i64"))
    index = node.emit(WhereOp, negative, node.emit(AddOp, index, Value.array(depth, "i64")), index)
    places = Value.array(np.arange(depth).reshape([-1] + [1] * (indices.rank - axis)), "i64")
    spread = reshaped(node, index, (*indices.shape[:axis], 1, *indices.shape[axis:]))
    return node.emit(WhereOp, node.emit(EqualOp, spread, places), on, off)


def conditional(node: Node) -> Results:
    """Only the branch that a constant condition takes."""
    branch = node.subgraph("then_branch" if bool(node.scalar(0)) else "else_branch")
    inner: Graph = node.graph.inside(f"{node.proto.name or 'If'}/", node.graph.opsets, node.graph.scope)
    inner.add_initializers(branch)
    return inner.run(branch.node, [o.name for o in branch.output])


# ---- nearest neighbours


def _nearest(node: Node, extent: int, result: int, scale: float) -> np.ndarray:
    """Which element each of `result` takes, [result]."""
    mode = node.text("coordinate_transformation_mode", "half_pixel" if node.opset >= 11 else "asymmetric")
    rounding = node.text("nearest_mode", "round_prefer_floor" if node.opset >= 11 else "floor")
    places = np.arange(result, dtype=np.float64)
    if mode == "asymmetric":
        at = places / scale
    elif mode == "half_pixel" or (mode == "pytorch_half_pixel" and result > 1):
        at = (places + 0.5) / scale - 0.5
    elif mode == "pytorch_half_pixel":
        at = places * 0
    elif mode == "align_corners":
        at = places * (extent - 1) / (result - 1) if result > 1 else places * 0
    elif mode == "half_pixel_symmetric":
        offset = extent / 2 * (1 - result / (scale * extent))
        at = offset + (places + 0.5) / scale - 0.5
    else:
        node.fail(f"coordinate_transformation_mode {mode!r} is not supported")
    if rounding == "floor":
        index = np.floor(at)
    elif rounding == "ceil":
        index = np.ceil(at)
    elif rounding == "round_prefer_floor":
        index = np.ceil(at - 0.5)
    elif rounding == "round_prefer_ceil":
        index = np.floor(at + 0.5)
    else:
        node.fail(f"nearest_mode {rounding!r} is not supported")
    return np.clip(index, 0, extent - 1).astype(np.int64)


def resize(node: Node) -> Results:
    """Nearest neighbours, as one gather for each axis that changes."""
    x = node.value(0)
    mode = node.text("mode", "nearest")
    if mode != "nearest":
        node.fail(f"mode {mode!r} is not supported; only 'nearest' is", "resize with mode nearest")
    old = node.opset < 11
    given = node.optional(1 if old else 2)
    scales = (
        []
        if given is None or given.shape == (0,)
        else [float(s) for s in node.known(1 if old else 2).ravel()]
    )
    if node.has("scales"):
        scales = node.reals("scales")
    sizes = [] if old or node.optional(3) is None else node.known_ints(3)
    axes = list(range(x.rank))
    if node.has("axes"):
        axes = list(node.integers("axes"))
        _axes(node, axes, x.rank)
    numbers = [*scales, *sizes]
    if len(scales or sizes) != len(axes) or not all(0 < n < math.inf for n in numbers):
        node.fail(f"scales {scales} and sizes {sizes} do not fit the shape {list(x.shape)}")
    policy = node.text("keep_aspect_ratio_policy", "stretch")
    extents = [x.shape[a] for a in axes]
    if sizes:
        scales = [s / d for s, d in zip(sizes, extents, strict=True)] if 0 not in extents else []
        if not scales:
            node.fail(f"the shape {list(x.shape)} is empty")
        if policy != "stretch":
            node.refuse("keep_aspect_ratio_policy", ["not_larger", "not_smaller"], policy)
            one = min(scales) if policy == "not_larger" else max(scales)
            scales = [one] * len(scales)
            sizes = [int(np.floor(one * d + 0.5)) for d in extents]
    else:
        sizes = [int(np.floor(s * d)) for s, d in zip(scales, extents, strict=True)]
    if max(sizes, default=0) > shapes.MAX_ELEMENTS >> 8:
        node.fail(f"sizes {sizes} are too large")
    for axis, extent, result, scale in zip(axes, extents, sizes, scales, strict=True):
        index = _nearest(node, extent, result, scale)
        if not np.array_equal(index, np.arange(extent)):
            x = node.emit(GatherOp, x, Value.array(index, "i64"), axis=axis % x.rank)
    return x


HANDLERS: dict[str, Handler] = {
    "Cast": cast,
    "CastLike": cast_like,
    "Concat": concat,
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "DepthToSpace": depth_to_space,
    "Dropout": dropout,
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "Identity": identity,
    "If": conditional,
    "NonZero": nonzero,
    "OneHot": one_hot,
    "Pad": pad,
    "Range": range_,
    "Reshape": reshape,
    "Resize": resize,
    "Shape": shape,
    "Size": size,
    "Slice": slice_,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Trilu": trilu,
    "Unsqueeze": unsqueeze,
    "Upsample": resize,
}
