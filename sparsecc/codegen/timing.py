"""How long a schedule takes on the simulator, without compiling its C."""

from __future__ import annotations

from xdsl.dialects import func
from xdsl.dialects.builtin import FunctionType, ModuleOp

from sparsecc.codegen.indexed import IndexedWriter
from sparsecc.codegen.program import ProgramWriter
from sparsecc.codegen.tiled import TiledWriter
from sparsecc.dialects.sparse import SpmmOp
from sparsecc.replay import replay
from sparsecc.schedule.cost import Plan
from sparsecc.schedule.indexed import IndexedPlan, build_indexed
from sparsecc.schedule.measure import Measure
from sparsecc.schedule.tables import build
from sparsecc.target import Target


def measure_of(spmm: SpmmOp, target: Target) -> Measure:
    """Simulated cycles of schedules of an operator. Raises UserError where there is no C compiler."""
    pattern, n = spmm.weight.pattern, spmm.positions
    values = spmm.weight.data
    entry = func.FuncOp("main", FunctionType.from_lists((), ()))

    def measure(plan: Plan | IndexedPlan) -> int:
        if isinstance(plan, IndexedPlan):
            # Its weights hold the lists that time depends on.
            program = build_indexed(plan, pattern, values, n, target)
            writer: ProgramWriter = IndexedWriter(entry, spmm, target, program)
        else:
            writer = TiledWriter(entry, spmm, target, build(plan, pattern, None, n, target))
        functions = writer.functions()
        return int(replay(ModuleOp([*writer.constants, *functions]), target)["cycles"])

    return measure
