"""Programs for CPUs: model.c, the tables and the code of its kernel, and the folder that stands alone."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp, f32

from sparsecc.codegen.c_printer import CPrinter
from sparsecc.codegen.folder import Check
from sparsecc.codegen.parts import new_folder
from sparsecc.cpu.activate import in_kernel, numbers_of
from sparsecc.cpu.arrays import (
    VECTOR_COLUMNS,
    Floats,
    csr_arrays,
    dense_array,
    line_arrays,
    sliced_arrays,
    vector_arrays,
)
from sparsecc.cpu.assembly import PLAIN, Epilogue, Registers, assembly
from sparsecc.cpu.line import make_plan, registers_for
from sparsecc.cpu.pairs import paired_arrays
from sparsecc.cpu.plan import Indices
from sparsecc.cpu.rounds import round_arrays
from sparsecc.cpu.variant import Variant, row_order
from sparsecc.cpu.words import as_stored
from sparsecc.dialects.cpu import SUMS, KernelOp
from sparsecc.importers.matrix import Csr, make_csr
from sparsecc.target.cpu import CpuTarget
from sparsecc.toolchain import RUNTIME

Array = NDArray[Any]

HEADER = """\
/* {title}
 *
 * Written by sparsecc. The tables of the kernel are in weights.bin{code}; what reads them is in sc/.
 */
#include "model.h"
"""

MAKEFILE = """\
# make: build the program; make check: run it, which compares every value with the stored result.
CC ?= cc
CFLAGS ?= -O3
ALL_CFLAGS = -std=gnu11 {flags} -ffp-contract=fast -I. -Isc $(CFLAGS)
SOURCES = model.c data.c main.c $(wildcard *.s) $(wildcard sc/*.c)

model: $(SOURCES) $(wildcard *.h sc/*.h) $(wildcard *.bin)
\t$(CC) $(ALL_CFLAGS) $(SOURCES) -pthread -lm -o $@

check: model
\t./model

clean:
\trm -f model

.PHONY: check clean
"""

# Of elements in C; what it has no type for is kept as its bits.
C_TYPES = {
    "f32": "float", "i32": "int32_t", "i8": "int8_t", "ui8": "uint8_t", "bf16": "uint16_t", "f16": "uint16_t",
}  # fmt: skip

OURS = {"model.c", "model.h", "data.c", "report.json", "weights.bin", "check.bin"}
# Rows that one dense tile has, as SC_DENSE_ROWS of sc.h says for each instruction set.
DENSE_ROWS = {"avx512": 14, "avx2": 6, "neon": 8}


@dataclass
class Parts:
    """A kernel's tables by name: C type and array; its structure; and its code, if it has any."""

    struct: str
    tables: dict[str, tuple[str, Array]] = field(default_factory=dict[str, tuple[str, Array]])
    code: str | None = None
    code_name: str = ""
    """What the table of the code is called, without _table."""
    before: str = ""
    """Definitions that the structure refers to."""


def _matrix(op: KernelOp) -> Csr:
    pattern = op.weight.pattern
    return make_csr(op.weight.data.astype(np.float32), pattern.indices, pattern.indptr, op.weight.shape)


def kernel_parts(
    op: KernelOp,
    target: CpuTarget,
    epilogue: Epilogue = PLAIN,
    bias: Floats | None = None,
    places: Indices | None = None,
) -> Parts:
    """What C needs of a kernel; epilogue and bias [M]: what is fused to it; places: as of `assembly`."""
    variant = op.variant
    registers = registers_for(target, 1 if variant.lanes == 8 else variant.lanes)
    return matrix_parts(
        _matrix(op), variant, op.sym_name.data, target, registers, epilogue, bias, places=places
    )


def matrix_parts(
    w: Csr,
    variant: Variant,
    name: str,
    target: CpuTarget,
    registers: Registers | None,
    epilogue: Epilogue,
    bias: Floats | None,
    csr_columns: int | None = None,
    places: Indices | None = None,
    full_from: int = VECTOR_COLUMNS + 1,
) -> Parts:
    """The same for a matrix in float32, or of words (`sparsecc.cpu.words`), and a name in C."""
    m, k = w.shape
    fused = {} if bias is None else {f"{name}_bias": ("float", bias)}
    kind, first, second, slopes = numbers_of(epilogue, variant.kind == "line")
    if slopes is not None:
        fused[f"{name}_slopes"] = ("float", slopes)
    activation = activation_text(kind, first, second, f"{name}_slopes" if slopes is not None else "0")
    plain = f"{{{f'{name}_bias' if bias is not None else 0}, {int(epilogue.relu)}, {activation}}}"
    match variant.kind:
        case "csr":
            a = csr_arrays(w, csr_columns, variant.by_rows)
            return Parts(
                f"{m}, {k}, {a.width}, {a.blocks}, {name}_begin, {name}_entries, {name}_rows, {plain}",
                {
                    f"{name}_begin": ("int64_t", a.begin),
                    f"{name}_entries": ("sc_entry", a.entries),
                    f"{name}_rows": ("int32_t", a.rows),
                }
                | fused,
            )
        case "vector" if variant.sliced:
            a = sliced_arrays(w)
            return Parts(
                f"{m}, {k}, {a.tiles}, {name}_slabs, {name}_stretches, 0, {name}_values, 0, {name}_masks, "
                f"{name}_rows, {plain}, {name}_columns, 0, 0, {{0}}",
                {
                    f"{name}_slabs": ("sc_slab", a.slabs),
                    f"{name}_stretches": ("sc_stretch", a.stretches),
                    f"{name}_values": ("float", a.values),
                    f"{name}_columns": ("uint16_t", a.columns),
                    f"{name}_masks": ("uint16_t", a.masks),
                    f"{name}_rows": ("int32_t", a.rows),
                }
                | fused,
            )
        case "vector" if variant.pairs:
            a = paired_arrays(w, variant.pairs)
            return Parts(
                f"{m}, {k}, {a.tiles}, {name}_slabs, {name}_stretches, 0, {name}_values, {name}_columns, 0, "
                f"{name}_rows, {plain}, 0, {name}_pairs, {variant.pairs}, {{0}}",
                {
                    f"{name}_slabs": ("sc_slab", a.slabs),
                    f"{name}_stretches": ("sc_stretch", a.stretches),
                    f"{name}_values": ("float", a.values),
                    f"{name}_columns": ("uint8_t", a.columns),
                    f"{name}_pairs": ("uint16_t", a.pairs),
                    f"{name}_rows": ("int32_t", a.rows),
                }
                | fused,
            )
        case "vector" if variant.rounds:
            a = round_arrays(w)
            return Parts(
                f"{m}, {k}, {a.tiles}, {name}_slabs, 0, 0, {name}_values, 0, 0, {name}_rows, {plain}, "
                f"0, 0, 0, {{{len(a.steps)}, {a.columns}, {len(a.slabs) - 1}, {name}_starts, "
                f"{name}_steps, {name}_begin, {name}_picks, {name}_singles, {name}_single_rows, "
                f"{name}_single_columns}}",
                {
                    f"{name}_slabs": ("sc_slab", a.slabs),
                    f"{name}_values": ("float", a.values),
                    f"{name}_rows": ("int32_t", a.rows),
                    f"{name}_starts": ("uint16_t", a.starts),
                    f"{name}_steps": ("uint16_t", a.steps),
                    f"{name}_begin": ("sc_round_begin", a.begin),
                    f"{name}_picks": ("uint32_t", a.picks),
                    f"{name}_singles": ("float", a.singles),
                    f"{name}_single_rows": ("int32_t", a.single_rows),
                    f"{name}_single_columns": ("uint16_t", a.single_columns),
                }
                | fused,
            )
        case "vector":
            a = vector_arrays(w, full_from)
            return Parts(
                f"{m}, {k}, {a.tiles}, {name}_slabs, {name}_stretches, {name}_places, {name}_values, "
                f"{name}_columns, {name}_masks, {name}_rows, {plain}, 0, 0, 0, {{0}}",
                {
                    f"{name}_slabs": ("sc_slab", a.slabs),
                    f"{name}_stretches": ("sc_stretch", a.stretches),
                    f"{name}_places": ("sc_tile", a.places),
                    f"{name}_values": ("float", a.values),
                    f"{name}_columns": ("uint8_t", a.columns),
                    f"{name}_masks": ("uint16_t", a.masks),
                    f"{name}_rows": ("int32_t", a.rows),
                }
                | fused,
            )
        case "dense":
            values = dense_array(w, DENSE_ROWS[target.simd.isa])
            return Parts(f"{m}, {k}, {name}_values, {plain}", {f"{name}_values": ("float", values)} | fused)
        case "line":
            assert registers is not None
            plan = make_plan(w, variant.height, variant.columns, row_order(w, variant))
            # A convolution runs over its image, not over panels.
            fetches = variant.fetches if places is None else 0
            a = line_arrays(plan, w.data, bias)
            # Its bias stands among the values.
            plain = f"{{0, {int(epilogue.relu)}, {activation}}}"
            fused.pop(f"{name}_bias", None)
            return Parts(
                f"{m}, {k}, {registers.lanes}, {plan.width}, {plan.blocks}, {plan.groups}, {plan.height}, "
                f"{name}_table, {name}_values, {2 * registers.window}, {plain}, {name}_rows, "
                f"{plan.cut}, {variant.panels}, {variant.batch}, {int(variant.pack)}, {fetches}",
                {f"{name}_values": ("float", a.values), f"{name}_rows": ("int32_t", a.rows)} | fused,
                assembly(plan, registers, epilogue, name, places, fetches),
                name,
            )


def activation_text(kind: int, first: float, second: float, slopes: str) -> str:
    """A structure sc_activation in C."""
    return f"{{{kind}, {float_text(first)}, {float_text(second)}, {slopes}}}"


def float_text(value: float) -> str:
    """A float in C."""
    return f"{'-' if value < 0 else ''}__builtin_inff()" if math.isinf(value) else f"{value!r}f"


def struct_of(op: KernelOp) -> str:
    """What C calls the kernel's structure."""
    return f"sc_{op.kernel.data}" if op.weight.element_type == f32 else "sc_words"


def result_of(op: KernelOp) -> str:
    """The type of results: that of the sums, or what an epilogue makes of them."""
    return str(SUMS[str(op.weight.element_type)]) if op.result is None else op.result.data


def model_c(module: ModuleOp) -> str:
    """The text of model.c for a module that convert-cpu-to-c made: entry points, kernels declared."""
    kernels = [op for op in module.ops if isinstance(op, KernelOp)]
    functions = [op for op in module.ops if isinstance(op, func.FuncOp)]
    text = StringIO()
    title = kernels[0].title.data if kernels else "A program for a CPU."
    code = " and its code in line.s" if any(op.kernel.data == "line" for op in kernels) else ""
    text.write(HEADER.replace("{title}", title).replace("{code}", code))
    names = [op.sym_name.data for op in kernels]
    text.writelines(
        f"\nextern const {struct_of(op)} {op.sym_name.data}; /* {op.variant.name} */\n" for op in kernels
    )
    text.write("\nint model_init(void) {\n  return sc_supported() ? 0 : -1;\n}\n")
    printer = CPrinter(text, names + [f.sym_name.data for f in functions])
    for function in functions:
        text.write("\n")
        printer.function(function)
    return text.getvalue()


def _model_h(op: KernelOp, n: int, title: str, target: CpuTarget) -> str:
    m, k = op.weight.shape
    x_type, y_type = C_TYPES[target.in_type], C_TYPES[result_of(op)]
    result, added, stored = "W X", "", ""
    if (follows := op.epilogue) is not None:
        result = f"f({result}), with what is fused to it"
    if follows is not None and follows.residual:
        result = "f(W X + residual), with what else is fused to it"
        added, stored = "const float *residual, size_t ldr, ", "\n#define MODEL_RESIDUAL 1"
        stored += "\nextern const float model_residual[];"
    bits = f"; {target.in_type} as its bits" if x_type == "uint16_t" else ""
    return f"""\
/* {title} */
#ifndef MODEL_H
#define MODEL_H

#include "sc.h"

#define MODEL_TITLE {json.dumps(title)}
#define MODEL_TARGET {json.dumps(f"{target.name}: {' '.join(target.features)}")}
#define MODEL_M {m}
#define MODEL_K {k}
#define MODEL_N {n}
#define MODEL_NNZ {op.weight.nnz.data}

typedef {x_type} model_in;
typedef {y_type} model_out;

/* 0, or -1 when this CPU lacks instructions: then nothing else may be called. */
int model_init(void);
/* Y [M, n] = {result}, X [K, n], ldx and ldy elements from row to row, any n.
 * 0, or -1 without memory{bits}. */
int model_run(const {x_type} *x, size_t ldx, {y_type} *y, size_t ldy, size_t n, {added}int threads);

/* A stored X of MODEL_N positions, its exact result, and how far each value may be off. */
extern const model_in model_x[];
extern const double model_expected[], model_bound[];{stored}

#endif
"""


def _data_c(op: KernelOp, parts: Parts, files: Mapping[str, list[tuple[str, str, Array]]]) -> str:
    lines: list[str] = []
    for file, blobs in files.items():
        offset = 0
        for name, _, array in blobs:
            lines.append(f'BLOB({name}, "{file}", {offset}, {array.nbytes})')
            offset += array.nbytes + _padding(array)
    declared = [f"extern const {kind} {name}[];" for name, (kind, _) in parts.tables.items()]
    name = op.sym_name.data
    if parts.code is not None:
        declared.append(f"extern const sc_chunk {parts.code_name}_table[];")
    return f"""\
/* The program's data, assembled into it from the files beside it. Written by sparsecc. */
#include "model.h"

#define BLOB(name, file, offset, size) \\
    __asm__(".pushsection .rodata\\n.balign 64\\n.global " #name "\\n" #name ":\\n" \\
            ".incbin \\"" file "\\", " #offset ", " #size "\\n.popsection\\n");
{chr(10).join(lines)}

{chr(10).join(declared)}
{parts.before}
extern const {struct_of(op)} {name};
const {struct_of(op)} {name} = {{{parts.struct}}};
"""


def _padding(array: Array) -> int:
    """Bytes after an array in its file, for the next one to begin at a multiple of 64; never 0."""
    return 64 - array.nbytes % 64


def write_cpu_folder(
    folder: Path, module: ModuleOp, title: str, n: int, target: CpuTarget, check: Check,
    report: Mapping[str, object],
) -> None:  # fmt: skip
    """Write everything a program needs. The folder appears whole or not at all; one made before is replaced.

    Raises UserError when the folder cannot be written or holds something else.
    """
    (kernel,) = [op for op in module.ops if isinstance(op, KernelOp)]
    if target.in_type == "f32":
        follows = kernel.epilogue
        fused, bias = (PLAIN, None) if follows is None else (in_kernel(follows), follows.bias)
        parts = kernel_parts(kernel, target, fused, bias)
    else:
        from sparsecc.codegen.cpu_narrow import narrow_parts  # needs what is here

        parts = narrow_parts(kernel, target, kernel.epilogue)
    bound = np.broadcast_to(check.bound, check.expected.shape)
    added = check.inputs.get("residual")
    residual = [] if added is None else [("model_residual", "float", added)]
    files = {
        "weights.bin": [(name, kind, array) for name, (kind, array) in parts.tables.items()],
        "check.bin": [
            ("model_x", "model_in", as_stored(check.inputs["x"], target.in_type)),
            *residual,
            ("model_expected", "double", check.expected.astype(np.float64)),
            ("model_bound", "double", bound.astype(np.float64)),
        ],
    }
    texts = {
        "model.c": model_c(module),
        "model.h": _model_h(kernel, n, title, target),
        "data.c": _data_c(kernel, parts, files),
        "Makefile": MAKEFILE.replace("{flags}", " ".join(target.flags)),
        "report.json": json.dumps(report, indent=2) + "\n",
    }
    if parts.code is not None:
        texts["line.s"] = parts.code
    with new_folder(folder, OURS) as new:
        (new / "sc").mkdir()
        for name, text in texts.items():
            (new / name).write_text(text)
        for name, blobs in files.items():
            with (new / name).open("wb") as file:
                for _, _, array in blobs:
                    file.write(np.ascontiguousarray(array).tobytes())
                    file.write(bytes(_padding(array)))
        for path in sorted((RUNTIME / "cpu").glob("*.[ch]")):
            shutil.copyfile(path, new / "sc" / path.name)
        shutil.copyfile(RUNTIME / "cpu_program" / "main.c", new / "main.c")
