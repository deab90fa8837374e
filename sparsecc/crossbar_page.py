"""What a report's page shows of an operator on crossbars: arrays, the cells of one, ADC bits, and energy."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.crossbar_pictures import PARTS, CrossbarPicture
from sparsecc.html_report import TIMES, Bar, bar

if TYPE_CHECKING:
    from sparsecc.crossbar_compiler import CrossbarArtifact

# More squares than this make pages that browsers are slow to open.
MOST_ARRAYS = 4096
SHAPE = 2.5  # width / height of the map
# The colours of the page that parts of the energy have.
ENERGY_COLOURS = {
    "adc": "busy", "dac": "queue", "array": "weights", "acc": "war", "spad": "issue", "dram": "raw",
    "shift_add": "waw", "write": "outline", "other": "drain",
}  # fmt: skip
# What arrays wait for, besides what other engines wait for.
ARRAY_TIMES = {"group": ("waits for its group", "bits-9"), "adc": ("waits for converters", "bits-1"),
               "program": ("waits to be written", "weights")}  # fmt: skip
NEGATIVE, POSITIVE = (33, 102, 172), (178, 24, 43)


@dataclass(frozen=True)
class Square:
    """One array of the map."""

    x: int
    y: int
    opacity: float
    """0 for an array that only the dense mapping uses."""
    title: str
    is_shown: bool


@dataclass(frozen=True)
class CrossbarView:
    """What the page shows."""

    squares: Sequence[Square]
    extents: tuple[int, int]
    """Squares across and down."""
    arrays_text: str
    cells: str | None
    """The cells of the fullest array as a PNG in a data URI."""
    shape: tuple[int, int]
    boxes: Sequence[tuple[int, int, int, int]]
    cells_text: str
    bits: Sequence[Bar]
    bits_names: Mapping[str, tuple[str, str]]
    energy: Sequence[Bar]
    energy_names: Mapping[str, tuple[str, str]]
    parts: Sequence[tuple[str, float, float]]
    """(part, picojoules of this plan, of the dense mapping)."""
    programming: Sequence[Bar]
    engine: Bar
    """What an array did, on average over those used."""
    engine_names: Mapping[str, tuple[str, str]]

    @property
    def has_spared(self) -> bool:
        """Whether the map shows arrays that only the dense mapping needs."""
        return any(square.opacity == 0 for square in self.squares)

    @staticmethod
    def of(artifact: CrossbarArtifact) -> CrossbarView:
        """The figures of an operator and of its dense mapping, both run for their time."""
        picture = CrossbarPicture.of(artifact)
        mine, dense = (one.timing.report["crossbar"] for one in (artifact, artifact.dense))
        squares, extents, text = _squares(picture)
        plans = [(f"{artifact.plan} plan", picture.energy), ("dense mapping", picture.dense_energy)]
        whole = max(sum(parts.values()) for _, parts in plans)
        kinds = {name: (what, ENERGY_COLOURS[name]) for name, (what, _) in PARTS.items()}
        drawn = [name for name in PARTS if any(parts[name] for _, parts in plans)]
        conversions = [(plans[0][0], picture.bits), (plans[1][0], picture.dense_bits)]
        most = max(sum(of.values()) for _, of in conversions)
        written = [(plans[0][0], mine["program"]), (plans[1][0], dense["program"])]
        dearest = max(float(of["energy_pj"]) for _, of in written)
        rows, columns = picture.cells.shape
        return CrossbarView(
            squares=squares,
            extents=extents,
            arrays_text=text,
            cells=_png(picture.cells, picture.highest) if picture.shown >= 0 else None,
            shape=(rows, columns),
            boxes=picture.boxes,
            cells_text=_cells_text(picture),
            bits=[
                bar(name, [(f"{b} bits", f"bits-{b}", of[b]) for b in sorted(of)], most)
                for name, of in conversions
            ],
            bits_names={
                str(b): (f"{b} bits", f"bits-{b}") for b in sorted({*picture.bits, *picture.dense_bits})
            },
            energy=[bar(name, [(*kinds[p], parts[p]) for p in drawn], whole) for name, parts in plans],
            energy_names={name: kinds[name] for name in drawn},
            parts=[(kinds[p][0], picture.energy[p], picture.dense_energy[p]) for p in drawn],
            programming=[
                bar(name, [("programming", "busy" if i == 0 else "drain", float(of["energy_pj"]))], dearest)
                for i, (name, of) in enumerate(written)
            ],
            engine=_engine(mine),
            engine_names={what: name for what, name in TIMES.items() if what != "weights"} | ARRAY_TIMES,
        )


def _squares(picture: CrossbarPicture) -> tuple[list[Square], tuple[int, int], str]:
    """The map of arrays, and what is said of it."""
    used, count = len(picture.fills), max(len(picture.fills), picture.dense)
    mean = 100 * float(picture.fills.mean()) if used else 0.0
    text = f"{used} arrays for {picture.dense} of the dense mapping; {mean:.1f} % of all cells hold a level."
    if count > MOST_ARRAYS:
        return [], (1, 1), f"{text} So many arrays are not drawn."
    across = max(1, math.ceil(math.sqrt(SHAPE * count)))
    most = max(float(picture.fills.max(initial=0)), 1e-9)
    squares: list[Square] = []
    for number in range(count):
        y, x = divmod(number, across)
        fill = float(picture.fills[number]) if number < used else 0.0
        title = (
            f"array {number}: {100 * fill:.1f} % of its cells hold a level"
            if number < used
            else "an array of the dense mapping that this plan does not need"
        )
        opacity = 0.12 + 0.88 * fill / most if number < used else 0.0
        squares.append(Square(x, y, opacity, title, number == picture.shown))
    return squares, (across, -(-max(1, count) // across)), text


def _cells_text(picture: CrossbarPicture) -> str:
    if picture.shown < 0:
        return "No array is used: W is all zero."
    rows, columns = picture.cells.shape
    tiles = f"{len(picture.boxes)} tile{'s' * (len(picture.boxes) != 1)}"
    return (
        f"Array {picture.shown}, the fullest: {tiles}, {100 * picture.fills[picture.shown]:.1f} % of "
        f"{rows} x {columns} cells (word lines down, bit lines across) hold a level, red above 0, blue below."
    )


def _engine(run: Mapping[str, Any]) -> Bar:
    spent = run["array_cycles"]
    times = {"busy": spent["busy"], **spent["stalls"], "drain": spent["drain"]}
    names, used = TIMES | ARRAY_TIMES, max(1, int(run["arrays_used"]))
    parts = [(*names[what], cycles / used) for what, cycles in times.items()]
    return bar("arrays", parts, sum(value for _, _, value in parts))


def _png(cells: NDArray[np.int64], highest: int) -> str:
    """Levels as an image: transparent at 0, the stronger the further from it. A data URI."""
    share = np.abs(cells) / highest
    pixels = np.zeros((*cells.shape, 4), np.uint8)
    pixels[cells > 0, :3], pixels[cells < 0, :3] = POSITIVE, NEGATIVE
    pixels[..., 3] = np.where(cells != 0, np.rint(90 + 165 * share), 0)
    lines = np.concatenate([np.zeros((len(cells), 1), np.uint8), pixels.reshape(len(cells), -1)], axis=1)
    height, width = cells.shape
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines.tobytes(), 9)),
        (b"IEND", b""),
    )
    file = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return "data:image/png;base64," + base64.b64encode(file).decode("ascii")
