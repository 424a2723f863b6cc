// A list of any length of which only what is in sight exists. Rows are as high as the style says.

import { element } from "./text.js";

const BESIDE = 8;

export class List {
  // `columns`: { title, className, fill(cell, row), order(row) }, `open(row)`: where Enter leads.
  constructor(place, columns, { key, open, low = 0, none }) {
    this.place = place;
    this.columns = columns;
    this.key = key;
    this.open = open;
    this.none = none;
    this.rows = [];
    this.shown = [];
    this.filter = "";
    this.sorted = { column: low, reversed: false };
    this.selected = null;
    this.touched = 0;
    this.pool = new Map();
    this.head = element("div", "row head");
    this.head.setAttribute("role", "row");
    columns.forEach((column, index) => {
      const cell = element("button", `cell ${column.className ?? ""}`, column.title);
      cell.type = "button";
      cell.setAttribute("role", "columnheader");
      if (column.order) cell.addEventListener("click", () => this.sort(index));
      else cell.disabled = true;
      this.head.append(cell);
    });
    this.body = element("div", "rows");
    this.body.setAttribute("role", "rowgroup");
    this.empty = element("p", "quiet none", "");
    place.append(this.head, this.body, this.empty);
    addEventListener("scroll", () => this.draw(), { passive: true });
    addEventListener("resize", () => this.measure());
    this.mark();
  }

  // Rows may be higher now: they are all placed anew.
  measure() {
    this.height = 0;
    for (const node of this.pool.values()) node.remove();
    this.pool.clear();
    this.draw();
  }

  update(rows) {
    this.rows = rows;
    this.arrange(false);
    this.draw();
  }

  sort(index) {
    const { column, reversed } = this.sorted;
    this.sorted = { column: index, reversed: column === index && !reversed };
    this.mark();
    this.arrange(true);
    this.draw();
  }

  nextSort() {
    let index = this.sorted.column;
    do index = (index + 1) % this.columns.length; while (!this.columns[index].order);
    this.sort(index);
  }

  search(text) {
    this.filter = text.trim().toLowerCase();
    this.arrange(true);
    this.draw();
  }

  mark() {
    [...this.head.children].forEach((cell, index) => {
      const is = index === this.sorted.column;
      cell.setAttribute("aria-sort", !is ? "none" : this.sorted.reversed ? "ascending" : "descending");
    });
    this.place.dispatchEvent(new CustomEvent("sorted"));
  }

  // Rows do not change places under somebody's hand: only if it has rested for a while.
  arrange(isAsked) {
    const now = performance.now();
    const isSame = this.order && this.order.length === this.rows.length;
    if (!isAsked && isSame && now - Math.max(this.touched, this.arranged) < 5000) {
      this.shown = this.order.map((index) => this.rows[index]).filter((row) => this.matches(row));
      return;
    }
    this.arranged = now;
    const { column, reversed } = this.sorted;
    const order = this.columns[column].order;
    const values = this.rows.map(order);
    const sign = reversed ? -1 : 1;
    this.order = values.map((_, index) => index).sort((a, b) => {
      const [one, other] = [values[a], values[b]];
      const difference = typeof one === "string" ? one.localeCompare(other, "en", { numeric: true }) : other - one;
      return sign * difference || a - b;
    });
    this.shown = this.order.map((index) => this.rows[index]).filter((row) => this.matches(row));
  }

  matches(row) {
    return this.filter === "" || this.key(row).toLowerCase().includes(this.filter);
  }

  rowHeight() {
    // The style has a say: rows of a telephone are higher.
    this.height ||= parseFloat(getComputedStyle(this.place).getPropertyValue("--row")) || 40;
    return this.height;
  }

  draw() {
    const height = this.rowHeight();
    this.body.style.height = `${this.shown.length * height}px`;
    this.empty.textContent = this.shown.length ? "" : this.filter ? "Nothing has such a name." : this.none;
    const top = -this.body.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(top / height) - BESIDE);
    const last = Math.min(this.shown.length, Math.ceil((top + innerHeight) / height) + BESIDE);
    const spare = [];
    for (const [place, node] of this.pool) {
      if (place < first || place >= last) {
        this.pool.delete(place);
        spare.push(node);
      }
    }
    for (let place = first; place < last; place += 1) {
      let node = this.pool.get(place);
      if (!node) {
        node = spare.pop() ?? this.made();
        node.style.transform = `translateY(${place * height}px)`;
        this.pool.set(place, node);
      }
      this.fill(node, this.shown[place]);
    }
    for (const node of spare) node.remove();
  }

  made() {
    const node = element("a", "row");
    node.setAttribute("role", "row");
    for (const column of this.columns) {
      const cell = element("span", `cell ${column.className ?? ""}`);
      cell.setAttribute("role", "cell");
      node.append(cell);
    }
    this.body.append(node);
    return node;
  }

  fill(node, row) {
    const key = this.key(row);
    if (node.dataset.key !== key) {
      node.dataset.key = key;
      if (this.open) node.href = this.open(row);
    }
    node.classList.toggle("selected", key === this.selected);
    this.columns.forEach((column, index) => column.fill(node.children[index], row));
  }

  step(by) {
    this.touched = performance.now();
    const at = this.shown.findIndex((row) => this.key(row) === this.selected);
    const next = Math.min(this.shown.length - 1, Math.max(0, at < 0 ? 0 : at + by));
    if (!this.shown[next]) return;
    this.selected = this.key(this.shown[next]);
    const height = this.rowHeight();
    const top = this.body.getBoundingClientRect().top + next * height;
    const above = 2 * height;
    if (top < above) scrollBy(0, top - above);
    if (top + 2 * height > innerHeight) scrollBy(0, top + 2 * height - innerHeight);
    this.draw();
  }

  openSelected() {
    const row = this.shown.find((row) => this.key(row) === this.selected);
    if (row && this.open) location.assign(this.open(row));
  }
}
