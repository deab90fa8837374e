"""Products of networks on CPUs: kernels of `sparsecc.cpu`, patches by address where that is faster."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import StringAttr
from xdsl.passes import ModulePass

from sparsecc.codegen.cpu import kernel_parts
from sparsecc.codegen.network import comment
from sparsecc.codegen.parts import Part, list_tables
from sparsecc.compiler import Stage, named_target, run_passes
from sparsecc.cpu.arrays import Floats, aligned
from sparsecc.cpu.assembly import Epilogue
from sparsecc.cpu.build import (
    C_FLAGS,
    compiler_version,
    digest,
    keep_measured,
    own_version,
    read_measured,
    runtime_object,
    shared_object,
)
from sparsecc.cpu.conv import ConvCallStruct, ConvStruct, ImageStruct, Patches, patches_of
from sparsecc.cpu.line import line_kernel, make_plan, registers_for, with_schedule
from sparsecc.cpu.native import LineStruct, address
from sparsecc.cpu.scratch import scratch_floats
from sparsecc.cpu.tune import FIRST, ROUNDS, SECOND, Choice, choose, line_variants, runtime
from sparsecc.cpu.variant import Variant, row_order
from sparsecc.dialects import cpu
from sparsecc.dialects.host import CallOp
from sparsecc.dialects.sparse_epilogue import epilogue_of
from sparsecc.errors import UserError
from sparsecc.host.operator import Window
from sparsecc.importers.matrix import Csr, make_csr
from sparsecc.network.engine import Call, Engine, EngineCode, Layer, Options, Product, Progress
from sparsecc.passes.convert_linalg_to_sparse import ConvertLinalgToSparsePass
from sparsecc.passes.convert_sparse_to_cpu import ConvertSparseToCpuPass, fused_epilogue, weight_matrix
from sparsecc.passes.fuse_into_products import FuseIntoProductsPass
from sparsecc.target import AnyTarget, CpuTarget
from sparsecc.toolchain import HOST, RUNTIME, call, find_compiler, host_headers, host_sources

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


@cache
def host_object(target: CpuTarget) -> Path:
    """The operators of the host for the target, as a shared object; kernels are in `runtime_object`."""
    # What is compared for equality is rounded after every operation.
    contract = ["-ffp-contract=off"] if target.in_type == "i8" else []
    flags = [*target.flags, *contract]
    state = [path.read_bytes() for path in [*host_sources(), *host_headers()]]
    key = f"host-{digest(own_version(), compiler_version(), flags, *state)}"

    def write(_: Path) -> list[str]:
        return [*C_FLAGS, *flags, f"-I{HOST}", *map(str, host_sources()), "-lm"]

    return shared_object(key, write, "building the operators of the host")


@cache
def host(target: CpuTarget) -> ctypes.CDLL:
    """The same, loaded. Raises UserError where it does not run here."""
    target.check_runs_here()
    return ctypes.CDLL(str(host_object(target)))


@dataclass(frozen=True, eq=False)
class Unfolded:
    """The patches that a convolution's product reads."""

    window: Window
    rows: tuple[int, ...] | None
    """Which of them; None for all."""
    count: int

    @staticmethod
    def of(op: CallOp) -> Unfolded:
        window, rows, count, _ = (v for v in op.values() if v is None or not hasattr(v, "owner"))
        assert isinstance(window, Window)
        return Unfolded(window, None if rows is None else tuple(cast("list[int]", rows)), cast(int, count))

    def c_arguments(self) -> str:
        """As host_im2col_4 takes them after its arrays."""
        rows = "NULL" if self.rows is None else f"(const int32_t[]){{{', '.join(map(str, self.rows))}}}"
        return f"&(const host_window){{{self.window.text()}}}, {rows}, {self.count}, 0"


@dataclass(frozen=True, eq=False)
class CpuLayer:
    """A product, compiled to a kernel."""

    name: str
    stages: Sequence[Stage]
    product: cpu.SpmmOp
    weight: Csr
    n: int
    choice: Choice
    epilogue: Epilogue
    bias: Floats | None
    unfolded: Unfolded | None
    """Patches that are made first, or found by address."""
    turned: bool
    """X comes as [N, K]."""
    by_address: Variant | None
    """The straight-line code that finds them, where it does."""
    seconds: float | None
    """When it was chosen: of the whole layer."""

    @property
    def variant(self) -> Variant:
        variant = self.product.variant
        if self.turned and variant.kind == "line":
            # It is turned while it is packed.
            variant = replace(variant, pack=True)
        return self.by_address or variant

    @property
    def reason(self) -> str:
        return self.product.reason.data if self.product.reason else ""

    def patches(self, lanes: int) -> Patches:
        assert self.unfolded is not None
        return patches_of(self.unfolded.window, self.unfolded.rows, lanes)


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
        found, seconds = self._by_address(layer, options)
        spmm.attributes["patches"] = StringAttr("written" if found is None else "by address")
        return replace(layer, by_address=found, seconds=seconds)

    def _by_address(self, layer: CpuLayer, options: Options) -> tuple[Variant | None, float | None]:
        """The variant that is faster than writing patches and multiplying them, and what the better takes."""
        assert layer.unfolded is not None
        w, window = layer.weight, layer.unfolded.window
        registers = registers_for(self.chip, 16)
        fits = min(window.pad_top, window.pad_left) >= 0 and 0 < w.nnz <= self.chip.limits.line_nnz
        if options.plan not in ("auto", "line") or registers is None or not fits:
            return None, layer.choice.seconds
        base = line_variants(w, self.chip, 16, fast=True)[0]
        groups = -(-w.shape[0] // base.height)
        base = replace(base, columns=w.shape[1], pack=False, panels=1, lanes=registers.lanes)
        candidates = [replace(base, batch=b) for b in sorted({1, min(2, groups), min(4, groups), groups})]
        if self.chip.missing:
            return (candidates[-1] if window.out_width * window.inner >= registers.lanes else None), None
        key = "conv-" + digest(
            own_version(), self.chip, w.shape, w.indptr.tobytes(), w.indices.tobytes(), layer.n, window,
            layer.unfolded.rows, layer.epilogue, options.plan,
        )  # fmt: skip
        kept = read_measured(key)
        if kept is None:
            seconds = [self._conv_seconds(layer, one) for one in candidates]
            written = self._patch_seconds(layer) + (layer.choice.seconds or 0.0)
            kept = {"seconds": seconds, "written": written}
            keep_measured(key, kept)
        seconds, written = cast("list[float]", kept["seconds"]), cast(float, kept["written"])
        best = int(np.argmin(seconds))
        if options.plan == "auto" and written <= seconds[best]:
            return None, written
        return candidates[best], seconds[best]

    def _conv_seconds(self, layer: CpuLayer, variant: Variant) -> float:
        """Of the fastest run of a convolution by address."""
        lib, w = runtime(self.chip), layer.weight
        registers = registers_for(self.chip, variant.lanes)
        assert registers is not None
        assert layer.unfolded is not None
        patches, (m, _) = layer.patches(registers.lanes), w.shape
        plan = make_plan(w, variant.height, variant.columns, row_order(w, variant))
        kernel = with_schedule(
            line_kernel(lib, w, plan, registers, layer.epilogue, layer.bias, patches.places),
            variant.panels, variant.batch, False,
        )  # fmt: skip
        line = cast(LineStruct, kernel.struct)
        conv = ConvStruct(
            ctypes.addressof(line), ImageStruct(*patches.image), patches.strips, patches.width, patches.step
        )
        x, y = aligned(layer.unfolded.window.elements), aligned((m, layer.n))
        x[:] = np.random.default_rng(0).standard_normal(x.size, np.float32)
        residual = aligned((m, layer.n)) if layer.epilogue.residual else None
        padded, each = aligned(patches.padded(registers.lanes)), patches.scratch(m, registers.lanes)
        scratch = aligned(each)
        call_of = ConvCallStruct(
            ctypes.addressof(conv), address(x), address(y), None if residual is None else address(residual),
            address(padded), address(scratch), each,
        )  # fmt: skip
        run = ctypes.cast(lib.sc_conv_run, ctypes.c_void_p)
        return min(
            float(lib.sc_time(run, ctypes.addressof(call_of), None, 1, budget))
            for budget in (FIRST, *[SECOND] * ROUNDS)
        )

    def _patch_seconds(self, layer: CpuLayer) -> float:
        """Of writing all patches of a convolution."""
        unfolded = layer.unfolded
        assert unfolded is not None
        copy = host(self.chip).host_im2col_4
        copy.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_int64, ctypes.c_uint32]
        copy.restype = None
        numbers = np.asarray(unfolded.window.numbers(), np.int64)
        rows = None if unfolded.rows is None else np.asarray(unfolded.rows, np.int32)
        x, y = aligned(unfolded.window.elements), aligned((unfolded.count, layer.n))
        arguments = (address(y), address(x), address(numbers), None if rows is None else address(rows))
        best, end = float("inf"), time.perf_counter() + ROUNDS * SECOND
        while time.perf_counter() < end or best == float("inf"):
            before = time.perf_counter()
            copy(*arguments, unfolded.count, 0)
            best = min(best, time.perf_counter() - before)
        return best

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
        return _statement(layer, found)

    def build(self, folder: Path) -> Path:
        """The program, and beside it model.so, which it is linked to."""
        threads = f"-DMODEL_THREADS={max(THREADS, os.cpu_count() or 1)}"
        flags = [*C_FLAGS, *self.chip.simd.flags.split(), threads, "-I.", "-Isc", "-Ihost"]
        objects = [p.name for p in sorted(folder.glob("*.s"))]
        native = [str(runtime_object(self.chip)), str(host_object(self.chip))]
        what = "compiling the program"
        sources = sorted(p.name for p in folder.glob("*.c") if p.name != "main.c")
        shared = ["-shared", *sources, *objects, *native, "-lm", "-o", "model.so"]
        call([*find_compiler(), *flags, *shared], folder, what)
        program = ["main.c", str(folder / "model.so"), *native, "-pthread", "-lm", "-o", "model"]
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

# Of a kernel's call.
SCRATCH = "m->threads, m->panels[0], sizeof m->panels[0] / sizeof(float)"


def _statement(layer: CpuLayer, found: Call) -> str:
    """The C that runs a layer."""
    n, x, y = layer.n, found.x.text, found.y.text
    residual = found.residual.text if found.residual else "NULL"
    if layer.by_address is not None:
        scratch = SCRATCH.replace("m->threads,", "m->threads, m->patches,")
        return f"RUN(sc_conv_at(&{found.symbol}_conv, {x}, {y}, {residual}, {scratch}));"
    before = ""
    if layer.unfolded is not None:
        before = f"host_im2col_4(m->patches, {x}, {layer.unfolded.c_arguments()});\n    "
        x = "m->patches"
    kind, k = layer.variant.kind, layer.weight.shape[1]
    ldr = n if found.residual else 0
    if layer.turned and kind == "line":
        return f"RUN(sc_line_turned(&{found.symbol}, {x}, {k}, {y}, {n}, {n}, {residual}, {ldr}, {SCRATCH}));"
    if layer.turned:
        walk = f"(const int64_t[]){{2, {k}, {n}, {n}, 1, 1, {k}}}"
        before, x = f"host_copy_4(m->patches, {x}, {walk});\n    ", "m->patches"
    if kind == "vector" and n > 1:
        # Residuals, too, are read from position i on.
        added = f"{residual} + i" if found.residual else residual
        each = f"sc_vector_in(&{found.symbol}, {x} + i, {n}, {y} + i, {n}, 1, {added}, {ldr}, {SCRATCH})"
        return f"{before}for (size_t i = 0; i < {n}; i++) RUN({each});"
    return (
        f"{before}RUN(sc_{kind}_in(&{found.symbol}, {x}, {n}, {y}, {n}, {n}, {residual}, {ldr}, {SCRATCH}));"
    )
