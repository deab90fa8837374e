"""Options that several commands have, each with the same words everywhere."""

from __future__ import annotations

import argparse

from sparsecc.driver import any_batch_cli, any_n_cli, network_cli

EPILOG = """\
FILE is a .smtx, .mtx, .npz (scipy), .npy, .safetensors or .onnx matrix; .gz is understood where usual, one
tensor of several is named FILE:TENSOR, one matrix of a pack PACK.tar.xz::NAME. Files without values get
random ones. MODEL, a whole network, is an .onnx file without a tensor, a .pt2 file of torch.export, or an
.mlir file of linalg on tensors.
Exit status: 0 done, 1 the input cannot be compiled, 2 the command is wrong, 3 a check failed.
"""


def add_search(command: argparse.ArgumentParser) -> None:
    """The target, its type, and how covers are searched for."""
    command.add_argument(
        "--target", default="gemmini16", metavar="T", help="preset or .toml file (default: gemmini16)"
    )
    command.add_argument(
        "--dtype", metavar="TYPE", help="input type, of those the target has (default: its first)"
    )
    command.add_argument(
        "--effort", type=int, default=1, choices=range(4), metavar="0..3",
        help="how hard to search for covers (default: 1)",
    )  # fmt: skip
    command.add_argument(
        "--seed", type=int, default=0, metavar="S",
        help="for random values and inputs, and for the search (default: 0)",
    )  # fmt: skip


def add_columns(command: argparse.ArgumentParser) -> None:
    """The columns of X, and the pattern that W should have."""
    command.add_argument("--n", type=int, default=64, metavar="N", help="columns of X (default: 64)")
    command.add_argument(
        "--pattern", metavar="N:M|V:N:M", help="refuse a matrix that does not have this pattern, such as 2:4"
    )


def add_told(command: argparse.ArgumentParser, quiet: str = "print errors only") -> None:
    """How much is said."""
    command.add_argument("-v", "--verbose", action="store_true", help="say what is being done")
    command.add_argument("-q", "--quiet", action="store_true", help=quiet)


def add_operator(command: argparse.ArgumentParser) -> None:
    """What `run` and `compile` compile, and how."""
    command.epilog = EPILOG
    command.add_argument("file", metavar="FILE|MODEL", help="the matrix W, the mask, or a whole network")
    add_search(command)
    command.add_argument(
        "--op", default="spmm", choices=("spmm", "sddmm"),
        help="spmm: C = W X (default); sddmm: C = mask * (A B), FILE giving the pattern of the mask",
    )  # fmt: skip
    add_columns(command)
    any_n_cli.add_option(command)
    any_batch_cli.add_option(command)
    command.add_argument(
        "--k", type=int, default=64, metavar="K", help="columns of A and rows of B, for sddmm (default: 64)"
    )
    command.add_argument(
        "--plan", default="auto", metavar="PLAN",
        help="auto weighs all covers and the dense plan (default); dense, none, global, window, or the "
        "name of a strategy fix the mode of sparse-compact (see sparsecc passes sparse-compact)",
    )  # fmt: skip
    command.add_argument(
        "--like", metavar="FILE", help="a matrix that FILE was pruned from: never slower than that"
    )
    command.add_argument(
        "--steps", metavar="w=S,x=S,y=S",
        help="crossbars: what a step of int8 is worth, of W (default: per row), of X, and of the result, "
        "which is then int8",
    )  # fmt: skip
    command.add_argument("--dump-ir", metavar="DIR", help="write the IR of every stage, numbered")
    command.add_argument(
        "--places", metavar="FILE",
        help="crossbars: write the array, word line and bit line of each weight as .npy or .csv",
    )  # fmt: skip
    command.add_argument(
        "--check-stages", action="store_true", help="interpret every stage and compare the values"
    )
    add_told(command)
    network_cli.add_options(command)
