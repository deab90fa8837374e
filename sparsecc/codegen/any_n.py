"""The C folder of a product for any number of columns: several kernels, and a table that chooses one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from io import StringIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp, StringAttr, SymbolRefAttr

from sparsecc.codegen.c_printer import C_TYPES
from sparsecc.codegen.c_target import CTarget, is_large
from sparsecc.codegen.folder import (
    INLINE_LIMIT,
    MAKEFILE,
    Check,
    copies_of,
    header_of,
    programming,
    stored,
)
from sparsecc.codegen.parts import INCBIN, Part, data_c, write_files
from sparsecc.dialects import tu
from sparsecc.network.tensor_unit import linked
from sparsecc.passes.convert_tu_to_c import ConvertTuToCPass
from sparsecc.target import Target
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.toolchain import PROGRAM, RUNTIME

MAIN = RUNTIME / "any_n_program" / "main.c"


@dataclass(frozen=True, eq=False)
class AnyNProgram:
    """Everything the folder is written from."""

    title: str
    shape: tuple[int, int, int]
    """(m, most columns, k)."""
    target: Target | CrossbarTarget
    kernels: Sequence[ModuleOp]
    """Programs of instructions whose last argument is the number of columns; on crossbars one, which writes
    its arrays in a function of its own."""
    choice: NDArray[np.uint8]
    """The kernel of each number of columns, [most + 1]; that of 0 does not matter."""
    cycles: Mapping[int, int]
    """By number of columns; -1: run, but not compared."""
    check: Check
    """For the most columns."""


def _shared(module: ModuleOp, known: dict[bytes, str]) -> None:
    """Give constants that an earlier kernel has, too, the name that they have there."""
    names: dict[str, str] = {}
    for op in module.ops:
        if isinstance(op, tu.ConstantOp):
            key = blake2b(np.ascontiguousarray(op.array).tobytes() + str(op.type).encode()).digest()
            names[op.sym_name.data] = known.setdefault(key, op.sym_name.data)
    for op in module.walk():
        for key, attribute in list(op.properties.items()):
            if isinstance(attribute, SymbolRefAttr) and attribute.string_value() in names:
                op.properties[key] = SymbolRefAttr(names[attribute.string_value()])
    for op in list(module.ops):
        if isinstance(op, tu.ConstantOp):
            op.properties["sym_name"] = StringAttr(names[op.sym_name.data])


def _source(program: AnyNProgram) -> tuple[str, list[Part]]:
    whole, parts, known = ModuleOp([]), list[Part](), dict[bytes, str]()
    taken: set[str] = set()
    for i, kernel in enumerate(program.kernels):
        module = linked(kernel, f"kernel{i}")
        _shared(module, known)
        # Two tables of one kernel may be equal.
        for op in [o for o in module.ops if isinstance(o, tu.ConstantOp)]:
            if sum(isinstance(o, tu.ConstantOp) and o.sym_name == op.sym_name for o in module.ops) > 1:
                op.detach()
                op.erase()
        ConvertTuToCPass().apply(Context(), module)
        for op in list(module.ops):
            op.detach()
            if isinstance(op, tu.ConstantOp):
                if op.sym_name.data in taken:
                    continue
                taken.add(op.sym_name.data)
                if is_large(op, INLINE_LIMIT):
                    kind = str(op.type.element_type)
                    data = stored(op.array, kind)
                    parts.append(Part(op.sym_name.data, C_TYPES[kind], data, "weights.bin"))
            elif isinstance(op, func.FuncOp):
                op.properties["sym_visibility"] = StringAttr("private")
            whole.body.block.add_op(op)
    text = StringIO()
    CTarget(inline_limit=INLINE_LIMIT, header="model.h").emit(Context(), whole, text)
    cases = "".join(f"    case {i}: return kernel{i}(m, x, y, n);\n" for i in range(1, len(program.kernels)))
    choice = ", ".join(map(str, program.choice.tolist()))
    write = ""
    if isinstance(program.target, CrossbarTarget):
        write = "int model_program(ax_machine *m) {\n    return kernel0_program(m);\n}\n\n"
    return (
        f"{text.getvalue()}\n{write}"
        "/* The kernel of each number of columns. */\n"
        f"static const unsigned char choice[MODEL_MAX_N + 1] = {{{choice}}};\n\n"
        "int model_kernel(int64_t n) {\n    return choice[n];\n}\n\n"
        "int model_infer(ax_machine *m, int x, int y, int64_t n) {\n"
        f"    switch (choice[n]) {{\n{cases}    default: return kernel0(m, x, y, n);\n    }}\n}}\n"
    ), parts


def _header(program: AnyNProgram, parts: Sequence[Part]) -> str:
    m, n, k = program.shape
    declared = "".join(f"extern AX_DATA {p.declaration};\n" for p in parts if p.file == "check.bin")
    return f"""\
/* A product for any number of columns. Written by sparsecc. */
#ifndef MODEL_H
#define MODEL_H

#include <stdint.h>

#include "target.h"

#define MODEL_TITLE {json.dumps(program.title)}
#define MODEL_M {m}
#define MODEL_K {k}
#define MODEL_MAX_N {n}
#define MODEL_IN AX_{program.target.in_type.upper()}
#define MODEL_OUT AX_{program.target.acc_type.upper()}
#define MODEL_ROWS {len(program.cycles)}

#define MODEL_PROGRAMMED {int(isinstance(program.target, CrossbarTarget))}
{programming(program.target)}

{INCBIN}
/* x [K, n] and y [M, n] are buffers of the machine, row-major; 1 <= n <= MODEL_MAX_N. 0, or -1 with the
 * reason in ax_error. */
int model_infer(ax_machine *m, int x, int y, int64_t n);
/* The kernel that takes so many columns. */
int model_kernel(int64_t n);
/* Reads the data where it is not part of the program; 0, or -1 after a message. `program` is argv[0]. */
int model_load(const char *program);

/* Cycles by numbers of columns. */
typedef struct model_row {{
    int64_t n, cycles;
}} model_row;
extern const model_row model_table[MODEL_ROWS];

/* A stored input of MODEL_MAX_N columns, its result, and how far each value may be off (floats). */
{declared}
#endif
"""


def write_any_n(folder: Path, program: AnyNProgram, report: Mapping[str, object]) -> None:
    """Write everything the program needs; raises UserError when the folder cannot be written."""
    source, parts = _source(program)
    acc, check = program.target.acc_type, program.check
    element = program.target.in_type
    floats = acc == "f32"
    parts += [
        Part("model_x", C_TYPES[element], stored(check.inputs["x"], element), "check.bin"),
        Part(
            "model_expected", "double" if floats else "int32_t",
            check.expected.astype(np.float64 if floats else np.int32), "check.bin",
        ),
        Part("model_bound", "double", check.bound if floats else np.zeros((1, 1)), "check.bin"),
    ]  # fmt: skip
    rows = ", ".join(f"{{{n}, {cycles}}}" for n, cycles in sorted(program.cycles.items()))
    texts = {
        "model.c": source,
        "model.h": _header(program, parts),
        "data.c": data_c(f"const model_row model_table[MODEL_ROWS] = {{{rows}}};\n", parts),
        "target.h": header_of(program.target),
        "Makefile": MAKEFILE,
        "report.json": json.dumps(report, indent=2) + "\n",
    }
    others = [path for path in PROGRAM.iterdir() if path.name != "main.c"]
    write_files(folder, texts, parts, copies_of([*others, MAIN]))
