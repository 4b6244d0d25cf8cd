// An answer token by token, coloured by probability; the details of one token are shown when it has the focus.

import { h, nats, percent, shown } from "./dom.js";

/**
 * The tokens of a lane; arrow keys move between them. Below them stand the details of the token with the focus or under
 * the pointer, else a summary. `who` names the answer for screen readers.
 */
export function tokenView(tokens, who) {
  const details = h("p", { class: "token-details soft" }, summary(tokens));
  const row = h("div", { class: "tokens", role: "listbox", "aria-orientation": "horizontal",
    "aria-label": `Tokens of ${who}` });
  tokens.forEach((token, i) => row.append(tokenSpan(token, i)));
  const show = (event) => {
    const i = [...row.children].indexOf(event.target);
    if (i < 0) return;
    details.replaceChildren(...describe(tokens[i]));
    if (event.type !== "focusin") return;
    for (const other of row.children) {
      other.tabIndex = other === event.target ? 0 : -1;
      other.setAttribute("aria-selected", String(other === event.target));
    }
  };
  const leave = () => {
    const i = [...row.children].indexOf(document.activeElement);
    details.replaceChildren(...(i < 0 ? [summary(tokens)] : describe(tokens[i])));
  };
  row.addEventListener("focusin", show);
  row.addEventListener("mouseover", show);
  row.addEventListener("mouseleave", leave);
  row.addEventListener("focusout", () => setTimeout(leave));
  row.addEventListener("keydown", (event) => {
    const i = [...row.children].indexOf(event.target);
    const last = row.children.length - 1;
    const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: last }[event.key];
    if (to === undefined || to < 0 || to > last) return;
    event.preventDefault();
    row.children[to].focus();
  });
  return h("div", { class: "token-view" }, row, details);
}

function summary(tokens) {
  const sum = tokens.reduce((total, token) => total + token.logprob, 0);
  const mean = percent(Math.exp(sum / tokens.length));
  return tokens.length === 1 ? `log-probability ${nats(sum)}, ${mean}`
    : `together ${nats(sum)}, geometric mean per token ${mean}`;
}

// Not a button: a long answer of buttons would break into lines differently from its text.
function tokenSpan(token, i) {
  const probability = Math.exp(token.logprob);
  const text = i === 0 ? token.token.trimStart() : token.token;
  const span = h("span", { class: "token", role: "option", tabIndex: i === 0 ? 0 : -1, "aria-selected": "false",
    "aria-label": `token ${visible(token.token)}, ${percent(probability)}` }, shown(text));
  span.style.setProperty("--doubt", String(Math.min(1, 1 - probability)));
  return span;
}

function describe(token) {
  const parts = [h("b", {}, visible(token.token)), ` ${percent(Math.exp(token.logprob))} (${nats(token.logprob)})`];
  const others = (token.top_logprobs || []).filter((other) => other.token !== token.token);
  if (others.length > 0) parts.push("; else ");
  others.forEach((other, i) => {
    parts.push(i > 0 ? ", " : "", h("b", {}, visible(other.token)), ` ${percent(Math.exp(other.logprob))}`);
  });
  return parts;
}

/** A token with its white space made visible. */
function visible(text) {
  return `“${shown(text).replace(/ /g, "␣").replace(/\n/g, "⏎").replace(/\t/g, "⇥")}”`;
}
