"""Reading chips that PIMCOMP-NN and PIMSIM-NN describe (config.json).

Keys and their defaults are those of PIMSIM-NN's src/config/Config.hpp; times are in cycles of `period`
nanoseconds, powers in milliwatts.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, NoReturn, cast

from sparsecc.errors import UserError
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.crossbar_sections import Adc, Array, CrossbarEnergy, Dac, Numbers, Pipeline, Program
from sparsecc.target.document import ASSUMED, TargetError
from sparsecc.target.sections import Dma, Memory, Move, Queues, Vector

ROW_ELEMENTS = 32  # assumed, as the other numbers below that the file does not hold
LINE_ROWS = 16
WRITE_CYCLES, WRITE_PJ = 85.7, 1.38

GIVEN = "PIMCOMP config.json"
SOURCES = {
    "*": f"{ASSUMED}: not in {GIVEN}",
    "target.clock_ghz": f"{GIVEN}: period",
    "array.count": f"{GIVEN}: xbar_array_count x core_cnt",
    "array.rows": f"{GIVEN}: xbar_size",
    "array.cols": f"{GIVEN}: xbar_size",
    "array.cell_bits": f"{GIVEN}: cell_precision",
    "array.read_cycles": f"{GIVEN}: xbar_latency",
    "dac.bits": f"{GIVEN}: dac_resolution",
    "dac.lanes": f"{GIVEN}: dac_count",
    "adc.bits": f"{GIVEN}: adc_resolution",
    "adc.lanes": f"{GIVEN}: adc_count",
    "adc.arrays": f"{GIVEN}: adc_count is of one array",
    "adc.cycles": f"{GIVEN}: adc_latency_cycle",
    "adc.cycles_per_bit": f"{GIVEN}: adc_latency_cycle is of all bits",
    "pipeline.*": f"{GIVEN}, and the defaults of PIMSIM-NN src/config/Config.hpp",
    "pipeline.io_cycles": f"{GIVEN}: local memory, one vector of bytes in and one out",
    "pipeline.index_cycles": f"{ASSUMED}: not in {GIVEN}",
    "dma.bytes_per_cycle": f"{GIVEN}: global memory data_width",
    "dma.latency": f"{GIVEN}: global memory read_latency_cycle",
    "vector.*": f"{GIVEN}: vector_width, vector_latency_cycle",
    "energy.dac_pj": f"{GIVEN}: dac_dynamic_power, input buffer left out",
    "energy.array_pj": f"{GIVEN}: xbar_read_power x xbar_latency",
    "energy.adc_pj": f"{GIVEN}: adc_dynamic_power x adc_latency_cycle",
    "energy.adc_pj_per_bit": f"{GIVEN}: adc_dynamic_power is of all bits",
    "energy.shift_add_pj": f"{GIVEN}: shift_adder_dynamic_power, output_buffer_dynamic_power",
}
# Where the numbers of a target are in the file, for messages.
MATRIX, CORE = "chip_config.core_config.matrix_config", "chip_config.core_config"
KEYS = {
    "array.count": f"{MATRIX}.xbar_array_count",
    "array.rows": f"{MATRIX}.xbar_size",
    "array.cols": f"{MATRIX}.xbar_size",
    "array.cell_bits": f"{MATRIX}.cell_precision",
    "array.read_cycles": f"{MATRIX}.xbar_latency",
    "dac.bits": f"{MATRIX}.dac_resolution",
    "dac.lanes": f"{MATRIX}.dac_count",
    "adc.bits": f"{MATRIX}.adc_resolution",
    "adc.lanes": f"{MATRIX}.adc_count",
    "target.clock_ghz": f"{MATRIX}.period",
    "vector.lanes": f"{CORE}.vector_width",
}


class _Config:
    """A JSON object, with its place for messages."""

    def __init__(self, path: Path, where: str, value: Any):
        self.path = path
        self.where = where
        if not isinstance(value, dict):
            self.fail("", f"found {value!r}, needed an object")
        self.value = cast(dict[str, Any], value)

    def fail(self, key: str, problem: str) -> NoReturn:
        """Refuses the file for what it says at a key."""
        place = ".".join(part for part in (self.where, key) if part) or "the file"
        raise UserError(f"{self.path}: {place}: {problem}; correct it as PIMCOMP's config.json has it")

    def inside(self, key: str) -> _Config:
        """An object that must be there."""
        if key not in self.value:
            self.fail(key, "found nothing, needed an object")
        return _Config(self.path, f"{self.where}.{key}" if self.where else key, self.value[key])

    def number(self, key: str, default: float) -> float:
        """A number, at least 0."""
        value = self.value.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            self.fail(key, f"found {value!r}, needed a number at least 0")
        return float(value)

    def whole(self, key: str, default: int, least: int = 0) -> int:
        """A whole number."""
        value = self.value.get(key, default)
        if type(value) is not int or value < least:
            self.fail(key, f"found {value!r}, needed a whole number at least {least}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.value.get(key, default)
        if not isinstance(value, bool):
            self.fail(key, f"found {value!r}, needed true or false")
        return value

    def pair(self, key: str) -> tuple[int, int]:
        """Two whole numbers."""
        value = self.value.get(key)
        numbers = cast(list[Any], value) if isinstance(value, list) else []
        if len(numbers) != 2 or not all(type(number) is int and number > 0 for number in numbers):
            self.fail(key, f"found {value!r}, needed two whole numbers such as [128, 128]")
        return (numbers[0], numbers[1])


def import_pimcomp(path: Path) -> CrossbarTarget:
    """The chip a config.json of PIMCOMP describes. Raises UserError, which names file, key, found and needed.

    Cells have offset encoding and inputs 8 bits. What the file does not hold (writing of cells, buffers of
    whole cores, off-chip memory) is assumed, and said to be in the target's sources.
    """
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"{path}: cannot be read ({reason}); give the path of a config.json", 2) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON: {error}; correct the syntax") from None
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", path.stem)
    try:
        return _target(
            name if re.match(r"[A-Za-z]", name) else f"pimcomp-{name}",
            _Config(path, "", raw).inside("chip_config"),
        )
    except TargetError as error:
        raise UserError(f"{path}: {KEYS.get(error.key, error.key)}: {error.problem}") from None


def _target(name: str, chip: _Config) -> CrossbarTarget:
    """The target of a chip_config. Raises TargetError where the numbers do not hold together."""
    core = chip.inside("core_config")
    matrix = core.inside("matrix_config")
    local, far = core.inside("local_memory_config"), chip.inside("global_memory_config")
    cores = chip.whole("core_cnt", 1, 1)
    rows, cols = matrix.pair("xbar_size")
    period = matrix.number("period", 1 / 1.28)
    core_period = core.number("period", 1.0)
    if not period > 0 or period != core_period:
        matrix.fail(
            "period", f"found {period:g} with core_config.period {core_period:g}, needed the same, above 0"
        )
    adc_bits = matrix.whole("adc_resolution", 1, 1)
    adc_pj = matrix.number("adc_dynamic_power", 0) * matrix.whole("adc_latency_cycle", 1) * period
    # One shifter and one output buffer serve the converters in turn.
    accumulate_pj = sum(
        matrix.number(f"{part}_dynamic_power", 0) * matrix.whole(f"{part}_latency_cycle", 1) * period
        for part in ("shift_adder", "output_buffer")
    )
    lanes = matrix.whole("adc_count", 1, 1)
    width = local.whole("data_width", 16, 1)
    reads = local.whole("read_latency_cycle", 8) + math.ceil(rows / width)
    writes = local.whole("write_latency_cycle", 10) + math.ceil(cols / width)
    return CrossbarTarget(
        name=name,
        family="crossbar",
        clock_ghz=1 / period,
        array=Array(
            count=cores * matrix.whole("xbar_array_count", 1, 1),
            rows=rows,
            cols=cols,
            shapes=((rows, cols),),
            cell_bits=matrix.whole("cell_precision", 2, 1),
            encoding="offset",
            digitised="together",
            read_cycles=float(math.ceil(matrix.number("xbar_latency", 30.0) / period)),
        ),
        numbers=Numbers(weight_bits=8, input_bits=8),
        dac=Dac(bits=matrix.whole("dac_resolution", 1, 1), lanes=matrix.whole("dac_count", 128, 1)),
        adc=Adc(
            bits=adc_bits,
            lanes=lanes,
            arrays=1,
            cycles=float(matrix.whole("adc_latency_cycle", 1)),
            cycles_per_bit=0.0,
        ),
        pipeline=Pipeline(
            timing="pimsim",
            input_buffer_cycles=matrix.whole("input_buffer_latency_cycle", 0),
            dac_cycles=matrix.whole("dac_latency_cycle", 1),
            sample_hold_cycles=matrix.whole("sample_hold_latency_cycle", 1),
            shift_add_cycles=matrix.whole("shift_adder_latency_cycle", 1),
            output_buffer_cycles=matrix.whole("output_buffer_latency_cycle", 1),
            pipelined=matrix.flag("pipeline_mode", True),
            io_cycles=reads + writes,
            index_cycles=0,
        ),
        program=Program(row_cycles=WRITE_CYCLES / period, pulses=1, lanes=cores, endurance=math.inf),
        spad=Memory(bytes=cores * 65536),
        acc=Memory(bytes=cores * 65536),
        row_elements=ROW_ELEMENTS,
        line_rows=LINE_ROWS,
        dma=Dma(
            bytes_per_cycle=float(far.whole("data_width", 16, 1)),
            latency=far.whole("read_latency_cycle", 8),
            max_burst=64,
            row_overhead=0,
            gather_overhead=1,
        ),
        move=Move(bytes_per_cycle=float(width), latency=2),
        vector=Vector(lanes=core.whole("vector_width", 16, 1), latency=core.whole("vector_latency_cycle", 8)),
        queues=Queues(load=64, execute=4096, store=64, issue_gap=1),
        energy=CrossbarEnergy(
            dac_pj=period * matrix.number("dac_dynamic_power", 0) * matrix.whole("dac_latency_cycle", 1),
            array_pj=matrix.number("xbar_read_power", 0) * matrix.number("xbar_latency", 30.0),
            adc_pj=adc_pj,
            adc_pj_per_bit=0.0,
            shift_add_pj=accumulate_pj / lanes,
            write_pj=WRITE_PJ,
            index_pj=0.0,
            spad_pj_per_byte=0.639,
            acc_pj_per_byte=0.639,
            dram_pj_per_byte=64.0,
            alu_pj=0.1,
        ),
        sources=tuple(SOURCES.items()),
    )
