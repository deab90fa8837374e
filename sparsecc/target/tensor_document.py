"""Reads a target with a tensor unit from its TOML file."""

from __future__ import annotations

from typing import Any, cast

from sparsecc.target.document import Document
from sparsecc.target.sections import (
    KIND_KEYS,
    OPTIONAL_KEYS,
    OPTIONAL_SECTIONS,
    OWN_KEYS,
    SECTIONS,
    Array,
    Energy,
)
from sparsecc.target.target import Target


class TensorDocument(Document):
    """A TOML file on its way to a Target of tensor units."""

    def target(self) -> Target:
        """The target, or TargetError at the line of the key that is wrong."""
        return self.made(Target, OWN_KEYS, SECTIONS)

    def section(self, name: str, cls: type) -> Any:
        """The dataclass of one section; None for an optional section that is not there."""
        above, _, key = name.rpartition(".")
        if name in OPTIONAL_SECTIONS and key not in (self.table(above) if above else self.tables):
            return None
        optional: set[str] = set(OPTIONAL_KEYS)
        if name == "array":
            kind = self.take(name, self.table(name), "kind")
            for other, theirs in KIND_KEYS.items():
                if other != kind:
                    optional.update(theirs)
        values = self.fields(name, cls, optional)
        if cls is Array:
            values["types"] = self._types(values["types"])
            values.setdefault("in_type", values["types"][0][0] if values["types"] else "")
        if cls is Energy:
            values["mac_pj"] = self._pairs("energy.mac_pj", values["mac_pj"], "{ i8 = 0.2 }")
        return cls(**values)

    def _types(self, value: Any) -> tuple[tuple[str, str], ...]:
        """array.types: a list of "input:accumulator"."""
        pairs: list[tuple[str, str]] = []
        for item in cast(list[Any], value) if isinstance(value, list) else [value]:
            parts = item.split(":") if isinstance(item, str) and isinstance(value, list) else ()
            if len(parts) != 2:
                raise self.error("array.types", f'found {item!r}, needed a list of pairs such as ["i8:i32"]')
            pairs.append((parts[0], parts[1]))
        return tuple(pairs)

    def _pairs(self, key: str, value: Any, example: str) -> tuple[tuple[str, Any], ...]:
        """A table of names as pairs; whole numbers become floats."""
        if not isinstance(value, dict):
            raise self.error(key, f"found {value!r}, needed a table such as {example}")
        items = cast(dict[str, Any], value).items()
        return tuple((name, float(item) if type(item) is int else item) for name, item in items)
