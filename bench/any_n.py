"""Products for any number of columns beside those compiled for one number, as JSON.

Run: python bench/any_n.py [--target T] [--max-n N] [--effort 0..3] [--step S] [FILE ...]

For every S-th number of columns n up to N: cycles of the one program that takes any n, and of compiling for
that n alone. Goals: never slower than padding to N, and at most 5 % more cycles than compiling for each n
(geometric mean).
"""

from __future__ import annotations

import argparse
import json
import math
import sys

from measure import DATA, machine, versions

LAYERS = (
    "tf_mag90_dec1_cross_k.smtx",
    "tf_l0_95_enc1_ffn1.smtx",
    "tf_mag98_dec2_cross_q.smtx",
    "rn_mag70_g1_3x3.smtx",
)


def mean(ratios: list[float]) -> float:
    """The geometric mean."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def compare(path: str, target: str, most: int, effort: int, step: int) -> dict[str, object]:
    """One matrix."""
    import sparsecc
    from sparsecc.any_n import compile_any_n

    product = compile_any_n(path, target=target, max_n=most, effort=effort)
    report = product.report
    product.check()
    columns = [n for n in range(step, most + 1, step) if n in product.cycles]
    fixed = {n: sparsecc.compile(path, target=target, n=n, effort=effort).timing.cycles for n in columns}
    ratios = [product.cycles[n] / c for n, c in fixed.items()]
    return {
        "matrix": path.rpartition("/")[2],
        "kernels": report.kernels,
        "numbers_checked": len(product.cycles),
        "never_slower_than_padding": all(c <= report.padded_cycles for c in product.cycles.values()),
        "over_padding": round(report.over_padding, 4),
        "over_dense": round(report.over_dense, 4),
        "of_fixed": round(mean(ratios), 4),
        "of_fixed_worst": round(max(ratios), 4),
        "columns_compared": len(ratios),
    }


def main(argv: list[str] | None = None) -> int:
    """Print the comparison; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", metavar="FILE")
    parser.add_argument("--target", default="gemmini16")
    parser.add_argument("--max-n", type=int, default=128)
    parser.add_argument("--effort", type=int, default=0)
    parser.add_argument("--step", type=int, default=9)
    o = parser.parse_args(argv)
    files = o.files or [str(DATA / "matrices" / "dlmc" / name) for name in LAYERS]
    rows = [compare(path, o.target, o.max_n, o.effort, o.step) for path in files]
    ratio = mean([float(str(row["of_fixed"])) for row in rows])
    met = ratio <= 1.05 and all(row["never_slower_than_padding"] for row in rows)
    summary = {"of_fixed": round(ratio, 4), "goal": "<= 1.05 and never slower than padding", "met": met}
    about = {"machine": machine(), "versions": versions(), "target": o.target, "max_n": o.max_n}
    print(json.dumps({**about, "rows": rows, "summary": summary}, indent=2))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
