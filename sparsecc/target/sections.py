"""The sections of a target with a tensor unit: one frozen dataclass each, as the TOML file has them.

The fields mirror `ax_config` of the simulator (runtime/axsim/axsim.h) one to one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sparsecc.target.document import Amount, Bytes, Count, Picojoules, Width
from sparsecc.target.structured import ScatterAdd, Structured

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


def size_text(count: int) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024 or count % 1024:
            return f"{count} {unit}"
        count //= 1024
    return f"{count} GiB"
