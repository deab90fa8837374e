"""Activations as the C of kernels has them: sc_activation of sc.h."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from sparsecc import epilogue as fused
from sparsecc.cpu.arrays import Floats
from sparsecc.cpu.assembly import Epilogue
from sparsecc.cpu.native import ActivationStruct, Kernel, address
from sparsecc.epilogue import Activation

# The enumeration of sc.h.
KINDS = {
    "clip": 1, "leaky_relu": 2, "hard_sigmoid": 3, "hard_swish": 4, "sigmoid": 5, "tanh": 6, "silu": 7,
    "gelu": 8, "gelu_tanh": 9,
}  # fmt: skip


def in_kernels_of_f32(epilogue: fused.Epilogue) -> bool:
    """Whether kernels of f32 do all of an epilogue."""
    return epilogue.scale is None and not epilogue.zero and epilogue.element == "f32"


def in_kernel(epilogue: fused.Epilogue) -> Epilogue:
    """What such a kernel is told; the bias itself goes beside it."""
    limits = (epilogue.low, epilogue.high) if epilogue.limited and not epilogue.relu else None
    return Epilogue(epilogue.bias is not None, epilogue.relu, epilogue.residual, limits, epilogue.activation)


def numbers_of(epilogue: Epilogue, line: bool) -> tuple[int, float, float, Floats | None]:
    """Kind, its two numbers, and slopes of rows, of what a kernel does once results are stored.

    line: straight-line code, which limits results and multiplies by one slope itself.
    """
    if line and (epilogue.limits is not None or epilogue.slope is not None):
        return 0, 0.0, 0.0, None
    if epilogue.limits is not None:
        return KINDS["clip"], *epilogue.limits, None
    return numbers_of_activation(epilogue.activation)


def numbers_of_activation(activation: Activation | None) -> tuple[int, float, float, Floats | None]:
    """The same of an activation."""
    if activation is None:
        return 0, 0.0, 0.0, None
    a, b, *_ = (*activation.numbers, 0.0, 0.0)
    slopes = np.asarray(activation.slopes, np.float32) if activation.slopes else None
    return KINDS[activation.name], a, b, slopes


def struct_of(numbers: tuple[int, float, float, Floats | None]) -> ActivationStruct:
    """In ctypes; the slopes must stay."""
    kind, a, b, slopes = numbers
    return ActivationStruct(kind, a, b, None if slopes is None else address(slopes))


def with_activation(kernel: Kernel, epilogue: Epilogue) -> Kernel:
    """The kernel, which now does this, too."""
    numbers = numbers_of(epilogue, kernel.kind == "line")
    cast(Any, kernel.struct).epilogue.activation = struct_of(numbers)
    kernel.kept.append(numbers[3])
    return kernel
