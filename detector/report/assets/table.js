// Tables sort by a click on a head (numbers first descending, undefined ones always last) and filter by name.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button")?.addEventListener("click", () => {
      const number = head.dataset.type === "number";
      const before = head.getAttribute("aria-sort");
      const order = before ? (before === "ascending" ? "descending" : "ascending") : number ? "descending" : "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const key = (row) => row.cells[column].dataset.v ?? "";
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        return sign * (number ? x - y : x.localeCompare(y, undefined, { numeric: true }));
      });
      body.append(...rows);
    });
  });
}

for (const input of document.querySelectorAll("[data-filters]")) {
  const table = $(input.dataset.filters);
  const shown = document.querySelector(`[data-count="${input.dataset.filters}"]`);
  const filter = () => {
    const wanted = input.value.trim().toLocaleLowerCase();
    let n = 0;
    for (const row of table.tBodies[0].rows) {
      row.hidden = !row.cells[0].dataset.v.toLocaleLowerCase().includes(wanted);
      n += !row.hidden;
    }
    const all = table.tBodies[0].rows.length;
    shown.textContent = n === all ? plural(all, "class").replace("classs", "classes") : `${count(n)} of ${count(all)} classes`;
  };
  input.addEventListener("input", filter);
  filter();
}
