"""What tests of sparse-propagate share: the pass on a copy, and outputs that have to stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block

from sparsecc.importers.onnx_file import import_model
from sparsecc.interpreters.sparse import run_module
from sparsecc.passes.sparse_propagate import SparsePropagatePass

onnxruntime: Any = ort


def body(module: ModuleOp) -> Block:
    (function,) = [op for op in module.ops if isinstance(op, func.FuncOp)]
    return function.body.block


def propagated(module: ModuleOp, **options: bool) -> ModuleOp:
    copy = module.clone()
    SparsePropagatePass(**options).apply(Context(), copy)
    copy.verify()
    return copy


def assert_outputs_stay(model: onnx.ModelProto, x: NDArray[Any], rtol: float) -> None:
    """To the bit with `exact`; near what they were and onnxruntime's (rtol) without."""
    module = import_model(model, "model", Path())
    before = run_module(module, x)
    for wanted, found in zip(before, run_module(propagated(module, exact=True), x), strict=True):
        np.testing.assert_array_equal(found, wanted)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    reference = session.run(None, {session.get_inputs()[0].name: x})
    for wanted, other, found in zip(before, reference, run_module(propagated(module), x), strict=True):
        size = float(np.abs(wanted).max())
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * size)
        np.testing.assert_allclose(found, other, rtol=rtol, atol=rtol * size)
