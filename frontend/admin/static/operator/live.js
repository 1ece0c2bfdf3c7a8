// The stream: one whole snapshot, then what changes in it. Keeps the snapshot, and tells who shows it.
import { setClock } from "./format.js";

const ROWS = ["hosts", "pools"];
const EVENTS_COUNT = 200;
// Without a heartbeat for this long (one comes every 15 s, changes far more often) the connection is dead.
const AGAIN_MS = 5000;

export class Live {
  /** ``onSnapshot(snapshot, changed)``: changed is a set of sections, null for all; ``onState(text)``: of the connection. */
  constructor(onSnapshot, onState) {
    this.onSnapshot = onSnapshot;
    this.onState = onState;
    this.snapshot = null;
    this.connect();
    // A page that was put away comes back with a stream that may be dead.
    addEventListener("pageshow", (event) => { if (event.persisted) this.connect(); });
    addEventListener("pagehide", () => this.source?.close());
  }

  connect() {
    this.source?.close();
    clearTimeout(this.again);
    const source = (this.source = new EventSource("/live"));
    source.addEventListener("snapshot", (event) => this.whole(JSON.parse(event.data)));
    source.addEventListener("change", (event) => this.change(JSON.parse(event.data)));
    source.addEventListener("error", () => this.lost(source));
  }

  async lost(source) {
    this.onState("lost");
    if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    // It was refused, and EventSource does not say why.
    let status = 0;
    try {
      status = (await fetch("/live", { headers: { Accept: "application/json" }, cache: "no-store" })).status;
    } catch {
      // Not there: try again.
    }
    if (status === 401 || status === 403) {
      location.assign("/login");
      return;
    }
    if (status === 200) this.onState("full");
    this.again = setTimeout(() => this.connect(), AGAIN_MS * (0.7 + 0.6 * Math.random()));
  }

  whole(snapshot) {
    setClock(snapshot.now);
    snapshot.events.reverse();
    this.snapshot = snapshot;
    this.onState("live");
    this.onSnapshot(snapshot, null);
  }

  change(found) {
    const snapshot = this.snapshot;
    if (!snapshot) return;
    setClock(found.now);
    for (const [name, section] of Object.entries(found)) {
      if (ROWS.includes(name)) {
        for (const [key, row] of Object.entries(section)) {
          if (row === null) delete snapshot[name][key];
          else snapshot[name][key] = row;
        }
      } else if (name === "events") {
        const newest = snapshot.events[0]?.id ?? 0;
        const fresh = section.filter((event) => event.id > newest).reverse();
        snapshot.events = [...fresh, ...snapshot.events].slice(0, EVENTS_COUNT);
      } else if (name === "series") {
        const last = snapshot.series.points.at(-1)?.[0] ?? 0;
        snapshot.series.points.push(...section.points.filter((point) => point[0] > last));
        const kept = snapshot.series.points.length - 86400 / snapshot.series.period_s;
        if (kept > 0) snapshot.series.points.splice(0, kept);
      } else {
        snapshot[name] = section;
      }
    }
    this.onState("live");
    this.onSnapshot(snapshot, new Set(Object.keys(found)));
  }
}
