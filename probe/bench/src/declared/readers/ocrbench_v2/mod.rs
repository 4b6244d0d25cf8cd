//! Reads the answers of OCRBench v2: one rule per task.
//!
//! The rules are those of the authors' `eval_scripts` (Yuliang-Liu/MultimodalOCR), with their quirks; lmms-eval 0.7.3
//! has the same. Some tasks have none here: those scored by BLEU and METEOR (METEOR needs WordNet, and Chinese the
//! segmenter jieba), and tables, which are scored by the tree edit distance of HTML as libxml2 repairs it. Charts are
//! compared in the same way, but their HTML is made from dictionaries, so that only signs of markup in texts would be
//! repaired. Of 48,000 randomly changed answers to the benchmarks of `tests/open_2026.rs` three were judged
//! differently, and of 9,000 to the structured tasks here five: dictionaries with bytes literals, and `<` within the
//! texts of a chart.

mod chart;
mod document;
mod literal;
mod pairs;
mod spotting;
mod tree;

use super::AnswerReader;
use crate::card::AnswerForm;
use crate::declared::format::AnswerTable;
use crate::lmms::trimmed;
use crate::question::Question;
use crate::score::{AnswerScore, edit_distance, plain_number};
use burgess_base::text::excerpt;
use burgess_base::{Error, Result};
use literal::Literal;
use regex::Regex;
use std::sync::LazyLock;

/// The reader `ocrbench-v2`. Its questions have the fact `task`, and, where the task needs them, `eval`, `box`, `boxes`
/// and `texts`.
pub(super) struct OcrBenchV2;

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Short answers must be contained; the similarity of long ones counts.
    Short,
    /// As `Short`, for Chinese: without spaces.
    Chinese,
    Counting,
    Formula,
    ChineseFormula,
    Pairs,
    Position,
    Grounding,
    Spotting,
    Document,
    Chart,
}

/// The tasks that have a rule.
const RULES: [(&str, Rule); 23] = [
    ("APP agent en", Rule::Short),
    ("ASCII art classification en", Rule::Short),
    ("math QA en", Rule::Short),
    ("reasoning VQA en", Rule::Short),
    ("science QA en", Rule::Short),
    ("text recognition en", Rule::Short),
    ("document classification en", Rule::Short),
    ("cognition VQA en", Rule::Short),
    ("diagram QA en", Rule::Short),
    ("cognition VQA cn", Rule::Chinese),
    ("reasoning VQA cn", Rule::Chinese),
    ("text counting en", Rule::Counting),
    ("formula recognition en", Rule::Formula),
    ("formula recognition cn", Rule::ChineseFormula),
    ("key information extraction en", Rule::Pairs),
    ("key information mapping en", Rule::Pairs),
    ("key information extraction cn", Rule::Pairs),
    ("VQA with position en", Rule::Position),
    ("text grounding en", Rule::Grounding),
    ("text spotting en", Rule::Spotting),
    ("document parsing en", Rule::Document),
    ("document parsing cn", Rule::Document),
    ("chart parsing en", Rule::Chart),
];

/// The tasks that have none, by the metric that they are scored with.
const WITHOUT_RULE: [(&str, &str); 7] = [
    ("full-page OCR en", "BLEU and METEOR"),
    ("full-page OCR cn", "BLEU and METEOR"),
    ("fine-grained text recognition en", "BLEU and METEOR"),
    ("handwritten answer extraction cn", "BLEU and METEOR"),
    ("text translation cn", "BLEU and METEOR"),
    ("table parsing en", "TEDS"),
    ("table parsing cn", "TEDS"),
];

static NOT_LETTERS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\P{L}+").ok());
static DIGITS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\d+").ok());
static TEXT_TAG: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\\text\{([^{}]*)\}").ok());
static BOX: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let number = r"[\s\x1c-\x1f]*(\d+)[\s\x1c-\x1f]*";
    Regex::new(&format!(r"[\(\[]{number},{number},{number},{number}[\)\]]")).ok()
});

fn rule(task: &str) -> Option<Rule> {
    RULES.iter().find(|(name, _)| *name == task).map(|(_, rule)| *rule)
}

/// Returns the similarity of two texts: 1 − edit distance / longer length.
fn similarity(a: &str, b: &str) -> f64 {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    match a.len().max(b.len()) {
        0 => 1.0,
        longer => 1.0 - edit_distance(&a, &b) as f64 / longer as f64,
    }
}

/// Scores a text: 1 if it contains a short accepted text, or its similarity to a long one if that is at least one half.
fn contained(said: &str, accepted: &[String], plain: impl Fn(&str) -> String, long: impl Fn(&str) -> bool) -> f64 {
    let said = plain(said);
    accepted.iter().fold(0.0, |score, right| {
        let right = plain(right);
        match long(&right) {
            false if said.contains(&right) => 1.0,
            false => score,
            true => match similarity(&said, &right) {
                near if near >= 0.5 => near.max(score),
                _ => score,
            },
        }
    })
}

fn short(said: &str, q: &Question, accepted: &[String], chinese: bool) -> f64 {
    let words = |text: &str| {
        text.split(|c: char| trimmed(c.encode_utf8(&mut [0; 4])).is_empty()).filter(|w| !w.is_empty()).count()
    };
    let case = |text: &str| trimmed(text).replace('\n', " ");
    match q.fact("eval") {
        "multiple choice" => {
            let letters = NOT_LETTERS.as_ref().map(|p| p.replace_all(said, ""));
            f64::from(u8::from(letters.is_some_and(|letters| accepted.first().is_some_and(|right| *right == letters))))
        }
        "case sensitive" => contained(said, accepted, case, |right| words(right) >= 5),
        _ if chinese => {
            let plain = |text: &str| case(&text.to_lowercase()).replace(' ', "");
            contained(said, accepted, plain, |right| right.split(',').count() >= 4)
        }
        _ => contained(said, accepted, |text| case(&text.to_lowercase()), |right| words(right) >= 5),
    }
}

/// Scores a count: by containment, or by closeness of the first number to the right one.
fn counting(said: &str, q: &Question, accepted: &[String]) -> f64 {
    let best = accepted.iter().map(|right| {
        let right = trimmed(&right.to_lowercase()).replace('\n', " ");
        if q.fact("eval") == "exact match" {
            return f64::from(u8::from(said.contains(&right)));
        }
        let low = said.to_lowercase();
        let first = DIGITS.as_ref().and_then(|p| p.find(&low)).and_then(|m| plain_number(m.as_str()));
        match (first, plain_number(&right)) {
            (Some(n), Some(right)) if n > 0.0 && n < 2.0 * right => {
                let near = 1.0 - (n - right).abs() / right;
                if near > 0.5 { near } else { 0.0 }
            }
            _ => 0.0,
        }
    });
    best.fold(0.0, f64::max)
}

fn formula(said: &str, accepted: &[String], chinese: bool) -> f64 {
    let plain = |text: &str| {
        let text = match TEXT_TAG.as_ref().filter(|_| chinese) {
            Some(pattern) => pattern.replace_all(text, "$1"),
            None => text.into(),
        };
        trimmed(&text).replace(['\n', ' '], "")
    };
    let said = plain(said);
    f64::from(u8::from(accepted.iter().any(|right| said.contains(&plain(right)))))
}

/// Computes the intersection over union of two boxes of whole numbers; 0 for anything else.
fn overlap(said: &Literal, right: &[i64]) -> f64 {
    let said: Option<Vec<i64>> = said.items().and_then(|items| items.iter().map(Literal::int).collect());
    let (Some([a0, a1, a2, a3, ..]), [b0, b1, b2, b3, ..]) = (said.as_deref(), right) else { return 0.0 };
    let both = (a2.min(b2) - a0.max(b0)).max(0) * (a3.min(b3) - a1.max(b1)).max(0);
    let union = (a2 - a0) * (a3 - a1) + (b2 - b0) * (b3 - b1) - both;
    if union == 0 { 0.0 } else { both as f64 / union as f64 }
}

/// Returns the last box of whole numbers up to 1000 in brackets.
fn last_box(answer: &str) -> Option<Literal> {
    let found = BOX.as_ref()?.captures_iter(answer).filter_map(|groups| {
        let numbers: Option<Vec<i64>> = (1..5).map(|i| literal::int(groups.get(i)?.as_str())).collect();
        numbers.filter(|numbers| numbers.iter().all(|n| *n <= 1000))
    });
    let last = found.last()?;
    Some(Literal::List(last.into_iter().map(|n| Literal::Int(n.to_string())).collect()))
}

/// Returns a list of whole numbers.
fn whole_numbers(text: &str) -> Option<Vec<i64>> {
    literal::python(text)?.items()?.iter().map(Literal::int).collect()
}

/// Returns the annotated boxes with text.
fn annotated(q: &Question) -> Option<Vec<spotting::Spot>> {
    let polygons = literal::python(q.fact("boxes"))?;
    let polygons: Option<Vec<Vec<i64>>> =
        polygons.items()?.iter().map(|polygon| polygon.items()?.iter().map(Literal::int).collect()).collect();
    let texts: Vec<String> = literal::python(q.fact("texts"))?.items()?.iter().map(Literal::text).collect();
    spotting::annotated(&polygons?, &texts)
}

/// Scores an answer; `None` if the answer does not have the form that the task needs.
fn score(rule: Rule, q: &Question, answer: &str) -> Option<f64> {
    let accepted = q.accepted_answers();
    match rule {
        Rule::Short | Rule::Chinese => Some(short(answer, q, accepted, rule == Rule::Chinese)),
        Rule::Counting => Some(counting(answer, q, accepted)),
        Rule::Formula | Rule::ChineseFormula => Some(formula(answer, accepted, rule == Rule::ChineseFormula)),
        Rule::Pairs => {
            let said = pairs::pairs(answer);
            let score = pairs::f1(&said, &pairs::accepted(accepted.first()?)?);
            (!said.is_empty()).then_some(score)
        }
        Rule::Position => {
            let said = pairs::pairs(answer);
            let text = said.get("answer").map(|text| {
                contained(
                    text,
                    accepted,
                    |t| trimmed(&t.to_lowercase()).replace('\n', " "),
                    |right| right.split_whitespace().count() >= 5,
                )
            });
            let place = said.get("bbox").map(|place| {
                literal::python(place)
                    .map_or(0.0, |place| overlap(&place, &whole_numbers(q.fact("box")).unwrap_or_default()))
            });
            (text.is_some() || place.is_some()).then(|| 0.5 * text.unwrap_or(0.0) + 0.5 * place.unwrap_or(0.0))
        }
        Rule::Grounding => {
            let right: Option<Vec<i64>> = accepted.iter().map(|number| literal::int(number)).collect();
            last_box(answer).map(|said| overlap(&said, &right.unwrap_or_default()))
        }
        Rule::Spotting => {
            let said = spotting::spots(answer);
            (!said.is_empty()).then(|| spotting::hmean(&said, &annotated(q).unwrap_or_default()))
        }
        Rule::Document => Some(document::similarity(answer, accepted.first()?)),
        Rule::Chart => {
            let said = chart::rows(answer).filter(chart::is_plain)?;
            Some(chart::similarity(&said, &chart::rows(accepted.first()?)?))
        }
    }
}

/// Returns the right answer in the form that the task asks for.
fn written(rule: Rule, q: &Question) -> Option<String> {
    let first = q.accepted_answers().first()?;
    let numbers = |numbers: &[i64]| numbers.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
    Some(match rule {
        Rule::Pairs => {
            let known = pairs::accepted(first)?.into_iter();
            let firsts = known.map(|(key, values)| (key, values.into_iter().next().unwrap_or_default().into()));
            serde_json::Value::Object(firsts.collect()).to_string()
        }
        Rule::Position => {
            let text = serde_json::Value::from(first.as_str());
            format!("{{\"answer\": {text}, \"bbox\": [{}]}}", numbers(&whole_numbers(q.fact("box"))?))
        }
        Rule::Grounding => format!("[{}]", q.accepted_answers().join(", ")),
        Rule::Spotting => {
            let spots = annotated(q)?;
            let spot = |s: &spotting::Spot| {
                let text = serde_json::Value::from(s.text.trim_matches('"'));
                format!("[{}, {text}]", numbers(&s.corners))
            };
            let spots: Vec<String> = spots.iter().filter(|s| s.text != spotting::IGNORED).map(spot).collect();
            format!("[{}]", spots.join(", "))
        }
        _ => first.clone(),
    })
}

impl AnswerReader for OcrBenchV2 {
    fn name(&self) -> &'static str {
        "ocrbench-v2"
    }

    fn form(&self) -> AnswerForm {
        AnswerForm::Open
    }

    fn check_question(&self, _: &AnswerTable, q: &Question) -> Result<()> {
        let task = q.fact("task");
        let Some(rule) = rule(task) else {
            let metric = WITHOUT_RULE.iter().find(|(name, _)| *name == task).map(|(_, metric)| metric);
            return Err(Error::failed(match metric {
                Some(metric) => format!("the task `{task}` is scored by {metric}, which has no rule here"),
                None => format!("the task `{}` is not known", excerpt(task, 60)),
            }));
        };
        let wrong = match rule {
            Rule::Pairs if q.accepted_answers().first().is_none_or(|a| pairs::accepted(a).is_none()) => {
                "the right answer is not a dictionary of texts"
            }
            Rule::Position if whole_numbers(q.fact("box")).is_none_or(|b| b.len() != 4) => {
                "the right box is not a list of four whole numbers"
            }
            Rule::Grounding if q.accepted_answers().iter().filter_map(|n| literal::int(n)).count() != 4 => {
                "the right answer is not a box of four whole numbers"
            }
            Rule::Spotting if annotated(q).is_none() => "the annotated boxes and texts cannot be read",
            Rule::Chart
                if q.accepted_answers()
                    .first()
                    .and_then(|a| chart::rows(a))
                    .is_none_or(|rows| !chart::is_plain(&rows)) =>
            {
                "the right answer is not a dictionary of texts without markup"
            }
            Rule::Counting if q.accepted_answers().iter().any(|n| plain_number(n).is_none()) => {
                "the right answer is not a number"
            }
            _ => return Ok(()),
        };
        Err(Error::failed(wrong))
    }

    fn complete(&self, _: &AnswerTable, q: &mut Question) {
        if let Some(answer) = rule(q.fact("task")).and_then(|rule| written(rule, q)) {
            q.answer = answer;
        }
    }

    fn describe(&self, _: &AnswerTable) -> String {
        "One rule per task. Questions: a short accepted text (fewer than five words; in Chinese fewer than four \
            commas' \
            parts) must be contained in the answer, the similarity to a longer one counts from one half (ANLS); the \
            letters of the answer must be the right letter (multiple choice). Counting: containment, or 1 − relative \
            error of the first number if above one half. Formulas: containment without spaces. Key information: F1 of \
            the pairs of a JSON or Python dictionary. Position: mean of text and intersection over union. Grounding: \
            intersection over union of the last box. Spotting: harmonic mean of end-to-end precision and recall. \
            Document parsing: tree similarity of titles and lines. Charts: tree similarity (TEDS) of the dictionary \
            as a \
            table. An answer without the form that the task needs is \
            unparsed."
            .to_string()
    }

    fn verdict(&self, _: &AnswerTable, q: &Question, answer: &str) -> AnswerScore {
        let found = rule(q.fact("task")).and_then(|rule| score(rule, q, answer));
        match found {
            Some(0.0) if trimmed(answer).is_empty() => AnswerScore::unparsed(),
            Some(score) => AnswerScore { parsed: Some(trimmed(answer).to_string()), score },
            None => AnswerScore::unparsed(),
        }
    }
}
