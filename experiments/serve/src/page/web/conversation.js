// Threads of questions about one image, and how their questions are sent to the models.
//
// Thread: { image, turns }. Turn: { question, options, right, remember, cells }.
// Cell: { column, model, sampling, lanes }, one per column. Lane: one answer, with the image or blind.

import * as api from "./api.js";

/** All threads of the page, the current one last. */
export const threads = [];

/** Starts a thread about an image (or none) if the current one has turns already; else changes its image. */
export function startThread(image) {
  const current = threads.at(-1);
  if (current && current.turns.length === 0) current.image = image;
  else threads.push({ image, turns: [] });
  return threads.at(-1);
}

/** A new turn of the current thread. `blind` says whether the question is also asked without the image. */
export function newTurn(thread, { question, options, right, remember, columns, blind, tokens, score }) {
  const cells = columns.map((column, i) => {
    const lanes = [freshLane(thread.image !== null)];
    if (thread.image !== null && blind) lanes.push(freshLane(false));
    return { column: "AB"[i], model: column.model, sampling: sampling(column), lanes };
  });
  const turn = { question, options, right, remember, cells, tokens, score: score && options.length > 1 };
  thread.turns.push(turn);
  return turn;
}

function freshLane(image) {
  return {
    image, state: "waiting", text: "", tokens: [], finish: null, usage: null, timings: null, error: null, wait: null,
    scores: null, scoreState: "none", scoreError: null,
  };
}

function sampling({ temperature, topP, maxTokens, seed }) {
  // Without a seed each answer gets one of its own, which the record states.
  return { temperature, topP, maxTokens, seed: seed === "" ? Math.floor(Math.random() * 2 ** 31) : Number(seed) };
}

/** The conversation as a model is sent it: earlier turns with the answers of the same column, then the question. */
export function messages(thread, turn, cell, image) {
  const at = thread.turns.indexOf(turn);
  let first = at;
  while (first > 0 && thread.turns[first].remember) first -= 1;
  const sent = [];
  for (const earlier of thread.turns.slice(first, at)) {
    const of = earlier.cells.find((other) => other.column === cell.column);
    const answer = of && of.lanes.find((other) => other.image === image);
    if (!answer || answer.text === "") continue;
    sent.push({ role: "user", content: earlier.question }, { role: "assistant", content: answer.text });
  }
  sent.push({ role: "user", content: turn.question });
  if (image) {
    const url = { type: "image_url", image_url: { url: thread.image.url } };
    sent[0].content = [url, { type: "text", text: sent[0].content }];
  }
  return sent;
}

/** How often a request is sent again by itself after 429. */
const TRIES = 5;

/**
 * Answers a turn in all its lanes (or in `only` one) at once. `changed(lane)` is called whenever a lane has changed.
 */
export async function answer(thread, turn, { signal, changed, only = null }) {
  const work = [];
  for (const cell of turn.cells) {
    for (const lane of cell.lanes) {
      if (only === null || lane === only) work.push(run(thread, turn, cell, lane, signal, () => changed(lane)));
    }
  }
  await Promise.all(work);
}

/** Answers one lane: first in words, then the probabilities of the options. */
async function run(thread, turn, cell, lane, signal, changed) {
  const request = { model: cell.model, messages: messages(thread, turn, cell, lane.image) };
  try {
    await patiently(lane, signal, changed, async () => {
      Object.assign(lane, freshLane(lane.image));
      const { temperature, topP, maxTokens, seed } = cell.sampling;
      const body = { ...request, temperature, top_p: topP, max_tokens: maxTokens, seed };
      if (turn.tokens) Object.assign(body, { logprobs: true, top_logprobs: 5 });
      const onDelta = (text, tokens) => {
        lane.state = "streaming";
        lane.text += text;
        lane.tokens.push(...tokens);
        changed();
      };
      const end = await api.chat(body, { signal, onDelta });
      Object.assign(lane, end, { state: "done" });
    });
  } catch (error) {
    if (error.name === "AbortError") lane.state = "stopped";
    else Object.assign(lane, { state: "failed", error });
  }
  changed();
  if (!turn.score || lane.state !== "done") return;
  lane.scoreState = "waiting";
  changed();
  try {
    await patiently(lane, signal, changed, async () => {
      lane.scores = (await api.score({ ...request, options: turn.options }, signal)).options;
    });
    lane.scoreState = "done";
  } catch (error) {
    lane.scoreState = error.name === "AbortError" ? "stopped" : "failed";
    lane.scoreError = error.name === "AbortError" ? null : error;
  }
  changed();
}

/** Does a request again after the time that a busy server asks for; `lane.wait` lets the viewer shorten it. */
async function patiently(lane, signal, changed, request) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await request();
    } catch (error) {
      if (error.status !== 429 || tries >= TRIES) throw error;
      await new Promise((resolve, reject) => {
        const until = Date.now() + error.retryAfter * 1000;
        const stop = () => end(() => reject(new DOMException("stopped", "AbortError")));
        const timer = setInterval(() => {
          if (Date.now() >= until) end(resolve);
          else changed();
        }, 250);
        const end = (then) => {
          clearInterval(timer);
          signal.removeEventListener("abort", stop);
          lane.wait = null;
          then();
        };
        signal.addEventListener("abort", stop);
        lane.wait = { until, message: error.message, now: () => end(resolve) };
        changed();
        if (signal.aborted) stop();
      });
      changed();
    }
  }
}
