"""Compiles one operator, for a target of any family: from a matrix to IR, through the passes, to C."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from numpy.typing import NDArray
from xdsl.passes import ModulePass

from sparsecc.artifact import Artifact
from sparsecc.cover.strategies import STRATEGIES
from sparsecc.epilogue import Epilogue, fused
from sparsecc.errors import UserError
from sparsecc.passes.sparse_compact import MODES
from sparsecc.scales import Scales
from sparsecc.stages import Progress, silent
from sparsecc.target import AnyTarget, CpuTarget, Target
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.load import load_target
from sparsecc.tensor_compiler import compile_tensor

Array = NDArray[Any]

# What can be compiled: a product with a constant, or one of which a mask keeps points.
OPERATIONS = ("spmm", "sddmm")


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
    return compile_tensor(
        source, found_target, cast("str | Target", target), op=op, n=n, k=k, dtype=dtype, seed=seed,
        effort=effort, x=x, plan=plan, pattern=pattern, passes=passes, name=name, like=like,
        epilogue=epilogue, check_stages=check_stages, confirm=confirm, progress=progress, emit=emit,
    )  # fmt: skip


def _check_multiplies(op: str, target: str, what: str) -> None:
    """Raises UserError for a product without a constant."""
    if op == "sddmm":
        raise UserError(
            f"target {target} has {what}, which multiply by constants; --op {op} has none: use a target "
            "with a tensor unit",
            exit_code=2,
        )
