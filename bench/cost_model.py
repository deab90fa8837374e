"""How near the cost model comes to the simulator, over real matrices and all targets, as JSON.

Run: python bench/cost_model.py [--quick] [--data FOLDER] [--n N] [--details]

For every matrix and target, the cycles that the model predicts for the sparse plan it likes best and for the
dense plan, against the cycles the simulator counts. Errors are relative, |predicted - simulated| / simulated;
the rank correlation says whether the model orders plans as the simulator does. The choice is wrong where the
model takes the slower of the two plans; what that costs is the time lost.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from measure import DATA, machine, versions

TARGETS = (
    "gemmini16", "gemmini16x", "tpu128", "ascend910", "nvidia-tc", "scalesim-ws16", "scalesim-ws32",
    "scalesim-ws128",
)  # fmt: skip
QUICK_TARGETS = ("gemmini16", "ascend910")
QUICK_MATRICES = 12


@dataclass(frozen=True)
class Plan:
    """One plan of one matrix on one target."""

    matrix: str
    target: str
    plan: str
    chosen: bool
    """Whether the model took it."""
    predicted: int
    simulated: int

    @property
    def error(self) -> float:
        """Relative error of the prediction, signed: above 0 where the plan is faster than predicted."""
        return (self.predicted - self.simulated) / max(self.simulated, 1)


def matrices(data: Path, quick: bool) -> list[Path]:
    """Files of the real matrices; a spread of them when quick."""
    found = sorted(path for path in (data / "matrices").rglob("*") if path.is_file())
    return found[:: max(1, len(found) // QUICK_MATRICES)] if quick else found


def plans_of(path: Path, target: str, n: int) -> list[Plan]:
    """The plan that the model took, and the dense one where that is another."""
    import sparsecc

    found = sparsecc.compile(path, target=target, n=n, confirm=False)
    return [
        Plan(
            path.name,
            target,
            artifact.plan,
            artifact is found,
            artifact.predicted().predicted_cycles,
            artifact.timing.cycles,
        )
        for artifact in {id(a): a for a in (found, found.dense)}.values()
    ]


def summary(plans: list[Plan]) -> dict[str, Any]:
    """Errors, rank correlation and wrong choices of some plans on one target."""
    from scipy.stats import spearmanr  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    sizes = [abs(p.error) for p in plans]
    worst = max(plans, key=lambda p: abs(p.error))
    predicted, simulated = [p.predicted for p in plans], [p.simulated for p in plans]
    # Without differences there is no order to agree on.
    ranked = min(len(set(predicted)), len(set(simulated))) > 1
    correlation = float(cast(Any, spearmanr(predicted, simulated)).statistic) if ranked else None
    return {
        "plans": len(plans),
        "median_relative_error": round(statistics.median(sizes), 4),
        "median_signed_error": round(statistics.median(p.error for p in plans), 4),
        "max_relative_error": round(abs(worst.error), 4),
        "worst": asdict(worst),
        "spearman": None if correlation is None else round(correlation, 5),
    }


def choices(plans: list[Plan]) -> dict[str, Any]:
    """Where the model took a sparse plan that the simulator finds slower than the dense one."""
    pairs: dict[str, dict[str, Plan]] = {}
    for plan in plans:
        pairs.setdefault(plan.matrix, {})[plan.plan] = plan
    both = [pair for pair in pairs.values() if len(pair) == 2]
    wrong = [pair for pair in both if pair["sparse"].simulated >= pair["dense"].simulated]
    lost = [pair["sparse"].simulated / max(pair["dense"].simulated, 1) - 1 for pair in wrong]
    return {
        "sparse_taken": len(both),
        "dense_taken": len(pairs) - len(both),
        "sparse_slower_than_dense": sorted(pair["sparse"].matrix for pair in wrong),
        "most_time_lost": round(max(lost, default=0.0), 4),
    }


def measured(data: Path, quick: bool, n: int, details: bool) -> dict[str, Any]:
    """All figures; none where the matrices are missing."""
    from sparsecc.errors import UserError

    files = matrices(data, quick)
    plans: list[Plan] = []
    failed: dict[str, str] = {}
    for target in QUICK_TARGETS if quick else TARGETS:
        for path in files:
            try:
                plans += plans_of(path, target, n)
            except UserError as e:
                failed[f"{path.name} on {target}"] = str(e)
    by_target: dict[str, list[Plan]] = {}
    for plan in plans:
        by_target.setdefault(plan.target, []).append(plan)
    return {
        "benchmark": "cost_model",
        "machine": machine(),
        "versions": versions(),
        "unit": "cycles",
        "positions": n,
        "quick": quick,
        "matrices": len(files),
        "skipped": None if files else f"{data / 'matrices'} holds no matrices",
        "failed": failed,
        "targets": {
            target: {
                "all": summary(some),
                **{
                    kind: summary(of_kind)
                    for kind in ("sparse", "dense")
                    if (of_kind := [p for p in some if p.plan == kind])
                },
                "choices": choices(some),
            }
            for target, some in by_target.items()
        },
        **({"plans": [asdict(p) for p in plans]} if details else {}),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two targets and some of the matrices")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the matrices (../shared/data)")
    parser.add_argument("--n", type=int, default=64, help="columns of X (64)")
    parser.add_argument("--details", action="store_true", help="list every plan")
    options = parser.parse_args()
    print(json.dumps(measured(options.data, options.quick, options.n, options.details), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
