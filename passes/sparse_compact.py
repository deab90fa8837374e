"""Chooses how an operator is compacted: its nonzeros re-indexed so that they stand closer.

Turns the whole-space cover of each `sparse.spmm` into one without empty rows and columns (`global`), into one
meta-op for each window of live rows that holds just the columns the window uses (`window`), or keeps it
whole, to be split to unit cells (`none`) or to stay one dense operator (`dense`). `auto` asks the
scheduler, which weighs these, orders of rows and columns, where the target takes N:M weights windows whose
columns are ordered to obey that (`fitted`), and where it has indexed addressing or adds in memory, bicliques
against each other and against the dense plan. Any strategy can be asked for by its name, those of
published systems too. Only maps change; nothing moves in memory.

An operator without nonzeros gets a cover without meta-ops, whatever the mode but `dense`. An operator that
has a plan, or whose cover is not the whole space, is left alone. The cover of a `sparse.sddmm` stays whole,
to be split or to be dense: nothing of a mask is gathered. Refused are unknown modes, windows below one row,
efforts beyond 3, and modes that gather for a `sparse.sddmm`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from xdsl.dialects.builtin import I64, DenseArrayBase, DictionaryAttr, StringAttr, i64
from xdsl.ir import Operation
from xdsl.utils.exceptions import PassFailedException
from xdsl.utils.hints import isa

from sparsecc.cover.biclique import bicliques
from sparsecc.cover.compact import global_compaction, window_compaction
from sparsecc.cover.fitted import MOST_ROWS, fitted_panels
from sparsecc.cover.metaops import MetaOps
from sparsecc.cover.orders import natural
from sparsecc.cover.strategies import STRATEGIES
from sparsecc.dialects.sparse import CoverOp, ProductOp, SddmmOp, SpmmOp
from sparsecc.dialects.sparse_epilogue import epilogue_of
from sparsecc.passes.base import ProductPass, refuse
from sparsecc.target import Target
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.load import load_target

MODES = ("auto", "none", "global", "window", "dense", "biclique", "fitted")


# A discardable attribute of an operator that the scheduler chose for: what each candidate would cost.
TRIED = "sparse.tried"


def _tried_attribute(candidates: Iterable[tuple[str, float, int]]) -> DictionaryAttr:
    """[predicted cycles, unit cells] of each candidate by its name, the dense plan among them."""
    return DictionaryAttr(
        {name: DenseArrayBase.from_list(i64, [round(cycles), cells]) for name, cycles, cells in candidates}
    )


def tried(op: Operation) -> list[tuple[str, int, int]]:
    """(candidate, predicted cycles, unit cells), the best first; empty where the scheduler did not choose."""
    found = op.attributes.get(TRIED)
    rows: list[tuple[str, int, int]] = []
    for name, cost in found.data.items() if isinstance(found, DictionaryAttr) else ():
        if isa(cost, DenseArrayBase[I64]):
            cycles, cells = cost.get_values()
            rows.append((name, cycles, cells))
    return sorted(rows, key=lambda row: row[1])


@dataclass(frozen=True)
class SparseCompactPass(ProductPass):
    name = "sparse-compact"
    summary: ClassVar = "drops empty rows and columns: whole-space covers -> compacted covers, with a plan"
    refuses: ClassVar = "unknown modes, windows below one row, efforts beyond 3, gathering for sparse.sddmm"
    option_help: ClassVar = {
        "mode": f"one of {', '.join(MODES)}, or a strategy: {', '.join(STRATEGIES)}; auto asks the scheduler",
        "window": "rows of a window, for modes window and fitted; the unit's rows when left out",
        "target": "preset or .toml file the scheduler costs for, for mode auto",
        "effort": "0 to 3: how hard mode auto searches for orders and bicliques",
        "seed": "of that search",
        "simulate": "whether the simulator decides between the best covers of mode auto; needs a C compiler",
    }

    mode: str = "auto"
    window: int | None = None
    target: str = "gemmini16"
    effort: int = 1
    seed: int = 0
    simulate: bool = False

    def rewrite(self, op: ProductOp) -> ProductOp | None:
        if self.mode not in MODES and self.mode not in STRATEGIES:
            known = ", ".join([*MODES, *STRATEGIES])
            raise PassFailedException(f"{self.name}: mode {self.mode!r} is not one of {known}")
        if self.window is not None and self.window < 1:
            raise PassFailedException(f"{self.name}: window {self.window} needs at least one row")
        if not 0 <= self.effort <= 3:
            raise PassFailedException(f"{self.name}: effort {self.effort} is not one of 0 to 3")
        # Compacted, lowered or grouped already.
        if op.plan is not None or not op.is_whole:
            return None
        compacted, plan, reason = self._choose_cells(op) if isinstance(op, SddmmOp) else self._choose(op)
        new = op.with_body([CoverOp(compacted)])
        new.plan, new.reason = StringAttr(plan), StringAttr(reason)
        return new

    def _choose_cells(self, op: SddmmOp) -> tuple[MetaOps, str, str]:
        """The cover, the plan, and why, for a mask: its unit cells or the dense plan."""
        pattern, cover = op.weight.pattern, op.cover()
        asked = f"mode {self.mode} was asked for"
        match self.mode:
            case "dense":
                return cover, "dense", asked
            case "auto" | "none" if not pattern.nnz:
                return MetaOps.of([]), "sparse", "the mask keeps no point"
            case "none":
                return cover, "sparse", asked
            case "auto":
                from sparsecc.schedule.sddmm import choose_cells

                target = Target.load(self.target).with_type(str(op.element_type))
                choice = choose_cells(pattern, op.space[2], target)
                op.attributes[TRIED] = _tried_attribute(choice.tried)
                return cover, choice.plan, choice.reason
            case _:
                refuse(
                    op,
                    f"mode {self.mode} gathers, and nothing of a mask is gathered; use auto, none or dense",
                )

    def _choose(self, op: ProductOp) -> tuple[MetaOps, str, str]:
        """The cover, the plan, and why."""
        pattern, n, unit = op.weight.pattern, op.positions, op.unit.shape
        asked = f"mode {self.mode} was asked for"
        if self.mode == "dense":
            return op.cover(), "dense", asked
        if not pattern.nnz:
            return MetaOps.of([]), "sparse", "the weight has no nonzero"
        match self.mode:
            case "none":
                return op.cover(), "sparse", asked
            case "global":
                return global_compaction(pattern, n, unit), "sparse", asked
            case "window":
                height = self.window or unit[0]
                return window_compaction(pattern, n, unit, height), "sparse", f"{asked}, {height} rows each"
            case "biclique":
                target = Target.load(self.target)
                limit = target.acc_rows // 2 if target.indexed is not None else None
                found = bicliques(pattern, n, unit, effort=self.effort, max_rows=limit, seed=self.seed)
                return found.metaops, "sparse", asked
            case "fitted":
                return self._fitted(op), "sparse", f"{asked}, {self.window or unit[0]} rows each"
            case mode if mode in STRATEGIES:
                return STRATEGIES[mode](pattern, n, unit, self.effort, self.seed), "sparse", asked
            case _ if isinstance(crossbars := load_target(self.target), CrossbarTarget):
                return self._choose_for_crossbars(op, crossbars)
            case _:
                from sparsecc.schedule import choose

                target = Target.load(self.target).with_type(str(op.weight.element_type))
                if epilogue_of(op.res) is not None:
                    # What is added in memory has no end at which something could be fused.
                    sources = tuple(s for s in target.sources if not s[0].startswith("scatter_add."))
                    target = replace(target, scatter_add=None, sources=sources)
                measure = None
                if isinstance(op, SpmmOp):
                    from sparsecc.codegen.timing import measure_of, with_stores

                    target = with_stores(target, op)
                    measure = measure_of(op, target) if self.simulate else None
                choice = choose(pattern, n, target, self.effort, self.seed, measure)
                # The operator that replaces this one has its attributes.
                op.attributes[TRIED] = _tried_attribute(
                    (c.name, c.plan.estimate.cycles, c.cells) for c in (choice.dense, *choice.candidates)
                )
                return choice.compacted, choice.plan, choice.reason

    def _fitted(self, op: ProductOp) -> MetaOps:
        """Windows whose columns are ordered to obey the first N:M pattern that the target takes."""
        target, height = Target.load(self.target), self.window or op.unit.shape[0]
        if not target.kept_patterns:
            refuse(
                op, f"mode fitted needs a target that takes N:M weights, {target.name} does not; use window"
            )
        if height > MOST_ROWS:
            refuse(op, f"mode fitted takes windows of at most {MOST_ROWS} rows, found {height}")
        pattern, kept = op.weight.pattern, target.kept_patterns[0]
        return fitted_panels(pattern, op.positions, op.unit.shape, natural(pattern), height, *kept)

    def _choose_for_crossbars(self, op: ProductOp, target: CrossbarTarget) -> tuple[MetaOps, str, str]:
        """The cover, the plan, and why, by what arrays, converters and drivers take."""
        from sparsecc.crossbar.choose import choose

        choice = choose(op.weight.pattern, op.weight.data, op.positions, target, self.effort, self.seed)
        op.attributes[TRIED] = _tried_attribute(
            (c.name, c.cost.cycles, c.cost.arrays) for c in choice.candidates
        )
        return choice.metaops, choice.plan, choice.reason
