"""Constants for what is known and zeros for what is not needed (for `sparse-propagate`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.ir import Operation, SSAValue
from xdsl.traits import is_side_effect_free

from sparsecc.dialects.nn_base import ConstantOp, NnOp, TensorAttr, type_of
from sparsecc.dialects.nn_quantized import DequantizeLinearOp
from sparsecc.passes.propagate_analysis import Analysis, name_of
from sparsecc.passes.propagate_rules import constant_like
from sparsecc.propagate.facts import Fact, Mask
from sparsecc.propagate.products import Plan, Product
from sparsecc.propagate.recurrent import Left

Array = NDArray[Any]


@dataclass
class Constants(Analysis):
    """A function whose weights, biases and known results are rewritten; no shape changes."""

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
        self.gone += [n for n in [name_of(op)] if op in self.gains and n]
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
                    self.gone += [n for n in [name_of(op)] if n]
                    del self.gains[op]
                self.block.erase_op(op)
