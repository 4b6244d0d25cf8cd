//! AI2D: a question about a labelled diagram, with lettered choices; accuracy of the letter.
//!
//! The authors rank choices by a model of their own and publish no rule for generated text: official is the strict
//! reading of a letter that all families share. The study takes the first character, and compares numbers: an answer
//! that begins with `1` names the second choice.

use super::score;
use super::table::{Columns, Row, Table};
use super::{Benchmark, Card, Category, Form, Judged, Question, Questions, Rules, Source, read, study, vlmevalkit};
use burgess_base::Result;
use std::path::Path;

/// A benchmark of the AI2D family.
pub struct Ai2d {
    card: Card,
}

/// Those of this family.
pub const ALL: &[&dyn Benchmark] = &[&AI2D, &NANO];

const CITATION: &str = "Kembhavi et al. 2016, A Diagram Is Worth a Dozen Images, arXiv:1603.07396";

/// As published for models that answer in words: the labels of the diagrams are letters in boxes.
pub static AI2D: Ai2d = Ai2d {
    card: Card {
        id: "ai2d",
        category: Category::Knowledge,
        metric: "accuracy",
        version: "1",
        citation: CITATION,
        form: Form::Choice,
        max_new_tokens: 16,
        source: Some(Source {
            repository: "lmms-lab/ai2d",
            folder: "",
            split: "test",
            questions: 3088,
            licence: "CC BY-SA (annotations; the diagrams belong to their makers)",
        }),
    },
};

/// The small sibling: diagrams of the nano world.
pub static NANO: Ai2d = Ai2d {
    card: Card {
        id: "nano-ai2d",
        category: Category::Knowledge,
        metric: "accuracy",
        version: "1",
        citation: CITATION,
        form: Form::Choice,
        max_new_tokens: 4,
        source: None,
    },
};

/// The right choice is given by its number, from 0.
fn question(row: &Row) -> Result<Option<Question>> {
    let image = row.picture("image")?;
    Ok(Some(Question {
        id: row.number.to_string(),
        row: row.number,
        image_id: image.to_string(),
        unit: image.to_string(),
        images: vec![image],
        question: row.text("question")?,
        options: row.choices("options")?,
        answer: row.letter("answer")?.into(),
        subtask: "all".into(),
        ..Question::default()
    }))
}

impl Benchmark for Ai2d {
    fn card(&self) -> &Card {
        &self.card
    }

    fn read(&self, data: &Path) -> Result<Questions> {
        let Some(source) = &self.card.source else { return read::drawn(self, data) };
        if let Some(table) = vlmevalkit::table(data, "AI2D_TEST.tsv") {
            return read::published(self, &table, vlmevalkit::COLUMNS, |row| vlmevalkit::question(row).map(Some));
        }
        let columns = Columns { values: &["question", "options", "answer"], pictures: &["image"] };
        read::published(self, &Table::open(data, source)?, columns, question)
    }

    fn prompt(&self, q: &Question, _: Rules) -> String {
        score::letter_prompt(q)
    }

    fn judge(&self, q: &Question, answer: &str, rules: Rules) -> Judged {
        match rules {
            Rules::Official => score::judge_letter(q, answer),
            Rules::Cambrian1 => {
                let said = study::first_character(answer, &study::STOPS).map(|c| match c.to_digit(4) {
                    Some(number) => char::from(b'a' + number as u8),
                    None => c,
                });
                study::judge(q, said.and_then(|c| study::offered(&c.to_string(), q)))
            }
        }
    }
}
