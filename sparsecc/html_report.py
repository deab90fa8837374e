"""Reports to look at in a browser: one HTML file that needs nothing else, of one operator or of many.

The page holds every figure twice: for people, and as the JSON that `sparsecc run --json` prints. Tables and
bars are made here; tile maps are drawn by the page's own script (templates/report.js) from packed numbers.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from sparsecc.cover.metaops import K0, K_MAP, M0, M_MAP, K, M
from sparsecc.diff import Diff, shown, shown_ratio
from sparsecc.tilemap import TileMap, tile_map

if TYPE_CHECKING:
    from sparsecc.artifact import Artifact
    from sparsecc.crossbar_page import CrossbarView
    from sparsecc.report import Report

# Larger maps make pages that browsers are slow to open; the page says what was left out.
MOST_NONZEROS = 4_000_000
MOST_INDICES = 8_000_000

# What an engine does with its time, in the order of the simulator, and the colour of each.
TIMES = {
    "busy": ("busy", "busy"),
    "issue": ("waits to be issued", "issue"),
    "queue_full": ("issue held up by a full queue", "queue"),
    "fence": ("waits at a fence", "fence"),
    "raw": ("waits for data", "raw"),
    "war": ("waits for a reader", "war"),
    "waw": ("waits for a writer", "waw"),
    "weights": ("waits for weights", "weights"),
    "drain": ("done, others are not", "drain"),
}
UNUSED_ON_CROSSBARS = ("WPORT", "MAT", "MOVE")
ENERGY = {
    "mac": ("multiply-accumulates", "busy"),
    "reg": ("registers of the array", "issue"),
    "spad": ("scratchpad", "queue"),
    "acc": ("accumulators", "raw"),
    "l0": ("level-0 buffers", "war"),
    "dram": ("DRAM", "weights"),
    "alu": ("vector arithmetic", "waw"),
    "index": ("indexed addressing", "fence"),
}


@dataclass(frozen=True)
class Segment:
    """One part of a bar."""

    name: str
    colour: str
    """Name of the page's colour."""
    value: float
    start: float
    """Where it begins and how wide it is, in percent of the longest bar."""
    width: float


@dataclass(frozen=True)
class Bar:
    """Parts side by side."""

    name: str
    segments: tuple[Segment, ...]
    total: float


@dataclass(frozen=True)
class OperatorView:
    """What the page shows of one operator."""

    report: Mapping[str, Any]
    facts: Sequence[tuple[str, str]]
    engines: Sequence[Bar]
    energy: Sequence[Bar]
    cycles: Sequence[Bar]
    map: Mapping[str, Any] | None
    map_remark: str
    crossbar: CrossbarView | None
    """Of an operator on crossbars that was run; it has the energy, too."""


def report_page(artifacts: Iterable[Artifact]) -> str:
    """The page of operators that run on the simulator."""
    found = [(artifact, artifact.report, tile_map(artifact)) for artifact in artifacts]
    return _page([_view(report, tiles, _crossbar(artifact)) for artifact, report, tiles in found])


def page(operators: Sequence[tuple[Report, TileMap | None]]) -> str:
    """The page of reports, each with its map or without."""
    return _page([_view(report, tiles) for report, tiles in operators])


def _crossbar(artifact: Artifact) -> CrossbarView | None:
    from sparsecc.crossbar_compiler import CrossbarArtifact
    from sparsecc.crossbar_page import CrossbarView

    return CrossbarView.of(artifact) if isinstance(artifact, CrossbarArtifact) else None


def _page(views: Sequence[OperatorView]) -> str:
    targets = ", ".join(dict.fromkeys(str(view.report["target"]) for view in views))
    title = views[0].report["name"] if len(views) == 1 else f"{len(views)} operators"
    data = [{"report": view.report, "map": view.map} for view in views]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            title=f"{title} on {targets}" if views else "no operators",
            views=views,
            data=data,
            totals=_totals([view.report for view in views]),
            times=TIMES,
            parts=ENERGY,
        )
    )


def diff_page(diff: Diff) -> str:
    """The page of what changed between two runs."""
    template = environment().get_template("diff.html.j2")
    return template.render(title=f"{diff.before} and {diff.after}", diff=diff)


@cache
def environment() -> Environment:
    """User text is escaped everywhere; a name that the template has wrong is an error."""
    environment = Environment(
        loader=PackageLoader("sparsecc"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, shown=shown, shown_ratio=shown_ratio)
    return environment


def _number(value: float | None, digits: int = 0, suffix: str = "") -> str:
    """A figure for people, thousands apart; what is not known is a dash."""
    return "-" if value is None else f"{value:,.{digits}f}{suffix}"


def _view(report: Report, tiles: TileMap | None, crossbar: CrossbarView | None = None) -> OperatorView:
    told = report.to_json()
    numbers, remark = _map_data(tiles)
    engines = _engine_bars(told)
    if crossbar is not None:
        engines = [one for one in engines if one.name not in UNUSED_ON_CROSSBARS]
    return OperatorView(
        told,
        report.rows(),
        engines,
        _energy_bars(told) if crossbar is None else [],
        _cycle_bars(told),
        numbers,
        remark,
        crossbar,
    )


def _totals(reports: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Sums of what can be summed over operators; None where one of them was not run."""
    names = ("cycles", "dense_cycles", "energy_pj", "dense_energy_pj", "dram_bytes", "nnz", "meta_ops")
    totals = {name: _sum(report[name] for report in reports) for name in names}
    cycles, dense = totals["cycles"], totals["dense_cycles"]
    totals["speedup"] = dense / cycles if cycles and dense is not None else None
    return totals


def _sum(values: Iterable[float | None]) -> float | None:
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def bar(name: str, parts: Iterable[tuple[str, str, float]], whole: float) -> Bar:
    """A bar of (name, colour, value) parts, to the scale in which `whole` is 100 percent."""
    scale = 100 / whole if whole else 0
    segments: list[Segment] = []
    total = 0.0
    for part, colour, value in parts:
        if value:
            segments.append(Segment(part, colour, value, total * scale, value * scale))
        total += value
    return Bar(name, tuple(segments), total)


def _engine_bars(report: Mapping[str, Any]) -> list[Bar]:
    """What each engine did with all cycles: busy, each kind of stall, and nothing any more."""
    bars: list[Bar] = []
    engines: dict[str, dict[str, Any]] = report["engines"] or {}
    for name, engine in engines.items():
        spent: dict[str, float] = {"busy": engine["busy"], **engine["stalls"], "drain": engine["drain"]}
        parts = [(*TIMES.get(what, (what, "fence")), value) for what, value in spent.items()]
        bars.append(bar(name, parts, sum(spent.values())))
    return bars


def _energy_bars(report: Mapping[str, Any]) -> list[Bar]:
    """The energy by part, beside that of the dense plan."""
    found: dict[str, float] | None = report["energy_parts_pj"]
    if found is None:
        return []
    total, dense = report["energy_pj"], report["dense_energy_pj"] or 0
    parts = [(*ENERGY.get(what, (what, "fence")), value) for what, value in found.items()]
    whole = max(total, dense)
    return [
        bar(f"{report['plan']} plan", parts, whole),
        bar("dense plan", [("all parts", "drain", dense)], whole),
    ]


def _cycle_bars(report: Mapping[str, Any]) -> list[Bar]:
    """Cycles of the plan, of what was predicted, of the dense plan, and of the bound."""
    figures = (
        (f"{report['plan']} plan", "cycles", "busy"),
        ("predicted", "predicted_cycles", "issue"),
        ("dense plan", "dense_cycles", "drain"),
        ("lower bound", "cycles_bound", "weights"),
    )
    known = [(name, colour, float(report[key])) for name, key, colour in figures if report[key] is not None]
    whole = max((cycles for _, _, cycles in known), default=0.0)
    return [bar(name, [("cycles", colour, cycles)], whole) for name, colour, cycles in known]


def _map_data(tiles: TileMap | None) -> tuple[dict[str, Any] | None, str]:
    """What the page's script needs to draw the map, and what to say when there is none."""
    if tiles is None:
        return None, "There is no map: the report was read from a file."
    t, pattern = tiles.cover.table, tiles.pattern
    if pattern.nnz > MOST_NONZEROS or len(tiles.cover.index) + t.size > MOST_INDICES:
        return None, (
            f"The map of {pattern.nnz:,} nonzeros in {len(t):,} meta-ops would make this page too large; "
            "draw it with: sparsecc run --plot FILE.png"
        )
    flat = pattern.row_of().astype(np.int64) * pattern.k + pattern.indices
    columns = {
        "row0": t[:, M0], "rows": t[:, M], "rowList": t[:, M_MAP],
        "column0": t[:, K0], "columns": t[:, K], "columnList": t[:, K_MAP],
        "top": tiles.top, "left": tiles.left, "group": tiles.group, "pool": tiles.cover.index,
        "nonzeros": flat, "owner": tiles.places.owner,
    }  # fmt: skip
    return {
        "name": tiles.name,
        "shape": [pattern.m, pattern.k],
        "packed": list(tiles.packed_shape),
        "unit": list(tiles.unit),
        "shelves": tiles.in_shelves,
        "arrays": {name: pack(values) for name, values in columns.items()},
    }, ""


def pack(values: NDArray[np.integer]) -> str:
    """Whole numbers as text: differences, their signs folded in, 7 bits to a byte, deflated, base64."""
    steps = np.diff(values.astype(np.int64), prepend=np.int64(0))
    folded = ((steps << 1) ^ (steps >> 63)).astype(np.uint64)
    length = np.ones(len(folded), np.int64)
    for bits in range(7, 64, 7):
        length += folded >= np.uint64(1 << bits)
    start = np.cumsum(length) - length
    out = np.zeros(int(length.sum()), np.uint8)
    for place in range(int(length.max(initial=0))):
        here = length > place
        low = (folded[here] >> np.uint64(7 * place)) & np.uint64(127)
        more = (length[here] > place + 1).astype(np.uint8) << 7
        out[start[here] + place] = low.astype(np.uint8) | more
    return base64.b64encode(zlib.compress(out.tobytes(), 9)).decode("ascii")
