"""Chooses the kernel of a sparse operator on a CPU.

Turns each `sparse.spmm` into a `cpu.spmm`: straight-line code, CSR over panels, matrix times vector,
or dense. With kernel `auto` the variants are timed on this machine, the dense plan among them, and what was
found is kept; for a CPU that is not this one a rule decides. Covers are not looked at: an instruction of a
CPU multiplies one weight, and every zero is refused.

A `sparse.epilogue` of the result stays behind it and is fused to the kernel where C is written: bias,
residual, limits and activations are timed with it, and all that an epilogue has where elements are int8, bf16
or f16.

Refuses element types that the target does not have, `sparse.sddmm`, and targets that are no CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.rewriter import Rewriter
from xdsl.utils.exceptions import PassFailedException

from sparsecc.cpu.activate import in_kernel, in_kernels_of_f32
from sparsecc.cpu.assembly import PLAIN, Epilogue
from sparsecc.cpu.narrow_tune import choose_narrow
from sparsecc.cpu.tune import Choice, choose
from sparsecc.cpu.variant import KINDS
from sparsecc.dialects import cpu
from sparsecc.dialects.sparse import ProductOp, SpmmOp
from sparsecc.dialects.sparse_attributes import WeightAttr
from sparsecc.dialects.sparse_epilogue import epilogue_of
from sparsecc.errors import UserError
from sparsecc.importers.matrix import Csr, make_csr
from sparsecc.passes.base import SparsePass, refuse
from sparsecc.target import CpuTarget, load_target

KERNELS = ("auto", *KINDS)


def weight_matrix(weight: WeightAttr) -> Csr:
    """The matrix of an attribute as CSR."""
    pattern = weight.pattern
    return make_csr(weight.data, pattern.indices, pattern.indptr, weight.shape)


def fused_epilogue(product: SpmmOp | cpu.SpmmOp) -> Epilogue:
    """What of the epilogue of a product its kernel does."""
    op = epilogue_of(product.res)
    if op is None:
        return PLAIN
    found = op.epilogue
    if not in_kernels_of_f32(found):
        refuse(op, "kernels of f32 do a bias, a residual, limits and activations; split the rest off")
    return in_kernel(found)


def reason_of(choice: Choice, kernel: str) -> str:
    """Why a variant was chosen, in a sentence."""
    if kernel != "auto":
        return f"kernel {kernel} was asked for"
    if not choice.measured:
        return "by rule: the target's CPU is not this one"
    assert choice.seconds is not None
    if choice.dense_seconds is None:
        return "the fastest of those measured; dense is too large to try"
    rival = "BLAS" if choice.dense_library == "blas" else "our own dense kernel"
    if choice.variant.kind == "dense":
        best = next((row for row in choice.tried if not row[0].startswith("dense")), None)
        other = f", {best[1] / choice.dense_seconds:.2f} times the time for {best[0]}" if best else ""
        return f"dense is faster by measurement ({rival}){other}"
    return f"{choice.dense_seconds / choice.seconds:.2f}x faster than dense ({rival}) by measurement"


@dataclass(frozen=True)
class ConvertSparseToCpuPass(SparsePass):
    name = "convert-sparse-to-cpu"
    summary: ClassVar = "chooses the kernel of a product on a CPU: sparse.spmm -> cpu.spmm"
    refuses: ClassVar = "element types that the target does not have, sparse.sddmm, targets that are no CPU"
    option_help: ClassVar = {
        "target": "preset or .toml file of a CPU; cpu is the best that this machine has",
        "kernel": f"one of {', '.join(KERNELS)}; auto times them on this machine",
        "blas": "whether a dense plan may be that of numpy's BLAS, which emitted C does not have",
        "seed": "of the values that are multiplied while times are taken",
    }

    target: str = "cpu"
    kernel: str = "auto"
    seed: int = 0
    blas: bool = True

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        target = load_target(self.target)
        if not isinstance(target, CpuTarget):
            raise PassFailedException(f"{self.name}: target {target.name} is no CPU; name one, such as cpu")
        if self.kernel not in KERNELS:
            raise PassFailedException(
                f"{self.name}: kernel {self.kernel!r} is not one of {', '.join(KERNELS)}"
            )
        for product in [found for found in op.walk() if isinstance(found, ProductOp)]:
            if not isinstance(product, SpmmOp):
                refuse(product, "has no kernel on a CPU; use a target with a tensor unit")
            try:
                typed = target.with_type(str(product.element_type))
            except UserError as e:
                refuse(product, f"is of {product.element_type}; {e}")
            self._convert(product, typed)

    def _convert(self, product: SpmmOp, target: CpuTarget) -> None:
        w = weight_matrix(product.weight)
        try:
            if target.in_type == "f32":
                fused = fused_epilogue(product)
                # BLAS does no epilogue.
                blas = self.blas and fused == PLAIN
                choice = choose(w, target, product.positions, self.kernel, fused, self.seed, blas)
            else:
                op = epilogue_of(product.res)
                follows = None if op is None else op.epilogue
                choice = choose_narrow(w, target, product.positions, self.kernel, follows, self.seed)
        except UserError as e:
            refuse(product, str(e))
        new = cpu.SpmmOp(
            product.operands[0],
            product.weight,
            choice.variant,
            target.name,
            reason_of(choice, self.kernel),
            product.res.type,
        )
        new.res.name_hint = product.res.name_hint
        Rewriter.replace_op(product, new)
