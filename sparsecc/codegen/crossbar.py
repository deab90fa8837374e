"""Programs for crossbars: `program` writes the cells once, `main` multiplies."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, FunctionType, IntegerAttr, ModuleOp, StringAttr, i8, i32, i64
from xdsl.ir import Block, Region, SSAValue

from sparsecc.codegen.loops import Index, Loops
from sparsecc.crossbar.program import BLOCKS, WRITES, CrossbarProgram
from sparsecc.dialects import tu, xbar
from sparsecc.epilogue import Epilogue
from sparsecc.target.crossbar import CrossbarTarget

SPAD, ACC = tu.Memory.SPAD, tu.Memory.ACC


class CrossbarWriter:
    """Writes the two functions of one `xbar.spmm` into a module, in place of the function it computes."""

    def __init__(
        self, function: func.FuncOp, op: xbar.SpmmOp, target: CrossbarTarget, program: CrossbarProgram,
        epilogue: Epilogue | None = None,
    ):  # fmt: skip
        """epilogue: what stores do with the sums, to i8 by scales; None: they are stored as they are."""
        self.function, self.op, self.target, self.program = function, op, target, program
        self.epilogue = epilogue
        name = function.sym_name.data
        self.prefix = "" if name == "main" else f"{name}_"
        self.tables = {
            name: tu.ConstantOp(f"{self.prefix}{name}", table, i32) for name, table in program.tables.items()
        }
        self.cells = tu.ConstantOp(f"{self.prefix}cells", program.cells, i8)
        self.lists = tu.ConstantOp(f"{self.prefix}lists", self._or_one(program.lists), i32)
        self.gather = (
            tu.ConstantOp(f"{self.prefix}gather", program.gather, i32) if len(program.gather) else None
        )
        self.m, self.n, self.k = op.space

    @staticmethod
    def _or_one(values: NDArray[np.int32]) -> NDArray[np.int32]:
        """A buffer of no element cannot be registered."""
        return values if len(values) else np.zeros(1, np.int32)

    def emit(self, module: ModuleOp) -> None:
        """Replace the function; constants that the program does not use are left out."""
        functions = [self._program(), self._main()]
        used: set[str] = set()
        for op in (op for f in functions for op in f.walk()):
            if isinstance(op, tu.LookupOp):
                used.add(op.table.string_value())
            elif isinstance(op, tu.BufferOp):
                used.add(op.constant_name.string_value())
        constants = [self.cells, self.lists, *([self.gather] if self.gather else []), *self.tables.values()]
        kept = [c for c in constants if c.sym_name.data in used]
        module.body.block.insert_ops_before([*kept, *functions], self.function)
        self.function.detach()
        self.function.erase()

    def _buffer(self, code: Loops, constant: tu.ConstantOp, name: str) -> SSAValue:
        buffer = code.builder.insert(tu.BufferOp(constant)).buffer
        buffer.name_hint = name
        return buffer

    def _write(self, code: Loops, cells: SSAValue, first: Index, end: Index) -> None:
        """Program the tiles from `first` to `end`."""

        def write(t: Index) -> None:
            array, row, rows, column, columns, at = (code.lookup(self.tables[name], t) for name in WRITES)
            code.instruction(
                xbar.ProgOp, array, row, rows, column, columns, cells, at, columns, comment="levels of a tile"
            )

        code.loop(first, end, "t", write)

    def _program(self) -> func.FuncOp:
        p, shape = self.program, self.op.shape
        block = Block()
        code = Loops(block)
        if shape != (self.target.array.rows, self.target.array.cols):
            count = self.target.array.count * self.target.array.rows * self.target.array.cols
            code.instruction(
                xbar.ShapeOp, 0, count // (shape[0] * shape[1]), *shape, comment="arrays of this shape"
            )
        if p.rounds == 1:
            cells = self._buffer(code, self.cells, "cells")
            self._write(code, cells, 0, p.writes)
        if p.blocks:
            lists = self._buffer(code, self.lists, "lists")

            def configure(t: Index) -> None:
                v = {name: code.lookup(self.tables[name], t) for name in BLOCKS}
                code.instruction(
                    xbar.CfgOp, t, v["block_array"], v["block_row"], v["block_rows"], v["block_column"],
                    v["block_columns"], v["block_in"], v["block_out"], v["block_shift"], v["block_adc"],
                    v["block_offset"], lists, v["block_inputs"], v["block_outputs"], v["block_doubled"],
                    v["block_flipped"],
                )  # fmt: skip

            code.loop(0, p.blocks, "t", configure)
        code.instruction(xbar.DoneOp, comment="what follows is inference")
        code.insert(func.ReturnOp())
        name = "program" if not self.prefix else f"{self.prefix}program"
        return func.FuncOp(name, FunctionType.from_lists((), ()), Region(block))

    def _scales(self) -> NDArray[np.float32]:
        """What each row of sums is multiplied by as it is stored, [m]; empty where it is not."""
        found = None if self.epilogue is None else self.epilogue.scale
        return np.zeros(0, np.float32) if found is None else np.broadcast_to(found, self.m)

    def _stores(self, code: Loops) -> list[tuple[int, int, Index]]:
        """First row, rows and conversion of each store of Y: runs of rows of the same scale."""
        scales = self._scales()
        if not len(scales):
            return [(0, self.m, 0)]
        relu = self.epilogue is not None and self.epilogue.relu
        handle: dict[float, SSAValue] = {}
        for scale in dict.fromkeys(scales.tolist()):
            handle[scale] = code.builder.insert(tu.OutputOp(i8, scale, relu)).handle
            handle[scale].name_hint = "to_i8"
        first = np.flatnonzero(np.concatenate([[True], scales[1:] != scales[:-1]]))
        ends = np.append(first[1:], self.m)
        return [(int(a), int(b - a), handle[float(scales[a])]) for a, b in zip(first, ends, strict=True)]

    def _main(self) -> func.FuncOp:
        p, width = self.program, self.program.panel
        result = i32 if self.epilogue is None else i8
        block = Block(
            arg_types=[tu.BufferType((self.k, self.n), i8), tu.BufferType((self.m, self.n), result)]
        )
        x, y = block.args
        x.name_hint, y.name_hint = "x", "y"
        code, t = Loops(block), self.tables
        cells = self._buffer(code, self.cells, "cells") if p.rounds > 1 else None
        gather = self._buffer(code, self.gather, "rows") if self.gather else None
        stores = self._stores(code)
        panels = -(-self.n // width)
        ahead = p.panels_ahead

        def panel(number: Index) -> None:
            column = code.named("column", code.mul(number, width))
            columns = (
                self.n if panels == 1 else code.named("columns", code.min(width, code.sub(self.n, column)))
            )
            turn = code.rem(number, ahead)
            x_base = code.named("x_base", code.mul(turn, p.x_rows * p.panel_blocks))
            y_base = code.named("y_base", code.mul(turn, self.m * p.panel_blocks))
            src, dst = code.address(SPAD, x_base), code.address(ACC, y_base)
            if p.blocks and gather is None:
                code.instruction(
                    tu.LdOp, src, p.x_rows, x, column, self.n, p.x_rows, columns, comment="rows of X"
                )
            elif p.blocks:
                code.instruction(
                    tu.LdgOp, src, p.x_rows, x, column, self.n, cast(SSAValue, gather), 0, p.x_rows, columns,
                    comment="the rows of X that are used",
                )  # fmt: skip

            def zeros(z: Index) -> None:
                def fill(j: Index) -> None:
                    row = code.add(code.add(y_base, code.mul(j, self.m)), code.lookup(t["zero_first"], z))
                    code.instruction(
                        tu.FillOp, code.address(ACC, row), code.lookup(t["zero_rows"], z), 0,
                        comment="sums that begin at 0",
                    )  # fmt: skip

                code.loop(0, p.panel_blocks, "j", fill)

            code.loop(0, len(p.tables["zero_first"]), "z", zeros)

            alone = p.bundles == p.blocks

            def multiply(b: Index) -> None:
                operands = (src, p.x_rows, dst, self.m, columns, code.lookup(t["bundle_adds"], b))
                comment = "adds to the sums, or begins them"
                if alone:
                    code.instruction(xbar.MvmOp, b, *operands, comment=comment)
                else:
                    first, count = (code.lookup(t[name], b) for name in ("bundle_block", "bundle_blocks"))
                    code.instruction(xbar.MvmgOp, first, count, *operands, comment=comment)

            def one_round(r: Index) -> None:
                after = code.add(r, 1)
                if cells is not None:
                    first, end = (code.lookup(t["round_write"], at) for at in (r, after))
                    self._write(code, cells, first, end)
                first, end = (code.lookup(t["round_bundle"], at) for at in (r, after))
                code.loop(first, end, "b", multiply)

            if p.at_once:
                code.instruction(
                    xbar.MvmgOp, 0, p.blocks_at_once, src, p.x_rows, dst, self.m, columns, 0,
                    comment="the first of each array at once",
                )  # fmt: skip
                code.loop(p.at_once, p.bundles, "b", multiply)
            else:
                code.loop(0, p.rounds, "r", one_round)
            for first, rows, output in stores:
                src_row = code.address(ACC, code.add(y_base, first)) if first else dst
                code.instruction(
                    tu.StOp, y, code.add(column, first * self.n), self.n, src_row, self.m, rows, columns,
                    output, comment="store Y" if self.epilogue is None else "store rows of Y, scaled",
                )  # fmt: skip

        code.loop(0, panels, "p", panel)
        code.insert(func.ReturnOp())
        entry = func.FuncOp(
            self.function.sym_name.data, FunctionType.from_lists(block.arg_types, ()), Region(block)
        )
        entry.attributes["tu.target"] = StringAttr(self.target.name)
        rows = p.x_rows * p.panel_blocks * ahead, self.m * p.panel_blocks * ahead
        needs = (self.target.array.rows, self.target.array.cols, *rows)
        entry.attributes["tu.needs"] = ArrayAttr(IntegerAttr(v, i64) for v in needs)
        title = (
            f"C[{self.m}, {self.n}] = W[{self.m}, {self.k}] X[{self.k}, {self.n}], {self.op.weight.nnz.data} "
            f"nonzeros in W, on {self.target.name}"
        )
        entry.attributes["tu.title"] = StringAttr(title)
        return entry
