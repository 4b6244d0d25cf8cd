// The record of the page: what was asked, answered and set, as JSON or Markdown.

import { percent, seconds, shown } from "./dom.js";
import { facts } from "./image.js";

/** All threads as plain data. */
export function asData(threads, models) {
  return {
    made_by: "burgess chat page",
    date: new Date().toISOString(),
    models: models.map(({ id, info }) => ({ id, ...info })),
    conversations: threads.filter((thread) => thread.turns.length > 0).map((thread) => ({
      image: thread.image && {
        name: thread.image.name, type: thread.image.type, bytes: thread.image.size, width: thread.image.width,
        height: thread.image.height, sha256: thread.image.digest,
      },
      turns: thread.turns.map((turn) => ({
        question: turn.question,
        options: turn.options,
        right_answer: turn.right,
        earlier_turns_in_prompt: turn.remember,
        columns: turn.cells.map((cell) => ({
          column: cell.column,
          model: cell.model,
          temperature: cell.sampling.temperature,
          top_p: cell.sampling.topP,
          max_tokens: cell.sampling.maxTokens,
          seed: cell.sampling.seed,
          answers: cell.lanes.map((lane) => ({
            image: lane.image,
            state: lane.state,
            text: lane.text,
            finish_reason: lane.finish,
            usage: lane.usage,
            timings: lane.timings,
            options: lane.scores,
            tokens: lane.tokens.length > 0 ? lane.tokens : null,
            error: lane.error ? lane.error.message : lane.scoreError ? lane.scoreError.message : null,
          })),
        })),
      })),
    })),
  };
}

/** All threads as Markdown. */
export function asMarkdown(threads) {
  const out = [];
  for (const thread of threads.filter((some) => some.turns.length > 0)) {
    out.push(thread.image ? `# ${inline(thread.image.name)} (${facts(thread.image)})` : "# Without an image");
    if (thread.image && thread.image.digest) out.push(`SHA-256 \`${thread.image.digest}\``);
    for (const turn of thread.turns) {
      const [first, ...rest] = turn.question.split("\n");
      out.push(`## ${inline(first)}`);
      if (rest.length > 0) out.push(rest.map((line) => `> ${inline(line)}  `.trimEnd()).join("\n>\n"));
      if (turn.right) out.push(`Right answer: ${inline(turn.right)}`);
      out.push(...turn.cells.map((cell) => cellAsMarkdown(turn, cell)));
    }
  }
  return out.join("\n\n") + "\n";
}

function cellAsMarkdown(turn, cell) {
  const { temperature, topP, maxTokens, seed } = cell.sampling;
  const how = temperature === 0 ? "greedy" : `temperature ${temperature}, top-p ${topP}, seed ${seed}`;
  const rows = [`**${cell.column}: ${inline(cell.model)}** (${how}, at most ${maxTokens} tokens)`, ""];
  for (const lane of cell.lanes) {
    const said = lane.state === "failed" ? `error: ${inline(lane.error.message)}` : inline(lane.text) || "(empty)";
    rows.push(`- ${lane.image ? "with the image" : "without an image"}: ${said}${ended(lane)}`);
  }
  const scored = cell.lanes.filter((lane) => lane.scores);
  if (scored.length > 0) {
    rows.push("", `| option | ${scored.map((lane) => (lane.image ? "with the image" : "without")).join(" | ")} |`);
    rows.push(`|---|${scored.map(() => "--:|").join("")}`);
    turn.options.forEach((option, i) => {
      const shares = scored.map((lane) => (lane.scores[i] ? percent(lane.scores[i].probability) : "")).join(" | ");
      rows.push(`| ${inline(option)} | ${shares} |`);
    });
  }
  return rows.join("\n");
}

function ended(lane) {
  const parts = [];
  if (lane.finish === "length") parts.push("cut at the maximum number of tokens");
  if (lane.state === "stopped") parts.push("stopped");
  if (lane.timings) parts.push(seconds(lane.timings.prompt + lane.timings.generation));
  return parts.length > 0 ? ` (${parts.join(", ")})` : "";
}

/** Text on one line in which Markdown means nothing. */
function inline(text) {
  return shown(text.trim()).replace(/\s*\n\s*/g, " ⏎ ").replace(/([\\`*_{}[\]<>#|!~])/g, "\\$1");
}
