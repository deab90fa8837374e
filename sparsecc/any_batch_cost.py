"""What variants of a network for any batch take: simulated and estimated, or measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from sparsecc.network.tensor_unit import TensorUnitEngine
from sparsecc.network_report import host_rows
from sparsecc.target import AnyTarget, CpuTarget, Target

if TYPE_CHECKING:
    from sparsecc.network.crossbar_batches import WrittenEngine
    from sparsecc.network_compiler import NetworkArtifact

# Of a variant's program on a CPU, of which the fastest counts.
RUNS = 3


@dataclass(frozen=True)
class Cost:
    """What a variant takes."""

    cycles: int
    """When something follows it; 0 on a CPU."""
    host: float
    """Seconds of the host, estimated; on a CPU of all, measured, or by a rule where it is another."""
    energy_pj: float = 0.0
    """Of the products, on crossbars."""


def hertz_of(chip: AnyTarget) -> float:
    return 1.0 if isinstance(chip, CpuTarget) else chip.clock_ghz * 1e9


def costs_of(variants: Mapping[int, NetworkArtifact], written: WrittenEngine | None) -> dict[int, Cost]:
    """By batch; written: on crossbars the arrays."""
    if written is None:
        return {batch: _cost(artifact, batch) for batch, artifact in variants.items()}
    products = written.costs(variants.values())
    return {
        batch: Cost(one.cycles, _host(artifact), one.energy_pj)
        for (batch, artifact), one in zip(variants.items(), products, strict=True)
    }


def _host(artifact: NetworkArtifact) -> float:
    """Seconds, estimated."""
    return sum(row.seconds for row in host_rows(artifact))


def _cost(artifact: NetworkArtifact, batch: int) -> Cost:
    """Of a variant: simulated and estimated, or measured; of a CPU that is not this one a rule."""
    target = artifact.target
    if not isinstance(target, CpuTarget):
        return Cost(_cycles(artifact), _host(artifact))
    if target.missing:
        # A call and a vector that is not full cost about as much as one more row.
        return Cost(0, 1e-6 * (batch + 1))
    return Cost(0, _measured(artifact))


def _measured(artifact: NetworkArtifact) -> float:
    """Seconds of an inference here: the least median of a few runs."""
    return min(float(artifact.run_program("--seconds", "0.05")["median"]) for _ in range(RUNS))


def seconds_of(costs: Mapping[int, Cost], hertz: float) -> dict[int, float]:
    return {batch: cost.cycles / hertz + cost.host for batch, cost in costs.items()}


def _cycles(artifact: NetworkArtifact) -> int:
    """Cycles of a variant when something follows it."""
    engine = cast(TensorUnitEngine, artifact.engine)
    each = {layer: engine.cycles(layer) for layer in dict.fromkeys(artifact.layers)}
    return sum(each[layer] + _between(engine.chip, each[layer]) for layer in artifact.layers)


def _between(chip: Target, cycles: int) -> int:
    """What a product of so many cycles takes more when another follows: the fence between them.

    Where time is told by the index of the last cycle, that cycle, too.
    """
    return chip.queues.issue_gap + int(chip.timing.count == "last_index" and cycles > 0)


def fences_of(artifact: NetworkArtifact) -> int:
    """What of `_cycles` nobody waits for where nothing follows: fences after the last product."""
    engine = cast(TensorUnitEngine, artifact.engine)
    total = 0
    for layer in reversed(artifact.layers):
        cycles = engine.cycles(layer)
        total += _between(engine.chip, cycles)
        if cycles > 0:
            break
    return total
