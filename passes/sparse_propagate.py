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
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
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
from xdsl.ir import Attribute, Block, Operation
from xdsl.utils.hints import isa

from sparsecc.dialects.nn_base import shape_of
from sparsecc.passes.base import SparsePass
from sparsecc.passes.propagate_analysis import name_of
from sparsecc.passes.propagate_cuts import Cuts
from sparsecc.propagate.products import Product
from sparsecc.propagate.recurrent import Recurrent


@dataclass
class Network(Cuts):
    """A function, and what its layers gained from their neighbours."""

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
                names.append(name_of(other))
            else:
                waiting += beside(other)
        return names


def _sources(op: Operation) -> list[Operation | Block]:
    return [operand.owner for operand in op.operands]


def _users(op: Operation) -> list[Operation | Block]:
    return [use.operation for result in op.results for use in result.uses]


def _strings(names: Sequence[str]) -> ArrayAttr[StringAttr]:
    return ArrayAttr([StringAttr(n) for n in names])


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
