/* The frame of every page: theme, search key, keyboard sheet, pockets that close. */

const NAMES = {
  auto: "Theme: follows the system",
  light: "Theme: light",
  dark: "Theme: dark",
};

function theme() {
  return document.documentElement.dataset.theme || "auto";
}

function setTheme(name) {
  if (name === "auto") {
    delete document.documentElement.dataset.theme;
    localStorage.removeItem("theme");
  } else {
    document.documentElement.dataset.theme = name;
    localStorage.setItem("theme", name);
  }
  describeTheme();
}

function describeTheme() {
  const button = document.getElementById("theme-toggle");
  if (!button) return;
  button.setAttribute("aria-label", NAMES[theme()]);
  button.title = NAMES[theme()];
  button.querySelector("use").setAttribute("href", theme() === "light" ? "#i-sun" : "#i-moon");
}

function isTyping(target) {
  return target.closest("input, textarea, select, [contenteditable]") !== null;
}

function focusSearch() {
  const field = document.querySelector("#site-search input");
  if (field) {
    field.focus();
    field.select();
  }
}

function openSheet() {
  document.getElementById("keyboard-sheet")?.showModal();
}

document.getElementById("theme-toggle")?.addEventListener("click", () => {
  const order = ["auto", "light", "dark"];
  setTheme(order[(order.indexOf(theme()) + 1) % order.length]);
});
describeTheme();

document.querySelectorAll("[data-open-sheet]").forEach((button) => {
  button.addEventListener("click", openSheet);
});

document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
    event.preventDefault();
    focusSearch();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  if (event.key === "/") {
    event.preventDefault();
    focusSearch();
  } else if (event.key === "?") {
    openSheet();
  } else if (event.key === "p") {
    document.querySelector("[data-key-p]")?.click();
  } else if (event.key === "j" || event.key === "k") {
    document.querySelector(`[data-key-${event.key}]`)?.click();
  }
});

/* One pocket open at a time; Escape and a click elsewhere close it. */
const pockets = [...document.querySelectorAll("details[data-pocket]")];
pockets.forEach((pocket) => {
  pocket.addEventListener("toggle", () => {
    if (pocket.open) pockets.forEach((other) => { if (other !== pocket) other.open = false; });
  });
});
document.addEventListener("click", (event) => {
  pockets.forEach((pocket) => { if (!pocket.contains(event.target)) pocket.open = false; });
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  pockets.filter((pocket) => pocket.open).forEach((pocket) => {
    pocket.open = false;
    pocket.querySelector("summary").focus();
  });
});

/* Long explanations open for printing and close again. */
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details.disclose:not([open])")];
  opened.forEach((details) => { details.open = true; });
});
addEventListener("afterprint", () => {
  opened.forEach((details) => { details.open = false; });
});
