// What each page shows of what came in.

import { Chart, POINTS, sparkline } from "./charts.js";
import { UNITS, amount, element, many, short, span, write } from "./text.js";

const at = (id) => document.getElementById(id);
const part = (of, all) => (all > 0 ? of / all : 0);
// Below this a rate is nothing.
const quietly = (number) => (number > 0 ? short(number) : "–");

const number = (title, of, isBad) => ({
  title,
  className: `number ${title.toLowerCase()}`,
  order: of,
  fill: (cell, row) => write(cell, quietly(of(row)), `cell number ${title.toLowerCase()} ${isBad && of(row) > 0 ? "bad" : ""}`),
});

// A bar of how much of what may be had is asked for.
function bar(cell, of, isOver) {
  let mark = cell.firstChild;
  if (!mark) {
    cell.append(element("span", "bar"), element("span", "percent"));
    mark = cell.firstChild;
    mark.append(element("i"));
  }
  mark.firstChild.style.width = `${Math.min(100, of * 100).toFixed(1)}%`;
  const percent = of > 9.995 ? "> 999 %" : `${Math.round(of * 100)} %`;
  write(cell.lastChild, percent);
  cell.classList.toggle("over", isOver);
}

function named(cell, title, more) {
  if (!cell.firstChild) cell.append(element("b"), element("small"));
  write(cell.firstChild, title);
  write(cell.lastChild, more);
}

// --- Limits ---

function limitState({ fixed, moving }) {
  const [, , , mode] = fixed;
  const [, , dropped, isKept, onFloor, failingOpen, pending] = moving;
  if (!isKept) return ["promise broken", "bad"];
  if (failingOpen > 0) return [`${failingOpen} failing open`, "bad"];
  if (mode === "shadow") return ["shadow", "quiet"];
  if (pending > 0) return [`${pending} pending`, "warn"];
  if (dropped > 0) return ["dropping", "warn"];
  if (onFloor > 0) return [`${onFloor} on floor`, "quiet"];
  return ["", "quiet"];
}

// The worst first: broken promises, then what drops, then what is nearest to its budget.
function pressure({ fixed, moving }) {
  const use = part(moving[0], fixed[6] ? 0 : fixed[4]);
  return (moving[3] ? 0 : 1e6) + (moving[2] > 0 ? 1e3 : 0) + Math.min(use, 999);
}

const limitColumns = [
  { title: "Limit", className: "name", order: ({ fixed }) => fixed[0],
    fill: (cell, { fixed }) => named(cell, fixed[0],
      [UNITS[fixed[1]], fixed[2], fixed[3] === "shadow" ? "shadow" : "", fixed[6] ? `for each ${fixed[6]}` : ""].filter(Boolean).join(" · ")) },
  { title: "Last minute", className: "spark",
    fill: (cell, row) => sparkline(cell, row.points, row.length, row.fixed[6] ? 0 : row.fixed[4]) },
  number("Offered", ({ moving }) => moving[0]),
  number("Admitted", ({ moving }) => moving[1]),
  number("Dropped", ({ moving }) => moving[2], true),
  { title: "Budget", className: "number budget", order: ({ fixed }) => fixed[4],
    fill: (cell, { fixed }) => write(cell, fixed[6] ? `${short(fixed[4])}/key` : short(fixed[4])) },
  { title: "Pressure", className: "use", order: pressure,
    fill: (cell, row) => bar(cell, part(row.moving[0], row.fixed[6] ? 0 : row.fixed[4]), row.moving[2] > 0) },
  { title: "State", className: "state",
    fill: (cell, row) => { const [text, look] = limitState(row); write(cell, text, `cell state ${look}`); } },
];

function limits(_, state) {
  const known = new Map();
  return {
    columns: limitColumns,
    low: 6,
    none: "No limits are in force.",
    key: ({ fixed }) => fixed[0],
    open: ({ fixed }) => `/limits/${encodeURIComponent(fixed[0])}`,
    update() {
      const { fixed, moving } = state.tables.limits;
      const rows = fixed.map((part, index) => {
        const row = known.get(part[0]) ?? { points: new Float32Array(POINTS), length: 0 };
        row.fixed = part;
        row.moving = moving[index];
        row.points.copyWithin(0, 1);
        row.points[POINTS - 1] = row.moving[0];
        row.length = Math.min(POINTS, row.length + 1);
        return row;
      });
      if (known.size !== rows.length || rows.some((row) => known.get(row.fixed[0]) !== row)) {
        known.clear();
        for (const row of rows) known.set(row.fixed[0], row);
      }
      this.list.update(rows);
      write(at("count"), many(rows.length, "limit", "limits"));
    },
  };
}

// --- Nodes ---

const nodeState = ({ moving: [isLive, isLeader, onFloor] }) =>
  !isLive ? ["gone", "bad"] : onFloor ? ["on its floor", "warn"] : isLeader ? ["leads", "accent"] : ["live", "good"];
const RANKS = { bad: 3, warn: 2, accent: 1, good: 0 };

const nodeColumns = [
  { title: "Node", className: "name", order: ({ fixed }) => fixed[0],
    fill: (cell, { fixed }) => named(cell, fixed[0], fixed[1]) },
  { title: "State", className: "state", order: (row) => RANKS[nodeState(row)[1]],
    fill: (cell, row) => { const [text, look] = nodeState(row); write(cell, text, `cell state ${look}`); } },
  { title: "Last report", className: "number", order: ({ moving }) => moving[4] ?? Infinity,
    fill: (cell, { moving }) => write(cell, moving[4] === null ? "never" : moving[4] < 1 ? "< 1 s" : `${span(moving[4])}`) },
  { title: "Policy", className: "number", order: ({ moving }) => moving[3],
    fill: (cell, { moving }) => write(cell, moving[3] ? String(moving[3]) : "–") },
];

const rowsOf = ({ fixed, moving }) => fixed.map((part, index) => ({ fixed: part, moving: moving[index] }));

function nodes(_, state) {
  return {
    columns: nodeColumns,
    // Those that are gone first.
    low: 1,
    none: "This host is alone: there is no fleet.",
    key: ({ fixed }) => fixed[0],
    open: ({ fixed }) => `/nodes/${encodeURIComponent(fixed[0])}`,
    update() {
      const rows = rowsOf(state.tables.nodes);
      this.list.update(rows);
      write(at("count"), many(rows.length, "node", "nodes"));
    },
  };
}

// --- Shares: of one limit on all nodes, or of all limits on one node ---

function lease({ moving: [, , , , left, onFloor, isLive] }) {
  if (onFloor) return ["on its floor", "warn"];
  if (left === null) return ["no end", "quiet"];
  return [`${left.toFixed(1)} s`, isLive ? "" : "warn"];
}

const shareColumns = (first) => [
  first,
  number("Share", ({ moving }) => moving[0]),
  number("Floor", ({ fixed }) => fixed[4]),
  number("Offered", ({ moving }) => moving[1]),
  number("Admitted", ({ moving }) => moving[2]),
  number("Dropped", ({ moving }) => moving[3], true),
  { title: "Pressure", className: "use", order: ({ moving }) => part(moving[1], moving[0]),
    fill: (cell, row) => bar(cell, row.fixed[5] ? 0 : part(row.moving[1], row.moving[0]), row.moving[3] > 0) },
  { title: "Lease left", className: "state number", order: ({ moving }) => moving[4] ?? Infinity,
    fill: (cell, row) => { const [text, look] = lease(row); write(cell, text, `cell state number ${look}`); } },
];

function facts(fixed) {
  return [fixed[2], fixed[3] === "shadow" ? "shadow: it drops nothing" : "", fixed[6] ? `for each ${fixed[6]}` : ""]
    .filter(Boolean).join(" · ");
}

function limit(name, state) {
  const fleet = new Chart(at("fleet-chart"), [
    { label: "offered", colour: "offered", fill: "offered-fill" },
    { label: "admitted", colour: "admitted", width: 2 },
    { label: "budget", colour: "budget", dash: [4, 4], width: 1 },
  ], { isClock: true });
  const host = new Chart(at("host-chart"), [{ label: "offered", colour: "offered", fill: "offered-fill", stepped: true }],
    { isClock: false });
  for (const label of ["offered", "admitted", "budget"]) at("fleet-legend").append(element("span", label, label));
  const look = () => past(name, host);
  look();
  setInterval(look, 10_000);
  return {
    columns: shareColumns({ title: "Node", className: "name", order: ({ fixed }) => fixed[0],
      fill: (cell, { fixed, moving }) => named(cell, fixed[0], !moving[6] ? "gone" : moving[7] ? "leads" : "") }),
    low: 3,
    none: "Nobody holds a share of it.",
    key: ({ fixed }) => fixed[0],
    open: ({ fixed }) => `/nodes/${encodeURIComponent(fixed[0])}`,
    update(_, isChange) {
      const [row] = rowsOf(state.tables.limits);
      document.body.classList.toggle("nothing", !row);
      if (!row) {
        write(at("facts"), "no limit of this name is in force", "bad");
        return;
      }
      const [offered, admitted, dropped, isKept] = row.moving;
      write(at("facts"), facts(row.fixed), "quiet");
      if (isChange) {
        state.past.push([state.at, offered, admitted, dropped]);
        if (state.past.length > 600) state.past.shift();
      }
      const budget = row.fixed[6] ? null : row.fixed[4];
      const column = (index) => state.past.map((point) => point[index]);
      fleet.update([column(0), column(1), column(2), state.past.map(() => budget)]);
      const unit = UNITS[row.fixed[1]];
      write(at("fleet-unit"), unit);
      write(at("host-unit"), `${unit} offered`);
      numbers([
        [row.fixed[6] ? "budget of each key" : "budget", amount(row.fixed[4], row.fixed[1]), ""],
        ["offered", amount(offered, row.fixed[1]), ""],
        ["admitted", amount(admitted, row.fixed[1]), ""],
        ["dropped", dropped > 0 ? amount(dropped, row.fixed[1]) : ["–", ""], dropped > 0 ? "bad" : ""],
        ["promise", [isKept ? "kept" : "broken", ""], isKept ? "good" : "bad"],
      ]);
      const rows = rowsOf(state.tables.shares);
      this.list.update(rows);
      write(at("count"), many(rows.length, "node", "nodes"));
      write(at("seen-by"), `as ${state.head.node} sees them`);
      table(at("sources"), ["Source", `Offered`, `Dropped`], state.head.sources.map(([, source, offered, dropped]) =>
        [source, short(offered), quietly(dropped)]), "No source has been seen lately.");
    },
  };
}

function numbers(facts) {
  const place = at("numbers");
  while (place.children.length < facts.length) {
    const one = element("div");
    const value = element("b");
    value.append(element("span"), element("i"));
    one.append(element("small"), value);
    place.append(one);
  }
  facts.forEach(([title, [value, unit], look], index) => {
    const [label, text] = place.children[index].children;
    write(label, title);
    write(text.firstChild, value, look);
    write(text.lastChild, unit);
  });
}

function table(place, titles, rows, nothing) {
  const cells = (tag, texts) => {
    const row = element("tr");
    texts.forEach((text, index) => row.append(element(tag, index ? "number" : "", text)));
    return row;
  };
  if (!rows.length) return place.replaceChildren(cells("td", [nothing]));
  place.replaceChildren(cells("th", titles), ...rows.map((row) => cells("td", row)));
}

const REASONS = {
  over_limit: "over the limit", closed: "closed", contended: "contended",
  refused_elsewhere: "refused by another limit", would_drop: "would be dropped",
};

// The last minutes on the host that serves this page.
async function past(name, chart) {
  const answer = await fetch(`/past/${encodeURIComponent(name)}`).catch(() => null);
  const notice = at("host-notice");
  if (!answer?.ok) {
    notice.hidden = false;
    write(notice, "This host has seen nothing of it yet.");
    return table(at("minutes"), [], [], "This host has seen nothing of it yet.");
  }
  const { spans, minutes } = await answer.json();
  notice.hidden = true;
  const whole = spans.reduce((sum, [seconds]) => sum + seconds, 0);
  const [times, rates] = [[-whole], [spans[0]?.[1] ?? 0]];
  let time = -whole;
  for (const [seconds, offered] of spans) {
    // A step holds from where the last ended.
    rates[rates.length - 1] = offered;
    time += seconds;
    times.push(time);
    rates.push(offered);
  }
  const first = times.findIndex((time) => time >= -600);
  chart.update([times.slice(Math.max(0, first - 1)), rates.slice(Math.max(0, first - 1))]);
  table(at("minutes"), ["Minute", "Share", "Offered", "Admitted", "Dropped packets"], minutes.map((minute) => [
    minute.ago === 0 ? "this" : `−${minute.ago}`,
    minute.least === minute.most ? short(minute.most) : `${short(minute.least)}–${short(minute.most)}`,
    quietly(minute.offered),
    quietly(minute.admitted),
    minute.dropped.map(([reason, packets]) => `${short(packets)} ${REASONS[reason] ?? reason}`).join(", ") || "–",
  ]), "This host has seen nothing of it yet.");
}

function node(name, state) {
  return {
    columns: shareColumns({ title: "Limit", className: "name", order: ({ fixed }) => fixed[1],
      fill: (cell, { fixed }) => named(cell, fixed[1], [UNITS[fixed[2]], fixed[5] ? `for each ${fixed[5]}` : ""].filter(Boolean).join(" · ")) }),
    low: 6,
    none: "It holds no shares.",
    key: ({ fixed }) => fixed[1],
    open: ({ fixed }) => `/limits/${encodeURIComponent(fixed[1])}`,
    update() {
      const rows = rowsOf(state.tables.shares);
      this.list.update(rows);
      write(at("count"), many(rows.length, "limit", "limits"));
      const first = rows[0]?.moving;
      const floors = rows.filter(({ moving }) => moving[5]).length;
      write(at("facts"), !first ? "nothing is known of it here" : !first[6] ? "gone"
        : [first[7] ? "leads" : "live", floors ? `on ${floors} floors` : ""].filter(Boolean).join(" · "),
        first && first[6] ? "quiet" : "bad");
    },
  };
}

export const views = { limits, nodes, limit, node };
