"""Programs for crossbars: `program` writes the cells once, `main` multiplies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.dialects.builtin import (
    ArrayAttr,
    FunctionType,
    IndexType,
    IntegerAttr,
    ModuleOp,
    StringAttr,
    i8,
    i32,
    i64,
)
from xdsl.ir import Block, Region, SSAValue

from sparsecc.codegen.loops import Index, Loops
from sparsecc.crossbar.dense import array_count
from sparsecc.crossbar.program import BLOCKS, WRITES, CrossbarProgram
from sparsecc.dialects import tu, xbar
from sparsecc.dialects.sparse_quantization import QUANTIZATION
from sparsecc.epilogue import Epilogue
from sparsecc.target.crossbar import CrossbarTarget

SPAD, ACC = tu.Memory.SPAD, tu.Memory.ACC


@dataclass(frozen=True)
class _Place:
    """Of a panel: its first position, how many, its first row of ACC, whether it is the last of several."""

    column: Index
    columns: Index
    base: Index
    last: SSAValue | None
    index: SSAValue | None
    """Rows of Y, to store those of other panels than the last by."""
    n: Index
    """Positions of X and Y."""


class CrossbarWriter:
    """Writes the two functions of one `xbar.spmm` into a module, in place of the function it computes."""

    def __init__(
        self, function: func.FuncOp, op: xbar.SpmmOp, target: CrossbarTarget, program: CrossbarProgram,
        epilogue: Epilogue | None = None, any_n: bool = False,
    ):  # fmt: skip
        """epilogue: what stores do with the sums, to i8 by scales; None: they are stored as they are.

        any_n: the product takes the number of positions as its last argument, at most those of the operator.
        """
        self.function, self.op, self.target, self.program = function, op, target, program
        self.epilogue, self.any_n = epilogue, any_n
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
        self.scatter = tu.ConstantOp(f"{self.prefix}scatter", program.scatter, i32)
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
        constants = [
            self.cells,
            self.lists,
            self.scatter,
            *([self.gather] if self.gather else []),
            *self.tables.values(),
        ]
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
        p = self.program
        block = Block()
        code = Loops(block)
        pool = self.op.pool(array_count(self.target, self.op.shape))
        if pool.shapes != [(self.target.array.rows, self.target.array.cols)]:
            first = 0
            for count, shape in pool.groups:
                code.instruction(xbar.ShapeOp, first, count, *shape, comment="arrays of this shape")
                first += count
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

    def _outputs(self, code: Loops) -> dict[float, Index]:
        """The conversions of stores, by scale."""
        relu = self.epilogue is not None and self.epilogue.relu
        handle: dict[float, Index] = {}
        for scale in dict.fromkeys(self._scales().tolist()):
            op = tu.OutputOp(i8, scale, relu)
            handle[scale] = code.builder.insert(op).handle
            op.handle.name_hint = "to_i8"
        return handle

    def _runs(self) -> list[tuple[int, int, int, float]]:
        """(first row in ACC, first row of Y, rows, scale) of each store: runs of rows of the same scale."""
        scales = self._scales()
        found: list[tuple[int, int, int, float]] = []
        names = ("store_from", "store_to", "store_rows")
        for at, to, rows in zip(*(self.program.tables[name].tolist() for name in names), strict=True):
            cuts = np.flatnonzero(np.diff(scales[to : to + rows])) + 1
            for first, end in zip([0, *cuts.tolist()], [*cuts.tolist(), rows], strict=True):
                found.append((at + first, to + first, end - first, float(scales[to + first])))
        return found

    def _store(self, code: Loops, y: SSAValue, outputs: dict[float, Index], place: _Place) -> None:
        """Store the sums of a panel, the rows of zeros first: they are there before arrays are done."""
        p, t = self.program, self.tables
        done = "store Y" if self.epilogue is None else "store rows of Y, scaled"

        def store(at: Index, to: Index, rows: Index, output: Index) -> None:
            code.instruction(
                tu.StOp, y, code.add(place.column, code.mul(to, place.n)), place.n,
                code.address(ACC, code.add(place.base, at)), p.y_rows, rows, place.columns, output,
                comment=done,
            )  # fmt: skip

        if len(outputs) > 1:
            for at, to, rows, scale in self._runs():
                store(at, to, rows, outputs[scale])
            return
        output = next(iter(outputs.values()), 0)
        runs = len(p.tables["store_from"])

        def by_run() -> None:
            def run(s: Index) -> None:
                at, to, rows = (code.lookup(t[name], s) for name in ("store_from", "store_to", "store_rows"))
                store(at, to, rows, output)

            code.loop(0, runs, "s", run)

        def by_index() -> None:
            for at, first, rows in ((p.zeros_at, p.written, self.m - p.written), (0, 0, p.written)):
                code.instruction(
                    tu.StsOp, y, place.column, place.n, cast(SSAValue, place.index), first,
                    code.address(ACC, code.add(place.base, at)), p.y_rows, rows, place.columns, output, 0,
                    comment=done,
                )  # fmt: skip

        if place.last is None or place.index is None:
            by_run()
        else:
            code.when(place.last, by_run, by_index)

    def _main(self) -> func.FuncOp:
        p, width = self.program, self.program.panel
        result = i32 if self.epilogue is None else i8
        block = Block(
            arg_types=[
                tu.BufferType((self.k, self.n), i8),
                tu.BufferType((self.m, self.n), result),
                *([IndexType()] if self.any_n else []),
            ]
        )
        for value, name in zip(block.args, ("x", "y", "n"), strict=False):
            value.name_hint = name
        x, y = block.args[:2]
        n: Index = block.args[2] if self.any_n else self.n
        code, t = Loops(block), self.tables
        cells = self._buffer(code, self.cells, "cells") if p.rounds > 1 else None
        gather = self._buffer(code, self.gather, "rows") if self.gather else None
        outputs = self._outputs(code)
        panels: Index = 1
        if self.n > width:
            panels = code.named("panels", code.div(code.add(n, width - 1), width))
        # More stores than the queue takes keep what follows from being issued; nothing follows the last
        # panel.
        many = len(outputs) < 2 and len(p.tables["store_from"]) > self.target.queues.store // 2
        index = self._buffer(code, self.scatter, "rows_of_y") if many and panels != 1 else None
        ahead = p.panels_ahead

        def panel(number: Index) -> None:
            column = code.named("column", code.mul(number, width))
            columns = n if panels == 1 else code.named("columns", code.min(width, code.sub(n, column)))
            turn = code.rem(number, ahead)
            x_base = code.named("x_base", code.mul(turn, p.x_panel))
            y_base = code.named("y_base", code.mul(turn, p.y_panel))
            src, dst = code.address(SPAD, x_base), code.address(ACC, y_base)
            if p.blocks and gather is None:
                code.instruction(tu.LdOp, src, p.x_rows, x, column, n, p.x_rows, columns, comment="rows of X")
            elif p.blocks:
                code.instruction(
                    tu.LdgOp, src, p.x_rows, x, column, n, cast(SSAValue, gather), 0, p.x_rows, columns,
                    comment="the rows of X that are used",
                )  # fmt: skip

            def zeros(z: Index) -> None:
                def fill(j: Index) -> None:
                    row = code.add(code.add(y_base, code.mul(j, p.y_rows)), code.lookup(t["zero_first"], z))
                    code.instruction(
                        tu.FillOp, code.address(ACC, row), code.lookup(t["zero_rows"], z), 0,
                        comment="sums that begin at 0",
                    )  # fmt: skip

                code.loop(0, p.panel_blocks, "j", fill)

            code.loop(0, len(p.tables["zero_first"]), "z", zeros)

            alone = p.bundles == p.blocks

            def multiply(b: Index) -> None:
                operands = (src, p.x_rows, dst, p.y_rows, columns, code.lookup(t["bundle_adds"], b))
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
                    xbar.MvmgOp, 0, p.blocks_at_once, src, p.x_rows, dst, p.y_rows, columns, 0,
                    comment="the first of each array at once",
                )  # fmt: skip
                code.loop(p.at_once, p.bundles, "b", multiply)
            else:
                code.loop(0, p.rounds, "r", one_round)
            last = code.less(code.sub(panels, 2), number) if panels != 1 else None
            self._store(code, y, outputs, _Place(column, columns, y_base, last, index, n))

        code.loop(0, panels, "p", panel)
        code.insert(func.ReturnOp())
        entry = func.FuncOp(
            self.function.sym_name.data, FunctionType.from_lists(block.arg_types, ()), Region(block)
        )
        if (quantization := self.op.attributes.get(QUANTIZATION)) is not None:
            entry.attributes[QUANTIZATION] = quantization
        entry.attributes["tu.target"] = StringAttr(self.target.name)
        rows = (
            p.x_panel * (ahead - 1) + p.x_rows * p.panel_blocks,
            p.y_panel * (ahead - 1) + p.y_rows * p.panel_blocks,
        )
        needs = (self.target.array.rows, self.target.array.cols, *rows)
        entry.attributes["tu.needs"] = ArrayAttr(IntegerAttr(v, i64) for v in needs)
        columns_text = f"n <= {self.n}" if self.any_n else str(self.n)
        title = (
            f"C[{self.m}, {columns_text}] = W[{self.m}, {self.k}] X[{self.k}, {columns_text}], "
            f"{self.op.weight.nnz.data} nonzeros in W, on {self.target.name}"
        )
        entry.attributes["tu.title"] = StringAttr(title)
        return entry
