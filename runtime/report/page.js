// Tables sort by a click on a header; a second click turns the order.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    if (!head.textContent) return;
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const turn = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", turn === 1 ? "ascending" : "descending");
      const key = (row) => row.cells[place].textContent;
      // "unpruned" comes before "50% cut"; a dash, where nothing was measured, after all numbers.
      const number = (text) => (text.startsWith("unpruned") ? -1 : text === "-" ? Infinity : parseFloat(text) * unit(text));
      const unit = (text) => (text.endsWith("GiB") ? 1024 : 1);
      const compare = (a, b) => number(key(a)) - number(key(b)) || key(a).localeCompare(key(b));
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort((a, b) => turn * compare(a, b)));
    });
  });
}
