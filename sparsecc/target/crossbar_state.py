"""The values of a machine with memristor crossbars: cells, blocks, and the rows of its two memories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsecc.errors import UserError
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.crossbar_noise import NO_NOISE, Noise

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """A rectangle of an array with its inputs, outputs, shift and ADC bits: the operands of XB.CFG."""

    array: int
    row0: int
    rows: int
    col0: int
    cols: int
    in_row: int = 0
    out_row: int = 0
    shift: int = 0
    adc_bits: int = 8
    offset: int = 0
    in_index: tuple[int, ...] | None = None
    out_index: tuple[int, ...] | None = None
    doubled: tuple[int, ...] | None = None
    flipped: tuple[int, ...] | None = None

    @property
    def any_doubled(self) -> bool:
        """Whether some inputs count twice, which takes one bit more."""
        return self.doubled is not None and any(self.doubled)

    def inputs(self) -> Ints:
        """Rows of the inputs, from the address of an XB.MVM on."""
        return self.in_row + np.asarray(self.in_index or range(self.rows), np.int64)

    def outputs(self) -> Ints:
        """Rows of the results, from the address of an XB.MVM on."""
        return self.out_row + np.asarray(self.out_index or range(self.cols), np.int64)

    def follows(self, before: Block) -> bool:
        """Whether it stands on the word lines of another of its array, to its right: one bundle."""
        lines = ("array", "row0", "rows", "in_row", "in_index")
        return (
            all(getattr(self, name) == getattr(before, name) for name in lines)
            and before.col0 + before.cols <= self.col0
            and _flags(self) == _flags(before)
        )

    def groups(self, target: CrossbarTarget) -> Iterable[slice]:
        """Rows that are summed at once, counted from the block's first."""
        unit = target.array.ou_rows or self.rows
        return (slice(first, min(first + unit, self.rows)) for first in range(0, self.rows, unit))


def _flags(block: Block) -> tuple[bool, ...]:
    """Which inputs are doubled; empty for none."""
    flags = tuple(map(bool, block.doubled or ()))
    return flags if any(flags) else ()


def bundles(blocks: Sequence[Block]) -> list[list[Block]]:
    """Blocks of a group by the word lines they are read with."""
    found: list[list[Block]] = []
    for block in blocks:
        if found and block.follows(found[-1][-1]):
            found[-1].append(block)
        else:
            found.append([block])
    return found


class CrossbarState:
    """What programs change."""

    def __init__(self, target: CrossbarTarget, noise: Noise = NO_NOISE):
        self.target = target
        self.noise = noise
        width = target.row_elements
        self.spad = np.zeros((target.spad_rows, width), np.int8)
        self.acc = np.zeros((target.acc_rows, width), np.int32)
        self.shapes: dict[int, tuple[int, int]] = {}
        self.levels: dict[int, NDArray[np.int8]] = {}
        self.writes: dict[int, NDArray[np.uint32]] = {}
        self.faults: dict[tuple[int, int, int, int], int] = {}
        """Level at which a device is stuck, by array, row, column and device (1 the negative one)."""
        self.blocks: dict[int, Block] = {}
        self.vectors: Counter[int] = Counter()
        """Vectors that a block has multiplied."""
        self.conversions: Counter[int] = Counter()
        """By ADC bits."""
        self.clipped: Counter[int] = Counter()

    def shape(self, array: int) -> tuple[int, int]:
        """Rows and columns of an array."""
        if not 0 <= array < self.target.most_arrays:
            raise UserError(f"array {array} is not there, needed 0 to {self.target.most_arrays - 1}")
        return self.shapes.get(array, (self.target.array.rows, self.target.array.cols))

    def devices(self, block: Block) -> list[NDArray[np.float64]]:
        """Levels of the positive and of the negative devices of a block as they really are, rows x cols."""
        target, noise = self.target, self.noise
        rows = np.arange(block.row0, block.row0 + block.rows)
        cols = np.arange(block.col0, block.col0 + block.cols)
        place = np.ix_(rows, cols)
        if block.array not in self.levels or not self.writes[block.array][place].all():
            raise UserError(f"a cell of array {block.array} is used, but was never programmed")
        levels = self.levels[block.array][place].astype(np.int64)
        found: list[NDArray[np.float64]] = []
        for device in range(2 if target.differential else 1):
            own = np.maximum(-levels if device else levels, 0)
            own = noise.with_faults(own, target.level_max, block.array, rows, cols, device)
            for (array, row, col, which), level in self.faults.items():
                if (array, which) == (block.array, device) and row in rows and col in cols:
                    own[row - block.row0, col - block.col0] = level
            found.append(
                noise.programmed(own, self.writes[block.array][place], block.array, rows, cols, device)
            )
        return found
