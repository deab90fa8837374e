"""Plots and the maps behind them: nothing overlaps, all is where it is said to be, files are not blank."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

import sparsecc
from sparsecc import pictures
from sparsecc.cover.laws import Pattern
from sparsecc.cover.metaops import Axis, K, M, MetaOps
from sparsecc.driver.cli import main
from sparsecc.errors import UserError
from sparsecc.tilemap import TileMap, tile_map

GREY = np.array([int(pictures.NOT_COMPUTED[i : i + 2], 16) for i in (1, 3, 5)]) / 255


def pattern_of(mask: np.ndarray[Any, Any]) -> Pattern:
    rows, columns = np.nonzero(mask)
    indptr = np.searchsorted(rows, np.arange(len(mask) + 1))
    m, k = mask.shape
    return Pattern(m, k, indptr.astype(np.int64), columns.astype(np.int32))


def map_of(mask: np.ndarray[Any, Any], metaops: list[tuple[Axis, Axis]], unit: tuple[int, int]) -> TileMap:
    cover = MetaOps.of((rows, range(8), columns) for rows, columns in metaops)
    return TileMap.of(pattern_of(mask), cover, np.zeros(len(cover), np.int32), unit)


def mask(m: int, k: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).random((m, k)) < 0.4


BOXES: list[tuple[Axis, Axis]] = [(range(4), range(8)), (range(4, 8), range(8)), (range(8, 10), range(8))]
WINDOWS: list[tuple[Axis, Axis]] = [
    ([7, 2, 0, 5], [0, 3]),
    ([7, 2, 0, 5], [1, 2, 6, 7]),
    ([2, 0], [4, 5]),
    ([7], [4, 5]),
    ([5], range(4, 6)),
    ([1, 3, 4, 6, 8, 9], range(8)),
]
BICLIQUES: list[tuple[Axis, Axis]] = [
    ([0, 2, 4, 6], [0, 1, 2, 3]),
    ([6, 1, 0, 3], [4, 5, 6]),
    ([1, 3, 5, 7, 8, 9], [0, 1, 2, 3]),
    ([2, 4, 5, 7, 8, 9], [7, 6, 5, 4]),
    ([0, 1, 3, 6], [7, 0]),
]


@pytest.mark.parametrize(
    ("metaops", "in_shelves"), [(BOXES, False), (WINDOWS, False), (BICLIQUES, True), ([], False)]
)
def test_packed_meta_ops_do_not_overlap_and_hold_their_points(
    metaops: list[tuple[Axis, Axis]], in_shelves: bool
):
    w = mask(10, 8) if metaops else np.zeros((10, 8), bool)
    tiles = map_of(w, metaops, (4, 4))
    assert tiles.in_shelves == in_shelves
    taken = np.zeros(tiles.packed_shape, int)
    for i, (rows, columns) in enumerate(tiles.cover.table[:, [M, K]].tolist()):
        taken[tiles.top[i] : tiles.top[i] + rows, tiles.left[i] : tiles.left[i] + columns] += 1
    assert taken.max(initial=0) <= 1
    assert taken.sum() == tiles.cover.area
    row, column = tiles.packed_points()
    assert (taken[row, column] == 1).all()
    assert len(np.unique(row.astype(np.int64) * 100 + column)) == tiles.pattern.nnz
    assert tiles.owned.sum() == tiles.pattern.nnz


def test_rows_of_windows_keep_their_line():
    tiles = map_of(mask(10, 8), WINDOWS, (4, 4))
    assert tiles.top.tolist() == [6, 6, 7, 6, 9, 0]
    assert tiles.left.tolist() == [0, 2, 6, 6, 6, 0]
    assert tiles.packed_shape == (10, 8)


def test_shelves_are_as_wide_as_the_matrix():
    tiles = map_of(mask(10, 8), BICLIQUES, (4, 4))
    assert tiles.left.tolist() == [0, 4, 0, 4, 0]
    assert tiles.top.tolist() == [0, 0, 4, 4, 10]


def test_cells_are_counted_as_they_are_computed():
    w = mask(10, 8)
    tiles = map_of(w, BOXES, (4, 4))
    expected = [w[r : r + 4, c : c + 4].sum() for r in (0, 4, 8) for c in (0, 4)]
    assert tiles.cell_counts().tolist() == expected
    assert tiles.aligned_counts().tolist() == expected
    gathered = map_of(w, BICLIQUES, (4, 4)).cell_counts()
    assert len(gathered) == 1 + 1 + 2 + 2 + 1
    assert gathered.sum() == w.sum()


def test_raster_shows_boxes_points_and_nothing_else():
    boxes = tuple(np.array([v]) for v in (100, 200, 300, 400))
    row, column = np.array([150, 900]), np.array([250, 10])
    zero = np.zeros(1, np.int64)
    image = pictures.raster((1000, 1280), boxes, zero, (row, column), np.zeros(2, np.int64))  # pyright: ignore[reportArgumentType]
    assert image.shape == (640, 640, 3)
    box = image[64:256, 100:300]
    assert not np.isclose(box, GREY).all(axis=2).any()
    outside: Any = ~np.isclose(image, GREY).all(axis=2)
    outside[64:256, 100:300] = False
    assert np.argwhere(outside).tolist() == [[576, 5]]
    tint = image[70, 110]
    assert np.argwhere(~np.isclose(box, tint).all(axis=2)).tolist() == [[96 - 64, 125 - 100]]


def pixels(figure: Any) -> np.ndarray[Any, Any]:
    """The figure as a PNG file shows it, upside down: the pixel (x, y) of the figure at [y, x]."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=figure.dpi)
    file.seek(0)
    return matplotlib.image.imread(file)[::-1, :, :3]


@pytest.mark.parametrize("metaops", [BOXES, WINDOWS, BICLIQUES])
def test_a_png_shows_every_meta_op(metaops: list[tuple[Axis, Axis]]):
    w = mask(10, 8)
    tiles = map_of(w, metaops, (4, 4))
    figure = pictures.draw(tiles, "a title", "a reason")
    image = pixels(figure)
    axes = {a.get_title(loc="left").split("\n")[0]: a for a in figure.axes}

    def seen(name: str, row: float, column: float) -> np.ndarray[Any, Any]:
        x, y = axes[name].transData.transform((column + 0.5, row + 0.5))
        return image[int(y), int(x)]

    for r, c in np.argwhere(w)[::5]:
        assert not np.isclose(seen("Before re-indexing", r, c), GREY, atol=0.05).all()
    for r, c in zip(*tiles.packed_points(), strict=True):
        assert not np.isclose(seen("After re-indexing", r, c), GREY, atol=0.05).all()
    for i in range(len(tiles.cover)):
        assert not np.isclose(seen("After re-indexing", tiles.top[i], tiles.left[i]), GREY, atol=0.01).all()
    assert figure._suptitle.get_text() == "a title\nWhy this plan: a reason"
    for a in figure.axes:
        assert a.get_xlabel()
        assert a.get_ylabel()


def test_large_covers_are_drawn_fast_and_without_outlines():
    side = 1600
    w = np.kron(np.ones((side // 8, side // 8), bool), np.eye(8, dtype=bool))
    steps = range(0, side, 8)
    metaops: list[tuple[Axis, Axis]] = [(range(r, r + 8), range(c, c + 8)) for r in steps for c in steps]
    tiles = map_of(w, metaops, (8, 8))
    start = time.process_time()
    figure = pictures.draw(tiles, "large", "")
    pixels(figure)
    assert time.process_time() - start < 5
    outlined = [a.get_title(loc="left").split("\n")[0] for a in figure.axes if a.collections]
    assert outlined == ["After re-indexing, the upper left corner"]


@pytest.fixture(scope="module")
def artifact() -> sparsecc.Artifact:
    rng = np.random.default_rng(0)
    w = (rng.integers(1, 9, (64, 96)) * (rng.random((64, 96)) < 0.1)).astype(np.int8)
    return sparsecc.compile(w, n=16, plan="window", name="a $x_$ <b>name</b> \\frac{1}{", confirm=False)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_files_are_made_and_the_same_every_time(artifact: sparsecc.Artifact, suffix: str, tmp_path: Path):
    one, other = tmp_path / f"one.{suffix}", tmp_path / f"other.{suffix}"
    for path in (one, other):
        pictures.plot(artifact, str(path))
    data = one.read_bytes()
    assert data == other.read_bytes()
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
    assert data.startswith(start)
    if suffix == "svg":
        assert b"a $x_$ &lt;b&gt;name&lt;/b&gt;" in data
        assert b"sparse plan, gemmini16, i8" in data


def test_the_map_of_an_artifact_is_that_of_its_cover(artifact: sparsecc.Artifact):
    tiles = tile_map(artifact)
    assert tiles.unit == (16, 16)
    assert len(tiles.group) == len(artifact.cover)
    assert tiles.group.max() + 1 == artifact.predicted().groups
    assert len(tiles.cell_counts()) == artifact.cells()[0]


def test_masks_are_drawn_as_what_they_are(tmp_path: Path):
    mask = np.kron(np.eye(3, dtype=np.int8), np.ones((16, 16), np.int8))
    artifact = sparsecc.compile(mask, op="sddmm", k=32, confirm=False)
    tiles = tile_map(artifact)
    assert tiles.name == "mask"
    assert tiles.unit == (16, 16)
    assert tiles.cell_counts().sum() == tiles.owned.sum() == 3 * 256
    pictures.plot(artifact, str(tmp_path / "mask.svg"))
    assert b"column of mask" in (tmp_path / "mask.svg").read_bytes()


def test_nothing_computed_and_all_computed_are_drawn(tmp_path: Path):
    empty = sparsecc.compile(np.zeros((20, 30), np.int8), n=8, confirm=False)
    pictures.plot(empty, str(tmp_path / "empty.png"))
    full = sparsecc.compile(np.ones((20, 30), np.int8), n=8, plan="dense", confirm=False)
    pictures.plot(full, str(tmp_path / "full.png"))
    assert (tmp_path / "empty.png").stat().st_size > 10_000


def test_what_is_wrong_is_said_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(UserError, match=r"written as \.png, \.svg, \.pdf"):
        pictures.check_plot("a.gif")
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    weights = tmp_path / "w.npy"
    np.save(weights, np.eye(16, dtype=np.int8))
    assert main(["run", str(weights), "--plot", str(tmp_path / "w.png")]) == 1
    assert capsys.readouterr().err == (
        "error: plots need matplotlib; install it with: pip install 'sparsecc[viz]'\n"
    )
    assert main(["compile", str(weights), "-o", str(tmp_path / "c"), "--plot", "/nowhere/w.png"]) == 1
    assert "its folder does not exist" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_the_command_line_writes_the_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    weights, plot = tmp_path / "w.npy", tmp_path / "w.png"
    np.save(weights, np.kron(np.eye(4, dtype=np.int8), np.ones((16, 16), np.int8)))
    arguments = ["compile", str(weights), "--n", "8", "-o", str(tmp_path / "c"), "--plot", str(plot), "-q"]
    assert main([*arguments, "--plan", "none"]) == 0
    image = matplotlib.image.imread(plot)
    assert image[:, :, :3].std() > 0.05
