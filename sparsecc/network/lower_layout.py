"""Lowering of operators that move elements; transpositions and most reshapes move none."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import numpy as np
from xdsl.dialects import tensor
from xdsl.dialects.builtin import TensorType
from xdsl.ir import Operation

from sparsecc.dialects.host import kind_of
from sparsecc.dialects.nn_base import ints, number, shape_of, type_of
from sparsecc.dialects.nn_layout import (
    BroadcastOp,
    ConcatOp,
    GatherOp,
    PadOp,
    ReshapeOp,
    SliceOp,
    TransposeOp,
)
from sparsecc.elements import round_to
from sparsecc.host.movement import pad_map
from sparsecc.host.operator import ELEMENT_BYTES
from sparsecc.host.walk import Walk, contiguous
from sparsecc.network.layout import Layout
from sparsecc.network.lower import Lowering, Placed, Rule
from sparsecc.network.lower_elementwise import host_kind, walked


def _size(placed: Placed) -> int:
    return ELEMENT_BYTES[kind_of(placed.value)]


def reshape(op: ReshapeOp, low: Lowering) -> Sequence[Placed]:
    x, shape = low.get(op.x), shape_of(op.res)
    if (layout := x.layout.reshaped(shape)) is None:
        value = low.plain(x, "the reshape needs its axes in their order")
        layout = Layout.plain(shape)
        return [Placed(low.view(value, shape), layout)]
    return [Placed(low.view(x.value, layout.extents), layout)]


def transpose(op: TransposeOp, low: Lowering) -> Sequence[Placed]:
    x = low.get(op.x)
    return [Placed(x.value, x.layout.transposed(ints(op.perm)))]


def broadcast(op: BroadcastOp, low: Lowering) -> Sequence[Placed]:
    x = low.get(op.x)
    host_kind(op, op.x)
    layout, walk = walked(low, [x], shape_of(op.res))
    y = low.call(
        f"host_copy_{_size(x)}", [x.value], layout.extents, type_of(op.res).element_type, walk=walk.table()
    )
    return [Placed(y, layout)]


def slice_(op: SliceOp, low: Lowering) -> Sequence[Placed]:
    x, steps = low.get(op.x), low.get(op.x).layout.strides
    host_kind(op, op.x)
    offsets, strides = ints(op.offsets), ints(op.strides)
    layout = Layout(shape_of(op.res), x.layout.order)
    first = sum(o * s for o, s in zip(offsets, steps, strict=True))
    walk = Walk.of(
        layout.extents, contiguous(layout.extents), [steps[a] * strides[a] for a in layout.order]
    )  # fmt: skip
    y = low.call(
        f"host_copy_{_size(x)}", [x.value], layout.extents, type_of(op.res).element_type, offsets=[first],
        walk=walk.table(),
    )  # fmt: skip
    return [Placed(y, layout)]


def concat(op: ConcatOp, low: Lowering) -> Sequence[Placed]:
    """The result has the layout of the largest part; parts are copied to their places in it."""
    parts = [low.get(p) for p in op.parts]
    shape = shape_of(op.res)
    axis = number(op.axis) % len(shape)
    base = max(parts, key=lambda p: math.prod(p.layout.shape))
    layout = Layout(shape, base.layout.order)
    host_kind(op, op.res)
    kind = TensorType(type_of(op.res).element_type, layout.extents)
    result = low.add(tensor.EmptyOp([], kind)).results[0]
    at = 0
    for part in parts:
        extents = [part.layout.shape[a] for a in layout.order]
        steps = part.layout.strides
        walk = Walk.of(
            extents, [layout.strides[a] for a in layout.order], [steps[a] for a in layout.order]
        )  # fmt: skip
        if 0 not in extents:
            result = low.call(
                f"host_copy_{_size(part)}", [part.value], layout.extents, kind.element_type, into=result,
                at=at * layout.strides[axis], walk=walk.table(),
            )  # fmt: skip
        at += part.layout.shape[axis]
    return [Placed(result, layout)]


def _bits(op: PadOp) -> int:
    """The value of the padding as its bits."""
    kind = type_of(op.x).element_type
    value = round_to(np.asarray(op.value.value.data), kind)
    if str(kind) == "bf16":
        return struct.unpack("<I", struct.pack("<f", float(value)))[0] >> 16
    return int.from_bytes(value.tobytes(), "little")


def pad(op: PadOp, low: Lowering) -> Sequence[Placed]:
    """One axis after the other."""
    x = low.get(op.x)
    host_kind(op, op.x)
    shape = list(x.layout.shape)
    value, order = low.view(x.value, x.layout.extents), x.layout.order
    for axis, (before, after) in enumerate(zip(ints(op.low), ints(op.high), strict=True)):
        if not before and not after:
            continue
        place = order.index(axis)
        extents = [shape[a] for a in order]
        outer, inner = math.prod(extents[:place]), math.prod(extents[place + 1 :])
        columns = pad_map(shape[axis], before, after, op.mode.data)
        old, shape[axis] = shape[axis], len(columns)
        value = low.call(
            f"host_remap_{_size(x)}", [value], [shape[a] for a in order], type_of(op.res).element_type,
            outer=outer, height=1, width=old, inner=inner, out_height=1, out_width=len(columns), rows=None,
            columns=list(columns), fill=_bits(op),
        )  # fmt: skip
    return [Placed(value, Layout(tuple(shape), order))]


def gather(op: GatherOp, low: Lowering) -> Sequence[Placed]:
    x, indices = low.get(op.x), low.get(op.indices)
    host_kind(op, op.x)
    rank = len(x.layout.shape)
    axis = number(op.axis) % rank
    chosen = low.plain(indices, "the indices are taken in their order")
    count, more = math.prod(indices.layout.shape), len(indices.layout.shape)
    place = x.layout.order.index(axis)
    extents = x.layout.extents

    def renamed(a: int) -> int:
        return a if a < axis else a - 1 + more

    order = (
        *(renamed(a) for a in x.layout.order[:place]),
        *range(axis, axis + more),
        *(renamed(a) for a in x.layout.order[place + 1 :]),
    )
    layout = Layout(shape_of(op.res), order)
    y = low.call(
        f"host_gather_{_size(x)}_{kind_of(chosen)}", [low.view(x.value, extents), chosen], layout.extents,
        type_of(op.res).element_type, outer=math.prod(extents[:place]), axis=extents[place],
        inner=math.prod(extents[place + 1 :]), count=count,
    )  # fmt: skip
    return [Placed(y, layout)]


RULES: dict[type[Operation], Rule] = {
    BroadcastOp: broadcast,
    ConcatOp: concat,
    GatherOp: gather,
    PadOp: pad,
    ReshapeOp: reshape,
    SliceOp: slice_,
    TransposeOp: transpose,
}
