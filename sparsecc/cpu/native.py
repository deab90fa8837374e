"""The structures of sc.h in ctypes, and the kernels as objects that can be called."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from ctypes import (
    Structure,
    c_double,
    c_float,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_void_p,
)
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sparsecc.cpu.arrays import (
    Floats,
    VectorArrays,
    csr_arrays,
    dense_array,
    sliced_arrays,
    vector_arrays,
)
from sparsecc.cpu.pairs import paired_arrays
from sparsecc.cpu.rounds import round_arrays
from sparsecc.importers.matrix import Csr


class ActivationStruct(Structure):
    _fields_ = [("kind", c_int32), ("a", c_float), ("b", c_float), ("slopes", c_void_p)]


class EpilogueStruct(Structure):
    _fields_ = [("bias", c_void_p), ("relu", c_int32), ("activation", ActivationStruct)]


class CallStruct(Structure):
    _fields_ = [
        ("x", c_void_p), ("ldx", c_size_t), ("y", c_void_p), ("ldy", c_size_t), ("n", c_size_t),
        ("residual", c_void_p), ("ldr", c_size_t), ("scratch", c_void_p), ("each", c_size_t),
        ("turned", c_int),
    ]  # fmt: skip


class LineStruct(Structure):
    _fields_ = [
        ("m", c_int64), ("k", c_int64), ("lanes", c_int64), ("width", c_int64), ("blocks", c_int64),
        ("groups", c_int64), ("height", c_int64), ("table", c_void_p), ("values", c_void_p),
        ("ahead", c_int64), ("epilogue", EpilogueStruct), ("rows", c_void_p), ("cut", c_int64),
        ("panels", c_int64), ("batch", c_int64), ("pack", c_int64), ("fetches", c_int64),
    ]  # fmt: skip


class CsrStruct(Structure):
    _fields_ = [
        ("m", c_int64), ("k", c_int64), ("width", c_int64), ("blocks", c_int64), ("begin", c_void_p),
        ("entries", c_void_p), ("rows", c_void_p), ("epilogue", EpilogueStruct),
    ]  # fmt: skip


class RoundsStruct(Structure):
    _fields_ = [
        ("chunks", c_int64), ("columns", c_int64), ("slabs", c_int64), ("starts", c_void_p),
        ("steps", c_void_p), ("begin", c_void_p), ("picks", c_void_p), ("singles", c_void_p),
        ("single_rows", c_void_p), ("single_columns", c_void_p),
    ]  # fmt: skip


class VectorStruct(Structure):
    _fields_ = [
        ("m", c_int64), ("k", c_int64), ("tiles", c_int64), ("slabs", c_void_p),
        ("stretches", c_void_p), ("places", c_void_p), ("values", c_void_p), ("columns", c_void_p),
        ("masks", c_void_p), ("rows", c_void_p), ("epilogue", EpilogueStruct), ("wide", c_void_p),
        ("pairs", c_void_p), ("shared", c_int64), ("rounds", RoundsStruct),
    ]  # fmt: skip


class DenseStruct(Structure):
    _fields_ = [("m", c_int64), ("k", c_int64), ("values", c_void_p), ("epilogue", EpilogueStruct)]


KINDS = {"line": LineStruct, "csr": CsrStruct, "vector": VectorStruct, "dense": DenseStruct}


def load_runtime(path: str) -> ctypes.CDLL:
    """The compiled C of runtime/cpu, its functions declared. Raises OSError."""
    library = ctypes.CDLL(path)
    for kind in (*KINDS, "words"):
        run = getattr(library, f"sc_{kind}_run")
        run.argtypes = [c_void_p, c_void_p, c_int]
        run.restype = c_int
        if kind != "words":
            getattr(library, f"sc_{kind}_scratch").argtypes = [c_void_p, c_size_t, c_size_t]
            getattr(library, f"sc_{kind}_scratch").restype = c_size_t
        at = getattr(library, f"sc_{kind}_at")
        at.argtypes = [c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_size_t, c_void_p, c_size_t, c_int]
        at.restype = c_int
    library.sc_time.argtypes = [c_void_p, c_void_p, c_void_p, c_int, c_double]
    library.sc_time.restype = c_double
    library.sc_peak.argtypes = [c_double]
    library.sc_peak.restype = c_double
    library.sc_read.argtypes = [c_void_p, c_size_t, c_double]
    library.sc_read.restype = c_double
    library.sc_loads.argtypes = [c_void_p, c_size_t, c_double]
    library.sc_loads.restype = c_double
    library.sc_words_peak.argtypes = [c_int, c_double]
    library.sc_words_peak.restype = c_double
    return library


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def _fast_address(array: NDArray[Any]) -> int:
    """In CPython the first field of an array after the object's head: a quarter of the time to find it."""
    return c_size_t.from_address(id(array) + object.__basicsize__).value


def _is_there() -> bool:
    """Whether arrays of this numpy in this Python hold their address there."""
    if sys.implementation.name != "cpython":
        return False
    whole = np.zeros(9)
    return all(_fast_address(a) == _address(a) for a in (whole, whole[2:], whole.reshape(3, 3)[1:, ::2]))


address = _fast_address if _is_there() else _address


def call_struct(x: NDArray[Any], y: NDArray[Any], residual: NDArray[Any] | None) -> CallStruct:
    """A call on arrays whose rows are contiguous."""
    rows = residual if residual is not None else None
    return CallStruct(
        address(x), x.strides[0] // 4, address(y), y.strides[0] // 4, y.shape[1],
        address(rows) if rows is not None else None, rows.strides[0] // 4 if rows is not None else 0,
    )  # fmt: skip


@dataclass(eq=False)
class Kernel:
    """A matrix in one of the layouts, ready to run."""

    kind: str
    struct: Structure
    run: Any
    at: Any
    """As run, on plain arguments: the fastest way in from Python."""
    time: Any
    kept: list[Any] = field(default_factory=list[Any])
    """What the structure points to."""

    def __post_init__(self):
        self.where = ctypes.addressof(self.struct)

    def __call__(self, call: CallStruct, threads: int) -> None:
        if self.run(self.where, ctypes.addressof(call), threads) != 0:
            raise MemoryError("no memory for scratch panels")

    def bound(self, call: CallStruct, threads: int) -> Callable[[], int]:
        """The call as a function without arguments, which returns a status."""
        run = partial(self.run, c_void_p(self.where), c_void_p(ctypes.addressof(call)), c_int(threads))
        run.__dict__["kept"] = self, call
        return run

    def seconds(self, call: CallStruct, threads: int, budget: float) -> float:
        """Of the fastest of the runs that fit the budget of seconds."""
        run = ctypes.cast(self.run, c_void_p)
        found = self.time(run, ctypes.addressof(self.struct), ctypes.addressof(call), threads, budget)
        if found < 0:
            raise MemoryError("no memory for scratch panels")
        return float(found)


def _epilogue(bias: Floats | None, relu: bool) -> EpilogueStruct:
    return EpilogueStruct(address(bias) if bias is not None else None, int(relu))


def _kernel(library: ctypes.CDLL, kind: str, struct: Structure, kept: list[Any]) -> Kernel:
    return Kernel(
        kind,
        struct,
        getattr(library, f"sc_{kind}_run"),
        getattr(library, f"sc_{kind}_at"),
        library.sc_time,
        kept,
    )


def csr_kernel(
    library: ctypes.CDLL, w: Csr, bias: Floats | None, relu: bool, by_rows: bool = False
) -> Kernel:
    a = csr_arrays(w, by_rows=by_rows)
    struct = CsrStruct(
        *w.shape,
        a.width,
        a.blocks,
        address(a.begin),
        address(a.entries),
        address(a.rows),
        _epilogue(bias, relu),
    )
    return _kernel(library, "csr", struct, [a, bias])


def vector_pointers(a: VectorArrays) -> list[int]:
    """Addresses in the order of VectorStruct."""
    arrays = a.slabs, a.stretches, a.places, a.values, a.columns, a.masks, a.rows
    return [address(each) for each in arrays]


def vector_kernel(
    library: ctypes.CDLL,
    w: Csr,
    bias: Floats | None,
    relu: bool,
    sliced: bool = False,
    pairs: Literal[0, 1, 2] = 0,
    rounds: bool = False,
) -> Kernel:
    """sliced, pairs, rounds: as of `Variant`."""
    if rounds:
        r = round_arrays(w)
        of_rounds = RoundsStruct(
            len(r.steps), r.columns, len(r.slabs) - 1, address(r.starts), address(r.steps),
            address(r.begin), address(r.picks), address(r.singles), address(r.single_rows),
            address(r.single_columns),
        )  # fmt: skip
        struct = VectorStruct(
            *w.shape, r.tiles, address(r.slabs), None, None, address(r.values), None, None, address(r.rows),
            _epilogue(bias, relu), None, None, 0, of_rounds,
        )  # fmt: skip
        return _kernel(library, "vector", struct, [r, bias])
    if pairs:
        p = paired_arrays(w, pairs)
        struct = VectorStruct(
            *w.shape, p.tiles, address(p.slabs), address(p.stretches), None, address(p.values),
            address(p.columns), None, address(p.rows), _epilogue(bias, relu), None, address(p.pairs), pairs,
        )  # fmt: skip
        return _kernel(library, "vector", struct, [p, bias])
    if sliced:
        s = sliced_arrays(w)
        struct = VectorStruct(
            *w.shape, s.tiles, address(s.slabs), address(s.stretches), None, address(s.values), None,
            address(s.masks), address(s.rows), _epilogue(bias, relu), address(s.columns),
        )  # fmt: skip
        return _kernel(library, "vector", struct, [s, bias])
    a = vector_arrays(w)
    struct = VectorStruct(*w.shape, a.tiles, *vector_pointers(a), _epilogue(bias, relu), None)
    return _kernel(library, "vector", struct, [a, bias])


def dense_kernel(library: ctypes.CDLL, w: Csr, bias: Floats | None, relu: bool) -> Kernel:
    values = dense_array(w, library.sc_dense_rows())
    return _kernel(
        library, "dense", DenseStruct(*w.shape, address(values), _epilogue(bias, relu)), [values, bias]
    )
