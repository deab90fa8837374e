"""Scratch panels of kernels, in numbers that are known when a network is compiled: sc_*_scratch of sc.h."""

from __future__ import annotations

from sparsecc.cpu.arrays import CSR_COLUMNS, VECTOR_COLUMNS, VECTOR_ROWS
from sparsecc.cpu.plan import block_width
from sparsecc.cpu.rounds import CHUNK
from sparsecc.cpu.variant import Variant
from sparsecc.target.cpu import CpuTarget

# SC_LANES and SC_DENSE_VECTORS of sc.h, and what line.c and dense.c call GAP, 512 and DEPTH.
LANES = {"avx512": 16, "avx2": 8, "neon": 4}
DENSE_VECTORS = {"avx512": 2, "avx2": 2, "neon": 3}
GAP, DENSE_WIDTH, DENSE_DEPTH = 16, 512, 256
CSR_VECTORS = 4
ROUNDS_SMALL = 4096  # what rounds.c calls SMALL


# What words.c calls SC_WORDS_MOST and PACKED.
WORDS_MOST, WORDS_PACKED = 512, 1 << 17


def words_floats(shape: tuple[int, int], variant: Variant, target: CpuTarget, n: int) -> int:
    """The same of kernels over words. shape: of W, its columns in words."""
    (m, k), lanes = shape, LANES[target.simd.isa]
    if variant.kind == "vector":
        return _lines(-(-k // VECTOR_COLUMNS) * VECTOR_COLUMNS + 1)
    panels = {"csr": CSR_VECTORS * lanes, "dense": DENSE_VECTORS[target.simd.isa] * lanes}
    panel = panels.get(variant.kind, variant.lanes)
    fit = min(WORDS_MOST, WORDS_PACKED // max(k, 1)) // panel * panel
    width = min(fit or panel, -(-n // panel) * panel)
    apart = 1 if variant.kind == "dense" and n == 1 else (-(-width // 16) | 1) * 16
    return _lines((k + 1) * apart) + (m * width + lanes if variant.kind == "line" else 0)


def _lines(floats: int) -> int:
    """Whole cache lines."""
    return -(-floats // 16) * 16


def scratch_floats(shape: tuple[int, int], variant: Variant, target: CpuTarget, n: int, ldx: int) -> int:
    """Floats that each thread of a call needs at most. shape: of W; ldx: elements from row to row of X."""
    (m, k), lanes = shape, LANES[target.simd.isa]
    match variant.kind:
        case "line":
            full, rest = divmod(n, variant.lanes)
            step = block_width(k, variant.columns) * variant.lanes + GAP
            packed = min(full, variant.panels) * step if variant.pack else 0
            return max(packed, (k + m) * variant.lanes if rest else 0)
        case "csr" if variant.by_rows:
            return 0
        case "csr":
            full, rest = CSR_VECTORS * lanes, n % (CSR_VECTORS * lanes)
            last = (4 if rest > 2 * lanes else 2 if rest > lanes else 1) * lanes
            return CSR_COLUMNS * full + (m * last if k > CSR_COLUMNS and rest not in (0, last) else 0)
        case "dense":
            panel = DENSE_VECTORS[target.simd.isa] * lanes
            return min(DENSE_WIDTH // panel, -(-n // panel)) * panel * min(DENSE_DEPTH, k)
        case "vector":
            padded = -(-k // VECTOR_COLUMNS) * VECTOR_COLUMNS
            if variant.rounds:
                sums = (-(-m // VECTOR_ROWS) if k > CHUNK else 1) * VECTOR_ROWS + m
                return (padded if ldx != 1 else 0) + (sums if sums > ROUNDS_SMALL else 0)
            return padded if ldx != 1 or padded != k else 0
