"""Accelerators: their description in TOML, and their instruction set."""

from sparsecc.target.target import (
    Array,
    Dma,
    Energy,
    Indexed,
    Memory,
    Move,
    Queues,
    Target,
    TargetError,
    Timing,
    Vector,
)

__all__ = [
    "Array",
    "Dma",
    "Energy",
    "Indexed",
    "Memory",
    "Move",
    "Queues",
    "Target",
    "TargetError",
    "Timing",
    "Vector",
]
