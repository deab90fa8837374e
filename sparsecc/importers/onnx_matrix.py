"""Reader of one weight of an ONNX file, dense or a sparse initializer, as a matrix."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from sparsecc.errors import UserError
from sparsecc.importers.constants import Sparse
from sparsecc.importers.files import name_list, quote
from sparsecc.importers.matrix import Matrix, build_from_dense, build_matrix, check_shape
from sparsecc.importers.onnx_proto import TensorReader, read_model


def read_onnx_matrix(path: Path, name: str | None, *, source: str, stem: str) -> Matrix:
    """The initializer of this name, or the only one of two dimensions; of more, [first, all others].

    Raises UserError when the file is bad, when it has no such initializer, or when none is named and there is
    not exactly one to choose.
    """
    graph = read_model(path).graph
    dense = {t.name: t for t in graph.initializer if len(t.dims) >= 2}
    sparse = {s.values.name: s for s in graph.sparse_initializer if len(s.dims) >= 2}
    names = [*sparse, *dense]
    choices = f"name one as {path}:NAME, where NAME is {name_list(names)}" if names else "use another file"
    if name is None:
        if len(names) != 1:
            raise UserError(f"{path}: no weight is named and the model has {len(names)}; {choices}")
        name = names[0]
    where = f"{path}, initializer {quote(name, 300)}"
    reader = TensorReader(path.parent)
    if name in sparse:
        weight = reader.sparse(sparse[name], where)
    elif name in dense:
        weight = reader.dense(dense[name], where)
    else:
        raise UserError(f"{path}: no weight {quote(name, 300)} of two dimensions or more; {choices}")
    shape = check_shape((weight.shape[0], math.prod(weight.shape[1:])), where)
    dtype = "bfloat16" if weight.element == "bf16" else None
    full = f"{stem}.{name}"
    if isinstance(weight, Sparse):
        rows, columns = np.divmod(weight.places, shape[1])
        return build_matrix(shape, rows, columns, weight.values, source=source, name=full, dtype=dtype)
    return build_from_dense(weight.array().reshape(shape), source=source, name=full, dtype=dtype)
