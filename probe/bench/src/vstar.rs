//! V*: small things in large photographs: their attributes, and which is where relative to another.
//!
//! The score is the accuracy over all questions, and over those of each category. The authors' script does not read
//! answers: it takes the choice whose text the model finds likeliest (`vstar_bench_eval.py` of penghao-wu/vstar). For
//! models that answer, they publish the questions with lettered choices and the line that asks for the letter; an answer
//! that names a choice is judged. The study asks the same text and takes the first letter of anything (`vstar_test.py`).

use super::table::{Columns, Row};
use super::{
    Benchmark, Card, Category, Form, Judged, Question, Questions, Rules, Source, edition, read, score, study,
    vlmevalkit,
};
use burgess_base::{Error, Result};
use std::path::Path;

/// The published benchmark.
pub struct VStar {
    card: Card,
}

/// Those of this family.
pub const ALL: &[&dyn Benchmark] = &[&V_STAR];

/// The published one: the authors' lines with picture files, or lmms-lab's table.
pub static V_STAR: VStar = VStar {
    card: Card {
        id: "v-star",
        category: Category::VisionCentric,
        metric: "accuracy",
        version: "1",
        citation: "Wu & Xie 2023, V*: Guided Visual Search as a Core Mechanism in Multimodal LLMs, arXiv:2312.14135",
        form: Form::Choice,
        max_new_tokens: 16,
        source: Some(Source {
            repository: "craigwu/vstar_bench",
            folder: "",
            split: "test",
            questions: 191,
            licence: "MIT (authors' repository); pictures of SA-1B under its own terms",
        }),
    },
};

impl VStar {
    fn question(row: &Row, kit: bool) -> Result<Question> {
        let image = row.picture("image")?;
        let text = row.text(if kit { "question" } else { "text" })?;
        let (stem, options) = match kit {
            true => (text.trim().to_string(), vlmevalkit::choices(row)?),
            false => edition::choices_within(&text, |l| format!("({l})")),
        };
        let answer = row.text(if kit { "answer" } else { "label" })?.trim().to_string();
        if !score::label(&answer).is_some_and(|l| ('A'..='Z').take(options.len()).any(|offered| offered == l)) {
            let message = format!("the label {answer:?} is none of the {} choices that the text gives", options.len());
            return Err(Error::failed(message).hint("choices are written as (A) …"));
        }
        let prompt = match kit {
            true => {
                let lines: String = ('A'..='Z').zip(&options).map(|(l, o)| format!("({l}) {o}\n")).collect();
                format!("{stem}\n{lines}{}", score::LETTER_LINE)
            }
            false => text,
        };
        let image_id = edition::picture_name(&image);
        Ok(Question {
            id: row.text(if kit { "index" } else { "question_id" })?,
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

impl Benchmark for VStar {
    fn card(&self) -> &Card {
        &self.card
    }

    fn read(&self, data: &Path) -> Result<Questions> {
        let Some(source) = &self.card.source else { return read::drawn(self, data) };
        let (table, kit) = edition::open_named(data, source, "VStarBench.tsv", "test_questions.jsonl")?;
        let values: &[&str] = match kit {
            true => &["index", "question", "A", "B", "C?", "D?", "answer", "category"],
            false => &["question_id", "text", "label", "category"],
        };
        let questions = read::published(self, &table, Columns { values, pictures: &["image"] }, |row| {
            Ok(Some(Self::question(row, kit)?))
        })?;
        read::check_images(table.files().first().map_or(data, |f| f.as_path()), &questions)?;
        Ok(questions)
    }

    fn prompt(&self, q: &Question, _: Rules) -> String {
        q.fact("prompt").to_string()
    }

    fn judge(&self, q: &Question, answer: &str, rules: Rules) -> Judged {
        match rules {
            Rules::Official => score::judge_letter(q, answer),
            Rules::Cambrian1 => study::judge_first_character(q, answer, &['.']),
        }
    }
}
