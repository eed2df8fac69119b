"use strict";
// Tables sort by a click on a header, or by Enter or space on it: its button is a button.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const number = head.classList.contains("number");
    const before = head.getAttribute("aria-sort");
    const direction = before ? (before === "ascending" ? "descending" : "ascending") : number ? "descending" : "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    const key = (row) => {
      const cell = row.cells[column];
      if (!number) return cell.querySelector("bdi").textContent;
      return cell.dataset.sort === "" ? NaN : Number(cell.dataset.sort);
    };
    // Floors and the ceiling are in a second body, which stays as it is.
    const rows = [...table.tBodies[0].rows].map((row) => [key(row), row]);
    rows.sort(([a], [b]) => {
      if (!number) return sign * a.localeCompare(b);
      // Empty cells stay last in both directions.
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
      return sign * (a - b);
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }));
}
// Buttons that show one set or all.
const choices = document.querySelector("nav.switch");
if (choices) {
  choices.hidden = false;
  const show = (number) => {
    for (const set of document.querySelectorAll("article.set")) set.hidden = number !== "" && set.dataset.number !== number;
    for (const button of choices.children) button.setAttribute("aria-pressed", String(button.dataset.set === number));
  };
  choices.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) show(button.dataset.set);
  });
  for (const link of document.querySelectorAll("a[data-shows]")) link.addEventListener("click", () => show(""));
}
