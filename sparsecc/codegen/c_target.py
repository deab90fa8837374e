"""The target `c`: one C file of a module that convert-tu-to-c made."""

from __future__ import annotations

from dataclasses import dataclass
from io import StringIO
from typing import IO, ClassVar, cast

from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, IntegerAttr, ModuleOp, StringAttr
from xdsl.utils.target import Target

from sparsecc.codegen.c_printer import C_TYPES, CPrinter, array_text
from sparsecc.dialects import tu
from sparsecc.errors import UserError

HEADER = """\
/* {title}
 *
 * Written by sparsecc: a program for axsim, the instruction-set simulator beside it. Each AX(...) is one
 * instruction or a function of them; it returns at once when an error occurred.
 */
#include <stdint.h>

#include "{header}"

#define AX(call) \\
    do { \\
        if ((call) != 0) return -1; \\
    } while (0)
#define AX_MIN(a, b) ((a) < (b) ? (a) : (b))
"""


def is_large(constant: tu.ConstantOp, limit: int) -> bool:
    """Whether a constant is kept out of the text: more elements than the limit, or no table of int32."""
    elements = 1
    for extent in constant.type.get_shape():
        elements *= extent
    return elements > limit or str(constant.type.element_type) != "i32"


@dataclass(frozen=True)
class CTarget(Target):
    """Prints C99. Constants of more than `inline_limit` elements are declared, and defined elsewhere."""

    name: ClassVar[str] = "c"
    inline_limit: int = 4096
    header: str = "target.h"

    def emit(self, ctx: Context, module: ModuleOp, output: IO[str]) -> None:
        if any(op.name == "cpu.kernel" for op in module.ops):
            from sparsecc.codegen.cpu import model_c  # with the kernels' layouts, which others do not need

            output.write(model_c(module))
            return
        functions = [op for op in module.ops if isinstance(op, func.FuncOp)]
        constants = [op for op in module.ops if isinstance(op, tu.ConstantOp)]
        for op in module.ops:
            if not isinstance(op, func.FuncOp | tu.ConstantOp):
                raise UserError(f"{op.name} has no form in C; run convert-tu-to-c before the target c")
        # Written at once, so that an error leaves nothing half-printed.
        text = StringIO()
        text.write(HEADER.replace("{title}", _title(functions)).replace("{header}", self.header))
        for line in _assertions(functions):
            text.write(f"\n{line}")
        text.write("\n")
        if any(is_large(c, self.inline_limit) for c in constants):
            text.write("\n#ifndef AX_DATA\n#define AX_DATA const\n#endif\n")
        for constant in constants:
            if is_large(constant, self.inline_limit):
                text.write(declaration(constant))
            else:
                text.write(array_text(constant))
        printer = CPrinter(text, [c.sym_name.data for c in constants] + [f.sym_name.data for f in functions])
        for function in functions:
            text.write("\n")
            printer.function(function)
        output.write(text.getvalue())


def declaration(constant: tu.ConstantOp) -> str:
    """A constant that another file defines."""
    shape = constant.type.get_shape()
    count = 1
    for extent in shape:
        count *= extent
    element = C_TYPES[str(constant.type.element_type)]
    extents = " x ".join(map(str, shape))
    return f"extern AX_DATA {element} {constant.sym_name.data}[{max(count, 1)}]; /* {extents} */\n"


def _title(functions: list[func.FuncOp]) -> str:
    titles = [f.attributes.get("tu.title") for f in functions]
    return next((t.data for t in titles if isinstance(t, StringAttr)), "A program for a dense tensor unit.")


def _assertions(functions: list[func.FuncOp]) -> list[str]:
    """Static assertions that target.h is the one this program was made for."""
    lines: list[str] = []
    for function in functions:
        target, needs = function.attributes.get("tu.target"), function.attributes.get("tu.needs")
        if isinstance(target, StringAttr) and isinstance(needs, ArrayAttr):
            numbers = cast("ArrayAttr[IntegerAttr]", needs)
            rows, cols, spad, acc = (n.value.data for n in numbers)
            say = f'"made for {target.data}"'
            lines.append(f"_Static_assert(AX_ROWS == {rows} && AX_COLS == {cols}, {say});")
            lines.append(f"_Static_assert(AX_SPAD_ROWS >= {spad} && AX_ACC_ROWS >= {acc}, {say});")
    return lines
