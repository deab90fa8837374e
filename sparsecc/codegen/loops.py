"""Builds loops and index arithmetic without saying `arith` all the time; folds what is constant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

from xdsl.builder import Builder
from xdsl.dialects import arith, scf
from xdsl.dialects.builtin import FloatAttr, IndexType, IntegerAttr, f32, i1
from xdsl.ir import Attribute, Block, BlockArgument, Operation, Region, SSAValue
from xdsl.rewriter import InsertPoint

from sparsecc.dialects import tu

# An index: known now, or a value of the program.
Index = int | SSAValue

_INDEX = IndexType()
_MAY_WRAP = {"overflowFlags": arith.IntegerOverflowAttr("none")}


@cache
def _number(value: int) -> IntegerAttr[IndexType]:
    return IntegerAttr(value, IndexType())


class Loops:
    """Appends operations to a block. Arithmetic takes and gives `Index`; constants are made when needed."""

    def __init__(self, block: Block):
        self.builder = Builder(InsertPoint.at_end(block))
        self._entry = block
        self._constants: dict[int, SSAValue] = {}

    def insert(self, op: Operation) -> Operation:
        return self.builder.insert(op)

    def value(self, index: Index) -> SSAValue:
        """The index as a value. Constants stand at the start of the function, each once."""
        if isinstance(index, SSAValue):
            return index
        if index not in self._constants:
            op = arith.ConstantOp.create(result_types=(_INDEX,), properties={"value": _number(index)})
            op.result.name_hint = f"c{index}" if index >= 0 else f"m{-index}"
            Builder(InsertPoint.at_start(self._entry)).insert(op)
            self._constants[index] = op.result
        return self._constants[index]

    def named(self, name: str, index: Index) -> Index:
        """The index, called so in the text where it is not known now."""
        if isinstance(index, SSAValue) and index.name_hint is None:
            index.name_hint = name
        return index

    def _binary(
        self, kind: type[Operation], a: Index, b: Index, properties: Mapping[str, Attribute] = {}
    ) -> SSAValue:
        # Not by the constructor, which works out anew for each what any has: a program has thousands.
        operands = (self.value(a), self.value(b))
        op = kind.create(operands=operands, result_types=(_INDEX,), properties=properties)
        return self.builder.insert(op).results[0]

    def add(self, a: Index, b: Index) -> Index:
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        if a == 0 and isinstance(a, int):
            return b
        if b == 0 and isinstance(b, int):
            return a
        return self._binary(arith.AddiOp, a, b, _MAY_WRAP)

    def sub(self, a: Index, b: Index) -> Index:
        if isinstance(a, int) and isinstance(b, int):
            return a - b
        if b == 0 and isinstance(b, int):
            return a
        return self._binary(arith.SubiOp, a, b, _MAY_WRAP)

    def mul(self, a: Index, b: Index) -> Index:
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        for one, other in ((a, b), (b, a)):
            if isinstance(one, int) and one in (0, 1):
                return other if one else 0
        return self._binary(arith.MuliOp, a, b, _MAY_WRAP)

    def div(self, a: Index, b: int) -> Index:
        """a / b, rounded down; a >= 0."""
        if isinstance(a, int):
            return a // b
        return a if b == 1 else self._binary(arith.DivUIOp, a, b)

    def rem(self, a: Index, b: int) -> Index:
        """a modulo b; a >= 0."""
        if isinstance(a, int):
            return a % b
        return 0 if b == 1 else self._binary(arith.RemUIOp, a, b)

    def min(self, a: Index, b: Index) -> Index:
        if isinstance(a, int) and isinstance(b, int):
            return min(a, b)
        return self._binary(arith.MinSIOp, a, b)

    def less(self, a: Index, b: Index) -> SSAValue:
        return self.builder.insert(arith.CmpiOp(self.value(a), self.value(b), "slt")).result

    def flag(self, condition: SSAValue) -> SSAValue:
        """A truth value as index 0 or 1."""
        assert condition.type == i1
        return self.builder.insert(arith.SelectOp(condition, self.value(1), self.value(0))).result

    def lookup(self, table: tu.ConstantOp, at: Index) -> Index:
        """An element of a table; its value where that is known now, or the same everywhere."""
        values = table.array.reshape(-1)
        if isinstance(at, int):
            return int(values[at])
        if len(values) and (values == values[0]).all():
            return int(values[0])
        value = self.builder.insert(tu.LookupOp(table.sym_name.data, at)).value
        value.name_hint = table.sym_name.data.partition("_")[2]
        return value

    def real(self, table: tu.ConstantOp, at: Index) -> SSAValue:
        """An element of a table of floats."""
        values = table.array.reshape(-1)
        if isinstance(at, int) or (values == values[0]).all():
            number = float(values[at if isinstance(at, int) else 0])
            return self.builder.insert(arith.ConstantOp(FloatAttr(number, f32))).result
        value = self.builder.insert(tu.LookupRealOp(table.sym_name.data, at)).value
        value.name_hint = table.sym_name.data.partition("_")[2]
        return value

    def address(self, memory: tu.Memory, row: Index) -> SSAValue:
        return self.builder.insert(tu.AddressOp(memory, self.value(row))).address

    def instruction(self, kind: type[tu.InstructionOp], *operands: Index, comment: str | None = None) -> None:
        self.builder.insert(kind(*(self.value(o) for o in operands), comment=comment))

    def loop(self, first: Index, end: Index, name: str, body: Callable[[Index], None]) -> None:
        """for (name = first; name < end; name++). A loop of one turn is just its body."""
        if isinstance(first, int) and isinstance(end, int) and end - first <= 1:
            if first < end:
                body(first)
            return
        block = Block(arg_types=[IndexType()])
        block.args[0].name_hint = name
        self.builder.insert(scf.ForOp(self.value(first), self.value(end), self.value(1), (), Region(block)))
        self._inside(block, lambda: body(_argument(block)))
        block.add_op(scf.YieldOp.create())

    def when(
        self, condition: SSAValue, body: Callable[[], None], otherwise: Callable[[], None] | None = None
    ) -> None:
        """if (condition) body; else otherwise."""
        then, other = Block(), Block()
        self.builder.insert(scf.IfOp(condition, (), Region(then), Region(other) if otherwise else Region()))
        for block, fill in ((then, body), (other, otherwise)):
            if fill is not None:
                self._inside(block, fill)
                block.add_op(scf.YieldOp.create())

    def _inside(self, block: Block, fill: Callable[[], None]) -> None:
        outer = self.builder
        self.builder = Builder(InsertPoint.at_end(block))
        fill()
        self.builder = outer


def _argument(block: Block) -> BlockArgument:
    return block.args[0]
