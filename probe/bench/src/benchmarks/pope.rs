//! POPE: is a given object in the image? Half of the questions ask for absent objects, drawn at random, by frequency,
//! or by co-occurrence with the objects that are present.
//!
//! Official rules are those of the authors' script: the first sentence is a no if it has the word `No`, `no` or `not`,
//! and else a yes. The only exception is a blank answer, which that script takes for a yes and which is unparsed here.
//! The score is accuracy; F1, precision, recall and the fraction of yes answers, all in percent with yes as the
//! positive class, are reported among the subtasks. `cambrian-1` compares the first word.

use crate::benchmark::read;
use crate::table::{DatasetTable, TableColumns, TableRow};
use crate::{
    AnswerForm, AnswerScore, Benchmark, BenchmarkCard, BenchmarkOutcome, Category, DatasetSource, LmmsEvalTask,
    Question, QuestionSet, Rules, RulesDescription, cambrian, lmms, score, vlmevalkit,
};
use burgess_base::Result;
use std::collections::BTreeSet;
use std::path::Path;

/// A benchmark of the POPE family.
pub struct Pope {
    card: BenchmarkCard<'static>,
}

/// The published benchmark, with all three kinds of absent objects.
pub static POPE: Pope = Pope {
    card: BenchmarkCard {
        id: "pope",
        authors: true,
        lmms_eval: Some(LmmsEvalTask { task: "pope", metric: "pope_accuracy" }),
        category: &Category::GENERAL,
        metric: "accuracy",
        version: "2",
        citation: "Li et al. 2023, Evaluating Object Hallucination in Large Vision-Language Models, arXiv:2305.10355",
        form: AnswerForm::YesNo,
        max_new_tokens: 128,
        source: Some(DatasetSource {
            repository: "lmms-lab/POPE",
            alias: Some("lmms-lab-encoder/POPE"),
            cambrian_1: true,
            folder: "",
            split: "test",
            questions: 9000,
            licence: "MIT (questions; the images are those of COCO val2014)",
        }),
    },
};

fn question(row: &TableRow) -> Result<Option<Question>> {
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
fn other_metrics<'a>(judged: impl Iterator<Item = (&'a Question, &'a AnswerScore)>) -> [(&'static str, f64); 4] {
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

impl Benchmark for Pope {
    fn card(&self) -> BenchmarkCard<'_> {
        self.card
    }

    fn read_published(&self, data: &Path, source: &DatasetSource<'_>) -> Result<QuestionSet> {
        if let Some(questions) = vlmevalkit::read(self, data, "POPE.tsv", vlmevalkit::row) {
            return questions;
        }
        let columns = TableColumns {
            values: &["question_id", "question", "answer", "image_source", "category"],
            images: &["image"],
        };
        read::published(self, &DatasetTable::open(data, source)?, columns, question)
    }

    fn explain(&self, rules: Rules) -> RulesDescription<'_> {
        match rules {
            Rules::Official | Rules::Strict => RulesDescription {
                prompt: "The authors' question alone.",
                scoring: "The first sentence, without commas, is a no if it has the word No, no or not, else a yes. \
                    The score is accuracy; F1, precision, recall and the fraction of yes are reported with the \
                    subtasks.",
                source: "the authors' script: RUCAIBox/POPE, evaluate.py",
                difference: "A blank answer, which the script counts as a yes, is unparsed.",
            },
            Rules::Cambrian1 => RulesDescription {
                prompt: "Question, then \"Answer the question using a single word or phrase.\"",
                scoring: "The first word, without . : , at its end, must be yes or no.",
                source: "cambrian-mllm/cambrian, eval/eval/pope/pope_test.py",
                difference: "",
            },
            Rules::LmmsEval => RulesDescription {
                prompt: "Question, then \"Answer the question using a single word or phrase.\"",
                scoring: "The whole answer must be yes or no, up to case. Other answers count in accuracy only, not \
                    in precision, recall and F1; its `pope_yes_ratio` is the fraction of yes among the right \
                    answers.",
                source: "lmms-eval 0.7.3, tasks/pope/pope.yaml and utils.py",
                difference: "",
            },
        }
    }

    fn build_prompt(&self, q: &Question, rules: Rules) -> String {
        match rules {
            Rules::Official | Rules::Strict => q.question.clone(),
            Rules::LmmsEval => score::short_answer_prompt(lmms::trimmed(&q.question)),
            Rules::Cambrian1 => score::short_answer_prompt(&q.question),
        }
    }

    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> AnswerScore {
        let said = match rules {
            Rules::Official | Rules::Strict => first_sentence(answer),
            Rules::Cambrian1 => cambrian::first_word(answer).and_then(|word| yes_or_no(&word)),
            Rules::LmmsEval => yes_or_no(lmms::trimmed(&lmms::cleaned(answer).to_lowercase())),
        };
        score::judge_yes_no(q, said)
    }

    /// Returns the other metrics of the authors' script, per subtask and overall.
    fn further_numbers(&self, qs: &[Question], judged: &[AnswerScore]) -> Vec<(String, f64)> {
        let pairs = || qs.iter().zip(judged);
        let subtasks: BTreeSet<&str> = qs.iter().map(|q| q.subtask.as_str()).collect();
        let mut numbers = Vec::new();
        for subtask in subtasks {
            let metrics = other_metrics(pairs().filter(|(q, _)| q.subtask == subtask));
            numbers.extend(metrics.map(|(name, value)| (format!("{subtask} {name}"), value)));
        }
        numbers.extend(other_metrics(pairs()).map(|(name, value)| (format!("all {name}"), value)));
        numbers
    }

    /// Returns lmms-eval's five metrics. Answers that are neither yes nor no are in no denominator but accuracy's; its
    /// "yes ratio" is the fraction of yes among the expected answers.
    fn lmms_eval_numbers(
        &self,
        qs: &[Question],
        judged: &[AnswerScore],
        outcome: &BenchmarkOutcome,
    ) -> Vec<(String, f64)> {
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
}
