// Follows the fleet: events come in, what they change is written, and keys move about.

import { List } from "./list.js";
import { views } from "./views.js";
import { element, many, span, write } from "./text.js";

const { view: viewName, name } = document.body.dataset;
const at = (id) => document.getElementById(id);
// Without an event for so long what is shown is old.
const STALE_MS = 3500;
const AGAIN_MS = 5000;
// How long an answer is waited for that says why there are no events.
const REASON_MS = 3000;
// Updates that are remembered for whoever measures them.
const MEASURES = 600;

const state = { head: null, at: 0, past: [], tables: {} };
let list = null;
let heard = 0;
let measured = 0;
// Why there are no events, if this node said so.
let reason = "";

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
  const keeper = head.zookeeper;
  fact("promise", isBroken ? `broken for ${head.broken}` : !head.limits ? "–" : head.partial ? "kept here" : "kept",
    head.limits ? many(head.limits, "limit", "limits") : "no limits", isBroken ? "bad" : head.limits && !head.partial ? "good" : "quiet");
  fact("leader", head.leader || (keeper ? "none" : "not needed"), keeper ? `term ${head.term}` : "this host is alone",
    head.leader || !keeper ? "" : "bad");
  fact("zookeeper", !keeper ? "not used" : keeper.connected ? "connected" : "lost",
    keeper ? `for ${span(keeper.since)}` : "this host is alone", keeper && !keeper.connected ? "bad" : "");
  const gone = head.members - head.live;
  const floor = head.onFloor ? many(head.onFloor, "on its floor", "on their floors") : "none on its floor";
  fact("members", head.members ? `${head.live} of ${head.members}` : "1",
    floor, gone > 0 || head.onFloor > 0 ? "warn" : "");
  const waits = head.pending ? `${head.pending} not yet there` : "everywhere";
  fact("policy", head.policy ? `version ${head.policy}` : "none",
    head.trial !== null ? `on trial, ${head.trial} s left` : waits, head.trial !== null || head.pending ? "warn" : "");
  const here = `Rates and shares are those of ${head.node} alone.`;
  notice("notice", !head.partial ? "" : head.leader
    ? `${head.leader} leads, and ${head.node} cannot ask it. ${here}`
    : `No node leads: shares stay as they are until their leases end, and then it is each limit's on_expiry. ${here}`);
}

function notice(id, text) {
  const place = at(id);
  place.hidden = !text;
  write(place, text);
}

function follow() {
  const paths = { limit: `/events/limits/${encodeURIComponent(name)}`, node: `/events/nodes/${encodeURIComponent(name)}` };
  const path = paths[viewName] ?? "/events";
  const source = new EventSource(path);
  const hear = (isChange) => (event) => {
    const begin = performance.now();
    heard = begin;
    reason = "";
    take(JSON.parse(event.data), isChange);
    strip();
    view.update(state, isChange);
    live();
    performance.measure("weir-script", { start: begin, end: performance.now() });
    measure(begin);
  };
  source.addEventListener("all", hear(false));
  source.addEventListener("change", hear(true));
  source.addEventListener("error", () => {
    // It connects again by itself, unless the answer was no.
    if (source.readyState !== EventSource.CLOSED) return;
    live();
    ask(path).then(() => setTimeout(follow, AGAIN_MS));
  });
}

// Why were there no events? Whoever is not let in any more goes to where they are.
async function ask(path) {
  const ended = new AbortController();
  const end = setTimeout(() => ended.abort(), REASON_MS);
  try {
    const answer = await fetch(path, { signal: ended.signal });
    if (answer.status === 401) location.assign("/login");
    else if (!answer.ok) reason = (await answer.text()).trim();
  } catch { /* Nobody answers, and the page says so. */ }
  clearTimeout(end);
  ended.abort();
  live();
}

// From an event to when it has been painted.
function measure(start) {
  requestAnimationFrame(() => setTimeout(() => {
    if (measured === MEASURES) {
      performance.clearMeasures();
      measured = 0;
    }
    measured += 1;
    performance.measure("weir-update", { start, end: performance.now() });
  }));
}

function live() {
  // From when the page was opened, if nothing has come yet.
  const age = performance.now() - heard;
  const isLive = heard > 0 && age < STALE_MS;
  const text = isLive ? `live from ${state.head.node}` : heard > 0 ? `${span(age / 1000)} old` : "connecting…";
  write(at("live"), text, `live ${isLive ? "good" : heard > 0 ? "bad" : "quiet"}`);
  document.body.classList.toggle("stale", heard > 0 && !isLive);
  const why = reason || `${heard > 0 ? state.head.node : "this node"} does not answer.`;
  notice("lapse", isLive || age < STALE_MS ? ""
    : heard > 0 ? `What is shown is ${span(age / 1000)} old: ${why}` : `There is nothing to show yet: ${why}`);
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
    Backspace: () => {
      const list = { node: "/nodes", limit: "/", changes: "/" }[viewName];
      if (list) location.assign(list);
    },
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
  const stored = new Date(Number(time.dataset.ms));
  const ago = time.textContent;
  time.dateTime = stored.toISOString();
  time.textContent = `${stored.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" })} `;
  time.append(element("small", "quiet", ago));
}
