"""sparse-propagate: outputs stay, and a brute-force oracle finds nothing more that is dead or constant.

The oracle runs networks: a channel of a value is constant if its elements agree over random inputs, and it is
not needed if no output changes when it is replaced. It knows nothing of operators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from propagate_cases import assert_outputs_stay, body, propagated
from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import DictionaryAttr, IntegerAttr, ModuleOp
from xdsl.ir import Block, SSAValue

from sparsecc.dialects.nn_base import NnOp, shape_of
from sparsecc.dialects.sparse import ConstantOp as MatrixOp
from sparsecc.importers.onnx_file import import_model, import_onnx
from sparsecc.interpreters.nn import evaluate
from sparsecc.interpreters.sparse import run_module
from sparsecc.passes.sparse_propagate import Network, SparsePropagatePass
from sparsecc.propagate.cuts import Link, reshaped, solve
from sparsecc.propagate.products import Product

Array = NDArray[Any]
Rng = np.random.Generator
MODELS = Path(__file__).resolve().parents[3] / "shared" / "data" / "models"
onnxruntime: Any = ort


class Writer:
    """A graph that grows node by node; channels of layers die at random."""

    def __init__(self, rng: Rng, shape: tuple[int, ...]):
        self.rng = rng
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.shapes: dict[str, tuple[int, ...]] = {"x": shape}

    def array(self, values: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(
        self, kind: str, *inputs: str, shape: tuple[int, ...], outputs: int = 1, **attributes: Any
    ) -> str:
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=names[0], **attributes))
        self.shapes[names[0]] = shape
        return names[0]

    def weight(self, *shape: int) -> Array:
        """Some rows, columns and entries are zeros; results are small, within the range of a sigmoid."""
        w = (self.rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        w[self.rng.random(shape[0]) < 0.3] = 0
        w[:, self.rng.random(shape[1]) < 0.25] = 0
        return np.where(self.rng.random(shape) < 0.8, w, np.float32(0))

    def bias(self, rows: int) -> list[str]:
        """None, zeros, or some numbers."""
        kind = self.rng.integers(3)
        values = self.rng.standard_normal(rows) * (self.rng.random(rows) < 0.6) * (kind == 2)
        return [self.array(values.astype(np.float32))] if kind else []

    def conv(self, x: str, outputs: int) -> str:
        n, c, *spatial = self.shapes[x]
        groups = int(self.rng.choice([g for g in (1, 1, c, 2) if c % g == 0 and outputs % g == 0]))
        kernel, pad = ((3, 1), (1, 0))[int(self.rng.integers(2))]
        w = self.weight(outputs, c // groups, kernel, kernel)
        return self.node(
            "Conv", x, self.array(w), *self.bias(outputs), shape=(n, outputs, *spatial),
            kernel_shape=[kernel] * 2, pads=[pad] * 4, group=groups,
        )  # fmt: skip

    def linear(self, x: str, outputs: int) -> str:
        n, k = self.shapes[x]
        operands = [x, self.array(self.weight(outputs, k)), *self.bias(outputs)]
        return self.node("Gemm", *operands, shape=(n, outputs), transB=1)

    def activation(self, x: str) -> str:
        """None that is constant over a range, and none that undoes a sum: no rule looks at either."""
        kind = str(self.rng.choice(["LeakyRelu", "Softsign", "Sigmoid"]))
        attributes: dict[str, Any] = {"alpha": 0.25} if kind == "LeakyRelu" else {}
        return self.node(kind, x, shape=self.shapes[x], **attributes)

    def norm(self, x: str) -> str:
        c = self.shapes[x][1]
        scale = self.rng.standard_normal(c) * (self.rng.random(c) < 0.8)
        parts = [scale, self.rng.standard_normal(c), self.rng.standard_normal(c), self.rng.random(c) + 0.5]
        arrays = [self.array(p.astype(np.float32)) for p in parts]
        return self.node("BatchNormalization", x, *arrays, shape=self.shapes[x])

    def masked(self, x: str) -> str:
        """Times a constant per channel, some 0, on either side."""
        shape = self.shapes[x]
        mask = self.rng.integers(0, 3, (shape[1], *[1] * (len(shape) - 2))).astype(np.float32)
        names = [x, self.array(mask)]
        return self.node("Mul", *names[:: 1 - 2 * int(self.rng.integers(2))], shape=shape)

    def concat(self, a: str, b: str) -> str:
        shape = (self.shapes[a][0], self.shapes[a][1] + self.shapes[b][1], *self.shapes[a][2:])
        return self.node("Concat", a, b, shape=shape, axis=1)

    def part(self, x: str) -> str:
        shape = self.shapes[x]
        low, high = sorted(self.rng.choice(shape[1] + 1, 2, replace=False).tolist())
        bounds = [self.array(np.array([v])) for v in (low, high, 1)]
        return self.node("Slice", x, *bounds, shape=(shape[0], high - low, *shape[2:]))

    def shuffled(self, x: str) -> str:
        """Channels in another order, some left out."""
        shape = self.shapes[x]
        order = self.rng.permutation(shape[1])[: int(self.rng.integers(1, shape[1] + 1))]
        return self.node("Gather", x, self.array(order), shape=(shape[0], len(order), *shape[2:]), axis=1)

    def pool(self, x: str) -> str:
        n, c, h, w = self.shapes[x]
        kind = str(self.rng.choice(["MaxPool", "AveragePool"]))
        return self.node(kind, x, shape=(n, c, h // 2, w // 2), kernel_shape=[2, 2], strides=[2, 2])

    def flat(self, x: str) -> str:
        n, *rest = self.shapes[x]
        return self.node("Flatten", x, shape=(n, int(np.prod(rest))))

    def padded(self, x: str) -> str:
        n, c, h, w = self.shapes[x]
        """A channel and a border of 0 or of another constant."""
        pads = self.array(np.array([0, 1, 1, 0, 0, 0, 0, 1]))
        value = self.array(np.array(self.rng.choice([0.0, 0.5]), np.float32))
        return self.node("Pad", x, pads, value, shape=(n, c + 1, h + 1, w + 1))

    def model(self, outputs: list[str]) -> onnx.ModelProto:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shapes["x"])
        results = [onnx.ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph(self.nodes, "g", [x], results, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def images(rng: Rng) -> onnx.ModelProto:
    """Convolutions, residuals, branches, and at the end layers on features."""
    g = Writer(rng, (2, 3, 4, 4))
    last = g.conv("x", 4)
    values = [last]
    for _ in range(int(rng.integers(2, 7))):
        last = str(rng.choice(values[-3:]))
        alike = [v for v in values if v != last and g.shapes[v] == g.shapes[last]]
        beside = [v for v in values if v != last and g.shapes[v][2:] == g.shapes[last][2:]]
        choices: list[Callable[[], str]] = [
            lambda: g.conv(last, 4), lambda: g.conv(last, int(rng.integers(2, 7))),
            lambda: g.activation(last), lambda: g.norm(last), lambda: g.masked(last), lambda: g.part(last),
            lambda: g.shuffled(last), lambda: g.padded(last),
        ]  # fmt: skip
        if alike:
            choices += [lambda: g.node("Add", last, str(rng.choice(alike)), shape=g.shapes[last])] * 3
        if beside:
            choices += [lambda: g.concat(last, str(rng.choice(beside)))] * 2
        if min(g.shapes[last][2:]) >= 4:
            choices.append(lambda: g.pool(last))
        values.append(choices[int(rng.integers(len(choices)))]())
    features = g.flat(g.conv(values[-1], 3))
    return g.model([g.linear(g.activation(g.linear(features, 5)), 3)])


def tokens(rng: Rng, constants: bool = True) -> onnx.ModelProto:
    """A block of a transformer: attention by heads, residuals, norms, a mean over tokens.

    Without `constants` k and v have channels of 0, but of no other constant: one in k shifts all scores of a
    query alike, and one in v is multiplied by a sum of 1. Softmax undoes both but for the last bit.
    """
    g = Writer(rng, (2, 3, 6))

    def layer(x: str, outputs: int, biased: bool = True) -> str:
        shape = g.shapes[x]
        y = g.node("MatMul", x, g.array(g.weight(outputs, shape[-1]).T), shape=(*shape[:-1], outputs))
        for bias in g.bias(outputs) if biased else []:
            y = g.node("Add", y, bias, shape=g.shapes[y])
        return y

    def heads(x: str, *order: int) -> str:
        split = g.node("Reshape", x, g.array(np.array([2, 3, 2, 4])), shape=(2, 3, 2, 4))
        shape = tuple((2, 3, 2, 4)[i] for i in order)
        return g.node("Transpose", split, shape=shape, perm=list(order))

    def norm(x: str) -> str:
        d = g.shapes[x][-1]
        scale = rng.standard_normal(d) * (rng.random(d) < 0.7)
        arrays = [g.array(v.astype(np.float32)) for v in (scale, rng.standard_normal(d))]
        return g.node("LayerNormalization", x, *arrays, shape=g.shapes[x], axis=-1)

    x = layer("x", 6, constants)
    q, k = heads(layer(x, 8), 0, 2, 1, 3), heads(layer(x, 8, constants), 0, 2, 3, 1)
    v = heads(layer(x, 8, constants), 0, 2, 1, 3)
    scores = g.node("Softmax", g.node("MatMul", q, k, shape=(2, 2, 3, 3)), shape=(2, 2, 3, 3), axis=-1)
    mixed = g.node("MatMul", scores, v, shape=(2, 2, 3, 4))
    joined = g.node("Transpose", mixed, shape=(2, 3, 2, 4), perm=[0, 2, 1, 3])
    flat = g.node("Reshape", joined, g.array(np.array([2, 3, 8])), shape=(2, 3, 8))
    last = norm(g.node("Add", x, layer(flat, 6), shape=(2, 3, 6)))
    last = g.node("Add", last, layer(g.activation(layer(last, 10)), 6), shape=(2, 3, 6))
    mean = g.node(
        "ReduceMean", norm(last) if rng.random() < 0.5 else last, shape=(2, 6), axes=[1], keepdims=0
    )
    return g.model([g.linear(mean, 3)])


def attention(rng: Rng) -> onnx.ModelProto:
    return tokens(rng, constants=False)


def features(rng: Rng) -> onnx.ModelProto:
    """Layers of features; outputs in the middle, too."""
    g = Writer(rng, (3, 5))
    values = [g.linear("x", 6)]
    for _ in range(int(rng.integers(2, 8))):
        last = str(rng.choice(values[-3:]))
        alike = [v for v in values if v != last and g.shapes[v] == g.shapes[last]]
        choices: list[Callable[[], str]] = [
            *[lambda: g.linear(last, 6)] * 3, lambda: g.activation(last), lambda: g.masked(last),
            lambda: g.part(last), lambda: g.shuffled(last), lambda: g.concat(last, str(rng.choice(values))),
        ]  # fmt: skip
        if alike:
            choices += [lambda: g.node("Add", last, str(rng.choice(alike)), shape=g.shapes[last])] * 2
        values.append(choices[int(rng.integers(len(choices)))]())
    outputs = [g.linear(values[-1], 3)]
    if rng.random() < 0.3:
        outputs.append(values[0])
    return g.model(outputs)


def run(
    block: Block, x: Array, instead: Mapping[SSAValue, Array]
) -> tuple[dict[SSAValue, Array], list[Array]]:
    """All values of a network and its outputs; some values are replaced."""
    values: dict[SSAValue, Array] = {block.args[0]: x}
    for op in block.ops:
        if isinstance(op, func.ReturnOp):
            return values, [values[o] for o in op.operands]
        found = [op.weight.dense()] if isinstance(op, MatrixOp) else evaluate(op, values)
        values.update(zip(op.results, found, strict=True))
        values.update({r: instead[r] for r in op.results if r in instead})
    raise AssertionError("no return")


def oracle(module: ModuleOp, rng: Rng, axis: int) -> tuple[dict[SSAValue, Array], dict[SSAValue, Array]]:
    """For the channels of all values: which are constant, and which no output depends on."""
    block = body(module)
    shape = shape_of(block.args[0])
    runs = [run(block, rng.standard_normal(shape).astype(np.float32), {}) for _ in range(3)]
    constant: dict[SSAValue, Array] = {}
    unused: dict[SSAValue, Array] = {}
    for op in block.ops:
        if not isinstance(op, NnOp):
            continue
        (result,) = op.results
        seen = np.stack([channels(values[result], axis) for values, _ in runs])
        constant[result] = (seen == seen[:1, :, :1]).all(axis=(0, 2))
        unused[result] = np.ones(seen.shape[1], np.bool_)
        for channel in range(seen.shape[1]):
            for scale, (values, outputs) in zip((1, 30), runs[:2], strict=True):
                other = values[result].copy()
                part = np.moveaxis(other, axis, 0)[channel, ...]
                part += scale * rng.standard_normal(part.shape).astype(np.float32)
                _, changed = run(block, values[block.args[0]], {result: other})
                if any(not np.array_equal(a, b) for a, b in zip(outputs, changed, strict=True)):
                    unused[result][channel] = False
                    break
    return constant, unused


def channels(array: Array, axis: int) -> Array:
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


@pytest.mark.parametrize(
    ("make", "axis"), [(images, 1), (features, 1), (attention, -1)], ids=["images", "features", "attention"]
)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=8, deadline=None)
def test_oracle_finds_nothing_more(make: Callable[[Rng], onnx.ModelProto], axis: int, seed: int):
    rng = np.random.default_rng(seed)
    module = import_model(make(rng), "model", Path())
    constant, unused = oracle(module, rng, axis)
    network = Network(body(module), exact=False)
    network.analyse()
    for value, found in constant.items():
        missed = found & ~channels(network.facts[value].known, axis).all(axis=1)
        assert not missed.any(), value
    for value, found in unused.items():
        # Of two zeros that are multiplied, one has to stay: each alone could change.
        needed = network.need(value) & ~network.facts[value].known
        missed = found & channels(needed, axis).any(axis=1)
        assert not missed.any(), value

    # What is left: no row of a weight makes what is constant or not needed.
    after = propagated(module)
    constant, unused = oracle(after, rng, axis)
    network = Network(body(after), exact=False)
    network.analyse()
    for op, rule in network.rules.items():
        if isinstance(rule, Product):
            entries = rule.weight([network.facts[o] for o in op.operands])
            live = (entries.reshape(shape_of(op.operands[1])) != 0).any(axis=1)
            assert not (live & (constant[op.results[0]] | unused[op.results[0]])).any()
    assert str(propagated(after)) == str(after)


@pytest.mark.parametrize("make", [images, features, tokens])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_outputs_stay(make: Callable[[Rng], onnx.ModelProto], seed: int):
    rng = np.random.default_rng(seed)
    model = make(rng)
    x = rng.standard_normal(shape_of(body(import_model(model, "model", Path())).args[0])).astype(np.float32)
    assert_outputs_stay(model, x, 1e-5)


def integers(rng: Rng) -> onnx.ModelProto:
    """Two quantised convolutions and a layer; dead channels give the zero point or another constant."""
    g = Writer(rng, (2, 3, 4, 4))

    def weight(*shape: int) -> str:
        w = rng.integers(-20, 20, shape)
        w[rng.random(shape[0]) < 0.4] = 0
        w[:, rng.random(shape[1]) < 0.3] = 0
        return g.array(w.astype(np.int8))

    def scalar(value: float, dtype: Any) -> str:
        return g.array(np.asarray(value, dtype))

    def conv(x: str, zero: int, outputs: int, kernel: int) -> str:
        n, c, *spatial = g.shapes[x]
        bias = rng.integers(-500, 500, outputs) * (rng.random(outputs) < 0.6)
        operands = [
            scalar(0.05, np.float32), scalar(zero, np.uint8), weight(outputs, c, kernel, kernel),
            scalar(0.02, np.float32), scalar(0, np.int8), scalar(0.08, np.float32), scalar(9, np.uint8),
            g.array(bias.astype(np.int32)),
        ]  # fmt: skip
        pads = [kernel // 2] * 4
        shape = (n, outputs, *spatial)
        return g.node("QLinearConv", x, *operands, shape=shape, kernel_shape=[kernel] * 2, pads=pads)

    last = conv(conv(conv("x", 3, 4, 3), 9, 5, 1), 9, 3, 3)
    flat = g.flat(last)
    model = g.model([g.node("MatMulInteger", flat, weight(48, 3), scalar(9, np.uint8), shape=(2, 3))])
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    return model


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_integers_keep_every_bit(seed: int):
    rng = np.random.default_rng(seed)
    module = import_model(integers(rng), "model", Path())
    x = rng.integers(0, 256, (2, 3, 4, 4)).astype(np.uint8)
    after = propagated(module)
    for wanted, found in zip(run_module(module, x), run_module(after, x), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert str(propagated(after)) == str(after)


def gains(module: ModuleOp) -> dict[str, dict[str, int]]:
    """The numbers of the report, by layer."""
    found: dict[str, dict[str, int]] = {}
    for op in module.walk():
        if isinstance(report := op.attributes.get("propagated"), DictionaryAttr):
            numbers = {k: v.value.data for k, v in report.data.items() if isinstance(v, IntegerAttr)}
            found[str(op.attributes["name"]).strip('"')] = numbers
    return found


@pytest.mark.skipif(not MODELS.is_dir(), reason=f"no models in {MODELS}")
def test_lenet_shrinks_to_a_quarter():
    """Neurons without inputs or without users, counted from the file alone."""
    path = MODELS / "lenet300100_pruned.onnx"
    module = import_onnx(path, batch=50)
    after = propagated(module, report=True)
    digits = np.load(MODELS / "mnist_test_a.npz")["images"][:50].reshape(-1, 784).astype(np.float32)
    for wanted, found in zip(run_module(module, digits), run_module(after, digits), strict=True):
        np.testing.assert_array_equal(found, wanted)
    weights = [op.weight.dense() for op in module.walk() if isinstance(op, MatrixOp)]
    first, second, third = sorted(weights, key=len, reverse=True)
    of_second = (third != 0).any(axis=0)
    of_first = (second[of_second] != 0).any(axis=0)
    lost = gains(after)
    assert lost["ip1"]["rows_left"] <= (of_first & (first != 0).any(axis=1)).sum() < 100
    assert lost["ip2"]["rows_left"] <= (of_second & (second != 0).any(axis=1)).sum() < 30
    assert lost["ip1"]["rows_not_needed"] == ((first != 0).any(axis=1) & ~of_first).sum() == 1
    assert lost["ip2"]["columns_left"] == lost["ip1"]["rows_left"]
    assert lost["ip3"]["columns_left"] == lost["ip2"]["rows_left"]
    assert lost["ip3"]["rows_left"] == 10


def test_empty_tensors_stay():
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Concat", ["x", "z"], ["y"], axis=0)], "g",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, [e, 4]) for n, e in (("x", 0), ("z", 2))],
            [onnx.ValueInfoProto(name="y")],
        )
    )  # fmt: skip
    module = import_model(model, "m", Path())
    before = str(module)
    SparsePropagatePass().apply(Context(), module)
    assert str(module) == before


def test_links_of_reshapes():
    """Channels become runs of features; heads that are split off go as a whole; what is mixed stays."""
    links, frozen = reshaped("x", (2, 3, 4), "y", (2, 12))
    cut = {("x", 1): np.array([0, 1, 1], bool), ("y", 1): np.arange(12) > 4}
    cut |= {("x", 0): np.zeros(2, bool), ("y", 0): np.zeros(2, bool)}
    assert frozen == [("x", 2)]
    solve(cut, links)
    assert cut["x", 1].tolist() == [False, False, True]
    assert np.flatnonzero(cut["y", 1]).tolist() == [8, 9, 10, 11]
    assert reshaped("x", (6, 4), "y", (4, 6)) == ([], [("x", 0), ("x", 1), ("y", 0), ("y", 1)])
    assert reshaped("x", (1, 5), "y", (5, 1, 1))[1] == []


def test_one_way_links():
    """A gather may drop an index that others still use, but not the other way."""
    link = Link(("x", 0), np.array([2, 0]), ("y", 0), np.array([0, 1]), one_way=True)
    cut = {("x", 0): np.array([1, 1, 0], bool), ("y", 0): np.array([1, 0], bool)}
    solve(cut, [link])
    assert cut["x", 0].tolist() == [False, True, False]
    assert cut["y", 0].tolist() == [True, False]
