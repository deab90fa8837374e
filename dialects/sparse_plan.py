"""What operators say of how they are computed: the plan that was taken, and why."""

from __future__ import annotations

from typing import ClassVar

from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Attribute
from xdsl.irdl import IRDLOperation, opt_prop_def
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException


class PlannedOp(IRDLOperation):
    """`plan` is "dense" where the operator was judged better off dense, `reason` says why it was taken."""

    plan = opt_prop_def(StringAttr)
    reason = opt_prop_def(StringAttr)

    PLANS: ClassVar = ("dense", "sparse")

    @property
    def is_dense(self) -> bool:
        return self.plan is not None and self.plan.data == "dense"

    def verify_plan(self) -> None:
        """Raises VerifyException for a plan that there is not."""
        if self.plan is not None and self.plan.data not in self.PLANS:
            raise VerifyException(f"plan {self.plan.data!r} is not one of {', '.join(self.PLANS)}")

    @staticmethod
    def parse_plan(parser: Parser) -> dict[str, Attribute]:
        """The properties that `print_plan` printed."""
        return {
            name: StringAttr(parser.parse_str_literal())
            for name in ("plan", "reason")
            if parser.parse_optional_keyword(name)
        }

    def print_plan(self, printer: Printer) -> None:
        """` plan "sparse" reason "..."`, as far as they are known."""
        for name, value in (("plan", self.plan), ("reason", self.reason)):
            if value is not None:
                printer.print_string(f" {name} ")
                printer.print_string_literal(value.data)
