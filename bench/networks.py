"""ONNX models of the networks that are kept as arrays: keyword spotting, SqueezeNet, a graph convolution.

Each function takes the arrays of one `.npz` file (a mapping of names) and returns a model; weights stay as
they are stored: bytes behind DequantizeLinear, the graph as a sparse initializer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
Arrays = Mapping[str, Array]

OPSET = 17


class _Writer:
    """Nodes and constants of a graph; every node has one output, of its own name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.sparse: list[onnx.SparseTensorProto] = []

    def node(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, values: Array) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def model(self, inputs: Mapping[str, tuple[int, Sequence[int | str]]], output: str) -> onnx.ModelProto:
        values = [helper.make_tensor_value_info(n, kind, shape) for n, (kind, shape) in inputs.items()]
        result = onnx.ValueInfoProto(name=output)
        graph = helper.make_graph(
            self.nodes, "network", values, [result], self.constants, sparse_initializer=self.sparse
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def _layers(arrays: Arrays) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", json.loads(str(arrays["layers"])))


def keyword_spotting(z: Arrays, quantised: bool) -> onnx.ModelProto:
    """The DS-CNN: input "features" [N, 490] of bytes, output 12 scores.

    quantised: results of layers are rounded to their bytes, too; otherwise only the weights are bytes.
    """
    w = _Writer()

    def parameter(name: str, values: Array, scale: Array, axis: int) -> str:
        scales = np.ascontiguousarray(scale.ravel(), np.float32)
        constant = w.constant(name, values)
        factor = w.constant(f"{name}_scale", scales if scales.size > 1 else scales.reshape(()))
        return w.node("DequantizeLinear", [constant, factor], f"{name}_real", axis=axis)

    scale, zero = w.constant("in_scale", z["in_scale"]), w.constant("in_zero", z["in_zero"].astype(np.int8))
    x = w.node("DequantizeLinear", ["features", scale, zero], "real")
    x = w.node("Reshape", [x, w.constant("image", np.array([-1, 1, 49, 10]))], "image_of_features")
    for i, layer in enumerate(_layers(z)):
        if layer["op"] == "mean":
            x = w.node("GlobalAveragePool", [x], "mean")
            x = w.node("Flatten", [x], "flat")
            continue
        # Stored as (outputs, rows, columns, channels); of depthwise layers the channels are the outputs.
        depthwise = layer["op"] == "dwconv"
        weight = z[f"{i}_w"]
        if layer["op"] != "fc":
            weight = weight.transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2))
        inputs = [
            x,
            parameter(f"w{i}", weight, z[f"{i}_wscale"], 0),
            parameter(f"b{i}", z[f"{i}_b"], z[f"{i}_bscale"], 0),
        ]
        if layer["op"] == "fc":
            x = w.node("Gemm", inputs, f"layer{i}", transB=1)
        else:
            x = w.node(
                "Conv", inputs, f"layer{i}", strides=[layer["stride"]] * 2, auto_pad="SAME_UPPER",
                group=len(weight) if depthwise else 1,
            )  # fmt: skip
        if layer["relu"]:
            x = w.node("Relu", [x], f"relu{i}")
        if quantised:
            scale = w.constant(f"scale{i}", z[f"{i}_outscale"])
            zero = w.constant(f"zero{i}", z[f"{i}_outzero"].astype(np.int8))
            x = w.node("QuantizeLinear", [x, scale, zero], f"bytes{i}")
            x = w.node("DequantizeLinear", [x, scale, zero], f"real{i}")
    return w.model({"features": (TensorProto.INT8, ["N", 490])}, x)


def squeezenet(z: Arrays) -> onnx.ModelProto:
    """SqueezeNet: input "data" [N, 3, 227, 227], BGR with the mean taken off; output 1000 scores."""
    w = _Writer()
    last = ""
    for i, layer in enumerate(_layers(z)):
        name, inputs = layer.get("name", layer["out"]), [source for source in layer["in"]]
        if layer["op"] == "conv":
            weight = w.constant(f"{name}.weight", z[f"{i}_book"][z[f"{i}_code"]])
            inputs = [*inputs, weight, w.constant(f"{name}.bias", z[f"{i}_b"])]
            result = f"{name}.sum" if layer["relu"] else layer["out"]
            pads, strides = [layer["pad"]] * 4, [layer["stride"]] * 2
            last = w.node("Conv", inputs, result, strides=strides, pads=pads)
            if layer["relu"]:
                last = w.node("Relu", [last], layer["out"])
        elif layer["op"] == "maxpool":
            kernel, strides = [layer["k"]] * 2, [layer["stride"]] * 2
            last = w.node("MaxPool", inputs, layer["out"], kernel_shape=kernel, strides=strides, ceil_mode=1)
        elif layer["op"] == "concat":
            last = w.node("Concat", inputs, layer["out"], axis=1)
        else:
            last = w.node("Flatten", [w.node("GlobalAveragePool", inputs, "mean")], layer["out"])
    return w.model({"data": (TensorProto.FLOAT, ["N", 3, "H", "W"])}, last)


def squeezenet_input(image: Array) -> Array:
    """An image [H, W, 3] of RGB bytes as the network's input, [1, 3, H, W]."""
    mean = np.array([104, 117, 123], np.float32)
    return np.ascontiguousarray((image[:, :, ::-1].astype(np.float32) - mean).transpose(2, 0, 1)[None])


def graph_convolution(z: Arrays) -> onnx.ModelProto:
    """A (relu(A (X W0)) W1): the graph A is a sparse initializer, input "x" are the features of its nodes."""
    w = _Writer()
    rows = np.repeat(np.arange(len(z["A_indptr"]) - 1), np.diff(z["A_indptr"]))
    places = np.stack([rows, z["A_indices"]], axis=1).astype(np.int64)
    shape = [int(d) for d in z["A_shape"]]
    values = numpy_helper.from_array(z["A_data"], "a")
    w.sparse.append(helper.make_sparse_tensor(values, numpy_helper.from_array(places, "a_places"), shape))
    x = w.node("MatMul", ["x", w.constant("w0", z["W0"])], "project")
    x = w.node("Relu", [w.node("MatMul", ["a", x], "gather")], "relu")
    x = w.node("MatMul", [x, w.constant("w1", z["W1"])], "project2")
    features = [int(d) for d in z["X_shape"]]
    return w.model({"x": (TensorProto.FLOAT, features)}, w.node("MatMul", ["a", x], "gather2"))
