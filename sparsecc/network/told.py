"""What reports of networks on all families of targets tell in the same words."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from sparsecc.calibration import Accuracy
    from sparsecc.network.engine import Layer
    from sparsecc.network.propagation import LayerGain
    from sparsecc.network_compiler import NetworkArtifact


@dataclass(frozen=True, kw_only=True)
class NetworkReport(ABC):
    """A network on a target. What only a run tells is None before it."""

    name: str
    target: str
    speedup: float
    """Over the same network with dense products, as far as it is known; 1 where it is not."""
    values_checked: int | None
    worst_share: float | None
    """The largest error / its bound, of all checked values."""
    propagated: list[LayerGain]
    """Layers that became smaller by what their neighbours do not need, or know."""
    propagated_away: list[str]
    """Layers of which nothing was left."""
    unbounded_outputs: list[str] | None
    """Outputs for which errors of all layers together have no known bound."""
    accuracy: Accuracy | None
    """Of products in integers against the network as it was; None where no samples were given."""

    def to_json(self) -> dict[str, Any]:
        """The report as one JSON object."""
        return dataclasses.asdict(self)

    @abstractmethod
    def tables(self) -> list[Table]:
        """For people: products, what the host does, totals."""

    @abstractmethod
    def slower_than_dense(self) -> str | None:
        """One sentence, where the products are slower than dense ones."""


def calls_of(artifact: NetworkArtifact) -> dict[Layer, list[int]]:
    """The calls of each layer, by their places in the order of products."""
    calls: dict[Layer, list[int]] = {}
    for i, layer in enumerate(artifact.layers):
        calls.setdefault(layer, []).append(i)
    return calls


def checked(run: Mapping[str, Any] | None) -> tuple[int | None, float | None]:
    """Of what a program reported: how many values it compared, and the largest error / its bound."""
    if not run or not (check := run.get("check")):
        return None, None
    return check["values"], max((c["worst_share"] for c in check["layers"]), default=0.0)


def unbounded(artifact: NetworkArtifact) -> list[str]:
    """Outputs for which errors of all layers together have no known bound."""
    return [name for name, b in zip(artifact.output_names, artifact.check.bounds, strict=True) if b is None]


def gone(artifact: NetworkArtifact) -> list[str]:
    """Layers of which sparse-propagate left nothing."""
    return artifact.propagation.gone if artifact.propagation else []


def host_work(operators: Sequence[str], reorders: Sequence[str]) -> str:
    """What the host does for a node."""
    what = ", ".join(dict.fromkeys(o.removeprefix("host_") for o in operators))
    return f"{what} (reorders: {'; '.join(reorders)})" if reorders else what


def checks(
    values: int | None, worst_share: float | None, unbounded: Sequence[str] | None
) -> list[tuple[str, str]]:
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
