"""Speed of the simulator on one core: what the benchmarks of its families share."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import ROOT, output_of, processor

SOURCES = ROOT / "sparsecc" / "runtime" / "axsim"


@dataclass(frozen=True)
class Benchmark:
    """A C program beside this file, whose argument is a case and which prints a speed."""

    name: str
    program: str
    unit: str
    cases: Mapping[str, tuple[str, float | None]]
    """What each case is, and its goal in the unit, where there is one."""

    def measure(self, cc: str, repeats: int, seconds: float) -> dict[str, Any]:
        """Builds the simulator as emitted programs do, and runs every case `repeats` times, in turns."""
        flags = ["-std=c11", "-O2"]
        found: dict[str, list[float]] = {case: [] for case in self.cases}
        with tempfile.TemporaryDirectory() as folder:
            program = str(Path(folder) / self.program)
            sources = [str(ROOT / "bench" / f"{self.program}.c"), *map(str, sorted(SOURCES.glob("*.c")))]
            subprocess.run([cc, *flags, f"-I{SOURCES}", *sources, "-o", program, "-lm"], check=True)
            for _ in range(repeats):
                for case, values in found.items():
                    values.append(float(output_of(program, case, str(seconds))))
        results: dict[str, Any] = {}
        for case, (what, goal) in self.cases.items():
            median = statistics.median(found[case])
            results[case] = {
                "unit": f"{self.unit}{what}",
                "median": median,
                "least": min(found[case]),
                "most": max(found[case]),
                "goal": goal,
                "reached": None if goal is None else median >= goal,
            }
        return {
            "benchmark": self.name,
            "machine": {"processor": processor(), "system": platform.platform()},
            "compiler": output_of(cc, "--version").splitlines()[0],
            "flags": " ".join(flags),
            "repeats": repeats,
            "seconds": seconds,
            "results": results,
        }

    def main(self, description: str | None) -> int:
        """The command line: JSON, and status 1 where a goal is missed."""
        parser = argparse.ArgumentParser(
            description=description, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        parser.add_argument("--cc", default="cc", help="the compiler (cc)")
        parser.add_argument("--repeats", type=int, default=5, help="runs of each case (5)")
        parser.add_argument("--seconds", type=float, default=0.5, help="least duration of a run (0.5)")
        options = parser.parse_args()
        report = self.measure(options.cc, options.repeats, options.seconds)
        print(json.dumps(report, indent=2))
        return int(any(result["reached"] is False for result in report["results"].values()))
