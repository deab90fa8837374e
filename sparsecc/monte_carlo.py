"""Emitted programs on crossbars whose devices differ from their levels: one run for each seed."""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sparsecc.crossbar.faults import Device, device_lines
from sparsecc.errors import UserError
from sparsecc.target.crossbar_noise import Noise


@dataclass(frozen=True)
class NoisyRun:
    """One run: its errors against the result without noise."""

    seed: int
    wrong: int
    """Values that are not exact."""
    max_error: float
    relative_error: float
    """Root mean square of the errors, as a share of that of the exact values."""
    clipped: int
    """Sums that the ADC clipped."""


@dataclass(frozen=True)
class NoisyRuns:
    """The runs of all seeds."""

    noise: Noise
    runs: tuple[NoisyRun, ...]

    @property
    def mean(self) -> float:
        """Mean of the relative errors."""
        return statistics.fmean(run.relative_error for run in self.runs)

    @property
    def spread(self) -> float:
        """Standard deviation of the relative errors over the seeds; 0 for one run."""
        return statistics.stdev(run.relative_error for run in self.runs) if len(self.runs) > 1 else 0.0


def noise_words(noise: Noise) -> str:
    """Noise as `ax_xb_noise_text` and --noise of emitted programs take it."""
    return (
        f"seed={noise.seed},program={noise.program_sigma!r},lognormal={int(noise.lognormal)},"
        f"read={noise.read_sigma!r},stuck_low={noise.stuck_low!r},stuck_high={noise.stuck_high!r}"
    )


def monte_carlo(
    program: Path, noise: Noise, seeds: Sequence[int], faults: Sequence[Device] = ()
) -> NoisyRuns:
    """Runs a built program on its stored inputs once for each seed; the noise's own seed does not count.

    faults: devices that are stuck in every run, besides those that the noise draws. Raises UserError when the
    program stops with an error, as it does on a target without crossbars.
    """
    runs: list[NoisyRun] = []
    with tempfile.TemporaryDirectory() as folder:
        report, stuck = Path(folder) / "report.json", Path(folder) / "faults.txt"
        stuck.write_text(device_lines(faults))
        for seed in seeds:
            words = noise_words(dataclasses.replace(noise, seed=seed))
            command = [str(program), "--quiet", "--noise", words, "--report", str(report)]
            command += ["--faults", str(stuck)] if faults else []
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise UserError(f"{program} failed with noise {words}: {done.stderr.strip()}")
            found = json.loads(report.read_text())
            check = found["check"]
            runs.append(
                NoisyRun(
                    seed=seed,
                    wrong=check["wrong"],
                    max_error=check["max_error"],
                    relative_error=check["rms_error"] / check["rms"] if check["rms"] else check["rms_error"],
                    clipped=found["simulation"]["warnings"]["adc_clipped"],
                )
            )
    return NoisyRuns(noise, tuple(runs))
