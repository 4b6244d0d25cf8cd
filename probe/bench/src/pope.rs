//! POPE: is a given object in the image? Half of the questions ask for absent objects, drawn at random, by frequency,
//! or by co-occurrence with the objects that are present.
//!
//! Official rules are those of the authors' script: the first sentence is a no if it has the word `No`, `no` or `not`,
//! and else a yes. The only exception is a blank answer, which that script takes for a yes and which is unparsed here.
//! The score is accuracy; F1, precision, recall and the fraction of yes answers, all in percent with yes as the
//! positive class, are reported among the subtasks. `cambrian-1` compares the first word.

use super::table::{Columns, Row, Table};
use super::{
    Benchmark, Card, Category, Explained, Form, Judged, Outcome, Question, Questions, Rules, Source, lmms, read, score,
    study, vlmevalkit,
};
use burgess_base::Result;
use std::collections::BTreeSet;
use std::path::Path;

/// A benchmark of the POPE family.
pub struct Pope {
    card: Card,
}

/// Every benchmark of this family.
pub const ALL: &[&dyn Benchmark] = &[&POPE];

/// The published benchmark, with all three kinds of absent objects.
pub static POPE: Pope = Pope {
    card: Card {
        id: "pope",
        authors: true,
        lmms_eval: Some(("pope", "pope_accuracy")),
        category: &Category::GENERAL,
        metric: "accuracy",
        version: "2",
        citation: "Li et al. 2023, Evaluating Object Hallucination in Large Vision-Language Models, arXiv:2305.10355",
        form: Form::YesNo,
        max_new_tokens: 128,
        source: Some(Source {
            repository: "lmms-lab/POPE",
            folder: "",
            split: "test",
            questions: 9000,
            licence: "MIT (questions; the images are those of COCO val2014)",
        }),
    },
};

fn question(row: &Row) -> Result<Option<Question>> {
    let (subtask, image_id) = (row.text("category")?, row.text("image_source")?);
    Ok(Some(Question {
        id: format!("{subtask}/{}", row.text("question_id")?),
        row: row.number,
        images: row.images("image").to_vec(),
        unit: image_id.clone(),
        image_id,
        question: row.text("question")?,
        answer: row.text("answer")?,
        subtask,
        ..Question::default()
    }))
}

/// Parses yes (`true`) or no as the authors' script does; `None` if the answer is blank.
fn first_sentence(answer: &str) -> Option<bool> {
    let answer = answer.trim();
    let sentence = answer.split('.').next().unwrap_or_default().replace(',', "");
    let denied = sentence.split(' ').any(|word| matches!(word, "No" | "not" | "no"));
    (!answer.is_empty()).then_some(!denied)
}

fn yes_or_no(word: &str) -> Option<bool> {
    match word {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// Returns the four other metrics of the authors' script, by name, in percent; 0 where the denominator is 0.
fn others<'a>(judged: impl Iterator<Item = (&'a Question, &'a Judged)>) -> [(&'static str, f64); 4] {
    let (mut hits, mut said, mut there, mut all) = (0.0, 0.0, 0.0, 0.0);
    for (q, j) in judged {
        let (yes, expected) = (j.parsed.as_deref() == Some("yes"), q.answer.eq_ignore_ascii_case("yes"));
        for (count, holds) in [(&mut hits, yes && expected), (&mut said, yes), (&mut there, expected), (&mut all, true)]
        {
            *count += f64::from(u8::from(holds));
        }
    }
    let share = |part: f64, of: f64| if of > 0.0 { 100.0 * part / of } else { 0.0 };
    let (precision, recall) = (share(hits, said), share(hits, there));
    let f1 = if hits > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 };
    [("F1", f1), ("precision", precision), ("recall", recall), ("yes", share(said, all))]
}

/// Returns lmms-eval's five metrics. Answers that are neither yes nor no are in no denominator but accuracy's; its "yes
/// ratio" is the fraction of yes among the expected answers.
fn lmms_numbers(qs: &[Question], judged: &[Judged], outcome: &Outcome) -> Vec<(String, f64)> {
    let count = |holds: &dyn Fn(bool, Option<&str>) -> bool| {
        let pairs = qs.iter().zip(judged);
        pairs.filter(|(q, j)| holds(q.answer.eq_ignore_ascii_case("yes"), j.parsed.as_deref())).count() as f64
    };
    let share = |part: f64, of: f64| if of > 0.0 { part / of } else { 0.0 };
    let hits = count(&|there, said| there && said == Some("yes"));
    let precision = share(hits, count(&|_, said| said == Some("yes")));
    let recall = share(hits, count(&|there, said| there && said.is_some()));
    [
        ("pope_accuracy", outcome.score / 100.0),
        ("pope_precision", precision),
        ("pope_recall", recall),
        ("pope_f1_score", share(2.0 * precision * recall, precision + recall)),
        ("pope_yes_ratio", share(count(&|there, _| there), qs.len() as f64)),
    ]
    .map(|(name, value)| (name.to_string(), value))
    .into()
}

impl Benchmark for Pope {
    fn card(&self) -> &Card {
        &self.card
    }

    fn read(&self, data: &Path) -> Result<Questions> {
        let Some(source) = &self.card.source else { return read::drawn(self, data) };
        if let Some(table) = vlmevalkit::table(data, "POPE.tsv") {
            return read::published(self, &table, vlmevalkit::COLUMNS, |row| vlmevalkit::question(row).map(Some));
        }
        let columns =
            Columns { values: &["question_id", "question", "answer", "image_source", "category"], images: &["image"] };
        read::published(self, &Table::open(data, source)?, columns, question)
    }

    fn explain(&self, rules: Rules) -> Explained {
        match rules {
            Rules::Official | Rules::Strict => Explained {
                asked: "The authors' question alone.",
                judged: "The first sentence, without commas, is a no if it has the word No, no or not, else a yes. The score is accuracy; F1, precision, recall and the share of yes stand beside it.",
                source: "the authors' script: RUCAIBox/POPE, evaluate.py",
                unlike: "A blank answer, which the script calls a yes, is unparsed.",
            },
            Rules::Cambrian1 => Explained {
                asked: "Question, then \"Answer the question using a single word or phrase.\"",
                judged: "The first word, without . : , at its end, has to be yes or no.",
                source: "cambrian-mllm/cambrian, eval/eval/pope/pope_test.py",
                unlike: "",
            },
            Rules::LmmsEval => Explained {
                asked: "Question, then \"Answer the question using a single word or phrase.\"",
                judged: "The whole answer has to be yes or no, up to case. What is neither counts in accuracy alone, not in precision, recall and F1; its `pope_yes_ratio` is that of the right answers.",
                source: "lmms-eval 0.7.3, tasks/pope/pope.yaml and utils.py",
                unlike: "",
            },
        }
    }

    fn prompt(&self, q: &Question, rules: Rules) -> String {
        match rules {
            Rules::Official | Rules::Strict => q.question.clone(),
            Rules::LmmsEval => score::short_answer_prompt(lmms::trimmed(&q.question)),
            Rules::Cambrian1 => score::short_answer_prompt(&q.question),
        }
    }

    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> Judged {
        let said = match rules {
            Rules::Official | Rules::Strict => first_sentence(answer),
            Rules::Cambrian1 => study::first_word(answer).and_then(|word| yes_or_no(&word)),
            Rules::LmmsEval => yes_or_no(lmms::trimmed(&lmms::cleaned(answer).to_lowercase())),
        };
        match said {
            Some(said) => Judged::new(if said { "yes" } else { "no" }, q.answer.eq_ignore_ascii_case("yes") == said),
            None => Judged::unparsed(),
        }
    }

    /// Computes accuracy and, per subtask and overall, the other metrics of the authors' script.
    fn aggregate(&self, qs: &[Question], judged: &[Judged], rules: Rules) -> Result<Outcome> {
        let mut outcome = self.sum_up(qs, judged, rules)?;
        if rules == Rules::LmmsEval {
            let numbers = lmms_numbers(qs, judged, &outcome);
            outcome.subtasks.extend(numbers.into_iter().map(|(name, value)| (format!("lmms-eval {name}"), value)));
            return Ok(outcome);
        }
        let kinds: BTreeSet<&str> = qs.iter().map(|q| q.subtask.as_str()).collect();
        let pairs = || qs.iter().zip(judged);
        for kind in kinds {
            let of_kind = others(pairs().filter(|(q, _)| q.subtask == kind));
            outcome.subtasks.extend(of_kind.map(|(name, value)| (format!("{kind} {name}"), value)));
        }
        outcome.subtasks.extend(others(pairs()).map(|(name, value)| (format!("all {name}"), value)));
        Ok(outcome)
    }
}
