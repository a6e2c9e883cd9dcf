/* A form that was touched asks before the page is left. */

/* A picked row is searched in a box that a script makes; it is named like the field it stands for. */
addEventListener("load", () => {
  document.querySelectorAll("select.admin-autocomplete").forEach((select) => {
    const label = document.querySelector(`label[for="${select.id}"]`);
    const box = select.nextElementSibling?.querySelector(".select2-selection");
    if (!label || !box) return;
    label.id ||= `${select.id}_label`;
    box.setAttribute("aria-labelledby", `${label.id} ${box.getAttribute("aria-labelledby") || ""}`);
  });
});

const form = document.querySelector("#content-main form[method=post]");
let touched = false;

form?.addEventListener("input", () => { touched = true; });
form?.addEventListener("submit", () => { touched = false; });
addEventListener("beforeunload", (event) => {
  if (touched) event.preventDefault();
});
