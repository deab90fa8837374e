"""The operators of the host, built for a CPU and loaded: what networks there call between their products."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

from sparsecc.cpu.build import C_FLAGS, compiler_version, digest, own_version, shared_object
from sparsecc.target import CpuTarget
from sparsecc.toolchain import HOST, host_headers, host_sources


@cache
def host_object(target: CpuTarget) -> Path:
    """The operators of the host for the target, as a shared object; kernels are in `runtime_object`."""
    # What is compared for equality is rounded after every operation.
    contract = ["-ffp-contract=off"] if target.in_type == "i8" else []
    flags = [*target.flags, *contract]
    state = [path.read_bytes() for path in [*host_sources(), *host_headers()]]
    key = f"host-{digest(own_version(), compiler_version(), flags, *state)}"

    def write(_: Path) -> list[str]:
        return [*C_FLAGS, *flags, f"-I{HOST}", *map(str, host_sources()), "-lm"]

    return shared_object(key, write, "building the operators of the host")


@cache
def host(target: CpuTarget) -> ctypes.CDLL:
    """What `host_object` builds, loaded. Raises UserError where it does not run here."""
    target.check_runs_here()
    return ctypes.CDLL(str(host_object(target)))
