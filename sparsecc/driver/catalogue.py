"""The commands that say what there is: targets, passes, dialects, doctor."""

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


def add_dialects(commands: Any) -> None:
    """The command `dialects`."""
    command: argparse.ArgumentParser = commands.add_parser(
        "dialects", help="list the dialects, or describe one with its operations"
    )
    command.add_argument("name", nargs="?", metavar="NAME", help="a dialect")


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


def dialects(arguments: argparse.Namespace) -> int:
    """`sparsecc dialects`."""
    import inspect

    from sparsecc.universe import SPARSECC_UNIVERSE

    known = SPARSECC_UNIVERSE.all_dialects
    if arguments.name not in (None, *known):
        raise UserError(
            f"unknown dialect {arguments.name!r}; the dialects are {', '.join(known)}", exit_code=2
        )

    def described(thing: object) -> list[str]:
        return (inspect.getdoc(thing) or "").splitlines()

    def module_of(name: str) -> object:
        return sys.modules[f"sparsecc.dialects.{name}"]

    if arguments.name is None:
        width = max(map(len, known))
        for name, factory in known.items():
            factory()
            print(f"{name:{width}}  {described(module_of(name))[0]}")
        return 0
    found = known[arguments.name]()
    print("\n".join(described(module_of(arguments.name))))
    for title, things in (("operations", found.operations), ("types and attributes", found.attributes)):
        texts = {thing.name: described(thing)[:1] for thing in things}
        width = max(map(len, texts), default=0)
        print(f"\n{title}:" if texts else "", end="\n" if texts else "")
        for name, text in sorted(texts.items()):
            print(f"  {name:{width}}  {' '.join(text)}".rstrip())
    return 0


def doctor(arguments: argparse.Namespace) -> int:
    """`sparsecc doctor`."""
    from sparsecc.driver.doctor import findings

    lines, healthy = findings()
    for line in lines:
        print(line)
    return 0 if healthy else 1
