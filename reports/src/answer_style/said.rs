//! What the numbers show, in words.

use super::{AnswerShape, AnswerStyle, QuestionGroup};
use crate::formatting;
use crate::stats::Estimate;

/// Share in percent from which loops, refusals and ended answers are worth a sentence.
const NOTABLE: f64 = 1.0;

/// Formulates what the numbers show and what they do not.
pub(super) fn sentences(style: &AnswerStyle) -> Vec<String> {
    let questions = &style.questions;
    let mut said = Vec::new();
    match questions.explanation + questions.explanation_short_form {
        0 => said.push(format!(
            "None of the {} asks for an explanation, so these benchmarks do not show whether a model explains where \
             it should.",
            formatting::count(questions.open, "open question")
        )),
        _ => {
            for group in [QuestionGroup::Explanation, QuestionGroup::ExplanationShortForm] {
                said.extend(explained(style, group));
            }
        }
    }
    if questions.free > 0 && questions.short_form > 0 {
        said.extend(with_and_without(style));
    } else if questions.free == 0 {
        said.push(
            "Every open question is asked with a response-format prompt for a short answer; how the models answer \
             without one is not measured."
                .to_string(),
        );
    }
    for (what, of) in [
        ("repeat themselves", (|s| Some(s.loops)) as fn(&AnswerShape) -> Option<Estimate>),
        ("refuse", |s| Some(s.refusals)),
        ("were ended by the token limit", |s| s.at_limit),
    ] {
        said.extend(notable(style, what, of));
    }
    let unrecorded = |arm: &super::ArmStyle| arm.groups.values().any(|shape| shape.at_limit.is_none());
    if style.arms.values().any(unrecorded) {
        said.push(
            "Runs of earlier versions did not record which answers were ended by the token limit; for them it is unknown (–)."
                .to_string(),
        );
    }
    said
}

/// Returns an arm's answers to a group of questions, by name of the arm.
fn shapes(style: &AnswerStyle, group: QuestionGroup) -> Vec<(&str, &AnswerShape)> {
    style.arms.iter().filter_map(|(arm, s)| Some((arm.as_str(), s.groups.get(&group)?))).collect()
}

/// Formulates lengths and one-word answers where an explanation is asked for.
fn explained(style: &AnswerStyle, group: QuestionGroup) -> Option<String> {
    let shapes = shapes(style, group);
    let n = style.questions.of(group);
    let condition = match group {
        QuestionGroup::ExplanationShortForm => " and the prompt for a short answer",
        _ => "",
    };
    let asked = format!("{} for an explanation{condition}", asks(n));
    let least = shapes.iter().min_by(|a, b| a.1.one_word.value.total_cmp(&b.1.one_word.value))?;
    let most = shapes.iter().max_by(|a, b| a.1.one_word.value.total_cmp(&b.1.one_word.value))?;
    let told = |(arm, s): &(&str, &AnswerShape)| {
        format!(
            "{arm} answers {} of them with one word ({} to {}; median length {})",
            percent(s.one_word.value),
            percent(s.one_word.low),
            percent(s.one_word.high),
            words(s.words.median)
        )
    };
    Some(match shapes.len() {
        1 => format!("{asked}: {}.", told(least)),
        _ if least.0 == most.0 || least.1.one_word.value == most.1.one_word.value => {
            let medians = range(shapes.iter().map(|(_, s)| s.words.median));
            format!(
                "{asked}: every arm answers {} of them with one word; the median lengths are {medians} words.",
                percent(least.1.one_word.value)
            )
        }
        _ => format!("{asked}: {}, {}.", told(most), told(least)),
    })
}

/// Compares the answers to open questions with and without a response-format prompt.
fn with_and_without(style: &AnswerStyle) -> Option<String> {
    let (free, short) = (shapes(style, QuestionGroup::Free), shapes(style, QuestionGroup::ShortForm));
    let one = |of: &[(&str, &AnswerShape)]| range(of.iter().map(|(_, s)| s.one_word.value));
    let median = |of: &[(&str, &AnswerShape)]| range(of.iter().map(|(_, s)| s.words.median));
    (!free.is_empty() && !short.is_empty()).then(|| {
        format!(
            "Answers to open questions have a median of {} words without a response-format prompt and {} words with \
             one; {} % and {} % of them are one word. These are different questions.",
            median(&free),
            median(&short),
            one(&free),
            one(&short)
        )
    })
}

/// Names the arms of which a notable share of all answers has a property.
fn notable(style: &AnswerStyle, what: &str, of: fn(&AnswerShape) -> Option<Estimate>) -> Option<String> {
    let mut found: Vec<(&str, f64)> = shapes(style, QuestionGroup::All)
        .into_iter()
        .filter_map(|(arm, shape)| Some((arm, of(shape)?.value)))
        .filter(|(_, value)| *value >= NOTABLE)
        .collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
    let named: Vec<String> = found.iter().map(|(arm, value)| format!("{} of {arm}", percent(*value))).collect();
    (!named.is_empty()).then(|| format!("Answers that {what}: {}.", formatting::short_list(&named, 6)))
}

fn asks(n: usize) -> String {
    if n == 1 { "1 question asks".to_string() } else { format!("{n} questions ask") }
}

/// Formats a percentage of 0 to 100.
fn percent(value: f64) -> String {
    formatting::percent(value / 100.0)
}

/// Formats a length, such as `1 word` or `12.5 words`.
fn words(n: f64) -> String {
    let number = number(n);
    if number == "1" { "1 word".to_string() } else { format!("{number} words") }
}

fn number(n: f64) -> String {
    format!("{n:.1}").trim_end_matches(".0").to_string()
}

/// Formats the smallest and the largest value, or the only one.
fn range(values: impl Iterator<Item = f64> + Clone) -> String {
    let least = number(values.clone().fold(f64::INFINITY, f64::min));
    let most = number(values.fold(f64::NEG_INFINITY, f64::max));
    if least == most { least } else { format!("{least} to {most}") }
}
