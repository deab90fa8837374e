"""`linalg.generic` as operations on tensors, by what its body computes.

Element by element where all loops are parallel; a sum, product, largest or smallest over the reduced loops
where the body combines something with what is there already; a product of matrices where it adds a product of
two operands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import StringAttr
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.linalg.attrs import IteratorType
from xdsl.ir import Block, Operation, SSAValue
from xdsl.ir.affine import AffineConstantExpr, AffineDimExpr, AffineMap

from sparsecc.dialects import nn_elementwise as ew
from sparsecc.dialects.nn_base import NnOp
from sparsecc.dialects.nn_layout import GatherOp
from sparsecc.dialects.nn_products import LinearOp
from sparsecc.dialects.nn_reductions import ArgReduceOp, ReduceOp
from sparsecc.importers.emitter import Emitter, as_element, broadcast, product, reshaped, sliced, transposed
from sparsecc.importers.mlir_body import Scope, evaluated, is_zero, result_element
from sparsecc.importers.values import Value

_REDUCTIONS: dict[type[Operation], tuple[str, type[NnOp]]] = {
    arith.AddfOp: ("sum", ew.AddOp), arith.AddiOp: ("sum", ew.AddOp), arith.MulfOp: ("prod", ew.MulOp),
    arith.MuliOp: ("prod", ew.MulOp), arith.MaximumfOp: ("max", ew.MaxOp), arith.MaxnumfOp: ("max", ew.MaxOp),
    arith.MaxSIOp: ("max", ew.MaxOp), arith.MinimumfOp: ("min", ew.MinOp), arith.MinnumfOp: ("min", ew.MinOp),
    arith.MinSIOp: ("min", ew.MinOp),
}  # fmt: skip


def dims_of(node: Emitter, map_: AffineMap) -> list[int | None]:
    """Which loop each axis runs with; None for an axis that stays at 0."""
    found: list[int | None] = []
    for expression in map_.results:
        match expression:
            case AffineDimExpr():
                found.append(expression.position)
            case AffineConstantExpr() if expression.value == 0:
                found.append(None)
            case _:
                node.fail(f"its map {map_} is more than an order of axes", "lower it to named operations")
    known = [d for d in found if d is not None]
    if len(set(known)) < len(known):
        node.fail(f"its map {map_} takes a diagonal", "lower it to named operations")
    return found


def in_space(node: Emitter, x: Value, dims: Sequence[int | None], loops: int) -> Value:
    """The operand with an axis for every loop, of extent 1 where it does not depend on it."""
    if any(d is None and x.shape[i] != 1 for i, d in enumerate(dims)):
        sizes = [1 if d is None else x.shape[i] for i, d in enumerate(dims)]
        x = sliced(node, x, [0] * x.rank, sizes, [1] * x.rank)
    kept = [d for d in dims if d is not None]
    x = reshaped(node, x, [e for e, d in zip(x.shape, dims, strict=True) if d is not None])
    order = sorted(kept)
    x = transposed(node, x, [kept.index(d) for d in order])
    extents = dict(zip(order, x.shape, strict=True))
    return reshaped(node, x, [extents.get(d, 1) for d in range(loops)])


def generic(node: Emitter, op: linalg.GenericOp, scope: Scope) -> list[Value | None]:
    """The results; None for those that nothing uses."""
    maps = [dims_of(node, m.data) for m in op.indexing_maps]
    loops = len(op.iterator_types)
    reduced = [i for i, t in enumerate(op.iterator_types) if t.data is IteratorType.REDUCTION]
    values: list[Value | None] = [scope[v] for v in op.operands]
    extents: dict[int, int] = {}
    for i, (value, dims) in enumerate(zip(values, maps, strict=True)):
        shape = cast(Any, op.operands[i].type).get_shape() if value is None else value.shape
        extents |= {d: shape[a] for a, d in enumerate(dims) if d is not None and shape[a] >= 0}
    space = [extents[d] for d in range(loops)]
    body = op.body.block
    inside: Scope = dict(scope)
    for argument, value, dims in zip(body.args, values, maps, strict=True):
        if value is not None and (argument.index < len(op.inputs) or any(argument.uses)):
            inside[argument] = in_space(node, value, dims, loops)
    outs = body.args[len(op.inputs) :]
    yielded = cast(linalg.YieldOp, body.last_op).operands
    results: list[Value | None] = []
    for i, (result, wanted) in enumerate(zip(op.results, yielded, strict=True)):
        if not any(result.uses):
            results.append(None)
            continue
        dims = maps[len(op.inputs) + i]
        if not reduced:
            _body(node, body, wanted, inside, space)
            y = broadcast(node, inside[wanted], space)
        else:
            y = _reduced(node, body, wanted, outs[i], inside, space, reduced)
        kept = [d for d in dims if d is not None]
        y = reshaped(node, y, [space[d] for d in range(loops) if d not in reduced])
        order = sorted(kept)
        y = transposed(node, y, [order.index(d) for d in kept])
        results.append(reshaped(node, y, [1 if d is None else space[d] for d in dims]))
    return results


def _needed(block: Block, wanted: SSAValue) -> list[Operation]:
    """The operations of a body that a value depends on, in their order."""
    found: set[Operation] = set()
    todo = [wanted]
    while todo:
        owner = todo.pop().owner
        if isinstance(owner, Operation) and owner.parent is block and owner not in found:
            found.add(owner)
            todo += owner.operands
    return [op for op in block.ops if op in found]


def _body(node: Emitter, body: Block, wanted: SSAValue, inside: Scope, space: Sequence[int]) -> None:
    """Compute a value of the body for all points of the loops."""
    for op in _needed(body, wanted):
        if op.results[0] in inside:
            continue
        match op:
            case linalg.IndexOp():
                d = op.dim.value.data
                places = np.arange(space[d]).reshape([-1 if i == d else 1 for i in range(len(space))])
                inside[op.results[0]] = Value.array(places, "i64")
            case tensor.ExtractOp():
                inside[op.results[0]] = _extracted(node, op, inside)
            case _:
                evaluated(node, [op], inside)


def _extracted(node: Emitter, op: tensor.ExtractOp, inside: Scope) -> Value:
    """Elements of a tensor at computed places, as one gather of its elements in a row."""
    table: Value = inside[op.tensor]
    flat = reshaped(node, table, (math.prod(table.shape),))
    place = Value.array(0, "i64")
    for extent, index in zip(table.shape, op.indices, strict=True):
        scaled = node.emit(ew.MulOp, place, Value.array(extent, "i64"))
        place = node.emit(ew.AddOp, scaled, as_element(node, inside[index], "i64"))
    return node.emit(GatherOp, flat, place, axis=0)


def _reduced(
    node: Emitter, body: Block, wanted: SSAValue, out: SSAValue, inside: Scope, space: Sequence[int],
    reduced: Sequence[int],
) -> Value:  # fmt: skip
    combine = wanted.owner
    if isinstance(combine, arith.SelectOp):
        return _place(node, body, combine, out, inside, space, reduced)
    if not isinstance(combine, Operation) or type(combine) not in _REDUCTIONS or out not in combine.operands:
        node.fail(
            "its body is no sum, product, maximum or minimum of what is reduced",
            "lower it to named operations",
        )
    kind, operator = _REDUCTIONS[type(combine)]
    (term,) = [v for v in combine.operands if v is not out] or [out]
    init: Value | None = inside.get(out)
    if kind == "sum" and (y := _contracted(node, term, inside, space, reduced)) is not None:
        pass
    else:
        _body(node, body, term, inside, space)
        full = broadcast(node, inside[term], [
            space[d] if d in reduced else inside[term].shape[d] for d in range(len(space))
        ])  # fmt: skip
        y = node.emit(ReduceOp, full, kind=kind, axes=list(reduced), keep=True)
        y = broadcast(node, y, [1 if d in reduced else e for d, e in enumerate(space)])
    return y if init is None or neutral(kind, init) else node.emit(operator, init, y)


def neutral(kind: str, init: Value) -> bool:
    """Whether a reduction that begins with these constants gives the same without them."""
    if init.constant is None:
        return False
    array = init.constant.array()
    match kind:
        case "sum":
            return not array.any()
        case "prod":
            return bool((array == 1).all())
        case _:
            floats = array.dtype.kind == "f"
            info: Any = np.finfo(array.dtype) if floats else np.iinfo(array.dtype)
            return bool((array <= info.min).all() if kind == "max" else (array >= info.max).all())


def _place(
    node: Emitter, body: Block, select: arith.SelectOp, out: SSAValue, inside: Scope, space: Sequence[int],
    reduced: Sequence[int],
) -> Value:  # fmt: skip
    """Where the largest or smallest element is: the second result of a body that keeps both."""
    compare = select.cond.owner
    if not isinstance(compare, arith.CmpfOp | arith.CmpiOp) or select.rhs is not out or len(reduced) != 1:
        node.fail("its body selects in a way that is not known", "lower it to named operations")
    # ogt, ugt, sgt and the like; the others are less.
    largest = compare.predicate.value.data in ((2, 3, 9, 10) if isinstance(compare, arith.CmpfOp) else (4, 5))
    _body(node, body, compare.lhs, inside, space)
    x = broadcast(node, inside[compare.lhs], space)
    places = node.emit(
        ArgReduceOp, x, kind="max" if largest else "min", axis=reduced[0], keep=True, last=False
    )
    return as_element(node, places, result_element(select))


def _contracted(
    node: Emitter, term: SSAValue, inside: Scope, space: Sequence[int], reduced: Sequence[int]
) -> Value | None:
    """A product of matrices [batch, m, k] and [batch, k, n], where the term multiplies two operands."""
    op = term.owner
    if not isinstance(op, arith.MulfOp | arith.MuliOp):
        return None
    if not all(v in inside for v in op.operands):
        return None
    a, b = (cast(Value, inside[v]) for v in op.operands)

    def has(x: Value, d: int) -> bool:
        return x.shape[d] == space[d] and (space[d] > 1 or d in reduced)

    if not all(has(a, d) and has(b, d) for d in reduced):
        return None
    free = [d for d in range(len(space)) if d not in reduced]
    batch = [d for d in free if has(a, d) and has(b, d)]
    rows = [d for d in free if d not in batch and has(a, d)]
    columns = [d for d in free if d not in batch and d not in rows]

    def extent(dims: Sequence[int]) -> int:
        return math.prod(space[d] for d in dims)

    left = [*batch, *rows, *reduced, *(d for d in columns)]
    right = [*batch, *reduced, *columns, *(d for d in rows)]
    lead = [space[d] for d in batch]
    x = reshaped(node, transposed(node, a, left), (*lead, extent(rows), extent(reduced)))
    w = reshaped(node, transposed(node, b, right), (*lead, extent(reduced), extent(columns)))
    y = product(node, x, w)
    order = [*batch, *rows, *columns]
    y = reshaped(node, y, [space[d] for d in order])
    y = transposed(node, y, [order.index(d) for d in free])
    return reshaped(node, y, [1 if d in reduced else e for d, e in enumerate(space)])


def matmul(node: Emitter, a: Value, b: Value, init: Value | None) -> Value:
    """a b + init; an init that is the same in every row is a bias."""
    bias = None
    if init is not None and init.constant is not None and not is_zero(init) and b.constant is not None:
        array = init.constant.array()
        if a.constant is None and b.rank == 2 and (array == array[:1]).all():
            bias = Value.array(array[0], init.element)
    if bias is not None:
        return node.emit(LinearOp, a, transposed(node, b), bias, weights=[1])
    y = product(node, a, b)
    return y if init is None or is_zero(init) else node.emit(ew.AddOp, init, y)


def label(op: Operation, number: int) -> str:
    """What an operation is called: its own name, or its kind and number."""
    name = op.attributes.get("name")
    return name.data if isinstance(name, StringAttr) else f"{op.name.partition('.')[2]}{number}"
