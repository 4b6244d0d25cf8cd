//! MME: two yes/no questions about each picture, one to be affirmed and one to be denied.
//!
//! The published score of a subtask is acc% + acc⁺% (0–200): acc counts questions, acc⁺ pictures with both
//! questions right; the total adds up subtasks. Here every score lies between 0 and 100, so a subtask scores
//! (acc + acc⁺) / 2 and the total is the mean over subtasks, which is the published total divided by
//! 2 · number of subtasks. (The study divides the perception total of 2000 by 20: the same number.) Of the published 14
//! subtasks the 10 of perception make the score; the 4 of cognition are shown beside it.
//!
//! Guessing gives (50 + 25) / 2 = 37.5; always the same word gives 25.
//!
//! Official is the rule of the authors' evaluation tool (yes or no among the first four characters). The study compares
//! the whole answer, and asks for a word or phrase after the authors' own request for yes or no. It finds pairs by their
//! place in the file, which are those with the same picture.

use super::score::{self, Item};
use super::table::{Columns, Row, Table};
use super::{Benchmark, Card, Category, Form, Judged, Question, Questions, Rules, Source, read, vlmevalkit};
use burgess_base::{Error, Result};
use std::path::Path;

/// A benchmark of the MME family.
pub struct Mme {
    card: Card,
}

/// Those of this family.
pub const ALL: &[&dyn Benchmark] = &[&MME, &NANO];

const CITATION: &str =
    "Fu et al. 2023, MME: A Comprehensive Evaluation Benchmark for Multimodal LLMs, arXiv:2306.13394";

const METRIC: &str = "(acc + acc+) / 2, mean of subtasks";

/// As published.
pub static MME: Mme = Mme {
    card: Card {
        id: "mme",
        category: Category::General,
        metric: "(acc + acc+) / 2, mean of the perception subtasks",
        version: "1",
        citation: CITATION,
        form: Form::YesNo,
        max_new_tokens: 32,
        source: Some(Source {
            repository: "lmms-lab/MME",
            folder: "",
            split: "test",
            questions: 2374,
            licence: "for academic research, commercial use is prohibited; not to be passed on without approval",
        }),
    },
};

/// The small sibling: pictures of the nano world.
pub static NANO: Mme = Mme {
    card: Card {
        id: "nano-mme",
        category: Category::General,
        metric: METRIC,
        version: "1",
        citation: CITATION,
        form: Form::YesNo,
        max_new_tokens: 4,
        source: None,
    },
};

/// The published subtasks, and whether they belong to perception.
const SUBTASKS: [(&str, bool); 14] = [
    ("existence", true),
    ("count", true),
    ("position", true),
    ("color", true),
    ("posters", true),
    ("celebrity", true),
    ("scene", true),
    ("landmark", true),
    ("artwork", true),
    ("OCR", true),
    ("commonsense_reasoning", false),
    ("numerical_calculation", false),
    ("text_translation", false),
    ("code_reasoning", false),
];

/// What every question ends with.
const REQUEST: &str = " Please answer yes or no.";

fn question(row: &Row, pair: &str) -> Result<Option<Question>> {
    let (subtask, text) = (row.text("category")?, row.text("question")?);
    if !SUBTASKS.iter().any(|(known, _)| *known == subtask) {
        let known: Vec<&str> = SUBTASKS.iter().map(|(name, _)| *name).collect();
        return Err(Error::failed(format!("`{subtask}` is none of the subtasks")).hint(known.join(", ")));
    }
    let image_id = row.text(pair)?;
    Ok(Some(Question {
        id: row.number.to_string(),
        row: row.number,
        images: row.pictures("image").to_vec(),
        unit: format!("{subtask}/{image_id}"),
        image_id,
        question: text.strip_suffix(REQUEST).unwrap_or(&text).to_string(),
        answer: row.text("answer")?,
        subtask,
        ..Question::default()
    }))
}

impl Benchmark for Mme {
    fn card(&self) -> &Card {
        &self.card
    }

    /// The two questions about a picture share `question_id`; in VLMEvalKit's edition, `image_path`.
    fn read(&self, data: &Path) -> Result<Questions> {
        let Some(source) = &self.card.source else { return read::drawn(self, data) };
        if let Some(table) = vlmevalkit::table(data, "MME.tsv") {
            return read::published(self, &table, vlmevalkit::COLUMNS, |row| question(row, "image_path"));
        }
        let columns = Columns { values: &["question_id", "question", "answer", "category"], pictures: &["image"] };
        read::published(self, &Table::open(data, source)?, columns, |row| question(row, "question_id"))
    }

    fn prompt(&self, q: &Question, rules: Rules) -> String {
        let asked = format!("{}{REQUEST}", q.question);
        match rules {
            Rules::Cambrian1 if self.card.source.is_some() => score::short_answer_prompt(&asked),
            _ => asked,
        }
    }

    fn judge(&self, q: &Question, answer: &str, rules: Rules) -> Judged {
        let said = match rules {
            Rules::Official => score::yes_no(answer),
            Rules::Cambrian1 => match answer.trim().to_lowercase().trim_end_matches('.') {
                "yes" => Some(true),
                "no" => Some(false),
                _ => None,
            },
        };
        match said {
            Some(said) => Judged::new(if said { "yes" } else { "no" }, score::yes_no(&q.answer) == Some(said)),
            None => Judged::unparsed(),
        }
    }

    fn items(&self, qs: &[Question], p: &[f64], _: Rules) -> Result<Vec<Item>> {
        let counted = |q: &Question| !SUBTASKS.contains(&(&*q.subtask, false));
        let mut items: Vec<Item> = score::pairs(qs, p, |q| (&q.subtask, &q.image_id))?
            .into_iter()
            .map(|(q, [a, b])| Item { counted: counted(q), ..Item::new(q, ((a + b) / 2.0 + a * b) / 2.0) })
            .collect();
        score::equal_subtasks(&mut items);
        Ok(items)
    }
}
