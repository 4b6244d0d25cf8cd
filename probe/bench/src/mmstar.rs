//! MMStar: 1,500 questions with four lettered choices that cannot be answered without the picture; accuracy of the letter.
//!
//! Official is the rule of the authors' script: the first character of the answer in lower case, that behind an opening
//! parenthesis, or that behind "option " or "the answer is " at the very beginning. It is a rule about characters: `dog`
//! is D. The study compares the first word.
//!
//! In the authors' edition the choices stand in the question's text; VLMEvalKit's has them in columns. The prompt is the
//! authors' in both cases.

use super::score;
use super::table::{Columns, Row, Table};
use super::{Benchmark, Card, Category, Form, Judged, Question, Questions, Rules, Source, read, study, vlmevalkit};
use burgess_base::{Error, Result};
use std::path::Path;

/// A benchmark of the MMStar family.
pub struct MmStar {
    card: Card,
}

/// Those of this family.
pub const ALL: &[&dyn Benchmark] = &[&MMSTAR];

/// As published.
pub static MMSTAR: MmStar = MmStar {
    card: Card {
        id: "mmstar",
        category: Category::General,
        metric: "accuracy",
        version: "1",
        citation: "Chen et al. 2024, Are We on the Right Way for Evaluating Large Vision-Language Models?, arXiv:2403.20330",
        form: Form::Choice,
        max_new_tokens: 128,
        source: Some(Source {
            repository: "Lin-Chen/MMStar",
            folder: "",
            split: "val",
            questions: 1500,
            licence: "none given; the questions come from six other benchmarks",
        }),
    },
};

/// The fact that says that the choices stand in the question, and so have no texts of their own.
const INSIDE: &str = "choices-in-question";

fn question(row: &Row) -> Result<Option<Question>> {
    let image = row.picture("image")?;
    let apart = vlmevalkit::choices(row)?;
    // Where the choices have columns of their own, a row without any has lost them.
    if apart.is_empty() && row.has("A") {
        return Err(Error::failed("it is a question with choices, but has none"));
    }
    let facts = if apart.is_empty() { vec![(INSIDE.to_string(), "true".to_string())] } else { Vec::new() };
    Ok(Some(Question {
        id: row.text("index")?,
        row: row.number,
        image_id: image.to_string(),
        unit: image.to_string(),
        images: vec![image],
        question: row.text("question")?,
        options: if apart.is_empty() { ('A'..='D').map(String::from).collect() } else { apart },
        answer: row.text("answer")?,
        subtask: row.text("category")?,
        facts: facts.into_iter().collect(),
        ..Question::default()
    }))
}

/// The character by which the authors' script judges.
fn character(answer: &str) -> Option<char> {
    let text = answer.trim().to_lowercase().replace('\n', " ");
    let after = ["(", "option ", "the answer is "].iter().find_map(|start| text.strip_prefix(start));
    after.unwrap_or(&text).chars().next()
}

impl Benchmark for MmStar {
    fn card(&self) -> &Card {
        &self.card
    }

    fn read(&self, data: &Path) -> Result<Questions> {
        let Some(source) = &self.card.source else { return read::drawn(self, data) };
        // The hub's file is not named for its split.
        let table = Table::named(data, &["mmstar.parquet", "MMStar.tsv"]).or_else(|_| Table::open(data, source))?;
        let columns = Columns {
            values: &["index", "question", "answer", "category", "A?", "B?", "C?", "D?"],
            pictures: &["image"],
        };
        read::published(self, &table, columns, question)
    }

    fn prompt(&self, q: &Question, rules: Rules) -> String {
        let choices = if q.fact(INSIDE).is_empty() { study::choices(&q.options) } else { String::new() };
        let line = match rules {
            Rules::Official => score::LETTER_LINE,
            Rules::Cambrian1 => study::ONLY_LETTER_LINE,
        };
        format!("{}{choices}\n{line}", q.question)
    }

    fn judge(&self, q: &Question, answer: &str, rules: Rules) -> Judged {
        match rules {
            Rules::Official => study::judge(q, character(answer).and_then(|c| study::offered(&c.to_string(), q))),
            Rules::Cambrian1 => study::judge_first_word(q, answer),
        }
    }
}
