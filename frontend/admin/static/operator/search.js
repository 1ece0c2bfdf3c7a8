// Looking up servers in use, and what can be done to one. Only a search reads claims; 50 rows at most are shown.
import { attempt, call, canChange, confirm, tell } from "./api.js";
import { ago, byId, clock, el, now, number, say, span, time } from "./format.js";

// An answer is old after this: times of culls move with every click of a learner.
const AGAIN_MS = 5000;
const TYPING_MS = 300;

/** Why and when, in words; the times are from the culler's own rules. */
export function cullForecast(server) {
  const { why, at, unless_used: unlessUsed, obstacle_why: obstacle } = server.culling;
  const kept = server.kept_until && Date.parse(server.kept_until) > now();
  const said = [];
  if (!why) said.push(obstacle ? "Not now" : "Never by itself");
  else if (Date.parse(at) <= now()) said.push(`Due: ${why}. The culler culls it in its next cycle`);
  else said.push(`At ${clock(at)} (in ${span((Date.parse(at) - now()) / 1000)}) as ${why}${unlessUsed ? ", unless it is used" : ""}`);
  if (kept) said.push(`kept by an operator until ${clock(server.kept_until)}`);
  if (obstacle) said.push(obstacle);
  return `${said.join("; ")}.`;
}

export class Search {
  constructor() {
    this.body = byId("found-table").tBodies[0];
    this.text = "";
    this.input = byId("q");
    byId("search").addEventListener("submit", (event) => {
      event.preventDefault();
      this.go(this.input.value, true);
    });
    this.input.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.go(this.input.value), TYPING_MS);
    });
    this.input.addEventListener("keydown", (event) => { if (event.key === "Escape") this.close(); });
    byId("found-close").addEventListener("click", () => this.close());
    addEventListener("keydown", (event) => {
      const typing = event.target.closest?.("input, textarea, select, dialog");
      if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.input.focus();
      this.input.select();
    });
  }

  /** ``isAsked``: with Enter or a button, so the answer gets the focus. */
  async go(text, isAsked = false) {
    clearTimeout(this.typing);
    clearTimeout(this.again);
    this.text = text.trim();
    if (!this.text) {
      byId("found").hidden = true;
      return;
    }
    this.input.value = text;
    const asked = this.text;
    let found;
    try {
      found = await call("GET", `/api/v1/search?q=${encodeURIComponent(asked)}`);
    } catch (error) {
      found = { total: 0, servers: [], gone: null, error: error.message };
    }
    if (asked !== this.text) return;
    this.show(found);
    if (isAsked) {
      byId("found").scrollIntoView({ block: "start" });
      byId("found-title").focus({ preventScroll: true });
    }
    this.again = setTimeout(() => this.refresh(), AGAIN_MS);
  }

  refresh() {
    // Not below somebody's hands: a row is made anew, and focus in it would be lost.
    const isBusy = byId("ask").open || this.body.contains(document.activeElement);
    if (document.hidden || isBusy) this.again = setTimeout(() => this.refresh(), AGAIN_MS);
    else this.go(this.text);
  }

  close() {
    clearTimeout(this.again);
    this.text = "";
    this.input.value = "";
    byId("found").hidden = true;
    this.input.focus();
  }

  show({ total, servers, gone, error }) {
    byId("found").hidden = false;
    let said = error ?? `${number(total)} ${total === 1 ? "server" : "servers"} in use`;
    if (!error && total > servers.length) said += `; the ${servers.length} oldest are shown`;
    if (gone) said = `${gone.user} is no more: ${gone.why}, ${clock(gone.at)} (${gone.host}, ${gone.pool}).`;
    say(byId("found-said"), said);
    byId("found-table").hidden = servers.length === 0;
    this.body.replaceChildren(...servers.map((server) => this.row(server)));
  }

  row(server) {
    const extend = (hours) => el("button", { class: "small", type: "button", "aria-label": `Keep ${server.user} for ${hours} hours more`, onclick: () => this.extend(server, hours * 3600) }, `+${hours} h`);
    const buttons = [
      extend(1),
      extend(4),
      el("button", { class: "small", type: "button", "aria-label": `Keep ${server.user} for longer`, onclick: () => this.custom(server) }, "+…"),
      el("button", { class: "small", type: "button", "aria-label": `Cull ${server.user}`, onclick: () => this.cull(server) }, "Cull…"),
    ];
    const seen = server.culling.was_seen ? server.culling.last_seen_at : null;
    return el("tr", { "data-user": server.user },
      el("th", { scope: "row" }, el("code", {}, server.user)),
      el("td", { "data-label": "Where" }, server.host, el("small", {}, [server.pool, server.target].filter(Boolean).join(" · "))),
      el("td", { "data-label": "In use since" }, time(server.claimed_at), el("small", {}, `${ago(server.claimed_at)} ago`)),
      el("td", { "data-label": "Last active" }, seen ? time(seen) : "never", el("small", {}, seen ? `${ago(seen)} ago` : "")),
      el("td", { "data-label": "Will be culled", class: "text", "data-forecast": "" }, cullForecast(server)),
      el("td", { class: "buttons" }, el("div", {}, ...(canChange ? buttons : []))));
  }

  async extend(server, seconds) {
    try {
      const { kept_until: until } = await call("POST", `/api/v1/servers/${server.user}/extend`, { seconds });
      tell(`${server.user} is kept until ${clock(until)} at least.`);
    } catch (error) {
      tell(error.message, true);
    }
    this.go(this.text);
  }

  async custom(server) {
    const most = Number(document.body.dataset.extendMaxS) / 3600;
    const given = await confirm({
      title: `Keep ${server.user} for longer?`,
      text: `It is not culled for idleness or age before then, counted from now. At most ${number(most)} hours.`,
      yes: "Keep",
      field: { label: "Keep for", unit: "hours", value: 8, min: 0.05, max: most },
    });
    if (given) await this.extend(server, given.value * 3600);
  }

  async cull(server) {
    const sure = await confirm({
      title: `Cull ${server.user}?`,
      text: `The server on ${server.host} is stopped and removed at once, whatever it is doing. What its learner has not downloaded is lost.`,
      yes: "Cull",
      isGrave: true,
    });
    if (!sure) return;
    await attempt(`${server.user} is being culled.`, () => call("DELETE", `/api/v1/servers/${server.user}`));
    this.go(this.text);
  }
}
