"""How a matrix is multiplied on a CPU: which kernel, and its parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sparsecc.cpu.plan import Indices, block_width
from sparsecc.cpu.rows import clustered, natural
from sparsecc.importers.matrix import Csr

Kind = Literal["line", "csr", "vector", "dense"]
RowOrder = Literal["natural", "clustered"]
KINDS: tuple[Kind, ...] = get_args(Kind)
ORDERS: tuple[RowOrder, ...] = get_args(RowOrder)

ABOUT: Mapping[str, str] = {
    "line": "straight-line code, an instruction for each nonzero and vector of positions",
    "csr": "exact CSR, driven by data, over packed panels or row by row",
    "vector": "matrix times vector, lanes are rows",
    "dense": "every zero multiplied",
}

# Parameters that straight-line code has not.
NOT_OF_LINES = ("kind", "sliced", "pairs", "rounds", "by_rows")
# Layouts of matrices for one position, beside tiles.
LAYOUTS = ("rounds", "pairs", "sliced")


@dataclass(frozen=True)
class Variant:
    """A kernel and, for straight-line code, how it is cut and in which order it runs."""

    kind: Kind
    lanes: int = 0
    """line: lanes of the vectors in the code."""
    height: int = 0
    """line: rows of a group."""
    columns: int = 0
    """line: columns of a block, at most."""
    rows: RowOrder = "natural"
    """line: in which order rows are grouped."""
    panels: int = 0
    """line: panels of X that pass a block of columns before the next."""
    batch: int = 0
    """line: groups of rows that run over those panels, one after another."""
    pack: bool = False
    """line: X is always copied to panels; else only where its rows are not aligned."""
    fetches: int = 0
    """line: panels that share out the fetching of what runs next, by its instructions; 0: none there."""
    sliced: bool = False
    """vector: slices of rows with any columns, f32; else tiles."""
    pairs: Literal[0, 1, 2] = 0
    """vector: how many steps share a pair of blocks of X, f32; 0: another layout."""
    rounds: bool = False
    """vector: steps read the same blocks of X for all rows, f32."""
    by_rows: bool = False
    """csr: each row as a whole, over X where it is, f32; else panels, where there are values enough."""

    @property
    def name(self) -> str:
        """What reports call it."""
        if self.kind != "line":
            how = f" pairs of {self.pairs}" if self.pairs else " sliced" if self.sliced else ""
            return self.kind + (" rounds" if self.rounds else " by rows" if self.by_rows else how)
        order = "" if self.rows == "natural" else f" {self.rows}"
        how = "packed" if self.pack else "direct"
        fetching = f", fetching over {self.fetches}" if self.fetches else ""
        schedule = f"{self.panels} panels x {self.batch} groups, {how}{fetching}"
        return f"line {self.height}x{self.lanes}{order}, {schedule}"

    def parameters(self) -> dict[str, int | str | bool]:
        """What differs from kernel to kernel; empty where there is nothing to choose."""
        if self.kind != "line":
            layouts = {name: getattr(self, name) for name in (*LAYOUTS, "by_rows")}
            return {name: value for name, value in layouts.items() if value}
        found = {k: v for k, v in dataclasses.asdict(self).items() if k not in NOT_OF_LINES}
        return {k: v for k, v in found.items() if k != "fetches" or v}

    @staticmethod
    def of(kind: str, parameters: Mapping[str, Any]) -> Variant:
        """The variant of these parameters. Raises ValueError, which says what is wrong."""
        if kind not in KINDS:
            raise ValueError(f"kernel '{kind}' is not one of {', '.join(KINDS)}")
        left_out = NOT_OF_LINES if "fetches" in parameters else (*NOT_OF_LINES, "fetches")
        fields = [f.name for f in dataclasses.fields(Variant) if f.name not in left_out]
        known = fields if kind == "line" else []
        if kind == "csr" and parameters:
            known = ["by_rows"]
        if kind == "vector" and parameters:
            known = [next((name for name in LAYOUTS if name in parameters), "sliced")]
        if set(parameters) != set(known):
            raise ValueError(
                f"kernel '{kind}' has parameters {', '.join(known) or 'none'}, found "
                f"{', '.join(parameters) or 'none'}"
            )
        found = Variant(kind, **parameters)
        if found.pairs not in (0, 1, 2):
            raise ValueError(f"pairs is {found.pairs}; needed 0, 1 or 2")
        if kind == "line":
            if found.rows not in ORDERS:
                raise ValueError(f"rows '{found.rows}' is not one of {', '.join(ORDERS)}")
            if min(found.lanes, found.height, found.columns, found.panels, found.batch) < 1:
                raise ValueError("lanes, height, columns, panels and batch are at least 1")
            if found.fetches < 0:
                raise ValueError(f"fetches is {found.fetches}; needed 0, or a number of panels")
        return found


def row_order(w: Csr, variant: Variant) -> Indices:
    """[blocks, M] The rows in the order they are grouped, for each block of columns."""
    width = block_width(w.shape[1], variant.columns)
    return clustered(w, variant.height, width) if variant.rows == "clustered" else natural(w, width)
