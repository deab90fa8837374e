"""What zeros are worth on memristor crossbars: arrays, cycles and energy by pass, as a table and JSON.

Run: python bench/crossbar.py [--target T] [--n N] [--effort E] [--data FOLDER] [--keep ROWS] [--quick]
    [--sme] [FILE ...]

Each matrix is mapped as a whole grid (dense), without the arrays of zeros, with each pass alone and with all
together. Energy and cycles of an inference are those of the cost model, except for the whole compilation and
the dense mapping ("sparse", "dense"), which run on the simulator with every value checked. The goals: never
above the dense mapping on anything; 2 times below on magnitude-pruned DLMC layers of 90 % zeros; 5 times on
Lyra's gru_layer. Where a goal is missed, `floor` says what forbids it.

All presets over all layers take hours of one core: with --keep, each row is written as it is measured, and
what is in the file already is not measured again, so that a run may be stopped, or be several at once.

--sme: arrays of 1-bit cells with slices dropped and squeezed out (SME, ICCD 2021) against the plain mapping
to 2-bit cells. SME's saving in arrays is not that of its two steps alone on these layers: 1-bit cells begin
with 7 slices where 2-bit cells have 4, dropping finds few arrays of a slice empty, and squeeze-out, exact or
lossy, takes one slice away. Only matrices of whole blocks of zeros gain by it; all do with compaction before.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from measure import DATA, machine, versions
from rich.console import Console
from rich.table import Table

import sparsecc
from sparsecc.cover.laws import Pattern
from sparsecc.crossbar.assign import blocks_of, pack
from sparsecc.crossbar.bound import energy_bound
from sparsecc.crossbar.choose import WORTH_PACKING, covers
from sparsecc.crossbar.cost import Cost, bundle_energy, cost, tiles_energy
from sparsecc.crossbar.counting import counting_bound
from sparsecc.crossbar.dense import array_count, dense_blocks, dense_tiles, spread
from sparsecc.crossbar.encode import Encoding
from sparsecc.crossbar.lowering import bundled, exact, fitted, judge
from sparsecc.crossbar.recode import recoded
from sparsecc.crossbar.share import shared
from sparsecc.crossbar.slices import sliced, without_empty
from sparsecc.crossbar.squeeze import squeezed
from sparsecc.crossbar.tiles import Tile, Tiles, dense_of
from sparsecc.crossbar_compiler import CrossbarArtifact
from sparsecc.crossbar_report import CrossbarReport
from sparsecc.operator import operator_of
from sparsecc.passes.xbar_share_blocks import OFTEN
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.load import load_target

PRESETS = ("isaac128", "puma128", "sme128", "ou9x8", "re2pim")
FOLDERS = ("lyra", "alexnet", "lenet")
# Covers estimated further above the best are not mapped in `Mapper.compaction`.
NEAR = 1.1
QUICK = ("tf_mag90_dec1_cross_k", "proj", "lenet300100_ip1")
# How many times less energy than the dense mapping.
GOALS = {"tf_mag90": 2.0, "rn_mag90": 2.0, "gru_layer": 5.0}


def files(folder: Path) -> list[Path]:
    """DLMC layers of 90 % zeros and all layers of the networks with values."""
    found = sorted((folder / "matrices" / "dlmc").glob("*90*"))
    for name in FOLDERS:
        found += sorted((folder / "matrices" / name).iterdir())
    return found


def goal_of(name: str) -> float:
    """How many times less energy than dense is asked for; nothing may take more."""
    return next((goal for start, goal in GOALS.items() if name.startswith(start)), 1.0)


@dataclass(frozen=True)
class Mapper:
    """One matrix on one target: tiles by pass, and their costs."""

    pattern: Pattern
    data: np.ndarray[Any, Any]
    n: int
    target: CrossbarTarget

    @property
    def shape(self) -> tuple[int, int]:
        return self.target.array.rows, self.target.array.cols

    @property
    def encoding(self) -> Encoding:
        return Encoding.of(self.target)

    def grid(self) -> list[Tile]:
        """All slices of the whole grid."""
        return sliced(dense_blocks(self.pattern, self.data, self.n, self.target), self.encoding)

    def bundled(self, tiles: Sequence[Tile]) -> list[Tile]:
        """Slices side by side, as in the dense mapping."""
        return bundled(tiles, self.target, self.shape, judge(self.target, False))

    def cost(self, tiles: Sequence[Tile]) -> Cost:
        """What tiles cost in their places."""
        space = self.pattern.m, self.n, self.pattern.k
        placed = spread(tiles, self.target, self.shape, space)
        return cost(placed, self.target, space, array_count(self.target, self.shape))

    def dense(self) -> Cost:
        return self.cost(dense_tiles(self.pattern, self.data, self.n, self.target, self.shape))

    def without_zero_arrays(self) -> Cost:
        return self.cost(exact(self.bundled([t for t in self.grid() if t.values.any()]), self.target))

    def compaction(self) -> Cost:
        """The best cover, cut and packed, at the target's bits; none where dense is better."""
        found = [self.dense()]
        ways: list[tuple[float, list[Tile]]] = []
        for _, cover in covers(self.pattern, self.n, self.target, 0, 0):
            blocks = blocks_of(cover, self.pattern, self.data, self.shape)
            ways.append((self.about(blocks), blocks))
        most = WORTH_PACKING * min((about for about, _ in ways), default=0.0)
        packed = [
            pack(blocks, self.shape, self.pattern.k, self.pattern.m)
            for about, blocks in ways
            if about <= most
        ]
        ways += [(self.about(blocks), blocks) for blocks in packed]
        least = float("inf")
        for about, chosen in sorted(ways, key=lambda way: way[0]):
            if about > least * NEAR:
                break
            found.append(self.cost(exact(self.bundled(sliced(chosen, self.encoding)), self.target)))
            if found[-1].cycles <= found[0].cycles:
                least = min(least, about)
        return _best(found)

    def about(self, blocks: Sequence[Tile]) -> float:
        """About what whole blocks take, at the target's bits."""
        slices = self.target.slices
        if self.target.array.ou_cols or self.shape[1] < slices * max((b.columns for b in blocks), default=0):
            return slices * sum(bundle_energy([block], self.target) for block in blocks)
        return sum(bundle_energy([block] * slices, self.target) for block in blocks)

    def drop_empty_slices(self) -> Cost:
        return self.cost(exact(self.bundled(without_empty(self.grid())), self.target))

    def squeeze_out(self) -> Cost:
        """Alone it keeps the target's bits, so that is what it is judged by."""

        def better(before: Sequence[Tile], after: Sequence[Tile]) -> bool:
            old, new = (tiles_energy(exact(some, self.target), self.target) for some in (before, after))
            return new < old

        tiles = squeezed(self.grid(), self.encoding, self.shape[0], better).tiles
        return _best([self.dense(), self.cost(exact(self.bundled(tiles), self.target))])

    def share_blocks(self) -> Cost:
        """Equal tiles once, as often as costs no cycles; such tiles are not bundled."""
        tiles = exact(self.grid(), self.target)
        found = [self.dense(), self.cost(tiles)]
        found += [self.cost(shared(tiles, self.target.level_max, times)) for times in OFTEN]
        return min(found, key=lambda c: (c.cycles > found[0].cycles, c.arrays))

    def fit_adc(self) -> Cost:
        return self.cost(fitted(self.bundled(self.grid()), self.target))

    def recode_and_fit(self) -> Cost:
        """Other digits are worth what they save in bits."""
        tiles = recoded(without_empty(self.grid()), self.target, self.shape)
        return self.cost(fitted(self.bundled(tiles), self.target))


def _best(found: Sequence[Cost]) -> Cost:
    """Least energy of those that take no more cycles than the first."""
    return min(found, key=lambda c: (c.cycles > found[0].cycles, c.energy_pj))


ALONE: dict[str, Callable[[Mapper], Cost]] = {
    "dense mapping": Mapper.dense,
    "zero arrays dropped": Mapper.without_zero_arrays,
    "compaction": Mapper.compaction,
    "drop-empty-slices": Mapper.drop_empty_slices,
    "squeeze-out": Mapper.squeeze_out,
    "share-blocks": Mapper.share_blocks,
    "fit-adc": Mapper.fit_adc,
    "recode, fit-adc": Mapper.recode_and_fit,
}


def measured(path: Path, name: str, n: int, effort: int) -> dict[str, Any]:
    """One matrix on one target."""
    artifact = sparsecc.compile(path, target=name, n=n, effort=effort)
    report = artifact.report
    assert isinstance(artifact, CrossbarArtifact)
    assert isinstance(report, CrossbarReport)
    weight = artifact.spmm.weight
    mapper = Mapper(weight.pattern, weight.data, n, artifact.target)
    energy, dense = report.energy_pj, report.dense_energy_pj
    assert energy is not None
    assert dense is not None
    ratio, goal = dense / energy if energy else float("inf"), goal_of(path.name)
    row: dict[str, Any] = {
        "matrix": path.name.partition(".smtx")[0].partition(".mtx")[0].partition(".npz")[0],
        "target": name,
        "shape": list(report.shape),
        "density": round(report.density, 4),
        "alone": {},
        "sparse": {
            "plan": report.plan,
            "arrays": report.arrays,
            "cycles": report.cycles,
            "energy_pj": energy,
            "adc_bits": report.adc_bits,
            "program_energy_pj": report.program_energy_pj,
        },
        "dense": {"arrays": report.arrays_dense, "cycles": report.dense_cycles, "energy_pj": dense},
        "exact": bool(report.exact) and not report.adc_clipped,
        "ratio": ratio,
        "goal": goal,
        "met": ratio >= goal,
    }
    for what, of in ALONE.items():
        found = of(mapper)
        row["alone"][what] = {
            "arrays": found.arrays, "cycles": found.cycles, "energy_pj": found.energy_pj,
        }  # fmt: skip
    if not row["met"]:
        row["floor"] = floor(mapper)
    return row


def once(path: Path, name: str, n: int, effort: int, rows: Path | None) -> dict[str, Any]:
    """As `measured`, or the row of a file that has it; else it is added there."""
    if rows is None:
        return measured(path, name, n, effort)
    what = {"file": path.name, "target": name, "n": n, "effort": effort}
    for line in rows.read_text().splitlines() if rows.exists() else []:
        row: dict[str, Any] = json.loads(line)
        if {key: row[key] for key in what} == what:
            return row
    found = measured(path, name, n, effort) | what
    with rows.open("a") as file:
        file.write(json.dumps(found) + "\n")
    return found


def floor(mapper: Mapper) -> dict[str, Any]:
    """The most any mapping could win, as ratios to the dense mapping.

    proven: of every matrix (`sparsecc.crossbar.bound`); counted: of all but one in 2^64 with these lengths of
    rows and columns and these weights in any places (`sparsecc.crossbar.counting`), none for targets with
    operation units: what is above has structure.
    """
    dense = mapper.dense()
    counted = counting_bound(mapper.pattern, mapper.data, mapper.n, mapper.target)
    return {
        "proven": dense.energy_pj / energy_bound(mapper.pattern, mapper.data, mapper.n, mapper.target),
        "counted": dense.energy_pj / counted if counted else None,
        "free_converters": dense.energy_pj / _without_converters(mapper, dense),
    }


def _without_converters(mapper: Mapper, dense: Cost) -> float:
    """The dense mapping's energy where conversions take none: what no choice of their bits can go below."""
    e = mapper.target.energy
    free = replace(mapper.target, energy=replace(e, adc_pj=0.0, adc_pj_per_bit=0.0))
    return replace(mapper, target=free).dense().energy_pj


def sme(path: Path) -> dict[str, Any]:
    """Arrays of one matrix: plain 2-bit cells, and 1-bit cells with slices dropped and squeezed out."""
    chip = cast(CrossbarTarget, load_target("sme128"))
    operator = operator_of(str(path), 1, chip, None, 0, None)
    weight = operator.weight
    pattern = Pattern(*weight.shape, weight.indptr.astype(np.int64), weight.indices)
    plain = replace(chip, name="plain", array=replace(chip.array, cell_bits=2))
    mapper, wide = (Mapper(pattern, weight.data, 1, t) for t in (chip, plain))
    kept = without_empty(mapper.grid())
    exactly, lossy = (
        squeezed(kept, mapper.encoding, mapper.shape[0], _always, loses) for loses in (False, True)
    )
    found: dict[str, Any] = {
        "matrix": path.name.partition(".smtx")[0].partition(".mtx")[0].partition(".npz")[0],
        "shape": list(weight.shape),
        "density": weight.nnz / (weight.shape[0] * weight.shape[1]),
        "plain_2bit": len(wide.grid()),
        "plain_1bit": len(mapper.grid()),
        "slices_dropped": len(kept),
        "squeezed": len(exactly.tiles),
        "squeezed_lossy": len(lossy.tiles),
        "weights_changed": lossy.lost,
        "lossy_error": _error(lossy.tiles, pattern, weight.data),
    }
    compact: list[list[Tile]] = []
    for _, cover in covers(pattern, 1, chip, 0, 0):
        blocks = blocks_of(cover, pattern, weight.data, mapper.shape)
        packed = pack(blocks, mapper.shape, pattern.k, pattern.m)
        tiles = without_empty(sliced(packed, mapper.encoding))
        compact.append(squeezed(tiles, mapper.encoding, mapper.shape[0], _always).tiles)
    found["compacted"] = min(map(len, compact), default=0)
    found["adc_bits"] = max((t.adc_bits for t in fitted(exactly.tiles, chip)), default=0)
    return found


def _error(tiles: Sequence[Tile], pattern: Pattern, data: np.ndarray[Any, Any]) -> float:
    """Of what the tiles compute with: root of mean squares of what is off, as a share of the matrix's."""
    exactly = np.zeros((pattern.m, pattern.k), np.int64)
    exactly[pattern.row_of(), pattern.indices] = data
    whole = np.linalg.norm(exactly)
    return float(np.linalg.norm(dense_of(Tiles.of(tiles), exactly.shape) - exactly) / whole) if whole else 0.0


def _always(before: Sequence[Tile], after: Sequence[Tile]) -> bool:
    return True


def table(rows: Sequence[dict[str, Any]], what: str, title: str) -> Table:
    """One line for each matrix: a figure of each way to map it."""
    shown = Table(title=title, title_justify="left")
    for name in ("matrix", "zeros", *ALONE, "all, simulated", "ratio"):
        shown.add_column(name, justify="left" if name == "matrix" else "right")
    for row in rows:
        base = row["alone"]["dense mapping"][what]
        figures = [row["alone"][name][what] for name in ALONE]
        cells = [f"{v}" if what == "arrays" else f"{base / v:.2f} x" if v else "-" for v in figures]
        if what != "arrays":
            cells[0] = f"{base:.4g}"
        mine, dense = row["sparse"][what], row["dense"][what]
        cells += [f"{mine:.4g}" if what != "arrays" else f"{mine}", f"{dense / mine:.2f} x" if mine else "-"]
        shown.add_row(row["matrix"], f"{100 * (1 - row['density']):.1f} %", *cells)
    return shown


def sme_table(rows: Sequence[dict[str, Any]]) -> Table:
    shown = Table(title="Arrays of 128 x 128 on sme128 against plain 2-bit cells", title_justify="left")
    names = ("plain_2bit", "plain_1bit", "slices_dropped", "squeezed", "squeezed_lossy", "compacted")
    for name in ("matrix", "zeros", *names, "lossy error", "fewer than plain", "fewer, lossy"):
        shown.add_column(name, justify="left" if name == "matrix" else "right")
    for row in rows:
        best = min(row["squeezed"], row["compacted"])
        ratios = (
            f"{row['plain_2bit'] / count:.2f} x" if count else "-" for count in (best, row["squeezed_lossy"])
        )
        shown.add_row(
            row["matrix"],
            f"{100 * (1 - row['density']):.1f} %",
            *(str(row[name]) for name in names),
            f"{100 * row['lossy_error']:.3g} %",
            *ratios,
        )
    return shown


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Whether the goals are met."""
    return {
        "exact": all(row["exact"] for row in rows),
        "above_dense": [
            f"{row['matrix']} on {row['target']}"
            for row in rows
            if row["sparse"]["energy_pj"] > row["dense"]["energy_pj"]
            or row["sparse"]["cycles"] > row["dense"]["cycles"]
        ],
        "missed": [
            {"matrix": row["matrix"], "target": row["target"], "ratio": row["ratio"], "goal": row["goal"],
             "floor": row["floor"]}
            for row in rows
            if not row["met"]
        ],
    }  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Print the tables (to stderr) and JSON (to stdout); returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="these matrices only")
    parser.add_argument(
        "--target",
        action="append",
        metavar="T",
        help="isaac128 if left out; may be repeated; all: every preset",
    )
    parser.add_argument("--n", type=int, default=16, help="vectors of an inference (default: 16)")
    parser.add_argument("--effort", type=int, default=1, choices=range(4))
    parser.add_argument("--data", type=Path, default=DATA, help="folder of matrices (default: %(default)s)")
    parser.add_argument("--keep", type=Path, metavar="ROWS", help="file of rows, a line of JSON for each")
    parser.add_argument("--quick", action="store_true", help="three small matrices only")
    parser.add_argument("--sme", action="store_true", help="count arrays of sme128 against plain 2-bit cells")
    arguments = parser.parse_args(argv)
    paths = arguments.files or files(arguments.data)
    if arguments.quick:
        paths = [p for p in paths if p.name.startswith(QUICK)]
    if not paths:
        print(f"error: no matrices under {arguments.data}; name their folder with --data", file=sys.stderr)
        return 1
    console = Console(stderr=True, width=200, highlight=False)
    told: dict[str, Any] = {"machine": machine(), "versions": versions()}
    if arguments.sme:
        rows: list[dict[str, Any]] = []
        for i, path in enumerate(paths):
            console.print(f"{i + 1} of {len(paths)}: {path.name}")
            rows.append(sme(path))
        console.print(sme_table(rows))
        print(json.dumps({**told, "rows": rows}, indent=2))
        return 0
    rows = []
    targets: list[str] = arguments.target or ["isaac128"]
    if "all" in targets:
        targets = list(PRESETS)
    for target in targets:
        mine: list[dict[str, Any]] = []
        for i, path in enumerate(paths):
            console.print(f"{target}, {i + 1} of {len(paths)}: {path.name}", end=" ")
            mine.append(once(path, target, arguments.n, arguments.effort, arguments.keep))
            console.print(f"{mine[-1]['ratio']:.2f} x less energy")
        console.print(
            table(mine, "energy_pj", f"{target}: energy per inference, pJ; of the passes, times less")
        )
        console.print(table(mine, "cycles", f"{target}: cycles per inference; of the passes, times fewer"))
        console.print(table(mine, "arrays", f"{target}: arrays"))
        rows += mine
    found = summary(rows)
    for miss in found["missed"]:
        most = miss["floor"]
        rare = f", of nearly no matrix with as long rows and columns above {most['counted'] or 0:.2f} x"
        console.print(
            f"missed: {miss['matrix']} on {miss['target']}: {miss['ratio']:.2f} x of {miss['goal']:g} x; "
            f"no mapping to arrays is above {most['proven']:.2f} x{rare if most['counted'] else ''}; "
            f"the dense mapping with converters that take nothing, {most['free_converters']:.2f} x"
        )
    print(
        json.dumps(
            {**told, "n": arguments.n, "effort": arguments.effort, "rows": rows, "summary": found}, indent=2
        )
    )
    return 0 if found["exact"] and not found["above_dense"] else 3


if __name__ == "__main__":
    sys.exit(main())
