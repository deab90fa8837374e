"""The instruction set, declared once: operands, costs and what an instruction computes.

`INSTRUCTIONS` holds one `Instruction` per mnemonic. Operands stand in the order of the C call (`axsim.h`)
and are plain numbers: on-chip addresses are rows with the memory in the top two bits (`spad`, `acc`, ... of
`numbers`), off-chip arrays are handles from `State.buffer`, output conversions those from `State.output`.

    state = State(target)
    x = state.buffer(array, "i8")
    INSTRUCTIONS["LD"].reference(state, spad(0), 0, x, 0, 16, 16, 16)

`reference` computes the same values, bit for bit, as the simulator. `cost` says what one instruction costs by
itself; waiting for others is the simulator's and the cost model's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sparsecc.target import costs, values
from sparsecc.target.costs import Cost
from sparsecc.target.target import Target


@dataclass(frozen=True)
class Instruction:
    """One instruction of the machine.

    `cost(target, *operands)` is how long it holds its engine, and its energy; it takes `off_chip`, an element
    type, for a store whose output conversion changes the type.
    `reference(state, *operands)` computes it. Where the simulator reports an error it raises UserError, and
    leaves the state as it was.
    """

    mnemonic: str
    c_name: str
    engine: str
    """LOAD, STORE, WPORT (MAT where the PEs have one register for weights), MAT, MOVE, VEC or FRONT."""
    operands: tuple[str, ...]
    summary: str
    cost: Callable[..., Cost]
    reference: Callable[..., None]

    def engine_on(self, target: Target) -> str:
        """The engine that runs the instruction on a target."""
        if self.engine == "WPORT" and not target.array.pe_double_buffer:
            return "MAT"
        return self.engine


def _instruction(
    mnemonic: str,
    engine: str,
    operands: str,
    summary: str,
    cost: Callable[..., Cost],
    reference: Callable[..., None],
) -> tuple[str, Instruction]:
    c_name = "ax_" + mnemonic.removeprefix("TU.").lower()
    names = tuple(operands.split())
    return mnemonic, Instruction(mnemonic, c_name, engine, names, summary, cost, reference)


INSTRUCTIONS: Mapping[str, Instruction] = dict(
    (
        _instruction(
            "LD",
            "LOAD",
            "dst step buffer offset stride rows cols",
            "loads rows x cols elements; the last column block is filled up with zeros",
            costs.ld,
            values.ld,
        ),
        _instruction(
            "LDG",
            "LOAD",
            "dst step buffer offset stride index index_offset rows cols",
            "loads the rows an index names",
            costs.ldg,
            values.ldg,
        ),
        _instruction(
            "ST",
            "STORE",
            "buffer offset stride src step rows cols output",
            "stores rows x cols elements, converted",
            costs.st,
            values.st,
        ),
        _instruction(
            "STS",
            "STORE",
            "buffer offset stride index index_offset src step rows cols output add",
            "stores to the rows an index names, or adds to what is there",
            costs.sts,
            values.sts,
        ),
        _instruction(
            "MV",
            "MOVE",
            "dst dst_step src src_step rows blocks",
            "copies blocks of rows between on-chip memories",
            costs.mv,
            values.mv,
        ),
        _instruction(
            "FILL",
            "VEC",
            "dst rows value",
            "sets rows to one value",
            costs.fill,
            values.fill,
        ),
        _instruction(
            "VOP",
            "VEC",
            "op dst a b rows imm",
            "element-wise operation (Vop) on rows",
            costs.vop,
            values.vop,
        ),
        _instruction(
            "TU.PRE",
            "WPORT",
            "b rows cols",
            "makes rows x cols elements the stationary tile, the rest of it zero",
            costs.pre,
            values.pre,
        ),
        _instruction(
            "TU.MM",
            "MAT",
            "c a rows accumulate",
            "c (+)= a * the stationary tile",
            costs.mm,
            values.mm,
        ),
        _instruction(
            "TU.PREX",
            "WPORT",
            "b index rows cols",
            "makes rows that a list in SPAD names the stationary tile, the rest of it zero",
            costs.prex,
            values.prex,
        ),
        _instruction(
            "TU.MMX",
            "MAT",
            "c a index rows",
            "adds a * the stationary tile to rows that a list in SPAD names",
            costs.mmx,
            values.mmx,
        ),
        _instruction(
            "TU.MMA",
            "MAT",
            "c c_step a a_step b b_step mm n k accumulate",
            "c[mm, n] (+)= a[mm, k] * b[k, n]",
            costs.mma,
            values.mma,
        ),
        _instruction(
            "TU.SPMMA",
            "MAT",
            "c c_step a meta b b_step mm n k keep group accumulate",
            "c[mm, n] (+)= a[mm, k] * b[k, n], of each group of a's columns some kept, named by metadata",
            costs.spmma,
            values.spmma,
        ),
        _instruction(
            "FENCE",
            "FRONT",
            "",
            "what follows starts after everything before has completed",
            costs.fence,
            values.fence,
        ),
    )
)
