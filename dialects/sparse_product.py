"""What the products of the Sparse IR have in common: their parts, laws, and text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self, cast

import numpy as np
from xdsl.dialects.builtin import StringAttr, TensorType
from xdsl.ir import Attribute, Block, Region, SSAValue
from xdsl.irdl import (
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

from sparsecc.cover.laws import broken_alignment
from sparsecc.cover.metaops import MetaOps, concatenate
from sparsecc.cover.plane import Unit
from sparsecc.dialects.sparse_attributes import UnitAttr, WeightAttr
from sparsecc.dialects.sparse_groups import CoverOp, GroupOp
from sparsecc.dialects.sparse_plan import PlannedOp


class ProductOp(PlannedOp, ABC):
    """What the products have in common: a constant sparse matrix, a unit, and a body that says how.

    `plan` is "dense" when the operator was judged better off as one dense meta-op, `reason` says why a plan
    was taken.
    """

    weight = prop_def(WeightAttr)
    unit = prop_def(UnitAttr)
    res = result_def(TensorType)
    body = region_def("single_block")
    traits = traits_def(NoTerminator(), Pure())

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
        self.verify_plan()
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
        plan = cls.parse_plan(parser)
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
            properties={"weight": weight, "unit": unit, **plan},
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
        self.print_plan(printer)
        printer.print_op_attributes(self.attributes, print_keyword=True)
        printer.print_string(" : ")
        printer.print_list(self.operands, lambda factor: printer.print_attribute(factor.type))
        printer.print_string(" -> ")
        printer.print_attribute(self.res.type)
        printer.print_string(" ")
        printer.print_region(self.body, print_empty_block=False)
