// The table of pools, over all hosts.
import { attempt, call, canChange, confirm } from "./api.js";
import { Bar } from "./bars.js";
import { byId, el, number, Rows, say } from "./format.js";

class PoolRow {
  constructor(name) {
    this.name = name;
    this.image = el("small");
    this.bar = new Bar(name);
    this.size = el("td", { "data-label": "Per host" });
    this.waiting = el("td", { "data-label": "Waiting", "data-count": "waiting" });
    this.hosts = el("span");
    this.code = el("code");
    this.stalled = el("p", { class: "trouble" });
    const recycle = el("button", { class: "small", type: "button", "aria-label": `Recycle ${name}`, onclick: () => this.recycle() }, "Recycle…");
    this.element = el("tr", { "data-pool-row": name },
      el("th", { scope: "row" }, name, this.image),
      this.size,
      el("td", { "data-label": "Servers" }, this.bar.element),
      this.waiting,
      el("td", { "data-label": "Generation" }, this.code, " ", this.hosts, this.stalled),
      el("td", { class: "buttons" }, el("div", {}, canChange ? recycle : null)));
  }

  update(row) {
    this.row = row;
    const labels = Object.entries(row.host_labels).map(([key, value]) => `${key}=${value}`).join(" ");
    say(this.image, [row.image, row.placement, labels && `hosts with ${labels}`].filter(Boolean).join(" · "));
    say(this.size, row.ready_target === row.pool_size ? `${number(row.pool_size)}` : `${number(row.pool_size)}, ${number(row.ready_target)} ready`);
    this.bar.update(row);
    say(this.waiting, number(row.waiting));
    this.waiting.classList.toggle("busy", row.waiting > 0);
    say(this.code, row.generation.slice(0, 7));
    const others = Object.entries(row.stages).filter(([stage]) => stage !== "done");
    const how = others.map(([stage, count]) => `${count} ${stage}`).join(", ");
    say(this.hosts, `${row.hosts.done} of ${row.hosts.all} hosts done${how ? `; ${how}` : ""}`);
    say(this.stalled, row.stalled);
  }

  async recycle() {
    const sure = await confirm({
      title: `Recycle ${this.name}?`,
      text: `Its ${number(this.row.ready)} ready servers are replaced, a few at a time on every host. Servers in use stay.`,
      yes: "Recycle",
    });
    if (sure) await attempt(`${this.name}: ready servers are being replaced.`, () => call("POST", `/api/v1/pools/${encodeURIComponent(this.name)}/recycle`));
  }
}

export class Pools {
  constructor() {
    this.rows = new Rows(byId("pools").tBodies[0], (name) => new PoolRow(name));
  }

  show(pools, isLoaded) {
    this.rows.all(pools);
    byId("pools-empty").hidden = !isLoaded || Object.keys(pools).length > 0;
  }
}
