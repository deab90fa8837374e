"""What the command line has for devices that differ from their levels: --noise, --faults and --seeds."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sparsecc.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from sparsecc.artifact import Artifact
    from sparsecc.crossbar.faults import Fault
    from sparsecc.monte_carlo import NoisyRuns
    from sparsecc.target.crossbar_noise import Noise

SEEDS = 8
MOST_SEEDS = 10_000
# What --noise and --faults take, and the field of Noise.
_NOISE = {"program": "program_sigma", "read": "read_sigma", "lognormal": "lognormal"}
_FAULTS = {"low": "stuck_low", "high": "stuck_high"}


def add_noise(command: argparse.ArgumentParser) -> None:
    """The options of `run`."""
    command.add_argument(
        "--noise", metavar="program=S,read=S",
        help="crossbars: relative errors (standard deviations, 0..1) of writing cells and of reading sums; "
        "lognormal=1 for lognormal errors of writing",
    )  # fmt: skip
    command.add_argument(
        "--faults", metavar="RATE|FILE", action="append",
        help="crossbars: share of devices that are stuck, half at the lowest and half at the highest level, "
        "or low=RATE,high=RATE; or a .csv or .json file of cells: array,row,column,stuck[,slice]; both by "
        "giving it twice",
    )  # fmt: skip
    command.add_argument(
        "--seeds", type=int, metavar="S", help=f"runs with noise or faults, from --seed on (default: {SEEDS})"
    )


def noise_of(noise: str | None, faults: str | None) -> Noise:
    """What --noise and --faults say. Raises UserError."""
    from sparsecc.target.crossbar_noise import Noise

    found: dict[str, Any] = _values("--noise", noise, _NOISE) if noise is not None else {}
    if faults is not None:
        try:
            rate = float(faults)
        except ValueError:
            found |= _values("--faults", faults, _FAULTS)
        else:
            half = _share("--faults", "the rate", rate) / 2
            found |= {"stuck_low": half, "stuck_high": half}
    if "lognormal" in found:
        if found["lognormal"] not in (0.0, 1.0):
            raise UserError(f"--noise: lognormal is {found['lognormal']:g}; it is 0 or 1", exit_code=2)
        found["lognormal"] = bool(found["lognormal"])
    result = Noise(**found)
    if result.stuck_low + result.stuck_high > 1:
        raise UserError(
            f"--faults: low and high are {result.stuck_low:g} and {result.stuck_high:g}, together more than "
            "all devices; needed: a sum of at most 1",
            exit_code=2,
        )
    return result


def _values(option: str, text: str, fields: dict[str, str]) -> dict[str, float]:
    """key=number, ... by field of Noise."""
    found: dict[str, float] = {}
    for part in text.split(","):
        key, equals, number = (piece.strip() for piece in part.partition("="))
        if key not in fields or not equals:
            raise UserError(
                f"{option}: found {part.strip()!r}; needed: KEY=NUMBER with KEY one of {', '.join(fields)}",
                exit_code=2,
            )
        if fields[key] in found:
            raise UserError(f"{option}: {key} is given twice; give it once", exit_code=2)
        try:
            value = float(number)
        except ValueError:
            raise UserError(f"{option}: {key} is {number!r}, which is no number", exit_code=2) from None
        found[fields[key]] = _share(option, key, value)
    return found


def _share(option: str, key: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise UserError(f"{option}: {key} is {value:g}; needed: 0 to 1", exit_code=2)
    return value


@dataclass(frozen=True)
class Defects:
    """What was asked for."""

    noise: Noise
    faults: tuple[Fault, ...]
    """Cells that are stuck in every run."""
    seeds: range

    @property
    def is_random(self) -> bool:
        """Whether runs differ by their seed."""
        n = self.noise
        return max(n.program_sigma, n.read_sigma, n.stuck_low, n.stuck_high) > 0


def check(arguments: argparse.Namespace) -> Defects | None:
    """The noise and the faults that were asked for, before any work. Raises UserError."""
    given: list[str] = arguments.faults or []
    if arguments.noise is None and not given:
        if arguments.seeds is not None:
            raise UserError("--seeds counts runs with --noise or --faults; give one of them", exit_code=2)
        return None
    from sparsecc.importers.faults import ENDINGS, read_faults

    rates, files = ([g for g in given if g.endswith(ENDINGS) == is_file] for is_file in (False, True))
    if len(rates) > 1 or len(files) > 1:
        twice = (files if len(files) > 1 else rates)[1]
        raise UserError(f"--faults {twice}: give rates once, and one file of cells at most", exit_code=2)
    noise = noise_of(arguments.noise, rates[0] if rates else None)
    faults = tuple(read_faults(files[0])) if files else ()
    found = Defects(noise, faults, range(0))
    count = arguments.seeds
    if count is None:
        count = SEEDS if found.is_random or not files else 1  # the same cells in every run
    if not 1 <= count <= MOST_SEEDS:
        raise UserError(f"--seeds is {count}; needed: 1 to {MOST_SEEDS}", exit_code=2)
    found = replace(found, seeds=range(arguments.seed, arguments.seed + count))
    from sparsecc.target.crossbar import CrossbarTarget
    from sparsecc.target.load import load_target

    if not isinstance(load_target(arguments.target), CrossbarTarget):
        option = "--noise" if arguments.noise is not None else "--faults"
        raise UserError(
            f"{option}: target {arguments.target} has no crossbars, whose devices are what varies; name one "
            "of family 'crossbar', such as isaac128",
            exit_code=2,
        )
    return found


def runs(artifact: Artifact, defects: Defects) -> NoisyRuns:
    """The runs of all seeds."""
    from sparsecc.crossbar_compiler import CrossbarArtifact

    assert isinstance(artifact, CrossbarArtifact), "check has refused other targets"
    return artifact.noisy(defects.noise, defects.seeds, defects.faults)


def faults_told(artifact: Artifact, defects: Defects) -> dict[str, Any]:
    """For JSON and the terminal: how many cells are named, and the weights and outputs that they hit.

    Raises UserError for what are not cells of the target.
    """
    from sparsecc.crossbar_compiler import CrossbarArtifact

    assert isinstance(artifact, CrossbarArtifact), "check has refused other targets"
    artifact.stuck_devices(defects.faults)
    hit = artifact.hit_by(defects.faults)
    weights = {(int(m), int(k)) for m, k in hit[:, :2]}
    return {"cells": len(defects.faults), "weights": len(weights), "outputs": sorted({m for m, _ in weights})}


def told(found: NoisyRuns) -> dict[str, Any]:
    """The runs for JSON."""
    from dataclasses import asdict

    noise = {name: value for name, value in asdict(found.noise).items() if name != "seed"}
    return {
        "noise": noise,
        "relative_error": {"mean": found.mean, "spread": found.spread},
        "runs": [asdict(run) for run in found.runs],
    }


def table(found: NoisyRuns) -> Table:
    """The runs for the terminal, and their mean and spread."""
    from rich import box
    from rich.table import Table

    noise = found.noise
    parts = {
        "program": noise.program_sigma,
        "read": noise.read_sigma,
        "stuck low": noise.stuck_low,
        "stuck high": noise.stuck_high,
    }
    title = ", ".join(f"{name} {value:g}" for name, value in parts.items() if value) or "none"
    lognormal = " (lognormal)" if noise.lognormal and noise.program_sigma else ""
    shown = Table(title=f"Noise: {title}{lognormal}", box=box.SIMPLE_HEAD, title_justify="left")
    for name in ("seed", "relative error", "largest error", "values not exact", "ADC clipped"):
        shown.add_column(name, justify="right")
    for run in found.runs:
        shown.add_row(
            str(run.seed),
            f"{100 * run.relative_error:.3g} %",
            f"{run.max_error:g}",
            str(run.wrong),
            str(run.clipped),
        )
    shown.add_section()
    shown.add_row("mean", f"{100 * found.mean:.3g} %", "", "", "")
    shown.add_row("spread", f"{100 * found.spread:.2g} %", "", "", "")
    return shown
