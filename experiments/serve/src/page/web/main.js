// The chat page: wires image, columns, question and answers together.

import * as api from "./api.js";
import { showColumns } from "./columns.js";
import { answer, newTurn, startThread, threads } from "./conversation.js";
import { $, h, say, shown } from "./dom.js";
import { carriesFiles, facts, imageAmong, readImage } from "./image.js";
import { asksForLetter, lines, readOptions } from "./options.js";
import { asData, asMarkdown } from "./record.js";
import { save, settings } from "./settings.js";
import { TurnView, threadView } from "./view.js";

let models = [];
/** The answers that are coming in: { stopper, count }; null if none are. */
let running = null;
/** The turn that the next question replaces. */
let editing = null;
/** The example whose question was filled in. */
let example = null;
const views = new Map();

// ---- server ----

async function connect() {
  try {
    models = await api.models();
  } catch (error) {
    if (error.status === 401) return askForToken(error, connect);
    $("server").textContent = "not connected";
    banner(`${shown(error.message)} ${error.hint ? `Hint: ${shown(error.hint)}` : ""}`);
    if (error.offline) waitForServer(connect);
    return undefined;
  }
  banner("");
  $("server").textContent = models.length === 1 ? "1 model" : `${models.length} models`;
  if (models.length === 0) banner("This server has no models.");
  showColumns(models);
  if ($("examples").children.length === 0) await showExamples();
  return undefined;
}

function banner(text) {
  $("banner").hidden = text === "";
  $("banner").textContent = text.charAt(0).toUpperCase() + text.slice(1);
}

let waiting = null;
function waitForServer(then) {
  if (waiting !== null) return;
  waiting = setInterval(async () => {
    if (!(await api.isAlive())) return;
    clearInterval(waiting);
    waiting = null;
    then();
  }, 2000);
}

function askForToken(error, then) {
  const dialog = $("login");
  $("login-said").textContent = error.message.includes("wrong")
    ? "The token is wrong. Try another." : "It is kept until this tab is closed.";
  $("login-form").onsubmit = (event) => {
    event.preventDefault();
    api.setToken($("token").value);
    dialog.close();
    then();
  };
  $("login-cancel").onclick = () => {
    dialog.close();
    $("server").textContent = "no token";
    banner("This server asks for a token. Load the page again to give it.");
  };
  if (!dialog.open) dialog.showModal();
  $("token").value = "";
  $("token").focus();
}

async function showExamples() {
  let list = [];
  try {
    list = await api.examples();
  } catch (error) {
    banner(`the examples cannot be loaded: ${shown(error.message)}`);
  }
  $("examples-box").hidden = list.length === 0;
  const picture = (i, size) => h("img", { src: `/examples/${i}.png`, alt: "", width: size, height: size });
  $("examples").replaceChildren(...list.map((item, i) => h("li", {}, h("button", { type: "button", class: "example",
    title: shown(item.question), "aria-label": `Example ${shown(item.name)}: ${shown(item.question)}`,
    onclick: () => pickExample(item, i) }, picture(i, 46)))));
  $("example-cards").replaceChildren(...list.map((item, i) => {
    const [first, ...rest] = shown(item.question).split("\n");
    return h("li", {}, h("button", { type: "button", class: "example card", onclick: () => pickExample(item, i) },
      picture(i, 64),
      h("span", {}, h("span", { class: "line" }, first), h("small", { class: "line" }, rest.join(" ")))));
  }));
}

async function pickExample(item, i) {
  try {
    const response = await fetch(`/examples/${i}.png`);
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    const blob = await response.blob();
    useImage(await readImage(blob, `${item.name}.png`));
  } catch (error) {
    banner(`the example cannot be loaded: ${shown(error.message)}`);
    return;
  }
  example = item;
  $("question").value = item.question;
  $("options").value = readOptions(item.question) ? "" : item.options.join("\n");
  questionChanged();
  $("question").focus();
}

// ---- image ----

async function takeFile(file) {
  if (!file) return;
  try {
    useImage(await readImage(file));
  } catch (error) {
    banner(shown(error.message));
  }
}

function useImage(image) {
  banner("");
  const thread = threads.at(-1);
  const same = thread && thread.image && image && thread.image.url === image.url;
  if (!same) startThread(image);
  if (editing) stopEditing();
  showImage();
  showRunning();
  say(image ? `Image: ${image.name}, ${facts(image)}` : "No image.");
}

function showImage() {
  const image = threads.at(-1).image;
  $("no-image").hidden = image !== null;
  $("has-image").hidden = image === null;
  if (image === null) return;
  const visible = image.width !== null;
  $("preview").hidden = !visible;
  $("no-preview").hidden = visible;
  if (visible) $("preview").src = image.url;
  $("preview").alt = `The image: ${shown(image.name)}`;
  $("image-facts").replaceChildren(h("b", {}, shown(image.name)), h("br"), facts(image));
}

for (const id of ["file", "camera"]) {
  $(id).addEventListener("change", () => {
    takeFile($(id).files[0]);
    // The same file can be chosen again.
    $(id).value = "";
  });
}
$("replace").onclick = () => $("file").click();
$("remove").onclick = () => {
  useImage(null);
  $("file").focus();
};
document.addEventListener("dragover", (event) => {
  if (!carriesFiles(event.dataTransfer)) return;
  event.preventDefault();
  document.body.classList.add("dragging");
});
for (const name of ["dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    if (name === "drop" || event.relatedTarget === null) document.body.classList.remove("dragging");
  });
}
document.addEventListener("drop", (event) => {
  if (!carriesFiles(event.dataTransfer)) return;
  event.preventDefault();
  const file = imageAmong(event.dataTransfer);
  if (file) takeFile(file);
  else banner("what was dropped is not an image.");
});
document.addEventListener("paste", (event) => {
  const file = imageAmong(event.clipboardData);
  if (!file) return;
  event.preventDefault();
  takeFile(file);
});

// ---- question ----

/** Options of the next question: those of the field, else those that the question lists. */
function optionsOf(question) {
  const typed = lines($("options").value);
  if (typed.length > 0) return { options: typed, read: null };
  const read = readOptions(question);
  if (!read) return { options: [], read: null };
  const letters = read.labels && $("score-as").value === "labels";
  return { options: letters ? read.labels : read.texts, read };
}

let choseScoreAs = false;
function questionChanged() {
  const field = $("question");
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight + 2, 220)}px`;
  if (!choseScoreAs) $("score-as").value = asksForLetter(field.value) ? "labels" : "texts";
  const { options, read } = optionsOf(field.value);
  $("score-as-box").hidden = !read || !read.labels;
  const listed = options.map(shown).join(" | ");
  $("options-read").textContent = options.length === 0 ? "" : `${read ? "read from the question: " : ""}${listed}`;
}

$("question").addEventListener("input", () => {
  if (example && !$("question").value.includes(example.question)) example = null;
  questionChanged();
});
$("options").addEventListener("input", questionChanged);
$("score-as").addEventListener("change", () => {
  choseScoreAs = true;
  questionChanged();
});
$("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("composer").requestSubmit();
  } else if (event.key === "ArrowUp" && event.target.value === "" && lastTurn() && !running) {
    event.preventDefault();
    edit();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
  if (running) stop();
  else if (editing) stopEditing();
});

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = $("question").value.trim();
  if (question === "") return;
  if (running) {
    say("The answers are still coming in; Escape stops them.");
    return;
  }
  if (settings.columns.length === 0) {
    banner("there is no model to ask: the server is not connected.");
    return;
  }
  if (editing) removeTurn(editing);
  const right = example ? example.answer : null;
  const { options } = optionsOf(question);
  $("question").value = "";
  $("options").value = "";
  example = null;
  choseScoreAs = false;
  stopEditing();
  questionChanged();
  ask(question, options, right);
});

function lastTurn() {
  const thread = threads.at(-1);
  return thread ? thread.turns.at(-1) : undefined;
}

function ask(question, options, right) {
  const thread = threads.at(-1);
  const turn = newTurn(thread, {
    question, options, right, remember: settings.remember, columns: settings.columns, blind: settings.blind,
    tokens: settings.tokens, score: settings.options,
  });
  $("empty").hidden = true;
  if (!views.has(thread)) {
    views.set(thread, threadView(thread));
    $("threads").append(views.get(thread));
  }
  const number = threads.reduce((sum, some) => sum + some.turns.length, 0);
  const view = new TurnView(turn, number, {
    edit, again: () => again(turn), retry: (lane) => run(thread, turn, lane), drawn: () => follow(view),
  });
  views.set(turn, view);
  views.get(thread).append(view.element);
  following = true;
  view.element.scrollIntoView({ block: "start" });
  run(thread, turn, null);
}

/** Whether the page scrolls with the answers: until the viewer scrolls. */
let following = false;
for (const name of ["wheel", "touchmove"]) {
  document.addEventListener(name, () => {
    following = false;
  }, { passive: true });
}

function follow(view) {
  if (following) view.element.scrollIntoView({ block: "nearest" });
}

/** What is scrolled to stops below the heads of the columns and above the question, whose heights change. */
function keepMargins() {
  const sticky = getComputedStyle($("columns")).position === "sticky";
  const style = document.documentElement.style;
  style.setProperty("--above", `${(sticky ? $("columns").offsetHeight : 0) + 8}px`);
  style.setProperty("--below", `${$("composer").offsetHeight + 8}px`);
}
const heights = new ResizeObserver(keepMargins);
heights.observe($("columns"));
heights.observe($("composer"));

/** Answers a turn, or one lane of it. Several lanes may be tried again at the same time. */
async function run(thread, turn, only) {
  running = running || { stopper: new AbortController(), count: 0 };
  running.count += 1;
  showRunning();
  say("The models are answering.");
  const view = views.get(turn);
  const { signal } = running.stopper;
  await answer(thread, turn, { signal, only, changed: (lane) => view.changed(lane) });
  view.flush();
  running.count -= 1;
  if (running.count > 0) return;
  running = null;
  showRunning();
  say(view.inWords());
  const failed = turn.cells.flatMap((cell) => cell.lanes).map((lane) => lane.error).filter(Boolean);
  const refused = failed.find((error) => error.status === 401);
  if (refused) askForToken(refused, () => connect());
  if (failed.some((error) => error.offline)) {
    $("server").textContent = "not connected";
    waitForServer(connect);
  }
}

function showRunning() {
  // The button that had the focus is replaced by the other.
  const focused = document.activeElement === $("stop") || document.activeElement === $("send");
  $("send").hidden = running !== null;
  $("stop").hidden = running === null;
  if (focused) (running ? $("stop") : $("question")).focus();
  for (const thread of threads) {
    for (const turn of thread.turns) {
      if (views.has(turn)) views.get(turn).setActions(running === null && turn === lastTurn());
    }
  }
}

function stop() {
  if (running) running.stopper.abort();
}
$("stop").onclick = stop;

function again(turn) {
  if (running) return;
  const { question, options, right } = turn;
  removeTurn(turn);
  ask(question, options, right);
}

function removeTurn(turn) {
  const thread = threads.find((some) => some.turns.includes(turn));
  thread.turns.splice(thread.turns.indexOf(turn), 1);
  views.get(turn).element.remove();
  views.delete(turn);
}

function edit() {
  const turn = lastTurn();
  if (!turn || running) return;
  editing = turn;
  example = turn.right ? { question: turn.question, answer: turn.right } : null;
  $("question").value = turn.question;
  $("options").value = readOptions(turn.question) ? "" : turn.options.join("\n");
  $("editing").hidden = false;
  views.get(turn).element.classList.add("edited");
  questionChanged();
  $("question").focus();
}

function stopEditing() {
  if (editing && views.has(editing)) {
    views.get(editing).element.classList.remove("edited");
    $("question").value = "";
    questionChanged();
  }
  editing = null;
  $("editing").hidden = true;
}
$("edit-cancel").onclick = () => {
  stopEditing();
  $("question").focus();
};

$("clear").onclick = () => {
  if (running) stop();
  const image = threads.at(-1).image;
  threads.length = 0;
  views.clear();
  $("threads").replaceChildren();
  $("empty").hidden = false;
  stopEditing();
  startThread(image);
  say("Cleared.");
  $("question").focus();
};

// ---- record ----

function recordText() {
  const json = document.querySelector("input[name=format]:checked").value === "json";
  return json ? `${JSON.stringify(asData(threads, models), null, 2)}\n` : asMarkdown(threads);
}

function showRecord() {
  $("record-text").value = recordText();
  $("record-said").textContent = "";
}

$("record-open").onclick = () => {
  showRecord();
  $("record").showModal();
};
for (const radio of document.querySelectorAll("input[name=format]")) radio.addEventListener("change", showRecord);
$("record-close").onclick = () => $("record").close();
$("record-copy").onclick = async () => {
  let copied = false;
  try {
    await navigator.clipboard.writeText($("record-text").value);
    copied = true;
  } catch {
    // Only pages of this machine or of HTTPS have a clipboard; the old way works on others.
    $("record-text").focus();
    $("record-text").select();
    copied = document.execCommand("copy");
  }
  $("record-said").textContent = copied ? "copied" : "not copied: press Ctrl+C";
};
$("record-save").onclick = () => {
  const json = document.querySelector("input[name=format]:checked").value === "json";
  const blob = new Blob([$("record-text").value], { type: json ? "application/json" : "text/markdown" });
  const link = h("a", { href: URL.createObjectURL(blob), download: `burgess-chat.${json ? "json" : "md"}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
};

// ---- settings ----

for (const [id, name] of [["show-blind", "blind"], ["show-options", "options"], ["show-tokens", "tokens"],
  ["remember", "remember"]]) {
  $(id).checked = settings[name];
  $(id).addEventListener("change", () => {
    settings[name] = $(id).checked;
    save();
  });
}
$("theme").value = settings.theme;
$("theme").addEventListener("change", () => {
  settings.theme = $("theme").value;
  if (settings.theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = settings.theme;
  save();
});

// On a phone the image comes first and the rest is folded.
const wide = matchMedia("(min-width: 900px)").matches;
$("examples-box").open = wide;
$("display-box").open = wide;

startThread(null);
showImage();
questionChanged();
connect();
