"""Recurrent layers: units whose state stays 0, and units, gates and inputs that nothing needs.

The steps of a layer are run on facts, as `sparsecc.nn.recurrent` runs them on numbers and in the same order,
so that what is known has the same bits; the record of that run is walked back with needs. A unit is needed
if its state is, at any step: by an output that is used, or by a live entry of the recurrent weight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sparsecc.nn.arithmetic import accumulator, weight_product
from sparsecc.nn.recurrent import function_of, projected, steps_of
from sparsecc.propagate.cuts import RESULT, Link, same
from sparsecc.propagate.facts import Array, Fact, Mask, Rule, Shape

Back = Callable[[Mask], None]


class _Node:
    """What is known of one array of a step [N, ...], and, later, what is needed of it."""

    def __init__(self, known: Mask, value: Array, back: Back | None = None):
        known = known & np.isfinite(value)
        self.known = known
        self.value = np.where(known, value, np.ones((), value.dtype))
        self.zero = known & (value == 0)
        self.need = np.zeros(known.shape, np.bool_)
        self.back = back


class _Tape:
    """Nodes in the order in which they were made."""

    def __init__(self) -> None:
        self.nodes: list[_Node] = []

    def leaf(self, known: Mask, value: Array, back: Back | None = None) -> _Node:
        self.nodes.append(_Node(known, value, back))
        return self.nodes[-1]

    def plus(self, a: _Node, b: _Node) -> _Node:
        def back(need: Mask) -> None:
            a.need |= need
            b.need |= need

        return self.leaf(a.known & b.known, a.value + b.value, back)

    def times(self, a: _Node, b: _Node) -> _Node:
        """Where both are 0 a stays, so that b may change."""

        def back(need: Mask) -> None:
            a.need |= need & ~(b.zero & ~a.zero)
            b.need |= need & ~a.zero

        return self.leaf(a.known & b.known | a.zero | b.zero, a.value * b.value, back)

    def of(self, function: Callable[[Array], Array], a: _Node) -> _Node:
        def back(need: Mask) -> None:
            a.need |= need

        return self.leaf(a.known, function(a.value), back)

    def part(self, a: _Node, columns: slice) -> _Node:
        def back(need: Mask) -> None:
            a.need[:, columns] |= need

        return self.leaf(a.known[:, columns], a.value[:, columns], back)

    def walk_back(self) -> None:
        for node in reversed(self.nodes):
            if node.back is not None and node.need.any():
                node.back(node.need)


@dataclass(frozen=True)
class Left:
    """What is left of a recurrent layer.

    w [gates H, I], r [gates H, H], peephole [3 H] or None: entries that stay. bias: None where it stays as it
    is. needs: elements of x and of the initial states. used: units that are needed [H]. given: inputs that
    are known [I]. unused: rows of w that nobody needs.
    """

    w: Mask
    r: Mask
    peephole: Mask | None
    bias: Array | None
    needs: list[Mask]
    used: Mask
    given: Mask
    unused: Mask


@dataclass(frozen=True, eq=False)
class Recurrent(Rule):
    """A layer of one direction on constant weights; operands x, w, r, bias, perhaps peephole, then states.

    kind: "lstm", "gru" or "rnn"; the results are all outputs and the last states. functions, clip, reverse,
    and the choices of LSTM and GRU are as in `sparsecc.nn.recurrent`.
    """

    kind: str
    facts: tuple[Fact, ...]
    functions: tuple[str, ...]
    clip: float
    reverse: bool
    input_forget: bool = False
    linear_before_reset: bool = False

    @property
    def hidden(self) -> int:
        return self.facts[2].known.shape[1]

    @property
    def results(self) -> int:
        return 3 if self.kind == "lstm" else 2

    @property
    def first_state(self) -> int:
        """Which operand the initial output is."""
        return 5 if self.kind == "lstm" else 4

    def known(self, facts: Sequence[Fact]) -> Mask:
        raise AssertionError("a recurrent layer has several results: see `found`")

    def needs(self, facts: Sequence[Fact], need: Mask) -> list[Mask]:
        raise AssertionError("the needs of a recurrent layer follow from what is left of it")

    def entries(self) -> Mask:
        """Where the weights are not 0 [gates H, I + H]."""
        return np.concatenate([self.facts[1].value != 0, self.facts[2].value != 0], axis=1)

    @cached_property
    def _run(self) -> _Run:
        return _Run(self)

    def found(self) -> list[Fact]:
        """What is known of the results."""
        run, dtype = self._run, self.facts[0].value.dtype
        every, last = run.outputs, [run.states[-1], *run.cells[-1:]]
        facts = [Fact(np.stack([h.known for h in every]), np.stack([h.value for h in every]))]
        facts += [Fact(node.known, node.value) for node in last]
        with np.errstate(over="ignore"):
            rounded = [fact.value.astype(dtype) for fact in facts]
        return [Fact(f.known & np.isfinite(v), v) for f, v in zip(facts, rounded, strict=True)]

    def left(self, needs: Sequence[Mask], exact: bool) -> Left:
        """What can be left of the layer when this is needed of its results.

        exact: sums of floats keep every bit; constants other than 0 then stay in the input.
        """
        return _Run(self).left(needs, exact)

    def links(self) -> list[Link]:
        shapes: list[Shape] = [f.known.shape for f in self.facts]
        (_, batch, inputs), hidden = shapes[0], self.hidden
        links = [same((0, 2), (1, 1), inputs), same((0, 1), (RESULT, 1), batch)]
        # Blocks of H: a unit goes out of all gates at once.
        blocks = [(1, 0), (2, 0), (2, 1), *((i, 0) for i in range(3, self.first_state))]
        states = [*range(self.first_state, len(shapes)), *(RESULT - i for i in range(1, self.results))]
        for axis in [*blocks, *((i, 1) for i in states)]:
            i, number = axis
            every = np.arange(shapes[i][number] if i >= 0 else hidden)
            links.append(Link(axis, every, (RESULT, 2), every % hidden))
        return links + [same((i, 0), (RESULT, 1), batch) for i in states]

    def frozen(self) -> list[tuple[int, int]]:
        """All steps stay: a state passes through each."""
        return [(0, 0), (RESULT, 0)]


class _Run:
    """The steps of a layer on facts."""

    def __init__(self, rule: Recurrent):
        self.rule = rule
        self.tape = _Tape()
        x, w, r, bias = rule.facts[:4]
        kind = accumulator(x.value.dtype)
        self.w, self.r, self.bias = (f.value.astype(kind) for f in (w, r, bias))
        self.hidden = rule.hidden
        self.rows = len(self.w)
        self.of_bias = self.bias[self.rows :]
        self.live_r = self.r != 0
        self.used_r = np.zeros(self.rows, np.bool_)
        self.used_p: Mask | None = None
        if rule.kind == "lstm":
            self.peephole = rule.facts[4].value.astype(kind)
            self.live_p = self.peephole != 0
            self.used_p = np.zeros(len(self.peephole), np.bool_)
        with np.errstate(all="ignore"):
            values = projected(np.where(x.known, x.value, 1).astype(kind), self.w, self.bias)
            unknown = _any(~x.known, (self.w != 0).T)
            self.of_x = [self.tape.leaf(~u, v) for u, v in zip(unknown, values, strict=True)]
            begin = [
                self.tape.leaf(f.known, np.where(f.known, f.value, 1).astype(kind))
                for f in rule.facts[rule.first_state :]
            ]
            self.states, self.cells = begin[:1], begin[1:]
            cell = {"lstm": self._lstm, "gru": self._gru, "rnn": self._rnn}[rule.kind]
            order = steps_of(len(self.of_x), rule.reverse)
            for t in order:
                cell(self.of_x[t])
        made = dict(zip(order, self.states[1:], strict=True))
        self.outputs: list[_Node] = [made[t] for t in range(len(made))]

    # ---- cells: the formulas of sparsecc.nn.recurrent

    def _limited(self, a: _Node) -> _Node:
        clip = self.rule.clip
        return self.tape.of(lambda v: np.clip(v, -clip, clip), a) if clip else a

    def _activated(self, i: int, a: _Node) -> _Node:
        return self.tape.of(function_of(self.rule.functions[i]), self._limited(a))

    def _of_state(self, h: _Node, rows: slice) -> _Node:
        """Rows of r times h, and their bias."""
        begin, end, _ = rows.indices(self.rows)

        def back(need: Mask) -> None:
            self.used_r[begin:end] |= need.any(axis=0)
            h.need |= _any(need, self.live_r[begin:end])

        value = weight_product(self.r[begin:end], h.value.T).T + self.of_bias[begin:end]
        return self.tape.leaf(~_any(~h.known, self.live_r[begin:end].T), value, back)

    def _peeped(self, gate: _Node, c: _Node, block: int) -> _Node:
        """A gate and its peephole on the cell."""
        part = slice(block * self.hidden, (block + 1) * self.hidden)
        p, used = self.peephole[part], self.used_p
        assert used is not None

        def back(need: Mask) -> None:
            used[part] |= need.any(axis=0)
            c.need |= need & self.live_p[part]

        return self.tape.plus(gate, self.tape.leaf(c.known | (p == 0), p * c.value, back))

    def _blocks(self, a: _Node, count: int) -> list[_Node]:
        return [self.tape.part(a, slice(k * self.hidden, (k + 1) * self.hidden)) for k in range(count)]

    def _lstm(self, of_x: _Node) -> None:
        tape, h, c = self.tape, self.states[-1], self.cells[-1]
        gates = tape.plus(of_x, self._of_state(h, slice(None)))
        i, o, forget, new = self._blocks(gates, 4)
        i = self._activated(0, self._peeped(i, c, 0))
        if self.rule.input_forget:
            forget = tape.of(lambda v: 1 - v, i)
        else:
            forget = self._activated(0, self._peeped(forget, c, 2))
        c = tape.plus(tape.times(c, forget), tape.times(self._activated(1, new), i))
        final = tape.of(function_of(self.rule.functions[2]), c)
        self.cells.append(c)
        self.states.append(tape.times(final, self._activated(0, self._peeped(o, c, 1))))

    def _gru(self, of_x: _Node) -> None:
        tape, h, two = self.tape, self.states[-1], 2 * self.hidden
        of_z, of_reset, of_new = self._blocks(of_x, 3)
        z, reset = self._blocks(self._of_state(h, slice(two)), 2)
        z = self._activated(0, tape.plus(of_z, z))
        reset = self._activated(0, tape.plus(of_reset, reset))
        if self.rule.linear_before_reset:
            inner = tape.times(self._of_state(h, slice(two, None)), reset)
        else:
            inner = self._of_state(tape.times(h, reset), slice(two, None))
        new = self._activated(1, tape.plus(of_new, inner))
        kept = tape.times(h, z)
        self.states.append(tape.plus(tape.times(new, tape.of(lambda v: 1 - v, z)), kept))

    def _rnn(self, of_x: _Node) -> None:
        inner = self.tape.plus(of_x, self._of_state(self.states[-1], slice(None)))
        self.states.append(self._activated(0, inner))

    # ---- what is left

    def left(self, needs: Sequence[Mask], exact: bool) -> Left:
        x, bias = self.rule.facts[0], self.rule.facts[3].value
        # Columns of what is 0 at every step go.
        self.live_r &= ~_always_zero(self.states)
        if self.used_p is not None:
            self.live_p &= ~np.tile(_always_zero(self.cells), 3)
        for node, need in zip(self.outputs, needs[0], strict=True):
            node.need |= need
        for node, need in zip((self.states[-1], *self.cells[-1:]), needs[1:], strict=True):
            node.need |= need
        self.tape.walk_back()

        uniform = x.known.all(axis=(0, 1)) & (x.value == x.value[:1, :1]).all(axis=(0, 1))
        numbers = np.where(uniform, x.value[0, 0], 0).astype(np.float64)
        drop: Mask = uniform & ((numbers == 0) | (not exact))
        needed = np.stack([node.need for node in self.of_x])
        used_w: Mask = np.asarray(needed.any(axis=(0, 1)))
        live_w = (self.w != 0) & ~drop & used_w[:, None]
        added = np.zeros(len(bias))
        added[: self.rows] = self.w.astype(np.float64) @ np.where(drop, numbers, 0)
        new = np.where(added != 0, (bias + added).astype(bias.dtype), bias)
        new = np.where(np.concatenate([used_w, self.used_r]), new, 0).astype(bias.dtype)
        states = [*self.states, *self.cells]
        return Left(
            w=live_w,
            r=self.live_r & self.used_r[:, None],
            peephole=None if self.used_p is None else self.live_p & self.used_p,
            bias=None if np.array_equal(new, bias) else new,
            needs=[_any(needed, live_w), self.states[0].need, *(c.need for c in self.cells[:1])],
            used=np.any([node.need.any(axis=0) for node in states], axis=0),
            given=drop,
            unused=~used_w,
        )


def _any(a: Mask, b: Mask) -> Mask:
    """The boolean matrix product [.., m, k] [k, n], by counting in f32: a count above 0 never rounds to 0."""
    return np.matmul(a.astype(np.float32), b.astype(np.float32)) > 0


def _always_zero(nodes: Sequence[_Node]) -> Mask:
    return np.all([node.zero.all(axis=0) for node in nodes], axis=0)
