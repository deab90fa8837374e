"""What the passes of sparsecc have in common: texts for the command line, and how an operator is refused."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NoReturn

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter
from xdsl.utils.exceptions import PassFailedException

from sparsecc.dialects.sparse import ProductOp


@dataclass(frozen=True)
class SparsePass(ModulePass, ABC):
    """A pass that says what it does; its module's docstring says it at length."""

    summary: ClassVar[str]
    """What it turns into what, in one line."""
    refuses: ClassVar[str]
    """What it does not take, in one line."""
    option_help: ClassVar[dict[str, str]] = {}
    """One line for each option."""


@dataclass(frozen=True)
class ProductPass(SparsePass):
    """A pass that looks at each `sparse.spmm` and `sparse.sddmm` on its own."""

    @abstractmethod
    def rewrite(self, op: ProductOp) -> ProductOp | None:
        """The operator computed in another way; None to leave it alone."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for product in [found for found in op.walk() if isinstance(found, ProductOp)]:
            if (new := self.rewrite(product)) is not None:
                Rewriter.replace_op(product, new)


def refuse(op: Operation, problem: str) -> NoReturn:
    """Stops the pass with a sentence that names the operation."""
    hint = next((result.name_hint for result in op.results if result.name_hint), None)
    raise PassFailedException(f"{op.name}{f' %{hint}' if hint else ''}: {problem}")
