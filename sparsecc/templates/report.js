// The tile maps: W with its meta-ops as it is and after re-indexing, and the points of one unit cell.
"use strict";
const COLOURS = [[0, 114, 178], [230, 159, 0], [0, 158, 115], [204, 121, 167], [86, 180, 233], [213, 94, 0]];
const TINT = 0.25; // of a meta-op's colour in its area
const LEAST_ASPECT = 0.75, MOST_ASPECT = 1.35; // of a map's height and width: long thin matrices stay legible
const SEEN_ALONE = 4; // pixels that a point needs to be drawn as a rectangle of its own

// Whole numbers from text: base64, deflated, 7 bits to a byte, signs folded in, differences.
async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const coded = new Uint8Array(await new Response(stream).arrayBuffer());
  let count = 0;
  for (const byte of coded) count += byte < 128;
  const values = new Float64Array(count);
  let at = 0, value = 0, folded = 0, weight = 1;
  for (const byte of coded) {
    folded += (byte & 127) * weight; // products, since the numbers may be wider than 32 bits
    weight *= 128;
    if (byte >= 128) continue;
    value += folded % 2 ? -(folded + 1) / 2 : folded / 2;
    values[at++] = value;
    folded = 0;
    weight = 1;
  }
  return values;
}

// Where a cover lies: all nonzeros with their meta-op and their place in it.
class Tiles {
  constructor(map, arrays) {
    Object.assign(this, arrays);
    [this.m, this.k] = map.shape;
    [this.unitRows, this.unitColumns] = map.unit;
    this.packed = map.packed;
    this.shelves = map.shelves;
    this.count = this.rows.length;
    const nnz = this.nonzeros.length;
    this.row = new Int32Array(nnz);
    this.column = new Int32Array(nnz);
    for (let i = 0; i < nnz; i++) {
      this.row[i] = Math.floor(this.nonzeros[i] / this.k);
      this.column[i] = this.nonzeros[i] - this.row[i] * this.k;
    }
    this.byOwner = sorted(this.owner, this.count);
    this.findPlaces();
  }

  // A list is turned round once for each meta-op; a range needs no more than its start.
  findPlaces() {
    const nnz = this.row.length;
    this.rowPlace = new Int32Array(nnz);
    this.columnPlace = new Int32Array(nnz);
    const placeOfRow = new Int32Array(this.m), placeOfColumn = new Int32Array(this.k);
    for (let i = 0; i < this.count; i++) {
      this.rowsOf(i, (row, place) => { placeOfRow[row] = place; });
      this.columnsOf(i, (column, place) => { placeOfColumn[column] = place; });
      for (let at = this.byOwner.first[i]; at < this.byOwner.first[i + 1]; at++) {
        const point = this.byOwner.order[at];
        this.rowPlace[point] = placeOfRow[this.row[point]];
        this.columnPlace[point] = placeOfColumn[this.column[point]];
      }
    }
  }

  rowsOf(i, each, first = 0, last = this.rows[i]) {
    const list = this.rowList[i];
    for (let p = first; p < last; p++) each(list < 0 ? this.row0[i] + p : this.pool[list + p], p);
  }

  columnsOf(i, each, first = 0, last = this.columns[i]) {
    const list = this.columnList[i];
    for (let p = first; p < last; p++) each(list < 0 ? this.column0[i] + p : this.pool[list + p], p);
  }

  isBox(i) { return this.rowList[i] < 0 && this.columnList[i] < 0; }

  // Points and boxes of a map: where they lie, and points line by line.
  before() {
    const none = -1e9; // gathered meta-ops are no boxes here
    const box = Array.from({ length: this.count }, (_, i) => this.isBox(i));
    return this.scene([this.m, this.k], this.row, this.column,
      this.row0.map((v, i) => (box[i] ? v : none)), this.column0.map((v, i) => (box[i] ? v : none)));
  }

  after() {
    const row = this.rowPlace.map((place, i) => this.top[this.owner[i]] + place);
    const column = this.columnPlace.map((place, i) => this.left[this.owner[i]] + place);
    return this.scene(this.packed, row, column, this.top, this.left);
  }

  scene(shape, row, column, top, left) {
    return { shape, row, column, top, left, lines: sorted(row, shape[0]) };
  }
}

// Numbers of items by their key, and where those of each key begin.
function sorted(keys, count) {
  const first = new Int32Array(count + 1);
  for (const key of keys) first[key + 1]++;
  for (let i = 0; i < count; i++) first[i + 1] += first[i];
  const next = first.slice(), order = new Int32Array(keys.length);
  for (let i = 0; i < keys.length; i++) order[next[keys[i]]++] = i;
  return { first, order };
}

const colourOf = (metaop) => COLOURS[metaop % COLOURS.length];
const css = (colour, alpha = 1) => `rgb(${colour.join(" ")} / ${alpha})`;
const theme = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// The canvas at the resolution of the screen; returns its width and height in dots.
function fit(canvas, aspect) {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  canvas.style.height = `${canvas.clientWidth * aspect}px`;
  canvas.width = width;
  canvas.height = Math.max(1, Math.round(width * aspect));
  return [canvas.width, canvas.height];
}

// One map on its canvas: moved, zoomed, pointed at.
class MapView {
  constructor(figure, tiles, scene, extent, picked) {
    Object.assign(this, { tiles, scene, extent, picked, selected: -1 });
    this.canvas = figure.querySelector("canvas");
    this.text = figure.querySelector(".view");
    this.aspect = Math.min(Math.max(extent[0] / extent[1], LEAST_ASPECT), MOST_ASPECT);
    this.listen(figure);
    this.whole();
  }

  listen(figure) {
    figure.querySelector(".in").addEventListener("click", () => this.zoomHere(2));
    figure.querySelector(".out").addEventListener("click", () => this.zoomHere(0.5));
    figure.querySelector(".whole").addEventListener("click", () => this.whole());
    const canvas = this.canvas;
    let from = null, moved = false;
    canvas.addEventListener("pointerdown", (event) => {
      from = [event.clientX, event.clientY];
      moved = false;
      canvas.setPointerCapture(event.pointerId);
      canvas.focus({ preventScroll: true });
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!from) return this.tell(this.pointAt(event));
      const [dx, dy] = [event.clientX - from[0], event.clientY - from[1]];
      if (!moved && Math.hypot(dx, dy) < 4) return;
      moved = true;
      from = [event.clientX, event.clientY];
      const ratio = canvas.width / canvas.clientWidth;
      this.x -= (dx * ratio) / this.scaleX;
      this.y -= (dy * ratio) / this.scaleY;
      this.draw();
    });
    canvas.addEventListener("pointerup", (event) => {
      if (from && !moved) this.pick(this.pointAt(event));
      from = null;
    });
    canvas.addEventListener("dblclick", (event) => this.zoom(2, this.pointAt(event)));
    canvas.addEventListener("wheel", (event) => {
      if (document.activeElement !== canvas) return; // the page scrolls until the map was clicked
      event.preventDefault();
      this.zoom(event.deltaY < 0 ? 1.3 : 1 / 1.3, this.pointAt(event));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const factor = { "+": 2, "-": 0.5 }[event.key];
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!factor && !step) return;
      event.preventDefault();
      if (factor) return this.zoomHere(factor);
      this.x += (step[0] * canvas.width) / this.scaleX / 8;
      this.y += (step[1] * canvas.height) / this.scaleY / 8;
      this.draw();
    });
  }

  // The same part of the map on a canvas of another size.
  resize() {
    const before = this.canvas.width;
    const by = fit(this.canvas, this.aspect)[0] / before;
    this.scaleX *= by;
    this.scaleY *= by;
    this.draw();
  }

  whole() {
    const [width, height] = fit(this.canvas, this.aspect);
    this.scaleX = width / this.extent[1];
    this.scaleY = height / this.extent[0];
    this.x = this.y = 0;
    this.draw();
  }

  // Around the selected meta-op where it is a box, else around the middle.
  zoomHere(factor) {
    const { tiles, scene, selected } = this;
    const isBox = selected >= 0 && scene.top[selected] >= 0;
    const [row, column] = isBox
      ? [scene.top[selected] + tiles.rows[selected] / 2, scene.left[selected] + tiles.columns[selected] / 2]
      : this.centre();
    this.y = row - this.canvas.height / this.scaleY / 2;
    this.x = column - this.canvas.width / this.scaleX / 2;
    this.zoom(factor, [row, column]);
  }

  zoom(factor, [row, column]) {
    const leastX = this.canvas.width / this.extent[1];
    const most = (64 * (window.devicePixelRatio || 1)) / Math.max(this.scaleX, this.scaleY);
    const by = Math.max(leastX / this.scaleX, Math.min(factor, Math.max(most, 1)));
    this.x = column - (column - this.x) / by;
    this.y = row - (row - this.y) / by;
    this.scaleX *= by;
    this.scaleY *= by;
    if (this.scaleX <= leastX * 1.001) return this.whole();
    this.draw();
  }

  centre() {
    return [this.y + this.canvas.height / this.scaleY / 2, this.x + this.canvas.width / this.scaleX / 2];
  }

  pointAt(event) {
    const box = this.canvas.getBoundingClientRect(), ratio = this.canvas.width / this.canvas.clientWidth;
    return [
      this.y + ((event.clientY - box.top) * ratio) / this.scaleY,
      this.x + ((event.clientX - box.left) * ratio) / this.scaleX,
    ];
  }

  // The meta-op of the nonzero at or next to a point, else the one whose box holds it; -1 for none.
  at([row, column]) {
    const { scene, tiles } = this;
    const reach = Math.ceil(3 / Math.min(this.scaleX, this.scaleY));
    let best = -1, nearest = reach + 1;
    const first = Math.max(0, Math.floor(row) - reach), last = Math.min(scene.shape[0] - 1, Math.floor(row) + reach);
    for (let i = scene.lines.first[first]; i < scene.lines.first[Math.max(first, last + 1)]; i++) {
      const point = scene.lines.order[i];
      const distance = Math.max(
        Math.abs(scene.row[point] - Math.floor(row)), Math.abs(scene.column[point] - Math.floor(column)));
      if (distance < nearest) [best, nearest] = [point, distance];
    }
    for (let i = 0; i < tiles.count; i++) {
      const [r, c] = [row - scene.top[i], column - scene.left[i]];
      if (r >= 0 && c >= 0 && r < tiles.rows[i] && c < tiles.columns[i]) return { metaop: i, row: r, column: c };
    }
    if (best < 0) return null;
    return { metaop: tiles.owner[best], row: tiles.rowPlace[best], column: tiles.columnPlace[best] };
  }

  pick(point) {
    const found = this.at(point);
    if (found) this.picked(found.metaop, found.row, found.column);
  }

  tell([row, column]) {
    const [r, c] = [Math.floor(row), Math.floor(column)];
    const inside = r >= 0 && c >= 0 && r < this.extent[0] && c < this.extent[1];
    this.text.textContent = inside ? `row ${r}, column ${c}` : this.range;
  }

  select(metaop) {
    this.selected = metaop;
    this.draw();
  }

  draw() {
    const { canvas, scene } = this;
    const [width, height] = [canvas.width, canvas.height];
    const pen = canvas.getContext("2d");
    const rows = [Math.max(0, Math.floor(this.y)), Math.min(scene.shape[0], Math.ceil(this.y + height / this.scaleY))];
    const columns = [this.x, this.x + width / this.scaleX];
    pen.fillStyle = theme("page");
    pen.fillRect(0, 0, width, height);
    pen.fillStyle = theme("none");
    const edge = [this.extent[1] * this.scaleX, this.extent[0] * this.scaleY];
    pen.fillRect(-this.x * this.scaleX, -this.y * this.scaleY, ...edge);
    this.drawBoxes(pen, rows, columns);
    if (Math.min(this.scaleX, this.scaleY) < SEEN_ALONE) this.drawPixels(pen, rows);
    else this.drawPoints(pen, rows, columns);
    this.drawSelected(pen);
    const seen = (from, length, most) =>
      [from, from + length].map((value) => Math.min(most, Math.max(0, Math.round(value)))).join(" to ");
    this.range = `rows ${seen(this.y, height / this.scaleY, this.extent[0])} of ${this.extent[0]}, `
      + `columns ${seen(this.x, width / this.scaleX, this.extent[1])} of ${this.extent[1]}`;
    this.text.textContent = this.range;
  }

  // The box of a meta-op on the canvas.
  box(i) {
    const { tiles, scene } = this;
    return [
      (scene.left[i] - this.x) * this.scaleX, (scene.top[i] - this.y) * this.scaleY,
      tiles.columns[i] * this.scaleX, tiles.rows[i] * this.scaleY,
    ];
  }

  drawBoxes(pen, rows, columns) {
    const { tiles, scene } = this;
    pen.strokeStyle = theme("outline");
    pen.lineWidth = 1;
    for (let i = 0; i < tiles.count; i++) {
      if (scene.top[i] > rows[1] || scene.top[i] + tiles.rows[i] < rows[0]) continue;
      if (scene.left[i] > columns[1] || scene.left[i] + tiles.columns[i] < columns[0]) continue;
      const box = this.box(i);
      pen.fillStyle = css(colourOf(i), TINT);
      pen.fillRect(...box);
      if (Math.min(box[2], box[3]) > 12) pen.strokeRect(...box);
    }
  }

  // Points smaller than pixels: a pixel is the darker the more of its points are nonzero.
  drawPixels(pen, rows) {
    const { scene, tiles } = this;
    const [width, height] = [pen.canvas.width, pen.canvas.height];
    const [wide, high] = [Math.max(1, Math.ceil(this.scaleX)), Math.max(1, Math.ceil(this.scaleY))];
    const count = new Uint32Array(width * height), owner = new Int32Array(width * height);
    for (let i = scene.lines.first[rows[0]]; i < scene.lines.first[Math.max(...rows)]; i++) {
      const point = scene.lines.order[i];
      const x0 = Math.floor((scene.column[point] - this.x) * this.scaleX);
      const y0 = Math.floor((scene.row[point] - this.y) * this.scaleY);
      for (let y = Math.max(0, y0); y < Math.min(height, y0 + high); y++)
        for (let x = Math.max(0, x0); x < Math.min(width, x0 + wide); x++) {
          count[y * width + x]++;
          owner[y * width + x] = tiles.owner[point];
        }
    }
    const layer = new OffscreenCanvas(width, height);
    const image = new ImageData(width, height);
    const each = Math.max(1, 1 / (this.scaleX * this.scaleY)); // points of a pixel
    for (let i = 0; i < count.length; i++) {
      if (!count[i]) continue;
      const chosen = this.selected < 0 || owner[i] === this.selected;
      image.data.set(colourOf(owner[i]), 4 * i);
      image.data[4 * i + 3] = (chosen ? 255 : 110) * (0.5 + 0.5 * Math.sqrt(Math.min(1, count[i] / each)));
    }
    layer.getContext("2d").putImageData(image, 0, 0);
    pen.drawImage(layer, 0, 0);
  }

  drawPoints(pen, rows, columns) {
    const { scene, tiles } = this;
    const gap = Math.min(this.scaleX, this.scaleY) >= 8 ? 1 : 0;
    for (let i = scene.lines.first[rows[0]]; i < scene.lines.first[Math.max(...rows)]; i++) {
      const point = scene.lines.order[i];
      if (scene.column[point] < columns[0] - 1 || scene.column[point] > columns[1]) continue;
      const chosen = this.selected < 0 || tiles.owner[point] === this.selected;
      pen.fillStyle = css(colourOf(tiles.owner[point]), chosen ? 1 : 0.45);
      pen.fillRect(
        (scene.column[point] - this.x) * this.scaleX, (scene.row[point] - this.y) * this.scaleY,
        this.scaleX - gap, this.scaleY - gap);
    }
  }

  // The box of the selected meta-op, or where it is gathered from anywhere, its points.
  drawSelected(pen) {
    const { tiles, scene, selected } = this;
    if (selected < 0) return;
    pen.strokeStyle = theme("pick");
    pen.fillStyle = theme("pick");
    pen.lineWidth = 2 * (window.devicePixelRatio || 1);
    if (scene.top[selected] >= 0) return pen.strokeRect(...this.box(selected));
    const size = 3 * (window.devicePixelRatio || 1);
    for (let at = tiles.byOwner.first[selected]; at < tiles.byOwner.first[selected + 1]; at++) {
      const point = tiles.byOwner.order[at];
      const x = (scene.column[point] - this.x) * this.scaleX, y = (scene.row[point] - this.y) * this.scaleY;
      if (this.scaleX > size) pen.strokeRect(x, y, this.scaleX, this.scaleY);
      else pen.fillRect(x - size / 2, y - size / 2, size, size);
    }
  }
}

// The points of one unit cell of a meta-op.
class CellView {
  constructor(figure, tiles, changed) {
    Object.assign(this, { figure, tiles, changed, metaop: 0, cell: 0 });
    figure.querySelector(".previous").addEventListener("click", () => this.step(-1));
    figure.querySelector(".next").addEventListener("click", () => this.step(1));
  }

  cellsOf(metaop) {
    const { tiles } = this;
    const across = Math.ceil(tiles.columns[metaop] / tiles.unitColumns);
    return [Math.ceil(tiles.rows[metaop] / tiles.unitRows) * across, across];
  }

  step(by) {
    const { tiles } = this;
    if (!tiles.count) return;
    let [metaop, cell] = [this.metaop, this.cell + by];
    if (cell < 0 || cell >= this.cellsOf(metaop)[0]) {
      metaop = (metaop + by + tiles.count) % tiles.count;
      cell = by > 0 ? 0 : this.cellsOf(metaop)[0] - 1;
    }
    this.show(metaop, cell);
  }

  showAt(metaop, row, column) {
    const { unitRows, unitColumns } = this.tiles;
    const across = this.cellsOf(metaop)[1];
    this.show(metaop, Math.floor(row / unitRows) * across + Math.floor(column / unitColumns));
  }

  show(metaop, cell) {
    Object.assign(this, { metaop, cell });
    this.draw();
    this.changed(metaop);
  }

  draw() {
    const { tiles, metaop, cell } = this;
    const say = (name, text) => { this.figure.querySelector(name).textContent = text; };
    if (!tiles.count) return say(".what", "There are no meta-ops: nothing is computed.");
    const [cells, across] = this.cellsOf(metaop);
    const row = Math.floor(cell / across) * tiles.unitRows, column = (cell % across) * tiles.unitColumns;
    const rows = [], columns = [];
    tiles.rowsOf(metaop, (r) => rows.push(r), row, Math.min(tiles.rows[metaop], row + tiles.unitRows));
    tiles.columnsOf(
      metaop, (c) => columns.push(c), column, Math.min(tiles.columns[metaop], column + tiles.unitColumns));
    const held = this.drawPoints(row, column, rows.length, columns.length);
    const points = tiles.unitRows * tiles.unitColumns;
    const lines = tiles.byOwner.first;
    say(".what", `Meta-op ${metaop} of ${tiles.count}, group ${tiles.group[metaop]}: ${tiles.rows[metaop]} x `
      + `${tiles.columns[metaop]} points, ${lines[metaop + 1] - lines[metaop]} nonzeros. Cell ${cell + 1} of ${cells}: `
      + `${held} nonzeros in ${points} points, fill ${((100 * held) / points).toFixed(1)} %.`);
    say(".rows", `rows ${ranges(rows)}`);
    say(".columns", `columns ${ranges(columns)}`);
  }

  drawPoints(row, column, rows, columns) {
    const { tiles, metaop } = this;
    const canvas = this.figure.querySelector("canvas");
    const [width, height] = fit(canvas, tiles.unitRows / tiles.unitColumns > 3 ? 3 : tiles.unitRows / tiles.unitColumns);
    const pen = canvas.getContext("2d");
    const [dx, dy] = [width / tiles.unitColumns, height / tiles.unitRows];
    pen.fillStyle = theme("none");
    pen.fillRect(0, 0, width, height);
    pen.fillStyle = css(colourOf(metaop), TINT);
    pen.fillRect(0, 0, columns * dx, rows * dy);
    pen.fillStyle = css(colourOf(metaop));
    const gap = Math.min(dx, dy) > 6 ? 1 : 0;
    let held = 0;
    for (let at = tiles.byOwner.first[metaop]; at < tiles.byOwner.first[metaop + 1]; at++) {
      const point = tiles.byOwner.order[at];
      const [r, c] = [tiles.rowPlace[point] - row, tiles.columnPlace[point] - column];
      if (r < 0 || c < 0 || r >= rows || c >= columns) continue;
      pen.fillRect(c * dx, r * dy, dx - gap, dy - gap);
      held++;
    }
    return held;
  }
}

// 3, 4, 5, 9 as "3 to 5, 9".
function ranges(numbers) {
  const parts = [];
  for (let i = 0, first = 0; i < numbers.length; i++) {
    if (numbers[i + 1] === numbers[i] + 1) continue;
    parts.push(first === i ? `${numbers[i]}` : `${numbers[first]} to ${numbers[i]}`);
    first = i + 1;
  }
  return parts.join(", ");
}

const DATA = JSON.parse(document.getElementById("data").textContent);
const shownMaps = new Set();

async function showMap(element) {
  if (shownMaps.has(element)) return;
  shownMaps.add(element);
  const { map } = DATA[Number(element.dataset.map)];
  const names = Object.keys(map.arrays);
  const values = await Promise.all(names.map((name) => unpack(map.arrays[name])));
  const tiles = new Tiles(map, Object.fromEntries(names.map((name, i) => [name, values[i]])));
  const extent = [0, 1].map((side) => Math.max(map.shape[side], map.packed[side], 1));
  const pick = (metaop, row, column) => cell.showAt(metaop, row, column);
  const views = ["before", "after"].map(
    (name) => new MapView(element.querySelector(`.${name}`), tiles, tiles[name](), extent, pick));
  const cell = new CellView(element.querySelector(".tile"), tiles, (i) => views.forEach((view) => view.select(i)));
  cell.draw();
  const redraw = () => { views.forEach((view) => view.resize()); cell.draw(); };
  window.addEventListener("resize", redraw);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  element.dataset.points = tiles.row.length;
}

// Maps are made when their operator is opened: many operators, one page.
async function showOpenMaps() {
  for (const element of document.querySelectorAll("details[open] .map")) await showMap(element);
}

for (const details of document.querySelectorAll("details.operator"))
  details.addEventListener("toggle", showOpenMaps);
for (const link of document.querySelectorAll("#operators a"))
  link.addEventListener("click", () => { document.querySelector(link.getAttribute("href")).open = true; });
showOpenMaps().then(() => { document.documentElement.dataset.ready = "maps"; });
