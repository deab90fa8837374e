"""Reader of dense `.npy` files, and of single arrays in that form inside `.npz` files.

The header is read with numpy; the rest is checked against it before anything is allocated, and pickled
objects are never loaded.
"""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsecc.importers.files import damaged, fault, read_bytes
from sparsecc.importers.matrix import Matrix, build_from_dense


def read_npy(path: Path, *, source: str, name: str) -> Matrix:
    """The matrix of the nonzero elements of a 2-D `.npy` file; UserError when the file is bad."""
    return build_from_dense(parse_npy(read_bytes(path), source), source=source, name=name)


def parse_npy(data: bytes, where: str) -> npt.NDArray[Any]:
    """The array in the bytes of a `.npy` file, read-only, of any shape and any type but objects."""
    stream = io.BytesIO(data)
    try:
        with warnings.catch_warnings():
            # Headers from Python 2 draw a warning, garbled ones a SyntaxWarning; both are dealt with here.
            warnings.simplefilter("ignore")
            version = np.lib.format.read_magic(stream)
            read_header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, fortran_order, dtype = read_header(stream)
    except Exception as error:  # numpy evaluates the header as a Python literal, which fails in many ways
        raise damaged(where, ".npy header", error) from None
    if dtype.hasobject:
        raise fault(
            where,
            "an array of Python objects",
            "plain numbers are needed",
            "convert the array to a numeric type and save it again",
        )
    if any(side < 0 for side in shape):
        raise fault(where, f"the shape {list(shape)}", "no side may be negative", "write the file again")
    offset = stream.tell()
    wanted = math.prod(shape) * dtype.itemsize
    if len(data) - offset != wanted:
        raise fault(
            where,
            f"{len(data) - offset} bytes of values",
            f"the header promises {wanted} ({list(shape)} of {dtype})",
            "the file is cut or damaged: write it again",
        )
    return np.ndarray(shape, dtype, data, offset, order="F" if fortran_order else "C")
