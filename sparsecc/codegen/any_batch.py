"""The C folder of a network for any batch: a source for each variant, weights shared, what covers a batch.

A variant is the network compiled for one batch. Its source defines `batchN_init` and `batchN_infer`; model.c
runs variants one after the other on the rows of the inputs, in one arena.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.ir import SSAValue

from sparsecc.codegen.network import (
    ARENA,
    DESCR,
    MAKEFILE,
    NetworkProgram,
    Printer,
    arena,
    comment,
    host_constants,
)  # fmt: skip
from sparsecc.codegen.parts import INCBIN, Part, data_c, write_files
from sparsecc.dialects.host import Tensor, elements_in, kind_of
from sparsecc.host.operator import C_TYPES, ELEMENT_BYTES
from sparsecc.target import CpuTarget
from sparsecc.toolchain import NETWORK_PROGRAM, RUNTIME, host_headers, host_sources

if TYPE_CHECKING:
    from sparsecc.network.engine import EngineCode

Array = NDArray[Any]

MAIN = RUNTIME / "network_batch" / "main.c"


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


def _row(value: SSAValue) -> int:
    """Elements of a row of an input or output."""
    return elements_in(value) // cast(Tensor, value.type).get_shape()[0]


class _RowsPrinter(Printer):
    """Takes `rows` rows of the inputs; further ones of the variant are zeros, and are not given back."""

    def load(self, i: int, argument: SSAValue) -> str:
        kind, whole, row = C_TYPES[kind_of(argument)], elements_in(argument), _row(argument)
        return (
            f"memcpy({self.array(argument)}, inputs[{i}], (size_t)rows * {row} * sizeof({kind}));\n"
            f"    memset({self.array(argument)} + rows * {row}, 0, (size_t)({whole} - rows * {row}) * "
            f"sizeof({kind}));"
        )

    def store(self, i: int, value: SSAValue) -> str:
        size = f"(size_t)rows * {_row(value)} * sizeof({C_TYPES[kind_of(value)]})"
        return f"memcpy(outputs[{i}], {self.array(value)}, {size});"

    def _read(self) -> dict[SSAValue, int]:
        # Inputs that have fewer rows than the variant must not be read where the caller has them.
        return {}


class SharedParts:
    """Data and assembly of all variants: what is equal is stored once."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        """Of assembly, by file."""
        self._codes: dict[bytes, str] = {}
        self.parts: list[Part] = []
        self.unshared = 0
        """Bytes that the variants would take alone."""
        self._names: dict[bytes, str] = {}

    def name(self, part: Part) -> str:
        """The name under which a part is stored."""
        data = np.ascontiguousarray(part.data)
        self.unshared += data.nbytes
        key = blake2b(data.tobytes() + part.c_type.encode()).digest()
        if key not in self._names:
            self._names[key] = f"weights{len(self.parts)}"
            self.parts.append(Part(self._names[key], part.c_type, data, part.file))
        return self._names[key]

    def code(self, symbol: str, text: str) -> str:
        """What stands for a symbol in text of assembly that is stored."""
        key = blake2b(re.sub(rf"\b{symbol}_", "_", text).encode()).digest()
        if key not in self._codes:
            name = self._codes[key] = f"code{len(self._codes)}"
            self.texts[f"{name}.s"] = re.sub(rf"\b{symbol}_", f"{name}_", text)
        return self._codes[key]

    @property
    def bytes(self) -> int:
        """That are stored."""
        return sum(p.data.nbytes for p in self.parts)


_VARIANT = """
/* Every step is done once for each cover of a batch; nobody watches. */
#define DONE(step, values) ((void)0)

int batch{size}_init(model_part *m, {parameter}) {
{init}
    return m->error ? -1 : 0;
}

int batch{size}_infer(model_part *m, int64_t rows, const void *const *inputs, void *const *outputs) {
{infer}
    return 0;
}
"""


def _variant_c(size: int, program: NetworkProgram, shared: SharedParts) -> tuple[str, EngineCode]:
    printer = _RowsPrinter(program)
    code = program.engine.code(f"{program.title}, batch {size}", program.layers, printer.calls())
    constants = host_constants(program.storage)
    # Names of data are those under which it is stored, once for all variants.
    names = "".join(f"#define {p.name} {shared.name(p)}\n" for p in [*code.parts, *constants])
    for file, text in code.texts.items():
        if not file.endswith(".s"):
            continue
        symbol = file.removesuffix(".s")
        held = shared.code(symbol, text)
        tables = dict.fromkeys(re.findall(rf"^\.globl {symbol}_(\w+)", text, re.MULTILINE))
        names += "".join(f"#define {symbol}_{name} {held}_{name}\n" for name in tables)
    names += f"#define model_product_steps batch{size}_product_steps\n"
    declared = "".join(f"extern AX_DATA {p.declaration};\n" for p in constants)
    products = "".join(f"    {json.dumps(comment(layer.name))},\n" for layer in program.layers)
    # Of engines that name their products.
    named = products and "model_products[" in code.source
    table = f"static const char *const model_products[] = {{\n{products}}};\n" if named else ""
    body = _VARIANT.replace("{size}", str(size)).replace("{parameter}", code.parameter)
    init = "\n".join(f"    {line}" for line in code.init.splitlines())
    title, _, rest = code.source.partition('#include "model.h"\n')
    return (
        f"{names}\n{title}#include \"model.h\"\n\n{declared}\n"
        f"{table}{rest}{ARENA}{body.replace('{init}', init).replace('{infer}', printer.infer(code.calls))}"
    ), code  # fmt: skip


def _model_c(program: AnyBatchProgram, code: EngineCode) -> str:
    given = code.parameter.replace("*", " ").split()[-1]
    memory = "".join(f"        m->parts[i].{name} = m->{name};\n" for name in _memory(code))
    sizes = list(program.variants)
    order = {size: i for i, size in enumerate(sizes)}
    choice = ", ".join(str(order[size]) if size in order else "0" for size in program.choice)
    block = program.whole.function.body.block
    outputs = cast(func.ReturnOp, block.last_op).operands

    def rows(values: Sequence[SSAValue]) -> str:
        return ", ".join(str(_row(v) * ELEMENT_BYTES[kind_of(v)]) for v in values)

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


def _memory(code: EngineCode) -> dict[str, tuple[str, str]]:
    """Memory of calls that all variants share: by name its declaration, and that of a pointer to it."""
    from sparsecc.network.cpu import CpuCode

    if not isinstance(code, CpuCode):
        return {}
    return {
        "patches": (f"patches[{code.patches}]", "*patches"),
        "panels": (f"panels[MODEL_THREADS][{code.panels}]", f"(*panels)[{code.panels}]"),
    }


def _model_h(program: AnyBatchProgram, code: EngineCode) -> str:
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

{declared}
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


def _tables(program: AnyBatchProgram) -> str:
    """The constant tables of data.c."""
    whole = program.whole
    block = whole.function.body.block
    outputs = cast(func.ReturnOp, block.last_op).operands

    def row(name: str, value: SSAValue, data: str, bound: str = "0") -> str:
        kind, shape = kind_of(value), cast(Tensor, value.type).get_shape()[1:]
        rest = ",)" if not shape else "".join(f", {e}" for e in shape) + ")"
        return (
            f'    {{{json.dumps(comment(name))}, "{DESCR[kind]}", "{rest}", {_row(value)}, '
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


@dataclass(frozen=True)
class Sizes:
    """What the folder's code and data take, in bytes."""

    source: int
    """Text of the C of all variants."""
    weights: int
    weights_unshared: int
    """That a copy for each variant would take."""


@dataclass(frozen=True, eq=False)
class _Sources:
    texts: dict[str, str]
    shared: SharedParts
    code: EngineCode


def _sources(program: AnyBatchProgram) -> _Sources:
    from sparsecc.network.cpu import CpuCode

    shared = SharedParts()
    made = {size: _variant_c(size, one, shared) for size, one in program.variants.items()}
    texts = {f"batch{size}.c": text for size, (text, _) in made.items()}
    codes = [code for _, code in made.values()]
    code = replace(codes[-1], scratch=max(c.scratch for c in codes))
    if isinstance(code, CpuCode):
        held = [c for c in codes if isinstance(c, CpuCode)]
        code = replace(code, patches=max(c.patches for c in held), panels=max(c.panels for c in held))
    return _Sources(texts, shared, code)


def sizes_of(program: AnyBatchProgram) -> Sizes:
    """What the program's code and data take."""
    found = _sources(program)
    text = sum(map(len, [*found.texts.values(), *found.shared.texts.values()]))
    return Sizes(text, found.shared.bytes, found.shared.unshared)


def write_any_batch(folder: Path, program: AnyBatchProgram, report: Mapping[str, object]) -> None:
    """Write everything the program needs; raises UserError when the folder cannot be written."""
    found = _sources(program)
    code, parts, whole = found.code, list(found.shared.parts), program.whole
    block = whole.function.body.block
    outputs = cast(func.ReturnOp, block.last_op).operands
    for i, ((_, array), argument) in enumerate(zip(whole.inputs, block.args, strict=True)):
        parts.append(
            Part(f"model_input{i}", C_TYPES[kind_of(argument)], np.ascontiguousarray(array), "check.bin")
        )
    for i, (value, array, bound) in enumerate(zip(outputs, whole.expected, whole.bounds, strict=True)):
        parts.append(Part(f"model_output{i}", C_TYPES[kind_of(value)], array, "check.bin"))
        if bound is not None:
            parts.append(Part(f"model_output_bound{i}", "float", bound.astype(np.float32), "check.bin"))
    sources = f"$(wildcard batch*.c) {code.sources}"
    texts = {
        "model.c": _model_c(program, code),
        "model.h": _model_h(program, code),
        "data.c": data_c(_tables(program), parts),
        "Makefile": MAKEFILE.format(flags=code.flags, sources=sources, libraries=code.libraries),
        "report.json": json.dumps(report, indent=2) + "\n",
        **found.texts,
        **{name: text for name, text in code.texts.items() if not name.endswith(".s")},
        **found.shared.texts,
    }
    copies = {f"host/{p.name}": p for p in host_sources() + host_headers()} | dict(code.copies)
    family = "cpu" if isinstance(whole.engine.target, CpuTarget) else "tu"
    copies |= {p.name: p for p in sorted((RUNTIME / f"network_batch_{family}").iterdir())}
    copies |= {"arrays.h": NETWORK_PROGRAM / "arrays.h", "main.c": MAIN}
    write_files(folder, texts, parts, copies)
