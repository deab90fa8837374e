"""Carries zeros and constants across the layers of a network, and cuts what nothing needs any more.

Forward: elements of tensors whose value is the same for every input are found, through every operator; a
dead channel with a bias is a constant, not a zero. Backward: elements that no output depends on. Then
constants of a layer's input move into its bias, entries of weights without use become zeros, rows that make
a constant become a bias alone, operators whose result is known become constants; and indices of axes that
nothing needs are cut out of weights and of all tensors between, as far as every operator and every user
agrees. Inputs and outputs of functions keep their shapes. The sweeps repeat until nothing changes.

Integers keep every bit. Floats do where zeros are left out (the sign of a zero is no value, and values are
taken to be finite); a constant other than 0 that moves into a bias is added in f64 and rounded once, so that
results agree within the forward error bound gamma_K (|W| |X| + |b|). With `exact` those stay where they are.

The rules are in `sparsecc.propagate`; the boolean algebra of products follows SparTA (Zheng et al., OSDI
2022), which knows zeros only. Operators of other dialects, and recurrent layers whose weights are not
constants, are left as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import (
    ArrayAttr,
    DictionaryAttr,
    IntegerAttr,
    ModuleOp,
    StringAttr,
    TensorType,
    i64,
)
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.traits import is_side_effect_free
from xdsl.utils.hints import isa

from sparsecc.dialects.nn_base import ConstantOp, NnOp, TensorAttr, number, shape_of, type_of
from sparsecc.dialects.nn_layout import ConcatOp, GatherOp
from sparsecc.dialects.nn_quantized import DequantizeLinearOp
from sparsecc.dialects.sparse import ConstantOp as MatrixOp
from sparsecc.elements import round_to
from sparsecc.interpreters.nn import evaluate
from sparsecc.nn.shapes import axis_of
from sparsecc.passes.base import SparsePass
from sparsecc.passes.propagate_directions import merged
from sparsecc.passes.propagate_rules import (
    constant_like,
    is_constant,
    is_constant_weight,
    properties_after,
    recurrent_rule_of,
    rule_of,
    slot_of,
)
from sparsecc.propagate.cuts import RESULT, Axis, Link, solve
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
class Network:
    """A function while it is rewritten, and what is known of its values."""

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

    # ---- what is known and needed

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

    # ---- constants

    def settle(self) -> None:
        """Rewrite until nothing changes; what is known then is known of what is left."""
        self._sweep()
        self.analyse()
        while self.rewrite():
            self._sweep()
            self.analyse()

    def rewrite(self) -> bool:
        """Put constants for what is known and zeros for what is not needed; whether that changed anything."""
        changed = False
        # Users before what they use, whose results may get new names.
        for op in reversed(list(self.rules)):
            result = op.results[0]
            if (left := self.left.get(op)) is not None:
                changed |= self._settle_recurrent(op, left)
            elif self._is_given(op):
                if result.uses:
                    self._drop(op, self._constant(op, self.facts[result].value, result))
                    changed = True
            elif (plan := self.plans.get(op)) is not None and result.uses:
                changed |= self._carry_out(op, plan)
        return changed

    def _drop(self, op: Operation, instead: SSAValue) -> None:
        self.gone += [n for n in [_name(op)] if op in self.gains and n]
        self.gains.pop(op, None)
        op.results[0].replace_all_uses_with(instead)

    def _constant(self, op: Operation, array: Array, like: SSAValue) -> SSAValue:
        """A dense constant before the operator, of the element type of a value."""
        new = ConstantOp(TensorAttr.of(np.asarray(array), type_of(like).element_type))
        self.block.insert_op_before(new, op)
        return new.res

    def _carry_out(self, op: Operation, plan: Plan) -> bool:
        rule = self.rules[op]
        assert isinstance(rule, Product)
        facts = [self.facts[o] for o in op.operands]
        entries = rule.weight(facts).reshape(plan.live.shape) != 0
        changed = bool((entries & ~plan.live).any())
        gain = self.gains[op]
        if changed:
            gain.rows += int((plan.unused & entries.any(axis=1)).sum())
            groups = entries.reshape(*plan.given.shape[:1], -1, plan.given.shape[1])
            gain.columns += int((plan.given & groups.any(axis=1)).sum())
            op.operands[1] = self._weight(op, plan.live, facts)
        if plan.bias is not None:
            at = rule.bias
            if at is not None:
                op.operands[at] = self._constant(op, plan.bias, op.operands[at])
            else:
                bias = self._constant(op, plan.bias, op.results[0])
                new = self._remake(cast(NnOp, op), [*op.operands, bias], {})
                op.results[0].replace_all_uses_with(new.results[0])
        return changed or plan.bias is not None

    def _settle_recurrent(self, op: Operation, left: Left) -> bool:
        """Constants for results that are known, zeros for entries that nothing needs."""
        changed = False
        for result in op.results:
            if self.facts[result].is_known and result.uses:
                result.replace_all_uses_with(self._constant(op, self.facts[result].value, result))
                changed = True
        if not any(result.uses for result in op.results):
            return changed
        gain = self.gains[op]
        w = self.facts[op.operands[1]].value != 0
        gain.rows += int((left.unused & w.any(axis=1)).sum())
        gain.columns += int((left.given & w.any(axis=0)).sum())
        for i, live in ((1, left.w), (2, left.r), (4, left.peephole)):
            if live is not None and ((array := self.facts[op.operands[i]].value) != 0)[~live].any():
                zeroed = np.where(live, array, np.zeros((), array.dtype))
                op.operands[i] = self._replaced(op, op.operands[i], zeroed)
                changed = True
        if left.bias is not None:
            op.operands[3] = self._constant(op, left.bias, op.operands[3])
            changed = True
        return changed

    def _weight(self, op: Operation, live: Mask, facts: Sequence[Fact]) -> SSAValue:
        """The weight of a product with only these entries left."""
        weight = op.operands[1]
        owner = weight.owner
        if isinstance(owner, DequantizeLinearOp):
            integers, _, zero = (self.facts[o].value for o in owner.operands)
            axis = owner.axis_number
            empty = zero if axis is None else zero.reshape(-1, 1) if axis == 0 else zero
            inner = self._replaced(op, owner.x, np.where(live, integers, empty))
            new = DequantizeLinearOp.make(inner, owner.scale, owner.zero, **owner.properties)
            new.attributes.update(owner.attributes)
            self.block.insert_op_before(new, op)
            return new.res
        empty = np.zeros((), facts[1].value.dtype)
        if cast(Product, self.rules[op]).zeros:
            empty = facts[3].value.reshape(-1, 1) if facts[3].value.ndim else facts[3].value
        return self._replaced(op, weight, np.where(live, facts[1].value, empty))

    def _replaced(self, op: Operation, old: SSAValue, array: Array) -> SSAValue:
        """A constant of the kind of another one, of these values."""
        new = constant_like(old, array)
        self.block.insert_op_before(new, op)
        return new.results[0]

    def _remake(self, op: NnOp, operands: Sequence[SSAValue], properties: dict[str, Any]) -> NnOp:
        """The operator on other operands, before the old one."""
        new = type(op).make(*operands, **{**op.properties, **properties})
        new.attributes.update(op.attributes)
        new.location = op.location
        for old, result in zip(op.results, new.results, strict=True):
            result.name_hint = old.name_hint
        self.block.insert_op_before(new, op)
        if op in self.gains:
            self.gains[new] = self.gains.pop(op)
        return new

    def _sweep(self) -> None:
        """Erase what nobody uses."""
        for op in reversed(list(self.block.ops)):
            if op.results and not any(r.uses for r in op.results) and is_side_effect_free(op):
                if op in self.gains:
                    self.gone += [n for n in [_name(op)] if n]
                    del self.gains[op]
                self.block.erase_op(op)

    # ---- cuts

    def part_directions(self) -> bool:
        """Where a unit could go out of one direction of a recurrent layer, but not of the stack of them."""
        changed = False
        for op in list(self.rules):
            found = merged(op)
            if found is None or not any(self._has_idle_units(value) for value in found.layers):
                continue
            made, result = found.concatenated()
            for new in made:
                self.block.insert_op_before(new, op)
            op.results[0].replace_all_uses_with(result)
            changed = True
        return changed

    def _has_idle_units(self, value: SSAValue) -> bool:
        """Whether the value is the result of a recurrent layer with units that nothing needs."""
        owner = value.owner
        if not isinstance(owner, Operation) or (left := self.left.get(owner)) is None:
            return False
        used = left.used.copy()
        for result in owner.results:
            used |= self.need(result).reshape(-1, len(used)).any(axis=0)
        return not bool(used.all())

    def cut(self) -> bool:
        """Cut the indices that nothing needs; whether there were any."""
        cut = self._free()
        links: list[Link] = []
        for op, rule in self.rules.items():

            def name(i: Any, op: Operation = op) -> Any:
                return op.results[RESULT - int(i)] if i < 0 else slot_of(op, i)

            links += [link.between(name) for link in rule.links()]
            for i, axis in rule.frozen():
                cut[name(i), axis][:] = False
            for i, axis, indices in rule.pinned():
                cut[name(i), axis][indices] = False
        solve(cut, links)
        while emptied := [a for a, mask in cut.items() if len(mask) and mask.all() and not _may_go(a, cut)]:
            for axis in emptied:
                cut[axis][0] = False
            solve(cut, links)
        if not any(mask.any() for mask in cut.values()):
            return False
        self._apply(cut)
        return True

    def _free(self) -> dict[Axis, Mask]:
        """For every axis the indices that nothing needs; constants follow their one user."""
        cut: dict[Axis, Mask] = {}

        def add(slot: Any, need: Mask) -> None:
            for axis in range(need.ndim):
                others = tuple(a for a in range(need.ndim) if a != axis)
                free = np.asarray(~need.any(axis=others))
                cut[slot, axis] = cut[slot, axis] & free if (slot, axis) in cut else free

        for value in self.block.args:
            if value in self.facts:
                add(value, np.ones(self.facts[value].known.shape, np.bool_))
        for op in self.block.ops:
            if op in self.rules:
                for result in op.results:
                    add(result, self.need(result))
                if (left := self.left.get(op)) is not None:
                    # A unit without users may still decide others.
                    cut[op.results[0], 2] &= ~left.used
                    add(slot_of(op, 0), left.needs[0])
                for i, operand in enumerate(op.operands):
                    if is_constant(operand):
                        add(slot_of(op, i), np.zeros(shape_of(operand), np.bool_))
                continue
            for value in (*op.operands, *op.results):
                if value in self.facts and not is_constant(value):
                    add(value, np.ones(self.facts[value].known.shape, np.bool_))
        return cut

    def _apply(self, cut: dict[Axis, Mask]) -> None:
        new: dict[SSAValue, SSAValue] = {}
        for op in list(self.block.ops):
            if op not in self.rules:
                for i, operand in enumerate(op.operands):
                    op.operands[i] = new.get(operand, operand)
                continue
            assert isinstance(op, NnOp)
            result = op.results[0]
            if _is_void(result, cut):
                continue
            results = [(RESULT - i, value) for i, value in enumerate(op.results)]
            kept = {
                (i, a): np.flatnonzero(~cut[slot, a])
                for i, slot in [*enumerate(_slots(op)), *results]
                for a in range(_rank(slot))
            }
            if not any(cut[slot, a].any() for slot in (*_slots(op), *op.results) for a in range(_rank(slot))):
                for i, operand in enumerate(op.operands):
                    op.operands[i] = new.get(operand, operand)
                continue
            operands = [
                self._cut_operand(op, i, kept, new)
                for i in range(len(op.operands))
                if not (isinstance(op, ConcatOp) and any(len(k) == 0 for (j, _), k in kept.items() if j == i))
            ]
            if isinstance(op, ConcatOp) and len(operands) == 1:
                new[result] = operands[0]
                continue
            remade = self._remake(op, operands, properties_after(op, kept))
            new.update(zip(op.results, remade.results, strict=True))

    def _cut_operand(
        self, op: NnOp, i: int, kept: dict[tuple[int, int], NDArray[np.intp]], new: dict[SSAValue, SSAValue]
    ) -> SSAValue:
        operand = op.operands[i]
        if not is_constant(operand):
            return new.get(operand, operand)
        array = self.facts[operand].value
        indices = [kept[i, a] for a in range(array.ndim)]
        smaller = array[np.ix_(*indices)] if indices else array
        if isinstance(op, GatherOp) and i == 1:
            axis = axis_of(number(op.axis), len(shape_of(op.x)))
            smaller = np.searchsorted(kept[0, axis], smaller % shape_of(op.x)[axis])
        elif smaller.shape == array.shape:
            return operand
        return self._replaced(op, operand, smaller)

    # ---- what it gained

    def report(self) -> Iterator[tuple[Operation, dict[str, Attribute]]]:
        """For each layer what it lost, and the neighbours that it owes that to."""
        for op, gain in self.gains.items():
            rows, columns = shape_of(op.operands[1])
            weight = self.facts[op.operands[1]].value
            rule = self.rules[op]
            if isinstance(rule, Recurrent):
                entries = np.count_nonzero(rule.entries())
            else:
                assert isinstance(rule, Product)
                entries = np.count_nonzero(rule.weight([self.facts[o] for o in op.operands]))
            numbers = {
                "rows": gain.shape[0], "rows_left": rows, "rows_not_needed": gain.rows,
                "columns": gain.shape[1], "columns_left": columns, "columns_known": gain.columns,
                "entries": gain.entries, "entries_left": int(entries),
            }  # fmt: skip
            assert weight.shape == (rows, columns)
            found: dict[str, Attribute] = {k: IntegerAttr(v, i64) for k, v in numbers.items()}
            found["previous"] = _strings(self._layers(op, _sources))
            found["next"] = _strings(self._layers(op, _users))
            yield op, found

    def _layers(self, op: Operation, beside: Callable[[Operation], list[Operation | Block]]) -> list[str]:
        """Names of the nearest layers in one direction."""
        waiting, seen, names = list(beside(op)), set[Operation](), list[str]()
        while waiting:
            other = waiting.pop(0)
            if not isinstance(other, Operation) or other in seen:
                continue
            seen.add(other)
            if other in self.gains:
                names.append(_name(other))
            else:
                waiting += beside(other)
        return names


def _sources(op: Operation) -> list[Operation | Block]:
    return [operand.owner for operand in op.operands]


def _users(op: Operation) -> list[Operation | Block]:
    return [use.operation for result in op.results for use in result.uses]


def _name(op: Operation) -> str:
    name = op.attributes.get("name")
    return name.data if isinstance(name, StringAttr) else ""


def _strings(names: Sequence[str]) -> ArrayAttr[StringAttr]:
    return ArrayAttr([StringAttr(n) for n in names])


def _slots(op: Operation) -> list[Any]:
    return [slot_of(op, i) for i in range(len(op.operands))]


def _rank(slot: Any) -> int:
    value = cast(SSAValue, slot if isinstance(slot, SSAValue) else slot[0].operands[slot[1]])
    return len(shape_of(value))


def _is_void(value: SSAValue, cut: dict[Axis, Mask]) -> bool:
    """Whether nothing is left of a value that had elements."""
    masks = [cut[value, a] for a in range(_rank(value)) if (value, a) in cut]
    return any(len(mask) > 0 and bool(mask.all()) for mask in masks)


def _may_go(axis: Axis, cut: dict[Axis, Mask]) -> bool:
    """Whether an axis may lose all its indices: all users go as well, or are concatenations along it."""
    slot, number_ = axis
    users = [(use.operation, use.index) for use in slot.uses] if isinstance(slot, SSAValue) else [slot]
    for op, _ in users:
        if not isinstance(op, NnOp):
            return False
        along = isinstance(op, ConcatOp) and axis_of(number(op.axis), _rank(op.results[0])) == number_
        if not along and not _is_void(op.results[0], cut):
            return False
    return True


def _any_empty(function: func.FuncOp) -> bool:
    """Whether some value has no element: of those everything is known, and nothing is needed."""
    values = [*function.body.block.args, *(r for op in function.walk() for r in op.results)]
    return any(isa(v.type, TensorType) and 0 in v.type.get_shape() for v in values)


@dataclass(frozen=True)
class SparsePropagatePass(SparsePass):
    name = "sparse-propagate"
    summary: ClassVar = "carries zeros and constants across layers, and cuts what nothing needs"
    refuses: ClassVar = (
        "nothing; operators of other dialects, recurrent layers with weights that are computed, and "
        "functions with empty tensors stay as they are"
    )
    option_help: ClassVar = {
        "exact": "keep every bit of floats: constants other than 0 do not move into biases",
        "report": "give each layer an attribute `propagated`: what it lost, and its neighbours",
    }

    exact: bool = False
    report: bool = False

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in [found for found in op.walk() if isinstance(found, func.FuncOp)]:
            if len(function.body.blocks) == 1 and not _any_empty(function):
                self._run(function)

    def _run(self, function: func.FuncOp) -> None:
        network = Network(function.body.block, self.exact)
        network.settle()
        while network.cut() or network.part_directions():
            network.settle()
        if self.report:
            for layer, found in network.report():
                layer.attributes["propagated"] = DictionaryAttr(found)
            if network.gone:
                function.attributes["propagated_away"] = _strings(network.gone)
