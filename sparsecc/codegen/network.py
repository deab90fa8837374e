"""The C of a whole network: calls of the host and of products, one arena for activations.

What multiplies is not known here: an engine (`sparsecc.network.engine`) gives its C.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import func, tensor
from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Operation, SSAValue

from sparsecc.codegen.folder import stored
from sparsecc.codegen.parts import INCBIN, Part, data_c, write_files
from sparsecc.codegen.rolled import rolled
from sparsecc.dialects.host import CallOp, Tensor, ViewOp, elements_in, kind_of
from sparsecc.dialects.nn_base import ConstantOp
from sparsecc.host.operator import C_TYPES, Kind
from sparsecc.network.storage import Storage
from sparsecc.toolchain import NETWORK_PROGRAM, host_headers, host_sources

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


def _model_h(program: NetworkProgram, code: EngineCode, parts: Sequence[Part]) -> str:
    block = program.function.body.block
    outputs = cast(func.ReturnOp, block.last_op).operands
    declared = "".join(
        f"extern AX_DATA {p.declaration};\n" for p in parts if p.name.startswith(("host_c", "model_"))
    )
    includes = "".join(f'#include "{header}"\n' for header in code.headers)
    allocates = "" if code.allocates else " Allocates nothing."
    inputs = "".join(
        f" *   {comment(n)}: {a.type}\n" for (n, _), a in zip(program.inputs, block.args, strict=True)
    )
    results = "".join(f" *   {comment(n)}: {v.type}\n" for n, v in zip(program.outputs, outputs, strict=True))
    return f"""\
/* The network as a C library, and what main.c and data.c know of it. Written by sparsecc.
 *
 * Inputs, in this order:
{inputs} * Outputs:
{results} */
#ifndef MODEL_H
#define MODEL_H

#include <stddef.h>
#include <stdint.h>

{includes}
#define MODEL_TITLE {json.dumps(comment(program.title))}
#define MODEL_INPUTS {len(block.args)}
#define MODEL_OUTPUTS {len(outputs)}
#define MODEL_PRODUCTS {len(program.layers)}
#define MODEL_STEPS {len(steps(program.function))}
#define MODEL_CHECKS {len(program.checks)}
{arena(program.storage.size, code.scratch)}

{code.definitions}{INCBIN}
typedef struct model {{
{code.fields}\
    void (*watch)(void *context, int step, void *values); /* told of every step done; may be NULL */
    void *context;
    const char *error; /* one sentence, after -1 */
    _Alignas(64) unsigned char arena[MODEL_ARENA];
{code.memory}}} model;

/* Prepares a model; it must stay where it is. 0, or -1. */
int model_init(model *m, {code.parameter});
/* One inference: arrays of the shapes above, row-major.{allocates} 0, or -1. */
int model_infer(model *m, const void *const *inputs, void *const *outputs);
/* Reads the data where it is not part of the program; 0, or -1 after a message. `program` is argv[0]. */
int model_load(const char *program);

typedef struct model_array {{
    const char *name, *descr, *shape; /* as .npy files have them */
    int64_t count;
    int size; /* bytes of an element */
    const void *data;   /* of inputs: the stored one; of outputs: what it must give */
    const float *bound; /* of outputs: how far each value may be off; NULL where that is not known */
}} model_array;

typedef struct model_check {{
    int step;
    const char *name;
    int64_t count;
    const char *descr;
    int size;
    const void *expected;
    const float *bound; /* of each value */
}} model_check;

extern const model_array model_inputs[], model_outputs[];
extern const model_check model_checks[];
extern const char *const model_products[];

{declared}
#endif
"""


def _shape_text(value: SSAValue) -> str:
    shape = cast(Tensor, value.type).get_shape()
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def _tables(program: NetworkProgram) -> str:
    """The constant tables of data.c."""
    block = program.function.body.block
    outputs = cast(func.ReturnOp, block.last_op).operands

    def row(name: str, value: SSAValue, data: str, bound: str = "0") -> str:
        kind = kind_of(value)
        return (
            f'    {{{json.dumps(comment(name))}, "{DESCR[kind]}", "{_shape_text(value)}", '
            f"{elements_in(value)}, sizeof({C_TYPES[kind]}), {data}, {bound}}},\n"
        )

    inputs = "".join(
        row(name, a, f"model_input{i}")
        for i, ((name, _), a) in enumerate(zip(program.inputs, block.args, strict=True))
    )
    results = "".join(
        row(name, v, f"model_output{i}", "0" if bound is None else f"model_output_bound{i}")
        for i, (name, v, bound) in enumerate(zip(program.outputs, outputs, program.bounds, strict=True))
    )
    checks = "".join(
        f'    {{{c.step}, {json.dumps(comment(c.name))}, {c.expected.size}, "{DESCR[kind_of(c.value)]}", '
        f"sizeof({C_TYPES[kind_of(c.value)]}), model_expected{i}, model_bound{i}}},\n"
        for i, c in enumerate(program.checks)
    )
    names = "".join(
        f"    {json.dumps(comment(name))},\n" for name in (layer.name for layer in program.layers)
    )
    # A last row of zeros: C has no empty arrays.
    return (
        f"const model_array model_inputs[] = {{\n{inputs}    {{0}},\n}};\n\n"
        f"const model_array model_outputs[] = {{\n{results}    {{0}},\n}};\n\n"
        f"const model_check model_checks[] = {{\n{checks}    {{0}},\n}};\n\n"
        f"const char *const model_products[] = {{\n{names}    0,\n}};\n"
    )


def write_network(folder: Path, program: NetworkProgram, report: Mapping[str, object]) -> None:
    """Write everything the program needs; raises UserError when the folder cannot be written."""
    text, code, parts = model_c(program)
    for i, ((_, array), argument) in enumerate(
        zip(program.inputs, program.function.body.block.args, strict=True)
    ):
        parts.append(
            Part(f"model_input{i}", C_TYPES[kind_of(argument)], np.ascontiguousarray(array), "check.bin")
        )
    outputs = cast(func.ReturnOp, program.function.body.block.last_op).operands
    for i, (value, array, bound) in enumerate(zip(outputs, program.expected, program.bounds, strict=True)):
        parts.append(Part(f"model_output{i}", C_TYPES[kind_of(value)], array, "check.bin"))
        if bound is not None:
            parts.append(Part(f"model_output_bound{i}", "float", bound, "check.bin"))
    for i, check in enumerate(program.checks):
        c_type = C_TYPES[kind_of(check.value)]
        parts.append(Part(f"model_expected{i}", c_type, check.expected, "check.bin"))
        parts.append(Part(f"model_bound{i}", "float", check.bound, "check.bin"))
    texts = {
        "model.c": text,
        "model.h": _model_h(program, code, parts),
        "data.c": data_c(_tables(program), parts),
        "Makefile": MAKEFILE.format(flags=code.flags, sources=code.sources, libraries=code.libraries),
        "report.json": json.dumps(report, indent=2) + "\n",
        **code.texts,
    }
    copies = {p.name: p for p in sorted(NETWORK_PROGRAM.iterdir())} | dict(code.copies)
    copies |= {f"host/{p.name}": p for p in host_sources() + host_headers()}
    write_files(folder, texts, parts, copies)
