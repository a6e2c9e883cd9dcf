/* A list: select rows, count them, and walk with J, K, X and Enter. */

const table = document.getElementById("result_list");
const bar = document.querySelector("[data-actions]");
const toggle = document.getElementById("action-toggle");
const boxes = [...document.querySelectorAll("#result_list .action-select")];
const rows = table ? [...table.querySelectorAll("tbody tr")] : [];
let cursor = -1;

function showSelection() {
  const chosen = boxes.filter((box) => box.checked);
  boxes.forEach((box) => box.closest("tr").classList.toggle("selected", box.checked));
  if (bar) {
    bar.hidden = chosen.length === 0;
    bar.querySelector("[data-count]").textContent = `${chosen.length} selected`;
  }
  if (toggle) {
    toggle.checked = chosen.length > 0 && chosen.length === boxes.length;
    toggle.indeterminate = chosen.length > 0 && chosen.length < boxes.length;
  }
}

toggle?.addEventListener("change", () => {
  boxes.forEach((box) => { box.checked = toggle.checked; });
  showSelection();
});
boxes.forEach((box) => box.addEventListener("change", showSelection));
showSelection();

function moveTo(index) {
  if (index < 0 || index >= rows.length) return;
  rows[cursor]?.classList.remove("cursor");
  cursor = index;
  rows[cursor].classList.add("cursor");
  rows[cursor].scrollIntoView({ block: "nearest" });
  rows[cursor].querySelector("a")?.focus({ preventScroll: true });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input:not([type=checkbox]), textarea, select, dialog")) return;
  if (event.key === "j") moveTo(cursor + 1);
  else if (event.key === "k") moveTo(cursor - 1);
  else if (event.key === "x" && cursor >= 0) {
    const box = rows[cursor].querySelector(".action-select");
    if (box) {
      box.checked = !box.checked;
      showSelection();
    }
  }
});
