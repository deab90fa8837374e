"""Time and memory from a matrix to C, as JSON. Status 1 when a goal is missed.

Run: python bench/compile.py [--quick] [--repeats N] [--cc COMPILER] [--data FOLDER]

Times are processor seconds. "From a matrix to C" is `sparsecc compile` as a whole process, without the run on
the simulator that confirms a sparse plan (no C compiler is offered to it), unless it says otherwise.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast

from measure import DATA, ROOT, Usage, figure, machine, output_of, run, versions

LAYER = Path("matrices") / "dlmc" / "tf_mag90_enc0_ffn1.smtx.gz"
DIGITS = ROOT / "examples" / "digits" / "digits_blocks.safetensors"
CLI = [sys.executable, "-m", "sparsecc.driver.cli"]
# A command that does not exist: then nothing can be confirmed by a run, and only compiling is measured.
NO_COMPILER = {"CC": "no-compiler-offered"}

TARGET, POSITIONS = "gemmini16", 64
DENSITY = 0.1
# Sides of the square matrices over which the time per nonzero must not grow.
SIDES = (512, 1024, 2048, 4096, 8192)
QUICK_SIDES = (512, 1024, 2048)
# Every other cell of this plane holds one nonzero, so no two meta-ops can be fused: 2^20 of them.
MILLION = (16384, 32768)
QUICK_MILLION = (4096, 8192)
UNIT = 16
PRINTED = 100_000

Results = dict[str, dict[str, Any]]


# Parts that need numpy or sparsecc run in a process of their own, by name; each prints one JSON object.


def _seeded(rows: int, columns: int, density: float) -> Any:
    """A seeded scipy matrix of normal values, each place nonzero with this probability."""
    import numpy as np
    import scipy.sparse  # pyright: ignore[reportMissingTypeStubs]

    rng = np.random.default_rng(rows * columns)
    found = [
        np.flatnonzero(rng.random((1, columns), np.float32) < density) + row * columns for row in range(rows)
    ]
    place = np.concatenate(found)
    values = rng.standard_normal(len(place)).astype(np.float32)
    return scipy.sparse.csr_array((values, (place // columns, place % columns)), shape=(rows, columns))


def _checkerboard(rows: int, columns: int) -> Any:
    """A seeded scipy matrix with one nonzero in every other unit cell."""
    import numpy as np
    import scipy.sparse  # pyright: ignore[reportMissingTypeStubs]

    rng = np.random.default_rng(rows * columns)
    cell_rows, cell_columns = np.arange(rows // UNIT), np.arange(columns // UNIT)
    cells = np.argwhere(np.add.outer(cell_rows, cell_columns) % 2 == 0) * UNIT
    place = cells + rng.integers(0, UNIT, cells.shape)
    values = rng.standard_normal(len(place)).astype(np.float32)
    return scipy.sparse.csr_array((values, (place[:, 0], place[:, 1])), shape=(rows, columns))


def _part_generate(kind: str, rows: str, columns: str, path: str) -> dict[str, Any]:
    """Write a seeded matrix as scipy's .npz."""
    import scipy.sparse  # pyright: ignore[reportMissingTypeStubs]

    save = cast(Any, scipy.sparse).save_npz
    matrix = (
        _checkerboard(int(rows), int(columns))
        if kind == "checkerboard"
        else _seeded(int(rows), int(columns), DENSITY)
    )
    save(path, matrix, compressed=False)
    return {}


def _part_warm(path: str, repeats: str) -> dict[str, Any]:
    """Seconds from a file to a C folder in a process that did it before."""
    import sparsecc

    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(int(repeats) + 1):
            start = time.process_time()
            sparsecc.compile(path, target=TARGET, n=POSITIONS, confirm=False).save(Path(folder) / "out")
            seconds.append(time.process_time() - start)
    return {"seconds": seconds[1:]}


def _part_sizes(repeats: str, *sides: str) -> dict[str, Any]:
    """Seconds from a matrix in memory to a C folder, and nonzeros, for square matrices of these sides."""
    import sparsecc

    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        sparsecc.compile(_seeded(256, 256, DENSITY), target=TARGET, n=POSITIONS, confirm=False)
        for side in map(int, sides):
            matrix = _seeded(side, side, DENSITY)
            seconds: list[float] = []
            # Large matrices take long enough to be measured once or twice.
            for _ in range(max(1, min(int(repeats), 8192 // side))):
                start = time.process_time()
                sparsecc.compile(matrix, target=TARGET, n=POSITIONS, confirm=False).save(Path(folder) / "out")
                seconds.append(time.process_time() - start)
            found.append({"side": side, "nonzeros": int(matrix.nnz), "seconds": seconds})
    return {"sizes": found}


def _part_text(repeats: str) -> dict[str, Any]:
    """Seconds to print, and to parse and verify, an operator of many meta-ops."""
    import numpy as np
    from xdsl.context import Context
    from xdsl.dialects.builtin import Builtin, ModuleOp, TensorType, i8, i32
    from xdsl.dialects.test import Test, TestOp
    from xdsl.parser import Parser

    from sparsecc.cover.metaops import MetaOps
    from sparsecc.dialects.sparse import GroupOp, Sparse, SpmmOp, UnitAttr, WeightAttr

    table = np.zeros((PRINTED, 8), np.int32)
    table[:, 0], table[:, [1, 3, 5]], table[:, [6, 7]] = np.arange(PRINTED), 1, -1
    weight = WeightAttr.of(
        (PRINTED, 1), np.arange(PRINTED + 1), np.zeros(PRINTED, np.int32), np.ones(PRINTED, np.int8), i8
    )
    context = Context()
    for dialect in (Builtin, Sparse, Test):
        context.load_dialect(dialect)
    printed: list[float] = []
    parsed: list[float] = []
    for _ in range(int(repeats)):
        x = TestOp(result_types=[TensorType(i8, [1, 1])])
        group = GroupOp(MetaOps(table.copy(), np.zeros(0, np.int32)))
        op = SpmmOp(x.res[0], weight, UnitAttr(1, 1, 1), TensorType(i32, [PRINTED, 1]), [group])
        module = ModuleOp([x, op])
        start = time.process_time()
        text = str(module)
        middle = time.process_time()
        Parser(context, text).parse_module().verify()
        printed.append(middle - start)
        parsed.append(time.process_time() - middle)
    return {"print": printed, "parse": parsed}


PARTS = {
    "generate": _part_generate,
    "warm": _part_warm,
    "sizes": _part_sizes,
    "text": _part_text,
}


def part(name: str, *arguments: object) -> dict[str, Any]:
    """Run a part in a process of its own."""
    return json.loads(run([sys.executable, __file__, "--part", name, *map(str, arguments)]).output)


# Cases.


def compiled(path: Path | str, folder: Path, *options: str, confirm: bool = False) -> Usage:
    """`sparsecc compile` as a whole process."""
    command = [*CLI, "compile", str(path), "--target", TARGET, "--n", str(POSITIONS), "-o", str(folder), "-q"]
    return run([*command, *options], None if confirm else NO_COMPILER)


def layer(path: Path, name: str, what: str, repeats: int, folder: Path) -> Results:
    """A 2048 x 512 layer at 90 % zeros."""
    alone = [compiled(path, folder / "layer").cpu_s for _ in range(repeats)]
    confirmed = [compiled(path, folder / "layer", confirm=True).cpu_s for _ in range(repeats)]
    warm: list[float] = part("warm", path, repeats)["seconds"]
    return {
        f"{name}_process": figure(f"{what}, to C: whole process", "cpu s", alone, 1.5),
        f"{name}_warm": figure(f"{what}, to C: in a warm process", "cpu s", warm, 1.5),
        f"{name}_confirmed": figure(
            f"{what}, to C: whole process, with building and timing the sparse and the dense plan",
            "cpu s",
            confirmed,
            1.5,
        ),
    }


def large(side: int, repeats: int, folder: Path, full: bool) -> Results:
    """A square matrix at 90 % zeros: time and memory of the whole process."""
    path = folder / "large.npz"
    part("generate", "random", side, side, path)
    runs = [compiled(path, folder / "large") for _ in range(repeats)]
    what = f"random {side} x {side}, {1 - DENSITY:.0%} zeros, to C: whole process"
    return {
        "large_time": figure(what, "cpu s", [r.cpu_s for r in runs], 8.0 if full else None),
        "large_memory": figure(
            what, "GB, peak resident", [r.peak_bytes / 1e9 for r in runs], 1.0 if full else None
        ),
    }


def million(shape: tuple[int, int], cc: str, repeats: int, folder: Path, full: bool) -> Results:
    """As many meta-ops as cells: our own time and memory, and the C compiler's."""
    path, out = folder / "million.npz", folder / "million"
    part("generate", "checkerboard", *shape, path)
    own = [compiled(path, out, "--plan", "none") for _ in range(min(repeats, 2))]
    count = json.loads((out / "report.json").read_text())["meta_ops"]
    sources = ["model.c", "data.c", "main.c"]
    command = [cc, "-std=gnu11", "-O2", "-I.", "-Iaxsim", "-c", *sources]
    c = [run(command, folder=out).cpu_s for _ in range(repeats)]
    what = f"{count} meta-ops (one nonzero in every other cell of {shape[0]} x {shape[1]}, aligned plan)"
    return {
        "million_c": figure(f"{what}: cc -O2 -c of {', '.join(sources)}", "cpu s", c, 10.0 if full else None),
        "million_time": figure(f"{what}, to C: whole process", "cpu s", [r.cpu_s for r in own]),
        "million_memory": figure(
            f"{what}, to C: whole process", "GB, peak resident", [r.peak_bytes / 1e9 for r in own]
        ),
        "million_text": figure(f"{what}: model.c", "kB", [(out / "model.c").stat().st_size / 1e3]),
    }


def per_nonzero(sides: tuple[int, ...], repeats: int) -> Results:
    """Time per nonzero against size."""
    results: Results = {}
    medians: list[float] = []
    for size in part("sizes", repeats, *sides)["sizes"]:
        each = [1e9 * s / size["nonzeros"] for s in size["seconds"]]
        what = f"random {size['side']} x {size['side']}, {size['nonzeros']} nonzeros, to C in a warm process"
        results[f"nonzero_{size['side']}"] = figure(what, "cpu ns per nonzero", each)
        medians.append(results[f"nonzero_{size['side']}"]["median"])
    results["nonzero_growth"] = figure(
        f"time per nonzero at {sides[-1]} / time per nonzero at {sides[0]}",
        "",
        [medians[-1] / medians[0]],
        1.0,
    )
    results["nonzero_growth_from_least"] = figure(
        f"time per nonzero at {sides[-1]} / least time per nonzero", "", [medians[-1] / min(medians)]
    )
    return results


def commands(repeats: int) -> Results:
    """The command line itself, and the example."""
    started = [run([*CLI, "--help"]).cpu_s for _ in range(repeats)]
    example = [
        run([*CLI, "run", f"{DIGITS}:fc1.weight", "--target", TARGET, "-q"]).cpu_s for _ in range(repeats)
    ]
    return {
        "help": figure("sparsecc --help", "cpu s", started, 0.3),
        "run_digits": figure(
            "sparsecc run digits_blocks.safetensors:fc1.weight, with building and running both plans",
            "cpu s",
            example,
        ),
    }


def text(repeats: int) -> Results:
    """The IR of many meta-ops."""
    found = part("text", repeats)
    return {
        "text_print": figure(f"print {PRINTED} meta-ops", "cpu s", found["print"], 1.0),
        "text_parse": figure(f"parse and verify {PRINTED} meta-ops", "cpu s", found["parse"], 1.0),
    }


def measured(quick: bool, repeats: int, cc: str, data: Path) -> dict[str, Any]:
    """All figures."""
    skipped: dict[str, str] = {}
    results: Results = {}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        results |= commands(repeats)
        results |= text(repeats)
        if (data / LAYER).is_file():
            results |= layer(data / LAYER, "layer", "tf_mag90_enc0_ffn1", repeats, folder)
        else:
            skipped["layer"] = f"{data / LAYER} does not exist; see random_layer"
        path = folder / "layer.npz"
        part("generate", "random", 2048, 512, path)
        results |= layer(path, "random_layer", "random 2048 x 512, 90 % zeros", repeats, folder)
        results |= large(2048 if quick else 4096, repeats, folder, not quick)
        results |= million(QUICK_MILLION if quick else MILLION, cc, repeats, folder, not quick)
        results |= per_nonzero(QUICK_SIDES if quick else SIDES, repeats)
    return {
        "benchmark": "compile",
        "machine": machine(),
        "versions": {**versions(), "cc": output_of(cc, "--version").splitlines()[0]},
        "times": "processor seconds of a process and all it started; the median is held to the goal",
        "quick": quick,
        "skipped": skipped,
        "results": results,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="smaller matrices, without their goals")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each case (5)")
    parser.add_argument("--cc", default="cc", help="the compiler (cc)")
    parser.add_argument(
        "--data", type=Path, default=DATA, help="folder of the real matrices (../shared/data)"
    )
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(PARTS[options.part[0]](*options.part[1:])))
        return 0
    report = measured(options.quick, options.repeats, options.cc, options.data)
    print(json.dumps(report, indent=2))
    return int(any(result["met"] is False for result in report["results"].values()))


if __name__ == "__main__":
    sys.exit(main())
