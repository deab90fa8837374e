"""`sparsecc explain MODEL|MATRIX`: what became of each product and why, in sentences."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from sparsecc.driver import network_cli
from sparsecc.driver.options import EPILOG, add_search, add_told
from sparsecc.driver.output import progress_of
from sparsecc.errors import UserError


def add_explain(commands: Any) -> None:
    """The command's arguments."""
    command: argparse.ArgumentParser = commands.add_parser(
        "explain", help="say in sentences what was found in each layer, what it costs, and what would help"
    )
    command.epilog = EPILOG
    command.add_argument("path", metavar="FILE|DIR|PACK.tar.xz|MODEL", help="matrices, or a whole network")
    add_search(command)
    command.add_argument(
        "--layer", metavar="NAME", help="of a network, or of a file of several: only this one"
    )
    command.add_argument(
        "--n", type=int, metavar="N", help="columns of X (default: 64, or those of the network)"
    )
    command.add_argument("--json", action="store_true", help="print one JSON object instead of sentences")
    add_told(command, quiet="no progress")
    network_cli.add_reading(command)


def explain(arguments: argparse.Namespace) -> int:
    """`sparsecc explain`."""
    with progress_of(arguments) as progress:
        return _explain(arguments, progress)


def _explain(arguments: argparse.Namespace, progress: Callable[[str], None]) -> int:
    """The command. Raises UserError for what is wrong, with a layer only where it is the only one."""
    import json

    from sparsecc.analysis import Search
    from sparsecc.explain import Explanation, explain
    from sparsecc.target import load_target

    if arguments.n is not None and arguments.n < 1:
        raise UserError(f"--n {arguments.n}: an operator needs at least 1 position", exit_code=2)
    target = load_target(arguments.target)
    search = Search(arguments.effort, arguments.seed)
    layers, gone = _layers(arguments, progress)
    found: list[Explanation] = []
    errors: dict[str, str] = {}
    for name, load, n, gain in layers:
        progress(name)
        try:
            one = explain(
                load(),
                arguments.target,
                target,
                n=n,
                dtype=arguments.dtype,
                search=search,
                name=name,
                gain=gain,
            )
            found.append(one)
        except UserError as error:
            if len(layers) == 1:
                raise
            errors[name] = str(error)
    if arguments.json:
        whole = {
            "target": target.name, "layers": [one.to_json() for one in found], "errors": errors,
            "propagated_away": gone,
        }  # fmt: skip
        print(json.dumps(whole, indent=2))
        return int(bool(errors))
    for one in found:
        print(f"{one}\n")
    for name, error in errors.items():
        print(f"{name}\n  cannot be explained: {error}\n")
    if gone:
        print(f"Nothing was left of {', '.join(gone)}: what it computes is known, or not needed.")
    return int(bool(errors))


_Layers = list[tuple[str, Callable[[], Any], int, Any]]


def _layers(arguments: argparse.Namespace, progress: Callable[[str], None]) -> tuple[_Layers, list[str]]:
    """Name, how to load it, columns, and what its neighbours did, of each product asked for."""
    wanted: str | None = arguments.layer
    gone: list[str] = []
    layers: _Layers = []
    if network_cli.is_network(arguments.path):
        from sparsecc.explain_network import products_of

        products, gone = products_of(
            arguments.path,
            arguments.target,
            batch=arguments.batch,
            dims=network_cli.dims_of(arguments.dim or []),
            masks=network_cli.masks_of(arguments.mask or []),
            propagate=not arguments.no_propagate,
            progress=progress,
        )
        for product in products:
            layers.append((product.name, lambda p=product: p.matrix, arguments.n or product.n, product.gain))
    else:
        from sparsecc.driver.tasks import loaded, tasks_of

        for task in tasks_of(arguments.path):
            layers.append((task.name, lambda t=task: loaded(t), arguments.n or 64, None))
    if wanted is None:
        return layers, gone
    if wanted in gone:
        raise UserError(f"{arguments.path}: nothing was left of {wanted}: it is known, or not needed")
    kept = [layer for layer in layers if wanted in (layer[0], layer[0].rpartition(":")[2])]
    if not kept:
        names = ", ".join(layer[0] for layer in layers[:20]) or "none"
        raise UserError(f"{arguments.path}: no product is called {wanted}; there are {names}")
    return kept, gone
