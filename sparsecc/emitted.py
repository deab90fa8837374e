"""Emitted programs that were built: the folders they lie in, and runs of them."""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.toolchain import run_program

Array = NDArray[Any]


@dataclass(frozen=True)
class Executable:
    """A built program. Runs raise UserError with what it says, and its status 3, of wrong values."""

    path: Path

    def run(self, *options: str) -> None:
        """Run it, on its stored inputs unless the options name others."""
        run_program([str(self.path), "--quiet", *options])

    def report(self, *options: str) -> Any:
        """What it reports of such a run: the value of its JSON."""
        with tempfile.TemporaryDirectory(prefix="sparsecc-") as work:
            path = Path(work) / "report.json"
            self.run("--report", str(path), *options)
            return json.loads(path.read_text())

    def results(self, inputs: Sequence[Array], count: int, *options: str) -> tuple[Array, ...]:
        """Its `count` outputs for inputs in the program's order and types."""
        with tempfile.TemporaryDirectory(prefix="sparsecc-") as work:
            paths = [Path(work) / f"out{i}.npy" for i in range(count)]
            named = [part for path in paths for part in ("--output", str(path))]
            for i, array in enumerate(inputs):
                path = Path(work) / f"in{i}.npy"
                np.save(path, array)
                named += ["--input", str(path)]
            self.run(*options, *named)
            return tuple(np.load(path) for path in paths)


def built(owner: object, write: Callable[[Path], None], build: Callable[[Path], Path]) -> Executable:
    """What `build` makes of the folder that `write` writes, in a place that lives as long as the owner."""
    work = tempfile.mkdtemp(prefix="sparsecc-")
    weakref.finalize(owner, shutil.rmtree, work, ignore_errors=True)
    folder = Path(work) / "model"
    write(folder)
    return Executable(build(folder))
