"""Speed of the simulator of crossbars on one core, as JSON.

Run: python bench/crossbar_sim.py [--cc COMPILER] [--repeats N] [--seconds S]
"""

from __future__ import annotations

import sys

from simulator import Benchmark

# What is measured, and the goal in thousands of XB.MVM of 128 x 128 per second, where there is one.
CASES: dict[str, tuple[str, float | None]] = {
    "exact": ("32 vectors at once, no sum can be clipped", 200.0),
    "exact_one_vector": ("one vector at once, no sum can be clipped", 200.0),
    "bit_serial": ("32 vectors at once, bit by bit", 9.0),
    "bit_serial_one_vector": ("one vector at once, bit by bit", 9.0),
    "bit_serial_clipped": ("32 vectors at once, an ADC that clips", 9.0),
    "noise": ("32 vectors at once, with noise of reading", None),
    "time_only": ("without values", None),
}

UNIT = "thousand XB.MVM of 128 x 128 per second of CPU time: "


if __name__ == "__main__":
    sys.exit(Benchmark("crossbar_sim", "crossbar_bench", UNIT, CASES).main(__doc__))
