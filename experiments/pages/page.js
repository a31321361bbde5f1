"use strict";
// Without this script a page stands as it was written: tables in their order, plots with their titles.

// Tables sort by their headers.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const down = header.getAttribute("aria-sort") === "ascending";
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", down ? "descending" : "ascending");
      sort(table.tBodies[0], column, header.hasAttribute("data-number"), down ? -1 : 1);
    });
  });
}

function sort(body, column, numeric, sign) {
  const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const compare = (a, b) => {
    if (!numeric) return sign * a.localeCompare(b, "en", { numeric: true });
    if (a === "" || b === "") return (a === "") - (b === ""); // what has no value goes last
    return sign * (Number(a) - Number(b));
  };
  const rows = [...body.rows].map((row) => [key(row), row]).sort(([a], [b]) => compare(a, b));
  body.append(...rows.map(([, row]) => row));
}

// A field that leaves only the rows of a table that hold its words.
for (const field of document.querySelectorAll("input[data-filter]")) {
  const rows = [...document.getElementById(field.dataset.filter).tBodies[0].rows];
  const told = document.getElementById(field.getAttribute("aria-describedby"));
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/);
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    told.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
  });
}

// Plots answer the pointer and, once focused, the arrow keys: what a mark says stands in one tip for all.
const tip = document.getElementById("tip");
const NEAR = 16; // px within which a mark is meant

function say(text, x, y) {
  tip.textContent = text;
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = Math.min(Math.max(8, x + 14), document.documentElement.clientWidth - width - 8);
  const top = y - height - 14 < 8 ? y + 18 : y - height - 14;
  tip.style.transform = `translate(${left}px, ${top}px)`;
}

class Plot {
  constructor(svg) {
    this.svg = svg;
    this.at = -1;
    this.marks = svg.dataset.points ? this.curve() : this.dots();
    if (!this.marks.length) return;
    svg.tabIndex = 0;
    svg.setAttribute("role", "application");
    svg.setAttribute("aria-roledescription", "plot");
    svg.addEventListener("pointermove", (event) => this.show(this.nearest(event)));
    svg.addEventListener("pointerdown", (event) => this.show(this.nearest(event)));
    svg.addEventListener("pointerleave", () => this.show(-1));
    svg.addEventListener("blur", () => this.show(-1));
    svg.addEventListener("keydown", (event) => this.key(event));
  }

  // Elements with a title. The browser's own tip would stand beside ours: the title becomes data.
  dots() {
    return [...this.svg.querySelectorAll("title")].map((title) => {
      const element = title.parentElement;
      element.dataset.tip = title.textContent;
      title.remove();
      return { element, text: element.dataset.tip };
    });
  }

  // Places along x, shown by a line.
  curve() {
    this.dots();
    const [top, bottom] = JSON.parse(this.svg.dataset.span);
    this.rule = document.createElementNS(this.svg.namespaceURI, "path");
    this.rule.setAttribute("class", "rule");
    this.svg.append(this.rule);
    return JSON.parse(this.svg.dataset.points).map(([x, text]) => ({ x, text, top, bottom }));
  }

  place(mark) {
    if (mark.element) {
      const box = mark.element.getBoundingClientRect();
      return [box.x + box.width / 2, box.y + box.height / 2];
    }
    const point = new DOMPoint(mark.x, mark.top).matrixTransform(this.svg.getScreenCTM());
    return [point.x, point.y];
  }

  nearest(event) {
    const own = event.target.closest("[data-tip]");
    let best = this.marks.findIndex((mark) => mark.element && mark.element === own);
    if (best >= 0) return best;
    let least = this.rule ? Infinity : NEAR;
    this.marks.forEach((mark, index) => {
      const [x, y] = this.place(mark);
      const away = this.rule ? Math.abs(x - event.clientX) : Math.hypot(x - event.clientX, y - event.clientY);
      if (away < least) [best, least] = [index, away];
    });
    return best;
  }

  show(index) {
    this.marks[this.at]?.element?.classList.remove("lit");
    this.at = index;
    const mark = this.marks[index];
    if (this.rule) this.rule.setAttribute("d", mark ? `M${mark.x} ${mark.top}V${mark.bottom}` : "");
    if (!mark) {
      tip.hidden = true;
      return;
    }
    mark.element?.classList.add("lit");
    say(mark.text, ...this.place(mark));
  }

  key(event) {
    const last = this.marks.length - 1;
    const stride = event.shiftKey ? 10 : 1;
    const to = {
      ArrowRight: Math.min(last, this.at + stride), ArrowDown: Math.min(last, this.at + stride),
      ArrowLeft: Math.max(0, this.at - stride), ArrowUp: Math.max(0, this.at - stride),
      Home: 0, End: last, Escape: -1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.show(to);
  }
}

for (const svg of document.querySelectorAll("svg.plot")) new Plot(svg);

// The contents tell where one is.
const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    for (const link of links.values()) link.removeAttribute("aria-current");
    links.get(target.id).setAttribute("aria-current", "true");
  }
}, { rootMargin: "-20% 0px -70% 0px" });
for (const id of links.keys()) seen.observe(document.getElementById(id));

// On paper everything is open.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details:not([open])")) {
    details.open = true;
    details.dataset.closed = "";
  }
});
addEventListener("afterprint", () => {
  for (const details of document.querySelectorAll("details[data-closed]")) {
    details.open = false;
    delete details.dataset.closed;
  }
});
document.documentElement.dataset.ready = "";
