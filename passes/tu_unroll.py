"""Writes a small program out instruction by instruction.

Turns a function of `tu` instructions in loops into the same instructions in a row, all operands constant,
when it executes at most `limit` of them: then the C that comes out is read from top to bottom. Larger
functions are left alone. Refuses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects import arith, func
from xdsl.dialects.builtin import FloatAttr, ModuleOp, StringAttr, SymbolRefAttr, f32
from xdsl.ir import Block, Operation, Region, SSAValue

from sparsecc.codegen.loops import Loops
from sparsecc.dialects import tu
from sparsecc.interpreters.tu import ROW_MASK, memory_of, trace
from sparsecc.passes.base import SparsePass


@dataclass(frozen=True)
class TuUnrollPass(SparsePass):
    name = "tu-unroll"
    summary: ClassVar = "writes small programs out: loops of tu instructions -> the instructions in a row"
    refuses: ClassVar = "nothing; programs of more than `limit` instructions are left alone"
    option_help: ClassVar = {"limit": "most instructions that are written out; 0 for none"}

    limit: int = 256

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in [f for f in op.ops if isinstance(f, func.FuncOp) and f.sym_visibility is None]:
            executed = trace(op, function.sym_name.data, self.limit + 1)
            if len(executed.instructions) <= self.limit:
                _write_out(op, function, executed.instructions, executed.constants)


def _write_out(
    module: ModuleOp,
    function: func.FuncOp,
    instructions: list[tuple[tu.InstructionOp, list[int]]],
    constants: list[tu.ConstantOp],
) -> None:
    arguments = function.body.block.args
    block = Block(arg_types=[a.type for a in arguments])
    for new, old in zip(block.args, arguments, strict=True):
        new.name_hint = old.name_hint
    loops = Loops(block)
    buffers: dict[int, SSAValue] = dict(enumerate(block.args))
    outputs: dict[SSAValue, SSAValue] = {}

    def operand(old: SSAValue, value: int) -> SSAValue:
        if isinstance(old.type, tu.AddressType):
            return loops.address(memory_of(value), value & ROW_MASK)
        if isinstance(old.type, tu.BufferType):
            if value not in buffers:
                buffer = loops.builder.insert(tu.BufferOp(constants[value - len(arguments)])).buffer
                buffer.name_hint = old.name_hint
                buffers[value] = buffer
            return buffers[value]
        if isinstance(old.owner, tu.OutputOp):
            if old not in outputs:
                outputs[old] = loops.builder.insert(old.owner.clone()).handle
            return outputs[old]
        if old.type == f32:
            return loops.builder.insert(arith.ConstantOp(FloatAttr(value, f32))).result
        return loops.value(value)

    for op, values in instructions:
        operands = [operand(o, v) for o, v in zip(op.operands, values, strict=True)]
        new = type(op)(*operands)
        new.comment = StringAttr(op.comment.data) if op.comment else None
        loops.insert(new)
    loops.insert(func.ReturnOp())
    new_function = func.FuncOp(function.sym_name.data, function.function_type, Region(block))
    new_function.attributes |= function.attributes
    module.body.block.insert_op_before(new_function, function)
    function.detach()
    function.erase()
    _drop_unused(module)


def _drop_unused(module: ModuleOp) -> None:
    """Remove private functions and constants that nothing refers to any more."""
    for kind in (func.FuncOp, tu.ConstantOp):  # in this order: what a function leaves behind goes, too
        used = {symbol.string_value() for op in module.walk() for symbol in _symbols(op)}
        for op in [op for op in module.ops if isinstance(op, kind)]:
            is_private = isinstance(op, tu.ConstantOp) or op.sym_visibility is not None
            if is_private and op.sym_name.data not in used:
                op.detach()
                op.erase()


def _symbols(op: Operation) -> list[SymbolRefAttr]:
    """What an operation refers to by name."""
    return [attribute for attribute in op.properties.values() if isinstance(attribute, SymbolRefAttr)]
