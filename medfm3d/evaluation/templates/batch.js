// Sorts and searches the table of scans. Only the first rows of what was found are in the page, more on request, so that
// thousands of them stay quick.
"use strict";

(() => {
  const AT_ONCE = 500;
  const table = document.getElementById("scans");
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const rows = [...body.rows].map((element) => ({ element, text: element.textContent.toLowerCase() }));
  const part = (id) => document.getElementById(id);
  let ordered = rows;
  let most = AT_ONCE;

  const value = (row, column) => {
    const cell = row.element.cells[column];
    if (headings[column].classList.contains("text")) return cell.textContent.trim() || null;
    return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  };

  // What has no value comes last in either direction.
  function sort(column) {
    const heading = headings[column];
    const text = heading.classList.contains("text");
    const falling = heading.getAttribute("aria-sort") === (text ? "ascending" : "descending") ? text : !text;
    for (const other of headings) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const collator = new Intl.Collator(undefined, { numeric: true });
    const compare = text ? collator.compare : (a, b) => a - b;
    ordered = rows.map((row) => [value(row, column), row]).sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return falling ? compare(b, a) : compare(a, b);
    }).map(([, row]) => row);
    show();
  }

  function show() {
    const wanted = part("find").value.trim().toLowerCase();
    const marks = ["failed", "surprising"].filter((mark) => part(`only-${mark}`)?.checked);
    const found = ordered.filter(({ element, text }) =>
      text.includes(wanted) && (!marks.length || marks.some((mark) => mark in element.dataset)));
    body.replaceChildren(...found.slice(0, most).map((row) => row.element));
    part("more").hidden = found.length <= most;
    part("count").textContent = found.length === rows.length && found.length <= most ? "" : `${Math.min(most, found.length)} of ${found.length} shown`;
  }

  headings.forEach((heading, column) => heading.firstElementChild.addEventListener("click", () => sort(column)));
  for (const id of ["find", "only-failed", "only-surprising"]) {
    part(id)?.addEventListener("input", () => { most = AT_ONCE; show(); });
  }
  part("more").addEventListener("click", () => { most += AT_ONCE; show(); });
  show();
})();
