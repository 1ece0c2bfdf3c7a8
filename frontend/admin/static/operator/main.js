// The operator's page: puts what the stream brings into its parts.
import { Plot } from "../plot.js";
import { Events, Failures } from "./events.js";
import { Hosts } from "./hosts.js";
import { Live } from "./live.js";
import { Pools } from "./pools.js";
import { Search } from "./search.js";
import { byId, clock, el, number, say, span } from "./format.js";

const STATES = {
  live: "Live",
  lost: "Connection lost, trying again",
  full: "Too many pages are open, waiting for a place",
};
const NAMES = { consul: "Consul", rabbitmq: "RabbitMQ" };
const STALE = {
  consul: "Hosts, pools and totals are the last that were known. Running servers are not affected, new ones have to wait.",
  rabbitmq: "Events and claims are not heard meanwhile. Running servers are not affected, new ones have to wait.",
};

const search = new Search();
const hosts = new Hosts();
const pools = new Pools();
const events = new Events((user) => search.go(user, true));
const failures = new Failures();
const plot = new Plot(byId("plot"), [
  { name: "available", label: "Available", index: 1 },
  { name: "used", label: "In use", index: 2 },
  { name: "waiting", label: "Waiting", index: 3 },
]);
let snapshot = null;

const chosen = (name) => Number(document.querySelector(`input[name="${name}"]:checked`).value);

function totals() {
  for (const shown of document.querySelectorAll("[data-total]")) say(shown, number(snapshot.totals[shown.dataset.total]));
  const waiting = document.querySelector("[data-total=waiting]");
  waiting.parentElement.classList.toggle("busy", snapshot.totals.waiting > 0);
}

function rates() {
  const rate = snapshot.rates[chosen("span")];
  say(document.querySelector("[data-rate=per_s]"), rate.per_s);
  for (const shown of document.querySelectorAll("[data-time]")) say(shown, span(rate.times_s[shown.dataset.time]));
}

function away() {
  const parts = Object.entries(snapshot.away).filter(([, trouble]) => trouble);
  byId("away").replaceChildren(...parts.map(([name, trouble]) =>
    el("p", { class: "banner", "data-away": name, title: trouble.error },
      el("strong", {}, `${NAMES[name]} is away since ${clock(trouble.since)}. `), STALE[name])));
  document.body.classList.toggle("no-consul", Boolean(snapshot.away.consul));
  document.body.classList.toggle("no-rabbitmq", Boolean(snapshot.away.rabbitmq));
}

function foot() {
  say(byId("release"), snapshot.release);
  const { claims, routes } = snapshot.records;
  say(byId("records"), claims === null ? "" : `Consul holds ${number(claims)} claims and ${number(routes)} routes.`);
}

const PARTS = {
  totals,
  rates,
  away,
  records: foot,
  release: foot,
  hosts: () => hosts.show(snapshot.hosts, snapshot.loaded),
  pools: () => pools.show(snapshot.pools, snapshot.loaded),
  failures: () => failures.show(snapshot.failures),
  events: () => events.show(snapshot.events),
  series: () => plot.show(snapshot.series.points, snapshot.series.period_s, chosen("plot")),
};

function show(found, changed) {
  snapshot = found;
  for (const [name, part] of Object.entries(PARTS)) if (changed === null || changed.has(name)) part();
  document.body.dataset.version = snapshot.version;
}

new Live(show, (state) => {
  const pill = byId("connection");
  say(pill, STATES[state]);
  pill.dataset.state = state;
  document.body.classList.toggle("cut-off", state !== "live");
});

byId("spans").addEventListener("change", () => snapshot && rates());
byId("plot-spans").addEventListener("change", () => snapshot && PARTS.series());
setInterval(() => hosts.tick(), 1000);
