"""Speed of the simulator of crossbars on one core, as JSON.

Run: python bench/crossbar_sim.py [--cc COMPILER] [--repeats N] [--seconds S]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import ROOT, output_of, processor

SOURCES = ROOT / "sparsecc" / "runtime" / "axsim"

# What is measured, and the goal in thousands of XB.MVM of 128 x 128 per second, where there is one.
CASES: dict[str, tuple[str, float | None]] = {
    "exact": ("32 vectors at once, no sum can be clipped", 200.0),
    "exact_one_vector": ("one vector at once, no sum can be clipped", 200.0),
    "bit_serial": ("32 vectors at once, bit by bit", 9.0),
    "bit_serial_one_vector": ("one vector at once, bit by bit", 9.0),
    "bit_serial_clipped": ("32 vectors at once, an ADC that clips", 9.0),
    "noise": ("32 vectors at once, with noise of reading", None),
    "time_only": ("without values", None),
}


def measure(cc: str, repeats: int, seconds: float) -> dict[str, Any]:
    """Builds the simulator as emitted programs do, and runs every case `repeats` times, in turns."""
    flags = ["-std=c11", "-O2"]
    found: dict[str, list[float]] = {case: [] for case in CASES}
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder) / "crossbar_bench")
        sources = [str(ROOT / "bench" / "crossbar_bench.c"), *map(str, sorted(SOURCES.glob("*.c")))]
        subprocess.run([cc, *flags, f"-I{SOURCES}", *sources, "-o", program, "-lm"], check=True)
        for _ in range(repeats):
            for case, values in found.items():
                values.append(float(output_of(program, case, str(seconds))))
    results: dict[str, Any] = {}
    for case, (what, goal) in CASES.items():
        median = statistics.median(found[case])
        results[case] = {
            "unit": f"thousand XB.MVM of 128 x 128 per second of CPU time: {what}",
            "median": median,
            "least": min(found[case]),
            "most": max(found[case]),
            "goal": goal,
            "reached": None if goal is None else median >= goal,
        }
    return {
        "benchmark": "crossbar_sim",
        "machine": {"processor": processor(), "system": platform.platform()},
        "compiler": output_of(cc, "--version").splitlines()[0],
        "flags": " ".join(flags),
        "repeats": repeats,
        "seconds": seconds,
        "results": results,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cc", default="cc", help="the compiler (cc)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each case (5)")
    parser.add_argument("--seconds", type=float, default=0.5, help="least duration of a run (0.5)")
    options = parser.parse_args()
    report = measure(options.cc, options.repeats, options.seconds)
    print(json.dumps(report, indent=2))
    return int(any(result["reached"] is False for result in report["results"].values()))


if __name__ == "__main__":
    sys.exit(main())
