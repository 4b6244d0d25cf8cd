// The page: filters, keys, address.

let narrow = matchMedia("(max-width: 760px)");

function writeHash(push) {
  const hash = `#${toHash()}`;
  if (hash === location.hash || (hash === "#" && !location.hash)) return;
  history[push ? "pushState" : "replaceState"](null, "", hash);
}

// Shows the question in place of the list, or the list again; matters on narrow screens only.
function openQuestion(open, pushed) {
  const was = document.body.classList.contains("reading");
  document.body.classList.toggle("reading", open);
  if (!narrow.matches) return;
  if (open && !was && !pushed) history.pushState({ reading: true }, "", location.href);
  if (!open) { drawRows(); $("rows").focus(); }
}

function say(text) { $("status").textContent = text; }

function update() {
  const { list, counts, scope } = listed();
  const waiting = study.benchmarks.filter((b, i) => !study.loaded[i] && inPart(i)).length;
  const before = named();
  showList(list);
  const loadingText = waiting ? `, ${plural(waiting, "benchmark")} still loading` : "";
  say(list.length === scope ? `${plural(list.length, "question")}${loadingText}`
    : `${list.length.toLocaleString("en")} of ${plural(scope, "question")}${loadingText}`);
  for (const filter of FILTERS) {
    const box = $(`filter-${filter.name}`);
    box.querySelector("input").checked = state.filters.has(filter.name);
    box.querySelector(".count").textContent = counts[filter.name].toLocaleString("en");
    box.querySelector(".means").textContent = filter.means(state.many === "every" ? "Every" : "At least one");
  }
  $("only-arm").hidden = !state.filters.has("only");
  for (const arm of arms) {
    const runs = arm.runs.filter((r) => isCounted(study.runs[r]));
    const right = rightIn(list, runs);
    const box = $(`arm-${arm.number}`);
    box.querySelector("input").checked = state.arms.has(arm.arm);
    box.querySelector(".count").textContent = runs.length ? right.toLocaleString("en") : "";
  }
  document.querySelectorAll("[data-seed]").forEach((box) => { box.checked = state.seeds.has(box.dataset.seed); });
  $("part").value = state.part;
  fillSubtasks();
  $("many").value = state.many;
  $("only").value = state.only;
  if (document.activeElement !== $("search")) $("search").value = state.search;
  $("deep").checked = state.deep;
  $("sort").value = state.sort;
  const active = state.filters.size + (state.part ? 1 : 0) + (state.subtask ? 1 : 0);
  $("active").textContent = active ? ` (${active} active)` : "";
  $("none").hidden = list.length > 0 || waiting > 0;
  if (before < 0 && list.length && !state.id && !narrow.matches) choose(0, false);
  else {
    const key = [before, state.search, [...state.arms], [...state.seeds]].join("\n");
    if (key !== shownKey) { shownKey = key; showQuestion(before); }
  }
  writeHash();
}

// Number of questions that all of these runs answered with the full score.
function rightIn(list, runs) {
  let n = 0;
  for (let i = 0; runs.length && i < list.length; i++) {
    let all = 1;
    for (const r of runs) if ((study.codes[r][list[i]] & 3) !== RIGHT) { all = 0; break; }
    n += all;
  }
  return n;
}

// What the shown question depends on.
let shownKey = "";

let queued = 0;
function changed() {
  cancelAnimationFrame(queued);
  queued = requestAnimationFrame(update);
}

function fillSubtasks() {
  const names = [...new Set(study.benchmarks.flatMap((b, i) => (inPart(i) ? b.subtasks : [])))].filter(Boolean).sort(collator.compare);
  const box = $("subtask"), key = names.join("\n");
  if (box.dataset.key !== key) {
    box.dataset.key = key;
    box.replaceChildren(make("option", { value: "" }, "all subtasks"), ...names.map((name) => make("option", { value: name }, name)));
  }
  box.value = state.subtask;
  box.disabled = !names.length;
}

// Loads the texts for the search in answers, benchmark by benchmark.
let searching = 0;
async function searchAnswers() {
  const mine = ++searching;
  if (!state.deep || !words().length) { $("deep-state").textContent = ""; return; }
  const parts = study.benchmarks.map((_, b) => b).filter((b) => inPart(b) && study.loaded[b]);
  const all = parts.reduce((n, b) => n + study.benchmarks[b].starts.length, 0);
  let last = performance.now();
  for (const b of parts) {
    const tell = () => {
      const done = parts.reduce((n, b) => n + (study.deep[b]?.packs ?? 0), 0);
      $("deep-state").textContent = done < all ? `answers read: ${Math.floor((100 * done) / all)} %` : "";
      if (performance.now() - last > 500) { last = performance.now(); changed(); }
    };
    try {
      await loadDeep(b, tell);
    } catch (e) {
      $("deep-state").textContent = e.message;
      return;
    }
    if (mine !== searching) return;
  }
  $("deep-state").textContent = "";
  changed();
}

function buildFilters() {
  const categories = [...new Set(study.benchmarks.map((b) => b.category))];
  $("part").append(make("option", { value: "" }, "all benchmarks"), ...categories.map((category) => {
    const own = study.benchmarks.filter((b) => b.category === category);
    return make("optgroup", { label: category }, make("option", { value: `c:${category}` }, `all of ${category}`),
      own.map((b) => make("option", { value: `b:${b.name}` }, `${b.name} (${b.n.toLocaleString("en")})`)));
  }));
  $("sort").append(...SORTS.map(([name, label]) => make("option", { value: name }, label)));
  $("filters-box").append(...FILTERS.map((filter) => make("label", { id: `filter-${filter.name}`, class: "filter" },
    make("input", { type: "checkbox", "aria-describedby": `means-${filter.name}`, onchange: (e) => {
      if (e.target.checked) state.filters.add(filter.name); else state.filters.delete(filter.name);
      changed();
    } }),
    make("span", { class: "name" }, filter.label), make("span", { class: "count" }),
    make("small", { class: "means", id: `means-${filter.name}` }))));
  $("only").append(make("option", { value: "" }, "any arm"), ...arms.map((arm) => make("option", { value: arm.arm }, arm.label)));
  $("filter-only").after($("only-arm"));
  $("arms-box").append(...arms.map((arm) => make("label", { id: `arm-${arm.number}`, class: "filter" },
    make("input", { type: "checkbox", onchange: (e) => {
      if (e.target.checked) state.arms.add(arm.arm); else state.arms.delete(arm.arm);
      changed();
    } }),
    make("span", { class: "name" }, make("span", { class: `swatch ${arm.kind}` }), arm.label,
      arm.role === "trained" ? null : make("small", {}, ` ${arm.role} baseline`)),
    make("span", { class: "count", title: "questions of the list with the full score" }))));
  $("seeds-box").hidden = seeds.length < 2;
  $("seeds").append(...seeds.map((seed) => make("label", { class: "seed" },
    make("input", { type: "checkbox", "data-seed": seed, onchange: (e) => {
      if (e.target.checked) state.seeds.add(seed); else state.seeds.delete(seed);
      changed();
    } }), `seed ${seed}`)));
  const bytes = study.benchmarks.reduce((n, b) => n + b.text_bytes, 0);
  $("deep-size").textContent = ` (loads ${bytes < 1e6 ? "less than 1" : Math.round(bytes / 1e6)} MB)`;
  const notes = [...study.index.problems, ...study.index.missing.map((m) => `${m.arm}, seed ${m.seed}, has no answers here: ${m.cause}`)];
  $("problems-box").hidden = !notes.length;
  $("problems-name").textContent = plural(notes.length, "note on what is missing");
  $("problems").append(...notes.map((note) => make("li", {}, note)));
}

function listen() {
  const on = (id, event, action) => $(id).addEventListener(event, action);
  on("part", "change", (e) => { state.part = e.target.value; state.subtask = ""; changed(); searchAnswers(); });
  on("subtask", "change", (e) => { state.subtask = e.target.value; changed(); });
  on("many", "change", (e) => { state.many = e.target.value; changed(); });
  on("only", "change", (e) => { state.only = e.target.value; changed(); });
  on("sort", "change", (e) => { state.sort = e.target.value; changed(); });
  on("search", "input", (e) => { state.search = e.target.value; changed(); searchAnswers(); });
  on("deep", "change", (e) => { state.deep = e.target.checked; changed(); searchAnswers(); });
  on("reset", "click", () => { fromHash(state.id ? new URLSearchParams({ question: state.id }).toString() : ""); changed(); });
  on("all-arms", "click", () => { state.arms = new Set(arms.map((arm) => arm.arm)); changed(); });
  on("trained-arms", "click", () => { state.arms = defaultArms(); changed(); });
  on("reload", "click", () => location.reload());
  on("rows", "scroll", drawRows);
  addEventListener("resize", () => { view.drawn = ""; drawRows(); });
  const wide = () => { $("filters").open = !matchMedia("(max-width: 1100px)").matches; };
  matchMedia("(max-width: 1100px)").addEventListener("change", wide);
  wide();
  addEventListener("popstate", (e) => {
    openQuestion(Boolean(e.state?.reading), true);
    fromHash(location.hash);
    changed();
  });
  addEventListener("hashchange", () => { fromHash(location.hash); changed(); });
  addEventListener("keydown", key);
}

function key(e) {
  if (e.ctrlKey || e.metaKey || e.altKey || e.isComposing) return;
  const box = e.target.closest("input, select, textarea"), typing = box && box.type !== "checkbox";
  const inList = e.target === document.body || e.target === $("rows");
  const page = Math.max(1, Math.floor($("rows").clientHeight / ROW) - 1);
  const moves = { j: 1, k: -1 };
  if (inList) Object.assign(moves, { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity });
  if (e.key === "Escape") {
    if (typing && box.id === "search" && state.search) { state.search = box.value = ""; changed(); searchAnswers(); }
    else { openQuestion(false); $("rows").focus(); }
  } else if (typing) {
    if (box.id === "search" && (e.key === "Enter" || e.key === "ArrowDown")) { $("rows").focus(); if (view.at < 0) move(0); } else return;
  } else if (e.key === "/") {
    openQuestion(false);
    $("search").focus();
    $("search").select();
  } else if (e.key in moves) {
    const by = moves[e.key];
    if (Math.abs(by) === Infinity) choose(by < 0 ? 0 : view.list.length - 1, false); else move(by);
  } else if (e.key === "Enter" && inList && view.at >= 0) {
    openQuestion(true);
    $("asked")?.focus();
  } else return;
  e.preventDefault();
}

async function begin() {
  const index = await load("index");
  takeIndex(index);
  index.runs.forEach((run, r) => {
    run.seed = String(run.seed);
    let arm = arms.find((a) => a.arm === run.arm);
    if (!arm) arms.push(arm = { arm: run.arm, label: run.label, kind: run.kind, role: run.role, runs: [], number: arms.length });
    arm.runs.push(r);
    if (!seeds.includes(run.seed)) seeds.push(run.seed);
  });
  seeds.sort(collator.compare);
  // The data directory's name has the version.
  index.generation = new URL(folder).pathname.split("/").at(-2).replace("data-", "");
  const unknown = fromHash(location.hash);
  buildFilters();
  listen();
  watch();
  const steps = { last: 0 };
  const note = (text) => { $("message").textContent = text; $("message").hidden = !text; };
  note(unknown.length ? `The link names what this study does not have: ${unknown.join(", ")}.` : "");
  const asked = state.id;
  const first = (b) => (asked.startsWith(`${study.benchmarks[b].name}/`) ? 0 : inPart(b) ? 1 : 2);
  const order = study.benchmarks.map((_, b) => b).sort((a, b) => first(a) - first(b) || a - b);
  const failures = [];
  let next = 0;
  const worker = async () => {
    while (next < order.length) {
      const b = order[next++];
      try {
        await loadBenchmark(b);
      } catch (e) {
        failures.push(e.message);
      }
      // The list grows while the rest is loading, but not with every benchmark.
      if (performance.now() - steps.last > 400) { changed(); steps.last = performance.now(); }
    }
  };
  await Promise.all([worker(), worker(), worker()]);
  if (failures.length) note(failures.join(" "));
  if (asked && named() < 0 && state.id === asked) {
    note(`The link names the question ${asked}, which this study does not have.`);
    state.id = "";
  }
  if (state.deep) searchAnswers();
  if (asked && narrow.matches) openQuestion(true, true);
  changed();
  document.body.dataset.ready = "yes";
}

// Looks for new results, where a server writes the pages.
function watch() {
  if (study.index.images.mode !== "served") return;
  let known = "";
  setInterval(async () => {
    if (document.hidden) return;
    try {
      const response = await fetch("../version");
      if (!response.ok) return;
      const found = await response.text();
      if (known && found !== known) $("changed").hidden = false;
      known = found;
    } catch {
      // The server has ended; the page stays as it is.
    }
  }, 5000);
}

begin().catch((e) => { $("message").textContent = e.message; $("message").hidden = false; });
