"""A target: one accelerator, read from a TOML file and kept as a frozen, hashable value.

Every number of a target carries where it comes from, or the word "assumed"; a file that leaves one
out is refused.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from sparsecc.errors import UserError
from sparsecc.target.checks import check_target
from sparsecc.target.document import Count, Range, Sourced, toml_text
from sparsecc.target.sections import (
    ELEMENT_BYTES,
    INDEX_BYTES,
    KIND_KEYS,
    OWN_KEYS,
    SECTIONS,
    Array,
    Dma,
    Energy,
    Indexed,
    Memory,
    Move,
    Queues,
    Timing,
    Vector,
    size_text,
)
from sparsecc.target.structured import Kept, ScatterAdd, Structured, kept_patterns


@dataclass(frozen=True)
class Target(Sourced):
    """One accelerator. Raises TargetError when it is not consistent."""

    name: str
    family: Literal["tensor"]
    clock_ghz: Annotated[float, Range(0, 1000, above=True)]
    array: Array
    spad: Memory
    acc: Memory
    l0a: Memory | None
    l0b: Memory | None
    line_rows: Count
    """Rows of one scoreboard line."""
    dma: Dma
    move: Move
    vector: Vector
    queues: Queues
    timing: Timing
    energy: Energy
    sources: tuple[tuple[str, str], ...]
    """Pattern of keys, and where these come from."""
    indexed: Indexed | None = None
    """None: TU.PREX and TU.MMX are errors."""
    structured: Structured | None = None
    """None: TU.SPMMA is an error."""
    scatter_add: ScatterAdd | None = None
    """None: an STS that adds is an error."""
    stored: str = ""
    """Type that stores round to where this target is used so; "": that of ACC."""
    biased: bool = False
    """Whether accumulators begin with a bias, not with zeros, where this target is used so."""

    def __post_init__(self):
        check_target(self)

    @staticmethod
    def load(name_or_path: str | os.PathLike[str]) -> Target:
        """The target of that name (see `names`), or the one a .toml file describes."""
        from sparsecc.target.load import load_target  # which knows all families, and so imports this module

        target = load_target(name_or_path)
        if not isinstance(target, Target):
            raise UserError(
                f"target {target.name} is of family '{target.family}', needed 'tensor' here; name a target "
                "with a tensor unit",
                exit_code=2,
            )
        return target

    @staticmethod
    def names() -> tuple[str, ...]:
        """Every target of any family that has a name: the presets and those of installed plug-ins."""
        from sparsecc.target.load import target_names

        return target_names()

    @property
    def types(self) -> tuple[tuple[str, str], ...]:
        """Pairs of input and accumulator type the array can compute."""
        return self.array.types

    @property
    def in_type(self) -> str:
        """Element type of SPAD, L0A and L0B."""
        return self.array.in_type

    @property
    def acc_type(self) -> str:
        """Element type of ACC."""
        return dict(self.array.types)[self.array.in_type]

    def with_type(self, in_type: str) -> Target:
        """The same target, used with another of its input types."""
        known = [pair[0] for pair in self.types]
        if in_type not in known:
            raise UserError(f"target {self.name} has no input type '{in_type}'; it has {', '.join(known)}")
        return dataclasses.replace(self, array=dataclasses.replace(self.array, in_type=in_type))

    def storing(self, element_type: str, biased: bool) -> Target:
        """The same target, used with stores that round to a type, of sums that begin with a bias or not."""
        return dataclasses.replace(self, stored=element_type, biased=biased)

    @property
    def store_type(self) -> str:
        """Element type of results in memory."""
        return self.stored or self.acc_type

    @staticmethod
    def element_bytes(element_type: str) -> int:
        """Bytes of one element of a type such as "i8"."""
        return ELEMENT_BYTES[element_type]

    @property
    def unit(self) -> tuple[int, int, int]:
        """(m, n, k) of the dense block which one instruction, or one stationary tile, is made for."""
        array = self.array
        if array.kind == "mma":
            return (array.mma_m, array.mma_n, array.mma_k)
        return (array.rows, array.cols, array.rows)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of SPAD, L0A and L0B."""
        return self.array.cols * ELEMENT_BYTES[self.in_type]

    @property
    def indices_per_row(self) -> int:
        """Indices that one row of SPAD holds, two bytes each."""
        return self.row_bytes // INDEX_BYTES

    @property
    def kept_patterns(self) -> tuple[Kept, ...]:
        """The N:M patterns of left operands that TU.SPMMA takes; none where the target has no TU.SPMMA."""
        return kept_patterns(self.structured.patterns) if self.structured else ()

    def metadata_bytes(self, kept: Kept) -> int:
        """Bytes of metadata of one row of values, of `cols` values."""
        return -(-self.array.cols * kept.bits // 8)

    def metadata_rows(self, kept: Kept, rows: int) -> int:
        """Rows of memory that the metadata of so many rows of values take."""
        return -(-rows * self.metadata_bytes(kept) // self.row_bytes)

    @property
    def acc_row_bytes(self) -> int:
        """Bytes of one row of ACC."""
        return self.array.cols * ELEMENT_BYTES[self.acc_type]

    @property
    def spad_rows(self) -> int:
        """Rows of the scratchpad, of `cols` input elements each."""
        return self.spad.bytes // self.row_bytes

    @property
    def acc_rows(self) -> int:
        """Rows of the accumulator memory, of `cols` accumulators each."""
        return self.acc.bytes // self.acc_row_bytes

    @property
    def l0a_rows(self) -> int:
        """Rows of L0A; 0 where the target has none."""
        return self.l0a.bytes // self.row_bytes if self.l0a else 0

    @property
    def l0b_rows(self) -> int:
        """Rows of L0B; 0 where the target has none."""
        return self.l0b.bytes // self.row_bytes if self.l0b else 0

    @property
    def mac_pj(self) -> float:
        """Energy of one multiply-accumulate of the input type in use, in picojoules."""
        return dict(self.energy.mac_pj)[self.in_type]

    def sections(self) -> Iterator[tuple[str, Any]]:
        """The sections it has, with their names in the file."""
        for name in SECTIONS:
            section = getattr(self, name.removeprefix("memory."))
            if section is not None:
                yield name, section

    @property
    def _foreign(self) -> tuple[str, ...]:
        """Keys of [array] that are for the other kind of array."""
        return KIND_KEYS["mma" if self.array.kind == "ws" else "ws"]

    def number_keys(self) -> list[str]:
        """Keys of every number: those which need a source."""
        keys = ["target.clock_ghz", "memory.line_rows"]
        for name, section in self.sections():
            for field in dataclasses.fields(section):
                value = getattr(section, field.name)
                if type(value) in (int, float) and not (name == "array" and field.name in self._foreign):
                    keys.append(f"{name}.{field.name}")
        keys += [f"energy.mac_pj.{element_type}" for element_type, _ in self.energy.mac_pj]
        return keys

    def to_toml(self) -> str:
        """The text of a file that reads back as this target."""
        array = self.array
        lines = ["[target]"]
        lines += [f"{key} = {toml_text(getattr(self, key))}" for key in OWN_KEYS["target"]]
        for name, section in self.sections():
            if name == "memory.spad":
                lines += ["", "[memory]", f"line_rows = {self.line_rows}"]
            lines += ["", f"[{name}]"]
            for field in dataclasses.fields(section):
                if name == "array" and field.name in self._foreign:
                    continue
                value = getattr(section, field.name)
                if field.name == "types":
                    value = [":".join(pair) for pair in array.types]
                lines.append(f"{field.name} = {toml_text(value)}")
        lines += ["", "[sources]"]
        lines += [f"{toml_text(pattern)} = {toml_text(source)}" for pattern, source in self.sources]
        return "\n".join(lines) + "\n"

    def __str__(self) -> str:
        array = self.array
        m, n, k = self.unit
        memories = [f"spad {size_text(self.spad.bytes)}", f"acc {size_text(self.acc.bytes)}"]
        memories += [
            f"{name} {size_text(m.bytes)}" for name, m in (("l0a", self.l0a), ("l0b", self.l0b)) if m
        ]
        more: list[str] = []
        if self.indexed:
            read, add = self.indexed.read_cycles, self.indexed.accumulate_cycles
            more.append(f"  indexed  read +{read} cycles/row, accumulate +{add} cycles/row")
        if self.structured:
            more.append(
                f"  N:M      weights {', '.join(map(str, self.kept_patterns))}, compressed (TU.SPMMA)"
            )
        if self.scatter_add:
            more.append(f"  scatter  adds in memory, +{self.scatter_add.row_cycles} cycles/row")
        types = ", ".join(f"{'*' if i == self.in_type else ''}{i}:{a}" for i, a in array.types)
        return "\n".join(
            (
                f"{self.name}: {array.kind} {array.rows} x {array.cols}, unit {m} x {n} x {k}, "
                f"{self.clock_ghz:g} GHz",
                f"  types    {types}",
                f"  memories {', '.join(memories)}",
                f"  dma      {self.dma.bytes_per_cycle:g} B/cycle, latency {self.dma.latency} cycles",
                *more,
                f"  energy   {self.mac_pj:g} pJ/MAC, dram {self.energy.dram_pj_per_byte:g} pJ/B, "
                f"spad {self.energy.spad_pj_per_byte:g} pJ/B",
                f"  assumed  {', '.join(self.assumed) or 'nothing'}",
            )
        )
