"use strict";
// Tables can be sorted. The page is complete without this script.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const numeric = head.classList.contains("num");
      const up = head.getAttribute("aria-sort")
        ? head.getAttribute("aria-sort") === "descending" : !numeric;
      const body = table.tBodies[0];
      const value = row => row.cells[place].dataset.v ?? row.cells[place].textContent;
      const missing = row => numeric && value(row) === "";
      const order = (a, b) => numeric
        ? Number(value(a)) - Number(value(b))
        : value(a).localeCompare(value(b), "en", { numeric: true });
      body.append(...[...body.rows].sort(
        (a, b) => missing(a) - missing(b) || (up ? order(a, b) : order(b, a))));
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
    });
  });
}
