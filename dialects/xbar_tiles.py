"""Tables of tiles as the dialect `xbar` prints and reads them: a tile a line, or a digest of a large table.

A tile says: its block and bit slice, the shift of its sums, the level that stands for nothing, the bits of
its conversions, the array and the first word line and bit line there, the tile whose cells it uses instead of
its own, the bundle of tiles side by side that are read at once, its outputs (rows of Y; `not` where flipped),
its inputs (rows of X; `twice` where doubled) and its levels, input by input.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray
from xdsl.ir import Data
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer

from sparsecc.blobs import Blob
from sparsecc.crossbar.tiles import Tile, Tiles

# Larger tables are printed as a digest.
PRINTED_TILES = 16
PRINTED_CELLS = 256
# Of a large table, so many tiles are shown in a comment.
SHOWN_TILES = 4


def _runs(indices: NDArray[np.int32], marks: NDArray[np.bool_] | None, mark: str) -> str:
    """`0:4, 7, twice 9`: consecutive ones as ranges, marked ones with the mark."""
    parts: list[str] = []
    flags = np.zeros(len(indices), bool) if marks is None else marks
    start = 0
    for i in range(1, len(indices) + 1):
        if i < len(indices) and indices[i] == indices[i - 1] + 1 and flags[i] == flags[i - 1]:
            continue
        first, last = int(indices[start]), int(indices[i - 1])
        text = f"{first}:{last + 1}" if last > first else str(first)
        parts.append(f"{mark} {text}" if flags[start] else text)
        start = i
    return ", ".join(parts)


def tile_text(tile: Tile, levels: bool = True) -> str:
    """A tile as the IR shows it."""
    words = [f"block {tile.block}"]
    if tile.slice >= 0:
        words.append(f"slice {tile.slice}")
    for name, value in (("shl", tile.shift), ("zero", tile.zero), ("adc", tile.adc_bits)):
        if value:
            words.append(f"{name} {value}")
    if tile.array >= 0:
        words.append(f"at {tile.array}[{tile.row}, {tile.column}]")
    if tile.image >= 0:
        words.append(f"as {tile.image}")
    if tile.bundle >= 0:
        words.append(f"bundle {tile.bundle}")
    outputs, inputs = _runs(tile.outputs, tile.flipped, "not"), _runs(tile.inputs, tile.doubled, "twice")
    text = f"{' '.join(words)} : [{outputs}] += k[{inputs}]"
    if levels:
        text += f" levels [{', '.join(map(str, tile.levels.reshape(-1).tolist()))}]"
    return text


def _parse_runs(parser: AttrParser, mark: str) -> tuple[NDArray[np.int32], NDArray[np.bool_] | None]:
    indices: list[int] = []
    marks: list[bool] = []

    def run() -> None:
        marked = parser.parse_optional_keyword(mark) is not None
        first = parser.parse_integer(allow_boolean=False, allow_negative=False)
        end = first + 1
        if parser.parse_optional_punctuation(":"):
            end = parser.parse_integer(allow_boolean=False, allow_negative=False)
        if end <= first:
            parser.raise_error(f"range {first}:{end} is empty")
        indices.extend(range(first, end))
        marks.extend([marked] * (end - first))

    parser.parse_comma_separated_list(parser.Delimiter.SQUARE, run)
    flags = np.array(marks, bool)
    return np.array(indices, np.int32), flags if flags.any() else None


def parse_tile(parser: AttrParser) -> Tile:
    """A tile as `tile_text` writes it; `block` was read already."""

    def number() -> int:
        return parser.parse_integer(allow_boolean=False, allow_negative=False)

    fields = {"block": number(), "slice": -1}
    for keyword, name in (("slice", "slice"), ("shl", "shift"), ("zero", "zero"), ("adc", "adc_bits")):
        if parser.parse_optional_keyword(keyword):
            fields[name] = number()
    if parser.parse_optional_keyword("at"):
        fields["array"] = number()
        place = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, number)
        if len(place) != 2:
            parser.raise_error("a place in an array is [word line, bit line]")
        fields["row"], fields["column"] = place
    if parser.parse_optional_keyword("as"):
        fields["image"] = number()
    if parser.parse_optional_keyword("bundle"):
        fields["bundle"] = number()
    parser.parse_punctuation(":")
    outputs, flipped = _parse_runs(parser, "not")
    for punctuation in ("+", "="):
        parser.parse_punctuation(punctuation)
    parser.parse_keyword("k")
    inputs, doubled = _parse_runs(parser, "twice")
    parser.parse_keyword("levels")
    listed = parser.parse_comma_separated_list(
        parser.Delimiter.SQUARE, lambda: parser.parse_integer(allow_boolean=False)
    )
    if len(listed) != len(inputs) * len(outputs) or any(not -128 <= v < 128 for v in listed):
        parser.raise_error(
            f"a tile of {len(inputs)} inputs and {len(outputs)} outputs has {len(inputs) * len(outputs)} "
            f"levels of int8, found {len(listed)}"
        )
    levels = np.array(listed, np.int8).reshape(len(inputs), len(outputs))
    return Tile(inputs, outputs, levels, doubled=doubled, flipped=flipped, **fields)


def is_large(tiles: Tiles) -> bool:
    """Whether the table is printed as a digest."""
    return len(tiles) > PRINTED_TILES or len(tiles.cells) > PRINTED_CELLS


def tiles_blob(tiles: Tiles) -> Blob:
    """The blob that holds a large table. The table keeps it alive."""
    if "blob" not in tiles.__dict__:
        tiles.__dict__["blob"] = Blob.of(table=tiles.table, index=tiles.index, cells=tiles.cells)
    return cast(Blob, tiles.__dict__["blob"])


def parse_tiles(parser: AttrParser) -> Tiles:
    """Either `"digest", COUNT tiles` or any number of tiles."""
    if (digest := parser.parse_optional_str_literal()) is not None:
        parser.parse_punctuation(",")
        count = parser.parse_integer()
        parser.parse_keyword("tiles")
        arrays = Blob.named(digest).arrays
        tiles = Tiles(
            *(arrays[name].astype(kind, copy=False) for name, kind in _ARRAYS.items())  # pyright: ignore[reportArgumentType]
        )
        if len(tiles) != count:
            parser.raise_error(f"blob {digest} holds {len(tiles)} tiles, the text says {count}")
        return tiles
    listed: list[Tile] = []
    while parser.parse_optional_keyword("block"):
        listed.append(parse_tile(parser))
    return Tiles.of(listed)


_ARRAYS = {"table": np.int64, "index": np.int32, "cells": np.int8}


@irdl_attr_definition
class TilesAttr(Data[Tiles]):
    """A table of tiles."""

    name = "xbar.tiles"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Tiles:
        with parser.in_angle_brackets():
            return parse_tiles(parser)

    def print_parameter(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            if is_large(self.data):
                printer.print_string_literal(tiles_blob(self.data).digest)
                printer.print_string(f", {len(self.data)} tiles")
            else:
                printer.print_string(" ".join(tile_text(t) for t in self.data))


def print_tiles(printer: Printer, tiles: Tiles) -> None:
    """The table in braces, a tile a line; of a large one its digest, and the first tiles as comments."""
    printer.print_string(" {")
    with printer.indented():
        if is_large(tiles):
            printer.print_string(f'\n"{tiles_blob(tiles).digest}", {len(tiles)} tiles')
            for i in range(min(SHOWN_TILES, len(tiles))):
                text = tile_text(tiles[i], levels=False)
                printer.print_string(f"\n// {text if len(text) < 200 else text[:200] + ' ...'}")
        else:
            printer.print_string(f" // {len(tiles)} tile{'s' * (len(tiles) != 1)}")
            for tile in tiles:
                printer.print_string("\n" + tile_text(tile))
    printer.print_string("\n}")
