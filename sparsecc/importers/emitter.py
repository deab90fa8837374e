"""What readers of networks share: adding operations, folded where all is constant, and common forms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NoReturn

from xdsl.ir import Block

from sparsecc.dialects.nn_base import ELEMENTS, NnOp, Property, tensor_type, type_of
from sparsecc.dialects.nn_elementwise import CastOp
from sparsecc.dialects.nn_layout import BroadcastOp, ReshapeOp, SliceOp, TransposeOp
from sparsecc.dialects.nn_products import LinearOp, MatmulOp
from sparsecc.errors import UserError
from sparsecc.importers.constants import Dense
from sparsecc.importers.values import Builder, Value
from sparsecc.interpreters.nn import evaluate
from sparsecc.nn.shapes import ShapeError

# A result with more elements is folded only when it is no larger than what it is made of.
_FOLDED = 1 << 22


class Emitter:
    """Adds the operations that one node of a model becomes, with the errors that name the node."""

    def __init__(self, builder: Builder, name: str, where: str):
        self.builder, self.name, self.where = builder, name, where

    def fail(self, problem: str, advice: str = "export the model again without this") -> NoReturn:
        """Raise the error that this node is wrong or not supported."""
        raise UserError(f"{self.where}: {problem}; {advice}")

    def emit(
        self,
        kind: type[NnOp],
        /,
        *inputs: Value | None,
        weights: Sequence[int] = (),
        **properties: Property | None,
    ) -> Value:
        """The one result of an operation, as `emit_all` gives it."""
        return self.emit_all(kind, *inputs, weights=weights, properties=properties)[0]

    def emit_all(
        self,
        kind: type[NnOp],
        /,
        *inputs: Value | None,
        weights: Sequence[int],
        properties: Mapping[str, Property | None],
    ) -> list[Value]:
        """All results of an operation, folded when all its inputs are constant.

        weights: which inputs are matrices of weights.
        """
        given = [v for v in inputs if v is not None]
        try:
            if all(v.constant is not None for v in given):
                if (folded := self._folded(kind, given, properties)) is not None:
                    return folded
            operands = [
                self.builder.matrix(v, self.name) if i in weights else self.builder.ssa(v, self.name)
                for i, v in enumerate(given)
            ]
            op = self.builder.add(kind.make(*operands, **properties), self.name)
        except ShapeError as error:
            self.fail(str(error))
        results: list[Value] = []
        for result in op.results:
            found = type_of(result)
            results.append(Value(found.get_shape(), str(found.element_type), ssa=result))
        return results

    def _folded(
        self, kind: type[NnOp], inputs: Sequence[Value], properties: Mapping[str, Property | None]
    ) -> list[Value] | None:
        block = Block(arg_types=[tensor_type(v.shape, ELEMENTS[v.element]) for v in inputs])
        op = kind.make(*block.args, **properties)
        types = [type_of(result) for result in op.results]
        size = sum(math.prod(t.get_shape()) for t in types)
        if size > _FOLDED and size > sum(math.prod(v.shape) for v in inputs):
            return None
        arrays = [v.constant.array() for v in inputs if v.constant is not None]
        results = evaluate(op, dict(zip(block.args, arrays, strict=True)))
        return [Value.of(Dense(a, str(t.element_type))) for a, t in zip(results, types, strict=True)]


def transposed(node: Emitter, value: Value, perm: Sequence[int] = (1, 0)) -> Value:
    """The value with its axes in another order; constants stay what they are."""
    if list(perm) == list(range(value.rank)):
        return value
    if value.constant is not None and sorted(perm) == list(range(value.rank)):
        return Value.of(value.constant.transpose(perm))
    return node.emit(TransposeOp, value, perm=list(perm))


def reshaped(node: Emitter, value: Value, shape: Sequence[int]) -> Value:
    """The value under another shape; constants stay what they are."""
    if value.constant is not None and math.prod(value.shape) == math.prod(shape):
        return Value.of(value.constant.reshape(shape))
    return value if value.shape == tuple(shape) else node.emit(ReshapeOp, value, shape=list(shape))


def broadcast(node: Emitter, value: Value, shape: Sequence[int]) -> Value:
    """The value repeated to the shape."""
    return value if value.shape == tuple(shape) else node.emit(BroadcastOp, value, shape=list(shape))


def sliced(node: Emitter, x: Value, offsets: list[int], sizes: list[int], strides: list[int]) -> Value:
    """A part of the value; all of it is the value itself."""
    if sizes == list(x.shape) and not any(offsets) and all(s == 1 for s in strides):
        return x
    return node.emit(SliceOp, x, offsets=offsets, sizes=sizes, strides=strides)


def as_element(node: Emitter, x: Value, element: str) -> Value:
    """The value in another element type."""
    return x if x.element == element else node.emit(CastOp, x, element_type=ELEMENTS[element])


def as_matrix(node: Emitter, w: Value) -> Value:
    """A weight [M, ...] as [M, everything else]."""
    return reshaped(node, w, (w.shape[0], math.prod(w.shape[1:])))


def product(node: Emitter, a: Value, b: Value) -> Value:
    """numpy's matmul; a constant matrix on the right makes it `nn.linear`."""
    if b.constant is not None and b.rank == 2 and a.rank >= 1 and a.constant is None:
        return node.emit(LinearOp, a, transposed(node, b), weights=[1])
    weights = [i for i, v in enumerate((a, b)) if v.constant is not None and v.rank == 2]
    return node.emit(MatmulOp, a, b, weights=weights)
