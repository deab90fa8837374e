"""HTML reports and diffs: one file without network, figures as in the JSON, and a browser can read it."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

import sparsecc
from sparsecc import html_report
from sparsecc.diff import Change, compare, load_reports
from sparsecc.driver.cli import main
from sparsecc.errors import UserError
from sparsecc.html_report import diff_page, pack, page, report_page
from sparsecc.tilemap import tile_map

EVIL = "</script><script>alert('1')</script> <b>\"x\"&amp;"


class Page(HTMLParser):
    """What tests look at: attributes of tags, cells of tables, embedded data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[tuple[str | None, str]] = []
        self.data = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag == "td":
            self.cells.append((found.get("data-value"), ""))
        self._inside = "data" if found.get("id") == "data" else tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = "td" if self._inside != "td" and tag == "a" else ""

    def handle_data(self, data: str) -> None:
        if self._inside == "data":
            self.data += data
        elif self._inside in ("td", "a") and self.cells:
            value, text = self.cells[-1]
            self.cells[-1] = value, text + data

    def values(self) -> set[str]:
        return {value for value, _ in self.cells if value}

    @property
    def embedded(self) -> list[dict[str, Any]]:
        return json.loads(self.data)


def blocks(name: str, m: int, k: int, plan: str, seed: int) -> sparsecc.Artifact:
    rng = np.random.default_rng(seed)
    w = rng.integers(1, 9, (m, k)) * (rng.random((m, k)) < 0.1)
    return sparsecc.compile(w.astype(np.int8), n=16, plan=plan, name=name, confirm=False)


@pytest.fixture(scope="module")
def artifacts() -> list[sparsecc.Artifact]:
    return [blocks(EVIL, 64, 96, "window", 0), blocks("second", 48, 32, "none", 1)]


@pytest.fixture(scope="module")
def html(artifacts: list[sparsecc.Artifact]) -> str:
    return report_page(artifacts)


def unpack(text: str) -> list[int]:
    """The inverse of pack, one number at a time."""
    values: list[int] = []
    value = folded = shift = 0
    for byte in zlib.decompress(base64.b64decode(text)):
        folded |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            value += (folded >> 1) ^ -(folded & 1)
            values.append(value)
            folded = shift = 0
    return values


@pytest.mark.parametrize(
    "values", [[], [0], [-1, 5, 5, -1], [2**40, -(2**40), 3], [127, 128, 16383, 16384, -64, -65]]
)
def test_packed_numbers_come_back(values: list[int]):
    assert unpack(pack(np.array(values, np.int64))) == values


def test_the_page_needs_nothing_else(html: str):
    assert not re.search(r"https?://|\bimport\b\s*\(|@import|url\(", html)
    for tag, attributes in Page(html).tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    assert "default-src 'none'" in html


def test_names_are_escaped(html: str):
    assert "alert('1')</script>" not in html
    assert '<b>"x"' not in html
    found = Page(html)
    assert found.embedded[0]["report"]["name"] == EVIL
    assert any(text.strip() == EVIL for _, text in found.cells)


def test_figures_are_those_of_the_json(html: str, artifacts: list[sparsecc.Artifact]):
    found = Page(html)
    values = found.values()
    for embedded, artifact in zip(found.embedded, artifacts, strict=True):
        told = json.loads(json.dumps(artifact.report.to_json()))
        assert embedded["report"] == told
        for figure in (
            "cycles",
            "dense_cycles",
            "speedup",
            "energy_pj",
            "dram_bytes",
            "nnz",
            "fill",
            "cells",
        ):
            assert str(told[figure]) in values, figure
        for engine in told["engines"].values():
            spent = [engine["busy"], *engine["stalls"].values(), engine["drain"]]
            assert {str(cycles) for cycles in spent} <= values
            assert sum(spent) == told["cycles"]
        assert {str(pj) for pj in told["energy_parts_pj"].values()} <= values
        assert sum(told["energy_parts_pj"].values()) == pytest.approx(told["energy_pj"])
        assert {str(moved) for moved in told["moved_bytes"].values()} <= values
        assert any(text == told["reason"] for _, text in found.cells)


def test_bars_add_up_to_the_whole(html: str):
    """The parts of each engine's bar are side by side and fill it."""
    ends: list[float] = []
    at = 0.0
    for tag, attributes in Page(html).tags:
        if tag == "svg":
            ends.append(at)
            at = 0.0
        if tag == "rect":
            assert float(attributes["x"] or 0) == pytest.approx(at)
            at += float(attributes["width"] or 0)
    # Before the first bar, four of cycles (one of them the longest), then the engines.
    assert max(ends[1:5]) == pytest.approx(100)
    assert ends[5:11] == pytest.approx([100] * 6)


def test_the_map_holds_the_matrix_and_its_cover(html: str, artifacts: list[sparsecc.Artifact]):
    for embedded, artifact in zip(Page(html).embedded, artifacts, strict=True):
        tiles = tile_map(artifact)
        arrays = {name: unpack(text) for name, text in embedded["map"]["arrays"].items()}
        k = artifact.operator.shape[2]
        rows, columns = artifact.operator.weight.toarray().nonzero()
        assert arrays["nonzeros"] == (rows.astype(np.int64) * k + columns).tolist()
        assert arrays["owner"] == tiles.places.owner.tolist()
        assert arrays["top"] == tiles.top.tolist()
        assert arrays["pool"] == artifact.cover.index.tolist()


def test_totals_and_what_was_not_run(artifacts: list[sparsecc.Artifact]):
    reports = [artifact.report for artifact in artifacts]
    found = Page(page([(report, None) for report in reports]))
    assert str(float(sum(report.cycles or 0 for report in reports))) in found.values()
    assert found.embedded[0]["map"] is None
    not_run = page([(artifacts[0].predicted(), None)])
    assert "What each engine did" not in not_run
    assert "no operators" in page([])


def test_maps_too_large_are_left_out_and_named(
    artifacts: list[sparsecc.Artifact], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(html_report, "MOST_NONZEROS", 10)
    text = report_page(artifacts[:1])
    assert Page(text).embedded[0]["map"] is None
    assert "sparsecc run --plot FILE.png" in text


# Two runs.


def test_changed_figures_are_found_with_their_ratio():
    before = {
        "name": "a",
        "cycles": 200,
        "plan": "dense",
        "engines": {"MAT": {"busy": 0}},
        "same": 1,
        "l": [1],
    }
    after = {
        "name": "a",
        "cycles": 50,
        "plan": "sparse",
        "engines": {"MAT": {"busy": 7}},
        "same": 1,
        "l": [2],
    }
    found = compare([before, {"name": "old"}], [after, {"name": "new"}], ("A", "B"))
    assert found.changes == (
        Change("a", "cycles", 200, 50),
        Change("a", "plan", "dense", "sparse"),
        Change("a", "l", "1", "2"),
        Change("a", "engines.MAT.busy", 0, 7),
    )
    assert [change.ratio for change in found.changes] == [0.25, None, None, None]
    assert found.remarks() == ["only in A: old", "only in B: new"]


def test_operators_of_one_name_are_matched_in_order():
    runs = [{"name": "a", "cycles": 1}, {"name": "a", "cycles": 2}]
    found = compare(runs, [runs[0], {"name": "a", "cycles": 4}], ("A", "B"))
    assert found.changes == (Change("a (2)", "cycles", 2, 4),)
    assert compare(runs, runs, ("A", "B")).remarks() == ["no figure differs in 2 operators"]
    assert compare(runs, [], ("A", "B")).remarks()[0] == "no operator is in both: nothing was compared"


def test_the_diff_page_is_escaped_and_needs_nothing_else():
    run = {"name": EVIL, "cycles": 1, "reason": None}
    found = diff_page(compare([run], [{**run, "cycles": 3, "reason": "<i>"}], ("<A>", "B")))
    assert "<i>" not in found
    assert "<A>" not in found
    assert "alert('1')</script>" not in found
    assert not re.search(r"https?://", found)
    assert ("3.0", "3.000") in Page(found).cells


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        ("{", "is not JSON"),
        ("[1]", "entry 0 has no name"),
        ('{"name": 3}', "entry 0 has no name"),
        (b"\xff\xfe", "is not text"),
    ],
)
def test_files_that_are_no_reports_are_refused(text: str | bytes | None, message: str, tmp_path: Path):
    path = tmp_path / "a.json"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message):
        load_reports(str(path))


def test_the_command_line_writes_reports_and_diffs(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    weights, report, changes = tmp_path / "w.npy", tmp_path / "r.html", tmp_path / "d.html"
    np.save(weights, np.kron(np.eye(2, dtype=np.int8), np.ones((16, 16), np.int8)))
    assert main(["run", str(weights), "--n", "8", "--json", "--html", str(report)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert Page(report.read_text()).embedded[0]["report"] == told
    for name, run in (("A", told), ("B", [{**told, "cycles": 2 * told["cycles"]}])):
        (tmp_path / f"{name}.json").write_text(json.dumps(run))
    files = [str(tmp_path / "A.json"), str(tmp_path / "B.json")]
    assert main(["diff", *files, "--html", str(changes)]) == 0
    out = capsys.readouterr().out.split()
    at = out.index("cycles")
    assert out[at + 1 : at + 4] == [str(told["cycles"]), str(2 * told["cycles"]), "2.000"]
    assert "2.000" in changes.read_text()


# In a browser.

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--window-size=1300,1500", "--virtual-time-budget=10000",
)  # fmt: skip

# What a reader does: sorts, opens the second operator, zooms, picks a meta-op; then says what came of it.
ACTIONS = """
<script>
"use strict";
const until = (condition) => new Promise((done) => {
  const wait = () => (condition() ? done() : setTimeout(wait, 20));
  wait();
});
const root = document.documentElement;
until(() => root.dataset.ready === "maps").then(async () => {
  document.querySelectorAll("#operators th button")[3].click();
  root.dataset.first = document.querySelector("#operators tbody a").textContent;
  document.querySelectorAll("#operators a").forEach((link) => link.click());
  await until(() => document.querySelectorAll("[data-points]").length === 2);
  const map = document.querySelector(".map");
  map.querySelector(".after .in").click();
  root.dataset.view = map.querySelector(".after .view").textContent;
  const canvas = map.querySelector(".after canvas"), box = canvas.getBoundingClientRect();
  for (const kind of ["pointermove", "wheel"])
    canvas.dispatchEvent(new MouseEvent(kind, { clientX: box.left + 5, clientY: box.top + 5 }));
  map.querySelector(".tile .next").click();
  root.dataset.what = map.querySelector(".tile .what").textContent;
  root.dataset.done = "yes";
});
</script>
</body>
"""


def chromium() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium to look at the page with: install the package chromium")
    return found


def browse(path: Path, *actions: str) -> str:
    command = [chromium(), *FLAGS, f"--user-data-dir={path.parent / 'profile'}", *actions, path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def test_a_browser_runs_the_page(html: str, artifacts: list[sparsecc.Artifact], tmp_path: Path):
    path = tmp_path / "report.html"
    path.write_text(html.replace("</body>", ACTIONS), encoding="utf-8")
    (tag,) = re.findall(r"<html[^>]*>", browse(path, "--dump-dom"))
    _, attributes = Page(tag).tags[0]
    assert "data-error" not in attributes
    assert attributes["data-done"] == "yes"
    assert attributes["data-first"] == "second"
    assert attributes["data-view"] != f"rows 0 to {artifacts[0].operator.shape[0]}"
    owned = tile_map(artifacts[0]).owned
    what = attributes["data-what"] or ""
    assert re.match(rf"Meta-op \d+ of {len(owned)}, group \d+: 16 x \d+ points, \d+ nonzeros\.", what)
    metaop, nonzeros = re.match(r"Meta-op (\d+) .* points, (\d+) nonzeros\.", what).groups()  # pyright: ignore[reportOptionalMemberAccess]
    assert owned[int(metaop)] == int(nonzeros)


def test_a_browser_shows_the_page(html: str, tmp_path: Path):
    path, shot = tmp_path / "report.html", tmp_path / "shot.png"
    path.write_text(html, encoding="utf-8")
    browse(path, f"--screenshot={shot}")
    image = (255 * matplotlib.image.imread(shot)[:, :, :3]).round().astype(int)
    colours = {tuple(colour) for colour in image.reshape(-1, 3)[::3].tolist()}
    assert {(0, 114, 178), (230, 159, 0)} <= colours  # busy engines and the first two meta-ops
    assert (image != image[0, 0]).any(axis=2).mean() > 0.1


def test_operators_on_cpus_have_a_page_of_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    np.save(tmp_path / "w.npy", np.eye(40, dtype=np.float32))
    path = tmp_path / "report.html"
    command = ["run", str(tmp_path / "w.npy"), "--target", "cpu", "--n", "16", "--json", "--html", str(path)]
    assert main(command) == 0
    found, told = Page(path.read_text()), json.loads(capsys.readouterr().out)
    assert json.loads(found.data) == told
    widths = [float(a["width"] or 0) for tag, a in found.tags if tag == "rect"]
    assert len(widths) == len(told["tried"]) + 2
    assert max(widths) == pytest.approx(100)
    if told["tried"]:
        assert widths[0] / widths[1] == pytest.approx(told["tried"][0][1] / told["tried"][1][1])


def test_networks_have_a_page_of_layers(tmp_path: Path):
    """Made by hand: names that are markup, a figure that is not known, a table of totals."""
    from rich.table import Table

    from sparsecc.table_page import table_page

    class Report:
        name, target = EVIL, "chip"

        def to_json(self) -> dict[str, Any]:
            rows = [(EVIL, 20, 80), ("second", 40, 40), ("third", None, 7)]
            return {"products": [{"name": n, "cycles": c, "dense_cycles": d} for n, c, d in rows]}

    layers = Table("layer", title="layers")
    layers.add_column("cycles", justify="right")
    layers.add_row(EVIL, "20")
    totals = Table(show_header=False)
    totals.add_row("cycles", "60")
    page = Page(text := table_page(Report(), [layers, totals]))
    assert "alert('1')</script>" not in text
    assert [float(a["width"] or 0) for tag, a in page.tags if tag == "rect"] == [25, 100, 50, 50]
    assert (None, "20") in page.cells
    assert json.loads(page.data) == Report().to_json()
    assert text.index("<dl") < text.index("<table")
