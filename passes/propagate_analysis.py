"""What is known of the values of a function, and what of them is needed (for `sparse-propagate`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import StringAttr, TensorType
from xdsl.ir import Block, Operation, SSAValue
from xdsl.utils.hints import isa

from sparsecc.dialects.nn_base import ConstantOp, NnOp
from sparsecc.dialects.nn_quantized import DequantizeLinearOp
from sparsecc.dialects.sparse import ConstantOp as MatrixOp
from sparsecc.elements import round_to
from sparsecc.interpreters.nn import evaluate
from sparsecc.passes.propagate_rules import is_constant_weight, recurrent_rule_of, rule_of
from sparsecc.propagate.facts import Fact, Mask, Rule, constant, unknown
from sparsecc.propagate.products import Plan, Product
from sparsecc.propagate.recurrent import Left, Recurrent

Array = NDArray[Any]


@dataclass
class Gain:
    """What a layer lost: rows that nobody needs, columns whose input is known (of those with entries)."""

    shape: tuple[int, ...]
    entries: int
    rows: int = 0
    columns: int = 0


@dataclass
class Analysis:
    """A function, what is known of its values, and which elements of them some output may depend on."""

    block: Block
    exact: bool
    facts: dict[SSAValue, Fact] = field(default_factory=dict[SSAValue, Fact])
    needs: dict[SSAValue, Mask] = field(default_factory=dict[SSAValue, Mask])
    rules: dict[Operation, Rule] = field(default_factory=dict[Operation, Rule])
    plans: dict[Operation, Plan] = field(default_factory=dict[Operation, Plan])
    left: dict[Operation, Left] = field(default_factory=dict[Operation, Left])
    """Of recurrent layers."""
    gains: dict[Operation, Gain] = field(default_factory=dict[Operation, Gain])
    gone: list[str] = field(default_factory=list[str])

    def analyse(self) -> None:
        """One sweep forward and one backward: on a graph without cycles that is the fixpoint."""
        self.facts, self.needs, self.rules, self.plans, self.left = {}, {}, {}, {}, {}
        for value in self.block.args:
            self._learn_nothing(value)
        for op in self.block.ops:
            self._forward(op)
        for op in reversed(list(self.block.ops)):
            self._backward(op)

    def _learn_nothing(self, value: SSAValue) -> None:
        if isa(value.type, TensorType) and min(value.type.get_shape(), default=0) >= 0:
            dtype = round_to(np.zeros(()), value.type.element_type).dtype
            self.facts[value] = unknown(value.type.get_shape(), dtype)

    def _forward(self, op: Operation) -> None:
        if isinstance(op, ConstantOp):
            self.facts[op.res] = constant(op.value.array)
        elif isinstance(op, MatrixOp):
            self.facts[op.res] = constant(op.weight.dense())
        elif recurrent := recurrent_rule_of(op, [self.facts[o] for o in op.operands]):
            self.rules[op] = recurrent
            self.facts.update(zip(op.results, recurrent.found(), strict=True))
            if op not in self.gains:
                shape = self.facts[op.operands[1]].known.shape
                self.gains[op] = Gain(shape, int(np.count_nonzero(recurrent.entries())))
        elif not isinstance(op, NnOp) or len(op.results) != 1:
            for result in op.results:
                self._learn_nothing(result)
        else:
            facts = [self.facts[o] for o in op.operands]
            self.rules[op] = rule = rule_of(op, facts)
            self._learn_nothing(op.results[0])
            known = rule.known(facts)
            if known.any():
                filled = {o: np.where(f.known, f.value, 1) for o, f in zip(op.operands, facts, strict=True)}
                typed = {o: a.astype(self.facts[o].value.dtype) for o, a in filled.items()}
                (value,) = evaluate(op, typed)
                known = known & constant(value).known
                self.facts[op.results[0]] = Fact(known, value)
            if isinstance(rule, Product) and op not in self.gains:
                weight = facts[1].value
                self.gains[op] = Gain(weight.shape, int(np.count_nonzero(rule.weight(facts))))

    def _backward(self, op: Operation) -> None:
        if (rule := self.rules.get(op)) is None:
            if not isinstance(op, NnOp) or any(self.is_needed(r) for r in op.results):
                for operand in op.operands:
                    if operand in self.facts:
                        self.needs[operand] = np.ones(self.facts[operand].known.shape, np.bool_)
            return
        if isinstance(rule, Recurrent):
            # A constant stands for a result that is known.
            needs = [self.need(r) & (not self.facts[r].is_known) for r in op.results]
            self.left[op] = left = rule.left(needs, self.exact)
            self._add_needs([op.operands[0], *op.operands[rule.first_state :]], left.needs)
            return
        facts = [self.facts[o] for o in op.operands]
        need = self.need(op.results[0])
        if self._is_given(op):
            return
        if isinstance(rule, Product):
            plan = rule.plan(facts, self.facts[op.results[0]], need, self.exact)
            self.plans[op] = plan
            others = [np.full(f.known.shape, need.any()) for f in facts[2:]]
            found = [plan.x, plan.live, *others]
        else:
            found = rule.needs(facts, need) if need.any() else []
        self._add_needs(op.operands[: len(found)], found)

    def _add_needs(self, operands: Sequence[SSAValue], needs: Sequence[Mask]) -> None:
        for operand, mask in zip(operands, needs, strict=True):
            self.needs[operand] = mask | self.needs[operand] if operand in self.needs else mask

    def need(self, value: SSAValue) -> Mask:
        """Elements that some output may depend on."""
        return self.needs.get(value, np.zeros(self.facts[value].known.shape, np.bool_))

    def is_needed(self, value: SSAValue) -> bool:
        return value in self.needs and bool(self.needs[value].any())

    def _is_given(self, op: Operation) -> bool:
        """Whether a constant can stand for the operator; a weight stays in its bytes."""
        result = op.results[0]
        return self.facts[result].is_known and not (
            isinstance(op, DequantizeLinearOp) and is_constant_weight(result)
        )


def name_of(op: Operation) -> str:
    """The layer's name; "" where it has none."""
    name = op.attributes.get("name")
    return name.data if isinstance(name, StringAttr) else ""
