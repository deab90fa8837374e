"""A target with memristor crossbars, read from a TOML file and kept as a frozen, hashable value.

The sections mirror `ax_crossbar` of the simulator (runtime/axsim/crossbar.h). As for tensor units, every
number carries where it comes from, or the word "assumed".

A *slice* is what one array holds of a weight: `cell_bits` bits of it. With differential encoding a weight is
a sign and weight_bits - 1 bits of magnitude, and an array is a pair of arrays of devices, read as one; with
offset encoding it is w + 2^(weight_bits - 1), without a sign.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

from sparsecc.errors import UserError
from sparsecc.target.document import (
    Amount,
    Count,
    Document,
    Picojoules,
    Range,
    Sourced,
    check_fields,
    check_name,
    check_sources,
    fail,
    toml_text,
)
from sparsecc.target.sections import (
    ADDRESS_ROWS,
    ELEMENT_BYTES,
    Dma,
    Memory,
    Move,
    Queues,
    Vector,
    size_text,
)

MAX_ADC_BITS = 16  # the simulator's histogram has so many
MAX_SHAPES = 8

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
_OWN_FIELDS = ("family", "clock_ghz", "row_elements", "line_rows")


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
        check_name(self)
        _check_values(self)
        _check_cells(self)
        _check_shapes(self)
        _check_memories(self)
        check_sources(self, self.number_keys())

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

    def number_keys(self) -> list[str]:
        """Keys of every number: those which need a source."""
        keys = ["target.clock_ghz", "memory.row_elements", "memory.line_rows"]
        for name, section in _sections(self):
            for field in dataclasses.fields(section):
                value = getattr(section, field.name)
                if type(value) in (int, float) and field.name not in _foreign(self, name):
                    keys.append(f"{name}.{field.name}")
        return keys

    def to_toml(self) -> str:
        """The text of a file that reads back as this target."""
        lines = ["[target]"]
        lines += [f"{key} = {toml_text(getattr(self, key))}" for key in OWN_KEYS["target"]]
        for name, section in _sections(self):
            if name == "memory.spad":
                lines += ["", "[memory]"]
                lines += [f"{key} = {toml_text(getattr(self, key))}" for key in OWN_KEYS["memory"]]
            lines += ["", f"[{name}]"]
            for field in dataclasses.fields(section):
                if field.name in _foreign(self, name):
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


def _sections(target: CrossbarTarget) -> Iterator[tuple[str, Any]]:
    """The sections of a target, with their names in the file."""
    for name in SECTIONS:
        yield name, getattr(target, name.removeprefix("memory."))


def _foreign(target: CrossbarTarget, name: str) -> tuple[str, ...]:
    """Keys of a section that the target has no use for."""
    if name == "pipeline":
        return TIMING_KEYS["pimsim" if target.pipeline.timing == "stages" else "stages"]
    return ("digitised",) if name == "array" and not target.differential else ()


# Checks of a target, however it came about. --------------------------------------------------------


def _check_values(target: CrossbarTarget):
    """Type and range of every field, as its annotation says."""
    owners = [("target" if key in OWN_KEYS["target"] else "memory", target, key) for key in _OWN_FIELDS]
    for name, section in _sections(target):
        owners += [(name, section, field.name) for field in dataclasses.fields(section)]
    check_fields(target, owners)


def _check_cells(target: CrossbarTarget):
    """Cells against weights, and the ADC against cells."""
    array, adc, weights = target.array, target.adc, target.numbers.weight_bits
    if weights % array.cell_bits:
        divisors = [str(bits) for bits in range(1, 7) if weights % bits == 0]
        fail(
            target,
            "array.cell_bits",
            f"found {array.cell_bits} with weights of {weights} bits, needed a divisor of them; use one of "
            f"{', '.join(divisors)}, or change numbers.weight_bits",
        )
    largest = target.level_max * (2**target.dac.bits - 1)
    if target.adc_limit(adc.bits) < largest:
        fail(
            target,
            "adc.bits",
            f"found {adc.bits}, needed {target.adc_bits_for(largest)} for one cell of {array.cell_bits} bits "
            f"and one input digit of {target.dac.bits}: the ADC cannot resolve one cell; give it more bits, "
            "or cells or DAC fewer",
        )
    if target.dac.bits > 1 and not target.differential:
        fail(
            target,
            "dac.bits",
            f"found {target.dac.bits} for encoding 'offset', needed 1: the top bit of its inputs is "
            "negative, and a digit has one sign; use 1",
        )
    for key, most in (("ou_rows", array.rows), ("ou_cols", array.cols)):
        if (found := cast(int, getattr(array, key))) > most:
            fail(
                target,
                f"array.{key}",
                f"found {found}, needed at most array.{key.removeprefix('ou_')} = {most}, or 0 for all",
            )
    if not target.differential and array.digitised != "together":
        fail(
            target,
            "array.digitised",
            "found 'separately' for encoding 'offset', needed encoding 'differential'; remove it",
        )
    timing = target.pipeline.timing
    other = "pimsim" if timing == "stages" else "stages"
    for key in TIMING_KEYS[other]:
        if value := getattr(target.pipeline, key):
            fail(
                target,
                f"pipeline.{key}",
                f"found {value!r} for timing '{timing}', needed timing '{other}'; remove it",
            )
    if timing == "stages" and target.pipeline.stages < 1:
        fail(target, "pipeline.stages", "found 0, needed a whole number at least 1 for timing 'stages'")


def _check_shapes(target: CrossbarTarget):
    """The shapes an array may take: the usual one first."""
    array = target.array
    if not array.shapes or array.shapes[0] != (array.rows, array.cols):
        fail(
            target,
            "array.shapes",
            f"found {list(map(list, array.shapes))}, needed [{array.rows}, {array.cols}], which is "
            "array.rows and array.cols, as the first",
        )
    if len(set(array.shapes)) < len(array.shapes) or len(array.shapes) > MAX_SHAPES:
        fail(target, "array.shapes", f"found {len(array.shapes)}, needed at most {MAX_SHAPES}, all different")
    cells = array.count * array.rows * array.cols
    for rows, cols in array.shapes:
        if not (1 <= rows <= 65535 and 1 <= cols <= 65535 and rows * cols <= cells):
            fail(
                target,
                "array.shapes",
                f"found {rows} x {cols}, needed 1 to 65535 rows and columns and at most the {cells} cells of "
                "the chip",
            )


def _check_memories(target: CrossbarTarget):
    """Whole rows, at least two panels of an array's inputs, and two of its outputs."""
    array = target.array
    for name, memory, element_type, needed in (
        ("spad", target.spad, target.in_type, array.rows),
        ("acc", target.acc, target.acc_type, array.cols),
    ):
        key = f"memory.{name}.bytes"
        row = target.row_elements * ELEMENT_BYTES[element_type]
        what = f"rows of {row} bytes ({target.row_elements} elements of {element_type})"
        if memory.bytes % row:
            fail(target, key, f"found {memory.bytes}, needed a whole number of {what}; round it to {row}")
        found = memory.bytes // row
        if found < 2 * needed:
            fail(
                target,
                key,
                f"found {memory.bytes}, needed two panels of {needed} {what}, one to work on while the other "
                f"moves; make it at least {2 * needed * row}",
            )
        if found > ADDRESS_ROWS:
            fail(
                target,
                key,
                f"found {found} {what}, needed at most {ADDRESS_ROWS} because addresses have 30 bits",
            )


# Reading. --------------------------------------------------------------------------------------------


class CrossbarDocument(Document):
    """A TOML file on its way to a CrossbarTarget."""

    def target(self) -> CrossbarTarget:
        """The target, or TargetError at the line of the key that is wrong."""
        return self.made(CrossbarTarget, OWN_KEYS, SECTIONS)

    def section(self, name: str, cls: type) -> Any:
        """The dataclass of one section."""
        optional: set[str] = set(OPTIONAL_KEYS)
        if name == "pipeline":
            timing = self.take(name, self.table(name), "timing")
            for other, theirs in TIMING_KEYS.items():
                if other != timing:
                    optional.update(theirs)
        values = self.fields(name, cls, optional)
        if cls is Array:
            values.setdefault("digitised", "together")
            usual = ((values["rows"], values["cols"]),)
            values["shapes"] = self._shapes(values["shapes"]) if "shapes" in values else usual
        return cls(**values)

    def _shapes(self, value: Any) -> tuple[tuple[int, int], ...]:
        """array.shapes: a list of rows and columns."""
        shapes: list[tuple[int, int]] = []
        for item in cast(list[Any], value) if isinstance(value, list) else [value]:
            pair = cast(list[Any], item) if isinstance(item, list) else []
            if len(pair) != 2 or not all(type(number) is int for number in pair):
                raise self.error(
                    "array.shapes", f"found {item!r}, needed a list of rows and columns such as [[128, 128]]"
                )
            shapes.append((pair[0], pair[1]))
        return tuple(shapes)
