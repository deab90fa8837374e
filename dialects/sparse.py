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

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self, cast

import numpy as np
from xdsl.dialects.builtin import StringAttr, TensorType
from xdsl.ir import Attribute, Block, Dialect, Region, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
)
from xdsl.parser import Parser, UnresolvedOperand
from xdsl.printer import Printer
from xdsl.traits import NoTerminator, Pure
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.hints import isa

from sparsecc.cover.laws import broken_alignment, broken_cover_law, conflict
from sparsecc.cover.metaops import MetaOps, concatenate
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
    parse_metaops,
    print_metaops,
)
from sparsecc.dialects.sparse_epilogue import EpilogueOp

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


class _MetaOpsHolder(IRDLOperation):
    """What `sparse.cover` and `sparse.group` have in common: a table of meta-ops in braces."""

    def __init__(self, metaops: MetaOps):
        super().__init__(properties={"metaops": MetaOpsAttr(metaops)})

    @property
    def table(self) -> MetaOps:
        return cast(MetaOpsAttr, self.properties["metaops"]).data

    @classmethod
    def parse(cls, parser: Parser):
        with parser.in_braces():
            metaops = parse_metaops(parser)
        op = cls(metaops)
        op.attributes |= parser.parse_optional_attr_dict()
        return op

    def print(self, printer: Printer) -> None:
        metaops = self.table
        printer.print_string(" {")
        if is_large(metaops):
            printer.print_string(" ")
            print_metaops(printer, metaops, "")
            printer.print_string(" }")
        else:
            printer.print_string(f" // {len(metaops)} meta-op{'s' * (len(metaops) != 1)}")
            with printer.indented():
                for i in range(len(metaops)):
                    printer.print_string("\n" + metaop_text(metaops, i))
            printer.print_string("\n}")
        printer.print_op_attributes(self.attributes)


@irdl_op_definition
class CoverOp(_MetaOpsHolder):
    """Meta-ops that together compute the operator, not yet grouped: their results add up in any order."""

    name = "sparse.cover"
    metaops = prop_def(MetaOpsAttr)


@irdl_op_definition
class GroupOp(_MetaOpsHolder):
    """Meta-ops that may run at once: no two write the same output (law 2)."""

    name = "sparse.group"
    metaops = prop_def(MetaOpsAttr)

    def verify_(self) -> None:
        if (clash := conflict(self.table)) is not None:
            i, j, row = clash
            raise VerifyException(
                f"meta-ops {i} {metaop_text(self.table, i)} and {j} {metaop_text(self.table, j)} "
                f"of one group both write row {row}; put them into different groups"
            )


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


class ProductOp(IRDLOperation, ABC):
    """What the products have in common: a constant sparse matrix, a unit, and a body that says how.

    `plan` is "dense" when the operator was judged better off as one dense meta-op, `reason` says why a plan
    was taken.
    """

    weight = prop_def(WeightAttr)
    unit = prop_def(UnitAttr)
    plan = opt_prop_def(StringAttr)
    reason = opt_prop_def(StringAttr)
    res = result_def(TensorType)
    body = region_def("single_block")
    traits = traits_def(NoTerminator(), Pure())

    PLANS: ClassVar = ("dense", "sparse")
    FACTORS: ClassVar[int]
    """Operands: the factors that are not constant."""

    def __init__(
        self,
        factors: Sequence[SSAValue],
        weight: WeightAttr,
        unit: UnitAttr,
        result_type: TensorType[Attribute],
        body: Sequence[CoverOp | GroupOp],
        plan: StringAttr | None = None,
        reason: StringAttr | None = None,
    ):
        super().__init__(
            operands=list(factors),
            properties={"weight": weight, "unit": unit, "plan": plan, "reason": reason},
            result_types=[result_type],
            regions=[Region(Block(body))],
        )

    @property
    @abstractmethod
    def space(self) -> tuple[int, int, int]:
        """Extents (M, N, K) of the computing space."""

    @abstractmethod
    def plane(self, metaops: MetaOps) -> MetaOps:
        """Meta-ops with the plane of the sparse matrix where the cover mathematics looks for it: (M, K).

        It is its own inverse.
        """

    @property
    @abstractmethod
    def plane_unit(self) -> Unit:
        """The unit, likewise."""

    @abstractmethod
    def broken_types(self) -> str | None:
        """What is wrong with the operands and the result, if anything is."""

    @abstractmethod
    def broken_cover(self, cover: MetaOps) -> str | None:
        """Law 1: what is wrong with the cover, if anything is."""

    @property
    def element_type(self) -> Attribute:
        """Of the factors."""
        return cast("TensorType[Attribute]", self.operands[0].type).element_type

    @property
    def positions(self) -> int:
        """N, the columns of the result."""
        return self.res.type.get_shape()[1]

    @property
    def sets(self) -> tuple[CoverOp | GroupOp, ...]:
        return tuple(op for op in self.body.block.ops if isinstance(op, CoverOp | GroupOp))

    @property
    def is_grouped(self) -> bool:
        return all(isinstance(op, GroupOp) for op in self.sets)

    @property
    def is_whole(self) -> bool:
        """Whether nothing was decided yet: one ungrouped meta-op is the whole computing space."""
        sets = self.sets
        if len(sets) != 1 or not isinstance(sets[0], CoverOp):
            return False
        return np.array_equal(sets[0].table.table, MetaOps.whole(*self.space).table)

    @property
    def is_dense(self) -> bool:
        return self.plan is not None and self.plan.data == "dense"

    def cover(self) -> MetaOps:
        """All meta-ops, of all groups."""
        sets = self.sets
        return sets[0].table if len(sets) == 1 else concatenate([s.table for s in sets])

    def with_body(self, body: Sequence[CoverOp | GroupOp]) -> Self:
        """The same operator computed in another way."""
        new = type(self).create(
            operands=list(self.operands),
            properties=dict(self.properties),
            result_types=[self.res.type],
            regions=[Region(Block(body))],
            attributes=dict(self.attributes),
        )
        new.location = self.location
        return new

    def verify_(self) -> None:
        if (broken := self.broken_types()) is not None:
            raise VerifyException(broken)
        if self.plan is not None and self.plan.data not in self.PLANS:
            raise VerifyException(f"plan {self.plan.data!r} is not one of {', '.join(self.PLANS)}")
        for op in self.body.block.ops:
            if not isinstance(op, CoverOp | GroupOp):
                raise VerifyException(
                    f"the body holds {op.name}; only sparse.cover and sparse.group may stand there"
                )
        if len(self.sets) > 1 and not self.is_grouped:
            raise VerifyException(
                "the body mixes sparse.cover and sparse.group, or has several covers; "
                "needed: one cover, or groups"
            )
        cover = self.cover()
        broken = self.broken_cover(cover)
        if broken is None and not self.is_dense:
            broken = broken_alignment(self.plane(cover), self.plane_unit, self.weight.pattern)
        if broken is not None:
            raise VerifyException(broken)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        factors: list[UnresolvedOperand] = []
        for _ in range(cls.FACTORS):
            factors.append(parser.parse_unresolved_operand())
            parser.parse_punctuation(",")
        weight = parser.parse_attribute()
        if not isinstance(weight, WeightAttr):
            parser.raise_error("expected a #sparse.weight attribute")
        parser.parse_keyword("unit")
        unit = UnitAttr.new(UnitAttr.parse_parameters(parser))
        plan = reason = None
        if parser.parse_optional_keyword("plan"):
            plan = StringAttr(parser.parse_str_literal())
        if parser.parse_optional_keyword("reason"):
            reason = StringAttr(parser.parse_str_literal())
        attributes = parser.parse_optional_attr_dict_with_keyword()
        parser.parse_punctuation(":")
        types = [parser.parse_type()]
        while parser.parse_optional_punctuation(","):
            types.append(parser.parse_type())
        parser.parse_punctuation("->")
        result_type = parser.parse_type()
        if not isa(result_type, TensorType):
            parser.raise_error("expected a tensor type")
        region = parser.parse_region()
        # Text does not tell an empty block from none.
        if not region.blocks:
            region.add_block(Block())
        return cls.create(
            operands=parser.resolve_operands(factors, types, parser.pos),
            properties={
                name: value
                for name, value in (("weight", weight), ("unit", unit), ("plan", plan), ("reason", reason))
                if value is not None
            },
            result_types=[result_type],
            regions=[region],
            attributes=dict(attributes.data) if attributes else {},
        )

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_list(self.operands, printer.print_ssa_value)
        printer.print_string(", ")
        printer.print_attribute(self.weight)
        printer.print_string(" unit ")
        self.unit.print_parameters(printer)
        for name, value in (("plan", self.plan), ("reason", self.reason)):
            if value is not None:
                printer.print_string(f" {name} ")
                printer.print_string_literal(value.data)
        printer.print_op_attributes(self.attributes, print_keyword=True)
        printer.print_string(" : ")
        printer.print_list(self.operands, lambda factor: printer.print_attribute(factor.type))
        printer.print_string(" -> ")
        printer.print_attribute(self.res.type)
        printer.print_string(" ")
        printer.print_region(self.body, print_empty_block=False)


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
        return _broken_result(x, y, "X")

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
    "sparse", [ConstantOp, CoverOp, EpilogueOp, GroupOp, SddmmOp, SpmmOp], [MetaOpsAttr, UnitAttr, WeightAttr]
)
