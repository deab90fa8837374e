"""A product with a constant sparse matrix, called in place on numpy arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sparsecc.cpu.arrays import Floats, aligned
from sparsecc.cpu.assembly import PLAIN, Epilogue
from sparsecc.cpu.line import with_schedule
from sparsecc.cpu.native import Kernel, call_struct
from sparsecc.cpu.tune import Choice, build
from sparsecc.cpu.variant import Variant
from sparsecc.errors import UserError
from sparsecc.importers.matrix import Csr
from sparsecc.target.cpu import CpuTarget

Array = NDArray[Any]


def _checked(array: object, what: str, shape: tuple[int, int | None]) -> Array:
    """A float32 array with contiguous rows, as the kernels take it. Raises UserError."""
    extents = f"[{shape[0]}, {shape[1] or 'N'}]"
    if not isinstance(array, np.ndarray):
        raise UserError(f"{what} is a {type(array).__name__}; needed a numpy array {extents} of float32")
    found = cast(Array, array)
    if found.dtype != np.float32:
        raise UserError(
            f"{what} has element type {found.dtype}; needed float32: convert it with astype, once, outside "
            "of the time that counts"
        )
    if found.ndim != 2 or found.shape[0] != shape[0] or (shape[1] is not None and found.shape[1] != shape[1]):
        raise UserError(f"{what} has shape {list(found.shape)}; needed {extents}")
    by_row, by_column = found.strides
    apart = by_row >= 4 * found.shape[1] and by_row % 4 == 0
    if (found.shape[1] > 1 and by_column != 4) or (found.shape[0] > 1 and not apart):
        raise UserError(
            f"{what} has strides {list(found.strides)} bytes; needed rows of contiguous float32, one "
            "after the other: copy it with numpy.ascontiguousarray"
        )
    return found


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
    def _vector(self) -> Kernel:
        """For one position, where the chosen kernel is made for more."""
        if self.variant.kind == "vector":
            return self.kernel
        return build(self.w, self.target, Variant("vector"), self.epilogue, self.bias)

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

        Nothing is copied, but for panels that are part of the computation; rows of x, out and residual may
        lie apart and anywhere. Raises UserError for other types, shapes and strides, for an out that shares
        memory with x, and for a residual where none was compiled, or the other way round.
        """
        if np.ndim(x) == 1 and hasattr(x, "strides"):
            y = self(x[:, None], out[:, None] if out is not None else None, threads, residual)
            return out if out is not None else y[:, 0]
        m, k = self.w.shape
        x = _checked(x, "x", (k, None))
        n = x.shape[1]
        if out is None:
            out = aligned((m, n)) if n else np.empty((m, 0), np.float32)
        else:
            _checked(out, "out", (m, n))
            if not out.flags.writeable:
                raise UserError("out may not be written; give an array of your own")
            if np.may_share_memory(x, out) and np.shares_memory(x, out):
                raise UserError("out shares memory with x, which would change while it is read; give another")
        if (residual is not None) != self.epilogue.residual:
            there = "found one" if residual is not None else "found none"
            raise UserError(
                f"residual: {there}, but the operator was compiled "
                f"{'with' if self.epilogue.residual else 'without'} one"
            )
        if residual is not None:
            _checked(residual, "residual", (m, n))
            if residual is not out and np.may_share_memory(residual, out) and np.shares_memory(residual, out):
                raise UserError("out shares memory with residual but is not the same; give another")
        if threads < 1:
            raise UserError(f"threads is {threads}; needed at least 1")
        if n:
            self._run(x, out, threads, residual)
        return out

    def _run(self, x: Array, out: Array, threads: int, residual: Array | None) -> None:
        n = x.shape[1]
        kind = self.variant.kind
        if kind == "dense":
            if self.choice.dense_library == "blas" and self.epilogue == PLAIN and threads == 1:
                np.matmul(self._dense, x, out=out)
                return
            kernel = self.kernel
        elif n == 1:
            kernel = self._vector
        elif kind == "vector":
            kernel = self._rows
        else:
            call = call_struct(x, out, residual)
            aligned_rows = ((call.x | x.strides[0]) & (4 * max(1, self.variant.lanes) - 1)) == 0
            (self.kernel if aligned_rows else self._packing)(call, threads)
            return
        kernel(call_struct(x, out, residual), threads)
