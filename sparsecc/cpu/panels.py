"""Products on arrays in panels, the layout in which activations pass from layer to layer inside a network.

A panel is 16 positions of all rows: [panels, rows, 16]. Its vectors are aligned and stand together, unlike
those of strided rows. Positions beyond the last are 0 in the last panel.
"""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Callable
from ctypes import Structure, c_int, c_size_t, c_void_p
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.cpu.array_call import FLOAT, HEAD, ArrayCallStruct, KernelStruct, arrays_are_known
from sparsecc.cpu.arrays import Floats, aligned
from sparsecc.cpu.assembly import PLAIN, Epilogue
from sparsecc.cpu.build import digest, keep_measured, own_version, read_measured
from sparsecc.cpu.native import Kernel, address
from sparsecc.cpu.tune import build, in_turns, line_variants, runtime
from sparsecc.cpu.variant import Variant
from sparsecc.errors import UserError
from sparsecc.importers.matrix import Csr
from sparsecc.target.cpu import CpuTarget

Array = NDArray[Any]

PANEL = 16  # SC_PANEL


class PanelsStruct(Structure):
    _fields_ = [("x", c_void_p), ("y", c_void_p), ("panels", c_size_t), ("residual", c_void_p)]


def panels_of(n: int) -> int:
    """Panels that hold n positions."""
    return -(-n // PANEL)


def pack(x: Array, out: Array | None = None) -> Array:
    """x [rows, N] of any strides as panels [ceil(N / 16), rows, 16] of float32, in `out` if given."""
    if x.ndim != 2:
        raise UserError(f"x has shape {list(x.shape)}; needed [rows, N]")
    rows, n = x.shape
    shape = panels_of(n), rows, PANEL
    if out is None:
        out = aligned(shape)
    else:
        _check(out, "out", rows, shape[0], written=True)
        if n % PANEL:
            out[-1, :, n % PANEL :] = 0
    full = n // PANEL
    out[:full] = x[:, : full * PANEL].reshape(rows, full, PANEL).transpose(1, 0, 2)
    if full < shape[0]:
        out[full, :, : n - full * PANEL] = x[:, full * PANEL :]
    return out


def unpack(panels: Array, n: int) -> Array:
    """The first n positions of panels [panels, rows, 16] as rows [rows, n]."""
    if panels.ndim != 3 or panels.shape[2] != PANEL:
        raise UserError(f"panels have shape {list(panels.shape)}; needed [panels, rows, {PANEL}]")
    count, rows, _ = panels.shape
    if not 0 <= n <= count * PANEL:
        raise UserError(f"n is {n}; the {count} panels hold 0 to {count * PANEL} positions")
    out = aligned((rows, n)) if n else np.empty((rows, 0), np.float32)
    full = n // PANEL
    for p in range(full):
        out[:, p * PANEL : (p + 1) * PANEL] = panels[p]
    if n % PANEL:
        out[:, full * PANEL :] = panels[full, :, : n % PANEL]
    return out


def _check(array: Array, what: str, rows: int, count: int | None, written: bool = False) -> None:
    """Raises UserError for an array that is not made of contiguous panels of float32."""
    needed = f"[{'panels' if count is None else count}, {rows}, {PANEL}]"
    if not isinstance(array, np.ndarray):  # pyright: ignore[reportUnnecessaryIsInstance]  # users may not check
        raise UserError(f"{what} is a {type(array).__name__}; needed a numpy array {needed} of float32")
    if array.dtype != np.float32:
        raise UserError(f"{what} has element type {array.dtype}; needed float32")
    shape = array.shape
    if array.ndim != 3 or shape[1:] != (rows, PANEL) or (count is not None and shape[0] != count):
        raise UserError(f"{what} has shape {list(shape)}; needed {needed}: see pack")
    if not array.flags.c_contiguous:
        raise UserError(f"{what} has strides {list(array.strides)} bytes; needed panels one after the other")
    if written and not array.flags.writeable:
        raise UserError(f"{what} may not be written; give an array of your own")


def checked_panels(
    x: Array, out: Array | None, residual: Array | None, shape: tuple[int, int], threads: int
) -> Array:
    """`out`, or new panels for the result of a product of this shape [M, K]. Raises UserError."""
    m, k = shape
    _check(x, "x", k, None)
    if out is None:
        out = aligned((len(x), m, PANEL)) if len(x) else np.empty((0, m, PANEL), np.float32)
    else:
        _check(out, "out", m, len(x), written=True)
    if np.may_share_memory(x, out):  # exact: both are contiguous
        raise UserError("out shares memory with x, which would change while it is read; give another")
    if residual is not None:
        _check(residual, "residual", m, len(x))
        if residual is not out and np.may_share_memory(residual, out) and address(residual) != address(out):
            raise UserError("out shares memory with residual but is not the same; give another")
    if threads < 1:
        raise UserError(f"threads is {threads}; needed at least 1")
    return out


@dataclass(eq=False)
class PanelKernel:
    """A kernel, called on panels."""

    kernel: Kernel
    variant: Variant
    run: Any
    fast: Any
    """As `call`, on the addresses of numpy's objects, where C knows them; else None."""

    def call(self, x: Array, y: Array, residual: Array | None, threads: int) -> None:
        struct = _struct(x, y, residual)
        if self.run(self.kernel.where, ctypes.addressof(struct), threads) != 0:
            raise MemoryError("no memory for scratch panels")

    def bound(self, x: Array, y: Array, residual: Array | None, threads: int) -> Callable[[], int]:
        """The call as a function without arguments, which returns a status."""
        struct = _struct(x, y, residual)
        places = c_void_p(self.kernel.where), c_void_p(ctypes.addressof(struct)), c_int(threads)
        run = partial(self.run, *places)
        run.__dict__["kept"] = self, struct
        return run

    def seconds(self, x: Array, y: Array, residual: Array | None, threads: int, budget: float) -> float:
        """Of the fastest of the runs that fit the budget of seconds."""
        struct, run = _struct(x, y, residual), ctypes.cast(self.run, c_void_p)
        return float(self.kernel.time(run, self.kernel.where, ctypes.addressof(struct), threads, budget))


def _struct(x: Array, y: Array, residual: Array | None) -> PanelsStruct:
    return PanelsStruct(
        address(x), address(y), x.shape[0], address(residual) if residual is not None else None
    )


def panel_kernel(
    w: Csr, target: CpuTarget, variant: Variant, epilogue: Epilogue = PLAIN, bias: Floats | None = None
) -> PanelKernel:
    """A variant (not "vector") for panels. Raises UserError where it cannot be built."""
    run = getattr(runtime(target), f"sc_{variant.kind}_panels")
    run.argtypes, run.restype = [c_void_p, c_void_p, c_int], c_int
    kernel = build(w, target, variant, epilogue, bias)
    fast = None
    if arrays_are_known() and not epilogue.residual:
        usual = KernelStruct(ctypes.cast(run, c_void_p), kernel.where), KernelStruct(), KernelStruct()
        types = id(np.ndarray), id(FLOAT), id(FLOAT), HEAD
        struct = ArrayCallStruct(*types, *w.shape, 4, 4, 0, 0, *usual)
        entry = runtime(target).sc_array_panels
        entry.argtypes, entry.restype = [c_void_p, c_void_p, c_void_p, c_int], c_int
        fast = partial(entry, ctypes.addressof(struct))
        kernel.kept.append(struct)
    return PanelKernel(kernel, variant, run, fast)


def choose_panels(
    w: Csr, target: CpuTarget, count: int, epilogue: Epilogue = PLAIN, bias: Floats | None = None
) -> PanelKernel:
    """The fastest kernel for so many panels, measured here, or found where it was kept."""
    key = "panels-" + digest(
        own_version(), target, w.shape, w.indptr.tobytes(), w.indices.tobytes(), count, epilogue
    )
    kept = read_measured(key)
    try:
        if kept:
            return panel_kernel(w, target, Variant.of(kept["kind"], kept["parameters"]), epilogue, bias)
    except (KeyError, TypeError, ValueError):
        pass  # not a record of ours: measured again
    m, k = w.shape
    candidates = {dataclasses.replace(v, pack=False) for v in line_variants(w, target, count * PANEL)}
    candidates |= {Variant("csr"), Variant("dense")}
    x, y = aligned((count, k, PANEL)), aligned((count, m, PANEL))
    x[:] = np.random.default_rng(0).standard_normal(x.shape, np.float32)
    residual = np.ones_like(y) if epilogue.residual else None
    kernels = [panel_kernel(w, target, v, epilogue, bias) for v in sorted(candidates, key=str)]
    timers = {kernel: partial(kernel.seconds, x, y, residual, 1) for kernel in kernels}
    seconds, finalists = in_turns(timers, 3)
    best = min(finalists, key=lambda each: seconds[each])
    keep_measured(key, {"kind": best.variant.kind, "parameters": best.variant.parameters()})
    return best
