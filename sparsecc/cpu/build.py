"""Shared objects for the CPU at hand, and what was measured with them, kept between processes.

Everything lies in a folder of the user's cache that is named after this machine's CPU: what was made or
measured on another one is never found. Files appear whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, cast

import sparsecc
from sparsecc.cpu.machine import machine
from sparsecc.errors import UserError
from sparsecc.target.cpu import CpuTarget
from sparsecc.toolchain import RUNTIME, cache_folder, call, find_compiler

SOURCES = RUNTIME / "cpu"
C_FLAGS = ("-std=gnu11", "-O3", "-ffp-contract=fast", "-fPIC")


class CacheWarning(UserWarning):
    """Built objects cannot be kept where they should be."""


def digest(*parts: object) -> str:
    """Of anything with a stable text, and of bytes."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        state.update(len(data).to_bytes(8, "little") + data)
    return state.hexdigest()


@cache
def compiler_version() -> str:
    """Of the C compiler found, which assembles and links, too."""
    command = [*find_compiler(), "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@cache
def own_version() -> str:
    """Of what writes code here: the version and the sources of this package and of its C."""
    files = [*Path(__file__).parent.glob("*.py"), *SOURCES.glob("*.[ch]")]
    return digest(sparsecc.__version__, *(path.read_bytes() for path in sorted(files)))


@cache
def _folder(base: Path) -> Path:
    here = machine()
    name = f"cpu-{digest(here.arch, here.model, sorted(here.features))[:12]}"
    folder = base / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as e:
        other = Path(tempfile.gettempdir()) / f"sparsecc-{os.getuid()}" / name
        warnings.warn(
            f"{folder}: cannot be written ({e.strerror}); built code is kept in {other} until the system "
            "empties it; name another folder in SPARSECC_CACHE",
            CacheWarning,
            stacklevel=2,
        )
    try:
        other.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Code is loaded from here: nobody else may have put it there.
        if other.parent.stat().st_uid != os.getuid() or other.parent.stat().st_mode & 0o022:
            raise UserError(f"{other.parent}: others may write to it; name a folder in SPARSECC_CACHE")
    except OSError as e:
        raise UserError(f"{other}: cannot be made: {e.strerror}; name a folder in SPARSECC_CACHE") from e
    return other


def kept_folder() -> Path:
    """The folder of this machine: in the user's cache, or, with a CacheWarning, a temporary one."""
    return _folder(cache_folder())


def _kept(path: Path, write: Callable[[Path], list[str]], what: str) -> Path:
    """A file of the kept folder, built where it is not there; `write` as of `shared_object`."""
    if path.is_file():
        return path
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as work:
            built = f"built{path.suffix}"
            call([*find_compiler(), *write(Path(work)), "-o", built], Path(work), what)
            os.replace(Path(work) / built, path)
    except OSError as e:
        raise UserError(
            f"{path.parent}: cannot be written: {e.strerror}; name a folder in SPARSECC_CACHE"
        ) from e
    return path


def shared_object(key: str, write: Callable[[Path], list[str]], what: str) -> Path:
    """The shared object kept under a key, built where it is not there.

    `write` puts what is needed into a folder and returns the arguments of the compiler. Raises UserError.
    """
    return _kept(kept_folder() / f"{key}.so", lambda folder: ["-shared", *write(folder)], what)


def objects(files: Iterable[tuple[Path, Sequence[str]]], what: str) -> list[Path]:
    """Each C file with its options as an object, built where it is not there, all cores at a time.

    Kept by the file's text, the headers beside it, and the options: a file that changes is built alone.
    Raises UserError.
    """

    @cache
    def headers(folder: Path) -> str:
        return digest(*(path.read_bytes() for path in sorted(folder.glob("*.h"))))

    def built(source: Path, flags: Sequence[str], around: str) -> Path:
        key = digest(compiler_version(), list(flags), around, source.read_bytes())
        return _kept(place / f"{source.stem}-{key}.o", lambda _: ["-c", *flags, str(source)], what)

    place = kept_folder()
    jobs = [(source, flags, headers(source.parent)) for source, flags in files]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(built, *zip(*jobs, strict=True))) if jobs else []


def linked(name: str, parts: Sequence[Path], options: Sequence[str], what: str) -> Path:
    """Objects as one shared object, kept under the name and theirs. Raises UserError."""
    key = f"{name}-{digest(compiler_version(), *(path.name for path in parts))}"
    return shared_object(key, lambda _: [*map(str, parts), *options], what)


def flags_here(target: CpuTarget) -> list[str]:
    """Compiler options for all of a target's types that this machine has: one object serves them."""
    if target.missing:
        return list(target.flags)
    typed = [target.with_type(name) for name, _ in target.types]
    return list(dict.fromkeys(flag for each in typed if not each.missing for flag in each.flags))


def runtime_object(target: CpuTarget) -> Path:
    """The C of runtime/cpu, compiled for the target."""
    flags, what = [*C_FLAGS, *flags_here(target)], "building the kernels"
    parts = objects([(path, flags) for path in sorted(SOURCES.glob("*.c"))], what)
    return linked("runtime", parts, ["-pthread"], what)


def assembled_object(key: str, text: Callable[[], str]) -> Path:
    """Assembly text as a shared object. The text is only written where the object is not there."""

    def write(folder: Path) -> list[str]:
        # Not .S: the preprocessor would take longer than the assembler.
        (folder / "line.s").write_text(text())
        return ["-nostdlib", "line.s"]

    return shared_object(f"line-{digest(key, own_version(), compiler_version())}", write, "assembling")


def read_measured(key: str) -> dict[str, Any] | None:
    """What `keep_measured` kept; None where there is nothing, or nothing that can be read."""
    try:
        found = json.loads((kept_folder() / f"{key}.json").read_text())
    except (OSError, ValueError):
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def keep_measured(key: str, found: dict[str, Any]) -> None:
    """Keep a record of measurements; without it they are made again."""
    path = kept_folder() / f"{key}.json"
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump(found, file)
        os.replace(file.name, path)
    except OSError:
        pass
