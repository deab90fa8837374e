"""Checks of a target with memristor crossbars, however it came about."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, cast

from sparsecc.target.crossbar_sections import OWN_KEYS, TIMING_KEYS
from sparsecc.target.document import check_fields, check_name, check_sources, fail
from sparsecc.target.sections import ADDRESS_ROWS, ELEMENT_BYTES

if TYPE_CHECKING:
    from sparsecc.target.crossbar import CrossbarTarget

MAX_SHAPES = 8
_OWN_FIELDS = ("family", "clock_ghz", "row_elements", "line_rows")


def check_crossbar(target: CrossbarTarget) -> None:
    """Raises TargetError at the first key that is wrong."""
    check_name(target)
    _check_values(target)
    _check_cells(target)
    _check_shapes(target)
    _check_memories(target)
    check_sources(target, target.number_keys())


def _check_values(target: CrossbarTarget):
    """Type and range of every field, as its annotation says."""
    owners = [("target" if key in OWN_KEYS["target"] else "memory", target, key) for key in _OWN_FIELDS]
    for name, section in target.sections():
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
