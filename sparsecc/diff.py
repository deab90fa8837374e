"""What changed between two runs: the figures of their reports, as `sparsecc run --json` prints them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sparsecc.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

Figure = int | float | str | bool | None


@dataclass(frozen=True)
class Change:
    """One figure of an operator that differs."""

    operator: str
    figure: str
    """Its name; parts of parts are joined by dots."""
    before: Figure
    after: Figure

    @property
    def ratio(self) -> float | None:
        """After / before, where both are numbers and there is one."""
        before, after = self.before, self.after
        if isinstance(before, str | bool | None) or isinstance(after, str | bool | None) or not before:
            return None
        return after / before


@dataclass(frozen=True)
class Diff:
    """Two runs, operator by operator."""

    before: str
    after: str
    """What the runs are called."""
    changes: tuple[Change, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    """Operators that one run does not have."""
    compared: int
    """Operators that both have."""

    @property
    def operators(self) -> str:
        """How many were compared."""
        return f"{self.compared} operator{'s' * (self.compared != 1)}"

    def remarks(self) -> list[str]:
        """What the table does not say."""
        lines = [
            f"only in {run}: {', '.join(names)}"
            for run, names in ((self.before, self.only_before), (self.after, self.only_after))
            if names
        ]
        if not self.compared:
            return ["no operator is in both: nothing was compared", *lines]
        return lines if self.changes else [f"no figure differs in {self.operators}", *lines]

    def table(self) -> Table:
        """The changed figures for the terminal."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD)
        for name in ("operator", "figure"):
            table.add_column(name, no_wrap=True)
        for name in (self.before, self.after, "ratio"):
            table.add_column(Text(name), justify="right", overflow="fold")
        for change in self.changes:
            cells = (change.operator, change.figure, shown(change.before), shown(change.after))
            table.add_row(*map(Text, cells), shown_ratio(change))
        return table


def shown(figure: Figure) -> str:
    """A figure for people."""
    if figure is None:
        return "-"
    if isinstance(figure, float):
        return f"{figure:.6g}" if abs(figure) < 1e5 else f"{figure:.0f}"
    return str(figure)


def shown_ratio(change: Change) -> str:
    """The ratio for people."""
    return "" if change.ratio is None else f"{change.ratio:.3f}"


def load_reports(path: str) -> list[dict[str, Any]]:
    """The reports in a file: one object or a list. Raises UserError."""
    try:
        found: object = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as e:
        raise UserError(f"{path}: cannot be read: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise UserError(f"{path}: is not text; needed what `sparsecc run --json` prints") from e
    except (json.JSONDecodeError, RecursionError) as e:
        raise UserError(f"{path}: is not JSON ({e}); needed what `sparsecc run --json` prints") from e
    reports = cast("list[object]", found) if isinstance(found, list) else [found]
    for number, report in enumerate(reports):
        if not isinstance(report, dict) or not isinstance(cast("dict[str, Any]", report).get("name"), str):
            raise UserError(f"{path}: entry {number} has no name; needed what `sparsecc run --json` prints")
    return cast("list[dict[str, Any]]", reports)


def compare(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], names: tuple[str, str]
) -> Diff:
    """Compare two runs; operators are matched by name, equal names by their order."""
    a, b = _by_name(before), _by_name(after)
    both = [name for name in a if name in b]
    changes = [change for name in both for change in _changes(name, a[name], b[name])]
    return Diff(
        *names,
        tuple(changes),
        tuple(name for name in a if name not in b),
        tuple(name for name in b if name not in a),
        len(both),
    )


def _by_name(reports: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    seen: Counter[str] = Counter()
    found: dict[str, Mapping[str, Any]] = {}
    for report in reports:
        name = report["name"]
        seen[name] += 1
        found[name if seen[name] == 1 else f"{name} ({seen[name]})"] = report
    return found


def _changes(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    a, b = dict(_figures(before)), dict(_figures(after))
    for figure in (*a, *(new for new in b if new not in a)):
        if a.get(figure) != b.get(figure):
            yield Change(name, figure, a.get(figure), b.get(figure))


def _figures(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Figure]]:
    """All figures of a report, parts of parts after the rest: what matters most comes first."""
    parts: list[tuple[str, Mapping[str, Any]]] = []
    for key, one in value.items():
        match one:
            case dict():
                parts.append((f"{prefix}{key}.", cast("Mapping[str, Any]", one)))
            case list():
                yield f"{prefix}{key}", ", ".join(map(_listed, cast("list[object]", one)))
            case _:
                yield f"{prefix}{key}", one
    for name, part in parts:
        yield from _figures(part, name)


def _listed(item: object) -> str:
    """One item of a list; a list inside a list without its brackets."""
    return " ".join(map(str, cast("list[object]", item))) if isinstance(item, list) else str(item)
