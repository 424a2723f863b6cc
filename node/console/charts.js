// Pictures: one line in a row of a list, and the charts of a limit, which uPlot draws.

import { short } from "./text.js";

const SVG = "http://www.w3.org/2000/svg";
// Points of a line in a list.
export const POINTS = 60;
const [WIDTH, HEIGHT] = [POINTS - 1, 20];

// What was offered, against the budget, which is the height unless more was offered.
export function sparkline(cell, points, length, budget) {
  let svg = cell.firstChild;
  if (!svg) {
    svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    for (const name of ["area", "line", "budget"]) {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("class", name);
      svg.append(path);
    }
    cell.append(svg);
  }
  let top = budget;
  for (let index = POINTS - length; index < POINTS; index += 1) top = Math.max(top, points[index]);
  const high = (value) => (HEIGHT - 1 - (HEIGHT - 2) * (top > 0 ? value / top : 0)).toFixed(1);
  let line = "";
  for (let index = POINTS - length; index < POINTS; index += 1) {
    line += `${line ? "L" : "M"}${index},${high(points[index])}`;
  }
  const [area, stroke, limit] = svg.children;
  stroke.setAttribute("d", line);
  area.setAttribute("d", line && `${line}L${WIDTH},${HEIGHT}L${POINTS - length},${HEIGHT}Z`);
  limit.setAttribute("d", budget > 0 ? `M0,${high(budget)}H${WIDTH}` : "");
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Colours are what the page has: `light-dark()` has to be resolved by a probe.
function resolved(name) {
  const probe = document.createElement("i");
  probe.className = `probe ${name}`;
  document.body.append(probe);
  const text = getComputedStyle(probe).color;
  probe.remove();
  return text || colour("--text");
}

// `series`: { label, colour, fill, dash, stepped }
export class Chart {
  constructor(place, series, { isClock }) {
    this.place = place;
    this.series = series;
    this.isClock = isClock;
    this.data = [[], ...series.map(() => [])];
    new ResizeObserver(() => this.resize()).observe(place);
    document.addEventListener("weir-theme", () => this.build());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.build());
    this.build();
  }

  size() {
    return { width: Math.max(200, this.place.clientWidth), height: Math.max(120, this.place.clientHeight) };
  }

  resize() {
    this.plot?.setSize(this.size());
  }

  build() {
    this.plot?.destroy();
    const quiet = resolved("quiet");
    const line = resolved("grid");
    const font = "11px system-ui, sans-serif";
    const axis = { stroke: quiet, font, grid: { stroke: line, width: 1 }, ticks: { show: false } };
    const ago = (_, ticks) => ticks.map((tick) => (tick === 0 ? "now" : `−${Math.round(-tick / 60)} min`));
    const clock = (_, ticks) => ticks.map((tick) =>
      new Date(tick * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" }));
    this.plot = new uPlot({
      ...this.size(),
      legend: { show: false },
      cursor: { x: true, y: false, points: { size: 6 }, drag: { x: false, y: false } },
      scales: {
        x: { time: false },
        y: { range: (_, __, most) => [0, most > 0 ? most * 1.08 : 1] },
      },
      axes: [
        { ...axis, values: this.isClock ? clock : ago, space: 90, size: 28, grid: { show: false },
          incrs: [5, 10, 15, 30, 60, 120, 300] },
        { ...axis, values: (_, ticks) => ticks.map(short), size: 52, space: 36 },
      ],
      series: [{}, ...this.series.map((one) => ({
        label: one.label,
        stroke: resolved(one.colour),
        fill: one.fill ? resolved(one.fill) : undefined,
        width: one.width ?? 1.5,
        dash: one.dash,
        points: { show: false },
        paths: one.stepped ? uPlot.paths.stepped({ align: 1 }) : undefined,
      }))],
      hooks: { setCursor: [(plot) => this.read?.(plot.cursor.idx ?? null)] },
    }, this.data, this.place);
  }

  update(data) {
    this.data = data;
    this.plot.setData(data);
  }
}
