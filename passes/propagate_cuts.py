"""Cuts indices that nothing needs out of weights and of all tensors between (for `sparse-propagate`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.ir import Operation, SSAValue

from sparsecc.dialects.nn_base import NnOp, number, shape_of
from sparsecc.dialects.nn_layout import ConcatOp, GatherOp
from sparsecc.nn.shapes import axis_of
from sparsecc.passes.propagate_constants import Constants
from sparsecc.passes.propagate_directions import merged
from sparsecc.passes.propagate_rules import is_constant, properties_after, slot_of
from sparsecc.propagate.cuts import RESULT, Axis, Link, solve
from sparsecc.propagate.facts import Mask


@dataclass
class Cuts(Constants):
    """A function whose tensors become smaller."""

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
