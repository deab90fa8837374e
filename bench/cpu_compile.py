"""Time and memory from a matrix to loaded code for this CPU, as JSON. Status 1 when a goal is missed.

Run: python bench/cpu_compile.py [--n 128] [--repeats N]

90 % zeros, unstructured. Each case is a process of its own that takes a matrix in memory to an artifact
whose kernel is loaded: with assembling, linking and timing the variants (`tuned`), and again where what is
fastest is known but no code is kept (`built`). The kernels in C, which serve all matrices, are built before:
`runtime` says how long that takes, once for a machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import figure, machine, run, versions

ZEROS = 0.9
SHAPES = ((512, 512), (2048, 512), (1024, 1024), (2048, 2048), (4096, 4096))
# Processor seconds and GB that the largest cases may take.
GOALS = {(2048, 512): 2.0, (4096, 4096): 10.0}
MEMORY = 1.0


def one(rows: int, columns: int, n: int) -> dict[str, float]:
    """Seconds of this process and all it started, from the matrix to the loaded kernel."""
    import numpy as np
    from cpu import random_matrix

    import sparsecc

    matrix = random_matrix(rows, columns, ZEROS)
    before, wall = sum(os.times()[:4]), time.perf_counter()
    artifact: Any = sparsecc.compile(matrix, target="cpu", n=n)
    artifact(np.zeros((columns, n), np.float32))
    return {
        "cpu_s": sum(os.times()[:4]) - before, "wall_s": time.perf_counter() - wall,
        "nonzeros": float(matrix.nnz),
    }  # fmt: skip


def case(folder: Path, *arguments: object) -> tuple[dict[str, float], int]:
    """A case in a process of its own, and its peak memory in bytes."""
    used = run([sys.executable, __file__, "--one", *map(str, arguments)], {"SPARSECC_CACHE": str(folder)})
    return json.loads(used.output), used.peak_bytes


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--n", type=int, default=128, help="positions (default: 128)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", nargs=3, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(*options.one)))
        return 0
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        runtime = case(folder, 8, 8, options.n)[0]
        results["runtime"] = figure("kernels in C, once for a machine", "cpu s", [runtime["cpu_s"]])
        for m, k in SHAPES:
            tuned: list[dict[str, float]] = []
            built: list[dict[str, float]] = []
            peaks: list[float] = []
            for _ in range(options.repeats):
                for path in [*folder.glob("*/line-*"), *folder.glob("*/choice-*")]:
                    path.unlink()
                found, peak = case(folder, m, k, options.n)
                tuned.append(found)
                peaks.append(peak / 1e9)
                for path in folder.glob("*/line-*"):
                    path.unlink()
                built.append(case(folder, m, k, options.n)[0])
            name, goal = f"{m}x{k}", GOALS.get((m, k))
            cpu = [each["cpu_s"] for each in tuned]
            results[f"{name}_tuned"] = figure(f"{name}, 90 % zeros, tuned", "cpu s", cpu, goal)
            wall = [each["wall_s"] for each in tuned]
            results[f"{name}_wall"] = figure(f"{name}, 90 % zeros, tuned", "wall s", wall)
            again = [each["cpu_s"] for each in built]
            results[f"{name}_built"] = figure(f"{name}, 90 % zeros, what is fastest known", "cpu s", again)
            results[f"{name}_memory"] = figure(f"{name}, 90 % zeros", "GB, peak resident", peaks, MEMORY)
            each = [1e9 * run["cpu_s"] / run["nonzeros"] for run in built]
            results[f"{name}_nonzero"] = figure(f"{name}, 90 % zeros", "cpu ns per nonzero, built", each)
    print(json.dumps({"machine": machine(), "versions": versions(), "results": results}, indent=2))
    return int(any(result["met"] is False for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
