// Makes <div class="ctr-table"><table>...</table></div> sortable by its headers and filterable by a text box.
// Without this script (in a notebook, say) the table is a plain one. A cell's data-value is what it sorts by and
// its data-text what the filter reads, where they differ from the text shown.
(() => {
  "use strict";
  const ROWS_WORTH_A_FILTER = 8;

  const textOf = (cell) => cell.dataset.text ?? cell.textContent.trim();
  const valueOf = (cell) => cell.dataset.value ?? textOf(cell);

  function compare(a, b, numeric) {
    if (a === "" || b === "") return (a === "") - (b === ""); // missing values come last, up or down
    return numeric ? Number(a) - Number(b) : a.localeCompare(b, undefined, { numeric: true });
  }

  function sortBy(table, header, column) {
    const down = header.getAttribute("aria-sort") === "ascending";
    table.querySelectorAll("th[aria-sort]").forEach((th) => th.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const numeric = header.dataset.type === "number";
    const rows = [...body.rows].map((row) => ({ row, value: valueOf(row.cells[column]) }));
    rows.sort((a, b) => {
      const order = compare(a.value, b.value, numeric);
      return down && a.value !== "" && b.value !== "" ? -order : order;
    });
    body.append(...rows.map((entry) => entry.row));
  }

  function addSorting(table) {
    [...table.tHead.rows[0].cells].forEach((header, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.title = "Sort by this column";
      button.append(...header.childNodes);
      button.addEventListener("click", () => sortBy(table, header, column));
      header.append(button);
    });
  }

  // Every word must occur in the row, in any order and case.
  function applyFilter(rows, query, count) {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { row, text } of rows) {
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    count.textContent = words.length ? `${shown} of ${rows.length} rows` : `${rows.length} rows`;
  }

  function addFilter(box, table) {
    const rows = [...table.tBodies[0].rows].map((row) => ({
      row, text: [...row.cells].map(textOf).join(" ").toLowerCase(),
    }));
    const input = document.createElement("input");
    input.type = "search";
    input.placeholder = "Filter rows, e.g. a name";
    input.setAttribute("aria-label", "Filter the rows of this table");
    const count = document.createElement("span");
    count.className = "ctr-count";
    count.setAttribute("role", "status");
    input.addEventListener("input", () => applyFilter(rows, input.value, count));
    const bar = document.createElement("div");
    bar.className = "ctr-filter";
    bar.append(input, count);
    box.prepend(bar);
    applyFilter(rows, "", count);
  }

  function start() {
    for (const box of document.querySelectorAll(".ctr-table")) {
      const table = box.querySelector("table");
      addSorting(table);
      if (table.tBodies[0].rows.length >= ROWS_WORTH_A_FILTER) addFilter(box, table);
      box.dataset.ready = "yes";
    }
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
