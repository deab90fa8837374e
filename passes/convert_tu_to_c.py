"""Turns machine programs to calls of the simulator's C interface.

Every `tu` instruction becomes a call in the macro AX, which returns on an error; table lookups become loads
from constant arrays, addresses the macros AX_SPAD, AX_ACC, AX_L0A, AX_L0B, and every function gets the
machine as its first argument and returns 0 when all went well. Loops and arithmetic stay as they are. What
comes out is printed by the target `c`.

Refuses operations that are neither `tu` nor upstream `func`, `scf`, `arith`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects import arith, emitc, func, memref, scf
from xdsl.dialects.builtin import (
    ArrayAttr,
    FunctionType,
    IndexType,
    IntegerAttr,
    MemRefType,
    ModuleOp,
    StringAttr,
    SymbolRefAttr,
    f32,
    i32,
)
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.rewriter import Rewriter

from sparsecc.dialects import tu
from sparsecc.passes.base import SparsePass, refuse

MACHINE = emitc.EmitC_PointerType(emitc.EmitC_OpaqueType(StringAttr("ax_machine")))
ADDRESS = emitc.EmitC_OpaqueType(StringAttr("uint32_t"))
# What C calls the functions that others call: `main` is the program's own entry.
ENTRIES = {"main": "model_infer", "program": "model_program"}


@dataclass(frozen=True)
class ConvertTuToCPass(SparsePass):
    name = "convert-tu-to-c"
    summary: ClassVar = (
        "makes instructions C calls: tu in loops -> func, scf, arith, memref, emitc.call_opaque"
    )
    refuses: ClassVar = "operations that are neither tu nor func, scf, arith"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in [f for f in op.ops if isinstance(f, func.FuncOp)]:
            _convert_function(function)


def _c_type(t: Attribute) -> Attribute:
    """Buffers are handles, addresses words, everything else stays."""
    if isinstance(t, tu.BufferType):
        return i32
    return ADDRESS if isinstance(t, tu.AddressType) else t


def _c_name(name: str) -> str:
    return ENTRIES.get(name, name)


def _convert_function(function: func.FuncOp) -> None:
    block = function.body.block
    machine = block.insert_arg(MACHINE, 0)
    machine.name_hint = "m"
    for op in list(function.walk()):
        if op is not function:
            _convert(op, machine)
    for argument in block.args:
        Rewriter.replace_value_with_new_type(argument, _c_type(argument.type))
    function.properties["function_type"] = FunctionType.from_lists([a.type for a in block.args], [i32])
    function.properties["sym_name"] = StringAttr(_c_name(function.sym_name.data))


def _checked_call(op: Operation, callee: str | SymbolRefAttr, operands: list[SSAValue]) -> list[Operation]:
    """A call whose result is handed to AX, which returns from the function unless it is 0."""
    if isinstance(callee, str):
        call: Operation = emitc.EmitC_CallOpaqueOp(callee, operands, [i32])
    else:
        call = func.CallOp(callee, operands, [i32])
    return [call, emitc.EmitC_CallOpaqueOp("AX", [call.results[0]], [])]


def _convert(op: Operation, machine: SSAValue) -> None:
    match op:
        case tu.InstructionOp():
            new = _checked_call(op, op.c_name, [machine, *op.operands])
            if op.comment is not None:
                new[-1].attributes["comment"] = op.comment
            Rewriter.replace_op(op, new, [])
        case tu.LookupOp():
            shape = op.constant.type.get_shape()
            table = memref.GetGlobalOp(op.table.string_value(), MemRefType(i32, shape))
            load = memref.LoadOp.get(table, [op.at])
            index = arith.IndexCastOp(load, IndexType())
            index.result.name_hint = op.value.name_hint
            Rewriter.replace_op(op, [table, load, index])
        case tu.LookupRealOp():
            table = memref.GetGlobalOp(op.table.string_value(), MemRefType(f32, op.constant.type.get_shape()))
            load = memref.LoadOp.get(table, [op.at])
            load.res.name_hint = op.value.name_hint
            Rewriter.replace_op(op, [table, load])
        case tu.AddressOp():
            macro = f"AX_{op.memory.data.value.upper()}"
            Rewriter.replace_op(op, emitc.EmitC_CallOpaqueOp(macro, [op.row], [ADDRESS]))
        case tu.BufferOp():
            name, buffer = op.constant_name.string_value(), op.constant.type
            count = 1
            for d in buffer.get_shape():
                count *= d
            literals: list[Attribute] = [
                IntegerAttr(0, IndexType()),
                StringAttr(name),
                emitc.EmitC_OpaqueAttr(StringAttr(f"(void *)(uintptr_t){name}")),
                IntegerAttr(count, i32),
                emitc.EmitC_OpaqueAttr(StringAttr(f"AX_{str(buffer.element_type).upper()}")),
            ]
            call = emitc.EmitC_CallOpaqueOp("ax_buffer", [machine], [i32], args=ArrayAttr(literals))
            call.results[0].name_hint = op.buffer.name_hint or name
            Rewriter.replace_op(op, call)
        case tu.OutputOp():
            element, scale, relu = op.conversion
            texts = [f"AX_{element.upper()}", scale.hex(), "AX_ACT_RELU" if relu else "AX_ACT_NONE"]
            arguments: list[Attribute] = [IntegerAttr(0, IndexType())]
            arguments += [emitc.EmitC_OpaqueAttr(StringAttr(text)) for text in texts]
            call = emitc.EmitC_CallOpaqueOp("ax_output", [machine], [i32], args=ArrayAttr(arguments))
            call.results[0].name_hint = op.handle.name_hint or "output"
            Rewriter.replace_op(op, call)
        case func.CallOp():
            callee = SymbolRefAttr(_c_name(op.callee.string_value()))
            Rewriter.replace_op(op, _checked_call(op, callee, [machine, *op.arguments]), [])
        case func.ReturnOp():
            zero = arith.ConstantOp(IntegerAttr(0, i32))
            Rewriter.replace_op(op, [zero, func.ReturnOp(zero)])
        case scf.ForOp() | scf.IfOp() | scf.YieldOp():
            pass
        case _ if op.name.startswith("arith."):
            pass
        case _:
            refuse(op, "has no form in C; lower it to tu, func, scf or arith first")
