"""Pictures of an operator on crossbars: which arrays are how full, the cells of one, ADC bits, and energy."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.crossbar.dense import dense_arrays
from sparsecc.crossbar.tiles import Tile
from sparsecc.pictures import COLOURS, NOT_COMPUTED, OUTLINE

if TYPE_CHECKING:
    from sparsecc.crossbar_compiler import CrossbarArtifact

# Parts of the energy of an inference as the simulator names them, what they are, and their colours.
PARTS = {
    "adc": ("converters", COLOURS[0]),
    "dac": ("drivers", COLOURS[1]),
    "array": ("arrays", COLOURS[2]),
    "acc": ("sums", COLOURS[3]),
    "spad": ("inputs", COLOURS[4]),
    "dram": ("transfers", COLOURS[5]),
    "shift_add": ("shift and add", "#F0E442"),
    "write": ("writing anew", "#000000"),
    "other": ("other", "#999999"),
}
# The share of the whole below which a part has no figure of its own in its bar.
LEGIBLE = 0.06
MOST_OUTLINED = 200

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CrossbarPicture:
    """The figures that are drawn."""

    fills: Floats
    """Share of the cells of each array that hold a level, [arrays]."""
    dense: int
    """Arrays of the dense mapping."""
    shown: int
    """The array whose cells are shown: the fullest, by number."""
    cells: NDArray[np.int64]
    """Its levels, 0 where a cell stands for nothing, [rows, columns]."""
    boxes: Sequence[tuple[int, int, int, int]]
    """Its tiles: first row and column, rows and columns."""
    highest: int
    """The highest magnitude that a cell of the target stands for."""
    bits: Mapping[int, int]
    """Conversions of an inference by their bits."""
    dense_bits: Mapping[int, int]
    energy: Mapping[str, float]
    """Picojoules of an inference by part."""
    dense_energy: Mapping[str, float]

    @staticmethod
    def of(artifact: CrossbarArtifact) -> CrossbarPicture:
        """The figures of an operator and of its dense mapping, both run for their time."""
        placed = artifact.placed
        own = [t for t in placed.tiles if t.image < 0]
        arrays = max((t.array for t in own), default=-1) + 1
        held = np.zeros(arrays, np.int64)
        for t in own:
            held[t.array] += np.count_nonzero(t.values)
        pool = artifact.pool
        fills = held / np.array([pool.cells_of([array]) for array in range(arrays)])
        shown = int(held.argmax()) if arrays else -1
        cells, boxes = _cells([t for t in own if t.array == shown], pool.shape_of(max(0, shown)))
        mine, other = artifact.timing.report, artifact.dense.timing.report
        target = artifact.target
        return CrossbarPicture(
            fills=fills,
            dense=dense_arrays(target, artifact.operator.shape),
            shown=shown,
            cells=cells,
            boxes=boxes,
            highest=target.level_max,
            bits=_bits(mine),
            dense_bits=_bits(other),
            energy=inference_parts(mine),
            dense_energy=inference_parts(other),
        )


def _cells(
    tiles: Sequence[Tile], shape: tuple[int, int]
) -> tuple[NDArray[np.int64], list[tuple[int, int, int, int]]]:
    """What the cells of an array stand for, and where its tiles lie."""
    cells = np.zeros(shape, np.int64)
    for t in tiles:
        cells[t.row : t.row + t.rows, t.column : t.column + t.columns] = t.values
    return cells, [(t.row, t.column, t.rows, t.columns) for t in tiles]


def _bits(run: Mapping[str, Any]) -> dict[int, int]:
    return {int(bits): int(count) for bits, count in run["crossbar"]["adc_bits"].items() if count}


def inference_parts(run: Mapping[str, Any]) -> dict[str, float]:
    """The energy of an inference by part. Programming before it writes and moves bytes, no more."""
    parts = {name: float(pj) for name, pj in run["energy_pj"].items() if name != "total"}
    once = float(run["crossbar"]["program"]["energy_pj"])
    # Cells are written either before the inference or, multiplexed, by it.
    written_before = min(parts["write"], once)
    parts["write"] -= written_before
    parts["dram"] -= once - written_before
    found = {name: parts.pop(name, 0.0) for name in PARTS if name != "other"}
    return found | {"other": sum(parts.values())}


def draw(picture: CrossbarPicture, title: str, reason: str) -> Any:
    """The figure: arrays, cells of the fullest, conversions by bits, and energy by part."""
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(13, 9), layout="constrained")
    axes: Any = figure.subplot_mosaic([["arrays", "cells"], ["bits", "energy"]], height_ratios=[1.5, 1])
    lines = textwrap.wrap(f"Why this plan: {reason}" if reason else "", int(11 * figure.get_figwidth()))
    figure.suptitle("\n".join([title, *lines]), fontsize=11, x=0.01, ha="left")
    _draw_arrays(figure, axes["arrays"], picture)
    _draw_cells(figure, axes["cells"], picture)
    _draw_bits(axes["bits"], picture)
    _draw_energy(axes["energy"], picture)
    return figure


def _title(axes: Any, what: str, remark: str) -> None:
    axes.set_title(f"{what}\n{remark}", fontsize=9.5, loc="left")


def _draw_arrays(figure: Any, axes: Any, picture: CrossbarPicture) -> None:
    """Each array a square, row by row in their order; grey where only the dense mapping uses it."""
    used, count = len(picture.fills), max(len(picture.fills), picture.dense, 1)
    across = int(np.ceil(np.sqrt(count)))
    down = -(-count // across)
    image = np.full(across * down, np.nan)
    image[:used] = 100 * picture.fills
    unused = np.full(across * down, np.nan)
    unused[used:count] = 1
    extent = (0, across, down, 0)
    axes.imshow(
        unused.reshape(down, across), extent=extent, cmap=_one_colour("#CCCCCC"), interpolation="nearest"
    )
    most = max(float(image[:used].max(initial=0)), 1e-9)
    shown = axes.imshow(
        image.reshape(down, across), extent=extent, cmap="YlGnBu", vmin=0, vmax=most, interpolation="nearest"
    )
    if count <= 4096:
        for y in range(1, down):
            axes.axhline(y, color="white", linewidth=0.6)
        for x in range(1, across):
            axes.axvline(x, color="white", linewidth=0.6)
    if picture.shown >= 0:
        from matplotlib.patches import Rectangle

        y, x = divmod(picture.shown, across)
        axes.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor=COLOURS[5], linewidth=1.8))
    axes.set_aspect("equal")
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_visible(False)
    bar = figure.colorbar(shown, ax=axes, shrink=0.8)
    bar.set_label("cells that hold a level, %", fontsize=8.5)
    bar.ax.tick_params(labelsize=8)
    mean = 100 * float(picture.fills.mean()) if used else 0.0
    saved = f"; grey: {count - used} more of the dense mapping" if count > used else ""
    _title(
        axes,
        f"Arrays: {used} for {picture.dense} of the dense mapping",
        f"{mean:.1f} % full on average{saved}",
    )


def _draw_cells(figure: Any, axes: Any, picture: CrossbarPicture) -> None:
    rows, columns = picture.cells.shape
    axes.set_facecolor(NOT_COMPUTED)
    if picture.shown < 0:
        _title(axes, "No array is used", "W is all zero")
        axes.set(xticks=[], yticks=[])
        return
    shown = axes.imshow(
        np.ma.masked_equal(picture.cells, 0), extent=(0, columns, rows, 0), cmap="RdBu_r", aspect="equal",
        vmin=-picture.highest, vmax=picture.highest, interpolation="nearest",
    )  # fmt: skip
    if len(picture.boxes) <= MOST_OUTLINED:
        from matplotlib.patches import Rectangle

        for row, column, height, width in picture.boxes:
            box = Rectangle(
                (column, row), width, height, fill=False, edgecolor=OUTLINE, linewidth=0.9, clip_on=False
            )
            axes.add_patch(box)
    bar = figure.colorbar(shown, ax=axes, shrink=0.8)
    bar.set_label("what a cell stands for, in levels", fontsize=8.5)
    bar.set_ticks(range(-picture.highest, picture.highest + 1))
    bar.ax.tick_params(labelsize=8)
    axes.set(xlabel="bit line", ylabel="word line")
    axes.tick_params(labelsize=8)
    count = f"{len(picture.boxes)} tile{'s' * (len(picture.boxes) != 1)}"
    _title(
        axes,
        f"Cells of array {picture.shown}, the fullest",
        f"{count}, {100 * picture.fills[picture.shown]:.1f} % of {rows} x {columns} cells hold a level",
    )


def _draw_bits(axes: Any, picture: CrossbarPicture) -> None:
    """Conversions of an inference by bits, of the dense mapping and as fitted."""
    known = [*picture.bits, *picture.dense_bits]
    bits = np.arange(min(known, default=1), max(known, default=1) + 1)
    highest = 0
    for offset, (name, of, colour) in enumerate(
        [("dense mapping", picture.dense_bits, COLOURS[5]), ("this plan", picture.bits, COLOURS[0])]
    ):
        heights = [of.get(int(b), 0) for b in bits]
        total, highest = sum(heights), max(highest, *heights)
        mean = sum(b * c for b, c in of.items()) / total if total else 0.0
        bars = axes.bar(
            bits + (offset - 0.5) * 0.4,
            heights,
            0.38,
            color=colour,
            label=f"{name}: {total:,}, {mean:.2f} bits each",
        )
        labels = [_percent(h, total) if h else "" for h in heights]
        axes.bar_label(bars, labels, fontsize=8, padding=1)
    axes.set(xlabel="bits of a conversion", ylabel="conversions of an inference", xticks=bits)
    axes.set_ylim(0, 1.35 * max(highest, 1))  # room for the legend
    axes.set_xlim(bits[0] - 0.8, bits[-1] + 0.8)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.tick_params(labelsize=8)
    axes.legend(frameon=False, fontsize=8.5, loc="upper left")
    _title(
        axes, "ADC bits", "before: all bits of the target's converters; fitted: the fewest that cannot clip"
    )
    _plain(axes)


def _draw_energy(axes: Any, picture: CrossbarPicture) -> None:
    """One bar each for the dense mapping and the plan, their parts stacked."""
    bars = [("dense\nmapping", picture.dense_energy), ("this\nplan", picture.energy)]
    longest = max((sum(parts.values()) for _, parts in bars), default=0.0) or 1.0
    for y, (_, parts) in enumerate(bars):
        left = 0.0
        for name, (_, colour) in PARTS.items():
            width = parts[name]
            axes.barh(
                y, width / 1000, left=left / 1000, color=colour, height=0.6, edgecolor="white", linewidth=0.5
            )
            if width > LEGIBLE * longest:
                pale = name == "shift_add"
                axes.text(
                    (left + width / 2) / 1000, y, f"{100 * width / sum(parts.values()):.0f} %", ha="center",
                    va="center", fontsize=8, color="black" if pale else "white",
                )  # fmt: skip
            left += width
        axes.text(left / 1000 + 0.01 * longest / 1000, y, f"{left / 1000:,.4g} nJ", va="center", fontsize=8.5)
    axes.set(yticks=[0, 1], yticklabels=[name for name, _ in bars], xlabel="nJ of an inference")
    axes.set_xlim(0, 1.18 * longest / 1000)
    axes.set_ylim(2.25, -0.5)  # room for the legend below
    axes.tick_params(labelsize=8)
    from matplotlib.patches import Patch

    drawn = [n for n in PARTS if any(parts[n] > 0.001 * longest for _, parts in bars)]
    handles: list[Any] = [Patch(color=PARTS[name][1], label=PARTS[name][0]) for name in drawn]
    axes.legend(handles=handles, frameon=False, fontsize=8.5, loc="lower left", ncols=4)
    mine, dense = (sum(parts.values()) for parts in (picture.energy, picture.dense_energy))
    ratio = f"{dense / mine:.2f} times less than the dense mapping" if mine else "none is left"
    _title(axes, "Energy of an inference", ratio)
    _plain(axes)


def _percent(part: float, whole: float) -> str:
    """A share for people; one that would be rounded to nothing is not told as nothing."""
    return "< 1 %" if part < 0.005 * whole else f"{100 * part / whole:.0f} %"


def _plain(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _one_colour(colour: str) -> Any:
    from matplotlib.colors import ListedColormap

    return ListedColormap([colour])
