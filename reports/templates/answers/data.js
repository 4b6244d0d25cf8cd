// Packs and their decoding. The list of contents and the packs come as scripts, because browsers refuse to fetch local
// files from a page that is one.

const folder = new URL(".", document.currentScript.src).href;
const packs = new Map();
const loading = new Map();
// Packs of texts that are kept in memory; the one used longest ago is dropped first.
const MOST_TEXT_PACKS = 80;
const textPacks = new Set();

window.burgessPack = (name, content) => packs.set(name, content);

// Loads a pack once; the promise fails with a message for the reader.
function load(name) {
  if (packs.has(name)) return Promise.resolve(packs.get(name));
  if (loading.has(name)) return loading.get(name);
  const promise = new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = folder + name + ".js";
    const end = (problem) => {
      script.remove();
      loading.delete(name);
      if (problem) failed(new Error(problem)); else done(packs.get(name));
    };
    script.onload = () => end(packs.has(name) ? "" : `${script.src} has no content`);
    script.onerror = () => end(`${script.src} cannot be loaded. If the report was written again, reload this page; `
      + "if the folder was moved, move all of it.");
    document.head.append(script);
  });
  loading.set(name, promise);
  return promise;
}

async function loadText(name) {
  const pack = await load(name);
  textPacks.delete(name);
  textPacks.add(name);
  for (const oldest of textPacks) {
    if (textPacks.size <= MOST_TEXT_PACKS) break;
    textPacks.delete(oldest);
    packs.delete(oldest);
  }
  return pack;
}

const CODES = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const VALUE = new Uint8Array(128);
for (let i = 0; i < 64; i++) VALUE[CODES.charCodeAt(i)] = i;

// Scores of an answer in its code: bits 0 and 1, of the blind answer bits 2 and 3.
const WRONG = 0, PART = 1, RIGHT = 2, NONE = 3;
const UNPARSED = 16;

// All questions of all benchmarks, one after the other. `start[b]` is the first question of benchmark b.
const study = {
  index: null, runs: [], benchmarks: [], start: [], n: 0,
  benchmarkOf: null, loaded: [], codes: [], answers: [], scores: [], place: null, at: null, lower: [], deep: [], failed: [],
};

function takeIndex(index) {
  study.index = index;
  study.runs = index.runs;
  study.benchmarks = index.benchmarks;
  for (const b of index.benchmarks) {
    study.start.push(study.n);
    study.n += b.n;
  }
  study.benchmarkOf = new Uint16Array(study.n);
  study.place = new Uint32Array(study.n);
  study.at = new Uint32Array(study.n);
  index.benchmarks.forEach((b, i) => study.benchmarkOf.fill(i, study.start[i], study.start[i] + b.n));
  for (let r = 0; r < study.runs.length; r++) {
    study.codes.push(new Uint8Array(study.n).fill(NONE + 4 * NONE));
    study.answers.push(new Uint16Array(study.n));
    study.scores.push(new Map());
  }
}

async function loadBenchmark(b) {
  const [codes, questions] = await Promise.all([load(`b${b}-codes`), load(`b${b}-questions`)]);
  const start = study.start[b];
  codes.c.forEach((text, r) => {
    const into = study.codes[r];
    for (let q = 0; q < text.length; q++) into[start + q] = VALUE[text.charCodeAt(q)];
  });
  codes.k.forEach((text, r) => {
    const into = study.answers[r];
    for (let q = 0, i = 0; i < text.length; q++, i += codes.w) {
      into[start + q] = VALUE[text.charCodeAt(i)] + (codes.w > 1 ? 64 * VALUE[text.charCodeAt(i + 1)] : 0);
    }
  });
  codes.x.forEach((exact, r) => {
    for (let i = 0; i < exact.length; i += 3) study.scores[r].set(start + exact[i], [exact[i + 1], exact[i + 2]]);
  });
  packs.delete(`b${b}-codes`);
  study.loaded[b] = questions;
  orderById(b);
}

// The score of run r on question g, and that of its blind answer; null where there is no answer.
function scoreOf(r, g) {
  const s = study.codes[r][g] & 3;
  return s === NONE ? null : s === PART ? study.scores[r].get(g)?.[0] ?? 0.5 : s / 2;
}

function blindScoreOf(r, g) {
  const s = (study.codes[r][g] >> 2) & 3;
  return s === NONE ? null : s === PART ? study.scores[r].get(g)?.[1] ?? 0.5 : s / 2;
}

function questionOf(g) {
  const b = study.benchmarkOf[g], q = g - study.start[b], pack = study.loaded[b];
  return { b, q, id: pack.id[q], text: pack.q[q], target: pack.t[q], subtask: study.benchmarks[b].subtasks[pack.s[q]] };
}

// The pack of texts that has question q of benchmark b, and its first question.
function packOf(b, q) {
  const starts = study.benchmarks[b].starts;
  let low = 0, high = starts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (starts[middle] <= q) low = middle; else high = middle - 1;
  }
  return { number: low, first: starts[low] };
}

// Order of the questions by benchmark and id, with numbers in ids compared as numbers: `place` of each question, and the
// question at each place.
const collator = new Intl.Collator("en", { numeric: true });
function orderById(b) {
  const ids = study.loaded[b].id, start = study.start[b], sorted = Uint32Array.from(ids.keys());
  sorted.sort((i, j) => collator.compare(ids[i], ids[j]) || i - j);
  sorted.forEach((q, place) => {
    study.place[start + q] = start + place;
    study.at[start + place] = start + q;
  });
}

// Texts for the search, in lower case: id, question and right answer of each question.
function searchable(b) {
  const pack = study.loaded[b];
  study.lower[b] ??= pack.id.map((id, q) => `${id}\n${pack.q[q]}\n${pack.t[q]}`.toLowerCase());
  return study.lower[b];
}

// Loads all texts of a benchmark for the search in answers; `tell` is called after each pack.
async function loadDeep(b, tell) {
  const known = study.deep[b] ??= { texts: [], packs: 0 };
  const starts = study.benchmarks[b].starts;
  while (known.packs < starts.length) {
    const name = `b${b}-text-${known.packs}`, kept = packs.has(name), pack = await load(name);
    if (!kept) packs.delete(name);
    const lower = pack.s.map((text) => text.toLowerCase());
    for (let q = 0; q < pack.u.length; q++) {
      const found = new Set();
      for (const columns of [pack.a, pack.d, pack.b]) for (const column of columns) found.add(column[q]);
      found.delete(-1);
      known.texts[starts[known.packs] + q] = [...found].map((i) => lower[i]).join("\n");
    }
    known.packs += 1;
    tell();
  }
}
