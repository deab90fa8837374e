"""Programs that keep tiles of X in the scratchpad and bands of rows in the accumulators."""

from __future__ import annotations

from xdsl.dialects import func
from xdsl.dialects.builtin import FunctionType, IndexType
from xdsl.ir import Attribute, Block, Region, SSAValue

from sparsecc.codegen.loops import Index, Loops
from sparsecc.codegen.program import SpmmWriter
from sparsecc.dialects import tu
from sparsecc.dialects.sparse import SpmmOp
from sparsecc.schedule.cost import tile_columns
from sparsecc.schedule.strips import Strips
from sparsecc.schedule.tables import Program, by_place
from sparsecc.target import Target

SPAD, ACC, L0A, L0B = tu.Memory.SPAD, tu.Memory.ACC, tu.Memory.L0A, tu.Memory.L0B
TABLES = (
    "gather", "scatter", "block_first", "block_row", "block_rows", "zero_first", "zero_row", "zero_rows",
    "step_first", "fetch_first", "step_row", "step_rows", "step_weight", "step_band_start", "tile_x",
    "tile_rows", "load_x", "load_row", "load_rows", "load_listed", "idle_first", "idle_row", "idle_rows",
    "step_tile_rows", "step_compressed",
)  # fmt: skip


class TiledWriter(SpmmWriter):
    """Loops over panels, blocks of rows, steps, tiles of X and column tiles.

    any_n: the program takes the number of columns as its last argument, at most those of the operator.
    strips: X lies in an image; the program is one of their columns, rounded up to whole tiles in each.
    """

    def __init__(
        self,
        function: func.FuncOp,
        spmm: SpmmOp,
        target: Target,
        program: Program,
        any_n: bool = False,
        strips: Strips | None = None,
    ):
        if strips is not None:
            program = by_place(program, strips)
        super().__init__(function, spmm, target, program, program.weights, TABLES)
        self.program, self.knobs, self.any_n, self.strips = program, program.knobs, any_n, strips
        if strips is not None:
            self.x_type = tu.BufferType((1, strips.elements), spmm.weight.element_type)
        self.gather = self.tables["gather"] if len(program.gather) else None
        self.scatter = self.tables["scatter"] if len(program.scatter) else None
        self.set_bias(program.scatter)
        self.listed = program.load_listed
        # Whole strips in a panel, else panels in a strip.
        tiles = strips.tiles(self.array.cols) if strips else 1
        self.whole = max(1, program.knobs.panel_tiles // tiles) if strips else 1
        self.parts = -(-tiles // program.knobs.panel_tiles) if strips else 1
        self.width = strips.width if strips else program.n
        self.x_rows = tile_columns(target, program.knobs.kept)
        # Of tiles that are not compressed it is the height.
        self.tile_rows = self.tables["step_tile_rows" if program.knobs.kept else "step_rows"]

    def functions(self) -> list[func.FuncOp]:
        return [self._fetch(), self._infer()] if self.program.steps else [self._infer()]

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
        c = self.array.cols
        types: list[Attribute] = [self.x_type, self.weights.type]
        types += [self.gather.type] if self.gather else []
        numbers = ("step", "column", "columns", *(["live"] if self.strips else ["n"] if self.any_n else []))
        block = Block(arg_types=[*types, *(IndexType() for _ in numbers)])
        for value, name in zip(block.args, [*("x", "w", "g")[: len(types)], *numbers], strict=True):
            value.name_hint = name
        x, w = block.args[0], block.args[1]
        step, column, columns = block.args[len(types) : len(types) + 3]
        n: Index = block.args[-1] if self.any_n else self.program.n
        code, t = Loops(block), self.tables
        tiles = code.named(
            "tiles",
            code.sub(code.lookup(t["step_first"], code.add(step, 1)), code.lookup(t["step_first"], step)),
        )
        slot = code.mul(code.rem(step, self.knobs.ring), self.knobs.weight_rows)
        code.instruction(
            tu.LdOp, code.address(SPAD, slot), 0, w, code.mul(code.lookup(t["step_weight"], step), c), c,
            code.mul(tiles, code.lookup(self.tile_rows, step)), c, comment="weights of this step",
        )  # fmt: skip

        def of_strips(strips: Strips, i: Index, place: Index) -> None:
            rows, at = code.lookup(t["load_rows"], i), code.lookup(t["load_row"], i)

            def of_strip(u: Index) -> None:
                dst = code.address(SPAD, code.add(place, code.mul(u, strips.tiles(c) * self.x_rows)))
                begin = code.add(column, code.mul(u, strips.step))
                code.instruction(
                    tu.LdgOp, dst, self.x_rows, x, begin, 1, block.args[2], at, rows, columns,
                    comment="rows of patches",
                )  # fmt: skip

            code.loop(0, block.args[-1], "u", of_strip)

        def load(i: Index) -> None:
            place = code.lookup(t["load_x"], i)
            if self.strips is not None:
                of_strips(self.strips, i, place)
                return
            dst = code.address(SPAD, place)
            rows, at = code.lookup(t["load_rows"], i), code.lookup(t["load_row"], i)
            height = self.x_rows

            def by_range() -> None:
                offset = code.add(code.mul(at, n), column)
                code.instruction(tu.LdOp, dst, height, x, offset, n, rows, columns, comment="rows of X")

            def by_list() -> None:
                g = block.args[2]
                code.instruction(
                    tu.LdgOp, dst, height, x, column, n, g, at, rows, columns, comment="gathered rows of X"
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
        block = Block(arg_types=[self.x_type, self.y_type, *([IndexType()] if self.any_n else [])])
        for value, name in zip(block.args, ("x", "y", "n"), strict=False):
            value.name_hint = name
        x, y = block.args[:2]
        n: Index = block.args[2] if self.any_n else self.n if self.strips else p.n
        code, t = Loops(block), self.tables
        buffers = self._buffers(x, code) if p.steps else []
        scatter = code.builder.insert(tu.BufferOp(self.scatter)).buffer if self.scatter else None
        width = knobs.panel_tiles * c
        panels = code.div(code.add(n, width - 1), width)
        if self.strips is not None:
            panels = -(-self.strips.strips // self.whole) * self.parts
        slot = knobs.block_rows * knobs.panel_tiles
        zeros_base = knobs.acc_slots * slot
        output = self.conversion(code)

        def panel(number: Index) -> None:
            alone = isinstance(panels, int) and panels == 1
            live: Index = 1
            if self.strips is None:
                column = from_x = code.named("column", code.mul(number, width))
                columns = n if alone else code.named("columns", code.min(width, code.sub(n, column)))
            else:
                strip = code.mul(code.div(number, self.parts), self.whole)
                within = code.mul(code.rem(number, self.parts), width)
                column = code.named("column", code.add(code.mul(strip, self.strips.width), within))
                from_x = code.named("from", code.add(code.mul(strip, self.strips.step), within))
                columns = self.strips.width
                if self.parts > 1:
                    columns = code.named("columns", code.min(width, code.sub(columns, within)))
                if self.whole > 1:
                    live = code.named("live", code.min(self.whole, code.sub(self.strips.strips, strip)))
            each_tiles = code.div(code.add(columns, c - 1), c)
            column_tiles = code.named("column_tiles", code.mul(live, each_tiles))
            # Tiles that a strip does not fill end with zeros.
            computed = columns if self.whole == 1 else code.mul(column_tiles, c)

            def fetch(step: Index) -> None:
                last = [live] if self.strips else [n] if self.any_n else []
                numbers = (step, from_x, columns, *last)
                arguments = [*buffers, *(code.value(v) for v in numbers)]
                code.insert(func.CallOp(self.fetch_name, arguments, ()))

            def store(row: Index, at: Index, apart: int, rows: Index, what: str) -> None:
                def of_strip(u: Index) -> None:
                    to, place = column, at
                    if self.whole > 1:
                        to = code.add(column, code.mul(u, self.width))
                        place = code.add(at, code.mul(u, code.mul(each_tiles, apart)))
                    src = code.address(ACC, place)
                    if scatter is None:
                        offset = code.add(code.mul(row, n), to)
                        code.instruction(
                            tu.StOp, y, offset, n, src, apart, rows, columns, output,
                            comment=f"store the {what}",
                        )  # fmt: skip
                    else:
                        code.instruction(
                            tu.StsOp, y, to, n, scatter, row, src, apart, rows, columns, output,
                            int(p.added > 0), comment=f"{'add' if p.added else 'scatter'} the {what}",
                        )  # fmt: skip

                code.loop(0, live, "u", of_strip)

            def idle(i: Index) -> None:
                row, rows = code.lookup(t["idle_row"], i), code.lookup(t["idle_rows"], i)
                store(row, zeros_base, knobs.zero_rows, rows, "zeros")

            def idle_stores(before: Index) -> None:
                if p.idle_first[-1]:
                    first = code.lookup(t["idle_first"], before)
                    code.loop(first, code.lookup(t["idle_first"], code.add(before, 1)), "i", idle)

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
                    idle_stores(s)
                    if isinstance(s, int):
                        if s + knobs.ahead < p.steps:
                            fetch(s + knobs.ahead)
                    elif knobs.ahead < p.steps:
                        ahead = code.named("ahead", code.add(s, knobs.ahead))
                        code.when(code.less(ahead, p.steps), lambda: fetch(ahead))
                    self._compute(code, s, base, computed, column_tiles)

                row, rows = code.lookup(t["block_row"], b), code.lookup(t["block_rows"], b)
                if self.bias is not None:
                    self.fill_bias(code, base, row, rows, knobs.block_rows, column_tiles)
                elif p.zero_first[-1]:
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
                store(row, base, knobs.block_rows, rows, "block")

            def zero_rows(z: Index) -> None:
                row = code.mul(z, knobs.block_rows)
                rows = code.min(knobs.block_rows, code.sub(p.added, row))
                offset = code.add(code.mul(row, n), column)
                code.instruction(
                    tu.StOp, y, offset, n, code.address(ACC, 0), knobs.block_rows, rows, columns, 0,
                    comment="blocks are added to zeros",
                )  # fmt: skip

            code.loop(0, min(knobs.ahead, p.steps), "s", fetch)
            if p.added:
                code.instruction(tu.FillOp, code.address(ACC, 0), slot, 0)
                code.loop(0, -(-p.added // knobs.block_rows), "z", zero_rows)
            code.loop(0, p.blocks, "b", block_of_rows)
            idle_stores(p.steps)

        if p.idle_first[-1]:
            code.instruction(
                tu.FillOp, code.address(ACC, zeros_base), knobs.zero_rows * knobs.panel_tiles, 0,
                comment="zeros to store",
            )  # fmt: skip
        code.loop(0, panels, "p", panel)
        used = knobs.ring * knobs.weight_rows + knobs.x_slots * self.x_rows * knobs.panel_tiles
        return self.entry(block, code, used, zeros_base + knobs.zero_rows * knobs.panel_tiles)

    def _compute(self, code: Loops, s: Index, base: Index, columns: Index, column_tiles: Index) -> None:
        """Multiply one step's weights by its tiles, for all column tiles of the panel."""
        knobs, c, t = self.knobs, self.array.cols, self.tables
        rows = code.lookup(t["step_rows"], s)
        first, end = code.lookup(t["step_first"], s), code.lookup(t["step_first"], code.add(s, 1))
        weights = code.named("slot", code.mul(code.rem(s, knobs.ring), knobs.weight_rows))
        out = code.named("out", code.add(base, code.lookup(t["step_row"], s)))
        continues: Index = 1
        if self.bias is None:
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
                cut = self.any_n or (self.whole == 1 and self.width % c)
                width = code.min(c, code.sub(columns, code.mul(j, c))) if cut else c
                b = code.address(SPAD, code.add(x, code.mul(j, self.array.rows)))
                code.instruction(tu.PreOp, b, x_rows, width, comment="a tile of X stays")
                acc = code.address(ACC, code.add(out, code.mul(j, knobs.block_rows)))
                code.instruction(tu.MmOp, acc, code.address(SPAD, a), rows, adds, comment="rows of W stream")

            code.loop(0, column_tiles, "j", column_tile)

        def fragments(tile: Index) -> None:
            a = code.named("a", code.add(a_base, code.mul(code.sub(tile, first), tile_rows)))
            x, x_rows = code.lookup(t["tile_x"], tile), code.lookup(t["tile_rows"], tile)
            adds = accumulate(tile)
            b = code.address(L0B, code.mul(code.rem(tile, 2), self.target.l0b_rows // 2))
            height, acc, left = self.x_rows, code.address(ACC, out), code.address(L0A, a)
            acc.name_hint, left.name_hint = "sums", "left"
            code.instruction(
                tu.MvOp, b, height, code.address(SPAD, x), height, x_rows, column_tiles, comment="a tile of X"
            )

            def as_it_is() -> None:
                apart: Index = rows if height > self.array.rows else 0
                code.instruction(
                    tu.MmaOp, acc, knobs.block_rows, left, apart, b, height, rows, columns, x_rows, adds
                )

            def kept_values() -> None:
                assert knobs.kept is not None
                code.instruction(
                    tu.SpmmaOp, acc, knobs.block_rows, left, code.address(L0A, code.add(a, rows)), b, height,
                    rows, columns, x_rows, knobs.kept.keep, knobs.kept.group, adds,
                    comment=f"{knobs.kept} values of W",
                )  # fmt: skip

            match code.lookup(t["step_compressed"], s):
                case 0:
                    as_it_is()
                case 1:
                    kept_values()
                case compressed:
                    code.when(code.less(0, compressed), kept_values, as_it_is)

        if self.array.kind == "ws":
            code.loop(first, end, "t", systolic)
            return
        a_base = code.named("a_base", code.mul(code.rem(s, 2), self.target.l0a_rows // 2))
        tile_rows = code.lookup(self.tile_rows, s) if knobs.kept else rows
        count = code.mul(code.sub(end, first), tile_rows)
        code.instruction(
            tu.MvOp, code.address(L0A, a_base), 0, code.address(SPAD, weights), 0, count, 1, comment="weights"
        )
        code.loop(first, end, "t", fragments)
