// The state of the page (filters and shown question), its form in the address, and which questions it lists.

const state = { part: "", subtask: "", arms: new Set(), seeds: new Set(), filters: new Set(), many: "any", only: "",
  search: "", deep: false, sort: "disagree", id: "" };

// Names of the arms and seeds in the order of the runs.
const arms = [], seeds = [];

function defaultArms() {
  const trained = arms.filter((arm) => arm.role === "trained");
  return new Set((trained.length ? trained : arms).map((arm) => arm.arm));
}

const FILTERS = [
  { name: "disagree", label: "Arms disagree", means: () => "The counted runs do not all have the same score." },
  { name: "answers", label: "Answers differ", means: () => "The counted runs do not all have the same parsed answer." },
  { name: "image", label: "Right only with the image", many: true,
    means: (one) => `${one} counted run is right with the image and wrong without it.` },
  { name: "blind", label: "Right without the image too", many: true,
    means: (one) => `${one} counted run is right with the image and right without it.` },
  { name: "right", label: "Right in every arm", means: () => "Every counted run has the full score." },
  { name: "wrong", label: "Wrong in every arm", means: () => "No counted run has any part of the score." },
  { name: "only", label: "Only one arm is right",
    means: () => "All counted runs of one arm have the full score, and no counted run of another arm has it." },
  { name: "unparsed", label: "Unparsed", many: true,
    means: (one) => `The scorer found no answer in the text of ${one.toLowerCase()} counted run, with the image.` },
];
const BIT = Object.fromEntries(FILTERS.map((filter, i) => [filter.name, 1 << i]));

const SORTS = [["disagree", "largest disagreement first"], ["id", "by id"], ["hard", "lowest mean score first"],
  ["easy", "highest mean score first"]];

const isCounted = (run) => state.arms.has(run.arm) && state.seeds.has(run.seed);

// What follows from the counted runs for each question: filters that hold, as bits, and the keys of the order.
const found = { key: "", bits: null, spread: null, mean: null, different: null, onlyArm: null };

function count() {
  const key = JSON.stringify([[...state.arms].sort(), [...state.seeds].sort(), state.many, study.loaded.map(Boolean)]);
  if (found.key === key) return;
  found.key = key;
  const n = study.n, u8 = () => new Uint8Array(n), f32 = () => new Float32Array(n);
  const have = new Uint16Array(n), right = new Uint16Array(n), image = new Uint16Array(n), blind = new Uint16Array(n);
  const unparsed = new Uint16Array(n), points = u8(), sum = f32(), squares = f32();
  const seen = [new Uint32Array(n), new Uint32Array(n)], allRight = u8(), anyRight = u8();
  const onlyArm = new Uint16Array(n);
  arms.forEach((arm, a) => {
    const runs = arm.runs.filter((r) => isCounted(study.runs[r]));
    if (!runs.length) return;
    const had = u8(), was = u8();
    for (const r of runs) {
      const codes = study.codes[r], answers = study.answers[r], scores = study.scores[r];
      for (let g = 0; g < n; g++) {
        const code = codes[g], s = code & 3;
        if (s === NONE) continue;
        const score = s === PART ? scores.get(g)[0] : s / 2, withBlind = (code >> 2) & 3;
        have[g]++; had[g]++;
        sum[g] += score; squares[g] += score * score;
        if (s !== WRONG) points[g] = 1;
        if (s === RIGHT) {
          right[g]++; was[g]++;
          if (withBlind === WRONG) image[g]++; else if (withBlind === RIGHT) blind[g]++;
        }
        if (code & UNPARSED) unparsed[g]++;
        const k = answers[g];
        seen[k < 32 ? 0 : 1][g] |= 1 << (k & 31);
      }
    }
    for (let g = 0; g < n; g++) {
      if (!was[g]) continue;
      if (anyRight[g] < 2) anyRight[g]++;
      if (was[g] === had[g]) { if (allRight[g] < 2) allRight[g]++; onlyArm[g] = a; }
    }
  });
  const bits = new Uint16Array(n), spread = f32(), mean = f32(), different = u8(), every = state.many === "every";
  const ones = (x) => { let c = 0; for (; x; x &= x - 1) c++; return c; };
  for (let g = 0; g < n; g++) {
    const runs = have[g];
    if (!runs) continue;
    mean[g] = sum[g] / runs;
    spread[g] = Math.max(0, squares[g] / runs - mean[g] * mean[g]);
    if (spread[g] < 1e-6) spread[g] = 0;
    different[g] = ones(seen[0][g]) + ones(seen[1][g]);
    const least = every ? runs : 1;
    bits[g] = (spread[g] > 0 ? BIT.disagree : 0) | (different[g] > 1 ? BIT.answers : 0)
      | (image[g] >= least ? BIT.image : 0) | (blind[g] >= least ? BIT.blind : 0)
      | (right[g] === runs ? BIT.right : 0) | (points[g] ? 0 : BIT.wrong)
      | (allRight[g] === 1 && anyRight[g] === 1 ? BIT.only : 0) | (unparsed[g] >= least ? BIT.unparsed : 0);
  }
  Object.assign(found, { bits, spread, mean, different, onlyArm });
}

const words = () => state.search.toLowerCase().split(/\s+/).filter(Boolean);

function inPart(b) {
  const benchmark = study.benchmarks[b];
  return !state.part || state.part === `b:${benchmark.name}` || state.part === `c:${benchmark.category}`;
}

// The questions that are listed, in order; and how many questions of the chosen part each filter holds for.
function listed() {
  count();
  const wanted = [...state.filters].reduce((bits, name) => bits | BIT[name], 0);
  const only = arms.findIndex((arm) => arm.arm === state.only), looked = words();
  const counts = Object.fromEntries(FILTERS.map((filter) => [filter.name, 0]));
  const list = [];
  let scope = 0;
  for (let b = 0; b < study.benchmarks.length; b++) {
    const pack = study.loaded[b];
    if (!pack || !inPart(b)) continue;
    const subtask = state.subtask ? study.benchmarks[b].subtasks.indexOf(state.subtask) : -1;
    if (state.subtask && subtask < 0) continue;
    const lower = looked.length ? searchable(b) : null, deep = state.deep ? study.deep[b]?.texts : null;
    for (let q = 0; q < pack.id.length; q++) {
      if (subtask >= 0 && pack.s[q] !== subtask) continue;
      if (lower && !looked.every((word) => lower[q].includes(word) || deep?.[q]?.includes(word))) continue;
      const g = study.start[b] + q, bits = found.bits[g];
      scope++;
      for (let i = 0; i < FILTERS.length; i++) if (bits & (1 << i)) counts[FILTERS[i].name]++;
      if ((bits & wanted) !== wanted) continue;
      if ((wanted & BIT.only) && only >= 0 && found.onlyArm[g] !== only) continue;
      list.push(g);
    }
  }
  return { list: sorted(list), counts, scope };
}

// Sorts questions by numbers that hold the key (at most 21 bits) and the place by id (32 bits), which is fast.
function sorted(list) {
  const { spread, mean, different } = found;
  const key = {
    disagree: (g) => (25000 - Math.round(spread[g] * 1e5)) * 64 + 63 - Math.min(63, different[g]),
    id: () => 0,
    hard: (g) => Math.round(mean[g] * 1e6),
    easy: (g) => 1e6 - Math.round(mean[g] * 1e6),
  }[state.sort];
  const keys = Float64Array.from(list, (g) => key(g) * 2 ** 32 + study.place[g]).sort();
  return Array.from(keys, (k) => study.at[k % 2 ** 32]);
}

// The address names what differs from the start; the question is `benchmark/id`.
function toHash() {
  const p = new URLSearchParams();
  if (state.part) p.set(state.part[0] === "c" ? "category" : "benchmark", state.part.slice(2));
  if (state.subtask) p.set("subtask", state.subtask);
  const usual = defaultArms();
  if (state.arms.size !== usual.size || [...state.arms].some((arm) => !usual.has(arm))) {
    p.set("arms", JSON.stringify(arms.map((arm) => arm.arm).filter((arm) => state.arms.has(arm))));
  }
  if (state.seeds.size !== seeds.length) p.set("seeds", seeds.filter((seed) => state.seeds.has(seed)).join(","));
  if (state.filters.size) p.set("show", FILTERS.filter((f) => state.filters.has(f.name)).map((f) => f.name).join(","));
  if (state.many !== "any") p.set("runs", state.many);
  if (state.only) p.set("only", state.only);
  if (state.search) p.set("search", state.search);
  if (state.deep) p.set("in", "answers");
  if (state.sort !== "disagree") p.set("sort", state.sort);
  if (state.id) p.set("question", state.id);
  return p.toString();
}

// Takes the state from the address; returns sentences about what it names and the study does not have.
function fromHash(hash) {
  const p = new URLSearchParams(hash.replace(/^#/, "")), unknown = [];
  const among = (value, all, what) => {
    if (value && !all.includes(value)) { unknown.push(`${what} ${value}`); return ""; }
    return value || "";
  };
  const b = among(p.get("benchmark"), study.benchmarks.map((x) => x.name), "benchmark");
  const c = among(p.get("category"), study.benchmarks.map((x) => x.category), "category");
  state.part = b ? `b:${b}` : c ? `c:${c}` : "";
  state.subtask = among(p.get("subtask"), study.benchmarks.flatMap((x) => x.subtasks), "subtask");
  state.arms = defaultArms();
  if (p.has("arms")) {
    let named = [];
    try { named = [].concat(JSON.parse(p.get("arms"))).map(String); } catch { unknown.push(`arms ${p.get("arms")}`); }
    const all = arms.map((arm) => arm.arm);
    named = named.filter((arm) => among(arm, all, "arm"));
    if (named.length) state.arms = new Set(named);
  }
  state.seeds = new Set(seeds);
  if (p.has("seeds")) {
    const named = p.get("seeds").split(",").filter((seed) => among(seed, seeds, "seed"));
    if (named.length) state.seeds = new Set(named);
  }
  const names = FILTERS.map((f) => f.name);
  state.filters = new Set((p.get("show") || "").split(",").filter((name) => among(name, names, "filter")));
  state.many = p.get("runs") === "every" ? "every" : "any";
  state.only = among(p.get("only"), arms.map((arm) => arm.arm), "arm");
  state.search = p.get("search") || "";
  state.deep = p.get("in") === "answers";
  state.sort = among(p.get("sort"), SORTS.map((s) => s[0]), "order") || "disagree";
  state.id = p.get("question") || "";
  return unknown;
}

// The question that the state names; -1 if it is not there, or not loaded yet.
function named() {
  const b = study.benchmarks.findIndex((x) => state.id.startsWith(`${x.name}/`));
  const q = b < 0 ? -1 : study.loaded[b]?.id.indexOf(state.id.slice(study.benchmarks[b].name.length + 1)) ?? -1;
  return q < 0 ? -1 : study.start[b] + q;
}

const idOf = (g) => { const q = questionOf(g); return `${study.benchmarks[q.b].name}/${q.id}`; };
