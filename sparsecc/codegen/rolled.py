"""Statements of C that repeat become loops: steps of recurrent layers, of which a network may have thousands.

Lines repeat where their text is the same but for integers that grow by the same amount from one time to the
next: places in memory, numbers of steps. What the statements compute, and in which order, does not change.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# So many times are a loop, of at most so many lines.
LEAST, LONGEST = 5, 64

_TOKENS = re.compile(r'"(?:\\.|[^"\\])*"|/\*.*?\*/|[A-Za-z_]\w*|\.?\d(?:[eEpP][+-]|[\w.])*', re.DOTALL)


@dataclass(frozen=True)
class _Line:
    text: str
    """With a place for each integer."""
    numbers: tuple[int, ...]

    @staticmethod
    def of(line: str) -> _Line:
        numbers: list[int] = []

        def place(token: re.Match[str]) -> str:
            if not token.group().isdigit():
                return token.group()
            numbers.append(int(token.group()))
            return "\0"

        return _Line(_TOKENS.sub(place, line), tuple(numbers))

    def written(self, numbers: Sequence[str]) -> str:
        parts = self.text.split("\0")
        return parts[0] + "".join(n + part for n, part in zip(numbers, parts[1:], strict=True))


def _times(lines: Sequence[_Line], start: int, period: int) -> int:
    """How often lines from `start` on repeat."""
    count, last = 1, len(lines) - start
    while (count + 1) * period <= last:
        for j in range(period):
            first, second = lines[start + j], lines[start + period + j]
            before, here = lines[start + (count - 1) * period + j], lines[start + count * period + j]
            if first.text != here.text:
                return count
            numbers = zip(first.numbers, second.numbers, before.numbers, here.numbers, strict=True)
            if any(d - c != b - a for a, b, c, d in numbers):
                return count
        count += 1
    return count


def _number(first: int, step: int) -> str:
    if step == 0:
        return str(first)
    grown = "t" if abs(step) == 1 else f"{abs(step)} * t"
    return f"({first} {'+' if step > 0 else '-'} {grown})"


def _loop(lines: Sequence[_Line], start: int, period: int, count: int) -> list[str]:
    out = [f"for (int64_t t = 0; t < {count}; t++) {{"]
    for first, second in zip(
        lines[start : start + period], lines[start + period : start + 2 * period], strict=True
    ):
        numbers = [_number(a, b - a) for a, b in zip(first.numbers, second.numbers, strict=True)]
        out.append("    " + first.written(numbers).replace("\n", "\n    "))
    return [*out, "}"]


def rolled(lines: Sequence[str]) -> list[str]:
    """The same statements, with loops where at least LEAST times of the same lines follow each other."""
    known = [_Line.of(line) for line in lines]
    out: list[str] = []
    at = 0
    while at < len(known):
        period, count = 1, 1
        for candidate in range(1, min(LONGEST, (len(known) - at) // LEAST) + 1):
            if known[at].text != known[at + candidate].text:
                continue
            found = _times(known, at, candidate)
            if found >= LEAST and (found - 1) * candidate > (count - 1) * period:
                period, count = candidate, found
        out += _loop(known, at, period, count) if count > 1 else [lines[at]]
        at += period * count
    return out
