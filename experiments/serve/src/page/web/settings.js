// Settings of the viewer, kept in localStorage if the browser allows it.

const KEY = "burgess.chat.1";

/** Sampling of a column before the viewer changes it: greedy decoding. */
export const SAMPLING = { temperature: 0, topP: 1, maxTokens: 256, seed: "" };

const DEFAULTS = {
  theme: "system",
  blind: true,
  options: true,
  tokens: false,
  remember: true,
  /** One or two columns: { model, temperature, topP, maxTokens, seed }. */
  columns: [],
};

/** The settings; call `save` after a change. */
export const settings = load();

function load() {
  let stored = {};
  try {
    stored = JSON.parse(localStorage.getItem(KEY) || "{}") || {};
  } catch {
    // No storage, or not ours.
  }
  const loaded = { ...DEFAULTS };
  for (const name of ["blind", "options", "tokens", "remember"]) {
    if (typeof stored[name] === "boolean") loaded[name] = stored[name];
  }
  if (["system", "light", "dark"].includes(stored.theme)) loaded.theme = stored.theme;
  if (Array.isArray(stored.columns)) loaded.columns = stored.columns.slice(0, 2).filter(Boolean).map(column);
  return loaded;
}

/** A column whose values are in range, whatever was stored. */
export function column(from) {
  return {
    model: typeof from.model === "string" ? from.model : "",
    temperature: within(from.temperature, 0, 1, SAMPLING.temperature),
    topP: within(from.topP, 0.01, 1, SAMPLING.topP),
    maxTokens: Math.round(within(from.maxTokens, 1, 65536, SAMPLING.maxTokens)),
    seed: /^\d{1,15}$/.test(String(from.seed)) ? String(from.seed) : "",
  };
}

function within(value, least, most, otherwise) {
  const number = typeof value === "number" ? value : Number.parseFloat(value);
  return Number.isFinite(number) ? Math.min(most, Math.max(least, number)) : otherwise;
}

/** Keeps the settings for the next visit. */
export function save() {
  try {
    localStorage.setItem(KEY, JSON.stringify(settings));
  } catch {
    // No storage: they hold until the page is closed.
  }
}
