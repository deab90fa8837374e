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

from sparsecc.codegen.any_batch_texts import AnyBatchProgram, model_c, model_h, row_of, tables
from sparsecc.codegen.network import ARENA, MAKEFILE, NetworkProgram, Printer, comment, host_constants
from sparsecc.codegen.parts import Part, data_c, write_files
from sparsecc.dialects.host import elements_in, kind_of
from sparsecc.host.operator import C_TYPES
from sparsecc.target import CpuTarget, Target
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.toolchain import NETWORK_PROGRAM, RUNTIME, host_headers, host_sources

if TYPE_CHECKING:
    from sparsecc.network.engine import EngineCode

Array = NDArray[Any]

MAIN = RUNTIME / "network_batch" / "main.c"


class _RowsPrinter(Printer):
    """Takes `rows` rows of the inputs; further ones of the variant are zeros, and are not given back."""

    def load(self, i: int, argument: SSAValue) -> str:
        kind, whole, row = C_TYPES[kind_of(argument)], elements_in(argument), row_of(argument)
        return (
            f"memcpy({self.array(argument)}, inputs[{i}], (size_t)rows * {row} * sizeof({kind}));\n"
            f"    memset({self.array(argument)} + rows * {row}, 0, (size_t)({whole} - rows * {row}) * "
            f"sizeof({kind}));"
        )

    def store(self, i: int, value: SSAValue) -> str:
        size = f"(size_t)rows * {row_of(value)} * sizeof({C_TYPES[kind_of(value)]})"
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


def _names(parts: Sequence[Part], shared: SharedParts) -> str:
    """Names of data are those under which it is stored, once for all variants."""
    return "".join(f"#define {p.name} {shared.name(p)}\n" for p in parts)


def _variant_c(size: int, program: NetworkProgram, shared: SharedParts) -> tuple[str, EngineCode]:
    printer = _RowsPrinter(program)
    code = program.engine.code(f"{program.title}, batch {size}", program.layers, printer.calls())
    constants = host_constants(program.storage)
    names = _names([*code.parts, *constants], shared)
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
    for common in [code.common for code in codes if code.common is not None]:
        # Each would have a copy, were it alone.
        texts["batch_products.c"] = f"{_names(common.parts, shared)}\n{common.source}"
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
        "model.c": model_c(program, code),
        "model.h": model_h(program, code),
        "data.c": data_c(tables(program), parts),
        "Makefile": MAKEFILE.format(flags=code.flags, sources=sources, libraries=code.libraries),
        "report.json": json.dumps(report, indent=2) + "\n",
        **found.texts,
        **{name: text for name, text in code.texts.items() if not name.endswith(".s")},
        **found.shared.texts,
    }
    copies = {f"host/{p.name}": p for p in host_sources() + host_headers()} | dict(code.copies)
    families = {CpuTarget: "cpu", Target: "tu", CrossbarTarget: "xb"}
    family = families[type(whole.engine.target)]
    copies |= {p.name: p for p in sorted((RUNTIME / f"network_batch_{family}").iterdir())}
    copies |= {"arrays.h": NETWORK_PROGRAM / "arrays.h", "main.c": MAIN}
    write_files(folder, texts, parts, copies)
