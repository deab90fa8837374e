"""The Sparse IR: a product is a sequence of groups, a group is a set of meta-ops that may run at once.

`sparse.spmm` computes C[M,N] = W[M,K] X[K,N] for a constant sparse W; `sparse.sddmm` computes the points of
C[M,N] = A[M,K] B[K,N] that a constant mask keeps. The body says how: it holds `sparse.cover` (meta-ops not
yet grouped) or a sequence of `sparse.group`. Each of them holds its meta-ops as one table over bytes.

```mlir
%y = sparse.spmm %x, #sparse.weight<"9fb4fec942986d07bd144662926f9e26", 32x64xi8, nnz 220> unit <16, 16, 16> :
    tensor<64x32xi8> -> tensor<32x32xi32> {
  sparse.group { // 2 meta-ops
    [0:16, 0:32] += k[16:48]
    [(16, 19, 30), 0:32] += k[2, 5, 9, 17]
  }
}
%c = sparse.sddmm %a, %b, #sparse.weight<"50cd3f0c6bb7cf2d1f0b2e5c0a3d9e11", 32x48xi8, nnz 96>
    unit <16, 16, 16> : tensor<32x64xi8>, tensor<64x48xi8> -> tensor<32x48xi32> {
  sparse.group { // 2 meta-ops
    [0:16, 0:16] += k[0:64]
    [16:32, 16:48] += k[0:64]
  }
}
```
Rows and columns are a range `first:end` or a list of indices, the gather map; positions are a range.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

from xdsl.dialects.builtin import StringAttr, TensorType
from xdsl.ir import Attribute, Dialect, SSAValue
from xdsl.irdl import IRDLOperation, irdl_op_definition, operand_def, prop_def, result_def, traits_def
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from sparsecc.cover.laws import broken_cover_law
from sparsecc.cover.metaops import MetaOps
from sparsecc.cover.plane import Unit, broken_whole_k, exchanged, exchanged_unit
from sparsecc.dialects.sparse_attributes import (
    PRINTED_ENTRIES,
    PRINTED_INDICES,
    PRINTED_METAOPS,
    MetaOpsAttr,
    UnitAttr,
    WeightAttr,
    is_large,
    metaop_text,
    metaops_blob,
    numpy_type,
)
from sparsecc.dialects.sparse_epilogue import EpilogueOp
from sparsecc.dialects.sparse_groups import CoverOp, GroupOp
from sparsecc.dialects.sparse_product import ProductOp
from sparsecc.dialects.sparse_quantization import QuantizationAttr, broken_quantization

__all__ = [
    "PRINTED_ENTRIES",
    "PRINTED_INDICES",
    "PRINTED_METAOPS",
    "RESULT_TYPES",
    "ConstantOp",
    "CoverOp",
    "EpilogueOp",
    "GroupOp",
    "MetaOpsAttr",
    "ProductOp",
    "SddmmOp",
    "Sparse",
    "SpmmOp",
    "UnitAttr",
    "WeightAttr",
    "is_large",
    "metaop_text",
    "metaops_blob",
    "numpy_type",
]

# What a product of two such elements may be summed up to: the accumulator first, then what it may be
# rounded to.
RESULT_TYPES: dict[str, tuple[str, ...]] = {
    "i8": ("i32",),
    "f16": ("f32", "f16"),
    "bf16": ("f32", "bf16"),
    "f32": ("f32",),
    "f64": ("f64",),
}


@irdl_op_definition
class ConstantOp(IRDLOperation):
    """A sparse matrix as a tensor value, for modules of the model level."""

    name = "sparse.constant"
    weight = prop_def(WeightAttr)
    res = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "qualified($weight) attr-dict `:` type($res)"

    def __init__(self, weight: WeightAttr):
        super().__init__(properties={"weight": weight}, result_types=[weight.tensor_type])

    def verify_(self) -> None:
        if self.res.type != self.weight.tensor_type:
            raise VerifyException(f"the weight is {self.weight.tensor_type}, the result {self.res.type}")


@irdl_op_definition
class SpmmOp(ProductOp):
    """C[M,N] = W[M,K] X[K,N] for a constant sparse W, computed as the body says."""

    name = "sparse.spmm"
    x = operand_def(TensorType)

    FACTORS: ClassVar = 1

    def __init__(
        self,
        x: SSAValue,
        weight: WeightAttr,
        unit: UnitAttr,
        result_type: TensorType[Attribute],
        body: Sequence[CoverOp | GroupOp],
        plan: StringAttr | None = None,
        reason: StringAttr | None = None,
    ):
        super().__init__([x], weight, unit, result_type, body, plan, reason)

    @property
    def space(self) -> tuple[int, int, int]:
        m, k = self.weight.shape
        return m, self.positions, k

    def plane(self, metaops: MetaOps) -> MetaOps:
        return metaops

    @property
    def plane_unit(self) -> Unit:
        return self.unit.shape

    def broken_types(self) -> str | None:
        x, y = cast("TensorType[Attribute]", self.x.type), self.res.type
        m, k = self.weight.shape
        x_shape, y_shape = x.get_shape(), y.get_shape()
        if len(x_shape) != 2 or len(y_shape) != 2 or x_shape[0] != k or y_shape != (m, x_shape[1]):
            return (
                f"W is {m}x{k}, X {_shape_text(x)}, the result {_shape_text(y)}; "
                f"needed: X {k}xN and result {m}xN"
            )
        if self.weight.element_type != x.element_type:
            return f"W holds {self.weight.element_type}, X {x.element_type}; they must agree"
        return broken_quantization(self, m) or _broken_result(x, y, "X")

    def broken_cover(self, cover: MetaOps) -> str | None:
        return broken_cover_law(cover, self.weight.pattern, self.positions)


@irdl_op_definition
class SddmmOp(ProductOp):
    """The points of C[M,N] = A[M,K] B[K,N] that a constant mask keeps, computed as the body says.

    `weight` is the mask: i8, 1 where a point is needed. What the other points of the result hold is left
    open: 0, or whatever a meta-op over them computes.
    """

    name = "sparse.sddmm"
    a = operand_def(TensorType)
    b = operand_def(TensorType)

    FACTORS: ClassVar = 2

    def __init__(
        self,
        a: SSAValue,
        b: SSAValue,
        weight: WeightAttr,
        unit: UnitAttr,
        result_type: TensorType[Attribute],
        body: Sequence[CoverOp | GroupOp],
        plan: StringAttr | None = None,
        reason: StringAttr | None = None,
    ):
        super().__init__([a, b], weight, unit, result_type, body, plan, reason)

    @property
    def space(self) -> tuple[int, int, int]:
        m, n = self.weight.shape
        return m, n, cast("TensorType[Attribute]", self.a.type).get_shape()[1]

    def plane(self, metaops: MetaOps) -> MetaOps:
        return exchanged(metaops)

    @property
    def plane_unit(self) -> Unit:
        return exchanged_unit(self.unit.shape)

    def broken_types(self) -> str | None:
        a, b, c = (cast("TensorType[Attribute]", t) for t in (self.a.type, self.b.type, self.res.type))
        m, n = self.weight.shape
        k = b.get_shape()[0]
        if (a.get_shape(), b.get_shape(), c.get_shape()) != ((m, k), (k, n), (m, n)):
            return (
                f"the mask is {m}x{n}, A {_shape_text(a)}, B {_shape_text(b)}, the result {_shape_text(c)}; "
                f"needed: A {m}xK, B Kx{n} and result {m}x{n}"
            )
        if a.element_type != b.element_type:
            return f"A holds {a.element_type}, B {b.element_type}; they must agree"
        if str(self.weight.element_type) != "i8" or (self.weight.data != 1).any():
            return "the mask holds something other than the i8 number 1; needed: 1 at each point to compute"
        return _broken_result(a, c, "A")

    def broken_cover(self, cover: MetaOps) -> str | None:
        k = self.space[2]
        return broken_whole_k(cover, k) or broken_cover_law(exchanged(cover), self.weight.pattern, k)


def _shape_text(matrix_type: TensorType[Attribute]) -> str:
    return "x".join(map(str, matrix_type.get_shape()))


def _broken_result(factor: TensorType[Attribute], result: TensorType[Attribute], name: str) -> str | None:
    """What is wrong with the result's element type, if anything is."""
    results = RESULT_TYPES.get(str(factor.element_type), ())
    if str(result.element_type) in results:
        return None
    needed = f"result {' or '.join(results)}" if results else f"{name} of {', '.join(RESULT_TYPES)}"
    return f"{name} holds {factor.element_type}, the result {result.element_type}; needed: {needed}"


Sparse = Dialect(
    "sparse",
    [ConstantOp, CoverOp, EpilogueOp, GroupOp, SddmmOp, SpmmOp],
    [MetaOpsAttr, QuantizationAttr, UnitAttr, WeightAttr],
)
