"""What reports of networks on all families of targets tell in the same words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def host_work(operators: Sequence[str], reorders: Sequence[str]) -> str:
    """What the host does for a node."""
    what = ", ".join(dict.fromkeys(o.removeprefix("host_") for o in operators))
    return f"{what} (reorders: {'; '.join(reorders)})" if reorders else what


def checks(values: int | None, worst_share: float | None, unbounded: Sequence[str]) -> list[tuple[str, str]]:
    """How many values a run compared, and the outputs for which no bound of all layers is known."""
    rows: list[tuple[str, str]] = []
    if values is not None:
        near = f"within their bounds, at most {worst_share:.1%} of them" if worst_share else "equal"
        rows.append(("check", f"{values} values of all layers {near}"))
    if unbounded:
        what = ", ".join(unbounded)
        rows.append(("no bound", f"{what}: its layers are checked one by one, not all together"))
    return rows


def totals_table(rows: Sequence[tuple[str, str]]) -> Table:
    """Names and values."""
    from rich.table import Table

    totals = Table(show_header=False, box=None)
    for key, value in rows:
        totals.add_row(key, value)
    return totals
