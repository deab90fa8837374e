"""Products of networks on tensor units: instructions of `tu`, run by the simulator in the emitted folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any, cast

from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp, StringAttr, SymbolRefAttr
from xdsl.passes import ModulePass

from sparsecc.artifact import Artifact
from sparsecc.codegen.by_address import ByAddress, fastest_by_address, program_of
from sparsecc.codegen.c_printer import C_TYPES
from sparsecc.codegen.c_target import CTarget, is_large
from sparsecc.codegen.folder import INLINE_LIMIT, copies_of, stored
from sparsecc.codegen.network import comment
from sparsecc.codegen.parts import Part
from sparsecc.compiler import compile
from sparsecc.dialects import tu
from sparsecc.dialects.host import CallOp
from sparsecc.dialects.sparse import SpmmOp
from sparsecc.dialects.sparse_epilogue import EpilogueOp
from sparsecc.network.engine import (
    Call,
    Engine,
    EngineCode,
    Layer,
    Move,
    Operand,
    Options,
    Product,
    Progress,
)
from sparsecc.network.patches import Unfolding
from sparsecc.network.reorder_tu import cover_of, cycles_of, passes_for, same, wanted
from sparsecc.passes.convert_tu_to_c import ConvertTuToCPass
from sparsecc.passes.fuse_into_products import FuseIntoProductsPass
from sparsecc.passes.tu_unroll import TuUnrollPass
from sparsecc.stages import Stage, named_target
from sparsecc.target import AnyTarget, Target
from sparsecc.target.header import target_header
from sparsecc.toolchain import RUNTIME, build_network, has_compiler

CALLS = """
/* A product on the accelerator; nothing of it overlaps with what comes before or after. */
#define PRODUCT(i, program) \\
    do { \\
        const int64_t start = ax_cycles(m->machine); \\
        ax_scope(m->machine, model_products[i]); \\
        if (program(m->machine, m->x[i], m->y[i]) != 0 || ax_fence(m->machine) != 0) { \\
            m->error = ax_error(m->machine); \\
            return -1; \\
        } \\
        m->cycles[i] = ax_cycles(m->machine) - start; \\
    } while (0)
"""

FIELDS = """\
    ax_machine *machine;
    int x[MODEL_PRODUCTS + 1], y[MODEL_PRODUCTS + 1]; /* buffers of the products */
    int64_t cycles[MODEL_PRODUCTS + 1];               /* that each product took in the last inference */
"""

# Patches, or the images that they lie in.
SCRATCH = "m->arena + MODEL_SCRATCH"


@dataclass(frozen=True, eq=False)
class TensorUnitLayer:
    """A product, compiled to instructions of a tensor unit."""

    name: str
    artifact: Artifact
    unfolding: Unfolding | None = None
    """The patches that it reads."""
    by_address: ByAddress | None = None
    """Its schedule where patches are found by address; None where they are written."""
    effort: int = 1

    @property
    def stages(self) -> Sequence[Stage]:
        last = "patches-by-address" if self.by_address is not None else TuUnrollPass.name
        return [*self.artifact.stages, Stage(last, self.program)]

    @cached_property
    def program(self) -> ModuleOp:
        """Its instructions, before they become C."""
        if self.by_address is not None:
            return program_of(self.by_address, self.spmm, self.artifact.target)
        module = self.artifact.stages[-1].module.clone()
        TuUnrollPass().apply(Context(), module)
        return module

    @property
    def spmm(self) -> SpmmOp:
        """The product as the last pass of the Sparse IR left it."""
        spmm = self.artifact.spmm
        assert isinstance(spmm, SpmmOp)
        return spmm

    @property
    def written(self) -> Unfolding | None:
        """What the host writes before the product: patches, the image that they lie in, or nothing."""
        if self.unfolding is None or self.by_address is None:
            return self.unfolding
        return self.unfolding.of_image()

    @property
    def cycles(self) -> int:
        """On the simulator; without a C compiler by the cost model."""
        if self.by_address is not None:
            return self.by_address.cycles
        return self.artifact.timing.cycles if has_compiler() else self.artifact.predicted().predicted_cycles

    @property
    def seconds(self) -> float:
        """Of the product, and of what the host is estimated to take for its patches."""
        host = self.written.work.seconds if self.written else 0.0
        return self.cycles / (self.artifact.target.clock_ghz * 1e9) + host

    @cached_property
    def dense(self) -> TensorUnitLayer:
        """The same layer with a dense plan."""
        if self.artifact.is_dense:
            return self
        return replace(self, artifact=self.artifact.dense, by_address=None).faster()

    def faster(self) -> TensorUnitLayer:
        """The layer with its patches found by address, where that takes less time."""
        if self.unfolding is None or not has_compiler():
            return self
        strips = self.unfolding.image.strips
        found = fastest_by_address(self.spmm, strips, self.artifact.target, self.effort)
        other = replace(self, by_address=found)
        return self if found is None or other.seconds >= self.seconds else other


@dataclass(frozen=True)
class TensorUnitEngine(Engine):
    """The engine of tensor units."""

    chip: Target
    named: str | AnyTarget

    @property
    def target(self) -> Target:
        return self.chip

    def passes(self) -> list[ModulePass]:
        return [FuseIntoProductsPass(stores=True)]

    def compile(self, product: Product, options: Options, progress: Progress) -> TensorUnitLayer:
        layer = self._compiled(product, options, None, progress)
        return layer.faster() if options.confirm else layer

    def _compiled(
        self, product: Product, options: Options, passes: Sequence[ModulePass] | None, progress: Progress
    ) -> TensorUnitLayer:
        """The layer with its patches written."""
        fused = next((op for op in product.module.walk() if isinstance(op, EpilogueOp)), None)
        artifact = compile(
            product.weight, target=self.named, n=product.n, dtype=self.in_type, seed=options.seed,
            effort=options.effort, plan=options.plan, name=product.name, confirm=options.confirm,
            epilogue=fused.epilogue if fused else None, passes=passes, progress=progress, emit=False,
        )  # fmt: skip
        unfold = next((op for op in product.module.walk() if isinstance(op, CallOp)), None)
        unfolding = None if unfold is None else Unfolding.of(unfold)
        return TensorUnitLayer(product.name, artifact, unfolding, None, options.effort)

    def wanted(self, layer: Layer) -> Iterator[Move]:
        one = cast(TensorUnitLayer, layer)
        for move in wanted(one.artifact, one.spmm):
            # Patches by address are gathered in any order.
            if move.columns is None or one.by_address is None:
                yield move

    def moved_cycles(self, layer: Layer, move: Move) -> int | None:
        one = cast(TensorUnitLayer, layer)
        if one.spmm.is_dense:
            return one.cycles
        unfolding = None if one.by_address is None else one.unfolding
        found = cycles_of(one.artifact, one.spmm, unfolding, move, one.effort)
        # A dense plan takes any order as it comes.
        return found if found is None or one.by_address is not None else min(found, one.dense.cycles)

    def carried(
        self, product: Product, layer: Layer, move: Move, options: Options, progress: Progress
    ) -> TensorUnitLayer:
        one = cast(TensorUnitLayer, layer)
        assert same(product.weight, one.spmm, move), "the network has another matrix than its order says"
        with named_target(self.named) as named:
            cover = cover_of(one.spmm, move, one.artifact.target)
            passes = passes_for(named, cover, one.artifact, options)
            compiled = self._compiled(product, options, passes, progress)
        reason = one.artifact.reason
        if one.by_address is not None:
            compiled = compiled.faster()
        elif compiled.cycles > one.dense.cycles:
            reason = f"the best cover ({reason}) takes {compiled.cycles} cycles in the order of a neighbour"
            compiled = compiled.dense
        compiled.artifact.reason_given = reason
        compiled.artifact.tried_given = one.artifact.tried
        return compiled

    def code(self, title: str, layers: Sequence[Layer], calls: Sequence[Call]) -> EngineCode:
        programs = {
            call.symbol: cast(TensorUnitLayer, layer).program
            for call, layer in zip(calls, layers, strict=True)
        }
        source, parts = source_of(title, programs)
        init = ["m->machine = machine;"]
        statements: list[str] = []
        scratch = 0
        for i, (call, layer) in enumerate(zip(calls, layers, strict=True)):
            x, before = call.x, ""
            if (written := cast(TensorUnitLayer, layer).written) is not None:
                x = Operand(SCRATCH, written.elements, x.kind, False)
                before = f"{written.statement(x.text, call.x.text)};\n    "
                scratch = max(scratch, written.bytes)
            statements.append(f"{before}PRODUCT({i}, {call.symbol});")
            for name, operand in (("x", x), ("y", call.y)):
                data = f"(void *)(uintptr_t){operand.text}" if operand.constant else operand.text
                init.append(
                    f'm->{name}[{i}] = ax_buffer(machine, "{name}", {data}, {operand.elements}, '
                    f"AX_{operand.kind.upper()});"
                )
        return EngineCode(
            source=source + CALLS,
            headers=["target.h"],
            fields=FIELDS,
            scratch=scratch,
            parameter="ax_machine *machine",
            init="\n".join([*init, "m->error = ax_error(machine);"]),
            calls=statements,
            parts=parts,
            texts={"target.h": target_header(self.chip)},
            copies=copies_of((RUNTIME / "network_tu").iterdir()),
            flags="-Iaxsim -ffp-contract=off",
            sources="$(wildcard axsim/*.c)",
        )

    def cycles(self, layer: Layer) -> int:
        return cast(TensorUnitLayer, layer).cycles

    def build(self, folder: Path) -> Path:
        return build_network(folder)

    def report(self, artifact: Any, run: Mapping[str, Any] | None) -> Any:
        from sparsecc.network_report import SimulatedReport

        return SimulatedReport.of(artifact, run)


def linked(module: ModuleOp, symbol: str) -> ModuleOp:
    """A copy of a program in which @main is called so, and all other symbols begin with it."""
    new = module.clone()
    names = {
        op.sym_name.data: symbol if op.sym_name.data == "main" else f"{symbol}_{op.sym_name.data}"
        for op in new.ops
        if isinstance(op, func.FuncOp | tu.ConstantOp)
    }
    for op in new.walk():
        for key, attribute in list(op.properties.items()):
            if isinstance(attribute, SymbolRefAttr):
                op.properties[key] = SymbolRefAttr(names[attribute.string_value()])
            elif key == "sym_name" and isinstance(attribute, StringAttr) and op is not new:
                op.properties[key] = StringAttr(names[attribute.data])
    return new


def source_of(
    title: str, programs: Mapping[str, ModuleOp], visibility: str = "private"
) -> tuple[str, list[Part]]:
    """The programs in C, under their symbols, and the constants that they leave to weights.bin.

    visibility: of their functions; public ones are called from other files.
    """
    whole = ModuleOp([])
    parts: list[Part] = []
    for symbol, module in programs.items():
        one = linked(module, symbol)
        ConvertTuToCPass().apply(Context(), one)
        for op in list(one.ops):
            op.detach()
            whole.body.block.add_op(op)
            if isinstance(op, tu.ConstantOp) and is_large(op, INLINE_LIMIT):
                kind = str(op.type.element_type)
                parts.append(Part(op.sym_name.data, C_TYPES[kind], stored(op.array, kind), "weights.bin"))
            elif isinstance(op, func.FuncOp):
                op.properties["sym_visibility"] = StringAttr(visibility)
    text = StringIO()
    CTarget(inline_limit=INLINE_LIMIT, header="model.h").emit(Context(), whole, text)
    titled = text.getvalue().splitlines()
    titled[0] = f"/* {comment(title)}"
    for i, line in enumerate(titled):
        if line == "#include <stdint.h>":
            titled[i] = "#include <stdint.h>\n#include <string.h>"
        elif line == '#include "model.h"':
            titled[i] = '#include "host.h"\n#include "model.h"'
    return "\n".join(titled) + "\n", parts
