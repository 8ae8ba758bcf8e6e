"use strict";
// Tables can be sorted and commands copied. The page is complete without this script.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    const button = document.createElement("span");  // browsers print no <button> in repeated heads
    button.role = "button";
    button.tabIndex = 0;
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("keydown", event => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); button.click(); }
    });
    button.addEventListener("click", () => {
      const numeric = head.classList.contains("num");
      const up = head.getAttribute("aria-sort")
        ? head.getAttribute("aria-sort") === "descending" : !numeric;
      const body = table.tBodies[0];
      const value = row => row.cells[place].dataset.v ?? row.cells[place].textContent;
      const order = (a, b) => numeric
        ? Number(value(a)) - Number(value(b))
        : value(a).localeCompare(value(b), "en", { numeric: true });
      body.append(...[...body.rows].sort((a, b) => up ? order(a, b) : order(b, a)));
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
    });
  });
}
for (const box of document.querySelectorAll(".command")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "copy";
  box.append(button);
  button.addEventListener("click", () => {
    const code = box.querySelector("pre");
    const select = () => getSelection().selectAllChildren(code);
    const said = word => { button.textContent = word; setTimeout(() => { button.textContent = "copy"; }, 1500); };
    if (!navigator.clipboard) { select(); return; }
    navigator.clipboard.writeText(code.textContent).then(() => said("copied"), select);
  });
}
