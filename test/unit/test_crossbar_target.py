"""Targets with crossbars: presets, files, PIMCOMP's config.json, and the messages about wrong ones."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from sparsecc.driver.cli import main
from sparsecc.errors import UserError
from sparsecc.target import CrossbarTarget, Target, TargetError, load_target, target_names
from sparsecc.target.document import ASSUMED
from sparsecc.target.load import PRESETS

NAMES = ("isaac128", "ou9x8", "puma128", "re2pim", "sme128")
SME = (PRESETS / "sme128.toml").read_text()


def crossbar(name: str | Path) -> CrossbarTarget:
    return cast(CrossbarTarget, load_target(name))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write_file(text: str, name: str = "chip.toml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write_file


@pytest.mark.parametrize("name", NAMES)
def test_preset(name: str, write: Callable[[str], Path]):
    target = crossbar(name)
    assert isinstance(target, CrossbarTarget)
    assert target.name == name
    assert hash(target) == hash(crossbar(name))
    assert crossbar(write(target.to_toml())) == target
    assert name in str(target)
    assert target.spad_rows * target.row_elements == target.spad.bytes
    assert target.acc_rows * target.row_elements * 4 == target.acc.bytes
    for line in (PRESETS / f"{name}.toml").read_text().splitlines():
        if line.startswith("[") and line not in ("[target]", "[sources]"):
            assert " # " in line, "every section says in a line what it describes"


def test_presets_are_those_described():
    assert set(NAMES) <= set(target_names())
    isaac, puma, sme, ou, re2pim = map(crossbar, ("isaac128", "puma128", "sme128", "ou9x8", "re2pim"))
    assert isaac.array.count == 168 * 12 * 8
    assert isaac.adc_pj(8) == pytest.approx(1.667)
    assert isaac.array.read_cycles / isaac.clock_ghz == pytest.approx(100)
    assert (isaac.slices, isaac.steps(), isaac.weight_offset, isaac.level_max) == (4, 8, 128, 3)
    # 128 columns of 8 arrays by 8 converters: 12.5 ns for each bit.
    assert 128 * 8 / puma.adc.lanes * puma.adc_cycles(8) == pytest.approx(100)
    assert puma.program.row_cycles * 128 == pytest.approx(10970, rel=1e-3)
    assert puma.energy.write_pj * 128 * 128 == pytest.approx(22600, rel=1e-2)
    assert (sme.slices, sme.steps(), sme.steps(doubled=True), sme.level_max) == (7, 7, 8, 1)
    assert (sme.adc_limit(6), sme.adc_bits_for(31), sme.adc_bits_for(32)) == (31, 6, 7)
    assert (isaac.adc_limit(8), isaac.adc_bits_for(255), isaac.adc_bits_for(256)) == (255, 8, 9)
    assert ou.unit == (8, 1, 9)
    assert ou.adc_limit(ou.adc.bits) >= 9 * ou.level_max
    assert len(re2pim.array.shapes) == 7
    assert sme.source("energy.write_pj").startswith(ASSUMED)
    assert "energy.adc_pj_per_bit" not in isaac.assumed
    with pytest.raises(UserError, match=r"no number 'adc.lane' \(did you mean 'adc.lanes'\?\)"):
        sme.source("adc.lane")


def test_families_are_told_apart():
    with pytest.raises(UserError, match=r"target isaac128 is of family 'crossbar', needed 'tensor' here"):
        Target.load("isaac128")
    assert isinstance(load_target("gemmini16"), Target)


def edit(*pairs: tuple[str, str]) -> str:
    text = SME
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


BAD: dict[str, tuple[str, str, str]] = {
    "adc": (
        edit(("bits = 6", "bits = 1")),
        "bits = 1\nlanes = 1",
        "adc.bits: found 1, needed 2 for one cell of 1 bits and one input digit of 1: the ADC cannot resolve",
    ),
    "adc and cell": (
        edit(("cell_bits = 1", "cell_bits = 4"), ("bits = 6", "bits = 4")),
        "bits = 4\nlanes = 1",
        "adc.bits: found 4, needed 5",
    ),
    "divide": (
        edit(("cell_bits = 1", "cell_bits = 3")),
        "cell_bits",
        "array.cell_bits: found 3 with weights of 8 bits, needed a divisor of them; use one of 1, 2, 4",
    ),
    "rows": (
        edit(("read_cycles", "ou_rows = 129\nread_cycles")),
        "ou_rows",
        "array.ou_rows: found 129, needed at most array.rows = 128, or 0 for all",
    ),
    "type": (
        edit(("rows = 128", "rows = 12.5")),
        "rows = 12.5",
        "array.rows: found 12.5, needed a whole number",
    ),
    "key": (edit(("cell_bits", "cell_bit")), "cell_bit =", "did you mean 'cell_bits'?"),
    "missing": (edit(("pulses = 1\n", "")), "[program]", "program.pulses: found nothing, needed a value"),
    "encoding": (
        edit(('"differential"', '"offsets"')),
        "encoding",
        "array.encoding: found 'offsets', needed 'differential' or 'offset' (did you mean 'offset'?)",
    ),
    "digitised": (
        edit(('"differential"', '"offset"'), ('"together"', '"separately"')),
        "digitised",
        "array.digitised: found 'separately' for encoding 'offset'",
    ),
    "digits": (
        edit(
            ('"differential"', '"offset"'),
            ('digitised = "together"\n', ""),
            ("[dac] # one bit of all inputs at once\nbits = 1", "[dac]\nbits = 2"),
        ),
        "bits = 2",
        "dac.bits: found 2 for encoding 'offset', needed 1",
    ),
    "timing": (
        edit(("stages = 3", "stages = 3\ndac_cycles = 1")),
        "dac_cycles",
        "pipeline.dac_cycles: found 1 for timing 'stages', needed timing 'pimsim'; remove it",
    ),
    "shape": (
        edit(("cell_bits", "shapes = [[64, 64]]\ncell_bits")),
        "shapes",
        "array.shapes: found [[64, 64]], needed [128, 128]",
    ),
    "shapes": (
        edit(("cell_bits", "shapes = [[128, 128], 7]\ncell_bits")),
        "shapes",
        "array.shapes: found 7, needed a list of rows and columns",
    ),
    "memory": (
        edit(("bytes = 2097152", "bytes = 4096")),
        "bytes = 4096",
        "memory.acc.bytes: found 4096, needed two panels of 128 rows of 128 bytes (32 elements of i32)",
    ),
    "source": (
        edit(('"array.count" = ', '"array.counts" = ')),
        '"array.counts"',
        "found no number that matches",
    ),
    "unsourced": (
        edit(('"program.pulses" = "assumed: no verification"\n', "")),
        "pulses =",
        "program.pulses: found no source",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_files(write: Callable[[str], Path], case: str):
    text, at, message = BAD[case]
    path = write(text)
    with pytest.raises(TargetError) as error:
        load_target(path)
    line = text[: text.index(at)].count("\n") + 1
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert message in str(error.value)


def test_wrong_targets_in_python():
    sme = crossbar("sme128")
    with pytest.raises(TargetError, match=r"target 'sme128': adc.bits: found 1, needed 2"):
        dataclasses.replace(sme, adc=dataclasses.replace(sme.adc, bits=1))
    with pytest.raises(TargetError, match=r"pipeline.stages: found 0, needed a whole number at least 1"):
        dataclasses.replace(sme, pipeline=dataclasses.replace(sme.pipeline, stages=0))


PIMCOMP: dict[str, Any] = {  # PIMCOMP-NN config.json @9f2f697, what is read of it
    "chip_config": {
        "core_config": {
            "period": 1,
            "matrix_config": {
                "xbar_array_count": 64,
                "period": 1,
                "pipeline_mode": True,
                "dac_resolution": 1,
                "dac_count": 128,
                "xbar_size": [128, 128],
                "cell_precision": 2,
                "xbar_latency": 7,
                "xbar_read_power": 22.24,
                "sample_hold_latency_cycle": 1,
                "adc_resolution": 8,
                "adc_latency_cycle": 20,
                "adc_static_power": 0.322,
                "adc_dynamic_power": 1.135,
                "adc_count": 16,
                "shift_adder_latency_cycle": 1,
                "output_buffer_latency_cycle": 1,
            },
            "vector_width": 32,
            "vector_latency_cycle": 4,
            "local_memory_config": {"data_width": 64, "write_latency_cycle": 30, "read_latency_cycle": 20},
        },
        "global_memory_config": {"data_width": 32, "write_latency_cycle": 50, "read_latency_cycle": 40},
        "core_cnt": 136,
    }
}


def test_pimcomp(write: Callable[..., Path], capsys: pytest.CaptureFixture[str]):
    path = write(json.dumps(PIMCOMP), "config.json")
    target = crossbar(path)
    assert (target.name, target.array.count, target.array.rows, target.array.cell_bits) == (
        "config",
        8704,
        128,
        2,
    )
    assert (target.adc.bits, target.adc.lanes, target.adc.arrays, target.adc_cycles(8)) == (8, 16, 1, 20)
    assert (target.pipeline.timing, target.pipeline.pipelined, target.array.read_cycles) == (
        "pimsim",
        True,
        7,
    )
    assert target.energy.array_pj == pytest.approx(22.24 * 7)
    assert target.adc_pj(8) == pytest.approx(1.135 * 20)
    assert (target.dma.bytes_per_cycle, target.dma.latency, target.vector.lanes) == (32, 40, 32)
    assert target.program.endurance == math.inf
    assert target.source("program.row_cycles").startswith(ASSUMED)
    assert main(["targets", str(path), "--toml"]) == 0
    again = write(capsys.readouterr().out, "config.toml")
    assert crossbar(again) == target


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("chip_config",), 3, r"chip_config: found 3, needed an object"),
        (
            ("chip_config", "core_config", "matrix_config", "xbar_size"),
            [128],
            r"xbar_size: found \[128\], needed two",
        ),
        (
            ("chip_config", "core_config", "matrix_config", "adc_count"),
            0,
            r"adc_count: found 0, needed a whole number",
        ),
        (
            ("chip_config", "core_config", "matrix_config", "pipeline_mode"),
            1,
            r"pipeline_mode: found 1, needed true",
        ),
        (
            ("chip_config", "core_config", "matrix_config", "period"),
            2,
            r"period: found 2 with core_config.period 1",
        ),
        (
            ("chip_config", "core_config", "matrix_config", "cell_precision"),
            3,
            r"matrix_config\.cell_precision: found 3 with weights of 8 bits, needed a divisor",
        ),
        (
            ("chip_config", "core_config", "matrix_config", "adc_resolution"),
            1,
            r"matrix_config\.adc_resolution: found 1, needed 2 for one cell",
        ),
    ],
)
def test_wrong_pimcomp(write: Callable[..., Path], keys: tuple[str, ...], value: Any, message: str):
    config = copy.deepcopy(PIMCOMP)
    inner = config
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path = write(json.dumps(config), "chip.json")
    with pytest.raises(UserError, match=message) as error:
        load_target(path)
    assert str(error.value).startswith(f"{path}: ")


def test_unreadable_pimcomp(write: Callable[..., Path], tmp_path: Path):
    with pytest.raises(UserError, match=r"chip\.json: not valid JSON"):
        load_target(write("{", "chip.json"))
    with pytest.raises(UserError, match=r"no\.json: cannot be read \(no such file or directory\)"):
        load_target(tmp_path / "no.json")
