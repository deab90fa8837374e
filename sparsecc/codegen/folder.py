"""The folder that stands alone: C program, data, simulator, Makefile. `make && ./model` checks itself."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
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
from sparsecc.dialects import tu
from sparsecc.errors import UserError
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
_STORED = {"i32": ("int32_t", np.int32), "f32": ("double", np.float64)}


@dataclass(frozen=True, eq=False)
class Check:
    """What a program checks itself against."""

    inputs: Mapping[str, Array]
    """By name, in the order the program takes them, in the input type (bf16 as the f32 it equals)."""
    expected: Array
    """[m, n]: int32, or float64."""
    bound: Array
    """[m, n] float64: how far a float may be off; all 0 for integers."""
    points: NDArray[np.int64] | None
    """Places of the values that are part of the result, counted row by row; None for all. Others are 0."""


def stored(array: Array, element: str) -> Array:
    """Values as the program holds them: bf16 as the upper half of its f32."""
    if element == "bf16":
        return (np.ascontiguousarray(array, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return np.ascontiguousarray(array)


@dataclass(frozen=True)
class _Blob:
    """An array that a file holds and C code refers to."""

    name: str
    c_type: str
    data: Array
    file: str


def model_c(module: ModuleOp) -> str:
    """The text of model.c for a module that convert-tu-to-c made."""
    text = StringIO()
    CTarget(inline_limit=INLINE_LIMIT, header="model.h").emit(Context(), module, text)
    return text.getvalue()


def _model_h(
    title: str, shape: tuple[int, int, int], target: Target | CrossbarTarget, check: Check, blobs: list[_Blob]
) -> str:
    m, n, k = shape
    handles = "".join(f"input[{i}], " for i in range(len(check.inputs)))
    buffers = "".join(f"int {name}, " for name in check.inputs)
    count, place = (m * n, "(i)") if check.points is None else (len(check.points), "model_points[i]")
    declared = "".join(
        f"extern AX_DATA {b.c_type} {b.name}[{max(b.data.size, 1)}];\n"
        for b in blobs
        if b.file == "check.bin"
    )
    # Only crossbars are written before they are used.
    programmed = isinstance(target, CrossbarTarget)
    opens = "ax_open_crossbar" if programmed else "ax_open"
    program = (
        "/* Writes the weights into the arrays; once, before any inference. 0, or -1. */\n"
        "int model_program(ax_machine *m);"
        if programmed
        else "static inline int model_program(ax_machine *m) {\n    (void)m;\n    return 0;\n}"
    )
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
#define MODEL_OUT AX_{target.acc_type.upper()}
#define MODEL_INPUTS {len(check.inputs)}
/* The result's values, and where each lies among the M x N of the output. */
#define MODEL_VALUES {count}
#define MODEL_PLACE(i) {place}

/* Data is assembled into the program where the assembler can; elsewhere, or with -DAX_NO_INCBIN, it is read
 * from the .bin files beside the program when it starts. */
#if defined(__ELF__) && !defined(AX_NO_INCBIN)
#define AX_INCBIN 1
#define AX_DATA const
#else
#define AX_DATA
#endif

typedef struct model_input {{
    const char *name;
    const void *data;
    int64_t rows, cols;
}} model_input;

/* The inputs as they are stored, in the order of model_infer. */
extern const model_input model_inputs[MODEL_INPUTS];

#define MODEL_OPEN {opens}
{program}
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


def _data_c(check: Check, blobs: list[_Blob], offsets: list[int]) -> str:
    inputs = "\n".join(
        f'    {{"{name}", model_{name}, {array.shape[0]}, {array.shape[1]}}},'
        for name, array in check.inputs.items()
    )
    lines = "\n".join(
        f'BLOB({b.name}, "{b.file}", {offset}, {b.data.nbytes})'
        for b, offset in zip(blobs, offsets, strict=True)
    )
    arrays = "\n".join(f"{b.c_type} {b.name}[{max(b.data.size, 1)}];" for b in blobs)
    entries = "\n".join(
        f'    {{"{b.file}", {b.name}, {offset}, {b.data.nbytes}}},'
        for b, offset in zip(blobs, offsets, strict=True)
    )
    return f"""\
/* The program's data. Written by sparsecc. */
#include "model.h"

const model_input model_inputs[MODEL_INPUTS] = {{
{inputs}
}};

#ifdef AX_INCBIN

#define BLOB(name, file, offset, size) \\
    __asm__(".pushsection .rodata\\n.balign 64\\n.global " #name "\\n" #name ":\\n" \\
            ".incbin \\"" file "\\", " #offset ", " #size "\\n.popsection\\n");
{lines}

int model_load(const char *program) {{
    (void)program;
    return 0;
}}

#else

#include <stdio.h>
#include <string.h>

{arrays}

static const struct {{
    const char *file;
    void *data;
    long offset;
    size_t size;
}} parts[] = {{
{entries}
}};

int model_load(const char *program) {{
    const char *end = strrchr(program, '/');
    const int length = end ? (int)(end - program) + 1 : 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {{
        char path[4096];
        snprintf(path, sizeof path, "%.*s%s", length, program, parts[i].file);
        FILE *f = fopen(path, "rb");
        const int ok = f && fseek(f, parts[i].offset, SEEK_SET) == 0 &&
                       fread(parts[i].data, 1, parts[i].size, f) == parts[i].size;
        if (f) fclose(f);
        if (!ok) {{
            fprintf(stderr, "model: %s: missing or cut short; it belongs beside the program\\n", path);
            return -1;
        }}
    }}
    return 0;
}}

#endif
"""


def _blobs(module: ModuleOp, target: Target | CrossbarTarget, check: Check) -> list[_Blob]:
    constants = [op for op in module.ops if isinstance(op, tu.ConstantOp)]
    large = [c for c in constants if is_large(c, INLINE_LIMIT)]
    element, acc = target.in_type, target.acc_type
    blobs: list[_Blob] = []
    for constant in large:
        kind = str(constant.type.element_type)
        blobs.append(
            _Blob(constant.sym_name.data, C_TYPES[kind], stored(constant.array, kind), "weights.bin")
        )
    c_type, dtype = _STORED[acc]
    expected, bound = check.expected, check.bound if acc == "f32" else np.zeros((1, 1))
    if check.points is not None:
        blobs.append(_Blob("model_points", "int64_t", check.points, "check.bin"))
        expected = expected.reshape(-1)[check.points]
        bound = bound.reshape(-1)[check.points] if acc == "f32" else bound
    for name, array in check.inputs.items():
        blobs.append(_Blob(f"model_{name}", C_TYPES[element], stored(array, element), "check.bin"))
    blobs.append(_Blob("model_expected", c_type, expected.astype(dtype), "check.bin"))
    blobs.append(_Blob("model_bound", "double", bound.astype(np.float64), "check.bin"))
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
    offsets: list[int] = []
    sizes: dict[str, int] = {}
    for blob in blobs:
        offsets.append(sizes.get(blob.file, 0))
        sizes[blob.file] = offsets[-1] + blob.data.nbytes + _padding(blob)
    texts = {
        "model.c": model_c(module),
        "model.h": _model_h(title, shape, target, check, blobs),
        "data.c": _data_c(check, blobs, offsets),
        "target.h": crossbar_header(target) if isinstance(target, CrossbarTarget) else target_header(target),
        "Makefile": MAKEFILE,
        "report.json": json.dumps(report, indent=2) + "\n",
        **(extra or {}),
    }
    if folder.exists() and not (folder.is_dir() and _is_ours(folder)):
        raise UserError(f"{folder}: exists and was not written by sparsecc; name another folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as work:
            new = Path(work) / "new"
            (new / "axsim").mkdir(parents=True)
            for name, text in texts.items():
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                (new / name).write_text(text)
            for name in sizes:
                with (new / name).open("wb") as file:
                    for blob in blobs:
                        if blob.file == name:
                            file.write(np.ascontiguousarray(blob.data).data)
                            file.write(bytes(_padding(blob)))
            for path in simulator_sources() + simulator_headers():
                shutil.copyfile(path, new / "axsim" / path.name)
            for path in sorted(PROGRAM.iterdir()):
                shutil.copyfile(path, new / path.name)
            if folder.exists():
                os.rename(folder, Path(work) / "old")
            os.rename(new, folder)
    except OSError as e:
        raise UserError(f"{folder}: cannot be written: {e.strerror}; name a folder you may write to") from e


def _padding(blob: _Blob) -> int:
    """Bytes after a blob in its file, for the next one to begin at a multiple of 64."""
    return -blob.data.nbytes % 64


def _is_ours(folder: Path) -> bool:
    """Whether the folder is empty or one that `write_folder` wrote."""
    names = {path.name for path in folder.iterdir()}
    return not names or {"model.c", "model.h", "data.c", "target.h", "report.json"} <= names
