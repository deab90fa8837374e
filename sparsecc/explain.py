"""What is said of one product on a target, in sentences: what was found, what it costs, what would help.

The numbers are those of `sparsecc analyze`: by the model on tensor units and crossbars, measured on CPUs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sparsecc.analysis import Analysis, Search, analyze
from sparsecc.errors import UserError
from sparsecc.operator import Spmm, operator_of
from sparsecc.patterns import pattern_of
from sparsecc.patterns.generate import block, nm
from sparsecc.schedule.choose import choose
from sparsecc.target import AnyTarget, CpuTarget, Target
from sparsecc.target.crossbar import CrossbarTarget

if TYPE_CHECKING:
    from sparsecc.cpu_report import CpuReport
    from sparsecc.crossbar_analysis import CrossbarAnalysis
    from sparsecc.network.propagation import LayerGain

# From this share of random zeros on, structure is worth a word of its own.
_MORE = 1.05


@dataclass(frozen=True)
class Explanation:
    """One product: sentences for people, and the numbers in them."""

    name: str
    sentences: list[str]
    facts: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "sentences": self.sentences, **self.facts}

    def __str__(self) -> str:
        return "\n".join([self.name, *(f"  {s}" for s in self.sentences)])


def explain(
    matrix: Any,
    named: str,
    target: AnyTarget,
    *,
    n: int,
    dtype: str | None = None,
    search: Search | None = None,
    name: str | None = None,
    gain: LayerGain | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Explanation:
    """Explain C = W X for n columns on a target, which passes know as `named`.

    matrix: what `sparsecc.compile` takes. gain: what its neighbours in a network took from it. Raises
    UserError.
    """
    search = search or Search()
    if isinstance(target, CpuTarget):
        from sparsecc.compiler import compile

        artifact: Any = compile(
            matrix, target=named, n=n, dtype=dtype, seed=search.seed, name=name, progress=progress
        )
        facts, sentences = artifact.report, _on_cpu(artifact.report)
    else:
        operator = operator_of(matrix, n, target, dtype, search.seed, name)
        assert isinstance(operator, Spmm)
        typed = target.with_type(operator.in_type)
        if isinstance(typed, CrossbarTarget):
            from sparsecc.crossbar_analysis import analyze_crossbar

            facts = analyze_crossbar(operator, typed, named, search)
            sentences = _on_crossbars(facts)
        else:
            assert isinstance(typed, Target)
            facts = analyze(operator, typed, search)
            sentences = _on_tensor_unit(facts, typed, search)
    found: dict[str, Any] = dataclasses.asdict(facts)
    found.pop("name")
    sentences = [
        _what(found),
        *([_neighbours(gain)] if gain is not None and gain.changed else []),
        *sentences,
    ]
    if gain is not None:
        found["propagated"] = dataclasses.asdict(gain)
    return Explanation(facts.name, sentences, found)


def _what(found: dict[str, Any]) -> str:
    m, k, n = found["shape"]
    return (
        f"W is {m} x {k} with {found['nnz']} nonzeros, {_percent(found['density'])} of it, times {n} "
        f"columns. Its pattern: {found['pattern']}."
    )


def _neighbours(gain: LayerGain) -> str:
    """What a layer owes to the layers around it."""
    parts: list[str] = []
    if gain.rows_not_needed:
        after = f", as {_listed(gain.next)} shows" if gain.next else ""
        parts.append(f"{_count(gain.rows_not_needed, 'row')} that nothing after it needs{after}")
    if gain.columns_known:
        before = f" by {_listed(gain.previous)}" if gain.previous else ""
        parts.append(f"{_count(gain.columns_known, 'column')} whose inputs are fixed{before}")
    (rows, left), (columns, across), (entries, kept) = gain.rows, gain.columns, gain.entries
    what = f": it had {' and '.join(parts)}" if parts else ""
    return (
        f"Its neighbours made it smaller, from {rows} x {columns} with {entries} nonzeros to {left} x "
        f"{across} with {kept}{what}."
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


# ---- tensor units


def _on_tensor_unit(found: Analysis, target: Target, search: Search) -> list[str]:
    m, _, k = target.unit
    refused = 1 - found.cells / max(1, found.dense_cells)
    dense = (
        f"The dense plan takes {found.dense_cycles} cycles by the model: {found.dense_cells} cells of "
        f"{m} x {k}, {found.dense_weight_bytes} bytes of weights."
    )
    cover = (
        f"the best cover, {found.best}, computes {found.cells} cells, {_percent(max(0.0, refused))} fewer, "
        f"of whose points {_percent(found.fill)} are nonzeros, and fetches {found.weight_bytes} bytes of "
        "weights"
    )
    match found.verdict:
        case "chosen":
            taken = (
                f"That is beaten: {cover}. It takes {found.sparse_cycles} cycles, {found.speedup:.2f}x "
                "faster."
            )
        case "eligible":
            taken = (
                f"Dense is taken: {cover}, but takes {found.sparse_cycles} cycles, "
                f"{found.sparse_cycles / max(1, found.dense_cycles):.2f}x as many."
            )
        case _:
            taken = (
                f"Dense is taken: in every cover every cell holds a nonzero, so nothing is refused and "
                f"{found.padding} zeros are computed."
            )
    bound = (
        f"What takes longest is {found.bound_by}. No plan takes fewer than {found.cycles_bound} cycles; this "
        f"one takes {found.gap:.2f} times that."
    )
    return [dense, taken, bound, *_what_would_help(found, target, search)]


def _what_would_help(found: Analysis, target: Target, search: Search) -> list[str]:
    """What the same number of nonzeros would be worth at other places."""
    m, k, n = found.shape
    unit_m, _, unit_k = target.unit
    said: list[str] = []
    if not 0 < found.density < 1:
        return said
    if found.control_speedup * _MORE < found.speedup:
        said.append(
            f"Nonzeros at random, as many, would gain {found.control_speedup:.2f}x: what exceeds it is "
            "structure."
        )
    elif found.verdict == "chosen":
        said.append(f"Nonzeros at random, as many, would gain as much ({found.control_speedup:.2f}x).")
    if found.break_even is not None:
        relation = "above" if found.density > found.break_even else "below"
        said.append(
            f"Zeros at random pay from a density of {_percent(found.break_even)} down on this shape; "
            f"this one is {relation} it."
        )
    # Blocks of the unit are the best that zeros can look like; a chip may take groups besides.
    whole = block((m, k), (unit_m, unit_k), found.density, search.seed)
    ideal = choose(pattern_of(whole), n, target, search.effort, search.seed)
    cycles = ideal.best.plan.estimate.cycles
    gain = max(ideal.dense.plan.estimate.cycles, 1.0) / max(cycles, 1.0)
    said.append(
        f"The same density in whole blocks of {unit_m} x {unit_k} would take {round(cycles)} cycles, "
        f"{gain:.2f}x faster than dense."
    )
    for kept in target.kept_patterns:
        grouped = pattern_of(nm((m, k), kept.keep, kept.group, search.seed))
        choice = choose(grouped, n, target, search.effort, search.seed)
        gain = choice.dense.plan.estimate.cycles / max(choice.best.plan.estimate.cycles, 1.0)
        said.append(f"As {kept}, which the unit skips by itself, it would be {gain:.2f}x faster than dense.")
    return said


# ---- crossbars


def _on_crossbars(found: CrossbarAnalysis) -> list[str]:
    dense = (
        f"The dense mapping takes {found.arrays_dense} arrays, {found.dense_cycles} cycles and "
        f"{found.dense_energy_pj / 1e6:.4g} uJ by the model, with converters of "
        f"{_bits(found.dense_adc_bits)} bits."
    )
    match found.verdict:
        case "chosen":
            taken = (
                f"That is beaten by {found.best}: {found.arrays} arrays, {found.sparse_cycles} cycles "
                f"({found.speedup:.2f}x) and {found.sparse_energy_pj / 1e6:.4g} uJ "
                f"({found.energy_ratio:.2f}x less), converters of {_bits(found.adc_bits)} bits."
            )
        case "eligible":
            taken = (
                f"Dense is taken: {found.best} programs fewer cells, but takes {found.sparse_cycles} cycles "
                f"and {found.sparse_energy_pj / 1e6:.4g} uJ."
            )
        case _:
            taken = "Dense is taken: no cover programs fewer cells."
    said = [dense, taken, f"What decides: {found.why}."]
    said.append(
        f"No exact mapping takes less than {found.energy_bound_pj / 1e6:.4g} uJ; this one takes "
        f"{found.energy_gap:.2f} times that."
    )
    if found.verdict == "chosen":
        structure = found.control_energy_ratio * _MORE < found.energy_ratio
        said.append(
            f"The same values at random places would take {found.control_energy_ratio:.2f}x less energy than "
            f"dense{': what exceeds it is structure' if structure else ''}."
        )
    if found.rounds:
        said.append(
            f"They do not all fit the chip's {found.arrays_available} arrays: in each inference arrays are "
            f"written anew, {found.rounds} rounds."
        )
    repaid = found.inferences_to_break_even
    if found.verdict == "chosen" and repaid:
        said.append(
            f"Programming costs more than the dense mapping's and is repaid after {repaid} inferences."
        )
    return said


def _bits(conversions: dict[int, int]) -> str:
    return ", ".join(map(str, sorted(conversions))) or "no"


# ---- CPUs


def _on_cpu(found: CpuReport) -> list[str]:
    wall, dense = found.wall_ms, found.dense_ms
    if wall is None or dense is None:
        raise UserError(f"{found.name}: nothing was measured on target {found.target}")
    library = "BLAS" if found.dense_library == "blas" else "our own dense kernel"
    said = [f"The dense plan takes {dense:.4g} ms on one core of this machine, by {library}, measured."]
    if found.plan == "dense":
        said.append("Dense is taken: no sparse kernel was faster.")
    else:
        said.append(f"Taken is {found.kernel}: {wall:.4g} ms, {dense / wall:.2f}x faster.")
    if found.peak_fraction is not None:
        said.append(f"That is {_percent(found.peak_fraction)} of the core's peak, counting nonzeros only.")
    if found.plan != "dense" and found.density:
        level = min(1.0, found.density * dense / wall)
        said.append(
            f"If time stays proportional to nonzeros, zeros pay from a density of about {_percent(level)} "
            "down."
        )
    if found.reason:
        said.append(f"What decides: {found.reason}.")
    return said
