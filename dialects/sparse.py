"""The Sparse IR: an SpMM is a sequence of groups, a group is a set of meta-ops that may run at once.

`sparse.spmm` computes C[M,N] = W[M,K] X[K,N] for a constant sparse W. Its body says how: it holds
`sparse.cover` (meta-ops not yet grouped) or a sequence of `sparse.group`. Each of them holds its meta-ops
as one table over bytes.

```mlir
%y = sparse.spmm %x, #sparse.weight<"9fb4fec942986d07bd144662926f9e26", 32x64xi8, nnz 220> unit <16, 16, 16> :
    tensor<64x32xi8> -> tensor<32x32xi32> {
  sparse.group { // 2 meta-ops
    [0:16, 0:32] += k[16:48]
    [(16, 19, 30), 0:32] += k[2, 5, 9, 17]
  }
}
```
Rows and columns are a range `first:end` or a list of indices, the gather map. Tables of more than 64 meta-ops
are printed as a digest and live in a blob beside the module (`sparsecc.blobs`), as the weights always do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import IntAttr, StringAttr, TensorType
from xdsl.ir import Attribute, Block, Data, Dialect, ParametrizedAttribute, Region, SSAValue, TypeAttribute
from xdsl.irdl import (
    IRDLOperation,
    irdl_attr_definition,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
)
from xdsl.parser import AttrParser, Parser
from xdsl.printer import Printer
from xdsl.traits import NoTerminator, Pure
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.hints import isa

from sparsecc.blobs import Blob
from sparsecc.cover.laws import Pattern, broken_alignment, broken_cover_law, conflict
from sparsecc.cover.metaops import COLUMNS, Axis, MetaOps, concatenate
from sparsecc.elements import round_to

# Larger tables, and tables with longer index pools, are printed as a digest.
PRINTED_METAOPS = 64
PRINTED_INDICES = 1024
# Weights with more nonzeros are printed as a digest, the others entry by entry.
PRINTED_ENTRIES = 24

# Blobs of weights written out in text, kept since nothing else refers to them between parsing and use.
_inline_blobs: dict[str, Blob] = {}

# What a product of two such elements may be summed up to: the accumulator first, then what it may be
# rounded to.
RESULT_TYPES: dict[str, tuple[str, ...]] = {
    "i8": ("i32",),
    "f16": ("f32", "f16"),
    "bf16": ("f32", "bf16"),
    "f32": ("f32",),
    "f64": ("f64",),
}

_NUMPY_TYPES: dict[str, type[np.generic]] = {
    "i8": np.int8,
    "i32": np.int32,
    "f16": np.float16,
    "bf16": np.float32,
    "f32": np.float32,
    "f64": np.float64,
}


def numpy_type(element_type: Attribute) -> type[np.generic]:
    """How numpy holds elements of this type; bf16 values are kept as the f32 they equal."""
    if (found := _NUMPY_TYPES.get(str(element_type))) is None:
        raise VerifyException(f"element type {element_type} is not one of {', '.join(_NUMPY_TYPES)}")
    return found


def _holds(kind: type[np.generic], value: float) -> bool:
    """Whether elements of this kind can be the number, or a float near it."""
    if np.dtype(kind).kind == "i":
        limits = np.iinfo(cast(type[np.int8], kind))
        return isinstance(value, int) and limits.min <= value <= limits.max
    return abs(value) <= float(np.finfo(cast(type[np.floating], kind)).max)


def _number_text(value: float) -> str:
    """A number as the parser reads it: a float has digits and a point before its exponent."""
    text = repr(value)
    return text.replace("e", ".0e") if "e" in text and "." not in text else text


@irdl_attr_definition(init=False)
class UnitAttr(ParametrizedAttribute):
    """What one dense instruction computes: rows, positions and columns (m, n, k)."""

    name = "sparse.unit"
    m: IntAttr
    n: IntAttr
    k: IntAttr

    def __init__(self, m: int | IntAttr, n: int | IntAttr, k: int | IntAttr):
        super().__init__(*(d if isinstance(d, IntAttr) else IntAttr(d) for d in (m, n, k)))

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.m.data, self.n.data, self.k.data

    def verify(self) -> None:
        if min(self.shape) <= 0:
            raise VerifyException(f"unit {self.shape} needs positive extents")

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        extents = parser.parse_comma_separated_list(parser.Delimiter.ANGLE, parser.parse_integer)
        if len(extents) != 3:
            parser.raise_error(f"a unit has 3 extents (m, n, k), found {len(extents)}")
        return [IntAttr(e) for e in extents]

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(", ".join(map(str, self.shape)))


@irdl_attr_definition(init=False)
class WeightAttr(ParametrizedAttribute):
    """A constant sparse matrix: CSR arrays in a blob (indptr, indices, data); the text holds the digest.

    A small one may be written out as (row, column, value) entries:
    `#sparse.weight<2x4xi8, [(0, 1, 5), (1, 3, -2)]>`.
    """

    name = "sparse.weight"
    digest: StringAttr
    rows: IntAttr
    columns: IntAttr
    element_type: TypeAttribute
    nnz: IntAttr

    def __init__(self, blob: Blob, rows: int, columns: int, element_type: TypeAttribute, nnz: int):
        super().__init__(StringAttr(blob.digest), IntAttr(rows), IntAttr(columns), element_type, IntAttr(nnz))
        # A strong reference: the blob's arrays live as long as some attribute needs them.
        object.__setattr__(self, "_blob", blob)

    @classmethod
    def of(
        cls,
        shape: tuple[int, int],
        indptr: NDArray[np.generic],
        indices: NDArray[np.generic],
        data: NDArray[np.generic],
        element_type: TypeAttribute,
    ) -> WeightAttr:
        """The weight of these CSR arrays, columns sorted inside each row."""
        blob = Blob.of(indptr=indptr.astype(np.int64), indices=indices.astype(np.int32), data=data.copy())
        return cls(blob, *shape, element_type, len(indices))

    @property
    def blob(self) -> Blob:
        if not hasattr(self, "_blob"):
            object.__setattr__(self, "_blob", Blob.named(self.digest.data))
        return cast(Blob, getattr(self, "_blob"))

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.data, self.columns.data

    @property
    def tensor_type(self) -> TensorType[Attribute]:
        return TensorType(self.element_type, list(self.shape))

    @property
    def pattern(self) -> Pattern:
        """The nonzero pattern. Raises UserError when the blob cannot be found."""
        arrays = self.blob.arrays
        indptr, indices = arrays["indptr"], arrays["indices"]
        return Pattern(*self.shape, indptr.astype(np.int64, copy=False), indices.astype(np.int32, copy=False))

    @property
    def data(self) -> NDArray[np.generic]:
        """Values of the nonzeros, [nnz]."""
        return self.blob.arrays["data"]

    def dense(self) -> NDArray[np.generic]:
        """The matrix as an array [rows, columns]."""
        dense = np.zeros(self.shape, self.data.dtype)
        dense[self.pattern.row_of(), self.pattern.indices] = self.data
        return dense

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            digest = parser.parse_optional_str_literal()
            if digest is not None:
                parser.parse_punctuation(",")
            shape, element_type = parser.parse_ranked_shape()
            if len(shape) != 2:
                parser.raise_error(f"a weight has 2 dimensions (rows, columns), found {len(shape)}")
            parser.parse_punctuation(",")
            if digest is None:
                blob, nnz = cls._parse_entries(parser, (shape[0], shape[1]), element_type)
                _inline_blobs[blob.digest] = blob
                digest = blob.digest
            else:
                parser.parse_keyword("nnz")
                nnz = parser.parse_integer()
        return [StringAttr(digest), IntAttr(shape[0]), IntAttr(shape[1]), element_type, IntAttr(nnz)]

    @staticmethod
    def _parse_entries(
        parser: AttrParser, shape: tuple[int, int], element_type: Attribute
    ) -> tuple[Blob, int]:
        kind = numpy_type(element_type)

        def entry() -> tuple[int, int, float]:
            with parser.in_parens():
                row = parser.parse_integer(allow_boolean=False, allow_negative=False)
                parser.parse_punctuation(",")
                column = parser.parse_integer(allow_boolean=False, allow_negative=False)
                parser.parse_punctuation(",")
                value = parser.parse_number(allow_boolean=False)
            if row >= shape[0] or column >= shape[1]:
                parser.raise_error(f"entry ({row}, {column}) is outside the {shape[0]}x{shape[1]} weight")
            if not _holds(kind, value):
                parser.raise_error(f"entry ({row}, {column}) is {value}, which {element_type} does not hold")
            if not np.array(value, kind):
                parser.raise_error(f"entry ({row}, {column}) is zero; leave it out")
            return row, column, value

        entries = sorted(parser.parse_comma_separated_list(parser.Delimiter.SQUARE, entry))
        rows = np.array([e[0] for e in entries], np.int64)
        places = [e[:2] for e in entries]
        if len(set(places)) != len(places):
            parser.raise_error("an entry stands twice")
        blob = Blob.of(
            indptr=np.searchsorted(rows, np.arange(shape[0] + 1)).astype(np.int64),
            indices=np.array([e[1] for e in entries], np.int32),
            data=round_to(np.array([e[2] for e in entries], kind), element_type),
        )
        return blob, len(entries)

    @property
    def is_written_out(self) -> bool:
        """Whether text holds the entries: few, in memory, and numbers that text can hold."""
        few = self.nnz.data <= PRINTED_ENTRIES and self.blob.is_loaded
        return few and bool(np.isfinite(self.data.astype(np.float64)).all())

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            if not self.is_written_out:
                printer.print_string_literal(self.digest.data)
                printer.print_string(", ")
            printer.print_string(f"{self.rows.data}x{self.columns.data}x")
            printer.print_attribute(self.element_type)
            if not self.is_written_out:
                printer.print_string(f", nnz {self.nnz.data}")
                return
            rows, columns = self.pattern.row_of().tolist(), self.pattern.indices.tolist()
            values = cast("list[float]", self.data.tolist())
            entries = zip(rows, columns, values, strict=True)
            listed = ", ".join(f"({r}, {c}, {_number_text(v)})" for r, c, v in entries)
            printer.print_string(f", [{listed}]")


@irdl_attr_definition
class MetaOpsAttr(Data[MetaOps]):
    """A table of meta-ops."""

    name = "sparse.metaops"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> MetaOps:
        with parser.in_angle_brackets():
            metaops = _parse_metaops(parser)
        return metaops

    def print_parameter(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            _print_metaops(printer, self.data, ", ")


def _parse_axis(parser: AttrParser) -> Axis:
    """`first:end`, or a list of indices (brackets already open)."""
    first = parser.parse_integer(allow_boolean=False, allow_negative=False)
    if parser.parse_optional_punctuation(":"):
        end = parser.parse_integer(allow_boolean=False, allow_negative=False)
        if end <= first:
            parser.raise_error(f"range {first}:{end} is empty")
        return range(first, end)
    indices = [first]
    while parser.parse_optional_punctuation(","):
        indices.append(parser.parse_integer(allow_boolean=False, allow_negative=False))
    return indices


def _parse_metaop(parser: AttrParser) -> tuple[Axis, range, Axis]:
    if parser.parse_optional_punctuation("("):
        rows = _parse_axis(parser)
        parser.parse_punctuation(")")
    else:
        rows = _parse_axis(parser)
    parser.parse_punctuation(",")
    positions = _parse_axis(parser)
    if not isinstance(rows, range | list) or not isinstance(positions, range):
        parser.raise_error("positions must be a range first:end")
    parser.parse_punctuation("]")
    parser.parse_punctuation("+")
    parser.parse_punctuation("=")
    parser.parse_keyword("k")
    parser.parse_punctuation("[")
    columns = _parse_axis(parser)
    parser.parse_punctuation("]")
    return rows, positions, columns


def _parse_metaops(parser: AttrParser) -> MetaOps:
    """Either `"digest", COUNT meta_ops` or any number of meta-ops, commas between them allowed."""
    if (digest := parser.parse_optional_str_literal()) is not None:
        parser.parse_punctuation(",")
        count = parser.parse_integer()
        parser.parse_keyword("meta_ops")
        arrays = Blob.named(digest).arrays
        table, index = arrays["table"], arrays["index"]
        if table.shape != (count, COLUMNS):
            parser.raise_error(f"blob {digest} holds {table.shape[0]} meta-ops, the text says {count}")
        return MetaOps(table.astype(np.int32, copy=False), index.astype(np.int32, copy=False))
    metaops: list[tuple[Axis, range, Axis]] = []
    while parser.parse_optional_punctuation("["):
        metaops.append(_parse_metaop(parser))
        parser.parse_optional_punctuation(",")
    return MetaOps.of(metaops)


def _axis_text(axis: Axis) -> str:
    return f"{axis.start}:{axis.stop}" if isinstance(axis, range) else ", ".join(str(int(i)) for i in axis)


def metaop_text(metaops: MetaOps, i: int) -> str:
    """Meta-op i as the IR shows it."""
    rows = metaops.rows(i)
    listed = _axis_text(rows) if isinstance(rows, range) else f"({_axis_text(rows)})"
    return f"[{listed}, {_axis_text(metaops.positions(i))}] += k[{_axis_text(metaops.columns(i))}]"


def is_large(metaops: MetaOps) -> bool:
    """Whether the table is printed as a digest."""
    return len(metaops) > PRINTED_METAOPS or len(metaops.index) > PRINTED_INDICES


def metaops_blob(metaops: MetaOps) -> Blob:
    """The blob that holds a large table. The table keeps it alive."""
    if "blob" not in metaops.__dict__:
        metaops.__dict__["blob"] = Blob.of(table=metaops.table, index=metaops.index)
    return cast(Blob, metaops.__dict__["blob"])


def _print_metaops(printer: Printer, metaops: MetaOps, separator: str) -> None:
    if is_large(metaops):
        printer.print_string_literal(metaops_blob(metaops).digest)
        printer.print_string(f", {len(metaops)} meta_ops")
        return
    for i in range(len(metaops)):
        printer.print_string(separator if i else "")
        printer.print_string(metaop_text(metaops, i))


class _MetaOpsHolder(IRDLOperation):
    """What `sparse.cover` and `sparse.group` have in common: a table of meta-ops in braces."""

    def __init__(self, metaops: MetaOps):
        super().__init__(properties={"metaops": MetaOpsAttr(metaops)})

    @property
    def table(self) -> MetaOps:
        return cast(MetaOpsAttr, self.properties["metaops"]).data

    @classmethod
    def parse(cls, parser: Parser):
        with parser.in_braces():
            metaops = _parse_metaops(parser)
        op = cls(metaops)
        op.attributes |= parser.parse_optional_attr_dict()
        return op

    def print(self, printer: Printer) -> None:
        metaops = self.table
        printer.print_string(" {")
        if is_large(metaops):
            printer.print_string(" ")
            _print_metaops(printer, metaops, "")
            printer.print_string(" }")
        else:
            printer.print_string(f" // {len(metaops)} meta-op{'s' * (len(metaops) != 1)}")
            with printer.indented():
                for i in range(len(metaops)):
                    printer.print_string("\n" + metaop_text(metaops, i))
            printer.print_string("\n}")
        printer.print_op_attributes(self.attributes)


@irdl_op_definition
class CoverOp(_MetaOpsHolder):
    """Meta-ops that together compute the operator, not yet grouped: their results add up in any order."""

    name = "sparse.cover"
    metaops = prop_def(MetaOpsAttr)


@irdl_op_definition
class GroupOp(_MetaOpsHolder):
    """Meta-ops that may run at once: no two write the same output (law 2)."""

    name = "sparse.group"
    metaops = prop_def(MetaOpsAttr)

    def verify_(self) -> None:
        if (clash := conflict(self.table)) is not None:
            i, j, row = clash
            raise VerifyException(
                f"meta-ops {i} {metaop_text(self.table, i)} and {j} {metaop_text(self.table, j)} "
                f"of one group both write row {row}; put them into different groups"
            )


@irdl_op_definition
class ConstantOp(IRDLOperation):
    """A sparse matrix as a tensor value, for modules of the model level."""

    name = "sparse.constant"
    weight = prop_def(WeightAttr)
    res = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "qualified($weight) attr-dict `:` type($res)"

    def __init__(self, weight: WeightAttr):
        super().__init__(properties={"weight": weight}, result_types=[weight.tensor_type])

    def verify_(self) -> None:
        if self.res.type != self.weight.tensor_type:
            raise VerifyException(f"the weight is {self.weight.tensor_type}, the result {self.res.type}")


@irdl_op_definition
class SpmmOp(IRDLOperation):
    """C[M,N] = W[M,K] X[K,N] for a constant sparse W, computed as the body says.

    `plan` is "dense" when the operator was judged better off as one dense meta-op, `reason` says why a plan
    was taken.
    """

    name = "sparse.spmm"
    x = operand_def(TensorType)
    weight = prop_def(WeightAttr)
    unit = prop_def(UnitAttr)
    plan = opt_prop_def(StringAttr)
    reason = opt_prop_def(StringAttr)
    res = result_def(TensorType)
    body = region_def("single_block")
    traits = traits_def(NoTerminator(), Pure())

    PLANS: ClassVar = ("dense", "sparse")

    def __init__(
        self,
        x: SSAValue,
        weight: WeightAttr,
        unit: UnitAttr,
        result_type: TensorType[Attribute],
        body: Sequence[CoverOp | GroupOp],
        plan: StringAttr | None = None,
        reason: StringAttr | None = None,
    ):
        super().__init__(
            operands=[x],
            properties={"weight": weight, "unit": unit, "plan": plan, "reason": reason},
            result_types=[result_type],
            regions=[Region(Block(body))],
        )

    @property
    def positions(self) -> int:
        """N, the columns of X and C."""
        return self.res.type.get_shape()[1]

    @property
    def sets(self) -> tuple[CoverOp | GroupOp, ...]:
        return tuple(op for op in self.body.block.ops if isinstance(op, CoverOp | GroupOp))

    @property
    def is_grouped(self) -> bool:
        return all(isinstance(op, GroupOp) for op in self.sets)

    @property
    def is_whole(self) -> bool:
        """Whether nothing was decided yet: one ungrouped meta-op is the whole computing space."""
        sets = self.sets
        if len(sets) != 1 or not isinstance(sets[0], CoverOp):
            return False
        (m, k), n = self.weight.shape, self.positions
        return np.array_equal(sets[0].table.table, MetaOps.whole(m, n, k).table)

    @property
    def is_dense(self) -> bool:
        return self.plan is not None and self.plan.data == "dense"

    def cover(self) -> MetaOps:
        """All meta-ops, of all groups."""
        sets = self.sets
        return sets[0].table if len(sets) == 1 else concatenate([s.table for s in sets])

    def with_body(self, body: Sequence[CoverOp | GroupOp]) -> SpmmOp:
        """The same operator computed in another way."""
        new = SpmmOp(self.x, self.weight, self.unit, self.res.type, body, self.plan, self.reason)
        new.attributes |= self.attributes
        new.location = self.location
        return new

    def verify_(self) -> None:
        x, y = self.x.type, self.res.type
        assert isa(x, TensorType)
        assert isa(y, TensorType)
        m, k = self.weight.shape
        x_shape, y_shape = x.get_shape(), y.get_shape()
        if len(x_shape) != 2 or len(y_shape) != 2 or x_shape[0] != k or y_shape != (m, x_shape[1]):
            raise VerifyException(
                f"W is {m}x{k}, X {'x'.join(map(str, x_shape))}, the result {'x'.join(map(str, y_shape))}; "
                f"needed: X {k}xN and result {m}xN"
            )
        if self.weight.element_type != x.element_type:
            raise VerifyException(f"W holds {self.weight.element_type}, X {x.element_type}; they must agree")
        results = RESULT_TYPES.get(str(x.element_type), ())
        if str(y.element_type) not in results:
            raise VerifyException(
                f"X holds {x.element_type}, the result {y.element_type}; needed: "
                + (f"result {' or '.join(results)}" if results else f"X of {', '.join(RESULT_TYPES)}")
            )
        if self.plan is not None and self.plan.data not in self.PLANS:
            raise VerifyException(f"plan {self.plan.data!r} is not one of {', '.join(self.PLANS)}")
        for op in self.body.block.ops:
            if not isinstance(op, CoverOp | GroupOp):
                raise VerifyException(
                    f"the body holds {op.name}; only sparse.cover and sparse.group may stand there"
                )
        if len(self.sets) > 1 and not self.is_grouped:
            raise VerifyException(
                "the body mixes sparse.cover and sparse.group, or has several covers; "
                "needed: one cover, or groups"
            )
        cover = self.cover()
        broken = broken_cover_law(cover, self.weight.pattern, y_shape[1])
        if broken is None and not self.is_dense:
            broken = self._broken_alignment(cover)
        if broken is not None:
            raise VerifyException(broken)

    def _broken_alignment(self, cover: MetaOps) -> str | None:
        return broken_alignment(cover, self.unit.shape, self.weight.pattern)

    @classmethod
    def parse(cls, parser: Parser) -> SpmmOp:
        x = parser.parse_unresolved_operand()
        parser.parse_punctuation(",")
        weight = parser.parse_attribute()
        if not isinstance(weight, WeightAttr):
            parser.raise_error("expected a #sparse.weight attribute")
        parser.parse_keyword("unit")
        unit = UnitAttr.new(UnitAttr.parse_parameters(parser))
        plan = reason = None
        if parser.parse_optional_keyword("plan"):
            plan = StringAttr(parser.parse_str_literal())
        if parser.parse_optional_keyword("reason"):
            reason = StringAttr(parser.parse_str_literal())
        attributes = parser.parse_optional_attr_dict_with_keyword()
        parser.parse_punctuation(":")
        x_type = parser.parse_type()
        parser.parse_punctuation("->")
        result_type = parser.parse_type()
        if not isa(result_type, TensorType):
            parser.raise_error("expected a tensor type")
        region = parser.parse_region()
        # Text does not tell an empty block from none.
        if not region.blocks:
            region.add_block(Block())
        operand = parser.resolve_operand(x, x_type)
        op = cls.create(
            operands=[operand],
            properties={
                name: value
                for name, value in (("weight", weight), ("unit", unit), ("plan", plan), ("reason", reason))
                if value is not None
            },
            result_types=[result_type],
            regions=[region],
            attributes=dict(attributes.data) if attributes else {},
        )
        return op

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_ssa_value(self.x)
        printer.print_string(", ")
        printer.print_attribute(self.weight)
        printer.print_string(" unit ")
        self.unit.print_parameters(printer)
        for name, value in (("plan", self.plan), ("reason", self.reason)):
            if value is not None:
                printer.print_string(f" {name} ")
                printer.print_string_literal(value.data)
        printer.print_op_attributes(self.attributes, print_keyword=True)
        printer.print_string(" : ")
        printer.print_attribute(self.x.type)
        printer.print_string(" -> ")
        printer.print_attribute(self.res.type)
        printer.print_string(" ")
        printer.print_region(self.body, print_empty_block=False)


Sparse = Dialect("sparse", [ConstantOp, CoverOp, GroupOp, SpmmOp], [MetaOpsAttr, UnitAttr, WeightAttr])
