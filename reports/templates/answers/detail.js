// The question that is shown: image, choices, and every run's answer.

let showing = -1;

async function showQuestion(g) {
  const box = $("question"), same = showing === g;
  showing = g;
  if (g < 0) {
    box.replaceChildren(make("p", { class: "note" }, "Choose a question in the list."));
    return;
  }
  const q = questionOf(g), part = packOf(q.b, q.q), looked = words();
  let texts = null, images = null, problem = "";
  const names = [`b${q.b}-text-${part.number}`, `b${q.b}-image-${part.number}`];
  try {
    [texts, images] = await Promise.all(names.map(loadText));
  } catch (e) {
    problem = e.message;
  }
  if (showing !== g) return;
  const at = q.q - part.first, benchmark = study.benchmarks[q.b];
  const head = [benchmark.category, benchmark.name, q.subtask, q.id].filter(Boolean).join(" · ");
  const body = [
    make("div", { class: "head" },
      make("button", { class: "back", type: "button", onclick: () => openQuestion(false) }, "‹ List"),
      make("p", { class: "note" }, head),
      make("span", { class: "steps" },
        make("button", { type: "button", "aria-label": "Previous question", title: "Previous question (k)", onclick: () => move(-1) }, "↑"),
        make("button", { type: "button", "aria-label": "Next question", title: "Next question (j)", onclick: () => move(1) }, "↓"),
        make("button", { type: "button", class: "link", onclick: copyLink }, "Copy link"))),
    make("h2", { id: "asked", tabindex: "-1", dir: "auto" }, marked(q.text || "(no text)", looked)),
  ];
  if (problem) {
    box.replaceChildren(...body, make("p", { class: "problem", role: "alert" }, problem));
    return;
  }
  const text = (i) => (i < 0 ? "" : texts.s[i]);
  const options = texts.o[at].map(text), right = new Set(texts.r[at]);
  body.push(make("div", { class: "asked" },
    pictures(images, at, q.id),
    make("div", { class: "words" },
      options.length ? make("ol", { class: "choices" }, options.map((option, i) => make("li", { class: right.has(i) ? "right" : "" },
        make("b", {}, String.fromCharCode(65 + i)), make("span", { dir: "auto" }, option),
        right.has(i) ? make("em", {}, "right") : null))) : null,
      make("p", { class: "target" }, "Right answer: ", make("b", { dir: "auto" }, marked(q.target || "(empty)", looked))),
      make("details", {}, make("summary", {}, "Prompt and image group"),
        make("pre", { dir: "auto" }, (texts.p[at][0] ? q.text : "") + text(texts.p[at][1])),
        make("p", { class: "note" }, `Scores are resampled in groups, usually of one image; this question's group is ${text(texts.u[at])}.`)))));
  body.push(answerTable(g, texts, at, text, looked));
  const likelihoods = likelihoodTable(texts, at, text);
  if (likelihoods) body.push(likelihoods);
  box.replaceChildren(...body);
  if (!same) box.scrollTop = 0;
}

// The images of a question, or why they are not shown.
function pictures(images, at, id) {
  const mode = study.index.images.mode;
  if (mode === "none") return make("p", { class: "gone" }, "Images are left out of this folder.");
  const all = images.q[at];
  if (!all.length) return make("p", { class: "gone" }, "The question names no image.");
  return make("div", { class: "images" }, all.map(([dir, name, url, problem], i) => {
    const path = images.d[dir][0] + name, which = all.length > 1 ? ` ${i + 1} of ${all.length}` : "";
    const gone = (why) => make("p", { class: "gone", role: "note" }, `Image${which} ${why}`, make("code", {}, path));
    if (problem) return gone(problem + ":");
    const address = images.d[dir][1] + url + (mode === "served" ? `?g=${study.index.generation}` : "");
    const caption = make("figcaption", {}, path);
    const figure = make("figure", {}), link = make("a", { class: "image", href: address, target: "_blank", rel: "noopener noreferrer" });
    const image = make("img", { alt: `Image${which} of question ${id}: ${name}`, decoding: "async" });
    image.onerror = () => figure.replaceWith(gone(mode === "link"
      ? "cannot be shown. The file is gone, or of a type that browsers do not show, or this page is not on the machine that has it:"
      : "cannot be shown. The file is gone, or of a type that browsers do not show:"));
    image.onload = () => {
      // Small images are enlarged by a whole factor, so that their pixels can be seen.
      const factor = Math.floor(300 / Math.max(image.naturalWidth, image.naturalHeight));
      if (factor > 1) {
        image.style.width = `${image.naturalWidth * factor}px`;
        image.classList.add("small");
      }
      caption.textContent = `${path} · ${image.naturalWidth} × ${image.naturalHeight} pixels`;
    };
    image.src = address;
    link.append(image);
    figure.append(link, caption);
    return figure;
  }));
}

function scoreText(score) {
  return score === null ? "–" : score > 0 && score < 1 ? score.toFixed(2) : String(Math.round(score));
}

// An answer with its mark; the parsed answer follows where it differs from the text.
function answerCell(label, mark, score, answer, parsed, looked) {
  const [sign, style, said] = MARKS[mark];
  if (mark === NONE) return make("td", { role: "cell", "data-label": label, class: "got none" }, "no answer");
  const shown = answer.trim() === "" ? make("span", { class: "empty" }, answer === "" ? "(empty)" : "(white space)")
    : make("span", { class: "said", dir: "auto" }, marked(answer, looked));
  const note = parsed === undefined ? null : parsed === null ? make("small", { class: "unparsed" }, "unparsed")
    : parsed.trim().toLowerCase() === answer.trim().toLowerCase() ? null
      : make("small", {}, "parsed: ", make("span", { dir: "auto" }, marked(parsed, looked)));
  return make("td", { role: "cell", "data-label": label, class: "got" },
    make("b", { class: style, role: "img", "aria-label": said, title: `${said}, score ${scoreText(score)}` }, sign),
    make("span", { class: "both" }, shown, note,
      score > 0 && score < 1 ? make("small", {}, `score ${scoreText(score)}`) : null));
}

function answerTable(g, texts, at, text, looked) {
  const several = seeds.length > 1;
  const head = (name, style) => make("th", { role: "columnheader", scope: "col", class: style }, name);
  const rows = study.runs.map((run, r) => {
    const code = study.codes[r][g], counted = isCounted(run), parsed = texts.d[r][at];
    return make("tr", { role: "row", class: counted ? "" : "aside" },
      make("th", { role: "rowheader", scope: "row" }, make("span", { class: `swatch ${run.kind}` }), run.label,
        several ? make("small", {}, ` seed ${run.seed}`) : null, counted ? null : make("small", {}, " not counted")),
      answerCell("with the image", code & 3, scoreOf(r, g), text(texts.a[r][at]), parsed < 0 ? null : text(parsed), looked),
      answerCell("without", (code >> 2) & 3, blindScoreOf(r, g), text(texts.b[r][at]), undefined, looked));
  });
  return make("table", { role: "table", class: "answers", "aria-label": "Answers of all runs" },
    make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, head("Arm", "left"), head("With the image", "left"),
      head("Without the image (blind)", "left"))),
    make("tbody", { role: "rowgroup" }, rows));
}

// Log-likelihoods of the possible answers, if a run recorded them.
function likelihoodTable(texts, at, text) {
  const rows = [], columns = [];
  study.runs.forEach((run, r) => {
    const entry = texts.l[r].find((l) => l[0] === at);
    if (!entry) return;
    const [, options, logs, best, score] = entry;
    options.forEach((option) => { if (!columns.includes(option)) columns.push(option); });
    const most = Math.max(...logs.filter((x) => x !== null)), exp = logs.map((x) => (x === null ? 0 : Math.exp(x - most)));
    const sum = exp.reduce((a, b) => a + b, 0);
    rows.push({ run, score, best, of: new Map(options.map((option, i) => [option, [logs[i], exp[i] / sum]])) });
  });
  if (!rows.length) return null;
  const cells = (row) => columns.map((option) => {
    const value = row.of.get(option);
    if (!value) return make("td", {}, "–");
    return make("td", { class: option === row.best ? "best" : "" }, value[0] === null ? "–" : value[0].toFixed(2),
      make("small", {}, `${(100 * value[1]).toFixed(1)} %`));
  });
  return make("details", { open: true, class: "likelihoods" }, make("summary", {}, "Log-likelihoods of the possible answers"),
    make("p", { class: "note" }, "Natural logarithm of the probability of the whole answer with its end; below it the share "
      + "among these answers. Bold: the most likely answer, which the column at the right scores."),
    make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Log-likelihoods" }, make("table", {},
      make("thead", {}, make("tr", {}, make("th", { class: "left", scope: "col" }, "Arm"),
        columns.map((option) => make("th", { scope: "col", dir: "auto" }, text(option))), make("th", { scope: "col" }, "Score"))),
      make("tbody", {}, rows.map((row) => make("tr", {},
        make("th", { scope: "row" }, make("span", { class: `swatch ${row.run.kind}` }), row.run.label,
          seeds.length > 1 ? make("small", {}, ` seed ${row.run.seed}`) : null),
        cells(row), make("td", {}, scoreText(row.score))))))));
}

async function copyLink(event) {
  const button = event.currentTarget;
  writeHash();
  try {
    await navigator.clipboard.writeText(location.href);
    button.textContent = "Copied";
  } catch {
    // The clipboard is refused to some pages; the address bar has the link.
    button.textContent = "See the address bar";
  }
  setTimeout(() => { button.textContent = "Copy link"; }, 2000);
}
