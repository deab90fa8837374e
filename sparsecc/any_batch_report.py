"""What is told of a network for any batch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sparsecc.report import si

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class AnyBatchReport:
    """A network for any batch up to `max_batch`."""

    name: str
    target: str
    dtype: str
    max_batch: int
    variants: list[int]
    """Batches that the program holds the network for."""
    batches: list[dict[str, Any]]
    """For each batch: its variants, cycles, microseconds of the host (estimated), and in all; on a CPU its
    variants and microseconds (measured), or, for a CPU that is not this one, only its variants. On crossbars
    the energy of the products, too, in pJ."""
    of_fixed: dict[int, float]
    """Time / that of compiling for one batch, for the batches that were compiled."""
    over_padding: float
    """Time of padding to max_batch / time, the geometric mean over all batches."""
    source_bytes: int
    """Text of the C of all variants."""
    weights_bytes: int
    weights_unshared_bytes: int
    """That a copy for each variant would take."""
    arena_bytes: int
    arrays: int | None = None
    """Of crossbars, written once for all batches."""
    program_energy_pj: float | None = None
    """Of writing them."""

    def to_json(self) -> dict[str, Any]:
        """The report as one JSON object."""
        told = dataclasses.asdict(self)
        return {key: value for key, value in told.items() if value is not None}

    def tables(self) -> list[Table]:
        """For people; of a long table some rows."""
        from rich.table import Table

        found = Table(
            title=f"{self.name} on {self.target}, products in {self.dtype}", title_justify="left",
            min_width=60,
        )  # fmt: skip
        columns = {
            "variants": "variants",
            "cycles": "cycles",
            "host_us": "host us",
            "us": "us",
            "energy_pj": "energy",
        }
        columns = {key: heading for key, heading in columns.items() if key in self.batches[0]}
        for heading in ("batch", *columns.values(), "of fixed"):
            found.add_column(heading, justify="left" if heading == "variants" else "right")
        step = max(1, len(self.batches) // 16)
        for i, row in enumerate(self.batches):
            if i % step == 0 or i + 1 == len(self.batches) or row["batch"] in self.of_fixed:
                ratio = self.of_fixed.get(row["batch"])
                texts = (
                    " + ".join(map(str, value)) if key == "variants"
                    else str(value) if key == "cycles"
                    else f"{si(value)}J" if key == "energy_pj" else f"{value:.1f}"
                    for key in columns
                    for value in (row[key],)
                )  # fmt: skip
                found.add_row(str(row["batch"]), *texts, "" if ratio is None else f"{ratio:.2f}")
        totals = Table(show_header=False, box=None)
        totals.add_row("over padding", f"{self.over_padding:.2f} x to {self.max_batch} (geometric mean)")
        totals.add_row(
            "weights", f"{self.weights_bytes} bytes ({self.weights_unshared_bytes} without sharing)"
        )
        totals.add_row("code", f"{self.source_bytes} bytes of C in {len(self.variants)} variants")
        totals.add_row("activations", f"{self.arena_bytes} bytes")
        if self.program_energy_pj is not None:
            totals.add_row("arrays", f"{self.arrays}, written once: {si(self.program_energy_pj)}J")
        return [found, totals]
