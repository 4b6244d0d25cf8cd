//! Functions that benchmarks share: prompt forms, parsers, comparisons, and the aggregation with its standard error.

use crate::labels::{choice_index, choice_label, choice_letter};
use crate::question::Question;
use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub use crate::letter::letter;

/// The verdict on one answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerScore {
    /// The parsed answer; `None` if the answer could not be parsed (then `score` is 0).
    pub parsed: Option<String>,
    /// The score, from 0 (wrong) to 1 (right).
    pub score: f64,
}

impl AnswerScore {
    /// Returns the verdict on an answer that could not be parsed.
    pub fn unparsed() -> Self {
        Self { parsed: None, score: 0.0 }
    }

    /// Returns the verdict on a parsed answer.
    pub fn new(parsed: impl Into<String>, right: bool) -> Self {
        Self { parsed: Some(parsed.into()), score: if right { 1.0 } else { 0.0 } }
    }
}

/// A group of questions that are not independent of each other. A score is `100 · Σ sum / Σ weight` over units, so
/// bootstrap resampling needs only the units.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitTotals {
    /// The [`Question::unit`] of its questions.
    pub id: String,
    /// Weighted sum of the scores of its questions or pairs.
    pub sum: f64,
    /// Sum of the weights of its questions or pairs.
    pub weight: f64,
}

/// The result of a benchmark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BenchmarkOutcome {
    /// Value of the metric, 0 to 100.
    pub score: f64,
    /// Standard error of the score, clustered by unit (the linearised variance of a ratio), on the same scale. It
    /// cannot be estimated from a single unit; then it is 50, the largest standard deviation of a score between 0 and
    /// 100.
    pub stderr: f64,
    /// Number of questions.
    pub n: usize,
    /// Number of answers that could not be parsed.
    pub n_unparsed: usize,
    /// The units for resampling, sorted by id.
    pub units: Vec<UnitTotals>,
    /// The same metric on each subtask alone.
    pub subtasks: BTreeMap<String, f64>,
}

/// The prompt line that asks for a letter.
pub const LETTER_LINE: &str = "Answer with the option's letter from the given choices directly.";

/// The prompt line that asks for the text of a choice.
pub const NAMED_LINE: &str = "Answer with one of the options.";

/// The prompt line that asks for a short answer.
pub const SHORT_LINE: &str = "Answer the question using a single word or phrase.";

/// Builds a prompt of the question, one line per choice (`A. dog`), and the line that asks for the letter.
pub fn letter_prompt(q: &Question) -> String {
    let choices: String = q.options.iter().enumerate().map(|(i, o)| format!("{}. {o}\n", choice_label(i))).collect();
    format!("{}\n{choices}{LETTER_LINE}", q.question)
}

/// Builds a prompt of the question, the choices in one line, and the line that asks for one of them. Nano-world
/// questions use it where a small language model would have to find the answer, compare it with the choices and then
/// map it to a letter, which it does not learn.
pub fn named_prompt(q: &Question) -> String {
    format!("{}\n{}\n{NAMED_LINE}", q.question, q.options.join(", "))
}

/// Builds a prompt of the question and the line that asks for a word or phrase.
pub fn short_answer_prompt(question: &str) -> String {
    format!("{question}\n{SHORT_LINE}")
}

/// Judges an answer to a question with lettered choices; `parsed` is the upper-case letter.
pub fn judge_letter(q: &Question, answer: &str) -> AnswerScore {
    match letter(answer, &q.options) {
        Some(said) => AnswerScore::new(choice_label(said), choice_index(&q.answer) == Some(said)),
        None => AnswerScore::unparsed(),
    }
}

/// Judges a letter that was read from an answer; it may be a letter of no choice. `None` is an unparsed answer.
pub fn judge_choice_letter(q: &Question, said: Option<char>) -> AnswerScore {
    match said {
        Some(said) => AnswerScore::new(said, choice_letter(&q.answer) == Some(said)),
        None => AnswerScore::unparsed(),
    }
}

/// Judges yes (`true`) or no (`false`) that was read from an answer; `None` is an unparsed answer.
pub fn judge_yes_no(q: &Question, said: Option<bool>) -> AnswerScore {
    match said {
        Some(said) => AnswerScore::new(if said { "yes" } else { "no" }, yes_no(&q.answer) == Some(said)),
        None => AnswerScore::unparsed(),
    }
}

/// Parses yes (`true`) or no (`false`) by MME's official rule: the lower-cased answer's first four characters contain
/// "yes", else "no". The rule looks only at the beginning: "I see no dog" is neither, "nothing" is a no.
pub fn yes_no(answer: &str) -> Option<bool> {
    let head: String = answer.trim().to_lowercase().chars().take(4).collect();
    match (head.contains("yes"), head.contains("no")) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}

/// Returns the form in which open answers are compared: trimmed, lower case, without full stops at the end.
pub fn normalise(answer: &str) -> String {
    answer.trim().trim_end_matches('.').trim_end().to_lowercase()
}

/// Judges by exact match after [`normalise`]; an empty answer is unparsed.
pub fn judge_exact(q: &Question, answer: &str) -> AnswerScore {
    let said = normalise(answer);
    match said.is_empty() {
        true => AnswerScore::unparsed(),
        false => AnswerScore::new(&*said, said == normalise(&q.answer)),
    }
}

/// Returns whether `expected` occurs in `answer` by OCRBench's official rule: trimmed, lower case, line breaks as
/// spaces.
pub fn contains(answer: &str, expected: &str) -> bool {
    let plain = |s: &str| s.to_lowercase().trim().replace('\n', " ");
    plain(answer).contains(&plain(expected))
}

/// Maximum error of a number, relative to the expected one.
pub const RELAXED_TOLERANCE: f64 = 0.05;

/// Compares by ChartQA's official relaxed match. Two numbers match within 5 % of the expected one (`12%` is 0.12). An
/// expected 0, and any text that is not a number as a whole (`1,234`, `5 km`, `1/2`), must be the same text up to case.
pub fn relaxed_equal(answer: &str, expected: &str) -> bool {
    match (number(answer), number(expected)) {
        // A comparison with NaN is false, so NaN is never right.
        (Some(a), Some(e)) if e != 0.0 => (a - e).abs() / e.abs() <= RELAXED_TOLERANCE,
        _ => answer.to_lowercase() == expected.to_lowercase(),
    }
}

/// Parses a text that is a number as a whole; a trailing `%` divides by 100. It accepts what Python, the language of
/// the official scorer, accepts: signs, exponents, `inf`, `nan`, single underscores between digits, digits of other
/// scripts.
pub fn number(text: &str) -> Option<f64> {
    match text.strip_suffix('%') {
        Some(value) => plain_number(value.trim_end_matches('%')).map(|v| v / 100.0),
        None => plain_number(text),
    }
}

/// Parses a text that is a number as a whole, as Python's `float` does.
pub fn plain_number(text: &str) -> Option<f64> {
    let chars: Vec<char> = text.trim().chars().map(|c| decimal_digit(c).unwrap_or(c)).collect();
    let digit = |i: Option<usize>| i.and_then(|i| chars.get(i)).is_some_and(char::is_ascii_digit);
    let mut plain = String::with_capacity(chars.len());
    for (i, &c) in chars.iter().enumerate() {
        match c {
            '_' if digit(i.checked_sub(1)) && digit(Some(i + 1)) => {}
            '_' => return None,
            _ => plain.push(c),
        }
    }
    plain.parse().ok()
}

/// Code points of the digit zero in scripts other than ASCII (Unicode 14).
#[rustfmt::skip]
const ZEROS: [u32; 65] = [
    0x0660, 0x06F0, 0x07C0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0B66, 0x0BE6, 0x0C66, 0x0CE6, 0x0D66, 0x0DE6, 0x0E50,
    0x0ED0, 0x0F20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90, 0x1B50, 0x1BB0, 0x1C40, 0x1C50,
    0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0xFF10, 0x104A0, 0x10D30, 0x11066, 0x110F0, 0x11136,
    0x111D0, 0x112F0, 0x11450, 0x114D0, 0x11650, 0x116C0, 0x11730, 0x118E0, 0x11950, 0x11C50, 0x11D50, 0x11DA0,
    0x16A60, 0x16AC0, 0x16B50, 0x1D7CE, 0x1D7D8, 0x1D7E2, 0x1D7EC, 0x1D7F6, 0x1E140, 0x1E2F0, 0x1E950, 0x1FBF0,
];

/// Returns the ASCII digit for a decimal digit of another script.
pub fn decimal_digit(c: char) -> Option<char> {
    let code = u32::from(c);
    let zero = ZEROS.get(ZEROS.partition_point(|zero| *zero <= code).checked_sub(1)?)?;
    char::from_digit(code - zero, 10)
}

/// Computes the average normalised Levenshtein similarity of one answer (DocVQA): 1 − edit distance / longer length
/// for the best of the accepted texts, or 0 if that is below one half. As in the official script, texts are compared in
/// lower case with runs of white space as one space, while the lengths are those of the upper-cased texts with their
/// white space.
pub fn anls<S: AsRef<str>>(answer: &str, accepted: &[S]) -> f64 {
    let plain = |s: &str| s.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ").chars().collect();
    let length = |s: &str| s.to_uppercase().chars().count();
    let said: Vec<char> = plain(answer);
    let similarity = |expected: &S| {
        let expected = expected.as_ref();
        let longer = length(answer).max(length(expected));
        let distance = edit_distance(&plain(expected), &said);
        1.0 - if longer == 0 { 0.0 } else { distance as f64 / longer as f64 }
    };
    let best = accepted.iter().map(similarity).fold(0.0, f64::max);
    if best < 0.5 { 0.0 } else { best }
}

/// Computes the Levenshtein distance: the fewest insertions, deletions and replacements that turn `a` into `b`.
pub fn edit_distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut left = i + 1;
        let mut diagonal = i;
        for (y, above) in b.iter().zip(row.iter_mut().skip(1)) {
            let best = (diagonal + usize::from(x != y)).min(left + 1).min(*above + 1);
            diagonal = std::mem::replace(above, best);
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// Returns the mean of the values; `None` if there are none.
pub fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (n, sum) = values.fold((0.0, 0.0), |(n, sum), value| (n + 1.0, sum + value));
    (n > 0.0).then(|| sum / n)
}

/// A scored item: a question, or a pair.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredItem {
    /// The [`Question::unit`] of its questions.
    pub unit: String,
    /// The [`Question::subtask`] of its questions.
    pub subtask: String,
    /// Score of the item, 0 to 1.
    pub score: f64,
    /// Weight of the item in the mean.
    pub weight: f64,
    /// Whether the item is part of the score; otherwise it is reported only under its subtask.
    pub counted: bool,
}

impl ScoredItem {
    /// Creates an item of weight 1 in the unit and subtask of `q`.
    pub fn new(q: &Question, score: f64) -> Self {
        Self { unit: q.unit.clone(), subtask: q.subtask.clone(), score, weight: 1.0, counted: true }
    }
}

/// Returns one item of weight 1 per question, where `scores[i]` is the score of question i.
pub fn one_item_per_question(qs: &[Question], scores: &[f64]) -> Vec<ScoredItem> {
    qs.iter().zip(scores).map(|(q, &score)| ScoredItem::new(q, score)).collect()
}

/// Groups questions with the same key into pairs, sorted by key: the first question, and the scores `p` of both. It is
/// an error if a key does not have exactly two questions.
pub fn pairs<'a, K: Ord>(
    qs: &'a [Question],
    p: &[f64],
    key: impl Fn(&'a Question) -> K,
) -> Result<Vec<(&'a Question, [f64; 2])>> {
    let mut groups: BTreeMap<K, Vec<(&Question, f64)>> = BTreeMap::new();
    for (q, &p) in qs.iter().zip(p) {
        groups.entry(key(q)).or_default().push((q, p));
    }
    let pair = |group: Vec<(&'a Question, f64)>| match group.as_slice() {
        [(q, a), (_, b)] => Ok((*q, [*a, *b])),
        [(q, _), ..] => Err(Error::failed(format!(
            "the pair of question `{}` (image `{}`, unit `{}`, subtask `{}`) has {} question(s) instead of 2",
            q.id,
            q.image_id,
            q.unit,
            q.subtask,
            group.len()
        ))
        .hint("keep or drop both questions of a pair")),
        [] => Err(Error::failed("a pair without questions")),
    };
    groups.into_values().map(pair).collect()
}

/// Sets the weights so that each subtask counts equally, whatever its number of items.
pub fn equal_subtasks(items: &mut [ScoredItem]) {
    let mut sizes: BTreeMap<String, f64> = BTreeMap::new();
    for item in items.iter() {
        *sizes.entry(item.subtask.clone()).or_default() += 1.0;
    }
    let mean = items.len() as f64 / sizes.len() as f64;
    for item in items {
        item.weight = sizes.get(&item.subtask).map_or(1.0, |size| mean / size);
    }
}

/// Returns the `most` most frequent texts; ties are ordered by text.
pub fn most_frequent<'a>(texts: impl Iterator<Item = &'a str>, most: usize) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for text in texts {
        *counts.entry(text).or_default() += 1;
    }
    let mut frequent: Vec<(&str, usize)> = counts.into_iter().collect();
    frequent.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    frequent.into_iter().take(most).map(|(text, _)| text.to_string()).collect()
}

/// Aggregates items to the score and its standard error. The result does not depend on the order of the items.
pub fn aggregate_items(mut items: Vec<ScoredItem>, n: usize, n_unparsed: usize) -> Result<BenchmarkOutcome> {
    if items.is_empty() {
        return Err(Error::failed("there are no questions"));
    }
    // Floating-point sums depend on the order, so items are sorted first.
    items.sort_by(|a, b| (&a.unit, &a.subtask).cmp(&(&b.unit, &b.subtask)).then(a.score.total_cmp(&b.score)));
    let mut units: Vec<UnitTotals> = Vec::new();
    let mut parts: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for item in items {
        let (sum, weight) = (item.weight * item.score, item.weight);
        let part = parts.entry(item.subtask).or_default();
        *part = (part.0 + sum, part.1 + weight);
        if !item.counted {
            continue;
        }
        match units.last_mut().filter(|u| u.id == item.unit) {
            Some(unit) => {
                unit.sum += sum;
                unit.weight += weight;
            }
            None => units.push(UnitTotals { id: item.unit, sum, weight }),
        }
    }
    if units.is_empty() {
        return Err(Error::failed(
            "all questions are reported only by subtask, expected one that counts for the score",
        ));
    }
    let total: f64 = units.iter().map(|u| u.weight).sum();
    let mean = units.iter().map(|u| u.sum).sum::<f64>() / total;
    let subtasks = parts.into_iter().map(|(name, (sum, weight))| (name, percent(sum / weight))).collect();
    Ok(BenchmarkOutcome { score: percent(mean), stderr: stderr(&units, mean, total), n, n_unparsed, units, subtasks })
}

/// Converts a fraction to a percentage, clamped because rounding of weighted sums could leave the range.
fn percent(fraction: f64) -> f64 {
    (100.0 * fraction).clamp(0.0, 100.0)
}

/// Computes the linearised standard error of a ratio of sums over independent units, in percent: 100 · √(k/(k−1)
/// · Σ(sum − mean·weight)²) / Σ weight.
fn stderr(units: &[UnitTotals], mean: f64, total: f64) -> f64 {
    let k = units.len() as f64;
    if units.len() < 2 {
        return 50.0;
    }
    let squares: f64 = units.iter().map(|u| (u.sum - mean * u.weight).powi(2)).sum();
    100.0 * (k / (k - 1.0) * squares).sqrt() / total
}
