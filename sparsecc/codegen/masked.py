"""Programs of products with a mask: blocks of rows of A meet panels of B, needed blocks of C are stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from xdsl.dialects import func
from xdsl.dialects.builtin import FunctionType, IndexType
from xdsl.ir import Block, Region, SSAValue, TypeAttribute

from sparsecc.codegen.loops import Index, Loops
from sparsecc.codegen.program import ProgramWriter
from sparsecc.dialects import tu
from sparsecc.dialects.sparse import SddmmOp
from sparsecc.schedule.sddmm_tables import MaskProgram
from sparsecc.target import Target

SPAD, ACC, L0A, L0B = tu.Memory.SPAD, tu.Memory.ACC, tu.Memory.L0A, tu.Memory.L0B
TABLES = (
    "a_load", "a_spad", "a_row", "a_rows", "b_load", "b_spad", "b_column", "b_columns", "k_first", "k_size",
    "stage_tile", "stage_column", "stage_columns", "stage_rows", "stage_acc", "stage_adds", "stage_stores",
    "a_move", "a_half", "b_move", "b_half", "piece_first", "piece_at", "piece_row", "piece_rows", "piece_acc",
)  # fmt: skip


class MaskedWriter(ProgramWriter):
    """Loops over stages, column tiles, tiles of k and pieces."""

    def __init__(self, function: func.FuncOp, sddmm: SddmmOp, target: Target, program: MaskProgram):
        super().__init__(function, target, program, TABLES)
        self.program, self.knobs = program, program.knobs
        m, n, k = sddmm.space
        element = cast(TypeAttribute, sddmm.element_type)
        self.a_type, self.b_type = tu.BufferType((m, k), element), tu.BufferType((k, n), element)
        self.c_type = tu.BufferType((m, n), cast(TypeAttribute, sddmm.res.type.element_type))
        points = sddmm.weight.nnz.data
        self.title = f"C[{m}, {n}] = A[{m}, {k}] B[{k}, {n}] at {points} points of a mask"

    def functions(self) -> list[func.FuncOp]:
        return [self._fetch(), self._infer()] if self.program.stages else [self._infer()]

    def _fetch(self) -> func.FuncOp:
        """Load the block of A and the panel of B that a stage is the first to need."""
        p = self.program
        block = Block(arg_types=[self.a_type, self.b_type, IndexType()])
        for value, name in zip(block.args, ("a", "b", "stage"), strict=True):
            value.name_hint = name
        a, b, stage = block.args
        code, t = Loops(block), self.tables
        k_first, k_size = code.lookup(t["k_first"], stage), code.lookup(t["k_size"], stage)

        def load_a() -> None:
            offset = code.add(code.mul(code.lookup(t["a_row"], stage), p.k), k_first)
            dst = code.address(SPAD, code.lookup(t["a_spad"], stage))
            rows = code.lookup(t["a_rows"], stage)
            code.instruction(
                tu.LdOp, dst, self.knobs.block_rows, a, offset, p.k, rows, k_size, comment="rows of A"
            )

        def load_b() -> None:
            offset = code.add(code.mul(k_first, p.n), code.lookup(t["b_column"], stage))
            dst = code.address(SPAD, code.lookup(t["b_spad"], stage))
            columns = code.lookup(t["b_columns"], stage)
            code.instruction(
                tu.LdOp, dst, p.tile_rows, b, offset, p.n, k_size, columns, comment="columns of B"
            )

        _where(code, code.lookup(t["a_load"], stage), load_a)
        _where(code, code.lookup(t["b_load"], stage), load_b)
        code.insert(func.ReturnOp())
        return func.FuncOp(
            self.fetch_name, FunctionType.from_lists(block.arg_types, ()), Region(block), "private"
        )

    def _infer(self) -> func.FuncOp:
        p, knobs = self.program, self.knobs
        block = Block(arg_types=[self.a_type, self.b_type, self.c_type])
        for value, name in zip(block.args, ("a", "b", "c"), strict=True):
            value.name_hint = name
        a, b, c = block.args
        code, t = Loops(block), self.tables

        def fetch(stage: Index) -> None:
            code.insert(func.CallOp(self.fetch_name, [a, b, code.value(stage)], ()))

        def stage(s: Index) -> None:
            if isinstance(s, int):
                if s + knobs.ahead < p.stages:
                    fetch(s + knobs.ahead)
            elif knobs.ahead < p.stages:
                ahead = code.named("ahead", code.add(s, knobs.ahead))
                code.when(code.less(ahead, p.stages), lambda: fetch(ahead))
            acc = code.lookup(t["stage_acc"], s)
            if self.array.kind == "ws":
                self._systolic(code, s, acc)
            else:
                self._fragments(code, s, acc)
            _where(code, code.lookup(t["stage_stores"], s), lambda: self._store(code, s, acc, c))

        code.loop(0, min(knobs.ahead, p.stages), "s", fetch)
        code.loop(0, p.stages, "s", stage)
        k_tiles = p.tile_rows // self.array.cols
        spad_rows = (
            knobs.a_slots * knobs.block_rows * k_tiles + knobs.b_slots * knobs.panel_tiles * p.tile_rows
        )
        return self.entry(block, code, spad_rows, knobs.acc_slots * knobs.block_rows * knobs.panel_tiles)

    def _pieces(self, code: Loops, s: Index, body: Callable[[Index], None]) -> None:
        """For each piece of a stage."""
        first = self.tables["piece_first"]
        code.loop(code.lookup(first, s), code.lookup(first, code.add(s, 1)), "p", body)

    def _systolic(self, code: Loops, s: Index, acc: Index) -> None:
        """A tile of B stays while the rows of A of all pieces stream through it."""
        p, t, c = self.program, self.tables, self.array.cols
        columns, k_size = code.lookup(t["stage_columns"], s), code.lookup(t["k_size"], s)
        a_spad, adds = code.lookup(t["a_spad"], s), code.lookup(t["stage_adds"], s)
        b_spad = code.add(code.lookup(t["b_spad"], s), code.mul(code.lookup(t["stage_tile"], s), p.tile_rows))
        rows = code.lookup(t["stage_rows"], s)

        def column_tile(j: Index) -> None:
            width = code.min(c, code.sub(columns, code.mul(j, c))) if p.n % c else c
            out = code.named("out", code.add(acc, code.mul(j, rows)))

            def k_tile(i: Index) -> None:
                height = code.min(c, code.sub(k_size, code.mul(i, c))) if p.k % c else c
                b = code.add(code.add(b_spad, code.mul(j, p.tile_rows)), code.mul(i, c))
                code.instruction(tu.PreOp, code.address(SPAD, b), height, width, comment="a tile of B stays")
                a = code.named("a", code.add(a_spad, code.mul(i, self.knobs.block_rows)))
                accumulate = _either(code, adds, i)

                def piece(q: Index) -> None:
                    code.instruction(
                        tu.MmOp, code.address(ACC, code.add(out, code.lookup(t["piece_acc"], q))),
                        code.address(SPAD, code.add(a, code.lookup(t["piece_at"], q))),
                        code.lookup(t["piece_rows"], q), accumulate, comment="rows of A stream",
                    )  # fmt: skip

                self._pieces(code, s, piece)

            code.loop(0, code.div(code.add(k_size, c - 1), c), "i", k_tile)

        code.loop(0, code.div(code.add(columns, c - 1), c), "j", column_tile)

    def _fragments(self, code: Loops, s: Index, acc: Index) -> None:
        """The block of A and the panel of B go to L0, unless they are there; a piece is one instruction."""
        p, t, knobs, c = self.program, self.tables, self.knobs, self.array.cols
        columns, k_size = code.lookup(t["stage_columns"], s), code.lookup(t["k_size"], s)
        a = code.named("a", code.mul(code.lookup(t["a_half"], s), self.target.l0a_rows // 2))
        b = code.named("b", code.mul(code.lookup(t["b_half"], s), self.target.l0b_rows // 2))

        def move_a() -> None:
            tiles = code.div(code.add(k_size, c - 1), c)
            src = code.address(SPAD, code.lookup(t["a_spad"], s))
            rows = code.lookup(t["a_rows"], s)
            code.instruction(
                tu.MvOp, code.address(L0A, a), knobs.block_rows, src, knobs.block_rows, rows, tiles,
                comment="a block of A",
            )  # fmt: skip

        def move_b() -> None:
            tiles = code.div(code.add(code.lookup(t["b_columns"], s), c - 1), c)
            src = code.address(SPAD, code.lookup(t["b_spad"], s))
            code.instruction(
                tu.MvOp, code.address(L0B, b), p.tile_rows, src, p.tile_rows, k_size, tiles,
                comment="a panel of B",
            )  # fmt: skip

        _where(code, code.lookup(t["a_move"], s), move_a)
        _where(code, code.lookup(t["b_move"], s), move_b)
        b_tile = code.add(b, code.mul(code.lookup(t["stage_tile"], s), p.tile_rows))
        rows, adds = code.lookup(t["stage_rows"], s), code.lookup(t["stage_adds"], s)

        def piece(q: Index) -> None:
            code.instruction(
                tu.MmaOp, code.address(ACC, code.add(acc, code.lookup(t["piece_acc"], q))), rows,
                code.address(L0A, code.add(a, code.lookup(t["piece_at"], q))), knobs.block_rows,
                code.address(L0B, b_tile), p.tile_rows, code.lookup(t["piece_rows"], q), columns, k_size,
                adds,
            )  # fmt: skip

        self._pieces(code, s, piece)

    def _store(self, code: Loops, s: Index, acc: Index, c: SSAValue) -> None:
        """The pieces of a stage, each to its place; what lies between them is not written."""
        p, t = self.program, self.tables
        column, columns = code.lookup(t["stage_column"], s), code.lookup(t["stage_columns"], s)
        rows = code.lookup(t["stage_rows"], s)

        def piece(q: Index) -> None:
            offset = code.add(code.mul(code.lookup(t["piece_row"], q), p.n), column)
            src = code.address(ACC, code.add(acc, code.lookup(t["piece_acc"], q)))
            code.instruction(
                tu.StOp, c, offset, p.n, src, rows, code.lookup(t["piece_rows"], q), columns, 0,
                comment="store the block",
            )  # fmt: skip

        self._pieces(code, s, piece)


def _where(code: Loops, flag: Index, body: Callable[[], None]) -> None:
    """if (flag) body, decided now where the flag is known."""
    if isinstance(flag, SSAValue):
        code.when(code.less(0, flag), body)
    elif flag:
        body()


def _either(code: Loops, flag: Index, number: Index) -> Index:
    """1 where the flag is 1 or the number above 0, else 0."""
    total = code.add(flag, number)
    if isinstance(total, int):
        return int(total > 0)
    return code.named("accumulate", code.flag(code.less(0, total)))
