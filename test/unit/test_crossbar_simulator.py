"""The simulator of crossbars: published figures, numpy, both ways to compute, noise, time, and messages."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import math
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sparsecc.target import CrossbarTarget, load_target
from sparsecc.target.crossbar_costs import durations
from sparsecc.target.crossbar_header import base_fields, crossbar_fields, crossbar_header
from sparsecc.target.crossbar_instructions import INSTRUCTIONS
from sparsecc.target.crossbar_noise import Noise
from sparsecc.target.crossbar_state import Block, CrossbarState
from sparsecc.target.numbers import acc, spad

Array = NDArray[Any]

SOURCES = Path(__file__).resolve().parents[2] / "sparsecc" / "runtime" / "axsim"
SELFTEST = Path(__file__).resolve().parent / "crossbar_selftest.c"
STRICT = ["-std=c11", "-Wall", "-Wextra", "-Werror"]
NO_DATA, TRACE, BIT_SERIAL = 1, 2, 4
I8, I32 = 0, 4
PRESETS = ("isaac128", "ou9x8", "puma128", "re2pim", "sme128")

# The structs as the headers have them. ----------------------------------------------------------------------

_TYPES: dict[str, Any] = {
    "const char *": ctypes.c_char_p,
    "double": ctypes.c_double,
    "int": ctypes.c_int,
    "int64_t": ctypes.c_int64,
    "uint64_t": ctypes.c_uint64,
}


def struct_fields(header: str, name: str, nested: dict[str, Any]) -> list[tuple[str, Any]]:
    """Names and types of a struct of a header, in order."""
    text = (SOURCES / header).read_text()
    code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    found = re.search(rf"typedef struct {name} \{{(.*?)\}} {name};", code, re.DOTALL)
    assert found, name
    sizes = {"AX_SHAPES": 8}
    fields: list[tuple[str, Any]] = []
    for statement in filter(None, map(str.strip, found[1].split(";"))):
        parts = re.match(r"(const char \*|\w+ )(.*)", statement, re.DOTALL)
        assert parts, statement
        kind = parts[1].strip()
        ctype = nested.get(kind) or _TYPES.get(kind, ctypes.c_int)  # the others are enumerations
        for part in parts[2].split(","):
            word = re.match(r"\s*(\w+)(?:\[(\w+)\])?", part)
            assert word, statement
            fields.append((word[1], ctype * sizes[word[2]] if word[2] else ctype))
    return fields


class Config(ctypes.Structure):
    _fields_ = struct_fields("axsim.h", "ax_config", {})


class Crossbar(ctypes.Structure):
    _fields_ = struct_fields("crossbar.h", "ax_crossbar", {"ax_config": Config})


class AxNoise(ctypes.Structure):
    _fields_ = struct_fields("crossbar.h", "ax_noise", {})


def config_of(target: CrossbarTarget, **changes: Any) -> Crossbar:
    config = Crossbar()
    config.base.name = target.name.encode()
    for name, value in base_fields(target).items():
        setattr(config.base, name, value)
    setattr(config.base, "in", I8)
    config.base.acc = I32
    for name, value in crossbar_fields(target).items():
        setattr(config, name, value)
    for i, shape in enumerate(target.array.shapes):
        config.shape_rows[i], config.shape_cols[i] = shape
    for name, value in changes.items():
        setattr(config, name, value)
    return config


_N32, _N64, _ROW, _INT, _POINTER = (
    ctypes.c_int32,
    ctypes.c_int64,
    ctypes.c_uint32,
    ctypes.c_int,
    ctypes.c_void_p,
)
SIGNATURES: dict[str, list[Any]] = {
    "ld": [_ROW, _N32, _INT, _N64, _N64, _N32, _N32],
    "st": [_INT, _N64, _N64, _ROW, _N32, _N32, _N32, _INT],
    "fill": [_ROW, _N32, ctypes.c_double],
    "pre": [_ROW, _N32, _N32],
    "fence": [],
    "xb_noise": [ctypes.POINTER(AxNoise)],
    "xb_noise_text": [ctypes.c_char_p],
    "xb_fault": [_N32, _N32, _N32, _INT, _INT],
    "xb_shape": [_N32] * 4,
    "xb_prog": [*[_N32] * 5, _INT, _N64, _N64],
    "xb_cfg": [*[_N32] * 11, _INT, *[_N64] * 4],
    "xb_mvm": [_N32, _ROW, _N32, _ROW, _N32, _N32, _INT],
    "xb_mvmg": [_N32, _N32, _ROW, _N32, _ROW, _N32, _N32, _INT],
    "xb_done": [],
}


class AxError(Exception):
    """What ax_error says."""


class Machine:
    """One ax_machine with crossbars."""

    def __init__(self, library: ctypes.CDLL, target: CrossbarTarget, flags: int = 0, **changes: Any):
        self._library = library
        self._kept: list[Any] = []
        self.target = target
        self.handle = library.ax_open_crossbar(ctypes.byref(config_of(target, **changes)), flags)
        assert self.handle

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.ax_close(self.handle)

    def call(self, name: str, *arguments: Any) -> int:
        function = getattr(self._library, "ax_" + name)
        function.argtypes = [_POINTER, *SIGNATURES[name]]
        result = function(self.handle, *arguments)
        if result == -1:
            raise AxError(self.error())
        return cast(int, result)

    def error(self) -> str | None:
        text = self._library.ax_error(self.handle)
        return None if text is None else text.decode()

    def buffer(self, name: str, data: Array | None, kind: int, elements: int = 0) -> int:
        if data is not None:
            assert data.flags.c_contiguous
            self._kept.append(data)
        pointer = None if data is None else data.ctypes.data
        size = elements if data is None else data.size
        handle = self._library.ax_buffer(self.handle, name.encode(), _POINTER(pointer), _N64(size), kind)
        assert handle >= 0, self.error()
        return cast(int, handle)

    def noise(self, noise: Noise | str) -> None:
        if isinstance(noise, str):
            self.call("xb_noise_text", noise.encode())
            return
        found = AxNoise(**dataclasses.asdict(noise))
        self.call("xb_noise", ctypes.byref(found))

    def program(
        self, array: int, levels: Array | None, row0: int = 0, col0: int = 0, shape: Any = None
    ) -> None:
        rows, cols = levels.shape if levels is not None else shape
        handle = self.buffer("levels", levels, I8, rows * cols)
        self.call("xb_prog", array, row0, rows, col0, cols, handle, 0, cols)

    def configure(self, number: int, block: Block) -> None:
        lists = (block.in_index, block.out_index, block.doubled, block.flipped)
        tables = np.array([value for found in lists for value in found or ()] or [0], np.int32)
        places: list[int] = []
        at = 0
        for found in lists:
            places.append(at if found is not None else -1)
            at += len(found or ())
        rectangle = (block.array, block.row0, block.rows, block.col0, block.cols)
        places_on_chip = (block.in_row, block.out_row)
        numbers = (block.shift, block.adc_bits, block.offset)
        handle = self.buffer("tables", tables, I32)
        self.call("xb_cfg", number, *rectangle, *places_on_chip, *numbers, handle, *places)

    def load(self, row: int, x: Array, step: int = 0) -> None:
        rows, n = x.shape
        self.call("ld", spad(row), step or rows, self.buffer("x", x, I8), 0, n, rows, n)

    def take(self, row: int, rows: int, n: int, step: int = 0) -> Array:
        y = np.zeros((rows, n), np.int32)
        self.call("st", self.buffer("y", y, I32), 0, n, acc(row), step or rows, rows, n, 0)
        return y

    def cycles(self) -> int:
        return cast(int, self._library.ax_cycles(self.handle))

    def _printed(self, function: str) -> str:
        libc = ctypes.CDLL(None)
        libc.open_memstream.restype = _POINTER
        libc.fclose.argtypes = [_POINTER]
        text, size = ctypes.c_char_p(), ctypes.c_size_t()
        stream = libc.open_memstream(ctypes.byref(text), ctypes.byref(size))
        getattr(self._library, function)(self.handle, _POINTER(stream))
        libc.fclose(stream)
        result = text.value or b""
        libc.free(text)
        return result.decode()

    def report(self) -> dict[str, Any]:
        report = json.loads(self._printed("ax_report_json"))
        check_conservation(report)
        return report

    def text(self) -> str:
        return self._printed("ax_report_text")


def check_conservation(report: dict[str, Any]) -> None:
    """Every cycle of every engine and array is accounted for, and energy is the sum of its parts."""
    for engine in report["engines"].values():
        parts = [engine["busy"], engine["drain"], *engine["stalls"].values()]
        assert all(part >= 0 for part in parts)
        assert sum(parts) == report["span_cycles"]
    crossbar = report["crossbar"]
    arrays = crossbar["array_cycles"]
    parts = [arrays["busy"], arrays["drain"], *arrays["stalls"].values()]
    assert all(part >= 0 for part in parts)
    assert sum(parts) == report["span_cycles"] * crossbar["arrays_used"]
    engine = crossbar["program_engine"]
    assert all(part >= 0 for part in engine.values())
    assert sum(engine.values()) == report["span_cycles"]
    energy = dict(report["energy_pj"])
    assert math.isclose(energy.pop("total"), sum(energy.values()), rel_tol=1e-12)
    parts = [crossbar[phase] for phase in ("program", "inference")]
    assert sum(part["cycles"] for part in parts) == report["span_cycles"]
    assert math.isclose(sum(part["energy_pj"] for part in parts), report["energy_pj"]["total"])


def prepared(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    library.ax_open_crossbar.restype = _POINTER
    library.ax_error.restype = ctypes.c_char_p
    library.ax_cycles.restype = _N64
    for name in ("ax_close", "ax_error", "ax_cycles"):
        getattr(library, name).argtypes = [_POINTER]
    for name in ("ax_report_json", "ax_report_text"):
        getattr(library, name).argtypes = [_POINTER, _POINTER]
    library.ax_buffer.argtypes = [_POINTER, ctypes.c_char_p, _POINTER, _N64, _INT]
    library.ax_write_trace.argtypes = [_POINTER, ctypes.c_char_p]
    return library


@pytest.fixture(scope="session", name="library")
def library_fixture(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    out = tmp_path_factory.mktemp("crossbar") / "libaxsim.so"
    sources = sorted(str(path) for path in SOURCES.glob("*.c"))
    subprocess.run(["cc", *STRICT, "-O2", "-fPIC", "-shared", *sources, "-o", str(out), "-lm"], check=True)
    return prepared(out)


def changed(target: CrossbarTarget, **sections: dict[str, Any]) -> CrossbarTarget:
    """A target with other numbers in some sections; all of its sources are assumed."""
    new = {name: dataclasses.replace(getattr(target, name), **values) for name, values in sections.items()}
    if "array" in sections and "shapes" not in sections["array"]:
        array = new["array"]
        new["array"] = dataclasses.replace(array, shapes=((array.rows, array.cols),))
    return dataclasses.replace(target, **new, sources=(("*", "assumed"),))


SME = cast(CrossbarTarget, load_target("sme128"))
# Small, with 2-bit cells, one step a cycle, and nothing that takes time but steps.
SMALL = dataclasses.replace(
    changed(
        SME,
        array={"count": 8, "rows": 24, "cols": 20, "cell_bits": 2, "read_cycles": 10.0},
        adc={"bits": 8, "cycles_per_bit": 0.0},
        spad={"bytes": 32 * 512},
        acc={"bytes": 128 * 512},
    ),
    row_elements=8,
)


# Published figures. -----------------------------------------------------------------------------------------


def idle(target: CrossbarTarget) -> dict[str, Any]:
    """Nothing but the arrays takes time."""
    config = config_of(target)
    base = Config.from_buffer_copy(config.base)
    base.issue_gap = 0
    base.dma_latency = 0
    base.dma_bytes_per_cycle = math.inf
    return {"base": base}


def timed(
    library: ctypes.CDLL, target: CrossbarTarget, groups: list[list[int]], n: int = 1, **changes: Any
) -> tuple[int, dict[str, Any]]:
    """Cycles of MVMs of whole arrays, each on a group of arrays at once, after programming."""
    rows, cols = target.array.rows, target.array.cols
    with Machine(library, target, NO_DATA, **idle(target) | changes) as machine:
        numbers: dict[tuple[int, ...], int] = {}
        for group in groups:
            if tuple(group) in numbers:
                continue
            first = numbers[tuple(group)] = sum(map(len, numbers))
            for i, array in enumerate(group):
                machine.program(array, None, shape=(rows, cols))
                machine.configure(first + i, Block(array, 0, rows, 0, cols, adc_bits=target.adc.bits))
        machine.call("ld", spad(0), rows, machine.buffer("x", None, I8, rows * n), 0, n, rows, n)
        machine.call("xb_done")
        start = machine.cycles()
        before = machine.report()
        for i, group in enumerate(groups):
            number = numbers[tuple(group)]
            machine.call("xb_mvmg", number, len(group), spad(0), rows, acc(cols * (i % 4)), cols * 4, n, 0)
        report = machine.report()
        energy = {k: v - before["energy_pj"][k] for k, v in report["energy_pj"].items()}
        return machine.cycles() - start, energy


PUMA = cast(CrossbarTarget, load_target("puma128"))


@pytest.mark.parametrize(("bits", "cycles", "nanojoules"), [(16, 1800, 52.8), (8, 500, 13.4)])
def test_puma_golden(library: ctypes.CDLL, bits: int, cycles: int, nanojoules: float) -> None:
    """puma-simulator @a206f75: cycles and energy of one MVM of 128 x 128, 16 bits and 8 bits."""
    group = list(range(bits // PUMA.array.cell_bits))
    found, energy = timed(library, PUMA, [group], in_bits=bits)
    assert found == cycles
    parts = sum(energy[part] for part in ("array", "adc", "dac", "shift_add"))
    assert parts / 1000 == pytest.approx(nanojoules, rel=0.02)


PIMSIM: dict[str, Any] = {
    "chip_config": {
        "core_cnt": 1,
        "core_config": {
            "period": 1,
            "matrix_config": {
                "xbar_array_count": 64,
                "period": 1,
                "pipeline_mode": True,
                "dac_resolution": 1,
                "dac_count": 128,
                "xbar_size": [128, 128],
                "cell_precision": 8,
                "xbar_latency": 30,
                "sample_hold_latency_cycle": 1,
                "adc_resolution": 10,
                "adc_latency_cycle": 10,
                "adc_count": 2,
                "shift_adder_latency_cycle": 1,
                "output_buffer_latency_cycle": 1,
            },
            "local_memory_config": {"data_width": 64, "write_latency_cycle": 1, "read_latency_cycle": 1},
        },
        "global_memory_config": {"data_width": 16, "write_latency_cycle": 1, "read_latency_cycle": 1},
    }
}


@pytest.fixture(name="pimsim")
def pimsim_fixture(tmp_path: Path) -> CrossbarTarget:
    """example/config/latency_config.json of PIMSIM-NN @3e3442b, with cells and ADC that hold together."""
    path = tmp_path / "latency_config.json"
    path.write_text(json.dumps(PIMSIM).replace('"cell_precision": 8', '"cell_precision": 2'))
    target = load_target(path)
    assert isinstance(target, CrossbarTarget)
    return target


def test_pimsim_golden(library: ctypes.CDLL, pimsim: CrossbarTarget) -> None:
    """PIMSIM-NN's formula: 32 cycles in front, 8 x 642 behind; and what one array group does to MVMs."""
    assert timed(library, pimsim, [[0]], io_cycles=0)[0] == 5168
    # Reading 1 KiB and writing 128 bytes of local memory, 64 bytes a cycle, takes 20 cycles more: 5188.
    one = timed(library, pimsim, [[0]], io_cycles=20)[0]
    assert one == 5188
    same = timed(library, pimsim, [[0]] * 8, io_cycles=20)[0]
    apart = timed(library, pimsim, [[0], [1], [2], [3]] * 2, io_cycles=20)[0]
    assert (same, apart) == (8 * one, 2 * one)
    assert timed(library, pimsim, [[0, 1, 2, 3]] * 2, io_cycles=20)[0] == 2 * one


def crosssim(x: Array, w: Array, bits: int) -> tuple[Array, int]:
    """CrossSim 3.2, pinned by 2048 of 2048 outputs for 4 to 10 bits: w[K, M], x[K, n], both int8.

    Weights are sign-magnitude, 4 slices of 2 bits, differential; inputs 7 bits of magnitude, one at a time;
    every sum is clipped to +-(2^(bits - 1) - 1).
    """
    limit = 2 ** (bits - 1) - 1
    total, clipped = np.zeros((w.shape[1], x.shape[1]), np.int64), 0
    for s in range(4):
        cells = np.sign(w).astype(np.int64) * (np.abs(w.astype(np.int64)) >> 2 * s & 3)
        for b in range(7):
            volts = np.sign(x).astype(np.int64) * (np.abs(x.astype(np.int64)) >> b & 1)
            sums = cells.T @ volts
            clipped += int((np.abs(sums) > limit).sum())
            total += np.clip(sums, -limit, limit) << (b + 2 * s)
    return total, clipped


@pytest.mark.parametrize("bits", range(4, 11))
def test_crosssim_semantics(library: ctypes.CDLL, bits: int) -> None:
    rng = np.random.default_rng(bits)
    target = changed(SME, array={"cell_bits": 2}, adc={"bits": 10})
    x = rng.integers(-127, 128, (128, 16), np.int8)
    w = rng.integers(-127, 128, (128, 128), np.int8)
    expected, clipped = crosssim(x, w, bits)
    with Machine(library, target) as machine:
        for s in range(4):
            machine.program(s, (np.sign(w) * (np.abs(w) >> 2 * s & 3)).astype(np.int8))
            machine.configure(s, Block(s, 0, 128, 0, 128, shift=2 * s, adc_bits=bits))
        machine.load(0, x)
        machine.call("xb_done")
        machine.call("xb_mvmg", 0, 4, spad(0), 128, acc(0), 128, 16, 0)
        assert np.array_equal(machine.take(0, 128, 16), expected)
        report = machine.report()
    crossbar = report["crossbar"]
    assert crossbar["adc_clipped"] == report["warnings"]["adc_clipped"] == clipped
    assert any("clipped by the ADC" in note for note in report["notes"]) == (clipped > 0)
    assert sum(crossbar["clipped_by_array"].values()) == clipped
    assert crossbar["adc_bits"] == {str(bits): 4 * 7 * 128 * 16}
    assert (clipped > 0) == (bits <= 7)


# Against the reference, and one way against the other. ------------------------------------------------------


def varied(
    cell_bits: int, offset: bool, apart: bool, digit: int, unit: tuple[int, int], rows: int
) -> CrossbarTarget:
    encoding: dict[str, Any] = {
        "encoding": "offset" if offset else "differential",
        "digitised": "separately" if apart and not offset else "together",
    }
    return changed(
        SMALL,
        array={"cell_bits": cell_bits, "ou_rows": unit[0], "ou_cols": unit[1], "rows": rows, **encoding},
        dac={"bits": 1 if offset else digit},
        adc={"bits": 12},
        pipeline={"index_cycles": 1, "io_cycles": 2},
    )


targets = st.builds(
    varied,
    st.sampled_from([1, 2, 4]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1, 2]),
    st.sampled_from([(0, 0), (9, 8), (4, 3)]),
    st.sampled_from([11, 24]),
)


def random_block(rng: np.random.Generator, target: CrossbarTarget, array: int, bits: int) -> Block:
    height, width = target.array.rows, target.array.cols
    rows, cols = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))

    def flags(count: int) -> tuple[int, ...] | None:
        return tuple(rng.integers(0, 2, count).tolist()) if rng.random() < 0.4 else None

    return Block(
        array,
        int(rng.integers(0, height - rows + 1)),
        rows,
        int(rng.integers(0, width - cols + 1)),
        cols,
        int(rng.integers(0, 3)),
        int(rng.integers(0, 3)),
        int(rng.integers(0, 7)),
        bits,
        int(rng.integers(-128, 129)),
        tuple(rng.integers(0, 30, rows).tolist()) if rng.random() < 0.5 else None,
        tuple(rng.permutation(30)[:cols].tolist()) if rng.random() < 0.5 else None,
        flags(rows),
        None if target.differential else flags(cols),
    )


def bundled(rng: np.random.Generator, target: CrossbarTarget, block: Block) -> list[Block]:
    """The block, or its columns as several blocks on its word lines, which differ in all they may."""
    if target.array.ou_cols or block.cols < 3 or rng.random() < 0.3:
        return [block]
    # A column between two may belong to neither.
    first = int(rng.integers(1, block.cols - 1))
    second = int(rng.integers(first + 1, block.cols))
    last = second + int(rng.integers(0, block.cols - second))
    found: list[Block] = []
    for start, end in ((0, first), (first, second), (last, block.cols)):
        taken = slice(start, end)
        found.append(
            dataclasses.replace(
                block,
                col0=block.col0 + start,
                cols=end - start,
                out_row=int(rng.integers(0, 3)),
                shift=int(rng.integers(0, 7)),
                adc_bits=int(rng.integers(1, block.adc_bits + 1)),
                offset=int(rng.integers(-128, 129)),
                out_index=block.out_index and block.out_index[taken],
                flipped=block.flipped and block.flipped[taken],
            )
        )
    return found


def levels_for(rng: np.random.Generator, target: CrossbarTarget) -> Array:
    most = target.level_max
    shape = (target.array.rows, target.array.cols)
    levels = rng.integers(-most if target.differential else 0, most + 1, shape)
    return (levels * (rng.random(shape) < rng.random())).astype(np.int8)


@settings(max_examples=60)
@given(targets, st.integers(0, 2**32), st.integers(1, 20), st.integers(3, 12), st.booleans())
def test_values_are_those_of_the_reference(
    library: ctypes.CDLL, target: CrossbarTarget, seed: int, n: int, bits: int, noisy: bool
) -> None:
    """Random blocks, bundles and groups, with faults and noise: the same sums, clips and conversions."""
    rng = np.random.default_rng(seed)
    noise = Noise(seed, 0.1, bool(seed & 1), 0.05, 0.05, 0.05) if noisy else Noise()
    state = CrossbarState(target, noise)
    least = -127 if target.differential else -128
    x = rng.integers(least, 128, (40, n)).astype(np.int8)
    panels, width = -(-n // target.row_elements), target.row_elements
    before = rng.integers(-1000, 1000, (40, n)).astype(np.int32)
    with Machine(library, target) as machine:
        machine.noise(noise)
        for array in range(3):
            for fault in range(int(rng.integers(0, 3))):
                row, col = int(rng.integers(target.array.rows)), int(rng.integers(target.array.cols))
                device = int(rng.integers(2)) if target.differential else 0
                machine.call("xb_fault", array, row, col, device, fault)
                state.faults[array, row, col, device] = target.level_max if fault else 0
            for _ in range(2):  # written twice
                levels = levels_for(rng, target)
                machine.program(array, levels)
                INSTRUCTIONS["XB.PROG"].reference(
                    state, array, 0, *levels.shape[:1], 0, levels.shape[1], levels, 0, levels.shape[1]
                )
            for block in bundled(rng, target, random_block(rng, target, array, bits)):
                number = len(state.blocks)
                state.blocks[number] = block
                machine.configure(number, block)
        machine.load(0, x)
        machine.call("ld", acc(0), 40, machine.buffer("before", before, I32), 0, n, 40, n)
        for b in range(panels):
            part = np.s_[:, b * width : (b + 1) * width]
            state.spad[b * 40 : b * 40 + 40, : x[part].shape[1]] = x[part]
            state.acc[b * 40 : b * 40 + 40, : x[part].shape[1]] = before[part]
        last = len(state.blocks) - 1
        for name, operands in (("MVM", (0,)), ("MVMG", (0, last + 1)), ("MVM", (last,))):
            operands = (*operands, spad(0), 40, acc(0), 40, n, int(rng.integers(2)))
            machine.call(f"xb_{name.lower()}", *operands)
            INSTRUCTIONS[f"XB.{name}"].reference(state, *operands)
        found = machine.take(0, 40, n, 40)
        crossbar = machine.report()["crossbar"]
    expected = np.concatenate([state.acc[b * 40 : b * 40 + 40] for b in range(panels)], axis=1)[:, :n]
    assert np.array_equal(found, expected)
    assert crossbar["clipped_bits"] == {str(k): v for k, v in state.clipped.items() if v}
    assert crossbar["adc_bits"] == {str(k): v for k, v in state.conversions.items()}


@settings(max_examples=60)
@given(targets, st.integers(0, 2**32), st.integers(1, 20), st.integers(4, 12))
def test_bit_serial_and_exact_agree(
    library: ctypes.CDLL, target: CrossbarTarget, seed: int, n: int, bits: int
) -> None:
    """Where no sum can be clipped, the short cut is taken and computes what the bits do: the product."""
    found: list[Array] = []
    vectors: list[tuple[int, int]] = []
    for flags in (0, BIT_SERIAL):
        rng = np.random.default_rng(seed)
        levels, block = levels_for(rng, target), random_block(rng, target, 0, bits)
        x = rng.integers(-127, 128, (40, n)).astype(np.int8)
        with Machine(library, target, flags) as machine:
            machine.program(0, levels)
            machine.configure(0, block)
            machine.load(0, x)
            machine.call("fill", acc(0), 120, 0.0)
            machine.call("xb_mvm", 0, spad(0), 40, acc(0), 40, n, 0)
            found.append(machine.take(0, 40, n, 40))
            report = machine.report()
            crossbar = report["crossbar"]
            vectors.append((crossbar["exact_vectors"], crossbar["bit_serial_vectors"]))
    assert np.array_equal(found[0], found[1])
    cells = levels[block.row0 : block.row0 + block.rows, block.col0 : block.col0 + block.cols].astype(int)
    parts = [cells.clip(0), (-cells).clip(0)] if target.array.digitised == "separately" else [abs(cells)]
    largest = max(int(part[group].sum(axis=0).max()) for part in parts for group in block.groups(target))
    exact = largest * (2**target.dac.bits - 1) <= target.adc_limit(bits)
    assert vectors == [(n, 0) if exact else (0, n), (0, n)]
    if exact:
        inputs = x[block.inputs()].astype(int) * (1 + np.array(block.doubled or [0] * block.rows)[:, None])
        flipped = np.array(block.flipped or [0] * block.cols, bool)
        product = np.where(flipped, target.level_max - cells, cells).T @ inputs
        expected = np.zeros((40, n), int)
        expected[block.outputs()] = (product << block.shift) - block.offset * inputs.sum(axis=0)
        assert np.array_equal(found[0], expected)


NOISE = Noise(7, program_sigma=0.05, read_sigma=0.02, stuck_low=0.01, stuck_high=0.01)


def noisy_run(library: ctypes.CDLL, order: list[int], noise: Noise | str) -> list[Array]:
    rng = np.random.default_rng(0)
    x = rng.integers(-127, 128, (24, 8)).astype(np.int8)
    weights = [levels_for(rng, SMALL) for _ in order]
    results: dict[int, Array] = {}
    with Machine(library, SMALL) as machine:
        machine.noise(noise)
        for array in order:
            machine.program(array, weights[array])
            machine.configure(array, Block(array, 0, 24, 0, 20))
        machine.load(0, x)
        for array in order:
            machine.call("xb_mvm", array, spad(0), 24, acc(20 * array), 20, 8, 0)
            results[array] = machine.take(20 * array, 20, 8)
    return [results[array] for array in sorted(order)]


def test_noise_does_not_depend_on_order(library: ctypes.CDLL) -> None:
    one = noisy_run(library, [0, 1, 2, 3], NOISE)
    other = noisy_run(library, [2, 0, 3, 1], NOISE)
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert not np.array_equal(one, noisy_run(library, [0, 1, 2, 3], dataclasses.replace(NOISE, seed=8)))


def test_noise_in_words(library: ctypes.CDLL) -> None:
    """What an emitted program takes as --noise is what ax_xb_noise takes; what it does not know is named."""
    words = "seed=7,program=0.05,read=0.02,lognormal=0,stuck_low=0.01,stuck_high=0.01"
    assert np.array_equal(noisy_run(library, [0, 1], NOISE), noisy_run(library, [0, 1], words))
    for text, message in (
        ("progam=1", r"noise 'progam=1': seed \(a whole number\), program, .* needed, found 'progam'"),
        ("seed=0.5", r"needed, found 'seed'"),
        ("read", r"key=number, \.\.\. needed at 'read'"),
        ("read=0.1;seed=1", r"key=number, \.\.\. needed at 'read=0\.1;seed=1'"),
        ("read=-1", r"read_sigma must be from 0 to 10, found -1"),
    ):
        with Machine(library, SMALL) as machine, pytest.raises(AxError, match=message):
            machine.noise(text)


def test_noise_has_the_size_it_should(library: ctypes.CDLL) -> None:
    """Column sums of many equal cells: mean and spread as the relative error of each says."""
    target = changed(SME, adc={"bits": 12}, array={"cell_bits": 4})
    levels = np.full((128, 128), 10, np.int8)
    x = np.ones((128, 32), np.int8)
    with Machine(library, target) as machine:
        machine.noise(Noise(3, program_sigma=0.1))
        machine.program(0, levels)
        machine.configure(0, Block(0, 0, 128, 0, 128, adc_bits=12))
        machine.load(0, x)
        machine.call("xb_mvm", 0, spad(0), 128, acc(0), 128, 32, 0)
        sums = machine.take(0, 128, 32)
    assert (sums == sums[:, :1]).all()  # written once: the same error for every vector
    assert sums.mean() == pytest.approx(1280, rel=0.01)
    assert sums[:, 0].std() == pytest.approx(math.sqrt(128), rel=0.2)
    with Machine(library, target) as machine:
        machine.noise(Noise(3, read_sigma=0.1))
        machine.program(0, levels)
        machine.configure(0, Block(0, 0, 128, 0, 128, adc_bits=12))
        machine.load(0, x)
        machine.call("xb_mvm", 0, spad(0), 128, acc(0), 128, 32, 0)
        first = machine.take(0, 128, 32)
        machine.call("xb_mvm", 0, spad(0), 128, acc(0), 128, 32, 0)
        second = machine.take(0, 128, 32)
    assert first.std() == pytest.approx(math.sqrt(128), rel=0.05)
    assert not np.array_equal(first, second)


# Time and what is counted. ----------------------------------------------------------------------------------


@settings(max_examples=60)
@given(targets, st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_time_and_energy_are_those_declared(
    library: ctypes.CDLL, target: CrossbarTarget, seed: int, n: int, shared: int, lanes: int, pimsim: bool
) -> None:
    """One group of blocks, alone on the machine: cycles and picojoules of the instruction's own formulas."""
    rng = np.random.default_rng(seed)
    target = changed(target, adc={"arrays": shared, "lanes": lanes, "cycles_per_bit": 0.5, "cycles": 1.0})
    if pimsim:
        target = changed(
            target,
            pipeline={
                "timing": "pimsim",
                "stages": 0,
                "input_buffer_cycles": 1,
                "dac_cycles": 2,
                "sample_hold_cycles": 1,
                "shift_add_cycles": 3,
                "output_buffer_cycles": 1,
                "pipelined": bool(seed & 1),
            },
            dac={"lanes": 5},
        )
    single = [random_block(rng, target, array, int(rng.integers(1, 9))) for array in range(4)]
    blocks = [part for block in single for part in bundled(rng, target, block)]
    with Machine(library, target, NO_DATA, **idle(target)) as machine:
        for block in single:
            machine.program(block.array, None, shape=(target.array.rows, target.array.cols))
        for number, block in enumerate(blocks):
            machine.configure(number, block)
        machine.call("fill", spad(0), 120, 0.0)
        machine.call("fill", acc(0), 120, 0.0)
        machine.call("xb_done")
        start, before = machine.cycles(), machine.report()
        operands = (spad(0), 40, acc(0), 40, n, seed >> 1 & 1)
        machine.call("xb_mvmg", 0, len(blocks), *operands)
        after = machine.report()
        took = machine.cycles() - start
    instruction = INSTRUCTIONS["XB.MVMG"]
    after_last = math.ceil(durations(target, blocks)[1])
    cost = instruction.cost(target, blocks, *operands)
    assert took == cost.cycles + after_last
    spent = after["crossbar"]["inference"]["energy_pj"] - before["crossbar"]["inference"]["energy_pj"]
    assert spent == pytest.approx(cost.pj)


def test_programming_is_told_apart(library: ctypes.CDLL) -> None:
    """Cycles, energy and writes of programming, in which several arrays are written at once."""
    target = changed(SMALL, program={"row_cycles": 50.0, "pulses": 3, "lanes": 4, "endurance": 1.0})
    levels = np.ones((24, 20), np.int8)
    with Machine(library, target, **idle(target)) as machine:
        for array in range(8):
            machine.program(array, levels)
        machine.call("xb_done")
        done = machine.cycles()
        # Eight arrays through four lanes, each 24 rows of 3 pulses of 50 cycles.
        assert done == 7 * 900 + 3600
        crossbar = machine.report()["crossbar"]
        assert crossbar["program"]["cycles"] == done
        instruction = INSTRUCTIONS["XB.PROG"]
        cost = instruction.cost(target, 0, 0, 24, 0, 20, 0, 0, 20)
        assert crossbar["program"]["energy_pj"] == pytest.approx(8 * cost.pj)
        assert crossbar["inference"] == {"cycles": 0, "energy_pj": 0}
        assert crossbar["writes_per_cell"] == {"min": 1, "mean": 1, "max": 1}
        machine.program(3, levels[:6], row0=2)  # paid in the inference
        crossbar = machine.report()["crossbar"]
        assert crossbar["inference"]["cycles"] == 900
        assert crossbar["writes_per_cell"] == {"min": 1, "mean": pytest.approx(1 + 120 / 3840), "max": 2}
        assert crossbar["worn_cells"] == 120
        assert (crossbar["arrays_used"], crossbar["cell_writes"]) == (8, 3960)
        assert "writes of a cell                  1 to 2" in machine.text()


def test_arrays_work_at_once_and_share_converters(library: ctypes.CDLL) -> None:
    target = changed(SMALL, pipeline={"stages": 1}, adc={"arrays": 2, "lanes": 1, "cycles": 1.0})
    # Steps of 20 conversions, longer than the 10 cycles of the array: 7 x 20 cycles for each vector.
    assert timed(library, target, [[0], [2]])[0] == 140
    assert timed(library, target, [[0], [1]])[0] == 280  # the same converter
    assert timed(library, target, [[0, 1]])[0] == 280
    assert timed(library, target, [[0, 2], [0]])[0] == 280  # the same array
    wide = changed(target, adc={"lanes": 4})
    assert timed(library, wide, [[0], [1]])[0] == 70  # 5 cycles each, behind the 10 of the arrays


def test_sums_wait_for_what_they_need(library: ctypes.CDLL) -> None:
    target = changed(SMALL, pipeline={"stages": 1})
    with Machine(library, target, NO_DATA) as machine:
        for array in range(2):
            machine.program(array, None, shape=(24, 20))
            machine.configure(array, Block(array, 0, 24, 0, 20))
        machine.call("fill", spad(0), 24, 0.0)
        machine.call("xb_done")
        start = machine.cycles()
        machine.call("xb_mvm", 0, spad(0), 24, acc(0), 20, 1, 0)
        machine.call("xb_mvm", 1, spad(0), 24, acc(0), 20, 1, 1)  # adds to the same rows, at the same time
        assert machine.cycles() - start == 72  # a cycle each to issue XB.DONE and the second
        machine.call("st", machine.buffer("y", None, I32, 20), 0, 1, acc(0), 20, 20, 1, 0)
        stored = machine.cycles() - target.dma.latency  # the sums are read by then
        assert stored > start + 72
        machine.call("xb_mvm", 0, spad(0), 24, acc(0), 20, 1, 0)  # overwrites what is being stored
        assert machine.cycles() == stored + 70
        stalls = machine.report()["crossbar"]["array_cycles"]["stalls"]
        assert stalls["war"] > 0


@settings(max_examples=30)
@given(targets, st.integers(0, 2**32))
def test_a_better_machine_is_never_slower(library: ctypes.CDLL, target: CrossbarTarget, seed: int) -> None:
    slow = changed(target, adc={"arrays": 2, "lanes": 1, "cycles": 2.0})
    rng = np.random.default_rng(seed)
    blocks = [random_block(rng, slow, array, 4) for array in range(4)]
    order = [(int(rng.integers(4)), int(rng.integers(1, 9))) for _ in range(12)]

    def run(chosen: CrossbarTarget) -> int:
        with Machine(library, chosen, NO_DATA) as machine:
            for array in range(4):
                machine.program(array, None, shape=(target.array.rows, target.array.cols))
                machine.configure(array, blocks[array])
            machine.call("fill", spad(0), 120, 0.0)
            for number, n in order:
                machine.call("xb_mvm", number, spad(0), 40, acc(0), 40, n, 0)
            machine.report()
            return machine.cycles()

    usual = run(slow)
    for better in (
        changed(slow, adc={"lanes": 2}),
        changed(slow, adc={"arrays": 1}),
        changed(slow, adc={"cycles": 1.0}),
        changed(slow, array={"read_cycles": 5.0}),
        changed(slow, program={"lanes": 9999}),
        changed(slow, pipeline={"index_cycles": 0}),
    ):
        assert run(better) <= usual


@settings(max_examples=30)
@given(targets, st.integers(0, 2**32), st.integers(1, 20))
def test_time_does_not_depend_on_values(
    library: ctypes.CDLL, target: CrossbarTarget, seed: int, n: int
) -> None:
    """With values, bit by bit, with noise, and without any values: the same cycles and energy."""
    found: list[tuple[int, float]] = []
    for flags, noise in (
        (0, Noise()),
        (BIT_SERIAL, Noise()),
        (0, Noise(1, 0.1, False, 0.1)),
        (NO_DATA, Noise()),
    ):
        rng = np.random.default_rng(seed)
        with Machine(library, target, flags) as machine:
            machine.noise(noise)
            for array in range(2):
                levels = levels_for(rng, target)
                machine.program(array, None if flags == NO_DATA else levels, shape=levels.shape)
                machine.configure(array, random_block(rng, target, array, 6))
            x = rng.integers(-127, 128, (40, n)).astype(np.int8)
            machine.load(0, x)
            machine.call("xb_mvmg", 0, 2, spad(0), 40, acc(0), 40, n, 0)
            machine.call("xb_mvm", 1, spad(0), 40, acc(0), 40, n, 1)
            found.append((machine.cycles(), machine.report()["energy_pj"]["total"]))
    assert len(set(found)) == 1


def test_shapes_come_from_one_pool(library: ctypes.CDLL) -> None:
    target = cast(CrossbarTarget, load_target("re2pim"))
    with Machine(library, target, NO_DATA, arrays=8) as machine:
        machine.call("xb_shape", 0, 4, 32, 128)
        machine.call("xb_shape", 4, 2, 64, 64)
        machine.program(3, None, shape=(32, 128))
        machine.configure(0, Block(3, 0, 32, 0, 128))
        machine.call("xb_shape", 6, 16, 32, 32)
        machine.program(21, None, shape=(32, 32))
        machine.program(100, None, shape=(128, 128))
        assert machine.report()["crossbar"]["cells_used"] == 32 * 128 + 32 * 32 + 128 * 128
        with pytest.raises(AxError, match=r"inside the 64 x 64 of the array needed"):
            machine.program(4, None, shape=(32, 128))
    for change, message in (
        ((0, 1, 48, 48), r"48 x 48 is no shape of an array of target 're2pim'"),
        ((120, 9, 32, 32), r"at least 1 of the arrays 0 to 127 needed"),
        ((0, 9, 128, 128), r"the arrays in use would have 147456 cells, and the chip has 131072"),
    ):
        with Machine(library, target, NO_DATA, arrays=8) as machine, pytest.raises(AxError, match=message):
            machine.call("xb_shape", *change)
    with Machine(library, target, NO_DATA, arrays=1) as machine:
        machine.call("xb_shape", 0, 15, 32, 32)
        with pytest.raises(
            AxError, match=r"the arrays in use would have 31744 cells, and the chip has 16384"
        ):
            machine.program(15, None, shape=(32, 32))


# Messages. --------------------------------------------------------------------------------------------------


def ready(machine: Machine) -> None:
    machine.program(0, np.ones((24, 20), np.int8))
    machine.configure(0, Block(0, 0, 24, 0, 20))
    machine.load(0, np.ones((24, 8), np.int8))


def bad_input(machine: Machine) -> None:
    ready(machine)
    machine.load(0, np.full((24, 8), -128, np.int8))
    machine.call("xb_mvm", 0, spad(0), 24, acc(0), 20, 8, 0)


def unwritten(machine: Machine) -> None:
    machine.program(0, np.ones((3, 20), np.int8))
    machine.configure(0, Block(0, 0, 24, 0, 20))
    machine.call("xb_mvm", 0, spad(0), 24, acc(0), 20, 8, 0)


def same_array(machine: Machine) -> None:
    ready(machine)
    machine.configure(1, Block(0, 0, 2, 0, 2))
    machine.call("xb_mvmg", 0, 2, spad(0), 24, acc(0), 20, 8, 0)


def after_ready(name: str, *operands: int) -> Callable[[Machine], object]:
    def act(machine: Machine) -> None:
        ready(machine)
        machine.call(name, *operands)

    return act


def programs(array: int, level: int, rows: int, cols: int) -> Callable[[Machine], object]:
    return lambda machine: machine.program(array, np.full((rows, cols), level, np.int8))


def configures(block: Block) -> Callable[[Machine], object]:
    return lambda machine: machine.configure(0, block)


def calls(name: str, *operands: int) -> Callable[[Machine], object]:
    return lambda machine: machine.call(name, *operands)


def wrong_type(machine: Machine) -> None:
    machine.call("xb_prog", 0, 0, 1, 0, 1, machine.buffer("w", np.zeros(4, np.int32), I32), 0, 1)


def done_twice(machine: Machine) -> None:
    machine.call("xb_done")
    machine.call("xb_done")


def too_many_faults(machine: Machine) -> None:
    machine.noise(Noise(stuck_low=0.7, stuck_high=0.6))


ERRORS: dict[str, tuple[Callable[[Machine], object], str]] = {
    "rows": (
        programs(0, 1, 25, 20),
        r"XB\.PROG \(array=0, row0=0, rows=25.*inside the 24 x 20 of the array needed, found rows 0 to 24",
    ),
    "array": (programs(8, 1, 2, 2), r"array 8 is not there: .* arrays 0 to 7"),
    "level": (
        programs(0, 4, 2, 2),
        r"levels from -3 to 3 needed in cells of 2 bits, found 4 for row 0, column 0",
    ),
    "type": (wrong_type, r"levels are i8, and 'w' has i32 elements"),
    "fault": (
        calls("xb_fault", 0, 24, 0, 0, 1),
        r"a fault is beyond array 0 of 24 x 20 cells: found row 24, column 0",
    ),
    "fault array": (calls("xb_fault", 9, 0, 0, 0, 1), r"a fault is in array 9, .* arrays 0 to 7"),
    "noise": (too_many_faults, r"stuck_low \+ stuck_high must be from 0 to 1, found 1\.3"),
    "adc bits": (configures(Block(0, 0, 1, 0, 1, adc_bits=9)), r"1 to 8 bits of the ADC needed, found 9"),
    "flipped": (configures(Block(0, 0, 1, 0, 1, flipped=(1,))), r"flipped columns need offset encoding"),
    "twice": (configures(Block(0, 0, 1, 0, 2, out_index=(3, 3))), r"out_index has 3 twice"),
    "index": (configures(Block(0, 0, 1, 0, 1, in_index=(-2,))), r"in_index\[0\] is -2: 0 to "),
    "block": (calls("xb_mvm", 5, 0, 1, acc(0), 1, 1, 0), r"block 5 is not known: an XB\.CFG of it needed"),
    "unprogrammed": (unwritten, r"row 3, column 0 of array 0 was never programmed"),
    "input": (
        bad_input,
        r"input 0 of vector 0 is -128 .* sign-magnitude numbers of 8 bits go from -127 to 127",
    ),
    "group": (same_array, r"block 1 is in array 0, as another one of the group is: different arrays needed"),
    "space": (after_ready("xb_mvm", 0, acc(0), 24, acc(0), 20, 1, 0), r"operand in cannot be in ACC"),
    "beyond": (after_ready("xb_mvm", 0, 0, 24, acc(2040), 20, 1, 0), r"operand out reaches row 2059"),
    "hole": (after_ready("xb_mvm", 0, 1, 24, acc(0), 20, 1, 0), r"row 24 of SPAD, which was never"),
    "sums": (after_ready("xb_mvm", 0, 0, 24, acc(0), 20, 1, 1), r"row 0 of ACC, which was never"),
    "tensor": (calls("pre", 0, 1, 1), r"has no tensor unit \(it computes with XB\.MVM\)"),
    "done": (done_twice, r"programming was over before"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(library: ctypes.CDLL, case: str) -> None:
    act, message = ERRORS[case]
    with Machine(library, SMALL) as machine:
        with pytest.raises(AxError, match=message):
            act(machine)
        error = machine.error()
        assert error is not None
        assert machine.report()["error"] == error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell_bits": 7}, r"cell_bits must be from 1 to 6, found 7"),
        ({"in_bits": 9}, r"in_bits must be from 2 to 8, found 9"),
        ({"adc_lanes": 0}, r"adc_lanes must be from 1 to"),
        ({"row_elements": 0}, r"row_elements must be from 1"),
        ({"encoding": 1, "digitised_separately": 1}, r"digitised_separately needs encoding AX_DIFFERENTIAL"),
        ({"timing": 2}, r"timing must be AX_TIME_STAGES or AX_TIME_PIMSIM, found 2"),
    ],
)
def test_configuration_errors(library: ctypes.CDLL, change: dict[str, Any], message: str) -> None:
    with Machine(library, SMALL, **change) as machine:
        assert re.search(message, machine.error() or "")


# What ships. ------------------------------------------------------------------------------------------------


def test_operands_are_those_of_the_c_calls() -> None:
    header = (SOURCES / "crossbar.h").read_text()
    for instruction in INSTRUCTIONS.values():
        found = re.search(
            rf"^int {instruction.c_name}\(ax_machine \*m(.*?)\);", header, re.DOTALL | re.MULTILINE
        )
        assert found, instruction.c_name
        assert instruction.operands == tuple(re.findall(r"(\w+)(?=,|$)", found[1])), instruction.mnemonic


def test_fields_are_those_of_the_headers() -> None:
    names = [name for name, _ in struct_fields("crossbar.h", "ax_crossbar", {"ax_config": Config})]
    others = ("base", "shape_rows", "shape_cols")
    assert [name for name in names if name not in others] == list(crossbar_fields(SME))
    assert set(base_fields(SME)) <= {name for name, _ in struct_fields("axsim.h", "ax_config", {})}


@pytest.mark.parametrize("name", PRESETS)
def test_header_opens_a_machine(library: ctypes.CDLL, tmp_path: Path, name: str) -> None:
    """target.h compiles without a warning, and says what the fields say."""
    target = cast(CrossbarTarget, load_target(name))
    (tmp_path / "target.h").write_text(crossbar_header(target))
    (tmp_path / "shim.c").write_text(
        '#include "target.h"\nconst ax_crossbar *shim(void) { return &ax_target; }\n'
    )
    command = ["cc", *STRICT, "-shared", "-fPIC", f"-I{SOURCES}", "shim.c", "-o", "shim.so"]
    subprocess.run(command, check=True, cwd=tmp_path)
    shim = ctypes.CDLL(str(tmp_path / "shim.so"))
    shim.shim.restype = ctypes.POINTER(Crossbar)
    found, expected = shim.shim().contents, config_of(target)
    for field in [*crossbar_fields(target)]:
        assert getattr(found, field) == getattr(expected, field), field
    for field in base_fields(target):
        assert getattr(found.base, field) == getattr(expected.base, field), field
    assert list(found.shape_rows) == list(expected.shape_rows)
    handle = library.ax_open_crossbar(ctypes.byref(found), 0)
    assert library.ax_error(handle) is None
    library.ax_close(handle)


def test_trace(library: ctypes.CDLL, tmp_path: Path) -> None:
    with Machine(library, SMALL, TRACE) as machine:
        ready(machine)
        machine.call("xb_mvm", 0, spad(0), 24, acc(0), 20, 8, 0)
        path = tmp_path / "trace.json"
        assert library.ax_write_trace(machine.handle, str(path).encode()) == 0
    events = json.loads(path.read_text())["traceEvents"]
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    ran = [(event["name"], names[event["tid"]]) for event in events if event["ph"] == "X"]
    assert ran == [("XB.PROG", "XPROG"), ("XB.CFG", "XPROG"), ("LD", "LOAD"), ("XB.MVM", "XB 0")]


def test_sanitizers(tmp_path: Path) -> None:
    """A program of every instruction and of many errors, under the sanitizers of one compiler."""
    compiler = shutil.which("gcc") or shutil.which("clang") or "cc"
    sanitize = ["-g", "-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    probe = tmp_path / "probe.c"
    probe.write_text("int main(void) { return 0; }")
    if subprocess.run(
        [compiler, *sanitize, str(probe), "-o", str(tmp_path / "probe")], check=False
    ).returncode:
        pytest.skip(f"{compiler} has no sanitizers here")
    sources = [str(SELFTEST), *sorted(map(str, SOURCES.glob("*.c")))]
    out = tmp_path / "selftest"
    subprocess.run(
        [compiler, *STRICT, *sanitize, f"-I{SOURCES}", *sources, "-o", str(out), "-lm"], check=True
    )
    subprocess.run([str(out)], check=True)
