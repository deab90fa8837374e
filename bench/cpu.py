"""Pruned matrices on one core: sparsecc and every library that is installed, as table, JSON and plot.

Run: python bench/cpu.py [--n 8,32,128] [--quick] [--data FOLDER] [--output FILE.json] [--plot FILE.png]
     [--peers NAME,...] [--match TEXT] [--dtype i8|bf16|f16]

Effective GFLOP/s, 2 nnz N / time. All peers run in one process, pinned to one core, one thread each, warm, in
turns: in each round every peer is called for some milliseconds, three times at least, and its fastest call
counts; the figure is the median of the rounds. Peers that are not there are listed with the reason. Every
result is checked.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cpu_narrow_peers import narrow_peers, narrowed, random_input
from cpu_peers import PEERS, Call, aligned
from measure import DATA, machine, versions

ROUNDS, TURN, LEAST = 7, 0.004, 3
# Of results that are rounded to the type.
ROUNDING = {"i8": 0.0, "bf16": 2.0**-7, "f16": 2.0**-10}
Peer = Callable[[Any, Any], Call]
SHAPES = ((512, 512), (2048, 512))
# At the first, sparse products should be faster than dense ones already.
BREAK_EVEN = 0.35
SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)


def random_matrix(m: int, k: int, sparsity: float) -> Any:
    import scipy.sparse as sp  # pyright: ignore[reportMissingTypeStubs]

    rng = np.random.default_rng(0)
    dense = (rng.random((m, k)) >= sparsity) * rng.standard_normal((m, k))
    return sp.csr_array(dense.astype(np.float32))


def cases(data: Path, quick: bool) -> list[tuple[str, Any]]:
    """Names and matrices, float32."""
    found = [
        (f"unstructured {m}x{k} {100 * s:g}%", random_matrix(m, k, s))
        for m, k in (SHAPES[:1] if quick else SHAPES)
        for s in (SPARSITIES[1::2] if quick else SPARSITIES)
    ]
    if quick:
        return found
    found += [
        (f"unstructured {m}x{k} {100 * BREAK_EVEN:g}%", random_matrix(m, k, BREAK_EVEN)) for m, k in SHAPES
    ]
    found += [(f"unstructured 4096x4096 {100 * s:g}%", random_matrix(4096, 4096, s)) for s in (0.9, 0.95)]
    folder = data / "matrices" / "dlmc"
    if not folder.is_dir():
        print(f"{folder} is not there: no DLMC layers", file=sys.stderr)
        return found
    from sparsecc.importers import load_matrix
    from sparsecc.importers.matrix import seeded_values

    for path in sorted(folder.glob("**/*.smtx*")):
        csr: Any = seeded_values(load_matrix(str(path)), "f32", 0).csr
        if csr.nnz:
            found.append((path.name.partition(".")[0], csr.astype(np.float32)))
    return found


def measure(calls: dict[str, Call]) -> dict[str, float]:
    """Seconds of each peer: the median over rounds of the fastest call of a turn."""
    best: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            fastest, start, made = math.inf, time.perf_counter(), 0
            while True:
                before = time.perf_counter()
                call()
                after = time.perf_counter()
                fastest, made = min(fastest, after - before), made + 1
                if after - start > TURN and made >= LEAST:
                    break
            best[name].append(fastest)
    return {name: statistics.median(seconds) for name, seconds in best.items()}


def prepared(
    w: Any, x: Any, peers: list[str], known: dict[str, Peer], rounding: float
) -> tuple[dict[str, Call], dict[str, str]]:
    """The calls of all peers that are there and right, and the reasons of the others.

    rounding: the relative error that results may have because of their type.
    """
    exact = w.astype(np.float64) @ x.astype(np.float64)
    size = abs(w).astype(np.float64) @ np.abs(x.astype(np.float64))
    calls: dict[str, Call] = {}
    absent: dict[str, str] = {}
    for name in peers:
        try:
            call = known[name](w, x)
            y: Any = call()
            if hasattr(y, "fill") and y.dtype.kind == "f":
                y.fill(np.nan)  # every value is to be written, those of empty rows, too
                y = call()
            y = y.float().numpy() if hasattr(y, "float") else y
            if y.ndim == 3:  # panels
                y = y.transpose(1, 0, 2).reshape(w.shape[0], -1)
        except (ImportError, OSError, RuntimeError, AttributeError) as e:
            absent[name] = (str(e).splitlines() or [type(e).__name__])[0]
            continue
        if not (np.abs(y - exact) <= (w.shape[1] * 2.0**-23 + rounding) * size + 1e-30).all():
            absent[name] = "wrong values"
            continue
        calls[name] = call
    return calls, absent


def pattern_bytes(shape: tuple[int, int], nnz: int) -> float:
    """Bytes that say which of the elements are the nonzeros, on average over all such patterns, at least.

    There are (M K over nnz) of them, so that no format takes less than the logarithm of that.
    """
    whole = shape[0] * shape[1]
    ways = math.lgamma(whole + 1) - math.lgamma(nnz + 1) - math.lgamma(whole - nnz + 1)
    return ways / math.log(2) / 8


def read_by(w: Any, variant: Any) -> tuple[int, int, int]:
    """What a kernel for one position takes from caches: bytes, single loads, and bytes in whole vectors.

    Bytes are those of its layout, places without a value, too, and of X and Y. Of tiles X is in registers; of
    rounds 6 of the 17 open blocks, one for each step, are not. Of pairs each step, or every second one, loads
    32 values of X. Of slices, and of values of rounds that stand alone, each nonzero takes loads of its own.
    """
    from sparsecc.cpu.arrays import sliced_arrays, vector_arrays
    from sparsecc.cpu.pairs import paired_arrays
    from sparsecc.cpu.rounds import round_arrays

    loads = vectors = 0
    if variant.rounds:
        arrays = round_arrays(w)
        singles = arrays.singles, arrays.single_rows, arrays.single_columns
        read = arrays.values, arrays.picks, arrays.rows, *singles
        vectors = arrays.values.nbytes * 23 // 17 + arrays.picks.nbytes
        # Of a single value that of X, its row, and the sum of it; of each row which it is.
        loads = 3 * arrays.singles.size + w.shape[0]
    elif variant.pairs:
        arrays = paired_arrays(w, variant.pairs)
        read = arrays.values, arrays.columns, arrays.pairs, arrays.rows
        vectors = arrays.values.nbytes + 2 * arrays.values.nbytes // variant.pairs + arrays.columns.nbytes
    elif variant.sliced:
        arrays = sliced_arrays(w)
        read = arrays.values, arrays.columns, arrays.masks, arrays.rows
        loads = arrays.values.size + len(arrays.values)
    else:
        arrays = vector_arrays(w)
        read = arrays.values, arrays.columns, arrays.masks, arrays.places, arrays.rows
    return sum(a.nbytes for a in read) + 4 * sum(w.shape), loads, vectors


def limits_of_one_position(w: Any, x: Any, top: float) -> dict[str, Any]:
    """The kernel that was chosen for one position, called from C, beside what limits it: medians of rounds.

    Calls from Python take some tenths of a microsecond, which small products do not take much longer than.
    Below the time of `bound_by` no kernel can be on this core: values, a pattern as short as one can be, X
    and Y have to pass, as fast as this core reads so many bytes again and again, from whichever cache holds
    them; and each nonzero takes a lane of a multiply-add. Below that of `layout_bound_by` this kernel cannot
    be: `read_by`, whole vectors and single loads as fast as the first cache gives them. Each is timed in
    turns with the kernel: what another tenant of the processor slows down are both.
    top: f32 operations of a core per second.
    """
    from sparsecc.cpu.assembly import PLAIN
    from sparsecc.cpu.native import address, call_struct
    from sparsecc.cpu.tune import build, choose, runtime
    from sparsecc.importers.matrix import make_csr
    from sparsecc.target.load import native_target

    csr, target = make_csr(w.data, w.indices, w.indptr, w.shape), native_target()
    library, variant = runtime(target), choose(csr, target, 1).variant
    kernel, y = build(csr, target, variant, PLAIN, None), aligned((w.shape[0], 1))
    call = call_struct(x, y, None)
    least = 4 * w.nnz + pattern_bytes(w.shape, w.nnz) + 4 * sum(w.shape)
    size, loads, vectors = read_by(csr, variant)
    streams = {count: aligned((1, int(count / 4) + 128)) for count in (least, size)}
    cached = aligned((1, 1024))

    def read(count: float) -> float:
        return count / float(library.sc_read(address(streams[count]), streams[count].size, TURN))

    def from_first() -> float:
        of_vectors = vectors / float(library.sc_read(address(cached), cached.size, TURN))
        return of_vectors + loads / float(library.sc_loads(address(cached), cached.size, TURN))

    kernels: list[float] = []
    of_any: dict[str, list[float]] = {"reading W": [], "multiplying": []}
    of_layout: dict[str, list[float]] = {"reading its layout": [], "loads": []}
    for _ in range(ROUNDS):
        seconds = float(kernel.seconds(call, 1, TURN))
        kernels.append(seconds)
        of_any["reading W"].append(read(least) / seconds)
        of_any["multiplying"].append(2 * w.nnz / top / seconds)
        of_layout["reading its layout"].append(read(size) / seconds)
        of_layout["loads"].append(from_first() / seconds)

    def most(shares: dict[str, list[float]]) -> tuple[str, float]:
        medians = {what: round(statistics.median(found), 3) for what, found in shares.items()}
        return max(medians.items(), key=lambda item: item[1])

    bound_by, limit_share = most(of_any)
    layout_bound_by, layout_share = most(of_layout)
    return {
        "limit_share": limit_share, "bound_by": bound_by,
        "layout_share": layout_share, "layout_bound_by": layout_bound_by,
        "kernel_gflops": round(2e-9 * w.nnz / statistics.median(kernels), 2),
    }  # fmt: skip


def compare(name: str, w: Any, n: int, peers: list[str], top: float, dtype: str) -> dict[str, Any]:
    """One matrix with n positions. top: GFLOP/s of a core that only multiplies and adds."""
    started = time.perf_counter()
    if dtype == "f32":
        x = aligned((w.shape[1], n))
        x[:] = np.random.default_rng(1).standard_normal(x.shape)
        calls, absent = prepared(w, x, peers, PEERS, 0.0)
    else:
        w, x = narrowed(w, dtype), random_input(w.shape[1], n, dtype)
        calls, absent = prepared(w, x, peers, narrow_peers(dtype), ROUNDING[dtype])
    seconds = measure(calls)
    operations = 2e-9 * w.nnz * n
    gflops = {peer: operations / s for peer, s in seconds.items()}
    others = {peer: g for peer, g in gflops.items() if not peer.startswith("sparsecc")}
    dense = {peer: g for peer, g in others.items() if peer.endswith("dense")}
    mine, panels = gflops.get("sparsecc", math.nan), gflops.get("sparsecc panels")
    reads = n == 1 and dtype == "f32" and "sparsecc" in seconds
    return {
        "matrix": name, "shape": list(w.shape), "nnz": int(w.nnz), "n": n,
        "sparsity": 1 - w.nnz / (w.shape[0] * w.shape[1]),
        "gflops": {peer: round(g, 2) for peer, g in gflops.items()},
        "best_peer": max(others, key=lambda p: others[p]) if others else None,
        "over_best_peer": round(mine / max(others.values()), 3) if others else None,
        "over_best_dense": round(mine / max(dense.values()), 3) if dense else None,
        "peak_share": round(mine / top, 3), "panels_peak_share": panels and round(panels / top, 3),
        **(limits_of_one_position(w, x, 1e9 * top) if reads else {}),
        "absent": absent,
        "prepared_s": round(time.perf_counter() - started, 2),
    }  # fmt: skip


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Geometric means over matrices of like sparsity."""
    found: list[dict[str, Any]] = []
    bands = ((0, 0.6), (0.6, 0.75), (0.75, 0.85), (0.85, 0.925), (0.925, 0.965), (0.965, 1))
    for n in sorted({row["n"] for row in rows}):
        for low, high in bands:
            band = [r for r in rows if r["n"] == n and low <= r["sparsity"] < high and r["over_best_peer"]]
            if not band:
                continue
            means: dict[str, float | None] = {}
            for key in ("over_best_peer", "over_best_dense"):
                known = [r[key] for r in band if r[key]]  # without a dense peer there is none
                means[key] = round(statistics.geometric_mean(known), 2) if known else None
            shares = [r["panels_peak_share"] for r in band if r["panels_peak_share"]]
            means["panels_peak_share"] = round(statistics.fmean(shares), 3) if shares else None
            behind = [r["matrix"] for r in band if r["over_best_peer"] < 1]
            found.append({"n": n, "sparsity": [low, high], "matrices": len(band), **means, "behind": behind})
    return found


def absent_everywhere(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Peers of which there is not one figure, with the reason given first."""
    there = {peer for row in rows for peer in row["gflops"]}
    reasons = {peer: why for row in reversed(rows) for peer, why in row["absent"].items()}
    return {peer: why for peer, why in reasons.items() if peer not in there}


def limits(row: dict[str, Any]) -> str:
    """At one position: how much of the kernel's time what takes longest would take alone."""
    return (
        f"kernel {row['kernel_gflops']}, {row['bound_by']} at least {100 * row['limit_share']:.1f} %, "
        f"{row['layout_bound_by']} {100 * row['layout_share']:.1f} %"
    )


def table(found: dict[str, Any]) -> str:
    """The summary and every row, for people."""
    lines = [f"{found['machine']['processor']}, peak of a core {found['peak_gflops']} GFLOP/s"]
    for row in found["rows"]:
        best = row["best_peer"]
        lines.append(
            f"{row['matrix']:38} N {row['n']:4}  {row['gflops'].get('sparsecc', math.nan):7.1f} GFLOP/s"
            f" {100 * row['peak_share']:5.1f} %"
            + (f", panels {100 * row['panels_peak_share']:5.1f} %" if row["panels_peak_share"] else "")
            + (f", {limits(row)}" if row.get("bound_by") else "")
            + (f"  {row['over_best_peer']:6.2f} x {best} ({row['gflops'][best]})" if best else "")
        )
    for band in found["summary"]:
        low, high = (f"{100 * s:g}" for s in band["sparsity"])
        lines.append(
            f"N {band['n']:4}, {low} to {high} % zeros, {band['matrices']} matrices: "
            f"{band['over_best_peer']} x the best peer, {band['over_best_dense']} x the best dense"
            + (f", panels at {band['panels_peak_share']} of peak" if band["panels_peak_share"] else "")
            + (f"; behind on {', '.join(band['behind'])}" if band["behind"] else "")
        )
    lines += [f"not compared: {peer}: {why}" for peer, why in found["absent"].items()]
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]], path: Path, peak: float) -> None:
    """GFLOP/s over sparsity, a panel for each N, a mark for each matrix and peer."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    positions = sorted({row["n"] for row in rows})
    colors = plt.get_cmap("tab20")
    known = [*PEERS, *(name for dtype in ROUNDING for name in narrow_peers(dtype))]
    names = sorted({peer for row in rows for peer in row["gflops"]}, key=known.index)
    figure, axes = plt.subplots(
        1, len(positions), figsize=(5 * len(positions), 4), squeeze=False, sharey=True
    )
    for axis, n in zip(axes[0], positions, strict=True):
        band = sorted((r for r in rows if r["n"] == n), key=lambda r: r["sparsity"])
        for i, name in enumerate(names):
            points = [(100 * r["sparsity"], r["gflops"][name]) for r in band if name in r["gflops"]]
            mark = "o" if name.startswith("sparsecc") else "x"
            # Without points, too: the last panel has the legend.
            x, y = zip(*points, strict=True) if points else ((), ())
            axis.plot(x, y, mark, color=colors(i % 20), label=name, markersize=5)
        axis.axhline(peak, color="grey", linewidth=0.8)
        axis.set_title(f"N = {n}")
        axis.set_xlabel("zeros, %")
    axes[0][0].set_ylabel("GFLOP/s of nonzeros; line: peak of the core")
    axes[0][-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    picture: Any = figure
    picture.savefig(path, bbox_inches="tight", dpi=120)


def one_thread() -> None:
    """Start again with one thread for each library: they read this when they are loaded."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    wanted = {**os.environ, **dict.fromkeys(names, "1")}
    # A core type that was forced halves the speed of numpy's BLAS.
    wanted.pop("OPENBLAS_CORETYPE", None)
    if wanted != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.argv], wanted)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--n", default="128", help="positions, several with commas (default: 128)")
    parser.add_argument("--quick", action="store_true", help="three small random matrices")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with matrices/dlmc")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="JSON beside the table")
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    parser.add_argument("--peers", help="those to compare, with commas (default: all)")
    parser.add_argument("--dtype", choices=("f32", *ROUNDING), default="f32", help="type of W and X")
    parser.add_argument("--match", default="", help="only matrices with this in their name")
    arguments = parser.parse_args()
    one_thread()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    warnings.filterwarnings("ignore")  # of peers, about layouts in beta
    from sparsecc.cpu.narrow_tune import narrow_peak
    from sparsecc.cpu.tune import peak
    from sparsecc.target.load import native_target

    dtype, target = arguments.dtype, native_target().with_type(arguments.dtype)
    top = (peak(target) if dtype == "f32" else narrow_peak(target)) / 1e9
    known = PEERS if dtype == "f32" else narrow_peers(dtype)
    peers = arguments.peers.split(",") if arguments.peers else list(known)
    rows: list[dict[str, Any]] = []
    for name, w in cases(arguments.data, arguments.quick):
        if arguments.match not in name:
            continue
        for n in map(int, arguments.n.split(",")):
            rows.append(compare(name, w, n, peers, top, dtype))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    found = {
        "machine": machine(), "versions": versions(), "dtype": dtype, "peak_gflops": round(top, 1),
        "absent": absent_everywhere(rows), "summary": summary(rows), "rows": rows,
    }  # fmt: skip
    print(json.dumps(found, indent=2) if arguments.json else table(found))
    if arguments.output:
        arguments.output.write_text(json.dumps(found, indent=2) + "\n")
    if arguments.plot:
        plot(rows, arguments.plot, top)
    return 0


if __name__ == "__main__":
    sys.exit(main())
