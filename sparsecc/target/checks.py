"""Checks of a target with a tensor unit, however it came about."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, cast

from sparsecc.target.document import Picojoules, check_fields, check_name, check_sources, fail, nearest, wrong
from sparsecc.target.sections import ADDRESS_ROWS, ELEMENT_BYTES, INDEX_BYTES, KIND_KEYS, OWN_KEYS, TYPE_PAIRS
from sparsecc.target.structured import check_structured

if TYPE_CHECKING:
    from sparsecc.target.target import Target

_OWN_FIELDS = ("family", "clock_ghz", "line_rows")


def check_target(target: Target) -> None:
    """Raises TargetError at the first key that is wrong."""
    _check_values(target)
    _check_array(target)
    _check_memories(target)
    _check_indexed(target)
    check_structured(target, target.structured, target.array.kind, target.array.mma_k)
    check_sources(target, target.number_keys())


def _check_values(target: Target):
    """Type and range of every field, as its annotation says."""
    check_name(target)
    owners = [("target" if key in OWN_KEYS["target"] else "memory", target, key) for key in _OWN_FIELDS]
    for name, section in target.sections():
        owners += [(name, section, field.name) for field in dataclasses.fields(section)]
    check_fields(target, owners)
    for element_type, number in target.energy.mac_pj:
        if problem := wrong(Picojoules, number):
            fail(target, f"energy.mac_pj.{element_type}", problem)


def _check_array(target: Target):
    """The element types, and what the two kinds of array need."""
    array = target.array

    if not array.types:
        fail(target, "array.types", 'found none, needed at least one pair such as "i8:i32"')
    inputs = [pair[0] for pair in array.types]
    for in_type, acc_type in array.types:
        pair = f"{in_type}:{acc_type}"
        if TYPE_PAIRS.get(in_type) != acc_type:
            known = [":".join(item) for item in TYPE_PAIRS.items()]
            fail(
                target,
                "array.types",
                f"found '{pair}', needed one of {', '.join(known)}{nearest(pair, known)}",
            )
        if inputs.count(in_type) > 1:
            fail(target, "array.types", f"found '{in_type}' twice, needed each input type once; remove one")
        if in_type not in dict(target.energy.mac_pj):
            fail(
                target,
                "energy.mac_pj",
                f"found no '{in_type}', needed one for each of array.types; add {in_type} = ...",
            )
    if array.in_type not in inputs:
        fail(
            target,
            "array.in_type",
            f"found '{array.in_type}', needed an input type of array.types: {', '.join(inputs)}",
        )
    energies = [element_type for element_type, _ in target.energy.mac_pj]
    for element_type in energies:
        if element_type not in TYPE_PAIRS:
            known = list(TYPE_PAIRS)
            near = nearest(element_type, known)
            fail(target, "energy.mac_pj", f"found '{element_type}', needed only {', '.join(known)}{near}")
        if energies.count(element_type) > 1:
            fail(target, "energy.mac_pj", f"found '{element_type}' twice, needed each type once; remove one")

    if array.kind == "ws" and array.rows != array.cols:
        fail(
            target,
            "array.rows",
            f"found rows = {array.rows} with cols = {array.cols}, needed rows = cols for kind 'ws', because "
            "a scratchpad row holds one row of either operand; make the two equal",
        )
    for key in KIND_KEYS["mma"]:
        value = cast(int, getattr(array, key))
        if array.kind == "ws" and value:
            fail(
                target,
                f"array.{key}",
                f"found {value} for kind 'ws', needed kind 'mma'; remove it or change array.kind",
            )
        if array.kind == "mma" and key != "latency" and value < 1:
            fail(target, f"array.{key}", f"found {value}, needed a whole number at least 1 for kind 'mma'")
    if array.kind == "mma":
        for key in ("pe_double_buffer", "fill_in_occupancy", "min_rows"):
            if value := getattr(array, key):
                fail(target, f"array.{key}", f"found {value!r} for kind 'mma', needed kind 'ws'; remove it")


def _check_memories(target: Target):
    """Which memories there are, and what each must hold, whatever element type is in use."""
    array = target.array

    for name in ("l0a", "l0b"):
        present = getattr(target, name) is not None
        if array.kind == "mma" and not present:
            fail(
                target,
                f"memory.{name}",
                f"found nothing, needed for kind 'mma'; add [memory.{name}] with its bytes",
            )
        if array.kind == "ws" and present:
            fail(
                target,
                f"memory.{name}",
                "found for kind 'ws', needed only for kind 'mma'; remove the section",
            )

    m, n, k = target.unit

    def tile_rows(rows: int, cols: int) -> int:
        return rows * -(-cols // array.cols)

    operands = max(tile_rows(m, k), tile_rows(k, n))
    tiles = (
        ("spad", target.spad, operands),
        ("acc", target.acc, tile_rows(m, n)),
        ("l0a", target.l0a, tile_rows(m, k)),
        ("l0b", target.l0b, tile_rows(k, n)),
    )
    for in_type, acc_type in array.types:
        for name, memory, rows in tiles:
            if memory is None:
                continue
            key = f"memory.{name}.bytes"
            element_type = acc_type if name == "acc" else in_type
            row = array.cols * ELEMENT_BYTES[element_type]
            what = f"rows of {row} bytes ({array.cols} elements of {element_type})"
            if memory.bytes % row:
                fail(target, key, f"found {memory.bytes}, needed a whole number of {what}; round it to {row}")
            found = memory.bytes // row
            if found < 2 * rows:
                fail(
                    target,
                    key,
                    f"found {memory.bytes}, needed two tiles of {rows} {what} to load one while the other is "
                    f"used; make it at least {2 * rows * row}",
                )
            if found > ADDRESS_ROWS:
                fail(
                    target,
                    key,
                    f"found {found} {what}, needed at most {ADDRESS_ROWS} because addresses have 30 bits",
                )
            if found % target.line_rows:
                fail(
                    target,
                    "memory.line_rows",
                    f"found {target.line_rows}, needed a divisor of the {found} {what} of {name}; use one",
                )


def _check_indexed(target: Target):
    """Rows by index: which array can use them, and whether a row has room for an index."""
    if target.indexed is None:
        return
    if target.array.kind != "ws":
        fail(target, "indexed", "found for kind 'mma', needed only for kind 'ws'; remove the section")
    smallest = min(ELEMENT_BYTES[in_type] for in_type, _ in target.types)
    if (found := target.array.cols * smallest) < INDEX_BYTES:
        fail(
            target,
            "indexed",
            f"found scratchpad rows of {found} byte, needed {INDEX_BYTES} bytes for an index; make "
            "array.rows and array.cols larger or remove the section",
        )
