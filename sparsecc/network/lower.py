"""What the lowering of networks to calls shares: values in their layouts, constants, calls, products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.dialects.builtin import StringAttr, SymbolRefAttr, TensorType, f32
from xdsl.ir import Attribute, Block, Operation, SSAValue

from sparsecc.dialects.host import CallOp, ViewOp, kind_of
from sparsecc.dialects.host import Value as Argument
from sparsecc.dialects.nn_base import ConstantOp, NnOp, Tensor, TensorAttr, shape_of, type_of
from sparsecc.dialects.sparse import ConstantOp as SparseConstantOp
from sparsecc.errors import UserError
from sparsecc.host.operator import ELEMENT_BYTES
from sparsecc.host.ops import OPERATORS
from sparsecc.host.walk import Walk, contiguous
from sparsecc.importers.matrix import Csr
from sparsecc.interpreters.nn import evaluate
from sparsecc.model import model_module
from sparsecc.network.layout import Layout
from sparsecc.operator import operator_of
from sparsecc.target import AnyTarget
from sparsecc.target.crossbar import CrossbarTarget

Array = NDArray[Any]
Rule = Callable[[Any, "Lowering"], Sequence["Placed"]]

# The types a unit multiplies to f32, the most exact first.
FLOATS = ("f32", "f16", "bf16")


def types_of(target: AnyTarget) -> list[str]:
    """The input types of products on a target."""
    return [target.in_type] if isinstance(target, CrossbarTarget) else [i for i, _ in target.types]


@dataclass(frozen=True)
class Placed:
    """A value of the network: an array in memory, and the layout of the network's axes there."""

    value: SSAValue
    layout: Layout


def label(op: Operation) -> str:
    """What users call a node: its name in the model, or the operator."""
    name = op.attributes.get("name")
    return name.data if isinstance(name, StringAttr) and name.data else op.name.removeprefix("nn.")


def refuse(op: Operation, problem: str) -> NoReturn:
    """Raise the error that a node cannot be compiled."""
    kind = op.name.removeprefix("nn.")
    raise UserError(f"node {label(op)!r} ({kind}): {problem}")


class Lowering:
    """Builds the calls of one function. `values` holds what is built so far, by value of the network."""

    def __init__(self, block: Block, target: AnyTarget):
        self.block, self.target = block, target
        self.values: dict[SSAValue, Placed] = {}
        self.functions: list[func.FuncOp] = []
        self._node: Operation | None = None
        self._label = ""
        self._copies: dict[tuple[SSAValue, tuple[int, ...]], SSAValue] = {}
        self._casts: dict[SSAValue, SSAValue] = {}

    def node(self, op: Operation, rules: dict[type[Operation], Rule]) -> None:
        """Lower one node."""
        if (rule := rules.get(type(op))) is None:
            refuse(op, "whole networks cannot be compiled with this operator yet; take it out of the model")
        self.use(op, label(op))
        results = rule(op, self)
        for result, placed in zip(op.results, results, strict=True):
            assert placed.layout.shape == shape_of(result), f"{op.name}: {placed.layout} for {result.type}"
            self.values[result] = placed

    def use(self, op: Operation, name: str) -> None:
        """What is built from here on belongs to this node."""
        self._node, self._label = op, name

    # -- values

    def get(self, value: SSAValue) -> Placed:
        """A value of the network; constants come in when they are used."""
        if value not in self.values:
            array = self.known(value)
            assert array is not None
            constant = ConstantOp(TensorAttr.of(array, type_of(value).element_type))
            self.block.add_op(constant)
            self.values[value] = Placed(constant.res, Layout.plain(array.shape))
        return self.values[value]

    def known(self, value: SSAValue) -> Array | None:
        """The elements of a constant, also of a dequantised one; None for what is computed at run time."""
        match value.owner:
            case SparseConstantOp(weight=weight):
                return weight.dense()
            case ConstantOp(value=found):
                return found.array
            case NnOp() as op if op.name == "nn.dequantize_linear":
                parts = {o: self.known(o) for o in op.operands}
                if all(p is not None for p in parts.values()):
                    return evaluate(op, cast("dict[SSAValue, Array]", parts))[0]
            case _:
                pass
        return None

    def is_constant(self, value: SSAValue) -> bool:
        """Whether a value is known now."""
        return value not in self.values and self.known(value) is not None

    def constant(self, array: Array, element_type: Attribute) -> SSAValue:
        """An array of the compiler's own."""
        op = ConstantOp(TensorAttr.of(array, element_type))
        self.block.add_op(op)
        return op.res

    # -- operations

    def add(self, op: Operation, why: str | None = None) -> Operation:
        """Append an operation, named for the node it comes from; `why` for copies that only change order."""
        op.attributes["name"] = StringAttr(self._label)
        if why is not None:
            op.attributes["reorders"] = StringAttr(why)
        self.block.add_op(op)
        return op

    def call(
        self,
        operator: str,
        inputs: Sequence[SSAValue],
        shape: Sequence[int],
        element_type: Attribute,
        *,
        offsets: Sequence[int] | None = None,
        into: SSAValue | None = None,
        at: int = 0,
        why: str | None = None,
        **arguments: Argument,
    ) -> SSAValue:
        """A call of an operator of the host; refuses the node where the host has no such operator."""
        return self.call_with(operator, inputs, shape, element_type, arguments, offsets, into, at, why)

    def call_with(
        self,
        operator: str,
        inputs: Sequence[SSAValue],
        shape: Sequence[int],
        element_type: Attribute,
        arguments: dict[str, Argument],
        offsets: Sequence[int] | None = None,
        into: SSAValue | None = None,
        at: int = 0,
        why: str | None = None,
    ) -> SSAValue:
        """As `call`, the arguments given as a dictionary."""
        assert self._node is not None
        if operator not in OPERATORS:
            kind = operator.rsplit("_", 1)[1]
            refuse(self._node, f"the host has no such operator for elements of {kind}; use f32 in the model")
        result = TensorType(element_type, shape)
        op = CallOp(operator, inputs, result, arguments, offsets, into, at)
        return self.add(op, why).results[0]

    def view(self, value: SSAValue, shape: Sequence[int]) -> SSAValue:
        """The same memory under this shape."""
        if cast(Tensor, value.type).get_shape() == tuple(shape):
            return value
        return self.add(ViewOp(value, shape)).results[0]

    def ordered(self, placed: Placed, order: Sequence[int], why: str) -> SSAValue:
        """The value with its axes in this order in memory: a view where that is so already, else a copy."""
        extents = [placed.layout.shape[a] for a in order]
        if placed.layout.same_memory(order):
            return self.view(placed.value, extents)
        key = placed.value, tuple(order)
        if key not in self._copies:
            steps = placed.layout.strides
            walk = Walk.of(extents, contiguous(extents), [steps[a] for a in order])
            size, element = ELEMENT_BYTES[kind_of(placed.value)], cast(Tensor, placed.value.type).element_type
            self._copies[key] = self.call(
                f"host_copy_{size}", [placed.value], extents, element, why=why, walk=walk.table()
            )
        return self._copies[key]

    def plain(self, placed: Placed, why: str) -> SSAValue:
        """The value row-major in the axes of the network."""
        return self.ordered(placed, range(len(placed.layout.shape)), why)

    # -- products

    def narrowed(self, value: SSAValue) -> SSAValue:
        """f32 as the input type of the target, where that is a float."""
        wanted = self.target.in_type
        if wanted not in FLOATS[1:] or kind_of(value) != "f32":
            return value
        if value not in self._casts:
            from sparsecc.model import ELEMENT_TYPES

            shape = cast(Tensor, value.type).get_shape()
            self._casts[value] = self.call(
                f"host_cast_f32_{wanted}", [value], shape, ELEMENT_TYPES[wanted], n=int(np.prod(shape))
            )
        return self._casts[value]

    def product(self, weight: Csr, x: SSAValue) -> SSAValue:
        """weight [M, K] times x [K, N], in the input type of the target, as a function of its own."""
        return self.matrix(weight, cast(Tensor, x.type).get_shape()[1])(x)

    def matrix(self, weight: Csr, n: int, part: str = "") -> Callable[[SSAValue], SSAValue]:
        """The product of weight [M, K] with any x [K, n] as one function; what is returned calls it.

        part: what is added to the node's name, where it has several products. What the target does not
        multiply, floats on one of integers, the host does.
        """
        name = self._label + part
        if weight.data.dtype.kind == "f" and self.target.in_type not in FLOATS:
            return lambda x: self._product_on_the_host(weight, x)
        operator = operator_of(weight, n, self.target, self.target.in_type, name=name)
        module = model_module(operator, self.target)
        function = cast(func.FuncOp, module.body.block.first_op)
        function.detach()
        symbol = f"layer{len(self.functions)}"
        function.properties["sym_name"] = StringAttr(symbol)
        function.properties["sym_visibility"] = StringAttr("private")
        self.functions.append(function)
        results = list(function.function_type.outputs)

        def call(x: SSAValue) -> SSAValue:
            op = self.add(func.CallOp(SymbolRefAttr(symbol), [x], results))
            op.attributes["name"] = StringAttr(name)
            return op.results[0]

        return call

    def _product_on_the_host(self, weight: Csr, x: SSAValue) -> SSAValue:
        rows, n = weight.shape[0], cast(Tensor, x.type).get_shape()[1]
        values = self.constant(weight.data.astype(np.float32), f32)
        arguments: dict[str, Argument] = {
            "bias": None, "row_first": weight.indptr.tolist(), "column": weight.indices.tolist(), "m": rows,
            "n": n, "y_pitch": n, "x_pitch": n,
        }  # fmt: skip
        return self.call_with("host_spmm_f32", [values, x], (rows, n), f32, arguments)


def csr_of(dense: Array) -> Csr:
    """The nonzeros of a matrix."""
    import scipy.sparse  # pyright: ignore[reportMissingTypeStubs]  # slow to import

    return cast(Csr, scipy.sparse.csr_array(dense))
