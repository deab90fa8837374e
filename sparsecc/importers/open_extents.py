"""Extents that a network leaves open, and what the caller said they are."""

from __future__ import annotations

from collections.abc import Mapping

from sparsecc.errors import UserError
from sparsecc.importers.files import fault, name_list


class OpenExtents:
    """The extents given for one network. Raises UserError for those that are none."""

    def __init__(self, batch: int | None, dims: Mapping[str, int] | None):
        self.batch, self.dims = batch, dict(dims or {})
        self._used: set[str] = set()
        self._open: dict[str, int] = {}
        for name, extent in (("batch", batch), *self.dims.items()):
            if extent is not None and extent < 1:
                raise UserError(f"{name} is {extent}; an extent is 1 or more", exit_code=2)

    def of(self, where: str, axis: int, place: str, name: str = "") -> int:
        """What an open axis is, the same wherever it has one name. Raises UserError.

        place: INPUT[AXIS]; name: what the network calls it.
        """
        shown = name or place
        for known in (place, name):
            if known in self.dims:
                self._used.add(known)
                return self._open.setdefault(shown, self.dims[known])
        if shown in self._open:
            return self._open[shown]
        if axis == 0 and self.batch is not None:
            return self._open.setdefault(shown, self.batch)
        give = f"--dim {shown}=N (in Python dims={{{shown!r}: N}})"
        raise fault(
            where, f"the dynamic dimension {shown!r}", "every extent must be known",
            "give its size: " + (f"--batch N (in Python batch=N), or {give}" if axis == 0 else give),
        )  # fmt: skip

    def check_used(self, source: str) -> None:
        """Raises UserError for a name that was given, and that no open dimension has."""
        if unknown := [name for name in self.dims if name not in self._used]:
            found = name_list(list(self._open)) if self._open else "none"
            raise UserError(
                f"{source}: dimension {unknown[0]!r} was given; the model leaves open: {found}", exit_code=2
            )
