"""What makes devices differ from their levels: faults, the error of writing, the noise of reading.

Random numbers are a function of the seed, of what they are for and of the place, so they do not depend on the
order in which anything runs. They are those of the simulator (runtime/axsim/crossbar_values.c).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
_FOR_FAULT, _FOR_PROGRAM, _FOR_READ = 1, 2, 3


def _words(values: Any) -> Words:
    return np.asarray(values, np.int64).astype(np.uint64)


def _mix(x: Words) -> Words:
    """The finalizer of splitmix64."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return x ^ x >> np.uint64(31)


def _hash(seed: int, purpose: int, array: int, row: Any, col: Any, number: Any, part: int) -> Words:
    high = np.uint64(32)
    h = _mix(np.atleast_1d(np.uint64(seed) ^ np.uint64(purpose) << np.uint64(56)))
    h = _mix(h ^ _words(array) << high ^ _words(row))
    h = _mix(h ^ _words(col) << high ^ _words(part))
    return _mix(h ^ _words(number))


def uniform(h: Words) -> NDArray[np.float64]:
    """Numbers above 0, at most 1."""
    return ((h >> np.uint64(11)).astype(np.float64) + 1) * 2.0**-53


def normal(h: Words) -> NDArray[np.float64]:
    """Normal numbers, after Box and Muller."""
    return np.sqrt(-2 * np.log(uniform(h))) * np.cos(6.283185307179586 * uniform(_mix(h)))


@dataclass(frozen=True)
class Noise:
    """As ax_noise: relative errors, and the shares of devices that stay at the lowest and highest level."""

    seed: int = 0
    program_sigma: float = 0.0
    lognormal: bool = False
    read_sigma: float = 0.0
    stuck_low: float = 0.0
    stuck_high: float = 0.0

    def with_faults(
        self, levels: NDArray[np.int64], most: int, array: int, rows: Any, cols: Any, device: int
    ) -> NDArray[np.int64]:
        """Levels of devices, rows x cols, of which some are stuck."""
        u = uniform(_hash(self.seed, _FOR_FAULT, array, rows[:, None], cols[None, :], 0, device))
        low, both = u <= self.stuck_low, u <= self.stuck_low + self.stuck_high
        return np.where(low, 0, np.where(both, most, levels))

    def programmed(
        self, levels: NDArray[np.int64], writes: Any, array: int, rows: Any, cols: Any, device: int
    ) -> NDArray[np.float64]:
        """Where writing has left devices, rows x cols; `writes` counts the writes of each."""
        if self.program_sigma == 0:
            return levels.astype(np.float64)
        h = _hash(self.seed, _FOR_PROGRAM, array, rows[:, None], cols[None, :], writes, device)
        error = self.program_sigma * normal(h)
        factor = np.exp(error) if self.lognormal else 1 + error
        return (levels * factor).astype(np.float32).astype(np.float64)

    def read(
        self, spread: NDArray[np.float64], array: int, row: int, cols: Any, vectors: Any, part: int
    ) -> NDArray[np.float64]:
        """What reading adds to sums, cols x vectors, whose parts have this root of squares."""
        h = _hash(self.seed, _FOR_READ, array, row, cols[:, None], vectors[None, :], part)
        return self.read_sigma * spread * normal(h)


NO_NOISE = Noise()
