"""Pictures for papers: a matrix with its meta-ops before and after re-indexing, and how full its cells are.

Everything is drawn into small images of pixels, so that neither the size of the matrix nor the number of
meta-ops matters; outlines are added while they can be told apart. The same input gives the same bytes.
"""

from __future__ import annotations

import textwrap
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.cover.metaops import K0, M0, K, M
from sparsecc.errors import UserError
from sparsecc.tilemap import TileMap, tile_map

if TYPE_CHECKING:
    from sparsecc.artifact import Artifact

FORMATS = (".png", ".svg", ".pdf")

# Okabe and Ito's colours, which colour-blind readers tell apart; without black, and yellow, pale on white.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
NOT_COMPUTED = "#F2F2F2"
OUTLINE = "#333333"

# Pixels of an image on a side, at most: fewer than the paper shows, so that no point is averaged away.
SIDE = 640
# More outlines than this can neither be told apart nor drawn fast.
MOST_OUTLINES = 2000
# The least side of what is outlined, in pixels.
LEAST_OUTLINED = 4
# How much of a meta-op's colour its area has, and a pixel with the least and with all points nonzero.
TINT, FAINTEST, FULL = 0.22, 0.5, 1.0
# The sides of a map are never further apart than this: a long thin matrix stays legible.
MOST_ASPECT = 2.2
# Units on a side of the enlarged corner.
CORNER = 6
MOST_BINS = 32
# Bars this many times lower than others are not seen; then the scale is logarithmic.
FLATTENED = 12
DOTS_PER_INCH = 160

Image = NDArray[np.float64]
# Where boxes lie: first rows, first columns, heights, widths.
Boxes = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


def check_plot(path: str) -> None:
    """Find out before the work whether a plot can be made. Raises UserError."""
    if Path(path).suffix.lower() not in FORMATS:
        raise UserError(f"{path}: a plot is written as {', '.join(FORMATS)}; name it so", exit_code=2)
    if find_spec("matplotlib") is None:
        raise UserError("plots need matplotlib; install it with: pip install 'sparsecc[viz]'")


def plot(artifact: Artifact, path: str) -> None:
    """Draw a compiled operator to a .png, .svg or .pdf file. Raises UserError."""
    check_plot(path)
    from sparsecc.target.crossbar import CrossbarTarget

    try:
        with _settings():
            if isinstance(artifact.target, CrossbarTarget):
                figure = _draw_crossbar(artifact)
            else:
                figure = draw(tile_map(artifact), artifact.title, artifact.reason)
            _save(figure, path)
    except OSError as e:
        raise UserError(f"{path}: cannot be written: {e.strerror}; name another file") from e


def _draw_crossbar(artifact: Artifact) -> Any:
    from sparsecc import crossbar_pictures
    from sparsecc.crossbar_compiler import CrossbarArtifact

    assert isinstance(artifact, CrossbarArtifact), "crossbars are compiled to artifacts of their own"
    picture = crossbar_pictures.CrossbarPicture.of(artifact)
    return crossbar_pictures.draw(picture, artifact.title, artifact.reason)


def draw(tiles: TileMap, title: str, reason: str) -> Any:
    """The figure: before and after re-indexing at one scale, a corner enlarged, and the fill of cells."""
    from matplotlib.figure import Figure

    height, width = _extent(tiles)
    aspect = min(max(height / width, 1 / MOST_ASPECT), MOST_ASPECT)
    figure: Any = Figure(figsize=(13, 8), layout="constrained")
    # Wide maps stand one above the other, so that none is thin.
    if aspect < 0.7:
        axes: Any = figure.subplot_mosaic([["before", "fill"], ["after", "corner"]], width_ratios=[1.7, 1])
    else:
        figure.set_size_inches(7.5 + 2 * 6.2 / aspect, 8)
        axes = figure.subplot_mosaic(
            [["before", "after", "fill"], ["before", "after", "corner"]],
            width_ratios=[6.2 / aspect, 6.2 / aspect, 5],
        )
    lines = textwrap.wrap(f"Why this plan: {reason}" if reason else "", int(11 * figure.get_figwidth()))
    figure.suptitle("\n".join([title, *lines]), fontsize=11, x=0.01, ha="left")
    _draw_before(axes["before"], tiles)
    _draw_after(axes["after"], tiles)
    for name in ("before", "after"):
        axes[name].set(xlim=(0, width), ylim=(height, 0), box_aspect=aspect)
    _draw_corner(axes["corner"], tiles)
    _draw_fill(axes["fill"], tiles)
    return figure


def _save(figure: Any, path: str) -> None:
    """Write the file without the date that would make each one different."""
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    figure.savefig(path, dpi=DOTS_PER_INCH, metadata=undated.get(Path(path).suffix.lower()))


def _settings() -> Any:
    """Fonts stay text in .svg and .pdf, names in files are not random, and a $ in a name is no formula."""
    import matplotlib

    library: Any = matplotlib
    return library.rc_context(
        {
            "pdf.fonttype": 42,
            "svg.fonttype": "none",
            "svg.hashsalt": "sparsecc",
            "text.parse_math": False,
        }
    )


def _extent(tiles: TileMap) -> tuple[int, int]:
    """Rows and columns that both maps have room for."""
    pattern, packed = tiles.pattern, tiles.packed_shape
    return max(pattern.m, packed[0], 1), max(pattern.k, packed[1], 1)


def _draw_before(axes: Any, tiles: TileMap) -> None:
    t, box = tiles.cover.table, tiles.is_box()
    boxes = (t[box, M0], t[box, K0], t[box, M], t[box, K])
    image = raster(
        (tiles.pattern.m, tiles.pattern.k),
        boxes,
        _colour_of(np.flatnonzero(box)),
        (tiles.pattern.row_of(), tiles.pattern.indices),
        _colour_of(tiles.places.owner),
    )
    _show(axes, image, (tiles.pattern.m, tiles.pattern.k), boxes)
    gathered, boxed = int((~box).sum()), int(box.sum())
    parts = [f"{boxed} box{'es' * (boxed > 1)}"] if boxed else []
    parts += [f"{gathered} gathered meta-ops: the coloured points"] if gathered else []
    _title(axes, "Before re-indexing", " and ".join(parts) or "no meta-ops: nothing is computed")
    axes.set(xlabel=f"column of {tiles.name}", ylabel=f"row of {tiles.name}")


def _draw_after(axes: Any, tiles: TileMap) -> None:
    t, pattern = tiles.cover.table, tiles.pattern
    boxes = (tiles.top, tiles.left, t[:, M], t[:, K])
    colours = _colour_of(np.arange(len(t))), _colour_of(tiles.places.owner)
    image = raster(tiles.packed_shape, boxes, colours[0], tiles.packed_points(), colours[1])
    _show(axes, image, tiles.packed_shape, boxes)
    share, fill = tiles.cover.area / (pattern.m * pattern.k), pattern.nnz / max(1, tiles.cover.area)
    count = f"{len(t)} meta-op{'s' * (len(t) != 1)}"
    _title(
        axes,
        "After re-indexing",
        f"{count}, {100 * share:.1f} % of {tiles.name}'s area, {100 * fill:.1f} % filled",
    )
    axes.set(xlabel=_packed_column(tiles), ylabel=_packed_row(tiles))


def _packed_row(tiles: TileMap) -> str:
    return "shelf of meta-ops (rows)" if tiles.in_shelves else "place in the order of the rows"


def _packed_column(tiles: TileMap) -> str:
    return (
        "place on the shelf (columns)" if tiles.in_shelves else "place among the columns of the row's blocks"
    )


def _draw_corner(axes: Any, tiles: TileMap) -> None:
    """The upper left corner after re-indexing, every point to be seen."""
    height, width = (min(CORNER * u, s) for u, s in zip(tiles.unit, tiles.packed_shape, strict=True))
    t = tiles.cover.table
    here = np.flatnonzero((tiles.top < height) & (tiles.left < width))
    top, left = tiles.top[here], tiles.left[here]
    boxes = top, left, np.minimum(t[here, M], height - top), np.minimum(t[here, K], width - left)
    row, column = tiles.packed_points()
    seen = (row < height) & (column < width)
    owner = tiles.places.owner[seen]
    image = raster(
        (height, width), boxes, _colour_of(here), (row[seen], column[seen]), _colour_of(owner), FULL
    )
    _show(axes, image, (height, width), boxes)
    axes.set(xlabel=_packed_column(tiles), ylabel=_packed_row(tiles), xlim=(0, max(width, 1)))
    axes.set_ylim(max(height, 1), 0)
    axes.set_box_aspect(1)
    _title(
        axes,
        "After re-indexing, the upper left corner",
        "full colour: nonzeros; pale: zeros that are computed",
    )


def _title(axes: Any, what: str, remark: str) -> None:
    axes.set_title(f"{what}\n{remark}", fontsize=9.5, loc="left")


def _draw_fill(axes: Any, tiles: TileMap) -> None:
    rows, columns = tiles.unit
    before, after = tiles.aligned_counts(), tiles.cell_counts()
    percent = 100 / (rows * columns)
    most = max(int(before.max(initial=0)), int(after.max(initial=0)), 1)
    # Edges between whole numbers of points; otherwise some bins would have room for one more than others.
    bins = (np.arange(0, most + MOST_BINS, -(-most // MOST_BINS)) + 0.5) * percent
    heights, _, _ = axes.hist(
        after * percent, bins, color=COLOURS[0], label=f"computed: {len(after)}", edgecolor="white"
    )
    others, _, _ = axes.hist(
        before[before > 0] * percent,
        bins,
        histtype="step",
        color=COLOURS[5],
        linewidth=1.6,
        label=f"before re-indexing: {len(before)},\nof them {int((before == 0).sum())} empty (not drawn)",
    )
    axes.set(xlim=(0, (most + 1) * percent), xlabel="nonzeros of a cell, % of its points", ylabel="cells")
    _title(axes, "Fill of unit cells", f"one is {rows} x {columns} points of {tiles.name}")
    axes.tick_params(labelsize=8)
    most_cells, fewest = max(heights.max(), others.max(), 1), min(heights.max(), others.max())
    if most_cells > FLATTENED * fewest > 0:
        axes.set(yscale="log", ylim=(0.7, 4 * most_cells**1.1))
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.set_ylim(0, 1.3 * most_cells)  # room for the legend
    axes.legend(frameon=False, fontsize=8.5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _show(axes: Any, image: Image, shape: tuple[int, int], boxes: Boxes) -> None:
    axes.set_facecolor(NOT_COMPUTED)
    if image.size:
        axes.imshow(image, extent=(0, shape[1], shape[0], 0), aspect="auto", interpolation="nearest")
    if _told_apart(boxes, shape):
        from matplotlib.collections import PolyCollection

        top, left, height, width = (side.astype(float) for side in boxes)
        bottom, right = top + height, left + width
        x, y = np.stack([left, right, right, left], 1), np.stack([top, top, bottom, bottom], 1)
        line = 0.2 if len(top) > 300 else 0.6
        corners: Any = np.stack([x, y], 2)
        axes.add_collection(PolyCollection(corners, facecolors="none", edgecolors=OUTLINE, linewidths=line))
    axes.tick_params(labelsize=8)


def _told_apart(boxes: Boxes, shape: tuple[int, int]) -> bool:
    """Whether outlines of the boxes would leave something of them to be seen."""
    if not 0 < len(boxes[0]) <= MOST_OUTLINES:
        return False
    sides = (np.median(boxes[2 + axis]) * SIDE / shape[axis] for axis in (0, 1))
    return min(sides) >= LEAST_OUTLINED


def _colour_of(metaop: NDArray[Any]) -> NDArray[np.int64]:
    """Number of the colour of a meta-op; neighbours differ."""
    return metaop.astype(np.int64) % len(COLOURS)


def raster(
    shape: tuple[int, int],
    boxes: Boxes,
    box_colour: NDArray[np.int64],
    points: tuple[NDArray[Any], NDArray[Any]],
    point_colour: NDArray[np.int64],
    faintest: float = FAINTEST,
) -> Image:
    """An image of at most SIDE x SIDE pixels: boxes lightly tinted, points over them, darker where denser."""
    pixels = min(shape[0], SIDE), min(shape[1], SIDE)
    if 0 in pixels:
        return np.zeros((0, 0, 3))
    palette = np.array([_rgb(colour) for colour in COLOURS])
    image = np.tile(_rgb(NOT_COMPUTED), (*pixels, 1))
    for colour in range(len(COLOURS)):
        inside = _covered(shape, pixels, tuple(side[box_colour == colour] for side in boxes))
        image[inside] = 1 - TINT * (1 - palette[colour])

    row = points[0].astype(np.int64) * pixels[0] // shape[0]
    column = points[1].astype(np.int64) * pixels[1] // shape[1]
    at = row * pixels[1] + column
    count = np.bincount(at, minlength=pixels[0] * pixels[1])
    colour_at = np.zeros(len(count), np.int64)
    colour_at[at] = point_colour  # of several, the last
    seen = np.flatnonzero(count)
    share = np.minimum(1.0, count[seen] * (pixels[0] * pixels[1] / (shape[0] * shape[1])))
    alpha = (faintest + (FULL - faintest) * np.sqrt(share))[:, None]
    flat = image.reshape(-1, 3)
    flat[seen] = (1 - alpha) * flat[seen] + alpha * palette[colour_at[seen]]
    return image


def _covered(
    shape: tuple[int, int], pixels: tuple[int, int], boxes: tuple[NDArray[Any], ...]
) -> NDArray[np.bool_]:
    """Which pixels boxes touch: sums of their corners, so that the number of boxes does not matter."""
    top, left, height, width = (side.astype(np.int64) for side in boxes)
    first_row, first_column = top * pixels[0] // shape[0], left * pixels[1] // shape[1]
    last_row = ((top + height) * pixels[0] - 1) // shape[0] + 1
    last_column = ((left + width) * pixels[1] - 1) // shape[1] + 1
    corners = np.zeros((pixels[0] + 1, pixels[1] + 1), np.int64)
    np.add.at(corners, (first_row, first_column), 1)
    np.add.at(corners, (last_row, last_column), 1)
    np.add.at(corners, (first_row, last_column), -1)
    np.add.at(corners, (last_row, first_column), -1)
    return corners.cumsum(0).cumsum(1)[:-1, :-1] > 0


def _rgb(colour: str) -> Image:
    return np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
