"""Programs of the machine level on the simulator for their time, without compiling any C.

The functions of a module become numbers that `runtime/replay/replay.c`, built once for each machine, executes
on the simulator: the same instructions in the same order as the emitted C, so the same cycles and energy.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import arith, func, scf
from xdsl.dialects.builtin import FloatAttr, IntegerAttr, ModuleOp
from xdsl.ir import Block, Operation, SSAValue

from sparsecc.dialects import tu
from sparsecc.errors import UserError
from sparsecc.target import CrossbarTarget, Target, crossbar_instructions, instructions
from sparsecc.target.crossbar_checks import MAX_SHAPES
from sparsecc.target.crossbar_header import base_fields, crossbar_fields
from sparsecc.target.header import TYPES, configuration
from sparsecc.target.instructions import Instruction
from sparsecc.toolchain import RUNTIME, build_with_simulator

SOURCE = RUNTIME / "replay" / "replay.c"
# As in replay.c.
(END, RETURN, CALL, JUMP, UNLESS, FROM, COPY, ADD, SUB, MUL, DIV, REM, MIN, OR, LESS, SELECT, LOOKUP,
 INSTRUCTION) = range(18)  # fmt: skip
_ARITHMETIC: dict[type[Operation], int] = {
    arith.AddiOp: ADD, arith.SubiOp: SUB, arith.MuliOp: MUL, arith.DivUIOp: DIV, arith.RemUIOp: REM,
    arith.MinSIOp: MIN,
}  # fmt: skip
# Of all targets; the first are those of tensor units, which have no others.
_INSTRUCTIONS: dict[str, Instruction] = {**instructions.INSTRUCTIONS, **crossbar_instructions.INSTRUCTIONS}
_NUMBER = {mnemonic: INSTRUCTION + number for number, mnemonic in enumerate(_INSTRUCTIONS)}
_MEMORIES = (tu.Memory.SPAD, tu.Memory.ACC, tu.Memory.L0A, tu.Memory.L0B)
LESS_THAN = 2  # the predicate of arith.cmpi that programs use


def _configuration(target: Target | CrossbarTarget) -> dict[str, float]:
    """What the machine is opened with: fields of ax_config, or of ax_crossbar."""
    if isinstance(target, Target):
        return configuration(target)
    shapes = target.array.shapes
    return {
        **{f"base.{name}": value for name, value in base_fields(target).items()},
        **crossbar_fields(target),
        **{
            f"shape_{name}[{i}]": shapes[i][axis] if i < len(shapes) else 0
            for axis, name in enumerate(("rows", "cols"))
            for i in range(MAX_SHAPES)
        },
    }


def _header(target: Target | CrossbarTarget) -> str:
    """replay.h: what the configuration and the instruction set hold. The same for all of a family."""
    fields = " ".join(f"X({name})" for name in _configuration(target))
    crossbars = isinstance(target, CrossbarTarget)
    held = _INSTRUCTIONS if crossbars else instructions.INSTRUCTIONS
    cases: list[str] = []
    for number, instruction in enumerate(held.values()):
        count = len(instruction.operands)
        operands = "".join(f", R({i})" for i in range(count))
        # The kinds of vector instructions are one call.
        call = f"{instruction.c_name}(m{operands})"
        cases.append(f"X({number}, {count}, {call})")
    included = '#include "crossbar.h"\n#define REPLAY_CROSSBARS\n' if crossbars else ""
    return f"{included}#define CONFIG(X) {fields}\n#define INSTRUCTIONS(X) {' '.join(cases)}\n"


@dataclass
class _Code:
    """The numbers of a module, in the making."""

    module: ModuleOp
    words: list[int] = field(default_factory=list[int])
    registers: list[int] = field(default_factory=list[int])
    """First values."""
    of_value: dict[SSAValue, int] = field(default_factory=dict[SSAValue, int])
    of_constant: dict[int, int] = field(default_factory=dict[int, int])
    tables: dict[str, tuple[int, NDArray[np.generic]]] = field(
        default_factory=dict[str, "tuple[int, NDArray[np.generic]]"]
    )
    buffers: list[tuple[str, int, NDArray[np.generic] | None]] = field(
        default_factory=list["tuple[str, int, NDArray[np.generic] | None]"]
    )
    handles: dict[str, int] = field(default_factory=dict[str, int])
    outputs: list[tuple[str, float, bool]] = field(default_factory=list["tuple[str, float, bool]"])
    """Conversions of stores; handles of them count from 1."""
    calls: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    """Words that hold the place of a function, and its name."""

    def register(self, value: SSAValue) -> int:
        if value not in self.of_value:
            self.registers.append(0)
            self.of_value[value] = len(self.registers) - 1
        return self.of_value[value]

    def constant(self, number: int) -> int:
        if number not in self.of_constant:
            self.registers.append(number)
            self.of_constant[number] = len(self.registers) - 1
        return self.of_constant[number]

    def emit(self, op: int, *operands: int) -> int:
        """Append an operation; returns the place of its last word."""
        self.words += [op, *operands]
        return len(self.words) - 1

    def __post_init__(self) -> None:
        self.functions = {op.sym_name.data: op for op in self.module.ops if isinstance(op, func.FuncOp)}
        self.constants = {op.sym_name.data: op for op in self.module.ops if isinstance(op, tu.ConstantOp)}

    def function(self, name: str) -> func.FuncOp:
        if name not in self.functions:
            raise UserError(f"the program has no function @{name}")
        return self.functions[name]

    def block(self, block: Block) -> None:
        for op in block.ops:
            self.operation(op)

    def operation(self, op: Operation) -> None:
        r = self.register
        if (number := _ARITHMETIC.get(type(op))) is not None:
            self.emit(number, r(op.results[0]), r(op.operands[0]), r(op.operands[1]))
            return
        match op:
            case arith.ConstantOp(value=FloatAttr()):
                self.of_value[op.result] = self.constant(0)  # time does not depend on it
            case arith.ConstantOp():
                self.of_value[op.result] = self.constant(cast("IntegerAttr[Any]", op.value).value.data)
            case arith.CmpiOp() if op.predicate.value.data == LESS_THAN:
                self.emit(LESS, r(op.result), r(op.lhs), r(op.rhs))
            case arith.SelectOp():
                self.emit(SELECT, r(op.result), r(op.cond), r(op.lhs), r(op.rhs))
            case tu.LookupOp():
                name = op.table.string_value()
                number, _ = self.tables.setdefault(name, (len(self.tables), self.constants[name].array))
                self.emit(LOOKUP, r(op.value), number, r(op.at))
            case tu.LookupRealOp():
                self.of_value[op.value] = self.constant(0)  # time does not depend on it
            case tu.AddressOp():
                tag = self.constant(_MEMORIES.index(op.memory.data) << 30)
                self.emit(OR, r(op.address), r(op.row), tag)
            case tu.BufferOp():
                self.of_value[op.buffer] = self.constant(
                    self.handle(self.constants[op.constant_name.string_value()])
                )
            case tu.OutputOp():
                if op.conversion not in self.outputs:
                    self.outputs.append(op.conversion)
                self.of_value[op.handle] = self.constant(1 + self.outputs.index(op.conversion))
            case tu.InstructionOp():
                self.emit(_NUMBER[op.MNEMONIC], *(r(o) for o in op.operands))
            case scf.ForOp():
                self.loop(op)
            case scf.IfOp():
                self.branch(op)
            case func.CallOp():
                name = op.callee.string_value()
                for to, value in zip(self.function(name).body.block.args, op.arguments, strict=True):
                    self.emit(COPY, r(to), r(value))
                self.calls.append((self.emit(CALL, 0), name))
            case func.ReturnOp():
                self.emit(RETURN)
            case scf.YieldOp():
                pass
            case _:
                raise UserError(f"{op.name} is not an operation of the machine level; lower it first")

    def handle(self, constant: tu.ConstantOp) -> int:
        name = constant.sym_name.data
        if name not in self.handles:
            self.handles[name] = len(self.buffers)
            self.buffers.append(_buffer(constant.type, constant.array))
        return self.handles[name]

    def loop(self, op: scf.ForOp) -> None:
        index = self.register(op.body.block.args[0])
        self.emit(COPY, index, self.register(op.lb))
        start = len(self.words)
        out = self.emit(FROM, index, self.register(op.ub), 0)
        self.block(op.body.block)
        self.emit(ADD, index, index, self.register(op.step))
        self.emit(JUMP, start)
        self.words[out] = len(self.words)

    def branch(self, op: scf.IfOp) -> None:
        otherwise = self.emit(UNLESS, self.register(op.cond), 0)
        self.block(op.true_region.block)
        if op.false_region.blocks:
            end = self.emit(JUMP, 0)
            self.words[otherwise] = len(self.words)
            self.block(op.false_region.block)
            self.words[end] = len(self.words)
        else:
            self.words[otherwise] = len(self.words)


def _buffer(
    type: tu.BufferType, array: NDArray[np.generic] | None
) -> tuple[str, int, NDArray[np.generic] | None]:
    return str(type.element_type), int(np.prod(type.get_shape())), array


def _encode(module: ModuleOp, functions: Sequence[str]) -> _Code:
    """The numbers of functions that run one after the other, and of all they call."""
    code = _Code(module)
    for function in functions:
        for argument in code.function(function).body.block.args:
            code.of_value[argument] = code.constant(len(code.buffers))
            code.buffers.append(_buffer(cast(tu.BufferType, argument.type), None))
        code.calls.append((code.emit(CALL, 0), function))
    code.emit(END)
    places: dict[str, int] = {}
    while open_calls := [name for _, name in code.calls if name not in places]:
        places[open_calls[0]] = len(code.words)
        code.block(code.function(open_calls[0]).body.block)
    for word, name in code.calls:
        code.words[word] = places[name]
    return code


def _bytes(code: _Code, target: Target | CrossbarTarget) -> bytes:
    """What replay.c reads."""

    def table(values: Sequence[int] | NDArray[np.generic]) -> list[bytes]:
        data = np.ascontiguousarray(values, np.int32)
        return [np.int64(data.size).tobytes(), data.tobytes()]

    config = np.array(list(_configuration(target).values()), np.float64)
    parts = [np.int64(len(config)).tobytes(), config.tobytes(), np.int64(len(code.tables)).tobytes()]
    for _, values in code.tables.values():
        parts += table(values)
    parts.append(np.int64(len(code.buffers)).tobytes())
    for element, elements, array in code.buffers:
        parts.append(np.array([TYPES.index(element), elements], np.int64).tobytes())
        # Time depends on data only where rows are named by lists: in the scratchpad, or of blocks of arrays.
        lists = element == "i32" if isinstance(target, CrossbarTarget) else target.indexed is not None
        held = array is not None and lists
        raw = np.ascontiguousarray(array).tobytes() if held else b""
        parts += table(np.frombuffer(raw + bytes(-len(raw) % 4), np.int32))
    parts.append(np.int64(len(code.outputs)).tobytes())
    for element, scale, relu in code.outputs:
        parts.append(np.array([TYPES.index(element), scale, relu], np.float64).tobytes())
    parts += [np.int64(len(code.registers)).tobytes(), np.array(code.registers, np.int64).tobytes()]
    return b"".join([*parts, *table(code.words)])


def replay(
    module: ModuleOp, target: Target | CrossbarTarget, functions: Sequence[str] = ("main",)
) -> dict[str, Any]:
    """The simulator's report of a program of `tu` and `xbar` instructions: time and energy, no values.

    functions: that run one after the other. Their arguments are buffers, each one of its own.
    Needs a C compiler once for each machine. Raises UserError without one, or where the program is wrong.
    """
    program = build_with_simulator(SOURCE, {"replay.h": _header(target)})
    done = subprocess.run(
        [str(program), target.name],
        input=_bytes(_encode(module, functions), target),
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        message = done.stderr.decode().strip() or f"it ended with status {done.returncode}"
        raise UserError(f"the program failed: {message}")
    return json.loads(done.stdout)
