"""The operators of the host, built for a CPU: what networks there call between their products.

Only the C files that hold what is called are compiled: all of them take some ten times as long.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from sparsecc.cpu.build import (
    C_FLAGS,
    compiler_version,
    digest,
    flags_here,
    keep_measured,
    linked,
    objects,
    read_measured,
)
from sparsecc.errors import UserError
from sparsecc.host.ops import OPERATORS
from sparsecc.target import CpuTarget
from sparsecc.toolchain import HOST, find_compiler, host_headers, host_sources

# Files whose time goes to sums of products. Elsewhere every operation is rounded, whatever the type, so that
# all types share the objects.
SUMS = ("depthwise.c", "matmul.c", "reduce.c", "sparse.c")
_WHAT = "building the operators of the host"
_NAME = re.compile(r"\bhost_\w+")
_DEFINITION = re.compile(r"\b(host_\w+)\s*\([^(){};]*\)\s*\{")


def _read(source: Path) -> dict[str, list[str]]:
    """The operators that a C file defines, and all that it names: macros make both, so they are expanded."""
    # With its guard defined the header, which names all, is empty.
    command = [*find_compiler(), "-E", "-P", "-DHOST_H", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"{_WHAT}: {source.name}: {done.stderr.strip()}")
    defined = set(_DEFINITION.findall(done.stdout)) & OPERATORS.keys()
    return {"defined": sorted(defined), "named": sorted(operators_in([done.stdout]))}


@cache
def _contents() -> Mapping[str, dict[str, list[str]]]:
    """What `_read` finds, by the name of the file."""
    state = [path.read_bytes() for path in [*host_sources(), *host_headers()]]
    key = f"host-{digest(compiler_version(), Path(__file__).read_bytes(), *state)}"
    if (kept := read_measured(key)) is not None:
        return kept
    found = {source.name: _read(source) for source in host_sources()}
    keep_measured(key, found)
    return found


def _sources(operators: Iterable[str]) -> list[Path]:
    """The C files that hold the operators, and those that these call."""
    contents = _contents()
    home = {name: file for file, each in contents.items() for name in each["defined"]}
    found, left = set[str](), [home[name] for name in operators]
    while left:
        file = left.pop()
        if file not in found:
            found.add(file)
            left += [home[name] for name in contents[file]["named"]]
    return [HOST / file for file in sorted(found)]


def operators_in(texts: Iterable[str]) -> frozenset[str]:
    """The operators of the host that C texts name."""
    return frozenset(name for text in texts for name in _NAME.findall(text)) & OPERATORS.keys()


def host_objects(target: CpuTarget, operators: Iterable[str]) -> list[Path]:
    """Objects with these operators for the target, and with what they call. Raises UserError."""
    # What is compared for equality is rounded after every operation.
    summed = SUMS if target.in_type != "i8" else ()
    flags = [*C_FLAGS, *flags_here(target)]
    files = [
        (path, flags if path.name in summed else [*flags, "-ffp-contract=off"])
        for path in _sources(operators)
    ]
    return objects(files, _WHAT)


@cache
def host_object(target: CpuTarget, *operators: str) -> Path:
    """Operators of the host for the target, all of them if none is named, as a shared object."""
    return linked("host", host_objects(target, operators or OPERATORS), ["-lm"], _WHAT)


@cache
def host(target: CpuTarget, *operators: str) -> ctypes.CDLL:
    """What `host_object` builds, loaded. Raises UserError where it does not run here."""
    target.check_runs_here()
    return ctypes.CDLL(str(host_object(target, *operators)))
