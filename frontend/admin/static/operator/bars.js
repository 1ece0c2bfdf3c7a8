// How full a pool is: a bar of ready, in use and starting servers, and the same in words.
import { el, number, say } from "./format.js";

const PARTS = [["ready", "ready"], ["claimed", "in use"], ["starting", "starting"]];

/** One bar with its figures. ``update(counts)`` takes {ready, claimed, starting, capacity}. */
export class Bar {
  constructor(name) {
    this.fills = PARTS.map(([part]) => el("i", { class: part }));
    this.counts = Object.fromEntries(
      [...PARTS.map(([part]) => part), "capacity"].map((part) => [part, el("b", { "data-count": part }, "–")]),
    );
    this.element = el(
      "div",
      { class: "fill", "data-pool": name },
      el("span", { class: "name" }, name),
      el("span", { class: "bar-of", "aria-hidden": "true" }, ...this.fills),
      el("span", { class: "figures-of" },
        ...PARTS.map(([part, label]) => el("span", { class: `key ${part}` }, this.counts[part], ` ${label}`)),
        el("span", {}, "of ", this.counts.capacity)),
      (this.note = el("code", { class: "note-of", title: "generation" })),
      (this.extra = el("span", { class: "extra-of" })),
    );
  }

  update(counts) {
    // Of whichever is more: a pool that was made smaller has more servers than it may have, for a while.
    const all = Math.max(1, counts.capacity, counts.ready + counts.claimed + counts.starting);
    PARTS.forEach(([part], i) => { this.fills[i].style.width = `${(100 * counts[part]) / all}%`; });
    for (const [part, shown] of Object.entries(this.counts)) say(shown, number(counts[part]));
  }
}
