"""A product with a constant sparse matrix of a narrow type, called in place on numpy arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.cpu.array_call import ArrayCall, arrays_are_known
from sparsecc.cpu.arrays import aligned
from sparsecc.cpu.narrow import narrow_kernel, with_input
from sparsecc.cpu.narrow_tune import element_of, plain
from sparsecc.cpu.native import Kernel, address
from sparsecc.cpu.tune import FEW, Choice, runtime
from sparsecc.cpu.variant import Variant
from sparsecc.cpu.words import STORED
from sparsecc.epilogue import Epilogue
from sparsecc.errors import UserError
from sparsecc.importers.matrix import Csr
from sparsecc.target.cpu import CpuTarget

Array = NDArray[Any]

NAMES = {"i8": "int8", "ui8": "uint8", "i32": "int32", "f32": "float32", "f16": "float16"}
NAMES["bf16"] = "uint16 (the bits of bf16)"


@dataclass(eq=False)
class NarrowSpmm:
    """y = f(W x) for x [K, N] of int8, bf16 or f16 and any N; f as the epilogue says.

    Sums are int32, which wrap, or float32. bf16 comes and goes as its bits in uint16, or in a type of numpy
    that is called bfloat16; f32 instead of bf16 or f16 is rounded to it on its way.
    """

    w: Csr
    target: CpuTarget
    """With the type in use."""
    choice: Choice
    epilogue: Epilogue = field(init=False)
    given: Epilogue | None = None

    def __post_init__(self):
        self.target.check_runs_here()
        self.epilogue = self.given or plain(self.target)

    @property
    def variant(self) -> Variant:
        return self.choice.variant

    @cached_property
    def kernel(self) -> Kernel:
        """The kernel that was chosen."""
        return self.built(self.variant)

    @cached_property
    def _few(self) -> int:
        """Positions up to which they are computed one by one."""
        return FEW if self.variant.kind == "vector" else 1

    @cached_property
    def _other(self) -> Kernel:
        """For one position where the chosen kernel is made for several, or for more than a few."""
        return self.built(Variant("csr" if self.variant.kind == "vector" else "vector"))

    @cached_property
    def _rounding(self) -> dict[int, Kernel]:
        return {}

    @cached_property
    def array_call(self) -> ArrayCall | None:
        """The short way for usual arrays in the type; None where there is none."""
        if not arrays_are_known() or self.epilogue.residual:
            return None
        kind, types = self.variant.kind, (STORED[self.target.in_type], STORED[self.epilogue.element])
        several = None if kind == "vector" else self.kernel
        single = self.kernel if kind in ("vector", "dense") else None
        return ArrayCall(
            runtime(self.target), self.w.shape, 0, several, several, single, *types, few=self._few
        )

    def built(self, variant: Variant) -> Kernel:
        """Another variant of the same product."""
        element = element_of(self.target)
        return narrow_kernel(runtime(self.target), self.w, self.target, variant, element, self.epilogue)

    def __call__(
        self, x: Array, out: Array | None = None, threads: int = 1, residual: Array | None = None
    ) -> Array:
        """f(W x), [M, N], or [M] for x [K]; in `out` where it is given. residual: float32 [M, N].

        Raises UserError for other types, shapes and strides, for an out that shares memory with x, and for
        a residual where none was compiled, or the other way round.
        """
        if residual is None and out is not None and (fast := self.array_call) is not None:
            status = fast.run(fast.where, id(x), id(out), threads)
            if status == 0:
                return out
            if status < 0:
                raise MemoryError("no memory for scratch panels")
        return self.checked_call(x, out, threads, residual)

    def checked_call(self, x: Array, out: Array | None, threads: int, residual: Array | None) -> Array:
        """The call for all other arrays, and for those that are refused."""
        if getattr(x, "ndim", 2) == 1:
            y = self(x[:, None], out[:, None] if out is not None else None, threads, residual)
            return out if out is not None else y[:, 0]
        m, k = self.w.shape
        element = element_of(self.target)
        allowed = (element,) if element == "i8" else (element, "f32")
        x_at, ldx = _place(x, "x", k, None, *allowed)
        n = x.shape[1]
        if out is None:
            out = aligned((m, n), STORED[self.epilogue.element])
        elif not out.flags.writeable:
            raise UserError("out may not be written; give an array of your own")
        y_at, ldy = _place(out, "out", m, n, self.epilogue.element)
        if np.may_share_memory(x, out) and np.shares_memory(x, out):
            raise UserError("out shares memory with x, which would change while it is read; give another")
        if threads < 1:
            raise UserError(f"threads is {threads}; needed at least 1")
        if (residual is not None) != self.epilogue.residual:
            there = "found one" if residual is not None else "found none"
            compiled = "with" if self.epilogue.residual else "without"
            raise UserError(f"residual: {there}, but the operator was compiled {compiled} one")
        r_at, ldr = _place(residual, "residual", m, n, "f32") if residual is not None else (None, 0)
        if residual is not None and np.may_share_memory(residual, out) and np.shares_memory(residual, out):
            raise UserError("out shares memory with residual; give another")
        if not n:
            return out
        kind = self.variant.kind
        own = kind == "dense" or (n <= self._few) == (kind == "vector")
        kernel = self.kernel if own else self._other
        if x.dtype == np.float32:
            kernel = self._rounding.setdefault(id(kernel), with_input(kernel, element, "f32"))
        if kernel.at(kernel.where, x_at, ldx, y_at, ldy, n, r_at, ldr, threads) != 0:
            raise MemoryError("no memory for scratch panels")
        return out


def _place(array: Array, what: str, rows: int, n: int | None, *elements: str) -> tuple[int, int]:
    """Address and elements from row to row of an array with contiguous rows. Raises UserError."""
    needed = " or ".join(NAMES[element] for element in elements)
    extents = f"[{rows}, {'N' if n is None else n}]"
    if not isinstance(array, np.ndarray):  # pyright: ignore[reportUnnecessaryIsInstance]  # users may not check
        raise UserError(f"{what} is a {type(array).__name__}; needed a numpy array {extents} of {needed}")
    kind = array.dtype
    right = kind in [STORED[element] for element in elements]
    if not right and not ("bf16" in elements and kind.name == "bfloat16"):
        raise UserError(
            f"{what} has element type {kind}; needed {needed}: convert it once, outside of what is timed"
        )
    if array.ndim != 2 or array.shape[0] != rows or (n is not None and array.shape[1] != n):
        raise UserError(f"{what} has shape {list(array.shape)}; needed {extents}")
    size, (by_row, by_column), width = array.itemsize, array.strides, array.shape[1]
    apart = by_row >= size * width and by_row % size == 0
    if (by_column != size and width > 1) or not (apart or rows == 1):
        raise UserError(
            f"{what} has strides {list(array.strides)} bytes; needed rows of contiguous elements, one after "
            "the other: copy it with numpy.ascontiguousarray"
        )
    return address(array), max(by_row // size, width)
