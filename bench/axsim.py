"""Speed of the simulator of the tensor family on one core, as JSON.

Run: python bench/axsim.py [--cc COMPILER] [--repeats N] [--seconds S]
"""

from __future__ import annotations

import sys

from simulator import Benchmark

# What is measured: unit, and the goal in millions of it per second, where there is one.
CASES: dict[str, tuple[str, float | None]] = {
    "time_only_instructions": ("TU.PRE and TU.MM without values", 30.0),
    "time_only_instructions_with_moves": ("LD, TU.PRE, TU.MM and ST without values", None),
    "i8_tiles": ("16x16x16 int8 tiles: TU.PRE and TU.MM", 3.0),
    "i8_tiles_with_moves": ("16x16x16 int8 tiles: two LD, TU.PRE, TU.MM and ST", None),
    "f16_tiles": ("16x16x16 f16 tiles: TU.PRE and TU.MM", None),
    "f32_tiles": ("16x16x16 f32 tiles: TU.PRE and TU.MM", None),
}

if __name__ == "__main__":
    sys.exit(Benchmark("axsim", "axsim_bench", "million per second of ", CASES).main(__doc__))
