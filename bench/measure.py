"""What the benchmarks share: processor time and memory of other programs, and figures beside their goals.

Times are processor seconds (user and system, a program and all it started), which do not depend on what else
the machine does. Nothing here imports numpy: Linux counts what the starting process held towards the peak
memory of a program that it starts.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def output_of(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def machine() -> dict[str, Any]:
    """Where the figures were taken."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Versions of what is measured and what it rests on."""
    return {name: version(name) for name in ("sparsecc", "xdsl", "numpy", "scipy")}


@dataclass(frozen=True)
class Usage:
    """What a program and everything it started took."""

    cpu_s: float
    wall_s: float
    peak_bytes: int
    """Resident memory of the largest process."""
    output: str


def run(
    command: Sequence[str], environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> Usage:
    """Run a command to its end. Raises RuntimeError with its messages when it fails."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        child = subprocess.Popen(
            command, stdout=out, stderr=err, cwd=folder, env={**os.environ, **(environment or {})}
        )
        _, status, used = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if child.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}: {err.read().decode()}")
        scale = 1 if sys.platform == "darwin" else 1024
        return Usage(used.ru_utime + used.ru_stime, wall, used.ru_maxrss * scale, out.read().decode())


def figure(what: str, unit: str, values: Sequence[float], goal: float | None = None) -> dict[str, Any]:
    """Values of equal runs, with the most that the median may be."""
    median = statistics.median(values)
    return {
        "what": what,
        "unit": unit,
        "median": round(median, 4),
        "least": round(min(values), 4),
        "most": round(max(values), 4),
        "runs": len(values),
        "goal": None if goal is None else f"<= {goal:g}",
        "met": None if goal is None else median <= goal,
    }
