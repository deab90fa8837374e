"""A product with a constant sparse matrix, called in place on numpy arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.cpu.array_call import ArrayCall, arrays_are_known
from sparsecc.cpu.arrays import Floats, aligned
from sparsecc.cpu.assembly import PLAIN, Epilogue
from sparsecc.cpu.line import with_schedule
from sparsecc.cpu.native import CallStruct, Kernel, address
from sparsecc.cpu.panels import PanelKernel, checked_panels, choose_panels
from sparsecc.cpu.tune import FEW, Choice, build, of_one_position, runtime
from sparsecc.cpu.variant import Variant
from sparsecc.errors import UserError
from sparsecc.importers.matrix import Csr
from sparsecc.target.cpu import CpuTarget

Array = NDArray[Any]

# Straight-line code of more lanes, chosen for more than 8 positions, leaves most of them empty with so few.
LANES_OF_FEW, FEW_BY_RULE = 8, 3

FLOAT = np.dtype(np.float32)


def _place(array: Array, what: str, rows: int, n: int | None) -> tuple[int, int]:
    """Address and elements from row to row of a float32 array with contiguous rows. Raises UserError."""
    # Calls may take less than ten microseconds: what is usual is found out first.
    if not isinstance(array, np.ndarray):  # pyright: ignore[reportUnnecessaryIsInstance]  # users may not check
        raise UserError(
            f"{what} is a {type(array).__name__}; needed a numpy array {_extents(rows, n)} of float32"
        )
    if array.dtype != FLOAT:
        raise UserError(
            f"{what} has element type {array.dtype}; needed float32: convert it with astype, once, outside "
            "of the time that counts"
        )
    shape, strides = array.shape, array.strides
    if len(shape) != 2 or shape[0] != rows or (n is not None and shape[1] != n):
        raise UserError(f"{what} has shape {list(shape)}; needed {_extents(rows, n)}")
    by_row, width = strides[0], shape[1]
    apart = by_row >= 4 * width and by_row % 4 == 0
    if (strides[1] != 4 and width > 1) or not (apart or rows == 1):
        raise UserError(
            f"{what} has strides {list(strides)} bytes; needed rows of contiguous float32, one after the "
            "other: copy it with numpy.ascontiguousarray"
        )
    return address(array), max(by_row // 4, width)


def _column(residual: Array | None) -> Array | None:
    """A residual [M] as [M, 1]."""
    return residual[:, None] if residual is not None and residual.ndim == 1 else residual


def _extents(rows: int, n: int | None) -> str:
    return f"[{rows}, {'N' if n is None else n}]"


def _meet(a: int, a_bytes: int, b: int, b_bytes: int) -> bool:
    """Whether two stretches of memory overlap; then arrays in them may."""
    return a < b + b_bytes and b < a + a_bytes


@dataclass(eq=False)
class CpuSpmm:
    """y = f(W x + bias + residual) for x [K, N] of float32, any N."""

    w: Csr
    target: CpuTarget
    choice: Choice
    epilogue: Epilogue = PLAIN
    bias: Floats | None = None
    """[M], where the epilogue says so."""

    def __post_init__(self):
        self.target.check_runs_here()
        assert self.epilogue.bias == (self.bias is not None)

    @property
    def variant(self) -> Variant:
        return self.choice.variant

    @cached_property
    def kernel(self) -> Kernel:
        """The kernel that was chosen."""
        return build(self.w, self.target, self.variant, self.epilogue, self.bias)

    @cached_property
    def _packing(self) -> Kernel:
        """The same with X copied to panels: for rows of X that are not aligned, whose loads cost twice."""
        if self.variant.kind != "line" or self.variant.pack:
            return self.kernel
        return with_schedule(self.kernel, self.variant.panels, self.variant.batch, True)

    @cached_property
    def _few(self) -> int:
        """Positions up to which they are computed one by one."""
        if self.variant.kind == "vector":
            return FEW
        return FEW_BY_RULE if self.variant.lanes > LANES_OF_FEW else 1

    @cached_property
    def _vector(self) -> Kernel:
        """For few positions, also where the chosen kernel is made for more."""
        if self.variant.kind == "vector":
            return self.kernel
        # From now on the short way has it, too.
        self.__dict__.pop("array_call", None)
        return build(self.w, self.target, of_one_position(self.w, self.target), self.epilogue, self.bias)

    @cached_property
    def _rows(self) -> Kernel:
        """For more positions, where the chosen kernel is made for one."""
        return build(self.w, self.target, Variant("csr"), self.epilogue, self.bias)

    @cached_property
    def _dense(self) -> Floats:
        dense = aligned(self.w.shape)
        dense[np.repeat(np.arange(self.w.shape[0]), np.diff(self.w.indptr)), self.w.indices] = self.w.data
        return dense

    def __call__(
        self,
        x: Array,
        out: Array | None = None,
        threads: int = 1,
        residual: Array | None = None,
    ) -> Array:
        """f(W x + bias + residual), [M, N], or [M] for x [K]; in `out` where it is given.

        x [panels, K, 16] and out, residual [panels, M, 16] are panels: see `sparsecc.cpu.panels`.

        Nothing is copied, but for panels that are part of the computation; rows of x, out and residual may
        lie apart and anywhere. Raises UserError for other types, shapes and strides, for an out that shares
        memory with x, and for a residual where none was compiled, or the other way round.
        """
        if residual is None and out is not None and (fast := self.array_call) is not None:
            status = fast.run(fast.where, id(x), id(out), threads)
            if status == 0:
                return out
            if status < 0:
                raise MemoryError("no memory for scratch panels")
        return self.checked_call(x, out, threads, residual)

    @cached_property
    def array_call(self) -> ArrayCall | None:
        """The short way for usual arrays; None where there is none."""
        kind = self.variant.kind
        blas = kind == "dense" and self.choice.dense_library == "blas"
        if not arrays_are_known() or self.epilogue.residual or blas:
            return None
        # Kernels that were not chosen are only built when they are needed, on the other way.
        several = None if kind == "vector" else self.kernel
        packing = None if kind == "vector" else self._packing
        single = self.kernel if kind in ("vector", "dense") else self.__dict__.get("_vector")
        return ArrayCall(
            runtime(self.target), self.w.shape, self._alignment, several, packing, single, few=self._few
        )

    def checked_call(self, x: Array, out: Array | None, threads: int, residual: Array | None) -> Array:
        """The call for all other arrays, and for those that are refused."""
        if getattr(x, "ndim", 2) == 3:
            return self._on_panels(x, out, threads, residual)
        if getattr(x, "ndim", 2) == 1:
            y = self(x[:, None], out[:, None] if out is not None else None, threads, _column(residual))
            return out if out is not None else y[:, 0]
        out, kernel, call = self._checked(x, out, threads, residual)
        if kernel is not None:
            kernel(call, threads)
        elif call.n:
            np.matmul(self._dense, x, out=out)
        return out

    def _checked(
        self, x: Array, out: Array | None, threads: int, residual: Array | None
    ) -> tuple[Array, Kernel | None, CallStruct]:
        """Where the result of a call on rows goes, and its kernel; None: BLAS, or nothing to do."""
        m, k = self.w.shape
        x_at, ldx = _place(x, "x", k, None)
        n = x.shape[1]
        if out is None:
            out = aligned((m, n)) if n else np.empty((m, 0), np.float32)
        elif not out.flags.writeable:
            raise UserError("out may not be written; give an array of your own")
        y_at, ldy = _place(out, "out", m, n)
        if _meet(x_at, 4 * ((k - 1) * ldx + n), y_at, 4 * ((m - 1) * ldy + n)) and np.shares_memory(x, out):
            raise UserError("out shares memory with x, which would change while it is read; give another")
        if threads < 1:
            raise UserError(f"threads is {threads}; needed at least 1")
        r_at, ldr = self._residual_at(residual, out, n)
        call = CallStruct(x_at, ldx, y_at, ldy, n, r_at, ldr)
        kind = self.variant.kind
        blas = kind == "dense" and self.choice.dense_library == "blas"
        if not n or (blas and self.epilogue == PLAIN and threads == 1):
            return out, None, call
        if kind == "dense":
            return out, self.kernel, call
        if n <= self._few:
            return out, self._vector, call
        if kind == "vector":
            return out, self._rows, call
        unaligned = (x_at | 4 * ldx) & self._alignment
        return out, self._packing if unaligned else self.kernel, call

    def bind(
        self, x: Array, out: Array, threads: int = 1, residual: Array | None = None
    ) -> Callable[[], Array]:
        """The call on these arrays as a function without arguments, which reads x anew each time.

        What a call checks and looks up is done once: of small products it takes longer than they do. Raises
        UserError as a call does.
        """
        if getattr(x, "ndim", 2) == 1:
            whole = self.bind(x[:, None], out[:, None], threads, _column(residual))

            def single() -> Array:
                whole()
                return out

            return single
        if getattr(x, "ndim", 2) == 3:
            self._on_panels(x, out, threads, residual)
            run = self._panel_kernels[len(x)].bound(x, out, residual, threads) if len(x) else None
        else:
            _, kernel, call = self._checked(x, out, threads, residual)
            if kernel is None and call.n:
                return partial(np.matmul, self._dense, x, out=out)
            run = kernel.bound(call, threads) if kernel is not None else None

        def again() -> Array:
            if run is not None and run() != 0:
                raise MemoryError("no memory for scratch panels")
            return out

        again.__dict__["kept"] = x, out, residual
        return again

    def _on_panels(self, x: Array, out: Array | None, threads: int, residual: Array | None) -> Array:
        if out is not None and residual is None and (known := self._panel_kernels.get(len(x))) and known.fast:
            status = known.fast(id(x), id(out), threads)
            if status == 0:
                return out
            if status < 0:
                raise MemoryError("no memory for scratch panels")
        m, k = self.w.shape
        if (residual is not None) != self.epilogue.residual:
            self._residual_at(residual, x, 0)  # says what is wrong
        out = checked_panels(x, out, residual, (m, k), threads)
        if len(x):
            if len(x) not in self._panel_kernels:
                self._panel_kernels[len(x)] = choose_panels(
                    self.w, self.target, len(x), self.epilogue, self.bias
                )
            self._panel_kernels[len(x)].call(x, out, residual, threads)
        return out

    @cached_property
    def _panel_kernels(self) -> dict[int, PanelKernel]:
        """For so many panels: made at the first call with them."""
        return {}

    @cached_property
    def _alignment(self) -> int:
        """Bits of an address that are 0 where vectors of the code are aligned."""
        return 4 * max(1, self.variant.lanes) - 1

    def _residual_at(self, residual: Array | None, out: Array, n: int) -> tuple[int | None, int]:
        """Where the residual lies. Raises UserError where there should be none, or it is in the way."""
        if (residual is not None) != self.epilogue.residual:
            there = "found one" if residual is not None else "found none"
            compiled = "with" if self.epilogue.residual else "without"
            raise UserError(f"residual: {there}, but the operator was compiled {compiled} one")
        if residual is None:
            return None, 0
        if residual is not out and np.may_share_memory(residual, out) and np.shares_memory(residual, out):
            raise UserError("out shares memory with residual but is not the same; give another")
        return _place(residual, "residual", self.w.shape[0], n)
