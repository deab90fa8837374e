"""Selects instructions for a sparse operator on a dense tensor unit.

Turns a function that is one `sparse.spmm` into a program of `tu` instructions in loops over tables:

- the output rows are cut to blocks of which the accumulators hold several, so that one is stored while the
  next is computed; the weights are packed tile by tile in the order of use and fetched some steps ahead into
  a ring of slots; tiles of X stay in the scratchpad as long as Belady's rule says;
- all meta-ops of a block of rows run one after another into its accumulators. On a single unit the order of
  the groups is thereby dissolved: partial results never leave the accumulators;
- X is stationary: a tile of rows of X is preloaded, the rows of W stream through it (`ws`), or both go to
  fragments (`mma`).

Refuses functions with any other operation, types the target does not have, row lists that overlap without
being equal, and memories too small for two blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import (
    ArrayAttr,
    FunctionType,
    IndexType,
    IntegerAttr,
    ModuleOp,
    StringAttr,
    i32,
    i64,
)
from xdsl.ir import Attribute, Block, Region, SSAValue, TypeAttribute
from xdsl.utils.exceptions import PassFailedException

from sparsecc.codegen.loops import Index, Loops
from sparsecc.dialects import tu
from sparsecc.dialects.sparse import ConstantOp, SpmmOp
from sparsecc.errors import UserError
from sparsecc.passes.base import SparsePass, refuse
from sparsecc.schedule.cost import best_plan
from sparsecc.schedule.tables import Program, build
from sparsecc.target import Target

SPAD, ACC, L0A, L0B = tu.Memory.SPAD, tu.Memory.ACC, tu.Memory.L0A, tu.Memory.L0B


@dataclass(frozen=True)
class ConvertSparseToTuPass(SparsePass):
    name = "convert-sparse-to-tu"
    summary: ClassVar = "selects instructions: a function of one sparse.spmm -> loops of tu instructions"
    refuses: ClassVar = "functions with other operations, types or sizes that the target cannot hold"
    option_help: ClassVar = {"target": "preset or .toml file to select instructions for"}

    target: str = "gemmini16"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        target = Target.load(self.target)
        for function in [f for f in op.ops if isinstance(f, func.FuncOp)]:
            spmm = _only_spmm(function)
            try:
                program = _program(spmm, target)
            except UserError as e:
                refuse(spmm, str(e))
            _Emitter(op, function, spmm, target.with_type(_in_type(spmm, target)), program).emit()


def _only_spmm(function: func.FuncOp) -> SpmmOp:
    """The one operator of a function that does nothing else."""
    ops = [o for o in function.body.block.ops if not isinstance(o, ConstantOp)]
    for op in ops:
        if not isinstance(op, SpmmOp | func.ReturnOp):
            raise PassFailedException(
                f"@{function.sym_name.data}: {op.name} has no instructions on a tensor unit; this pipeline "
                "takes functions that are one matmul with a constant operand; split the others off"
            )
    spmms = [o for o in ops if isinstance(o, SpmmOp)]
    if len(spmms) != 1 or spmms[0].x is not function.body.block.args[0]:
        raise PassFailedException(
            f"@{function.sym_name.data}: found {len(spmms)} sparse.spmm; this pipeline takes functions that "
            "are one sparse.spmm of the function's argument"
        )
    return spmms[0]


def _in_type(spmm: SpmmOp, target: Target) -> str:
    found = str(spmm.weight.element_type)
    result = str(spmm.res.type.element_type)
    known = [f"{i}:{a}" for i, a in target.types]
    if f"{found}:{result}" not in known:
        raise UserError(
            f"{found} to {result} is not a type pair of target {target.name}; it has {', '.join(known)}"
        )
    return found


def _program(spmm: SpmmOp, target: Target) -> Program:
    target = target.with_type(_in_type(spmm, target))
    weight = spmm.weight
    plan = best_plan(spmm.cover(), weight.shape[0], spmm.positions, target)
    return build(plan, weight.pattern, weight.data, spmm.positions, target)


class _Emitter:
    """Writes one program into a module, in place of the function it computes."""

    def __init__(
        self, module: ModuleOp, function: func.FuncOp, spmm: SpmmOp, target: Target, program: Program
    ):
        self.module, self.function, self.program, self.target = module, function, program, target
        self.array = target.array
        self.knobs = program.knobs
        element, result = spmm.weight.element_type, cast(TypeAttribute, spmm.res.type.element_type)
        self.x_type = tu.BufferType((program.k, program.n), element)
        self.y_type = tu.BufferType((program.m, program.n), result)
        self.weights = self._constant("weights", program.weights, element)
        self.gather = self._table("gather") if len(program.gather) else None
        self.scatter = self._table("scatter") if len(program.scatter) else None
        self.tables = {
            name: self._table(name)
            for name in (
                "block_first", "block_row", "block_rows", "zero_first", "zero_row", "zero_rows",
                "step_first", "fetch_first", "step_row", "step_rows", "step_weight", "step_band_start",
                "tile_x", "tile_rows", "load_x", "load_row", "load_rows", "load_listed",
            )
        }  # fmt: skip
        self.listed = program.load_listed
        self.nnz = spmm.weight.nnz.data
        self.fetch_name = f"{function.sym_name.data}_fetch" if function.sym_name.data != "main" else "fetch"

    def _constant(self, name: str, array: NDArray[np.generic], element: TypeAttribute) -> tu.ConstantOp:
        return tu.ConstantOp(name, array, element)

    def _table(self, name: str) -> tu.ConstantOp:
        return self._constant(name, cast("NDArray[np.generic]", getattr(self.program, name)), i32)

    def emit(self) -> None:
        """Replace the function; constants that the program looks nothing up in are left out."""
        functions = [self._infer()]
        if self.program.steps:
            functions.insert(0, self._fetch())
        used = {
            str(op.table.string_value()) for f in functions for op in f.walk() if isinstance(op, tu.LookupOp)
        }
        used |= {
            op.constant_name.string_value()
            for f in functions
            for op in f.walk()
            if isinstance(op, tu.BufferOp)
        }
        constants = [self.weights, self.gather, self.scatter, *self.tables.values()]
        block = self.module.body.block
        block.insert_ops_before(
            [c for c in constants if c is not None and c.sym_name.data in used], self.function
        )
        block.insert_ops_before(functions, self.function)
        self.function.detach()
        self.function.erase()

    def _buffers(self, x: SSAValue, loops: Loops) -> list[SSAValue]:
        """What a fetch reads: X, the weights, the gather lists."""
        buffers = [
            x,
            *(loops.builder.insert(tu.BufferOp(c)).buffer for c in (self.weights, self.gather) if c),
        ]
        for buffer, name in zip(buffers, ("x", "w", "g"), strict=False):
            buffer.name_hint = name
        return buffers

    def _fetch(self) -> func.FuncOp:
        """Load the weights of one step, and the tiles of X it is the first to need."""
        p, c = self.program, self.array.cols
        types: list[Attribute] = [self.x_type, self.weights.type]
        types += [self.gather.type] if self.gather else []
        block = Block(arg_types=[*types, IndexType(), IndexType(), IndexType()])
        for value, name in zip(block.args[-3:], ("step", "column", "columns"), strict=True):
            value.name_hint = name
        for value, name in zip(block.args, ("x", "w", "g")[: len(types)], strict=False):
            value.name_hint = name
        x, w = block.args[0], block.args[1]
        step, column, columns = block.args[-3:]
        code, t = Loops(block), self.tables
        tiles = code.named(
            "tiles",
            code.sub(code.lookup(t["step_first"], code.add(step, 1)), code.lookup(t["step_first"], step)),
        )
        slot = code.mul(code.rem(step, self.knobs.ring), self.knobs.weight_rows)
        code.instruction(
            tu.LdOp, code.address(SPAD, slot), 0, w, code.mul(code.lookup(t["step_weight"], step), c), c,
            code.mul(tiles, code.lookup(t["step_rows"], step)), c, comment="weights of this step",
        )  # fmt: skip

        def load(i: Index) -> None:
            dst = code.address(SPAD, code.lookup(t["load_x"], i))
            rows, at = code.lookup(t["load_rows"], i), code.lookup(t["load_row"], i)
            height = self.array.rows

            def by_range() -> None:
                offset = code.add(code.mul(at, p.n), column)
                code.instruction(tu.LdOp, dst, height, x, offset, p.n, rows, columns, comment="rows of X")

            def by_list() -> None:
                g = block.args[2]
                code.instruction(
                    tu.LdgOp, dst, height, x, column, p.n, g, at, rows, columns, comment="gathered rows of X"
                )

            if not self.listed.any():
                by_range()
            elif self.listed.all():
                by_list()
            else:
                code.when(code.less(0, code.lookup(t["load_listed"], i)), by_list, by_range)

        first, end = code.lookup(t["fetch_first"], step), code.lookup(t["fetch_first"], code.add(step, 1))
        code.loop(first, end, "i", load)
        code.insert(func.ReturnOp())
        return func.FuncOp(
            self.fetch_name, FunctionType.from_lists(block.arg_types, ()), Region(block), "private"
        )

    def _infer(self) -> func.FuncOp:
        p, knobs, c = self.program, self.knobs, self.array.cols
        block = Block(arg_types=[self.x_type, self.y_type])
        x, y = block.args
        x.name_hint, y.name_hint = "x", "y"
        code, t = Loops(block), self.tables
        buffers = self._buffers(x, code) if p.steps else []
        scatter = code.builder.insert(tu.BufferOp(self.scatter)).buffer if self.scatter else None
        width = knobs.panel_tiles * c
        panels = -(-p.n // width)
        slot = knobs.block_rows * knobs.panel_tiles

        def panel(number: Index) -> None:
            column = code.named("column", code.mul(number, width))
            columns = p.n if panels == 1 else code.named("columns", code.min(width, code.sub(p.n, column)))
            column_tiles = code.named("column_tiles", code.div(code.add(columns, c - 1), c))

            def fetch(step: Index) -> None:
                arguments = [*buffers, *(code.value(v) for v in (step, column, columns))]
                code.insert(func.CallOp(self.fetch_name, arguments, ()))

            def block_of_rows(b: Index) -> None:
                base = code.named("base", code.mul(code.rem(b, knobs.acc_slots), slot))

                def zeros(z: Index) -> None:
                    def fill(j: Index) -> None:
                        row = code.add(
                            code.add(base, code.mul(j, knobs.block_rows)), code.lookup(t["zero_row"], z)
                        )
                        code.instruction(
                            tu.FillOp,
                            code.address(ACC, row),
                            code.lookup(t["zero_rows"], z),
                            0,
                            comment="rows nobody writes",
                        )

                    code.loop(0, column_tiles, "j", fill)

                def step(s: Index) -> None:
                    if isinstance(s, int):
                        if s + knobs.ahead < p.steps:
                            fetch(s + knobs.ahead)
                    elif knobs.ahead < p.steps:
                        ahead = code.named("ahead", code.add(s, knobs.ahead))
                        code.when(code.less(ahead, p.steps), lambda: fetch(ahead))
                    self._compute(code, s, base, columns, column_tiles)

                if p.zero_first[-1]:
                    code.loop(
                        code.lookup(t["zero_first"], b),
                        code.lookup(t["zero_first"], code.add(b, 1)),
                        "z",
                        zeros,
                    )
                if p.steps:
                    code.loop(
                        code.lookup(t["block_first"], b),
                        code.lookup(t["block_first"], code.add(b, 1)),
                        "s",
                        step,
                    )
                row, rows = code.lookup(t["block_row"], b), code.lookup(t["block_rows"], b)
                src = code.address(ACC, base)
                if scatter is None:
                    offset = code.add(code.mul(row, p.n), column)
                    code.instruction(
                        tu.StOp,
                        y,
                        offset,
                        p.n,
                        src,
                        knobs.block_rows,
                        rows,
                        columns,
                        0,
                        comment="store the block",
                    )
                else:
                    code.instruction(
                        tu.StsOp, y, column, p.n, scatter, row, src, knobs.block_rows, rows, columns, 0, 0,
                        comment="scatter the block",
                    )  # fmt: skip

            code.loop(0, min(knobs.ahead, p.steps), "s", fetch)
            code.loop(0, p.blocks, "b", block_of_rows)

        code.loop(0, panels, "p", panel)
        code.insert(func.ReturnOp())
        name = self.function.sym_name.data
        infer = func.FuncOp(name, FunctionType.from_lists(block.arg_types, ()), Region(block))
        infer.attributes["tu.target"] = StringAttr(self.target.name)
        used = knobs.ring * knobs.weight_rows + knobs.x_slots * self.array.rows * knobs.panel_tiles
        needs = (self.array.rows, c, used, knobs.acc_slots * slot)
        infer.attributes["tu.needs"] = ArrayAttr(IntegerAttr(v, i64) for v in needs)
        infer.attributes["tu.title"] = StringAttr(
            f"C[{p.m}, {p.n}] = W[{p.m}, {p.k}] X[{p.k}, {p.n}], {self.nnz} nonzeros in W, "
            f"on {self.target.name}"
        )
        return infer

    def _compute(self, code: Loops, s: Index, base: Index, columns: Index, column_tiles: Index) -> None:
        """Multiply one step's weights by its tiles, for all column tiles of the panel."""
        knobs, c, t = self.knobs, self.array.cols, self.tables
        rows = code.lookup(t["step_rows"], s)
        first, end = code.lookup(t["step_first"], s), code.lookup(t["step_first"], code.add(s, 1))
        weights = code.named("slot", code.mul(code.rem(s, knobs.ring), knobs.weight_rows))
        out = code.named("out", code.add(base, code.lookup(t["step_row"], s)))
        continues = code.named("continues", code.sub(1, code.lookup(t["step_band_start"], s)))

        def accumulate(tile: Index) -> Index:
            """1 but for the first tile of a band."""
            if isinstance(continues, int) and continues:
                return 1
            later = code.flag(code.less(first, tile))
            if isinstance(continues, int):
                return code.named("accumulate", later)
            return code.named("accumulate", code.flag(code.less(0, code.add(continues, later))))

        def systolic(tile: Index) -> None:
            a = code.named("a", code.add(weights, code.mul(code.sub(tile, first), rows)))
            x, x_rows = code.lookup(t["tile_x"], tile), code.lookup(t["tile_rows"], tile)
            adds = accumulate(tile)

            def column_tile(j: Index) -> None:
                width = code.min(c, code.sub(columns, code.mul(j, c))) if self.program.n % c else c
                b = code.address(SPAD, code.add(x, code.mul(j, self.array.rows)))
                code.instruction(tu.PreOp, b, x_rows, width, comment="a tile of X stays")
                acc = code.address(ACC, code.add(out, code.mul(j, knobs.block_rows)))
                code.instruction(tu.MmOp, acc, code.address(SPAD, a), rows, adds, comment="rows of W stream")

            code.loop(0, column_tiles, "j", column_tile)

        def fragments(tile: Index) -> None:
            a = code.named("a", code.add(a_base, code.mul(code.sub(tile, first), rows)))
            x, x_rows = code.lookup(t["tile_x"], tile), code.lookup(t["tile_rows"], tile)
            adds = accumulate(tile)
            b = code.address(L0B, code.mul(code.rem(tile, 2), self.target.l0b_rows // 2))
            height = self.array.rows
            code.instruction(
                tu.MvOp, b, height, code.address(SPAD, x), height, x_rows, column_tiles, comment="a tile of X"
            )
            code.instruction(
                tu.MmaOp, code.address(ACC, out), knobs.block_rows, code.address(L0A, a), 0, b, height, rows,
                columns, x_rows, adds,
            )  # fmt: skip

        if self.array.kind == "ws":
            code.loop(first, end, "t", systolic)
            return
        a_base = code.named("a_base", code.mul(code.rem(s, 2), self.target.l0a_rows // 2))
        count = code.mul(code.sub(end, first), rows)
        code.instruction(
            tu.MvOp, code.address(L0A, a_base), 0, code.address(SPAD, weights), 0, count, 1, comment="weights"
        )
        code.loop(first, end, "t", fragments)
