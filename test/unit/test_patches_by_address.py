"""Convolutions on tensor units that find their patches by address: places, values, time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sparsecc.codegen.by_address import ByAddress, plans_by_width, program_of
from sparsecc.host.operator import Window
from sparsecc.host.ops import OPERATORS
from sparsecc.importers.matrix import make_csr
from sparsecc.interpreters import tu as interpreter
from sparsecc.network.tensor_unit import TensorUnitLayer
from sparsecc.network_compiler import NetworkArtifact, compile_network
from sparsecc.operator import Spmm
from sparsecc.schedule.strips import image_of

Array = NDArray[Any]
onnxruntime: Any = ort
library: Any = onnx


def extent(size: int, kernel: int, stride: int, dilation: int, pads: int) -> int:
    return (size + pads - (kernel - 1) * dilation - 1) // stride + 1


@st.composite
def windows(draw: st.DrawFn) -> tuple[Window, tuple[int, ...] | None]:
    """A window with results, and which of its rows of patches are used."""

    def number(low: int, high: int) -> int:
        return draw(st.integers(low, high))

    size, kernel = (number(1, 8), number(1, 8)), (number(1, 3), number(1, 3))
    stride, dilation, pads = (
        (number(1, 3), number(1, 3)),
        (number(1, 2), number(1, 2)),
        (number(0, 2), number(0, 2)),
    )
    after = number(0, 2), number(0, 2)
    out = [
        extent(s, k, t, d, p + a)
        for s, k, t, d, p, a in zip(size, kernel, stride, dilation, pads, after, strict=True)
    ]
    assume(min(out) >= 1)
    channels = number(1, 3)
    window = Window(
        channels, size[0], size[1], number(1, 3), out[0], out[1], kernel[0], kernel[1],
        stride[0], stride[1], dilation[0], dilation[1], pads[0], pads[1],
    )  # fmt: skip
    count = channels * kernel[0] * kernel[1]
    used = draw(st.none() | st.sets(st.integers(0, count - 1), min_size=1).map(sorted).map(tuple))
    return window, used


def unfolded(window: Window, rows: tuple[int, ...] | None, x: Array, fill: int = 0xFFFFFFFF) -> Array:
    """What host_im2col writes."""
    count = window.outer * window.kernel if rows is None else len(rows)
    y = np.empty(count * window.out_height * window.out_width * window.inner, np.int32)
    OPERATORS["host_im2col_4"].reference(y, x, window, rows, count, fill)
    return y


@given(windows())
@settings(deadline=None, max_examples=200)
def test_strips_of_the_image_are_the_patches(drawn: tuple[Window, tuple[int, ...] | None]):
    window, used = drawn
    x = np.arange(window.elements, dtype=np.int32)
    found = image_of(window, used)
    held = x if found.window is None else unfolded(found.window, found.rows, x)
    s = found.strips
    assert held.size == s.elements
    starts = s.places[:, None] + np.arange(s.strips) * s.step
    seen = held[starts[..., None] + np.arange(s.width)]
    assert (seen.reshape(-1) == unfolded(window, used, x)).all()


def weight_of(*shape: int, density: float = 0.6) -> Array:
    rng = np.random.default_rng(4)
    return (rng.standard_normal(shape) * (rng.random(shape) < density)).astype(np.float32)


def convolution(folder: Path, batch: int, size: tuple[int, int], weight: Array, **attributes: Any) -> Path:
    """Conv, bias, ReLU."""
    bias = weight_of(len(weight), density=1)
    channels = weight.shape[1] * attributes.get("group", 1)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", **attributes),
        helper.make_node("Relu", ["c"], ["y"], name="relu"),
    ]
    graph = helper.make_graph(
        nodes, "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, channels, *size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    library.save(model, str(folder / "one.onnx"))
    return folder / "one.onnx"


def only_layer(artifact: NetworkArtifact) -> TensorUnitLayer:
    (layer,) = artifact.layers
    return cast(TensorUnitLayer, layer)


TARGETS = ("gemmini16", "ascend910", "scalesim-ws16")
CASES: dict[str, tuple[tuple[str, ...], int, tuple[int, int], tuple[int, ...], Mapping[str, Any]]] = {
    "padded": (TARGETS, 1, (9, 21), (20, 6, 3, 3), {"pads": [1, 1, 1, 1]}),
    "in place": (("scalesim-ws16",), 3, (6, 8), (20, 6, 3, 3), {}),
    "strided": (TARGETS[:2], 2, (11, 13), (20, 6, 3, 3), {"strides": [2, 2], "pads": [1, 0, 1, 2]}),
    "dilated, in groups": (("ascend910",), 4, (9, 12), (12, 3, 3, 2), {"dilations": [2, 3], "group": 2}),
    # Its patches are fewer than the elements of the image.
    "written": (("ascend910",), 5, (7, 9), (24, 16, 1, 1), {"strides": [2, 3]}),
}


@pytest.mark.parametrize(("case", "target"), [(c, t) for c, (targets, *_) in CASES.items() for t in targets])
def test_values(case: str, target: str, tmp_path: Path):
    """Every value is that of onnxruntime within its bound, in bytes those of the integer network."""
    _, batch, size, shape, attributes = CASES[case]
    path = convolution(tmp_path, batch, size, weight_of(*shape), **attributes)
    channels = shape[1] * attributes.get("group", 1)
    x = np.random.default_rng(5).standard_normal((batch, channels, *size)).astype(np.float32)
    samples = {"x": x} if target == "gemmini16" else None
    artifact = compile_network(path, target=target, inputs=[x], effort=0, calibrate=samples)
    layer = only_layer(artifact)
    assert (layer.by_address is None) == (case == "written")
    assert layer.seconds <= replace(layer, by_address=None).seconds
    run = artifact.measurement
    assert run["products"][0]["cycles"] == layer.cycles
    assert run["check"]["values"] > 0
    found = np.asarray(artifact(x))
    (wanted,) = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(
        None, {"x": x}
    )
    if target == "gemmini16":
        assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()
    else:
        (bound,) = artifact.check.bounds
        assert bound is not None
        assert (np.abs(found - wanted) <= 2 * bound.reshape(wanted.shape)).all()


def test_covers_that_list_more_rows_than_there_are_patches(tmp_path: Path):
    """Rows of the result stand in the table that places are put into, and are no places."""
    rng = np.random.default_rng(4)
    weight = (rng.standard_normal((64, 32, 1, 1)) * (rng.random((64, 32, 1, 1)) < 0.05)).astype(np.float32)
    weight[rng.random(64) < 0.5] = 0
    path = convolution(tmp_path, 1, (8, 8), weight, pads=[1, 1, 1, 1])
    x = rng.standard_normal((1, 32, 8, 8)).astype(np.float32)
    artifact = compile_network(path, target="scalesim-ws16", inputs=[x])
    layer = only_layer(artifact)
    used = layer.spmm.cover().index
    assert layer.unfolding is not None
    assert used.max() >= len(layer.unfolding.image.strips.places)
    assert artifact.measurement["check"]["values"] > 0


@pytest.mark.parametrize("target", TARGETS)
def test_every_width_of_a_panel(target: str, tmp_path: Path):
    """Parts of a strip, and several strips side by side, give the same values."""
    weight = np.rint(4 * weight_of(40, 5, 3, 3))
    path = convolution(tmp_path, 2, (7, 20), weight, pads=[1, 1, 1, 1])
    x = np.random.default_rng(5).integers(-4, 5, (5, 7, 20, 2))
    samples = {"x": np.ones((2, 5, 7, 20), np.float32)} if target == "gemmini16" else None
    layer = only_layer(compile_network(path, target=target, effort=0, calibrate=samples))
    chip, spmm, unfolding = layer.artifact.target, layer.spmm, layer.unfolding
    assert unfolding is not None
    image = unfolding.image
    assert image.window is not None
    held = unfolded(image.window, image.rows, x.astype(np.int32).reshape(-1), 0).reshape(1, -1)
    patches = unfolded(unfolding.window, unfolding.rows, x.astype(np.int32).reshape(-1), 0)
    pattern, values = spmm.weight.pattern, spmm.weight.data.astype(np.float64)
    w: Any = make_csr(values, pattern.indices, pattern.indptr, spmm.weight.shape)
    epilogue = cast(Spmm, layer.artifact.operator).epilogue
    assert epilogue is not None
    sums = (w @ patches.reshape(w.shape[1], -1)).astype(np.int32 if target == "gemmini16" else np.float32)
    wanted = epilogue.apply(sums)
    plans = plans_by_width(spmm, image.strips, chip)
    widths = sorted(plan.knobs.panel_tiles for plan in plans)
    tiles = image.strips.tiles(chip.array.cols)
    assert widths[0] < tiles < widths[-1]
    for plan in plans:
        program = program_of(ByAddress(plan, image.strips, 0), spmm, chip)
        y = interpreter.run(program, (held.astype(spmm.weight.data.dtype),), chip)
        assert np.allclose(y.astype(np.float64), wanted, rtol=1e-3, atol=1e-2), plan.knobs
