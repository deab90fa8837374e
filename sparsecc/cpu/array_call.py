"""Calls on numpy arrays that C looks at itself: of small products, the way through Python takes longest."""

from __future__ import annotations

import ctypes
import sys
from ctypes import Structure, c_int, c_int64, c_size_t, c_void_p
from functools import cache
from typing import Any

import numpy as np

from sparsecc.cpu.native import Kernel

HEAD = object.__basicsize__
FLOAT = np.dtype(np.float32)


class ArrayStruct(Structure):
    _fields_ = [
        ("data", c_void_p), ("nd", c_int), ("dims", ctypes.POINTER(c_size_t)),
        ("strides", ctypes.POINTER(ctypes.c_ssize_t)), ("base", c_void_p),
        ("descr", c_void_p), ("flags", c_int),
    ]  # fmt: skip


class KernelStruct(Structure):
    _fields_ = [("run", c_void_p), ("w", c_void_p)]


class ArrayCallStruct(Structure):
    _fields_ = [
        ("array_type", c_void_p), ("x_type", c_void_p), ("y_type", c_void_p), ("head", c_int64),
        ("m", c_int64), ("k", c_int64), ("x_size", c_int64), ("y_size", c_int64), ("alignment", c_int64),
        ("few", c_int64), ("aligned", KernelStruct), ("unaligned", KernelStruct),
        ("single", KernelStruct),
    ]  # fmt: skip


@cache
def arrays_are_known() -> bool:
    """Whether arrays of this numpy in this Python lie in memory as C takes them to."""
    if sys.implementation.name != "cpython":
        return False
    whole = np.zeros((5, 7), np.float32)
    frozen = whole[1:4, 2:5]
    frozen.flags.writeable = False
    for array in (whole, whole[::2, 1:], frozen):
        found = ArrayStruct.from_address(id(array) + HEAD)
        if (
            found.nd != 2
            or found.data != array.__array_interface__["data"][0]
            or found.descr != id(np.dtype(np.float32))
            or tuple(found.dims[:2]) != array.shape
            or tuple(found.strides[:2]) != array.strides
            or bool(found.flags & 0x400) != array.flags.writeable
            or c_size_t.from_address(id(array) + HEAD - ctypes.sizeof(c_size_t)).value != id(np.ndarray)
        ):
            return False
    return True


class ArrayCall:
    """Kernels for arrays with aligned rows, with others, and for few positions; None: not on this way."""

    def __init__(
        self,
        library: ctypes.CDLL,
        shape: tuple[int, int],
        alignment: int,
        aligned: Kernel | None,
        unaligned: Kernel | None,
        single: Kernel | None,
        x_type: np.dtype[Any] = FLOAT,
        y_type: np.dtype[Any] = FLOAT,
        few: int = 1,
    ):
        self.kept = [library, aligned, unaligned, single, x_type, y_type]
        kernels = [
            KernelStruct(ctypes.cast(kernel.run, c_void_p), kernel.where) if kernel else KernelStruct()
            for kernel in (aligned, unaligned, single)
        ]
        types = id(np.ndarray), id(x_type), id(y_type)
        sizes = x_type.itemsize, y_type.itemsize
        self.struct = ArrayCallStruct(*types, HEAD, *shape, *sizes, alignment, few, *kernels)
        self.where = ctypes.addressof(self.struct)
        self.run = library.sc_array_run
        self.run.argtypes = [c_void_p, c_void_p, c_void_p, c_int]
        self.run.restype = c_int
