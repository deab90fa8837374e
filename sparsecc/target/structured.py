"""Capabilities that some targets have: left operands of which N of every M columns are kept (TU.SPMMA), and
stores by index that add to what is there (STS)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from sparsecc.target.document import Amount, Described, Picojoules, fail

# M of the patterns that the simulator's metadata can tell apart: as many bits for each value as log2 says.
GROUPS = (2, 4, 8, 16)


class Kept(NamedTuple):
    """N:M: of every `group` columns `keep` are kept."""

    keep: int
    group: int

    def __str__(self) -> str:
        return f"{self.keep}:{self.group}"

    @property
    def bits(self) -> int:
        """Of metadata for each value kept: its column in its group."""
        return self.group.bit_length() - 1

    def columns(self, values: int) -> int:
        """Columns that so many values of a row stand for."""
        return values // self.keep * self.group

    def values(self, columns: int) -> int:
        """Values that are kept of so many columns of a row, whole groups of them."""
        return -(-columns // self.group) * self.keep


@dataclass(frozen=True)
class Structured:
    """mma: TU.SPMMA takes left operands with N:M sparsity along k, compressed."""

    patterns: str
    """N:M, separated by blanks; M is 2, 4, 8 or 16."""


@dataclass(frozen=True)
class ScatterAdd:
    """STS may add to what is in memory: it reads each row, adds, and writes it back."""

    row_cycles: Amount
    """More cycles for each row, besides those of reading and writing it."""
    element_pj: Picojoules
    """Energy of adding one element, besides that of reading and writing it."""


@cache
def kept_patterns(text: str) -> tuple[Kept, ...]:
    """The patterns of a text such as "2:4 1:2". Raises ValueError, which says what is wrong."""
    found: list[Kept] = []
    for word in text.split():
        match = re.fullmatch(r"(\d{1,4}):(\d{1,4})", word)
        if not match:
            raise ValueError(f"found '{word}', needed N:M such as 2:4")
        keep, group = map(int, match.groups())
        if group not in GROUPS or not 0 < keep < group:
            known = ", ".join(map(str, GROUPS))
            raise ValueError(f"found '{word}', needed M one of {known} and N from 1 to M - 1")
        found.append(Kept(keep, group))
    if len(set(found)) != len(found):
        raise ValueError(f"found '{text}', needed each pattern once")
    if not found:
        raise ValueError('found none, needed N:M such as "2:4"')
    return tuple(found)


def check_structured(target: Described, structured: Structured | None, kind: str, unit_k: int):
    """Which arrays can have it, and with which patterns. Raises TargetError."""
    if structured is None:
        return
    if kind != "mma":
        fail(target, "structured", f"found for kind '{kind}', needed only for kind 'mma'; remove the section")
    try:
        patterns = kept_patterns(structured.patterns)
    except ValueError as e:
        fail(target, "structured.patterns", str(e))
    for kept in patterns:
        if unit_k % kept.keep:
            fail(
                target,
                "structured.patterns",
                f"found {kept} with array.mma_k = {unit_k}, needed N that divides it, because the unit takes "
                "whole groups; remove the pattern",
            )
