"""What bodies of sparse products hold: covers and groups, each one table of meta-ops."""

from __future__ import annotations

from typing import cast

from xdsl.irdl import IRDLOperation, irdl_op_definition, prop_def
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from sparsecc.cover.laws import conflict
from sparsecc.cover.metaops import MetaOps
from sparsecc.dialects.sparse_attributes import (
    MetaOpsAttr,
    is_large,
    metaop_text,
    parse_metaops,
    print_metaops,
)


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
