"""Reads a target with memristor crossbars from its TOML file."""

from __future__ import annotations

from typing import Any, cast

from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.crossbar_sections import OPTIONAL_KEYS, OWN_KEYS, SECTIONS, TIMING_KEYS, Array
from sparsecc.target.document import Document


class CrossbarDocument(Document):
    """A TOML file on its way to a CrossbarTarget."""

    def target(self) -> CrossbarTarget:
        """The target, or TargetError at the line of the key that is wrong."""
        return self.made(CrossbarTarget, OWN_KEYS, SECTIONS)

    def section(self, name: str, cls: type) -> Any:
        """The dataclass of one section."""
        optional: set[str] = set(OPTIONAL_KEYS)
        if name == "pipeline":
            timing = self.take(name, self.table(name), "timing")
            for other, theirs in TIMING_KEYS.items():
                if other != timing:
                    optional.update(theirs)
        values = self.fields(name, cls, optional)
        if cls is Array:
            values.setdefault("digitised", "together")
            usual = ((values["rows"], values["cols"]),)
            values["shapes"] = self._shapes(values["shapes"]) if "shapes" in values else usual
        return cls(**values)

    def _shapes(self, value: Any) -> tuple[tuple[int, int], ...]:
        """array.shapes: a list of rows and columns."""
        shapes: list[tuple[int, int]] = []
        for item in cast(list[Any], value) if isinstance(value, list) else [value]:
            pair = cast(list[Any], item) if isinstance(item, list) else []
            if len(pair) != 2 or not all(type(number) is int for number in pair):
                raise self.error(
                    "array.shapes", f"found {item!r}, needed a list of rows and columns such as [[128, 128]]"
                )
            shapes.append((pair[0], pair[1]))
        return tuple(shapes)
