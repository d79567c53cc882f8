// Searches the list of cases.
"use strict";

(() => {
  const filter = document.getElementById("filter");
  filter.addEventListener("input", () => {
    const wanted = filter.value.toLowerCase();
    for (const button of document.querySelectorAll("#cases [data-case]")) {
      button.closest("li").hidden = !button.textContent.toLowerCase().includes(wanted);
    }
  });
})();
