"""How int8 weights become cell levels: bit slices, and the way back.

- `differential`: sign and magnitude. A weight of 7 magnitude bits is cut to slices of `cell_bits` bits, the
  lowest first; every level has the weight's sign, for a cell is a pair of devices whose currents are
  subtracted. A zero weight is all zero levels.
- `offset`: weight + 128, 8 unsigned bits, cut likewise. The digital side subtracts 128 times the sum of the
  inputs (ISAAC, ISCA 2016). A zero weight is level 128: sparsity leaves no cell empty.

Both are exact: `weights_of(levels_of(w)) == w` for every weight in -127..127 (offset: -128..127).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sparsecc.errors import UserError
from sparsecc.target.crossbar import CrossbarTarget

Int8 = NDArray[np.int8]
Int64 = NDArray[np.int64]
EncodingName = Literal["differential", "offset"]
ENCODINGS: tuple[EncodingName, ...] = get_args(EncodingName)


@dataclass(frozen=True)
class Encoding:
    """How weights are held in cells of `cell_bits` bits."""

    name: EncodingName
    cell_bits: int
    bits: int = 8
    """Of a weight, its sign among them."""

    def __post_init__(self) -> None:
        if self.name not in ENCODINGS:
            raise UserError(f"unknown encoding {self.name!r}; it is one of {', '.join(ENCODINGS)}")
        if not 1 <= self.cell_bits <= 7:
            raise UserError(f"a cell of {self.cell_bits} bits; needed: 1 to 7, so that a level fits int8")

    @staticmethod
    def of(target: CrossbarTarget) -> Encoding:
        """How the cells of a target hold weights."""
        return Encoding(target.array.encoding, target.array.cell_bits, target.numbers.weight_bits)

    @property
    def is_signed(self) -> bool:
        """Whether levels have a sign."""
        return self.name == "differential"

    @property
    def weight_bits(self) -> int:
        """Bits that are cut to slices."""
        return self.bits - 1 if self.is_signed else self.bits

    @property
    def offset(self) -> int:
        """What is added to weights before they are cut."""
        return 0 if self.is_signed else 1 << (self.bits - 1)

    @property
    def slices(self) -> int:
        """Slices of a weight: ceil(weight_bits / cell_bits)."""
        return -(-self.weight_bits // self.cell_bits)

    @property
    def shifts(self) -> tuple[int, ...]:
        """The binary weight of each slice's levels, the lowest slice first."""
        return tuple(s * self.cell_bits for s in range(self.slices))

    @property
    def zeros(self) -> tuple[int, ...]:
        """The level of each slice that stands for nothing in `tiles.Tile`: 128 is all in the top slice."""
        if self.is_signed:
            return (0,) * self.slices
        return (*(0,) * (self.slices - 1), self.offset >> self.shifts[-1])

    @property
    def largest_level(self) -> int:
        return (1 << self.cell_bits) - 1


def levels_of(weights: Int8, encoding: Encoding) -> Int8:
    """The levels of each slice, [slices, *weights.shape], the lowest slice first.

    Raises UserError for weights that the encoding's bits do not hold.
    """
    low, high = -encoding.offset, (1 << (encoding.bits - 1)) - 1
    low = low or -high
    outside = (weights < low) | (weights > high)
    if outside.any():
        raise UserError(
            f"a weight is {int(weights[outside][0])}; {encoding.bits} bits in the {encoding.name} encoding "
            f"hold {low}..{high}: quantise the matrix to that range"
        )
    wide = weights.astype(np.int16)
    bits, sign = (
        (np.abs(wide), np.sign(wide)) if encoding.is_signed else (wide + encoding.offset, np.int16(1))
    )
    mask = encoding.largest_level
    return np.stack([((bits >> shift) & mask) * sign for shift in encoding.shifts]).astype(np.int8)


def weights_of(levels: Int8, encoding: Encoding) -> Int64:
    """The weights of these levels, [slices, *shape] -> [*shape]."""
    places = np.array(encoding.shifts).reshape(-1, *([1] * (levels.ndim - 1)))
    return (levels.astype(np.int64) << places).sum(axis=0) - encoding.offset
