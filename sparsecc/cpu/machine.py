"""The CPU at hand: its instruction set, its features, its name."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# What systems call an architecture.
ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Machine:
    """What matters of a CPU for the code that runs on it."""

    arch: str
    model: str
    features: frozenset[str]
    """As Linux names them; on AArch64 "asimd" is NEON."""


@cache
def machine() -> Machine:
    """The CPU this runs on. Features that the system does not tell are not there."""
    name = platform.machine().lower()
    arch = ARCHITECTURES.get(name, name)
    try:
        lines = CPUINFO.read_text(errors="replace").splitlines()
    except OSError:
        return _without_proc(arch)
    # Of several processors the first: systems do not mix instruction sets that programs may use.
    fields: dict[str, str] = {}
    for line in lines:
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    parts = [fields.get(key, "") for key in ("vendor_id", "model name", "cpu family", "model", "stepping")]
    parts += [fields.get(key, "") for key in ("CPU implementer", "CPU part")]
    flags = fields.get("flags", fields.get("Features", "")).split()
    return Machine(arch, " ".join(filter(None, parts)) or arch, frozenset(flags))


def _without_proc(arch: str) -> Machine:
    """macOS tells by sysctl; elsewhere only what every CPU of the architecture has is known."""
    if platform.system() != "Darwin":
        return Machine(arch, arch, frozenset({"asimd"} if arch == "aarch64" else ()))

    def ask(key: str) -> str:
        done = subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    model = ask("machdep.cpu.brand_string") or arch
    if arch == "aarch64":
        return Machine(arch, model, frozenset({"asimd"}))
    flags = f"{ask('machdep.cpu.features')} {ask('machdep.cpu.leaf7_features')}".lower().split()
    return Machine(arch, model, frozenset(flags))
