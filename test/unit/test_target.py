"""Targets: presets, files, plug-ins, the messages about wrong ones, and target.h."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparsecc.errors import UserError
from sparsecc.target import Array, Indexed, Memory, Target, TargetError
from sparsecc.target.header import target_header
from sparsecc.target.load import PRESETS

AXSIM = Path(__file__).resolve().parents[2] / "sparsecc" / "runtime" / "axsim"
NAMES = sorted(
    path.stem for path in PRESETS.glob("*.toml") if 'family = "tensor"' in path.read_text(encoding="utf-8")
)
GEMMINI = (PRESETS / "gemmini16.toml").read_text()
GEMMINI_X = (PRESETS / "gemmini16x.toml").read_text()
ASCEND = (PRESETS / "ascend910.toml").read_text()
NVIDIA = (PRESETS / "nvidia-tc.toml").read_text()
BY_INDEX = GEMMINI_X[GEMMINI_X.index("[indexed]") : GEMMINI_X.index("[queues]")]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write_file(text: str) -> Path:
        path = tmp_path / "chip.toml"
        path.write_text(text)
        return path

    return write_file


@pytest.mark.parametrize("name", NAMES)
def test_preset(name: str, write: Callable[[str], Path]):
    target = Target.load(name)
    assert target.name == name
    assert hash(target) == hash(Target.load(name))
    assert Target.load(write(target.to_toml())) == target
    assert name in str(target)
    for element_type, _ in target.types:
        used = target.with_type(element_type)
        assert used.in_type == element_type
        assert used.spad_rows * used.row_bytes == used.spad.bytes
        assert used.acc_rows * used.acc_row_bytes == used.acc.bytes
        assert Target.load(write(used.to_toml())) == used
        assert used.with_type(target.in_type) == target
    for line in (PRESETS / f"{name}.toml").read_text().splitlines():
        if line.startswith("[") and line not in ("[target]", "[sources]"):
            assert " # " in line, "every section says in a line what it describes"


def test_presets_are_those_described():
    assert NAMES == [
        "ascend910",
        "gemmini16",
        "gemmini16x",
        "nvidia-tc",
        "scalesim-ws128",
        "scalesim-ws16",
        "scalesim-ws32",
        "tpu128",
    ]
    assert set(NAMES) <= set(Target.names())
    gemmini = Target.load("gemmini16")
    assert gemmini.unit == (16, 16, 16)
    assert (gemmini.spad_rows, gemmini.acc_rows, gemmini.l0a_rows) == (16384, 1024, 0)
    assert (gemmini.in_type, gemmini.acc_type) == ("i8", "i32")
    ascend = Target.load("ascend910")
    assert (ascend.spad_rows, ascend.acc_rows, ascend.l0a_rows, ascend.l0b_rows) == (32768, 4096, 2048, 2048)
    assert ascend.unit == (16, 16, 16)
    tpu = Target.load("tpu128")
    assert tpu.unit == (128, 128, 128)
    assert tpu.dma.bytes_per_cycle == pytest.approx(30 * 2**30 / 0.7e9)
    assert tpu.with_type("bf16").spad_rows == tpu.spad_rows // 2
    scalesim = Target.load("scalesim-ws32")
    assert scalesim.dma.bytes_per_cycle == math.inf
    assert scalesim.timing.count == "last_index"
    # Wide enough for a panel of 4096 columns, and for all accumulators of a product of 4096 x 4096.
    assert Target.load("scalesim-ws16").acc_rows >= 4096 * 4096 // 16


def test_gemmini16x_is_gemmini16_with_rows_by_index():
    plain, target = Target.load("gemmini16"), Target.load("gemmini16x")
    assert plain.indexed is None
    assert "indexed" not in str(plain)
    assert target.indexed
    assert (target.indexed.read_cycles, target.indexed.accumulate_cycles) == (0, 0)
    assert target.indices_per_row == 8
    assert "indexed  read +0 cycles/row" in str(target)
    assert {key for key in target.assumed if key not in plain.assumed} == {
        f"indexed.{key}" for key in ("read_cycles", "accumulate_cycles", "read_pj", "accumulate_pj")
    }
    assert dataclasses.replace(target, name="gemmini16", indexed=None, sources=plain.sources) == plain
    assert ".indexed = 0," in target_header(plain)
    header = target_header(target)
    assert ".indexed = 1," in header
    assert f".indexed_read_pj = {target.indexed.read_pj}," in header


def test_sources_say_what_is_assumed():
    gemmini = Target.load("gemmini16")
    assert gemmini.source("memory.spad.bytes").startswith("ucb-bar/gemmini")
    assert gemmini.source("memory.line_rows") == "assumed: one tile"  # the longer pattern wins
    assert "dma.latency" in gemmini.assumed
    assert "dma.max_burst" not in gemmini.assumed
    with pytest.raises(UserError, match=r"no number 'dma.latencies' \(did you mean 'dma.latency'\?\)"):
        gemmini.source("dma.latencies")


def test_unknown_names():
    with pytest.raises(
        UserError, match=r"unknown target 'gemini16' \(did you mean 'gemmini16'\?\); name one of"
    ):
        Target.load("gemini16")
    with pytest.raises(UserError, match=r"no\.toml: cannot be read \(no such file or directory\)"):
        Target.load("no.toml")
    with pytest.raises(UserError, match="target gemmini16 has no input type 'f32'; it has i8"):
        Target.load("gemmini16").with_type("f32")


def replace(old: str, new: str, text: str = GEMMINI) -> str:
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("text", "line", "needed"),
    [
        (
            replace("rows = 16", "rows = 0"),
            "rows = 0",
            "array.rows: found 0, needed a whole number at least 1",
        ),
        (
            replace("rows = 16", "rows = 8"),
            "rows = 8",
            "needed rows = cols for kind 'ws', because a scratchpad",
        ),
        (replace("rows = 16", "rows = 16.0"), "rows = 16.0", "array.rows: found 16.0, needed a whole number"),
        (replace("rows = 16", "rows = true"), "rows = true", "array.rows: found True, needed a whole number"),
        (
            replace("rows = 16\n", ""),
            "[array]",
            "array.rows: found nothing, needed a value; add `rows = ...`",
        ),
        (replace("rows = 16", "rosw = 16"), "rosw = 16", "array.rosw: unknown key, needed one of kind, rows"),
        (replace("rows = 16", "rosw = 16"), "rosw = 16", "did you mean 'rows'?"),
        (replace("rows = 16", "rows = 99999999999"), "rows = 99999999999", "at least 1"),
        (replace('"ws"', '"wss"'), 'kind = "wss"', "found 'wss', needed 'ws' or 'mma' (did you mean 'ws'?)"),
        (replace('"ws"', "3"), "kind = 3", "array.kind: found 3, needed 'ws' or 'mma'"),
        (replace("[dma]", "[dna]"), "[dna]", "dna: unknown key"),
        (replace("true", '"yes"'), 'pe_double_buffer = "yes"', "found 'yes', needed true or false"),
        (replace("i8:i32", "i9:i32"), "types = ", "found 'i9:i32', needed one of i8:i32, f16:f32"),
        (replace("i8:i32", "i8"), "types = ", "found 'i8', needed a list of pairs such as"),
        (replace('["i8:i32"]', "[]"), "types = ", "array.types: found none"),
        (replace('["i8:i32"]', '["i8:i32", "i8:i32"]'), "types = ", "found 'i8' twice"),
        (replace('["i8:i32"]', '["i8:i32", "f32:f32"]'), "mac_pj", "energy.mac_pj: found no 'f32'"),
        (
            replace('["i8:i32"]', '["i8:i32"]\nin_type = "f32"'),
            "in_type",
            "found 'f32', needed an input type",
        ),
        (replace("{ i8 = 0.23 }", "{ i8 = 0.23, i7 = 1 }"), "mac_pj", "found 'i7', needed only"),
        (replace("{ i8 = 0.23 }", "{ i8 = -1 }"), "mac_pj", "energy.mac_pj.i8: found -1.0, needed a number"),
        (replace("{ i8 = 0.23 }", "0.23"), "mac_pj", "found 0.23, needed a table such as { i8 = 0.2 }"),
        (replace("min_rows = 4", "mma_m = 4"), "[array]", "array.min_rows: found nothing"),
        (
            replace("min_rows = 4", "min_rows = 4\nmma_m = 4"),
            "mma_m",
            "found 4 for kind 'ws', needed kind 'mma'",
        ),
        (replace("bytes = 262144", "bytes = 262145"), "bytes = 262145", "a whole number of rows of 16 bytes"),
        (replace("bytes = 262144", "bytes = 256"), "bytes = 256", "needed two tiles of 16 rows of 16 bytes"),
        (replace("bytes = 65536", "bytes = 1024"), "bytes = 1024", "make it at least 2048"),
        (replace("bytes = 262144", "bytes = 34359738368"), "bytes = 34359738368", "addresses have 30 bits"),
        (replace("line_rows = 16", "line_rows = 24"), "line_rows = 24", "needed a divisor of the 16384 rows"),
        (replace("line_rows = 16\n", ""), "[memory]", "memory.line_rows: found nothing"),
        (replace("line_rows = 16", "line_rowz = 16"), "line_rowz", "did you mean 'line_rows'?"),
        (
            replace("[dma]", "[memory.l0a]\nbytes = 4096\n[dma]"),
            "[memory.l0a]",
            "memory.l0a: found for kind 'ws', needed only for kind 'mma'",
        ),
        (
            replace("bytes_per_cycle = 16", "bytes_per_cycle = nan"),
            "nan",
            "found nan, needed a number above 0",
        ),
        (replace("bytes_per_cycle = 16", "bytes_per_cycle = 0"), "bytes_per_cycle = 0", "found 0.0, needed"),
        (replace("clock_ghz = 1.0", "clock_ghz = inf"), "clock_ghz", "at most 1000"),
        (replace("clock_ghz = 1.0", "clock_ghz = [1]"), "clock_ghz", "found [1], needed a number"),
        (replace('"gemmini16"', '"a b"'), "name = ", "target.name: found 'a b', needed letters"),
        (replace('"gemmini16"', "3"), "name = ", "target.name: found 3, needed a string"),
        (replace('"tensor"', '"vector"'), "family", "target.family: found 'vector', needed 'tensor' or"),
        (replace('"cycles"', '"ticks"'), "count = ", "found 'ticks', needed 'cycles' or 'last_index'"),
        (replace('"dma.latency" = "assumed"\n', ""), "latency = 100", "dma.latency: found no source; add"),
        (
            replace('"dma.latency" = "assumed"', '"dma.latency" = ""'),
            '"dma.latency" = ""',
            "found an empty text",
        ),
        (replace('"dma.latency" = "assumed"', '"dma.latency" = 3'), '"dma.latency" = 3', "needed a string"),
        (
            replace('"queues.*" =', '"queue.*" = "x"\n"queues.*" ='),
            '"queue.*"',
            "sources.queue.*: found no number that matches",
        ),
        (
            replace("[memory.l0b]", "[memory.l0c]", ASCEND),
            "[memory.l0c]",
            "memory.l0c: unknown key, needed one of line_rows, spad, acc, l0a, l0b",
        ),
        (
            replace("[memory.l0b] # right operand\nbytes = 65536\n", "", ASCEND),
            "[memory]",
            "memory.l0b: found nothing, needed for kind 'mma'",
        ),
        (replace("read_cycles = 0\n", "", GEMMINI_X), "[indexed]", "indexed.read_cycles: found nothing"),
        (
            replace("read_cycles = 0", "read_cycles = -1", GEMMINI_X),
            "read_cycles = -1",
            "indexed.read_cycles: found -1, needed a whole number at least 0",
        ),
        (
            replace("read_pj = 1.05", "read_pj = -1", GEMMINI_X),
            "read_pj = -1",
            "indexed.read_pj: found -1.0, needed a number at least 0",
        ),
        (
            replace("read_pj = 1.05", "read_jp = 1.05", GEMMINI_X),
            "read_jp",
            "unknown key, needed one of read_cycles, accumulate_cycles, read_pj, accumulate_pj; did you mean",
        ),
        (replace('"indexed.*_pj"', '"indexed.read_pj"', GEMMINI_X), "accumulate_pj", "found no source"),
        (
            replace("[dma]", "[indexed]\n[dma]"),
            "[indexed]",
            "indexed.read_cycles: found nothing, needed a value; add `read_cycles = ...` to [indexed]",
        ),
        (
            replace("[queues]", f"{BY_INDEX}[queues]", ASCEND) + '"indexed.*" = "assumed"\n',
            "[indexed]",
            "indexed: found for kind 'mma', needed only for kind 'ws'; remove the section",
        ),
        (
            replace("[queues]", '[structured]\npatterns = "2:4"\n[queues]'),
            "[structured]",
            "structured: found for kind 'ws', needed only for kind 'mma'; remove the section",
        ),
        *(
            (replace('"2:4"', f'"{patterns}"', NVIDIA), "patterns =", f"structured.patterns: {problem}")
            for patterns, problem in (
                ("2-4", "found '2-4', needed N:M such as 2:4"),
                ("4:4", "found '4:4', needed M one of 2, 4, 8, 16 and N from 1 to M - 1"),
                ("2:5", "found '2:5', needed M one of 2, 4, 8, 16 and N from 1 to M - 1"),
                ("2:4 2:4", "found '2:4 2:4', needed each pattern once"),
                ("", "found none, needed N:M"),
                ("3:4", "found 3:4 with array.mma_k = 16, needed N that divides it"),
            )
        ),
        (replace('"2:4"', "24", NVIDIA), "patterns =", "structured.patterns: found 24, needed a string"),
        (
            replace("row_cycles = 0", "row_cycles = -1", NVIDIA),
            "row_cycles",
            "needed a whole number at least 0",
        ),
        (replace("interval = 1", "interval = 0", ASCEND), "interval = 0", "array.interval: found 0, needed"),
        (replace("interval = 1", "interval = 1\nmin_rows = 4", ASCEND), "min_rows", "needed kind 'ws'"),
    ],
)
def test_wrong_file(text: str, line: str, needed: str, write: Callable[[str], Path]):
    path = write(text)
    with pytest.raises(TargetError) as error:
        Target.load(path)
    message = str(error.value)
    assert needed in message
    assert "\n" not in message
    found = re.match(rf"{re.escape(str(path))}:(\d+): ", message)
    assert found, message
    assert line in text.splitlines()[int(found[1]) - 1]


def test_wrong_syntax(write: Callable[[str], Path], tmp_path: Path):
    with pytest.raises(UserError, match=r"chip.toml: not valid TOML: .*\(at line 6, column"):
        Target.load(write(replace("clock_ghz = 1.0", "clock_ghz = = 1.0")))
    with pytest.raises(UserError, match=r"Cannot overwrite a value \(at line 7"):
        Target.load(write(replace("clock_ghz = 1.0", "clock_ghz = 1.0\nclock_ghz = 2.0")))
    with pytest.raises(UserError, match="target: found 3, needed a section; write"):
        Target.load(write("target = 3"))
    path = tmp_path / "latin.toml"
    path.write_bytes(b"# \xe9\n")
    with pytest.raises(UserError, match="byte 2 is not UTF-8"):
        Target.load(path)


def test_a_target_made_in_python_is_checked_too():
    gemmini = Target.load("gemmini16")
    with pytest.raises(
        TargetError, match=r"target 'gemmini16': memory.spad.bytes: found 16, needed two tiles"
    ):
        dataclasses.replace(gemmini, spad=Memory(16))
    array = Array("ws", 32, 16, (("i8", "i32"),), "i8")
    with pytest.raises(TargetError, match=r"array\.rows: found rows = 32 with cols = 16"):
        dataclasses.replace(gemmini, array=array)
    array = Array("ws", 1, 1, (("i8", "i32"),), "i8")
    with pytest.raises(TargetError, match=r"indexed: found scratchpad rows of 1 byte, needed 2 bytes for an"):
        dataclasses.replace(gemmini, array=array, indexed=Indexed(0, 0, 0.0, 0.0))


def offer(monkeypatch: pytest.MonkeyPatch, name: str, provide: Callable[[], Any]):
    """Installs a plug-in that offers a target."""

    class EntryPoint:
        def __init__(self):
            self.name = name
            self.value = f"plug_in:{name}"

        def load(self) -> Callable[[], Any]:
            return provide

    def entry_points(group: str) -> list[EntryPoint]:
        return [EntryPoint()] if group == "sparsecc.targets" else []

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)


def test_plugins(monkeypatch: pytest.MonkeyPatch, write: Callable[[str], Path]):
    path = write(replace('"gemmini16"', '"mine"'))
    offer(monkeypatch, "mine", lambda: path)
    assert Target.load("mine").name == "mine"
    assert "mine" in Target.names()
    mine = dataclasses.replace(Target.load("gemmini16"), name="mine")
    offer(monkeypatch, "mine", lambda: mine)
    assert Target.load("mine") is mine
    offer(monkeypatch, "mine", lambda: 3)
    with pytest.raises(
        UserError, match=r"entry point 'mine' of group sparsecc\.targets: found int, needed a Target"
    ):
        Target.load("mine")
    offer(monkeypatch, "gemmini16", lambda: mine)
    with pytest.raises(
        UserError, match="offered by sparsecc itself and by plug_in:gemmini16, needed by only one"
    ):
        Target.load("gemmini16")


# target.h -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_header_compiles(name: str, tmp_path: Path):
    target = Target.load(name)
    (tmp_path / "target.h").write_text(target_header(target))
    (tmp_path / "main.c").write_text(
        '#include "target.h"\n#include "target.h"\n'
        "int main(void)\n{\n"
        f'    _Static_assert(sizeof AX_TARGET_NAME == sizeof "{name}", "name");\n'
        f"    return !(ax_target.dma_bytes_per_cycle == {target_number(target.dma.bytes_per_cycle)}\n"
        f"             && ax_target.mac_pj == {target.mac_pj!r} && ax_target.rows == AX_ROWS\n"
        f"             && AX_SPAD_ROWS == {target.spad_rows} && AX_ACC_ROWS == {target.acc_rows});\n}}\n"
    )
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{AXSIM}"]
    subprocess.run(["cc", *flags, "main.c", "-o", "main"], cwd=tmp_path, check=True)
    subprocess.run([tmp_path / "main"], check=True)


def target_number(number: float) -> str:
    return "INFINITY" if number == math.inf else repr(number)


def test_header_sets_every_field():
    struct = re.search(
        r"typedef struct ax_config \{(.*?)\} ax_config;", (AXSIM / "axsim.h").read_text(), re.DOTALL
    )
    assert struct
    code = re.sub(r"/\*.*?\*/", "", struct[1], flags=re.DOTALL)
    fields = [name for line in code.split(";") for name in re.findall(r"(\w+)\s*(?=,|$)", line.strip())]
    header = target_header(Target.load("gemmini16"))
    assert re.findall(r"^    \.(\w+) = ", header, re.MULTILINE) == fields


def test_header_survives_any_source():
    gemmini = Target.load("gemmini16")
    odd = dataclasses.replace(gemmini, sources=(("*", "a */ b /* c\nd"),))
    comment, _, code = target_header(odd).partition("*/")
    assert "a * / b / * c d" in comment
    assert code.startswith("\n#ifndef")
