// What happened: the latest events, and the failures that hosts report, with the last lines of the container's log.
import { call } from "./api.js";
import { byId, clock, el, say, span, time } from "./format.js";

/** Why, and when, in words: codes come with their text, times are told by this browser's clock. */
function detail(event) {
  const found = event.detail ?? {};
  const said = [event.why].filter(Boolean);
  if (typeof found.time_to_server_s === "number") said.push(`after ${span(found.time_to_server_s)}`);
  if (found.deadline) said.push(`until ${clock(found.deadline, true)}`);
  if (found.kept_until) said.push(`until ${clock(found.kept_until, true)}`);
  return said.join(", ");
}

export class Events {
  /** ``search(text)``: looks a user up. */
  constructor(search) {
    this.search = search;
    this.list = byId("events");
    this.shown = [];
    this.events = [];
    byId("events-filter").addEventListener("input", () => this.draw());
    byId("events-hold").addEventListener("change", () => this.draw());
  }

  show(events) {
    this.events = events;
    this.draw();
  }

  draw() {
    const isHeld = byId("events-hold").checked;
    if (!isHeld) this.shown = this.events;
    const words = byId("events-filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = this.shown.filter((event) => words.every((word) => this.text(event).includes(word)));
    byId("events-empty").hidden = this.events.length > 0;
    this.list.hidden = this.events.length === 0;
    const fresh = isHeld ? this.events.filter((event) => event.id > (this.shown[0]?.id ?? 0)).length : 0;
    say(byId("events-count"), [words.length ? `${fits.length} of ${this.shown.length}` : "", fresh ? `${fresh} new` : ""].filter(Boolean).join(", "));
    const known = new Map([...this.list.children].map((item) => [Number(item.dataset.id), item]));
    const items = fits.map((event) => known.get(event.id) ?? this.item(event));
    if (items.length !== known.size || items.some((item, i) => item !== this.list.children[i])) this.list.replaceChildren(...items);
  }

  text(event) {
    return `${event.name} ${event.what} ${event.host ?? ""} ${event.pool ?? ""} ${event.user ?? ""} ${detail(event)}`.toLowerCase();
  }

  item(event) {
    const user = event.user
      ? el("button", { class: "link", type: "button", title: `Look up ${event.user}`, onclick: () => this.search(event.user) }, event.user)
      : null;
    return el("li", { "data-id": event.id, "data-event": event.name, class: event.alarming ? "bad" : null },
      time(event.at), el("span", { class: "what" }, event.what),
      el("span", { class: "where" }, [event.host, event.pool].filter(Boolean).join(" · ")), user,
      el("span", { class: "why" }, detail(event)));
  }
}

export class Failures {
  constructor() {
    this.list = byId("failures");
    this.open = new Map();
  }

  show(failures) {
    byId("failures-empty").hidden = failures.length > 0;
    const known = new Map([...this.list.children].map((item) => [item.dataset.key, item]));
    this.list.replaceChildren(...failures.map((failure) => {
      const key = `${failure.host} ${failure.pool} ${failure.at}`;
      return known.get(key) ?? this.item(key, failure);
    }));
  }

  item(key, failure) {
    const log = el("pre", { tabindex: "0" });
    const more = el("details", {}, el("summary", {}, "Last lines of its log"), log);
    more.addEventListener("toggle", async () => {
      if (!more.open || log.textContent) return;
      try {
        const found = await call("GET", `/api/v1/hosts/${failure.host}/pools/${failure.pool}/log`);
        say(log, found.log || "The container wrote nothing.");
      } catch (error) {
        say(log, error.message);
      }
    });
    return el("li", { "data-key": key, "data-failure": failure.host },
      el("p", {}, time(failure.at), el("strong", {}, failure.why), el("span", { class: "where" }, `${failure.host} · ${failure.pool}`)),
      failure.has_log ? more : null);
  }
}
