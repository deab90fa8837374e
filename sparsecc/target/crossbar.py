"""A target with memristor crossbars, read from a TOML file and kept as a frozen, hashable value.

As for tensor units, every number carries where it comes from, or the word "assumed".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from sparsecc.errors import UserError
from sparsecc.target.crossbar_checks import check_crossbar
from sparsecc.target.crossbar_sections import (
    OWN_KEYS,
    SECTIONS,
    TIMING_KEYS,
    Adc,
    Array,
    CrossbarEnergy,
    Dac,
    Numbers,
    Pipeline,
    Program,
)
from sparsecc.target.document import Count, Range, Sourced, toml_text
from sparsecc.target.sections import ELEMENT_BYTES, Dma, Memory, Move, Queues, Vector, size_text


@dataclass(frozen=True)
class CrossbarTarget(Sourced):
    """One accelerator with memristor crossbars. Raises TargetError when it is not consistent."""

    name: str
    family: Literal["crossbar"]
    clock_ghz: Annotated[float, Range(0, 1000, above=True)]
    array: Array
    numbers: Numbers
    dac: Dac
    adc: Adc
    pipeline: Pipeline
    program: Program
    spad: Memory
    acc: Memory
    row_elements: Count
    """Positions of one feature in one row of SPAD and ACC."""
    line_rows: Count
    """Rows of one scoreboard line."""
    dma: Dma
    move: Move
    vector: Vector
    queues: Queues
    energy: CrossbarEnergy
    sources: tuple[tuple[str, str], ...]
    """Pattern of keys, and where these come from."""

    def __post_init__(self):
        check_crossbar(self)

    in_type = "i8"
    acc_type = "i32"

    def with_type(self, in_type: str) -> CrossbarTarget:
        """This target, used with an input type. Raises UserError for one it does not have."""
        if in_type != self.in_type:
            raise UserError(f"input type {in_type} is not one of target {self.name}; it has {self.in_type}")
        return self

    @property
    def differential(self) -> bool:
        """Whether a cell is a pair of devices with a signed level."""
        return self.array.encoding == "differential"

    @property
    def level_max(self) -> int:
        """The highest level of a cell; with differential encoding, the lowest is its negative."""
        return 2**self.array.cell_bits - 1

    @property
    def slices(self) -> int:
        """Slices of a weight: arrays that hold one weight."""
        bits = self.numbers.weight_bits - (1 if self.differential else 0)
        return -(-bits // self.array.cell_bits)

    @property
    def weight_offset(self) -> int:
        """What is added to weights before they are sliced: 2^(weight_bits - 1); 0 where they have signs."""
        return 0 if self.differential else 2 ** (self.numbers.weight_bits - 1)

    @property
    def most_arrays(self) -> int:
        """Arrays that the cells of the chip make, all of the smallest shape."""
        array = self.array
        cells = array.count * array.rows * array.cols
        return max(cells // (rows * cols) for rows, cols in array.shapes)

    @property
    def unit(self) -> tuple[int, int, int]:
        """(m, n, k) of the dense block that one array, or its operation unit, multiplies in one step."""
        array = self.array
        return (array.ou_cols or array.cols, 1, array.ou_rows or array.rows)

    def steps(self, input_bits: int | None = None, doubled: bool = False) -> int:
        """Steps of one vector: digits of an input, and one more when some inputs count twice."""
        bits = (input_bits or self.numbers.input_bits) - (1 if self.differential else 0)
        return -(-(bits + doubled) // self.dac.bits)

    def adc_limit(self, bits: int) -> int:
        """The largest sum (or magnitude, where sums have signs) that an ADC of so many bits does not clip."""
        return 2 ** (bits - 1) - 1 if self.differential else 2**bits - 1

    def adc_bits_for(self, largest: int) -> int:
        """The fewest bits of which an ADC holds sums up to `largest` (a magnitude, where sums have signs)."""
        return max(int(largest).bit_length() + (1 if self.differential else 0), 2 if self.differential else 1)

    def adc_cycles(self, bits: int) -> float:
        """Cycles of one conversion."""
        return self.adc.cycles + bits * self.adc.cycles_per_bit

    def adc_pj(self, bits: int) -> float:
        """Energy of one conversion, in picojoules."""
        return self.energy.adc_pj + bits * self.energy.adc_pj_per_bit

    @property
    def spad_rows(self) -> int:
        """Rows of the input buffer, of `row_elements` int8 each."""
        return self.spad.bytes // (self.row_elements * ELEMENT_BYTES[self.in_type])

    @property
    def acc_rows(self) -> int:
        """Rows of the sums, of `row_elements` int32 each."""
        return self.acc.bytes // (self.row_elements * ELEMENT_BYTES[self.acc_type])

    def sections(self) -> Iterator[tuple[str, Any]]:
        """The sections, with their names in the file."""
        for name in SECTIONS:
            yield name, getattr(self, name.removeprefix("memory."))

    def foreign(self, name: str) -> tuple[str, ...]:
        """Keys of a section that the target has no use for."""
        if name == "pipeline":
            return TIMING_KEYS["pimsim" if self.pipeline.timing == "stages" else "stages"]
        return ("digitised",) if name == "array" and not self.differential else ()

    def number_keys(self) -> list[str]:
        """Keys of every number: those which need a source."""
        keys = ["target.clock_ghz", "memory.row_elements", "memory.line_rows"]
        for name, section in self.sections():
            for field in dataclasses.fields(section):
                value = getattr(section, field.name)
                if type(value) in (int, float) and field.name not in self.foreign(name):
                    keys.append(f"{name}.{field.name}")
        return keys

    def to_toml(self) -> str:
        """The text of a file that reads back as this target."""
        lines = ["[target]"]
        lines += [f"{key} = {toml_text(getattr(self, key))}" for key in OWN_KEYS["target"]]
        for name, section in self.sections():
            if name == "memory.spad":
                lines += ["", "[memory]"]
                lines += [f"{key} = {toml_text(getattr(self, key))}" for key in OWN_KEYS["memory"]]
            lines += ["", f"[{name}]"]
            for field in dataclasses.fields(section):
                if field.name in self.foreign(name):
                    continue
                value = getattr(section, field.name)
                if field.name == "shapes":
                    value = [list(shape) for shape in self.array.shapes]
                lines.append(f"{field.name} = {toml_text(value)}")
        lines += ["", "[sources]"]
        lines += [f"{toml_text(pattern)} = {toml_text(source)}" for pattern, source in self.sources]
        return "\n".join(lines) + "\n"

    def __str__(self) -> str:
        array, adc = self.array, self.adc
        pair = ", pairs of devices" if self.differential else ""
        lines = [
            f"{self.name}: {array.count} crossbars of {array.rows} x {array.cols}, "
            f"{array.cell_bits}-bit cells, {self.clock_ghz:g} GHz",
            f"  weights  {self.numbers.weight_bits} bits in {self.slices} slices, {array.encoding}{pair}",
            f"  inputs   {self.numbers.input_bits} bits in {self.steps()} steps of at least "
            f"{array.read_cycles:g} cycles",
            f"  adc      {adc.bits} bits, {adc.lanes} for {adc.arrays} array{'s' * (adc.arrays > 1)}, "
            f"{self.adc_cycles(adc.bits):g} cycles, {self.adc_pj(adc.bits):g} pJ",
        ]
        if array.ou_rows or array.ou_cols:
            m, _, k = self.unit
            lines.append(f"  unit     {k} rows x {m} columns at once")
        if len(array.shapes) > 1:
            lines.append(f"  shapes   {', '.join(f'{rows} x {cols}' for rows, cols in array.shapes)}")
        lines += [
            f"  program  {self.program.pulses * self.program.row_cycles:g} cycles/row, "
            f"{self.program.pulses * self.energy.write_pj:g} pJ/device, {self.program.lanes} arrays at once",
            f"  memories spad {size_text(self.spad.bytes)}, acc {size_text(self.acc.bytes)}",
            f"  dma      {self.dma.bytes_per_cycle:g} B/cycle, latency {self.dma.latency} cycles",
            f"  energy   array {self.energy.array_pj:g} pJ/step, dram {self.energy.dram_pj_per_byte:g} pJ/B, "
            f"spad {self.energy.spad_pj_per_byte:g} pJ/B",
            f"  assumed  {', '.join(self.assumed) or 'nothing'}",
        ]
        return "\n".join(lines)
