"""Writes every meta-op as a sliced dense product: the Meta-DFG, from which any MLIR back end can go on.

Turns each `sparse.spmm` into upstream operations on a result that starts as zeros. A meta-op is a product
of a constant block of W and rows of X, added to rows of the result: `tensor.extract_slice` for ranges, a
gather (`linalg.generic` around `tensor.extract`) for lists, then `tensor.insert_slice` for each run of
rows. Integers are multiplied by `linalg.quantized_matmul` with zero points 0, which widens i8 to i32 in
every version of MLIR; floats by `linalg.matmul`, f16 and bf16 after they were widened to f32.

Refused are operators of more than `max-meta-ops`: the text grows by some ten operations for each.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.builder import Builder
from xdsl.context import Context
from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import (
    AffineMapAttr,
    AnyFloat,
    FloatAttr,
    IndexType,
    IntegerAttr,
    ModuleOp,
    TensorType,
    f32,
    i32,
)
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.linalg.attrs import IteratorTypeAttr
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.ir.affine import AffineMap
from xdsl.rewriter import InsertPoint, Rewriter

from sparsecc.cover.cells import blocks
from sparsecc.cover.metaops import Axis
from sparsecc.dialects.sparse import SpmmOp
from sparsecc.elements import elements_of
from sparsecc.passes.base import SparsePass, refuse

OpT = TypeVar("OpT", bound=Operation)

_ROW = AffineMapAttr(AffineMap.from_callable(lambda i, _: (i,)))
_POINT = AffineMapAttr(AffineMap.from_callable(lambda i, j: (i, j)))


@dataclass(frozen=True)
class ConvertSparseToLinalgPass(SparsePass):
    name = "convert-sparse-to-linalg"
    summary: ClassVar = (
        "writes meta-ops as sliced products: sparse.spmm -> extract_slice, matmul, insert_slice"
    )
    refuses: ClassVar = "operators of more than max-meta-ops"
    option_help: ClassVar = {"max_meta_ops": "meta-ops an operator may have at most"}

    max_meta_ops: int = 4096

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for spmm in [found for found in op.walk() if isinstance(found, SpmmOp)]:
            if (count := len(spmm.cover())) > self.max_meta_ops:
                refuse(
                    spmm,
                    f"has {count} meta-ops, more than max-meta-ops={self.max_meta_ops}; lift them, raise the "
                    "limit, or keep them in tables with convert-sparse-to-tu",
                )
            result = _Graph(spmm).build()
            spmm.res.replace_all_uses_with(result)
            result.name_hint = result.name_hint or spmm.res.name_hint
            Rewriter.erase_op(spmm)


class _Graph:
    """The operations that replace one `sparse.spmm`."""

    def __init__(self, spmm: SpmmOp):
        self.spmm = spmm
        self.builder = Builder(InsertPoint.before(spmm))
        self.n = spmm.positions
        self.element_type = spmm.weight.element_type
        self.is_integer = not isinstance(self.element_type, AnyFloat)
        self.wide = _wide(self.element_type)
        # Operations that several meta-ops share: slices and gathers of X, lists of indices.
        self.shared: dict[Hashable, SSAValue] = {}

    def build(self) -> SSAValue:
        """Inserts the operations; returns what holds the result."""
        zero_value = IntegerAttr(0, i32) if self.is_integer else FloatAttr(0.0, cast(AnyFloat, self.wide))
        zero = self.insert(arith.ConstantOp(zero_value)).result
        empty = self.insert(tensor.EmptyOp((), TensorType(self.wide, self.spmm.res.type.get_shape())))
        result: SSAValue = self.insert(linalg.FillOp([zero], [empty.tensor])).res[0]
        x = self.spmm.x if self.is_integer else self.cast(arith.ExtFOp, self.spmm.x, self.wide)
        cover = self.spmm.cover()
        weight = self.spmm.weight
        block_type = self.element_type if self.is_integer else self.wide
        for i, block in enumerate(blocks(cover, weight.pattern, weight.data)):
            rows, columns = cover.rows(i), cover.columns(i)
            w = self.insert(arith.ConstantOp(elements_of(block, block_type))).result
            x_rows = self.share(("x", *_key(columns)), lambda c=columns: self.take(x, c))
            part = self.product(w, x_rows, self.take(result, rows), zero)
            result = self.put(part, rows, result)
        return self.cast(arith.TruncFOp, result, self.spmm.res.type.element_type)

    def insert(self, op: OpT) -> OpT:
        """Adds an operation, which stands where the operator stood in the user's source."""
        op.location = self.spmm.location
        return self.builder.insert(op)

    def share(self, key: Hashable, make: Callable[[], SSAValue]) -> SSAValue:
        """The value made for this key before, else a new one."""
        if key not in self.shared:
            self.shared[key] = make()
        return self.shared[key]

    def cast(self, op: type[arith.ExtFOp] | type[arith.TruncFOp], value: SSAValue, element_type: Attribute):
        """The matrix in another element type."""
        old = cast("TensorType[Attribute]", value.type)
        if old.element_type == element_type:
            return value
        return self.insert(op(value, cast(Any, TensorType(element_type, old.get_shape())))).result

    def product(self, w: SSAValue, x: SSAValue, init: SSAValue, zero: SSAValue) -> SSAValue:
        """init + w x."""
        if self.is_integer:
            return self.insert(linalg.QuantizedMatmulOp([w, x, zero, zero], [init])).res[0]
        return self.insert(linalg.MatmulOp([w, x], [init])).res[0]

    def take(self, matrix: SSAValue, rows: Axis) -> SSAValue:
        """These rows of a matrix."""
        matrix_type = cast("TensorType[Attribute]", matrix.type)
        if isinstance(rows, range):
            return self.slice(matrix, rows)
        return self.gather(matrix, np.asarray(rows), matrix_type.element_type)

    def slice(self, matrix: SSAValue, rows: range) -> SSAValue:
        """A range of rows; the matrix itself when it is all of them."""
        matrix_type = cast("TensorType[Attribute]", matrix.type)
        if len(rows) == matrix_type.get_shape()[0]:
            return matrix
        sizes = [len(rows), self.n]
        slice_type = TensorType(matrix_type.element_type, sizes)
        return self.insert(tensor.ExtractSliceOp(matrix, [rows.start, 0], sizes, [1, 1], slice_type)).result

    def gather(self, matrix: SSAValue, rows: NDArray[np.integer], element_type: Attribute) -> SSAValue:
        """A list of rows."""
        index = self.share(("index", *rows.tolist()), lambda: self.constant_index(rows))
        empty = self.insert(tensor.EmptyOp((), TensorType(element_type, [len(rows), self.n])))
        body = Block(arg_types=[IndexType(), element_type])
        inside = Builder(InsertPoint.at_end(body))
        column = inside.insert(linalg.IndexOp(1))
        element = inside.insert(tensor.ExtractOp(matrix, [body.args[0], column.result], element_type))
        inside.insert(linalg.YieldOp(element.result))
        generic = linalg.GenericOp(
            [index],
            [empty.tensor],
            Region(body),
            [_ROW, _POINT],
            [IteratorTypeAttr.parallel()] * 2,
            [empty.tensor.type],
        )
        return self.insert(generic).results[0]

    def constant_index(self, rows: NDArray[np.integer]) -> SSAValue:
        return self.insert(arith.ConstantOp(elements_of(rows, IndexType()))).result

    def put(self, part: SSAValue, rows: Axis, result: SSAValue) -> SSAValue:
        """The result with these rows replaced, run of consecutive rows by run."""
        if part.type == result.type and isinstance(rows, range):
            return part
        for place, first, count in _runs(rows):
            source = self.slice(part, range(place, place + count))
            sizes = [count, self.n]
            insert = tensor.InsertSliceOp.from_static_parameters(source, result, [first, 0], sizes)
            result = self.insert(insert).result
        return result


def _wide(element_type: Attribute) -> Attribute:
    """What products of such elements are summed up in."""
    if not isinstance(element_type, AnyFloat):
        return i32
    return element_type if element_type.bitwidth == 64 else f32


def _key(axis: Axis) -> tuple[object, ...]:
    return (axis,) if isinstance(axis, range) else tuple(int(i) for i in axis)


def _runs(rows: Axis) -> list[tuple[int, int, int]]:
    """The runs of consecutive rows, as (place in the list, first row, rows)."""
    if isinstance(rows, range):
        return [(0, rows.start, len(rows))]
    listed = np.asarray(rows)
    heads = np.flatnonzero(np.concatenate(([True], np.diff(listed) != 1)))
    counts = np.diff(np.append(heads, len(listed)))
    return list(zip(heads.tolist(), listed[heads].tolist(), counts.tolist(), strict=True))
