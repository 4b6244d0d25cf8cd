//! The packs: JavaScript files with the questions and answers of one benchmark in columns, which a page loads with
//! `<script src>` because browsers refuse `fetch` of local files.
//!
//! A benchmark has one pack of codes (two characters per answer, enough for every filter), one of questions (for the
//! list and the search) and packs of texts and of images for consecutive questions, which are loaded when one of these
//! questions is shown.

use super::collect::{Answer, BenchmarkAnswers};
use crate::formatting;
use burgess_base::{Context, Result, digest};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// Size of the texts of a pack, in bytes, at which the next pack begins.
const PACK_BYTES: usize = 200_000;
/// Maximum number of questions in a pack of texts.
const PACK_QUESTIONS: usize = 1000;
/// Maximum length of a text in characters; of longer ones the rest is counted.
const LONGEST: usize = 20_000;
/// Characters of the codes, by value.
const CODES: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A benchmark in the list of contents.
#[derive(Debug, Serialize)]
pub(super) struct BenchmarkEntry {
    pub(super) name: String,
    pub(super) category: String,
    pub(super) metric: String,
    /// Number of questions.
    pub(super) n: usize,
    pub(super) subtasks: Vec<String>,
    /// For each pack of texts, the index of its first question.
    pub(super) starts: Vec<usize>,
    /// Size of the packs of texts, in bytes.
    pub(super) text_bytes: usize,
}

/// The pack of codes.
#[derive(Serialize)]
struct CodePack {
    /// For each run, one character per question: how the answer and the blind answer were scored (see [`code`]).
    c: Vec<String>,
    /// Number of characters per question in `k`.
    w: usize,
    /// For each run, `w` characters per question: the number of the parsed answer among the question's different ones.
    k: Vec<String>,
    /// For each run, the scores that are neither 0 nor 1, as question, score, blind score.
    x: Vec<Vec<f64>>,
}

/// The pack of questions.
#[derive(Serialize)]
struct QuestionPack<'a> {
    id: Vec<Cow<'a, str>>,
    q: Vec<Cow<'a, str>>,
    /// Right answers.
    t: Vec<Cow<'a, str>>,
    /// Indices of the subtasks.
    s: Vec<usize>,
}

/// Scores of a question's options: question, choices, log-probabilities, most likely choice, its score.
type OptionScores = (usize, Vec<u32>, Vec<f32>, u32, f64);

/// A pack of texts. Texts are indices into `s`.
#[derive(Default, Serialize)]
struct TextPack<'a> {
    s: Vec<Cow<'a, str>>,
    /// Units of the questions.
    u: Vec<u32>,
    /// Prompts: (whether the question comes before the text, text).
    p: Vec<(u8, u32)>,
    /// Choices.
    o: Vec<Vec<u32>>,
    /// Indices of the right choices.
    r: Vec<Vec<usize>>,
    /// For each run: answers, parsed answers and blind answers; −1 for none.
    a: Vec<Vec<i64>>,
    d: Vec<Vec<i64>>,
    b: Vec<Vec<i64>>,
    /// Scores of options, for each run.
    l: Vec<Vec<OptionScores>>,
}

/// Writes packs into a directory.
pub(super) struct PackWriter<'a> {
    dir: &'a Path,
    /// Digest of everything that was written.
    digest: digest::Digest,
}

impl<'a> PackWriter<'a> {
    pub(super) fn new(dir: &'a Path) -> Self {
        Self { dir, digest: digest::Digest::default() }
    }

    /// Writes a pack and returns its size.
    pub(super) fn write(&mut self, name: &str, pack: &impl Serialize) -> Result<usize> {
        // A string of a model must not end a script element, wherever the file's text is put.
        let json = serde_json::to_string(pack)?.replace('<', "\\u003c");
        let text = format!("burgessPack(\"{name}\",{json});\n");
        self.file(&format!("{name}.js"), text.as_bytes())?;
        Ok(text.len())
    }

    /// Writes a file.
    pub(super) fn file(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.digest.update(name.as_bytes());
        self.digest.update(bytes);
        let path = self.dir.join(name);
        fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))
    }

    /// Adds data that decide what is shown, but are no file of this directory, to the digest.
    pub(super) fn note(&mut self, text: &str) {
        self.digest.update(text.as_bytes());
    }

    pub(super) fn digest(&self) -> String {
        self.digest.finish()
    }
}

/// Makes a text harmless and limits its length.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(LONGEST) {
        None => formatting::escaped(text, true),
        Some((end, _)) => {
            let (start, rest) = text.split_at(end);
            Cow::Owned(format!("{}… ({} more characters)", formatting::escaped(start, true), rest.chars().count()))
        }
    }
}

/// Texts of a pack without duplicates.
#[derive(Default)]
struct PackTexts<'a> {
    texts: Vec<Cow<'a, str>>,
    known: HashMap<&'a str, u32>,
    bytes: usize,
}

impl<'a> PackTexts<'a> {
    fn add(&mut self, text: &'a str) -> u32 {
        let Self { texts, known, bytes } = self;
        *known.entry(text).or_insert_with(|| {
            let text = shown(text);
            *bytes += text.len() + 3;
            texts.push(text);
            u32::try_from(texts.len() - 1).unwrap_or(u32::MAX)
        })
    }
}

/// Returns the code of an answer: how it was scored (0 wrong, 1 partly right, 2 right, 3 no answer), the same of the
/// blind answer times 4, and 16 if the answer could not be parsed.
fn code(answer: Option<&Answer>) -> u8 {
    let class = |score: f64| match score {
        s if s >= 1.0 => 2,
        s if s > 0.0 => 1,
        _ => 0,
    };
    answer.map_or(3 + 4 * 3, |a| class(a.score) + 4 * class(a.blind_score) + if a.parsed.is_none() { 16 } else { 0 })
}

fn character(value: usize) -> char {
    CODES.get(value % 64).map_or('A', |c| char::from(*c))
}

/// Writes the packs of codes, questions and texts of benchmark number `b`.
pub(super) fn write(
    writer: &mut PackWriter,
    b: usize,
    name: &str,
    category: &str,
    metric: &str,
    answers: &BenchmarkAnswers,
) -> Result<BenchmarkEntry> {
    writer.write(&format!("b{b}-codes"), &codes(answers))?;
    let mut subtasks: Vec<String> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    let questions = &answers.questions;
    let of_question: Vec<usize> = questions
        .iter()
        .map(|q| {
            *places.entry(&q.subtask).or_insert_with(|| {
                subtasks.push(shown(&q.subtask).into_owned());
                subtasks.len() - 1
            })
        })
        .collect();
    let pack = QuestionPack {
        id: questions.iter().map(|q| formatting::escaped(&q.id, false)).collect(),
        q: questions.iter().map(|q| shown(&q.question)).collect(),
        t: questions.iter().map(|q| shown(&q.target)).collect(),
        s: of_question,
    };
    writer.write(&format!("b{b}-questions"), &pack)?;
    let (mut starts, mut text_bytes, mut start) = (Vec::new(), 0, 0);
    while start < questions.len() {
        let (pack, end) = texts(answers, start);
        text_bytes += writer.write(&format!("b{b}-text-{}", starts.len()), &pack)?;
        starts.push(start);
        start = end;
    }
    let (name, category, metric) = (shown(name).into_owned(), shown(category).into_owned(), shown(metric).into_owned());
    Ok(BenchmarkEntry { name, category, metric, n: questions.len(), subtasks, starts, text_bytes })
}

fn codes(answers: &BenchmarkAnswers) -> CodePack {
    let width = if answers.runs.len() > 64 { 2 } else { 1 };
    let mut pack = CodePack { c: Vec::new(), w: width, k: Vec::new(), x: Vec::new() };
    // The different parsed answers of each question; unparsed ones differ from them by their text.
    let mut known: Vec<Vec<(bool, u32)>> = vec![Vec::new(); answers.questions.len()];
    for run in &answers.runs {
        let (mut classes, mut numbers, mut exact) = (String::new(), String::new(), Vec::new());
        for (q, (answer, known)) in run.iter().zip(&mut known).enumerate() {
            classes.push(character(code(answer.as_ref()).into()));
            let number = answer.as_ref().map_or(0, |a| {
                let key = (a.parsed.is_some(), a.parsed.unwrap_or(a.text));
                known.iter().position(|k| *k == key).unwrap_or_else(|| {
                    known.push(key);
                    known.len() - 1
                })
            });
            numbers.push(character(number));
            if width == 2 {
                numbers.push(character(number / 64));
            }
            if let Some(a) = answer
                && [a.score, a.blind_score].iter().any(|s| *s > 0.0 && *s < 1.0)
            {
                exact.extend([q as f64, a.score, a.blind_score]);
            }
        }
        pack.c.push(classes);
        pack.k.push(numbers);
        pack.x.push(exact);
    }
    pack
}

/// Fills a pack with the texts of the questions from `start`, and returns it with the index of the question after it.
fn texts(answers: &BenchmarkAnswers, start: usize) -> (TextPack<'_>, usize) {
    let columns = || vec![Vec::new(); answers.runs.len()];
    let mut pack = TextPack {
        a: columns(),
        d: columns(),
        b: columns(),
        l: vec![Vec::new(); answers.runs.len()],
        ..Default::default()
    };
    let mut texts = PackTexts::default();
    let text = |index: u32| answers.texts.get(index as usize).map_or("", String::as_str);
    let mut end = start;
    for (place, question) in answers.questions.iter().enumerate().skip(start).take(PACK_QUESTIONS) {
        pack.u.push(texts.add(&question.unit));
        pack.p.push(match question.prompt.strip_prefix(&question.question) {
            Some(rest) => (1, texts.add(rest)),
            None => (0, texts.add(&question.prompt)),
        });
        pack.o.push(question.options.iter().map(|(option, _)| texts.add(option)).collect());
        pack.r.push((0..question.options.len()).filter(|i| question.options.get(*i).is_some_and(|o| o.1)).collect());
        let runs = answers.runs.iter().zip(&mut pack.a).zip(&mut pack.d).zip(&mut pack.b).zip(&mut pack.l);
        for ((((run, a), d), b), l) in runs {
            let Some(answer) = run.get(place).and_then(Option::as_ref) else {
                for column in [a, d, b] {
                    column.push(-1);
                }
                continue;
            };
            a.push(texts.add(text(answer.text)).into());
            d.push(answer.parsed.map_or(-1, |parsed| texts.add(text(parsed)).into()));
            b.push(texts.add(text(answer.blind_text)).into());
            if let Some(found) = &answer.likelihoods {
                let options = found.options.iter().map(|(option, _)| texts.add(option)).collect();
                let logprobs = found.options.iter().map(|(_, logprob)| *logprob as f32).collect();
                l.push((place - start, options, logprobs, texts.add(&found.answer), found.score));
            }
        }
        end = place + 1;
        if texts.bytes + 12 * answers.runs.len() * (end - start) > PACK_BYTES {
            break;
        }
    }
    pack.s = texts.texts;
    (pack, end)
}
