"""A CPU as a target, read from a TOML file and kept as a frozen, hashable value.

A SIMD register is a dense unit of 1 x lanes x 1: one weight times as many positions as it has lanes. As for
accelerators, every number carries where it comes from, or the word "assumed".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from sparsecc.cpu.machine import machine
from sparsecc.errors import UserError
from sparsecc.target.document import (
    Bytes,
    Document,
    Range,
    Sourced,
    check_fields,
    check_name,
    check_sources,
    toml_text,
)

# Of a type that a target does not have.
NONE = "none"


@dataclass(frozen=True)
class Simd:
    """The instructions that multiply."""

    isa: Literal["avx512", "avx2", "neon"]
    arch: Literal["x86_64", "aarch64"]
    lanes: Annotated[int, Range(1, 64)]
    """f32 lanes of a register."""
    registers: Annotated[int, Range(8, 32)]
    features: str
    """What a CPU must have, as Linux names it, separated by blanks."""
    flags: str
    """What C compilers must be told, separated by blanks."""


@dataclass(frozen=True)
class Caches:
    """Bytes of one core's caches, for the first choice of blocks; runs on the machine refine it."""

    l1d: Bytes
    l1i: Bytes
    l2: Bytes
    line: Annotated[int, Range(16, 1024)]


@dataclass(frozen=True)
class Limits:
    """What is worth trying."""

    line_nnz: Annotated[int, Range(0)]
    """Nonzeros above which no straight-line code is written; 0: none is."""
    line_columns: Annotated[int, Range(8, 65536)]
    """Columns that a group of rows uses of a block of straight-line code, as wide as that allows."""


@dataclass(frozen=True)
class Types:
    """What narrow types need beside [simd]: features as Linux names them, and compiler options."""

    i8: str = NONE
    bf16: str = NONE
    f16: str = NONE


SECTIONS = {"simd": Simd, "cache": Caches, "narrow": Types, "limits": Limits}
OWN_KEYS = {"target": ("name", "family")}


@dataclass(frozen=True)
class CpuTarget(Sourced):
    """A kind of CPU."""

    name: str
    family: Literal["cpu"]
    simd: Simd
    cache: Caches
    narrow: Types
    limits: Limits
    sources: tuple[tuple[str, str], ...]
    in_type: str = "f32"

    def __post_init__(self):
        check_name(self)
        check_fields(
            self,
            ((n, section, f.name) for n, section in _sections(self) for f in dataclasses.fields(section)),
        )
        check_sources(self, self.number_keys())

    @property
    def types(self) -> tuple[tuple[str, str], ...]:
        """Pairs of an input type and the type of its sums."""
        names = (f.name for f in dataclasses.fields(Types) if getattr(self.narrow, f.name) != NONE)
        return ("f32", "f32"), *((name, "i32" if name == "i8" else "f32") for name in names)

    @property
    def acc_type(self) -> str:
        """The type of sums."""
        return dict(self.types)[self.in_type]

    @property
    def _words(self) -> list[str]:
        """What the input type in use needs beside f32."""
        return [] if self.in_type == "f32" else getattr(self.narrow, self.in_type).split()

    @property
    def features(self) -> tuple[str, ...]:
        """What a CPU must have, as Linux names it."""
        return (*self.simd.features.split(), *(word for word in self._words if word[0] != "-"))

    @property
    def flags(self) -> tuple[str, ...]:
        """What C compilers must be told."""
        return (*self.simd.flags.split(), *(word for word in self._words if word[0] == "-"))

    @property
    def unit(self) -> tuple[int, int, int]:
        """(m, n, k) of what one instruction multiplies: a weight and a vector of positions."""
        return 1, self.simd.lanes, 1

    def with_type(self, in_type: str) -> CpuTarget:
        """The target used with another input type. Raises UserError for one that it does not have."""
        known = [pair[0] for pair in self.types]
        if in_type not in known:
            raise UserError(
                f"target {self.name} has no input type {in_type!r}; it has {', '.join(known)}", exit_code=2
            )
        return dataclasses.replace(self, in_type=in_type)

    @property
    def missing(self) -> tuple[str, ...]:
        """Features that the code needs and this machine's CPU does not have; empty if it runs here."""
        here = machine()
        if here.arch != self.simd.arch:
            return (self.simd.arch,)
        return tuple(f for f in self.features if f not in here.features)

    def check_runs_here(self) -> None:
        """Raises UserError where the code would not run."""
        if missing := self.missing:
            here = machine()
            narrow = "" if self.in_type == "f32" else f" for {self.in_type}"
            raise UserError(
                f"target {self.name} needs{narrow} a CPU with {', '.join(missing)}; this one is {here.model} "
                f"({here.arch}); name another target, or cpu for the best this machine has"
            )

    def number_keys(self) -> list[str]:
        """Keys of every number: those which need a source."""
        return [
            f"{name}.{field.name}"
            for name, section in _sections(self)
            for field in dataclasses.fields(section)
            if type(getattr(section, field.name)) is int
        ]

    def to_toml(self) -> str:
        """The text of a file that reads back as this target."""
        lines = ["[target]", *(f"{key} = {toml_text(getattr(self, key))}" for key in OWN_KEYS["target"])]
        for name, section in _sections(self):
            lines += ["", f"[{name}]"]
            lines += [
                f"{f.name} = {toml_text(getattr(section, f.name))}" for f in dataclasses.fields(section)
            ]
        lines += ["", "[sources]"]
        lines += [f"{toml_text(pattern)} = {toml_text(source)}" for pattern, source in self.sources]
        return "\n".join(lines) + "\n"

    def __str__(self) -> str:
        simd, cache = self.simd, self.cache
        here = "runs here" if not self.missing else f"not here: needs {', '.join(self.missing)}"
        return "\n".join(
            [
                f"{self.name}: {simd.isa} CPU, {simd.registers} registers of {simd.lanes} f32 lanes ({here})",
                f"  features {simd.features}",
                f"  compiler {simd.flags}",
                f"  types    {', '.join(self._type_text(pair[0]) for pair in self.types)}",
                f"  caches   data {cache.l1d >> 10} KiB, code {cache.l1i >> 10} KiB, second {cache.l2 >> 10} "
                f"KiB, lines of {cache.line} bytes",
                f"  line     up to {self.limits.line_nnz} nonzeros, blocks of {self.limits.line_columns} "
                "columns",
                f"  assumed  {', '.join(self.assumed) or 'nothing'}",
            ]
        )

    def _type_text(self, in_type: str) -> str:
        """A type, and what it needs."""
        typed = self.with_type(in_type)
        more = [feature for feature in typed.features if feature not in self.simd.features.split()]
        away = [] if self.missing else [feature for feature in typed.missing if feature in more]
        needs = f" ({', '.join(more)}{': not here' if away else ''})" if more else ""
        return f"{in_type}{needs}"


def _sections(target: CpuTarget) -> Iterator[tuple[str, Any]]:
    for name in SECTIONS:
        yield name, getattr(target, name)


class CpuDocument(Document):
    """A TOML file on its way to a CpuTarget."""

    def target(self) -> CpuTarget:
        """The target, or TargetError at the line of the key that is wrong."""
        return self.made(CpuTarget, OWN_KEYS, SECTIONS)

    def section(self, name: str, cls: type) -> Any:
        """As any document's; narrow types may be missing."""
        optional = [field.name for field in dataclasses.fields(Types)] if cls is Types else []
        return cls(**self.fields(name, cls, optional))
