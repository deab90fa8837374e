"""The folder that stands alone: C program, data, simulator, Makefile. `make && ./model` checks itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp

from sparsecc.codegen.c_printer import C_TYPES
from sparsecc.codegen.c_target import CTarget, is_large
from sparsecc.codegen.parts import INCBIN, Part, data_c, write_files
from sparsecc.dialects import tu
from sparsecc.target import Target
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.crossbar_header import crossbar_header
from sparsecc.target.header import target_header
from sparsecc.toolchain import PROGRAM, simulator_headers, simulator_sources

Array = NDArray[Any]

INLINE_LIMIT = 4096

MAKEFILE = """\
# make: build the program; make check: run it, which compares every value with the stored result.
CC ?= cc
CFLAGS ?= -O2
ALL_CFLAGS = -std=gnu11 -I. -Iaxsim $(CFLAGS)
SOURCES = model.c data.c main.c npy.c $(wildcard axsim/*.c)

model: $(SOURCES) $(wildcard *.h axsim/*.h) $(wildcard *.bin)
\t$(CC) $(ALL_CFLAGS) $(SOURCES) -lm -o $@

check: model
\t./model

clean:
\trm -f model

.PHONY: check clean
"""

# Values of a check are kept in these types.
_STORED = {"i8": ("int32_t", np.int32), "i32": ("int32_t", np.int32), "f32": ("double", np.float64)}


@dataclass(frozen=True, eq=False)
class Check:
    """What a program checks itself against."""

    inputs: Mapping[str, Array]
    """By name, in the order the program takes them, in the input type (bf16 as the f32 it equals)."""
    expected: Array
    """[m, n]: int32, int8 where stores round to bytes, or float64."""
    bound: Array
    """[m, n] float64: how far a float may be off; all 0 for integers."""
    points: NDArray[np.int64] | None
    """Places of the values that are part of the result, counted row by row; None for all. Others are 0."""

    def element(self, target: Target | CrossbarTarget) -> str:
        """Type of the elements of the result."""
        return "i8" if self.expected.dtype == np.int8 else target.acc_type


def stored(array: Array, element: str) -> Array:
    """Values as the program holds them: bf16 as the upper half of its f32."""
    if element == "bf16":
        return (np.ascontiguousarray(array, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return np.ascontiguousarray(array)


def model_c(module: ModuleOp) -> str:
    """The text of model.c for a module that convert-tu-to-c made."""
    text = StringIO()
    CTarget(inline_limit=INLINE_LIMIT, header="model.h").emit(Context(), module, text)
    return text.getvalue()


def programming(target: Target | CrossbarTarget) -> str:
    """Of a model.h: how a machine is opened, and what is written before it is used: only crossbars are."""
    if isinstance(target, CrossbarTarget):
        return (
            "#define MODEL_OPEN ax_open_crossbar\n"
            "/* Writes the weights into the arrays; once, before any inference. 0, or -1. */\n"
            "int model_program(ax_machine *m);"
        )
    return (
        "#define MODEL_OPEN ax_open\n"
        "static inline int model_program(ax_machine *m) {\n    (void)m;\n    return 0;\n}"
    )


def header_of(target: Target | CrossbarTarget) -> str:
    """The text of target.h."""
    return crossbar_header(target) if isinstance(target, CrossbarTarget) else target_header(target)


def _model_h(
    title: str, shape: tuple[int, int, int], target: Target | CrossbarTarget, check: Check, blobs: list[Part]
) -> str:
    m, n, k = shape
    handles = "".join(f"input[{i}], " for i in range(len(check.inputs)))
    buffers = "".join(f"int {name}, " for name in check.inputs)
    count, place = (m * n, "(i)") if check.points is None else (len(check.points), "model_points[i]")
    declared = "".join(f"extern AX_DATA {b.declaration};\n" for b in blobs if b.file == "check.bin")
    return f"""\
/* What main.c and data.c know of model.c. Written by sparsecc. */
#ifndef MODEL_H
#define MODEL_H

#include <stdint.h>

#include "target.h"

#define MODEL_TITLE {json.dumps(title)}
#define MODEL_M {m}
#define MODEL_N {n}
#define MODEL_K {k}
#define MODEL_IN AX_{target.in_type.upper()}
#define MODEL_OUT AX_{check.element(target).upper()}
#define MODEL_INPUTS {len(check.inputs)}
/* The result's values, and where each lies among the M x N of the output. */
#define MODEL_VALUES {count}
#define MODEL_PLACE(i) {place}

{INCBIN}
typedef struct model_input {{
    const char *name;
    const void *data;
    int64_t rows, cols;
}} model_input;

/* The inputs as they are stored, in the order of model_infer. */
extern const model_input model_inputs[MODEL_INPUTS];

{programming(target)}
/* Inputs and output are buffers of the machine; 0, or -1 with the reason in ax_error. */
int model_infer(ax_machine *m, {buffers}int output);
static inline int model_run(ax_machine *m, const int *input, int output) {{
    return model_infer(m, {handles}output);
}}
/* Reads the data where it is not part of the program; 0, or -1 after a message. `program` is argv[0]. */
int model_load(const char *program);

/* The stored inputs, their result, and how far each value may be off (floats). */
{declared}
#endif
"""


def _inputs_c(check: Check) -> str:
    inputs = "\n".join(
        f'    {{"{name}", model_{name}, {array.shape[0]}, {array.shape[1]}}},'
        for name, array in check.inputs.items()
    )
    return f"const model_input model_inputs[MODEL_INPUTS] = {{\n{inputs}\n}};\n"


def _blobs(module: ModuleOp, target: Target | CrossbarTarget, check: Check) -> list[Part]:
    constants = [op for op in module.ops if isinstance(op, tu.ConstantOp)]
    large = [c for c in constants if is_large(c, INLINE_LIMIT)]
    element, acc = target.in_type, check.element(target)
    blobs: list[Part] = []
    for constant in large:
        kind = str(constant.type.element_type)
        blobs.append(Part(constant.sym_name.data, C_TYPES[kind], stored(constant.array, kind), "weights.bin"))
    c_type, dtype = _STORED[acc]
    expected, bound = check.expected, check.bound if acc == "f32" else np.zeros((1, 1))
    if check.points is not None:
        blobs.append(Part("model_points", "int64_t", check.points, "check.bin"))
        expected = expected.reshape(-1)[check.points]
        bound = bound.reshape(-1)[check.points] if acc == "f32" else bound
    for name, array in check.inputs.items():
        blobs.append(Part(f"model_{name}", C_TYPES[element], stored(array, element), "check.bin"))
    blobs.append(Part("model_expected", c_type, expected.astype(dtype), "check.bin"))
    blobs.append(Part("model_bound", "double", bound.astype(np.float64), "check.bin"))
    return blobs


def write_folder(
    folder: Path, module: ModuleOp, title: str, shape: tuple[int, int, int],
    target: Target | CrossbarTarget, check: Check, report: Mapping[str, object],
    extra: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Write everything a program needs. The folder appears whole or not at all; one made before is replaced.

    shape is (m, n, k); extra are further text files by name. Raises UserError when the folder cannot be
    written or holds something else.
    """
    blobs = _blobs(module, target, check)
    texts = {
        "model.c": model_c(module),
        "model.h": _model_h(title, shape, target, check, blobs),
        "data.c": data_c(_inputs_c(check), blobs),
        "target.h": header_of(target),
        "Makefile": MAKEFILE,
        "report.json": json.dumps(report, indent=2) + "\n",
        **(extra or {}),
    }
    write_files(folder, texts, blobs, copies_of(PROGRAM.iterdir()))


def copies_of(program: Iterable[Path]) -> dict[str, Path]:
    """Files that every folder holds a copy of: the simulator's, and those of the program."""
    simulator = {f"axsim/{p.name}": p for p in simulator_sources() + simulator_headers()}
    return simulator | {p.name: p for p in sorted(program)}
