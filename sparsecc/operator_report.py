"""What reports of a compiled operator share, whatever it was compiled for."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class OperatorReport(ABC):
    """One operator on one target."""

    name: str
    op: str
    """"spmm" or "sddmm"."""
    formula: str
    target: str
    shape: tuple[int, int, int]
    """[M, K, N]."""
    nnz: int
    density: float
    pattern: str
    """The sparsity pattern found, and to which share it holds."""
    dtype: str
    plan: str
    """"sparse" or "dense"."""

    @abstractmethod
    def rows(self) -> list[tuple[str, str]]:
        """The report as (what, value with unit) lines."""

    def to_json(self) -> dict[str, object]:
        """The report as one JSON object."""
        return dataclasses.asdict(self)

    def table(self) -> Table:
        """The report as a table for the terminal."""
        from rich import box
        from rich.table import Table

        table = Table(title=self.name, box=box.SIMPLE_HEAD, show_header=False, title_justify="left")
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for what, value in self.rows():
            table.add_row(what, value)
        return table

    def tables(self) -> list[Table]:
        """As reports of whole networks have them."""
        return [self.table()]
