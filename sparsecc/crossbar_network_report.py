"""What is told of a network on crossbars: products with their arrays and energy, the host, and totals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from sparsecc.crossbar_compiler import CrossbarArtifact
from sparsecc.network.crossbar import CrossbarEngine, CrossbarLayer
from sparsecc.network.host_cost import RATES
from sparsecc.network.propagation import table
from sparsecc.network.told import NetworkReport, calls_of, checked, checks, gone, totals_table, unbounded
from sparsecc.network_report import HostRow, host_rows, host_table
from sparsecc.report import si

if TYPE_CHECKING:
    from rich.table import Table

    from sparsecc.network_compiler import NetworkArtifact


@dataclass(frozen=True)
class CrossbarProductRow:
    """A product on arrays. Cycles and energy are of all its calls in one inference."""

    name: str
    formula: str
    calls: int
    nnz: int
    density: float
    plan: str
    arrays: int
    arrays_dense: int | None
    adc_bits: dict[int, int]
    """Tiles by the bits of their conversions."""
    cycles: int
    dense_cycles: int | None
    energy_pj: float | None
    dense_energy_pj: float | None
    program_energy_pj: float | None
    """Once."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class CrossbarNetworkReport(NetworkReport):
    """A network on a target with crossbars."""

    products: list[CrossbarProductRow]
    host: list[HostRow]
    arrays: int
    arrays_available: int
    cycles: int
    """Of all products, one after the other; predicted before a run."""
    dense_cycles: int | None
    energy_pj: float | None
    dense_energy_pj: float | None
    program_energy_pj: float | None
    adc_clipped: int | None
    accelerator_seconds: float
    host_seconds: float
    """Estimated at `host_rates`."""
    host_rates: str

    @staticmethod
    def of(artifact: NetworkArtifact, run: Mapping[str, Any] | None) -> CrossbarNetworkReport:
        """The report of an artifact, with what its program reported."""
        chip = cast(CrossbarEngine, artifact.engine).chip
        products = [
            _row(
                cast(CrossbarLayer, layer),
                cast(CrossbarLayer, artifact.before.get(layer.name, layer) if run else layer),
                places,
                number,
                run,
            )
            for number, (layer, places) in enumerate(calls_of(artifact).items())
        ]
        cycles = sum(p.cycles for p in products)
        dense, energy, dense_energy, programmed = (
            _sum(getattr(p, name) for p in products)
            for name in ("dense_cycles", "energy_pj", "dense_energy_pj", "program_energy_pj")
        )
        host = host_rows(artifact)
        values, share = checked(run)
        return CrossbarNetworkReport(
            name=artifact.name,
            target=chip.name,
            products=products,
            host=host,
            arrays=sum(p.arrays for p in products),
            arrays_available=chip.array.count,
            cycles=cycles,
            dense_cycles=None if dense is None else int(dense),
            speedup=dense / cycles if dense is not None and cycles else 1.0,
            energy_pj=energy,
            dense_energy_pj=dense_energy,
            program_energy_pj=programmed,
            adc_clipped=sum(one["crossbar"]["adc_clipped"] for one in run["layers"]) if run else None,
            accelerator_seconds=cycles / (chip.clock_ghz * 1e9),
            host_seconds=sum(row.seconds for row in host),
            host_rates=RATES,
            values_checked=values,
            worst_share=share,
            unbounded_outputs=unbounded(artifact) if run else None,
            propagated=artifact.gains if run else [],
            propagated_away=gone(artifact),
            accuracy=artifact.accuracy,
        )

    def slower_than_dense(self) -> str | None:
        """One sentence, where the products are slower than dense ones."""
        if self.speedup >= 1.0:
            return None
        return f"{self.name}: its products take {self.cycles} cycles, dense mappings {self.dense_cycles}"

    def tables(self) -> list[Table]:
        """For people: products, what the host does, totals."""
        from rich.table import Table

        products = Table(title=f"{self.name} on {self.target}, products in i8", title_justify="left")
        for heading in ("layer", "product", "plan", "reason"):
            products.add_column(heading, overflow="fold")
        for heading in ("nonzeros", "arrays", "cycles", "dense", "energy", "dense"):
            products.add_column(heading, justify="right")
        for p in self.products:
            times = f", {p.calls} times" if p.calls > 1 else ""
            products.add_row(
                p.name, p.formula + times, p.plan, p.reason, f"{p.nnz} ({p.density:.1%})",
                f"{p.arrays}/{_known(p.arrays_dense)}", str(p.cycles), _known(p.dense_cycles),
                _joule(p.energy_pj), _joule(p.dense_energy_pj),
            )  # fmt: skip
        gains = [table(self.propagated, self.propagated_away)] if self.propagated else []
        host = host_table(self.host, self.host_rates, self.host_seconds + self.accelerator_seconds)
        return [products, *gains, host, totals_table(self._totals())]

    def _totals(self) -> list[tuple[str, str]]:
        rows = [
            ("arrays", f"{self.arrays} of {self.arrays_available}"),
            ("cycles", f"{self.cycles} = {self.accelerator_seconds * 1e6:.1f} us"),
        ]
        if self.energy_pj is not None and self.dense_energy_pj is not None:
            ratio = self.dense_energy_pj / self.energy_pj if self.energy_pj else 1.0
            energy = f"{_joule(self.energy_pj)} (dense {_joule(self.dense_energy_pj)}, {ratio:.2f} x)"
            rows += [
                ("cycles, dense mappings", f"{_known(self.dense_cycles)}: {self.speedup:.2f} x"),
                ("energy of the products", energy),
                ("programming, once", _joule(self.program_energy_pj)),
                ("ADC clipped", f"{self.adc_clipped} sums"),
            ]
        rows.append(("host", f"{self.host_seconds * 1e6:.1f} us, estimated"))
        if self.accuracy is not None:
            rows += self.accuracy.rows()
        return [*rows, *checks(self.values_checked, self.worst_share, self.unbounded_outputs)]


def _row(
    layer: CrossbarLayer, whole: CrossbarLayer, places: list[int], number: int, run: Mapping[str, Any] | None
) -> CrossbarProductRow:
    """whole: the layer in the network as it was read, which is what dense mappings are of."""
    one = layer.artifact
    m, _, k = one.operator.shape
    told = run["layers"][number]["crossbar"] if run else None
    dense = None if run is None else cast(CrossbarArtifact, whole.artifact.dense).timing
    cycles = (
        sum(run["products"][i]["cycles"] for i in places) if run else len(places) * round(one.estimate.cycles)
    )
    return CrossbarProductRow(
        name=layer.name,
        formula=one.operator.formula,
        calls=len(places),
        nnz=one.operator.weight.nnz,
        density=one.operator.weight.nnz / (m * k),
        plan=one.plan,
        arrays=one.placed.tiles.arrays,
        arrays_dense=cast(CrossbarArtifact, whole.artifact.dense).placed.tiles.arrays if run else None,
        adc_bits=one.adc_bits,
        cycles=cycles,
        dense_cycles=None if dense is None else len(places) * dense.cycles,
        energy_pj=float(told["inference"]["energy_pj"]) if told else None,
        dense_energy_pj=None if dense is None else len(places) * dense.energy_pj,
        program_energy_pj=float(told["program"]["energy_pj"]) if told else None,
        reason=one.reason,
    )


def _sum(values: Any) -> float | None:
    found = list(values)
    return None if any(v is None for v in found) else sum(found)


def _known(value: int | None) -> str:
    return "-" if value is None else str(value)


def _joule(picojoules: float | None) -> str:
    return "-" if picojoules is None else f"{si(picojoules)}J"
