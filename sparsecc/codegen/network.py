"""The C of a whole network: calls of the host and of products, one arena for activations.

What multiplies is not known here: an engine (`sparsecc.network.engine`) gives its C.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from xdsl.dialects import func, tensor
from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Operation, SSAValue

from sparsecc.codegen.folder import stored
from sparsecc.codegen.parts import Part
from sparsecc.codegen.rolled import rolled
from sparsecc.dialects.host import CallOp, ViewOp, elements_in, kind_of
from sparsecc.dialects.nn_base import ConstantOp
from sparsecc.host.operator import C_TYPES, Kind
from sparsecc.network.storage import Storage

if TYPE_CHECKING:
    from sparsecc.network.engine import Call, Engine, EngineCode, Layer, Operand

Array = NDArray[Any]

MAKEFILE = """\
# make: build the program; make check: run it, which compares every layer with the stored results.
CC ?= cc
ALL_CFLAGS = -std=gnu11 -O2 -I. -Ihost {flags} $(CFLAGS)
SOURCES = model.c data.c main.c $(wildcard host/*.c) {sources}

model: $(SOURCES) $(wildcard *.h */*.h) $(wildcard *.bin)
\t$(CC) $(ALL_CFLAGS) $(SOURCES) {libraries} -o $@

check: model
\t./model

clean:
\trm -f model

.PHONY: check clean
"""

# How numpy names what files hold; bf16 has no name there.
DESCR = {
    "b8": "|b1", "i8": "|i1", "u8": "|u1", "i16": "<i2", "i32": "<i4", "i64": "<i8", "f32": "<f4",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Check:
    """A value that the program compares when the step that makes it is done."""

    step: int
    name: str
    value: SSAValue
    expected: Array
    bound: Array
    """float32, of each element; 0 where it must be equal."""


@dataclass(frozen=True, eq=False)
class NetworkProgram:
    """Everything the folder of a network is written from."""

    title: str
    function: func.FuncOp
    storage: Storage
    engine: Engine
    layers: Sequence[Layer]
    """The products, in the order they are called."""
    inputs: Sequence[tuple[str, Array]]
    """Names in the model, and the stored inputs."""
    outputs: Sequence[str]
    expected: Sequence[Array]
    """The outputs for the stored inputs."""
    bounds: Sequence[Array | None]
    """How far outputs may be from them, where that is known."""
    checks: Sequence[Check]


def steps(function: func.FuncOp) -> list[CallOp | func.CallOp]:
    """What runs, in order."""
    return [op for op in function.body.block.ops if isinstance(op, CallOp | func.CallOp)]


def name_of(op: Operation) -> str:
    """The node that an operation belongs to."""
    name = op.attributes.get("name")
    return name.data if isinstance(name, StringAttr) else op.name


def comment(text: str) -> str:
    """Text that cannot end a comment."""
    return (
        "".join(c if c.isprintable() and c.isascii() else "?" for c in text)
        .replace("*/", "* /")
        .replace("/*", "/ *")
    )


class Printer:
    """The steps of a network as statements of C; `m` is the model."""

    def __init__(self, program: NetworkProgram):
        self.program, self.storage = program, program.storage
        self.read = self._read() if program.engine.reads_inputs else {}

    def _read(self) -> dict[SSAValue, int]:
        """Which input each value is that is read where the caller has it."""
        block = self.program.function.body.block
        found: dict[SSAValue, int] = {a: i for i, a in enumerate(block.args) if a in self.storage.only_read}
        for op in block.ops:
            if isinstance(op, ViewOp) and op.x in found:
                found[op.res] = found[op.x]
        return found

    def array(self, value: SSAValue, start: int = 0) -> str:
        """A value as an expression of C."""
        more = f" + {start}" if start else ""
        if value in self.storage.constants:
            return f"{self.storage.constants[value]}{more}"
        if value in self.read:
            return f"((const {C_TYPES[kind_of(value)]} *)inputs[{self.read[value]}]){more}"
        return f"AT({C_TYPES[kind_of(value)]}, {self.storage.offsets[value]}){more}"

    def host(self, op: CallOp) -> str:
        operator, starts = op.declaration, iter(op.begins)
        texts: dict[str, Any] = {}
        for argument, value in zip(operator.arguments, op.values(), strict=True):
            if argument.kind is Kind.OUTPUT:
                texts[argument.name] = self.array(op.res, op.result_begins)
            elif isinstance(value, SSAValue):
                texts[argument.name] = self.array(value, next(starts))
            else:
                texts[argument.name] = value
        call = operator.call(**texts)
        if operator.returns == "void":
            return f"{call};"
        message = json.dumps(f"node {name_of(op)}: an index is outside its axis")
        return f"if ({call} != 0) {{\n        m->error = {message};\n        return -1;\n    }}"

    def load(self, i: int, argument: SSAValue) -> str:
        """Copies input i to the arena."""
        size = f"{elements_in(argument)} * sizeof({C_TYPES[kind_of(argument)]})"
        return f"memcpy({self.array(argument)}, inputs[{i}], {size});"

    def store(self, i: int, value: SSAValue) -> str:
        """Copies output i to the caller."""
        size = f"{elements_in(value)} * sizeof({C_TYPES[kind_of(value)]})"
        return f"memcpy(outputs[{i}], {self.array(value)}, {size});"

    def infer(self, calls: Sequence[str]) -> str:
        """The body of model_infer; calls: of the products."""
        lines: list[str] = []
        block = self.program.function.body.block
        number = product = 0
        for i, argument in enumerate(block.args):
            if argument in self.read:
                continue
            lines.append(self.load(i, argument))
        for op in block.ops:
            match op:
                case CallOp():
                    lines.append(f"/* {comment(name_of(op))} */")
                    lines.append("/* lies there already */" if op in self.storage.settled else self.host(op))
                    lines.append(f"DONE({number}, {self.array(op.res)});")
                    number += 1
                case func.CallOp():
                    lines.append(f"/* {comment(name_of(op))} */")
                    lines.append(calls[product])
                    lines.append(f"DONE({number}, {self.array(op.results[0])});")
                    number, product = number + 1, product + 1
                case func.ReturnOp():
                    for i, value in enumerate(op.operands):
                        lines.append(self.store(i, value))
                case _:
                    assert isinstance(op, ConstantOp | ViewOp | tensor.EmptyOp), op.name
        return "\n".join(f"    {line}" for line in rolled(lines))

    def operand(self, value: SSAValue) -> Operand:
        from sparsecc.network.engine import Operand

        constant = value in self.storage.constants
        return Operand(self.array(value), elements_in(value), kind_of(value), constant)

    def calls(self) -> list[Call]:
        """The products, where they are called."""
        from sparsecc.network.engine import Call

        whole = enumerate(steps(self.program.function))
        found = [(step, op) for step, op in whole if isinstance(op, func.CallOp)]
        return [
            Call(
                name_of(op), op.callee.string_value(), self.operand(op.arguments[0]),
                self.operand(op.results[0]),
                self.operand(op.arguments[1]) if len(op.arguments) > 1 else None, step,
            )
            for step, op in found
        ]  # fmt: skip


ARENA = """
/* The network: activations lie in the arena, at offsets that the compiler planned. */
#define AT(type, offset) ((type *)(void *)(m->arena + (offset)))
"""

_MODEL_C = """\
#define DONE(step, values) \\
    do { \\
        if (m->watch) m->watch(m->context, step, values); \\
    } while (0)

int model_init(model *m, {parameter}) {
    memset(m, 0, offsetof(model, arena) + sizeof m->arena);
{init}
    return m->error ? -1 : 0;
}

int model_infer(model *m, const void *const *inputs, void *const *outputs) {
{infer}
    return 0;
}
"""


def host_constants(storage: Storage) -> list[Part]:
    """The constants that the host reads."""
    parts: list[Part] = []
    for value, name in storage.constants.items():
        if isinstance(value.owner, ConstantOp):
            kind = kind_of(value)
            array = stored(value.owner.value.array, "bf16" if kind == "bf16" else kind)
            parts.append(Part(name, C_TYPES[kind], array, "weights.bin"))
    return parts


def model_c(program: NetworkProgram) -> tuple[str, EngineCode, list[Part]]:
    """The text of model.c, what the engine gives, and all constants."""
    printer = Printer(program)
    code = program.engine.code(program.title, program.layers, printer.calls())
    parts = [*code.parts, *host_constants(program.storage)]
    init = "\n".join(f"    {line}" for line in code.init.splitlines())
    body = _MODEL_C.replace("{parameter}", code.parameter).replace("{init}", init)
    return code.source + ARENA + body.replace("{infer}", printer.infer(code.calls)), code, parts


def arena(activations: int, scratch: int) -> str:
    """Sizes in bytes: what products use as they like lies behind the activations."""
    at = -(-activations // 64) * 64
    return (
        f"#define MODEL_SCRATCH {at}\n#define MODEL_ARENA {max(activations, at + scratch if scratch else 1)}"
    )
