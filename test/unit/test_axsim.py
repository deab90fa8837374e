"""The simulator of the tensor family: published closed forms, numpy, conservation, and its messages."""

from __future__ import annotations

import ctypes
import json
import math
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

Array = NDArray[Any]

SOURCES = Path(__file__).resolve().parents[2] / "sparsecc" / "runtime" / "axsim"
SELFTEST = Path(__file__).resolve().parent / "axsim_selftest.c"
STRICT = ["-std=c11", "-Wall", "-Wextra", "-Werror"]
COMPILERS = [cc for cc in ("gcc", "clang", "clang-19") if shutil.which(cc)]

I8, F16, BF16, F32, I32 = range(5)
WS, MMA = range(2)
RELU = 1
ADD, MUL, MAX, VRELU, SCALE = range(5)
NO_DATA, TRACE = 1, 2
INF = math.inf
BYTES = {I8: 1, F16: 2, BF16: 2, F32: 4, I32: 4}
NUMPY: dict[int, Any] = {I8: np.int8, F16: np.float16, BF16: np.uint16, F32: np.float32, I32: np.int32}
MEMORIES = ("spad", "acc", "l0a", "l0b")


def spad(row: int) -> int:
    return row


def acc(row: int) -> int:
    return row | 0x40000000


def l0a(row: int) -> int:
    return row | 0x80000000


def l0b(row: int) -> int:
    return row | 0xC0000000


_INT, _DOUBLE = ctypes.c_int, ctypes.c_double
DEFAULTS: dict[str, tuple[Any, Any]] = {
    "name": (ctypes.c_char_p, b"test16"),
    "clock_ghz": (_DOUBLE, 1.0),
    "kind": (_INT, WS),
    "rows": (_INT, 16),
    "cols": (_INT, 16),
    "in": (_INT, I8),
    "acc": (_INT, I32),
    "pe_double_buffer": (_INT, 1),
    "fill_in_occupancy": (_INT, 0),
    "min_rows": (_INT, 0),
    "mma_m": (_INT, 16),
    "mma_n": (_INT, 16),
    "mma_k": (_INT, 16),
    "mma_interval": (_INT, 1),
    "mma_latency": (_INT, 0),
    "spad_bytes": (ctypes.c_int64, 1 << 16),
    "acc_bytes": (ctypes.c_int64, 1 << 16),
    "l0a_bytes": (ctypes.c_int64, 0),
    "l0b_bytes": (ctypes.c_int64, 0),
    "line_rows": (_INT, 16),
    "dma_bytes_per_cycle": (_DOUBLE, 16.0),
    "dma_latency": (_INT, 100),
    "dma_max_burst": (_INT, 64),
    "dma_row_overhead": (_INT, 1),
    "dma_gather_overhead": (_INT, 2),
    "move_bytes_per_cycle": (_DOUBLE, 64.0),
    "move_latency": (_INT, 2),
    "vector_lanes": (_INT, 16),
    "vector_latency": (_INT, 4),
    "queue_load": (_INT, 8),
    "queue_execute": (_INT, 16),
    "queue_store": (_INT, 4),
    "issue_gap": (_INT, 1),
    "report_last_index": (_INT, 0),
    "mac_pj": (_DOUBLE, 0.25),
    "reg_pj_per_byte": (_DOUBLE, 0.5),
    "spad_pj_per_byte": (_DOUBLE, 1.25),
    "acc_pj_per_byte": (_DOUBLE, 1.5),
    "l0_pj_per_byte": (_DOUBLE, 0.75),
    "dram_pj_per_byte": (_DOUBLE, 64.0),
    "alu_pj": (_DOUBLE, 0.125),
    "indexed": (_INT, 0),
    "indexed_read_cycles": (_INT, 0),
    "indexed_accumulate_cycles": (_INT, 0),
    "indexed_read_pj": (_DOUBLE, 2.0),
    "indexed_accumulate_pj": (_DOUBLE, 3.0),
    "kept_of_2": (_INT, 0),
    "kept_of_4": (_INT, 0),
    "kept_of_8": (_INT, 0),
    "kept_of_16": (_INT, 0),
    "scatter_add": (_INT, 1),
    "scatter_add_cycles": (_INT, 0),
    "scatter_add_pj": (_DOUBLE, 0.5),
}


class Config(ctypes.Structure):
    _fields_ = [(name, ctype) for name, (ctype, _) in DEFAULTS.items()]


_HANDLE, _ADDRESS, _N32, _N64 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int32, ctypes.c_int64
SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "ax_open": (_HANDLE, [ctypes.POINTER(Config), ctypes.c_uint]),
    "ax_close": (None, [_HANDLE]),
    "ax_error": (ctypes.c_char_p, [_HANDLE]),
    "ax_scope": (None, [_HANDLE, ctypes.c_char_p]),
    "ax_buffer": (_INT, [_HANDLE, ctypes.c_char_p, _HANDLE, _N64, _INT]),
    "ax_output": (_INT, [_HANDLE, _INT, _DOUBLE, _INT]),
    "ax_ld": (_INT, [_HANDLE, _ADDRESS, _N32, _INT, _N64, _N64, _N32, _N32]),
    "ax_ldg": (_INT, [_HANDLE, _ADDRESS, _N32, _INT, _N64, _N64, _INT, _N64, _N32, _N32]),
    "ax_st": (_INT, [_HANDLE, _INT, _N64, _N64, _ADDRESS, _N32, _N32, _N32, _INT]),
    "ax_sts": (_INT, [_HANDLE, _INT, _N64, _N64, _INT, _N64, _ADDRESS, _N32, _N32, _N32, _INT, _INT]),
    "ax_mv": (_INT, [_HANDLE, _ADDRESS, _N32, _ADDRESS, _N32, _N32, _N32]),
    "ax_fill": (_INT, [_HANDLE, _ADDRESS, _N32, _DOUBLE]),
    "ax_vop": (_INT, [_HANDLE, _INT, _ADDRESS, _ADDRESS, _ADDRESS, _N32, _DOUBLE]),
    "ax_pre": (_INT, [_HANDLE, _ADDRESS, _N32, _N32]),
    "ax_mm": (_INT, [_HANDLE, _ADDRESS, _ADDRESS, _N32, _INT]),
    "ax_prex": (_INT, [_HANDLE, _ADDRESS, _ADDRESS, _N32, _N32]),
    "ax_mmx": (_INT, [_HANDLE, _ADDRESS, _ADDRESS, _ADDRESS, _N32]),
    "ax_mma": (_INT, [_HANDLE, _ADDRESS, _N32, _ADDRESS, _N32, _ADDRESS, _N32, _N32, _N32, _N32, _INT]),
    "ax_spmma": (_INT, [_HANDLE, _ADDRESS, _N32, *[_ADDRESS] * 3, _N32, *[_N32] * 5, _INT]),
    "ax_fence": (_INT, [_HANDLE]),
    "ax_cycles": (_N64, [_HANDLE]),
    "ax_report_json": (None, [_HANDLE, _HANDLE]),
    "ax_report_text": (None, [_HANDLE, _HANDLE]),
    "ax_write_trace": (_INT, [_HANDLE, ctypes.c_char_p]),
}


def build(out: Path, *flags: str, compiler: str = "cc") -> ctypes.CDLL:
    """The simulator as a shared library."""
    sources = sorted(str(path) for path in SOURCES.glob("*.c"))
    command = [compiler, *STRICT, "-O2", "-fPIC", "-shared", *flags, *sources, "-o", str(out), "-lm"]
    subprocess.run(command, check=True)
    library = ctypes.CDLL(str(out))
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class AxError(Exception):
    """What ax_error said."""


class Machine:
    """One simulated machine; every method is one call of the interface, without its first argument."""

    def __init__(self, library: ctypes.CDLL, flags: int = 0, **config: Any) -> None:
        unknown = set(config) - set(DEFAULTS)
        assert not unknown, unknown
        self.config = {name: config.get(name, default) for name, (_, default) in DEFAULTS.items()}
        self._library = library
        self._kept: list[object] = []
        self.handle = library.ax_open(ctypes.byref(Config(*self.config.values())), flags)
        assert self.handle

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.ax_close(self.handle)

    def error(self) -> str | None:
        text = self._library.ax_error(self.handle)
        return None if text is None else text.decode()

    def call(self, name: str, *arguments: Any) -> int:
        result = getattr(self._library, "ax_" + name)(self.handle, *arguments)
        if result == -1:
            raise AxError(self.error())
        return cast(int, result)

    def scope(self, name: str) -> None:
        kept = ctypes.create_string_buffer(name.encode())
        self._kept.append(kept)
        self._library.ax_scope(self.handle, ctypes.cast(kept, ctypes.c_char_p))

    def buffer(self, name: str, data: Array, kind: int) -> int:
        assert data.flags.c_contiguous
        assert data.dtype == NUMPY[kind]
        self._kept.append(data)
        return self.call("buffer", name.encode(), data.ctypes.data, data.size, kind)

    def absent(self, name: str, elements: int, kind: int) -> int:
        """A buffer without data."""
        return self.call("buffer", name.encode(), None, elements, kind)

    def cycles(self) -> int:
        return cast(int, self._library.ax_cycles(self.handle))

    def _printed(self, function: str) -> str:
        libc = ctypes.CDLL(None)
        libc.open_memstream.restype = ctypes.c_void_p
        libc.fclose.argtypes = [ctypes.c_void_p]
        text, size = ctypes.c_char_p(), ctypes.c_size_t()
        stream = libc.open_memstream(ctypes.byref(text), ctypes.byref(size))
        getattr(self._library, function)(self.handle, stream)
        libc.fclose(stream)
        result = text.value or b""
        libc.free(text)
        return result.decode()

    def report(self) -> dict[str, Any]:
        return json.loads(self._printed("ax_report_json"))

    def text(self) -> str:
        return self._printed("ax_report_text")

    def trace(self, path: Path) -> dict[str, Any]:
        self.call("write_trace", os.fsencode(path))
        return json.loads(path.read_text())


@pytest.fixture(scope="session", name="library")
def library_fixture(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return build(tmp_path_factory.mktemp("axsim") / "libaxsim.so")


@pytest.fixture(scope="session", name="portable")
def portable_fixture(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return build(tmp_path_factory.mktemp("axsim") / "libaxsim-portable.so", "-DAX_PORTABLE")


def check_conservation(report: dict[str, Any]) -> None:
    """Every cycle of every engine is accounted for, and energy is counters times constants."""
    for engine in report["engines"].values():
        parts = [engine["busy"], engine["drain"], *engine["stalls"].values()]
        assert all(part >= 0 for part in parts)
        assert sum(parts) == report["span_cycles"]
    energy = dict(report["energy_pj"])
    assert math.isclose(energy.pop("total"), sum(energy.values()))


# --- Time: published closed forms ---------------------------------------------------------------------------

SCALE_SIM = {
    "pe_double_buffer": 0,
    "fill_in_occupancy": 1,
    "dma_bytes_per_cycle": INF,
    "dma_latency": 0,
    "dma_row_overhead": 0,
    "dma_gather_overhead": 0,
    "move_latency": 0,
    "vector_latency": 0,
    "issue_gap": 0,
    "report_last_index": 1,
}


def gemm_time(library: ctypes.CDLL, m: int, n: int, k: int, **config: Any) -> int:
    """Time of a dense product, fold by fold: one stationary tile, through which all M rows stream."""
    rows, cols = config["rows"], config["cols"]
    width = max(rows, cols)
    tiles = math.ceil(n / cols)
    memory = {"spad_bytes": (m + rows) * width, "acc_bytes": m * tiles * cols * 4}
    with Machine(library, NO_DATA, **memory, **config) as machine:
        x, w, y = (
            machine.absent(name, size, t)
            for name, size, t in (("x", m * k, I8), ("w", k * n, I8), ("y", m * n, I32))
        )
        for k0 in range(0, k, rows):
            kt = min(rows, k - k0)
            machine.call("ld", spad(0), 0, x, k0, k, m, kt)
            for t in range(tiles):
                nt = min(cols, n - t * cols)
                machine.call("ld", spad(m), 0, w, k0 * n + t * cols, n, kt, nt)
                machine.call("pre", spad(m), kt, nt)
                machine.call("mm", acc(t * m), spad(0), m, k0 > 0)
        for t in range(tiles):
            machine.call("st", y, t * cols, n, acc(t * m), 0, m, min(cols, n - t * cols), 0)
        check_conservation(machine.report())
        return machine.cycles()


GOLDEN = {
    (64, 64, 64): (1759, 631, 445),
    (128, 128, 128): (11135, 3551, 509),
    (256, 256, 256): (77311, 22399, 2551),
    (1, 256, 256): (12031, 6079, 1531),
    (100, 70, 50): (2919, 1163, 481),
}


@pytest.mark.parametrize("shape", GOLDEN)
def test_scale_sim_golden(library: ctypes.CDLL, shape: tuple[int, int, int]) -> None:
    """ "Total Cycles" of scalesim 3.0.0, weight stationary, on arrays of 16, 32 and 128."""
    m, n, k = shape
    found = tuple(gemm_time(library, m, n, k, rows=s, cols=s, **SCALE_SIM) for s in (16, 32, 128))
    assert found == GOLDEN[shape]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 70), st.integers(1, 20), st.integers(1, 20))
def test_scale_sim_closed_form(library: ctypes.CDLL, m: int, n: int, k: int, rows: int, cols: int) -> None:
    folds = math.ceil(k / rows) * math.ceil(n / cols)
    expected = folds * (2 * rows + cols + m - 2) - 1
    assert gemm_time(library, m, n, k, rows=rows, cols=cols, **SCALE_SIM) == expected


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(0, 20), st.integers(1, 20))
def test_onnxim_start_rule(library: ctypes.CDLL, sizes: list[int], least: int, size: int) -> None:
    """With double-buffered weights: start_i = start_(i-1) + max(max(m_(i-1), least), R)."""
    config = SCALE_SIM | {"pe_double_buffer": 1, "fill_in_occupancy": 0, "report_last_index": 0}
    with Machine(library, NO_DATA, rows=size, cols=size, min_rows=least, **config) as machine:
        machine.call("fill", spad(0), 40, 0.0)
        machine.call("fence")
        ready = machine.cycles()
        for m in sizes:
            machine.call("pre", spad(0), size, size)
            machine.call("mm", acc(0), spad(0), m, 0)
        start = ready + size
        for m in sizes[:-1]:
            start += max(m, least, size)
        assert machine.cycles() == start + max(sizes[-1], least) + 2 * size - 2


# --- Time: one rule at a time -------------------------------------------------------------------------------

CUBE: dict[str, Any] = {
    "kind": MMA,
    "l0a_bytes": 4096,
    "l0b_bytes": 4096,
    "mma_m": 4,
    "mma_n": 8,
    "mma_k": 2,
    "mma_interval": 2,
    "mma_latency": 5,
}
QUIET = {"issue_gap": 0, "dma_latency": 0, "dma_row_overhead": 0, "dma_gather_overhead": 0}


def occupancy(library: ctypes.CDLL, engine: str, calls: Sequence[tuple[Any, ...]], **config: Any) -> int:
    with Machine(library, NO_DATA, **config) as machine:
        machine.absent("x", 10000, I8)
        machine.absent("index", 100, I32)
        for call in calls:
            machine.call(*call)
        return machine.report()["engines"][engine]["busy"]


@pytest.mark.parametrize(
    ("engine", "calls", "config", "expected"),
    [
        ("LOAD", [("ld", spad(0), 8, 0, 0, 100, 8, 20)], {}, 8 * 2),
        ("LOAD", [("ld", spad(0), 8, 0, 0, 100, 8, 20)], {"dma_row_overhead": 3}, 8 * (2 + 3)),
        ("LOAD", [("ld", spad(0), 8, 0, 0, 100, 8, 70)], {"dma_row_overhead": 3}, 8 * (5 + 2 * 3)),
        ("LOAD", [("ld", spad(0), 8, 0, 0, 20, 8, 20)], {"dma_row_overhead": 3}, 8 * 2 + 3 * 3),
        ("LOAD", [("ld", spad(0), 8, 0, 0, 100, 8, 70)], {"dma_row_overhead": 3, "dma_max_burst": 0}, 8 * 8),
        ("LOAD", [("ld", spad(0), 8, 0, 0, 100, 8, 20)], {"dma_bytes_per_cycle": 2.5}, 8 * 8),
        ("LOAD", [("ld", spad(0), 8, 0, 0, 100, 8, 20)], {"dma_bytes_per_cycle": INF}, 0),
        ("LOAD", [("ldg", spad(0), 9, 0, 0, 100, 1, 5, 9, 20)], {"dma_gather_overhead": 4}, 9 * (2 + 4) + 3),
        ("STORE", [("fill", spad(0), 8, 1.0), ("st", 0, 0, 100, spad(0), 0, 8, 16, 0)], {}, 8),
        ("STORE", [("fill", spad(0), 9, 1.0), ("sts", 0, 0, 100, 1, 0, spad(0), 0, 9, 16, 0, 0)], {}, 9 + 3),
        ("STORE", [("fill", spad(0), 9, 1.0), ("sts", 0, 0, 100, 1, 0, spad(0), 0, 9, 16, 0, 1)], {}, 18 + 3),
        (
            "STORE",
            [("fill", spad(0), 9, 1.0), ("sts", 0, 0, 100, 1, 0, spad(0), 0, 9, 16, 0, 1)],
            {"scatter_add_cycles": 2},
            9 * (2 + 2) + 3,
        ),
        ("MOVE", [("fill", spad(0), 9, 1.0), ("mv", spad(20), 4, spad(0), 5, 4, 2)], {}, 2 + 2),
        ("VEC", [("fill", spad(0), 3, 1.0)], {"vector_lanes": 10}, 5 + 4),
    ],
)
def test_occupancy(
    library: ctypes.CDLL, engine: str, calls: list[tuple[Any, ...]], config: dict[str, Any], expected: int
) -> None:
    assert occupancy(library, engine, calls, **(QUIET | config)) == expected


def test_latency_is_pipelined(library: ctypes.CDLL) -> None:
    with Machine(library, NO_DATA, **(QUIET | {"dma_latency": 100})) as machine:
        x = machine.absent("x", 10000, I8)
        for i in range(4):
            machine.call("ld", spad(16 * i), 0, x, 0, 16, 16, 16)
        assert machine.cycles() == 4 * 16 + 100


# Two lists, 2 rows each: the first 16 rows from the last on; and the same but for one row of the next 16.
LISTS = np.array([*range(15, -1, -1), *range(15, 3, -1), 20, 2, 1, 0], "<u2").view(np.int8)


def stalls_of(
    library: ctypes.CDLL, calls: Sequence[tuple[Any, ...]], **config: Any
) -> dict[str, dict[str, int]]:
    """The stalls that are not 0, by engine."""
    with Machine(library, NO_DATA, **config) as machine:
        machine.absent("x", 10000, I8)
        machine.absent("y", 10000, I32)
        machine.buffer("lists", LISTS, I8)
        for call in calls:
            machine.call(*call)
        report = machine.report()
    check_conservation(report)
    found = {name: {k: v for k, v in e["stalls"].items() if v} for name, e in report["engines"].items()}
    return {name: stalls for name, stalls in found.items() if stalls}


LD_A = ("ld", spad(0), 0, 0, 0, 16, 16, 16)
LD_B = ("ld", spad(16), 0, 0, 0, 16, 16, 16)
PRE_A, PRE_B = ("pre", spad(0), 16, 16), ("pre", spad(16), 16, 16)
MM_A = ("mm", acc(0), spad(0), 16, 0)
ST_ACC = ("st", 1, 0, 16, acc(0), 0, 16, 16, 0)


@pytest.mark.parametrize(
    ("calls", "config", "expected"),
    [
        # data arrive at 16
        ([LD_A, PRE_A], {}, {"WPORT": {"raw": 16}}),
        ([LD_A, PRE_A], {"dma_latency": 7}, {"WPORT": {"raw": 23}}),
        # TU.MM waits for its tile, ready at 32
        ([LD_A, PRE_A, MM_A], {}, {"WPORT": {"raw": 16}, "MAT": {"weights": 32}}),
        # the second LD of the same rows waits until TU.PRE has read them; that of the first
        # is no obstacle, as LOAD writes in order
        ([LD_A, PRE_A, LD_A], {}, {"WPORT": {"raw": 16}, "LOAD": {"war": 16}}),
        ([LD_A, LD_A], {"dma_latency": 50}, {}),
        # FILL must not be overtaken by the LD before it
        ([LD_A, ("fill", spad(0), 16, 0.0)], {"dma_latency": 50}, {"VEC": {"waw": 66}}),
        # ST waits until sums have left the array: 32 + 16 + 30
        (
            [LD_A, PRE_A, MM_A, ST_ACC],
            {},
            {"WPORT": {"raw": 16}, "MAT": {"weights": 32}, "STORE": {"raw": 78}},
        ),
        # two tiles may wait, a third may not: its TU.PRE starts with the first TU.MM of the second
        (
            [LD_A, PRE_A, MM_A, PRE_A, MM_A, PRE_A],
            {"min_rows": 20},
            {"WPORT": {"raw": 16, "weights": 4}, "MAT": {"weights": 32}},
        ),
        ([("fill", spad(0), 16, 0.0), ("fence",), LD_A], {}, {"LOAD": {"fence": 20}}),
        # an LD must not overtake the TU.MM that reads what it overwrites
        (
            [("fill", spad(0), 32, 0.0), PRE_B, MM_A, LD_A],
            {},
            {"WPORT": {"raw": 36}, "MAT": {"weights": 52}, "LOAD": {"war": 68}},
        ),
        # a long FILL holds one entry of the execute queue; the short moves take turns at the other
        (
            [
                ("fill", spad(0), 16, 0.0),
                ("fence",),
                ("fill", spad(64), 160, 0.0),
                *[("mv", spad(32), 0, spad(0), 0, 16, 1)] * 4,
            ],
            {"queue_execute": 2},
            {"MOVE": {"fence": 20}},
        ),
        # TU.MMA: ceil(10 / 4) * ceil(16 / 8) * ceil(9 / 2) steps of 2 cycles, then 5 more
        (
            [
                ("fill", l0a(0), 16, 0.0),
                ("fill", l0b(0), 16, 0.0),
                ("mma", acc(0), 0, l0a(0), 0, l0b(0), 0, 10, 16, 9, 0),
                ("st", 1, 0, 16, acc(0), 0, 10, 16, 0),
            ],
            CUBE,
            {"MAT": {"raw": 40}, "STORE": {"raw": 40 + 60 + 5}},
        ),
        # TU.SPMMA: of 9 columns in groups of 4, 2 of each are kept, so ceil(6 / 2) steps along k
        (
            [
                ("fill", l0a(0), 16, 0.0),
                ("fill", l0b(0), 16, 0.0),
                ("spmma", acc(0), 0, l0a(0), l0a(0), l0b(0), 0, 10, 16, 9, 2, 4, 0),
                ("st", 1, 0, 16, acc(0), 0, 10, 16, 0),
            ],
            CUBE | {"kept_of_4": 1 << 2},
            {"MAT": {"raw": 40}, "STORE": {"raw": 40 + 36 + 5}},
        ),
        ([LD_A, LD_B], {"issue_gap": 30}, {"LOAD": {"issue": 14}}),
        # MOVE's turn comes when the only entry of the execute queue is free
        (
            [("fill", spad(0), 16, 0.0), ("mv", spad(32), 0, spad(0), 0, 16, 1)],
            {"queue_execute": 1},
            {"MOVE": {"queue_full": 20}},
        ),
    ],
)
def test_stalls(
    library: ctypes.CDLL,
    calls: list[tuple[Any, ...]],
    config: dict[str, Any],
    expected: dict[str, dict[str, int]],
) -> None:
    assert stalls_of(library, calls, **(QUIET | config)) == expected


def test_sums_follow_each_other(library: ctypes.CDLL) -> None:
    """Accumulation does not wait for sums still in the array, but it does for a FILL of them."""
    calls = [("fill", spad(0), 16, 0.0), PRE_A, MM_A, ("mm", acc(0), spad(0), 16, 1)]
    assert "raw" not in stalls_of(library, calls, **QUIET)["MAT"]
    stalls = stalls_of(library, [*calls[:2], ("fill", acc(0), 16, 0.0), calls[3]], vector_lanes=1, **QUIET)
    assert stalls["MAT"] == {"raw": 2 * (256 + 4)}


LD_LIST = ("ld", spad(64), 0, 2, 0, 16, 2, 16)
LD_FAR_LIST = ("ld", spad(64), 0, 2, 32, 16, 2, 16)
PREX = ("prex", spad(0), spad(64), 16, 16)
FILL_ACC, FILL_FAR = ("fill", acc(0), 16, 0.0), ("fill", acc(16), 16, 0.0)
MMX = ("mmx", acc(0), spad(0), spad(64), 16)
MMX_READY = [FILL_ACC, LD_A, LD_LIST, PRE_A]  # at 20, 16, 18; the tile is there at 32
RUN_UP = {"WPORT": {"raw": 16}, "MAT": {"weights": 32}}


@pytest.mark.parametrize(
    ("engine", "calls", "config", "expected"),
    [
        ("WPORT", [("prex", spad(0), spad(64), 5, 3)], {}, 16),
        ("WPORT", [("prex", spad(0), spad(64), 5, 3)], {"indexed_read_cycles": 3}, 16 + 5 * 3),
        ("MAT", [("prex", spad(0), spad(64), 5, 3)], {"indexed_read_cycles": 3, "pe_double_buffer": 0}, 31),
        ("MAT", [PREX, ("mmx", acc(0), spad(0), spad(64), 9)], {}, 9),
        ("MAT", [PREX, ("mmx", acc(0), spad(0), spad(64), 9)], {"min_rows": 12}, 12),
        (
            "MAT",
            [PREX, ("mmx", acc(0), spad(0), spad(64), 9)],
            {"min_rows": 12, "indexed_accumulate_cycles": 2},
            12 + 9 * 2,
        ),
        (
            "MAT",
            [PREX, ("mmx", acc(0), spad(0), spad(64), 9)],
            {"fill_in_occupancy": 1, "indexed_accumulate_cycles": 2},
            9 + 9 * 2 + 30,
        ),
    ],
)
def test_occupancy_by_index(
    library: ctypes.CDLL, engine: str, calls: list[tuple[Any, ...]], config: dict[str, Any], expected: int
) -> None:
    with Machine(library, NO_DATA, indexed=1, **(QUIET | config)) as machine:
        machine.absent("x", 10000, I8)
        machine.absent("y", 10000, I32)
        machine.buffer("lists", LISTS, I8)
        before: list[tuple[Any, ...]] = [LD_A, LD_LIST, FILL_ACC]
        for call in [*before, *calls]:
            machine.call(*call)
        assert machine.report()["engines"][engine]["busy"] == expected


@pytest.mark.parametrize(
    ("calls", "config", "expected"),
    [
        # TU.PREX waits for its list ...
        ([LD_A, LD_LIST, PREX], {}, {"WPORT": {"raw": 18}}),
        # ... and for the rows it names, but for no others
        ([LD_LIST, LD_A, PREX], {}, {"WPORT": {"raw": 18}}),
        ([LD_LIST, LD_A, LD_B, PREX], {}, {"WPORT": {"raw": 18}}),
        ([LD_FAR_LIST, LD_A, LD_B, PREX], {}, {"WPORT": {"raw": 34}}),
        # an LD of the list or of a named row waits until it is over, one of another row does not
        ([LD_A, LD_LIST, PREX, LD_LIST], {}, {"WPORT": {"raw": 18}, "LOAD": {"war": 16}}),
        ([LD_A, LD_LIST, PREX, LD_A], {}, {"WPORT": {"raw": 18}, "LOAD": {"war": 16}}),
        (
            [LD_A, LD_LIST, PREX, LD_A],
            {"indexed_read_cycles": 2},
            {"WPORT": {"raw": 18}, "LOAD": {"war": 16 + 32}},
        ),
        ([LD_A, LD_LIST, PREX, LD_B], {}, {"WPORT": {"raw": 18}}),
        # TU.MM waits for the tile
        (
            [LD_A, LD_LIST, PREX, MM_A],
            {"indexed_read_cycles": 2},
            {"WPORT": {"raw": 18}, "MAT": {"weights": 18 + 48}},
        ),
        # a third tile waits until the second is in use
        (
            [FILL_ACC, LD_A, LD_LIST, PREX, MMX, PREX, MMX, PREX],
            {"indexed_accumulate_cycles": 1},
            {"WPORT": {"raw": 18, "weights": 16}, "MAT": {"weights": 34}},
        ),
        # TU.MMX waits for its tile, its list, its rows and the sums it adds to
        ([*MMX_READY, MMX], {}, RUN_UP),
        ([FILL_ACC, LD_A, PRE_A, LD_B, LD_LIST, MMX], {}, {"WPORT": {"raw": 16}, "MAT": {"raw": 34}}),
        (
            [FILL_ACC, LD_A, PRE_A, LD_LIST, LD_B, ("mmx", acc(0), spad(16), spad(64), 16)],
            {},
            {"WPORT": {"raw": 16}, "MAT": {"raw": 34}},
        ),
        (
            [LD_A, LD_LIST, PRE_A, FILL_ACC, MMX],
            {"vector_lanes": 1},
            {"WPORT": {"raw": 16}, "MAT": {"raw": 260}},
        ),
        # but not for sums that its list does not name
        (
            [LD_A, LD_LIST, PRE_A, FILL_ACC, FILL_FAR, MMX],
            {"vector_lanes": 4},
            {"WPORT": {"raw": 16}, "MAT": {"raw": 68}},
        ),
        (
            [LD_A, LD_FAR_LIST, PRE_A, FILL_ACC, FILL_FAR, MMX],
            {"vector_lanes": 4},
            {"WPORT": {"raw": 16}, "MAT": {"raw": 136}},
        ),
        # nor for sums on their way to the same rows, whichever instruction made them
        ([*MMX_READY, MMX, MMX], {}, RUN_UP),
        ([*MMX_READY, MM_A, MMX, ("mm", acc(0), spad(0), 16, 1)], {}, RUN_UP),
        # ST reads what was there before: 20 + 64
        (
            [*MMX_READY, ST_ACC, MMX],
            {},
            {"WPORT": {"raw": 16}, "STORE": {"raw": 20}, "MAT": {"war": 84}},
        ),
        # ST after it waits for the last sum, and so does an LD of what it read
        ([*MMX_READY, MMX, ST_ACC], {}, RUN_UP | {"STORE": {"raw": 32 + 16 + 30}}),
        (
            [*MMX_READY, MMX, ST_ACC],
            {"indexed_accumulate_cycles": 1},
            RUN_UP | {"STORE": {"raw": 32 + 32 + 30}},
        ),
        (
            [*MMX_READY, FILL_FAR, MMX, ("st", 1, 0, 16, acc(16), 0, 16, 16, 0)],
            {},
            RUN_UP | {"STORE": {"raw": 40}},
        ),
        ([*MMX_READY, MMX, LD_A], {}, RUN_UP | {"LOAD": {"war": 48 - 18}}),
        ([*MMX_READY, MMX, LD_LIST], {}, RUN_UP | {"LOAD": {"war": 48 - 18}}),
        ([*MMX_READY, MMX, FILL_ACC], {}, RUN_UP | {"VEC": {"waw": 78 - 20}}),
    ],
)
def test_stalls_by_index(
    library: ctypes.CDLL,
    calls: list[tuple[Any, ...]],
    config: dict[str, Any],
    expected: dict[str, dict[str, int]],
) -> None:
    assert stalls_of(library, calls, indexed=1, **(QUIET | config)) == expected


def test_bytes_and_energy_by_index(library: ctypes.CDLL) -> None:
    """Whole rows of the list, a row of SPAD for each one named, and a sum read and written for each."""
    with Machine(library, indexed=1) as machine:
        machine.buffer("lists", LISTS, I8)
        machine.call("fill", spad(0), 16, 1.0)
        machine.call("fill", acc(0), 16, 1.0)
        machine.call("ld", spad(64), 0, 0, 0, 16, 2, 16)
        before = machine.report()
        machine.call("prex", spad(0), spad(64), 9, 16)
        machine.call("mmx", acc(0), spad(0), spad(64), 5)
        after = machine.report()
        assert "addressing by index" in machine.text()
    check_conservation(after)
    moved = {key: count - before["bytes"][key] for key, count in after["bytes"].items()}
    assert {key: count for key, count in moved.items() if count} == {
        "spad_read": (2 + 9) * 16 + (1 + 5) * 16,
        "acc_read": 5 * 64,
        "acc_write": 5 * 64,
        "reg_write": 256,
    }
    assert after["indexed_rows"] == {"read": 9, "accumulated": 5}
    assert after["energy_pj"]["index"] == 9 * 2.0 + 5 * 3.0
    assert after["peak_rows"] == {"spad": 66, "acc": 16, "l0a": 0, "l0b": 0}


# --- Values: an independent model in numpy ------------------------------------------------------------------


def to_bf16(values: Array) -> Array:
    u = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    rounded = ((u + 0x7FFF + (u >> 16 & 1)) >> 16).astype(np.uint16)
    nan = np.isnan(values)
    return np.where(nan, (u >> 16).astype(np.uint16) | np.uint16(0x40), rounded)


def from_bf16(values: Array) -> Array:
    return (values.astype(np.uint32) << 16).view(np.float32)


def widen(values: Array, kind: int) -> Array:
    """Off-chip elements as the model keeps them: floats as f32."""
    if kind == BF16:
        return from_bf16(values)
    return values.astype(np.float32) if kind == F16 else values.copy()


def narrow(values: Array, kind: int) -> tuple[Array, int]:
    """Floats in a type, and how many saturated."""
    if kind in (I8, I32):
        info = np.iinfo(NUMPY[kind])
        rounded = np.rint(values.astype(np.float64))
        out = np.isnan(rounded) | (rounded < info.min) | (rounded > info.max)
        return np.nan_to_num(np.clip(rounded, info.min, info.max), nan=0).astype(NUMPY[kind]), int(out.sum())
    if kind == F32:
        return values.astype(np.float32), 0
    result = to_bf16(values) if kind == BF16 else values.astype(np.float16)
    return result, int((np.isinf(widen(result, kind)) & ~np.isinf(values)).sum())


def fma(a: Array, b: Array, c: Array) -> Array:
    """Correctly rounded a * b + c in f32: the sum in f64 is rounded to odd, then to f32."""
    product, addend = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
    total = np.asarray(product + addend)
    part = total - product
    error = (product - (total - part)) + (addend - part)
    even = (total.view(np.int64) & 1) == 0
    fix = np.isfinite(total) & (error != 0) & even
    return np.where(fix, np.nextafter(total, np.where(error > 0, np.inf, -np.inf)), total).astype(np.float32)


def wrap(values: Array) -> tuple[Array, int]:
    wrapped = values.astype(np.int64).astype(np.uint32).view(np.int32).reshape(values.shape)
    return wrapped, int((wrapped != values).sum())


class Model:
    """The instructions on numpy arrays."""

    def __init__(self, config: dict[str, Any], buffers: list[tuple[Array, int]]) -> None:
        self.kinds = {"spad": config["in"], "acc": config["acc"], "l0a": config["in"], "l0b": config["in"]}
        self.rows, self.width = config["rows"], config["cols"]
        wide = max(self.rows, self.width) if config["kind"] == WS else self.width
        self.memory: dict[str, Array] = {}
        for name in MEMORIES:
            width = wide if name == "spad" else self.width
            count = config[name + "_bytes"] // (width * BYTES[self.kinds[name]])
            kind = NUMPY[self.kinds[name]] if self.kinds[name] in (I8, I32) else np.float32
            self.memory[name] = np.zeros((count, width), kind)
        self.buffers = [(data.copy(), kind) for data, kind in buffers]
        self.outputs: list[tuple[int, float, int]] = []
        self.tile = np.zeros((self.rows, self.width), self.memory["spad"].dtype)
        self.overflow = self.saturation = 0

    def _at(self, address: int) -> tuple[Array, int, int]:
        name = MEMORIES[address >> 30]
        return self.memory[name], address & 0x3FFFFFFF, self.kinds[name]

    def _wide(self, address: int, step: int, rows: int, cols: int) -> Array:
        memory, row, _ = self._at(address)
        blocks = math.ceil(cols / memory.shape[1])
        return np.hstack([memory[row + b * step : row + b * step + rows] for b in range(blocks)])[:, :cols]

    def _put_wide(self, address: int, step: int, values: Array) -> None:
        memory, row, _ = self._at(address)
        width = memory.shape[1]
        for b in range(math.ceil(values.shape[1] / width)):
            part = values[:, b * width : (b + 1) * width]
            block = memory[row + b * step : row + b * step + values.shape[0]]
            block[:] = 0
            block[:, : part.shape[1]] = part

    def ld(self, dst: int, step: int, buffer: int, offset: int, stride: int, rows: int, cols: int) -> None:
        at = offset + np.arange(rows)[:, None] * stride + np.arange(cols)
        data, kind = self.buffers[buffer]
        self._put_wide(dst, step, widen(data[at], kind))

    def ldg(
        self,
        dst: int,
        step: int,
        buffer: int,
        offset: int,
        stride: int,
        index: int,
        first: int,
        rows: int,
        cols: int,
    ) -> None:
        chosen = self.buffers[index][0][first : first + rows].astype(np.int64)
        data, kind = self.buffers[buffer]
        self._put_wide(dst, step, widen(data[offset + chosen[:, None] * stride + np.arange(cols)], kind))

    def _converted(self, src: int, step: int, rows: int, cols: int, output: int, kind: int) -> Array:
        values = self._wide(src, step, rows, cols)
        if output == 0:
            return narrow(values, kind)[0] if kind in (F16, BF16) else values
        _, scale, act = self.outputs[output - 1]
        if kind == I32 and values.dtype == np.int32 and scale == 1:
            return np.maximum(values, 0) if act else values
        scaled = values.astype(np.float32) * np.float32(scale)
        if act:
            scaled = np.where(scaled < 0, np.float32(0), scaled)
        result, saturated = narrow(scaled, kind)
        self.saturation += saturated
        return result

    def st(
        self, buffer: int, offset: int, stride: int, src: int, step: int, rows: int, cols: int, output: int
    ) -> None:
        data, kind = self.buffers[buffer]
        at = offset + np.arange(rows)[:, None] * stride + np.arange(cols)
        data[at] = self._converted(src, step, rows, cols, output, kind)

    def sts(
        self,
        buffer: int,
        offset: int,
        stride: int,
        index: int,
        first: int,
        src: int,
        step: int,
        rows: int,
        cols: int,
        output: int,
        add: int,
    ) -> None:
        data, kind = self.buffers[buffer]
        chosen = self.buffers[index][0][first : first + rows].astype(np.int64)
        values = self._converted(src, step, rows, cols, output, kind)
        for r, row in enumerate(chosen):
            at = slice(offset + row * stride, offset + row * stride + cols)
            if not add:
                data[at] = values[r]
            elif kind == I32:
                data[at], overflowed = wrap(data[at].astype(np.int64) + values[r])
                self.overflow += overflowed
            else:
                total = widen(data[at], kind).astype(np.float32) + widen(values[r], kind).astype(np.float32)
                data[at], saturated = narrow(total, kind)
                self.saturation += saturated

    def mv(self, dst: int, dst_step: int, src: int, src_step: int, rows: int, blocks: int) -> None:
        (to, a, _), (source, b, _) = self._at(dst), self._at(src)
        for i in range(blocks):
            to[a + i * dst_step : a + i * dst_step + rows] = source[
                b + i * src_step : b + i * src_step + rows
            ]

    def fill(self, dst: int, rows: int, value: float) -> None:
        memory, row, kind = self._at(dst)
        memory[row : row + rows] = widen(narrow(np.array([value], np.float32), kind)[0], kind)

    def vop(self, op: int, dst: int, a: int, b: int, rows: int, imm: float) -> None:
        (to, at, kind), (left, i, _), (right, j, _) = self._at(dst), self._at(a), self._at(b)
        x, y = left[i : i + rows].copy(), right[j : j + rows].copy()
        if op == SCALE:
            result, saturated = narrow(x.astype(np.float32) * np.float32(imm), kind)
            self.saturation += saturated if kind in (I8, I32) else 0
            to[at : at + rows] = widen(result, kind)
            return
        if kind in (I8, I32):
            x, y = x.astype(np.int64), y.astype(np.int64)
        result = {
            ADD: x + y,
            MUL: x * y,
            MAX: np.where((x > y) | (x != x), x, y),
            VRELU: np.where(x < 0, np.zeros_like(x), x),
        }[op]
        if kind == I32:
            result, overflowed = wrap(result)
            self.overflow += overflowed
        else:
            result, saturated = narrow(result.astype(np.float32), kind)
            self.saturation += saturated if kind == I8 else 0
            result = widen(result, kind)
        to[at : at + rows] = result

    def pre(self, b: int, rows: int, cols: int) -> None:
        self.tile[:] = 0
        self.tile[:rows, :cols] = self.memory["spad"][b : b + rows, :cols]

    def _list(self, index: int, count: int) -> list[int]:
        """Numbers of two bytes from rows of SPAD on; a byte too many in a row is left out."""
        memory, row, kind = self._at(index)
        each = memory.shape[1] * BYTES[kind] // 2
        rows = memory[row : row + math.ceil(count / each)]
        raw = np.ascontiguousarray(narrow(rows, kind)[0] if kind in (F16, BF16) else rows).view(np.uint8)
        pairs = raw[:, : 2 * each].reshape(-1, 2).astype(int)
        return [int(number) for number in (pairs[:, 0] + 256 * pairs[:, 1])[:count]]

    def prex(self, b: int, index: int, rows: int, cols: int) -> None:
        self.tile[:] = 0
        for r, number in enumerate(self._list(index, rows)):
            self.tile[r, :cols] = self.memory["spad"][b + number, :cols]

    def mmx(self, c: int, a: int, index: int, rows: int) -> None:
        _, row, _ = self._at(c)
        for r, number in enumerate(self._list(index, rows)):
            sums = self.memory["acc"][row + number : row + number + 1]
            sums[:] = self._accumulate(
                sums, self.memory["spad"][a + r : a + r + 1, : self.rows], self.tile, 1
            )

    def _accumulate(self, c: Array, a: Array, b: Array, accumulate: int) -> Array:
        if c.dtype == np.int32:
            total = a.astype(np.int64) @ b.astype(np.int64) + (c.astype(np.int64) if accumulate else 0)
            wrapped, overflowed = wrap(total)
            self.overflow += overflowed
            return wrapped
        total = c.copy() if accumulate else np.zeros_like(c)
        for k in range(a.shape[1]):
            total = fma(a[:, k : k + 1], b[k : k + 1], total)
        return total

    def mm(self, c: int, a: int, rows: int, accumulate: int) -> None:
        _, row, _ = self._at(c)
        sums = self.memory["acc"][row : row + rows]
        sums[:] = self._accumulate(
            sums, self.memory["spad"][a : a + rows, : self.rows], self.tile, accumulate
        )

    def mma(
        self,
        c: int,
        c_step: int,
        a: int,
        a_step: int,
        b: int,
        b_step: int,
        m: int,
        n: int,
        k: int,
        accumulate: int,
    ) -> None:
        padded = math.ceil(n / self.width) * self.width
        right = np.zeros((k, padded), self.memory["l0b"].dtype)
        right[:, :n] = self._wide(b, b_step, k, n)
        sums = self._wide(c, c_step, m, padded)
        self._put_wide(c, c_step, self._accumulate(sums, self._wide(a, a_step, m, k), right, accumulate))

    def spmma(
        self,
        c: int,
        c_step: int,
        a: int,
        meta: int,
        b: int,
        b_step: int,
        m: int,
        n: int,
        k: int,
        keep: int,
        group: int,
        accumulate: int,
    ) -> None:
        """Each row by itself: the elements of a before column k, times the rows of b at their columns."""
        memory, row, kind = self._at(meta)
        rows = memory[row:]
        raw = np.ascontiguousarray(narrow(rows, kind)[0] if kind in (F16, BF16) else rows).tobytes()
        bits = group.bit_length() - 1
        stride = math.ceil(self.width * bits / 8)
        padded = math.ceil(n / self.width) * self.width
        right = np.zeros((k, padded), self.memory["l0b"].dtype)
        right[:, :n] = self._wide(b, b_step, k, n)
        sums = self._wide(c, c_step, m, padded).copy()
        for r in range(m):
            number = int.from_bytes(raw[r * stride : (r + 1) * stride], "little")
            count = math.ceil(k / group) * keep
            places = [number >> i * bits & (group - 1) for i in range(count)]
            columns = [i // keep * group + place for i, place in enumerate(places)]
            used = [i for i in range(count) if columns[i] < k]
            left = self._wide(a + r, 0, 1, count)[:, used]
            sums[r : r + 1] = self._accumulate(
                sums[r : r + 1], left, right[[columns[i] for i in used]], accumulate
            )
        self._put_wide(c, c_step, sums)

    def fence(self) -> None:
        """Nothing to do: the model knows no time."""


def packed(numbers: Array, width: int, kind: int) -> Array:
    """Numbers of two bytes each in rows of so many elements; a byte too many in a row stays 0."""
    each = width * BYTES[kind] // 2
    if each == 0:
        return np.zeros((1, width), NUMPY[kind])
    rows = math.ceil(len(numbers) / each)
    filled = np.zeros(rows * each, "<u2")
    filled[: len(numbers)] = numbers
    raw = np.zeros((rows, width * BYTES[kind]), np.uint8)
    raw[:, : 2 * each] = filled.view(np.uint8).reshape(rows, 2 * each)
    return raw.view(NUMPY[kind])


# N:M that the random programs' unit takes, whose steps are of two elements.
KEPT = ((1, 2), (1, 4), (2, 4), (1, 8), (2, 16))


def metadata(rng: np.random.Generator, keep: int, group: int, rows: int, width: int, kind: int) -> Array:
    """Random columns of as many elements as rows hold, in whole groups, as elements of a memory."""
    bits = group.bit_length() - 1
    stride = math.ceil(width * bits / 8)
    raw = bytearray()
    for _ in range(rows):
        places = [p for _ in range(width // keep) for p in sorted(rng.choice(group, keep, replace=False))]
        raw += sum(int(p) << i * bits for i, p in enumerate(places)).to_bytes(stride, "little")
    row_bytes = width * BYTES[kind]
    raw += bytes(-len(raw) % row_bytes)
    return np.frombuffer(bytes(raw), np.uint8).view(NUMPY[kind]).reshape(-1, width)


class Program:
    """A random program that keeps all rules, over buffers of random numbers."""

    def __init__(self, seed: int, kind: int, array: int, count: int = 40) -> None:
        self.rng = rng = np.random.default_rng(seed)
        rows, cols = int(rng.integers(1, 21)), int(rng.integers(1, 21))
        width = max(rows, cols) if array == WS else cols
        self.size = 48
        acc_kind = I32 if kind == I8 else F32
        self.config: dict[str, Any] = {
            "kind": array,
            "rows": rows,
            "cols": cols,
            "in": kind,
            "acc": acc_kind,
            "pe_double_buffer": int(rng.integers(2)),
            "fill_in_occupancy": int(rng.integers(2)),
            "min_rows": int(rng.integers(8)),
            "line_rows": int(rng.integers(1, 9)),
            "mma_m": 4,
            "mma_n": 8,
            "mma_k": 2,
            "mma_interval": 2,
            "mma_latency": 5,
            "spad_bytes": self.size * width * BYTES[kind],
            "acc_bytes": self.size * cols * 4,
            "l0a_bytes": self.size * cols * BYTES[kind] if array == MMA else 0,
            "l0b_bytes": self.size * cols * BYTES[kind] if array == MMA else 0,
            "queue_load": int(rng.integers(1, 5)),
            "queue_execute": int(rng.integers(1, 9)),
            "queue_store": int(rng.integers(1, 3)),
            "issue_gap": int(rng.integers(3)),
        }
        self.indexed = array == WS and width * BYTES[kind] >= 2
        self.config |= {"indexed": int(self.indexed)}
        if self.indexed:
            self.config |= {f"indexed_{name}_cycles": int(rng.integers(3)) for name in ("read", "accumulate")}
        if array == MMA:
            for keep, group in KEPT:
                self.config[f"kept_of_{group}"] = self.config.get(f"kept_of_{group}", 0) | 1 << keep
        self.config["scatter_add_cycles"] = int(rng.integers(3))
        self.widths = {"spad": width, "acc": cols, "l0a": cols, "l0b": cols}
        self.memories = MEMORIES if array == MMA else MEMORIES[:2]
        self.elements = 600
        index = rng.integers(0, 8, self.elements).astype(np.int32)
        self.kinds = [I32, kind, acc_kind, int(rng.choice([I8, F16, BF16, F32, I32]))]
        self.buffers = [(index, I32)] + [(self._numbers(k), k) for k in self.kinds[1:]]
        self.outputs = [(k, float(rng.choice([1, 0.5, 0.37, 1e6])), int(rng.integers(2))) for k in self.kinds]
        self.kinds.append(kind)  # lists of 20 rows, most of them named twice
        self.lists = np.concatenate([packed(rng.integers(0, 13, 20), width, kind) for _ in range(8)])
        self.buffers.append((self.lists.reshape(-1), kind))
        self.kept = [pattern for pattern in KEPT if pattern[0] <= cols] if array == MMA else []
        self.metadata = [metadata(rng, *pattern, 16, cols, kind) for pattern in self.kept]
        for rows in self.metadata:
            self.kinds.append(kind)
            self.buffers.append((rows.reshape(-1), kind))
        self.calls: list[tuple[Any, ...]] = []
        for name in self.memories:
            self.calls.append(("fill", self._address(name, 0), self.size, float(rng.integers(-3, 4))))
        if array == WS:
            self.calls.append(("pre", 0, rows, cols))
        choices = ["ld", "ldg", "st", "sts", "mv", "vop", "fill", "fence"]
        choices += ["pre", "mm", "mm", "mm"] if array == WS else ["mma", "mma"]
        choices += ["spmma", "spmma"] if self.kept else []
        choices += ["prex", "mmx", "mmx"] if self.indexed else []
        for choice in rng.choice(choices, count):
            self.calls.append(getattr(self, "_" + choice)())
        self.calls += [("st", 2, 0, cols, acc(0), 0, min(self.size, self.elements // cols), cols, 0)]

    def _numbers(self, kind: int) -> Array:
        if kind == I8:
            return self.rng.integers(-128, 128, self.elements).astype(np.int8)
        if kind == I32:
            return self.rng.integers(-(2**31), 2**31, self.elements).astype(np.int32)
        values = self.rng.normal(size=self.elements).astype(np.float32)
        values[self.rng.integers(0, self.elements, 30)] *= np.float32(1e-6)
        return narrow(values, kind)[0]

    def _int(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    @staticmethod
    def _address(name: str, row: int) -> int:
        return MEMORIES.index(name) << 30 | row

    def _name(self) -> str:
        return str(self.rng.choice(self.memories))

    def _block(self, name: str, cols: int, most: int = 12) -> tuple[int, int, int]:
        """Address, step and rows of an operand of so many columns."""
        blocks = math.ceil(cols / self.widths[name])
        rows = self._int(1, min(most, self.size // blocks))
        step = self._int(rows, self.size // blocks) if blocks > 1 else 0
        return self._address(name, self._int(0, self.size - (blocks - 1) * step - rows)), step, rows

    def _cols(self, name: str) -> int:
        return self._int(1, 2 * self.widths[name])

    def _ld(self) -> tuple[Any, ...]:
        name = self._name()
        cols = self._cols(name)
        dst, step, rows = self._block(name, cols)
        stride = self._int(-1, (self.elements - cols) // rows)
        offset = self._int(rows if stride < 0 else 0, self.elements - cols - max(stride, 0) * (rows - 1))
        return ("ld", dst, step, 2 if name == "acc" else 1, offset, stride, rows, cols)

    def _ldg(self) -> tuple[Any, ...]:
        name = self._name()
        cols = self._cols(name)
        dst, step, rows = self._block(name, cols)
        first = self._int(0, self.elements - rows)
        return ("ldg", dst, step, 2 if name == "acc" else 1, self._int(0, 100), 60, 0, first, rows, cols)

    def _target(self, name: str) -> tuple[int, int]:
        """A buffer, and an output conversion to it."""
        buffer, output = self._int(1, 3), 0
        if buffer != (2 if name == "acc" else 1) or self._int(0, 1):
            output = buffer + 1
        return buffer, output

    def _st(self) -> tuple[Any, ...]:
        name = self._name()
        cols = self._cols(name)
        src, step, rows = self._block(name, cols)
        buffer, output = self._target(name)
        stride = self._int(cols, max(cols, (self.elements - cols) // rows))
        return (
            "st",
            buffer,
            self._int(0, self.elements - cols - stride * (rows - 1)),
            stride,
            src,
            step,
            rows,
            cols,
            output,
        )

    def _sts(self) -> tuple[Any, ...]:
        name = self._name()
        cols = self._cols(name)
        src, step, rows = self._block(name, cols)
        buffer, output = self._target(name)
        first = self._int(0, self.elements - rows)
        return (
            "sts",
            buffer,
            self._int(0, 100),
            60,
            0,
            first,
            src,
            step,
            rows,
            cols,
            output,
            self._int(0, 1),
        )

    def _same_kind(self) -> list[str]:
        """Memories among which rows can move."""
        name = self._name()
        kind = (self.widths[name], self.config["acc" if name == "acc" else "in"])
        return [
            n for n in self.memories if (self.widths[n], self.config["acc" if n == "acc" else "in"]) == kind
        ]

    def _mv(self) -> tuple[Any, ...]:
        names = self._same_kind()
        to, source = str(self.rng.choice(names)), str(self.rng.choice(names))
        blocks, rows = self._int(1, 3), self._int(1, 4)
        steps = self._int(rows, 8), self._int(rows, 8)
        half = self.size // 2  # of the same memory, so that nothing overlaps
        return (
            "mv",
            self._address(to, self._int(0, half - 3 * 8)),
            steps[0],
            self._address(source, self._int(half, self.size - 3 * 8)),
            steps[1],
            rows,
            blocks,
        )

    def _fill(self) -> tuple[Any, ...]:
        dst, _, rows = self._block(self._name(), 1)
        return ("fill", dst, rows, float(self._int(-9, 9)))

    def _vop(self) -> tuple[Any, ...]:
        names = self._same_kind()
        rows = self._int(1, 8)
        dst, a, b = (self._address(str(self.rng.choice(names)), self._int(0, 5) * 8) for _ in range(3))
        return ("vop", self._int(ADD, SCALE), dst, a, b, rows, float(self.rng.choice([0.5, -3.0, 0.3])))

    def _fence(self) -> tuple[Any, ...]:
        return ("fence",)

    def _pre(self) -> tuple[Any, ...]:
        rows = self._int(1, self.config["rows"])
        return ("pre", self._int(0, self.size - rows), rows, self._int(1, self.config["cols"]))

    def _mm(self) -> tuple[Any, ...]:
        rows = self._int(1, 20)
        return (
            "mm",
            acc(self._int(0, self.size - rows)),
            spad(self._int(0, self.size - rows)),
            rows,
            self._int(0, 1),
        )

    def _load_list(self) -> int:
        """Loads a list before the call that is to use it; returns where it is."""
        rows, width = len(self.lists) // 8, self.lists.shape[1]
        where = self._int(0, self.size - rows)
        first = self._int(0, 7) * rows * width
        self.calls.append(("ld", where, 0, len(self.outputs), first, width, rows, width))
        return where

    def _prex(self) -> tuple[Any, ...]:
        where, rows = self._load_list(), self._int(1, self.config["rows"])
        return ("prex", self._int(0, self.size - 13), where, rows, self._int(1, self.config["cols"]))

    def _mmx(self) -> tuple[Any, ...]:
        where, rows = self._load_list(), self._int(1, 20)
        return ("mmx", acc(self._int(0, self.size - 13)), spad(self._int(0, self.size - rows)), where, rows)

    def _mma(self) -> tuple[Any, ...]:
        width = self.config["cols"]
        m, n, k = self._int(1, 16), self._int(1, 3 * width), self._int(1, min(3 * width, 16))

        def at(row_count: int, cols: int) -> tuple[int, int]:
            blocks = math.ceil(cols / width)
            step = self._int(row_count, self.size // blocks)
            return self._int(0, self.size - (blocks - 1) * step - row_count), step

        (c, c_step), (a, a_step), (b, b_step) = at(m, n), at(m, k), at(k, n)
        return ("mma", acc(c), c_step, l0a(a), a_step, l0b(b), b_step, m, n, k, self._int(0, 1))

    def _spmma(self) -> tuple[Any, ...]:
        width = self.config["cols"]
        which = self._int(0, len(self.kept) - 1)
        keep, group = self.kept[which]
        m, n, k = self._int(1, 16), self._int(1, 3 * width), self._int(1, min(width // keep * group, 16))
        blocks, rows = math.ceil(n / width), len(self.metadata[which])
        meta = l0a(self._int(0, self.size - rows))
        first = len(self.buffers) - len(self.kept)
        self.calls.append(("ld", meta, 0, first + which, 0, width, rows, width))

        def at(row_count: int) -> tuple[int, int]:
            step = self._int(row_count, self.size // blocks)
            return self._int(0, self.size - (blocks - 1) * step - row_count), step

        (c, c_step), (b, b_step) = at(m), at(k)
        a = self._int(0, self.size - m)
        add = self._int(0, 1)
        return ("spmma", acc(c), c_step, l0a(a), meta, l0b(b), b_step, m, n, k, keep, group, add)

    def run(self, library: ctypes.CDLL, flags: int = 0, **changes: Any) -> tuple[dict[str, Any], list[Array]]:
        data = [values.copy() for values, _ in self.buffers]
        with Machine(library, flags, **(self.config | changes)) as machine:
            for i, values in enumerate(data):
                machine.buffer(f"b{i}", values, self.kinds[i])
            for output in self.outputs:
                machine.call("output", *output)
            for call in self.calls:
                machine.call(*call)
            report = machine.report()
        check_conservation(report)
        return report, data

    def model(self) -> Model:
        model = Model(self.config | {"acc": self.config["acc"]}, self.buffers)
        model.outputs = self.outputs
        with np.errstate(all="ignore"):
            for name, *arguments in self.calls:
                getattr(model, name)(*arguments)
        return model


def equal(a: Array, b: Array, kind: int) -> bool:
    """Equal to the bit, but any NaN is as good as another."""
    same = a.view(f"u{BYTES[kind]}") == b.view(f"u{BYTES[kind]}")
    if kind not in (I8, I32):
        same |= np.isnan(widen(a, kind)) & np.isnan(widen(b, kind))
    return bool(same.all())


programs = st.builds(
    Program, st.integers(0, 2**32), st.sampled_from([I8, F16, BF16, F32]), st.sampled_from([WS, MMA])
)


@settings(deadline=None, max_examples=150)
@given(programs)
def test_random_programs_have_the_values_of_numpy(
    library: ctypes.CDLL, portable: ctypes.CDLL, program: Program
) -> None:
    model = program.model()
    for variant in (library, portable):
        report, data = program.run(variant)
        for found, (expected, kind) in zip(data, model.buffers, strict=True):
            assert equal(found, expected, kind)
        warnings = {"int32_overflow": model.overflow, "output_saturation": model.saturation}
        assert report["warnings"] == warnings


@settings(deadline=None, max_examples=60)
@given(programs)
def test_time_does_not_depend_on_values(library: ctypes.CDLL, program: Program) -> None:
    full, _ = program.run(library)
    timed, data = program.run(library, NO_DATA)
    # Bytes, because metadata may look like a NaN.
    assert [found.tobytes() for found in data] == [before.tobytes() for before, _ in program.buffers]
    for key in (
        "cycles",
        "engines",
        "bytes",
        "energy_pj",
        "instructions",
        "peak_rows",
        "macs",
        "indexed_rows",
    ):
        assert timed[key] == full[key]


@settings(deadline=None, max_examples=100)
@given(
    programs,
    st.sampled_from(
        [
            {"dma_bytes_per_cycle": 32.0},
            {"dma_bytes_per_cycle": INF},
            {"dma_latency": 10},
            {"dma_max_burst": 0},
            {"move_bytes_per_cycle": INF},
            {"vector_lanes": 64},
            {"queue_load": 64},
            {"queue_execute": 64},
            {"queue_store": 64},
            {"issue_gap": 0},
            {"min_rows": 0},
            {"mma_interval": 1},
            {"fill_in_occupancy": 0},
            {"indexed_read_cycles": 0},
            {"indexed_accumulate_cycles": 0},
            {"scatter_add_cycles": 0},
            {"line_rows": 1},
        ]
    ),
)
def test_a_better_machine_is_never_slower(
    library: ctypes.CDLL, program: Program, better: dict[str, Any]
) -> None:
    before, _ = program.run(library, NO_DATA)
    after, _ = program.run(library, NO_DATA, **better)
    assert after["cycles"] <= before["cycles"]


@settings(deadline=None, max_examples=40)
@given(programs)
def test_counters_are_those_of_the_program(library: ctypes.CDLL, program: Program) -> None:
    report, _ = program.run(library, NO_DATA)
    calls, config = program.calls, program.config
    read = written = 0
    for name, *a in calls:
        if name in ("ld", "ldg"):
            read += a[-2] * a[-1] * BYTES[program.kinds[a[2]]] + (4 * a[-2] if name == "ldg" else 0)
        elif name == "st":
            written += a[5] * a[6] * BYTES[program.kinds[a[0]]]
        elif name == "sts":
            size = a[7] * a[8] * BYTES[program.kinds[a[0]]]
            written += size
            read += 4 * a[7] + (size if a[10] else 0)
    macs = sum(a[2] * config["rows"] * config["cols"] for name, *a in calls if name == "mm")
    macs += sum(a[3] * config["rows"] * config["cols"] for name, *a in calls if name == "mmx")
    for name, *a in calls:
        if name == "mma":
            macs += math.prod(math.ceil(x / u) * u for x, u in zip(a[6:9], (4, 8, 2), strict=True))
        elif name == "spmma":
            kept = *a[6:8], math.ceil(a[8] / a[10]) * a[9]
            macs += math.prod(math.ceil(x / u) * u for x, u in zip(kept, (4, 8, 2), strict=True))
    counted = report["bytes"]
    assert (counted["dram_read"], counted["dram_write"], report["macs"]) == (read, written, macs)
    assert sum(report["instructions"].values()) == len(calls)
    indexed = {
        "read": sum(a[2] for name, *a in calls if name == "prex"),
        "accumulated": sum(a[3] for name, *a in calls if name == "mmx"),
    }
    assert report["indexed_rows"] == indexed
    energy = report["energy_pj"]
    assert energy["index"] == indexed["read"] * 2.0 + indexed["accumulated"] * 3.0
    assert energy["mac"] == macs * 0.25
    assert energy["dram"] == (read + written) * 64.0
    assert energy["spad"] == (counted["spad_read"] + counted["spad_write"]) * 1.25
    assert energy["acc"] == (counted["acc_read"] + counted["acc_write"]) * 1.5
    assert energy["l0"] == (counted["l0_read"] + counted["l0_write"]) * 0.75
    assert energy["reg"] == counted["reg_write"] * 0.5
    added = sum(a[7] * a[8] for name, *a in calls if name == "sts" and a[10])
    assert energy["alu"] == report["alu_ops"] * 0.125 + added * 0.5


def test_every_half_and_bfloat_survives(library: ctypes.CDLL) -> None:
    """All 65536 bit patterns, NaN payloads too, through LD and ST."""
    patterns = np.arange(65536, dtype=np.uint16)
    for kind in (F16, BF16):
        source, target = patterns.view(NUMPY[kind]), np.zeros(65536, NUMPY[kind])
        config: dict[str, Any] = {"in": kind, "acc": F32, "spad_bytes": 1 << 17}
        with Machine(library, **config) as machine:
            x, y = machine.buffer("x", source, kind), machine.buffer("y", target, kind)
            machine.call("ld", spad(0), 0, x, 0, 16, 4096, 16)
            machine.call("st", y, 0, 16, spad(0), 0, 4096, 16, 0)
        assert (target.view(np.uint16) == patterns).all()


@pytest.mark.parametrize("kind", [I8, F16, BF16, F32])
def test_every_index_survives(library: ctypes.CDLL, kind: int) -> None:
    """All 65536 row numbers in the bytes of every input type, which are often no numbers of that type."""
    count = 65536
    numbers = np.random.default_rng(kind).permutation(count)
    ones = narrow(np.ones(4, np.float32), kind)[0]
    values = np.tile(narrow(np.arange(1, 9, dtype=np.float32), kind)[0], count // 4)
    lists = packed(numbers, 2, kind)
    acc_kind = I32 if kind == I8 else F32
    found = np.zeros((count, 2), NUMPY[acc_kind])
    size = (4 + count + len(lists)) * 2 * BYTES[kind]
    config: dict[str, Any] = {"rows": 2, "cols": 2, "in": kind, "acc": acc_kind, "line_rows": 1}
    with Machine(library, spad_bytes=size, acc_bytes=count * 8, indexed=1, **config) as machine:
        x, one, table = (
            machine.buffer(name, np.ascontiguousarray(data.reshape(-1)), kind)
            for name, data in (("x", values), ("one", ones), ("lists", lists))
        )
        y = machine.buffer("y", found.reshape(-1), acc_kind)
        machine.call("ld", spad(0), 0, one, 0, 2, 2, 2)
        machine.call("ld", spad(4), 0, x, 0, 2, count, 2)
        machine.call("ld", spad(4 + count), 0, table, 0, 2, len(lists), 2)
        machine.call("fill", acc(0), count, 0.0)
        machine.call("pre", spad(0), 2, 2)
        machine.call("mmx", acc(0), spad(4), spad(4 + count), count)
        machine.call("st", y, 0, 2, acc(0), 0, count, 2, 0)
    expected = np.zeros_like(found)
    expected[numbers] = np.tile([3, 7, 11, 15], count // 4)[:, None]
    assert (found == expected).all()


def test_rows_named_twice_are_added_in_order(library: ctypes.CDLL) -> None:
    """In f32, where the order shows: (0 + 2^24) + 1 + 1 is 2^24, and 0 + 1 + 1 + 2^24 is not."""
    found = np.zeros((2, 2), np.float32)
    values = np.array([[2**24, 0], [1, 0], [1, 0], [1, 0], [1, 0], [2**24, 0]], np.float32)
    lists = packed(np.array([0, 0, 0, 1, 1, 1]), 2, F32)
    config: dict[str, Any] = {"rows": 2, "cols": 2, "in": F32, "acc": F32, "indexed": 1}
    with Machine(library, **config) as machine:
        x = machine.buffer("x", values.reshape(-1), F32)
        table = machine.buffer("lists", lists.reshape(-1), F32)
        y = machine.buffer("y", found.reshape(-1), F32)
        machine.call("ld", spad(0), 0, x, 0, 2, 6, 2)
        machine.call("ld", spad(16), 0, table, 0, 2, len(lists), 2)
        machine.call("fill", acc(0), 2, 0.0)
        machine.call("fill", spad(32), 2, 1.0)
        machine.call("pre", spad(32), 2, 2)
        machine.call("mmx", acc(0), spad(0), spad(16), 6)
        machine.call("st", y, 0, 2, acc(0), 0, 2, 2, 0)
    assert found.tolist() == [[2**24] * 2, [2**24 + 2] * 2]


@pytest.mark.parametrize(
    "calls",
    [
        [("ld", spad(64), 0, 0, 0, 16, 2, 16)],
        [LD_LIST, ("fill", spad(65), 1, 0.0)],
        [LD_LIST, ("mv", spad(64), 0, spad(0), 0, 1, 1)],
        [LD_LIST, ("ldg", spad(64), 0, 2, 0, 16, 3, 0, 2, 16)],
    ],
    ids=["no data", "filled", "moved", "index without data"],
)
def test_only_time_needs_the_indices_all_the_same(library: ctypes.CDLL, calls: list[tuple[Any, ...]]) -> None:
    with Machine(library, NO_DATA, indexed=1) as machine:
        machine.absent("x", 1000, I8)
        machine.absent("y", 1000, I32)
        machine.buffer("lists", LISTS, I8)
        machine.absent("index", 10, I32)
        machine.call("ld", spad(0), 0, 0, 0, 16, 32, 16)
        for call in calls:
            machine.call(*call)
        with pytest.raises(AxError, match="of SPAD are not known: with AX_NO_DATA an LD of them needed"):
            machine.call(*PREX)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32))
def test_conversions_round_to_even(library: ctypes.CDLL, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 2**32, 256, dtype=np.uint32).view(np.float32)
    ties = rng.integers(0, 2**16, 128, dtype=np.uint16)
    with np.errstate(all="ignore"):
        values[:64] = ties[:64].view(np.float16).astype(np.float32) * np.float32(1 + 2.0**-11)
    values[64:128] = (ties[64:].astype(np.uint32) << 16 | 0x8000).view(np.float32)
    values[128:192] = rng.integers(-300, 300, 64).astype(np.float32) / 2
    config: dict[str, Any] = {"in": F32, "acc": F32}
    for kind in (I8, F16, BF16, I32):
        target = np.zeros(256, NUMPY[kind])
        with Machine(library, **config) as machine:
            x, y = machine.buffer("x", values, F32), machine.buffer("y", target, kind)
            output = machine.call("output", kind, 1.0, 0)
            machine.call("ld", spad(0), 0, x, 0, 16, 16, 16)
            machine.call("st", y, 0, 16, spad(0), 0, 16, 16, output)
            found = machine.report()["warnings"]["output_saturation"]
        with np.errstate(all="ignore"):
            expected, saturated = narrow(values, kind)
        assert equal(target, expected, kind)
        assert found == saturated


def test_an_overflow_is_counted(library: ctypes.CDLL) -> None:
    x = np.full((16, 16), -128, np.int8)
    y = np.zeros((16, 16), np.int32)
    with Machine(library) as machine:
        bx, by = machine.buffer("x", x, I8), machine.buffer("y", y, I32)
        machine.call("ld", spad(0), 0, bx, 0, 16, 16, 16)
        machine.call("pre", spad(0), 16, 16)
        machine.call("fill", acc(0), 16, 2.0**31 - 1 - 2 * 16 * 2**14)
        for _ in range(3):
            machine.call("mm", acc(0), spad(0), 16, 1)
        machine.call("st", by, 0, 16, acc(0), 0, 16, 16, 0)
        report = machine.report()
        assert "256 int32 overflows" in machine.text()
    assert report["warnings"]["int32_overflow"] == 256
    assert any("wrapped" in note for note in report["notes"])
    assert (y == 2**31 - 1 + 16 * 2**14 - 2**32).all()


# --- Messages -----------------------------------------------------------------------------------------------

FILLED = ("fill", spad(0), 64, 0.0)
FILLED_ACC = ("fill", acc(0), 64, 0.0)
FILL_257 = ("fill", spad(64), 2, 1.0)  # both bytes of each index are 1
INDEXED = {"indexed": 1}


@pytest.mark.parametrize(
    ("config", "calls", "message"),
    [
        (
            {},
            [("ld", spad(4090), 0, 0, 0, 1, 16, 1)],
            "LD (dst=SPAD[4090] step 0, memory='x', offset=0, stride=1, rows=16, cols=1), instruction 1, "
            "in 'layer fc1': operand dst reaches row 4105 of SPAD, which has 4096 rows",
        ),
        (
            {},
            [FILLED, ("mv", l0a(0), 0, spad(0), 0, 1, 1)],
            "instruction 2, in 'layer fc1': operand dst is in L0A, and target 'test16' has no L0A",
        ),
        ({}, [("ld", spad(0), 0, 0, 0, 1, 0, 4)], "at least 1 row and 1 column needed, found 0 x 4"),
        ({}, [("fill", spad(0), 0, 0.0)], "operand dst needs at least 1 row, found 0"),
        ({}, [FILLED, ("mv", spad(64), 0, spad(0), 0, 1, 0)], "operand dst needs at least 1 block, found 0"),
        ({}, [("ld", spad(0), 0, 9, 0, 1, 1, 1)], "the source is buffer 9, and only 3 buffers are known"),
        ({}, [FILLED, ("st", -1, 0, 1, spad(0), 0, 1, 1, 0)], "the target is buffer -1, and only 3 buffers"),
        (
            {},
            [("ld", spad(0), 0, 0, 0, 1000, 3, 16)],
            "row 2 covers elements 2000 to 2015 of 'x', which has elements 0 to 1999",
        ),
        ({}, [("ld", spad(0), 0, 0, 5, -3, 3, 1)], "row 2 covers elements -1 to -1 of 'x'"),
        ({}, [("ld", spad(0), 0, 0, 0, 2**62, 5, 1)], "the element numbers of row 4 overflow"),
        ({}, [("ldg", spad(0), 0, 0, 0, 100, 0, 0, 2, 1)], "the index 'x' must be of type i32, found i8"),
        ({}, [("ldg", spad(0), 0, 0, 0, 100, 7, 0, 2, 1)], "the index is buffer 7, and only 3 buffers"),
        (
            {},
            [("ldg", spad(0), 0, 0, 0, 100, 2, 3, 2, 1)],
            "2 indices from 3 on needed, and 'index' has indices 0 to 3",
        ),
        (
            {},
            [("ldg", spad(0), 0, 0, 0, 100, 2, 2, 2, 1)],
            "row 20 covers elements 2000 to 2000 of 'x', which has elements 0 to 1999",
        ),
        ({}, [("ldg", spad(0), 0, 0, 0, 100, 2, 0, 2, 1)], "index 1 of 'index' must be at least 0, found -1"),
        ({}, [("ld", acc(0), 0, 0, 0, 1, 1, 1)], "ACC holds i32 elements, and 'x' has i8 elements"),
        ({}, [("ld", spad(0), 0, 1, 0, 1, 1, 1)], "SPAD holds i8 elements, and 'y' has i32 elements"),
        (
            {},
            [FILLED_ACC, ("st", 0, 0, 16, acc(0), 0, 1, 16, 0)],
            "ACC gives i32 elements, and 'x' has i8 elements",
        ),
        (
            {},
            [FILLED_ACC, ("st", 1, 0, 16, acc(0), 0, 1, 16, 1)],
            "the output conversion gives i8 elements, and 'y' has i32 elements",
        ),
        (
            {},
            [FILLED, ("st", 0, 0, 16, spad(0), 0, 1, 16, 2)],
            "output conversion 2 is not known: 0 to 1 needed",
        ),
        (
            {},
            [FILLED, ("st", 0, 0, 8, spad(0), 0, 2, 16, 0)],
            "the rows overlap in 'x': a stride of at least 16 needed, found 8",
        ),
        (
            {},
            [("ld", spad(0), 3, 0, 0, 100, 4, 20)],
            "the 2 column blocks of operand dst overlap: a step of at least 4 rows needed, found 3",
        ),
        (
            {},
            [FILLED, ("st", 0, 0, 16, spad(60), 0, 5, 16, 0)],
            "operand src reads row 64 of SPAD, which was never written",
        ),
        ({}, [("pre", spad(3), 1, 1)], "operand b reads row 3 of SPAD, which was never written"),
        (
            {},
            [FILLED, ("mm", acc(0), spad(0), 1, 0)],
            "TU.MM (c=ACC[0], a=SPAD[0], rows=1, accumulate=0), instruction 2, in 'layer fc1': the "
            "array is empty: a TU.PRE before the first TU.MM needed, found none",
        ),
        ({}, [FILLED, PRE_A, ("mm", acc(5), spad(0), 1, 1)], "operand c reads row 5 of ACC, which was never"),
        ({}, [FILLED, PRE_A, ("mm", spad(5), spad(0), 1, 1)], "operand c cannot be in SPAD: ACC needed"),
        ({}, [FILLED, ("pre", spad(0), 17, 16)], "a tile of 1 x 1 to 16 x 16 needed, found 17 x 16"),
        ({}, [FILLED, ("pre", spad(0), 16, 0)], "a tile of 1 x 1 to 16 x 16 needed, found 16 x 0"),
        (
            {},
            [FILLED, PREX],
            "TU.PREX (b=SPAD[0], index=SPAD[64], rows=16, cols=16), instruction 2, in 'layer fc1': target "
            "'test16' cannot address rows by index (its description has no [indexed])",
        ),
        ({}, [FILLED, PRE_A, MMX], "target 'test16' cannot address rows by index"),
        (CUBE, [FILLED, PREX], "target 'test16' has no stationary array (it computes with TU.MMA)"),
        (
            INDEXED,
            [FILLED, ("prex", spad(0), spad(0), 17, 16)],
            "a tile of 1 x 1 to 16 x 16 needed, found 17",
        ),
        (INDEXED, [FILLED, ("prex", acc(0), spad(0), 1, 1)], "operand b cannot be in ACC: SPAD needed"),
        (INDEXED, [FILLED, ("prex", spad(0), acc(0), 1, 1)], "operand index cannot be in ACC: SPAD needed"),
        (
            INDEXED,
            [FILLED, ("prex", spad(0), spad(4095), 16, 1)],
            "operand index reaches row 4096 of SPAD, which has 4096 rows",
        ),
        (INDEXED, [FILLED, PREX], "operand index reads row 64 of SPAD, which was never written"),
        (
            INDEXED,
            [FILLED, FILL_257, PREX],
            "index 0 is 257: operand b reads row 257 of SPAD, which was never written",
        ),
        (
            INDEXED,
            [FILLED, ("fill", spad(64), 2, -1.0), PREX],
            "index 0 is 65535: operand b reaches row 65535 of SPAD, which has 4096 rows",
        ),
        (INDEXED, [FILLED, ("mmx", acc(0), spad(0), spad(0), 1)], "the array is empty: a TU.PRE before"),
        (
            INDEXED,
            [FILLED, FILL_257, PRE_A, MMX],
            "TU.MMX (c=ACC[0], a=SPAD[0], index=SPAD[64], rows=16), instruction 4, in 'layer fc1': index 0 "
            "is 257: operand c reads row 257 of ACC, which was never written",
        ),
        (
            INDEXED,
            [FILLED, FILL_257, PRE_A, ("mmx", acc(1000), spad(0), spad(64), 1)],
            "index 0 is 257: operand c reaches row 1257 of ACC, which has 1024 rows",
        ),
        (INDEXED, [FILLED, PRE_A, ("mmx", spad(0), spad(0), spad(0), 1)], "operand c cannot be in SPAD: ACC"),
        (INDEXED, [FILLED, PRE_A, ("mmx", acc(0), spad(0), spad(0), 0)], "operand a needs at least 1 row"),
        (
            INDEXED,
            [FILLED, PRE_A, ("mmx", acc(0), spad(60), spad(0), 8)],
            "operand a reads row 64 of SPAD, which was never written",
        ),
        (CUBE, [FILLED, PRE_A], "target 'test16' has no stationary array (it computes with TU.MMA)"),
        (CUBE, [FILLED, MM_A], "target 'test16' has no stationary array (it computes with TU.MMA)"),
        (
            {},
            [("mma", acc(0), 0, l0a(0), 0, l0b(0), 0, 1, 1, 1, 0)],
            "target 'test16' has no TU.MMA (it computes with TU.PRE and TU.MM)",
        ),
        (
            CUBE,
            [("mma", acc(0), 0, l0a(0), 0, l0b(0), 0, 1, 0, 1, 0)],
            "m and n of at least 1 and k of 1 to 131071 needed, found m 1, n 0, k 1",
        ),
        (
            CUBE,
            [("mma", acc(0), 0, l0b(0), 0, l0b(0), 0, 1, 1, 1, 0)],
            "operand a cannot be in L0B: L0A needed",
        ),
        (
            CUBE,
            [("mma", acc(0), 0, l0a(0), 0, l0b(0), 0, 1, 1, 1, 0)],
            "operand a reads row 0 of L0A, which",
        ),
        (
            CUBE | {"kept_of_4": 1 << 2},
            [("spmma", acc(0), 0, l0a(0), l0a(0), l0b(0), 0, 1, 1, 1, 1, 4, 0)],
            "target 'test16' does not take 1 of every 4 columns",
        ),
        (
            {},
            [("spmma", acc(0), 0, l0a(0), l0a(0), l0b(0), 0, 1, 1, 1, 2, 4, 0)],
            "target 'test16' has no TU.MMA (it computes with TU.PRE and TU.MM)",
        ),
        (
            CUBE | {"kept_of_4": 1 << 2},
            [("spmma", acc(0), 0, l0a(0), l0a(0), l0b(0), 0, 1, 1, 33, 2, 4, 0)],
            "a row of a holds 18 elements, needed at most the 16 of a row of memory",
        ),
        (
            CUBE | {"kept_of_4": 1 << 2},
            [("spmma", acc(0), 0, l0a(0), l0a(0), l0b(0), 0, 1, 0, 1, 2, 4, 0)],
            "m and n of at least 1 and k of 1 to 131071 needed, found m 1, n 0, k 1",
        ),
        (
            CUBE | {"kept_of_4": 1 << 2},
            [
                ("fill", l0a(0), 9, 0.0),
                ("fill", l0b(0), 16, 0.0),
                ("spmma", acc(0), 0, l0a(0), l0a(8), l0b(0), 0, 1, 1, 16, 2, 4, 0),
            ],
            "TU.SPMMA (c=ACC[0] step 0, a=L0A[0], meta=L0A[8], b=L0B[0] step 0, m=1, n=1, k=16, keep=2, "
            "group=4, accumulate=0), instruction 3, in 'layer fc1': the metadata of row 0 names column 0 of "
            "group 0 after column 0: columns that rise needed",
        ),
        (
            {"scatter_add": 0},
            [FILLED_ACC, ("sts", 1, 0, 16, 2, 0, acc(0), 0, 1, 16, 0, 1)],
            "target 'test16' cannot add to memory (its description has no [scatter_add])",
        ),
        (
            {},
            [FILLED_ACC, ("mv", spad(0), 0, acc(0), 0, 1, 1)],
            "rows of one kind needed, found 16 x i8 in SPAD and 16 x i32 in ACC",
        ),
        (
            {},
            [FILLED, ("mv", spad(8), 8, spad(0), 8, 4, 2)],
            "block 0 of dst and block 1 of src overlap in SPAD",
        ),
        (
            {},
            [("fill", spad(0), 1, 128.0)],
            "a whole number from -128 to 127 needed for i8 elements, found 128",
        ),
        (
            {},
            [FILLED, ("vop", 5, spad(0), spad(0), spad(0), 1, 0.0)],
            "vector operations 0 to 4 are known, found 5",
        ),
        ({}, [FILLED, ("vop", ADD, spad(0), spad(1), spad(0), 2, 0.0)], "operand a overlaps dst in part"),
        (
            {},
            [FILLED, FILLED_ACC, ("vop", ADD, spad(0), spad(0), acc(0), 2, 0.0)],
            "rows of one kind needed, found 16 x i8 in dst and 16 x i32 in b",
        ),
    ],
)
def test_errors(
    library: ctypes.CDLL, config: dict[str, Any], calls: list[tuple[Any, ...]], message: str
) -> None:
    with Machine(library, **config) as machine:
        machine.buffer("x", np.zeros(2000, np.int8), I8)
        machine.buffer("y", np.zeros(2000, np.int32), I32)
        machine.buffer("index", np.array([1, -1, 3, 20], np.int32), I32)
        machine.call("output", I8, 0.5, RELU)
        machine.scope("layer fc1")
        for call in calls[:-1]:
            machine.call(*call)
        before = machine.report()
        with pytest.raises(AxError) as raised:
            machine.call(*calls[-1])
        assert message in str(raised.value)
        with pytest.raises(AxError, match="instruction"):
            machine.call("fence")
        assert machine.error() == str(raised.value)
        after = machine.report()
        assert after["error"] == str(raised.value)
        assert str(raised.value) in machine.text()
        assert after["instructions"] == before["instructions"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"queue_load": 0}, "target 'test16': queue_load must be at least 1, found 0"),
        ({"rows": 0}, "rows must be at least 1, found 0"),
        ({"rows": 70000}, "rows and cols must be at most 65535, found 70000 and 16"),
        ({"kind": 7}, "kind must be AX_WS or AX_MMA, found 7"),
        ({"acc": F32}, "types must be i8 with i32, or f16, bf16 or f32 with f32"),
        ({"clock_ghz": 0.0}, "clock_ghz must be positive, found 0"),
        ({"kind": MMA, "mma_k": 0}, "mma_k must be at least 1, found 0"),
        ({"dma_bytes_per_cycle": 0.0}, "dma_bytes_per_cycle must be positive, found 0"),
        ({"move_bytes_per_cycle": -1.0}, "move_bytes_per_cycle must be positive, found -1"),
        ({"indexed": 1, **CUBE}, "indexed needs kind AX_WS, found AX_MMA"),
        ({"indexed": 1, "rows": 1, "cols": 1}, "indexed needs scratchpad rows of at least 2 bytes, found 1"),
        ({"kept_of_4": 1 << 2}, "kept_of_4 needs kind AX_MMA, found AX_WS"),
        ({"kept_of_4": 1 << 4, **CUBE}, "kept_of_4 must have bits 1 to 3 only, found 16"),
        (
            {"kept_of_8": 1 << 3, **CUBE},
            "mma_k must be a multiple of 3 to take 3 of every 8 columns, found 2",
        ),
        ({"scatter_add_cycles": -1}, "scatter_add_cycles must be at least 0, found -1"),
        ({"indexed_read_cycles": -1}, "indexed_read_cycles must be at least 0, found -1"),
        ({"indexed_accumulate_pj": math.nan}, "indexed_accumulate_pj must be at least 0, found nan"),
        ({"mac_pj": math.nan}, "mac_pj must be at least 0, found nan"),
    ],
)
def test_wrong_targets(library: ctypes.CDLL, config: dict[str, Any], message: str) -> None:
    with Machine(library, **config) as machine:
        with pytest.raises(AxError) as raised:
            machine.call("fence")
        assert message in str(raised.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (("buffer", b"x", None, 1, I8), "buffer 'x' has no data"),
        (("buffer", b"x", None, -1, I8), "buffer 'x' needs at least 0 elements, found -1"),
        (("buffer", b"x", None, 0, 9), "buffer 'x' has the unknown type 9"),
        (("output", 9, 1.0, 0), "found type 9, scale 1, activation 0"),
        (("output", I8, INF, 0), "found type 0, scale inf, activation 0"),
    ],
)
def test_wrong_registrations(library: ctypes.CDLL, call: tuple[Any, ...], message: str) -> None:
    with Machine(library) as machine:
        with pytest.raises(AxError) as raised:
            machine.call(*call)
        assert message in str(raised.value)


# --- Reports and traces -------------------------------------------------------------------------------------


def test_trace(library: ctypes.CDLL, tmp_path: Path) -> None:
    with Machine(library, TRACE, clock_ghz=0.5, **QUIET) as machine:
        machine.absent("nothing", 0, I8)
        x = machine.buffer("x", np.zeros(256, np.int8), I8)
        machine.scope('layer "fc1"')
        machine.call("ld", spad(0), 0, x, 0, 16, 16, 16)
        machine.call("pre", spad(0), 16, 16)
        machine.call("mm", acc(0), spad(0), 16, 0)
        trace = machine.trace(tmp_path / "trace.json")
        with pytest.raises(AxError):
            machine.call("write_trace", os.fsencode(tmp_path / "absent" / "trace.json"))
    events = trace["traceEvents"]
    names = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    spans = [
        (names[e["tid"]], e["name"], *(round(1000 * e[key], 9) for key in ("ts", "dur")))
        for e in events
        if e["ph"] == "X"
    ]
    assert trace["otherData"]["clock_ghz"] == 0.5
    assert spans == [
        ("layer", 'layer "fc1"', 0, 96),
        ("LOAD", "LD", 0, 32),
        ("WPORT", "TU.PRE", 32, 32),
        ("MAT", "TU.MM", 64, 32),
    ]
    assert events[-1]["args"] == {
        "n": 3,
        "scope": 'layer "fc1"',
        "operands": "c=ACC[0], a=SPAD[0], rows=16, accumulate=0",
    }


def test_reports(library: ctypes.CDLL) -> None:
    program = Program(3, F16, MMA)
    report, _ = program.run(library, NO_DATA, clock_ghz=0.7)
    assert math.isclose(report["time_us"], report["cycles"] / 700)
    assert any("only time was simulated" in note for note in report["notes"])
    with Machine(library, clock_ghz=0.7) as machine:
        machine.call("fill", spad(0), 16, 1.0)
        text = machine.text()
    assert "20 cycles = 0.029 us" in text
    assert "SPAD" in text
    assert "L0A" not in text


# --- Builds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [[], ["-DAX_PORTABLE"]], ids=["fast", "portable"])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_sanitizers(tmp_path: Path, compiler: str, flags: list[str]) -> None:
    sources = [SELFTEST, *sorted(SOURCES.glob("*.c"))]
    out = tmp_path / "selftest"
    sanitize = ["-g", "-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command = [
        compiler,
        *STRICT,
        *sanitize,
        *flags,
        f"-I{SOURCES}",
        *map(str, sources),
        "-o",
        str(out),
        "-lm",
    ]
    probe = tmp_path / "probe.c"
    probe.write_text("int main(void) { return 0; }")
    if subprocess.run(
        [compiler, *sanitize, str(probe), "-o", str(tmp_path / "probe")], check=False
    ).returncode:
        pytest.skip(f"{compiler} has no sanitizer libraries")
    subprocess.run(command, check=True)
    subprocess.run([str(out)], check=True, timeout=120)


def test_a_folder_of_sources_builds_alone(tmp_path: Path) -> None:
    for path in [*SOURCES.glob("*.c"), *SOURCES.glob("*.h"), SELFTEST]:
        shutil.copy(path, tmp_path)
    subprocess.run("cc -std=c11 -O2 *.c -lm -o selftest && ./selftest", shell=True, check=True, cwd=tmp_path)
