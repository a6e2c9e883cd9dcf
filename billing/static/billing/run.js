/* A run's page, live: asks for its progress every two seconds, never while the page is hidden. */

const page = document.querySelector("[data-progress-url]");
const EVERY_MS = 2000;
let timer = null;

function say(name, text) {
  const place = page.querySelector(`[data-progress="${name}"]`);
  if (place && place.textContent !== text) place.textContent = text;
}

function draw(progress) {
  ["percent", "done_text", "speed_text", "drafted", "nothing", "failed", "waiting"].forEach((name) => {
    say(name, progress[name]);
  });
  progress.bar.forEach((part) => {
    const rect = page.querySelector(`[data-bar="${part.name}"]`);
    rect?.setAttribute("x", part.x);
    rect?.setAttribute("width", part.width);
  });
  page.querySelector("[data-progress-bar]")?.setAttribute("aria-label", progress.bar_text);
}

async function ask() {
  timer = null;
  if (document.hidden) return;
  try {
    const response = await fetch(page.dataset.progressUrl, {
      headers: { Accept: "application/json" },
      credentials: "same-origin",
    });
    if (!response.ok) throw new Error(response.statusText);
    const progress = await response.json();
    if (progress.state !== page.dataset.state || progress.failed !== page.dataset.failed) {
      location.reload();
      return;
    }
    draw(progress);
  } catch {
    say("speed_text", "No answer at the moment; the run goes on");
  }
  timer = setTimeout(ask, EVERY_MS);
}

if (page && page.dataset.live === "yes") {
  timer = setTimeout(ask, EVERY_MS);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && timer === null) ask();
  });
}
