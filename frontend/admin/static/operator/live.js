// The stream: one whole picture, then what changes in it. Keeps the picture, and tells who shows it.
import { setClock } from "./words.js";

const ROWS = ["hosts", "pools"];
const EVENTS_COUNT = 200;
// Without a heartbeat for so long (it comes every 15 s, invisible; changes of figures far more often) nobody is there.
const AGAIN_MS = 5000;

export class Live {
  /** ``onPicture(picture, changed)``: changed is a set of sections, null for all; ``onState(text)``: of the connection. */
  constructor(onPicture, onState) {
    this.onPicture = onPicture;
    this.onState = onState;
    this.picture = null;
    this.connect();
    // A page that was put away comes back with a stream that may be dead.
    addEventListener("pageshow", (event) => { if (event.persisted) this.connect(); });
    addEventListener("pagehide", () => this.source?.close());
  }

  connect() {
    this.source?.close();
    clearTimeout(this.again);
    const source = (this.source = new EventSource("/live"));
    source.addEventListener("picture", (event) => this.whole(JSON.parse(event.data)));
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

  whole(picture) {
    setClock(picture.now);
    picture.events.reverse();
    this.picture = picture;
    this.onState("live");
    this.onPicture(picture, null);
  }

  change(found) {
    const picture = this.picture;
    if (!picture) return;
    setClock(found.now);
    for (const [name, section] of Object.entries(found)) {
      if (ROWS.includes(name)) {
        for (const [key, row] of Object.entries(section)) {
          if (row === null) delete picture[name][key];
          else picture[name][key] = row;
        }
      } else if (name === "events") {
        const newest = picture.events[0]?.id ?? 0;
        const fresh = section.filter((event) => event.id > newest).reverse();
        picture.events = [...fresh, ...picture.events].slice(0, EVENTS_COUNT);
      } else if (name === "series") {
        const last = picture.series.points.at(-1)?.[0] ?? 0;
        picture.series.points.push(...section.points.filter((point) => point[0] > last));
        const kept = picture.series.points.length - 86400 / picture.series.period_s;
        if (kept > 0) picture.series.points.splice(0, kept);
      } else {
        picture[name] = section;
      }
    }
    this.onState("live");
    this.onPicture(picture, new Set(Object.keys(found)));
  }
}
