// The plot of /info: asks for the points it does not have yet, now and then. Without it the page's numbers stand.
import { Plot } from "./plot.js";

const SPAN_S = 3600;
// Many people look at once: not in step, and not more often than there is something new.
const LEAST_MS = 10_000;

const figure = document.getElementById("plot");
figure.hidden = false;
const plot = new Plot(figure, [
  { name: "available", label: "Available", index: 1 },
  { name: "used", label: "In use", index: 2 },
], SPAN_S);
let points = [];
// The page's own numbers are of the moment in which it was asked for: only later points are news.
const opened = performance.now();

const show = (name, value) => {
  const shown = document.querySelector(`[data-figure=${name}]`);
  if (shown.textContent !== String(value)) shown.textContent = String(value);
};

async function ask() {
  let pause = LEAST_MS;
  try {
    const since = points.length ? `?since=${points.at(-1)[0]}` : "";
    const answer = await fetch(`/info/series${since}`, { cache: "no-store", signal: AbortSignal.timeout?.(10_000) });
    if (answer.ok) {
      const found = await answer.json();
      pause = Math.max(LEAST_MS, found.period_s * 1000);
      take(found);
    }
  } catch {
    // Not there just now: the next time.
  }
  setTimeout(ask, pause * (0.8 + 0.4 * Math.random()));
}

function take(found) {
  // Another process may have answered, which took its samples at other moments.
  const last = points.at(-1)?.[0] ?? 0;
  points.push(...found.points.filter((point) => point[0] > last));
  points = points.filter((point) => point[0] > found.now - 2 * SPAN_S);
  plot.show(points, found.period_s, SPAN_S);
  const newest = points.at(-1);
  if (!newest || found.now - newest[0] > (performance.now() - opened) / 1000) return;
  show("available", newest[1]);
  show("used", newest[2]);
}

ask();
