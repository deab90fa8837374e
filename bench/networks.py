"""ONNX models of networks kept as arrays: keyword spotting, SqueezeNet, graph convolution, sentence encoder.

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
            if quantised:
                # A mean of bytes keeps their scale.
                x = w.node("QuantizeLinear", [x, scale, zero], f"bytes{i}")
                x = w.node("DequantizeLinear", [x, scale, zero], f"real{i}")
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


def sentence_encoder(z: Arrays, length: int, heads: int = 12, epsilon: float = 1e-12) -> onnx.ModelProto:
    """A BERT encoder with mean pooling (MiniLM): inputs "ids", "mask" [N, length] of i64, output "embedding".

    z: tensors under the names of the model's safetensors; as many layers as it has. The embedding [N, hidden]
    has length 1. Positions where mask is 0 are neither attended to nor averaged.
    """
    w = _Writer()
    hidden = z["embeddings.word_embeddings.weight"].shape[1]
    wide = hidden // heads

    def number(name: str, value: float) -> str:
        return w.constant(name, np.array(value, np.float32))

    def shape(name: str, *extents: int) -> str:
        return w.constant(name, np.array(extents, np.int64))

    def dense(x: str, name: str) -> str:
        # Weights are stored [outputs, inputs].
        weight = w.constant(f"{name}.weight", z[f"{name}.weight"].T)
        x = w.node("MatMul", [x, weight], f"{name}.product")
        return w.node("Add", [x, w.constant(f"{name}.bias", z[f"{name}.bias"])], name)

    def normal(x: str, name: str) -> str:
        parameters = [w.constant(f"{name}.{part}", z[f"{name}.{part}"]) for part in ("weight", "bias")]
        return w.node("LayerNormalization", [x, *parameters], name, axis=-1, epsilon=epsilon)

    half, one, root = number("half", 0.5), number("one", 1.0), number("root_of_2", 2**0.5)
    apart, together = shape("heads", 0, 0, heads, wide), shape("whole", 0, 0, hidden)
    scale = number("scale", wide**-0.5)
    words = w.constant("words", z["embeddings.word_embeddings.weight"])
    places = (
        z["embeddings.position_embeddings.weight"][:length] + z["embeddings.token_type_embeddings.weight"][0]
    )
    x = w.node("Gather", [words, "ids"], "embedded", axis=0)
    x = normal(w.node("Add", [x, w.constant("places", places)], "placed"), "embeddings.LayerNorm")
    seen = w.node("Cast", ["mask"], "seen", to=TensorProto.FLOAT)
    hide = w.node("Mul", [w.node("Sub", [seen, one], "unseen"), number("far", 1e4)], "hide")
    hide = w.node("Unsqueeze", [hide, shape("of_keys", 1, 2)], "hide_keys")
    layers = sum(name.endswith("attention.self.query.weight") for name in z)
    for i in range(layers):
        at = f"encoder.layer.{i}"

        def split(part: str, perm: list[int], x: str = x, at: str = f"{at}.attention.self") -> str:
            y = w.node("Reshape", [dense(x, f"{at}.{part}"), apart], f"{at}.{part}.heads")
            return w.node("Transpose", [y], f"{at}.{part}.by_head", perm=perm)

        q, k, v = split("query", [0, 2, 1, 3]), split("key", [0, 2, 3, 1]), split("value", [0, 2, 1, 3])
        scores = w.node("Mul", [w.node("MatMul", [q, k], f"{at}.dots"), scale], f"{at}.scores")
        scores = w.node("Add", [scores, hide], f"{at}.masked")
        weights = w.node("Softmax", [scores], f"{at}.weights", axis=-1)
        y = w.node("MatMul", [weights, v], f"{at}.mixed")
        y = w.node("Transpose", [y], f"{at}.by_place", perm=[0, 2, 1, 3])
        y = dense(w.node("Reshape", [y, together], f"{at}.joined"), f"{at}.attention.output.dense")
        x = normal(w.node("Add", [y, x], f"{at}.attended"), f"{at}.attention.output.LayerNorm")
        y = dense(x, f"{at}.intermediate.dense")
        # GELU as exporters write it.
        inner = w.node("Erf", [w.node("Div", [y, root], f"{at}.gelu.divided")], f"{at}.gelu.erf")
        inner = w.node("Mul", [y, w.node("Add", [inner, one], f"{at}.gelu.shifted")], f"{at}.gelu.twice")
        y = dense(w.node("Mul", [inner, half], f"{at}.gelu"), f"{at}.output.dense")
        x = normal(w.node("Add", [y, x], f"{at}.sum"), f"{at}.output.LayerNorm")
    each = w.node("Unsqueeze", [seen, shape("of_features", 2)], "seen_places")
    axis = shape("places_axis", 1)
    total = w.node("ReduceSum", [w.node("Mul", [x, each], "counted"), axis], "total", keepdims=0)
    count = w.node("ReduceSum", [seen, axis], "count", keepdims=1)
    mean = w.node("Div", [total, w.node("Max", [count, number("least", 1e-9)], "count_or_least")], "mean")
    norm = w.node("ReduceL2", [mean], "norm", axes=[1], keepdims=1)
    y = w.node("Div", [mean, w.node("Max", [norm, number("tiny", 1e-12)], "norm_or_tiny")], "embedding")
    tokens = ["N", length]
    return w.model({"ids": (TensorProto.INT64, tokens), "mask": (TensorProto.INT64, tokens)}, y)
