"""Directions of a recurrent layer that are stacked along an axis of their own and then merged with the units.

ONNX gives [T, directions, N, H]; networks go on with [T, N, directions H]. A unit could only leave such a
stack if it left all directions. The same elements are a concatenation of units, in which each direction has
its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.ir import Operation, SSAValue

from sparsecc.dialects.nn_base import ints, number, shape_of
from sparsecc.dialects.nn_layout import ConcatOp, ReshapeOp, TransposeOp
from sparsecc.nn.shapes import axis_of


@dataclass(frozen=True)
class Merged:
    """A reshape of a transposed stack of directions; its axis in which they lie one after the other."""

    op: ReshapeOp
    perm: tuple[int, ...]
    stack: ConcatOp
    axis: int

    @property
    def layers(self) -> list[SSAValue]:
        """What is stacked, before each part got its axis."""
        return [part.owner.operands[0] for part in self.stack.operands if isinstance(part.owner, ReshapeOp)]

    def concatenated(self) -> tuple[list[Operation], SSAValue]:
        """Operators that make the same from the parts, and their result."""
        shape = list(shape_of(self.op.results[0]))
        shape[self.axis] //= len(self.stack.operands)
        made: list[Operation] = []
        parts: list[SSAValue] = []
        for part in self.stack.operands:
            turned = TransposeOp.make(part, perm=self.perm)
            flat = ReshapeOp.make(turned.results[0], shape=shape)
            made += [turned, flat]
            parts.append(flat.results[0])
        joined = ConcatOp.make(*parts, axis=self.axis)
        joined.results[0].name_hint = self.op.results[0].name_hint
        return [*made, joined], joined.results[0]


def merged(op: Operation) -> Merged | None:
    """The operator as a merged stack of directions, if it is one."""
    if not isinstance(op, ReshapeOp) or not isinstance(turn := op.operands[0].owner, TransposeOp):
        return None
    stack, perm = turn.operands[0].owner, ints(turn.perm)
    if not isinstance(stack, ConcatOp) or not all(isinstance(p.owner, ReshapeOp) for p in stack.operands):
        return None
    along = axis_of(number(stack.axis), len(perm))
    if any(shape_of(part)[along] != 1 for part in stack.operands):
        return None
    at = perm.index(along)
    old, new = shape_of(turn.results[0]), shape_of(op.results[0])
    # The axis after that of directions takes it in; all others stay.
    if at + 1 == len(old) or new != (*old[:at], old[at] * old[at + 1], *old[at + 2 :]):
        return None
    return Merged(op, perm, stack, at)
