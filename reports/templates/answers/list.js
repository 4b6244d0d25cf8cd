// Elements, and the list of questions, which has only the visible rows in the document.

const $ = (id) => document.getElementById(id);

// Makes an element. Texts become text nodes and never markup.
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

// Text with the searched words marked.
function marked(text, looked) {
  if (!looked.length) return [text];
  const lower = text.toLowerCase(), out = [];
  // Lower case may have another length than the text, as of "İ": then nothing is marked.
  if (lower.length !== text.length) return [text];
  let at = 0;
  while (at < text.length) {
    let next = -1, word = "";
    for (const w of looked) {
      const i = lower.indexOf(w, at);
      if (i >= 0 && (next < 0 || i < next || (i === next && w.length > word.length))) { next = i; word = w; }
    }
    if (next < 0) break;
    if (next > at) out.push(text.slice(at, next));
    out.push(make("mark", {}, text.slice(next, next + word.length)));
    at = next + word.length;
  }
  out.push(text.slice(at));
  return out;
}

const plural = (n, thing) => `${n.toLocaleString("en")} ${thing}${n === 1 ? "" : "s"}`;

const MARKS = [["✗", "no", "wrong"], ["~", "part", "partly right"], ["✓", "yes", "right"], ["–", "none", "no answer"]];

const ROW = 74;
// Browsers limit the height of an element; longer lists scroll in proportion.
const TALLEST = 8000000;
const view = { list: [], at: -1, rows: new Map(), drawn: "" };

function showList(list) {
  view.list = list;
  view.drawn = "";
  const at = list.indexOf(named());
  view.at = at;
  $("space").style.height = `${Math.min(list.length * ROW, TALLEST)}px`;
  if (at >= 0) reveal(at);
  drawRows();
}

// First position whose row is at the top of the visible part.
function topRow() {
  const box = $("rows"), tall = view.list.length * ROW;
  if (tall <= TALLEST) return box.scrollTop / ROW;
  const most = TALLEST - box.clientHeight;
  return most <= 0 ? 0 : (box.scrollTop / most) * (view.list.length - box.clientHeight / ROW);
}

function reveal(at) {
  const box = $("rows"), tall = view.list.length * ROW, visible = box.clientHeight / ROW, top = topRow();
  let wanted = top;
  if (at < top) wanted = at; else if (at + 1 > top + visible) wanted = at + 1 - visible;
  if (wanted === top) return;
  box.scrollTop = tall <= TALLEST ? wanted * ROW
    : (wanted / (view.list.length - visible)) * (TALLEST - box.clientHeight);
}

function drawRows() {
  const box = $("rows"), space = $("space"), top = topRow();
  const first = Math.max(0, Math.floor(top) - 3), last = Math.min(view.list.length, Math.ceil(top + box.clientHeight / ROW) + 3);
  const offset = view.list.length * ROW <= TALLEST ? 0 : box.scrollTop - top * ROW;
  const key = [first, last, view.at, offset].join();
  if (key === view.drawn) return;
  view.drawn = key;
  const rows = [];
  for (let i = first; i < last; i++) {
    const row = makeRow(view.list[i], i);
    row.style.transform = `translateY(${i * ROW + offset}px)`;
    rows.push(row);
  }
  space.replaceChildren(...rows);
  if (view.at >= 0) box.setAttribute("aria-activedescendant", `row-${view.at}`);
  else box.removeAttribute("aria-activedescendant");
}

function makeRow(g, i) {
  const q = questionOf(g), counted = study.runs.map((run, r) => r).filter((r) => isCounted(study.runs[r]));
  const right = counted.filter((r) => (study.codes[r][g] & 3) === RIGHT).length;
  const where = [study.benchmarks[q.b].name, q.subtask].filter(Boolean).join(" · ");
  const row = make("div", {
    role: "option", id: `row-${i}`, class: "row", "aria-selected": String(i === view.at),
    "aria-setsize": view.list.length, "aria-posinset": i + 1, onclick: () => choose(i, true),
  },
  make("div", { class: "text", dir: "auto" }, marked(q.text || q.id, words())),
  make("div", { class: "where" }, make("span", {}, where), make("span", { class: "id" }, q.id)),
  make("div", { class: "strip", role: "img", "aria-label": `right in ${right} of ${plural(counted.length, "counted run")}` },
    counted.map((r) => cell(study.codes[r][g])), make("span", { "aria-hidden": "true" }, `${right}/${counted.length}`)));
  return row;
}

// A cell of the strip: filled if right, with a dot if right without the image.
function cell(code) {
  const withBlind = (code >> 2) & 3;
  return make("i", { class: `cell ${MARKS[code & 3][1]}${withBlind === RIGHT ? " blind" : ""}` });
}

// Chooses the question at a position of the list; `open` shows it in place of the list on narrow screens.
function choose(at, open) {
  if (at < 0 || at >= view.list.length) return;
  view.at = at;
  state.id = idOf(view.list[at]);
  reveal(at);
  drawRows();
  showQuestion(view.list[at]);
  if (open) openQuestion(true);
  writeHash();
}

const move = (by) => choose(Math.max(0, Math.min(view.list.length - 1, view.at < 0 ? 0 : view.at + by)), false);
