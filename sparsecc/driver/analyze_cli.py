"""The command `analyze`: its arguments, and whom it is for."""

from __future__ import annotations

import argparse
from typing import Any

from sparsecc.driver import network_cli
from sparsecc.driver.options import EPILOG, add_columns, add_search, add_told
from sparsecc.driver.output import progress_of, show


def add_analyze(commands: Any) -> None:
    """The command `analyze`."""
    command: argparse.ArgumentParser = commands.add_parser(
        "analyze", help="say of each operator what its zeros are worth, and why", epilog=EPILOG
    )
    command.add_argument(
        "path", metavar="FILE|DIR|PACK.tar.xz|MODEL", help="a matrix, a folder of them, a pack, or a network"
    )
    add_search(command)
    add_columns(command)
    command.add_argument("--jobs", type=int, default=1, metavar="J", help="processes (default: 1)")
    command.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    add_told(command, quiet="no progress")
    network_cli.add_options(command)


def analyze(arguments: argparse.Namespace) -> int:
    """`sparsecc analyze`."""
    from sparsecc.driver.analyze import run

    if network_cli.is_network(arguments.path):
        with progress_of(arguments) as progress:
            predicted = network_cli.compiled(arguments, progress, arguments.path).predicted()
        show(predicted, arguments)
        return 0
    return run(arguments)
