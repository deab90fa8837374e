"""What a second core gains: products of more than 20 MFLOP on one thread and on several, in turns, as JSON.

Run: python bench/cpu_threads.py [--threads 2] [--n 128] [--data FOLDER] [--match TEXT]

On rows and on panels; the goal is 1.8 times the speed on two cores that do nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from cpu import cases, measure
from cpu_peers import aligned
from measure import DATA, machine

MEGAFLOP, GOAL = 20, 1.8


def gains(w: Any, n: int, threads: int) -> dict[str, float]:
    """How many times as fast so many threads are as one."""
    import sparsecc

    artifact: Any = sparsecc.compile(w, target="cpu", n=n)
    x, y = aligned((w.shape[1], n)), aligned((w.shape[0], n))
    x[:] = np.random.default_rng(1).standard_normal(x.shape)
    panels = artifact.pack(x)
    out = artifact(panels)
    calls = {
        (layout, count): artifact.bind(*arrays, threads=count)
        for layout, arrays in (("rows", (x, y)), ("panels", (panels, out)))
        for count in (1, threads)
    }
    seconds: dict[Any, float] = measure(calls)  # pyright: ignore[reportArgumentType]
    return {layout: round(seconds[layout, 1] / seconds[layout, threads], 2) for layout in ("rows", "panels")}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--n", type=int, default=128, help="positions (default: 128)")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with matrices/dlmc")
    parser.add_argument("--match", default="", help="only matrices with this in their name")
    arguments = parser.parse_args()
    if (cores := len(os.sched_getaffinity(0))) < arguments.threads:
        print(f"{cores} cores are there for {arguments.threads} threads", file=sys.stderr)
        return 2
    rows: list[dict[str, Any]] = []
    for name, w in cases(arguments.data, False):
        megaflop = 2e-6 * w.nnz * arguments.n
        if arguments.match in name and megaflop > MEGAFLOP:
            found = gains(w, arguments.n, arguments.threads)
            rows.append({"matrix": name, "megaflop": round(megaflop, 1), **found})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    means = {k: round(statistics.geometric_mean(r[k] for r in rows), 2) for k in ("rows", "panels") if rows}
    below = [r["matrix"] for r in rows if r["rows"] < GOAL]
    found = {"machine": machine(), "threads": arguments.threads, "n": arguments.n}
    print(json.dumps({**found, "means": means, "below_goal": below, "rows": rows}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
