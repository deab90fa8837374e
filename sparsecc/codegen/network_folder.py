"""The folder of a whole network: what model.c needs beside it to be built, run and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from xdsl.dialects import func
from xdsl.ir import SSAValue

from sparsecc.codegen.network import DESCR, MAKEFILE, NetworkProgram, arena, comment, model_c, steps
from sparsecc.codegen.parts import INCBIN, Part, data_c, write_files
from sparsecc.dialects.host import Tensor, elements_in, kind_of
from sparsecc.host.operator import C_TYPES
from sparsecc.toolchain import NETWORK_PROGRAM, host_headers, host_sources

if TYPE_CHECKING:
    from sparsecc.network.engine import EngineCode


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
