"use strict";
// Tables sort by their headers; without this script they stand as they were written, worst cases first.
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
