"""sparse-propagate through recurrent layers: outputs stay, and a brute-force oracle finds no dead unit left.

The oracle walks a layer step by step and puts random numbers in the place of a unit's state after each step:
the unit is dead if no output of the network changes, or if its state is 0 at all steps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from propagate_cases import assert_outputs_stay, body, propagated
from xdsl.dialects import func
from xdsl.ir import Block, Operation, SSAValue

from sparsecc.dialects.nn_base import ConstantOp, flag, number, shape_of
from sparsecc.dialects.nn_layout import ConcatOp
from sparsecc.dialects.nn_recurrent import GruOp, LstmOp, RnnOp
from sparsecc.dialects.sparse import ConstantOp as MatrixOp
from sparsecc.importers.onnx_file import import_model
from sparsecc.interpreters.nn import evaluate
from sparsecc.network_compiler import compile_network
from sparsecc.nn.recurrent import steps_of

Array = NDArray[Any]
Rng = np.random.Generator
onnxruntime: Any = ort
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FUNCTIONS = {"LSTM": 3, "GRU": 2, "RNN": 1}
SMOOTH = ["Sigmoid", "Tanh", "Softsign"]
STEPS, BATCH, INPUTS, HIDDEN = 4, 2, 5, 6


class Writer:
    """A graph that grows node by node."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def array(self, values: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> list[str]:
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=names[0], **attributes))
        return names

    def model(self, outputs: list[str]) -> onnx.ModelProto:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (STEPS, BATCH, INPUTS))
        results = [onnx.ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph(self.nodes, "g", [x], results, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def normal(rng: Rng, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)


def planted(rng: Rng, *shape: int) -> Array:
    """Some rows, columns and entries are zeros."""
    w = normal(rng, *shape)
    w[rng.random(shape[0]) < 0.3] = 0
    w[:, rng.random(shape[1]) < 0.3] = 0
    return np.where(rng.random(shape) < 0.8, w, np.float32(0))


def linear(g: Writer, rng: Rng, x: str, inputs: int, outputs: int) -> str:
    (y,) = g.node("MatMul", x, g.array(planted(rng, outputs, inputs).T))
    bias = normal(rng, outputs) * rng.integers(0, 2, outputs)
    return g.node("Add", y, g.array(bias.astype(np.float32)))[0]


def layer(g: Writer, rng: Rng, kind: str, x: str, inputs: int, options: dict[str, Any]) -> list[str]:
    """A recurrent layer in which rows of the gates, columns of the state and whole units die."""
    gates, count = GATES[kind], 2 if options.get("direction") == "bidirectional" else 1
    w = np.stack([planted(rng, gates * HIDDEN, inputs) for _ in range(count)])
    r = np.stack([planted(rng, gates * HIDDEN, HIDDEN) for _ in range(count)])
    bias = normal(rng, count, 2 * gates * HIDDEN)
    bias *= rng.random(bias.shape) < 0.5
    # The gate that is added to the state comes last; without it the state stays 0.
    for d, unit in zip(*np.nonzero(rng.random((count, HIDDEN)) < 0.3), strict=True):
        row = (gates - 1) * HIDDEN + unit
        w[d, row] = r[d, row] = 0
        bias[d, [row, row + gates * HIDDEN]] = 0
    operands = [x, *(g.array(a) for a in (w, r, bias))]
    states = 2 if kind == "LSTM" else 1
    if rng.random() < 0.5:
        begin = normal(rng, states, count, BATCH, HIDDEN)
        begin[..., rng.random(HIDDEN) < 0.6] = 0
        operands += ["", *map(g.array, begin)]
        if kind == "LSTM" and rng.random() < 0.5:
            operands.append(g.array(planted(rng, count, 3 * HIDDEN)))
    return g.node(kind, *operands, outputs=1 + states, hidden_size=HIDDEN, **options)


def sequences(rng: Rng, smooth: bool) -> onnx.ModelProto:
    """A linear layer, one or two recurrent layers, and layers on their outputs and last states.

    smooth: nothing is constant over a range, which no rule looks at.
    """
    functions = SMOOTH if smooth else [*SMOOTH, "Relu", "HardSigmoid"]
    g = Writer()
    x, inputs = linear(g, rng, "x", INPUTS, 6), 6
    used: list[str] = []
    for _ in range(int(rng.integers(1, 3))):
        kind = str(rng.choice(list(GATES)))
        direction = str(rng.choice(["forward", "reverse", "bidirectional"]))
        count = 2 if direction == "bidirectional" else 1
        names = rng.choice(functions, FUNCTIONS[kind] * count).tolist()
        options: dict[str, Any] = {"direction": direction, "activations": names}
        if not smooth and rng.random() < 0.3:
            options["clip"] = 1.5
        if kind == "GRU":
            options["linear_before_reset"] = int(rng.integers(2))
        if kind == "LSTM":
            options["input_forget"] = int(rng.integers(2))
        y, *states = layer(g, rng, kind, x, inputs, options)
        for state in states:
            if rng.random() < 0.4:
                used.append(linear(g, rng, state, HIDDEN, 3))
        (y,) = g.node("Transpose", y, perm=[0, 2, 1, 3])
        inputs = count * HIDDEN
        (x,) = g.node("Reshape", y, g.array(np.array([STEPS, BATCH, inputs])))
    return g.model([linear(g, rng, x, inputs, 3), *used])


def stepped(
    op: LstmOp | GruOp | RnnOp, values: dict[SSAValue, Array], unit: int | None, rng: Rng
) -> tuple[list[Array], Array]:
    """The results of a layer with a unit's state replaced after each step; units that are 0 at all steps."""
    x, states = values[op.x], op.operands[-2:] if isinstance(op, LstmOp) else op.operands[-1:]
    now = dict(values)
    outputs = np.empty((len(x), *values[states[0]].shape), x.dtype)
    zero = ~np.any([now[s].any(axis=0) for s in states], axis=0)
    for t in steps_of(len(x), flag(op.reverse)):
        now[op.x] = x[t : t + 1]
        _, *last = evaluate(op, now)
        zero &= ~np.any([s.any(axis=0) for s in last], axis=0)
        if unit is not None:
            for s in last:
                s[:, unit] = normal(rng, len(s))
        outputs[t] = last[0]
        now.update(zip(states, last, strict=True))
    return [outputs, *(now[s] for s in states)], zero


def run(
    block: Block, x: Array, at: Operation | None, unit: int | None, rng: Rng
) -> tuple[list[Array], Array]:
    """The outputs of a network; one layer goes step by step."""
    values: dict[SSAValue, Array] = {block.args[0]: x}
    zero = np.zeros(0, np.bool_)
    for op in block.ops:
        if isinstance(op, func.ReturnOp):
            return [values[o] for o in op.operands], zero
        if op is at:
            assert isinstance(op, LstmOp | GruOp | RnnOp)
            found, zero = stepped(op, values, unit, rng)
        else:
            found = [op.weight.dense()] if isinstance(op, MatrixOp) else evaluate(op, values)
        values.update(zip(op.results, found, strict=True))
    raise AssertionError("no return")


def dead_units(block: Block, op: Operation, rng: Rng) -> Array:
    """Units that are 0 at all steps, or whose numbers no output depends on [H]."""
    hidden = shape_of(op.operands[2])[1]
    dead = np.ones(hidden, np.bool_)
    for unit in range(hidden):
        alike = zero = True
        for _ in range(2):
            x = normal(rng, STEPS, BATCH, INPUTS)
            wanted, _ = run(block, x, None, None, rng)
            found, _ = run(block, x, op, unit, rng)
            alike &= all(np.array_equal(a, b) for a, b in zip(wanted, found, strict=True))
            zero &= run(block, x, op, None, rng)[1][unit]
        dead[unit] = alike or zero
    return dead


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_oracle_finds_no_dead_unit(seed: int):
    rng = np.random.default_rng(seed)
    after = propagated(import_model(sequences(rng, smooth=True), "model", Path()))
    assert str(propagated(after)) == str(after)
    block = body(after)
    # Where one layer reads the last states of both directions, a unit goes only out of both.
    stacked = any(isinstance(o, ConcatOp) and number(o.axis) < len(shape_of(o.res)) - 1 for o in block.ops)
    for op in [o for o in block.ops if isinstance(o, LstmOp | GruOp | RnnOp)]:
        dead = dead_units(block, op, rng)
        w, r = dense(op.operands[1]), dense(op.operands[2])
        hidden = len(dead)
        assert stacked or hidden == 1 or not dead.any(), (op.name, dead)
        entries = np.concatenate([w, r], axis=1).reshape(-1, hidden, w.shape[1] + hidden)
        left = (entries != 0).any(axis=(0, 2)) | (r != 0).any(axis=0)
        assert not (dead & left).any(), (op.name, dead, left)


def dense(value: SSAValue) -> Array:
    owner = value.owner
    assert isinstance(owner, MatrixOp | ConstantOp)
    return owner.weight.dense() if isinstance(owner, MatrixOp) else owner.value.array


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_outputs_stay(seed: int):
    rng = np.random.default_rng(seed)
    model = sequences(rng, smooth=False)
    x = normal(rng, STEPS, BATCH, INPUTS)
    assert_outputs_stay(model, x, 1e-4)


def test_compiled_layers_are_smaller(tmp_path: Path):
    """Both directions lose units of their own, and their products cycles."""
    rng = np.random.default_rng(3)
    g = Writer()
    y, _ = layer(g, rng, "GRU", linear(g, rng, "x", INPUTS, 6), 6, {"direction": "bidirectional"})
    (y,) = g.node("Transpose", y, perm=[0, 2, 1, 3])
    (y,) = g.node("Reshape", y, g.array(np.array([STEPS, BATCH, 2 * HIDDEN])))
    model = g.model([linear(g, rng, y, 2 * HIDDEN, 3)])
    file, x = tmp_path / "m.onnx", normal(rng, STEPS, BATCH, INPUTS)
    file.write_bytes(model.SerializeToString())
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (reference,) = session.run(None, {"x": x})
    cycles: list[int] = []
    for propagate in (True, False):
        artifact: Any = compile_network(
            file, target="scalesim-ws16", effort=0, inputs=[x], propagate=propagate
        )
        found = artifact(x)
        np.testing.assert_allclose(found, reference, rtol=1e-5, atol=1e-5)
        cycles.append(sum(p.cycles for p in artifact.report.products))
        if propagate:
            rows = [g.rows for g in artifact.propagation.layers if g.rows[0] == 3 * HIDDEN]
            assert len(rows) == 2
            assert all(after < before for before, after in rows)
            assert rows[0] != rows[1]
    assert cycles[0] < cycles[1]
