// Drawing threads, turns and answers.

import { count, h, nats, percent, say, seconds, shown } from "./dom.js";
import { facts } from "./image.js";
import { tokenView } from "./tokens.js";

/** Sampling settings in words. */
export function samplingInWords({ temperature, topP, maxTokens, seed }) {
  const how = temperature === 0 ? "greedy" : `temperature ${temperature}`;
  const more = temperature === 0 ? "" : `, top-p ${topP}${seed === "" ? "" : `, seed ${seed}`}`;
  return `${how}${more}, at most ${maxTokens} tokens`;
}

/** The head of a thread: its image. */
export function threadView(thread) {
  const image = thread.image;
  const name = image ? `About ${shown(image.name)}` : "Without an image";
  const element = h("section", { class: "thread", "aria-label": name });
  if (image) {
    const small = image.width === null ? null : h("img", { src: image.url, alt: `Image: ${shown(image.name)}` });
    const digest = image.digest ? `SHA-256 ${image.digest}` : undefined;
    element.append(h("p", { class: "about soft" }, small,
      h("span", { title: digest }, shown(image.name), h("br"), facts(image))));
  } else {
    element.append(h("p", { class: "about soft" }, "Without an image"));
  }
  return element;
}

/** Draws a turn. `actions` has `edit()`, `again()`, `retry(lane)` and `drawn()`, which is called after each drawing. */
export class TurnView {
  constructor(turn, number, actions) {
    this.turn = turn;
    this.lanes = new Map();
    this.dirty = new Set();
    this.drawn = actions.drawn;
    this.actions = h("span", { class: "actions" },
      button("Edit", actions.edit, `Edit question ${number}`),
      button("Ask again", actions.again, `Ask question ${number} again`));
    const [first, ...rest] = shown(turn.question).split("\n");
    const asked = h("div", { class: "asked" }, h("h3", { class: "q" }, first), this.actions);
    if (rest.length > 0) asked.append(h("p", { class: "rest" }, rest.join("\n")));
    const notes = [];
    if (turn.right) notes.push(`right answer: ${shown(turn.right)}`);
    if (!turn.remember) notes.push("asked without the earlier turns");
    if (notes.length > 0) asked.append(h("p", { class: "soft" }, notes.join(" · ")));
    const cells = turn.cells.map((cell) => this.cellView(cell, actions));
    this.element = h("article", { class: "turn", "aria-label": `Question ${number}` }, asked,
      h("div", { class: `columns cells n${cells.length}` }, ...cells));
  }

  /** All answers in words, for screen readers. */
  inWords() {
    const words = (lane) => {
      if (lane.state === "failed") return `error: ${lane.error.message}`;
      return lane.state === "stopped" ? "stopped" : lane.text || "empty answer";
    };
    return [...this.lanes].map(([lane, parts]) => `${parts.who}: ${words(lane)}`).join(". ");
  }

  /** Only the last turn can be edited and asked again, and nothing while answers come in. */
  setActions(available) {
    this.actions.hidden = !available;
  }

  cellView(cell, actions) {
    const list = h("div", { class: "answers" });
    const scores = h("div", { class: "scores" });
    for (const lane of cell.lanes) {
      const body = h("div", { class: "answer" });
      const under = h("p", { class: "facts soft" });
      const same = h("span", { class: "same", hidden: true }, "same as with the image");
      list.append(h("div", { class: `lane ${lane.image ? "sighted" : "blind"}` },
        h("p", { class: "kind" }, h("span", { class: "mark" }), kindOf(cell, lane)),
        h("div", { class: "said" }, body, same, under)));
      const who = `${cell.column}, ${cell.model}, ${lane.image ? "with the image" : "without an image"}`;
      this.lanes.set(lane, { cell, body, under, same, scores, who, retry: () => actions.retry(lane), drawn: null });
      this.draw(lane);
    }
    const how = h("small", {}, samplingInWords(cell.sampling));
    return h("section", { class: `cell ${cell.column.toLowerCase()}`, "aria-label": `${cell.column}: ${cell.model}` },
      h("p", { class: "who" }, h("span", { class: "swatch" }, cell.column), h("b", {}, shown(cell.model)), " ", how),
      list, scores);
  }

  /** Draws a lane at the next frame. */
  changed(lane) {
    if (this.dirty.size === 0) requestAnimationFrame(() => this.flush());
    this.dirty.add(lane);
  }

  /** Draws now what has changed. */
  flush() {
    const lanes = [...this.dirty];
    this.dirty.clear();
    for (const lane of lanes) this.draw(lane);
    if (lanes.length > 0) this.drawn();
  }

  draw(lane) {
    const parts = this.lanes.get(lane);
    const { body, under, cell } = parts;
    body.setAttribute("aria-busy", String(lane.state === "waiting" || lane.state === "streaming"));
    body.className = `answer ${lane.state}`;
    const drawn = lane.wait ? "wait" : lane.state;
    if (lane.wait) this.drawWait(lane, parts);
    else if (lane.state === "failed") body.replaceChildren(errorView(lane, parts.retry));
    else if (lane.state === "streaming") this.drawText(lane, parts, drawn);
    else if (drawn !== parts.drawn) this.drawEnd(lane, parts);
    parts.drawn = drawn;
    under.textContent = lane.state === "done" || lane.state === "stopped" ? laneFacts(lane) : "";
    this.drawSame(cell);
    drawScores(this.turn, cell, parts.scores, parts.retry);
  }

  drawText(lane, parts, drawn) {
    if (parts.drawn !== drawn) {
      parts.text = document.createTextNode("");
      parts.body.replaceChildren(parts.text);
    }
    const text = shown(lane.text);
    if (text.startsWith(parts.text.data)) parts.text.appendData(text.slice(parts.text.data.length));
    else parts.text.data = text;
  }

  drawEnd(lane, parts) {
    if (lane.state === "waiting") parts.body.replaceChildren(h("span", { class: "soft" }, "waiting …"));
    else if (this.turn.tokens && lane.tokens.length > 0) parts.body.replaceChildren(tokenView(lane.tokens, parts.who));
    else if (lane.text !== "") parts.body.replaceChildren(shown(lane.text));
    else parts.body.replaceChildren(h("span", { class: "soft" }, lane.state === "done" ? "(empty answer)" : "stopped"));
  }

  drawWait(lane, parts) {
    const left = Math.max(0, Math.ceil((lane.wait.until - Date.now()) / 1000));
    const text = `Busy: ${shown(lane.wait.message).replace(/\.$/, "")}. Trying again in ${left} s.`;
    if (parts.drawn === "wait") {
      parts.body.querySelector(".wait-text").textContent = text;
      return;
    }
    say(`${parts.who}: ${text}`);
    parts.body.replaceChildren(h("div", { class: "error busy" }, h("span", { class: "wait-text" }, text), " ",
      button("Try now", lane.wait.now, `Try now: ${parts.who}`)));
  }

  drawSame(cell) {
    const [sighted, blind] = cell.lanes;
    if (!blind || !this.lanes.has(blind)) return;
    const same = sighted.state === "done" && blind.state === "done" && sighted.text.trim() === blind.text.trim();
    this.lanes.get(blind).same.hidden = !same;
  }
}

/** What a lane is called. */
function kindOf(cell, lane) {
  if (lane.image) return "image";
  return cell.lanes.length > 1 ? "blind" : "text only";
}

function button(text, onclick, name) {
  return h("button", { type: "button", onclick, "aria-label": name }, text);
}

function errorView(lane, retry) {
  const { error } = lane;
  const message = shown(error.message);
  const box = h("div", { class: "error" }, h("p", {}, message.charAt(0).toUpperCase() + message.slice(1)));
  if (error.hint) box.append(h("p", { class: "hint" }, h("b", {}, "Hint: "), shown(error.hint)));
  if (lane.text !== "") box.prepend(h("p", { class: "partial" }, shown(lane.text)));
  box.append(button("Try again", retry));
  return box;
}

/** Tokens and times of a lane in words. */
function laneFacts(lane) {
  const { usage, timings } = lane;
  const parts = [];
  if (lane.state === "stopped" && lane.text !== "") parts.push("stopped");
  if (lane.finish === "length") parts.push("cut at the maximum");
  if (usage) {
    const made = usage.completion_tokens;
    // The time runs from the first token to the last, which ends the answer unless it was cut.
    const steps = lane.finish === "length" ? made - 1 : made;
    const measured = timings && steps > 0 && timings.generation >= 0.001;
    const rate = measured ? `, ${count(steps / timings.generation)}/s` : "";
    const time = timings ? ` in ${seconds(timings.generation)}${rate}` : "";
    parts.push(`${made} token${made === 1 ? "" : "s"}${time}`);
    const cached = usage.prompt_tokens_details ? usage.prompt_tokens_details.cached_tokens : 0;
    const from = cached > 0 ? ` (${cached} cached)` : "";
    parts.push(`prompt ${usage.prompt_tokens}${from}${timings ? ` in ${seconds(timings.prompt)}` : ""}`);
  }
  if (timings) parts.push(`queue ${seconds(timings.queued)}`);
  return parts.join(" · ");
}

/** Bars of the probabilities of the options, with the image and blind. */
function drawScores(turn, cell, box, retry) {
  if (!turn.score) return;
  const scored = cell.lanes.filter((lane) => lane.scores);
  const failed = cell.lanes.find((lane) => lane.scoreError);
  if (scored.length === 0) {
    const waiting = cell.lanes.some((lane) => lane.scoreState === "waiting");
    box.replaceChildren(waiting ? h("p", { class: "soft" }, "scoring the options …") : "");
    if (failed) box.replaceChildren(scoreErrorView(failed, retry));
    return;
  }
  const best = new Map(scored.map((lane) => [lane, Math.max(...lane.scores.map((score) => score.logprob))]));
  const rows = turn.options.map((option, i) => h("tr", {},
    h("th", { scope: "row" }, shown(option), isRight(option, turn.right) ? rightMark() : null),
    ...scored.map((lane) => barCell(lane, i, best.get(lane)))));
  const heads = scored.map((lane) => h("th", { scope: "col" }, kindOf(cell, lane)));
  box.replaceChildren(h("table", { class: "options" }, h("caption", {}, "Probability of each option as the answer"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "option"), ...heads)), h("tbody", {}, ...rows)));
  if (failed) box.append(scoreErrorView(failed, retry));
}

function rightMark() {
  return h("span", { class: "right" }, " ✓ right");
}

/** Whether an option is the right answer: "(A)", "A." and "a" are the same. */
function isRight(option, right) {
  const bare = (text) => text.trim().replace(/^\(?(.*?)[.)]?$/, "$1").toLowerCase();
  return Boolean(right) && bare(option) === bare(right);
}

function barCell(lane, i, best) {
  const score = lane.scores[i];
  if (!score) return h("td", {}, "–");
  const fill = h("span", { class: "fill" });
  fill.style.width = `${(100 * score.probability).toFixed(2)}%`;
  const title = `log-probability ${nats(score.logprob, 3)} over ${score.tokens} tokens`;
  return h("td", { class: score.logprob === best ? "best" : "", title },
    h("span", { class: `bar ${lane.image ? "sighted" : "blind"}`, "aria-hidden": "true" }, fill),
    h("span", { class: "number" }, percent(score.probability)));
}

function scoreErrorView(lane, retry) {
  const { message, hint } = lane.scoreError;
  const text = `The options were not scored: ${shown(message)}${hint ? ` Hint: ${shown(hint)}` : ""}`;
  return h("div", { class: "error" }, h("p", {}, text), button("Try again", retry));
}
