/* A form that was touched asks before the page is left. */

const form = document.querySelector("#content-main form[method=post]");
let touched = false;

form?.addEventListener("input", () => { touched = true; });
form?.addEventListener("submit", () => { touched = false; });
addEventListener("beforeunload", (event) => {
  if (touched) event.preventDefault();
});
