//! V*: questions about small objects in large photographs: their attributes, and their relative positions.
//!
//! The score is the accuracy over all questions and over each category. The authors' script does not read answers: it
//! takes the choice with the highest likelihood (`vstar_bench_eval.py` of penghao-wu/vstar). For generating models they
//! publish the questions with lettered choices and the line that asks for the letter; strict rules accept an answer
//! that names a choice. `cambrian-1` asks the same text and takes the first letter of any answer (`vstar_test.py`).

use crate::benchmark::read;
use crate::table::{TableColumns, TableRow};
use crate::{
    AnswerForm, AnswerScore, Benchmark, BenchmarkCard, BenchmarkOutcome, Category, DatasetSource, LmmsEvalTask,
    Question, QuestionSet, Rules, RulesDescription, cambrian, edition, explain, labels, lmms, score, vlmevalkit,
};
use burgess_base::{Error, Result};
use std::path::Path;

/// The published benchmark.
pub struct VStar {
    card: BenchmarkCard<'static>,
}

/// The published benchmark: the authors' JSON lines with image files, or lmms-lab's table.
pub static V_STAR: VStar = VStar {
    card: BenchmarkCard {
        id: "v-star",
        authors: false,
        lmms_eval: Some(LmmsEvalTask { task: "vstar_bench", metric: "vstar_overall_acc" }),
        category: &Category::VISION_CENTRIC,
        metric: "accuracy",
        version: "2",
        citation: "Wu & Xie 2023, V*: Guided Visual Search as a Core Mechanism in Multimodal LLMs, arXiv:2312.14135",
        form: AnswerForm::Choice,
        max_new_tokens: 16,
        source: Some(DatasetSource {
            repository: "craigwu/vstar_bench",
            alias: Some("lmms-lab-encoder/vstar-bench"),
            cambrian_1: true,
            folder: "",
            split: "test",
            questions: 191,
            licence: "MIT (authors' repository); images of SA-1B under its own terms",
        }),
    },
};

impl VStar {
    fn question(row: &TableRow, from_vlmevalkit: bool) -> Result<Question> {
        let image = row.image("image")?;
        let text = row.text(if from_vlmevalkit { "question" } else { "text" })?;
        let (stem, options) = match from_vlmevalkit {
            true => (text.trim().to_string(), vlmevalkit::choices(row)?),
            false => edition::choices_within(&text, |l| format!("({l})")),
        };
        let answer = row.text(if from_vlmevalkit { "answer" } else { "label" })?.trim().to_string();
        if !labels::choice_letter(&answer).is_some_and(|l| ('A'..='Z').take(options.len()).any(|offered| offered == l))
        {
            let message = format!("the label {answer:?} is not one of the {} choices in the text", options.len());
            return Err(Error::failed(message).hint("choices are written as (A) …"));
        }
        let prompt = match from_vlmevalkit {
            true => {
                let lines: String = ('A'..='Z').zip(&options).map(|(l, o)| format!("({l}) {o}\n")).collect();
                format!("{stem}\n{lines}{}", score::LETTER_LINE)
            }
            false => text,
        };
        let image_id = image.name_in_table();
        Ok(Question {
            id: row.text(if from_vlmevalkit { "index" } else { "question_id" })?,
            row: row.number,
            images: vec![image],
            unit: image_id.clone(),
            image_id,
            question: stem,
            options,
            answer,
            subtask: row.text("category")?,
            facts: [("prompt".to_string(), prompt)].into(),
            ..Question::default()
        })
    }
}

/// Returns the text after the label `(A)` to `(D)` with which `text` begins.
fn labelled(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('(')?;
    inner.chars().next().filter(|c| ('A'..='D').contains(c))?;
    inner.get(1..)?.strip_prefix(')')
}

/// Returns question and choices as lmms-eval extracts them from the text: after `(A)` to `(D)` up to the next label or
/// the end of the text, if no other parenthesis is between them. They are lettered again in their order. The line that
/// asks for the letter, which is part of the published text, stays after the last choice.
fn lmms_question(text: &str) -> String {
    let mut choices = Vec::new();
    for (at, _) in text.match_indices('(') {
        let Some(rest) = text.get(at..).and_then(labelled) else { continue };
        let end = rest.find(['(', ')']).unwrap_or(rest.len());
        let choice = lmms::trimmed(rest.get(..end).unwrap_or_default());
        let ends = end == rest.len() || rest.get(end..).and_then(labelled).is_some();
        if ends && !choice.is_empty() {
            choices.push(choice.to_string());
        }
    }
    if choices.is_empty() {
        return text.to_string();
    }
    let question = lmms::trimmed(text.split("(A)").next().unwrap_or_default());
    choices.truncate(4);
    format!("{question}\n{}", lmms::lines(&choices))
}

/// Returns the letter that lmms-eval's task finds in an upper-case answer.
fn lmms_letter(answer: &str) -> Option<char> {
    let letter = |c: Option<char>| c.filter(|c| ('A'..='D').contains(c));
    if let Some(first) = letter(answer.chars().next()) {
        return Some(first);
    }
    let spaces = |t: &str| t.len() - t.trim_start_matches(|c: char| c.is_whitespace() || c == ':').len();
    let announced = |at: usize| {
        let rest = answer.get(at..)?;
        let is = rest.trim_start();
        let is = is.strip_prefix("IS").filter(|_| is.len() < rest.len());
        is.into_iter().chain([rest]).find_map(|rest| {
            let sign = spaces(rest);
            letter(rest.get(sign..)?.chars().next()).filter(|_| sign > 0)
        })
    };
    let ends = ["ANSWER", "CHOICE", "OPTION"].iter().flat_map(|w| answer.match_indices(w).map(|(at, w)| at + w.len()));
    let mut ends: Vec<usize> = ends.collect();
    ends.sort_unstable();
    if let Some(letter) = ends.into_iter().find_map(announced) {
        return Some(letter);
    }
    let letters = || answer.char_indices().filter_map(|(at, c)| Some((at, letter(Some(c))?)));
    let before = |at: usize| answer.get(..at).and_then(|t| t.chars().next_back());
    let after = |at: usize| answer.get(at + 1..).unwrap_or_default();
    let forms: [&dyn Fn(usize) -> bool; 3] = [
        &|at| before(at) == Some('(') && after(at).starts_with(')'),
        &|at| after(at).trim_start().starts_with(['.', ')', ']']),
        &|at| before(at).is_none_or(char::is_whitespace) && after(at).chars().next().is_none_or(char::is_whitespace),
    ];
    for form in forms {
        if let Some((_, letter)) = letters().find(|(at, _)| form(*at)) {
            return Some(letter);
        }
    }
    let mut all = letters();
    match (all.next(), all.next()) {
        (Some((_, letter)), None) => Some(letter),
        _ => None,
    }
}

impl Benchmark for VStar {
    fn card(&self) -> BenchmarkCard<'_> {
        self.card
    }

    fn read_published(&self, data: &Path, source: &DatasetSource<'_>) -> Result<QuestionSet> {
        let (table, from_vlmevalkit) = edition::open_named(data, source, "VStarBench.tsv", "test_questions.jsonl")?;
        let values: &[&str] = match from_vlmevalkit {
            true => &["index", "question", "A", "B", "C?", "D?", "answer", "category"],
            false => &["question_id", "text", "label", "category"],
        };
        let questions = read::published(self, &table, TableColumns { values, images: &["image"] }, |row| {
            Ok(Some(Self::question(row, from_vlmevalkit)?))
        })?;
        read::check_images(table.files().first().map_or(data, |f| f.as_path()), &questions)?;
        Ok(questions)
    }

    /// Returns lmms-eval's percentages, over all questions and per category.
    fn lmms_eval_numbers(&self, _: &[Question], _: &[AnswerScore], outcome: &BenchmarkOutcome) -> Vec<(String, f64)> {
        let kinds = outcome.subtasks.iter().map(|(kind, score)| (format!("vstar_{kind}_acc"), *score));
        kinds.chain([("vstar_overall_acc".to_string(), outcome.score)]).collect()
    }

    fn explain(&self, rules: Rules) -> RulesDescription<'_> {
        const ASKED: &str = "The authors' text as published: question, a line \"(A) …\" for each choice, \"Answer \
            with the option's letter from the given choices directly.\"";
        match rules {
            Rules::Official | Rules::Strict => RulesDescription {
                prompt: ASKED,
                scoring: explain::STRICT_LETTER,
                source: "ours: the authors' script (penghao-wu/vstar, vstar_bench_eval.py) does not read answers but \
                    takes the choice with the highest likelihood",
                difference: "",
            },
            Rules::Cambrian1 => RulesDescription {
                prompt: ASKED,
                scoring: "The first character after the last \"answer is\" or \"answer:\", without parentheses, is \
                    the letter.",
                source: "cambrian-mllm/cambrian, eval/eval/vstar/vstar_test.py",
                difference: "",
            },
            Rules::LmmsEval => RulesDescription {
                prompt: "Question, a line \"A. …\" for each choice as far as it finds them, \"Answer with the \
                    option's letter from the given choices directly.\"",
                scoring: "In upper case: a letter from A to D at the very beginning, also of a word; after \
                    \"answer\", \"choice\" or \"option\"; in parentheses; with . ) or ] after it; alone between \
                    spaces; or the only such letter in the answer.",
                source: "lmms-eval 0.7.3, tasks/vstar_bench/_default_template_yaml and utils.py",
                difference: "",
            },
        }
    }

    fn build_prompt(&self, q: &Question, rules: Rules) -> String {
        match rules {
            Rules::LmmsEval => format!("{}\n{}", lmms_question(q.fact("prompt")), score::LETTER_LINE),
            Rules::Official | Rules::Strict | Rules::Cambrian1 => q.fact("prompt").to_string(),
        }
    }

    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> AnswerScore {
        match rules {
            Rules::Official | Rules::Strict => score::judge_letter(q, answer),
            Rules::LmmsEval => score::judge_choice_letter(q, lmms_letter(&lmms::cleaned(answer).to_uppercase())),
            Rules::Cambrian1 => cambrian::judge_first_character(q, answer, &['.']),
        }
    }
}
