"""A network in this process: its shared object, called on numpy arrays in place."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from sparsecc.cpu.arrays import aligned
from sparsecc.cpu.native import address
from sparsecc.dialects.host import Tensor, kind_of
from sparsecc.errors import UserError
from sparsecc.interpreters.host import DTYPES

if TYPE_CHECKING:
    from xdsl.ir import SSAValue

    from sparsecc.network_compiler import NetworkArtifact

Array = NDArray[Any]


def _described(names: Sequence[str], values: Sequence[SSAValue]) -> list[tuple[str, tuple[int, ...], Any]]:
    return [
        (name, cast(Tensor, value.type).get_shape(), np.dtype(DTYPES[kind_of(value)]))
        for name, value in zip(names, values, strict=True)
    ]


class CpuNetwork:
    """A loaded network. One call at a time: its activations are kept in it."""

    def __init__(self, path: Path, artifact: NetworkArtifact, most: int | None = None):
        """most: of the batch, where it is told with each call; the artifact is then that of the largest."""
        library = ctypes.CDLL(str(path))
        library.model_size.restype = c_size_t
        library.model_init.argtypes = [c_void_p, c_int]
        library.model_threads.argtypes = [c_void_p, c_int]
        library.model_error.argtypes = [c_void_p]
        library.model_error.restype = c_char_p
        arguments = [c_void_p, c_void_p] if most is None else [c_int64, c_void_p, c_void_p]
        library.model_infer.argtypes = [c_void_p, *arguments]
        self._most = most
        self._library = library
        self._memory = aligned(int(library.model_size()), np.uint8)
        self._model = address(self._memory)
        self._inputs = _described(artifact.input_names, list(artifact.function.body.block.args))
        self._outputs = _described(artifact.output_names, artifact.outputs)
        self._threads = 1
        # Of calls, one at a time: to make them anew takes longer than to fill them.
        self._sources = (c_void_p * len(self._inputs))()
        self._places = (c_void_p * len(self._outputs))()
        if library.model_init(self._model, 1) != 0:
            raise UserError(self._error())

    def _error(self) -> str:
        return cast(bytes, self._library.model_error(self._model)).decode()

    def _batch(self, inputs: Sequence[Array]) -> int | None:
        """That of the inputs; None where there is only one. Raises UserError for one out of bounds."""
        if self._most is None:
            return None
        name, shape, _ = self._inputs[0]
        found: tuple[int, ...] = getattr(inputs[0], "shape", ())
        if not found or not 1 <= found[0] <= self._most:
            rest = ", ".join(["batch", *map(str, shape[1:])])
            raise UserError(
                f"input {name} has shape {list(found)}; needed [{rest}], one batch from 1 to {self._most} "
                "for all"
            )
        return found[0]

    def __call__(
        self, inputs: Sequence[Array], out: Sequence[Array] | None = None, threads: int = 1
    ) -> tuple[Array, ...]:
        """The outputs, in `out` where arrays are given. Raises UserError for arrays that do not fit."""
        if len(inputs) != len(self._inputs):
            names = ", ".join(name for name, _, _ in self._inputs)
            raise UserError(f"the network has {len(self._inputs)} inputs ({names}); found {len(inputs)}")
        batch = self._batch(inputs)
        expected, results = self._inputs, self._outputs
        if batch is not None:
            expected, results = ([_of_batch(one, batch) for one in each] for each in (expected, results))
        if out is None:
            out = [np.empty(shape, kind) for _, shape, kind in results]
        elif len(out) != len(self._outputs):
            raise UserError(f"the network has {len(self._outputs)} outputs; found {len(out)} arrays for them")
        # Arrays that were converted must live as long as the call.
        given = [_checked("input", one, array) for one, array in zip(expected, inputs, strict=True)]
        for i, array in enumerate(given):
            self._sources[i] = address(array)
        for i, array in enumerate(out):
            if _checked("output", results[i], array) is not array or not array.flags.writeable:
                raise UserError(f"output {results[i][0]} is not a contiguous array that may be written")
            self._places[i] = address(array)
        if threads != self._threads:
            if threads < 1:
                raise UserError(f"threads is {threads}; needed at least 1")
            self._library.model_threads(self._model, threads)
            self._threads = threads
        told = () if batch is None else (batch,)
        if self._library.model_infer(self._model, *told, self._sources, self._places) != 0:
            raise UserError(f"the program failed: {self._error()}")
        return tuple(out)


def _of_batch(
    described: tuple[str, tuple[int, ...], Any], batch: int | None
) -> tuple[str, tuple[int, ...], Any]:
    name, shape, kind = described
    return described if batch is None else (name, (batch, *shape[1:]), kind)


def _checked(what: str, wanted: tuple[str, tuple[int, ...], Any], array: Array) -> Array:
    """The array, contiguous. Raises UserError for another shape or type."""
    name, shape, kind = wanted
    # What is usual is found out first: small networks take a few microseconds.
    usual = type(array) is np.ndarray and array.dtype is kind and array.shape == shape
    if usual and array.flags.c_contiguous:
        return array
    if not isinstance(array, np.ndarray):  # pyright: ignore[reportUnnecessaryIsInstance]  # users may not check
        raise UserError(f"{what} {name} is a {type(array).__name__}; needed a numpy array of {kind}")
    if array.shape != shape:
        raise UserError(f"{what} {name} has shape {list(array.shape)}; needed {list(shape)}")
    if array.dtype != kind:
        if what == "output" or not (np.can_cast(array.dtype, kind, "same_kind") or array.dtype.kind == "b"):
            raise UserError(f"{what} {name} has elements of type {array.dtype}; needed {kind}")
        return array.astype(kind)
    return np.ascontiguousarray(array)
