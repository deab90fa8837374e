"""Lowering of recurrent layers: one product of all steps with the input, and one product for each step.

Gates and states lie features first, [gates H, N] and [H, N], so both products take them as they are. All
steps call the same product with the recurrent weight; the host does what is between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xdsl.dialects import tensor
from xdsl.dialects.builtin import TensorType, f32
from xdsl.ir import Operation, SSAValue

from sparsecc.dialects.nn_base import element_of, flag, shape_of
from sparsecc.dialects.nn_recurrent import GruOp, LstmOp, RnnOp
from sparsecc.host.recurrent import Activation
from sparsecc.host.walk import Walk
from sparsecc.network.layout import Layout
from sparsecc.network.lower import Argument, Array, Lowering, Placed, Rule, csr_of, refuse

WHY = "the product needs its features outermost"
STATE = "states lie features first"


@dataclass(frozen=True)
class _Layer:
    """What the steps of a layer have in common."""

    op: LstmOp | GruOp | RnnOp
    low: Lowering
    gates: int
    steps: int
    batch: int
    hidden: int
    of_x: SSAValue
    """Products with the input and biases, [T, gates H, N]."""
    recurrent: Array
    """The weight of the state, [gates H, H]."""

    @property
    def extents(self) -> dict[str, Argument]:
        """Of host operators."""
        return {"outer": 1, "hidden": self.hidden, "inner": self.batch}

    @property
    def limit(self) -> float:
        return float(self.op.clip.value.data)

    @property
    def order(self) -> Sequence[int]:
        """The steps in the order in which they run."""
        return range(self.steps - 1, -1, -1) if flag(self.op.reverse) else range(self.steps)

    def function(self, i: int) -> int:
        """An activation as the host counts them."""
        return int(Activation[self.op.functions[i].upper()])

    def begins(self, t: int) -> int:
        """Where the gates of a step begin in of_x."""
        return t * self.gates * self.hidden * self.batch

    def call(
        self, name: str, t: int, others: Sequence[SSAValue | None], arguments: dict[str, Argument]
    ) -> SSAValue:
        """A host operator on the gates of a step and other arrays; [H, N]."""
        given = [o for o in others if o is not None]
        return self.low.call_with(
            f"host_{name}_f32", [self.of_x, *given], (self.hidden, self.batch), f32,
            {**self.extents, **arguments}, [self.begins(t)] + [0] * len(given),
        )  # fmt: skip

    def state(self, value: SSAValue) -> SSAValue:
        """A state [N, H] of the network as [H, N]."""
        return self.low.ordered(self.low.get(value), (1, 0), STATE)

    def results(self, outputs: dict[int, SSAValue], *last: SSAValue) -> Sequence[Placed]:
        """All outputs [T, N, H] as [H, T, N] in memory, and the last states."""
        low = self.low
        layout = Layout((self.steps, self.batch, self.hidden), (2, 0, 1))
        result = low.add(tensor.EmptyOp([], TensorType(f32, layout.extents))).results[0]
        extents = self.hidden, self.batch
        walk = Walk.of(extents, (self.steps * self.batch, 1), (self.batch, 1))
        for t, h in sorted(outputs.items()):
            result = low.call(
                "host_copy_4", [h], layout.extents, f32, into=result, at=t * self.batch, walk=walk.table()
            )
        state = Layout((self.batch, self.hidden), (1, 0))
        return [Placed(result, layout), *(Placed(value, state) for value in last)]


def _layer(op: LstmOp | GruOp | RnnOp, low: Lowering, gates: int, later: slice | None = None) -> _Layer:
    """The products with the input, biases added; of the bias of the state all but those of `later`."""
    if (found := element_of(op.x)) != "f32":
        refuse(op, f"computes in {found}; compiling networks needs f32 there")
    w, r, bias = (low.known(v) for v in (op.w, op.r, op.bias))
    if w is None or r is None or bias is None:
        refuse(op, "its weights are computed at run time; make them constants of the model")
    steps, batch, inputs = shape_of(op.x)
    hidden, rows = r.shape[1], gates * r.shape[1]
    x = low.ordered(low.get(op.x), (2, 0, 1), WHY)
    product = low.product(csr_of(w), low.view(low.narrowed(x), (inputs, steps * batch)))
    added = bias[:rows].copy()
    of_state = bias[rows:].copy()
    if later is not None:
        of_state[later] = 0
    added += of_state
    # Steps outermost, so that the gates of one lie together.
    extents = (steps, rows, batch)
    walk = Walk.of(extents, (rows * batch, batch, 1), (batch, steps * batch, 1), (0, 1, 0))
    of_x = low.call("host_add_f32", [product, low.constant(added, f32)], extents, f32, walk=walk.table())
    return _Layer(op, low, gates, steps, batch, hidden, of_x, r)


def _none(name: str, value: object) -> dict[str, Argument]:
    return {name: None} if value is None else {}


def lstm(op: LstmOp, low: Lowering) -> Sequence[Placed]:
    layer = _layer(op, low, 4)
    peephole = low.known(op.peephole)
    if peephole is None:
        refuse(op, "its peepholes are computed at run time; make them constants of the model")
    peep = low.constant(peephole, f32) if peephole.any() else None
    f, g, final = map(layer.function, range(3))
    h, c = layer.state(op.h), layer.state(op.c)
    multiply = low.matrix(csr_of(layer.recurrent), layer.batch, " (state)")
    outputs: dict[int, SSAValue] = {}
    of_cell: dict[str, Argument] = {
        "f": f, "g": g, "limit": layer.limit, "input_forget": int(flag(op.input_forget)),
        **_none("peephole", peep),
    }  # fmt: skip
    of_state: dict[str, Argument] = {"f": f, "final": final, "limit": layer.limit, **_none("peephole", peep)}
    for t in layer.order:
        of_h = multiply(low.narrowed(h))
        c = layer.call("lstm_cell", t, [of_h, c, peep], of_cell)
        h = outputs[t] = layer.call("lstm_state", t, [of_h, c, peep], of_state)
    return layer.results(outputs, h, c)


def gru(op: GruOp, low: Lowering) -> Sequence[Placed]:
    linear, hidden = flag(op.linear_before_reset), shape_of(op.r)[1]
    layer = _layer(op, low, 3, slice(2 * hidden, 3 * hidden) if linear else None)
    h, (f, g), limit = layer.state(op.h), map(layer.function, range(2)), layer.limit
    outputs: dict[int, SSAValue] = {}
    if linear:
        multiply, added = low.matrix(csr_of(layer.recurrent), layer.batch, " (state)"), _new_bias(layer)
        for t in layer.order:
            of_h = added(multiply(low.narrowed(h)))
            h = outputs[t] = layer.call("gru", t, [of_h, h], {"f": f, "g": g, "limit": limit})
    else:
        of_gates = low.matrix(csr_of(layer.recurrent[: 2 * hidden]), layer.batch, " (state, gates)")
        of_new = low.matrix(csr_of(layer.recurrent[2 * hidden :]), layer.batch, " (state, new)")
        for t in layer.order:
            of_h = of_gates(low.narrowed(h))
            kept = layer.call("gru_kept", t, [of_h, h], {"f": f, "limit": limit})
            of_kept = of_new(low.narrowed(kept))
            h = outputs[t] = layer.call("gru_update", t, [of_h, of_kept, h], {"f": f, "g": g, "limit": limit})
    return layer.results(outputs, h)


def _new_bias(layer: _Layer) -> Callable[[SSAValue], SSAValue]:
    """Adds the bias of the state that the reset gate multiplies."""
    low, rows = layer.low, 3 * layer.hidden
    bias = low.known(layer.op.bias)
    assert bias is not None
    of_state = bias[rows:].copy()
    of_state[: 2 * layer.hidden] = 0

    def added(product: SSAValue) -> SSAValue:
        if not of_state.any():
            return product
        walk = Walk.of((rows, layer.batch), (layer.batch, 1), (layer.batch, 1), (1, 0))
        return low.call("host_add_f32", [product, constant], (rows, layer.batch), f32, walk=walk.table())

    constant = low.constant(of_state, f32)
    return added


def rnn(op: RnnOp, low: Lowering) -> Sequence[Placed]:
    layer = _layer(op, low, 1)
    h, count = layer.state(op.h), layer.hidden * layer.batch
    multiply = low.matrix(csr_of(layer.recurrent), layer.batch, " (state)")
    shape = layer.hidden, layer.batch
    name = op.functions[0]
    more: dict[str, Argument] = {"alpha": 0.2, "beta": 0.5} if name == "hard_sigmoid" else {}
    outputs: dict[int, SSAValue] = {}
    walk = Walk.of((count,), (1,), (1,), (1,))
    for t in layer.order:
        of_h = multiply(low.narrowed(h))
        h = low.call(
            "host_add_f32", [layer.of_x, of_h], shape, f32, offsets=[layer.begins(t), 0], walk=walk.table()
        )
        if layer.limit:
            h = low.call("host_clip_f32", [h], shape, f32, n=count, low=-layer.limit, high=layer.limit)
        h = outputs[t] = low.call_with(f"host_{name}_f32", [h], shape, f32, {"n": count, **more})
    return layer.results(outputs, h)


RULES: dict[type[Operation], Rule] = {GruOp: gru, LstmOp: lstm, RnnOp: rnn}
