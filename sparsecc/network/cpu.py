"""Products of networks on CPUs: kernels of `sparsecc.cpu`, patches by address where that is faster."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import StringAttr
from xdsl.passes import ModulePass

from sparsecc.codegen.cpu import kernel_parts
from sparsecc.codegen.network import comment
from sparsecc.codegen.parts import Part, list_tables
from sparsecc.cpu.build import C_FLAGS, runtime_object
from sparsecc.cpu.scratch import scratch_floats
from sparsecc.cpu.tune import choose
from sparsecc.dialects import cpu
from sparsecc.dialects.host import CallOp
from sparsecc.dialects.sparse_epilogue import epilogue_of
from sparsecc.errors import UserError
from sparsecc.importers.matrix import make_csr
from sparsecc.network.cpu_host import host_objects, operators_in
from sparsecc.network.cpu_layer import CpuLayer, Unfolded, statement
from sparsecc.network.cpu_patches import by_address
from sparsecc.network.engine import Call, Engine, EngineCode, Layer, Options, Product, Progress
from sparsecc.passes.convert_linalg_to_sparse import ConvertLinalgToSparsePass
from sparsecc.passes.convert_sparse_to_cpu import ConvertSparseToCpuPass, fused_epilogue, weight_matrix
from sparsecc.passes.fuse_into_products import FuseIntoProductsPass
from sparsecc.stages import named_target, run_passes
from sparsecc.target import AnyTarget, CpuTarget
from sparsecc.toolchain import RUNTIME, call, find_compiler

if TYPE_CHECKING:
    from sparsecc.cpu_network import CpuNetwork
    from sparsecc.network_compiler import NetworkArtifact

Array = NDArray[Any]

# Threads that a model has scratch panels for; where it is built another number may be defined.
THREADS = 16
# Seconds for each of the turns in which a network and the one with dense products are timed.
TURN, TURNS = 0.1, 3
PLANS = ("auto", "line", "csr", "vector", "dense")


def check_plan(plan: str) -> None:
    """Raises UserError for a plan that CPUs do not have."""
    if plan not in PLANS:
        raise UserError(f"unknown plan {plan!r}; on a CPU it is one of {', '.join(PLANS)}", exit_code=2)


@dataclass(frozen=True, eq=False)
class CpuCode(EngineCode):
    """With floats of memory that calls use: for patches, and of each thread for scratch panels."""

    patches: int = 1
    panels: int = 16


def memory_text(patches: int, panels: int) -> str:
    """The declarations of this memory."""
    return (
        f"    _Alignas(64) float patches[{patches}];\n"
        f"    _Alignas(64) float panels[MODEL_THREADS][{panels}]; /* scratch */\n"
    )


@dataclass(frozen=True)
class CpuEngine(Engine):
    """The engine of CPUs."""

    chip: CpuTarget
    named: str | AnyTarget

    @property
    def target(self) -> CpuTarget:
        return self.chip

    @property
    def reads_inputs(self) -> bool:
        return True

    def passes(self) -> list[ModulePass]:
        return [FuseIntoProductsPass(turned=True, activations="all")]

    def compile(self, product: Product, options: Options, progress: Progress) -> CpuLayer:
        check_plan(options.plan)
        with named_target(self.named) as path:
            passes = [
                ConvertLinalgToSparsePass(target=path),
                ConvertSparseToCpuPass(target=path, kernel=options.plan, seed=options.seed, blas=False),
            ]
            stages = run_passes(product.module, passes, lambda stage: stage.module.verify(), progress)
        ops = list(stages[-1].module.walk())
        spmm = next(op for op in ops if isinstance(op, cpu.SpmmOp))
        before = next((op for op in ops if isinstance(op, CallOp)), None)
        turned = before is not None and before.operator.data == "host_copy_4"
        unfolded = None if before is None or turned else Unfolded.of(before)
        fused, after = fused_epilogue(spmm), epilogue_of(spmm.res)
        w = weight_matrix(spmm.weight)
        w = make_csr(w.data.astype(np.float32), w.indices, w.indptr, w.shape)
        choice = choose(w, self.chip, product.n, options.plan, fused, options.seed, False)
        bias = None if after is None else after.epilogue.bias
        layer = CpuLayer(
            product.name,
            stages,
            spmm,
            w,
            product.n,
            choice,
            fused,
            bias,
            unfolded,
            turned,
            None,
            choice.seconds,
        )
        if unfolded is None:
            return layer
        found, seconds = by_address(layer, self.chip, options.plan)
        spmm.attributes["patches"] = StringAttr("written" if found is None else "by address")
        return replace(layer, by_address=found, seconds=seconds)

    # -- C

    def code(self, title: str, layers: Sequence[Layer], calls: Sequence[Call]) -> EngineCode:
        source = [_HEAD.replace("{title}", comment(title))]
        parts: list[Part] = []
        texts: dict[str, str] = {}
        statements: list[str] = []
        patches, each, done = 0, 0, set[str]()
        for call_of, found in zip(calls, layers, strict=True):
            layer, symbol = cast(CpuLayer, found), call_of.symbol
            if symbol not in done:
                done.add(symbol)
                self._layer(layer, symbol, source, parts, texts)
                more, panels = self._memory(layer)
                patches, each = max(patches, more), max(each, panels)
            statements.append(self._statement(layer, call_of))
        patches, each = max(patches, 1), -(-max(each, 1) // 16) * 16
        places = ", ".join(str(c.step) for c in calls) or "0"
        source.append(f"const int model_product_steps[] = {{{places}}};\n{_CHECKED}")
        needed = f"this CPU lacks instructions of {self.chip.name}: {self.chip.simd.features}"
        return CpuCode(
            source="".join(source),
            headers=["sc.h", "conv.h"],
            fields="    int threads;\n",
            memory=memory_text(patches, each),
            patches=patches,
            panels=each,
            definitions=_THREADS.replace("{threads}", str(THREADS)),
            parameter="int threads",
            init=_INIT.replace("{needed}", needed),
            calls=statements,
            parts=parts,
            texts=texts,
            copies={f"sc/{p.name}": p for p in sorted((RUNTIME / "cpu").glob("*.[ch]"))}
            | {p.name: p for p in sorted((RUNTIME / "network_cpu").iterdir())},
            flags=f"{self.chip.simd.flags} -O3 -ffp-contract=fast -Isc",
            sources="library.c $(wildcard *.s) $(wildcard sc/*.c)",
            libraries="-pthread -lm",
        )

    def _layer(
        self, layer: CpuLayer, symbol: str, source: list[str], parts: list[Part], texts: dict[str, str]
    ) -> None:
        """Add a layer's tables and code."""
        op = layer.product
        kernel = cpu.KernelOp(symbol, op, layer.name, layer.variant)
        places, patches = None, None
        if layer.by_address is not None:
            patches = layer.patches(layer.by_address.lanes)
            places = patches.places
        made = kernel_parts(kernel, self.chip, layer.epilogue, layer.bias, places)
        tables = list_tables(made.tables, parts)
        source.append(f"\n/* {comment(layer.name)}: {layer.variant.name} */\n{tables}")
        if made.code is not None:
            texts[f"{symbol}.s"] = made.code
            source.append(f"extern const sc_chunk {symbol}_table[];\n")
        source.append(f"static const sc_{layer.variant.kind} {symbol} = {{{made.struct}}};\n")
        if patches is not None:
            source.append(f"static const sc_conv {symbol}_conv = {{&{symbol}, {patches.text()}}};\n")

    def _memory(self, layer: CpuLayer) -> tuple[int, int]:
        """Floats for its patches, or the image they are found in, and for scratch of each thread."""
        if layer.by_address is not None:
            lanes = layer.by_address.lanes
            patches = layer.patches(lanes)
            return patches.padded(lanes), patches.scratch(layer.weight.shape[0], lanes)
        each = scratch_floats(layer.weight.shape, layer.variant, self.chip, layer.n, layer.n)
        written = layer.unfolded.count if layer.unfolded is not None else 0
        if layer.turned and layer.variant.kind != "line":
            written = layer.weight.shape[1]
        return written * layer.n, each

    def _statement(self, layer: CpuLayer, found: Call) -> str:
        """The C that runs a layer."""
        return statement(layer, found)

    def build(self, folder: Path) -> Path:
        """The program, and beside it model.so, which it is linked to."""
        threads = f"-DMODEL_THREADS={max(THREADS, os.cpu_count() or 1)}"
        flags = [*C_FLAGS, *self.chip.simd.flags.split(), threads, "-I.", "-Isc", "-Ihost"]
        objects = [p.name for p in sorted(folder.glob("*.s"))]
        called = operators_in(path.read_text() for path in folder.glob("*.[ch]"))
        native = [str(runtime_object(self.chip)), *map(str, host_objects(self.chip, called))]
        what = "compiling the program"
        sources = sorted(p.name for p in folder.glob("*.c") if p.name != "main.c")
        shared = ["-shared", *sources, *objects, *native, "-lm", "-o", "model.so"]
        call([*find_compiler(), *flags, *shared], folder, what)
        program = ["main.c", str(folder / "model.so"), native[0], "-pthread", "-lm", "-o", "model"]
        call([*find_compiler(), *flags, *program], folder, what)
        return folder / "model"

    def load(self, folder: Path, artifact: NetworkArtifact) -> CpuNetwork:
        self.chip.check_runs_here()
        from sparsecc.cpu_network import CpuNetwork

        return CpuNetwork(folder / "model.so", artifact)

    def measure(self, artifact: NetworkArtifact, threads: int = 1) -> dict[str, Any]:
        """In turns with the same network with dense products; the fastest turn of each counts."""
        if threads < 1:
            raise UserError(f"threads is {threads}; needed at least 1", exit_code=2)
        self.chip.check_runs_here()
        options = ("--threads", str(threads), "--seconds", str(TURN))
        found = artifact.run_program(*options)
        if all(cast(CpuLayer, layer).variant.kind == "dense" for layer in artifact.layers):
            return found | {"dense": found}
        rival = artifact.dense.run_program(*options)
        for _ in range(TURNS - 1):
            found = min(found, artifact.run_program(*options), key=lambda run: run["median"])
            rival = min(rival, artifact.dense.run_program(*options), key=lambda run: run["median"])
        return found | {"dense": rival}

    def report(self, artifact: NetworkArtifact, run: Mapping[str, Any] | None) -> Any:
        from sparsecc.cpu_network_report import CpuNetworkReport

        return CpuNetworkReport.of(artifact, run)


_HEAD = """\
/* {title}
 *
 * Written by sparsecc. Products are kernels of sc/, their tables in weights.bin, their code in layer*.s.
 */
#include <stdint.h>
#include <string.h>

#include "host.h"
#include "model.h"
"""

_CHECKED = """
#define RUN(call) \\
    do { \\
        if ((call) != 0) { \\
            m->error = "scratch panels are too small"; \\
            return -1; \\
        } \\
    } while (0)
"""

_THREADS = """\
/* The most threads that run, each with scratch panels of its own; all sources must be built with the same. */
#ifndef MODEL_THREADS
#define MODEL_THREADS {threads}
#endif
"""

_INIT = """\
if (threads < 1) m->error = "threads must be at least 1";
else if (!sc_supported()) m->error = "{needed}";
else {
    m->threads = threads < MODEL_THREADS ? threads : MODEL_THREADS;
    sc_start(m->threads);
}\
"""
