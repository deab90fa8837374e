"""How an operator of the host is declared: its C function, operands, numpy reference and cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

# Bytes of elements. Names of the form `any4` are elements that are only moved.
ELEMENT_BYTES: Mapping[str, int] = {
    "i8": 1, "u8": 1, "b8": 1, "i16": 2, "f16": 2, "bf16": 2, "i32": 4, "f32": 4, "i64": 8,
    "any1": 1, "any2": 2, "any4": 4, "any8": 8,
}  # fmt: skip

C_TYPES: Mapping[str, str] = {
    "i8": "int8_t", "u8": "uint8_t", "b8": "uint8_t", "i16": "int16_t", "f16": "uint16_t", "bf16": "uint16_t",
    "i32": "int32_t", "u32": "uint32_t", "i64": "int64_t", "u64": "uint64_t", "f32": "float",
    "any1": "void", "any2": "void", "any4": "void", "any8": "void",
}  # fmt: skip


class Kind(Enum):
    """What an argument of a C function is."""

    OUTPUT = "output"
    """An array that is written."""
    INPUT = "input"
    """An array that is read."""
    TABLE = "table"
    """Numbers known at compile time: a walk, a map, rows of a sparse matrix. In C a constant array."""
    NUMBER = "number"
    """A number by value."""
    RECORD = "record"
    """A Window or a Product; in C a pointer to a constant host_window or host_product."""


@dataclass(frozen=True)
class Argument:
    """One argument of a C function. Arrays are flat; where they begin, their element 0 lies."""

    name: str
    kind: Kind
    type: str
    """Of its elements, or of the number; the C type of a record."""
    optional: bool = False
    """May be None: NULL in C."""

    @property
    def c(self) -> str:
        """As C declares it."""
        match self.kind:
            case Kind.OUTPUT:
                return f"{C_TYPES[self.type]} *{self.name}"
            case Kind.INPUT | Kind.TABLE:
                return f"const {C_TYPES[self.type]} *{self.name}"
            case Kind.NUMBER:
                return f"{C_TYPES[self.type]} {self.name}"
            case Kind.RECORD:
                return f"const {self.type} *{self.name}"

    def text(self, value: str | float | Sequence[int] | Record | None) -> str:
        """A value as an expression of C; text stands for itself, so numbers may be names of variables."""
        match value:
            case None:
                return "NULL"
            case str():
                return value
            case int() | float() if self.kind is Kind.NUMBER:
                return _number(value, self.type)
            case Record():
                return f"&(const {self.type}){{{value.text()}}}"
            case _:
                assert self.kind is Kind.TABLE, self.name
                assert not isinstance(value, int | float), self.name
                # One element at least: C has no empty arrays.
                return f"(const {C_TYPES[self.type]}[]){{{', '.join(map(str, value)) or 0}}}"


def _number(value: float, kind: str) -> str:
    if kind != "f32":
        return str(value)
    if value != value or value in (float("inf"), -float("inf")):
        return "NAN" if value != value else "INFINITY" if value > 0 else "-INFINITY"
    return f"{float(value).hex()}f"


class Record:
    """A C struct of int64_t, with the same names."""

    def numbers(self) -> tuple[int, ...]:
        """All fields, in the order of C."""
        return tuple(getattr(self, f.name) for f in fields(self))  # pyright: ignore[reportArgumentType]

    def text(self) -> str:
        """As a C initialiser."""
        names = (f.name for f in fields(self))  # pyright: ignore[reportArgumentType]
        return ", ".join(f".{name} = {value}" for name, value in zip(names, self.numbers(), strict=True))


@dataclass(frozen=True)
class Window(Record):
    """Windows over x [outer, height, width, inner]; images are [C, H, W, batch] or [N C, H, W, 1].

    Results are [outer, out_height, out_width, inner]. One spatial axis: height, out_height, kernel_h = 1.
    A part of the rows of results, from `first` on, is a window with pad_top less first * stride_h; pads may
    be negative.
    """

    outer: int
    height: int
    width: int
    inner: int
    out_height: int
    out_width: int
    kernel_h: int
    kernel_w: int
    stride_h: int = 1
    stride_w: int = 1
    dilation_h: int = 1
    dilation_w: int = 1
    pad_top: int = 0
    pad_left: int = 0
    pad_bottom: int = 0
    """Only matters for averages that count padding, as pad_right."""
    pad_right: int = 0

    @property
    def results(self) -> int:
        """Elements of the result."""
        return self.outer * self.out_height * self.out_width * self.inner

    @property
    def elements(self) -> int:
        """Elements of x."""
        return self.outer * self.height * self.width * self.inner

    @property
    def kernel(self) -> int:
        """Elements of a window."""
        return self.kernel_h * self.kernel_w


@dataclass(frozen=True)
class Product(Record):
    """y [m, n] = a [m, k] b [k, n]: extents, and how many elements apart rows and columns lie.

    Transposed operands have their strides exchanged. The steps of the zero points are 0 for one that holds
    for the whole matrix, 1 for one per row of a or column of b.
    """

    m: int
    n: int
    k: int
    y_row: int
    y_col: int
    a_row: int
    a_col: int
    b_row: int
    b_col: int
    a_zero_step: int = 0
    b_zero_step: int = 0


@dataclass(frozen=True)
class Cost:
    """What one call costs, at least: every operand is moved once."""

    bytes_read: int
    bytes_written: int
    flops: int = 0
    """Additions, multiplications, comparisons, divisions, roundings, of floats or integers."""
    functions: int = 0
    """Evaluations of exp, log, erf, tanh, pow and the like."""


@dataclass(frozen=True)
class HostOperator:
    """A C function of `host.h`. `reference` and `cost` take the arguments of the C function in its order.

    Arrays are flat numpy arrays, tables sequences of int, records objects. `reference` writes the outputs and
    returns what the C function returns; `cost` looks at no array, which may be None there.
    """

    name: str
    arguments: tuple[Argument, ...]
    reference: Callable[..., int | None]
    cost: Callable[..., Cost]
    about: str
    """What it computes; one comment of the header for all operators that say the same."""
    returns: str = "void"
    """void; or int64_t: 0, or 1 + the place of the first index that is outside."""
    in_place: tuple[str, ...] = ()
    """Inputs that may be the first output itself: the same array, elements in the same places."""

    @property
    def prototype(self) -> str:
        """As the header declares it."""
        return f"{self.returns} {self.name}({', '.join(a.c for a in self.arguments)});"

    def call(self, **values: str | float | Sequence[int] | Record | None) -> str:
        """The call as an expression of C; arrays by their C expressions."""
        assert values.keys() == {a.name for a in self.arguments}, f"{self.name}: {', '.join(values)}"
        return f"{self.name}({', '.join(a.text(values[a.name]) for a in self.arguments)})"


def output(name: str, kind: str) -> Argument:
    """An array that is written."""
    return Argument(name, Kind.OUTPUT, kind)


def source(name: str, kind: str, optional: bool = False) -> Argument:
    """An array that is read."""
    return Argument(name, Kind.INPUT, kind, optional)


def table(name: str, kind: str = "i64", optional: bool = False) -> Argument:
    """Numbers known at compile time."""
    return Argument(name, Kind.TABLE, kind, optional)


def number(name: str, kind: str = "i64") -> Argument:
    """A number by value."""
    return Argument(name, Kind.NUMBER, kind)


def real(name: str) -> Argument:
    """A float by value."""
    return Argument(name, Kind.NUMBER, "f32")


WALK = table("walk")
WINDOW = Argument("window", Kind.RECORD, "host_window")
PRODUCT = Argument("product", Kind.RECORD, "host_product")
AXES = (number("outer"), number("axis"), number("inner"))
