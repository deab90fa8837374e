"""The C of a whole network: programs of its products, calls of the host, one arena for activations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects import func, tensor
from xdsl.dialects.builtin import ModuleOp, StringAttr, SymbolRefAttr
from xdsl.ir import Operation, SSAValue

from sparsecc.codegen.c_printer import C_TYPES as TABLE_TYPES
from sparsecc.codegen.c_target import CTarget, is_large
from sparsecc.codegen.folder import INLINE_LIMIT, copies_of, stored
from sparsecc.codegen.parts import INCBIN, Part, data_c, write_files
from sparsecc.dialects import tu
from sparsecc.dialects.host import CallOp, Tensor, ViewOp, elements_in, kind_of
from sparsecc.dialects.nn_base import ConstantOp
from sparsecc.host.operator import C_TYPES, Kind
from sparsecc.network.storage import Storage
from sparsecc.passes.convert_tu_to_c import ConvertTuToCPass
from sparsecc.target import Target
from sparsecc.target.header import target_header
from sparsecc.toolchain import NETWORK_PROGRAM, host_headers, host_sources

Array = NDArray[Any]

MAKEFILE = """\
# make: build the program; make check: run it, which compares every layer with the stored results.
CC ?= cc
CFLAGS ?= -O2
# Without contraction the host's arithmetic is the same everywhere.
ALL_CFLAGS = -std=gnu11 -I. -Iaxsim -Ihost -ffp-contract=off $(CFLAGS)
SOURCES = model.c data.c main.c $(wildcard axsim/*.c) $(wildcard host/*.c)

model: $(SOURCES) $(wildcard *.h axsim/*.h host/*.h) $(wildcard *.bin)
\t$(CC) $(ALL_CFLAGS) $(SOURCES) -lm -o $@

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
    target: Target
    products: Sequence[tuple[str, ModuleOp]]
    """For each product its name and its program of `tu` instructions, in the order of their functions."""
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


def linked(module: ModuleOp, symbol: str) -> ModuleOp:
    """A copy of a program in which @main is called so, and all other symbols begin with it."""
    new = module.clone()
    names = {
        op.sym_name.data: symbol if op.sym_name.data == "main" else f"{symbol}_{op.sym_name.data}"
        for op in new.ops
        if isinstance(op, func.FuncOp | tu.ConstantOp)
    }
    for op in new.walk():
        for key, attribute in list(op.properties.items()):
            if isinstance(attribute, SymbolRefAttr):
                op.properties[key] = SymbolRefAttr(names[attribute.string_value()])
            elif key == "sym_name" and isinstance(attribute, StringAttr) and op is not new:
                op.properties[key] = StringAttr(names[attribute.data])
    return new


def _comment(text: str) -> str:
    """Text that cannot end a comment."""
    return (
        "".join(c if c.isprintable() and c.isascii() else "?" for c in text)
        .replace("*/", "* /")
        .replace("/*", "/ *")
    )


class _Printer:
    def __init__(self, program: NetworkProgram):
        self.program, self.storage = program, program.storage

    def array(self, value: SSAValue, start: int = 0) -> str:
        """A value as an expression of C."""
        more = f" + {start}" if start else ""
        if value in self.storage.constants:
            return f"{self.storage.constants[value]}{more}"
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

    def infer(self) -> str:
        """The body of model_infer."""
        lines: list[str] = []
        block = self.program.function.body.block
        number = product = 0
        for i, argument in enumerate(block.args):
            size = elements_in(argument)
            lines.append(
                f"memcpy({self.array(argument)}, inputs[{i}], {size} * sizeof({C_TYPES[kind_of(argument)]}));"
            )
        for op in block.ops:
            match op:
                case CallOp():
                    lines.append(f"/* {_comment(name_of(op))} */")
                    lines.append(self.host(op))
                    lines.append(f"DONE({number}, {self.array(op.res)});")
                    number += 1
                case func.CallOp():
                    symbol = op.callee.string_value()
                    lines.append(f"/* {_comment(name_of(op))} */")
                    lines.append(f"PRODUCT({product}, {symbol});")
                    lines.append(f"DONE({number}, {self.array(op.results[0])});")
                    number, product = number + 1, product + 1
                case func.ReturnOp():
                    for i, value in enumerate(op.operands):
                        size = f"{elements_in(value)} * sizeof({C_TYPES[kind_of(value)]})"
                        lines.append(f"memcpy(outputs[{i}], {self.array(value)}, {size});")
                case _:
                    assert isinstance(op, ConstantOp | ViewOp | tensor.EmptyOp), op.name
        return "\n".join(f"    {line}" for line in lines)

    def init(self) -> str:
        """The body of model_init: buffers of the products."""
        lines: list[str] = []
        calls = [op for op in steps(self.program.function) if isinstance(op, func.CallOp)]
        for i, op in enumerate(calls):
            for field, value in (("x", op.arguments[0]), ("y", op.results[0])):
                kind = kind_of(value)
                data = self.array(value)
                data = f"(void *)(uintptr_t){data}" if value in self.storage.constants else data
                rest = f"{data}, {elements_in(value)}, AX_{kind.upper()}"
                lines.append(f'm->{field}[{i}] = ax_buffer(machine, "{field}", {rest});')
        return "\n".join(f"    {line}" for line in lines)


_MODEL_C = """
/* The network: activations lie in the arena, at offsets that the compiler planned. */
#define AT(type, offset) ((type *)(void *)(m->arena + (offset)))
#define DONE(step, values) \\
    do { \\
        if (m->watch) m->watch(m->context, step, values); \\
    } while (0)
/* A product on the accelerator; nothing of it overlaps with what comes before or after. */
#define PRODUCT(i, program) \\
    do { \\
        const int64_t start = ax_cycles(m->machine); \\
        ax_scope(m->machine, model_products[i]); \\
        if (program(m->machine, m->x[i], m->y[i]) != 0 || ax_fence(m->machine) != 0) { \\
            m->error = ax_error(m->machine); \\
            return -1; \\
        } \\
        m->cycles[i] = ax_cycles(m->machine) - start; \\
    } while (0)

int model_init(model *m, ax_machine *machine) {
    memset(m, 0, sizeof *m);
    m->machine = machine;
{init}
    m->error = ax_error(machine);
    return m->error ? -1 : 0;
}

int model_infer(model *m, const void *const *inputs, void *const *outputs) {
{infer}
    return 0;
}
"""


def model_c(program: NetworkProgram) -> tuple[str, list[Part]]:
    """The text of model.c, and the constants that it leaves to weights.bin."""
    whole = ModuleOp([])
    parts: list[Part] = []
    for i, (_, module) in enumerate(program.products):
        one = linked(module, f"layer{i}")
        ConvertTuToCPass().apply(Context(), one)
        for op in list(one.ops):
            op.detach()
            whole.body.block.add_op(op)
            if isinstance(op, tu.ConstantOp) and is_large(op, INLINE_LIMIT):
                kind = str(op.type.element_type)
                parts.append(Part(op.sym_name.data, TABLE_TYPES[kind], stored(op.array, kind), "weights.bin"))
            elif isinstance(op, func.FuncOp):
                op.properties["sym_visibility"] = StringAttr("private")
    text = StringIO()
    CTarget(inline_limit=INLINE_LIMIT, header="model.h").emit(Context(), whole, text)
    titled = text.getvalue().splitlines()
    titled[0] = f"/* {_comment(program.title)}"
    for i, line in enumerate(titled):
        if line == "#include <stdint.h>":
            titled[i] = "#include <stdint.h>\n#include <string.h>"
        elif line == '#include "model.h"':
            titled[i] = '#include "host.h"\n#include "model.h"'
    printer = _Printer(program)
    for value, name in program.storage.constants.items():
        if isinstance(value.owner, ConstantOp):
            kind = kind_of(value)
            array = stored(value.owner.value.array, "bf16" if kind == "bf16" else kind)
            parts.append(Part(name, C_TYPES[kind], array, "weights.bin"))
    body = _MODEL_C.replace("{init}", printer.init()).replace("{infer}", printer.infer())
    return "\n".join(titled) + "\n" + body, parts


def _model_h(program: NetworkProgram, parts: Sequence[Part]) -> str:
    block = program.function.body.block
    outputs = cast(func.ReturnOp, block.last_op).operands
    declared = "".join(
        f"extern AX_DATA {p.declaration};\n" for p in parts if p.name.startswith(("host_c", "model_"))
    )
    inputs = "".join(
        f" *   {_comment(n)}: {a.type}\n" for (n, _), a in zip(program.inputs, block.args, strict=True)
    )
    results = "".join(
        f" *   {_comment(n)}: {v.type}\n" for n, v in zip(program.outputs, outputs, strict=True)
    )
    return f"""\
/* The network as a C library, and what main.c and data.c know of it. Written by sparsecc.
 *
 * Inputs, in this order:
{inputs} * Outputs:
{results} */
#ifndef MODEL_H
#define MODEL_H

#include <stdint.h>

#include "target.h"

#define MODEL_TITLE {json.dumps(_comment(program.title))}
#define MODEL_INPUTS {len(block.args)}
#define MODEL_OUTPUTS {len(outputs)}
#define MODEL_PRODUCTS {len(program.products)}
#define MODEL_CHECKS {len(program.checks)}
#define MODEL_ARENA {max(program.storage.size, 1)}

{INCBIN}
typedef struct model {{
    ax_machine *machine;
    int x[MODEL_PRODUCTS + 1], y[MODEL_PRODUCTS + 1]; /* buffers of the products */
    int64_t cycles[MODEL_PRODUCTS + 1];               /* that each product took in the last inference */
    void (*watch)(void *context, int step, void *values); /* told of every step done; may be NULL */
    void *context;
    const char *error; /* one sentence, after -1 */
    _Alignas(64) unsigned char arena[MODEL_ARENA];
}} model;

/* Prepares a model on a machine; it must stay where it is. 0, or -1. */
int model_init(model *m, ax_machine *machine);
/* One inference: arrays of the shapes above, row-major. Allocates nothing. 0, or -1. */
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
            f'    {{{json.dumps(_comment(name))}, "{DESCR[kind]}", "{_shape_text(value)}", '
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
        f'    {{{c.step}, {json.dumps(_comment(c.name))}, {c.expected.size}, "{DESCR[kind_of(c.value)]}", '
        f"sizeof({C_TYPES[kind_of(c.value)]}), model_expected{i}, model_bound{i}}},\n"
        for i, c in enumerate(program.checks)
    )
    names = "".join(f"    {json.dumps(_comment(name))},\n" for name, _ in program.products)
    # A last row of zeros: C has no empty arrays.
    return (
        f"const model_array model_inputs[] = {{\n{inputs}    {{0}},\n}};\n\n"
        f"const model_array model_outputs[] = {{\n{results}    {{0}},\n}};\n\n"
        f"const model_check model_checks[] = {{\n{checks}    {{0}},\n}};\n\n"
        f"const char *const model_products[] = {{\n{names}    0,\n}};\n"
    )


def write_network(folder: Path, program: NetworkProgram, report: Mapping[str, object]) -> None:
    """Write everything the program needs; raises UserError when the folder cannot be written."""
    text, parts = model_c(program)
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
        "model.h": _model_h(program, parts),
        "data.c": data_c(_tables(program), parts),
        "target.h": target_header(program.target),
        "Makefile": MAKEFILE,
        "report.json": json.dumps(report, indent=2) + "\n",
    }
    copies = copies_of(NETWORK_PROGRAM.iterdir())
    copies |= {f"host/{p.name}": p for p in host_sources() + host_headers()}
    write_files(folder, texts, parts, copies)
