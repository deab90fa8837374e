"""`sparsecc run|compile MODEL.onnx --max-batch B`: networks for any batch, told when the program runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from sparsecc.driver import network_cli
from sparsecc.errors import UserError

if TYPE_CHECKING:
    from sparsecc.any_batch import AnyBatch

# Options that need one batch, and what they are when nobody gave them.
_NOT_HERE = {
    "batch": None, "html": None, "trace": None, "dump_ir": None, "threads": 1,
    "emit": "c", "noise": None, "faults": None, "fail_if_slower_than_dense": False,
}  # fmt: skip


def add_option(command: argparse.ArgumentParser) -> None:
    """--max-batch."""
    command.add_argument(
        "--max-batch",
        type=int,
        metavar="B",
        help="MODEL: any batch up to B, told when the program runs",
    )


def compiled(arguments: argparse.Namespace, progress: Callable[[str], None]) -> AnyBatch:
    """The network of the arguments. Raises UserError for options that need one batch."""
    if not network_cli.is_network(arguments.file):
        raise UserError(
            f"--max-batch is for networks; {arguments.file} is one matrix: give --max-n", exit_code=2
        )
    for name, default in _NOT_HERE.items():
        if getattr(arguments, name, default) != default:
            raise UserError(
                f"--{name.replace('_', '-')} is for one batch: give --batch instead of --max-batch",
                exit_code=2,
            )
    from sparsecc.any_batch import compile_any_batch

    return compile_any_batch(
        arguments.file,
        max_batch=arguments.max_batch,
        progress=progress,
        **network_cli.options(arguments, arguments.file),
    )


def run(arguments: argparse.Namespace, progress: Callable[[str], None]) -> AnyBatch:
    """Compile, and check batches on random inputs; or the outputs for inputs of any batch."""
    output: str | None = arguments.output
    if output and not arguments.input:
        raise UserError("--output needs --input, which says how large the batch is", exit_code=2)
    artifact = compiled(arguments, progress)
    names = artifact.largest.output_names
    if output and len(names) > 1 and not output.endswith(".npz"):
        raise UserError(
            f"--output {output}: the network has {len(names)} outputs; name a .npz file", exit_code=2
        )
    inputs = network_cli.inputs_of(arguments.input)
    if inputs is None:
        artifact.check()
        return artifact
    import numpy as np

    if isinstance(inputs, dict):
        arrays_of, wanted = cast("dict[str, Any]", inputs), artifact.largest.input_names
        if set(arrays_of) != set(wanted):
            found = ", ".join(arrays_of) or "none"
            raise UserError(f"the network has the inputs {', '.join(wanted)}; found {found}")
        inputs = [arrays_of[name] for name in wanted]
    results = artifact(*inputs)
    arrays = results if isinstance(results, tuple) else (results,)
    if output and output.endswith(".npz"):
        named: dict[str, Any] = dict(zip(names, arrays, strict=True))
        np.savez(output, **named)
    elif output:
        np.save(output, arrays[0])
    return artifact
