"use strict";
// Filters only: without this script the page says everything, too.
for (const bar of document.querySelectorAll(".filters")) {
  const scope = document.getElementById(bar.dataset.scope);
  const items = [...scope.querySelectorAll("[data-kind]")];
  const groups = [...scope.querySelectorAll("[data-group]")];
  const search = bar.querySelector("input[type=search]");
  const kinds = [...bar.querySelectorAll("input[type=checkbox]")];
  const told = bar.querySelector("output");
  const words = items.map((item) => item.textContent.toLowerCase());
  const apply = () => {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const on = new Set(kinds.filter((kind) => kind.checked).map((kind) => kind.value));
    let shown = 0;
    items.forEach((item, index) => {
      item.hidden = !(on.has(item.dataset.kind) && wanted.every((word) => words[index].includes(word)));
      if (!item.hidden) shown += 1;
    });
    for (const group of groups) group.hidden = !group.querySelector("[data-kind]:not([hidden])");
    if (wanted.length) for (const folded of scope.querySelectorAll("details")) folded.open = true;
    told.textContent = shown + " of " + items.length + " shown";
  };
  bar.addEventListener("input", apply);
  bar.hidden = false;
  apply();
}
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});
