"""Tile tables: which cells of which crossbars hold which part of a matrix, and how their sums are used.

A *tile* is one region of one array, read by one MVM: a list of inputs (its word lines, rows of the array), a
list of outputs (its bit lines, columns of the array), a level for each crossing, and a shift. With x the
inputs and y the outputs,

    y[outputs] += (((levels - zero)^T @ ((1 + doubled) * x[inputs])) << shift)

summed over all tiles is W x: the law of every table (`dense_of` gives W back). `zero` is the level that
stands for nothing: 0, or in the offset encoding the top slice of 128, whose share the digital side subtracts.
A *block* is a tile whose levels are still the int8 weights themselves: slice -1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int8 = NDArray[np.int8]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Tile:
    """One region of one array."""

    inputs: Int32
    """Rows of X (columns of W), one for each word line, [rows]."""
    outputs: Int32
    """Rows of Y (rows of W), one for each bit line, [columns]."""
    levels: Int8
    """[rows, columns]: a row of the array is an input."""
    block: int
    """The block it was cut from."""
    slice: int = -1
    """Which bit slice; -1 for a block that holds weights."""
    shift: int = 0
    zero: int = 0
    """The level that stands for nothing."""
    doubled: Bool | None = None
    """Word lines that get their input twice over (squeeze-out), [rows]; None for none."""
    flipped: Bool | None = None
    """Bit lines whose cells hold the highest level less the level (offset encoding), [columns]; or None."""
    adc_bits: int = 0
    """0 where not yet chosen: the target's."""
    array: int = -1
    """The physical array and the first row and column there; -1 where not yet placed."""
    row: int = 0
    column: int = 0
    image: int = -1
    """The tile, by number, whose cells it uses instead of its own (an equal one); -1 for its own."""
    bundle: int = -1
    """Tiles of one number, one after another, are read at once (`sparsecc.crossbar.bundle`); -1: alone."""

    def __post_init__(self) -> None:
        assert self.levels.shape == (len(self.inputs), len(self.outputs)), "levels must be [inputs, outputs]"
        assert self.doubled is None or self.doubled.shape == self.inputs.shape
        assert self.flipped is None or self.flipped.shape == self.outputs.shape

    def but(self, **changed: Any) -> Tile:
        """As `dataclasses.replace`, in a twentieth of the time: tables have many thousands of tiles."""
        found = object.__new__(Tile)
        found.__dict__.update(self.__dict__, **changed)
        found.__post_init__()
        return found

    @property
    def rows(self) -> int:
        return len(self.inputs)

    @property
    def columns(self) -> int:
        return len(self.outputs)

    @property
    def factors(self) -> Int64:
        """What each input is multiplied by: 1, or 2 where doubled; [rows]."""
        ones = np.ones(self.rows, np.int64)
        return ones if self.doubled is None else ones + self.doubled

    def cells(self, highest: int) -> Int8:
        """What the cells hold, whose highest level this is, [rows, columns]."""
        if self.flipped is None:
            return self.levels
        return np.where(self.flipped, highest - self.levels, self.levels).astype(np.int8)

    @property
    def values(self) -> Int64:
        """What the levels stand for: 0 at crossings that hold nothing; without the shift, [rows, columns]."""
        return self.levels.astype(np.int64) - self.zero


# Columns of the table.
(ARRAY, ROW, COLUMN, ROWS, COLUMNS, INPUTS, OUTPUTS, LEVELS, BLOCK, SLICE, SHIFT, ZERO, DOUBLED, FLIPPED,
 ADC_BITS, IMAGE, BUNDLE) = range(17)  # fmt: skip
FIELDS = 17


@dataclass(frozen=True, eq=False)
class Tiles:
    """Tiles in order, as arrays.

    `table` is int64 [count, FIELDS]; INPUTS, OUTPUTS, DOUBLED and FLIPPED say where a tile's lists start in
    `index` (DOUBLED, FLIPPED: -1 for none), LEVELS where its levels start in `cells`. Equal lists are stored
    once.
    """

    table: Int64
    index: Int32
    cells: Int8

    @staticmethod
    def of(tiles: Iterable[Tile]) -> Tiles:
        pool: list[Int32] = []
        known: dict[bytes, int] = {}
        cells: list[Int8] = []
        records: list[tuple[int, ...]] = []
        total = level = 0

        def place(values: NDArray[np.generic]) -> int:
            nonlocal total
            listed = values.astype(np.int32, copy=False)
            if (key := listed.tobytes()) not in known:
                known[key] = total
                pool.append(listed)
                total += len(listed)
            return known[key]

        for t in tiles:
            doubled, flipped = (
                place(flags) if flags is not None and flags.any() else -1 for flags in (t.doubled, t.flipped)
            )
            records.append(
                (
                    t.array, t.row, t.column, t.rows, t.columns, place(t.inputs), place(t.outputs), level,
                    t.block, t.slice, t.shift, t.zero, doubled, flipped, t.adc_bits, t.image, t.bundle,
                )
            )  # fmt: skip
            cells.append(np.ascontiguousarray(t.levels, np.int8).reshape(-1))
            level += t.levels.size
        return Tiles(
            np.array(records, np.int64).reshape(-1, FIELDS),
            np.concatenate(pool) if pool else np.zeros(0, np.int32),
            np.concatenate(cells) if cells else np.zeros(0, np.int8),
        )

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, i: int) -> Tile:
        r = [int(v) for v in self.table[i]]
        rows, columns = r[ROWS], r[COLUMNS]
        doubled, flipped = (
            None if r[at] < 0 else self.index[r[at] : r[at] + size] != 0
            for at, size in ((DOUBLED, rows), (FLIPPED, columns))
        )
        return Tile(
            inputs=self.index[r[INPUTS] : r[INPUTS] + rows],
            outputs=self.index[r[OUTPUTS] : r[OUTPUTS] + columns],
            levels=self.cells[r[LEVELS] : r[LEVELS] + rows * columns].reshape(rows, columns),
            block=r[BLOCK],
            slice=r[SLICE],
            shift=r[SHIFT],
            zero=r[ZERO],
            doubled=doubled,
            flipped=flipped,
            adc_bits=r[ADC_BITS],
            array=r[ARRAY],
            row=r[ROW],
            column=r[COLUMN],
            image=r[IMAGE],
            bundle=r[BUNDLE],
        )

    def __iter__(self) -> Iterator[Tile]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tiles) and all(
            np.array_equal(a, b)
            for a, b in ((self.table, other.table), (self.index, other.index), (self.cells, other.cells))
        )

    def __hash__(self) -> int:
        return hash((self.table.tobytes(), self.index.tobytes(), self.cells.tobytes()))

    @property
    def is_sliced(self) -> bool:
        return bool((self.table[:, SLICE] >= 0).all())

    @property
    def is_placed(self) -> bool:
        return bool((self.table[:, ARRAY] >= 0).all())

    @property
    def arrays(self) -> int:
        """Physical arrays used; before placement, one for each tile or bundle with cells of its own."""
        own = self.table[(self.table[:, IMAGE] < 0) & self.leads]
        return len(np.unique(own[:, ARRAY])) if self.is_placed else len(own)

    @property
    def leads(self) -> Bool:
        """Which tiles are the first of a bundle, or alone; [count]."""
        number = self.table[:, BUNDLE]
        found = np.ones(len(number), bool)
        found[1:] = (number[1:] < 0) | (number[1:] != number[:-1])
        return found


def dense_of(tiles: Tiles, shape: tuple[int, int]) -> Int64:
    """The matrix [m, k] that the tiles compute with."""
    w = np.zeros(shape, np.int64)
    for t in tiles:
        part = (t.values * t.factors[:, None]) << t.shift
        np.add.at(w, (t.outputs[:, None], t.inputs[None, :]), part.T)
    return w


def product(tiles: Tiles, x: NDArray[np.integer], m: int) -> Int64:
    """Y [m, n] of X [k, n], tile by tile."""
    y = np.zeros((m, x.shape[1]), np.int64)
    wide = x.astype(np.int64)
    for t in tiles:
        # Exact in f64: |sum| < 128 rows * 2 * 127 * 128 by far.
        inputs = (wide[t.inputs] * t.factors[:, None]).astype(np.float64)
        sums = (t.values.T.astype(np.float64) @ inputs).astype(np.int64)
        np.add.at(y, t.outputs, sums << t.shift)
    return y
