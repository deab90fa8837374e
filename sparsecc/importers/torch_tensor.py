"""Tensors of torch as constants of a network, sparse ones included."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.errors import UserError
from sparsecc.importers.constants import Constant, Dense, Sparse
from sparsecc.importers.files import fault

ELEMENT_OF = {
    "bool": "i1", "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64", "uint8": "ui8",
    "uint16": "ui16", "uint32": "ui32", "uint64": "ui64", "float16": "f16", "bfloat16": "bf16",
    "float32": "f32", "float64": "f64",
}  # fmt: skip
"""Our name of each element type of torch that is supported."""


def torch_library() -> Any:
    """The `torch` package. Raises UserError when it is not installed."""
    try:
        return import_module("torch")
    except ImportError:
        raise UserError("networks of torch need the package torch; pip install 'sparsecc[torch]'") from None


def element_name(dtype: Any, where: str) -> str:
    """Our name of a torch.dtype. Raises UserError for those that are not supported."""
    name = str(dtype).removeprefix("torch.")
    if name not in ELEMENT_OF:
        raise fault(
            where, f"elements of type {name}", "numbers and truth values are supported", "convert them first"
        )
    return ELEMENT_OF[name]


def constant_of(tensor: Any, where: str) -> Constant:
    """The values of a torch.Tensor; one in a sparse layout stays sparse. Raises UserError.

    Strided tensors are not copied. Stored zeros of sparse ones are kept, duplicates of COO are added.
    """
    torch = torch_library()
    element = element_name(tensor.dtype, where)
    tensor = tensor.detach()
    if tensor.device.type == "meta":
        raise fault(where, "a tensor without data", "values are needed", "load the weights before exporting")
    layout = str(tensor.layout).removeprefix("torch.")
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) and hasattr(tensor, "to_dense"):
        # Semi-structured and other subclasses say what they stand for.
        tensor, layout = tensor.to_dense(), "strided"
    if layout != "strided":
        if layout != "sparse_coo":
            tensor = tensor.to_sparse_coo()
        tensor = tensor.cpu().coalesce()
        if tensor.dense_dim():
            tensor = tensor.to_dense().to_sparse_coo().coalesce()
        shape = tuple(tensor.shape)
        along: list[NDArray[np.int64]] = list(tensor.indices().numpy())
        places = np.atleast_1d(np.ravel_multi_index(along, shape)).astype(np.int64)
        order = np.argsort(places)
        return Sparse(shape, element, places[order], _array(tensor.values(), element)[order])
    return Dense(_array(tensor.cpu(), element), element)


def _array(tensor: Any, element: str) -> Any:
    return (tensor.float() if element == "bf16" else tensor).resolve_conj().resolve_neg().numpy()
