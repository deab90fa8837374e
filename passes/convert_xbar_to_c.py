"""Turns crossbar programs to calls of the simulator's C interface.

As convert-tu-to-c, whose instructions occur in the same functions: every `xbar` and `tu` instruction becomes
a call in the macro AX. Two entries come out: `model_program(m)`, called once, and `model_infer(m, x, y)`.

Refuses operations that are neither `xbar` nor `tu` nor upstream `func`, `scf`, `arith`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsecc.passes.convert_tu_to_c import ConvertTuToCPass


@dataclass(frozen=True)
class ConvertXbarToCPass(ConvertTuToCPass):
    name = "convert-xbar-to-c"
    summary: ClassVar = "makes instructions C calls: xbar and tu in loops -> func, scf, arith, memref, emitc"
    refuses: ClassVar = "operations that are neither xbar nor tu nor func, scf, arith"
