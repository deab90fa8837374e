"""`xbar.spmm`: a product of which the constant lies in the cells of arrays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self, cast

import numpy as np
from xdsl.dialects.builtin import ArrayAttr, IntAttr, StringAttr, TensorType
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
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

from sparsecc.crossbar.bundle import broken_bundle
from sparsecc.crossbar.place import broken_places
from sparsecc.crossbar.pool import Pool
from sparsecc.crossbar.tiles import Tile, Tiles, dense_of
from sparsecc.dialects.sparse_attributes import WeightAttr
from sparsecc.dialects.sparse_plan import PlannedOp
from sparsecc.dialects.sparse_quantization import broken_quantization
from sparsecc.dialects.xbar_tiles import TilesAttr, parse_tiles, print_tiles


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
class SpmmOp(PlannedOp):
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
    res = result_def(TensorType)
    traits = traits_def(Pure())

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
        self.verify_plan()

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
        properties |= cls.parse_plan(parser)
        attributes = parser.parse_optional_attr_dict_with_keyword()
        parser.parse_punctuation(":")
        x_type = parser.parse_type()
        parser.parse_punctuation("->")
        result_type = parser.parse_type()
        if not isa(result_type, TensorType):
            parser.raise_error("expected a tensor type")
        with parser.in_braces():
            properties["tiles"] = TilesAttr(parse_tiles(parser))
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
        self.print_plan(printer)
        printer.print_op_attributes(self.attributes, print_keyword=True)
        printer.print_string(" : ")
        printer.print_attribute(self.x.type)
        printer.print_string(" -> ")
        printer.print_attribute(self.res.type)
        print_tiles(printer, self.tiles)
