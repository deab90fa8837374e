"""Compiles one operator for the CPU at hand, or another: what differs from `sparsecc.compiler`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.passes import ModulePass

from sparsecc.artifact import Artifact, Simulation
from sparsecc.codegen.cpu import write_cpu_folder
from sparsecc.codegen.folder import Check
from sparsecc.cpu import panels
from sparsecc.cpu.activate import in_kernel, in_kernels_of_f32
from sparsecc.cpu.arrays import aligned
from sparsecc.cpu.assembly import PLAIN
from sparsecc.cpu.machine import machine
from sparsecc.cpu.narrow import aligned_copy
from sparsecc.cpu.narrow_spmm import NarrowSpmm
from sparsecc.cpu.narrow_tune import call_of, choose_narrow, narrow_peak
from sparsecc.cpu.native import call_struct
from sparsecc.cpu.spmm import CpuSpmm
from sparsecc.cpu.tune import Choice, blas_seconds, build, choose, peak
from sparsecc.cpu.variant import KINDS, Variant
from sparsecc.cpu.words import STORED, as_stored
from sparsecc.cpu_report import CpuReport
from sparsecc.dialects import cpu
from sparsecc.epilogue import Epilogue
from sparsecc.errors import UserError
from sparsecc.importers.matrix import Csr, make_csr
from sparsecc.interpreters import sparse as sparse_interpreter
from sparsecc.model import model_module
from sparsecc.operator import Operator, Spmm, operator_of
from sparsecc.patterns import recognise
from sparsecc.patterns.declared import check_declared
from sparsecc.pipeline import cpu as cpu_pipeline
from sparsecc.stages import Progress, Stage, compared, named_target, run_passes, save_stages
from sparsecc.target.cpu import CpuTarget
from sparsecc.target.load import NATIVE, NATIVE_PRESETS, load_target

Array = NDArray[Any]

PLANS = ("auto", *KINDS)
# Seconds for each of the turns in which this plan and the dense one are timed.
TURN, TURNS = 0.02, 5
UNMEASURED = Choice(Variant("csr"), False)


@dataclass(eq=False)
class CpuArtifact(Artifact):
    """A compiled operator. Call it on numpy arrays: y = artifact(x, out=y, threads=2)."""

    target: CpuTarget  # pyright: ignore[reportIncompatibleVariableOverride]
    choice: Choice = UNMEASURED
    """What was measured when the kernel was chosen."""

    @cached_property
    def product(self) -> cpu.SpmmOp:
        """The operator with its kernel, as the last pass that knows it left it."""
        found = [op for stage in self.stages for op in stage.module.walk() if isinstance(op, cpu.SpmmOp)]
        if not found:
            raise UserError("the pipeline made no cpu.spmm; it needs convert-sparse-to-cpu")
        return found[-1]

    @property
    def is_dense(self) -> bool:
        return self.product.variant.kind == "dense"

    @property
    def reason(self) -> str:
        return self.product.reason.data if self.product.reason else ""

    @cached_property
    def native(self) -> CpuSpmm | NarrowSpmm:
        """The kernel, loaded. Raises UserError where the target does not run on this machine."""
        choice = replace(self.choice, variant=self.product.variant)
        self.progress("building the kernel")
        if self.target.in_type != "f32":
            return NarrowSpmm(self.operator.weight, self.target, choice, _epilogue(self.operator))
        follows = _epilogue(self.operator)
        fused, bias = (PLAIN, None) if follows is None else (in_kernel(follows), follows.bias)
        return CpuSpmm(_in_f32(self.operator.weight), self.target, choice, fused, bias)

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Array, out: Array | None = None, threads: int = 1, residual: Array | None = None
    ) -> Array:
        """W x [M, N] of x [K, N], any N, in `out` where it is given; see `CpuSpmm` and `NarrowSpmm`.

        x of float32 may be panels, see `pack`; then the result is, too: [panels, M, 16]. residual: what is
        added, as the result is laid out, where the operator was compiled with one.
        """
        native = self.native
        # The short way from here: of small products another function on it takes as long as they do.
        if residual is None and out is not None and (short := native.array_call) is not None:
            status = short.run(short.where, id(x), id(out), threads)
            if status == 0:
                return out
            if status < 0:
                raise MemoryError("no memory for scratch panels")
        return native.checked_call(x, out, threads, residual)

    def bind(
        self, x: Array, out: Array, threads: int = 1, residual: Array | None = None
    ) -> Callable[[], Array]:
        """The call on these arrays as a function without arguments: nothing is checked again."""
        if not isinstance(self.native, CpuSpmm):
            raise UserError(f"calls with {self.target.in_type} cannot be bound; call the artifact")
        return self.native.bind(x, out, threads, residual)

    @staticmethod
    def empty(rows: int, n: int, dtype: Any = np.float32) -> Array:
        """An array [rows, n]; aligned rows, where n is a multiple of 16, are the fastest."""
        return aligned((rows, n), dtype)

    @staticmethod
    def pack(x: Array, out: Array | None = None) -> Array:
        """x [rows, N] as panels [ceil(N / 16), rows, 16]: the layout inside networks, and the fastest."""
        return panels.pack(x, out)

    @staticmethod
    def unpack(y: Array, n: int) -> Array:
        """The first n positions of panels, as rows [rows, n]."""
        return panels.unpack(y, n)

    def save(self, folder: str | os.PathLike[str], ir: bool = False) -> None:
        """Write the folder that stands alone (C, assembly, data, Makefile, report.json), and all IR."""
        module, n = self.stages[-1].module, self.operator.shape[1]
        report = self.predicted().to_json()
        write_cpu_folder(Path(folder), module, self.title, n, self.target, self.check, report)
        if ir:
            save_stages(self.stages, Path(folder) / "ir")

    def rerun(self, output: str | None, trace: str | None) -> None:
        """Run on the stored input once more and write C [M, N] as .npy."""
        if trace:
            raise UserError(f"target {self.target.name} has no trace of instructions; leave --trace out", 2)
        if output:
            np.save(output, self(self.check.inputs["x"], residual=self.check.inputs.get("residual")))

    def simulate(self, values: bool = True) -> Simulation:
        """Nothing is simulated for a CPU."""
        raise UserError(f"target {self.target.name} is a CPU: call the artifact, or ask for its report")

    def predicted(self) -> CpuReport:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The report as far as it is known without running."""
        return self._report(1)

    @cached_property
    def report(self) -> CpuReport:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The report of runs on one core of this machine, in turns with the dense plan."""
        return self.measured(1)

    def measured(self, threads: int) -> CpuReport:
        """The report of runs in so many threads; the dense plan's time is only taken for one.

        Raises UserError for fewer than one, and where the target does not run on this machine.
        """
        if threads < 1:
            raise UserError(f"threads is {threads}; needed at least 1", exit_code=2)
        native, (m, n, _) = self.native, self.operator.shape
        x = aligned_copy(as_stored(self.check.inputs["x"], self.target.in_type))
        follows = _epilogue(self.operator)
        y = aligned((m, n), STORED[follows.element if follows else self.target.acc_type])
        # NaN, or -1.
        y.view(np.uint8)[:] = 255
        self.progress("timing")
        residual = self.check.inputs.get("residual")
        native(x, y, threads, residual)
        error = np.abs(y.astype(np.float64) - self.check.expected)
        bound = np.broadcast_to(self.check.bound, error.shape)
        share = np.divide(error, bound, out=np.zeros_like(error), where=bound > 0)
        nearest = np.unravel_index(int(np.argmax(share)), share.shape)
        call = call_of(x, y) if residual is None else call_struct(x, y, residual)
        kernel, best, dense = native.kernel, float("inf"), float("inf")
        blas = self.choice.dense_library == "blas"
        if isinstance(native, NarrowSpmm):
            rival = native.built(Variant("dense"))
        else:
            dense_plan = Variant("dense")
            rival = None if blas else build(native.w, self.target, dense_plan, native.epilogue, native.bias)
        compared = threads == 1 and self.choice.dense_seconds is not None
        for _ in range(TURNS):
            best = min(best, kernel.seconds(call, threads, TURN))
            if compared:
                took = blas_seconds(native.w, x, TURN) if rival is None else rival.seconds(call, 1, TURN)
                dense = min(dense, took)
        if self.is_dense and compared:
            best = dense = min(best, dense)
        top = peak(self.target) if self.target.in_type == "f32" else narrow_peak(self.target)
        return replace(
            self._report(threads),
            wall_ms=1e3 * best,
            gflops=1e-9 * self._operations / best,
            peak_gflops=1e-9 * top * threads,
            peak_fraction=self._operations / best / (top * threads),
            dense_ms=1e3 * dense if compared else None,
            dense_library=self.choice.dense_library if compared else None,
            speedup=dense / best if compared else None,
            max_error=float(error.max()) if error.size else 0.0,
            error_bound=float(bound[nearest]),
            exact=bool((error <= bound).all()),
        )

    @property
    def _operations(self) -> float:
        return 2.0 * self.operator.weight.nnz * self.operator.shape[1]

    def _report(self, threads: int) -> CpuReport:
        operator = self.operator
        m, n, k = operator.shape
        pattern = self.product.weight.pattern
        return CpuReport(
            name=operator.name, op=operator.op, formula=operator.formula, target=self.target.name,
            shape=(m, k, n), nnz=operator.weight.nnz, density=operator.weight.nnz / (m * k),
            pattern=str(recognise(pattern)), dtype=operator.in_type, plan=self.plan,
            kernel=self.product.variant.name, reason=self.reason,
            tried=[(name, 1e3 * seconds) for name, seconds in self.choice.tried],
            cpu="not this machine's" if self.target.missing else machine().model, threads=threads,
            wall_ms=None, gflops=None, peak_gflops=None, peak_fraction=None, dense_ms=None,
            dense_library=None, speedup=None, max_error=None, error_bound=None, exact=None,
            zeroed=operator.zeroed, stored_zeros=operator.stored_zeros,
            pattern_only=operator.pattern_only, assumed=self.target.assumed,
        )  # fmt: skip


def _epilogue(operator: Operator) -> Epilogue | None:
    """What is fused to a product, if anything is."""
    return operator.epilogue if isinstance(operator, Spmm) else None


def _with_epilogue(operator: Operator, epilogue: Epilogue) -> Operator:
    """The product with an epilogue. Raises UserError for one that kernels do not do alone."""
    assert isinstance(operator, Spmm), "a CPU takes products with a constant"
    m = operator.shape[0]
    narrow = operator.in_type != "f32"
    if epilogue.residual and narrow:
        raise UserError(
            f"a residual beside a product of {operator.in_type}; needed one of f32; use "
            "sparsecc.cpu.narrow_spmm.NarrowSpmm, or a network"
        )
    if operator.in_type != "i8" and not in_kernels_of_f32(epilogue):
        raise UserError(
            f"an epilogue to {epilogue.element} of a product of {operator.in_type}, or with a scale or a "
            "zero point; floats have a bias, limits or an activation, and give f32"
        )
    slopes = epilogue.activation.slopes if epilogue.activation else ()
    if slopes and len(slopes) != m:
        raise UserError(f"the activation has {len(slopes)} slopes; needed {m}, one for each row")
    for what, array in (("bias", epilogue.bias), ("scale", epilogue.scale)):
        if array is not None and array.ndim == 1 and len(array) != m:
            raise UserError(f"the epilogue's {what} has {len(array)} values; needed {m}, one for each row")
    sums = np.dtype(np.int32 if operator.in_type == "i8" else np.float32)
    if epilogue.bias is not None and epilogue.bias.dtype != sums:
        raise UserError(f"the epilogue's bias is {epilogue.bias.dtype}; needed {sums}, as the sums are")
    return replace(operator, epilogue=epilogue)


def _in_f32(w: Csr) -> Csr:
    return make_csr(w.data.astype(np.float32), w.indices, w.indptr, w.shape)


def with_type(target: CpuTarget, named: str | CpuTarget, in_type: str) -> tuple[CpuTarget, str | CpuTarget]:
    """The target used with a type, and its name; of "cpu" the best that has the type on this machine."""
    typed = target.with_type(in_type)
    if named != NATIVE or not typed.missing:
        return typed, named
    for name in NATIVE_PRESETS:
        other = load_target(name)
        assert isinstance(other, CpuTarget)
        if in_type in dict(other.types) and not other.with_type(in_type).missing:
            return other.with_type(in_type), name
    return typed, named


def compile_cpu(
    source: object,
    target: CpuTarget,
    named: str | CpuTarget,
    *,
    n: int,
    dtype: str | None,
    seed: int,
    x: Array | tuple[Array, ...] | None,
    plan: str,
    pattern: str | None,
    passes: Sequence[ModulePass] | None,
    name: str | None,
    check_stages: bool,
    progress: Progress,
    epilogue: Epilogue | None = None,
) -> CpuArtifact:
    """As `sparsecc.compile`, for a CPU; `named` is what passes call the target."""
    if plan not in PLANS:
        raise UserError(f"unknown plan {plan!r}; on a CPU it is one of {', '.join(PLANS)}", exit_code=2)
    progress("reading the matrix")
    operator = operator_of(source, n, target, dtype, seed, name)
    target, named = with_type(target, named, operator.in_type)
    if epilogue is not None:
        operator = _with_epilogue(operator, epilogue)
    if pattern is not None:
        check_declared(operator.pattern, pattern, operator.name)
    given = operator.random_inputs(seed) if x is None else x if isinstance(x, tuple) else (x,)
    check = operator.reference(operator.checked_inputs(given))
    after = _checked_stage(check) if check_stages else _unchecked

    def compiled(plan: str, passes: Sequence[ModulePass] | None = None) -> CpuArtifact:
        with named_target(named) as path:
            chosen = passes if passes is not None else cpu_pipeline(path, plan, seed)
            stages = run_passes(model_module(operator, target), chosen, after, progress)
        artifact = CpuArtifact(
            operator, target, tuple(stages), lambda: check, progress, lambda: compiled("dense")
        )
        if target.in_type == "f32":
            follows = _epilogue(operator)
            fused = PLAIN if follows is None else in_kernel(follows)
            artifact.choice = choose(_in_f32(operator.weight), target, n, plan, fused, seed, follows is None)
        else:
            artifact.choice = choose_narrow(operator.weight, target, n, plan, _epilogue(operator), seed)
        return artifact

    return compiled(plan, passes)


def _unchecked(_: Stage) -> None:
    """Stages are not interpreted unless it is asked for."""


def _checked_stage(check: Check) -> Callable[[Stage], None]:
    """Compares what each stage computes."""

    def result(stage: Stage) -> Array | None:
        if stage.name == "convert-cpu-to-c":
            return None
        (y,) = sparse_interpreter.run_module(stage.module, *check.inputs.values())
        return y

    return compared(check, result)
