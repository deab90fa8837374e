"""A CPU as a target, read from a TOML file and kept as a frozen, hashable value.

A SIMD register is a dense unit of 1 x lanes x 1: one weight times as many positions as it has lanes. As for
accelerators, every number carries where it comes from, or the word "assumed".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_type_hints

from sparsecc.cpu.machine import machine
from sparsecc.errors import UserError
from sparsecc.target.document import (
    ASSUMED,
    Bytes,
    Document,
    Range,
    check_name,
    check_sources,
    fail,
    source_of,
    toml_text,
    wrong,
)


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
    """Columns of a block of straight-line code; more where rows would have little to do in it."""


SECTIONS = {"simd": Simd, "cache": Caches, "limits": Limits}
OWN_KEYS = {"target": ("name", "family")}


@dataclass(frozen=True)
class CpuTarget:
    """A kind of CPU."""

    name: str
    family: Literal["cpu"]
    simd: Simd
    cache: Caches
    limits: Limits
    sources: tuple[tuple[str, str], ...]

    def __post_init__(self):
        check_name(self)
        for name, section in _sections(self):
            for field in dataclasses.fields(section):
                if problem := wrong(_HINTS[type(section)][field.name], getattr(section, field.name)):
                    fail(self, f"{name}.{field.name}", problem)
        check_sources(self, _numbers(self))

    in_type = "f32"
    acc_type = "f32"
    types = (("f32", "f32"),)

    @property
    def unit(self) -> tuple[int, int, int]:
        """(m, n, k) of what one instruction multiplies: a weight and a vector of positions."""
        return 1, self.simd.lanes, 1

    def with_type(self, in_type: str) -> CpuTarget:
        """The target used with another input type. Raises UserError: there is only f32."""
        if in_type != self.in_type:
            raise UserError(
                f"target {self.name} has no input type {in_type!r}; it has {self.in_type}", exit_code=2
            )
        return self

    @property
    def missing(self) -> tuple[str, ...]:
        """Features that the code needs and this machine's CPU does not have; empty if it runs here."""
        here = machine()
        if here.arch != self.simd.arch:
            return (self.simd.arch,)
        return tuple(f for f in self.simd.features.split() if f not in here.features)

    def check_runs_here(self) -> None:
        """Raises UserError where the code would not run."""
        if missing := self.missing:
            here = machine()
            raise UserError(
                f"target {self.name} needs a CPU with {', '.join(missing)}; this one is {here.model} "
                f"({here.arch}); name another target, or cpu for the best this machine has"
            )

    @property
    def assumed(self) -> tuple[str, ...]:
        """Keys of the numbers nobody has published or measured."""
        return tuple(k for k in _numbers(self) if source_of(self.sources, k).startswith(ASSUMED))

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
                f"  caches   data {cache.l1d >> 10} KiB, code {cache.l1i >> 10} KiB, second {cache.l2 >> 10} "
                f"KiB, lines of {cache.line} bytes",
                f"  line     up to {self.limits.line_nnz} nonzeros, blocks of {self.limits.line_columns} "
                "columns",
                f"  assumed  {', '.join(self.assumed) or 'nothing'}",
            ]
        )


_HINTS = {cls: get_type_hints(cls, include_extras=True) for cls in SECTIONS.values()}


def _sections(target: CpuTarget) -> Iterator[tuple[str, Any]]:
    for name in SECTIONS:
        yield name, getattr(target, name)


def _numbers(target: CpuTarget) -> list[str]:
    """Keys of every number of a target: those which need a source."""
    return [
        f"{name}.{field.name}"
        for name, section in _sections(target)
        for field in dataclasses.fields(section)
        if type(getattr(section, field.name)) is int
    ]


class CpuDocument(Document):
    """A TOML file on its way to a CpuTarget."""

    def target(self) -> CpuTarget:
        """The target, or TargetError at the line of the key that is wrong."""
        return self.made(CpuTarget, OWN_KEYS, SECTIONS)
