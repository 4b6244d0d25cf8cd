// Options of a multiple-choice question, read from its text.

/**
 * Reads the options of a question: `(A) … (B) …`, lines `A. …` or `A) …`, or a line of options before
 * "Answer with one of the options". Returns null, or `labels` (null if the options have none) and `texts`.
 */
export function readOptions(question) {
  return parenthesised(question) || lettered(question) || listed(question);
}

function parenthesised(question) {
  const marks = [...question.matchAll(/(?:^|\s)\(([A-Za-z])\)\s*/g)];
  const run = consecutive(marks.map((mark) => mark[1]));
  if (!run) return null;
  const texts = marks.slice(0, run).map((mark, i) => {
    const end = i + 1 < marks.length ? marks[i + 1].index : question.length;
    return question.slice(mark.index + mark[0].length, end).split("\n")[0].trim().replace(/[,;]$/, "");
  });
  return whole(marks.slice(0, run).map((mark) => `(${mark[1]})`), texts);
}

function lettered(question) {
  const lines = [...question.matchAll(/^[ \t]*([A-Za-z])[.):][ \t]+(\S.*?)[ \t]*$/gm)];
  const run = consecutive(lines.map((line) => line[1]));
  if (!run) return null;
  return whole(lines.slice(0, run).map((line) => line[1]), lines.slice(0, run).map((line) => line[2]));
}

function listed(question) {
  const found = /^(.+)\n[ \t]*Answer with one of the options\b/im.exec(question);
  const texts = found ? found[1].split(",").map((text) => text.trim()) : [];
  return texts.length >= 2 ? whole(null, texts) : null;
}

/** Number of letters from A (or a) on that follow each other; 0 if fewer than two. */
function consecutive(letters) {
  const first = letters[0];
  if (first !== "A" && first !== "a") return 0;
  let run = 0;
  while (run < letters.length && letters[run].charCodeAt(0) === first.charCodeAt(0) + run) run += 1;
  return run >= 2 ? run : 0;
}

function whole(labels, texts) {
  return texts.every((text) => text !== "") ? { labels, texts } : null;
}

/** Whether the question asks for the letter of an option. */
export function asksForLetter(question) {
  return /\bletter\b/i.test(question);
}

/** Lines of the options field, without empty ones and repetitions. */
export function lines(field) {
  return [...new Set(field.split("\n").map((line) => line.trim()).filter((line) => line !== ""))];
}
