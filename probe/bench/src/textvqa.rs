//! TextVQA: questions whose answer has to be read in a photograph, scored by agreement with ten people ([`vqa`]).
//!
//! Official is the accuracy of the authors' evaluator (facebookresearch/mmf) on the validation split, asked with the line
//! for short answers that models are compared with (the authors publish no prompt): [`TEXTVQA`] without, [`WITH_TOKENS`]
//! with the words that the authors' OCR system found in the picture. The study's prompt always has these words; an empty
//! list of them too.
//!
//! VLMEvalKit's edition has no OCR tokens: answers can be scored with it, but only [`TEXTVQA`] reads it.

use super::table::Columns;
use super::{Benchmark, Card, Category, Form, Judged, Question, Questions, Rules, Source, edition, read, score, vqa};
use burgess_base::{Error, Result};
use std::path::Path;

/// A benchmark of the TextVQA family.
pub struct TextVqa {
    card: Card,
    /// Whether the official prompt gives the OCR tokens.
    tokens: bool,
}

/// Those of this family.
pub const ALL: &[&dyn Benchmark] = &[&TEXTVQA, &WITH_TOKENS];

/// The question alone.
pub static TEXTVQA: TextVqa = TextVqa { card: card("textvqa"), tokens: false };

/// The question and the words that OCR found.
pub static WITH_TOKENS: TextVqa = TextVqa { card: card("textvqa-ocr"), tokens: true };

/// How many people answered each question.
const PEOPLE: usize = 10;

const fn card(id: &'static str) -> Card {
    Card {
        id,
        category: Category::OcrChart,
        metric: "VQA accuracy",
        version: "1",
        citation: "Singh et al. 2019, Towards VQA Models That Can Read, arXiv:1904.08920",
        form: Form::Open,
        max_new_tokens: 32,
        source: Some(Source {
            repository: "lmms-lab/textvqa",
            folder: "",
            split: "validation",
            questions: 5000,
            licence: "CC BY 4.0",
        }),
    }
}

impl Benchmark for TextVqa {
    fn card(&self) -> &Card {
        &self.card
    }

    fn read(&self, data: &Path) -> Result<Questions> {
        let Some(source) = &self.card.source else { return read::drawn(self, data) };
        let (table, kit) = edition::open(data, source, "TextVQA_VAL.tsv")?;
        let values: &[&str] = match (kit, self.tokens) {
            (true, true) => {
                let message = format!("{} needs OCR tokens, which VLMEvalKit's edition does not have", self.card.id);
                return Err(Error::failed(message).hint("get the edition of the hub, or use textvqa"));
            }
            (true, false) => &["index", "question", "answer"],
            (false, _) => &["image_id", "question_id", "question", "answers", "ocr_tokens"],
        };
        read::published(self, &table, Columns { values, pictures: &["image"] }, |row| {
            let image = row.picture("image")?;
            let image_id = if kit { edition::picture_name(&image) } else { row.text("image_id")? };
            let accepted = people(row.list(if kit { "answer" } else { "answers" })?)?;
            let tokens = if kit { Vec::new() } else { row.list("ocr_tokens")? };
            Ok(Some(Question {
                id: row.text(if kit { "index" } else { "question_id" })?,
                row: row.number,
                images: vec![image],
                unit: image_id.clone(),
                image_id,
                question: row.text("question")?,
                context: (!tokens.is_empty()).then(|| tokens.join(", ")),
                answer: vqa::best(&accepted).cloned().unwrap_or_default(),
                accepted,
                subtask: "all".into(),
                ..Question::default()
            }))
        })
    }

    fn prompt(&self, q: &Question, rules: Rules) -> String {
        let tokens = q.context.as_deref().unwrap_or_default();
        let tokens = match rules {
            Rules::Official if !self.tokens => String::new(),
            Rules::Official => format!("\nReference OCR token: {tokens}"),
            Rules::Cambrian1 if tokens.is_empty() => "\nReference OCR tokens:".into(),
            Rules::Cambrian1 => format!("\nReference OCR tokens: {tokens}"),
        };
        score::short_answer_prompt(&format!("{}{tokens}", q.question))
    }

    fn judge(&self, q: &Question, answer: &str, _: Rules) -> Judged {
        vqa::judge(q, answer)
    }
}

/// The answers of ten people: leaving one out means nothing for fewer.
pub fn people(answers: Vec<String>) -> Result<Vec<String>> {
    match answers.len() {
        PEOPLE => Ok(answers),
        n => Err(Error::failed(format!("there are the answers of {n} people instead of {PEOPLE}"))
            .hint("is it the split whose answers are published?")),
    }
}
