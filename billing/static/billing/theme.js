/* Runs before the first paint, so a chosen theme never flashes. The choice stays on this device. */
(() => {
  const chosen = localStorage.getItem("theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
