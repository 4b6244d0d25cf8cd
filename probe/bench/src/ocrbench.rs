//! OCRBench: read what is written; right if the answer contains one of the expected texts.
//!
//! The official rule (`OCRBench/example.py` of Yuliang-Liu/MultimodalOCR): both lower-cased and trimmed, line breaks as
//! spaces, then containment; formulas (dataset HME100k) are compared with their case and without spaces. It forgives any
//! words around the text, and digits around a number (`12` is contained in `3120`). The published score of 1000 is ten
//! times ours. The authors ask the question alone.
//!
//! The study asks for "the short answer". Its scorer knows two rules: run as its scripts run it, it is the official one
//! (formulas by their category); with its flag `--extra_penalization` nothing may stand around the text (edit distance 0).
//! The second one is [`STRICT`].

use super::table::Columns;
use super::{Benchmark, Card, Category, Form, Judged, Question, Questions, Rules, Source, edition, read, score};
use burgess_base::{Error, Result};
use std::path::Path;

/// A benchmark of the OCRBench family.
pub struct OcrBench {
    card: Card,
    /// Whether the answer has to be the expected text and nothing else.
    strict: bool,
}

/// Those of this family.
pub const ALL: &[&dyn Benchmark] = &[&OCRBENCH, &STRICT, &NANO];

/// The published one.
pub static OCRBENCH: OcrBench = OcrBench { card: card("ocrbench", "containment", 128, Some(SOURCE)), strict: false };

/// The same questions by the study's strict rule.
pub static STRICT: OcrBench =
    OcrBench { card: card("ocrbench-strict", "same text (edit distance 0)", 128, Some(SOURCE)), strict: true };

/// The small sibling: text rendered into pictures of the nano world.
pub static NANO: OcrBench = OcrBench { card: card("nano-ocrbench", "containment", 12, None), strict: false };

const SOURCE: Source = Source {
    repository: "echo840/OCRBench",
    folder: "",
    split: "test",
    questions: 1000,
    licence: "MIT (authors' repository); pictures under the terms of the 29 datasets that they come from",
};

const fn card(id: &'static str, metric: &'static str, max_new_tokens: usize, source: Option<Source>) -> Card {
    Card {
        id,
        category: Category::OcrChart,
        metric,
        version: "1",
        citation: "Liu et al. 2023, OCRBench: On the Hidden Mystery of OCR in Large Multimodal Models, arXiv:2305.07895",
        form: Form::Open,
        max_new_tokens,
        source,
    }
}

/// The category whose answers are formulas in LaTeX, and the dataset that they come from.
const FORMULAS: (&str, &str) = ("Handwritten Mathematical Expression Recognition", "HME100k");

impl Benchmark for OcrBench {
    fn card(&self) -> &Card {
        &self.card
    }

    fn read(&self, data: &Path) -> Result<Questions> {
        let Some(source) = &self.card.source else { return read::drawn(self, data) };
        let (table, kit) = edition::open(data, source, "OCRBench.tsv")?;
        let values: &[&str] = match kit {
            true => &["index", "question", "answer", "category"],
            false => &["dataset", "question", "question_type", "answer"],
        };
        read::published(self, &table, Columns { values, pictures: &["image"] }, |row| {
            let image = row.picture("image")?;
            let name = edition::picture_name(&image);
            let id = if kit { row.text("index")? } else { row.number.to_string() };
            let accepted = row.list("answer")?;
            let Some(answer) = accepted.first().filter(|_| !accepted.iter().any(|a| a.trim().is_empty())) else {
                return Err(Error::failed("the column `answer` holds no text, or an empty one"));
            };
            Ok(Some(Question {
                unit: if kit { name.clone() } else { id.clone() },
                id,
                row: row.number,
                images: vec![image],
                image_id: name,
                question: row.text("question")?,
                answer: answer.clone(),
                accepted,
                subtask: row.text(if kit { "category" } else { "question_type" })?,
                facts: row.maybe("dataset").map(|d| ("dataset".to_string(), d)).into_iter().collect(),
                ..Question::default()
            }))
        })
    }

    fn prompt(&self, q: &Question, rules: Rules) -> String {
        match (&self.card.source, rules) {
            (None, _) => score::short_answer_prompt(&q.question),
            (Some(_), Rules::Official) => q.question.clone(),
            (Some(_), Rules::Cambrian1) => format!("{}\nGive the short answer directly.", q.question),
        }
    }

    fn judge(&self, q: &Question, answer: &str, rules: Rules) -> Judged {
        let said = answer.trim();
        if said.is_empty() {
            return Judged::unparsed();
        }
        let formula = match (q.fact("dataset"), rules) {
            ("", _) | (_, Rules::Cambrian1) => q.subtask == FORMULAS.0,
            (dataset, Rules::Official) => dataset == FORMULAS.1,
        };
        let plain = |text: &str| match formula {
            true => text.trim().replace(['\n', ' '], ""),
            false => text.to_lowercase().trim().replace('\n', " "),
        };
        let compared = plain(said);
        let fits = |expected: &str| match self.strict {
            true => compared == plain(expected),
            false => compared.contains(&plain(expected)),
        };
        let right = if q.accepted.is_empty() { fits(&q.answer) } else { q.accepted.iter().any(|a| fits(a)) };
        Judged::new(said, right)
    }
}
