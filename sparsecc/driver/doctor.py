"""What `sparsecc doctor` finds: the compiler everything needs, and what is optional."""

from __future__ import annotations

import platform
import shlex
import shutil
import subprocess
from importlib import metadata

import sparsecc
from sparsecc.cpu.machine import machine
from sparsecc.errors import UserError
from sparsecc.target import CpuTarget, load_target
from sparsecc.toolchain import cache_folder, find_compiler

PACKAGES = ("xdsl", "numpy", "scipy", "rich", "safetensors")
OPTIONAL = {
    "mlir-opt-19": "runs the Meta-DFG through MLIR in the tests",
    "lit": "runs the IR tests",
    "filecheck": "runs the IR tests",
    "make": "builds emitted folders",
}


EXTRAS = {
    "onnx": ("onnx", "reads networks and weights from .onnx files"),
    "onnxruntime": ("check", "what results of networks are compared with"),
    "torch": ("torch", "models of torch, .pt2 files, torch.compile"),
    "matplotlib": ("viz", "pictures"),
}


def findings() -> tuple[list[str], bool]:
    """Lines to print, and whether all that is needed is there."""
    lines = [f"sparsecc {sparsecc.__version__}, Python {platform.python_version()}, {platform.machine()}"]
    lines += [f"  ok       {name} {metadata.version(name)}" for name in PACKAGES]
    healthy = True
    try:
        command = find_compiler()
        lines.append(f"  ok       C compiler: {shlex.join(command)}, {_version(command)}")
    except UserError as e:
        healthy = False
        lines.append(f"  MISSING  {e}")
    lines.append(f"  ok       built simulators are kept in {cache_folder()}")
    lines.append(_native())
    for name, purpose in OPTIONAL.items():
        found = shutil.which(name)
        lines.append(f"  {'ok      ' if found else 'not here'} {name} (optional): {purpose}")
    for name, (extra, purpose) in EXTRAS.items():
        try:
            lines.append(f"  ok       {name} {metadata.version(name)}: {purpose}")
        except metadata.PackageNotFoundError:
            lines.append(f"  not here {name} (extra {extra}): {purpose}")
    return lines, healthy


def _native() -> str:
    """What the target `cpu` is on this machine."""
    try:
        target = load_target("cpu")
    except UserError as e:
        return f"  not here target cpu (optional): {e}"
    assert isinstance(target, CpuTarget)
    return f"  ok       target cpu: {target.name} on {machine().model}, with {target.simd.features}"


def _version(command: list[str]) -> str:
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).partition("\n")[0].strip() or "version unknown"
