"""Programs for dense tensor units: one operation per instruction of the target, in plain loops over tables.

Instructions take their operands in the order of the instruction set (`sparsecc.target.instructions`): on-chip
addresses, off-chip buffers and plain index values. Loops, branches and arithmetic are upstream `scf`, `arith`
and `func`; the tables that drive them are `tu.constant`.

```mlir
tu.constant @step_rows : 3xi32 [16, 16, 9]
func.func @infer(%x: !tu.buffer<64x32xi8>, %y: !tu.buffer<48x32xi32>) {
  %w = tu.buffer @weights : !tu.buffer<41x16xi8>
  scf.for %s = %c0 to %c3 step %c1 {
    %rows = tu.lookup @step_rows[%s]
    %a = tu.address spad %c0
    tu.ld %a step %c0, %w[%c0] stride %c16 rows %rows cols %c16
```
"""

from __future__ import annotations

from xdsl.ir import Dialect

from sparsecc.dialects.tu_instructions import (
    FenceOp,
    FillOp,
    FillRealOp,
    InstructionOp,
    LdgOp,
    LdOp,
    MmaOp,
    MmOp,
    MmxOp,
    MvOp,
    PreOp,
    PrexOp,
    SpmmaOp,
    StOp,
    StsOp,
)
from sparsecc.dialects.tu_types import AddressType, ArrayDataAttr, BufferType, Memory, MemoryAttr
from sparsecc.dialects.tu_values import AddressOp, BufferOp, ConstantOp, LookupOp, LookupRealOp, OutputOp

__all__ = [
    "AddressOp",
    "AddressType",
    "ArrayDataAttr",
    "BufferOp",
    "BufferType",
    "ConstantOp",
    "FenceOp",
    "FillOp",
    "FillRealOp",
    "InstructionOp",
    "LdOp",
    "LdgOp",
    "LookupOp",
    "LookupRealOp",
    "Memory",
    "MemoryAttr",
    "MmOp",
    "MmaOp",
    "MmxOp",
    "MvOp",
    "OutputOp",
    "PreOp",
    "PrexOp",
    "SpmmaOp",
    "StOp",
    "StsOp",
    "Tu",
]

Tu = Dialect(
    "tu",
    [
        AddressOp, BufferOp, ConstantOp, FenceOp, FillOp, FillRealOp, LdOp, LdgOp, LookupOp, LookupRealOp,
        MmOp, MmaOp, MmxOp, MvOp,
        OutputOp,
        PreOp, PrexOp, SpmmaOp, StOp, StsOp,
    ],
    [AddressType, ArrayDataAttr, BufferType, MemoryAttr],
)  # fmt: skip
