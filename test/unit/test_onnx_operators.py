"""Every operator against onnxruntime, over random shapes and attributes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sparsecc.importers.onnx_file import import_model
from sparsecc.interpreters.sparse import run_module

Array = NDArray[Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]

onnxruntime: Any = ort
onnxruntime.set_default_logger_severity(3)


@dataclass
class Case:
    """One node: inputs computed at run time, inputs that are constant, and attributes."""

    kind: str
    inputs: Sequence[Array | None]
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    constants: Sequence[int] = ()
    """Which inputs are initializers."""
    outputs: int = 1
    opset: int = 17
    relative: float = 2e-5
    domain: str = ""
    steps: int = 0
    """By how much bytes may differ."""


def model_of(case: Case) -> tuple[onnx.ModelProto, dict[str, Array]]:
    names = [f"x{i}" if value is not None else "" for i, value in enumerate(case.inputs)]
    while not names[-1]:
        names.pop()  # onnxruntime crashes on LayerNormalization with a last input that is left out by name
    outputs = [f"y{i}" for i in range(case.outputs)]
    node = helper.make_node(case.kind, names, outputs, name="node", domain=case.domain, **case.attributes)
    feeds: dict[str, Array] = {}
    initializers: list[onnx.TensorProto] = []
    inputs: list[onnx.ValueInfoProto] = []
    for i, value in enumerate(case.inputs):
        if value is None:
            continue
        if i in case.constants:
            initializers.append(numpy_helper.from_array(value, names[i]))
        else:
            feeds[names[i]] = value
            kind = helper.np_dtype_to_tensor_dtype(value.dtype)
            inputs.append(helper.make_tensor_value_info(names[i], kind, value.shape))
    results = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = helper.make_graph([node], "g", inputs, results, initializers)
    opsets = [helper.make_opsetid("", case.opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return model, feeds


def check(case: Case) -> None:
    """Integers equal; floats equal up to the rounding of sums in another order."""
    model, feeds = model_of(case)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted: list[Array] = session.run(None, feeds)
    module = import_model(model, "model", Path())
    module.verify()
    results = run_module(module, *feeds.values())
    for result, reference in zip(results, wanted, strict=True):
        assert result.dtype == reference.dtype
        assert result.shape == reference.shape
        if result.dtype.kind != "f":
            difference = np.abs(result.astype(np.int64) - reference.astype(np.int64))
            assert difference.max(initial=0) <= case.steps
            continue
        size = float(np.abs(reference[np.isfinite(reference)]).max(initial=1))
        np.testing.assert_allclose(result, reference, rtol=case.relative, atol=case.relative * size)


def integers(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high)


def random(draw: Draw, shape: Sequence[int], dtype: Any = np.float32) -> Array:
    """Numbers around 0, some of them 0, as after pruning and ReLU."""
    rng = np.random.default_rng(draw(integers(0, 2**32 - 1)))
    if np.dtype(dtype).kind in "iu":
        limits = np.iinfo(dtype)
        return np.asarray(
            rng.integers(max(limits.min, -1000), min(limits.max, 1000), shape, dtype, endpoint=True)
        )
    if dtype is np.bool_:
        return np.asarray(rng.random(shape) < 0.5)
    values = 2 * rng.standard_normal(shape)
    return np.asarray(values * (rng.random(shape) < 0.7), dtype)


def shape_of(draw: Draw, low: int = 1, high: int = 4, most: int = 5) -> tuple[int, ...]:
    return tuple(draw(integers(1, most)) for _ in range(draw(integers(low, high))))


def broadcasting(draw: Draw, shape: Sequence[int]) -> tuple[int, ...]:
    """A shape that broadcasts with this one."""
    kept = shape[draw(integers(0, len(shape))) :]
    return tuple(1 if draw(st.booleans()) else d for d in kept)


# ---- element by element


def unary(kind: str, opset: int = 17, **attributes: Callable[[Draw], Any]) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        x = random(draw, shape_of(draw))
        if kind in ("Log", "Sqrt"):
            x = np.abs(x) + np.float32(0.1)
        if kind == "Reciprocal":
            x = np.where(x == 0, np.float32(1), x)
        return Case(kind, [x], {name: make(draw) for name, make in attributes.items()}, opset=opset)

    return case


def binary(kind: str, *dtypes: Any) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        dtype = draw(st.sampled_from(dtypes))
        shape = shape_of(draw)
        x, y = random(draw, shape, dtype), random(draw, broadcasting(draw, shape), dtype)
        if kind in ("Div", "Mod"):
            y = np.where(y == 0, np.asarray(3, dtype), y)
        attributes: dict[str, Any] = {}
        if kind == "Mod" and np.dtype(dtype).kind == "f":
            attributes["fmod"] = 1
        if kind == "Pow":
            x = np.abs(x)
        return Case(kind, [x, y], attributes, constants=[1] if draw(st.booleans()) else [])

    return case


def real(low: float, high: float) -> Callable[[Draw], float]:
    return lambda draw: float(np.float32(draw(st.floats(low, high))))


def clip(draw: Draw) -> Case:
    low = np.float32(draw(st.floats(-3, 1)))
    bounds = [np.asarray(low), np.asarray(low + np.float32(draw(st.floats(0, 4))))]
    given = [b if draw(st.booleans()) else None for b in bounds]
    return Case(
        "Clip", [random(draw, shape_of(draw)), *given], constants=[1, 2] if draw(st.booleans()) else []
    )


def old_clip(draw: Draw) -> Case:
    return Case("Clip", [random(draw, shape_of(draw))], {"min": -0.5, "max": 6.0}, opset=8)


def where(draw: Draw) -> Case:
    shape = shape_of(draw)
    condition = random(draw, broadcasting(draw, shape), np.bool_)
    return Case("Where", [condition, random(draw, shape), random(draw, broadcasting(draw, shape))])


def prelu(draw: Draw) -> Case:
    shape = shape_of(draw, 2)
    return Case("PRelu", [random(draw, shape), random(draw, broadcasting(draw, shape))], constants=[1])


def cast(draw: Draw) -> Case:
    kinds = [TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8, TensorProto.BOOL]
    source = draw(st.sampled_from([np.float32, np.int32, np.uint8, np.bool_]))
    x = random(draw, shape_of(draw), source)
    if source is np.float32:
        x = np.abs(x)  # a negative float as an unsigned byte is undefined in C
    return Case("Cast", [x], {"to": draw(st.sampled_from(kinds))})


# ---- products and windows


def matmul(draw: Draw) -> Case:
    batch = shape_of(draw, 0, 2, 3)
    m, k, n = (draw(integers(1, 6)) for _ in range(3))
    a = random(draw, (*batch, m, k))
    b = random(draw, (*broadcasting(draw, batch), k, n))
    constants = draw(st.sampled_from([[], [0], [1]]))
    return Case("MatMul", [a, b], constants=constants)


def gemm(draw: Draw) -> Case:
    m, k, n = (draw(integers(1, 6)) for _ in range(3))
    left, right = draw(st.booleans()), draw(st.booleans())
    a = random(draw, (k, m) if left else (m, k))
    b = random(draw, (n, k) if right else (k, n))
    c = draw(st.sampled_from([None, (n,), (1, n), (m, 1), (m, n), (1,), ()]))
    attributes = {
        "transA": int(left), "transB": int(right),
        "alpha": draw(st.sampled_from([1.0, 0.5])), "beta": draw(st.sampled_from([1.0, 2.0])),
    }  # fmt: skip
    constants = draw(st.sampled_from([[], [1], [1, 2], [2]]))
    return Case("Gemm", [a, b, None if c is None else random(draw, c)], attributes, constants)


def windows(draw: Draw, rank: int, dilated: bool = True) -> dict[str, Any]:
    kernel = [draw(integers(1, 3)) for _ in range(rank)]
    attributes: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": [draw(integers(1, 3)) for _ in range(rank)],
    }
    if draw(st.booleans()):
        attributes["auto_pad"] = draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]))
        # onnxruntime's pooling fails when a stride jumps over elements.
        attributes["strides"] = [min(pair) for pair in zip(attributes["strides"], kernel, strict=True)]
        return attributes
    if dilated:
        attributes["dilations"] = [draw(integers(1, 2)) for _ in range(rank)]
    # Padding is smaller than the kernel, as onnxruntime's pooling demands.
    attributes["pads"] = [draw(integers(0, k - 1)) for k in kernel * 2]
    return attributes


def conv(draw: Draw) -> Case:
    rank = draw(integers(1, 2))
    groups, per_group, outputs = draw(integers(1, 3)), draw(integers(1, 2)), draw(integers(1, 3))
    attributes = windows(draw, rank) | {"group": groups}
    spatial = [draw(integers(5, 8)) for _ in range(rank)]
    x = random(draw, (draw(integers(1, 2)), groups * per_group, *spatial))
    w = random(draw, (groups * outputs, per_group, *attributes["kernel_shape"]))
    b = random(draw, (groups * outputs,)) if draw(st.booleans()) else None
    return Case("Conv", [x, w, b], attributes, constants=draw(st.sampled_from([[], [1], [1, 2]])))


def conv_transpose(draw: Draw) -> Case:
    rank = draw(integers(1, 2))
    groups, per_group, outputs = draw(integers(1, 2)), draw(integers(1, 2)), draw(integers(1, 3))
    size, kernel, strides = (draw(st.lists(integers(1, 4), min_size=rank, max_size=rank)) for _ in range(3))
    dilations = draw(st.lists(integers(1, 2), min_size=rank, max_size=rank))
    attributes: dict[str, Any] = {"strides": strides, "dilations": dilations, "group": groups}
    full = [
        s * (n - 1) + d * (k - 1) + 1 for n, k, s, d in zip(size, kernel, strides, dilations, strict=True)
    ]
    match draw(st.sampled_from(["pads", "more", "auto_pad", "output_shape"])):
        case "pads":
            low = [draw(integers(0, min(2, f - 1))) for f in full]
            high = [draw(integers(0, min(2, f - 1 - p))) for f, p in zip(full, low, strict=True)]
            attributes["pads"] = [*low, *high]
        case "more":
            limits = [max(s, d) - 1 for s, d in zip(strides, dilations, strict=True)]
            attributes["output_padding"] = [draw(integers(0, most)) for most in limits]
        case "auto_pad":
            attributes["auto_pad"] = draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]))
        case _:
            attributes["output_shape"] = [draw(integers(max(1, f - 2), f)) for f in full]
    x = random(draw, (draw(integers(1, 2)), groups * per_group, *size))
    w = random(draw, (groups * per_group, outputs, *kernel))
    b = random(draw, (groups * outputs,))
    return Case("ConvTranspose", [x, w, b][: draw(integers(2, 3))], attributes, constants=[1, 2])


def pool(kind: str) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        rank = draw(integers(1, 2))
        attributes = windows(draw, rank, dilated=kind == "MaxPool")
        if "auto_pad" not in attributes:
            attributes["ceil_mode"] = draw(integers(0, 1))
        if kind == "AveragePool":
            attributes["count_include_pad"] = draw(integers(0, 1))
        x = random(draw, (draw(integers(1, 2)), 2, *(draw(integers(5, 9)) for _ in range(rank))))
        return Case(kind, [x], attributes, opset=19 if kind == "AveragePool" else 17)

    return case


# ---- layout


def reshape(draw: Draw) -> Case:
    shape = shape_of(draw, 2)
    wanted = list(draw(st.permutations(shape)))
    wanted[draw(integers(0, len(shape) - 1))] = -1
    return Case("Reshape", [random(draw, shape), np.array(wanted)], constants=[1])


def flatten(draw: Draw) -> Case:
    shape = shape_of(draw)
    return Case("Flatten", [random(draw, shape)], {"axis": draw(integers(-len(shape), len(shape)))})


def transpose(draw: Draw) -> Case:
    shape = shape_of(draw)
    return Case("Transpose", [random(draw, shape)], {"perm": draw(st.permutations(range(len(shape))))})


def squeeze(draw: Draw) -> Case:
    shape = (1, *shape_of(draw), 1)
    axes = draw(st.sampled_from([[0], [-1], [0, len(shape) - 1]]))
    return Case("Squeeze", [random(draw, shape), np.array(axes)], constants=[1])


def unsqueeze(draw: Draw) -> Case:
    shape = shape_of(draw)
    axes = draw(st.sampled_from([[0], [-1], [0, 2], [-1, 0]]))
    return Case("Unsqueeze", [random(draw, shape), np.array(axes)], constants=[1])


def concat(draw: Draw) -> Case:
    shape = shape_of(draw)
    axis = draw(integers(-len(shape), len(shape) - 1))
    parts: list[Array] = []
    for _ in range(draw(integers(1, 3))):
        part = list(shape)
        part[axis] = draw(integers(1, 4))
        parts.append(random(draw, part))
    return Case("Concat", parts, {"axis": axis})


def split(draw: Draw) -> Case:
    shape = list(shape_of(draw))
    axis = draw(integers(-len(shape), len(shape) - 1))
    parts = [draw(integers(1, 3)) for _ in range(draw(integers(1, 3)))]
    shape[axis] = sum(parts)
    return Case("Split", [random(draw, shape), np.array(parts)], {"axis": axis}, [1], outputs=len(parts))


def slice_(draw: Draw) -> Case:
    shape = shape_of(draw)
    count = draw(integers(1, len(shape)))
    axes = draw(st.permutations(range(len(shape))))[:count]
    starts = [draw(integers(-6, 6)) for _ in axes]
    ends = [draw(integers(-6, 6)) for _ in axes]
    steps = [draw(st.sampled_from([1, 2, -1, -2])) for _ in axes]
    lists = [np.array(values) for values in (starts, ends, axes, steps)]
    return Case("Slice", [random(draw, shape), *lists], constants=[1, 2, 3, 4])


def pad(draw: Draw) -> Case:
    mode = draw(st.sampled_from(["constant", "edge", "reflect"]))
    shape = tuple(draw(integers(3, 5)) for _ in range(draw(integers(1, 3))))
    pads = [draw(integers(0, 2)) for _ in range(2 * len(shape))]
    value = np.float32(1.5) if mode == "constant" and draw(st.booleans()) else None
    inputs = [random(draw, shape), np.array(pads), None if value is None else np.asarray(value)]
    return Case("Pad", inputs, {"mode": mode}, constants=[1, 2])


def gather(draw: Draw) -> Case:
    shape = shape_of(draw)
    axis: int = draw(integers(-len(shape), len(shape) - 1))
    extent = shape[axis]
    count = shape_of(draw, 0, 2, 3)
    size = math.prod(count)
    values = [draw(integers(-extent, extent - 1)) for _ in range(size)]
    indices = np.array(values, np.int64).reshape(count)
    return Case("Gather", [random(draw, shape), indices], {"axis": axis}, [1] if draw(st.booleans()) else [])


def expand(draw: Draw) -> Case:
    shape = shape_of(draw)
    small = broadcasting(draw, shape)
    return Case("Expand", [random(draw, small), np.array(shape)], constants=[1])


def tile(draw: Draw) -> Case:
    shape = shape_of(draw, 1, 3)
    repeats = [draw(integers(1, 3)) for _ in shape]
    return Case("Tile", [random(draw, shape), np.array(repeats)], constants=[1])


def resize(draw: Draw) -> Case:
    shape = (1, 2, draw(integers(1, 5)), draw(integers(1, 5)))
    attributes = {
        "mode": "nearest",
        "coordinate_transformation_mode": draw(st.sampled_from(["half_pixel", "asymmetric"])),
        "nearest_mode": draw(st.sampled_from(["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])),
    }
    scales = np.array(
        [1, 1, draw(st.sampled_from([0.5, 1, 2, 3])), draw(st.sampled_from([1, 2]))], np.float32
    )
    if int(shape[2] * scales[2]) == 0:
        scales[2] = 1
    return Case("Resize", [random(draw, shape), None, scales], attributes, constants=[2])


# ---- reductions and normalisation


def reduction(kind: str) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        shape = shape_of(draw)
        axes = draw(st.permutations(range(len(shape))))[: draw(integers(1, len(shape)))]
        x = random(draw, shape)
        if kind == "ReduceLogSum":
            x = np.abs(x) + np.float32(0.1)
        return Case(kind, [x, np.array(axes)], {"keepdims": draw(integers(0, 1))}, [1], opset=18)

    return case


def arg(kind: str) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        shape = shape_of(draw)
        attributes = {
            "axis": draw(integers(-len(shape), len(shape) - 1)), "keepdims": draw(integers(0, 1)),
            "select_last_index": draw(integers(0, 1)),
        }  # fmt: skip
        return Case(kind, [random(draw, shape)], attributes)

    return case


def global_pool(kind: str) -> Callable[[Draw], Case]:
    return lambda draw: Case(kind, [random(draw, shape_of(draw, 3, 4))])


def softmax(kind: str) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        shape = shape_of(draw)
        axis = draw(integers(-len(shape), len(shape) - 1))
        return Case(kind, [random(draw, shape)], {"axis": axis}, opset=draw(st.sampled_from([8, 11, 13])))

    return case


def layer_norm(draw: Draw) -> Case:
    shape = shape_of(draw)
    axis = draw(integers(-len(shape), len(shape) - 1))
    scale = random(draw, shape[axis % len(shape) :])
    bias = random(draw, scale.shape) if draw(st.booleans()) else None
    case = Case("LayerNormalization", [random(draw, shape), scale, bias], {"axis": axis, "epsilon": 1e-3})
    case.relative = 1e-4
    return case


def batch_norm(draw: Draw) -> Case:
    shape = shape_of(draw, 2)
    scale, bias, mean, variance = (random(draw, shape[1:2]) for _ in range(4))
    variance = np.abs(variance) + np.float32(0.1)
    return Case("BatchNormalization", [random(draw, shape), scale, bias, mean, variance], {"epsilon": 1e-3})


def instance_norm(draw: Draw) -> Case:
    shape = shape_of(draw, 3)
    inputs = [random(draw, shape), random(draw, shape[1:2]), random(draw, shape[1:2])]
    return Case("InstanceNormalization", inputs, {"epsilon": 0.1}, relative=1e-4)


def lrn(draw: Draw) -> Case:
    attributes = {"size": draw(st.sampled_from([1, 3, 5])), "alpha": 0.1, "beta": 0.5, "bias": 2.0}
    return Case("LRN", [random(draw, (1, draw(integers(1, 6)), 3, 2))], attributes)


# ---- bytes


def scales(draw: Draw, count: int | None) -> Array:
    rng = np.random.default_rng(draw(integers(0, 2**32 - 1)))
    return np.asarray(rng.uniform(0.01, 0.1, () if count is None else count), np.float32)


def byte(draw: Draw) -> Any:
    return draw(st.sampled_from([np.int8, np.uint8]))


def quantize(draw: Draw) -> Case:
    shape = shape_of(draw, 2)
    axis = draw(st.sampled_from([None, 1]))
    scale = scales(draw, None if axis is None else shape[1])
    zero = random(draw, scale.shape, byte(draw))
    return Case("QuantizeLinear", [random(draw, shape), scale, zero], {"axis": 1}, [1, 2])


def dequantize(draw: Draw) -> Case:
    shape, dtype = shape_of(draw, 2), byte(draw)
    axis = draw(st.sampled_from([None, 1]))
    scale = scales(draw, None if axis is None else shape[1])
    zero = random(draw, scale.shape, dtype)
    constants = draw(st.sampled_from([[], [1, 2]]))
    return Case("DequantizeLinear", [random(draw, shape, dtype), scale, zero], {"axis": 1}, constants)


def dynamic_quantize(draw: Draw) -> Case:
    return Case("DynamicQuantizeLinear", [random(draw, shape_of(draw))], outputs=3)


def qlinear_conv(draw: Draw) -> Case:
    attributes = windows(draw, 2)
    channels, outputs, dtype = draw(integers(1, 3)), draw(integers(1, 4)), byte(draw)
    weight_type = dtype if dtype is np.uint8 else np.int8
    per_channel = weight_type is np.int8 and draw(st.booleans())
    x = random(draw, (1, channels, draw(integers(5, 7)), draw(integers(5, 7))), dtype)
    w = random(draw, (outputs, channels, *attributes["kernel_shape"]), weight_type)
    w_scale = scales(draw, outputs if per_channel else None)
    w_zero = np.zeros(w_scale.shape, np.int8) if weight_type is np.int8 else random(draw, (), np.uint8)
    bias = random(draw, (outputs,), np.int32)
    inputs = [x, scales(draw, None), random(draw, (), dtype), w, w_scale, w_zero,
              scales(draw, None), random(draw, (), dtype), bias]  # fmt: skip
    return Case("QLinearConv", inputs, attributes, range(1, 9))


def qlinear_matmul(draw: Draw) -> Case:
    m, k, n = (draw(integers(1, 6)) for _ in range(3))
    dtype = byte(draw)
    a, b = random(draw, (m, k), dtype), random(draw, (k, n), dtype)
    inputs = [a, scales(draw, None), random(draw, (), dtype), b, scales(draw, None),
              random(draw, (), dtype), scales(draw, None), random(draw, (), dtype)]  # fmt: skip
    return Case("QLinearMatMul", inputs, constants=range(1, 8))


def matmul_integer(draw: Draw) -> Case:
    m, k, n = (draw(integers(1, 6)) for _ in range(3))
    b_type = byte(draw)
    a, b = random(draw, (m, k), np.uint8), random(draw, (k, n), b_type)
    b_zero = random(draw, draw(st.sampled_from([(), (n,)])), b_type)
    constants = draw(st.sampled_from([[], [1, 2, 3]]))
    return Case("MatMulInteger", [a, b, random(draw, (), np.uint8), b_zero], constants=constants)


def conv_integer(draw: Draw) -> Case:
    attributes = windows(draw, 2)
    x = random(draw, (1, 2, 6, 5), np.uint8)
    w = random(draw, (3, 2, *attributes["kernel_shape"]), np.uint8)
    inputs = [x, w, random(draw, (), np.uint8), random(draw, (), np.uint8)]
    return Case("ConvInteger", inputs, attributes, constants=[1, 2, 3])


def contrib(
    kind: str, shapes: Callable[[Draw], Sequence[Sequence[int]]], **attributes: Any
) -> Callable[[Draw], Case]:
    """An operator of onnxruntime on bytes: operands with scale and zero point, then those of the result."""

    def case(draw: Draw) -> Case:
        dtype = byte(draw)
        inputs: list[Array | None] = []
        for shape in shapes(draw):
            inputs += [random(draw, shape, dtype), scales(draw, None), random(draw, (), dtype)]
        result = [scales(draw, None), random(draw, (), dtype)]
        if kind == "QLinearSigmoid" or kind == "QLinearSoftmax":
            result = [np.asarray(np.float32(1 / 256)), np.asarray(0 if dtype is np.uint8 else -128, dtype)]
        if kind == "QLinearSoftmax":
            inputs[1] = np.asarray(np.float32(0.01))  # onnxruntime's bytes wrap around where one is all
        inputs = [*result, *inputs] if kind == "QLinearConcat" else [*inputs, *result]
        if kind == "QGemm":
            inputs.insert(6, random(draw, (inputs[3].shape[0],), np.int32))  # pyright: ignore[reportOptionalMemberAccess]
        first = 2 if kind == "QLinearConcat" else 0
        constants = [i for i in range(len(inputs)) if i != first and (i < 9 or first)]
        if kind in ("QLinearAdd", "QLinearMul", "QLinearConcat"):
            constants.remove(first + 3)
        return Case(kind, inputs, attributes, constants, domain="com.microsoft", steps=1)

    return case


def two_of(draw: Draw) -> list[tuple[int, ...]]:
    shape = shape_of(draw)
    return [shape, shape]


def matrices(draw: Draw) -> list[tuple[int, ...]]:
    m, k, n = (draw(integers(1, 6)) for _ in range(3))
    return [(m, k), (n, k)]


def image(draw: Draw) -> list[tuple[int, ...]]:
    return [(1, 2, draw(integers(3, 6)), draw(integers(3, 6)))]


# ---- recurrent


def recurrent(kind: str, gates: int) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        steps, batch, inputs, hidden = (draw(integers(1, 4)) for _ in range(4))
        direction = draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
        count = 2 if direction == "bidirectional" else 1
        x = random(draw, (steps, batch, inputs))
        w, r = random(draw, (count, gates * hidden, inputs)), random(draw, (count, gates * hidden, hidden))
        b = random(draw, (count, 2 * gates * hidden)) if draw(st.booleans()) else None
        state = [random(draw, (count, batch, hidden)) if draw(st.booleans()) else None]
        attributes: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
        if kind == "LSTM":
            state.append(state[0])
            state.append(random(draw, (count, 3 * hidden)) if draw(st.booleans()) else None)
        if kind == "GRU":
            attributes["linear_before_reset"] = draw(integers(0, 1))
        if draw(st.booleans()):
            attributes["clip"] = 1.5
        given = [x, w, r, b, None, *state]
        outputs = 3 if kind == "LSTM" else 2
        # onnxruntime approximates tanh and the sigmoid function.
        return Case(kind, given, attributes, [1, 2, 3, 7], outputs, opset=14, relative=1e-4)

    return case


def either(*values: Any) -> Callable[[Draw], Any]:
    return lambda draw: draw(st.sampled_from(values))


UNARY = (
    "Abs",
    "Ceil",
    "Cos",
    "Erf",
    "Exp",
    "Floor",
    "HardSwish",
    "Identity",
    "Log",
    "Neg",
    "Reciprocal",
    "Relu",
    "Round",
    "Sigmoid",
    "Sign",
    "Sin",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Tanh",
)
REDUCTIONS = (
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
)
COMPARISONS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
NUMBERS = (np.float32, np.int32, np.int64)

CASES: dict[str, Callable[[Draw], Case]] = {
    **{name: unary(name) for name in UNARY},
    **{name: binary(name, *NUMBERS) for name in ("Add", "Div", "Max", "Min", "Mod", "Mul", "Sub")},
    **{name: binary(name, *NUMBERS) for name in COMPARISONS},
    **{name: binary(name, np.bool_) for name in ("And", "Or", "Xor")},
    **{name: reduction(name) for name in REDUCTIONS},
    "ArgMax": arg("ArgMax"),
    "ArgMin": arg("ArgMin"),
    "AveragePool": pool("AveragePool"),
    "BatchNormalization": batch_norm,
    "Cast": cast,
    "Celu": unary("Celu", alpha=real(0.5, 2)),
    "Clip": clip,
    "Clip-8": old_clip,
    "Concat": concat,
    "Conv": conv,
    "ConvInteger": conv_integer,
    "ConvTranspose": conv_transpose,
    "DequantizeLinear": dequantize,
    "DynamicQuantizeLinear": dynamic_quantize,
    "Elu": unary("Elu", alpha=real(0.1, 2)),
    "Expand": expand,
    "Flatten": flatten,
    "GRU": recurrent("GRU", 3),
    "Gather": gather,
    "Gelu": unary("Gelu", 20, approximate=either("none", "tanh")),
    "Gemm": gemm,
    "GlobalAveragePool": global_pool("GlobalAveragePool"),
    "GlobalMaxPool": global_pool("GlobalMaxPool"),
    "HardSigmoid": unary("HardSigmoid", alpha=real(0.1, 1), beta=real(0, 1)),
    "InstanceNormalization": instance_norm,
    "LRN": lrn,
    "LSTM": recurrent("LSTM", 4),
    "LayerNormalization": layer_norm,
    "LeakyRelu": unary("LeakyRelu", alpha=real(0, 1)),
    "LogSoftmax": softmax("LogSoftmax"),
    "MatMul": matmul,
    "MatMulInteger": matmul_integer,
    "MaxPool": pool("MaxPool"),
    "Mish": unary("Mish", 18),
    "PRelu": prelu,
    "Pad": pad,
    "Pow": binary("Pow", np.float32),
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    "QuantizeLinear": quantize,
    "QGemm": contrib("QGemm", matrices, transB=1),
    "QLinearAdd": contrib("QLinearAdd", two_of),
    "QLinearAveragePool": contrib("QLinearAveragePool", image, kernel_shape=[2, 2]),
    "QLinearConcat": contrib("QLinearConcat", two_of, axis=0),
    "QLinearGlobalAveragePool": contrib("QLinearGlobalAveragePool", image),
    "QLinearLeakyRelu": contrib("QLinearLeakyRelu", lambda draw: [shape_of(draw)], alpha=0.1),
    "QLinearMul": contrib("QLinearMul", two_of),
    "QLinearSigmoid": contrib("QLinearSigmoid", lambda draw: [shape_of(draw)]),
    "QLinearSoftmax": contrib("QLinearSoftmax", lambda draw: [(*shape_of(draw), 3)], axis=-1, opset=13),
    "RNN": recurrent("RNN", 1),
    "Reshape": reshape,
    "Resize": resize,
    "Selu": unary("Selu", alpha=real(0.5, 2), gamma=real(0.5, 2)),
    "Slice": slice_,
    "Softmax": softmax("Softmax"),
    "Split": split,
    "Squeeze": squeeze,
    "ThresholdedRelu": unary("ThresholdedRelu", alpha=real(0, 1)),
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
    "Where": where,
}


@pytest.mark.parametrize("name", CASES)
def test_operator_gives_what_onnxruntime_gives(name: str):
    @settings(max_examples=12, deadline=None, database=None)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        check(CASES[name](data.draw))

    holds()
