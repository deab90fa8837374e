"""Networks for any batch up to a bound, which the program is told when it runs.

The network is compiled for a few batches; these variants share their weights and the arena, on CPUs the
code of their kernels, too. A batch is covered by variants that run one after the other on its rows, the last
one perhaps on fewer rows than it is for, in the least time: on tensor units simulated cycles, and what the
host is estimated to take; on CPUs measured time. Dynamic programming finds it. So MikPoly (Yu et al., ASPLOS
2024) covers a product of unknown extents with micro-kernels; here whole networks are the micro-kernels.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp

from sparsecc.codegen.any_batch import AnyBatchProgram, sizes_of, write_any_batch
from sparsecc.compiler import Progress, silent
from sparsecc.dialects.host import Tensor, kind_of
from sparsecc.emitted import Executable, built
from sparsecc.errors import UserError
from sparsecc.importers.network import read_network
from sparsecc.interpreters.host import DTYPES
from sparsecc.interpreters.sparse import run_module
from sparsecc.network.tensor_unit import TensorUnitEngine
from sparsecc.network_compiler import NetworkArtifact, compile_network, typed_input
from sparsecc.network_report import host_rows
from sparsecc.target import AnyTarget, CpuTarget, Target
from sparsecc.target.load import load_target
from sparsecc.toolchain import find_compiler

if TYPE_CHECKING:
    from rich.table import Table

    from sparsecc.cpu_network import CpuNetwork

Array = NDArray[Any]

# A variant is worth its code where it saves so much of the geometric mean over all batches.
WORTH = 0.005
# Up to here the program checks itself with every batch, above it with some.
EVERY = 16
# Of the largest value: more than rounding in another order, less than a row that depends on another.
INDEPENDENT = 0.02
# Of a variant's program on a CPU, of which the fastest counts.
RUNS = 3


def candidates(most: int) -> list[int]:
    """Batches that variants are compiled for: powers of 2, and the bound."""
    return sorted({2**i for i in range(most.bit_length()) if 2**i < most} | {most})


@dataclass(frozen=True)
class Cover:
    """How each batch is covered."""

    seconds: list[float]
    """Of each batch; of 0 none."""
    choice: list[int]
    """The variant that runs first."""

    def chunks(self, batch: int) -> list[int]:
        """The variants that run for a batch, in order."""
        found: list[int] = []
        while batch > 0:
            found.append(self.choice[batch])
            batch -= self.choice[batch]
        return found


def cover(costs: Mapping[int, float], most: int) -> Cover:
    """The cheapest cover of each batch by variants of these seconds; of equal ones that of the fewest."""
    best: list[tuple[float, int]] = [(0.0, 0)]
    choice = [0]
    for batch in range(1, most + 1):
        found = min(
            (cost + best[max(0, batch - rows)][0], 1 + best[max(0, batch - rows)][1], rows)
            for rows, cost in costs.items()
        )
        best.append(found[:2])
        choice.append(found[2])
    return Cover([seconds for seconds, _ in best], choice)


def kept(costs: Mapping[int, float], most: int) -> dict[int, float]:
    """The variants that are worth their code: others go, the least useful first."""

    def mean(variants: Mapping[int, float]) -> float:
        return float(np.mean(np.log(np.maximum(cover(variants, most).seconds[1:], 1e-12))))

    found, whole = dict(costs), mean(costs)
    while len(found) > 1:
        without = {size: mean({s: c for s, c in found.items() if s != size}) for size in found}
        least = min(without, key=lambda size: (without[size], size))
        if without[least] > whole + WORTH:
            break
        del found[least]
    return found


@dataclass(frozen=True)
class Cost:
    """What a variant takes."""

    cycles: int
    """When something follows it; 0 on a CPU."""
    host: float
    """Seconds of the host, estimated; on a CPU of all, measured, or by a rule where it is another."""


@dataclass(frozen=True)
class AnyBatchReport:
    """A network for any batch up to `max_batch`."""

    name: str
    target: str
    dtype: str
    max_batch: int
    variants: list[int]
    """Batches that the program holds the network for."""
    batches: list[dict[str, Any]]
    """For each batch: its variants, cycles, microseconds of the host (estimated), and in all; on a CPU its
    variants and microseconds (measured), or, for a CPU that is not this one, only its variants."""
    of_fixed: dict[int, float]
    """Time / that of compiling for one batch, for the batches that were compiled."""
    over_padding: float
    """Time of padding to max_batch / time, the geometric mean over all batches."""
    source_bytes: int
    """Text of the C of all variants."""
    weights_bytes: int
    weights_unshared_bytes: int
    """That a copy for each variant would take."""
    arena_bytes: int

    def to_json(self) -> dict[str, Any]:
        """The report as one JSON object."""
        return dataclasses.asdict(self)

    def tables(self) -> list[Table]:
        """For people; of a long table some rows."""
        from rich.table import Table

        found = Table(
            title=f"{self.name} on {self.target}, products in {self.dtype}", title_justify="left",
            min_width=60,
        )  # fmt: skip
        columns = {"variants": "variants", "cycles": "cycles", "host_us": "host us", "us": "us"}
        columns = {key: heading for key, heading in columns.items() if key in self.batches[0]}
        for heading in ("batch", *columns.values(), "of fixed"):
            found.add_column(heading, justify="left" if heading == "variants" else "right")
        step = max(1, len(self.batches) // 16)
        for i, row in enumerate(self.batches):
            if i % step == 0 or i + 1 == len(self.batches) or row["batch"] in self.of_fixed:
                ratio = self.of_fixed.get(row["batch"])
                texts = (
                    " + ".join(map(str, value)) if key == "variants"
                    else str(value) if key == "cycles" else f"{value:.1f}"
                    for key in columns
                    for value in (row[key],)
                )  # fmt: skip
                found.add_row(str(row["batch"]), *texts, "" if ratio is None else f"{ratio:.2f}")
        totals = Table(show_header=False, box=None)
        totals.add_row("over padding", f"{self.over_padding:.2f} x to {self.max_batch} (geometric mean)")
        totals.add_row(
            "weights", f"{self.weights_bytes} bytes ({self.weights_unshared_bytes} without sharing)"
        )
        totals.add_row("code", f"{self.source_bytes} bytes of C in {len(self.variants)} variants")
        totals.add_row("activations", f"{self.arena_bytes} bytes")
        return [found, totals]


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

    @property
    def name(self) -> str:
        return self.largest.name

    @property
    def on_cpu(self) -> bool:
        """Whether times are those of a CPU, not counted in cycles."""
        return isinstance(self.largest.target, CpuTarget)

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
        hertz = _hertz(self.largest.target)
        seconds = self.cover.seconds
        rows: list[dict[str, Any]] = []
        for batch in range(1, self.most + 1):
            chunks, cycles = self.cover.chunks(batch), self.cycles(batch)
            host = sum(self.costs[c].host for c in chunks)
            told: dict[str, Any] = {"batch": batch, "variants": chunks}
            told |= {} if self.on_cpu else {"cycles": cycles, "host_us": host * 1e6}
            known = not (isinstance(self.largest.target, CpuTarget) and self.largest.target.missing)
            rows.append(told | ({"us": (host + cycles / hertz) * 1e6} if known else {}))
        sizes = sizes_of(self._emitted())
        whole = _seconds(self.costs, hertz)
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
        found = self._program.results(given, len(artifact.outputs), "--batch", str(batch))
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
    if not isinstance(chip, Target | CpuTarget):
        raise UserError(
            f"target {chip.name} has crossbars, whose arrays are programmed for one network; batches at run "
            "time are for tensor units and CPUs: leave --max-batch out and give --batch"
        )
    if max_batch < 1:
        raise UserError(f"--max-batch {max_batch}: needed at least one", exit_code=2)
    find_compiler()
    progress("reading the network")
    check_rows(
        {b: read_network(source, batch=b, dims=dims, inputs=None)[0] for b in (1, 2)},
        np.random.default_rng(seed),
    )
    found: dict[int, NetworkArtifact] = {}
    for batch in reversed(candidates(max_batch)):
        given = [x[:batch] for x in found[max_batch].inputs] if found else inputs

        def tell(text: str, prefix: str = f"batch {batch}: ") -> None:
            progress(prefix + text)

        found[batch] = compile_network(
            source, target=target, batch=batch, dims=dims, inputs=given, seed=seed, progress=tell, **options
        )
    progress("timing the variants")
    costs = {b: _cost(a, b) for b, a in sorted(found.items())}
    best = cover(kept(_seconds(costs, _hertz(chip)), max_batch), max_batch)
    used = sorted(set(best.choice[1:]))
    largest = found[max_batch]
    fences = 0 if isinstance(chip, CpuTarget) else _fences(largest)
    return AnyBatch(max_batch, largest, {b: found[b] for b in used}, best, costs, fences, progress)


def _hertz(chip: AnyTarget) -> float:
    return chip.clock_ghz * 1e9 if isinstance(chip, Target) else 1.0


def _cost(artifact: NetworkArtifact, batch: int) -> Cost:
    """Of a variant: simulated and estimated, or measured; of a CPU that is not this one a rule."""
    target = artifact.target
    if not isinstance(target, CpuTarget):
        return Cost(_cycles(artifact), sum(row.seconds for row in host_rows(artifact)))
    if target.missing:
        # A call and a vector that is not full cost about as much as one more row.
        return Cost(0, 1e-6 * (batch + 1))
    return Cost(0, _measured(artifact))


def _measured(artifact: NetworkArtifact) -> float:
    """Seconds of an inference here: the least median of a few runs."""
    return min(float(artifact.run_program("--seconds", "0.05")["median"]) for _ in range(RUNS))


def _seconds(costs: Mapping[int, Cost], hertz: float) -> dict[int, float]:
    return {batch: cost.cycles / hertz + cost.host for batch, cost in costs.items()}


def _cycles(artifact: NetworkArtifact) -> int:
    """Cycles of a variant when something follows it."""
    engine = cast(TensorUnitEngine, artifact.engine)
    each = {layer: engine.cycles(layer) for layer in dict.fromkeys(artifact.layers)}
    return sum(each[layer] + _between(engine.chip, each[layer]) for layer in artifact.layers)


def _between(chip: Target, cycles: int) -> int:
    """What a product of so many cycles takes more when another follows: the fence between them.

    Where time is told by the index of the last cycle, that cycle, too.
    """
    return chip.queues.issue_gap + int(chip.timing.count == "last_index" and cycles > 0)


def _fences(artifact: NetworkArtifact) -> int:
    """What of `_cycles` nobody waits for where nothing follows: fences after the last product."""
    engine = cast(TensorUnitEngine, artifact.engine)
    total = 0
    for layer in reversed(artifact.layers):
        cycles = engine.cycles(layer)
        total += _between(engine.chip, cycles)
        if cycles > 0:
            break
    return total


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
