"""`sparsecc run|compile|analyze MODEL.onnx`: whole networks."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsecc.driver.output import read_input
from sparsecc.errors import UserError

if TYPE_CHECKING:
    from sparsecc.network.engine import NetworkReport
    from sparsecc.network_compiler import NetworkArtifact

# Options of single operators, and what they are when nobody gave them.
_NOT_FOR_NETWORKS = {
    "op": "spmm", "n": 64, "k": 64, "pattern": None, "like": None, "plot": None, "places": None,
    "check_stages": False, "jobs": 1, "max_n": None,
}  # fmt: skip


def is_network(path: str) -> bool:
    """Whether an argument names a whole model, and not one tensor of it."""
    return path.endswith((".onnx", ".pt2", ".mlir"))


def add_reading(command: argparse.ArgumentParser) -> None:
    """Which network a model's file stands for."""
    command.add_argument(
        "--batch", type=int, metavar="B", help="MODEL: inputs at once, where the model leaves it open"
    )
    command.add_argument(
        "--dim", action="append", metavar="NAME=N", help="MODEL: another extent that the model leaves open"
    )
    command.add_argument(
        "--mask",
        action="append",
        metavar="LAYER=FILE",
        help="MODEL: prune a layer to the nonzeros of a matrix; may be given for several layers",
    )
    command.add_argument(
        "--no-propagate",
        action="store_true",
        help="MODEL: do not carry zeros and constants across layers",
    )


def add_options(command: argparse.ArgumentParser) -> None:
    """What only whole networks take."""
    add_reading(command)
    command.add_argument(
        "--calibrate",
        metavar="FILE.npz",
        help="MODEL: samples of its inputs, to quantise it by for i8; array 'labels': the right classes",
    )
    command.add_argument(
        "--labels", metavar="FILE.npz", help="MODEL: other samples with labels, to measure accuracy on"
    )
    command.add_argument(
        "--percentile",
        type=float,
        default=100.0,
        metavar="P",
        help="MODEL: of the values of a layer, how many the range found by --calibrate holds (default: 100)",
    )
    command.add_argument(
        "--scales",
        choices=("auto", "channel", "tensor"),
        default="auto",
        help="MODEL: scales of quantised weights: one for each output, one in all, or as it is cheaper",
    )


def compiled(arguments: argparse.Namespace, progress: Callable[[str], None], path: str) -> NetworkArtifact:
    """The network of the arguments. Raises UserError for options that only operators take."""
    from sparsecc.network_compiler import compile_network
    from sparsecc.stages import save_stages

    given = options(arguments, path)
    inputs = inputs_of(getattr(arguments, "input", None))
    artifact = compile_network(path, batch=arguments.batch, inputs=inputs, progress=progress, **given)
    if getattr(arguments, "dump_ir", None):
        save_stages(artifact.stages, Path(arguments.dump_ir))
    return artifact


def options(arguments: argparse.Namespace, path: str) -> dict[str, Any]:
    """What networks are compiled with, whatever their batch. Raises UserError."""
    for name, default in _NOT_FOR_NETWORKS.items():
        if getattr(arguments, name, default) != default:
            raise UserError(
                f"--{name.replace('_', '-')} is for one matrix; {path} is a whole network: leave it out, "
                f"or name a weight as {path}:NAME",
                exit_code=2,
            )
    return {
        "target": arguments.target,
        "dims": dims_of(arguments.dim or []),
        "dtype": arguments.dtype,
        "seed": arguments.seed,
        "effort": arguments.effort,
        "plan": getattr(arguments, "plan", "auto"),
        "masks": masks_of(arguments.mask or []),
        "propagate": not arguments.no_propagate,
        "calibrate": _samples(arguments.calibrate),
        "labelled": _samples(arguments.labels),
        "scales": arguments.scales,
        "percentile": arguments.percentile,
    }


def dims_of(given: list[str]) -> dict[str, int]:
    """Extents by name. Raises UserError."""
    found: dict[str, int] = {}
    for text in given:
        name, _, extent = text.rpartition("=")
        if not name or not extent.isdigit():
            raise UserError(f"--dim {text}: needed NAME=N, such as --dim H=224", exit_code=2)
        found[name] = int(extent)
    return found


def _samples(path: str | None) -> dict[str, Any] | None:
    """Arrays by name."""
    return None if path is None else _archive(path)


def _archive(path: str) -> dict[str, Any]:
    """The arrays of a .npz file."""
    import zipfile

    import numpy as np

    try:
        arrays = np.load(path, allow_pickle=False)
        if not hasattr(arrays, "files"):
            raise UserError(f"{path}: holds one array; needed an .npz file of arrays by name")
        with arrays:
            return dict(arrays)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as e:
        raise UserError(f"{path}: cannot be read as .npz: {e}") from e


def masks_of(given: list[str]) -> dict[str, str]:
    """Files by layer. Raises UserError."""
    found: dict[str, str] = {}
    for text in given:
        layer, equals, path = text.partition("=")
        if not layer or not equals or not path:
            raise UserError(f"--mask {text}: needed LAYER=FILE, such as --mask fc1=fc1.smtx", exit_code=2)
        found[layer] = path
    return found


def inputs_of(paths: list[str] | None) -> Any:
    """Arrays by name from one .npz file, or in order from .npy files."""
    if not paths:
        return None
    if len(paths) == 1 and paths[0].endswith(".npz"):
        return _archive(paths[0])
    return [read_input(path) for path in paths]


def run(arguments: argparse.Namespace, progress: Callable[[str], None]) -> NetworkReport:
    """Compile, run, check every layer; write what was asked for."""
    output: str | None = arguments.output
    artifact = compiled(arguments, progress, arguments.file)
    if output and len(artifact.outputs) > 1 and not output.endswith(".npz"):
        raise UserError(
            f"--output {output}: the network has {len(artifact.outputs)} outputs; name a .npz file",
            exit_code=2,
        )
    if arguments.trace and artifact.target.family == "cpu":
        raise UserError(
            f"target {artifact.target.name} has no trace of instructions; leave --trace out", exit_code=2
        )
    report = artifact.measured(arguments.threads)
    if output and output.endswith(".npz"):
        import numpy as np

        found = artifact(*artifact.inputs)
        arrays = found if isinstance(found, tuple) else (found,)
        named: dict[str, Any] = dict(zip(artifact.output_names, arrays, strict=True))
        np.savez(output, **named)
        output = None
    if output or arguments.trace:
        artifact.rerun([output] if output else [], arguments.trace)
    if arguments.html:
        from sparsecc.driver.pictures_cli import write_tables

        write_tables(arguments.html, report, report.tables())
    if arguments.fail_if_slower_than_dense and (slower := report.slower_than_dense()):
        raise UserError(slower, exit_code=3)
    return report
