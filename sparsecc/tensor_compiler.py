"""Compiles one operator for a tensor unit, and lets the simulator decide between the best covers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from numpy.typing import NDArray
from xdsl.passes import ModulePass

from sparsecc.artifact import Artifact
from sparsecc.codegen.folder import Check
from sparsecc.codegen.stores import store_of
from sparsecc.epilogue import Epilogue
from sparsecc.errors import UserError
from sparsecc.interpreters import sparse as sparse_interpreter
from sparsecc.interpreters import tu as tu_interpreter
from sparsecc.like import padded
from sparsecc.model import model_module
from sparsecc.operator import Operator, Spmm, masked_operator_of, operator_of
from sparsecc.passes.convert_tu_to_c import ConvertTuToCPass
from sparsecc.passes.tu_unroll import TuUnrollPass
from sparsecc.patterns.declared import check_declared
from sparsecc.pipeline import tensor_unit
from sparsecc.stages import Progress, Stage, compared, named_target, run_passes
from sparsecc.target import Target
from sparsecc.toolchain import has_compiler

Array = NDArray[Any]


def _checked_stage(target: Target, check: Check) -> Callable[[Stage], None]:
    """Compares what each stage computes."""

    def result(stage: Stage) -> Array | None:
        if stage.is_program:
            return tu_interpreter.run(stage.module, tuple(check.inputs.values()), target)
        if stage.name == "convert-tu-to-c":
            return None
        (y,) = sparse_interpreter.run_module(stage.module, *check.inputs.values())
        return y

    return compared(check, result)


def _verify_cover(stage: Stage) -> None:
    """Hold the laws of the last stage of the Sparse IR; those before led to it."""
    if stage.name == "sparse-group":
        stage.module.verify()


def compile_tensor(
    source: object,
    chip: Target,
    named: str | Target,
    *,
    op: str,
    n: int,
    k: int,
    dtype: str | None,
    seed: int,
    effort: int,
    x: Array | tuple[Array, ...] | None,
    plan: str,
    pattern: str | None,
    passes: Sequence[ModulePass] | None,
    name: str | None,
    like: object,
    epilogue: Epilogue | None,
    check_stages: bool,
    confirm: bool,
    progress: Progress,
    emit: bool,
) -> Artifact:
    """Compile C[M,N] = W[M,K] X[K,N], or mask * (A[M,K] B[K,N]), for a tensor unit.

    named: what passes call the chip by; the others as for `sparsecc.compile`. Raises UserError.
    """
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

    after = _checked_stage(chip, check()) if check_stages else _verify_cover

    simulate = confirm and has_compiler()

    def compiled(
        plan: str, passes: Sequence[ModulePass] | None = None, product: Operator = operator
    ) -> Artifact:
        with named_target(named) as path:
            chosen = passes if passes is not None else tensor_unit(path, plan, effort, seed, simulate)
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
