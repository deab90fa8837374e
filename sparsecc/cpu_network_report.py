"""What is told of a network on a CPU: every layer with its kernel and measured time, the host, totals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from xdsl.dialects import func

from sparsecc.codegen.network import name_of, steps
from sparsecc.cpu.machine import machine
from sparsecc.dialects.host import CallOp
from sparsecc.network.cpu import CpuEngine, CpuLayer
from sparsecc.network.cpu_narrow import NarrowLayer
from sparsecc.network.propagation import table
from sparsecc.network.told import NetworkReport, checked, checks, gone, host_work, totals_table, unbounded

if TYPE_CHECKING:
    from rich.table import Table

    from sparsecc.network_compiler import NetworkArtifact


@dataclass(frozen=True)
class CpuProductRow:
    """A product. What only a run tells is None before it."""

    name: str
    formula: str
    nnz: int
    density: float
    kernel: str
    fused: list[str]
    """What its kernel does besides: patches, turned (X is [N, K]), bias, scales, residual, limits, type."""
    us: float | None
    gflops: float | None
    """2 nnz N / time."""
    share: float | None
    """Of the time of all steps."""
    dense_us: float | None
    speedup: float | None
    reason: str


@dataclass(frozen=True)
class CpuHostRow:
    """What the host does for one node."""

    name: str
    operators: list[str]
    us: float | None
    share: float | None
    reorders: list[str]


@dataclass(frozen=True, kw_only=True)
class CpuNetworkReport(NetworkReport):
    """A network on a CPU; the speed-up is dense_ms / wall_ms."""

    cpu: str
    dtype: str
    threads: int | None
    products: list[CpuProductRow]
    host: list[CpuHostRow]
    wall_ms: float | None
    """One inference: the median of many."""
    best_ms: float | None
    dense_ms: float | None
    """The same network with dense products, measured in turns with this one."""
    gflops: float | None
    """2 nnz N of all products / the whole time."""
    host_share: float | None
    arena_bytes: int
    arena_lower_bound: int
    unshared_bytes: int

    @staticmethod
    def of(artifact: NetworkArtifact, run: Mapping[str, Any] | None) -> CpuNetworkReport:
        """The report of an artifact; run: what its program reported, and under "dense" that of dense ones."""
        engine = cast(CpuEngine, artifact.engine)
        dense = cast("Mapping[str, Any] | None", run.get("dense") if run else None)
        taken = cast("list[float] | None", run["steps"] if run else None)
        whole = sum(taken) if taken else None
        operations, number = 0.0, 0
        products: list[CpuProductRow] = []
        host: dict[str, tuple[list[str], float, list[str]]] = {}
        for i, op in enumerate(steps(artifact.function)):
            seconds = taken[i] if taken else 0.0
            if isinstance(op, CallOp):
                operators, sum_, why = host.get(name_of(op), ([], 0.0, []))
                reason = op.attributes.get("reorders")
                more = [str(reason).strip('"')] if reason is not None else []
                host[name_of(op)] = [*operators, op.operator.data], sum_ + seconds, [*why, *more]
                continue
            assert isinstance(op, func.CallOp)
            layer = cast("CpuLayer | NarrowLayer", artifact.layers[number])
            rival = float(dense["steps"][i]) if dense else None
            number += 1
            operations += 2.0 * layer.weight.nnz * layer.n
            products.append(_row(layer, seconds if taken else None, whole, rival))
        values, worst = checked(run)
        measured = bool(run and run["runs"])
        wall = run["median"] if run and measured else None
        other = dense["median"] if dense else None
        return CpuNetworkReport(
            name=artifact.name, target=engine.chip.name,
            cpu="not this machine's" if engine.chip.missing else machine().model, dtype=engine.in_type,
            threads=run["threads"] if run else None, products=products,
            host=[
                CpuHostRow(name, operators, 1e6 * s if taken else None, s / whole if whole else None, why)
                for name, (operators, s, why) in host.items()
            ],
            wall_ms=1e3 * wall if wall else None, best_ms=1e3 * run["best"] if run and measured else None,
            dense_ms=1e3 * other if other else None, speedup=other / wall if other and wall else 1.0,
            gflops=1e-9 * operations / wall if wall else None,
            host_share=sum(s for _, s, _ in host.values()) / whole if whole else None,
            arena_bytes=artifact.storage.size, arena_lower_bound=artifact.storage.needed,
            unshared_bytes=artifact.storage.total, values_checked=values,
            worst_share=worst,
            unbounded_outputs=unbounded(artifact) if run else None,
            propagated=artifact.propagation.layers if artifact.propagation else [],
            propagated_away=gone(artifact),
            accuracy=artifact.accuracy,
        )  # fmt: skip

    def slower_than_dense(self) -> str | None:
        """One sentence, where the network is slower than with dense products."""
        if self.speedup >= 1.0 or self.wall_ms is None:
            return None
        return f"{self.name}: takes {self.wall_ms:.4g} ms, with dense products {self.dense_ms:.4g}"

    def tables(self) -> list[Table]:
        """For people: products, what the host does, totals."""
        from rich.table import Table

        products = Table(
            title=f"{self.name} on {self.target} ({self.cpu}), {self.dtype}", title_justify="left"
        )
        for heading in _COLUMNS:
            products.add_column(heading, justify="right" if heading in _NUMBERS else "left", overflow="fold")
        for p in self.products:
            products.add_row(
                p.name, p.formula, f"{p.nnz} ({p.density:.1%})", p.kernel, ", ".join(p.fused),
                _text(p.us, ".1f"), _text(p.share, ".1%"), _text(p.gflops, ".1f"), _text(p.dense_us, ".1f"),
                _text(p.speedup, ".2f"),
            )  # fmt: skip
        host = Table(title="operators of the host", title_justify="left")
        for heading in ("node", "operators", "us", "share"):
            host.add_column(heading, justify="right" if heading in _NUMBERS else "left", overflow="fold")
        for row in sorted(self.host, key=lambda row: -(row.us or 0.0)):
            what = host_work(row.operators, row.reorders)
            host.add_row(row.name, what, _text(row.us, ".1f"), _text(row.share, ".1%"))
        gains = [table(self.propagated, self.propagated_away)] if self.propagated else []
        return [products, *gains, host, totals_table(self._totals())]

    def _totals(self) -> list[tuple[str, str]]:
        rows: list[tuple[str, str]] = []
        if self.wall_ms is not None:
            several = f", {self.threads} threads" if (self.threads or 1) > 1 else ""
            rows.append(
                ("time", f"{self.wall_ms:.4g} ms, the median; {self.best_ms:.4g} the fastest{several}")
            )
            rows.append(("speed", f"{self.gflops:.1f} GFLOP/s of nonzeros, everything counted"))
            rows.append(("host", f"{self.host_share:.1%} of the time"))
        if self.dense_ms is not None:
            rows.append(("time, dense products", f"{self.dense_ms:.4g} ms"))
            rows.append(("speed-up over dense", f"{self.speedup:.2f} x"))
        rows.append(("activations", f"{self.arena_bytes} bytes ({self.unshared_bytes} without reuse)"))
        found = checks(self.values_checked, self.worst_share, self.unbounded_outputs)
        return [*rows, *found, *([] if self.accuracy is None else self.accuracy.rows())]


_COLUMNS = (
    "layer", "product", "nonzeros", "kernel", "fused", "us", "share", "GFLOP/s", "dense us", "speed-up",
)  # fmt: skip
_NUMBERS = {"nonzeros", "us", "share", "GFLOP/s", "dense us", "speed-up"}


def _text(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _fused(layer: CpuLayer) -> list[str]:
    fused = [] if layer.unfolded is None else ["patches by address" if layer.by_address else "patches"]
    fused += ["turned"] if layer.turned else []
    e = layer.epilogue
    fused += [name for name in ("bias", "residual", "relu") if getattr(e, name)]
    fused += [] if e.limits is None else ["limits {:g} and {:g}".format(*e.limits)]
    return fused if e.activation is None else [*fused, e.activation.name]


def _row(
    layer: CpuLayer | NarrowLayer, seconds: float | None, whole: float | None, rival: float | None
) -> CpuProductRow:
    (m, k), nnz = layer.weight.shape, layer.weight.nnz
    return CpuProductRow(
        name=layer.name, formula=f"C[{m}, {layer.n}] = W[{m}, {k}] X[{k}, {layer.n}]", nnz=nnz,
        density=nnz / (m * k), kernel=layer.variant.name,
        fused=layer.fused if isinstance(layer, NarrowLayer) else _fused(layer),
        us=None if seconds is None else 1e6 * seconds,
        gflops=2e-9 * nnz * layer.n / seconds if seconds else None,
        share=seconds / whole if seconds and whole else None,
        dense_us=None if rival is None else 1e6 * rival,
        speedup=rival / seconds if rival and seconds else None, reason=layer.reason,
    )  # fmt: skip
