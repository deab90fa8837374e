"""What targets of all families share: TOML files, ranges, sources, and errors with their line."""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import json
import math
import re
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    NoReturn,
    Protocol,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from sparsecc.errors import UserError

INT_MAX = 2**31 - 1  # the simulator keeps counts in C ints
ASSUMED = "assumed"

T = TypeVar("T")


class TargetError(UserError):
    """A target is wrong at `key`; `problem` says what was found, what is needed and what to do."""

    def __init__(self, where: str, key: str, problem: str):
        super().__init__(f"{where}: {key}: {problem}")
        self.key = key
        self.problem = problem


@dataclass(frozen=True)
class Range:
    """The values a number may have: low <= value <= high, or low < value when `above`."""

    low: float
    high: float = INT_MAX
    above: bool = False

    def __contains__(self, value: float) -> bool:
        # Written so that NaN, which compares false with everything, is out of every range.
        return (self.low < value if self.above else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        low = f"above {self.low:g}" if self.above else f"at least {self.low:g}"
        return low if self.high in (INT_MAX, math.inf) else f"{low} and at most {self.high:g}"


Count = Annotated[int, Range(1)]
Amount = Annotated[int, Range(0)]
Bytes = Annotated[int, Range(1, 2**40)]
Width = Annotated[float, Range(0, math.inf, above=True)]
Picojoules = Annotated[float, Range(0, 1e9)]


def source_of(sources: Sequence[tuple[str, str]], key: str) -> str:
    """The source of a key; the pattern that says most about it, which is the longest one, wins."""
    matching = [pair for pair in sources if fnmatch.fnmatchcase(key, pair[0])]
    return max(matching, key=lambda pair: (pair[0] == key, len(pair[0])), default=("", ""))[1]


def nearest(word: str, known: Sequence[str]) -> str:
    """A hint in brackets, if some known word looks like this one."""
    near = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""


def toml_text(value: Any) -> str:
    """A value of a target as TOML writes it."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list():
            return f"[{', '.join(map(toml_text, cast(list[Any], value)))}]"
        case tuple():
            pairs = cast(tuple[tuple[str, float], ...], value)
            return f"{{ {', '.join(f'{name} = {toml_text(number)}' for name, number in pairs)} }}"
        case _:
            return repr(value)


def wrong(hint: Any, value: Any) -> str:
    """What is wrong with a value that should be as the annotation says; empty if nothing."""
    allowed = None
    if get_origin(hint) is Annotated:
        hint, allowed = get_args(hint)
    if get_origin(hint) is Literal:
        choices = cast(tuple[str, ...], get_args(hint))
        if value in choices:
            return ""
        near = nearest(value, choices) if isinstance(value, str) else ""
        return f"found {value!r}, needed {' or '.join(map(repr, choices))}{near}"
    if hint is float or hint is int:
        number = "a whole number" if hint is int else "a number"
        needed = f"needed {number} {allowed}"
        # A bool is an int to Python, and never a count to us.
        if isinstance(value, bool) or not isinstance(value, int | float if hint is float else int):
            return f"found {value!r}, {needed}"
        if isinstance(allowed, Range) and value not in allowed:
            return f"found {value!r}, {needed}; correct the number"
    elif hint in (bool, str) and not isinstance(value, hint):
        return f"found {value!r}, needed {'true or false' if hint is bool else 'a string'}"
    return ""


def base_type(hint: Any) -> Any:
    """An annotation without its range."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


class Described(Protocol):
    """A target of any family."""

    @property
    def name(self) -> str: ...

    @property
    def sources(self) -> tuple[tuple[str, str], ...]: ...


class Sourced(ABC):
    """What targets of all families share: each number has a source."""

    name: str
    sources: tuple[tuple[str, str], ...]
    """Pattern of keys, and where these come from."""

    @abstractmethod
    def number_keys(self) -> list[str]:
        """Keys of every number: those which need a source."""

    def source(self, key: str) -> str:
        """Where the number at a key such as "dma.latency" comes from. Raises UserError for an unknown key."""
        if key not in (keys := self.number_keys()):
            raise UserError(f"target {self.name} has no number '{key}'{nearest(key, keys)}")
        return source_of(self.sources, key)

    @property
    def assumed(self) -> tuple[str, ...]:
        """Keys of the numbers nobody has published or measured."""
        return tuple(k for k in self.number_keys() if source_of(self.sources, k).startswith(ASSUMED))


def fail(target: Described, key: str, problem: str) -> NoReturn:
    """Refuses a target for what it says at a key."""
    raise TargetError(f"target '{target.name}'", key, problem)


@cache
def _hints(cls: type) -> dict[str, Any]:
    """Annotations of a dataclass, with their ranges."""
    return get_type_hints(cls, include_extras=True)


def check_fields(target: Described, fields: Iterable[tuple[str, object, str]]) -> None:
    """Type and range of fields, as their annotations say; each is a section, what has the field, its name."""
    for section, owner, field in fields:
        if problem := wrong(_hints(type(owner))[field], getattr(owner, field)):
            fail(target, f"{section}.{field}", problem)


def check_name(target: Described):
    """A name must be one word: it stands in C and in file names."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", target.name):
        fail(
            target,
            "target.name",
            f"found {target.name!r}, needed letters, digits, '_', '.' and '-'; rename the target",
        )


def check_sources(target: Described, numbers: Sequence[str]):
    """Every number has a source, and every source a number."""
    for pattern, source in target.sources:
        if not source.strip():
            fail(
                target,
                f"sources.{pattern}",
                'found an empty text; say where the number is from, or "assumed"',
            )
        if not fnmatch.filter(numbers, pattern):
            near = nearest(pattern, numbers)
            fail(
                target,
                f"sources.{pattern}",
                f"found no number that matches{near}; correct the pattern or remove it",
            )
    for key in numbers:
        if not source_of(target.sources, key):
            fail(
                target,
                key,
                f'found no source; add "{key}" = "where the number is from" or "assumed" to [sources]',
            )


class Document:
    """A TOML file on its way to a target; knows on which line a key stands."""

    def __init__(self, path: Path, text: str):
        self.path = path
        self.text = text
        self.tables: dict[str, Any] = tomllib.loads(text)

    def error(self, key: str, problem: str) -> TargetError:
        """An error at a key: with its line, or with that of the nearest key above it the text has."""
        parts = key.split(".")
        lines = (self.line(".".join(parts[:end])) for end in range(len(parts), 0, -1))
        line = next((number for number in lines if number), 0)
        return TargetError(f"{self.path}:{line}" if line else str(self.path), key, problem)

    def line(self, key: str) -> int:
        """The line that sets a key or opens a section; 0 if there is none (an unusual spelling)."""
        section = ""
        for number, line in enumerate(self.text.splitlines(), start=1):
            if header := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
                section = header[1]
                found = section
            elif entry := re.match(r"""\s*(?:"([^"]*)"|'([^']*)'|([\w.-]+))\s*=""", line):
                name = entry[1] or entry[2] or entry[3]
                found = f"{section}.{name}" if section else name
            else:
                continue
            if found == key:
                return number
        return 0

    def known(self, name: str, table: Mapping[str, Any], keys: Sequence[str]):
        """Refuses a key that means nothing here."""
        for key in table:
            if key not in keys:
                near = difflib.get_close_matches(key, keys, n=1)
                advice = f"did you mean '{near[0]}'?" if near else "remove it"
                raise self.error(
                    f"{name}.{key}" if name else key,
                    f"unknown key, needed one of {', '.join(keys)}; {advice}",
                )

    def table(self, name: str) -> dict[str, Any]:
        """A section by its dotted name; empty if the file has none."""
        found: Any = self.tables
        for part in name.split("."):
            found = cast(dict[str, Any], found).get(part, {})
            if not isinstance(found, dict):
                raise self.error(name, f"found {found!r}, needed a section; write [{name}] above its keys")
        return cast(dict[str, Any], found)

    def take(self, name: str, table: Mapping[str, Any], key: str) -> Any:
        """The value of a key that must be there."""
        if key not in table:
            raise self.error(f"{name}.{key}", f"found nothing, needed a value; add `{key} = ...` to [{name}]")
        return table[key]

    def made(
        self, target: Callable[..., T], own_keys: Mapping[str, Sequence[str]], sections: Mapping[str, type]
    ) -> T:
        """The target, or TargetError at the line of the key that is wrong.

        own_keys: the target's own fields, by their section. sections: its dataclasses, by dotted name.
        """
        top = [*own_keys, *(name for name in sections if "." not in name), "sources"]
        self.known("", self.tables, top)
        own: dict[str, Any] = {}
        for name, keys in own_keys.items():
            table = self.table(name)
            within = [s.removeprefix(f"{name}.") for s in sections if s.startswith(f"{name}.")]
            self.known(name, table, (*keys, *within))
            own |= {key: self.take(name, table, key) for key in keys}
        for key in ("name", "family"):
            if not isinstance(own[key], str):
                raise self.error(f"target.{key}", f"found {own[key]!r}, needed a string")
        for name, cls in sections.items():
            own[name.rpartition(".")[2]] = self.section(name, cls)
        try:
            return target(**own, sources=self.sources())
        except TargetError as error:
            raise self.error(error.key, error.problem) from None

    def section(self, name: str, cls: type) -> Any:
        """The dataclass of one section."""
        return cls(**self.fields(name, cls))

    def fields(self, name: str, cls: type, optional: Iterable[str] = ()) -> dict[str, Any]:
        """The fields of one section as the file has them; those that are optional may be missing."""
        table = self.table(name)
        keys = [field.name for field in dataclasses.fields(cls)]
        self.known(name, table, keys)
        left_out = set(optional).difference(table)
        values = {key: self.take(name, table, key) for key in keys if key not in left_out}
        hints = _hints(cls)
        for key, value in values.items():
            # `bytes_per_cycle = 16` may come without a point.
            if type(value) is int and base_type(hints[key]) is float:
                values[key] = float(value)
        return values

    def sources(self) -> tuple[tuple[str, str], ...]:
        """[sources], each a string; a pattern may stand without quotes, which TOML reads as nested tables."""
        pairs: list[tuple[str, str]] = []

        def walk(prefix: str, table: dict[str, Any]):
            for key, value in table.items():
                name = f"{prefix}{key}"
                if isinstance(value, dict):
                    walk(f"{name}.", cast(dict[str, Any], value))
                elif isinstance(value, str):
                    pairs.append((name, value))
                else:
                    raise self.error(f"sources.{name}", f"found {value!r}, needed a string")

        walk("", self.table("sources"))
        return tuple(pairs)
