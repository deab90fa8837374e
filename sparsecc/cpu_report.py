"""What is told of an operator compiled for a CPU: one record, as a table for people and as JSON."""

from __future__ import annotations

from dataclasses import dataclass

from sparsecc.operator_report import OperatorReport


@dataclass(frozen=True)
class CpuReport(OperatorReport):
    """One operator on one CPU. What only a run tells is None before it."""

    kernel: str
    """The variant: the kernel and how it is cut."""
    reason: str
    tried: list[tuple[str, float]]
    """(variant, milliseconds when it was chosen), the fastest first; empty where nothing was measured."""
    cpu: str
    threads: int
    wall_ms: float | None
    """One call, X and Y row-major in memory: the fastest of many."""
    gflops: float | None
    """2 nnz N / time."""
    peak_gflops: float | None
    """One core's, measured with registers only; times the threads."""
    peak_fraction: float | None
    dense_ms: float | None
    """The dense plan, timed in turns with this one."""
    dense_library: str | None
    """"blas": that of numpy; "own": our kernel."""
    speedup: float | None
    """dense_ms / wall_ms."""
    max_error: float | None
    error_bound: float | None
    """The bound of the value that came nearest to it."""
    exact: bool | None
    """Whether every value is within its bound."""
    zeroed: int
    stored_zeros: int
    pattern_only: bool
    assumed: tuple[str, ...]

    def rows(self) -> list[tuple[str, str]]:
        """The report as (what, value with unit) lines."""
        remarks = ["values drawn at random"] if self.pattern_only else []
        remarks += [f"{self.zeroed} became 0 in {self.dtype}"] if self.zeroed else []
        remarks += [f"{self.stored_zeros} stored zeros left out"] if self.stored_zeros else []
        nonzeros = f"{self.nnz} ({100 * self.density:.2f} % of W)"
        rows = [
            ("operator", f"{self.formula}, {self.dtype}"),
            ("target", f"{self.target} ({self.cpu})"),
            ("nonzeros", "; ".join([nonzeros, *remarks])),
            ("pattern", self.pattern),
            ("plan", self.plan),
            ("kernel", self.kernel),
            ("reason", self.reason),
        ]
        if self.tried:
            first = ", ".join(f"{name} {ms:.3g}" for name, ms in self.tried[:4])
            rows.append(("tried, ms", f"{first}; {len(self.tried)} in all"))
        if self.wall_ms is None:
            return rows
        assert self.gflops is not None
        assert self.peak_gflops is not None
        assert self.peak_fraction is not None
        several = f", {self.threads} threads" if self.threads > 1 else ""
        rows += [
            ("time", f"{self.wall_ms:.4g} ms{several}"),
            (
                "speed",
                f"{self.gflops:.1f} GFLOP/s of nonzeros, {100 * self.peak_fraction:.1f} % of the "
                f"{self.peak_gflops:.0f} that {'the core' if self.threads == 1 else 'the cores'} can",
            ),
        ]
        if self.dense_ms is not None:
            rival = "BLAS of numpy" if self.dense_library == "blas" else "our own kernel"
            rows.append(("time, dense plan", f"{self.dense_ms:.4g} ms ({rival})"))
            rows.append(("speed-up over dense", f"{self.speedup:.2f} x"))
        verdict = "every value within its bound" if self.exact else "WRONG VALUES"
        rows.append(
            ("check", f"{verdict}; largest error {self.max_error:g}, bound there {self.error_bound:g}")
        )
        return rows
