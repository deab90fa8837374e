"""Turns products on a CPU to calls of the C kernels.

A function that is one `cpu.spmm` of its argument becomes `model_run(x, ldx, y, ldy, n, threads)`, which takes
any number of positions, and a `cpu.kernel` that holds the matrix. What comes out is printed by the target
`c`; tables and code of the kernel are written beside it (`sparsecc compile`).

Refuses functions with any other operation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects import emitc, func
from xdsl.dialects.builtin import (
    ArrayAttr,
    FunctionType,
    IndexType,
    IntegerAttr,
    ModuleOp,
    StringAttr,
    f32,
    i32,
)
from xdsl.ir import Attribute, Block, Region
from xdsl.utils.exceptions import PassFailedException

from sparsecc.codegen.cpu import C_TYPES, result_of, struct_of
from sparsecc.dialects import cpu, sparse
from sparsecc.dialects.sparse_epilogue import epilogue_of
from sparsecc.passes.base import SparsePass

SIZE = emitc.EmitC_OpaqueType(StringAttr("size_t"))


def _pointer(c_type: str) -> Attribute:
    return emitc.EmitC_PointerType(emitc.EmitC_OpaqueType(StringAttr(c_type)))


def _arguments(kernel: cpu.KernelOp) -> tuple[tuple[str, Attribute], ...]:
    """Of the entry point, with their names."""
    x, y = C_TYPES[str(kernel.weight.element_type)], C_TYPES[result_of(kernel)]
    added = (("residual", _pointer("const float")), ("ldr", SIZE)) if kernel.residual is not None else ()
    return (
        ("x", _pointer(f"const {x}")), ("ldx", SIZE), ("y", _pointer(y)), ("ldy", SIZE), ("n", SIZE),
        *added, ("threads", i32),
    )  # fmt: skip


@dataclass(frozen=True)
class ConvertCpuToCPass(SparsePass):
    name = "convert-cpu-to-c"
    summary: ClassVar = "makes products on a CPU C calls: cpu.spmm -> cpu.kernel, func, emitc.call_opaque"
    refuses: ClassVar = "functions that are not one cpu.spmm of their argument, and what is fused to it"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in [f for f in op.ops if isinstance(f, func.FuncOp)]:
            spmm = _only_product(function)
            prefix = "model" if function.sym_name.data == "main" else function.sym_name.data
            (m, k), n = spmm.weight.shape, spmm.res.type.get_shape()[1]
            title = (
                f"C[{m}, n] = W[{m}, {k}] X[{k}, n], {spmm.weight.nnz.data} nonzeros in W, "
                f"{spmm.variant.name}, for {spmm.target.data} and n about {n}"
            )
            kernel = cpu.KernelOp(f"{prefix}_kernel", spmm, title, follows=epilogue_of(spmm.res))
            op.body.block.insert_ops_before([kernel, _entry(f"{prefix}_run", kernel)], function)
            function.detach()
            function.erase()


def _only_product(function: func.FuncOp) -> cpu.SpmmOp:
    """The one product of a function that does nothing else, but for what is fused to it."""
    ops = [o for o in function.body.block.ops if not isinstance(o, sparse.ConstantOp | func.ReturnOp)]
    given = list(function.args)
    if len(ops) == 2 and isinstance(ops[0], cpu.SpmmOp) and isinstance(ops[1], sparse.EpilogueOp):
        added = ops[1].residual
        # Kernels over words are given residuals by networks alone.
        if added is None or (given[1:] == [added] and ops[0].weight.element_type == f32):
            ops, given = ops[:1], given[:1] if added is not None else given
    if len(ops) == 1 and isinstance(ops[0], cpu.SpmmOp) and list(ops[0].operands) == given:
        return ops[0]
    found = ", ".join(o.name for o in ops) or "nothing"
    raise PassFailedException(
        f"@{function.sym_name.data}: found {found}; this pipeline takes functions that are one cpu.spmm of "
        "the function's argument; split the others off"
    )


def _entry(name: str, kernel: cpu.KernelOp) -> func.FuncOp:
    arguments = _arguments(kernel)
    block = Block(arg_types=[t for _, t in arguments])
    for argument, (hint, _) in zip(block.args, arguments, strict=True):
        argument.name_hint = hint
    literal = emitc.EmitC_OpaqueAttr(StringAttr(f"&{kernel.sym_name.data}"))
    places = [IntegerAttr(i, IndexType()) for i in range(len(arguments))]
    function = f"{struct_of(kernel)}_{'call' if kernel.residual is None else 'with'}"
    call = emitc.EmitC_CallOpaqueOp(function, list(block.args), [i32], args=ArrayAttr([literal, *places]))
    block.add_ops([call, func.ReturnOp(call.results[0])])
    return func.FuncOp(name, FunctionType.from_lists(block.arg_types, [i32]), Region(block))
