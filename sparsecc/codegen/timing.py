"""How long a schedule takes on the simulator, without compiling its C."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from hashlib import blake2b

from xdsl.dialects import func
from xdsl.dialects.builtin import FunctionType, ModuleOp

from sparsecc.codegen.indexed import IndexedWriter
from sparsecc.codegen.program import ProgramWriter
from sparsecc.codegen.tiled import TiledWriter
from sparsecc.dialects.sparse import SpmmOp
from sparsecc.dialects.sparse_epilogue import epilogue_of
from sparsecc.replay import replay
from sparsecc.schedule.cost import Plan
from sparsecc.schedule.indexed import IndexedPlan, build_indexed
from sparsecc.schedule.measure import Measure
from sparsecc.schedule.strips import Strips
from sparsecc.schedule.tables import build
from sparsecc.target import Target

# Cycles of schedules that were run before, the latest last. Passes that ask for the same one, and covers
# that are compiled more than once, need no second run.
_known: OrderedDict[tuple[object, ...], int] = OrderedDict()
MOST_KNOWN = 4096


def _key(spmm: SpmmOp, plan: Plan | IndexedPlan, target: Target, strips: Strips | None) -> tuple[object, ...]:
    """All that a schedule's time depends on."""
    metaops = plan.cells if isinstance(plan, IndexedPlan) else plan.metaops
    cover = blake2b(metaops.table.tobytes(), digest_size=16)
    cover.update(metaops.index.tobytes())
    fused = epilogue_of(spmm.res)
    # The values of a bias take no time; that there is one does.
    store = (str(fused.res.type.element_type), fused.bias is None) if fused is not None else None
    if strips is not None:
        cover.update(strips.places.tobytes())
    image = (strips.strips, strips.width, strips.step, strips.elements) if strips is not None else None
    return spmm.weight.blob.digest, spmm.positions, target, plan.knobs, cover.digest(), store, image


def for_epilogue(plan: Plan, spmm: SpmmOp) -> Plan:
    """The plan as it is built for what is fused to the operator: with a bias, no row is stored from zeros."""
    fused = epilogue_of(spmm.res)
    if fused is None or fused.bias is None:
        return plan
    return replace(plan, knobs=replace(plan.knobs, zero_rows=0))


def with_stores(target: Target, spmm: SpmmOp) -> Target:
    """The target as its stores round the results of an operator."""
    fused = epilogue_of(spmm.res)
    if fused is None:
        return target
    return target.storing(str(fused.res.type.element_type), fused.bias is not None)


def measure_of(spmm: SpmmOp, target: Target, strips: Strips | None = None) -> Measure:
    """Simulated cycles of schedules of an operator. Raises UserError where there is no C compiler.

    strips: where X lies in an image, if it does.
    """
    pattern, n = spmm.weight.pattern, spmm.positions
    values = spmm.weight.data
    target = with_stores(target, spmm)
    entry = func.FuncOp("main", FunctionType.from_lists((), ()))

    def measure(plan: Plan | IndexedPlan) -> int:
        key = _key(spmm, plan, target, strips)
        if key in _known:
            _known.move_to_end(key)
            return _known[key]
        if isinstance(plan, IndexedPlan):
            # Its weights hold the lists that time depends on.
            indexed = build_indexed(plan, pattern, values, n, target)
            writer: ProgramWriter = IndexedWriter(entry, spmm, target, indexed)
        else:
            width = n if strips is None else strips.columns(target.array.cols)
            program = build(for_epilogue(plan, spmm), pattern, None, width, target)
            writer = TiledWriter(entry, spmm, target, program, strips=strips)
        functions = writer.functions()
        _known[key] = int(replay(ModuleOp([*writer.constants, *functions]), target)["cycles"])
        if len(_known) > MOST_KNOWN:
            _known.popitem(last=False)
        return _known[key]

    return measure
