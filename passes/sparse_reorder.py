"""Carries an order of a layer's outputs into all that uses them, so that nobody undoes it.

A layer with an attribute `order` (for each new place the old row) leaves its outputs in that order: rows of
its weight and its bias, and in all that its channels reach, columns of weights, constants per channel,
parameters of normalisations and scales. Operators stay as they are: channels of all operands of a residual
sum get the same order, parts of a concatenation keep to themselves, a flattening moves whole channels.
`sparsecc.propagate.orders` finds what may change places. The network's inputs and outputs keep their orders.

Who wants an order is for others to say: whole networks are compiled with those that make the layers around
faster (`sparsecc.network.reorder`). Integers keep every bit; sums of floats are taken in another order.

Refused is an order that an output of the network, an operator that looks along channels, or a recurrent
layer would see, and one for an operator without a constant weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import I64, DenseArrayBase, ModuleOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.utils.hints import isa

from sparsecc.dialects.nn_base import ConstantOp, NnOp, shape_of
from sparsecc.dialects.nn_layout import GatherOp
from sparsecc.dialects.nn_products import MatmulOp
from sparsecc.dialects.sparse import ConstantOp as MatrixOp
from sparsecc.passes.base import SparsePass, refuse
from sparsecc.passes.propagate_rules import constant_like, is_constant, rule_of, slot_of
from sparsecc.propagate.cuts import RESULT, Axis, Indices, Link
from sparsecc.propagate.facts import Fact, Rule, constant, unknown
from sparsecc.propagate.orders import Atoms
from sparsecc.propagate.products import Product

ORDER = "order"


@dataclass(frozen=True, eq=False)
class Channels:
    """A function, and which of its channels may change places."""

    block: Block
    rules: dict[Operation, Rule]
    atoms: Atoms

    @staticmethod
    def of(block: Block) -> Channels:
        rules = _rules(block)
        extents: dict[Axis, int] = {}
        links: list[Link] = []
        fixed: list[tuple[Axis, Indices | slice]] = []

        def add(slot: Any, value: SSAValue) -> None:
            extents.update({(slot, a): d for a, d in enumerate(shape_of(value))})

        for value in block.args:
            add(value, value)
            fixed += [((value, a), slice(None)) for a in range(len(shape_of(value)))]
        for op in block.ops:
            for result in op.results:
                add(result, result)
            for i, operand in enumerate(op.operands):
                add(slot_of(op, i), operand)
            if (rule := rules.get(op)) is None:
                known = () if isinstance(op, ConstantOp | MatrixOp) else (*op.operands, *op.results)
                fixed += [((v, a), slice(None)) for v in known for a in range(len(shape_of(v)))]
                continue

            def name(i: Any, op: Operation = op) -> Any:
                return op.results[0] if i == RESULT else slot_of(op, i)

            links += [link.between(name) for link in rule.links()]
            fixed += [((name(i), axis), slice(None)) for i, axis in rule.frozen()]
            fixed += [((name(i), axis), at) for i, axis, at in rule.pinned()]
        return Channels(block, rules, Atoms.find(extents, links, fixed))

    def axes(self, op: Operation) -> tuple[Axis, Axis, int] | None:
        """Of a product with a constant: the axis that its rows make, the one that its columns read, and how
        many columns belong to one index there. None for other operators."""
        rule = self.rules.get(op)
        result = len(shape_of(op.results[0]))
        if isinstance(rule, Product):
            x = len(shape_of(op.operands[0]))
            rows, columns = (1, 1) if rule.images else (result - 1, x - 1)
            return (op.results[0], rows), (slot_of(op, 0), columns), rule.taps
        if not isinstance(op, MatmulOp) or min(len(shape_of(o)) for o in op.operands) < 2:
            return None
        if is_constant(op.b) and len(shape_of(op.b)) == 2:
            return (op.results[0], result - 1), (slot_of(op, 0), len(shape_of(op.a)) - 1), 1
        if is_constant(op.a) and len(shape_of(op.a)) == 2:
            return (op.results[0], result - 2), (slot_of(op, 1), len(shape_of(op.b)) - 2), 1
        return None

    def exchange(self, op: Operation, order: Sequence[int]) -> Indices | None:
        """What changes places when a product's outputs get this order; None where that cannot be."""
        axes = self.axes(op)
        return None if axes is None else self.atoms.exchange(axes[0], np.array(order, np.intp))

    def apply(self, moved: dict[Axis, Indices]) -> None:
        """Move the entries of all constants."""
        for op in self.rules:
            for i, operand in enumerate(op.operands):
                # What a gather looks up stays where it is looked up, with other contents.
                if not is_constant(operand) or (isinstance(op, GatherOp) and i == 1):
                    continue
                orders = {a: moved[op_axis] for a in range(len(shape_of(operand)))
                          if (op_axis := ((op, i), a)) in moved}  # fmt: skip
                if orders:
                    array = _array(operand)
                    for axis, order in orders.items():
                        array = np.take(array, order, axis=axis)
                    new = constant_like(operand, array)
                    self.block.insert_op_before(new, op)
                    op.operands[i] = new.results[0]
        for op in reversed(list(self.block.ops)):
            if isinstance(op, ConstantOp | MatrixOp) and not op.res.uses:
                self.block.erase_op(op)


def _array(value: SSAValue) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    owner = value.owner
    if isinstance(owner, MatrixOp):
        return owner.weight.dense()
    return cast(ConstantOp, owner).value.array


def _rules(block: Block) -> dict[Operation, Rule]:
    """The rules of all operators, from their shapes and what constants say."""
    facts: dict[SSAValue, Fact] = {}
    rules: dict[Operation, Rule] = {}

    def learn_nothing(value: SSAValue) -> None:
        facts[value] = unknown(shape_of(value), np.dtype(np.float32))

    for value in block.args:
        learn_nothing(value)
    for op in block.ops:
        if isinstance(op, ConstantOp | MatrixOp):
            facts[op.res] = constant(np.asarray(_array(op.res)))
            continue
        if isinstance(op, NnOp) and len(op.results) == 1:
            rules[op] = rule_of(op, [facts[o] for o in op.operands])
        for result in op.results:
            learn_nothing(result)
    return rules


@dataclass(frozen=True)
class SparseReorderPass(SparsePass):
    name = "sparse-reorder"
    summary: ClassVar = "carries the order that a layer leaves its outputs in into all that uses them"
    refuses: ClassVar = "orders that outputs, recurrent layers or operators along channels would see"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in [f for f in op.ops if isinstance(f, func.FuncOp)]:
            wanted = [o for o in function.walk() if ORDER in o.attributes]
            if wanted:
                _reorder(function, wanted)


def _reorder(function: func.FuncOp, wanted: Sequence[Operation]) -> None:
    channels = Channels.of(function.body.block)
    whole = np.arange(len(channels.atoms.block))
    for op in wanted:
        attribute = op.attributes.pop(ORDER)
        axes = channels.axes(op)
        if axes is None:
            refuse(op, "has an order, but no constant weight with rows to order; take the attribute away")
        extent = shape_of(op.results[0])[axes[0][1]]
        if not isa(attribute, DenseArrayBase[I64]) or sorted(attribute.get_values()) != list(range(extent)):
            refuse(op, f"order is no permutation of its {extent} rows; give array<i64: ...> of each row once")
        found = channels.exchange(op, attribute.get_values())
        if found is None or channels.atoms.moved(found) is None:
            refuse(op, "something that uses its outputs does not take another order; leave the order out")
        changed = found != np.arange(len(found))
        if ((whole != np.arange(len(whole))) & changed & (whole != found)).any():
            refuse(op, "orders channels otherwise than a layer before it does; leave one of the orders out")
        whole[changed] = found[changed]
    moved = channels.atoms.moved(whole)
    assert moved is not None
    channels.apply(moved)
