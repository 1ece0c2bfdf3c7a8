// Small things that all parts of the page use: elements, numbers and times in words.

/** An element: el("td", {class: "x", "data-y": 1}, "text", child). Text is text: nothing is ever read as HTML. */
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : String(value));
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Set an element's text, but only if it is another one: screen readers and selections stay undisturbed. */
export function say(element, text) {
  const wanted = String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

export const byId = (id) => document.getElementById(id);
export const number = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en-US"));

/** Seconds as people say them: 0.012 -> "12 ms", 3.4 -> "3.4 s", 90 -> "1 min 30 s". */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${Number(seconds.toPrecision(2))} s`;
  if (seconds < 59.5) return `${Math.round(seconds)} s`;
  if (seconds < 600) {
    const whole = Math.round(seconds);
    return `${Math.floor(whole / 60)} min${whole % 60 ? ` ${whole % 60} s` : ""}`;
  }
  if (seconds < 3570) return `${Math.round(seconds / 60)} min`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 1440) return `${Math.floor(minutes / 60)} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`;
  const hours = Math.round(seconds / 3600);
  return `${Math.floor(hours / 24)} d${hours % 24 ? ` ${hours % 24} h` : ""}`;
}

// How far the cluster's clock is ahead of the browser's, in milliseconds.
let ahead = 0;
export const setClock = (iso) => { ahead = Date.parse(iso) - Date.now(); };
export const now = () => Date.now() + ahead;

export const ago = (iso) => (iso ? span(Math.max(1, Math.round((now() - Date.parse(iso)) / 1000))) : "–");

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const SHORT = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const DAY = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short" });

const isToday = (at) => new Date(at).toDateString() === new Date(now()).toDateString();

/** The time of day; with the day if it is another one. */
export function clock(iso, short = false) {
  const at = typeof iso === "number" ? iso : Date.parse(iso);
  const time = (short ? SHORT : CLOCK).format(at);
  return isToday(at) ? time : `${DAY.format(at)}, ${time}`;
}

/** A moment as an element; its title is the whole of it. */
export function time(iso, text) {
  return iso ? el("time", { datetime: iso, title: new Date(iso).toString() }, text ?? clock(iso)) : el("span", {}, "–");
}

/** Rows of a container, by name: made once, changed where they are, so that focus and selection stay. */
export class Rows {
  constructor(container, make) {
    this.container = container;
    this.make = make;
    this.rows = new Map();
  }

  set(name, data) {
    let row = this.rows.get(name);
    if (!row) {
      row = this.make(name);
      this.rows.set(name, row);
      const after = [...this.rows.keys()].sort(inOrder);
      const next = after[after.indexOf(name) + 1];
      this.container.insertBefore(row.element, next ? this.rows.get(next).element : null);
    }
    row.update(data);
  }

  remove(name) {
    this.rows.get(name)?.element.remove();
    this.rows.delete(name);
  }

  /** Exactly these. */
  all(found) {
    for (const name of [...this.rows.keys()]) if (!(name in found)) this.remove(name);
    for (const [name, data] of Object.entries(found)) this.set(name, data);
  }
}

/** host-2 before host-10. */
export const inOrder = new Intl.Collator("en", { numeric: true }).compare;
