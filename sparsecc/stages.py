"""Passes one after another, and the modules between them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.printer import Printer
from xdsl.utils.exceptions import DiagnosticException, VerifyException

from sparsecc.blobs import Blob
from sparsecc.codegen.folder import Check
from sparsecc.dialects import tu, xbar
from sparsecc.dialects.nn_base import TensorAttr
from sparsecc.dialects.sparse import MetaOpsAttr, ProductOp, WeightAttr, is_large, metaops_blob
from sparsecc.errors import UserError
from sparsecc.target import AnyTarget

# Told what is being done, for progress.
Progress = Callable[[str], None]


def silent(_: str) -> None:
    """Progress that nobody sees."""


@dataclass(frozen=True, eq=False)
class Stage:
    """The module after a pass (or as it was given)."""

    name: str
    module: ModuleOp

    @property
    def is_program(self) -> bool:
        """Whether functions take off-chip buffers. A program of no instruction, of all zeros, is one too."""
        functions = (op for op in self.module.ops if isinstance(op, func.FuncOp))
        return any(isinstance(t, tu.BufferType) for f in functions for t in f.function_type.inputs)

    def text(self) -> str:
        """The module as sparsecc-opt reads it."""
        stream = StringIO()
        Printer(stream).print_op(self.module)
        return stream.getvalue() + "\n"

    @property
    def spmm(self) -> ProductOp | None:
        """The stage's sparse operator, where it has one."""
        return next((op for op in self.module.walk() if isinstance(op, ProductOp)), None)

    def blobs(self) -> list[Blob]:
        """The large data that the stage's text refers to."""
        found: list[Blob] = []
        for op in self.module.walk():
            for attribute in op.properties.values():
                match attribute:
                    case WeightAttr():
                        found.append(attribute.blob)
                    case MetaOpsAttr() if is_large(attribute.data):
                        found.append(metaops_blob(attribute.data))
                    case xbar.TilesAttr() if xbar.is_large(attribute.data):
                        found.append(xbar.tiles_blob(attribute.data))
                    case tu.ArrayDataAttr():
                        found.append(attribute.data)
                    case TensorAttr():
                        found.append(attribute.data.blob)
                    case _:
                        pass
        return found


def run_passes(
    module: ModuleOp, passes: Sequence[ModulePass], after: Callable[[Stage], None], progress: Progress
) -> list[Stage]:
    """Run passes one after another on copies; returns the module before and after each. Raises UserError."""
    stages = [Stage("input", module)]
    after(stages[0])
    for number, one in enumerate(passes):
        progress(f"{one.name} ({number + 1} of {len(passes)})")
        new = stages[-1].module.clone()
        try:
            one.apply(Context(), new)
        except (DiagnosticException, VerifyException) as e:
            raise UserError(f"{one.name}: {str(e).removeprefix(f'{one.name}: ')}") from e
        stages.append(Stage(one.name, new))
        after(stages[-1])
    return stages


def compared(
    check: Check, result: Callable[[Stage], NDArray[Any] | None], cause: str = "this is a bug of the pass"
) -> Callable[[Stage], None]:
    """What verifies a stage and compares every value; raises UserError at the first difference.

    result: of a stage, what it computes from the inputs; None where only its program tells, which checks
    itself.
    """

    def after(stage: Stage) -> None:
        try:
            stage.module.verify()
        except VerifyException as e:
            raise UserError(f"after {stage.name} the module does not verify: {e}", exit_code=3) from e
        y = result(stage)
        if y is None:
            return
        wrong = ~(np.abs(y.astype(np.float64) - check.expected) <= check.bound)
        if check.points is not None:
            part = np.zeros(wrong.size, bool)
            part[check.points] = True
            wrong &= part.reshape(wrong.shape)
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise UserError(
                f"after {stage.name} the value at row {row}, column {column} is {y[row, column]}, needed "
                f"{check.expected[row, column]}: {cause}; report it with --dump-ir",
                exit_code=3,
            )

    return after


def save_stages(stages: Sequence[Stage], folder: Path) -> None:
    """Write every stage as NN-name.mlir, and the data they refer to into blobs/."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, stage in enumerate(stages):
            (folder / f"{number:02d}-{stage.name}.mlir").write_text(stage.text())
            for blob in stage.blobs():
                blob.save(folder / "blobs")
    except OSError as e:
        raise UserError(
            f"{folder}: cannot write the stages: {e.strerror}; name a folder you may write to"
        ) from e


@contextmanager
def named_target(target: str | AnyTarget) -> Generator[str]:
    """What passes call the target: a name or a path; a target made in code is written to a file for them."""
    if isinstance(target, str):
        yield target
        return
    with tempfile.TemporaryDirectory(prefix="sparsecc-") as work:
        path = Path(work) / f"{target.name}.toml"
        path.write_text(target.to_toml())
        yield str(path)
