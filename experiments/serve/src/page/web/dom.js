// Building elements. Text is always set as text: an answer may hold anything.

/** Makes an element with properties (`class`, `aria-…`, `data-…` and `role` as attributes) and children. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (name === "class") element.className = value;
    else if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** The element with this id. */
export const $ = (id) => document.getElementById(id);

// Control characters, marks that reverse the direction of text and characters without width.
const MISLEADING =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/g;

/** A text as it is shown: characters that would mislead a reader become escapes. */
export function shown(text) {
  return text.replace(MISLEADING, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}

/** Tells screen readers something, politely. */
export function say(text) {
  $("status").textContent = text;
}

/** A number of seconds. */
export function seconds(value) {
  if (value < 0.00005) return "<0.1\u00a0ms";
  if (value < 0.0995) return `${(value * 1000).toFixed(value < 0.00995 ? 1 : 0)}\u00a0ms`;
  return `${value.toFixed(value < 9.95 ? 2 : 1)}\u00a0s`;
}

/** A log-probability in nats. */
export function nats(value, digits = 2) {
  return `${value.toFixed(digits).replace("-", "\u2212")}\u00a0nats`;
}

/** A probability in percent. */
export function percent(value) {
  const hundred = value * 100;
  if (hundred > 0 && hundred < 0.05) return "<0.1\u00a0%";
  if (hundred < 100 && hundred >= 99.95) return ">99.9\u00a0%";
  return `${hundred.toFixed(1)}\u00a0%`;
}

/** A size in bytes. */
export function bytes(value) {
  if (value < 1000) return `${value} B`;
  if (value < 999_500) return `${(value / 1000).toFixed(value < 9950 ? 1 : 0)} kB`;
  return `${(value / 1e6).toFixed(1)} MB`;
}

/** A large count. */
export function count(value) {
  if (value < 1000) return String(Math.round(value));
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= size) return `${(value / size).toFixed(value < 9.95 * size ? 1 : 0)}\u00a0${unit}`;
  }
  return String(value);
}
