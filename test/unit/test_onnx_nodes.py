"""The node tests of the onnx package: all of operators that the importer knows pass, or are listed."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
from onnx import numpy_helper

from sparsecc.errors import UserError
from sparsecc.importers.onnx_file import HANDLERS, import_model
from sparsecc.interpreters.sparse import run_module

# Operators known by the function that ONNX defines for them.
BY_FUNCTION = {
    "Attention", "Celu", "CenterCropPad", "GroupNormalization",
    "MeanVarianceNormalization", "Mish", "RMSNormalization", "RotaryEmbedding", "Selu", "Shrink", "SwiGLU",
    "ThresholdedRelu",
}  # fmt: skip

# Node tests that are refused: a pattern of the name, what the error says, and why.
REFUSED = {
    r"test_(cast|castlike|equal|identity|quantizelinear|dequantizelinear)_.*":
        (r"elements of type (float[48]|u?int[24]|string|complex)", "targets have no types of 2 or 4 "
         "bits, floats of 8 bits, or text"),
    r"test_(training_dropout|batchnorm_.*_training_mode).*":
        (r"training", "networks are compiled for inference"),
    r"test_(identity_sequence|identity_opt|if_seq|if_opt)":
        (r"is a list|no tensor|SequenceConstruct", "values are tensors, not sequences or optional"),
    r"test_maxpool_with_argmax_.*": (r"output Indices", "places of the largest are for training"),
    r"test_not_[234]d": (r"operator set 1", "models of operator sets before 7 are converted first"),
    r"test_reduce_(max|min)_empty_set.*": (r"empty shape", "no type holds the smallest number of all"),
    r"test_resize_.*": (r"mode '(linear|cubic)'", "only nearest neighbours are resized"),
}  # fmt: skip

# Inputs that must be constant: shapes, positions, conditions, and the scales of QLinear operators.
CONSTANT_INPUTS = {
    "CenterCropPad": [1], "ConstantOfShape": [0], "ConvTranspose": [1, 2], "CumSum": [0, 1],
    "Dropout": [1, 2], "Expand": [1], "If": [0], "LSTM": [4], "NonZero": [0], "OneHot": [1, 2],
    "Pad": [1, 2, 3],
    "QLinearConv": [1, 2, 4, 5, 6, 7], "QLinearMatMul": [1, 2, 4, 5, 6, 7], "Range": [0, 1, 2],
    "Reshape": [1], "Resize": [1, 2, 3], "Slice": [1, 2, 3, 4], "Split": [1], "Squeeze": [1],
    "Tile": [1], "Trilu": [1], "Unsqueeze": [1],
    "Upsample": [1],
}  # fmt: skip

# ONNX's reference rounds narrow floats elsewhere: two units of their last place.
NARROW = {"float16": 2.0**-9, "bfloat16": 2.0**-6}


def array(value: Any) -> np.ndarray[Any, Any]:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, list):
        raise UserError("input is a list")
    return np.asarray(value)


def widened(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The interpreter holds bf16 as the f32 it equals."""
    return value.astype(np.float32) if value.dtype.name == "bfloat16" else value


def constant_names(model: onnx.ModelProto) -> set[str]:
    names: set[str] = set()
    for node in model.graph.node:
        places = [1] if node.op_type.startswith("Reduce") else CONSTANT_INPUTS.get(node.op_type, [])
        names |= {node.input[i] for i in places if i < len(node.input)}
    return names


def check(case: Any) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    inputs, outputs = case.data_sets[0]
    constant = constant_names(model)
    given: list[np.ndarray[Any, Any]] = []
    for info, value in zip(model.graph.input, map(array, inputs), strict=False):
        if info.name in constant:
            model.graph.initializer.append(numpy_helper.from_array(value, info.name))
        else:
            given.append(widened(value))
    module = import_model(model, case.name, Path())
    module.verify()
    results = run_module(module, *given)
    for result, wanted in zip(results, map(array, outputs), strict=True):
        near = max(case.rtol, NARROW.get(wanted.dtype.name, 0.0))
        wanted = widened(wanted)
        assert result.dtype == wanted.dtype
        assert result.shape == wanted.shape
        np.testing.assert_allclose(result, wanted, rtol=near, atol=case.atol)


def refusal(name: str) -> str | None:
    """What the error of a refused test says."""
    errors = [error for pattern, (error, _) in REFUSED.items() if re.fullmatch(pattern, name)]
    return "|".join(errors) or None


def test_node_tests_of_onnx_pass_or_are_listed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package's own computations of what is expected
        from onnx.backend.test.case.node import collect_testcases

        cases = cast("list[Any]", list(collect_testcases(cast(Any, None))))
    known = BY_FUNCTION | HANDLERS.keys()
    passed = 0
    wrong: list[str] = []
    for case in cases:
        # Expanded tests are the same with the functions written out.
        if "_expanded" in case.name or not known & {node.op_type for node in case.model.graph.node}:
            continue
        try:
            check(case)
            passed += 1
        except UserError as error:
            expected = refusal(case.name)
            if expected is None or not re.search(expected, str(error)):
                wrong.append(f"{case.name}: {error}")
        except AssertionError as error:
            wrong.append(f"{case.name}: {error}")
    assert not wrong, "\n".join(wrong)
    assert passed >= 800
