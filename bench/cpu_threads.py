"""What a second core gains: products of more than 20 MFLOP on one thread and on several, in turns, as JSON.

Run: python bench/cpu_threads.py [--threads 2] [--n 128] [--data FOLDER] [--match TEXT]

On rows and on panels; the goal is 1.8 times the speed on two cores that do nothing else. Each thread has its
core: where others run, Linux wakes a thread on the core of the one that called it. What the machine itself
gives stands beside it ("apart"): how many times as many products are done at once that have nothing in
common, each on a core and arrays of its own, as by one; the smaller of before and after. Where that is not
close to the number of threads, something else runs on the cores, or the host of a virtual machine gives them
in turns; such a row is not counted as below the goal.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from cpu import cases, measure
from cpu_peers import Call, aligned
from measure import DATA, machine

MEGAFLOP, GOAL = 20, 1.8
# Seconds that each of several calls at once repeats what it does.
TOGETHER = 0.05


def pin(cores: list[int]) -> None:
    """This thread to the first core, all others that there are to the others in turn."""
    others = [int(name) for name in os.listdir("/proc/self/task") if int(name) != threading.get_native_id()]
    for i, thread in enumerate([threading.get_native_id(), *sorted(others)]):
        os.sched_setaffinity(thread, {cores[0] if i == 0 else cores[1 + (i - 1) % (len(cores) - 1)]})


def at_once(calls: list[Call], cores: list[int]) -> float:
    """How many times as many calls a second cores do at once as the first does alone, each its own call.

    By the clock on the wall, and of all calls, not the fastest: else a machine that gives its cores in turns
    would look like one that gives them at once.
    """

    def rate(i: int) -> float:
        os.sched_setaffinity(0, {cores[i]})
        start, made = time.perf_counter(), 0
        while (passed := time.perf_counter() - start) < TOGETHER:
            calls[i]()
            made += 1
        return made / passed

    with ThreadPoolExecutor(len(cores)) as pool:
        alone = pool.submit(rate, 0).result()
        return round(sum(pool.map(rate, range(len(cores)))) / alone, 2)


def gains(w: Any, n: int, cores: list[int]) -> dict[str, float]:
    """How many times as fast threads on so many cores are as one."""
    import sparsecc

    threads = len(cores)
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
    calls["rows", threads]()  # starts the threads
    pin(cores)
    apart = [artifact.bind(aligned(x.shape), aligned(y.shape)) for _ in range(threads)]
    before = at_once(apart, cores)
    seconds: dict[Any, float] = measure(calls)  # pyright: ignore[reportArgumentType]
    found = {layout: round(seconds[layout, 1] / seconds[layout, threads], 2) for layout in ("rows", "panels")}
    return found | {"apart": min(before, at_once(apart, cores))}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--n", type=int, default=128, help="positions (default: 128)")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with matrices/dlmc")
    parser.add_argument("--match", default="", help="only matrices with this in their name")
    arguments = parser.parse_args()
    if len(cores := sorted(os.sched_getaffinity(0))) < arguments.threads or arguments.threads < 2:
        print(f"{len(cores)} cores are there for {arguments.threads} threads; needed two", file=sys.stderr)
        return 2
    cores = cores[: arguments.threads]
    rows: list[dict[str, Any]] = []
    for name, w in cases(arguments.data, False):
        megaflop = 2e-6 * w.nnz * arguments.n
        if arguments.match in name and megaflop > MEGAFLOP:
            rows.append({"matrix": name, "megaflop": round(megaflop, 1), **gains(w, arguments.n, cores)})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    means = {k: round(statistics.geometric_mean(r[k] for r in rows), 2) for k in ("rows", "panels") if rows}
    below = [r["matrix"] for r in rows if r["rows"] < GOAL <= r["apart"]]
    found = {"machine": machine(), "threads": arguments.threads, "n": arguments.n}
    print(json.dumps({**found, "means": means, "below_goal": below, "rows": rows}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
