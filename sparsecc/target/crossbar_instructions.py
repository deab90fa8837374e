"""The instructions of crossbars, declared once: operands, costs and what an instruction computes.

As `sparsecc.target.instructions` for tensor units; loads, stores and vector operations are the same in both.
Operands stand in the order of the C call (`crossbar.h`). `reference(state, *operands)` computes the same
values, bit for bit, as the simulator. `cost` takes blocks (`Block`) for their numbers.

    state = CrossbarState(target)
    INSTRUCTIONS["XB.PROG"].reference(state, 0, 0, 128, 0, 128, levels, 0, 128)
"""

from __future__ import annotations

from collections.abc import Mapping

from sparsecc.target import crossbar_costs, crossbar_values
from sparsecc.target.instructions import Instruction

INSTRUCTIONS: Mapping[str, Instruction] = {
    instruction.mnemonic: instruction
    for instruction in (
        Instruction(
            "XB.SHAPE",
            "ax_xb_shape",
            "FRONT",
            ("first", "count", "rows", "cols"),
            "gives arrays another of the shapes of the target",
            crossbar_costs.nothing,
            crossbar_values.shape,
        ),
        Instruction(
            "XB.PROG",
            "ax_xb_prog",
            "XPROG",
            ("array", "row0", "rows", "col0", "cols", "buffer", "offset", "stride"),
            "writes levels to a rectangle of cells",
            crossbar_costs.prog,
            crossbar_values.prog,
        ),
        Instruction(
            "XB.CFG",
            "ax_xb_cfg",
            "XPROG",
            (
                *("block", "array", "row0", "rows", "col0", "cols", "in_row", "out_row", "shift", "adc_bits"),
                *("offset", "tables", "in_index", "out_index", "doubled", "flipped"),
            ),
            "makes a rectangle of an array a block, with its inputs, outputs, shift and ADC bits",
            crossbar_costs.cfg,
            crossbar_values.cfg,
        ),
        Instruction(
            "XB.MVM",
            "ax_xb_mvm",
            "XB",
            ("block", "in", "in_step", "out", "out_step", "n", "accumulate"),
            "out (+)= the cells of a block times n vectors",
            crossbar_costs.mvm,
            crossbar_values.mvm,
        ),
        Instruction(
            "XB.MVMG",
            "ax_xb_mvmg",
            "XB",
            ("block", "count", "in", "in_step", "out", "out_step", "n", "accumulate"),
            "the same for blocks of several arrays, or on the same word lines, at once",
            crossbar_costs.mvmg,
            crossbar_values.mvmg,
        ),
        Instruction(
            "XB.DONE",
            "ax_xb_done",
            "FRONT",
            (),
            "programming is over: what follows starts after it, and is counted as inference",
            crossbar_costs.nothing,
            crossbar_values.done,
        ),
    )
}
