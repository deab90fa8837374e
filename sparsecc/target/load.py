"""Finding targets of all families: by name, by file, and those of installed plug-ins."""

from __future__ import annotations

import importlib.metadata
import os
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from sparsecc.cpu.machine import machine
from sparsecc.errors import UserError
from sparsecc.target.cpu import CpuDocument, CpuTarget
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.crossbar_document import CrossbarDocument
from sparsecc.target.document import Document, nearest
from sparsecc.target.pimcomp import import_pimcomp
from sparsecc.target.target import Target
from sparsecc.target.tensor_document import TensorDocument

PRESETS = Path(__file__).parent / "presets"
ENTRY_POINTS = "sparsecc.targets"

AnyTarget = Target | CrossbarTarget | CpuTarget

# The name of the best CPU target that runs on this machine, and those it may be, the best first.
NATIVE = "cpu"
NATIVE_PRESETS = ("x86-avx512", "x86-avx2", "arm-neon")


def load_target(name_or_path: str | os.PathLike[str]) -> AnyTarget:
    """The target of that name (see `target_names`), or the one a file describes.

    A file is a .toml, or a .json of PIMCOMP (see `sparsecc.target.pimcomp`). Raises UserError, which for a
    file names its line and key.
    """
    text = os.fspath(name_or_path)
    if text.endswith(".json"):
        return import_pimcomp(Path(text))
    if text.endswith(".toml") or os.sep in text:
        return read_target(Path(text))
    if text == NATIVE:
        return native_target()
    preset = PRESETS / f"{text}.toml"
    plugins = [e for e in _plugins(importlib.metadata.entry_points) if e.name == text]
    if preset.is_file() + len(plugins) > 1:
        places = ["sparsecc itself"] * preset.is_file() + [plugin.value for plugin in plugins]
        raise UserError(
            f"target '{text}' is offered by {' and by '.join(places)}, needed by only one; uninstall "
            "another or give the path of a .toml file",
            exit_code=2,
        )
    if preset.is_file():
        return read_target(preset)
    if plugins:
        return _from_plugin(text, plugins[0].load())
    names = target_names()
    raise UserError(
        f"unknown target '{text}'{nearest(text, names)}; name one of {', '.join(names)}, or give the "
        "path of a .toml file",
        exit_code=2,
    )


@cache
def _plugins(
    find: Callable[..., importlib.metadata.EntryPoints],
) -> tuple[importlib.metadata.EntryPoint, ...]:
    """Installed targets; asking takes longer than reading a target, and passes read many."""
    return tuple(find(group=ENTRY_POINTS))


def native_target() -> CpuTarget:
    """The CPU target for this machine. Raises UserError where none of ours runs on it."""
    wanted: list[str] = []
    for name in NATIVE_PRESETS:
        target = read_target(PRESETS / f"{name}.toml")
        assert isinstance(target, CpuTarget)
        if not target.missing:
            return target
        wanted.append(f"{name} ({', '.join(target.missing)})")
    raise UserError(
        f"no CPU target runs on this machine, which is {machine().model}; missing are, by target, "
        f"{', '.join(wanted)}; name an accelerator instead"
    )


def target_names() -> tuple[str, ...]:
    """Every target that has a name: the presets and those of installed plug-ins."""
    plugins = (entry.name for entry in _plugins(importlib.metadata.entry_points))
    return tuple(sorted({path.stem for path in PRESETS.glob("*.toml")}.union(plugins)))


def read_target(path: Path) -> AnyTarget:
    """The target a TOML file describes. Raises UserError, which names file, line and key."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(
            f"{path}: cannot be read ({reason}); give the path of a target's .toml file", 2
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    return _described(path, text)


@cache
def _described(path: Path, text: str) -> AnyTarget:
    """The target of this text in this file."""
    try:
        document = Document(path, text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {error}; correct the syntax") from None
    family = document.table("target").get("family")
    if family == "crossbar":
        return CrossbarDocument(path, text).target()
    if family == "cpu":
        return CpuDocument(path, text).target()
    if family not in (None, "tensor"):
        known = ("tensor", "crossbar", "cpu")
        near = nearest(family, known) if isinstance(family, str) else ""
        needed = " or ".join(map(repr, known))
        raise document.error("target.family", f"found {family!r}, needed {needed}{near}")
    return TensorDocument(path, text).target()


def _from_plugin(name: str, provide: Callable[[], Any]) -> AnyTarget:
    """The target an entry point offers: its callable returns a target or the path of a file."""
    match provide():
        case Target() | CrossbarTarget() | CpuTarget() as target:
            return target
        case str() | Path() as path:
            return read_target(Path(path))
        case other:
            raise UserError(
                f"entry point '{name}' of group {ENTRY_POINTS}: found {type(other).__name__}, needed a "
                "Target or the path of a .toml file; correct what its callable returns"
            )
