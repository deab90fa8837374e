"""Which array each value of a function is, and where arrays lie: views and calls in place share memory.

What is copied whole to its place in a concatenation is computed there in the first place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from xdsl.dialects import func, tensor
from xdsl.ir import SSAValue

from sparsecc.dialects.host import CallOp, ViewOp, elements_in, kind_of
from sparsecc.dialects.nn_base import ConstantOp
from sparsecc.host.operator import ELEMENT_BYTES
from sparsecc.host.walk import Walk, contiguous
from sparsecc.network.memory import Lifetime, lower_bound, place


@dataclass(frozen=True, eq=False)
class Storage:
    """Where the values of a function lie."""

    offsets: Mapping[SSAValue, int]
    """In the arena, in bytes; of all values but constants."""
    constants: Mapping[SSAValue, str]
    """Of constants: their names."""
    size: int
    """Bytes of the arena."""
    needed: int
    """No plan with these arrays is smaller."""
    total: int
    """Bytes of all arrays, without reuse."""
    settled: frozenset[CallOp]
    """Copies of what already lies where it is copied to."""
    only_read: frozenset[SSAValue]
    """Arguments that no call writes into, and views of them."""


def bytes_of(value: SSAValue) -> int:
    """What a value takes."""
    return elements_in(value) * ELEMENT_BYTES[kind_of(value)]


def plan_storage(function: func.FuncOp) -> Storage:
    """A static plan: every array has one place from its first to its last use."""
    block = function.body.block
    ops = list(block.ops)
    number = {op: i for i, op in enumerate(ops)}
    constants: dict[SSAValue, str] = {
        op.res: f"host_c{i}" for i, op in enumerate(o for o in ops if isinstance(o, ConstantOp))
    }  # fmt: skip
    root: dict[SSAValue, SSAValue] = {argument: argument for argument in block.args}
    members: dict[SSAValue, list[SSAValue]] = {argument: [argument] for argument in block.args}
    born: dict[SSAValue, int] = dict.fromkeys(block.args, 0)
    inside: dict[SSAValue, int] = {}
    settled: set[CallOp] = set()

    def last_use(array: SSAValue) -> int:
        return max((number[u.operation] for m in members[array] for u in m.uses), default=born[array])

    for op in ops:
        for result in op.results:
            if result in constants:
                continue
            shared: SSAValue | None = None
            match op:
                case ViewOp():
                    if op.x in constants:
                        constants[result] = constants[op.x]
                        continue
                    shared = root[op.x]
                case CallOp(into=into) if into is not None:
                    assert isinstance(into.owner, CallOp | tensor.EmptyOp), "writes into what is computed"
                    assert len(list(into.uses)) == 1, "what a call writes into has another use"
                    shared = root[into]
                    part = root.get(op.inputs[0]) if _copies_all(op) else None
                    if part is not None and part not in block.args and shared not in block.args:
                        at = op.result_begins * ELEMENT_BYTES[kind_of(op.res)]
                        if part is not shared and bytes_of(part) == bytes_of(op.inputs[0]):
                            settled.add(op)
                            for member in members.pop(part):
                                root[member] = shared
                                inside[member] = inside.get(member, 0) + at + inside.get(into, 0)
                                members[shared].append(member)
                            born[shared] = min(born[shared], born[part])
                case CallOp():
                    for value in op.in_place():
                        if value in constants or bytes_of(value) != bytes_of(result):
                            continue
                        if bytes_of(root[value]) == bytes_of(value) and last_use(root[value]) == number[op]:
                            shared = root[value]
                            break
                case _:
                    pass
            if shared is None:
                shared, born[result], members[result] = result, number[op], []
            root[result] = shared
            members[shared].append(result)
            if isinstance(op, ViewOp):
                inside[result] = inside.get(op.x, 0)
            elif isinstance(op, CallOp) and op.into is not None:
                inside[result] = inside.get(op.into, 0)
    arrays = list(members)
    lifetimes = [Lifetime(bytes_of(a), born[a], last_use(a)) for a in arrays]
    places, size = place(lifetimes)
    where = dict(zip(arrays, places, strict=True))
    return Storage(
        {value: where[array] + inside.get(value, 0) for value, array in root.items()},
        constants,
        size,
        lower_bound(lifetimes),
        sum(a.size for a in lifetimes),
        frozenset(settled),
        frozenset(
            value
            for argument in block.args
            if all(m is argument or isinstance(m.owner, ViewOp) for m in members[argument])
            for value in members[argument]
        ),
    )


def _copies_all(op: CallOp) -> bool:
    """Whether a call copies all of an array, in its order, to a stretch of another."""
    if not op.operator.data.startswith("host_copy_") or any(op.begins):
        return False
    walk = Walk.from_table(cast("Sequence[int]", op.values()[-1]))
    steps = contiguous(walk.extents)
    return walk.strides == (steps, steps) and walk.count == elements_in(op.inputs[0])
