"""What C needs of kernels for int8, bf16 and f16: a kernel over words, and how X comes to them."""

from __future__ import annotations

import numpy as np

from sparsecc.codegen.cpu import Parts, activation_text, float_text, matrix_parts
from sparsecc.cpu.activate import numbers_of_activation
from sparsecc.cpu.assembly import Epilogue as LineEpilogue
from sparsecc.cpu.narrow import (
    KERNELS,
    X_TYPES,
    Finish,
    dot_of,
    finish_of,
    full_from,
    line_bias,
    registers_for_words,
)
from sparsecc.cpu.narrow_tune import element_of, plain
from sparsecc.cpu.words import as_words, depth_of
from sparsecc.dialects.cpu import KernelOp
from sparsecc.epilogue import Epilogue
from sparsecc.importers.matrix import make_csr
from sparsecc.target.cpu import CpuTarget


def narrow_parts(op: KernelOp, target: CpuTarget, epilogue: Epilogue | None = None) -> Parts:
    """As `sparsecc.codegen.cpu.kernel_parts`. target: with the type in use."""
    variant, name, pattern = op.variant, op.sym_name.data, op.weight.pattern
    w = make_csr(op.weight.data, pattern.indices, pattern.indptr, op.weight.shape)
    element, epilogue = element_of(target), epilogue or plain(target)
    words = as_words(w, element, depth_of(target, element))
    line = variant.kind == "line"
    bias = line_bias(w, target, element, epilogue) if line else None
    parts = matrix_parts(
        words.csr,
        variant,
        f"{name}_inner",
        target,
        registers_for_words(target, element, 1 if variant.lanes == 8 else variant.lanes),
        LineEpilogue(bias=bias is not None),
        None if bias is None else bias.view(np.float32),
        csr_columns=words.csr.shape[1],
        full_from=full_from(element),
    )
    finish = finish_of(w, target, element, epilogue, line)
    m, k = w.shape
    parts.tables[f"{name}_columns"] = ("int32_t", words.columns)
    if finish.bias is not None:
        parts.tables[f"{name}_bias"] = ("int32_t" if finish.integers else "float", finish.bias)
    if finish.slopes is not None:
        parts.tables[f"{name}_slopes"] = ("float", finish.slopes)
    if finish.scale is not None:
        parts.tables[f"{name}_scale"] = ("float", finish.scale)
    parts.before = f"static const sc_{variant.kind} {name}_inner = {{{parts.struct}}};\n"
    parts.struct = (
        f"{m}, {k}, {len(words.columns)}, {words.depth}, {X_TYPES[element]}, {dot_of(element, words.depth)}, "
        f"{name}_columns, {KERNELS[variant.kind]}, &{name}_inner, {{{_finish(finish, name)}}}"
    )
    return parts


def _finish(finish: Finish, name: str) -> str:
    """The fields of sc_finish."""
    struct, (low, high) = finish.struct(), finish.limits_i32()
    bias = f"{name}_bias" if finish.bias is not None else "0"
    scale = f"{name}_scale" if finish.scale is not None else "0"
    kind, first, second, _ = numbers_of_activation(finish.epilogue.activation)
    slopes = f"{name}_slopes" if finish.slopes is not None else "0"
    return (
        f"{struct.integers}, {struct.out}, {struct.plain}, {struct.bias_type}, {bias}, {scale}, "
        f"{struct.scale_rows}, {struct.zero}, {float_text(finish.epilogue.low)}, "
        f"{float_text(finish.epilogue.high)}, {_int(low)}, {_int(high)}, "
        f"{activation_text(kind, first, second, slopes)}"
    )


def _int(value: int) -> str:
    # The least number is not one literal of C.
    return "-2147483647 - 1" if value == -(2**31) else str(value)
