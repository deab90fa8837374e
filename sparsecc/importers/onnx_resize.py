"""ONNX's resizing by nearest neighbours."""

from __future__ import annotations

import math

import numpy as np

from sparsecc.dialects.nn_layout import GatherOp
from sparsecc.importers.onnx_graph import Handler, Node, Results
from sparsecc.importers.onnx_layout import axes_of
from sparsecc.importers.values import Value
from sparsecc.nn import shapes


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
        axes_of(node, axes, x.rank)
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
    "Resize": resize,
    "Upsample": resize,
}
