// Follows the fleet: events come in, what they change is written, and keys move about.

import { List } from "./list.js";
import { views } from "./views.js";
import { element, many, span, write } from "./text.js";

const { view: viewName, name } = document.body.dataset;
const at = (id) => document.getElementById(id);
// Without an event for so long what is shown is old.
const STALE_MS = 3500;
const AGAIN_MS = 5000;
// Updates that are remembered for whoever measures them.
const MEASURES = 600;

const state = { head: null, at: 0, past: [], tables: {} };
let list = null;
let heard = 0;
let measured = 0;

function take(all, isChange) {
  state.head = all.head;
  state.at = all.at;
  if (!isChange) {
    state.past = all.past;
    state.tables = all.tables;
    return;
  }
  for (const [name, changed] of Object.entries(all.tables)) {
    const { moving } = state.tables[name];
    for (const [row, numbers] of Object.entries(changed)) moving[row] = numbers;
  }
}

function strip() {
  const head = state.head;
  const fact = (id, text, more, className = "") => {
    const [, value, rest] = at(id).children;
    write(value, text, className);
    write(rest, more, "more");
  };
  const isBroken = head.broken > 0;
  fact("promise", isBroken ? `broken for ${head.broken}` : "kept",
    `${many(head.limits, "limit", "limits")}`, isBroken ? "bad" : "good");
  fact("leader", head.leader || "none", head.term ? `term ${head.term}` : "this host is alone", head.leader ? "" : "bad");
  const keeper = head.zookeeper;
  fact("zookeeper", !keeper ? "not used" : keeper.connected ? "connected" : "lost",
    keeper ? `for ${span(keeper.since)}` : "this host is alone", keeper && !keeper.connected ? "bad" : "");
  const gone = head.members - head.live;
  const floor = head.onFloor ? `${head.onFloor} on the floor` : "none on its floor";
  fact("members", head.members ? `${head.live} of ${head.members}` : "1",
    floor, gone > 0 || head.onFloor > 0 ? "warn" : "");
  const waits = head.pending ? `${head.pending} not yet there` : "everywhere";
  fact("policy", head.policy ? `version ${head.policy}` : "none",
    head.trial !== null ? `on trial, ${head.trial} s left` : waits, head.trial !== null || head.pending ? "warn" : "");
  const notice = at("notice");
  notice.hidden = !head.partial;
  if (head.partial) write(notice, `No leader answers: rates and shares are those of ${head.node} alone.`);
}

function follow() {
  const path = { limit: `/events/limits/${encodeURIComponent(name)}`, node: `/events/nodes/${encodeURIComponent(name)}` };
  const source = new EventSource(path[viewName] ?? "/events");
  const hear = (isChange) => (event) => {
    const begin = performance.now();
    heard = begin;
    take(JSON.parse(event.data), isChange);
    strip();
    view.update(state, isChange);
    live();
    measure(begin);
  };
  source.addEventListener("all", hear(false));
  source.addEventListener("change", hear(true));
  source.addEventListener("error", () => {
    // It connects again by itself, unless the answer was no.
    if (source.readyState !== EventSource.CLOSED) return;
    live();
    setTimeout(async () => {
      const answer = await fetch("/past/-", { redirect: "manual" }).catch(() => null);
      if (answer?.status === 401) location.assign("/login");
      else follow();
    }, AGAIN_MS);
  });
}

// From an event to when it has been painted.
function measure(start) {
  requestAnimationFrame(() => setTimeout(() => {
    if (measured === MEASURES) {
      performance.clearMeasures("weir-update");
      measured = 0;
    }
    measured += 1;
    performance.measure("weir-update", { start, end: performance.now() });
  }));
}

function live() {
  const age = performance.now() - heard;
  const isLive = heard > 0 && age < STALE_MS;
  const text = isLive ? `live from ${state.head.node}` : heard > 0 ? `${span(age / 1000)} old` : "connecting…";
  write(at("live"), text, `live ${isLive ? "good" : heard > 0 ? "bad" : "quiet"}`);
  document.body.classList.toggle("stale", heard > 0 && !isLive);
}

function theme() {
  const signs = { auto: "◐", dark: "●", light: "○" };
  write(at("theme"), signs[document.documentElement.dataset.theme]);
}

function sorts() {
  const select = at("sort");
  if (!select || !list) return;
  list.columns.forEach((column, index) => {
    if (!column.order) return;
    const option = element("option", "", `by ${column.title.toLowerCase()}`);
    option.value = index;
    select.append(option);
  });
  const show = () => { select.value = list.sorted.column; };
  select.addEventListener("change", () => list.sort(Number(select.value)));
  list.place.addEventListener("sorted", show);
  show();
}

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || at("token")) return;
  const dialog = at("keys");
  const search = at("search");
  if (event.target === search) {
    if (event.key === "Escape") { search.value = ""; list.search(""); search.blur(); }
    if (event.key === "Enter" || event.key === "ArrowDown") { search.blur(); list.step(0); event.preventDefault(); }
    return;
  }
  if (dialog.open || event.target.closest?.("select")) return;
  const does = {
    j: () => list?.step(1), ArrowDown: () => list?.step(1),
    k: () => list?.step(-1), ArrowUp: () => list?.step(-1),
    Enter: () => event.target.closest?.("a, button") ? undefined : list?.openSelected(),
    Backspace: () => location.assign(viewName === "node" ? "/nodes" : "/"),
    "/": () => search?.focus(),
    s: () => list?.nextSort(),
    1: () => location.assign("/"), 2: () => location.assign("/nodes"), 3: () => location.assign("/changes"),
    t: () => { window.weirNextTheme(); },
    "?": () => dialog.showModal(),
  }[event.key];
  if (!does) return;
  if (event.key !== "Enter") event.preventDefault();
  does();
}

at("theme").addEventListener("click", () => window.weirNextTheme());
at("help").addEventListener("click", () => at("keys").showModal());
document.addEventListener("weir-theme", theme);
addEventListener("keydown", keys);
theme();

const view = views[viewName]?.(name, state);
if (view) {
  list = new List(at("list"), view.columns, view);
  view.list = list;
  at("search")?.addEventListener("input", (event) => list.search(event.target.value));
  sorts();
  follow();
  live();
  setInterval(live, 1000);
}
for (const time of document.querySelectorAll("time[data-ms]")) {
  time.title = time.textContent;
  time.textContent = `${new Date(Number(time.dataset.ms)).toLocaleString("en-GB")} · ${time.title}`;
}
