// The table of hosts: one row each, made once and changed where it is.
import { attempt, call, canChange, confirm } from "./api.js";
import { Bar } from "./bars.js";
import { ago, byId, clock, el, now, number, Rows, say, time } from "./format.js";

// Agents write their record every 30 s at least.
const SILENT_S = 75;
const WORDS = { active: "Active", cordoned: "Cordoned", draining: "Draining", away: "Away" };

const silent = (row) => Boolean(row.updated_at) && (now() - Date.parse(row.updated_at)) / 1000 > SILENT_S;
const failing = (row) => Object.values(row.pools).find((pool) => pool.failing);
const needsAttention = (row) =>
  row.state !== "active" || row.problem !== "" || Boolean(failing(row)) || silent(row) ||
  Object.values(row.images).some((image) => image.state === "failed");

class HostRow {
  constructor(name) {
    this.name = name;
    this.bars = new Map();
    this.address = el("small");
    this.problem = el("p", { class: "trouble", hidden: true });
    this.state = el("span", { class: "pill", "data-state": "" });
    this.progress = el("small", { "data-drain": "" });
    this.servers = el("td", { "data-label": "Servers" });
    this.images = el("div");
    this.servers.append(this.images);
    this.failure = el("td", { "data-label": "Last failure", class: "text" });
    this.seen = el("td", { "data-label": "Last seen", class: "seen" });
    this.buttons = {
      cordon: el("button", { class: "small", type: "button", onclick: () => this.set("cordoned", "cordon") }, "Cordon"),
      uncordon: el("button", { class: "small", type: "button", onclick: () => this.set("active", "uncordon") }, "Uncordon"),
      drain: el("button", { class: "small", type: "button", onclick: () => this.drain() }, "Drain…"),
      remove: el("button", { class: "small", type: "button", onclick: () => this.forget() }, "Remove…"),
    };
    const words = { cordon: "Cordon", uncordon: "Uncordon", drain: "Drain", remove: "Remove" };
    for (const [key, button] of Object.entries(this.buttons)) button.setAttribute("aria-label", `${words[key]} ${name}`);
    this.element = el("tr", { "data-host": name },
      el("th", { scope: "row" }, name, this.address, this.problem),
      el("td", { "data-label": "State" }, this.state, this.progress),
      this.servers, this.failure, this.seen,
      el("td", { class: "buttons" }, el("div", {}, ...(canChange ? Object.values(this.buttons) : []))));
  }

  update(row) {
    this.row = row;
    this.element.classList.toggle("away", row.state === "away");
    const labels = Object.entries(row.labels).map(([key, value]) => `${key}=${value}`).join(" ");
    say(this.address, [row.address, row.version, labels].filter(Boolean).join(" · "));
    say(this.problem, row.problem);
    this.problem.hidden = !row.problem;
    say(this.state, WORDS[row.state] ?? row.state);
    this.state.dataset.state = row.state;
    say(this.progress, row.drain ? this.left(row.drain) : "");
    this.fill(row.pools);
    this.images.replaceChildren(...this.fetching(row.images));
    this.fail(row.pools);
    this.tick();
    const { cordon, uncordon, drain, remove } = this.buttons;
    cordon.hidden = row.state !== "active";
    uncordon.hidden = !["cordoned", "draining"].includes(row.state);
    drain.hidden = row.state === "away";
    remove.hidden = row.state !== "away";
    say(drain, row.state === "draining" ? "Deadline…" : "Drain…");
  }

  left(drain) {
    const until = drain.deadline && drain.left ? `, until ${clock(drain.deadline, true)}` : "";
    return drain.left ? `${number(drain.left)} of ${number(drain.of)} left${until}` : "empty";
  }

  fill(pools) {
    for (const [name, pool] of Object.entries(pools)) {
      if (!this.bars.has(name)) {
        this.bars.set(name, new Bar(name));
        this.servers.insertBefore(this.bars.get(name).element, this.images);
      }
      this.bars.get(name).update(pool);
      this.generation(this.bars.get(name), pool);
    }
    for (const name of [...this.bars.keys()].filter((known) => !(known in pools))) {
      this.bars.get(name).element.remove();
      this.bars.delete(name);
    }
  }

  /** How far this host is with the pool's generation. */
  generation(bar, pool) {
    const how = pool.failing ? "stalled" : pool.ready_old ? `replacing, ${number(pool.ready_old)} to go` : "";
    const older = pool.claimed_old ? `${number(pool.claimed_old)} older in use` : "";
    say(bar.note, pool.generation.slice(0, 7) || "–");
    const limit = pool.limited_by ? `${number(pool.capacity)} at most: ${pool.limited_by}` : "";
    const memory = pool.out_of_memory ? `out of memory ${number(pool.out_of_memory)} times` : "";
    say(bar.extra, [how, older, limit, memory].filter(Boolean).join(", "));
    bar.extra.classList.toggle("trouble", pool.failing);
  }

  fetching(images) {
    return Object.entries(images).filter(([, image]) => image.state !== "present").map(([name, image]) =>
      el("div", { class: image.state === "failed" ? "trouble" : null },
        image.state === "failed" ? `${name}: ${image.reason}` : `fetching ${name}`));
  }

  fail(pools) {
    const failures = Object.entries(pools).filter(([, pool]) => pool.failure);
    this.failure.replaceChildren(...failures.map(([name, pool]) =>
      el("div", { class: pool.failing ? "trouble" : null }, time(pool.failure.at), ` ${name}: ${pool.failure.why}`)));
  }

  /** What changes by itself. */
  tick() {
    const row = this.row;
    say(this.seen, row.updated_at ? `${ago(row.updated_at)} ago` : "not recently");
    this.seen.classList.toggle("trouble", silent(row));
  }

  set(state, done, deadline_s) {
    const body = deadline_s ? { state, deadline_s } : { state };
    return attempt(`${this.name}: ${done} requested.`, () => call("PUT", `/api/v1/hosts/${this.name}/state`, body));
  }

  async drain() {
    const claimed = Object.values(this.row.pools).reduce((sum, pool) => sum + pool.claimed, 0);
    const given = await confirm({
      title: `Drain ${this.name}?`,
      text: `Nobody new goes there, its ready servers are removed. ${claimed === 1 ? "One server is" : `${number(claimed)} servers are`} in use there. ` +
        "With a deadline, those that are still in use then are warned and culled; without one they stay until their learners are done.",
      yes: "Drain",
      field: { label: "Deadline in", unit: "minutes (empty: none)", value: null, min: 1, max: 7 * 1440, optional: true },
    });
    if (given) await this.set("draining", "drain", given.value ? given.value * 60 : undefined);
  }

  async forget() {
    const sure = await confirm({
      title: `Remove ${this.name}?`,
      text: "Its agent is away. What is kept of it is deleted, and what it served is closed: learners there have to start again.",
      yes: "Remove",
      isGrave: true,
    });
    if (sure) await attempt(`${this.name} is removed.`, () => call("DELETE", `/api/v1/hosts/${this.name}`));
  }
}

export class Hosts {
  constructor() {
    this.body = byId("hosts").tBodies[0];
    this.rows = new Rows(this.body, (name) => new HostRow(name));
    for (const id of ["hosts-filter", "hosts-trouble"]) byId(id).addEventListener("input", () => this.filter());
  }

  show(hosts, isLoaded) {
    this.rows.all(hosts);
    byId("hosts-empty").hidden = !isLoaded || Object.keys(hosts).length > 0;
    this.filter();
  }

  filter() {
    const words = byId("hosts-filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const only = byId("hosts-trouble").checked;
    let shown = 0;
    for (const { element, row, name } of this.rows.rows.values()) {
      const text = `${name} ${row.state} ${row.version} ${row.address} ${Object.keys(row.pools).join(" ")}`.toLowerCase();
      const fits = words.every((word) => text.includes(word)) && (!only || needsAttention(row));
      element.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    const all = this.rows.rows.size;
    say(byId("hosts-count"), shown === all ? "" : `${shown} of ${all}`);
  }

  tick() {
    for (const row of this.rows.rows.values()) row.tick();
  }
}
