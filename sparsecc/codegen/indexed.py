"""Programs for units that read and accumulate rows by index."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from xdsl.dialects import func
from xdsl.dialects.builtin import FunctionType, IndexType
from xdsl.ir import Block, Region

from sparsecc.codegen.loops import Index, Loops
from sparsecc.codegen.program import SpmmWriter
from sparsecc.dialects import tu
from sparsecc.dialects.sparse import SpmmOp
from sparsecc.schedule.indexed import AHEAD, IndexedProgram, step_rows
from sparsecc.target import Target

SPAD, ACC = tu.Memory.SPAD, tu.Memory.ACC
TABLES = ("scatter", "block_first", "block_row", "block_rows", "step_rows", "step_columns")


class IndexedWriter(SpmmWriter):
    """Loops over blocks of rows and panels (in the order the knobs say), steps and column tiles.

    The scratchpad holds the weights and index lists of some steps, then panels of X. While one slot of
    accumulators takes results, the other is stored, then filled with zeros.
    """

    def __init__(self, function: func.FuncOp, spmm: SpmmOp, target: Target, program: IndexedProgram):
        super().__init__(function, spmm, target, program, program.weights, TABLES)
        self.program, self.knobs = program, program.knobs
        self.set_bias(program.scatter)
        self.w_rows, self.index_rows = step_rows(target)
        self.per_step = self.w_rows + 2 * self.index_rows
        self.x_base = self.knobs.weight_slots * self.per_step
        self.panel_rows = self.k * self.knobs.panel_tiles
        self.slot_rows = self.knobs.block_rows * self.knobs.panel_tiles
        self.width = self.knobs.panel_tiles * self.array.cols
        self.panels = -(-self.n // self.width)
        self.turns = self.panels * program.blocks
        self.resident = self.knobs.x_slots >= self.panels
        # Rows of X that every step loads, so that the shortest block loads all of them. X that stays comes
        # with the first block, which has steps if any has.
        steps = np.diff(program.block_first)[: 1 if self.resident else None]
        self.x_part = -(-self.k // max(1, int(steps.min(initial=self.k))))

    def functions(self) -> list[func.FuncOp]:
        return [self._compute(), self._infer()]

    def _compute(self) -> func.FuncOp:
        """One step for all column tiles of a panel."""
        c, t = self.array.cols, self.tables
        block = Block(arg_types=[IndexType()] * 5)
        names = ("step", "weights", "panel", "out", "columns")
        for value, name in zip(block.args, names, strict=True):
            value.name_hint = name
        step, weights, panel, out, columns = block.args
        code = Loops(block)
        rows, width = code.lookup(t["step_rows"], step), code.lookup(t["step_columns"], step)
        x_list = code.address(SPAD, code.add(weights, self.w_rows))
        y_list = code.address(SPAD, code.add(weights, self.w_rows + self.index_rows))

        def column_tile(j: Index) -> None:
            columns_here = code.min(c, code.sub(columns, code.mul(j, c))) if self.n % c else c
            x = code.address(SPAD, code.add(panel, code.mul(j, self.k)))
            code.instruction(tu.PrexOp, x, x_list, width, columns_here, comment="rows of X by index stay")
            acc = code.address(ACC, code.add(out, code.mul(j, self.knobs.block_rows)))
            a = code.address(SPAD, weights)
            code.instruction(tu.MmxOp, acc, a, y_list, rows, comment="rows of W stream, results go by index")

        code.loop(0, code.div(code.add(columns, c - 1), c), "j", column_tile)
        code.insert(func.ReturnOp())
        return func.FuncOp("compute", FunctionType.from_lists(block.arg_types, ()), Region(block), "private")

    def _infer(self) -> func.FuncOp:
        block = Block(arg_types=[self.x_type, self.y_type])
        self.x, self.y = block.args
        self.x.name_hint, self.y.name_hint = "x", "y"
        self.code = code = Loops(block)
        self.w = code.builder.insert(tu.BufferOp(self.weights)).buffer
        self.rows = code.builder.insert(tu.BufferOp(self.tables["scatter"])).buffer
        self.w.name_hint, self.rows.name_hint = "w", "rows"
        self.output = self.conversion(code)
        if self.resident and not self.knobs.panels_inside:
            code.loop(0, self.panels, "p", lambda panel: self._load_x(panel, panel))
        elif self.resident or self.knobs.x_slots == 2:
            self._load_x(0, 0)
        if self.bias is None:
            self._fill(0)
        if self.knobs.panels_inside:
            code.loop(0, self.program.blocks, "b", self._block)
        else:
            code.loop(0, self.panels, "p", self._panel)
        spad_rows = self.x_base + self.knobs.x_slots * self.panel_rows
        return self.entry(block, code, spad_rows, 2 * self.slot_rows)

    def _block(self, b: Index) -> None:
        """All panels of one block, whose weights stay."""

        def panel_turn(panel: Index) -> None:
            number = self.code.named("turn", self.code.add(self.code.mul(b, self.panels), panel))
            if self.resident and self.panels == 1:
                self._turn(b, panel, number, panel)
            elif self.resident:
                following = self.code.named("following", self.code.add(number, 1))
                self._turn(b, panel, number, panel, (following, self.panels, following, following))
            elif self.knobs.x_slots == 1:
                self._load_x(panel, 0)
                self._turn(b, panel, number, 0)
            else:
                following = self.code.named("following", self.code.add(number, 1))
                after = self.code.rem(following, self.panels), self.code.rem(following, 2)
                self._turn(b, panel, number, self.code.rem(number, 2), (following, self.turns, *after))

        self.code.loop(0, self.panels, "p", panel_turn)

    def _panel(self, panel: Index) -> None:
        """All blocks of one panel, their weights streaming."""
        if not self.resident and self.knobs.x_slots == 1:
            self._load_x(panel, 0)
        elif not self.resident:
            following = self.code.named("following", self.code.add(panel, 1))
            self._when_less(
                following, self.panels, lambda: self._load_x(following, self.code.rem(following, 2))
            )
        x_slot = self.code.rem(panel, self.knobs.x_slots) if not self.resident else panel

        def block_turn(b: Index) -> None:
            number = self.code.named("turn", self.code.add(self.code.mul(panel, self.program.blocks), b))
            self._turn(b, panel, number, x_slot)

        self.code.loop(0, self.program.blocks, "b", block_turn)

    def _turn(
        self,
        b: Index,
        panel: Index,
        number: Index,
        x_slot: Index,
        load: tuple[Index, int, Index, Index] | None = None,
    ) -> None:
        """All steps of one block for one panel; `number` counts the turns.

        load: the next turn, how many turns have their panels loaded so, its panel of X and the slot for it: a
        part of it is loaded with every step, so that the weights need not wait for the whole.
        """
        code, t = self.code, self.tables
        after = code.named("after", code.add(number, 1))
        if self.bias is None:
            self._when_less(after, self.turns, lambda: self._fill(code.rem(after, 2)))
        first, end = code.lookup(t["block_first"], b), code.lookup(t["block_first"], code.add(b, 1))
        column, columns = self._columns(panel)
        at = code.named("at", code.add(self.x_base, code.mul(x_slot, self.panel_rows)))
        out = code.named("out", code.mul(code.rem(number, 2), self.slot_rows))
        # Weights that stay are fetched for the first panel only.
        fetching: Index = panel if self.knobs.panels_inside else 0

        if self.bias is not None:
            row, rows = code.lookup(t["block_row"], b), code.lookup(t["block_rows"], b)
            tiles = code.div(code.add(columns, self.array.cols - 1), self.array.cols)
            self.fill_bias(code, out, row, rows, self.knobs.block_rows, tiles)

        def slot_of(step: Index) -> Index:
            local = code.sub(step, first)
            return local if self.knobs.panels_inside else code.rem(local, self.knobs.weight_slots)

        def begin() -> None:
            last = code.min(code.add(first, AHEAD), end)
            code.loop(first, last, "s", lambda s: self._fetch(s, slot_of(s)))

        def step(s: Index) -> None:
            if load is not None:
                turn_after, turns, panel_after, slot_after = load
                part = code.mul(code.sub(s, first), self.x_part)
                self._when_less(turn_after, turns, lambda: self._load_part(panel_after, slot_after, part))
            ahead = code.named("ahead", code.add(s, AHEAD))
            self._when_less(
                fetching, 1, lambda: self._when_less(ahead, end, lambda: self._fetch(ahead, slot_of(ahead)))
            )
            weights = code.mul(slot_of(s), self.per_step)
            arguments = [code.value(v) for v in (s, weights, at, out, columns)]
            code.insert(func.CallOp("compute", arguments, ()))

        self._when_less(fetching, 1, begin)
        code.loop(first, end, "s", step)
        code.instruction(
            tu.StsOp, self.y, column, self.n, self.rows, code.lookup(t["block_row"], b),
            code.address(ACC, out), self.knobs.block_rows, code.lookup(t["block_rows"], b), columns,
            self.output, 0,
            comment="scatter the block",
        )  # fmt: skip

    def _when_less(self, a: Index, b: Index, body: Callable[[], None]) -> None:
        """if (a < b) body, decided here where both are known."""
        if isinstance(a, int) and isinstance(b, int):
            if a < b:
                body()
        else:
            self.code.when(self.code.less(a, b), body)

    def _columns(self, panel: Index) -> tuple[Index, Index]:
        """First column of a panel, and its columns."""
        code = self.code
        column = code.named("column", code.mul(panel, self.width))
        if self.panels == 1:
            return 0, self.n
        return column, code.named("columns", code.min(self.width, code.sub(self.n, column)))

    def _load_x(self, panel: Index, slot: Index) -> None:
        column, columns = self._columns(panel)
        dst = self.code.address(SPAD, self.code.add(self.x_base, self.code.mul(slot, self.panel_rows)))
        self.code.instruction(
            tu.LdOp, dst, self.k, self.x, column, self.n, self.k, columns, comment="a panel of X"
        )

    def _load_part(self, panel: Index, slot: Index, first: Index) -> None:
        """Some rows of a panel of X, from `first` on."""
        code = self.code

        def part() -> None:
            column, columns = self._columns(panel)
            row = code.add(self.x_base, code.add(code.mul(slot, self.panel_rows), first))
            offset = code.add(code.mul(first, self.n), column)
            rows = code.min(self.x_part, code.sub(self.k, first))
            code.instruction(
                tu.LdOp, code.address(SPAD, row), self.k, self.x, offset, self.n, rows, columns,
                comment="a part of the next panel of X",
            )  # fmt: skip

        self._when_less(first, self.k, part)

    def _fetch(self, step: Index, slot: Index) -> None:
        c = self.array.cols
        dst = self.code.address(SPAD, self.code.mul(slot, self.per_step))
        offset = self.code.mul(step, self.per_step * c)
        self.code.instruction(
            tu.LdOp, dst, 0, self.w, offset, c, self.per_step, c, comment="weights and index lists of a step"
        )

    def _fill(self, slot: Index) -> None:
        def fill(j: Index) -> None:
            at = self.code.add(self.code.mul(slot, self.slot_rows), self.code.mul(j, self.knobs.block_rows))
            self.code.instruction(
                tu.FillOp, self.code.address(ACC, at), self.knobs.block_rows, 0, comment="start from zero"
            )

        self.code.loop(0, self.knobs.panel_tiles, "j", fill)
