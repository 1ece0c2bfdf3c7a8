// Looking up servers in use, and what can be done to one. Only a search reads claims; 50 rows at most are shown.
import { attempt, call, canChange, confirm, tell } from "./api.js";
import { ago, byId, clock, el, now, number, say, span, time } from "./format.js";

// An answer is old after this: times of culls move with every click of a learner.
const AGAIN_MS = 5000;
const TYPING_MS = 300;

/** Why and when, in words; the times are from the culler's own rules. */
export function cullForecast(user) {
  const { why, at, unless_used: unlessUsed, obstacle } = user.cull;
  const kept = user.kept_until && Date.parse(user.kept_until) > now();
  const said = [];
  if (!why) said.push(obstacle ? "Not now" : "Never by itself");
  else if (Date.parse(at) <= now()) said.push(`Due: ${why}. The culler takes it on its next round`);
  else said.push(`At ${clock(at)} (in ${span((Date.parse(at) - now()) / 1000)}) as ${why}${unlessUsed ? ", unless it is used" : ""}`);
  if (kept) said.push(`kept by an operator until ${clock(user.kept_until)}`);
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
      found = await call("GET", `/api/search?q=${encodeURIComponent(asked)}`);
    } catch (error) {
      found = { found: 0, users: [], error: error.message };
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

  show({ found, users, gone, error }) {
    byId("found").hidden = false;
    let said = error ?? `${number(found)} ${found === 1 ? "server" : "servers"} in use`;
    if (!error && found > users.length) said += `; the ${users.length} oldest are shown`;
    if (gone) said = `${gone.user} is no more: ${gone.why}, ${clock(gone.at)} (${gone.host}, ${gone.pool}).`;
    say(byId("found-said"), said);
    byId("found-table").hidden = users.length === 0;
    this.body.replaceChildren(...users.map((user) => this.row(user)));
  }

  row(user) {
    const extend = (hours) => el("button", { class: "small", type: "button", "aria-label": `Keep ${user.user} for ${hours} hours more`, onclick: () => this.extend(user, hours * 3600) }, `+${hours} h`);
    const buttons = [
      extend(1),
      extend(4),
      el("button", { class: "small", type: "button", "aria-label": `Keep ${user.user} for longer`, onclick: () => this.custom(user) }, "+…"),
      el("button", { class: "small", type: "button", "aria-label": `Cull ${user.user}`, onclick: () => this.cull(user) }, "Cull…"),
    ];
    return el("tr", { "data-user": user.user },
      el("th", { scope: "row" }, el("code", {}, user.user)),
      el("td", { "data-label": "Where" }, user.host, el("small", {}, [user.pool, user.target].filter(Boolean).join(" · "))),
      el("td", { "data-label": "In use since" }, time(user.claimed_at), el("small", {}, ago(user.claimed_at))),
      el("td", { "data-label": "Last active" }, user.last_seen ? time(user.last_seen) : "never seen", el("small", {}, user.last_seen ? `${ago(user.last_seen)} ago` : "")),
      el("td", { "data-label": "Will be culled", class: "text", "data-forecast": "" }, cullForecast(user)),
      el("td", { class: "buttons" }, el("div", {}, ...(canChange ? buttons : []))));
  }

  async extend(user, seconds) {
    try {
      const { kept_until: until } = await call("POST", `/api/users/${user.user}/extend`, { seconds });
      tell(`${user.user} is kept until ${clock(until)} at least.`);
    } catch (error) {
      tell(error.message, true);
    }
    this.go(this.text);
  }

  async custom(user) {
    const most = Number(document.body.dataset.extendMaxS) / 3600;
    const given = await confirm({
      title: `Keep ${user.user} for longer?`,
      text: `It is not culled for idleness or age before then, counted from now. At most ${number(most)} hours.`,
      yes: "Keep",
      field: { label: "Keep for", unit: "hours", value: 8, min: 0.05, max: most },
    });
    if (given) await this.extend(user, given.value * 3600);
  }

  async cull(user) {
    const sure = await confirm({
      title: `Cull ${user.user}?`,
      text: `The server on ${user.host} is stopped and removed at once, whatever it is doing. What its learner has not downloaded is lost.`,
      yes: "Cull",
      isGrave: true,
    });
    if (!sure) return;
    await attempt(`${user.user} is being culled.`, () => call("DELETE", `/api/users/${user.user}`));
    this.go(this.text);
  }
}
