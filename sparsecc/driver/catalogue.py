"""The commands that say what there is: targets, passes, doctor."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from sparsecc.errors import UserError


def add_targets(commands: Any) -> None:
    """The command `targets`."""
    command: argparse.ArgumentParser = commands.add_parser(
        "targets", help="list the targets, or describe one with its sources"
    )
    command.add_argument(
        "name", nargs="?", metavar="NAME", help="a preset, a .toml file, or a config.json of PIMCOMP"
    )
    command.add_argument("--toml", action="store_true", help="print the description as a .toml file")


def add_passes(commands: Any) -> None:
    """The command `passes`."""
    command: argparse.ArgumentParser = commands.add_parser(
        "passes", help="list the passes, or describe one with its options"
    )
    command.add_argument("name", nargs="?", metavar="NAME", help="a pass")


def targets(arguments: argparse.Namespace) -> int:
    """`sparsecc targets`."""
    from sparsecc.target import load_target, target_names

    if arguments.name:
        target = load_target(arguments.name)
        if arguments.toml:
            print(target.to_toml(), end="")
            return 0
        print(target)
        print("  sources")
        for pattern, source in target.sources:
            print(f"    {pattern}: {source}")
        return 0
    for name in target_names():
        print(str(load_target(name)).splitlines()[0])
    return 0


def passes(arguments: argparse.Namespace) -> int:
    """`sparsecc passes`."""
    import inspect
    from dataclasses import MISSING, fields

    from sparsecc.passes.base import SparsePass
    from sparsecc.universe import SPARSECC_UNIVERSE

    known = SPARSECC_UNIVERSE.all_passes
    if arguments.name is None:
        width = max(map(len, known))
        for name, factory in known.items():
            found: type[SparsePass] = factory()  # pyright: ignore[reportAssignmentType]
            print(f"{name:{width}}  {found.summary}")
        return 0
    if arguments.name not in known:
        raise UserError(f"unknown pass {arguments.name!r}; the passes are {', '.join(known)}", exit_code=2)
    found = known[arguments.name]()  # pyright: ignore[reportAssignmentType]
    print(f"{found.name}: {found.summary}\n")
    print(inspect.getdoc(sys.modules[found.__module__]))
    print(f"\nrefuses: {found.refuses}")
    options = [f for f in fields(found) if f.name in found.option_help]
    if options:
        print("options:")
    for field in options:
        default = "required" if field.default is MISSING else f"default {field.default}"
        print(f"  {field.name.replace('_', '-')} ({default}): {found.option_help[field.name]}")
    return 0


def doctor(arguments: argparse.Namespace) -> int:
    """`sparsecc doctor`."""
    from sparsecc.driver.doctor import findings

    lines, healthy = findings()
    for line in lines:
        print(line)
    return 0 if healthy else 1
