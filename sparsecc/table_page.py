"""Pages for the browser of what has tables but no tiles: networks, and operators compiled for CPUs.

The tables are those of the terminal, the bars compare with dense, and the page holds the JSON that
`sparsecc run --json` prints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sparsecc.html_report import Bar, bar, environment

if TYPE_CHECKING:
    from rich.table import Table

# What reports call the time of a product, that of its dense plan, and the unit for people.
TIMES = (("cycles", "dense_cycles", "cycles", 0), ("us", "dense_us", "us", 1))


class Told(Protocol):
    """A report."""

    @property
    def name(self) -> str: ...

    @property
    def target(self) -> str: ...

    def to_json(self) -> dict[str, Any]:
        """The report as one JSON object."""
        ...


@dataclass(frozen=True)
class TableView:
    """A table as the terminal shows it."""

    title: str
    headings: Sequence[tuple[str, bool]]
    """And whether figures stand below; none where there are two columns, of names and values."""
    rows: Sequence[Sequence[str]]

    @staticmethod
    def of(table: Table) -> TableView:
        """That of a table of rich."""
        headings = [(str(c.header), c.justify == "right") for c in table.columns] if table.show_header else []
        rows = zip(*([str(cell) for cell in c.cells] for c in table.columns), strict=True)
        return TableView(str(table.title or ""), headings, list(rows))


@dataclass(frozen=True)
class BarsView:
    """Bars to one scale."""

    title: str
    bars: Sequence[Bar]
    unit: str
    digits: int


def table_page(told: Told, tables: Sequence[Table]) -> str:
    """The page of one report with its tables."""
    record = told.to_json()
    # Names and values, the totals, come first.
    views = [_products(record), _tried(record), _whole(record)]
    ordered = sorted((TableView.of(table) for table in tables), key=lambda table: bool(table.headings))
    return (
        environment()
        .get_template("tables.html.j2")
        .render(
            title=f"{told.name} on {told.target}",
            tables=ordered,
            figures=[view for view in views if view is not None],
            data=record,
        )
    )


def _products(record: Mapping[str, Any]) -> BarsView | None:
    """Of a network: the time of each product over that of its dense plan."""
    products: Sequence[Mapping[str, Any]] = record.get("products", ())
    for mine, dense, unit, digits in TIMES:
        known = [p for p in products if p.get(mine) is not None and p.get(dense) is not None]
        if known:
            whole = max(max(p[mine], p[dense]) for p in known)
            bars: list[Bar] = []
            for product in known:
                bars.append(bar(product["name"], [("this plan", "busy", product[mine])], whole))
                bars.append(bar("dense", [("dense plan", "drain", product[dense])], whole))
            return BarsView("Products", bars, unit, digits)
    return None


def _tried(record: Mapping[str, Any]) -> BarsView | None:
    """On a CPU: the kernels that were tried."""
    tried: Sequence[tuple[str, float]] = record.get("tried") or ()
    if not tried:
        return None
    whole = max(ms for _, ms in tried)
    return BarsView("Kernels tried", [bar(name, [(name, "busy", ms)], whole) for name, ms in tried], "ms", 3)


def _whole(record: Mapping[str, Any]) -> BarsView | None:
    """On a CPU: the time beside that of the dense plan."""
    mine, dense = record.get("wall_ms"), record.get("dense_ms")
    if mine is None or dense is None:
        return None
    whole = max(mine, dense)
    bars = [
        bar("this plan", [("time", "busy", mine)], whole),
        bar("dense", [("time", "drain", dense)], whole),
    ]
    return BarsView("Time", bars, "ms", 3)
