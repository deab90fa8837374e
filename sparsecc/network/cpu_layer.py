"""A product of a network on a CPU: its kernel, what is done to its inputs first, and the C that runs both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from sparsecc.cpu.arrays import Floats
from sparsecc.cpu.assembly import Epilogue
from sparsecc.cpu.conv import Patches, patches_of
from sparsecc.cpu.tune import Choice
from sparsecc.cpu.variant import Variant
from sparsecc.dialects import cpu
from sparsecc.dialects.host import CallOp
from sparsecc.host.operator import Window
from sparsecc.importers.matrix import Csr
from sparsecc.network.engine import Call
from sparsecc.stages import Stage

# Of a kernel's call.
SCRATCH = "m->threads, m->panels[0], sizeof m->panels[0] / sizeof(float)"


@dataclass(frozen=True, eq=False)
class Unfolded:
    """The patches that a convolution's product reads."""

    window: Window
    rows: tuple[int, ...] | None
    """Which of them; None for all."""
    count: int

    @staticmethod
    def of(op: CallOp) -> Unfolded:
        window, rows, count, _ = (v for v in op.values() if v is None or not hasattr(v, "owner"))
        assert isinstance(window, Window)
        return Unfolded(window, None if rows is None else tuple(cast("list[int]", rows)), cast(int, count))

    def c_arguments(self) -> str:
        """As host_im2col_4 takes them after its arrays."""
        rows = "NULL" if self.rows is None else f"(const int32_t[]){{{', '.join(map(str, self.rows))}}}"
        return f"&(const host_window){{{self.window.text()}}}, {rows}, {self.count}, 0"


@dataclass(frozen=True, eq=False)
class CpuLayer:
    """A product, compiled to a kernel."""

    name: str
    stages: Sequence[Stage]
    product: cpu.SpmmOp
    weight: Csr
    n: int
    choice: Choice
    epilogue: Epilogue
    bias: Floats | None
    unfolded: Unfolded | None
    """Patches that are made first, or found by address."""
    turned: bool
    """X comes as [N, K]."""
    by_address: Variant | None
    """The straight-line code that finds them, where it does."""
    seconds: float | None
    """When it was chosen: of the whole layer."""

    @property
    def variant(self) -> Variant:
        variant = self.product.variant
        if self.turned and variant.kind == "line":
            # It is turned while it is packed.
            variant = replace(variant, pack=True)
        return self.by_address or variant

    @property
    def reason(self) -> str:
        return self.product.reason.data if self.product.reason else ""

    def patches(self, lanes: int) -> Patches:
        assert self.unfolded is not None
        return patches_of(self.unfolded.window, self.unfolded.rows, lanes)


def statement(layer: CpuLayer, found: Call) -> str:
    """The C that runs a layer."""
    n, x, y = layer.n, found.x.text, found.y.text
    residual = found.residual.text if found.residual else "NULL"
    if layer.by_address is not None:
        scratch = SCRATCH.replace("m->threads,", "m->threads, m->patches,")
        return f"RUN(sc_conv_at(&{found.symbol}_conv, {x}, {y}, {residual}, {scratch}));"
    before = ""
    if layer.unfolded is not None:
        before = f"host_im2col_4(m->patches, {x}, {layer.unfolded.c_arguments()});\n    "
        x = "m->patches"
    kind, k = layer.variant.kind, layer.weight.shape[1]
    ldr = n if found.residual else 0
    if layer.turned and kind == "line":
        return f"RUN(sc_line_turned(&{found.symbol}, {x}, {k}, {y}, {n}, {n}, {residual}, {ldr}, {SCRATCH}));"
    if layer.turned:
        walk = f"(const int64_t[]){{2, {k}, {n}, {n}, 1, 1, {k}}}"
        before, x = f"host_copy_4(m->patches, {x}, {walk});\n    ", "m->patches"
    return (
        f"{before}RUN(sc_{kind}_in(&{found.symbol}, {x}, {n}, {y}, {n}, {n}, {residual}, {ldr}, {SCRATCH}));"
    )
