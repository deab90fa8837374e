"""The values of a machine: memories, off-chip arrays, output conversions and the stationary tile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.errors import UserError
from sparsecc.target.numbers import (
    DTYPES,
    MEMORIES,
    ROW_MASK,
    Act,
    memory_of,
    unpack_indices,
)
from sparsecc.target.target import Target

Array = NDArray[Any]


@dataclass
class Buffer:
    """An off-chip array: flat, and written in place."""

    name: str
    data: Array
    element_type: str


@dataclass(frozen=True)
class Output:
    """An output conversion: element_type(act(value * scale))."""

    element_type: str
    scale: float
    act: Act


class State:
    """The values of a machine: on-chip memories, off-chip arrays and the stationary tile."""

    def __init__(self, target: Target):
        self.target = target
        rows = {
            "spad": target.spad_rows,
            "acc": target.acc_rows,
            "l0a": target.l0a_rows,
            "l0b": target.l0b_rows,
        }
        self.memories: dict[str, Array] = {
            name: np.zeros((rows[name], target.array.cols), DTYPES[self.type_of(name)]) for name in MEMORIES
        }
        self.written: dict[str, NDArray[np.bool_]] = {name: np.zeros(rows[name], bool) for name in MEMORIES}
        self.buffers: list[Buffer] = []
        self.outputs: list[Output | None] = [None]  # handle 0 is "as it is"
        self.tile: Array | None = None
        """The stationary tile; None before the first TU.PRE."""

    def type_of(self, memory: str) -> str:
        """The element type of a memory."""
        return self.target.acc_type if memory == "acc" else self.target.in_type

    def buffer(self, data: Array, element_type: str, name: str = "") -> int:
        """Registers an off-chip array, which is written in place; returns its handle."""
        if data.dtype != DTYPES[element_type] or not data.flags.c_contiguous:
            raise UserError(
                f"buffer '{name}' of {element_type} needs a contiguous array of "
                f"{np.dtype(DTYPES[element_type])}, found {data.dtype}"
            )
        self.buffers.append(Buffer(name or str(len(self.buffers)), data.reshape(-1), element_type))
        return len(self.buffers) - 1

    def output(self, element_type: str, scale: float = 1.0, act: Act = Act.NONE) -> int:
        """Registers an output conversion; returns its handle."""
        self.outputs.append(Output(element_type, scale, act))
        return len(self.outputs) - 1

    def find(self, buffer: int) -> Buffer:
        """The off-chip array of a handle."""
        if not 0 <= buffer < len(self.buffers):
            raise UserError(f"buffer {buffer} is not known, only {len(self.buffers)} buffers are (from 0)")
        return self.buffers[buffer]

    def rows(self, address: int, rows: int, step: int = 0, blocks: int = 1) -> Array:
        """Row numbers, blocks x rows, of an operand. Raises UserError when it leaves its memory."""
        memory = memory_of(address)
        numbers = (address & ROW_MASK) + np.arange(blocks)[:, None] * step + np.arange(rows)
        size = len(self.memories[memory])
        if rows < 1 or blocks < 1 or numbers.max() >= size:
            raise UserError(
                f"{rows} rows in {blocks} blocks at {memory}[{address & ROW_MASK}] step {step}: needed at "
                f"least one row, and none beyond the {size} of this memory"
            )
        if blocks > 1 and step < rows:
            raise UserError(
                f"{blocks} blocks of {rows} rows at {memory}[{address & ROW_MASK}] overlap: needed a step of "
                f"at least {rows}, found {step}"
            )
        return numbers

    def read(self, address: int, rows: int, step: int = 0, blocks: int = 1) -> Array:
        """An operand as one array of rows x (blocks * cols). Raises UserError for a row never written."""
        memory = memory_of(address)
        numbers = self.rows(address, rows, step, blocks)
        if not (written := self.written[memory][numbers]).all():
            hole = numbers[~written][0]
            raise UserError(f"row {hole} of {memory} is read, but was never written")
        return np.concatenate(list(self.memories[memory][numbers]), axis=1)

    def write(self, address: int, values: Array, step: int = 0):
        """Writes rows x any width, split in column blocks; the last is filled up with zeros."""
        memory, cols = memory_of(address), self.target.array.cols
        blocks = -(-values.shape[1] // cols)
        numbers = self.rows(address, values.shape[0], step, blocks)
        padded = np.zeros((values.shape[0], blocks * cols), self.memories[memory].dtype)
        padded[:, : values.shape[1]] = values
        for block in range(blocks):
            self.memories[memory][numbers[block]] = padded[:, block * cols : (block + 1) * cols]
        self.written[memory][numbers] = True

    def named(self, address: int, index: int, rows: int) -> NDArray[np.int64]:
        """The rows of a memory, from an address on, that a list in SPAD names; all must have been written."""
        memory = memory_of(address)
        packed = self.read(index, -(-rows // self.target.indices_per_row))
        indices = unpack_indices(self.target, packed, rows)
        numbers = (address & ROW_MASK) + indices
        size = len(self.memories[memory])
        for r, row in enumerate(numbers.tolist()):
            if row >= size:
                raise UserError(
                    f"index {r} is {indices[r]}: row {row} of {memory}, which has {size} rows, is not there"
                )
            if not self.written[memory][row]:
                raise UserError(
                    f"index {r} is {indices[r]}: row {row} of {memory} is read, but was never written"
                )
        return numbers

    def elements(self, buffer: int, starts: Array, cols: int) -> Array:
        """Element numbers, rows x cols, of rows that start there. Raises UserError outside the buffer."""
        numbers = starts[:, None] + np.arange(cols)
        found = self.find(buffer)
        if not numbers.size:
            raise UserError(f"{len(starts)} rows of {cols} of buffer '{found.name}', needed at least 1 of 1")
        if numbers.min() < 0 or numbers.max() >= len(found.data):
            raise UserError(
                f"elements {numbers.min()} to {numbers.max()} of buffer '{found.name}', which has elements 0 "
                f"to {len(found.data) - 1}"
            )
        return numbers

    def indices(self, index: int, index_offset: int, rows: int) -> Array:
        """Entries of an index buffer, as 64-bit numbers."""
        found = self.find(index)
        if found.element_type != "i32":
            raise UserError(f"index buffer '{found.name}' has {found.element_type}, needed i32")
        numbers = found.data[self.elements(index, np.array([index_offset]), rows)[0]].astype(np.int64)
        if numbers.min() < 0:
            raise UserError(f"index buffer '{found.name}' has {numbers.min()}, needed at least 0")
        return numbers
