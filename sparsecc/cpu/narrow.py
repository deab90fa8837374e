"""Kernels for int8, bf16 and f16: those for floats, over words (words.py), with what follows the sums."""

from __future__ import annotations

import ctypes
import math
from ctypes import Structure, c_float, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sparsecc.cpu.activate import numbers_of_activation, struct_of
from sparsecc.cpu.arrays import VECTOR_COLUMNS, aligned, csr_arrays, dense_array, vector_arrays
from sparsecc.cpu.assembly import Epilogue as LineEpilogue
from sparsecc.cpu.assembly import Registers
from sparsecc.cpu.line import line_kernel, make_plan, with_schedule
from sparsecc.cpu.native import (
    ActivationStruct,
    CsrStruct,
    DenseStruct,
    EpilogueStruct,
    Kernel,
    VectorStruct,
    address,
    vector_pointers,
)
from sparsecc.cpu.variant import Variant, row_order
from sparsecc.cpu.words import Element, Words, as_words, depth_of, offset_of
from sparsecc.epilogue import Epilogue
from sparsecc.importers.matrix import Csr
from sparsecc.target.cpu import CpuTarget

Array = NDArray[Any]

# The enumerations of sc.h.
X_TYPES = {"i8": 0, "bf16": 1, "f16": 2, "f32 as bf16": 3, "f32 as f16": 4}
Y_TYPES = {"i32": 0, "f32": 1, "i8": 2, "ui8": 3, "bf16": 4, "f16": 5}
KERNELS = {"line": 0, "csr": 1, "dense": 2, "vector": 3}
# Steps of a tile from which int8 is as fast with one for each column: 25 of 80 bytes, or 32 of 64.
FULL_FROM = 25
BIAS = {None: 0, "int32": 1, "float32": 2}


class FinishStruct(Structure):
    _fields_ = [
        ("integers", c_int32), ("out", c_int32), ("plain", c_int32), ("bias_type", c_int32),
        ("bias", c_void_p), ("scale", c_void_p), ("scale_rows", c_int32), ("zero", c_int32),
        ("low", c_float), ("high", c_float), ("low_i32", c_int32), ("high_i32", c_int32),
        ("activation", ActivationStruct),
    ]  # fmt: skip


class WordsStruct(Structure):
    _fields_ = [
        ("m", c_int64), ("k", c_int64), ("words", c_int64), ("depth", c_int64), ("x_type", c_int64),
        ("dot", c_int64), ("columns", c_void_p), ("kernel", c_int64), ("inner", c_void_p),
        ("finish", FinishStruct),
    ]  # fmt: skip


def sums_type(element: str) -> str:
    """Of the sums of products of a type."""
    return "i32" if element == "i8" else "f32"


def full_from(element: Element) -> int:
    """Steps from which tiles have one for each column; with floats zeros of W would meet infinities of X."""
    return FULL_FROM if element == "i8" else VECTOR_COLUMNS + 1


def dot_of(element: Element, depth: int) -> int:
    """What multiplies: `dot` of sc_words."""
    return X_TYPES["f16"] if element != "i8" and depth == 1 else X_TYPES[element]


def registers_for_words(target: CpuTarget, element: Element, n: int) -> Registers | None:
    """How registers are used for so many positions; None where no assembly is written for it."""
    match target.simd.isa, element:
        case "avx512", _:
            product = {"i8": "vpdpbusd", "bf16": "vdpbf16ps", "f16": "vfmadd231ps"}[element]
            return Registers(
                "avx512", 8 if n <= 8 else 16, product, "vpaddd" if element == "i8" else "vaddps"
            )
        case "avx2", "bf16" | "f16":
            return Registers("avx2", 8)
        case _:
            return None


@dataclass(frozen=True, eq=False)
class Finish:
    """What C needs of an epilogue, for one kernel: as sc_finish."""

    integers: bool
    epilogue: Epilogue
    bias: Array | None
    """[M] What is added to the sums: int32 or float32."""
    scale: NDArray[np.float32] | None
    """[1] or [M]."""
    plain: bool
    """Sums and their bias are the results."""
    slopes: NDArray[np.float32] | None
    """[M] Of the activation, where it has some."""

    def limits_i32(self) -> tuple[int, int]:
        """Those of results that stay int32."""
        low, high = max(self.epilogue.low, -(2.0**31)), min(self.epilogue.high, 2.0**31 - 1)
        return math.ceil(low), math.floor(high)

    def struct(self) -> FinishStruct:
        """In ctypes; the arrays must stay."""
        e, scale = self.epilogue, self.scale
        activation, a, b, _ = numbers_of_activation(e.activation)
        kind = None if self.bias is None else self.bias.dtype.name
        return FinishStruct(
            int(self.integers), Y_TYPES[e.element], int(self.plain), BIAS[kind],
            None if self.bias is None else address(self.bias), None if scale is None else address(scale),
            int(e.scale is not None and e.scale.ndim == 1), e.zero, e.low, e.high, *self.limits_i32(),
            struct_of((activation, a, b, self.slopes)),
        )  # fmt: skip


def correction(w: Csr, offset: int) -> NDArray[np.int32] | None:
    """[M] What is added to sums over X + offset to have those over X."""
    if not offset:
        return None
    row = np.repeat(np.arange(w.shape[0]), np.diff(w.indptr))
    total = np.bincount(row, w.data.astype(np.float64), w.shape[0])
    return aligned_copy((-offset * total.astype(np.int64)).astype(np.int32))


def aligned_copy(array: Array) -> Array:
    """The same at a multiple of 64 bytes."""
    out = aligned(array.shape, array.dtype)
    out[...] = array
    return out


def line_bias(w: Csr, target: CpuTarget, element: Element, epilogue: Epilogue) -> Array | None:
    """[M] What straight-line code adds itself: the correction, and a bias in the type of the sums."""
    fixed = correction(w, offset_of(target, element))
    bias = epilogue.bias
    if bias is None:
        return fixed
    return aligned_copy(bias) if fixed is None else fixed + bias


def finish_of(w: Csr, target: CpuTarget, element: Element, epilogue: Epilogue, line: bool) -> Finish:
    """What follows the sums of a kernel; straight-line code has done its share."""
    own = line_bias(w, target, element, epilogue)
    integers = element == "i8"
    bias = epilogue.bias
    assert bias is None or bias.dtype == (np.int32 if integers else np.float32)
    rest = None if line else own
    same = epilogue.element == sums_type(element) and epilogue.scale is None
    plain = same and not (epilogue.residual or epilogue.limited or epilogue.activation)
    scale = None if epilogue.scale is None else np.atleast_1d(epilogue.scale)
    return Finish(integers, epilogue, rest, scale, plain, numbers_of_activation(epilogue.activation)[3])


def narrow_kernel(
    library: ctypes.CDLL, w: Csr, target: CpuTarget, variant: Variant, element: Element, epilogue: Epilogue,
    given: str | None = None,
) -> Kernel:  # fmt: skip
    """The variant for this matrix. given: the type of X, the element by default, or "f32" to be rounded."""
    words = as_words(w, element, depth_of(target, element))
    kept: list[Any] = [words]
    line = variant.kind == "line"
    if line:
        inner = _line(library, w, words, target, variant, element, epilogue, kept)
    else:
        inner = _inner(library, words.csr, variant, element, kept)
    finish = finish_of(w, target, element, epilogue, line)
    x_type = X_TYPES[f"f32 as {element}" if given == "f32" else element]
    m, k = w.shape
    struct = WordsStruct(
        m, k, len(words.columns), words.depth, x_type, dot_of(element, words.depth),
        address(words.columns), KERNELS[variant.kind], ctypes.addressof(inner), finish.struct(),
    )  # fmt: skip
    return Kernel(
        variant.kind, struct, library.sc_words_run, library.sc_words_at, library.sc_time,
        [*kept, inner, finish],
    )  # fmt: skip


def _line(
    library: ctypes.CDLL, w: Csr, words: Words, target: CpuTarget, variant: Variant, element: Element,
    epilogue: Epilogue, kept: list[Any],
) -> Structure:  # fmt: skip
    registers = registers_for_words(target, element, 1 if variant.lanes == 8 else variant.lanes)
    assert registers is not None
    csr = words.csr
    plan = make_plan(csr, variant.height, variant.columns, row_order(csr, variant))
    bias = line_bias(w, target, element, epilogue)
    bits = None if bias is None else bias.view(np.float32)
    kernel = line_kernel(library, csr, plan, registers, LineEpilogue(bias=bias is not None), bits)
    kernel = with_schedule(kernel, variant.panels, variant.batch, False)
    kept.append(kernel)
    return kernel.struct


def _inner(library: ctypes.CDLL, csr: Csr, variant: Variant, element: Element, kept: list[Any]) -> Structure:
    none = EpilogueStruct()
    match variant.kind:
        case "csr":
            a = csr_arrays(csr, csr.shape[1])
            kept.append(a)
            places = (address(a.begin), address(a.entries), address(a.rows))
            return CsrStruct(*csr.shape, a.width, a.blocks, *places, none)
        case "vector":
            v = vector_arrays(csr, full_from(element))
            kept.append(v)
            return VectorStruct(*csr.shape, v.tiles, *vector_pointers(v), none, None)
        case _:
            values = dense_array(csr, library.sc_dense_rows())
            kept.append(values)
            return DenseStruct(*csr.shape, address(values), none)


def with_input(kernel: Kernel, element: Element, given: str) -> Kernel:
    """The same kernel for X of another type: the element, or "f32"."""
    struct = WordsStruct.from_buffer_copy(cast(Any, kernel.struct))
    struct.x_type = X_TYPES[f"f32 as {element}" if given == "f32" else element]
    return Kernel(kernel.kind, struct, kernel.run, kernel.at, kernel.time, [kernel])


def rescheduled(kernel: Kernel, panels: int, batch: int) -> Kernel:
    """Straight-line code called in another order."""
    struct = WordsStruct.from_buffer_copy(cast(Any, kernel.struct))
    inner = next(part for part in kernel.kept if isinstance(part, Kernel))
    other = with_schedule(inner, panels, batch, False)
    struct.inner = ctypes.addressof(other.struct)
    return Kernel(kernel.kind, struct, kernel.run, kernel.at, kernel.time, [kernel, other])
