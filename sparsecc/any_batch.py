"""Networks for any batch up to a bound, which the program is told when it runs.

The network is compiled for a few batches; these variants share their weights and the arena, on CPUs the
code of their kernels, too, and on crossbars the arrays, which are written once, and all code of products. A
batch is covered by variants that run one after the other on its rows, the last one perhaps on fewer rows
than it is for, in the least time: on simulated targets cycles, and what the host is estimated to take; on
CPUs measured time. Dynamic programming finds it. So MikPoly (Yu et al., ASPLOS 2024) covers a product of
unknown extents with micro-kernels; here whole networks are the micro-kernels.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp

from sparsecc.any_batch_cost import Cost, costs_of, fences_of, hertz_of, seconds_of
from sparsecc.any_batch_cover import Cover, candidates, cover, kept, missing
from sparsecc.any_batch_report import AnyBatchReport
from sparsecc.codegen.any_batch import sizes_of, write_any_batch
from sparsecc.codegen.any_batch_texts import AnyBatchProgram
from sparsecc.dialects.host import Tensor, kind_of
from sparsecc.emitted import Executable, built
from sparsecc.errors import UserError
from sparsecc.importers.network import read_network
from sparsecc.interpreters.host import DTYPES, in_model
from sparsecc.interpreters.sparse import run_module
from sparsecc.network.crossbar_batches import WrittenEngine
from sparsecc.network.engine import Engine
from sparsecc.network_compiler import NetworkArtifact, compile_network, typed_input
from sparsecc.stages import Progress, silent
from sparsecc.target import AnyTarget, CpuTarget, Target
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.load import load_target
from sparsecc.toolchain import find_compiler

if TYPE_CHECKING:
    from sparsecc.cpu_network import CpuNetwork

Array = NDArray[Any]

# On crossbars a variant costs a few calls of the host: what without one takes so many times as long has it.
LIMIT = 1.08
# Up to here the program checks itself with every batch, above it with some.
EVERY = 16
# Of the largest value: more than rounding in another order, less than a row that depends on another.
INDEPENDENT = 0.02


@dataclass(eq=False)
class AnyBatch:
    """A network compiled for any batch up to a bound. Call it to run it."""

    most: int
    largest: NetworkArtifact
    """For the bound: its inputs and outputs are those of the check."""
    variants: dict[int, NetworkArtifact]
    """By batch."""
    cover: Cover
    costs: dict[int, Cost]
    """Of all batches that it was compiled for."""
    fences: int
    """Cycles that nobody waits for when a batch is done."""
    progress: Progress
    written: WrittenEngine | None = None
    """On crossbars the arrays."""

    @property
    def name(self) -> str:
        return self.largest.name

    @property
    def on_cpu(self) -> bool:
        """Whether times are those of a CPU, not counted in cycles."""
        return isinstance(self.largest.target, CpuTarget)

    def energy_pj(self, batch: int) -> float:
        """Energy of the products of a batch, on crossbars."""
        return sum(self.costs[c].energy_pj for c in self.cover.chunks(batch))

    def cycles(self, batch: int) -> int:
        """Simulated cycles of a batch."""
        return max(0, sum(self.costs[c].cycles for c in self.cover.chunks(batch)) - self.fences)

    def _emitted(self) -> AnyBatchProgram:
        # The most variants one after the other, and a bound with rows to spare, are always among them.
        some = {1, self.most, max(1, self.most - 1), *self.variants}
        some.add(max(range(1, self.most + 1), key=lambda b: len(self.cover.chunks(b))))
        checked = range(1, self.most + 1) if self.most <= EVERY else sorted(some)
        return AnyBatchProgram(
            f"{self.name}: batches up to {self.most} on {self.largest.target.name} in "
            f"{self.largest.target.in_type}",
            self.most, {b: a.program() for b, a in self.variants.items()}, self.cover.choice,
            [] if self.on_cpu else [self.cycles(b) for b in range(self.most + 1)], list(checked),
            self.largest.program(),
        )  # fmt: skip

    @cached_property
    def report(self) -> AnyBatchReport:
        """What is known of all batches."""
        hertz = hertz_of(self.largest.target)
        seconds = self.cover.seconds
        rows: list[dict[str, Any]] = []
        for batch in range(1, self.most + 1):
            chunks, cycles = self.cover.chunks(batch), self.cycles(batch)
            host = sum(self.costs[c].host for c in chunks)
            told: dict[str, Any] = {"batch": batch, "variants": chunks}
            told |= {} if self.on_cpu else {"cycles": cycles, "host_us": host * 1e6}
            known = not (isinstance(self.largest.target, CpuTarget) and self.largest.target.missing)
            told |= {"us": (host + cycles / hertz) * 1e6} if known else {}
            rows.append(told | ({"energy_pj": self.energy_pj(batch)} if self.written else {}))
        sizes = sizes_of(self._emitted())
        whole = seconds_of(self.costs, hertz)
        return AnyBatchReport(
            name=self.name,
            target=self.largest.target.name,
            dtype=self.largest.target.in_type,
            max_batch=self.most,
            variants=list(self.variants),
            batches=rows,
            of_fixed={b: seconds[b] / max(whole[b], 1e-12) for b in self.costs},
            over_padding=float(
                np.exp(np.mean([np.log(max(whole[self.most], 1e-12) / max(s, 1e-12)) for s in seconds[1:]]))
            ),
            source_bytes=sizes.source,
            weights_bytes=sizes.weights,
            weights_unshared_bytes=sizes.weights_unshared,
            arena_bytes=max(a.storage.size for a in self.variants.values()),
            arrays=None if self.written is None else self.written.arrays,
            program_energy_pj=None if self.written is None else self.written.program_energy_pj,
        )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the folder that stands alone (C, data, simulator, Makefile, report.json)."""
        write_any_batch(Path(folder), self._emitted(), self.report.to_json())

    @cached_property
    def _program(self) -> Executable:
        self.progress("compiling the C")
        emitted = self._emitted()
        return built(self, lambda folder: write_any_batch(folder, emitted, {}), self.largest.engine.build)

    def check(self) -> list[dict[str, int]]:
        """Run batches on the stored inputs, all values compared, and cycles; what the program told of each.

        Raises UserError for wrong values.
        """
        self.progress("running batches")
        return self._program.report()

    @cached_property
    def loaded(self) -> CpuNetwork | None:
        """On a CPU the network in this process."""
        if not isinstance(self.largest.target, CpuTarget):
            return None
        self.largest.target.check_runs_here()
        from sparsecc.cpu_network import CpuNetwork

        return CpuNetwork(self._program.path.parent / "model.so", self.largest, self.most)

    def __call__(
        self, *inputs: Array, out: Sequence[Array] | None = None, threads: int | None = None
    ) -> Array | tuple[Array, ...]:
        """The network's outputs for inputs of any batch. Raises UserError for one beyond the bound.

        out, threads: on a CPU, as of `NetworkArtifact`.
        """
        if self.loaded is not None:
            results = self.loaded(inputs, out, 1 if threads is None else threads)
            return results[0] if len(results) == 1 else results
        if out is not None or threads is not None:
            name = self.largest.target.name
            raise UserError(f"out and threads are for CPUs; target {name} is none: leave them out")
        artifact = self.largest
        arguments = artifact.function.body.block.args
        if len(inputs) != len(arguments):
            names = ", ".join(artifact.input_names)
            raise UserError(f"the network has {len(arguments)} inputs ({names}); found {len(inputs)}")
        batch = inputs[0].shape[0] if inputs[0].ndim else 0
        given: list[Array] = []
        for name, argument, array in zip(artifact.input_names, arguments, inputs, strict=True):
            rest = cast(Tensor, argument.type).get_shape()[1:]
            if array.shape != (batch, *rest) or not 1 <= batch <= self.most:
                raise UserError(
                    f"input {name} has shape {list(array.shape)}; needed "
                    f"[{', '.join(['batch', *map(str, rest)])}], one batch from 1 to {self.most} for all"
                )
            given.append(typed_input(name, argument, array))
        found = self._program.results(
            in_model(artifact.function, given), len(artifact.outputs), "--batch", str(batch)
        )
        return found[0] if len(found) == 1 else found


def compile_any_batch(
    source: Any,
    *,
    max_batch: int,
    target: str | AnyTarget = "scalesim-ws16",
    dims: Mapping[str, int] | None = None,
    inputs: Mapping[str, Any] | Sequence[Any] | None = None,
    seed: int = 0,
    progress: Progress = silent,
    **options: Any,
) -> AnyBatch:
    """Compile a network for every batch from 1 to max_batch, as one program. Needs a C compiler.

    source: a network that leaves the batch open, the first axis of every input and output. inputs: max_batch
    rows to check with. target, dims, seed, and other options: as for `compile_network`. Raises UserError,
    also where one row of a result depends on another row of the inputs.
    """
    chip = load_target(target) if isinstance(target, str) else target
    if max_batch < 1:
        raise UserError(f"--max-batch {max_batch}: needed at least one", exit_code=2)
    find_compiler()
    progress("reading the network")
    check_rows(
        {b: read_network(source, batch=b, dims=dims, inputs=None)[0] for b in (1, 2)},
        np.random.default_rng(seed),
    )

    def compiled(batch: int, given: Any, engine: Engine | None = None) -> NetworkArtifact:
        return compile_network(
            source, target=target, batch=batch, dims=dims, inputs=given, seed=seed, engine=engine,
            progress=lambda text: progress(f"batch {batch}: {text}"), **options,
        )  # fmt: skip

    largest = compiled(max_batch, inputs)
    written = WrittenEngine.of(largest) if isinstance(chip, CrossbarTarget) else None
    limit = math.inf if written is None else LIMIT
    found = {max_batch: largest} if written is None else {}
    costs: dict[int, Cost] = {}

    def add(batches: Iterable[int]) -> dict[int, float]:
        for batch in batches:
            if batch not in found:
                found[batch] = compiled(batch, [x[:batch] for x in largest.inputs], written)
        progress("timing the variants")
        costs.update(costs_of({b: found[b] for b in found if b not in costs}, written))
        return seconds_of(costs, hertz_of(chip))

    seconds = add(reversed(candidates(max_batch)))
    if more := missing(seconds, max_batch, limit):
        seconds = add(more)
    best = cover(kept(seconds, max_batch, limit), max_batch)
    used = sorted(set(best.choice[1:]))
    fences = fences_of(largest) if isinstance(chip, Target) else 0
    variants = {b: found[b] for b in used}
    return AnyBatch(
        max_batch, found[max_batch], variants, best, dict(sorted(costs.items())), fences, progress, written
    )


def check_rows(modules: Mapping[int, ModuleOp], rng: np.random.Generator) -> None:
    """Find out by numbers whether rows are independent. modules: the network of `nn` for the batches 1 and 2.

    Raises UserError where the batch is not the first axis of an input or output, or a row's result with
    another row beside it is not what it is alone.
    """
    mains = {
        batch: next(op for op in module.ops if isinstance(op, func.FuncOp) and op.sym_name.data == "main")
        for batch, module in modules.items()
    }
    for what, sides in (
        ("input", {b: list(f.body.block.args) for b, f in mains.items()}),
        ("output", {b: list(cast(func.ReturnOp, f.body.block.last_op).operands) for b, f in mains.items()}),
    ):
        for i, (one, two) in enumerate(zip(sides[1], sides[2], strict=True)):
            a, b = (cast(Tensor, value.type).get_shape() for value in (one, two))
            if not a or (a[0], b[0]) != (1, 2) or a[1:] != b[1:]:
                raise UserError(
                    f"{what} {i} has the shape {list(a)} at batch 1 and {list(b)} at batch 2; for any batch "
                    "the first axis of every input and output has to be the batch, and be left open: give "
                    "--batch"
                )
    if not mains[2].body.block.args:
        raise UserError("the network has no inputs, so that no batch can be told when it runs: give --batch")
    arrays: list[Array] = []
    for argument in mains[2].body.block.args:
        shape, kind = cast(Tensor, argument.type).get_shape(), np.dtype(DTYPES[kind_of(argument)])
        array = rng.standard_normal(shape) if kind.kind == "f" else rng.integers(0, 2, shape)
        arrays.append(array.astype(kind))
    arrays = in_model(mains[2], arrays)
    both = run_module(modules[2], *arrays)
    for row in range(2):
        alone = run_module(modules[1], *(x[row : row + 1] for x in arrays))
        for i, (beside, y) in enumerate(zip(both, alone, strict=True)):
            found, wanted = (np.asarray(v, np.float64) for v in (beside[row : row + 1], y))
            apart = np.abs(found - wanted)
            if not (apart <= INDEPENDENT * max(float(np.abs(wanted).max(initial=0.0)), 1e-30)).all():
                raise UserError(
                    f"output {i} of a row depends on the other rows of the batch; batches cannot be chosen "
                    "when the program runs: give --batch"
                )
