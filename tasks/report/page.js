
"use strict";
// What a reader does: sort, filter, point at a part. Without it the page shows the same.
const tip = document.getElementById("tip");
let stepped = null; // shows the part of a treemap that the keys came to

function show(part, x, y) {
  tip.textContent = part.dataset.tip;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = Math.min(x + 14, document.documentElement.clientWidth - box.width - 6);
  const below = y + 18 + box.height < window.innerHeight;
  // By the object model, which no policy on inline styles concerns.
  tip.style.left = Math.max(6, left) + "px";
  tip.style.top = (below ? y + 18 : Math.max(4, y - box.height - 12)) + "px";
}

document.addEventListener("pointermove", (event) => {
  const part = event.target.closest && event.target.closest("[data-tip]");
  if (part) show(part, event.clientX, event.clientY);
  else if (!stepped) tip.hidden = true;
});
document.addEventListener("pointerleave", () => { tip.hidden = true; });
document.addEventListener("scroll", () => {
  if (stepped) stepped();
  else tip.hidden = true;
}, { passive: true });

for (const map of document.querySelectorAll(".map")) {
  const cells = [...map.querySelectorAll(".cell")];
  let at = -1;
  const mark = (to) => {
    if (at >= 0) cells[at].classList.remove("at");
    at = to;
    stepped = at < 0 ? null : () => {
      const box = cells[at].getBoundingClientRect();
      show(cells[at], box.left, box.top + Math.min(box.height / 2, 40));
    };
    if (at < 0) { tip.hidden = true; return; }
    cells[at].classList.add("at");
    stepped();
  };
  map.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1,
                    Home: 0, End: cells.length - 1, Escape: -1 };
    if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey || !cells.length) return;
    event.preventDefault();
    mark(event.key === "Escape" ? -1 : Math.max(0, Math.min(cells.length - 1, steps[event.key])));
  });
  map.addEventListener("blur", () => mark(-1));
}

const text = (cell) => cell.dataset.value ?? cell.textContent.trim();
const order = new Intl.Collator("en", { numeric: true });

function sort(table, heading, column) {
  const down = heading.getAttribute("aria-sort") === "ascending"
    || (!heading.hasAttribute("aria-sort") && heading.classList.contains("n"));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  const rows = [...table.tBodies[0].rows].map((row) => [text(row.cells[column]), row]);
  rows.sort((one, other) => order.compare(one[0], other[0]) * (down ? -1 : 1));
  table.tBodies[0].append(...rows.map((pair) => pair[1]));
}

for (const table of document.querySelectorAll("table[data-sorts]")) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sort(table, heading, column));
    heading.append(button);
  });
}

const fields = [...document.querySelectorAll("input[data-filters]")];
for (const field of fields) {
  const rows = [...document.getElementById(field.dataset.filters).tBodies[0].rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const line = field.closest(".filter");
  line.hidden = false;
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/);
    let shown = 0;
    rows.forEach((row, number) => {
      row.hidden = !words.every((word) => texts[number].includes(word));
      shown += !row.hidden;
    });
    line.querySelector("output").textContent = `${shown} of ${rows.length}`;
  });
}
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input")) {
    if (event.key === "Escape") {
      event.target.value = "";
      event.target.dispatchEvent(new Event("input"));
      event.target.blur();
    }
  } else if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey) {
    const next = fields.find((one) => one.getBoundingClientRect().bottom > 0) || fields[0];
    if (next) { event.preventDefault(); next.focus(); next.scrollIntoView({ block: "center" }); }
  }
});
