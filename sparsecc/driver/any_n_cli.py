"""`sparsecc run|compile FILE --max-n N`: products for any number of columns, told when the program runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sparsecc.errors import UserError

if TYPE_CHECKING:
    from sparsecc.any_n import AnyN

# Options that need one number of columns, and what they are when nobody gave them.
_NOT_HERE = {
    "op": "spmm", "n": 64, "pattern": None, "like": None, "plot": None, "html": None, "places": None,
    "check_stages": False, "trace": None, "dump_ir": None, "noise": None, "faults": None,
}  # fmt: skip


def add_option(command: argparse.ArgumentParser) -> None:
    """--max-n."""
    command.add_argument(
        "--max-n",
        type=int,
        metavar="N",
        help="any number of columns of X up to N, told when the program runs",
    )


def compiled(arguments: argparse.Namespace, progress: Callable[[str], None], x: Any = None) -> AnyN:
    """The product of the arguments. Raises UserError for options that need one number of columns."""
    from sparsecc.any_n import compile_any_n

    for name, default in _NOT_HERE.items():
        if getattr(arguments, name, default) != default:
            raise UserError(
                f"--{name.replace('_', '-')} is for one number of columns: give --n instead of --max-n",
                exit_code=2,
            )
    return compile_any_n(
        arguments.file, target=arguments.target, max_n=arguments.max_n, dtype=arguments.dtype,
        seed=arguments.seed, effort=arguments.effort, plan=arguments.plan, x=x, progress=progress,
    )  # fmt: skip


def run(arguments: argparse.Namespace, progress: Callable[[str], None], inputs: Any) -> AnyN:
    """Compile, and check every number of columns; or the product of an input of any of them."""
    if inputs is None and arguments.output:
        raise UserError("--output needs --input X.npy, which says how many columns", exit_code=2)
    artifact = compiled(arguments, progress)
    if inputs is None:
        artifact.check()
        return artifact
    import numpy as np

    (x,) = inputs
    y = artifact(x)
    if arguments.output:
        np.save(arguments.output, y)
    return artifact
