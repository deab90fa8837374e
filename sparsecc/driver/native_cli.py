"""What the command line has for CPUs: --threads of `run`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from sparsecc.errors import UserError

if TYPE_CHECKING:
    from sparsecc.artifact import Artifact


def add_threads(command: argparse.ArgumentParser) -> None:
    """--threads of `run`."""
    command.add_argument("--threads", type=int, default=1, metavar="T", help="threads, on a CPU (default: 1)")


def report_of(artifact: Artifact, arguments: argparse.Namespace) -> Any:
    """The report of a run. Raises UserError for threads where there are none."""
    if arguments.threads == 1:
        return artifact.report
    from sparsecc.cpu_compiler import CpuArtifact

    if not isinstance(artifact, CpuArtifact):
        raise UserError(f"--threads: target {artifact.target.name} is no CPU; leave it out", exit_code=2)
    return artifact.measured(arguments.threads)


def slower(report: Any) -> str:
    """A plan beside the faster dense one, in words."""
    if hasattr(report, "wall_ms"):
        return f"{report.wall_ms:.4g} ms, the dense one {report.dense_ms:.4g}"
    return f"{report.cycles} cycles, the dense one {report.dense_cycles}"
