"""What operators of the Sparse IR are made of: units, constant sparse matrices, tables of meta-ops.

Tables of more than 64 meta-ops are printed as a digest and live in a blob beside the module
(`sparsecc.blobs`), as the matrices always do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import IntAttr, StringAttr, TensorType
from xdsl.ir import Attribute, Data, ParametrizedAttribute, TypeAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from sparsecc.blobs import Blob
from sparsecc.cover.laws import Pattern
from sparsecc.cover.metaops import COLUMNS, Axis, MetaOps
from sparsecc.elements import round_to

# Larger tables, and tables with longer index pools, are printed as a digest.
PRINTED_METAOPS = 64
PRINTED_INDICES = 1024
# Weights with more nonzeros are printed as a digest, the others entry by entry.
PRINTED_ENTRIES = 24

# Blobs of weights written out in text, kept since nothing else refers to them between parsing and use.
_inline_blobs: dict[str, Blob] = {}

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


def number_text(value: float) -> str:
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
            listed = ", ".join(f"({r}, {c}, {number_text(v)})" for r, c, v in entries)
            printer.print_string(f", [{listed}]")


@irdl_attr_definition
class MetaOpsAttr(Data[MetaOps]):
    """A table of meta-ops."""

    name = "sparse.metaops"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> MetaOps:
        with parser.in_angle_brackets():
            metaops = parse_metaops(parser)
        return metaops

    def print_parameter(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            print_metaops(printer, self.data, ", ")


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


def parse_metaops(parser: AttrParser) -> MetaOps:
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


def print_metaops(printer: Printer, metaops: MetaOps, separator: str) -> None:
    """The meta-ops, or their digest, as `parse_metaops` reads them."""
    if is_large(metaops):
        printer.print_string_literal(metaops_blob(metaops).digest)
        printer.print_string(f", {len(metaops)} meta_ops")
        return
    for i in range(len(metaops)):
        printer.print_string(separator if i else "")
        printer.print_string(metaop_text(metaops, i))
