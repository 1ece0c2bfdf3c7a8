// A plot of counts over time, as SVG: lines with a legend, axes, and a readout under the pointer or the arrow keys.
// The operator's page and /info draw by it. Colours come from the style sheet, by the class of each line.

const SVG = "http://www.w3.org/2000/svg";
const LEFT = 44;
const RIGHT = 10;
const TOP = 10;
const BOTTOM = 24;
// Steps between the marks of the time axis, in seconds.
const STEPS = [60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600];
// No plot is shorter, in seconds.
const LEAST_S = 300;
// Points drawn: more than there are pixels for is work for nothing.
const MAX_POINTS = 400;

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const EXACT = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

function svg(name, attributes = {}, text = null) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  return made;
}

/** A round number at or above ``value``, and the step of its axis. */
export function ceiling(value) {
  if (value <= 4) return { top: 4, step: 1 };
  const power = 10 ** Math.floor(Math.log10(value));
  const factor = [1, 2, 4, 5, 10].find((f) => f * power >= value);
  const top = factor * power;
  return { top, step: Math.max(1, top / (factor === 5 ? 5 : 4)) };
}

/** The points within the last ``spanS`` seconds before ``endS``, thinned to the largest of each bin of ``MAX_POINTS``. */
export function within(points, spanS, endS) {
  const found = points.filter((point) => point[0] > endS - spanS);
  const size = Math.ceil(found.length / MAX_POINTS);
  if (size <= 1) return found;
  const thin = [];
  for (let i = found.length; i > 0; i -= size) thin.unshift(found[i - 1]); // counted from the newest, which is shown
  return thin;
}

export class Plot {
  /** ``lines``: [{name, label, index}] where index is the place in a point [Unix seconds, n, n, …]. */
  constructor(figure, lines, spanS = 3600) {
    this.figure = figure;
    this.lines = lines;
    this.spanS = spanS;
    this.points = [];
    this.stepS = 10;
    this.drawnS = spanS;
    this.picked = null;
    this.legend = document.createElement("figcaption");
    this.drawing = svg("svg", { role: "img", tabindex: "0", focusable: "true" });
    this.readout = document.createElement("output");
    this.readout.setAttribute("aria-live", "polite");
    this.figure.append(this.legend, this.drawing, this.readout);
    for (const line of lines) {
      const item = document.createElement("span");
      item.className = `key ${line.name}`;
      item.textContent = line.label;
      this.legend.append(item);
    }
    this.drawing.addEventListener("pointermove", (event) => this.point(event));
    this.drawing.addEventListener("pointerdown", (event) => this.point(event));
    this.drawing.addEventListener("pointerleave", () => this.pick(null));
    this.drawing.addEventListener("focus", () => { if (this.picked === null) this.pick(this.shown.length - 1); });
    this.drawing.addEventListener("blur", () => this.pick(null));
    this.drawing.addEventListener("keydown", (event) => this.key(event));
    this.shown = [];
    new ResizeObserver(() => this.draw()).observe(this.figure);
  }

  show(points, stepS, spanS = this.spanS) {
    this.points = points;
    this.stepS = stepS;
    this.spanS = spanS;
    this.draw();
  }

  draw() {
    const width = Math.max(240, this.figure.clientWidth);
    const height = this.drawing.clientHeight || 180;
    const end = this.points.at(-1)?.[0] ?? Date.now() / 1000;
    // Of a process that has just started: what there is, not an hour of nothing.
    const span = Math.min(this.spanS, Math.max(LEAST_S, end - (this.points[0]?.[0] ?? end)));
    this.drawnS = span;
    this.shown = within(this.points, span, end);
    const { top, step } = ceiling(Math.max(0, ...this.shown.flatMap((p) => this.lines.map((l) => p[l.index] ?? 0))));
    this.x = (at) => LEFT + ((at - (end - span)) / span) * (width - LEFT - RIGHT);
    this.y = (value) => TOP + (1 - value / top) * (height - TOP - BOTTOM);
    this.drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.drawing.replaceChildren(
      ...this.grid(top, step, width),
      ...this.times(end, width, height),
      ...this.lines.map((line) => svg("path", { class: `line ${line.name}`, d: this.path(line.index) })),
      (this.marker = svg("g", { class: "marker" })),
    );
    const last = this.shown.at(-1);
    const words = last ? this.lines.map((l) => `${l.label} ${last[l.index] ?? "unknown"}`).join(", ") : "nothing yet";
    this.drawing.setAttribute("aria-label", `Over the last ${Math.round(span / 60)} minutes; now: ${words}. Arrow keys read it.`);
    if (this.picked !== null) this.pick(Math.min(this.picked, this.shown.length - 1));
  }

  grid(top, step, width) {
    const made = [];
    for (let value = 0; value <= top; value += step) {
      made.push(svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: this.y(value), y2: this.y(value) }));
      made.push(svg("text", { x: LEFT - 6, y: this.y(value) + 4, "text-anchor": "end" }, value.toLocaleString("en-US")));
    }
    return made;
  }

  times(end, width, height) {
    const most = Math.max(2, Math.floor((width - LEFT) / 90));
    const step = STEPS.find((s) => this.drawnS / s <= most) ?? STEPS.at(-1);
    const made = [];
    for (let at = Math.ceil((end - this.drawnS) / step) * step; at <= end; at += step) {
      if (this.x(at) < LEFT + 14 || this.x(at) > width - 20) continue;
      made.push(svg("text", { x: this.x(at), y: height - 6, "text-anchor": "middle" }, CLOCK.format(at * 1000)));
    }
    return made;
  }

  /** Steps, not slopes: a count stays what it is until the next look. A gap where nobody looked. */
  path(index) {
    let d = "";
    let before = null;
    for (const point of this.shown) {
      if (point[index] === null || point[index] === undefined) {
        before = null;
        continue;
      }
      const x = this.x(point[0]).toFixed(1);
      const y = this.y(point[index]).toFixed(1);
      const gap = before === null || point[0] - before > this.gapS();
      d += gap ? `M${x} ${y}` : `H${x}V${y}`;
      before = point[0];
    }
    return d;
  }

  gapS() {
    return Math.max(3 * this.stepS, (3 * this.drawnS) / MAX_POINTS);
  }

  point(event) {
    if (this.shown.length === 0) return;
    const box = this.drawing.getBoundingClientRect();
    const x = event.clientX - box.left;
    let best = 0;
    this.shown.forEach((p, i) => { if (Math.abs(this.x(p[0]) - x) < Math.abs(this.x(this.shown[best][0]) - x)) best = i; });
    this.pick(best);
  }

  key(event) {
    const last = this.shown.length - 1;
    const at = this.picked ?? last;
    const next = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last, PageUp: at - 10, PageDown: at + 10 }[event.key];
    if (next === undefined || last < 0) return;
    event.preventDefault();
    this.pick(Math.max(0, Math.min(last, next)));
  }

  pick(index) {
    this.picked = index !== null && index >= 0 ? index : null;
    const point = this.picked === null ? null : this.shown[this.picked];
    this.marker?.replaceChildren();
    if (!point) {
      this.readout.textContent = "";
      return;
    }
    const x = this.x(point[0]);
    this.marker.append(svg("line", { x1: x, x2: x, y1: this.y(0), y2: TOP }));
    for (const line of this.lines) {
      if (point[line.index] === null || point[line.index] === undefined) continue;
      this.marker.append(svg("circle", { class: line.name, cx: x, cy: this.y(point[line.index]), r: 3.5 }));
    }
    const words = this.lines.map((l) => `${l.label} ${point[l.index] ?? "–"}`).join(" · ");
    this.readout.textContent = `${EXACT.format(point[0] * 1000)}: ${words}`;
  }
}
