"""The sections of a target with memristor crossbars: one frozen dataclass each, as the TOML file has them.

The fields mirror `ax_crossbar` of the simulator (runtime/axsim/crossbar.h).

A *slice* is what one array holds of a weight: `cell_bits` bits of it. With differential encoding a weight is
a sign and weight_bits - 1 bits of magnitude, and an array is a pair of arrays of devices, read as one; with
offset encoding it is w + 2^(weight_bits - 1), without a sign.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from sparsecc.target.document import Amount, Count, Picojoules, Range
from sparsecc.target.sections import Dma, Memory, Move, Queues, Vector

MAX_ADC_BITS = 16  # the simulator's histogram has so many

Cycles = Annotated[float, Range(0, 1e12)]
Endurance = Annotated[float, Range(1, math.inf)]


@dataclass(frozen=True)
class Array:
    """The arrays of cells."""

    count: Count
    """Arrays of the chip; with differential encoding, pairs of arrays of devices."""
    rows: Annotated[int, Range(1, 65535)]
    """Inputs of one array."""
    cols: Annotated[int, Range(1, 65535)]
    """Outputs of one array, for one slice of each weight."""
    shapes: tuple[tuple[int, int], ...]
    """Rows and columns an array may have, the usual first; all have at most count * rows * cols cells."""
    cell_bits: Annotated[int, Range(1, 6)]
    encoding: Literal["differential", "offset"]
    digitised: Literal["together", "separately"]
    """differential: whether a pair of devices is subtracted before the ADC, or after two conversions."""
    read_cycles: Cycles
    """One step of an array: one digit of the inputs to all columns in use."""
    ou_rows: Amount = 0
    """Rows in use at once, the operation unit; 0: all."""
    ou_cols: Amount = 0
    """Columns in use at once; 0: all."""


@dataclass(frozen=True)
class Numbers:
    """Widths of the numbers that are multiplied."""

    weight_bits: Annotated[int, Range(2, 8)]
    input_bits: Annotated[int, Range(2, 8)]


@dataclass(frozen=True)
class Dac:
    """The drivers of the rows."""

    bits: Annotated[int, Range(1, 7)]
    """Bits of an input in one step."""
    lanes: Amount
    """Rows driven at once, in the timing of PIMSIM-NN; 0: all."""


@dataclass(frozen=True)
class Adc:
    """The converters of the columns. A conversion takes cycles + bits * cycles_per_bit."""

    bits: Annotated[int, Range(1, MAX_ADC_BITS)]
    """Bits of a conversion at most; an instruction may ask for fewer."""
    lanes: Count
    """Converters that `arrays` arrays share."""
    arrays: Count
    """Arrays, one after the other, that share the converters."""
    cycles: Cycles
    cycles_per_bit: Cycles


@dataclass(frozen=True)
class Pipeline:
    """How the steps of a multiplication follow each other.

    `stages`: n vectors of B steps take n * B * T cycles, T the longer of array and ADC, and (stages - 1) * T
    more until the last result is there. `pimsim`: the front and back stages of PIMSIM-NN.
    """

    timing: Literal["stages", "pimsim"]
    stages: Amount = 0
    input_buffer_cycles: Amount = 0
    dac_cycles: Amount = 0
    sample_hold_cycles: Amount = 0
    shift_add_cycles: Amount = 0
    output_buffer_cycles: Amount = 0
    pipelined: bool = False
    """pimsim: whether the front stage of a step overlaps the back stage of the one before."""
    io_cycles: Amount = 0
    """More for each vector: to read its inputs and write its results."""
    index_cycles: Amount = 0
    """More for each vector and row that is found by index."""


@dataclass(frozen=True)
class Program:
    """Writing cells, a row of an array at a time."""

    row_cycles: Cycles
    """One pulse on all cells of a row."""
    pulses: Count
    """Pulses for each cell: writes, and verifications."""
    lanes: Count
    """Arrays written at once."""
    endurance: Endurance
    """Writes that a cell stands; inf: not known."""


@dataclass(frozen=True)
class CrossbarEnergy:
    """Energy of one event, in picojoules."""

    dac_pj: Picojoules
    """One row and step."""
    array_pj: Picojoules
    """One step of all devices of one array; twice for a pair."""
    adc_pj: Picojoules
    adc_pj_per_bit: Picojoules
    """One conversion: adc_pj + bits * adc_pj_per_bit."""
    shift_add_pj: Picojoules
    """One conversion, shifted and added."""
    write_pj: Picojoules
    """One pulse on one device."""
    index_pj: Picojoules
    """One row found by index."""
    spad_pj_per_byte: Picojoules
    acc_pj_per_byte: Picojoules
    dram_pj_per_byte: Picojoules
    alu_pj: Picojoules
    """One element of a vector operation."""


SECTIONS: Mapping[str, type] = {
    "array": Array,
    "numbers": Numbers,
    "dac": Dac,
    "adc": Adc,
    "pipeline": Pipeline,
    "program": Program,
    "memory.spad": Memory,
    "memory.acc": Memory,
    "dma": Dma,
    "move": Move,
    "vector": Vector,
    "queues": Queues,
    "energy": CrossbarEnergy,
}
OWN_KEYS = {"target": ("name", "family", "clock_ghz"), "memory": ("row_elements", "line_rows")}
OPTIONAL_KEYS = ("shapes", "ou_rows", "ou_cols", "digitised", "index_cycles", "io_cycles")
TIMING_KEYS = {
    "stages": ("stages",),
    "pimsim": (
        "input_buffer_cycles",
        "dac_cycles",
        "sample_hold_cycles",
        "shift_add_cycles",
        "output_buffer_cycles",
        "pipelined",
    ),
}
