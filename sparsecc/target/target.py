"""A target: one accelerator, read from a TOML file and kept as a frozen, hashable value.

Every number of a target carries where it comes from, or the word "assumed"; a file that leaves one
out is refused. The fields mirror `ax_config` of the simulator (runtime/axsim/axsim.h) one to one.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_type_hints

from sparsecc.errors import UserError
from sparsecc.target.document import (
    ASSUMED,
    Amount,
    Bytes,
    Count,
    Document,
    Picojoules,
    Range,
    Width,
    check_name,
    check_sources,
    fail,
    nearest,
    source_of,
    toml_text,
    wrong,
)
from sparsecc.target.structured import Kept, ScatterAdd, Structured, check_structured, kept_patterns

PRESETS = Path(__file__).parent / "presets"

ELEMENT_BYTES: Mapping[str, int] = {"i8": 1, "f16": 2, "bf16": 2, "f32": 4, "i32": 4}
# An input type and the type it is accumulated in: the pairs the simulator can compute.
TYPE_PAIRS: Mapping[str, str] = {"i8": "i32", "f16": "f32", "bf16": "f32", "f32": "f32"}

INDEX_BYTES = 2  # of a number in a list of rows in SPAD
ADDRESS_ROWS = 2**30  # the top two bits of an on-chip address name the memory


@dataclass(frozen=True)
class Array:
    """The unit that multiplies.

    `ws`: weight-stationary systolic array of rows x cols; TU.PRE loads a tile, TU.MM streams rows.
    `mma`: TU.MMA multiplies fragments of mma_m x mma_n x mma_k, one every `interval` cycles.
    """

    kind: Literal["ws", "mma"]
    rows: Count
    """R: extent of k of one instruction."""
    cols: Count
    """C: extent of n of one instruction, and the elements of one row of every on-chip memory."""
    types: tuple[tuple[str, str], ...]
    """Pairs of input and accumulator type."""
    in_type: str
    """The input type in use: the first of a pair of `types`."""
    pe_double_buffer: bool = False
    """ws: the next stationary tile loads while the present one is used."""
    fill_in_occupancy: bool = False
    """ws: a TU.MM holds the array while it fills and drains, as SCALE-Sim counts."""
    min_rows: Amount = 0
    """ws: least cycles of a TU.MM."""
    mma_m: Amount = 0
    mma_n: Amount = 0
    mma_k: Amount = 0
    interval: Amount = 0
    """mma: cycles between two fragments."""
    latency: Amount = 0
    """mma: cycles from the last fragment to its result."""


@dataclass(frozen=True)
class Memory:
    """One on-chip memory."""

    bytes: Bytes


@dataclass(frozen=True)
class Dma:
    """The channel to off-chip memory; its width holds in each direction."""

    bytes_per_cycle: Width
    latency: Amount
    """Cycles from the last byte to completion."""
    max_burst: Count
    """Bytes of one request at most."""
    row_overhead: Amount
    """Cycles lost per request of a strided transfer."""
    gather_overhead: Amount
    """Cycles lost per request of a transfer by index."""


@dataclass(frozen=True)
class Move:
    """The channel between on-chip memories."""

    bytes_per_cycle: Width
    latency: Amount


@dataclass(frozen=True)
class Vector:
    """The element-wise unit: `lanes` elements per cycle."""

    lanes: Count
    latency: Amount


@dataclass(frozen=True)
class Indexed:
    """ws: rows of the scratchpad and of the accumulators by index, with TU.PREX and TU.MMX."""

    read_cycles: Amount
    """More cycles of a TU.PREX for each of its rows."""
    accumulate_cycles: Amount
    """More cycles of a TU.MMX for each of its rows."""
    read_pj: Picojoules
    """Energy to address one row of a TU.PREX, in picojoules."""
    accumulate_pj: Picojoules
    """Energy to address one row of a TU.MMX, in picojoules."""


@dataclass(frozen=True)
class Queues:
    """Entries of the issue queues, and cycles between two issued instructions."""

    load: Count
    execute: Count
    store: Count
    issue_gap: Amount


@dataclass(frozen=True)
class Timing:
    """What the simulator reports: the number of cycles, or the index of the last one (as SCALE-Sim)."""

    count: Literal["cycles", "last_index"]


@dataclass(frozen=True)
class Energy:
    """Energy of one event, in picojoules."""

    mac_pj: tuple[tuple[str, float], ...]
    """One multiply-accumulate, per input type."""
    reg_pj_per_byte: Picojoules
    spad_pj_per_byte: Picojoules
    acc_pj_per_byte: Picojoules
    l0_pj_per_byte: Picojoules
    dram_pj_per_byte: Picojoules
    alu_pj: Picojoules
    """One element of a vector operation."""


# Sections of the TOML file that are one dataclass each. [target] and [memory] itself are the Target's own.
SECTIONS: Mapping[str, type] = {
    "array": Array,
    "memory.spad": Memory,
    "memory.acc": Memory,
    "memory.l0a": Memory,
    "memory.l0b": Memory,
    "dma": Dma,
    "move": Move,
    "vector": Vector,
    "indexed": Indexed,
    "structured": Structured,
    "scatter_add": ScatterAdd,
    "queues": Queues,
    "timing": Timing,
    "energy": Energy,
}
OWN_KEYS = {"target": ("name", "family", "clock_ghz"), "memory": ("line_rows",)}
OPTIONAL_SECTIONS = ("memory.l0a", "memory.l0b", "indexed", "structured", "scatter_add")
OPTIONAL_KEYS = ("in_type", "pe_double_buffer", "fill_in_occupancy")
KIND_KEYS = {"ws": ("min_rows",), "mma": ("mma_m", "mma_n", "mma_k", "interval", "latency")}


@dataclass(frozen=True)
class Target:
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

    def __post_init__(self):
        _check_values(self)
        _check_array(self)
        _check_memories(self)
        _check_indexed(self)
        check_structured(self, self.structured, self.array.kind, self.array.mma_k)
        check_sources(self, _numbers(self))

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

    def source(self, key: str) -> str:
        """Where the number at a key such as "dma.latency" comes from."""
        if key not in _numbers(self):
            raise UserError(f"target {self.name} has no number '{key}'{nearest(key, _numbers(self))}")
        return source_of(self.sources, key)

    @property
    def assumed(self) -> tuple[str, ...]:
        """Keys of the numbers nobody has published."""
        return tuple(key for key in _numbers(self) if self.source(key).startswith(ASSUMED))

    def to_toml(self) -> str:
        """The text of a file that reads back as this target."""
        array = self.array
        foreign = KIND_KEYS["mma" if array.kind == "ws" else "ws"]
        lines = ["[target]"]
        lines += [f"{key} = {toml_text(getattr(self, key))}" for key in OWN_KEYS["target"]]
        for name, section in _sections(self):
            if name == "memory.spad":
                lines += ["", "[memory]", f"line_rows = {self.line_rows}"]
            lines += ["", f"[{name}]"]
            for field in dataclasses.fields(section):
                if name == "array" and field.name in foreign:
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


def _sections(target: Target) -> Iterator[tuple[str, Any]]:
    """The sections a target has, with their names in the file."""
    for name in SECTIONS:
        section = getattr(target, name.removeprefix("memory."))
        if section is not None:
            yield name, section


def _numbers(target: Target) -> list[str]:
    """Keys of every number of a target: those which need a source."""
    keys = ["target.clock_ghz", "memory.line_rows"]
    foreign = KIND_KEYS["mma" if target.array.kind == "ws" else "ws"]
    for name, section in _sections(target):
        for field in dataclasses.fields(section):
            value = getattr(section, field.name)
            if type(value) in (int, float) and not (name == "array" and field.name in foreign):
                keys.append(f"{name}.{field.name}")
    keys += [f"energy.mac_pj.{element_type}" for element_type, _ in target.energy.mac_pj]
    return keys


def size_text(count: int) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024 or count % 1024:
            return f"{count} {unit}"
        count //= 1024
    return f"{count} GiB"


# Checks of a target, however it came about. --------------------------------------------------------


def _check_values(target: Target):
    """Type and range of every field, as its annotation says."""

    check_name(target)
    owners = [("target" if key in OWN_KEYS["target"] else "memory", target, key) for key in _OWN_FIELDS]
    for name, section in _sections(target):
        owners += [(name, section, field.name) for field in dataclasses.fields(section)]
    for name, section, field in owners:
        if problem := wrong(_HINTS[type(section)][field], getattr(section, field)):
            fail(target, f"{name}.{field}", problem)
    for element_type, number in target.energy.mac_pj:
        if problem := wrong(Picojoules, number):
            fail(target, f"energy.mac_pj.{element_type}", problem)


def _check_array(target: Target):
    """The element types, and what the two kinds of array need."""
    array = target.array

    if not array.types:
        fail(target, "array.types", 'found none, needed at least one pair such as "i8:i32"')
    inputs = [pair[0] for pair in array.types]
    for in_type, acc_type in array.types:
        pair = f"{in_type}:{acc_type}"
        if TYPE_PAIRS.get(in_type) != acc_type:
            known = [":".join(item) for item in TYPE_PAIRS.items()]
            fail(
                target,
                "array.types",
                f"found '{pair}', needed one of {', '.join(known)}{nearest(pair, known)}",
            )
        if inputs.count(in_type) > 1:
            fail(target, "array.types", f"found '{in_type}' twice, needed each input type once; remove one")
        if in_type not in dict(target.energy.mac_pj):
            fail(
                target,
                "energy.mac_pj",
                f"found no '{in_type}', needed one for each of array.types; add {in_type} = ...",
            )
    if array.in_type not in inputs:
        fail(
            target,
            "array.in_type",
            f"found '{array.in_type}', needed an input type of array.types: {', '.join(inputs)}",
        )
    energies = [element_type for element_type, _ in target.energy.mac_pj]
    for element_type in energies:
        if element_type not in TYPE_PAIRS:
            known = list(TYPE_PAIRS)
            near = nearest(element_type, known)
            fail(target, "energy.mac_pj", f"found '{element_type}', needed only {', '.join(known)}{near}")
        if energies.count(element_type) > 1:
            fail(target, "energy.mac_pj", f"found '{element_type}' twice, needed each type once; remove one")

    if array.kind == "ws" and array.rows != array.cols:
        fail(
            target,
            "array.rows",
            f"found rows = {array.rows} with cols = {array.cols}, needed rows = cols for kind 'ws', because "
            "a scratchpad row holds one row of either operand; make the two equal",
        )
    for key in KIND_KEYS["mma"]:
        value = cast(int, getattr(array, key))
        if array.kind == "ws" and value:
            fail(
                target,
                f"array.{key}",
                f"found {value} for kind 'ws', needed kind 'mma'; remove it or change array.kind",
            )
        if array.kind == "mma" and key != "latency" and value < 1:
            fail(target, f"array.{key}", f"found {value}, needed a whole number at least 1 for kind 'mma'")
    if array.kind == "mma":
        for key in ("pe_double_buffer", "fill_in_occupancy", "min_rows"):
            if value := getattr(array, key):
                fail(target, f"array.{key}", f"found {value!r} for kind 'mma', needed kind 'ws'; remove it")


def _check_memories(target: Target):
    """Which memories there are, and what each must hold, whatever element type is in use."""
    array = target.array

    for name in ("l0a", "l0b"):
        present = getattr(target, name) is not None
        if array.kind == "mma" and not present:
            fail(
                target,
                f"memory.{name}",
                f"found nothing, needed for kind 'mma'; add [memory.{name}] with its bytes",
            )
        if array.kind == "ws" and present:
            fail(
                target,
                f"memory.{name}",
                "found for kind 'ws', needed only for kind 'mma'; remove the section",
            )

    m, n, k = target.unit

    def tile_rows(rows: int, cols: int) -> int:
        return rows * -(-cols // array.cols)

    operands = max(tile_rows(m, k), tile_rows(k, n))
    tiles = (
        ("spad", target.spad, operands),
        ("acc", target.acc, tile_rows(m, n)),
        ("l0a", target.l0a, tile_rows(m, k)),
        ("l0b", target.l0b, tile_rows(k, n)),
    )
    for in_type, acc_type in array.types:
        for name, memory, rows in tiles:
            if memory is None:
                continue
            key = f"memory.{name}.bytes"
            element_type = acc_type if name == "acc" else in_type
            row = array.cols * ELEMENT_BYTES[element_type]
            what = f"rows of {row} bytes ({array.cols} elements of {element_type})"
            if memory.bytes % row:
                fail(target, key, f"found {memory.bytes}, needed a whole number of {what}; round it to {row}")
            found = memory.bytes // row
            if found < 2 * rows:
                fail(
                    target,
                    key,
                    f"found {memory.bytes}, needed two tiles of {rows} {what} to load one while the other is "
                    f"used; make it at least {2 * rows * row}",
                )
            if found > ADDRESS_ROWS:
                fail(
                    target,
                    key,
                    f"found {found} {what}, needed at most {ADDRESS_ROWS} because addresses have 30 bits",
                )
            if found % target.line_rows:
                fail(
                    target,
                    "memory.line_rows",
                    f"found {target.line_rows}, needed a divisor of the {found} {what} of {name}; use one",
                )


def _check_indexed(target: Target):
    """Rows by index: which array can use them, and whether a row has room for an index."""
    if target.indexed is None:
        return
    if target.array.kind != "ws":
        fail(target, "indexed", "found for kind 'mma', needed only for kind 'ws'; remove the section")
    smallest = min(ELEMENT_BYTES[in_type] for in_type, _ in target.types)
    if (found := target.array.cols * smallest) < INDEX_BYTES:
        fail(
            target,
            "indexed",
            f"found scratchpad rows of {found} byte, needed {INDEX_BYTES} bytes for an index; make "
            "array.rows and array.cols larger or remove the section",
        )


_OWN_FIELDS = ("family", "clock_ghz", "line_rows")
_HINTS = {cls: get_type_hints(cls, include_extras=True) for cls in (Target, *SECTIONS.values())}


# Reading. --------------------------------------------------------------------------------------------


class TensorDocument(Document):
    """A TOML file on its way to a Target of tensor units."""

    def target(self) -> Target:
        """The target, or TargetError at the line of the key that is wrong."""
        return self.made(Target, OWN_KEYS, SECTIONS)

    def section(self, name: str, cls: type) -> Any:
        """The dataclass of one section; None for an optional section that is not there."""
        above, _, key = name.rpartition(".")
        if name in OPTIONAL_SECTIONS and key not in (self.table(above) if above else self.tables):
            return None
        optional: set[str] = set(OPTIONAL_KEYS)
        if name == "array":
            kind = self.take(name, self.table(name), "kind")
            for other, theirs in KIND_KEYS.items():
                if other != kind:
                    optional.update(theirs)
        values = self.fields(name, cls, optional)
        if cls is Array:
            values["types"] = self._types(values["types"])
            values.setdefault("in_type", values["types"][0][0] if values["types"] else "")
        if cls is Energy:
            values["mac_pj"] = self._pairs("energy.mac_pj", values["mac_pj"], "{ i8 = 0.2 }")
        return cls(**values)

    def _types(self, value: Any) -> tuple[tuple[str, str], ...]:
        """array.types: a list of "input:accumulator"."""
        pairs: list[tuple[str, str]] = []
        for item in cast(list[Any], value) if isinstance(value, list) else [value]:
            parts = item.split(":") if isinstance(item, str) and isinstance(value, list) else ()
            if len(parts) != 2:
                raise self.error("array.types", f'found {item!r}, needed a list of pairs such as ["i8:i32"]')
            pairs.append((parts[0], parts[1]))
        return tuple(pairs)

    def _pairs(self, key: str, value: Any, example: str) -> tuple[tuple[str, Any], ...]:
        """A table of names as pairs; whole numbers become floats."""
        if not isinstance(value, dict):
            raise self.error(key, f"found {value!r}, needed a table such as {example}")
        items = cast(dict[str, Any], value).items()
        return tuple((name, float(item) if type(item) is int else item) for name, item in items)
