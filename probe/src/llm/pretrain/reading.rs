//! The reading test: questions about an image that is given as text.

use super::{CellGrid, PretrainDocument, PretrainRow, predict};
use crate::llm::chat::{ChatTemplate, Turn};
use crate::llm::{Llm, Tokenizer};
use burgess_base::Result;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

/// A question of the reading test, with its image as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadingQuestion {
    /// Name of the benchmark whose form the question has.
    pub benchmark: String,
    /// Description of the image in sentences.
    pub description: String,
    /// The image as words in cells; `None` for a form of question that has no image.
    pub cells: Option<CellGrid>,
    /// The question, with the instruction on the form of the answer.
    pub question: String,
    /// The correct answer.
    pub answer: String,
}

/// Accuracy of a language model in the reading test, for one benchmark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadingScore {
    /// Name of the benchmark.
    pub benchmark: String,
    /// Number of questions.
    pub questions: usize,
    /// Fraction of exactly correct answers, in [0, 1], with the description before the question.
    pub read: f64,
    /// Fraction of exactly correct answers without the description (blind baseline).
    pub blind: f64,
    /// Fraction of exactly correct answers from the cells instead of the description; 0 for forms without cells.
    pub cells: f64,
}

/// Asks each question three times: with the description, without it, and with the cells. Returns one score per
/// benchmark, in the order of first occurrence.
///
/// The score with the description is an upper bound for this model behind any encoder; the score without it is the
/// blind baseline.
///
/// # Errors
/// When the tokenizer lacks a token of the template, or a question is longer than the model's context.
pub fn reading(
    model: &Llm,
    tokenizer: &Tokenizer,
    chat: &ChatTemplate,
    questions: &[ReadingQuestion],
    device: &Device,
) -> Result<Vec<ReadingScore>> {
    let ask = |document: &dyn Fn(&ReadingQuestion) -> PretrainDocument| -> Result<Vec<bool>> {
        let mut correct = Vec::with_capacity(questions.len());
        for part in questions.chunks(32) {
            let rows: Vec<PretrainRow> =
                part.iter().map(|q| document(q).encode(tokenizer, chat)).collect::<Result<_>>()?;
            correct.extend(predict::supervised(model, &rows, None, device)?.correct(rows.len())?);
        }
        Ok(correct)
    };
    let turns = |q: &ReadingQuestion| vec![Turn::user(q.question.as_str()), Turn::assistant(q.answer.as_str())];
    let blind = |q: &ReadingQuestion| PretrainDocument::Chat(turns(q));
    let described = |q: &ReadingQuestion| {
        let question = format!("{}\n{}", q.description, q.question);
        PretrainDocument::Chat(vec![Turn::user(question), Turn::assistant(q.answer.as_str())])
    };
    let in_cells = |q: &ReadingQuestion| match &q.cells {
        Some(cells) => PretrainDocument::Cells(cells.clone(), turns(q)),
        None => blind(q),
    };
    let (read, blind, cells) = (ask(&described)?, ask(&blind)?, ask(&in_cells)?);
    let mut table: Vec<ReadingScore> = Vec::new();
    for (((q, read), blind), cells) in questions.iter().zip(read).zip(blind).zip(cells) {
        let line = match table.iter_mut().position(|score| score.benchmark == q.benchmark) {
            Some(at) => &mut table[at],
            None => {
                let benchmark = q.benchmark.clone();
                table.push(ReadingScore { benchmark, questions: 0, read: 0.0, blind: 0.0, cells: 0.0 });
                let last = table.len() - 1;
                &mut table[last]
            }
        };
        line.questions += 1;
        line.read += f64::from(u8::from(read));
        line.blind += f64::from(u8::from(blind));
        line.cells += f64::from(u8::from(cells && q.cells.is_some()));
    }
    for line in &mut table {
        line.read /= line.questions as f64;
        line.blind /= line.questions as f64;
        line.cells /= line.questions as f64;
    }
    Ok(table)
}
