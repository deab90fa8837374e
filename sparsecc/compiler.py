"""Compiles one operator: from a matrix to IR, through the passes, to C that runs on the simulator."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from io import StringIO
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.printer import Printer
from xdsl.utils.exceptions import DiagnosticException, VerifyException

from sparsecc.blobs import Blob
from sparsecc.codegen.folder import Check, write_folder
from sparsecc.codegen.stores import store_of
from sparsecc.cover.cells import count_cells
from sparsecc.cover.metaops import MetaOps
from sparsecc.cover.strategies import STRATEGIES
from sparsecc.dialects import tu, xbar
from sparsecc.dialects.nn_base import TensorAttr
from sparsecc.dialects.sparse import MetaOpsAttr, ProductOp, WeightAttr, is_large, metaops_blob
from sparsecc.emitted import Executable, built
from sparsecc.epilogue import Epilogue, fused
from sparsecc.errors import UserError
from sparsecc.interpreters import sparse as sparse_interpreter
from sparsecc.interpreters import tu as tu_interpreter
from sparsecc.like import padded
from sparsecc.model import model_module
from sparsecc.operator import Operator, Spmm, masked_operator_of, operator_of
from sparsecc.passes.convert_tu_to_c import ConvertTuToCPass
from sparsecc.passes.sparse_compact import MODES, tried
from sparsecc.passes.tu_unroll import TuUnrollPass
from sparsecc.patterns.declared import check_declared
from sparsecc.pipeline import tensor_unit
from sparsecc.replay import replay
from sparsecc.report import Outlook, Report, outlook_of
from sparsecc.scales import Scales
from sparsecc.target import AnyTarget, CpuTarget, Target
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.load import load_target
from sparsecc.toolchain import build_program, find_compiler

Array = NDArray[Any]
# Told what is being done, for progress.
Progress = Callable[[str], None]

# What can be compiled: a product with a constant, or one of which a mask keeps points.
OPERATIONS = ("spmm", "sddmm")


@dataclass(frozen=True, eq=False)
class Stage:
    """The module after a pass (or as it was given)."""

    name: str
    module: ModuleOp

    def text(self) -> str:
        """The module as sparsecc-opt reads it."""
        stream = StringIO()
        Printer(stream).print_op(self.module)
        return stream.getvalue() + "\n"

    @property
    def spmm(self) -> ProductOp | None:
        """The stage's sparse operator, where it has one."""
        return next((op for op in self.module.walk() if isinstance(op, ProductOp)), None)

    def blobs(self) -> list[Blob]:
        """The large data that the stage's text refers to."""
        found: list[Blob] = []
        for op in self.module.walk():
            for attribute in op.properties.values():
                match attribute:
                    case WeightAttr():
                        found.append(attribute.blob)
                    case MetaOpsAttr() if is_large(attribute.data):
                        found.append(metaops_blob(attribute.data))
                    case xbar.TilesAttr() if xbar.is_large(attribute.data):
                        found.append(xbar.tiles_blob(attribute.data))
                    case tu.ArrayDataAttr():
                        found.append(attribute.data)
                    case TensorAttr():
                        found.append(attribute.data.blob)
                    case _:
                        pass
        return found


def run_passes(
    module: ModuleOp, passes: Sequence[ModulePass], after: Callable[[Stage], None], progress: Progress
) -> list[Stage]:
    """Run passes one after another on copies; returns the module before and after each. Raises UserError."""
    stages = [Stage("input", module)]
    after(stages[0])
    for number, one in enumerate(passes):
        progress(f"{one.name} ({number + 1} of {len(passes)})")
        new = stages[-1].module.clone()
        try:
            one.apply(Context(), new)
        except (DiagnosticException, VerifyException) as e:
            raise UserError(f"{one.name}: {str(e).removeprefix(f'{one.name}: ')}") from e
        stages.append(Stage(one.name, new))
        after(stages[-1])
    return stages


def save_stages(stages: Sequence[Stage], folder: Path) -> None:
    """Write every stage as NN-name.mlir, and the data they refer to into blobs/."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, stage in enumerate(stages):
            (folder / f"{number:02d}-{stage.name}.mlir").write_text(stage.text())
            for blob in stage.blobs():
                blob.save(folder / "blobs")
    except OSError as e:
        raise UserError(
            f"{folder}: cannot write the stages: {e.strerror}; name a folder you may write to"
        ) from e


def _is_program(module: ModuleOp) -> bool:
    """Whether functions take off-chip buffers. A program of no instruction, of all zeros, is one too."""
    functions = (op for op in module.ops if isinstance(op, func.FuncOp))
    return any(isinstance(t, tu.BufferType) for f in functions for t in f.function_type.inputs)


def _checked_stage(operator: Operator, target: Target, check: Check) -> Callable[[Stage], None]:
    """Interprets a stage and compares every value; raises UserError at the first difference."""

    def compare(stage: Stage) -> None:
        try:
            stage.module.verify()
        except VerifyException as e:
            raise UserError(f"after {stage.name} the module does not verify: {e}", exit_code=3) from e
        if _is_program(stage.module):
            y = tu_interpreter.run(stage.module, tuple(check.inputs.values()), target)
        elif stage.name == "convert-tu-to-c":
            return  # the C program checks itself
        else:
            (y,) = sparse_interpreter.run_module(stage.module, *check.inputs.values())
        error = np.abs(y.astype(np.float64) - check.expected)
        wrong = ~(error <= check.bound)
        if check.points is not None:
            wrong &= operator.weight.toarray() != 0
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise UserError(
                f"after {stage.name} the value at row {row}, column {column} is {y[row, column]}, needed "
                f"{check.expected[row, column]}: this is a bug of the pass; report it with --dump-ir",
                exit_code=3,
            )

    return compare


@dataclass(frozen=True, eq=False)
class Simulation:
    """What the simulator reported of one program."""

    report: dict[str, Any]
    check: dict[str, Any] | None

    @property
    def cycles(self) -> int:
        return int(self.report["cycles"])

    @property
    def energy_pj(self) -> float:
        return float(self.report["energy_pj"]["total"])


def silent(_: str) -> None:
    """Progress that nobody sees."""


@dataclass(eq=False)
class Artifact:
    """A compiled operator. Call it to run it on the simulator."""

    operator: Operator
    target: Target
    stages: tuple[Stage, ...]
    find_check: Callable[[], Check]
    progress: Progress
    compile_dense: Callable[[], Artifact]
    reason_given: str | None = None
    """Why this plan, where it is not what the scheduler said."""
    tried_given: list[tuple[str, int, int]] | None = None
    """What the scheduler weighed, where another artifact of the operator lost on the simulator."""

    @cached_property
    def check(self) -> Check:
        """What the program checks itself against: of its cycles alone nobody needs that."""
        return self.find_check()

    @property
    def title(self) -> str:
        operator = self.operator
        return (
            f"{operator.name}: {operator.formula}, {operator.weight.nnz} nonzeros, {self.plan} plan, "
            f"{self.target.name}, {operator.in_type}"
        )

    @cached_property
    def spmm(self) -> ProductOp:
        """The operator as the last pass of the Sparse IR left it."""
        found = [spmm for stage in self.stages if (spmm := stage.spmm) is not None]
        if not found:
            raise UserError(
                f"the pipeline made no sparse.{self.operator.op}; it needs convert-linalg-to-sparse or "
                "convert-linalg-to-sddmm"
            )
        return found[-1]

    @property
    def is_dense(self) -> bool:
        return self.spmm.is_dense

    @property
    def plan(self) -> str:
        return "dense" if self.is_dense else "sparse"

    @property
    def reason(self) -> str:
        """Why this plan."""
        return self.reason_given or (self.spmm.reason.data if self.spmm.reason else "")

    @property
    def tried(self) -> list[tuple[str, int, int]]:
        """(candidate, predicted cycles, unit cells), the best first; empty where the plan was asked for."""
        return self.tried_given or tried(self.spmm)

    @cached_property
    def dense(self) -> Artifact:
        """The same operator as one dense meta-op: this one, where it is that."""
        return self if self.is_dense else self.compile_dense()

    @cached_property
    def cover(self) -> MetaOps:
        return self.spmm.cover()

    @cached_property
    def outlook(self) -> Outlook:
        """What is known before a run, for its report and that of the saved folder."""
        return outlook_of(self)

    def save(self, folder: str | os.PathLike[str], ir: bool = False) -> None:
        """Write the folder that stands alone (C, data, simulator, Makefile, report.json), and all IR."""
        self._write(Path(folder), self.predicted().to_json())
        if ir:
            save_stages(self.stages, Path(folder) / "ir")

    def _write(self, folder: Path, report: dict[str, object]) -> None:
        module = self.stages[-1].module
        write_folder(folder, module, self.title, self.operator.shape, self.target, self.check, report)

    def __call__(self, *inputs: Array) -> Array:
        """C on the simulator, of x [K, N], or of a [M, K] and b [K, N] (then 0 where the mask is).

        Inputs are in, or exactly convertible to, the input type.
        """
        return self._product(inputs, [])

    def _product(self, inputs: tuple[Array, ...], options: list[str]) -> Array:
        """The result of the program with these further options."""
        given = self.operator.checked_inputs(tuple(np.asarray(x) for x in inputs))
        return self._program.results(given, 1, *options)[0]

    @cached_property
    def _program(self) -> Executable:
        self.progress("compiling the C")
        return built(self, lambda folder: self._write(folder, {}), build_program)

    def simulate(self, values: bool = True) -> Simulation:
        """Run the program: on its stored input, every value checked, or for its time only."""
        program = self._program
        self.progress(f"simulating the {self.plan} plan" + ("" if values else " (time only)"))
        found: dict[str, Any] = program.report(*([] if values else ["--timing-only"]))
        return Simulation(found["simulation"], found.get("check"))

    def rerun(self, output: str | None, trace: str | None) -> None:
        """Run on the stored input once more and write C [M, N] as .npy, and a Chrome trace."""
        self._program.run(*(["--output", output] if output else []), *(["--trace", trace] if trace else []))

    def cells(self) -> tuple[int, int]:
        """(unit cells computed, unit cells of the whole computing space)."""
        product = self.spmm
        whole = MetaOps.whole(*self.operator.shape)
        kept, all_cells = (count_cells(product.plane(m), product.plane_unit) for m in (self.cover, whole))
        return kept, all_cells

    def predicted(self) -> Report:
        """The report as far as it is known without running."""
        return Report.of(self, None, None)

    @cached_property
    def timing(self) -> Simulation:
        """A run for its time only, of the program before it becomes C where the stages have it."""
        programs = [stage.module for stage in self.stages if _is_program(stage.module)]
        if not programs:
            return self.simulate(values=False)
        self.progress(f"simulating the {self.plan} plan (time only)")
        return Simulation(replay(programs[-1], self.target), None)

    @cached_property
    def report(self) -> Report:
        """The report of a simulated run, compared with the dense plan."""
        simulation = self.simulate()
        dense = simulation if self.is_dense else self.dense.timing
        return Report.of(self, simulation, dense)


def _verify_cover(stage: Stage) -> None:
    """Hold the laws of the last stage of the Sparse IR; those before led to it."""
    if stage.name == "sparse-group":
        stage.module.verify()


@contextmanager
def named_target(target: str | AnyTarget) -> Generator[str]:
    """What passes call the target: a name or a path; a target made in code is written to a file for them."""
    if isinstance(target, str):
        yield target
        return
    with tempfile.TemporaryDirectory(prefix="sparsecc-") as work:
        path = Path(work) / f"{target.name}.toml"
        path.write_text(target.to_toml())
        yield str(path)


def compile(
    source: object,
    *,
    target: str | AnyTarget = "gemmini16",
    op: str = "spmm",
    n: int = 64,
    k: int = 64,
    dtype: str | None = None,
    seed: int = 0,
    effort: int = 1,
    x: Array | tuple[Array, ...] | None = None,
    plan: str = "auto",
    pattern: str | None = None,
    passes: Sequence[ModulePass] | None = None,
    name: str | None = None,
    like: object = None,
    epilogue: Epilogue | None = None,
    bias: Array | None = None,
    activation: str | tuple[Any, ...] | None = None,
    residual: bool = False,
    check_stages: bool = False,
    confirm: bool = True,
    scales: Scales | None = None,
    progress: Progress = silent,
    emit: bool = True,
) -> Artifact:
    """Compile C[M,N] = W[M,K] X[K,N] for an accelerator, or, with op "sddmm", mask * (A[M,K] B[K,N]).

    source: W, or what has the pattern of the mask, as the path of a matrix file, a numpy array, a scipy
    sparse matrix or a Matrix. target: a preset's name, the path of a TOML file, or a Target. n: positions
    (columns of X), given by the mask for "sddmm". k: inner dimension for "sddmm". dtype: the input type, the
    target's first by default. seed: for values the file does not have, for inputs, and for the search.
    effort: how hard covers are searched for, 0 to 3. x: X [K, N], or (A [M, K], B [K, N]), to check with,
    random by default. plan: "auto" costs all covers and the dense plan; or a mode of sparse-compact, or, on
    a CPU, a kernel: "line", "csr", "vector" or "dense". emit: whether programs become C,
    which networks do for all their products at once. pattern:
    N:M or V:N:M, which W must have. passes: a pipeline of your own instead. like: an earlier artifact, or a
    matrix as source is, with a nonzero wherever W has one: the result is never slower than that, compiled
    with the same options. epilogue: what stores do to the result of an spmm on a tensor unit, see
    `sparsecc.codegen.stores`, or kernels of a CPU. bias, activation, residual: the same by name, see
    `sparsecc.epilogue.fused`; with residual the artifact of a CPU takes another array [M, N] to add.
    check_stages: interpret every stage and compare. confirm: the simulator decides between the best covers
    and schedules, the dense plan among them, if there is a C compiler; else the cost model does.
    scales: on crossbars, what steps of int8 are worth; with one of results they are int8.
    Raises UserError.
    """
    found_target = load_target(target) if isinstance(target, str) else target
    if scales is not None and not isinstance(found_target, CrossbarTarget):
        raise UserError(
            f"scales take a target with crossbars, and {found_target.name} has none; leave them out: weights "
            "become int8 by a scale per row",
            exit_code=2,
        )
    if bias is not None or activation is not None or residual:
        if epilogue is not None:
            raise UserError("epilogue beside bias, activation or residual; give either", exit_code=2)
        epilogue = fused(dtype or found_target.in_type, bias, activation, residual)
    if epilogue is not None and isinstance(found_target, CrossbarTarget):
        raise UserError(
            f"target {found_target.name} has crossbars, whose stores take scales alone; leave epilogue, "
            "bias, activation and residual out, or compile a network",
            exit_code=2,
        )
    if isinstance(found_target, CpuTarget):
        from sparsecc.cpu_compiler import compile_cpu

        _check_multiplies(op, found_target.name, "a CPU")
        if like is not None:
            raise UserError("like takes targets with a tensor unit; leave it out", exit_code=2)
        return compile_cpu(
            source, found_target, cast("str | CpuTarget", target), n=n, dtype=dtype, seed=seed, x=x,
            plan=plan, pattern=pattern, passes=passes, name=name, check_stages=check_stages,
            progress=progress, epilogue=epilogue,
        )  # fmt: skip
    if plan not in MODES and plan not in STRATEGIES:
        known = ", ".join(dict.fromkeys([*MODES, *STRATEGIES]))
        raise UserError(f"unknown plan {plan!r}; it is one of {known}", exit_code=2)
    if op not in OPERATIONS:
        raise UserError(f"unknown op {op!r}; it is one of {', '.join(OPERATIONS)}", exit_code=2)
    if isinstance(found_target, CrossbarTarget):
        if like is not None:
            raise UserError("like takes targets with a tensor unit; leave it out", exit_code=2)
        from sparsecc.crossbar_compiler import compile_crossbar

        _check_multiplies(op, found_target.name, "crossbars")
        return compile_crossbar(
            source, found_target, cast("str | CrossbarTarget", target), n=n, dtype=dtype, seed=seed,
            effort=effort, x=x, plan=plan, pattern=pattern, passes=passes, name=name,
            check_stages=check_stages, confirm=confirm, progress=progress, scales=scales,
        )  # fmt: skip
    chip = target if isinstance(target, Target) else Target.load(cast(str, target))
    progress("reading the matrix")
    operator: Operator = (
        masked_operator_of(source, k, chip, dtype, name)
        if op == "sddmm"
        else operator_of(source, n, chip, dtype, seed, name)
    )
    if pattern is not None:
        check_declared(operator.pattern, pattern, operator.name)
    chip = chip.with_type(operator.in_type)
    if epilogue is not None:
        if not isinstance(operator, Spmm) or store_of(epilogue, chip.acc_type) is None:
            raise UserError(f"stores of {chip.name} do not do this epilogue to {chip.acc_type} of {op}")
        operator = replace(operator, epilogue=epilogue)
    inputs = None if x is None else operator.checked_inputs(x if isinstance(x, tuple) else (x,))

    @cache
    def check() -> Check:
        return operator.reference(inputs or operator.checked_inputs(operator.random_inputs(seed)))

    after = _checked_stage(operator, chip, check()) if check_stages else _verify_cover

    simulate = confirm and has_compiler()

    def compiled(
        plan: str, passes: Sequence[ModulePass] | None = None, product: Operator = operator
    ) -> Artifact:
        with named_target(target) as named:
            chosen = passes if passes is not None else tensor_unit(named, plan, effort, seed, simulate)
            if not emit:
                chosen = [p for p in chosen if not isinstance(p, TuUnrollPass | ConvertTuToCPass)]
            stages = run_passes(model_module(product, chip), chosen, after, progress)
        return Artifact(operator, chip, tuple(stages), check, progress, lambda: compiled("dense"))

    def cycles(artifact: Artifact) -> int:
        return artifact.timing.cycles if simulate else artifact.predicted().predicted_cycles

    found = compiled(plan, passes)
    if like is not None:
        if not isinstance(operator, Spmm):
            raise UserError("like takes products with a constant; leave it out for op sddmm", exit_code=2)
        earlier = like.spmm.weight if isinstance(like, Artifact) else operator_of(like, n, chip, dtype, seed)
        found = min(found, compiled(plan, passes, padded(operator, earlier.pattern)), key=cycles)
    if plan != "auto" or passes is not None or found.is_dense or not simulate:
        return found
    if found.timing.cycles < found.dense.timing.cycles:
        return found
    found.dense.tried_given = found.tried
    found.dense.reason_given = (
        f"the best cover ({found.reason}) took {found.timing.cycles} cycles on the simulator, "
        f"the dense plan {found.dense.timing.cycles}"
    )
    return found.dense


def _check_multiplies(op: str, target: str, what: str) -> None:
    """Raises UserError for a product without a constant."""
    if op == "sddmm":
        raise UserError(
            f"target {target} has {what}, which multiply by constants; --op {op} has none: use a target "
            "with a tensor unit",
            exit_code=2,
        )


def has_compiler() -> bool:
    try:
        find_compiler()
    except UserError:
        return False
    return True
