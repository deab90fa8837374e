"""Patches that a convolution's product reads, on tensor units: written by the host, or found by address."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from sparsecc.dialects.host import CallOp
from sparsecc.host.operator import ELEMENT_BYTES, Window
from sparsecc.host.ops import OPERATORS
from sparsecc.network.host_cost import HostWork, work_from
from sparsecc.schedule.strips import Image, image_of


@dataclass(frozen=True)
class Unfolding:
    """What a call of host_im2col writes."""

    operator: str
    window: Window
    rows: tuple[int, ...] | None
    """Which rows of patches; None for all."""
    count: int
    fill: int
    """The bits of the padding."""

    @staticmethod
    def of(op: CallOp) -> Unfolding:
        window, rows, count, fill = (v for v in op.values() if v is None or not hasattr(v, "owner"))
        assert isinstance(window, Window)
        used = None if rows is None else tuple(cast("list[int]", rows))
        return Unfolding(op.operator.data, window, used, cast(int, count), cast(int, fill))

    @property
    def elements(self) -> int:
        """That are written."""
        w = self.window
        return self.count * w.out_height * w.out_width * w.inner

    @property
    def bytes(self) -> int:
        return self.elements * ELEMENT_BYTES[f"any{self.operator.rpartition('_')[2]}"]

    @property
    def work(self) -> HostWork:
        """Of the host."""
        rows = None if self.rows is None else list(self.rows)
        return work_from(OPERATORS[self.operator].cost(None, None, self.window, rows, self.count, self.fill))

    def statement(self, to: str, x: str) -> str:
        """In C."""
        rows = None if self.rows is None else list(self.rows)
        return OPERATORS[self.operator].call(
            y=to, x=x, window=self.window, rows=rows, count=self.count, fill=self.fill
        )

    @property
    def image(self) -> Image:
        """Where the patches lie, if they are not written."""
        return image_of(self.window, self.rows)

    def of_image(self) -> Unfolding | None:
        """What writes that image; None where x is it."""
        image = self.image
        if image.window is None:
            return None
        return replace(self, window=image.window, rows=image.rows, count=len(image.rows))
