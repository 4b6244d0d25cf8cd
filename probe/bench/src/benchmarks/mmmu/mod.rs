//! MMMU: college-level questions of 30 subjects, with lettered choices or open; accuracy over all questions.
//!
//! Official prompt and rules are those of the authors' script (`mmmu/utils/eval_utils.py`): letters in the forms `(B)`
//! and ` B `, of several the last one, and in longer answers the texts of choices (`mmmu_letters`); open answers by the
//! phrases and numbers that may be the answer ([`open`]), where any match is right. The script draws a random letter if
//! it finds none; here the answer is unparsed. Texts refer to images as `<image 1>`, and the model gets all images of a
//! question.
//!
//! `cambrian-1` gives only the first image and removes these references. It takes the choices from between apostrophes
//! in the written list, so that a choice with an apostrophe is cut or lost. It reads letters by the first character;
//! open answers must be the same text, or a number within 5 % of the predicted one.

mod open;

use crate::benchmark::read;
use crate::table::{DatasetTable, TableColumns, TableRow, python_list};
use crate::{
    AnswerForm, AnswerScore, Benchmark, BenchmarkCard, BenchmarkOutcome, Category, DatasetSource, LmmsEvalTask,
    Question, QuestionSet, Rules, RulesDescription, cambrian, explain, labels, lmms, mmmu_letters, score, vlmevalkit,
};
use burgess_base::text::excerpt;
use burgess_base::{Error, Result};
use std::path::Path;

/// A benchmark of the MMMU family.
pub struct Mmmu {
    card: BenchmarkCard<'static>,
}

/// The published validation split.
pub static MMMU: Mmmu = Mmmu {
    card: BenchmarkCard {
        id: "mmmu",
        authors: true,
        lmms_eval: Some(LmmsEvalTask { task: "mmmu_val", metric: "mmmu_acc" }),
        category: &Category::KNOWLEDGE,
        metric: "accuracy",
        version: "2",
        citation: "Yue et al. 2023, MMMU: A Massive Multi-discipline Multimodal Understanding and Reasoning \
            Benchmark for Expert AGI, arXiv:2311.16502",
        form: AnswerForm::Open,
        max_new_tokens: 128,
        source: Some(DatasetSource {
            repository: "lmms-lab/MMMU",
            alias: Some("lmms-lab-encoder/MMMU"),
            cambrian_1: true,
            folder: "",
            split: "validation",
            questions: 900,
            licence: "Apache 2.0 (questions; images and texts belong to their makers)",
        }),
    },
};

/// Name of the fact that holds the answer as written in the table, if it is a list.
const WRITTEN: &str = "written-answer";
/// Name of the fact that holds the choices that `cambrian-1` finds, as a JSON list, if they differ from the question's.
const CAMBRIAN_OPTIONS: &str = "cambrian-1-options";

const IMAGES: [&str; 7] = ["image_1", "image_2", "image_3", "image_4", "image_5", "image_6", "image_7"];

/// Returns the subject in an id such as `validation_Art_Theory_12`.
fn subject(id: &str) -> Option<&str> {
    let (_, rest) = id.split_once('_')?;
    rest.rsplit_once('_').map(|(subject, _)| subject)
}

/// Returns the texts, empty ones included, between successive pairs of apostrophes on one line.
fn between_apostrophes(written: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = written;
    while let Some((_, after)) = rest.split_once('\'') {
        match after.split_once('\'') {
            Some((text, behind)) if !text.contains('\n') => {
                found.push(text.to_string());
                rest = behind;
            }
            _ => rest = after,
        }
    }
    found
}

fn question(row: &TableRow) -> Result<Option<Question>> {
    let (id, written) = (row.text("id")?, row.text("answer")?);
    let lettered = row.text("question_type")? == "multiple-choice";
    let options = if lettered { row.choices("options")? } else { Vec::new() };
    if lettered && options.is_empty() {
        return Err(Error::failed("the question must have choices, but has none"));
    }
    let mut q = Question {
        row: row.number,
        images: IMAGES.iter().flat_map(|column| row.images(column)).cloned().collect(),
        image_id: id.clone(),
        unit: id.clone(),
        question: row.text("question")?,
        subtask: subject(&id).unwrap_or("all").into(),
        id,
        ..Question::default()
    };
    if let Some(list) = row.value("options").and_then(|v| v.as_str()).filter(|_| lettered) {
        let found = between_apostrophes(list);
        if found != options {
            q.facts.insert(CAMBRIAN_OPTIONS.into(), serde_json::to_string(&found)?);
        }
    }
    q.options = options;
    set_answer(&mut q, written)?;
    Ok(Some(q))
}

/// Reads a row of VLMEvalKit's edition, which has one column per choice and holds the dev split in the same file. It lacks
/// the written list of choices from which `cambrian-1` loses some (those with an apostrophe): here they are complete.
fn of_vlmevalkit(row: &TableRow, split: &str) -> Result<Option<Question>> {
    if row.maybe("split").is_some_and(|s| s != split) {
        return Ok(None);
    }
    let mut q = vlmevalkit::question(row)?;
    if q.options.is_empty() && row.maybe("question_type").is_some_and(|kind| kind == "multiple-choice") {
        return Err(Error::failed("the question must have choices, but has none"));
    }
    let written = std::mem::take(&mut q.answer);
    set_answer(&mut q, written)?;
    Ok(Some(q))
}

/// Sets the answer: a letter, a text, or a list of accepted texts.
fn set_answer(q: &mut Question, written: String) -> Result<()> {
    if !q.options.is_empty() {
        let offered = labels::choice_letter(&written).filter(|l| ('A'..='Z').take(q.options.len()).any(|o| o == *l));
        q.answer = offered.map(String::from).ok_or_else(|| {
            Error::failed(format!(
                "the column `answer` holds {:?}, which is not the letter of a choice",
                excerpt(&written, 60)
            ))
        })?;
        return Ok(());
    }
    match python_list(&written).filter(|list| !list.is_empty()) {
        Some(list) => {
            q.answer = list.first().cloned().unwrap_or_default();
            q.accepted = list;
            q.facts.insert(WRITTEN.into(), written);
        }
        None => {
            q.answer = written.clone();
            q.accepted = vec![written];
        }
    }
    Ok(())
}

/// Removes the references `<image 1>`, `<image 2>`, … from the text.
fn without_image_references(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("<image ") {
        plain.push_str(before);
        let number = after.trim_start_matches(|c: char| c.is_ascii_digit());
        match number.strip_prefix('>').filter(|_| number.len() < after.len()) {
            Some(behind) => rest = behind,
            None => {
                plain.push_str("<image ");
                rest = after;
            }
        }
    }
    plain + rest
}

/// Judges by lmms-eval's copy of the authors' code, which takes a list of accepted answers, as written, for one
/// expected text.
fn lmms_verdict(q: &Question, answer: &str) -> AnswerScore {
    if !q.options.is_empty() {
        return score::judge_choice_letter(q, lmms::last_named(answer, &q.options));
    }
    let candidates = open::candidates(answer);
    let written = if q.fact(WRITTEN).is_empty() { &q.answer } else { q.fact(WRITTEN) };
    let texts: Vec<String> = candidates.iter().map(ToString::to_string).collect();
    lmms::on_text(&texts.join(" | "), open::fits(&candidates, &[written.to_string()]))
}

impl Benchmark for Mmmu {
    fn card(&self) -> BenchmarkCard<'_> {
        self.card
    }

    /// Reads one file, or one folder per subject.
    fn read_published(&self, data: &Path, source: &DatasetSource<'_>) -> Result<QuestionSet> {
        if let Some(questions) =
            vlmevalkit::read(self, data, "MMMU_DEV_VAL.tsv", |row| of_vlmevalkit(row, source.split))
        {
            return questions;
        }
        let columns = TableColumns {
            values: &["id", "question", "options", "answer", "question_type"],
            images: &["image_1", "image_2?", "image_3?", "image_4?", "image_5?", "image_6?", "image_7?"],
        };
        read::published(self, &DatasetTable::folders(data, source.split)?, columns, question)
    }

    /// Returns lmms-eval's `mmmu_acc`, a fraction from 0 to 1, rounded to five decimals.
    fn lmms_eval_numbers(&self, _: &[Question], _: &[AnswerScore], outcome: &BenchmarkOutcome) -> Vec<(String, f64)> {
        vec![("mmmu_acc".into(), (outcome.score * 1000.0).round_ties_even() / 1e5)]
    }

    fn explain(&self, rules: Rules) -> RulesDescription<'_> {
        match rules {
            Rules::Official | Rules::Strict => RulesDescription {
                prompt: "Question, a line \"(A) …\" for each choice, an empty line, \"Answer with the option's \
                    letter from the given choices directly.\"; open questions with \"Answer the question using a \
                    single word or phrase.\" All images, named in the text as <image 1>.",
                scoring: "Letters: the last one as (B); if there is none, the last one between spaces; if there is \
                    none and the answer has more than five words, the choice whose text comes last. Open: the ends \
                    of lines after \"is\", \"so\", \"answer\" and the like, and the numbers in them; right if any of \
                    them is the expected number (two decimals) or contains the expected text.",
                source: "the authors' script: MMMU-Benchmark/MMMU, mmmu/utils/eval_utils.py",
                difference: "The script draws a random letter if it finds none; here the answer is unparsed.",
            },
            Rules::Cambrian1 => RulesDescription {
                prompt: "Question, \" Options:\" with a line \"A. …\" for each, the line for a letter; open \
                    questions with the line for short answers. The first image only, and no <image 1> in the text.",
                scoring: "Letters: the first character after the last \"answer is\" or \"answer:\". Open: the same \
                    text up to case, or a number within 5 % of the predicted one.",
                source: "cambrian-mllm/cambrian, eval/eval/mmmu/mmmu_test.py",
                difference: "",
            },
            Rules::LmmsEval => RulesDescription {
                prompt: "Question, a line \"A. …\" for each choice, an empty line, \"Answer with the option's \
                    letter from the given choices directly.\"; open questions with an empty line and \"Answer the \
                    question using a single word or phrase.\"",
                scoring: explain::LAST_NAMED,
                source: "lmms-eval 0.7.3, tasks/mmmu/mmmu_val.yaml, utils.py and \
                    tasks/_task_utils/mmmu_mcq_utils.py; open questions as under the official rule, but a list of \
                    several accepted answers is compared as one text",
                difference: explain::NO_DRAW,
            },
        }
    }

    fn build_prompt(&self, q: &Question, rules: Rules) -> String {
        let lettered = !q.options.is_empty();
        let asked = match (rules, lettered) {
            (Rules::LmmsEval, false) => format!("{}\n\n{}", q.question, score::SHORT_LINE),
            (_, false) => return adapted(&score::short_answer_prompt(&q.question), rules),
            (Rules::LmmsEval, true) => format!("{}\n{}\n\n{}", q.question, lmms::lines(&q.options), score::LETTER_LINE),
            (Rules::Official | Rules::Strict, true) => {
                let choices: String = ('A'..='Z').zip(&q.options).map(|(l, o)| format!("({l}) {o}\n")).collect();
                format!("{}\n{choices}\n{}", q.question, score::LETTER_LINE)
            }
            (Rules::Cambrian1, true) => {
                let found = serde_json::from_str(q.fact(CAMBRIAN_OPTIONS)).unwrap_or_else(|_| q.options.clone());
                cambrian::options_prompt(&Question { options: found, ..q.clone() }, score::LETTER_LINE)
            }
        };
        adapted(&asked, rules)
    }

    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> AnswerScore {
        match rules {
            Rules::LmmsEval => lmms_verdict(q, &lmms::cleaned(answer)),
            _ if answer.trim().is_empty() => AnswerScore::unparsed(),
            Rules::Official | Rules::Strict => official_verdict(q, answer.trim()),
            Rules::Cambrian1 => cambrian_verdict(q, answer.trim()),
        }
    }
}

fn official_verdict(q: &Question, answer: &str) -> AnswerScore {
    if !q.options.is_empty() {
        return score::judge_choice_letter(q, mmmu_letters::last_named(answer, &q.options));
    }
    let candidates = open::candidates(answer);
    let right = open::fits(&candidates, &q.accepted);
    let texts: Vec<String> = candidates.iter().map(ToString::to_string).collect();
    AnswerScore::new(texts.join(" | "), right)
}

fn cambrian_verdict(q: &Question, answer: &str) -> AnswerScore {
    if !q.options.is_empty() {
        return cambrian::judge_first_character(q, answer, &cambrian::STOPS);
    }
    let announced = cambrian::announced(answer);
    let expected = if q.fact(WRITTEN).is_empty() { &q.answer } else { q.fact(WRITTEN) };
    let expected = expected.to_lowercase();
    match announced.trim_end_matches('.') {
        "" => AnswerScore::unparsed(),
        said => AnswerScore::new(said, said == expected || cambrian::near(&expected, said)),
    }
}

/// Adapts a prompt to the rules: `cambrian-1` removes the references to images and then trailing white space.
fn adapted(prompt: &str, rules: Rules) -> String {
    match rules {
        Rules::Official | Rules::Strict | Rules::LmmsEval => prompt.to_string(),
        Rules::Cambrian1 => without_image_references(prompt).trim_end().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_names_and_apostrophes() {
        assert_eq!(subject("validation_Art_Theory_12"), Some("Art_Theory"));
        assert_eq!(without_image_references("<image 1> a <image 12>b <image > <image x>"), " a b <image > <image x>");
        assert_eq!(between_apostrophes(r#"['a', "it's", 'b']"#), ["a", "s\", ", "]"][..2].to_vec());
        assert_eq!(between_apostrophes("['$6', '']"), ["$6", ""]);
    }
}
