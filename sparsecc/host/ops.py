"""All operators of the host, each declared once: C function, operands, numpy reference, cost.

    OPERATORS["host_add_f32"].call(y="y", a="a", b="b", walk=Walk.broadcast((64, 8), (64, 1)).table())

The header that the C files include is written from here: `python -m sparsecc.host.ops > .../host.h`.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import fields
from itertools import groupby

from sparsecc.host import elementwise, movement, products, quantised, recurrent, reductions, windows
from sparsecc.host.operator import HostOperator, Product, Record, Window
from sparsecc.host.recurrent import Activation

_FAMILIES = {
    "Element by element": elementwise,
    "Reductions and normalisation: x is [outer, axis, inner]": reductions,
    "Windows": windows,
    "Moving elements; names end in their bytes": movement,
    "Products": products,
    "Quantisation": quantised,
    "Steps of recurrent layers": recurrent,
}


def _all() -> Iterator[HostOperator]:
    for family in _FAMILIES.values():
        yield from family.operators()


OPERATORS: Mapping[str, HostOperator] = {op.name: op for op in _all()}
"""By the name of the C function."""

_HEAD = """\
/* Operators of the host: what the accelerator does not do. C11 and libm; no memory is allocated.
 * Written by `python -m sparsecc.host.ops`; change the declarations there.
 *
 * Arrays are flat and do not overlap, except where an operand may be the result itself, which the declaration
 * says. Extents are at least 0, and all arguments are checked where the call is written, not here. A walk is
 * rank (1 to 6), extents [rank], then for each operand its strides [rank], in elements; 0 repeats an element.
 * Build with -ffp-contract=off: then results are the same everywhere, but for the last digits of libm. */
#ifndef HOST_H
#define HOST_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
"""
_WINDOW = (
    "Windows over x [outer, height, width, inner]; results are [outer, out_height, out_width, inner]. The "
    "lower and right pads matter only for averages that count them"
)
_PRODUCT = "y [m, n] = a [m, k] b [k, n], and how far rows and columns lie apart"
_TAIL = """
#ifdef __cplusplus
}
#endif

#endif
"""


def _comment(text: str, indent: str = "") -> str:
    lines = textwrap.wrap(f"{text}. */", 112 - len(indent), break_on_hyphens=False)
    return "\n".join(indent + ("/* " if i == 0 else " * ") + line for i, line in enumerate(lines)) + "\n"


def _struct(record: type[Record], name: str, about: str) -> str:
    names = ", ".join(f.name for f in fields(record))  # pyright: ignore[reportArgumentType]
    body = textwrap.fill(f"int64_t {names};", 112, initial_indent="    ", subsequent_indent="        ")
    return f"{_comment(about)}typedef struct {{\n{body}\n}} {name};\n"


def _wrapped(prototype: str) -> str:
    column = prototype.index("(") + 1
    return textwrap.fill(prototype, 115, subsequent_indent=" " * column, break_long_words=False) + "\n"


def host_header() -> str:
    """The text of host.h."""
    activations = ", ".join(f"HOST_{a.name} = {a.value}" for a in Activation)
    parts = [
        _HEAD,
        _struct(Window, "host_window", _WINDOW), _struct(Product, "host_product", _PRODUCT),
        f"{_comment('Activations of recurrent steps')}enum {{ {activations} }};\n",
    ]  # fmt: skip
    for title, family in _FAMILIES.items():
        parts.append(f"/* ---- {title} ---- */\n")
        for about, members in groupby(family.operators(), lambda op: op.about):
            parts.append(_comment(about) + "".join(_wrapped(op.prototype) for op in members))
    return "\n".join(parts) + _TAIL


if __name__ == "__main__":
    sys.stdout.write(host_header())
