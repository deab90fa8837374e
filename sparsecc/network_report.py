"""What is told of a network on a simulated accelerator: products with their plans, the host, and totals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from xdsl.dialects import func

from sparsecc.codegen.network import name_of, steps
from sparsecc.dialects.host import CallOp
from sparsecc.network.host_cost import RATES, HostWork, work_of
from sparsecc.network.propagation import table
from sparsecc.network.reorder import OrderGain, order_table
from sparsecc.network.tensor_unit import TensorUnitEngine, TensorUnitLayer
from sparsecc.network.told import (
    NetworkReport,
    calls_of,
    checked,
    checks,
    gone,
    host_work,
    totals_table,
    unbounded,
)
from sparsecc.operator import Spmm

if TYPE_CHECKING:
    from rich.table import Table

    from sparsecc.network_compiler import NetworkArtifact


@dataclass(frozen=True)
class ProductRow:
    """A product on the accelerator."""

    name: str
    formula: str
    calls: int
    """How often it runs: once, or in every step of a recurrent layer."""
    nnz: int
    density: float
    plan: str
    cycles: int
    dense_cycles: int
    speedup: float
    reason: str
    fused: str
    """What the stores do besides."""


@dataclass(frozen=True)
class HostRow:
    """What the host does for one node."""

    name: str
    operators: list[str]
    bytes: int
    operations: int
    functions: int
    seconds: float
    """Estimated."""
    reorders: list[str]
    """Why elements are copied to another order, where they are."""


@dataclass(frozen=True, kw_only=True)
class SimulatedReport(NetworkReport):
    """A network on a simulated tensor unit."""

    dtype: str
    products: list[ProductRow]
    host: list[HostRow]
    cycles: int
    """Of all products, one after the other."""
    dense_cycles: int
    """Of dense plans for all products of the network as it was read."""
    accelerator_seconds: float
    host_seconds: float
    """Estimated at `host_rates`."""
    host_rates: str
    arena_bytes: int
    arena_lower_bound: int
    unshared_bytes: int
    """That the activations would take without reuse."""
    patch_bytes: int
    """Beside the activations: patches of one layer, or the image that they lie in."""
    energy_pj: float | None
    ordered: list[OrderGain]
    """Layers whose rows or columns have an order that was carried through the network."""

    @staticmethod
    def of(artifact: NetworkArtifact, run: Mapping[str, Any] | None) -> SimulatedReport:
        """The report of an artifact, with what its program reported."""
        products: list[ProductRow] = []
        for layer, places in calls_of(artifact).items():
            compiled = cast(TensorUnitLayer, layer)
            one = compiled.artifact
            m, _, k = one.operator.shape
            each = [run["products"][i]["cycles"] if run else compiled.cycles for i in places]
            cycles = sum(each)
            # Dense is the network as it was read, however small its layers became.
            whole = cast(TensorUnitLayer, artifact.before.get(layer.name, layer))
            alike = one.is_dense and whole is compiled
            dense = cycles if alike else len(places) * whole.dense.cycles
            products.append(
                ProductRow(
                    layer.name,
                    one.operator.formula,
                    len(places),
                    one.operator.weight.nnz,
                    one.operator.weight.nnz / (m * k),
                    one.plan,
                    cycles,
                    dense,
                    dense / cycles if cycles else 1.0,
                    one.reason,
                    _fused(compiled),
                )
            )
        host = host_rows(artifact)
        chip = cast(TensorUnitEngine, artifact.engine).chip
        cycles, dense = sum(p.cycles for p in products), sum(p.dense_cycles for p in products)
        names = {p.name for p in products}
        dense += sum(
            cast(TensorUnitLayer, layer).dense.cycles
            for name, layer in artifact.before.items()
            if name not in names
        )
        values, share = checked(run)
        return SimulatedReport(
            name=artifact.name,
            target=chip.name,
            dtype=chip.in_type,
            products=products,
            host=host,
            cycles=cycles,
            dense_cycles=dense,
            speedup=dense / cycles if cycles else 1.0,
            accelerator_seconds=cycles / (chip.clock_ghz * 1e9),
            host_seconds=sum(row.seconds for row in host),
            host_rates=RATES,
            arena_bytes=artifact.storage.size,
            arena_lower_bound=artifact.storage.needed,
            unshared_bytes=artifact.storage.total,
            patch_bytes=max(
                (w.bytes for layer in artifact.layers if (w := cast(TensorUnitLayer, layer).written)),
                default=0,
            ),
            energy_pj=float(run["simulation"]["energy_pj"]["total"]) if run else None,
            values_checked=values,
            worst_share=share,
            unbounded_outputs=unbounded(artifact) if run else None,
            propagated=artifact.gains,
            propagated_away=gone(artifact),
            ordered=artifact.ordered,
            accuracy=artifact.accuracy,
        )

    def slower_than_dense(self) -> str | None:
        """One sentence, where the products are slower than dense ones."""
        if self.speedup >= 1.0:
            return None
        return f"{self.name}: its products take {self.cycles} cycles, dense plans {self.dense_cycles}"

    def tables(self) -> list[Table]:
        """For people: products, what the host does, totals."""
        from rich.table import Table

        products = Table(
            title=f"{self.name} on {self.target}, products in {self.dtype}", title_justify="left"
        )
        for heading in ("layer", "product", "nonzeros", "plan", "cycles", "dense", "speed-up", "reason"):
            products.add_column(heading, justify="right" if heading in _NUMBERS else "left", overflow="fold")
        for p in self.products:
            times = f", {p.calls} times" if p.calls > 1 else ""
            times += f", {p.fused}" if p.fused else ""
            products.add_row(
                p.name, p.formula + times, f"{p.nnz} ({p.density:.1%})", p.plan, str(p.cycles),
                str(p.dense_cycles), f"{p.speedup:.2f} x", p.reason,
            )  # fmt: skip
        host = host_table(self.host, self.host_rates, self.host_seconds + self.accelerator_seconds)
        gains = [table(self.propagated, self.propagated_away)] if self.propagated else []
        gains += [order_table(self.ordered)] if self.ordered else []
        return [products, *gains, host, totals_table(self._totals())]

    def _totals(self) -> list[tuple[str, str]]:
        rows = [
            ("cycles", f"{self.cycles} = {self.accelerator_seconds * 1e6:.1f} us"),
            ("cycles, dense plans", str(self.dense_cycles)),
            ("speed-up over dense", f"{self.speedup:.2f} x (products only)"),
            ("host", f"{self.host_seconds * 1e6:.1f} us, estimated"),
            ("activations", f"{self.arena_bytes} bytes ({self.unshared_bytes} without reuse)"),
        ]
        if self.patch_bytes:
            rows.append(("patches, images", f"{self.patch_bytes} bytes besides"))
        if self.accuracy is not None:
            rows += self.accuracy.rows()
        if self.energy_pj is not None:
            rows.append(("energy", f"{self.energy_pj / 1e6:.3f} uJ"))
        return [*rows, *checks(self.values_checked, self.worst_share, self.unbounded_outputs)]


_NUMBERS = {"nonzeros", "cycles", "dense", "speed-up", "bytes", "estimated us", "share of the time"}


def host_table(rows: Sequence[HostRow], rates: str, whole: float) -> Table:
    """What the host does, the longest first. whole: seconds of the network, of which shares are told."""
    from rich.table import Table

    host = Table(title=f"on the host ({rates})", title_justify="left")
    for heading in ("node", "operators", "bytes", "estimated us", "share of the time"):
        host.add_column(heading, justify="right" if heading in _NUMBERS else "left", overflow="fold")
    for row in sorted(rows, key=lambda row: -row.seconds):
        what = host_work(row.operators, row.reorders)
        share = row.seconds / max(whole, 1e-30)
        host.add_row(row.name, what, str(row.bytes), f"{row.seconds * 1e6:.1f}", f"{share:.1%}")
    return host


def _fused(layer: TensorUnitLayer) -> str:
    """Where a product finds its patches, and what its stores do, in words."""
    operator = layer.artifact.operator
    patches = ""
    if layer.unfolding is not None:
        patches = "patches written" if layer.by_address is None else "patches by address"
    epilogue = operator.epilogue if isinstance(operator, Spmm) else None
    if epilogue is None:
        return patches
    parts = [
        "bias" if epilogue.bias is not None else "",
        "scale" if epilogue.scale is not None else "",
        "relu" if epilogue.relu else "",
    ]
    stores = f"{', '.join(part for part in parts if part)} to {epilogue.element}"
    return f"{patches}, {stores}" if patches else stores


def host_rows(artifact: NetworkArtifact) -> list[HostRow]:
    """One row for each node, in order."""
    rows: dict[str, tuple[list[str], HostWork, list[str]]] = {}
    layers = iter(artifact.layers)
    for op in steps(artifact.function):
        if isinstance(op, func.CallOp):
            layer = next(layers)
            if isinstance(layer, TensorUnitLayer) and (written := layer.written) is not None:
                operators, work, why = rows.get(name_of(op), ([], HostWork(), []))
                rows[name_of(op)] = [*operators, written.operator], work + written.work, why
        if not isinstance(op, CallOp):
            continue
        operators, work, why = rows.get(name_of(op), ([], HostWork(), []))
        reason = op.attributes.get("reorders")
        rows[name_of(op)] = (
            [*operators, op.operator.data],
            work + work_of(op),
            [*why, *([str(reason).strip('"')] if reason is not None else [])],
        )
    return [
        HostRow(name, operators, work.bytes, work.operations, work.functions, work.seconds, why)
        for name, (operators, work, why) in rows.items()
    ]
