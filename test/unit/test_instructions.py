"""The instruction set: the same in Python as in C, in operands, values, cycles and energy."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import math
import re
import subprocess
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sparsecc.errors import UserError
from sparsecc.target import Dma, Indexed, Kept, Memory, Move, ScatterAdd, Structured, Target, Vector
from sparsecc.target.header import target_header
from sparsecc.target.instructions import INSTRUCTIONS
from sparsecc.target.numbers import (
    DTYPES,
    MEMORIES,
    Act,
    Vop,
    acc,
    convert,
    fused_multiply_add,
    l0a,
    l0b,
    memory_of,
    pack_indices,
    pack_metadata,
    round_bf16,
    spad,
    unpack_indices,
    unpack_metadata,
)
from sparsecc.target.state import State

AXSIM = Path(__file__).resolve().parents[2] / "sparsecc" / "runtime" / "axsim"
Array = NDArray[Any]

SHIM = """
#include "target.h"
const ax_config *shim_config(void) { return &ax_target; }
int shim_report(const ax_machine *m, const char *path)
{
    FILE *out = fopen(path, "w");
    if (!out)
        return -1;
    ax_report_json(m, out);
    return fclose(out);
}
"""


def small(name: str, in_type: str, **changes: Any) -> Target:
    """A preset with memories so small that random operands meet."""
    target = Target.load(name).with_type(in_type)
    rows = 64
    cols = target.array.cols
    in_bytes = max(Target.element_bytes(i) for i, _ in target.types)
    l0 = Memory(32 * cols * in_bytes) if target.l0a else None
    spad, acc = Memory(rows * cols * in_bytes), Memory(rows * cols * 4)
    return dataclasses.replace(target, spad=spad, acc=acc, l0a=l0, l0b=l0, **changes)


def without(name: str, section: str) -> tuple[tuple[str, str], ...]:
    """The sources of a preset that says nothing of a section."""
    return tuple(pair for pair in Target.load(name).sources if not pair[0].startswith(section))


def indexed(name: str, in_type: str, costs: Indexed) -> Target:
    """A small target that can address rows by index."""
    target = Target.load(name)
    sources = (*target.sources, ("indexed.*", "assumed"))
    return small(name, in_type, indexed=costs, sources=sources)


# Every kind of array and type, and constants that make each term of the formulas count.
TARGETS = {
    "gemmini i8": small(
        "gemmini16",
        "i8",
        dma=Dma(7.3, 20, 24, 3, 2),
        move=Move(11.7, 5),
        vector=Vector(5, 3),
    ),
    "scalesim f32": small("scalesim-ws16", "f32"),
    "scalesim f16": small("scalesim-ws16", "f16", dma=Dma(math.inf, 1, 64, 2, 5)),
    "scalesim bf16": small("scalesim-ws16", "bf16"),
    "indexed i8": indexed("gemmini16", "i8", Indexed(3, 2, 1.5, 0.75)),
    "indexed f16": indexed("scalesim-ws16", "f16", Indexed(0, 1, 0.0, 2.25)),
    "indexed bf16": indexed("scalesim-ws16", "bf16", Indexed(1, 0, 0.5, 0.5)),
    "indexed f32": indexed("scalesim-ws16", "f32", Indexed(2, 2, 0.5, 0.25)),
    "ascend f16": small("ascend910", "f16"),
    "ascend bf16": small("ascend910", "bf16", dma=Dma(37.5, 20, 32, 1, 3), scatter_add=ScatterAdd(3, 0.25)),
    "nvidia f16": small("nvidia-tc", "f16", structured=Structured("2:4 1:2 1:4 4:16 2:8")),
    "nvidia bf16": small("nvidia-tc", "bf16", scatter_add=None, sources=without("nvidia-tc", "scatter_add")),
}


class Simulator:
    """axsim, compiled with one target and called through ctypes."""

    TYPES = ("i8", "f16", "bf16", "f32", "i32")
    OPERANDS = {
        **dict.fromkeys(("dst", "src", "a", "b", "c"), ctypes.c_uint32),
        **dict.fromkeys(("offset", "stride", "index_offset"), ctypes.c_int64),
        **dict.fromkeys(("value", "imm"), ctypes.c_double),
    }

    def __init__(self, objects: list[Path], target: Target, folder: Path):
        (folder / "target.h").write_text(target_header(target))
        (folder / "shim.c").write_text(SHIM)
        library = folder / "shim.so"
        command = ["cc", "-std=c11", "-shared", "-fPIC", f"-I{AXSIM}", f"-I{folder}"]
        subprocess.run([*command, folder / "shim.c", *objects, "-lm", "-o", library], check=True)
        self.folder = folder
        self.library = ctypes.CDLL(str(library))
        for name in ("shim_config", "ax_open", "ax_error"):
            getattr(self.library, name).restype = ctypes.c_void_p
        self.library.ax_error.restype = ctypes.c_char_p
        self.machine = ctypes.c_void_p()
        self.kept: list[Array] = []

    def open(self):
        self.close()
        config = ctypes.c_void_p(self.library.shim_config())
        self.machine = ctypes.c_void_p(self.library.ax_open(config, 0))
        assert self.machine
        self.kept.clear()

    def close(self):
        if self.machine:
            self.library.ax_close(self.machine)
        self.machine = ctypes.c_void_p()

    def buffer(self, data: Array, element_type: str) -> int:
        """Registers a copy of an array in C's form; `data_of` gives it back."""
        copy = (data.view(np.uint32) >> 16).astype(np.uint16) if element_type == "bf16" else data.copy()
        self.kept.append(copy)
        size = ctypes.c_int64(copy.size)
        kind = self.TYPES.index(element_type)
        pointer = ctypes.c_void_p(copy.ctypes.data)
        handle = self.library.ax_buffer(self.machine, b"buffer", pointer, size, kind)
        assert handle == len(self.kept) - 1
        return handle

    def data_of(self, handle: int, element_type: str) -> Array:
        data = self.kept[handle]
        return (data.astype(np.uint32) << 16).view(np.float32) if element_type == "bf16" else data

    def output(self, element_type: str, scale: float, act: Act) -> int:
        kind = self.TYPES.index(element_type)
        return self.library.ax_output(self.machine, kind, ctypes.c_double(scale), int(act))

    def run(self, mnemonic: str, operands: tuple[Any, ...]) -> str:
        """One instruction; returns the error or ''."""
        instruction = INSTRUCTIONS[mnemonic]
        types = [self.OPERANDS.get(name, ctypes.c_int) for name in instruction.operands]
        if mnemonic == "VOP":
            types[2] = ctypes.c_uint32
        if mnemonic == "TU.SPMMA":
            types[instruction.operands.index("meta")] = ctypes.c_uint32
        if mnemonic in ("TU.PREX", "TU.MMX"):
            types[instruction.operands.index("index")] = ctypes.c_uint32
        arguments = [kind(value) for kind, value in zip(types, operands, strict=True)]
        failed = getattr(self.library, instruction.c_name)(self.machine, *arguments)
        error: bytes | None = self.library.ax_error(self.machine)
        assert bool(failed) == (error is not None)
        return error.decode() if error else ""

    def report(self) -> dict[str, Any]:
        path = self.folder / "report.json"
        assert self.library.shim_report(self.machine, str(path).encode()) == 0
        return json.loads(path.read_text())


@pytest.fixture(scope="session")
def simulators(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("axsim")
    command = ["cc", "-std=c11", "-O1", "-fPIC", "-c", *sorted(AXSIM.glob("*.c"))]
    subprocess.run(command, check=True, cwd=folder)
    objects = sorted(folder.glob("*.o"))
    built: dict[str, Simulator] = {}
    for name, target in TARGETS.items():
        place = folder / name.replace(" ", "-")
        place.mkdir()
        built[name] = Simulator(objects, target, place)
    yield built
    for simulator in built.values():
        simulator.close()


class Programs:
    """Random instructions that mostly make sense, for a state whose written rows are known."""

    def __init__(self, state: State, seed: int):
        self.state = state
        self.random = np.random.default_rng(seed)
        target = state.target
        self.cols = target.array.cols
        self.buffers: dict[str, int] = {}
        for element_type in dict.fromkeys(("i8", target.in_type, target.acc_type, "i32")):
            size = 4096
            if element_type in ("i8", "i32"):
                high = 128 if element_type == "i8" else 2**31
                data = self.random.integers(-high, high, size).astype(DTYPES[element_type])
            else:
                spread = self.random.choice([1.0, 1.0, 1000.0])
                data = convert((self.random.standard_normal(size) * spread).astype(np.float32), element_type)
            self.buffers[element_type] = state.buffer(data, element_type, element_type)
        index = self.random.integers(0, 40, 256).astype(np.int32)
        self.index = state.buffer(index, "i32", "index")
        if target.indexed:
            # Lists that mostly name rows that are there, and that name some twice.
            lists = [self.random.integers(0, 24, 20) for _ in range(8)]
            lists.append(self.random.integers(0, 2**16, 20))
            packed = np.concatenate([pack_indices(target, numbers) for numbers in lists])
            self.list_rows = len(packed) // len(lists)
            self.lists = state.buffer(packed, target.in_type, "lists")
        self.metadata: list[tuple[Kept, Array, int]] = []
        for kept in target.kept_patterns:
            groups = self.cols // kept.keep
            places = np.stack(
                [
                    np.concatenate(
                        [np.sort(self.random.permutation(kept.group)[: kept.keep]) for _ in range(groups)]
                    )
                    for _ in range(20)
                ]
            )
            packed = pack_metadata(target, kept, places)
            self.metadata.append((kept, packed, state.buffer(packed.reshape(-1), target.in_type, str(kept))))
        self.pending: list[tuple[str, tuple[Any, ...], dict[str, str]]] = []
        self.outputs: dict[int, str] = {}
        for element_type in dict.fromkeys(("i8", target.in_type, target.acc_type)):
            for scale, act in ((1.0, Act.RELU), (float(self.random.uniform(-0.1, 0.1)), Act.NONE)):
                self.outputs[state.output(element_type, scale, act)] = element_type

    def number(self, low: int, high: int) -> int:
        return int(self.random.integers(low, high + 1))

    def address(self, memory: str, rows: int, read: bool = False) -> int:
        """An address with room for the rows; one that was written where there is one, if it is read."""
        written = self.state.written[memory]
        room = len(written) - rows
        starts = np.arange(max(1, room + 1))
        if read and room >= 0:
            good = [s for s in starts if written[s : s + rows].all()]
            starts = good or starts
        return int(self.random.choice(starts)) | MEMORIES.index(memory) << 30

    def memory(self) -> str:
        names = [name for name in MEMORIES if len(self.state.written[name])]
        return str(self.random.choice(names))

    def next(self) -> tuple[str, tuple[Any, ...], dict[str, str]]:
        """Mnemonic, operands, and the off-chip type of a store."""
        if self.pending:
            return self.pending.pop()
        kinds = ["LD", "LD", "LDG", "ST", "STS", "MV", "FILL", "VOP", "FENCE"]
        kinds += ["TU.PRE", "TU.MM"] * 2 if self.state.target.array.kind == "ws" else ["MV", "TU.MMA"] * 3
        kinds += ["TU.PREX", "TU.MMX"] * 3 if self.state.target.indexed else []
        kinds += ["TU.SPMMA"] * 3 if self.metadata else []
        mnemonic = str(self.random.choice(kinds))
        rows, cols = self.number(1, 20), self.number(1, 2 * self.cols)
        blocks = -(-cols // self.cols)
        step = self.number(rows, rows + 3)
        covered = rows + (blocks - 1) * step
        memory = self.memory()
        in_memory = self.state.type_of(memory)
        offset, stride = self.number(0, 99), int(self.random.choice([cols, cols + self.number(0, 20)]))
        index = (self.index, self.number(0, 100))
        match mnemonic:
            case "LD" | "LDG":
                where = (self.address(memory, covered), step, self.buffers[in_memory], offset, stride)
                return mnemonic, (*where, *(index if mnemonic == "LDG" else ()), rows, cols), {}
            case "ST" | "STS":
                output = int(self.random.choice([0, *self.outputs]))
                element_type = self.outputs.get(output, in_memory)
                where = (self.buffers[element_type], offset, stride)
                source = (self.address(memory, covered, read=True), step, rows, cols, output)
                if mnemonic == "ST":
                    return mnemonic, (*where, *source), {"off_chip": element_type}
                return mnemonic, (*where, *index, *source, self.number(0, 1)), {"off_chip": element_type}
            case "MV":
                others = [
                    m for m in MEMORIES if len(self.state.written[m]) and (m == "acc") == (memory == "acc")
                ]
                source = (self.address(memory, covered, read=True), step)
                target = (self.address(str(self.random.choice(others)), covered), step)
                return mnemonic, (*target, *source, rows, blocks), {}
            case "FILL":
                return mnemonic, (self.address(memory, rows), rows, float(self.number(-5, 5))), {}
            case "VOP":
                result = self.address(memory, rows)
                a, b = (self.address(memory, rows, read=True) for _ in range(2))
                imm = float(self.random.uniform(-2, 2))
                return mnemonic, (self.number(0, 4), result, a, b, rows, imm), {}
            case "TU.PRE":
                rows, cols = self.number(1, 16), self.number(1, 16)
                return mnemonic, (self.address("spad", rows, read=True), rows, cols), {}
            case "TU.MM":
                add = self.number(0, 1)
                sums = self.address("acc", rows, read=bool(add))
                return mnemonic, (sums, self.address("spad", rows, read=True), rows, add), {}
            case "TU.PREX" | "TU.MMX":
                # A list comes first; what uses it follows.
                where = self.address("spad", self.list_rows)
                start = self.number(0, 8) * self.list_rows * self.cols
                if mnemonic == "TU.PREX":
                    rows, cols = self.number(1, 16), self.number(1, 16)
                    operands = (self.number(0, 50), where, rows, cols)
                else:
                    a = self.address("spad", rows, read=True)
                    operands = (acc(self.number(0, 50)), a, where, rows)
                self.pending.append((mnemonic, operands, {}))
                return "LD", (where, 0, self.lists, start, self.cols, self.list_rows, self.cols), {}
            case "TU.SPMMA":
                # Its metadata comes first.
                kept, packed, buffer = self.metadata[self.number(0, len(self.metadata) - 1)]
                m, n, k = rows, self.number(1, 20), self.number(1, 20)
                add = self.number(0, 1)
                sums = self.address("acc", m, read=bool(add))
                where = self.address("l0a", len(packed))
                a, b = self.address("l0a", m, read=True), self.address("l0b", k, read=True)
                steps = [self.number(1, 20) for _ in range(2)]
                operands = (sums, steps[0], a, where, b, steps[1], m, n, k, kept.keep, kept.group, add)
                self.pending.append((mnemonic, operands, {}))
                return "LD", (where, 0, buffer, 0, self.cols, len(packed), self.cols), {}
            case "TU.MMA":
                m, n, k = rows, self.number(1, 20), self.number(1, 20)
                add = self.number(0, 1)
                sums = self.address("acc", m, read=bool(add))
                a, b = self.address("l0a", m, read=True), self.address("l0b", k, read=True)
                steps = [self.number(1, 20) for _ in range(3)]
                return mnemonic, (sums, steps[0], a, steps[1], b, steps[2], m, n, k, add), {}
            case _:
                return mnemonic, (), {}


def same(a: Array, b: Array) -> bool:
    """Bit for bit, but for the payload of a NaN."""
    if a.dtype.kind != "f":
        return bool((a == b).all())
    return bool(((np.isnan(a) & np.isnan(b)) | ((a == b) & (np.signbit(a) == np.signbit(b)))).all())


@pytest.mark.parametrize("name", TARGETS)
def test_reference_equals_simulator(name: str, simulators: dict[str, Simulator]):
    target, simulator = TARGETS[name], simulators[name]
    ran: Counter[str] = Counter()

    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(st.integers(0, 2**32 - 1))
    def check(seed: int):
        state = State(target)
        programs = Programs(state, seed)
        simulator.open()
        for buffer in state.buffers:
            simulator.buffer(buffer.data, buffer.element_type)
        for output in state.outputs[1:]:
            assert output is not None
            simulator.output(output.element_type, output.scale, output.act)

        busy: Counter[str] = Counter()
        energy = 0.0

        def run(mnemonic: str, operands: tuple[Any, ...], options: dict[str, str]) -> bool:
            nonlocal energy
            instruction = INSTRUCTIONS[mnemonic]
            try:
                instruction.reference(state, *operands)
            except UserError:
                return False
            assert simulator.run(mnemonic, operands) == ""
            cost = instruction.cost(target, *operands, **options)
            busy[instruction.engine_on(target)] += cost.cycles
            energy += cost.pj
            ran[mnemonic] += 1
            return True

        # Something to work on, so that most of the instructions can run.
        for number, memory in enumerate(MEMORIES):
            if len(state.written[memory]):
                buffer = programs.buffers[state.type_of(memory)]
                assert run("LD", (number << 30, 0, buffer, 0, 16, 24, 16), {})
        for _ in range(30):
            mnemonic, operands, options = programs.next()
            # What the reference refuses the simulator refuses, and is of no more use: so only now and then.
            if not run(mnemonic, operands, options) and programs.number(0, 20) == 0:
                assert simulator.run(mnemonic, operands) != ""
                ran["refused"] += 1
                return
        # All that was written on the chip leaves it, so that it is compared, too.
        for number, memory in enumerate(MEMORIES):
            buffer = programs.buffers[state.type_of(memory)]
            for row in map(int, np.flatnonzero(state.written[memory])):
                source = (row | number << 30, 0, 1, target.array.cols, 0)
                assert run("ST", (buffer, row * target.array.cols, 0, *source), {})
            for handle, kept in enumerate(state.buffers):
                assert same(kept.data, simulator.data_of(handle, kept.element_type))
        report = simulator.report()
        engines = {engine: numbers["busy"] for engine, numbers in report["engines"].items()}
        assert engines == {engine: busy[engine] for engine in engines}
        assert energy == pytest.approx(report["energy_pj"]["total"], rel=1e-9)
        ran["compared"] += 1

    check()
    assert ran.pop("compared") >= 20
    assert ran.pop("refused") >= 1
    unit = {"TU.PRE", "TU.MM"} if target.array.kind == "ws" else {"TU.MMA"}
    unit |= {"TU.PREX", "TU.MMX"} if target.indexed else set()
    unit |= {"TU.SPMMA"} if target.structured else set()
    assert set(ran) == unit | {"LD", "LDG", "ST", "STS", "MV", "FILL", "VOP", "FENCE"}


def test_operands_are_those_of_the_c_calls():
    header = (AXSIM / "axsim.h").read_text()
    for instruction in INSTRUCTIONS.values():
        found = re.search(
            rf"^int {instruction.c_name}\(ax_machine \*m(.*?)\);", header, re.DOTALL | re.MULTILINE
        )
        assert found, instruction.c_name
        names = re.findall(r"(\w+)(?=,|$)", found[1])
        assert instruction.operands == tuple(names), instruction.mnemonic


def test_addresses():
    assert [memory_of(address(5)) for address in (spad, acc, l0a, l0b)] == list(MEMORIES)


GEMMINI = Target.load("gemmini16")
SCALESIM = Target.load("scalesim-ws32")
ASCEND = Target.load("ascend910")
NVIDIA = Target.load("nvidia-tc")
INDEXED = indexed("scalesim-ws32", "i8", Indexed(2, 3, 1.5, 2.5))


@pytest.mark.parametrize(
    ("target", "mnemonic", "operands", "cycles"),
    [
        (GEMMINI, "LD", (spad(0), 0, 0, 0, 64, 16, 16), 16),
        (GEMMINI, "LD", (spad(0), 16, 0, 0, 64, 16, 40), 16 * 3),
        (GEMMINI, "LD", (acc(0), 0, 0, 0, 64, 4, 16), 4 * 4),
        (GEMMINI, "LDG", (spad(0), 16, 0, 0, 100, 1, 0, 8, 100), 8 * 7 + 8 * 2 + 2),
        (GEMMINI, "ST", (0, 0, 16, acc(0), 0, 16, 16, 0), 16 * 4),
        (GEMMINI, "STS", (0, 0, 16, 1, 0, acc(0), 0, 16, 16, 0, 0), 16 * 4 + 16 + 4),
        (TARGETS["ascend bf16"], "STS", (0, 0, 16, 1, 0, acc(0), 0, 16, 16, 0, 1), 16 * (4 + 6 + 3) + 2),
        (GEMMINI, "MV", (spad(64), 16, spad(0), 16, 16, 2), 32 + GEMMINI.move.latency),
        (GEMMINI, "VOP", (Vop.ADD, acc(0), acc(0), acc(16), 16, 0.0), 16 + GEMMINI.vector.latency),
        (GEMMINI, "TU.PRE", (spad(0), 3, 3), 16),
        (GEMMINI, "TU.MM", (acc(0), spad(0), 2, 0), 4),
        (GEMMINI, "TU.MM", (acc(0), spad(0), 100, 1), 100),
        (SCALESIM, "TU.MM", (acc(0), spad(0), 100, 1), 100 + 32 + 32 - 2),
        (Target.load("gemmini16x"), "TU.PREX", (spad(0), spad(64), 3, 3), 16),
        (Target.load("gemmini16x"), "TU.MMX", (acc(0), spad(0), spad(64), 2), 4),
        (INDEXED, "TU.PREX", (spad(0), spad(64), 3, 3), 32 + 3 * 2),
        (INDEXED, "TU.MMX", (acc(0), spad(0), spad(64), 10), 10 + 3 * 10 + 32 + 32 - 2),
        (SCALESIM, "LD", (spad(0), 0, 0, 0, 64, 16, 16), 0),
        (ASCEND, "TU.MMA", (acc(0), 0, l0a(0), 16, l0b(0), 0, 17, 16, 64, 0), 2 * 1 * 4),
        (NVIDIA, "TU.MMA", (acc(0), 0, l0a(0), 0, l0b(0), 0, 16, 8, 32, 0), 2 * 32),
        (NVIDIA, "TU.SPMMA", (acc(0), 0, l0a(0), l0a(16), l0b(0), 0, 16, 8, 32, 2, 4, 0), 32),
        (NVIDIA, "TU.SPMMA", (acc(0), 0, l0a(0), l0a(16), l0b(0), 0, 17, 9, 33, 2, 4, 0), 2 * 2 * 2 * 32),
        (ASCEND, "FENCE", (), 0),
    ],
)
def test_cycles(target: Target, mnemonic: str, operands: tuple[Any, ...], cycles: int):
    assert INSTRUCTIONS[mnemonic].cost(target, *operands).cycles == cycles


def test_store_costs_what_it_writes():
    operands = (0, 0, 16, acc(0), 0, 16, 16, 1)
    store = INSTRUCTIONS["ST"]
    assert store.cost(GEMMINI, *operands, off_chip="i8").cycles == 16
    saved = store.cost(GEMMINI, *operands).pj - store.cost(GEMMINI, *operands, off_chip="i8").pj
    assert saved == pytest.approx(3 * 256 * GEMMINI.energy.dram_pj_per_byte)


def test_a_list_costs_its_whole_rows():
    prex, mmx = INSTRUCTIONS["TU.PREX"], INSTRUCTIONS["TU.MMX"]
    row_pj = INDEXED.row_bytes * INDEXED.energy.spad_pj_per_byte
    for rows, list_rows in ((1, 1), (16, 1), (17, 2), (32, 2)):
        more = prex.cost(INDEXED, spad(0), spad(64), rows, 32).pj
        more -= INSTRUCTIONS["TU.PRE"].cost(INDEXED, spad(0), rows, 32).pj
        assert more == pytest.approx(list_rows * row_pj + rows * 1.5)
        more = mmx.cost(INDEXED, acc(0), spad(0), spad(64), rows).pj
        more -= INSTRUCTIONS["TU.MM"].cost(INDEXED, acc(0), spad(0), rows, 1).pj
        assert more == pytest.approx(list_rows * row_pj + rows * 2.5)


@pytest.mark.parametrize("name", ["TU.PREX", "TU.MMX"])
def test_rows_by_index_cost_nothing_where_there_are_none(name: str):
    with pytest.raises(UserError, match=r"target gemmini16 cannot address rows by index; .*\[indexed\]"):
        INSTRUCTIONS[name].cost(GEMMINI, spad(0), spad(0), spad(0), 1)


@pytest.mark.parametrize("in_type", ["i8", "f16", "bf16", "f32"])
def test_lists_are_packed_in_bytes(in_type: str):
    """Every number there is, in elements that LD takes, survives; bytes are little-endian."""
    target = SCALESIM.with_type(in_type)
    numbers = np.random.default_rng(0).permutation(2**16)[:60001]
    packed = pack_indices(target, numbers)
    assert packed.dtype == DTYPES[in_type]
    assert packed.shape == (-(-len(numbers) // target.indices_per_row), 32)
    assert (unpack_indices(target, packed, len(numbers)) == numbers).all()
    state = State(target)
    handle = state.buffer(packed.reshape(-1), in_type)
    INSTRUCTIONS["LD"].reference(state, spad(0), 0, handle, 0, 32, len(packed), 32)
    assert (unpack_indices(target, state.read(spad(0), len(packed)), len(numbers)) == numbers).all()
    assert pack_indices(target, []).shape == (0, 32)
    for wrong in ([-1], [2**16]):
        with pytest.raises(UserError, match="needed 0 to 65535"):
            pack_indices(target, wrong)


@pytest.mark.parametrize("in_type", ["f16", "bf16"])
@pytest.mark.parametrize("pattern", ["2:4", "1:2", "4:8", "5:16"])
def test_metadata_survives_packing(in_type: str, pattern: str):
    kept = Kept(*map(int, pattern.split(":")))
    target = NVIDIA.with_type(in_type)
    groups = 16 // kept.keep
    rng = np.random.default_rng(0)
    places = np.sort(rng.random((21, groups, kept.group)).argsort(axis=2)[:, :, : kept.keep], axis=2)
    places = places.reshape(21, -1)
    packed = pack_metadata(target, kept, places)
    assert packed.shape == (target.metadata_rows(kept, 21), 16)
    assert packed.dtype == DTYPES[in_type]
    assert (unpack_metadata(target, kept, packed, 21, groups * kept.keep) == places).all()


def test_the_bytes_of_metadata():
    """Two bits for each value, the first value lowest, four bytes to a row of 16 values."""
    packed = pack_metadata(NVIDIA, Kept(2, 4), np.array([[0, 1, 2, 3], [1, 3, 0, 2]]))
    assert packed.view(np.uint8)[0].tolist() == [0b11100100, 0, 0, 0, 0b10001101, 0, 0, 0] + 24 * [0]


def test_metadata_costs_its_whole_rows():
    """Half the products and half the left operand of TU.MMA; all of the right one, and the metadata."""
    dense = INSTRUCTIONS["TU.MMA"].cost(NVIDIA, acc(0), 0, l0a(0), 16, l0b(0), 0, 16, 8, 32, 0).pj
    operands = (acc(0), 0, l0a(0), l0a(16), l0b(0), 0, 16, 8, 32, 2, 4, 0)
    sparse = INSTRUCTIONS["TU.SPMMA"].cost(NVIDIA, *operands).pj
    saved = 16 * 8 * 16 * NVIDIA.mac_pj + (16 * 16 * 2 - 16 * 4) * NVIDIA.energy.l0_pj_per_byte
    assert dense - sparse == pytest.approx(saved)


@pytest.mark.parametrize(
    ("target", "keep", "message"),
    [
        (NVIDIA, 1, "target nvidia-tc does not take 1:4 left operands; it takes 2:4"),
        (ASCEND, 2, r"target ascend910 does not take 2:4 left operands; it takes none; .*\[structured\]"),
    ],
)
def test_patterns_the_unit_does_not_take(target: Target, keep: int, message: str):
    operands = (acc(0), 0, l0a(0), l0a(16), l0b(0), 0, 16, 8, 32, keep, 4, 0)
    with pytest.raises(UserError, match=message):
        INSTRUCTIONS["TU.SPMMA"].cost(target, *operands)


def test_adding_in_memory_costs_nothing_where_there_is_none():
    with pytest.raises(UserError, match=r"target gemmini16 cannot add to memory; .*\[scatter_add\]"):
        INSTRUCTIONS["STS"].cost(GEMMINI, 0, 0, 16, 1, 0, acc(0), 0, 16, 16, 0, 1)


def test_the_bytes_of_a_list():
    assert pack_indices(GEMMINI, [1, 0x203]).view(np.uint8).tolist() == [[1, 0, 3, 2] + 12 * [0]]


def test_only_one_register_for_weights_means_the_array_itself_loads():
    assert INSTRUCTIONS["TU.PRE"].engine_on(GEMMINI) == "WPORT"
    assert INSTRUCTIONS["TU.PRE"].engine_on(SCALESIM) == "MAT"
    assert INSTRUCTIONS["TU.MM"].engine_on(SCALESIM) == "MAT"


def test_int8_sums_wrap():
    state = State(GEMMINI)
    x = state.buffer(np.full(256, -128, np.int8), "i8")
    sums = state.buffer(np.full(16, 2**31 - 1, np.int32), "i32")
    run = INSTRUCTIONS
    run["LD"].reference(state, spad(0), 0, x, 0, 16, 16, 16)
    run["LD"].reference(state, acc(0), 0, sums, 0, 16, 1, 16)
    run["TU.PRE"].reference(state, spad(0), 16, 16)
    run["TU.MM"].reference(state, acc(0), spad(0), 1, 1)
    run["ST"].reference(state, sums, 0, 16, acc(0), 0, 1, 16, 0)
    assert (state.buffers[sums].data == -(2**31) + 16 * 128 * 128 - 1).all()


def test_buffers_are_written_in_place():
    data = np.zeros((4, 16), np.int32)
    state = State(GEMMINI)
    handle = state.buffer(data, "i32", "y")
    INSTRUCTIONS["FILL"].reference(state, acc(0), 4, 7.0)
    INSTRUCTIONS["ST"].reference(state, handle, 0, 16, acc(0), 0, 4, 16, 0)
    assert (data == 7).all()


floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(floats, floats, floats)
def test_fused_multiply_add_rounds_once(a: float, b: float, c: float):
    one = [np.array([x], np.float32) for x in (a, b, c)]
    found = fused_multiply_add(*one)[0]
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if np.isfinite(found):
        down, up = (np.nextafter(found, np.float32(s * np.inf)) for s in (-1, 1))
        error = abs(Fraction(float(found)) - exact)
        for other in (down, up):
            if np.isfinite(other):
                distance = abs(Fraction(float(other)) - exact)
                assert error < distance or (error == distance and found.view(np.uint32) % 2 == 0)
    else:
        assert abs(exact) >= Fraction(float(np.finfo(np.float32).max))


@given(st.floats(width=32))
def test_round_bf16(value: float):
    x = np.array([value], np.float32)
    found = round_bf16(x)
    if math.isnan(value):
        assert np.isnan(found[0])
        return
    assert found.view(np.uint32)[0] & 0xFFFF == 0
    low = (x.view(np.uint32) & 0xFFFF0000).astype(np.uint32)
    high = (low + 0x10000).astype(np.uint32)
    if np.isfinite(high.view(np.float32)[0]) and np.isfinite(value):
        distances = [abs(float(n.view(np.float32)[0]) - float(x[0])) for n in (low, high)]
        even = low if low[0] >> 16 & 1 == 0 else high
        nearest = low if distances[0] < distances[1] else high if distances[1] < distances[0] else even
        assert found.view(np.uint32)[0] == nearest[0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(127.4, 127), (127.5, 127), (300, 127), (-128.5, -128), (-1e9, -128), (0.5, 0), (1.5, 2), (-0.5, 0)],
)
def test_convert_to_i8(value: float, expected: int):
    assert convert(np.array([value], np.float32), "i8")[0] == expected


@pytest.mark.parametrize(
    ("mnemonic", "operands", "needed"),
    [
        ("LD", (spad(16380), 0, 0, 0, 16, 16, 16), "none beyond the 16384 of this memory"),
        ("LD", (spad(0), 1, 0, 0, 32, 2, 32), "needed a step of at least 2, found 1"),
        ("LD", (spad(0), 0, 0, 0, 16, 17, 16), "which has elements 0 to 255"),
        ("LD", (spad(0), 0, 7, 0, 16, 1, 16), "buffer 7 is not known"),
        ("LD", (acc(0), 0, 0, 0, 16, 1, 16), "has i8, but acc holds i32"),
        ("LD", (spad(0), 0, 0, 0, 16, 0, 16), "needed at least 1"),
        ("LDG", (spad(0), 0, 0, 0, 16, 0, 0, 1, 16), "needed i32"),
        ("LDG", (spad(0), 0, 0, 0, 16, 1, 0, 1, 16), "has -1, needed at least 0"),
        ("ST", (1, 0, 16, acc(0), 0, 1, 16, 0), "never written"),
        ("ST", (0, 0, 8, acc(0), 0, 2, 16, 0), "rows of 16 overlap"),
        ("ST", (0, 0, 16, acc(0), 0, 1, 16, 3), "output conversion 3 is not known"),
        ("MV", (acc(0), 0, spad(0), 0, 1, 1), "needed the same to move"),
        ("FILL", (spad(0), 1, 1.5), "a whole number from -128 to 127"),
        ("VOP", (Vop.RELU, acc(0), spad(0), 0, 1, 0.0), "needed i32 as the result in acc"),
        ("TU.PRE", (spad(0), 17, 16), "does not fit the array of 16 x 16"),
        ("TU.PRE", (acc(0), 16, 16), "operand b is in acc, needed in spad"),
        ("TU.MM", (acc(0), spad(0), 16, 0), "needs a TU.PRE before it"),
        ("TU.MMA", (acc(0), 0, l0a(0), 0, l0b(0), 0, 1, 1, 1, 0), "has no TU.MMA"),
        ("TU.PREX", (spad(0), spad(0), 16, 16), "target gemmini16 cannot address rows by index"),
        ("TU.MMX", (acc(0), spad(0), spad(0), 16), "target gemmini16 cannot address rows by index"),
    ],
)
def test_wrong_operands(mnemonic: str, operands: tuple[Any, ...], needed: str):
    state = State(GEMMINI)
    state.buffer(np.zeros(256, np.int8), "i8", "x")
    state.buffer(np.full(16, -1, np.int32), "i32", "index")
    with pytest.raises(UserError) as error:
        INSTRUCTIONS[mnemonic].reference(state, *operands)
    assert needed in str(error.value)


@pytest.mark.parametrize(
    ("mnemonic", "operands", "needed"),
    [
        ("TU.PREX", (spad(0), spad(32), 17, 16), "does not fit the array of 16 x 16"),
        ("TU.PREX", (acc(0), spad(32), 1, 1), "operand b is in acc, needed in spad"),
        ("TU.PREX", (spad(0), acc(32), 1, 1), "operand index is in acc, needed in spad"),
        ("TU.PREX", (spad(0), spad(40), 1, 1), "row 40 of spad is read, but was never written"),
        ("TU.PREX", (spad(16383), spad(32), 1, 1), "index 0 is 5: row 16388 of spad, which has 16384 rows"),
        ("TU.PREX", (spad(100), spad(32), 1, 1), "index 0 is 5: row 105 of spad is read, but was never"),
        ("TU.MMX", (spad(0), spad(0), spad(32), 1), "operand c is in spad, needed in acc"),
        ("TU.MMX", (acc(0), acc(0), spad(32), 1), "operand a is in acc, needed in spad"),
        ("TU.MMX", (acc(0), spad(0), acc(0), 1), "operand index is in acc, needed in spad"),
        ("TU.MMX", (acc(0), spad(0), spad(32), 0), "needed at least one row"),
        ("TU.MMX", (acc(0), spad(0), spad(32), 2), "index 1 is 770: row 770 of acc is read, but was never"),
        ("TU.MMX", (acc(1000), spad(0), spad(32), 2), "index 1 is 770: row 1770 of acc, which has 1024 rows"),
    ],
)
def test_wrong_rows_by_index(mnemonic: str, operands: tuple[Any, ...], needed: str):
    target = Target.load("gemmini16x")
    state, run = State(target), INSTRUCTIONS
    lists = state.buffer(pack_indices(target, [5, 770]).reshape(-1), "i8", "lists")
    run["FILL"].reference(state, spad(0), 32, 0.0)
    run["FILL"].reference(state, acc(0), 16, 0.0)
    run["FILL"].reference(state, acc(1005), 1, 0.0)
    run["LD"].reference(state, spad(32), 0, lists, 0, 16, 1, 16)
    with pytest.raises(UserError, match=r"needs a TU\.PRE or TU\.PREX before it"):
        run["TU.MMX"].reference(state, acc(0), spad(0), spad(32), 1)
    run["TU.PRE"].reference(state, spad(0), 16, 16)
    with pytest.raises(UserError) as error:
        run[mnemonic].reference(state, *operands)
    assert needed in str(error.value)
