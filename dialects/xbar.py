"""Memristor crossbars: a product as a table of tiles, and the instructions of the arrays.

`xbar.spmm` computes C[M,N] = W[M,K] X[K,N] for a constant W whose parts lie in the cells of arrays. Its body
is one table of tiles (`sparsecc.crossbar.tiles`): before they are sliced, a tile holds weights; after, the
levels of one bit slice. Each pass of the family refines the table; the interpreter gives the same after each.

```mlir
%y = xbar.spmm %x, #sparse.weight<2x4xi8, [(0, 1, 5), (1, 3, -2)]> on "sme128" array <128, 128> :
    tensor<4x8xi8> -> tensor<2x8xi32> { // 2 tiles
  block 0 slice 0 adc 2 at 0[0, 0] : [0] += k[1] levels [1]
  block 0 slice 1 shl 1 adc 2 at 1[0, 0] : [1] += k[3] levels [-1]
}
```
Where arrays have several shapes, `array <128, 128> as 3 of <128, 128>, 9 of <64, 32>` tells that arrays 0
to 2 have the first and 3 to 11 the second; the shape before is what none is larger than.

A tile says: its block and bit slice, the shift of its sums, the level that stands for nothing, the bits of
its conversions, the array and the first word line and bit line there, the tile whose cells it uses instead of
its own, the bundle of tiles side by side that are read at once, its outputs (rows of Y; `not` where flipped),
its inputs (rows of X; `twice` where doubled) and its levels, input by input. Large tables are printed as a
digest and live in a blob beside the module.

The other operations are instructions, in functions of loops over tables as in the dialect `tu`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ArrayAttr, IndexType, IntAttr, StringAttr, TensorType
from xdsl.ir import Attribute, Data, Dialect, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_attr_definition,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.parser import AttrParser, Parser
from xdsl.printer import Printer
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.hints import isa

from sparsecc.blobs import Blob
from sparsecc.crossbar.bundle import broken_bundle
from sparsecc.crossbar.place import broken_places
from sparsecc.crossbar.pool import Pool
from sparsecc.crossbar.tiles import Tile, Tiles, dense_of
from sparsecc.dialects.sparse import WeightAttr
from sparsecc.dialects.sparse_quantization import broken_quantization
from sparsecc.dialects.tu import AddressType, BufferType, InstructionOp

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


def _parse_tiles(parser: AttrParser) -> Tiles:
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
            return _parse_tiles(parser)

    def print_parameter(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            if is_large(self.data):
                printer.print_string_literal(tiles_blob(self.data).digest)
                printer.print_string(f", {len(self.data)} tiles")
            else:
                printer.print_string(" ".join(tile_text(t) for t in self.data))


def _arrays_attr(pool: Pool) -> ArrayAttr[ArrayAttr[IntAttr]]:
    return ArrayAttr(ArrayAttr([IntAttr(v) for v in (count, *shape)]) for count, shape in pool.groups)


def _parse_group(parser: AttrParser) -> tuple[int, tuple[int, int]]:
    """`12 of <128, 32>`."""
    count = parser.parse_integer(allow_boolean=False, allow_negative=False)
    parser.parse_keyword("of")
    shape = parser.parse_comma_separated_list(parser.Delimiter.ANGLE, parser.parse_integer)
    if len(shape) != 2:
        parser.raise_error(f"an array has 2 extents (word lines, bit lines), found {len(shape)}")
    return count, (shape[0], shape[1])


@irdl_op_definition
class SpmmOp(IRDLOperation):
    """C[M,N] = W[M,K] X[K,N] for a constant W that lies in the cells of arrays as the tiles say.

    `target` has the arrays, of `rows` word lines and `columns` bit lines each. Placed tiles may lie in arrays
    of several shapes, none larger: `arrays` then has (arrays, word lines, bit lines) of each, the arrays
    numbered in this order. `lost` counts weights of which
    a lossy pass changed the lowest bit; only then may the tiles differ from W. `plan` is "dense" where the
    operator was judged better off as the whole grid, `reason` says why a plan was taken.
    """

    name = "xbar.spmm"
    x = operand_def(TensorType)
    weight = prop_def(WeightAttr)
    target = prop_def(StringAttr)
    rows = prop_def(IntAttr)
    columns = prop_def(IntAttr)
    arrays = opt_prop_def(ArrayAttr[ArrayAttr[IntAttr]])
    tiles_attr = prop_def(TilesAttr, prop_name="tiles")
    lost = opt_prop_def(IntAttr)
    plan = opt_prop_def(StringAttr)
    reason = opt_prop_def(StringAttr)
    res = result_def(TensorType)
    traits = traits_def(Pure())

    PLANS: ClassVar = ("dense", "sparse")

    def __init__(
        self,
        x: SSAValue,
        weight: WeightAttr,
        target: str,
        shape: tuple[int, int],
        tiles: Tiles,
        result_type: TensorType[Attribute],
        plan: StringAttr | None = None,
        reason: StringAttr | None = None,
    ):
        super().__init__(
            operands=[x],
            properties={
                "weight": weight,
                "target": StringAttr(target),
                "rows": IntAttr(shape[0]),
                "columns": IntAttr(shape[1]),
                "tiles": TilesAttr(tiles),
                "plan": plan,
                "reason": reason,
            },
            result_types=[result_type],
        )

    @property
    def tiles(self) -> Tiles:
        return self.tiles_attr.data

    @property
    def shape(self) -> tuple[int, int]:
        """Word lines and bit lines of an array."""
        return self.rows.data, self.columns.data

    @property
    def mixed(self) -> Pool | None:
        """The arrays where they have several shapes; None where all have that of the operator."""
        if self.arrays is None:
            return None
        listed = [[v.data for v in group] for group in self.arrays]
        return Pool(tuple((count, (rows, columns)) for count, rows, columns in listed))

    def pool(self, arrays: int) -> Pool:
        """The arrays, where the chip has so many of the operator's shape."""
        return self.mixed or Pool(((arrays, self.shape),))

    def with_arrays(self, pool: Pool) -> Self:
        """This operator, with arrays of these shapes."""
        if pool.shapes != [self.shape]:
            self.properties["arrays"] = _arrays_attr(pool)
        return self

    @property
    def space(self) -> tuple[int, int, int]:
        """Extents (M, N, K) of the computing space."""
        m, k = self.weight.shape
        return m, self.res.type.get_shape()[1], k

    @property
    def is_dense(self) -> bool:
        return self.plan is not None and self.plan.data == "dense"

    @property
    def lost_weights(self) -> int:
        return self.lost.data if self.lost is not None else 0

    def with_tiles(self, tiles: Tiles | Iterable[Tile], lost: int = 0) -> Self:
        """The same operator with other tiles, of which so many more weights changed."""
        table = tiles if isinstance(tiles, Tiles) else Tiles.of(tiles)
        properties = dict(self.properties)
        properties["tiles"] = TilesAttr(table)
        if lost + self.lost_weights:
            properties["lost"] = IntAttr(lost + self.lost_weights)
        new = type(self).create(
            operands=list(self.operands),
            properties=properties,
            result_types=[self.res.type],
            attributes=dict(self.attributes),
        )
        new.location = self.location
        return new

    def verify_(self) -> None:
        if (broken := self._broken_types() or self._broken_arrays() or self._broken_tiles()) is not None:
            raise VerifyException(broken)
        if self.plan is not None and self.plan.data not in self.PLANS:
            raise VerifyException(f"plan {self.plan.data!r} is not one of {', '.join(self.PLANS)}")

    def _broken_arrays(self) -> str | None:
        if self.arrays is None:
            return None
        if not len(self.arrays) or any(len(g) != 3 or min(v.data for v in g) < 1 for g in self.arrays):
            return "arrays of several shapes are listed as (arrays, word lines, bit lines), all at least 1"
        rows, columns = self.shape
        for count, (height, width) in cast(Pool, self.mixed).groups:
            if height > rows or width > columns:
                return f"{count} arrays are {height} x {width}; none may be larger than {rows} x {columns}"
        if not self.tiles.is_placed:
            return "arrays have several shapes, and tiles no places; xbar-place gives both"
        last = int(self.tiles.table[:, 0].max(initial=-1))
        if last >= cast(Pool, self.mixed).count:
            return f"a tile lies in array {last}; there are {cast(Pool, self.mixed).count}"
        return None

    def _broken_types(self) -> str | None:
        x, y = cast("TensorType[Attribute]", self.x.type), self.res.type
        m, k = self.weight.shape
        n = y.get_shape()[1] if len(y.get_shape()) == 2 else -1
        found = [str(self.weight.element_type), str(x.element_type), str(y.element_type)]
        if x.get_shape() != (k, n) or y.get_shape() != (m, n) or found != ["i8", "i8", "i32"]:
            return (
                f"W is {m}x{k}x{found[0]}, X {x}, the result {y}; needed: W {m}x{k}xi8, X {k}xNxi8 and "
                f"result {m}xNxi32"
            )
        return broken_quantization(self, m)

    def _broken_tiles(self) -> str | None:
        m, k = self.weight.shape
        rows, columns = self.shape
        tiles = self.tiles
        for i, tile in enumerate(tiles):
            if tile.rows > rows or tile.columns > columns:
                return f"tile {i} is {tile.rows} x {tile.columns}; an array is {rows} x {columns}"
            for name, listed, bound in (("output", tile.outputs, m), ("input", tile.inputs, k)):
                if len(listed) and not 0 <= int(listed.min()) <= int(listed.max()) < bound:
                    return f"tile {i} has an {name} outside 0..{bound - 1}"
            if len(np.unique(tile.outputs)) < tile.columns:
                return f"tile {i} names an output twice"
            if tile.image >= 0 and not (tile.image < len(tiles) and tiles[tile.image].image < 0):
                return f"tile {i} uses the cells of {tile.image}, which has none of its own"
        if (broken := broken_bundle(list(tiles), columns)) is not None:
            return broken
        if (tiles.table[:, 0] >= 0).any() and (
            broken := broken_places(tiles, self.mixed.shape_of if self.mixed else lambda _: self.shape)
        ) is not None:
            return broken
        wrong = np.argwhere(dense_of(tiles, (m, k)) != self.weight.dense())
        if len(wrong) > self.lost_weights:
            row, column = wrong[0]
            return f"the tiles do not hold the weight at row {row}, column {column} as it is"
        return None

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        x = parser.parse_unresolved_operand()
        parser.parse_punctuation(",")
        properties: dict[str, Attribute] = {}
        weight = parser.parse_attribute()
        if not isinstance(weight, WeightAttr):
            parser.raise_error("expected a #sparse.weight attribute")
        properties["weight"] = weight
        parser.parse_keyword("on")
        properties["target"] = StringAttr(parser.parse_str_literal())
        parser.parse_keyword("array")
        shape = parser.parse_comma_separated_list(parser.Delimiter.ANGLE, parser.parse_integer)
        if len(shape) != 2:
            parser.raise_error(f"an array has 2 extents (word lines, bit lines), found {len(shape)}")
        properties["rows"], properties["columns"] = (IntAttr(extent) for extent in shape)
        if parser.parse_optional_keyword("as"):
            groups = parser.parse_comma_separated_list(parser.Delimiter.NONE, lambda: _parse_group(parser))
            properties["arrays"] = _arrays_attr(Pool(tuple(groups)))
        if parser.parse_optional_keyword("lost"):
            properties["lost"] = IntAttr(parser.parse_integer())
        for name in ("plan", "reason"):
            if parser.parse_optional_keyword(name):
                properties[name] = StringAttr(parser.parse_str_literal())
        attributes = parser.parse_optional_attr_dict_with_keyword()
        parser.parse_punctuation(":")
        x_type = parser.parse_type()
        parser.parse_punctuation("->")
        result_type = parser.parse_type()
        if not isa(result_type, TensorType):
            parser.raise_error("expected a tensor type")
        with parser.in_braces():
            properties["tiles"] = TilesAttr(_parse_tiles(parser))
        return cls.create(
            operands=[parser.resolve_operand(x, x_type)],
            properties=properties,
            result_types=[result_type],
            attributes=dict(attributes.data) if attributes else {},
        )

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_ssa_value(self.x)
        printer.print_string(", ")
        printer.print_attribute(self.weight)
        printer.print_string(" on ")
        printer.print_string_literal(self.target.data)
        printer.print_string(f" array <{self.rows.data}, {self.columns.data}>")
        if (pool := self.mixed) is not None:
            groups = (f"{count} of <{rows}, {columns}>" for count, (rows, columns) in pool.groups)
            printer.print_string(f" as {', '.join(groups)}")
        if self.lost is not None:
            printer.print_string(f" lost {self.lost.data}")
        for name, value in (("plan", self.plan), ("reason", self.reason)):
            if value is not None:
                printer.print_string(f" {name} ")
                printer.print_string_literal(value.data)
        printer.print_op_attributes(self.attributes, print_keyword=True)
        printer.print_string(" : ")
        printer.print_attribute(self.x.type)
        printer.print_string(" -> ")
        printer.print_attribute(self.res.type)
        self._print_tiles(printer)

    def _print_tiles(self, printer: Printer) -> None:
        tiles = self.tiles
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


class CrossbarOp(InstructionOp):
    """One instruction of the arrays."""

    @property
    def c_name(self) -> str:
        return f"ax_{self.MNEMONIC.lower().replace('.', '_')}"


@irdl_op_definition
class ShapeOp(CrossbarOp):
    """XB.SHAPE: arrays from `first` on have this shape."""

    name = "xbar.shape"
    MNEMONIC: ClassVar = "XB.SHAPE"
    first = operand_def(IndexType)
    count = operand_def(IndexType)
    rows = operand_def(IndexType)
    cols = operand_def(IndexType)
    assembly_format = "$first `count` $count `rows` $rows `cols` $cols (`comment` $comment^)? attr-dict"


@irdl_op_definition
class ProgOp(CrossbarOp):
    """XB.PROG: cells of an array get the levels of a buffer."""

    name = "xbar.prog"
    MNEMONIC: ClassVar = "XB.PROG"
    array = operand_def(IndexType)
    row = operand_def(IndexType)
    rows = operand_def(IndexType)
    column = operand_def(IndexType)
    cols = operand_def(IndexType)
    buffer = operand_def(BufferType)
    offset = operand_def(IndexType)
    stride = operand_def(IndexType)
    assembly_format = (
        "$array `at` `[` $row `,` $column `]` `,` $buffer `[` $offset `]` `stride` $stride `rows` $rows"
        " `cols` $cols (`comment` $comment^)? attr-dict `:` type($buffer)"
    )


@irdl_op_definition
class CfgOp(CrossbarOp):
    """XB.CFG: what a block is: cells, shift, conversions, and where its inputs and outputs are."""

    name = "xbar.cfg"
    MNEMONIC: ClassVar = "XB.CFG"
    block_number = operand_def(IndexType)
    array = operand_def(IndexType)
    row = operand_def(IndexType)
    rows = operand_def(IndexType)
    column = operand_def(IndexType)
    cols = operand_def(IndexType)
    in_row = operand_def(IndexType)
    out_row = operand_def(IndexType)
    shift = operand_def(IndexType)
    adc_bits = operand_def(IndexType)
    offset = operand_def(IndexType)
    tables = operand_def(BufferType)
    in_index = operand_def(IndexType)
    out_index = operand_def(IndexType)
    doubled = operand_def(IndexType)
    flipped = operand_def(IndexType)
    assembly_format = (
        "$block_number `is` $array `at` `[` $row `,` $column `]` `rows` $rows `cols` $cols `in` $in_row `out`"
        " $out_row `shl` $shift `adc` $adc_bits `offset` $offset `lists` $tables `[` $in_index `,` $out_index"
        " `,` $doubled `,` $flipped `]` (`comment` $comment^)? attr-dict `:` type($tables)"
    )


@irdl_op_definition
class MvmOp(CrossbarOp):
    """XB.MVM: one block multiplies n vectors."""

    name = "xbar.mvm"
    MNEMONIC: ClassVar = "XB.MVM"
    block_number = operand_def(IndexType)
    src = operand_def(AddressType)
    in_step = operand_def(IndexType)
    dst = operand_def(AddressType)
    out_step = operand_def(IndexType)
    n = operand_def(IndexType)
    accumulate = operand_def(IndexType)
    assembly_format = (
        "$dst `step` $out_step `,` $block_number `,` $src `step` $in_step `n` $n `accumulate` $accumulate"
        " (`comment` $comment^)? attr-dict"
    )


@irdl_op_definition
class MvmgOp(CrossbarOp):
    """XB.MVMG: blocks of different arrays multiply n vectors at once."""

    name = "xbar.mvmg"
    MNEMONIC: ClassVar = "XB.MVMG"
    first = operand_def(IndexType)
    count = operand_def(IndexType)
    src = operand_def(AddressType)
    in_step = operand_def(IndexType)
    dst = operand_def(AddressType)
    out_step = operand_def(IndexType)
    n = operand_def(IndexType)
    accumulate = operand_def(IndexType)
    assembly_format = (
        "$dst `step` $out_step `,` $first `count` $count `,` $src `step` $in_step `n` $n `accumulate`"
        " $accumulate (`comment` $comment^)? attr-dict"
    )


@irdl_op_definition
class DoneOp(CrossbarOp):
    """XB.DONE: programming is over; what follows is inference."""

    name = "xbar.done"
    MNEMONIC: ClassVar = "XB.DONE"
    assembly_format = "(`comment` $comment^)? attr-dict"


Xbar = Dialect("xbar", [CfgOp, DoneOp, MvmOp, MvmgOp, ProgOp, ShapeOp, SpmmOp], [TilesAttr])
