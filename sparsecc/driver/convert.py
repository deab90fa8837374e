"""The command `convert`: a matrix from one format to another."""

from __future__ import annotations

import argparse
from typing import Any


def add_convert(commands: Any) -> None:
    """The command `convert`."""
    command: argparse.ArgumentParser = commands.add_parser("convert", help="write a matrix in another format")
    command.add_argument("file", metavar="FILE", help="the matrix")
    command.add_argument(
        "output", metavar="OUT",
        help="a file; its ending says the format: .smtx, .mtx (both also .gz), .npz, .npy, "
        ".safetensors[:NAME], .onnx[:NAME]",
    )  # fmt: skip
    command.add_argument(
        "--layout", metavar="LAYOUT",
        help="of .safetensors: dense (default), sparse-bitmask, sparse-24-bitmask; of .onnx: coordinates "
        "(default), linear, dense",
    )  # fmt: skip
    command.add_argument("--pattern", action="store_true", help="drop values that the format cannot hold")


def convert(arguments: argparse.Namespace) -> int:
    """Run the command; prints what was written."""
    from sparsecc.convert import save_matrix
    from sparsecc.importers import load_matrix

    matrix = load_matrix(arguments.file)
    path = save_matrix(matrix, arguments.output, layout=arguments.layout, pattern=arguments.pattern)
    rows, columns = matrix.shape
    print(f"{path}: {rows} x {columns}, {matrix.nnz} nonzeros, {matrix.dtype}")
    return 0
