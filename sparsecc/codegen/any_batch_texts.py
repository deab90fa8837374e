"""The texts of a network for any batch: what covers a batch, the header, the tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from xdsl.dialects import func
from xdsl.ir import SSAValue

from sparsecc.codegen.network import DESCR, NetworkProgram, arena, comment
from sparsecc.codegen.parts import INCBIN
from sparsecc.dialects.host import Tensor, elements_in, kind_of
from sparsecc.host.operator import C_TYPES, ELEMENT_BYTES

if TYPE_CHECKING:
    from sparsecc.network.engine import EngineCode


@dataclass(frozen=True, eq=False)
class AnyBatchProgram:
    """Everything the folder is written from."""

    title: str
    most: int
    """Rows of the largest batch."""
    variants: Mapping[int, NetworkProgram]
    """By batch."""
    choice: Sequence[int]
    """The batch of the variant that runs first where so many rows remain, [most + 1]."""
    cycles: Sequence[int]
    """Of each batch, [most + 1]; nothing where they are not counted."""
    checked: Sequence[int]
    """Batches that the program checks itself with."""
    whole: NetworkProgram
    """The network for the largest batch: stored inputs and what they give."""


def row_of(value: SSAValue) -> int:
    """Elements of a row of an input or output."""
    return elements_in(value) // cast(Tensor, value.type).get_shape()[0]


def model_c(program: AnyBatchProgram, code: EngineCode) -> str:
    given = code.parameter.replace("*", " ").split()[-1]
    memory = "".join(f"        m->parts[i].{name} = m->{name};\n" for name in _memory(code))
    sizes = list(program.variants)
    order = {size: i for i, size in enumerate(sizes)}
    choice = ", ".join(str(order[size]) if size in order else "0" for size in program.choice)
    block = program.whole.function.body.block
    outputs = cast(func.ReturnOp, block.last_op).operands

    def rows(values: Sequence[SSAValue]) -> str:
        return ", ".join(str(row_of(v) * ELEMENT_BYTES[kind_of(v)]) for v in values)

    once = "" if code.common is None else f"{_indented(code.common.init)}    if (m->error) return -1;\n"
    table = "\n".join(f"    {{{size}, batch{size}_init, batch{size}_infer}}," for size in sizes)
    return f"""\
/* {comment(program.title)}
 *
 * Variants of the network, one after the other, cover the rows of a batch. Written by sparsecc. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "model.h"

static const struct {{
    int64_t rows;
    int (*init)(model_part *m, {code.parameter});
    int (*infer)(model_part *m, int64_t rows, const void *const *inputs, void *const *outputs);
}} variants[MODEL_VARIANTS] = {{
{table}
}};

/* The variant that comes first where so many rows remain: the least cycles in all. */
static const unsigned char choice[MODEL_MAX_BATCH + 1] = {{{choice}}};

/* Bytes of a row of each input and output. */
static const int64_t input_row[] = {{{rows(block.args)}}};
static const int64_t output_row[] = {{{rows(outputs)}}};

int model_chunks(int64_t batch) {{
    int count = 0;
    for (; batch > 0; count++) batch -= variants[choice[batch]].rows;
    return count;
}}

int model_init(model *m, {code.parameter}) {{
    memset(m, 0, offsetof(model, arena));
{once}\
    for (int i = 0; i < MODEL_VARIANTS; i++) {{
        m->parts[i].arena = m->arena;
{memory}\
        if (variants[i].init(&m->parts[i], {given}) != 0) {{
            m->error = m->parts[i].error;
            return -1;
        }}
    }}
    return 0;
}}

int model_infer(model *m, int64_t batch, const void *const *inputs, void *const *outputs) {{
    const void *in[MODEL_INPUTS];
    void *out[MODEL_OUTPUTS];
    m->error = NULL;
    if (batch < 1 || batch > MODEL_MAX_BATCH) {{
        m->error = "the batch is outside 1 to MODEL_MAX_BATCH";
        return -1;
    }}
    for (int64_t done = 0; done < batch;) {{
        const int v = choice[batch - done];
        const int64_t left = batch - done, rows = left < variants[v].rows ? left : variants[v].rows;
        for (int i = 0; i < MODEL_INPUTS; i++) in[i] = (const unsigned char *)inputs[i] + done * input_row[i];
        for (int i = 0; i < MODEL_OUTPUTS; i++) out[i] = (unsigned char *)outputs[i] + done * output_row[i];
        if (variants[v].infer(&m->parts[v], rows, in, out) != 0) {{
            m->error = m->parts[v].error;
            return -1;
        }}
        done += rows;
    }}
    return 0;
}}
"""


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


def _memory(code: EngineCode) -> dict[str, tuple[str, str]]:
    """Memory of calls that all variants share: by name its declaration, and that of a pointer to it."""
    from sparsecc.network.cpu import CpuCode

    if not isinstance(code, CpuCode):
        return {}
    return {
        "patches": (f"patches[{code.patches}]", "*patches"),
        "panels": (f"panels[MODEL_THREADS][{code.panels}]", f"(*panels)[{code.panels}]"),
    }


def model_h(program: AnyBatchProgram, code: EngineCode) -> str:
    memory = "".join(f"    _Alignas(64) float {held};\n" for held, _ in _memory(code).values())
    places = "".join(f"    float {place};\n" for _, place in _memory(code).values())
    allocates = "" if code.allocates else " Allocates\n * nothing."
    cycles = "extern const int64_t model_cycles[MODEL_MAX_BATCH + 1];\n" if program.cycles else ""
    whole, sizes = program.whole, list(program.variants)
    block = whole.function.body.block
    outputs = cast(func.ReturnOp, block.last_op).operands

    def described(names: Sequence[str], values: Sequence[SSAValue]) -> str:
        return "".join(
            f" *   {comment(n)}: [batch{''.join(f', {e}' for e in cast(Tensor, v.type).get_shape()[1:])}] of "
            f"{cast(Tensor, v.type).element_type}\n"
            for n, v in zip(names, values, strict=True)
        )

    declared = "".join(
        f"int batch{size}_init(model_part *m, {code.parameter});\n"
        f"int batch{size}_infer(model_part *m, int64_t rows, const void *const *inputs, "
        "void *const *outputs);\n"
        for size in sizes
    )
    common = "" if code.common is None else f"/* What all variants call. */\n{code.common.declarations}"
    includes = "".join(f'#include "{header}"\n' for header in code.headers)
    data = "".join(
        f"extern AX_DATA {kind} model_{what}{i}[{elements_in(v)}];\n"
        for what, kind, i, v in [
            *(("input", C_TYPES[kind_of(a)], i, a) for i, a in enumerate(block.args)),
            *(("output", C_TYPES[kind_of(v)], i, v) for i, v in enumerate(outputs)),
            *(
                ("output_bound", "float", i, v)
                for i, (v, b) in enumerate(zip(outputs, whole.bounds, strict=True))
                if b is not None
            ),
        ]
    )
    return f"""\
/* A network for any batch as a C library, and what main.c and data.c know of it. Written by sparsecc.
 *
 * Inputs, in this order:
{described([n for n, _ in whole.inputs], list(block.args))} * Outputs:
{described(whole.outputs, list(outputs))} */
#ifndef MODEL_H
#define MODEL_H

#include <stdint.h>

{includes}
#define MODEL_TITLE {json.dumps(comment(program.title))}
#define MODEL_MAX_BATCH {program.most}
#define MODEL_VARIANTS {len(sizes)}
#define MODEL_INPUTS {len(block.args)}
#define MODEL_OUTPUTS {len(outputs)}
#define MODEL_PRODUCTS {max(len(p.layers) for p in program.variants.values())}
#define MODEL_CHECKED {len(program.checked)}
{arena(max(p.storage.size for p in program.variants.values()), code.scratch)}

{code.definitions}{INCBIN}
/* A variant that is ready to run. */
typedef struct model_part {{
{code.fields}{places}\
    const char *error;
    unsigned char *arena;
}} model_part;

{declared}{common}
typedef struct model {{
    model_part parts[MODEL_VARIANTS];
    const char *error; /* one sentence, after -1 */
    _Alignas(64) unsigned char arena[MODEL_ARENA];
{memory}}} model;

/* Prepares a model; it must stay where it is. 0, or -1. */
int model_init(model *m, {code.parameter});
/* One inference of `batch` rows, 1 to MODEL_MAX_BATCH: arrays of the shapes above, row-major.{allocates}
 * 0, or -1. */
int model_infer(model *m, int64_t batch, const void *const *inputs, void *const *outputs);
/* How many variants run for a batch, one after the other. */
int model_chunks(int64_t batch);
/* Reads the data where it is not part of the program; 0, or -1 after a message. `program` is argv[0]. */
int model_load(const char *program);

typedef struct model_array {{
    const char *name, *descr, *shape; /* as .npy files have them; the shape without its first extent */
    int64_t count;                    /* elements of a row */
    int size;                         /* bytes of an element */
    const void *data;   /* of inputs: the stored one; of outputs: what it must give */
    const float *bound; /* of outputs: how far each value may be off; NULL where that is not known */
}} model_array;

/* For MODEL_MAX_BATCH rows. */
extern const model_array model_inputs[], model_outputs[];
/* The batches that the program checks itself with, and, of what is simulated, the cycles of each. */
extern const int64_t model_checked[MODEL_CHECKED];
{cycles}\

{data}
#endif
"""


def tables(program: AnyBatchProgram) -> str:
    """The constant tables of data.c."""
    whole = program.whole
    block = whole.function.body.block
    outputs = cast(func.ReturnOp, block.last_op).operands

    def row(name: str, value: SSAValue, data: str, bound: str = "0") -> str:
        kind, shape = kind_of(value), cast(Tensor, value.type).get_shape()[1:]
        rest = ",)" if not shape else "".join(f", {e}" for e in shape) + ")"
        return (
            f'    {{{json.dumps(comment(name))}, "{DESCR[kind]}", "{rest}", {row_of(value)}, '
            f"sizeof({C_TYPES[kind]}), {data}, {bound}}},\n"
        )

    foretold = ", ".join(map(str, program.cycles))
    cycles = f"const int64_t model_cycles[] = {{{foretold}}};\n" if foretold else ""
    inputs = "".join(
        row(name, a, f"model_input{i}")
        for i, ((name, _), a) in enumerate(zip(whole.inputs, block.args, strict=True))
    )
    results = "".join(
        row(name, v, f"model_output{i}", "0" if bound is None else f"model_output_bound{i}")
        for i, (name, v, bound) in enumerate(zip(whole.outputs, outputs, whole.bounds, strict=True))
    )
    return (
        f"const model_array model_inputs[] = {{\n{inputs}}};\n\n"
        f"const model_array model_outputs[] = {{\n{results}}};\n\n"
        f"{cycles}"
        f"const int64_t model_checked[] = {{{', '.join(map(str, program.checked))}}};\n"
    )
