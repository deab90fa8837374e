"""Biclique covers of real pruned weights, as JSON: cells left of the dense ones, time, and a lower bound.

Run: python bench/biclique.py [--effort E] [--max-rows R] [--side S] [--json FILE] [MATRIX ...]

MATRIX is a file that `sparsecc analyze` reads too; without any, the seven layers of DLMC for which a first
greedy trial is known, from ../shared/data.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from sparsecc.cover.biclique import bicliques
from sparsecc.cover.cells import count_cells
from sparsecc.cover.laws import Pattern, fill
from sparsecc.importers import load_matrix

DLMC = Path(__file__).resolve().parents[2] / "shared" / "data" / "matrices" / "dlmc"

# Share of the dense 16 x 16 cells that the trial left.
TRIAL = {
    "tf_mag70_enc0_self_v": 0.763,
    "tf_mag80_enc1_ffn1": 0.560,
    "tf_mag90_enc0_ffn1": 0.340,
    "tf_rand90_enc0_ffn1": 0.349,
    "rn_mag90_g3_3x3": 0.357,
    "tf_mag95_enc2_ffn2": 0.207,
    "tf_mag98_dec2_cross_q": 0.129,
}


def measure(source: str, side: int, effort: int, max_rows: int | None, seed: int) -> dict[str, Any]:
    """Cells and CPU time of one matrix; shares are of the dense cells, both sides rounded up."""
    matrix = load_matrix(source)
    m, k = matrix.csr.shape
    pattern = Pattern(m, k, matrix.csr.indptr.astype(np.int64), matrix.csr.indices)
    unit = (side, 1, side)
    start = time.process_time()
    cover = bicliques(pattern, 1, unit, effort=effort, max_rows=max_rows, seed=seed)
    seconds = time.process_time() - start
    dense = -(-m // side) * -(-k // side)
    cells = count_cells(cover.metaops, unit)
    return {
        "matrix": matrix.name,
        "shape": [m, k],
        "density": pattern.nnz / (m * k),
        "metaops": len(cover.metaops),
        "row_blocks": len(cover.row_blocks),
        "cells": cells,
        "dense_cells": dense,
        "share": cells / dense,
        "bound": -(-pattern.nnz // side**2) / dense,
        "fill": fill(cover.metaops, pattern.nnz),
        "trial": TRIAL.get(matrix.name) if side == 16 and max_rows is None else None,
        "cpu_seconds": seconds,
    }


def table(results: list[dict[str, Any]]) -> Table:
    out = Table(
        Column("matrix", no_wrap=True),
        *(c for c in ("density", "cells", "share", "trial", "less", "bound", "s")),
    )
    for r in results:
        trial = r["trial"]
        less = f"{1 - r['share'] / trial:.1%}" if trial else ""
        numbers = (f"{r['density']:.3f}", str(r["cells"]), f"{r['share']:.4f}", f"{trial or ''}", less)
        out.add_row(r["matrix"], *numbers, f"{r['bound']:.3f}", f"{r['cpu_seconds']:.2f}")
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description="Cells of biclique covers, as JSON.")
    parser.add_argument("matrices", nargs="*", metavar="MATRIX")
    parser.add_argument("--effort", type=int, default=1, choices=range(4))
    parser.add_argument("--side", type=int, default=16, help="rows and columns of the unit")
    parser.add_argument("--max-rows", type=int, help="rows accumulated together; all without it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the JSON here; else to stdout")
    args = parser.parse_args()
    sources = args.matrices or [str(p) for name in TRIAL for p in DLMC.glob(f"{name}.smtx*")]
    if not sources:
        print(f"no matrices in {DLMC}; name some", file=sys.stderr)
        return 2
    results = [measure(s, args.side, args.effort, args.max_rows, args.seed) for s in sources]
    Console(stderr=True, width=100).print(table(results))
    text = json.dumps({"effort": args.effort, "side": args.side, "results": results}, indent=2)
    if args.json:
        args.json.write_text(text + "\n")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
