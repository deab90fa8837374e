"""What every program for a tensor unit has in common: its constants, its buffers, its place in the module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, FunctionType, IntegerAttr, ModuleOp, StringAttr, f32, i32, i64
from xdsl.ir import Block, Region, TypeAttribute

from sparsecc.codegen.loops import Index, Loops
from sparsecc.codegen.stores import Store, store_of
from sparsecc.dialects import tu
from sparsecc.dialects.sparse import SpmmOp
from sparsecc.dialects.sparse_epilogue import epilogue_of
from sparsecc.target import Target


class ProgramWriter(ABC):
    """Writes one program into a module, in place of the function it computes."""

    title: str
    """What the program computes, in one line."""

    def __init__(self, function: func.FuncOp, target: Target, program: object, tables: Iterable[str]):
        self.function, self.target, self.array = function, target, target.array
        # Functions of one module have tables of their own.
        self.prefix = "" if function.sym_name.data == "main" else f"{function.sym_name.data}_"
        self.tables = {
            name: tu.ConstantOp(
                f"{self.prefix}{name}", cast("NDArray[np.generic]", getattr(program, name)), i32
            )
            for name in tables
        }
        self.constants = list(self.tables.values())
        self.fetch_name = f"{self.prefix}fetch"

    @abstractmethod
    def functions(self) -> list[func.FuncOp]:
        """The program: private functions, and the one that takes the place of the operator's."""

    def emit(self, module: ModuleOp) -> None:
        """Replace the function; constants that the program does not use are left out."""
        functions = self.functions()
        used: set[str] = set()
        for op in (op for f in functions for op in f.walk()):
            if isinstance(op, tu.LookupOp | tu.LookupRealOp):
                used.add(op.table.string_value())
            elif isinstance(op, tu.BufferOp):
                used.add(op.constant_name.string_value())
        constants = [c for c in self.constants if c.sym_name.data in used]
        module.body.block.insert_ops_before([*constants, *functions], self.function)
        self.function.detach()
        self.function.erase()

    def entry(self, block: Block, loops: Loops, spad_rows: int, acc_rows: int) -> func.FuncOp:
        """The function of a block that takes inputs and output; it needs so many rows of the memories."""
        loops.insert(func.ReturnOp())
        function_type = FunctionType.from_lists(block.arg_types, ())
        entry = func.FuncOp(self.function.sym_name.data, function_type, Region(block))
        entry.attributes["tu.target"] = StringAttr(self.target.name)
        needs = (self.array.rows, self.array.cols, spad_rows, acc_rows)
        entry.attributes["tu.needs"] = ArrayAttr(IntegerAttr(v, i64) for v in needs)
        entry.attributes["tu.title"] = StringAttr(f"{self.title}, on {self.target.name}")
        return entry


class SpmmWriter(ProgramWriter):
    """A program of one `sparse.spmm`: X in, Y out, the weights packed as the program wants them."""

    def __init__(
        self,
        function: func.FuncOp,
        spmm: SpmmOp,
        target: Target,
        program: object,
        weights: NDArray[np.generic],
        tables: Iterable[str],
    ):
        super().__init__(function, target, program, tables)
        self.m, self.n, self.k = spmm.space
        element, result = spmm.weight.element_type, cast(TypeAttribute, spmm.res.type.element_type)
        self.store: Store | None = None
        if (fused := epilogue_of(spmm.res)) is not None:
            self.store = store_of(fused.epilogue, str(result))
            assert self.store is not None, "an epilogue that stores do"
            result = cast(TypeAttribute, fused.res.type.element_type)
        self.x_type = tu.BufferType((self.k, self.n), element)
        self.y_type = tu.BufferType((self.m, self.n), result)
        self.weights = tu.ConstantOp(f"{self.prefix}weights", weights, element)
        self.constants.insert(0, self.weights)
        self.bias: tu.ConstantOp | None = None
        self.title = (
            f"C[{self.m}, {self.n}] = W[{self.m}, {self.k}] X[{self.k}, {self.n}], {spmm.weight.nnz.data} "
            "nonzeros in W"
        )

    def set_bias(self, rows: NDArray[np.int32]) -> None:
        """The bias as a table by places of the row order, where there is one; rows: their rows, or none."""
        if self.store is not None and self.store.bias is not None:
            bias = self.store.bias[rows] if len(rows) else self.store.bias
            element = i32 if bias.dtype == np.int32 else f32
            self.bias = tu.ConstantOp(f"{self.prefix}row_bias", bias, element)
            self.constants.append(self.bias)

    def conversion(self, code: Loops) -> Index:
        """The handle of the stores' conversion, 0 where there is none."""
        if self.store is None or not self.store.converted:
            return 0
        conversion = tu.OutputOp(self.y_type.element_type, self.store.scale, self.store.relu)
        handle = code.builder.insert(conversion).handle
        handle.name_hint = "output"
        return handle

    def fill_bias(
        self, code: Loops, base: Index, row: Index, rows: Index, block_rows: int, tiles: Index
    ) -> None:
        """Accumulators of a block of rows begin with the bias of their rows, in all column tiles."""
        assert self.bias is not None
        bias = self.bias

        def of_row(r: Index) -> None:
            place = code.add(row, r)
            real = bias.type.element_type == f32
            value = code.real(bias, place) if real else code.lookup(bias, place)
            fill = tu.FillRealOp if real else tu.FillOp
            at = code.address(tu.Memory.ACC, code.add(base, r))
            code.instruction(fill, at, 1, value, comment="start from the bias")

        def of_tile(j: Index) -> None:
            to = code.address(tu.Memory.ACC, code.add(base, code.mul(j, block_rows)))
            first = code.address(tu.Memory.ACC, base)
            code.instruction(tu.MvOp, to, 0, first, 0, rows, 1, comment="as the first column tile")

        code.loop(0, rows, "r", of_row)
        code.loop(1, tiles, "j", of_tile)
