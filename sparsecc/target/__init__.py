"""Accelerators: their description in TOML, and their instruction set."""

from sparsecc.target.cpu import CpuTarget
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.document import TargetError
from sparsecc.target.load import AnyTarget, load_target, target_names
from sparsecc.target.sections import (
    Array,
    Dma,
    Energy,
    Indexed,
    Memory,
    Move,
    Queues,
    Timing,
    Vector,
)
from sparsecc.target.structured import Kept, ScatterAdd, Structured
from sparsecc.target.target import Target

__all__ = [
    "AnyTarget",
    "Array",
    "CpuTarget",
    "CrossbarTarget",
    "Dma",
    "Energy",
    "Indexed",
    "Kept",
    "Memory",
    "Move",
    "Queues",
    "ScatterAdd",
    "Structured",
    "Target",
    "TargetError",
    "Timing",
    "Vector",
    "load_target",
    "target_names",
]
