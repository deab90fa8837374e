"""The best row-ordered cover of each real matrix beside those of its statistics. Status 1 where it is worse.

Run: python bench/orders.py [--effort N] [--seed N] [--only TEXT] [--json FILE] [--data FOLDER]

All shares are parts of the dense work on 16 x 16 units, counted as the statistics do: gathered panels by
their columns and true heights, tiles by the area of those that hold a nonzero.

w16b   tiles after rows and columns are reordered, of the statistics
p16r   gathered panels of 16 rows after rows are reordered, of the statistics
best   the least share that a strategy leaves whose rows need no indexed accumulation; a matrix passes where
       it is not more than the smaller of the two
cells  the same cover in whole unit cells, of all unit cells
bcr    cells of the best cover by blocks with their own rows and columns, where it is no other cover, too
peer   the least share of a published system's cover, its own padding computed

Times are processor seconds for all strategies but the published ones.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from measure import DATA, machine, versions

UNIT = (16, 16, 16)
POSITIONS = 128
# The statistics are written with six digits.
ROUNDING = 1e-5


def measured(path: Path, known: dict[str, str], effort: int, seed: int) -> dict[str, Any]:
    """The figures of one matrix; known: its line of the statistics."""
    import numpy as np

    from sparsecc.cover.cells import count_cells, split
    from sparsecc.cover.laws import Pattern
    from sparsecc.cover.strategies import STRATEGIES, covers
    from sparsecc.importers import load_matrix

    csr = load_matrix(str(path)).csr
    pattern = Pattern(*csr.shape, csr.indptr.astype(np.int64), csr.indices.astype(np.int32))
    dense = pattern.m * pattern.k
    dense_cells = -(-pattern.m // UNIT[0]) * -(-pattern.k // UNIT[2])

    start = time.process_time()
    ours = dict(covers(pattern, POSITIONS, UNIT, effort, seed, indexed_rows=True))
    seconds = time.process_time() - start
    kept = {name: split(cover, pattern, UNIT) for name, cover in ours.items()}
    shares = {n: c.area / dense for n, c in kept.items() if not STRATEGIES[n].indexed_rows}
    blocks = {n: len(c) / dense_cells for n, c in kept.items() if STRATEGIES[n].indexed_rows}
    best = min(shares, key=lambda name: shares[name])
    result: dict[str, Any] = {
        "w16b": float(known["work16b"]),
        "p16r": float(known["panel16r"]),
        "best": shares[best],
        "by": best,
        "cells": len(kept[best]) / dense_cells,
        "bcr": min(blocks.values(), default=None),
        "seconds": seconds,
        "shares": shares,
        "bcr_cells": blocks,
    }
    bound = min(result["w16b"], result["p16r"])
    result["pass"] = result["best"] <= bound * (1 + ROUNDING) + 1e-12
    peers = {n: s(pattern, POSITIONS, UNIT, effort, seed) for n, s in STRATEGIES.items() if s.published}
    result["peers"] = {n: c.area / dense for n, c in peers.items()}
    result["peer_cells"] = {n: count_cells(c, UNIT) / dense_cells for n, c in peers.items()}
    return result


def line(name: str, result: dict[str, Any]) -> str:
    """One line of the table."""
    peer = min(result["peers"], key=lambda p: result["peers"][p])
    bcr = "      -" if result["bcr"] is None else f"{result['bcr']:7.4f}"
    shares = "".join(f" {result[key]:7.4f}" for key in ("w16b", "p16r", "best"))
    return (
        f"{name:36s}{shares} {result['by']:10s} {result['cells']:7.4f} {bcr} "
        f"{result['peers'][peer]:7.4f} {peer:6s} {result['seconds']:6.2f} "
        f"{'pass' if result['pass'] else 'FAIL'}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--effort", type=int, default=2, choices=range(4), help="effort of the search (2)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the search (0)")
    parser.add_argument("--only", default="", help="only matrices whose file name holds this")
    parser.add_argument("--json", type=Path, help="write all figures here, too")
    parser.add_argument(
        "--data", type=Path, default=DATA, help="folder of the real matrices (../shared/data)"
    )
    options = parser.parse_args()
    # One thread: then processor seconds are the time of the search, not of idle threads.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    statistics = options.data / "stats.csv"
    if not statistics.is_file():
        print(f"{statistics} does not exist; nothing to compare with", file=sys.stderr)
        return 2
    results: dict[str, Any] = {}
    print(
        f"{'matrix':36s} {'w16b':>7s} {'p16r':>7s} {'best':>7s} {'by':10s} {'cells':>7s} {'bcr':>7s} "
        f"{'peer':>7s} {'':6s} {'cpu s':>6s}"
    )
    with statistics.open(newline="") as lines:
        for known in csv.DictReader(lines):
            if options.only not in known["file"]:
                continue
            path = Path(known["file"])
            name = f"{path.parent.name}/{path.name.split('.')[0]}"
            result = measured(options.data / path, known, options.effort, options.seed)
            results[name] = result
            print(line(name, result), flush=True)
    failed = [name for name, result in results.items() if not result["pass"]]
    total = sum(result["seconds"] for result in results.values())
    print(
        f"{len(results) - len(failed)} of {len(results)} pass at effort {options.effort}; {total:.1f} cpu s"
    )
    if options.json:
        report = {
            "benchmark": "orders",
            "machine": machine(),
            "versions": versions(),
            "effort": options.effort,
            "seed": options.seed,
            "results": results,
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
