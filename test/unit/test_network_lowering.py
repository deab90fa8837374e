"""Operators of networks in the layouts and calls that are chosen for them: values as the interpreter's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from xdsl.context import Context
from xdsl.dialects import func

from sparsecc.codegen.network import name_of
from sparsecc.dialects.nn_base import Tensor
from sparsecc.importers.onnx_file import import_model
from sparsecc.interpreters.host import run
from sparsecc.interpreters.sparse import run_module
from sparsecc.network.storage import plan_storage
from sparsecc.passes.convert_nn_to_host import ConvertNnToHostPass

Array = NDArray[Any]
FLOAT = TensorProto.FLOAT
make_node: Any = helper.make_node


def weight(*shape: int, seed: int = 0, density: float = 0.4) -> Array:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape) * (rng.random(shape) < density)
    return values.astype(np.float32)


def model(
    shape: Sequence[int], nodes: Sequence[tuple[Any, ...]], constants: dict[str, Array] | None = None
) -> onnx.ModelProto:
    """A chain or graph: nodes (kind, inputs, output, attributes); the input is x, the output y."""
    made = [
        make_node(k, i, o if isinstance(o, list) else [o], name=f"{o}", **(a[0] if a else {}))
        for k, i, o, *a in nodes
    ]
    held = [numpy_helper.from_array(v, n) for n, v in (constants or {}).items()]
    x = helper.make_tensor_value_info("x", FLOAT, shape)
    graph = helper.make_graph(made, "g", [x], [onnx.ValueInfoProto(name="y")], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


IMAGE, ROWS, SEQUENCE = (3, 4, 6, 5), (5, 12), (2, 4, 6)
TO_FEATURES: list[tuple[Any, ...]] = [("Conv", ["x", "w"], "c", {"kernel_shape": [1, 1]})]
W1 = {"w": weight(4, 4, 1, 1)}


def after_conv(*nodes: tuple[Any, ...], **constants: Array) -> onnx.ModelProto:
    """Operators on a tensor that lies features first."""
    return model(IMAGE, [*TO_FEATURES, *nodes], W1 | constants)


def recurrent(
    kind: str, gates: int, attributes: dict[str, Any], directions: int = 1, peephole: bool = False
) -> onnx.ModelProto:
    """One layer of 5 states on a sequence, its outputs the product of another layer."""
    inputs, hidden = SEQUENCE[2], 5
    constants = {
        "w": weight(directions, gates * hidden, inputs),
        "r": weight(directions, gates * hidden, hidden, seed=1),
        "b": weight(directions, 2 * gates * hidden, seed=2),
        "h": weight(directions, SEQUENCE[1], hidden, seed=3, density=1),
        "v": weight(hidden, 3, seed=4),
    }
    names = ["x", "w", "r", "b", "", "h"]
    if peephole:
        constants |= {
            "c": weight(directions, SEQUENCE[1], hidden, seed=5),
            "p": weight(directions, 15, seed=6),
        }
        names += ["c", "p"]
    return model(
        SEQUENCE, [(kind, names, "l", {"hidden_size": hidden, **attributes}), ("MatMul", ["l", "v"], "y")],
        constants,
    )  # fmt: skip


CASES: dict[str, onnx.ModelProto] = {
    "gemm": model(
        ROWS, [("Gemm", ["x", "w", "b"], "y", {"transB": 1})], {"w": weight(7, 12), "b": weight(7)}
    ),
    "two gemms": model(
        ROWS,
        [("Gemm", ["x", "w"], "h"), ("Relu", ["h"], "r"), ("Gemm", ["r", "v"], "y")],
        {"w": weight(12, 9), "v": weight(9, 4)},
    ),
    "matmul of a sequence": model(SEQUENCE, [("MatMul", ["x", "w"], "y")], {"w": weight(6, 8)}),
    "constant on the left": model((6, 4), [("MatMul", ["w", "x"], "y")], {"w": weight(9, 6)}),
    "attention": model(
        SEQUENCE,
        [
            ("MatMul", ["x", "w"], "q"), ("Transpose", ["x"], "k", {"perm": [0, 2, 1]}),
            ("MatMul", ["q", "k"], "s"), ("Softmax", ["s"], "p", {"axis": -1}), ("MatMul", ["p", "q"], "y"),
        ],
        {"w": weight(6, 6)},
    ),
    "conv": model(
        IMAGE,
        [("Conv", ["x", "w", "b"], "y", {"strides": [2, 1], "pads": [1, 0, 2, 1], "dilations": [1, 2]})],
        {"w": weight(6, 4, 3, 2), "b": weight(6)},
    ),
    "conv of one axis": model(
        (2, 3, 9), [("Conv", ["x", "w"], "y", {"pads": [1, 1]})], {"w": weight(4, 3, 3)}
    ),
    "conv in groups": model(IMAGE, [("Conv", ["x", "w"], "y", {"group": 2})], {"w": weight(6, 2, 3, 3)}),
    "depthwise conv": model(
        IMAGE, [("Conv", ["x", "w", "b"], "y", {"group": 4})], {"w": weight(8, 1, 3, 3), "b": weight(8)}
    ),
    "conv with unused patches": model(
        IMAGE, [("Conv", ["x", "w"], "y")], {"w": weight(5, 4, 2, 2) * np.array([[1, 0], [0, 1]], np.float32)}
    ),
    "conv of zeros": model(IMAGE, [("Conv", ["x", "w"], "y")], {"w": np.zeros((2, 4, 3, 3), np.float32)}),
    "flatten": after_conv(("Flatten", ["c"], "f"), ("Gemm", ["f", "v"], "y"), v=weight(120, 3)),
    "pools": after_conv(
        ("MaxPool", ["c"], "m", {"kernel_shape": [2, 2], "pads": [0, 1, 1, 0]}),
        ("AveragePool", ["m"], "y", {"kernel_shape": [3, 2], "strides": [2, 1], "count_include_pad": 1}),
    ),
    "pool of the input": model(IMAGE, [("MaxPool", ["x"], "y", {"kernel_shape": [2, 3], "ceil_mode": 1})]),
    "global pool": after_conv(("GlobalAveragePool", ["c"], "y")),
    "batch norm": after_conv(
        ("BatchNormalization", ["c", "s", "b", "m", "v"], "y"),
        s=weight(4, density=1), b=weight(4, seed=1), m=weight(4, seed=2), v=np.abs(weight(4, seed=3)),
    ),
    "layer norm": model(
        SEQUENCE,
        [
            ("MatMul", ["x", "w"], "h"),
            ("LayerNormalization", ["h", "s", "b"], "y", {"axis": -1}),
        ],
        {"w": weight(6, 6), "s": weight(6, density=1), "b": weight(6, seed=1)},
    ),
    "add in two layouts": after_conv(("Add", ["c", "x"], "y")),
    "broadcasts": after_conv(
        ("Mul", ["c", "p"], "a"), ("Add", ["a", "q"], "b"), ("Sub", ["r", "b"], "y"),
        p=weight(4, 1, 1, density=1), q=weight(5, density=1), r=weight(3, 1, 6, 1, density=1),
    ),
    "concat and slice": after_conv(
        ("Concat", ["c", "x", "c"], "k", {"axis": 1}), ("Slice", ["k", "from", "to", "axes", "by"], "y"),
        **{"from": np.array([10, 0]), "to": np.array([1, 6])},
        **{"axes": np.array([1, 2]), "by": np.array([-2, 3])},
    ),
    "pad": after_conv(
        ("Pad", ["c", "by", "v"], "y"), by=np.array([0, 1, 2, 0, 1, 0, 1, 3]), v=np.array(2.5, np.float32)
    ),
    "reflect": after_conv(
        ("Pad", ["c", "by"], "y", {"mode": "reflect"}), by=np.array([0, 0, 2, 1, 0, 0, 1, 3])
    ),
    "gather": after_conv(("Gather", ["c", "i"], "y", {"axis": 2}), i=np.array([[5, 0], [-1, 2]])),
    "transpose and reshape": after_conv(
        ("Transpose", ["c"], "t", {"perm": [2, 0, 3, 1]}), ("Reshape", ["t", "s"], "y"),
        s=np.array([6, 3, 20]),
    ),
    "reductions": after_conv(
        ("ReduceMean", ["c"], "m", {"axes": [2, 3], "keepdims": 1}), ("ReduceMax", ["c"], "n", {"axes": [0]}),
        ("Add", ["m", "n"], "y"),
    ),
    "argmax": after_conv(("ArgMax", ["c"], "i", {"axis": 1}), ("Cast", ["i"], "y", {"to": FLOAT})),
    "softmax of channels": after_conv(("Softmax", ["c"], "y", {"axis": 1})),
    "activations": after_conv(
        ("LeakyRelu", ["c"], "a", {"alpha": 0.1}), ("Sigmoid", ["a"], "b"), ("Elu", ["c"], "d"),
        ("HardSigmoid", ["b"], "e"), ("Clip", ["d", "lo", "hi"], "f"), ("Where", ["cond", "e", "f"], "y"),
        lo=np.array(-0.5, np.float32), hi=np.array(0.75, np.float32), cond=weight(6, 5) != 0,
    ),
    "lstm": recurrent("LSTM", 4, {"direction": "reverse", "clip": 1.5}, peephole=True),
    "lstm both ways": recurrent("LSTM", 4, {"direction": "bidirectional", "input_forget": 1}, directions=2),
    "gru": recurrent("GRU", 3, {"activations": ["HardSigmoid", "Softsign"]}),
    "gru with its product first": recurrent("GRU", 3, {"linear_before_reset": 1}),
    "rnn": recurrent("RNN", 1, {"activations": ["Relu"], "clip": 0.7}),
    "quantised as it runs": model(
        SEQUENCE,
        [
            ("DynamicQuantizeLinear", ["x"], ["q", "qs", "qz"]),
            ("Transpose", ["q"], "k", {"perm": [0, 2, 1]}),
            ("MatMulInteger", ["q", "k", "qz", "qz"], "d"), ("Cast", ["d"], "f", {"to": FLOAT}),
            ("Mul", ["f", "qs"], "s"), ("DequantizeLinear", ["q", "qs", "qz"], "r"),
            ("MatMul", ["s", "r"], "y"),
        ],
    ),
    "instance norm": model(
        IMAGE, [("InstanceNormalization", ["x", "s", "b"], "y")],
        {"s": weight(4, density=1), "b": weight(4, seed=1, density=1)},
    ),
    "vectors": model(
        ROWS,
        [
            ("Slice", ["x", "zero", "one", "zero"], "r"), ("Squeeze", ["r", "zero"], "v"),
            ("MatMul", ["x", "v"], "p"), ("MatMul", ["p", "x"], "q"), ("MatMul", ["q", "v"], "y"),
        ],
        {"zero": np.array([0]), "one": np.array([1])},
    ),
    "expand": model(ROWS, [("Expand", ["x", "s"], "y")], {"s": np.array([3, 5, 12])}),
    "the input itself": model(ROWS, [("Identity", ["x"], "y")]),
}  # fmt: skip


def lowered(proto: onnx.ModelProto, target: str = "scalesim-ws16"):
    module = import_model(proto, "model", Path())
    before = module.clone()
    ConvertNnToHostPass(target=target).apply(Context(), module)
    module.verify()
    main = next(op for op in module.ops if isinstance(op, func.FuncOp) and op.sym_name.data == "main")
    return before, module, main


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("target", ["scalesim-ws16", "ascend910"])
def test_values_are_the_networks(case: str, target: str):
    before, module, main = lowered(CASES[case], target)
    shape = cast(Tensor, main.body.block.args[0].type).get_shape()
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    (wanted,) = run_module(before, x)
    found = run(module, main, [x], rounded_weights=True)
    output = cast(func.ReturnOp, main.body.block.last_op).operands[0]
    result, bound = found.array(output), found.errors[output]
    assert result.shape == wanted.shape
    if case == "argmax" and target == "ascend910":
        return  # rounding may choose another place
    tolerance = 2e-2 if target == "ascend910" else 1e-5
    np.testing.assert_allclose(result, wanted, rtol=tolerance, atol=tolerance)
    if bound is not None:
        assert (np.abs(result - wanted).reshape(-1) <= 2 * bound + 1e-30).all()
    plan_storage(main)


def test_nothing_is_transposed_inside_a_network():
    _, module, main = lowered(
        after_conv(
            ("Relu", ["c"], "r"), ("MaxPool", ["r"], "m", {"kernel_shape": [2, 2]}), ("Flatten", ["m"], "f"),
            ("Gemm", ["f", "v"], "g"), ("Relu", ["g"], "y"), v=weight(80, 3),
        )
    )  # fmt: skip
    why = [str(op.attributes["reorders"]) for op in main.body.block.ops if "reorders" in op.attributes]
    assert why == ['"the product needs its features outermost"', '"the output is in the layout of the model"']
    names = [name_of(op) for op in main.body.block.ops if "reorders" in op.attributes]
    assert names == ["c", "output"]
    assert sum(op.name == "func.call" for op in module.walk()) == 2
