// Numbers for people: three digits and a prefix, as `weir top` writes them.

const PREFIXES = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

export function short(number) {
  const [unit, prefix] = PREFIXES.find(([unit]) => number >= 0.9995 * unit) ?? [1, ""];
  const value = number / unit;
  if (prefix === "" && Number.isInteger(value)) return String(value);
  return value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0) + prefix;
}

export const UNITS = {
  packets: "packets/s",
  bits: "bit/s",
  connections: "connections/s",
  tokens: "tokens/s",
};

// The same with its unit, in two parts: prefixes go with bits as they do on a link's label.
export function amount(number, unit) {
  const text = short(number);
  if (unit !== "bits") return [text, UNITS[unit]];
  const [, value, prefix] = /^([\d.]+)(\D?)$/.exec(text);
  return [value, `${prefix}${UNITS[unit]}`];
}

export function span(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} days`;
}

export function many(number, one, more) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : more}`;
}

// An element with text: what others named never becomes markup.
export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Writes only what differs: most of a page stays as it is.
export function write(node, text, className) {
  if (node.textContent !== text) node.textContent = text;
  if (className !== undefined && node.className !== className) node.className = className;
}
