"""Simulated cycles of sparsecc's choice against the covers of published systems, as JSON.

Run: python bench/covers.py [--target T] [--n N] [--effort 0..3] [--data FOLDER] [--all] [--quick]

Every published strategy (BSR, SparTA, 1-SA, TC-GNN's SGT, DTC-SpMM's TCA) is scheduled by the same compiler
and run by the same simulator; only the cover differs. Ours is the plan that sparsecc takes. The goals: never
behind any of them, and at least 10 % ahead of the best of them (geometric mean) on the pruned DLMC layers
where any of them beats the dense plan.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from measure import DATA, machine, versions

QUICK = 6


@dataclass(frozen=True)
class Row:
    """One matrix: cycles of the dense plan, of ours, and of each published cover."""

    matrix: str
    dense: int
    ours: int
    ours_name: str
    peers: dict[str, int]

    @property
    def best_peer(self) -> int:
        """The fastest published cover."""
        return min(self.peers.values())


def cycles_of(path: Path, target: str, n: int, plan: str, effort: int) -> tuple[int, int, str]:
    """Cycles of a plan, of the dense plan, and why."""
    import sparsecc

    artifact = sparsecc.compile(path, target=target, n=n, plan=plan, effort=effort)
    return artifact.timing.cycles, artifact.dense.timing.cycles, artifact.reason


def compare(path: Path, target: str, n: int, effort: int) -> Row:
    """Run every cover of one matrix."""
    from sparsecc.cover.strategies import STRATEGIES

    ours, dense, reason = cycles_of(path, target, n, "auto", effort)
    peers = {
        name: cycles_of(path, target, n, name, effort)[0]
        for name, strategy in STRATEGIES.items()
        if strategy.published
    }
    return Row(path.name, dense, ours, reason.partition(":")[0], peers)


def summary(rows: list[Row]) -> dict[str, object]:
    """Whether the goals are met."""
    pruned = [row for row in rows if row.matrix.startswith(("tf_", "rn_")) and "rand" not in row.matrix]
    won = [row for row in pruned if row.best_peer < row.dense]
    ratios = [row.best_peer / row.ours for row in won]
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None
    behind = [row.matrix for row in rows if row.ours > row.best_peer]
    return {
        "matrices": len(rows),
        "behind_a_peer": behind,
        "never_behind": not behind,
        "dlmc_where_a_peer_beats_dense": len(won),
        "geometric_mean_over_best_peer": mean,
        "goal": 1.1,
        "met": mean is not None and mean >= 1.1,
    }


def main(argv: list[str] | None = None) -> int:
    """Print the comparison; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", default="gemmini16")
    parser.add_argument("--n", type=int, default=128)
    parser.add_argument("--effort", type=int, default=1, choices=range(4))
    parser.add_argument("--data", type=Path, default=DATA, help="folder of matrices (default: %(default)s)")
    parser.add_argument("--all", action="store_true", help="all matrices, not the pruned DLMC layers alone")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} matrices only")
    arguments = parser.parse_args(argv)
    folder = arguments.data / "matrices" / ("" if arguments.all else "dlmc")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    if not paths:
        print(f"error: no matrices under {folder}; name their folder with --data", file=sys.stderr)
        return 1
    if arguments.quick:
        paths = paths[:: max(1, len(paths) // QUICK)]
    rows: list[Row] = []
    for path in paths:
        rows.append(compare(path, arguments.target, arguments.n, arguments.effort))
        row = rows[-1]
        print(
            f"{row.matrix:36} dense {row.dense:8} ours {row.ours:8} best peer {row.best_peer:8}",
            file=sys.stderr,
            flush=True,
        )
    report = {
        "machine": machine(),
        "versions": versions(),
        "target": arguments.target,
        "n": arguments.n,
        "effort": arguments.effort,
        "rows": [asdict(row) for row in rows],
        "summary": summary(rows),
    }
    print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
