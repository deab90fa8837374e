"""Runs programs of the machine level on numpy: each instruction by its reference, loops as they stand.

Functions are turned to closures once, so that a program of many instructions does not walk the IR again and
again. `run` gives the output; `trace` the instructions as they were executed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import arith, func, scf
from xdsl.dialects.builtin import IntegerAttr, ModuleOp
from xdsl.ir import Block, Operation, SSAValue

from sparsecc.dialects import tu
from sparsecc.errors import UserError
from sparsecc.target import Target
from sparsecc.target.numbers import DTYPES, Act
from sparsecc.target.state import State

Array = NDArray[Any]
Values = dict[SSAValue, int]
Action = Callable[[Values], None]
# What is told of each executed instruction: the operation and its operands.
Listener = Callable[[tu.InstructionOp, Sequence[int]], None]

# The top two bits of an address name the memory.
ROW_MASK = (1 << 30) - 1
_MEMORIES = (tu.Memory.SPAD, tu.Memory.ACC, tu.Memory.L0A, tu.Memory.L0B)
_TAGS = {memory: number << 30 for number, memory in enumerate(_MEMORIES)}
_COMPARE: dict[int, Callable[[int, int], bool]] = {
    0: lambda a, b: a == b, 1: lambda a, b: a != b, 2: lambda a, b: a < b, 3: lambda a, b: a <= b,
    4: lambda a, b: a > b, 5: lambda a, b: a >= b,
}  # fmt: skip
_ARITHMETIC: dict[type[Operation], Callable[[int, int], int]] = {
    arith.AddiOp: lambda a, b: a + b,
    arith.SubiOp: lambda a, b: a - b,
    arith.MuliOp: lambda a, b: a * b,
    arith.DivUIOp: lambda a, b: a // b,
    arith.RemUIOp: lambda a, b: a % b,
    arith.MinSIOp: min,
}


def memory_of(address: int) -> tu.Memory:
    """The memory an address lies in."""
    return _MEMORIES[address >> 30]


@dataclass
class _Machine:
    """Turns operations to actions on a dictionary of values."""

    module: ModuleOp
    execute: Callable[[tu.InstructionOp, list[int]], None]
    buffer: Callable[[tu.ConstantOp], int]
    output: Callable[[tu.OutputOp], int]
    functions: dict[str, tuple[Block, list[Action]]] = field(
        default_factory=dict[str, tuple[Block, list[Action]]]
    )

    def call(self, name: str, arguments: Sequence[int]) -> None:
        if name not in self.functions:
            found = [f for f in self.module.ops if isinstance(f, func.FuncOp) and f.sym_name.data == name]
            if not found:
                raise UserError(f"the program has no function @{name}")
            block = found[0].body.block
            self.functions[name] = block, self.actions(block)
        block, actions = self.functions[name]
        values: Values = dict(zip(block.args, arguments, strict=True))
        for action in actions:
            action(values)

    def actions(self, block: Block) -> list[Action]:
        return [self.action(op) for op in block.ops if not isinstance(op, scf.YieldOp | func.ReturnOp)]

    def action(self, op: Operation) -> Action:
        match op:
            case arith.ConstantOp():
                number, result = cast("IntegerAttr[Any]", op.value).value.data, op.result
                return lambda v: v.__setitem__(result, number)
            case arith.CmpiOp():
                compare, a, b, result = _COMPARE[op.predicate.value.data], op.lhs, op.rhs, op.result
                return lambda v: v.__setitem__(result, int(compare(v[a], v[b])))
            case arith.SelectOp():
                c, a, b, result = op.cond, op.lhs, op.rhs, op.result
                return lambda v: v.__setitem__(result, v[a] if v[c] else v[b])
            case tu.LookupOp() | tu.LookupRealOp():
                table = cast("list[int]", op.constant.array.reshape(-1).tolist())
                at, result = op.at, op.value
                return lambda v: v.__setitem__(result, table[v[at]])
            case tu.AddressOp():
                tag, row, result = _TAGS[op.memory.data], op.row, op.address
                return lambda v: v.__setitem__(result, v[row] | tag)
            case tu.BufferOp():
                handle, result = self.buffer(op.constant), op.buffer
                return lambda v: v.__setitem__(result, handle)
            case tu.OutputOp():
                handle, result = self.output(op), op.handle
                return lambda v: v.__setitem__(result, handle)
            case tu.InstructionOp():
                operands, execute = op.operands, self.execute
                return lambda v: execute(op, [v[o] for o in operands])
            case scf.ForOp():
                return self._for(op)
            case scf.IfOp():
                return self._if(op)
            case func.CallOp():
                name, arguments = op.callee.string_value(), op.arguments
                return lambda v: self.call(name, [v[a] for a in arguments])
            case _ if type(op) in _ARITHMETIC:
                compute, a, b, result = _ARITHMETIC[type(op)], op.operands[0], op.operands[1], op.results[0]
                return lambda v: v.__setitem__(result, compute(v[a], v[b]))
            case _:
                raise UserError(f"{op.name} is not an operation of the machine level; lower it first")

    def _for(self, op: scf.ForOp) -> Action:
        low, high, step = op.lb, op.ub, op.step
        index, body = op.body.block.args[0], self.actions(op.body.block)

        def run(v: Values) -> None:
            for i in range(v[low], v[high], v[step]):
                v[index] = i
                for action in body:
                    action(v)

        return run

    def _if(self, op: scf.IfOp) -> Action:
        condition, then = op.cond, self.actions(op.true_region.block)
        otherwise = self.actions(op.false_region.block) if op.false_region.blocks else []

        def run(v: Values) -> None:
            for action in then if v[condition] else otherwise:
                action(v)

        return run


def run(
    module: ModuleOp,
    inputs: Array | tuple[Array, ...],
    target: Target,
    function: str = "main",
    listener: Listener | None = None,
) -> Array:
    """What the program writes, [m, n] in the accumulator type, for its input, or inputs."""
    block = _entry(module, function)
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    *types, y_type = (cast(tu.BufferType, a.type) for a in block.args)
    needed, found = [list(t.get_shape()) for t in types], [list(x.shape) for x in inputs]
    if found != needed:
        raise UserError(f"the program takes inputs of {needed}, found {found}")
    target = target.with_type(str(types[0].element_type))
    state = State(target)
    y = np.zeros(y_type.get_shape(), DTYPES[str(y_type.element_type)])

    def execute(op: tu.InstructionOp, operands: list[int]) -> None:
        if listener is not None:
            listener(op, operands)
        op.instruction.reference(state, *operands)

    def buffer(constant: tu.ConstantOp) -> int:
        array = np.ascontiguousarray(constant.array)
        return state.buffer(array, str(constant.type.element_type), constant.sym_name.data)

    def output(op: tu.OutputOp) -> int:
        element, scale, relu = op.conversion
        return state.output(element, scale, Act.RELU if relu else Act.NONE)

    handles = [
        *(
            state.buffer(np.ascontiguousarray(x), str(t.element_type))
            for x, t in zip(inputs, types, strict=True)
        ),
        state.buffer(y, str(y_type.element_type), "y"),
    ]
    _Machine(module, execute, buffer, output).call(function, handles)
    return y


@dataclass(frozen=True)
class Trace:
    """Instructions in the order of execution, and the constants their buffer handles stand for.

    Handles count from 0: the function's arguments first, then `constants` in the order of their first use.
    Output conversions all count 0; which one a store has its operand tells.
    """

    instructions: list[tuple[tu.InstructionOp, list[int]]]
    constants: list[tu.ConstantOp]


class _Full(Exception):
    """The trace has reached its limit."""


def trace(module: ModuleOp, function: str = "main", limit: int | None = None) -> Trace:
    """The instructions a function executes, at most limit of them; nothing is computed."""
    executed = Trace([], [])
    arguments = len(_entry(module, function).args)

    def execute(op: tu.InstructionOp, operands: list[int]) -> None:
        if limit is not None and len(executed.instructions) >= limit:
            raise _Full
        executed.instructions.append((op, operands))

    def buffer(constant: tu.ConstantOp) -> int:
        executed.constants.append(constant)
        return len(executed.constants) - 1 + arguments

    try:
        _Machine(module, execute, buffer, lambda _: 0).call(function, range(arguments))
    except _Full:
        pass
    return executed


def _entry(module: ModuleOp, function: str) -> Block:
    for op in module.ops:
        if isinstance(op, func.FuncOp) and op.sym_name.data == function:
            return op.body.block
    raise UserError(f"the program has no function @{function}")
