// The server's API: requests with the token, errors in words, streamed answers.

const TOKEN = "burgess.token";
let token = "";
try {
  token = sessionStorage.getItem(TOKEN) || "";
} catch {
  // No storage: the token holds until the page is closed.
}

/** Keeps the token of this server until the tab is closed. */
export function setToken(value) {
  token = value;
  try {
    sessionStorage.setItem(TOKEN, value);
  } catch {
    // As above.
  }
}

/** An error in words. `retryAfter` is in seconds if the server said when to try again. */
export class ApiError extends Error {
  constructor(message, { status = 0, hint = "", retryAfter = null, offline = false } = {}) {
    super(message);
    Object.assign(this, { status, hint, retryAfter, offline });
  }
}

/** Splits the server's "What is wrong. Hint: what to do." */
function inWords(message) {
  const at = message.indexOf(" Hint: ");
  return at < 0 ? [message, ""] : [message.slice(0, at), message.slice(at + 7)];
}

async function failure(response) {
  let text = "";
  try {
    text = await response.text();
  } catch {
    // The status says enough.
  }
  let message = `the server answered ${response.status} ${response.statusText}`.trim() + ".";
  let hint = "";
  try {
    const error = JSON.parse(text).error;
    if (typeof error.message === "string") [message, hint] = inWords(error.message);
    if (typeof error.hint === "string") hint = error.hint;
  } catch {
    // Not the API's form, as from a proxy.
  }
  const after = Number.parseFloat(response.headers.get("Retry-After") || "");
  const retryAfter = Number.isFinite(after) ? Math.max(1, after) : response.status === 429 ? 1 : null;
  return new ApiError(message, { status: response.status, hint, retryAfter });
}

async function send(path, options, bodyBytes = 0) {
  const headers = { ...(options.headers || {}) };
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw await unreachable(bodyBytes);
  }
  if (!response.ok) throw await failure(response);
  return response;
}

/** The error of a request that got no answer: the server is away, or it refused to read a large body. */
async function unreachable(bodyBytes) {
  if (bodyBytes > 1e6 && (await isAlive())) {
    const size = (bodyBytes / 1e6).toFixed(1);
    const message = `the server closed the connection while ${size} MB were sent to it.`;
    return new ApiError(`${message} The image is probably too large.`, { hint: "use a smaller image" });
  }
  return new ApiError("the server cannot be reached.", {
    hint: "see whether it is running, then try again", offline: true,
  });
}

/** Whether the server answers at all. */
export async function isAlive() {
  try {
    return (await fetch("/healthz", { cache: "no-store" })).ok;
  } catch {
    return false;
  }
}

/** Descriptions of the served models. */
export async function models() {
  const list = await (await send("/v1/models", {})).json();
  return list.data.map((entry) => ({ id: entry.id, info: entry.burgess || {} }));
}

/** The example questions. */
export async function examples() {
  return (await send("/examples", {})).json();
}

async function post(path, body, signal) {
  const text = JSON.stringify(body);
  const headers = { "Content-Type": "application/json" };
  return send(path, { method: "POST", headers, body: text, signal }, text.length);
}

/** Log-probabilities of options as answers. */
export async function score(body, signal) {
  return (await post("/v1/score", body, signal)).json();
}

/**
 * Asks for a streamed answer. `onDelta(text, tokens)` is called for each piece. Returns `finish`, `usage` and
 * `timings`.
 */
export async function chat(body, { signal, onDelta }) {
  const streamed = { ...body, stream: true, stream_options: { include_usage: true } };
  const response = await post("/v1/chat/completions", streamed, signal);
  const end = { finish: null, usage: null, timings: null };
  let complete = false;
  for await (const data of events(response.body)) {
    if (data === "[DONE]") {
      complete = true;
      break;
    }
    let chunk;
    try {
      chunk = JSON.parse(data);
    } catch {
      throw new ApiError("the server sent a piece of an answer that is not JSON.");
    }
    if (chunk.error) {
      const [message, hint] = inWords(String(chunk.error.message || "the answer failed."));
      throw new ApiError(message, { hint: chunk.error.hint || hint });
    }
    if (chunk.usage) end.usage = chunk.usage;
    if (chunk.timings) end.timings = chunk.timings;
    const choice = (chunk.choices || [])[0];
    if (!choice) continue;
    if (choice.finish_reason) end.finish = choice.finish_reason;
    const tokens = choice.logprobs && Array.isArray(choice.logprobs.content) ? choice.logprobs.content : [];
    const text = choice.delta && typeof choice.delta.content === "string" ? choice.delta.content : "";
    if (text !== "" || tokens.length > 0) onDelta(text, tokens);
  }
  if (!complete) throw new ApiError("the connection ended in the middle of the answer.", { hint: "ask again" });
  return end;
}

/** The data of server-sent events. */
async function* events(stream) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      let piece;
      try {
        piece = await reader.read();
      } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new ApiError("the connection broke in the middle of the answer.", { hint: "ask again", offline: true });
      }
      rest += piece.done ? decoder.decode() : decoder.decode(piece.value, { stream: true });
      const parts = rest.split(/\r?\n\r?\n/);
      rest = parts.pop();
      for (const part of parts) {
        const data = part.split(/\r?\n/).filter((line) => line.startsWith("data:"));
        if (data.length > 0) yield data.map((line) => line.slice(5).trimStart()).join("\n");
      }
      if (piece.done) return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
