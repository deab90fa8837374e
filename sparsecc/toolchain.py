"""The C compiler of the host: finding it, and building emitted programs with it."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from sparsecc.errors import UserError

RUNTIME = Path(__file__).parent / "runtime"
SIMULATOR = RUNTIME / "axsim"
PROGRAM = RUNTIME / "program"
NETWORK_PROGRAM = RUNTIME / "network_program"
SEARCH = RUNTIME / "search"
HOST = RUNTIME / "host"
# With contraction products and sums would be rounded together on some processors, and not on others.
HOST_OPTIONS = ("-std=c11", "-O2", "-fPIC", "-ffp-contract=off")
CANDIDATES = ("cc", "gcc", "clang")


def find_compiler() -> list[str]:
    """The command of the C compiler: $CC, or the first of cc, gcc, clang. Raises UserError without one."""
    if chosen := os.environ.get("CC"):
        command = shlex.split(chosen)
        if command and shutil.which(command[0]):
            return command
        raise UserError(f"CC is {chosen!r}, which is no command; set CC to a C compiler, or unset it")
    for name in CANDIDATES:
        if shutil.which(name):
            return [name]
    raise UserError(f"no C compiler: looked for {', '.join(CANDIDATES)}; install one, or name it in CC")


def has_compiler() -> bool:
    """Whether the host has a C compiler, which `find_compiler` finds."""
    try:
        find_compiler()
    except UserError:
        return False
    return True


def simulator_sources() -> list[Path]:
    """The C files of the simulator."""
    return sorted(SIMULATOR.glob("*.c"))


def simulator_headers() -> list[Path]:
    """The headers of the simulator."""
    return sorted(SIMULATOR.glob("*.h"))


def cache_folder() -> Path:
    """Where built simulators are kept: $SPARSECC_CACHE, $XDG_CACHE_HOME/sparsecc or ~/.cache/sparsecc."""
    if chosen := os.environ.get("SPARSECC_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "sparsecc"


def call(command: list[str], folder: Path, what: str) -> None:
    """Run a compiler command. Raises UserError with its first message when it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        first = next((line for line in lines if "error" in line), lines[0])
        raise UserError(f"{what}: {shlex.join(command[:1])} failed with status {done.returncode}: {first}")


def host_sources() -> list[Path]:
    """The C files of the host operators."""
    return sorted(HOST.glob("*.c"))


def host_headers() -> list[Path]:
    """The headers of the host operators."""
    return sorted(HOST.glob("*.h"))


def _archive(name: str, what: str, options: Sequence[str], sources: list[Path], headers: list[Path]) -> Path:
    """lib{name}.a for the compiler found, built once for each version of compiler and sources."""
    compiler = [*find_compiler(), *options]
    version = subprocess.run(
        [*find_compiler(), "--version"], capture_output=True, text=True, check=False
    ).stdout
    state = hashlib.blake2b(" ".join([*compiler, version]).encode(), digest_size=12)
    for path in sources + headers:
        state.update(path.read_bytes())
    folder, stage = cache_folder() / f"{name}-{state.hexdigest()}", f"building the {what}"
    library = folder / f"lib{name}.a"
    if library.is_file():
        return library
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            call([*compiler, "-c", *map(str, sources)], Path(work), stage)
            objects = sorted(path.name for path in Path(work).glob("*.o"))
            call(
                [os.environ.get("AR", "ar"), "rcs", library.name, *objects],
                Path(work),
                f"building the {what}",
            )
            # Renaming is atomic: of several processes building at once, each leaves a whole library.
            os.replace(Path(work) / library.name, library)
    except OSError as e:
        raise UserError(
            f"cannot keep the built {what} in {folder}: {e.strerror}; name another folder in SPARSECC_CACHE"
        ) from e
    return library


@cache
def simulator_library() -> Path:
    """libaxsim.a for the compiler found, built once for each version of compiler and sources."""
    options = ("-std=c11", "-O2")
    return _archive("axsim", "simulator", options, simulator_sources(), simulator_headers())


@cache
def host_library() -> Path:
    """libhost.a, the operators of the host (`sparsecc.host.ops`), built once likewise."""
    return _archive("host", "host operators", HOST_OPTIONS, host_sources(), host_headers())


@cache
def _built(source: Path, headers: tuple[tuple[str, str], ...]) -> Path:
    library = simulator_library()
    state = hashlib.blake2b(source.read_bytes() + repr(headers).encode(), digest_size=12)
    program = library.parent / f"{source.stem}-{state.hexdigest()}"
    if program.is_file():
        return program
    try:
        with tempfile.TemporaryDirectory(dir=library.parent) as work:
            for name, text in headers:
                (Path(work) / name).write_text(text)
            command = [
                *find_compiler(),
                "-std=c11",
                "-O2",
                "-I.",
                f"-I{SIMULATOR}",
                str(source),
                str(library),
            ]
            call([*command, "-lm", "-o", "built"], Path(work), f"building {source.stem}")
            os.replace(Path(work) / "built", program)
    except OSError as e:
        raise UserError(
            f"cannot keep the built {source.stem} in {library.parent}: {e.strerror}; "
            "name another folder in SPARSECC_CACHE"
        ) from e
    return program


def build_with_simulator(source: Path, headers: Mapping[str, str]) -> Path:
    """A program of ours on the simulator's library, built once and kept there; headers are texts by name."""
    return _built(source, tuple(headers.items()))


@cache
def search_library() -> Path:
    """The shared object of the search for covers, built once for each version of the sources.

    All of it is on whole numbers, so it does the same whatever compiler built it. Raises UserError.
    """
    state = hashlib.blake2b(" ".join(platform.uname()[0::4]).encode(), digest_size=12)
    for path in sorted(SEARCH.glob("*.[ch]")):
        state.update(path.read_bytes())
    folder = cache_folder() / f"search-{state.hexdigest()}"
    library = folder / "libsearch.so"
    if library.is_file():
        return library
    compiler = find_compiler()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            sources = [str(path) for path in sorted(SEARCH.glob("*.c"))]
            options = ["-std=c11", "-O3", "-fPIC", "-shared", "-o", library.name]
            call([*compiler, *options, *sources], Path(work), "building the search")
            os.replace(Path(work) / library.name, library)
    except OSError as e:
        raise UserError(
            f"cannot keep the built search in {folder}: {e.strerror}; name another folder in SPARSECC_CACHE"
        ) from e
    return library


def run_program(command: Sequence[str]) -> None:
    """Run an emitted program. Raises UserError with what it says, and its status 3, of wrong values."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        message = done.stderr.strip() or f"it ended with status {done.returncode}"
        raise UserError(f"the program failed: {message}", exit_code=3 if done.returncode == 3 else 1)


def build_program(folder: Path) -> Path:
    """Compile an emitted folder against the built simulator; returns the program."""
    library = simulator_library()
    sources = ["model.c", "data.c", "main.c", "npy.c"]
    command = [
        *find_compiler(),
        "-std=gnu11",
        "-O1",
        "-I.",
        "-Iaxsim",
        *sources,
        str(library),
        "-lm",
        "-o",
        "model",
    ]
    call(command, folder, "compiling the program")
    return folder / "model"


def build_network(folder: Path) -> Path:
    """Compile the emitted folder of a network against the built libraries; returns the program."""
    libraries = [str(simulator_library()), str(host_library())]
    options = ["-std=gnu11", "-O1", "-ffp-contract=off", "-I.", "-Iaxsim", "-Ihost"]
    # Networks for any batch have a source for each variant.
    sources = ["model.c", "data.c", "main.c", *sorted(path.name for path in folder.glob("batch*.c"))]
    call(
        [*find_compiler(), *options, *sources, *libraries, "-lm", "-o", "model"],
        folder,
        "compiling the program",
    )
    return folder / "model"
