// The slice viewer: volumes come as two sheets of axial slices, from which all three planes are cut.
const AXES = { axial: [0, 1, 2], coronal: [1, 0, 2], sagittal: [2, 0, 1] }; // what a plane cuts, its rows, its columns
const VEIL = [204, 121, 167];
const NOTCH = 40; // px of a wheel that move one slice
// Marching squares: midpoints of a cell's sides, from where to where the outline runs, by which corners are inside.
const [TOP, RIGHT, BOTTOM, LEFT] = [[1, 0], [2, 1], [1, 2], [0, 1]];
const RUNS = [
  [], [[TOP, LEFT]], [[RIGHT, TOP]], [[RIGHT, LEFT]], [[BOTTOM, RIGHT]], [[TOP, LEFT], [BOTTOM, RIGHT]],
  [[BOTTOM, TOP]], [[BOTTOM, LEFT]], [[LEFT, BOTTOM]], [[TOP, BOTTOM]], [[RIGHT, TOP], [LEFT, BOTTOM]],
  [[RIGHT, BOTTOM]], [[LEFT, RIGHT]], [[TOP, RIGHT]], [[LEFT, TOP]], [],
];

// The voxels of a sheet, one byte each.
async function unrolled(text, columns, [depth, height, width]) {
  const picture = new Image();
  picture.src = `data:image/webp;base64,${text}`;
  await picture.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [picture.width, picture.height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  const pixels = context.getImageData(0, 0, picture.width, picture.height).data;
  const voxels = new Uint8Array(depth * height * width);
  let at = 0;
  for (let z = 0; z < depth; z++) {
    for (let y = 0; y < height; y++) {
      const row = Math.floor(z / columns) * height + y;
      let from = 4 * (row * picture.width + (z % columns) * width);
      for (let x = 0; x < width; x++, from += 4) voxels[at++] = pixels[from];
    }
  }
  return voxels;
}

// Closed outlines of a mask, in half pixels.
function outlines(inside, height, width) {
  const wide = 2 * width + 4;
  const next = new Map();
  for (let i = -1; i < height; i++) {
    for (let j = -1; j < width; j++) {
      const corners = inside(i, j) | (inside(i, j + 1) << 1) | (inside(i + 1, j + 1) << 2) | (inside(i + 1, j) << 3);
      for (const [from, to] of RUNS[corners]) {
        const [start, end] = [from, to].map(([x, y]) => (2 * i + 3 + y) * wide + 2 * j + 3 + x);
        next.set(start, [...(next.get(start) ?? []), end]);
      }
    }
  }
  const found = [];
  while (next.size) {
    const line = [];
    let [at] = next.keys();
    while (next.has(at)) {
      line.push([(at % wide) - 2, Math.floor(at / wide) - 2]);
      const ends = next.get(at);
      if (ends.length === 1) next.delete(at);
      at = ends.pop();
    }
    found.push(line);
  }
  return found;
}

class Viewer {
  constructor(root) {
    this.root = root;
    this.cases = [...root.querySelectorAll("[data-case]")];
    const layers = ["label", "prediction", "uncertainty", "cross"];
    this.layers = Object.fromEntries(layers.map((name) => [name, document.getElementById(`show-${name}`)]));
    this.planes = [...root.querySelectorAll(".plane")].map((cell) => ({
      cell,
      name: cell.dataset.plane,
      canvas: cell.querySelector("canvas"),
      slider: cell.querySelector("input"),
      told: cell.querySelector("output"),
      pixels: document.createElement("canvas"),
      rolled: 0,
    }));
    for (const box of Object.values(this.layers)) box.addEventListener("change", () => this.draw());
    this.cases.forEach((button, index) => {
      button.addEventListener("click", () => this.open(button));
      button.addEventListener("keydown", (event) => {
        const to = this.cases[index + ({ ArrowDown: 1, ArrowUp: -1 }[event.key] ?? NaN)];
        if (!to) return;
        event.preventDefault();
        to.focus();
        this.open(to);
      });
    });
    for (const plane of this.planes) this.listen(plane);
    for (const link of document.querySelectorAll("[data-view]")) {
      const button = this.cases.find((each) => each.dataset.case === link.dataset.view);
      if (!button) continue;
      link.addEventListener("click", (event) => {
        event.preventDefault();
        this.open(button);
        root.scrollIntoView();
        button.focus({ preventScroll: true });
      });
    }
    root.hidden = false;
    new ResizeObserver(() => this.draw()).observe(this.planes[0].cell);
    this.open(this.cases[0]);
  }

  listen(plane) {
    const [axis, rows, columns] = AXES[plane.name];
    plane.slider.addEventListener("input", () => this.move({ [axis]: Number(plane.slider.value) }));
    plane.canvas.addEventListener("wheel", (event) => {
      if (event.ctrlKey || !this.volume) return;
      plane.rolled += event.deltaY * (event.deltaMode ? NOTCH : 1);
      const steps = Math.trunc(plane.rolled / NOTCH);
      const to = this.at[axis] + (steps || Math.sign(event.deltaY));
      if (to < 0 || to >= this.volume.shape[axis]) return; // at an end the page scrolls on
      event.preventDefault();
      plane.rolled -= steps * NOTCH;
      if (steps) this.move({ [axis]: to });
    }, { passive: false });
    const meet = (event) => {
      if (!event.buttons || !this.volume) return;
      const box = plane.canvas.getBoundingClientRect();
      const place = (share, axis) => Math.min(Math.max(0, Math.floor(share * this.volume.shape[axis])), this.volume.shape[axis] - 1);
      this.move({
        [rows]: place((event.clientY - box.y) / box.height, rows),
        [columns]: place((event.clientX - box.x) / box.width, columns),
      });
    };
    plane.canvas.addEventListener("pointerdown", meet);
    plane.canvas.addEventListener("pointermove", meet);
  }

  async open(button) {
    for (const each of this.cases) each.setAttribute("aria-pressed", each === button);
    this.wanted = button;
    const { shape, spacing, columns, image, masks } = button.dataset;
    const size = shape.split(" ").map(Number);
    const [grey, marks] = await Promise.all([image, masks].map((text) => unrolled(text, Number(columns), size)));
    if (this.wanted !== button) return; // another one was opened meanwhile
    this.volume = { shape: size, spacing: spacing.split(" ").map(Number), grey, marks };
    const [site, name] = JSON.parse(button.dataset.case);
    this.root.querySelector(".now").textContent = `${name} of ${site}, Dice ${button.querySelector("b").textContent}`;
    this.at = this.widest();
    for (const plane of this.planes) plane.slider.max = size[AXES[plane.name][0]] - 1;
    this.draw();
    this.root.dataset.open = button.dataset.case;
  }

  // Where each plane has most of the organ: of the label, or of the prediction where there is none.
  widest() {
    const { shape, marks } = this.volume;
    const bit = marks.some((mark) => mark & 1) ? 1 : 2;
    const counts = shape.map((length) => new Uint32Array(length));
    let at = 0;
    for (let z = 0; z < shape[0]; z++) {
      for (let y = 0; y < shape[1]; y++) {
        for (let x = 0; x < shape[2]; x++) {
          if (marks[at++] & bit) [z, y, x].forEach((place, axis) => counts[axis][place]++);
        }
      }
    }
    return counts.map((count, axis) => (count.some(Boolean) ? count.indexOf(Math.max(...count)) : shape[axis] >> 1));
  }

  move(places) {
    Object.assign(this.at, places);
    this.draw();
  }

  draw() {
    if (this.volume) for (const plane of this.planes) this.cut(plane);
  }

  cut(plane) {
    const { shape, spacing, grey, marks } = this.volume;
    const [axis, rows, columns] = AXES[plane.name];
    const strides = [shape[1] * shape[2], shape[2], 1];
    const [height, width] = [shape[rows], shape[columns]];
    const index = (i, j) => this.at[axis] * strides[axis] + i * strides[rows] + j * strides[columns];
    plane.slider.value = this.at[axis];
    plane.told.textContent = `${this.at[axis] + 1} / ${shape[axis]}`;
    plane.slider.setAttribute("aria-valuetext", `slice ${this.at[axis] + 1} of ${shape[axis]}`);
    plane.canvas.setAttribute("aria-label", `${plane.name} slice ${this.at[axis] + 1} of ${shape[axis]}`);

    [plane.pixels.width, plane.pixels.height] = [width, height];
    const data = new ImageData(width, height);
    for (let i = 0, to = 0; i < height; i++) {
      for (let j = 0; j < width; j++, to += 4) {
        const from = index(i, j);
        const veil = this.layers.uncertainty.checked ? ((marks[from] >> 2) / 15) * 0.8 : 0;
        for (let c = 0; c < 3; c++) data.data[to + c] = grey[from] * (1 - veil) + VEIL[c] * veil;
        data.data[to + 3] = 255;
      }
    }
    plane.pixels.getContext("2d").putImageData(data, 0, 0);

    const [high, wide] = [height * spacing[rows], width * spacing[columns]];
    const side = plane.cell.clientWidth;
    const scale = Math.min(side / wide, side / (plane === this.planes[0] ? 4 / 3 : 1) / high);
    const sharp = window.devicePixelRatio || 1;
    Object.assign(plane.canvas.style, { width: `${wide * scale}px`, height: `${high * scale}px` });
    [plane.canvas.width, plane.canvas.height] = [wide, high].map((length) => Math.round(length * scale * sharp));
    const context = plane.canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(plane.pixels, 0, 0, plane.canvas.width, plane.canvas.height);
    const [sx, sy] = [plane.canvas.width / width, plane.canvas.height / height];
    const colours = getComputedStyle(this.root);
    if (this.layers.cross.checked) {
      context.strokeStyle = "rgb(255 255 255 / 0.35)";
      context.lineWidth = sharp;
      context.beginPath();
      const [x, y] = [(this.at[columns] + 0.5) * sx, (this.at[rows] + 0.5) * sy];
      context.moveTo(x, 0);
      context.lineTo(x, plane.canvas.height);
      context.moveTo(0, y);
      context.lineTo(plane.canvas.width, y);
      context.stroke();
    }
    for (const [layer, bit, dash] of [["label", 1, []], ["prediction", 2, [4 * sharp, 2 * sharp]]]) {
      if (!this.layers[layer].checked) continue;
      const inside = (i, j) => (i >= 0 && j >= 0 && i < height && j < width && marks[index(i, j)] & bit ? 1 : 0);
      context.strokeStyle = colours.getPropertyValue(`--${layer}`);
      context.lineWidth = 1.6 * sharp;
      context.lineJoin = "round";
      context.setLineDash(dash);
      context.beginPath();
      for (const line of outlines(inside, height, width)) {
        line.forEach(([x, y], number) => context[number ? "lineTo" : "moveTo"]((x / 2) * sx, (y / 2) * sy));
        context.closePath();
      }
      context.stroke();
      context.setLineDash([]);
    }
  }
}

const viewer = document.getElementById("viewer");
if (viewer) new Viewer(viewer);
